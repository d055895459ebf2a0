/* A user's own transport: how commands reach a worker that shares no memory with the controller, and how its answers
 * come back.
 *
 * A channel carries whole frames, opaque bytes of a known size, in order, each exactly once. It has two ends, one
 * disco_channel object each: the controller's end uses send and recv_reply, the worker's end recv and reply. A session
 * takes one channel per worker (disco_session_options.channels); the worker's program gives its end to
 * disco_worker_run_channel(). The names are those of TVM's DiscoChannel.
 *
 * Threads. On the controller's end one thread at a time calls send and another one recv_reply, both at once. On the
 * worker's end one thread calls recv and reply. interrupt may come from any thread at any time, also twice; destroy
 * comes once, when nobody is inside any slot.
 *
 * Ownership. The frame given to send and reply is borrowed for the length of the call. The frame that recv and
 * recv_reply return belongs to the channel and lives until the next call of the same slot, or destroy.
 *
 * Blocking. All four slots may block: send and reply until the frame was taken over, recv and recv_reply until one is
 * there. Nothing in the library holds a lock across them.
 *
 * Ends. DISCO_CLOSED: the other end was closed between two frames, or interrupt was called; it stays so. DISCO_LOST:
 * the other end vanished in the middle of a frame, or what came is no frame (with the offset in the sentence).
 * DISCO_MEMORY: the frame does not fit in memory. Any status but DISCO_OK ends the use of the channel. A failing slot
 * leaves its sentence with disco_fail(). */
#ifndef DISCO_CHANNEL_H
#define DISCO_CHANNEL_H

#include <stddef.h>

#include "disco/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct disco_channel disco_channel;

typedef struct {
  size_t struct_size; /* sizeof(disco_channel_ops) */
  /* Controller to worker. */
  disco_status (*send)(disco_channel *self, const void *frame, size_t size);
  disco_status (*recv)(disco_channel *self, const void **ret_frame, size_t *ret_size);
  /* Worker to controller. */
  disco_status (*reply)(disco_channel *self, const void *frame, size_t size);
  disco_status (*recv_reply)(disco_channel *self, const void **ret_frame, size_t *ret_size);
  /* Make every slot of this end that blocks now, or is called later, return DISCO_CLOSED at once. Never blocks. */
  void (*interrupt)(disco_channel *self);
  void (*destroy)(disco_channel *self);
} disco_channel_ops;

/* The first member of every channel. */
struct disco_channel {
  const disco_channel_ops *ops;
};

/* Frames begin with their own size: 8 bytes, little-endian, this word included. At least 8, at most
 * DISCO_CHANNEL_MAX_FRAME. */
#define DISCO_CHANNEL_MAX_FRAME ((uint64_t)1 << 36)

/* One end over two descriptors (pipes, or twice the same stream socket): it reads from read_fd and writes to write_fd.
 * The channel owns both: destroy closes them. They become close-on-exec and non-blocking. A peer that is gone is
 * DISCO_CLOSED, never SIGPIPE. DISCO_VALUE for a descriptor that is none; DISCO_MEMORY, DISCO_RUNTIME. On failure the
 * descriptors stay the caller's. */
DISCO_API DISCO_MUST_USE disco_status disco_pipe_channel_create(int read_fd, int write_fd, disco_channel **ret_channel);

#ifdef __cplusplus
}
#endif
#endif
