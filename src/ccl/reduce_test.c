/* Reductions: every kind, type, number of inputs and set of kernels against an evaluation of the tree written here, bit
 * for bit, NaNs included; nothing outside the outputs is touched. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ccl/reduce.h"
#include "ccl/reduce_half.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MOST = 16, GUARD = 64, GUARD_BYTE = 0x5a, ROOM = 1000 * 8 + 2 * GUARD + 65 };

static uint64_t random_state = 88172645463325252u;

static uint64_t random_bits(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state * 0x2545f4914f6cdd1du;
}

/* ---- The evaluation to compare with ---- */

static bool is_signed(dsc_dtype dtype) {
  return dtype == DSC_DTYPE_I8 || dtype == DSC_DTYPE_I16 || dtype == DSC_DTYPE_I32 || dtype == DSC_DTYPE_I64;
}
static bool is_float(dsc_dtype dtype) { return dtype >= DSC_DTYPE_F16; }

/* What an element is evaluated in: its bits as float32 or float64, or an integer, with or without sign. */
typedef union {
  uint64_t bits;
  float f32;
  double f64;
} value;

static bool is_nan(dsc_dtype dtype, value v) { return dtype == DSC_DTYPE_F64 ? isnan(v.f64) : isnan(v.f32); }

static value quiet(dsc_dtype dtype, value v) {
  v.bits |= dtype == DSC_DTYPE_F64 ? (uint64_t)1 << 51 : (uint64_t)1 << 22;
  return v;
}

static value float_of(dsc_dtype dtype, double exact) {
  value v = {0};
  if (dtype == DSC_DTYPE_F64)
    v.f64 = exact;
  else
    v.f32 = (float)exact; /* from the exact sum or product, or from one rounded twice without harm (53 >= 2 * 24 + 2) */
  if (is_nan(dtype, v)) v.bits = dtype == DSC_DTYPE_F64 ? (uint64_t)0xfff8 << 48 : 0xffc00000;
  return v;
}

static value join_floats(dsc_reduce_kind kind, dsc_dtype dtype, value a, value b) {
  if (is_nan(dtype, a)) return quiet(dtype, a);
  if (is_nan(dtype, b)) return quiet(dtype, b);
  double x = dtype == DSC_DTYPE_F64 ? a.f64 : (double)a.f32, y = dtype == DSC_DTYPE_F64 ? b.f64 : (double)b.f32;
  if (kind == DSC_REDUCE_SUM || kind == DSC_REDUCE_AVG) return float_of(dtype, x + y);
  if (kind == DSC_REDUCE_PROD) return float_of(dtype, x * y);
  bool a_less = x < y || (x == y && signbit(x) && !signbit(y));
  return (kind == DSC_REDUCE_MIN) == a_less ? a : b;
}

__extension__ typedef __int128 wide;

static wide integer_of(dsc_dtype dtype, uint64_t bits) {
  unsigned unused = 64 - 8 * (unsigned)dsc_dtype_bytes(dtype);
  return is_signed(dtype) ? (wide)((int64_t)(bits << unused) >> unused) : (wide)(bits << unused >> unused);
}

static value join_integers(dsc_reduce_kind kind, dsc_dtype dtype, value a, value b) {
  wide x = integer_of(dtype, a.bits), y = integer_of(dtype, b.bits);
  if (kind == DSC_REDUCE_MIN) return x < y ? a : b;
  if (kind == DSC_REDUCE_MAX) return x > y ? a : b;
  if (kind == DSC_REDUCE_PROD) return (value){.bits = a.bits * b.bits};
  return (value){.bits = (uint64_t)(x + y)};
}

static value element(dsc_dtype dtype, const uint8_t *from) {
  value v = {0};
  memcpy(&v, from, dsc_dtype_bytes(dtype)); /* little-endian, like everything that runs this */
  if (dtype == DSC_DTYPE_F16) return (value){.f32 = dsc_f32_of_f16((uint16_t)v.bits)};
  if (dtype == DSC_DTYPE_BF16) return (value){.f32 = dsc_f32_of_bf16((uint16_t)v.bits)};
  return v;
}

