/* Side files: large values that travel beside a record or a reply, in memory of their own. The writer fills one and
 * tells its descriptor; readers map it copy-on-write. */
#ifndef DSC_WORKER_SIDE_H
#define DSC_WORKER_SIDE_H

#include "base/atomics.h"
#include "os/memory.h"
#include "wire/codec.h"

/* A mapped side file; counted, because tensors view it. `view.base` is where the large data begins. Any thread. */
typedef struct {
  dsc_side_view view;
  _Atomic uint32_t refs;
  char *base; /* packed values are here */
  uint64_t bytes, payload_bytes;
} dsc_side;

/* Map it through /proc. DISCO_LOST: it is not there, or its sizes do not fit; DISCO_MEMORY. One reference. */
disco_status dsc_side_open(const dsc_side_ref *ref, dsc_side **ret_side);
void dsc_side_unref(dsc_side *side); /* NULL allowed */

/* Make one: `payload_bytes` and `data_bytes` (rounded up to pages), mapped for writing. */
disco_status dsc_side_create(uint64_t payload_bytes, uint64_t data_bytes, dsc_shared_memory *ret_memory,
                             dsc_side_ref *ret_ref);

#endif
