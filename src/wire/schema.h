/* The one list of messages between controller and workers. The structs, the names, the printer and docs/protocol.md
 * come from it.
 *
 * A command is one record: dsc_record, its slots of values (wire/codec.h), the released register ids. */
#ifndef DSC_WIRE_SCHEMA_H
#define DSC_WIRE_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

/* X(name, number, skippable, reg, target, slots, meaning)
 * skippable: not run between a failure and its resume record. reg, target, slots: what the header's fields and the
 * values mean ("-": unused). */
#define DSC_MESSAGE_LIST(X)                                                                                   \
  X(ShutDown, 0, false, "-", "-", "-", "the worker's loop ends")                                              \
  X(KillReg, 1, false, "register to clear, 0: none", "-", "-",                                                \
    "carries released register ids when no other record does")                                                \
  X(GetGlobalFunc, 2, false, "result", "-", "name, function or None",                                         \
    "puts the global function into the register; looked up by the worker when the function is None")          \
  X(CallPacked, 3, true, "result, 0: drop it", "register of the function", "arguments", "calls the function") \
  X(SyncWorker, 4, false, "-", "worker", "-", "runs the data plane's sync_worker on that worker")             \
  X(CopyFromWorker0, 5, true, "source", "-", "host tensor (a reference for worker 0 alone)",                  \
    "copies worker 0's tensor into the host's")                                                               \
  X(CopyToWorker0, 6, true, "destination", "-", "host tensor (a reference for worker 0 alone)",               \
    "copies the host's tensor into worker 0's")                                                               \
  X(DebugGetFromRemote, 7, false, "source", "worker or all", "-", "replies with the register's value")        \
  X(DebugSetRegister, 8, false, "destination", "worker or all", "value",                                      \
    "sets the register; replies unless flagged quiet")                                                        \
  X(Resume, 64, false, "-", "-", "epoch (int)", "ends skipping: the failures before it were told")

typedef enum {
#define DSC_MESSAGE_ENUM(name, number, skippable, reg, target, slots, meaning) DSC_MESSAGE_##name = number,
  DSC_MESSAGE_LIST(DSC_MESSAGE_ENUM)
#undef DSC_MESSAGE_ENUM
} dsc_message;

/* The message's name, or NULL for a number that is none. */
const char *dsc_message_name(int64_t message);
bool dsc_message_skippable(uint8_t message);

#define DSC_TARGET_ALL UINT32_MAX

enum {
  DSC_RECORD_OBJECTS = 1, /* some slot holds a counted object: every reader drops its reference */
  DSC_RECORD_QUIET = 2,   /* no reply */
  DSC_RECORD_WAITED = 4, /* the controller waited for something since its last record: it will wait for this one, too */
  DSC_RECORD_SIDE = 8,   /* a side file goes with it: a dsc_side_ref ends the slots */
  DSC_RECORD_CONTAINERS = 16, /* packed values may be containers */
};

/* The header of a command, 32 bytes. X(type, field, meaning) */
#define DSC_RECORD_FIELDS(X)                                                                                         \
  X(uint32_t, frame, "the ring's: bytes of the record, and its padding mark")                                        \
  X(uint8_t, message, "which message")                                                                               \
  X(uint8_t, flags,                                                                                                  \
    "1: slots hold objects; 2: no reply; 4: the controller waited before this record; 8: a side file goes with it; " \
    "16: "                                                                                                           \
    "packed values may be containers")                                                                               \
  X(uint16_t, num_releases, "released register ids that stand behind the slots, 4 bytes each")                       \
  X(uint64_t, sequence, "number of the command, from 1")                                                             \
  X(uint32_t, reg, "the register, see the message")                                                                  \
  X(uint32_t, target, "worker or register, see the message")                                                         \
  X(uint16_t, num_args, "how many values the slots hold")                                                            \
  X(uint16_t, num_slots, "16-byte slots behind the header, and packed values behind them")                           \
  X(uint32_t, name, "interned name of the function, for status lines and errors; 0: none")

typedef struct {
#define DSC_RECORD_FIELD(type, field, meaning) type field;
  DSC_RECORD_FIELDS(DSC_RECORD_FIELD)
#undef DSC_RECORD_FIELD
} dsc_record;

_Static_assert(sizeof(dsc_record) == 32, "the record header is packed by its order");

/* What goes back: a reply ring's record. X(type, field, meaning) */
#define DSC_REPLY_FIELDS(X)                                                                                            \
  X(uint32_t, frame, "the ring's")                                                                                     \
  X(uint32_t, outcome,                                                                                                 \
    "0: a value; 1: an error object; 2: poisoned, the value is the sequence of the cause; + 256: packed; + 512: in a " \
    "side file")                                                                                                       \
  X(uint64_t, sequence, "the command it answers")

enum {
  DSC_REPLY_VALUE = 0,
  DSC_REPLY_ERROR = 1,
  DSC_REPLY_POISONED = 2,
  /* Added to these: how the value travels, when it is not a slot that the two sides can share. */
  DSC_REPLY_PACKED = 256, /* a packed value follows */
  DSC_REPLY_SIDE = 512,   /* a dsc_side_ref follows: a file of the worker's with the packed value */
  DSC_REPLY_OUTCOME = 255,
  DSC_REPLY_AWAITED = 255, /* of a dsc_pending: none has come */
};

typedef struct {
#define DSC_REPLY_FIELD(type, field, meaning) type field;
  DSC_REPLY_FIELDS(DSC_REPLY_FIELD)
#undef DSC_REPLY_FIELD
} dsc_reply;

_Static_assert(sizeof(dsc_reply) == 16, "one slot follows, 16-byte aligned");

/* A memfd beside a record or reply: written once by the one who posts, found by the reader through /proc, kept until
 * every reader is done. It holds packed values first (payload_bytes, in whole pages), then the data that they refer to.
 */
typedef struct {
  int64_t pid; /* whose descriptor it is */
  int32_t fd;
  uint32_t reserved;
  uint64_t payload_bytes; /* room of the packed values; 0: those are in the record itself */
  uint64_t bytes;         /* of the whole file */
} dsc_side_ref;

_Static_assert(sizeof(dsc_side_ref) == 32, "two slots");

#endif
