#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/inject.h"

static const char *kind_of(mode_t mode) {
  switch (mode & S_IFMT) {
  case S_IFDIR: return "a folder";
  case S_IFCHR: return "a character device";
  case S_IFBLK: return "a block device";
  case S_IFIFO: return "a pipe";
  case S_IFSOCK: return "a socket";
  default: return "no regular file";
  }
}

static disco_status refuse_open(const char *path, int error) {
  /* A socket cannot be opened at all; it is as little a file as a folder. */
  if (error == ENXIO) return dsc_fail(DISCO_VALUE, "%s is a device or a socket, not a file to read", path);
  const char *hint = error == EMFILE || error == ENFILE
                         ? ": too many open descriptors, raise the limit (ulimit -n) or close sessions"
                         : "";
  return dsc_fail(DISCO_RUNTIME, "cannot open %s: %s (%s)%s", path, strerror(error), strerrorname_np(error), hint);
}

disco_status dsc_file_open(const char *path, dsc_file *ret_file) {
  /* Non-blocking: opening a pipe would wait for its other end. It changes nothing about regular files. */
  int fd = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0) return refuse_open(path, errno);
  struct stat about;
  disco_status status = DISCO_OK;
  if (fstat(fd, &about) != 0) {
    status = dsc_fail(DISCO_RUNTIME, "cannot look at %s: %s (%s)", path, strerror(errno), strerrorname_np(errno));
  } else if (!S_ISREG(about.st_mode)) {
    status = dsc_fail(DISCO_VALUE, "%s is %s, not a file to read", path, kind_of(about.st_mode));
  }
  if (status != DISCO_OK) {
    close(fd);
    return status;
  }
  if (fd == 0) { /* the program closed its standard input; a zeroed dsc_file means none */
    fd = fcntl(0, F_DUPFD_CLOEXEC, 1);
    const int error = errno;
    close(0);
    if (fd < 0) return refuse_open(path, error);
  }
  *ret_file = (dsc_file){fd, (uint64_t)about.st_size};
  return DISCO_OK;
}

void dsc_file_close(dsc_file *file) {
  if (file->fd > 0) close(file->fd);
  *file = (dsc_file){.fd = -1};
}

/* The whole range was asked for, `done` bytes of it came. */
static disco_status report_end(const dsc_file *file, const char *path, uint64_t offset, size_t bytes, size_t done) {
  struct stat about;
  const unsigned long long size =
      fstat(file->fd, &about) == 0 ? (unsigned long long)about.st_size : (unsigned long long)(offset + done);
  return dsc_fail(DISCO_VALUE,
                  "%s ends within bytes [%llu, %llu) that were to be read: it has %llu bytes now and had %llu when it "
                  "was opened; was it cut or replaced meanwhile?",
                  path, (unsigned long long)offset, (unsigned long long)offset + bytes, size,
                  (unsigned long long)file->bytes);
}

disco_status dsc_file_read(const dsc_file *file, const char *path, uint64_t offset, void *to, size_t bytes) {
  uint64_t end;
  if (__builtin_add_overflow(offset, bytes, &end) || end > INT64_MAX)
    return dsc_fail(DISCO_VALUE, "%zu bytes at offset %llu of %s: no file has so many", bytes,
                    (unsigned long long)offset, path);
  size_t done = 0;
  while (done < bytes) {
    ssize_t count = DSC_ALLOCATION_FAILS() ? (errno = EIO, -1)
                                           : pread(file->fd, (char *)to + done, bytes - done, (off_t)(offset + done));
    if (count > 0) {
      done += (size_t)count;
    } else if (count == 0) {
      return report_end(file, path, offset, bytes, done);
    } else if (errno != EINTR) {
      return dsc_fail(DISCO_RUNTIME, "cannot read bytes [%llu, %llu) of %s: %s (%s)", (unsigned long long)offset,
                      (unsigned long long)end, path, strerror(errno), strerrorname_np(errno));
    }
  }
  return DISCO_OK;
}

bool dsc_path_is_folder(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

disco_status dsc_folder_visit(const char *path, bool (*visit)(void *context, const char *name), void *context) {
  DIR *folder = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, NULL) : opendir(path);
  if (folder == NULL) return refuse_open(path, errno);
  const struct dirent *entry;
  bool goes_on = true;
  errno = 0;
  while (goes_on && (entry = readdir(folder)) != NULL) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) goes_on = visit(context, entry->d_name);
    errno = 0;
  }
  const int error = goes_on ? errno : 0;
  (void)closedir(folder);
  if (error == 0) return DISCO_OK;
  return dsc_fail(DISCO_RUNTIME, "cannot list %s: %s (%s)", path, strerror(error), strerrorname_np(error));
}
