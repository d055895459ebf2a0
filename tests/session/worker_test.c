/* What a function on a worker knows of itself, and the functions runtime.disco.* that run there. */
#include <sched.h>
#include <stdio.h>

#include "session/support.h"

/* ---- Identity ---- */

/* () -> Array of worker_id, local_id, num_workers, num_groups, group, rank_in_group, device, ccl, sequence */
static int describe(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_worker_info info = {.struct_size = sizeof(info)};
  if (disco_worker_get_info(&info) != DISCO_OK) return disco_raise("RuntimeError", "%s", disco_last_error_text());
  TVMFFIAny fields[9] = {dsc_int(info.worker_id),
                         dsc_int(info.local_id),
                         dsc_int(info.num_workers),
                         dsc_int(info.num_groups),
                         dsc_int(info.group),
                         dsc_int(info.rank_in_group),
                         any_device(info.device.device_type, info.device.device_id),
                         any_raw(info.ccl),
                         dsc_int((int64_t)info.sequence)};
  TVMFFIByteArray key = {"ffi.Array", 9};
  TVMFFIObjectHandle make = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0) return -1;
  int rc = TVMFFIFunctionCall(make, fields, 9, result);
  dsc_object_unref(make);
  return rc;
}

/* () -> how many bytes of the struct were written, when only the first two fields are asked for */
static int describe_briefly(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_worker_info info;
  memset(&info, 0x55, sizeof(info));
  info.struct_size = offsetof(disco_worker_info, num_workers);
  if (disco_worker_get_info(&info) != DISCO_OK) return disco_raise("RuntimeError", "%s", disco_last_error_text());
  *result = dsc_int(info.num_workers == 0x55555555 && info.worker_id != 0x55555555);
  info.struct_size = 0;
  if (disco_worker_get_info(&info) != DISCO_VALUE || disco_worker_get_info(NULL) != DISCO_VALUE)
    return disco_raise("AssertionError", "a struct without a size was taken");
  return 0;
}

static void workers_know_who_they_are(void **state) {
  (void)state;
  const int32_t sizes[][2] = {{1, 1}, {4, 1}, {4, 2}, {6, 3}, {6, 6}};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    int32_t workers = sizes[i][0], groups = sizes[i][1], size = workers / groups;
    disco_session *session = make_session(workers, groups);
    disco_dref *func = find(session, "test.describe"), *result = call(session, func, NO_VALUES);
    for (int32_t w = 0; w < workers; w++) {
      TVMFFIAny fields = get(result, w);
      const int64_t expected[] = {w, w, workers, groups, w / size, w % size};
      for (int k = 0; k < 6; k++) assert_int_equal(element(&fields, k).v_int64, expected[k]);
      TVMFFIAny device = element(&fields, 6), ccl = element(&fields, 7);
      assert_int_equal(device.v_device.device_type, kDLCPU);
      assert_int_equal(device.v_device.device_id, 0);
      assert_true(is_text(&ccl, ""));
      assert_int_equal(element(&fields, 8).v_int64, 2); /* the command that is running */
      dsc_value_drop(&fields);
    }
    disco_dref *brief = find(session, "test.describe_briefly"), *good = call(session, brief, NO_VALUES);
    assert_int_equal(get_int(good, workers - 1), 1);
    disco_dref_unref(good);
    disco_dref_unref(brief);
    disco_dref_unref(func);
    disco_dref_unref(result);
    end_session(session);
  }
}

static void nobody_else_is_a_worker(void **state) {
  (void)state;
  static const char *const names[] = {"worker_id", "worker_rank", "world_size",
                                      "device",    "empty",       "bind_worker_to_cpu_core"};
  disco_session *session = make_session(2, 1); /* having a session makes no worker of this thread */
  disco_worker_info info = {.struct_size = sizeof(info), .worker_id = -7};
  expect_refused(DISCO_VALUE, "current thread is not a DiscoWorker thread", disco_worker_get_info(&info));
  expect_refused(DISCO_VALUE, "current thread is not a DiscoWorker thread",
                 disco_worker_set_ccl("fake", (DLDevice){kDLCPU, 0}));
  assert_int_equal(info.worker_id, -7);
  TVMFFIAny shape = call_here("ffi.Shape", VALUES(dsc_int(0)));
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    char name[64];
    (void)snprintf(name, sizeof(name), "runtime.disco.%s", names[i]);
    TVMFFIByteArray key = {name, strlen(name)};
    TVMFFIObjectHandle function = NULL, error = NULL;
    TVMFFIAny result = dsc_none(), args[5] = {shape, any_raw("int8"), dsc_none(), dsc_int(0), dsc_int(0)};
    assert_int_equal(TVMFFIFunctionGetGlobal(&key, &function), 0);
    assert_non_null(function);
    assert_int_equal(TVMFFIFunctionCall(function, args, i < 4 ? 0 : i == 4 ? 5 : 1, &result), -1);
    TVMFFIErrorMoveFromRaised(&error);
    assert_non_null(error);
    const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)((TVMFFIObject *)error + 1);
    assert_int_equal(cell->kind.size, strlen("ValueError"));
    assert_memory_equal(cell->kind.data, "ValueError", strlen("ValueError"));
    assert_non_null(strstr(cell->message.data, "current thread is not a DiscoWorker thread"));
    assert_non_null(strstr(cell->message.data, name));
    dsc_object_unref(error);
    dsc_object_unref(function);
  }
  dsc_value_drop(&shape);
  end_session(session);
}

