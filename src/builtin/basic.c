#include "builtin/basic.h"

#include <string.h>

#include "base/memory.h"
#include "ffi/args.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "ffi/value.h"
#include "os/arena.h"
#include "os/cgroup.h"
#include "os/cpu.h"
#include "worker/worker.h"

/* ---- What builtins share ---- */

static void free_in_arena(void *context, void *data) { dsc_arena_free(context, data); }

/* In the worker's range of the arena, where other processes can reach it; without one on the heap, which is checked
 * against the control group's limit all the same: touching memory past it is a kill, not an error. */
disco_status dsc_builtin_make_tensor(const dsc_worker *worker, int32_t ndim, const int64_t *shape, DLDataType dtype,
                                     DLDevice device, TVMFFIObjectHandle *ret_tensor) {
  enum { WORTH_A_LOOK = 1 << 20 };
  dsc_arena_range *arena = worker->setup.arena;
  DLTensor plan = {.ndim = ndim, .shape = (int64_t *)(uintptr_t)shape, .dtype = dtype};
  uint64_t bytes = 0;
  void *data = NULL;
  disco_status status = DISCO_OK;
  bool sized = dsc_tensor_bytes(&plan, &bytes);
  if (arena == NULL || !sized || device.device_type != kDLCPU) {
    if (sized && bytes >= WORTH_A_LOOK && device.device_type == kDLCPU)
      status = dsc_memory_check(bytes, "a new tensor");
    if (status != DISCO_OK) return status;
    return dsc_tensor_create(ndim, shape, dtype, device, ret_tensor);
  }
  status = dsc_arena_alloc(arena, bytes, &data);
  if (status != DISCO_OK) return status;
  status = dsc_tensor_create_over(ndim, shape, dtype, device, data, free_in_arena, arena, ret_tensor);
  if (status != DISCO_OK) dsc_arena_free(arena, data);
  return status;
}

disco_status dsc_builtin_text(const char *function, int32_t index, const TVMFFIAny *value, char **ret_text) {
  TVMFFIByteArray text;
  if (!dsc_value_string(value, &text)) return dsc_args_mismatch(function, index, "str", value);
  if (text.size > 0 && memchr(text.data, 0, text.size) != NULL)
    return dsc_fail(DISCO_VALUE, "%s: argument #%d has a NUL character in it", function, index);
  char *copy = dsc_alloc(text.size + 1, "a text");
  if (copy == NULL) return DISCO_MEMORY;
  if (text.size > 0) memcpy(copy, text.data, text.size);
  *ret_text = copy;
  return DISCO_OK;
}

/* ---- Identity ---- */

/* Enter a builtin: the number of arguments, and the calling worker. */
static disco_status enter(const char *name, int32_t given, int32_t wanted, dsc_worker **ret_worker) {
  disco_status status = dsc_args_count(name, given, wanted);
  return status == DISCO_OK ? dsc_worker_require(name, ret_worker) : status;
}

int dsc_builtin_worker_id(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  dsc_worker *worker = NULL;
  disco_status status = enter("runtime.disco.worker_id", num_args, 0, &worker);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  TVMFFIObject *make = NULL;
  status = dsc_function_find("ffi.Shape", &make);
  if (status != DISCO_OK || make == NULL) return dsc_error_raise_status(status);
  TVMFFIAny id = dsc_int(worker->setup.id);
  int rc = TVMFFIFunctionCall(make, &id, 1, result);
  dsc_object_unref(make);
  return rc;
}

int dsc_builtin_worker_rank(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  dsc_worker *worker = NULL;
  disco_status status = enter("runtime.disco.worker_rank", num_args, 0, &worker);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  *result = dsc_int(worker->setup.id);
  return 0;
}

int dsc_builtin_world_size(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  dsc_worker *worker = NULL;
  disco_status status = enter("runtime.disco.world_size", num_args, 0, &worker);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  *result = dsc_int(worker->setup.num_workers);
  return 0;
}

int dsc_builtin_device(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  dsc_worker *worker = NULL;
  disco_status status = enter("runtime.disco.device", num_args, 0, &worker);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  *result = dsc_none();
  result->type_index = kTVMFFIDevice;
  result->v_device = worker->device;
  return 0;
}

/* ---- Empty tensors, CPUs ---- */

/* The arguments of empty(), converted. */
typedef struct {
  int64_t room[64];
  const int64_t *shape;
  size_t ndim;
  DLDataType dtype;
  DLDevice device;
  bool worker0_only, in_group;
} empty_args;

