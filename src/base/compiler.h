/* What the compiler is asked: hints for hot paths (used where callgrind showed that they count), and which sanitizers
 * it builds for. */
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

/* 0 or 1. gcc says it by macros, clang by features. */
#if defined(__has_feature)
#define DSC_HAS_SANITIZER(name) __has_feature(name)
#else
#define DSC_HAS_SANITIZER(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || DSC_HAS_SANITIZER(address_sanitizer)
#define DSC_ASAN 1
#else
#define DSC_ASAN 0
#endif
#if defined(__SANITIZE_THREAD__) || DSC_HAS_SANITIZER(thread_sanitizer)
#define DSC_TSAN 1
#else
#define DSC_TSAN 0
#endif
#define DSC_SANITIZED (DSC_ASAN || DSC_TSAN || DSC_HAS_SANITIZER(memory_sanitizer))

#endif
