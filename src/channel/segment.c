#include "channel/segment.h"

#include <string.h>

#include "base/clock.h"
#include "base/inject.h"

static uint64_t lay(uint64_t *at, uint64_t bytes) {
  uint64_t offset = *at;
  *at = (offset + bytes + DSC_CACHE_LINE - 1) & ~(uint64_t)(DSC_CACHE_LINE - 1);
  return offset;
}

/* Where everything lies: a function of the layout alone, so that a reader can check it. */
static dsc_segment_header plan_of(const dsc_segment_layout *layout) {
  const uint64_t page = 4096;
  uint64_t workers = (uint64_t)layout->num_workers, at = 0;
  dsc_segment_header plan = {.magic = DSC_SEGMENT_MAGIC,
                             .version = DSC_SEGMENT_VERSION,
                             .num_workers = layout->num_workers,
                             .num_groups = layout->num_groups,
                             .error_slot_bytes = layout->error_slot_bytes,
                             .ring_bytes = layout->ring_bytes,
                             .reply_ring_bytes = layout->reply_ring_bytes,
                             .spin_us = layout->spin_us,
                             .busy_threads = layout->busy_threads,
                             .plane_bytes = layout->plane_bytes,
                             .collective_timeout_ms = layout->collective_timeout_ms};
  (void)lay(&at, sizeof(dsc_segment_header));
  plan.status_offset = lay(&at, workers * sizeof(dsc_status_line));
  plan.reply_words_offset = lay(&at, workers * sizeof(dsc_reply_words));
  at = (at + page - 1) / page * page;
  plan.ring_offset = lay(&at, layout->ring_bytes); /* whole pages: workers of other processes map them read-only */
  at = (at + page - 1) / page * page;
  plan.reply_rings_offset = lay(&at, workers * layout->reply_ring_bytes);
  plan.error_slots_offset = lay(&at, workers * layout->error_slot_bytes);
  at = (at + page - 1) / page * page;
  plan.plane_offset = lay(&at, layout->plane_bytes);
  plan.bytes = at;
  return plan;
}

