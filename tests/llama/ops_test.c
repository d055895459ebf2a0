/* The arithmetic between the matrices, against the same in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/ops.h"

enum { WIDTH = 37 /* no multiple of a vector */, MOST = 64 };

static unsigned seed = 1;
static float any(void) { return (float)((seed = seed * 1103515245u + 12345u) >> 16 & 0x7fff) / 16384.0F - 1; }

static void fill(float *x, int size) {
  for (int i = 0; i < size; i++) x[i] = any();
}

static void near(double is, double wanted) { assert_true(fabs(is - wanted) <= 1e-5 * (1 + fabs(wanted))); }

static void norms(void **state) {
  (void)state;
  float x[2 * WIDTH], weight[WIDTH], to[2 * WIDTH];
  fill(x, 2 * WIDTH);
  fill(weight, WIDTH);
  rms_norm(x, weight, 1e-3F, 2, WIDTH, to);
  for (int t = 0; t < 2; t++) {
    double sum = 0;
    for (int i = 0; i < WIDTH; i++) sum += (double)x[t * WIDTH + i] * (double)x[t * WIDTH + i];
    for (int i = 0; i < WIDTH; i++)
      near((double)to[t * WIDTH + i], (double)x[t * WIDTH + i] / sqrt(sum / WIDTH + 1e-3) * (double)weight[i]);
  }
}

static void gates(void **state) {
  (void)state;
  float gate[WIDTH], up[WIDTH], to[WIDTH];
  fill(gate, WIDTH);
  fill(up, WIDTH);
  gate[0] = 100;
  gate[1] = -100; /* e^100 is no float */
  gate[2] = -1e30F;
  for (int i = 0; i < WIDTH; i++) to[i] = gate[i];
  swiglu(to, up, WIDTH);
  for (int i = 0; i < WIDTH; i++) near((double)to[i], (double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i]);
}

static void turns(void **state) {
  (void)state;
  const int width = 8;
  float x[16], before[16], angles[8], factors[4] = {1, 2, 4, 8};
  fill(x, 16);
  for (int i = 0; i < 16; i++) before[i] = x[i];
  make_turns(1234, 10000, factors, width, angles);
  rotate(x, angles, 2, width);
  for (int h = 0; h < 2; h++)
    for (int i = 0; i < width / 2; i++) {
      const double angle = 1234 * pow(10000, -2.0 * i / width) / (double)factors[i];
      const double a = (double)before[h * width + 2 * i], b = (double)before[h * width + 2 * i + 1];
      near((double)x[h * width + 2 * i], a * cos(angle) - b * sin(angle));
      near((double)x[h * width + 2 * i + 1], a * sin(angle) + b * cos(angle));
    }
}

static void attends(int width, int length) {
  float query[MOST], keys[40 * MOST], blocks[48 * MOST], values[40 * MOST], scores[48], to[MOST];
  double weights[40], sum = 0;
  fill(query, width);
  fill(keys, length * width);
  fill(values, length * width);
  for (int i = 0; i < 48 * MOST; i++) blocks[i] = NAN; /* what is not written is not looked at */
  for (int j = 0; j < length; j++) put_key(blocks, j, width, keys + j * width);
  attend(query, blocks, values, length, width, scores, to);
  for (int j = 0; j < length; j++) {
    double score = 0;
    for (int i = 0; i < width; i++) score += (double)query[i] * (double)keys[j * width + i];
    sum += weights[j] = exp(score / sqrt(width));
  }
  for (int i = 0; i < width; i++) {
    double wanted = 0;
    for (int j = 0; j < length; j++) wanted += weights[j] / sum * (double)values[j * width + i];
    near((double)to[i], wanted);
  }
}

static void attention(void **state) {
  (void)state;
  const int widths[] = {2, 6, 16, 34, 64};
  for (int i = 0; i < 5; i++)
    for (int length = 1; length <= 40; length += 13) attends(widths[i], length);
}

static void attention_does_not_overflow(void **state) {
  (void)state;
  float query[4] = {1e4F, 0, 0, 0}, keys[8] = {1e4F, 0, 0, 0, 0, 0, 0, 0}, values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float blocks[4 * KEY_BLOCK] = {0}, scores[KEY_BLOCK], to[4];
  for (int j = 0; j < 2; j++) put_key(blocks, j, 4, keys + 4 * j);
  attend(query, blocks, values, 2, 4, scores, to);
  for (int i = 0; i < 4; i++) near((double)to[i], i + 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(norms),
      cmocka_unit_test(gates),
      cmocka_unit_test(turns),
      cmocka_unit_test(attention),
      cmocka_unit_test(attention_does_not_overflow),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
