/* libdisco.load_weights on 1 to 4 workers, threads and processes: every value of every shard is what the writer says
 * without the file, and whatever is wrong is told at the controller's next call. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/cgroup.h"
#include "disco/weights.h"
#include "weights/sessions.h"
#include "weights/writer.h"

enum { SEED = 815, MAX_TENSORS = 16, REPLICATE = 100, SKIP = 101 };

static const char load_weights[] = "libdisco.load_weights";

/* ---- Models, and who gets what of them ---- */

typedef struct {
  writer_tensor tensor;
  int axis; /* or REPLICATE, SKIP */
  bool uneven, decode;
} part;

static const part plain[] = {
    {{"embed", "F32", 2, {12, 10}}, 0, false, false},
    {{"columns", "F16", 2, {6, 24}}, 1, false, false},
    {{"uneven", "BF16", 2, {7, 5}}, 0, true, false},
    {{"decoded", "F16", 2, {5, 12}}, -1, false, true},
    {{"decoded.bf16", "BF16", 3, {2, 12, 3}}, 1, false, true},
    {{"norm", "F32", 1, {9}}, REPLICATE, false, false},
    {{"deep", "I64", 3, {2, 12, 3}}, -2, false, false},
    {{"skipped", "I8", 1, {5}}, SKIP, false, false},
    {{"scalar", "F32", 0, {0}}, REPLICATE, false, false},
    {{"few", "I32", 1, {2}}, 0, true, false}, /* some get nothing */
    {{"large", "F32", 2, {1200, 600}}, 1, false, false},
};

static const part quantised[] = {
    {{"q8.rows", "Q8_0", 2, {12, 64}}, 0, false, false},   {{"q8.columns", "Q8_0", 2, {3, 384}}, 1, false, false},
    {{"q8.decoded", "Q8_0", 2, {3, 384}}, 1, false, true}, {{"q4.uneven", "Q4_1", 2, {5, 160}}, 1, true, false},
    {{"q4.decoded", "Q4_1", 2, {24, 32}}, 0, false, true},
};

static const part cut = {{"upper", "f32-to-bf16", 2, {12, 7}}, 0, false, false};

typedef struct {
  writer_format format;
  int count;
  part parts[MAX_TENSORS];
  writer_tensor tensors[MAX_TENSORS];
  char path[256], plan[2048];
} model;

static void add(model *self, const part *it) {
  assert_true(self->count < MAX_TENSORS);
  self->tensors[self->count] = it->tensor;
  self->parts[self->count++] = *it;
}

static void make_plan(model *self) {
  size_t size = (size_t)snprintf(self->plan, sizeof(self->plan), " \n{\"rules\": [");
  for (int i = 0; i < self->count; i++) {
    const part *it = &self->parts[i];
    char what[64];
    (void)snprintf(what, sizeof(what), "\"axis\": %d", it->axis);
    if (it->axis == REPLICATE) (void)snprintf(what, sizeof(what), "\"replicate\": true");
    if (it->axis == SKIP) (void)snprintf(what, sizeof(what), "\"skip\": true");
    size += (size_t)snprintf(self->plan + size, sizeof(self->plan) - size, "%s{\"match\": \"%s\", %s%s%s}",
                             i > 0 ? ", " : "", it->tensor.name, what, it->uneven ? ", \"uneven\": true" : "",
                             it->decode ? ", \"decode\": true" : "");
    assert_true(size < sizeof(self->plan) - 8);
  }
  (void)snprintf(self->plan + size, sizeof(self->plan) - size, "]}");
}

static void make_model(writer_format format, model *self) {
  static const char *const names[] = {"model.gguf", "model.safetensors", "indexed", "cache"};
  *self = (model){.format = format};
  for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) add(self, &plain[i]);
  if (format == WRITER_GGUF)
    for (size_t i = 0; i < sizeof(quantised) / sizeof(quantised[0]); i++) add(self, &quantised[i]);
  if (format == WRITER_TENSOR_CACHE) add(self, &cut);
  (void)snprintf(self->path, sizeof(self->path), "%s", own_path(names[format]));
  const writer_model wanted = {.seed = SEED, .num_tensors = self->count, .tensors = self->tensors};
  assert_null(writer_write(&wanted, format, self->path));
  make_plan(self);
}

