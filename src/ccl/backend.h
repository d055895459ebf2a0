/* A data plane: one table of functions over memory, and what is the same for all of them. Tensors were checked, groups
 * were resolved to a communicator, and a communicator of one rank never gets here.
 *
 *   ref   the slow reference: staged, two waits, scalar; every other way is compared with it
 *   cpu   the fast one; each fast path is a switch of dsc_tuning
 */
#ifndef DSC_CCL_BACKEND_H
#define DSC_CCL_BACKEND_H

#include "ccl/comm.h"
#include "ccl/pair.h"
#include "ccl/reduce.h"
#include "os/copy.h"

enum { DSC_BACKEND_VERSION = 1 };

/* Data only, never a bit of a result: DISCO_CCL_TUNE=name=value,... All ranks must have the same ones: a digest of them
 * is part of every entry. Sizes in bytes of one rank's part; what was measured for them: bench/thresholds/. X(name,
 * default, "meaning") */
#define DSC_TUNING_LIST(X)                                                                                          \
  X(inlined, 56, "largest data that goes in the entry line, at most 56")                                            \
  X(oneshot_two, 16384, "largest one-shot allreduce of two ranks")                                                  \
  X(oneshot_many, 8192, "the same, of more ranks; both at most 32768")                                              \
  X(oneshot_move, 16384, "largest move through one-shot buffers, all parts of a scatter; at most 32768")            \
  X(direct, 1, "0: always through staging")                                                                         \
  X(staged_move, 4194304, "largest move that goes through staging although all could reach the tensors")            \
  X(push_bytes, 0,                                                                                                  \
    "an allreduce out of place is pushed past the caches when ranks times size exceed it; 0: the last-level cache") \
  X(chunk_64k, 65536, "chunk of a staged allreduce up to 64 KiB")                                                   \
  X(chunk_256k, 131072, "up to 256 KiB")                                                                            \
  X(chunk_512k, 262144, "up to 512 KiB")                                                                            \
  X(chunk_large, 524288, "above")                                                                                   \
  X(chunk_move, 131072, "chunk of a staged move")

typedef struct {
#define DSC_TUNING_FIELD(name, value, meaning) uint64_t name;
  DSC_TUNING_LIST(DSC_TUNING_FIELD)
#undef DSC_TUNING_FIELD
} dsc_tuning;

/* One operation of one rank. */
typedef struct {
  dsc_comm *comm;
  dsc_print print;
  dsc_reduce_kind kind; /* of a reduction */
  dsc_dtype dtype;
  const char *in; /* NULL where this rank has none to give */
  char *out;      /* NULL where it gets nothing */
  uint64_t bytes; /* of each rank's part: an array of parts has comm->size times as many */
} dsc_request;

/* What this rank gives itself; nothing to do in place. */
static inline void dsc_copy_own(const dsc_request *request, char *to) {
  if (to != request->in) dsc_copy_from_peer(to, request->in, request->bytes);
}

/* Of a move: does each line that is given have one reader? Then the reader may keep it (dsc_copy_and_keep). */
static inline bool dsc_is_only_reader(const dsc_request *request) {
  return request->comm->size == 2 || request->print.operation == DSC_OPERATION_SCATTER ||
         request->print.operation == DSC_OPERATION_GATHER;
}

typedef struct dsc_plane dsc_plane;

typedef struct {
  uint32_t version;
  const char *name;
  disco_status (*allreduce)(dsc_plane *plane, const dsc_request *request);
  /* allgather, broadcast, scatter, gather: by request->print.operation; the root is rank 0 */
  disco_status (*move)(dsc_plane *plane, const dsc_request *request);
  bool never_direct; /* transfers between two as well */
  /* NULL, or called when a rank's place is made, on all ranks: to exchange what they need with dsc_plane_bootstrap().
   */
  disco_status (*start)(dsc_plane *plane);
} dsc_backend;

extern const dsc_backend dsc_backend_cpu, dsc_backend_ref;
/* NULL when there is none of that name. */
const dsc_backend *dsc_backend_find(const char *name);

/* One rank's place in the data plane of its session. */
struct dsc_plane {
  const dsc_backend *backend;
  dsc_ccl_host host;
  dsc_plane_layout layout;
  dsc_tuning tuning;
  dsc_patience patience;
  dsc_comm world, group; /* the group is the world when there is one only */
  bool has_groups;
  dsc_pairs pairs;
  dsc_rank_note *note;
};

/* Bytes of a chunk of a staged move. */
static inline uint64_t dsc_plane_move_chunk(const dsc_plane *plane) {
  uint64_t room = plane->layout.chunk_bytes;
  return plane->tuning.chunk_move < room ? plane->tuning.chunk_move : room;
}

/* Address space that a session's plane takes. */
uint64_t dsc_plane_bytes(int32_t num_workers, int32_t num_groups);
/* `host` is copied. DISCO_VALUE for a bad DISCO_CCL_TUNE, DISCO_MEMORY. */
disco_status dsc_plane_create(const dsc_backend *backend, const dsc_ccl_host *host, dsc_plane **ret_plane);
void dsc_plane_destroy(dsc_plane *plane); /* NULL allowed */

/* What a backend may use beside the communicator's guard (comm.h): gather a small blob of every rank, in rank order, at
 * ret_all. At most 32 KiB each, equal sizes. */
disco_status dsc_plane_bootstrap(dsc_plane *plane, bool in_group, const void *blob, size_t bytes, void *ret_all);

/* ---- The operations: bodies of disco/worker.h ---- */

disco_status dsc_plane_allreduce(dsc_plane *plane, const DLTensor *send, int64_t kind, bool in_group, DLTensor *recv);
disco_status dsc_plane_allgather(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv);
disco_status dsc_plane_broadcast(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv);
disco_status dsc_plane_scatter(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv);
disco_status dsc_plane_gather(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv);
disco_status dsc_plane_send(dsc_plane *plane, const DLTensor *send, int64_t receiver);
disco_status dsc_plane_receive(dsc_plane *plane, DLTensor *recv, int64_t sender);
/* To the next group, from the one before. */
disco_status dsc_plane_send_next(dsc_plane *plane, const DLTensor *send);
disco_status dsc_plane_receive_previous(dsc_plane *plane, DLTensor *recv);

#endif
