/* What an error says: its fields, its four lines, odd kinds and messages, and which failures become errors. */
#include "faults/support.h"

#include <stdio.h>
#include <unistd.h>

#include "ffi/value.h"

static disco_status raise_on(disco_dref *raise, int64_t mask, const char *kind, const char *message,
                             disco_dref **ret_result) {
  return faults_try(raise, ret_result, 4, faults_int(mask), faults_str(kind), faults_str(message),
                    faults_str("innermost\nouter"));
}

/* Post a raise and be told by a sync. */
static disco_error_info told_of(disco_dref *raise, int64_t mask, const char *kind, const char *message) {
  OK(raise_on(raise, mask, kind, message, NULL));
  disco_status status = faults_sync(disco_dref_session(raise));
  assert_int_equal(status, DISCO_RAISED);
  return faults_error();
}

static char *copy_line(const char *text, int number, char *room, size_t size) {
  for (; number > 0 && text != NULL; number--) {
    text = strchr(text, '\n');
    if (text != NULL) text++;
  }
  assert_non_null(text);
  (void)snprintf(room, size, "%.*s", (int)strcspn(text, "\n"), text);
  return room;
}

static int count_lines(const char *text) {
  int lines = 1;
  for (; *text != 0; text++) lines += *text == '\n';
  return lines;
}

static void test_fields(void **state) {
  (void)state;
  disco_session_options options = faults_options(4, 2);
  disco_session *session = faults_open_with(&options);
  disco_dref *raise = faults_function(session, "faults.raise");
  disco_error_info info = told_of(raise, 1 << 2, "ValueError", "no soup today");
  char host[256] = "";
  assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
  assert_int_equal(info.status, DISCO_RAISED);
  assert_string_equal(info.kind, "ValueError");
  assert_string_equal(info.message, "no soup today");
  assert_string_equal(info.backtrace, "innermost\nouter");
  assert_string_equal(info.function, "faults.raise");
  assert_string_equal(info.host, host);
  assert_int_equal(info.worker, 2);
  assert_int_equal(info.group, 1);
  assert_int_equal(info.pid, getpid());
  assert_int_equal(info.sequence, 2); /* after get_global_func */
  assert_int_equal(info.signal_number, -1);
  assert_int_equal(info.exit_status, -1);
  assert_string_equal(disco_last_error_text(), info.text);
  disco_dref_unref(raise);
  faults_close(session);
}

static void test_the_four_lines(void **state) {
  (void)state;
  disco_session_options options = faults_options(4, 2);
  disco_session *session = faults_open_with(&options);
  disco_dref *raise = faults_function(session, "faults.raise"), *hold = faults_function(session, "faults.hold");
  faults_gate_close(0);
  faults_post(hold, 3, faults_int(0), faults_int(1 << 3), faults_int(0)); /* worker 3 is busy in command 3 */
  faults_gate_wait_inside(0, 1);
  disco_error_info info = told_of(raise, 1 << 1, "KeyError", "lost key"); /* command 4 */
  char line[1024], want[512], host[256] = "";
  assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
  assert_int_equal(count_lines(info.text), 4);
  assert_string_equal(copy_line(info.text, 0, line, sizeof(line)), "KeyError: lost key");
  (void)copy_line(info.text, 1, line, sizeof(line));
  (void)snprintf(want, sizeof(want), "worker 1 of 4 (group 0, thread of process %d on %s) in `faults.raise`, command 4",
                 (int)getpid(), host);
  faults_contains(line, want);
  (void)copy_line(info.text, 2, line, sizeof(line));
  faults_contains(line, "worker 0 had done ");
  faults_contains(line, "worker 2 had done ");
  faults_contains(line, "worker 3 had done 2 and was in `faults.hold`, command 3");
  assert_null(strstr(line, "worker 1")); /* the culprit is no other */
  (void)copy_line(info.text, 3, line, sizeof(line));
  faults_contains(line, "try: ");
  faults_contains(line, "nothing else was skipped");
  faults_gate_open(0);
  disco_dref_unref(raise);
  disco_dref_unref(hold);
  faults_close(session);
}

