/* Bodies of include/disco/worker.h. */
#include "disco/worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/startup.h"
#include "builtin/collectives.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "os/cpu.h"
#include "worker/process.h"

disco_status disco_worker_get_info(disco_worker_info *ret_info) {
  dsc_worker *worker = NULL;
  disco_status status = dsc_worker_require("disco_worker_get_info", &worker);
  if (status != DISCO_OK) return status;
  if (ret_info == NULL || ret_info->struct_size == 0)
    return dsc_fail(DISCO_VALUE, "disco_worker_get_info: set struct_size first");
  const dsc_worker_setup *setup = &worker->setup;
  int32_t group_size = setup->num_workers / setup->num_groups;
  disco_worker_info info = {.struct_size = ret_info->struct_size,
                            .worker_id = setup->id,
                            .local_id = setup->local_id,
                            .num_workers = setup->num_workers,
                            .num_groups = setup->num_groups,
                            .group = setup->id / group_size,
                            .rank_in_group = setup->id % group_size,
                            .device = worker->device,
                            .ccl = worker->ccl,
                            .sequence = worker->sequence};
  memcpy(ret_info, &info, info.struct_size < sizeof(info) ? info.struct_size : sizeof(info));
  return DISCO_OK;
}

disco_status disco_worker_progress(uint64_t done, uint64_t total) {
  dsc_worker *worker = NULL;
  disco_status status = dsc_worker_require("disco_worker_progress", &worker);
  return status == DISCO_OK ? dsc_worker_progress(worker, done, total) : status;
}

disco_status disco_worker_set_ccl(const char *ccl, DLDevice device) {
  dsc_worker *worker = NULL;
  disco_status status = dsc_worker_require("disco_worker_set_ccl", &worker);
  if (status != DISCO_OK) return status;
  if (ccl == NULL || *ccl == 0 || strlen(ccl) >= sizeof(worker->ccl))
    return dsc_fail(DISCO_VALUE, "a data plane's name has 1 to %zu bytes", sizeof(worker->ccl) - 1);
  if (worker->ccl[0] != 0)
    return dsc_fail(DISCO_RUNTIME, "worker %d already uses the data plane `%s`: init_ccl once per session",
                    worker->setup.id, worker->ccl);
  (void)snprintf(worker->ccl, sizeof(worker->ccl), "%s", ccl);
  worker->device = device;
  return DISCO_OK;
}

int disco_raise(const char *kind, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int rc = dsc_error_raisev(kind, format, args);
  va_end(args);
  return rc;
}

int disco_raise_last(void) {
  const dsc_error *error = dsc_thread_error();
  if (error == NULL)
    return disco_raise("RuntimeError", "disco_raise_last: no call of libdisco has failed on this thread");
  return dsc_error_raise_status(error->status);
}

disco_status disco_register_function(const char *name, TVMFFISafeCallType function, void *self,
                                     void (*self_deleter)(void *), bool override) {
  if (name == NULL || *name == 0 || function == NULL)
    return dsc_fail(DISCO_VALUE, "disco_register_function needs a name and a function");
  return dsc_function_register(name, function, self, self_deleter, override);
}

disco_status disco_tensor_create(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device,
                                 TVMFFIObjectHandle *ret_tensor) {
  if (ret_tensor == NULL) return dsc_fail(DISCO_VALUE, "disco_tensor_create needs a place for its result");
  return dsc_tensor_create(ndim, shape, dtype, device, ret_tensor);
}

disco_status disco_worker_process(int32_t worker_id, int32_t num_workers, int32_t num_groups, int read_fd,
                                  int write_fd) {
  disco_status status = dsc_startup_status();
  return status == DISCO_OK ? dsc_worker_process(worker_id, num_workers, num_groups, read_fd, write_fd) : status;
}

disco_status disco_worker_run_channel(int32_t worker_id, int32_t num_workers, int32_t num_groups,
                                      struct disco_channel *channel) {
  if (channel == NULL || channel->ops == NULL || channel->ops->struct_size < sizeof(disco_channel_ops))
    return dsc_fail(DISCO_VALUE,
                    "disco_worker_run_channel: the channel has no ops, or older ones than this libdisco's");
  return dsc_worker_run_channel(worker_id, num_workers, num_groups, channel);
}

