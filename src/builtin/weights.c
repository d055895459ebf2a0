#include "builtin/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "builtin/basic.h"
#include "ffi/args.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "ffi/value.h"
#include "os/cgroup.h"
#include "weights/manifest.h"
#include "weights/model.h"

static const char function_name[] = "libdisco.load_weights";

static void *data_of(TVMFFIObjectHandle tensor) {
  const TVMFFIAny value = dsc_object_value(tensor);
  return dsc_tensor_of(&value)->data;
}

disco_status dsc_builtin_make_shard(const dsc_worker *worker, const disco_shard *shard,
                                    TVMFFIObjectHandle *ret_tensor) {
  return dsc_builtin_make_tensor(worker, shard->ndim, shard->shape, shard->dtype, worker->device, ret_tensor);
}

static disco_status read_shard(const disco_weights *weights, const disco_shard *shard, disco_weights_progress progress,
                               void *context, TVMFFIObjectHandle tensor) {
  enum { WORTH_A_LOOK = 16 << 20 };
  disco_status status = shard->bytes >= WORTH_A_LOOK ? dsc_memory_check(shard->bytes, "a tensor to be read") : DISCO_OK;
  return status == DISCO_OK ? dsc_shard_read(weights, shard, progress, context, data_of(tensor)) : status;
}

disco_status dsc_builtin_read_shard(const disco_weights *weights, const disco_shard *shard, TVMFFIObjectHandle tensor) {
  return read_shard(weights, shard, NULL, NULL, tensor);
}

/* ---- Loading ---- */

/* One call of load_weights. */
typedef struct {
  dsc_worker *worker;
  char *path, *plan_text, *manifest_path; /* manifest_path: NULL for none */
  disco_weights *model;
  disco_shard_plan *plan;
  disco_manifest *manifest;
  TVMFFIAny *entries; /* name (borrowed from the model), tensor (owned), name, tensor, ... */
  int64_t num_entries;
  uint64_t bytes_read, bytes_total; /* of the files: of the tensors that were read whole, and of all */
} loading;

static void loading_fini(loading *self) {
  for (int64_t i = 1; i < self->num_entries; i += 2) dsc_value_drop(&self->entries[i]);
  free(self->entries);
  dsc_manifest_destroy(self->manifest);
  dsc_shard_plan_destroy(self->plan);
  dsc_model_destroy(self->model);
  free(self->path);
  free(self->plan_text);
  free(self->manifest_path);
}

static disco_status read_args(loading *self, const TVMFFIAny *args, int32_t num_args) {
  if (num_args != 2 && num_args != 3) return dsc_args_count(function_name, num_args, 3);
  disco_status status = dsc_builtin_text(function_name, 0, &args[0], &self->path);
  if (status == DISCO_OK) status = dsc_builtin_text(function_name, 1, &args[1], &self->plan_text);
  if (status == DISCO_OK && num_args == 3 && args[2].type_index != kTVMFFINone)
    status = dsc_builtin_text(function_name, 2, &args[2], &self->manifest_path);
  return status;
}

static disco_status open_plan(loading *self) {
  const char *text = self->plan_text;
  return text[strspn(text, " \t\r\n")] == '{' ? dsc_shard_plan_parse(text, strlen(text), &self->plan)
                                              : dsc_shard_plan_open(text, &self->plan);
}

static disco_status shard_at(const loading *self, int64_t tensor, disco_shard *ret_shard) {
  const dsc_worker_setup *setup = &self->worker->setup;
  return dsc_shard_of(self->model, self->plan, tensor, setup->num_workers, setup->id, ret_shard);
}

/* Before any of it is made: on the heap each tensor alone may fit where all of them do not, and none is touched yet. An
 * arena counts what it has given out itself. Other worker threads may look at the same moment: see read_shard. */
static disco_status check_memory(const loading *self) {
  const int64_t count = dsc_model_count(self->model);
  uint64_t bytes = 0;
  if (self->worker->setup.arena != NULL) return DISCO_OK;
  for (int64_t i = 0; i < count; i++) {
    disco_shard shard;
    disco_status status = shard_at(self, i, &shard);
    if (status != DISCO_OK) return status;
    if (__builtin_add_overflow(bytes, shard.bytes, &bytes)) bytes = UINT64_MAX;
  }
  return dsc_memory_check(bytes, "this worker's part of the model");
}

