/* Operations on tensors that are too large for the entries: all ranks meet first, each with the addresses of its
 * tensors, so that all of them know whether everybody can reach everybody's. Then straight between the tensors
 * (direct.c), or in chunks through staging memory (staged.c). */
#ifndef DSC_CCL_LARGE_H
#define DSC_CCL_LARGE_H

#include "ccl/backend.h"

/* Begins and ends the operation. */
disco_status dsc_large_allreduce(dsc_plane *plane, const dsc_request *request);
disco_status dsc_large_move(dsc_plane *plane, const dsc_request *request);

/* ---- Between its files ---- */

/* What a rank enters with; 0: nobody else can reach it, or it has none. */
typedef struct {
  uint64_t in, out;
} dsc_addresses;

/* Once all were met. Our own line may already be another's: with two ranks it is the peer's next entry. */
static inline dsc_addresses dsc_addresses_of(const dsc_comm *comm, int32_t rank) {
  dsc_addresses addresses;
  const void *posted = rank == comm->rank ? comm->posted : dsc_comm_entry(comm, rank)->payload;
  memcpy(&addresses, posted, sizeof(addresses));
  return addresses;
}

/* Does what we receive into overlap with what another sends? Then who is late would read what is already a result. Of
 * an allreduce that entered with addresses; all have met. DISCO_VALUE. */
disco_status dsc_check_apart(const dsc_request *request);

/* The part of `count` elements that `rank` of `size` reduces, in whole lines but for the last. */
typedef struct {
  uint64_t first, count; /* elements */
} dsc_slice;

static inline dsc_slice dsc_slice_of(uint64_t count, uint64_t element_bytes, int32_t rank, int32_t size) {
  uint64_t line = DSC_CACHE_LINE / element_bytes, ranks = (uint64_t)size;
  uint64_t each = ((count + ranks - 1) / ranks + line - 1) / line * line;
  uint64_t first = each * (uint64_t)rank < count ? each * (uint64_t)rank : count;
  uint64_t left = count - first;
  return (dsc_slice){first, left < each ? left : each};
}

/* All members are there; `push`: past the caches into everybody's output. */
disco_status dsc_direct_allreduce(dsc_plane *plane, const dsc_request *request, bool push);
disco_status dsc_direct_move(dsc_plane *plane, const dsc_request *request);
disco_status dsc_staged_allreduce(dsc_plane *plane, const dsc_request *request);
disco_status dsc_staged_move(dsc_plane *plane, const dsc_request *request);

#endif
