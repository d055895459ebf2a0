/* Element types as tensors name them. Any thread. */
#ifndef DSC_CCL_DTYPE_H
#define DSC_CCL_DTYPE_H

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* As one word, for shared memory. */
static inline uint32_t dsc_dtype_pack(DLDataType dtype) {
  uint32_t word;
  memcpy(&word, &dtype, sizeof(word));
  return word;
}
static inline DLDataType dsc_dtype_unpack(uint32_t word) {
  DLDataType dtype;
  memcpy(&dtype, &word, sizeof(dtype));
  return dtype;
}

/* "float32", "int4x8", "float8_e4m3fn"; a code that is not known by its number. */
void dsc_dtype_text(DLDataType dtype, char *text, size_t room);

#endif
