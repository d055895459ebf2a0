/* One thread stops at a named point of the library (base/inject.h) while the others go on. They make the progress that
 * was promised, and after the release nothing was lost. */
#include "faults/support.h"

#include <stdio.h>

#include "ffi/value.h"

typedef struct {
  disco_session *session;
  disco_dref *count, *raise;
} world;

static world open_world(int32_t workers) {
  world w = {.session = faults_open(workers)};
  w.count = faults_function(w.session, "faults.count");
  w.raise = faults_function(w.session, "faults.raise");
  OK(faults_sync(w.session));
  faults_count_reset();
  return w;
}

static void close_world(world *w) {
  disco_dref_unref(w->count);
  disco_dref_unref(w->raise);
  faults_close(w->session);
}

static void raise_on(const world *w, int64_t mask, const char *message) {
  faults_post(w->raise, 4, faults_int(mask), faults_str("ValueError"), faults_str(message), faults_str(""));
}

/* Every worker has counted n calls, and the session still does everything. */
static void expect_right(world *w, int64_t n) {
  OK(faults_sync(w->session));
  for (int32_t i = 0; i < disco_session_num_workers(w->session); i++) assert_int_equal(faults_counted(i), n);
  disco_dref *result = faults_call(w->count, 0);
  for (int32_t i = 0; i < disco_session_num_workers(w->session); i++) assert_int_equal(faults_get(result, i), n + 1);
  disco_dref_unref(result);
  OK(faults_sync(w->session));
}

typedef struct {
  int32_t worker;
  int64_t n;
} count_wish;

static bool has_counted(void *context) {
  const count_wish *wish = context;
  return faults_counted(wish->worker) >= wish->n;
}

static void wait_counted(int32_t worker, int64_t n) {
  count_wish wish = {worker, n};
  assert_true(faults_until(has_counted, &wish));
}

static bool is_asleep(void *context) {
  char *text = NULL;
  OK(disco_session_dump(context, &text));
  int idle = 0;
  for (const char *at = text; (at = strstr(at, "idle")) != NULL; at++) idle++;
  disco_text_free(text);
  return idle == disco_session_num_workers(context);
}

/* A caller stops with the lock held: the record is visible, nobody was woken. */
static void test_published_before_the_doorbell(void **state) {
  (void)state;
  for (int asleep = 0; asleep < 2; asleep++) {
    world w = open_world(2);
    if (asleep) {
      assert_true(faults_until(is_asleep, w.session));
      faults_sleep_ms(20);
    }
    uint64_t before = disco_session_sequence(w.session);
    faults_thread caller = {.run = faults_run_call, .dref = w.count, .caller = true};
    faults_thread other = {.run = faults_run_call, .dref = w.count};
    faults_thread syncer = {.run = faults_run_sync, .session = w.session, .worker = DISCO_ALL_WORKERS, .timeout_ms = 1};
    disco_dref *spare = faults_call(w.count, 0);
    faults_pause_at("session.published", FAULTS_CALLER, 0);
    faults_start(&caller);
    faults_pause_wait_reached();
    /* What needs no lock goes on. */
    assert_int_equal(disco_session_sequence(w.session), before + 2);
    assert_int_equal(faults_stats(w.session).commands, before + 2);
    char *text = NULL;
    OK(disco_session_dump(w.session, &text));
    disco_text_free(text);
    disco_dref_unref(spare); /* never waits */
    bool done = true;
    OK(disco_session_is_done(w.session, 0, before + 3, &done));
    assert_false(done);
    /* A deadline holds while the lock is held by somebody else. */
    TVMFFIAny value;
    faults_refused(disco_debug_get(w.count, 0, 20, &value), DISCO_TIMEOUT, "TimeoutError", "");
    faults_start(&syncer); /* done or timed out, but back */
    faults_join(&syncer);
    assert_true(syncer.status == DISCO_OK || syncer.status == DISCO_TIMEOUT);
    faults_start(&other);
    faults_sleep_ms(10);
    assert_false(atomic_load(&other.ended));
    faults_pause_release();
    faults_join(&caller);
    faults_join(&other);
    assert_int_equal(caller.status, DISCO_OK);
    assert_int_equal(other.status, DISCO_OK);
    expect_right(&w, 3);
    assert_int_equal(faults_stats(w.session).live_registers, 2);
    close_world(&w);
  }
}

