/* GGUF models of several files: opened by the first, each of them checked, and whatever is missing or mixed up named.
 * The files are written here, as small as they can be. */
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
#include "weights/gguf.h"

static char folder[64];

static const char *path_of(const char *name) {
  static char paths[4][256];
  static int next;
  char *path = paths[next++ % 4];
  (void)snprintf(path, sizeof(paths[0]), "%s%s%s", folder, name[0] != '\0' ? "/" : "", name);
  return path;
}

static const char *part_path(int number, int count) {
  char name[64];
  (void)snprintf(name, sizeof(name), "m-%05d-of-%05d.gguf", number, count);
  return path_of(name);
}

/* ---- Writing ---- */

enum { U16 = 2, I32 = 5, U32 = 4, F32 = 6, NONE = -1 };

typedef struct {
  uint8_t bytes[4096];
  size_t size;
} content;

static void number(content *self, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) self->bytes[self->size++] = (uint8_t)(value >> 8 * i);
}

static void string(content *self, const char *text) {
  number(self, strlen(text), 8);
  memcpy(self->bytes + self->size, text, strlen(text));
  self->size += strlen(text);
}

static void entry(content *self, const char *name, uint32_t type, int64_t value) {
  string(self, name);
  number(self, type, 4);
  number(self, (uint64_t)value, type == U16 ? 2 : 4);
}

/* One file: what it says of the model (NONE: nothing), and one int8 tensor of 8 elements, 10 * number + 0, 1, 2, ... */
typedef struct {
  int64_t number, count, tensors, alignment;
  uint32_t number_type;
  const char *tensor;
  const char *more; /* another entry, of value `number` */
} part;

static void write_part(const char *path, const part *it) {
  content file = {.bytes = "GGUF", .size = 4};
  const int64_t values[] = {it->number, it->count, it->tensors, it->alignment, it->more != NULL ? 0 : NONE};
  uint64_t entries = 0;
  for (int i = 0; i < 5; i++) entries += values[i] != NONE;
  number(&file, 3, 4);
  number(&file, 1, 8);
  number(&file, entries, 8);
  if (it->number != NONE) entry(&file, "split.no", it->number_type, it->number);
  if (it->count != NONE) entry(&file, "split.count", U16, it->count);
  if (it->tensors != NONE) entry(&file, "split.tensors.count", I32, it->tensors);
  if (it->alignment != NONE) entry(&file, "general.alignment", U32, it->alignment);
  if (it->more != NULL) entry(&file, it->more, I32, it->number);
  string(&file, it->tensor);
  number(&file, 1, 4);
  number(&file, 8, 8);
  number(&file, 24, 4);
  number(&file, 0, 8);
  while (file.size % (it->alignment > 0 ? (size_t)it->alignment : 32) != 0) number(&file, 0, 1);
  for (uint64_t i = 0; i < 8; i++) number(&file, (uint64_t)it->number * 10 + i, 1);
  FILE *to = fopen(path, "wb");
  assert_non_null(to);
  assert_int_equal(fwrite(file.bytes, 1, file.size, to), file.size);
  assert_int_equal(fclose(to), 0);
}

static const char *const tensor_names[] = {"one", "two", "three"};

static part good(int number) { return (part){number, 3, 3, NONE, U16, tensor_names[number], "who"}; }

static void write_good(void) {
  for (int i = 0; i < 3; i++) {
    const part it = good(i);
    write_part(part_path(i + 1, 3), &it);
  }
}

static void empty_folder(void) {
  char command[128];
  (void)snprintf(command, sizeof(command), "rm -f '%s'/*", folder);
  (void)!system(command);
}

static int make_folder(void **state) {
  (void)state;
  (void)snprintf(folder, sizeof(folder), "/tmp/disco-split-XXXXXX");
  return mkdtemp(folder) != NULL ? 0 : -1;
}

static int empty_it(void **state) {
  (void)state;
  empty_folder();
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  empty_folder();
  return rmdir(folder);
}

/* ---- Opening ---- */

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

static void expect_refused(const char *path, disco_status status, const char *words) {
  disco_weights *model = NULL;
  assert_int_equal(dsc_model_open(path, &model), status);
  assert_null(model);
  expect_says(words);
}

