/* TVM's loader of sharded weights (runtime.disco.ShardLoader and its functions): a tensor cache whose records worker 0
 * loads, cuts by named functions and scatters. Safe-call signature of TVM-FFI; disco/worker.h, Weights. */
#ifndef DSC_BUILTIN_SHARD_LOADER_H
#define DSC_BUILTIN_SHARD_LOADER_H

#include <tvm/ffi/c_api.h>

int dsc_builtin_shard_loader(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_shard_load(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_shard_load_presharded(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_shard_load_all(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_shard_load_all_presharded(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_shard_load_param(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);

#endif
