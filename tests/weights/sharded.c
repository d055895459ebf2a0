/* What the workers of a session have after libdisco.load_weights, for the comparison with other readers:
 *
 *     sharded threads|processes WORKERS [MODEL PLAN bytes|hash]...
 *
 * One session loads one model after the other. For each tensor of a model, in file order, and each worker there is a
 * line of JSON, and behind it, where they are asked for, the tensor's bytes:
 *
 *     {"tensor": 4, "worker": 1, "dtype": [1, 8], "shape": [64, 360], "bytes": 23040, "hash": "9f0c5d0d6a2f3b41"}
 *
 * `dtype` is DLPack's code and bits, `hash` XXH3 on the worker, null where its bytes follow. What the plan skips has no
 * lines. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/disco.h"
#include "disco/weights.h"
#include "disco/worker.h"

enum { WAIT_MS = 120000 };

static int be_worker(char **argv) {
  int numbers[5];
  for (int i = 0; i < 5; i++) numbers[i] = atoi(argv[i]);
  return disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]) == DISCO_OK ? 0 : 1;
}

static TVMFFIAny text_of(const char *text) { return (TVMFFIAny){.type_index = kTVMFFIRawStr, .v_c_str = text}; }

static disco_status call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args,
                         disco_dref **ret_result) {
  disco_dref *function = NULL;
  disco_status status = disco_session_get_global_func(session, name, &function);
  if (status == DISCO_OK) status = disco_call(session, function, args, num_args, ret_result);
  disco_dref_unref(function);
  return status;
}

/* ---- Describing ---- */

static const DLTensor *tensor_of(const TVMFFIAny *value) { return (const DLTensor *)(value->v_obj + 1); }

static size_t bytes_of(const DLTensor *tensor) {
  size_t bytes = (size_t)tensor->dtype.bits / 8;
  for (int32_t i = 0; i < tensor->ndim; i++) bytes *= (size_t)tensor->shape[i];
  return bytes;
}

static const char *data_of(const DLTensor *tensor) { return (const char *)tensor->data + tensor->byte_offset; }

/* The line of a tensor but for its beginning. */
static void describe(const DLTensor *tensor, bool with_hash, char *line, size_t room) {
  const size_t bytes = bytes_of(tensor);
  char hash[32] = "null", shape[256] = "";
  for (int32_t i = 0; i < tensor->ndim; i++) {
    const size_t size = strlen(shape);
    (void)snprintf(shape + size, sizeof(shape) - size, "%s%lld", i > 0 ? ", " : "", (long long)tensor->shape[i]);
  }
  if (with_hash)
    (void)snprintf(hash, sizeof(hash), "\"%016llx\"", (unsigned long long)disco_weights_hash(data_of(tensor), bytes));
  (void)snprintf(line, room, "\"dtype\": [%d, %d], \"shape\": [%s], \"bytes\": %zu, \"hash\": %s}\n",
                 tensor->dtype.code, tensor->dtype.bits, shape, bytes, hash);
}

/* Worker function: (Tensor) -> its line, as a string. */
static int describe_here(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  char line[512];
  (void)self;
  if (num_args != 1 || args[0].type_index != kTVMFFITensor) return disco_raise("TypeError", "it takes a tensor");
  describe(tensor_of(&args[0]), true, line, sizeof(line));
  const TVMFFIByteArray text = {line, strlen(line)};
  return TVMFFIStringFromByteArray(&text, result);
}

/* ---- Printing ---- */

static disco_status print_value(const TVMFFIAny *value, int64_t index, int32_t worker) {
  char line[512];
  (void)printf("{\"tensor\": %lld, \"worker\": %d, ", (long long)index, worker);
  if (value->type_index == kTVMFFIStr) { /* it was described there */
    const TVMFFIByteArray *text = (const TVMFFIByteArray *)(value->v_obj + 1);
    (void)fwrite(text->data, 1, text->size, stdout);
    return DISCO_OK;
  }
  if (value->type_index != kTVMFFITensor) return disco_fail(DISCO_TYPE, "tensor %lld is none", (long long)index);
  const DLTensor *tensor = tensor_of(value);
  describe(tensor, false, line, sizeof(line));
  (void)fputs(line, stdout);
  if (fwrite(data_of(tensor), 1, bytes_of(tensor), stdout) == bytes_of(tensor)) return DISCO_OK;
  return disco_fail(DISCO_RUNTIME, "the output is closed");
}

