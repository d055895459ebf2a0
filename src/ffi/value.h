/* TVM-FFI values: borrow, own, move, drop. The only place that touches reference counts.
 *
 * Counts are changed inline with C11 acquire-release atomics on TVM-FFI's layout (strong count in the low 32 bits, weak
 * in the high), so that TSan sees them. A value is borrowed when an argument, owned when in a register, a record or a
 * result. Any thread. */
#ifndef DSC_FFI_VALUE_H
#define DSC_FFI_VALUE_H

#include <string.h>
#include <tvm/ffi/c_api.h>

#include "base/atomics.h"
#include "base/status.h"

enum {
  DSC_TYPE_DREF = 114, /* fixed by TVM-FFI's table of static types */
};

#define DSC_STRING_MAX ((size_t)256 << 20) /* longest string or bytes argument */

/* All 16 bytes are set: equality and hashing of values look at them raw. */
static inline TVMFFIAny dsc_none(void) {
  return (TVMFFIAny){.type_index = kTVMFFINone, .zero_padding = 0, .v_int64 = 0};
}

static inline TVMFFIAny dsc_int(int64_t number) {
  return (TVMFFIAny){.type_index = kTVMFFIInt, .zero_padding = 0, .v_int64 = number};
}

/* Wraps without counting. */
static inline TVMFFIAny dsc_object_value(void *object) {
  TVMFFIAny value = dsc_none();
  value.type_index = ((TVMFFIObject *)object)->type_index;
  value.v_obj = object;
  return value;
}

/* A form that is borrowed (7 to 10) or no value at all: an argument at most, never kept. */
static inline bool dsc_value_is_borrowed(const TVMFFIAny *value) {
  int32_t index = value->type_index;
  return (index >= kTVMFFIDLTensorPtr && index <= kTVMFFIObjectRValueRef) || index < 0 || index == kTVMFFIUnchanged;
}

static inline bool dsc_is_object(const TVMFFIAny *value) { return value->type_index >= kTVMFFIStaticObjectBegin; }

static inline void dsc_object_ref(void *object, uint64_t by) {
  _Atomic uint64_t *count = (_Atomic uint64_t *)&((TVMFFIObject *)object)->combined_ref_count;
  dsc_add_relaxed(count, by);
}

/* Out of line: the last reference went. `count` is what was there before. */
void dsc_object_dispose(TVMFFIObject *object, uint64_t count);

static inline void dsc_object_unref(void *object) {
  _Atomic uint64_t *count = (_Atomic uint64_t *)&((TVMFFIObject *)object)->combined_ref_count;
  /* label ffi.count: every drop releases what its owner did, the last one acquires it all */
  uint64_t before = dsc_add_acq_rel(count, (uint64_t)-1);
  if ((uint32_t)before == 1) dsc_object_dispose(object, before);
}

static inline void dsc_value_drop(TVMFFIAny *value) {
  if (dsc_is_object(value)) dsc_object_unref(value->v_obj);
  *value = dsc_none();
}

/* A borrowed value of a form that may be kept (no 7, 8, 9, 10): counts the object. */
static inline TVMFFIAny dsc_value_copy(const TVMFFIAny *value) {
  if (dsc_is_object(value)) dsc_object_ref(value->v_obj, 1);
  return *value;
}

/* Make a borrowed value owned: borrowed strings and bytes are copied, a moved reference (10) is read, a DLTensor
 * pointer is refused (DISCO_TYPE; `what` names the value in the sentence). */
disco_status dsc_value_own(const TVMFFIAny *value, const char *what, TVMFFIAny *ret_owned);

/* A string or bytes value in any of its forms (8, 11, 65 and 9, 12, 66): borrowed, valid as long as *value. False for
 * other values. */
bool dsc_value_string(const TVMFFIAny *value, TVMFFIByteArray *ret_string);
/* An owned string value. */
disco_status dsc_value_from_string(const char *data, size_t size, TVMFFIAny *ret_value);

/* "int", "ffi.Tensor", ...: the name of a value's type for messages. A constant, or text of the type table. */
const char *dsc_value_type_name(const TVMFFIAny *value);

/* The conversions that TVM's typed functions make (reference, section 2): bool to int, int to bool, text to dtype and
 * device, array of int to shape. False when the value is none of them. */
bool dsc_value_as_int(const TVMFFIAny *value, int64_t *ret_int);
bool dsc_value_as_bool(const TVMFFIAny *value, bool *ret_bool);
bool dsc_value_as_dtype(const TVMFFIAny *value, DLDataType *ret_dtype);
bool dsc_value_as_device(const TVMFFIAny *value, DLDevice *ret_device);
/* *ret_sizes points into *value, or at `room` of `room_size` numbers when it had to be converted. */
bool dsc_value_as_shape(const TVMFFIAny *value, int64_t *room, size_t room_size, const int64_t **ret_sizes,
                        size_t *ret_count);

#endif
