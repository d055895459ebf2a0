/* Values of random weights: bytes and decoded floats of any element. */
#include <math.h>
#include <string.h>

#include "weights/writer.h"

/* ---- Encodings ---- */

#define INTEGER(name, bytes, gguf, cache) \
  { name, WRITER_BITS, 1, bytes, 0, 0, 0, gguf, name, cache }
#define FLOAT(name, exponent, mantissa, gguf, safetensors, cache) \
  { name, WRITER_FLOAT, 1, (1 + (exponent) + (mantissa)) / 8, exponent, mantissa, 0, gguf, safetensors, cache }
#define BLOCKS(name, elements, bytes, scales, gguf) \
  { name, WRITER_BLOCKS, elements, bytes, 0, 0, scales, gguf, NULL, NULL }

static const writer_encoding encodings[] = {
    FLOAT("F32", 8, 23, 0, "F32", "float32"),
    FLOAT("F16", 5, 10, 1, "F16", "float16"),
    FLOAT("BF16", 8, 7, 30, "BF16", "bfloat16"),
    FLOAT("F64", 11, 52, 28, "F64", "float64"),
    FLOAT("f32-to-bf16", 8, 7, -1, NULL, "float32"),
    FLOAT("F8_E4M3", 4, 3, -1, "F8_E4M3", "float8_e4m3fn"),
    FLOAT("F8_E5M2", 5, 2, -1, "F8_E5M2", "float8_e5m2"),
    INTEGER("I8", 1, 24, "int8"),
    INTEGER("I16", 2, 25, "int16"),
    INTEGER("I32", 4, 26, "int32"),
    INTEGER("I64", 8, 27, "int64"),
    INTEGER("U8", 1, -1, "uint8"),
    INTEGER("U16", 2, -1, "uint16"),
    INTEGER("U32", 4, -1, "uint32"),
    INTEGER("U64", 8, -1, "uint64"),
    {"BOOL", WRITER_BOOL, 1, 1, 0, 0, 0, -1, "BOOL", "bool"},
    BLOCKS("Q8_0", 32, 34, 1, 8),
    BLOCKS("Q4_1", 32, 20, 2, 3),
    /* What the library lists and does not read. */
    BLOCKS("Q4_0", 32, 18, 1, 2),
    BLOCKS("Q5_0", 32, 22, 1, 6),
    BLOCKS("Q5_1", 32, 24, 2, 7),
    BLOCKS("Q2_K", 256, 84, 0, 10),
    BLOCKS("Q3_K", 256, 110, 0, 11),
    BLOCKS("Q4_K", 256, 144, 2, 12),
    BLOCKS("Q5_K", 256, 176, 2, 13),
    BLOCKS("Q6_K", 256, 210, 0, 14),
    BLOCKS("IQ4_NL", 32, 18, 1, 20),
};

const writer_encoding *writer_find_encoding(const char *name) {
  for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++)
    if (strcmp(encodings[i].name, name) == 0) return &encodings[i];
  return NULL;
}

/* ---- Words ---- */

static uint64_t splitmix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t writer_key(uint64_t seed, const char *name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char *at = name; *at != 0; at++) hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
  return splitmix64(seed ^ hash);
}

static uint64_t word_of(uint64_t key, uint64_t i) { return splitmix64(key + i * 0x9e3779b97f4a7c15u); }

/* ---- Floats ---- */

/* Sign, exponent and mantissa from disjoint parts of the word: bits 63, 58 to 62, and from 0 on. */
static uint64_t float_bits(uint64_t word, int exponent_bits, int mantissa_bits, bool finite) {
  const uint64_t last = (1u << exponent_bits) - 1, bias = last / 2, step = word >> 58 & 31;
  const uint64_t fraction = word & ((1ull << mantissa_bits) - 1), sign = word >> 63;
  uint64_t exponent = bias - step % (bias < 12 ? bias : 12), mantissa = fraction;
  if (!finite && (word >> 52 & 63) == 0) {
    switch (step % 4) {
    case 0: exponent = 0; break;                  /* subnormal */
    case 1: exponent = 0, mantissa = 0; break;    /* zero, with a sign */
    case 2: exponent = last, mantissa = 0; break; /* infinite */
    default: exponent = last - 1, mantissa = (1ull << mantissa_bits) - 1; break;
    }
  }
  return sign << (exponent_bits + mantissa_bits) | exponent << mantissa_bits | mantissa;
}

static void put_block(uint64_t key, const writer_encoding *encoding, int64_t block, unsigned char *to) {
  const uint64_t words = ((uint64_t)encoding->block_bytes + 7) / 8;
  uint64_t buffer[WRITER_MAX_BLOCK_BYTES / 8];
  for (uint64_t i = 0; i < words; i++) buffer[i] = word_of(key, (uint64_t)block * words + i);
  memcpy(to, buffer, (size_t)encoding->block_bytes);
  for (int32_t i = 0; i < encoding->scales; i++) {
    const uint16_t scale = (uint16_t)float_bits(word_of(buffer[0], (uint64_t)i), 5, 10, true);
    memcpy(to + 2 * i, &scale, sizeof(scale));
  }
}

void writer_fill(uint64_t key, const writer_encoding *encoding, int64_t first, int64_t count, void *to) {
  unsigned char *at = to;
  for (int64_t i = first; i < first + count; i++, at += encoding->block_bytes) {
    if (encoding->kind == WRITER_BLOCKS) {
      put_block(key, encoding, i, at);
      continue;
    }
    uint64_t word = word_of(key, (uint64_t)i);
    if (encoding->kind == WRITER_FLOAT)
      word = float_bits(word, encoding->exponent_bits, encoding->mantissa_bits, false);
    else if (encoding->kind == WRITER_BOOL)
      word &= 1;
    memcpy(at, &word, (size_t)encoding->block_bytes);
  }
}

void writer_block(uint64_t seed, const char *name, const writer_encoding *encoding, int64_t block, void *to) {
  writer_fill(writer_key(seed, name), encoding, block, 1, to);
}

/* ---- Decoded: written for the eye, not for speed; the library's decoders are others ---- */

static float of_half(const unsigned char *at) {
  uint16_t bits;
  memcpy(&bits, at, sizeof(bits));
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const float sign = (bits & 0x8000) != 0 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * ldexpf((float)mantissa, -24);
  return sign * ldexpf((float)(1024 + mantissa), exponent - 25);
}

static float of_upper_half(const unsigned char *at) {
  unsigned char bytes[4] = {0, 0, at[0], at[1]};
  float value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

static bool is(const writer_encoding *encoding, const char *name) { return strcmp(encoding->name, name) == 0; }

float writer_float(uint64_t seed, const char *name, const writer_encoding *encoding, int64_t element) {
  unsigned char block[WRITER_MAX_BLOCK_BYTES];
  const int64_t within = element % encoding->block_elements;
  float value = 0;
  writer_block(seed, name, encoding, element / encoding->block_elements, block);
  if (is(encoding, "F32"))
    memcpy(&value, block, sizeof(value));
  else if (is(encoding, "F16"))
    value = of_half(block);
  else if (is(encoding, "BF16") || is(encoding, "f32-to-bf16"))
    value = of_upper_half(block);
  else if (is(encoding, "Q8_0"))
    value = of_half(block) * (float)(int8_t)block[2 + within];
  else if (is(encoding, "Q4_1")) {
    const int byte = block[4 + within % 16], nibble = within < 16 ? byte & 15 : byte >> 4;
    value = of_half(block) * (float)nibble + of_half(block + 2);
  }
  return value;
}
