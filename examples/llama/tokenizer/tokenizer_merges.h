/* Byte-pair encoding proper: which pairs of tokens are joined, and in which order. */
#ifndef LLAMA_TOKENIZER_MERGES_H
#define LLAMA_TOKENIZER_MERGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/failure.h"
#include "disco/weights.h"
#include "tokenizer/tokenizer_vocabulary.h"

typedef struct {
  uint64_t pair; /* both ids */
  uint32_t rank; /* the place in the list of merges: the first goes first */
  int32_t id;    /* what they become */
} merge;

/* A hash table of pairs. */
typedef struct {
  merge *slots;
  size_t num_slots; /* a power of two */
} merges;

/* What joining a long word takes, kept from word to word: {0} to begin with. */
typedef struct {
  uint64_t *heap;
  uint32_t *before, *behind;
  size_t room;
} merge_scratch;

/* From the metadata; zero when that fails. */
bool merges_init(merges *self, const vocabulary *tokens, const disco_weights *model);
void merges_fini(merges *self); /* {0} allowed */

/* Join neighbours among `count` tokens, in place, until no pair of them is in the list. False: no memory, or more than
 * 2^31 tokens. Takes time in proportion to count * log(count). */
bool merges_apply(const merges *self, merge_scratch *scratch, int32_t *ids, size_t count, size_t *ret_count);
void merge_scratch_free(merge_scratch *self);

#endif
