/* A plane without a session: ranks are threads of the test, their worker is a few variables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants them first */
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "ccl/backend.h"

enum { RANKS = 4 };

/* What all ranks share, and the words of each. */
static struct {
  char *memory;
  dsc_doorbell bells[RANKS];
  _Atomic uint64_t failures, done[RANKS], resumed_by[RANKS];
  _Atomic uint32_t over, sleepers;
  uint64_t sequence[RANKS], resumed[RANKS], epoch[RANKS];
} world;

static dsc_doorbell *bell(const dsc_ccl_host *host, int32_t worker) {
  (void)host;
  return &world.bells[worker];
}

static dsc_member_state look(const dsc_ccl_host *host, int32_t worker) {
  return (dsc_member_state){.done = dsc_load_acquire(&world.done[worker]),
                            .is_later = dsc_load_acquire(&world.resumed_by[worker]) > *host->resumed};
}

static void await(const dsc_ccl_host *host, int32_t worker, uint64_t sequence) {
  (void)host;
  (void)worker;
  (void)sequence;
}

static void waits(const dsc_ccl_host *host, bool yes) {
  (void)host;
  (void)yes;
}

static bool why(const dsc_ccl_host *host, int32_t worker, char *text, size_t room) {
  (void)host;
  (void)worker;
  (void)text;
  (void)room;
  return false;
}

static dsc_ccl_host host_of(int32_t rank, int32_t ranks, int32_t groups) {
  return (dsc_ccl_host){.worker = rank,
                        .num_workers = ranks,
                        .num_groups = groups,
                        .memory = world.memory,
                        .one_address_space = true,
                        .sequence = &world.sequence[rank],
                        .resumed = &world.resumed[rank],
                        .epoch = &world.epoch[rank],
                        .failures = &world.failures,
                        .over = &world.over,
                        .over_value = 2,
                        .sleepers = &world.sleepers,
                        .timeout_ms = 5000,
                        .spin_us = 5,
                        .bell = bell,
                        .look = look,
                        .await = await,
                        .waits = waits,
                        .why = why};
}

static void make_world(int32_t ranks, int32_t groups) {
  memset(&world, 0, sizeof(world));
  world.memory = aligned_alloc(4096, dsc_plane_bytes(ranks, groups));
  assert_non_null(world.memory);
  memset(world.memory, 0, dsc_plane_bytes(ranks, groups));
  for (int32_t i = 0; i < RANKS; i++) world.sequence[i] = 1;
}

static void run_ranks(int32_t ranks, void *(*body)(void *rank)) {
  pthread_t threads[RANKS];
  for (intptr_t i = 0; i < ranks; i++) assert_int_equal(pthread_create(&threads[i], NULL, body, (void *)i), 0);
  for (int32_t i = 0; i < ranks; i++) {
    void *failed = NULL;
    pthread_join(threads[i], &failed);
    assert_null(failed);
  }
}

#define REQUIRE(condition) \
  if (!(condition)) return (void *)(intptr_t)__LINE__

/* ---- The places of a layout ---- */

static void parts_do_not_overlap(void **state) {
  (void)state;
  const int32_t shapes[][2] = {{1, 1}, {2, 1}, {2, 2}, {6, 3}, {64, 8}, {1024, 1}, {1024, 512}};
  for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
    dsc_plane_layout plan;
    uint64_t workers = (uint64_t)shapes[i][0], groups = (uint64_t)shapes[i][1];
    dsc_plane_plan(shapes[i][0], shapes[i][1], &plan);
    uint64_t comm = sizeof(dsc_comm_head) + workers * (sizeof(dsc_rank_lines) + plan.staging_bytes);
    assert_true(plan.notes > 0 && plan.notes + workers * sizeof(dsc_rank_note) <= plan.world);
    assert_true(plan.world + comm <= plan.groups);
    assert_true(plan.groups + (groups > 1 ? plan.group_stride * groups : 0) <= plan.pairs);
    assert_true(plan.pairs + workers * workers * sizeof(dsc_pair_lines) <= plan.eager);
    assert_true(plan.eager + workers * workers * DSC_CCL_EAGER_SLOTS * plan.eager_bytes <= plan.pair_staging);
    assert_true(plan.pair_staging + workers * DSC_CCL_BUFFERS * plan.chunk_bytes <= plan.bytes);
    assert_true(plan.chunk_bytes >= 4096 && plan.eager_bytes >= 64);
  }
}

