/* safetensors: what is taken and listed, each rule of the format broken once, and the index of a model in several
 * files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "weights/model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

/* A file with this header and so many bytes behind it, in memory that ends where it ends (free()). */
static char *file_of(const char *header, size_t data_bytes, size_t *ret_size) {
  const size_t length = strlen(header);
  char *bytes = calloc(1, 8 + length + data_bytes);
  assert_non_null(bytes);
  for (int i = 0; i < 8; i++) bytes[i] = (char)((uint64_t)length >> (8 * i));
  memcpy(bytes + 8, header, length);
  *ret_size = 8 + length + data_bytes;
  return bytes;
}

static disco_status read_bytes(const char *bytes, size_t size, disco_weights **ret_model) {
  dsc_source source;
  disco_weights *model = NULL;
  int32_t file;
  dsc_source_of_memory("a.safetensors", bytes, size, &source);
  disco_status status = dsc_model_create("safetensors", &model);
  if (status == DISCO_OK) status = dsc_model_add_file(model, "a.safetensors", size, &file);
  if (status == DISCO_OK) status = dsc_safetensors_read(&source, file, model);
  if (status == DISCO_OK) status = dsc_model_seal(model, false);
  if (status == DISCO_OK && ret_model != NULL) {
    *ret_model = model;
  } else {
    dsc_model_destroy(model);
  }
  return status;
}

static disco_status read_header(const char *header, size_t data_bytes, disco_weights **ret_model) {
  size_t size;
  char *bytes = file_of(header, data_bytes, &size);
  disco_status status = read_bytes(bytes, size, ret_model);
  free(bytes);
  return status;
}

