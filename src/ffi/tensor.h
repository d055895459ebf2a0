/* CPU tensors: make, describe, copy. Shapes in elements, sizes in bytes. Any thread. */
#ifndef DSC_FFI_TENSOR_H
#define DSC_FFI_TENSOR_H

#include <stdbool.h>
#include <tvm/ffi/c_api.h>

#include "base/status.h"
#include "base/text.h"

enum { DSC_TENSOR_ALIGNMENT = 64 };

/* The DLTensor in a tensor object, or NULL when the value is none (a borrowed DLTensor* is none either). */
DLTensor *dsc_tensor_of(const TVMFFIAny *value);
/* (elements x bits x lanes + 7) / 8; false when it does not fit an int64. */
bool dsc_tensor_bytes(const DLTensor *tensor, uint64_t *ret_bytes);
bool dsc_tensor_is_contiguous(const DLTensor *tensor);
/* "float32[2, 3] (24 bytes)"; a tensor that is not on the CPU says where it is */
void dsc_tensor_describe(const DLTensor *tensor, dsc_text *text);

/* Row-major, 64-byte aligned, uninitialised. Owned by the caller. DISCO_VALUE for a bad shape or dtype, DISCO_MEMORY
 * with the size. */
disco_status dsc_tensor_create(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device,
                               TVMFFIObjectHandle *ret_tensor);
/* A row-major tensor over the caller's memory at `data` (64-byte aligned, as large as the shape says): the last
 * reference calls release(context, data) once, on whatever thread drops it. The shape is copied. On failure release is
 * not called. */
disco_status dsc_tensor_create_over(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device, void *data,
                                    void (*release)(void *context, void *data), void *context,
                                    TVMFFIObjectHandle *ret_tensor);

/* Can dsc_tensor_gather read it? Not when it is strided and has more than 32 dimensions or elements that are not whole
 * bytes. */
bool dsc_tensor_can_gather(const DLTensor *tensor);
/* Copy all bytes of a tensor in host memory to `to` in row-major order. It may be strided; dsc_tensor_bytes tells how
 * many. */
void dsc_tensor_gather(const DLTensor *tensor, void *to);

/* Copy all bytes of `from` to `to` (rule of the contract: equal byte sizes, shapes and dtypes need not agree). Either
 * side may be strided; views with a byte offset are honoured. `from_name` and `to_name` stand in the error. Nothing is
 * written when it fails. Tensors that are not on the CPU go through TVM's copy function when that is loaded. */
disco_status dsc_tensor_copy(const TVMFFIAny *from, const char *from_name, const TVMFFIAny *to, const char *to_name);

#endif
