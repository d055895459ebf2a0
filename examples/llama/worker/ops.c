#include "worker/ops.h"

#include <math.h>
#include <string.h>

/* Vectors of the compiler's, of the size that every machine has. */
enum { LANES = 4 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

static inline lanes load(const float *from) {
  lanes v;
  memcpy(&v, from, sizeof(v));
  return v;
}

static inline void store(float *to, lanes v) { memcpy(to, &v, sizeof(v)); }

static inline float sum_of(lanes v) { return (v[0] + v[1]) + (v[2] + v[3]); }

static float dot(const float *a, const float *b, int64_t size) {
  lanes sums[4] = {{0}};
  int64_t i = 0;
  for (; i + 4 * LANES <= size; i += 4 * LANES)
    for (int k = 0; k < 4; k++) sums[k] += load(a + i + k * LANES) * load(b + i + k * LANES);
  float sum = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < size; i++) sum += a[i] * b[i];
  return sum;
}

void rms_norm(const float *x, const float *weight, float epsilon, int64_t count, int64_t width, float *to) {
  for (int64_t t = 0; t < count; t++, x += width, to += width) {
    const float scale = 1 / sqrtf(dot(x, x, width) / (float)width + epsilon);
    for (int64_t i = 0; i < width; i++) to[i] = x[i] * scale * weight[i];
  }
}

void add(float *x, const float *y, int64_t size) {
  for (int64_t i = 0; i < size; i++) x[i] += y[i];
}

void swiglu(float *gate, const float *up, int64_t size) {
  for (int64_t i = 0; i < size; i++) gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

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

/* to = sum of weights[j] * rows[j], in order of j. */
static void weighted_sum(const float *weights, const float *rows, int64_t count, int64_t width, float *to) {
  int64_t i = 0;
  for (; i + 4 * LANES <= width; i += 4 * LANES) { /* four vectors stay in registers along all rows */
    lanes sums[4] = {{0}};
    const float *row = rows + i;
    for (int64_t j = 0; j < count; j++, row += width)
      for (int k = 0; k < 4; k++) sums[k] += weights[j] * load(row + k * LANES);
    for (int k = 0; k < 4; k++) store(to + i + k * LANES, sums[k]);
  }
  for (; i < width; i++) {
    float sum = 0;
    for (int64_t j = 0; j < count; j++) sum += weights[j] * rows[j * width + i];
    to[i] = sum;
  }
}

void attend(const float *query, const float *keys, const float *values, int64_t length, int64_t width, float *scores,
            float *to) {
  const float scale = 1 / sqrtf((float)width);
  float most = -INFINITY, sum = 0;
  for (int64_t j = 0; j < length; j++) {
    scores[j] = dot(query, keys + j * width, width) * scale;
    most = fmaxf(most, scores[j]);
  }
  for (int64_t j = 0; j < length; j++) {
    scores[j] = expf(scores[j] - most);
    sum += scores[j];
  }
  for (int64_t j = 0; j < length; j++) scores[j] /= sum;
  weighted_sum(scores, values, length, width, to);
}
