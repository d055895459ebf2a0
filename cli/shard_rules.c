/* Which rule of a plan decides about which tensors, and which numbers of workers suit them all.
 *
 * The library says neither of a rule. So each pattern is taken from the plan's text, which was found to be one, and a
 * plan of its own is made of it, as `disco inspect --tensors` does. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "shard.h"
#include "weights.h"

/* ---- The patterns in the text of a plan ---- */

static disco_status read_plan(const char *path, char **ret_text) {
  size_t room = 0;
  FILE *file = fopen(path, "re");
  if (file == NULL) return disco_fail(DISCO_RUNTIME, "cannot open %s: %s", path, strerror(errno));
  const bool is_read = getdelim(ret_text, &room, 0, file) > 0; /* there is no NUL in JSON */
  (void)fclose(file);
  return is_read ? DISCO_OK : disco_fail(DISCO_RUNTIME, "cannot read %s again", path);
}

static const char *behind_string(const char *quote) {
  const char *at = quote + 1;
  for (; *at != 0 && *at != '"'; at++)
    if (*at == '\\' && at[1] != 0) at++;
  return *at != 0 ? at + 1 : at;
}

/* What the member "match" of a rule is, where that name stands at `at`; else NULL. */
static const char *pattern_at(const char *at) {
  static const char word[] = "\"match\"";
  if (strncmp(at, word, sizeof(word) - 1) != 0) return NULL;
  at += sizeof(word) - 1;
  at += strspn(at, " \t\r\n");
  if (*at != ':') return NULL; /* a value, not a name */
  at += 1 + strspn(at + 1, " \t\r\n");
  return *at == '"' ? at : NULL;
}

/* {"rules": [{"match": "*", ...}, ...]}: each rule's pattern, with its quotes, into `rules` (NULL: they are counted).
 * False for a rule that spells the name in another way, "\u006datch". */
static bool find_patterns(const char *at, shard_rule *rules, int32_t *ret_count) {
  int32_t objects = 0, patterns = 0;
  for (; *at != 0; at++) {
    objects += *at == '{';
    if (*at != '"') continue;
    const char *pattern = pattern_at(at);
    const char *end = behind_string(pattern != NULL ? pattern : at);
    if (pattern != NULL && rules != NULL)
      rules[patterns] = (shard_rule){.pattern = pattern, .size = (size_t)(end - pattern)};
    patterns += pattern != NULL;
    at = end - 1;
  }
  *ret_count = patterns;
  return objects == 1 + patterns; /* the plan, and its rules */
}

static disco_status find_rules(shard_job *job) {
  int32_t count = 0;
  const bool all_found = find_patterns(job->plan_text, NULL, &count);
  job->rules = calloc((size_t)count + 1, sizeof(*job->rules));
  if (job->rules == NULL) return disco_fail(DISCO_MEMORY, "no memory for %d rules", count);
  if (!all_found) return DISCO_OK;
  (void)find_patterns(job->plan_text, job->rules, &job->num_rules);
  disco_status status = DISCO_OK;
  for (int32_t i = 0; status == DISCO_OK && i < job->num_rules; i++)
    status = plan_of_pattern(job->rules[i].pattern, job->rules[i].size, &job->rules[i].plan);
  return status;
}

/* ---- What they decide ---- */

disco_status shard_look_at_rules(shard_job *job) {
  disco_status status = read_plan(job->options.plan, &job->plan_text);
  if (status == DISCO_OK) status = find_rules(job);
  if (status != DISCO_OK) return status;
  job->rule_of = malloc(((size_t)job->num_tensors + 1) * sizeof(*job->rule_of));
  if (job->rule_of == NULL) return disco_fail(DISCO_MEMORY, "no memory for %lld tensors", (long long)job->num_tensors);
  for (int64_t i = 0; i < job->num_tensors; i++) {
    int32_t rule = 0;
    while (rule < job->num_rules && !name_matches(job->weights, i, job->rules[rule].plan)) rule++;
    job->rule_of[i] = rule;
    job->rules[rule].tensors++;
  }
  return DISCO_OK;
}

void shard_free_rules(shard_job *job) {
  for (int32_t i = 0; i < job->num_rules; i++) disco_shard_plan_destroy(job->rules[i].plan);
  free(job->rules);
  free(job->rule_of);
  free(job->plan_text);
}

/* ---- Numbers of workers ---- */

static bool fits(const shard_job *job, int64_t tensor, int32_t workers, disco_shard *ret_shard) {
  return disco_shard_of(job->weights, job->plan, tensor, workers, 0, ret_shard) == DISCO_OK;
}

/* Take out those that do not suit a tensor. */
static void narrow(const shard_job *job, int64_t tensor, bool suits[SHARD_MAX_WORKERS + 1], int32_t *count) {
  disco_shard shard;
  for (int32_t n = 1; n <= SHARD_MAX_WORKERS; n++) {
    if (!suits[n] || fits(job, tensor, n, &shard)) continue;
    suits[n] = false;
    --*count;
  }
}

disco_status shard_find_numbers(const shard_job *job, bool suits[SHARD_MAX_WORKERS + 1]) {
  int32_t count = SHARD_MAX_WORKERS;
  bool *any_suits = calloc((size_t)job->num_rules + 1, sizeof(*any_suits)); /* of each rule: it says "uneven" */
  if (any_suits == NULL) return disco_fail(DISCO_MEMORY, "no memory for %d rules", job->num_rules);
  for (int32_t n = 1; n <= SHARD_MAX_WORKERS; n++) suits[n] = true;
  for (int64_t i = 0; i < job->num_tensors && count > 0; i++) {
    disco_shard whole;
    const bool is_one_enough = fits(job, i, 1, &whole) && (whole.is_skipped || whole.axis < 0);
    if (is_one_enough || any_suits[job->rule_of[i]]) continue;
    narrow(job, i, suits, &count);
    /* No dimension but an empty one divides by all numbers up to 1024. */
    any_suits[job->rule_of[i]] = job->rule_of[i] < job->num_rules && count == SHARD_MAX_WORKERS && whole.count > 0;
  }
  free(any_suits);
  return DISCO_OK;
}