/* ---- What a worker must have ---- */

/* The slice of `it` along its axis, counted in what is stored together: elements, or blocks along the last axis. */
typedef struct {
  const writer_encoding *encoding;
  int32_t ndim, axis;
  int64_t dims[WRITER_MAX_NDIM]; /* of the whole */
  int64_t first, count;
} slice;

static slice slice_of(const part *it, int32_t workers, int32_t worker) {
  slice self = {writer_find_encoding(it->tensor.encoding), it->tensor.ndim, -1, {0}, 0, 0};
  memcpy(self.dims, it->tensor.shape, sizeof(self.dims));
  if (self.ndim > 0) self.dims[self.ndim - 1] /= self.encoding->block_elements;
  if (it->axis == REPLICATE) return self;
  self.axis = it->axis < 0 ? it->axis + self.ndim : it->axis;
  const int64_t each = self.dims[self.axis] / workers, more = self.dims[self.axis] % workers;
  assert_true(more == 0 || it->uneven);
  self.first = worker * each + (worker < more ? worker : more);
  self.count = each + (worker < more ? 1 : 0);
  return self;
}

/* The number in the whole of element (or block) `i` of the slice. */
static int64_t place_of(const slice *self, int64_t i) {
  int64_t place = 0, stride = 1;
  for (int32_t d = self->ndim - 1; d >= 0; d--) {
    const int64_t size = d == self->axis ? self->count : self->dims[d];
    place += (i % size + (d == self->axis ? self->first : 0)) * stride;
    stride *= self->dims[d];
    i /= size;
  }
  return place;
}

static void check_block(const part *it, const slice *self, int64_t place, bool decoded, const char *got) {
  const writer_encoding *encoding = self->encoding;
  char wanted[WRITER_MAX_BLOCK_BYTES * 8];
  size_t bytes = (size_t)encoding->block_bytes;
  if (decoded) {
    bytes = (size_t)encoding->block_elements * sizeof(float);
    for (int32_t i = 0; i < encoding->block_elements; i++) {
      const float value = writer_float(SEED, it->tensor.name, encoding, place * encoding->block_elements + i);
      memcpy(wanted + (size_t)i * sizeof(value), &value, sizeof(value));
    }
  } else {
    writer_block(SEED, it->tensor.name, encoding, place, wanted);
  }
  if (memcmp(got, wanted, bytes) == 0) return;
  print_error("%s: element or block %lld is not what was written\n", it->tensor.name, (long long)place);
  fail();
}

static void check_tensor(const part *it, const DLTensor *got, int32_t workers, int32_t worker) {
  const slice self = slice_of(it, workers, worker);
  const bool decoded = it->decode || strcmp(it->tensor.encoding, "f32-to-bf16") == 0;
  const int32_t block = self.encoding->block_elements, last = self.ndim - 1;
  const int64_t bytes = decoded ? block * (int64_t)sizeof(float) : self.encoding->block_bytes;
  int64_t count = 1;
  assert_int_equal(got->ndim, self.ndim);
  for (int32_t d = 0; d < self.ndim; d++) {
    const int64_t size = d == self.axis ? self.count : self.dims[d];
    const int64_t unit = d < last || block == 1 ? 1 : decoded ? block : bytes;
    assert_int_equal(got->shape[d], size * unit);
    count *= size;
  }
  if (decoded) {
    assert_int_equal(got->dtype.code, kDLFloat);
    assert_int_equal(got->dtype.bits, 32);
  } else {
    assert_int_equal(got->dtype.bits, block > 1 ? 8 : bytes * 8);
  }
  for (int64_t i = 0; i < count; i += 1 + (count > 10000 ? 6 : 0)) /* of a large one some */
    check_block(it, &self, place_of(&self, i), decoded, (const char *)got->data + got->byte_offset + i * bytes);
}

