#include "chaos/chaos.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char usage[] =
    "usage: chaos [--kills N] [--seed S] [--first STEP] [--sessions ring|pipe|both|foreign|all]\n"
    "             [--fault NUMBER] [--verbose]\n"
    "       chaos --saturate [SECONDS] [--seed S]\n"
    "without --kills: 300, divided by DISCO_TEST_SCALE, at least 15\n";

typedef struct {
  int64_t kills, first;
  uint64_t seed;
  unsigned transports;
  const char *sessions;
  int fault, saturate; /* saturate: seconds, 0 for the kills */
  bool verbose;
} arguments;

static int64_t default_kills(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int64_t scale = text != NULL ? atoll(text) : 1, kills = 300 / (scale > 0 ? scale : 1);
  return kills < 15 ? 15 : kills;
}

static bool read_sessions(const char *name, arguments *ret) {
  static const struct {
    const char *name;
    unsigned transports;
  } all[] = {{"ring", 1u << CHAOS_RING},
             {"pipe", 1u << CHAOS_PIPE},
             {"both", 1u << CHAOS_RING | 1u << CHAOS_PIPE},
             {"foreign", 1u << CHAOS_FOREIGN | 1u << CHAOS_FOREIGN_PIPE},
             {"all", (1u << CHAOS_TRANSPORTS) - 1}};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
    if (strcmp(all[i].name, name) != 0) continue;
    ret->sessions = all[i].name;
    ret->transports = all[i].transports;
    return true;
  }
  return false;
}

static bool read_arguments(int argc, char **argv, arguments *ret) {
  *ret = (arguments){.kills = default_kills(), .seed = 1, .fault = FAULTS};
  (void)read_sessions("all", ret);
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(name, "--verbose") == 0) {
      ret->verbose = true;
      continue;
    }
    if (strcmp(name, "--saturate") == 0 && (value == NULL || value[0] == '-')) {
      ret->saturate = 5;
      continue;
    }
    if (value == NULL) return false;
    i++;
    if (strcmp(name, "--kills") == 0)
      ret->kills = atoll(value);
    else if (strcmp(name, "--first") == 0)
      ret->first = atoll(value);
    else if (strcmp(name, "--seed") == 0)
      ret->seed = strtoull(value, NULL, 0);
    else if (strcmp(name, "--saturate") == 0)
      ret->saturate = atoi(value);
    else if (strcmp(name, "--fault") == 0)
      ret->fault = atoi(value);
    else if (strcmp(name, "--sessions") != 0 || !read_sessions(value, ret))
      return false;
  }
  return ret->kills > 0 && ret->fault >= 0 && ret->fault <= FAULTS && ret->fault != FAULT_NONE && ret->saturate >= 0;
}

/* ---- The table ---- */

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return x < y ? -1 : x > y;
}

static void print_latency(const char *title, int64_t *ns, int64_t count) {
  if (count == 0) return;
  qsort(ns, (size_t)count, sizeof(*ns), compare);
  printf("%-38s %5lld %9.3f %9.3f %9.3f\n", title, (long long)count, (double)ns[count / 2] / 1e6,
         (double)ns[count * 99 / 100] / 1e6, (double)ns[count - 1] / 1e6);
}

static void print_faults(const chaos_totals *totals) {
  printf("\n%-36s %7s\n", "fault", "count");
  for (int i = 0; i < FAULTS; i++)
    if (totals->faults[i] > 0 && i != FAULT_INSIDE)
      printf("%-36s %7lld\n", chaos_faults[i], (long long)totals->faults[i]);
  if (totals->fell_back > 0)
    printf("%-36s %7lld\n", "SIGKILL, the point was not reached", (long long)totals->fell_back);
  printf("\n%-36s %7s %8s %8s\n", "ends itself", "SIGKILL", "exit(41)", "_exit(0)");
  for (int i = 0; i < CHAOS_POINTS; i++)
    printf("%-36s %7lld %8lld %8lld\n", chaos_points[i], (long long)totals->inside[i][CHAOS_KILL],
           (long long)totals->inside[i][CHAOS_EXIT], (long long)totals->inside[i][CHAOS_EXIT_NOW]);
}

