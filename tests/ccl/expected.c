#include "ccl/expected.h"

#include <string.h>

const DLDataType reduced_types[NUM_REDUCED_TYPES] = {
#define TYPE_VALUE(name, text, code, bits) {code, bits, 1},
    REDUCED_TYPES(TYPE_VALUE)
#undef TYPE_VALUE
};
const DLDataType moved_types[NUM_MOVED_TYPES] = {
    [MOVED_FP8] = {kDLFloat8_e4m3fn, 8, 1}, [MOVED_FP8_E5M2] = {kDLFloat8_e5m2, 8, 1},
    [MOVED_INT4] = {kDLInt, 4, 1},          [MOVED_BOOL] = {kDLBool, 8, 1},
    [MOVED_COMPLEX] = {kDLComplex, 128, 1}, [MOVED_VECTOR] = {kDLFloat, 32, 3},
};
const char *const kind_names[NUM_KINDS] = {"sum", "prod", "min", "max", "avg"};

/* ---- Streams ---- */

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9e3779b97f4a7c15u + (b ^ 0xd1b54a32d192ed03u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

size_t bytes_of(DLDataType type, uint64_t count) { return (size_t)((count * type.bits * type.lanes + 7) / 8); }

bool is_reduced(DLDataType type) {
  for (int i = 0; i < NUM_REDUCED_TYPES; i++)
    if (type.code == reduced_types[i].code && type.bits == reduced_types[i].bits) return true;
  return false;
}

/* The parts of a float type. */
typedef struct {
  int mantissa, exponent; /* bits */
} layout;

static layout layout_of(DLDataType type) {
  if (type.code == kDLBfloat) return (layout){7, 8};
  return type.bits == 16 ? (layout){10, 5} : type.bits == 32 ? (layout){23, 8} : (layout){52, 11};
}

static uint64_t special_float(layout of, uint64_t h) {
  const uint64_t fraction = ((uint64_t)1 << of.mantissa) - 1;
  const uint64_t infinity = (((uint64_t)1 << of.exponent) - 1) << of.mantissa;
  const uint64_t sign = (h & 1) << (of.mantissa + of.exponent), quiet = (fraction + 1) >> 1;
  const uint64_t noise = (h >> 8) & fraction;
  switch ((h >> 1) % 9) {
  case 0: return sign;                                          /* zero */
  case 1: return sign | infinity;                               /* infinity */
  case 2: return sign | infinity | quiet | noise;               /* NaN */
  case 3: return sign | infinity | (noise & (quiet - 1)) | 1;   /* signalling NaN */
  case 4: return sign | noise;                                  /* subnormal */
  case 5: return sign | (infinity - 1);                         /* the largest */
  case 6: return sign | ((fraction + 1) | noise);               /* among the smallest normal ones */
  case 7: return sign | (((infinity >> 1) & infinity) + noise); /* about one */
  default: return sign;
  }
}

static uint64_t plain_float(layout of, uint64_t h) {
  const uint64_t fraction = ((uint64_t)1 << of.mantissa) - 1, bias = ((uint64_t)1 << (of.exponent - 1)) - 1;
  const uint64_t exponent = bias - 4 + ((h >> 1) & 7);
  return (h & 1) << (of.mantissa + of.exponent) | exponent << of.mantissa | ((h >> 8) & fraction);
}

static uint64_t element_of(DLDataType type, source from, int32_t worker, uint64_t index) {
  const uint64_t h = mix(from.seed * 1021 + (uint64_t)worker, index);
  if (type.code != kDLFloat && type.code != kDLBfloat) return h;
  /* Not the bits that choose the value choose the flavour. */
  const bool special = from.flavour == SPECIAL || (from.flavour == PLAIN && (h >> 58) == 0);
  return special ? special_float(layout_of(type), h * 3 + 7) : plain_float(layout_of(type), h);
}

static void store_bits(void *to, DLDataType type, uint64_t index, uint64_t bits) {
  const size_t size = type.bits / 8;
  memcpy((char *)to + index * size, &bits, size); /* little-endian, as all that libdisco runs on */
}

uint64_t load_bits(const void *from, DLDataType type, uint64_t index) {
  const size_t size = type.bits / 8;
  uint64_t bits = 0;
  memcpy(&bits, (const char *)from + index * size, size);
  return bits;
}

void fill(void *to, DLDataType type, source from, int32_t worker, uint64_t count) {
  if (is_reduced(type)) {
    for (uint64_t i = 0; i < count * type.lanes; i++) store_bits(to, type, i, element_of(type, from, worker, i));
    return;
  }
  const size_t bytes = bytes_of(type, count);
  for (size_t i = 0; i < bytes; i++) {
    const uint64_t h = mix(from.seed * 1021 + (uint64_t)worker, i / 8) >> (i % 8 * 8);
    ((unsigned char *)to)[i] = (unsigned char)(type.code == kDLBool ? h & 1 : h);
  }
}

/* ---- Numbers ---- */

static uint32_t bits_of_float(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}
static float float_of_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
static double double_of_bits(uint64_t bits) {
  double x;
  memcpy(&x, &bits, 8);
  return x;
}
static uint64_t bits_of_double(double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  return bits;
}

/* float16 to float32: exact. */
static uint32_t widen_half(uint32_t half) {
  const uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
  if (exponent == 31) return sign | 0x7f800000 | fraction << 13 | (fraction != 0 ? 0x400000 : 0);
  if (exponent != 0) return sign | (exponent + 112) << 23 | fraction << 13;
  return sign | bits_of_float((float)fraction * 0x1p-24F);
}

/* Round `value` of `width` bits to its upper ones, dropping `drop` of them: to nearest, ties to even. */
static uint32_t round_off(uint32_t value, int drop) {
  const uint32_t half = (uint32_t)1 << (drop - 1), rest = value & (2 * half - 1), kept = value >> drop;
  return kept + (rest > half || (rest == half && (kept & 1)) ? 1 : 0);
}

/* float32 to float16, to nearest even. */
static uint32_t narrow_half(uint32_t bits) {
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  const int exponent = (int)(magnitude >> 23) - 127;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | (magnitude >> 13 & 0x3ff);
  if (exponent > 15) return sign | 0x7c00;
  if (exponent >= -14) return sign | round_off(magnitude - ((uint32_t)112 << 23), 13); /* may carry into infinity */
  if (exponent < -25) return sign;
  return sign | round_off((magnitude & 0x7fffff) | 0x800000, -exponent - 1);
}

/* float32 to bfloat16, to nearest even. */
static uint32_t narrow_bfloat(uint32_t bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >> 16) | 0x40;
  return round_off(bits, 16);
}

