#include "tokenizer/tokenizer_vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer_metadata.h"

/* Of GGUF. */
enum { TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_USER_DEFINED = 4, TYPE_LAST = 6 };

/* MAX_PROBES: no text is further from where its hash points to; a vocabulary made so that all collide is refused.
 * MAX_WORD: longer words are not looked up as a whole. */
enum { NUM_BYTES = 256, NUM_SHIFTED = 68, MAX_PROBES = 256, MAX_WORD = 256 };

static const char tokens_key[] = "tokenizer.ggml.tokens", types_key[] = "tokenizer.ggml.token_type";

/* ---- Bytes as characters ---- */

static bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The character that a byte is written as. */
static void write_alphabet(uint16_t ret_alphabet[NUM_BYTES]) {
  uint16_t next = NUM_BYTES;
  for (int byte = 0; byte < NUM_BYTES; byte++) ret_alphabet[byte] = stands_for_itself(byte) ? (uint16_t)byte : next++;
}

/* How it is written: one or two bytes of UTF-8. */
static size_t write_character(uint16_t character, char *to) {
  if (character < 0x80) {
    to[0] = (char)character;
    return 1;
  }
  to[0] = (char)(0xc0 | character >> 6);
  to[1] = (char)(0x80 | (character & 0x3f));
  return 2;
}

/* The way back: -1 for characters that no byte is written as. */
static void write_inverse(int16_t ret_inverse[NUM_BYTES + NUM_SHIFTED]) {
  uint16_t alphabet[NUM_BYTES];
  write_alphabet(alphabet);
  for (int i = 0; i < NUM_BYTES + NUM_SHIFTED; i++) ret_inverse[i] = -1;
  for (int byte = 0; byte < NUM_BYTES; byte++) ret_inverse[alphabet[byte]] = (int16_t)byte;
}

/* What a token stands for; the text as it is when a character in it stands for no byte. Never longer than the text. */
static size_t decode(const int16_t *inverse, span from, char *to) {
  size_t written = 0;
  for (size_t i = 0; i < from.bytes;) {
    const unsigned char *at = (const unsigned char *)from.text + i;
    const bool is_pair = at[0] >= 0xc0 && at[0] < 0xe0 && i + 1 < from.bytes;
    const uint32_t character = is_pair ? (at[0] & 0x1fu) << 6 | (at[1] & 0x3fu) : at[0];
    const bool is_known = (is_pair || at[0] < 0x80) && character < NUM_BYTES + NUM_SHIFTED && inverse[character] >= 0;
    if (!is_known) {
      if (from.bytes > 0) memcpy(to, from.text, from.bytes);
      return from.bytes;
    }
    to[written++] = (char)inverse[character];
    i += is_pair ? 2 : 1;
  }
  return written;
}

/* ---- The table of texts ---- */

static uint64_t mixed(uint64_t bits) {
  bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
  return bits ^ bits >> 31;
}

static uint64_t hash_of(span text) {
  uint64_t hash = 0x9e3779b97f4a7c15 ^ text.bytes, word;
  size_t i = 0;
  for (; i + sizeof(word) <= text.bytes; i += sizeof(word)) {
    memcpy(&word, text.text + i, sizeof(word));
    hash = mixed(hash ^ word);
  }
  word = 0;
  if (i < text.bytes) memcpy(&word, text.text + i, text.bytes - i);
  return mixed(hash ^ word);
}

static bool same(span a, span b) { return a.bytes == b.bytes && memcmp(a.text, b.text, a.bytes) == 0; }

/* The slot of a text, or the free one where it belongs; NULL when there is none near enough. */
static uint64_t *slot_of(const vocabulary *self, span text, uint64_t hash) {
  for (size_t probe = 0; probe < MAX_PROBES; probe++) {
    uint64_t *slot = &self->slots[(hash + probe) & (self->num_slots - 1)];
    if (*slot == 0) return slot;
    if (*slot >> 32 == hash >> 32 && same(vocabulary_text(self, (int32_t)((uint32_t)*slot - 1)), text)) return slot;
  }
  return NULL;
}

static bool insert(vocabulary *self, int32_t id) {
  const span text = vocabulary_text(self, id);
  const uint64_t hash = hash_of(text);
  uint64_t *slot = slot_of(self, text, hash);
  if (slot == NULL)
    return refuse(DISCO_VALUE, "%s[%d] of the model: its hash is that of too many others", tokens_key, (int)id);
  if (*slot != 0)
    return refuse(DISCO_VALUE, "%s[%d] of the model is the same as [%d]: \"%.*s\"", tokens_key, (int)id,
                  (int)((uint32_t)*slot - 1), (int)(text.bytes < 100 ? text.bytes : 100), text.text);
  *slot = hash >> 32 << 32 | ((uint32_t)id + 1);
  return true;
}

int32_t vocabulary_find(const vocabulary *self, span text) {
  const uint64_t *slot = slot_of(self, text, hash_of(text));
  return slot != NULL && *slot != 0 ? (int32_t)((uint32_t)*slot - 1) : -1;
}

int32_t vocabulary_find_plain(const vocabulary *self, span text) {
  const int32_t id = vocabulary_find(self, text);
  return id >= 0 && self->types[id] != TYPE_CONTROL ? id : -1;
}

