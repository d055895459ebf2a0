/* The pipe channel against a peer that is nothing but bytes: cut, malformed, slow, stuck. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "channel/frames.h"
#include "channel/pipe.h"
#include "disco/channel.h"

/* Every close of this program comes through here: a second one of the same descriptor might hit a stranger's. */
static atomic_int wrong_closes;

int close(int fd) {
  int result = (int)syscall(SYS_close, fd);
  if (result != 0) atomic_fetch_add(&wrong_closes, 1);
  return result;
}

/* A channel, and the raw descriptors of its peer. */
typedef struct {
  disco_channel *channel;
  int read_fd, write_fd; /* equal over a socket */
} raw_pair;

enum { PIPES = 0, SOCKET = 1 };

static raw_pair open_pair(void **state) {
  raw_pair raw = {NULL, -1, -1};
  if (*(const int *)*state == SOCKET) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    raw.read_fd = raw.write_fd = ends[1];
    assert_int_equal(disco_pipe_channel_create(ends[0], ends[0], &raw.channel), DISCO_OK);
  } else {
    int in[2], out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    raw.read_fd = out[0];
    raw.write_fd = in[1];
    assert_int_equal(disco_pipe_channel_create(in[0], out[1], &raw.channel), DISCO_OK);
  }
  return raw;
}

/* No more bytes to the channel. */
static void close_writer(raw_pair *raw) {
  if (raw->write_fd < 0) return;
  if (raw->write_fd == raw->read_fd) {
    (void)shutdown(raw->write_fd, SHUT_WR);
  } else {
    (void)close(raw->write_fd);
  }
  raw->write_fd = -1;
}

static void close_peer(raw_pair *raw) {
  if (raw->write_fd >= 0 && raw->write_fd != raw->read_fd) (void)close(raw->write_fd);
  if (raw->read_fd >= 0) (void)close(raw->read_fd);
  raw->read_fd = raw->write_fd = -1;
}

static void disconnect(raw_pair *raw) {
  close_peer(raw);
  if (raw->channel != NULL) raw->channel->ops->destroy(raw->channel);
}

static void write_all(int fd, const void *bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t count = write(fd, (const char *)bytes + done, size - done);
    assert_true(count > 0);
    done += (size_t)count;
  }
}

static void write_size(int fd, uint64_t size) {
  uint8_t word[8];
  for (int i = 0; i < 8; i++) word[i] = (uint8_t)(size >> 8 * i);
  write_all(fd, word, sizeof(word));
}

static disco_status receive(raw_pair *raw, const void **ret_frame, size_t *ret_size) {
  return raw->channel->ops->recv(raw->channel, ret_frame, ret_size);
}

static void assert_receives(raw_pair *raw, size_t expected, uint64_t index) {
  const void *frame = NULL;
  size_t size = 0;
  assert_int_equal(receive(raw, &frame, &size), DISCO_OK);
  assert_int_equal(size, expected);
  assert_true(frame_equals(frame, size, 1, index));
}

/* The next receive ends so, says so, and so does every later one. Nothing is returned. */
static void assert_receives_no_more(raw_pair *raw, disco_status status, const char *part) {
  for (int i = 0; i < 3; i++) {
    const void *frame = raw;
    size_t size = 99;
    assert_int_equal(receive(raw, &frame, &size), status);
    assert_ptr_equal(frame, raw);
    assert_int_equal(size, 99);
    const char *text = disco_last_error_text();
    if (strstr(text, part) == NULL) fail_msg("`%s` is not in: %s", part, text);
  }
}

/* ---- The end of the stream ---- */

static void the_end_at_every_byte_of_a_frame(void **state) {
  const size_t sizes[] = {8, 9, 100};
  uint8_t whole[64], cut[100];
  char part[80];
  frame_fill(whole, sizeof(whole), 1, 0);
  for (int i = 0; i < 3; i++)
    for (size_t at = 0; at <= sizes[i]; at++)
      for (int before = 0; before < 2; before++) {
        raw_pair raw = open_pair(state);
        frame_fill(cut, sizes[i], 1, 1);
        if (before) write_all(raw.write_fd, whole, sizeof(whole));
        write_all(raw.write_fd, cut, at);
        close_writer(&raw);
        if (before) assert_receives(&raw, sizeof(whole), 0);
        int frames = before + (at == sizes[i] ? 1 : 0);
        if (at == sizes[i]) assert_receives(&raw, sizes[i], 1);
        if (at == 0 || at == sizes[i]) {
          (void)snprintf(part, sizeof(part), "closed after %d whole frames", frames);
          assert_receives_no_more(&raw, DISCO_CLOSED, part);
        } else {
          (void)snprintf(part, sizeof(part), "after %zu of %zu bytes of the %s at byte %d of", at,
                         at < 8 ? 8 : sizes[i], at < 8 ? "size word" : "frame", before ? 64 : 0);
          assert_receives_no_more(&raw, DISCO_LOST, part);
        }
        disconnect(&raw);
      }
}

