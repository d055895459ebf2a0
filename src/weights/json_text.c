#include "weights/json_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void dsc_json_text_fini(dsc_json_text *text) {
  free(text->data);
  *text = (dsc_json_text){0};
}

void dsc_json_text_clear(dsc_json_text *text) { text->size = 0; }

static bool has_room(dsc_json_text *text, size_t more) {
  if (more <= text->capacity - text->size) return true;
  const size_t least = text->size + more, doubled = 2 * text->capacity;
  const size_t capacity = least < 256 ? 256 : least < doubled ? doubled : least;
  char *data = dsc_alloc(capacity, "metadata of a file of weights");
  if (data == NULL) return false;
  if (text->size > 0) memcpy(data, text->data, text->size);
  free(text->data);
  text->data = data;
  text->capacity = capacity;
  return true;
}

disco_status dsc_json_text_add(dsc_json_text *text, const char *characters, size_t count) {
  if (!has_room(text, count)) return DISCO_MEMORY;
  if (count > 0) memcpy(text->data + text->size, characters, count);
  text->size += count;
  return DISCO_OK;
}

disco_status dsc_json_text_end(dsc_json_text *text) {
  if (!has_room(text, 1)) return DISCO_MEMORY;
  text->data[text->size] = '\0';
  return DISCO_OK;
}

/* ---- Numbers ---- */

/* Digits of a number, written backwards before `end`; returns where they begin. */
static char *digits_before(char *end, uint64_t value) {
  do *--end = (char)('0' + value % 10);
  while ((value /= 10) != 0);
  return end;
}

disco_status dsc_json_text_unsigned(dsc_json_text *text, uint64_t value) {
  char digits[20], *end = digits + sizeof(digits), *begin = digits_before(end, value);
  return dsc_json_text_add(text, begin, (size_t)(end - begin));
}

disco_status dsc_json_text_signed(dsc_json_text *text, int64_t value) {
  char digits[21], *end = digits + sizeof(digits);
  char *begin = digits_before(end, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
  if (value < 0) *--begin = '-';
  return dsc_json_text_add(text, begin, (size_t)(end - begin));
}

disco_status dsc_json_text_printed(dsc_json_text *text, const char *printed) {
  char number[64];
  size_t size = 0;
  bool has_mark = false;
  for (const char *at = printed; *at != '\0' && size < sizeof(number) - 3; at++) {
    const bool is_point = strchr("0123456789+-e", *at) == NULL;
    if (is_point && size > 0 && number[size - 1] == '.') continue; /* of several bytes */
    has_mark = has_mark || is_point || *at == 'e';
    number[size++] = is_point ? '.' : *at;
  }
  if (!has_mark) {
    number[size++] = '.';
    number[size++] = '0';
  }
  return dsc_json_text_add(text, number, size);
}

static disco_status add_not_finite(dsc_json_text *text, double value) {
  const char *name = isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  return dsc_json_text_add(text, name, strlen(name));
}

/* Integers are what most tables of floats hold, and printf is slow. -0.0 is not one here. */
static bool is_small_integer(double value) {
  return value >= -0x1p24 && value <= 0x1p24 && value == (double)(int32_t)value && !(value == 0 && signbit(value));
}

static disco_status add_small_integer(dsc_json_text *text, double value) {
  disco_status status = dsc_json_text_signed(text, (int64_t)value);
  return status == DISCO_OK ? dsc_json_text_add(text, ".0", 2) : status;
}

disco_status dsc_json_text_float32(dsc_json_text *text, float value) {
  char printed[64];
  if (!isfinite(value)) return add_not_finite(text, (double)value);
  if (is_small_integer((double)value)) return add_small_integer(text, (double)value);
  for (int digits = 6; digits <= 9; digits++) {
    (void)snprintf(printed, sizeof(printed), "%.*g", digits, (double)value);
    if (strtof(printed, NULL) == value) break;
  }
  return dsc_json_text_printed(text, printed);
}

disco_status dsc_json_text_float64(dsc_json_text *text, double value) {
  char printed[64];
  if (!isfinite(value)) return add_not_finite(text, value);
  if (is_small_integer(value)) return add_small_integer(text, value);
  for (int digits = 15; digits <= 17; digits++) {
    (void)snprintf(printed, sizeof(printed), "%.*g", digits, value);
    if (strtod(printed, NULL) == value) break;
  }
  return dsc_json_text_printed(text, printed);
}

/* ---- Strings ---- */

size_t dsc_utf8_length(const uint8_t *bytes, size_t count, size_t *ret_broken) {
  const uint8_t lead = bytes[0];
  *ret_broken = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  /* Of the second byte: no longer forms than needed, no surrogates, nothing above U+10FFFF. */
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (count < 2 || bytes[1] < low || bytes[1] > high) return 0;
  for (size_t i = 2; i < length; i++) {
    *ret_broken = i;
    if (i >= count || (bytes[i] & 0xc0) != 0x80) return 0;
  }
  return length;
}

bool dsc_utf8_is_valid(const uint8_t *bytes, size_t count) {
  size_t broken;
  for (size_t i = 0; i < count;) {
    const size_t length = dsc_utf8_length(bytes + i, count - i, &broken);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

static bool is_plain(uint8_t byte) { return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\'; }

/* One character that does not stand for itself; *ret_taken bytes of it. */
static disco_status add_special(dsc_json_text *text, const uint8_t *bytes, size_t count, size_t *ret_taken) {
  static const char replacement[] = "\xef\xbf\xbd", from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
  size_t broken;
  const size_t length = dsc_utf8_length(bytes, count, &broken);
  *ret_taken = length > 0 ? length : broken;
  if (length == 0) return dsc_json_text_add(text, replacement, 3);
  if (length > 1) return dsc_json_text_add(text, (const char *)bytes, length);
  const char *found = memchr(from, bytes[0], sizeof(from) - 1);
  char escape[8];
  if (found != NULL)
    (void)snprintf(escape, sizeof(escape), "\\%c", to[found - from]);
  else
    (void)snprintf(escape, sizeof(escape), "\\u%04x", bytes[0]);
  return dsc_json_text_add(text, escape, strlen(escape));
}

disco_status dsc_json_text_string(dsc_json_text *text, const uint8_t *bytes, size_t count) {
  disco_status status = dsc_json_text_add(text, "\"", 1);
  for (size_t i = 0; status == DISCO_OK && i < count;) {
    size_t run = 0;
    while (i + run < count && is_plain(bytes[i + run])) run++;
    status = dsc_json_text_add(text, (const char *)bytes + i, run);
    i += run;
    if (status != DISCO_OK || i == count) break;
    status = add_special(text, bytes + i, count - i, &run);
    i += run;
  }
  return status == DISCO_OK ? dsc_json_text_add(text, "\"", 1) : status;
}
