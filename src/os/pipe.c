#include "os/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/inject.h"

/* The sentence of a call that makes a descriptor. */
static disco_status refuse(const char *what, int error) {
  disco_status status = error == ENOMEM ? DISCO_MEMORY : DISCO_RUNTIME;
  struct rlimit limit;
  if (error == EMFILE && getrlimit(RLIMIT_NOFILE, &limit) == 0)
    return dsc_fail(status,
                    "making %s failed: %s (%s); this process may have %llu open descriptors: close some, or raise the "
                    "limit (ulimit -n)",
                    what, strerror(error), strerrorname_np(error), (unsigned long long)limit.rlim_cur);
  const char *hint = error == ENFILE ? "; the whole machine has too many open files (/proc/sys/fs/file-max)" : "";
  return dsc_fail(status, "making %s failed: %s (%s)%s", what, strerror(error), strerrorname_np(error), hint);
}

disco_status dsc_pipe_create(int fds[2]) {
  int made[2];
  if (DSC_ALLOCATION_FAILS() ? (errno = EMFILE, true) : pipe2(made, O_CLOEXEC) != 0) return refuse("a pipe", errno);
  memcpy(fds, made, sizeof(made));
  return DISCO_OK;
}

void dsc_fd_close(int *fd) {
  int error = errno;
  if (*fd >= 0) (void)close(*fd); /* after EINTR it is closed as well */
  *fd = -1;
  errno = error;
}

static disco_status not_usable(int fd) {
  return dsc_fail(DISCO_VALUE, "%d cannot be used as a descriptor: %s (%s)", fd, strerror(errno),
                  strerrorname_np(errno));
}

disco_status dsc_fd_check(int fd, bool for_write) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return not_usable(fd);
  int mode = flags & O_ACCMODE;
  if ((flags & O_PATH) == 0 && (mode == O_RDWR || mode == (for_write ? O_WRONLY : O_RDONLY))) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "descriptor %d is not open for %s: are the two ends of a pipe swapped?", fd,
                  for_write ? "writing" : "reading");
}

disco_status dsc_fd_adopt(int fd, bool nonblocking) {
  int flags = fcntl(fd, F_GETFD);
  if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0) return not_usable(fd);
  if (!nonblocking) return DISCO_OK;
  flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return not_usable(fd);
  return DISCO_OK;
}

/* ---- Reading and writing ---- */

static dsc_io moved(const char *verb, int fd, ssize_t count, int error, size_t *ret_moved) {
  *ret_moved = count > 0 ? (size_t)count : 0;
  if (count >= 0) return DSC_IO_MORE;
  if (error == EAGAIN || error == EWOULDBLOCK) return DSC_IO_AGAIN;
  if (error == EPIPE || error == ECONNRESET) return DSC_IO_END;
  (void)dsc_fail(DISCO_RUNTIME, "%s descriptor %d failed: %s (%s)", verb, fd, strerror(error), strerrorname_np(error));
  return DSC_IO_ERROR;
}

dsc_io dsc_fd_read(int fd, void *bytes, size_t size, size_t *ret_moved) {
  ssize_t count;
  do {
    count = read(fd, bytes, size);
  } while (count < 0 && errno == EINTR);
  dsc_io io = moved("reading from", fd, count, errno, ret_moved);
  return count == 0 && size > 0 ? DSC_IO_END : io;
}

/* The SIGPIPE of a write goes to the writing thread: hold it back, and take it away if the write raised it. One that
 * waited before is somebody else's and stays. */
