/* The control-plane benchmark: what it costs a controller to have its workers call a function, for any Disco library.
 *
 * It drives the library through the names of the registry alone (client.h), so two libraries run the same code;
 * bench/peers puts them side by side. After every window it checks that every call ran on every worker exactly once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client.h"
#include "measure.h"
#include "pool.h"
#include "probe.h"
#include "workers.h"

enum { EXIT_FINE = 0, EXIT_MISMATCH = 1, EXIT_USAGE = 2, EXIT_LIBRARY = 3, EXIT_HANG = 4 };
enum { MAX_COUNTS = 16, MAX_WINDOWS = 1000, PARKED_SAMPLES = 50, PARKED_MS = 20 };
enum { PART_RATE = 1, PART_LATENCY = 2, PART_DREFS = 4, PART_ALL = 7 };

static const char help[] =
    "usage: disco-bench-control --library PATH [--library PATH ...] [options]\n"
    "\n"
    "Measures the control plane of a Disco library: how fast a controller can have N workers call a function.\n"
    "\n"
    "  --library PATH        load this library; several are loaded in the order given:\n"
    "                        --library libdisco.so\n"
    "                        --library libtvm_runtime.so --library libtvm_runtime_extra.so\n"
    "  --workers N,N,...     worker counts, measured in turn (default 1,2,4,8)\n"
    "  --threads             workers are threads (default)\n"
    "  --processes           worker 0 is a thread, the others are processes\n"
    "  --windows W           windows per worker count (default 3); a window is a fresh session\n"
    "  --window SECONDS      aim of each measurement in a window (default 0.15)\n"
    "  --drefs D             arguments of the call with arguments (default 180)\n"
    "  --only PARTS          some of rate,latency,drefs\n"
    "  --json                one JSON object per window instead of a table\n"
    "  --timeout SECONDS     give up with exit code 4 when a window takes longer (default 60)\n"
    "  --idle SECONDS        instead: the CPU time and context switches of idle workers over that time, and what it "
    "takes to wake them,\n"
    "                        beside a bare futex wake\n"
    "  --instructions K      instead: hold the workers at a gate and issue K calls in the function "
    "bench_issue_counted, for callgrind;\n"
    "                        bench/instructions drives it. Arguments per call: --drefs (default 0 here)\n"
    "\n"
    "Columns, medians over the windows (with p10-p90 where two numbers follow):\n"
    "  ping-pong   a flag's round trip between two threads at that moment, ns. It is the machine's distance between "
    "CPUs and changes from\n"
    "              minute to minute: compare times only between windows where it is alike\n"
    "  others      CPUs that other programs used during the window: above 0.2 or so, the times say little\n"
    "  M calls/s   calls issued one after another, results dropped at once, until all workers have done them\n"
    "  issue       ns of the controller per call in that stream, waiting for room included\n"
    "  burst       ns of the controller per call in bursts of 200, which no library has to wait for\n"
    "  call+sync   one call and the wait for all workers, us\n"
    "  per DRef    ns of the controller per extra DRef argument, from bursts with D and with no arguments\n"
    "\n"
    "Exit codes: 0 every call ran on every worker exactly once; 1 a count was wrong; 2 usage; 3 the library could not "
    "be loaded, lacks a\n"
    "function or raised an error; 4 no progress within --timeout.\n";

typedef struct {
  char *libraries[BENCH_MAX_LIBRARIES];
  int num_libraries;
  int counts[MAX_COUNTS];
  int num_counts;
  bool processes;
  bool json;
  int windows;
  double window_s;
  int drefs;
  int parts;
  int timeout_s;
  double idle_s;
  uint64_t instructions;
  const char *worker_process;
} options;

typedef struct {
  int workers;
  int window;
  bench_spread pingpong;
  bench_rate rate;
  bench_latency latency;
  bench_dref_cost drefs;
  uint64_t counted;    /* calls that every worker was seen to have run */
  double foreign_cpus; /* CPUs that others used meanwhile */
} window;

/* ---- A clock over every window: a library that hangs is a result too. */

static const char *volatile phase = "start";
static volatile int phase_workers;

static void write_text(const char *text) {
  ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
  (void)ignored;
}

