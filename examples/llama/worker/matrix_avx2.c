/* Kernels for processors with AVX2, FMA and half-precision conversion: a vector is one number of 8 rows, so a group has
 * a lower and an upper half. */
#include "worker/matrix_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) TARGET
/* The loops over the vectors of a tile must vanish: their sums live in registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

enum {
  TILE = 4,
  HALF = MATRIX_GROUP / 2,
  AHEAD = 320, /* bytes */
};

/* What is read next. Measured: hardware brings memory into the second cache by itself, and what has to be asked for is
 * no more than the next 5 lines. Behind the last block there may be nothing: a hint never faults. */
INLINE void prefetch(const void *from, int bytes) {
  UNROLL
  for (int i = 0; i < bytes; i += 64) _mm_prefetch((const char *)((uintptr_t)from + i), _MM_HINT_T0);
}

/* A sum as it is here: else gcc adds up in another order, with more sums at a time than there are registers. */
#define KEEP(sum) __asm__("" : "+x"(sum))

INLINE __m256i load(const uint8_t *from) { return _mm256_load_si256((const __m256i *)(const void *)from); }

INLINE __m256i four(const int8_t *values) {
  int32_t bytes;
  memcpy(&bytes, values, 4);
  return _mm256_set1_epi32(bytes);
}

INLINE __m256 halves(const uint8_t *from) {
  return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)from));
}

/* ---- Rounding --------------------------------------------------------------------------------------------------- */

