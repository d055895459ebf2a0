/* Interned names: one number per text, for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/inject.h"
#include "base/names.h"

enum { MANY = 5000 };

static void numbers_are_given_in_order_and_stay(void **state) {
  (void)state;
  dsc_names names = {0};
  char text[32];
  for (uint32_t i = 1; i <= MANY; i++) {
    snprintf(text, sizeof(text), "name %u", i);
    assert_int_equal(dsc_names_intern(&names, text), i);
  }
  for (uint32_t i = MANY; i >= 1; i--) {
    snprintf(text, sizeof(text), "name %u", i);
    assert_int_equal(dsc_names_intern(&names, text), i);
    assert_string_equal(dsc_names_text(&names, i), text);
  }
  assert_int_equal(names.count, MANY);
  dsc_names_fini(&names);
  dsc_names_fini(&names);
}

static void other_numbers_are_no_name(void **state) {
  (void)state;
  dsc_names names = {0};
  assert_null(dsc_names_text(&names, 0));
  assert_null(dsc_names_text(&names, 1));
  assert_int_equal(dsc_names_intern(&names, ""), 1);
  assert_int_equal(dsc_names_intern(&names, "a"), 2);
  assert_string_equal(dsc_names_text(&names, 1), "");
  assert_null(dsc_names_text(&names, 0));
  assert_null(dsc_names_text(&names, 3));
  assert_null(dsc_names_text(&names, UINT32_MAX));
  dsc_names_fini(&names);
}

/* Without memory the answer is 0, what was there stays, and later it works again. */
static void no_memory_is_no_failure(void **state) {
  (void)state;
  dsc_names names = {0};
  char text[32];
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_names_intern(&names, "first"), 0);
  dsc_inject_fail_allocation(0);
  for (uint32_t i = 1; i <= 16; i++) { /* the first capacity */
    snprintf(text, sizeof(text), "%u", i);
    assert_int_equal(dsc_names_intern(&names, text), i);
  }
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_names_intern(&names, "17"), 0);
  dsc_inject_fail_allocation(0);
  assert_string_equal(dsc_names_text(&names, 16), "16");
  assert_int_equal(dsc_names_intern(&names, "17"), 17);
  assert_int_equal(dsc_names_intern(&names, "3"), 3);
  dsc_names_fini(&names);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_are_given_in_order_and_stay),
      cmocka_unit_test(other_numbers_are_no_name),
      cmocka_unit_test(no_memory_is_no_failure),
  };
  return cmocka_run_group_tests_name("base.names", tests, NULL, NULL);
}