static void on_alarm(int signal_number) {
  (void)signal_number;
  char digits[12] = {0};
  int at = (int)sizeof digits - 1;
  for (int n = phase_workers; at > 0 && (n > 0 || at == (int)sizeof digits - 1); n /= 10)
    digits[--at] = (char)('0' + n % 10);
  write_text("no progress within the timeout, with ");
  write_text(digits + at);
  write_text(" workers, in: ");
  write_text(phase);
  write_text("\n");
  _exit(EXIT_HANG);
}

static void enter(const options *opt, const char *name, int workers) {
  phase = name;
  phase_workers = workers;
  alarm((unsigned)opt->timeout_s);
}

/* ---- One window ---- */

static int probe(double *values, size_t *num_values) {
  bench_sleep_ms(2); /* idle workers have stopped spinning by then */
  if (bench_pingpong(values + *num_values) != 0) return -1;
  *num_values += BENCH_PINGPONG_BURSTS;
  return 0;
}

/* Everything that is issued and checked between a session's start and its end. 0, or an exit code. */
static int run_parts(const options *opt, bench_job *job, uint64_t *calls_guess, window *w) {
  double pingpong[2 * BENCH_PINGPONG_BURSTS];
  size_t num_pingpong = 0;
  enter(opt, "ping-pong", w->workers);
  if (probe(pingpong, &num_pingpong) != 0) return EXIT_LIBRARY;
  enter(opt, "issue rate", w->workers);
  if ((opt->parts & PART_RATE) && bench_measure_rate(job, opt->window_s, calls_guess, &w->rate) != 0)
    return EXIT_LIBRARY;
  enter(opt, "call and sync", w->workers);
  if ((opt->parts & PART_LATENCY) && bench_measure_latency(job, opt->window_s, &w->latency) != 0) return EXIT_LIBRARY;
  enter(opt, "calls with DRefs", w->workers);
  if ((opt->parts & PART_DREFS) && bench_measure_drefs(job, opt->window_s, &w->drefs) != 0) return EXIT_LIBRARY;
  enter(opt, "second ping-pong", w->workers);
  if (probe(pingpong, &num_pingpong) != 0) return EXIT_LIBRARY;
  w->pingpong = bench_spread_of(pingpong, num_pingpong);
  w->counted = job->calls;
  return bench_table_check(job->table, w->workers, job->calls, job->sum) ? EXIT_FINE : EXIT_MISMATCH;
}

static int run_window(const options *opt, bench_table *table, uint64_t *calls_guess, window *w) {
  static bench_job job;
  bench_client client;
  double start = bench_now(), foreign = bench_foreign_cpu_s();
  bench_table_reset(table);
  enter(opt, "opening the session", w->workers);
  if (bench_open(&client, w->workers, opt->processes) != 0) return EXIT_LIBRARY;
  int rc = EXIT_LIBRARY;
  enter(opt, "first calls", w->workers);
  if (bench_job_open(&job, &client, table, opt->drefs) == 0) {
    rc = run_parts(opt, &job, calls_guess, w);
    enter(opt, "dropping the registers", w->workers);
    bench_job_close(&job);
  }
  enter(opt, "shutdown", w->workers);
  if (bench_close(&client) != 0 && rc == EXIT_FINE) rc = EXIT_LIBRARY;
  alarm(0);
  foreign = (bench_foreign_cpu_s() - foreign) / (bench_now() - start);
  w->foreign_cpus = foreign > 0 ? foreign : 0;
  return rc;
}

/* ---- Output ---- */

static double per_dref(const options *opt, double with, double without) {
  return opt->drefs > 0 ? (with - without) / opt->drefs : 0;
}

