/* Registers: functions by name, reading and writing, releasing, and DRefs that name nothing here. */
#include <stdio.h>

#include "session/support.h"

/* ---- Functions by name ---- */

static void a_function_that_is_there(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *func = find(session, "test.weigh"), *again = find(session, "test.weigh");
  assert_true(disco_dref_reg_id(func) >= 1);
  assert_int_not_equal(disco_dref_reg_id(func), disco_dref_reg_id(again));
  assert_ptr_equal(disco_dref_session(func), session);
  disco_dref *sum = call(session, again, VALUES(dsc_int(7)));
  assert_int_equal(get_int(sum, 1), 8);
  TVMFFIAny value = get(func, 0);
  assert_int_equal(value.type_index, kTVMFFIFunction);
  dsc_value_drop(&value);
  if (shares_memory(1)) {
    value = get(func, 1);
    assert_int_equal(value.type_index, kTVMFFIFunction);
    dsc_value_drop(&value);
  } else {
    expect_kind("TypeError", disco_debug_get(func, 1, WAIT_MS, &value));
    expect_says("thread workers only");
    assert_int_equal(stats_of(session).errors_told, 0); /* a failed read is its caller's alone */
  }
  disco_dref_unref(sum);
  disco_dref_unref(func);
  disco_dref_unref(again);
  end_session(session);
}

/* Each worker looks again when it comes to the command: an earlier one may have registered the function. */
static void a_function_that_is_registered_later(void **state) {
  (void)state;
  disco_session *session = make_session(1, 1); /* the registry has no lock: no other worker may look meanwhile */
  disco_dref *later = find(session, "test.register_later"), *echo = NULL;
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 0);
  expect_ok(disco_call(session, later, VALUES(any_raw("test.made_later")), NULL));
  expect_ok(disco_session_get_global_func(session, "test.made_later", &echo));
  disco_dref *result = call(session, echo, VALUES(dsc_int(11)));
  gate_release(&stop, 1);
  assert_int_equal(get_int(result, 0), 11);
  gate_close(&stop);
  disco_dref_unref(result);
  disco_dref_unref(echo);
  disco_dref_unref(later);
  end_session(session);
}

static void a_function_that_nobody_knows(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *unknown = NULL, *result = NULL;
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_ok(disco_session_get_global_func(session, "test.wiegh", &unknown)); /* posted: the workers will say */
  assert_non_null(unknown);
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("test.wiegh");
  expect_says("`test.weigh`"); /* the nearest name */
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_int_equal(error.sequence, 1);
  assert_true(error.worker == 0 || error.worker == 1);
  assert_non_null(strstr(error.text, error.worker == 0 ? "worker 0 of 2" : "worker 1 of 2"));
  /* Its register has no value, which later users are told. */
  expect_ok(disco_call(session, unknown, NO_VALUES, &result));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("command 1");
  expect_status(DISCO_VALUE, disco_session_get_global_func(session, "", &unknown));
  char *name = calloc(1, 5000);
  memset(name, 'n', 4999);
  expect_refused(DISCO_VALUE, "4999", disco_session_get_global_func(session, name, &unknown));
  free(name);
  disco_dref_unref(unknown);
  disco_dref_unref(result);
  disco_dref *weigh = find(session, "test.weigh");
  result = call(session, weigh, VALUES(dsc_int(1)));
  assert_int_equal(get_int(result, 0), 1);
  disco_dref_unref(result);
  disco_dref_unref(weigh);
  end_session(session);
}

static void calling_what_is_no_function(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *number = put(session, dsc_int(3)), *result = NULL;
  expect_ok(disco_call(session, number, NO_VALUES, &result));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("does not hold a Function but `int`");
  sync_all(session);
  disco_dref_unref(result);
  disco_dref_unref(number);
  end_session(session);
}

/* ---- Putting, reading, writing ---- */

