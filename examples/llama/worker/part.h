/* One worker's part of a Llama's weights, read from the file and laid out for multiplication.
 *
 * The worker reads the bytes of its own slices and nothing else. Beside the part itself, loading takes memory for the
 * largest slice as it is stored. Does not change once it is loaded: any thread. */
#ifndef LLAMA_PART_H
#define LLAMA_PART_H

#include "common/dims.h"
#include "worker/matrix.h"

typedef enum {
  PRECISION_EXACT, /* everything as float32 */
  PRECISION_FAST,  /* what is stored as Q4_1 or Q8_0 stays so */
} precision;

typedef struct {
  matrix query, key, value, output, gate, up, down;
  const float *attention_norm, *feed_forward_norm;
} model_layer;

typedef struct {
  dims dims;
  int32_t worker, workers;
  int32_t heads, kv_heads, hidden; /* of this worker */
  int32_t first_row, rows;         /* of the vocabulary */
  matrix embedding, head;          /* of these rows; the same one when they are tied */
  model_layer *layers;
  const float *norm, *rope_factors; /* rope_factors: NULL for none */
  void *memory;                     /* what all of it lies in */
  size_t bytes;
  uint64_t file_bytes; /* read from the file */
} model_part;

/* How far it is; false ends the loading. */
typedef bool (*part_progress)(void *context, uint64_t bytes_read, uint64_t bytes);

/* Load the part of `worker` of `workers` (0-based). False: the model is no Llama, cannot be shared so, cannot be read,
 * or there is no memory. Free it with part_free(). */
bool part_load(const char *path, precision how, int32_t worker, int32_t workers, part_progress progress, void *context,
               model_part *ret_part);
void part_free(model_part *self);

#endif
