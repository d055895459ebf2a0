/* What a rank's waits have in common, in a communicator (comm.c) and in a pair (pair.c). The rank's thread only. */
#ifndef DSC_CCL_RANK_H
#define DSC_CCL_RANK_H

#include "ccl/plane.h"

/* How long the echo of another rank's error waits until that one is written; it takes microseconds, unless its function
 * goes on. */
enum { DSC_RANK_CULPRIT_MS = 10 };

/* How often a rank that sleeps looks around: after 1 ms, then after twice as long each time. */
enum { DSC_RANK_FIRST_TICK_NS = 1000 * 1000, DSC_RANK_LONGEST_TICK_NS = 256 * 1000 * 1000 };
static inline int64_t dsc_rank_next_tick(int64_t tick_ns) {
  return tick_ns < DSC_RANK_LONGEST_TICK_NS ? tick_ns * 2 : tick_ns;
}

/* Wake `worker` if it sleeps in a wait. After the news and a fence, while host->sleepers is not 0. */
static inline void dsc_rank_ring(const dsc_ccl_host *host, int32_t worker) {
  dsc_doorbell *bell = host->bell(host, worker);
  if (dsc_doorbell_must_ring(bell)) dsc_doorbell_ring(bell);
}

/* This rank is about to sleep, for the first time in a wait; it is awake again. */
static inline void dsc_rank_sleeps(const dsc_ccl_host *host) {
  atomic_fetch_add(host->sleepers, 1);
  host->waits(host, true);
}
static inline void dsc_rank_woke(const dsc_ccl_host *host) {
  atomic_fetch_sub(host->sleepers, 1);
  host->waits(host, false);
}

/* Does the session end, so that everybody leaves? */
static inline bool dsc_rank_is_over(const dsc_ccl_host *host) {
  return dsc_load_acquire(host->over) == host->over_value; /* acquire: segment.fault */
}

/* Why `worker` will not come: "worker 2 failed in command 7 (ValueError: ...)". */
void dsc_rank_why(const dsc_ccl_host *host, int32_t worker, const dsc_member_state *state, char *text, size_t room);

#endif
