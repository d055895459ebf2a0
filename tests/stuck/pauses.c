#include "stuck/pauses.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/inject.h"

const char *const point_names[POINTS] = {
#define POINT_TEXT(name, text) "collective." text,
    POINT_LIST(POINT_TEXT)
#undef POINT_TEXT
};

enum { LONGEST_MS = 4000 }; /* of a pause: a test that failed must not hang the session's end */

static sem_t go, gate;
static _Atomic bool has_reached, gate_is_open;
static _Atomic int aborts;
static _Atomic bool passed[MAX_WORKERS][POINTS];

static _Thread_local struct {
  bool armed;
  int32_t worker;
  int64_t point, pass, action;
  uint64_t jitter;
} mine;

static int64_t clock_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void wait_semaphore(sem_t *semaphore, int64_t ms) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += ms / 1000;
  until.tv_nsec += ms % 1000 * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000;
  }
  while (sem_timedwait(semaphore, &until) != 0 && errno == EINTR) continue;
}

static void act(void) {
  mine.armed = false;
  switch (mine.action) {
  case PAUSE:
    atomic_store(&has_reached, true);
    wait_semaphore(&go, LONGEST_MS);
    break;
  case KILL: (void)kill(getpid(), SIGKILL); break;
  case STOP: (void)kill(getpid(), SIGSTOP); break;
  default: break;
  }
}

static void dawdle(void) {
  mine.jitter = mix(mine.jitter, 1) | 1;
  switch (mine.jitter >> 20 & 15) {
  case 0: sleep_us((int64_t)(mine.jitter >> 32 & 255)); break;
  case 1:
  case 2: sleep_us(0); break;
  default: break;
  }
}

/* Only of points that worker threads pass inside a collective. */
static void at_point(const char *name, void *context) {
  (void)context;
  int at = 0;
  if (strncmp(name, "collective.", 11) != 0) return;
  while (at < POINTS && strcmp(name, point_names[at]) != 0) at++;
  if (at == POINTS) return;
  atomic_store(&passed[mine.worker][at], true);
  if (at == AT_ABORTED) atomic_fetch_add(&aborts, 1);
  if (mine.jitter != 0) dawdle();
  if (mine.armed && mine.point == at && mine.pass-- == 0) act();
}

void arm(int32_t worker, const task *what) {
  mine.worker = worker;
  mine.armed = what->target == worker && what->action != NO_ACTION;
  mine.point = what->point;
  mine.pass = what->pass;
  mine.action = what->action;
  mine.jitter = what->jitter != 0 ? mix((uint64_t)what->jitter, (uint64_t)worker) | 1 : 0;
}

void disarm(void) {
  mine.armed = false;
  mine.jitter = 0;
}

void wait_for_gate(void) {
  for (int64_t end = clock_ms() + LONGEST_MS; !atomic_load(&gate_is_open) && clock_ms() < end;)
    wait_semaphore(&gate, 50);
}

void reset_pauses(void) {
  static bool made;
  if (!made) {
    made = true;
    (void)sem_init(&go, 0, 0);
    (void)sem_init(&gate, 0, 0);
    dsc_inject_set(at_point, NULL);
  }
  while (sem_trywait(&go) == 0) continue;
  while (sem_trywait(&gate) == 0) continue;
  atomic_store(&has_reached, false);
  atomic_store(&gate_is_open, false);
  atomic_store(&aborts, 0);
  for (int i = 0; i < MAX_WORKERS; i++)
    for (int p = 0; p < POINTS; p++) atomic_store(&passed[i][p], false);
}

bool is_reached(void) { return atomic_load(&has_reached); }

bool wait_reached(int64_t ms) {
  for (int64_t end = clock_ms() + ms; !is_reached() && clock_ms() < end;) sleep_us(20);
  return is_reached();
}

void release_paused(void) { (void)sem_post(&go); }

void open_gate(void) {
  atomic_store(&gate_is_open, true);
  (void)sem_post(&gate);
}

int aborts_counted(void) { return atomic_load(&aborts); }

bool wait_aborts(int least, int64_t ms) {
  for (int64_t end = clock_ms() + ms; aborts_counted() < least && clock_ms() < end;) sleep_us(20);
  return aborts_counted() >= least;
}

bool has_passed(int32_t worker, point at) { return atomic_load(&passed[worker][at]); }

bool wait_abort_of(int32_t worker, int64_t ms) {
  for (int64_t end = clock_ms() + ms; !atomic_load(&passed[worker][AT_ABORTED]) && clock_ms() < end;) sleep_us(20);
  return atomic_load(&passed[worker][AT_ABORTED]);
}

void discover(const scene *what, operation op, bool seen[MAX_WORKERS][POINTS]) {
  scene threads = *what;
  threads.processes = false;
  threads.stopped_ms = threads.timeout_ms = 0;
  disco_session *session = open_scene(&threads);
  const int32_t ranks = what->workers / what->groups;
  task it = task_of(op, what->way, ranks, 1);
  if (what->way == REF) it.count = 65536;
  it.in_group = what->groups > 1;
  reset_pauses();
  post(session, &it);
  SYNC_OK(session);
  for (int i = 0; i < MAX_WORKERS; i++)
    for (int p = 0; p < POINTS; p++) seen[i][p] = atomic_load(&passed[i][p]);
  close_scene(session);
}

spot draw_spot(const scene *where, uint64_t index) {
  uint64_t draw = mix(number_of("DISCO_STUCK_SEED", 1) << 32 | (uint64_t)where->workers, index);
  spot found = {.operation = (operation)(index % OPERATIONS), .way = (way)(draw % WAYS), .at = POINTS};
  while (!has_way(found.operation, found.way)) found.way = (way)((found.way + 1) % WAYS);
  scene like = *where;
  bool seen[MAX_WORKERS][POINTS];
  like.way = found.way;
  discover(&like, found.operation, seen);
  for (int tries = 0; tries < 1000; tries++) {
    draw = mix(draw, 2);
    found.victim = 1 + (int32_t)(draw % (uint64_t)(where->workers - 1));
    found.at = (int)((draw >> 32) % POINTS);
    if (found.at != AT_ABORTED && seen[found.victim][found.at]) break;
  }
  assert_true(seen[found.victim][found.at]);
  return found;
}
