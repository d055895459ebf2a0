/* Reference counts: every object that goes into a session comes out of it, once, and not before its time. A worker that
 * shares no memory has a copy, and so no reference: sharing(n) of n workers do. */
#include <stdatomic.h>
#include <stdio.h>

#include "session/support.h"

/* ---- Objects that say when they die ---- */

typedef struct {
  _Atomic int freed;
  TVMFFIObject *object; /* one reference, until let_go() */
} counted;

static TVMFFIAny make(counted *self) {
  atomic_store(&self->freed, 0);
  TVMFFIAny value = make_counted(&self->freed);
  self->object = value.v_obj;
  return value;
}

static uint32_t references(const counted *self) {
  return (uint32_t)atomic_load((_Atomic uint64_t *)(uintptr_t)&self->object->combined_ref_count);
}

/* Only the test's own reference is left: nothing was leaked, nothing dropped twice. */
static void expect_own_only(counted *self) {
  for (int i = 0; i < WAIT_MS && references(self) != 1; i++) sleep_ms(1);
  assert_int_equal(references(self), 1);
  assert_int_equal(atomic_load(&self->freed), 0);
}

static void let_go(counted *self) {
  dsc_object_unref(self->object);
  self->object = NULL;
}

/* Waits for the end, and sees that there is only one. */
static void expect_freed(counted *self) {
  assert_int_equal(await_count(&self->freed, 1), 1);
  sleep_ms(2);
  assert_int_equal(atomic_load(&self->freed), 1);
}

/* What `worker` gave: the very object, or a copy. Drops it. */
static void expect_same(TVMFFIAny *seen, int32_t worker, const counted *self) {
  if (shares_memory(worker)) assert_ptr_equal(seen->v_obj, self->object);
  assert_true(is_text(seen, COUNTED_TEXT));
  dsc_value_drop(seen);
}

/* ---- Success ---- */

static void arguments_live_as_long_as_the_call(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *type = find(session, "test.type_index");
  counted in;
  gate stop;
  TVMFFIAny value = make(&in);
  gate_open(&stop);
  gate_hold(&stop, session, DISCO_ALL_WORKERS);
  expect_ok(disco_call(session, type, VALUES(value, dsc_int(1), value), NULL));
  assert_int_equal(references(&in), 1 + 2 * sharing(3)); /* one for each worker and place */
  let_go(&in);
  assert_int_equal(atomic_load(&in.freed), 0); /* not before the last worker ran it */
  gate_release(&stop, 3);
  sync_all(session);
  expect_freed(&in);
  gate_close(&stop);
  disco_dref_unref(type);
  end_session(session);
  assert_int_equal(atomic_load(&in.freed), 1);
}

static void results_live_as_long_as_their_register(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo");
  counted in;
  TVMFFIAny value = make(&in), seen;
  disco_dref *result = call(session, echo, VALUES(value));
  sync_all(session);
  assert_int_equal(references(&in), 1 + sharing(3));
  for (int32_t w = 0; w < 3; w++) {
    seen = get(result, w);
    assert_int_equal(references(&in), 1 + sharing(3) + (shares_memory(w) ? 1 : 0));
    expect_same(&seen, w, &in);
  }
  let_go(&in);
  seen = get(result, 2);
  dsc_value_drop(&seen);
  assert_int_equal(atomic_load(&in.freed), 0);
  disco_dref_unref(result); /* nobody calls after this: idle workers release it by themselves */
  expect_freed(&in);
  /* A result that is not wanted. */
  value = make(&in);
  expect_ok(disco_call(session, echo, &value, 1, NULL));
  sync_all(session);
  expect_own_only(&in);
  let_go(&in);
  expect_freed(&in);
  disco_dref_unref(echo);
  end_session(session);
}

static void put_set_and_get_count_right(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  counted first, second;
  TVMFFIAny one = make(&first), two = make(&second), all[3], number = dsc_int(1);
  disco_dref *dref = put(session, one);
  sync_all(session);
  assert_int_equal(references(&first), 1 + sharing(3));
  expect_ok(disco_debug_get_all(dref, WAIT_MS, 3, all));
  for (int i = 0; i < 3; i++) expect_same(&all[i], i, &first);
  assert_int_equal(references(&first), 1 + sharing(3));
  expect_ok(disco_debug_set(dref, 0, &two, WAIT_MS)); /* drops the old value there */
  assert_int_equal(references(&first), 1 + sharing(3) - 1);
  assert_int_equal(references(&second), 1 + 1);
  expect_ok(disco_debug_set(dref, DISCO_ALL_WORKERS, &two, WAIT_MS));
  expect_own_only(&first);
  assert_int_equal(references(&second), 1 + sharing(3));
  expect_ok(disco_debug_set(dref, DISCO_ALL_WORKERS, &number, WAIT_MS));
  expect_own_only(&second);
  expect_ok(disco_session_debug_set(session, disco_dref_reg_id(dref), 0, &one, WAIT_MS));
  assert_int_equal(references(&first), 1 + 1);
  expect_ok(disco_session_dealloc_reg(session, disco_dref_reg_id(dref)));
  expect_own_only(&first);
  disco_dref_unref(dref);
  let_go(&first);
  let_go(&second);
  expect_freed(&first);
  expect_freed(&second);
  end_session(session);
}

