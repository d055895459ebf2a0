/* What a failure does to the commands behind it: skipped, poisoned, healed; and what is never skipped. */
#include "faults/support.h"

#include <stdio.h>

#include "ffi/value.h"

enum { HELD = 0, FAIL = 1 }; /* gates */

typedef struct {
  disco_session *session;
  disco_dref *id, *number, *tensor; /* faults.id, 5, 64 bytes of 2 */
  disco_dref *failing;              /* the result of the command that fails on worker 1 */
  uint64_t failed;
} stage;

/* Command `failed` will raise on worker 1; the others stop right behind it. What is posted from here on is skipped by
 * every worker. */
static stage open_stage(void) {
  stage s = {.session = faults_open(3)};
  TVMFFIAny five = faults_int(5), tensor = dsc_object_value(faults_tensor(64, 2));
  s.id = faults_function(s.session, "faults.id");
  OK(disco_session_put(s.session, &five, &s.number));
  OK(disco_session_put(s.session, &tensor, &s.tensor));
  dsc_value_drop(&tensor);
  disco_dref *fail_at = faults_function(s.session, "faults.hold_raise");
  disco_dref *hold = faults_function(s.session, "faults.hold");
  faults_gate_close(FAIL);
  faults_gate_close(HELD);
  s.failing = faults_call(fail_at, 3, faults_int(FAIL), faults_int(1 << 1), faults_str("first"));
  s.failed = disco_session_sequence(s.session);
  faults_post(hold, 3, faults_int(HELD), faults_int(1 << 0 | 1 << 2), faults_int(0));
  faults_gate_wait_inside(FAIL, 1);
  faults_gate_wait_inside(HELD, 2);
  disco_dref_unref(fail_at);
  disco_dref_unref(hold);
  return s;
}

static bool worker1_done(void *context) {
  bool done = false;
  OK(disco_session_is_done(context, 1, disco_session_sequence(context), &done));
  return done;
}

static void let_it_fail(stage *s) {
  faults_gate_open(FAIL);
  assert_true(faults_until(worker1_done, s->session));
  faults_gate_open(HELD);
  faults_settle(s->session);
}

static void close_stage(stage *s) {
  disco_dref_unref(s->failing);
  disco_dref_unref(s->id);
  disco_dref_unref(s->number);
  disco_dref_unref(s->tensor);
  faults_close(s->session);
}

static void expect_poisoned(disco_dref *dref, int32_t worker, uint64_t cause) {
  char want[64];
  TVMFFIAny value;
  (void)snprintf(want, sizeof(want), "command %llu,", (unsigned long long)cause);
  faults_refused(disco_debug_get(dref, worker, FAULTS_BOUND_MS, &value), DISCO_VALUE, "ValueError", want);
}

static void test_skipped_calls_are_poisoned(void **state) {
  (void)state;
  stage s = open_stage();
  disco_session *session = s.session;
  disco_dref *first = faults_call(s.id, 0), *add = faults_function(session, "faults.add");
  disco_dref *second = faults_call(add, 2, faults_dref(first), faults_int(1));
  let_it_fail(&s);
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "first");
  for (int32_t i = 0; i < 3; i++) {
    expect_poisoned(first, i, s.failed);
    expect_poisoned(second, i, s.failed);
  }
  assert_int_equal(faults_stats(session).commands_skipped, 3 * 2 + 1); /* worker 1 skipped the holding one, too */
  assert_int_equal(faults_get(s.failing, 0), 0);                       /* it ran there */
  assert_int_equal(faults_get(s.failing, 2), 2);
  expect_poisoned(s.failing, 1, s.failed);
  disco_dref *after = faults_call(s.id, 0);
  for (int32_t i = 0; i < 3; i++) assert_int_equal(faults_get(after, i), i);
  OK(faults_sync(session)); /* reading poison was the reader's own error */
  disco_dref_unref(first);
  disco_dref_unref(second);
  disco_dref_unref(after);
  disco_dref_unref(add);
  close_stage(&s);
}

static void test_using_poison_is_a_new_error(void **state) {
  (void)state;
  stage s = open_stage();
  disco_session *session = s.session;
  disco_dref *skipped = faults_call(s.id, 0), *add = faults_function(session, "faults.add");
  TVMFFIObjectHandle host = faults_tensor(64, 1);
  char want[64];
  let_it_fail(&s);
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "first");
  (void)snprintf(want, sizeof(want), "command %llu,", (unsigned long long)s.failed);
  disco_dref *used = faults_call(add, 2, faults_int(1), faults_dref(skipped));
  uint64_t use = disco_session_sequence(session);
  faults_settle(session);
  faults_refused(faults_sync(session), DISCO_VALUE, "ValueError", want);
  faults_contains(faults_error().text, "argument 1");
  assert_int_equal(faults_error().sequence, use);
  expect_poisoned(used, 0, use);
  faults_post(skipped, 0); /* as a function */
  faults_refused(faults_sync(session), DISCO_VALUE, "ValueError", want);
  OK(disco_copy_to_worker0(session, host, skipped)); /* as a tensor */
  faults_refused(faults_sync(session), DISCO_VALUE, "ValueError", want);
  OK(faults_sync(session));
  dsc_object_unref(host);
  disco_dref_unref(used);
  disco_dref_unref(skipped);
  disco_dref_unref(add);
  close_stage(&s);
}

