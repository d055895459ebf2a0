/* A tensor of a test: memory of some origin with guard bytes on both sides, or a view of a part of another. On workers.
 * Functions that return int raise and return -1 when they fail. */
#ifndef CCL_BUFFER_H
#define CCL_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tvm/ffi/c_api.h>

typedef struct {
  unsigned char *block; /* guard, offset, data, guard */
  size_t start, bytes, size;
  TVMFFIObjectHandle owner; /* of memory that came from runtime.disco.empty */
  bool is_heap;
  int64_t shape[2], strides[2];
  DLTensor tensor; /* what the collective gets */
} buffer;

/* `ours`: from runtime.disco.empty, else from malloc. The data begins `offset` bytes past a 64-byte line. `look` varies
 * what should make no difference: byte_offset, dimensions, strides. */
int buffer_init(buffer *self, bool ours, DLDataType type, uint64_t count, size_t offset, uint64_t look);
/* A view of `count` elements from the `first`-th byte of the data of `of`. */
void buffer_view(buffer *self, const buffer *of, DLDataType type, uint64_t count, size_t first, uint64_t look);
void buffer_fini(buffer *self);
unsigned char *buffer_data(const buffer *self);
/* The guard bytes are what they were; else `text` says which one is not. */
bool buffer_is_whole(const buffer *self, char *text, size_t room);

#endif
