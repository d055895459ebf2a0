/* What may be passed to a call, what comes back, and what is refused without harm. */
#include <dlfcn.h>
#include <stdio.h>

#include "session/support.h"

static bool same_value(const TVMFFIAny *a, const TVMFFIAny *b) { return memcmp(a, b, sizeof(*a)) == 0; }

static bool same_bytes(const TVMFFIByteArray *a, const TVMFFIByteArray *b) {
  return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

static bool same_tensor(const DLTensor *a, const DLTensor *b) {
  size_t size = a->dtype.bits / 8u * a->dtype.lanes;
  if (a->ndim != b->ndim || memcmp(&a->dtype, &b->dtype, sizeof(a->dtype)) != 0) return false;
  for (int32_t i = 0; i < a->ndim; i++) {
    if (a->shape[i] != b->shape[i]) return false;
    size *= (size_t)a->shape[i];
  }
  return memcmp((char *)a->data + a->byte_offset, (char *)b->data + b->byte_offset, size) == 0;
}

/* Is `back` a faithful copy of the object `value`? */
static bool same_content(const TVMFFIAny *value, const TVMFFIAny *back) {
  if (back->type_index != value->type_index) return false;
  const void *a = value->v_obj + 1, *b = back->v_obj + 1;
  switch (value->type_index) {
  case kTVMFFIStr:
  case kTVMFFIBytes: return same_bytes(a, b);
  case kTVMFFITensor: return same_tensor(a, b);
  case kTVMFFIShape: {
    const TVMFFIShapeCell *x = a, *y = b;
    return x->size == y->size && memcmp(x->data, y->data, x->size * sizeof(*x->data)) == 0;
  }
  case kTVMFFIError: {
    const TVMFFIErrorCell *x = a, *y = b;
    return same_bytes(&x->kind, &y->kind) && same_bytes(&x->message, &y->message) &&
           same_bytes(&x->backtrace, &y->backtrace);
  }
  default: return false;
  }
}

/* Does the value come back from every worker as it went? Objects are the very same where memory is shared. */
static void expect_round_trip(disco_session *session, disco_dref *echo, TVMFFIAny value) {
  disco_dref *result = call(session, echo, &value, 1);
  for (int32_t w = 0; w < disco_session_num_workers(session); w++) {
    TVMFFIAny back = get(result, w);
    assert_int_equal(back.type_index, value.type_index);
    if (!dsc_is_object(&value) || shares_memory(w))
      assert_true(same_value(&back, &value));
    else
      assert_true(same_content(&value, &back));
    dsc_value_drop(&back);
  }
  disco_dref_unref(result);
}

static void plain_values_arrive_unchanged(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo");
  const TVMFFIAny values[] = {dsc_none(),
                              dsc_int(0),
                              dsc_int(-1),
                              dsc_int(INT64_MAX),
                              dsc_int(INT64_MIN),
                              any_bool(true),
                              any_bool(false),
                              any_float(-0.0),
                              any_float(1e300),
                              any_dtype(kDLFloat, 16, 4),
                              any_dtype(kDLBfloat, 16, 1),
                              any_device(kDLCUDA, 7),
                              make_text(""),
                              make_text("seven b"),
                              make_bytes("\x01\xff")};
  for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) expect_round_trip(session, echo, values[i]);
  disco_dref_unref(echo);
  end_session(session);
}

/* A number that needs more than 64 bits, or None where libtvm_ffi is too old to make one. */
static TVMFFIAny make_big_int(void) {
  int (*make)(const TVMFFIByteArray *, TVMFFIAny *);
  *(void **)&make = dlsym(RTLD_DEFAULT, "TVMFFIBigIntFromByteArray");
  TVMFFIAny value = dsc_none();
  const uint64_t words[2] = {5, 1};
  const TVMFFIByteArray bytes = {(const char *)words, sizeof(words)};
  if (make == NULL) return value;
  assert_int_equal(make(&bytes, &value), 0);
  assert_int_equal(value.type_index, kTVMFFIBigInt);
  return value;
}

