/* Pipes and other stream descriptors. All made here are close-on-exec; writes never raise SIGPIPE. Any thread. */
#ifndef DSC_OS_PIPE_H
#define DSC_OS_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* fds[0] reads, fds[1] writes. DISCO_RUNTIME with errno's name and the limit. */
disco_status dsc_pipe_create(int fds[2]);
void dsc_fd_close(int *fd); /* sets it to -1; -1 is allowed */
/* DISCO_VALUE when `fd` is not open, or not open for reading (or writing), with its number. Changes nothing. */
disco_status dsc_fd_check(int fd, bool for_write);
/* Close-on-exec, and non-blocking if asked for. DISCO_VALUE when it is no open descriptor, with its number. */
disco_status dsc_fd_adopt(int fd, bool nonblocking);

/* What a read or write that does not block brought. */
typedef enum {
  DSC_IO_MORE = 0 /* some bytes moved */,
  DSC_IO_AGAIN = 1,
  DSC_IO_END = 2 /* end of file, or the peer is gone */,
  DSC_IO_ERROR = 3
} dsc_io;

/* One read or write of a non-blocking descriptor, EINTR retried; *ret_moved counts bytes, 0 unless DSC_IO_MORE. An
 * error leaves errno's sentence in the thread's error. */
dsc_io dsc_fd_read(int fd, void *bytes, size_t size, size_t *ret_moved);
dsc_io dsc_fd_write(int fd, const void *bytes, size_t size, size_t *ret_moved);
/* Write to a descriptor that may block, as long as it would not; the rest is dropped. */
void dsc_fd_write_if_ready(int fd, const void *bytes, size_t size);
/* Sleep until `fd` is readable (or writable), the peer hung up, or `stop_fd` (-1: none) is readable; at most timeout_ms
 * (-1: for ever). Returns true when `fd` is ready, hung up or broken, false for stop (which goes before) and timeout.
 * Signals do not end it. True is a hint: the read or write may still say DSC_IO_AGAIN. */
bool dsc_fd_wait(int fd, bool for_write, int stop_fd, int64_t timeout_ms);
/* Sleep until the peer of `pipe_fd` is gone (data that waits does not count) or `pidfd` (-1: none) has ended. Returns
 * at once when both are -1. */
void dsc_fd_wait_gone(int pipe_fd, int pidfd);

/* A descriptor that is readable while its counter is not zero (eventfd). */
disco_status dsc_event_create(int *ret_fd);
void dsc_event_set(int fd);
void dsc_event_clear(int fd);

/* Wait for many descriptors at once (epoll). One thread waits; any thread adds and removes. */
typedef struct {
  uint64_t token;
  bool readable, hung_up; /* both while the last data of a peer that is gone still wait */
} dsc_poll_event;
disco_status dsc_poller_create(int *ret_poller); /* close with dsc_fd_close */
disco_status dsc_poller_add(int poller, int fd, uint64_t token);
void dsc_poller_remove(int poller, int fd);
/* At most `max` events; timeout_ms -1: for ever. Returns how many, 0 for the timeout or a signal. */
int dsc_poller_wait(int poller, dsc_poll_event *events, int max, int64_t timeout_ms);

#endif
