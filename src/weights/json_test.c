/* JSON with limits: what is refused before jansson sees it, what jansson refuses, and members by type. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/inject.h"
#include "common/cgroup.h"
#include "weights/json.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

static disco_status parse(const char *text, json_t **ret_json) {
  return dsc_json_parse("a.json", text, strlen(text), ret_json);
}

static json_t *parsed(const char *text) {
  json_t *json = NULL;
  if (parse(text, &json) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  return json;
}

static void broken_json_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *words;
  } cases[] = {
      {"", "line 1"},
      {"{", "line 1"},
      {"{\"a\": 1,\n \"b\": }", "line 2, column 7"},
      {"{\"a\": 1} x", "end of file"},
      {"{\"a\": 1, \"a\": 2}", "duplicate"},
      {"{\"a\": 1, \"\\u0061\": 2}", "duplicate"},
      {"{\"a\": \"x\\u0000y\"}", "u0000"},
      {"{\"a\\u0000b\": 1}", "NUL"},
      {"{\"a\": 99999999999999999999}", "integer"},
      {"{\"a\": 1e999}", "real"},
      {"{\"a\": \"\xff\"}", "unable to decode byte"},
      {"{\"a\": \"\xed\xa0\x80\"}", "unable to decode byte"},
      {"{\"a\": 01}", "line 1"},
      {"{a: 1}", "line 1"},
      {"// no\n{}", "line 1"},
      {"{\"a\": NaN}", "line 1"},
      {"5", "line 1"},
      {"\"text with [[[[ and \\\" in it", "line 1"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    json_t *json = NULL;
    if (parse(cases[i].text, &json) != DISCO_VALUE || json != NULL) fail_msg("taken: %s", cases[i].text);
    expect_says("a.json");
    expect_says(cases[i].words);
  }
  json_t *json = NULL;
  assert_int_equal(dsc_json_parse("a.json", "{}\0", 3, &json), DISCO_VALUE);
  /* What the text says reaches no terminal as it is. */
  assert_int_equal(parse("{\"a\": \x1b[31m}", &json), DISCO_VALUE);
  assert_null(strchr(disco_last_error_text(), '\x1b'));
}

static void depth_is_limited(void **state) {
  (void)state;
  char text[2 * 65 + 1];
  for (int depth = DSC_WEIGHTS_MAX_JSON_DEPTH; depth <= DSC_WEIGHTS_MAX_JSON_DEPTH + 1; depth++) {
    json_t *json = NULL;
    memset(text, '[', (size_t)depth);
    memset(text + depth, ']', (size_t)depth);
    disco_status status = dsc_json_parse("deep", text, 2 * (size_t)depth, &json);
    assert_int_equal(status, depth > DSC_WEIGHTS_MAX_JSON_DEPTH ? DISCO_VALUE : DISCO_OK);
    json_decref(json);
  }
  expect_says("deeper than 64 at its byte 64");
  /* Brackets in strings, also behind escaped quotes and backslashes, are not depth. */
  char long_text[512] = "{\"\\\"\\\\[\": \"";
  memset(long_text + strlen(long_text), '[', 100);
  (void)strcat(long_text, "\"}");
  json_decref(parsed(long_text));
}

/* 100 MB of "[],[],..." would become 8 GB. */
static void dense_values_are_refused(void **state) {
  (void)state;
  enum { BYTES = 1 << 20 };
  char *text = malloc(BYTES);
  assert_non_null(text);
  static const char *const units[] = {"0,", "[],", "{},"};
  for (size_t i = 0; i < COUNT(units); i++) {
    const size_t unit = strlen(units[i]);
    size_t size = 1;
    text[0] = '[';
    while (size + unit < BYTES) memcpy(text + size, units[i], unit), size += unit;
    text[size - 1] = ']';
    json_t *json = NULL;
    assert_int_equal(dsc_json_parse("dense", text, size, &json), DISCO_VALUE);
    expect_says("values");
    /* A few thousand are always taken. */
    size = 1;
    while (size < 4000 * unit) memcpy(text + size, units[i], unit), size += unit;
    text[size - 1] = ']';
    assert_int_equal(dsc_json_parse("small", text, size, &json), DISCO_OK);
    json_decref(json);
  }
  free(text);
}

/* Blanks make a text long, and let it have many small arrays: what they take is asked for before they are made. */
static void memory_is_asked_for(void **state) {
  (void)state;
  enum { ARRAYS = 200000, EACH = 12 };
  char *text = malloc(ARRAYS * EACH + 2);
  assert_non_null(text);
  memset(text, ' ', ARRAYS * EACH + 2);
  text[0] = '[';
  for (int i = 0; i < ARRAYS; i++) memcpy(text + 1 + (size_t)i * EACH, i + 1 < ARRAYS ? "[]," : "[] ", 3);
  text[ARRAYS * EACH + 1] = ']';
  json_t *json = NULL;
  fake_cgroup group;
  fake_cgroup_begin(&group, "100000000\n", "60000000\n");
  assert_int_equal(dsc_json_parse("many", text, ARRAYS * EACH + 2, &json), DISCO_MEMORY);
  expect_says("memory limit is 100000000 bytes");
  fake_cgroup_end(&group);
  assert_int_equal(dsc_json_parse("many", text, ARRAYS * EACH + 2, &json), DISCO_OK);
  assert_int_equal(json_array_size(json), ARRAYS);
  json_decref(json);
  free(text);
}

static disco_status never_read(void *context, uint64_t offset, void *to, size_t bytes) {
  (void)context, (void)offset, (void)to, (void)bytes;
  fail_msg("was read");
  return DISCO_RUNTIME;
}