/* Each tensor by ffi.MapGetItem, from each worker. */
static void check_map(disco_session *session, const model *self, disco_dref *map) {
  const int32_t workers = disco_session_num_workers(session);
  disco_dref *size = call(session, "ffi.MapSize", VALUES(any_dref(map)));
  for (int32_t w = 0; w < workers; w++) assert_int_equal(get(size, w).v_int64, self->count - 1); /* one is skipped */
  disco_dref_unref(size);
  for (int i = 0; i < self->count; i++) {
    const part *it = &self->parts[i];
    if (it->axis == SKIP) continue;
    disco_dref *tensor = call(session, "ffi.MapGetItem", VALUES(any_dref(map), any_text(it->tensor.name)));
    for (int32_t w = 0; w < workers; w++) {
      TVMFFIAny value = get(tensor, w);
      check_tensor(it, tensor_of(&value), workers, w);
      dsc_value_drop(&value);
    }
    disco_dref_unref(tensor);
  }
}

static void load_and_check(disco_session *session, const model *self) {
  disco_dref *map = call(session, load_weights, VALUES(any_text(self->path), any_text(self->plan)));
  sync_all(session);
  check_map(session, self, map);
  disco_dref_unref(map);
}

/* ---- Every value ---- */

static void every_value(writer_format format) {
  model self;
  make_model(format, &self);
  for (int kind = THREADS; kind <= PROCESSES; kind++) {
    for (int32_t workers = 1; workers <= 4; workers++) {
      disco_session *session = make_session(kind, workers, false);
      load_and_check(session, &self);
      end_session(session);
    }
  }
}

static void gguf(void **state) {
  (void)state;
  every_value(WRITER_GGUF);
}

static void safetensors(void **state) {
  (void)state;
  every_value(WRITER_SAFETENSORS);
}

static void safetensors_with_an_index(void **state) {
  (void)state;
  every_value(WRITER_SAFETENSORS_INDEX);
}

static void tensor_cache(void **state) {
  (void)state;
  every_value(WRITER_TENSOR_CACHE);
}

static void a_plan_may_be_a_file(void **state) {
  (void)state;
  model self;
  make_model(WRITER_SAFETENSORS, &self);
  write_text(own_path("plan.json"), self.plan);
  disco_session *session = make_session(PROCESSES, 2, false);
  disco_dref *map =
      call(session, load_weights, VALUES(any_text(self.path), any_text(own_path("plan.json")), dsc_none()));
  sync_all(session);
  check_map(session, &self, map);
  disco_dref_unref(map);
  end_session(session);
}

/* What is loaded goes with its register, and may be loaded again: the arena has room for it many times only so. */
static void memory_comes_back(void **state) {
  (void)state;
  model self;
  make_model(WRITER_GGUF, &self);
  disco_session *session = make_session(PROCESSES, 2, false);
  for (int i = 0; i < 64; i++) {
    disco_dref_unref(call(session, load_weights, VALUES(any_text(self.path), any_text(self.plan))));
    sync_all(session);
  }
  load_and_check(session, &self);
  end_session(session);
}

/* ---- What is refused ---- */

static void a_plan_that_does_not_fit(void **state) {
  (void)state;
  model self;
  make_model(WRITER_SAFETENSORS, &self);
  for (int kind = THREADS; kind <= PROCESSES; kind++) {
    disco_session *session = make_session(kind, 2, false);
    static const char rows[] =
        "{\"rules\": [{\"match\": \"uneven\", \"axis\": 0}, {\"match\": \"*\", \"skip\": true}]}";
    expect_call_fails(session, "ValueError", "tensor \"uneven\"", load_weights,
                      VALUES(any_text(self.path), any_text(rows)));
    expect_says("numbers of workers that suit all: 1, 7"); /* of the whole plan */
    expect_call_fails(
        session, "ValueError", "embed", load_weights,
        VALUES(any_text(self.path), any_text("{\"rules\": [{\"match\": \"norm\", \"replicate\": true}]}")));
    expect_call_fails(session, "ValueError", "plan", load_weights, VALUES(any_text(self.path), any_text("{\"rules\"")));
    expect_call_fails(session, "RuntimeError", "no-plan.json", load_weights,
                      VALUES(any_text(self.path), any_text(own_path("no-plan.json"))));
    load_and_check(session, &self);
    end_session(session);
  }
}

