/* The table of disco perf: the columns of nccl-tests, then two percentiles of each place; and the same as one JSON
 * object. Rows are printed as they come. */
#include <string.h>

#include "command.h"
#include "perf.h"

/* ---- The table ---- */

static void text_begin(const perf_options *options) {
  const char *workers = options->processes ? "processes, but worker 0 is a thread" : "threads";
  if (options->control) {
    printf("# control plane: calls of a function that does nothing; workers are %s\n", workers);
    print_heading(stdout, "#  workers      calls/s  issue(ns)  call+done(us)    p99(us)");
    return;
  }
  printf("# workers %d (%s), groups %d, collectives %s\n", options->workers, workers, options->groups,
         options->in_group ? "in each group" : "among all");
  printf("# data plane %s, tensors %s\n", options->ccl, options->is_private ? "on the heap" : "of runtime.disco.empty");
  printf("# iterations %d, warm-up %d, results %s\n", options->iterations, options->warmup,
         options->check ? "checked on every worker" : "not checked");
}

static void text_heading(perf_op op) {
  static const char half[] = "       time   algbw   busbw #wrong       p50       p99";
  static const char unit[] = "       (us)  (GB/s)  (GB/s)             (us)      (us)";
  char line[256];
  printf("#\n# %s\n", perf_op_names[op]);
  (void)snprintf(line, sizeof(line), "#%47s%*s%*s", "", 32, "out-of-place", 52, "in-place");
  print_heading(stdout, line);
  (void)snprintf(line, sizeof(line), "#%11s %13s %7s %6s %6s%s%s", "size", "count", "type", "redop", "root", half,
                 half);
  print_heading(stdout, line);
  (void)snprintf(line, sizeof(line), "#%11s %13s %7s %6s %6s%s%s", "(B)", "(elements)", "", "", "", unit, unit);
  print_heading(stdout, line);
}

static void text_place(const perf_place *place) {
  char wrong[24] = "N/A";
  if (!place->is_there) {
    printf("  %9s %7s %7s %6s %9s %9s", "N/A", "N/A", "N/A", "N/A", "N/A", "N/A");
    return;
  }
  if (place->wrong >= 0) (void)snprintf(wrong, sizeof(wrong), "%lld", (long long)place->wrong);
  printf("  %9.2f %7.2f %7.2f %6s %9.2f %9.2f", place->time_us, place->algorithm_gbs, place->bus_gbs, wrong,
         place->p50_us, place->p99_us);
}

static bool has_root(perf_op op) { return op == PERF_BROADCAST || op == PERF_SCATTER || op == PERF_GATHER; }
static const char *redop_of(const perf_row *row) { return row->redop < 0 ? "none" : perf_redop_names[row->redop]; }
static int root_of(const perf_row *row) { return has_root(row->op) ? 0 : -1; }

static void text_row(perf_report *report, const perf_row *row) {
  if (report->last_op != (int)row->op) text_heading(row->op);
  report->last_op = (int)row->op;
  printf("%12lld %13lld %7s %6s %6d", (long long)row->bytes, (long long)row->count, perf_types[row->type].name,
         redop_of(row), root_of(row));
  for (int i = 0; i < 2; i++) text_place(&row->places[i]);
  printf("\n");
}

static double mean_bus(const perf_report *report) {
  return report->places > 0 ? report->bus_sum / (double)report->places : 0;
}

/* The last lines of nccl-tests, which scripts look for. */
static void text_end(const perf_report *report, const char *error) {
  if (report->options->control || error[0] != 0) return;
  printf("#\n");
  if (report->options->check)
    printf("# Out of bounds values : %lld %s\n", (long long)report->wrong, report->wrong == 0 ? "OK" : "FAILED");
  printf("# Avg bus bandwidth    : %.4f\n", mean_bus(report));
}

/* ---- JSON ---- */

static void json_string(const char *name, const char *text) {
  printf("  \"%s\": ", name);
  print_json_string(stdout, text, strlen(text));
  fputs(",\n", stdout);
}

static const char *truth(bool yes) { return yes ? "true" : "false"; }

