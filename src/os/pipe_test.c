/* Descriptors: what a read or write that does not block says, no SIGPIPE ever, waits that end, refusals with a reason.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/inject.h"
#include "os/pipe.h"

static const int64_t MS = 1000000;

static void nap_ms(int64_t ms) {
  struct timespec time = {ms / 1000, ms % 1000 * MS};
  nanosleep(&time, NULL);
}

/* A pair of stream descriptors: [0] reads what is written to [1]. */
static void make_pipe(int fds[2]) {
  assert_int_equal(dsc_pipe_create(fds), DISCO_OK);
  assert_int_equal(dsc_fd_adopt(fds[0], true), DISCO_OK);
  assert_int_equal(dsc_fd_adopt(fds[1], true), DISCO_OK);
}

static void make_socket(int fds[2]) { assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0); }

typedef void (*make_fn)(int fds[2]);
static const make_fn makes[] = {make_pipe, make_socket};
enum { MAKES = 2 };

static void close_both(int fds[2]) {
  dsc_fd_close(&fds[0]);
  dsc_fd_close(&fds[1]);
}

static void assert_said(const char *part) { assert_non_null(strstr(disco_last_error_text(), part)); }

/* ---- Making and adopting ---- */

static void what_is_made_is_close_on_exec(void **state) {
  (void)state;
  int fds[4];
  assert_int_equal(dsc_pipe_create(fds), DISCO_OK);
  assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
  assert_int_equal(dsc_event_create(&fds[2]), DISCO_OK);
  assert_int_equal(dsc_poller_create(&fds[3]), DISCO_OK);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(fcntl(fds[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    int number = fds[i];
    errno = 77;
    dsc_fd_close(&fds[i]);
    assert_int_equal(errno, 77);
    assert_int_equal(fds[i], -1);
    dsc_fd_close(&fds[i]); /* once more is allowed */
    assert_int_equal(fcntl(number, F_GETFD), -1);
  }
}

static void a_descriptor_is_adopted(void **state) {
  (void)state;
  int fds[2];
  assert_int_equal(pipe(fds), 0);
  assert_int_equal(dsc_fd_adopt(fds[0], false), DISCO_OK);
  assert_int_equal(fcntl(fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
  assert_int_equal(dsc_fd_adopt(fds[0], true), DISCO_OK);
  assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
  assert_int_equal(fcntl(fds[1], F_GETFD) & FD_CLOEXEC, 0);

  assert_int_equal(dsc_fd_check(fds[0], false), DISCO_OK);
  assert_int_equal(dsc_fd_check(fds[1], true), DISCO_OK);
  assert_int_equal(dsc_fd_check(fds[0], true), DISCO_VALUE);
  assert_said("not open for writing");
  assert_int_equal(dsc_fd_check(fds[1], false), DISCO_VALUE);
  assert_said("not open for reading");
  close_both(fds);
  assert_int_equal(dsc_fd_check(-1, false), DISCO_VALUE);
  assert_int_equal(dsc_fd_adopt(987654, true), DISCO_VALUE);
  assert_said("987654");
  assert_said("EBADF");
}

static void a_full_table_is_said(void **state) {
  (void)state;
  struct rlimit before, tight;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  tight = before;
  tight.rlim_cur = 3;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
  int fds[2] = {-5, -5};
  disco_status results[] = {dsc_pipe_create(fds), dsc_event_create(fds), dsc_poller_create(fds)};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  for (int i = 0; i < 3; i++) assert_int_equal(results[i], DISCO_RUNTIME);
  assert_int_equal(fds[0], -5);
  assert_int_equal(fds[1], -5);
  assert_said("EMFILE");
  assert_said("3 open descriptors");
}

static void every_failure_is_reported(void **state) {
  (void)state;
  int fds[2] = {-5, -5}, poller = -1;
  assert_int_equal(dsc_poller_create(&poller), DISCO_OK);
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_pipe_create(fds), DISCO_RUNTIME);
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_event_create(fds), DISCO_RUNTIME);
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_poller_create(fds), DISCO_RUNTIME);
  assert_int_equal(fds[0], -5);
  make_pipe(fds);
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_poller_add(poller, fds[0], 1), DISCO_MEMORY);
  assert_int_equal(dsc_poller_add(poller, fds[0], 1), DISCO_OK);
  assert_int_equal(dsc_poller_add(poller, fds[0], 1), DISCO_VALUE);
  assert_said("EEXIST");
  assert_int_equal(dsc_poller_add(poller, -1, 1), DISCO_VALUE);
  close_both(fds);
  dsc_fd_close(&poller);
}

/* ---- Reading and writing ---- */