static TVMFFIAny make_error(void) {
  TVMFFIByteArray kind = {"ValueError", 10}, message = {"only a value", 12}, trace = {"line 1\nline 2", 13};
  TVMFFIObjectHandle error = NULL;
  assert_int_equal(TVMFFIErrorCreate(&kind, &message, &trace, &error), 0);
  return any_object(error);
}

static TVMFFIAny global_function(const char *name) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle function = NULL;
  assert_int_equal(TVMFFIFunctionGetGlobal(&key, &function), 0);
  assert_non_null(function);
  return any_object(function);
}

static void objects_arrive(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo");
  const int64_t shape[] = {2, 3}, empty[] = {0, 4}, large[] = {300, 1000};
  TVMFFIAny values[] = {make_text("a text of more than seven bytes"),
                        make_bytes("bytes of more than seven bytes"),
                        call_here("ffi.Shape", VALUES(dsc_int(4), dsc_int(-5))),
                        call_here("ffi.Shape", NO_VALUES),
                        any_object(make_tensor(2, shape, 1)),
                        any_object(make_tensor(2, empty, 1)),
                        any_object(make_tensor(0, NULL, 5)),
                        any_object(make_tensor(2, large, 1)),
                        make_error()};
  for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
    expect_round_trip(session, echo, values[i]);
    dsc_value_drop(&values[i]);
  }
  disco_dref_unref(echo);
  end_session(session);
}

/* What has a meaning in one address space only. */
enum { LOCAL_VALUES = 6 };

static void make_local_values(TVMFFIAny values[LOCAL_VALUES]) {
  TVMFFIAny key = make_text("key");
  values[0] = call_here("ffi.Array", VALUES(dsc_int(1), key));
  values[1] = call_here("ffi.Map", VALUES(key, dsc_int(2)));
  values[2] = make_big_int();
  values[3] = global_function("test.echo");
  values[4] = any_pointer(&mode_lists);
  values[5] = call_here("ffi.Array", NO_VALUES);
}

static void local_values_arrive_on_threads(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo");
  TVMFFIAny values[LOCAL_VALUES];
  make_local_values(values);
  for (int i = 0; i < LOCAL_VALUES; i++) {
    expect_round_trip(session, echo, values[i]);
    dsc_value_drop(&values[i]);
  }
  disco_dref_unref(echo);
  end_session(session);
}

static void local_values_are_refused_for_processes(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo"), *result = NULL;
  TVMFFIAny values[LOCAL_VALUES], text = make_text("a text that would travel");
  make_local_values(values);
  for (int i = 0; i < LOCAL_VALUES; i++) {
    if (values[i].type_index == kTVMFFINone) continue; /* libtvm_ffi has no big integers */
    uint64_t before = disco_session_sequence(session);
    expect_refused(DISCO_TYPE, "argument 2", disco_call(session, echo, VALUES(text, text, values[i]), &result));
    expect_says("thread workers");
    bool is_container = values[i].type_index == kTVMFFIArray || values[i].type_index == kTVMFFIMap;
    if (!is_container) { /* which an explicit write may carry */
      expect_status(DISCO_TYPE, disco_session_put(session, &values[i], &result));
      expect_says("thread workers");
    }
    assert_null(result);
    assert_in_range(disco_session_sequence(session), before, before + 1); /* worker 0 may have told a release */
    if (dsc_is_object(&values[i])) {                                      /* also when it is given away */
      TVMFFIAny moved = dsc_none();
      TVMFFIObject *slot = values[i].v_obj;
      moved.type_index = kTVMFFIObjectRValueRef;
      moved.v_ptr = &slot;
      expect_refused(DISCO_TYPE, "argument 0", disco_call(session, echo, &moved, 1, &result));
      assert_ptr_equal(slot, values[i].v_obj);
    }
    expect_round_trip(session, echo, text); /* the session goes on */
    dsc_value_drop(&values[i]);
  }
  assert_int_equal(stats_of(session).errors_told, 0);
  dsc_value_drop(&text);
  disco_dref_unref(echo);
  end_session(session);
}

