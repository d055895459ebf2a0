/* Who gets what of a tensor, and reading it. The contracts are those of disco/weights.h, word for word; the functions
 * of the same names there forward to these. Nothing here changes a model or a plan: any thread, several at once.
 *
 *   shard.c       plan and tensor -> shard, or why not and which numbers of workers would do
 *   slice.c       shard -> where its bytes lie in the file, and what becomes of them
 *   shard_read.c  reading them */
#ifndef DSC_WEIGHTS_SHARD_H
#define DSC_WEIGHTS_SHARD_H

#include "weights/model.h"
#include "weights/plan.h"

disco_status dsc_shard_of(const disco_weights *weights, const disco_shard_plan *plan, int64_t tensor,
                          int32_t num_workers, int32_t worker, disco_shard *ret_shard);
disco_status dsc_shard_check(const disco_weights *weights, const disco_shard_plan *plan, int32_t num_workers);
disco_status dsc_shard_read(const disco_weights *weights, const disco_shard *shard, disco_weights_progress progress,
                            void *context, void *memory);

/* Where a slice lies in its tensor: `runs` ranges of `run_bytes`, `stride` bytes apart, the first at `offset`. One
 * after the other they are the shard, once each `block_bytes` of them have become `block_elements` by `decode`. */
typedef struct {
  uint64_t runs, run_bytes, stride, offset;                   /* bytes of the file; all 0 for an empty slice */
  void (*decode)(const void *from, int64_t count, float *to); /* NULL: as they are */
  int32_t block_elements, block_bytes;
} dsc_slice;

/* `count` elements of dimension `axis` from `first` on (all of it when axis is -1). The range must lie within the
 * dimension and its ends on blocks. Fills the shard (but for `tensor`) and, unless it is NULL, the slice. DISCO_VALUE
 * for encodings that can only be listed, and results of 2^63 bytes and more; the sentence goes on behind the tensor's
 * name. */
disco_status dsc_slice_of(const dsc_weight *weight, bool decoded, int32_t axis, int64_t first, int64_t count,
                          disco_shard *ret_shard, dsc_slice *ret_slice);
/* Elements of dimension `axis` that cannot be separated. */
int64_t dsc_slice_granule(const dsc_weight *weight, int32_t axis);

#endif