static void put_reaches_every_worker(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  char text[] = "a borrowed text that will change";
  disco_dref *dref = put(session, any_raw(text)), *refused = NULL;
  memset(text, '!', 5);
  TVMFFIAny values[4];
  expect_ok(disco_debug_get_all(dref, WAIT_MS, 4, values));
  for (int i = 0; i < 3; i++) {
    assert_true(is_text(&values[i], "a borrowed text that will change"));
    dsc_value_drop(&values[i]);
  }
  values[0] = any_dref(dref);
  expect_refused(DISCO_TYPE, "DRef", disco_session_put(session, &values[0], &refused));
  assert_null(refused);
  disco_dref_unref(dref);
  end_session(session);
}

static void debug_set_changes_one_worker_or_all(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *dref = put(session, dsc_int(5));
  TVMFFIAny six = dsc_int(6), text = any_raw("seven, and it is long enough"), none = dsc_none(), value, all[3];
  expect_ok(disco_debug_set(dref, 1, &six, WAIT_MS));
  assert_int_equal(get_int(dref, 0), 5);
  assert_int_equal(get_int(dref, 1), 6);
  assert_int_equal(get_int(dref, 2), 5);
  expect_ok(disco_debug_set(dref, DISCO_ALL_WORKERS, &text, WAIT_MS));
  expect_ok(disco_debug_get_all(dref, WAIT_MS, 3, all));
  for (int i = 0; i < 3; i++) {
    assert_true(is_text(&all[i], "seven, and it is long enough"));
    dsc_value_drop(&all[i]);
  }
  expect_ok(disco_debug_set(dref, 0, &none, WAIT_MS));
  value = get(dref, 0);
  assert_int_equal(value.type_index, kTVMFFINone);
  value = any_dref(dref);
  expect_refused(DISCO_TYPE, "DRef", disco_debug_set(dref, 0, &value, WAIT_MS));
  disco_dref_unref(dref);
  end_session(session);
}

static void workers_that_do_not_exist(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *dref = put(session, dsc_int(5));
  int64_t reg = disco_dref_reg_id(dref);
  uint64_t before = disco_session_sequence(session);
  TVMFFIAny value = dsc_int(77), all[3] = {dsc_int(1), dsc_int(2), dsc_int(3)};
  const int32_t bad[] = {3, -2, INT32_MAX, INT32_MIN};
  bool done = false;
  for (int i = 0; i < 4; i++) {
    char number[32];
    (void)snprintf(number, sizeof(number), "no worker %d", bad[i]);
    expect_refused(DISCO_VALUE, number, disco_debug_get(dref, bad[i], WAIT_MS, &value));
    expect_says("0 to 2");
    expect_refused(DISCO_VALUE, number, disco_debug_set(dref, bad[i], &value, WAIT_MS));
    expect_refused(DISCO_VALUE, number, disco_session_debug_get(session, reg, bad[i], WAIT_MS, &value));
    expect_refused(DISCO_VALUE, number, disco_session_debug_set(session, reg, bad[i], &value, WAIT_MS));
    expect_refused(DISCO_VALUE, number, disco_session_sync(session, bad[i], WAIT_MS));
    expect_refused(DISCO_VALUE, number, disco_session_is_done(session, bad[i], 0, &done));
  }
  /* One value has no place for all workers' values. */
  expect_status(DISCO_VALUE, disco_debug_get(dref, DISCO_ALL_WORKERS, WAIT_MS, &value));
  expect_status(DISCO_VALUE, disco_session_debug_get(session, reg, DISCO_ALL_WORKERS, WAIT_MS, &value));
  expect_refused(DISCO_VALUE, "2 values", disco_debug_get_all(dref, WAIT_MS, 2, all));
  assert_int_equal(value.v_int64, 77);
  assert_int_equal(all[0].v_int64, 1);
  assert_int_equal(disco_session_sequence(session), before);
  disco_dref_unref(dref);
  end_session(session);
}