static void a_file_that_is_not_there_or_cut(void **state) {
  (void)state;
  static const char all[] = "{\"rules\": [{\"match\": \"*\", \"replicate\": true}]}";
  model self;
  for (int kind = THREADS; kind <= PROCESSES; kind++) {
    disco_session *session = make_session(kind, 3, false);
    expect_call_fails(session, "RuntimeError", "none.gguf", load_weights,
                      VALUES(any_text(own_path("none.gguf")), any_text(all)));
    make_model(WRITER_TENSOR_CACHE, &self);
    assert_int_equal(truncate(own_path("cache/params_shard_1.bin"), 100), 0);
    expect_call_fails(session, "ValueError", "100 bytes", load_weights, VALUES(any_text(self.path), any_text(all)));
    for (writer_format format = WRITER_GGUF; format <= WRITER_SAFETENSORS; format++) {
      make_model(format, &self);
      assert_int_equal(truncate(self.path, 200000), 0);
      expect_call_fails(session, "ValueError", self.path, load_weights, VALUES(any_text(self.path), any_text(all)));
      make_model(format, &self);
      load_and_check(session, &self);
    }
    end_session(session);
  }
}

static void wrong_arguments(void **state) {
  (void)state;
  model self;
  make_model(WRITER_SAFETENSORS, &self);
  disco_session *session = make_session(THREADS, 1, false);
  expect_call_fails(session, "TypeError", "arguments", load_weights, VALUES(any_text(self.path)));
  expect_call_fails(session, "TypeError", "argument #0", load_weights, VALUES(dsc_int(1), any_text(self.plan)));
  expect_call_fails(session, "TypeError", "argument #1", load_weights, VALUES(any_text(self.path), dsc_none()));
  expect_call_fails(session, "TypeError", "argument #2", load_weights,
                    VALUES(any_text(self.path), any_text(self.plan), dsc_int(3)));
  load_and_check(session, &self);
  end_session(session);
  TVMFFIAny args[] = {any_text(self.path), any_text(self.plan)}, result = dsc_none();
  TVMFFIObjectHandle error = NULL;
  assert_int_not_equal(call_global(load_weights, args, 2, &result), 0); /* the controller is no worker */
  TVMFFIErrorMoveFromRaised(&error);
  assert_non_null(error);
  dsc_object_unref(error);
}

/* ---- Manifests ---- */

/* Of a model and its plan; `wrong` >= 0: that tensor's hash is another for the last worker. */
static void make_manifest(const model *self, int32_t workers, int wrong, const char *path) {
  disco_weights *weights = NULL;
  disco_shard_plan *plan = NULL;
  disco_manifest *manifest = NULL;
  expect_ok(disco_weights_open(self->path, &weights));
  expect_ok(disco_shard_plan_parse(self->plan, strlen(self->plan), &plan));
  expect_ok(disco_manifest_create(workers, &manifest));
  for (int64_t i = 0; i < disco_weights_num_tensors(weights); i++) {
    for (int32_t w = 0; w < workers; w++) {
      disco_shard shard;
      expect_ok(disco_shard_of(weights, plan, i, workers, w, &shard));
      char *memory = malloc(shard.bytes + 1);
      assert_non_null(memory);
      expect_ok(disco_shard_read(weights, &shard, NULL, NULL, memory));
      const uint64_t hash = disco_weights_hash(memory, shard.bytes);
      free(memory);
      expect_ok(disco_manifest_put(manifest, weights, &shard, w, hash ^ (i == wrong && w == workers - 1)));
    }
  }
  expect_ok(disco_manifest_write(manifest, path));
  disco_manifest_destroy(manifest);
  disco_shard_plan_destroy(plan);
  disco_weights_close(weights);
}

