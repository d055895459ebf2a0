/* Which numbers of workers can share a model, and who gets what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/layout.h"

static const dims smollm2 = {.layers = 30,
                             .width = 576,
                             .hidden = 1536,
                             .heads = 9,
                             .kv_heads = 3,
                             .head_width = 64,
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_that_fit_are_taken),
      cmocka_unit_test(others_are_refused_with_those_that_fit),
      cmocka_unit_test(many_heads_are_cut_short),
      cmocka_unit_test(plans_parse),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
