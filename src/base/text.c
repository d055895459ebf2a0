#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dsc_text_add(dsc_text *text, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int need = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (need >= 0) {
    size_t total = text->size + (size_t)need + 1;
    if (total > text->capacity) {
      size_t capacity = total < 256 ? 256 : total * 2;
      char *data = realloc(text->data, capacity);
      if (data != NULL) {
        text->data = data;
        text->capacity = capacity;
      }
    }
    if (total <= text->capacity) { /* without memory the text stays as it was: a shorter message beats none */
      (void)vsnprintf(text->data + text->size, (size_t)need + 1, format, again);
      text->size += (size_t)need;
    }
  }
  va_end(again);
}

char *dsc_text_take(dsc_text *text) {
  char *data = text->data;
  *text = (dsc_text)DSC_TEXT_INIT;
  return data;
}

void dsc_text_fini(dsc_text *text) { free(dsc_text_take(text)); }

/* Levenshtein distance with two rows; names over 127 bytes are compared by their heads. */
static size_t edit_distance(const char *a, const char *b) {
  size_t n = strnlen(a, 127), m = strnlen(b, 127), row[128];
  for (size_t j = 0; j <= m; j++) row[j] = j;
  for (size_t i = 1; i <= n; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= m; j++) {
      size_t best = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      if (row[j] + 1 < best) best = row[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      row[j] = best;
    }
  }
  return row[m];
}

void dsc_nearest_init(dsc_nearest *nearest, const char *word) {
  memset(nearest, 0, sizeof(*nearest));
  nearest->word = word;
}

void dsc_nearest_offer(dsc_nearest *nearest, const char *candidate) {
  size_t distance = edit_distance(nearest->word, candidate);
  if (distance > strnlen(nearest->word, 127) / 3 + 1) return; /* further than that it is another name, not a slip */
  int at = nearest->count;
  while (at > 0 && nearest->distance[at - 1] > distance) at--;
  if (at == DSC_NEAREST_MAX) return;
  if (nearest->count < DSC_NEAREST_MAX) nearest->count++;
  for (int i = nearest->count - 1; i > at; i--) {
    nearest->distance[i] = nearest->distance[i - 1];
    memcpy(nearest->name[i], nearest->name[i - 1], sizeof(nearest->name[i]));
  }
  nearest->distance[at] = distance;
  (void)snprintf(nearest->name[at], sizeof(nearest->name[at]), "%s", candidate);
}

void dsc_nearest_print(const dsc_nearest *nearest, dsc_text *text) {
  for (int i = 0; i < nearest->count; i++)
    dsc_text_add(text, "%s`%s`", i == 0 ? "; did you mean " : ", ", nearest->name[i]);
  if (nearest->count > 0) dsc_text_add(text, "?");
}
