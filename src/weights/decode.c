#include "weights/decode.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { BLOCK = 32, Q8_0_BYTES = 2 + BLOCK, Q4_1_BYTES = 2 + 2 + BLOCK / 2 };

static const uint32_t quiet_nan = 0x7fc00000;

/* ---- Scalar ---- */

static inline uint16_t load_16(const uint8_t *from) { return (uint16_t)(from[0] | from[1] << 8); }

static inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/* A selection instead of branches, so that compilers vectorise it. A subnormal number is its mantissa behind the
 * exponent of 2^-14, of which 2^-14 is taken again. */
static inline float float_of_f16(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
  const float least = 0x1p-14f, shifted = float_of((magnitude << 13) + (113u << 23)) - least;
  uint32_t bits = (magnitude << 13) + (112u << 23), subnormal;
  memcpy(&subnormal, &shifted, sizeof(subnormal));
  if (magnitude >= 0x7c00) bits += 112u << 23;
  if (magnitude > 0x7c00) bits |= 1u << 22;
  return float_of(sign | (magnitude < 0x0400 ? subnormal : bits));
}

static void scalar_f16(const void *restrict from, int64_t count, float *restrict to) {
  const uint8_t *bytes = from;
  for (int64_t i = 0; i < count; i++) to[i] = float_of_f16(load_16(bytes + 2 * i));
}

static void scalar_bf16(const void *restrict from, int64_t count, float *restrict to) {
  const uint8_t *bytes = from;
  for (int64_t i = 0; i < count; i++) to[i] = float_of((uint32_t)load_16(bytes + 2 * i) << 16);
}

static inline bool is_finite_f16(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

/* d * q + m where a factor is not finite: which NaN an operation gives is left to CPU and compiler, here it is one. */
static __attribute__((noinline)) void not_finite(float *to, float d, float m) {
  for (int i = 0; i < BLOCK; i++) {
    const float value = d * to[i] + m;
    to[i] = value != value ? float_of(quiet_nan) : value;
  }
}

static void q8_0_not_finite(const uint8_t *block, float *to) {
  for (int i = 0; i < BLOCK; i++) to[i] = (int8_t)block[2 + i];
  not_finite(to, float_of_f16(load_16(block)), 0);
}

static void q4_1_not_finite(const uint8_t *block, float *to) {
  for (int i = 0; i < BLOCK / 2; i++) {
    to[i] = (float)(block[4 + i] & 15);
    to[i + BLOCK / 2] = (float)(block[4 + i] >> 4);
  }
  not_finite(to, float_of_f16(load_16(block)), float_of_f16(load_16(block + 2)));
}

static void scalar_q8_0(const void *restrict from, int64_t count, float *restrict to) {
  const uint8_t *block = from;
  for (; count >= BLOCK; count -= BLOCK, block += Q8_0_BYTES, to += BLOCK) {
    const uint16_t scale = load_16(block);
    if (!is_finite_f16(scale)) {
      q8_0_not_finite(block, to);
      continue;
    }
    const float d = float_of_f16(scale);
    for (int i = 0; i < BLOCK; i++) to[i] = d * (float)(int8_t)block[2 + i];
  }
}

static void scalar_q4_1(const void *restrict from, int64_t count, float *restrict to) {
  const uint8_t *block = from;
  for (; count >= BLOCK; count -= BLOCK, block += Q4_1_BYTES, to += BLOCK) {
    const uint16_t scale = load_16(block), minimum = load_16(block + 2);
    if (!is_finite_f16(scale) || !is_finite_f16(minimum)) {
      q4_1_not_finite(block, to);
      continue;
    }
    const float d = float_of_f16(scale), m = float_of_f16(minimum);
    for (int i = 0; i < BLOCK / 2; i++) {
      to[i] = d * (float)(block[4 + i] & 15) + m;
      to[i + BLOCK / 2] = d * (float)(block[4 + i] >> 4) + m;
    }
  }
}

const dsc_decoders dsc_decoders_scalar = {scalar_f16, scalar_bf16, scalar_q8_0, scalar_q4_1};

/* ---- AVX2 with F16C ---- */

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,f16c")))

static inline AVX2 __m128i load_128(const void *from) { return _mm_loadu_si128(from); }
static inline AVX2 __m256 floats_of_i32(__m256i v) { return _mm256_cvtepi32_ps(v); }

static AVX2 void avx2_f16(const void *from, int64_t count, float *to) {
  const uint8_t *bytes = from;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(to + i, _mm256_cvtph_ps(load_128(bytes + 2 * i)));
  scalar_f16(bytes + 2 * i, count - i, to + i);
}

static AVX2 void avx2_bf16(const void *from, int64_t count, float *to) {
  const uint8_t *bytes = from;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(bytes + 2 * i)), 16);
    _mm256_storeu_ps(to + i, _mm256_castsi256_ps(bits));
  }
  scalar_bf16(bytes + 2 * i, count - i, to + i);
}

