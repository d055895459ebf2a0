/* Hints for hot paths: used where callgrind showed that they count. */
#ifndef DSC_BASE_COMPILER_H
#define DSC_BASE_COMPILER_H

#if defined(__GNUC__)
#define DSC_LIKELY(x) __builtin_expect(!!(x), 1)
#define DSC_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Errors: out of the way of the caller's registers. */
#define DSC_COLD __attribute__((noinline, cold))
#define DSC_HOT __attribute__((noinline, hot))
#else
#define DSC_LIKELY(x) (x)
#define DSC_UNLIKELY(x) (x)
#define DSC_COLD
#define DSC_HOT
#endif

#endif
