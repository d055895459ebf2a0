/* What a worker's own function may do with its session, and with others: everything that does not wait for itself. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "session/support.h"

/* What the function works on: set by the test before the call, read by the workers. In a worker of another process it
 * stays empty: such a worker has no session that it could call. */
static struct {
  disco_session *own, *other;
  disco_dref *func, *dref, *spare[16];
  TVMFFIObject *host;
} given;
static _Atomic int surprises;
static char surprise[256];

static void expect_here(bool good, const char *what) {
  if (good) return;
  if (atomic_fetch_add(&surprises, 1) == 0)
    (void)snprintf(surprise, sizeof(surprise), "%s: %s", what, disco_last_error_text());
}

#define NO_SURPRISES()                                                          \
  if (atomic_load(&surprises) != 0) print_error("on a worker: %s\n", surprise); \
  assert_int_equal(atomic_load(&surprises), 0)

/* Refused at once, with a sentence that says who and why. */
static void refused(disco_status status, const char *what) {
  const char *text = disco_last_error_text();
  expect_here(status == DISCO_RUNTIME, what);
  expect_here(strstr(text, "may not call its own session") != NULL && strstr(text, "worker ") != NULL, what);
}

/* () on every worker: each call that would have to wait for this very worker */
static int call_own_session(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_session *own = given.own;
  disco_dref *ret = NULL;
  *result = dsc_int(1);
  if (own == NULL) return 0;
  const int64_t reg = disco_dref_reg_id(given.dref), device = 0;
  TVMFFIAny one = dsc_int(1), value = dsc_int(77), all[8];
  const TVMFFIAny packed[] = {dsc_int(3), dsc_int(0), any_dref(given.func)};
  refused(disco_session_get_global_func(own, "test.echo", &ret), "get_global_func");
  refused(disco_call(own, given.func, &one, 1, &ret), "call");
  refused(disco_call(own, given.func, &one, 1, NULL), "call without result");
  refused(disco_call_packed(own, packed, 3, &ret), "call_packed");
  refused(disco_session_put(own, &one, &ret), "put");
  refused(disco_copy_from_worker0(own, given.host, given.dref), "copy_from_worker0");
  refused(disco_copy_to_worker0(own, given.host, given.dref), "copy_to_worker0");
  refused(disco_session_sync(own, 0, 0), "sync");
  refused(disco_session_sync(own, DISCO_ALL_WORKERS, DISCO_FOREVER), "sync all");
  refused(disco_debug_get(given.dref, 0, DISCO_FOREVER, &value), "debug_get");
  refused(disco_debug_get_all(given.dref, DISCO_FOREVER, 8, all), "debug_get_all");
  refused(disco_debug_set(given.dref, 0, &one, DISCO_FOREVER), "debug_set");
  refused(disco_session_debug_get(own, reg, 0, DISCO_FOREVER, &value), "session_debug_get");
  refused(disco_session_debug_set(own, reg, 0, &one, DISCO_FOREVER), "session_debug_set");
  refused(disco_session_dealloc_reg(own, reg), "dealloc_reg");
  refused(disco_session_init_ccl(own, "self", &device, 1), "init_ccl");
  expect_here(ret == NULL && value.v_int64 == 77, "a refused call wrote its result");
  return 0;
}

/* () on every worker: what is allowed */
static int look_at_own_session(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_session *own = given.own;
  disco_worker_info info = {.struct_size = sizeof(info)};
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  disco_error_info error = {.struct_size = sizeof(error)};
  char *text = NULL;
  bool done = true;
  *result = dsc_int(1);
  if (own == NULL) return 0;
  expect_here(disco_worker_get_info(&info) == DISCO_OK, "get_info");
  expect_here(disco_session_num_workers(own) == info.num_workers, "num_workers");
  expect_here(disco_session_num_groups(own) == info.num_groups, "num_groups");
  expect_here(disco_session_sequence(own) >= info.sequence, "sequence");
  expect_here(disco_session_is_done(own, info.worker_id, info.sequence, &done) == DISCO_OK && !done,
              "is_done of the running command");
  expect_here(disco_session_is_done(own, info.worker_id, info.sequence - 1, &done) == DISCO_OK && done,
              "is_done of the last command");
  expect_here(disco_session_get_stats(own, &stats) == DISCO_OK && stats.commands >= info.sequence, "stats");
  expect_here(disco_session_last_error(own, 0, &error) == DISCO_VALUE, "last_error");
  expect_here(disco_session_dump(own, &text) == DISCO_OK && strstr(text, "worker 0:") != NULL, "dump");
  disco_text_free(text);
  expect_here(disco_dref_reg_id(given.dref) >= 1, "reg_id");
  expect_here(disco_dref_session(given.dref) == own, "dref_session");
  disco_session_ref(own);
  disco_session_unref(own);
  disco_dref_ref(given.dref);
  disco_dref_unref(given.dref);
  disco_dref *mine = given.spare[info.worker_id];
  disco_dref_unref(mine); /* the last reference, on a worker's thread */
  return 0;
}

/* () on worker 0: another session is no other thread's business */
static int use_other_session(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_worker_info info = {.struct_size = sizeof(info)};
  disco_dref *func = NULL, *ret = NULL;
  TVMFFIAny one = dsc_int(41);
  *result = dsc_none();
  expect_here(disco_worker_get_info(&info) == DISCO_OK, "get_info");
  if (info.worker_id != 0) return 0;
  expect_here(disco_session_get_global_func(given.other, "test.weigh", &func) == DISCO_OK, "get_global_func");
  expect_here(disco_call(given.other, func, &one, 1, &ret) == DISCO_OK, "call");
  expect_here(disco_debug_get(ret, 1, WAIT_MS, result) == DISCO_OK, "debug_get");
  expect_here(disco_session_sync(given.other, DISCO_ALL_WORKERS, WAIT_MS) == DISCO_OK, "sync");
  disco_dref_unref(func);
  disco_dref_unref(ret);
  return 0;
}

