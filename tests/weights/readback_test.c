/* Files of every format and encoding, read back through the library: what is listed, what each worker gets of it, and
 * every value, against what the writer says without the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "disco/weights.h"
#include "weights/writer.h"

enum { SEED = 4711, MAX_TENSORS = 64 };

/* ---- Models ---- */

static const char *const everywhere[] = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64", NULL};
static const char *const not_in_gguf[] = {"U8", "U16", "U32", "U64", "BOOL", "F8_E4M3", "F8_E5M2", NULL};
static const char *const quantised[] = {"Q8_0", "Q4_1", NULL};
static const char *const listed[] = {"Q4_0", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", NULL};

static writer_tensor tensors[MAX_TENSORS];
static char names[MAX_TENSORS][64];
static writer_model model;

static void add(const char *encoding, int32_t ndim, const int64_t *shape) {
  const int32_t i = model.num_tensors++;
  assert_true(i < MAX_TENSORS);
  (void)snprintf(names[i], sizeof(names[i]), "blk.%d.\"%s\" \xc3\xa4", i, encoding);
  tensors[i] = (writer_tensor){.name = names[i], .encoding = encoding, .ndim = ndim};
  if (ndim > 0) memcpy(tensors[i].shape, shape, (size_t)ndim * sizeof(*shape));
}

static void add_all(const char *const *encodings, int32_t ndim, const int64_t *shape) {
  for (; *encodings != NULL; encodings++) add(*encodings, ndim, shape);
}

static void describe(writer_format format) {
  model = (writer_model){.seed = SEED, .tensors = tensors, .has_metadata = true};
  add_all(everywhere, 3, (int64_t[]){3, 5, 7});
  add("F32", 0, NULL);
  add("F16", 2, (int64_t[]){0, 4});
  add("I32", 1, (int64_t[]){1});
  add("F16", 2, (int64_t[]){700, 1100}); /* more than a chunk */
  if (format == WRITER_GGUF) {
    add_all(quantised, 3, (int64_t[]){3, 5, 96});
    add("Q8_0", 2, (int64_t[]){200, 4096});
    add_all(listed, 2, (int64_t[]){2, 512});
    return;
  }
  add_all(not_in_gguf, 2, (int64_t[]){4, 9});
  add("I8", 8, (int64_t[]){2, 1, 3, 1, 2, 1, 2, 3});
  if (format == WRITER_TENSOR_CACHE) add("f32-to-bf16", 2, (int64_t[]){600, 777});
}

static bool is_one_of(const char *name, const char *const *list) {
  for (; *list != NULL; list++)
    if (strcmp(name, *list) == 0) return true;
  return false;
}

static char folder[] = "/tmp/disco-weights-XXXXXX", path[256];

static disco_weights *write_and_open(writer_format format) {
  disco_weights *weights = NULL;
  (void)snprintf(path, sizeof(path), "%s/model-%d", folder, (int)format);
  const char *wrong = writer_write(&model, format, path);
  if (wrong != NULL) fail_msg("%s", wrong);
  if (disco_weights_open(path, &weights) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  return weights;
}

/* ---- What is listed ---- */

static int64_t count_of(const writer_tensor *tensor) {
  int64_t count = 1;
  for (int32_t d = 0; d < tensor->ndim; d++) count *= tensor->shape[d];
  return count;
}

static void check_listed(const disco_weights *weights, const writer_tensor *tensor) {
  const writer_encoding *encoding = writer_find_encoding(tensor->encoding);
  const int64_t index = disco_weights_find(weights, tensor->name);
  assert_true(index >= 0);
  const disco_weights_tensor *found = disco_weights_tensor_at(weights, index);
  const uint64_t bytes = (uint64_t)(count_of(tensor) / encoding->block_elements) * (uint64_t)encoding->block_bytes;
  assert_string_equal(found->name, tensor->name);
  assert_int_equal(found->ndim, tensor->ndim);
  for (int32_t d = 0; d < tensor->ndim; d++) assert_int_equal(found->shape[d], tensor->shape[d]);
  assert_int_equal(found->bytes, bytes);
  assert_int_equal(found->block_elements, encoding->block_elements);
  assert_int_equal(found->block_bytes, encoding->block_bytes);
  assert_int_equal(found->is_block_quantised, encoding->block_elements > 1);
  assert_int_equal(found->dtype.bits == 0, is_one_of(tensor->encoding, listed));
  if (strcmp(disco_weights_format(weights), "tensor-cache") != 0) assert_string_equal(found->encoding, encoding->name);
}

/* ---- Values ---- */

/* A slice of a tensor in units: blocks, where it is read as them, else elements. */
typedef struct {
  const writer_tensor *tensor;
  const writer_encoding *encoding;
  bool is_decoded;
  int32_t axis; /* -1: whole */
  int64_t shape[WRITER_MAX_NDIM], first, count;
} slice;

/* The index in the tensor of the slice's i-th unit. */
static int64_t whole_index(const slice *it, int64_t i) {
  int64_t index = 0, stride = 1;
  for (int32_t d = it->tensor->ndim - 1; d >= 0; d--) {
    const int64_t size = d == it->axis ? it->count : it->shape[d];
    index += (i % size + (d == it->axis ? it->first : 0)) * stride;
    stride *= it->shape[d];
    i /= size;
  }
  return index;
}

static void check_values(const slice *it, const unsigned char *memory, uint64_t bytes) {
  const size_t unit = it->is_decoded ? sizeof(float) : (size_t)it->encoding->block_bytes;
  const uint64_t key = writer_key(SEED, it->tensor->name);
  assert_int_equal(bytes % unit, 0);
  for (int64_t i = 0; i < (int64_t)(bytes / unit); i++) {
    unsigned char expected[WRITER_MAX_BLOCK_BYTES];
    const int64_t index = whole_index(it, i);
    if (it->is_decoded) {
      const float value = writer_float(SEED, it->tensor->name, it->encoding, index);
      memcpy(expected, &value, sizeof(value));
    } else {
      writer_fill(key, it->encoding, index, 1, expected);
    }
    if (memcmp(memory + (size_t)i * unit, expected, unit) != 0)
      fail_msg("%s: unit %lld of %lld is wrong", it->tensor->name, (long long)i, (long long)(bytes / unit));
  }
}

static bool becomes_float(const char *encoding, bool decode) {
  static const char *const can[] = {"F16", "BF16", "Q8_0", "Q4_1", NULL};
  return strcmp(encoding, "f32-to-bf16") == 0 || (decode && is_one_of(encoding, can));
}

/* Returns the elements of the axis that the worker has. */
static int64_t check_worker(const disco_weights *weights, const disco_shard_plan *plan, const writer_tensor *tensor,
                            int32_t axis, bool decode, int32_t workers, int32_t worker) {
  slice it = {.tensor = tensor, .encoding = writer_find_encoding(tensor->encoding), .axis = axis};
  disco_shard shard;
  if (disco_shard_of(weights, plan, disco_weights_find(weights, tensor->name), workers, worker, &shard) != DISCO_OK)
    fail_msg("%s", disco_last_error_text());
  it.is_decoded = becomes_float(tensor->encoding, decode);
  assert_int_equal(shard.is_decoded, it.is_decoded);
  assert_int_equal(shard.axis, axis);
  memcpy(it.shape, tensor->shape, sizeof(it.shape));
  it.first = shard.first, it.count = shard.count;
  if (!it.is_decoded && tensor->ndim > 0) {
    it.shape[tensor->ndim - 1] /= it.encoding->block_elements;
    if (axis == tensor->ndim - 1) it.first /= it.encoding->block_elements, it.count /= it.encoding->block_elements;
  }
  unsigned char *memory = malloc((size_t)shard.bytes + 1); /* not one byte more: sanitizers look */
  assert_non_null(memory);
  memory[shard.bytes] = 0x5a;
  if (disco_shard_read(weights, &shard, NULL, NULL, memory) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  check_values(&it, memory, shard.bytes);
  assert_int_equal(memory[shard.bytes], 0x5a);
  free(memory);
  return shard.count;
}

static void check_tensor(const disco_weights *weights, const writer_tensor *tensor, int32_t axis, bool decode) {
  char text[128];
  disco_shard_plan *plan = NULL;
  const int size =
      axis < 0 ? snprintf(text, sizeof(text), "{\"rules\": [{\"match\": \"*\", \"replicate\": true, \"decode\": %s}]}",
                          decode ? "true" : "false")
               : snprintf(text, sizeof(text),
                          "{\"rules\": [{\"match\": \"*\", \"axis\": %d, \"uneven\": true, \"decode\": %s}]}", axis,
                          decode ? "true" : "false");
  if (disco_shard_plan_parse(text, (size_t)size, &plan) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  for (int32_t workers = 1; workers <= (axis < 0 ? 1 : 4); workers++) {
    int64_t sum = 0;
    for (int32_t w = 0; w < workers; w++) sum += check_worker(weights, plan, tensor, axis, decode, workers, w);
    if (axis >= 0) assert_int_equal(sum, tensor->shape[axis]);
  }
  disco_shard_plan_destroy(plan);
}

static void check_refused(const disco_weights *weights, const writer_tensor *tensor) {
  static const char text[] = "{\"rules\": [{\"match\": \"*\", \"replicate\": true}]}";
  disco_shard_plan *plan = NULL;
  disco_shard shard;
  assert_int_equal(disco_shard_plan_parse(text, strlen(text), &plan), DISCO_OK);
  assert_int_equal(disco_shard_of(weights, plan, disco_weights_find(weights, tensor->name), 1, 0, &shard), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), tensor->encoding));
  assert_non_null(strstr(disco_last_error_text(), tensor->name));
  disco_shard_plan_destroy(plan);
}

static void check_model(writer_format format) {
  disco_weights *weights = write_and_open(format);
  assert_int_equal(disco_weights_num_tensors(weights), model.num_tensors);
  assert_true(disco_weights_num_metadata(weights) >= 3);
  for (int32_t i = 0; i < model.num_tensors; i++) {
    check_listed(weights, &tensors[i]);
    if (is_one_of(tensors[i].encoding, listed)) {
      check_refused(weights, &tensors[i]);
      continue;
    }
    for (int32_t axis = -1; axis < tensors[i].ndim; axis++) {
      check_tensor(weights, &tensors[i], axis, false);
      if (becomes_float(tensors[i].encoding, true)) check_tensor(weights, &tensors[i], axis, true);
    }
  }
  disco_weights_close(weights);
}

/* ---- Tests ---- */

static void test_gguf(void **state) {
  (void)state;
  describe(WRITER_GGUF);
  check_model(WRITER_GGUF);
}

static void test_gguf_2_and_alignments(void **state) {
  (void)state;
  for (uint32_t alignment = 8; alignment <= 4096; alignment *= 8) {
    describe(WRITER_GGUF);
    model.gguf_version = 2;
    model.alignment = alignment;
    disco_weights *weights = write_and_open(WRITER_GGUF);
    for (int32_t i = 0; i < model.num_tensors; i++) {
      check_listed(weights, &tensors[i]);
      assert_int_equal(disco_weights_tensor_at(weights, i)->offset % alignment, 0);
      if (!is_one_of(tensors[i].encoding, listed)) check_tensor(weights, &tensors[i], -1, true);
    }
    disco_weights_close(weights);
  }
}

static void test_safetensors(void **state) {
  (void)state;
  describe(WRITER_SAFETENSORS);
  check_model(WRITER_SAFETENSORS);
}

static void test_safetensors_index(void **state) {
  (void)state;
  describe(WRITER_SAFETENSORS_INDEX);
  model.num_files = 3;
  check_model(WRITER_SAFETENSORS_INDEX);
}

static void test_tensor_cache(void **state) {
  (void)state;
  describe(WRITER_TENSOR_CACHE);
  model.num_files = 4;
  check_model(WRITER_TENSOR_CACHE);
}

static void test_a_model_without_tensors(void **state) {
  (void)state;
  for (writer_format format = WRITER_GGUF; format <= WRITER_TENSOR_CACHE; format++) {
    model = (writer_model){.tensors = tensors};
    disco_weights *weights = write_and_open(format);
    assert_int_equal(disco_weights_num_tensors(weights), 0);
    assert_null(disco_weights_tensor_at(weights, 0));
    assert_int_equal(disco_weights_find(weights, "x"), -1);
    disco_weights_close(weights);
  }
}

static void expect_metadata(const disco_weights *weights, const char *key, const char *json) {
  const char *found = disco_weights_metadata(weights, key);
  if (found == NULL) fail_msg("no metadata %s", key);
  assert_string_equal(found, json);
}

static void test_metadata(void **state) {
  (void)state;
  describe(WRITER_GGUF);
  disco_weights *weights = write_and_open(WRITER_GGUF);
  expect_metadata(weights, "general.architecture", "\"random\"");
  expect_metadata(weights, "test.u8", "200");
  expect_metadata(weights, "test.i8", "-100");
  expect_metadata(weights, "test.u16", "60000");
  expect_metadata(weights, "test.i16", "-30000");
  expect_metadata(weights, "test.u32", "4000000000");
  expect_metadata(weights, "test.i32", "-2000000000");
  expect_metadata(weights, "test.u64", "18446744073709551615");
  expect_metadata(weights, "test.i64", "-9223372036854775808");
  expect_metadata(weights, "test.bool", "true");
  expect_metadata(weights, "test.array", "[1, 0, -1]");
  expect_metadata(weights, "test.nested", "[[0], [0, 1]]");
  expect_metadata(weights, "test.empty", "[]");
  assert_true(strtof(disco_weights_metadata(weights, "test.f32"), NULL) == 0.1f);
  assert_true(strtod(disco_weights_metadata(weights, "test.f64"), NULL) == -1e-300);
  assert_null(disco_weights_metadata(weights, "test"));
  disco_weights_close(weights);
  describe(WRITER_TENSOR_CACHE);
  weights = write_and_open(WRITER_TENSOR_CACHE);
  expect_metadata(weights, "test.list", "[1, [2.5, null], \"three\", true]");
  disco_weights_close(weights);
}

static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
  char command[300];
  (void)state;
  (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_gguf),         cmocka_unit_test(test_gguf_2_and_alignments),
      cmocka_unit_test(test_safetensors),  cmocka_unit_test(test_safetensors_index),
      cmocka_unit_test(test_tensor_cache), cmocka_unit_test(test_a_model_without_tensors),
      cmocka_unit_test(test_metadata),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