static void manifests(void **state) {
  (void)state;
  model self;
  make_model(WRITER_GGUF, &self);
  const char *path = own_path("manifest.json");
  const TVMFFIAny args[] = {any_text(self.path), any_text(self.plan), any_text(path)};
  for (int kind = THREADS; kind <= PROCESSES; kind++) {
    disco_session *session = make_session(kind, 2, false);
    make_manifest(&self, 2, -1, path);
    disco_dref *map = call(session, load_weights, args, 3);
    sync_all(session);
    check_map(session, &self, map);
    disco_dref_unref(map);
    make_manifest(&self, 2, 4, path);
    expect_call_fails(session, "ValueError", self.parts[4].tensor.name, load_weights, args, 3);
    expect_says("raised by worker 1 ");
    make_manifest(&self, 3, -1, path);
    expect_call_fails(session, "ValueError", "3", load_weights, args, 3);
    write_text(path, "[]");
    expect_call_fails(session, "ValueError", "manifest.json", load_weights, args, 3);
    load_and_check(session, &self);
    end_session(session);
  }
}

/* Each tensor alone would fit, all of them do not, and none is touched when it is made: told before a byte is read. */
static void the_whole_part_must_fit(void **state) {
  (void)state;
  model self = {.format = WRITER_SAFETENSORS};
  static const part thirds[] = {{{"one", "U8", 1, {3000000}}, REPLICATE, false, false},
                                {{"two", "U8", 1, {3000000}}, REPLICATE, false, false},
                                {{"three", "U8", 1, {3000000}}, REPLICATE, false, false},
                                {{"none", "U8", 1, {1}}, SKIP, false, false}};
  for (int i = 0; i < 4; i++) add(&self, &thirds[i]);
  (void)snprintf(self.path, sizeof(self.path), "%s", own_path("thirds.safetensors"));
  const writer_model wanted = {.seed = SEED, .num_tensors = 4, .tensors = self.tensors};
  assert_null(writer_write(&wanted, WRITER_SAFETENSORS, self.path));
  make_plan(&self);
  disco_session *session = make_session(THREADS, 2, false);
  const TVMFFIAny args[] = {any_text(self.path), any_text(self.plan)};
  fake_cgroup group;
  fake_cgroup_begin(&group, "100000000\n", "92000000\n");
  expect_call_fails(session, "MemoryError", "this worker's part of the model", load_weights, args, 2);
  fake_cgroup_end(&group);
  load_and_check(session, &self);
  end_session(session);
}

static void without_any_allocation(void **state) {
  (void)state;
  model self;
  make_model(WRITER_TENSOR_CACHE, &self);
  make_manifest(&self, 1, -1, own_path("manifest.json"));
  disco_session *session = make_session(THREADS, 1, false);
  const TVMFFIAny args[] = {any_text(self.path), any_text(self.plan), any_text(own_path("manifest.json"))};
  fail_each_allocation(load_weights, args, 3, 30, session);
  load_and_check(session, &self);
  end_session(session);
}

int main(int argc, char **argv) {
  if (disco_register_function("test.without_memory", without_memory, NULL, NULL, false) != DISCO_OK) return 1;
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_worker(argc, argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gguf),
      cmocka_unit_test(safetensors),
      cmocka_unit_test(safetensors_with_an_index),
      cmocka_unit_test(tensor_cache),
      cmocka_unit_test(a_plan_may_be_a_file),
      cmocka_unit_test(memory_comes_back),
      cmocka_unit_test(a_plan_that_does_not_fit),
      cmocka_unit_test(a_file_that_is_not_there_or_cut),
      cmocka_unit_test(wrong_arguments),
      cmocka_unit_test(manifests),
      cmocka_unit_test(the_whole_part_must_fit),
      cmocka_unit_test(without_any_allocation),
  };
  alarm(110);
  const int failed = cmocka_run_group_tests_name("weights.load", tests, NULL, NULL);
  remove_own_files();
  return failed;
}
