/* Values of every type index: own, borrow, count, name, convert. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/object.h"
#include "ffi/value.h"

/* ---- Objects whose end is seen ---- */

typedef struct {
  TVMFFIObject header;
  int contents_freed, memory_freed; /* how often the deleter was told so */
  int calls;
} watched;

static void watch(void *self, int flags) {
  watched *object = self;
  object->calls++;
  object->contents_freed += (flags & kTVMFFIObjectDeleterFlagBitMaskStrong) != 0;
  object->memory_freed += (flags & kTVMFFIObjectDeleterFlagBitMaskWeak) != 0;
}

static watched make_watched(void) {
  return (watched){
      .header = {.combined_ref_count = 1 | (uint64_t)1 << 32, .type_index = kTVMFFIObject, .deleter = watch}};
}

static void the_last_reference_frees_once(void **state) {
  (void)state;
  watched object = make_watched();
  TVMFFIAny value = dsc_object_value(&object), copy = dsc_value_copy(&value);
  assert_int_equal(object.header.combined_ref_count, 2 | (uint64_t)1 << 32);
  dsc_value_drop(&copy);
  assert_int_equal(copy.type_index, kTVMFFINone);
  assert_int_equal(object.calls, 0);
  dsc_object_ref(&object, 5);
  for (int i = 0; i < 5; i++) dsc_object_unref(&object);
  assert_int_equal(object.calls, 0);
  dsc_value_drop(&value);
  assert_int_equal(object.calls, 1); /* both counts end together: one call with both flags */
  assert_int_equal(object.contents_freed, 1);
  assert_int_equal(object.memory_freed, 1);
  dsc_value_drop(&value); /* None by now */
  assert_int_equal(object.calls, 1);
}

static void a_weak_reference_keeps_the_memory(void **state) {
  (void)state;
  watched object = make_watched();
  dsc_object_ref(&object, (uint64_t)1 << 32); /* somebody's weak reference */
  dsc_object_unref(&object);
  assert_int_equal(object.contents_freed, 1);
  assert_int_equal(object.memory_freed, 0);
  assert_int_equal(object.header.combined_ref_count, (uint64_t)1 << 32);
}

static void static_objects_have_no_deleter(void **state) {
  (void)state;
  watched object = make_watched();
  object.header.deleter = NULL;
  dsc_object_unref(&object);
  assert_int_equal(object.calls, 0);
}

/* Our counting and the library's are the same. */
static void counts_agree_with_the_library(void **state) {
  (void)state;
  TVMFFIAny value;
  const char text[] = "long enough to be an object";
  assert_int_equal(dsc_value_from_string(text, strlen(text), &value), DISCO_OK);
  assert_int_equal(value.v_obj->combined_ref_count, 1 | (uint64_t)1 << 32);
  TVMFFIObjectIncRef(value.v_obj);
  dsc_object_ref(value.v_obj, 1);
  assert_int_equal(value.v_obj->combined_ref_count, 3 | (uint64_t)1 << 32);
  dsc_object_unref(value.v_obj);
  TVMFFIObjectDecRef(value.v_obj);
  assert_int_equal(value.v_obj->combined_ref_count, 1 | (uint64_t)1 << 32);
  dsc_value_drop(&value); /* the library's deleter: the leak checker looks */
}

static void our_objects_have_their_prefix(void **state) {
  (void)state;
  dsc_dref *dref = dsc_object_create(sizeof(*dref), DSC_TYPE_DREF, NULL);
  assert_non_null(dref);
  assert_int_equal((uintptr_t)dref % 16, 0);
  assert_int_equal(((uint64_t *)dref)[-2], 0);
  assert_int_equal(dref->header.combined_ref_count, 1 | (uint64_t)1 << 32);
  assert_int_equal(dref->reg_id, 0);
  void (*free_it)(void *) = NULL;
  memcpy(&free_it, (char *)dref - 8, sizeof(free_it)); /* as a later TVM-FFI will */
  free_it(dref);
}

/* ---- Owning ---- */

static TVMFFIAny any(int32_t type_index) {
  TVMFFIAny value = dsc_none();
  value.type_index = type_index;
  return value;
}

static void plain_values_stay_as_they_are(void **state) {
  (void)state;
  const int32_t plain[] = {kTVMFFINone,     kTVMFFIInt,    kTVMFFIBool,     kTVMFFIFloat,     kTVMFFIOpaquePtr,
                           kTVMFFIDataType, kTVMFFIDevice, kTVMFFISmallStr, kTVMFFISmallBytes};
  for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
    TVMFFIAny value = any(plain[i]), owned;
    value.v_int64 = 0x0102030405060708;
    value.small_str_len = plain[i] >= kTVMFFISmallStr ? 7 : 0;
    assert_int_equal(dsc_value_own(&value, "x", &owned), DISCO_OK);
    assert_memory_equal(&owned, &value, sizeof(value));
    dsc_value_drop(&owned);
  }
}

