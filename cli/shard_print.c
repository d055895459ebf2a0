/* What disco shard says. */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "shard.h"
#include "weights.h"

static unsigned long long ull(uint64_t number) { return number; }

/* ---- Sums ---- */

/* Of all workers; seconds: negative while one has not read. */
static shard_worker sum_of(const shard_job *job) {
  shard_worker sum = {0};
  for (int32_t i = 0; i < job->options.workers; i++) {
    sum.tensors += job->workers[i].tensors;
    sum.reads = saturated_sum(sum.reads, job->workers[i].reads);
    sum.holds = saturated_sum(sum.holds, job->workers[i].holds);
    if (job->workers[i].seconds < 0)
      sum.seconds = -1;
    else if (sum.seconds >= 0)
      sum.seconds += job->workers[i].seconds;
  }
  return sum;
}

static double rate_of(const shard_worker *worker) {
  return worker->seconds > 0 ? (double)worker->reads / worker->seconds / 1e9 : 0;
}

/* ---- Rules ---- */

/* "rule 2 ("*.q") decides about no tensor: ..." */
static void print_warning(FILE *stream, const shard_job *job, int32_t rule) {
  fprintf(stream, "rule %d (", rule + 1);
  print_safe(stream, job->rules[rule].pattern, job->rules[rule].size);
  fputs(") of ", stream);
  print_safe(stream, job->options.plan, strlen(job->options.plan));
  fputs(" decides about no tensor: is its pattern misspelt, or does a rule before it match the same names?", stream);
}

void shard_print_warnings(const shard_job *job) {
  enum { MOST = 8 };
  int32_t count = 0;
  for (int32_t i = 0; i < job->num_rules; i++) {
    if (job->rules[i].tensors > 0 || count++ >= MOST) continue;
    fputs("disco shard: warning: ", stderr);
    print_warning(stderr, job, i);
    fputc('\n', stderr);
  }
  if (count > MOST) fprintf(stderr, "disco shard: warning: %d more rules decide about no tensor\n", count - MOST);
}

/* ---- Text ---- */

static void print_model(const shard_job *job) {
  print_heading(stdout, "[model]");
  fputs("path: ", stdout);
  print_safe(stdout, job->options.path, strlen(job->options.path));
  printf("\nformat: %s\nbytes: ", disco_weights_format(job->weights));
  print_bytes(job->model_bytes);
  fputs("\nplan: ", stdout);
  print_safe(stdout, job->options.plan, strlen(job->options.plan));
  printf("\ntensors: %lld (%lld split, %lld replicated, %lld skipped)\nworkers: %d\nfits: yes\n",
         (long long)job->num_tensors, (long long)job->split, (long long)job->replicated, (long long)job->skipped,
         job->options.workers);
}

typedef struct {
  char who[24], slice[64], shape[SHAPE_ROOM], dtype[DTYPE_ROOM];
} shard_words;

/* Of a tensor that is the same for everybody, `who` is not a number. */
static void words_of(const disco_shard *shard, int32_t worker, shard_words *ret) {
  *ret = (shard_words){.who = "none", .slice = "-", .shape = "-", .dtype = "-"};
  if (shard->is_skipped) return;
  dtype_text(shard->dtype, ret->dtype);
  shape_text(shard->ndim, shard->shape, ret->shape);
  if (shard->axis < 0) {
    (void)snprintf(ret->who, sizeof(ret->who), "all");
    (void)snprintf(ret->slice, sizeof(ret->slice), "whole");
    return;
  }
  (void)snprintf(ret->who, sizeof(ret->who), "%d", worker);
  (void)snprintf(ret->slice, sizeof(ret->slice), "axis %d, %lld from %lld", shard->axis, (long long)shard->count,
                 (long long)shard->first);
}

typedef struct {
  int name, slice, shape, dtype, reads, holds;
} widths;

/* Calls fn for each line of the table: once for a tensor that is the same for everybody, else for each worker. */
static void each_line(const shard_job *job, widths *wide,
                      void (*fn)(const char *name, const disco_shard *shard, const shard_words *words, widths *wide)) {
  disco_shard shard;
  shard_words words;
  for (int64_t i = 0; i < job->num_tensors; i++) {
    const char *name = disco_weights_tensor_at(job->weights, i)->name;
    for (int32_t worker = 0; worker < job->options.workers; worker++) {
      if (shard_get(job, i, worker, &shard) != DISCO_OK) continue;
      words_of(&shard, worker, &words);
      fn(name, &shard, &words, wide);
      if (shard.is_skipped || shard.axis < 0) break;
    }
  }
}

