/* The sizes of a Llama, as GGUF metadata have them, checked against each other and against the tensors of the file. */
#ifndef LLAMA_DIMS_H
#define LLAMA_DIMS_H

#include <stdint.h>

#include "common/failure.h"
#include "disco/weights.h"

typedef struct {
  int32_t layers;
  int32_t width;      /* of the residual stream */
  int32_t hidden;     /* columns of the feed-forward */
  int32_t heads;      /* of queries */
  int32_t kv_heads;   /* of keys and values: each serves heads / kv_heads query heads */
  int32_t head_width; /* elements of one head, even */
  int32_t
      head_unit; /* key-value heads whose query heads end with a block of attn_output's encoding; divides kv_heads */
  int32_t vocabulary;
  int32_t context; /* most tokens the model was made for */
  float epsilon;   /* of the RMS norms */
  float rope_base;
  bool is_tied;          /* the embeddings are the output matrix, too */
  bool has_rope_factors; /* tensor rope_freqs.weight */
} dims;

/* Another architecture, a key that is missing or out of range, a tensor that is missing, has another shape or does not
 * belong to a Llama: false, with a sentence that names it. Reads metadata only. */
bool dims_read(const disco_weights *model, dims *ret_dims);

#endif
