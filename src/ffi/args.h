/* Checking the arguments of a function that TVM-FFI calls: the sentences that its typed C++ functions use. */
#ifndef DSC_FFI_ARGS_H
#define DSC_FFI_ARGS_H

#include <tvm/ffi/c_api.h>

#include "base/status.h"

/* DISCO_TYPE "Mismatched number of arguments when calling ..." unless given == wanted. */
disco_status dsc_args_count(const char *function, int32_t given, int32_t wanted);
/* DISCO_TYPE "Mismatched type on argument #i when calling ..."; counts from 0. */
disco_status dsc_args_mismatch(const char *function, int32_t index, const char *expected, const TVMFFIAny *got);

/* The same, and behind it what the parameters are called. */
disco_status dsc_args_count_named(const char *function, int32_t given, int32_t wanted, const char *parameters);
disco_status dsc_args_mismatch_named(const char *function, int32_t index, const char *parameter, const char *expected,
                                     const TVMFFIAny *got);

#endif
