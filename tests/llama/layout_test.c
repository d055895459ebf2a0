/* Which numbers of workers can share a model, and who gets what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/layout.h"

static const dims smollm2 = {.layers = 30,
                             .width = 576,
                             .hidden = 1536,
                             .heads = 9,
                             .kv_heads = 3,
                             .head_width = 64,
                             .head_unit = 1,
                             .vocabulary = 49152,
                             .context = 8192};

static void numbers_that_fit_are_taken(void **state) {
  (void)state;
  for (int32_t workers = 1; workers <= 3; workers++) assert_true(layout_check(&smollm2, workers));
}

static void others_are_refused_with_those_that_fit(void **state) {
  (void)state;
  const int32_t wrong[] = {0, -1, 4, 1000};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    assert_false(layout_check(&smollm2, wrong[i]));
    assert_non_null(strstr(disco_last_error_text(), "3 key-value heads"));
    assert_non_null(strstr(disco_last_error_text(), "1, 2 (unevenly) or 3 workers"));
  }
}

/* The sentence has room for any number. */
static void many_heads_are_cut_short(void **state) {
  (void)state;
  dims large = smollm2;
  large.heads = large.kv_heads = 128;
  assert_false(layout_check(&large, 129));
  assert_non_null(strstr(disco_last_error_text(), "... 48 workers"));
  large.kv_heads = large.heads = 1;
  assert_false(layout_check(&large, 2));
  assert_non_null(strstr(disco_last_error_text(), "Use 1 worker"));
}

/* Heads that share a block of the output matrix count as one. */
static void heads_stay_together(void **state) {
  (void)state;
  dims narrow = {.layers = 1,
                 .width = 96,
                 .hidden = 256,
                 .heads = 6,
                 .kv_heads = 6,
                 .head_width = 16,
                 .head_unit = 2,
                 .vocabulary = 293,
                 .context = 512};
  for (int32_t workers = 1; workers <= 3; workers++) assert_true(layout_check(&narrow, workers));
  for (int32_t workers = 4; workers <= 6; workers++) {
    assert_false(layout_check(&narrow, workers));
    assert_non_null(strstr(disco_last_error_text(), "6 key-value heads in groups of 2 "));
    assert_non_null(strstr(disco_last_error_text(), "1, 2 (unevenly) or 3 workers"));
  }
  char *json = layout_plan(&narrow, false);
  assert_non_null(json);
  assert_non_null(strstr(json, "\"*.attn_q.weight\", \"axis\": 0, \"unit\": 32"));
  assert_non_null(strstr(json, "\"*.attn_[kv].weight\", \"axis\": 0, \"unit\": 32"));
  assert_non_null(strstr(json, "\"*.attn_output.weight\", \"axis\": 1, \"unit\": 32"));
  free(json);
}

static void plans_parse(void **state) {
  (void)state;
  for (int is_decoded = 0; is_decoded < 2; is_decoded++) {
    disco_shard_plan *plan = NULL;
    char *json = layout_plan(&smollm2, is_decoded);
    assert_non_null(json);
    assert_int_equal(disco_shard_plan_parse(json, strlen(json), &plan), DISCO_OK);
    disco_shard_plan_destroy(plan);
    free(json);
  }
}

/* A safetensors file of one layer's queries and keys, 576 columns each; the bytes are a hole. */
static disco_weights *queries_and_keys(void) {
  const char header[] =
      "{\"blk.0.attn_q.weight\": {\"dtype\": \"F32\", \"shape\": [576, 576], \"data_offsets\": [0, 1327104]}, "
      "\"blk.0.attn_k.weight\": {\"dtype\": \"F32\", \"shape\": [192, 576], \"data_offsets\": [1327104, "
      "1769472]}}";
  const uint64_t size = sizeof(header) - 1; /* little-endian, as the format has it */
  char path[] = "/tmp/llama_layout_XXXXXX";
  const int fd = mkstemp(path);
  disco_weights *model = NULL;
  assert_true(fd >= 0 && write(fd, &size, sizeof(size)) == sizeof(size));
  assert_int_equal(write(fd, header, size), size);
  assert_int_equal(ftruncate(fd, (off_t)(sizeof(size) + size + 1769472)), 0);
  assert_int_equal(disco_weights_open(path, &model), DISCO_OK);
  (void)close(fd);
  (void)unlink(path);
  return model;
}

/* 9 heads that share 3 key-value heads: 2 + 1 of these, with 6 + 3 of the others. */
static void two_workers_share_three_heads(void **state) {
  (void)state;
  disco_weights *model = queries_and_keys();
  disco_shard_plan *plan = NULL;
  char *json = layout_plan(&smollm2, false);
  const int64_t wanted[2][2] = {{384, 192}, {128, 64}};
  assert_int_equal(disco_shard_plan_parse(json, strlen(json), &plan), DISCO_OK);
  for (int64_t tensor = 0; tensor < 2; tensor++)
    for (int32_t worker = 0; worker < 2; worker++) {
      disco_shard shard;
      assert_int_equal(disco_shard_of(model, plan, tensor, 2, worker, &shard), DISCO_OK);
      assert_int_equal(shard.count, wanted[tensor][worker]);
      assert_int_equal(shard.first, worker == 0 ? 0 : wanted[tensor][0]);
    }
  free(json);
  disco_shard_plan_destroy(plan);
  disco_weights_close(model);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_that_fit_are_taken),
      cmocka_unit_test(others_are_refused_with_those_that_fit),
      cmocka_unit_test(many_heads_are_cut_short),
      cmocka_unit_test(heads_stay_together),
      cmocka_unit_test(plans_parse),
      cmocka_unit_test(two_workers_share_three_heads),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
