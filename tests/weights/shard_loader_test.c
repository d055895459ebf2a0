/* runtime.disco.ShardLoader and its functions on 1, 2 and 4 workers, threads and processes: every value of every
 * tensor, the functions that cut them, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <tvm/ffi/extra/c_env_api.h>

#include "weights/sessions.h"
#include "weights/writer.h"

enum { SEED = 42, NUM_PARAMS = 5, ROWS = 8, COLUMNS = 12, ADDED = 1000 };

static const int32_t worker_counts[] = {1, 2, 4};

/* ---- Functions that cut, on worker 0 alone: (in, parts..., out) ---- */

static int on_worker0(const TVMFFIAny *args, int32_t num_args, int32_t wanted, DLTensor **ret_in, DLTensor **ret_out) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  if (disco_worker_get_info(&info) != DISCO_OK || info.worker_id != 0)
    return disco_raise("RuntimeError", "a shard function runs on worker %d", info.worker_id);
  if (num_args != wanted || args[0].type_index != kTVMFFIDLTensorPtr ||
      args[num_args - 1].type_index != kTVMFFIDLTensorPtr)
    return disco_raise("TypeError", "a shard function was called with %d arguments of other types", num_args);
  *ret_in = args[0].v_ptr;
  *ret_out = args[num_args - 1].v_ptr;
  return 0;
}

static size_t element_bytes(const DLTensor *tensor) { return tensor->dtype.bits / 8u; }

/* [rows, columns] -> [parts, rows, columns / parts] */
static int cut_columns(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  DLTensor *in, *out;
  (void)self;
  *result = dsc_none();
  if (on_worker0(args, num_args, 3, &in, &out) != 0) return -1;
  const int64_t parts = args[1].v_int64;
  if (in->ndim != 2 || out->ndim != 3 || out->shape[0] != parts || out->shape[1] != in->shape[0] ||
      out->shape[2] * parts != in->shape[1])
    return disco_raise("ValueError", "cut_columns: shapes");
  const size_t row = (size_t)in->shape[1] * element_bytes(in), piece = row / (size_t)parts;
  char *to = out->data;
  for (int64_t p = 0; p < parts; p++)
    for (int64_t r = 0; r < in->shape[0]; r++, to += piece)
      memcpy(to, (const char *)in->data + (size_t)r * row + (size_t)p * piece, piece);
  return 0;
}

/* int32: every element a * b more; two parameters, and the shape stays. */
static int add_product(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  DLTensor *in, *out;
  (void)self;
  *result = dsc_none();
  if (on_worker0(args, num_args, 4, &in, &out) != 0) return -1;
  for (int64_t i = 0; i < in->shape[0] * in->shape[1]; i++) {
    uint32_t value = 0;
    memcpy(&value, (const char *)in->data + (size_t)i * sizeof(value), sizeof(value));
    value += (uint32_t)(args[1].v_int64 * args[2].v_int64);
    memcpy((char *)out->data + (size_t)i * sizeof(value), &value, sizeof(value));
  }
  return 0;
}

static int refuse(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args, (void)result;
  return disco_raise("KeyError", "no cutting today");
}

static _Thread_local char info_of_module[1024]; /* for as many workers as there are */

/* Of the module: get_shard_info, and a function that no global one is called like. */
static int get_shard_info(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args;
  return dsc_value_from_string(info_of_module, strlen(info_of_module), result) == DISCO_OK ? 0 : -1;
}

/* In worker processes nobody else does: (text) -> None */
static int set_info(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  TVMFFIByteArray text = {"", 0};
  (void)self, (void)num_args;
  *result = dsc_none();
  (void)dsc_value_string(&args[0], &text);
  (void)snprintf(info_of_module, sizeof(info_of_module), "%.*s", (int)text.size, text.data);
  return 0;
}

/* () -> None: workers of other processes than the controller's go to another folder. */
static int go_elsewhere(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  (void)self, (void)args, (void)num_args;
  *result = dsc_none();
  if (disco_worker_get_info(&info) == DISCO_OK && (info.worker_id == 0 || chdir("/") == 0)) return 0;
  return disco_raise("RuntimeError", "cannot go elsewhere");
}

