/* Encoded elements to float32. `from` need not be aligned, `to` is; they do not overlap. Blocks come whole: `count` is
 * a multiple of the block's elements. Any thread.
 *
 *   f16    exact; a signalling NaN becomes the quiet one of the same payload, as hardware does it
 *   bf16   the upper half of a float32, NaN payloads and all
 *   q8_0   blocks of 32: f16 scale d, 32 x int8 q; d * q, exact
 *   q4_1   blocks of 32: f16 scale d, f16 minimum m, 32 x 4 bits q (element i and i + 16 share a byte, the first
 *          below); d * q + m, rounded once
 *
 * Blocks whose scale or minimum is infinite or NaN follow the same formula; whatever is NaN is 0x7fc00000 then. All
 * implementations give the same bits. */
#ifndef DSC_WEIGHTS_DECODE_H
#define DSC_WEIGHTS_DECODE_H

#include <stdint.h>

typedef void (*dsc_decode_fn)(const void *from, int64_t count, float *to);

/* The fastest that this CPU has. */
void dsc_decode_f16(const void *from, int64_t count, float *to);
void dsc_decode_bf16(const void *from, int64_t count, float *to);
void dsc_decode_q8_0(const void *from, int64_t count, float *to);
void dsc_decode_q4_1(const void *from, int64_t count, float *to);

/* The implementations, for tests and measurements. */
typedef struct {
  dsc_decode_fn f16, bf16, q8_0, q4_1;
} dsc_decoders;

extern const dsc_decoders dsc_decoders_scalar;
const dsc_decoders *dsc_decoders_avx2(void); /* NULL where there is no AVX2 with F16C */

#endif
