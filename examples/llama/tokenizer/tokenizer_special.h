/* Special tokens written out in a text: where the next one is. */
#ifndef LLAMA_TOKENIZER_SPECIAL_H
#define LLAMA_TOKENIZER_SPECIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/failure.h"
#include "tokenizer/tokenizer_vocabulary.h"

typedef struct {
  const vocabulary *tokens;
  int32_t *ids; /* in the order of their bytes: those that begin alike are neighbours */
  size_t count;
  size_t first[257]; /* where those begin whose first byte is b, and b + 1, where they end */
} special_tokens;

/* `tokens` must live as long. Zero when that fails. */
bool special_init(special_tokens *self, const vocabulary *tokens);
void special_fini(special_tokens *self); /* {0} allowed */

/* The first place at or behind `from` where a special token is written, the longest of those that are written there;
 * -1 and the end of the text when there is none. */
int32_t special_find(const special_tokens *self, const char *text, size_t bytes, size_t from, size_t *ret_at);

#endif
