#include "ffi/value.h"

#include <stdio.h>
#include <stdlib.h>

#include "ffi/error.h"

void dsc_object_dispose(TVMFFIObject *object, uint64_t count) {
  const uint64_t weak_one = (uint64_t)1 << 32;
  if (object->deleter == NULL) return; /* a static object */
  if (count == (1 | weak_one)) {
    object->deleter(object, kTVMFFIObjectDeleterFlagBitMaskBoth);
    return;
  }
  object->deleter(object, kTVMFFIObjectDeleterFlagBitMaskStrong);
  _Atomic uint64_t *counter = (_Atomic uint64_t *)&object->combined_ref_count;
  if (dsc_add_acq_rel(counter, (uint64_t)0 - weak_one) == weak_one)
    object->deleter(object, kTVMFFIObjectDeleterFlagBitMaskWeak);
}

bool dsc_value_string(const TVMFFIAny *value, TVMFFIByteArray *ret_string) {
  switch (value->type_index) {
  case kTVMFFIRawStr: *ret_string = (TVMFFIByteArray){value->v_c_str, strlen(value->v_c_str)}; return true;
  case kTVMFFIByteArrayPtr: *ret_string = *(const TVMFFIByteArray *)value->v_ptr; return true;
  case kTVMFFISmallStr:
  case kTVMFFISmallBytes: *ret_string = (TVMFFIByteArray){value->v_bytes, value->small_str_len}; return true;
  case kTVMFFIStr:
  case kTVMFFIBytes: *ret_string = *(const TVMFFIByteArray *)(value->v_obj + 1); return true;
  default: return false;
  }
}

disco_status dsc_value_from_string(const char *data, size_t size, TVMFFIAny *ret_value) {
  TVMFFIByteArray text = {data, size};
  TVMFFIAny value = dsc_none();
  if (TVMFFIStringFromByteArray(&text, &value) != 0) return dsc_error_take_raised(DISCO_MEMORY);
  *ret_value = value;
  return DISCO_OK;
}

disco_status dsc_value_own(const TVMFFIAny *value, const char *what, TVMFFIAny *ret_owned) {
  TVMFFIByteArray text;
  switch (value->type_index) {
  case kTVMFFIRawStr:
  case kTVMFFIByteArrayPtr:
    (void)dsc_value_string(value, &text);
    if (text.size > DSC_STRING_MAX)
      return dsc_fail(DISCO_VALUE, "%s is a string of %zu bytes; at most %zu can be sent", what, text.size,
                      DSC_STRING_MAX);
    TVMFFIAny owned = dsc_none();
    if ((value->type_index == kTVMFFIRawStr ? TVMFFIStringFromByteArray : TVMFFIBytesFromByteArray)(&text, &owned) != 0)
      return dsc_error_take_raised(DISCO_MEMORY);
    *ret_owned = owned;
    return DISCO_OK;
  case kTVMFFIObjectRValueRef: {
    /* The caller's slot stays as it is: several workers may each need a reference, so the object cannot be moved out.
     */
    TVMFFIObject *object = *(TVMFFIObject **)value->v_ptr;
    if (object == NULL) return dsc_fail(DISCO_TYPE, "%s is a moved reference whose object is gone", what);
    dsc_object_ref(object, 1);
    *ret_owned = dsc_object_value(object);
    return DISCO_OK;
  }
  case kTVMFFIDLTensorPtr:
    return dsc_fail(DISCO_TYPE, "%s is a borrowed DLTensor*, which would outlive its owner: pass a Tensor object",
                    what);
  default:
    if (value->type_index < 0 || value->type_index == kTVMFFIUnchanged)
      return dsc_fail(DISCO_TYPE, "%s has type index %d, which is no value", what, value->type_index);
    *ret_owned = dsc_value_copy(value);
    return DISCO_OK;
  }
}

