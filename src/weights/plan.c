#include "weights/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "weights/json.h"
#include "weights/names.h"

/* ---- Words ---- */

static const char *const plan_words[] = {"rules", NULL};
static const char *const rule_words[] = {"match",     "axis", "unit",   "uneven", "parts",
                                         "replicate", "skip", "decode", NULL};

/* ---- One rule ---- */

typedef struct {
  const char *plan; /* "shard plan /models/tp2.json" */
  char *what;       /* "rule 3 (\"*.weight\") of shard plan ..."; owned */
  const json_t *json;
  dsc_shard_rule *rule;
} rule_reader;

static disco_status name_rule(rule_reader *self, const char *pattern) {
  dsc_text what = DSC_TEXT_INIT;
  char print[DSC_NAME_PRINT_BYTES];
  dsc_text_add(&what, "rule %d", self->rule->number);
  if (pattern != NULL) dsc_text_add(&what, " (%s)", dsc_name_print(pattern, print));
  dsc_text_add(&what, " of %s", self->plan);
  if (what.data == NULL) return dsc_fail(DISCO_MEMORY, "no memory for rule %d of %s", self->rule->number, self->plan);
  free(self->what);
  self->what = dsc_text_take(&what);
  return DISCO_OK;
}

static bool has(const rule_reader *self, const char *word) { return json_object_get(self->json, word) != NULL; }

static disco_status read_pattern(rule_reader *self) {
  const char *pattern = NULL;
  disco_status status = dsc_json_string(self->what, self->json, "match", &pattern);
  if (status != DISCO_OK) return status;
  size_t length = strlen(pattern);
  if (length > DSC_WEIGHTS_MAX_NAME)
    return dsc_fail(DISCO_VALUE, "%s has a pattern of %zu bytes; the limit is %d, that of names", self->what, length,
                    DSC_WEIGHTS_MAX_NAME);
  if ((status = name_rule(self, pattern)) != DISCO_OK) return status;
  const char *fault = dsc_pattern_fault(pattern);
  if (fault != NULL) return dsc_fail(DISCO_VALUE, "the pattern of %s %s", self->what, fault);
  if ((self->rule->pattern = dsc_alloc(length + 1, "a rule of a shard plan")) == NULL) return DISCO_MEMORY;
  memcpy(self->rule->pattern, pattern, length + 1);
  return DISCO_OK;
}

/* Exactly one of axis, replicate, skip; the last two count when they are true. */
static disco_status read_share(rule_reader *self) {
  bool is_replicated = false, is_skipped = false, is_split = has(self, "axis");
  disco_status status = dsc_json_flag(self->what, self->json, "replicate", &is_replicated);
  if (status == DISCO_OK) status = dsc_json_flag(self->what, self->json, "skip", &is_skipped);
  if (status != DISCO_OK) return status;
  int count = is_split + is_replicated + is_skipped;
  if (count == 0)
    return dsc_fail(DISCO_VALUE,
                    "%s does not say who gets the tensor: it needs one of \"axis\": DIMENSION, \"replicate\": true, "
                    "\"skip\": true",
                    self->what);
  if (count > 1)
    return dsc_fail(DISCO_VALUE, "%s has %s%s%s%s; of axis, replicate and skip it may have one", self->what,
                    is_split ? "axis and " : "", is_replicated ? "replicate" : "",
                    is_replicated && is_skipped ? " and " : "", is_skipped ? "skip" : "");
  self->rule->share = is_split ? DSC_SHARE_SPLIT : is_replicated ? DSC_SHARE_REPLICATE : DSC_SHARE_SKIP;
  return DISCO_OK;
}

static disco_status read_axis(rule_reader *self) {
  const json_t *axis = json_object_get(self->json, "axis");
  if (!json_is_integer(axis))
    return dsc_fail(DISCO_VALUE, "\"axis\" of %s is not an integer; it is the number of a dimension, -1 for the last",
                    self->what);
  json_int_t value = json_integer_value(axis);
  if (value < -DISCO_WEIGHTS_MAX_NDIM || value >= DISCO_WEIGHTS_MAX_NDIM)
    return dsc_fail(DISCO_VALUE, "\"axis\" of %s is %" JSON_INTEGER_FORMAT "; dimensions go from %d to %d", self->what,
                    value, -DISCO_WEIGHTS_MAX_NDIM, DISCO_WEIGHTS_MAX_NDIM - 1);
  self->rule->axis = (int32_t)value;
  return DISCO_OK;
}

