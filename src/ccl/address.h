/* Memory that another rank can reach, as a number that it can read: the address itself among threads of one process, 1
 * + the offset in the arena among processes, 0 for memory that only its owner maps. */
#ifndef DSC_CCL_ADDRESS_H
#define DSC_CCL_ADDRESS_H

#include "ccl/plane.h"

static inline uint64_t dsc_ccl_publish(const dsc_ccl_host *host, const void *memory, uint64_t bytes) {
  uint64_t address = (uint64_t)(uintptr_t)memory, base = (uint64_t)(uintptr_t)host->arena;
  if (host->one_address_space) return address;
  if (host->arena == NULL || address < base || bytes > host->arena_bytes) return 0;
  return address - base <= host->arena_bytes - bytes ? address - base + 1 : 0;
}

/* NULL when it lies outside of what is shared: the other rank broke the rules. */
static inline char *dsc_ccl_resolve(const dsc_ccl_host *host, uint64_t number, uint64_t bytes) {
  if (number == 0) return NULL;
  if (host->one_address_space) return (char *)(uintptr_t)number;
  if (host->arena == NULL || bytes > host->arena_bytes || number - 1 > host->arena_bytes - bytes) return NULL;
  return (char *)(uintptr_t)host->arena + (number - 1);
}

#endif