/* An Error object is a value like others: only poison means "no value". */
static void an_error_object_is_a_value(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo");
  TVMFFIAny error = make_error();
  disco_dref *first = call(session, echo, VALUES(error));
  disco_dref *second = call(session, echo, VALUES(any_dref(first)));
  TVMFFIAny back = get(second, 1);
  assert_int_equal(back.type_index, kTVMFFIError);
  const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)(back.v_obj + 1);
  assert_int_equal(cell->message.size, 12);
  assert_memory_equal(cell->message.data, "only a value", 12);
  assert_int_equal(stats_of(session).errors_told, 0);
  dsc_value_drop(&back);
  dsc_value_drop(&error);
  disco_dref_unref(first);
  disco_dref_unref(second);
  disco_dref_unref(echo);
  end_session(session);
}

/* Borrowed forms are copied at the call: the caller's memory may change at once. */
static void borrowed_text_is_copied(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo"), *type = find(session, "test.type_index");
  char small[] = "small", large[] = "a larger text, beyond seven bytes";
  TVMFFIByteArray small_bytes = {small, 5}, large_bytes = {large, 20};
  const struct {
    TVMFFIAny value;
    int32_t type;
    const char *text;
  } cases[] = {{any_raw(small), kTVMFFISmallStr, "small"},
               {any_raw(large), kTVMFFIStr, "a larger text, beyond seven bytes"},
               {any_bytes(&small_bytes), kTVMFFISmallBytes, "small"},
               {any_bytes(&large_bytes), kTVMFFIBytes, "a larger text, beyon"}};
  disco_dref *results[4], *types[4];
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, DISCO_ALL_WORKERS); /* nobody reads before the texts are gone */
  for (int i = 0; i < 4; i++) {
    results[i] = call(session, echo, &cases[i].value, 1);
    types[i] = call(session, type, &cases[i].value, 1);
  }
  memset(small, '!', sizeof(small) - 1);
  memset(large, '!', sizeof(large) - 1);
  gate_release(&stop, 2);
  for (int i = 0; i < 4; i++) {
    TVMFFIAny back = get(results[i], 1);
    assert_int_equal(back.type_index, cases[i].type);
    assert_true(is_text(&back, cases[i].text));
    assert_int_equal(get_int(types[i], 0), cases[i].type); /* the function never sees the borrowed form */
    dsc_value_drop(&back);
    disco_dref_unref(results[i]);
    disco_dref_unref(types[i]);
  }
  gate_close(&stop);
  disco_dref_unref(echo);
  disco_dref_unref(type);
  end_session(session);
}

/* A moved reference goes to several workers: each gets the object, and the caller's slot keeps it. */
static void a_moved_reference_is_shared(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *type = find(session, "test.type_index");
  TVMFFIAny shape = call_here("ffi.Shape", VALUES(dsc_int(1))), moved = dsc_none();
  TVMFFIObject *slot = shape.v_obj, *gone = NULL;
  moved.type_index = kTVMFFIObjectRValueRef;
  moved.v_ptr = &slot;
  disco_dref *result = call(session, type, &moved, 1);
  for (int32_t w = 0; w < 3; w++) assert_int_equal(get_int(result, w), kTVMFFIShape);
  assert_ptr_equal(slot, shape.v_obj);
  moved.v_ptr = &gone;
  expect_refused(DISCO_TYPE, "argument 0", disco_call(session, type, &moved, 1, NULL));
  dsc_value_drop(&shape);
  disco_dref_unref(result);
  disco_dref_unref(type);
  end_session(session);
}

/* Whatever is refused is refused at the call: nothing is posted, and the session goes on. */
static void what_cannot_travel_is_refused(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *weigh = find(session, "test.weigh");
  disco_dref *results[5]; /* dropped at the end: a release may take a command of its own */
  DLTensor tensor = {0};
  const int32_t types[] = {kTVMFFIDLTensorPtr, -1, -2, -3, kTVMFFIUnchanged};
  for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
    TVMFFIAny bad = any_pointer(&tensor);
    bad.type_index = types[i];
    const TVMFFIAny args[] = {dsc_int(1), dsc_int(2), bad};
    uint64_t before = disco_session_sequence(session);
    disco_dref *result = NULL;
    expect_refused(DISCO_TYPE, "argument 2", disco_call(session, weigh, args, 3, &result));
    assert_null(result);
    expect_status(DISCO_TYPE, disco_session_put(session, &bad, &result));
    assert_null(result);
    assert_int_equal(disco_session_sequence(session), before);
    results[i] = call(session, weigh, args, 2);
    assert_int_equal(get_int(results[i], 1), 1 + 4 + 1);
  }
  assert_int_equal(stats_of(session).errors_told, 0);
  for (int i = 0; i < 5; i++) disco_dref_unref(results[i]);
  disco_dref_unref(weigh);
  end_session(session);
}

