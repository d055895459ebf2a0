#include "worker/side.h"

#include <stdlib.h>

#include "base/memory.h"
#include "os/pipe.h"

static void hold(dsc_side_view *view) {
  dsc_side *side = (dsc_side *)view;
  dsc_add_relaxed(&side->refs, 1);
}

void dsc_side_unref(dsc_side *side) {
  if (side == NULL || dsc_add_acq_rel(&side->refs, (uint32_t)-1) != 1) return; /* label side.refs */
  dsc_private_view_unmap(side->base, side->bytes);
  free(side);
}

static void release(dsc_side_view *view) { dsc_side_unref((dsc_side *)view); }

disco_status dsc_side_open(const dsc_side_ref *ref, dsc_side **ret_side) {
  if (ref->bytes == 0 || ref->payload_bytes > ref->bytes || ref->payload_bytes % DSC_PACK_SIDE_ALIGN != 0)
    return dsc_fail(DISCO_LOST, "a side file of %llu bytes cannot hold %llu bytes of values",
                    (unsigned long long)ref->bytes, (unsigned long long)ref->payload_bytes);
  dsc_side *side = dsc_alloc(sizeof(*side), "a side file");
  if (side == NULL) return DISCO_MEMORY;
  int fd = -1;
  void *base = NULL;
  disco_status status = dsc_foreign_fd_open(ref->pid, ref->fd, &fd);
  if (status == DISCO_OK) status = dsc_private_view_map(fd, ref->bytes, &base);
  dsc_fd_close(&fd);
  if (status != DISCO_OK) {
    free(side);
    return status;
  }
  side->base = base;
  side->bytes = ref->bytes;
  side->payload_bytes = ref->payload_bytes;
  side->view = (dsc_side_view){side->base + ref->payload_bytes, ref->bytes - ref->payload_bytes, hold, release};
  dsc_store_relaxed(&side->refs, 1);
  *ret_side = side;
  return DISCO_OK;
}

disco_status dsc_side_create(uint64_t payload_bytes, uint64_t data_bytes, dsc_shared_memory *ret_memory,
                             dsc_side_ref *ret_ref) {
  uint64_t payload = (payload_bytes + DSC_PACK_SIDE_ALIGN - 1) / DSC_PACK_SIDE_ALIGN * DSC_PACK_SIDE_ALIGN;
  disco_status status = dsc_shared_memory_create(payload + data_bytes, ret_memory);
  if (status != DISCO_OK) return status;
  *ret_ref = (dsc_side_ref){
      .pid = dsc_own_pid(), .fd = ret_memory->fd, .payload_bytes = payload, .bytes = payload + data_bytes};
  return DISCO_OK;
}
