/* What the suites of worker functions (ccl, stuck) have in common: their program is their workers' program, too, and
 * their functions take memory of the arena. */
#ifndef DSC_TESTS_COMMON_WORKERS_H
#define DSC_TESTS_COMMON_WORKERS_H

#include <stdlib.h>
#include <string.h>

#include "disco/worker.h"
#include "ffi/value.h"

/* argv: PROGRAM worker ID WORKERS GROUPS READ_FD WRITE_FD. The exit status. */
static inline int be_worker(int argc, char **argv) {
  int numbers[5];
  if (argc < 7) return 2;
  for (int i = 0; i < 5; i++) numbers[i] = atoi(argv[2 + i]);
  return disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]) == DISCO_OK ? 0 : 9;
}

/* Call a global function; -1 with an error raised. */
static inline int call_global(const char *name, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *ret_result) {
  const TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &function) != 0) return -1;
  if (function == NULL) return disco_raise("ValueError", "there is no %s", name);
  const int rc = TVMFFIFunctionCall(function, (TVMFFIAny *)(uintptr_t)args, num_args, ret_result);
  dsc_object_unref(function);
  return rc;
}

/* On a worker: `bytes` that runtime.disco.empty made, owned by *ret_tensor. -1 with an error raised. */
static inline int take_bytes(int64_t bytes, TVMFFIObjectHandle *ret_tensor, void **ret_data) {
  TVMFFIAny size = dsc_int(bytes), args[5], tensor = dsc_none();
  for (int i = 0; i < 5; i++) args[i] = dsc_int(0);
  args[1].type_index = kTVMFFIDataType;
  args[1].v_dtype = (DLDataType){kDLUInt, 8, 1};
  args[2] = dsc_none();
  args[0] = dsc_none();
  if (call_global("ffi.Shape", &size, 1, &args[0]) != 0) return -1;
  const int rc = call_global("runtime.disco.empty", args, 5, &tensor);
  dsc_value_drop(&args[0]);
  if (rc != 0) return -1;
  *ret_tensor = tensor.v_obj;
  *ret_data = ((DLTensor *)(tensor.v_obj + 1))->data;
  return 0;
}

#endif
