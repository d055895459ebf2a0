/* Starting a data plane: the front that any collective library stands behind. The one here moves nothing. */
#include <stdio.h>

#include "session/support.h"

static _Thread_local int syncs; /* of this worker, whatever it runs in */
static _Thread_local bool sync_fails;

/* (device ids): on a worker */
static int init_per_worker(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info info = {.struct_size = sizeof(info)};
  *result = dsc_none();
  if (num_args != 1 || disco_worker_get_info(&info) != DISCO_OK) return disco_raise("TypeError", "init_per_worker");
  const TVMFFIShapeCell *ids = (const TVMFFIShapeCell *)(args[0].v_obj + 1);
  syncs = 0;
  sync_fails = false;
  if (disco_worker_set_ccl("fake", (DLDevice){kDLCPU, (int32_t)ids->data[info.local_id]}) == DISCO_OK) return 0;
  return disco_raise("RuntimeError", "%s", disco_last_error_text());
}

/* (session, device ids): on the controller */
static int init_ccl(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args != 2 || args[1].type_index != kTVMFFIShape) return disco_raise("TypeError", "fake.init_ccl");
  const TVMFFIShapeCell *ids = (const TVMFFIShapeCell *)(args[1].v_obj + 1);
  disco_session *session = (disco_session *)args[0].v_obj;
  disco_dref *func = NULL;
  if ((int32_t)ids->size != disco_session_num_workers(session))
    return disco_raise("IndexError", "%zu devices for %d workers", ids->size, disco_session_num_workers(session));
  disco_status status = disco_session_get_global_func(session, "runtime.disco.fake.init_ccl_per_worker", &func);
  if (status == DISCO_OK) status = disco_call(session, func, &args[1], 1, NULL);
  disco_dref_unref(func);
  return status == DISCO_OK ? 0 : disco_raise("RuntimeError", "%s", disco_last_error_text());
}

/* (): waits for the worker's device, if it had one */
static int sync_worker(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  *result = dsc_none();
  syncs++;
  if (num_args != 0) return disco_raise("TypeError", "fake.sync_worker takes nothing");
  return sync_fails ? disco_raise("ValueError", "the device is gone") : 0;
}

static int count_syncs(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(syncs);
  return 0;
}

/* (bool): from now on sync_worker raises on worker 1, or no longer */
static int break_sync(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info info = {.struct_size = sizeof(info)};
  *result = dsc_none();
  if (disco_worker_get_info(&info) == DISCO_OK && info.worker_id == 1) sync_fails = num_args == 1 && args[0].v_int64;
  return 0;
}

static int refusing_init(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return disco_raise("KeyError", "no such fabric");
}

/* (name, device id) -> None, or the sentence of the refusal */
static int set_ccl(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray name;
  char text[128];
  if (num_args != 2 || !dsc_value_string(&args[0], &name)) return disco_raise("TypeError", "test.set_ccl");
  (void)snprintf(text, sizeof(text), "%.*s", (int)name.size, name.data);
  *result = dsc_none();
  if (disco_worker_set_ccl(text, (DLDevice){kDLCPU, (int32_t)args[1].v_int64}) == DISCO_OK) return 0;
  const char *why = disco_last_error_text();
  return dsc_value_from_string(why, strlen(why), result) == DISCO_OK ? 0 : -1;
}

/* () -> text "ccl device" of the worker */
static int current_ccl(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_worker_info info = {.struct_size = sizeof(info)};
  char text[128];
  if (disco_worker_get_info(&info) != DISCO_OK) return disco_raise("RuntimeError", "no worker");
  (void)snprintf(text, sizeof(text), "[%s] %d:%d", info.ccl, (int)info.device.device_type, info.device.device_id);
  return dsc_value_from_string(text, strlen(text), result) == DISCO_OK ? 0 : -1;
}

static void expect_counts(disco_session *session, const int64_t expected[3]) {
  disco_dref *func = find(session, "test.count_syncs"), *counts = call(session, func, NO_VALUES);
  TVMFFIAny all[3];
  expect_ok(disco_debug_get_all(counts, WAIT_MS, 3, all)); /* the counts were taken before this read syncs */
  for (int w = 0; w < 3; w++) assert_int_equal(all[w].v_int64, expected[w]);
  disco_dref_unref(counts);
  disco_dref_unref(func);
}

static void a_sync_asks_the_data_plane(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  const int64_t devices[] = {4, 5, 6};
  disco_dref *func = find(session, "test.current_ccl");
  sync_all(session); /* nothing to ask yet */
  expect_ok(disco_session_init_ccl(session, "fake", devices, 3));
  disco_dref *now = call(session, func, NO_VALUES);
  for (int32_t w = 0; w < 3; w++) {
    char text[32];
    TVMFFIAny value = get(now, w); /* a read of an in-process worker syncs that worker */
    (void)snprintf(text, sizeof(text), "[fake] 1:%d", (int)devices[w]);
    assert_true(is_text(&value, text));
    dsc_value_drop(&value);
  }
  expect_counts(session, (const int64_t[]){1, 1, 1});
  expect_ok(disco_session_sync(session, 1, WAIT_MS)); /* the counts' own read made it 2 */
  expect_counts(session, (const int64_t[]){2, 3, 2});
  sync_all(session);
  expect_counts(session, (const int64_t[]){4, 5, 4});
  TVMFFIAny value = dsc_int(1);
  expect_ok(disco_debug_set(now, 2, &value, WAIT_MS));
  expect_counts(session, (const int64_t[]){5, 6, 6});
  /* empty() without a device takes the worker's own, whose type is the CPU here. */
  disco_dref *device = find(session, "runtime.disco.device"), *mine = call(session, device, NO_VALUES);
  value = get(mine, 2);
  assert_int_equal(value.v_device.device_id, 6);
  disco_dref_unref(mine);
  disco_dref_unref(device);
  disco_dref_unref(now);
  disco_dref_unref(func);
  end_session(session);
}

