/* Lines of standard input, however they come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "controller/lines.h"

static int writer = -1; /* of what is standard input */

static void write_text(const char *text) { assert_int_equal(write(writer, text, strlen(text)), strlen(text)); }

static void end_input(void) {
  (void)close(writer);
  writer = -1;
}

static int set_up(void **state) {
  int ends[2];
  (void)state;
  if (pipe(ends) != 0 || dup2(ends[0], STDIN_FILENO) < 0) return -1;
  (void)close(ends[0]);
  writer = ends[1];
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  if (writer >= 0) end_input();
  return 0;
}

static bool never(void) { return false; }

static int asked;
static bool the_third_time(void) { return ++asked >= 3; }

static void expect(lines *input, const char *wanted) {
  bool has_failed = true;
  const char *line = lines_next(input, never, &has_failed);
  assert_false(has_failed);
  if (wanted == NULL)
    assert_null(line);
  else
    assert_string_equal(line, wanted);
}

static void lines_come_in_pieces(void **state) {
  (void)state;
  lines input = {0};
  write_text("one\ntwo");
  expect(&input, "one");
  write_text(", too\n\nthr");
  expect(&input, "two, too");
  expect(&input, "");
  write_text("ee");
  end_input();
  expect(&input, "three"); /* without its newline */
  expect(&input, NULL);
  expect(&input, NULL);
  lines_free(&input);
}

static void an_input_may_have_nothing(void **state) {
  (void)state;
  lines input = {0};
  end_input();
  expect(&input, NULL);
  lines_free(&input);
}

static void lines_may_be_long(void **state) {
  (void)state;
  enum { LENGTH = 30000 };
  static char text[LENGTH + 2];
  lines input = {0};
  memset(text, 'x', LENGTH);
  text[LENGTH] = '\n';
  write_text("short\n");
  write_text(text);
  write_text("short\n");
  text[LENGTH] = 0;
  expect(&input, "short");
  expect(&input, text);
  expect(&input, "short");
  lines_free(&input);
}

/* What is there is still given; waiting for more ends. */
static void a_wait_can_be_stopped(void **state) {
  (void)state;
  lines input = {0};
  bool has_failed = true;
  asked = 0;
  write_text("one\ntwo");
  assert_string_equal(lines_next(&input, the_third_time, &has_failed), "one");
  assert_null(lines_next(&input, the_third_time, &has_failed));
  assert_false(has_failed);
  assert_int_equal(asked, 3);
  lines_free(&input);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(lines_come_in_pieces, set_up, tear_down),
      cmocka_unit_test_setup_teardown(an_input_may_have_nothing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(lines_may_be_long, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_wait_can_be_stopped, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
