/* What all formats have in common: names, shapes, ranges and files that a reader adds are checked, and found again. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "weights/model.h"
#include "weights/names.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const dsc_encoding plain = {"F32", {kDLFloat, 32, 1}, 1, 4, NULL};
static const dsc_encoding blocks = {"Q", {kDLFloat, 32, 1}, 32, 18, NULL};

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

static disco_weights *new_model(uint64_t bytes) {
  disco_weights *model = NULL;
  int32_t file = -1;
  assert_int_equal(dsc_model_create("test", &model), DISCO_OK);
  assert_int_equal(dsc_model_add_file(model, "/m/a.bin", bytes, &file), DISCO_OK);
  assert_int_equal(file, 0);
  return model;
}

static disco_status add(disco_weights *model, const dsc_encoding *encoding, const char *name, int32_t ndim,
                        const int64_t *shape, uint64_t offset, uint64_t bytes) {
  const disco_weights_tensor view = {.name = name, .ndim = ndim, .shape = shape, .offset = offset, .bytes = bytes};
  return dsc_model_add_tensor(model, 0, encoding, &view);
}

static void what_is_added_is_found(void **state) {
  (void)state;
  enum { MANY = 3000 };
  disco_weights *model = new_model((uint64_t)MANY * 24);
  for (int i = 0; i < MANY; i++) {
    char name[32];
    int64_t shape[2] = {2, 3};
    (void)snprintf(name, sizeof(name), "layer.%d.weight", i);
    assert_int_equal(add(model, &plain, name, 2, shape, (uint64_t)i * 24, 24), DISCO_OK);
    memset(name, 'x', sizeof(name)); /* copies were kept */
    memset(shape, 0, sizeof(shape));
  }
  assert_int_equal(dsc_model_seal(model, false), DISCO_OK);
  assert_int_equal(dsc_model_count(model), MANY);
  for (int i = 0; i < MANY; i++) {
    char name[32];
    (void)snprintf(name, sizeof(name), "layer.%d.weight", i);
    assert_int_equal(dsc_model_find(model, name), i);
    const dsc_weight *weight = dsc_model_weight(model, i);
    assert_string_equal(weight->view.name, name);
    assert_string_equal(weight->view.file, "/m/a.bin");
    assert_string_equal(weight->view.encoding, "F32");
    assert_int_equal(weight->view.dtype.code, kDLFloat);
    assert_int_equal(weight->view.dtype.bits, 32);
    assert_int_equal(weight->view.ndim, 2);
    assert_true(weight->view.shape[0] == 2 && weight->view.shape[1] == 3);
    assert_int_equal(weight->view.offset, i * 24);
    assert_int_equal(weight->view.bytes, 24);
    assert_int_equal(weight->view.block_elements, 1);
    assert_false(weight->view.is_block_quantised);
    assert_ptr_equal(weight->encoding, &plain);
  }
  assert_int_equal(dsc_model_find(model, "layer.3000.weight"), -1);
  assert_int_equal(dsc_model_find(model, ""), -1);
  assert_null(dsc_model_weight(model, -1));
  assert_null(dsc_model_weight(model, MANY));
  assert_string_equal(dsc_model_format(model), "test");
  dsc_model_destroy(model);
  dsc_model_destroy(NULL);
}

