/* The controller's side of disco perf: a session, and every case of the table. */
#define _POSIX_C_SOURCE 200809L

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "perf.h"

disco_status perf_open(const perf_options *options, int32_t workers, disco_session **ret_session) {
  disco_session_options wanted = DISCO_SESSION_OPTIONS_INIT(workers, options->groups);
  char self[PATH_MAX];
  if (!options->processes) return disco_session_create_threaded(&wanted, ret_session);
  /* The program that has the function. Where it cannot be told the library looks for it, as ever. */
  ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
  if (size > 0) {
    self[size] = 0;
    wanted.program = self;
  }
  return disco_session_create_process(&wanted, ret_session);
}

typedef struct {
  const perf_options *options;
  disco_session *session;
  disco_dref *function;
  TVMFFIAny *answers; /* one per worker */
  perf_report report;
  bool no_such_ccl; /* was told */
} perf_run;

static double larger(double a, double b) { return a > b ? a : b; }

/* The slowest worker's mean is the time: until then the operation is not over. */
static disco_status read_answers(perf_run *run, const perf_case *want, perf_place *ret) {
  *ret = (perf_place){.is_there = true, .wrong = want->check ? 0 : -1};
  disco_status status = DISCO_OK;
  for (int32_t i = 0; i < run->options->workers; i++) {
    perf_result result = {0};
    if (!perf_read_bytes(&run->answers[i], &result, sizeof(result)))
      status = disco_fail(DISCO_RUNTIME, "worker %d's answer is not this program's: what does DISCO_WORKER name?", i);
    perf_drop(&run->answers[i]);
    ret->time_us = larger(ret->time_us, 1e-3 * (double)result.total_ns / want->iterations);
    ret->p50_us = larger(ret->p50_us, 1e-3 * (double)result.p50_ns);
    ret->p99_us = larger(ret->p99_us, 1e-3 * (double)result.p99_ns);
    if (want->check) ret->wrong += result.wrong;
  }
  return status;
}

static disco_status run_place(perf_run *run, const perf_case *want, int64_t bytes, perf_place *ret) {
  perf_case copy = *want;
  TVMFFIByteArray as_bytes = {(const char *)&copy, sizeof(copy)};
  TVMFFIAny arg = perf_bytes(&as_bytes);
  disco_dref *answer = NULL;
  disco_status status = disco_call(run->session, run->function, &arg, 1, &answer);
  if (status == DISCO_OK) status = disco_debug_get_all(answer, DISCO_FOREVER, run->options->workers, run->answers);
  if (status == DISCO_OK) status = read_answers(run, want, ret);
  disco_dref_unref(answer);
  if (status == DISCO_OK && ret->time_us > 0) {
    ret->algorithm_gbs = 1e-3 * (double)bytes / ret->time_us;
    ret->bus_gbs = ret->algorithm_gbs * perf_bus_factor((perf_op)want->op, perf_ranks(run->options));
  }
  return status;
}

static disco_status run_row(perf_run *run, perf_op op, int type, uint64_t wanted_bytes) {
  const perf_options *options = run->options;
  int64_t parts = perf_parts(op, perf_ranks(options)), element = perf_types[type].bytes;
  perf_case want = {.op = op,
                    .type = type,
                    .redop = options->redop,
                    .in_group = options->in_group,
                    .is_private = options->is_private,
                    .check = options->check,
                    .iterations = options->iterations,
                    .warmup = options->warmup,
                    .count = (int64_t)wanted_bytes / element / parts};
  perf_row row = {.op = op, .type = type, .redop = op == PERF_ALLREDUCE ? options->redop : -1, .count = want.count};
  row.bytes = want.count * parts * element;
  disco_status status = DISCO_OK;
  for (int place = 0; place < 2 && status == DISCO_OK; place++) {
    if (place == 1 && op == PERF_SENDRECV) break; /* what comes in would overwrite what is still to go out */
    want.in_place = place;
    status = run_place(run, &want, row.bytes, &row.places[place]);
  }
  if (status == DISCO_OK) perf_report_row(&run->report, &row);
  return status;
}

