#include "ccl/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ccl/expected.h"
#include "common/workers.h"
#include "disco/worker.h"
#include "ffi/value.h"

enum { GUARD = 64, GUARD_BYTE = 0xa5, FRESH_BYTE = 0x5c };

static void describe(buffer *self, DLDataType type, uint64_t count, uint64_t look) {
  DLTensor *tensor = &self->tensor;
  *tensor = (DLTensor){.device = {kDLCPU, 0}, .dtype = type, .shape = self->shape, .data = buffer_data(self)};
  if (look & 1) {
    tensor->data = self->block;
    tensor->byte_offset = self->start;
  }
  tensor->ndim = look & 2 ? 2 : 1;
  if (look & 4 && count == 1) tensor->ndim = 0;
  self->shape[0] = look & 2 && look & 8 ? 1 : (int64_t)count;
  self->shape[1] = look & 8 ? (int64_t)count : 1;
  if (look & 16) {
    self->strides[0] = tensor->ndim == 2 ? self->shape[1] : 1;
    self->strides[1] = 1;
    tensor->strides = self->strides;
  }
  if (count == 0 && look & 32) {
    tensor->data = NULL;
    tensor->byte_offset = 0;
  }
}

int buffer_init(buffer *self, bool ours, DLDataType type, uint64_t count, size_t offset, uint64_t look) {
  void *memory = NULL;
  memset(self, 0, sizeof(*self));
  self->start = GUARD + offset;
  self->bytes = bytes_of(type, count);
  self->size = self->start + self->bytes + GUARD;
  if (ours) {
    if (take_bytes((int64_t)self->size, &self->owner, &memory) != 0) return -1;
  } else {
    if (posix_memalign(&memory, 64, self->size) != 0) return disco_raise("MemoryError", "%zu bytes", self->size);
    self->is_heap = true;
  }
  self->block = memory;
  memset(self->block, GUARD_BYTE, self->size);
  memset(buffer_data(self), FRESH_BYTE, self->bytes);
  describe(self, type, count, look);
  return 0;
}

void buffer_view(buffer *self, const buffer *of, DLDataType type, uint64_t count, size_t first, uint64_t look) {
  memset(self, 0, sizeof(*self));
  self->block = of->block;
  self->start = of->start + first;
  self->bytes = bytes_of(type, count);
  self->size = of->size;
  describe(self, type, count, look);
}

void buffer_fini(buffer *self) {
  if (self->owner != NULL) dsc_object_unref(self->owner);
  if (self->is_heap) free(self->block);
  memset(self, 0, sizeof(*self));
}

unsigned char *buffer_data(const buffer *self) { return self->block + self->start; }

bool buffer_is_whole(const buffer *self, char *text, size_t room) {
  for (size_t i = 0; i < self->size; i++) {
    if (i == self->start) i += self->bytes;
    if (i >= self->size || self->block[i] == GUARD_BYTE) continue;
    if (i < self->start)
      (void)snprintf(text, room, "%zu bytes before the tensor", self->start - i);
    else
      (void)snprintf(text, room, "%zu bytes past its end", i - self->start - self->bytes);
    return false;
  }
  return true;
}