static disco_status read_unit(rule_reader *self) {
  uint64_t unit = 1;
  if (!has(self, "unit")) return DISCO_OK;
  disco_status status = dsc_json_count(self->what, self->json, "unit", INT64_MAX, &unit);
  if (status != DISCO_OK) return status;
  if (unit == 0) return dsc_fail(DISCO_VALUE, "\"unit\" of %s is 0; slices are multiples of at least 1", self->what);
  self->rule->unit = (int64_t)unit;
  return DISCO_OK;
}

static disco_status read_parts(rule_reader *self) {
  if (!has(self, "parts")) return DISCO_OK;
  if (has(self, "unit") || self->rule->is_uneven)
    return dsc_fail(DISCO_VALUE, "%s has parts and %s: parts say the slices themselves", self->what,
                    has(self, "unit") ? "unit" : "uneven");
  const json_t *array = json_object_get(self->json, "parts");
  size_t count = json_is_array(array) ? json_array_size(array) : 1;
  if (count == 0) return dsc_fail(DISCO_VALUE, "\"parts\" of %s is empty; it has a part for each worker", self->what);
  if (count > DSC_PLAN_MAX_PARTS)
    return dsc_fail(DISCO_VALUE, "\"parts\" of %s has %zu parts; the limit is %d", self->what, count,
                    DSC_PLAN_MAX_PARTS);
  if ((self->rule->parts = dsc_alloc(count * sizeof(int64_t), "the parts of a shard plan")) == NULL)
    return DISCO_MEMORY;
  disco_status status =
      dsc_json_counts(self->what, self->json, "parts", (int32_t)count, self->rule->parts, &self->rule->num_parts);
  if (status != DISCO_OK) return status;
  int64_t sum = 0;
  for (int32_t i = 0; i < self->rule->num_parts; i++)
    if (__builtin_add_overflow(sum, self->rule->parts[i], &sum))
      return dsc_fail(DISCO_VALUE, "the parts of %s add up to more than 63 bits", self->what);
  return DISCO_OK;
}

static disco_status read_split(rule_reader *self) {
  disco_status status = read_axis(self);
  if (status == DISCO_OK) status = dsc_json_flag(self->what, self->json, "uneven", &self->rule->is_uneven);
  if (status == DISCO_OK) status = read_unit(self);
  if (status == DISCO_OK) status = read_parts(self);
  return status;
}

/* Words that say nothing where there is no axis: they show that something else was meant. */
static disco_status refuse_split_words(const rule_reader *self) {
  static const char *const words[] = {"unit", "uneven", "parts", NULL};
  for (const char *const *word = words; *word != NULL; word++)
    if (has(self, *word))
      return dsc_fail(DISCO_VALUE, "%s has %s, which goes with axis; but it has %s", self->what, *word,
                      self->rule->share == DSC_SHARE_SKIP ? "skip" : "replicate");
  if (self->rule->share == DSC_SHARE_SKIP && self->rule->is_decoded)
    return dsc_fail(DISCO_VALUE, "%s has decode and skip: what nobody gets is not decoded", self->what);
  return DISCO_OK;
}

static disco_status read_rule(rule_reader *self, json_t *json) {
  disco_status status = name_rule(self, NULL);
  if (status != DISCO_OK) return status;
  if (!json_is_object(json)) return dsc_fail(DISCO_VALUE, "%s is not an object {\"match\": ...}", self->what);
  self->json = json;
  self->rule->unit = 1;
  /* The pattern first: sentences about the rest name it. */
  if (!has(self, "match")) {
    if ((status = dsc_json_words(self->what, json, rule_words)) != DISCO_OK) return status;
    return dsc_fail(DISCO_VALUE, "%s has no \"match\": the pattern of the names it is for", self->what);
  }
  if ((status = read_pattern(self)) != DISCO_OK) return status;
  if ((status = dsc_json_words(self->what, json, rule_words)) != DISCO_OK) return status;
  if ((status = read_share(self)) != DISCO_OK) return status;
  if ((status = dsc_json_flag(self->what, json, "decode", &self->rule->is_decoded)) != DISCO_OK) return status;
  return self->rule->share == DSC_SHARE_SPLIT ? read_split(self) : refuse_split_words(self);
}

