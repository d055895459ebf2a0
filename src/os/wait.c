#include "os/wait.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/inject.h"
#include "os/cpu.h"

/* Shared futexes everywhere: worker processes sleep on the same words. */
static void futex_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns) {
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  (void)syscall(SYS_futex, word, FUTEX_WAIT, seen, timeout_ns == INT64_MAX ? NULL : &timeout, NULL, 0);
  /* woken, changed already, interrupted or timed out: the caller looks again in every case */
}

static void futex_wake(_Atomic uint32_t *word, int count) {
  (void)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

void dsc_doorbell_ring(dsc_doorbell *doorbell) {
  atomic_fetch_add(&doorbell->bell, 1); /* release: doorbell.bell */
  futex_wake(&doorbell->bell, INT_MAX);
}

enum { SPINS_PER_LOOK = 64, MIN_SPIN_NS = 2000, YIELDS_CROWDED = 16 };

void dsc_patience_init(dsc_patience *patience, int32_t threads, uint32_t spin_us) {
  bool fits = threads <= dsc_cpu_allowed();
  patience->max_spin_ns = fits ? (int64_t)spin_us * 1000 : 0;
  dsc_store_relaxed(&patience->spin_ns, patience->max_spin_ns);
  patience->yields = fits ? 0 : YIELDS_CROWDED;
}

static disco_status check(dsc_guard *guard) {
  return guard != NULL && guard->check != NULL ? guard->check(guard) : DISCO_OK;
}

/* Busy phase: true when the condition came true in it. Spinning is cut into pieces of about a microsecond with a yield
 * between them: it costs little when nobody else wants this CPU, and everything when the one that is waited for does.
 */
static bool spin(dsc_wait *wait, dsc_patience *patience, dsc_guard *guard, disco_status *status) {
  int64_t budget = dsc_load_relaxed(&patience->spin_ns);
  int64_t end = budget > 0 ? dsc_clock_now_ns() + budget : 0;
  for (uint32_t i = 0; budget > 0 || i < patience->yields; i++) {
    for (int k = 0; k < (budget > 0 ? SPINS_PER_LOOK : 1); k++) {
      if (wait->ready(wait)) {
        if (budget > 0 && budget != patience->max_spin_ns) dsc_store_relaxed(&patience->spin_ns, patience->max_spin_ns);
        return true;
      }
      dsc_cpu_relax();
    }
    if ((*status = check(guard)) != DISCO_OK) return false;
    if (budget > 0 && dsc_clock_now_ns() >= end) {
      /* It did not pay: spin for half as long next time, but never stop trying altogether. */
      dsc_store_relaxed(&patience->spin_ns, budget / 2 > MIN_SPIN_NS ? budget / 2 : MIN_SPIN_NS);
      return false;
    }
    sched_yield();
  }
  return false;
}

/* One sleep: at most until the next tick or the deadline. */
static disco_status sleep_once(dsc_wait *wait, dsc_guard *guard, int64_t *next_tick) {
  dsc_doorbell *doorbell = wait->doorbell;
  uint32_t seen = dsc_load_acquire(&doorbell->bell); /* acquire: doorbell.bell */
  dsc_store_relaxed(&doorbell->asleep, 1);
  if (wait->arm != NULL) wait->arm(wait);
  dsc_fence(); /* say so, then look: pairs with the waker's store, fence, look who sleeps */
  DSC_POINT("worker.before_sleep");
  disco_status status = DISCO_OK;
  if (!wait->ready(wait) && (status = check(guard)) == DISCO_OK && !(wait->asleep != NULL && wait->asleep(wait))) {
    int64_t until = guard != NULL ? guard->deadline_ns : DSC_NO_DEADLINE, now = 0;
    if (*next_tick < until) until = *next_tick;
    if (until != INT64_MAX) now = dsc_clock_now_ns();
    if (until > now) {
      wait->sleeps++;
      futex_wait(&doorbell->bell, seen, until == INT64_MAX ? INT64_MAX : until - now);
    }
  }
  return status;
}

disco_status dsc_wait_until(dsc_wait *wait, dsc_patience *patience, dsc_guard *guard) {
  if (wait->ready(wait)) return DISCO_OK;
  disco_status status = check(guard);
  if (status != DISCO_OK) return status;
  if (spin(wait, patience, guard, &status)) return DISCO_OK;
  bool ticks = guard != NULL && guard->tick != NULL && guard->tick_ns > 0;
  int64_t next_tick = ticks ? dsc_clock_now_ns() + guard->tick_ns : INT64_MAX;
  while (status == DISCO_OK && !wait->ready(wait)) {
    status = sleep_once(wait, guard, &next_tick);
    if (status != DISCO_OK || guard == NULL || wait->ready(wait)) continue;
    if (ticks && dsc_clock_now_ns() >= next_tick) {
      status = guard->tick(guard);
      next_tick = dsc_clock_now_ns() + guard->tick_ns;
    }
    if (status == DISCO_OK && guard->deadline_ns != DSC_NO_DEADLINE && dsc_clock_now_ns() >= guard->deadline_ns &&
        !wait->ready(wait))
      status = DISCO_TIMEOUT; /* the caller knows what it waited for and writes the sentence */
  }
  return status;
}

disco_status dsc_lock_take_slowly(dsc_lock *lock, dsc_guard *guard) {
  enum { SPINS = 100 };
  for (int i = 0; i < SPINS; i++) {
    if (dsc_lock_try(lock)) return DISCO_OK;
    dsc_cpu_relax();
  }
  int64_t tick_ns = guard != NULL && guard->tick_ns > 0 ? guard->tick_ns : INT64_MAX;
  while (atomic_exchange(&lock->word, 2) != 0) { /* acquire: lock.word */
    int64_t timeout = tick_ns;
    if (guard != NULL && guard->deadline_ns != DSC_NO_DEADLINE) {
      int64_t left = guard->deadline_ns - dsc_clock_now_ns();
      if (left <= 0) return DISCO_TIMEOUT;
      if (left < timeout) timeout = left;
    }
    futex_wait(&lock->word, 2, timeout);
    if (guard != NULL && guard->tick != NULL) {
      disco_status status = guard->tick(guard);
      if (status != DISCO_OK) return status;
    }
  }
  return DISCO_OK;
}

void dsc_lock_wake(dsc_lock *lock) { futex_wake(&lock->word, 1); }