static void register_functions(void) {
  if (disco_register_function("test.go_elsewhere", go_elsewhere, NULL, NULL, false) != DISCO_OK ||
      disco_register_function("test.cut_columns", cut_columns, NULL, NULL, false) != DISCO_OK ||
      disco_register_function("test.add_product", add_product, NULL, NULL, false) != DISCO_OK ||
      disco_register_function("test.refuse", refuse, NULL, NULL, false) != DISCO_OK ||
      disco_register_function("test.set_info", set_info, NULL, NULL, false) != DISCO_OK ||
      disco_register_function("test.without_memory", without_memory, NULL, NULL, false) != DISCO_OK ||
      TVMFFIEnvModRegisterSystemLibSymbol("__tvm_ffi_get_shard_info", (void *)(uintptr_t)get_shard_info) != 0 ||
      TVMFFIEnvModRegisterSystemLibSymbol("__tvm_ffi_cut_in_module", (void *)(uintptr_t)cut_columns) != 0)
    abort();
}

/* ---- Caches ---- */

static const char *const encodings[NUM_PARAMS] = {"F32", "f32-to-bf16", "I32", "F16", "I8"};

static char *read_text(const char *path) {
  char *text = calloc(1, 1 << 16);
  FILE *file = fopen(path, "r");
  assert_non_null(text);
  assert_non_null(file);
  assert_in_range(fread(text, 1, 1 << 16, file), 1, (1 << 16) - 1);
  assert_int_equal(fclose(file), 0);
  return text;
}

/* A folder with a cache; its JSON, to be freed. `shards` > 0: presharded, each worker's own. */
static char *make_cache(const char *name, int32_t shards, bool reversed) {
  static char names[NUM_PARAMS * 4][64];
  writer_tensor tensors[NUM_PARAMS * 4];
  writer_model model = {.seed = SEED, .tensors = tensors, .num_files = 1}; /* else records are in another order */
  for (int32_t s = 0; s < (shards > 0 ? shards : 1); s++) {
    for (int i = 0; i < NUM_PARAMS; i++) {
      const int number = reversed ? NUM_PARAMS - 1 - i : i;
      char *to = names[model.num_tensors];
      (void)snprintf(to, sizeof(names[0]), "param_%d", number);
      if (shards > 0) (void)snprintf(to, sizeof(names[0]), "param_%d_shard-%d-of-%d", number, s + 1, shards);
      tensors[model.num_tensors++] =
          (writer_tensor){.name = to, .encoding = encodings[number], .ndim = 2, .shape = {ROWS, COLUMNS}};
    }
  }
  assert_null(writer_write(&model, WRITER_TENSOR_CACHE, own_path(name)));
  char json[128];
  (void)snprintf(json, sizeof(json), "%s/tensor-cache.json", name);
  return read_text(own_path(json));
}

static const char *cache_path(const char *name) {
  char json[128];
  (void)snprintf(json, sizeof(json), "%s/tensor-cache.json", name);
  return own_path(json);
}

static disco_dref *make_loader(disco_session *session, const char *path, const char *json, const char *info,
                               disco_dref *module) {
  disco_dref *loader =
      call(session, "runtime.disco.ShardLoader",
           VALUES(any_text(path), any_text(json), any_text(info), module != NULL ? any_dref(module) : dsc_none()));
  sync_all(session);
  return loader;
}

static disco_dref *load(disco_session *session, const char *function, disco_dref *loader, int64_t index) {
  TVMFFIAny shape = make_shape(&index, 1);
  disco_dref *tensor = call(session, function, VALUES(any_dref(loader), shape));
  dsc_value_drop(&shape);
  return tensor;
}

/* ---- What a worker must have ---- */

/* The columns of a parameter from `first` on, each element with `added`. */
static void check_columns(disco_dref *dref, int32_t worker, const char *name, const char *encoding, int64_t first,
                          int64_t count, uint32_t added) {
  const writer_encoding *type = writer_find_encoding(encoding);
  const bool is_upper = strcmp(encoding, "f32-to-bf16") == 0;
  const size_t bytes = is_upper ? sizeof(float) : (size_t)type->block_bytes;
  TVMFFIAny value = get(dref, worker);
  const DLTensor *tensor = tensor_of(&value);
  assert_int_equal(tensor->ndim, 2);
  assert_int_equal(tensor->shape[0], ROWS);
  assert_int_equal(tensor->shape[1], count);
  assert_int_equal(tensor->dtype.bits, bytes * 8);
  for (int64_t i = 0; i < ROWS * count; i++) {
    const int64_t place = i / count * COLUMNS + first + i % count;
    char wanted[8];
    writer_block(SEED, name, type, place, wanted);
    if (is_upper) {
      const float upper = writer_float(SEED, name, type, place);
      memcpy(wanted, &upper, sizeof(upper));
    }
    if (added != 0) {
      uint32_t sum;
      memcpy(&sum, wanted, sizeof(sum));
      sum += added;
      memcpy(wanted, &sum, sizeof(sum));
    }
    assert_memory_equal((const char *)tensor->data + (size_t)i * bytes, wanted, bytes);
  }
  dsc_value_drop(&value);
}

