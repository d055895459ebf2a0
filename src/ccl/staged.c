/* In chunks through staging memory, for tensors that only their owners map. */
#include "base/inject.h"
#include "ccl/large.h"
#include "os/copy.h"

/* ---- Allreduce in two shots, pipelined by one chunk ----
 *
 * Each rank puts the slices that others reduce into its own buffer; the reducer of a slice reads it from all buffers
 * and stores the sum back over the lines it has just read; the owner takes it from its own buffer again. Four buffers.
 * With two ranks a buffer's flag goes back and forth with it, so that it, too, is written by its last reader. */

typedef struct {
  const dsc_request *request;
  dsc_comm *comm;
  uint64_t element, chunk; /* bytes; elements of a whole chunk */
  uint64_t base;           /* chunks that went through before this operation */
} two_shot;

static uint64_t chunk_bytes(const dsc_plane *plane, uint64_t bytes) {
  const dsc_tuning *tuning = &plane->tuning;
  uint64_t chunk = bytes <= 64 << 10    ? tuning->chunk_64k
                   : bytes <= 256 << 10 ? tuning->chunk_256k
                   : bytes <= 512 << 10 ? tuning->chunk_512k
                                        : tuning->chunk_large;
  return chunk < plane->layout.chunk_bytes ? chunk : plane->layout.chunk_bytes;
}

static uint64_t elements_of(const two_shot *self, uint64_t step) {
  return dsc_piece(self->request->bytes / self->element, step * self->chunk, self->chunk);
}

static dsc_slice slice_of(const two_shot *self, uint64_t step, int32_t rank) {
  return dsc_slice_of(elements_of(self, step), self->element, rank, self->comm->size);
}

/* The flag of `rank`'s buffer: filled, and with two ranks handed back. */
static _Atomic uint64_t *full_flag(const two_shot *self, int32_t rank, uint64_t chunk) {
  return &self->comm->lines[rank].full[chunk % DSC_CCL_BUFFERS].value;
}

static void put(const two_shot *self, uint64_t step) {
  dsc_comm *comm = self->comm;
  uint64_t chunk = self->base + step;
  const char *in = self->request->in + step * self->chunk * self->element;
  char *buffer = dsc_comm_buffer(comm, comm->rank, chunk);
  dsc_slice mine = slice_of(self, step, comm->rank);
  uint64_t end = (mine.first + mine.count) * self->element;
  dsc_copy_to_peer(buffer, in, mine.first * self->element);
  dsc_copy_to_peer(buffer + end, in + end, elements_of(self, step) * self->element - end);
  DSC_POINT("collective.mid_store");
  dsc_comm_set(comm, DSC_COMM_ALL, full_flag(self, comm->rank, chunk), 2 * chunk + 2);
}

static disco_status reduce(const two_shot *self, uint64_t step) {
  dsc_comm *comm = self->comm;
  uint64_t chunk = self->base + step, start = step * self->chunk * self->element;
  dsc_slice mine = slice_of(self, step, comm->rank);
  uint64_t offset = mine.first * self->element;
  const void *inputs[DSC_REDUCE_MAX_INPUTS];
  void *outputs[DSC_REDUCE_MAX_INPUTS];
  for (int32_t i = 0; i < comm->size; i++) {
    if (i == comm->rank) continue;
    disco_status status = dsc_comm_wait(comm, i, full_flag(self, i, chunk), 2 * chunk + 2);
    if (status != DISCO_OK) return status;
    outputs[i] = dsc_comm_buffer(comm, i, chunk) + offset;
    inputs[i] = outputs[i];
  }
  inputs[comm->rank] = self->request->in + start + offset;
  outputs[comm->rank] = self->request->out + start + offset;
  dsc_reduction what = {.inputs = inputs,
                        .outputs = outputs,
                        .num_inputs = comm->size,
                        .num_outputs = comm->size,
                        .count = mine.count,
                        .self = comm->rank};
  dsc_reduce(self->request->kind, self->request->dtype, &what);
  DSC_POINT("collective.reduced");
  if (comm->size == 2)
    dsc_comm_set(comm, 1 - comm->rank, full_flag(self, 1 - comm->rank, chunk), 2 * chunk + 3);
  else
    dsc_comm_set(comm, DSC_COMM_ALL, &comm->lines[comm->rank].reduced.value, chunk + 1);
  return DISCO_OK;
}

static disco_status fetch(const two_shot *self, uint64_t step) {
  dsc_comm *comm = self->comm;
  uint64_t chunk = self->base + step, start = step * self->chunk * self->element;
  const char *buffer = dsc_comm_buffer(comm, comm->rank, chunk);
  for (int32_t i = 0; i < comm->size; i++) {
    if (i == comm->rank) continue;
    disco_status status = comm->size == 2 ? dsc_comm_wait(comm, i, full_flag(self, comm->rank, chunk), 2 * chunk + 3)
                                          : dsc_comm_wait(comm, i, &comm->lines[i].reduced.value, chunk + 1);
    if (status != DISCO_OK) return status;
    dsc_slice theirs = slice_of(self, step, i);
    uint64_t offset = theirs.first * self->element;
    dsc_copy_from_peer(self->request->out + start + offset, buffer + offset, theirs.count * self->element);
  }
  return DISCO_OK;
}

