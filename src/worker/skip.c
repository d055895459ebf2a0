#include "worker/skip.h"

/* Skipping begins at the lowest failure after the last resume record that was ever seen: a worker that passed the next
 * resume record and failed again shows only the later number, so what was seen before still counts until then. */
DSC_COLD void dsc_skip_look(dsc_skip *skip, const dsc_segment_header *segment, uint64_t failures) {
  enum { FIRST_COMMAND = 1 }; /* long done */
  skip->failures_seen = failures;
  if (dsc_load_acquire(&segment->fault) == DSC_FAULT_GRACE)
    skip->after = FIRST_COMMAND; /* shutdown gave up: all of it */
  for (int32_t i = 0; i < segment->num_workers; i++) {
    uint64_t failed = dsc_load_acquire(&dsc_segment_status(segment, i)->failed); /* acquire: status.failed */
    if (failed > skip->resumed && failed < skip->after) skip->after = failed;
  }
}