/* One tensor of the Map that each worker has, of all workers. */
static disco_status print_parts(disco_session *session, disco_dref *map, int64_t index, const char *name,
                                bool with_bytes) {
  const TVMFFIAny args[] = {disco_dref_arg(map), text_of(name)};
  disco_dref *part = NULL, *line = NULL;
  disco_status status = call(session, "ffi.MapGetItem", args, 2, &part);
  if (status == DISCO_OK && !with_bytes) {
    const TVMFFIAny tensor = disco_dref_arg(part);
    status = call(session, "test.describe", &tensor, 1, &line);
  }
  for (int32_t worker = 0; status == DISCO_OK && worker < disco_session_num_workers(session); worker++) {
    TVMFFIAny value = {0};
    status = disco_debug_get(with_bytes ? part : line, worker, WAIT_MS, &value);
    if (status == DISCO_OK) status = print_value(&value, index, worker);
    if (value.type_index >= kTVMFFIStaticObjectBegin) (void)TVMFFIObjectDecRef(value.v_obj);
  }
  disco_dref_unref(line);
  disco_dref_unref(part);
  return status;
}

/* ---- Loading ---- */

static disco_status load(disco_session *session, const char *path, const char *plan, disco_dref **ret_map) {
  const TVMFFIAny args[] = {text_of(path), text_of(plan)};
  disco_status status = call(session, "libdisco.load_weights", args, 2, ret_map);
  return status == DISCO_OK ? disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS) : status;
}

static disco_status load_and_print(disco_session *session, const char *path, const char *plan_path, bool with_bytes) {
  disco_weights *weights = NULL; /* for the names alone */
  disco_shard_plan *plan = NULL;
  disco_dref *map = NULL;
  disco_status status = disco_weights_open(path, &weights);
  if (status == DISCO_OK) status = disco_shard_plan_open(plan_path, &plan);
  if (status == DISCO_OK) status = load(session, path, plan_path, &map);
  for (int64_t i = 0; status == DISCO_OK && i < disco_weights_num_tensors(weights); i++) {
    disco_shard shard;
    status = disco_shard_of(weights, plan, i, disco_session_num_workers(session), 0, &shard);
    if (status == DISCO_OK && !shard.is_skipped)
      status = print_parts(session, map, i, disco_weights_tensor_at(weights, i)->name, with_bytes);
  }
  disco_dref_unref(map);
  disco_shard_plan_destroy(plan);
  disco_weights_close(weights);
  return status;
}

int main(int argc, char **argv) {
  if (disco_register_function("test.describe", describe_here, NULL, NULL, false) != DISCO_OK) return 1;
  if (argc >= 7 && strcmp(argv[1], "worker") == 0) return be_worker(argv + 2);
  if (argc < 3 || argc % 3 != 0) {
    (void)fprintf(stderr, "usage: sharded threads|processes WORKERS [MODEL PLAN bytes|hash]...\n");
    return 2;
  }
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(atoi(argv[2]), 1);
  disco_session *session = NULL;
  options.program = "/proc/self/exe";
  disco_status status = strcmp(argv[1], "processes") == 0 ? disco_session_create_process(&options, &session)
                                                          : disco_session_create_threaded(&options, &session);
  for (int i = 3; status == DISCO_OK && i < argc; i += 3)
    status = load_and_print(session, argv[i], argv[i + 1], strcmp(argv[i + 2], "bytes") == 0);
  if (status == DISCO_OK) status = disco_session_shutdown(session);
  if (status != DISCO_OK) (void)fprintf(stderr, "%s\n", disco_last_error_text());
  disco_session_unref(session);
  return status == DISCO_OK && fflush(stdout) == 0 ? 0 : 1;
}
