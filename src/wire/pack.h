/* Values as bytes, for workers that share no address space: arguments, debug values, replies, errors.
 *
 * A packed value is a head of 16 bytes (dsc_packed) and a body, both multiples of 8 bytes. Small values are their own
 * TVMFFIAny. The data of large strings, bytes and tensors may lie in a side file (a memfd that is written once and
 * mapped copy-on-write by every reader). Everything that is read is checked before it is believed or allocated. */
#ifndef DSC_WIRE_PACK_H
#define DSC_WIRE_PACK_H

#include <stdbool.h>
#include <stddef.h>

#include "ffi/value.h"

enum {
  DSC_PACK_ALIGN = 8,
  DSC_PACK_SIDE_ALIGN = 4096, /* data in the side file begins on pages */
  DSC_PACK_MAX_NESTING = 16,  /* of containers */
  DSC_PACK_MAX_NDIM = 64,
};

/* The head. type_index: None, Int, Bool, Float, DataType, Device, SmallStr, SmallBytes: `payload` is the value's own 8
 * bytes and there is no body (for small strings `extra` is their length as in TVMFFIAny). Str, Bytes, Shape, Tensor,
 * Error, Array, Map: `payload` is the size of the body in bytes; `extra` is DSC_PACKED_SIDE or 0. */
typedef struct {
  int32_t type_index;
  uint32_t extra;
  uint64_t payload;
} dsc_packed;

/* Is a value of this type its own head, without a body? The one list of those types. */
static inline bool dsc_packed_is_plain(int32_t type_index) {
  switch (type_index) {
  case kTVMFFINone:
  case kTVMFFIInt:
  case kTVMFFIBool:
  case kTVMFFIFloat:
  case kTVMFFIDataType:
  case kTVMFFIDevice:
  case kTVMFFISmallStr:
  case kTVMFFISmallBytes: return true;
  default: return false;
  }
}

enum { DSC_PACKED_SIDE = 1 }; /* the data is in the side file: the body ends with {offset, bytes} instead */

/* What may travel. */
enum {
  DSC_PACK_PLAIN = 0,      /* None, bool, int, float, str, bytes, dtype, device, shape, tensor, error */
  DSC_PACK_CONTAINERS = 1, /* Array and Map of those, too: explicit debug reads and writes */
};

/* Where data goes that is too large for the record. Zeroed, with a threshold: nothing goes there below it. */
typedef struct {
  uint64_t threshold; /* bytes of one string's or tensor's data from which on it goes to the side; UINT64_MAX: never */
  uint64_t bytes;     /* out, of the measuring pass: how large the side file must be; a multiple of 8 */
  char *base;         /* the writing pass: its mapping, `bytes` long */
  uint64_t used;      /* the writing pass: how much is written; start with 0 */
} dsc_pack_side;

/* First pass: may this value travel, and how many bytes does it take in the record? Adds to side->bytes. `what` names
 * it
 * ("argument 3"). DISCO_TYPE: "<what> is a `ffi.Function`, which cannot travel to another process: thread workers
 * only" (functions, modules, Python objects, opaque pointers, borrowed DLTensors, DRefs, sessions); DISCO_VALUE: a
 * string over DSC_STRING_MAX, nesting, a tensor that is not on the CPU or has more than 2^63 bits. Strided tensors may
 * travel: they arrive row-major. */
disco_status dsc_pack_measure(const TVMFFIAny *value, unsigned allowed, const char *what, dsc_pack_side *side,
                              uint64_t *ret_bytes);
/* Second pass, straight after the first on the same, unchanged value: writes exactly those bytes at `to` (8-byte
 * aligned), and its data at side->base + side->used, which it advances. Returns the end; NULL with DISCO_MEMORY in the
 * thread's error when there is no memory to walk a map (never without DSC_PACK_CONTAINERS). */
char *dsc_pack(const TVMFFIAny *value, dsc_pack_side *side, char *to);

/* The side file as a reader has it. */
typedef struct dsc_side_view dsc_side_view;
struct dsc_side_view {
  const char *base; /* NULL: there is none */
  uint64_t bytes;
  /* Count a user of the mapping more or less; tensors then point into it (it must be private and writable). NULL: data
   * is copied out instead. */
  void (*hold)(dsc_side_view *view);
  void (*release)(dsc_side_view *view);
};

/* Read one packed value from at most `size` bytes at `bytes` (8-byte aligned). *ret_value is owned by the caller,
 * *ret_used gets what it took. DISCO_LOST: malformed (a size that does not fit, an unknown type, nesting), nothing is
 * allocated from numbers that were not checked; DISCO_MEMORY. */
disco_status dsc_unpack(const void *bytes, uint64_t size, unsigned allowed, dsc_side_view *side, TVMFFIAny *ret_value,
                        uint64_t *ret_used);

#endif