static void check_whole(disco_dref *dref, int32_t worker, int param) {
  char name[32];
  (void)snprintf(name, sizeof(name), "param_%d", param);
  check_columns(dref, worker, name, encodings[param], 0, COLUMNS, 0);
}

/* ---- Load, LoadAll, LoadParamOnWorker0 ---- */

/* Parameters 0 and 2 are cut, 2 in two steps; the others are everybody's. `cut`: the function's name. */
static const char *make_info(const char *cut, int32_t workers) {
  static char text[1024];
  (void)snprintf(text, sizeof(text),
                 "{\"param_0\": [[\"%s\", [[%d, %d, %d], \"float32\"], %d]], \"param_3\": [],"
                 " \"param_2\": [[\"test.add_product\", [[%d, %d], \"int32\"], 10, %d],"
                 " [\"%s\", [[%d, %d, %d], \"int32\"], %d]],"
                 " \"not there\": [[\"no function at all\", [[1], \"float32\"]]]}",
                 cut, workers, ROWS, COLUMNS / workers, workers, ROWS, COLUMNS, ADDED / 10, cut, workers, ROWS,
                 COLUMNS / workers, workers);
  return text;
}

static void check_loaded(disco_dref *dref, int32_t workers, int param) {
  const int64_t count = COLUMNS / workers;
  for (int32_t w = 0; w < workers; w++) {
    if (param == 0) {
      check_columns(dref, w, "param_0", encodings[0], w * count, count, 0);
    } else if (param == 2) {
      check_columns(dref, w, "param_2", encodings[2], w * count, count, ADDED);
    } else {
      check_whole(dref, w, param);
    }
  }
}

static void check_all(disco_session *session, disco_dref *array, int32_t workers) {
  disco_dref *size = call(session, "ffi.ArraySize", VALUES(any_dref(array)));
  for (int32_t w = 0; w < workers; w++) assert_int_equal(get(size, w).v_int64, NUM_PARAMS);
  disco_dref_unref(size);
  for (int i = 0; i < NUM_PARAMS; i++) {
    disco_dref *tensor = call(session, "ffi.ArrayGetItem", VALUES(any_dref(array), dsc_int(i)));
    check_loaded(tensor, workers, i);
    disco_dref_unref(tensor);
  }
}

/* With every kind of session and number of workers. */
static void for_sessions(void (*test)(disco_session *session, int32_t workers)) {
  for (int kind = THREADS; kind <= PROCESSES; kind++) {
    for (size_t i = 0; i < sizeof(worker_counts) / sizeof(worker_counts[0]); i++) {
      disco_session *session = make_session(kind, worker_counts[i], true);
      test(session, worker_counts[i]);
      sync_all(session);
      end_session(session);
    }
  }
}

static void load_one_by_one(disco_session *session, int32_t workers) {
  char *json = make_cache("one", 0, true); /* record i is parameter 4 - i */
  disco_dref *loader = make_loader(session, cache_path("one"), json, make_info("test.cut_columns", workers), NULL);
  for (int i = 0; i < NUM_PARAMS; i++) {
    disco_dref *tensor = load(session, "runtime.disco.ShardLoaderLoad", loader, i);
    check_loaded(tensor, workers, NUM_PARAMS - 1 - i);
    disco_dref_unref(tensor);
  }
  disco_dref_unref(loader);
  free(json);
}

static void load_all(disco_session *session, int32_t workers) {
  char *json = make_cache("all", 0, true);
  disco_dref *loader = make_loader(session, cache_path("all"), json, make_info("test.cut_columns", workers), NULL);
  disco_dref *array = call(session, "runtime.disco.ShardLoaderLoadAll", VALUES(any_dref(loader)));
  disco_dref_unref(loader); /* what it loaded outlives it */
  check_all(session, array, workers);
  disco_dref_unref(array);
  free(json);
}

