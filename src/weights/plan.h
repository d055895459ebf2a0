/* A shard plan: rules, the first whose pattern matches a tensor's name decides. disco/weights.h has its language. It
 * does not change once it is parsed: any thread, several at once. */
#ifndef DSC_WEIGHTS_PLAN_H
#define DSC_WEIGHTS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "disco/weights.h"

enum {
  DSC_PLAN_MAX_RULES = 4096,
  DSC_PLAN_MAX_PARTS = 1024, /* workers that a rule names one by one, and to which numbers that suit are told */
};

typedef enum { DSC_SHARE_SPLIT, DSC_SHARE_REPLICATE, DSC_SHARE_SKIP } dsc_share;

typedef struct {
  int32_t number; /* from 1, as sentences have it */
  char *pattern;
  dsc_share share;
  bool is_decoded;
  /* The rest is for DSC_SHARE_SPLIT. */
  int32_t axis;      /* as written: negative from the end */
  int64_t unit;      /* at least 1 */
  bool is_uneven;    /* the first workers get one unit more where it does not divide */
  int32_t num_parts; /* 0: no parts, unit and is_uneven decide */
  int64_t *parts;    /* one per worker, each at least 0; their sum fits 63 bits */
} dsc_shard_rule;

struct disco_shard_plan {
  char *what; /* "shard plan /models/tp2.json", for sentences */
  int32_t num_rules;
  dsc_shard_rule *rules;
};

/* DISCO_VALUE with the rule by number and pattern, and the word that is wrong. */
disco_status dsc_shard_plan_parse(const char *json, size_t bytes, disco_shard_plan **ret_plan);
/* Also DISCO_RUNTIME when the file cannot be read. */
disco_status dsc_shard_plan_open(const char *path, disco_shard_plan **ret_plan);
void dsc_shard_plan_destroy(disco_shard_plan *plan); /* NULL allowed */

/* The rule that decides for a tensor of that name; NULL when none does. */
const dsc_shard_rule *dsc_shard_plan_find(const disco_shard_plan *plan, const char *name);

/* Whether a name matches. Character by character (of UTF-8), in no locale: `*` any number of them, '.' and '/' too; `?`
 * one; `[abc]`, `[a-z]` one of these, `[!abc]` or `[^abc]` one of the others, where `]` at the first place and `-` at
 * the first or the last stand for themselves. Nothing else is special. Takes time in proportion to both lengths
 * multiplied, at worst. */
bool dsc_pattern_matches(const char *pattern, const char *name);
/* Why a pattern is none, as the end of a sentence; NULL when it is one. */
const char *dsc_pattern_fault(const char *pattern);

#endif
