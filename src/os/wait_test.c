/* Locks and doorbells: no two in the lock, no lost wake, every wait ends by its guard, its deadline or its condition.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/inject.h"
#include "os/wait.h"

static int scale(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int value = text != NULL ? atoi(text) : 1;
  return value > 0 ? value : 1;
}

static const int64_t MS = 1000000;

static void nap_ms(int64_t ms) {
  struct timespec time = {ms / 1000, ms % 1000 * MS};
  nanosleep(&time, NULL);
}

/* ---- The lock ---- */

enum { THREADS = 4 };

typedef struct {
  dsc_lock lock;
  uint64_t count; /* under the lock, not atomic */
  int rounds;
} shared_count;

static void *count_up(void *argument) {
  shared_count *self = argument;
  for (int i = 0; i < self->rounds; i++) {
    (void)dsc_lock_take(&self->lock, NULL);
    self->count++;
    dsc_lock_give(&self->lock);
  }
  return NULL;
}

static void the_lock_lets_one_in(void **state) {
  (void)state;
  shared_count shared = {.rounds = 100000 / scale()};
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, count_up, &shared), 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  assert_int_equal(shared.count, (uint64_t)THREADS * (uint64_t)shared.rounds);
  assert_true(dsc_lock_try(&shared.lock));
  assert_false(dsc_lock_try(&shared.lock));
  dsc_lock_give(&shared.lock);
}

typedef struct {
  dsc_guard guard;
  int ticks, ends_at;
} ticking;

static disco_status tick(dsc_guard *guard) {
  ticking *self = (ticking *)guard;
  return ++self->ticks >= self->ends_at ? DISCO_INTERRUPTED : DISCO_OK;
}

static void a_guard_ends_the_wait_for_a_lock(void **state) {
  (void)state;
  dsc_lock lock = {0};
  assert_int_equal(dsc_lock_take(&lock, NULL), DISCO_OK);
  dsc_guard deadline = {.deadline_ns = dsc_clock_now_ns() + 20 * MS};
  assert_int_equal(dsc_lock_take(&lock, &deadline), DISCO_TIMEOUT);
  assert_true(dsc_clock_now_ns() >= deadline.deadline_ns);
  ticking guard = {.guard = {.tick = tick, .deadline_ns = DSC_NO_DEADLINE, .tick_ns = 5 * MS}, .ends_at = 3};
  assert_int_equal(dsc_lock_take(&lock, &guard.guard), DISCO_INTERRUPTED);
  assert_int_equal(guard.ticks, 3);
  dsc_lock_give(&lock);
  assert_int_equal(dsc_lock_take(&lock, &deadline), DISCO_OK); /* open: no deadline matters */
  dsc_lock_give(&lock);
}

typedef struct {
  dsc_lock lock;
  _Atomic int got;
} handed;

static void *take_once(void *argument) {
  handed *self = argument;
  (void)dsc_lock_take(&self->lock, NULL);
  dsc_add_acq_rel(&self->got, 1);
  dsc_lock_give(&self->lock);
  return NULL;
}

/* Those who gave up waiting must not take the wake of those who did not. */
static void every_waiter_gets_the_lock(void **state) {
  (void)state;
  handed shared = {0};
  pthread_t threads[THREADS];
  assert_int_equal(dsc_lock_take(&shared.lock, NULL), DISCO_OK);
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, take_once, &shared), 0);
  dsc_guard deadline = {.deadline_ns = dsc_clock_now_ns() + 10 * MS};
  assert_int_equal(dsc_lock_take(&shared.lock, &deadline), DISCO_TIMEOUT);
  assert_int_equal(dsc_load_acquire(&shared.got), 0);
  dsc_lock_give(&shared.lock);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  assert_int_equal(dsc_load_acquire(&shared.got), THREADS);
}

/* ---- Waiting on a doorbell ---- */

typedef struct {
  dsc_wait wait;
  _Atomic uint64_t *word;
  uint64_t target;
} word_wait;