disco_status dsc_segment_create(const dsc_segment_layout *layout, dsc_segment *ret_segment) {
  dsc_segment_header plan = plan_of(layout);
  disco_status status = dsc_random(plan.nonce, sizeof(plan.nonce));
  if (status == DISCO_OK) status = dsc_random(&plan.session, sizeof(plan.session));
  if (status != DISCO_OK) return status;
  plan.session |= 1; /* never 0 */
  plan.controller_pid = dsc_own_pid();
  dsc_store_relaxed(&plan.armed, UINT64_MAX);
  dsc_segment segment = {0};
  status = dsc_shared_memory_create(plan.bytes, &segment.memory);
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

static bool is_power_of_two(uint64_t number) { return number != 0 && (number & (number - 1)) == 0; }

disco_status dsc_segment_check(const dsc_segment_header *header, uint64_t file_bytes) {
  enum { MAX_WORKERS = 1 << 16 };
  const uint64_t max_ring = (uint64_t)1 << 31, max_plane = (uint64_t)1 << 40;
  if (file_bytes < sizeof(*header))
    return dsc_fail(DISCO_LOST, "a segment of %llu bytes has no header", (unsigned long long)file_bytes);
  if (header->magic != DSC_SEGMENT_MAGIC) return dsc_fail(DISCO_LOST, "this is no segment of libdisco");
  if (header->version != DSC_SEGMENT_VERSION)
    return dsc_fail(DISCO_LOST,
                    "the segment has version %u, this libdisco reads %d: use the same release on both sides",
                    header->version, DSC_SEGMENT_VERSION);
  dsc_segment_layout layout = {header->num_workers,
                               header->num_groups,
                               header->ring_bytes,
                               header->reply_ring_bytes,
                               header->error_slot_bytes,
                               0,
                               0,
                               header->plane_bytes,
                               0};
  bool sane = layout.num_workers >= 1 && layout.num_workers <= MAX_WORKERS && layout.num_groups >= 1 &&
              layout.num_workers % layout.num_groups == 0 && is_power_of_two(layout.ring_bytes) &&
              layout.ring_bytes <= max_ring && is_power_of_two(layout.reply_ring_bytes) &&
              layout.reply_ring_bytes <= max_ring && layout.error_slot_bytes >= DSC_CACHE_LINE &&
              layout.error_slot_bytes <= 1 << 20 && layout.error_slot_bytes % DSC_CACHE_LINE == 0 &&
              layout.plane_bytes <= max_plane;
  if (!sane) return dsc_fail(DISCO_LOST, "the segment's header holds impossible sizes");
  dsc_segment_header plan = plan_of(&layout);
  if (plan.bytes != header->bytes || plan.bytes > file_bytes || plan.status_offset != header->status_offset ||
      plan.reply_words_offset != header->reply_words_offset || plan.ring_offset != header->ring_offset ||
      plan.reply_rings_offset != header->reply_rings_offset || plan.error_slots_offset != header->error_slots_offset ||
      plan.plane_offset != header->plane_offset)
    return dsc_fail(DISCO_LOST, "the segment's parts do not lie where its sizes put them");
  return DISCO_OK;
}

disco_status dsc_segment_attach(int fd, const uint8_t nonce[DSC_SEGMENT_NONCE], dsc_segment *ret_segment) {
  dsc_segment segment = {0};
  disco_status status = dsc_shared_memory_attach(fd, sizeof(dsc_segment_header), &segment.memory);
  if (status != DISCO_OK) return status;
  segment.header = segment.memory.base;
  status = dsc_segment_check(segment.header, segment.memory.bytes);
  if (status == DISCO_OK && memcmp(segment.header->nonce, nonce, DSC_SEGMENT_NONCE) != 0)
    status = dsc_fail(DISCO_LOST, "the segment belongs to another session: its nonce is not the one that was told");
  if (status == DISCO_OK)
    status = dsc_shared_memory_protect(&segment.memory, segment.header->ring_offset, segment.header->ring_bytes);
  if (status != DISCO_OK) {
    segment.memory.fd = -1; /* still the caller's */
    dsc_segment_destroy(&segment);
    return status;
  }
  *ret_segment = segment;
  return DISCO_OK;
}

void dsc_segment_destroy(dsc_segment *segment) {
  dsc_shared_memory_destroy(&segment->memory);
  segment->header = NULL;
}

void dsc_segment_ring_ranks(dsc_segment_header *header) {
  if (dsc_load_relaxed(&header->ranks_asleep) == 0) return;
  for (int32_t i = 0; i < header->num_workers; i++) {
    dsc_doorbell *bell = &dsc_segment_status(header, i)->rank_bell;
    if (dsc_doorbell_must_ring(bell)) dsc_doorbell_ring(bell);
  }
}

void dsc_segment_raise_fault(dsc_segment_header *header, uint32_t fault) {
  uint32_t before = dsc_load_relaxed(&header->fault);
  while (before < fault && !dsc_cas(&header->fault, &before, fault)) continue; /* the graver one stays */
  dsc_doorbell_ring(&header->commands);
  dsc_doorbell_ring(&header->controllers);
  dsc_fence(); /* the fault, then who sleeps */
  dsc_segment_ring_ranks(header);
}

dsc_progress dsc_progress_load(const dsc_status_line *line) {
  enum { TRIES = 100 }; /* one is enough but for a writer that races through commands */
  for (int i = 0; i < TRIES; i++) {
    dsc_progress seen = {.sequence = dsc_load_acquire(&line->progress_of)}; /* acquire: status.progress */
    seen.done = dsc_load_acquire(&line->progress_done);                     /* acquire: status.progress */
    seen.total = dsc_load_acquire(&line->progress_total); /* acquire: status.progress; at least as new as done */
    if (seen.sequence == 0) break;
    if (dsc_load_relaxed(&line->progress_of) == seen.sequence) return seen; /* else the next command's came between */
  }
  return (dsc_progress){0};
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
  const int64_t patience_ns = 20 * 1000000; /* a writer takes microseconds; one that was stopped or died never ends */
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
