#include "ccl/small.h"

#include "base/inject.h"
#include "ccl/large.h"
#include "os/copy.h"

static inline void count(const dsc_plane *plane, uint64_t bytes) {
  dsc_bump(bytes <= plane->tuning.inlined ? &plane->note->inlined : &plane->note->staged, 1);
}

/* Fill our line or buffer, and enter. */
static disco_status give(dsc_plane *plane, const dsc_request *request, const char *data, uint64_t bytes) {
  dsc_comm *comm = request->comm;
  count(plane, bytes);
  if (bytes <= plane->tuning.inlined) return dsc_comm_post(comm, data, bytes, false);
  dsc_copy_to_peer(dsc_comm_oneshot(comm, comm->rank), data, bytes);
  DSC_POINT("collective.mid_store");
  const dsc_addresses mine = {(uintptr_t)request->in, (uintptr_t)request->out};
  return dsc_comm_post(comm, &mine, plane->host.one_address_space ? sizeof(mine) : 0, false);
}

/* What `rank` gave. */
static char *given(const dsc_plane *plane, const dsc_comm *comm, int32_t rank, uint64_t bytes) {
  return bytes <= plane->tuning.inlined ? (char *)dsc_comm_entry(comm, rank)->payload : dsc_comm_oneshot(comm, rank);
}

static void take(const dsc_plane *plane, const dsc_request *request, char *to, int32_t rank, uint64_t offset,
                 uint64_t given_bytes) {
  char *from = given(plane, request->comm, rank, given_bytes) + offset;
  if (request->bytes <= DSC_CCL_INLINE)
    dsc_copy_few(to, from, request->bytes);
  else if (dsc_is_only_reader(request))
    dsc_copy_and_keep(to, from, request->bytes);
  else
    dsc_copy_from_peer(to, from, request->bytes);
}

disco_status dsc_small_allreduce(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  const void *inputs[DSC_REDUCE_MAX_INPUTS];
  disco_status status = dsc_comm_begin(comm, &request->print);
  if (DSC_LIKELY(status == DISCO_OK)) status = give(plane, request, request->in, request->bytes);
  if (DSC_LIKELY(status == DISCO_OK)) status = dsc_comm_meet(comm, DSC_COMM_ALL);
  if (DSC_LIKELY(status == DISCO_OK) && request->bytes > plane->tuning.inlined && plane->host.one_address_space)
    status = dsc_check_apart(request);
  if (DSC_LIKELY(status == DISCO_OK)) {
    comm->has_moved = true;
    for (int32_t i = 0; i < comm->size; i++)
      inputs[i] = i == comm->rank ? request->in : given(plane, comm, i, request->bytes);
    void *output = request->out;
    dsc_reduction what = {.inputs = inputs,
                          .outputs = &output,
                          .num_inputs = comm->size,
                          .num_outputs = 1,
                          .count = request->bytes / dsc_dtype_bytes(request->dtype),
                          .self = comm->rank};
    dsc_reduce(request->kind, request->dtype, &what);
  }
  return dsc_comm_end(comm, status);
}

/* All give, all take. */
static disco_status gather_all(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  disco_status status = give(plane, request, request->in, request->bytes);
  if (status == DISCO_OK) status = dsc_comm_meet(comm, DSC_COMM_ALL);
  if (status != DISCO_OK) return status;
  comm->has_moved = true;
  for (int32_t i = 0; i < comm->size; i++) {
    char *to = request->out + (uint64_t)i * request->bytes;
    if (i == comm->rank)
      dsc_copy_own(request, to);
    else
      take(plane, request, to, i, 0, request->bytes);
  }
  return DISCO_OK;
}

/* The root gives, and waits for nobody; the others take. `stride`: of the parts in what it gives, 0: all take the same.
 */
static disco_status spread(dsc_plane *plane, const dsc_request *request, uint64_t stride) {
  dsc_comm *comm = request->comm;
  uint64_t all = stride == 0 ? request->bytes : request->bytes * (uint64_t)comm->size;
  if (comm->rank == 0) {
    disco_status status = give(plane, request, request->in, all);
    comm->has_moved = true;
    if (status == DISCO_OK) dsc_copy_own(request, request->out);
    return status;
  }
  count(plane, all);
  disco_status status = dsc_comm_post(comm, NULL, 0, false);
  if (status == DISCO_OK) status = dsc_comm_meet(comm, 0);
  if (status != DISCO_OK) return status;
  comm->has_moved = true;
  take(plane, request, request->out, 0, stride * (uint64_t)comm->rank, all);
  return DISCO_OK;
}

/* All give, the root takes; the others wait for nobody. */
static disco_status collect(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  if (comm->rank == 0) {
    count(plane, request->bytes);
    disco_status status = dsc_comm_post(comm, NULL, 0, false);
    if (status == DISCO_OK) status = dsc_comm_meet(comm, DSC_COMM_ALL);
    if (status != DISCO_OK) return status;
    comm->has_moved = true;
    dsc_copy_own(request, request->out);
    for (int32_t i = 1; i < comm->size; i++)
      take(plane, request, request->out + (uint64_t)i * request->bytes, i, 0, request->bytes);
    return DISCO_OK;
  }
  return give(plane, request, request->in, request->bytes);
}

disco_status dsc_small_move(dsc_plane *plane, const dsc_request *request) {
  disco_status status = dsc_comm_begin(request->comm, &request->print);
  if (status == DISCO_OK) {
    switch (request->print.operation) {
    case DSC_OPERATION_ALLGATHER: status = gather_all(plane, request); break;
    case DSC_OPERATION_SCATTER: status = spread(plane, request, request->bytes); break;
    case DSC_OPERATION_GATHER: status = collect(plane, request); break;
    default: status = spread(plane, request, 0); break;
    }
  }
  return dsc_comm_end(request->comm, status);
}