/* All of this worker's tensors, not yet read: what does not fit is told before the first byte moves. */
static disco_status make_tensors(loading *self) {
  const int64_t count = dsc_model_count(self->model);
  if (count > INT32_MAX / 2)
    return dsc_fail(DISCO_VALUE, "%s has %lld tensors, more than a Map can be made of", self->path, (long long)count);
  self->entries = dsc_alloc(2 * (size_t)count * sizeof(TVMFFIAny) + 1, "the tensors of a model");
  if (self->entries == NULL) return DISCO_MEMORY;
  for (int64_t i = 0; i < count; i++) {
    disco_shard shard;
    TVMFFIObjectHandle tensor = NULL;
    disco_status status = shard_at(self, i, &shard);
    if (status == DISCO_OK && shard.is_skipped) continue;
    if (status == DISCO_OK) status = dsc_builtin_make_shard(self->worker, &shard, &tensor);
    if (status != DISCO_OK) return status;
    self->bytes_total += shard.file_bytes;
    TVMFFIAny *entry = &self->entries[self->num_entries];
    entry[0] = dsc_none();
    entry[0].type_index = kTVMFFIRawStr;
    entry[0].v_c_str = dsc_model_weight(self->model, i)->view.name;
    entry[1] = dsc_object_value(tensor);
    self->num_entries += 2;
  }
  return DISCO_OK;
}

static bool on_progress(void *context, uint64_t bytes_read) {
  const loading *self = context;
  return dsc_worker_progress(self->worker, self->bytes_read + bytes_read, self->bytes_total) == DISCO_OK;
}

/* Not the kind of somebody's Ctrl-C. */
static disco_status ended(void) {
  const dsc_error *error = dsc_thread_error();
  const char *what = error != NULL && error->message != NULL ? error->message : function_name;
  return dsc_fail(DISCO_CLOSED, "%s: the session has ended, nobody waits for it", what);
}

static disco_status read_tensors(loading *self) {
  const dsc_worker_setup *setup = &self->worker->setup;
  const int64_t count = dsc_model_count(self->model);
  const TVMFFIAny *entry = self->entries;
  disco_status status = dsc_worker_progress(self->worker, 0, self->bytes_total);
  for (int64_t i = 0; status == DISCO_OK && i < count; i++) {
    disco_shard shard;
    status = shard_at(self, i, &shard);
    if (status == DISCO_OK && shard.is_skipped) continue;
    if (status == DISCO_OK) status = read_shard(self->model, &shard, on_progress, self, entry[1].v_obj);
    if (status == DISCO_INTERRUPTED) return ended();
    if (status == DISCO_OK && self->manifest != NULL) /* while it lies in the caches */
      status = dsc_manifest_check(self->manifest, self->model, &shard, setup->num_workers, setup->id,
                                  data_of(entry[1].v_obj));
    if (status != DISCO_OK) return status;
    self->bytes_read += shard.file_bytes;
    entry += 2;
  }
  return status;
}

static disco_status make_map(const loading *self, TVMFFIAny *ret_map) {
  TVMFFIObject *make = NULL;
  disco_status status = dsc_function_find("ffi.Map", &make);
  if (status == DISCO_OK && make == NULL) return dsc_fail(DISCO_RUNTIME, "TVM-FFI has no function ffi.Map");
  if (status != DISCO_OK) return status;
  if (TVMFFIFunctionCall(make, self->entries, (int32_t)self->num_entries, ret_map) != 0)
    status = dsc_error_take_raised(DISCO_MEMORY);
  dsc_object_unref(make);
  return status;
}

int dsc_builtin_load_weights(void *ffi_self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)ffi_self;
  dsc_worker *worker = NULL;
  loading self = {0};
  *result = dsc_none();
  disco_status status = dsc_worker_require(function_name, &worker);
  self.worker = worker;
  if (status == DISCO_OK) status = read_args(&self, args, num_args);
  if (status == DISCO_OK) status = open_plan(&self);
  if (status == DISCO_OK && self.manifest_path != NULL) status = dsc_manifest_open(self.manifest_path, &self.manifest);
  if (status == DISCO_OK) status = dsc_model_open(self.path, &self.model);
  if (status == DISCO_OK) status = dsc_shard_check(self.model, self.plan, worker->setup.num_workers);
  if (status == DISCO_OK) status = check_memory(&self);
  if (status == DISCO_OK) status = make_tensors(&self);
  if (status == DISCO_OK) status = read_tensors(&self);
  if (status == DISCO_OK) status = make_map(&self, result);
  loading_fini(&self);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}
