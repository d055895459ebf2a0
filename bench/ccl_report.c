#define _GNU_SOURCE
#include "ccl_report.h"

#include <stdlib.h>
#include <string.h>

#include "ccl_pattern.h"

static const char *const op_names[CCL_NUM_OPS] = {"allreduce", "broadcast", "allgather",
                                                  "scatter",   "gather",    "sendrecv"};
static const char *const dtype_names[CCL_NUM_DTYPES] = {"f32", "f16", "bf16"};
static const char *const regime_names[CCL_NUM_REGIMES] = {"near", "far", "between"};

const char *ccl_op_name(ccl_op op) { return op_names[op]; }

const char *ccl_dtype_name(ccl_dtype dtype) { return dtype_names[dtype]; }

/* Of an operation that all ranks do together the slowest rank's time counts. */
static double slowest(const ccl_table *table, ccl_window window) {
  double seconds = 0;
  for (int i = 0; i < table->num_ranks; i++)
    if (table->answers[i].seconds[window] > seconds) seconds = table->answers[i].seconds[window];
  return table->job.iterations[window] > 0 ? seconds * 1e6 / table->job.iterations[window] : 0;
}

static ccl_regime regime_of(const ccl_setup *setup, const double ns[2]) {
  if (ns[0] <= setup->near_ns && ns[1] <= setup->near_ns) return CCL_NEAR;
  return ns[0] >= setup->far_ns && ns[1] >= setup->far_ns ? CCL_FAR : CCL_BETWEEN;
}

void ccl_record_make(const ccl_setup *setup, const ccl_table *table, ccl_record *ret_record) {
  const ccl_job *job = &table->job;
  double idle = slowest(table, CCL_IDLE);
  for (int w = 0; w < CCL_NUM_WINDOWS; w++) ret_record->us[w] = slowest(table, (ccl_window)w);
  ret_record->us[CCL_COPY] -= ret_record->us[CCL_COPY_IDLE];
  for (ccl_window w = CCL_PEER; w <= CCL_OURS; w++) {
    if (job->iterations[w] == 0) continue;
    /* A message and its answer: the two ranks write and read in turn, not at once. */
    ret_record->us[w] = job->op == CCL_SENDRECV ? (ret_record->us[w] - 2 * idle) / 2 : ret_record->us[w] - idle;
  }
  memcpy(ret_record->pingpong_ns, table->pingpong_ns, sizeof(ret_record->pingpong_ns));
  ret_record->wrong = 0;
  ret_record->quiet = true;
  for (int i = 0; i < table->num_ranks; i++) {
    for (int w = 0; w < CCL_NUM_WINDOWS; w++) ret_record->wrong += table->answers[i].wrong[w];
    if (table->bind && table->answers[i].preempted > 0) ret_record->quiet = false;
  }
  ret_record->regime = regime_of(setup, ret_record->pingpong_ns);
}

void ccl_print_json(const ccl_setup *setup, const ccl_case *c, const ccl_record *record) {
  printf("{\"op\": \"%s\", \"dtype\": \"%s\", \"in_place\": %s, \"bytes\": %zu, \"ranks\": %d", op_names[c->op],
         dtype_names[c->dtype], c->in_place ? "true" : "false", c->bytes, setup->num_ranks);
  printf(", \"mode\": \"%s\", \"tensors\": \"%s\", \"round\": %d, \"pingpong_ns\": [%.1f, %.1f], \"regime\": \"%s\"",
         setup->mode, setup->tensors, record->round, record->pingpong_ns[0], record->pingpong_ns[1],
         regime_names[record->regime]);
  printf(", \"quiet\": %s, \"wrong\": %llu, \"idle_us\": %.4f, \"memcpys_us\": %.4f, \"ours_us\": %.4f",
         record->quiet ? "true" : "false", (unsigned long long)record->wrong, record->us[CCL_IDLE],
         record->us[CCL_COPY], record->us[CCL_OURS]);
  if (c->dtype != CCL_F32) {
    printf(", \"f32_us\": %.4f", record->us[CCL_PEER]);
  } else if (setup->peer[0] != 0) {
    printf(", \"peer\": \"%s\", \"peer_us\": %.4f", setup->peer, record->us[CCL_PEER]);
  }
  printf("}\n");
  fflush(stdout);
}

/* ---- Tables ---- */

static int compare_records(const void *a, const void *b) {
  const ccl_record *x = a, *y = b;
  if (x->case_id != y->case_id) return x->case_id - y->case_id;
  return x->round - y->round;
}

typedef enum { OF_PINGPONG, OF_COPY, OF_PEER, OF_OURS, OF_GAIN, OF_COPIES } figure;

static double figure_of(const ccl_record *r, figure f) {
  switch (f) {
  case OF_PINGPONG: return (r->pingpong_ns[0] + r->pingpong_ns[1]) / 2;
  case OF_COPY: return r->us[CCL_COPY];
  case OF_PEER: return r->us[CCL_PEER];
  case OF_OURS: return r->us[CCL_OURS];
  case OF_GAIN: return r->us[CCL_PEER] / r->us[CCL_OURS];
  default: return r->us[CCL_OURS] / r->us[CCL_COPY];
  }
}

/* Rounds in which nobody was sent off a CPU count; where there is none, all. */
static size_t count_quiet(const ccl_record *records, size_t count, ccl_regime regime, size_t *ret_all) {
  size_t quiet = 0;
  *ret_all = 0;
  for (size_t i = 0; i < count; i++) {
    if (records[i].regime != regime) continue;
    ++*ret_all;
    quiet += records[i].quiet;
  }
  return quiet;
}

