/* Who the calling thread is: set once, when it becomes a worker. */
#include <stdio.h>
#include <string.h>

#include "disco/worker.h"
#include "worker/worker.h"

/* Read on every call of a session: the fast model costs 8 bytes of static TLS. */
_Thread_local dsc_worker *dsc_current_worker __attribute__((tls_model("initial-exec")));

dsc_worker *dsc_worker_current(void) { return dsc_current_worker; }

disco_status dsc_worker_require(const char *who, dsc_worker **ret_worker) {
  if (dsc_current_worker == NULL)
    return dsc_fail(
        DISCO_VALUE,
        "%s works on workers only: the current thread is not a DiscoWorker thread; call it through a session", who);
  *ret_worker = dsc_current_worker;
  return DISCO_OK;
}

disco_status disco_worker_get_info(disco_worker_info *ret_info) {
  dsc_worker *worker;
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

disco_status disco_worker_set_ccl(const char *ccl, DLDevice device) {
  dsc_worker *worker;
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
