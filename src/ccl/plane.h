/* The memory that the ranks of a session share for their collectives, and what a rank asks of the worker it runs in.
 *
 *   header | a note per worker | communicator of all, of each group: head, lines per rank, staging per rank |
 *   pair lines | pair staging
 *
 * One block per host, zeroed when it is made, mapped by every worker; offsets follow from the numbers of workers and
 * groups alone. Each word has one writer at a time, named beside it. docs/architecture.md, Collectives, tells the
 * rules; models/collective.pml proves them. */
#ifndef DSC_CCL_PLANE_H
#define DSC_CCL_PLANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/status.h"
#include "os/wait.h"

enum {
  DSC_CCL_LINE = 128, /* two cache lines: CPUs fetch them in pairs */
  DSC_CCL_INLINE = 56,
  DSC_CCL_ONESHOT = 32 << 10,
  DSC_CCL_BUFFERS = 4,
  DSC_CCL_CHUNK = 512 << 10, /* of one staging buffer, with few ranks */
  DSC_CCL_EAGER = 8 << 10,   /* of one slot of a pair, with few ranks */
  DSC_CCL_EAGER_SLOTS = 2,
  DSC_CCL_CAUSE = 384,
  DSC_CCL_LOOK_BYTES = 64 << 10, /* moved between two looks whether somebody gave up */
};

/* A rank's sign that it came to an operation. The key is written last; the rest may be the operation's data. */
typedef struct {
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t key;
  unsigned char payload[DSC_CCL_INLINE];
} dsc_entry_line;

typedef struct {
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t value;
} dsc_flag_line;

/* What an operation is, whole: for the sentence of a mismatch, and for telling epochs apart. */
typedef struct {
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t epoch; /* + 1; 0: never written */
  _Atomic uint64_t sequence;                     /* the command */
  _Atomic uint64_t count;                        /* elements of each rank's part */
  _Atomic uint32_t dtype;                        /* code, bits, lanes as in DLDataType */
  _Atomic uint32_t meta;                         /* operation | kind << 8 */
} dsc_print_line;

/* Of one rank of a communicator. With two ranks the entries, one-shot buffers and finished flags [0] of both change
 * hands at every operation: see dsc_comm_slot. */
typedef struct {
  dsc_entry_line entry[2];   /* by parity of the operation */
  dsc_flag_line finished[2]; /* the same: 1 + its number: touches no other's tensor any more */
  dsc_print_line print[2];   /* the same; always this rank's own */
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t abort_epoch; /* + 1: it gave up in this epoch, at ... */
  _Atomic uint64_t abort_counter;                      /* ... this operation; written before the epoch */
  dsc_flag_line full[DSC_CCL_BUFFERS]; /* staging buffer b of this rank: how often it was filled, or, with
                                          two ranks, handed back */
  dsc_flag_line reduced;               /* chunks that this rank has reduced */
  dsc_flag_line taken;                 /* chunks that this rank has read from others */
} dsc_rank_lines;

typedef struct {
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t aborts;        /* how many marks were ever set: look at them when it moved */
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t cause_claimed; /* epoch + 1: one rank of the epoch writes the cause */
  _Atomic uint64_t cause_told;                           /* epoch + 1: it is there */
  _Atomic uint32_t cause_worker;                         /* who wrote it */
  _Atomic uint64_t cause[DSC_CCL_CAUSE / 8];
} dsc_comm_head;

/* How a send's bytes travel. */
enum { DSC_SEND_EAGER = 0, DSC_SEND_STAGED = 1, DSC_SEND_DIRECT = 2 };

typedef struct {
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t number; /* of the send that is here, from 1 in each epoch; written last */
  _Atomic uint64_t epoch;                           /* + 1 */
  uint64_t count, address;                          /* elements; of a direct send, see dsc_ccl_publish */
  uint32_t dtype, how;                              /* DSC_SEND_* */
} dsc_send_slot;

