/* Bodies of include/disco/value.h. */
#include "disco/value.h"

#include <stdlib.h>

#include "api/startup.h"
#include "base/memory.h"
#include "ffi/capsule.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "ffi/value.h"

disco_status disco_value_shape(const int64_t *sizes, int32_t ndim, TVMFFIAny *ret_shape) {
  TVMFFIAny few[8], *args = few;
  TVMFFIObject *make = NULL;
  if (ret_shape == NULL || ndim < 0 || (ndim > 0 && sizes == NULL))
    return dsc_fail(DISCO_VALUE, "disco_value_shape needs 0 or more sizes and a place for its result");
  if (ndim > 8) args = dsc_alloc((size_t)ndim * sizeof(*args), "the sizes of a shape");
  if (args == NULL) return DISCO_MEMORY;
  for (int32_t i = 0; i < ndim; i++) args[i] = dsc_int(sizes[i]);
  disco_status status = dsc_function_find("ffi.Shape", &make);
  if (status == DISCO_OK && make == NULL) status = dsc_fail(DISCO_RUNTIME, "TVM-FFI has no function ffi.Shape");
  *ret_shape = dsc_none();
  if (status == DISCO_OK && TVMFFIFunctionCall(make, args, ndim, ret_shape) != 0)
    status = dsc_error_take_raised(DISCO_RUNTIME);
  if (make != NULL) dsc_object_unref(make);
  if (args != few) free(args);
  return status;
}

void disco_value_unref(TVMFFIAny *value) { dsc_value_drop(value); }

DLTensor *disco_value_tensor(const TVMFFIAny *value) {
  return value->type_index == kTVMFFIDLTensorPtr ? value->v_ptr : dsc_tensor_of(value);
}

const char *disco_value_text(const TVMFFIAny *value, size_t *ret_bytes) {
  TVMFFIByteArray text = {NULL, 0};
  const bool is_bytes = value->type_index == kTVMFFIByteArrayPtr || value->type_index == kTVMFFISmallBytes ||
                        value->type_index == kTVMFFIBytes;
  if (is_bytes || !dsc_value_string(value, &text)) text = (TVMFFIByteArray){NULL, 0};
  if (ret_bytes != NULL) *ret_bytes = text.size;
  return text.data;
}

disco_status disco_capsule_create(const char *name, void *pointer, void (*destructor)(void *pointer),
                                  TVMFFIObjectHandle *ret_capsule) {
  if (ret_capsule == NULL) return dsc_fail(DISCO_VALUE, "disco_capsule_create needs a place for its result");
  disco_status status = dsc_startup_status(); /* the type is registered there */
  return status == DISCO_OK ? dsc_capsule_create(name, pointer, destructor, ret_capsule) : status;
}

disco_status disco_capsule_get(const TVMFFIAny *value, const char *name, void **ret_pointer) {
  if (value == NULL || name == NULL || ret_pointer == NULL)
    return dsc_fail(DISCO_VALUE, "disco_capsule_get needs a value, a name and a place for its result");
  return dsc_capsule_get(value, name, ret_pointer);
}