disco_status dsc_staged_allreduce(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  two_shot self = {.request = request, .comm = comm, .element = dsc_dtype_bytes(request->dtype), .base = comm->filled};
  self.chunk = chunk_bytes(plane, request->bytes) / self.element;
  uint64_t count = request->bytes / self.element, steps = (count + self.chunk - 1) / self.chunk;
  /* Chunk t is put in, chunk t - 1 reduced and chunk t - 2 taken back in one turn. */
  for (uint64_t turn = 0; turn < steps + 2; turn++) {
    disco_status status = DISCO_OK;
    if (turn < steps) put(&self, turn);
    if (turn >= 1 && turn - 1 < steps) status = reduce(&self, turn - 1);
    if (status == DISCO_OK && turn >= 2) status = fetch(&self, turn - 2);
    if (status != DISCO_OK) return status;
  }
  comm->filled += steps;
  return DISCO_OK;
}

/* ---- Moves: givers fill their buffers, takers empty them ---- */

typedef struct {
  const dsc_request *request;
  dsc_comm *comm;
  bool gives, takes; /* this rank */
  uint64_t parts;    /* in a giver's buffer: one for each rank (scatter), else 1 */
  uint64_t chunk;    /* bytes of a part */
  uint64_t base;
} relay;

static bool gives(const relay *self, int32_t rank) {
  switch (self->request->print.operation) {
  case DSC_OPERATION_ALLGATHER: return true;
  case DSC_OPERATION_GATHER: return rank != 0;
  default: return rank == 0;
  }
}

static bool takes(const relay *self, int32_t rank) {
  switch (self->request->print.operation) {
  case DSC_OPERATION_ALLGATHER: return true;
  case DSC_OPERATION_GATHER: return rank == 0;
  default: return rank != 0;
  }
}

static uint64_t piece_of(const relay *self, uint64_t step) {
  return dsc_piece(self->request->bytes, step * self->chunk, self->chunk);
}

static disco_status fill(const relay *self, uint64_t step) {
  dsc_comm *comm = self->comm;
  uint64_t chunk = self->base + step, bytes = piece_of(self, step);
  for (int32_t i = 0; step >= DSC_CCL_BUFFERS && i < comm->size; i++) {
    if (i == comm->rank || !takes(self, i)) continue;
    disco_status status = dsc_comm_wait(comm, i, &comm->lines[i].taken.value, chunk - DSC_CCL_BUFFERS + 1);
    if (status != DISCO_OK) return status;
  }
  char *buffer = dsc_comm_buffer(comm, comm->rank, chunk);
  for (uint64_t part = 0; part < self->parts; part++) {
    if (self->parts > 1 && part == (uint64_t)comm->rank) continue;
    dsc_copy_to_peer(buffer + part * self->chunk, self->request->in + part * self->request->bytes + step * self->chunk,
                     bytes);
  }
  DSC_POINT("collective.mid_store");
  dsc_comm_set(comm, DSC_COMM_ALL, &comm->lines[comm->rank].full[chunk % DSC_CCL_BUFFERS].value, 2 * chunk + 2);
  return DISCO_OK;
}

static disco_status empty(const relay *self, uint64_t step) {
  dsc_comm *comm = self->comm;
  uint64_t chunk = self->base + step, bytes = piece_of(self, step);
  bool one_giver = self->request->print.operation == DSC_OPERATION_BROADCAST ||
                   self->request->print.operation == DSC_OPERATION_SCATTER;
  for (int32_t i = 0; i < comm->size; i++) {
    if (i == comm->rank || !gives(self, i)) continue;
    disco_status status = dsc_comm_wait(comm, i, &comm->lines[i].full[chunk % DSC_CCL_BUFFERS].value, 2 * chunk + 2);
    if (status != DISCO_OK) return status;
    uint64_t part = self->parts > 1 ? (uint64_t)comm->rank * self->chunk : 0;
    char *to = self->request->out + (one_giver ? 0 : (uint64_t)i * self->request->bytes) + step * self->chunk;
    char *from = dsc_comm_buffer(comm, i, chunk) + part;
    if (dsc_is_only_reader(self->request))
      dsc_copy_and_keep(to, from, bytes);
    else
      dsc_copy_from_peer(to, from, bytes);
  }
  DSC_POINT("collective.taken");
  dsc_comm_set(comm, DSC_COMM_ALL, &comm->lines[comm->rank].taken.value, chunk + 1);
  return DISCO_OK;
}

static void copy_own(const dsc_request *request) {
  const dsc_comm *comm = request->comm;
  bool places = request->print.operation == DSC_OPERATION_ALLGATHER;
  if (!places && comm->rank != 0) return;
  dsc_copy_own(request, request->out + (places ? (uint64_t)comm->rank * request->bytes : 0));
}

disco_status dsc_staged_move(dsc_plane *plane, const dsc_request *request) {
  dsc_comm *comm = request->comm;
  relay self = {.request = request, .comm = comm, .base = comm->filled};
  self.parts = request->print.operation == DSC_OPERATION_SCATTER ? (uint64_t)comm->size : 1;
  uint64_t room = dsc_plane_move_chunk(plane);
  self.chunk = room / self.parts / DSC_CACHE_LINE * DSC_CACHE_LINE;
  if (self.chunk == 0) self.chunk = room / self.parts;
  self.gives = gives(&self, comm->rank);
  self.takes = takes(&self, comm->rank);
  uint64_t steps = (request->bytes + self.chunk - 1) / self.chunk;
  for (uint64_t turn = 0; turn < steps + 1; turn++) {
    disco_status status = DISCO_OK;
    if (self.gives && turn < steps) status = fill(&self, turn);
    if (turn == 0 && self.takes) copy_own(request); /* while the first chunk comes */
    if (status == DISCO_OK && self.takes && turn >= 1) status = empty(&self, turn - 1);
    if (status != DISCO_OK) return status;
  }
  if (!self.takes) copy_own(request);
  comm->filled += steps;
  return DISCO_OK;
}