/* One direction of a pair of workers. Numbers count from 1 in each epoch. */
typedef struct {
  /* the sender's */
  _Alignas(DSC_CCL_LINE) dsc_send_slot slot[DSC_CCL_EAGER_SLOTS];
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t filled; /* chunks of staged sends that are there */
  _Atomic uint64_t withdrawn;                     /* the direct send whose tensor must not be read any more */
  /* the receiver's: valid when its epoch is the sender's */
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t received; /* sends that it is done with */
  _Atomic uint64_t received_epoch;                  /* + 1; written after the others were reset */
  _Atomic uint64_t reading;                         /* the direct send whose tensor it reads */
  _Atomic uint64_t refused;                         /* the send that did not fit what it wanted */
  _Atomic uint64_t wanted_count;                    /* the same: what it wanted */
  _Atomic uint32_t wanted_dtype;
  _Atomic uint64_t drained; /* chunks of staged sends that it has read */
} dsc_pair_lines;

/* What a rank waits for, published when it goes to sleep: for the mismatch that no entry shows (a ring of
 * ranks, each in another communicator), and for the dump. */
typedef struct {
  _Alignas(DSC_CCL_LINE) _Atomic uint64_t version; /* odd: waiting */
  _Atomic uint64_t sequence, counter;
  _Atomic int32_t communicator; /* 0 all, 1 + g group g, -1 a pair */
  _Atomic int32_t peer; /* the one worker it waits for, -1: more; of a pair the number of the send is `counter` */
  _Atomic uint32_t meta, dtype;
  _Atomic uint64_t count;
  /* statistics, the rank's own */
  _Atomic uint64_t inlined, staged, direct, bytes, sleeps;
} dsc_rank_note;

typedef struct {
  int32_t num_workers, num_groups, group_size;
  uint64_t chunk_bytes; /* of one staging buffer */
  uint64_t eager_bytes;
  uint64_t staging_bytes; /* of one rank of a communicator */
  uint64_t notes, world, groups, group_stride, pairs, eager, pair_staging, bytes;
} dsc_plane_layout;

/* Where everything lies. Numbers of workers and groups that a session may have. */
void dsc_plane_plan(int32_t num_workers, int32_t num_groups, dsc_plane_layout *ret_layout);

/* What a rank may ask of the worker it runs in. All pointers outlive it. */
typedef struct dsc_ccl_host dsc_ccl_host;

/* How a worker stands to the running command of the one that asks. */
typedef struct {
  bool is_dead;    /* confirmed */
  bool is_later;   /* in a later epoch */
  uint64_t failed; /* its failed command of my epoch or a later one, 0: none */
  uint64_t done;   /* its last finished command */
} dsc_member_state;

struct dsc_ccl_host {
  void *context; /* of the functions below */
  int32_t worker, num_workers, num_groups;
  char *memory;      /* the plane's */
  const char *arena; /* NULL, or memory that all workers map, at different addresses */
  uint64_t arena_bytes;
  bool one_address_space; /* all workers are threads of this process */
  /* of the running command; read by this thread only */
  const uint64_t *sequence;         /* its number */
  const uint64_t *resumed;          /* the last resume record passed */
  const uint64_t *epoch;            /* how many were passed */
  const _Atomic uint64_t *failures; /* moves with each failure and death */
  const _Atomic uint32_t *over;     /* the session's fault word; `over_value`: everybody leaves */
  uint32_t over_value;
  _Atomic uint32_t *sleepers; /* ranks asleep, of the whole session */
  int64_t timeout_ms;         /* for each wait; < 0: none */
  uint32_t spin_us;
  uint64_t released_at; /* out: the command in which a collective was left for somebody else's sake: its error is only
                           the echo of another */
  dsc_doorbell *(*bell)(const dsc_ccl_host *host, int32_t worker); /* each rank's own */
  dsc_member_state (*look)(const dsc_ccl_host *host, int32_t worker);
  /* Before sleeping: when `worker` has done `sequence` my bell must ring. A failure, a death and the end ring it
   * anyway.
   */
  void (*await)(const dsc_ccl_host *host, int32_t worker, uint64_t sequence);
  void (*waits)(const dsc_ccl_host *host, bool yes); /* for the dump */
  /* Why `worker` failed last: kind and message, cut to `room`. False when it cannot be told. */
  bool (*why)(const dsc_ccl_host *host, int32_t worker, char *text, size_t room);
};

#endif
