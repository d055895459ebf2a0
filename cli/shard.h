/* disco shard, in its parts: the command line and the plan's sums (shard.c), reading (shard_load.c), the output
 * (shard_print.c). */
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

typedef struct {
  shard_options options;
  disco_weights *weights;
  disco_shard_plan *plan;
  int64_t num_tensors, split, replicated, skipped;
  uint64_t model_bytes;
  shard_worker *workers; /* of options.workers; NULL until the plan is known to fit */
  uint64_t largest;      /* bytes of the largest shard */
  char *error;           /* why it went no further; NULL: nothing went wrong */
} shard_job;

/* The shard of a tensor that was found to fit. */
disco_status shard_get(const shard_job *job, int64_t tensor, int32_t worker, disco_shard *ret_shard);

/* Read all shards, worker after worker, each into the same memory; tell each worker's end on stdout (not with --json)
 * and how far it is on a terminal at stderr; write the manifest. */
disco_status shard_load(shard_job *job);

/* Everything that is known before a byte is read. */
void shard_print_text(const shard_job *job);
/* The lines of shard_load(). */
void shard_print_worker(const shard_job *job, int32_t worker);
void shard_print_total(const shard_job *job);
/* All of it, also when something went wrong. */
void shard_print_json(const shard_job *job);

#endif