static void each_rule_is_told(void **state) {
  (void)state;
  char long_name[DSC_WEIGHTS_MAX_NAME + 2] = {0};
  memset(long_name, 'n', sizeof(long_name) - 1);
  const int64_t half = (int64_t)1 << 62;
  const struct {
    const dsc_encoding *encoding;
    const char *name;
    int32_t ndim;
    int64_t shape[9];
    uint64_t offset, bytes;
    const char *words;
  } cases[] = {
      {&plain, "", 1, {1}, 0, 4, "must have a name"},
      {&plain, long_name, 1, {1}, 0, 4, "4097 bytes, the limit is 4096"},
      {&plain, "\xc3(", 1, {1}, 0, 4, "not UTF-8"},
      {&plain, "\xed\xa0\x80", 1, {1}, 0, 4, "not UTF-8"},
      {&plain, "first", 1, {1}, 4, 4, "one of that name already, bytes [0, 4) of /m/a.bin"},
      {&plain, "t", 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, 0, 4, "9 dimensions, the limit is 8"},
      {&plain, "t", -1, {1}, 0, 4, "-1 dimensions"},
      {&plain, "t", 2, {2, -3}, 0, 24, "shape [2, -3] has a negative dimension"},
      {&plain, "t", 2, {half, 4}, 0, 0, "more than 2^63 elements"},
      {&plain, "t", 3, {half, 4, 0}, 0, 0, "more than 2^63 elements"},
      {&plain, "t", 1, {half}, 0, 0, "more than 2^63 bytes"},
      {&plain, "t", 2, {half, 0}, 0, 0, "more than 2^63 bytes"},
      {&blocks, "t", 2, {32, 33}, 0, 18 * 33, "last dimension of shape [32, 33] is no multiple of 32"},
      {&blocks, "t", 0, {0}, 0, 18, "no multiple of 32"},
      {&plain, "t", 2, {2, 3}, 0, 23, "shape [2, 3] of F32 takes 24 bytes, not 23"},
      {&blocks, "t", 2, {2, 64}, 0, 71, "takes 72 bytes, not 71"},
      {&plain, "t", 2, {0, 3}, 0, 12, "takes 0 bytes, not 12"},
      {&plain, "t", 1, {2}, 97, 8, "bytes [97, 105): the file ends after 100 bytes"},
      {&plain, "t", 1, {2}, UINT64_MAX - 3, 8, "8 bytes from 18446744073709551612 on: the file ends"},
      {&plain, "t", 1, {0}, 101, 0, "the file ends after 100 bytes"},
  };
  disco_weights *model = new_model(100);
  const int64_t one[] = {1};
  assert_int_equal(add(model, &plain, "first", 1, one, 0, 4), DISCO_OK);
  for (size_t i = 0; i < COUNT(cases); i++) {
    assert_int_equal(
        add(model, cases[i].encoding, cases[i].name, cases[i].ndim, cases[i].shape, cases[i].offset, cases[i].bytes),
        DISCO_VALUE);
    expect_says(cases[i].words);
    expect_says("/m/a.bin");
  }
  assert_int_equal(dsc_model_count(model), 1);
  const disco_weights_tensor view = {.name = "t", .ndim = 1, .shape = one, .bytes = 4};
  assert_int_equal(dsc_model_add_tensor(model, 1, &plain, &view), DISCO_VALUE);
  assert_int_equal(dsc_model_add_tensor(model, -1, &plain, &view), DISCO_VALUE);
  /* What is right next to what is wrong. */
  long_name[DSC_WEIGHTS_MAX_NAME] = '\0';
  assert_int_equal(add(model, &plain, long_name, 1, one, 96, 4), DISCO_OK);
  assert_int_equal(add(model, &plain, "scalar", 0, one, 4, 4), DISCO_OK);
  assert_int_equal(add(model, &plain, "empty", 1, (int64_t[]){0}, 100, 0), DISCO_OK);
  assert_int_equal(add(model, &blocks, "q", 2, (int64_t[]){2, 64}, 8, 72), DISCO_OK);
  assert_true(dsc_model_weight(model, dsc_model_find(model, "q"))->view.is_block_quantised);
  assert_int_equal(add(model, &blocks, "q0", 2, (int64_t[]){3, 0}, 80, 0), DISCO_OK);
  assert_int_equal(dsc_model_seal(model, false), DISCO_OK);
  dsc_model_destroy(model);
}

static void overlaps_are_refused(void **state) {
  (void)state;
  disco_weights *model = new_model(100);
  int32_t other = -1;
  const int64_t two[] = {2};
  assert_int_equal(add(model, &plain, "late", 1, two, 40, 8), DISCO_OK);
  assert_int_equal(add(model, &plain, "early", 1, two, 0, 8), DISCO_OK);
  assert_int_equal(add(model, &plain, "empty", 1, (int64_t[]){0}, 4, 0), DISCO_OK);
  /* The same range of another file. */
  assert_int_equal(dsc_model_add_file(model, "/m/b.bin", 100, &other), DISCO_OK);
  const disco_weights_tensor view = {.name = "elsewhere", .ndim = 1, .shape = two, .bytes = 8};
  assert_int_equal(dsc_model_add_tensor(model, other, &plain, &view), DISCO_OK);
  assert_int_equal(dsc_model_seal(model, false), DISCO_OK);
  assert_int_equal(add(model, &plain, "between", 1, two, 33, 8), DISCO_OK);
  assert_int_equal(dsc_model_seal(model, true), DISCO_OK);
  assert_int_equal(dsc_model_seal(model, false), DISCO_VALUE);
  expect_says("\"between\", bytes [33, 41), and \"late\", bytes [40, 48), of /m/a.bin overlap");
  dsc_model_destroy(model);
}

static void foreign_encodings_are_listed(void **state) {
  (void)state;
  disco_weights *model = new_model(100);
  const dsc_encoding *encoding = NULL;
  char name[] = "F3_E1";
  assert_int_equal(dsc_model_foreign_encoding(model, "/m/a.bin", name, &encoding), DISCO_OK);
  memset(name, 'x', sizeof(name) - 1);
  assert_int_equal(add(model, encoding, "t", 1, (int64_t[]){1000}, 0, 77), DISCO_OK);
  const dsc_weight *weight = dsc_model_weight(model, 0);
  assert_string_equal(weight->view.encoding, "F3_E1");
  assert_int_equal(weight->view.dtype.bits, 0);
  assert_int_equal(add(model, encoding, "u", 1, (int64_t[]){1000}, 50, 77), DISCO_VALUE);
  assert_int_equal(dsc_model_foreign_encoding(model, "/m/b.bin", "F 3", &encoding), DISCO_VALUE);
  expect_says("/m/b.bin: \"F 3\" is no name of an encoding");
  dsc_model_destroy(model);
}