static bool reached(dsc_wait *wait) {
  word_wait *self = (word_wait *)wait;
  return dsc_load_acquire(self->word) >= self->target;
}

static dsc_patience no_spin(void) {
  dsc_patience patience = {.yields = 1};
  return patience;
}

static void a_condition_that_holds_needs_no_wait(void **state) {
  (void)state;
  _Atomic uint64_t word = 5;
  dsc_doorbell bell = {0};
  dsc_patience patience = no_spin();
  dsc_guard guard = {.deadline_ns = 0}; /* long past */
  word_wait wait = {{.ready = reached, .doorbell = &bell}, &word, 5};
  assert_int_equal(dsc_wait_until(&wait.wait, &patience, &guard), DISCO_OK);
  assert_int_equal(wait.wait.sleeps, 0);
}

static void a_deadline_ends_the_wait(void **state) {
  (void)state;
  _Atomic uint64_t word = 0;
  dsc_doorbell bell = {0};
  dsc_patience patience;
  for (int spinning = 0; spinning < 2; spinning++) {
    dsc_patience_init(&patience, spinning ? 1 : INT32_MAX, 1000);
    dsc_guard guard = {.deadline_ns = dsc_clock_now_ns() + 30 * MS};
    word_wait wait = {{.ready = reached, .doorbell = &bell}, &word, 1};
    assert_int_equal(dsc_wait_until(&wait.wait, &patience, &guard), DISCO_TIMEOUT);
    assert_true(dsc_clock_now_ns() >= guard.deadline_ns);
  }
}

typedef struct {
  dsc_guard guard;
  _Atomic bool *fault;
} fault_guard;

static disco_status look_at_fault(dsc_guard *guard) {
  return dsc_load_acquire(((fault_guard *)guard)->fault) ? DISCO_LOST : DISCO_OK;
}

typedef struct {
  dsc_doorbell *bell;
  _Atomic bool *fault;
} fault_raiser;

static void *raise_later(void *argument) {
  fault_raiser *self = argument;
  nap_ms(30);
  dsc_store_release(self->fault, true);
  dsc_doorbell_ring(self->bell);
  return NULL;
}

static void a_fault_ends_the_wait(void **state) {
  (void)state;
  _Atomic uint64_t word = 0;
  _Atomic bool fault = false;
  dsc_doorbell bell = {0};
  dsc_patience patience = no_spin();
  fault_guard guard = {{.check = look_at_fault, .deadline_ns = DSC_NO_DEADLINE}, &fault};
  word_wait wait = {{.ready = reached, .doorbell = &bell}, &word, 1};
  fault_raiser raiser = {&bell, &fault};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, raise_later, &raiser), 0);
  assert_int_equal(dsc_wait_until(&wait.wait, &patience, &guard.guard), DISCO_LOST); /* from its sleep */
  pthread_join(thread, NULL);
  assert_int_equal(dsc_wait_until(&wait.wait, &patience, &guard.guard), DISCO_LOST); /* and at once */
}

static void a_wait_ticks(void **state) {
  (void)state;
  _Atomic uint64_t word = 0;
  dsc_doorbell bell = {0};
  dsc_patience patience = no_spin();
  ticking guard = {.guard = {.tick = tick, .deadline_ns = DSC_NO_DEADLINE, .tick_ns = 5 * MS}, .ends_at = 4};
  word_wait wait = {{.ready = reached, .doorbell = &bell}, &word, 1};
  int64_t start = dsc_clock_now_ns();
  assert_int_equal(dsc_wait_until(&wait.wait, &patience, &guard.guard), DISCO_INTERRUPTED);
  assert_int_equal(guard.ticks, 4);
  assert_true(dsc_clock_now_ns() - start >= 4 * guard.guard.tick_ns);
}