static void print_table(const arguments *args, chaos_totals *totals, const chaos_census *before, double seconds) {
  print_faults(totals);
  printf("\n%-36s %7s\n", "sessions", "count");
  for (int i = 0; i < CHAOS_TRANSPORTS; i++)
    printf("%-36s %7lld\n", chaos_transports[i], (long long)totals->sessions[i]);
  printf("%-36s %7lld\n%-36s %7lld\n%-36s %7lld\n%-36s %7lld\n%-36s %7lld\n", "workers", (long long)totals->workers,
         "calls", (long long)totals->calls, "values checked", (long long)totals->checked, "with raises",
         (long long)totals->raised_sessions, "shutdowns that killed a worker", (long long)totals->killed_by_shutdown);
  printf("\n%-38s %5s %9s %9s %9s\n", "SIGKILL, SIGSEGV to return of sync, ms", "count", "p50", "p99", "max");
  static const char *const how[CHAOS_LATENCIES] = {"its process is known", "only its pipe is known"};
  for (int i = 0; i < CHAOS_LATENCIES; i++) print_latency(how[i], totals->latency_ns[i], totals->latencies[i]);
  printf("\n%-8s %8s %8s %12s %7s %10s %11s %11s %9s\n", "census", "children", "threads", "descriptors", "memfds",
         "memfd maps", "file maps", "other maps", "RSS KiB");
  chaos_census after = chaos_count();
  chaos_print_census("before", before);
  chaos_print_census("after", &after);
  printf("RSS KiB after each quarter: %ld %ld %ld %ld\n", totals->resident_kib[0], totals->resident_kib[1],
         totals->resident_kib[2], totals->resident_kib[3]);
  printf("\nseed %llu, sessions %s, steps %lld to %lld, %.1f s: passed\n", (unsigned long long)args->seed,
         args->sessions, (long long)args->first, (long long)(args->first + args->kills - 1), seconds);
  /* malloc's arenas fill in the first hundreds of sessions; then nothing may depend on their number. */
  const long slack_kib = 48 * 1024, later_slack_kib = 16 * 1024;
  bool grew = after.resident_kib > before->resident_kib + slack_kib;
  if (args->kills >= 1000) grew = grew || after.resident_kib > totals->resident_kib[0] + later_slack_kib;
  if (!CHAOS_SANITIZED && grew)
    chaos_fail("resident memory grew from %ld to %ld KiB", before->resident_kib, after.resident_kib);
}

static void run_kills(const arguments *args) {
  enum { MOST = 1 << 20, WARM_UPS = 8 };
  static chaos_totals totals, unused;
  for (int i = 0; i < CHAOS_LATENCIES; i++) {
    totals.latency_ns[i] = malloc(MOST * sizeof(int64_t));
    unused.latency_ns[i] = malloc(MOST * sizeof(int64_t));
    if (totals.latency_ns[i] == NULL || unused.latency_ns[i] == NULL) chaos_fail("no memory");
  }
  /* What stays for good is made by the first sessions: two of each kind, from steps of their own. */
  for (int i = 0; i < WARM_UPS; i++)
    chaos_scenario(args->seed, -1 - i, 1u << i % CHAOS_TRANSPORTS, FAULT_SIGKILL, args->verbose, &unused);
  chaos_sleep_us(100000);
  chaos_census before = chaos_count();
  before.children = 0;
  int64_t began = chaos_now_ns();
  for (int64_t i = 0; i < args->kills; i++) {
    chaos_scenario(args->seed, args->first + i, args->transports, args->fault, args->verbose, &totals);
    chaos_expect_census(&before);
    if ((i + 1) * CHAOS_QUARTERS % args->kills < CHAOS_QUARTERS)
      totals.resident_kib[(i + 1) * CHAOS_QUARTERS / args->kills - 1] = chaos_count().resident_kib;
  }
  print_table(args, &totals, &before, (double)(chaos_now_ns() - began) / 1e9);
  for (int i = 0; i < CHAOS_LATENCIES; i++) {
    free(totals.latency_ns[i]);
    free(unused.latency_ns[i]);
  }
}

int main(int argc, char **argv) {
  const struct rlimit no_core = {0, 0};
  arguments args;
  chaos_register();
  chaos_be_worker(argc, argv);
  if (!read_arguments(argc, argv, &args)) {
    (void)fputs(usage, stderr);
    return 2;
  }
  (void)setvbuf(stdout, NULL, _IOLBF, 0);
  (void)setrlimit(RLIMIT_CORE, &no_core);
  chaos_shared = chaos_make_board();
  if (chaos_shared == NULL) {
    perror("chaos: no shared page");
    return 2;
  }
  chaos_watch(args.seed, args.sessions, args.fault);
  if (args.saturate > 0)
    chaos_saturate(args.seed, args.saturate);
  else
    run_kills(&args);
  return 0;
}
