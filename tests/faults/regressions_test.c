/* Bugs that were found once, by reading or by the models, and the situations that showed them. */
#include "faults/support.h"

#include "ffi/value.h"
#include "os/wait.h"
#include "wire/limits.h"

/* Shutdown asked for room for all waiting releases, and waited for room for one line: with something between the two
 * free, and a worker that never ends, it went round for ever. */
static void test_shutdown_beside_waiting_releases(void **state) {
  (void)state;
  enum { DROPPED = 1000, LEFT_FREE = 1500 };
  disco_session_options options = faults_options(2, 1);
  options.grace_ms = 200;
  disco_session *session = faults_open_with(&options);
  disco_dref *id = faults_function(session, "faults.id"), *hold = faults_function(session, "faults.hold");
  static disco_dref *drefs[DROPPED];
  for (int i = 0; i < DROPPED; i++) drefs[i] = faults_call(id, 0);
  OK(faults_sync(session));
  uint64_t start = faults_stats(session).ring_bytes;
  faults_gate_close(0);
  faults_post(hold, 3, faults_int(0), faults_int(FAULTS_ALL), faults_int(0));
  faults_gate_wait_inside(0, 2);
  while (faults_stats(session).ring_bytes - start < DSC_MIN_RING_BYTES - LEFT_FREE)
    OK(disco_call(session, id, NULL, 0, NULL));
  for (int i = 0; i < DROPPED; i++) disco_dref_unref(drefs[i]);
  faults_refused(disco_session_shutdown(session), DISCO_LOST, "WorkerLostError", "`faults.hold`");
  disco_dref_unref(id);
  disco_dref_unref(hold);
  disco_session_unref(session);
  faults_gate_open(0);
  assert_true(faults_library_threads_gone());
}

/* Worker 0 took its own word that it sleeps for a stranger's, rang, did not sleep, and began anew: a core burnt for as
 * long as the ring was full. */
static void test_released_ids_behind_a_full_ring(void **state) {
  (void)state;
  enum { DROPPED = 200, LEFT_FREE = 512 }; /* a record with 200 ids does not fit there */
  disco_session *session = faults_open(2);
  disco_dref *id = faults_function(session, "faults.id"), *hold = faults_function(session, "faults.hold");
  disco_dref *drefs[DROPPED];
  for (int i = 0; i < DROPPED; i++) drefs[i] = faults_call(id, 0);
  OK(faults_sync(session));
  faults_gate_close(0);
  uint64_t start = faults_stats(session).ring_bytes;
  faults_post(hold, 3, faults_int(0), faults_int(1 << 1), faults_int(0));
  faults_gate_wait_inside(0, 1);
  while (faults_stats(session).ring_bytes - start < DSC_MIN_RING_BYTES - LEFT_FREE)
    OK(disco_call(session, id, NULL, 0, NULL));
  for (int i = 0; i < DROPPED; i++) disco_dref_unref(drefs[i]);
  faults_sleep_ms(50);
  uint64_t wakes = faults_stats(session).wakes, sleeps = faults_stats(session).worker_sleeps;
  faults_sleep_ms(300);
  assert_true(faults_stats(session).wakes - wakes < 100);
  assert_true(faults_stats(session).worker_sleeps - sleeps < 100); /* naps of 10 ms */
  faults_gate_open(0);
  OK(faults_sync(session));
  disco_dref_unref(id);
  disco_dref_unref(hold);
  faults_close(session);
}

static disco_session *dying;
static disco_status status_in_deleter;

static void shut_down_in_deleter(void *self) {
  (void)self;
  status_in_deleter = disco_session_shutdown(dying);
}

static int nothing(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return 0;
}

/* The registers die last, on the worker's thread: a deleter there is still the session's own worker. */
static void test_shutdown_from_a_deleter_at_the_end(void **state) {
  (void)state;
  TVMFFIObjectHandle object = NULL;
  disco_dref *dref = NULL;
  dying = faults_open(1);
  status_in_deleter = DISCO_LOST;
  uint64_t abandoned = faults_stats(dying).abandoned_workers;
  assert_int_equal(TVMFFIFunctionCreate(dying, nothing, shut_down_in_deleter, &object), 0);
  TVMFFIAny value = dsc_object_value(object);
  OK(disco_session_put(dying, &value, &dref));
  dsc_object_unref(object);
  OK(faults_sync(dying));
  OK(disco_session_shutdown(dying));
  assert_int_equal(status_in_deleter, DISCO_OK);
  assert_int_equal(faults_stats(dying).abandoned_workers, abandoned);
  disco_dref_unref(dref);
  disco_session_unref(dying);
}

/* ---- A lock's wake ---- */

typedef struct {
  dsc_lock *lock;
  bool leaves; /* its tick ends the wait */
  _Atomic int state;
} waiter;

static disco_status leave(dsc_guard *guard) {
  (void)guard;
  return DISCO_INTERRUPTED;
}

static void *wait_for_lock(void *argument) {
  waiter *self = argument;
  dsc_guard guard = {.deadline_ns = DSC_NO_DEADLINE, .tick = self->leaves ? leave : NULL};
  self->state = 1;
  if (dsc_lock_take(self->lock, &guard) == DISCO_OK) dsc_lock_give(self->lock);
  self->state = 2;
  return NULL;
}

/* The one that was woken may leave with its tick's error: the wake is the next one's. */
static void test_a_wake_is_handed_on(void **state) {
  (void)state;
  for (int round = 0; round < 20; round++) {
    dsc_lock lock = {0};
    waiter first = {.lock = &lock, .leaves = true}, second = {.lock = &lock};
    pthread_t threads[2];
    assert_true(dsc_lock_try(&lock));
    assert_int_equal(pthread_create(&threads[0], NULL, wait_for_lock, &first), 0);
    while (first.state == 0) faults_sleep_ms(1);
    faults_sleep_ms(5);
    assert_int_equal(pthread_create(&threads[1], NULL, wait_for_lock, &second), 0);
    while (second.state == 0) faults_sleep_ms(1);
    faults_sleep_ms(5);
    dsc_lock_give(&lock); /* wakes the first, which leaves */
    for (int i = 0; i < FAULTS_BOUND_MS && second.state != 2; i++) faults_sleep_ms(1);
    assert_int_equal(second.state, 2);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shutdown_beside_waiting_releases),
      cmocka_unit_test(test_released_ids_behind_a_full_ring),
      cmocka_unit_test(test_shutdown_from_a_deleter_at_the_end),
      cmocka_unit_test(test_a_wake_is_handed_on),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
