/* A worker process is stopped (SIGSTOP) at a named point of an operation, among two or three workers, and at some
 * points among seven or eight. For good: it is declared lost, and killed, in bounded time. For a while: nothing
 * happened, and the result is right. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "stuck/support.h"

enum { BATCH = 8, FEW = 4, MAX_CASES = 512 }; /* FEW: sessions at once, of many workers */

typedef struct {
  int32_t workers;
  spot spot;
} stop_case;

/* Every point of every operation in every way, each with one of the workers that pass it. */
static int list_cases(int32_t workers, stop_case *cases) {
  int count = 0, turn = 0;
  for (int i = 0; i < WAYS; i++)
    for (int op = 0; op < OPERATIONS; op++) {
      const scene where = {.workers = workers, .groups = 1, .way = (way)i};
      bool seen[MAX_WORKERS][POINTS];
      if (!has_way((operation)op, (way)i)) continue;
      discover(&where, (operation)op, seen);
      for (int at = 0; at < POINTS; at++) {
        turn++;
        for (int32_t tries = 0; tries < workers - 1; tries++) {
          const int32_t victim = 1 + (turn + tries) % (workers - 1);
          if (!seen[victim][at]) continue;
          assert_true(count < MAX_CASES);
          cases[count++] = (stop_case){workers, {(way)i, (operation)op, victim, at}};
          break;
        }
      }
    }
  return count;
}

/* Of many workers. */
static int draw_cases(int32_t workers, int count, stop_case *cases) {
  const scene where = {.workers = workers, .groups = 1};
  for (int i = 0; i < count; i++) cases[i] = (stop_case){workers, draw_spot(&where, (uint64_t)i)};
  return count;
}

static task task_for(const stop_case *what, int turn) {
  const spot *at = &what->spot;
  task it = task_of(at->operation, at->way, what->workers, turn);
  if (at->way == REF) it.count = 65536;
  it.memory = is_direct(at->way) || turn % 2 ? ARENA : HEAP;
  it.target = at->victim;
  it.point = at->at;
  it.action = STOP;
  return it;
}

static void name_case(const stop_case *what, const char *how_long) {
  const spot *at = &what->spot;
  say_case("%s, %s, p = %d, worker %d stopped %s at %s", operation_names[at->operation], way_names[at->way],
           what->workers, at->victim, how_long, point_names[at->at]);
}

/* ---- For good: many sessions at once, since each takes most of a second ---- */

typedef struct {
  disco_session *session;
  disco_status status;
  int32_t worker, signal_number;
  char text[512];
} waiter;

static void *wait_in_thread(void *context) {
  waiter *self = context;
  self->status = sync_for(self->session, BOUND_MS);
  const disco_error_info error = last_error();
  self->worker = error.worker;
  self->signal_number = error.signal_number;
  (void)snprintf(self->text, sizeof(self->text), "%s", self->status == DISCO_OK ? "" : error.message);
  return NULL;
}

