/* The front of the data plane: runtime.disco.<operation>, runtime.disco.<ccl>.<operation> and the functions of
 * disco/worker.h. A worker whose data plane is one of this library's goes straight to it; any other is called by its
 * name, runtime.disco.<ccl>.<operation>, so that the door stays open for third parties. */
#ifndef DSC_BUILTIN_COLLECTIVES_H
#define DSC_BUILTIN_COLLECTIVES_H

#include <stdbool.h>
#include <tvm/ffi/c_api.h>

#include "base/status.h"

typedef enum {
  DSC_COLLECTIVE_ALLREDUCE,
  DSC_COLLECTIVE_ALLGATHER,
  DSC_COLLECTIVE_BROADCAST,
  DSC_COLLECTIVE_SCATTER,
  DSC_COLLECTIVE_GATHER,
  DSC_COLLECTIVE_RECV_WORKER0,
  DSC_COLLECTIVE_SEND_NEXT,
  DSC_COLLECTIVE_RECV_PREV,
  DSC_COLLECTIVE_SEND,
  DSC_COLLECTIVE_RECV,
  DSC_COLLECTIVE_SYNC,
  DSC_NUM_COLLECTIVES
} dsc_collective_id;

/* The arguments of any of them. */
typedef struct {
  const DLTensor *send;
  DLTensor *recv;
  int64_t kind; /* of a reduction */
  int64_t peer; /* of a transfer */
  bool in_group;
} dsc_collective_args;

/* On the calling worker. */
disco_status dsc_collective_run(dsc_collective_id id, const dsc_collective_args *args);

/* The name behind "runtime.disco." and behind "runtime.disco.cpu.". */
const char *dsc_collective_name(dsc_collective_id id);

/* FFI functions. `self` is the id + 1: the front, and a backend's own, which refuses workers that have another one. */
int dsc_builtin_collective(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_collective_cpu(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_collective_ref(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
/* (buffer: Tensor) -> None: self-checks of a data plane with 4 workers in 2 groups: group 0 sends to group 1; worker 2
 * sends to worker 0 */
int dsc_builtin_check_groups(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
int dsc_builtin_check_workers(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
/* (device ids: Shape) -> None: start it on this worker; `self` is the data plane's name */
int dsc_builtin_init_ccl_per_worker(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);
/* () -> str */
int dsc_builtin_compiled_ccl(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result);

#endif
