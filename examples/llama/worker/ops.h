/* The small arithmetic between the matrices, on float32 vectors. Sums have a fixed order. */
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

/* One head: to = sum over j < length of softmax(query . key[j] / sqrt(width)) * value[j]; keys and values are rows of
 * `width` elements, `scores` room for `length`. width: even. */
void attend(const float *query, const float *keys, const float *values, int64_t length, int64_t width, float *scores,
            float *to);

#endif