/* A DRef to a tensor of float32[2, 3] of its own on every worker. */
static disco_dref *make_empty(disco_session *session) {
  disco_dref *empty = find(session, "runtime.disco.empty");
  TVMFFIAny shape = call_here("ffi.Shape", VALUES(dsc_int(2), dsc_int(3)));
  disco_dref *tensor =
      call(session, empty, VALUES(shape, any_raw("float32"), dsc_none(), any_bool(false), any_bool(true)));
  dsc_value_drop(&shape);
  disco_dref_unref(empty);
  return tensor;
}

static void a_tensor_is_copied_into_a_tensor(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *dref = make_empty(session);
  const int64_t six[] = {6}, five[] = {5}, two_three[] = {2, 3};
  TVMFFIAny before = get(dref, 1), source = any_object(make_tensor(1, six, 100)), after;
  TVMFFIAny wrong = any_object(make_tensor(1, five, 200)), same = any_object(make_tensor(2, two_three, 300));
  expect_ok(disco_debug_set(dref, 0, &same, WAIT_MS));
  expect_ok(disco_debug_set(dref, 1, &source, WAIT_MS)); /* other shape, same bytes */
  after = get(dref, 1);
  assert_int_equal(tensor_of(after.v_obj)->ndim, 2);
  if (workers_share_memory()) assert_ptr_equal(after.v_obj, before.v_obj); /* into it, not instead of it */
  for (int i = 0; i < 6; i++) assert_true(floats_of(after.v_obj)[i] == 100 + (float)i);
  dsc_value_drop(&after);
  expect_refused(DISCO_VALUE, "float32[5] (20 bytes)", disco_debug_set(dref, 1, &wrong, WAIT_MS));
  expect_says("float32[2, 3] (24 bytes)");
  after = get(dref, 1);
  for (int i = 0; i < 6; i++) assert_true(floats_of(after.v_obj)[i] == 100 + (float)i); /* nothing was written */
  dsc_value_drop(&after);
  after = get(dref, 0);
  assert_true(floats_of(after.v_obj)[0] == 300); /* only worker 1 was meant */
  dsc_value_drop(&after);
  TVMFFIAny number = dsc_int(9); /* no tensor: replaces it */
  expect_ok(disco_debug_set(dref, 1, &number, WAIT_MS));
  assert_int_equal(get_int(dref, 1), 9);
  expect_ok(disco_debug_set(dref, 1, &wrong, WAIT_MS));
  after = get(dref, 1);
  assert_int_equal(tensor_of(after.v_obj)->shape[0], 5);
  dsc_value_drop(&after);
  assert_int_equal(stats_of(session).errors_told, 0); /* a refused write is its caller's alone */
  dsc_value_drop(&before);
  dsc_value_drop(&source);
  dsc_value_drop(&wrong);
  dsc_value_drop(&same);
  disco_dref_unref(dref);
  end_session(session);
}

static void poison_is_told_and_healed(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *raise = find(session, "test.raise"), *echo = find(session, "test.echo");
  disco_dref *bad = call(session, raise, VALUES(dsc_int(1), any_raw("ValueError"), any_raw("poisons its result")));
  uint64_t failed = disco_session_sequence(session);
  char text[32];
  (void)snprintf(text, sizeof(text), "command %d", (int)failed);
  expect_status(DISCO_RAISED, disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  TVMFFIAny value = dsc_int(1), all[2] = {dsc_int(1), dsc_int(2)};
  expect_refused(DISCO_VALUE, text, disco_debug_get(bad, 1, WAIT_MS, &value));
  expect_says("worker 1");
  assert_int_equal(value.v_int64, 1);
  expect_refused(DISCO_VALUE, text, disco_debug_get_all(bad, WAIT_MS, 2, all)); /* all or none */
  assert_int_equal(all[0].v_int64, 1);
  value = get(bad, 0); /* worker 0 did not fail: its result stands */
  assert_int_equal(value.type_index, kTVMFFINone);
  disco_dref *used = call(session, echo, VALUES(any_dref(bad)));
  expect_refused(DISCO_VALUE, text, disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS)); /* names the cause */
  TVMFFIAny good = dsc_int(8);
  expect_ok(disco_debug_set(bad, 1, &good, WAIT_MS));
  assert_int_equal(get_int(bad, 1), 8);
  disco_dref_unref(used);
  used = call(session, echo, VALUES(any_dref(bad)));
  assert_int_equal(get_int(used, 1), 8);
  disco_dref_unref(used);
  disco_dref_unref(bad);
  disco_dref_unref(raise);
  disco_dref_unref(echo);
  end_session(session);
}

