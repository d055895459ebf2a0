/* How many CPUs this process may really use, and binding a thread to one. */
#ifndef DSC_OS_CPU_H
#define DSC_OS_CPU_H

#include <stdint.h>

#include "base/status.h"

/* At least 1: the smaller of the affinity mask and the cgroup's CPU quota (rounded up). Read once per process. Any
 * thread. */
int32_t dsc_cpu_allowed(void);
/* What that is made of, read anew at each call: CPUs that are online, those of the calling thread's affinity mask, and
 * the quota in CPUs (1.5), 0 for none. */
int32_t dsc_cpu_online(void);
int32_t dsc_cpu_affinity(void);
double dsc_cpu_quota(void);
/* Pin the calling thread. DISCO_VALUE when the CPU does not exist or is not allowed. */
disco_status dsc_cpu_bind(int64_t cpu);

#endif
