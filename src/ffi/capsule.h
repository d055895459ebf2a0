/* A pointer of the user's own as a TVM-FFI object (disco/value.h). Any thread. */
#ifndef DSC_FFI_CAPSULE_H
#define DSC_FFI_CAPSULE_H

#include <tvm/ffi/c_api.h>

#include "base/status.h"

/* DISCO_VALUE: the name is missing, empty or too long; DISCO_MEMORY. */
disco_status dsc_capsule_create(const char *name, void *pointer, void (*destructor)(void *pointer),
                                TVMFFIObjectHandle *ret_capsule);
/* DISCO_TYPE: no capsule of this library, or of another name. */
disco_status dsc_capsule_get(const TVMFFIAny *value, const char *name, void **ret_pointer);

#endif