static void metadata_is_found(void **state) {
  (void)state;
  disco_weights *model = new_model(0);
  char key[32], json[32], long_key[DSC_WEIGHTS_MAX_NAME + 2] = {0};
  for (int i = 0; i < 100; i++) {
    (void)snprintf(key, sizeof(key), "key %d", i);
    (void)snprintf(json, sizeof(json), "[%d]", i);
    assert_int_equal(dsc_model_add_metadata(model, "/m/a.bin", key, json), DISCO_OK);
  }
  assert_int_equal(dsc_model_num_metadata(model), 100);
  const char *found = NULL, *value = NULL;
  assert_true(dsc_model_metadata_at(model, 99, &found, &value));
  assert_string_equal(found, "key 99");
  assert_string_equal(value, "[99]");
  assert_false(dsc_model_metadata_at(model, 100, &found, &value));
  assert_false(dsc_model_metadata_at(model, -1, &found, &value));
  assert_string_equal(dsc_model_metadata(model, "key 7"), "[7]");
  assert_null(dsc_model_metadata(model, "key"));
  assert_int_equal(dsc_model_add_metadata(model, "/m/a.bin", "key 7", "1"), DISCO_VALUE);
  expect_says("\"key 7\" of /m/a.bin is there twice");
  assert_int_equal(dsc_model_add_metadata(model, "/m/index.json", "key 8", "1"), DISCO_VALUE);
  expect_says("\"key 8\" of /m/index.json is there twice");
  assert_int_equal(dsc_model_add_metadata(model, "/m/a.bin", "\xff", "1"), DISCO_VALUE);
  memset(long_key, 'k', sizeof(long_key) - 1);
  assert_int_equal(dsc_model_add_metadata(model, "/m/a.bin", long_key, "1"), DISCO_VALUE);
  for (int i = 100; i < DSC_WEIGHTS_MAX_METADATA; i++) {
    (void)snprintf(key, sizeof(key), "key %d", i);
    assert_int_equal(dsc_model_add_metadata(model, "/m/a.bin", key, "0"), DISCO_OK);
  }
  assert_int_equal(dsc_model_add_metadata(model, "/m/a.bin", "more", "1"), DISCO_VALUE);
  expect_says("one more than the 65536");
  dsc_model_destroy(model);
}

/* ---- Files ---- */

static void files_by_path(void **state) {
  (void)state;
  disco_weights *model = new_model(5);
  int32_t file = -1;
  uint64_t bytes = 0;
  char path[32];
  assert_int_equal(dsc_model_add_file(model, "/m/a.bin", 5, &file), DISCO_OK);
  assert_int_equal(file, 0);
  for (int i = 1; i < DSC_WEIGHTS_MAX_FILES; i++) {
    (void)snprintf(path, sizeof(path), "/m/%d", i);
    assert_int_equal(dsc_model_add_file(model, path, (uint64_t)i, &file), DISCO_OK);
    assert_int_equal(file, i);
  }
  assert_int_equal(dsc_model_add_file(model, "/m/more", 1, &file), DISCO_VALUE);
  expect_says("4096 files");
  assert_int_equal(dsc_model_add_file(model, "/m/77", 77, &file), DISCO_OK);
  assert_int_equal(file, 77);
  assert_string_equal(dsc_model_file(model, 77, &bytes), "/m/77");
  assert_int_equal(bytes, 77);
  assert_string_equal(dsc_model_file(model, 0, NULL), "/m/a.bin");
  assert_null(dsc_model_file(model, -1, &bytes));
  assert_null(dsc_model_file(model, DSC_WEIGHTS_MAX_FILES, &bytes));
  dsc_model_destroy(model);
}

