/* The contents of the tensors: small whole numbers that depend on the place, on the rank and on the turn, and whose
 * sums are exact in every dtype, so that every byte of every result can be checked at the speed of reading it.
 *
 * A pattern is 16 lines of 64 bytes; block after block (1 KiB) of a tensor starts at another line of it, by a hash of
 * the block's number, so that a slice in the wrong place is seen. Three turns alternate: a result of the turn before,
 * or of the one before that, is seen too.
 */
#ifndef BENCH_CCL_PATTERN_H
#define BENCH_CCL_PATTERN_H

#include "ccl_table.h"

enum { CCL_PATTERN_BYTES = 1024, CCL_TURNS = 3, CCL_SUM = CCL_MAX_RANKS };

/* Twice the 16 lines, so that a block can start at any of them. */
typedef struct {
  _Alignas(64) uint8_t lines[2 * CCL_PATTERN_BYTES];
} ccl_pattern;

typedef struct {
  ccl_pattern of[CCL_TURNS][CCL_MAX_RANKS + 1]; /* [turn][rank], and [turn][CCL_SUM]: the sum over the ranks */
} ccl_patterns;

void ccl_patterns_make(ccl_patterns *patterns, ccl_dtype dtype, int num_ranks);

size_t ccl_dtype_bytes(ccl_dtype dtype);

/* Write `bytes` (a multiple of 4) of the pattern. */
void ccl_fill(void *to, size_t bytes, const ccl_pattern *pattern);

/* Read all of them; 0 when they are the pattern, else an upper bound of the bytes that differ. Takes as long whether
 * they do or not. */
uint64_t ccl_check(const void *from, size_t bytes, const ccl_pattern *pattern);

#endif