/* A caller stops behind the lock, before it looks who sleeps: another caller's commands wake the workers for both. */
static void test_unlocked_before_the_doorbell(void **state) {
  (void)state;
  for (int asleep = 0; asleep < 2; asleep++) {
    world w = open_world(3);
    if (asleep) {
      assert_true(faults_until(is_asleep, w.session));
      faults_sleep_ms(20);
    }
    faults_thread caller = {.run = faults_run_call, .dref = w.count, .caller = true};
    faults_pause_at("session.unlocked", FAULTS_CALLER, 0);
    faults_start(&caller);
    faults_pause_wait_reached();
    for (int i = 0; i < 10; i++) faults_post(w.count, 0);
    OK(faults_sync(w.session));
    for (int32_t i = 0; i < 3; i++) assert_int_equal(faults_counted(i), 11);
    faults_pause_release();
    faults_join(&caller);
    assert_int_equal(caller.status, DISCO_OK);
    expect_right(&w, 11);
    close_world(&w);
  }
}

/* Nobody else posts: the paused caller's command must still be run once it goes on. */
static void test_unlocked_and_alone(void **state) {
  (void)state;
  world w = open_world(3);
  assert_true(faults_until(is_asleep, w.session));
  faults_sleep_ms(20);
  faults_thread caller = {.run = faults_run_call, .dref = w.count, .caller = true};
  faults_pause_at("session.unlocked", FAULTS_CALLER, 0);
  faults_start(&caller);
  faults_pause_wait_reached();
  TVMFFIAny object = faults_object();
  faults_pause_release();
  faults_join(&caller);
  for (int32_t i = 0; i < 3; i++) wait_counted(i, 1);
  dsc_value_drop(&object);
  expect_right(&w, 1);
  close_world(&w);
}

/* A worker has stored that it failed, and did not count it yet. */
static void test_failed_but_not_counted(void **state) {
  (void)state;
  world w = open_world(3);
  uint64_t failed = disco_session_sequence(w.session) + 1;
  faults_pause_at("worker.failed", 1, 0);
  raise_on(&w, 1 << 1, "half told");
  faults_pause_wait_reached();
  for (int i = 0; i < 5; i++) faults_post(w.count, 0); /* nothing is known: calls go on */
  wait_counted(0, 5);
  wait_counted(2, 5);
  OK(disco_session_sync(w.session, 0, FAULTS_BOUND_MS));
  bool done = true;
  OK(disco_session_is_done(w.session, 1, failed, &done));
  assert_false(done); /* whoever sees done sees the failure */
  faults_pause_release();
  faults_settle(w.session);
  faults_refused(faults_sync(w.session), DISCO_RAISED, "ValueError", "half told");
  assert_int_equal(faults_error().sequence, failed);
  assert_int_equal(faults_counted(1), 0); /* skipped there: it failed itself */
  OK(faults_sync(w.session));
  assert_int_equal(faults_stats(w.session).errors_told, 1);
  disco_dref *result = faults_call(w.count, 0);
  assert_int_equal(faults_get(result, 1), 1);
  assert_int_equal(faults_get(result, 0), 6);
  disco_dref_unref(result);
  close_world(&w);
}

/* The same while another worker's failure of the same command is told: worker 0's is found with it, and its count,
 * which comes later, tells nothing again. */
static void test_counted_after_it_was_told(void **state) {
  (void)state;
  world w = open_world(2);
  faults_pause_at("worker.failed", 0, 0);
  raise_on(&w, FAULTS_ALL, "twins");
  faults_pause_wait_reached();
  faults_refused(faults_sync(w.session), DISCO_RAISED, "ValueError", "twins"); /* counted by worker 1 */
  assert_int_equal(faults_error().worker, 0);
  faults_post(w.count, 0);
  faults_pause_release();
  faults_settle(w.session);
  OK(faults_sync(w.session));
  assert_int_equal(faults_stats(w.session).errors_told, 1);
  expect_right(&w, 1);
  close_world(&w);
}

/* A caller has taken the failure, and did not resume yet. */
static void test_telling_before_the_resume(void **state) {
  (void)state;
  world w = open_world(3);
  raise_on(&w, 1 << 2, "being told");
  uint64_t failed = disco_session_sequence(w.session);
  faults_settle(w.session);
  faults_thread teller = {
      .run = faults_run_sync, .session = w.session, .worker = DISCO_ALL_WORKERS, .timeout_ms = -1, .caller = true};
  faults_thread syncer = {.run = faults_run_sync, .session = w.session, .worker = DISCO_ALL_WORKERS, .timeout_ms = -1};
  faults_thread other = {.run = faults_run_call, .dref = w.count};
  faults_pause_at("session.telling", FAULTS_CALLER, 0);
  faults_start(&teller);
  faults_pause_wait_reached();
  assert_int_equal(disco_session_sequence(w.session), failed);
  faults_start(&syncer); /* its commands are done, and the error belongs to the teller */
  faults_join(&syncer);
  assert_int_equal(syncer.status, DISCO_OK);
  faults_start(&other); /* waits for the lock */
  TVMFFIAny value;
  faults_refused(disco_debug_get(w.count, 0, 20, &value), DISCO_TIMEOUT, "TimeoutError", "");
  assert_false(atomic_load(&other.ended));
  faults_pause_release();
  faults_join(&teller);
  faults_join(&other);
  assert_int_equal(teller.status, DISCO_RAISED);
  faults_contains(teller.text, "being told");
  assert_int_equal(other.status, DISCO_OK);
  assert_int_equal(faults_stats(w.session).errors_told, 1);
  expect_right(&w, 1); /* posted after the resume record: run by all */
  close_world(&w);
}