/* The inputs from `first` on: split at the largest power of two below n. */
static value tree(dsc_reduce_kind kind, dsc_dtype dtype, uint8_t *const *inputs, int n, size_t at) {
  if (n == 1) return element(dtype, inputs[0] + at);
  int left = 1;
  while (left * 2 < n) left *= 2;
  value a = tree(kind, dtype, inputs, left, at), b = tree(kind, dtype, inputs + left, n - left, at);
  return is_float(dtype) ? join_floats(kind, dtype, a, b) : join_integers(kind, dtype, a, b);
}

static void expect_element(dsc_reduce_kind kind, dsc_dtype dtype, uint8_t *const *inputs, int n, size_t at,
                           uint8_t *to) {
  value v = tree(kind, dtype, inputs, n, at);
  if (kind == DSC_REDUCE_AVG && !is_float(dtype)) v.bits = (uint64_t)(integer_of(dtype, v.bits) / n);
  if (kind == DSC_REDUCE_AVG && is_float(dtype) && !is_nan(dtype, v)) {
    if (dtype == DSC_DTYPE_F64)
      v.f64 = v.f64 / n;
    else
      v.f32 = v.f32 / (float)n;
  }
  if (dtype == DSC_DTYPE_F16) v.bits = dsc_f16_of_f32(v.f32);
  if (dtype == DSC_DTYPE_BF16) v.bits = dsc_bf16_of_f32(v.f32);
  memcpy(to, &v, dsc_dtype_bytes(dtype));
}

/* ---- Elements ---- */

/* Zeros, the smallest and the largest of everything, infinities, NaNs (quiet and signalling, both signs, payloads at
 * both ends), neighbours of one for ties in rounding. */
static uint64_t special(dsc_dtype dtype) {
  static const uint64_t of_f16[] = {0,      1,      0x3ff,  0x400,  0x3c00, 0x3c01, 0x3bff, 0x1000, 0x0c00, 0x7bff,
                                    0x7c00, 0x7c01, 0x7d55, 0x7e00, 0x7e01, 0x7fff, 0x6400, 0x6401, 0x3800, 0x0002};
  static const uint64_t of_bf16[] = {0,      1,      0x7f,   0x80,   0x3f80, 0x3f81, 0x3f7f, 0x3b80, 0x3c00, 0x7f7f,
                                     0x7f80, 0x7f81, 0x7fbf, 0x7fc0, 0x7fc1, 0x7fff, 0x4300, 0x4301, 0x3b00, 0x0002};
  static const uint64_t of_f32[] = {0,          1,          0x7fffff,   0x800000,   0x3f800000, 0x3f800001, 0x3f7fffff,
                                    0x33800000, 0x33000000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fbfffff, 0x7fc00000,
                                    0x7fc00001, 0x7fffffff, 0x4b800000, 0x4b800001, 0x34000000, 0x00000002};
  static const uint64_t of_f64[] = {0,
                                    1,
                                    0xfffffffffffff,
                                    0x10000000000000,
                                    0x3ff0000000000000,
                                    0x3ff0000000000001,
                                    0x3fefffffffffffff,
                                    0x3ca0000000000000,
                                    0x3c90000000000000,
                                    0x7fefffffffffffff,
                                    0x7ff0000000000000,
                                    0x7ff0000000000001,
                                    0x7ff7ffffffffffff,
                                    0x7ff8000000000000,
                                    0x7ff8000000000001,
                                    0x7fffffffffffffff,
                                    0x4340000000000000,
                                    0x4340000000000001,
                                    0x3cb0000000000000,
                                    2};
  uint64_t which = random_bits() % 20, sign = random_bits() & 1;
  switch (dtype) {
  case DSC_DTYPE_F16: return of_f16[which] | sign << 15;
  case DSC_DTYPE_BF16: return of_bf16[which] | sign << 15;
  case DSC_DTYPE_F32: return of_f32[which] | sign << 31;
  case DSC_DTYPE_F64: return of_f64[which] | sign << 63;
  default: break;
  }
  uint64_t top = (uint64_t)1 << (8 * dsc_dtype_bytes(dtype) - 1); /* the smallest integer with sign */
  return which % 2 == 0 ? top - 2 + which / 2 : which / 2 - 5;
}

