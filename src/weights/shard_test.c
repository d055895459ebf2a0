/* Who gets what: every split against one that deals units out one by one, every sentence, and the numbers of workers
 * that sentences name against trying all of them. Nothing is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "weights/shard.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { MAX_N = 1024 };

static void decode_toy(const void *from, int64_t count, float *to) {
  (void)from, (void)count, (void)to; /* nothing is read here */
}

static const dsc_encoding plain = {"F32", {kDLFloat, 32, 1}, 1, 4, NULL};
static const dsc_encoding half = {"F16", {kDLFloat, 16, 1}, 1, 2, NULL};
static const dsc_encoding toy = {"TOY4", {kDLFloat, 32, 1}, 4, 3, decode_toy};
static const dsc_encoding blocks32 = {"Q32", {kDLFloat, 32, 1}, 32, 18, decode_toy};
static const dsc_encoding truncated = {"f32-to-bf16", {kDLFloat, 32, 1}, 1, 2, decode_toy};
static const dsc_encoding listed = {"IQ9", {0, 0, 1}, 256, 98, NULL};

/* ---- Models and plans ---- */

static disco_weights *new_model(int32_t *ret_file) {
  disco_weights *model = NULL;
  assert_int_equal(dsc_model_create("test", &model), DISCO_OK);
  assert_int_equal(dsc_model_add_file(model, "/models/a.bin", (uint64_t)1 << 40, ret_file), DISCO_OK);
  return model;
}

static void add(disco_weights *model, int32_t file, const char *name, const dsc_encoding *encoding, int32_t ndim,
                const int64_t *shape) {
  uint64_t elements = 1;
  for (int32_t i = 0; i < ndim; i++) elements *= (uint64_t)shape[i];
  const disco_weights_tensor view = {.name = name,
                                     .ndim = ndim,
                                     .shape = shape,
                                     .bytes = elements / (uint64_t)encoding->block_elements *
                                              (uint64_t)encoding->block_bytes};
  if (dsc_model_add_tensor(model, file, encoding, &view) != DISCO_OK) fail_msg("%s", disco_last_error_text());
}

static void seal(disco_weights *model) { assert_int_equal(dsc_model_seal(model, true), DISCO_OK); }

static disco_weights *model_of(const dsc_encoding *encoding, int32_t ndim, const int64_t *shape) {
  int32_t file;
  disco_weights *model = new_model(&file);
  add(model, file, "w", encoding, ndim, shape);
  seal(model);
  return model;
}

static disco_shard_plan *plan_of(const char *rules) {
  char json[65536];
  disco_shard_plan *plan = NULL;
  const int size = snprintf(json, sizeof(json), "{\"rules\": [%s]}", rules);
  assert_in_range(size, 1, sizeof(json) - 1);
  if (dsc_shard_plan_parse(json, (size_t)size, &plan) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  return plan;
}

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

/* ---- Splits ---- */

static uint64_t seed = 2024;
static int64_t roll(int64_t below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int64_t)((seed >> 33) % (uint64_t)below);
}

/* What each worker should get, by dealing units in turn. False when it does not divide. */
static bool deal(int64_t dimension, int64_t unit, int64_t granule, bool uneven, int32_t workers, int64_t *ret_counts) {
  int64_t step = unit;
  while (step % granule != 0) step += unit;
  memset(ret_counts, 0, (size_t)workers * sizeof(*ret_counts));
  int32_t turn = 0;
  for (int64_t left = dimension; left > 0; left -= step) {
    if (left < step) return false;
    ret_counts[turn] += step;
    turn = (turn + 1) % workers;
  }
  return uneven || turn == 0;
}

