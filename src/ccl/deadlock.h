/* Ranks that wait for each other in a ring, each in another communicator or pair: no entry shows such a mismatch, since
 * each waits on lines that nobody will write. Whoever sleeps says what it waits for, and looks after a millisecond
 * whether the chain of those who wait comes back to it. */
#ifndef DSC_CCL_DEADLOCK_H
#define DSC_CCL_DEADLOCK_H

#include "ccl/comm.h"

typedef struct {
  uint64_t seen; /* digest of the ring found at the last look; 0: none */
} dsc_deadlock_watch;

/* The rank's own note: from now on it waits, for members that have not come to operation `counter` of the communicator
 * (`peer` alone, or -1: all), or for `peer` in a pair (communicator -1; `counter` is the number of the send). */
void dsc_note_wait(dsc_rank_note *note, uint64_t sequence, int32_t communicator, int32_t peer, uint64_t counter,
                   const dsc_print *print);
void dsc_note_end(dsc_rank_note *note);

/* DISCO_COLLECTIVE with the whole ring when the same one was there at the last look: nobody in it has moved meanwhile,
 * so nobody ever will. The caller must have a note of its own. */
disco_status dsc_deadlock_look(dsc_deadlock_watch *watch, dsc_ccl_host *host, uint64_t epoch_mark);

/* "in the allreduce(sum) of float32[8] among all 4 workers", or nothing: for a dump. The memory is any rank's. */
void dsc_note_text(const char *memory, int32_t num_workers, int32_t num_groups, int32_t worker, char *text,
                   size_t room);

#endif
