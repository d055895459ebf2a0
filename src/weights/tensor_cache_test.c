/* tensor-cache.json: what is listed, and every member wrong once. The files beside it are real ones. */
#include <fcntl.h>
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

static char folder[64];

static const char *path_of(const char *name) {
  static char path[128];
  (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
  return path;
}

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

static int make_file(const char *name, off_t bytes) {
  int fd = open(path_of(name), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  int result = fd >= 0 ? ftruncate(fd, bytes) : -1;
  if (fd >= 0) close(fd);
  return result;
}

static int make_shards(void **state) {
  (void)state;
  (void)snprintf(folder, sizeof(folder), "/tmp/disco-cache-XXXXXX");
  if (mkdtemp(folder) == NULL) return -1;
  return make_file("params_shard_0.bin", 28) != 0 || make_file("params_shard_1.bin", 8) != 0 ? -1 : 0;
}

static int remove_shards(void **state) {
  (void)state;
  (void)unlink(path_of("params_shard_0.bin"));
  (void)unlink(path_of("params_shard_1.bin"));
  return rmdir(folder);
}

static disco_status read_cache(const char *json, disco_weights **ret_model) {
  dsc_source source;
  disco_weights *model = NULL;
  char path[128];
  (void)snprintf(path, sizeof(path), "%s", path_of("tensor-cache.json"));
  dsc_source_of_memory(path, json, strlen(json), &source);
  disco_status status = dsc_model_read(&source, &model);
  if (status == DISCO_OK && ret_model != NULL) {
    *ret_model = model;
  } else {
    dsc_model_destroy(model);
  }
  return status;
}

/* As TVM writes it: the format stands at every tensor, integers too. */
static const char good[] =
    "{\"metadata\": {\"ParamSize\": 3, \"BitsPerParam\": 16.5, \"by\": [\"a\", null]},"
    " \"records\": [{\"dataPath\": \"params_shard_0.bin\", \"format\": \"raw-shard\", \"nbytes\": 28, \"records\": ["
    "{\"name\": \"param_0\", \"shape\": [2, 3], \"dtype\": \"float32\", \"format\": \"f32-to-bf16\", \"nbytes\": 12, "
    "\"byteOffset\": 0},"
    "{\"name\": \"param_1\", \"shape\": [2], \"dtype\": \"int32\", \"format\": \"f32-to-bf16\", \"nbytes\": 8, "
    "\"byteOffset\": 12},"
    "{\"name\": \"param_2\", \"shape\": [1, 2], \"dtype\": \"float32\", \"format\": \"raw\", \"nbytes\": 8, "
    "\"byteOffset\": 20}], \"md5sum\": \"wrong\"},"
    " {\"dataPath\": \"params_shard_1.bin\", \"format\": \"raw-shard\", \"nbytes\": 8, \"records\": ["
    "{\"name\": \"odd\", \"shape\": [5], \"dtype\": \"float5\", \"format\": \"raw\", \"nbytes\": 4, \"byteOffset\": 0},"
    "{\"name\": \"zip\", \"shape\": [5], \"dtype\": \"int8\", \"format\": \"zip\", \"nbytes\": 4, \"byteOffset\": 4}"
    "]}]}";

static void lists_in_record_order(void **state) {
  (void)state;
  disco_weights *model = NULL;
  if (read_cache(good, &model) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_int_equal(dsc_model_count(model), 5);
  static const struct {
    const char *name, *encoding;
    uint8_t code, bits;
    uint64_t offset, bytes;
    int32_t block_bytes;
  } expected[] = {
      {"param_0", "f32-to-bf16", kDLFloat, 32, 0, 12, 2}, {"param_1", "int32", kDLInt, 32, 12, 8, 4},
      {"param_2", "float32", kDLFloat, 32, 20, 8, 4},     {"odd", "float5/raw", kDLOpaqueHandle, 0, 0, 4, 0},
      {"zip", "int8/zip", kDLOpaqueHandle, 0, 4, 4, 0},
  };
  for (size_t i = 0; i < COUNT(expected); i++) {
    const dsc_weight *weight = dsc_model_weight(model, (int64_t)i);
    assert_string_equal(weight->view.name, expected[i].name);
    assert_string_equal(weight->view.encoding, expected[i].encoding);
    assert_int_equal(weight->view.dtype.code, expected[i].code);
    assert_int_equal(weight->view.dtype.bits, expected[i].bits);
    assert_int_equal(weight->view.offset, expected[i].offset);
    assert_int_equal(weight->view.bytes, expected[i].bytes);
    assert_int_equal(weight->view.block_bytes, expected[i].block_bytes);
    assert_string_equal(weight->view.file, path_of(i < 3 ? "params_shard_0.bin" : "params_shard_1.bin"));
    assert_false(weight->view.is_block_quantised);
  }
  assert_non_null(dsc_model_weight(model, 0)->encoding->decode);
  assert_null(dsc_model_weight(model, 1)->encoding->decode); /* an integer stays what it is */
  assert_null(dsc_model_weight(model, 2)->encoding->decode);
  assert_string_equal(dsc_model_metadata(model, "ParamSize"), "3");
  assert_string_equal(dsc_model_metadata(model, "BitsPerParam"), "16.5");
  assert_string_equal(dsc_model_metadata(model, "by"), "[\"a\", null]");
  dsc_model_destroy(model);
}

static void metadata_of_any_kind(void **state) {
  (void)state;
  static const char *const values[] = {"5", "[1]", "null", "\"x\""};
  for (size_t i = 0; i < COUNT(values); i++) {
    char json[128];
    disco_weights *model = NULL;
    (void)snprintf(json, sizeof(json), "{\"metadata\": %s, \"records\": []}", values[i]);
    assert_int_equal(read_cache(json, &model), DISCO_OK);
    assert_string_equal(dsc_model_metadata(model, "metadata"), values[i]);
    assert_int_equal(dsc_model_count(model), 0);
    dsc_model_destroy(model);
  }
  assert_int_equal(read_cache("{\"records\": []}", NULL), DISCO_OK);
}

/* `good` with the first `from` replaced by `to`. */
static disco_status read_changed(const char *from, const char *to) {
  char json[sizeof(good) + 256];
  const char *at = strstr(good, from);
  assert_non_null(at);
  (void)snprintf(json, sizeof(json), "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
  return read_cache(json, NULL);
}

static void each_member_wrong_once(void **state) {
  (void)state;
  static const struct {
    const char *from, *to, *words;
  } cases[] = {
      {"\"format\": \"raw-shard\"", "\"format\": \"zip\"", "file 0 of"},
      {"\"format\": \"raw-shard\"", "\"format\": 1", "\"format\" of file 0 of"},
      {"\"dataPath\": \"params_shard_0.bin\"", "\"x\": 1", "has no \"dataPath\""},
      {"params_shard_0.bin", "../params_shard_0.bin", "leaves the folder"},
      {"params_shard_0.bin", "/etc/passwd", "an absolute path"},
      {"params_shard_0.bin", "", "an empty name"},
      {"params_shard_0.bin", "params_shard_1.bin", "has 8 bytes;"},
      {"\"nbytes\": 28", "\"nbytes\": 27", "has 28 bytes;"},
      {"\"nbytes\": 28", "\"nbytes\": \"28\"", "\"nbytes\" of file 0 of"},
      {"\"name\": \"param_0\"", "\"name\": 0", "\"name\" of record 0 of file 0"},
      {"\"name\": \"param_1\"", "\"name\": \"param_0\"", "one of that name already"},
      {"\"name\": \"param_1\"", "\"name\": \"\"", "must have a name"},
      {"\"shape\": [2, 3]", "\"shape\": [3, 3]", "takes 18 bytes, not 12"},
      {"\"shape\": [2, 3]", "\"shape\": [2, -3]", "value 1 of \"shape\" of record 0"},
      {"\"shape\": [2, 3]", "\"shape\": 6", "\"shape\" of record 0"},
      {"\"shape\": [2, 3]", "\"shape\": [4611686018427387904, 2, 0]", "more than 2^63"},
      {"\"dtype\": \"float32\"", "\"dtype\": null", "\"dtype\" of record 0"},
      {"\"dtype\": \"float32\"", "\"dtype\": \"float64\"", "takes 48 bytes"},
      {"\"format\": \"f32-to-bf16\"", "\"format\": \"raw\"", "takes 24 bytes, not 12"},
      {"\"format\": \"f32-to-bf16\"", "\"format\": []", "\"format\" of record 0"},
      {"\"nbytes\": 12", "\"nbytes\": 13", "takes 12 bytes, not 13"},
      {"\"nbytes\": 12", "\"nbytes\": -12", "not -12"},
      {"\"byteOffset\": 0", "\"byteOffset\": 17", "the file ends after 28 bytes"},
      {"\"byteOffset\": 0", "\"byteOffset\": 9223372036854775807", "the file ends after 28 bytes"},
      {"\"byteOffset\": 0", "\"byteOffset\": 1", "overlap"},
      {"\"byteOffset\": 0", "\"x\": 0", "has no \"byteOffset\""},
      {"\"nbytes\": 28, \"records\": [", "\"nbytes\": 28, \"records\": [5, ", "record 0 of file 0"},
      {"\"nbytes\": 28, \"records\"", "\"nbytes\": 28, \"x\"", "no array \"records\" of its tensors"},
      {"\"records\": [", "\"records\": [[], ", "file 0 of"},
      {"\"records\": [", "\"records\": 1, \"x\": [", "no array \"records\" of files"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    if (read_changed(cases[i].from, cases[i].to) != DISCO_VALUE) fail_msg("taken: %s", cases[i].to);
    expect_says(cases[i].words);
    expect_says(folder);
  }
  assert_int_equal(read_changed("params_shard_1.bin", "params_shard_2.bin"), DISCO_RUNTIME);
  expect_says("tensor-cache.json needs the file \"params_shard_2.bin\": cannot open ");
  assert_int_equal(read_cache("[]", NULL), DISCO_VALUE);
}

static void no_memory_at_any_point(void **state) {
  (void)state;
  disco_status status = DISCO_MEMORY;
  long n = 0;
  while (status != DISCO_OK) { /* descriptors fail, too */
    (void)dsc_inject_fail_allocation(++n);
    status = read_cache(good, NULL);
    (void)dsc_inject_fail_allocation(0);
    assert_true(status == DISCO_OK || status == DISCO_MEMORY || status == DISCO_RUNTIME);
  }
  assert_true(n > 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lists_in_record_order),
      cmocka_unit_test(metadata_of_any_kind),
      cmocka_unit_test(each_member_wrong_once),
      cmocka_unit_test(no_memory_at_any_point),
  };
  return cmocka_run_group_tests(tests, make_shards, remove_shards);
}