/* ---- Refused ---- */

static void what_is_refused_is_not_kept(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1), *other = make_session(1, 1);
  disco_dref *echo = find(session, "test.echo"), *foreign = put(other, dsc_int(1)), *dead = put(session, dsc_int(1));
  disco_dref *ret = NULL;
  counted in;
  TVMFFIAny value = make(&in), bad = any_pointer(&in);
  TVMFFIByteArray long_text = {"short", ((size_t)256 << 20) + 1};
  bad.type_index = kTVMFFIDLTensorPtr;
  expect_ok(disco_session_dealloc_reg(session, disco_dref_reg_id(dead)));
  expect_status(DISCO_VALUE, disco_call(session, echo, VALUES(value, value, any_dref(foreign)), &ret));
  expect_status(DISCO_VALUE, disco_call(session, echo, VALUES(value, any_dref(echo), value, any_dref(dead)), &ret));
  expect_status(DISCO_VALUE, disco_call(session, foreign, VALUES(value), &ret));
  expect_status(DISCO_TYPE, disco_call(session, echo, VALUES(value, any_raw("copied text"), bad), &ret));
  expect_status(DISCO_VALUE, disco_call(session, echo, VALUES(value, any_raw("copied"), any_bytes(&long_text)), &ret));
  expect_status(DISCO_VALUE, disco_call(session, echo, &value, 5000, &ret));
  expect_status(DISCO_VALUE, disco_debug_set(dead, 0, &value, WAIT_MS));
  expect_status(DISCO_VALUE, disco_debug_set(echo, 7, &value, WAIT_MS));
  expect_status(DISCO_VALUE, disco_session_debug_set(session, 999, 0, &value, WAIT_MS));
  assert_null(ret);
  assert_int_equal(references(&in), 1);
  /* After shutdown, too. */
  disco_dref *kept = put(session, dsc_int(1));
  expect_ok(disco_session_shutdown(session));
  expect_status(DISCO_CLOSED, disco_call(session, echo, &value, 1, &ret));
  expect_status(DISCO_CLOSED, disco_session_put(session, &value, &ret));
  expect_status(DISCO_CLOSED, disco_debug_set(kept, 0, &value, WAIT_MS));
  expect_status(DISCO_CLOSED, disco_session_dealloc_reg(session, disco_dref_reg_id(kept)));
  assert_int_equal(references(&in), 1);
  let_go(&in);
  expect_freed(&in);
  disco_dref_unref(kept);
  disco_dref_unref(dead);
  disco_dref_unref(foreign);
  disco_dref_unref(echo);
  disco_session_unref(session);
  end_session(other);
}

/* The call that is not posted because an error is told instead. */
static void a_call_that_hears_an_error_keeps_nothing(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *raise = find(session, "test.raise"), *echo = find(session, "test.echo"), *ret = NULL;
  counted in;
  TVMFFIAny value = make(&in);
  expect_ok(disco_call(session, raise, VALUES(dsc_int(-1), any_raw("ValueError"), any_raw("x")), NULL));
  bool done = false;
  for (int i = 0; i < WAIT_MS && !done; i++) {
    expect_ok(disco_session_is_done(session, DISCO_ALL_WORKERS, disco_session_sequence(session), &done));
    if (!done) sleep_ms(1);
  }
  uint64_t live = stats_of(session).live_registers;
  expect_status(DISCO_RAISED, disco_call(session, echo, &value, 1, &ret));
  assert_null(ret);
  assert_int_equal(references(&in), 1);
  await_live(session, live);
  let_go(&in);
  expect_freed(&in);
  disco_dref_unref(raise);
  disco_dref_unref(echo);
  end_session(session);
}

/* ---- Failed and skipped ---- */