static void bytes_pass(void **state) {
  (void)state;
  for (int m = 0; m < MAKES; m++) {
    int fds[2];
    makes[m](fds);
    char bytes[8];
    size_t moved = 99;
    assert_int_equal(dsc_fd_read(fds[0], bytes, sizeof(bytes), &moved), DSC_IO_AGAIN);
    assert_int_equal(moved, 0);
    assert_int_equal(dsc_fd_write(fds[1], "hello", 5, &moved), DSC_IO_MORE);
    assert_int_equal(moved, 5);
    assert_int_equal(dsc_fd_read(fds[0], bytes, 3, &moved), DSC_IO_MORE);
    assert_int_equal(moved, 3);
    assert_int_equal(dsc_fd_read(fds[0], bytes + 3, 0, &moved), DSC_IO_MORE); /* nothing asked is no end */
    assert_int_equal(dsc_fd_read(fds[0], bytes + 3, 5, &moved), DSC_IO_MORE);
    assert_int_equal(moved, 2);
    assert_memory_equal(bytes, "hello", 5);
    /* fill it, then drain it: not a byte more or less */
    static char block[1 << 16];
    size_t in = 0, out = 0;
    dsc_io io;
    while ((io = dsc_fd_write(fds[1], block, sizeof(block), &moved)) == DSC_IO_MORE) in += moved;
    assert_int_equal(io, DSC_IO_AGAIN);
    assert_true(in > 0);
    dsc_fd_close(&fds[1]);
    while ((io = dsc_fd_read(fds[0], block, sizeof(block), &moved)) == DSC_IO_MORE) out += moved;
    assert_int_equal(io, DSC_IO_END);
    assert_int_equal(moved, 0);
    assert_int_equal(in, out);
    close_both(fds);
  }
}

static void an_error_has_its_name(void **state) {
  (void)state;
  size_t moved = 99;
  char byte = 0;
  assert_int_equal(dsc_fd_write(987654, &byte, 1, &moved), DSC_IO_ERROR);
  assert_int_equal(moved, 0);
  assert_said("EBADF");
  assert_said("987654");
  assert_int_equal(dsc_fd_read(987654, &byte, 1, &moved), DSC_IO_ERROR);
  assert_said("reading");
}

static volatile sig_atomic_t pipe_signals;

static void count_signal(int number) {
  (void)number;
  pipe_signals++;
}

static bool sigpipe_waits(void) {
  sigset_t pending;
  sigemptyset(&pending);
  sigpending(&pending);
  return sigismember(&pending, SIGPIPE) == 1;
}

/* Disposition counted, ignored or blocked: a write to nobody says so and leaves no signal behind. */
static void a_lost_reader_raises_no_signal(void **state) {
  (void)state;
  struct sigaction action = {.sa_handler = count_signal}, before;
  sigset_t only, mask;
  sigemptyset(&only);
  sigaddset(&only, SIGPIPE);
  for (int m = 0; m < MAKES; m++)
    for (int mode = 0; mode < 4; mode++) {
      int fds[2];
      makes[m](fds);
      dsc_fd_close(&fds[0]);
      action.sa_handler = mode == 1 ? SIG_IGN : count_signal;
      sigaction(SIGPIPE, &action, &before);
      pthread_sigmask(mode >= 2 ? SIG_BLOCK : SIG_UNBLOCK, &only, &mask);
      pipe_signals = 0;
      if (mode == 3) pthread_kill(pthread_self(), SIGPIPE); /* somebody else's, which waits: it must stay */
      for (int i = 0; i < 3; i++) {
        size_t moved = 99;
        assert_int_equal(dsc_fd_write(fds[1], "x", 1, &moved), DSC_IO_END);
        assert_int_equal(moved, 0);
      }
      assert_int_equal(sigpipe_waits(), mode == 3);
      sigset_t now;
      pthread_sigmask(SIG_SETMASK, &mask, &now);
      assert_int_equal(sigismember(&now, SIGPIPE), mode >= 2);
      assert_int_equal(pipe_signals, mode == 3 ? 1 : 0);
      sigaction(SIGPIPE, &before, NULL);
      close_both(fds);
    }
}

/* ---- Waiting ---- */

typedef struct {
  int fd, what; /* 0 write a byte, 1 close, 2 set the event, 3 read all there is */
} later;

static void *do_later(void *argument) {
  const later *job = argument;
  nap_ms(20);
  int fd = job->fd;
  char bytes[1 << 12];
  size_t moved = 0;
  if (job->what == 0) (void)dsc_fd_write(fd, "x", 1, &moved);
  if (job->what == 1) (void)close(fd);
  if (job->what == 2) dsc_event_set(fd);
  while (job->what == 3 && dsc_fd_read(fd, bytes, sizeof(bytes), &moved) == DSC_IO_MORE) {
  }
  return NULL;
}

static pthread_t start(later *job) {
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, do_later, job), 0);
  return thread;
}

