#include "channel/subjects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void connect_pipes(channel_pair *ret_pair) {
  int down[2], up[2];
  assert_int_equal(pipe(down), 0);
  assert_int_equal(pipe(up), 0);
  assert_int_equal(disco_pipe_channel_create(up[0], down[1], &ret_pair->controller), DISCO_OK);
  assert_int_equal(disco_pipe_channel_create(down[0], up[1], &ret_pair->worker), DISCO_OK);
}

static void connect_socket(channel_pair *ret_pair) {
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  assert_int_equal(disco_pipe_channel_create(ends[0], ends[0], &ret_pair->controller), DISCO_OK);
  assert_int_equal(disco_pipe_channel_create(ends[1], ends[1], &ret_pair->worker), DISCO_OK);
}

const channel_subject channel_over_pipes = {connect_pipes};
const channel_subject channel_over_socket = {connect_socket};
