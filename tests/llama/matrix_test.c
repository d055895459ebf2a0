/* The matrices of the example, with every set of kernels that this processor has, against plain loops in double over
 * weights decoded here from the stored bytes. */
#include "worker/matrix_kernels.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_ROWS = 40, MAX_COLUMNS = 1536, MAX_COUNT = 17, GUARD = 3 };

static const matrix_kind kinds[] = {MATRIX_F32, MATRIX_Q4_1, MATRIX_Q8_0};

/* ---- Stored weights, and what they mean -------------------------------------------------------------------------- */

static uint32_t seed;

static uint32_t draw(void) {
  seed = seed * 1664525u + 1013904223u;
  return seed >> 8;
}

static float draw_float(void) { return (float)draw() / 8388608.0f - 1.0f; } /* [-1, 1) */

static uint8_t *stored_new(size_t bytes) {
  uint8_t *self = aligned_alloc(MATRIX_ALIGNMENT, (bytes / MATRIX_ALIGNMENT + 1) * MATRIX_ALIGNMENT);
  assert_non_null(self);
  memset(self, 0xa5, bytes); /* packing must write all that is read */
  return self;
}

static size_t block_bytes(matrix_kind kind) { return kind == MATRIX_Q4_1 ? 20 : 34; }

static size_t stored_bytes(matrix_kind kind, int64_t rows, int64_t columns) {
  return (size_t)(rows * columns) / (kind == MATRIX_F32 ? 1 : 32) * (kind == MATRIX_F32 ? 4 : block_bytes(kind));
}

static double half_value(const uint8_t *at) {
  uint16_t half;
  memcpy(&half, at, 2);
  int exponent = half >> 10 & 31;
  double magnitude = exponent ? ldexp(1024 + (half & 1023), exponent - 25) : ldexp(half & 1023, -24);
  return half >> 15 ? -magnitude : magnitude;
}

/* Scale, minimum and numbers of a stored block. */
static void decode_block(matrix_kind kind, const uint8_t *block, double *ret_scale, double *ret_minimum,
                         int ret_numbers[32]) {
  *ret_scale = half_value(block);
  *ret_minimum = kind == MATRIX_Q4_1 ? half_value(block + 2) : 0;
  for (int i = 0; i < 32; i++)
    ret_numbers[i] = kind == MATRIX_Q8_0 ? (int8_t)block[2 + i] : i < 16 ? block[4 + i] & 15 : block[4 + i - 16] >> 4;
}

/* How the numbers of a test are made. DENORMAL: the smallest scales. */
typedef enum { RANDOM, LOWEST, GREATEST, ZEROS, DENORMAL, RECIPES } recipe;

static uint16_t draw_half(recipe how) {
  switch (how) {
  case ZEROS: return 0;
  case DENORMAL: return (uint16_t)(draw() % 64 | (draw() & 1) << 15);
  case RANDOM: return (uint16_t)(0x1c00 + draw() % 0x1800 + ((draw() & 1) << 15)); /* 2^-8 to 2^-2 */
  default: return (uint16_t)(0x3c00 | (draw() & 1) << 15);
  }
}

static uint8_t draw_number(recipe how, matrix_kind kind) {
  switch (how) {
  case LOWEST: return kind == MATRIX_Q8_0 ? 0x80 : 0;
  case GREATEST: return kind == MATRIX_Q8_0 ? 0x7f : 0xff;
  default: return (uint8_t)draw();
  }
}

static uint8_t *make_stored(matrix_kind kind, recipe how, int64_t rows, int64_t columns) {
  size_t bytes = stored_bytes(kind, rows, columns);
  uint8_t *self = stored_new(bytes);
  if (kind == MATRIX_F32) {
    for (size_t i = 0; i < bytes; i += 4) {
      float value = how == ZEROS ? 0 : how == DENORMAL ? draw_float() * 1e-38f : draw_float();
      memcpy(self + i, &value, 4);
    }
    return self;
  }
  for (size_t at = 0; at < bytes; at += block_bytes(kind)) {
    size_t head = kind == MATRIX_Q4_1 ? 4 : 2;
    for (size_t i = 0; i < head; i += 2) {
      uint16_t half = draw_half(how);
      memcpy(self + at + i, &half, 2);
    }
    for (size_t i = head; i < block_bytes(kind); i++) self[at + i] = draw_number(how, kind);
  }
  return self;
}

/* ---- The plain loops --------------------------------------------------------------------------------------------- */

