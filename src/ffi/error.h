/* TVM-FFI errors and libdisco's status codes: each way. Any thread. */
#ifndef DSC_FFI_ERROR_H
#define DSC_FFI_ERROR_H

#include <stdarg.h>
#include <tvm/ffi/c_api.h>

#include "base/status.h"

/* The parts of an error object, borrowed from it. */
typedef struct {
  TVMFFIByteArray kind, message, backtrace;
} dsc_error_parts;

/* Take the error that a function returning -1 left in this thread (owned, or NULL if it left none). */
TVMFFIObject *dsc_error_raised(void);
void dsc_error_drop_raised(void);
void dsc_error_parts_of(const TVMFFIObject *error, dsc_error_parts *ret_parts);
/* Turn it into this thread's libdisco error (the kind is kept) and return `status`. */
disco_status dsc_error_take_raised(disco_status status);
disco_status dsc_error_take_object(disco_status status, TVMFFIObject *error /* owned */);

/* Raise this thread's libdisco error as a TVM-FFI error and return -1: the end of a function that TVM-FFI called. The
 * message is the full text, without the kind where Python prints it as its class. */
int dsc_error_raise_status(disco_status status);
/* Raise kind and message; an empty backtrace, which costs 0.1 us (a C stack would cost 140 ms once). Returns -1. */
int dsc_error_raise(const char *kind, const char *message, size_t message_size, const char *backtrace);

/* The same with a format. */
int dsc_error_raisev(const char *kind, const char *format, va_list args) DISCO_PRINTF(2, 0);

/* Poll the host language's signals (Python's): DISCO_OK, or DISCO_INTERRUPTED with the error still pending there. */
disco_status dsc_error_check_signals(void);

#endif