static void a_wait_ends(void **state) {
  (void)state;
  for (int m = 0; m < MAKES; m++) {
    int fds[2], stop;
    makes[m](fds);
    assert_int_equal(dsc_event_create(&stop), DISCO_OK);
    int64_t before = dsc_clock_now_ns();
    assert_false(dsc_fd_wait(fds[0], false, stop, 30));
    assert_true(dsc_clock_now_ns() - before >= 30 * MS);
    assert_false(dsc_fd_wait(fds[0], false, -1, 0));
    assert_true(dsc_fd_wait(fds[1], true, stop, 0));

    later jobs[] = {{fds[1], 0}, {stop, 2}};
    pthread_t thread = start(&jobs[0]);
    assert_true(dsc_fd_wait(fds[0], false, stop, -1)); /* data */
    pthread_join(thread, NULL);
    thread = start(&jobs[1]);
    char bytes[16];
    size_t moved;
    assert_int_equal(dsc_fd_read(fds[0], bytes, sizeof(bytes), &moved), DSC_IO_MORE);
    assert_false(dsc_fd_wait(fds[0], false, stop, -1)); /* stop */
    pthread_join(thread, NULL);
    (void)dsc_fd_write(fds[1], "x", 1, &moved);
    assert_false(dsc_fd_wait(fds[0], false, stop, -1)); /* stop goes before data, and stays */
    dsc_event_clear(stop);
    assert_true(dsc_fd_wait(fds[0], false, stop, -1));
    (void)dsc_fd_read(fds[0], bytes, sizeof(bytes), &moved);

    later closing = {fds[1], 1};
    thread = start(&closing);
    assert_true(dsc_fd_wait(fds[0], false, stop, -1)); /* the peer hung up */
    pthread_join(thread, NULL);
    assert_int_equal(dsc_fd_read(fds[0], bytes, sizeof(bytes), &moved), DSC_IO_END);
    assert_true(dsc_fd_wait(987654, false, stop, -1)); /* broken: do not sleep on it */
    dsc_fd_close(&fds[0]);
    dsc_fd_close(&stop);
  }
}

static void a_wait_to_write_ends(void **state) {
  (void)state;
  static char block[1 << 16];
  for (int m = 0; m < MAKES; m++)
    for (int what = 1; what <= 3; what += 2) { /* the reader vanishes, the reader reads */
      int fds[2];
      makes[m](fds);
      size_t moved;
      while (dsc_fd_write(fds[1], block, sizeof(block), &moved) == DSC_IO_MORE) {
      }
      assert_false(dsc_fd_wait(fds[1], true, -1, 0));
      later job = {fds[0], what};
      pthread_t thread = start(&job);
      assert_true(dsc_fd_wait(fds[1], true, -1, -1));
      pthread_join(thread, NULL);
      assert_int_equal(dsc_fd_write(fds[1], "x", 1, &moved), what == 1 ? DSC_IO_END : DSC_IO_MORE);
      if (what == 1) fds[0] = -1;
      close_both(fds);
    }
}

static void ignore_signal(int number) { (void)number; }

/* A signal each millisecond without SA_RESTART: no wait ends before its time. */
static void signals_do_not_shorten_a_wait(void **state) {
  (void)state;
  struct sigaction action = {.sa_handler = ignore_signal}, before;
  sigaction(SIGALRM, &action, &before);
  struct itimerval storm = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &storm, NULL);
  int fds[2];
  make_pipe(fds);
  int64_t since = dsc_clock_now_ns();
  bool ready = dsc_fd_wait(fds[0], false, -1, 50);
  int64_t took = dsc_clock_now_ns() - since;
  setitimer(ITIMER_REAL, &none, NULL);
  sigaction(SIGALRM, &before, NULL);
  assert_false(ready);
  assert_true(took >= 50 * MS);
  close_both(fds);
}

static void data_is_no_hang_up(void **state) {
  (void)state;
  for (int m = 0; m < MAKES; m++) {
    int fds[2], ended[2];
    makes[m](fds);
    make_pipe(ended); /* stands for a pidfd: readable when something ended */
    size_t moved;
    assert_int_equal(dsc_fd_write(fds[1], "data", 4, &moved), DSC_IO_MORE);
    later jobs[] = {{fds[1], 1}, {ended[1], 0}};
    pthread_t thread = start(&jobs[0]);
    dsc_fd_wait_gone(fds[0], ended[0]); /* comes back because of the close, not of the data */
    assert_int_equal(fcntl(fds[1], F_GETFD), -1);
    pthread_join(thread, NULL);
    dsc_fd_wait_gone(fds[0], -1); /* stays so */
    dsc_fd_close(&fds[0]);
    makes[m](fds);
    thread = start(&jobs[1]);
    dsc_fd_wait_gone(fds[0], ended[0]);
    assert_true(dsc_fd_wait(ended[0], false, -1, 0));
    pthread_join(thread, NULL);
    later reader = {fds[0], 1};
    thread = start(&reader);
    dsc_fd_wait_gone(fds[1], -1); /* the writing end sees it as well */
    pthread_join(thread, NULL);
    dsc_fd_close(&fds[1]);
    close_both(ended);
  }
  dsc_fd_wait_gone(-1, -1);
}