/* Line four names the commands that were skipped, or ran on some workers only. */
static void test_line_four_names_commands(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *held = faults_function(session, "faults.hold_raise"), *id = faults_function(session, "faults.id");
  for (int extra = 1; extra <= 3; extra += 2) {
    faults_gate_close(0);
    faults_post(held, 3, faults_int(0), faults_int(1), faults_str("held"));
    uint64_t failed = disco_session_sequence(session);
    for (int i = 0; i < extra; i++) faults_post(id, 0);
    faults_gate_open(0);
    faults_settle(session);
    assert_int_equal(faults_sync(session), DISCO_RAISED);
    disco_error_info info = faults_error();
    char line[1024], want[128];
    assert_int_equal(info.sequence, failed);
    if (extra == 1)
      (void)snprintf(want, sizeof(want), "command %llu was skipped, or ran on some workers only",
                     (unsigned long long)failed + 1);
    else
      (void)snprintf(want, sizeof(want), "commands %llu to %llu were skipped, or ran on some workers only",
                     (unsigned long long)failed + 1, (unsigned long long)failed + (unsigned long long)extra);
    faults_contains(copy_line(info.text, 3, line, sizeof(line)), want);
  }
  disco_dref_unref(held);
  disco_dref_unref(id);
  faults_close(session);
}

static void expect_history(disco_session *session, int32_t index, uint64_t sequence, int32_t worker,
                           const char *message) {
  disco_error_info info = {.struct_size = sizeof(info)};
  OK(disco_session_last_error(session, index, &info));
  assert_int_equal(info.sequence, sequence);
  if (worker >= 0) assert_int_equal(info.worker, worker);
  if (message != NULL) assert_string_equal(info.message, message);
}

static void test_raise_on_all(void **state) {
  (void)state;
  disco_session *session = faults_open(4);
  disco_dref *raise = faults_function(session, "faults.raise");
  OK(raise_on(raise, FAULTS_ALL, "ValueError", "all of us", NULL));
  faults_settle(session); /* all four have failed */
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "all of us");
  assert_int_equal(faults_error().worker, 0); /* lowest sequence, then lowest worker */
  unsigned seen = 0;
  for (int32_t i = 0; i < 4; i++) {
    disco_error_info info = {.struct_size = sizeof(info)};
    OK(disco_session_last_error(session, i, &info));
    assert_int_equal(info.sequence, 2);
    seen |= 1u << info.worker;
  }
  assert_int_equal(seen, 15);
  OK(faults_sync(session)); /* nothing is told twice, on no worker */
  faults_post(raise, 4, faults_int(0), faults_str(""), faults_str(""), faults_str(""));
  OK(faults_sync(session));
  assert_int_equal(faults_stats(session).errors_told, 1);
  assert_int_equal(faults_stats(session).errors_late, 0);
  disco_dref_unref(raise);
  faults_close(session);
}

/* Worker 1 fails at a later command, and first in time: the earlier command's failure is the one that is told. */
static void test_two_at_different_sequences(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *raise = faults_function(session, "faults.raise"), *held = faults_function(session, "faults.hold_raise");
  faults_gate_close(0);
  faults_post(held, 3, faults_int(0), faults_int(1 << 0), faults_str("earlier"));
  uint64_t earlier = disco_session_sequence(session);
  faults_gate_wait_inside(0, 1);
  OK(raise_on(raise, 1 << 1, "KeyError", "later", NULL));
  bool done = false;
  for (int i = 0; i < FAULTS_BOUND_MS && !done; i++) {
    OK(disco_session_is_done(session, 1, earlier + 1, &done));
    if (!done) faults_sleep_ms(1);
  }
  assert_true(done); /* worker 1 has failed */
  faults_gate_open(0);
  faults_settle(session);
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "earlier");
  assert_int_equal(faults_error().worker, 0);
  assert_int_equal(faults_error().sequence, earlier);
  expect_history(session, 0, earlier + 1, 1, "later");
  expect_history(session, 1, earlier, 0, "earlier");
  OK(faults_sync(session));
  assert_int_equal(faults_stats(session).errors_told, 1);
  disco_dref_unref(raise);
  disco_dref_unref(held);
  faults_close(session);
}