/* Bytes that a thread writes, then it may close. */
typedef struct {
  raw_pair *raw;
  const uint8_t *bytes;
  size_t size, piece; /* at most `piece` at once */
  bool close;
} feed;

static void *feed_it(void *argument) {
  const feed *self = argument;
  for (size_t done = 0; done < self->size;) {
    size_t piece = self->size - done < self->piece ? self->size - done : self->piece;
    ssize_t count = write(self->raw->write_fd, self->bytes + done, piece);
    if (count <= 0) break;
    done += (size_t)count;
  }
  if (self->close) close_writer(self->raw);
  return NULL;
}

static void the_end_within_a_large_frame(void **state) {
  const size_t size = LARGEST_FRAME;
  uint8_t *bytes = malloc(size);
  frame_fill(bytes, size, 1, 0);
  const size_t cuts[] = {4096, 1 << 20, (1 << 20) + 1, 2 << 20, size - 1};
  for (int i = 0; i < 5; i++) {
    raw_pair raw = open_pair(state);
    feed self = {&raw, bytes, cuts[i], SIZE_MAX, true};
    pthread_t thread;
    char part[80];
    assert_int_equal(pthread_create(&thread, NULL, feed_it, &self), 0);
    (void)snprintf(part, sizeof(part), "after %zu of %zu bytes of the frame", cuts[i], size);
    assert_receives_no_more(&raw, DISCO_LOST, part);
    pthread_join(thread, NULL);
    disconnect(&raw);
  }
  free(bytes);
}

static void byte_by_byte_it_arrives(void **state) {
  const size_t sizes[] = {8, 9, 500, 20000};
  size_t total = 0, at = 0;
  for (int i = 0; i < 4; i++) total += sizes[i];
  uint8_t *bytes = malloc(total);
  for (uint64_t i = 0; i < 4; at += sizes[i++]) frame_fill(bytes + at, sizes[i], 1, i);
  raw_pair raw = open_pair(state);
  feed self = {&raw, bytes, total, 1, true};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, feed_it, &self), 0);
  for (uint64_t i = 0; i < 4; i++) assert_receives(&raw, sizes[i], i);
  assert_receives_no_more(&raw, DISCO_CLOSED, "closed");
  pthread_join(thread, NULL);
  disconnect(&raw);
  free(bytes);
}

/* ---- What is no frame ---- */

static size_t address_space(void) {
  FILE *file = fopen("/proc/self/statm", "r");
  size_t pages = 0;
  assert_non_null(file);
  assert_int_equal(fscanf(file, "%zu", &pages), 1);
  (void)fclose(file);
  return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void a_malformed_size_is_refused(void **state) {
  const uint64_t sizes[] = {0, 1, 7, DISCO_CHANNEL_MAX_FRAME + 1, (uint64_t)1 << 63, UINT64_MAX};
  char part[200];
  for (int i = 0; i < 6; i++) {
    raw_pair raw = open_pair(state);
    uint8_t whole[64];
    frame_fill(whole, sizeof(whole), 1, 0);
    write_all(raw.write_fd, whole, sizeof(whole));
    write_size(raw.write_fd, sizes[i]);
    assert_receives(&raw, sizeof(whole), 0);
    size_t before = address_space();
    (void)snprintf(part, sizeof(part), "at byte 64 of the stream is no frame: it says that it has %llu bytes",
                   (unsigned long long)sizes[i]);
    assert_receives_no_more(&raw, DISCO_LOST, part);
    assert_true(address_space() < before + (4 << 20));
    disconnect(&raw);
  }
}

/* The largest lawful size, and then hardly anything: the lie costs a buffer for what came. */
static void a_size_that_lies_allocates_nothing(void **state) {
  uint8_t *bytes = calloc(1, 3 << 20);
  const size_t come[] = {0, 100, 3 << 20};
  for (int i = 0; i < 3; i++) {
    raw_pair raw = open_pair(state);
    write_size(raw.write_fd, DISCO_CHANNEL_MAX_FRAME);
    feed self = {&raw, bytes, come[i], SIZE_MAX, true};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, feed_it, &self), 0);
    (void)dsc_inject_fail_allocation(0);
    char part[80];
    (void)snprintf(part, sizeof(part), "after %zu of %llu bytes", come[i] + 8,
                   (unsigned long long)DISCO_CHANNEL_MAX_FRAME);
    assert_receives_no_more(&raw, DISCO_LOST, part);
    /* 4 KiB, 1 MiB, then twice as much each time; and the error's record, the first time */
    assert_in_range(dsc_inject_fail_allocation(0), 2, i < 2 ? 3 : 5);
    pthread_join(thread, NULL);
    disconnect(&raw);
  }
  free(bytes);
}