/* ---- DRefs ---- */

static void drefs_become_each_workers_value(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  disco_dref *rank = find(session, "runtime.disco.worker_rank"), *pack = find(session, "test.pack");
  disco_dref *mine = call(session, rank, NO_VALUES), *ten = put(session, dsc_int(10));
  TVMFFIAny text = make_text("in between, and long enough");
  disco_dref *all =
      call(session, pack,
           VALUES(any_dref(mine), any_float(0.5), any_dref(ten), any_dref(mine), text, dsc_none(), any_dref(mine)));
  for (int32_t w = 0; w < 4; w++) {
    TVMFFIAny array = get(all, w);
    assert_int_equal(length(&array), 7);
    assert_int_equal(element(&array, 0).v_int64, w);
    assert_true(element(&array, 1).v_float64 == 0.5);
    assert_int_equal(element(&array, 2).v_int64, 10);
    assert_int_equal(element(&array, 3).v_int64, w);
    TVMFFIAny middle = element(&array, 4);
    assert_true(is_text(&middle, "in between, and long enough"));
    assert_int_equal(element(&array, 5).type_index, kTVMFFINone);
    assert_int_equal(element(&array, 6).v_int64, w);
    dsc_value_drop(&array);
  }
  dsc_value_drop(&text);
  disco_dref_unref(mine);
  disco_dref_unref(ten);
  disco_dref_unref(all);
  disco_dref_unref(rank);
  disco_dref_unref(pack);
  end_session(session);
}

static void runs_of_drefs_keep_their_order(void **state) {
  (void)state;
  enum { MOST = 4096 };
  static const int32_t runs[] = {1, 2, 3, 180, 4095, MOST};
  disco_session *session = make_session(2, 1);
  disco_dref *weigh = find(session, "test.weigh");
  TVMFFIAny *args = calloc(MOST, sizeof(*args));
  assert_non_null(args);
  for (int32_t i = 0; i < MOST; i++) args[i] = any_dref(put(session, dsc_int(i % 97 + 1)));
  for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]); r++) {
    int64_t expected = 0;
    for (int32_t i = 0; i < runs[r]; i++) expected += (int64_t)(i + 1) * (i % 97 + 1);
    disco_dref *sum = call(session, weigh, args, runs[r]);
    assert_int_equal(get_int(sum, 0), expected);
    assert_int_equal(get_int(sum, 1), expected + 1);
    disco_dref_unref(sum);
  }
  for (int32_t i = 0; i < MOST; i++) disco_dref_unref((disco_dref *)args[i].v_obj);
  free(args);
  disco_dref_unref(weigh);
  end_session(session);
}

/* Only at the top level: in a container a DRef stays what it is. */
static void a_dref_in_a_container_stays_one(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo"), *one = put(session, dsc_int(1));
  TVMFFIAny array = call_here("ffi.Array", VALUES(any_dref(one)));
  disco_dref *result = call(session, echo, VALUES(array));
  TVMFFIAny back = get(result, 1);
  assert_int_equal(element(&back, 0).type_index, 114);
  assert_ptr_equal(element(&back, 0).v_obj, one);
  dsc_value_drop(&back);
  disco_dref_unref(result); /* else the registers would keep the array, and it the session */
  dsc_value_drop(&array);
  disco_dref_unref(one);
  disco_dref_unref(echo);
  end_session(session);
}

/* ---- Limits ---- */

