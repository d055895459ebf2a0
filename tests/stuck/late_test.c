/* One worker stands at a named point in the middle of an operation: it may be storing into the tensors of others, or
 * reading them. Then somebody elsewhere fails, or the others lose patience. Whoever returned with an error has freed
 * its tensors at once (memory that is gone, not only undefined), so nobody may leave while the standing one could still
 * touch them; and everybody leaves once it goes on. */
#include <stdio.h>

#include "stuck/support.h"

static bool ever_seen[POINTS];

static task middle(const scene *where, operation op, int turn, int32_t target, int at) {
  task it = task_of(op, where->way, where->workers / where->groups, turn);
  if (where->way == REF) it.count = 65536;
  it.memory = turn % MEMORIES;
  it.in_group = where->groups > 1;
  it.target = target;
  it.point = at;
  it.action = PAUSE;
  it.pass = turn / 3 % 2; /* the second time, too, where there is one */
  if (at == AT_BEGIN || at == AT_ENTERED || at == AT_BEFORE_FINISHED || at == AT_READING) it.pass = 0;
  /* What touches others' tensors right after the pause, does it in memory that tells. */
  if (at == AT_STORING || at == AT_READING) it.memory = PAGES;
  return it;
}

static void name_case(const scene *where, const task *it, const char *what) {
  say_case("%s, %s, p = %d in %d groups, worker %d at %s, pass %d, memory %d, turn %d: %s",
           operation_names[it->operation], way_names[where->way], where->workers, where->groups, (int)it->target,
           point_names[it->point], (int)it->pass, (int)it->memory, (int)it->seed, what);
}

/* Those who cannot do without the standing one give up while it stands: all, when it has not entered an operation that
 * needs everybody, or is not done with their tensors. */
static void expect_the_others_to_give_up(const scene *where, const task *it, const bool *began) {
  const int32_t ranks = where->workers / where->groups, first = (int32_t)it->target / ranks * ranks;
  const bool needs_all = it->operation == ALLREDUCE || it->operation == ALLGATHER;
  const bool stands_before = it->point == AT_BEGIN || (is_direct(where->way) && it->point == AT_BEFORE_FINISHED);
  if (!needs_all || !stands_before) return;
  for (int32_t i = first; i < first + ranks; i++) {
    if (i == it->target || !began[i] || wait_abort_of(i, BOUND_MS)) continue; /* else it skipped the command */
    print_error("%s: worker %d does not give up\n", case_text(), i);
    release_paused();
    fail();
  }
}

/* A worker of the other group raises in the command before: told at once, whoever stands where. */
static void fail_elsewhere(disco_session *session, const scene *where, const task *it) {
  const int32_t culprit = it->target < where->workers / 2 ? where->workers - 1 : 0;
  char text[64];
  (void)snprintf(text, sizeof(text), "worker %d " RAISED_TEXT, culprit);
  name_case(where, it, "fails elsewhere");
  reset_pauses();
  post_gate(session, culprit);
  post(session, it);
  const bool reached = wait_reached(it->pass == 0 ? BOUND_MS : 3);
  if (it->pass == 0 && !reached) {
    print_error("%s: the point was not reached\n", case_text());
    open_gate();
    release_paused();
    fail();
  }
  bool began[MAX_WORKERS];
  for (int32_t i = 0; i < where->workers; i++) began[i] = has_passed(i, AT_BEGIN);
  open_gate();
  const disco_status status = sync_for(session, BOUND_MS);
  if (status == DISCO_OK) print_error("%s: nothing was told\n", case_text());
  if (status == DISCO_OK) release_paused();
  assert_int_not_equal(status, DISCO_OK);
  ERROR_IS("ValueError", text);
  expect_the_others_to_give_up(where, it, began);
  if (it->seed % 2 == 0) { /* the next one waits for the standing one */
    task next = *it;
    next.target = NOBODY;
    next.action = NO_ACTION;
    post(session, &next);
  } else if (reached && it->seed % 4 == 1) {
    (void)wait_aborts(1, 1);
  }
  release_paused();
  check_recovers(session, it, true);
}