static void a_bad_frame_is_not_sent(void **state) {
  raw_pair raw = open_pair(state);
  const disco_channel_ops *ops = raw.channel->ops;
  uint8_t frame[64], got[65];
  frame_fill(frame, sizeof(frame), 1, 0);
  assert_int_equal(ops->send(raw.channel, frame, 63), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), "63"));
  assert_non_null(strstr(disco_last_error_text(), "64"));
  assert_int_equal(ops->reply(raw.channel, frame, 7), DISCO_VALUE);
  assert_int_equal(ops->send(raw.channel, frame, 0), DISCO_VALUE);
  assert_int_equal(ops->send(raw.channel, NULL, 64), DISCO_VALUE);
  assert_int_equal(ops->reply(raw.channel, frame, SIZE_MAX), DISCO_VALUE);
  assert_int_equal(ops->send(raw.channel, frame, 64), DISCO_OK); /* nothing had happened */
  assert_int_equal(read(raw.read_fd, got, sizeof(got)), 64);
  assert_memory_equal(got, frame, 64);
  disconnect(&raw);
}

/* ---- A stuck peer ---- */

typedef struct {
  disco_channel *channel;
  const uint8_t *frame;
  size_t size;
  disco_status status;
  atomic_bool done;
} sender;

static void *send_it(void *argument) {
  sender *self = argument;
  self->status = self->channel->ops->send(self->channel, self->frame, self->size);
  atomic_store(&self->done, true);
  return NULL;
}

static size_t bytes_that_wait(int fd) {
  int count = 0;
  assert_int_equal(ioctl(fd, FIONREAD, &count), 0);
  return (size_t)count;
}

/* Until a send of a large frame has filled the descriptor. Returns with the thread inside. */
static pthread_t start_stuck_send(raw_pair *raw, sender *self, uint8_t *frame) {
  frame_fill(frame, LARGEST_FRAME, 1, 0);
  *self = (sender){.channel = raw->channel, .frame = frame, .size = LARGEST_FRAME};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, send_it, self), 0);
  size_t before;
  do {
    before = bytes_that_wait(raw->read_fd);
    nap_ms(10);
  } while (before == 0 || bytes_that_wait(raw->read_fd) != before);
  return thread;
}

static void a_writer_waits_for_its_reader(void **state) {
  uint8_t *frame = malloc(LARGEST_FRAME), *got = malloc(LARGEST_FRAME + 1);
  raw_pair raw = open_pair(state);
  sender self;
  pthread_t thread = start_stuck_send(&raw, &self, frame);
  nap_ms(20);
  assert_false(atomic_load(&self.done));
  size_t done = 0;
  while (done < LARGEST_FRAME) {
    ssize_t count = read(raw.read_fd, got + done, LARGEST_FRAME + 1 - done);
    assert_true(count > 0);
    done += (size_t)count;
  }
  pthread_join(thread, NULL);
  assert_int_equal(self.status, DISCO_OK);
  assert_int_equal(done, LARGEST_FRAME);
  assert_memory_equal(got, frame, LARGEST_FRAME);
  disconnect(&raw);
  free(frame);
  free(got);
}

static void assert_sends_no_more(raw_pair *raw, disco_status status, const char *part) {
  uint8_t frame[16];
  frame_fill(frame, sizeof(frame), 1, 1);
  for (int i = 0; i < 2; i++) {
    assert_int_equal(raw->channel->ops->send(raw->channel, frame, sizeof(frame)), status);
    const char *text = disco_last_error_text();
    if (strstr(text, part) == NULL) fail_msg("`%s` is not in: %s", part, text);
  }
}

static void a_reader_that_vanishes_within_a_frame(void **state) {
  uint8_t *frame = malloc(LARGEST_FRAME);
  raw_pair raw = open_pair(state);
  sender self;
  pthread_t thread = start_stuck_send(&raw, &self, frame);
  close_peer(&raw);
  pthread_join(thread, NULL);
  assert_int_equal(self.status, DISCO_LOST);
  assert_sends_no_more(&raw, DISCO_LOST, " of 5242880 bytes of the frame at byte 0");
  assert_receives_no_more(&raw, DISCO_CLOSED, "closed after 0 whole frames");
  disconnect(&raw);
  free(frame);
}

