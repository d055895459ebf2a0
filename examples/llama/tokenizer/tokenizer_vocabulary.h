/* The tokens of a model: how they are written in its file, the bytes they stand for, and which of them are special.
 *
 * A byte-level vocabulary writes bytes as characters: printable ones of Latin-1 as they are, the others as U+0100 and
 * following ("Ġ" is the blank). Special tokens are written as they are. */
#ifndef LLAMA_TOKENIZER_VOCABULARY_H
#define LLAMA_TOKENIZER_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/failure.h"
#include "disco/weights.h"

typedef struct {
  const char *text;
  size_t bytes;
} span;

typedef struct {
  int32_t count;
  uint8_t *types;       /* of GGUF: 1 normal, 3 control, 4 user-defined, ... */
  char *texts, *bytes;  /* all tokens, one behind the other: as they are written, and what they stand for */
  size_t *text_ends;    /* where token i begins, and i + 1, where it ends */
  size_t *byte_ends;    /* the same of bytes */
  uint64_t *slots;      /* hash table of the texts: half a hash, and an id + 1 */
  size_t num_slots;     /* a power of two */
  int32_t of_byte[256]; /* -1: the vocabulary does not have it */
} vocabulary;

/* Tokens and their types from the metadata; zero when that fails. */
bool vocabulary_init(vocabulary *self, const disco_weights *model);
void vocabulary_fini(vocabulary *self); /* {0} allowed */

span vocabulary_text(const vocabulary *self, int32_t id);
span vocabulary_bytes(const vocabulary *self, int32_t id);
bool vocabulary_is_special(const vocabulary *self, int32_t id); /* control or user-defined */

/* The token that is written so, -1 when there is none. */
int32_t vocabulary_find(const vocabulary *self, span text);
/* The same for text that no user meant to be a control token: those are never found. */
int32_t vocabulary_find_plain(const vocabulary *self, span text);
/* The token that stands for these bytes, no control token; -1 when there is none. */
int32_t vocabulary_find_bytes(const vocabulary *self, span bytes);

#endif