static bench_spread spread_of(const ccl_record *records, size_t count, ccl_regime regime, bool quiet_only, figure f,
                              double *values) {
  size_t used = 0;
  for (size_t i = 0; i < count; i++)
    if (records[i].regime == regime && (records[i].quiet || !quiet_only)) values[used++] = figure_of(&records[i], f);
  return bench_spread_of(values, used);
}

static void print_spread(bench_spread s, figure f) {
  int digits = f == OF_PINGPONG ? 0 : s.p50 < 10 ? 2 : s.p50 < 100 ? 1 : 0;
  const char *unit = f == OF_GAIN || f == OF_COPIES ? "x" : "";
  printf(" %.*f%s (%.*f-%.*f) |", digits, s.p50, unit, digits, s.p10, digits, s.p90);
}

static void print_size(size_t bytes) {
  if (bytes >= 1 << 20 && bytes % (1 << 20) == 0) {
    printf("| %zu MiB |", bytes >> 20);
  } else if (bytes >= 1 << 10 && bytes % (1 << 10) == 0) {
    printf("| %zu KiB |", bytes >> 10);
  } else {
    printf("| %zu B |", bytes);
  }
}

#define LEAST_COPY_US 0.02

static bool print_row(const ccl_case *c, const ccl_record *records, size_t count, ccl_regime regime, bool rival,
                      double *values) {
  size_t all, quiet = count_quiet(records, count, regime, &all);
  if (all == 0) return false;
  print_size(c->bytes);
  printf(" %zu of %zu |", quiet, all);
  bool copies = false; /* do they take a time that one can divide by? */
  for (figure f = OF_PINGPONG; f <= OF_COPIES; f++) {
    if (!rival && (f == OF_PEER || f == OF_GAIN)) continue;
    bench_spread s = spread_of(records, count, regime, quiet > 0, f, values);
    if (f == OF_COPY) copies = s.p50 >= LEAST_COPY_US;
    if (f == OF_COPIES && !copies) {
      printf(" - |");
    } else {
      print_spread(s, f);
    }
  }
  printf("\n");
  return true;
}

static void print_head(const ccl_setup *setup, const ccl_case *c, ccl_regime regime, const char *rival) {
  bool placed = c->op == CCL_ALLREDUCE || c->op == CCL_BROADCAST;
  printf("\n%s %s%s, %s tensors, %d ranks (%s), %s\n\n", op_names[c->op], dtype_names[c->dtype],
         !placed       ? ""
         : c->in_place ? ", in place"
                       : ", out of place",
         setup->tensors, setup->num_ranks, setup->mode, regime_names[regime]);
  printf("| bytes | rounds | ping-pong ns | memcpys us |");
  if (rival[0] != 0) printf(" %s us | ours us | gain |", rival);
  if (rival[0] == 0) printf(" ours us |");
  printf(" of memcpys |\n|---|---|---|---|---|---|%s\n", rival[0] != 0 ? "---|---|" : "");
}

static bool same_table(const ccl_case *a, const ccl_case *b) {
  return a->op == b->op && a->dtype == b->dtype && a->in_place == b->in_place;
}

/* The cases [first, end), which differ in their sizes alone. */
static void print_table(const ccl_setup *setup, const ccl_case *cases, int first, int end, const ccl_record *records,
                        const size_t *starts, ccl_regime regime, double *values) {
  const char *rival = cases[first].dtype != CCL_F32 ? "f32" : setup->peer;
  size_t all = 0, of_size = 0;
  for (int i = first; i < end; i++) {
    (void)count_quiet(records + starts[i], starts[i + 1] - starts[i], regime, &of_size);
    all += of_size;
  }
  if (all == 0 && regime == CCL_BETWEEN) return;
  print_head(setup, &cases[first], regime, rival);
  if (all == 0) printf("No round was %s.\n", regime_names[regime]);
  for (int i = first; i < end; i++)
    (void)print_row(&cases[i], records + starts[i], starts[i + 1] - starts[i], regime, rival[0] != 0, values);
}

void ccl_print_tables(const ccl_setup *setup, const ccl_case *cases, int num_cases, ccl_record *records,
                      size_t num_records) {
  size_t *starts = calloc((size_t)num_cases + 1, sizeof(*starts));
  double *values = calloc(num_records + 1, sizeof(*values));
  if (starts != NULL && values != NULL) {
    qsort(records, num_records, sizeof(*records), compare_records);
    for (size_t i = 0; i < num_records; i++) starts[records[i].case_id + 1] = i + 1;
    for (int i = 0; i < num_cases; i++)
      if (starts[i + 1] < starts[i]) starts[i + 1] = starts[i];
    for (int first = 0, end; first < num_cases; first = end) {
      for (end = first + 1; end < num_cases && same_table(&cases[first], &cases[end]);) end++;
      for (int r = 0; r < CCL_NUM_REGIMES; r++)
        print_table(setup, cases, first, end, records, starts, (ccl_regime)r, values);
    }
    printf("\nMedians (p10-p90) over the rounds. us: cost to the application (write, operation, read, less write and "
           "read alone).\ngain: the other's time by ours, in the same round. Rounds: those in which no rank was sent "
           "off its CPU, of all; those count, or all when there are none.\n");
  } else {
    fprintf(stderr, "no memory for the tables\n");
  }
  free(starts);
  free(values);
}
