/* Shard plans: patterns against a slow matcher, what is accepted, and the sentence for each mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "weights/model.h"
#include "weights/plan.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Patterns ---- */

static void known_patterns(void **state) {
  (void)state;
  static const struct {
    const char *pattern, *name;
    bool matches;
  } cases[] = {
      {"*", "", true},
      {"*", "a.b/c", true},
      {"a*", "a", true},
      {"a*", "ba", false},
      {"*.weight", "model.layers.0.weight", true},
      {"*.weight", "model/layers.0.weight", true},
      {"*.weight", ".weight", true},
      {"*.weight", "weight", false},
      {"*.weight", "a.weight.b", false},
      {"**a**", "bab", true},
      {"?", "", false},
      {"?", "a", true},
      {"?", ".", true},
      {"?", "/", true},
      {"?", "\xc3\xa4", true}, /* one character of two bytes */
      {"??", "\xc3\xa4", false},
      {"?", "\xf0\x9f\x98\x80", true},
      {"\xc3\xa4*", "\xc3\xa4x", true},
      {"blk.[0-3].w", "blk.3.w", true},
      {"blk.[0-3].w", "blk.4.w", false},
      {"blk.[!0-3].w", "blk.4.w", true},
      {"blk.[^0-3].w", "blk.2.w", false},
      {"[]]", "]", true},
      {"[!]]", "]", false},
      {"[!]]", "a", true},
      {"[a-]", "-", true},
      {"[-a]", "-", true},
      {"[a-]", "b", false},
      {"[\xc3\xa0-\xc3\xa9]", "\xc3\xa4", true}, /* a range of characters, not of bytes */
      {"[\xc3\xa0-\xc3\xa9]", "\xc3\xb6", false},
      {"[[]", "[", true},
      {"[*]", "*", true},
      {"[*]", "a", false},
      {"[?]a", "?a", true},
      {"\\*", "\\x", true}, /* a backslash is itself */
      {"a", "A", false},
      {"a]", "a]", true},
      {"!a", "!a", true},
      {"*a*b*c", "xxaxxbxxbc", true},
      {"*a*b*c", "xxaxxbxxbcd", false},
      {"*ab", "aab", true},
      {"*[ab][!a]", "aab", true},
      {"*[\xc2\x80-\xc2\xbf]b",
       "\xc3\xa4"
       "b",
       false}, /* the second byte is no character */
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    assert_null(dsc_pattern_fault(cases[i].pattern));
    if (dsc_pattern_matches(cases[i].pattern, cases[i].name) != cases[i].matches)
      fail_msg("\"%s\" and \"%s\"", cases[i].pattern, cases[i].name);
  }
}

/* By trying everything; the alphabet has no characters of several bytes. */
static bool slowly(const char *pattern, const char *name) {
  if (*pattern == 0) return *name == 0;
  if (*pattern == '*') return slowly(pattern + 1, name) || (*name != 0 && slowly(pattern, name + 1));
  if (*name == 0) return false;
  if (*pattern == '?') return slowly(pattern + 1, name + 1);
  if (*pattern != '[') return *pattern == *name && slowly(pattern + 1, name + 1);
  bool is_negated = pattern[1] == '!', found = false;
  const char *at = pattern + 1 + is_negated;
  do found = found || *at == *name;
  while (*++at != ']');
  return found != is_negated && slowly(at + 1, name + 1);
}

