/* A ring of variable-sized frames from one writer to any number of readers that all read everything.
 *
 * It lies in memory the caller gives and holds positions, never pointers. Positions are bytes since the beginning,
 * 64-bit, and never wrap; frames are multiples of 64 bytes and contiguous (a padding frame fills the end of the ring
 * when the next one does not fit there). The first 4 bytes of every frame are the ring's. The writer keeps a cached
 * minimum of the readers' positions, so that writing costs nothing per reader. One thread at a time may write (the
 * caller's lock); each reader has one thread. */
#ifndef DSC_CHANNEL_RING_H
#define DSC_CHANNEL_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/atomics.h"

enum { DSC_RING_LINE = 64 };
#define DSC_RING_PADDING 0x80000000u /* in a frame's first word: skip it */

typedef struct {
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t tail; /* everything before it may be read */
} dsc_ring_shared;

typedef struct {
  dsc_ring_shared *shared;
  char *data;
  uint64_t bytes;        /* a power of two */
  uint64_t tail;         /* the writer's own copy */
  uint64_t pad;          /* of the claim in progress */
  uint64_t minimum;      /* cached: no reader is behind it */
  const char *positions; /* the readers' positions: _Atomic uint64_t, `stride` bytes apart */
  size_t stride;
  int32_t readers;
} dsc_ring_writer;

typedef struct {
  const dsc_ring_shared *shared;
  const char *data;
  uint64_t bytes;
  uint64_t position;
  uint64_t tail; /* cached */
} dsc_ring_reader;

void dsc_ring_writer_init(dsc_ring_writer *writer, dsc_ring_shared *shared, void *data, uint64_t bytes,
                          const void *positions, size_t stride, int32_t readers);
void dsc_ring_reader_init(dsc_ring_reader *reader, const dsc_ring_shared *shared, const void *data, uint64_t bytes);

static inline _Atomic uint64_t *dsc_ring_position_of(const dsc_ring_writer *writer, int32_t reader) {
  return (_Atomic uint64_t *)(writer->positions + (size_t)reader * writer->stride);
}

/* Slow half of claim: looks at all readers. */
void *dsc_ring_claim_slowly(dsc_ring_writer *writer, uint64_t bytes);

/* Room for a frame of at most `bytes` (<= half the ring), contiguous, 64-byte aligned; NULL when the readers are too
 * far behind. Nothing is visible before commit, and a claim that is not committed is forgotten. */
static inline void *dsc_ring_claim(dsc_ring_writer *writer, uint64_t bytes) {
  uint64_t offset = writer->tail & (writer->bytes - 1);
  if (offset + bytes > writer->bytes || writer->tail + bytes - writer->minimum > writer->bytes)
    return dsc_ring_claim_slowly(writer, bytes);
  writer->pad = 0;
  return writer->data + offset;
}

/* Publish the claimed frame with its real size (<= what was claimed; rounded up to lines). */
static inline uint64_t dsc_ring_commit(dsc_ring_writer *writer, void *frame, uint64_t bytes) {
  bytes = (bytes + DSC_RING_LINE - 1) & ~(uint64_t)(DSC_RING_LINE - 1);
  *(uint32_t *)frame = (uint32_t)bytes;
  writer->tail += writer->pad + bytes;
  dsc_store_release(&writer->shared->tail, writer->tail); /* release: ring.tail, the frame is visible */
  return bytes;
}

/* The position that every reader must have passed before a claim of `bytes` can succeed. */
uint64_t dsc_ring_needed(const dsc_ring_writer *writer, uint64_t bytes);

/* The next frame, or NULL when everything was read. It stays valid until the reader's position is published past it. */
static inline const void *dsc_ring_peek(dsc_ring_reader *reader) {
  for (;;) {
    if (reader->position == reader->tail) {
      reader->tail = dsc_load_acquire(&reader->shared->tail); /* acquire: ring.tail */
      if (reader->position == reader->tail) return NULL;
    }
    const char *frame = reader->data + (reader->position & (reader->bytes - 1));
    uint32_t head = *(const uint32_t *)frame;
    if (!(head & DSC_RING_PADDING)) return frame;
    reader->position += head & ~DSC_RING_PADDING;
  }
}

/* Is there anything to read? Looks at the shared word; for waiting. */
static inline bool dsc_ring_has_news(const dsc_ring_reader *reader) {
  return dsc_load_acquire(&reader->shared->tail) != reader->position; /* acquire: ring.tail */
}

/* Step over the frame that peek returned, and let the writer reuse it. */
static inline void dsc_ring_advance(dsc_ring_reader *reader, const void *frame, _Atomic uint64_t *position) {
  reader->position += *(const uint32_t *)frame;
  dsc_store_release(position, reader->position); /* release: ring.position, nobody reads the frame any more */
}

#endif
