/* Copying bytes between CPUs: how they are stored decides who has to fetch the lines afterwards. Measurements and
 * reasons: docs/performance.md, Write patterns. Ranges never overlap. Any thread. */
#ifndef DSC_OS_COPY_H
#define DSC_OS_COPY_H

#include <stdbool.h>
#include <stddef.h>

/* Into memory that another CPU read last: stores whole lines without fetching them (rep movsb where the CPU is good at
 * it), above 4 KiB; plain below. A store fence follows where the stores need one before a flag is posted. */
void dsc_copy_to_peer(void *to, const void *from, size_t bytes);
/* From memory that another CPU wrote last, into one's own: fetches 24 lines ahead, never past the end. */
void dsc_copy_from_peer(void *to, const void *from, size_t bytes);
/* The same, and the lines stay dirty here, by one word of each that is stored back: their next writer's stores then
 * take them over instead of waiting until this CPU has given up its copy (x86-64 with AVX2; elsewhere a plain copy).
 * For memory that nobody else reads or writes now. */
void dsc_copy_and_keep(void *to, void *from, size_t bytes);
/* Past the caches (non-temporal stores, then a store fence): for outputs that do not fit them. `from` as in
 * dsc_copy_from_peer. */
void dsc_copy_past_caches(void *to, const void *from, size_t bytes);
/* Size of the last-level cache that this CPU shares, in bytes; a guess (32 MiB) where the system does not say. Read
 * once. */
size_t dsc_last_level_cache(void);

#endif
