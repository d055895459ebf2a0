#include "channel/segment.h"

#include <string.h>

#include "base/clock.h"
#include "base/inject.h"

static uint64_t lay(uint64_t *at, uint64_t bytes) {
  uint64_t offset = *at;
  *at = (offset + bytes + DSC_CACHE_LINE - 1) & ~(uint64_t)(DSC_CACHE_LINE - 1);
  return offset;
}

disco_status dsc_segment_create(const dsc_segment_layout *layout, dsc_segment *ret_segment) {
  const uint64_t page = 4096;
  uint64_t workers = (uint64_t)layout->num_workers, at = 0;
  dsc_segment_header plan = {.magic = DSC_SEGMENT_MAGIC,
                             .version = DSC_SEGMENT_VERSION,
                             .num_workers = layout->num_workers,
                             .num_groups = layout->num_groups,
                             .error_slot_bytes = layout->error_slot_bytes,
                             .ring_bytes = layout->ring_bytes,
                             .reply_ring_bytes = layout->reply_ring_bytes};
  (void)lay(&at, sizeof(dsc_segment_header));
  plan.status_offset = lay(&at, workers * sizeof(dsc_status_line));
  plan.reply_words_offset = lay(&at, workers * sizeof(dsc_reply_words));
  at = (at + page - 1) / page * page;
  plan.ring_offset = lay(&at, layout->ring_bytes); /* whole pages: workers of other processes map them read-only */
  at = (at + page - 1) / page * page;
  plan.reply_rings_offset = lay(&at, workers * layout->reply_ring_bytes);
  plan.error_slots_offset = lay(&at, workers * layout->error_slot_bytes);
  plan.bytes = at;

  dsc_segment segment = {0};
  disco_status status = dsc_shared_memory_create(at, &segment.memory);
  if (status != DISCO_OK) return status;
  segment.header = segment.memory.base;
  memcpy(segment.header, &plan, sizeof(plan));
  for (int32_t i = 0; i < layout->num_workers; i++) {
    dsc_status_line *line = dsc_segment_status(segment.header, i);
    dsc_store_relaxed(&line->awaited_done, UINT64_MAX);
    dsc_store_relaxed(&line->awaited_position, UINT64_MAX);
  }
  *ret_segment = segment;
  return DISCO_OK;
}

void dsc_segment_destroy(dsc_segment *segment) {
  dsc_shared_memory_destroy(&segment->memory);
  segment->header = NULL;
}

void dsc_segment_raise_fault(dsc_segment_header *header, uint32_t fault) {
  atomic_store(&header->fault, fault);
  dsc_doorbell_ring(&header->commands);
  dsc_doorbell_ring(&header->controllers);
}

/* Words are copied one by one as relaxed atomics: a reader in the middle of a write sees torn text, notices it by the
 * version, and reads again. */
void dsc_error_slot_write(dsc_error_slot *slot, const void *bytes, size_t size) {
  uint64_t version = dsc_load_relaxed(&slot->version);
  dsc_store_relaxed(&slot->version, version + 1); /* odd before any word: they are release stores */
  for (size_t i = 0; i * 8 < size; i++) {
    uint64_t word = 0;
    memcpy(&word, (const char *)bytes + i * 8, size - i * 8 < 8 ? size - i * 8 : 8);
    dsc_store_release(&slot->words[i], word);
    if (i == 4) DSC_POINT("worker.mid_slot");
  }
  dsc_store_release(&slot->version, version + 2); /* release: slot.version */
}

bool dsc_error_slot_read(const dsc_error_slot *slot, void *ret_bytes, size_t size) {
  const int64_t patience_ns = 1000000000;
  int64_t end = 0;
  for (;;) {
    uint64_t before = dsc_load_acquire(&slot->version); /* acquire: slot.version */
    if (before % 2 == 0) {
      for (size_t i = 0; i * 8 < size; i++) {
        uint64_t word = dsc_load_acquire(&slot->words[i]);
        memcpy((char *)ret_bytes + i * 8, &word, size - i * 8 < 8 ? size - i * 8 : 8);
      }
      if (dsc_load_acquire(&slot->version) == before) return true;
    }
    if (end == 0) end = dsc_clock_now_ns() + patience_ns;
    if (dsc_clock_now_ns() > end) return false;
    dsc_cpu_relax();
  }
}
