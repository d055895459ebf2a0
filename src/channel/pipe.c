#include "channel/pipe.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomics.h"
#include "base/memory.h"
#include "base/status.h"
#include "os/pipe.h"

enum {
  SIZE_WORD = 8,
  LEAST_BUFFER = 4096,
  KEPT_BUFFER = 1 << 20, /* what a frame may allocate before its bytes come, and what is kept from one to the next */
};

/* One direction. Only the thread that is inside its slot touches it. */
typedef struct {
  uint64_t frames, bytes; /* that passed as a whole, for the sentences */
  disco_status ended;     /* not OK: how it ended, for good */
  char why[256];
} direction;

typedef struct {
  disco_channel channel;
  int read_fd, write_fd; /* equal for one socket */
  int stop_fd;           /* an event, set for good by interrupt */
  atomic_bool stopped;
  direction in, out;
  uint8_t *buffer; /* the frame last received */
  size_t capacity;
} pipe_channel;

static pipe_channel *of(disco_channel *self) { return (pipe_channel *)self; }

/* ---- How a direction ends ---- */

static disco_status say_again(const direction *way) { return dsc_fail(way->ended, "%s", way->why); }

DISCO_PRINTF(3, 4) static disco_status end_with(direction *way, disco_status status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  (void)vsnprintf(way->why, sizeof(way->why), format, args);
  va_end(args);
  way->ended = status;
  return say_again(way);
}

static disco_status end_interrupted(direction *way) {
  return end_with(way, DISCO_CLOSED, "the channel was interrupted after %" PRIu64 " whole frames", way->frames);
}

/* What the descriptor's error, in the thread's record, means for a frame of which `done` bytes had passed. */
static disco_status end_broken(direction *way, uint64_t done) {
  const dsc_error *error = dsc_thread_error();
  const char *reason = error != NULL && error->message != NULL ? error->message : "the descriptor failed";
  return end_with(way, DISCO_LOST, "%s, at byte %" PRIu64 " of the stream", reason, way->bytes + done);
}

/* Before a slot does anything. */
static disco_status check_open(pipe_channel *pipe, direction *way) {
  if (way->ended != DISCO_OK) return say_again(way);
  return atomic_load(&pipe->stopped) ? end_interrupted(way) : DISCO_OK;
}

/* ---- Sending ---- */

static uint64_t read_size_word(const uint8_t *bytes) {
  uint64_t size = 0;
  for (int i = SIZE_WORD - 1; i >= 0; i--) size = size << 8 | bytes[i];
  return size;
}

static disco_status check_frame(const void *frame, size_t size) {
  if (frame == NULL || size < SIZE_WORD || size > DISCO_CHANNEL_MAX_FRAME)
    return dsc_fail(DISCO_VALUE, "a frame of %zu bytes cannot be sent: at least %d, at most %" PRIu64, size, SIZE_WORD,
                    DISCO_CHANNEL_MAX_FRAME);
  uint64_t word = read_size_word(frame);
  if (word == size) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "a frame of %zu bytes says in its first 8 bytes that it has %" PRIu64, size, word);
}

static disco_status end_unwritten(direction *way, size_t done, size_t size) {
  if (done == 0)
    return end_with(way, DISCO_CLOSED, "the other end of the channel was closed after %" PRIu64 " whole frames",
                    way->frames);
  return end_with(way, DISCO_LOST,
                  "the other end of the channel vanished after taking %zu of %zu bytes of the frame at byte %" PRIu64
                  " of the stream",
                  done, size, way->bytes);
}

static disco_status pipe_send(disco_channel *self, const void *frame, size_t size) {
  pipe_channel *pipe = of(self);
  direction *way = &pipe->out;
  disco_status status = check_open(pipe, way);
  if (status == DISCO_OK) status = check_frame(frame, size); /* a bad frame was never there: the channel goes on */
  for (size_t done = 0; status == DISCO_OK && done < size;) {
    size_t moved = 0;
    dsc_io io = dsc_fd_write(pipe->write_fd, (const uint8_t *)frame + done, size - done, &moved);
    done += moved;
    if (io == DSC_IO_AGAIN) (void)dsc_fd_wait(pipe->write_fd, true, pipe->stop_fd, -1);
    if (io == DSC_IO_END) status = end_unwritten(way, done, size);
    if (io == DSC_IO_ERROR) status = end_broken(way, done);
    if (status == DISCO_OK && done < size && atomic_load(&pipe->stopped)) status = end_interrupted(way);
  }
  if (status != DISCO_OK) return status;
  way->frames++;
  way->bytes += size;
  return DISCO_OK;
}

/* ---- Receiving ---- */

static disco_status end_unread(direction *way, uint64_t done, uint64_t size) {
  if (done == 0)
    return end_with(way, DISCO_CLOSED, "the other end of the channel was closed after %" PRIu64 " whole frames",
                    way->frames);
  return end_with(way, DISCO_LOST,
                  "the other end of the channel vanished after %" PRIu64 " of %" PRIu64 " bytes of %s at byte %" PRIu64
                  " of the stream",
                  done, size, done < SIZE_WORD ? "the size word" : "the frame", way->bytes);
}

/* Bytes done..until of the present frame, which will have `size`. */
static disco_status read_until(pipe_channel *pipe, uint64_t *done, uint64_t until, uint64_t size) {
  direction *way = &pipe->in;
  while (*done < until) {
    if (atomic_load(&pipe->stopped)) return end_interrupted(way);
    size_t moved = 0;
    dsc_io io = dsc_fd_read(pipe->read_fd, pipe->buffer + *done, (size_t)(until - *done), &moved);
    *done += moved;
    if (io == DSC_IO_AGAIN) (void)dsc_fd_wait(pipe->read_fd, false, pipe->stop_fd, -1);
    if (io == DSC_IO_END) return end_unread(way, *done, size);
    if (io == DSC_IO_ERROR) return end_broken(way, *done);
  }
  return DISCO_OK;
}