/* A worker has run a command, and did not say so yet. */
static void test_before_done(void **state) {
  (void)state;
  world w = open_world(3);
  faults_pause_at("worker.before_done", 1, 0);
  faults_post(w.count, 0);
  uint64_t first = disco_session_sequence(w.session);
  faults_pause_wait_reached();
  for (int i = 0; i < 4; i++) faults_post(w.count, 0);
  OK(disco_session_sync(w.session, 0, FAULTS_BOUND_MS));
  OK(disco_session_sync(w.session, 2, FAULTS_BOUND_MS));
  assert_int_equal(faults_counted(0), 5);
  assert_int_equal(faults_counted(2), 5);
  assert_int_equal(faults_counted(1), 1); /* it ran */
  bool done = true;
  OK(disco_session_is_done(w.session, 1, first, &done));
  assert_false(done);
  faults_refused(disco_session_sync(w.session, DISCO_ALL_WORKERS, 20), DISCO_TIMEOUT, "TimeoutError", "worker 1");
  faults_thread syncer = {.run = faults_run_sync, .session = w.session, .worker = 1, .timeout_ms = DISCO_FOREVER};
  faults_start(&syncer);
  faults_sleep_ms(20);
  assert_false(atomic_load(&syncer.ended));
  faults_pause_release();
  faults_join(&syncer);
  assert_int_equal(syncer.status, DISCO_OK);
  expect_right(&w, 5);
  close_world(&w);
}

/* The failing command itself: the failure is counted, so it may be told before `done`. */
static void test_failed_before_done(void **state) {
  (void)state;
  world w = open_world(2);
  faults_pause_at("worker.before_done", 1, 0);
  raise_on(&w, 1 << 1, "not done");
  faults_pause_wait_reached();
  faults_refused(faults_sync(w.session), DISCO_RAISED, "ValueError", "not done");
  faults_post(w.count, 0);
  OK(disco_session_sync(w.session, 0, FAULTS_BOUND_MS));
  assert_int_equal(faults_counted(0), 1);
  faults_pause_release();
  expect_right(&w, 1);
  assert_int_equal(faults_stats(w.session).errors_told, 1);
  close_world(&w);
}

/* Worker 0's slot is half written when another's failure is told: half a message is never shown. */
static void test_mid_slot(void **state) {
  (void)state;
  world w = open_world(2);
  faults_pause_at("worker.mid_slot", 0, 0);
  raise_on(&w, FAULTS_ALL, "a message that is long enough to fill the words of the slot behind the paused one");
  uint64_t failed = disco_session_sequence(w.session);
  faults_pause_wait_reached();
  faults_refused(faults_sync(w.session), DISCO_RAISED, "ValueError", "behind the paused one");
  assert_int_equal(faults_error().worker, 1); /* the lowest that is known */
  faults_post(w.count, 0);
  OK(disco_session_sync(w.session, 1, FAULTS_BOUND_MS));
  faults_pause_release();
  faults_settle(w.session);
  OK(faults_sync(w.session)); /* late: kept, not told */
  disco_error_info info = {.struct_size = sizeof(info)};
  OK(disco_session_last_error(w.session, 0, &info));
  assert_int_equal(info.worker, 0);
  assert_int_equal(info.sequence, failed);
  faults_contains(info.message, "behind the paused one");
  assert_int_equal(faults_stats(w.session).errors_late, 1);
  expect_right(&w, 1);
  close_world(&w);
}

/* Worker 0 overwrites the slot of a failure that nobody read yet (it was late) while a caller reads it: the caller gets
 * one failure or the other, never one's number with the other's message. */