static void splits_are_dealt(void **state) {
  (void)state;
  int fitting = 0, refused = 0;
  for (int i = 0; i < 4000; i++) {
    const bool is_blocked = roll(2) == 0, uneven = roll(2) == 0;
    const int32_t ndim = (int32_t)roll(4) + 1, axis = (int32_t)roll(ndim), workers = (int32_t)roll(9) + 1;
    const int64_t unit = roll(3) == 0 ? roll(6) + 1 : 1;
    int64_t shape[4], counts[16];
    for (int32_t k = 0; k < ndim; k++) shape[k] = roll(25);
    if (is_blocked) shape[ndim - 1] = shape[ndim - 1] / 4 * 4;
    char rule[128];
    (void)snprintf(rule, sizeof(rule), "{\"match\": \"*\", \"axis\": %d, \"unit\": %d, \"uneven\": %s}",
                   roll(2) == 0 ? axis : axis - ndim, (int)unit, uneven ? "true" : "false");
    disco_weights *model = model_of(is_blocked ? &toy : &plain, ndim, shape);
    disco_shard_plan *plan = plan_of(rule);
    const int64_t granule = is_blocked && axis == ndim - 1 ? 4 : 1;
    const bool fits = deal(shape[axis], unit, granule, uneven, workers, counts);
    assert_int_equal(dsc_shard_check(model, plan, workers), fits ? DISCO_OK : DISCO_VALUE);
    int64_t first = 0;
    for (int32_t w = 0; w < workers; w++) {
      disco_shard shard = {.tensor = 99};
      const disco_status status = dsc_shard_of(model, plan, 0, workers, w, &shard);
      assert_int_equal(status, fits ? DISCO_OK : DISCO_VALUE);
      if (!fits) {
        assert_int_equal(shard.tensor, 99); /* untouched */
        continue;
      }
      assert_int_equal(shard.axis, axis);
      assert_int_equal(shard.first, first);
      assert_int_equal(shard.count, counts[w]);
      first += counts[w];
    }
    fits ? fitting++ : refused++;
    dsc_shard_plan_destroy(plan);
    disco_weights_close(model);
  }
  assert_in_range(fitting, 1000, 3900);
  assert_in_range(refused, 300, 3900);
}

/* The numbers behind the last ": " of a sentence, up to ";" or its end. */
static void numbers_told(const char *behind, bool *ret_told) {
  const char *at = strstr(disco_last_error_text(), behind);
  memset(ret_told, 0, MAX_N + 1);
  if (at == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), behind);
  at += strlen(behind);
  if (strncmp(at, "any", 3) == 0) memset(ret_told, 1, MAX_N + 1);
  if (*at < '0' || *at > '9') return;
  for (;;) {
    char *end;
    const long first = strtol(at, &end, 10);
    long last = first;
    if (strncmp(end, " to ", 4) == 0) last = strtol(end + 4, &end, 10);
    for (long n = first; n <= last; n++) ret_told[n] = true;
    if (strncmp(end, ", ", 2) != 0) return;
    at = end + 2;
  }
}

static void expect_numbers(const disco_weights *model, const disco_shard_plan *plan, const char *behind) {
  bool told[MAX_N + 1];
  numbers_told(behind, told);
  for (int32_t n = 1; n <= MAX_N; n++)
    if ((dsc_shard_check(model, plan, n) == DISCO_OK) != told[n]) fail_msg("%d workers", n);
}

static void numbers_that_suit_are_told(void **state) {
  (void)state;
  static const int64_t dimensions[] = {1, 7, 12, 64, 97, 720, 1024, 4096, 14336, 151936};
  for (size_t i = 0; i < COUNT(dimensions); i++) {
    disco_weights *model = model_of(&plain, 1, &dimensions[i]);
    disco_shard_plan *plan = plan_of("{\"match\": \"*\", \"axis\": 0}");
    int32_t n = 2;
    disco_shard shard;
    while (dimensions[i] % n == 0) n++;
    assert_int_equal(dsc_shard_of(model, plan, 0, n, 0, &shard), DISCO_VALUE);
    expect_numbers(model, plan, "numbers of workers that suit it: ");
    assert_int_equal(dsc_shard_check(model, plan, n), DISCO_VALUE);
    expect_numbers(model, plan, "numbers of workers that suit all: ");
    dsc_shard_plan_destroy(plan);
    disco_weights_close(model);
  }
}