static void an_interrupt_within_a_frame(void **state) {
  uint8_t *frame = malloc(LARGEST_FRAME);
  raw_pair raw = open_pair(state);
  sender self;
  pthread_t thread = start_stuck_send(&raw, &self, frame);
  raw.channel->ops->interrupt(raw.channel);
  pthread_join(thread, NULL);
  assert_int_equal(self.status, DISCO_CLOSED);
  size_t waits = bytes_that_wait(raw.read_fd);
  assert_sends_no_more(&raw, DISCO_CLOSED, "interrupted");
  assert_receives_no_more(&raw, DISCO_CLOSED, "interrupted");
  assert_int_equal(bytes_that_wait(raw.read_fd), waits); /* no frame begins within another one */
  disconnect(&raw);
  free(frame);
}

typedef struct {
  raw_pair *raw;
  disco_status status;
} receiver;

static void *receive_it(void *argument) {
  receiver *self = argument;
  const void *frame;
  size_t size;
  self->status = receive(self->raw, &frame, &size);
  return NULL;
}

/* Also while a frame has come in part. */
static void an_interrupt_within_a_receive(void **state) {
  raw_pair raw = open_pair(state);
  uint8_t bytes[20] = {0};
  write_size(raw.write_fd, 100);
  write_all(raw.write_fd, bytes, sizeof(bytes));
  receiver self = {&raw, DISCO_OK};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, receive_it, &self), 0);
  while (bytes_that_wait(dsc_pipe_channel_read_fd(raw.channel)) > 0) nap_ms(1); /* it has all that came */
  nap_ms(10);
  raw.channel->ops->interrupt(raw.channel);
  pthread_join(thread, NULL);
  assert_int_equal(self.status, DISCO_CLOSED);
  assert_receives_no_more(&raw, DISCO_CLOSED, "interrupted after 0 whole frames");
  disconnect(&raw);
}

/* ---- Memory ---- */

static void it_never_reads_ahead(void **state) {
  raw_pair raw = open_pair(state);
  uint8_t frames[300];
  frame_fill(frames, 100, 1, 0);
  frame_fill(frames + 100, 8, 1, 1);
  frame_fill(frames + 108, 192, 1, 2);
  write_all(raw.write_fd, frames, sizeof(frames));
  int fd = dsc_pipe_channel_read_fd(raw.channel);
  assert_true(fd >= 0);
  assert_receives(&raw, 100, 0);
  assert_int_equal(bytes_that_wait(fd), 200);
  assert_receives(&raw, 8, 1);
  assert_int_equal(bytes_that_wait(fd), 192);
  assert_receives(&raw, 192, 2);
  disconnect(&raw);
  static const disco_channel_ops other = {.struct_size = sizeof(other)};
  const disco_channel strange = {&other};
  assert_int_equal(dsc_pipe_channel_read_fd(&strange), -1);
  assert_int_equal(dsc_pipe_channel_read_fd(NULL), -1);
}

static void pass_one(raw_pair *raw, uint8_t *bytes, size_t size) {
  frame_fill(bytes, size, 1, size);
  feed self = {raw, bytes, size, SIZE_MAX, false};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, feed_it, &self), 0);
  assert_receives(raw, size, size);
  pthread_join(thread, NULL);
}

/* One buffer serves frames up to 1 MiB; a larger one goes with its frame. */
static void buffers_are_kept_and_given_back(void **state) {
  uint8_t *bytes = malloc(LARGEST_FRAME);
  raw_pair raw = open_pair(state);
  const struct {
    size_t size;
    long allocations;
  } steps[] = {{8, 1},  {4096, 0},          {100000, 1},     {131072, 0},        {1 << 20, 1},
               {64, 0}, {1 << 20, 0},       {2 << 20, 1},    {LARGEST_FRAME, 5}, {64, 1},
               {64, 0}, {(1 << 20) + 1, 2}, {1 << 20, 1 + 1}};
  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
    (void)dsc_inject_fail_allocation(0);
    pass_one(&raw, bytes, steps[i].size);
    assert_int_equal(dsc_inject_fail_allocation(0), steps[i].allocations);
  }
  disconnect(&raw);
  free(bytes);
}

