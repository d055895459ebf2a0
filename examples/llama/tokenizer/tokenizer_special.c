#include "tokenizer/tokenizer_special.h"

#include <stdlib.h>
#include <string.h>

/* So that a text is searched in time proportional to it. */
enum { MAX_SPECIAL_BYTES = 512 };

typedef struct {
  span text;
  int32_t id;
} entry;

static int compare(const void *a, const void *b) {
  const entry *left = a, *right = b;
  const size_t shorter = left->text.bytes < right->text.bytes ? left->text.bytes : right->text.bytes;
  const int order = memcmp(left->text.text, right->text.text, shorter);
  if (order != 0) return order;
  return (left->text.bytes > right->text.bytes) - (left->text.bytes < right->text.bytes);
}

static bool collect(const vocabulary *tokens, entry *to) {
  for (int32_t id = 0; id < tokens->count; id++) {
    if (!vocabulary_is_special(tokens, id)) continue;
    *to = (entry){vocabulary_text(tokens, id), id};
    if (to->text.bytes == 0)
      return refuse(DISCO_VALUE, "tokenizer.ggml.tokens[%d] of the model is special, but empty", (int)id);
    if (to->text.bytes > MAX_SPECIAL_BYTES)
      return refuse(DISCO_VALUE, "tokenizer.ggml.tokens[%d] of the model is special and has %zu bytes; %d are allowed",
                    (int)id, to->text.bytes, MAX_SPECIAL_BYTES);
    to++;
  }
  return true;
}

static void fill(special_tokens *self, const entry *entries) {
  for (size_t i = 0; i < self->count; i++) {
    self->ids[i] = entries[i].id;
    self->first[(unsigned char)entries[i].text.text[0] + 1] = i + 1;
  }
  for (size_t byte = 1; byte <= 256; byte++)
    if (self->first[byte] == 0) self->first[byte] = self->first[byte - 1];
}

bool special_init(special_tokens *self, const vocabulary *tokens) {
  *self = (special_tokens){.tokens = tokens};
  for (int32_t id = 0; id < tokens->count; id++) self->count += vocabulary_is_special(tokens, id);
  if (self->count == 0) return true;
  entry *entries = calloc(self->count, sizeof(*entries));
  self->ids = calloc(self->count, sizeof(*self->ids));
  bool good = entries != NULL && self->ids != NULL;
  if (!good) (void)refuse(DISCO_MEMORY, "no memory for the %zu special tokens of the model", self->count);
  good = good && collect(tokens, entries);
  if (good) {
    qsort(entries, self->count, sizeof(*entries), compare);
    fill(self, entries);
  }
  free(entries);
  if (!good) special_fini(self);
  return good;
}

void special_fini(special_tokens *self) {
  free(self->ids);
  *self = (special_tokens){0};
}

/* The byte at `depth` of the i-th, -1 behind its end. */
static int byte_at(const special_tokens *self, size_t i, size_t depth) {
  const span text = vocabulary_text(self->tokens, self->ids[i]);
  return depth < text.bytes ? (unsigned char)text.text[depth] : -1;
}

/* The first of low to high - 1, alike up to `depth`, whose byte there is at least `byte`. */
static size_t lower_bound(const special_tokens *self, size_t low, size_t high, size_t depth, int byte) {
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (byte_at(self, middle, depth) < byte)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* The longest that `text` begins with, -1 when there is none: byte by byte fewer are left. */
static int32_t longest(const special_tokens *self, const char *text, size_t bytes) {
  size_t low = self->first[(unsigned char)text[0]], high = self->first[(unsigned char)text[0] + 1];
  int32_t found = -1;
  for (size_t depth = 1; low < high; depth++) {
    if (byte_at(self, low, depth) < 0) found = self->ids[low++]; /* ends here: the first of those alike */
    if (depth == bytes || low == high) break;
    low = lower_bound(self, low, high, depth, (unsigned char)text[depth]);
    high = lower_bound(self, low, high, depth, (unsigned char)text[depth] + 1);
  }
  return found;
}

int32_t special_find(const special_tokens *self, const char *text, size_t bytes, size_t from, size_t *ret_at) {
  for (size_t at = from; at < bytes && self->count > 0; at++) {
    if (self->first[(unsigned char)text[at]] == self->first[(unsigned char)text[at] + 1]) continue;
    const int32_t id = longest(self, text + at, bytes - at);
    if (id < 0) continue;
    *ret_at = at;
    return id;
  }
  *ret_at = bytes;
  return -1;
}
