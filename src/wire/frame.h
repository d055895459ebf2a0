/* Frames: what travels on a pipe or channel, where there is no shared memory. Every frame begins with a dsc_frame;
 * bodies are multiples of 8 bytes. The first word is the channel's (disco/channel.h): the whole size. */
#ifndef DSC_WIRE_FRAME_H
#define DSC_WIRE_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "wire/schema.h"

#define DSC_FRAME_MAGIC 0x46637344u /* "DscF" */
enum { DSC_FRAME_VERSION = 2, DSC_NONCE_BYTES = 16, DSC_REASON_MAX = 256 };

/* X(name, number, direction, meaning) */
#define DSC_FRAME_LIST(X)                                                                                       \
  X(Hello, 1, "to the worker", "who the controller is, and where its shared memory is to be found")             \
  X(Answer, 2, "to the controller", "who the worker is, and whether it reads the ring or the pipe")             \
  X(Command, 3, "to the worker", "one record, and the bytes of its side file")                                  \
  X(Done, 4, "to the controller", "a command is done: the worker's status line, and its failure if it has one") \
  X(Reply, 5, "to the controller", "a reply")                                                                   \
  X(Progress, 6, "to the controller", "how far the running function says that it is")

typedef enum {
#define DSC_FRAME_ENUM(name, number, direction, meaning) DSC_FRAME_##name = number,
  DSC_FRAME_LIST(DSC_FRAME_ENUM)
#undef DSC_FRAME_ENUM
} dsc_frame_kind;

/* X(type, field, meaning) */
#define DSC_FRAME_FIELDS(X)                                                      \
  X(uint64_t, size, "the channel's: bytes of the frame, this word included")     \
  X(uint32_t, magic, "0x46637344")                                               \
  X(uint16_t, version, "of this protocol: 2")                                    \
  X(uint16_t, kind, "which frame")                                               \
  X(uint64_t, session, "random number of the session")                           \
  X(uint32_t, generation, "counts recoveries; 0 until sessions can be repaired") \
  X(uint32_t, worker, "whom it is to or from")                                   \
  X(uint64_t, sequence, "the command it carries or answers; 0: none")

typedef struct {
#define DSC_FRAME_FIELD(type, field, meaning) type field;
  DSC_FRAME_FIELDS(DSC_FRAME_FIELD)
#undef DSC_FRAME_FIELD
} dsc_frame;
_Static_assert(sizeof(dsc_frame) == 40, "the frame's header is packed by its order");

typedef struct {
  dsc_frame head;
  int64_t pid;        /* of the controller */
  int32_t segment_fd; /* there; -1: no shared memory, use the pipe */
  int32_t arena_fd;   /* the same */
  uint64_t arena_range_bytes;
  uint8_t nonce[DSC_NONCE_BYTES]; /* also in the segment's header */
  int32_t num_workers, num_groups;
  uint32_t spin_us;
  uint32_t reserved;
} dsc_hello;

enum { DSC_ANSWER_RING = 1, DSC_ANSWER_PIPE = 2 };

typedef struct {
  dsc_frame head;
  int64_t pid; /* of the worker */
  uint32_t mode;
  uint32_t reserved;
  char reason[DSC_REASON_MAX]; /* why the pipe, NUL-terminated */
} dsc_answer;

/* A command's body: this, then the record (a multiple of 8 bytes), then the side bytes. */
typedef struct {
  dsc_frame head;
  uint64_t skip_cause; /* 0: run it; else poison its result: command skip_cause failed */
  uint64_t record_bytes, side_bytes;
} dsc_command_frame;

/* A done frame's body: this, then failure_bytes of what dsc_failure_store() writes (a multiple of 8 bytes).
 * head.sequence is the command that is done. */
typedef struct {
  dsc_frame head;
  uint64_t failed, resumed, skipped, sleeps;
  uint64_t failure_bytes;
} dsc_done_frame;

/* A reply's body: this, then the packed value. head.sequence is the command that it answers. */
typedef struct {
  dsc_frame head;
  uint32_t outcome; /* DSC_REPLY_VALUE, _ERROR or _POISONED */
  uint32_t reserved;
  uint64_t value_bytes;
} dsc_reply_frame;

/* head.sequence is the command that runs. */
typedef struct {
  dsc_frame head;
  uint64_t done, total; /* in units of the function's own; total 0: unknown */
} dsc_progress_frame;

/* Fill the head of a frame. */
void dsc_frame_begin(dsc_frame *frame, dsc_frame_kind kind, uint64_t size, uint64_t session, int32_t worker,
                     uint64_t sequence);
/* Is this a whole frame of that kind, session and worker, at least `least` bytes long? `session` 0: any (the hello
 * tells it). DISCO_LOST names what is wrong, with both versions when these differ. `from` names the peer. */
disco_status dsc_frame_check(const void *bytes, size_t size, dsc_frame_kind kind, size_t least, uint64_t session,
                             int32_t worker, const char *from);
/* The sizes inside a command, done or reply frame add up. DISCO_LOST. */
disco_status dsc_frame_check_command(const dsc_command_frame *frame);
disco_status dsc_frame_check_done(const dsc_done_frame *frame);
disco_status dsc_frame_check_reply(const dsc_reply_frame *frame);
const char *dsc_frame_name(uint32_t kind); /* NULL for none */

#endif
