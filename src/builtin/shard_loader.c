#include "builtin/shard_loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "builtin/basic.h"
#include "builtin/collectives.h"
#include "builtin/weights.h"
#include "ffi/args.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/object.h"
#include "ffi/tensor.h"
#include "ffi/value.h"
#include "os/file.h"
#include "weights/json.h"
#include "weights/model.h"
#include "weights/names.h"

/* One function of a chain that cuts a tensor: f(in, parameters..., out). */
typedef struct step {
  struct step *next;
  TVMFFIObject *function;
  DLDataType dtype;         /* of its output */
  int32_t ndim, num_params; /* dimensions of its output */
  int64_t numbers[];        /* the output's shape, then the parameters */
} step;

/* Does not change once it was made: any thread, several at once. */
typedef struct {
  TVMFFIObject header;
  disco_weights *model;
  int64_t count;
  step **steps; /* of each record; NULL: everybody gets the whole */
  char *path;
} shard_loader;

enum { MAX_STEP_NDIM = 64, MAX_STEP_PARAMS = 1024 };

/* ---- The object ---- */

static void free_steps(step *first) {
  while (first != NULL) {
    step *next = first->next;
    dsc_object_unref(first->function);
    free(first);
    first = next;
  }
}

static void delete_loader(void *object, int flags) {
  shard_loader *self = object;
  if (flags & kTVMFFIObjectDeleterFlagBitMaskStrong) {
    for (int64_t i = 0; self->steps != NULL && i < self->count; i++) free_steps(self->steps[i]);
    free(self->steps);
    free(self->path);
    dsc_model_destroy(self->model);
  }
  if (flags & kTVMFFIObjectDeleterFlagBitMaskWeak) dsc_object_free(self);
}

/* Known by its deleter: TVM's own library makes objects of the same type key. */
static disco_status loader_of(const char *name, const TVMFFIAny *value, const shard_loader **ret_loader) {
  if (!dsc_is_object(value) || value->v_obj->deleter != delete_loader)
    return dsc_args_mismatch(name, 0, "runtime.disco.ShardLoader (of libdisco)", value);
  *ret_loader = (const shard_loader *)value->v_obj;
  return DISCO_OK;
}

/* ---- shard_info: {parameter: [[function, [[out shape], dtype], int...], ...]} ---- */

/* The module's function, or the global one: owned. A module's function that is not there gives None. */
static disco_status module_function(const TVMFFIAny *module, const char *name, bool in_imports,
                                    TVMFFIObject **ret_function) {
  TVMFFIObject *get = NULL;
  TVMFFIAny args[3] = {*module, dsc_none(), dsc_none()}, found = dsc_none();
  if (module->type_index == kTVMFFINone) return DISCO_OK;
  disco_status status = dsc_function_find("ffi.ModuleGetFunction", &get);
  if (status != DISCO_OK || get == NULL) return status;
  args[1].type_index = kTVMFFIRawStr;
  args[1].v_c_str = name;
  args[2].type_index = kTVMFFIBool;
  args[2].v_int64 = in_imports;
  if (TVMFFIFunctionCall(get, args, 3, &found) != 0) status = dsc_error_take_raised(DISCO_RAISED);
  dsc_object_unref(get);
  if (found.type_index == kTVMFFIFunction)
    *ret_function = found.v_obj;
  else
    dsc_value_drop(&found);
  return status;
}

static disco_status find_step_function(const TVMFFIAny *module, const char *name, TVMFFIObject **ret_function) {
  disco_status status = module_function(module, name, true, ret_function);
  if (status == DISCO_OK && *ret_function == NULL) status = dsc_function_find(name, ret_function);
  if (status == DISCO_OK && *ret_function == NULL) status = dsc_fail(DISCO_VALUE, "Undefined function: %s", name);
  return status;
}

static bool integers_of(const json_t *array, size_t first, int64_t least, int64_t *to) {
  for (size_t i = first; i < json_array_size(array); i++) {
    const json_t *number = json_array_get(array, i);
    if (!json_is_integer(number) || json_integer_value(number) < least) return false;
    to[i - first] = json_integer_value(number);
  }
  return true;
}