static void siblings_stay_beside(void **state) {
  (void)state;
  char folder[] = "/tmp/disco-model-XXXXXX", index[64], inner[64], inner_file[64], expected[64];
  assert_non_null(mkdtemp(folder));
  (void)snprintf(index, sizeof(index), "%s/index.json", folder);
  (void)snprintf(inner, sizeof(inner), "%s/in", folder);
  (void)snprintf(inner_file, sizeof(inner_file), "%s/in/..b", folder);
  assert_int_equal(mkdir(inner, 0700), 0);
  int fd = open(inner_file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(ftruncate(fd, 1234), 0);
  close(fd);
  disco_weights *model = NULL;
  int32_t file = -1, again = -1;
  uint64_t bytes = 0;
  assert_int_equal(dsc_model_create("test", &model), DISCO_OK);
  assert_int_equal(dsc_model_add_sibling(model, index, "in/..b", &file), DISCO_OK);
  (void)snprintf(expected, sizeof(expected), "%s/in/..b", folder);
  assert_string_equal(dsc_model_file(model, file, &bytes), expected);
  assert_int_equal(bytes, 1234);
  assert_int_equal(dsc_model_add_sibling(model, index, "in/..b", &again), DISCO_OK);
  assert_int_equal(file, again);
  static const char *const refused[] = {"",      "/etc/passwd", "..",   "../b",    "in/../../b",
                                        "in/..", "in/",         "./..", "in//../b"};
  for (size_t i = 0; i < COUNT(refused); i++) {
    if (dsc_model_add_sibling(model, index, refused[i], &file) != DISCO_VALUE) fail_msg("taken: %s", refused[i]);
    expect_says(index);
    expect_says("names a file");
  }
  assert_int_equal(dsc_model_add_sibling(model, index, "missing", &file), DISCO_RUNTIME);
  expect_says("index.json needs the file \"missing\": cannot open ");
  assert_int_equal(dsc_model_add_sibling(model, index, "in", &file), DISCO_VALUE);
  expect_says("index.json needs the file \"in\": ");
  expect_says("is a folder");
  dsc_model_destroy(model);
  assert_int_equal(unlink(inner_file), 0);
  assert_int_equal(rmdir(inner), 0);
  assert_int_equal(rmdir(folder), 0);
}

/* ---- Memory, printing ---- */

static disco_status build(void) {
  disco_weights *model = NULL;
  int32_t file;
  const dsc_encoding *encoding;
  disco_status status = dsc_model_create("test", &model);
  if (status == DISCO_OK) status = dsc_model_add_file(model, "/m/a.bin", 1000, &file);
  if (status == DISCO_OK) status = dsc_model_foreign_encoding(model, "/m/a.bin", "X", &encoding);
  for (int i = 0; status == DISCO_OK && i < 100; i++) {
    char name[200];
    (void)snprintf(name, sizeof(name), "a name of some length, so that more than one chunk is needed: %d", i);
    status = add(model, &plain, name, 1, (int64_t[]){1}, (uint64_t)i * 4, 4);
    if (status == DISCO_OK) status = dsc_model_add_metadata(model, "/m/a.bin", name, name);
  }
  if (status == DISCO_OK) status = dsc_model_seal(model, false);
  dsc_model_destroy(model);
  return status;
}

static void no_memory_at_any_point(void **state) {
  (void)state;
  disco_status status = DISCO_MEMORY;
  long n = 0;
  while (status != DISCO_OK) {
    (void)dsc_inject_fail_allocation(++n);
    status = build();
    (void)dsc_inject_fail_allocation(0);
    assert_true(status == DISCO_OK || status == DISCO_MEMORY);
  }
  assert_true(n > 10);
}

static void names_in_sentences(void **state) {
  (void)state;
  char print[DSC_NAME_PRINT_BYTES], name[1000];
  assert_string_equal(dsc_name_print("a.weight", print), "\"a.weight\"");
  assert_string_equal(dsc_name_print("a\x1b[2J\n\x7f", print), "\"a\\x1b[2J\\x0a\\x7f\"");
  assert_string_equal(dsc_name_print("\xc3\xa4\xc2\x9b", print), "\"\xc3\xa4\\x9b\"");
  for (size_t lead = 0; lead < 4; lead++) { /* cut at any place, but never a character in two */
    memset(name, 'x', lead);
    for (size_t i = lead; i + 3 < sizeof(name); i += 3) memcpy(name + i, "\xe2\x82\xac", 4);
    (void)dsc_name_print(name, print);
    const size_t size = strlen(print);
    assert_true(size < DSC_NAME_PRINT_BYTES && size > DSC_NAME_PRINT_BYTES - 10);
    assert_string_equal(print + size - 4, "...\"");
    assert_memory_equal(print + size - 7, "\xe2\x82\xac", 3);
  }
  for (size_t i = 0; i < 60; i++) name[i] = '\x1b', name[i + 1] = '\0';
  assert_true(strlen(dsc_name_print(name, print)) < DSC_NAME_PRINT_BYTES);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_added_is_found), cmocka_unit_test(each_rule_is_told),
      cmocka_unit_test(overlaps_are_refused),   cmocka_unit_test(foreign_encodings_are_listed),
      cmocka_unit_test(metadata_is_found),      cmocka_unit_test(files_by_path),
      cmocka_unit_test(siblings_stay_beside),   cmocka_unit_test(no_memory_at_any_point),
      cmocka_unit_test(names_in_sentences),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