/* ---- Builtins ---- */

static void ranks_and_sizes(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  disco_dref *id = find(session, "runtime.disco.worker_id"), *rank = find(session, "runtime.disco.worker_rank");
  disco_dref *size = find(session, "runtime.disco.world_size"), *device = find(session, "runtime.disco.device");
  disco_dref *ids = call(session, id, NO_VALUES), *ranks = call(session, rank, NO_VALUES);
  disco_dref *sizes = call(session, size, NO_VALUES), *devices = call(session, device, NO_VALUES);
  for (int32_t w = 0; w < 4; w++) {
    TVMFFIAny value = get(ids, w);
    assert_int_equal(value.type_index, kTVMFFIShape); /* compiled code matches it against one element */
    assert_int_equal(length(&value), 1);
    assert_int_equal(element(&value, 0).v_int64, w);
    dsc_value_drop(&value);
    assert_int_equal(get_int(ranks, w), w);
    assert_int_equal(get_int(sizes, w), 4);
    value = get(devices, w);
    assert_int_equal(value.type_index, kTVMFFIDevice);
    assert_int_equal(value.v_device.device_type, kDLCPU);
  }
  disco_dref *const funcs[] = {id, rank, size, device};
  for (int i = 0; i < 4; i++) {
    expect_ok(disco_call(session, funcs[i], VALUES(dsc_int(1)), NULL));
    expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
    expect_says("Expected 0 but got 1 arguments");
    disco_dref_unref(funcs[i]);
  }
  disco_dref_unref(ids);
  disco_dref_unref(ranks);
  disco_dref_unref(sizes);
  disco_dref_unref(devices);
  end_session(session);
}

static void empty_makes_tensors_where_it_should(void **state) {
  (void)state;
  const int32_t groups[] = {1, 2, 4};
  for (int g = 0; g < 3; g++) {
    disco_session *session = make_session(4, groups[g]);
    disco_dref *empty = find(session, "runtime.disco.empty");
    TVMFFIAny shape = call_here("ffi.Shape", VALUES(dsc_int(3), dsc_int(5)));
    for (int form = 0; form < 4; form++) {
      bool worker0_only = form % 2 == 1, in_group = form / 2 == 1;
      TVMFFIAny all[4];
      disco_dref *result =
          call(session, empty, VALUES(shape, any_raw("int32"), dsc_none(), any_bool(worker0_only), any_bool(in_group)));
      expect_ok(disco_debug_get_all(result, WAIT_MS, 4, all));
      for (int32_t w = 0; w < 4; w++) {
        bool root = in_group ? w % (4 / groups[g]) == 0 : w == 0;
        if (worker0_only && !root) {
          assert_int_equal(all[w].type_index, kTVMFFINone);
          continue;
        }
        assert_int_equal(all[w].type_index, kTVMFFITensor);
        const DLTensor *tensor = tensor_of(all[w].v_obj);
        assert_int_equal(tensor->ndim, 2);
        assert_int_equal(tensor->shape[0], 3);
        assert_int_equal(tensor->shape[1], 5);
        assert_int_equal(tensor->strides[0], 5);
        assert_int_equal(tensor->dtype.code, kDLInt);
        assert_int_equal(tensor->dtype.bits, 32);
        assert_int_equal(tensor->device.device_type, kDLCPU);
        assert_int_equal(((uintptr_t)tensor->data + tensor->byte_offset) % 64, 0);
        memset(tensor->data, w, 60); /* its own memory, all of it */
      }
      for (int32_t w = 0; w < 4; w++) {
        if (all[w].type_index == kTVMFFITensor)
          for (int i = 0; i < 60; i++) assert_int_equal(((char *)tensor_of(all[w].v_obj)->data)[i], w);
        dsc_value_drop(&all[w]);
      }
      disco_dref_unref(result);
    }
    dsc_value_drop(&shape);
    disco_dref_unref(empty);
    end_session(session);
  }
}