static void measure_line(const char *name, const disco_shard *shard, const shard_words *words, widths *wide) {
  widen_to_name(name, &wide->name);
  widen_to_text(words->slice, &wide->slice);
  widen_to_text(words->shape, &wide->shape);
  widen_to_text(words->dtype, &wide->dtype);
  widen_to_number(shard->file_bytes, &wide->reads);
  widen_to_number(shard->bytes, &wide->holds);
}

static void print_line(const char *name, const disco_shard *shard, const shard_words *words, widths *wide) {
  print_name(name, wide->name);
  printf("  %6s  %-*s  %-*s  %-*s  %*llu  %*llu\n", words->who, wide->slice, words->slice, wide->shape, words->shape,
         wide->dtype, words->dtype, wide->reads, ull(shard->file_bytes), wide->holds, ull(shard->bytes));
}

static void print_tensors(const shard_job *job) {
  widths wide = {.name = 4, .slice = 5, .shape = 5, .dtype = 5, .reads = 5, .holds = 5};
  each_line(job, &wide, measure_line);
  putchar('\n');
  print_heading(stdout, "[tensors]");
  printf("%-*s  worker  %-*s  %-*s  %-*s  %*s  %*s\n", wide.name, "name", wide.slice, "slice", wide.shape, "shape",
         wide.dtype, "dtype", wide.reads, "reads", wide.holds, "holds");
  each_line(job, &wide, print_line);
}

static void print_rules(const shard_job *job) {
  if (job->num_rules == 0) return;
  putchar('\n');
  print_heading(stdout, "[rules]");
  puts("rule  tensors  match");
  for (int32_t i = 0; i < job->num_rules; i++) {
    printf("%4d  %7lld  ", i + 1, (long long)job->rules[i].tensors);
    print_safe(stdout, job->rules[i].pattern, job->rules[i].size);
    putchar('\n');
  }
}

static void print_workers(const shard_job *job) {
  const shard_worker sum = sum_of(job);
  int reads = 5, holds = 5;
  widen_to_number(sum.reads, &reads);
  widen_to_number(sum.holds, &holds);
  putchar('\n');
  print_heading(stdout, "[workers]");
  printf("worker  tensors  %*s  %*s\n", reads, "reads", holds, "holds");
  for (int32_t i = 0; i < job->options.workers; i++)
    printf("%6d  %7lld  %*llu  %*llu\n", i, (long long)job->workers[i].tensors, reads, ull(job->workers[i].reads),
           holds, ull(job->workers[i].holds));
  printf("%6s  %7lld  %*llu  %*llu\n", "all", (long long)sum.tensors, reads, ull(sum.reads), holds, ull(sum.holds));
}

void shard_print_text(const shard_job *job) {
  print_model(job);
  print_rules(job);
  if (job->options.verbose) print_tensors(job);
  print_workers(job);
  if (!job->options.dry_run) {
    putchar('\n');
    print_heading(stdout, "[reading]");
  }
  (void)fflush(stdout);
}

static void print_rate(const shard_worker *worker) {
  printf("%llu bytes in %.3f s, %.2f GB/s\n", ull(worker->reads), worker->seconds, rate_of(worker));
  (void)fflush(stdout);
}

void shard_print_worker(const shard_job *job, int32_t worker) {
  printf("worker %d: ", worker);
  print_rate(&job->workers[worker]);
}

void shard_print_total(const shard_job *job) {
  const shard_worker sum = sum_of(job);
  fputs("all: ", stdout);
  print_rate(&sum);
}

/* ---- JSON ---- */

static void json_worker(const char *start, const shard_worker *worker) {
  printf("%s\"tensors\": %lld, \"reads\": %llu, \"holds\": %llu, ", start, (long long)worker->tensors,
         ull(worker->reads), ull(worker->holds));
  if (worker->seconds < 0)
    fputs("\"seconds\": null, \"gb_per_s\": null}", stdout);
  else
    printf("\"seconds\": %.9f, \"gb_per_s\": %.6f}", worker->seconds, rate_of(worker));
}

static void json_workers(const shard_job *job) {
  const shard_worker sum = sum_of(job);
  char start[40];
  printf(",\n  \"split\": %lld,\n  \"replicated\": %lld,\n  \"skipped\": %lld,\n  \"per_worker\": [",
         (long long)job->split, (long long)job->replicated, (long long)job->skipped);
  for (int32_t i = 0; i < job->options.workers; i++) {
    (void)snprintf(start, sizeof(start), "%s\n    {\"worker\": %d, ", i > 0 ? "," : "", i);
    json_worker(start, &job->workers[i]);
  }
  json_worker("],\n  \"all\": {", &sum);
}