/* ---- A backend of one's own ---- */

static uint32_t names[RANKS][RANKS];

static disco_status exchange_names(dsc_plane *plane) {
  uint32_t mine = 100 + (uint32_t)plane->host.worker, all[RANKS] = {0};
  disco_status status = dsc_plane_bootstrap(plane, true, &mine, sizeof(mine), all);
  for (int32_t i = 0; i < plane->group.size; i++) names[plane->host.worker][i] = all[i];
  return status;
}

static const dsc_backend own_backend = {.version = DSC_BACKEND_VERSION, .name = "own", .start = exchange_names};

static void *start_own(void *argument) {
  intptr_t rank = (intptr_t)argument;
  dsc_ccl_host host = host_of((int32_t)rank, 4, 2);
  dsc_plane *plane = NULL;
  char big[DSC_CCL_ONESHOT + 1];
  REQUIRE(dsc_plane_create(&own_backend, &host, &plane) == DISCO_OK);
  for (uint32_t i = 0; i < 2; i++) REQUIRE(names[rank][i] == 100 + (uint32_t)rank / 2 * 2 + i);
  REQUIRE(dsc_plane_bootstrap(plane, false, big, sizeof(big), big) == DISCO_VALUE);
  dsc_plane_destroy(plane);
  return NULL;
}

static void a_backend_starts_with_blobs_of_all(void **state) {
  (void)state;
  make_world(4, 2);
  run_ranks(4, start_own);
  free(world.memory);
}

/* ---- Epochs ---- */

static dsc_plane *planes[RANKS];

static disco_status sum(int32_t rank, float *value) {
  int64_t one = 1;
  DLTensor tensor = {.data = value, .device = {kDLCPU, 0}, .ndim = 1, .dtype = {kDLFloat, 32, 1}, .shape = &one};
  return dsc_plane_allreduce(planes[rank], &tensor, DSC_REDUCE_SUM, false, &tensor);
}

/* Epochs that are 256 apart have the same 8 bits in their keys: the entry of the old one must not be taken for the new
 * one's, however late its owner comes. */
static void *come_late_after_256_epochs(void *argument) {
  intptr_t rank = (intptr_t)argument;
  dsc_ccl_host host = host_of((int32_t)rank, 2, 1);
  REQUIRE(dsc_plane_create(&dsc_backend_cpu, &host, &planes[rank]) == DISCO_OK);
  for (uint64_t round = 0; round < 40; round++) {
    if (rank == (intptr_t)(round & 1))
      for (int i = 0; i < 20; i++) sched_yield();
    for (int k = 0; k < (round % 3 == 2 ? 3 : 1); k++) {
      float value = (float)(round * 10 + (uint64_t)k) + (float)rank;
      REQUIRE(sum((int32_t)rank, &value) == DISCO_OK);
      REQUIRE(value == (float)(2 * (round * 10 + (uint64_t)k)) + 1.0f);
    }
    dsc_store_release(&world.done[rank], world.sequence[rank]);
    world.resumed[rank] = world.sequence[rank] + 1; /* the resume records */
    world.epoch[rank] += 256;
    world.sequence[rank] += 2;
    dsc_store_release(&world.resumed_by[rank], world.resumed[rank]);
    dsc_store_release(&world.done[rank], world.resumed[rank]);
  }
  dsc_plane_destroy(planes[rank]);
  return NULL;
}

static void an_old_entry_is_not_taken_for_a_new_one(void **state) {
  (void)state;
  make_world(2, 1);
  run_ranks(2, come_late_after_256_epochs);
  free(world.memory);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parts_do_not_overlap),
      cmocka_unit_test(a_backend_starts_with_blobs_of_all),
      cmocka_unit_test(an_old_entry_is_not_taken_for_a_new_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
