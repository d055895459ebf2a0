#include "ccl_pattern.h"

#include <string.h>

enum { LINE = 64, LINES = CCL_PATTERN_BYTES / LINE };

size_t ccl_dtype_bytes(ccl_dtype dtype) { return dtype == CCL_F32 ? 4 : 2; }

/* Sums of 16 of them stay below 2^8: exact even in bfloat16. */
static unsigned number_at(unsigned element, int rank, int turn) {
  unsigned line = element / LINES, place = element % LINES;
  return (line * 5 + place * 3 + (unsigned)rank * 7 + (unsigned)turn * 5) & 15;
}

/* A whole number below 256 in the bits of the dtype. */
static uint32_t encode(unsigned number, ccl_dtype dtype) {
  float value = (float)number;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (dtype == CCL_F32) return bits;
  if (dtype == CCL_BF16) return bits >> 16;
  if (number == 0) return 0;
  return (((bits >> 23) - 127 + 15) << 10) | ((bits >> 13) & 0x3ff);
}

static void make_pattern(ccl_pattern *pattern, ccl_dtype dtype, int first_rank, int end_rank, int turn) {
  unsigned count = CCL_PATTERN_BYTES / (unsigned)ccl_dtype_bytes(dtype);
  for (unsigned i = 0; i < count; i++) {
    unsigned sum = 0;
    for (int rank = first_rank; rank < end_rank; rank++) sum += number_at(i, rank, turn);
    uint32_t bits = encode(sum, dtype);
    memcpy(pattern->lines + i * ccl_dtype_bytes(dtype), &bits, ccl_dtype_bytes(dtype)); /* little-endian machines */
  }
  memcpy(pattern->lines + CCL_PATTERN_BYTES, pattern->lines, CCL_PATTERN_BYTES);
}

void ccl_patterns_make(ccl_patterns *patterns, ccl_dtype dtype, int num_ranks) {
  for (int turn = 0; turn < CCL_TURNS; turn++) {
    for (int rank = 0; rank < num_ranks; rank++) make_pattern(&patterns->of[turn][rank], dtype, rank, rank + 1, turn);
    make_pattern(&patterns->of[turn][CCL_SUM], dtype, 0, num_ranks, turn);
  }
}

static const uint8_t *block_start(const ccl_pattern *pattern, size_t block) {
  return pattern->lines + LINE * (((uint32_t)block * 2654435761u) >> 28);
}

/* Not inlined, so that the windows that are subtracted from others run the very same code. */
__attribute__((noinline)) void ccl_fill(void *to, size_t bytes, const ccl_pattern *pattern) {
  uint8_t *at = to;
  size_t blocks = bytes / CCL_PATTERN_BYTES, rest = bytes % CCL_PATTERN_BYTES;
  for (size_t b = 0; b < blocks; b++, at += CCL_PATTERN_BYTES) memcpy(at, block_start(pattern, b), CCL_PATTERN_BYTES);
  memcpy(at, block_start(pattern, blocks), rest);
}

typedef uint64_t lanes __attribute__((vector_size(16), aligned(4), may_alias));

static uint64_t check_block(const uint8_t *at, const uint8_t *expected, size_t bytes) {
  lanes bad = {0, 0};
  size_t i = 0;
  for (; i + sizeof(lanes) <= bytes; i += sizeof(lanes))
    bad |= *(const lanes *)(at + i) ^ *(const lanes *)(expected + i);
  uint64_t different = bad[0] | bad[1];
  for (; i < bytes; i += 4) {
    uint32_t a, b;
    memcpy(&a, at + i, 4);
    memcpy(&b, expected + i, 4);
    different |= a ^ b;
  }
  return different;
}

__attribute__((noinline)) uint64_t ccl_check(const void *from, size_t bytes, const ccl_pattern *pattern) {
  const uint8_t *at = from;
  size_t blocks = bytes / CCL_PATTERN_BYTES, rest = bytes % CCL_PATTERN_BYTES, wrong = 0;
  for (size_t b = 0; b < blocks; b++, at += CCL_PATTERN_BYTES) {
    if (check_block(at, block_start(pattern, b), CCL_PATTERN_BYTES) != 0) wrong += CCL_PATTERN_BYTES;
  }
  if (check_block(at, block_start(pattern, blocks), rest) != 0) wrong += rest;
  return wrong;
}
