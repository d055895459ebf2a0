/* disco_describe(): headings with lines `name: value`, each name once, everything named that the library reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/inject.h"
#include "base/settings.h"
#include "disco/disco.h"

static int forget(void **state) {
  (void)state;
  for (int i = 0; i < DSC_NUM_SETTINGS; i++) unsetenv(dsc_setting_row((dsc_setting_id)i)->name);
  return 0;
}

/* The value of `name` under [section], in static memory; NULL for none. */
static const char *value_of(const char *text, const char *section, const char *name) {
  static char value[4096], heading[64], start[256];
  snprintf(heading, sizeof(heading), "[%s]\n", section);
  snprintf(start, sizeof(start), "\n%s: ", name);
  const char *from = strstr(text, heading);
  if (from == NULL) return NULL;
  const char *end = strstr(from, "\n\n"), *line = strstr(from, start);
  if (line == NULL || (end != NULL && line > end)) return NULL;
  line += strlen(start);
  snprintf(value, sizeof(value), "%.*s", (int)strcspn(line, "\n"), line);
  return value;
}

static char *described(void) {
  char *text = NULL;
  assert_int_equal(disco_describe(&text), DISCO_OK);
  assert_non_null(text);
  return text;
}

static void sections_and_lines(void **state) {
  (void)state;
  static const char *const sections[] = {"version",     "machine",          "limits", "settings",
                                         "data planes", "global functions", "paths"};
  char *text = described(), *rest = text, *line, seen[16384] = "";
  size_t count = 0;
  while ((line = strsep(&rest, "\n")) != NULL) {
    if (line[0] == 0) continue;
    if (line[0] == '[') {
      assert_true(count < sizeof(sections) / sizeof(sections[0]));
      assert_int_equal(strncmp(line + 1, sections[count], strlen(sections[count])), 0);
      count++;
      seen[0] = 0;
      strcat(seen, "\n");
      continue;
    }
    char *colon = strstr(line, ": "), name[300];
    assert_non_null(colon);
    assert_true(colon[2] != 0);
    snprintf(name, sizeof(name), "\n%.*s\n", (int)(colon - line), line);
    assert_null(strstr(seen, name)); /* a JSON object has each name once */
    strcat(seen, name + 1);
  }
  assert_int_equal(count, sizeof(sections) / sizeof(sections[0]));
  disco_text_free(text);
}

static void versions_and_machine(void **state) {
  (void)state;
  char *text = described();
  assert_string_equal(value_of(text, "version", "libdisco"), disco_version());
  assert_int_equal(value_of(text, "version", "library")[0], '/');
  assert_true(atoi(value_of(text, "machine", "CPUs used by libdisco")) >= 1);
  assert_true(atoi(value_of(text, "machine", "CPUs online")) >= 1);
  assert_string_equal(value_of(text, "limits", "workers of a session"), "1024");
  assert_string_equal(value_of(text, "limits", "string or bytes argument"), "256 MiB (268435456 bytes)");
  assert_string_equal(value_of(text, "limits", "frame of a channel"), "64 GiB (68719476736 bytes)");
  disco_text_free(text);
}

static void settings_with_their_origin(void **state) {
  (void)state;
  char expected[128];
  setenv("DISCO_TRANSPORT", "pipe", 1);
  setenv("DISCO_WORKER", "a\nb: c", 1); /* must not make a line of its own */
  char *text = described();
  assert_string_equal(value_of(text, "settings", "DISCO_TRANSPORT"), "pipe (environment)");
  assert_string_equal(value_of(text, "settings", "DISCO_WORKER"), "a?b: c (environment)");
  assert_string_equal(value_of(text, "paths", "program of worker processes"), "a?b: c");
  assert_string_equal(value_of(text, "settings", "DISCO_LOG"), "off (default)");
  for (int i = 0; i < DSC_NUM_SETTINGS; i++)
    assert_non_null(value_of(text, "settings", dsc_setting_row((dsc_setting_id)i)->name));
#define CHECK_OPTION(name, field, value, unit)                          \
  snprintf(expected, sizeof(expected), "%d %s (default)", value, unit); \
  assert_string_equal(value_of(text, "settings", "option " #field), expected);
  DSC_OPTION_LIST(CHECK_OPTION)
#undef CHECK_OPTION
  disco_text_free(text);
}

static void failures_are_told(void **state) {
  (void)state;
  assert_int_equal(disco_describe(NULL), DISCO_VALUE);
  int failed = 0;
  for (long n = 1; n < 50; n++) {
    char *text = NULL;
    dsc_inject_fail_allocation(n);
    disco_status status = disco_describe(&text);
    dsc_inject_fail_allocation(0);
    assert_int_equal(status, text != NULL ? DISCO_OK : DISCO_MEMORY);
    if (text == NULL) failed++;
    disco_text_free(text);
  }
  assert_in_range(failed, 2, 48); /* the paths at least; then it succeeds */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(sections_and_lines, forget, forget),
      cmocka_unit_test_setup_teardown(versions_and_machine, forget, forget),
      cmocka_unit_test_setup_teardown(settings_with_their_origin, forget, forget),
      cmocka_unit_test_setup_teardown(failures_are_told, forget, forget),
  };
  return cmocka_run_group_tests_name("api.describe", tests, NULL, NULL);
}
