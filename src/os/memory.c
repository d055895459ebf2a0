#include "os/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

/* Growing a file past this limit is not an error but a signal that ends the process. */
static bool is_past_file_limit(size_t bytes) {
  struct rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur;
}

disco_status dsc_shared_memory_create(size_t bytes, dsc_shared_memory *ret_memory) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  bytes = (bytes + page - 1) / page * page;
  int fd = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : memfd_create("disco", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return refuse("memfd_create", bytes, errno);
  disco_status status = DISCO_OK;
  void *base = MAP_FAILED;
  if (is_past_file_limit(bytes)) {
    status = refuse("ftruncate", bytes, EFBIG);
  } else if (ftruncate(fd, (off_t)bytes) != 0) {
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

void dsc_shared_memory_unmap(dsc_shared_memory *memory) {
  munmap(memory->base, memory->bytes);
  memory->base = NULL;
}

int dsc_shared_memory_release(dsc_shared_memory *memory) {
  int fd = memory->fd;
  munmap(memory->base, memory->bytes);
  *memory = (dsc_shared_memory){NULL, 0, -1};
  return fd;
}

void dsc_shared_memory_hide_from_children(dsc_shared_memory *memory) {
  (void)madvise(memory->base, memory->bytes, MADV_DONTFORK);
}

void dsc_shared_memory_destroy(dsc_shared_memory *memory) {
  if (memory->bytes == 0) return;
  if (memory->base != NULL) munmap(memory->base, memory->bytes);
  dsc_shared_memory_seclude(memory);
  *memory = (dsc_shared_memory){NULL, 0, -1};
}

disco_status dsc_shared_memory_attach(int fd, size_t least, dsc_shared_memory *ret_memory) {
  struct stat info;
  if (fstat(fd, &info) != 0)
    return dsc_fail(DISCO_LOST, "shared memory cannot be looked at: %s (%s)", strerror(errno), strerrorname_np(errno));
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
    return dsc_fail(DISCO_LOST, "shared memory whose size is not sealed is not believed");
  size_t bytes = (size_t)info.st_size;
  if (bytes < least) return dsc_fail(DISCO_LOST, "shared memory of %zu bytes is too small, at least %zu", bytes, least);
  void *base = DSC_ALLOCATION_FAILS() ? (errno = ENOMEM, MAP_FAILED)
                                      : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return refuse("mmap", bytes, errno);
  *ret_memory = (dsc_shared_memory){base, bytes, fd};
  return DISCO_OK;
}

disco_status dsc_shared_memory_protect(dsc_shared_memory *memory, size_t offset, size_t bytes) {
  if (mprotect((char *)memory->base + offset, bytes, PROT_READ) == 0) return DISCO_OK;
  return refuse("mprotect", bytes, errno);
}

disco_status dsc_private_view_map(int fd, size_t bytes, void **ret_base) {
  struct stat info;
  if (fstat(fd, &info) != 0 || (uint64_t)info.st_size < bytes)
    return dsc_fail(DISCO_LOST, "a side file is shorter than the %zu bytes that it should have", bytes);
  /* NORESERVE: few of these pages are ever written */
  void *base = DSC_ALLOCATION_FAILS() ? (errno = ENOMEM, MAP_FAILED)
                                      : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  if (base == MAP_FAILED) return refuse("mmap", bytes, errno);
  *ret_base = base;
  return DISCO_OK;
}

void dsc_private_view_unmap(void *base, size_t bytes) { (void)munmap(base, bytes); }

disco_status dsc_foreign_fd_open(int64_t pid, int fd, int *ret_fd) {
  char path[64];
  (void)snprintf(path, sizeof(path), "/proc/%lld/fd/%d", (long long)pid, fd);
  int mine = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : open(path, O_RDWR | O_CLOEXEC);
  if (mine < 0)
    return dsc_fail(errno == ENOENT || errno == EACCES || errno == EPERM ? DISCO_LOST : DISCO_RUNTIME,
                    "cannot open descriptor %d of process %lld through /proc: %s (%s)", fd, (long long)pid,
                    strerror(errno), strerrorname_np(errno));
  *ret_fd = mine;
  return DISCO_OK;
}

disco_status dsc_random(void *bytes, size_t size) {
  if (getrandom(bytes, size, 0) == (ssize_t)size) return DISCO_OK;
  return dsc_fail(DISCO_RUNTIME, "no random bytes: %s (%s)", strerror(errno), strerrorname_np(errno));
}

int64_t dsc_own_pid(void) { return (int64_t)getpid(); }

int64_t dsc_own_pid_in_proc(void) {
  char link[32] = "";
  ssize_t size = readlink("/proc/self", link, sizeof(link) - 1);
  int64_t pid = size > 0 ? strtoll(link, NULL, 10) : 0;
  return pid > 0 ? pid : dsc_own_pid();
}

int64_t dsc_parent_pid(void) { return (int64_t)getppid(); }
