/* hello: four workers, one function of your own, values back, an error survived, and what each call costs.
 *
 *   hello [--workers N] [--calls N] [--processes]
 *
 * With --processes the workers are processes (this same program, started again), and at the end one is killed in the
 * middle of a call, so that you see what a user sees.
 *
 * Everything a program needs to use libdisco is on this page. */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disco/disco.h"
#include "disco/value.h"
#include "disco/worker.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, MAX_WORKERS = 64 };

/* ---- What runs on the workers ---- */

/* hello.square(x) -> x * x + worker id. Raises on the last worker when x is negative. */
static int square(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info me = {.struct_size = sizeof(me)};
  if (disco_worker_get_info(&me) != DISCO_OK) return disco_raise_last();
  if (num_args != 1 || args[0].type_index != kTVMFFIInt) return disco_raise("TypeError", "hello.square takes one int");
  int64_t x = args[0].v_int64;
  if (x < 0 && me.worker_id == me.num_workers - 1)
    return disco_raise("ValueError", "%lld is negative, and worker %d minds", (long long)x, me.worker_id);
  *result = disco_value_int(x * x + me.worker_id);
  return 0;
}

/* hello.die(w): worker w is killed, as a crash or the kernel would. */
static int die(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info me = {.struct_size = sizeof(me)};
  *result = disco_value_int(0);
  if (num_args == 1 && disco_worker_get_info(&me) == DISCO_OK && me.worker_id == args[0].v_int64) {
    fprintf(stderr, "worker %d: about to be killed\n", me.worker_id);
    (void)raise(SIGKILL);
  }
  return 0;
}

static int nothing(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = disco_value_int(0);
  return 0;
}

static int register_functions(void) {
  static const struct {
    const char *name;
    TVMFFISafeCallType function;
  } all[] = {{"hello.square", square}, {"hello.die", die}, {"hello.nothing", nothing}};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    if (disco_register_function(all[i].name, all[i].function, NULL, NULL, false) != DISCO_OK) return EXIT_FAILED;
  return 0;
}

/* Started as `hello worker ID WORKERS GROUPS READ_FD WRITE_FD`: be that worker until the session ends. */
static int be_a_worker(char **numbers) {
  int n[5];
  for (int i = 0; i < 5; i++) n[i] = atoi(numbers[i]);
  if (disco_worker_process(n[0], n[1], n[2], n[3], n[4]) == DISCO_OK) return 0;
  fprintf(stderr, "hello: worker %d: %s\n", n[0], disco_last_error_text());
  return EXIT_FAILED;
}

/* ---- The controller ---- */

typedef struct {
  int workers, calls, processes;
  disco_session *session;
  disco_dref *square, *nothing;
} hello;

static int failed(const char *what) {
  fprintf(stderr, "hello: %s: %s\n", what, disco_last_error_text());
  return EXIT_FAILED;
}

static int open_session(hello *h) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(h->workers, 1);
  options.program = "/proc/self/exe"; /* this program; without it, `disco` with the option `libraries` */
  disco_status status = h->processes ? disco_session_create_process(&options, &h->session)
                                     : disco_session_create_threaded(&options, &h->session);
  if (status != DISCO_OK || disco_session_get_global_func(h->session, "hello.square", &h->square) != DISCO_OK ||
      disco_session_get_global_func(h->session, "hello.nothing", &h->nothing) != DISCO_OK)
    return failed("cannot start");
  printf("libdisco %s: a session of %d workers, %s\n\n", disco_version(), h->workers,
         h->processes ? "one thread and the others processes" : "all threads");
  return 0;
}

/* One call runs on every worker; the result is a register on each, which a DRef names. */
static int values_back(hello *h) {
  TVMFFIAny x = disco_value_int(12), results[MAX_WORKERS];
  disco_dref *y = NULL;
  if (disco_call(h->session, h->square, &x, 1, &y) != DISCO_OK) return failed("call");
  if (disco_debug_get_all(y, DISCO_FOREVER, MAX_WORKERS, results) != DISCO_OK) return failed("get");
  printf("hello.square(12) gave ");
  for (int i = 0; i < h->workers; i++)
    printf("%s%lld on worker %d", i == 0 ? "" : ", ", (long long)results[i].v_int64, i);
  printf("\n\n");
  disco_dref_unref(y); /* releases the register on all workers */
  return 0;
}

/* An error on one worker is told at the next call that waits, and the session goes on. */
static int survive_an_error(hello *h) {
  TVMFFIAny x = disco_value_int(-3), value;
  disco_dref *y = NULL;
  if (disco_call(h->session, h->square, &x, 1, &y) != DISCO_OK) return failed("call");
  if (disco_session_sync(h->session, DISCO_ALL_WORKERS, DISCO_FOREVER) == DISCO_OK) {
    fprintf(stderr, "hello: the error was lost\n");
    return EXIT_FAILED;
  }
  printf("hello.square(-3) raised, and the controller was told:\n\n%s\n\n", disco_last_error_text());
  disco_dref_unref(y);
  x = disco_value_int(5);
  if (disco_call(h->session, h->square, &x, 1, &y) != DISCO_OK) return failed("call after the error");
  if (disco_debug_get(y, h->workers - 1, DISCO_FOREVER, &value) != DISCO_OK) return failed("get after the error");
  printf("the session works on: hello.square(5) gave %lld on worker %d\n\n", (long long)value.v_int64, h->workers - 1);
  disco_dref_unref(y);
  return 0;
}

