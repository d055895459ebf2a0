/* Sets of kernels, one per instruction set, as reduce.c chooses among them. Each set has one function per kind and
 * type; sets agree in every bit. */
#ifndef DSC_CCL_REDUCE_KERNELS_H
#define DSC_CCL_REDUCE_KERNELS_H

#include "ccl/reduce.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define DSC_KERNELS_X86 1
#endif

/* num_inputs >= 2, count >= 1. */
typedef void (*dsc_reduce_fn)(const dsc_reduction *what);

typedef struct {
  const char *name;
  dsc_reduce_fn functions[DSC_NUM_REDUCES][DSC_NUM_DTYPES];
} dsc_kernels;

extern const dsc_kernels dsc_kernels_scalar;
#ifdef DSC_KERNELS_X86
extern const dsc_kernels dsc_kernels_avx2, dsc_kernels_avx512;
/* Those of float16, which the set avx512 takes over. */
void dsc_avx2_f16_sum(const dsc_reduction *what);
void dsc_avx2_f16_prod(const dsc_reduction *what);
void dsc_avx2_f16_min(const dsc_reduction *what);
void dsc_avx2_f16_max(const dsc_reduction *what);
void dsc_avx2_f16_avg(const dsc_reduction *what);
#endif

/* What a set's file fills in: its functions are named by type and kind. Wrapping sums and products have the same bits
 * with and without sign. */
#define DSC_KERNEL_SAME(kind)                                                                     \
  {                                                                                               \
    u8_##kind, u8_##kind, u16_##kind, u16_##kind, u32_##kind, u32_##kind, u64_##kind, u64_##kind, \
        DSC_KERNEL_FLOATS(kind)                                                                   \
  }
#define DSC_KERNEL_OWN(kind)                                                                      \
  {                                                                                               \
    i8_##kind, u8_##kind, i16_##kind, u16_##kind, i32_##kind, u32_##kind, i64_##kind, u64_##kind, \
        DSC_KERNEL_FLOATS(kind)                                                                   \
  }
#define DSC_KERNEL_FLOATS(kind) f16_##kind, bf16_##kind, f32_##kind, f64_##kind
#define DSC_KERNEL_TABLE                                                                \
  {                                                                                     \
    [DSC_REDUCE_SUM] = DSC_KERNEL_SAME(sum), [DSC_REDUCE_PROD] = DSC_KERNEL_SAME(prod), \
    [DSC_REDUCE_MIN] = DSC_KERNEL_OWN(min), [DSC_REDUCE_MAX] = DSC_KERNEL_OWN(max),     \
    [DSC_REDUCE_AVG] = DSC_KERNEL_OWN(avg)                                              \
  }

#endif
