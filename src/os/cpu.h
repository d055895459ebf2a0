/* How many CPUs this process may really use, and binding a thread to one. */
#ifndef DSC_OS_CPU_H
#define DSC_OS_CPU_H

#include <stdint.h>

#include "base/status.h"

/* At least 1: the smaller of the affinity mask and the cgroup's CPU quota (rounded up). Read once per process. Any
 * thread. */
int32_t dsc_cpu_allowed(void);
/* What that is made of beside the quota (os/cgroup.h), read anew at each call: CPUs that are online, and those of the
 * calling thread's affinity mask. */
int32_t dsc_cpu_online(void);
int32_t dsc_cpu_affinity(void);
/* Pin the calling thread. DISCO_VALUE when the CPU does not exist or is not allowed. */
disco_status dsc_cpu_bind(int64_t cpu);

#endif
