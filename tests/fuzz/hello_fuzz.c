/* The hand-over: a stranger's Hello and Answer, and the header of the segment that a Hello leads to. The first byte
 * chooses: 0 Hello, 1 Answer, else a header; the header's file has as many bytes as the next 8 say. */
#include "fuzz.h"

#include <string.h>

#include "channel/segment.h"
#include "wire/frame.h"

static void look_at_frame(const uint8_t *data, size_t size, dsc_frame_kind kind, size_t least) {
  char *bytes = malloc(size);
  FUZZ_CHECK(bytes != NULL || size == 0);
  if (size > 0) memcpy(bytes, data, size);
  dsc_frame head = {0};
  if (size >= sizeof(head)) memcpy(&head, bytes, sizeof(head));
  if (size > 0 && dsc_frame_check(bytes, size, kind, least, 0, (int32_t)head.worker, "the controller") == DISCO_OK)
    fuzz_touch(bytes, least);
  free(bytes);
}

typedef struct {
  uint64_t begin, end;
} range;

static range part(uint64_t begin, uint64_t bytes, uint64_t all) {
  FUZZ_CHECK(begin % DSC_CACHE_LINE == 0 && begin <= all && bytes <= all - begin);
  return (range){begin, begin + bytes};
}

/* All parts lie in the file, none on another. */
static void look_at_header(const uint8_t *data, size_t size) {
  static dsc_segment_header header;
  uint64_t file_bytes;
  if (size < sizeof(file_bytes)) return;
  memcpy(&file_bytes, data, sizeof(file_bytes));
  size -= sizeof(file_bytes);
  if (size > sizeof(header)) size = sizeof(header);
  memset((void *)&header, 0, sizeof(header));
  memcpy((void *)&header, data + sizeof(file_bytes), size);
  if (dsc_segment_check(&header, file_bytes) != DISCO_OK) return;
  const uint64_t workers = (uint64_t)header.num_workers;
  FUZZ_CHECK(header.num_workers > 0 && header.num_groups > 0 && header.num_workers % header.num_groups == 0);
  FUZZ_CHECK(header.bytes <= file_bytes);
  range parts[] = {part(0, sizeof(header), header.bytes),
                   part(header.status_offset, workers * sizeof(dsc_status_line), header.bytes),
                   part(header.reply_words_offset, workers * sizeof(dsc_reply_words), header.bytes),
                   part(header.error_slots_offset, workers * header.error_slot_bytes, header.bytes),
                   part(header.ring_offset, header.ring_bytes, header.bytes),
                   part(header.reply_rings_offset, workers * header.reply_ring_bytes, header.bytes)};
  const int count = (int)(sizeof(parts) / sizeof(parts[0]));
  for (int i = 0; i < count; i++)
    for (int k = 0; k < i; k++) FUZZ_CHECK(parts[i].begin >= parts[k].end || parts[k].begin >= parts[i].end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  switch (data[0]) {
  case 0: look_at_frame(data + 1, size - 1, DSC_FRAME_Hello, sizeof(dsc_hello)); break;
  case 1: look_at_frame(data + 1, size - 1, DSC_FRAME_Answer, sizeof(dsc_answer)); break;
  default: look_at_header(data + 1, size - 1); break;
  }
  return 0;
}