static void load_on_worker0(disco_session *session, int32_t workers) {
  char *json = make_cache("zero", 0, true);
  disco_dref *loader = make_loader(session, cache_path("zero"), json, make_info("test.cut_columns", workers), NULL);
  for (int i = 0; i < NUM_PARAMS; i++) {
    disco_dref *tensor =
        call(session, "runtime.disco.ShardLoaderLoadParamOnWorker0", VALUES(any_dref(loader), dsc_int(i)));
    check_whole(tensor, 0, i); /* not cut */
    for (int32_t w = 1; w < workers; w++) {
      TVMFFIAny value = get(tensor, w);
      assert_int_equal(tensor_of(&value)->shape[0], ROWS);
      assert_int_equal(tensor_of(&value)->shape[1], COLUMNS);
      assert_int_equal(tensor_of(&value)->dtype.bits,
                       i == 1 ? 32 : writer_find_encoding(encodings[i])->block_bytes * 8);
      dsc_value_drop(&value);
    }
    disco_dref_unref(tensor);
  }
  disco_dref_unref(loader);
  free(json);
}

/* By index the record must be the one that is meant; all are found by their names. */
static void load_presharded_in_another_order(disco_session *session, int32_t workers) {
  const int64_t index = 0;
  char name[64];
  char *json = make_cache("order", workers, true);
  disco_dref *loader = make_loader(session, cache_path("order"), json, "{}", NULL);
  TVMFFIAny shape = make_shape(&index, 1);
  expect_call_fails(session, "ValueError", "must be param_0_shard-", "runtime.disco.ShardLoaderLoadPresharded",
                    VALUES(any_dref(loader), shape));
  dsc_value_drop(&shape);
  disco_dref *array = call(session, "runtime.disco.ShardLoaderLoadAllPresharded", VALUES(any_dref(loader)));
  disco_dref *tensor = call(session, "ffi.ArrayGetItem", VALUES(any_dref(array), dsc_int(0)));
  for (int32_t w = 0; w < workers; w++) {
    (void)snprintf(name, sizeof(name), "param_0_shard-%d-of-%d", w + 1, workers);
    check_columns(tensor, w, name, encodings[0], 0, COLUMNS, 0);
  }
  disco_dref_unref(tensor);
  disco_dref_unref(array);
  disco_dref_unref(loader);
  free(json);
}

/* The others stand in a folder from where the relative path leads nowhere. */
static void only_worker0_needs_the_files(void **state) {
  (void)state;
  char before[512];
  assert_non_null(getcwd(before, sizeof(before)));
  char *json = make_cache("far", 0, false);
  assert_int_equal(chdir(own_path("")), 0);
  disco_session *session = make_session(PROCESSES, 2, true);
  disco_dref_unref(call(session, "test.go_elsewhere", NULL, 0));
  disco_dref *loader = make_loader(session, "far/tensor-cache.json", json, make_info("test.cut_columns", 2), NULL);
  disco_dref *array = call(session, "runtime.disco.ShardLoaderLoadAll", VALUES(any_dref(loader)));
  check_all(session, array, 2);
  disco_dref *tensor =
      call(session, "runtime.disco.ShardLoaderLoadParamOnWorker0", VALUES(any_dref(loader), dsc_int(1)));
  sync_all(session);
  check_whole(tensor, 0, 1);
  disco_dref_unref(tensor);
  disco_dref_unref(array);
  disco_dref_unref(loader);
  end_session(session);
  assert_int_equal(chdir(before), 0);
  free(json);
}

static void load_presharded(disco_session *session, int32_t workers) {
  char *json = make_cache("pre", workers, false);
  disco_dref *loader = make_loader(session, cache_path("pre"), json, "{}", NULL);
  disco_dref *array = call(session, "runtime.disco.ShardLoaderLoadAllPresharded", VALUES(any_dref(loader)));
  for (int i = 0; i < NUM_PARAMS; i++) {
    disco_dref *ways[] = {load(session, "runtime.disco.ShardLoaderLoadPresharded", loader, i),
                          call(session, "ffi.ArrayGetItem", VALUES(any_dref(array), dsc_int(i)))};
    for (int way = 0; way < 2; way++) {
      for (int32_t w = 0; w < workers; w++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "param_%d_shard-%d-of-%d", i, w + 1, workers);
        check_columns(ways[way], w, name, encodings[i], 0, COLUMNS, 0);
      }
      disco_dref_unref(ways[way]);
    }
  }
  disco_dref_unref(array);
  disco_dref_unref(loader);
  free(json);
}