static void print_json(const options *opt, const window *w) {
  printf("{\"mode\": \"%s\", \"workers\": %d, \"window\": %d", opt->processes ? "processes" : "threads", w->workers,
         w->window);
  printf(", \"pingpong_ns\": %.1f, \"pingpong_p10_ns\": %.1f, \"pingpong_p90_ns\": %.1f", w->pingpong.p50,
         w->pingpong.p10, w->pingpong.p90);
  if (opt->parts & PART_RATE) {
    printf(", \"calls\": %llu, \"calls_per_s\": %.0f, \"issue_ns\": %.2f", (unsigned long long)w->rate.calls,
           w->rate.calls_per_s, w->rate.issue_ns);
  }
  if (opt->parts & PART_LATENCY) {
    printf(", \"latency_samples\": %llu, \"latency_p10_us\": %.3f, \"latency_p50_us\": %.3f, \"latency_p90_us\": %.3f",
           (unsigned long long)w->latency.samples, w->latency.us.p10, w->latency.us.p50, w->latency.us.p90);
  }
  if (opt->parts & PART_DREFS) {
    printf(", \"drefs\": %d, \"burst_0_ns\": %.2f, \"burst_n_ns\": %.2f, \"per_dref_ns\": %.3f, \"per_dref_total_ns\": "
           "%.3f",
           opt->drefs, w->drefs.issue_0_ns, w->drefs.issue_n_ns,
           per_dref(opt, w->drefs.issue_n_ns, w->drefs.issue_0_ns),
           per_dref(opt, w->drefs.total_n_ns, w->drefs.total_0_ns));
  }
  printf(", \"foreign_cpus\": %.2f, \"counted\": %llu, \"ffi\": \"%s\"}\n", w->foreign_cpus,
         (unsigned long long)w->counted, bench_ffi_path());
  fflush(stdout);
}

/* The columns of the table: each is one figure of a window, shown as its median and, when `spread`, p10 and p90 over
 * the windows. */
typedef struct {
  const char *title;
  int part; /* 0: always */
  int digits;
  bool spread;
} column;

enum {
  COLUMN_PINGPONG,
  COLUMN_FOREIGN,
  COLUMN_RATE,
  COLUMN_ISSUE,
  COLUMN_BURST,
  COLUMN_LATENCY,
  COLUMN_LATENCY_P90,
  COLUMN_DREF,
  NUM_COLUMNS
};

static const column columns[NUM_COLUMNS] = {
    [COLUMN_PINGPONG] = {"ping-pong", 0, 0, true},
    [COLUMN_FOREIGN] = {"others", 0, 2, false},
    [COLUMN_RATE] = {"M calls/s", PART_RATE, 3, true},
    [COLUMN_ISSUE] = {"issue ns", PART_RATE, 1, false},
    [COLUMN_BURST] = {"burst ns", PART_DREFS, 1, false},
    [COLUMN_LATENCY] = {"call+sync us", PART_LATENCY, 2, true},
    [COLUMN_LATENCY_P90] = {"its p90", PART_LATENCY, 2, false},
    [COLUMN_DREF] = {"per DRef", PART_DREFS, 2, false},
};

static double figure(const options *opt, const window *w, int column_id) {
  switch (column_id) {
  case COLUMN_PINGPONG: return w->pingpong.p50;
  case COLUMN_FOREIGN: return w->foreign_cpus;
  case COLUMN_RATE: return w->rate.calls_per_s / 1e6;
  case COLUMN_ISSUE: return w->rate.issue_ns;
  case COLUMN_BURST: return w->drefs.issue_0_ns;
  case COLUMN_LATENCY: return w->latency.us.p50;
  case COLUMN_LATENCY_P90: return w->latency.us.p90;
  default: return per_dref(opt, w->drefs.issue_n_ns, w->drefs.issue_0_ns);
  }
}

static int column_width(const column *c) { return c->spread ? 26 : 10; }

static void print_table(const options *opt, const window *windows, int num_windows) {
  static double values[MAX_WINDOWS];
  printf("\n%s, %d windows each; medians, (p10-p90)\nworkers", opt->processes ? "processes" : "threads", opt->windows);
  for (int c = 0; c < NUM_COLUMNS; c++) {
    if (columns[c].part == 0 || (opt->parts & columns[c].part))
      printf("%*s", column_width(&columns[c]), columns[c].title);
  }
  printf("\n");
  for (int i = 0; i < opt->num_counts; i++) {
    printf("%7d", opt->counts[i]);
    for (int c = 0; c < NUM_COLUMNS; c++) {
      if (columns[c].part != 0 && !(opt->parts & columns[c].part)) continue;
      size_t n = 0;
      for (int j = 0; j < num_windows; j++) {
        if (windows[j].workers == opt->counts[i]) values[n++] = figure(opt, &windows[j], c);
      }
      bench_spread s = bench_spread_of(values, n);
      char text[96];
      int d = columns[c].digits;
      if (columns[c].spread) {
        snprintf(text, sizeof text, "%.*f (%.*f-%.*f)", d, s.p50, d, s.p10, d, s.p90);
      } else {
        snprintf(text, sizeof text, "%.*f", d, s.p50);
      }
      printf("%*s", column_width(&columns[c]), text);
    }
    printf("\n");
  }
}

