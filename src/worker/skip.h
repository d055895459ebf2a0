/* Where skipping begins, for one reader of the commands: a worker, or the pump that stands for one. models/resume.pml
 * is the proof. One thread. */
#ifndef DSC_WORKER_SKIP_H
#define DSC_WORKER_SKIP_H

#include "base/compiler.h"
#include "channel/segment.h"

typedef struct {
  uint64_t failures_seen; /* of segment->failures */
  uint64_t after;         /* skip what comes after this command; UINT64_MAX: nothing */
  uint64_t resumed;       /* the last resume record passed */
  uint64_t epoch;         /* how many were passed */
} dsc_skip;

#define DSC_SKIP_INIT \
  { 0, UINT64_MAX, 0, 0 }

/* After the failure count moved: look at every worker's failure. */
void dsc_skip_look(dsc_skip *skip, const dsc_segment_header *segment, uint64_t failures);

/* The failure after which command `sequence` is skipped if its message may be; 0: it runs. */
static inline uint64_t dsc_skip_cause(dsc_skip *skip, const dsc_segment_header *segment, uint64_t sequence) {
  uint64_t failures = dsc_load_acquire(&segment->failures); /* acquire: segment.failures */
  if (DSC_UNLIKELY(failures != skip->failures_seen)) dsc_skip_look(skip, segment, failures);
  return DSC_UNLIKELY(sequence > skip->after) ? skip->after : 0;
}

/* The reader passes resume record `sequence`. */
static inline void dsc_skip_resume(dsc_skip *skip, uint64_t sequence) {
  skip->resumed = sequence;
  skip->epoch++;
  skip->after = UINT64_MAX;
  skip->failures_seen = UINT64_MAX; /* look again: a failure of the new epoch may already be counted */
}

#endif