/* Any bits, or a number whose exponent lets sums of sixteen stay numbers. */
static uint64_t ordinary(dsc_dtype dtype) {
  uint64_t bits = random_bits();
  if (dtype == DSC_DTYPE_F16 && bits % 4 != 0) return (bits >> 8 & 0x83ff) | (8 + (bits >> 40 & 15)) << 10;
  if (dtype == DSC_DTYPE_BF16 && bits % 4 != 0) return (bits >> 8 & 0x807f) | (120 + (bits >> 40 & 15)) << 7;
  if (dtype == DSC_DTYPE_F32 && bits % 4 != 0) return (bits >> 8 & 0x807fffff) | (120 + (bits >> 56 & 15)) << 23;
  if (dtype == DSC_DTYPE_F64 && bits % 4 != 0) return (bits & 0x800fffffffffffff) | (1016 + (bits >> 52 & 15)) << 52;
  return bits;
}

/* ---- One reduction ---- */

static uint8_t originals[MOST][ROOM], inputs_memory[MOST][ROOM], outputs_memory[MOST][ROOM], expected[ROOM];

typedef struct {
  int outputs;                            /* 0: as many as inputs */
  bool in_place, past_caches, apart, odd; /* apart: each array at another alignment; odd: not even whole elements */
  int self;
} layout;

static const layout layouts[] = {
    {.outputs = 1, .self = DSC_REDUCE_NO_SELF},
    {.outputs = 1, .in_place = true, .apart = true, .self = 0},
    {.outputs = 2, .in_place = true, .self = 1},
    {.outputs = 2, .apart = true, .self = DSC_REDUCE_NO_SELF},
    {.outputs = 0, .in_place = true, .apart = true, .self = 1},
    {.outputs = 1, .past_caches = true, .self = 0},
    {.outputs = 2, .past_caches = true, .apart = true, .self = DSC_REDUCE_NO_SELF},
    {.outputs = 0, .past_caches = true, .in_place = true, .self = 0},
    {.outputs = 1, .past_caches = true, .odd = true, .self = 1},
    {.outputs = 2, .in_place = true, .odd = true, .apart = true, .self = 0},
};

static size_t offset_of(const layout *how, int array, size_t size) {
  return GUARD + how->odd + (how->apart ? (size_t)(array * 5 + 1) % 16 * size % 64 : 0);
}

static void fill_originals(dsc_dtype dtype, int n, size_t count) {
  size_t size = dsc_dtype_bytes(dtype);
  for (int i = 0; i < n; i++)
    for (size_t k = 0; k < count; k++) {
      uint64_t bits = random_bits() % 3 == 0 ? special(dtype) : ordinary(dtype);
      memcpy(originals[i] + k * size, &bits, size);
    }
}

/* Of an array's memory only as much is used, and looked at, as the elements need. */
static size_t room_for(size_t bytes) { return GUARD + 65 + bytes + GUARD; }

/* Does memory hold these bytes at the offset, and guard bytes everywhere else? */
static bool holds(const uint8_t *memory, size_t offset, const uint8_t *bytes, size_t size) {
  static uint8_t guards[2 * GUARD + 65];
  if (guards[0] == 0) memset(guards, GUARD_BYTE, sizeof(guards));
  return memcmp(memory, guards, offset) == 0 && memcmp(memory + offset, bytes, size) == 0 &&
         memcmp(memory + offset + size, guards, room_for(size) - offset - size) == 0;
}

