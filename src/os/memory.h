/* Shared memory without a name: one sealed memfd, mapped once; gone with its last user. */
#ifndef DSC_OS_MEMORY_H
#define DSC_OS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

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
/* Unmap it and keep its descriptor, by which others map it. */
void dsc_shared_memory_unmap(dsc_shared_memory *memory);
/* Unmap it and hand its descriptor over: others still map it. */
int dsc_shared_memory_release(dsc_shared_memory *memory);
/* A forked child does not get the mapping: whatever of ours still runs there cannot write into its parent's. */
void dsc_shared_memory_hide_from_children(dsc_shared_memory *memory);
/* Map the memory of another process by a descriptor of it (taken over on success): its size must be sealed and at least
 * `least` bytes. DISCO_LOST when it is not what it should be, DISCO_MEMORY. */
disco_status dsc_shared_memory_attach(int fd, size_t least, dsc_shared_memory *ret_memory);
/* Make a range of whole pages read-only. */
disco_status dsc_shared_memory_protect(dsc_shared_memory *memory, size_t offset, size_t bytes);
/* Takes a zeroed struct too. */
void dsc_shared_memory_destroy(dsc_shared_memory *memory);

/* A private, writable view of the first `bytes` of a memfd: what is written there is seen here alone. The caller keeps
 * the descriptor. DISCO_LOST when the file is shorter, DISCO_MEMORY. */
disco_status dsc_private_view_map(int fd, size_t bytes, void **ret_base);
void dsc_private_view_unmap(void *base, size_t bytes);

/* Open descriptor `fd` of process `pid` for ourselves, through /proc: close-on-exec, owned by the caller. DISCO_LOST
 * when there is no such process or descriptor, DISCO_RUNTIME when we have no descriptor left; with errno's name. */
disco_status dsc_foreign_fd_open(int64_t pid, int fd, int *ret_fd);

/* Random bytes of the kernel's. */
disco_status dsc_random(void *bytes, size_t size);
int64_t dsc_own_pid(void);
/* The number by which /proc knows this process: another one when that is of an outer namespace. */
int64_t dsc_own_pid_in_proc(void);
int64_t dsc_parent_pid(void);

#endif
