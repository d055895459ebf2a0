/* JSON text: numbers that come back bit for bit, in any locale, and strings of whatever bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "base/inject.h"
#include "weights/json_text.h"

static dsc_json_text text;

static const char *done(disco_status status) {
  assert_int_equal(status, DISCO_OK);
  assert_int_equal(dsc_json_text_end(&text), DISCO_OK);
  dsc_json_text_clear(&text);
  return text.data;
}

static int clear(void **state) {
  (void)state;
  dsc_json_text_fini(&text);
  return 0;
}

static void integers(void **state) {
  (void)state;
  assert_string_equal(done(dsc_json_text_unsigned(&text, 0)), "0");
  assert_string_equal(done(dsc_json_text_unsigned(&text, 10)), "10");
  assert_string_equal(done(dsc_json_text_unsigned(&text, UINT64_MAX)), "18446744073709551615");
  assert_string_equal(done(dsc_json_text_signed(&text, -7)), "-7");
  assert_string_equal(done(dsc_json_text_signed(&text, INT64_MAX)), "9223372036854775807");
  assert_string_equal(done(dsc_json_text_signed(&text, INT64_MIN)), "-9223372036854775808");
}

static void floats(void **state) {
  (void)state;
  assert_string_equal(done(dsc_json_text_float32(&text, 0.1f)), "0.1");
  assert_string_equal(done(dsc_json_text_float32(&text, 1e-5f)), "1e-05");
  assert_string_equal(done(dsc_json_text_float32(&text, 500000)), "500000.0");
  assert_string_equal(done(dsc_json_text_float32(&text, -1)), "-1.0");
  assert_string_equal(done(dsc_json_text_float32(&text, 0x1p24f)), "16777216.0");
  assert_string_equal(done(dsc_json_text_float32(&text, 0)), "0.0");
  assert_string_equal(done(dsc_json_text_float32(&text, -0.0f)), "-0.0");
  assert_string_equal(done(dsc_json_text_float32(&text, 3.4028234663852886e38f)), "3.4028235e+38");
  assert_string_equal(done(dsc_json_text_float32(&text, 0x1p-149f)), "1.4013e-45");
  assert_string_equal(done(dsc_json_text_float64(&text, 0.1)), "0.1");
  assert_string_equal(done(dsc_json_text_float64(&text, 0.1 + 0.2)), "0.30000000000000004");
  assert_string_equal(done(dsc_json_text_float64(&text, 1e15)), "1e+15");
  assert_string_equal(done(dsc_json_text_float64(&text, 33554432)), "33554432.0");
  assert_string_equal(done(dsc_json_text_float64(&text, -0.0)), "-0.0");
  assert_string_equal(done(dsc_json_text_float32(&text, NAN)), "\"NaN\"");
  assert_string_equal(done(dsc_json_text_float32(&text, -INFINITY)), "\"-Infinity\"");
  assert_string_equal(done(dsc_json_text_float64(&text, INFINITY)), "\"Infinity\"");
  assert_string_equal(done(dsc_json_text_float64(&text, (double)-NAN)), "\"NaN\"");
}

static void numbers_come_back(void **state) {
  (void)state;
  uint64_t word = 1;
  for (int i = 0; i < 20000; i++) {
    float single;
    double number;
    word = word * 6364136223846793005u + 1442695040888963407u;
    const uint64_t bits = word ^ word >> 29;
    const uint32_t half = (uint32_t)bits;
    memcpy(&number, &bits, sizeof(number));
    memcpy(&single, &half, sizeof(single));
    if (isfinite(number)) assert_true(strtod(done(dsc_json_text_float64(&text, number)), NULL) == number);
    if (isfinite(single)) {
      const char *printed = done(dsc_json_text_float32(&text, single));
      assert_true(strtof(printed, NULL) == single);
      assert_true((float)strtod(printed, NULL) == single); /* as readers of JSON do it */
    }
  }
}

