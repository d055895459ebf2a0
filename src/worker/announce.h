/* What follows a command on its worker: say that it is done, and ring whoever waits for that. For the worker itself,
 * and for the pump of a worker that is not on the shared memory. */
#ifndef DSC_WORKER_ANNOUNCE_H
#define DSC_WORKER_ANNOUNCE_H

#include "channel/segment.h"

typedef struct {
  dsc_segment_header *segment;
  dsc_status_line *line;
  void (*notify)(void *context); /* this worker passed the armed command (or failed); NULL: nobody can be told */
  void *notify_context;
} dsc_announcer;

/* Somebody waits for this, or a failure must be heard of. */
void dsc_announce_slowly(const dsc_announcer *self, uint64_t sequence, bool failed);

/* Command `sequence` is done and the ring read up to `position` (already stored). */
static inline void dsc_announce(const dsc_announcer *self, uint64_t sequence, uint64_t position, bool failed) {
  dsc_status_line *line = self->line;
  dsc_store_release(&line->done, sequence); /* release: status.done */
  dsc_fence();                              /* done, then look who waits: pairs with the sleeper's arm, fence, look */
  if (!failed && sequence < dsc_load_relaxed(&line->awaited_done) &&
      position < dsc_load_relaxed(&line->awaited_position))
    return;
  dsc_announce_slowly(self, sequence, failed);
}

#endif
