/* Endings: shutdown in every situation, the last reference, and (as child processes) exit without either. */
#include "faults/support.h"

#include <stdio.h>

#include "ffi/value.h"
#include "session/engine.h"

static void expect_closed(disco_session *session, disco_dref *dref) {
  TVMFFIAny value = faults_int(1);
  disco_dref *result = NULL;
  faults_refused(disco_call(session, dref, NULL, 0, &result), DISCO_CLOSED, "SessionClosedError", "was shut down");
  faults_refused(disco_session_get_global_func(session, "faults.id", &result), DISCO_CLOSED, "SessionClosedError", "");
  faults_refused(disco_session_put(session, &value, &result), DISCO_CLOSED, "SessionClosedError", "");
  faults_refused(disco_session_sync(session, 0, 0), DISCO_CLOSED, "SessionClosedError", "");
  faults_refused(disco_debug_get(dref, 0, 0, &value), DISCO_CLOSED, "SessionClosedError", "");
  faults_refused(disco_debug_set(dref, 0, &value, 0), DISCO_CLOSED, "SessionClosedError", "");
  TVMFFIObjectHandle host = faults_tensor(8, 0);
  faults_refused(disco_copy_to_worker0(session, host, dref), DISCO_CLOSED, "SessionClosedError", "");
  faults_refused(disco_copy_from_worker0(session, host, dref), DISCO_CLOSED, "SessionClosedError", "");
  assert_int_equal(faults_references(host), 1);
  dsc_object_unref(host);
  assert_null(result);
  /* What only looks still works. */
  char *text = NULL;
  bool done = false;
  assert_true(disco_session_num_workers(session) > 0);
  OK(disco_session_dump(session, &text));
  disco_text_free(text);
  OK(disco_session_is_done(session, 0, 1, &done));
  assert_true(faults_stats(session).commands > 0);
}

static void test_idempotent(void **state) {
  (void)state;
  disco_session *session = faults_open(3);
  disco_dref *id = faults_function(session, "faults.id");
  for (int i = 0; i < 3; i++) OK(disco_session_shutdown(session));
  assert_int_equal(faults_library_threads(), 0);
  uint64_t commands = disco_session_sequence(session);
  expect_closed(session, id);
  assert_int_equal(disco_session_sequence(session), commands);
  disco_dref_unref(id);
  disco_session_unref(session);
}

static void test_concurrent(void **state) {
  (void)state;
  enum { CALLERS = 8 };
  for (int64_t round = faults_scaled(50); round > 0; round--) {
    disco_session *session = faults_open(3);
    disco_dref *count = faults_function(session, "faults.count");
    faults_count_reset();
    for (int i = 0; i < 100; i++) faults_post(count, 0);
    faults_thread threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
      threads[i] = (faults_thread){.run = faults_run_shutdown, .session = session};
      faults_start(&threads[i]);
    }
    for (int i = 0; i < CALLERS; i++) {
      faults_join(&threads[i]);
      assert_int_equal(threads[i].status, DISCO_OK);
    }
    for (int32_t i = 0; i < 3; i++) assert_int_equal(faults_counted(i), 100); /* what was posted ran first */
    disco_dref_unref(count);
    disco_session_unref(session);
  }
  assert_true(faults_library_threads_gone());
}

/* Sessions are made and ended by several threads at once, each its own. */
static void open_and_close(faults_thread *self) {
  disco_session_options options = faults_options(2, 1);
  for (; self->number > 0 && self->status == DISCO_OK; self->number--) {
    disco_session *session = NULL;
    self->status = disco_session_create_threaded(&options, &session);
    if (self->status == DISCO_OK) self->status = disco_session_sync(session, DISCO_ALL_WORKERS, FAULTS_BOUND_MS);
    if (self->status == DISCO_OK && self->number % 2 == 0) self->status = disco_session_shutdown(session);
    disco_session_unref(session);
  }
  faults_keep_error(self, self->status);
}

