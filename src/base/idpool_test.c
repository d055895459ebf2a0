/* Register ids: each is live once, released once, told once; also when four threads release. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/idpool.h"
#include "base/inject.h"

static int scale(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int value = text != NULL ? atoi(text) : 1;
  return value > 0 ? value : 1;
}

static int make_pool(void **state) {
  dsc_idpool *pool = aligned_alloc(DSC_CACHE_LINE, sizeof(*pool));
  *state = pool;
  return pool == NULL || dsc_idpool_init(pool) != DISCO_OK;
}

static int free_pool(void **state) {
  dsc_idpool_fini(*state);
  free(*state);
  return 0;
}

static uint32_t take(dsc_idpool *pool, uint32_t *ret_generation) {
  void *handle = NULL;
  return dsc_idpool_take(pool, ret_generation, &handle);
}

static void ids_count_from_one(void **state) {
  dsc_idpool *pool = *state;
  uint32_t generation;
  for (uint32_t i = 1; i <= 5; i++) {
    assert_int_equal(take(pool, &generation), i);
    assert_int_equal(generation, 1);
    assert_true(dsc_idpool_is_live(pool, i, 1));
    assert_int_equal(dsc_idpool_generation(pool, i), 1);
  }
  assert_int_equal(dsc_idpool_live(pool), 5);
  /* Never handed out, out of range, no id at all. */
  const int64_t none[] = {0, 6, -1, DSC_IDPOOL_CHUNK + 1, DSC_IDPOOL_MAX, INT64_MAX, INT64_MIN, (int64_t)1 << 32 | 1};
  for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) assert_int_equal(dsc_idpool_generation(pool, none[i]), 0);
}

/* A released id is handed out again only after a record told the workers. */
static void an_id_returns_after_the_drain(void **state) {
  dsc_idpool *pool = *state;
  uint32_t generation, ids[8];
  assert_int_equal(take(pool, &generation), 1);
  assert_int_equal(take(pool, &generation), 2);
  assert_int_equal(dsc_idpool_release(pool, 1, 1), 1);
  assert_int_equal(dsc_idpool_waiting(pool), 1);
  assert_int_equal(dsc_idpool_live(pool), 1);
  assert_int_equal(take(pool, &generation), 3);
  assert_int_equal(dsc_idpool_drain(pool, ids, 8), 1);
  assert_int_equal(ids[0], 1);
  assert_int_equal(dsc_idpool_waiting(pool), 0);
  assert_int_equal(dsc_idpool_drain(pool, ids, 8), 0);
  assert_int_equal(take(pool, &generation), 1);
  assert_int_equal(generation, 3); /* odd while live, never the same again */
  assert_true(dsc_idpool_is_live(pool, 1, 3));
  assert_false(dsc_idpool_is_live(pool, 1, 1));
}

/* A register that was released by its number is dead, but its id stays with the handle until that dies too. */
static void a_killed_id_stays_taken(void **state) {
  dsc_idpool *pool = *state;
  uint32_t generation, ids[8];
  assert_int_equal(take(pool, &generation), 1);
  assert_true(dsc_idpool_kill(pool, 1));
  assert_false(dsc_idpool_kill(pool, 1));
  assert_false(dsc_idpool_kill(pool, 2));
  assert_false(dsc_idpool_kill(pool, -1));
  assert_false(dsc_idpool_is_live(pool, 1, generation));
  assert_int_equal(dsc_idpool_generation(pool, 1), 0);
  assert_int_equal(dsc_idpool_waiting(pool), 0);
  assert_int_equal(take(pool, &generation), 2);
  assert_int_equal(dsc_idpool_release(pool, 1, 1), 1);
  assert_int_equal(dsc_idpool_drain(pool, ids, 8), 1);
  assert_int_equal(take(pool, &generation), 1);
  assert_int_equal(generation, 3);
  assert_int_equal(dsc_idpool_live(pool), 2);
}