static void test_long_messages_are_cut(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *raise = faults_function(session, "faults.raise");
  enum { SIZE = 40000 };
  char *message = malloc(SIZE + 1);
  assert_non_null(message);
  memset(message, 'x', SIZE);
  message[SIZE] = 0;
  memcpy(message, "begin", 5);
  disco_error_info info = told_of(raise, 1 << 1, "OverflowError", message);
  assert_string_equal(info.kind, "OverflowError");
  assert_memory_equal(info.message, "beginxxxx", 9);
  assert_true(strlen(info.message) > 8000 && strlen(info.message) < 16384);
  faults_contains(info.message, "... [cut: 40000 bytes in all]");
  assert_string_equal(info.backtrace, "innermost\nouter"); /* there is room left for it */
  assert_string_equal(info.function, "faults.raise");
  /* One that just fits is whole. */
  message[8000] = 0;
  info = told_of(raise, 1 << 1, "OverflowError", message);
  assert_string_equal(info.message, message);
  free(message);
  disco_dref_unref(raise);
  faults_close(session);
}

static void test_odd_kinds_and_messages(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *raise = faults_function(session, "faults.raise");
  char kind[201];
  memset(kind, 'K', 200);
  kind[200] = 0;
  disco_error_info info = told_of(raise, 1, kind, "a long kind");
  assert_true(strlen(info.kind) >= 32 && strncmp(info.kind, kind, strlen(info.kind)) == 0);
  assert_string_equal(info.message, "a long kind");
  info = told_of(raise, 1, "", "no kind");
  assert_string_equal(info.kind, "RuntimeError");
  assert_string_equal(info.message, "no kind");
  info = told_of(raise, 1, "ValueError", "");
  assert_string_equal(info.kind, "ValueError");
  assert_string_equal(info.message, "");
  info = told_of(raise, 1, "ValueError", "100 %s %d %n percent"); /* never a format */
  assert_string_equal(info.message, "100 %s %d %n percent");
  disco_dref_unref(raise);
  faults_close(session);
}

static void test_failing_in_silence(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *silent = faults_function(session, "faults.silent"), *result = NULL;
  OK(faults_try(silent, &result, 1, faults_int(1 << 1)));
  faults_refused(faults_sync(session), DISCO_RAISED, "RuntimeError", "without saying why");
  assert_int_equal(faults_error().worker, 1);
  assert_string_equal(faults_error().function, "faults.silent");
  assert_int_equal(faults_get(result, 0), 0);
  disco_dref_unref(result);
  disco_dref_unref(silent);
  faults_close(session);
}

/* An error raised while a value dies belongs to nobody. */
static void test_errors_of_deleters(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *make = faults_function(session, "faults.raise_at_end"), *object = faults_call(make, 0);
  OK(faults_sync(session));
  int64_t dead = faults_objects_dead();
  disco_dref_unref(object);
  faults_post(make, 0); /* carries the release, and drops its own result */
  OK(faults_sync(session));
  assert_int_equal(faults_objects_dead(), dead + 4);
  OK(faults_sync(session));
  assert_int_equal(faults_stats(session).errors_told, 0);
  disco_dref_unref(make);
  faults_close(session);
}

static void test_unknown_function(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *function = faults_function(session, "faults.hodl"); /* posted: an earlier command might register it */
  faults_settle(session);
  faults_refused(faults_sync(session), DISCO_VALUE, "ValueError", "Unknown function `faults.hodl`");
  disco_error_info info = faults_error();
  faults_contains(info.text, "did you mean");
  faults_contains(info.text, "`faults.hold`");
  assert_int_equal(info.worker, 0);
  faults_contains(info.text, "worker 0 of 2");
  assert_string_equal(info.function, "faults.hodl");
  /* Using it is a new error, which names the command that failed. */
  faults_post(function, 0);
  faults_refused(faults_sync(session), DISCO_VALUE, "ValueError", "command 1");
  OK(faults_sync(session));
  disco_dref_unref(function);
  faults_close(session);
}

static void test_register_that_is_no_function(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *number = NULL;
  TVMFFIAny five = faults_int(5);
  OK(disco_session_put(session, &five, &number));
  faults_post(number, 0);
  char want[64];
  (void)snprintf(want, sizeof(want), "register %lld does not hold a Function but `int`",
                 (long long)disco_dref_reg_id(number));
  faults_refused(faults_sync(session), DISCO_TYPE, "TypeError", want);
  assert_int_equal(faults_error().sequence, 2);
  faults_all_have(number, 5); /* it is still there */
  disco_dref_unref(number);
  faults_close(session);
}

