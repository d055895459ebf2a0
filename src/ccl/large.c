#include "ccl/large.h"

#include "ccl/address.h"
#include "os/copy.h"

/* Whose tensors the others touch. */
static bool is_exposed(const dsc_request *request) {
  bool root = request->comm->rank == 0;
  return request->print.operation == DSC_OPERATION_ALLREDUCE || request->print.operation == DSC_OPERATION_ALLGATHER ||
         root;
}

static disco_status enter(dsc_plane *plane, const dsc_request *request) {
  uint64_t in_bytes = request->bytes, out_bytes = request->bytes, parts = (uint64_t)request->comm->size;
  if (request->print.operation == DSC_OPERATION_SCATTER) in_bytes *= parts;
  if (request->print.operation == DSC_OPERATION_GATHER || request->print.operation == DSC_OPERATION_ALLGATHER)
    out_bytes *= parts;
  dsc_addresses mine = {0, 0};
  bool is_move = request->print.operation != DSC_OPERATION_ALLREDUCE;
  if (plane->tuning.direct != 0 && !(is_move && request->bytes <= plane->tuning.staged_move)) {
    if (request->in != NULL) mine.in = dsc_ccl_publish(&plane->host, request->in, in_bytes);
    if (request->out != NULL) mine.out = dsc_ccl_publish(&plane->host, request->out, out_bytes);
  }
  disco_status status = dsc_comm_post(request->comm, &mine, sizeof(mine), is_exposed(request));
  return status == DISCO_OK ? dsc_comm_meet(request->comm, DSC_COMM_ALL) : status;
}

/* Can everybody reach what this operation reads or writes of others? All ranks read the same words, so all agree. */
static bool is_reachable(const dsc_request *request, bool push) {
  const dsc_comm *comm = request->comm;
  switch (request->print.operation) {
  case DSC_OPERATION_BROADCAST:
  case DSC_OPERATION_SCATTER: return dsc_addresses_of(comm, 0).in != 0;
  case DSC_OPERATION_GATHER: return dsc_addresses_of(comm, 0).out != 0;
  default: break;
  }
  for (int32_t i = 0; i < comm->size; i++) {
    dsc_addresses theirs = dsc_addresses_of(comm, i);
    bool reads = request->print.operation == DSC_OPERATION_ALLGATHER || push;
    bool writes = request->print.operation == DSC_OPERATION_ALLREDUCE;
    if ((reads && theirs.in == 0) || (writes && theirs.out == 0)) return false;
  }
  return true;
}

disco_status dsc_check_apart(const dsc_request *request) {
  const dsc_comm *comm = request->comm;
  const uint64_t out = dsc_addresses_of(comm, comm->rank).out;
  for (int32_t i = 0; out != 0 && i < comm->size; i++) {
    const uint64_t in = dsc_addresses_of(comm, i).in;
    if (i == comm->rank || in == 0 || out + request->bytes <= in || in + request->bytes <= out) continue;
    return dsc_fail(DISCO_VALUE,
                    "allreduce: what worker %d receives into is memory that worker %d sends: thread workers share the "
                    "tensors that a controller puts or passes; give each one of its own (runtime.disco.empty)",
                    comm->first + comm->rank, comm->first + i);
  }
  return DISCO_OK;
}

static bool exceeds_caches(const dsc_plane *plane, const dsc_request *request) {
  return request->bytes > plane->tuning.push_bytes / (uint64_t)request->comm->size;
}

/* Past the caches, unless all are in place: then there is nothing to copy, and through the output is the better way. */
static bool wants_push(const dsc_plane *plane, const dsc_request *request) {
  if (!exceeds_caches(plane, request)) return false;
  for (int32_t i = 0; i < request->comm->size; i++) {
    dsc_addresses theirs = dsc_addresses_of(request->comm, i);
    if (theirs.in != theirs.out) return true;
  }
  return false;
}

/* Through the output: what others will reduce must lie in our output before we enter. */
static bool copies_first(const dsc_plane *plane, const dsc_request *request) {
  if (request->in == request->out || plane->tuning.direct == 0 || exceeds_caches(plane, request)) return false;
  return dsc_ccl_publish(&plane->host, request->out, request->bytes) != 0;
}

static void copy_others_slices(const dsc_request *request) {
  size_t element = dsc_dtype_bytes(request->dtype);
  dsc_slice mine = dsc_slice_of(request->bytes / element, element, request->comm->rank, request->comm->size);
  uint64_t end = (mine.first + mine.count) * element;
  request->comm->has_moved = true;
  dsc_copy_to_peer(request->out, request->in, mine.first * element);
  dsc_copy_to_peer(request->out + end, request->in + end, request->bytes - end);
}

disco_status dsc_large_allreduce(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  disco_status status = dsc_comm_begin(comm, &request->print);
  bool direct = false;
  if (status == DISCO_OK && copies_first(plane, request)) copy_others_slices(request);
  if (status == DISCO_OK) status = enter(plane, request);
  if (status == DISCO_OK) status = dsc_check_apart(request);
  if (status == DISCO_OK) {
    bool push = wants_push(plane, request);
    direct = is_reachable(request, push);
    comm->has_moved = true;
    dsc_bump(direct ? &plane->note->direct : &plane->note->staged, 1);
    status = direct ? dsc_direct_allreduce(plane, request, push) : dsc_staged_allreduce(plane, request);
  }
  if (status == DISCO_OK) dsc_comm_finish(comm);
  if (status == DISCO_OK && direct) status = dsc_comm_settle(comm);
  return dsc_comm_end(comm, status);
}

disco_status dsc_large_move(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  disco_status status = dsc_comm_begin(comm, &request->print);
  bool direct = false;
  if (status == DISCO_OK) status = enter(plane, request);
  if (status == DISCO_OK) {
    direct = is_reachable(request, false);
    comm->has_moved = true;
    dsc_bump(direct ? &plane->note->direct : &plane->note->staged, 1);
    status = direct ? dsc_direct_move(plane, request) : dsc_staged_move(plane, request);
  }
  if (status == DISCO_OK) dsc_comm_finish(comm);
  if (status == DISCO_OK && direct && is_exposed(request)) status = dsc_comm_settle(comm);
  return dsc_comm_end(comm, status);
}
