/* What the matrices' parts share: how packed weights and rounded activations lie in memory, and the functions that
 * multiply them, one set for each kind of processor.
 *
 * Packed rows come in groups of 16, the last one filled up with zeros, and every kernel multiplies a whole group: a
 * 32-bit lane of a vector belongs to one row, so no vector is ever summed across. A group of
 *   F32   is, for each column, the 16 rows' weights;
 *   Q4_1  is, for each block of 32 columns, the rows' 16 scales and 16 minima (half precision), then their 16 bytes of
 *         4-bit numbers in four steps: step k holds the rows' bytes 4k to 4k+3 (columns 4k.. low, 16+4k.. high);
 *   Q8_0  is the scales of all blocks (each block's 16 rows; filled up to 64 bytes), then for each block the rows' 32
 *         numbers, 128 added, in eight steps of 4 bytes a row.
 * The layout is the same for all processors. */
#ifndef LLAMA_MATRIX_KERNELS_H
#define LLAMA_MATRIX_KERNELS_H

#include "worker/matrix.h"

enum {
  MATRIX_GROUP = 16,
  MATRIX_KINDS = MATRIX_Q8_0 + 1,
  MATRIX_TILE = 8,  /* most vectors a kernel takes at once */
  Q4_1_SCALES = 64, /* bytes of a block of a group: its scales and minima, its numbers */
  Q4_1_NUMBERS = 256,
  Q4_1_BYTES = Q4_1_SCALES + Q4_1_NUMBERS,
  Q8_0_SCALES = 32,
  Q8_0_NUMBERS = 512,
  Q8_0_ZERO = 128, /* what is added to the numbers to make them unsigned */
};

/* A group's scales of Q8_0, in bytes. */
static inline int64_t q8_0_scales(int64_t blocks) { return (blocks + 1) / 2 * MATRIX_ALIGNMENT; }

/* A block of 32 activations, about scale * rounded each. */
typedef struct {
  int8_t rounded[MATRIX_BLOCK];
  float scale;
  float sum;      /* of scale * rounded: what a weight's minimum is multiplied with */
  int32_t offset; /* -Q8_0_ZERO times the sum of rounded: takes back what was added to the weights */
  int32_t unused;
} rounded_block;

struct activations {
  int64_t count, columns, blocks; /* blocks: of a vector */
  const float *x;                 /* the caller's */
  rounded_block *rounded;         /* for quantised kinds */
};

/* One set of kernels. Sums have one order, whatever the number of vectors. */
typedef struct {
  const char *name;
  int64_t tile; /* most vectors that one call of dot takes, at most MATRIX_TILE */
  /* Round `blocks` blocks, one behind the other. */
  void (*round)(int64_t blocks, const float *x, rounded_block *to);
  /* The group times `count` vectors from the `first` on: out[t * MATRIX_GROUP + row]. By kind. */
  void (*dot[MATRIX_KINDS])(const void *group, const activations *x, int64_t first, int64_t count, float *out);
} kernels;

const kernels *portable_kernels(void);
const kernels *avx2_kernels(void);   /* NULL: not this processor */
const kernels *avx512_kernels(void); /* NULL: not this processor */

/* Choose again: the best of this processor up to `wanted` (as LLAMA_KERNELS; NULL: no wish). For tests: nothing may be
 * multiplying. */
const kernels *choose_kernels(const char *wanted);

/* Half precision, as stored, to float: exact. */
float half_to_float(uint16_t half);

#endif
