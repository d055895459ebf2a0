/* Waiting: sync, deadlines, what is done; and what ends a wait. */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "session/support.h"

static bool is_done(disco_session *session, int32_t worker, uint64_t sequence) {
  bool done = false;
  expect_ok(disco_session_is_done(session, worker, sequence, &done));
  return done;
}

static void sequences_count_commands(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  assert_int_equal(disco_session_sequence(session), 0);
  assert_true(is_done(session, DISCO_ALL_WORKERS, 0));
  assert_false(is_done(session, DISCO_ALL_WORKERS, 1)); /* not even posted */
  sync_all(session);                                    /* nothing to wait for */
  disco_dref *echo = find(session, "test.echo");
  assert_int_equal(disco_session_sequence(session), 1);
  expect_ok(disco_call(session, echo, VALUES(dsc_int(1)), NULL));
  assert_int_equal(disco_session_sequence(session), 2);
  sync_all(session);
  assert_int_equal(disco_session_sequence(session), 2); /* a sync costs no command */
  assert_true(is_done(session, DISCO_ALL_WORKERS, 2));
  assert_true(is_done(session, 1, 1));
  assert_false(is_done(session, 1, 3));
  assert_false(is_done(session, 0, UINT64_MAX));
  disco_dref_unref(echo);
  end_session(session);
}

static void sync_waits_for_everything_posted(void **state) {
  (void)state;
  disco_session *session = make_session(4, 1);
  disco_dref *echo = find(session, "test.echo");
  const int rounds = scaled(500, 50);
  for (int i = 0; i < rounds; i++) {
    for (int k = 0; k < i % 5; k++) expect_ok(disco_call(session, echo, VALUES(dsc_int(k)), NULL));
    uint64_t posted = disco_session_sequence(session);
    int32_t worker = i % 5 - 1; /* one of them, or all (-1) */
    expect_ok(disco_session_sync(session, worker, WAIT_MS));
    assert_true(is_done(session, worker, posted));
  }
  disco_dref_unref(echo);
  end_session(session);
}

static void sync_of_one_leaves_the_others_alone(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  uint64_t held = disco_session_sequence(session);
  expect_ok(disco_session_sync(session, 0, WAIT_MS));
  expect_ok(disco_session_sync(session, 2, WAIT_MS));
  assert_true(is_done(session, 0, held));
  assert_true(is_done(session, 2, held));
  assert_false(is_done(session, 1, held));
  assert_false(is_done(session, DISCO_ALL_WORKERS, held));
  assert_true(is_done(session, 1, 1));
  gate_release(&stop, 1);
  sync_all(session);
  assert_true(is_done(session, DISCO_ALL_WORKERS, held));
  gate_close(&stop);
  end_session(session);
}

/* A deadline ends the wait, never the function. */
static void a_deadline_ends_the_wait_only(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *dref = put(session, dsc_int(5));
  TVMFFIAny value = dsc_int(1), all[2] = {dsc_int(1), dsc_int(2)}, six = dsc_int(6), seven = dsc_int(7);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  const int64_t deadlines[] = {0, 1, 60};
  for (int i = 0; i < 3; i++) {
    expect_refused(DISCO_TIMEOUT, "worker 1", disco_session_sync(session, 1, deadlines[i]));
    expect_says("test.gate");
    expect_says("sync");
    expect_refused(DISCO_TIMEOUT, "worker 1", disco_session_sync(session, DISCO_ALL_WORKERS, deadlines[i]));
    expect_refused(DISCO_TIMEOUT, "test.gate", disco_debug_get(dref, 1, deadlines[i], &value));
    expect_says("debug_get");
    expect_refused(DISCO_TIMEOUT, "test.gate", disco_debug_get_all(dref, deadlines[i], 2, all));
    expect_refused(DISCO_TIMEOUT, "test.gate", disco_debug_set(dref, 1, &six, deadlines[i]));
    expect_says("debug_set");
  }
  assert_int_equal(value.v_int64, 1); /* written on success only */
  assert_int_equal(all[0].v_int64, 1);
  assert_int_equal(get_int(dref, 0), 5); /* the other worker serves */
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_status(DISCO_TIMEOUT, disco_session_sync(session, 1, 1));
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_string_equal(error.kind, "TimeoutError");
  gate_release(&stop, 1);
  assert_int_equal(get_int(dref, 1), 6); /* what was posted went on */
  expect_ok(disco_debug_set(dref, 1, &seven, WAIT_MS));
  assert_int_equal(get_int(dref, 1), 7); /* replies that came late are nobody's */
  assert_int_equal(stats_of(session).errors_told, 0);
  gate_close(&stop);
  disco_dref_unref(dref);
  end_session(session);
}

