/* One communicator of a rank: entering an operation, waiting in it, leaving it. The rules that keep anybody from being
 * stuck, and from storing into memory that its owner has left with, are here and nowhere else.
 *
 *   dsc_comm_begin     nobody is still in the operation before the last one
 *   dsc_comm_post      say what this rank does, with up to 56 bytes of data
 *   dsc_comm_meet      wait for one member, or all, to say the same
 *   ...                move data; dsc_comm_wait for flags of the operation's own
 *   dsc_comm_finish    direct operations: this rank touches no other's tensor any more; dsc_comm_settle waits for that
 *                      of the others
 *   dsc_comm_end       counts it; after an error it tells the others, and waits until nobody can touch our tensors
 *
 * A rank's thread only. After an error every later operation of the communicator in this epoch fails at once. */
#ifndef DSC_CCL_COMM_H
#define DSC_CCL_COMM_H

#include <dlpack/dlpack.h>
#include <string.h>

#include "base/compiler.h"
#include "ccl/plane.h"

enum { DSC_COMM_ALL = -1 };

/* X(NAME, "text") */
#define DSC_OPERATION_LIST(X) \
  X(ALLREDUCE, "allreduce")   \
  X(ALLGATHER, "allgather")   \
  X(BROADCAST, "broadcast")   \
  X(SCATTER, "scatter")       \
  X(GATHER, "gather")         \
  X(SEND, "send")             \
  X(RECV, "receive")

typedef enum {
#define DSC_OPERATION_ENUM(name, text) DSC_OPERATION_##name,
  DSC_OPERATION_LIST(DSC_OPERATION_ENUM)
#undef DSC_OPERATION_ENUM
} dsc_operation;

/* What all members must agree on. */
typedef struct {
  dsc_operation operation;
  uint32_t kind; /* of a reduction */
  DLDataType dtype;
  uint64_t count; /* elements of each rank's part */
} dsc_print;

typedef struct {
  dsc_ccl_host *host;
  int32_t id;    /* 0: all workers, 1 + g: group g */
  int32_t first; /* the worker that is rank 0 */
  int32_t rank, size;
  dsc_comm_head *head;
  dsc_rank_lines *lines; /* size of them */
  char *staging;
  uint64_t staging_bytes, chunk_bytes;
  uint64_t tuning; /* a digest of the thresholds: all ranks must have the same */
  dsc_rank_note *note;
  dsc_patience *patience;
  /* of this epoch */
  uint64_t epoch_mark; /* epoch + 1; 0: none was begun */
  uint64_t counter;    /* operations ended */
  uint64_t met;        /* operations whose entries of all members were seen */
  uint64_t key, last_key;
  dsc_print last_print;
  uint64_t aborts_seen, failures_seen;
  uint64_t filled; /* chunks that went through staging: all ranks count alike */
  bool aborted;
  /* of the running operation */
  dsc_print print;
  bool is_exposed; /* others may touch our tensors until they have posted finished */
  bool has_posted;
  unsigned char posted[DSC_CCL_INLINE]; /* what our entry says: its line is not ours any more once all have met */
  bool has_moved;     /* set by the operation when it begins to write into tensors, for the errors' sentences */
  int32_t mismatched; /* the rank whose entry is another operation's, -1 */
  int32_t culprit;    /* the rank that gave up first, -1 */
} dsc_comm;

/* The lines of a session's communicator `id` as `host` sees them. */
void dsc_comm_init(dsc_comm *comm, dsc_ccl_host *host, const dsc_plane_layout *layout, int32_t id,
                   dsc_patience *patience);

/* With two ranks the pair of lines (and one-shot buffers) swaps roles at every operation: the last reader of a line is
 * its next writer, which finds it in its own cache. With more each rank has a line for each parity. */
