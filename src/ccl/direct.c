/* Straight between the tensors. Allreduce "through the output": each rank reduces its slice, reading the others' from
 * their outputs and storing the sum back over the lines that it has just read, which its CPU owns since; the input is
 * never read by a peer, so that its owner's next stores stay local. docs/performance.md, Write patterns. */
#include "base/inject.h"
#include "ccl/address.h"
#include "ccl/large.h"
#include "os/copy.h"

/* Slices in pieces, so that a store loop never runs long past the moment when a member gave up. */
static disco_status reduce_slice(const dsc_request *request, const dsc_slice *slice, char *const *inputs,
                                 char *const *outputs, bool past_caches) {
  dsc_comm *comm = request->comm;
  size_t element = dsc_dtype_bytes(request->dtype), piece = DSC_CCL_LOOK_BYTES / element;
  const void *from[DSC_REDUCE_MAX_INPUTS];
  void *to[DSC_REDUCE_MAX_INPUTS];
  for (uint64_t done = 0; done < slice->count; done += piece) {
    if (dsc_comm_is_over(comm)) {
      disco_status status = dsc_comm_check(comm);
      if (status != DISCO_OK) return status;
    }
    uint64_t at = (slice->first + done) * element;
    for (int32_t i = 0; i < comm->size; i++) {
      from[i] = inputs[i] + at;
      to[i] = outputs[i] + at;
    }
    dsc_reduction what = {.inputs = from,
                          .outputs = to,
                          .num_inputs = comm->size,
                          .num_outputs = comm->size,
                          .count = dsc_piece(slice->count, done, piece),
                          .self = comm->rank,
                          .past_caches = past_caches};
    DSC_POINT("collective.storing");
    dsc_reduce(request->kind, request->dtype, &what);
    DSC_POINT("collective.mid_store");
  }
  return DISCO_OK;
}

static disco_status unreachable(const dsc_comm *comm, int32_t rank) {
  return dsc_fail(DISCO_LOST, "worker %d published a tensor that does not lie in the session's memory",
                  comm->first + rank);
}

disco_status dsc_direct_allreduce(dsc_plane *plane, const dsc_request *request, bool push) {
  dsc_comm *comm = request->comm;
  char *inputs[DSC_REDUCE_MAX_INPUTS], *outputs[DSC_REDUCE_MAX_INPUTS];
  size_t element = dsc_dtype_bytes(request->dtype);
  for (int32_t i = 0; i < comm->size; i++) {
    dsc_addresses theirs = dsc_addresses_of(comm, i);
    outputs[i] = dsc_ccl_resolve(&plane->host, theirs.out, request->bytes);
    inputs[i] = push ? dsc_ccl_resolve(&plane->host, theirs.in, request->bytes) : outputs[i];
    if (inputs[i] == NULL || outputs[i] == NULL) return unreachable(comm, i);
  }
  inputs[comm->rank] = (char *)(uintptr_t)request->in;
  dsc_slice slice = dsc_slice_of(request->bytes / element, element, comm->rank, comm->size);
  return reduce_slice(request, &slice, inputs, outputs, push);
}

/* Copy into one's own tensor, or (`to_peer`) into another's. */
static disco_status copy(dsc_comm *comm, char *to, const char *from, uint64_t bytes, bool to_peer) {
  for (uint64_t at = 0; at < bytes; at += DSC_CCL_LOOK_BYTES) {
    if (dsc_comm_is_over(comm)) {
      disco_status status = dsc_comm_check(comm);
      if (status != DISCO_OK) return status;
    }
    uint64_t piece = dsc_piece(bytes, at, DSC_CCL_LOOK_BYTES);
    DSC_POINT("collective.storing");
    if (to_peer)
      dsc_copy_to_peer(to + at, from + at, piece);
    else
      dsc_copy_from_peer(to + at, from + at, piece);
    DSC_POINT("collective.mid_store");
  }
  return DISCO_OK;
}

/* Each reads the others' inputs, beginning with its neighbour's, so that no input is read by all at once. */
static disco_status read_all(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  dsc_copy_own(request, request->out + (uint64_t)comm->rank * request->bytes);
  for (int32_t i = 1; i < comm->size; i++) {
    int32_t rank = (comm->rank + i) % comm->size;
    const char *in = dsc_ccl_resolve(&plane->host, dsc_addresses_of(comm, rank).in, request->bytes);
    if (in == NULL) return unreachable(comm, rank);
    disco_status status = copy(comm, request->out + (uint64_t)rank * request->bytes, in, request->bytes, false);
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}

/* Each reads its part of the root's input. */
static disco_status read_root(dsc_plane *plane, const dsc_request *request, bool parts) {
  dsc_comm *comm = request->comm;
  uint64_t all = parts ? request->bytes * (uint64_t)comm->size : request->bytes;
  uint64_t offset = parts ? request->bytes * (uint64_t)comm->rank : 0;
  if (comm->rank == 0) {
    dsc_copy_own(request, request->out);
    return DISCO_OK;
  }
  const char *in = dsc_ccl_resolve(&plane->host, dsc_addresses_of(comm, 0).in, all);
  return in != NULL ? copy(comm, request->out, in + offset, request->bytes, false) : unreachable(comm, 0);
}

/* Each writes its part of the root's output. */
static disco_status write_root(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  if (comm->rank == 0) {
    dsc_copy_own(request, request->out);
    return DISCO_OK;
  }
  char *out = dsc_ccl_resolve(&plane->host, dsc_addresses_of(comm, 0).out, request->bytes * (uint64_t)comm->size);
  if (out == NULL) return unreachable(comm, 0);
  return copy(comm, out + (uint64_t)comm->rank * request->bytes, request->in, request->bytes, true);
}

disco_status dsc_direct_move(dsc_plane *plane, const dsc_request *request) {
  switch (request->print.operation) {
  case DSC_OPERATION_ALLGATHER: return read_all(plane, request);
  case DSC_OPERATION_SCATTER: return read_root(plane, request, true);
  case DSC_OPERATION_GATHER: return write_root(plane, request);
  default: return read_root(plane, request, false);
  }
}