static void the_model_as_a_whole(void **state) {
  (void)state;
  int32_t file;
  disco_weights *model = new_model(&file);
  add(model, file, "a", &plain, 2, (const int64_t[]){12, 5});
  add(model, file, "b", &plain, 2, (const int64_t[]){18, 60});
  add(model, file, "c", &blocks32, 2, (const int64_t[]){7, 12 * 32});
  add(model, file, "d", &listed, 1, (const int64_t[]){256});
  add(model, file, "e", &half, 1, (const int64_t[]){6});
  seal(model);
  disco_shard_plan *plan = plan_of("{\"match\": \"a\", \"axis\": 0}, {\"match\": \"[bc]\", \"axis\": -1},"
                                   "{\"match\": \"d\", \"skip\": true}, {\"match\": \"e\", \"replicate\": true}");
  assert_int_equal(dsc_shard_check(model, plan, 4), DISCO_OK);
  assert_int_equal(dsc_shard_check(model, plan, 5), DISCO_VALUE);
  expect_says("tensor \"a\" [12, 5] of /models/a.bin: dimension 0 has 12 elements which do not divide by 5 workers; "
              "numbers of workers that suit it: 1 to 4, 6, 12; or let the rule say \"uneven\": true; rule 1 (\"a\") of "
              "the shard plan; 2 of 5 tensors do not fit; numbers of workers that suit all: 1 to 4, 6, 12");
  expect_numbers(model, plan, "suit all: ");
  dsc_shard_plan_destroy(plan);

  plan = plan_of("{\"match\": \"a\", \"axis\": 0}, {\"match\": \"[bcd]\", \"axis\": -1}");
  assert_int_equal(dsc_shard_check(model, plan, 2), DISCO_VALUE);
  expect_says("tensor \"d\" [256] of /models/a.bin: ");
  expect_says("; 2 of 5 tensors do not fit, 2 of them whatever the number of workers; numbers of workers that suit the "
              "others: 1");
  dsc_shard_plan_destroy(plan);

  plan =
      plan_of("{\"match\": \"a\", \"axis\": 0, \"parts\": [4, 8]}, {\"match\": \"b\", \"axis\": 0, \"parts\": [6, 6, "
              "6]}, {\"match\": \"*\", \"skip\": true}");
  assert_int_equal(dsc_shard_check(model, plan, 2), DISCO_VALUE);
  expect_says("; 1 of 5 tensors does not fit; numbers of workers that suit all: none up to 1024");
  expect_numbers(model, plan, "suit all: ");
  dsc_shard_plan_destroy(plan);

  plan = plan_of("{\"match\": \"a\", \"axis\": 0, \"uneven\": true}, {\"match\": \"b\", \"axis\": 0, \"parts\": [9, 0, "
                 "9]}, {\"match\": \"*\", \"skip\": true}");
  assert_int_equal(dsc_shard_check(model, plan, 3), DISCO_OK);
  assert_int_equal(dsc_shard_check(model, plan, 4), DISCO_VALUE);
  expect_numbers(model, plan, "suit all: ");
  dsc_shard_plan_destroy(plan);

  plan = plan_of("{\"match\": \"x\", \"skip\": true}");
  assert_int_equal(dsc_shard_check(model, plan, 3), DISCO_VALUE);
  expect_says("5 of 5 tensors do not fit, 5 of them whatever the number of workers");
  assert_null(strstr(disco_last_error_text(), "the others")); /* there are none */
  assert_int_equal(dsc_shard_check(model, plan, 0), DISCO_VALUE);
  expect_says("at least 1 worker, not 0");
  dsc_shard_plan_destroy(plan);
  disco_weights_close(model);
}

/* ---- Sentences ---- */

