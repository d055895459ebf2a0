/* The arena: one sparse block of shared memory with a range of addresses for each worker of a host. Mapped once, used
 * as it grows, given back by punching holes. Every worker allocates in its own range only; all of them, and the
 * controller, can read and write all of it. What is allocated where is known to the range's owner alone. */
#ifndef DSC_OS_ARENA_H
#define DSC_OS_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  char *base;
  uint64_t range_bytes; /* of each worker, whole pages */
  int32_t ranges;
  int fd; /* close-on-exec, -1 once closed */
} dsc_arena;

/* Sparse: no memory is used or reserved. DISCO_MEMORY / DISCO_RUNTIME with sizes and what to do (a smaller arena_bytes
 * when the address space is limited). */
disco_status dsc_arena_create(uint64_t range_bytes, int32_t ranges, dsc_arena *ret_arena);
/* Map the arena of another process by a descriptor (taken over on success); its size must be ranges * range_bytes and
 * sealed, else DISCO_LOST: it broke the protocol. */
disco_status dsc_arena_attach(int fd, uint64_t range_bytes, int32_t ranges, dsc_arena *ret_arena);
/* Unmap it and close the descriptor. Takes a zeroed struct too. Not while allocations of a range of it live in this
 * process (see dsc_arena_range_adopt). */
void dsc_arena_destroy(dsc_arena *arena);

/* The allocator of one range. Thread-safe: tensors die on any thread. */
typedef struct dsc_arena_range dsc_arena_range;
disco_status dsc_arena_range_create(const dsc_arena *arena, int32_t range, dsc_arena_range **ret_range);
/* The range takes the mapping over (the caller's struct is zeroed): it goes with the range's last reference. For a
 * process whose tensors may outlive their session. */
void dsc_arena_range_adopt(dsc_arena_range *range, dsc_arena *arena);
/* One reference less. dsc_arena_range_create gives the first, and every allocation holds one, so that the owner may let
 * go while tensors live. */
void dsc_arena_range_unref(dsc_arena_range *range);
/* 64-byte aligned, uninitialised; 0 bytes get a place of their own too. DISCO_MEMORY with the size asked for, what is
 * free, and the limit that it ran into: the range's own (option arena_bytes), or the memory limit of the control group
 * less what it uses (reclaimable cache not counted), looked at once for each 1 MiB of growth or more, since writing
 * past it is a kill and not an error. What this range has given out and nobody has written yet counts as growth, too.
 */
disco_status dsc_arena_alloc(dsc_arena_range *range, uint64_t bytes, void **ret_memory);
/* Give back; freed pages that are not reused soon are punched out: at most 32 MiB of free pages stay. */
void dsc_arena_free(dsc_arena_range *range, void *memory);
/* Bytes allocated now, each allocation rounded up to 64. */
uint64_t dsc_arena_range_used(const dsc_arena_range *range);

#endif