/* ---- By number, and releasing ---- */

static void registers_by_number(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *dref = put(session, dsc_int(5)), *freed = put(session, dsc_int(6));
  int64_t reg = disco_dref_reg_id(dref), gone = disco_dref_reg_id(freed);
  TVMFFIAny value = dsc_none(), seven = dsc_int(7);
  expect_ok(disco_session_debug_get(session, reg, 1, WAIT_MS, &value));
  assert_int_equal(value.v_int64, 5);
  expect_ok(disco_session_debug_set(session, reg, 1, &seven, WAIT_MS));
  assert_int_equal(get_int(dref, 1), 7);
  assert_int_equal(get_int(dref, 0), 5);
  disco_dref_unref(freed);
  const int64_t bad[] = {gone, 0, -1, 1000000, INT64_MAX, INT64_MIN, reg + ((int64_t)1 << 32)};
  await_live(session, 1);
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    char number[40];
    (void)snprintf(number, sizeof(number), "register %lld ", (long long)bad[i]);
    expect_refused(DISCO_VALUE, number, disco_session_debug_get(session, bad[i], 0, WAIT_MS, &value));
    expect_refused(DISCO_VALUE, number, disco_session_debug_set(session, bad[i], 0, &seven, WAIT_MS));
    expect_refused(DISCO_VALUE, number, disco_session_dealloc_reg(session, bad[i]));
  }
  await_live(session, 1);
  assert_int_equal(get_int(dref, 1), 7);
  disco_dref_unref(dref);
  end_session(session);
}

static void a_released_register_is_dead(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo"), *dref = put(session, dsc_int(5)), *result = NULL;
  int64_t reg = disco_dref_reg_id(dref);
  TVMFFIAny value = dsc_int(1);
  const int64_t shape[] = {1};
  TVMFFIObject *host = make_tensor(1, shape, 0);
  expect_ok(disco_session_dealloc_reg(session, reg));
  expect_refused(DISCO_VALUE, "not live", disco_session_dealloc_reg(session, reg));
  expect_refused(DISCO_VALUE, "released", disco_call(session, echo, VALUES(any_dref(dref)), &result));
  expect_says("argument 0");
  expect_refused(DISCO_VALUE, "released", disco_call(session, dref, NO_VALUES, &result));
  expect_refused(DISCO_VALUE, "released", disco_debug_get(dref, 0, WAIT_MS, &value));
  expect_refused(DISCO_VALUE, "released", disco_debug_set(dref, 0, &value, WAIT_MS));
  expect_refused(DISCO_VALUE, "released", disco_copy_to_worker0(session, host, dref));
  expect_refused(DISCO_VALUE, "released", disco_copy_from_worker0(session, host, dref));
  assert_null(result);
  /* Whoever has that number now or later: the dead DRef means none of them, and its end harms nobody. */
  disco_dref *others[64];
  for (int i = 0; i < 64; i++) {
    if (i == 32) disco_dref_unref(dref);
    others[i] = put(session, dsc_int(100 + i));
    if (i >= 32) continue;
    expect_refused(DISCO_VALUE, "released", disco_call(session, echo, VALUES(any_dref(dref)), &result));
    expect_refused(DISCO_VALUE, "released", disco_debug_get(dref, 0, WAIT_MS, &value));
  }
  for (int i = 0; i < 64; i++) {
    assert_int_equal(get_int(others[i], 1), 100 + i);
    disco_dref_unref(others[i]);
  }
  await_live(session, 1);
  disco_dref_unref(echo);
  dsc_object_unref(host);
  end_session(session);
}