static const struct {
  const dsc_encoding *encoding;
  int32_t ndim;
  int64_t shape[3];
  const char *rule;
  int32_t workers;
  const char *says;
} misfits[] = {
    {&plain,
     2,
     {4, 7},
     "{\"match\": \"x\", \"axis\": 0}",
     2,
     "tensor \"w\" [4, 7] of /models/a.bin: no rule of the shard plan matches it; add one, or as the last"},
    {&plain,
     2,
     {4, 7},
     "{\"match\": \"w\", \"axis\": 2}",
     2,
     "tensor \"w\" [4, 7] of /models/a.bin: there is no dimension 2, it has 2; rule 1 (\"w\") of the shard plan"},
    {&plain, 2, {4, 7}, "{\"match\": \"w\", \"axis\": -3}", 2, "there is no dimension -3, it has 2"},
    {&plain,
     0,
     {0},
     "{\"match\": \"w\", \"axis\": 0}",
     1,
     "tensor \"w\" [] of /models/a.bin: it has no dimensions to split, only to replicate"},
    {&plain,
     2,
     {4, 7},
     "{\"match\": \"w\", \"axis\": 1}",
     3,
     "dimension 1 has 7 elements which do not divide by 3 workers; numbers of workers that suit it: 1, 7; or let the "
     "rule say \"uneven\": true; rule 1"},
    {&plain,
     1,
     {96},
     "{\"match\": \"w\", \"axis\": 0, \"unit\": 32}",
     2,
     "dimension 0 has 96 elements, 3 units of 32, which do not divide by 2 workers; numbers of workers that suit it: "
     "1, 3;"},
    {&plain,
     1,
     {100},
     "{\"match\": \"w\", \"axis\": 0, \"unit\": 64, \"uneven\": true}",
     1,
     "dimension 0 has 100 elements, not a multiple of the unit 64, so no number of workers suits it; rule 1"},
    {&blocks32,
     2,
     {2, 96},
     "{\"match\": \"w\", \"axis\": 1}",
     2,
     "3 units of 32, which do not divide by 2 workers; numbers of workers that suit it: 1, 3;"},
    {&blocks32,
     2,
     {2, 96},
     "{\"match\": \"w\", \"axis\": 1, \"unit\": 40}",
     1,
     "not a multiple of 160 (unit 40, blocks of 32 of encoding Q32), so no number"},
    {&blocks32,
     2,
     {2, 96},
     "{\"match\": \"w\", \"axis\": 1, \"unit\": 9223372036854775807}",
     1,
     "not a multiple of 9223372036854775807 (unit 9223372036854775807, blocks of 32"},
    {&plain,
     1,
     {10},
     "{\"match\": \"w\", \"axis\": 0, \"parts\": [3, 3, 3]}",
     3,
     "the 3 parts are 9 elements together, but dimension 0 has 10; rule 1"},
    {&plain,
     1,
     {10},
     "{\"match\": \"w\", \"axis\": 0, \"parts\": [3, 3, 4]}",
     2,
     "there are 3 parts and 2 workers; the number of workers that suits it: 3; rule 1"},
    {&blocks32,
     1,
     {96},
     "{\"match\": \"w\", \"axis\": 0, \"parts\": [32, 16, 48]}",
     3,
     "part 2 has 16 elements, not a multiple of the blocks of 32 of encoding Q32; rule 1"},
    {&listed,
     1,
     {512},
     "{\"match\": \"w\", \"axis\": 0}",
     2,
     "tensor \"w\" [512] of /models/a.bin: encoding IQ9 can be listed, not read"},
    {&listed, 1, {512}, "{\"match\": \"w\", \"replicate\": true, \"decode\": true}", 2, "can be listed, not read"},
};

/* What is too much for the worker with the largest part is found, whichever it is. */
static void the_largest_part_is_looked_at(void **state) {
  (void)state;
  int32_t file;
  disco_weights *model = NULL;
  const int64_t many = (int64_t)1 << 61, shape[] = {many + 32};
  const dsc_encoding *encoding = dsc_gguf_encoding(8); /* Q8_0: decoded it takes four times as much */
  const disco_weights_tensor view = {
      .name = "w", .ndim = 1, .shape = shape, .bytes = (uint64_t)(shape[0] / 32) * (uint64_t)encoding->block_bytes};
  char rule[128];
  assert_int_equal(dsc_model_create("test", &model), DISCO_OK);
  assert_int_equal(dsc_model_add_file(model, "/models/vast.bin", INT64_MAX, &file), DISCO_OK);
  assert_int_equal(dsc_model_add_tensor(model, file, encoding, &view), DISCO_OK);
  for (int first = 0; first < 2; first++) {
    (void)snprintf(rule, sizeof(rule), "{\"match\": \"w\", \"axis\": 0, \"decode\": true, \"parts\": [%lld, %lld]}",
                   first ? (long long)many : 32LL, first ? 32LL : (long long)many);
    disco_shard_plan *plan = plan_of(rule);
    assert_int_equal(dsc_shard_check(model, plan, 2), DISCO_VALUE);
    expect_says("too many");
    dsc_shard_plan_destroy(plan);
  }
  disco_weights_close(model);
}

