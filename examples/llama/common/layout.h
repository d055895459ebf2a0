/* Who has which part of a Llama: tensor parallelism over heads, feed-forward columns and the vocabulary.
 *
 * Every worker has whole key-value heads with the query heads they serve, a run of feed-forward columns, and a run of
 * the vocabulary (rows of the embeddings and of the output matrix); norms are everybody's. Then a layer needs two
 * allreduces, one after the attention and one after the feed-forward [Shoeybi et al., Megatron-LM, 2019]. */
#ifndef LLAMA_LAYOUT_H
#define LLAMA_LAYOUT_H

#include "common/dims.h"

/* Can `workers` share the model? If not, the sentence says why and which numbers can. */
bool layout_check(const dims *d, int32_t workers);

/* The shard plan (disco/weights.h) that cuts a model so: JSON, of the caller. is_decoded: weights as float32, else as
 * stored. NULL: no memory. */
char *layout_plan(const dims *d, bool is_decoded);

#endif
