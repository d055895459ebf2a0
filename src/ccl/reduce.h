/* Reduction kernels: the element-wise sum, product, minimum, maximum or mean of n arrays, with the same bits whatever
 * the instruction set, the number of outputs, the place in the array or the alignment.
 *
 * Numerics. The result is a fixed binary tree over the inputs' indices, split at the largest power of two below n:
 * ((0 + 1) + (2 + 3)) + (4 + 5) for six. float16 and bfloat16 are evaluated in float32 and rounded once, to nearest
 * even; everything else in its own type. Integers wrap. A NaN among the inputs gives a NaN (of two that meet, the one
 * of the lower index, quieted); -0 < +0. The mean is the sum divided by n: integers truncate toward zero. Subnormals
 * are kept. Any thread. */
#ifndef DSC_CCL_REDUCE_H
#define DSC_CCL_REDUCE_H

#include <dlpack/dlpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* X(NAME, "text", bytes) */
#define DSC_DTYPE_LIST(X) \
  X(I8, "int8", 1)        \
  X(U8, "uint8", 1)       \
  X(I16, "int16", 2)      \
  X(U16, "uint16", 2)     \
  X(I32, "int32", 4)      \
  X(U32, "uint32", 4)     \
  X(I64, "int64", 8)      \
  X(U64, "uint64", 8)     \
  X(F16, "float16", 2)    \
  X(BF16, "bfloat16", 2)  \
  X(F32, "float32", 4)    \
  X(F64, "float64", 8)

typedef enum {
#define DSC_DTYPE_ENUM(name, text, bytes) DSC_DTYPE_##name,
  DSC_DTYPE_LIST(DSC_DTYPE_ENUM)
#undef DSC_DTYPE_ENUM
      DSC_NUM_DTYPES
} dsc_dtype;

/* The numbers are the contract's ReduceKind. */
#define DSC_REDUCE_LIST(X) X(SUM, 0, "sum") X(PROD, 1, "prod") X(MIN, 2, "min") X(MAX, 3, "max") X(AVG, 4, "avg")

typedef enum {
#define DSC_REDUCE_ENUM(name, value, text) DSC_REDUCE_##name = value,
  DSC_REDUCE_LIST(DSC_REDUCE_ENUM)
#undef DSC_REDUCE_ENUM
      DSC_NUM_REDUCES
} dsc_reduce_kind;

const char *dsc_reduce_kind_name(dsc_reduce_kind kind); /* "sum" */
/* The kernels' type of an element; false for one that cannot be reduced. Lanes count as elements of their own. */
bool dsc_dtype_of(DLDataType dtype, dsc_dtype *ret_dtype);
size_t dsc_dtype_bytes(dsc_dtype dtype);

enum { DSC_REDUCE_MAX_INPUTS = 1024, DSC_REDUCE_NO_SELF = -1 };

typedef struct {
  const void *const *inputs; /* num_inputs arrays of `count` elements, in rank order */
  void *const *outputs;      /* num_outputs >= 1; each gets the whole result; any may be exactly one of the inputs */
  int32_t num_inputs, num_outputs;
  size_t count; /* elements; any alignment of a whole element */
  /* The input that this CPU wrote last, DSC_REDUCE_NO_SELF: none. The others are fetched 24 lines ahead, never past
   * the end: that would take lines of a peer's slice away from it. */
  int32_t self;
  bool past_caches; /* store with non-temporal stores; a store fence follows them */
} dsc_reduction;

void dsc_reduce(dsc_reduce_kind kind, dsc_dtype dtype, const dsc_reduction *what);
/* The same by the scalar kernels, whatever is in use. */
void dsc_reduce_scalar(dsc_reduce_kind kind, dsc_dtype dtype, const dsc_reduction *what);

/* The kernels in use: "scalar", "avx2" (with F16C) or "avx512". The best that this CPU has, unless DISCO_KERNELS names
 * another; read once. */
const char *dsc_kernels_name(void);
/* For tests: use these from now on. DISCO_VALUE when this CPU does not have them, or there are none of that name. Not
 * while a reduction runs. */
disco_status dsc_kernels_use(const char *name);
/* The index-th name, "scalar" first, NULL past the end; also of kernels that this CPU cannot run (*ret_usable). */
const char *dsc_kernels_at(int index, bool *ret_usable);

#endif