static AVX2 void avx2_q8_0(const void *from, int64_t count, float *to) {
  const uint8_t *block = from;
  for (; count >= BLOCK; count -= BLOCK, block += Q8_0_BYTES, to += BLOCK) {
    const uint16_t scale = load_16(block);
    if (__builtin_expect(!is_finite_f16(scale), 0)) {
      q8_0_not_finite(block, to);
      continue;
    }
    const __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale)));
    for (int i = 0; i < BLOCK; i += 8) {
      const __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(block + 2 + i)));
      _mm256_storeu_ps(to + i, _mm256_mul_ps(d, floats_of_i32(q)));
    }
  }
}

/* 16 quants, a byte each. */
static inline AVX2 void store_q4_1(__m128i q, __m256 d, __m256 m, float *to) {
  const __m256 low = floats_of_i32(_mm256_cvtepu8_epi32(q));
  const __m256 high = floats_of_i32(_mm256_cvtepu8_epi32(_mm_srli_si128(q, 8)));
  _mm256_storeu_ps(to, _mm256_add_ps(_mm256_mul_ps(d, low), m));
  _mm256_storeu_ps(to + 8, _mm256_add_ps(_mm256_mul_ps(d, high), m));
}

static AVX2 void avx2_q4_1(const void *from, int64_t count, float *to) {
  const uint8_t *block = from;
  const __m128i four_bits = _mm_set1_epi8(15);
  for (; count >= BLOCK; count -= BLOCK, block += Q4_1_BYTES, to += BLOCK) {
    const uint16_t scale = load_16(block), minimum = load_16(block + 2);
    if (__builtin_expect(!is_finite_f16(scale) || !is_finite_f16(minimum), 0)) {
      q4_1_not_finite(block, to);
      continue;
    }
    const __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(scale)));
    const __m256 m = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(minimum)));
    const __m128i q = load_128(block + 4);
    store_q4_1(_mm_and_si128(q, four_bits), d, m, to);
    store_q4_1(_mm_and_si128(_mm_srli_epi16(q, 4), four_bits), d, m, to + BLOCK / 2);
  }
}

const dsc_decoders *dsc_decoders_avx2(void) {
  static const dsc_decoders decoders = {avx2_f16, avx2_bf16, avx2_q8_0, avx2_q4_1};
  /* clang 14 cannot ask for F16C by name. */
  unsigned eax, ebx, ecx = 0, edx;
  __builtin_cpu_init();
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx2") ? &decoders : NULL;
}
#else
const dsc_decoders *dsc_decoders_avx2(void) { return NULL; }
#endif

/* ---- The fastest ---- */

/* Asked once: a virtual machine answers cpuid slowly. Threads that come here together find the same. */
static const dsc_decoders *fastest(void) {
  static _Atomic(const dsc_decoders *) in_use;
  const dsc_decoders *decoders = atomic_load_explicit(&in_use, memory_order_relaxed);
  if (decoders != NULL) return decoders;
  decoders = dsc_decoders_avx2();
  if (decoders == NULL) decoders = &dsc_decoders_scalar;
  atomic_store_explicit(&in_use, decoders, memory_order_relaxed);
  return decoders;
}

void dsc_decode_f16(const void *from, int64_t count, float *to) { fastest()->f16(from, count, to); }
void dsc_decode_bf16(const void *from, int64_t count, float *to) { fastest()->bf16(from, count, to); }
void dsc_decode_q8_0(const void *from, int64_t count, float *to) { fastest()->q8_0(from, count, to); }
void dsc_decode_q4_1(const void *from, int64_t count, float *to) { fastest()->q4_1(from, count, to); }
