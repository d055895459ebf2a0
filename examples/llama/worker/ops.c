#include "worker/ops.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "worker/matrix.h"
#include "worker/ops_kernels.h"

/* The sets, as matrix_kernels() names them. */
typedef struct {
  const char *name;
  void (*attend)(const float *query, const float *keys, const float *values, int64_t length, int64_t width,
                 float *scores, float *to);
  void (*swiglu)(float *gate, const float *up, int64_t size);
} ops;

#define DEFINE_OPS(set, attribute)                                                                               \
  attribute static void attend_##set(const float *query, const float *keys, const float *values, int64_t length, \
                                     int64_t width, float *scores, float *to) {                                  \
    attend_with(query, keys, values, length, width, scores, to);                                                 \
  }                                                                                                              \
  attribute static void swiglu_##set(float *gate, const float *up, int64_t size) { swiglu_with(gate, up, size); }

DEFINE_OPS(portable, )
DEFINE_OPS(avx2, __attribute__((target("avx2,fma"))))
DEFINE_OPS(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))

static const ops *the_ops(void) {
  static const ops all[] = {{"avx512-vnni", attend_avx512, swiglu_avx512},
                            {"avx2", attend_avx2, swiglu_avx2},
                            {"portable", attend_portable, swiglu_portable}};
  static _Atomic(const ops *) chosen;
  const ops *set = atomic_load_explicit(&chosen, memory_order_relaxed);
  if (set != NULL) return set;
  for (set = all; set < all + 2 && strcmp(set->name, matrix_kernels()) != 0;) set++;
  atomic_store_explicit(&chosen, set, memory_order_relaxed); /* whoever else chooses meanwhile chooses the same */
  return set;
}

static float square_sum(const float *x, int64_t size) {
  float sums[LANES] = {0}, sum = 0;
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES)
    for (int k = 0; k < LANES; k++) sums[k] += x[i + k] * x[i + k];
  for (int k = 0; k < LANES; k++) sum += sums[k];
  for (; i < size; i++) sum += x[i] * x[i];
  return sum;
}

void rms_norm(const float *x, const float *weight, float epsilon, int64_t count, int64_t width, float *to) {
  for (int64_t t = 0; t < count; t++, x += width, to += width) {
    const float scale = 1 / sqrtf(square_sum(x, width) / (float)width + epsilon);
    for (int64_t i = 0; i < width; i++) to[i] = x[i] * scale * weight[i];
  }
}

void add(float *x, const float *y, int64_t size) {
  for (int64_t i = 0; i < size; i++) x[i] += y[i];
}

void swiglu(float *gate, const float *up, int64_t size) { the_ops()->swiglu(gate, up, size); }

void make_turns(int64_t position, float base, const float *factors, int64_t width, float *to) {
  for (int64_t i = 0; i < width / 2; i++) {
    double angle = (double)position * pow((double)base, -2.0 * (double)i / (double)width);
    if (factors != NULL) angle /= (double)factors[i];
    to[2 * i] = (float)cos(angle);
    to[2 * i + 1] = (float)sin(angle);
  }
}

void rotate(float *x, const float *turns, int64_t heads, int64_t width) {
  for (int64_t h = 0; h < heads; h++, x += width)
    for (int64_t i = 0; i < width; i += 2) {
      const float a = x[i], b = x[i + 1];
      x[i] = a * turns[i] - b * turns[i + 1];
      x[i + 1] = a * turns[i + 1] + b * turns[i];
    }
}

void put_key(float *keys, int64_t position, int64_t width, const float *key) {
  float *to = keys + position / KEY_BLOCK * KEY_BLOCK * width + position % KEY_BLOCK;
  for (int64_t i = 0; i < width; i++) to[i * KEY_BLOCK] = key[i];
}

void attend(const float *query, const float *keys, const float *values, int64_t length, int64_t width, float *scores,
            float *to) {
  the_ops()->attend(query, keys, values, length, width, scores, to);
}