/* Text that names no dtype or device is a wrong type, as where it is converted by TVM; the sentence says what it is. */
static disco_status refuse_text(const char *name, const char *place, const TVMFFIByteArray *text, const char *known) {
  return dsc_fail(DISCO_TYPE, "Mismatched type on argument %s when calling: `%s`. `%.*s` is unknown; %s", place, name,
                  text->size < 64 ? (int)text->size : 64, text->data, known);
}

static disco_status refuse_dtype(const char *name, const TVMFFIAny *value) {
  TVMFFIByteArray text;
  if (!dsc_value_string(value, &text)) return dsc_args_mismatch_named(name, 1, "dtype", "DataType", value);
  return refuse_text(name, "#1 (dtype)", &text,
                     "a dtype is int, uint or float with a number of bits (int8, uint16, float32), bfloat16, bool, or "
                     "a float of 8, 6 or 4 bits such as float8_e4m3fn, and may have lanes (float32x4)");
}

static disco_status refuse_device(const char *name, const TVMFFIAny *value) {
  TVMFFIByteArray text;
  if (!dsc_value_string(value, &text)) return dsc_args_mismatch_named(name, 2, "device", "Optional<Device>", value);
  return refuse_text(name, "#2 (device)", &text,
                     "a device is a name with or without a number (cpu, cuda:1), None is the worker's own");
}

static disco_status read_empty_args(const TVMFFIAny *args, const dsc_worker *worker, empty_args *ret) {
  static const char name[] = "runtime.disco.empty";
  if (!dsc_value_as_shape(&args[0], ret->room, 64, &ret->shape, &ret->ndim) || ret->ndim > 64)
    return dsc_args_mismatch_named(name, 0, "shape", "ffi.Shape", &args[0]);
  if (!dsc_value_as_dtype(&args[1], &ret->dtype)) return refuse_dtype(name, &args[1]);
  ret->device = worker->device;
  if (args[2].type_index != kTVMFFINone && !dsc_value_as_device(&args[2], &ret->device))
    return refuse_device(name, &args[2]);
  if (!dsc_value_as_bool(&args[3], &ret->worker0_only))
    return dsc_args_mismatch_named(name, 3, "worker0_only", "bool", &args[3]);
  if (!dsc_value_as_bool(&args[4], &ret->in_group))
    return dsc_args_mismatch_named(name, 4, "in_group", "bool", &args[4]);
  return DISCO_OK;
}

int dsc_builtin_empty(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  dsc_worker *worker = NULL;
  empty_args want;
  disco_status status =
      dsc_args_count_named("runtime.disco.empty", num_args, 5, "shape, dtype, device, worker0_only, in_group");
  if (status == DISCO_OK) status = dsc_worker_require("runtime.disco.empty", &worker);
  if (status == DISCO_OK) status = read_empty_args(args, worker, &want);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  const dsc_worker_setup *setup = &worker->setup;
  int32_t group_size = setup->num_workers / setup->num_groups;
  bool is_root = want.in_group ? setup->id % group_size == 0 : setup->id == 0;
  *result = dsc_none();
  if (want.worker0_only && !is_root) return 0; /* None elsewhere */
  TVMFFIObjectHandle tensor = NULL;
  status = dsc_builtin_make_tensor(worker, (int32_t)want.ndim, want.shape, want.dtype, want.device, &tensor);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  *result = dsc_object_value(tensor);
  return 0;
}

int dsc_builtin_bind_worker_to_cpu_core(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  static const char name[] = "runtime.disco.bind_worker_to_cpu_core";
  dsc_worker *worker = NULL;
  enum { MAX_CPUS = 1024 };
  int64_t room[MAX_CPUS];
  const int64_t *cpus = NULL;
  size_t count = 0;
  disco_status status = enter(name, num_args, 1, &worker);
  if (status == DISCO_OK && !dsc_value_as_shape(&args[0], room, MAX_CPUS, &cpus, &count))
    status = dsc_args_mismatch(name, 0, "ffi.Shape", &args[0]);
  if (status == DISCO_OK && count <= (size_t)worker->setup.id)
    status = dsc_fail(DISCO_VALUE, "%s: %zu CPUs are listed, but there are %d workers: list one for each", name, count,
                      worker->setup.num_workers);
  if (status == DISCO_OK) status = dsc_cpu_bind(cpus[worker->setup.id]);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  *result = dsc_none();
  return 0;
}