static void test_an_error_object_is_a_value(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *make = faults_function(session, "faults.error_value"), *error = faults_call(make, 0);
  OK(faults_sync(session));
  TVMFFIAny value = dsc_none();
  OK(disco_debug_get(error, 1, FAULTS_BOUND_MS, &value));
  assert_int_equal(value.type_index, kTVMFFIError);
  dsc_value_drop(&value);
  disco_dref *hold = faults_function(session, "faults.hold"); /* as an argument it raises nothing either */
  faults_post(hold, 3, faults_int(0), faults_int(0), faults_dref(error));
  OK(faults_sync(session));
  assert_int_equal(faults_stats(session).errors_told, 0);
  disco_dref_unref(hold);
  disco_dref_unref(error);
  disco_dref_unref(make);
  faults_close(session);
}

/* Calls that only look, and drops, tell nothing: the error stays for the next one that may. */
static void test_exempt_calls(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *raise = faults_function(session, "faults.raise"), *id = faults_function(session, "faults.id");
  disco_dref *spare = faults_call(id, 0);
  OK(raise_on(raise, 1, "ValueError", "kept", NULL));
  uint64_t failed = disco_session_sequence(session);
  faults_settle(session);
  for (int round = 0; round < 3; round++) {
    char *text = NULL;
    bool done = false;
    disco_error_info info = {.struct_size = sizeof(info)};
    assert_int_equal(disco_session_num_workers(session), 2);
    assert_int_equal(disco_session_num_groups(session), 1);
    OK(disco_session_is_done(session, DISCO_ALL_WORKERS, failed, &done));
    assert_true(done);
    OK(disco_session_dump(session, &text));
    faults_contains(text, "failed at command");
    disco_text_free(text);
    assert_int_equal(faults_stats(session).errors_told, 0);
    if (round == 0) disco_dref_unref(spare);
    disco_status status = disco_session_last_error(session, 0, &info);
    assert_true(status == DISCO_OK || status == DISCO_VALUE); /* known only once somebody collected it */
    disco_session_ref(session);
    disco_session_unref(session);
  }
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "kept");
  assert_int_equal(faults_error().sequence, failed);
  OK(faults_sync(session));
  disco_dref_unref(id);
  disco_dref_unref(raise);
  faults_close(session);
}

static void test_shutdown_keeps_the_untold(void **state) {
  (void)state;
  disco_session *session = faults_open(3);
  disco_dref *raise = faults_function(session, "faults.raise");
  OK(raise_on(raise, 1 << 1, "ValueError", "never told", NULL));
  OK(disco_session_shutdown(session));
  expect_history(session, 0, 2, 1, "never told");
  assert_int_equal(faults_stats(session).errors_told, 0);
  disco_dref_unref(raise);
  disco_session_unref(session);
}

static void test_the_last_sixteen(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *raise = faults_function(session, "faults.raise");
  uint64_t sequences[20];
  char message[32];
  disco_error_info info = {.struct_size = sizeof(info)};
  assert_int_equal(disco_session_last_error(session, 0, &info), DISCO_VALUE);
  for (int i = 0; i < 20; i++) {
    (void)snprintf(message, sizeof(message), "failure %d", i);
    sequences[i] = told_of(raise, 1 << (i % 2), "ValueError", message).sequence;
  }
  for (int i = 0; i < 16; i++) {
    (void)snprintf(message, sizeof(message), "failure %d", 19 - i);
    expect_history(session, i, sequences[19 - i], (19 - i) % 2, message);
  }
  faults_refused(disco_session_last_error(session, 16, &info), DISCO_VALUE, "ValueError", "no error 16");
  assert_int_equal(disco_session_last_error(session, -1, &info), DISCO_VALUE);
  disco_dref_unref(raise);
  faults_close(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fields),
      cmocka_unit_test(test_the_four_lines),
      cmocka_unit_test(test_line_four_names_commands),
      cmocka_unit_test(test_raise_on_all),
      cmocka_unit_test(test_two_at_different_sequences),
      cmocka_unit_test(test_long_messages_are_cut),
      cmocka_unit_test(test_odd_kinds_and_messages),
      cmocka_unit_test(test_failing_in_silence),
      cmocka_unit_test(test_errors_of_deleters),
      cmocka_unit_test(test_unknown_function),
      cmocka_unit_test(test_register_that_is_no_function),
      cmocka_unit_test(test_an_error_object_is_a_value),
      cmocka_unit_test(test_exempt_calls),
      cmocka_unit_test(test_shutdown_keeps_the_untold),
      cmocka_unit_test(test_the_last_sixteen),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
