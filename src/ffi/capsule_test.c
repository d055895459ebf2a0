#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "disco/disco.h"
#include "disco/value.h"
#include "disco/worker.h"

static int destroyed;
static void *last;

static void destroy(void *pointer) {
  destroyed++;
  last = pointer;
}

static void the_pointer_comes_back_and_is_destroyed_once(void **state) {
  (void)state;
  int number = 7;
  void *pointer = NULL;
  TVMFFIObjectHandle object = NULL;
  destroyed = 0;
  assert_int_equal(disco_capsule_create("test.number", &number, destroy, &object), DISCO_OK);
  TVMFFIAny value = disco_value_object(object);
  assert_int_equal(disco_capsule_get(&value, "test.number", &pointer), DISCO_OK);
  assert_ptr_equal(pointer, &number);
  assert_int_equal(TVMFFIObjectIncRef(object), 0);
  assert_int_equal(TVMFFIObjectDecRef(object), 0);
  assert_int_equal(destroyed, 0);
  disco_value_unref(&value);
  assert_int_equal(destroyed, 1);
  assert_ptr_equal(last, &number);
  assert_int_equal(value.type_index, kTVMFFINone);
}

static void other_values_are_refused(void **state) {
  (void)state;
  TVMFFIObjectHandle object = NULL;
  void *pointer = NULL;
  assert_int_equal(disco_capsule_create("test.one", NULL, NULL, &object), DISCO_OK);
  TVMFFIAny value = disco_value_object(object), number = disco_value_int(3);
  assert_int_equal(disco_capsule_get(&value, "test.other", &pointer), DISCO_TYPE);
  assert_non_null(strstr(disco_last_error_text(), "`test.other`"));
  assert_non_null(strstr(disco_last_error_text(), "`test.one`"));
  assert_int_equal(disco_capsule_get(&number, "test.one", &pointer), DISCO_TYPE);
  assert_non_null(strstr(disco_last_error_text(), "`int`"));
  disco_value_unref(&value);
}

static void names_have_limits(void **state) {
  (void)state;
  char name[65];
  TVMFFIObjectHandle object = NULL;
  memset(name, 'x', sizeof(name));
  name[64] = 0;
  assert_int_equal(disco_capsule_create(name, NULL, NULL, &object), DISCO_VALUE);
  assert_int_equal(disco_capsule_create("", NULL, NULL, &object), DISCO_VALUE);
  name[63] = 0;
  assert_int_equal(disco_capsule_create(name, NULL, NULL, &object), DISCO_OK);
  assert_int_equal(TVMFFIObjectDecRef(object), 0);
}

/* What a worker keeps: made by one call, given to the next, destroyed when the controller drops it. */
static int keep(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  static int numbers[4];
  disco_worker_info me = {.struct_size = sizeof(me)};
  TVMFFIObjectHandle object = NULL;
  (void)self;
  (void)args;
  (void)num_args;
  if (disco_worker_get_info(&me) != DISCO_OK) return disco_raise_last();
  numbers[me.worker_id] = 10 * me.worker_id;
  if (disco_capsule_create("test.kept", &numbers[me.worker_id], NULL, &object) != DISCO_OK) return disco_raise_last();
  *result = disco_value_object(object);
  return 0;
}

static int use(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  void *pointer = NULL;
  (void)self;
  (void)num_args;
  if (disco_capsule_get(&args[0], "test.kept", &pointer) != DISCO_OK) return disco_raise_last();
  *result = disco_value_int(*(int *)pointer + 1);
  return 0;
}