/* What one vector's block is rounded to. */
static double round_block(const float *x, int ret_rounded[32]) {
  float greatest = 0;
  for (int i = 0; i < 32; i++) greatest = fmaxf(greatest, fabsf(x[i]));
  for (int i = 0; i < 32; i++) ret_rounded[i] = greatest > 0 ? (int)nearbyintf(x[i] * (127.0f / greatest)) : 0;
  return greatest / 127.0f;
}

/* One row times one vector; *ret_size: the sum of the magnitudes of what is added, by which errors are measured. */
static double expected(matrix_kind kind, const uint8_t *row, int64_t columns, const float *x, double *ret_size) {
  double sum = 0, size = 0;
  if (kind == MATRIX_F32) {
    for (int64_t c = 0; c < columns; c++) {
      float weight;
      memcpy(&weight, row + 4 * c, 4);
      sum += (double)weight * x[c];
      size += fabs((double)weight * x[c]);
    }
  } else {
    for (int64_t b = 0; b < columns / 32; b++) {
      double scale, minimum;
      int numbers[32], rounded[32], dot = 0, total = 0;
      decode_block(kind, row + (size_t)b * block_bytes(kind), &scale, &minimum, numbers);
      double unit = round_block(x + 32 * b, rounded);
      for (int i = 0; i < 32; i++) {
        dot += numbers[i] * rounded[i];
        total += rounded[i];
      }
      sum += unit * (scale * dot + minimum * total);
      size += unit * (fabs(scale * dot) + fabs(minimum * total));
    }
  }
  *ret_size = size;
  return sum;
}

/* ---- Comparing --------------------------------------------------------------------------------------------------- */

/* What is tested: the name of a set of kernels. */
static bool choose(void **state) {
  const char *wanted = *state;
  if (strcmp(choose_kernels(wanted)->name, wanted) == 0) return true;
  print_message("this processor has no %s\n", wanted);
  return false;
}

typedef struct {
  matrix_kind kind;
  recipe how, x_how;
  int64_t rows, columns, count;
} shape;

static float *make_x(recipe how, int64_t count, int64_t columns) {
  float *x = malloc((size_t)(count * columns + 1) * sizeof(float));
  assert_non_null(x);
  for (int64_t i = 0; i < count * columns; i++) {
    float value = draw_float();
    switch (how) {
    case LOWEST: value = -127; break;
    case GREATEST: value = 127; break;
    case ZEROS: value = i / 32 % 2 ? 0 : value; break;
    case DENORMAL: value *= 1e-30f; break;
    default: break;
    }
    x[i] = value;
  }
  return x;
}

/* y, whose rows lie GUARD apart; what lies between must stay. */
static float *multiply(const matrix *m, activations *a, int64_t count, const float *x) {
  int64_t stride = m->rows + GUARD;
  float *y = malloc((size_t)(count * stride) * sizeof(float));
  assert_non_null(y);
  for (int64_t i = 0; i < count * stride; i++) y[i] = 1234.5f;
  activations_set(a, m->kind, count, m->columns, x);
  matrix_multiply(m, a, y, stride);
  for (int64_t t = 0; t < count; t++)
    for (int64_t r = m->rows; r < stride; r++) assert_true(y[t * stride + r] == 1234.5f);
  return y;
}

static void check_values(const shape *s, const uint8_t *stored, const float *x, const float *y) {
  size_t row_bytes = stored_bytes(s->kind, 1, s->columns);
  for (int64_t t = 0; t < s->count; t++)
    for (int64_t r = 0; r < s->rows; r++) {
      double size, want = expected(s->kind, stored + (size_t)r * row_bytes, s->columns, x + t * s->columns, &size);
      double have = y[t * (s->rows + GUARD) + r];
      if (fabs(have - want) <= 1e-5 * size + 1e-40) continue;
      fail_msg("kind %d, how %d, %d: %d x %d, vector %d of %d, row %d: %.9g instead of %.9g", (int)s->kind, (int)s->how,
               (int)s->x_how, (int)s->rows, (int)s->columns, (int)t, (int)s->count, (int)r, have, want);
    }
}

/* Each vector by itself gives the very bits that it gives among others. */
static void check_alone(const matrix *m, activations *a, int64_t count, const float *x, const float *y) {
  for (int64_t t = 0; t < count; t++) {
    float *alone = multiply(m, a, 1, x + t * m->columns);
    assert_memory_equal(alone, y + t * (m->rows + GUARD), (size_t)m->rows * sizeof(float));
    free(alone);
  }
}

