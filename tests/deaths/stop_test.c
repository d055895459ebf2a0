/* Workers that do not die but do not go on either: stopped ones, deadlocked ones. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "deaths/support.h"

typedef struct {
  pid_t pid;
  int ms;
} later;

static void *go_on(void *argument) {
  later *self = argument;
  sleep_ms(self->ms);
  (void)kill(self->pid, SIGCONT);
  return NULL;
}

/* Before the limit it is no error, and nothing is lost. */
static void stopped_and_continued(void **state) {
  (void)state;
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(3, pipe == 1);
    options.stopped_ms = 4000;
    disco_session *session = open_with(&options);
    later wake = {pid_of(session, 1), 900};
    pthread_t thread;
    assert_int_equal(kill(wake.pid, SIGSTOP), 0);
    disco_dref *result = call(session, "d.count", NO_ARGS);
    assert_int_equal(pthread_create(&thread, NULL, go_on, &wake), 0);
    disco_status status = disco_session_sync(session, DISCO_ALL_WORKERS, 100);
    assert_int_equal(status, DISCO_TIMEOUT);
    assert_int_equal(get_int(result, 1), 1);
    OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
    pthread_join(thread, NULL);
    expect_works(session);
    disco_dref_unref(result);
    close_session(session);
  }
}

/* Past the limit: a warning first, then the loss, which says so. */
static void stopped_for_too_long(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(3, pipe == 1);
    options.stopped_ms = 500;
    disco_session *session = open_with(&options);
    const pid_t pid = pid_of(session, 1);
    disco_dref *nap = find(session, "d.nap");
    OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
    log_begin();
    OK(disco_call(session, nap, ARGS(dsc_int(1), dsc_int(1500)), NULL));
    OK(disco_session_sync(session, 0, BOUND_MS));
    sleep_ms(20);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    disco_error_info error = expect_lost(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), 1);
    assert_int_equal(error.pid, pid);
    CONTAINS(error.message, "stopped (SIGSTOP) for 500 ms");
    CONTAINS(error.text, "`d.nap`");
    assert_true(log_has("is stopped (SIGSTOP)"));
    assert_true(log_has("worker 1"));
    log_end();
    expect_sticky(session, nap);
    disco_dref_unref(nap);
    close_session(session);
    census_end(&before);
  }
}

/* The same for a call that waits for room. */
static void stopped_with_a_full_ring(void **state) {
  (void)state;
  census before = census_begin();
  disco_session_options options = options_of(3, false);
  options.stopped_ms = 500;
  disco_session *session = open_with(&options);
  disco_dref *count = find(session, "d.count");
  TVMFFIAny numbers[64];
  for (int i = 0; i < 64; i++) numbers[i] = dsc_int(i);
  assert_int_equal(kill(pid_of(session, 2), SIGSTOP), 0);
  disco_status status = DISCO_OK;
  while (status == DISCO_OK) status = disco_call(session, count, numbers, 64, NULL);
  disco_error_info error = expect_lost(status, 2);
  CONTAINS(error.message, "stopped (SIGSTOP)");
  disco_dref_unref(count);
  close_session(session);
  census_end(&before);
}

/* Nobody waits: nothing is declared; then shutdown ends it. */
static void shutdown_ends_a_stopped_worker(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(3, pipe == 1);
    options.grace_ms = 300;
    disco_session *session = open_with(&options);
    const pid_t pid = pid_of(session, 1);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    const int64_t begin = now_ms();
    assert_int_equal(disco_session_shutdown(session), DISCO_LOST);
    CONTAINS(disco_last_error_text(), "worker 1 (process ");
    assert_true(now_ms() - begin < BOUND_MS);
    disco_session_unref(session);
    census_end(&before);
  }
}

/* A deadlocked function: the deadline says so and changes nothing; shutdown is bounded and names it. */
static void deadlocked(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(3, pipe == 1);
    options.grace_ms = 300;
    disco_session *session = open_with(&options);
    const pid_t pid = pid_of(session, 1);
    disco_dref *result = call(session, "d.hang", ARGS(dsc_int(1)));
    TVMFFIAny value = dsc_none();
    for (int i = 0; i < 2; i++) {
      assert_int_equal(disco_session_sync(session, DISCO_ALL_WORKERS, 60), DISCO_TIMEOUT);
      CONTAINS(disco_last_error_text(), "d.hang");
      assert_int_equal(disco_debug_get(result, 1, 60, &value), DISCO_TIMEOUT);
    }
    disco_dref *ids = call(session, "d.id", NO_ARGS); /* the others still work */
    assert_int_equal(get_int(ids, 0), 0);
    assert_int_equal(get_int(ids, 2), 2);
    OK(disco_session_sync(session, 2, BOUND_MS));
    assert_int_equal(kill(pid, 0), 0);
    disco_dref_unref(ids);
    disco_dref_unref(result);
    const int64_t begin = now_ms();
    assert_int_equal(disco_session_shutdown(session), DISCO_LOST);
    CONTAINS(disco_last_error_text(), "worker 1 (process ");
    CONTAINS(disco_last_error_text(), "d.hang");
    assert_true(now_ms() - begin < BOUND_MS);
    assert_int_equal(disco_session_shutdown(session), DISCO_LOST); /* says the same again */
    disco_session_unref(session);
    census_end(&before);
  }
}

/* All of them, with the ring full behind them: still bounded. */
static void deadlocked_with_a_full_ring(void **state) {
  (void)state;
  census before = census_begin();
  disco_session_options options = options_of(4, false);
  options.grace_ms = 300;
  disco_session *session = open_with(&options);
  for (int i = 1; i < 4; i++) post(session, "d.hang", ARGS(dsc_int(i)));
  disco_dref *count = find(session, "d.count");
  TVMFFIAny numbers[64];
  for (int i = 0; i < 64; i++) numbers[i] = dsc_int(i);
  for (int i = 0; i < 100; i++) OK(disco_call(session, count, numbers, 64, NULL));
  disco_dref_unref(count);
  const int64_t begin = now_ms();
  assert_int_equal(disco_session_shutdown(session), DISCO_LOST);
  for (int i = 1; i < 4; i++) {
    char part[32];
    (void)snprintf(part, sizeof(part), "worker %d (process ", i);
    CONTAINS(disco_last_error_text(), part);
  }
  assert_true(now_ms() - begin < BOUND_MS);
  disco_session_unref(session);
  census_end(&before);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stopped_and_continued),
      cmocka_unit_test(stopped_for_too_long),
      cmocka_unit_test(stopped_with_a_full_ring),
      cmocka_unit_test(shutdown_ends_a_stopped_worker),
      cmocka_unit_test(deadlocked),
      cmocka_unit_test(deadlocked_with_a_full_ring),
  };
  return deaths_main(argc, argv, "deaths.stop", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