static void every_object_is_counted(void **state) {
  (void)state;
  const int32_t kinds[] = {kTVMFFIObject, kTVMFFIStr,   kTVMFFIBytes, kTVMFFIError,  kTVMFFIFunction, kTVMFFIShape,
                           kTVMFFITensor, kTVMFFIArray, kTVMFFIMap,   kTVMFFIModule, DSC_TYPE_DREF};
  for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
    watched object = make_watched();
    TVMFFIAny owned, value = any(kinds[i]);
    object.header.type_index = kinds[i];
    value.v_obj = &object.header;
    assert_int_equal(dsc_value_own(&value, "x", &owned), DISCO_OK);
    assert_int_equal((uint32_t)object.header.combined_ref_count, 2);
    assert_ptr_equal(owned.v_obj, &object);
    dsc_value_drop(&owned);
    assert_int_equal((uint32_t)object.header.combined_ref_count, 1);
    assert_int_equal(object.calls, 0);
  }
}

static void borrowed_strings_are_copied(void **state) {
  (void)state;
  char text[] = "a string that is longer than seven bytes";
  for (int small = 0; small < 2; small++) {
    TVMFFIByteArray seen, bytes = {text, small ? 4 : strlen(text)};
    TVMFFIAny owned, value = any(kTVMFFIByteArrayPtr);
    value.v_ptr = &bytes;
    assert_int_equal(dsc_value_own(&value, "x", &owned), DISCO_OK);
    assert_int_equal(owned.type_index, small ? kTVMFFISmallBytes : kTVMFFIBytes);
    assert_true(dsc_value_string(&owned, &seen));
    assert_int_equal(seen.size, bytes.size);
    assert_memory_equal(seen.data, text, bytes.size);
    assert_ptr_not_equal(seen.data, text);
    dsc_value_drop(&owned);
    value = any(kTVMFFIRawStr);
    value.v_c_str = small ? "tiny" : text;
    assert_int_equal(dsc_value_own(&value, "x", &owned), DISCO_OK);
    assert_int_equal(owned.type_index, small ? kTVMFFISmallStr : kTVMFFIStr);
    assert_true(dsc_value_string(&owned, &seen));
    assert_int_equal(seen.size, bytes.size);
    dsc_value_drop(&owned);
  }
  TVMFFIByteArray long_one = {text, DSC_STRING_MAX + 1};
  TVMFFIAny owned, value = any(kTVMFFIByteArrayPtr);
  value.v_ptr = &long_one;
  assert_int_equal(dsc_value_own(&value, "argument 3", &owned), DISCO_VALUE);
  assert_string_equal(disco_last_error_text(),
                      "argument 3 is a string of 268435457 bytes; at most 268435456 can be sent");
}

static void a_moved_reference_is_read_not_moved(void **state) {
  (void)state;
  watched object = make_watched();
  TVMFFIObject *slot = &object.header;
  TVMFFIAny owned, value = any(kTVMFFIObjectRValueRef);
  value.v_ptr = &slot;
  for (uint32_t i = 0; i < 3; i++) { /* several workers may need it */
    assert_int_equal(dsc_value_own(&value, "x", &owned), DISCO_OK);
    assert_int_equal(owned.type_index, kTVMFFIObject);
    assert_ptr_equal(owned.v_obj, &object);
    assert_ptr_equal(slot, &object);
    assert_int_equal((uint32_t)object.header.combined_ref_count, i + 2);
  }
  slot = NULL;
  assert_int_equal(dsc_value_own(&value, "x", &owned), DISCO_TYPE);
}

static void what_cannot_be_kept_is_refused(void **state) {
  (void)state;
  const int32_t bad[] = {kTVMFFIDLTensorPtr, kTVMFFIUnchanged, -1, -2, -3};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    TVMFFIAny owned = dsc_int(77), value = any(bad[i]);
    assert_int_equal(dsc_value_own(&value, "argument 5", &owned), DISCO_TYPE);
    assert_non_null(strstr(disco_last_error_text(), "argument 5"));
    assert_int_equal(owned.v_int64, 77);
  }
}

