/* Text to tokens and back: byte-level byte-pair encoding as GGUF metadata describe it (tokenizer.ggml.*).
 *
 * Text is cut into words by the model's pre-tokeniser, a list of regular expressions that the file only names
 * ("smollm", "llama-bpe", ...); in each word the pair of neighbours that comes first in the list of merges is joined
 * until none is left. Special tokens (control and user-defined ones) stand for themselves. */
#ifndef LLAMA_TOKENIZER_H
#define LLAMA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/failure.h"
#include "disco/weights.h"

typedef struct tokenizer tokenizer;

/* A growing list of tokens: {0} to begin with, tokens_free() at the end. */
typedef struct {
  int32_t *ids;
  size_t count, room;
} tokens;

bool tokens_append(tokens *self, int32_t id);
void tokens_free(tokens *self);

/* From the metadata of an open model, which may be closed afterwards. NULL: no byte-pair tokeniser is in it, its
 * pre-tokeniser is unknown (the sentence lists those that are known), its lists do not fit each other, no memory. Does
 * not change afterwards: any thread, several at once. */
tokenizer *tokenizer_create(const disco_weights *model);
void tokenizer_destroy(tokenizer *self); /* NULL allowed */

/* Append the tokens of `text`; no begin-of-sequence token is added. Bytes that are not UTF-8 are encoded as bytes.
 * Vocabularies may lack a token for bytes that their texts never had (SmolLM2's for 21 of them): such a byte is an
 * error that names it. with_special: special tokens written out in the text ("<|im_start|>") become that token, else
 * plain text. */
bool tokenizer_encode(const tokenizer *self, const char *text, size_t bytes, bool with_special, tokens *to);

/* The bytes of one token, which may be a part of a character; special tokens as they are written. NULL: there is no
 * such token. Lives as long as the tokeniser. */
const char *tokenizer_bytes(const tokenizer *self, int32_t id, size_t *ret_bytes);

int32_t tokenizer_size(const tokenizer *self);
bool tokenizer_is_special(const tokenizer *self, int32_t id);
/* The special token that is written so, -1 when there is none. */
int32_t tokenizer_special(const tokenizer *self, const char *text);

/* What the metadata say; -1 for none. End of generation: eos, eot (tokenizer.ggml.eot_token_id), eom, and
 * <|endoftext|> if there is such a special token. */
int32_t
tokenizer_begin(const tokenizer *self); /* bos when tokenizer.ggml.add_bos_token says that one is added, else -1 */
bool tokenizer_is_end(const tokenizer *self, int32_t id);

#endif
