/* TVM-FFI through its C functions alone, for programs that know no header of libdisco. */
#ifndef DISCO_TESTS_REGISTRY_FFI_H
#define DISCO_TESTS_REGISTRY_FFI_H

#include <stdbool.h>
#include <stdint.h>
#include <tvm/ffi/c_api.h>

enum { DREF = 114 }; /* the one fixed type index of Disco */

/* ---- Values. Those that hold objects are owned: drop() them. ---- */
TVMFFIAny none(void);
TVMFFIAny integer(int64_t number);
TVMFFIAny boolean(bool truth);
TVMFFIAny real(double number);
TVMFFIAny text(const char *string);     /* owned: small, or an object */
TVMFFIAny borrowed(const char *string); /* a RawStr */
TVMFFIAny device(int type, int id);
TVMFFIAny dtype(int code, int bits);
TVMFFIAny shape(int count, const int64_t *sizes);
/* A tensor on memory of the caller's, which must outlive it; strides in elements or NULL. */
TVMFFIAny tensor(void *data, uint64_t byte_offset, int bits, int32_t ndim, const int64_t *sizes,
                 const int64_t *strides);
TVMFFIAny function(TVMFFISafeCallType call, void *self, void (*deleter)(void *));
void drop(TVMFFIAny *value);
TVMFFIAny again(TVMFFIAny value); /* one more reference */
uint32_t references(TVMFFIAny value);

/* Is it the string `expected`? */
bool is_text(TVMFFIAny value, const char *expected);
const char *type_key(TVMFFIAny value);

/* ---- Global functions ---- */
bool registered(const char *name);
void register_global(const char *name, TVMFFISafeCallType call);

/* Call name(args...), with at least one argument in CALL: the result is owned. On failure None, and failed_kind() and
 * failed_message() say why (until the next call). */
TVMFFIAny call_array(const char *name, TVMFFIAny *args, int count);
#define CALL(name, ...) \
  call_array(name, (TVMFFIAny[]){__VA_ARGS__}, (int)(sizeof((TVMFFIAny[]){__VA_ARGS__}) / sizeof(TVMFFIAny)))
const char *failed_kind(void); /* "" when the last call succeeded */
const char *failed_message(void);

/* Raise from a function, and return -1. */
int raise_error(const char *kind, const char *message);

#endif
