/* Bodies of disco/channel.h, and what a channel of one's own needs. */
#include "disco/channel.h"

#include <stdarg.h>

#include "base/status.h"
#include "channel/pipe.h"

disco_status disco_pipe_channel_create(int read_fd, int write_fd, disco_channel **ret_channel) {
  return dsc_pipe_channel_create(read_fd, write_fd, ret_channel);
}

disco_status disco_fail(disco_status status, const char *format, ...) {
  if (status == DISCO_OK) return status;
  const char *kind = disco_status_kind(status);
  va_list args;
  va_start(args, format);
  (void)dsc_failv(status, kind[0] != '\0' ? kind : "RuntimeError", format, args);
  va_end(args);
  return status;
}
