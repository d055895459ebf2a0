/* Kernels for AVX-512 (F, BW, DQ, VL): what differs from reduce_avx2.c; the rest is the template. */
#include "ccl/reduce_kernels.h"

#ifdef DSC_KERNELS_X86
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
enum { WIDTH = 64 }; /* bytes of a vector */
typedef __m512i ints;
typedef __m512 floats;
typedef __m512d doubles;
#define VECTOR(operation) _mm512_##operation

ALWAYS_INLINE ints load(const uint8_t *from) { return _mm512_loadu_si512(from); }
ALWAYS_INLINE void store(uint8_t *to, ints v) { _mm512_storeu_si512(to, v); }
ALWAYS_INLINE void stream(uint8_t *to, ints v) { _mm512_stream_si512((__m512i *)(void *)to, v); }

ALWAYS_INLINE ints of_16(__m128i v) { return _mm512_zextsi128_si512(v); } /* zeros behind it */
ALWAYS_INLINE __m128i low_16(ints v) { return _mm512_castsi512_si128(v); }

#define DSC_VECTOR_PARTS
#include "ccl/reduce_parts.h"

/* The first `bytes` (1 to WIDTH) of a vector; zeros behind them. */
static NOINLINE ints load_part(const uint8_t *from, size_t bytes) {
  if (bytes <= 32) return _mm512_zextsi256_si512(load_32(from, bytes));
  if (bytes >= 64) return load(from);
  return _mm512_inserti64x4(_mm512_castsi256_si512(load_32(from, 32)), load_32(from + 32, bytes - 32), 1);
}
static NOINLINE void store_part(uint8_t *to, ints v, size_t bytes) {
  if (bytes >= 64) {
    store(to, v);
    return;
  }
  store_32(to, _mm512_castsi512_si256(v), bytes);
  if (bytes > 32) store_32(to + 32, _mm512_extracti64x4_epi64(v, 1), bytes - 32);
}

/* The range instructions know -0 from +0 (4: the lesser, 5: the greater); where there is a NaN, the sum is the NaN that
 * is wanted. */
#define EXTREMES(name, type, suffix)                                                               \
  ALWAYS_INLINE type name##_extreme(type a, type b, type sum, int most) {                          \
    type numbers = most ? _mm512_range_##suffix(a, b, 5) : _mm512_range_##suffix(a, b, 4);         \
    return _mm512_mask_mov_##suffix(numbers, _mm512_cmp_##suffix##_mask(a, b, _CMP_UNORD_Q), sum); \
  }
EXTREMES(f32, floats, ps)
EXTREMES(f64, doubles, pd)

/* Of each 32-bit lane the upper (lower) 16 bits: those of `even` and `odd` in turn. */
ALWAYS_INLINE ints high_halves(ints even, ints odd) {
  return _mm512_ternarylogic_epi32(_mm512_srli_epi32(even, 16), odd, _mm512_set1_epi32(-65536), 0xf8); /* a|b&c */
}
ALWAYS_INLINE ints low_halves(ints even, ints odd) {
  return _mm512_ternarylogic_epi32(_mm512_slli_epi32(odd, 16), even, _mm512_set1_epi32(0xffff), 0xf8);
}
/* high + 1 where low, its last bit set when high is odd, is above 0x8000. */
ALWAYS_INLINE ints add_where_over(ints high, ints low) {
  ints odd = _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi16(1), 0xf8); /* low | (high & 1) */
  __mmask32 over = _mm512_cmpgt_epu16_mask(odd, _mm512_set1_epi16(INT16_MIN));
  return _mm512_mask_sub_epi16(high, over, high, _mm512_set1_epi16(-1));
}
ALWAYS_INLINE ints i64_least(ints a, ints b) { return _mm512_min_epi64(a, b); }
ALWAYS_INLINE ints i64_most(ints a, ints b) { return _mm512_max_epi64(a, b); }
ALWAYS_INLINE ints u64_least(ints a, ints b) { return _mm512_min_epu64(a, b); }
ALWAYS_INLINE ints u64_most(ints a, ints b) { return _mm512_max_epu64(a, b); }

/* float16 by the AVX2 kernels: on Zen 4, sums of two arrays of 16 KiB are 1.3 times as fast with conversions of 256
 * bits as of 512. All else is faster here, or as fast: float32 1.5 times, bfloat16 1.3 times (in place, 16 KiB). */
#define DSC_NO_F16
#define f16_sum dsc_avx2_f16_sum
#define f16_prod dsc_avx2_f16_prod
#define f16_min dsc_avx2_f16_min
#define f16_max dsc_avx2_f16_max
#define f16_avg dsc_avx2_f16_avg

#define DSC_VECTOR_READY
#include "ccl/reduce_vector.h"

const dsc_kernels dsc_kernels_avx512 = {"avx512", DSC_KERNEL_TABLE};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int dsc_no_avx512_here;
#endif