static disco_status parse_step(const TVMFFIAny *module, const char *parameter, const json_t *json, step **ret_step) {
  char print[DSC_NAME_PRINT_BYTES];
  const json_t *output = json_array_get(json, 1), *shape = json_array_get(output, 0);
  const char *name = json_string_value(json_array_get(json, 0));
  const size_t ndim = json_array_size(shape), size = json_array_size(json);
  TVMFFIAny dtype = dsc_none();
  dtype.type_index = kTVMFFIRawStr;
  dtype.v_c_str = json_string_value(json_array_get(output, 1));
  if (name == NULL || json_array_size(output) != 2 || !json_is_array(shape) || dtype.v_c_str == NULL ||
      ndim > MAX_STEP_NDIM || size > MAX_STEP_PARAMS + 2)
    return dsc_fail(DISCO_VALUE,
                    "shard_info of parameter %s: each step is [function, [[output shape], dtype], integers...], with "
                    "at most %d dimensions and %d integers",
                    dsc_name_print(parameter, print), MAX_STEP_NDIM, MAX_STEP_PARAMS);
  step *self = dsc_alloc(sizeof(*self) + (ndim + size) * sizeof(int64_t), "a step of shard_info");
  if (self == NULL) return DISCO_MEMORY;
  self->ndim = (int32_t)ndim;
  self->num_params = (int32_t)(size - 2);
  disco_status status = DISCO_OK;
  if (!integers_of(shape, 0, 0, self->numbers) || !integers_of(json, 2, INT64_MIN, self->numbers + ndim))
    status = dsc_fail(DISCO_VALUE, "shard_info of parameter %s: the shape and the parameters of %s are integers",
                      dsc_name_print(parameter, print), name);
  if (status == DISCO_OK && !dsc_value_as_dtype(&dtype, &self->dtype))
    status = dsc_fail(DISCO_VALUE, "shard_info of parameter %s: \"%s\" is no dtype", dsc_name_print(parameter, print),
                      dtype.v_c_str);
  if (status == DISCO_OK) status = find_step_function(module, name, &self->function);
  if (status == DISCO_OK)
    *ret_step = self;
  else
    free(self);
  return status;
}

static disco_status parse_steps(const TVMFFIAny *module, const char *parameter, const json_t *json, step **ret_first) {
  char print[DSC_NAME_PRINT_BYTES];
  disco_status status = DISCO_OK;
  step **end = ret_first;
  if (!json_is_array(json))
    return dsc_fail(DISCO_VALUE, "shard_info of parameter %s is no list of steps", dsc_name_print(parameter, print));
  for (size_t i = 0; status == DISCO_OK && i < json_array_size(json); i++) {
    status = parse_step(module, parameter, json_array_get(json, i), end);
    if (status == DISCO_OK) end = &(*end)->next;
  }
  return status;
}

/* What the cache does not have is ignored. */
static disco_status parse_info(shard_loader *self, const TVMFFIAny *module, const char *text) {
  json_t *info = NULL;
  disco_status status = dsc_json_parse("shard_info", text, strlen(text), &info);
  if (status != DISCO_OK) return status;
  if (!json_is_object(info)) status = dsc_fail(DISCO_VALUE, "shard_info is no object of parameters");
  for (int64_t i = 0; status == DISCO_OK && i < self->count; i++) {
    const char *name = dsc_model_weight(self->model, i)->view.name;
    const json_t *steps = json_object_get(info, name);
    if (steps != NULL) status = parse_steps(module, name, steps, &self->steps[i]);
  }
  json_decref(info);
  return status;
}

static disco_status refuse_empty_info(const char *why) {
  return dsc_fail(DISCO_VALUE, "shard_info is empty, %s; pass \"{}\" where no parameter is cut", why);
}

/* An empty text asks the module. */
static disco_status ask_for_info(const TVMFFIAny *module, char **info) {
  TVMFFIObject *function = NULL;
  TVMFFIAny answer = dsc_none();
  if (**info != 0) return DISCO_OK;
  if (module->type_index == kTVMFFINone) return refuse_empty_info("and there is no module to ask");
  disco_status status = module_function(module, "get_shard_info", false, &function);
  if (status != DISCO_OK) return status;
  if (function == NULL) return refuse_empty_info("and the module has no function get_shard_info to ask");
  char *text = NULL;
  if (TVMFFIFunctionCall(function, NULL, 0, &answer) != 0) status = dsc_error_take_raised(DISCO_RAISED);
  if (status == DISCO_OK) status = dsc_builtin_text("get_shard_info", 0, &answer, &text);
  dsc_value_drop(&answer);
  dsc_object_unref(function);
  if (status != DISCO_OK) return status;
  free(*info);
  *info = text;
  return *text != 0 ? DISCO_OK : refuse_empty_info("and so is what the module's get_shard_info says");
}