/* The greatest magnitude of 32 floats. Compared as integers, so that a NaN is the greatest and reaches the scale. */
INLINE float greatest_magnitude(const __m256 x[4]) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i greater = _mm256_setzero_si256();
  UNROLL
  for (int i = 0; i < 4; i++)
    greater = _mm256_max_epi32(greater, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
  __m128i four_left = _mm_max_epi32(_mm256_castsi256_si128(greater), _mm256_extracti128_si256(greater, 1));
  __m128i two_left = _mm_max_epi32(four_left, _mm_shuffle_epi32(four_left, _MM_SHUFFLE(1, 0, 3, 2)));
  __m128i one_left = _mm_max_epi32(two_left, _mm_shuffle_epi32(two_left, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtss_f32(_mm_castsi128_ps(one_left));
}

INLINE int32_t total_of(__m256i x) {
  __m128i four_left = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  __m128i two_left = _mm_add_epi32(four_left, _mm_shuffle_epi32(four_left, _MM_SHUFFLE(1, 0, 3, 2)));
  return _mm_cvtsi128_si32(_mm_add_epi32(two_left, _mm_shuffle_epi32(two_left, _MM_SHUFFLE(2, 3, 0, 1))));
}

TARGET static void round_blocks(int64_t blocks, const float *x, rounded_block *to) {
  /* Packing takes 128 bits of each vector at a time; this puts the groups of four back in order. */
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int64_t b = 0; b < blocks; b++, x += MATRIX_BLOCK, to++) {
    __m256 parts[4];
    __m256i whole[4];
    UNROLL
    for (int i = 0; i < 4; i++) parts[i] = _mm256_loadu_ps(x + 8 * i);
    float greatest = greatest_magnitude(parts), factor = 127.0f / greatest;
    __m256i usable = _mm256_set1_epi32(factor > 0 && factor <= 0x1.fffffep127f ? -1 : 0);
    UNROLL
    for (int i = 0; i < 4; i++)
      whole[i] = _mm256_and_si256(usable, _mm256_cvtps_epi32(_mm256_mul_ps(parts[i], _mm256_set1_ps(factor))));
    __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
    _mm256_storeu_si256((__m256i *)(void *)to->rounded, _mm256_permutevar8x32_epi32(packed, order));
    int32_t total =
        total_of(_mm256_add_epi32(_mm256_add_epi32(whole[0], whole[1]), _mm256_add_epi32(whole[2], whole[3])));
    to->scale = greatest / 127.0f;
    to->sum = to->scale * (float)total;
    to->offset = -Q8_0_ZERO * total;
  }
}

/* ---- Multiplying: a tile of vectors ------------------------------------------------------------------------------
 * Here `tile`, `from` and `to` are constants where these are inlined. `tile` is the number of sums; of `count` vectors
 * the last one is multiplied again and again where there are fewer. Halves `from` up to `to` of the group: both in one
 * pass for one vector, when weights come from memory; one by one for a tile, whose sums fill the registers. */

INLINE int64_t vector_of(int64_t first, int64_t count, int t) { return first + (t < count ? t : count - 1); }

INLINE void part_f32(int tile, int from, int to, const float *weights, const activations *x, int64_t first,
                     int64_t count, float *out) {
  const float *values[TILE];
  __m256 even[2][TILE], odd[2][TILE];
  UNROLL
  for (int t = 0; t < tile; t++) {
    values[t] = x->x + vector_of(first, count, t) * x->columns;
    even[0][t] = even[1][t] = odd[0][t] = odd[1][t] = _mm256_setzero_ps();
  }
  int64_t c = 0;
  for (; c + 1 < x->columns; c += 2, weights += 2 * MATRIX_GROUP) {
    prefetch(weights + 2 * MATRIX_GROUP, 128);
    UNROLL
    for (int half = from; half < to; half++) {
      __m256 here = _mm256_load_ps(weights + HALF * half), next = _mm256_load_ps(weights + MATRIX_GROUP + HALF * half);
      UNROLL
      for (int t = 0; t < tile; t++) {
        even[half][t] = _mm256_fmadd_ps(here, _mm256_set1_ps(values[t][c]), even[half][t]);
        odd[half][t] = _mm256_fmadd_ps(next, _mm256_set1_ps(values[t][c + 1]), odd[half][t]);
      }
    }
  }
  UNROLL
  for (int half = from; half < to; half++) UNROLL
  for (int t = 0; t < tile; t++) {
    if (c < x->columns) /* the last one of an odd number */
      even[half][t] =
          _mm256_fmadd_ps(_mm256_load_ps(weights + HALF * half), _mm256_set1_ps(values[t][c]), even[half][t]);
    if (t < count) _mm256_storeu_ps(out + t * MATRIX_GROUP + HALF * half, _mm256_add_ps(even[half][t], odd[half][t]));
  }
}

/* 4-bit numbers times 8-bit ones, added up in 16 bits: 8 steps of 2 * 15 * 127 are at most 30480. */
INLINE void dots_q4_1(int tile, const uint8_t *numbers, const rounded_block *const block[], int64_t b, __m256i dots[]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  UNROLL
  for (int t = 0; t < tile; t++) dots[t] = _mm256_setzero_si256();
  UNROLL
  for (int k = 0; k < 4; k++) {
    __m256i pairs = load(numbers + 64 * k);
    __m256i low = _mm256_and_si256(pairs, nibble), high = _mm256_and_si256(_mm256_srli_epi16(pairs, 4), nibble);
    UNROLL
    for (int t = 0; t < tile; t++) {
      const int8_t *at = block[t][b].rounded + 4 * k;
      dots[t] = _mm256_add_epi16(dots[t], _mm256_maddubs_epi16(low, four(at)));
      dots[t] = _mm256_add_epi16(dots[t], _mm256_maddubs_epi16(high, four(at + 16)));
      KEEP(dots[t]);
    }
  }
  UNROLL
  for (int t = 0; t < tile; t++) dots[t] = _mm256_madd_epi16(dots[t], _mm256_set1_epi16(1));
}

INLINE void part_q4_1(int tile, int from, int to, const uint8_t *packed, const activations *x, int64_t first,
                      int64_t count, float *out) {
  const rounded_block *block[TILE];
  __m256 sums[2][TILE];
  UNROLL
  for (int t = 0; t < tile; t++) {
    block[t] = x->rounded + vector_of(first, count, t) * x->blocks;
    sums[0][t] = sums[1][t] = _mm256_setzero_ps();
  }
  for (int64_t b = 0; b < x->blocks; b++, packed += Q4_1_BYTES) {
    prefetch(packed + AHEAD, Q4_1_BYTES);
    UNROLL
    for (int half = from; half < to; half++) {
      __m256i dots[TILE];
      dots_q4_1(tile, packed + Q4_1_SCALES + 32 * half, block, b, dots);
      __m256 scales = halves(packed + 16 * half), least = halves(packed + 32 + 16 * half);
      UNROLL
      for (int t = 0; t < tile; t++) {
        __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[t]), _mm256_set1_ps(block[t][b].scale));
        sums[half][t] = _mm256_fmadd_ps(scales, scaled, sums[half][t]);
        sums[half][t] = _mm256_fmadd_ps(least, _mm256_set1_ps(block[t][b].sum), sums[half][t]);
      }
    }
  }
  UNROLL
  for (int half = from; half < to; half++) UNROLL
  for (int t = 0; t < tile; t++)
    if (t < count) _mm256_storeu_ps(out + t * MATRIX_GROUP + HALF * half, sums[half][t]);
}