static void an_event_is_set_until_cleared(void **state) {
  (void)state;
  int event;
  assert_int_equal(dsc_event_create(&event), DISCO_OK);
  assert_false(dsc_fd_wait(event, false, -1, 0));
  dsc_event_clear(event); /* of a clear one does not block */
  dsc_event_set(event);
  dsc_event_set(event);
  assert_true(dsc_fd_wait(event, false, -1, 0));
  assert_true(dsc_fd_wait(event, false, -1, 0));
  dsc_event_clear(event);
  assert_false(dsc_fd_wait(event, false, -1, 0));
  const uint64_t full = UINT64_MAX - 1;
  assert_int_equal(write(event, &full, sizeof(full)), sizeof(full));
  dsc_event_set(event); /* of a full one does not block */
  assert_true(dsc_fd_wait(event, false, -1, 0));
  dsc_fd_close(&event);
}

static void a_poller_names_who_is_ready(void **state) {
  (void)state;
  enum { MANY = 40 };
  int fds[MANY][2], poller;
  dsc_poll_event events[MANY];
  assert_int_equal(dsc_poller_create(&poller), DISCO_OK);
  for (int i = 0; i < MANY; i++) {
    makes[i % MAKES](fds[i]);
    assert_int_equal(dsc_poller_add(poller, fds[i][0], UINT64_MAX - (uint64_t)i), DISCO_OK);
  }
  assert_int_equal(dsc_poller_wait(poller, events, MANY, 10), 0);
  size_t moved;
  assert_int_equal(dsc_fd_write(fds[7][1], "x", 1, &moved), DSC_IO_MORE);
  assert_int_equal(dsc_poller_wait(poller, events, MANY, -1), 1);
  assert_true(events[0].token == UINT64_MAX - 7);
  assert_true(events[0].readable);
  assert_false(events[0].hung_up);
  for (int i = 6; i <= 7; i++) { /* one pipe, one socket; 7 has data left, 6 nothing */
    dsc_fd_close(&fds[i][1]);
  }
  int found = dsc_poller_wait(poller, events, MANY, -1);
  assert_int_equal(found, 2);
  for (int i = 0; i < found; i++) {
    assert_true(events[i].hung_up);
    if (events[i].token == UINT64_MAX - 7) assert_true(events[i].readable);
  }
  assert_int_equal(dsc_poller_wait(poller, events, 1, -1), 1);
  dsc_poller_remove(poller, fds[6][0]);
  dsc_poller_remove(poller, fds[7][0]);
  dsc_poller_remove(poller, fds[7][0]); /* nobody there */
  assert_int_equal(dsc_poller_wait(poller, events, MANY, 0), 0);
  for (int i = 0; i < MANY; i++) /* all at once, more than one call brings: each is named */
    if (fds[i][1] >= 0) dsc_fd_close(&fds[i][1]);
  uint64_t seen = 0;
  while ((found = dsc_poller_wait(poller, events, MANY, 0)) > 0)
    for (int i = 0; i < found; i++) {
      uint64_t which = UINT64_MAX - events[i].token;
      seen |= (uint64_t)1 << which;
      dsc_poller_remove(poller, fds[which][0]);
    }
  assert_true(seen == ((((uint64_t)1 << MANY) - 1) & ~((uint64_t)3 << 6)));
  for (int i = 0; i < MANY; i++) close_both(fds[i]);
  dsc_fd_close(&poller);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_made_is_close_on_exec),
      cmocka_unit_test(a_descriptor_is_adopted),
      cmocka_unit_test(a_full_table_is_said),
      cmocka_unit_test(every_failure_is_reported),
      cmocka_unit_test(bytes_pass),
      cmocka_unit_test(an_error_has_its_name),
      cmocka_unit_test(a_lost_reader_raises_no_signal),
      cmocka_unit_test(a_wait_ends),
      cmocka_unit_test(a_wait_to_write_ends),
      cmocka_unit_test(signals_do_not_shorten_a_wait),
      cmocka_unit_test(data_is_no_hang_up),
      cmocka_unit_test(an_event_is_set_until_cleared),
      cmocka_unit_test(a_poller_names_who_is_ready),
  };
  alarm(100);
  return cmocka_run_group_tests_name("os.pipe", tests, NULL, NULL);
}