int32_t vocabulary_find_bytes(const vocabulary *self, span bytes) {
  uint16_t alphabet[NUM_BYTES];
  char text[2 * MAX_WORD];
  if (bytes.bytes > MAX_WORD) return -1;
  write_alphabet(alphabet);
  size_t written = 0;
  for (size_t i = 0; i < bytes.bytes; i++)
    written += write_character(alphabet[(unsigned char)bytes.text[i]], text + written);
  return vocabulary_find_plain(self, (span){text, written});
}

/* ---- From the metadata ---- */

span vocabulary_text(const vocabulary *self, int32_t id) {
  return (span){self->texts + self->text_ends[id], self->text_ends[id + 1] - self->text_ends[id]};
}

span vocabulary_bytes(const vocabulary *self, int32_t id) {
  return (span){self->bytes + self->byte_ends[id], self->byte_ends[id + 1] - self->byte_ends[id]};
}

bool vocabulary_is_special(const vocabulary *self, int32_t id) {
  return self->types[id] == TYPE_CONTROL || self->types[id] == TYPE_USER_DEFINED;
}

static bool make_room(vocabulary *self, const json_t *list) {
  const size_t count = json_array_size(list);
  if (count == 0) return refuse(DISCO_VALUE, "%s of the model is empty", tokens_key);
  if (count >= INT32_MAX) return refuse(DISCO_VALUE, "%s of the model has %zu tokens, too many", tokens_key, count);
  size_t all = 0, i;
  const json_t *text;
  json_array_foreach(list, i, text) all += json_string_length(text);
  self->count = (int32_t)count;
  for (self->num_slots = 2; self->num_slots < 2 * count;) self->num_slots *= 2;
  self->types = malloc(count);
  self->texts = malloc(all + 1);
  self->bytes = malloc(all + 1);
  self->text_ends = calloc(count + 1, sizeof(*self->text_ends));
  self->byte_ends = calloc(count + 1, sizeof(*self->byte_ends));
  self->slots = calloc(self->num_slots, sizeof(*self->slots));
  if (self->types == NULL || self->texts == NULL || self->bytes == NULL || self->text_ends == NULL ||
      self->byte_ends == NULL || self->slots == NULL)
    return refuse(DISCO_MEMORY, "no memory for the %zu tokens of the model", count);
  return true;
}

/* Types first: they say how a token is written. Without a list of them all are normal. */
static bool read_types(vocabulary *self, const disco_weights *model) {
  memset(self->types, TYPE_NORMAL, (size_t)self->count);
  if (disco_weights_metadata(model, types_key) == NULL) return true;
  json_t *list;
  if (!metadata_list(model, types_key, JSON_INTEGER, &list)) return false;
  bool good = true;
  if (json_array_size(list) != (size_t)self->count)
    good = refuse(DISCO_VALUE, "%s of the model has %zu elements, %s has %d", types_key, json_array_size(list),
                  tokens_key, (int)self->count);
  for (size_t i = 0; good && i < (size_t)self->count; i++) {
    const json_int_t type = json_integer_value(json_array_get(list, i));
    if (type < 0 || type > TYPE_LAST)
      good = refuse(DISCO_VALUE, "%s[%zu] of the model is %lld; there are types 0 to %d", types_key, i, (long long)type,
                    TYPE_LAST);
    self->types[i] = (uint8_t)type;
  }
  json_decref(list);
  return good;
}

static bool read_tokens(vocabulary *self, const json_t *list) {
  int16_t inverse[NUM_BYTES + NUM_SHIFTED];
  write_inverse(inverse);
  for (int32_t id = 0; id < self->count; id++) {
    const json_t *element = json_array_get(list, (size_t)id);
    const span text = {json_string_value(element), json_string_length(element)};
    char *bytes = self->bytes + self->byte_ends[id];
    memcpy(self->texts + self->text_ends[id], text.text, text.bytes);
    self->text_ends[id + 1] = self->text_ends[id] + text.bytes;
    size_t written = text.bytes;
    if (vocabulary_is_special(self, id))
      memcpy(bytes, text.text, text.bytes);
    else
      written = decode(inverse, text, bytes);
    self->byte_ends[id + 1] = self->byte_ends[id] + written;
    if (!insert(self, id)) return false;
  }
  for (int byte = 0; byte < NUM_BYTES; byte++)
    self->of_byte[byte] = vocabulary_find_bytes(self, (span){&(char){(char)byte}, 1});
  return true;
}

bool vocabulary_init(vocabulary *self, const disco_weights *model) {
  *self = (vocabulary){0};
  json_t *list;
  if (!metadata_list(model, tokens_key, JSON_STRING, &list)) return false;
  const bool good = make_room(self, list) && read_types(self, model) && read_tokens(self, list);
  json_decref(list);
  if (!good) vocabulary_fini(self);
  return good;
}

void vocabulary_fini(vocabulary *self) {
  free(self->types);
  free(self->texts);
  free(self->bytes);
  free(self->text_ends);
  free(self->byte_ends);
  free(self->slots);
  *self = (vocabulary){0};
}
