/* disco shard: whether a plan fits a model, who gets what, and reading it. */
#define _POSIX_C_SOURCE 200809L

#include "shard.h"

#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "weights.h"

/* ---- The command line ---- */

static int parse_workers(const char *text, int32_t *ret) {
  int32_t number = 0;
  const char *at = text;
  for (; *at >= '0' && *at <= '9' && number <= SHARD_MAX_WORKERS; at++) number = number * 10 + (*at - '0');
  if (at != text && *at == 0 && number >= 1 && number <= SHARD_MAX_WORKERS) {
    *ret = number;
    return EXIT_OK;
  }
  return usage_error("shard", "--workers takes a number from 1 to %d, not `%.200s`", SHARD_MAX_WORKERS, text);
}

static bool *find_flag(const char *text, shard_options *ret) {
  if (strcmp(text, "--dry-run") == 0) return &ret->dry_run;
  if (strcmp(text, "--json") == 0) return &ret->as_json;
  return strcmp(text, "--verbose") == 0 ? &ret->verbose : NULL;
}

static int take(const char *option, const char *value, shard_options *ret) {
  const bool is_plan = strcmp(option, "--plan") == 0, is_manifest = strcmp(option, "--manifest") == 0;
  if (!is_plan && !is_manifest && strcmp(option, "--workers") != 0)
    return usage_error("shard", "unknown option `%.200s`", option);
  if (value == NULL) return usage_error("shard", "%s needs a value", option);
  if (is_plan)
    ret->plan = value;
  else if (is_manifest)
    ret->manifest = value;
  else
    return parse_workers(value, &ret->workers);
  return EXIT_OK;
}

static int parse(int argc, char **argv, shard_options *ret) {
  for (int i = 1; i < argc; i++) {
    bool *flag = find_flag(argv[i], ret);
    if (flag != NULL) {
      *flag = true;
    } else if (argv[i][0] == '-' && argv[i][1] != 0) {
      const int status = take(argv[i], argv[i + 1], ret); /* argv ends in NULL */
      if (status != EXIT_OK) return status;
      i++;
    } else if (ret->path != NULL) {
      return usage_error("shard", "one file or folder at a time: unexpected argument `%.200s`", argv[i]);
    } else {
      ret->path = argv[i];
    }
  }
  if (ret->path == NULL) return usage_error("shard", "FILE is missing");
  if (ret->plan == NULL) return usage_error("shard", "--plan is missing: the file that says who gets what");
  if (ret->workers == 0) return usage_error("shard", "--workers is missing");
  if (ret->dry_run && ret->manifest != NULL)
    return usage_error("shard", "--manifest needs what is read, and --dry-run reads nothing");
  return EXIT_OK;
}

/* ---- Sums ---- */

disco_status shard_get(const shard_job *job, int64_t tensor, int32_t worker, disco_shard *ret_shard) {
  return disco_shard_of(job->weights, job->plan, tensor, job->options.workers, worker, ret_shard);
}

static disco_status add_tensor(shard_job *job, shard_worker *workers, int64_t tensor) {
  for (int32_t i = 0; i < job->options.workers; i++) {
    disco_shard shard;
    disco_status status = shard_get(job, tensor, i, &shard);
    if (status != DISCO_OK) return status;
    if (i == 0) {
      job->skipped += shard.is_skipped;
      job->replicated += !shard.is_skipped && shard.axis < 0;
      job->split += !shard.is_skipped && shard.axis >= 0;
    }
    if (shard.is_skipped) return DISCO_OK;
    workers[i].tensors++;
    workers[i].reads = saturated_sum(workers[i].reads, shard.file_bytes);
    workers[i].holds = saturated_sum(workers[i].holds, shard.bytes);
    if (job->largest < shard.bytes) job->largest = shard.bytes;
  }
  return DISCO_OK;
}

static disco_status open_both(shard_job *job) {
  disco_status status = disco_weights_open(job->options.path, &job->weights);
  if (status != DISCO_OK) return status;
  job->num_tensors = disco_weights_num_tensors(job->weights);
  for (int64_t i = 0; i < job->num_tensors; i++)
    job->model_bytes = saturated_sum(job->model_bytes, disco_weights_tensor_at(job->weights, i)->bytes);
  return disco_shard_plan_open(job->options.plan, &job->plan);
}

static disco_status plan_all(shard_job *job) {
  disco_status status = disco_shard_check(job->weights, job->plan, job->options.workers);
  if (status != DISCO_OK) return status;
  shard_worker *workers = calloc((size_t)job->options.workers, sizeof(*workers));
  if (workers == NULL) return disco_fail(DISCO_MEMORY, "no memory for %d workers", job->options.workers);
  for (int32_t i = 0; i < job->options.workers; i++) workers[i].seconds = -1;
  for (int64_t i = 0; status == DISCO_OK && i < job->num_tensors; i++) status = add_tensor(job, workers, i);
  if (status == DISCO_OK)
    job->workers = workers;
  else
    free(workers);
  return status;
}

