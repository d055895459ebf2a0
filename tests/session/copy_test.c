/* Copies between host tensors and worker 0. */
#include <stdatomic.h>
#include <stdio.h>

#include "session/support.h"

/* ---- Host tensors of every kind ---- */

typedef struct {
  DLManagedTensorVersioned managed;
  int64_t shape[4], strides[4];
  _Atomic int *freed;
} foreign;

static void free_foreign(DLManagedTensorVersioned *managed) {
  foreign *self = (foreign *)managed;
  if (self->freed != NULL) atomic_fetch_add(self->freed, 1);
  free(self);
}

/* A view of the caller's memory, as another framework might hand it in: any strides, any alignment, any offset. */
static TVMFFIObject *make_view(void *data, uint64_t byte_offset, DLDataType dtype, int32_t ndim, const int64_t *shape,
                               const int64_t *strides, _Atomic int *freed) {
  foreign *self = calloc(1, sizeof(*self));
  TVMFFIObjectHandle tensor = NULL;
  assert_non_null(self);
  memcpy(self->shape, shape, (size_t)ndim * sizeof(*shape));
  if (strides != NULL) memcpy(self->strides, strides, (size_t)ndim * sizeof(*strides));
  self->freed = freed;
  self->managed.version = (DLPackVersion){DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  self->managed.deleter = free_foreign;
  self->managed.dl_tensor =
      (DLTensor){data, {kDLCPU, 0}, ndim, dtype, self->shape, strides != NULL ? self->strides : NULL, byte_offset};
  assert_int_equal(TVMFFITensorFromDLPackVersioned(&self->managed, 0, 0, &tensor), 0);
  return tensor;
}

static const DLDataType float32 = {kDLFloat, 32, 1}, uint8 = {kDLUInt, 8, 1};

/* ---- Worker 0's side ---- */

/* A register with float32 of this shape on every worker, filled by hand on worker 0. */
static disco_dref *make_remote(disco_session *session, int32_t ndim, const int64_t *shape, float first) {
  disco_dref *empty = find(session, "runtime.disco.empty");
  TVMFFIAny sizes[4];
  for (int32_t i = 0; i < ndim; i++) sizes[i] = dsc_int(shape[i]);
  TVMFFIAny as_shape = call_here("ffi.Shape", sizes, ndim);
  disco_dref *remote =
      call(session, empty, VALUES(as_shape, any_raw("float32"), dsc_none(), any_bool(false), any_bool(false)));
  TVMFFIAny values = any_object(make_tensor(ndim, shape, first));
  expect_ok(disco_debug_set(remote, 0, &values, WAIT_MS));
  dsc_value_drop(&values);
  dsc_value_drop(&as_shape);
  disco_dref_unref(empty);
  return remote;
}

static void expect_remote(disco_dref *remote, int count, float first) {
  TVMFFIAny value = get(remote, 0);
  assert_int_equal(value.type_index, kTVMFFITensor);
  for (int i = 0; i < count; i++) assert_true(floats_of(value.v_obj)[i] == first + (float)i);
  dsc_value_drop(&value);
}

/* Like test.gate on worker 0. */
static void hold_worker0(gate *stop, disco_session *session) {
  gate_open(stop);
  gate_hold(stop, session, 0);
}

/* ---- Good copies ---- */

static void equal_bytes_are_enough(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  const int64_t two_three[] = {2, 3}, flat[] = {24}, cube[] = {3, 1, 2};
  disco_dref *remote = make_remote(session, 2, two_three, 10);
  float data[6] = {0};
  TVMFFIObject *bytes = make_view(data, 0, uint8, 1, flat, NULL, NULL); /* other shape, other dtype */
  expect_ok(disco_copy_from_worker0(session, bytes, remote));
  expect_ok(disco_session_sync(session, 0, WAIT_MS));
  for (int i = 0; i < 6; i++) assert_true(data[i] == 10 + (float)i);
  TVMFFIObject *other = make_tensor(3, cube, 50);
  expect_ok(disco_copy_to_worker0(session, other, remote));
  expect_remote(remote, 6, 50);
  TVMFFIAny value = get(remote, 0);
  assert_int_equal(tensor_of(value.v_obj)->ndim, 2); /* its own shape stays */
  dsc_value_drop(&value);
  dsc_object_unref(other);
  dsc_object_unref(bytes);
  disco_dref_unref(remote);
  end_session(session);
}

static void strided_hosts(void **state) {
  (void)state;
  disco_session *session = make_session(1, 1);
  const int64_t two_three[] = {2, 3}, transposed[] = {1, 2};
  disco_dref *remote = make_remote(session, 2, two_three, 0);
  float data[6];
  memset(data, 0xff, sizeof(data));
  TVMFFIObject *host = make_view(data, 0, float32, 2, two_three, transposed, NULL);
  expect_ok(disco_copy_from_worker0(session, host, remote));
  sync_all(session);
  for (int i = 0; i < 2; i++)
    for (int k = 0; k < 3; k++) assert_true(data[i + 2 * k] == (float)(3 * i + k));
  for (int i = 0; i < 6; i++) data[i] = 100 + (float)i;
  expect_ok(disco_copy_to_worker0(session, host, remote));
  TVMFFIAny value = get(remote, 0);
  const float expected[] = {100, 102, 104, 101, 103, 105};
  assert_memory_equal(floats_of(value.v_obj), expected, sizeof(expected));
  dsc_value_drop(&value);
  dsc_object_unref(host);

  /* Every second column of a wider matrix: what lies between is left alone. */
  float wide[12];
  const int64_t skips[] = {6, 2};
  for (int i = 0; i < 12; i++) wide[i] = -1;
  host = make_view(wide, 0, float32, 2, two_three, skips, NULL);
  expect_ok(disco_copy_from_worker0(session, host, remote));
  sync_all(session);
  for (int i = 0; i < 12; i++) assert_true(wide[i] == (i % 2 == 0 ? expected[i / 2] : -1));
  dsc_object_unref(host);

  /* Backwards. */
  const int64_t back[] = {-3, -1};
  host = make_view(data, 5 * sizeof(float), float32, 2, two_three, back, NULL);
  expect_ok(disco_copy_from_worker0(session, host, remote));
  sync_all(session);
  for (int i = 0; i < 6; i++) assert_true(data[5 - i] == expected[i]);
  dsc_object_unref(host);
  disco_dref_unref(remote);
  end_session(session);
}

static void misaligned_hosts_and_offsets(void **state) {
  (void)state;
  disco_session *session = make_session(1, 1);
  const int64_t six[] = {6};
  disco_dref *remote = make_remote(session, 1, six, 7);
  char memory[64];
  float back[6];
  for (int misplaced = 0; misplaced < 4; misplaced++) {
    memset(memory, 0x11, sizeof(memory));
    TVMFFIObject *host = make_view(memory + misplaced, 5, float32, 1, six, NULL, NULL);
    expect_ok(disco_copy_from_worker0(session, host, remote));
    sync_all(session);
    memcpy(back, memory + misplaced + 5, sizeof(back));
    for (int i = 0; i < 6; i++) assert_true(back[i] == 7 + (float)i);
    for (int i = 0; i < misplaced + 5; i++) assert_int_equal(memory[i], 0x11);
    for (int i = misplaced + 5 + 24; i < 64; i++) assert_int_equal(memory[i], 0x11);
    expect_ok(disco_copy_to_worker0(session, host, remote));
    sync_all(session);
    expect_remote(remote, 6, 7);
    dsc_object_unref(host);
  }
  disco_dref_unref(remote);
  end_session(session);
}

/* Worker 0's side may be a view, too. */
static void a_view_in_the_register(void **state) {
  (void)state;
  disco_session *session = make_session(1, 1);
  const int64_t three[] = {3};
  float memory[9] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  TVMFFIObject *view = make_view(memory, 3 * sizeof(float), float32, 1, three, NULL, NULL);
  disco_dref *remote = put(session, any_object(view));
  TVMFFIObject *host = make_tensor(1, three, 50);
  expect_ok(disco_copy_to_worker0(session, host, remote));
  sync_all(session);
  const float expected[] = {0, 1, 2, 50, 51, 52, 6, 7, 8};
  assert_memory_equal(memory, expected, sizeof(expected));
  dsc_object_unref(host);
  dsc_object_unref(view);
  disco_dref_unref(remote);
  end_session(session);
}

static void nothing_to_copy(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  const int64_t empty[] = {0, 5}, other[] = {7, 0}, one[] = {1};
  disco_dref *remote = make_remote(session, 2, empty, 0);
  TVMFFIObject *host = make_view(NULL, 0, float32, 2, other, NULL, NULL), *full = make_tensor(1, one, 0);
  expect_ok(disco_copy_from_worker0(session, host, remote));
  expect_ok(disco_copy_to_worker0(session, host, remote));
  sync_all(session);
  assert_int_equal(stats_of(session).errors_told, 0);
  expect_ok(disco_copy_to_worker0(session, full, remote)); /* 4 bytes are not none */
  expect_kind("ValueError", disco_session_sync(session, 0, WAIT_MS));
  expect_says("float32[0, 5] (0 bytes)");
  dsc_object_unref(host);
  dsc_object_unref(full);
  disco_dref_unref(remote);
  end_session(session);
}

/* ---- Bad copies ---- */

static void sizes_must_match(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  const int64_t two_three[] = {2, 3}, five[] = {5}, flat[] = {25};
  disco_dref *remote = make_remote(session, 2, two_three, 10);
  TVMFFIObject *host = make_tensor(1, five, -5);
  char bytes[25];
  memset(bytes, 0x22, sizeof(bytes));
  TVMFFIObject *longer = make_view(bytes, 0, uint8, 1, flat, NULL, NULL);
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_ok(disco_copy_from_worker0(session, host, remote));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("float32[2, 3] (24 bytes)");
  expect_says("float32[5] (20 bytes)");
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_int_equal(error.worker, 0);
  expect_ok(disco_copy_to_worker0(session, longer, remote));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_says("uint8[25] (25 bytes)");
  expect_ok(disco_copy_from_worker0(session, longer, remote));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  sync_all(session);
  for (int i = 0; i < 5; i++) assert_true(floats_of(host)[i] == -5 + (float)i); /* not a byte moved */
  for (int i = 0; i < 25; i++) assert_int_equal(bytes[i], 0x22);
  expect_remote(remote, 6, 10);
  dsc_object_unref(host);
  dsc_object_unref(longer);
  disco_dref_unref(remote);
  end_session(session);
}

static void only_tensors_are_copied(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  const int64_t one[] = {1};
  disco_dref *none = put(session, dsc_none()), *text = put(session, any_raw("a text that is no tensor"));
  disco_dref *remote = make_remote(session, 1, one, 3);
  TVMFFIObject *host = make_tensor(1, one, 9);
  TVMFFIAny array = call_here("ffi.Array", VALUES(dsc_int(1)));
  expect_ok(disco_copy_from_worker0(session, host, none));
  expect_kind("TypeError", disco_session_sync(session, 0, WAIT_MS));
  expect_says("`None`");
  expect_ok(disco_copy_to_worker0(session, host, text));
  expect_kind("TypeError", disco_session_sync(session, 0, WAIT_MS));
  expect_says("worker 0's tensor");
  assert_true(floats_of(host)[0] == 9);
  /* A host that is none is refused at once. */
  expect_refused(DISCO_TYPE, "must be a Tensor", disco_copy_to_worker0(session, array.v_obj, remote));
  expect_refused(DISCO_TYPE, "must be a Tensor", disco_copy_from_worker0(session, array.v_obj, remote));
  TVMFFIObject *elsewhere = make_view(floats_of(host), 0, float32, 1, one, NULL, NULL);
  tensor_of(elsewhere)->device = (DLDevice){kDLCUDA, 0};
  expect_refused(DISCO_VALUE, "CPU", disco_copy_to_worker0(session, elsewhere, remote));
  expect_refused(DISCO_VALUE, "CPU", disco_copy_from_worker0(session, elsewhere, remote));
  expect_remote(remote, 1, 3);
  dsc_object_unref(elsewhere);
  dsc_object_unref(host);
  dsc_value_drop(&array);
  disco_dref_unref(none);
  disco_dref_unref(text);
  disco_dref_unref(remote);
  end_session(session);
}

/* ---- Order and lifetime ---- */

static void copies_keep_their_order(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  const int64_t four[] = {4};
  disco_dref *remote = make_remote(session, 1, four, 0);
  const int rounds = scaled(200, 20);
  TVMFFIObject **sent = calloc((size_t)rounds, sizeof(*sent)), **got = calloc((size_t)rounds, sizeof(*got));
  for (int i = 0; i < rounds; i++) {
    sent[i] = make_tensor(1, four, (float)(100 * i));
    got[i] = make_tensor(1, four, -1);
    expect_ok(disco_copy_to_worker0(session, sent[i], remote));
    expect_ok(disco_copy_from_worker0(session, got[i], remote));
  }
  expect_ok(disco_session_sync(session, 0, WAIT_MS));
  for (int i = 0; i < rounds; i++) {
    for (int k = 0; k < 4; k++) assert_true(floats_of(got[i])[k] == (float)(100 * i + k));
    dsc_object_unref(sent[i]);
    dsc_object_unref(got[i]);
  }
  free(sent);
  free(got);
  disco_dref_unref(remote);
  end_session(session);
}

/* Copies behind a failure are skipped with their host tensors; those after the resume have their own again. */
static void skipped_copies_keep_later_ones_in_order(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  const int64_t two[] = {2};
  disco_dref *remote = make_remote(session, 1, two, 0), *fail = find(session, "test.gate_and_raise");
  TVMFFIObject *skipped[6], *sent[3], *got[3];
  TVMFFIAny args[4];
  gate stop;
  gate_open(&stop);
  gate_args(&stop, 0, args);
  expect_ok(disco_call(session, fail, args, 4, NULL));
  gate_await(&stop, 1);
  for (int i = 0; i < 6; i++) {
    skipped[i] = make_tensor(1, two, 1000 + (float)i);
    expect_ok(i % 2 == 0 ? disco_copy_to_worker0(session, skipped[i], remote)
                         : disco_copy_from_worker0(session, skipped[i], remote));
  }
  gate_release(&stop, 1);
  expect_refused(DISCO_RAISED, "raised behind the gate", disco_session_sync(session, 0, WAIT_MS));
  expect_remote(remote, 2, 0); /* as it was */
  for (int i = 0; i < 3; i++) {
    sent[i] = make_tensor(1, two, 10 * (float)(i + 1));
    got[i] = make_tensor(1, two, 0);
    expect_ok(disco_copy_to_worker0(session, sent[i], remote));
    expect_ok(disco_copy_from_worker0(session, got[i], remote));
  }
  sync_all(session);
  for (int i = 0; i < 3; i++) {
    assert_true(floats_of(got[i])[0] == 10 * (float)(i + 1) && floats_of(got[i])[1] == 10 * (float)(i + 1) + 1);
    dsc_object_unref(sent[i]);
    dsc_object_unref(got[i]);
  }
  for (int i = 0; i < 6; i++) {
    assert_true(floats_of(skipped[i])[0] == 1000 + (float)i); /* neither read nor written */
    assert_int_equal(skipped[i]->combined_ref_count, 1 | (uint64_t)1 << 32);
    dsc_object_unref(skipped[i]);
  }
  gate_close(&stop);
  disco_dref_unref(fail);
  disco_dref_unref(remote);
  end_session(session);
}

static void the_host_tensor_lives_until_worker_0_comes(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  const int64_t four[] = {4};
  disco_dref *remote = make_remote(session, 1, four, 0);
  float data[4] = {21, 22, 23, 24};
  _Atomic int freed = 0;
  gate stop;
  hold_worker0(&stop, session);
  TVMFFIObject *host = make_view(data, 0, float32, 1, four, NULL, &freed);
  expect_ok(disco_copy_to_worker0(session, host, remote));
  dsc_object_unref(host); /* the caller's reference goes at once */
  expect_ok(disco_session_sync(session, 1, WAIT_MS));
  expect_ok(disco_session_sync(session, 2, WAIT_MS));
  assert_int_equal(atomic_load(&freed), 0); /* the other workers had no reference to drop */
  data[0] = 20;                             /* referenced, not snapshotted */
  data[1] = 21;
  data[2] = 22;
  data[3] = 23;
  gate_release(&stop, 1);
  expect_ok(disco_session_sync(session, 0, WAIT_MS));
  assert_int_equal(await_count(&freed, 1), 1);
  expect_remote(remote, 4, 20);
  gate_close(&stop);
  disco_dref_unref(remote);
  end_session(session);
  assert_int_equal(atomic_load(&freed), 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(equal_bytes_are_enough),
                                     cmocka_unit_test(strided_hosts),
                                     cmocka_unit_test(misaligned_hosts_and_offsets),
                                     cmocka_unit_test(a_view_in_the_register),
                                     cmocka_unit_test(nothing_to_copy),
                                     cmocka_unit_test(sizes_must_match),
                                     cmocka_unit_test(only_tensors_are_copied),
                                     cmocka_unit_test(copies_keep_their_order),
                                     cmocka_unit_test(skipped_copies_keep_later_ones_in_order),
                                     cmocka_unit_test(the_host_tensor_lives_until_worker_0_comes)};
  return RUN_SUITE(tests, NULL);
}
