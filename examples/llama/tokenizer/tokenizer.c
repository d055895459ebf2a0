#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/pretokenizer.h"
#include "tokenizer/tokenizer_merges.h"
#include "tokenizer/tokenizer_metadata.h"
#include "tokenizer/tokenizer_special.h"
#include "tokenizer/tokenizer_vocabulary.h"

enum { NUM_KEYS = 3, NUM_ENDS };

struct tokenizer {
  vocabulary tokens;
  merges merges;
  special_tokens special;
  pretokenizer *pretokenizer;
  int32_t begin, ends[NUM_ENDS];
};

/* ---- Lists of tokens ---- */

static bool tokens_reserve(tokens *self, size_t more) {
  if (more <= self->room - self->count) return true;
  size_t room = self->room < 64 ? 64 : self->room;
  while (room - self->count < more && room <= SIZE_MAX / 4) room *= 2;
  int32_t *ids = room - self->count < more ? NULL : realloc(self->ids, room * sizeof(*ids));
  if (ids == NULL) return refuse(DISCO_MEMORY, "no memory for %zu more tokens", more);
  self->ids = ids;
  self->room = room;
  return true;
}

bool tokens_append(tokens *self, int32_t id) {
  if (!tokens_reserve(self, 1)) return false;
  self->ids[self->count++] = id;
  return true;
}

void tokens_free(tokens *self) {
  free(self->ids);
  *self = (tokens){0};
}

/* ---- From the metadata ---- */

static bool check_model(const disco_weights *model) {
  json_t *name;
  if (!metadata_string(model, "tokenizer.ggml.model", &name)) return false;
  const bool good =
      strcmp(json_string_value(name), "gpt2") == 0 ||
      refuse(DISCO_VALUE, "tokenizer.ggml.model is \"%.100s\"; byte-level byte-pair encoding, \"gpt2\", is known",
             json_string_value(name));
  json_decref(name);
  return good;
}

static bool read_pretokenizer(tokenizer *self, const disco_weights *model) {
  json_t *name;
  if (!metadata_string(model, "tokenizer.ggml.pre", &name)) return false;
  self->pretokenizer = pretokenizer_create(json_string_value(name));
  json_decref(name);
  return self->pretokenizer != NULL;
}

static bool read_ids(tokenizer *self, const disco_weights *model) {
  static const char *const ends[NUM_KEYS] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                             "tokenizer.ggml.eom_token_id"};
  const int32_t count = self->tokens.count;
  bool adds_begin;
  for (int i = 0; i < NUM_KEYS; i++)
    if (!metadata_id(model, ends[i], count, &self->ends[i])) return false;
  self->ends[NUM_KEYS] = tokenizer_special(self, "<|endoftext|>"); /* chat models name the end of a message only */
  if (!metadata_id(model, "tokenizer.ggml.bos_token_id", count, &self->begin)) return false;
  if (!metadata_flag(model, "tokenizer.ggml.add_bos_token", &adds_begin)) return false;
  if (!adds_begin) self->begin = -1;
  return true;
}

tokenizer *tokenizer_create(const disco_weights *model) {
  tokenizer *self = calloc(1, sizeof(*self));
  if (self == NULL) {
    (void)refuse(DISCO_MEMORY, "no memory for the tokeniser");
    return NULL;
  }
  if (check_model(model) && read_pretokenizer(self, model) && vocabulary_init(&self->tokens, model) &&
      merges_init(&self->merges, &self->tokens, model) && special_init(&self->special, &self->tokens) &&
      read_ids(self, model))
    return self;
  tokenizer_destroy(self);
  return NULL;
}

void tokenizer_destroy(tokenizer *self) {
  if (self == NULL) return;
  pretokenizer_destroy(self->pretokenizer);
  special_fini(&self->special);
  merges_fini(&self->merges);
  vocabulary_fini(&self->tokens);
  free(self);
}

/* ---- Encoding ---- */

/* One call of tokenizer_encode(). */
typedef struct {
  const tokenizer *tokenizer;
  const char *text; /* all of it, to say where something is */
  tokens *to;
  merge_scratch scratch;
} encoding;