/* Room for `capacity` bytes; the first `done` stay. */
static disco_status reserve(pipe_channel *pipe, uint64_t done, uint64_t capacity, uint64_t size) {
  if (capacity <= pipe->capacity) return DISCO_OK;
  uint8_t *larger = dsc_alloc((size_t)capacity, "a frame");
  if (larger == NULL)
    return end_with(&pipe->in, DISCO_MEMORY,
                    "no memory for a frame of %" PRIu64 " bytes, of which %" PRIu64 " have come (asked for %" PRIu64
                    ")",
                    size, done, capacity);
  if (done > 0) memcpy(larger, pipe->buffer, (size_t)done);
  free(pipe->buffer);
  pipe->buffer = larger;
  pipe->capacity = (size_t)capacity;
  return DISCO_OK;
}

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* How large the buffer is to be when `done` bytes of `size` have come: beyond what is kept it only doubles when full,
 * so a size that lies allocates nothing. */
static uint64_t next_capacity(uint64_t capacity, uint64_t done, uint64_t size) {
  if (size <= capacity) return capacity;
  if (capacity >= KEPT_BUFFER) return done < capacity ? capacity : smaller(2 * capacity, size);
  while (capacity < size && capacity < KEPT_BUFFER) capacity *= 2;
  return capacity;
}

static disco_status read_frame(pipe_channel *pipe, uint64_t *ret_size) {
  direction *way = &pipe->in;
  uint64_t done = 0;
  disco_status status = reserve(pipe, 0, LEAST_BUFFER, SIZE_WORD);
  if (status == DISCO_OK) status = read_until(pipe, &done, SIZE_WORD, SIZE_WORD);
  if (status != DISCO_OK) return status;
  uint64_t size = read_size_word(pipe->buffer);
  if (size < SIZE_WORD || size > DISCO_CHANNEL_MAX_FRAME)
    return end_with(way, DISCO_LOST,
                    "what came at byte %" PRIu64 " of the stream is no frame: it says that it has %" PRIu64
                    " bytes; at least %d, at most %" PRIu64,
                    way->bytes, size, SIZE_WORD, DISCO_CHANNEL_MAX_FRAME);
  while (status == DISCO_OK && done < size) {
    status = reserve(pipe, done, next_capacity(pipe->capacity, done, size), size);
    if (status == DISCO_OK) status = read_until(pipe, &done, smaller(size, pipe->capacity), size);
  }
  *ret_size = size;
  return status;
}

static disco_status pipe_recv(disco_channel *self, const void **ret_frame, size_t *ret_size) {
  pipe_channel *pipe = of(self);
  if (pipe->capacity > KEPT_BUFFER) {
    free(pipe->buffer);
    pipe->buffer = NULL;
    pipe->capacity = 0;
  }
  disco_status status = check_open(pipe, &pipe->in);
  uint64_t size = 0;
  if (status == DISCO_OK) status = read_frame(pipe, &size);
  if (status != DISCO_OK) return status;
  pipe->in.frames++;
  pipe->in.bytes += size;
  *ret_frame = pipe->buffer;
  *ret_size = (size_t)size;
  return DISCO_OK;
}

/* ---- Life ---- */

static void pipe_interrupt(disco_channel *self) {
  pipe_channel *pipe = of(self);
  atomic_store(&pipe->stopped, true);
  dsc_event_set(pipe->stop_fd);
}

static void pipe_destroy(disco_channel *self) {
  if (self == NULL) return;
  pipe_channel *pipe = of(self);
  if (pipe->write_fd == pipe->read_fd) pipe->write_fd = -1;
  dsc_fd_close(&pipe->read_fd);
  dsc_fd_close(&pipe->write_fd);
  dsc_fd_close(&pipe->stop_fd);
  free(pipe->buffer);
  free(pipe);
}

static const disco_channel_ops pipe_ops = {
    .struct_size = sizeof(disco_channel_ops),
    .send = pipe_send,
    .recv = pipe_recv,
    .reply = pipe_send,
    .recv_reply = pipe_recv,
    .interrupt = pipe_interrupt,
    .destroy = pipe_destroy,
};

disco_status dsc_pipe_channel_create(int read_fd, int write_fd, disco_channel **ret_channel) {
  if (ret_channel == NULL) return dsc_fail(DISCO_VALUE, "the place for the new channel is NULL");
  disco_status status = dsc_fd_check(read_fd, false);
  if (status == DISCO_OK) status = dsc_fd_check(write_fd, true);
  if (status != DISCO_OK) return status;
  pipe_channel *pipe = dsc_alloc(sizeof(*pipe), "a pipe channel");
  if (pipe == NULL) return DISCO_MEMORY;
  pipe->channel.ops = &pipe_ops;
  pipe->read_fd = pipe->write_fd = pipe->stop_fd = -1;
  status = dsc_event_create(&pipe->stop_fd);
  if (status == DISCO_OK) status = dsc_fd_adopt(read_fd, true);
  if (status == DISCO_OK) status = dsc_fd_adopt(write_fd, true);
  if (status != DISCO_OK) {
    pipe_destroy(&pipe->channel);
    return status;
  }
  pipe->read_fd = read_fd;
  pipe->write_fd = write_fd;
  *ret_channel = &pipe->channel;
  return DISCO_OK;
}

int dsc_pipe_channel_read_fd(const disco_channel *channel) {
  return channel != NULL && channel->ops == &pipe_ops ? ((const pipe_channel *)channel)->read_fd : -1;
}
