/* JSON text put together from values of a file, for metadata. No locks; one thread at a time per object.
 *
 * Every function that adds gives DISCO_OK or DISCO_MEMORY. */
#ifndef DSC_WEIGHTS_JSON_TEXT_H
#define DSC_WEIGHTS_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  char *data;
  size_t size, capacity;
} dsc_json_text;

void dsc_json_text_fini(dsc_json_text *text); /* of a zeroed one, too */
void dsc_json_text_clear(dsc_json_text *text);

/* As it is: brackets and commas. */
disco_status dsc_json_text_add(dsc_json_text *text, const char *characters, size_t count);
disco_status dsc_json_text_unsigned(dsc_json_text *text, uint64_t value);
disco_status dsc_json_text_signed(dsc_json_text *text, int64_t value);
/* The fewest digits that give this number again, always with a point or an exponent; what is not finite as one of the
 * strings "NaN", "Infinity", "-Infinity". The locale does not matter. */
disco_status dsc_json_text_float32(dsc_json_text *text, float value);
disco_status dsc_json_text_float64(dsc_json_text *text, double value);
/* A finite number as printf wrote it: the point of whatever locale becomes ".", and without one comes ".0". */
disco_status dsc_json_text_printed(dsc_json_text *text, const char *printed);
/* In quotes. Each run of bytes that begins like UTF-8 but breaks off, and each byte that cannot begin it, becomes one
 * U+FFFD. */
disco_status dsc_json_text_string(dsc_json_text *text, const uint8_t *bytes, size_t count);
/* With a NUL behind it: a C string. */
disco_status dsc_json_text_end(dsc_json_text *text);

/* How many bytes the character at the front has, 0 when it is not UTF-8; *ret_broken is then how many bytes of it there
 * are. `count` > 0. */
size_t dsc_utf8_length(const uint8_t *bytes, size_t count, size_t *ret_broken);
bool dsc_utf8_is_valid(const uint8_t *bytes, size_t count);

#endif
