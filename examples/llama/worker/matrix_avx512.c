/* Kernels for processors with AVX-512 and its 8-bit dot product (VNNI): a vector is one number of each of a group's 16
 * rows, and one instruction multiplies 4 columns of all of them. */
#include "worker/matrix_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET
/* The loops over the vectors of a tile must vanish: their sums live in registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

enum { AHEAD = 320 }; /* bytes */

/* What is read next. Measured: hardware brings memory into the second cache by itself, and what has to be asked for is
 * no more than the next 5 lines. Behind the last block there may be nothing: a hint never faults. */
INLINE void prefetch(const void *from, int bytes) {
  UNROLL
  for (int i = 0; i < bytes; i += 64) _mm_prefetch((const char *)((uintptr_t)from + i), _MM_HINT_T0);
}

INLINE __m512i four(const int8_t *values) {
  int32_t bytes;
  memcpy(&bytes, values, 4);
  return _mm512_set1_epi32(bytes);
}

INLINE __m512 halves(const uint8_t *from) {
  return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)from));
}

/* ---- Rounding --------------------------------------------------------------------------------------------------- */

TARGET static void round_blocks(int64_t blocks, const float *x, rounded_block *to) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int64_t b = 0; b < blocks; b++, x += MATRIX_BLOCK, to++) {
    __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    /* Compared as integers, so that a NaN is the greatest and reaches the scale. */
    __m512i greater = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                                       _mm512_and_si512(_mm512_castps_si512(high), magnitude));
    int32_t bits = _mm512_reduce_max_epi32(greater);
    float greatest;
    memcpy(&greatest, &bits, sizeof(bits));
    float factor = 127.0f / greatest;
    __mmask16 usable = factor > 0 && factor <= 0x1.fffffep127f ? 0xffff : 0;
    __m512 factors = _mm512_set1_ps(factor);
    __m512i first = _mm512_maskz_cvtps_epi32(usable, _mm512_mul_ps(low, factors));
    __m512i second = _mm512_maskz_cvtps_epi32(usable, _mm512_mul_ps(high, factors));
    _mm_storeu_si128((__m128i *)(void *)to->rounded, _mm512_cvtsepi32_epi8(first));
    _mm_storeu_si128((__m128i *)(void *)(to->rounded + 16), _mm512_cvtsepi32_epi8(second));
    int32_t total = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
    to->scale = greatest / 127.0f;
    to->sum = to->scale * (float)total;
    to->offset = -Q8_0_ZERO * total;
  }
}

/* ---- Multiplying: a tile of vectors ------------------------------------------------------------------------------
 * `tile`, a constant where these are inlined, is the number of sums; of `count` vectors the last one is multiplied
 * again and again where there are fewer. */

INLINE int64_t vector_of(int64_t first, int64_t count, int t) { return first + (t < count ? t : count - 1); }

INLINE void tile_f32(int tile, const float *weights, const activations *x, int64_t first, int64_t count, float *out) {
  const float *values[MATRIX_TILE];
  __m512 even[MATRIX_TILE], odd[MATRIX_TILE];
  UNROLL
  for (int t = 0; t < tile; t++) {
    values[t] = x->x + vector_of(first, count, t) * x->columns;
    even[t] = odd[t] = _mm512_setzero_ps();
  }
  int64_t c = 0;
  for (; c + 1 < x->columns; c += 2, weights += 2 * MATRIX_GROUP) {
    prefetch(weights + 2 * MATRIX_GROUP, 128);
    __m512 here = _mm512_load_ps(weights), next = _mm512_load_ps(weights + MATRIX_GROUP);
    UNROLL
    for (int t = 0; t < tile; t++) {
      even[t] = _mm512_fmadd_ps(here, _mm512_set1_ps(values[t][c]), even[t]);
      odd[t] = _mm512_fmadd_ps(next, _mm512_set1_ps(values[t][c + 1]), odd[t]);
    }
  }
  if (c < x->columns) {
    __m512 here = _mm512_load_ps(weights);
    UNROLL
    for (int t = 0; t < tile; t++) even[t] = _mm512_fmadd_ps(here, _mm512_set1_ps(values[t][c]), even[t]);
  }
  UNROLL
  for (int t = 0; t < tile; t++)
    if (t < count) _mm512_storeu_ps(out + t * MATRIX_GROUP, _mm512_add_ps(even[t], odd[t]));
}

