#include "os/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/inject.h"

static disco_status refuse(const char *call, size_t bytes, int error) {
  disco_status status = error == ENOMEM ? DISCO_MEMORY : DISCO_RUNTIME;
  const char *hint = error == EMFILE || error == ENFILE
                         ? ": too many open descriptors, raise the limit (ulimit -n) or close sessions"
                         : "";
  return dsc_fail(status, "%s of %zu bytes of shared memory failed: %s (%s)%s", call, bytes, strerror(error),
                  strerrorname_np(error), hint);
}

disco_status dsc_shared_memory_create(size_t bytes, dsc_shared_memory *ret_memory) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  bytes = (bytes + page - 1) / page * page;
  int fd = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : memfd_create("disco", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return refuse("memfd_create", bytes, errno);
  disco_status status = DISCO_OK;
  void *base = MAP_FAILED;
  if (ftruncate(fd, (off_t)bytes) != 0) {
    status = refuse("ftruncate", bytes, errno);
  } else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    status = refuse("sealing", bytes, errno);
  } else {
    if (DSC_ALLOCATION_FAILS()) {
      errno = ENOMEM;
    } else {
      base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (base == MAP_FAILED) status = refuse("mmap", bytes, errno);
  }
  if (status != DISCO_OK) {
    close(fd);
    return status;
  }
  *ret_memory = (dsc_shared_memory){base, bytes, fd};
  return DISCO_OK;
}

void dsc_shared_memory_discard(dsc_shared_memory *memory, size_t offset) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  offset = (offset + page - 1) / page * page;
  if (offset < memory->bytes) (void)madvise((char *)memory->base + offset, memory->bytes - offset, MADV_REMOVE);
}

void dsc_shared_memory_seclude(dsc_shared_memory *memory) {
  if (memory->fd >= 0) close(memory->fd);
  memory->fd = -1;
}

void dsc_shared_memory_hide_from_children(dsc_shared_memory *memory) {
  (void)madvise(memory->base, memory->bytes, MADV_DONTFORK);
}

void dsc_shared_memory_destroy(dsc_shared_memory *memory) {
  if (memory->base == NULL) return;
  munmap(memory->base, memory->bytes);
  dsc_shared_memory_seclude(memory);
  *memory = (dsc_shared_memory){NULL, 0, -1};
}