static void failed_and_skipped_calls_drop_theirs(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *fail = find(session, "test.gate_and_raise"), *echo = find(session, "test.echo");
  counted failed, skipped, written;
  const int64_t shape[] = {1};
  TVMFFIAny args[5], other = make(&skipped), third = make(&written);
  gate stop;
  gate_open(&stop);
  gate_args(&stop, DISCO_ALL_WORKERS, args);
  args[4] = make(&failed);
  TVMFFIObject *host = make_tensor(1, shape, 0);
  disco_dref *failing = call(session, fail, args, 5); /* keeps an argument, and raises */
  gate_await(&stop, 3);
  disco_dref *never = call(session, echo, &other, 1);
  disco_dref *kept = put(session, third); /* a put is a write: never skipped */
  expect_ok(disco_copy_to_worker0(session, host, never));
  expect_ok(disco_call(session, echo, VALUES(any_dref(never)), NULL));
  assert_int_equal(references(&failed), 1 + sharing(3));
  assert_int_equal(references(&skipped), 1 + sharing(3));
  gate_release(&stop, 3);
  expect_status(DISCO_RAISED, disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  sync_all(session);
  expect_own_only(&failed);
  expect_own_only(&skipped);
  assert_int_equal(references(&written), 1 + sharing(3));
  assert_int_equal(host->combined_ref_count, 1 | (uint64_t)1 << 32);
  TVMFFIAny seen = get(kept, 2);
  expect_same(&seen, 2, &written);
  disco_dref_unref(kept);
  expect_own_only(&written);
  let_go(&failed);
  let_go(&skipped);
  let_go(&written);
  expect_freed(&failed);
  expect_freed(&skipped);
  expect_freed(&written);
  dsc_object_unref(host);
  gate_close(&stop);
  disco_dref_unref(failing);
  disco_dref_unref(never);
  disco_dref_unref(fail);
  disco_dref_unref(echo);
  end_session(session);
}

/* ---- Timeouts ---- */

static void an_abandoned_read_drops_its_value(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  counted in, set;
  TVMFFIAny value = make(&in), other = make(&set), all[3];
  disco_dref *dref = put(session, value), *target = put(session, dsc_int(1));
  sync_all(session);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  expect_status(DISCO_TIMEOUT, disco_debug_get(dref, 1, 5, &all[0]));
  expect_status(DISCO_TIMEOUT, disco_debug_get_all(dref, 5, 3, all)); /* some replied, one did not */
  expect_status(DISCO_TIMEOUT, disco_debug_set(target, 1, &other, 5));
  gate_release(&stop, 1);
  sync_all(session);
  assert_int_equal(references(&set), 1 + (shares_memory(1) ? 1 : 0)); /* what was posted went on */
  TVMFFIAny seen = get(target, 1);                                    /* takes in the late replies as well */
  expect_same(&seen, 1, &set);
  for (int i = 0; i < WAIT_MS && references(&in) != 1 + (uint32_t)sharing(3); i++) sleep_ms(1);
  assert_int_equal(references(&in), 1 + sharing(3));
  disco_dref_unref(dref);
  disco_dref_unref(target);
  expect_own_only(&in);
  expect_own_only(&set);
  let_go(&in);
  let_go(&set);
  expect_freed(&in);
  expect_freed(&set);
  gate_close(&stop);
  end_session(session);
}

/* A read that nobody takes in any more before the session ends. */
static void shutdown_drops_late_replies(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  counted in;
  TVMFFIAny value = make(&in), late;
  disco_dref *dref = put(session, value);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  for (int i = 0; i < 10; i++) expect_status(DISCO_TIMEOUT, disco_debug_get(dref, 1, 0, &late));
  gate_release(&stop, 1);
  end_session(session);
  expect_own_only(&in);
  disco_dref_unref(dref);
  let_go(&in);
  expect_freed(&in);
  gate_close(&stop);
}

/* ---- Shutdown ---- */

static void shutdown_runs_or_drops_what_is_in_the_ring(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo"), *results[50];
  counted in, kept;
  gate stop;
  TVMFFIAny value = make(&in), held = make(&kept);
  disco_dref *reg = put(session, held);
  gate_open(&stop);
  gate_hold(&stop, session, DISCO_ALL_WORKERS);
  for (int i = 0; i < 50; i++) results[i] = call(session, echo, VALUES(value, any_dref(reg)));
  let_go(&in);
  assert_int_equal(atomic_load(&in.freed), 0);
  gate_release(&stop, 3);
  /* echo refuses two arguments: the first call fails, the rest is skipped, and shutdown tells no error. */
  expect_ok(disco_session_shutdown(session));
  expect_freed(&in);
  expect_own_only(&kept); /* registers end with their workers, though their DRefs live */
  for (int i = 0; i < 50; i++) disco_dref_unref(results[i]);
  disco_dref_unref(reg);
  disco_dref_unref(echo);
  let_go(&kept);
  expect_freed(&kept);
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_ok(disco_session_last_error(session, 0, &error)); /* the untold error stays readable */
  assert_string_equal(error.kind, "TypeError");
  disco_session_unref(session);
  gate_close(&stop);
}

/* Without any shutdown: the last reference ends it in the background. */
static void the_last_reference_frees_everything(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo");
  counted in;
  TVMFFIAny value = make(&in);
  disco_dref *first = call(session, echo, &value, 1), *second = put(session, value);
  let_go(&in);
  disco_session_unref(session); /* the DRefs keep it */
  sleep_ms(2);
  assert_int_equal(atomic_load(&in.freed), 0);
  disco_dref_unref(echo);
  disco_dref_unref(first);
  disco_dref_unref(second);
  expect_freed(&in);
}

/* ---- Conversions ---- */

/* The argument forms that TVM's typed functions accept, in the builtin that has the most of them. */
static void builtins_convert_like_tvm(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *empty = find(session, "runtime.disco.empty");
  TVMFFIAny shape = call_here("ffi.Shape", VALUES(dsc_int(2), dsc_int(3))), none = dsc_none();
  TVMFFIAny array = call_here("ffi.Array", VALUES(dsc_int(2), any_bool(true), dsc_int(3)));
  disco_dref *list = put(session, none); /* containers go to other processes in explicit writes only */
  expect_ok(disco_debug_set(list, DISCO_ALL_WORKERS, &array, WAIT_MS));
  TVMFFIAny dtype = make_text("float16"), device = make_text("cpu"), long_device = make_text("cpu:0");
  const struct {
    TVMFFIAny args[5];
    int32_t ndim;
    uint8_t bits;
  } cases[] = {
      {{shape, dtype, none, any_bool(false), any_bool(true)}, 2, 16},
      {{shape, any_dtype(kDLInt, 8, 1), any_device(kDLCPU, 0), dsc_int(0), dsc_int(1)}, 2, 8},
      {{any_dref(list), any_raw("bfloat16"), device, dsc_int(0), any_bool(false)}, 3, 16},
      {{any_dref(list), any_raw("bool"), long_device, any_bool(false), dsc_int(0)}, 3, 8},
      {{shape, any_dtype(kDLFloat, 64, 1), any_raw("cpu:0"), dsc_int(0), dsc_int(5)}, 2, 64},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    disco_dref *result = call(session, empty, cases[i].args, 5);
    TVMFFIAny tensor = get(result, 1);
    assert_int_equal(tensor.type_index, kTVMFFITensor);
    assert_int_equal(tensor_of(tensor.v_obj)->ndim, cases[i].ndim);
    assert_int_equal(tensor_of(tensor.v_obj)->shape[0], 2);
    assert_int_equal(tensor_of(tensor.v_obj)->dtype.bits, cases[i].bits);
    dsc_value_drop(&tensor);
    disco_dref_unref(result);
  }
  /* And what they refuse: a float is no bool, None no dtype. */
  expect_ok(disco_call(session, empty, VALUES(shape, dtype, none, any_float(0), dsc_int(0)), NULL));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("argument #3");
  expect_says("`float`");
  expect_ok(disco_call(session, empty, VALUES(shape, none, none, dsc_int(0), dsc_int(0)), NULL));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("argument #1");
  dsc_value_drop(&shape);
  dsc_value_drop(&array);
  disco_dref_unref(list);
  disco_dref_unref(empty);
  end_session(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(arguments_live_as_long_as_the_call),
                                     cmocka_unit_test(results_live_as_long_as_their_register),
                                     cmocka_unit_test(put_set_and_get_count_right),
                                     cmocka_unit_test(what_is_refused_is_not_kept),
                                     cmocka_unit_test(a_call_that_hears_an_error_keeps_nothing),
                                     cmocka_unit_test(failed_and_skipped_calls_drop_theirs),
                                     cmocka_unit_test(an_abandoned_read_drops_its_value),
                                     cmocka_unit_test(shutdown_drops_late_replies),
                                     cmocka_unit_test(shutdown_runs_or_drops_what_is_in_the_ring),
                                     cmocka_unit_test(the_last_reference_frees_everything),
                                     cmocka_unit_test(builtins_convert_like_tvm)};
  return RUN_SUITE(tests, NULL);
}