/* Points of other places: a comma, one of two bytes in UTF-8, and none. */
static void any_locale(void **state) {
  (void)state;
  assert_string_equal(done(dsc_json_text_printed(&text, "-0,25")), "-0.25");
  assert_string_equal(done(dsc_json_text_printed(&text, "1\xd9\xab"
                                                        "5e-09")),
                      "1.5e-09");
  assert_string_equal(done(dsc_json_text_printed(&text, "1e+30")), "1e+30");
  assert_string_equal(done(dsc_json_text_printed(&text, "-12")), "-12.0");
}

#define STRING(literal) done(dsc_json_text_string(&text, (const uint8_t *)(literal), sizeof(literal) - 1))
#define GONE "\xef\xbf\xbd"

static void strings(void **state) {
  (void)state;
  assert_string_equal(STRING(""), "\"\"");
  assert_string_equal(STRING("plain text"), "\"plain text\"");
  assert_string_equal(STRING("\"\\/"), "\"\\\"\\\\/\"");
  assert_string_equal(STRING("\b\f\n\r\t\x01\x1f\x7f"), "\"\\b\\f\\n\\r\\t\\u0001\\u001f\x7f\"");
  assert_string_equal(STRING("a\0b"), "\"a\\u0000b\"");
  assert_string_equal(STRING("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"");
  assert_string_equal(STRING("\xf4\x8f\xbf\xbf"), "\"\xf4\x8f\xbf\xbf\"");
}

/* The examples of the Unicode standard, chapter 3.9, and every way to be cut. */
static void broken_strings(void **state) {
  (void)state;
  assert_string_equal(STRING("\xff"), "\"" GONE "\"");
  assert_string_equal(STRING("\x80z"), "\"" GONE "z\"");
  assert_string_equal(STRING("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"),
                      "\"" GONE GONE GONE GONE GONE GONE GONE GONE "\x41\"");
  assert_string_equal(STRING("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"),
                      "\"" GONE GONE GONE GONE GONE GONE GONE GONE "\x41\"");
  assert_string_equal(STRING("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"),
                      "\"" GONE GONE GONE GONE GONE "\x41" GONE GONE "\x42\"");
  assert_string_equal(STRING("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), "\"" GONE GONE GONE GONE "\x41\"");
  assert_string_equal(STRING("\xc3"), "\"" GONE "\"");
  assert_string_equal(STRING("\xe2\x82"), "\"" GONE "\"");
  assert_string_equal(STRING("\xf0\x9f\x98"), "\"" GONE "\"");
  assert_string_equal(STRING("\xf5\x80"), "\"" GONE GONE "\"");
}

static void validity(void **state) {
  (void)state;
  assert_true(dsc_utf8_is_valid((const uint8_t *)"", 0));
  assert_true(dsc_utf8_is_valid((const uint8_t *)"a\xc3\xa9", 3));
  assert_false(dsc_utf8_is_valid((const uint8_t *)"a\xc3\xa9", 2));
  assert_false(dsc_utf8_is_valid((const uint8_t *)"\xed\xa0\x80", 3));
}

/* No memory at any point: an error, and what was allocated is freed. */
static void without_memory(void **state) {
  (void)state;
  uint8_t bytes[3000];
  memset(bytes, 0xff, sizeof(bytes));
  bool failed = true;
  long steps = 0;
  for (; failed; steps++) {
    dsc_json_text_fini(&text);
    (void)dsc_inject_fail_allocation(steps + 1);
    const disco_status status = dsc_json_text_string(&text, bytes, sizeof(bytes));
    (void)dsc_inject_fail_allocation(0);
    failed = status != DISCO_OK;
    if (failed) assert_int_equal(status, DISCO_MEMORY);
  }
  assert_true(steps > 3);
  assert_int_equal(text.size, 3 * sizeof(bytes) + 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(integers, clear),          cmocka_unit_test_teardown(floats, clear),
      cmocka_unit_test_teardown(numbers_come_back, clear), cmocka_unit_test_teardown(any_locale, clear),
      cmocka_unit_test_teardown(strings, clear),           cmocka_unit_test_teardown(broken_strings, clear),
      cmocka_unit_test_teardown(validity, clear),          cmocka_unit_test_teardown(without_memory, clear),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
