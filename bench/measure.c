#define _GNU_SOURCE
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum {
  FIRST_CALLS = 256,
  MAX_CALLS = 8 * 1024 * 1024,
  MAX_SAMPLES = 20000,
  MIN_SAMPLES = 20,
  WARM_UP_CALLS = 10,
  BURST_CALLS = 200, /* with 180 DRefs of 4 bytes each this is within a ring of 256 KiB */
  MAX_BURSTS = 1000,
  MIN_BURSTS = 5,
};

#if defined(__GNUC__) && !defined(__clang__)
#define BENCH_NOINLINE __attribute__((noipa))
#else
#define BENCH_NOINLINE __attribute__((noinline))
#endif

int bench_job_open(bench_job *job, const bench_client *client, bench_table *table, int num_drefs) {
  TVMFFIAny attach, value, result;
  memset(job, 0, sizeof *job);
  memset(&attach, 0, sizeof attach);
  memset(&value, 0, sizeof value);
  memset(&result, 0, sizeof result);
  job->client = client;
  job->table = table;
  if (num_drefs > BENCH_MAX_DREFS) return -1;
  int rc = bench_function(client, "bench.disco.attach", &attach);
  if (rc == 0) rc = bench_function(client, "bench.disco.value", &value);
  if (rc == 0) rc = bench_function(client, "bench.disco.count", &job->count);
  if (rc == 0) rc = bench_call_kept(client, &attach, NULL, 0, &result);
  for (int i = 0; i < num_drefs && rc == 0; i++) {
    TVMFFIAny number = bench_int(i + 1);
    rc = bench_call_kept(client, &value, &number, 1, &job->drefs[i]);
    if (rc == 0) job->num_drefs++;
  }
  if (rc == 0) rc = bench_sync_all(client);
  bench_drop(&result);
  bench_drop(&attach);
  bench_drop(&value);
  job->packed[0] = client->session;
  memcpy(job->packed + 4, job->drefs, (size_t)job->num_drefs * sizeof job->drefs[0]);
  if (rc != 0) bench_job_close(job);
  return rc;
}

void bench_job_close(bench_job *job) {
  for (int i = 0; i < job->num_drefs; i++) bench_drop(&job->drefs[i]);
  bench_drop(&job->count);
  memset(job, 0, sizeof *job);
}

static inline int issue(bench_job *job, int num_args, uint64_t calls) {
  const bench_client *client = job->client;
  for (uint64_t i = 0; i < calls; i++) {
    if (bench_call(client, &job->count, job->packed, 4 + num_args) != 0)
      return bench_fail("runtime.disco.SessionCallPacked");
  }
  job->calls += calls;
  /* Registers hold 1, 2, 3, ...; a worker adds the first and the last argument. */
  if (num_args > 0) job->sum += calls * (uint64_t)(1 + num_args);
  return 0;
}

int bench_issue(bench_job *job, int num_args, uint64_t calls) { return issue(job, num_args, calls); }

BENCH_NOINLINE int bench_issue_counted(bench_job *job, int num_args, uint64_t calls) {
  return issue(job, num_args, calls);
}

static int rate_of(bench_job *job, uint64_t calls, bench_rate *ret_rate) {
  double start = bench_now();
  if (bench_issue(job, 0, calls) != 0) return -1;
  double issued = bench_now();
  if (bench_sync_all(job->client) != 0) return -1;
  double done = bench_now();
  ret_rate->calls = calls;
  ret_rate->issue_ns = (issued - start) * 1e9 / (double)calls;
  ret_rate->calls_per_s = (double)calls / (done - start);
  return 0;
}

int bench_measure_rate(bench_job *job, double window_s, uint64_t *calls_guess, bench_rate *ret_rate) {
  uint64_t calls = *calls_guess ? *calls_guess : FIRST_CALLS;
  if (*calls_guess == 0) {
    for (;;) {
      if (rate_of(job, calls, ret_rate) != 0) return -1;
      if ((double)calls / ret_rate->calls_per_s > window_s / 10 || calls >= MAX_CALLS / 4) break;
      calls *= 4;
    }
    calls = (uint64_t)(ret_rate->calls_per_s * window_s);
  }
  if (calls > MAX_CALLS) calls = MAX_CALLS;
  if (calls < FIRST_CALLS) calls = FIRST_CALLS;
  if (rate_of(job, calls, ret_rate) != 0) return -1;
  *calls_guess = (uint64_t)(ret_rate->calls_per_s * window_s);
  return 0;
}

static int call_and_wait(bench_job *job) { return bench_issue(job, 0, 1) != 0 ? -1 : bench_sync_all(job->client); }

int bench_measure_latency(bench_job *job, double window_s, bench_latency *ret_latency) {
  double *us = malloc(MAX_SAMPLES * sizeof *us);
  if (!us) return -1;
  size_t n = 0;
  int rc = 0;
  for (int i = 0; i < WARM_UP_CALLS && rc == 0; i++) rc = call_and_wait(job);
  double begin = bench_now(), now = begin;
  while (rc == 0 && n < MAX_SAMPLES && (n < MIN_SAMPLES || now - begin < window_s)) {
    double start = bench_now();
    rc = call_and_wait(job);
    now = bench_now();
    us[n++] = (now - start) * 1e6;
  }
  ret_latency->samples = n;
  ret_latency->us = bench_spread_of(us, n);
  free(us);
  return rc;
}

static int burst(bench_job *job, int num_args, double *ret_issue_ns, double *ret_total_ns) {
  if (bench_issue(job, num_args, 1) != 0) return -1;
  double start = bench_now();
  if (bench_issue(job, num_args, BURST_CALLS) != 0) return -1;
  double issued = bench_now();
  if (bench_sync_all(job->client) != 0) return -1;
  *ret_issue_ns = (issued - start) * 1e9 / BURST_CALLS;
  *ret_total_ns = (bench_now() - start) * 1e9 / BURST_CALLS;
  return 0;
}

int bench_measure_drefs(bench_job *job, double window_s, bench_dref_cost *ret_cost) {
  double(*ns)[MAX_BURSTS] = malloc(4 * sizeof *ns); /* issue without, issue with, total without, total with arguments */
  if (!ns) return -1;
  size_t n = 0;
  int rc = 0;
  double unused, begin = bench_now();
  for (int i = 0; i < 2 && rc == 0; i++) rc = burst(job, i == 0 ? 0 : job->num_drefs, &unused, &unused);
  while (rc == 0 && n < MAX_BURSTS && (n < MIN_BURSTS || bench_now() - begin < window_s)) {
    rc = burst(job, 0, &ns[0][n], &ns[2][n]);
    if (rc == 0) rc = burst(job, job->num_drefs, &ns[1][n], &ns[3][n]);
    if (rc == 0) n++;
  }
  ret_cost->issue_0_ns = bench_spread_of(ns[0], n).p50;
  ret_cost->issue_n_ns = bench_spread_of(ns[1], n).p50;
  ret_cost->total_0_ns = bench_spread_of(ns[2], n).p50;
  ret_cost->total_n_ns = bench_spread_of(ns[3], n).p50;
  free(ns);
  return rc;
}

int bench_measure_parked(bench_job *job, int num_samples, int sleep_ms, bench_spread *ret_us) {
  double us[100];
  if (num_samples > 100) num_samples = 100;
  for (int i = 0; i < num_samples; i++) {
    bench_sleep_ms(sleep_ms);
    double start = bench_now();
    if (call_and_wait(job) != 0) return -1;
    us[i] = (bench_now() - start) * 1e6;
  }
  *ret_us = bench_spread_of(us, (size_t)num_samples);
  return 0;
}
