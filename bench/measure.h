/* What is measured on one open session. Every call that is issued is also counted here, so that the worker's table can
 * be checked at the end.
 *
 * Functions return 0, or -1 after saying on stderr what failed.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "client.h"
#include "probe.h"
#include "workers.h"

enum { BENCH_MAX_DREFS = 1024 };

typedef struct {
  const bench_client *client;
  bench_table *table;
  TVMFFIAny count;                  /* the function that is called */
  TVMFFIAny drefs[BENCH_MAX_DREFS]; /* registers with the values 1, 2, 3, ... */
  int num_drefs;
  TVMFFIAny packed[4 + BENCH_MAX_DREFS]; /* session, 0, 0, count, drefs... */
  uint64_t calls;                        /* issued so far */
  uint64_t sum;                          /* that each worker must have added up */
} bench_job;

/* Start with num_drefs registers; every worker has attached when it returns. */
int bench_job_open(bench_job *job, const bench_client *client, bench_table *table, int num_drefs);
void bench_job_close(bench_job *job);

/* Issue `calls` calls with the first num_args DRefs, dropping each result. Does not wait. */
int bench_issue(bench_job *job, int num_args, uint64_t calls);

/* The same in a function that is called for nothing else: its name is where callgrind starts and stops counting. */
int bench_issue_counted(bench_job *job, int num_args, uint64_t calls);

typedef struct {
  uint64_t calls;     /* in the window */
  double issue_ns;    /* per call, until the last one was issued: with waiting for room, where the library has bounds */
  double calls_per_s; /* until all workers had done them */
} bench_rate;

/* As many calls as take about window_s; *calls_guess (0 at first) remembers how many that were. */
int bench_measure_rate(bench_job *job, double window_s, uint64_t *calls_guess, bench_rate *ret_rate);

typedef struct {
  uint64_t samples;
  bench_spread us;
} bench_latency;

/* One call and the wait for all workers, again and again for window_s. */
int bench_measure_latency(bench_job *job, double window_s, bench_latency *ret_latency);

typedef struct {
  double issue_0_ns; /* per call without arguments, in bursts that no library has to wait for */
  double issue_n_ns; /* per call with all DRefs */
  double total_0_ns; /* the same until all workers have done it */
  double total_n_ns;
} bench_dref_cost;

/* Short bursts of calls without and with arguments in turn, medians. The first call of a burst, which wakes the
 * workers, is not counted. */
int bench_measure_drefs(bench_job *job, double window_s, bench_dref_cost *ret_cost);

/* The same call and wait after sleep_ms of silence, num_samples times. */
int bench_measure_parked(bench_job *job, int num_samples, int sleep_ms, bench_spread *ret_us);

#endif
