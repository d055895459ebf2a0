/* How the values of a command reach a worker in another process: packed, in the record or in its side file. */
#include <stdlib.h>

#include "base/compiler.h"
#include "base/inject.h"
#include "worker/worker.h"

/* Where the packed values of this record are, how many bytes, and what large data they may refer to. */
static disco_status find_packed(dsc_worker *worker, const dsc_record *record, const TVMFFIAny *slot,
                                const char **ret_packed, uint64_t *ret_bytes, dsc_side_view *ret_copy,
                                dsc_side_view **ret_view) {
  uint64_t offset = (uint64_t)slot->zero_padding * DSC_SLOT_BYTES;
  uint64_t record_bytes = sizeof(*record) + (uint64_t)record->num_slots * DSC_SLOT_BYTES;
  const dsc_side_ref *ref = record->flags & DSC_RECORD_SIDE ? dsc_record_side(record) : NULL;
  *ret_view = NULL;
  const char *base = (const char *)record;
  uint64_t bytes = record_bytes;
  if (ref != NULL && worker->frame_side != NULL) { /* it came along: copies are taken */
    if (ref->bytes > worker->frame_side_bytes || ref->payload_bytes > ref->bytes)
      return dsc_fail(DISCO_LOST, "a command's side file is shorter than it says");
    *ret_copy = (dsc_side_view){worker->frame_side + ref->payload_bytes, ref->bytes - ref->payload_bytes, NULL, NULL};
    *ret_view = ret_copy;
    if (ref->payload_bytes > 0) base = worker->frame_side, bytes = ref->payload_bytes;
  } else if (ref != NULL) {
    if (worker->side == NULL) {
      disco_status status = dsc_side_open(ref, &worker->side);
      if (status != DISCO_OK) return status;
    }
    *ret_view = &worker->side->view;
    if (ref->payload_bytes > 0) base = worker->side->base, bytes = worker->side->payload_bytes;
  }
  if (ref != NULL && ref->payload_bytes > 0) offset -= DSC_SLOT_BYTES;
  if (offset >= bytes) return dsc_fail(DISCO_LOST, "a packed value lies outside its command");
  *ret_packed = base + offset;
  *ret_bytes = bytes - offset;
  return DISCO_OK;
}

static disco_status make_room(dsc_worker *worker) {
  if (worker->num_arrived < worker->arrived_size) return DISCO_OK;
  uint32_t size = worker->arrived_size == 0 ? 8 : worker->arrived_size * 2;
  TVMFFIAny *grown = DSC_ALLOCATION_FAILS() ? NULL : realloc(worker->arrived, size * sizeof(*grown));
  if (grown == NULL) return dsc_fail(DISCO_MEMORY, "no memory for %u arguments", size);
  worker->arrived = grown;
  worker->arrived_size = size;
  return DISCO_OK;
}

static DSC_COLD disco_status unpack(dsc_worker *worker, const dsc_record *record, const TVMFFIAny *slot,
                                    TVMFFIAny *ret_value) {
  const char *packed = NULL;
  uint64_t bytes = 0, used = 0;
  dsc_side_view copy, *view = NULL;
  disco_status status = make_room(worker);
  if (status == DISCO_OK) status = find_packed(worker, record, slot, &packed, &bytes, &copy, &view);
  if (status != DISCO_OK) return status;
  unsigned allowed = record->flags & DSC_RECORD_CONTAINERS ? DSC_PACK_CONTAINERS : DSC_PACK_PLAIN;
  status = dsc_unpack(packed, bytes, allowed, view, ret_value, &used);
  if (status == DISCO_OK) worker->arrived[worker->num_arrived++] = *ret_value;
  return status;
}

disco_status dsc_worker_arrive(dsc_worker *worker, const dsc_record *record, const TVMFFIAny *slot,
                               TVMFFIAny *ret_value) {
  *ret_value = *slot;
  if (!dsc_is_object(slot)) return DISCO_OK;
  ret_value->zero_padding = 0;
  if (!worker->setup.remote) return DISCO_OK;
  *ret_value = dsc_none();
  return slot->zero_padding == 0 ? DISCO_OK : unpack(worker, record, slot, ret_value);
}

void dsc_worker_arrive_end(dsc_worker *worker) {
  for (uint32_t i = 0; i < worker->num_arrived; i++) dsc_value_drop(&worker->arrived[i]);
  worker->num_arrived = 0;
  dsc_side_unref(worker->side);
  worker->side = NULL;
}
