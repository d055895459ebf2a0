/* How worker processes are started: very long command lines, and pools that answer with one socket twice. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "processes/support.h"

/* ---- Libraries ---- */

enum { MOST_LIBRARIES = 256 };

static void too_many_libraries_are_refused(void **state) {
  (void)state;
  const char *libraries[MOST_LIBRARIES + 2] = {NULL};
  disco_session_options options = options_of(2, false);
  disco_session *session = NULL;
  options.libraries = libraries;
  for (int i = 0; i <= MOST_LIBRARIES; i++) libraries[i] = "libc.so.6";
  assert_int_equal(disco_session_create_process(&options, &session), DISCO_VALUE);
  assert_null(session);
  CONTAINS(disco_last_error_text(), "257");
  CONTAINS(disco_last_error_text(), "256");
  assert_true(until(has_no_child, NULL));
  libraries[MOST_LIBRARIES] = NULL;
  session = open_with(&options);
  await_all(session);
  close_session(session);
}

/* ---- One socket, given twice ---- */

enum { MAX_POOL = 3 };
static _Atomic int given[MAX_POOL + 1], taken[MAX_POOL + 1]; /* by worker; taken: who has its number now */
static _Atomic int closed_twice;
static pid_t children[MAX_POOL + 1];

/* Instead of libc's: the moment the socket's number is free, another thread could open something, and gets it. Here
 * that happens every time. Whoever closes the number once more closes what is not its own. */
int close(int fd) {
  for (int i = 1; fd >= 0 && i <= MAX_POOL; i++) {
    if (fd == taken[i]) closed_twice++;
    if (fd != given[i]) continue;
    given[i] = -1;
    int other = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int result = dup3(other, fd, O_CLOEXEC) == fd ? 0 : -1; /* which closes the socket */
    (void)syscall(SYS_close, other);
    taken[i] = fd;
    return result;
  }
  return (int)syscall(SYS_close, fd);
}

extern char **environ;

static int start_worker(int64_t id, int64_t num_workers, int *ret_fd) {
  int ends[2];
  char texts[3][16], program[] = "/proc/self/exe", worker[] = "worker", groups[] = "1";
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return -1;
  (void)snprintf(texts[0], 16, "%d", (int)id);
  (void)snprintf(texts[1], 16, "%d", (int)num_workers);
  (void)snprintf(texts[2], 16, "%d", ends[1]);
  char *argv[] = {program, worker, texts[0], texts[1], groups, texts[2], texts[2], NULL};
  posix_spawn_file_actions_t actions;
  (void)posix_spawn_file_actions_init(&actions);
  (void)posix_spawn_file_actions_adddup2(&actions, ends[1], ends[1]); /* keeps it across exec */
  int failed = posix_spawn(&children[id], program, &actions, NULL, argv, environ);
  (void)posix_spawn_file_actions_destroy(&actions);
  (void)close(ends[1]);
  *ret_fd = ends[0];
  return failed == 0 ? 0 : -1;
}

static int64_t workers_of_pool;

/* f(id) -> Shape(fd, fd); f(0): the end */
static int answer(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args != 1 || args[0].v_int64 < 0 || args[0].v_int64 > MAX_POOL) return disco_raise("ValueError", "f(id)");
  if (args[0].v_int64 == 0) return 0;
  int fd = -1;
  if (start_worker(args[0].v_int64, workers_of_pool, &fd) != 0) return disco_raise("OSError", "no worker");
  given[args[0].v_int64] = fd;
  const TVMFFIByteArray name = {"ffi.Shape", 9};
  TVMFFIAny fds[] = {dsc_int(fd), dsc_int(fd)};
  TVMFFIObjectHandle shape = NULL;
  if (TVMFFIFunctionGetGlobal(&name, &shape) != 0 || shape == NULL) return disco_raise("RuntimeError", "ffi.Shape");
  int status = TVMFFIFunctionCall(shape, fds, 2, result);
  dsc_object_unref(shape);
  return status;
}

static int make_pool(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIObjectHandle function = NULL;
  workers_of_pool = num_args > 0 ? args[0].v_int64 : 0;
  if (TVMFFIFunctionCreate(NULL, answer, NULL, &function) != 0) return -1;
  *result = dsc_object_value(function);
  return 0;
}

static bool has_ended(void *child) { return waitpid(*(pid_t *)child, NULL, WNOHANG) == *(pid_t *)child; }

typedef struct {
  disco_session *session;
  bool pipe;
} counted;

/* The answers may be read after what the workers did. */
static bool all_are_counted(void *context) {
  const counted *self = context;
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  OK(disco_session_get_stats(self->session, &stats));
  return (self->pipe ? stats.pipe_workers : stats.ring_workers) == MAX_POOL;
}

static void one_socket_given_twice_is_closed_once(void **state) {
  (void)state;
  OK(disco_register_function("p.pool", make_pool, NULL, NULL, true));
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(MAX_POOL + 1, pipe == 1);
    options.pool_creator = "p.pool";
    for (int i = 0; i <= MAX_POOL; i++) given[i] = taken[i] = -1;
    closed_twice = 0;
    disco_session *session = open_with(&options);
    await_all(session);
    counted workers = {session, pipe == 1};
    assert_true(until(all_are_counted, &workers));
    for (int i = 1; i <= MAX_POOL; i++) assert_int_equal(pid_of(session, i), children[i]);
    close_session(session);
    for (int i = 1; i <= MAX_POOL; i++) assert_true(until(has_ended, &children[i]));
    assert_int_equal(closed_twice, 0);
    for (int i = 1; i <= MAX_POOL; i++) {
      assert_int_equal(given[i], -1); /* it was closed, */
      int other = taken[i];
      taken[i] = -1;
      assert_true(fcntl(other, F_GETFD) >= 0); /* and what has its number now was not */
      assert_int_equal(close(other), 0);
    }
  }
}

int main(int argc, char **argv) {
  for (int i = 0; i <= MAX_POOL; i++) given[i] = taken[i] = -1;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(too_many_libraries_are_refused),
      cmocka_unit_test(one_socket_given_twice_is_closed_once),
  };
  return processes_main(argc, argv, "processes.pools", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