/* ---- The modes ---- */

/* Worker counts take turns, so that a change of the machine's mood meets all of them. */
static int run_windows(const options *opt, bench_table *table) {
  static window windows[MAX_WINDOWS];
  uint64_t calls_guess[MAX_COUNTS] = {0};
  int n = 0;
  for (int round = 0; round < opt->windows; round++) {
    for (int i = 0; i < opt->num_counts && n < MAX_WINDOWS; i++) {
      window *w = &windows[n];
      memset(w, 0, sizeof *w);
      w->workers = opt->counts[i];
      w->window = round;
      int rc = run_window(opt, table, &calls_guess[i], w);
      if (rc != EXIT_FINE) {
        fprintf(stderr, "failed: %s, %d workers, window %d\n", opt->processes ? "processes" : "threads", w->workers,
                round);
        return rc;
      }
      n++;
      if (opt->json) print_json(opt, w);
    }
  }
  if (!opt->json) print_table(opt, windows, n);
  return EXIT_FINE;
}

static int run_counted(const options *opt, bench_job *job, bench_table *table, int workers) {
  TVMFFIAny gate, result;
  int rc = EXIT_LIBRARY;
  if (bench_function(job->client, "bench.disco.gate", &gate) != 0) return rc;
  /* The first round, twice as long, warms up: tables and lists have grown to what they need when the second is counted.
   */
  for (int round = 0; round < 2; round++) {
    enter(opt, round == 0 ? "gate, warm-up" : "gate, counted", workers);
    if (bench_call_kept(job->client, &gate, NULL, 0, &result) != 0) goto done;
    bench_gate_await(table, workers);
    int issued = round == 0 ? bench_issue(job, opt->drefs, 2 * opt->instructions)
                            : bench_issue_counted(job, opt->drefs, opt->instructions);
    bench_gate_open(table);
    if (issued != 0 || bench_sync_all(job->client) != 0) goto done;
    bench_drop(&result);
  }
  rc = bench_table_check(table, workers, job->calls, job->sum) ? EXIT_FINE : EXIT_MISMATCH;
done:
  bench_drop(&gate);
  return rc;
}

static int cpu_and_switches(double *ret_cpu_s, long *ret_switches) {
  struct timespec t;
  struct rusage usage;
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0 || getrusage(RUSAGE_SELF, &usage) != 0) return -1;
  *ret_cpu_s = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
  *ret_switches = usage.ru_nvcsw + usage.ru_nivcsw;
  return 0;
}

static int run_idle(const options *opt, bench_job *job, bench_table *table, int workers) {
  double cpu[2], futex_us[PARKED_SAMPLES];
  long switches[2];
  bench_spread parked;
  if (bench_issue(job, 0, 100) != 0 || bench_sync_all(job->client) != 0) return EXIT_LIBRARY;
  bench_sleep_ms(10);
  alarm(0);
  cpu_and_switches(&cpu[0], &switches[0]);
  bench_sleep_ms((int)(opt->idle_s * 1000));
  cpu_and_switches(&cpu[1], &switches[1]);
  enter(opt, "calls to parked workers", workers);
  if (bench_futex_wake(PARKED_SAMPLES, PARKED_MS, futex_us) != 0) return EXIT_LIBRARY;
  if (bench_measure_parked(job, PARKED_SAMPLES, PARKED_MS, &parked) != 0) return EXIT_LIBRARY;
  bench_spread futex = bench_spread_of(futex_us, PARKED_SAMPLES);
  double cpu_us = (cpu[1] - cpu[0]) * 1e6;
  if (opt->json) {
    printf("{\"mode\": \"idle\", \"workers\": %d, \"seconds\": %.1f, \"cpu_us\": %.1f, \"switches\": %ld, "
           "\"parked_us\": %.2f, "
           "\"futex_us\": %.2f}\n",
           workers, opt->idle_s, cpu_us, switches[1] - switches[0], parked.p50, futex.p50);
  } else {
    printf("%d idle workers, %.1f s: %.0f us of CPU and %ld context switches in the whole process (1 is the "
           "controller's sleep); a call and "
           "sync when parked %.1f us (%.1f-%.1f), a bare futex wake of one thread %.1f us (%.1f-%.1f)\n",
           workers, opt->idle_s, cpu_us, switches[1] - switches[0], parked.p50, parked.p10, parked.p90, futex.p50,
           futex.p10, futex.p90);
  }
  return bench_table_check(table, workers, job->calls, job->sum) ? EXIT_FINE : EXIT_MISMATCH;
}