INLINE void tile_q4_1(int tile, const uint8_t *packed, const activations *x, int64_t first, int64_t count, float *out) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const rounded_block *block[MATRIX_TILE];
  __m512 sums[MATRIX_TILE];
  UNROLL
  for (int t = 0; t < tile; t++) {
    block[t] = x->rounded + vector_of(first, count, t) * x->blocks;
    sums[t] = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < x->blocks; b++, packed += Q4_1_BYTES) {
    prefetch(packed + AHEAD, Q4_1_BYTES);
    __m512i dots[MATRIX_TILE], others[MATRIX_TILE];
    UNROLL
    for (int t = 0; t < tile; t++) dots[t] = others[t] = _mm512_setzero_si512();
    UNROLL
    for (int k = 0; k < 4; k++) {
      __m512i pairs = _mm512_load_si512(packed + Q4_1_SCALES + 64 * k);
      __m512i low = _mm512_and_si512(pairs, nibble), high = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), nibble);
      UNROLL
      for (int t = 0; t < tile; t++) {
        dots[t] = _mm512_dpbusd_epi32(dots[t], low, four(block[t][b].rounded + 4 * k));
        others[t] = _mm512_dpbusd_epi32(others[t], high, four(block[t][b].rounded + 16 + 4 * k));
      }
    }
    __m512 scales = halves(packed), least = halves(packed + 32);
    UNROLL
    for (int t = 0; t < tile; t++) {
      dots[t] = _mm512_add_epi32(dots[t], others[t]);
      __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[t]), _mm512_set1_ps(block[t][b].scale));
      sums[t] = _mm512_fmadd_ps(scales, scaled, sums[t]);
      sums[t] = _mm512_fmadd_ps(least, _mm512_set1_ps(block[t][b].sum), sums[t]);
    }
  }
  UNROLL
  for (int t = 0; t < tile; t++)
    if (t < count) _mm512_storeu_ps(out + t * MATRIX_GROUP, sums[t]);
}

INLINE void tile_q8_0(int tile, const uint8_t *packed, const activations *x, int64_t first, int64_t count, float *out) {
  const uint8_t *numbers = packed + q8_0_scales(x->blocks);
  const rounded_block *block[MATRIX_TILE];
  __m512 sums[MATRIX_TILE];
  UNROLL
  for (int t = 0; t < tile; t++) {
    block[t] = x->rounded + vector_of(first, count, t) * x->blocks;
    sums[t] = _mm512_setzero_ps();
  }
  for (int64_t b = 0; b < x->blocks; b++, packed += Q8_0_SCALES, numbers += Q8_0_NUMBERS) {
    prefetch(numbers + AHEAD, Q8_0_NUMBERS);
    __m512i dots[MATRIX_TILE];
    UNROLL
    for (int t = 0; t < tile; t++) dots[t] = _mm512_set1_epi32(block[t][b].offset);
    UNROLL
    for (int k = 0; k < 8; k++) {
      __m512i weights = _mm512_load_si512(numbers + 64 * k);
      UNROLL
      for (int t = 0; t < tile; t++) dots[t] = _mm512_dpbusd_epi32(dots[t], weights, four(block[t][b].rounded + 4 * k));
    }
    __m512 scales = halves(packed);
    UNROLL
    for (int t = 0; t < tile; t++) {
      __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[t]), _mm512_set1_ps(block[t][b].scale));
      sums[t] = _mm512_fmadd_ps(scales, scaled, sums[t]);
    }
  }
  UNROLL
  for (int t = 0; t < tile; t++)
    if (t < count) _mm512_storeu_ps(out + t * MATRIX_GROUP, sums[t]);
}

#define DOT(kind)                                                                                                    \
  TARGET static void dot_##kind(const void *group, const activations *x, int64_t first, int64_t count, float *out) { \
    if (count == 1)                                                                                                  \
      tile_##kind(1, group, x, first, count, out);                                                                   \
    else if (count <= 4)                                                                                             \
      tile_##kind(4, group, x, first, count, out);                                                                   \
    else                                                                                                             \
      tile_##kind(8, group, x, first, count, out);                                                                   \
  }
DOT(f32)
DOT(q4_1)
DOT(q8_0)

const kernels *avx512_kernels(void) {
  static const kernels self = {
      .name = "avx512-vnni",
      .tile = 8,
      .round = round_blocks,
      .dot = {[MATRIX_F32] = dot_f32, [MATRIX_Q4_1] = dot_q4_1, [MATRIX_Q8_0] = dot_q8_0},
  };
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vnni")
             ? &self
             : NULL;
}
#else
const kernels *avx512_kernels(void) { return NULL; }
#endif