/* ---- The plan ---- */

static disco_status read_rules(disco_shard_plan *plan, const json_t *rules) {
  size_t count = json_array_size(rules);
  if (count == 0) return dsc_fail(DISCO_VALUE, "%s has no rules", plan->what);
  if (count > DSC_PLAN_MAX_RULES)
    return dsc_fail(DISCO_VALUE, "%s has %zu rules; the limit is %d", plan->what, count, DSC_PLAN_MAX_RULES);
  if ((plan->rules = dsc_alloc(count * sizeof(*plan->rules), "the rules of a shard plan")) == NULL) return DISCO_MEMORY;
  for (size_t i = 0; i < count; i++) {
    plan->num_rules = (int32_t)i + 1;
    plan->rules[i].number = (int32_t)i + 1;
    rule_reader reader = {.plan = plan->what, .rule = &plan->rules[i]};
    disco_status status = read_rule(&reader, json_array_get(rules, i));
    free(reader.what);
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}

static disco_status read_plan(disco_shard_plan *plan, json_t *json) {
  if (!json_is_object(json)) return dsc_fail(DISCO_VALUE, "%s is not an object {\"rules\": [...]}", plan->what);
  disco_status status = dsc_json_words(plan->what, json, plan_words);
  if (status != DISCO_OK) return status;
  const json_t *rules = json_object_get(json, "rules");
  if (!json_is_array(rules))
    return dsc_fail(DISCO_VALUE, "%s %s", plan->what,
                    rules == NULL ? "has no \"rules\"" : "has \"rules\" that are not an array");
  return read_rules(plan, rules);
}

/* Takes the reference over. */
static disco_status plan_of(const char *what, json_t *json, disco_shard_plan **ret_plan) {
  disco_status status = DISCO_MEMORY;
  disco_shard_plan *plan = dsc_alloc(sizeof(*plan), "a shard plan");
  if (plan != NULL && (plan->what = dsc_alloc(strlen(what) + 1, "the name of a shard plan")) != NULL) {
    memcpy(plan->what, what, strlen(what) + 1);
    status = read_plan(plan, json);
  }
  json_decref(json);
  if (status != DISCO_OK) {
    dsc_shard_plan_destroy(plan);
    return status;
  }
  *ret_plan = plan;
  return DISCO_OK;
}

disco_status dsc_shard_plan_parse(const char *json, size_t bytes, disco_shard_plan **ret_plan) {
  static const char what[] = "the shard plan";
  json_t *parsed = NULL;
  disco_status status = dsc_json_parse(what, json, bytes, &parsed);
  return status == DISCO_OK ? plan_of(what, parsed, ret_plan) : status;
}

disco_status dsc_shard_plan_open(const char *path, disco_shard_plan **ret_plan) {
  json_t *json = NULL;
  dsc_text what = DSC_TEXT_INIT;
  disco_status status = dsc_json_open(path, &json);
  if (status != DISCO_OK) return status;
  dsc_text_add(&what, "shard plan %s", path);
  status = plan_of(what.data != NULL ? what.data : "the shard plan", json, ret_plan);
  dsc_text_fini(&what);
  return status;
}

void dsc_shard_plan_destroy(disco_shard_plan *plan) {
  if (plan == NULL) return;
  for (int32_t i = 0; i < plan->num_rules; i++) {
    free(plan->rules[i].pattern);
    free(plan->rules[i].parts);
  }
  free(plan->rules);
  free(plan->what);
  free(plan);
}

const dsc_shard_rule *dsc_shard_plan_find(const disco_shard_plan *plan, const char *name) {
  for (int32_t i = 0; i < plan->num_rules; i++)
    if (dsc_pattern_matches(plan->rules[i].pattern, name)) return &plan->rules[i];
  return NULL;
}