static void check(const char *kernels, dsc_reduce_kind kind, dsc_dtype dtype, int n, size_t count, const layout *how) {
  const void *inputs[MOST];
  void *outputs[MOST];
  size_t size = dsc_dtype_bytes(dtype), bytes = count * size;
  int num_outputs = how->outputs == 0 ? n : how->outputs < n || !how->in_place ? how->outputs : n;
  for (int i = 0; i < n; i++) {
    size_t offset = offset_of(how, i, size);
    memset(inputs_memory[i], GUARD_BYTE, room_for(bytes));
    memcpy(inputs_memory[i] + offset, originals[i], bytes);
    inputs[i] = inputs_memory[i] + offset;
  }
  for (int i = 0; i < num_outputs; i++) {
    memset(outputs_memory[i], GUARD_BYTE, room_for(bytes));
    outputs[i] =
        how->in_place ? inputs_memory[i] + offset_of(how, i, size) : outputs_memory[i] + offset_of(how, i + 3, size);
  }
  dsc_reduction what = {.inputs = inputs,
                        .outputs = outputs,
                        .num_inputs = n,
                        .num_outputs = num_outputs,
                        .count = count,
                        .self = how->self,
                        .past_caches = how->past_caches};
  dsc_reduce(kind, dtype, &what);
  for (int i = 0; i < n; i++) {
    bool is_output = how->in_place && i < num_outputs;
    if (!holds(inputs_memory[i], offset_of(how, i, size), is_output ? expected : originals[i], bytes))
      fail_msg("%s: %s of %d x %zu elements of type %d, layout %d: input %d is not as expected", kernels,
               dsc_reduce_kind_name(kind), n, count, (int)dtype, (int)(how - layouts), i);
  }
  for (int i = 0; i < num_outputs && !how->in_place; i++)
    if (!holds(outputs_memory[i], offset_of(how, i + 3, size), expected, bytes))
      fail_msg("%s: %s of %d x %zu elements of type %d, layout %d: output %d is not as expected", kernels,
               dsc_reduce_kind_name(kind), n, count, (int)dtype, (int)(how - layouts), i);
}

/* ---- Tests ---- */

static void check_all(dsc_reduce_kind kind, dsc_dtype dtype, int n, size_t count) {
  uint8_t *inputs[MOST];
  size_t size = dsc_dtype_bytes(dtype);
  fill_originals(dtype, n, count);
  for (int i = 0; i < n; i++) inputs[i] = originals[i];
  for (size_t k = 0; k < count; k++) expect_element(kind, dtype, inputs, n, k * size, expected + k * size);
  if (n == 1) memcpy(expected, originals[0], count * size); /* its bytes, even a NaN's that conversions would quiet */
  bool usable;
  const char *name;
  for (int index = 0; (name = dsc_kernels_at(index, &usable)) != NULL; index++) {
    if (!usable) continue;
    assert_int_equal(dsc_kernels_use(name), DISCO_OK);
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) check(name, kind, dtype, n, count, &layouts[i]);
  }
}

static void all_kernels_give_the_tree(void **state) {
  (void)state;
  static const int numbers[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16};
  static const size_t counts[] = {0, 1, 3, 4, 63, 64, 65, 1000};
  for (int kind = 0; kind < DSC_NUM_REDUCES; kind++)
    for (int dtype = 0; dtype < DSC_NUM_DTYPES; dtype++)
      for (size_t n = 0; n < sizeof(numbers) / sizeof(numbers[0]); n++)
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
          check_all((dsc_reduce_kind)kind, (dsc_dtype)dtype, numbers[n], counts[c]);
}

/* Every number of elements that ends somewhere else in a vector. */
static void every_small_count(void **state) {
  (void)state;
  for (int dtype = 0; dtype < DSC_NUM_DTYPES; dtype++)
    for (size_t count = 0; count * dsc_dtype_bytes((dsc_dtype)dtype) <= 200; count++) {
      check_all(DSC_REDUCE_SUM, (dsc_dtype)dtype, 2, count);
      check_all(DSC_REDUCE_MAX, (dsc_dtype)dtype, 3, count);
    }
}

/* More inputs than the tests above have, up to the most there may be. */
static void many_inputs(void **state) {
  (void)state;
  static const int numbers[] = {17, 31, 64, 1021, 1023, 1024};
  static uint8_t elements[DSC_REDUCE_MAX_INPUTS][12], result[12];
  uint8_t *inputs[DSC_REDUCE_MAX_INPUTS];
  void *output = result;
  bool usable;
  const char *name;
  for (int dtype = 0; dtype < DSC_NUM_DTYPES; dtype++)
    for (size_t k = 0; k < sizeof(numbers) / sizeof(numbers[0]); k++)
      for (int kind = 0; kind < DSC_NUM_REDUCES; kind++) {
        size_t size = dsc_dtype_bytes((dsc_dtype)dtype), count = 12 / size;
        for (int i = 0; i < numbers[k]; i++) {
          inputs[i] = elements[i];
          for (size_t at = 0; at < count * size; at += size) {
            uint64_t bits = ordinary((dsc_dtype)dtype);
            memcpy(elements[i] + at, &bits, size);
          }
        }
        for (size_t at = 0; at < count * size; at += size)
          expect_element((dsc_reduce_kind)kind, (dsc_dtype)dtype, inputs, numbers[k], at, expected + at);
        for (int index = 0; (name = dsc_kernels_at(index, &usable)) != NULL; index++) {
          if (!usable) continue;
          assert_int_equal(dsc_kernels_use(name), DISCO_OK);
          dsc_reduction what = {.inputs = (const void *const *)inputs,
                                .outputs = &output,
                                .num_inputs = numbers[k],
                                .num_outputs = 1,
                                .count = count,
                                .self = 5};
          dsc_reduce((dsc_reduce_kind)kind, (dsc_dtype)dtype, &what);
          assert_memory_equal(result, expected, count * size);
        }
      }
}

