#include "os/thread.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/inject.h"

disco_status dsc_thread_start(const char *name, dsc_thread_fn fn, void *argument, pthread_t *ret_thread) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the new thread inherits the mask */
  int error = DSC_ALLOCATION_FAILS() ? EAGAIN : pthread_create(ret_thread, NULL, fn, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error != 0)
    return dsc_fail(DISCO_RUNTIME, "starting thread `%s` failed: %s (%s); see `ulimit -u` and the memory limit", name,
                    strerror(error), strerrorname_np(error));
  pthread_setname_np(*ret_thread, name);
  return DISCO_OK;
}

void dsc_thread_rest(void) { (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

_Noreturn void dsc_thread_stay(void) {
  for (;;) (void)nanosleep(&(struct timespec){.tv_sec = 3600}, NULL);
}