static void test_debug_set_heals(void **state) {
  (void)state;
  stage s = open_stage();
  TVMFFIAny nine = faults_int(9);
  disco_dref *one = faults_call(s.id, 0), *all = faults_call(s.id, 0);
  let_it_fail(&s);
  assert_int_equal(faults_sync(s.session), DISCO_RAISED);
  OK(disco_debug_set(one, 0, &nine, FAULTS_BOUND_MS));
  assert_int_equal(faults_get(one, 0), 9);
  expect_poisoned(one, 1, s.failed);
  OK(disco_debug_set(all, DISCO_ALL_WORKERS, &nine, FAULTS_BOUND_MS));
  faults_all_have(all, 9);
  disco_dref_unref(one);
  disco_dref_unref(all);
  close_stage(&s);
}

/* GetGlobalFunc, DebugSet, DebugGet and releases that stand between the failure and the resume record. */
static void test_never_skipped(void **state) {
  (void)state;
  stage s = open_stage();
  disco_session *session = s.session;
  TVMFFIAny seven = faults_int(7);
  disco_dref *healed = faults_call(s.id, 0);
  TVMFFIAny object = faults_object();
  disco_dref *dying = NULL;
  OK(disco_session_put(session, &object, &dying));
  dsc_value_drop(&object);
  int64_t dead = faults_objects_dead();
  disco_dref *function = faults_function(session, "faults.id");
  disco_dref_unref(dying); /* rides on the next record, which is skipped itself */
  faults_post(s.id, 0);
  assert_int_equal(disco_debug_set(healed, DISCO_ALL_WORKERS, &seven, 1), DISCO_TIMEOUT); /* posted all the same */
  faults_thread getter = {
      .run = faults_run_get, .dref = s.number, .worker = 2, .timeout_ms = FAULTS_BOUND_MS, .caller = true};
  faults_pause_at("session.unlocked", FAULTS_CALLER, 0); /* so that the failure is not told to it */
  faults_start(&getter);
  faults_pause_wait_reached();
  let_it_fail(&s);
  assert_int_equal(faults_objects_dead(), dead + 1);
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "first");
  faults_pause_release();
  faults_join(&getter);
  assert_int_equal(getter.status, DISCO_OK);
  assert_int_equal(getter.number, 5);
  faults_all_have(healed, 7);
  disco_dref *works = faults_call(function, 0);
  for (int32_t i = 0; i < 3; i++) assert_int_equal(faults_get(works, i), i);
  disco_dref_unref(works);
  disco_dref_unref(function);
  disco_dref_unref(healed);
  close_stage(&s);
}

static _Atomic int64_t synced;

static int init_plane(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return 0;
}

static int set_plane(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  if (disco_worker_set_ccl("faultsplane", (DLDevice){kDLCPU, 0}) != DISCO_OK)
    return disco_raise("RuntimeError", "%s", disco_last_error_text());
  return 0;
}

static int sync_plane(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  atomic_fetch_add(&synced, 1);
  *result = dsc_none();
  return 0;
}

/* With a data plane a sync is a command; that is not skipped either. */
static void test_sync_is_never_skipped(void **state) {
  (void)state;
  OK(disco_register_function("runtime.disco.faultsplane.init_ccl", init_plane, NULL, NULL, true));
  OK(disco_register_function("runtime.disco.faultsplane.sync_worker", sync_plane, NULL, NULL, true));
  OK(disco_register_function("faults.set_plane", set_plane, NULL, NULL, true));
  disco_session *session = faults_open(3);
  const int64_t ids[3] = {0, 1, 2};
  disco_dref *set = faults_function(session, "faults.set_plane");
  faults_post(set, 0);
  OK(disco_session_init_ccl(session, "faultsplane", ids, 3));
  OK(faults_sync(session));
  assert_int_equal(atomic_load(&synced), 3);
  disco_dref *fail_at = faults_function(session, "faults.hold_raise");
  faults_gate_close(FAIL);
  faults_post(fail_at, 3, faults_int(FAIL), faults_int(FAULTS_ALL), faults_str("on all"));
  faults_gate_wait_inside(FAIL, 3);
  assert_int_equal(disco_session_sync(session, DISCO_ALL_WORKERS, 1), DISCO_TIMEOUT);
  faults_gate_open(FAIL);
  faults_settle(session);
  assert_int_equal(atomic_load(&synced), 6);
  faults_refused(faults_sync(session), DISCO_RAISED, "ValueError", "on all");
  disco_dref_unref(fail_at);
  disco_dref_unref(set);
  faults_close(session);
}

static void test_skipped_copies(void **state) {
  (void)state;
  stage s = open_stage();
  disco_session *session = s.session;
  TVMFFIObjectHandle to = faults_tensor(64, 0xAA), from = faults_tensor(64, 0xBB);
  OK(disco_copy_to_worker0(session, to, s.tensor));
  OK(disco_copy_from_worker0(session, from, s.tensor));
  assert_int_equal(faults_references(to), 2);
  let_it_fail(&s);
  assert_int_equal(faults_references(to), 1); /* skipped, and given back */
  assert_int_equal(faults_references(from), 1);
  assert_int_equal(faults_sync(session), DISCO_RAISED);
  assert_int_equal(faults_first_byte(from), 0xBB);
  OK(disco_copy_from_worker0(session, from, s.tensor)); /* later copies use their own host tensors */
  OK(disco_copy_to_worker0(session, to, s.tensor));
  OK(faults_sync(session));
  assert_int_equal(faults_first_byte(from), 2);
  OK(disco_copy_from_worker0(session, from, s.tensor));
  OK(faults_sync(session));
  assert_int_equal(faults_first_byte(from), 0xAA);
  dsc_object_unref(to);
  dsc_object_unref(from);
  close_stage(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_skipped_calls_are_poisoned),
      cmocka_unit_test(test_using_poison_is_a_new_error),
      cmocka_unit_test(test_debug_set_heals),
      cmocka_unit_test(test_never_skipped),
      cmocka_unit_test(test_sync_is_never_skipped),
      cmocka_unit_test(test_skipped_copies),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
