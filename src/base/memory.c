#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "base/status.h"

static void *checked(void *memory, size_t bytes, const char *what) {
  if (memory == NULL) (void)dsc_fail(DISCO_MEMORY, "no memory for %s (%zu bytes)", what, bytes);
  return memory;
}

void *dsc_alloc(size_t bytes, const char *what) {
  return checked(DSC_ALLOCATION_FAILS() ? NULL : calloc(1, bytes), bytes, what);
}

void *dsc_alloc_aligned(size_t alignment, size_t bytes, const char *what) {
  size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void *memory = DSC_ALLOCATION_FAILS() ? NULL : aligned_alloc(alignment, rounded);
  if (memory != NULL) memset(memory, 0, rounded);
  return checked(memory, bytes, what);
}