static void expect_opens_all(const char *path) {
  disco_weights *model = NULL;
  if (dsc_model_open(path, &model) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_string_equal(dsc_model_format(model), "gguf");
  assert_int_equal(dsc_model_count(model), 3);
  for (int i = 0; i < 3; i++) {
    const dsc_weight *weight = dsc_model_weight(model, i);
    uint64_t bytes = 0;
    assert_string_equal(weight->view.name, tensor_names[i]);
    assert_string_equal(weight->view.file, part_path(i + 1, 3));
    assert_ptr_equal(weight->view.file, dsc_model_file(model, weight->file, &bytes));
    assert_int_equal(weight->view.offset + 8, bytes);
  }
  /* The first one's metadata, and what only others have. */
  assert_string_equal(dsc_model_metadata(model, "who"), "0");
  assert_string_equal(dsc_model_metadata(model, "split.no"), "0");
  assert_string_equal(dsc_model_metadata(model, "split.count"), "3");
  dsc_model_destroy(model);
}

static void the_first_opens_all(void **state) {
  (void)state;
  write_good();
  expect_opens_all(part_path(1, 3));
  expect_opens_all(path_of("")); /* the folder has one model */
  part it = good(2);
  it.more = "last.only";
  write_part(part_path(3, 3), &it);
  disco_weights *model = NULL;
  assert_int_equal(dsc_model_open(part_path(1, 3), &model), DISCO_OK);
  assert_string_equal(dsc_model_metadata(model, "last.only"), "2");
  dsc_model_destroy(model);
  /* One file that says that it is all of them, whatever its name. */
  it = (part){0, 1, 1, NONE, U16, "one", NULL};
  write_part(path_of("any.gguf"), &it);
  assert_int_equal(dsc_model_open(path_of("any.gguf"), &model), DISCO_OK);
  assert_int_equal(dsc_model_count(model), 1);
  dsc_model_destroy(model);
}

static void another_one_says_which_is_the_first(void **state) {
  (void)state;
  char words[256];
  write_good();
  for (int i = 2; i <= 3; i++) {
    (void)snprintf(words, sizeof(words), "%s is part %d of 3 of a model: open the first, %s", part_path(i, 3), i,
                   part_path(1, 3));
    expect_refused(part_path(i, 3), DISCO_VALUE, words);
  }
  const part second = good(1);
  write_part(path_of("renamed.gguf"), &second);
  expect_refused(path_of("renamed.gguf"), DISCO_VALUE,
                 "open the first, the one whose name ends in -00001-of-00003.gguf");
}

static void one_that_is_missing_is_named(void **state) {
  (void)state;
  char words[512];
  write_good();
  assert_int_equal(unlink(part_path(2, 3)), 0);
  (void)snprintf(words, sizeof(words), "%s needs the file \"m-00002-of-00003.gguf\": cannot open %s", part_path(1, 3),
                 part_path(2, 3));
  expect_refused(part_path(1, 3), DISCO_RUNTIME, words);
  write_good();
  assert_int_equal(unlink(part_path(1, 3)), 0);
  expect_refused(path_of(""), DISCO_VALUE, "m-00002-of-00003.gguf is part 2 of 3 of a model: open the first, ");
}

static void folders(void **state) {
  (void)state;
  const part one = {NONE, NONE, NONE, NONE, U16, "one", NULL};
  write_good();
  write_part(path_of("other.gguf"), &one);
  expect_refused(path_of(""), DISCO_VALUE, "more than one model");
  expect_says("it has \"m-00001-of-00003.gguf\", \"m-00002-of-00003.gguf\", \"m-00003-of-00003.gguf\", \"other.gguf\"");
  assert_int_equal(unlink(path_of("other.gguf")), 0);
  write_part(path_of("n-00001-of-00002.gguf"), &one); /* the first of another model */
  expect_refused(path_of(""), DISCO_VALUE, "more than one model");
}

/* One of the three is another: the sentence when the first is opened. */
static void expect_mixed_up(int which, part it, const char *words) {
  write_good();
  write_part(part_path(which + 1, 3), &it);
  expect_refused(part_path(1, 3), DISCO_VALUE, words);
  expect_says(part_path(which + 1, 3));
}

static void what_is_mixed_up(void **state) {
  (void)state;
  part it = good(0);
  it.number = NONE;
  expect_mixed_up(0, it, "split.count is 3, and split.no -1; it must be from 0 to 2");
  it.number = 3;
  expect_mixed_up(0, it, "split.no 3; it must be from 0 to 2");
  it.number = 7;
  it.number_type = F32;
  expect_mixed_up(0, it,
                  "metadata \"split.no\", bytes [24, 48) of the header: its value has type 6, which is no integer");
  it.number = -5;
  it.number_type = I32;
  expect_mixed_up(0, it, "-5 is less than 0");
  it = good(0);
  it.count = 4097;
  expect_mixed_up(0, it, "split.count is 4097; the limit is 4096 files");
  it.count = 2;
  expect_mixed_up(0, it, "is the first of 2 files of a model, so its name must end in -00001-of-00002.gguf");
  it = good(0);
  it.tensors = 4;
  expect_mixed_up(0, it, "says that its 3 files have 4 tensors (split.tensors.count); they have 3");
  it = good(1);
  it.number = 2;
  expect_mixed_up(1, it, "says split.no 2, split.count 3; part 2 of ");
  it.number = 1;
  it.count = 4;
  expect_mixed_up(1, it, "says split.no 1, split.count 4; part 2 of ");
  it = (part){NONE, NONE, NONE, NONE, U16, "two", NULL};
  expect_mixed_up(1, it, "says split.no -1, split.count 0; part 2 of ");
  it = good(2);
  it.tensor = "one";
  expect_mixed_up(2, it, "there is one of that name already");
}

static void a_part_that_is_cut(void **state) {
  (void)state;
  write_good();
  assert_int_equal(truncate(part_path(3, 3), 100), 0);
  expect_refused(part_path(1, 3), DISCO_VALUE, "was it cut?");
  expect_says(part_path(3, 3));
}

/* Where the bytes of a later file begin must be certain: some writers align them as the first says, and do not say so.
 */
static void alignments_that_differ(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    part it = good(i);
    it.alignment = i == 1 ? NONE : 1024;
    write_part(part_path(i + 1, 3), &it);
  }
  expect_refused(part_path(1, 3), DISCO_VALUE,
                 "general.alignment is 32 in this file and 1024 in the first of the model");
  expect_says(part_path(2, 3));
  part it = good(1);
  it.alignment = 1024;
  write_part(part_path(2, 3), &it);
  disco_weights *model = NULL;
  assert_int_equal(dsc_model_open(part_path(1, 3), &model), DISCO_OK);
  for (int i = 0; i < 3; i++) assert_int_equal(dsc_model_weight(model, i)->view.offset, 1024);
  dsc_model_destroy(model);
}