/* Each id comes with memory of its own, aligned for an object and its prefix, the same every time. */
static void handles_do_not_overlap(void **state) {
  dsc_idpool *pool = *state;
  enum { COUNT = 2 * DSC_IDPOOL_CHUNK };
  uint32_t generation, ids[1];
  void *first = NULL, *again = NULL;
  for (uint32_t i = 1; i <= COUNT; i++) {
    void *handle = NULL;
    uint32_t id = dsc_idpool_take(pool, &generation, &handle);
    assert_int_equal((uintptr_t)handle % 16, 0);
    memset(handle, (int)(i % 251), DSC_IDPOOL_HANDLE_BYTES);
    if (id == 1) first = handle;
  }
  for (uint32_t i = 1; i <= COUNT; i++) {
    const unsigned char *handle = (unsigned char *)dsc_idpool_chunk_of(pool, i)->handle[i % DSC_IDPOOL_CHUNK];
    for (int k = 0; k < DSC_IDPOOL_HANDLE_BYTES; k++) assert_int_equal(handle[k], i % 251);
    assert_int_equal(dsc_idpool_generation(pool, i), 1);
  }
  dsc_idpool_release(pool, 1, 1);
  assert_int_equal(dsc_idpool_drain(pool, ids, 1), 1);
  assert_int_equal(dsc_idpool_take(pool, &generation, &again), 1);
  assert_ptr_equal(first, again);
}

/* More releases than a record carries: the rest waits, nothing is lost or told twice. */
static void a_drain_may_take_several_records(void **state) {
  dsc_idpool *pool = *state;
  enum { COUNT = 1000, AT_ONCE = 64 };
  uint32_t generation, ids[AT_ONCE];
  uint8_t told[COUNT + 1] = {0};
  for (uint32_t i = 1; i <= COUNT; i++) assert_int_equal(take(pool, &generation), i);
  for (uint32_t i = 1; i <= COUNT; i++) assert_int_equal(dsc_idpool_release(pool, i, 1), i);
  uint32_t total = 0;
  do {
    uint32_t count = dsc_idpool_drain(pool, ids, AT_ONCE);
    for (uint32_t i = 0; i < count; i++) told[ids[i]]++;
    total += count;
    assert_int_equal(dsc_idpool_has_drained(pool), total < COUNT);
  } while (dsc_idpool_has_drained(pool));
  assert_int_equal(total, COUNT);
  for (int i = 1; i <= COUNT; i++) assert_int_equal(told[i], 1);
}

/* Ids go on past the end of a chunk; without memory for the next one that is an error, not for good. */
static void a_chunk_may_be_exhausted(void **state) {
  dsc_idpool *pool = *state;
  uint32_t generation;
  for (uint32_t i = 1; i < DSC_IDPOOL_CHUNK; i++) assert_int_equal(take(pool, &generation), i);
  dsc_inject_fail_allocation(1);
  assert_int_equal(take(pool, &generation), 0);
  dsc_inject_fail_allocation(0);
  assert_int_equal(dsc_thread_error()->status, DISCO_MEMORY);
  assert_int_equal(dsc_idpool_live(pool), DSC_IDPOOL_CHUNK - 1);
  for (uint32_t i = DSC_IDPOOL_CHUNK; i < 3 * DSC_IDPOOL_CHUNK; i++) assert_int_equal(take(pool, &generation), i);
  for (uint32_t i = 1; i < 3 * DSC_IDPOOL_CHUNK; i++) assert_true(dsc_idpool_is_live(pool, i, 1));
}

static void all_ids_in_use_is_an_error(void **state) {
  dsc_idpool *pool = *state;
  uint32_t generation;
  pool->fresh = DSC_IDPOOL_MAX; /* as if all had been handed out: the table itself would be 200 MiB */
  assert_int_equal(take(pool, &generation), 0);
  assert_int_equal(dsc_thread_error()->status, DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), "16777215 registers are in use"));
}