/* --instructions and --idle: one session per worker count. */
static int run_special(const options *opt, bench_table *table) {
  static bench_job job;
  for (int i = 0; i < opt->num_counts; i++) {
    bench_client client;
    int workers = opt->counts[i], rc = EXIT_LIBRARY;
    bench_table_reset(table);
    enter(opt, "opening the session", workers);
    if (bench_open(&client, workers, opt->processes) != 0) return EXIT_LIBRARY;
    if (bench_job_open(&job, &client, table, opt->drefs) == 0) {
      rc = opt->instructions ? run_counted(opt, &job, table, workers) : run_idle(opt, &job, table, workers);
      bench_job_close(&job);
    }
    enter(opt, "shutdown", workers);
    if (bench_close(&client) != 0 && rc == EXIT_FINE) rc = EXIT_LIBRARY;
    if (rc != EXIT_FINE) return rc;
  }
  return EXIT_FINE;
}

/* ---- Options ---- */

static int usage(const char *text, const char *value) {
  fprintf(stderr, "%s%s%s\nTry --help.\n", text, value ? ": " : "", value ? value : "");
  return EXIT_USAGE;
}

static bool parse_counts(const char *text, options *opt) {
  opt->num_counts = 0;
  for (;;) {
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || n < 1 || n > BENCH_MAX_WORKERS || opt->num_counts == MAX_COUNTS) return false;
    opt->counts[opt->num_counts++] = (int)n;
    if (*end == '\0') return true;
    if (*end != ',') return false;
    text = end + 1;
  }
}

static bool parse_number(const char *text, double low, double high, double *ret_number) {
  char *end;
  double number = strtod(text, &end);
  if (end == text || *end != '\0' || !(number >= low && number <= high)) return false;
  *ret_number = number;
  return true;
}

static bool parse_parts(const char *text, int *ret_parts) {
  static const char *const names[] = {"rate", "latency", "drefs"};
  int parts = 0;
  while (*text) {
    size_t length = strcspn(text, ","), i = 0;
    while (i < 3 && (strlen(names[i]) != length || strncmp(names[i], text, length) != 0)) i++;
    if (i == 3) return false;
    parts |= 1 << i;
    text += length + (text[length] == ',');
  }
  *ret_parts = parts;
  return parts != 0;
}

enum {
  OPT_LIBRARY = 256,
  OPT_WORKERS,
  OPT_THREADS,
  OPT_PROCESSES,
  OPT_WINDOWS,
  OPT_WINDOW,
  OPT_DREFS,
  OPT_ONLY,
  OPT_JSON,
  OPT_TIMEOUT,
  OPT_IDLE,
  OPT_INSTRUCTIONS,
  OPT_HELP,
  OPT_PROCESS_WORKER
};

static const struct option long_options[] = {
    {"library", required_argument, NULL, OPT_LIBRARY},
    {"workers", required_argument, NULL, OPT_WORKERS},
    {"threads", no_argument, NULL, OPT_THREADS},
    {"processes", no_argument, NULL, OPT_PROCESSES},
    {"windows", required_argument, NULL, OPT_WINDOWS},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"drefs", required_argument, NULL, OPT_DREFS},
    {"only", required_argument, NULL, OPT_ONLY},
    {"json", no_argument, NULL, OPT_JSON},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"idle", required_argument, NULL, OPT_IDLE},
    {"instructions", required_argument, NULL, OPT_INSTRUCTIONS},
    {"help", no_argument, NULL, OPT_HELP},
    {"process-worker", required_argument, NULL, OPT_PROCESS_WORKER}, /* pool.c's own */
    {NULL, 0, NULL, 0},
};