static void random_patterns(void **state) {
  (void)state;
  static const char *const pieces[] = {"a", "b", ".", "*", "?", "[ab]", "[!a]", "[.b]", "*", "[]]"};
  static const char letters[] = "ab.]";
  uint64_t seed = 12345;
  int matched = 0;
  for (int i = 0; i < 20000; i++) {
    char pattern[64] = "", name[16] = "";
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    uint64_t bits = seed >> 8;
    for (uint64_t n = bits % 6 + 1, left = bits >> 3; n > 0; n--, left /= COUNT(pieces))
      strcat(pattern, pieces[left % COUNT(pieces)]);
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    bits = seed >> 8;
    for (uint64_t n = bits % 8, at = 0, left = bits >> 3; at < n; at++, left >>= 2) name[at] = letters[left & 3];
    const bool expected = slowly(pattern, name);
    matched += expected;
    if (dsc_pattern_matches(pattern, name) != expected) fail_msg("\"%s\" and \"%s\"", pattern, name);
  }
  assert_in_range(matched, 1000, 19000);
}

/* Many stars do not take exponential time: this would not end. */
static void many_stars_end(void **state) {
  (void)state;
  char pattern[257], name[DSC_WEIGHTS_MAX_NAME + 1];
  for (size_t i = 0; i < sizeof(pattern) - 1; i++) pattern[i] = i % 2 == 0 ? '*' : 'a';
  pattern[254] = '*', pattern[255] = 'b', pattern[256] = 0;
  memset(name, 'a', sizeof(name) - 1);
  name[sizeof(name) - 1] = 0;
  assert_false(dsc_pattern_matches(pattern, name));
  name[sizeof(name) - 2] = 'b';
  assert_true(dsc_pattern_matches(pattern, name));
}

/* ---- Plans ---- */

