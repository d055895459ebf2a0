/* Growing text and the nearest names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

static void text_grows_to_any_length(void **state) {
  (void)state;
  dsc_text text = DSC_TEXT_INIT;
  char *expected = calloc(1, 400000);
  size_t length = 0;
  assert_non_null(expected);
  for (int i = 0; i < 20000; i++) {
    dsc_text_add(&text, "%d,%s;", i, i % 3 == 0 ? "" : "xy");
    length += (size_t)sprintf(expected + length, "%d,%s;", i, i % 3 == 0 ? "" : "xy");
    assert_int_equal(text.size, length);
    assert_true(text.capacity > text.size);
  }
  assert_string_equal(text.data, expected);
  free(expected);
  dsc_text_fini(&text);
  assert_null(text.data);
}

/* Each length around the first capacity, in one piece and in two. */
static void text_has_room_for_its_end(void **state) {
  (void)state;
  char word[600];
  for (int length = 0; length < 520; length++) {
    memset(word, 'a', sizeof(word));
    word[length] = 0;
    dsc_text text = DSC_TEXT_INIT;
    dsc_text_add(&text, "%s", word);
    dsc_text_add(&text, "%s", "b");
    assert_int_equal(text.size, length + 1);
    assert_int_equal(strlen(text.data), length + 1);
    assert_int_equal(text.data[length], 'b');
    dsc_text_fini(&text);
  }
}

static void taking_empties(void **state) {
  (void)state;
  dsc_text text = DSC_TEXT_INIT;
  assert_null(dsc_text_take(&text));
  dsc_text_add(&text, "one");
  char *taken = dsc_text_take(&text);
  assert_string_equal(taken, "one");
  assert_null(text.data);
  assert_int_equal(text.size, 0);
  dsc_text_add(&text, "two");
  assert_string_equal(text.data, "two");
  free(taken);
  dsc_text_fini(&text);
  dsc_text_fini(&text);
}

/* What is printed for `word` among the candidates. */
static const char *suggest(const char *word, int count, const char *const *candidates) {
  static char result[512];
  dsc_nearest nearest;
  dsc_text text = DSC_TEXT_INIT;
  dsc_nearest_init(&nearest, word);
  for (int i = 0; i < count; i++) dsc_nearest_offer(&nearest, candidates[i]);
  dsc_nearest_print(&nearest, &text);
  snprintf(result, sizeof(result), "%s", text.data != NULL ? text.data : "");
  dsc_text_fini(&text);
  return result;
}

static void a_slip_finds_its_name(void **state) {
  (void)state;
  const char *const names[] = {"ffi.Shape", "runtime.disco.empty", "runtime.disco.device", "testing.echo", "a"};
  assert_string_equal(suggest("runtime.disco.emtpy", 5, names),
                      "; did you mean `runtime.disco.empty`, `runtime.disco.device`?");
  assert_string_equal(suggest("ffi.shape", 5, names), "; did you mean `ffi.Shape`?");
  assert_string_equal(suggest("testing.ech", 5, names), "; did you mean `testing.echo`?");
  assert_string_equal(suggest("something.else", 5, names), "");
  assert_string_equal(suggest("x", 0, NULL), "");
}

static void the_three_nearest_in_order(void **state) {
  (void)state;
  const char *const names[] = {"abcdefghi__", "abcdefghi", "abcdefgh_", "abcdefg__", "abcdef__i_", "abcdefghij"};
  assert_string_equal(suggest("abcdefghi", 6, names), "; did you mean `abcdefghi`, `abcdefgh_`, `abcdefghij`?");
  /* Any order of offering gives the same distances; equally near names stay in the order offered. */
  const char *const turned[] = {"abcdefghij", "abcdefgh_", "abcdefg__", "abcdefghi"};
  assert_string_equal(suggest("abcdefghi", 4, turned), "; did you mean `abcdefghi`, `abcdefghij`, `abcdefgh_`?");
}

static void long_names_do_no_harm(void **state) {
  (void)state;
  char word[4096], other[4096];
  memset(word, 'w', sizeof(word));
  word[sizeof(word) - 1] = 0;
  memcpy(other, word, sizeof(word));
  other[100] = 'x';
  const char *const names[] = {other, "", "w"};
  const char *text = suggest(word, 3, names);
  assert_int_equal(strncmp(text, "; did you mean `www", 18), 0);
  assert_true(strlen(text) < 200); /* shown cut to 127 bytes */
  assert_string_equal(suggest("", 1, names + 1), "; did you mean ``?");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_grows_to_any_length),
      cmocka_unit_test(text_has_room_for_its_end),
      cmocka_unit_test(taking_empties),
      cmocka_unit_test(a_slip_finds_its_name),
      cmocka_unit_test(the_three_nearest_in_order),
      cmocka_unit_test(long_names_do_no_harm),
  };
  return cmocka_run_group_tests_name("base.text", tests, NULL, NULL);
}
