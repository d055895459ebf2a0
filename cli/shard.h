/* disco shard, in its parts: the command line and the plan's sums (shard.c), its rules (shard_rules.c), reading
 * (shard_load.c), the output (shard_print.c). */
#ifndef DISCO_CLI_SHARD_H
#define DISCO_CLI_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "disco/weights.h"

enum { SHARD_MAX_WORKERS = 1024 };

typedef struct {
  const char *path, *plan, *manifest; /* manifest NULL: none is written */
  int32_t workers;
  bool dry_run, as_json, verbose;
} shard_options;

/* What a worker gets of all tensors together. */
typedef struct {
  int64_t tensors;
  uint64_t reads, holds; /* bytes, of the file and of memory */
  double seconds;        /* to read them; negative: not read */
} shard_worker;

/* A rule of the plan. */
typedef struct {
  const char *pattern; /* a JSON string of `size` bytes, as it stands in the plan */
  size_t size;
  disco_shard_plan *plan; /* of the pattern alone, see plan_of_pattern() */
  int64_t tensors;        /* that it decides about */
} shard_rule;

typedef struct {
  shard_options options;
  disco_weights *weights;
  disco_shard_plan *plan;
  char *plan_text;
  shard_rule *rules; /* NULL until they were looked at */
  int32_t num_rules; /* 0: they are spelt so that only the library understands them */
  int32_t *rule_of;  /* of each tensor; num_rules: none */
  int64_t num_tensors, split, replicated, skipped;
  uint64_t model_bytes;
  shard_worker *workers; /* of options.workers; NULL until the plan is known to fit */
  uint64_t largest;      /* bytes of the largest shard */
  char *error;           /* why it went no further; NULL: nothing went wrong */
} shard_job;

/* What each rule decides; the plan is open. */
disco_status shard_look_at_rules(shard_job *job);
void shard_free_rules(shard_job *job);
/* suits[n]: n workers suit all tensors. The rules were looked at. */
disco_status shard_find_numbers(const shard_job *job, bool suits[SHARD_MAX_WORKERS + 1]);

/* The shard of a tensor that was found to fit. */
disco_status shard_get(const shard_job *job, int64_t tensor, int32_t worker, disco_shard *ret_shard);

/* Read all shards, worker after worker, each into the same memory; tell each worker's end on stdout (not with --json)
 * and how far it is on a terminal at stderr; write the manifest. */
disco_status shard_load(shard_job *job);

/* Of rules that decide about nothing, on stderr. */
void shard_print_warnings(const shard_job *job);
/* Everything that is known before a byte is read. */
void shard_print_text(const shard_job *job);
/* The lines of shard_load(). */
void shard_print_worker(const shard_job *job, int32_t worker);
void shard_print_total(const shard_job *job);
/* All of it, also when something went wrong. */
void shard_print_json(const shard_job *job);

#endif
