/* C11 atomics named by their memory order, so that a call site reads as its contract. Every acquire in the tree names
 * the release it pairs with by a label in a comment. */
#ifndef DSC_BASE_ATOMICS_H
#define DSC_BASE_ATOMICS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define DSC_CACHE_LINE 64

#define dsc_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define dsc_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define dsc_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define dsc_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define dsc_add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define dsc_add_acq_rel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define dsc_exchange_acq_rel(p, v) atomic_exchange_explicit((p), (v), memory_order_acq_rel)

/* Compare-and-swap; *expected is replaced by what was seen on failure. Sequentially consistent: the callers that need
 * less are not hot. */
#define dsc_cas(p, expected, desired) atomic_compare_exchange_strong((p), (expected), (desired))

/* A store before the fence is visible to whoever's load after its own fence comes later: the sleeper / waker handshake.
 * TSan has no model of fences, but nothing it checks (happens-before of data) rests on this one: it only orders flags.
 */
static inline void dsc_fence(void) {
#if DSC_TSAN
  static _Atomic int word;
  atomic_fetch_add(&word, 0);
#else
  atomic_thread_fence(memory_order_seq_cst);
#endif
}

static inline void dsc_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

/* A counter with one writer at a time: a plain add that other threads may read. */
static inline void dsc_bump(_Atomic uint64_t *counter, uint64_t by) {
  dsc_store_relaxed(counter, dsc_load_relaxed(counter) + by);
}

#endif
