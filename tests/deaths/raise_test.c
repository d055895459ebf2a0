/* A function raises on a worker process: told once with all its fields, and the session goes on. */
#include <signal.h>
#include <stdio.h>

#include "deaths/support.h"

static disco_error_info expect_raised(disco_status status, const char *kind, const char *message) {
  if (status != DISCO_RAISED) print_error("status %d: %s\n", (int)status, disco_last_error_text());
  assert_int_equal(status, DISCO_RAISED);
  disco_error_info error = last_error();
  assert_string_equal(error.kind, kind);
  assert_string_equal(error.message, message);
  return error;
}

static void the_error_has_its_fields_and_is_told_once(void **state) {
  (void)state;
  for (int pipe = 0; pipe < 2; pipe++)
    for (int32_t worker = 0; worker < 4; worker++) {
      disco_session_options options = options_of(4, pipe == 1);
      options.num_groups = 2;
      disco_session *session = open_with(&options);
      const pid_t pid = pid_of(session, worker);
      disco_dref *function = find(session, "d.raise"), *result = NULL;
      TVMFFIAny value = dsc_none();
      char part[64];
      OK(disco_call(session, function, ARGS(dsc_int(worker), of_text("KeyError"), of_text("no such \"thing\"")),
                    &result));
      const uint64_t sequence = disco_session_sequence(session);
      disco_error_info error =
          expect_raised(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), "KeyError", "no such \"thing\"");
      assert_int_equal(error.worker, worker);
      assert_int_equal(error.group, worker / 2);
      assert_int_equal(error.pid, pid);
      assert_string_equal(error.function, "d.raise");
      assert_int_equal(error.sequence, sequence);
      assert_int_equal(error.signal_number, -1);
      assert_int_equal(error.exit_status, -1);
      assert_true(error.host[0] != 0);
      (void)snprintf(part, sizeof(part), "process %d", (int)pid);
      CONTAINS(error.text, part);
      OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS)); /* once */
      assert_int_equal(pid_of(session, worker), pid);
      assert_int_equal(disco_debug_get(result, worker, BOUND_MS, &value), DISCO_VALUE); /* poisoned */
      CONTAINS(disco_last_error_text(), "has no value");
      for (int32_t other_one = 0; other_one < 4; other_one++)
        if (other_one != worker) assert_int_equal(get_int(result, other_one), other_one);
      expect_works(session);
      disco_dref_unref(result);
      disco_dref_unref(function);
      close_session(session);
    }
}

/* A register that was not made is an error where it is used: on that worker alone. */
static void a_poisoned_result_raises_where_it_is_used(void **state) {
  (void)state;
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(3, pipe == 1);
    disco_dref *result = call(session, "d.raise", ARGS(dsc_int(2), of_text("ValueError"), of_text("not today")));
    expect_raised(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), "ValueError", "not today");
    disco_dref *copy = call(session, "d.echo", ARGS(of_dref(result)));
    disco_status status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
    assert_true(status == DISCO_VALUE || status == DISCO_RAISED);
    assert_int_equal(last_error().worker, 2);
    assert_int_equal(get_int(copy, 1), 1);
    const TVMFFIAny healed = dsc_int(77);
    OK(disco_debug_set(result, 2, &healed, BOUND_MS));
    assert_int_equal(get_int(result, 2), 77);
    disco_dref_unref(copy);
    disco_dref_unref(result);
    expect_works(session);
    close_session(session);
  }
}

/* Everybody raises; the lowest worker of the lowest command is told, the others are kept. */
static void everybody_raises(void **state) {
  (void)state;
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(4, pipe == 1);
    expect_works(session);
    for (int i = 0; i < scaled(20, 3); i++) {
      post(session, "d.raise", ARGS(dsc_int(-1), of_text("OSError"), of_text("all of us")));
      expect_raised(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), "OSError", "all of us");
      expect_works(session);
    }
    close_session(session);
  }
}

/* What is posted behind the failing command, while it runs, is skipped: but for what was under way in a pipe. */
static void others_skip(void **state) {
  (void)state;
  enum { POSTED = 1500, WINDOW = 1024 };
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(3, pipe == 1);
    expect_works(session);
    const int64_t before = counted_here();
    disco_dref *count = find(session, "d.count"), *raise = find(session, "d.raise"), *last = NULL;
    post(session, "d.nap", ARGS(dsc_int(0), dsc_int(200))); /* worker 0 comes late to everything */
    post(session, "d.nap", ARGS(dsc_int(1), dsc_int(100)));
    OK(disco_call(session, raise, ARGS(dsc_int(2), of_text("ValueError"), of_text("stop")), NULL));
    const uint64_t failed = disco_session_sequence(session);
    int posted = 0;
    disco_status status = DISCO_OK;
    for (; status == DISCO_OK && posted < POSTED; posted++) {
      disco_dref_unref(last);
      last = NULL;
      status = disco_call(session, count, NULL, 0, &last);
    }
    if (status == DISCO_OK) status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
    disco_error_info error = expect_raised(status, "ValueError", "stop");
    assert_int_equal(error.worker, 2);
    assert_int_equal(error.sequence, failed);
    OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
    assert_int_equal(counted_here(), before); /* worker 0 ran none of them */
    disco_session_stats stats = {.struct_size = sizeof(stats)};
    OK(disco_session_get_stats(session, &stats));
    if (posted == POSTED && pipe == 1) assert_true(stats.commands_skipped >= POSTED + 2 * (POSTED - WINDOW) - 2);
    if (posted > 1) assert_true(stats.commands_skipped > 0); /* else the failure came before the first of them */
    disco_dref_unref(last);
    disco_dref_unref(raise);
    disco_dref_unref(count);
    expect_works(session);
    close_session(session);
  }
}

/* Errors by the dozen lose nothing and leak nothing. */
static void many_errors(void **state) {
  (void)state;
  census before = census_begin();
  disco_session *session = open_session(3, false);
  disco_dref *raise = find(session, "d.raise");
  char text[3000];
  memset(text, 'x', sizeof(text) - 1);
  text[sizeof(text) - 1] = 0;
  for (int i = 0; i < scaled(200, 10); i++) {
    OK(disco_call(session, raise, ARGS(dsc_int(i % 3), of_text("IndexError"), of_text(text)), NULL));
    assert_int_equal(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), DISCO_RAISED);
    assert_int_equal(last_error().worker, i % 3);
  }
  disco_dref_unref(raise);
  close_session(session);
  census_end(&before);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_error_has_its_fields_and_is_told_once),
      cmocka_unit_test(a_poisoned_result_raises_where_it_is_used),
      cmocka_unit_test(everybody_raises),
      cmocka_unit_test(others_skip),
      cmocka_unit_test(many_errors),
  };
  return deaths_main(argc, argv, "deaths.raise", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
