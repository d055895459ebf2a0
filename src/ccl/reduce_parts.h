/* The first bytes of a vector, as the vector kernels need them at the ends of arrays: through registers, because memory
 * would make the vector wait for its pieces. Included by the files of reduce_vector.h; alone it is empty. */
#if defined(DSC_VECTOR_PARTS) && !defined(DSC_CCL_REDUCE_PARTS_H)
#define DSC_CCL_REDUCE_PARTS_H

#include <string.h>

ALWAYS_INLINE uint64_t load_word(const uint8_t *from, size_t bytes) {
  uint64_t word = 0;
  uint32_t four;
  uint16_t two;
  if (bytes >= 8) {
    memcpy(&word, from, 8);
    return word;
  }
  if ((bytes & 1) != 0) word = from[bytes - 1];
  if ((bytes & 2) != 0) {
    memcpy(&two, from + (bytes & 4), 2);
    word = word << 16 | two;
  }
  if ((bytes & 4) != 0) {
    memcpy(&four, from, 4);
    word = word << 32 | four;
  }
  return word;
}

ALWAYS_INLINE void store_word(uint8_t *to, uint64_t word, size_t bytes) {
  if (bytes >= 8) {
    memcpy(to, &word, 8);
    return;
  }
  if ((bytes & 4) != 0) {
    memcpy(to, &word, 4);
    to += 4;
    word >>= 32;
  }
  if ((bytes & 2) != 0) {
    memcpy(to, &word, 2);
    to += 2;
    word >>= 16;
  }
  if ((bytes & 1) != 0) *to = (uint8_t)word;
}

ALWAYS_INLINE __m128i load_16(const uint8_t *from, size_t bytes) {
  if (bytes >= 16) return _mm_loadu_si128((const __m128i *)(const void *)from);
  if (bytes <= 8) return _mm_cvtsi64_si128((int64_t)load_word(from, bytes));
  return _mm_set_epi64x((int64_t)load_word(from + 8, bytes - 8), (int64_t)load_word(from, 8));
}

ALWAYS_INLINE void store_16(uint8_t *to, __m128i v, size_t bytes) {
  if (bytes >= 16) {
    _mm_storeu_si128((__m128i *)(void *)to, v);
    return;
  }
  store_word(to, (uint64_t)_mm_cvtsi128_si64(v), bytes);
  if (bytes > 8) store_word(to + 8, (uint64_t)_mm_extract_epi64(v, 1), bytes - 8);
}

ALWAYS_INLINE __m256i load_32(const uint8_t *from, size_t bytes) {
  if (bytes <= 16) return _mm256_zextsi128_si256(load_16(from, bytes));
  if (bytes >= 32) return _mm256_loadu_si256((const __m256i *)(const void *)from);
  return _mm256_set_m128i(load_16(from + 16, bytes - 16), load_16(from, 16));
}

ALWAYS_INLINE void store_32(uint8_t *to, __m256i v, size_t bytes) {
  if (bytes >= 32) {
    _mm256_storeu_si256((__m256i *)(void *)to, v);
    return;
  }
  store_16(to, _mm256_castsi256_si128(v), bytes);
  if (bytes > 16) store_16(to + 16, _mm256_extracti128_si256(v, 1), bytes - 16);
}

#endif
