#include "weights/source.h"

#include <string.h>

static disco_status read_memory(void *context, uint64_t offset, void *to, size_t bytes) {
  if (bytes > 0) memcpy(to, (const char *)context + offset, bytes);
  return DISCO_OK;
}

void dsc_source_of_memory(const char *path, const void *memory, size_t bytes, dsc_source *ret_source) {
  *ret_source = (dsc_source){path, bytes, read_memory, (void *)(uintptr_t)memory};
}

static disco_status read_file(void *context, uint64_t offset, void *to, size_t bytes) {
  const dsc_file_source *self = context;
  return dsc_file_read(&self->file, self->source.path, offset, to, bytes);
}

disco_status dsc_file_source_open(const char *path, dsc_file_source *ret_source) {
  disco_status status = dsc_file_open(path, &ret_source->file);
  if (status != DISCO_OK) return status;
  ret_source->source = (dsc_source){path, ret_source->file.bytes, read_file, ret_source};
  return DISCO_OK;
}

void dsc_file_source_close(dsc_file_source *self) { dsc_file_close(&self->file); }
