/* Manifests: written and read again, each mistake of a file, and what a check says. */
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
#include "weights/manifest.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const dsc_encoding bytes_of_one = {"U8", {kDLUInt, 8, 1}, 1, 1, NULL};

static disco_weights *two_tensors(void) {
  static const char *const names[] = {"first", "w\xc3\xa4\"2\""}; /* a quote and a letter of two bytes */
  disco_weights *model = NULL;
  int32_t file;
  assert_int_equal(dsc_model_create("test", &model), DISCO_OK);
  assert_int_equal(dsc_model_add_file(model, "/models/a.bin", 100, &file), DISCO_OK);
  for (size_t i = 0; i < 2; i++) {
    const int64_t shape = 10;
    const disco_weights_tensor view = {.name = names[i], .ndim = 1, .shape = &shape, .bytes = 10, .offset = 10 * i};
    if (dsc_model_add_tensor(model, file, &bytes_of_one, &view) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  }
  assert_int_equal(dsc_model_seal(model, false), DISCO_OK);
  return model;
}

static disco_shard shard_of(int64_t tensor) { return (disco_shard){.tensor = tensor, .bytes = 5, .file_bytes = 5}; }

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

/* Known from the reference implementation (xxhsum -H3). */
static void hashes_are_xxh3(void **state) {
  (void)state;
  assert_true(dsc_weights_hash(NULL, 0) == 0x2d06800538d394c2u);
  assert_true(dsc_weights_hash("a", 1) == 0xe6c632b61e964e1fu);
  assert_true(dsc_weights_hash("abc", 3) == 0x78af5f94892f3950u);
}

static disco_status read_text(const char *json, disco_manifest **ret_manifest) {
  dsc_source source;
  dsc_source_of_memory("m.json", json, strlen(json), &source);
  return dsc_manifest_read(&source, ret_manifest);
}

static disco_manifest *filled(const disco_weights *model, const char (*memory)[5]) {
  disco_manifest *manifest = NULL;
  assert_int_equal(dsc_manifest_create(2, &manifest), DISCO_OK);
  for (int32_t i = 0; i < 4; i++) {
    const disco_shard shard = shard_of(i / 2);
    assert_int_equal(dsc_manifest_put(manifest, model, &shard, i % 2, dsc_weights_hash(memory[i], 5)), DISCO_OK);
  }
  return manifest;
}

static const char memories[4][5] = {"one", "two", "zwei", "four"};

static void what_is_written_is_read_and_checked(void **state) {
  (void)state;
  char path[] = "/tmp/disco_manifest_test.XXXXXX";
  const int fd = mkstemp(path);
  disco_weights *model = two_tensors();
  disco_manifest *written = filled(model, memories), *manifest = NULL;
  assert_true(fd >= 0);
  assert_int_equal(close(fd), 0);
  assert_int_equal(dsc_manifest_write(written, path), DISCO_OK);
  assert_int_equal(dsc_manifest_write(written, path), DISCO_OK); /* over the old one */
  assert_int_equal(dsc_manifest_open(path, &manifest), DISCO_OK);
  for (int32_t i = 0; i < 4; i++) {
    const disco_shard shard = shard_of(i / 2);
    assert_int_equal(dsc_manifest_check(manifest, model, &shard, 2, i % 2, memories[i]), DISCO_OK);
    assert_int_equal(dsc_manifest_check(manifest, model, &shard, 2, 1 - i % 2, memories[i]), DISCO_VALUE);
  }
  /* The last one: "four" for worker 0 of the second tensor. */
  char words[256];
  (void)snprintf(words, sizeof(words), "of /models/a.bin: what worker 0 of 2 got hashes to %016llx, but manifest %s",
                 (unsigned long long)dsc_weights_hash(memories[3], 5), path);
  expect_says("tensor \"w\xc3\xa4\"2\"\"");
  expect_says(words);
  (void)snprintf(words, sizeof(words), " says %016llx: ", (unsigned long long)dsc_weights_hash(memories[2], 5));
  expect_says(words);
  const disco_shard skipped = {.is_skipped = true}, missing = shard_of(7), first = shard_of(0);
  assert_int_equal(dsc_manifest_check(manifest, model, &skipped, 2, 1, NULL), DISCO_OK);
  assert_int_equal(dsc_manifest_check(manifest, model, &missing, 2, 1, NULL), DISCO_VALUE);
  expect_says("there is no tensor 7");
  assert_int_equal(dsc_manifest_check(manifest, model, &first, 3, 1, NULL), DISCO_VALUE);
  expect_says("was made for 2 workers, and there are 3");
  assert_int_equal(dsc_manifest_check(manifest, model, &first, 2, 2, NULL), DISCO_VALUE);
  expect_says("there is no worker 2");
  dsc_manifest_destroy(manifest);
  dsc_manifest_destroy(written);
  disco_weights_close(model);
  assert_int_equal(unlink(path), 0);
  assert_int_not_equal(dsc_manifest_open(path, &manifest), DISCO_OK);
  expect_says(path);
  assert_int_not_equal(dsc_manifest_open("/tmp", &manifest), DISCO_OK);
}

static void half_a_manifest_is_not_written(void **state) {
  (void)state;
  disco_weights *model = two_tensors();
  disco_manifest *manifest = NULL;
  const disco_shard shard = shard_of(1), skipped = {.is_skipped = true}, missing = shard_of(2);
  assert_int_equal(dsc_manifest_create(0, &manifest), DISCO_VALUE);
  assert_int_equal(dsc_manifest_create(DSC_MANIFEST_MAX_WORKERS + 1, &manifest), DISCO_VALUE);
  expect_says("1 to 65536 workers, not 65537");
  assert_int_equal(dsc_manifest_create(2, &manifest), DISCO_OK);
  assert_int_equal(dsc_manifest_put(manifest, model, &skipped, 0, 1), DISCO_OK);
  assert_int_equal(dsc_manifest_put(manifest, model, &missing, 0, 1), DISCO_VALUE);
  assert_int_equal(dsc_manifest_put(manifest, model, &shard, 2, 1), DISCO_VALUE);
  assert_int_equal(dsc_manifest_put(manifest, model, &shard, -1, 1), DISCO_VALUE);
  assert_int_equal(dsc_manifest_put(manifest, model, &shard, 1, 1), DISCO_OK);
  assert_int_equal(dsc_manifest_write(manifest, "/tmp/disco_manifest_test.none"), DISCO_VALUE);
  expect_says("has no hash of tensor \"w\xc3\xa4\"2\"\" for worker 0");
  assert_int_equal(access("/tmp/disco_manifest_test.none", F_OK), -1);
  assert_int_equal(dsc_manifest_check(manifest, model, &shard, 2, 0, memories[0]), DISCO_VALUE);
  assert_int_equal(dsc_manifest_put(manifest, model, &shard, 0, 0), DISCO_OK);
  assert_int_equal(dsc_manifest_write(manifest, "/nowhere/manifest.json"), DISCO_RUNTIME);
  expect_says("manifest /nowhere/manifest.json cannot be written: No such file");
  if (access("/dev/full", W_OK) == 0) {
    assert_int_equal(dsc_manifest_write(manifest, "/dev/full"), DISCO_RUNTIME);
    expect_says("manifest /dev/full could not be written whole: No space left");
  }
  assert_int_equal(dsc_manifest_put(manifest, model, &shard, 1, UINT64_MAX), DISCO_OK); /* replaces it */
  assert_int_equal(dsc_manifest_check(manifest, model, &shard, 2, 1, memories[0]), DISCO_VALUE);
  expect_says("says ffffffffffffffff");
  const disco_shard first = shard_of(0);
  assert_int_equal(dsc_manifest_check(manifest, model, &first, 2, 1, memories[0]), DISCO_VALUE);
  expect_says("does not have tensor \"first\"");
  dsc_manifest_destroy(manifest);
  dsc_manifest_destroy(NULL);
  disco_weights_close(model);
}

#define MANIFEST(workers, tensors) "{\"algorithm\": \"xxh3-64\", \"workers\": " workers ", \"tensors\": " tensors "}"
#define HASH "\"0123456789abcdef\""

static void each_mistake_has_its_sentence(void **state) {
  (void)state;
  static const struct {
    const char *json, *says;
  } cases[] = {
      {"", "m.json"},
      {"[]", "manifest m.json is not an object"},
      {"{}", "algorithm"},
      {"{\"algorithm\": 3, \"workers\": 1, \"tensors\": {}}", "algorithm"},
      {"{\"algorithm\": \"md5\", \"workers\": 1, \"tensors\": {}}",
       "manifest m.json is of algorithm \"md5\"; known is \"xxh3-64\""},
      {"{\"algorithm\": \"xxh3-64\", \"tensors\": {}}", "workers"},
      {"{\"algorithm\": \"xxh3-64\", \"workers\": 1}", "manifest m.json has no object \"tensors\""},
      {"{\"algorithm\": \"xxh3-64\", \"workers\": 1, \"tensors\": {}, \"x\": 1}",
       "manifest m.json has an unknown word \"x\""},
      {MANIFEST("0", "{}"), "manifest m.json is for 0 workers"},
      {MANIFEST("-1", "{}"), "workers"},
      {MANIFEST("65537", "{}"), "workers"},
      {MANIFEST("1.0", "{}"), "workers"},
      {MANIFEST("1", "[]"), "has no object \"tensors\""},
      {MANIFEST("1", "{\"a\": " HASH "}"), "\"a\" has no array with a hash for each worker"},
      {MANIFEST("2", "{\"a\": [" HASH "]}"), "\"a\" has 1 hashes; there are 2 workers"},
      {MANIFEST("1", "{\"a\": [" HASH ", " HASH "]}"), "\"a\" has 2 hashes; there are 1 workers"},
      {MANIFEST("1", "{\"a\": [7]}"), "\"a\" has a hash for worker 0 that is not a string of 16 digits"},
      {MANIFEST("1", "{\"a\": [null]}"), "not a string of 16 digits"},
      {MANIFEST("1", "{\"a\": [\"0123456789abcde\"]}"), "not a string of 16 digits"},
      {MANIFEST("1", "{\"a\": [\"0123456789abcdef0\"]}"), "not a string of 16 digits"},
      {MANIFEST("1", "{\"a\": [\"0123456789abcdeF\"]}"), "not a string of 16 digits"},
      {MANIFEST("1", "{\"a\": [\"0123456789abcdeg\"]}"), "not a string of 16 digits"},
      {MANIFEST("2", "{\"a\": [" HASH ", \"+123456789abcdef\"]}"), "for worker 1 that is not"},
      {MANIFEST("1", "{\"a\": [" HASH "], \"a\": [" HASH "]}"), "m.json"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    disco_manifest *manifest = NULL;
    if (read_text(cases[i].json, &manifest) != DISCO_VALUE || manifest != NULL) fail_msg("accepted: %s", cases[i].json);
    expect_says(cases[i].says);
  }
}

static void memory_may_be_short(void **state) {
  (void)state;
  static const char json[] = MANIFEST("1", "{\"first\": [" HASH "]}");
  disco_weights *model = two_tensors();
  disco_manifest *manifest = NULL;
  const disco_shard shard = shard_of(0);
  for (long n = 1; n <= 2; n++) {
    (void)dsc_inject_fail_allocation(n);
    assert_int_equal(read_text(json, &manifest), DISCO_MEMORY);
    (void)dsc_inject_fail_allocation(n);
    assert_int_equal(dsc_manifest_create(1, &manifest), DISCO_MEMORY);
  }
  (void)dsc_inject_fail_allocation(0);
  assert_null(manifest);
  assert_int_equal(read_text(json, &manifest), DISCO_OK);
  assert_int_equal(dsc_manifest_check(manifest, model, &shard, 1, 0, memories[0]), DISCO_VALUE);
  expect_says("says 0123456789abcdef");
  (void)dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_manifest_put(manifest, model, &shard, 0, 1), DISCO_MEMORY);
  (void)dsc_inject_fail_allocation(0);
  dsc_manifest_destroy(manifest);
  disco_weights_close(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(hashes_are_xxh3),
      cmocka_unit_test(what_is_written_is_read_and_checked),
      cmocka_unit_test(half_a_manifest_is_not_written),
      cmocka_unit_test(each_mistake_has_its_sentence),
      cmocka_unit_test(memory_may_be_short),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
