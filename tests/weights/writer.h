/* Weight files of random values for tests: one description, any format.
 *
 *   writer_model     what to write: tensors (name, encoding, shape), a seed, metadata or none
 *   writer_write()   writes it as GGUF, safetensors (one file, or several and an index) or tensor-cache
 *   writer_block()   the bytes of one element or block, without the file: they follow from seed, name and index alone
 *
 * Elements are numbered row-major: the last dimension is the one whose elements lie side by side. The words they are
 * made of are easily made elsewhere, too:
 *
 *   key     = splitmix64(seed ^ fnv1a64(name))
 *   word(i) = splitmix64(key + i * 0x9e3779b97f4a7c15)    all mod 2^64; splitmix64 is its output function alone
 *
 * A plain element i is made of word(i); a block b of B bytes of the W = ceil(B / 8) words b * W and following, as they
 * lie in memory. Floats (and the scales of blocks) are these bits with an exponent put in its place, so that most lie
 * between -2 and 2; one element in 64 is subnormal or zero, infinite, or the largest there is. There is no NaN, and
 * scales are finite. Everything here is little-endian. */
#ifndef TESTS_WEIGHTS_WRITER_H
#define TESTS_WEIGHTS_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WRITER_MAX_NDIM = 8, WRITER_MAX_BLOCK_BYTES = 512 };

typedef enum { WRITER_GGUF, WRITER_SAFETENSORS, WRITER_SAFETENSORS_INDEX, WRITER_TENSOR_CACHE } writer_format;

/* How elements are made of words. */
typedef enum {
  WRITER_BITS,   /* integers: the low bytes of the word as they are */
  WRITER_BOOL,   /* 0 or 1 */
  WRITER_FLOAT,  /* of exponent_bits and mantissa_bits */
  WRITER_BLOCKS, /* bytes of words; the first `scales` pairs of them are finite half floats */
} writer_kind;

typedef struct {
  const char *name; /* "F32", "Q8_0", "f32-to-bf16"; the same for all formats that have it */
  writer_kind kind;
  int32_t block_elements, block_bytes; /* 1 and the size of an element, when plain */
  int32_t exponent_bits, mantissa_bits, scales;
  int32_t gguf;            /* its number there; -1: no such type */
  const char *safetensors; /* NULL: no such type */
  const char *cache_dtype; /* of tensor-cache.json; NULL: no such type */
} writer_encoding;

/* NULL for a name that is not known. */
const writer_encoding *writer_find_encoding(const char *name);

/* All bytes of block `block` (of element `block` when plain): encoding->block_bytes of them. */
void writer_block(uint64_t seed, const char *name, const writer_encoding *encoding, int64_t block, void *to);
/* The same for many blocks from `first` on, the key made once. */
uint64_t writer_key(uint64_t seed, const char *name);
void writer_fill(uint64_t key, const writer_encoding *encoding, int64_t first, int64_t count, void *to);
/* What element `element` decodes to. Of F32, F16, BF16, f32-to-bf16, Q8_0 and Q4_1; 0 for others. */
float writer_float(uint64_t seed, const char *name, const writer_encoding *encoding, int64_t element);

typedef struct {
  const char *name;
  const char *encoding;
  int32_t ndim; /* 0 to WRITER_MAX_NDIM; GGUF has at most 4 */
  int64_t shape[WRITER_MAX_NDIM];
} writer_tensor;

/* Zero is the default of everything. */
typedef struct {
  uint64_t seed;
  int32_t num_tensors;
  const writer_tensor *tensors;
  bool has_metadata;     /* one of each type that the format has: see writer.c */
  int32_t num_files;     /* with an index and of a cache: tensors go to files in turn (2) */
  uint32_t gguf_version; /* 2 or 3 (3) */
  uint32_t alignment;    /* of GGUF: a power of two (32) */
} writer_model;

/* Write it, over what is there. `path` is a file for GGUF and safetensors; else a folder, made when it is missing, with
 * model.safetensors.index.json or tensor-cache.json in it. NULL, or a sentence about what was wrong: it lives until
 * the next call. */
const char *writer_write(const writer_model *model, writer_format format, const char *path);

#endif
