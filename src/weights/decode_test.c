/* Decoders: every bit pattern of what is small enough, by all implementations, against what the formats say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "weights/decode.h"

enum { BLOCK = 32, HALVES = 1 << 16, QUIET_NAN = 0x7fc00000 };

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/* The definition, in double: sign, exponent, mantissa. */
static uint32_t expected_half(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16, mantissa = half & 0x3ff;
  const int exponent = (half >> 10) & 31;
  if (exponent == 31) return sign | 0x7f800000 | mantissa << 13 | (mantissa != 0 ? 1u << 22 : 0);
  const double value = exponent == 0 ? ldexp((double)mantissa, -24) : ldexp((double)(mantissa + 1024), exponent - 25);
  return sign | bits_of((float)value);
}

static float half_value(uint16_t half) {
  const uint32_t bits = expected_half(half);
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/* All there are: scalar, what this CPU has, what is chosen. */
static int all_decoders(dsc_decoders ret_all[3]) {
  int count = 0;
  ret_all[count++] = dsc_decoders_scalar;
  ret_all[count++] = (dsc_decoders){dsc_decode_f16, dsc_decode_bf16, dsc_decode_q8_0, dsc_decode_q4_1};
  if (dsc_decoders_avx2() != NULL) ret_all[count++] = *dsc_decoders_avx2();
  return count;
}

static void every_half(void **state) {
  (void)state;
  dsc_decoders all[3];
  const int count = all_decoders(all);
  uint8_t *from = malloc(2 * HALVES + 1);
  float *to = malloc(HALVES * sizeof(*to));
  assert_true(from != NULL && to != NULL);
  for (int shift = 0; shift < 2; shift++) { /* unaligned, too */
    for (uint32_t i = 0; i < HALVES; i++) {
      from[shift + 2 * i] = (uint8_t)i;
      from[shift + 2 * i + 1] = (uint8_t)(i >> 8);
    }
    for (int d = 0; d < count; d++) {
      all[d].f16(from + shift, HALVES, to);
      for (uint32_t i = 0; i < HALVES; i++) assert_int_equal(bits_of(to[i]), expected_half((uint16_t)i));
      all[d].bf16(from + shift, HALVES, to);
      for (uint32_t i = 0; i < HALVES; i++) assert_int_equal(bits_of(to[i]), i << 16);
    }
  }
  free(from);
  free(to);
}

/* Known values, written down by hand. */
static void known_halves(void **state) {
  (void)state;
  static const struct {
    uint16_t half;
    uint32_t single;
  } known[] = {{0x0000, 0x00000000}, {0x8000, 0x80000000}, {0x3c00, 0x3f800000}, {0xc000, 0xc0000000},
               {0x7bff, 0x477fe000}, {0x0400, 0x38800000}, {0x03ff, 0x387fc000}, {0x0001, 0x33800000},
               {0x8001, 0xb3800000}, {0x7c00, 0x7f800000}, {0xfc00, 0xff800000}, {0x7e00, 0x7fc00000},
               {0x7c01, 0x7fc02000}, {0xfd55, 0xffeaa000}};
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
    float value;
    const uint8_t bytes[2] = {(uint8_t)known[i].half, (uint8_t)(known[i].half >> 8)};
    dsc_decode_f16(bytes, 1, &value);
    assert_int_equal(bits_of(value), known[i].single);
  }
}

/* Every length around the vectors, and nothing behind the last element. */
static void every_length(void **state) {
  (void)state;
  dsc_decoders all[3];
  const int decoders = all_decoders(all);
  uint8_t from[2 * 40];
  for (size_t i = 0; i < sizeof(from); i++) from[i] = (uint8_t)(i * 37 + 11);
  for (int d = 0; d < decoders; d++)
    for (int64_t count = 0; count < 40; count++) {
      /* exactly as many bytes as are to be read: the address sanitizer watches */
      uint8_t *exact = malloc(2 * (size_t)count + 1);
      float *to = malloc(((size_t)count + 1) * sizeof(*to));
      assert_true(exact != NULL && to != NULL);
      memcpy(exact + 1, from, 2 * (size_t)count);
      memset(to + count, 0x5a, sizeof(*to));
      all[d].f16(exact + 1, count, to);
      for (int64_t i = 0; i < count; i++)
        assert_int_equal(bits_of(to[i]), expected_half((uint16_t)(from[2 * i] | from[2 * i + 1] << 8)));
      assert_int_equal(bits_of(to[count]), 0x5a5a5a5a);
      all[d].bf16(exact + 1, count, to);
      for (int64_t i = 0; i < count; i++)
        assert_int_equal(bits_of(to[i]), (uint32_t)(from[2 * i] | from[2 * i + 1] << 8) << 16);
      assert_int_equal(bits_of(to[count]), 0x5a5a5a5a);
      free(exact);
      free(to);
    }
}

