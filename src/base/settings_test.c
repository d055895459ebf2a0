/* Settings: the environment's value, else the default; nothing else is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/settings.h"

static int forget(void **state) {
  (void)state;
  for (int i = 0; i < DSC_NUM_SETTINGS; i++) unsetenv(dsc_setting_row((dsc_setting_id)i)->name);
  return 0;
}

static void defaults_without_an_environment(void **state) {
  (void)state;
  assert_string_equal(dsc_setting(DSC_SETTING_LOG), "off");
  assert_string_equal(dsc_setting(DSC_SETTING_FFI_GLOBALS), "1");
  assert_string_equal(dsc_setting(DSC_SETTING_WORKER), "");
  assert_string_equal(dsc_setting(DSC_SETTING_TRANSPORT), "auto");
  for (int i = 0; i < DSC_NUM_SETTINGS; i++) assert_false(dsc_setting_is_given((dsc_setting_id)i));
}

static void each_reads_its_own_variable(void **state) {
  (void)state;
  for (int i = 0; i < DSC_NUM_SETTINGS; i++) {
    forget(NULL);
    setenv(dsc_setting_row((dsc_setting_id)i)->name, "a value", 1);
    for (int k = 0; k < DSC_NUM_SETTINGS; k++) {
      const dsc_setting_entry *row = dsc_setting_row((dsc_setting_id)k);
      assert_int_equal(dsc_setting_is_given((dsc_setting_id)k), i == k);
      assert_string_equal(dsc_setting((dsc_setting_id)k), i == k ? "a value" : row->fallback);
    }
  }
}

static void the_newest_value_counts(void **state) {
  (void)state;
  setenv("DISCO_TRANSPORT", "pipe", 1);
  assert_string_equal(dsc_setting(DSC_SETTING_TRANSPORT), "pipe");
  setenv("DISCO_TRANSPORT", "auto", 1);
  assert_string_equal(dsc_setting(DSC_SETTING_TRANSPORT), "auto");
  assert_true(dsc_setting_is_given(DSC_SETTING_TRANSPORT)); /* though it equals the default */
}

static void empty_counts_as_unset(void **state) {
  (void)state;
  setenv("DISCO_LOG", "", 1);
  assert_false(dsc_setting_is_given(DSC_SETTING_LOG));
  assert_string_equal(dsc_setting(DSC_SETTING_LOG), "off");
}

static void rows_are_complete_and_apart(void **state) {
  (void)state;
  for (int i = 0; i < DSC_NUM_SETTINGS; i++) {
    const dsc_setting_entry *row = dsc_setting_row((dsc_setting_id)i);
    assert_true(strncmp(row->name, "DISCO_", 6) == 0 && row->name[6] != 0);
    assert_true(strlen(row->meaning) > 10);
    assert_null(strchr(row->meaning, '\n')); /* disco_describe() prints it in one line */
    for (int k = 0; k < i; k++) assert_string_not_equal(row->name, dsc_setting_row((dsc_setting_id)k)->name);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(defaults_without_an_environment, forget, forget),
      cmocka_unit_test_setup_teardown(each_reads_its_own_variable, forget, forget),
      cmocka_unit_test_setup_teardown(the_newest_value_counts, forget, forget),
      cmocka_unit_test_setup_teardown(empty_counts_as_unset, forget, forget),
      cmocka_unit_test(rows_are_complete_and_apart),
  };
  return cmocka_run_group_tests_name("base.settings", tests, NULL, NULL);
}