/* The tokens of its bytes, one each. */
static bool append_bytes(encoding *self, const char *from, size_t bytes) {
  if (!tokens_reserve(self->to, bytes)) return false;
  int32_t *to = self->to->ids + self->to->count;
  for (size_t i = 0; i < bytes; i++) {
    to[i] = self->tokenizer->tokens.of_byte[(unsigned char)from[i]];
    if (to[i] < 0)
      return refuse(DISCO_VALUE,
                    "the vocabulary of the model has no token for the byte 0x%02x, which is at byte %zu of the text",
                    (unsigned)(unsigned char)from[i], (size_t)(from - self->text) + i);
  }
  self->to->count += bytes;
  return true;
}

static bool append_word(void *context, const char *word, size_t bytes) {
  encoding *self = context;
  const tokenizer *from = self->tokenizer;
  if (pretokenizer_prefers_whole_words(from->pretokenizer)) {
    const int32_t id = vocabulary_find_bytes(&from->tokens, (span){word, bytes});
    if (id >= 0) return tokens_append(self->to, id);
  }
  const size_t begin = self->to->count;
  size_t left;
  if (!append_bytes(self, word, bytes)) return false;
  if (!merges_apply(&from->merges, &self->scratch, self->to->ids + begin, bytes, &left)) return false;
  self->to->count = begin + left;
  return true;
}

/* How many bytes the character has that `text` begins with; 0 when it is no UTF-8. */
static size_t character_bytes(const unsigned char *text, size_t bytes) {
  static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (text[0] < 0x80) return 1;
  const size_t count = text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;
  if (count == 0 || count > bytes) return 0;
  uint32_t character = text[0] & (0x7fu >> count);
  for (size_t i = 1; i < count; i++) {
    if ((text[i] & 0xc0) != 0x80) return 0;
    character = character << 6 | (text[i] & 0x3fu);
  }
  const bool is_surrogate = character >= 0xd800 && character < 0xe000;
  return character < smallest[count] || character > 0x10ffff || is_surrogate ? 0 : count;
}

/* How many bytes from the beginning are UTF-8. */
static size_t valid_bytes(const char *text, size_t bytes) {
  size_t at = 0;
  for (size_t count; at < bytes; at += count)
    if ((count = character_bytes((const unsigned char *)text + at, bytes - at)) == 0) break;
  return at;
}

/* Text without special tokens. */
static bool append_text(encoding *self, const char *text, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    const size_t valid = valid_bytes(text + at, bytes - at);
    if (valid > 0 && !pretokenizer_split(self->tokenizer->pretokenizer, text + at, valid, append_word, self))
      return false;
    at += valid;
    if (at < bytes && !append_bytes(self, text + at++, 1)) return false;
  }
  return true;
}

static bool append_all(encoding *self, size_t bytes, bool with_special) {
  for (size_t from = 0, at = bytes; from < bytes;) {
    const int32_t id = with_special ? special_find(&self->tokenizer->special, self->text, bytes, from, &at) : -1;
    if (!append_text(self, self->text + from, at - from)) return false;
    if (id < 0) break;
    if (!tokens_append(self->to, id)) return false;
    from = at + vocabulary_text(&self->tokenizer->tokens, id).bytes;
  }
  return true;
}

bool tokenizer_encode(const tokenizer *self, const char *text, size_t bytes, bool with_special, tokens *to) {
  encoding run = {.tokenizer = self, .text = text, .to = to};
  const size_t before = to->count;
  const bool good = append_all(&run, bytes, with_special);
  if (!good) to->count = before;
  merge_scratch_free(&run.scratch);
  return good;
}

/* ---- Single tokens ---- */

const char *tokenizer_bytes(const tokenizer *self, int32_t id, size_t *ret_bytes) {
  if (id < 0 || id >= self->tokens.count) return NULL;
  const span bytes = vocabulary_bytes(&self->tokens, id);
  *ret_bytes = bytes.bytes;
  return bytes.text;
}

int32_t tokenizer_size(const tokenizer *self) { return self->tokens.count; }

bool tokenizer_is_special(const tokenizer *self, int32_t id) {
  return id >= 0 && id < self->tokens.count && vocabulary_is_special(&self->tokens, id);
}

int32_t tokenizer_special(const tokenizer *self, const char *text) {
  const int32_t id = vocabulary_find(&self->tokens, (span){text, strlen(text)});
  return tokenizer_is_special(self, id) ? id : -1;
}

int32_t tokenizer_begin(const tokenizer *self) { return self->begin; }

bool tokenizer_is_end(const tokenizer *self, int32_t id) {
  for (int i = 0; i < NUM_ENDS; i++)
    if (id >= 0 && id == self->ends[i]) return true;
  return false;
}