/* The shards of a tensor: of everybody, when each has its own slice. */
static void json_shards(const shard_job *job, int64_t tensor) {
  disco_shard shard;
  char shape[SHAPE_ROOM], dtype[DTYPE_ROOM];
  for (int32_t worker = 0; worker < job->options.workers; worker++) {
    if (shard_get(job, tensor, worker, &shard) != DISCO_OK) continue;
    shape_text(shard.ndim, shard.shape, shape);
    dtype_text(shard.dtype, dtype);
    if (worker == 0 && shard.is_skipped) fputs(", \"share\": \"skip\", \"shards\": []", stdout);
    if (shard.is_skipped) return;
    if (worker == 0 && shard.axis < 0) fputs(", \"share\": \"replicate\", \"axis\": null", stdout);
    if (worker == 0 && shard.axis >= 0) printf(", \"share\": \"split\", \"axis\": %d", shard.axis);
    if (worker == 0) printf(", \"dtype\": \"%s\", \"shards\": [", dtype);
    printf("%s{\"worker\": %d, \"first\": %lld, \"count\": %lld, \"shape\": %s, \"reads\": %llu, \"holds\": %llu}",
           worker > 0 ? ", " : "", worker, (long long)shard.first, (long long)shard.count, shape, ull(shard.file_bytes),
           ull(shard.bytes));
  }
  fputs("]", stdout);
}

static void json_tensors(const shard_job *job) {
  fputs(",\n  \"tensors\": [", stdout);
  for (int64_t i = 0; i < job->num_tensors; i++) {
    fputs(i > 0 ? ",\n    {" : "\n    {", stdout);
    json_text("name", disco_weights_tensor_at(job->weights, i)->name);
    json_shards(job, i);
    fputs("}", stdout);
  }
  fputs("]", stdout);
}

static void json_rules(const shard_job *job) {
  fputs(",\n  \"rules\": ", stdout);
  if (job->num_rules == 0) fputs("null", stdout);
  for (int32_t i = 0; i < job->num_rules; i++) {
    printf(i > 0 ? ",\n    {\"rule\": %d, \"match\": " : "[\n    {\"rule\": %d, \"match\": ", i + 1);
    fwrite(job->rules[i].pattern, 1, job->rules[i].size, stdout);
    printf(", \"tensors\": %lld}", (long long)job->rules[i].tensors);
  }
  if (job->num_rules > 0) fputs("]", stdout);
}

static void json_warnings(const shard_job *job) {
  const char *comma = "";
  fputs(",\n  \"warnings\": [", stdout);
  for (int32_t i = 0; i < job->num_rules; i++) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = job->rules[i].tensors == 0 ? open_memstream(&text, &size) : NULL;
    if (stream == NULL) continue;
    print_warning(stream, job, i);
    if (fclose(stream) == 0) {
      fputs(comma, stdout);
      print_json_string(stdout, text, size);
      comma = ", ";
    }
    free(text);
  }
  fputs("]", stdout);
}

static void json_numbers(const shard_job *job) {
  bool suits[SHARD_MAX_WORKERS + 1];
  const char *comma = "";
  fputs(",\n  \"suitable_workers\": ", stdout);
  if (shard_find_numbers(job, suits) != DISCO_OK) {
    fputs("null", stdout);
    return;
  }
  putchar('[');
  for (int32_t n = 1; n <= SHARD_MAX_WORKERS; n++) {
    if (!suits[n]) continue;
    printf("%s%d", comma, n);
    comma = ", ";
  }
  putchar(']');
}

void shard_print_json(const shard_job *job) {
  fputs("{\n  ", stdout);
  json_text("path", job->options.path);
  fputs(",\n  ", stdout);
  json_text("plan", job->options.plan);
  printf(",\n  \"workers\": %d,\n  \"dry_run\": %s,\n  \"fits\": %s,\n  \"error\": ", job->options.workers,
         job->options.dry_run ? "true" : "false",
         job->workers != NULL ? "true"
         : job->plan != NULL  ? "false"
                              : "null"); /* null: nothing to judge */
  if (job->error != NULL)
    print_json_string(stdout, job->error, strlen(job->error));
  else
    fputs("null", stdout);
  if (job->weights != NULL)
    printf(",\n  \"format\": \"%s\",\n  \"bytes\": %llu,\n  \"num_tensors\": %lld", disco_weights_format(job->weights),
           ull(job->model_bytes), (long long)job->num_tensors);
  if (job->rule_of != NULL) {
    json_numbers(job);
    json_rules(job);
    json_warnings(job);
  }
  if (job->workers != NULL) {
    json_workers(job);
    if (job->options.verbose) json_tensors(job);
  }
  fputs(",\n  \"manifest\": ", stdout);
  if (job->options.manifest != NULL && job->error == NULL)
    print_json_string(stdout, job->options.manifest, strlen(job->options.manifest));
  else
    fputs("null", stdout);
  fputs("\n}\n", stdout);
}