/* Whichever allocation fails: DISCO_MEMORY with both sizes, for good. */
static void a_frame_without_memory(void **state) {
  uint8_t *bytes = malloc(LARGEST_FRAME);
  frame_fill(bytes, LARGEST_FRAME, 1, 0);
  (void)disco_fail(DISCO_VALUE, "this thread has a record");
  for (long n = 1; n <= 6; n++) {
    raw_pair raw = open_pair(state);
    feed self = {&raw, bytes, LARGEST_FRAME, SIZE_MAX, false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, feed_it, &self), 0);
    (void)dsc_inject_fail_allocation(n);
    if (n <= 5) {
      assert_receives_no_more(&raw, DISCO_MEMORY, n == 1 ? "frame of 8 bytes" : "frame of 5242880 bytes");
    } else {
      assert_receives(&raw, LARGEST_FRAME, 0);
    }
    (void)dsc_inject_fail_allocation(0);
    raw.channel->ops->destroy(raw.channel); /* the writer wakes up */
    raw.channel = NULL;
    pthread_join(thread, NULL);
    disconnect(&raw);
  }
  free(bytes);
}

/* ---- Making one ---- */

static int count_open(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++)
    if (fcntl(fd, F_GETFD) >= 0) count++;
  return count;
}

static void it_owns_its_descriptors(void **state) {
  int before = count_open();
  raw_pair raw = open_pair(state);
  int fd = dsc_pipe_channel_read_fd(raw.channel);
  assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  atomic_store(&wrong_closes, 0);
  disconnect(&raw);
  assert_int_equal(atomic_load(&wrong_closes), 0);
  assert_int_equal(fcntl(fd, F_GETFD), -1);
  assert_int_equal(count_open(), before);
}

static void bad_descriptors_are_refused(void **state) {
  (void)state;
  int fds[2];
  disco_channel *channel = NULL;
  assert_int_equal(pipe(fds), 0);
  const struct {
    int read_fd, write_fd;
    const char *part;
  } cases[] = {{-1, fds[1], "-1"},
               {fds[0], 987654, "987654"},
               {987654, 987654, "987654"},
               {fds[1], fds[0], "swapped"},
               {fds[0], fds[0], "not open for writing"}};
  for (int i = 0; i < 5; i++) {
    assert_int_equal(disco_pipe_channel_create(cases[i].read_fd, cases[i].write_fd, &channel), DISCO_VALUE);
    assert_non_null(strstr(disco_last_error_text(), cases[i].part));
  }
  assert_int_equal(disco_pipe_channel_create(fds[0], fds[1], NULL), DISCO_VALUE);
  (void)dsc_inject_fail_allocation(1);
  assert_int_equal(disco_pipe_channel_create(fds[0], fds[1], &channel), DISCO_MEMORY);
  int before = count_open();
  (void)dsc_inject_fail_allocation(2);
  assert_int_equal(disco_pipe_channel_create(fds[0], fds[1], &channel), DISCO_RUNTIME);
  assert_int_equal(count_open(), before);
  assert_null(channel);
  for (int i = 0; i < 2; i++) { /* still the caller's, and as they were */
    assert_int_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, 0);
    assert_int_equal(fcntl(fds[i], F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(close(fds[i]), 0);
  }
}

static const int over_pipes = PIPES, over_socket = SOCKET;
#define FOR_BOTH(test)                                                         \
  {#test ", over pipes", test, NULL, NULL, (void *)(uintptr_t)&over_pipes}, {  \
#test ", over a socket", test, NULL, NULL, (void *)(uintptr_t)&over_socket \
  }

int main(void) {
  const struct CMUnitTest tests[] = {
      FOR_BOTH(the_end_at_every_byte_of_a_frame),
      FOR_BOTH(the_end_within_a_large_frame),
      FOR_BOTH(byte_by_byte_it_arrives),
      FOR_BOTH(a_malformed_size_is_refused),
      FOR_BOTH(a_size_that_lies_allocates_nothing),
      FOR_BOTH(a_bad_frame_is_not_sent),
      FOR_BOTH(a_writer_waits_for_its_reader),
      FOR_BOTH(a_reader_that_vanishes_within_a_frame),
      FOR_BOTH(an_interrupt_within_a_frame),
      FOR_BOTH(an_interrupt_within_a_receive),
      FOR_BOTH(it_never_reads_ahead),
      FOR_BOTH(buffers_are_kept_and_given_back),
      FOR_BOTH(a_frame_without_memory),
      FOR_BOTH(it_owns_its_descriptors),
      cmocka_unit_test(bad_descriptors_are_refused),
  };
  (void)signal(SIGPIPE, SIG_IGN); /* for the raw writes of this test */
  alarm(110);
  return cmocka_run_group_tests_name("channel.stream", tests, NULL, NULL);
}