/* ---- The tree ---- */

typedef enum { INTEGER, SINGLE, DOUBLE } domain;

typedef struct {
  DLDataType type;
  domain domain;
  int kind;
} rule;

static rule rule_of(DLDataType type, int kind) {
  const bool is_float = type.code == kDLFloat || type.code == kDLBfloat;
  return (rule){type, !is_float ? INTEGER : type.bits == 64 ? DOUBLE : SINGLE, kind};
}

/* What an operand is while it is worked on: integers extended to 64 bits, floats as the bits of their domain. */
static uint64_t extend(DLDataType type, uint64_t bits) {
  if (type.bits == 64) return bits;
  const uint64_t sign = (uint64_t)1 << (type.bits - 1), mask = 2 * sign - 1;
  bits &= mask;
  return type.code == kDLInt && (bits & sign) ? bits | ~mask : bits;
}

static uint64_t take_in(rule by, uint64_t bits) {
  if (by.domain == INTEGER) return extend(by.type, bits);
  if (by.type.code == kDLBfloat) return bits << 16;
  return by.type.bits == 16 ? widen_half((uint32_t)bits) : bits;
}

static uint64_t give_out(rule by, uint64_t value) {
  if (by.domain != SINGLE || by.type.bits == 32) return value;
  return by.type.code == kDLBfloat ? narrow_bfloat((uint32_t)value) : narrow_half((uint32_t)value);
}

