/* Identity, empty tensors, CPU binding: functions a worker runs. Safe-call signature of TVM-FFI. And what other
 * builtins need of these. */
#ifndef DSC_BUILTIN_BASIC_H
#define DSC_BUILTIN_BASIC_H

#include <tvm/ffi/c_api.h>

#include "worker/worker.h"

/* An uninitialised tensor where runtime.disco.empty makes it, owned by the caller. DISCO_VALUE, DISCO_MEMORY. */
disco_status dsc_builtin_make_tensor(const dsc_worker *worker, int32_t ndim, const int64_t *shape, DLDataType dtype,
                                     DLDevice device, TVMFFIObjectHandle *ret_tensor);
/* A string argument as a C string, to be freed. DISCO_TYPE when it is none, DISCO_VALUE with a NUL in it. */
disco_status dsc_builtin_text(const char *function, int32_t index, const TVMFFIAny *value, char **ret_text);

int dsc_builtin_worker_id(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_worker_rank(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_world_size(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_device(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_empty(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_bind_worker_to_cpu_core(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);

#endif
