/* The functions runtime.disco.* that run on workers: name -> function. The only list of them. */
#ifndef DSC_BUILTIN_TABLE_H
#define DSC_BUILTIN_TABLE_H

#include <tvm/ffi/c_api.h>

typedef struct {
  const char *name; /* whole */
  TVMFFISafeCallType function;
  void *self; /* what the function is called with */
} dsc_builtin;

extern const dsc_builtin dsc_builtins[];
extern const int dsc_builtin_count;

#endif