static void empty_refuses_what_it_cannot_make(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *empty = find(session, "runtime.disco.empty");
  TVMFFIAny shape = call_here("ffi.Shape", VALUES(dsc_int(2))), negative = call_here("ffi.Shape", VALUES(dsc_int(-2)));
  TVMFFIAny huge = call_here("ffi.Shape", VALUES(dsc_int(INT64_MAX), dsc_int(8)));
  TVMFFIAny floats = call_here("ffi.Array", VALUES(any_float(2)));
  disco_dref *held = put(session, dsc_none()); /* containers go to other processes in explicit writes only */
  expect_ok(disco_debug_set(held, DISCO_ALL_WORKERS, &floats, WAIT_MS));
  TVMFFIAny wrong = any_dref(held);
  TVMFFIAny type = any_raw("int8"), none = dsc_none(), no = any_bool(false);
  const struct {
    TVMFFIAny args[5];
    int32_t count;
    const char *kind, *says;
  } cases[] = {{{dsc_int(2), type, none, no, no}, 5, "TypeError", "argument #0"},
               {{wrong, type, none, no, no}, 5, "TypeError", "Expected `ffi.Shape`"},
               {{shape, any_raw("int7x"), none, no, no}, 5, "TypeError", "argument #1"},
               {{shape, dsc_int(8), none, no, no}, 5, "TypeError", "`int`"},
               {{shape, type, any_raw("cpu:x"), no, no}, 5, "TypeError", "argument #2"},
               {{shape, type, dsc_int(0), no, no}, 5, "TypeError", "argument #2"},
               {{shape, type, none, any_raw("yes"), no}, 5, "TypeError", "argument #3"},
               {{shape, type, none, no, none}, 5, "TypeError", "argument #4"},
               {{shape, type, none, no, no}, 4, "TypeError", "Expected 5 but got 4 arguments"},
               {{negative, type, none, no, no}, 5, "ValueError", "-2"},
               {{huge, type, none, no, no}, 5, "MemoryError", "2^63"},
               {{shape, type, any_raw("cuda:0"), no, no}, 5, "ValueError", "CPU"}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    expect_ok(disco_call(session, empty, cases[i].args, cases[i].count, NULL));
    expect_kind(cases[i].kind, disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
    expect_says(cases[i].says);
    expect_says("in `runtime.disco.empty`");
  }
  sync_all(session);
  assert_int_equal(stats_of(session).errors_told, sizeof(cases) / sizeof(cases[0]));
  dsc_value_drop(&shape);
  dsc_value_drop(&negative);
  dsc_value_drop(&huge);
  dsc_value_drop(&floats);
  disco_dref_unref(held);
  disco_dref_unref(empty);
  end_session(session);
}

/* () -> the only CPU this thread may use, or -1 when there are several */
static int my_cpu(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  cpu_set_t set;
  CPU_ZERO(&set);
  *result = dsc_int(-1);
  if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) != 1) return 0;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &set)) *result = dsc_int(i);
  return 0;
}

static void workers_are_bound_to_cpus(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *bind = find(session, "runtime.disco.bind_worker_to_cpu_core"), *where = find(session, "test.my_cpu");
  cpu_set_t allowed;
  int64_t cpus[2] = {-1, -1};
  CPU_ZERO(&allowed);
  assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  for (int i = CPU_SETSIZE - 1; i >= 0; i--)
    if (CPU_ISSET(i, &allowed)) {
      cpus[1] = cpus[0] < 0 ? i : cpus[0];
      cpus[0] = i;
    }
  TVMFFIAny list = call_here("ffi.Shape", VALUES(dsc_int(cpus[1]), dsc_int(cpus[0]), dsc_int(cpus[1])));
  TVMFFIAny shorter = call_here("ffi.Shape", VALUES(dsc_int(cpus[0])));
  TVMFFIAny bad = call_here("ffi.Shape", VALUES(dsc_int(cpus[0]), dsc_int(100000), dsc_int(-1)));
  disco_dref *result = call(session, bind, VALUES(list)), *now = call(session, where, NO_VALUES);
  for (int32_t w = 0; w < 3; w++) assert_int_equal(get_int(now, w), cpus[w == 1 ? 0 : 1]); /* its own element */
  TVMFFIAny value = get(result, 0);
  assert_int_equal(value.type_index, kTVMFFINone);
  expect_ok(disco_call(session, bind, VALUES(shorter), NULL));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("1 CPUs");
  expect_says("3 workers");
  expect_ok(disco_call(session, bind, VALUES(bad), NULL));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_ok(disco_call(session, bind, VALUES(dsc_int(0)), NULL));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("Expected `ffi.Shape`");
  sync_all(session);
  dsc_value_drop(&list);
  dsc_value_drop(&shorter);
  dsc_value_drop(&bad);
  disco_dref_unref(result);
  disco_dref_unref(now);
  disco_dref_unref(bind);
  disco_dref_unref(where);
  end_session(session);
}

static void register_more(void) {
  register_function("test.describe", describe);
  register_function("test.describe_briefly", describe_briefly);
  register_function("test.my_cpu", my_cpu);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(workers_know_who_they_are),
                                     cmocka_unit_test(nobody_else_is_a_worker),
                                     cmocka_unit_test(ranks_and_sizes),
                                     cmocka_unit_test(empty_makes_tensors_where_it_should),
                                     cmocka_unit_test(empty_refuses_what_it_cannot_make),
                                     cmocka_unit_test(workers_are_bound_to_cpus)};
  return RUN_SUITE(tests, register_more);
}
