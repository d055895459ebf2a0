#include "weights/cursor.h"

#include <stdlib.h>

#include "base/memory.h"

void dsc_cursor_init(dsc_cursor *cursor, const dsc_source *source, uint64_t limit, size_t read_size) {
  *cursor = (dsc_cursor){.source = source, .read_size = read_size};
  cursor->end = source->bytes < limit ? source->bytes : limit;
}

void dsc_cursor_fini(dsc_cursor *cursor) {
  free(cursor->window);
  *cursor = (dsc_cursor){0};
}

void dsc_cursor_seek(dsc_cursor *cursor, uint64_t offset) { cursor->at = offset; }

/* Room for that many bytes; what was there is given up. */
static disco_status make_room(dsc_cursor *cursor, size_t bytes) {
  if (bytes <= cursor->capacity) return DISCO_OK;
  cursor->filled = cursor->capacity = 0;
  free(cursor->window);
  cursor->window = dsc_alloc(bytes, "bytes of a file of weights");
  if (cursor->window == NULL) return DISCO_MEMORY;
  cursor->capacity = bytes;
  return DISCO_OK;
}

disco_status dsc_cursor_take(dsc_cursor *cursor, size_t bytes, const uint8_t **ret_bytes) {
  const bool is_there = cursor->at >= cursor->first && cursor->at - cursor->first <= cursor->filled &&
                        bytes <= cursor->filled - (cursor->at - cursor->first);
  if (!is_there) {
    size_t want = bytes > cursor->read_size ? bytes : cursor->read_size;
    if (want > dsc_cursor_left(cursor)) want = (size_t)dsc_cursor_left(cursor);
    disco_status status = make_room(cursor, want);
    if (status != DISCO_OK) return status;
    cursor->first = cursor->at;
    cursor->filled = 0;
    if (want > 0) status = cursor->source->read(cursor->source->context, cursor->at, cursor->window, want);
    if (status != DISCO_OK) return status;
    cursor->filled = want;
  }
  *ret_bytes = cursor->window + (cursor->at - cursor->first);
  cursor->at += bytes;
  return DISCO_OK;
}
