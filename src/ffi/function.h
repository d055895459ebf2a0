/* TVM-FFI functions and the global registry, which has no lock of its own: look-ups for thread workers happen on the
 * controller's thread where they can. */
#ifndef DSC_FFI_FUNCTION_H
#define DSC_FFI_FUNCTION_H

#include <stdbool.h>
#include <tvm/ffi/c_api.h>

#include "base/status.h"
#include "base/text.h"

/* The global function `name` (owned) or NULL in *ret_function when there is none. A name runtime.disco.x that nobody
 * has taken is libdisco.x: so libdisco finds its own functions where they were not published (api/startup.c). */
disco_status dsc_function_find(const char *name, TVMFFIObject **ret_function);
/* Register a C function as the global function `name`; a taken name without `override` is DISCO_VALUE. */
disco_status dsc_function_register(const char *name, TVMFFISafeCallType function, void *self,
                                   void (*self_deleter)(void *), bool override);
/* Offer every registered name that starts with `prefix` to `visit`. */
disco_status dsc_function_each_name(const char *prefix, void (*visit)(void *context, const char *name), void *context);
/* "Unknown function `x`; did you mean ...?" into text. */
void dsc_function_unknown(const char *name, dsc_text *text);

static inline TVMFFIFunctionCell *dsc_function_cell(TVMFFIObject *function) {
  return (TVMFFIFunctionCell *)(function + 1);
}

#endif