/* Sizes that have no whole element for each part are left out; if all are such, the smallest that has is run. */
static disco_status run_sizes(perf_run *run, perf_op op, int type) {
  const perf_options *options = run->options;
  disco_status status = DISCO_OK;
  const uint64_t least = (uint64_t)perf_parts(op, perf_ranks(options)) * (uint64_t)perf_types[type].bytes;
  uint64_t bytes = options->min_bytes;
  while (bytes < least && bytes <= options->max_bytes / options->factor) bytes *= options->factor;
  while (status == DISCO_OK) {
    status = run_row(run, op, type, bytes < least ? least : bytes);
    if (ferror(stdout) || bytes > options->max_bytes / options->factor) break;
    bytes *= options->factor;
  }
  return status;
}

static disco_status run_all(perf_run *run) {
  const perf_options *options = run->options;
  disco_status status = DISCO_OK;
  for (int op = 0; op < PERF_NUM_OPS && status == DISCO_OK; op++) {
    if (options->op != PERF_ALL && options->op != op) continue;
    if (op == PERF_SENDRECV && perf_ranks(options) < 2) {
      perf_report_skipped(&run->report, (perf_op)op, "it takes two to send and receive");
      continue;
    }
    for (int type = 0; type < PERF_NUM_TYPES && status == DISCO_OK && !ferror(stdout); type++)
      if (options->type == PERF_ALL || options->type == type) status = run_sizes(run, (perf_op)op, type);
  }
  return status;
}

static disco_status init_ccl(perf_run *run) {
  const perf_options *options = run->options;
  int64_t ids[PERF_MAX_WORKERS];
  for (int32_t i = 0; i < options->workers; i++) ids[i] = i;
  disco_status status = disco_session_init_ccl(run->session, options->ccl, ids, options->workers);
  run->no_such_ccl = status == DISCO_VALUE;
  if (run->no_such_ccl) (void)usage_error("perf", "--ccl %.200s: %s", options->ccl, disco_last_error_text());
  return status;
}

/* Everything up to the table, which is begun only when nothing more than a case can fail. */
static disco_status prepare(perf_run *run) {
  disco_status status = perf_register();
  if (status == DISCO_OK) status = perf_open(run->options, run->options->workers, &run->session);
  if (status == DISCO_OK) status = init_ccl(run);
  if (status == DISCO_OK) status = disco_session_get_global_func(run->session, PERF_FUNCTION, &run->function);
  if (status != DISCO_OK) return status;
  run->answers = calloc((size_t)run->options->workers, sizeof(*run->answers));
  return run->answers != NULL ? DISCO_OK : disco_fail(DISCO_MEMORY, "no memory for the workers' answers");
}

int perf_run_collectives(const perf_options *options) {
  perf_run run = {.options = options};
  bool begun = false;
  disco_status status = prepare(&run);
  if (status == DISCO_OK) {
    perf_report_begin(&run.report, options);
    begun = true;
    status = run_all(&run);
  }
  if (status != DISCO_OK && !run.no_such_ccl) fprintf(stderr, "disco perf: %s\n", disco_last_error_text());
  if (begun) perf_report_end(&run.report, status == DISCO_OK ? "" : disco_last_error_text());
  disco_dref_unref(run.function);
  if (run.session != NULL && disco_session_shutdown(run.session) != DISCO_OK && status == DISCO_OK) {
    status = DISCO_LOST;
    fprintf(stderr, "disco perf: %s\n", disco_last_error_text());
  }
  disco_session_unref(run.session);
  free(run.answers);
  if (run.no_such_ccl) return EXIT_USAGE;
  return status == DISCO_OK && run.report.wrong == 0 ? EXIT_OK : EXIT_FAILED;
}