static void more_arguments_than_allowed(void **state) {
  (void)state;
  enum { MOST = 4096 };
  disco_session *session = make_session(2, 1);
  disco_dref *weigh = find(session, "test.weigh"), *result = NULL;
  TVMFFIAny *args = calloc(MOST + 1, sizeof(*args));
  assert_non_null(args);
  int64_t expected = 0;
  for (int32_t i = 0; i <= MOST; i++) args[i] = dsc_int(i);
  for (int64_t i = 0; i < MOST; i++) expected += (i + 1) * i;
  disco_dref *before = call(session, weigh, args, MOST);
  uint64_t sequence = disco_session_sequence(session), live = stats_of(session).live_registers;
  expect_refused(DISCO_VALUE, "4097", disco_call(session, weigh, args, MOST + 1, &result));
  expect_says("4096");
  expect_status(DISCO_VALUE, disco_call(session, weigh, args, -1, &result));
  assert_null(result);
  assert_int_equal(disco_session_sequence(session), sequence);
  await_live(session, live);
  assert_int_equal(get_int(before, 1), expected + 1); /* nothing lost */
  result = call(session, weigh, args, 3);
  assert_int_equal(get_int(result, 0), 8);
  free(args);
  disco_dref_unref(result);
  disco_dref_unref(before);
  disco_dref_unref(weigh);
  end_session(session);
}

static void longer_text_than_allowed(void **state) {
  (void)state;
  const size_t most = (size_t)256 << 20;
  disco_session *session = make_session(2, 1);
  disco_dref *size = find(session, "test.size"), *result = NULL;
  TVMFFIByteArray borrowed = {"there are not that many bytes here", most + 1};
  expect_refused(DISCO_VALUE, "268435457",
                 disco_call(session, size, VALUES(dsc_int(1), any_bytes(&borrowed)), &result)); /* before any copy */
  expect_says("argument 1");
  /* A text object that only says how long it is: it travels by reference, so its bytes are not touched. */
  struct {
    TVMFFIObject header;
    TVMFFIByteArray text;
  } fake = {{.combined_ref_count = 1 | (uint64_t)1 << 32, .type_index = kTVMFFIStr}, {"short", most}};
  if (workers_share_memory()) {
    result = call(session, size, VALUES(any_object(&fake)));
    assert_int_equal(get_int(result, 1), (int64_t)most);
    disco_dref_unref(result);
    result = NULL;
  }
  fake.text.size = most + 1;
  expect_refused(DISCO_VALUE, "at most 268435456", disco_call(session, size, VALUES(any_object(&fake)), &result));
  assert_null(result);
  sync_all(session);
  assert_int_equal(fake.header.combined_ref_count, 1 | (uint64_t)1 << 32);
  disco_dref_unref(size);
  end_session(session);
}

/* ---- Results ---- */

static void a_result_may_be_dropped(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo"), *nothing = find(session, "test.nothing");
  uint64_t live = stats_of(session).live_registers;
  for (int i = 0; i < 10; i++) expect_ok(disco_call(session, echo, VALUES(dsc_int(i)), NULL));
  await_live(session, live);
  disco_dref *none = call(session, nothing, NO_VALUES), *seen = call(session, echo, VALUES(any_dref(none)));
  await_live(session, live + 2);
  TVMFFIAny value = get(seen, 1);
  assert_int_equal(value.type_index, kTVMFFINone); /* a register without a value is None as an argument, too */
  disco_dref_unref(none);
  disco_dref_unref(seen);
  disco_dref_unref(echo);
  disco_dref_unref(nothing);
  end_session(session);
}

static void borrowed_results_become_owned(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *careless = find(session, "test.careless");
  disco_dref *text = call(session, careless, VALUES(dsc_int(kTVMFFIRawStr)));
  disco_dref *bytes = call(session, careless, VALUES(dsc_int(kTVMFFIByteArrayPtr)));
  TVMFFIAny shape = call_here("ffi.Shape", VALUES(dsc_int(5)));
  disco_dref *moved = call(session, careless, VALUES(dsc_int(kTVMFFIObjectRValueRef), shape));
  expect_ok(disco_call(session, careless, VALUES(dsc_int(kTVMFFIRawStr), dsc_int(1)), NULL)); /* overwrites the text */
  TVMFFIAny value = get(text, 1);
  assert_int_equal(value.type_index, kTVMFFIStr);
  assert_true(is_text(&value, "borrowed text of call 8"));
  dsc_value_drop(&value);
  value = get(bytes, 0);
  assert_int_equal(value.type_index, kTVMFFIBytes);
  assert_true(is_text(&value, "borrowed text of call 9"));
  dsc_value_drop(&value);
  value = get(moved, 1);
  assert_int_equal(value.type_index, kTVMFFIShape);
  assert_int_equal(element(&value, 0).v_int64, 5);
  dsc_value_drop(&value);
  dsc_value_drop(&shape);
  disco_dref_unref(text);
  disco_dref_unref(bytes);
  disco_dref_unref(moved);
  disco_dref_unref(careless);
  end_session(session);
}