/* ---- Making one ---- */

/* The arguments of runtime.disco.ShardLoader. */
typedef struct {
  char *path, *json, *info;
  TVMFFIAny module;
} loader_args;

static disco_status read_loader_args(const TVMFFIAny *args, int32_t num_args, loader_args *ret) {
  static const char name[] = "runtime.disco.ShardLoader";
  disco_status status = dsc_args_count(name, num_args, 4);
  if (status == DISCO_OK) status = dsc_builtin_text(name, 0, &args[0], &ret->path);
  if (status == DISCO_OK) status = dsc_builtin_text(name, 1, &args[1], &ret->json);
  if (status == DISCO_OK) status = dsc_builtin_text(name, 2, &args[2], &ret->info);
  if (status != DISCO_OK) return status;
  if (args[3].type_index != kTVMFFINone && args[3].type_index != kTVMFFIModule)
    return dsc_args_mismatch(name, 3, "Optional<ffi.Module>", &args[3]);
  ret->module = args[3];
  return ask_for_info(&ret->module, &ret->info);
}

/* The files are not looked at: the other workers than 0 may not have them. */
static disco_status fill_loader(shard_loader *self, loader_args *args) {
  dsc_source source;
  dsc_source_of_memory(args->path, args->json, strlen(args->json), &source);
  self->path = args->path;
  args->path = NULL;
  disco_status status = dsc_model_create("tensor-cache", &self->model);
  if (status == DISCO_OK) status = dsc_tensor_cache_list(&source, self->model);
  if (status == DISCO_OK) status = dsc_model_seal(self->model, true);
  if (status != DISCO_OK) return status;
  self->count = dsc_model_count(self->model);
  self->steps = dsc_alloc((size_t)self->count * sizeof(*self->steps) + 1, "the records of a tensor cache");
  return self->steps != NULL ? parse_info(self, &args->module, args->info) : DISCO_MEMORY;
}

int dsc_builtin_shard_loader(void *ffi_self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)ffi_self;
  loader_args read = {.module = dsc_none()};
  shard_loader *self = NULL;
  *result = dsc_none();
  disco_status status = read_loader_args(args, num_args, &read);
  if (status == DISCO_OK) {
    self = dsc_object_create(sizeof(*self), dsc_type_shard_loader, delete_loader);
    status = self != NULL ? fill_loader(self, &read) : DISCO_MEMORY;
  }
  if (status == DISCO_OK)
    *result = dsc_object_value(self);
  else if (self != NULL)
    dsc_object_unref(self);
  free(read.path);
  free(read.json);
  free(read.info);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}

/* ---- One record on one worker ---- */

static disco_status whole_shard(const shard_loader *self, int64_t record, disco_shard *ret_shard) {
  char print[DSC_NAME_PRINT_BYTES];
  const dsc_weight *weight = dsc_model_weight(self->model, record);
  if (weight == NULL)
    return dsc_fail(DISCO_VALUE, "record %lld of %s, which has %lld", (long long)record, self->path,
                    (long long)self->count);
  if (strchr(self->path, '/') == NULL)
    return dsc_fail(DISCO_VALUE, "the path of the tensor cache, \"%s\", has no '/': where do its files lie?",
                    self->path);
  disco_status status = dsc_slice_of(weight, false, -1, 0, 0, ret_shard, NULL);
  ret_shard->tensor = record;
  if (status == DISCO_OK) return status;
  return dsc_fail(status, "parameter %s of %s: %s", dsc_name_print(weight->view.name, print), self->path,
                  dsc_thread_error() != NULL ? dsc_thread_error()->message : "");
}

