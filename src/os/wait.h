/* Waiting: spin, then yield, then sleep on a futex, with the guard asked in every phase.
 *
 * Doorbell: whoever waits sets `asleep`, fences, looks again, and sleeps on `bell`; whoever has news stores it, fences,
 * and if `asleep` is set takes it back and rings. So a burst of news makes one system call, however long the woken
 * threads take to run. models/doorbell.pml proves that no wake is lost. The words live in the session's segment (shared
 * with processes). */
#ifndef DSC_OS_WAIT_H
#define DSC_OS_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/guard.h"

typedef struct {
  _Atomic uint32_t bell;   /* counts rings; the futex word */
  _Atomic uint32_t asleep; /* somebody sleeps, or is about to; may stay set when the last of them left by a timeout */
} dsc_doorbell;

/* Wake every sleeper, without looking whether there is one: one system call. Any thread. */
void dsc_doorbell_ring(dsc_doorbell *doorbell);

/* After the news and a fence: true if somebody sleeps, and it is now the caller's duty to ring. Any thread. */
static inline bool dsc_doorbell_must_ring(dsc_doorbell *doorbell) {
  return dsc_load_relaxed(&doorbell->asleep) != 0 && atomic_exchange(&doorbell->asleep, 0) != 0;
}

/* How long a waiting thread stays busy before it sleeps: learns from the last waits of its kind. May be shared by
 * threads: it is a hint. */
typedef struct {
  _Atomic int64_t spin_ns; /* the present budget */
  int64_t max_spin_ns;     /* 0: the threads do not fit the CPUs, never spin */
  _Atomic int32_t yields;  /* how often to yield before sleeping, when it does not spin; below 0: waits to skip before
                              trying again */
  int32_t
      pauses; /* between two looks while spinning: 1, or more so that the writer keeps its line for several stores */
} dsc_patience;

/* `threads`: how many threads of this process and its workers want a CPU at once. Oversubscribed ones yield at once. */
void dsc_patience_init(dsc_patience *patience, int32_t threads, uint32_t spin_us);

/* What is waited for. */
typedef struct dsc_wait dsc_wait;
struct dsc_wait {
  bool (*ready)(dsc_wait *wait); /* the condition: cheap, called often */
  void (*arm)(dsc_wait *wait);   /* before each sleep: tell the waker to ring (may be NULL); a fence follows */
  /* Armed and about to sleep: how long at most, in ns (may be NULL). 0: go round again; INT64_MAX: until the bell. */
  int64_t (*before_sleep)(dsc_wait *wait);
  dsc_doorbell *doorbell;
  uint64_t sleeps; /* out: how often it slept */
};

/* Returns DISCO_OK when ready, else the guard's status. */
disco_status dsc_wait_until(dsc_wait *wait, dsc_patience *patience, dsc_guard *guard);

/* A lock that can be waited for under a guard. Not recursive. Zeroed = open. */
typedef struct {
  _Atomic uint32_t word; /* 0 open, 1 held, 2 held and waited for */
} dsc_lock;

static inline bool dsc_lock_try(dsc_lock *lock) {
  uint32_t open = 0;
  return dsc_load_relaxed(&lock->word) == 0 && dsc_cas(&lock->word, &open, 1); /* acquire: lock.word */
}
/* The guard may be NULL: then it waits until it has the lock. */
disco_status dsc_lock_take_slowly(dsc_lock *lock, dsc_guard *guard);
static inline disco_status dsc_lock_take(dsc_lock *lock, dsc_guard *guard) {
  return dsc_lock_try(lock) ? DISCO_OK : dsc_lock_take_slowly(lock, guard);
}
void dsc_lock_wake(dsc_lock *lock);
static inline void dsc_lock_give(dsc_lock *lock) {
  if (atomic_exchange(&lock->word, 0) == 2) dsc_lock_wake(lock); /* release: lock.word */
}

#endif
