#include <string.h>

#include "weights/decode.h"
#include "weights/shard.h"

static bool is_float(DLDataType dtype, uint8_t code) {
  return dtype.code == code && dtype.bits == 16 && dtype.lanes == 1;
}

static void choose_decoder(const dsc_weight *weight, bool decoded, dsc_slice *slice) {
  slice->decode = NULL;
  if (decoded || !weight->view.is_block_quantised) slice->decode = weight->encoding->decode;
  if (slice->decode != NULL || !decoded) return;
  if (is_float(weight->view.dtype, kDLFloat)) slice->decode = dsc_decode_f16;
  if (is_float(weight->view.dtype, kDLBfloat)) slice->decode = dsc_decode_bf16;
}

int64_t dsc_slice_granule(const dsc_weight *weight, int32_t axis) {
  return axis == weight->view.ndim - 1 ? weight->view.block_elements : 1;
}

/* Bytes in the file of so many elements of dimension `axis`, with all that lies below each. The tensor is not empty, so
 * no product is larger than its size, which was checked. */
static uint64_t stored_bytes(const disco_weights_tensor *view, int32_t axis, int64_t count) {
  const int32_t last = view->ndim - 1;
  if (axis == last) return (uint64_t)(count / view->block_elements) * (uint64_t)view->block_bytes;
  uint64_t bytes = (uint64_t)(view->shape[last] / view->block_elements) * (uint64_t)view->block_bytes;
  for (int32_t i = axis + 1; i < last; i++) bytes *= (uint64_t)view->shape[i];
  return bytes * (uint64_t)count;
}

static void lay_out(const disco_weights_tensor *view, int32_t axis, int64_t first, int64_t count, dsc_slice *slice) {
  slice->runs = slice->run_bytes = slice->stride = slice->offset = 0;
  if (view->bytes == 0 || (axis >= 0 && count == 0)) return;
  slice->runs = 1;
  slice->run_bytes = slice->stride = view->bytes;
  if (axis < 0 || count == view->shape[axis]) return;
  for (int32_t i = 0; i < axis; i++) slice->runs *= (uint64_t)view->shape[i];
  slice->run_bytes = stored_bytes(view, axis, count);
  slice->stride = stored_bytes(view, axis, view->shape[axis]);
  slice->offset = stored_bytes(view, axis, first);
}

disco_status dsc_slice_of(const dsc_weight *weight, bool decoded, int32_t axis, int64_t first, int64_t count,
                          disco_shard *ret_shard, dsc_slice *ret_slice) {
  const disco_weights_tensor *view = &weight->view;
  if (view->dtype.bits == 0) return dsc_fail(DISCO_VALUE, "encoding %s can be listed, not read", view->encoding);
  dsc_slice slice = {.block_elements = view->block_elements, .block_bytes = view->block_bytes};
  choose_decoder(weight, decoded, &slice);
  lay_out(view, axis, first, count, &slice);
  disco_shard shard = {.axis = axis, .dtype = view->dtype, .ndim = view->ndim};
  shard.is_decoded = slice.decode != NULL;
  memcpy(shard.shape, view->shape, (size_t)view->ndim * sizeof(shard.shape[0]));
  if (axis >= 0) {
    shard.shape[axis] = count;
    shard.first = first, shard.count = count;
  } else if (view->ndim > 0) {
    shard.count = view->shape[0];
  }
  shard.bytes = shard.file_bytes = slice.runs * slice.run_bytes;
  const uint64_t elements = shard.bytes / (uint64_t)view->block_bytes * (uint64_t)view->block_elements;
  if (shard.is_decoded) {
    shard.dtype = (DLDataType){kDLFloat, 32, 1};
    if (__builtin_mul_overflow(elements, sizeof(float), &shard.bytes) || shard.bytes > INT64_MAX)
      return dsc_fail(DISCO_VALUE, "%llu elements of encoding %s are too many to decode to float32",
                      (unsigned long long)elements, view->encoding);
  } else if (view->is_block_quantised && view->ndim > 0) {
    int64_t *last = &shard.shape[view->ndim - 1];
    shard.dtype = (DLDataType){kDLUInt, 8, 1};
    if (__builtin_mul_overflow(*last / view->block_elements, view->block_bytes, last)) /* of an empty tensor */
      return dsc_fail(DISCO_VALUE, "its last dimension is longer than 63 bits in bytes");
  }
  *ret_shard = shard;
  if (ret_slice != NULL) *ret_slice = slice;
  return DISCO_OK;
}
