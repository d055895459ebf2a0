#include "channel/ring.h"

void dsc_ring_writer_init(dsc_ring_writer *writer, dsc_ring_shared *shared, void *data, uint64_t bytes,
                          const void *positions, size_t stride, int32_t readers) {
  *writer = (dsc_ring_writer){
      .shared = shared, .data = data, .bytes = bytes, .positions = positions, .stride = stride, .readers = readers};
}

void dsc_ring_reader_init(dsc_ring_reader *reader, const dsc_ring_shared *shared, const void *data, uint64_t bytes) {
  *reader = (dsc_ring_reader){.shared = shared, .data = data, .bytes = bytes};
}

/* Bytes to skip so that `bytes` are contiguous. */
static uint64_t padding(const dsc_ring_writer *writer, uint64_t bytes) {
  uint64_t offset = writer->tail & (writer->bytes - 1);
  return offset + bytes > writer->bytes ? writer->bytes - offset : 0;
}

uint64_t dsc_ring_needed(const dsc_ring_writer *writer, uint64_t bytes) {
  uint64_t end = writer->tail + padding(writer, bytes) + bytes;
  return end > writer->bytes ? end - writer->bytes : 0;
}

void *dsc_ring_claim_slowly(dsc_ring_writer *writer, uint64_t bytes) {
  uint64_t needed = dsc_ring_needed(writer, bytes), pad = padding(writer, bytes);
  if (writer->minimum < needed) {
    uint64_t minimum = writer->tail;
    for (int32_t i = 0; i < writer->readers; i++) {
      uint64_t position = dsc_load_acquire(dsc_ring_position_of(writer, i)); /* acquire: ring.position */
      if (position < minimum) minimum = position;
    }
    writer->minimum = minimum;
    if (minimum < needed) return NULL;
  }
  uint64_t offset = writer->tail & (writer->bytes - 1);
  if (pad > 0) {
    *(uint32_t *)(writer->data + offset) = (uint32_t)pad | DSC_RING_PADDING;
    offset = 0;
  }
  writer->pad = pad;
  return writer->data + offset;
}
