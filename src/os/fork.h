/* Notices that this process is a forked child of the one that made a session: its threads are not here. */
#ifndef DSC_OS_FORK_H
#define DSC_OS_FORK_H

#include <stdint.h>

#include "base/atomics.h"

extern _Atomic uint32_t dsc_fork_count; /* forks between the first process and this one since the library was loaded */

/* Once, at load. */
void dsc_fork_install(void);

static inline uint32_t dsc_fork_generation(void) { return dsc_load_relaxed(&dsc_fork_count); }

#endif
