/* Bodies of include/disco/value.h. */
#include "disco/value.h"

#include "api/startup.h"
#include "ffi/capsule.h"
#include "ffi/tensor.h"
#include "ffi/value.h"

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
