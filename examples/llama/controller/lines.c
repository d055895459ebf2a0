#define _POSIX_C_SOURCE 200809L
#include "controller/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/failure.h"

enum { SLICE_MS = 100 /* how long a wait may not notice `stop` */, CHUNK = 4096 };

/* Room for a chunk and a zero byte, in front of it nothing that was handed out before. */
static bool make_room(lines *self) {
  if (self->size > self->next) memmove(self->bytes, self->bytes + self->next, self->size - self->next);
  self->size -= self->next;
  self->next = 0;
  if (self->room - self->size > CHUNK) return true;
  char *bytes = realloc(self->bytes, 2 * self->room + CHUNK + 1);
  if (bytes == NULL) return refuse(DISCO_MEMORY, "no memory for a line of %zu bytes", self->size);
  self->bytes = bytes;
  self->room = 2 * self->room + CHUNK + 1;
  return true;
}

/* More of the input. A handler that only sets a flag leaves a gap before a read that waits: so nothing waits but
 * poll(), in slices. False: stopped. */
static bool read_more(lines *self, lines_stop stop) {
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  while (!stop()) {
    const int ready = poll(&input, 1, SLICE_MS);
    if (ready == 0 || (ready < 0 && errno == EINTR)) continue;
    const ssize_t bytes = read(STDIN_FILENO, self->bytes + self->size, CHUNK);
    if (bytes < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    self->is_ended = bytes <= 0;
    self->size += bytes > 0 ? (size_t)bytes : 0;
    return true;
  }
  return false;
}

char *lines_next(lines *self, lines_stop stop, bool *ret_has_failed) {
  *ret_has_failed = false;
  for (;;) {
    const size_t size = self->size - self->next;
    char *line = size > 0 ? self->bytes + self->next : NULL, *end = size > 0 ? memchr(line, '\n', size) : NULL;
    if (end == NULL && size > 0 && self->is_ended) end = line + size; /* the last one */
    if (end != NULL) {
      *end = 0;
      self->next = (size_t)(end - self->bytes) + (end < self->bytes + self->size);
      return line;
    }
    if (self->is_ended) return NULL;
    if (!make_room(self)) {
      *ret_has_failed = true;
      return NULL;
    }
    if (!read_more(self, stop)) return NULL;
  }
}

void lines_free(lines *self) {
  free(self->bytes);
  *self = (lines){0};
}