static ssize_t write_without_signal(int fd, const void *bytes, size_t size) {
  sigset_t only, before, pending;
  sigemptyset(&only);
  sigaddset(&only, SIGPIPE);
  sigemptyset(&pending);
  (void)pthread_sigmask(SIG_BLOCK, &only, &before);
  bool blocked = sigismember(&before, SIGPIPE) == 1;
  if (blocked) (void)sigpending(&pending);
  ssize_t count;
  do {
    count = write(fd, bytes, size);
  } while (count < 0 && errno == EINTR);
  int error = errno;
  if (count < 0 && error == EPIPE && sigismember(&pending, SIGPIPE) != 1) {
    const struct timespec at_once = {0, 0};
    while (sigtimedwait(&only, NULL, &at_once) < 0 && errno == EINTR) {
    }
  }
  if (!blocked) (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = error;
  return count;
}

dsc_io dsc_fd_write(int fd, const void *bytes, size_t size, size_t *ret_moved) {
  ssize_t count;
  do {
    count = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (count < 0 && errno == EINTR);
  /* no socket: the refusal costs a tenth of the write, and no state has to be kept beside the descriptor */
  if (count < 0 && errno == ENOTSOCK) count = write_without_signal(fd, bytes, size);
  return moved("writing to", fd, count, errno, ret_moved);
}

/* ---- Waiting ---- */

/* poll() to the end: signals do not shorten it. Below 0: the kernel refused, after a short rest, so that a caller that
 * looks again in a loop does not burn the CPU. */
static int poll_all(struct pollfd *fds, nfds_t count, int64_t timeout_ms) {
  const int64_t end = dsc_clock_deadline_ns(timeout_ms);
  for (;;) {
    int timeout = -1;
    if (end != INT64_MAX) {
      int64_t left = (end - dsc_clock_now_ns() + 999999) / 1000000;
      timeout = left < 0 ? 0 : left < INT_MAX ? (int)left : INT_MAX;
    }
    int ready = poll(fds, count, timeout);
    if (ready > 0) return ready;
    if (ready < 0 && errno != EINTR) {
      (void)nanosleep(&(struct timespec){0, 1000000}, NULL);
      return ready;
    }
    if (end != INT64_MAX && dsc_clock_now_ns() >= end) return 0;
  }
}

bool dsc_fd_wait(int fd, bool for_write, int stop_fd, int64_t timeout_ms) {
  struct pollfd fds[] = {{.fd = fd, .events = for_write ? POLLOUT : POLLIN}, {.fd = stop_fd, .events = POLLIN}};
  int ready = poll_all(fds, stop_fd >= 0 ? 2 : 1, timeout_ms);
  if (ready < 0) return true; /* look and see */
  return fds[1].revents == 0 && fds[0].revents != 0;
}

void dsc_fd_wait_gone(int pipe_fd, int pidfd) {
  if (pipe_fd < 0 && pidfd < 0) return;
  /* a pipe's hang-up and error come unasked */
  struct pollfd fds[] = {{.fd = pipe_fd, .events = POLLRDHUP}, {.fd = pidfd, .events = POLLIN}};
  while (poll_all(fds, 2, -1) < 0) {
  }
}

disco_status dsc_event_create(int *ret_fd) {
  int fd = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return refuse("an event descriptor", errno);
  *ret_fd = fd;
  return DISCO_OK;
}

void dsc_event_set(int fd) {
  const uint64_t one = 1;
  int error = errno;
  while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR) {
  } /* EAGAIN: it is as set as can be */
  errno = error;
}

void dsc_event_clear(int fd) {
  uint64_t count;
  int error = errno;
  while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR) {
  } /* EAGAIN: it was clear */
  errno = error;
}

disco_status dsc_poller_create(int *ret_poller) {
  int fd = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) return refuse("a poll descriptor", errno);
  *ret_poller = fd;
  return DISCO_OK;
}

disco_status dsc_poller_add(int poller, int fd, uint64_t token) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = token};
  if (!DSC_ALLOCATION_FAILS()) {
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0) return DISCO_OK;
  } else {
    errno = ENOMEM;
  }
  disco_status status = errno == ENOMEM ? DISCO_MEMORY : errno == ENOSPC ? DISCO_RUNTIME : DISCO_VALUE;
  const char *hint = errno == ENOSPC ? "; raise /proc/sys/fs/epoll/max_user_watches" : "";
  return dsc_fail(status, "descriptor %d cannot be waited for: %s (%s)%s", fd, strerror(errno), strerrorname_np(errno),
                  hint);
}

void dsc_poller_remove(int poller, int fd) { (void)epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL); }

int dsc_poller_wait(int poller, dsc_poll_event *events, int max, int64_t timeout_ms) {
  enum { AT_ONCE = 32 };
  struct epoll_event found[AT_ONCE];
  int timeout = timeout_ms < 0 ? -1 : timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX;
  int count = epoll_wait(poller, found, max < AT_ONCE ? max : AT_ONCE, timeout);
  for (int i = 0; i < count; i++) {
    uint32_t what = found[i].events;
    events[i] =
        (dsc_poll_event){found[i].data.u64, (what & EPOLLIN) != 0, (what & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0};
  }
  return count > 0 ? count : 0;
}

void dsc_fd_write_if_ready(int fd, const void *bytes, size_t size) {
  struct stat info;
  if (fstat(fd, &info) != 0) return;
  if (S_ISSOCK(info.st_mode)) {
    (void)send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return;
  }
  if (S_ISREG(info.st_mode)) { /* never blocks, and its position is shared with whoever else writes there */
    ssize_t ignored = write(fd, bytes, size);
    (void)ignored;
    return;
  }
  /* A terminal or pipe: polling first promises nothing, since others write there, too. O_NONBLOCK belongs to the open
   * file, so we open it anew for ourselves. */
  char path[32];
  size_t moved = 0;
  (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  int mine = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (mine < 0) return;
  (void)dsc_fd_write(mine, bytes, size, &moved);
  close(mine);
}