static void check_shape(const shape *s, activations *a) {
  uint8_t *stored = make_stored(s->kind, s->how, s->rows, s->columns);
  uint8_t *memory = stored_new(matrix_bytes(s->kind, s->rows, s->columns));
  matrix m = matrix_pack(s->kind, s->rows, s->columns, stored, memory);
  float *x = make_x(s->x_how, s->count, s->columns), *y = multiply(&m, a, s->count, x);
  check_values(s, stored, x, y);
  check_alone(&m, a, s->count, x, y);
  free(y);
  free(x);
  free(memory);
  free(stored);
}

/* ---- Products ---------------------------------------------------------------------------------------------------- */

static void shapes_multiply(void **state) {
  static const int64_t rows[] = {1, 15, 16, 17, 32, 33}, columns[] = {32, 64, 96, 576, MAX_COLUMNS};
  if (!choose(state)) skip();
  activations *a = activations_create(MAX_COUNT, MAX_COLUMNS);
  assert_non_null(a);
  for (size_t k = 0; k < 3; k++)
    for (size_t r = 0; r < sizeof(rows) / sizeof(*rows); r++)
      for (size_t c = 0; c < sizeof(columns) / sizeof(*columns); c++)
        check_shape(&(shape){kinds[k], RANDOM, RANDOM, rows[r], columns[c], 1 + (int64_t)(r + c) % 3}, a);
  /* float32 has no blocks: any number of columns */
  for (int64_t c = 1; c < 9; c++) check_shape(&(shape){MATRIX_F32, RANDOM, RANDOM, 17, c, c}, a);
  activations_destroy(a);
}

static void counts_multiply(void **state) {
  if (!choose(state)) skip();
  activations *a = activations_create(MAX_COUNT, MAX_COLUMNS);
  assert_non_null(a);
  for (size_t k = 0; k < 3; k++)
    for (int64_t count = 0; count <= MAX_COUNT; count++)
      check_shape(&(shape){kinds[k], RANDOM, RANDOM, 33, 160, count}, a);
  activations_destroy(a);
}

static void extremes_multiply(void **state) {
  if (!choose(state)) skip();
  activations *a = activations_create(MAX_COUNT, MAX_COLUMNS);
  assert_non_null(a);
  for (size_t k = 0; k < 3; k++)
    for (int how = 0; how < RECIPES; how++)
      for (int x_how = 0; x_how < RECIPES; x_how++)
        for (int64_t count = 1; count <= 5; count += 4)
          check_shape(&(shape){kinds[k], (recipe)how, (recipe)x_how, 20, 96, count}, a);
  activations_destroy(a);
}

/* A row of Q8_0 with a 1 in one column gives back what that column's activation was rounded to. */
static void activations_are_rounded_to_the_nearest(void **state) {
  enum { COLUMNS = 64 };
  if (!choose(state)) skip();
  uint8_t stored[COLUMNS * 2 * 34] = {0}, *memory = stored_new(matrix_bytes(MATRIX_Q8_0, COLUMNS, COLUMNS));
  for (int r = 0; r < COLUMNS; r++)
    for (int b = 0; b < 2; b++) {
      memcpy(stored + (r * 2 + b) * 34, &(uint16_t){0x3c00}, 2);
      if (b == r / 32) stored[(r * 2 + b) * 34 + 2 + r % 32] = 1;
    }
  matrix m = matrix_pack(MATRIX_Q8_0, COLUMNS, COLUMNS, stored, memory);
  activations *a = activations_create(1, COLUMNS);
  assert_non_null(a);
  for (int turn = 0; turn < 200; turn++) {
    float x[COLUMNS], size = ldexpf(1, (int)(draw() % 200) - 100);
    for (int i = 0; i < COLUMNS; i++) x[i] = draw_float() * size;
    if (turn == 0)
      for (int i = 0; i < COLUMNS; i++) x[i] = i % 32 ? (float)(i % 32) - 15.5f : 127; /* ties go to even */
    float *y = multiply(&m, a, 1, x);
    for (int i = 0; i < COLUMNS; i++) {
      int rounded[32];
      double unit = round_block(x + i / 32 * 32, rounded);
      assert_true(fabs(y[i] - unit * rounded[i % 32]) <= 1e-6 * 127 * unit);
      assert_true(fabs(y[i] - x[i]) <= 0.5001 * unit);
    }
    free(y);
  }
  activations_destroy(a);
  free(memory);
}