/* A tensor for the record, owned; filled from the file, or left as it is. */
static disco_status take_record(const shard_loader *self, const dsc_worker *worker, int64_t record, bool filled,
                                TVMFFIObjectHandle *ret_tensor) {
  disco_shard shard;
  TVMFFIObjectHandle tensor = NULL;
  disco_status status = whole_shard(self, record, &shard);
  if (status == DISCO_OK) status = dsc_builtin_make_shard(worker, &shard, &tensor);
  if (status == DISCO_OK && filled) status = dsc_builtin_read_shard(self->model, &shard, tensor);
  if (status == DISCO_OK)
    *ret_tensor = tensor;
  else if (tensor != NULL)
    dsc_object_unref(tensor);
  return status;
}

/* ---- One record on all workers ---- */

static DLTensor *dltensor_of(TVMFFIObjectHandle tensor) { return (DLTensor *)((TVMFFIObject *)tensor + 1); }

static disco_status load_whole(const shard_loader *self, const dsc_worker *worker, int64_t record,
                               TVMFFIObjectHandle *ret_tensor) {
  TVMFFIObjectHandle tensor = NULL;
  disco_status status = take_record(self, worker, record, worker->setup.id == 0, &tensor);
  if (status != DISCO_OK) return status;
  const dsc_collective_args args = {.send = dltensor_of(tensor), .recv = dltensor_of(tensor)};
  status = dsc_collective_run(DSC_COLLECTIVE_BROADCAST, &args);
  if (status == DISCO_OK)
    *ret_tensor = tensor;
  else
    dsc_object_unref(tensor);
  return status;
}

/* f(in, parameters..., out); replaces *tensor. */
static disco_status apply(const step *it, const dsc_worker *worker, TVMFFIObjectHandle *tensor) {
  const int32_t num_args = it->num_params + 2;
  TVMFFIObjectHandle output = NULL;
  TVMFFIAny result = dsc_none();
  disco_status status = dsc_builtin_make_tensor(worker, it->ndim, it->numbers, it->dtype, worker->device, &output);
  if (status != DISCO_OK) return status;
  TVMFFIAny *args = dsc_alloc((size_t)num_args * sizeof(*args), "the arguments of a shard function");
  if (args == NULL) {
    dsc_object_unref(output);
    return DISCO_MEMORY;
  }
  for (int32_t i = 0; i < it->num_params; i++) args[i + 1] = dsc_int(it->numbers[it->ndim + i]);
  args[0].type_index = args[num_args - 1].type_index = kTVMFFIDLTensorPtr;
  args[0].v_ptr = dltensor_of(*tensor);
  args[num_args - 1].v_ptr = dltensor_of(output);
  if (TVMFFIFunctionCall(it->function, args, num_args, &result) != 0) status = dsc_error_take_raised(DISCO_RAISED);
  dsc_value_drop(&result);
  free(args);
  dsc_object_unref(*tensor);
  *tensor = output;
  return status;
}

/* On worker 0: the record through all of its functions. */
static disco_status cut_record(const shard_loader *self, const dsc_worker *worker, int64_t record,
                               TVMFFIObjectHandle *ret_tensor) {
  TVMFFIObjectHandle tensor = NULL;
  disco_status status = take_record(self, worker, record, true, &tensor);
  for (const step *it = self->steps[record]; status == DISCO_OK && it != NULL; it = it->next)
    status = apply(it, worker, &tensor);
  if (status == DISCO_OK)
    *ret_tensor = tensor;
  else if (tensor != NULL)
    dsc_object_unref(tensor);
  return status;
}

static disco_status load_cut(const shard_loader *self, const dsc_worker *worker, int64_t record,
                             TVMFFIObjectHandle *ret_tensor) {
  char print[DSC_NAME_PRINT_BYTES];
  disco_shard shard;
  TVMFFIObjectHandle all = NULL, part = NULL;
  const step *last = self->steps[record];
  while (last->next != NULL) last = last->next;
  disco_status status = whole_shard(self, record, &shard);
  if (status != DISCO_OK) return status;
  if (last->ndim < 1 || last->numbers[0] != worker->setup.num_workers)
    return dsc_fail(DISCO_VALUE,
                    "shard_info of parameter %s: the first dimension of the last output, %lld, must be the number of "
                    "workers, %d",
                    dsc_name_print(dsc_model_weight(self->model, record)->view.name, print),
                    last->ndim < 1 ? 0LL : (long long)last->numbers[0], worker->setup.num_workers);
  status = dsc_builtin_make_tensor(worker, last->ndim - 1, last->numbers + 1, last->dtype, worker->device, &part);
  if (status == DISCO_OK && worker->setup.id == 0) status = cut_record(self, worker, record, &all);
  if (status == DISCO_OK) {
    const dsc_collective_args args = {.send = all != NULL ? dltensor_of(all) : NULL, .recv = dltensor_of(part)};
    status = dsc_collective_run(DSC_COLLECTIVE_SCATTER, &args);
  }
  if (all != NULL) dsc_object_unref(all);
  if (status == DISCO_OK)
    *ret_tensor = part;
  else if (part != NULL)
    dsc_object_unref(part);
  return status;
}