static bool parse_option(int id, char *value, options *opt) {
  double number = 0;
  switch (id) {
  case OPT_LIBRARY:
    if (opt->num_libraries == BENCH_MAX_LIBRARIES) return false;
    opt->libraries[opt->num_libraries++] = value;
    return true;
  case OPT_WORKERS: return parse_counts(value, opt);
  case OPT_THREADS: opt->processes = false; return true;
  case OPT_PROCESSES: opt->processes = true; return true;
  case OPT_WINDOWS:
    if (!parse_number(value, 1, MAX_WINDOWS / MAX_COUNTS, &number)) return false;
    opt->windows = (int)number;
    return true;
  case OPT_WINDOW: return parse_number(value, 0.001, 10, &opt->window_s);
  case OPT_DREFS:
    if (!parse_number(value, 0, BENCH_MAX_DREFS, &number)) return false;
    opt->drefs = (int)number;
    return true;
  case OPT_ONLY: return parse_parts(value, &opt->parts);
  case OPT_JSON: opt->json = true; return true;
  case OPT_TIMEOUT:
    if (!parse_number(value, 1, 3600, &number)) return false;
    opt->timeout_s = (int)number;
    return true;
  case OPT_IDLE: return parse_number(value, 0.1, 600, &opt->idle_s);
  case OPT_INSTRUCTIONS:
    if (!parse_number(value, 1, 1000000, &number)) return false;
    opt->instructions = (uint64_t)number;
    return true;
  case OPT_PROCESS_WORKER: opt->worker_process = value; return true;
  default: return false;
  }
}

/* EXIT_FINE to go on, -1 when --help was answered, else the exit code. */
static int parse_options(int argc, char **argv, options *opt) {
  opterr = 0;
  for (;;) {
    int index = 0, id = getopt_long(argc, argv, "", long_options, &index);
    if (id == -1) break;
    if (id == OPT_HELP) {
      fputs(help, stdout);
      return -1;
    }
    if (id == '?') return usage("unknown option, or a value is missing", argv[optind - 1]);
    if (!parse_option(id, optarg, opt)) return usage(long_options[index].name, optarg);
  }
  if (optind < argc) return usage("unexpected argument", argv[optind]);
  if (opt->num_libraries == 0) return usage("--library is missing: which library shall be measured?", NULL);

  if (opt->instructions && opt->idle_s > 0) return usage("--instructions or --idle, not both", NULL);
  if (opt->drefs < 0) opt->drefs = opt->instructions || opt->idle_s > 0 ? 0 : 180;
  return EXIT_FINE;
}

int main(int argc, char **argv) {
  options opt = {.counts = {1, 2, 4, 8},
                 .num_counts = 4,
                 .windows = 3,
                 .window_s = 0.15,
                 .drefs = -1,
                 .parts = PART_ALL,
                 .timeout_s = 60};
  int rc = parse_options(argc, argv, &opt);
  if (rc != EXIT_FINE) return rc < 0 ? EXIT_FINE : rc;
  if (opt.worker_process) return bench_pool_worker(opt.worker_process, opt.libraries, opt.num_libraries);

  int table_fd;
  bench_table *table = bench_table_create(&table_fd);
  if (!table) return perror("shared table"), EXIT_LIBRARY;
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, NULL);
  enter(&opt, "loading the library", 0);
  rc = EXIT_LIBRARY;
  if (bench_load(opt.libraries, opt.num_libraries) == 0) {
    if (bench_workers_register(table) != 0) {
      bench_fail("registering the worker functions");
    } else if (bench_pool_register(opt.libraries, opt.num_libraries, table_fd, opt.timeout_s + 60) == 0) {
      rc = opt.instructions || opt.idle_s > 0 ? run_special(&opt, table) : run_windows(&opt, table);
    }
  }
  fflush(stdout);
  /* After a failure threads of the library may still run or hang: leave without its exit handlers. */
  if (rc != EXIT_FINE) _exit(rc);
  return rc;
}
