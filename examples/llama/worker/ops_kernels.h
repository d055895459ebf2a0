/* The loops of ops.c that are worth wide instructions: written once with vectors of the compiler's, compiled for each
 * kind of processor. Vectors are handed on by address: how they would be by value depends on the processor. */
#ifndef LLAMA_OPS_KERNELS_H
#define LLAMA_OPS_KERNELS_H

#include <math.h>
#include <string.h>

#include "worker/ops.h"

enum { LANES = KEY_BLOCK };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t int_lanes __attribute__((vector_size(LANES * sizeof(int32_t))));

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE void get(lanes *to, const float *from) { memcpy(to, from, sizeof(*to)); }
ALWAYS_INLINE void put(float *to, const lanes *from) { memcpy(to, from, sizeof(*from)); }

/* x = e^x within 2e-7 of it, for x <= 88; what is below -87 counts as -87. Cody and Waite's reduction to half a power
 * of two, and a polynomial [Moshier, Cephes]. */
ALWAYS_INLINE void exp_lanes(lanes *x) {
  const lanes least = (lanes){0} - 87.0F, v = *x;
  const int_lanes is_less = v < least;
  const lanes in = (lanes)(((int_lanes)least & is_less) | ((int_lanes)v & ~is_less));
  const lanes shifted = in * 1.44269504F + 12582912.0F; /* 1.5 * 2^23: rounds to an integer, which is in the low bits */
  const lanes n = shifted - 12582912.0F;
  const lanes r = (in - n * 0.693359375F) - n * -2.12194440e-4F;
  lanes p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  *x = (lanes)((int_lanes)p + ((int_lanes)shifted << 23));
}

/* Scores of the keys of one block. Four sums, so that additions need not wait for each other. */
ALWAYS_INLINE void score_block(const float *query, const float *block, int64_t width, float scale, float *scores) {
  lanes sums[4] = {{0}};
  int64_t i = 0;
  for (; i + 4 <= width; i += 4)
    for (int k = 0; k < 4; k++) {
      lanes key;
      get(&key, block + (i + k) * LANES);
      sums[k] += query[i + k] * key;
    }
  for (; i < width; i++) {
    lanes key;
    get(&key, block + i * LANES);
    sums[0] += query[i] * key;
  }
  const lanes all = ((sums[0] + sums[1]) + (sums[2] + sums[3])) * scale;
  put(scores, &all);
}

/* scores = e^(scores - the largest); returns their sum. What is beyond `length` means nothing. */
ALWAYS_INLINE float softmax_weights(float *scores, int64_t length) {
  float most = -INFINITY, sum = 0;
  for (int64_t j = 0; j < length; j++) most = scores[j] > most ? scores[j] : most;
  for (int64_t j = length; j % LANES != 0; j++) scores[j] = most;
  for (int64_t j = 0; j < length; j += LANES) {
    lanes v;
    get(&v, scores + j);
    v -= most;
    exp_lanes(&v);
    put(scores + j, &v);
  }
  for (int64_t j = 0; j < length; j++) sum += scores[j];
  return sum;
}

/* to = sum of weights[j] * rows[j], in order of j. */
ALWAYS_INLINE void weighted_sum(const float *weights, const float *rows, int64_t count, int64_t width, float scale,
                                float *to) {
  int64_t i = 0;
  for (; i + 4 * LANES <= width; i += 4 * LANES) { /* four vectors stay in registers along all rows */
    lanes sums[4] = {{0}};
    const float *row = rows + i;
    for (int64_t j = 0; j < count; j++, row += width)
      for (int k = 0; k < 4; k++) {
        lanes value;
        get(&value, row + k * LANES);
        sums[k] += weights[j] * value;
      }
    for (int k = 0; k < 4; k++) {
      sums[k] *= scale;
      put(to + i + k * LANES, &sums[k]);
    }
  }
  for (; i < width; i++) {
    float sum = 0;
    for (int64_t j = 0; j < count; j++) sum += weights[j] * rows[j * width + i];
    to[i] = sum * scale;
  }
}

ALWAYS_INLINE void attend_with(const float *query, const float *keys, const float *values, int64_t length,
                               int64_t width, float *scores, float *to) {
  const float scale = 1 / sqrtf((float)width);
  for (int64_t j = 0; j < length; j += LANES) score_block(query, keys + j * width, width, scale, scores + j);
  const float sum = softmax_weights(scores, length);
  weighted_sum(scores, values, length, width, 1 / sum, to);
}

ALWAYS_INLINE void swiglu_with(float *gate, const float *up, int64_t size) {
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) {
    lanes x, y;
    get(&x, gate + i);
    get(&y, up + i);
    lanes e = -x;
    const lanes most = (lanes){0} + 87.0F;
    const int_lanes is_more = e > most;
    e = (lanes)(((int_lanes)most & is_more) | ((int_lanes)e & ~is_more));
    exp_lanes(&e);
    x = x / (1.0F + e) * y;
    put(gate + i, &x);
  }
  for (; i < size; i++) gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

#endif