/* ---- What the functions load ---- */

/* One of the ways to load number `i`, on the calling worker. */
typedef disco_status (*load_one)(const shard_loader *self, const dsc_worker *worker, int64_t i,
                                 TVMFFIObjectHandle *ret_tensor);

static disco_status load(const shard_loader *self, const dsc_worker *worker, int64_t i,
                         TVMFFIObjectHandle *ret_tensor) {
  const bool is_cut = i >= 0 && i < self->count && self->steps[i] != NULL;
  return (is_cut ? load_cut : load_whole)(self, worker, i, ret_tensor);
}

static disco_status find_record(const shard_loader *self, const char *name, int64_t *ret_record) {
  *ret_record = dsc_model_find(self->model, name);
  return *ret_record >= 0 ? DISCO_OK : dsc_fail(DISCO_VALUE, "%s has no parameter %s", self->path, name);
}

static disco_status find_param(const shard_loader *self, int64_t i, int64_t *ret_record) {
  char name[96];
  (void)snprintf(name, sizeof(name), "param_%lld", (long long)i);
  return find_record(self, name, ret_record);
}

static void presharded_name(const dsc_worker *worker, int64_t i, char name[96]) {
  (void)snprintf(name, 96, "param_%lld_shard-%d-of-%d", (long long)i, worker->setup.id + 1, worker->setup.num_workers);
}

static disco_status load_presharded(const shard_loader *self, const dsc_worker *worker, int64_t i,
                                    TVMFFIObjectHandle *ret_tensor) {
  char name[96], print[DSC_NAME_PRINT_BYTES];
  const int64_t each = self->count / worker->setup.num_workers;
  if (i < 0 || i >= each)
    return dsc_fail(DISCO_VALUE, "parameter %lld of %s, which has %lld for each of %d workers", (long long)i,
                    self->path, (long long)each, worker->setup.num_workers);
  const int64_t record = worker->setup.id * each + i;
  const char *found = dsc_model_weight(self->model, record)->view.name;
  presharded_name(worker, i, name);
  if (strcmp(name, found) != 0)
    return dsc_fail(DISCO_VALUE, "record %lld of %s must be %s, but is %s", (long long)record, self->path, name,
                    dsc_name_print(found, print));
  return take_record(self, worker, record, true, ret_tensor);
}

static disco_status load_param(const shard_loader *self, const dsc_worker *worker, int64_t i,
                               TVMFFIObjectHandle *ret_tensor) {
  int64_t record = 0;
  disco_status status = find_param(self, i, &record);
  return status == DISCO_OK ? load(self, worker, record, ret_tensor) : status;
}

static disco_status load_presharded_param(const shard_loader *self, const dsc_worker *worker, int64_t i,
                                          TVMFFIObjectHandle *ret_tensor) {
  char name[96];
  int64_t record = 0;
  presharded_name(worker, i, name);
  disco_status status = find_record(self, name, &record);
  return status == DISCO_OK ? take_record(self, worker, record, true, ret_tensor) : status;
}

static disco_status load_param_on_worker0(const shard_loader *self, const dsc_worker *worker, int64_t i,
                                          TVMFFIObjectHandle *ret_tensor) {
  int64_t record = 0;
  disco_status status = find_param(self, i, &record);
  return status == DISCO_OK ? take_record(self, worker, record, worker->setup.id == 0, ret_tensor) : status;
}

/* ---- As FFI functions ---- */

static disco_status enter(const char *name, const TVMFFIAny *args, int32_t num_args, int32_t wanted,
                          dsc_worker **ret_worker, const shard_loader **ret_loader) {
  disco_status status = dsc_args_count(name, num_args, wanted);
  if (status == DISCO_OK) status = loader_of(name, &args[0], ret_loader);
  return status == DISCO_OK ? dsc_worker_require(name, ret_worker) : status;
}