static void test_several_threads_with_their_own(void **state) {
  (void)state;
  enum { CALLERS = 4 };
  faults_thread threads[CALLERS];
  for (int i = 0; i < CALLERS; i++) {
    threads[i] = (faults_thread){.run = open_and_close, .number = faults_scaled(200)};
    faults_start(&threads[i]);
  }
  for (int i = 0; i < CALLERS; i++) {
    faults_join(&threads[i]);
    assert_int_equal(threads[i].status, DISCO_OK);
  }
  assert_true(faults_library_threads_gone());
}

/* ---- From a worker ---- */

static disco_session *own_session; /* of the function below */
static _Atomic int own_status;

/* Shuts its own session down, after it tried to use it. */
static int end_own_session(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  disco_status status = disco_session_sync(own_session, 0, 0);
  if (status != DISCO_RUNTIME && status != DISCO_CLOSED /* another worker was quicker */)
    return disco_raise("AssertionError", "a worker may sync its own session");
  atomic_store(&own_status, (int)disco_session_shutdown(own_session));
  return 0;
}

static void test_from_a_worker(void **state) {
  (void)state;
  OK(disco_register_function("faults.end_own_session", end_own_session, NULL, NULL, true));
  for (int64_t round = faults_scaled(50); round > 0; round--) {
    disco_session *session = own_session = faults_open(3);
    disco_dref *end = faults_function(session, "faults.end_own_session"), *raise = NULL;
    atomic_store(&own_status, -1);
    faults_post(end, 0);
    assert_true(faults_library_threads_gone());
    assert_int_equal(atomic_load(&own_status), DISCO_OK);
    OK(disco_session_shutdown(session));
    faults_refused(disco_session_get_global_func(session, "faults.raise", &raise), DISCO_CLOSED, "SessionClosedError",
                   "");
    disco_error_info info = {.struct_size = sizeof(info)};
    assert_int_equal(disco_session_last_error(session, 0, &info), DISCO_VALUE); /* it raised nothing */
    disco_dref_unref(end);
    disco_session_unref(session);
  }
}

static void drop_session(void *self) { disco_session_unref(self); }

static int never_called(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  return disco_raise("AssertionError", "only its death matters");
}

/* An object in a register owns the last reference of a session: of another one, or of its own. */
static void test_from_a_finalizer(void **state) {
  (void)state;
  for (int own = 0; own < 2; own++) {
    disco_session *outer = faults_open(2), *inner = own ? outer : faults_open(2);
    disco_session_ref(inner);
    TVMFFIObjectHandle object = NULL;
    assert_int_equal(TVMFFIFunctionCreate(inner, never_called, drop_session, &object), 0);
    TVMFFIAny value = dsc_object_value(object);
    disco_dref *dref = NULL;
    OK(disco_session_put(outer, &value, &dref));
    OK(faults_sync(outer));
    dsc_value_drop(&value);
    if (!own) disco_session_unref(inner); /* the object's reference is the last one */
    disco_dref_unref(dref);               /* dies on worker 0 or 1, whoever comes last */
    disco_session_unref(outer);
    assert_true(faults_library_threads_gone());
  }
}

/* ---- While others use it ---- */

static void call_until_closed(faults_thread *self) {
  disco_status status = DISCO_OK;
  while (status == DISCO_OK) {
    status = disco_call(self->session, self->dref, NULL, 0, NULL);
    if (status == DISCO_OK && ++self->number % 64 == 0) status = disco_session_sync(self->session, 0, DISCO_FOREVER);
  }
  faults_keep_error(self, status);
}

static void test_with_calls_in_flight(void **state) {
  (void)state;
  enum { CALLERS = 4 };
  for (int64_t round = faults_scaled(40); round > 0; round--) {
    disco_session *session = faults_open(2);
    disco_dref *count = faults_function(session, "faults.count");
    faults_count_reset();
    faults_thread threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
      threads[i] = (faults_thread){.run = call_until_closed, .session = session, .dref = count};
      faults_start(&threads[i]);
    }
    faults_sleep_ms((int)(round % 5));
    OK(disco_session_shutdown(session));
    int64_t accepted = 0;
    for (int i = 0; i < CALLERS; i++) {
      faults_join(&threads[i]);
      assert_int_equal(threads[i].status, DISCO_CLOSED);
      accepted += threads[i].number;
    }
    for (int32_t i = 0; i < 2; i++) assert_int_equal(faults_counted(i), accepted); /* accepted means run */
    disco_dref_unref(count);
    disco_session_unref(session);
  }
}

