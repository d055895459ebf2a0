/* Identity, empty tensors, CPU binding: functions a worker runs. Safe-call signature of TVM-FFI. */
#ifndef DSC_BUILTIN_BASIC_H
#define DSC_BUILTIN_BASIC_H

#include <tvm/ffi/c_api.h>

int dsc_builtin_worker_id(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_worker_rank(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_world_size(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_device(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_empty(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_bind_worker_to_cpu_core(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);

#endif
