/* Shared memory without a name: one sealed memfd, mapped once; gone with its last user. */
#ifndef DSC_OS_MEMORY_H
#define DSC_OS_MEMORY_H

#include <stddef.h>

#include "base/status.h"

typedef struct {
  void *base;
  size_t bytes;
  int fd; /* close-on-exec, its size is sealed; -1 when secluded */
} dsc_shared_memory;

/* Zeroed memory of `bytes` (rounded up to pages), mapped read-write. DISCO_MEMORY or DISCO_RUNTIME with errno's name.
 */
disco_status dsc_shared_memory_create(size_t bytes, dsc_shared_memory *ret_memory);
/* Give the pages of a range back; it reads as zeros afterwards. The offset is rounded up to pages. */
void dsc_shared_memory_discard(dsc_shared_memory *memory, size_t offset);
/* Close the descriptor: nobody else will map it. The mapping stays. */
void dsc_shared_memory_seclude(dsc_shared_memory *memory);
/* A forked child does not get the mapping: whatever of ours still runs there cannot write into its parent's. */
void dsc_shared_memory_hide_from_children(dsc_shared_memory *memory);
/* Takes a zeroed struct too. */
void dsc_shared_memory_destroy(dsc_shared_memory *memory);

#endif
