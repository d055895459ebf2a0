/* disco perf: what its files share.
 *
 *   perf.c           the subcommand: its page, its options' last checks, which part runs
 *   perf_options.c   the command line
 *   perf_names.c     operations, types and reductions: the tables, sizes, bandwidths
 *   perf_work.c      the worker's side: the functions disco.perf and disco.perf.nothing
 *   perf_values.c    what tensors hold, what a result must be, how many elements are not
 *   perf_run.c       the controller's side: a session, and every case of the table
 *   perf_control.c   the controller's side: rates of the control plane
 *   perf_print.c     the table, and the same as JSON
 */
#ifndef DISCO_CLI_PERF_H
#define DISCO_CLI_PERF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <tvm/ffi/c_api.h>

#include "disco/disco.h"
#include "disco/worker.h"

#define PERF_FUNCTION "disco.perf"
#define PERF_NOTHING "disco.perf.nothing"

typedef enum {
  PERF_ALLREDUCE,
  PERF_ALLGATHER,
  PERF_BROADCAST,
  PERF_SCATTER,
  PERF_GATHER,
  PERF_SENDRECV, /* every rank sends to the next and receives from the one before */
  PERF_NUM_OPS
} perf_op;

enum { PERF_ALL = -1, PERF_NUM_TYPES = 12, PERF_NUM_REDOPS = 5 };
enum { PERF_MAX_WORKERS = 1024, PERF_MAX_ITERATIONS = 1000000 };

/* ---- perf_names.c ---- */

extern const char *const perf_op_names[PERF_NUM_OPS];
extern const char *const perf_redop_names[PERF_NUM_REDOPS]; /* by disco_reduce_kind */

typedef struct {
  const char *name; /* "bf16" */
  DLDataType dtype;
  int32_t bytes;
} perf_type;

extern const perf_type perf_types[PERF_NUM_TYPES];

/* nccl-tests' two measures of a message: its size is the larger side of it, over all ranks' parts; its count is one
 * part. */
int64_t perf_parts(perf_op op, int32_t ranks); /* parts in a message: 1, or the number of ranks */
/* Elements that `rank` gives and gets when a part has `count`; 0: that side does not exist there. */
int64_t perf_sent(perf_op op, int32_t rank, int32_t ranks, int64_t count);
int64_t perf_received(perf_op op, int32_t rank, int32_t ranks, int64_t count);
/* Bus bandwidth over algorithm bandwidth: what the slowest link would have to carry. */
double perf_bus_factor(perf_op op, int32_t ranks);

/* ---- Cases: from the controller to the workers, and back. Both ends are the same program ---- */

typedef struct {
  int32_t op, type, redop; /* perf_op, index of perf_types, disco_reduce_kind */
  int32_t in_group, in_place, is_private, check;
  int32_t iterations, warmup;
  int64_t count; /* elements of a part */
} perf_case;

typedef struct {
  int64_t total_ns; /* all iterations */
  int64_t p50_ns, p99_ns;
  int64_t wrong; /* elements; -1: not looked at */
} perf_result;

/* ---- perf_work.c ---- */

/* Register the functions that workers run, in this process. DISCO_VALUE: one of the names is taken. */
disco_status perf_register(void);
/* An int, and borrowed bytes, as arguments. */
TVMFFIAny perf_int(int64_t number);
TVMFFIAny perf_bytes(TVMFFIByteArray *bytes);
/* A result that is bytes of exactly this size: copies it out. */
bool perf_read_bytes(const TVMFFIAny *value, void *ret_data, size_t size);
/* Release what a value owns. */
void perf_drop(TVMFFIAny *value);
int64_t perf_now_ns(void);
/* Sorts the times, and reads the one below which that share of them lies. */
void perf_sort(int64_t *times, size_t count);
int64_t perf_percentile(const int64_t *sorted, size_t count, int percent);

/* ---- perf_values.c ---- */

/* Who takes part, as the values depend on it: they are functions of the worker and the place alone. */
typedef struct {
  int32_t op, type, redop;
  int32_t first; /* the worker that is rank 0 */
  int32_t rank, ranks;
  int64_t count; /* elements of a part */
} perf_values;

/* What this rank sends: perf_sent() elements. */
void perf_fill_send(const perf_values *values, void *data);
/* What it must receive, and the same with every bit turned over, so that an element nobody wrote is a wrong one:
 * perf_received() elements. */
void perf_fill_expected(const perf_values *values, void *data);
void perf_fill_wrong(const perf_values *values, void *data);
/* How many of the perf_received() elements are not bit for bit what they must be. */
int64_t perf_count_wrong(const perf_values *values, const void *data);

/* ---- perf_options.c ---- */

typedef struct {
  bool control, json, check, in_group, is_private, processes;
  int op, type; /* or PERF_ALL */
  int redop;
  int32_t workers, groups;
  int32_t iterations, warmup; /* iterations: 0 until told */
  uint64_t min_bytes, max_bytes, factor;
  const char *ccl;
} perf_options;

/* EXIT_OK, or EXIT_USAGE after saying which option is wrong, and how. */
int perf_parse(int argc, char **argv, perf_options *ret_options);
/* "4K" is 4096: digits, then nothing or one of K, M, G and T. */
bool perf_parse_size(const char *text, uint64_t *ret_bytes);
/* Members of a communicator that the collectives run in. */
int32_t perf_ranks(const perf_options *options);

/* ---- perf_run.c, perf_control.c ---- */

/* A session as the options say, of so many workers. Worker processes run this very program. */
disco_status perf_open(const perf_options *options, int32_t workers, disco_session **ret_session);
/* Each returns the exit status. */
int perf_run_collectives(const perf_options *options);
int perf_run_control(const perf_options *options);

/* ---- perf_print.c ---- */

/* One place of a row: the slowest worker's numbers. */
typedef struct {
  bool is_there; /* false: the operation has no such place */
  double time_us, p50_us, p99_us;
  double algorithm_gbs, bus_gbs;
  int64_t wrong; /* summed over workers; -1: not looked at */
} perf_place;

typedef struct {
  perf_op op;
  int type;
  int redop; /* -1: it reduces nothing */
  int64_t bytes, count;
  perf_place places[2]; /* out of place, in place */
} perf_row;

typedef struct {
  int32_t workers;
  double calls_per_s, issue_ns, call_us, call_p99_us;
} perf_rate;

typedef struct {
  const perf_options *options;
  int64_t rows;
  int last_op; /* whose heading stands above; -1: none */
  double bus_sum;
  int64_t places, wrong;
} perf_report;

void perf_report_begin(perf_report *report, const perf_options *options);
void perf_report_row(perf_report *report, const perf_row *row);
void perf_report_rate(perf_report *report, const perf_rate *rate);
/* An operation that cannot run here, and why. Says nothing in JSON. */
void perf_report_skipped(perf_report *report, perf_op op, const char *why);
/* `error`: what ended it early, "" when nothing did. */
void perf_report_end(perf_report *report, const char *error);

#endif
