#include "worker/announce.h"

#include "base/compiler.h"

DSC_COLD void dsc_announce_slowly(const dsc_announcer *self, uint64_t sequence, bool failed) {
  dsc_status_line *line = self->line;
  atomic_store(&line->awaited_done, UINT64_MAX);
  atomic_store(&line->awaited_position, UINT64_MAX);
  dsc_doorbell_ring(&self->segment->controllers);
  dsc_segment_ring_ranks(self->segment);
  /* The done descriptor: nobody arms it anew before each sleep, so its number stays awaited until it is passed. */
  uint64_t armed = atomic_load(&self->segment->armed);
  if (armed == UINT64_MAX) return;
  if (sequence < armed && !failed)
    dsc_await(&line->awaited_done, armed);
  else if (self->notify != NULL)
    self->notify(self->notify_context);
}