static void each_misfit_has_its_sentence(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT(misfits); i++) {
    disco_weights *model = model_of(misfits[i].encoding, misfits[i].ndim, misfits[i].shape);
    disco_shard_plan *plan = plan_of(misfits[i].rule);
    disco_shard shard = {.tensor = 77};
    assert_int_equal(dsc_shard_of(model, plan, 0, misfits[i].workers, misfits[i].workers - 1, &shard), DISCO_VALUE);
    expect_says(misfits[i].says);
    assert_int_equal(shard.tensor, 77);
    assert_int_equal(dsc_shard_check(model, plan, misfits[i].workers), DISCO_VALUE);
    expect_says(misfits[i].says);
    expect_says("; 1 of 1 tensors does not fit");
    dsc_shard_plan_destroy(plan);
    disco_weights_close(model);
  }
}

static void names_are_printed_safely(void **state) {
  (void)state;
  int32_t file;
  disco_shard shard;
  disco_weights *model = new_model(&file);
  add(model, file, "a\x1b[2J\n", &plain, 1, (const int64_t[]){3});
  seal(model);
  disco_shard_plan *plan = plan_of("{\"match\": \"a\\u001b*\", \"axis\": 0}");
  assert_int_equal(dsc_shard_of(model, plan, 0, 2, 0, &shard), DISCO_VALUE);
  expect_says("rule 1 (\"a\\x1b*\") of the shard plan");
  assert_null(strchr(disco_last_error_text(), '\x1b'));
  assert_null(strchr(disco_last_error_text(), '\n'));
  dsc_shard_plan_destroy(plan);
  disco_weights_close(model);
}

static void numbers_of_the_call_are_checked(void **state) {
  (void)state;
  disco_weights *model = model_of(&plain, 1, (const int64_t[]){8});
  disco_shard_plan *plan = plan_of("{\"match\": \"*\", \"axis\": 0}");
  disco_shard shard;
  assert_int_equal(dsc_shard_of(model, plan, 1, 2, 0, &shard), DISCO_VALUE);
  expect_says("there is no tensor 1 in the model");
  assert_int_equal(dsc_shard_of(model, plan, -1, 2, 0, &shard), DISCO_VALUE);
  assert_int_equal(dsc_shard_of(model, plan, 0, 2, 2, &shard), DISCO_VALUE);
  expect_says("there is no worker 2 of 2");
  assert_int_equal(dsc_shard_of(model, plan, 0, 2, -1, &shard), DISCO_VALUE);
  assert_int_equal(dsc_shard_of(model, plan, 0, 0, 0, &shard), DISCO_VALUE);
  assert_int_equal(dsc_shard_of(model, plan, 0, -5, 0, &shard), DISCO_VALUE);
  expect_says("at least 1 worker, not -5");
  assert_int_equal(dsc_shard_of(model, plan, 0, INT32_MAX, 0, &shard), DISCO_VALUE);
  expect_says("suit it: 1, 2, 4, 8;");
  dsc_shard_plan_destroy(plan);
  disco_weights_close(model);
}

/* ---- What a shard looks like ---- */

static void results_have_the_right_form(void **state) {
  (void)state;
  static const struct {
    const dsc_encoding *encoding;
    const char *rule;
    bool is_decoded;
    uint8_t code, bits;
    int64_t shape[2];
    uint64_t bytes, file_bytes;
  } cases[] = {
      /* of [6, 64], worker 1 of 2 */
      {&plain, "\"axis\": 0", false, kDLFloat, 32, {3, 64}, 768, 768},
      {&plain, "\"axis\": 1, \"decode\": true", false, kDLFloat, 32, {6, 32}, 768, 768},
      {&plain, "\"replicate\": true", false, kDLFloat, 32, {6, 64}, 1536, 1536},
      {&half, "\"axis\": 0", false, kDLFloat, 16, {3, 64}, 384, 384},
      {&half, "\"axis\": 1, \"decode\": true", true, kDLFloat, 32, {6, 32}, 768, 384},
      {&truncated, "\"axis\": 1", true, kDLFloat, 32, {6, 32}, 768, 384},
      {&truncated, "\"axis\": 1, \"decode\": true", true, kDLFloat, 32, {6, 32}, 768, 384},
      {&blocks32, "\"axis\": 0", false, kDLUInt, 8, {3, 36}, 108, 108},
      {&blocks32, "\"axis\": 1", false, kDLUInt, 8, {6, 18}, 108, 108},
      {&blocks32, "\"axis\": 1, \"decode\": true", true, kDLFloat, 32, {6, 32}, 768, 108},
      {&blocks32, "\"replicate\": true", false, kDLUInt, 8, {6, 36}, 216, 216},
      {&blocks32, "\"axis\": 0, \"parts\": [6, 0]", false, kDLUInt, 8, {0, 36}, 0, 0},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    char rule[128];
    disco_shard shard;
    (void)snprintf(rule, sizeof(rule), "{\"match\": \"*\", %s}", cases[i].rule);
    disco_weights *model = model_of(cases[i].encoding, 2, (const int64_t[]){6, 64});
    disco_shard_plan *plan = plan_of(rule);
    assert_int_equal(dsc_shard_of(model, plan, 0, 2, 1, &shard), DISCO_OK);
    assert_int_equal(shard.is_decoded, cases[i].is_decoded);
    assert_int_equal(shard.dtype.code, cases[i].code);
    assert_int_equal(shard.dtype.bits, cases[i].bits);
    assert_int_equal(shard.dtype.lanes, 1);
    assert_int_equal(shard.ndim, 2);
    assert_int_equal(shard.shape[0], cases[i].shape[0]);
    assert_int_equal(shard.shape[1], cases[i].shape[1]);
    assert_int_equal(shard.bytes, cases[i].bytes);
    assert_int_equal(shard.file_bytes, cases[i].file_bytes);
    assert_false(shard.is_skipped);
    dsc_shard_plan_destroy(plan);
    disco_weights_close(model);
  }
}