/* "" asks the module for its info; the module's functions come before the global ones. */
static void load_with_module(disco_session *session, int32_t workers) {
  char *json = make_cache("module", 0, false);
  disco_dref_unref(call(session, "test.set_info", VALUES(any_text(make_info("cut_in_module", workers)))));
  disco_dref *module = call(session, "ffi.SystemLib", NULL, 0);
  disco_dref *loader = make_loader(session, cache_path("module"), json, "", module);
  disco_dref *array = call(session, "runtime.disco.ShardLoaderLoadAll", VALUES(any_dref(loader)));
  check_all(session, array, workers);
  disco_dref_unref(array);
  disco_dref_unref(loader);
  loader = make_loader(session, cache_path("module"), json, "{}", module); /* not asked */
  disco_dref *tensor = load(session, "runtime.disco.ShardLoaderLoad", loader, 0);
  for (int32_t w = 0; w < workers; w++) check_whole(tensor, w, 0);
  disco_dref_unref(tensor);
  disco_dref_unref(loader);
  disco_dref_unref(module);
  free(json);
}

/* ---- What is refused ---- */

static void bad_loaders(disco_session *session, int32_t workers) {
  static const struct {
    const char *info, *part;
  } bad[] = {
      {"", "shard_info is empty, and there is no module to ask; pass \"{}\""},
      {" ", "shard_info"},
      {"[]", "no object"},
      {"{\"param_0\": 1}", "param_0"},
      {"{\"param_0\": [[\"test.refuse\"]]}", "param_0"},
      {"{\"param_0\": [[\"test.refuse\", [[1], \"float33x\"]]]}", "float33x"},
      {"{\"param_0\": [[\"test.refuse\", [[-1], \"float32\"]]]}", "param_0"},
      {"{\"param_0\": [[\"test.refuse\", [[1], \"float32\"], 1.5]]}", "param_0"},
      {"{\"param_0\": [[\"no.such.function\", [[1], \"float32\"]]]}", "Undefined function: no.such.function"},
  };
  (void)workers;
  char *json = make_cache("bad", 0, false);
  const char *path = cache_path("bad"), *const name = "runtime.disco.ShardLoader";
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    expect_call_fails(session, "ValueError", bad[i].part, name,
                      VALUES(any_text(path), any_text(json), any_text(bad[i].info), dsc_none()));
  disco_dref_unref(call(session, "test.set_info", VALUES(any_text(""))));
  disco_dref *module = call(session, "ffi.SystemLib", NULL, 0);
  expect_call_fails(session, "ValueError", "shard_info is empty, and so is what the module's get_shard_info says", name,
                    VALUES(any_text(path), any_text(json), any_text(""), any_dref(module)));
  disco_dref_unref(module);
  expect_call_fails(session, "ValueError", "records", name,
                    VALUES(any_text(path), any_text("{}"), any_text("{}"), dsc_none()));
  expect_call_fails(session, "TypeError", "argument #3", name,
                    VALUES(any_text(path), any_text(json), any_text("{}"), dsc_int(1)));
  expect_call_fails(session, "TypeError", "arguments", name, VALUES(any_text(path), any_text(json), any_text("{}")));
  free(json);
}

static void expect_load_fails(disco_session *session, const char *kind, const char *part, disco_dref *loader,
                              int64_t index) {
  TVMFFIAny shape = make_shape(&index, 1);
  expect_call_fails(session, kind, part, "runtime.disco.ShardLoaderLoad", VALUES(any_dref(loader), shape));
  dsc_value_drop(&shape);
}

static void bad_loads(disco_session *session, int32_t workers) {
  static const char load_name[] = "runtime.disco.ShardLoaderLoad";
  char *json = make_cache("loads", 0, false);
  disco_dref *loader = make_loader(session, cache_path("loads"), json, "{}", NULL);
  const int64_t two[] = {0, 1};
  TVMFFIAny pair = make_shape(two, 2);
  expect_call_fails(session, "TypeError", "argument #1", load_name, VALUES(any_dref(loader), dsc_int(0)));
  expect_call_fails(session, "ValueError", "one number", load_name, VALUES(any_dref(loader), pair));
  expect_call_fails(session, "TypeError", "ShardLoader", load_name, VALUES(dsc_int(0), pair));
  dsc_value_drop(&pair);
  expect_load_fails(session, "ValueError", "record 5", loader, NUM_PARAMS);
  expect_load_fails(session, "ValueError", "record -1", loader, -1);
  expect_call_fails(session, "ValueError", "param_9", "runtime.disco.ShardLoaderLoadParamOnWorker0",
                    VALUES(any_dref(loader), dsc_int(9)));
  expect_call_fails(session, "ValueError", "param_0_shard-", "runtime.disco.ShardLoaderLoadAllPresharded",
                    VALUES(any_dref(loader)));
  disco_dref *tensor = load(session, load_name, loader, 0);
  for (int32_t w = 0; w < workers; w++) check_whole(tensor, w, 0);
  disco_dref_unref(tensor);
  disco_dref_unref(loader);
  free(json);
}