static bool is_nan(rule by, uint64_t value) {
  if (by.domain == SINGLE) return (value & 0x7fffffff) > 0x7f800000;
  return by.domain == DOUBLE && (value & INT64_MAX) > 0x7ff0000000000000;
}
static uint64_t quieted(rule by, uint64_t value) {
  return value | (by.domain == SINGLE ? (uint64_t)1 << 22 : (uint64_t)1 << 51);
}

static bool is_less(rule by, uint64_t a, uint64_t b) {
  if (by.domain == INTEGER) return by.type.code == kDLInt ? (int64_t)a < (int64_t)b : a < b;
  const uint64_t sign = by.domain == SINGLE ? (uint64_t)1 << 31 : (uint64_t)1 << 63;
  if ((a & sign) != (b & sign)) return (a & sign) != 0; /* -0 < +0 */
  return (a & sign) != 0 ? a > b : a < b;
}

static uint64_t combine(rule by, uint64_t a, uint64_t b) {
  if (by.domain != INTEGER && is_nan(by, a)) return quieted(by, a);
  if (by.domain != INTEGER && is_nan(by, b)) return quieted(by, b);
  if (by.kind == MIN) return is_less(by, b, a) ? b : a;
  if (by.kind == MAX) return is_less(by, a, b) ? b : a;
  const bool is_product = by.kind == PROD;
  if (by.domain == INTEGER) return extend(by.type, is_product ? a * b : a + b);
  if (by.domain == SINGLE) {
    const float x = float_of_bits((uint32_t)a), y = float_of_bits((uint32_t)b);
    return bits_of_float(is_product ? x * y : x + y);
  }
  const double x = double_of_bits(a), y = double_of_bits(b);
  return bits_of_double(is_product ? x * y : x + y);
}

static uint64_t tree(rule by, const uint64_t *values, int32_t n) {
  if (n == 1) return values[0];
  int32_t left = 1;
  while (left * 2 < n) left *= 2;
  return combine(by, tree(by, values, left), tree(by, values + left, n - left));
}

static uint64_t divided(rule by, uint64_t sum, int32_t n) {
  if (by.domain == INTEGER) {
    if (by.type.code == kDLUInt) return sum / (uint64_t)n;
    return n == 1 ? sum : (uint64_t)((int64_t)sum / n);
  }
  if (is_nan(by, sum)) return quieted(by, sum);
  if (by.domain == SINGLE) return bits_of_float(float_of_bits((uint32_t)sum) / (float)n);
  return bits_of_double(double_of_bits(sum) / n);
}

/* values: raw bits of the ranks' elements; they are worked on in place. */
static uint64_t result_of(rule by, uint64_t *values, int32_t n) {
  if (n == 1) return values[0]; /* nothing is computed with one rank */
  for (int32_t r = 0; r < n; r++) values[r] = take_in(by, values[r]);
  uint64_t result = tree(by, values, n);
  if (by.kind == AVG) result = divided(by, result, n);
  return give_out(by, result);
}

enum { MOST_RANKS = 64 };

void reduce(void *to, DLDataType type, int kind, source from, int32_t first, int32_t n, uint64_t count) {
  const rule by = rule_of(type, kind);
  uint64_t values[MOST_RANKS];
  for (uint64_t i = 0; i < count * type.lanes; i++) {
    for (int32_t r = 0; r < n; r++) values[r] = element_of(type, from, first + r, i);
    store_bits(to, type, i, result_of(by, values, n));
  }
}

void reduce_given(void *to, DLDataType type, int kind, const void *const *inputs, int32_t n, uint64_t count) {
  const rule by = rule_of(type, kind);
  uint64_t values[MOST_RANKS];
  for (uint64_t i = 0; i < count * type.lanes; i++) {
    for (int32_t r = 0; r < n; r++) values[r] = load_bits(inputs[r], type, i);
    store_bits(to, type, i, result_of(by, values, n));
  }
}

double to_double(DLDataType type, uint64_t bits) {
  if (type.bits == 64) return double_of_bits(bits);
  return (double)float_of_bits((uint32_t)take_in(rule_of(type, SUM), bits));
}