static disco_shard_plan *parse(const char *json) {
  disco_shard_plan *plan = NULL;
  if (dsc_shard_plan_parse(json, strlen(json), &plan) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_non_null(plan);
  return plan;
}

static void rules_are_read(void **state) {
  (void)state;
  disco_shard_plan *plan = parse("{\"rules\": ["
                                 "{\"match\": \"*.q\", \"axis\": 0, \"unit\": 64},"
                                 "{\"match\": \"*.down\", \"axis\": -1, \"uneven\": true, \"decode\": true},"
                                 "{\"match\": \"*.k\", \"axis\": 7, \"parts\": [384, 0, 192]},"
                                 "{\"match\": \"rope\", \"skip\": true, \"replicate\": false},"
                                 "{\"match\": \"*\", \"replicate\": true, \"decode\": false}]}");
  assert_int_equal(plan->num_rules, 5);
  const dsc_shard_rule *rule = dsc_shard_plan_find(plan, "a.q");
  assert_int_equal(rule->number, 1);
  assert_int_equal(rule->share, DSC_SHARE_SPLIT);
  assert_int_equal(rule->axis, 0);
  assert_int_equal(rule->unit, 64);
  assert_false(rule->is_uneven || rule->is_decoded || rule->num_parts != 0);
  rule = dsc_shard_plan_find(plan, "a.down");
  assert_int_equal(rule->axis, -1);
  assert_int_equal(rule->unit, 1);
  assert_true(rule->is_uneven && rule->is_decoded);
  rule = dsc_shard_plan_find(plan, "a.k");
  assert_int_equal(rule->axis, 7);
  assert_int_equal(rule->num_parts, 3);
  assert_int_equal(rule->parts[0] * 10000 + rule->parts[1] * 100 + rule->parts[2], 3840192);
  assert_int_equal(dsc_shard_plan_find(plan, "rope")->share, DSC_SHARE_SKIP);
  rule = dsc_shard_plan_find(plan, "rope2"); /* a pattern is for the whole name */
  assert_int_equal(rule->number, 5);
  assert_int_equal(rule->share, DSC_SHARE_REPLICATE);
  dsc_shard_plan_destroy(plan);
  plan = parse("{\"rules\": [{\"match\": \"a\", \"axis\": 0}, {\"match\": \"a\", \"axis\": 1}]}");
  assert_int_equal(dsc_shard_plan_find(plan, "a")->axis, 0); /* the first decides */
  assert_null(dsc_shard_plan_find(plan, "b"));
  dsc_shard_plan_destroy(plan);
  dsc_shard_plan_destroy(NULL);
}

#define RULE(words) "{\"rules\": [{\"match\": \"x\", \"skip\": true}, {\"match\": \"*.w\", " words "}]}"
#define OF_RULE "rule 2 (\"*.w\") of the shard plan"

static void each_mistake_has_its_sentence(void **state) {
  (void)state;
  static const struct {
    const char *json, *says[3];
  } cases[] = {
      {"", {"the shard plan"}},
      {"{\"rules\": [", {"the shard plan"}},
      {"[]", {"the shard plan is not an object"}},
      {"3", {"the shard plan"}},
      {"{}", {"the shard plan has no \"rules\""}},
      {"{\"rules\": {}}", {"has \"rules\" that are not an array"}},
      {"{\"rules\": null}", {"has \"rules\" that are not an array"}},
      {"{\"rules\": []}", {"has no rules"}},
      {"{\"rules\": [{\"match\": \"*\", \"skip\": true}], \"rule\": 1}",
       {"unknown word \"rule\"", "did you mean `rules`?", "known: rules"}},
      {"{\"rules\": [{\"match\": \"*\", \"skip\": true}], \"rules\": []}", {"the shard plan"}},
      {"{\"rules\": [{\"match\": \"*\", \"skip\": true}]} x", {"the shard plan"}},
      {"{\"rules\": [3]}", {"rule 1 of the shard plan is not an object"}},
      {"{\"rules\": [{}]}", {"rule 1 of the shard plan has no \"match\""}},
      {"{\"rules\": [{\"mach\": \"*\", \"axis\": 0}]}",
       {"rule 1 of the shard plan has an unknown word \"mach\"", "`match`"}},
      {"{\"rules\": [{\"match\": 3, \"axis\": 0}]}", {"rule 1 of the shard plan", "match"}},
      {"{\"rules\": [{\"match\": \"\", \"axis\": 0}]}", {"rule 1 (\"\") of the shard plan is empty"}},
      {"{\"rules\": [{\"match\": \"a[b\", \"axis\": 0}]}",
       {"the pattern of rule 1 (\"a[b\") of the shard plan has a `[` without its `]`"}},
      {"{\"rules\": [{\"match\": \"a[]\", \"axis\": 0}]}", {"without its `]`"}},
      {"{\"rules\": [{\"match\": \"[9-0]\", \"axis\": 0}]}", {"whose end comes before its beginning"}},
      {RULE("\"dim\": 0"), {OF_RULE " has an unknown word \"dim\"", "match, axis, unit, uneven, parts, replicate"}},
      {RULE("\"replicated\": true"), {OF_RULE, "unknown word \"replicated\"; did you mean `replicate`?"}},
      {RULE("\"Axis\": 0"), {OF_RULE, "did you mean `axis`"}},
      {RULE("\"unit\": 3"), {OF_RULE " does not say who gets the tensor", "\"replicate\": true"}},
      {RULE("\"replicate\": false"), {OF_RULE " does not say who gets the tensor"}},
      {RULE("\"axis\": 0, \"replicate\": true"), {OF_RULE " has axis and replicate;"}},
      {RULE("\"axis\": 0, \"skip\": true"), {OF_RULE " has axis and skip;"}},
      {RULE("\"replicate\": true, \"skip\": true"), {OF_RULE " has replicate and skip;"}},
      {RULE("\"axis\": 0, \"replicate\": true, \"skip\": true"), {OF_RULE " has axis and replicate and skip;"}},
      {RULE("\"replicate\": 1"), {OF_RULE, "replicate"}},
      {RULE("\"skip\": \"yes\""), {OF_RULE, "skip"}},
      {RULE("\"axis\": 0, \"decode\": 1"), {OF_RULE, "decode"}},
      {RULE("\"axis\": 0, \"uneven\": null"), {OF_RULE, "uneven"}},
      {RULE("\"axis\": 1.0"), {"\"axis\" of " OF_RULE " is not an integer"}},
      {RULE("\"axis\": \"0\""), {"\"axis\" of " OF_RULE " is not an integer"}},
      {RULE("\"axis\": null"), {"\"axis\" of " OF_RULE " is not an integer"}},
      {RULE("\"axis\": 8"), {"\"axis\" of " OF_RULE " is 8; dimensions go from -8 to 7"}},
      {RULE("\"axis\": -9"), {"is -9;"}},
      {RULE("\"axis\": 4294967296"), {"is 4294967296;"}},
      {RULE("\"axis\": 0, \"unit\": 0"), {"\"unit\" of " OF_RULE " is 0"}},
      {RULE("\"axis\": 0, \"unit\": -1"), {OF_RULE, "unit"}},
      {RULE("\"axis\": 0, \"unit\": 2.5"), {OF_RULE, "unit"}},
      {RULE("\"axis\": 0, \"unit\": 9223372036854775808"), {"the shard plan"}},
      {RULE("\"axis\": 0, \"parts\": []"), {"\"parts\" of " OF_RULE " is empty"}},
      {RULE("\"axis\": 0, \"parts\": 3"), {OF_RULE, "parts"}},
      {RULE("\"axis\": 0, \"parts\": [1, -1]"), {OF_RULE, "parts"}},
      {RULE("\"axis\": 0, \"parts\": [1, 1.5]"), {OF_RULE, "parts"}},
      {RULE("\"axis\": 0, \"parts\": [9223372036854775807, 1]"),
       {"the parts of " OF_RULE " add up to more than 63 bits"}},
      {RULE("\"axis\": 0, \"parts\": [1, 2], \"unit\": 1"), {OF_RULE " has parts and unit"}},
      {RULE("\"axis\": 0, \"parts\": [1, 2], \"uneven\": true"), {OF_RULE " has parts and uneven"}},
      {RULE("\"replicate\": true, \"unit\": 1"), {OF_RULE " has unit, which goes with axis; but it has replicate"}},
      {RULE("\"skip\": true, \"parts\": [1]"), {OF_RULE " has parts, which goes with axis; but it has skip"}},
      {RULE("\"replicate\": true, \"uneven\": true"), {OF_RULE " has uneven, which goes with axis"}},
      {RULE("\"skip\": true, \"decode\": true"), {OF_RULE " has decode and skip"}},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    disco_shard_plan *plan = NULL;
    if (dsc_shard_plan_parse(cases[i].json, strlen(cases[i].json), &plan) != DISCO_VALUE || plan != NULL)
      fail_msg("accepted: %s", cases[i].json);
    for (size_t k = 0; k < COUNT(cases[i].says) && cases[i].says[k] != NULL; k++)
      if (strstr(disco_last_error_text(), cases[i].says[k]) == NULL)
        fail_msg("%s\nsays: %s\nnot:  %s", cases[i].json, disco_last_error_text(), cases[i].says[k]);
  }
}

/* `count` times `item` between `head` and `tail`. */
static disco_status parse_many(const char *head, const char *item, size_t count, const char *tail) {
  const size_t room = strlen(head) + count * (strlen(item) + 1) + strlen(tail) + 1;
  char *json = malloc(room), *at = json;
  disco_shard_plan *plan = NULL;
  assert_non_null(json);
  at += sprintf(at, "%s", head);
  for (size_t i = 0; i < count; i++) at += sprintf(at, i == 0 ? "%s" : ",%s", item);
  at += sprintf(at, "%s", tail);
  const disco_status status = dsc_shard_plan_parse(json, (size_t)(at - json), &plan);
  free(json);
  dsc_shard_plan_destroy(plan);
  return status;
}

static void limits_are_told(void **state) {
  (void)state;
  static const char rule[] = "{\"match\":\"*\",\"skip\":true}",
                    parts[] = "{\"rules\":[{\"match\":\"*\",\"axis\":0,\"parts\":[";
  assert_int_equal(parse_many("{\"rules\":[", rule, DSC_PLAN_MAX_RULES, "]}"), DISCO_OK);
  assert_int_equal(parse_many("{\"rules\":[", rule, DSC_PLAN_MAX_RULES + 1, "]}"), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), "has 4097 rules; the limit is 4096"));
  assert_int_equal(parse_many(parts, "1", DSC_PLAN_MAX_PARTS, "]}]}"), DISCO_OK);
  assert_int_equal(parse_many(parts, "1", DSC_PLAN_MAX_PARTS + 1, "]}]}"), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), "has 1025 parts; the limit is 1024"));
  char name[DSC_WEIGHTS_MAX_NAME + 2], json[DSC_WEIGHTS_MAX_NAME + 64];
  disco_shard_plan *plan = NULL;
  memset(name, 'n', sizeof(name));
  name[sizeof(name) - 1] = 0;
  int size = snprintf(json, sizeof(json), "{\"rules\":[{\"match\":\"%s\",\"skip\":true}]}", name);
  assert_int_equal(dsc_shard_plan_parse(json, (size_t)size, &plan), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), "pattern of 4097 bytes; the limit is 4096"));
}

