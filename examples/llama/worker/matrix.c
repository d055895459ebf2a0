#include "worker/matrix.h"
#include "worker/matrix_kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A row of the file's blocks: half-precision scale (and minimum), then numbers. */
enum { STORED_Q4_1 = 20, STORED_Q8_0 = 34 };

static int64_t groups_of(int64_t rows) { return (rows + MATRIX_GROUP - 1) / MATRIX_GROUP; }

static int64_t group_bytes(matrix_kind kind, int64_t columns) {
  int64_t blocks = columns / MATRIX_BLOCK;
  switch (kind) {
  case MATRIX_F32: return columns * MATRIX_GROUP * (int64_t)sizeof(float);
  case MATRIX_Q4_1: return blocks * Q4_1_BYTES;
  case MATRIX_Q8_0: return q8_0_scales(blocks) + blocks * Q8_0_NUMBERS;
  }
  return 0;
}

size_t matrix_bytes(matrix_kind kind, int64_t rows, int64_t columns) {
  return (size_t)(groups_of(rows) * group_bytes(kind, columns));
}

/* ---- Packing: one row of a group ------------------------------------------------------------------------------- */

static void pack_f32(int64_t columns, const float *stored, float *group, int64_t row) {
  for (int64_t c = 0; c < columns; c++) group[c * MATRIX_GROUP + row] = stored[c];
}

/* `steps` times 4 bytes, from one behind the other to their places among the rows'. */
static void spread(int steps, const uint8_t *from, uint8_t *numbers, int64_t row) {
  for (int k = 0; k < steps; k++) memcpy(numbers + (k * MATRIX_GROUP + row) * 4, from + 4 * k, 4);
}

static void pack_q4_1(int64_t columns, const uint8_t *stored, uint8_t *group, int64_t row) {
  for (int64_t b = 0; b < columns / MATRIX_BLOCK; b++, stored += STORED_Q4_1, group += Q4_1_BYTES) {
    memcpy(group + 2 * row, stored, 2);
    memcpy(group + 2 * (MATRIX_GROUP + row), stored + 2, 2);
    spread(4, stored + 4, group + Q4_1_SCALES, row);
  }
}

static void pack_q8_0(int64_t columns, const uint8_t *stored, uint8_t *group, int64_t row) {
  int64_t blocks = columns / MATRIX_BLOCK;
  uint8_t *numbers = group + q8_0_scales(blocks);
  for (int64_t b = 0; b < blocks; b++, stored += STORED_Q8_0, group += Q8_0_SCALES, numbers += Q8_0_NUMBERS) {
    uint8_t shifted[MATRIX_BLOCK];
    for (int i = 0; i < MATRIX_BLOCK; i++) shifted[i] = stored[2 + i] ^ Q8_0_ZERO; /* adds it: -128 becomes 0 */
    memcpy(group + 2 * row, stored, 2);
    spread(8, shifted, numbers, row);
  }
}

matrix matrix_pack(matrix_kind kind, int64_t rows, int64_t columns, const void *stored, void *memory) {
  int64_t groups = groups_of(rows), step = group_bytes(kind, columns), blocks = columns / MATRIX_BLOCK;
  /* What fills up the last group, and the scales of Q8_0. */
  if (rows % MATRIX_GROUP != 0) memset((uint8_t *)memory + (groups - 1) * step, 0, (size_t)step);
  for (int64_t row = 0; row < rows; row++) {
    uint8_t *group = (uint8_t *)memory + row / MATRIX_GROUP * step;
    switch (kind) {
    case MATRIX_F32:
      pack_f32(columns, (const float *)stored + row * columns, (float *)(void *)group, row % MATRIX_GROUP);
      break;
    case MATRIX_Q4_1:
      pack_q4_1(columns, (const uint8_t *)stored + row * blocks * STORED_Q4_1, group, row % MATRIX_GROUP);
      break;
    case MATRIX_Q8_0:
      pack_q8_0(columns, (const uint8_t *)stored + row * blocks * STORED_Q8_0, group, row % MATRIX_GROUP);
      break;
    }
  }
  return (matrix){.kind = kind, .rows = rows, .columns = columns, .data = memory};
}

/* ---- One row --------------------------------------------------------------------------------------------------- */

static void row_q4_1(int64_t columns, const uint8_t *group, int64_t row, float *to) {
  for (int64_t b = 0; b < columns / MATRIX_BLOCK; b++, group += Q4_1_BYTES, to += MATRIX_BLOCK) {
    const uint16_t *scales = (const void *)group;
    float scale = half_to_float(scales[row]), minimum = half_to_float(scales[MATRIX_GROUP + row]);
    for (int i = 0; i < 16; i++) {
      uint8_t pair = group[Q4_1_SCALES + (i / 4 * MATRIX_GROUP + row) * 4 + i % 4];
      to[i] = scale * (float)(pair & 15) + minimum;
      to[16 + i] = scale * (float)(pair >> 4) + minimum;
    }
  }
}

