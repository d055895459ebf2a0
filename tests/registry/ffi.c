#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ffi.h"

/* ---- Values ---- */

static TVMFFIAny of_type(int32_t type_index) {
  TVMFFIAny value;
  memset(&value, 0, sizeof(value));
  value.type_index = type_index;
  return value;
}

static TVMFFIAny of_object(TVMFFIObjectHandle object) {
  TVMFFIAny value = of_type(((TVMFFIObject *)object)->type_index);
  value.v_obj = object;
  return value;
}

TVMFFIAny none(void) { return of_type(kTVMFFINone); }

TVMFFIAny integer(int64_t number) {
  TVMFFIAny value = of_type(kTVMFFIInt);
  value.v_int64 = number;
  return value;
}

TVMFFIAny boolean(bool truth) {
  TVMFFIAny value = of_type(kTVMFFIBool);
  value.v_int64 = truth;
  return value;
}

TVMFFIAny real(double number) {
  TVMFFIAny value = of_type(kTVMFFIFloat);
  value.v_float64 = number;
  return value;
}

TVMFFIAny text(const char *string) {
  TVMFFIByteArray bytes = {string, strlen(string)};
  TVMFFIAny value = none();
  assert_int_equal(TVMFFIStringFromByteArray(&bytes, &value), 0);
  return value;
}

TVMFFIAny borrowed(const char *string) {
  TVMFFIAny value = of_type(kTVMFFIRawStr);
  value.v_c_str = string;
  return value;
}

TVMFFIAny device(int type, int id) {
  TVMFFIAny value = of_type(kTVMFFIDevice);
  value.v_device = (DLDevice){(DLDeviceType)type, id};
  return value;
}

TVMFFIAny dtype(int code, int bits) {
  TVMFFIAny value = of_type(kTVMFFIDataType);
  value.v_dtype = (DLDataType){(uint8_t)code, (uint8_t)bits, 1};
  return value;
}

TVMFFIAny shape(int count, const int64_t *sizes) {
  TVMFFIAny args[16];
  assert_true(count <= 16);
  for (int i = 0; i < count; i++) args[i] = integer(sizes[i]);
  return call_array("ffi.Shape", args, count);
}

typedef struct {
  DLManagedTensorVersioned managed;
  int64_t sizes[8], strides[8];
} lent;

static void free_lent(DLManagedTensorVersioned *managed) { free(managed); }

TVMFFIAny tensor(void *data, uint64_t byte_offset, int bits, int32_t ndim, const int64_t *sizes,
                 const int64_t *strides) {
  lent *memory = calloc(1, sizeof(*memory));
  TVMFFIObjectHandle object = NULL;
  assert_true(memory != NULL && ndim <= 8);
  memcpy(memory->sizes, sizes, (size_t)ndim * sizeof(*sizes));
  if (strides != NULL) memcpy(memory->strides, strides, (size_t)ndim * sizeof(*strides));
  memory->managed.version = (DLPackVersion){DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  memory->managed.deleter = free_lent;
  memory->managed.dl_tensor = (DLTensor){.data = data,
                                         .device = {kDLCPU, 0},
                                         .ndim = ndim,
                                         .dtype = {kDLUInt, (uint8_t)bits, 1},
                                         .shape = memory->sizes,
                                         .strides = strides != NULL ? memory->strides : NULL,
                                         .byte_offset = byte_offset};
  assert_int_equal(TVMFFITensorFromDLPackVersioned(&memory->managed, 0, 0, &object), 0);
  return of_object(object);
}

TVMFFIAny function(TVMFFISafeCallType call, void *self, void (*deleter)(void *)) {
  TVMFFIObjectHandle object = NULL;
  assert_int_equal(TVMFFIFunctionCreate(self, call, deleter, &object), 0);
  return of_object(object);
}

void drop(TVMFFIAny *value) {
  if (value->type_index >= kTVMFFIStaticObjectBegin) TVMFFIObjectDecRef(value->v_obj);
  *value = none();
}

TVMFFIAny again(TVMFFIAny value) {
  if (value.type_index >= kTVMFFIStaticObjectBegin) TVMFFIObjectIncRef(value.v_obj);
  return value;
}

uint32_t references(TVMFFIAny value) {
  return (uint32_t)__atomic_load_n(&value.v_obj->combined_ref_count, __ATOMIC_ACQUIRE);
}

bool is_text(TVMFFIAny value, const char *expected) {
  size_t size = strlen(expected);
  if (value.type_index == kTVMFFISmallStr)
    return value.small_str_len == size && memcmp(value.v_bytes, expected, size) == 0;
  if (value.type_index != kTVMFFIStr) return false;
  const TVMFFIByteArray *bytes = (const TVMFFIByteArray *)(value.v_obj + 1);
  return bytes->size == size && memcmp(bytes->data, expected, size) == 0;
}

const char *type_key(TVMFFIAny value) {
  if (value.type_index < kTVMFFIStaticObjectBegin) return "";
  const TVMFFITypeInfo *info = TVMFFIGetTypeInfo(value.type_index);
  return info->type_key.data;
}

/* ---- Global functions ---- */

static TVMFFIObjectHandle find(const char *name) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle found = NULL;
  assert_int_equal(TVMFFIFunctionGetGlobal(&key, &found), 0);
  return found;
}

bool registered(const char *name) {
  TVMFFIObjectHandle found = find(name);
  if (found != NULL) TVMFFIObjectDecRef(found);
  return found != NULL;
}

void register_global(const char *name, TVMFFISafeCallType call) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIAny object = function(call, NULL, NULL);
  assert_int_equal(TVMFFIFunctionSetGlobal(&key, object.v_obj, 0), 0);
  drop(&object);
}

static char last_kind[64], last_message[8192];

const char *failed_kind(void) { return last_kind; }
const char *failed_message(void) { return last_message; }

static void keep_error(void) {
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  assert_non_null(error); /* a function that fails says why */
  const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)((TVMFFIObject *)error + 1);
  snprintf(last_kind, sizeof(last_kind), "%.*s", (int)cell->kind.size, cell->kind.data);
  snprintf(last_message, sizeof(last_message), "%.*s", (int)cell->message.size, cell->message.data);
  TVMFFIObjectDecRef(error);
}

TVMFFIAny call_array(const char *name, TVMFFIAny *args, int count) {
  TVMFFIObjectHandle found = find(name);
  TVMFFIAny result = none();
  if (found == NULL) print_message("no function %s\n", name);
  assert_non_null(found);
  last_kind[0] = last_message[0] = 0;
  if (TVMFFIFunctionCall(found, args, count, &result) != 0) {
    keep_error();
    result = none();
  }
  TVMFFIObjectDecRef(found);
  return result;
}

int raise_error(const char *kind, const char *message) {
  TVMFFIByteArray kind_bytes = {kind, strlen(kind)}, message_bytes = {message, strlen(message)}, no_bytes = {"", 0};
  TVMFFIObjectHandle error = NULL;
  if (TVMFFIErrorCreate(&kind_bytes, &message_bytes, &no_bytes, &error) != 0) abort();
  TVMFFIErrorSetRaised(error);
  TVMFFIObjectDecRef(error);
  return -1;
}
