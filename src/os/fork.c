#include "os/fork.h"

#include <pthread.h>

_Atomic uint32_t dsc_fork_count;

static void in_child(void) { dsc_store_relaxed(&dsc_fork_count, dsc_load_relaxed(&dsc_fork_count) + 1); }

void dsc_fork_install(void) { (void)pthread_atfork(NULL, NULL, in_child); }