static void fill_ring(faults_thread *self) {
  disco_status status = DISCO_OK;
  for (; status == DISCO_OK; self->number += status == DISCO_OK)
    status = disco_call(self->session, self->dref, NULL, 0, NULL);
  faults_keep_error(self, status);
}

static bool ring_was_full(void *context) { return faults_stats(context).ring_full > 0; }

static void test_with_a_full_ring(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *count = faults_function(session, "faults.count"), *hold = faults_function(session, "faults.hold");
  faults_count_reset();
  faults_gate_close(0);
  faults_post(hold, 3, faults_int(0), faults_int(1 << 0), faults_int(0));
  faults_thread filler = {.run = fill_ring, .session = session, .dref = count};
  faults_thread stopper = {.run = faults_run_shutdown, .session = session};
  faults_start(&filler);
  assert_true(faults_until(ring_was_full, session));
  faults_start(&stopper);
  faults_sleep_ms(20);
  assert_false(atomic_load(&stopper.ended));
  faults_gate_open(0);
  faults_join(&stopper);
  faults_join(&filler);
  assert_int_equal(stopper.status, DISCO_OK);
  assert_int_equal(filler.status, DISCO_CLOSED);
  assert_true(filler.number > 1000);
  for (int32_t i = 0; i < 2; i++) assert_int_equal(faults_counted(i), filler.number);
  disco_dref_unref(count);
  disco_dref_unref(hold);
  disco_session_unref(session);
}

/* ---- A worker that does not come back ---- */

static void wedge(bool full) {
  disco_session_options options = faults_options(3, 1);
  options.grace_ms = 200;
  disco_session *session = faults_open_with(&options);
  disco_dref *id = faults_function(session, "faults.id"), *hold = faults_function(session, "faults.hold");
  disco_dref *count = faults_function(session, "faults.count");
  uint64_t abandoned = faults_stats(session).abandoned_workers;
  faults_gate_close(0);
  faults_count_reset();
  faults_post(hold, 3, faults_int(0), faults_int(1 << 1), faults_int(0));
  faults_gate_wait_inside(0, 1);
  faults_post(count, 0);
  faults_thread blocked[3] = {
      {.run = faults_run_sync, .session = session, .worker = DISCO_ALL_WORKERS, .timeout_ms = DISCO_FOREVER},
      {.run = faults_run_get, .dref = id, .worker = 1, .timeout_ms = DISCO_FOREVER},
      {.run = full ? fill_ring : faults_run_sync,
       .session = session,
       .dref = id,
       .worker = 1,
       .timeout_ms = DISCO_FOREVER},
  };
  for (int i = 0; i < 3; i++) faults_start(&blocked[i]);
  if (full)
    assert_true(faults_until(ring_was_full, session));
  else
    faults_sleep_ms(20);
  faults_thread stopper = {.run = faults_run_shutdown, .session = session};
  faults_start(&stopper);
  faults_join(&stopper);
  assert_int_equal(stopper.status, DISCO_LOST);
  assert_string_equal(stopper.kind, "WorkerLostError");
  faults_contains(stopper.text, "worker 1 ");
  faults_contains(stopper.text, "`faults.hold`");
  assert_null(strstr(stopper.text, "worker 0 "));
  assert_null(strstr(stopper.text, "worker 2 "));
  for (int i = 0; i < 3; i++) {
    faults_join(&blocked[i]);
    assert_true(blocked[i].status == DISCO_CLOSED || blocked[i].status == DISCO_LOST);
    assert_true(blocked[i].text[0] != 0);
  }
  assert_int_equal(faults_stats(session).abandoned_workers, abandoned + 1);
  assert_int_equal(faults_library_threads(), 1); /* the others have ended */
  expect_closed(session, id);
  faults_refused(disco_session_shutdown(session), DISCO_LOST, "WorkerLostError", "worker 1 "); /* the same again */
  disco_dref_unref(count);
  disco_dref_unref(hold);
  disco_dref_unref(id);
  disco_session_unref(session);
  faults_gate_open(0);
  assert_true(faults_library_threads_gone()); /* it finds its way out by itself, and takes the session's memory along */
  assert_int_equal(faults_counted(0), 1);
  assert_int_equal(faults_counted(1), 0); /* what was posted behind is skipped */
}