static inline int32_t dsc_comm_slot(const dsc_comm *comm, uint64_t counter, int32_t rank) {
  return comm->size == 2 ? ((int32_t)(counter & 1) ^ rank) : rank;
}
static inline int32_t dsc_comm_parity(const dsc_comm *comm, uint64_t counter) {
  return comm->size == 2 ? 0 : (int32_t)(counter & 1);
}
static inline dsc_entry_line *dsc_comm_entry_at(const dsc_comm *comm, uint64_t counter, int32_t rank) {
  return &comm->lines[dsc_comm_slot(comm, counter, rank)].entry[dsc_comm_parity(comm, counter)];
}
/* Those of the running operation. */
static inline dsc_entry_line *dsc_comm_entry(const dsc_comm *comm, int32_t rank) {
  return dsc_comm_entry_at(comm, comm->counter, rank);
}
static inline dsc_flag_line *dsc_comm_finished(const dsc_comm *comm, int32_t rank) {
  return &comm->lines[dsc_comm_slot(comm, comm->counter, rank)].finished[dsc_comm_parity(comm, comm->counter)];
}
/* DSC_CCL_ONESHOT bytes that `rank` fills in this operation. */
static inline char *dsc_comm_oneshot(const dsc_comm *comm, int32_t rank) {
  return comm->staging + (uint64_t)dsc_comm_slot(comm, comm->counter, rank) * comm->staging_bytes +
         (uint64_t)dsc_comm_parity(comm, comm->counter) * DSC_CCL_ONESHOT;
}
/* Staging buffer of chunk_bytes of `rank`. */
static inline char *dsc_comm_buffer(const dsc_comm *comm, int32_t rank, uint64_t chunk) {
  return comm->staging + (uint64_t)rank * comm->staging_bytes + 2 * DSC_CCL_ONESHOT +
         chunk % DSC_CCL_BUFFERS * comm->chunk_bytes;
}

/* Of `bytes` taken in pieces of at most `most`: the one that begins at `at`. */
static inline uint64_t dsc_piece(uint64_t bytes, uint64_t at, uint64_t most) {
  return bytes - at < most ? bytes - at : most;
}

/* At most 56 bytes, without the call of a memcpy whose size nobody knows. */
static inline void dsc_copy_few(void *to, const void *from, size_t bytes) {
  char *target = to;
  const char *source = from;
  size_t at = 0;
  for (; at + 8 <= bytes; at += 8) memcpy(target + at, source + at, 8);
  for (; at < bytes; at++) target[at] = source[at];
}

/* From here to dsc_comm_end each call returns DISCO_OK, or an error after which only dsc_comm_end may follow. */
disco_status dsc_comm_begin(dsc_comm *comm, const dsc_print *print);
/* `exposed`: from now on others may touch our tensors. The payload is copied (at most 56 bytes). */
disco_status dsc_comm_post(dsc_comm *comm, const void *payload, size_t bytes, bool exposed);
/* `rank` or DSC_COMM_ALL. */
disco_status dsc_comm_meet(dsc_comm *comm, int32_t rank);
/* Until *flag >= value; `rank` is the one that stores it. */
disco_status dsc_comm_wait(dsc_comm *comm, int32_t rank, const _Atomic uint64_t *flag, uint64_t value);
/* Store it and wake whoever sleeps: one rank or DSC_COMM_ALL. */
void dsc_comm_set(dsc_comm *comm, int32_t rank, _Atomic uint64_t *flag, uint64_t value);
void dsc_comm_finish(dsc_comm *comm);
disco_status dsc_comm_settle(dsc_comm *comm);
/* Has a member given up? To be asked every 64 KiB while storing into others' tensors. */
static inline bool dsc_comm_is_over(const dsc_comm *comm) {
  return DSC_UNLIKELY(dsc_load_relaxed(&comm->head->aborts) != comm->aborts_seen ||
                      dsc_load_relaxed(comm->host->over) == comm->host->over_value);
}
/* DISCO_OK, or the error of the member that gave up: after dsc_comm_is_over. */
disco_status dsc_comm_check(dsc_comm *comm);
disco_status dsc_comm_end(dsc_comm *comm, disco_status status);

/* Has `rank` come to operation `counter` of our epoch, whatever it calls there? */
bool dsc_comm_is_entered(const dsc_comm *comm, uint64_t counter, int32_t rank);

/* "allreduce(sum) of float32[8] among all 4 workers" */
void dsc_print_text(const dsc_print *print, int32_t communicator, int32_t size, char *text, size_t room);

#endif