static void stop_batch(const stop_case *cases, int count, int turn) {
  waiter waiters[BATCH] = {{0}};
  pthread_t threads[BATCH];
  for (int i = 0; i < count; i++) {
    const scene where = {
        .processes = true, .workers = cases[i].workers, .groups = 1, .way = cases[i].spot.way, .stopped_ms = 300};
    const task it = task_for(&cases[i], turn + i);
    waiters[i].session = open_scene(&where);
    post(waiters[i].session, &it);
    assert_int_equal(pthread_create(&threads[i], NULL, wait_in_thread, &waiters[i]), 0);
  }
  for (int i = 0; i < count; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  for (int i = 0; i < count; i++) {
    const waiter *got = &waiters[i];
    const int32_t victim = cases[i].spot.victim;
    name_case(&cases[i], "for good");
    if (got->status != DISCO_LOST || got->worker != victim || strstr(got->text, "stopped") == NULL)
      print_error("%s: %d %s\n", case_text(), (int)got->status, got->text);
    assert_int_equal(got->status, DISCO_LOST);
    assert_int_equal(got->worker, victim);
    assert_non_null(strstr(got->text, "stopped"));
  }
  for (int i = 0; i < count; i++) {
    OK(waiters[i].session, disco_session_shutdown(waiters[i].session));
    disco_session_unref(waiters[i].session);
  }
}

static void stopped_for_good(void **state) {
  (void)state;
  stop_case all[MAX_CASES], some[MAX_CASES];
  int count = 0, wanted = scaled(64, 8);
  const int two = list_cases(2, all);
  const int found = two + list_cases(3, all + two);
  for (int i = 0; i < wanted; i++) some[count++] = all[(int)((int64_t)i * found / wanted)];
  for (int i = 0; i < count; i += BATCH) stop_batch(some + i, count - i < BATCH ? count - i : BATCH, i);
}

static void many_stopped_for_good(void **state) {
  const int32_t workers = *(const int32_t *)*state;
  stop_case some[MAX_CASES];
  const int count = draw_cases(workers, scaled(8, 3), some);
  for (int i = 0; i < count; i += FEW) stop_batch(some + i, count - i < FEW ? count - i : FEW, i);
}

/* ---- For a while ---- */

static char state_of(pid_t pid) {
  char path[64], text[512] = "";
  (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
  FILE *file = fopen(path, "re");
  if (file == NULL) return '?';
  (void)!fread(text, 1, sizeof(text) - 1, file);
  (void)fclose(file);
  const char *end = strrchr(text, ')');
  return end != NULL && end[1] == ' ' ? end[2] : '?';
}

static void pause_once(disco_session *session, const stop_case *what, pid_t pid, int turn) {
  const task it = task_for(what, turn);
  name_case(what, "for a while");
  post(session, &it);
  for (int64_t end = now_ms() + BOUND_MS; state_of(pid) != 'T' && now_ms() < end;) sleep_us(500);
  assert_int_equal(state_of(pid), 'T');
  if (turn % 2) assert_int_equal(sync_for(session, 30), DISCO_TIMEOUT);
  sleep_us(turn % 8 == 0 ? 100000 : 20000);
  assert_int_equal(kill(pid, SIGCONT), 0);
  SYNC_OK(session);
}

/* One session after the other, each for all cases of its way that follow each other. */
static void pause_all(const stop_case *all, int count) {
  disco_session *session = NULL;
  way open = INLINE;
  pid_t pids[MAX_WORKERS] = {0};
  for (int i = 0; i < count; i++) {
    const int32_t workers = all[i].workers;
    if (session == NULL || all[i].spot.way != open) {
      if (session != NULL) close_scene(session);
      const scene where = {
          .processes = true, .workers = workers, .groups = 1, .way = all[i].spot.way, .stopped_ms = 20000};
      session = open_scene(&where);
      open = all[i].spot.way;
      for (int32_t w = 1; w < workers; w++) pids[w] = pid_of(session, w);
    }
    pause_once(session, &all[i], pids[all[i].spot.victim], i);
  }
  if (session != NULL) close_scene(session);
}

static void stopped_for_a_while(void **state) {
  const int32_t workers = *(const int32_t *)*state;
  stop_case all[MAX_CASES], some[MAX_CASES];
  const int found = list_cases(workers, all);
  int count = 0;
  for (int i = 0; i < found; i++)
    if (chosen((uint64_t)i, 1, 10) && (all[i].spot.at != AT_BEGIN || i % 3 == 0)) some[count++] = all[i];
  pause_all(some, count);
}

static void many_stopped_for_a_while(void **state) {
  const int32_t workers = *(const int32_t *)*state;
  stop_case some[MAX_CASES];
  pause_all(some, draw_cases(workers, scaled(12, 4), some));
}

static int32_t two = 2, three = 3, seven = 7, eight = 8;

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define OF(test, workers) {#test ", " #workers, test, NULL, NULL, &(workers)}
      cmocka_unit_test(stopped_for_good),  OF(many_stopped_for_good, seven), OF(many_stopped_for_good, eight),
      OF(stopped_for_a_while, two),        OF(stopped_for_a_while, three),   OF(many_stopped_for_a_while, seven),
      OF(many_stopped_for_a_while, eight),
  };
  return stuck_main(argc, argv, "stuck.stops", tests, sizeof(tests) / sizeof(tests[0]));
}