/* ---- Blocks ---- */

static void put_half(uint8_t *to, uint16_t half) {
  to[0] = (uint8_t)half;
  to[1] = (uint8_t)(half >> 8);
}

/* In double, where product and sum are exact; rounded once. */
static uint32_t expected_linear(uint16_t d, int q, uint16_t m, int with_minimum) {
  const double product = (double)half_value(d) * q;
  const double value = with_minimum ? product + (double)half_value(m) : product;
  return isnan(value) ? (uint32_t)QUIET_NAN : bits_of((float)value);
}

/* Every scale with every quant: eight blocks of 32 for each scale. */
static void every_q8_0(void **state) {
  (void)state;
  dsc_decoders all[3];
  const int decoders = all_decoders(all);
  uint8_t *blocks = malloc(8 * 34 + 1);
  float *to = malloc((8 * BLOCK + 1) * sizeof(*to));
  assert_true(blocks != NULL && to != NULL);
  for (uint32_t scale = 0; scale < HALVES; scale++) {
    for (int i = 0; i < 8 * BLOCK; i++) blocks[1 + i / BLOCK * 34 + 2 + i % BLOCK] = (uint8_t)i;
    for (int i = 0; i < 8; i++) put_half(blocks + 1 + i * 34, (uint16_t)scale);
    memset(to + 8 * BLOCK, 0x5a, sizeof(*to));
    for (int d = 0; d < decoders; d++) {
      all[d].q8_0(blocks + 1, 8 * BLOCK, to);
      for (int i = 0; i < 8 * BLOCK; i++)
        if (bits_of(to[i]) != expected_linear((uint16_t)scale, (int8_t)i, 0, 0))
          fail_msg("decoder %d, scale %#x, quant %d: %#x", d, scale, (int8_t)i, bits_of(to[i]));
    }
    assert_int_equal(bits_of(to[8 * BLOCK]), 0x5a5a5a5a);
  }
  free(blocks);
  free(to);
}

/* Each scale, with minima that are many and odd; every quant in every place. */
static void every_q4_1(void **state) {
  (void)state;
  static const uint16_t minima[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7c01, 0xfe00};
  enum { MINIMA = sizeof(minima) / sizeof(minima[0]), BLOCKS = MINIMA + 6 };
  dsc_decoders all[3];
  const int decoders = all_decoders(all);
  uint8_t *blocks = malloc(BLOCKS * 20 + 1);
  float *to = malloc((BLOCKS * BLOCK + 1) * sizeof(*to));
  assert_true(blocks != NULL && to != NULL);
  for (uint32_t scale = 0; scale < HALVES; scale++) {
    uint16_t used[BLOCKS];
    for (uint32_t b = 0; b < BLOCKS; b++) {
      uint8_t *block = blocks + 1 + b * 20;
      used[b] = b < MINIMA ? minima[b] : (uint16_t)((scale + b) * 40503u >> 3);
      put_half(block, (uint16_t)scale);
      put_half(block + 2, used[b]);
      for (uint32_t i = 0; i < 16; i++) block[4 + i] = (uint8_t)((i + b) % 16 | ((i * 7 + scale) % 16) << 4);
    }
    memset(to + BLOCKS * BLOCK, 0x5a, sizeof(*to));
    for (int d = 0; d < decoders; d++) {
      all[d].q4_1(blocks + 1, BLOCKS * BLOCK, to);
      for (uint32_t b = 0; b < BLOCKS; b++)
        for (uint32_t i = 0; i < BLOCK; i++) {
          const int q = i < 16 ? (int)((i + b) % 16) : (int)(((i - 16) * 7 + scale) % 16);
          if (bits_of(to[b * BLOCK + i]) != expected_linear((uint16_t)scale, q, used[b], 1))
            fail_msg("decoder %d, scale %#x, minimum %#x, quant %d: %#x", d, scale, used[b], q,
                     bits_of(to[b * BLOCK + i]));
        }
    }
    assert_int_equal(bits_of(to[BLOCKS * BLOCK]), 0x5a5a5a5a);
  }
  free(blocks);
  free(to);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_half), cmocka_unit_test(known_halves), cmocka_unit_test(every_length),
      cmocka_unit_test(every_q8_0), cmocka_unit_test(every_q4_1),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
