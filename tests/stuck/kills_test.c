/* A worker process ends itself, by SIGKILL, at every named point of every operation in every way (with many workers: at
 * some of them): the call is told that the session is lost, by whom and how; the others come home, nothing is left
 * behind. */
#include <signal.h>
#include <stdio.h>

#include "stuck/support.h"

static void expect_lost(disco_session *session, int32_t worker, disco_status status) {
  const disco_error_info error = last_error();
  char name[32];
  (void)snprintf(name, sizeof(name), "worker %d is lost", worker);
  if (status != DISCO_LOST || error.worker != worker || error.signal_number != SIGKILL ||
      strstr(error.message, name) == NULL) {
    char *text = NULL;
    print_error("%s\nworker %d was killed, but: %d %s\n", case_text(), worker, (int)status,
                status == DISCO_OK ? "" : error.text);
    if (disco_session_dump(session, &text) == DISCO_OK) print_error("%s\n", text);
    fail();
  }
}

/* Tensors of the arena go directly, others are staged: both ways are there without a setting. */
static memory memory_for(way which, int turn) { return is_direct(which) || turn % 2 ? ARENA : turn % 4 ? HEAP : PAGES; }

static void kill_at(const scene *where, operation op, int turn, int32_t victim, int at) {
  say_case("%s, %s, p = %d in %d groups, worker %d killed at %s, turn %d", operation_names[op], way_names[where->way],
           where->workers, where->groups, victim, point_names[at], turn);
  disco_session *session = open_scene(where);
  task it = task_of(op, where->way, where->workers / where->groups, turn);
  it.in_group = where->groups > 1;
  it.memory = memory_for(where->way, turn);
  if (turn % 2) { /* not always the first operation of an epoch */
    post(session, &it);
    SYNC_OK(session);
  }
  if (where->way == REF) it.count = 65536;
  it.target = victim;
  it.point = at;
  it.action = KILL;
  if (at == AT_ABORTED) { /* somebody must fail: the victim, which calls with another size */
    it.who = victim;
    it.how = SIZE;
  }
  disco_status status = try_post(session, &it);
  if (status == DISCO_OK) status = sync_for(session, BOUND_MS);
  if (at == AT_ABORTED && status != DISCO_OK && status != DISCO_LOST && status != DISCO_TIMEOUT) {
    ERROR_IS("CollectiveError", ""); /* the mismatch was told first */
    status = sync_for(session, BOUND_MS);
    if (status == DISCO_OK) { /* its death has not been seen yet */
      it.action = NO_ACTION;
      it.how = GOOD;
      status = try_post(session, &it);
      if (status == DISCO_OK) status = sync_for(session, BOUND_MS);
    }
  }
  expect_lost(session, victim, status);
  status = try_post(session, &it); /* and stays so */
  expect_lost(session, victim, status);
  close_scene(session);
}

static void kills(void **state) {
  const scene *at_scene = *state;
  int turn = at_scene->workers;
  for (int i = 0; i < WAYS; i++)
    for (int op = 0; op < OPERATIONS; op++) {
      scene where = *at_scene;
      bool seen[MAX_WORKERS][POINTS];
      if (!has_way((operation)op, (way)i)) continue;
      where.way = (way)i;
      discover(&where, (operation)op, seen);
      for (int32_t w = 0; w < where.workers; w++) /* the others never wait for the last one then */
        seen[w][AT_ABORTED] = op == ALLREDUCE || op == ALLGATHER;
      for (int at = 0; at < POINTS; at++) {
        turn++;
        for (int32_t tries = 0; tries < where.workers - 1; tries++) { /* worker 0 is a thread of ours */
          const int32_t victim = 1 + (turn + tries) % (where.workers - 1);
          if (!seen[victim][at]) continue;
          if (chosen((uint64_t)turn, 1, 10)) kill_at(&where, (operation)op, turn, victim, at);
          break;
        }
      }
    }
}

static void some_kills(void **state) {
  scene where = *(const scene *)*state;
  for (int i = 0; i < scaled(48, 6); i++) {
    const spot it = draw_spot(&where, (uint64_t)i);
    where.way = it.way;
    kill_at(&where, it.operation, i, it.victim, it.at);
  }
}

static scene two = {.processes = true, .workers = 2, .groups = 1},
             three = {.processes = true, .workers = 3, .groups = 1},
             five = {.processes = true, .workers = 5, .groups = 1},
             groups = {.processes = true, .workers = 4, .groups = 2},
             seven = {.processes = true, .workers = 7, .groups = 1},
             eight = {.processes = true, .workers = 8, .groups = 1},
             quads = {.processes = true, .workers = 8, .groups = 2};

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define AT(test, where) {#test ", " #where, test, NULL, NULL, &(where)}
      AT(kills, two),        AT(kills, three),      AT(kills, five),       AT(kills, groups),
      AT(some_kills, seven), AT(some_kills, eight), AT(some_kills, quads),
  };
  return stuck_main(argc, argv, "stuck.kills", tests, sizeof(tests) / sizeof(tests[0]));
}
