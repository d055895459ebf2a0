/* Who the calling thread is: set once, when it becomes a worker. */
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
