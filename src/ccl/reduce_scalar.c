/* The reference: one element at a time in plain C. What other kernels do differently, they do wrong. */
#include <string.h>

#include "base/compiler.h"
#include "ccl/reduce_half.h"
#include "ccl/reduce_kernels.h"

enum { LEVELS = 12 }; /* of the tree over DSC_REDUCE_MAX_INPUTS inputs */

#define MEMORY(name, type)                              \
  static inline type name##_load(const uint8_t *from) { \
    type value;                                         \
    memcpy(&value, from, sizeof(value));                \
    return value;                                       \
  }                                                     \
  static inline void name##_store(uint8_t *to, type value) { memcpy(to, &value, sizeof(value)); }

/* Sums and products go through uint64_t: no promotion makes that signed, so they wrap. */
#define INTEGER(name, type, wide)                                                              \
  typedef type name##_value;                                                                   \
  MEMORY(name, type)                                                                           \
  static inline type name##_plus(type a, type b) { return (type)((uint64_t)a + (uint64_t)b); } \
  static inline type name##_least(type a, type b) { return b < a ? b : a; }                    \
  static inline type name##_most(type a, type b) { return b > a ? b : a; }                     \
  static inline type name##_share(type a, int32_t n) { return (type)((wide)a / (wide)n); }

#define UNSIGNED(name, type)    \
  INTEGER(name, type, uint64_t) \
  static inline type name##_times(type a, type b) { return (type)((uint64_t)a * (uint64_t)b); }

INTEGER(i8, int8_t, int64_t)
INTEGER(i16, int16_t, int64_t)
INTEGER(i32, int32_t, int64_t)
INTEGER(i64, int64_t, int64_t)
UNSIGNED(u8, uint8_t)
UNSIGNED(u16, uint16_t)
UNSIGNED(u32, uint32_t)
UNSIGNED(u64, uint64_t)

/* C leaves open which NaN an operation gives. Here: the left operand's, else the right one's, quieted; the one that
 * x86 makes itself (sign set) where there was none. The zeros of min and max are told apart by their sign. */
#define FLOATING(name, type, bits_type, quiet_bit, own_nan)             \
  typedef type name##_value;                                            \
  MEMORY(name, type)                                                    \
  static DSC_COLD type name##_nan(type a, type b) {                     \
    bits_type bits = own_nan;                                           \
    if (a != a)                                                         \
      memcpy(&bits, &a, sizeof(bits));                                  \
    else if (b != b)                                                    \
      memcpy(&bits, &b, sizeof(bits));                                  \
    bits |= quiet_bit;                                                  \
    memcpy(&a, &bits, sizeof(bits));                                    \
    return a;                                                           \
  }                                                                     \
  static inline type name##_plus(type a, type b) {                      \
    type sum = a + b;                                                   \
    return DSC_LIKELY(sum == sum) ? sum : name##_nan(a, b);             \
  }                                                                     \
  static inline type name##_times(type a, type b) {                     \
    type product = a * b;                                               \
    return DSC_LIKELY(product == product) ? product : name##_nan(a, b); \
  }                                                                     \
  static inline type name##_least(type a, type b) {                     \
    if (DSC_UNLIKELY(a != a || b != b)) return name##_nan(a, b);        \
    return b < a || (b == a && __builtin_signbit(b)) ? b : a;           \
  }                                                                     \
  static inline type name##_most(type a, type b) {                      \
    if (DSC_UNLIKELY(a != a || b != b)) return name##_nan(a, b);        \
    return b > a || (b == a && !__builtin_signbit(b)) ? b : a;          \
  }                                                                     \
  static inline type name##_share(type a, int32_t n) { return a == a ? a / (type)n : name##_nan(a, a); }

FLOATING(f32, float, uint32_t, (uint32_t)1 << 22, 0xffc00000)
FLOATING(f64, double, uint64_t, (uint64_t)1 << 51, (uint64_t)0xfff8 << 48)

#define HALF(name)                                                               \
  typedef float name##_value;                                                    \
  static inline float name##_load(const uint8_t *from) {                         \
    uint16_t half;                                                               \
    memcpy(&half, from, sizeof(half));                                           \
    return dsc_f32_of_##name(half);                                              \
  }                                                                              \
  static inline void name##_store(uint8_t *to, float value) {                    \
    uint16_t half = dsc_##name##_of_f32(value);                                  \
    memcpy(to, &half, sizeof(half));                                             \
  }                                                                              \
  static inline float name##_plus(float a, float b) { return f32_plus(a, b); }   \
  static inline float name##_times(float a, float b) { return f32_times(a, b); } \
  static inline float name##_least(float a, float b) { return f32_least(a, b); } \
  static inline float name##_most(float a, float b) { return f32_most(a, b); }   \
  static inline float name##_share(float a, int32_t n) { return f32_share(a, n); }

HALF(f16)
HALF(bf16)

/* After input k there is one value per set bit of k + 1, the subtrees of that many inputs; what is left at the end
 * joins from the right. That is the tree that splits at the largest power of two. */
#define KERNEL(name, kind, bytes, join, finish)                                        \
  static void name##_##kind(const dsc_reduction *what) {                               \
    int32_t n = what->num_inputs;                                                      \
    for (size_t at = 0; at < what->count * (bytes); at += (bytes)) {                   \
      name##_value levels[LEVELS];                                                     \
      int top = 0;                                                                     \
      for (int32_t k = 0; k < n; k++) {                                                \
        levels[top++] = name##_load((const uint8_t *)what->inputs[k] + at);            \
        for (int32_t full = k; (full & 1) != 0; full >>= 1, top--)                     \
          levels[top - 2] = join(levels[top - 2], levels[top - 1]);                    \
      }                                                                                \
      for (; top > 1; top--) levels[top - 2] = join(levels[top - 2], levels[top - 1]); \
      for (int32_t i = 0; i < what->num_outputs; i++)                                  \
        name##_store((uint8_t *)what->outputs[i] + at, finish(levels[0], n));          \
    }                                                                                  \
  }

#define KEEP(value, n) (value)
#define OWN_KERNELS(name, bytes)               \
  KERNEL(name, min, bytes, name##_least, KEEP) \
  KERNEL(name, max, bytes, name##_most, KEEP)  \
  KERNEL(name, avg, bytes, name##_plus, name##_share)
#define KERNELS(name, bytes)                    \
  KERNEL(name, sum, bytes, name##_plus, KEEP)   \
  KERNEL(name, prod, bytes, name##_times, KEEP) \
  OWN_KERNELS(name, bytes)

OWN_KERNELS(i8, 1)
KERNELS(u8, 1)
OWN_KERNELS(i16, 2)
KERNELS(u16, 2)
OWN_KERNELS(i32, 4)
KERNELS(u32, 4)
OWN_KERNELS(i64, 8)
KERNELS(u64, 8)
KERNELS(f16, 2)
KERNELS(bf16, 2)
KERNELS(f32, 4)
KERNELS(f64, 8)

const dsc_kernels dsc_kernels_scalar = {"scalar", DSC_KERNEL_TABLE};