static int64_t go_round(dsc_wait *wait) {
  word_wait *self = (word_wait *)wait;
  return dsc_add_acq_rel(self->word, 1) < 3 ? 0 : INT64_MAX; /* work was found: look again instead of sleeping */
}

static void what_is_found_before_the_sleep_saves_it(void **state) {
  (void)state;
  _Atomic uint64_t word = 0;
  dsc_doorbell bell = {0};
  dsc_patience patience = no_spin();
  word_wait wait = {{.ready = reached, .before_sleep = go_round, .doorbell = &bell}, &word, 3};
  assert_int_equal(dsc_wait_until(&wait.wait, &patience, NULL), DISCO_OK);
  assert_int_equal(wait.wait.sleeps, 0);
}

static void nobody_asleep_needs_no_ring(void **state) {
  (void)state;
  dsc_doorbell bell = {0};
  assert_false(dsc_doorbell_must_ring(&bell));
  dsc_store_relaxed(&bell.asleep, 1);
  assert_true(dsc_doorbell_must_ring(&bell));
  assert_false(dsc_doorbell_must_ring(&bell)); /* one ring for a burst of news */
  dsc_doorbell_ring(&bell);
  assert_int_equal(bell.bell, 1);
}

/* ---- News at the two moments where a wake could be lost ---- */

static void news_without_a_ring(const char *point, void *context) {
  if (strcmp(point, "worker.before_sleep") == 0) dsc_store_release((_Atomic uint64_t *)context, 1);
}

/* The waker looked just before the sleeper said that it sleeps, so it did not ring. */
static void news_before_the_last_look_are_seen(void **state) {
  (void)state;
  _Atomic uint64_t word = 0;
  dsc_doorbell bell = {0};
  dsc_patience patience = no_spin();
  dsc_guard guard = {.deadline_ns = dsc_clock_now_ns() + 2000 * MS};
  word_wait wait = {{.ready = reached, .doorbell = &bell}, &word, 1};
  dsc_inject_set(news_without_a_ring, &word);
  disco_status status = dsc_wait_until(&wait.wait, &patience, &guard);
  dsc_inject_set(NULL, NULL);
  assert_int_equal(status, DISCO_OK);
  assert_int_equal(wait.wait.sleeps, 0);
}

static int64_t ring_now(dsc_wait *wait) {
  dsc_store_release(((word_wait *)wait)->word, 1);
  dsc_fence();
  assert_true(dsc_doorbell_must_ring(wait->doorbell)); /* it has said that it sleeps */
  dsc_doorbell_ring(wait->doorbell);
  return INT64_MAX;
}

/* The ring comes after the last look, before the sleep. */
static void a_ring_before_the_sleep_ends_it(void **state) {
  (void)state;
  _Atomic uint64_t word = 0;
  dsc_doorbell bell = {0};
  dsc_patience patience = no_spin();
  dsc_guard guard = {.deadline_ns = dsc_clock_now_ns() + 2000 * MS};
  word_wait wait = {{.ready = reached, .before_sleep = ring_now, .doorbell = &bell}, &word, 1};
  assert_int_equal(dsc_wait_until(&wait.wait, &patience, &guard), DISCO_OK);
  assert_true(dsc_clock_now_ns() < guard.deadline_ns);
}

/* ---- No wake is lost: two sides that answer each other, asleep nearly every time ---- */

typedef struct {
  _Atomic uint64_t ping, pong[THREADS];
  dsc_doorbell to_players, to_server;
  int rounds;
} table;

typedef struct {
  table *table;
  int seat;
  disco_status status;
  uint64_t sleeps;
} player;

/* News are stored: fence, and ring if somebody sleeps. */
static void tell(dsc_doorbell *doorbell) {
  dsc_fence();
  if (dsc_doorbell_must_ring(doorbell)) dsc_doorbell_ring(doorbell);
}

static const int64_t LOST_NS = 20000000000; /* a lost wake would be for ever; this says so in time */

