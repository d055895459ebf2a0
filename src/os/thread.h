/* Threads of the library: they block all signals, so that the host program's handlers run on its own threads. */
#ifndef DSC_OS_THREAD_H
#define DSC_OS_THREAD_H

#include <pthread.h>

#include "base/status.h"

typedef void *(*dsc_thread_fn)(void *argument);

/* name: at most 15 bytes, seen in ps and gdb. DISCO_RUNTIME with errno's name and what to raise. */
disco_status dsc_thread_start(const char *name, dsc_thread_fn fn, void *argument, pthread_t *ret_thread);

/* A millisecond. */
void dsc_thread_rest(void);
/* The calling thread does nothing more until the process ends. */
_Noreturn void dsc_thread_stay(void);

#endif
