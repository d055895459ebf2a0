/* Kernels for AVX2 with F16C: what differs from reduce_avx512.c; the rest is the template. */
#include "ccl/reduce_kernels.h"

#ifdef DSC_KERNELS_X86
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c")
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
enum { WIDTH = 32 }; /* bytes of a vector */
typedef __m256i ints;
typedef __m256 floats;
typedef __m256d doubles;
#define VECTOR(operation) _mm256_##operation

ALWAYS_INLINE ints load(const uint8_t *from) { return _mm256_loadu_si256((const __m256i *)(const void *)from); }
ALWAYS_INLINE void store(uint8_t *to, ints v) { _mm256_storeu_si256((__m256i *)(void *)to, v); }
ALWAYS_INLINE void stream(uint8_t *to, ints v) { _mm256_stream_si256((__m256i *)(void *)to, v); }

ALWAYS_INLINE ints of_16(__m128i v) { return _mm256_zextsi128_si256(v); } /* zeros behind it */
ALWAYS_INLINE __m128i low_16(ints v) { return _mm256_castsi256_si128(v); }

#define DSC_VECTOR_PARTS
#include "ccl/reduce_parts.h"

/* The first `bytes` (1 to WIDTH) of a vector; zeros behind them. */
static NOINLINE ints load_part(const uint8_t *from, size_t bytes) { return load_32(from, bytes); }
static NOINLINE void store_part(uint8_t *to, ints v, size_t bytes) { store_32(to, v, bytes); }

/* minps gives its second operand for two zeros, so both orders together have both signs; where there is a NaN, the sum
 * is the NaN that is wanted. */
#define EXTREMES(name, type, suffix)                                                                \
  ALWAYS_INLINE type name##_extreme(type a, type b, type sum, int most) {                           \
    type numbers = most ? _mm256_and_##suffix(_mm256_max_##suffix(a, b), _mm256_max_##suffix(b, a)) \
                        : _mm256_or_##suffix(_mm256_min_##suffix(a, b), _mm256_min_##suffix(b, a)); \
    return _mm256_blendv_##suffix(numbers, sum, _mm256_cmp_##suffix(a, b, _CMP_UNORD_Q));           \
  }
EXTREMES(f32, floats, ps)
EXTREMES(f64, doubles, pd)

ALWAYS_INLINE floats f16_widen_at(const uint8_t *from) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}
ALWAYS_INLINE floats f16_widen_low(ints v) { return _mm256_cvtph_ps(_mm256_castsi256_si128(v)); }
ALWAYS_INLINE floats f16_widen_high(ints v) { return _mm256_cvtph_ps(_mm256_extracti128_si256(v, 1)); }
ALWAYS_INLINE ints f16_narrow_both(floats low, floats high) {
  return _mm256_set_m128i(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
}

/* Of each 32-bit lane the upper (lower) 16 bits: those of `even` and `odd` in turn. */
ALWAYS_INLINE ints high_halves(ints even, ints odd) {
  return _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa);
}
ALWAYS_INLINE ints low_halves(ints even, ints odd) {
  return _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa);
}
/* high + 1 where low, its last bit set when high is odd, is above 0x8000. */
ALWAYS_INLINE ints add_where_over(ints high, ints low) {
  ints odd = _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi16(1)));
  ints flipped = _mm256_xor_si256(odd, _mm256_set1_epi16(INT16_MIN)); /* there is no unsigned comparison */
  return _mm256_sub_epi16(high, _mm256_cmpgt_epi16(flipped, _mm256_setzero_si256()));
}
ALWAYS_INLINE ints i64_extreme(ints a, ints b, ints flip, int most) {
  ints a_more = _mm256_cmpgt_epi64(_mm256_xor_si256(a, flip), _mm256_xor_si256(b, flip));
  return most ? _mm256_blendv_epi8(b, a, a_more) : _mm256_blendv_epi8(a, b, a_more);
}
ALWAYS_INLINE ints i64_least(ints a, ints b) { return i64_extreme(a, b, _mm256_setzero_si256(), 0); }
ALWAYS_INLINE ints i64_most(ints a, ints b) { return i64_extreme(a, b, _mm256_setzero_si256(), 1); }
ALWAYS_INLINE ints u64_least(ints a, ints b) { return i64_extreme(a, b, _mm256_set1_epi64x(INT64_MIN), 0); }
ALWAYS_INLINE ints u64_most(ints a, ints b) { return i64_extreme(a, b, _mm256_set1_epi64x(INT64_MIN), 1); }

#define DSC_VECTOR_READY
#include "ccl/reduce_vector.h"

#define EXPORT(kind) \
  void dsc_avx2_f16_##kind(const dsc_reduction *what) { f16_##kind(what); }
EXPORT(sum)
EXPORT(prod)
EXPORT(min)
EXPORT(max)
EXPORT(avg)

const dsc_kernels dsc_kernels_avx2 = {"avx2", DSC_KERNEL_TABLE};

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#else
typedef int dsc_no_avx2_here;
#endif
