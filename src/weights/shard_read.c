/* Reading a shard: each of its runs by its own read, so that not a byte comes along that others want. What is stored as
 * it is wanted is read to its place; what is decoded goes through a chunk that fits the CPU's second cache. */
#include <stdlib.h>

#include "base/memory.h"
#include "os/file.h"
#include "weights/names.h"
#include "weights/shard.h"

enum {
  PIECE = 4 << 20,   /* one read, so that progress can be told between two */
  TELL = 4 << 20,    /* from one telling to the next, at least */
  CHUNK = 256 << 10, /* of blocks that wait to be decoded; at most 1 MiB by contract, or one block */
};

typedef struct {
  const dsc_weight *weight;
  const char *path;
  dsc_file file;
  dsc_slice slice;
  uint64_t run, within; /* where the next byte is */
  uint64_t done, told;  /* bytes of the file */
  disco_weights_progress progress;
  void *context;
} reading;

static disco_status tell(reading *self) {
  char print[DSC_NAME_PRINT_BYTES];
  self->told = self->done;
  if (self->progress == NULL || self->progress(self->context, self->done)) return DISCO_OK;
  return dsc_fail(DISCO_INTERRUPTED, "reading tensor %s of %s was ended after %llu of %llu bytes",
                  dsc_name_print(self->weight->view.name, print), self->path, (unsigned long long)self->done,
                  (unsigned long long)(self->slice.runs * self->slice.run_bytes));
}

/* Name the tensor in front of what the file said. */
static disco_status about_tensor(const reading *self, disco_status status) {
  char print[DSC_NAME_PRINT_BYTES];
  const dsc_error *error = dsc_thread_error();
  if (error == NULL || error->message == NULL) return status;
  return dsc_fail(status, "tensor %s: %s", dsc_name_print(self->weight->view.name, print), error->message);
}

/* The next bytes of the slice, from as many runs as they lie in. */
static disco_status read_next(reading *self, char *to, uint64_t bytes) {
  const uint64_t base = self->weight->view.offset + self->slice.offset;
  while (bytes > 0) {
    uint64_t piece = self->slice.run_bytes - self->within;
    if (piece > bytes) piece = bytes;
    if (piece > PIECE) piece = PIECE;
    const uint64_t offset = base + self->run * self->slice.stride + self->within;
    disco_status status = dsc_file_read(&self->file, self->path, offset, to, piece);
    if (status != DISCO_OK) return about_tensor(self, status);
    to += piece;
    bytes -= piece;
    self->done += piece;
    self->within += piece;
    if (self->within == self->slice.run_bytes) self->within = 0, self->run++;
    if (self->done - self->told >= TELL && (status = tell(self)) != DISCO_OK) return status;
  }
  return DISCO_OK;
}

static disco_status read_decoded(reading *self, uint64_t bytes, float *to) {
  const uint64_t block_bytes = (uint64_t)self->slice.block_bytes;
  uint64_t room = block_bytes < CHUNK ? CHUNK / block_bytes * block_bytes : block_bytes;
  if (room > bytes) room = bytes;
  char *chunk = dsc_alloc(room, "a chunk of blocks to decode");
  disco_status status = chunk != NULL ? DISCO_OK : DISCO_MEMORY;
  while (status == DISCO_OK && bytes > 0) {
    const uint64_t part = bytes < room ? bytes : room;
    if ((status = read_next(self, chunk, part)) != DISCO_OK) break;
    const int64_t count = (int64_t)(part / block_bytes) * self->slice.block_elements;
    self->slice.decode(chunk, count, to);
    to += count;
    bytes -= part;
  }
  free(chunk);
  return status;
}

static disco_status open_file(reading *self, uint64_t expected) {
  char print[DSC_NAME_PRINT_BYTES];
  disco_status status = dsc_file_open(self->path, &self->file);
  if (status != DISCO_OK) return about_tensor(self, status);
  if (self->file.bytes == expected) return DISCO_OK;
  const uint64_t now = self->file.bytes;
  dsc_file_close(&self->file);
  return dsc_fail(DISCO_VALUE,
                  "tensor %s: %s has %llu bytes, but the model was opened with %llu: was it cut, or replaced?",
                  dsc_name_print(self->weight->view.name, print), self->path, (unsigned long long)now,
                  (unsigned long long)expected);
}

/* The caller's struct may be anything: it must be a shard that this model can have. */
static disco_status check_shard(const disco_shard *shard, const dsc_weight *weight, dsc_slice *ret_slice) {
  char print[DSC_NAME_PRINT_BYTES];
  if (weight == NULL)
    return dsc_fail(DISCO_VALUE, "a shard of tensor %lld, which the model does not have", (long long)shard->tensor);
  const disco_weights_tensor *view = &weight->view;
  if (shard->axis != -1 && view->dtype.bits != 0) {
    if (shard->axis < 0 || shard->axis >= view->ndim)
      return dsc_fail(DISCO_VALUE, "a shard of tensor %s along dimension %d; it has %d",
                      dsc_name_print(view->name, print), shard->axis, view->ndim);
    const int64_t dimension = view->shape[shard->axis], granule = dsc_slice_granule(weight, shard->axis);
    if (shard->first < 0 || shard->count < 0 || shard->first > dimension || shard->count > dimension - shard->first ||
        shard->first % granule != 0 || shard->count % granule != 0)
      return dsc_fail(DISCO_VALUE,
                      "a shard of tensor %s with %lld elements of dimension %d from %lld on; it has %lld, in blocks "
                      "of %lld",
                      dsc_name_print(view->name, print), (long long)shard->count, shard->axis, (long long)shard->first,
                      (long long)dimension, (long long)granule);
  }
  disco_shard again;
  disco_status status =
      dsc_slice_of(weight, shard->is_decoded, shard->axis, shard->first, shard->count, &again, ret_slice);
  if (status != DISCO_OK)
    return dsc_fail(status, "a shard of tensor %s: %s", dsc_name_print(view->name, print), disco_last_error_text());
  if (again.bytes != shard->bytes || again.file_bytes != shard->file_bytes)
    return dsc_fail(DISCO_VALUE, "a shard of tensor %s with %llu bytes (%llu in the file); it has %llu (%llu)",
                    dsc_name_print(view->name, print), (unsigned long long)shard->bytes,
                    (unsigned long long)shard->file_bytes, (unsigned long long)again.bytes,
                    (unsigned long long)again.file_bytes);
  return DISCO_OK;
}

disco_status dsc_shard_read(const disco_weights *weights, const disco_shard *shard, disco_weights_progress progress,
                            void *context, void *memory) {
  if (shard->is_skipped) return DISCO_OK;
  uint64_t expected = 0;
  reading self = {.weight = dsc_model_weight(weights, shard->tensor), .progress = progress, .context = context};
  disco_status status = check_shard(shard, self.weight, &self.slice);
  if (status != DISCO_OK) return status;
  self.path = dsc_model_file(weights, self.weight->file, &expected);
  if (shard->bytes == 0) return tell(&self);
  if ((status = open_file(&self, expected)) != DISCO_OK) return status;
  status = self.slice.decode != NULL ? read_decoded(&self, shard->file_bytes, memory)
                                     : read_next(&self, memory, shard->file_bytes);
  dsc_file_close(&self.file);
  return status == DISCO_OK && self.told != self.done ? tell(&self) : status;
}
