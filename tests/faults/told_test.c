/* Who is told of a failure: the next call, or one that waits, and nobody twice. */
#include "faults/support.h"

#include <stdio.h>

#include "ffi/object.h"
#include "ffi/value.h"

enum { HELD = 0, FAIL = 1 }; /* gates */

static void raise_on(disco_dref *raise, int64_t mask, const char *message) {
  faults_post(raise, 4, faults_int(mask), faults_str("ValueError"), faults_str(message), faults_str(""));
}

/* ---- Told by the next call ---- */

typedef struct {
  disco_session *session;
  disco_dref *raise, *id, *number, *tensor;
  TVMFFIObjectHandle host;
} world;

static world open_world(int32_t workers) {
  world w = {.session = faults_open(workers)};
  TVMFFIAny five = faults_int(5), tensor = dsc_object_value(faults_tensor(64, 2));
  w.raise = faults_function(w.session, "faults.raise");
  w.id = faults_function(w.session, "faults.id");
  OK(disco_session_put(w.session, &five, &w.number));
  w.host = faults_tensor(64, 1);
  OK(disco_session_put(w.session, &tensor, &w.tensor));
  dsc_value_drop(&tensor);
  OK(faults_sync(w.session));
  return w;
}

static void close_world(world *w) {
  disco_dref_unref(w->raise);
  disco_dref_unref(w->id);
  disco_dref_unref(w->number);
  disco_dref_unref(w->tensor);
  faults_close(w->session);
  dsc_object_unref(w->host);
}

/* Every call that posts. */
static disco_status call_number(world *w, int which) {
  TVMFFIAny seven = faults_int(7), values[64];
  TVMFFIAny packed[3] = {faults_int(DISCO_ACTION_CallPacked), faults_int(0), faults_dref(w->id)};
  disco_dref *dref = NULL;
  disco_status status = DISCO_OK;
  switch (which) {
  case 0: status = disco_call(w->session, w->id, NULL, 0, &dref); break;
  case 1: status = disco_call_packed(w->session, packed, 3, &dref); break;
  case 2: status = disco_session_get_global_func(w->session, "faults.id", &dref); break;
  case 3: status = disco_session_put(w->session, &seven, &dref); break;
  case 4: status = disco_debug_get(w->number, 0, FAULTS_BOUND_MS, values); break;
  case 5: status = disco_debug_get_all(w->number, FAULTS_BOUND_MS, 64, values); break;
  case 6: status = disco_debug_set(w->number, 0, &seven, FAULTS_BOUND_MS); break;
  case 7: status = disco_copy_from_worker0(w->session, w->host, w->tensor); break;
  case 8: status = disco_copy_to_worker0(w->session, w->host, w->tensor); break;
  case 9: status = disco_call(w->session, w->id, NULL, 0, NULL); break;
  case 10:
    status = disco_session_debug_get(w->session, disco_dref_reg_id(w->number), 0, FAULTS_BOUND_MS, values);
    break;
  case 11:
    status = disco_session_debug_set(w->session, disco_dref_reg_id(w->number), 0, &seven, FAULTS_BOUND_MS);
    break;
  default: fail();
  }
  if (status != DISCO_OK) assert_null(dref); /* outputs are written only on success */
  disco_dref_unref(dref);
  return status;
}

enum { CALLS = 12 };

static void test_the_next_call_is_not_posted(void **state) {
  (void)state;
  for (int which = 0; which < CALLS; which++) {
    world w = open_world(3);
    char message[32];
    (void)snprintf(message, sizeof(message), "before call %d", which);
    raise_on(w.raise, 1 << 1, message);
    uint64_t failed = disco_session_sequence(w.session);
    faults_settle(w.session);
    uint64_t live = faults_stats(w.session).live_registers;
    faults_refused(call_number(&w, which), DISCO_RAISED, "ValueError", message);
    assert_int_equal(faults_error().sequence, failed);
    assert_int_equal(disco_session_sequence(w.session), failed + 1); /* the resume record alone */
    assert_int_equal(faults_stats(w.session).live_registers, live);
    assert_int_equal(faults_stats(w.session).resumes, 1);
    OK(call_number(&w, which));
    OK(faults_sync(w.session));
    close_world(&w);
  }
}

/* ---- Told to a call that waits ---- */

/* Worker 0 is busy behind HELD, the others behind FAIL, where worker 1 will raise. */
static disco_dref *hold_all(disco_session *session, disco_dref **ret_fail) {
  disco_dref *hold = faults_function(session, "faults.hold");
  *ret_fail = faults_function(session, "faults.hold_raise");
  faults_gate_close(HELD);
  faults_gate_close(FAIL);
  faults_post(*ret_fail, 3, faults_int(FAIL), faults_int(1 << 1), faults_str("while you waited"));
  faults_post(hold, 3, faults_int(HELD), faults_int(1 << 0), faults_int(0));
  faults_gate_wait_inside(HELD, 1);
  faults_gate_wait_inside(FAIL, 1);
  return hold;
}

static void fill_ring(faults_thread *self) {
  disco_status status = DISCO_OK;
  for (int64_t i = 0; status == DISCO_OK && i < 1000000; i++) {
    status = disco_call(self->session, self->dref, NULL, 0, NULL);
    if (status == DISCO_OK) self->number++;
  }
  faults_keep_error(self, status);
}

static bool ring_was_full(void *context) { return faults_stats(context).ring_full > 0; }