/* ---- Four threads release, one takes and drains ---- */

enum { THREADS = 4, SHARE = 64 };

typedef struct {
  dsc_idpool *pool;
  _Atomic uint64_t mailbox[SHARE]; /* id << 32 | generation; 0: empty */
  _Atomic bool stop;
  uint64_t released;
} releaser;

static void *release_all(void *argument) {
  releaser *self = argument;
  for (bool last = false; !last;) {
    last = dsc_load_acquire(&self->stop); /* look once more after the stop */
    sched_yield();
    for (int i = 0; i < SHARE; i++) {
      uint64_t item = dsc_exchange_acq_rel(&self->mailbox[i], 0);
      if (item == 0) continue;
      uint32_t id = (uint32_t)(item >> 32), generation = (uint32_t)item;
      (void)dsc_idpool_release(self->pool, id, generation);
      self->released++;
    }
  }
  return NULL;
}

static void threads_release_exactly_once(void **state) {
  dsc_idpool *pool = *state;
  const int rounds = 200000 / scale();
  releaser *self = calloc(THREADS, sizeof(*self));
  pthread_t threads[THREADS];
  uint32_t ids[SHARE], generation;
  uint64_t taken = 0, told = 0, wrong = 0;
  enum { TABLE = THREADS * SHARE * 4 + DSC_IDPOOL_CHUNK };
  uint32_t *live = calloc(TABLE, sizeof(*live)); /* by id: the generation that is out */
  for (int i = 0; i < THREADS; i++) {
    self[i].pool = pool;
    assert_int_equal(pthread_create(&threads[i], NULL, release_all, &self[i]), 0);
  }
  for (int round = 0; round < rounds; round++) {
    _Atomic uint64_t *box = &self[round % THREADS].mailbox[round / THREADS % SHARE];
    if (dsc_load_relaxed(box) == 0) {
      uint32_t id = take(pool, &generation);
      if (id == 0 || id >= TABLE || live[id] != 0 || generation % 2 != 1) wrong++;
      if (id != 0 && id < TABLE) live[id] = generation;
      taken++;
      dsc_store_release(box, (uint64_t)id << 32 | generation);
    }
    if (round % 16 != 0) continue;
    uint32_t count = dsc_idpool_drain(pool, ids, 1 + (uint32_t)round % SHARE);
    for (uint32_t i = 0; i < count; i++) {
      if (ids[i] == 0 || ids[i] >= TABLE || live[ids[i]] == 0)
        wrong++;
      else
        live[ids[i]] = 0;
    }
    told += count;
  }
  uint64_t released = 0;
  for (int i = 0; i < THREADS; i++) dsc_store_release(&self[i].stop, true);
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    released += self[i].released;
  }
  for (uint32_t count; (count = dsc_idpool_drain(pool, ids, SHARE)) != 0;) told += count;
  assert_int_equal(wrong, 0);
  assert_true(taken > 0);
  assert_int_equal(released, taken);
  assert_int_equal(told, taken);
  assert_int_equal(dsc_idpool_live(pool), 0);
  assert_int_equal(dsc_idpool_waiting(pool), 0);
  free(live);
  free(self);
}

int main(void) {
#define POOL_TEST(name) cmocka_unit_test_setup_teardown(name, make_pool, free_pool)
  const struct CMUnitTest tests[] = {
      POOL_TEST(ids_count_from_one),
      POOL_TEST(an_id_returns_after_the_drain),
      POOL_TEST(a_killed_id_stays_taken),
      POOL_TEST(handles_do_not_overlap),
      POOL_TEST(a_drain_may_take_several_records),
      POOL_TEST(a_chunk_may_be_exhausted),
      POOL_TEST(all_ids_in_use_is_an_error),
      POOL_TEST(threads_release_exactly_once),
  };
  return cmocka_run_group_tests_name("base.idpool", tests, NULL, NULL);
}
