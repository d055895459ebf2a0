/* What the control groups of this process (version 2 and 1) allow: its own and all above it, whichever is nearest to
 * its limit. And what the machine has. Any thread. */
#ifndef DSC_OS_CGROUP_H
#define DSC_OS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Bytes that may still be allocated before the control group's limit, or that of one above it, whichever has least
 * room: INT64_MAX without one. *ret_limit (may be NULL) gets that limit, INT64_MAX for none. File cache, which the
 * kernel takes back before it kills, counts as room. Some ten microseconds for each level of groups. Any thread. */
int64_t dsc_memory_available(int64_t *ret_limit);
/* DISCO_OK if `bytes` more would fit now; DISCO_MEMORY "<what> needs <bytes>: the control group's memory limit is ...",
 * or that the machine has less memory and swap altogether. */
disco_status dsc_memory_check(uint64_t bytes, const char *what);
/* How many processes the OOM killer has ended in this control group; 0 when unknown. */
int64_t dsc_memory_oom_kills(void);
/* Physical memory of the machine in bytes. */
uint64_t dsc_memory_physical(void);
/* Where /proc/self/cgroup and /sys/fs/cgroup are looked for: "", or a folder of a test. */
extern const char *dsc_cgroup_root;

/* CPUs that may be used at once by their quota, 0: no quota. */
double dsc_cgroup_cpu_quota(void);

#endif