static void strings_are_read_in_all_forms(void **state) {
  (void)state;
  TVMFFIByteArray seen, bytes = {"abc", 3};
  TVMFFIAny forms[6] = {any(kTVMFFIRawStr), any(kTVMFFIByteArrayPtr), any(kTVMFFISmallStr), any(kTVMFFISmallBytes)};
  forms[0].v_c_str = "abc";
  forms[1].v_ptr = &bytes;
  for (int i = 2; i < 4; i++) {
    memcpy(forms[i].v_bytes, "abc\x5a", 4); /* no terminator: the length counts */
    forms[i].small_str_len = 3;
  }
  struct {
    TVMFFIObject header;
    TVMFFIByteArray bytes;
  } object = {.bytes = {"abc", 3}};
  for (int i = 4; i < 6; i++) {
    forms[i] = any(i == 4 ? kTVMFFIStr : kTVMFFIBytes);
    forms[i].v_obj = &object.header;
  }
  for (int i = 0; i < 6; i++) {
    assert_true(dsc_value_string(&forms[i], &seen));
    assert_int_equal(seen.size, 3);
    assert_memory_equal(seen.data, "abc", 3);
  }
  const int32_t others[] = {kTVMFFINone, kTVMFFIInt, kTVMFFIDataType, kTVMFFIShape, kTVMFFIFunction, DSC_TYPE_DREF};
  for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
    TVMFFIAny value = any(others[i]);
    assert_false(dsc_value_string(&value, &seen));
  }
}

/* ---- Names and conversions ---- */

static void types_have_names(void **state) {
  (void)state;
  const struct {
    int32_t index;
    const char *name;
  } plain[] = {{kTVMFFINone, "None"},
               {kTVMFFIInt, "int"},
               {kTVMFFIBool, "bool"},
               {kTVMFFIFloat, "float"},
               {kTVMFFIDataType, "dtype"},
               {kTVMFFIDevice, "Device"},
               {kTVMFFISmallStr, "str"},
               {kTVMFFISmallBytes, "bytes"},
               {kTVMFFIDLTensorPtr, "DLTensor*"},
               {kTVMFFIRawStr, "const char*"},
               {-3, "unknown"},
               {kTVMFFIUnchanged, "unknown"}};
  for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
    TVMFFIAny value = any(plain[i].index);
    assert_string_equal(dsc_value_type_name(&value), plain[i].name);
  }
  const struct {
    int32_t index;
    const char *name;
  } objects[] = {{kTVMFFIStr, "ffi.String"},  {kTVMFFIFunction, "ffi.Function"},
                 {kTVMFFIShape, "ffi.Shape"}, {kTVMFFITensor, "ffi.Tensor"},
                 {kTVMFFIArray, "ffi.Array"}, {DSC_TYPE_DREF, "runtime.disco.DRef"}};
  for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
    watched object = make_watched();
    object.header.type_index = objects[i].index;
    TVMFFIAny value = dsc_object_value(&object);
    assert_string_equal(dsc_value_type_name(&value), objects[i].name);
  }
}

static void numbers_convert_as_tvm_does(void **state) {
  (void)state;
  int64_t number = 0;
  bool truth = false;
  TVMFFIAny yes = any(kTVMFFIBool), real = any(kTVMFFIFloat), none = dsc_none(), text = any(kTVMFFISmallStr);
  TVMFFIAny large = dsc_int(INT64_MIN), zero = dsc_int(0);
  yes.v_int64 = 1;
  assert_true(dsc_value_as_int(&yes, &number) && number == 1);
  assert_true(dsc_value_as_int(&large, &number) && number == INT64_MIN);
  assert_true(dsc_value_as_bool(&yes, &truth) && truth);
  assert_true(dsc_value_as_bool(&zero, &truth) && !truth);
  assert_true(dsc_value_as_bool(&large, &truth) && truth);
  assert_false(dsc_value_as_int(&real, &number) || dsc_value_as_int(&none, &number) ||
               dsc_value_as_int(&text, &number));
  assert_false(dsc_value_as_bool(&real, &truth) || dsc_value_as_bool(&none, &truth));
}

static TVMFFIAny raw(const char *text) {
  TVMFFIAny value = any(kTVMFFIRawStr);
  value.v_c_str = text;
  return value;
}

static void dtypes_convert_from_text(void **state) {
  (void)state;
  DLDataType dtype = {0};
  TVMFFIAny value = any(kTVMFFIDataType);
  value.v_dtype = (DLDataType){kDLInt, 8, 4};
  assert_true(dsc_value_as_dtype(&value, &dtype) && dtype.code == kDLInt && dtype.bits == 8 && dtype.lanes == 4);
  value = raw("bfloat16");
  assert_true(dsc_value_as_dtype(&value, &dtype) && dtype.code == kDLBfloat && dtype.bits == 16 && dtype.lanes == 1);
  value = raw("float32x4");
  assert_true(dsc_value_as_dtype(&value, &dtype) && dtype.code == kDLFloat && dtype.lanes == 4);
  value = raw("no such type");
  assert_false(dsc_value_as_dtype(&value, &dtype));
  assert_null(dsc_error_raised()); /* the library's error was taken away */
  value = dsc_int(3);
  assert_false(dsc_value_as_dtype(&value, &dtype));
}

