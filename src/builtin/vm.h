/* Modules that TVM's compiler made, on workers (runtime.disco.load_vm_module). Safe-call signature of TVM-FFI. */
#ifndef DSC_BUILTIN_VM_H
#define DSC_BUILTIN_VM_H

#include <tvm/ffi/c_api.h>

/* (path: str, device: Device, its text, or None for the worker's own) -> Module. A Relax executable gives a virtual
 * machine of the caller's own, ready to run; any other library is returned as it is. Needs a worker only where device
 * is None. Raises what TVM raised, with the path before it. Any thread, several at once. */
int dsc_builtin_load_vm_module(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);

#endif