/* Long arrays: the lines asked for ahead, many blocks; a part of the arrays gives that part of the result. */
static void long_arrays_are_short_ones_put_together(void **state) {
  (void)state;
  enum { COUNT = 10007, FIRST = 3001 };
  for (int dtype = 0; dtype < DSC_NUM_DTYPES; dtype++) {
    size_t size = dsc_dtype_bytes((dsc_dtype)dtype);
    uint8_t *arrays[5], *whole = malloc(COUNT * size), *parts = malloc(COUNT * size);
    for (int i = 0; i < 5; i++) {
      arrays[i] = malloc(COUNT * size); /* exactly that much: sanitizers see a read behind it */
      for (size_t at = 0; at < COUNT * size; at += size) {
        uint64_t bits = ordinary((dsc_dtype)dtype);
        memcpy(arrays[i] + at, &bits, size);
      }
    }
    bool usable;
    const char *name;
    for (int index = 0; (name = dsc_kernels_at(index, &usable)) != NULL; index++)
      for (int n = 2; usable && n <= 5; n++)
        for (int past_caches = 0; past_caches < 2; past_caches++) {
          const void *rest[5];
          void *to = whole, *front = parts, *back = parts + FIRST * size;
          for (int i = 0; i < n; i++) rest[i] = arrays[i] + FIRST * size;
          dsc_reduction what = {.inputs = (const void *const *)arrays,
                                .outputs = &to,
                                .num_inputs = n,
                                .num_outputs = 1,
                                .count = COUNT,
                                .self = 0,
                                .past_caches = past_caches != 0};
          assert_int_equal(dsc_kernels_use(name), DISCO_OK);
          dsc_reduce(DSC_REDUCE_SUM, (dsc_dtype)dtype, &what);
          what.outputs = &front;
          what.count = FIRST;
          dsc_reduce_scalar(DSC_REDUCE_SUM, (dsc_dtype)dtype, &what);
          what.inputs = rest;
          what.outputs = &back;
          what.count = COUNT - FIRST;
          dsc_reduce_scalar(DSC_REDUCE_SUM, (dsc_dtype)dtype, &what);
          assert_memory_equal(whole, parts, COUNT * size);
        }
    for (int i = 0; i < 5; i++) free(arrays[i]);
    free(whole);
    free(parts);
  }
}

/* ---- float16 and bfloat16 ---- */

/* sign, fraction and exponent, by the definition of the format. */
static double by_definition(unsigned half, int exponent_bits, int fraction_bits) {
  int bias = (1 << (exponent_bits - 1)) - 1, exponent = (int)(half >> fraction_bits) & ((1 << exponent_bits) - 1);
  int fraction = (int)half & ((1 << fraction_bits) - 1);
  double size = exponent == 0 ? ldexp(fraction, 1 - bias - fraction_bits)
                              : ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
  return half >> 15 != 0 ? -size : size;
}

typedef struct {
  float (*widen)(uint16_t half);
  uint16_t (*narrow)(float from);
  int exponent_bits, fraction_bits;
} format;

static float widen_f16(uint16_t half) { return dsc_f32_of_f16(half); }
static float widen_bf16(uint16_t half) { return dsc_f32_of_bf16(half); }
static uint16_t narrow_f16(float from) { return dsc_f16_of_f32(from); }
static uint16_t narrow_bf16(float from) { return dsc_bf16_of_f32(from); }
static const format formats[] = {{widen_f16, narrow_f16, 5, 10}, {widen_bf16, narrow_bf16, 8, 7}};

