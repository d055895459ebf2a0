/* The small arithmetic between the matrices, on float32 vectors, with the widest instructions of this processor (as
 * matrix_kernels() says). Sums have a fixed order, the same for all of them. */
#ifndef LLAMA_OPS_H
#define LLAMA_OPS_H

#include <stdint.h>

/* to = x / sqrt(mean(x^2) + epsilon) * weight [Zhang & Sennrich, 2019]; count vectors of width elements, not in
 * place. */
void rms_norm(const float *x, const float *weight, float epsilon, int64_t count, int64_t width, float *to);

/* x += y */
void add(float *x, const float *y, int64_t size);

/* gate = silu(gate) * up [Shazeer, GLU variants, 2020]: silu(x) = x / (1 + e^-x). */
void swiglu(float *gate, const float *up, int64_t size);

/* Rotary positions [Su et al., 2021]: turn each pair (2i, 2i + 1) of `heads` vectors of `width` elements by the angle
 * whose cosine and sine are turns[2i] and turns[2i + 1]. */
void rotate(float *x, const float *turns, int64_t heads, int64_t width);

/* The cosines and sines of one position: pair i turns by position * base^(-2i / width) / factors[i] (factors may be
 * NULL). */
void make_turns(int64_t position, float base, const float *factors, int64_t width, float *to);

/* ---- Attention, one head ----
 *
 * Keys lie in blocks of KEY_BLOCK positions, [block][element][position], so that a vector holds the same element of as
 * many keys and no vector is summed across; values lie as rows, [position][element]. */
enum { KEY_BLOCK = 16 };

/* Elements that `positions` keys of `width` elements take. */
static inline int64_t key_room(int64_t positions, int64_t width) {
  return (positions + KEY_BLOCK - 1) / KEY_BLOCK * KEY_BLOCK * width;
}

/* Put the key of a position into its block. */
void put_key(float *keys, int64_t position, int64_t width, const float *key);

/* to = sum over j < length of softmax(query . key[j] / sqrt(width)) * value[j]. `scores`: room for `length`, rounded up
 * to whole blocks. width: even. */
void attend(const float *query, const float *keys, const float *values, int64_t length, int64_t width, float *scores,
            float *to);

#endif