/* (loader, Shape of one number) */
static int call_one(const char *name, load_one one, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  dsc_worker *worker = NULL;
  const shard_loader *self = NULL;
  TVMFFIObjectHandle tensor = NULL;
  int64_t room[4];
  const int64_t *index = NULL;
  size_t count = 0;
  *result = dsc_none();
  disco_status status = enter(name, args, num_args, 2, &worker, &self);
  if (status == DISCO_OK && !dsc_value_as_shape(&args[1], room, 4, &index, &count))
    status = dsc_args_mismatch(name, 1, "ffi.Shape", &args[1]);
  if (status == DISCO_OK && count != 1)
    status = dsc_fail(DISCO_VALUE, "%s: the index is a Shape of one number, not of %zu", name, count);
  if (status == DISCO_OK) status = one(self, worker, index[0], &tensor);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  *result = dsc_object_value(tensor);
  return 0;
}

static disco_status make_array(TVMFFIAny *items, int64_t count, TVMFFIAny *ret_array) {
  TVMFFIObject *make = NULL;
  disco_status status = dsc_function_find("ffi.Array", &make);
  if (status == DISCO_OK && make == NULL) return dsc_fail(DISCO_RUNTIME, "TVM-FFI has no function ffi.Array");
  if (status != DISCO_OK) return status;
  if (TVMFFIFunctionCall(make, items, (int32_t)count, ret_array) != 0) status = dsc_error_take_raised(DISCO_MEMORY);
  dsc_object_unref(make);
  return status;
}

/* (loader): numbers 0 to the last, as an Array. */
static int call_all(const char *name, load_one one, bool presharded, const TVMFFIAny *args, int32_t num_args,
                    TVMFFIAny *result) {
  dsc_worker *worker = NULL;
  const shard_loader *self = NULL;
  int64_t loaded = 0;
  *result = dsc_none();
  disco_status status = enter(name, args, num_args, 1, &worker, &self);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  const int64_t count = presharded ? self->count / worker->setup.num_workers : self->count;
  TVMFFIAny *items = dsc_alloc((size_t)count * sizeof(*items) + 1, "the tensors of a model");
  if (items == NULL) return dsc_error_raise_status(DISCO_MEMORY);
  for (TVMFFIObjectHandle tensor = NULL; status == DISCO_OK && loaded < count;) {
    status = one(self, worker, loaded, &tensor);
    if (status == DISCO_OK) items[loaded++] = dsc_object_value(tensor);
  }
  if (status == DISCO_OK) status = make_array(items, count, result);
  for (int64_t i = 0; i < loaded; i++) dsc_value_drop(&items[i]);
  free(items);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}

int dsc_builtin_shard_load(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  return call_one("runtime.disco.ShardLoaderLoad", load, args, num_args, result);
}

int dsc_builtin_shard_load_presharded(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  return call_one("runtime.disco.ShardLoaderLoadPresharded", load_presharded, args, num_args, result);
}

int dsc_builtin_shard_load_all(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  return call_all("runtime.disco.ShardLoaderLoadAll", load_param, false, args, num_args, result);
}

int dsc_builtin_shard_load_all_presharded(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  return call_all("runtime.disco.ShardLoaderLoadAllPresharded", load_presharded_param, true, args, num_args, result);
}

int dsc_builtin_shard_load_param(void *ffi_self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)ffi_self;
  static const char name[] = "runtime.disco.ShardLoaderLoadParamOnWorker0";
  dsc_worker *worker = NULL;
  const shard_loader *self = NULL;
  TVMFFIObjectHandle tensor = NULL;
  int64_t index = 0;
  *result = dsc_none();
  disco_status status = enter(name, args, num_args, 2, &worker, &self);
  if (status == DISCO_OK && !dsc_value_as_int(&args[1], &index)) status = dsc_args_mismatch(name, 1, "int", &args[1]);
  if (status == DISCO_OK) status = load_param_on_worker0(self, worker, index, &tensor);
  if (status != DISCO_OK) return dsc_error_raise_status(status);
  *result = dsc_object_value(tensor);
  return 0;
}