static void all_halves_there_and_back(void **state) {
  (void)state;
  for (size_t i = 0; i < 2; i++) {
    const format *f = &formats[i];
    unsigned infinity = (1u << 15) - (1u << f->fraction_bits), quiet_bit = 1u << (f->fraction_bits - 1);
    for (unsigned half = 0; half < 65536; half++) {
      unsigned size = half & 0x7fff;
      float wide_one = f->widen((uint16_t)half);
      assert_int_equal(f->narrow(wide_one), size > infinity ? half | quiet_bit : half);
      assert_int_equal(dsc_f32_bits(wide_one) >> 31, half >> 15);
      if (size < infinity)
        assert_true((double)wide_one == by_definition(half, f->exponent_bits, f->fraction_bits));
      else
        assert_true(size == infinity ? isinf(wide_one) : isnan(wide_one));
    }
  }
}

/* Half way between any two neighbours the even one; just beside it the nearer one. Past the largest: infinity. */
static void halfway_goes_to_the_even_one(void **state) {
  (void)state;
  for (size_t i = 0; i < 2; i++) {
    const format *f = &formats[i];
    unsigned infinity = (1u << 15) - (1u << f->fraction_bits);
    for (unsigned half = 0; half < infinity; half++) {
      double low = by_definition(half, f->exponent_bits, f->fraction_bits);
      /* The pattern of infinity is where the next number would be. */
      double middle = (low + by_definition(half + 1, f->exponent_bits, f->fraction_bits)) / 2;
      float exact = (float)middle;
      assert_true((double)exact == middle);
      for (unsigned sign = 0; sign < 2; sign++) {
        unsigned minus = sign << 15;
        float at = sign != 0 ? -exact : exact;
        assert_int_equal(f->narrow(at), minus | (half + (half & 1)));
        assert_int_equal(f->narrow(nextafterf(at, 0)), minus | half);
        assert_int_equal(f->narrow(nextafterf(at, sign != 0 ? -INFINITY : INFINITY)), minus | (half + 1));
      }
    }
  }
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) static void compare_with_f16c(uint32_t bits) {
  float wide_one = dsc_f32_of_bits(bits);
  assert_int_equal(dsc_f16_of_f32(wide_one), (uint16_t)_cvtss_sh(wide_one, _MM_FROUND_TO_NEAREST_INT));
  __m128 widened = _mm_cvtph_ps(_mm_cvtsi32_si128((int)(bits & 0xffff)));
  assert_int_equal(dsc_f32_bits(dsc_f32_of_f16((uint16_t)bits)),
                   (uint32_t)_mm_cvtsi128_si32(_mm_castps_si128(widened)));
}

static void float16_as_the_instruction_does_it(void **state) {
  (void)state;
  bool usable = false;
  assert_string_equal(dsc_kernels_at(1, &usable), "avx2");
  if (!usable) skip(); /* this CPU has no such instruction to compare with */
  for (uint32_t bits = 0; bits < 65536; bits++) compare_with_f16c(bits);
  for (uint32_t high = 0; high < 1 << 19; high++) compare_with_f16c(high << 13 | (uint32_t)(random_bits() & 0x1fff));
  for (uint32_t high = 0; high < 1 << 19; high++) compare_with_f16c(high << 13 | 0x1000); /* ties */
  for (uint32_t high = 0; high < 1 << 19; high++) compare_with_f16c(high << 13);
}
#endif

/* ---- Names and choice ---- */

static bool child_uses(const char *setting, const char *name) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    setenv("DISCO_KERNELS", setting, 1);
    bool same = strcmp(dsc_kernels_name(), name) == 0;
    setenv("DISCO_KERNELS", strcmp(name, "scalar") == 0 ? "avx2" : "scalar", 1);
    _exit(same && strcmp(dsc_kernels_name(), name) == 0 ? 0 : 1); /* read once */
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* First of all: afterwards the choice has been made. */
static void the_environment_chooses(void **state) {
  (void)state;
  bool usable = false;
  const char *name, *best = "scalar";
  for (int i = 0; (name = dsc_kernels_at(i, &usable)) != NULL; i++)
    if (usable) {
      best = name;
      assert_true(child_uses(name, name));
    }
  assert_true(child_uses("best", best));
  assert_true(child_uses("", best));
  assert_true(child_uses("no such kernels", best));
}