static void workers_keep_state_in_a_register(void **state) {
  (void)state;
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(3, 1);
  disco_session *session = NULL;
  disco_dref *keep_function = NULL, *use_function = NULL, *kept = NULL, *used = NULL;
  TVMFFIAny results[3], wrong = disco_value_str("text");
  assert_int_equal(disco_register_function("test.keep", keep, NULL, NULL, true), DISCO_OK);
  assert_int_equal(disco_register_function("test.use", use, NULL, NULL, true), DISCO_OK);
  assert_int_equal(disco_session_create_threaded(&options, &session), DISCO_OK);
  assert_int_equal(disco_session_get_global_func(session, "test.keep", &keep_function), DISCO_OK);
  assert_int_equal(disco_session_get_global_func(session, "test.use", &use_function), DISCO_OK);
  assert_int_equal(disco_call(session, keep_function, NULL, 0, &kept), DISCO_OK);
  TVMFFIAny arg = disco_dref_arg(kept);
  assert_int_equal(disco_call(session, use_function, &arg, 1, &used), DISCO_OK);
  assert_int_equal(disco_debug_get_all(used, DISCO_FOREVER, 3, results), DISCO_OK);
  for (int i = 0; i < 3; i++) assert_int_equal(results[i].v_int64, 10 * i + 1);
  /* The kind of an error survives disco_raise_last(). */
  assert_int_equal(disco_call(session, use_function, &wrong, 1, NULL), DISCO_OK);
  assert_int_equal(disco_session_sync(session, DISCO_ALL_WORKERS, DISCO_FOREVER), DISCO_RAISED);
  disco_error_info error = {.struct_size = sizeof(error)};
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_string_equal(error.kind, "TypeError");
  disco_dref_unref(used);
  disco_dref_unref(kept);
  disco_dref_unref(use_function);
  disco_dref_unref(keep_function);
  assert_int_equal(disco_session_shutdown(session), DISCO_OK);
  disco_session_unref(session);
}

static void values_are_made_and_read(void **state) {
  (void)state;
  size_t bytes = 0;
  TVMFFIAny text = disco_value_str("seven letters"), number = disco_value_int(-5);
  assert_string_equal(disco_value_text(&text, &bytes), "seven letters");
  assert_int_equal(bytes, 13);
  assert_null(disco_value_text(&number, &bytes));
  assert_null(disco_value_tensor(&number));
  TVMFFIByteArray small = {"ab", 2}, large = {"a string that does not fit a value", 34};
  TVMFFIAny owned;
  assert_int_equal(TVMFFIStringFromByteArray(&small, &owned), 0);
  assert_string_equal(disco_value_text(&owned, NULL), "ab");
  assert_int_equal(TVMFFIStringFromByteArray(&large, &owned), 0);
  assert_string_equal(disco_value_text(&owned, &bytes), large.data);
  assert_int_equal(bytes, 34);
  disco_value_unref(&owned);
  int64_t shape[2] = {2, 3};
  TVMFFIObjectHandle tensor = NULL;
  assert_int_equal(disco_tensor_create(2, shape, (DLDataType){kDLFloat, 32, 1}, (DLDevice){kDLCPU, 0}, &tensor),
                   DISCO_OK);
  TVMFFIAny value = disco_value_object(tensor);
  assert_int_equal(disco_value_tensor(&value)->shape[1], 3);
  disco_value_unref(&value);
  DLTensor borrowed = {0};
  value.type_index = kTVMFFIDLTensorPtr;
  value.v_ptr = &borrowed;
  assert_ptr_equal(disco_value_tensor(&value), &borrowed);
  assert_true(disco_value_float(0.5).v_float64 == 0.5);
  assert_int_equal(disco_value_bool(true).type_index, kTVMFFIBool);
}

static void shapes_are_made(void **state) {
  (void)state;
  int64_t sizes[10];
  for (int i = 0; i < 10; i++) sizes[i] = i + 1;
  for (int32_t ndim = 0; ndim <= 10; ndim += 5) {
    TVMFFIAny shape;
    assert_int_equal(disco_value_shape(sizes, ndim, &shape), DISCO_OK);
    assert_int_equal(shape.type_index, kTVMFFIShape);
    const TVMFFIShapeCell *cell = (const TVMFFIShapeCell *)(shape.v_obj + 1);
    assert_int_equal(cell->size, ndim);
    if (ndim > 0) assert_int_equal(cell->data[ndim - 1], ndim);
    disco_value_unref(&shape);
  }
  TVMFFIAny shape;
  assert_int_equal(disco_value_shape(sizes, -1, &shape), DISCO_VALUE);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_pointer_comes_back_and_is_destroyed_once),
      cmocka_unit_test(other_values_are_refused),
      cmocka_unit_test(names_have_limits),
      cmocka_unit_test(workers_keep_state_in_a_register),
      cmocka_unit_test(values_are_made_and_read),
      cmocka_unit_test(shapes_are_made),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
