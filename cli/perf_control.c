/* disco perf --control: what it costs the controller to have its workers call a function that does nothing. */
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "perf.h"

enum {
  BURST = 200,                   /* calls that fit the command ring several times over: nobody waits for room */
  STREAM_NS = 200 * 1000 * 1000, /* how long calls are posted one after another for the rate */
  STREAM_STEP = 1000
};

typedef struct {
  disco_session *session;
  disco_dref *nothing;
  int64_t *times; /* options->iterations of them */
} control;

static disco_status post(const control *self, int32_t calls) {
  disco_status status = DISCO_OK;
  for (int32_t i = 0; i < calls && status == DISCO_OK; i++)
    status = disco_call(self->session, self->nothing, NULL, 0, NULL);
  return status;
}

static disco_status wait_for_all(const control *self) {
  return disco_session_sync(self->session, DISCO_ALL_WORKERS, DISCO_FOREVER);
}

/* Calls per second from the first posted to the last done, waiting for room included. */
static disco_status measure_rate(const control *self, double *ret_calls_per_s) {
  int64_t begun = perf_now_ns(), calls = 0;
  disco_status status = DISCO_OK;
  while (status == DISCO_OK && perf_now_ns() - begun < STREAM_NS) {
    status = post(self, STREAM_STEP);
    calls += STREAM_STEP;
  }
  if (status == DISCO_OK) status = wait_for_all(self);
  if (status == DISCO_OK) *ret_calls_per_s = 1e9 * (double)calls / (double)(perf_now_ns() - begun);
  return status;
}

/* One call and the wait until all have done it. */
static disco_status measure_calls(const control *self, const perf_options *options, perf_rate *ret) {
  disco_status status = DISCO_OK;
  int32_t n = options->iterations;
  for (int32_t i = -options->warmup; i < n && status == DISCO_OK; i++) {
    int64_t begun = perf_now_ns();
    status = post(self, 1);
    if (status == DISCO_OK) status = wait_for_all(self);
    if (i >= 0) self->times[i] = perf_now_ns() - begun;
  }
  if (status != DISCO_OK) return status;
  perf_sort(self->times, (size_t)n);
  ret->call_us = 1e-3 * (double)perf_percentile(self->times, (size_t)n, 50);
  ret->call_p99_us = 1e-3 * (double)perf_percentile(self->times, (size_t)n, 99);
  return status;
}

/* The controller's own time per call, in bursts after which the workers catch up. */
static disco_status measure_issue(const control *self, const perf_options *options, double *ret_ns) {
  int32_t bursts = options->iterations / 10 + 1; /* never more than there are times */
  disco_status status = DISCO_OK;
  for (int32_t i = 0; i < bursts && status == DISCO_OK; i++) {
    int64_t begun = perf_now_ns();
    status = post(self, BURST);
    self->times[i] = perf_now_ns() - begun;
    if (status == DISCO_OK) status = wait_for_all(self);
  }
  if (status != DISCO_OK) return status;
  perf_sort(self->times, (size_t)bursts);
  *ret_ns = (double)perf_percentile(self->times, (size_t)bursts, 50) / BURST;
  return status;
}

/* A session of so many workers, measured. */
static disco_status measure(const perf_options *options, int32_t workers, perf_rate *ret) {
  control self = {.times = malloc((size_t)options->iterations * sizeof(*self.times))};
  *ret = (perf_rate){.workers = workers};
  disco_status status = DISCO_OK;
  if (self.times == NULL) status = disco_fail(DISCO_MEMORY, "no memory for %d times", options->iterations);
  if (status == DISCO_OK) status = perf_open(options, workers, &self.session);
  if (status == DISCO_OK) status = disco_session_get_global_func(self.session, PERF_NOTHING, &self.nothing);
  if (status == DISCO_OK) status = wait_for_all(&self); /* they have started */
  if (status == DISCO_OK) status = measure_calls(&self, options, ret);
  if (status == DISCO_OK) status = measure_issue(&self, options, &ret->issue_ns);
  if (status == DISCO_OK) status = measure_rate(&self, &ret->calls_per_s);
  disco_dref_unref(self.nothing);
  if (status == DISCO_OK) status = disco_session_shutdown(self.session);
  disco_session_unref(self.session);
  free(self.times);
  return status;
}

/* 1, 2, 4, ... and the number of workers itself. */
int perf_run_control(const perf_options *options) {
  perf_report report;
  perf_rate rate;
  disco_status status = perf_register();
  perf_report_begin(&report, options);
  for (int32_t workers = 1; status == DISCO_OK && !ferror(stdout);) {
    status = measure(options, workers, &rate);
    if (status == DISCO_OK) perf_report_rate(&report, &rate);
    if (workers == options->workers) break;
    workers = 2 * workers < options->workers ? 2 * workers : options->workers;
  }
  if (status != DISCO_OK) fprintf(stderr, "disco perf: %s\n", disco_last_error_text());
  perf_report_end(&report, status == DISCO_OK ? "" : disco_last_error_text());
  return status == DISCO_OK ? EXIT_OK : EXIT_FAILED;
}