static void test_mid_slot_while_it_is_read(void **state) {
  (void)state;
  world w = open_world(2);
  disco_dref *held = faults_function(w.session, "faults.hold_raise");
  faults_gate_close(0);
  faults_post(held, 3, faults_int(0), faults_int(1 << 0), faults_str("the late failure of the slow worker"));
  uint64_t late = disco_session_sequence(w.session);
  faults_gate_wait_inside(0, 1);
  raise_on(&w, 1 << 1, "in time");
  faults_refused(faults_sync(w.session), DISCO_RAISED, "ValueError", "in time");
  raise_on(&w, 1 << 0, "the second failure of the slow worker");
  uint64_t second = disco_session_sequence(w.session);
  faults_pause_at("worker.mid_slot", 0, 1); /* pass the late one, stop in the second */
  faults_gate_open(0);
  faults_pause_wait_reached();
  faults_thread reader = {
      .run = faults_run_sync, .session = w.session, .worker = DISCO_ALL_WORKERS, .timeout_ms = DISCO_FOREVER};
  faults_start(&reader);
  faults_sleep_ms(30); /* it reads */
  faults_pause_release();
  faults_join(&reader);
  faults_settle(w.session);
  if (reader.status == DISCO_OK) faults_refused(faults_sync(w.session), DISCO_RAISED, "ValueError", "the second");
  if (reader.status != DISCO_OK) faults_contains(reader.text, "the second failure");
  bool found = false;
  for (int32_t i = 0; i < 16; i++) {
    disco_error_info info = {.struct_size = sizeof(info)};
    if (disco_session_last_error(w.session, i, &info) != DISCO_OK) break;
    if (info.sequence == late) assert_null(strstr(info.message, "the second"));
    if (info.sequence == second) assert_string_equal(info.message, "the second failure of the slow worker");
    found = found || info.sequence == second;
  }
  assert_true(found);
  OK(faults_sync(w.session));
  assert_int_equal(faults_stats(w.session).errors_told, 2);
  disco_dref_unref(held);
  expect_right(&w, 0);
  close_world(&w);
}

/* A worker has said that it will sleep, and did not look for the last time. */
static void test_before_sleep(void **state) {
  (void)state;
  for (int32_t who = 0; who < 3; who++) {
    world w = open_world(3);
    faults_pause_at("worker.before_sleep", who, 0);
    faults_post(w.count, 0);
    faults_pause_wait_reached();
    for (int i = 1; i < 20; i++) faults_post(w.count, 0);
    for (int32_t i = 0; i < 3; i++)
      if (i != who) OK(disco_session_sync(w.session, i, FAULTS_BOUND_MS));
    faults_pause_release();
    expect_right(&w, 20);
    close_world(&w);
  }
}

/* Released registers that worker 0 should have looked after while it was on its way to sleep. */
static void test_releases_while_worker0_falls_asleep(void **state) {
  (void)state;
  world w = open_world(2);
  TVMFFIAny object = faults_object();
  disco_dref *dying = NULL;
  OK(disco_session_put(w.session, &object, &dying));
  dsc_value_drop(&object);
  OK(faults_sync(w.session));
  int64_t dead = faults_objects_dead();
  faults_pause_at("worker.before_sleep", 0, 0);
  faults_post(w.count, 0);
  faults_pause_wait_reached();
  disco_dref_unref(dying); /* and no call comes any more */
  faults_pause_release();
  for (int i = 0; i < FAULTS_BOUND_MS && faults_objects_dead() == dead; i++) faults_sleep_ms(1);
  assert_int_equal(faults_objects_dead(), dead + 1);
  expect_right(&w, 1);
  close_world(&w);
}

/* A sync that falls asleep while the last worker finishes. */
static void test_caller_before_sleep(void **state) {
  (void)state;
  world w = open_world(2);
  disco_dref *hold = faults_function(w.session, "faults.hold");
  faults_gate_close(0);
  faults_post(hold, 3, faults_int(0), faults_int(FAULTS_ALL), faults_int(0));
  faults_thread syncer = {.run = faults_run_sync,
                          .session = w.session,
                          .worker = DISCO_ALL_WORKERS,
                          .timeout_ms = DISCO_FOREVER,
                          .caller = true};
  faults_pause_at("worker.before_sleep", FAULTS_CALLER, 0);
  faults_start(&syncer);
  faults_pause_wait_reached();
  faults_gate_open(0);
  faults_settle(w.session);
  faults_pause_release();
  faults_join(&syncer);
  assert_int_equal(syncer.status, DISCO_OK);
  disco_dref_unref(hold);
  expect_right(&w, 0);
  close_world(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_published_before_the_doorbell),
      cmocka_unit_test(test_unlocked_before_the_doorbell),
      cmocka_unit_test(test_unlocked_and_alone),
      cmocka_unit_test(test_failed_but_not_counted),
      cmocka_unit_test(test_counted_after_it_was_told),
      cmocka_unit_test(test_telling_before_the_resume),
      cmocka_unit_test(test_before_done),
      cmocka_unit_test(test_failed_before_done),
      cmocka_unit_test(test_mid_slot),
      cmocka_unit_test(test_mid_slot_while_it_is_read),
      cmocka_unit_test(test_before_sleep),
      cmocka_unit_test(test_releases_while_worker0_falls_asleep),
      cmocka_unit_test(test_caller_before_sleep),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
