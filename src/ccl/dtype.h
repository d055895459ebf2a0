/* Element types as tensors name them. Any thread. */
#ifndef DSC_CCL_DTYPE_H
#define DSC_CCL_DTYPE_H

#include <dlpack/dlpack.h>
#include <stddef.h>

/* "float32", "int4x8", "float8_e4m3fn"; a code that is not known by its number. */
void dsc_dtype_text(DLDataType dtype, char *text, size_t room);

#endif
