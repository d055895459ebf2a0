/* Who waits for whom: rings of workers in different operations, which no entry shows, end by themselves and say who; a
 * wait that somebody may still end is none. World and groups in flight at once, one of them failing. And patience that
 * ends. With threads, and with processes for what may differ there. */
#include <stdio.h>

#include "stuck/support.h"

enum { SMALL = 4, LARGE = 65536 };

static disco_session *open_of(int32_t workers, int32_t groups, bool processes, uint32_t timeout_ms) {
  const scene where = {
      .processes = processes, .workers = workers, .groups = groups, .way = ONESHOT, .timeout_ms = timeout_ms};
  reset_pauses();
  return open_scene(&where);
}

static void expect_ring(disco_session *session, const char *part, const char *other) {
  const disco_status status = sync_for(session, BOUND_MS);
  if (status == DISCO_OK || status == DISCO_TIMEOUT) OK(session, status == DISCO_OK ? DISCO_RUNTIME : status);
  ERROR_IS("CollectiveError", part);
  ERROR_IS("CollectiveError", other);
  const task good = task_of(ALLREDUCE, ONESHOT, disco_session_num_workers(session), 7);
  check_recovers(session, &good, true);
  const task chain = task_of(TRANSFER, DIRECT, disco_session_num_workers(session), 8);
  check_recovers(session, &chain, true);
}

/* ---- Rings ---- */

static void rings(void **state) {
  const bool processes = *(const bool *)*state;
  for (int round = 0; round < scaled(processes ? 2 : 6, 1); round++) {
    disco_session *session = open_of(4, 2, processes, 0);
    const int64_t nap = round * 700;
    say_case("world against group, round %d", round);
    STEPS(session, {1, SLEEP, 0, nap}, {0, REDUCE_ALL, 0, SMALL}, {1, REDUCE_GROUP, 0, SMALL},
          {2, REDUCE_ALL, 0, SMALL}, {3, REDUCE_ALL, 0, SMALL});
    expect_ring(session, "among all 4 workers", "group 0");
    STEPS(session, {0, REDUCE_ALL, 0, LARGE}, {1, REDUCE_ALL, 0, LARGE}, {2, REDUCE_GROUP, 0, LARGE},
          {3, SLEEP, 0, nap}, {3, REDUCE_ALL, 0, LARGE});
    expect_ring(session, "among all 4 workers", "group 1");
    say_case("two that receive from each other, round %d", round);
    STEPS(session, {0, RECV_FROM, 1, SMALL}, {1, SLEEP, 0, nap}, {1, RECV_FROM, 0, SMALL});
    expect_ring(session, "worker 0 waits in the receive", "worker 1 waits in the receive");
    say_case("two that send to each other, round %d", round);
    STEPS(session, {1, SEND_TO, 2, LARGE}, {2, SLEEP, 0, nap}, {2, SEND_TO, 1, LARGE});
    expect_ring(session, "worker 1 waits in the send", "worker 2 waits in the send");
    say_case("three that receive in a ring, round %d", round);
    STEPS(session, {0, RECV_FROM, 1, LARGE}, {1, RECV_FROM, 3, LARGE}, {3, RECV_FROM, 0, LARGE});
    expect_ring(session, "worker 0 waits in the receive", "worker 3 waits in the receive");
    say_case("a transfer against a collective, round %d", round);
    STEPS(session, {0, REDUCE_GROUP, 0, SMALL}, {1, RECV_FROM, 0, SMALL}, {2, REDUCE_GROUP, 0, SMALL},
          {3, REDUCE_GROUP, 0, SMALL});
    expect_ring(session, "worker 0 waits in the allreduce", "worker 1 waits in the receive");
    STEPS(session, {0, SEND_TO, 1, LARGE}, {0, REDUCE_ALL, 0, SMALL}, {1, REDUCE_ALL, 0, SMALL},
          {1, RECV_FROM, 0, LARGE}, {2, REDUCE_ALL, 0, SMALL}, {3, REDUCE_ALL, 0, SMALL});
    expect_ring(session, "worker 0 waits in the send", "worker 1 waits in the allreduce");
    close_scene(session);
  }
}