typedef void (*one_case)(disco_session *session, const scene *where, const task *it);

static void at_every_point(const scene *where, one_case run, int places, int share) {
  disco_session *session = open_scene(where);
  const int32_t ranks = where->workers / where->groups;
  uint64_t index = (uint64_t)where->workers * 10000 + (uint64_t)where->way * 1000;
  int turn = 0;
  for (int op = 0; op < OPERATIONS; op++) {
    bool seen[MAX_WORKERS][POINTS];
    if (!has_way((operation)op, where->way)) continue;
    discover(where, (operation)op, seen);
    for (int at = 0; at < POINTS; at++) {
      int done = 0;
      for (int32_t i = 0; i < where->workers; i++) ever_seen[at] = ever_seen[at] || seen[i][at];
      for (int32_t i = 0; i < where->workers && done < places; i++) {
        const int32_t target = (i + turn) % where->workers;
        if (!seen[target][at] || (places < ranks && i % 2 != 0 && i + 1 < where->workers)) continue;
        done++;
        turn++;
        if (!chosen(index++, share, 3)) continue;
        const task it = middle(where, (operation)op, turn, target, at);
        run(session, where, &it);
      }
    }
  }
  close_scene(session);
}

static void failures_elsewhere(void **state) {
  const scene *at = *state;
  for (int i = 0; i < WAYS; i++) {
    scene where = *at;
    where.way = (way)i;
    at_every_point(&where, fail_elsewhere, 6, at->workers == 8 ? 4 : at->workers == 6 ? 2 : 1);
  }
}

/* Nobody fails, but the others wait no longer than so long: told as that, with whom they waited for. */
static void lose_patience(disco_session *session, const scene *where, const task *it) {
  name_case(where, it, "the others lose patience");
  reset_pauses();
  post(session, it);
  const bool reached = wait_reached(it->pass == 0 ? BOUND_MS : 3);
  disco_status status = DISCO_TIMEOUT;
  if (reached && wait_aborts(1, (int64_t)where->timeout_ms * 3)) {
    if (it->seed % 2 == 0) sleep_us(2000);
  }
  release_paused();
  status = sync_for(session, BOUND_MS);
  if (status != DISCO_OK) {
    /* Not always the standing one's: who was waited for may have waited, too. */
    if (!last_is("CollectiveError")) ERROR_IS("TimeoutError", " ms for worker ");
    ERROR_IS(last_error().kind, "(collective_timeout)");
  }
  check_recovers(session, it, status != DISCO_OK);
}

static void patience_ends(void **state) {
  const scene *at = *state;
  const way ways[] = {ONESHOT, DIRECT, PUSH, STAGED, REF};
  for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
    scene where = *at;
    where.way = ways[i];
    at_every_point(&where, lose_patience, 1, 4);
  }
}

/* What is not listed here is never tested anywhere. */
static void every_point_was_passed(void **state) {
  (void)state;
  if (getenv("DISCO_TEST_FILTER") != NULL) skip(); /* only some of the tests ran */
  for (int at = 0; at < POINTS; at++) {
    if (at == AT_ABORTED) continue; /* passed where something fails: points_test.c */
    if (!ever_seen[at]) print_error("nobody ever passes %s\n", point_names[at]);
    assert_true(ever_seen[at]);
  }
}

static scene pairs = {.workers = 4, .groups = 2}, triples = {.workers = 6, .groups = 2},
             quads = {.workers = 8, .groups = 2}, two = {.workers = 2, .groups = 1, .timeout_ms = 150},
             three = {.workers = 3, .groups = 1, .timeout_ms = 150};

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define AT(test, where) {#test ", " #where, test, NULL, NULL, &(where)}
      AT(failures_elsewhere, pairs), AT(failures_elsewhere, triples), AT(failures_elsewhere, quads),
      AT(patience_ends, two),        AT(patience_ends, three),        cmocka_unit_test(every_point_was_passed),
  };
  return stuck_main(argc, argv, "stuck.late", tests, sizeof(tests) / sizeof(tests[0]));
}