static void *play(void *argument) {
  player *self = argument;
  table *t = self->table;
  dsc_patience patience = no_spin();
  for (int i = 1; i <= t->rounds && self->status == DISCO_OK; i++) {
    word_wait wait = {{.ready = reached, .doorbell = &t->to_players}, &t->ping, (uint64_t)i};
    dsc_guard guard = {.deadline_ns = dsc_clock_now_ns() + LOST_NS};
    self->status = dsc_wait_until(&wait.wait, &patience, &guard);
    self->sleeps += wait.wait.sleeps;
    dsc_store_release(&t->pong[self->seat], (uint64_t)i);
    tell(&t->to_server);
  }
  return NULL;
}

static void play_rounds(int players, int rounds) {
  table t = {.rounds = rounds};
  player all[THREADS] = {{0}};
  pthread_t threads[THREADS];
  dsc_patience patience = no_spin();
  disco_status status = DISCO_OK;
  for (int i = 0; i < players; i++) {
    all[i] = (player){&t, i, DISCO_OK, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, play, &all[i]), 0);
  }
  for (int i = 1; i <= rounds && status == DISCO_OK; i++) {
    dsc_store_release(&t.ping, (uint64_t)i);
    tell(&t.to_players);
    for (int k = players - 1; k >= 0 && status == DISCO_OK; k--) {
      word_wait wait = {{.ready = reached, .doorbell = &t.to_server}, &t.pong[k], (uint64_t)i};
      dsc_guard guard = {.deadline_ns = dsc_clock_now_ns() + LOST_NS};
      status = dsc_wait_until(&wait.wait, &patience, &guard);
    }
  }
  for (int i = 0; i < players; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(all[i].status, DISCO_OK);
  }
  assert_int_equal(status, DISCO_OK);
}

static void no_wake_is_lost(void **state) {
  (void)state;
  play_rounds(1, 40000 / scale());
  play_rounds(THREADS, 10000 / scale());
}

static void patience_learns(void **state) {
  (void)state;
  _Atomic uint64_t word = 0;
  dsc_doorbell bell = {0};
  dsc_patience patience;
  dsc_patience_init(&patience, 1, 1000);
  assert_int_equal(patience.spin_ns, 1000000);
  /* Spinning that never pays gets short, but does not end. A stranger on the CPU may spoil a round: then another. */
  for (int i = 0; i < 1000 && patience.spin_ns > 10000; i++) {
    dsc_store_relaxed(&patience.yields, 1);
    dsc_guard guard = {.deadline_ns = dsc_clock_now_ns() + 2 * MS};
    word_wait wait = {{.ready = reached, .doorbell = &bell}, &word, 1};
    assert_int_equal(dsc_wait_until(&wait.wait, &patience, &guard), DISCO_TIMEOUT);
  }
  assert_in_range(patience.spin_ns, 1, 10000);
  dsc_patience_init(&patience, INT32_MAX, 1000); /* more threads than CPUs: never spin */
  assert_int_equal(patience.max_spin_ns, 0);
  assert_true(patience.yields > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_lock_lets_one_in),
      cmocka_unit_test(a_guard_ends_the_wait_for_a_lock),
      cmocka_unit_test(every_waiter_gets_the_lock),
      cmocka_unit_test(a_condition_that_holds_needs_no_wait),
      cmocka_unit_test(a_deadline_ends_the_wait),
      cmocka_unit_test(a_fault_ends_the_wait),
      cmocka_unit_test(a_wait_ticks),
      cmocka_unit_test(what_is_found_before_the_sleep_saves_it),
      cmocka_unit_test(nobody_asleep_needs_no_ring),
      cmocka_unit_test(news_before_the_last_look_are_seen),
      cmocka_unit_test(a_ring_before_the_sleep_ends_it),
      cmocka_unit_test(no_wake_is_lost),
      cmocka_unit_test(patience_learns),
  };
  return cmocka_run_group_tests_name("os.wait", tests, NULL, NULL);
}