static void kernels_have_names(void **state) {
  (void)state;
  bool usable = false;
  assert_string_equal(dsc_kernels_at(0, &usable), "scalar");
  assert_true(usable);
  assert_null(dsc_kernels_at(-1, &usable));
  assert_null(dsc_kernels_at(100, &usable));
  assert_int_equal(dsc_kernels_use("scalar"), DISCO_OK);
  assert_string_equal(dsc_kernels_name(), "scalar");
  assert_int_equal(dsc_kernels_use("mmx"), DISCO_VALUE);
  assert_non_null(strstr(dsc_thread_error()->message, "\"mmx\""));
  assert_string_equal(dsc_kernels_name(), "scalar");
  const char *name;
  for (int i = 0; (name = dsc_kernels_at(i, &usable)) != NULL; i++)
    if (!usable) assert_int_equal(dsc_kernels_use(name), DISCO_VALUE);
}

static void types_and_kinds(void **state) {
  (void)state;
  static const struct {
    uint8_t code, bits;
    dsc_dtype dtype;
  } known[] = {{kDLInt, 8, DSC_DTYPE_I8},     {kDLUInt, 8, DSC_DTYPE_U8},      {kDLInt, 16, DSC_DTYPE_I16},
               {kDLUInt, 16, DSC_DTYPE_U16},  {kDLInt, 32, DSC_DTYPE_I32},     {kDLUInt, 32, DSC_DTYPE_U32},
               {kDLInt, 64, DSC_DTYPE_I64},   {kDLUInt, 64, DSC_DTYPE_U64},    {kDLFloat, 16, DSC_DTYPE_F16},
               {kDLFloat, 32, DSC_DTYPE_F32}, {kDLBfloat, 16, DSC_DTYPE_BF16}, {kDLFloat, 64, DSC_DTYPE_F64}};
  assert_int_equal(sizeof(known) / sizeof(known[0]), DSC_NUM_DTYPES);
  for (size_t i = 0; i < DSC_NUM_DTYPES; i++)
    for (uint16_t lanes = 1; lanes <= 4; lanes++) {
      dsc_dtype dtype = DSC_NUM_DTYPES;
      assert_true(dsc_dtype_of((DLDataType){known[i].code, known[i].bits, lanes}, &dtype));
      assert_int_equal(dtype, known[i].dtype);
      assert_int_equal(dsc_dtype_bytes(dtype), known[i].bits / 8);
    }
  static const DLDataType unknown[] = {{kDLInt, 4, 1},      {kDLFloat, 8, 1}, {kDLBfloat, 32, 1},      {kDLBool, 8, 1},
                                       {kDLComplex, 64, 1}, {kDLInt, 128, 1}, {kDLOpaqueHandle, 64, 1}};
  for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
    dsc_dtype dtype = DSC_NUM_DTYPES;
    assert_false(dsc_dtype_of(unknown[i], &dtype));
    assert_int_equal(dtype, DSC_NUM_DTYPES);
  }
  assert_string_equal(dsc_reduce_kind_name(DSC_REDUCE_SUM), "sum");
  assert_string_equal(dsc_reduce_kind_name(DSC_REDUCE_AVG), "avg");
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_environment_chooses),
    cmocka_unit_test(kernels_have_names),
    cmocka_unit_test(types_and_kinds),
    cmocka_unit_test(all_halves_there_and_back),
    cmocka_unit_test(halfway_goes_to_the_even_one),
#if defined(__x86_64__)
    cmocka_unit_test(float16_as_the_instruction_does_it),
#endif
    cmocka_unit_test(all_kernels_give_the_tree),
    cmocka_unit_test(every_small_count),
    cmocka_unit_test(many_inputs),
    cmocka_unit_test(long_arrays_are_short_ones_put_together),
  };
  return cmocka_run_group_tests_name("ccl.reduce", tests, NULL, NULL);
}