static void json_begin(const perf_options *options) {
  printf("{\n");
  json_string("version", disco_version());
  json_string("session", options->processes ? "process" : "thread");
  if (options->control) {
    printf("  \"rates\": [");
    return;
  }
  printf("  \"workers\": %d,\n  \"groups\": %d,\n  \"in_group\": %s,\n", options->workers, options->groups,
         truth(options->in_group));
  json_string("ccl", options->ccl);
  json_string("memory", options->is_private ? "heap" : "empty");
  printf("  \"iterations\": %d,\n  \"warmup\": %d,\n  \"checked\": %s,\n  \"rows\": [", options->iterations,
         options->warmup, truth(options->check));
}

static void json_wrong(bool was_checked, int64_t wrong) {
  if (was_checked)
    printf("%lld", (long long)wrong);
  else
    printf("null");
}

static void json_place(const char *name, const perf_place *place) {
  printf(", \"%s\": ", name);
  if (!place->is_there) {
    printf("null");
    return;
  }
  printf("{\"time_us\": %.3f, \"algbw\": %.6f, \"busbw\": %.6f, \"wrong\": ", place->time_us, place->algorithm_gbs,
         place->bus_gbs);
  json_wrong(place->wrong >= 0, place->wrong);
  printf(", \"p50_us\": %.3f, \"p99_us\": %.3f}", place->p50_us, place->p99_us);
}

static void json_row(const perf_report *report, const perf_row *row) {
  printf("%s\n    {\"op\": \"%s\", \"size\": %lld, \"count\": %lld, \"type\": \"%s\", \"redop\": \"%s\", \"root\": %d",
         report->rows > 0 ? "," : "", perf_op_names[row->op], (long long)row->bytes, (long long)row->count,
         perf_types[row->type].name, redop_of(row), root_of(row));
  json_place("out_of_place", &row->places[0]);
  json_place("in_place", &row->places[1]);
  printf("}");
}

static void json_end(const perf_report *report, const char *error) {
  fputs(report->rows > 0 ? "\n  ],\n" : "],\n", stdout);
  if (!report->options->control) {
    printf("  \"wrong\": ");
    json_wrong(report->options->check, report->wrong);
    printf(",\n  \"avg_busbw\": %.6f,\n", mean_bus(report));
  }
  printf("  \"error\": ");
  if (error[0] == 0)
    printf("null");
  else
    print_json_string(stdout, error, strlen(error));
  printf("\n}\n");
}

/* ---- Both ---- */

void perf_report_begin(perf_report *report, const perf_options *options) {
  *report = (perf_report){.options = options, .last_op = -1};
  if (options->json)
    json_begin(options);
  else
    text_begin(options);
}

void perf_report_row(perf_report *report, const perf_row *row) {
  if (report->options->json)
    json_row(report, row);
  else
    text_row(report, row);
  report->rows++;
  for (int i = 0; i < 2; i++) {
    if (!row->places[i].is_there) continue;
    report->places++;
    report->bus_sum += row->places[i].bus_gbs;
    if (row->places[i].wrong > 0) report->wrong += row->places[i].wrong;
  }
  (void)fflush(stdout);
}

void perf_report_rate(perf_report *report, const perf_rate *rate) {
  if (report->options->json)
    printf("%s\n    {\"workers\": %d, \"calls_per_s\": %.0f, \"issue_ns\": %.1f, \"call_done_us\": %.3f, "
           "\"call_done_p99_us\": %.3f}",
           report->rows > 0 ? "," : "", rate->workers, rate->calls_per_s, rate->issue_ns, rate->call_us,
           rate->call_p99_us);
  else
    printf("%10d %12.0f %10.1f %14.2f %10.2f\n", rate->workers, rate->calls_per_s, rate->issue_ns, rate->call_us,
           rate->call_p99_us);
  report->rows++;
  (void)fflush(stdout);
}

void perf_report_skipped(perf_report *report, perf_op op, const char *why) {
  if (!report->options->json) printf("#\n# %s: not run, %s\n", perf_op_names[op], why);
}

void perf_report_end(perf_report *report, const char *error) {
  if (report->options->json)
    json_end(report, error);
  else
    text_end(report, error);
  if (ferror(stdout)) putc('\n', stdout); /* for main()'s flush to meet the reason again: a flush here has lost it */
}
