#include "os/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "base/atomics.h"
#include "os/cgroup.h"

int32_t dsc_cpu_online(void) {
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : online > INT32_MAX ? INT32_MAX : (int32_t)online;
}

int32_t dsc_cpu_affinity(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1; /* fails only beyond 1024 CPUs */
}

int32_t dsc_cpu_allowed(void) {
  static _Atomic int32_t cached;
  int32_t allowed = dsc_load_relaxed(&cached);
  if (allowed != 0) return allowed;
  allowed = dsc_cpu_affinity();
  double quota = dsc_cgroup_cpu_quota();
  if (quota > 0 && quota < allowed) {
    int32_t whole = (int32_t)quota;
    allowed = whole < quota ? whole + 1 : whole;
  }
  dsc_store_relaxed(&cached, allowed);
  return allowed;
}

disco_status dsc_cpu_bind(int64_t cpu) {
  if (cpu < 0 || cpu >= CPU_SETSIZE)
    return dsc_fail(DISCO_VALUE, "CPU %lld is not between 0 and %d", (long long)cpu, CPU_SETSIZE - 1);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  int error = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
  if (error == EINVAL)
    return dsc_fail(DISCO_VALUE, "CPU %lld does not exist here or is not allowed for this process", (long long)cpu);
  if (error != 0)
    return dsc_fail(DISCO_RUNTIME, "binding to CPU %lld failed: %s (%s)", (long long)cpu, strerror(error),
                    strerrorname_np(error));
  return DISCO_OK;
}