static void plans_come_from_files(void **state) {
  (void)state;
  char path[] = "/tmp/disco_plan_test.XXXXXX";
  const int fd = mkstemp(path);
  disco_shard_plan *plan = NULL;
  static const char good[] = "{\"rules\": [{\"match\": \"*\", \"axis\": 0}]}";
  assert_true(fd >= 0);
  assert_int_equal(pwrite(fd, good, sizeof(good) - 1, 0), sizeof(good) - 1);
  assert_int_equal(dsc_shard_plan_open(path, &plan), DISCO_OK);
  assert_int_equal(plan->num_rules, 1);
  dsc_shard_plan_destroy(plan);
  plan = NULL;
  assert_int_equal(pwrite(fd, "9", 1, (off_t)(strchr(good, '0') - good)), 1); /* axis 9 */
  assert_int_equal(dsc_shard_plan_open(path, &plan), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), "rule 1 (\"*\") of shard plan /tmp/disco_plan_test."));
  assert_int_equal(ftruncate(fd, 9), 0);
  assert_int_equal(dsc_shard_plan_open(path, &plan), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), path));
  assert_int_equal(close(fd), 0);
  assert_int_equal(unlink(path), 0);
  assert_int_not_equal(dsc_shard_plan_open(path, &plan), DISCO_OK);
  assert_non_null(strstr(disco_last_error_text(), path));
  assert_int_not_equal(dsc_shard_plan_open("/tmp", &plan), DISCO_OK);
  assert_null(plan);
}

static void memory_may_be_short(void **state) {
  (void)state;
  static const char json[] = "{\"rules\": [{\"match\": \"*\", \"axis\": 0, \"parts\": [1, 2]}]}";
  disco_shard_plan *plan = NULL;
  int refused = 0;
  for (long n = 1; plan == NULL && n < 100; n++) {
    (void)dsc_inject_fail_allocation(n);
    const disco_status status = dsc_shard_plan_parse(json, sizeof(json) - 1, &plan);
    (void)dsc_inject_fail_allocation(0);
    assert_int_equal(status, plan != NULL ? DISCO_OK : DISCO_MEMORY);
    refused += status != DISCO_OK;
  }
  assert_true(refused >= 4);
  assert_non_null(plan);
  dsc_shard_plan_destroy(plan);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_patterns),
      cmocka_unit_test(random_patterns),
      cmocka_unit_test(many_stars_end),
      cmocka_unit_test(rules_are_read),
      cmocka_unit_test(each_mistake_has_its_sentence),
      cmocka_unit_test(limits_are_told),
      cmocka_unit_test(plans_come_from_files),
      cmocka_unit_test(memory_may_be_short),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