static void test_waiting_calls_are_told(void **state) {
  (void)state;
  static const struct {
    void (*run)(faults_thread *self);
    int32_t worker;
    int64_t timeout_ms;
  } waits[] = {
      {faults_run_sync, DISCO_ALL_WORKERS, DISCO_FOREVER},
      {faults_run_sync, 0, DISCO_FOREVER}, /* a worker that did not fail, and is still busy */
      {faults_run_sync, 1, DISCO_FOREVER},
      {faults_run_sync, 0, 60000},
      {faults_run_get, 0, DISCO_FOREVER},
      {faults_run_get, 0, 60000},
      {fill_ring, 0, 0},
  };
  for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
    disco_session *session = faults_open(3);
    disco_dref *id = faults_function(session, "faults.id"), *value = faults_call(id, 0), *raise;
    disco_dref *hold = hold_all(session, &raise);
    faults_thread thread = {.run = waits[i].run,
                            .session = session,
                            .dref = waits[i].run == fill_ring ? id : value,
                            .worker = waits[i].worker,
                            .timeout_ms = waits[i].timeout_ms};
    faults_start(&thread);
    if (waits[i].run == fill_ring)
      assert_true(faults_until(ring_was_full, session));
    else
      faults_sleep_ms(20); /* most likely asleep by now; right if not, too */
    assert_false(atomic_load(&thread.ended));
    faults_gate_open(FAIL);
    faults_join(&thread); /* while worker 0 is still busy */
    assert_int_equal(thread.status, DISCO_RAISED);
    assert_string_equal(thread.kind, "ValueError");
    faults_contains(thread.text, "while you waited");
    faults_gate_open(HELD);
    OK(faults_sync(session));
    for (int32_t k = 0; k < 3; k++) assert_int_equal(faults_get(value, k), k);
    OK(faults_sync(session)); /* nothing is told twice */
    disco_dref_unref(hold);
    disco_dref_unref(raise);
    disco_dref_unref(value);
    disco_dref_unref(id);
    faults_close(session);
  }
}

/* Four threads wait, each in its way; one of them is told, the others get what they waited for. */
static void test_told_to_one_of_several(void **state) {
  (void)state;
  for (int64_t round = faults_scaled(40); round > 0; round--) {
    disco_session *session = faults_open(3);
    disco_dref *id = faults_function(session, "faults.id"), *value = faults_call(id, 0), *raise;
    disco_dref *hold = hold_all(session, &raise);
    faults_thread threads[4];
    for (int i = 0; i < 4; i++) {
      threads[i] = (faults_thread){.run = i == 3 ? faults_run_get : faults_run_sync,
                                   .session = session,
                                   .dref = value,
                                   .worker = i == 0 ? DISCO_ALL_WORKERS : 0,
                                   .timeout_ms = i == 2 ? 60000 : DISCO_FOREVER};
      faults_start(&threads[i]);
    }
    faults_sleep_ms((int)(round % 4));
    faults_gate_open(FAIL);
    int told = 0;
    for (int k = 0; k < FAULTS_BOUND_MS && told == 0; k++, faults_sleep_ms(1))
      for (int i = 0; i < 4; i++) told += atomic_load(&threads[i].ended);
    assert_int_equal(told, 1); /* the others wait on */
    faults_gate_open(HELD);
    told = 0;
    for (int i = 0; i < 4; i++) {
      faults_join(&threads[i]);
      told += threads[i].status == DISCO_RAISED;
      if (threads[i].status != DISCO_RAISED) assert_int_equal(threads[i].status, DISCO_OK);
    }
    assert_int_equal(told, 1);
    assert_int_equal(faults_stats(session).errors_told, 1);
    OK(faults_sync(session));
    disco_dref_unref(hold);
    disco_dref_unref(raise);
    disco_dref_unref(value);
    disco_dref_unref(id);
    faults_close(session);
  }
}

/* ---- Late failures ---- */

/* Worker 0 comes to command `late` only when two later errors have been told. */
static void test_late_failures(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *slow = faults_function(session, "faults.hold_raise"), *raise = faults_function(session, "faults.raise");
  faults_gate_close(HELD);
  faults_post(slow, 3, faults_int(HELD), faults_int(1 << 0), faults_str("late"));
  uint64_t late = disco_session_sequence(session);
  faults_gate_wait_inside(HELD, 1);
  for (int i = 1; i <= 2; i++) {
    raise_on(raise, 1 << 1, "in time");
    uint64_t failed = disco_session_sequence(session);
    faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "in time");
    assert_int_equal(faults_error().sequence, failed);
    assert_int_equal(faults_error().worker, 1);
    assert_int_equal(faults_stats(session).errors_told, i);
  }
  faults_gate_open(HELD);
  faults_settle(session);
  OK(faults_sync(session)); /* known now, and not told */
  disco_error_info info = {.struct_size = sizeof(info)};
  OK(disco_session_last_error(session, 0, &info));
  assert_string_equal(info.message, "late");
  assert_int_equal(info.sequence, late);
  assert_int_equal(info.worker, 0);
  assert_int_equal(faults_stats(session).errors_late, 1);
  assert_int_equal(faults_stats(session).errors_told, 2);
  raise_on(raise, FAULTS_ALL, "again"); /* the next one is told as ever */
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "again");
  faults_settle(session);
  OK(faults_sync(session));
  assert_int_equal(faults_stats(session).errors_told, 3);
  disco_dref_unref(raise);
  disco_dref_unref(slow);
  faults_close(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_next_call_is_not_posted),
      cmocka_unit_test(test_waiting_calls_are_told),
      cmocka_unit_test(test_told_to_one_of_several),
      cmocka_unit_test(test_late_failures),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