/* A worker process dies in the middle of a call: the next call that waits says which, how, where, and what to do. */
static int lose_a_worker(hello *h) {
  TVMFFIAny last = disco_value_int(h->workers - 1);
  disco_dref *func = NULL;
  if (disco_session_get_global_func(h->session, "hello.die", &func) != DISCO_OK) return failed("find");
  if (disco_call(h->session, func, &last, 1, NULL) != DISCO_OK) return failed("call");
  disco_status status = disco_session_sync(h->session, DISCO_ALL_WORKERS, DISCO_FOREVER);
  if (status != DISCO_LOST) {
    fprintf(stderr, "hello: the death was not noticed\n");
    return EXIT_FAILED;
  }
  printf("\nworker %d was killed in the middle of a call, and the controller was told:\n\n%s\n", h->workers - 1,
         disco_last_error_text());
  disco_dref_unref(func);
  return 0;
}

/* ---- What it costs ---- */

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int sync_all(hello *h) {
  return disco_session_sync(h->session, DISCO_ALL_WORKERS, DISCO_FOREVER) == DISCO_OK ? 0 : failed("sync");
}

/* Mean ns of issuing one call, in bursts that fit the ring; `drefs` arguments that name registers. */
static int time_issue(hello *h, int drefs, double *ret_ns) {
  enum { BURST = 100, MAX_DREFS = 180 };
  TVMFFIAny args[MAX_DREFS];
  disco_dref *dref = NULL;
  TVMFFIAny one = disco_value_int(1);
  double total = 0;
  int calls = 0;
  if (disco_session_put(h->session, &one, &dref) != DISCO_OK) return failed("put");
  for (int i = 0; i < drefs; i++) args[i] = disco_dref_arg(dref);
  while (calls < h->calls) {
    if (sync_all(h) != 0) return EXIT_FAILED;
    double start = now_ns();
    for (int i = 0; i < BURST; i++, calls++) {
      disco_dref *result = NULL;
      if (disco_call(h->session, h->nothing, args, drefs, &result) != DISCO_OK) return failed("call");
      disco_dref_unref(result);
    }
    total += now_ns() - start;
  }
  *ret_ns = total / calls;
  disco_dref_unref(dref);
  return 0;
}

static int time_stream(hello *h, double *ret_ns) {
  double start = now_ns();
  for (int i = 0; i < h->calls; i++)
    if (disco_call(h->session, h->nothing, NULL, 0, NULL) != DISCO_OK) return failed("call");
  if (sync_all(h) != 0) return EXIT_FAILED;
  *ret_ns = (now_ns() - start) / h->calls;
  return 0;
}

static int time_round_trip(hello *h, double *ret_ns) {
  int rounds = h->calls / 10 + 1;
  double start = now_ns();
  for (int i = 0; i < rounds; i++) {
    if (disco_call(h->session, h->nothing, NULL, 0, NULL) != DISCO_OK) return failed("call");
    if (sync_all(h) != 0) return EXIT_FAILED;
  }
  *ret_ns = (now_ns() - start) / rounds;
  return 0;
}

static int print_costs(hello *h) {
  double issue = 0, many = 0, stream = 0, round_trip = 0;
  if (time_issue(h, 0, &issue) != 0 || time_issue(h, 180, &many) != 0 || time_stream(h, &stream) != 0 ||
      time_round_trip(h, &round_trip) != 0)
    return EXIT_FAILED;
  printf("what a call costs here (%d workers, means of %d calls)\n", h->workers, h->calls);
  printf("  %-52s %9.0f ns\n", "issue a call, result dropped", issue);
  printf("  %-52s %9.1f ns\n", "each further DRef argument (of 180)", (many - issue) / 180);
  printf("  %-52s %9.0f ns  (%.1f million calls/s)\n", "a stream of calls, until all workers have run them", stream,
         1e3 / stream);
  printf("  %-52s %9.2f us\n", "a call and the wait for all workers", round_trip / 1e3);
  return 0;
}

static int usage(void) {
  fprintf(stderr, "usage: hello [--workers N] [--calls N] [--processes]\n"
                  "  --workers N   1 to 64 workers (default 4)\n"
                  "  --processes   2 to 64 workers: the first is a thread, the others are processes\n"
                  "  --calls N     calls per measurement, 100 to 100000000 (default 20000)\n");
  return EXIT_USAGE;
}

static int read_arguments(hello *h, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--processes") == 0) {
      h->processes = 1;
      continue;
    }
    int *target = strcmp(argv[i], "--workers") == 0 ? &h->workers : strcmp(argv[i], "--calls") == 0 ? &h->calls : NULL;
    char *end = NULL;
    if (target == NULL || i + 1 == argc) return usage();
    long value = strtol(argv[++i], &end, 10);
    if (*argv[i] == 0 || *end != 0 || value < 1 || value > 100000000) return usage();
    *target = (int)value;
  }
  return h->workers <= MAX_WORKERS && h->workers > h->processes && h->calls >= 100 ? 0 : usage();
}

int main(int argc, char **argv) {
  hello h = {.workers = 4, .calls = 20000};
  if (register_functions() != 0) return failed("cannot register");
  if (argc == 7 && strcmp(argv[1], "worker") == 0) return be_a_worker(argv + 2);
  int rc = read_arguments(&h, argc, argv);
  if (rc == 0) rc = open_session(&h);
  if (rc == 0) rc = values_back(&h);
  if (rc == 0) rc = survive_an_error(&h);
  if (rc == 0) rc = print_costs(&h);
  if (rc == 0 && h.processes) rc = lose_a_worker(&h);
  disco_dref_unref(h.square);
  disco_dref_unref(h.nothing);
  if (h.session != NULL && disco_session_shutdown(h.session) != DISCO_OK && rc == 0) rc = failed("shutdown");
  disco_session_unref(h.session);
  return rc;
}