/* More late replies than a reply ring holds: the worker must not wait for a reader that left. */
static void late_replies_block_nobody(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *dref = put(session, dsc_int(5));
  TVMFFIAny value = dsc_int(1);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 0);
  for (int i = 0; i < 200; i++) expect_status(DISCO_TIMEOUT, disco_debug_get(dref, 0, 0, &value));
  gate_release(&stop, 1);
  assert_int_equal(get_int(dref, 0), 5);
  sync_all(session);
  gate_close(&stop);
  disco_dref_unref(dref);
  end_session(session);
}

/* ... also when nobody reads before the end. With this grace a worker that waits for room waits for the alarm. */
static void late_replies_hold_up_no_shutdown(void **state) {
  (void)state;
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  options.grace_ms = 3600 * 1000;
  disco_session *session = make_session_with(&options);
  disco_dref *dref = put(session, dsc_int(5));
  TVMFFIAny value = dsc_int(1);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 0);
  for (int i = 0; i < 200; i++) expect_status(DISCO_TIMEOUT, disco_debug_get(dref, 0, 0, &value));
  gate_release(&stop, 1);
  disco_dref_unref(dref);
  end_session(session);
  gate_close(&stop);
}

typedef struct {
  disco_session *session;
  gate *stop;
  uint64_t wait_for;
  bool passed_early;
} opener;

/* Lets the held worker go once the other one has done `wait_for`. */
static void *open_later(void *argument) {
  opener *self = argument;
  bool done = false;
  for (int i = 0; i < WAIT_MS && !done; i++) {
    if (disco_session_is_done(self->session, 0, self->wait_for, &done) != DISCO_OK) break;
    if (!done) sleep_ms(1);
  }
  sleep_ms(20);
  if (disco_session_is_done(self->session, 1, self->wait_for, &self->passed_early) != DISCO_OK) return NULL;
  (void)!write(self->stop->go[1], "x", 1);
  return NULL;
}

static void forever_waits_until_it_is_done(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  gate stop;
  pthread_t thread;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  opener other = {session, &stop, disco_session_sequence(session), true};
  assert_int_equal(pthread_create(&thread, NULL, open_later, &other), 0);
  expect_ok(disco_session_sync(session, DISCO_ALL_WORKERS, DISCO_FOREVER));
  assert_true(is_done(session, 1, other.wait_for));
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_false(other.passed_early);
  gate_close(&stop);
  end_session(session);
}

/* A failure anywhere ends every wait, though the worker waited for still runs. */
static void a_failure_ends_the_wait(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *raise = find(session, "test.raise"), *dref = put(session, dsc_int(5));
  TVMFFIAny value = dsc_int(1);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 0);
  uint64_t held = disco_session_sequence(session);
  expect_ok(disco_call(session, raise, VALUES(dsc_int(2), any_raw("ValueError"), any_raw("first")), NULL));
  expect_refused(DISCO_RAISED, "first", disco_session_sync(session, 0, DISCO_FOREVER));
  assert_false(is_done(session, 0, held));
  expect_says("test.gate"); /* what the others did */
  expect_ok(disco_call(session, raise, VALUES(dsc_int(1), any_raw("KeyError"), any_raw("second")), NULL));
  expect_refused(DISCO_RAISED, "second", disco_debug_get(dref, 0, DISCO_FOREVER, &value));
  assert_false(is_done(session, 0, held));
  gate_release(&stop, 1);
  sync_all(session);
  assert_int_equal(get_int(dref, 0), 5);
  assert_int_equal(stats_of(session).errors_told, 2);
  gate_close(&stop);
  disco_dref_unref(raise);
  disco_dref_unref(dref);
  end_session(session);
}