static void row_q8_0(int64_t columns, const uint8_t *group, int64_t row, float *to) {
  int64_t blocks = columns / MATRIX_BLOCK;
  const uint16_t *scales = (const void *)group;
  const uint8_t *numbers = group + q8_0_scales(blocks);
  for (int64_t b = 0; b < blocks; b++, scales += MATRIX_GROUP, numbers += Q8_0_NUMBERS, to += MATRIX_BLOCK)
    for (int i = 0; i < MATRIX_BLOCK; i++)
      to[i] = half_to_float(scales[row]) * (float)(numbers[(i / 4 * MATRIX_GROUP + row) * 4 + i % 4] - Q8_0_ZERO);
}

void matrix_row(const matrix *self, int64_t row, float *to) {
  const uint8_t *group = (const uint8_t *)self->data + row / MATRIX_GROUP * group_bytes(self->kind, self->columns);
  row %= MATRIX_GROUP;
  switch (self->kind) {
  case MATRIX_F32:
    for (int64_t c = 0; c < self->columns; c++) to[c] = ((const float *)(const void *)group)[c * MATRIX_GROUP + row];
    break;
  case MATRIX_Q4_1: row_q4_1(self->columns, group, row, to); break;
  case MATRIX_Q8_0: row_q8_0(self->columns, group, row, to); break;
  }
}

/* ---- Kernels ---------------------------------------------------------------------------------------------------- */

static _Atomic(const kernels *) chosen;

const kernels *choose_kernels(const char *wanted) {
  const kernels *sets[] = {avx512_kernels(), avx2_kernels(), portable_kernels()};
  enum { SETS = sizeof(sets) / sizeof(*sets) };
  const kernels *best = NULL;
  for (int i = SETS - 1; i >= 0; i--) {
    if (sets[i]) best = sets[i];
    if (wanted && sets[i] && strcmp(sets[i]->name, wanted) == 0) break;
  }
  atomic_store_explicit(&chosen, best, memory_order_relaxed);
  return best;
}

static const kernels *the_kernels(void) {
  const kernels *self = atomic_load_explicit(&chosen, memory_order_relaxed);
  return self ? self : choose_kernels(getenv("LLAMA_KERNELS")); /* several threads may: they choose the same */
}

const char *matrix_kernels(void) { return the_kernels()->name; }

/* ---- Activations ------------------------------------------------------------------------------------------------ */

activations *activations_create(int64_t count, int64_t columns) {
  ptrdiff_t blocks, bytes;
  if (count < 0 || columns < 0 || __builtin_mul_overflow(count, columns / MATRIX_BLOCK, &blocks) ||
      __builtin_mul_overflow(blocks, sizeof(rounded_block), &bytes) || bytes == PTRDIFF_MAX)
    return NULL;
  activations *self = malloc(sizeof(*self));
  rounded_block *rounded = malloc((size_t)bytes + 1); /* malloc(0) may be NULL */
  if (!self || !rounded) {
    free(self);
    free(rounded);
    return NULL;
  }
  *self = (activations){.rounded = rounded};
  return self;
}

void activations_destroy(activations *self) {
  if (self) free(self->rounded);
  free(self);
}

void activations_set(activations *self, matrix_kind kind, int64_t count, int64_t columns, const float *x) {
  self->count = count;
  self->columns = columns;
  self->blocks = columns / MATRIX_BLOCK;
  self->x = x;
  if (kind != MATRIX_F32) the_kernels()->round(count * self->blocks, x, self->rounded);
}

/* ---- Multiplication --------------------------------------------------------------------------------------------- */

/* A group's weights are read from memory once: they stay in the nearest cache while all vectors pass. */
void matrix_multiply(const matrix *self, const activations *x, float *y, int64_t stride) {
  const kernels *set = the_kernels();
  int64_t step = group_bytes(self->kind, self->columns);
  const uint8_t *group = self->data;
  for (int64_t row = 0; row < self->rows; row += MATRIX_GROUP, group += step) {
    int64_t rows = self->rows - row < MATRIX_GROUP ? self->rows - row : MATRIX_GROUP;
    for (int64_t first = 0; first < x->count; first += set->tile) {
      float out[MATRIX_TILE * MATRIX_GROUP];
      int64_t count = x->count - first < set->tile ? x->count - first : set->tile;
      set->dot[self->kind](group, x, first, count, out);
      for (int64_t t = 0; t < count; t++)
        memcpy(y + (first + t) * stride + row, out + t * MATRIX_GROUP, (size_t)rows * sizeof(float));
    }
  }
}
