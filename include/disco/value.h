/* Values of TVM-FFI in C: arguments made, results read.
 *
 * A value (TVMFFIAny) is a number, or a reference to a counted object. Those made here own nothing: strings and objects
 * must live until the call they are passed to has returned (it copies or counts what it keeps). Results of calls are
 * owned: disco_value_unref() drops them, and does nothing for numbers. Any thread. */
#ifndef DISCO_VALUE_H
#define DISCO_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

#include "disco/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Making ---- */

static inline TVMFFIAny disco_value_none(void) {
  TVMFFIAny value;
  memset(&value, 0, sizeof(value)); /* unused bytes are zero: values are compared and hashed as they lie */
  return value;
}

static inline TVMFFIAny disco_value_int(int64_t number) {
  TVMFFIAny value = disco_value_none();
  value.type_index = kTVMFFIInt;
  value.v_int64 = number;
  return value;
}

static inline TVMFFIAny disco_value_bool(bool truth) {
  TVMFFIAny value = disco_value_none();
  value.type_index = kTVMFFIBool;
  value.v_int64 = truth;
  return value;
}

static inline TVMFFIAny disco_value_float(double number) {
  TVMFFIAny value = disco_value_none();
  value.type_index = kTVMFFIFloat;
  value.v_float64 = number;
  return value;
}

/* NUL-terminated text, borrowed. */
static inline TVMFFIAny disco_value_str(const char *text) {
  TVMFFIAny value = disco_value_none();
  value.type_index = kTVMFFIRawStr;
  value.v_c_str = text;
  return value;
}

/* A tensor, function, capsule, ...: not counted, so it is the caller's reference that the value stands for. */
static inline TVMFFIAny disco_value_object(TVMFFIObjectHandle object) {
  TVMFFIAny value = disco_value_none();
  value.type_index = ((const TVMFFIObject *)object)->type_index;
  value.v_obj = (TVMFFIObject *)object;
  return value;
}

/* An ffi.Shape of `ndim` sizes, owned by the caller (disco_value_unref()). DISCO_MEMORY, DISCO_RUNTIME. */
DISCO_API DISCO_MUST_USE disco_status disco_value_shape(const int64_t *sizes, int32_t ndim, TVMFFIAny *ret_shape);

/* ---- Reading ---- */

/* The tensor of a value (of a Tensor, or a DLTensor pointer), NULL when it is none. Lives as long as the value. */
DISCO_API DLTensor *disco_value_tensor(const TVMFFIAny *value);

/* The text of a string in any of its forms, NULL when it is none; *ret_bytes (may be NULL) its size. NUL-terminated,
 * lives as long as *value. */
DISCO_API const char *disco_value_text(const TVMFFIAny *value, size_t *ret_bytes);

/* Drop what the value owns; it is None then. */
DISCO_API void disco_value_unref(TVMFFIAny *value);

/* ---- Capsules: a pointer of the program's own as a value ---- */

/* An object that holds `pointer`, so that a worker's function can return its state and get it back as an argument of
 * later calls. When the last reference goes (the controller drops the DRef, the session ends), `destructor` (may be
 * NULL) is called with the pointer, on whatever thread that happens. `name` (not empty, at most 63 bytes, copied) says
 * what is in it. Capsules stay on their worker: they cannot be sent to another process. *ret_capsule is owned by the
 * caller. DISCO_VALUE, DISCO_MEMORY: the pointer is still the caller's then. */
DISCO_API DISCO_MUST_USE disco_status disco_capsule_create(const char *name, void *pointer,
                                                           void (*destructor)(void *pointer),
                                                           TVMFFIObjectHandle *ret_capsule);

/* The pointer of the capsule `name`. DISCO_TYPE says what the value is instead, or what its capsule is called. */
DISCO_API DISCO_MUST_USE disco_status disco_capsule_get(const TVMFFIAny *value, const char *name, void **ret_pointer);

#ifdef __cplusplus
}
#endif
#endif