/* Worker 0 fails while the others wait for it: its error is told, and everybody goes on. */
static void failures_of_worker0(disco_session *session, int32_t workers) {
  char info[256];
  char *json = make_cache("fail", 0, false);
  (void)snprintf(info, sizeof(info),
                 "{\"param_0\": [[\"test.refuse\", [[%d, 4], \"float32\"]]],"
                 " \"param_2\": [[\"test.cut_columns\", [[7, 4], \"int32\"], 7]]}",
                 workers);
  disco_dref *loader = make_loader(session, cache_path("fail"), json, info, NULL);
  expect_load_fails(session, "KeyError", "no cutting today", loader, 0);
  expect_load_fails(session, "ValueError", "first dimension", loader, 2);
  assert_int_equal(truncate(own_path("fail/params_shard_0.bin"), 300), 0);
  expect_load_fails(session, "ValueError", "300 bytes", loader, 1);
  expect_says("was it cut, or replaced?");
  assert_int_equal(unlink(own_path("fail/params_shard_0.bin")), 0);
  expect_load_fails(session, "RuntimeError", "params_shard_0.bin", loader, 1);
  free(make_cache("fail", 0, false));
  disco_dref *tensor = load(session, "runtime.disco.ShardLoaderLoad", loader, 1);
  for (int32_t w = 0; w < workers; w++) check_whole(tensor, w, 1);
  disco_dref_unref(tensor);
  disco_dref_unref(loader);
  loader = make_loader(session, "tensor-cache.json", json, "{}", NULL); /* a path without a folder */
  expect_load_fails(session, "ValueError", "no '/'", loader, 1);
  disco_dref_unref(loader);
  free(json);
}

static void without_any_allocation(void **state) {
  (void)state;
  const int64_t index = 2;
  char *json = make_cache("memory", 0, false);
  disco_session *session = make_session(THREADS, 1, true);
  const char *info = make_info("test.cut_columns", 1), *path = cache_path("memory");
  fail_each_allocation("runtime.disco.ShardLoader", VALUES(any_text(path), any_text(json), any_text(info), dsc_none()),
                       10, session);
  disco_dref *loader = make_loader(session, path, json, info, NULL);
  TVMFFIAny shape = make_shape(&index, 1);
  fail_each_allocation("runtime.disco.ShardLoaderLoad", VALUES(any_dref(loader), shape), 5, session);
  fail_each_allocation("runtime.disco.ShardLoaderLoadAll", VALUES(any_dref(loader)), 15, session);
  dsc_value_drop(&shape);
  disco_dref_unref(loader);
  end_session(session);
  free(json);
}

#define TEST(name)                        \
  static void test_##name(void **state) { \
    (void)state;                          \
    for_sessions(name);                   \
  }
TEST(load_one_by_one)
TEST(load_all)
TEST(load_on_worker0)
TEST(load_presharded)
TEST(load_presharded_in_another_order)
TEST(load_with_module)
TEST(bad_loaders)
TEST(bad_loads)
TEST(failures_of_worker0)

int main(int argc, char **argv) {
  register_functions();
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_worker(argc, argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_load_one_by_one),
      cmocka_unit_test(test_load_all),
      cmocka_unit_test(test_load_on_worker0),
      cmocka_unit_test(test_load_presharded),
      cmocka_unit_test(test_load_with_module),
      cmocka_unit_test(test_bad_loaders),
      cmocka_unit_test(test_bad_loads),
      cmocka_unit_test(test_failures_of_worker0),
      cmocka_unit_test(without_any_allocation),
      cmocka_unit_test(test_load_presharded_in_another_order),
      cmocka_unit_test(only_worker0_needs_the_files),
  };
  alarm(110);
  const int failed = cmocka_run_group_tests_name("weights.shard_loader", tests, NULL, NULL);
  remove_own_files();
  return failed;
}