static disco_status fail_read(void *context, uint64_t offset, void *to, size_t bytes) {
  (void)context, (void)offset, (void)to, (void)bytes;
  return dsc_fail(DISCO_RUNTIME, "no disk");
}

static void sources(void **state) {
  (void)state;
  json_t *json = NULL;
  dsc_source source = {"large", (uint64_t)DSC_WEIGHTS_MAX_HEADER + 1, never_read, NULL};
  assert_int_equal(dsc_json_read(&source, &json), DISCO_VALUE);
  expect_says("104857601 bytes of JSON, the limit is 104857600");
  source = (dsc_source){"gone", 5, fail_read, NULL};
  assert_int_equal(dsc_json_read(&source, &json), DISCO_RUNTIME);
  expect_says("no disk");
  const char text[] = " {\"a\": [1]}\n";
  dsc_source_of_memory("here", text, strlen(text), &source);
  assert_int_equal(dsc_json_read(&source, &json), DISCO_OK);
  assert_int_equal(json_array_size(json_object_get(json, "a")), 1);
  json_decref(json);
  long failures = 0;
  for (disco_status status = DISCO_MEMORY; status != DISCO_OK; failures++) {
    (void)dsc_inject_fail_allocation(failures + 1);
    status = dsc_json_read(&source, &json);
    (void)dsc_inject_fail_allocation(0);
    assert_true(status == DISCO_OK || status == DISCO_MEMORY);
  }
  assert_true(failures > 2);
  json_decref(json);
}

static void members_by_type(void **state) {
  (void)state;
  json_t *json = parsed(
      "{\"s\": \"text\", \"n\": 12, \"neg\": -1, \"real\": 2.0, \"a\": [1, 2, 3], \"mixed\": [1, \"\\u001b\"], \"t\": "
      "true, \"f\": false, \"null\": null, \"o\": {}}");
  const char *text = NULL;
  uint64_t count = 0;
  int64_t counts[3];
  int32_t num_counts = -1;
  bool flag = false;
  assert_int_equal(dsc_json_string("it", json, "s", &text), DISCO_OK);
  assert_string_equal(text, "text");
  assert_int_equal(dsc_json_string("it", json, "n", &text), DISCO_VALUE);
  expect_says("\"n\" of it must be a string, not 12");
  assert_int_equal(dsc_json_string("it", json, "x", &text), DISCO_VALUE);
  expect_says("it has no \"x\"");
  assert_int_equal(dsc_json_string("it", json_object_get(json, "a"), "x", &text), DISCO_VALUE);
  assert_int_equal(dsc_json_string("it", NULL, "x", &text), DISCO_VALUE);
  assert_int_equal(dsc_json_count("it", json, "n", 12, &count), DISCO_OK);
  assert_int_equal(count, 12);
  assert_int_equal(dsc_json_count("it", json, "n", 11, &count), DISCO_VALUE);
  expect_says("\"n\" of it must be an integer from 0 to 11, not 12");
  assert_int_equal(dsc_json_count("it", json, "neg", 11, &count), DISCO_VALUE);
  expect_says("not -1");
  assert_int_equal(dsc_json_count("it", json, "real", UINT64_MAX, &count), DISCO_VALUE);
  expect_says("not 2, which is no integer");
  assert_int_equal(dsc_json_count("it", json, "null", 1, &count), DISCO_VALUE);
  expect_says("not null");
  assert_int_equal(dsc_json_counts("it", json, "a", 3, counts, &num_counts), DISCO_OK);
  assert_int_equal(num_counts, 3);
  assert_true(counts[0] == 1 && counts[1] == 2 && counts[2] == 3);
  assert_int_equal(dsc_json_counts("it", json, "a", 2, counts, &num_counts), DISCO_VALUE);
  expect_says("at most 2 integers, not an array of 3 values");
  assert_int_equal(dsc_json_counts("it", json, "mixed", 3, counts, &num_counts), DISCO_VALUE);
  expect_says("value 1 of \"mixed\" of it must be an integer of at least 0, not \"\\x1b\"");
  assert_int_equal(dsc_json_counts("it", json, "o", 3, counts, &num_counts), DISCO_VALUE);
  expect_says("not an object");
  assert_int_equal(dsc_json_flag("it", json, "t", &flag), DISCO_OK);
  assert_true(flag);
  assert_int_equal(dsc_json_flag("it", json, "missing", &flag), DISCO_OK);
  assert_false(flag);
  flag = true;
  assert_int_equal(dsc_json_flag("it", json, "f", &flag), DISCO_OK);
  assert_false(flag);
  assert_int_equal(dsc_json_flag("it", json, "n", &flag), DISCO_VALUE);
  json_decref(json);
}

static void metadata_as_text(void **state) {
  (void)state;
  disco_weights *model = NULL;
  json_t *json = parsed("{\"a\": [1, 2.5, \"x\\\"\\n\", null], \"b\": {\"c\": true}}");
  assert_int_equal(dsc_model_create("test", &model), DISCO_OK);
  assert_int_equal(dsc_json_metadata(model, "a.json", "a", json_object_get(json, "a")), DISCO_OK);
  assert_int_equal(dsc_json_metadata(model, "a.json", "b", json_object_get(json, "b")), DISCO_OK);
  json_decref(json);
  assert_string_equal(dsc_model_metadata(model, "a"), "[1, 2.5, \"x\\\"\\n\", null]");
  assert_string_equal(dsc_model_metadata(model, "b"), "{\"c\": true}");
  dsc_model_destroy(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(broken_json_is_refused),   cmocka_unit_test(depth_is_limited),
      cmocka_unit_test(dense_values_are_refused), cmocka_unit_test(sources),
      cmocka_unit_test(memory_is_asked_for),      cmocka_unit_test(members_by_type),
      cmocka_unit_test(metadata_as_text),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