static void nobody_gets_what_is_skipped(void **state) {
  (void)state;
  disco_weights *model = model_of(&listed, 1, (const int64_t[]){512});
  disco_shard_plan *plan = plan_of("{\"match\": \"*\", \"skip\": true}");
  disco_shard shard;
  memset(&shard, 0x5a, sizeof(shard));
  assert_int_equal(dsc_shard_of(model, plan, 0, 3, 2, &shard), DISCO_OK);
  assert_true(shard.is_skipped);
  assert_int_equal(shard.bytes + shard.file_bytes + (uint64_t)shard.ndim, 0);
  assert_int_equal(dsc_shard_check(model, plan, 3), DISCO_OK);
  dsc_shard_plan_destroy(plan);
  disco_weights_close(model);
}

static void scalars_and_empty_tensors(void **state) {
  (void)state;
  disco_shard shard;
  disco_weights *model = model_of(&plain, 0, (const int64_t[]){0});
  disco_shard_plan *plan = plan_of("{\"match\": \"*\", \"replicate\": true}");
  assert_int_equal(dsc_shard_of(model, plan, 0, 3, 2, &shard), DISCO_OK);
  assert_int_equal(shard.axis, -1);
  assert_int_equal(shard.ndim, 0);
  assert_int_equal(shard.bytes, 4);
  dsc_shard_plan_destroy(plan);
  disco_weights_close(model);
  model = model_of(&plain, 3, (const int64_t[]){4, 0, 3});
  plan = plan_of("{\"match\": \"*\", \"axis\": 0}");
  assert_int_equal(dsc_shard_of(model, plan, 0, 2, 1, &shard), DISCO_OK);
  assert_int_equal(shard.first, 2);
  assert_int_equal(shard.shape[0], 2);
  assert_int_equal(shard.bytes + shard.file_bytes, 0);
  assert_int_equal(dsc_shard_of(model, plan, 0, 3, 1, &shard), DISCO_VALUE);
  dsc_shard_plan_destroy(plan);
  plan = plan_of("{\"match\": \"*\", \"axis\": 1}"); /* nothing divides by any number */
  assert_int_equal(dsc_shard_check(model, plan, 1000), DISCO_OK);
  dsc_shard_plan_destroy(plan);
  disco_weights_close(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(splits_are_dealt),
      cmocka_unit_test(numbers_that_suit_are_told),
      cmocka_unit_test(the_model_as_a_whole),
      cmocka_unit_test(each_misfit_has_its_sentence),
      cmocka_unit_test(the_largest_part_is_looked_at),
      cmocka_unit_test(names_are_printed_safely),
      cmocka_unit_test(numbers_of_the_call_are_checked),
      cmocka_unit_test(results_have_the_right_form),
      cmocka_unit_test(nobody_gets_what_is_skipped),
      cmocka_unit_test(scalars_and_empty_tensors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
