/* float16 and bfloat16 in plain C, bit for bit as the conversion instructions of x86 do it in their default mode: to
 * nearest even, subnormals kept, a NaN quieted with the top bits of its payload. Any thread. */
#ifndef DSC_CCL_REDUCE_HALF_H
#define DSC_CCL_REDUCE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t dsc_f32_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static inline float dsc_f32_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

static inline float dsc_f32_of_f16(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 0x3ff;
  if (exponent == 31) return dsc_f32_of_bits(sign | 0x7f800000 | fraction << 13 | (fraction != 0 ? 0x400000 : 0));
  if (exponent != 0) return dsc_f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
  return dsc_f32_of_bits(sign | dsc_f32_bits((float)fraction * 0x1p-24f)); /* exact: a subnormal counts 2^-24 */
}

static inline uint16_t dsc_f16_of_f32(float value) {
  uint32_t bits = dsc_f32_bits(value), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (size >> 13 & 0x3ff));
  if (size >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* 65536 and more; from 65520 on rounding carries there */
  if (size >= 0x38800000) return (uint16_t)(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
  if (size <= 0x33000000) return (uint16_t)sign; /* up to half of 2^-24: to zero */
  uint32_t fraction = (size & 0x7fffff) | 0x800000, shift = 126 - (size >> 23);
  uint32_t half = (uint32_t)1 << (shift - 1);
  return (uint16_t)(sign | (fraction + half - 1 + (fraction >> shift & 1)) >> shift);
}

static inline float dsc_f32_of_bf16(uint16_t half) { return dsc_f32_of_bits((uint32_t)half << 16); }

static inline uint16_t dsc_bf16_of_f32(float value) {
  uint32_t bits = dsc_f32_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