/* () on every worker: asks for the end of its own session, which comes behind what was posted */
static int stop_own_session(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(1);
  if (given.own == NULL) return 0;
  expect_here(disco_session_shutdown(given.own) == DISCO_OK, "shutdown");
  expect_here(disco_session_shutdown(given.own) == DISCO_OK, "shutdown again");
  return 0;
}

/* (dref) drops the reference that the test gave to it */
static int drop_given(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_worker_info info = {.struct_size = sizeof(info)};
  *result = dsc_none();
  if (disco_worker_get_info(&info) == DISCO_OK && info.worker_id == 0) disco_session_unref(given.own);
  return 0;
}

static int never_init(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  (void)result;
  expect_here(false, "init_ccl ran on a worker");
  return 0;
}

static void set_up(int32_t workers) {
  const int64_t shape[] = {1};
  memset(&given, 0, sizeof(given));
  atomic_store(&surprises, 0);
  given.own = make_session(workers, 1);
  given.func = find(given.own, "test.echo");
  given.dref = put(given.own, dsc_int(5));
  given.host = make_tensor(1, shape, 0);
}

static void tear_down(void) {
  disco_dref_unref(given.func);
  disco_dref_unref(given.dref);
  dsc_object_unref(given.host);
}

static void what_would_wait_for_itself_is_refused(void **state) {
  (void)state;
  set_up(3);
  disco_dref *func = find(given.own, "test.call_own_session"), *result = call(given.own, func, NO_VALUES);
  for (int32_t w = 0; w < 3; w++) assert_int_equal(get_int(result, w), 1);
  NO_SURPRISES();
  assert_int_equal(get_int(given.dref, 0), 5); /* nothing was posted, and nothing is stuck */
  disco_dref_unref(result);
  disco_dref_unref(func);
  tear_down();
  end_session(given.own);
}

static void looking_and_dropping_are_allowed(void **state) {
  (void)state;
  set_up(3);
  for (int i = 0; i < 3; i++) given.spare[i] = put(given.own, dsc_int(i));
  disco_dref *func = find(given.own, "test.look_at_own_session");
  uint64_t live = stats_of(given.own).live_registers;
  disco_dref *result = call(given.own, func, NO_VALUES);
  for (int32_t w = 0; w < 3; w++) assert_int_equal(get_int(result, w), 1);
  NO_SURPRISES();
  for (int i = 0; i < 3; i++) /* those that no worker could see */
    if (!shares_memory(i)) disco_dref_unref(given.spare[i]);
  await_live(given.own, live + 1 - 3);
  disco_dref_unref(result);
  disco_dref_unref(func);
  tear_down();
  end_session(given.own);
}

static void another_session_may_be_called(void **state) {
  (void)state;
  set_up(2);
  given.other = make_session(2, 1);
  disco_dref *func = find(given.own, "test.use_other_session"), *result = call(given.own, func, NO_VALUES);
  assert_int_equal(get_int(result, 0), 42);
  NO_SURPRISES();
  disco_dref_unref(result);
  disco_dref_unref(func);
  tear_down();
  end_session(given.own);
  end_session(given.other);
}

static void a_worker_may_ask_for_shutdown(void **state) {
  (void)state;
  set_up(3);
  disco_session *session = given.own;
  disco_dref *func = find(session, "test.stop_own_session"), *ret = NULL;
  expect_ok(disco_call(session, func, NO_VALUES, NULL));
  disco_status status = DISCO_OK;
  for (int i = 0; i < WAIT_MS && status == DISCO_OK; i++) { /* until the shutdown has begun */
    status = disco_session_put(session, &(TVMFFIAny){.type_index = kTVMFFIInt}, &ret);
    disco_dref_unref(ret);
    ret = NULL;
    sleep_ms(1);
  }
  check_status(status, DISCO_CLOSED, "put after a worker asked for shutdown", __FILE__, __LINE__);
  expect_ok(disco_session_shutdown(session)); /* waits until it is through */
  NO_SURPRISES();
  char *text = NULL;
  expect_ok(disco_session_dump(session, &text));
  assert_non_null(strstr(text, "closed"));
  disco_text_free(text);
  disco_dref_unref(func);
  tear_down();
  disco_session_unref(session);
}

/* The very last reference goes on a worker of the session: nothing waits for itself, and the process can end. */
static void a_worker_may_drop_the_last_reference(void **state) {
  (void)state;
  set_up(2);
  disco_dref *func = find(given.own, "test.drop_given");
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, given.own, 0);
  expect_ok(disco_call(given.own, func, NO_VALUES, NULL));
  disco_dref_unref(func);
  disco_dref_unref(stop.func);
  stop.func = NULL;
  tear_down(); /* what is left of the session is worker 0's */
  gate_release(&stop, 1);
  gate_close(&stop);
}

static void register_more(void) {
  register_function("test.call_own_session", call_own_session);
  register_function("test.look_at_own_session", look_at_own_session);
  register_function("test.use_other_session", use_other_session);
  register_function("test.stop_own_session", stop_own_session);
  register_function("test.drop_given", drop_given);
  register_function("runtime.disco.self.init_ccl", never_init);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_would_wait_for_itself_is_refused), cmocka_unit_test(looking_and_dropping_are_allowed),
      cmocka_unit_test(another_session_may_be_called), cmocka_unit_test(a_worker_may_ask_for_shutdown),
      cmocka_unit_test(a_worker_may_drop_the_last_reference)};
  return RUN_SUITE(tests, register_more);
}
