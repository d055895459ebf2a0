/* One worker's share of a Llama at work: its weights, the keys and values of the context, and the forward pass.
 *
 * All workers call the same functions with the same arguments; they meet in allreduces. Used by one thread. */
#ifndef LLAMA_DECODER_H
#define LLAMA_DECODER_H

#include "worker/part.h"

enum { DECODER_BATCH = 64 /* tokens that go through a layer at once */ };

typedef struct decoder decoder;

/* After each stage of a batch: the residual stream (count vectors of the model's width) of tokens position ...
 * position + count - 1. Stage 0: the embeddings; 2l + 1 and 2l + 2: behind the attention and the feed-forward of layer
 * l; 2 * layers + 1: behind the last norm. */
typedef void (*decoder_observer)(void *context, int32_t stage, int32_t position, int32_t count, const float *stream);

/* Takes `part` over, also when it fails (*part is empty then). capacity: most tokens of the context. */
bool decoder_create(model_part *part, int32_t capacity, decoder **ret_decoder);
void decoder_destroy(decoder *self); /* NULL allowed */

const model_part *decoder_part(const decoder *self);
int32_t decoder_capacity(const decoder *self);
int32_t decoder_position(const decoder *self);                                 /* tokens in the context */
void decoder_rewind(decoder *self, int32_t position);                          /* forget those from `position` on */
void decoder_observe(decoder *self, decoder_observer observer, void *context); /* NULL: nobody */

/* Append `count` (1 to DECODER_BATCH) tokens to the context and compute this worker's run of the logits of the last
 * one, or of all (is_scored): *ret_logits, rows of decoder_part()->rows elements, valid until the next call. False: a
 * token that there is not, no more room, or a collective failed (the context is as before). */
bool decoder_forward(decoder *self, const int32_t *tokens, int32_t count, bool is_scored, const float **ret_logits);

/* Seconds that each allreduce and allgather took since the last call of this, in order: their number, *ret_seconds
 * valid until the next forward pass. */
int64_t decoder_collectives(decoder *self, const float **ret_seconds);
/* An allgather that counts as a collective of the decoder: `bytes` of each worker, in order, to `all`. */
bool decoder_gather(decoder *self, const void *mine, int64_t bytes, void *all);

#endif
