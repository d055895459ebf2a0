/* Random trouble at random moments, from a seed: batches of random operations in random ways, in which at most one
 * worker raises, calls something else, is killed or stopped. Results are compared by the workers; every batch ends
 * within the bound and is told as what it was.
 *   DISCO_STUCK_ROUNDS  batches of each test (else a few hundred)
 *   DISCO_STUCK_SEED    (else 1) */
#include <signal.h>
#include <stdio.h>

#include "stuck/support.h"

typedef struct {
  uint64_t seed, state;
  scene scene;
  disco_session *session;
  pid_t pids[MAX_WORKERS];
  uint64_t batch;
} game;

static int draw(game *self, int n) {
  self->state = mix(self->state, 99);
  return (int)(self->state % (uint64_t)n);
}

static void open_game(game *self, bool processes) {
  const int32_t groups = 1 + draw(self, 2);
  self->scene = (scene){.processes = processes,
                        .workers = groups == 2 ? 4 + 2 * draw(self, 2) : 2 + draw(self, 5),
                        .groups = groups,
                        .way = (way)draw(self, WAYS),
                        .stopped_ms = 20000};
  self->session = open_scene(&self->scene);
  for (int32_t i = 1; processes && i < self->scene.workers; i++) self->pids[i] = pid_of(self->session, i);
}

/* Sizes at random around the thresholds, whatever the way of the scene is. */
static task draw_task(game *self) {
  static const int64_t counts[] = {1, 2, 14, 100, 2048, 2056, 8192, 20000, 65536, 150000};
  const bool group = self->scene.groups > 1 && draw(self, 2) == 0;
  const int32_t ranks = group ? self->scene.workers / 2 : self->scene.workers;
  task it = task_of((operation)draw(self, OPERATIONS), self->scene.way, ranks, draw(self, 1000));
  if (draw(self, 2) == 0) it.count = counts[draw(self, sizeof(counts) / sizeof(counts[0]))];
  if (it.count * ranks > 300000) it.count = 20000;
  it.in_group = group;
  it.memory = draw(self, MEMORIES);
  it.jitter = draw(self, 3) == 0 ? 1 + draw(self, 1000000) : 0;
  it.times = draw(self, 4) == 0 ? 1 + draw(self, 20) : 1;
  if (it.count > 20000) it.times = 1;
  return it;
}

typedef enum { PEACE, ERRS, DIES, SLEEPS } trouble;

static void misbehave(game *self, task *it, trouble what) {
  it->who = draw(self, self->scene.workers);
  switch (what) {
  case ERRS:
    it->how = draw(self, 2) == 0 ? RAISE : RAISE + draw(self, HOWS - RAISE);
    if (it->how != RAISE) it->times = 1;
    if (it->operation == TRANSFER || (it->how == GROUP && self->scene.groups == 1)) it->how = RAISE;
    return;
  case DIES:
  case SLEEPS:
    it->who = NOBODY;
    it->target = 1 + draw(self, self->scene.workers - 1);
    it->point = draw(self, POINTS);
    it->pass = draw(self, 4);
    it->action = what == DIES ? KILL : STOP;
    return;
  default: it->who = NOBODY;
  }
}

static void set_the_scene(const game *self, trouble what, const task *bad) {
  say_case("DISCO_STUCK_SEED=%llu, batch %llu: p = %d in %d groups, way %d, trouble %d by %d (%d at %d)",
           (unsigned long long)self->seed, (unsigned long long)self->batch, self->scene.workers, self->scene.groups,
           (int)self->scene.way, (int)what, (int)(bad->target >= 0 ? bad->target : bad->who), (int)bad->how,
           (int)bad->point);
}

/* Goes on after a while whoever may be stopped. */
static disco_status wake_and_sync(game *self, int32_t victim) {
  disco_status status = DISCO_TIMEOUT;
  for (int64_t end = now_ms() + BOUND_MS; status == DISCO_TIMEOUT && now_ms() < end;) {
    sleep_us(draw(self, 3000));
    (void)kill(self->pids[victim], SIGCONT);
    status = sync_for(self->session, 20);
  }
  return status;
}

static void expect_told(game *self, const task *bad, disco_status status, bool unnoticed) {
  char text[64];
  if (bad->how == RAISE) {
    (void)snprintf(text, sizeof(text), "worker %d " RAISED_TEXT, (int)bad->who);
    if (status == DISCO_OK) OK(self->session, DISCO_RAISED);
    ERROR_IS("ValueError", text);
    return;
  }
  if (status == DISCO_OK && unnoticed) return;
  if (status == DISCO_OK || status == DISCO_TIMEOUT || status == DISCO_LOST) OK(self->session, DISCO_RAISED);
  ERROR_IS("CollectiveError", "");
  NAMES_BOTH((int32_t)bad->who);
}

/* False when the session is over. */
static bool play(game *self) {
  const int length = 1 + draw(self, 6), at = draw(self, length);
  trouble what = (trouble)draw(self, self->scene.processes ? 4 : 2);
  if (what == DIES && draw(self, 3) != 0) what = ERRS; /* a death costs a session */
  task bad = {.target = NOBODY, .who = NOBODY};
  disco_status status = DISCO_OK;
  const bool from_outside = draw(self, 2) == 0;
  for (int i = 0; i < length && status == DISCO_OK; i++) {
    task it = draw_task(self);
    if (i == at && what != PEACE) {
      misbehave(self, &it, what);
      if (from_outside && what != ERRS) it.action = NO_ACTION;
      bad = it;
    }
    if (i == at) set_the_scene(self, what, &bad);
    status = try_post(self->session, &it);
  }
  const int32_t victim = (int32_t)bad.target;
  if (from_outside && what >= DIES && status == DISCO_OK) {
    sleep_us(draw(self, 400));
    (void)kill(self->pids[victim], what == DIES ? SIGKILL : SIGSTOP);
  }
  if (what == SLEEPS) {
    status = wake_and_sync(self, victim);
    OK(self->session, status);
    return true;
  }
  if (status == DISCO_OK) status = sync_for(self->session, BOUND_MS);
  if (what == DIES) {
    if (status == DISCO_OK && !from_outside) return true; /* it never passed there */
    for (int64_t end = now_ms() + BOUND_MS; status == DISCO_OK && now_ms() < end;) status = sync_for(self->session, 5);
    assert_int_equal(status, DISCO_LOST);
    assert_int_equal(last_error().worker, victim);
    return false;
  }
  if (what == PEACE) {
    OK(self->session, status);
    return true;
  }
  expect_told(self, &bad, status, true);
  task good = bad;
  good.times = 1;
  check_recovers(self->session, &good, status != DISCO_OK);
  return true;
}

static void chaos(bool processes, int rounds) {
  game self = {.seed = number_of("DISCO_STUCK_SEED", 1)};
  const uint64_t wanted = number_of("DISCO_STUCK_ROUNDS", (uint64_t)rounds);
  self.state = mix(self.seed, processes);
  for (; self.batch < wanted; self.batch++) {
    if (self.session == NULL) open_game(&self, processes);
    if (play(&self) && draw(&self, 25) != 0) continue;
    close_scene(self.session);
    self.session = NULL;
  }
  if (self.session != NULL) close_scene(self.session);
}

static void chaos_of_threads(void **state) {
  (void)state;
  chaos(false, scaled(600, 100));
}

static void chaos_of_processes(void **state) {
  (void)state;
  chaos(true, scaled(400, 25));
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(chaos_of_threads),
      cmocka_unit_test(chaos_of_processes),
  };
  return stuck_main(argc, argv, "stuck.chaos", tests, sizeof(tests) / sizeof(tests[0]));
}