disco_status disco_bind_cpu(int64_t cpu) { return dsc_cpu_bind(cpu); }

/* ---- Collectives ---- */

disco_status disco_allreduce(const DLTensor *send, disco_reduce_kind kind, bool in_group, DLTensor *recv) {
  dsc_collective_args args = {.send = send, .recv = recv, .kind = (int64_t)kind, .in_group = in_group};
  return dsc_collective_run(DSC_COLLECTIVE_ALLREDUCE, &args);
}

disco_status disco_allgather(const DLTensor *send, bool in_group, DLTensor *recv) {
  dsc_collective_args args = {.send = send, .recv = recv, .in_group = in_group};
  return dsc_collective_run(DSC_COLLECTIVE_ALLGATHER, &args);
}

disco_status disco_broadcast_from_worker0(const DLTensor *send, bool in_group, DLTensor *recv) {
  dsc_collective_args args = {.send = send, .recv = recv, .in_group = in_group};
  return dsc_collective_run(DSC_COLLECTIVE_BROADCAST, &args);
}

disco_status disco_scatter_from_worker0(const DLTensor *send, bool in_group, DLTensor *recv) {
  dsc_collective_args args = {.send = send, .recv = recv, .in_group = in_group};
  return dsc_collective_run(DSC_COLLECTIVE_SCATTER, &args);
}

disco_status disco_gather_to_worker0(const DLTensor *send, bool in_group, DLTensor *recv) {
  dsc_collective_args args = {.send = send, .recv = recv, .in_group = in_group};
  return dsc_collective_run(DSC_COLLECTIVE_GATHER, &args);
}

disco_status disco_send_to_worker(const DLTensor *send, int32_t receiver) {
  dsc_collective_args args = {.send = send, .peer = receiver};
  return dsc_collective_run(DSC_COLLECTIVE_SEND, &args);
}

disco_status disco_recv_from_worker(DLTensor *recv, int32_t sender) {
  dsc_collective_args args = {.recv = recv, .peer = sender};
  return dsc_collective_run(DSC_COLLECTIVE_RECV, &args);
}

disco_status disco_recv_from_worker0(DLTensor *recv) {
  dsc_collective_args args = {.recv = recv};
  return dsc_collective_run(DSC_COLLECTIVE_RECV_WORKER0, &args);
}

disco_status disco_send_to_next_group(const DLTensor *send) {
  dsc_collective_args args = {.send = send};
  return dsc_collective_run(DSC_COLLECTIVE_SEND_NEXT, &args);
}

disco_status disco_recv_from_prev_group(DLTensor *recv) {
  dsc_collective_args args = {.recv = recv};
  return dsc_collective_run(DSC_COLLECTIVE_RECV_PREV, &args);
}

disco_status disco_sync_worker(void) {
  dsc_collective_args args = {0};
  return dsc_collective_run(DSC_COLLECTIVE_SYNC, &args);
}

disco_status disco_worker_collective_stats(disco_collective_stats *ret_stats) {
  dsc_worker *worker = NULL;
  disco_status status = dsc_worker_require("disco_worker_collective_stats", &worker);
  if (status != DISCO_OK) return status;
  if (ret_stats == NULL || ret_stats->struct_size == 0)
    return dsc_fail(DISCO_VALUE, "disco_worker_collective_stats: set struct_size first");
  disco_collective_stats stats = {.struct_size = ret_stats->struct_size};
  if (worker->plane != NULL) {
    const dsc_rank_note *note = worker->plane->note;
    stats.inlined = dsc_load_relaxed(&note->inlined);
    stats.staged = dsc_load_relaxed(&note->staged);
    stats.direct = dsc_load_relaxed(&note->direct);
    stats.bytes = dsc_load_relaxed(&note->bytes);
    stats.sleeps = dsc_load_relaxed(&note->sleeps);
  }
  memcpy(ret_stats, &stats, stats.struct_size < sizeof(stats) ? stats.struct_size : sizeof(stats));
  return DISCO_OK;
}