/* What is no value must never get into a register: it is the function's error. */
static void impossible_results_are_errors(void **state) {
  (void)state;
  const int32_t forms[] = {kTVMFFIDLTensorPtr, -1, -2, -3, kTVMFFIUnchanged};
  disco_session *session = make_session(2, 1);
  disco_dref *careless = find(session, "test.careless");
  for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
    disco_dref *result = call(session, careless, VALUES(dsc_int(forms[i])));
    disco_error_info error = {.struct_size = sizeof(error)};
    expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
    assert_int_equal(disco_last_error(&error), DISCO_OK);
    assert_string_equal(error.function, "test.careless");
    assert_non_null(strstr(error.message, "the result"));
    disco_dref_unref(result);
  }
  assert_int_equal(stats_of(session).errors_told, sizeof(forms) / sizeof(forms[0]));
  disco_dref_unref(careless);
  end_session(session);
}

/* ---- The packed form ---- */

static void the_packed_form_is_the_same_call(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *weigh = find(session, "test.weigh"), *two = put(session, dsc_int(2)), *result = NULL;
  disco_dref *first = NULL, *second = NULL;
  /* The second value is a placeholder: whatever stands there is ignored. */
  const TVMFFIAny packed[] = {dsc_int(3), any_raw("anything"), any_dref(weigh), any_dref(two), dsc_int(10)};
  expect_ok(disco_call_packed(session, packed, 5, &first));
  assert_int_equal(get_int(first, 1), 2 + 20 + 1);
  expect_ok(disco_call_packed(session, packed, 3, &second));
  assert_int_equal(get_int(second, 1), 1);
  uint64_t before = disco_session_sequence(session);
  expect_status(DISCO_TYPE, disco_call_packed(session, packed, 2, &result));
  expect_status(DISCO_TYPE, disco_call_packed(session, NULL, 3, &result));
  expect_status(DISCO_VALUE, disco_call_packed(session, VALUES(dsc_int(2), dsc_int(0), any_dref(weigh)), &result));
  expect_status(DISCO_VALUE, disco_call_packed(session, VALUES(any_float(3), dsc_int(0), any_dref(weigh)), &result));
  expect_refused(DISCO_TYPE, "Cannot convert from type `None` to `runtime.disco.DRef`",
                 disco_call_packed(session, VALUES(dsc_int(3), dsc_int(0), dsc_none()), &result));
  assert_null(result);
  assert_int_equal(disco_session_sequence(session), before);
  disco_dref_unref(first);
  disco_dref_unref(second);
  disco_dref_unref(two);
  disco_dref_unref(weigh);
  end_session(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_values_arrive_unchanged),   cmocka_unit_test(objects_arrive),
      THREADS_ONLY(local_values_arrive_on_threads),      PROCESSES_ONLY(local_values_are_refused_for_processes),
      cmocka_unit_test(an_error_object_is_a_value),      cmocka_unit_test(borrowed_text_is_copied),
      cmocka_unit_test(a_moved_reference_is_shared),     cmocka_unit_test(what_cannot_travel_is_refused),
      cmocka_unit_test(drefs_become_each_workers_value), cmocka_unit_test(runs_of_drefs_keep_their_order),
      THREADS_ONLY(a_dref_in_a_container_stays_one),     cmocka_unit_test(more_arguments_than_allowed),
      cmocka_unit_test(longer_text_than_allowed),        cmocka_unit_test(a_result_may_be_dropped),
      cmocka_unit_test(borrowed_results_become_owned),   cmocka_unit_test(impossible_results_are_errors),
      cmocka_unit_test(the_packed_form_is_the_same_call)};
  return RUN_SUITE(tests, NULL);
}