static void a_failing_sync_is_told(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  const int64_t devices[] = {0, 0, 0};
  disco_dref *func = find(session, "test.break_sync"), *dref = put(session, dsc_int(5));
  TVMFFIAny value = dsc_int(1);
  expect_ok(disco_session_init_ccl(session, "fake", devices, 3));
  expect_ok(disco_call(session, func, VALUES(any_bool(true)), NULL));
  expect_ok(disco_session_sync(session, 0, WAIT_MS)); /* worker 1 was not asked */
  expect_kind("ValueError", disco_session_sync(session, 1, WAIT_MS));
  expect_says("the device is gone");
  expect_kind("ValueError", disco_debug_get(dref, 1, WAIT_MS, &value));
  expect_says("the device is gone");
  expect_kind("ValueError", disco_debug_set(dref, 1, &value, WAIT_MS));
  assert_int_equal(get_int(dref, 0), 5);
  assert_int_equal(stats_of(session).errors_told, 1); /* a failed read or write is its caller's alone */
  expect_ok(disco_call(session, func, VALUES(any_bool(false)), NULL));
  sync_all(session);
  assert_int_equal(get_int(dref, 1), 5);
  disco_dref_unref(dref);
  disco_dref_unref(func);
  end_session(session);
}

static void starting_one_twice_fails_on_the_workers(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  const int64_t devices[] = {0, 1};
  expect_ok(disco_session_init_ccl(session, "fake", devices, 2));
  sync_all(session);
  expect_ok(disco_session_init_ccl(session, "fake", devices, 2)); /* posted; the workers refuse */
  expect_kind("RuntimeError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("already uses the data plane `fake`");
  sync_all(session);
  end_session(session);
}

static void unknown_and_refusing_data_planes(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  const int64_t devices[] = {0, 1};
  expect_refused(DISCO_VALUE, "Cannot initialize CCL `fabric`, because cannot find function: ",
                 disco_session_init_ccl(session, "fabric", devices, 2));
  expect_says("runtime.disco.fabric.init_ccl");
  expect_says("`fake`"); /* those that exist */
  expect_says("`refusing`");
  expect_status(DISCO_VALUE, disco_session_init_ccl(session, "", devices, 2));
  expect_status(DISCO_VALUE, disco_session_init_ccl(session, "fake", devices, -1));
  expect_status(DISCO_VALUE, disco_session_init_ccl(session, "fake", NULL, 2));
  char longest[80];
  memset(longest, 'n', sizeof(longest) - 1);
  longest[79] = 0;
  expect_refused(DISCO_VALUE, "79", disco_session_init_ccl(session, longest, devices, 2));
  expect_refused(DISCO_RAISED, "no such fabric", disco_session_init_ccl(session, "refusing", devices, 2));
  expect_kind("KeyError", disco_session_init_ccl(session, "refusing", devices, 2));
  expect_kind("IndexError", disco_session_init_ccl(session, "fake", devices, 1)); /* its own check */
  assert_int_equal(disco_session_sequence(session), 0);
  sync_all(session);
  expect_ok(disco_session_shutdown(session));
  expect_status(DISCO_CLOSED, disco_session_init_ccl(session, "fake", devices, 2));
  disco_session_unref(session);
}

static void a_worker_names_its_data_plane_once(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *set = find(session, "test.set_ccl"), *ask = find(session, "test.current_ccl");
  const char *const refused[] = {"", "a name that is longer than the sixty-three bytes that a data plane may have"};
  for (int i = 0; i < 2; i++) {
    disco_dref *why = call(session, set, VALUES(any_raw(refused[i]), dsc_int(1)));
    TVMFFIAny text = get(why, 0);
    assert_true(is_text(&text, "a data plane's name has 1 to 63 bytes"));
    dsc_value_drop(&text);
    disco_dref_unref(why);
  }
  disco_dref *first = call(session, set, VALUES(any_raw("mine"), dsc_int(3)));
  disco_dref *second = call(session, set, VALUES(any_raw("other"), dsc_int(9))), *now = call(session, ask, NO_VALUES);
  TVMFFIAny value = get(first, 1);
  assert_int_equal(value.type_index, kTVMFFINone);
  value = get(second, 1);
  assert_true(is_text(&value, "worker 1 already uses the data plane `mine`: init_ccl once per session"));
  dsc_value_drop(&value);
  value = get(now, 1);
  assert_true(is_text(&value, "[mine] 1:3"));
  dsc_value_drop(&value);
  disco_dref_unref(first);
  disco_dref_unref(second);
  disco_dref_unref(now);
  disco_dref_unref(set);
  disco_dref_unref(ask);
  end_session(session);
}

static void register_more(void) {
  register_function("runtime.disco.fake.init_ccl", init_ccl);
  register_function("runtime.disco.fake.init_ccl_per_worker", init_per_worker);
  register_function("runtime.disco.fake.sync_worker", sync_worker);
  register_function("runtime.disco.refusing.init_ccl", refusing_init);
  register_function("test.count_syncs", count_syncs);
  register_function("test.break_sync", break_sync);
  register_function("test.set_ccl", set_ccl);
  register_function("test.current_ccl", current_ccl);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_sync_asks_the_data_plane), cmocka_unit_test(a_failing_sync_is_told),
      cmocka_unit_test(starting_one_twice_fails_on_the_workers), cmocka_unit_test(unknown_and_refusing_data_planes),
      cmocka_unit_test(a_worker_names_its_data_plane_once)};
  return RUN_SUITE(tests, register_more);
}
