/* The reference: every operation in the same few steps. All meet; then, chunk by chunk, each rank copies what it gives
 * into its buffer, waits for all, takes what it wants from the buffers, and waits for all again. Scalar kernels. */
#include "ccl/backend.h"

typedef struct {
  const dsc_request *request;
  dsc_comm *comm;
  uint64_t parts; /* in a buffer: one for each rank (scatter), else 1 */
  uint64_t chunk; /* bytes of a part */
} course;

static uint64_t piece_of(const course *self, uint64_t step) {
  return dsc_piece(self->request->bytes, step * self->chunk, self->chunk);
}

/* What all wait for, twice a chunk. */
typedef enum { GIVEN, TAKEN } stage;

static _Atomic uint64_t *flag_of(const dsc_comm *comm, int32_t rank, stage which) {
  dsc_rank_lines *lines = &comm->lines[rank];
  return which == GIVEN ? &lines->full[0].value : &lines->taken.value;
}

/* All have done so with chunks up to this number. */
static disco_status barrier(dsc_comm *comm, stage which, uint64_t chunks) {
  dsc_comm_set(comm, DSC_COMM_ALL, flag_of(comm, comm->rank, which), chunks);
  for (int32_t i = 0; i < comm->size; i++) {
    disco_status status = i == comm->rank ? DISCO_OK : dsc_comm_wait(comm, i, flag_of(comm, i, which), chunks);
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}

static void give(const course *self, uint64_t step) {
  const dsc_request *request = self->request;
  bool root = self->comm->rank == 0;
  dsc_operation operation = request->print.operation;
  if (!root && (operation == DSC_OPERATION_BROADCAST || operation == DSC_OPERATION_SCATTER)) return;
  for (uint64_t part = 0; part < self->parts; part++)
    memcpy(dsc_comm_buffer(self->comm, self->comm->rank, 0) + part * self->chunk,
           request->in + part * request->bytes + step * self->chunk, piece_of(self, step));
}

static void take_sum(const course *self, uint64_t step) {
  const void *inputs[DSC_REDUCE_MAX_INPUTS];
  void *output = self->request->out + step * self->chunk;
  for (int32_t i = 0; i < self->comm->size; i++) inputs[i] = dsc_comm_buffer(self->comm, i, 0);
  dsc_reduction what = {.inputs = inputs,
                        .outputs = &output,
                        .num_inputs = self->comm->size,
                        .num_outputs = 1,
                        .count = piece_of(self, step) / dsc_dtype_bytes(self->request->dtype),
                        .self = DSC_REDUCE_NO_SELF};
  dsc_reduce_scalar(self->request->kind, self->request->dtype, &what);
}

static void take(const course *self, uint64_t step) {
  const dsc_request *request = self->request;
  uint64_t bytes = piece_of(self, step), at = step * self->chunk;
  int32_t rank = self->comm->rank;
  switch (request->print.operation) {
  case DSC_OPERATION_ALLREDUCE: take_sum(self, step); return;
  case DSC_OPERATION_BROADCAST: memcpy(request->out + at, dsc_comm_buffer(self->comm, 0, 0), bytes); return;
  case DSC_OPERATION_SCATTER:
    memcpy(request->out + at, dsc_comm_buffer(self->comm, 0, 0) + (uint64_t)rank * self->chunk, bytes);
    return;
  case DSC_OPERATION_GATHER:
    if (rank != 0) return;
    break;
  default: break;
  }
  for (int32_t i = 0; i < self->comm->size; i++)
    memcpy(request->out + (uint64_t)i * request->bytes + at, dsc_comm_buffer(self->comm, i, 0), bytes);
}

static disco_status run(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  course self = {.request = request, .comm = comm};
  self.parts = request->print.operation == DSC_OPERATION_SCATTER ? (uint64_t)comm->size : 1;
  self.chunk = plane->layout.chunk_bytes / self.parts / 8 * 8; /* whole elements */
  uint64_t steps = (request->bytes + self.chunk - 1) / self.chunk;
  disco_status status = dsc_comm_begin(comm, &request->print);
  if (status == DISCO_OK) status = dsc_comm_post(comm, NULL, 0, false);
  if (status == DISCO_OK) status = dsc_comm_meet(comm, DSC_COMM_ALL);
  if (status == DISCO_OK) dsc_bump(&plane->note->staged, 1);
  for (uint64_t step = 0; status == DISCO_OK && step < steps; step++) {
    give(&self, step);
    status = barrier(comm, GIVEN, comm->filled + step + 1);
    if (status != DISCO_OK) break;
    comm->has_moved = true;
    take(&self, step);
    status = barrier(comm, TAKEN, comm->filled + step + 1);
  }
  comm->filled += steps;
  return dsc_comm_end(comm, status);
}

const dsc_backend dsc_backend_ref = {
    .version = DSC_BACKEND_VERSION, .name = "ref", .allreduce = run, .move = run, .never_direct = true};