static disco_status shard_all(shard_job *job) {
  disco_status status = open_both(job);
  if (status == DISCO_OK) status = shard_look_at_rules(job);
  if (status != DISCO_OK) return status;
  if (!job->options.as_json) shard_print_warnings(job); /* a rule that misses its tensors may be why nothing fits */
  status = plan_all(job);
  if (status != DISCO_OK) return status;
  if (!job->options.as_json) shard_print_text(job);
  return job->options.dry_run ? DISCO_OK : shard_load(job);
}

static int run(int argc, char **argv) {
  shard_job job = {0};
  int status = parse(argc, argv, &job.options);
  if (status != EXIT_OK) return status;
  if (shard_all(&job) != DISCO_OK) {
    job.error = strdup(disco_last_error_text());
    (void)fflush(stdout);
    status = report_failure("shard");
  }
  if (job.options.as_json) shard_print_json(&job);
  free(job.error);
  shard_free_rules(&job);
  free(job.workers);
  disco_shard_plan_destroy(job.plan);
  disco_weights_close(job.weights);
  return status;
}

const command shard_command = {
    "shard", "who gets what of a model by a plan, before it is loaded", run,
    "Usage:\n"
    "  disco shard FILE|FOLDER --plan PLAN --workers N --dry-run [--verbose] [--json]\n"
    "  disco shard FILE|FOLDER --plan PLAN --workers N [--manifest OUT] [--verbose] [--json]\n"
    "\n"
    "Says whether a model can be sharded over N workers by a plan, and how many bytes each worker reads and holds;\n"
    "where it cannot, which tensor is in the way, by which rule, and which numbers of workers would do. Warns of "
    "rules\n"
    "that decide about no tensor: their patterns may be misspelt, and a later rule have what they were for. Then, "
    "without\n"
    "--dry-run, reads the shards of each worker, one worker after the other, and says how fast that was. Nothing of\n"
    "the file but its headers is read before all is known to fit.\n"
    "\n"
    "Examples:\n"
    "  disco shard model.gguf --plan tp.json --workers 4 --dry-run\n"
    "  disco shard model.gguf --plan tp.json --workers 4 --dry-run --verbose | less\n"
    "                                     which elements of each tensor go to whom\n"
    "  disco shard models/llama --plan tp.json --workers 2 --manifest tp2.json\n"
    "                                     also write what each worker's bytes hash to, for load_weights to check\n"
    "\n"
    "A plan is JSON, a list of rules; the first whose pattern matches a tensor's name decides:\n"
    "  {\"rules\": [\n"
    "    {\"match\": \"*.attn_q.weight\", \"axis\": 0, \"unit\": 64},\n"
    "    {\"match\": \"*.ffn_down.weight\", \"axis\": 1, \"uneven\": true},\n"
    "    {\"match\": \"rope_freqs\", \"skip\": true},\n"
    "    {\"match\": \"*\", \"replicate\": true, \"decode\": true}]}\n"
    "\n"
    "Exactly one of these is in a rule:\n"
    "  axis       split along this dimension, negative: from the end; worker w gets the w-th slice\n"
    "  replicate  true: everybody gets the whole tensor\n"
    "  skip       true: nobody gets it\n"
    "\n"
    "And it may have:\n"
    "  unit       slices are multiples of so many elements; along the last axis of a quantised tensor always of its\n"
    "             block, too\n"
    "  uneven     true: where the units do not divide by the workers, the first workers get one more\n"
    "  parts      instead of both: the elements of each worker's slice, like [384, 192]\n"
    "  decode     true: as float32 what is quantised or has 16 bits; else as it is stored, quantised tensors as "
    "blocks\n"
    "             of uint8\n"
    "\n"
    "Options:\n"
    "  --plan PLAN      the file with the plan\n"
    "  --workers N      1 to 1024\n"
    "  --dry-run        say it, and read nothing\n"
    "  --verbose        a table of all tensors, too\n"
    "  --manifest OUT   write the XXH3 hash of each worker's shard of each tensor to this file\n"
    "  --json           one JSON object; also which numbers of workers up to 1024 suit all tensors\n"
    "\n"
    "Columns:\n"
    "  tensors  how many a rule decides about, or a worker gets\n"
    "  worker   all: everybody gets the same; none: nobody gets it\n"
    "  slice    the axis, how many of its elements, and the first of them\n"
    "  reads    bytes of the file\n"
    "  holds    bytes of memory: more than it reads where a rule says decode\n"
    "\n"
    "Exit status: 0; 1 when the model or the plan cannot be used, does not fit so many workers, or reading fails; 2 "
    "for\n"
    "wrong arguments.\n"};