/* What is no number anymore must be seen in the result, of its own vector only. */
static void no_number_comes_out_as_none(void **state) {
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  if (!choose(state)) skip();
  activations *a = activations_create(5, 64);
  assert_non_null(a);
  for (size_t k = 0; k < 3; k++)
    for (size_t i = 0; i < 3; i++) {
      uint8_t *stored = make_stored(kinds[k], GREATEST, 16, 64), *memory = stored_new(matrix_bytes(kinds[k], 16, 64));
      matrix m = matrix_pack(kinds[k], 16, 64, stored, memory);
      float *x = make_x(RANDOM, 5, 64);
      x[2 * 64 + 40] = bad[i];
      float *y = multiply(&m, a, 5, x);
      for (int t = 0; t < 5; t++)
        for (int r = 0; r < 16; r++) assert_int_equal(!!isfinite(y[t * (16 + GUARD) + r]), t != 2);
      free(y);
      free(x);
      free(memory);
      free(stored);
    }
  activations_destroy(a);
}

/* ---- Rows -------------------------------------------------------------------------------------------------------- */

static void rows_are_exact(void **state) {
  (void)state;
  for (size_t k = 0; k < 3; k++)
    for (int how = 0; how < RECIPES; how++) {
      enum { ROWS = 33, COLUMNS = 160 };
      uint8_t *stored = make_stored(kinds[k], (recipe)how, ROWS, COLUMNS);
      uint8_t *memory = stored_new(matrix_bytes(kinds[k], ROWS, COLUMNS));
      matrix m = matrix_pack(kinds[k], ROWS, COLUMNS, stored, memory);
      assert_int_equal(m.rows, ROWS);
      assert_int_equal(m.columns, COLUMNS);
      for (int64_t r = 0; r < ROWS; r++) {
        float have[COLUMNS], want[COLUMNS];
        const uint8_t *row = stored + (size_t)r * stored_bytes(kinds[k], 1, COLUMNS);
        if (kinds[k] == MATRIX_F32) memcpy(want, row, sizeof(want));
        for (int b = 0; kinds[k] != MATRIX_F32 && b < COLUMNS / 32; b++) {
          double scale, minimum;
          int numbers[32];
          decode_block(kinds[k], row + (size_t)b * block_bytes(kinds[k]), &scale, &minimum, numbers);
          for (int i = 0; i < 32; i++) want[32 * b + i] = (float)(scale * numbers[i] + minimum);
        }
        matrix_row(&m, r, have);
        for (int c = 0; c < COLUMNS; c++) assert_true(have[c] == want[c]);
      }
      free(memory);
      free(stored);
    }
}

static void halves_are_exact(void **state) {
  (void)state;
  for (uint32_t half = 0; half < 0x10000; half++) {
    uint16_t stored = (uint16_t)half;
    float have = half_to_float(stored);
    if ((half & 0x7c00) != 0x7c00)
      assert_true(have == half_value((const uint8_t *)&stored) && !!signbit(have) == half >> 15);
    else if (half & 0x3ff)
      assert_true(isnan(have));
    else
      assert_true(have == (half >> 15 ? -INFINITY : INFINITY));
  }
}

static void packed_is_no_larger_than_stored(void **state) {
  (void)state;
  assert_int_equal(matrix_bytes(MATRIX_F32, 576, 576), 576 * 576 * 4);
  assert_int_equal(matrix_bytes(MATRIX_Q4_1, 1536, 576), 1536 * 18 * 20);
  assert_int_equal(matrix_bytes(MATRIX_Q8_0, 24576, 576), 24576 * 18 * 34);
  assert_int_equal(matrix_bytes(MATRIX_Q4_1, 1, 32), 16 * 20);
  assert_int_equal(matrix_bytes(MATRIX_Q8_0, 17, 32), 2 * (16 * 34 + 32));
}

/* ---- Kernels ----------------------------------------------------------------------------------------------------- */

/* Before all others: nothing has been chosen. main() has set LLAMA_KERNELS. */
static void environment_chooses(void **state) {
  (void)state;
  assert_string_equal(matrix_kernels(), "portable");
  const char *best = choose_kernels(NULL)->name;
  assert_string_equal(matrix_kernels(), best);
  assert_string_equal(choose_kernels("portable")->name, "portable");
  assert_string_equal(matrix_kernels(), "portable");
  assert_string_equal(choose_kernels("abacus")->name, best);
  assert_string_equal(choose_kernels("avx512-vnni")->name, best);
}

/* All sets round to the same, bit by bit, also what is too small or too great to be rounded. */
static void all_round_alike(void **state) {
  enum { BLOCKS = 40 };
  if (!choose(state)) skip();
  const float sizes[] = {0, 1e-45f, 1e-40f, 3e-37f, 4e-37f, 1e-20f, 1, 127, 1e20f, 3e38f};
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
  float x[BLOCKS * 32];
  for (int i = 0; i < BLOCKS * 32; i++) x[i] = draw_float() * sizes[i / 32 % 10];
  for (int i = 0; i < 4; i++) x[(BLOCKS - 10 + 2 * i) * 32 + 9 * i] = bad[i];
  rounded_block have[BLOCKS] = {0}, want[BLOCKS] = {0};
  choose_kernels(*state)->round(BLOCKS, x, have);
  choose_kernels("portable")->round(BLOCKS, x, want);
  for (int b = 0; b < BLOCKS; b++) assert_memory_equal(&have[b], &want[b], sizeof(have[b]));
}