static void test_with_a_wedged_worker(void **state) {
  (void)state;
  wedge(false);
}

static void test_with_a_wedged_worker_and_a_full_ring(void **state) {
  (void)state;
  wedge(true);
}

/* The process goes on as if nothing had been. */
static void test_after_a_wedged_worker(void **state) {
  (void)state;
  disco_session *session = faults_open(3);
  disco_dref *id = faults_function(session, "faults.id"), *value = faults_call(id, 0);
  for (int32_t i = 0; i < 3; i++) assert_int_equal(faults_get(value, i), i);
  disco_dref_unref(value);
  disco_dref_unref(id);
  faults_close(session);
}

/* ---- Without shutdown ---- */

static bool all_counted(void *context) {
  const int64_t *wish = context;
  for (int32_t i = 0; i < 3; i++)
    if (faults_counted(i) != *wish) return false;
  return true;
}

static void test_the_last_reference(void **state) {
  (void)state;
  disco_session *session = faults_open(3);
  disco_dref *count = faults_function(session, "faults.count"), *hold = faults_function(session, "faults.hold");
  faults_count_reset();
  faults_gate_close(0);
  faults_post(hold, 3, faults_int(0), faults_int(FAULTS_ALL), faults_int(0));
  int64_t posted = 500;
  for (int64_t i = 0; i < posted; i++) faults_post(count, 0);
  disco_dref_unref(hold);
  disco_session_unref(session);
  disco_dref_unref(count); /* the last one: the session goes with it, and nobody waits */
  assert_int_equal(faults_counted(0), 0);
  faults_gate_open(0);
  assert_true(faults_until(all_counted, &posted));
  assert_true(faults_library_threads_gone());
  assert_int_equal(faults_counted(0), posted);
}

static void test_drefs_outlive_their_session(void **state) {
  (void)state;
  enum { KEPT = 300 };
  disco_session *session = faults_open(2);
  disco_dref *id = faults_function(session, "faults.id"), *kept[KEPT];
  int64_t dead = faults_objects_dead();
  TVMFFIAny object = faults_object();
  for (int i = 0; i < KEPT; i++) OK(disco_session_put(session, &object, &kept[i]));
  dsc_value_drop(&object);
  disco_session_unref(session); /* the DRefs keep it */
  for (int32_t i = 0; i < 2; i++) {
    disco_dref *value = faults_call(id, 0);
    assert_int_equal(faults_get(value, i), i);
    disco_dref_unref(value);
  }
  OK(disco_session_shutdown(disco_dref_session(id)));
  assert_int_equal(faults_objects_dead(), dead + 1); /* registers die with their workers */
  for (int i = 0; i < KEPT; i++) {
    assert_ptr_equal(disco_dref_session(kept[i]), session);
    assert_true(disco_dref_reg_id(kept[i]) > 0);
    disco_dref_unref(kept[i]);
  }
  expect_closed(session, id);
  assert_int_equal(faults_stats(session).live_registers, 1);
  disco_dref_unref(id);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_idempotent),
      cmocka_unit_test(test_concurrent),
      cmocka_unit_test(test_several_threads_with_their_own),
      cmocka_unit_test(test_from_a_worker),
      cmocka_unit_test(test_from_a_finalizer),
      cmocka_unit_test(test_with_calls_in_flight),
      cmocka_unit_test(test_with_a_full_ring),
      cmocka_unit_test(test_with_a_wedged_worker),
      cmocka_unit_test(test_with_a_wedged_worker_and_a_full_ring),
      cmocka_unit_test(test_after_a_wedged_worker),
      cmocka_unit_test(test_the_last_reference),
      cmocka_unit_test(test_drefs_outlive_their_session),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