/* 8-bit numbers, both signed: one's magnitude times the other with both signs is at most 2 * 128 * 127 = 32512 in 16
 * bits, and must be widened before the next is added. */
INLINE void dots_q8_0(int tile, const uint8_t *numbers, const rounded_block *const block[], int64_t b, __m256i dots[]) {
  const __m256i zero = _mm256_set1_epi8(-Q8_0_ZERO);
  UNROLL
  for (int t = 0; t < tile; t++) dots[t] = _mm256_setzero_si256();
  UNROLL
  for (int k = 0; k < 8; k++) {
    __m256i weights = _mm256_xor_si256(load(numbers + 64 * k), zero), magnitudes = _mm256_abs_epi8(weights);
    UNROLL
    for (int t = 0; t < tile; t++) {
      __m256i values = _mm256_sign_epi8(four(block[t][b].rounded + 4 * k), weights);
      __m256i products = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, values), _mm256_set1_epi16(1));
      dots[t] = _mm256_add_epi32(dots[t], products);
      KEEP(dots[t]);
    }
  }
}

INLINE void part_q8_0(int tile, int from, int to, const uint8_t *packed, const activations *x, int64_t first,
                      int64_t count, float *out) {
  const uint8_t *numbers = packed + q8_0_scales(x->blocks);
  const rounded_block *block[TILE];
  __m256 sums[2][TILE];
  UNROLL
  for (int t = 0; t < tile; t++) {
    block[t] = x->rounded + vector_of(first, count, t) * x->blocks;
    sums[0][t] = sums[1][t] = _mm256_setzero_ps();
  }
  for (int64_t b = 0; b < x->blocks; b++, packed += Q8_0_SCALES, numbers += Q8_0_NUMBERS) {
    prefetch(numbers + AHEAD, Q8_0_NUMBERS);
    UNROLL
    for (int half = from; half < to; half++) {
      __m256i dots[TILE];
      dots_q8_0(tile, numbers + 32 * half, block, b, dots);
      __m256 scales = halves(packed + 16 * half);
      UNROLL
      for (int t = 0; t < tile; t++) {
        __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[t]), _mm256_set1_ps(block[t][b].scale));
        sums[half][t] = _mm256_fmadd_ps(scales, scaled, sums[half][t]);
      }
    }
  }
  UNROLL
  for (int half = from; half < to; half++) UNROLL
  for (int t = 0; t < tile; t++)
    if (t < count) _mm256_storeu_ps(out + t * MATRIX_GROUP + HALF * half, sums[half][t]);
}

#define DOT(kind)                                                                                                    \
  TARGET static void dot_##kind(const void *group, const activations *x, int64_t first, int64_t count, float *out) { \
    if (count == 1) {                                                                                                \
      part_##kind(1, 0, 2, group, x, first, count, out);                                                             \
    } else {                                                                                                         \
      part_##kind(TILE, 0, 1, group, x, first, count, out);                                                          \
      part_##kind(TILE, 1, 2, group, x, first, count, out);                                                          \
    }                                                                                                                \
  }
DOT(f32)
DOT(q4_1)
DOT(q8_0)

static int converts_halves(void) {
  unsigned a, b, c = 0, d; /* f16c: not among what __builtin_cpu_supports of every compiler knows */
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

const kernels *avx2_kernels(void) {
  static const kernels self = {
      .name = "avx2",
      .tile = TILE,
      .round = round_blocks,
      .dot = {[MATRIX_F32] = dot_f32, [MATRIX_Q4_1] = dot_q4_1, [MATRIX_Q8_0] = dot_q8_0},
  };
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && converts_halves() ? &self : NULL;
}
#else
const kernels *avx2_kernels(void) { return NULL; }
#endif