static void devices_convert_from_text(void **state) {
  (void)state;
  const struct {
    const char *text;
    int type, id; /* type -1: refused */
  } cases[] = {{"cpu", kDLCPU, 0},
               {"cpu:0", kDLCPU, 0},
               {"cpu:3", kDLCPU, 3},
               {"cuda:1", kDLCUDA, 1},
               {"rocm", kDLROCM, 0},
               {"", -1, 0},
               {"cpu:", -1, 0},
               {"cpu:x", -1, 0},
               {"cpu:1x", -1, 0},
               {"cpu:-1", -1, 0},
               {"gpu-of-mine", -1, 0},
               {":1", -1, 0},
               {"cpu:99999999999", -1, 0},
               {"CPU", -1, 0},
               {"cpu:2147483647", kDLCPU, INT_MAX},
               {"a name that is longer than any device's name is", -1, 0}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    DLDevice device = {kDLExtDev, 99};
    TVMFFIAny value = raw(cases[i].text);
    assert_int_equal(dsc_value_as_device(&value, &device), cases[i].type >= 0);
    assert_int_equal(device.device_type, cases[i].type >= 0 ? cases[i].type : kDLExtDev);
    assert_int_equal(device.device_id, cases[i].type >= 0 ? cases[i].id : 99);
  }
  TVMFFIAny value = any(kTVMFFIDevice);
  DLDevice device;
  value.v_device = (DLDevice){kDLVulkan, 2};
  assert_true(dsc_value_as_device(&value, &device) && device.device_type == kDLVulkan && device.device_id == 2);
}

/* The result of a registered function, owned. */
static TVMFFIAny call(const char *name, TVMFFIAny *args, int32_t count) {
  TVMFFIObject *function = NULL;
  TVMFFIAny result = dsc_none();
  assert_int_equal(dsc_function_find(name, &function), DISCO_OK);
  assert_non_null(function);
  assert_int_equal(TVMFFIFunctionCall(function, args, count, &result), 0);
  dsc_object_unref(function);
  return result;
}

static void shapes_convert_from_arrays(void **state) {
  (void)state;
  TVMFFIAny sizes[4] = {dsc_int(2), dsc_int(0), any(kTVMFFIBool), dsc_int(-5)};
  const char *const makers[] = {"ffi.Shape", "ffi.Array", "ffi.List"};
  for (size_t m = 0; m < 3; m++) {
    for (int32_t count = 0; count <= (m == 0 ? 2 : 4); count++) {
      TVMFFIAny value = call(makers[m], sizes, count);
      int64_t room[4];
      const int64_t *seen = NULL;
      size_t size = 99;
      assert_true(dsc_value_as_shape(&value, room, 4, &seen, &size));
      assert_int_equal(size, count);
      for (int32_t i = 0; i < count; i++) assert_int_equal(seen[i], sizes[i].v_int64);
      if (m > 0 && count > 0) assert_false(dsc_value_as_shape(&value, room, (size_t)count - 1, &seen, &size));
      dsc_value_drop(&value);
    }
  }
  sizes[1] = any(kTVMFFIFloat);
  TVMFFIAny mixed = call("ffi.Array", sizes, 2), none = dsc_none();
  int64_t room[4];
  const int64_t *seen = NULL;
  size_t size = 0;
  assert_false(dsc_value_as_shape(&mixed, room, 4, &seen, &size));
  assert_false(dsc_value_as_shape(&none, room, 4, &seen, &size));
  assert_false(dsc_value_as_shape(&sizes[0], room, 4, &seen, &size));
  dsc_value_drop(&mixed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_last_reference_frees_once),
      cmocka_unit_test(a_weak_reference_keeps_the_memory),
      cmocka_unit_test(static_objects_have_no_deleter),
      cmocka_unit_test(counts_agree_with_the_library),
      cmocka_unit_test(our_objects_have_their_prefix),
      cmocka_unit_test(plain_values_stay_as_they_are),
      cmocka_unit_test(every_object_is_counted),
      cmocka_unit_test(borrowed_strings_are_copied),
      cmocka_unit_test(a_moved_reference_is_read_not_moved),
      cmocka_unit_test(what_cannot_be_kept_is_refused),
      cmocka_unit_test(strings_are_read_in_all_forms),
      cmocka_unit_test(types_have_names),
      cmocka_unit_test(numbers_convert_as_tvm_does),
      cmocka_unit_test(dtypes_convert_from_text),
      cmocka_unit_test(devices_convert_from_text),
      cmocka_unit_test(shapes_convert_from_arrays),
  };
  return cmocka_run_group_tests_name("ffi.value", tests, NULL, NULL);
}
