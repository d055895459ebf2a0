/* Point to point: the n-th send of an epoch from one worker to another meets its n-th receive there, in whatever
 * commands they are. Small sends go into one of two slots and do not wait; larger ones wait for the receiver, which
 * reads the sender's tensor where both map it, or staging memory. A send of an epoch that ended is dropped.
 *
 * A rank's thread only. Errors as in comm.h. */
#ifndef DSC_CCL_PAIR_H
#define DSC_CCL_PAIR_H

#include "ccl/comm.h"

typedef struct {
  uint64_t send_mark, receive_mark; /* epoch + 1 in which it was last used; 0: never */
  uint64_t sent, received;          /* of this epoch */
  uint64_t filled, drained;         /* chunks of staged sends */
} dsc_pair_counts;

typedef struct {
  dsc_ccl_host *host;
  const dsc_plane_layout *layout;
  dsc_patience *patience;
  dsc_rank_note *note;
  uint64_t eager_bytes, chunk_bytes;
  uint64_t staged_bytes;   /* sends up to this size go through staging, whoever could reach the tensor */
  uint64_t staging_mark;   /* epoch + 1 in which staging memory was first used */
  uint64_t broken_mark;    /* epoch + 1 in which one failed: nothing more is sent or received in it */
  dsc_pair_counts *counts; /* one for each worker */
} dsc_pairs;

static inline dsc_pair_lines *dsc_pair_at(const char *memory, const dsc_plane_layout *layout, int32_t sender,
                                          int32_t receiver) {
  return (dsc_pair_lines *)(uintptr_t)(memory + layout->pairs) + (int64_t)sender * layout->num_workers + receiver;
}

/* `mark`: the epoch + 1. Any thread. */
bool dsc_pair_is_sent(const dsc_pair_lines *pair, uint64_t mark, uint64_t number);
bool dsc_pair_is_received(const dsc_pair_lines *pair, uint64_t mark, uint64_t number);

/* print->count elements of print->dtype, `bytes` in all, to or from `peer` (not this worker). */
disco_status dsc_pair_send(dsc_pairs *pairs, int32_t peer, const dsc_print *print, const char *data, uint64_t bytes);
disco_status dsc_pair_receive(dsc_pairs *pairs, int32_t peer, const dsc_print *print, char *data, uint64_t bytes);

#endif
