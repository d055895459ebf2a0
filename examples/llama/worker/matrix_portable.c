/* Kernels for any processor, in vectors of 16 bytes as the compiler translates them: 4 of a group's 16 rows. */
#include "worker/matrix_kernels.h"

#include <math.h>
#include <string.h>

typedef uint16_t words __attribute__((vector_size(16)));
typedef int16_t shorts __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));
typedef uint32_t uints __attribute__((vector_size(16)));
typedef float floats __attribute__((vector_size(16)));

enum { LANES = 4, QUARTERS = MATRIX_GROUP / LANES };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "columns are taken from words by their order");

/* Scaled by a power of two, denormals come out right by themselves; infinities and NaN do not. */
static inline floats load_halves(const uint16_t *from) {
  uints halves = {from[0], from[1], from[2], from[3]};
  floats magnitude = (floats)((halves & 0x7fff) << 13) * 0x1p112f;
  uints special = (uints)((halves & 0x7c00) == 0x7c00) & 0x7f800000;
  return (floats)((uints)magnitude | special | (halves & 0x8000) << 16);
}

float half_to_float(uint16_t half) { return load_halves((const uint16_t[LANES]){half})[0]; }

static uint32_t greatest_magnitude(const float *x) {
  uint32_t greatest = 0;
  for (int i = 0; i < MATRIX_BLOCK; i++) {
    uint32_t bits;
    memcpy(&bits, &x[i], sizeof(bits));
    bits &= 0x7fffffffu;
    greatest = bits > greatest ? bits : greatest;
  }
  return greatest;
}

static void round_blocks(int64_t blocks, const float *x, rounded_block *to) {
  for (int64_t b = 0; b < blocks; b++, x += MATRIX_BLOCK, to++) {
    /* Compared as integers, so that a NaN is the greatest and reaches the scale. */
    uint32_t bits = greatest_magnitude(x);
    float greatest;
    memcpy(&greatest, &bits, sizeof(bits));
    float factor = 127.0f / greatest;
    int32_t total = 0;
    if (isfinite(factor) && factor > 0) {
      for (int i = 0; i < MATRIX_BLOCK; i++) {
        /* Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest, ties to even. */
        float exact = x[i] * factor;
        float shifted = exact + 0x1.8p23f;
        to->rounded[i] = (int8_t)(shifted - 0x1.8p23f);
        total += to->rounded[i];
      }
    } else { /* zeros, or not a number anyway */
      memset(to->rounded, 0, MATRIX_BLOCK);
    }
    to->scale = greatest / 127.0f;
    to->sum = to->scale * (float)total;
    to->offset = -Q8_0_ZERO * total;
  }
}

static void dot_f32(const void *group, const activations *x, int64_t first, int64_t count, float *out) {
  for (int64_t t = 0; t < count; t++, out += MATRIX_GROUP) {
    const float *weights = group, *values = x->x + (first + t) * x->columns;
    float sums[2][MATRIX_GROUP] = {{0}};
    for (int64_t c = 0; c < x->columns; c++, weights += MATRIX_GROUP)
      for (int r = 0; r < MATRIX_GROUP; r++) sums[c & 1][r] += weights[r] * values[c];
    for (int r = 0; r < MATRIX_GROUP; r++) out[r] = sums[0][r] + sums[1][r];
  }
}

static inline words load_words(const uint8_t *from) {
  words self;
  memcpy(&self, from, sizeof(self));
  return self;
}

/* 4 activations for the 4 columns of each lane: those of the words' low bytes, and of the high ones. */
typedef struct {
  shorts low, high;
} quad;

static inline quad spread(const int8_t *x) {
  return (quad){{x[0], x[2], x[0], x[2], x[0], x[2], x[0], x[2]}, {x[1], x[3], x[1], x[3], x[1], x[3], x[1], x[3]}};
}

/* Each lane's two halves added up. */
static inline ints add_halves(shorts x) { return ((ints)((uints)x << 16) >> 16) + ((ints)x >> 16); }

static inline floats all(float x) { return (floats){x, x, x, x}; }

/* Each product is at most 15 * 127, and a half lane adds up 16 of them: 30480. */
static inline ints dots_q4_1(const uint8_t *numbers, const quad x[8]) {
  shorts sums = {0};
  for (int k = 0; k < 4; k++) {
    words pairs = load_words(numbers + 64 * k);
    sums += (shorts)(pairs & 15) * x[k].low + (shorts)(pairs >> 8 & 15) * x[k].high;
    sums += (shorts)(pairs >> 4 & 15) * x[4 + k].low + (shorts)(pairs >> 12) * x[4 + k].high;
  }
  return add_halves(sums);
}

/* Each product is at most 128 * 127, and a half lane adds up 2 of them before it is widened: 32512. */
static inline ints dots_q8_0(const uint8_t *numbers, const quad x[8]) {
  ints sums = {0};
  for (int k = 0; k < 8; k++) {
    words shifted = load_words(numbers + 64 * k) ^ (Q8_0_ZERO << 8 | Q8_0_ZERO);
    sums += add_halves(((shorts)(shifted << 8) >> 8) * x[k].low + ((shorts)shifted >> 8) * x[k].high);
  }
  return sums;
}

static void dot_q4_1(const void *group, const activations *x, int64_t first, int64_t count, float *out) {
  for (int64_t t = 0; t < count; t++, out += MATRIX_GROUP) {
    const uint8_t *packed = group;
    const rounded_block *block = x->rounded + (first + t) * x->blocks;
    floats sums[QUARTERS] = {{0}};
    for (int64_t b = 0; b < x->blocks; b++, block++, packed += Q4_1_BYTES) {
      const uint16_t *scales = (const void *)packed;
      quad values[8];
      for (int k = 0; k < 8; k++) values[k] = spread(block->rounded + 4 * k);
      for (int q = 0; q < QUARTERS; q++) {
        floats dots = __builtin_convertvector(dots_q4_1(packed + Q4_1_SCALES + 16 * q, values), floats);
        sums[q] += load_halves(scales + LANES * q) * (dots * all(block->scale));
        sums[q] += load_halves(scales + MATRIX_GROUP + LANES * q) * all(block->sum);
      }
    }
    memcpy(out, sums, sizeof(sums));
  }
}

static void dot_q8_0(const void *group, const activations *x, int64_t first, int64_t count, float *out) {
  for (int64_t t = 0; t < count; t++, out += MATRIX_GROUP) {
    const uint16_t *scales = group;
    const uint8_t *numbers = (const uint8_t *)group + q8_0_scales(x->blocks);
    const rounded_block *block = x->rounded + (first + t) * x->blocks;
    floats sums[QUARTERS] = {{0}};
    for (int64_t b = 0; b < x->blocks; b++, block++, scales += MATRIX_GROUP, numbers += Q8_0_NUMBERS) {
      quad values[8];
      for (int k = 0; k < 8; k++) values[k] = spread(block->rounded + 4 * k);
      for (int q = 0; q < QUARTERS; q++) {
        floats dots = __builtin_convertvector(dots_q8_0(numbers + 16 * q, values), floats);
        sums[q] += load_halves(scales + LANES * q) * (dots * all(block->scale));
      }
    }
    memcpy(out, sums, sizeof(sums));
  }
}

const kernels *portable_kernels(void) {
  static const kernels self = {
      .name = "portable",
      .tile = MATRIX_TILE,
      .round = round_blocks,
      .dot = {[MATRIX_F32] = dot_f32, [MATRIX_Q4_1] = dot_q4_1, [MATRIX_Q8_0] = dot_q8_0},
  };
  return &self;
}