const char *dsc_value_type_name(const TVMFFIAny *value) {
  static const char *const plain[] = {"None",
                                      "int",
                                      "bool",
                                      "float",
                                      "void*",
                                      "dtype",
                                      "Device",
                                      "DLTensor*",
                                      "const char*",
                                      "TVMFFIByteArray*",
                                      "ObjectRValueRef",
                                      "str",
                                      "bytes"};
  int32_t index = value->type_index;
  if (index >= 0 && index < (int32_t)(sizeof(plain) / sizeof(plain[0]))) return plain[index];
  if (!dsc_is_object(value)) return "unknown";
  const TVMFFITypeInfo *info = TVMFFIGetTypeInfo(value->v_obj->type_index); /* known: an object of the type exists */
  return info != NULL ? info->type_key.data : "object";
}

bool dsc_value_as_int(const TVMFFIAny *value, int64_t *ret_int) {
  if (value->type_index != kTVMFFIInt && value->type_index != kTVMFFIBool) return false;
  *ret_int = value->v_int64;
  return true;
}

bool dsc_value_as_bool(const TVMFFIAny *value, bool *ret_bool) {
  int64_t number;
  if (!dsc_value_as_int(value, &number)) return false;
  *ret_bool = number != 0;
  return true;
}

bool dsc_value_as_dtype(const TVMFFIAny *value, DLDataType *ret_dtype) {
  TVMFFIByteArray text;
  if (value->type_index == kTVMFFIDataType) {
    *ret_dtype = value->v_dtype;
    return true;
  }
  if (!dsc_value_string(value, &text)) return false;
  if (TVMFFIDataTypeFromString(&text, ret_dtype) == 0) return true;
  dsc_error_drop_raised();
  return false;
}

/* "cpu", "cpu:0", "cuda:1", ...: the names TVM gives to DLPack's devices. */
static bool device_from_text(const TVMFFIByteArray *text, DLDevice *ret_device) {
  static const struct {
    const char *name;
    DLDeviceType type;
  } names[] = {{"cpu", kDLCPU},       {"cuda", kDLCUDA},     {"cuda_host", kDLCUDAHost}, {"opencl", kDLOpenCL},
               {"vulkan", kDLVulkan}, {"metal", kDLMetal},   {"rocm", kDLROCM},          {"hexagon", kDLHexagon},
               {"webgpu", kDLWebGPU}, {"ext_dev", kDLExtDev}};
  char copy[32];
  if (text->size == 0 || text->size >= sizeof(copy)) return false;
  memcpy(copy, text->data, text->size);
  copy[text->size] = 0;
  char *colon = strchr(copy, ':'), *end = NULL;
  long id = 0;
  if (colon != NULL) {
    *colon = 0;
    id = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != 0 || id < 0 || id > INT32_MAX) return false;
  }
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    if (strcmp(copy, names[i].name) != 0) continue;
    *ret_device = (DLDevice){names[i].type, (int32_t)id};
    return true;
  }
  return false;
}

bool dsc_value_as_device(const TVMFFIAny *value, DLDevice *ret_device) {
  TVMFFIByteArray text;
  if (value->type_index == kTVMFFIDevice) {
    *ret_device = value->v_device;
    return true;
  }
  return dsc_value_string(value, &text) && device_from_text(&text, ret_device);
}

bool dsc_value_as_shape(const TVMFFIAny *value, int64_t *room, size_t room_size, const int64_t **ret_sizes,
                        size_t *ret_count) {
  if (value->type_index == kTVMFFIShape) {
    const TVMFFIShapeCell *cell = (const TVMFFIShapeCell *)(value->v_obj + 1);
    *ret_sizes = cell->data;
    *ret_count = cell->size;
    return true;
  }
  if (value->type_index != kTVMFFIArray && value->type_index != kTVMFFIList) return false;
  const TVMFFISeqCell *cell = (const TVMFFISeqCell *)(value->v_obj + 1);
  if ((size_t)cell->size > room_size) return false;
  for (int64_t i = 0; i < cell->size; i++)
    if (!dsc_value_as_int((const TVMFFIAny *)cell->data + i, &room[i])) return false;
  *ret_sizes = room;
  *ret_count = (size_t)cell->size;
  return true;
}
