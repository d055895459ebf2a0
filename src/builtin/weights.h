/* Sharded weights straight into a worker's memory. Safe-call signature of TVM-FFI; disco/worker.h, Weights. */
#ifndef DSC_BUILTIN_WEIGHTS_H
#define DSC_BUILTIN_WEIGHTS_H

#include <tvm/ffi/c_api.h>

#include "weights/shard.h"
#include "worker/worker.h"

/* A tensor of the shard's shape where runtime.disco.empty makes it, owned by the caller. */
disco_status dsc_builtin_make_shard(const dsc_worker *worker, const disco_shard *shard, TVMFFIObjectHandle *ret_tensor);
/* Read the shard into it. Looks at the control group's limit first: memory that was given out and is not written yet
 * does not count there, and writing past the limit is a kill. */
disco_status dsc_builtin_read_shard(const disco_weights *weights, const disco_shard *shard, TVMFFIObjectHandle tensor);

int dsc_builtin_load_weights(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);

#endif