static void lists_tensors_in_file_order(void **state) {
  (void)state;
  disco_weights *model = NULL;
  const char header[] = "{\"late\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [8, 20]},"
                        "\"early\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8], \"unknown\": 1},"
                        "\"none\":{\"dtype\":\"I8\",\"shape\":[4,0],\"data_offsets\":[8,8]},"
                        "\"__metadata__\":{\"format\":\"pt\",\"text\":\"a\\\"\\u00e4\\n\"}}   ";
  if (read_header(header, 20, &model) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_int_equal(dsc_model_count(model), 3);
  const disco_weights_tensor *early = &dsc_model_weight(model, 0)->view, *none = &dsc_model_weight(model, 1)->view,
                             *late = &dsc_model_weight(model, 2)->view;
  assert_string_equal(early->name, "early");
  assert_string_equal(early->encoding, "F64");
  assert_int_equal(early->ndim, 0);
  assert_int_equal(early->offset, 8 + strlen(header));
  assert_int_equal(early->bytes, 8);
  assert_string_equal(none->name, "none");
  assert_int_equal(none->bytes, 0);
  assert_string_equal(late->name, "late");
  assert_int_equal(late->dtype.code, kDLBfloat);
  assert_true(late->ndim == 2 && late->shape[0] == 2 && late->shape[1] == 3);
  assert_int_equal(late->offset, 8 + strlen(header) + 8);
  assert_int_equal(late->bytes, 12);
  assert_string_equal(late->file, "a.safetensors");
  assert_string_equal(dsc_model_metadata(model, "format"), "\"pt\"");
  assert_string_equal(dsc_model_metadata(model, "text"), "\"a\\\"\xc3\xa4\\n\"");
  assert_int_equal(dsc_model_num_metadata(model), 2);
  dsc_model_destroy(model);
}

static void empty_and_unreadable(void **state) {
  (void)state;
  disco_weights *model = NULL;
  assert_int_equal(read_header("{}", 0, &model), DISCO_OK);
  assert_int_equal(dsc_model_count(model), 0);
  dsc_model_destroy(model);
  /* A type that nobody knows, and one whose rows end within a byte: listed, with the bytes that the file says. */
  const char header[] = "{\"new\": {\"dtype\": \"F3_E1\", \"shape\": [7], \"data_offsets\": [0, 5]},"
                        "\"four\": {\"dtype\": \"F4\", \"shape\": [4, 3], \"data_offsets\": [5, 11]}}";
  if (read_header(header, 11, &model) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  for (int64_t i = 0; i < 2; i++) assert_int_equal(dsc_model_weight(model, i)->view.dtype.bits, 0);
  assert_string_equal(dsc_model_weight(model, 0)->view.encoding, "F3_E1");
  assert_string_equal(dsc_model_weight(model, 1)->view.encoding, "F4");
  dsc_model_destroy(model);
}

static void each_rule_of_a_tensor(void **state) {
  (void)state;
#define TENSOR(dtype, shape, offsets) \
  "{\"t\": {\"dtype\": " dtype ", \"shape\": " shape ", \"data_offsets\": " offsets "}}"
  static const struct {
    const char *header;
    size_t data;
    const char *words;
  } cases[] = {
      {TENSOR("\"F32\"", "[2]", "[0, 8]"), 9, "the last tensor ends after 8 of 9 bytes"},
      {TENSOR("\"F32\"", "[2]", "[0, 8]"), 7, "bytes [0, 8) of its data: the file ends before it does: was it cut?"},
      {TENSOR("\"F32\"", "[2]", "[1, 9]"), 9, "bytes in front of it belong to no tensor"},
      {TENSOR("\"F32\"", "[2]", "[8, 0]"), 8, "ends before it begins"},
      {TENSOR("\"F32\"", "[2]", "[0, 9223372036854775807]"), 8, "the file ends before"},
      {TENSOR("\"F32\"", "[2]", "[0, 9223372036854775808]"), 8, "too big integer"},
      {TENSOR("\"F32\"", "[2]", "[0]"), 8, "\"data_offsets\" of tensor \"t\" of a.safetensors has 1 values"},
      {TENSOR("\"F32\"", "[2]", "[0, 8, 8]"), 8, "at most 2 integers"},
      {TENSOR("\"F32\"", "[2]", "[0, 8.0]"), 8, "not 8, which is no integer"},
      {TENSOR("\"F32\"", "[2]", "[-0, -8]"), 8, "not -8"},
      {TENSOR("\"F32\"", "[3]", "[0, 8]"), 8, "shape [3] of F32 takes 12 bytes, not 8"},
      {TENSOR("\"F32\"", "[-2]", "[0, 8]"), 8, "not -2"},
      {TENSOR("\"F32\"", "[4294967296, 4294967296]", "[0, 8]"), 8, "more than 2^63"},
      {TENSOR("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0, 8]"), 8, "at most 8 integers"},
      {TENSOR("\"F32\"", "2", "[0, 8]"), 8, "\"shape\" of tensor \"t\""},
      {TENSOR("32", "[2]", "[0, 8]"), 8, "\"dtype\" of tensor \"t\" of a.safetensors must be a string, not 32"},
      {TENSOR("\"F4\"", "[3]", "[0, 2]"), 2, "do not fill whole bytes"},
      {TENSOR("\"F4\"", "[4]", "[0, 3]"), 3, "another number of bytes"},
      {"{\"t\": {\"dtype\": \"F32\", \"shape\": [2]}}", 0, "has no \"data_offsets\""},
      {"{\"t\": {\"shape\": [2], \"data_offsets\": [0, 8]}}", 8, "has no \"dtype\""},
      {"{\"t\": {\"dtype\": \"F32\", \"data_offsets\": [0, 8]}}", 8, "has no \"shape\""},
      {"{\"t\": 5}", 0, "has no \"data_offsets\""},
      {"{\"\": {\"dtype\": \"I8\", \"shape\": [], \"data_offsets\": [0, 1]}}", 1, "must have a name"},
      {"{\"a\": {\"dtype\": \"I8\", \"shape\": [2], \"data_offsets\": [0, 2]},"
       "\"b\": {\"dtype\": \"I8\", \"shape\": [2], \"data_offsets\": [1, 3]}}",
       3, "tensor \"b\" of a.safetensors, bytes [1, 3) of its data: it overlaps"},
      {"{\"a\": {\"dtype\": \"I8\", \"shape\": [2], \"data_offsets\": [0, 2]},"
       "\"a\": {\"dtype\": \"I8\", \"shape\": [2], \"data_offsets\": [2, 4]}}",
       4, "duplicate"},
      {"{\"__metadata__\": {\"a\": 1}}", 0, "\"a\" of \"__metadata__\" must be a string"},
      {"{\"__metadata__\": [\"a\"]}", 0, "must be an object"},
      {" {}", 0, "begins with '{', byte 8 of this file is 0x20"},
      {"[]", 0, "begins with '{'"},
      {"{} x", 0, "end of file"},
      {"", 5, "begins with '{'"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    if (read_header(cases[i].header, cases[i].data, NULL) != DISCO_VALUE) fail_msg("taken: %s", cases[i].header);
    expect_says(cases[i].words);
    expect_says("a.safetensors");
  }
}

static disco_status fail_past_8(void *context, uint64_t offset, void *to, size_t bytes) {
  if (offset + bytes > 8) fail_msg("%zu bytes were read from %llu on", bytes, (unsigned long long)offset);
  memcpy(to, context, bytes);
  return DISCO_OK;
}

static void lengths_of_headers(void **state) {
  (void)state;
  char head[8] = {0};
  for (size_t size = 0; size < 8; size++) assert_int_equal(read_bytes(head, size, NULL), DISCO_VALUE);
  expect_says("too short");
  static const uint64_t lengths[] = {100000001, UINT64_MAX, UINT64_MAX - 7, 93, 100};
  for (size_t i = 0; i < COUNT(lengths); i++) { /* nothing is allocated or read for them */
    disco_weights *model = NULL;
    int32_t file;
    for (int k = 0; k < 8; k++) head[k] = (char)(lengths[i] >> (8 * k));
    const dsc_source source = {"a.safetensors", 100, fail_past_8, head};
    assert_int_equal(dsc_model_create("safetensors", &model), DISCO_OK);
    assert_int_equal(dsc_model_add_file(model, "a.safetensors", 100, &file), DISCO_OK);
    assert_int_equal(dsc_safetensors_read(&source, file, model), DISCO_VALUE);
    expect_says(lengths[i] > 100000000 ? "the format's limit is 100000000" : "in a file of 100 bytes");
    dsc_model_destroy(model);
  }
}

static void no_memory_at_any_point(void **state) {
  (void)state;
  const char header[] =
      "{\"a\": {\"dtype\": \"F99\", \"shape\": [2], \"data_offsets\": [0, 2]},"
      "\"b\": {\"dtype\": \"I8\", \"shape\": [2], \"data_offsets\": [2, 4]}, \"__metadata__\": {\"k\": \"v\"}}";
  disco_status status = DISCO_MEMORY;
  long n = 0;
  while (status != DISCO_OK) {
    (void)dsc_inject_fail_allocation(++n);
    status = read_header(header, 4, NULL);
    (void)dsc_inject_fail_allocation(0);
    assert_true(status == DISCO_OK || status == DISCO_MEMORY);
  }
  assert_true(n > 10);
}

/* ---- The index ---- */

static char folder[64];

static const char *path_of(const char *name) {
  static char path[128];
  (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
  return path;
}

static void write_file(const char *name, const void *bytes, size_t size) {
  FILE *file = fopen(path_of(name), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
}

static void write_part(const char *name, const char *header, size_t data_bytes) {
  size_t size;
  char *bytes = file_of(header, data_bytes, &size);
  write_file(name, bytes, size);
  free(bytes);
}

static int make_parts(void **state) {
  (void)state;
  (void)snprintf(folder, sizeof(folder), "/tmp/disco-index-XXXXXX");
  if (mkdtemp(folder) == NULL) return -1;
  write_part("1.safetensors",
             "{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]},"
             "\"b\": {\"dtype\": \"I8\", \"shape\": [3], \"data_offsets\": [8, 11]}, "
             "\"__metadata__\": {\"format\": \"pt\"}}",
             11);
  write_part("2.safetensors",
             "{\"c\": {\"dtype\": \"F16\", \"shape\": [2], \"data_offsets\": [0, 4]},"
             "\"__metadata__\": {\"format\": \"pt\", \"more\": \"x\"}}",
             4);
  return 0;
}

static int remove_parts(void **state) {
  (void)state;
  static const char *const names[] = {"1.safetensors", "2.safetensors", "index"};
  for (size_t i = 0; i < COUNT(names); i++) (void)unlink(path_of(names[i]));
  return rmdir(folder);
}

static disco_status read_index(const char *json, disco_weights **ret_model) {
  dsc_source source;
  disco_weights *model = NULL;
  char path[128];
  (void)snprintf(path, sizeof(path), "%s", path_of("model.safetensors.index.json"));
  dsc_source_of_memory(path, json, strlen(json), &source);
  disco_status status = dsc_model_read(&source, &model);
  if (status == DISCO_OK && ret_model != NULL) {
    *ret_model = model;
  } else {
    dsc_model_destroy(model);
  }
  return status;
}

static const char good_index[] =
    "{\"metadata\": {\"total_size\": 15}, \"weight_map\": {\"c\": \"2.safetensors\", \"a\": \"1.safetensors\", "
    "\"b\": \"1.safetensors\"}}";

static void an_index_joins_files(void **state) {
  (void)state;
  disco_weights *model = NULL;
  if (read_index(good_index, &model) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_int_equal(dsc_model_count(model), 3);
  assert_int_equal(dsc_model_find(model, "c"), 0);
  assert_int_equal(dsc_model_find(model, "a"), 1);
  assert_int_equal(dsc_model_find(model, "b"), 2);
  assert_string_equal(dsc_model_weight(model, 0)->view.file, path_of("2.safetensors"));
  assert_string_equal(dsc_model_weight(model, 2)->view.file, path_of("1.safetensors"));
  assert_string_equal(dsc_model_metadata(model, "total_size"), "15");
  assert_string_equal(dsc_model_metadata(model, "format"), "\"pt\"");
  assert_string_equal(dsc_model_metadata(model, "more"), "\"x\"");
  dsc_model_destroy(model);
}

static void what_an_index_may_not_say(void **state) {
  (void)state;
  static const struct {
    const char *map, *words;
  } cases[] = {
      {"\"a\": \"1.safetensors\", \"b\": \"1.safetensors\", \"c\": \"1.safetensors\"",
       "tensor \"c\" is in \"1.safetensors\", which has none of that name"},
      {"\"a\": \"1.safetensors\", \"b\": \"1.safetensors\", \"d\": \"2.safetensors\", \"c\": \"2.safetensors\"",
       "tensor \"d\" is in \"2.safetensors\", which has none"},
      {"\"a\": \"1.safetensors\"", "tensor \"b\" is in"},
      {"\"a\": \"1.safetensors\", \"b\": \"./1.safetensors\"", "tensor \"b\" is in"},
      {"\"a\": \"../1.safetensors\"", "leaves the folder"},
      {"\"a\": \"/tmp/1.safetensors\"", "an absolute path"},
      {"\"a\": 1", "the file of tensor \"a\" must be a string"},
      {"\"a\": \"1.safetensors\\u0000\"", "u0000"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    char json[512];
    (void)snprintf(json, sizeof(json), "{\"weight_map\": {%s}}", cases[i].map);
    if (read_index(json, NULL) != DISCO_VALUE) fail_msg("taken: %s", json);
    expect_says(cases[i].words);
    expect_says("index.json");
  }
  assert_int_equal(read_index("{\"weight_map\": {\"a\": \"3.safetensors\"}}", NULL), DISCO_RUNTIME);
  expect_says("model.safetensors.index.json needs the file \"3.safetensors\": cannot open ");
  assert_int_equal(read_index("{\"weight_map\": []}", NULL), DISCO_VALUE);
  expect_says("no object \"weight_map\"");
  assert_int_equal(read_index("{}", NULL), DISCO_VALUE);
  assert_int_equal(read_index("[]", NULL), DISCO_VALUE);
}

static void an_index_without_memory(void **state) {
  (void)state;
  disco_status status = DISCO_MEMORY;
  long n = 0;
  while (status != DISCO_OK) { /* descriptors and reads fail, too */
    (void)dsc_inject_fail_allocation(++n);
    status = read_index(good_index, NULL);
    (void)dsc_inject_fail_allocation(0);
    assert_true(status == DISCO_OK || status == DISCO_MEMORY || status == DISCO_RUNTIME);
  }
  assert_true(n > 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lists_tensors_in_file_order),
      cmocka_unit_test(empty_and_unreadable),
      cmocka_unit_test(each_rule_of_a_tensor),
      cmocka_unit_test(lengths_of_headers),
      cmocka_unit_test(no_memory_at_any_point),
      cmocka_unit_test_setup_teardown(an_index_joins_files, make_parts, remove_parts),
      cmocka_unit_test_setup_teardown(what_an_index_may_not_say, make_parts, remove_parts),
      cmocka_unit_test_setup_teardown(an_index_without_memory, make_parts, remove_parts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
