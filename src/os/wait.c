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

enum {
  SPINS_PER_LOOK = 64,
  MIN_SPIN_NS = 2000,
  MAX_YIELDS = 16,
  LONG_YIELD_NS = 200 * 1000, /* a strange thread got the CPU and kept it: workers take turns in microseconds */
  WAITS_WITHOUT_YIELD = 64,
};

void dsc_patience_init(dsc_patience *patience, int32_t threads, uint32_t spin_us) {
  bool fits = threads <= dsc_cpu_allowed();
  patience->max_spin_ns = fits ? (int64_t)spin_us * 1000 : 0;
  dsc_store_relaxed(&patience->spin_ns, patience->max_spin_ns);
  dsc_store_relaxed(&patience->yields, MAX_YIELDS);
  patience->pauses = 1;
}

static disco_status check(dsc_guard *guard) {
  return guard != NULL && guard->check != NULL ? guard->check(guard) : DISCO_OK;
}

/* Give the CPU away once. False when that took long and brought nothing: then strangers have it, and sleeping, from
 * which a wake preempts them, is the better way to wait. When it took long and brought news, it was the one that makes
 * them. */
static bool yield_once(dsc_wait *wait, dsc_patience *patience) {
  int64_t before = dsc_clock_now_ns();
  sched_yield();
  if (dsc_clock_now_ns() - before < LONG_YIELD_NS || wait->ready(wait)) return true;
  dsc_store_relaxed(&patience->yields, -WAITS_WITHOUT_YIELD);
  return false;
}

/* Spinning is cut into pieces of about a microsecond with a yield between them: it costs little when nobody else wants
 * this CPU, and everything when the one that is waited for does. True when the condition came true. */
static bool spin(dsc_wait *wait, dsc_patience *patience, dsc_guard *guard, disco_status *status) {
  int64_t budget = dsc_load_relaxed(&patience->spin_ns), end = dsc_clock_now_ns() + budget;
  const int pauses = patience->pauses;
  for (;;) {
    for (int spins = 0; spins < SPINS_PER_LOOK; spins += pauses) {
      if (wait->ready(wait)) {
        if (budget != patience->max_spin_ns) dsc_store_relaxed(&patience->spin_ns, patience->max_spin_ns);
        return true;
      }
      for (int i = 0; i < pauses; i++) dsc_cpu_relax();
    }
    if ((*status = check(guard)) != DISCO_OK) return false;
    if (dsc_clock_now_ns() >= end) {
      /* It did not pay: spin for half as long next time, but never stop trying altogether. */
      dsc_store_relaxed(&patience->spin_ns, budget / 2 > MIN_SPIN_NS ? budget / 2 : MIN_SPIN_NS);
      return false;
    }
    if (!yield_once(wait, patience)) return wait->ready(wait);
  }
}

/* More threads than CPUs: whoever waits makes room for those that work. */
static bool yield(dsc_wait *wait, dsc_patience *patience, int32_t yields, dsc_guard *guard, disco_status *status) {
  for (int32_t i = 0; i < yields; i++) {
    if (wait->ready(wait)) return true;
    if ((*status = check(guard)) != DISCO_OK) return false;
    if (!yield_once(wait, patience)) break;
  }
  return wait->ready(wait);
}

/* Strangers want the CPUs: a yield would queue behind them, and a sleep costs both sides microseconds. News of a stream
 * come sooner than that. */
static bool look_briefly(dsc_wait *wait) {
  enum { LOOKS = 48 }; /* about 2 us */
  for (int i = 0; i < LOOKS; i++) {
    if (wait->ready(wait)) return true;
    dsc_cpu_relax();
  }
  return false;
}

/* The busy phase of a wait. */
static bool stay_awake(dsc_wait *wait, dsc_patience *patience, dsc_guard *guard, disco_status *status) {
  int32_t yields = dsc_load_relaxed(&patience->yields);
  if (yields < 0) { /* for a while; then try again */
    dsc_store_relaxed(&patience->yields, yields == -1 ? MAX_YIELDS : yields + 1);
    return look_briefly(wait);
  }
  return patience->max_spin_ns > 0 ? spin(wait, patience, guard, status) : yield(wait, patience, yields, guard, status);
}

/* One sleep: at most until the next tick or the deadline. */
static disco_status sleep_once(dsc_wait *wait, dsc_guard *guard, int64_t next_tick) {
  dsc_doorbell *doorbell = wait->doorbell;
  uint32_t seen = dsc_load_acquire(&doorbell->bell); /* acquire: doorbell.bell */
  dsc_store_relaxed(&doorbell->asleep, 1);
  if (wait->arm != NULL) wait->arm(wait);
  dsc_fence(); /* say so, then look: pairs with the waker's store, fence, look who sleeps */
  DSC_POINT("worker.before_sleep");
  if (wait->ready(wait)) return DISCO_OK;
  disco_status status = check(guard);
  if (status != DISCO_OK) return status;
  int64_t longest = wait->before_sleep != NULL ? wait->before_sleep(wait) : INT64_MAX;
  int64_t until = guard != NULL && guard->deadline_ns < next_tick ? guard->deadline_ns : next_tick;
  if (until != INT64_MAX) {
    int64_t left = until - dsc_clock_now_ns();
    if (left < longest) longest = left;
  }
  if (longest > 0) {
    wait->sleeps++;
    futex_wait(&doorbell->bell, seen, longest);
  }
  return DISCO_OK;
}

disco_status dsc_wait_until(dsc_wait *wait, dsc_patience *patience, dsc_guard *guard) {
  if (wait->ready(wait)) return DISCO_OK;
  disco_status status = check(guard);
  if (status != DISCO_OK) return status;
  if (stay_awake(wait, patience, guard, &status)) return DISCO_OK;
  bool ticks = guard != NULL && guard->tick != NULL && guard->tick_ns > 0;
  int64_t next_tick = ticks ? dsc_clock_now_ns() + guard->tick_ns : INT64_MAX;
  while (status == DISCO_OK && !wait->ready(wait)) {
    status = sleep_once(wait, guard, next_tick);
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
      if (left <= 0) {
        dsc_lock_wake(lock);
        return DISCO_TIMEOUT;
      }
      if (left < timeout) timeout = left;
    }
    futex_wait(&lock->word, 2, timeout);
    if (guard != NULL && guard->tick != NULL) {
      disco_status status = guard->tick(guard);
      if (status != DISCO_OK) {
        dsc_lock_wake(lock); /* we may have been the one that was woken: hand it on */
        return status;
      }
    }
  }
  return DISCO_OK;
}

void dsc_lock_wake(dsc_lock *lock) { futex_wake(&lock->word, 1); }