/* A released number used as the result of the very call that carries the release. */
static void releases_come_before_the_call(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *weigh = find(session, "test.weigh"), *value = call(session, weigh, VALUES(dsc_int(0)));
  const int rounds = scaled(2000, 100);
  for (int i = 0; i < rounds; i++) {
    disco_dref *next = call(session, weigh, VALUES(any_dref(value), dsc_int(i)));
    disco_dref_unref(value);
    value = next;
  }
  int64_t sum = 0;
  for (int i = 0; i < rounds; i++) sum += 2 * i;
  assert_int_equal(get_int(value, 0), sum);
  assert_int_equal(get_int(value, 1), sum + rounds + 1); /* each call adds the rank */
  assert_true(disco_dref_reg_id(value) < 2000);
  await_live(session, 2);
  disco_dref_unref(value);
  disco_dref_unref(weigh);
  end_session(session);
}

/* ---- Another session's DRefs ---- */

static void drefs_of_another_session_are_told(void **state) {
  (void)state;
  disco_session *mine = make_session(2, 1), *other = make_session(2, 1);
  disco_dref *echo = find(mine, "test.echo"), *foreign_echo = find(other, "test.echo");
  disco_dref *foreign = put(other, dsc_int(1)), *result = NULL;
  const int64_t shape[] = {1};
  TVMFFIObject *host = make_tensor(1, shape, 0);
  uint64_t before = disco_session_sequence(mine);
  const char *says = "another session";
  expect_refused(DISCO_VALUE, says, disco_call(mine, echo, VALUES(dsc_int(1), any_dref(foreign)), &result));
  expect_says("argument 1");
  expect_refused(DISCO_VALUE, says, disco_call(mine, foreign_echo, VALUES(dsc_int(1)), &result));
  expect_refused(DISCO_VALUE, says, disco_copy_to_worker0(mine, host, foreign));
  expect_refused(DISCO_VALUE, says, disco_copy_from_worker0(mine, host, foreign));
  assert_null(result);
  assert_int_equal(disco_session_sequence(mine), before);
  result = call(other, foreign_echo, VALUES(any_dref(foreign)));
  assert_int_equal(get_int(result, 1), 1);
  disco_dref_unref(result);
  /* Also inside a run of good ones. */
  disco_dref *good = put(mine, dsc_int(2));
  expect_refused(DISCO_VALUE, says,
                 disco_call(mine, echo, VALUES(any_dref(good), any_dref(good), any_dref(foreign)), NULL));
  expect_says("argument 2");
  disco_dref_unref(good);
  disco_dref_unref(foreign);
  disco_dref_unref(foreign_echo);
  disco_dref_unref(echo);
  dsc_object_unref(host);
  end_session(mine);
  end_session(other);
}

/* A DRef keeps its session. */
static void a_dref_keeps_its_session(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *dref = put(session, dsc_int(5));
  disco_session_unref(session);
  assert_int_equal(get_int(dref, 1), 5);
  assert_int_equal(disco_session_num_workers(disco_dref_session(dref)), 2);
  disco_dref_ref(dref);
  disco_dref_unref(dref);
  assert_int_equal(get_int(dref, 0), 5);
  expect_ok(disco_session_shutdown(disco_dref_session(dref)));
  disco_dref_unref(dref);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_function_that_is_there),          cmocka_unit_test(a_function_that_is_registered_later),
      cmocka_unit_test(a_function_that_nobody_knows),      cmocka_unit_test(calling_what_is_no_function),
      cmocka_unit_test(put_reaches_every_worker),          cmocka_unit_test(debug_set_changes_one_worker_or_all),
      cmocka_unit_test(workers_that_do_not_exist),         cmocka_unit_test(a_tensor_is_copied_into_a_tensor),
      cmocka_unit_test(poison_is_told_and_healed),         cmocka_unit_test(registers_by_number),
      cmocka_unit_test(a_released_register_is_dead),       cmocka_unit_test(releases_come_before_the_call),
      cmocka_unit_test(drefs_of_another_session_are_told), cmocka_unit_test(a_dref_keeps_its_session)};
  return RUN_SUITE(tests, NULL);
}