/* avx2 and avx512-vnni add up in the same order, so that workers on different machines agree. */
static void vectors_agree(void **state) {
  (void)state;
  if (strcmp(choose_kernels("avx512-vnni")->name, "avx512-vnni") != 0 ||
      strcmp(choose_kernels("avx2")->name, "avx2") != 0) {
    print_message("this processor does not have both\n");
    skip();
  }
  activations *a = activations_create(6, 576);
  assert_non_null(a);
  for (size_t k = 0; k < 3; k++) {
    uint8_t *stored = make_stored(kinds[k], RANDOM, 33, 576), *memory = stored_new(matrix_bytes(kinds[k], 33, 576));
    matrix m = matrix_pack(kinds[k], 33, 576, stored, memory);
    float *x = make_x(RANDOM, 6, 576), *y[2];
    for (int i = 0; i < 2; i++) {
      choose_kernels(i ? "avx2" : "avx512-vnni");
      y[i] = multiply(&m, a, 6, x);
    }
    assert_memory_equal(y[0], y[1], 6 * (33 + GUARD) * sizeof(float));
    free(y[0]);
    free(y[1]);
    free(x);
    free(memory);
    free(stored);
  }
  activations_destroy(a);
}

typedef struct {
  const matrix *m;
  const float *x, *y;
  bool equal;
} job;

static void *multiply_often(void *arg) {
  job *self = arg;
  activations *a = activations_create(3, self->m->columns);
  float y[3 * MAX_ROWS];
  self->equal = a != NULL;
  for (int i = 0; a && i < 50; i++) {
    activations_set(a, self->m->kind, 3, self->m->columns, self->x);
    matrix_multiply(self->m, a, y, MAX_ROWS);
    for (int64_t t = 0; t < 3; t++)
      self->equal &= !memcmp(y + t * MAX_ROWS, self->y + t * (self->m->rows + GUARD), (size_t)self->m->rows * 4);
  }
  activations_destroy(a);
  return NULL;
}

static void threads_multiply(void **state) {
  if (!choose(state)) skip();
  for (size_t k = 0; k < 3; k++) {
    uint8_t *stored = make_stored(kinds[k], RANDOM, 33, 64), *memory = stored_new(matrix_bytes(kinds[k], 33, 64));
    matrix m = matrix_pack(kinds[k], 33, 64, stored, memory);
    activations *a = activations_create(3, 64);
    assert_non_null(a);
    float *x = make_x(RANDOM, 3, 64), *y = multiply(&m, a, 3, x);
    job jobs[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
      jobs[i] = (job){.m = &m, .x = x, .y = y};
      assert_int_equal(pthread_create(&threads[i], NULL, multiply_often, &jobs[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
      assert_int_equal(pthread_join(threads[i], NULL), 0);
      assert_true(jobs[i].equal);
    }
    activations_destroy(a);
    free(y);
    free(x);
    free(memory);
    free(stored);
  }
}

static void no_memory_for_activations(void **state) {
  (void)state;
  assert_null(activations_create(INT64_MAX, INT64_MAX));
  assert_null(activations_create(INT64_MAX / 64, 64));
  assert_null(activations_create(-1, 64));
  activations_destroy(NULL);
}

static int seed_again(void **state) {
  (void)state;
  seed = 12345;
  return 0;
}

#define WITH(test, set) \
  { #test " (" set ")", test, seed_again, NULL, set }
#define WITH_EACH(test) WITH(test, "portable"), WITH(test, "avx2"), WITH(test, "avx512-vnni")

int main(void) {
  setenv("LLAMA_KERNELS", "portable", 1);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(environment_chooses),
      cmocka_unit_test_setup(rows_are_exact, seed_again),
      cmocka_unit_test(halves_are_exact),
      cmocka_unit_test(packed_is_no_larger_than_stored),
      cmocka_unit_test(no_memory_for_activations),
      cmocka_unit_test_setup(vectors_agree, seed_again),
      WITH_EACH(shapes_multiply),
      WITH_EACH(counts_multiply),
      WITH_EACH(extremes_multiply),
      WITH_EACH(activations_are_rounded_to_the_nearest),
      WITH_EACH(all_round_alike),
      WITH_EACH(no_number_comes_out_as_none),
      WITH_EACH(threads_multiply),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
