/* Reading a source from front to back, in pieces: a window of it lies in memory, and moves. One thread at a time. */
#ifndef DSC_WEIGHTS_CURSOR_H
#define DSC_WEIGHTS_CURSOR_H

#include <stddef.h>
#include <stdint.h>

#include "weights/model.h"

typedef struct {
  const dsc_source *source;
  uint64_t at;                        /* offset of the next byte */
  uint64_t end;                       /* nothing behind it is taken: end of the file, or a limit */
  uint64_t first;                     /* the window: bytes [first, first + filled) of the source */
  size_t filled, capacity, read_size; /* read_size: of one read, when no more is wanted at once */
  uint8_t *window;
} dsc_cursor;

/* Before the first byte. At most `limit` bytes of the source will be taken, about `read_size` are read at once. Nothing
 * is allocated yet; a zeroed cursor may be finished, too. */
void dsc_cursor_init(dsc_cursor *cursor, const dsc_source *source, uint64_t limit, size_t read_size);
void dsc_cursor_fini(dsc_cursor *cursor);

static inline uint64_t dsc_cursor_left(const dsc_cursor *cursor) { return cursor->end - cursor->at; }

/* The next `bytes` bytes, which must not be more than are left, side by side; they stay until the next call. DISCO_OK,
 * DISCO_MEMORY, or what the source says. */
disco_status dsc_cursor_take(dsc_cursor *cursor, size_t bytes, const uint8_t **ret_bytes);
/* Move to an offset up to `end`. */
void dsc_cursor_seek(dsc_cursor *cursor, uint64_t offset);

/* Little-endian numbers, unaligned. */
static inline uint32_t dsc_u32_at(const uint8_t *from) {
  return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}
static inline uint64_t dsc_u64_at(const uint8_t *from) {
  return (uint64_t)dsc_u32_at(from) | (uint64_t)dsc_u32_at(from + 4) << 32;
}

#endif
