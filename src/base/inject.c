#include "base/inject.h"

#include "base/atomics.h"

#if defined(DISCO_INJECT) && DISCO_INJECT
#include <stddef.h>

static _Atomic(dsc_inject_fn) hook;
static _Atomic(void *) hook_context;
static _Atomic long countdown, counted;

void dsc_inject_set(dsc_inject_fn fn, void *context) {
  atomic_store(&hook_context, context);
  atomic_store(&hook, fn);
}

void dsc_inject_point(const char *point) {
  dsc_inject_fn fn = atomic_load(&hook);
  if (fn != NULL) fn(point, atomic_load(&hook_context));
}

long dsc_inject_fail_allocation(long n) {
  atomic_store(&countdown, n);
  return atomic_exchange(&counted, 0);
}

int dsc_inject_allocation_fails(void) {
  atomic_fetch_add(&counted, 1);
  return atomic_load(&countdown) > 0 && atomic_fetch_sub(&countdown, 1) == 1;
}
#else
typedef int dsc_inject_is_compiled_out; /* an empty file is no C */
#endif