/* A failure is told once, also when it was there before the wait began; then the session works. */
static void a_failure_is_told_once(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *raise = find(session, "test.raise"), *echo = find(session, "test.echo"), *result = NULL;
  expect_ok(disco_call(session, raise, VALUES(dsc_int(-1), any_raw("ValueError"), any_raw("on both")), NULL));
  uint64_t failing = disco_session_sequence(session);
  for (int i = 0; i < WAIT_MS && !is_done(session, DISCO_ALL_WORKERS, failing); i++) sleep_ms(1); /* tells nothing */
  assert_true(is_done(session, DISCO_ALL_WORKERS, failing));
  expect_refused(DISCO_RAISED, "on both", disco_call(session, echo, VALUES(dsc_int(1)), &result));
  assert_null(result);
  sync_all(session);
  result = call(session, echo, VALUES(dsc_int(2)));
  assert_int_equal(get_int(result, 0), 2);
  disco_session_stats stats = stats_of(session);
  assert_int_equal(stats.errors_told, 1);
  assert_int_equal(stats.commands_skipped, 0);
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_ok(disco_session_last_error(session, 1, &error)); /* both are kept */
  assert_int_equal(error.sequence, failing);
  disco_dref_unref(result);
  disco_dref_unref(raise);
  disco_dref_unref(echo);
  end_session(session);
}

typedef struct {
  disco_session *session;
  _Atomic bool stop;
} reader;

/* Reads the kept errors, which are under the lock that calls are issued under. */
static void *read_errors(void *argument) {
  reader *self = argument;
  disco_error_info error = {.struct_size = sizeof(error)};
  while (!atomic_load(&self->stop))
    if (disco_session_last_error(self->session, 0, &error) == DISCO_OK) break;
  return NULL;
}

/* Busy threads beside it: the sentence still says which function it was. */
static void a_deadline_names_the_function_always(void **state) {
  (void)state;
  disco_session *session = make_session(1, 1);
  reader other = {.session = session};
  pthread_t thread;
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 0);
  assert_int_equal(pthread_create(&thread, NULL, read_errors, &other), 0);
  int named = 0;
  const int rounds = scaled(2000, 200);
  for (int i = 0; i < rounds; i++) {
    disco_status status = disco_session_sync(session, 0, 0);
    named += status == DISCO_TIMEOUT && strstr(disco_last_error_text(), "test.gate") != NULL;
  }
  atomic_store(&other.stop, true);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(named, rounds);
  gate_release(&stop, 1);
  gate_close(&stop);
  end_session(session);
}

/* A full ring: the deadline of a debug_get counts there, too. */
static void a_deadline_counts_in_a_full_ring(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo"), *dref = put(session, dsc_int(5));
  TVMFFIAny value = dsc_int(1);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  /* 256 KiB hold at most 4,096 records: 3,900 calls leave little room, and worker 0, which is not held, answers the
   * reads until there is none. */
  for (int i = 0; i < 3900; i++) expect_ok(disco_call(session, echo, VALUES(dsc_int(i)), NULL));
  disco_status status = DISCO_OK;
  for (int i = 0; i < 4096 && status == DISCO_OK; i++) status = disco_debug_get(dref, 0, 1000, &value);
  check_status(status, DISCO_TIMEOUT, "debug_get in a full ring", __FILE__, __LINE__);
  expect_says("room in the command ring");
  expect_says("worker 1");
  expect_says("test.gate");
  gate_release(&stop, 1);
  sync_all(session);
  assert_int_equal(get_int(dref, 1), 5);
  gate_close(&stop);
  disco_dref_unref(dref);
  disco_dref_unref(echo);
  end_session(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(sequences_count_commands),
                                     cmocka_unit_test(sync_waits_for_everything_posted),
                                     cmocka_unit_test(sync_of_one_leaves_the_others_alone),
                                     cmocka_unit_test(a_deadline_ends_the_wait_only),
                                     cmocka_unit_test(late_replies_block_nobody),
                                     cmocka_unit_test(late_replies_hold_up_no_shutdown),
                                     cmocka_unit_test(forever_waits_until_it_is_done),
                                     cmocka_unit_test(a_failure_ends_the_wait),
                                     cmocka_unit_test(a_failure_is_told_once),
                                     cmocka_unit_test(a_deadline_names_the_function_always),
                                     cmocka_unit_test(a_deadline_counts_in_a_full_ring)};
  return RUN_SUITE(tests, NULL);
}
