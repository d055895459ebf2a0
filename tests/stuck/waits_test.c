/* What waiting costs: ranks whose member comes late sleep, and ranks that have no CPU of their own do not keep others
 * from theirs. Asserted are CPU time and switches, with a wide margin, and never how long anything took; the figures
 * are printed. On two CPUs, whatever the machine has. */
#include <sched.h>
#include <stdio.h>

#include "stuck/support.h"

/* At most one part in so many of a wait on a CPU. A second should take a thousandth; a tenth of a second also has
 * the looks of its first milliseconds, and what the operation moves; a rank that spins takes a quarter and more. */
enum { LONG_SHARE = 50, SHORT_SHARE = 20, LONG_US = 1000000, SHORT_US = 100000 };
/* Sleeps of one wait: it looks around after 1, 2, 4, ... 256 ms, and is woken by each that comes. Switches without one:
 * yields, a score for each of the waits that an operation is made of, and what strangers take; who yields until the
 * late one comes makes tens of thousands. */
enum { MOST_SLEEPS = 64, MOST_SWITCHES = 2000 };
/* CPU time of one small operation of one rank, when all come at once: several times what a sanitizer takes, and a
 * fraction of a time slice. */
enum { MOST_CPU_US = 1500 };

/* Elements: to wait, not to move. */
enum { MOST_COUNT = 16384 };

static disco_session *open_of(const scene *where, way which) {
  scene like = *where;
  like.way = which;
  return open_scene(&like);
}

static void name_case(const scene *where, const task *it, way which) {
  say_case("%s, %s, %d %s", operation_names[it->operation], way_names[which], where->workers,
           where->processes ? "processes" : "threads");
}

/* Everybody but the late one waits `late_us`, `times` times. */
static void check_wait(disco_session *session, const scene *where, const task *it, way which, int32_t late,
                       int64_t late_us) {
  cost costs[MAX_WORKERS];
  double most = 0;
  int64_t slept = 0, preempted = 0;
  name_case(where, it, which);
  measure_cost(session, it, NOBODY, 0, costs); /* pages are touched for the first time */
  measure_cost(session, it, late, late_us, costs);
  for (int32_t i = 0; i < where->workers; i++) {
    const cost *its = &costs[i];
    if (i == late) continue;
    if (its->wall_ns * 2 < late_us * 1000 * it->times) { /* not one that waits */
      print_error("%s: worker %d waited %.3f ms only\n", case_text(), i, (double)its->wall_ns * 1e-6);
      fail();
    }
    const double share = (double)its->cpu_ns / (double)its->wall_ns;
    if (share > most) most = share;
    if (its->slept > slept) slept = its->slept;
    if (its->preempted > preempted) preempted = its->preempted;
  }
  print_message("%s: a wait of %d ms: %.3f %% of a CPU, %lld sleeps, gave it up or lost it %lld times\n", case_text(),
                (int)(late_us / 1000), most * 100, (long long)slept, (long long)preempted);
  assert_true(most * (late_us >= LONG_US ? LONG_SHARE : SHORT_SHARE) < 1);
  assert_true(slept < MOST_SLEEPS * it->times);
  assert_true(preempted < MOST_SWITCHES * it->times);
}

/* One comes a tenth of a second late: in each way that there is to wait. */
static void one_comes_late(void **state) {
  static const struct {
    operation operation;
    way way;
  } cases[] = {{ALLREDUCE, INLINE}, {ALLREDUCE, DIRECT}, {ALLREDUCE, PUSH},  {ALLREDUCE, STAGED}, {ALLREDUCE, REF},
               {BROADCAST, INLINE}, {BROADCAST, DIRECT}, {SCATTER, ONESHOT}, {ALLGATHER, STAGED}, {TRANSFER, DIRECT}};
  const scene *where = *state;
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    const operation op = cases[i].operation;
    const int32_t late = op == ALLREDUCE || op == ALLGATHER ? (int32_t)i % where->workers : 0;
    disco_session *session = open_of(where, cases[i].way);
    task it = task_of(op, cases[i].way, where->workers, 1);
    it.memory = is_direct(cases[i].way) ? ARENA : HEAP;
    if (it.count > MOST_COUNT) it.count = MOST_COUNT;
    check_wait(session, where, &it, cases[i].way, late, SHORT_US);
    close_scene(session);
  }
}

/* A second late. */
static void one_comes_very_late(void **state) {
  const scene *where = *state;
  disco_session *session = open_of(where, INLINE);
  const task it = task_of(ALLREDUCE, INLINE, where->workers, 1);
  check_wait(session, where, &it, INLINE, where->workers - 1, LONG_US);
  close_scene(session);
}

/* All come at once, again and again, and there are more of them than CPUs: whoever waits makes room. */
static void many_on_two_cpus(void **state) {
  static const way ways[] = {INLINE, ONESHOT, STAGED};
  const scene *where = *state;
  for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
    disco_session *session = open_of(where, ways[i]);
    cost costs[MAX_WORKERS], sum = {0};
    task it = task_of(ALLREDUCE, ways[i], where->workers, 1);
    it.times = scaled(1000, 50);
    if (it.count > MOST_COUNT) it.count = MOST_COUNT;
    name_case(where, &it, ways[i]);
    measure_cost(session, &it, NOBODY, 0, costs);
    for (int32_t w = 0; w < where->workers; w++) {
      sum.cpu_ns += costs[w].cpu_ns;
      sum.slept += costs[w].slept;
      sum.preempted += costs[w].preempted;
    }
    const double calls = (double)it.times * where->workers, cpu_us = (double)sum.cpu_ns * 1e-3 / calls;
    print_message("%s: each operation of each rank: CPU %.1f us, %.2f sleeps, gave it up or lost it %.2f times\n",
                  case_text(), cpu_us, (double)sum.slept / calls, (double)sum.preempted / calls);
    assert_true(cpu_us < MOST_CPU_US);
    close_scene(session);
  }
}

static scene two_threads = {.workers = 2, .groups = 1}, four_threads = {.workers = 4, .groups = 1},
             eight_threads = {.workers = 8, .groups = 1},
             two_processes = {.processes = true, .workers = 2, .groups = 1},
             four_processes = {.processes = true, .workers = 4, .groups = 1},
             eight_processes = {.processes = true, .workers = 8, .groups = 1};

/* Before anything asks how many CPUs there are; processes inherit it. */
static void keep_two_cpus(void) {
  cpu_set_t allowed;
  int kept = 0;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &allowed) && kept++ >= 2) CPU_CLR(i, &allowed);
  (void)sched_setaffinity(0, sizeof(allowed), &allowed);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define AT(test, where) {#test ", " #where, test, NULL, NULL, &(where)}
      AT(one_comes_late, four_threads),       AT(one_comes_late, four_processes),
      AT(one_comes_late, eight_threads),      AT(one_comes_late, eight_processes),
      AT(one_comes_very_late, two_threads),   AT(one_comes_very_late, two_processes),
      AT(one_comes_very_late, eight_threads), AT(one_comes_very_late, eight_processes),
      AT(many_on_two_cpus, four_threads),     AT(many_on_two_cpus, four_processes),
      AT(many_on_two_cpus, eight_threads),    AT(many_on_two_cpus, eight_processes),
  };
  keep_two_cpus();
  return stuck_main(argc, argv, "stuck.waits", tests, sizeof(tests) / sizeof(tests[0]));
}
