/* What the workers' inputs are, and what every collective has to make of them, worked out naively: element by element,
 * by the tree that docs and headers promise, with conversions of its own. Nothing of src/ccl is used.
 *
 * An input is a stream of elements (or bytes) that follows from (seed, worker id, index) alone, so that each worker
 * knows what all the others sent, and a long message begins as a short one does. Any thread. */
#ifndef CCL_EXPECTED_H
#define CCL_EXPECTED_H

#include <dlpack/dlpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, "text", DLDataTypeCode, bits): the twelve types of reductions. */
#define REDUCED_TYPES(X)             \
  X(I8, "int8", kDLInt, 8)           \
  X(U8, "uint8", kDLUInt, 8)         \
  X(I16, "int16", kDLInt, 16)        \
  X(U16, "uint16", kDLUInt, 16)      \
  X(I32, "int32", kDLInt, 32)        \
  X(U32, "uint32", kDLUInt, 32)      \
  X(I64, "int64", kDLInt, 64)        \
  X(U64, "uint64", kDLUInt, 64)      \
  X(F16, "float16", kDLFloat, 16)    \
  X(BF16, "bfloat16", kDLBfloat, 16) \
  X(F32, "float32", kDLFloat, 32)    \
  X(F64, "float64", kDLFloat, 64)
enum {
#define TYPE_ENUM(name, text, code, bits) TYPE_##name,
  REDUCED_TYPES(TYPE_ENUM)
#undef TYPE_ENUM
      NUM_REDUCED_TYPES
};
extern const DLDataType reduced_types[NUM_REDUCED_TYPES];
/* Types that are moved only. */
enum { MOVED_FP8, MOVED_FP8_E5M2, MOVED_INT4, MOVED_BOOL, MOVED_COMPLEX, MOVED_VECTOR, NUM_MOVED_TYPES };
extern const DLDataType moved_types[NUM_MOVED_TYPES];

enum { SUM, PROD, MIN, MAX, AVG, NUM_KINDS };
extern const char *const kind_names[NUM_KINDS];

/* Where a stream's elements come from. */
enum {
  PLAIN,   /* random; of the floats one in 64 is special: zeros, infinities, NaNs, subnormals, extremes */
  TAME,    /* random, no special ones */
  SPECIAL, /* nothing but special floats, quiet and signalling NaNs with payloads among them */
  NUM_FLAVOURS
};
typedef struct {
  uint64_t seed;
  int32_t flavour;
} source;

uint64_t mix(uint64_t a, uint64_t b);
/* `count` elements of a type; for the types that are only moved: its bytes. Writes bytes_of(type, count) bytes. */
void fill(void *to, DLDataType type, source from, int32_t worker, uint64_t count);
/* (elements x bits x lanes + 7) / 8 */
size_t bytes_of(DLDataType type, uint64_t count);
/* One of reduced_types, whatever its lanes: they are elements of their own. */
bool is_reduced(DLDataType type);

/* to[i] = the reduction of the elements [i] of `count` elements of workers first, first + 1, ... first + n - 1. */
void reduce(void *to, DLDataType type, int kind, source from, int32_t first, int32_t n, uint64_t count);
/* The same of given elements: inputs[r] is rank r's. */
void reduce_given(void *to, DLDataType type, int kind, const void *const *inputs, int32_t n, uint64_t count);

/* For tests that look at values: the elements of float types as numbers. */
double to_double(DLDataType type, uint64_t bits);
uint64_t load_bits(const void *from, DLDataType type, uint64_t index);

#endif
