/* Warnings: discarded by default, one whole line per call, filtered by level, to stderr on request. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"

typedef struct {
  int lines, level;
  size_t longest;
  int broken; /* lines that are not what one call wrote */
  char last[2048];
} heard;

static void listen(void *context, int level, const char *message) {
  heard *self = context;
  self->lines++;
  self->level = level;
  if (strlen(message) > self->longest) self->longest = strlen(message);
  if (strchr(message, '\n') != NULL) self->broken++;
  snprintf(self->last, sizeof(self->last), "%s", message);
}

static int forget(void **state) {
  (void)state;
  dsc_log_set(NULL, NULL, DSC_LOG_WARN);
  return 0;
}

/* What fn writes to stderr. */
static void capture_stderr(void (*fn)(void), char *text, size_t size) {
  FILE *file = tmpfile();
  int saved = dup(STDERR_FILENO);
  assert_non_null(file);
  assert_true(saved >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
  fn();
  assert_true(dup2(saved, STDERR_FILENO) >= 0);
  close(saved);
  rewind(file);
  text[fread(text, 1, size - 1, file)] = 0;
  fclose(file);
}

static void log_one_of_each(void) {
  dsc_log(DSC_LOG_ERROR, "an error %d", 1);
  dsc_log(DSC_LOG_WARN, "a warning %d", 2);
  dsc_log(DSC_LOG_INFO, "news %d", 3);
}

static void nothing_is_printed_by_default(void **state) {
  (void)state;
  char text[256];
  unsetenv("DISCO_LOG");
  dsc_log_install();
  capture_stderr(log_one_of_each, text, sizeof(text));
  assert_string_equal(text, "");
}

static void the_environment_asks_for_stderr(void **state) {
  (void)state;
  char text[256];
  setenv("DISCO_LOG", "warn", 1);
  dsc_log_install();
  capture_stderr(log_one_of_each, text, sizeof(text));
  assert_string_equal(text, "libdisco error: an error 1\nlibdisco warning: a warning 2\n");
  setenv("DISCO_LOG", "INFO", 1);
  dsc_log_install();
  capture_stderr(log_one_of_each, text, sizeof(text));
  assert_string_equal(text, "libdisco error: an error 1\nlibdisco warning: a warning 2\nlibdisco info: news 3\n");
  setenv("DISCO_LOG", "error", 1);
  dsc_log_install();
  capture_stderr(log_one_of_each, text, sizeof(text));
  assert_string_equal(text, "libdisco error: an error 1\n");
}

static void an_unknown_wish_changes_nothing(void **state) {
  (void)state;
  char text[256];
  setenv("DISCO_LOG", "loud", 1);
  dsc_log_install();
  unsetenv("DISCO_LOG");
  capture_stderr(log_one_of_each, text, sizeof(text));
  assert_string_equal(text, "");
}

static void levels_filter(void **state) {
  (void)state;
  heard all = {0};
  dsc_log_set(listen, &all, DSC_LOG_ERROR);
  log_one_of_each();
  assert_int_equal(all.lines, 1);
  dsc_log_set(listen, &all, DSC_LOG_INFO);
  log_one_of_each();
  assert_int_equal(all.lines, 4);
  assert_int_equal(all.level, DSC_LOG_INFO);
  assert_string_equal(all.last, "news 3");
  dsc_log_set(NULL, NULL, DSC_LOG_INFO);
  log_one_of_each();
  assert_int_equal(all.lines, 4);
}

static void a_long_line_is_cut(void **state) {
  (void)state;
  heard all = {0};
  char *word = malloc(100000);
  memset(word, 'w', 99999);
  word[99999] = 0;
  dsc_log_set(listen, &all, DSC_LOG_WARN);
  dsc_log(DSC_LOG_WARN, "%s", word);
  free(word);
  assert_int_equal(all.lines, 1);
  assert_in_range(all.longest, 500, 2047);
}

static void *shout(void *argument) {
  for (int i = 0; i < 500; i++) dsc_log(DSC_LOG_WARN, "%s %d", (const char *)argument, i);
  return NULL;
}

typedef struct {
  _Atomic int lines, broken;
} chorus;

/* Several threads at once: a callback that keeps state locks it itself. */
static void listen_to_all(void *context, int level, const char *message) {
  chorus *self = context;
  char expected[16];
  snprintf(expected, sizeof(expected), "line %d", atoi(message + 5));
  if (level != DSC_LOG_WARN || strcmp(message, expected) != 0) self->broken++;
  self->lines++;
}

static void threads_log_whole_lines(void **state) {
  (void)state;
  chorus all = {0};
  pthread_t threads[4];
  dsc_log_set(listen_to_all, &all, DSC_LOG_WARN);
  for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, shout, "line"), 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  assert_int_equal(all.lines, 2000);
  assert_int_equal(all.broken, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(nothing_is_printed_by_default, forget),
      cmocka_unit_test_teardown(the_environment_asks_for_stderr, forget),
      cmocka_unit_test_teardown(an_unknown_wish_changes_nothing, forget),
      cmocka_unit_test_teardown(levels_filter, forget),
      cmocka_unit_test_teardown(a_long_line_is_cut, forget),
      cmocka_unit_test_teardown(threads_log_whole_lines, forget),
  };
  return cmocka_run_group_tests_name("base.log", tests, NULL, NULL);
}