/* Long waits that end: nobody may call them a ring. */
static void no_ring(void **state) {
  const bool processes = *(const bool *)*state;
  disco_session *session = open_of(4, 2, processes, 0);
  for (int round = 0; round < scaled(processes ? 3 : 8, 1); round++) {
    const int64_t nap = 4000 + round * 3000;
    say_case("waits that end, round %d", round);
    /* The sender comes in a later command. */
    STEPS(session, {1, RECV_FROM, 0, round % 2 ? SMALL : LARGE}, {0, SLEEP, 0, nap});
    STEPS(session, {0, SLEEP, 0, nap}, {0, SEND_TO, 1, round % 2 ? SMALL : LARGE});
    /* Sends and receives that cross, each received in the end. */
    STEPS(session, {0, SEND_TO, 1, SMALL}, {1, SEND_TO, 0, SMALL}, {0, SLEEP, 0, nap}, {0, RECV_FROM, 1, SMALL},
          {1, RECV_FROM, 0, SMALL});
    STEPS(session, {0, SEND_TO, 2, LARGE}, {2, SLEEP, 0, nap}, {2, RECV_FROM, 0, LARGE}, {2, SEND_TO, 0, LARGE},
          {0, RECV_FROM, 2, LARGE});
    /* All but one wait for the last one, which sleeps; then in groups; then those behind a receive. */
    STEPS(session, {0, REDUCE_ALL, 0, SMALL}, {1, REDUCE_ALL, 0, SMALL}, {2, REDUCE_ALL, 0, SMALL}, {3, SLEEP, 0, nap},
          {3, REDUCE_ALL, 0, SMALL});
    STEPS(session, {0, REDUCE_GROUP, 0, LARGE}, {0, REDUCE_ALL, 0, SMALL}, {1, SLEEP, 0, nap},
          {1, REDUCE_GROUP, 0, LARGE}, {1, REDUCE_ALL, 0, SMALL}, {2, REDUCE_GROUP, 0, LARGE},
          {2, REDUCE_ALL, 0, SMALL}, {3, REDUCE_GROUP, 0, LARGE}, {3, REDUCE_ALL, 0, SMALL});
    STEPS(session, {0, REDUCE_GROUP, 0, SMALL}, {1, RECV_FROM, 2, SMALL}, {1, REDUCE_GROUP, 0, SMALL},
          {2, SLEEP, 0, nap}, {2, SEND_TO, 1, SMALL}, {2, REDUCE_GROUP, 0, SMALL}, {3, REDUCE_GROUP, 0, SMALL});
    SYNC_OK(session);
    /* After a failure, while one is still busy in the command before: all wait for it to come to the new epoch. */
    STEPS(session, {3, SLEEP, 0, nap});
    task bad = task_of(ALLREDUCE, ONESHOT, 4, round);
    bad.who = 1;
    bad.how = RAISE;
    post(session, &bad);
    assert_int_not_equal(sync_for(session, BOUND_MS), DISCO_OK);
    ERROR_IS("ValueError", "worker 1 " RAISED_TEXT);
    STEPS(session, {0, REDUCE_ALL, 0, SMALL}, {1, REDUCE_ALL, 0, SMALL}, {2, REDUCE_ALL, 0, SMALL},
          {3, REDUCE_ALL, 0, SMALL});
    STEPS(session, {0, SEND_TO, 3, SMALL}, {3, RECV_FROM, 0, SMALL}, {3, SEND_TO, 0, LARGE}, {0, RECV_FROM, 3, LARGE});
    SYNC_OK(session);
  }
  close_scene(session);
}

/* ---- World and groups at once ---- */

static void one_group_fails(void **state) {
  const bool processes = *(const bool *)*state;
  disco_session *session = open_of(4, 2, processes, 0);
  for (int round = 0; round < scaled(processes ? 20 : 60, 5); round++) {
    const int64_t size = round % 2 ? SMALL : LARGE;
    const int32_t bad = round % 4;
    char text[64];
    say_case("group of worker %d fails, round %d", bad, round);
    for (int i = 0; i < 3; i++) {
      task it = task_of((operation)((round + i) % TRANSFER), i == 1 ? DIRECT : ONESHOT, i == 1 ? 4 : 2, round);
      it.in_group = i != 1;
      it.memory = (round + i) % MEMORIES;
      it.jitter = round + 1;
      if (i == 2) {
        it.who = bad;
        it.how = RAISE;
      }
      post(session, &it);
    }
    STEPS(session, {0, REDUCE_ALL, 0, size}, {1, REDUCE_ALL, 0, size}, {2, REDUCE_ALL, 0, size},
          {3, REDUCE_ALL, 0, size});
    const disco_status status = sync_for(session, BOUND_MS);
    assert_int_not_equal(status, DISCO_OK);
    (void)snprintf(text, sizeof(text), "worker %d " RAISED_TEXT, bad);
    ERROR_IS("ValueError", text);
    task good = task_of((operation)(round % OPERATIONS), round % 3 ? DIRECT : ONESHOT, 4, round);
    check_recovers(session, &good, true);
    good.in_group = 1;
    check_recovers(session, &good, true);
  }
  close_scene(session);
}

/* ---- Patience ---- */

static void nobody_comes(void **state) {
  (void)state;
  for (int i = 0; i < WAYS; i++) {
    const scene where = {.workers = 3, .groups = 1, .way = (way)i, .timeout_ms = 150};
    disco_session *session = open_scene(&where);
    for (int op = 0; op < OPERATIONS; op++) {
      /* Late is the one that is waited for: the root, the first of a chain, or the last one. */
      const int32_t late = op == BROADCAST || op == SCATTER || op == TRANSFER ? 0 : 2;
      char name[48];
      task it = task_of((operation)op, where.way, 3, op + i);
      it.who = late;
      it.gated = 1;
      it.how = RAISE; /* when it comes at last */
      it.memory = PAGES;
      if (!has_way((operation)op, where.way) || !chosen((uint64_t)(op * 31 + i), 2, 2)) continue;
      say_case("worker %d never comes to operation %d of way %d", late, op, i);
      reset_pauses();
      post(session, &it);
      assert_int_not_equal(sync_for(session, BOUND_MS), DISCO_OK);
      (void)snprintf(name, sizeof(name), "ms for worker %d in the", late);
      /* Who follows another's example says what that one said. */
      if (!last_is("CollectiveError")) ERROR_IS("TimeoutError", "ms for worker ");
      ERROR_IS(last_error().kind, "(collective_timeout)");
      ERROR_IS(last_error().kind, op == TRANSFER ? "ms for worker" : name);
      open_gate();
      check_recovers(session, &it, true);
    }
    close_scene(session);
  }
}

static bool threads = false, processes = true;

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define OF(test, kind) {#test ", " #kind, test, NULL, NULL, &(kind)}
      OF(rings, threads),           OF(rings, processes),           OF(no_ring, threads),
      OF(one_group_fails, threads), OF(one_group_fails, processes), OF(nobody_comes, threads),
  };
  return stuck_main(argc, argv, "stuck.tangles", tests, sizeof(tests) / sizeof(tests[0]));
}