static void names(void **state) {
  (void)state;
  static const char *const not [] = {"",
                                     "m.gguf",
                                     "-00001-of-00002",
                                     "m-00000-of-00002.gguf",
                                     "m-00003-of-00002.gguf",
                                     "m-0001-of-00002.gguf",
                                     "m-00001-of-0002.gguf",
                                     "m-00001_of-00002.gguf",
                                     "m_00001-of-00002.gguf",
                                     "m-0000x-of-00002.gguf",
                                     "m-00001-of-00002.gguf~"};
  int64_t number = 77, count = 77;
  size_t stem = 77;
  for (size_t i = 0; i < sizeof(not ) / sizeof(not [0]); i++)
    if (dsc_gguf_is_part_name(not [i], &number, &count, &stem)) fail_msg("%s", not [i]);
  assert_true(number == 77 && count == 77 && stem == 77);
  assert_true(dsc_gguf_is_part_name("/a/m.x-00012-of-00345.gguf", &number, &count, &stem));
  assert_true(number == 11 && count == 345 && stem == 6);
  assert_true(dsc_gguf_is_part_name("-99999-of-99999.gguf", &number, &count, &stem));
  assert_true(number == 99998 && count == 99999 && stem == 0);
}

static void without_memory(void **state) {
  (void)state;
  disco_status status = DISCO_MEMORY;
  long n = 0;
  write_good();
  while (status != DISCO_OK) { /* descriptors and reads fail, too */
    disco_weights *model = NULL;
    (void)dsc_inject_fail_allocation(++n);
    status = dsc_model_open(part_path(1, 3), &model);
    (void)dsc_inject_fail_allocation(0);
    assert_true(status == DISCO_OK || status == DISCO_MEMORY || status == DISCO_RUNTIME);
    assert_int_equal(model != NULL, status == DISCO_OK);
    dsc_model_destroy(model);
  }
  assert_true(n > 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(the_first_opens_all, empty_it),
      cmocka_unit_test_setup(another_one_says_which_is_the_first, empty_it),
      cmocka_unit_test_setup(one_that_is_missing_is_named, empty_it),
      cmocka_unit_test_setup(folders, empty_it),
      cmocka_unit_test_setup(what_is_mixed_up, empty_it),
      cmocka_unit_test_setup(a_part_that_is_cut, empty_it),
      cmocka_unit_test_setup(alignments_that_differ, empty_it),
      cmocka_unit_test_setup(names, empty_it),
      cmocka_unit_test_setup(without_memory, empty_it),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
