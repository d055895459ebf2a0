/* The controller goes away, by every path, or is not the thread, process or terminal that it was: no worker outlives
 * it, and none leaves before it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deaths/support.h"

enum { WORKERS = 4 };

/* ---- Roles ---- */

static disco_session *kept; /* as in a program that forgot it */

/* Says the pids of its workers. Words: transport, what they do meanwhile. */
static disco_session *open_role(char **argv) {
  disco_session_options options = options_of(WORKERS, strcmp(argv[0], "pipe") == 0);
  options.grace_ms = 400;
  NEED(disco_session_create_process(&options, &kept) == DISCO_OK);
  disco_dref *pid = NULL, *pids = NULL;
  TVMFFIAny value = dsc_none();
  NEED(disco_session_get_global_func(kept, "d.pid", &pid) == DISCO_OK);
  NEED(disco_call(kept, pid, NULL, 0, &pids) == DISCO_OK);
  for (int i = 1; i < WORKERS; i++) {
    NEED(disco_debug_get(pids, i, BOUND_MS, &value) == DISCO_OK);
    say("%lld", (long long)value.v_int64);
  }
  disco_dref_unref(pids);
  disco_dref_unref(pid);
  if (strcmp(argv[1], "busy") == 0) {
    disco_dref *nap = NULL;
    NEED(disco_session_get_global_func(kept, "d.nap", &nap) == DISCO_OK);
    NEED(disco_call(kept, nap, ARGS(dsc_int(-1), dsc_int(30000)), NULL) == DISCO_OK);
    disco_dref_unref(nap);
    sleep_ms(30);
  }
  return kept;
}

static int be_killed(int argc, char **argv) {
  (void)argc;
  (void)open_role(argv);
  say("%d", 0);
  for (;;) sleep_ms(1000);
  return 0;
}

/* The forked child holds copies of whatever its parent had. */
static int be_killed_with_a_child(int argc, char **argv) {
  (void)argc;
  (void)open_role(argv);
  pid_t child = fork();
  if (child == 0)
    for (;;) sleep_ms(1000);
  say("%d", (int)child);
  for (;;) sleep_ms(1000);
  return 0;
}

static int leave_main(int argc, char **argv) {
  (void)argc;
  (void)open_role(argv);
  return 5;
}

static int call_exit(int argc, char **argv) {
  (void)argc;
  (void)open_role(argv);
  _exit(6);
}

static void *leave_from_thread(void *argument) {
  (void)argument;
  exit(7);
}

static int exit_in_thread(int argc, char **argv) {
  (void)argc;
  pthread_t thread;
  (void)open_role(argv);
  NEED(pthread_create(&thread, NULL, leave_from_thread, NULL) == 0);
  for (;;) sleep_ms(1000);
  return 0;
}

static _Atomic int interrupts;
static void count_interrupt(int number) {
  (void)number;
  atomic_fetch_add(&interrupts, 1);
}

static void need_ids(disco_session *session) {
  disco_dref *id = NULL, *ids = NULL;
  TVMFFIAny value = dsc_none();
  NEED(disco_session_get_global_func(session, "d.id", &id) == DISCO_OK);
  NEED(disco_call(session, id, NULL, 0, &ids) == DISCO_OK);
  for (int i = 0; i < disco_session_num_workers(session); i++) {
    NEED(disco_debug_get(ids, i, BOUND_MS, &value) == DISCO_OK);
    NEED(value.v_int64 == i);
  }
  disco_dref_unref(ids);
  disco_dref_unref(id);
}

/* Words: transport, "idle", the terminal's name. */
static int live_on_a_terminal(int argc, char **argv) {
  NEED(argc == 3);
  NEED(setsid() > 0);
  int terminal = open(argv[2], O_RDWR);
  NEED(terminal >= 0);
  NEED(ioctl(terminal, TIOCSCTTY, 0) == 0);
  NEED(tcgetpgrp(terminal) == getpgrp());
  struct sigaction action = {.sa_handler = count_interrupt};
  NEED(sigaction(SIGINT, &action, NULL) == 0);
  disco_session *session = open_role(argv);
  /* This thread alone could take the signal: it asks for it, and the handler counts what another one got. (A handler
   * here would miss it now and then under TSan, which puts off what arrives outside a blocking call.) */
  sigset_t interrupt;
  NEED(sigemptyset(&interrupt) == 0 && sigaddset(&interrupt, SIGINT) == 0);
  NEED(pthread_sigmask(SIG_BLOCK, &interrupt, NULL) == 0);
  say("%d", 0); /* now type Ctrl-C */
  NEED(sigtimedwait(&interrupt, NULL, &(struct timespec){BOUND_MS / 1000, 0}) == SIGINT);
  sleep_ms(50); /* for workers to die, if they did */
  need_ids(session);
  NEED(disco_session_shutdown(session) == DISCO_OK);
  disco_session_unref(session);
  NEED(pthread_sigmask(SIG_UNBLOCK, &interrupt, NULL) == 0);
  if (atomic_load(&interrupts) != 0) say("%d interrupts came to a thread of the library", atomic_load(&interrupts));
  return atomic_load(&interrupts) == 0 ? 0 : 1;
}

static const role roles[] = {
    {"killed", be_killed},
    {"killed with a child", be_killed_with_a_child},
    {"leaves main", leave_main},
    {"calls _exit", call_exit},
    {"exits in a thread", exit_in_thread},
    {"terminal", live_on_a_terminal},
    {NULL, NULL},
};

/* ---- The controller's end ---- */

static void expect_all_gone(const pid_t pids[WORKERS]) {
  for (int i = 1; i < WORKERS; i++) {
    if (await_end(pids[i]) == -1) {
      print_error("worker %d (process %d) outlives its controller\n", i, (int)pids[i]);
      for (int k = i; k < WORKERS; k++) (void)kill(pids[k], SIGKILL);
      for (int k = i; k < WORKERS; k++) (void)waitpid(pids[k], NULL, 0);
      fail();
    }
  }
}

static const char *const transports[] = {"ring", "pipe"}, *const works[] = {"idle", "busy"};

static void end_in(const char *name, bool kills, int status) {
  for (int i = 0; i < 4; i++) {
    pid_t pids[WORKERS], child = 0;
    other controller = start_role((const char *const[]){name, transports[i % 2], works[i / 2], NULL});
    for (int k = 1; k < WORKERS; k++) pids[k] = (pid_t)read_number(&controller);
    if (kills) {
      child = (pid_t)read_number(&controller);
      assert_int_equal(kill(controller.pid, SIGKILL), 0);
    }
    assert_int_equal(end_role(&controller), status);
    expect_all_gone(pids);
    if (child > 0) {
      assert_int_equal(kill(child, 0), 0); /* it lived all the time */
      assert_int_equal(kill(child, SIGKILL), 0);
      assert_int_equal(waitpid(child, NULL, 0), child);
    }
  }
}

static void killed(void **state) {
  (void)state;
  end_in("killed", true, 128 + SIGKILL);
}

static void killed_while_a_forked_child_lives(void **state) {
  (void)state;
  end_in("killed with a child", true, 128 + SIGKILL);
}

/* With workers in a call of 30 s: the exit hook's shutdown is bounded by the grace. */
static void leaves_main_without_shutdown(void **state) {
  (void)state;
  end_in("leaves main", false, 5);
}

static void calls_quick_exit(void **state) {
  (void)state;
  end_in("calls _exit", false, 6);
}

static void exits_in_another_thread(void **state) {
  (void)state;
  end_in("exits in a thread", false, 7);
}

static void control_c_reaches_the_controller_alone(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    const char *name = ptsname(master);
    other controller = start_role((const char *const[]){"terminal", transports[i], "idle", name, NULL});
    for (int k = 0; k < WORKERS; k++) (void)read_number(&controller);
    assert_int_equal(write(master, "\x03", 1), 1);
    expect_role_ok(&controller);
    close(master);
  }
}

/* ---- Threads ---- */

typedef struct {
  disco_session *session;
  disco_status status;
  bool pipe;
} thread_part;

static void *create_and_end(void *argument) {
  thread_part *self = argument;
  disco_session_options options = options_of(3, self->pipe);
  self->status = disco_session_create_process(&options, &self->session);
  return NULL;
}

static void *use_and_end(void *argument) {
  thread_part *self = argument;
  disco_dref *function = NULL;
  self->status = disco_session_get_global_func(self->session, "d.count", &function);
  for (int i = 0; self->status == DISCO_OK && i < 10; i++)
    self->status = disco_call(self->session, function, NULL, 0, NULL);
  disco_dref_unref(function);
  if (self->status == DISCO_OK) self->status = disco_session_sync(self->session, DISCO_ALL_WORKERS, BOUND_MS);
  return NULL;
}

static void *shut_down(void *argument) {
  thread_part *self = argument;
  self->status = disco_session_shutdown(self->session);
  return NULL;
}

static void in_thread(void *(*run)(void *), thread_part *part) {
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, run, part), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(part->status, DISCO_OK);
}

static void the_thread_that_made_it_has_ended(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    thread_part part = {.pipe = pipe == 1};
    in_thread(create_and_end, &part);
    sleep_ms(50); /* a parent-death signal would have come */
    in_thread(use_and_end, &part);
    expect_works(part.session);
    in_thread(shut_down, &part);
    disco_session_unref(part.session);
    census_end(&before);
  }
}

/* ---- Fork ---- */

static int child_status(pid_t child) {
  int status = await_end(child);
  return status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_forked_child_disturbs_nobody(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(3, pipe == 1);
    disco_dref *function = find(session, "d.id");
    expect_works(session);
    for (int i = 0; i < 3; i++) {
      (void)fflush(NULL);
      pid_t child = fork();
      assert_true(child >= 0);
      if (child == 0) {
        bool refused = disco_session_sync(session, 0, 100) == DISCO_RUNTIME &&
                       disco_call(session, function, NULL, 0, NULL) == DISCO_RUNTIME &&
                       disco_session_shutdown(session) == DISCO_RUNTIME;
        disco_dref_unref(function);
        disco_session_unref(session);
        if (i == 0) _exit(refused ? 0 : 1);
        if (i == 1) { /* a session of its own */
          disco_session_options options = options_of(3, pipe == 1);
          alarm(20);
          NEED(disco_session_create_process(&options, &session) == DISCO_OK);
          need_ids(session);
          NEED(disco_session_shutdown(session) == DISCO_OK);
          disco_session_unref(session);
        }
        if (SANITIZED) _exit(refused ? 0 : 1); /* what the parent holds is a leak of the child's */
        exit(refused ? 0 : 1);
      }
      assert_int_equal(child_status(child), 0);
      expect_works(session);
    }
    disco_dref_unref(function);
    close_session(session);
    census_end(&before);
  }
}

/* Forks come while sessions are made, die and end: no child gets stuck on a lock, no worker waits for a child. */
static _Atomic bool forking;
static void *keep_forking(void *argument) {
  int *failures = argument;
  while (atomic_load(&forking)) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child < 0 || child_status(child) != 0) (*failures)++;
  }
  return NULL;
}

static void forks_while_sessions_come_and_go(void **state) {
  (void)state;
  census before = census_begin();
  pthread_t thread;
  int failures = 0;
  atomic_store(&forking, true);
  assert_int_equal(pthread_create(&thread, NULL, keep_forking, &failures), 0);
  for (int i = 0; i < scaled(20, 4); i++) {
    disco_session *session = open_session(3, i % 2 == 1);
    if (i % 4 < 2) {
      expect_works(session);
    } else {
      assert_int_equal(kill(pid_of(session, 1), SIGKILL), 0);
      (void)await_lost(session, 1);
    }
    close_session(session);
  }
  atomic_store(&forking, false);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(failures, 0);
  census_end(&before);
}

/* ---- Shutdown ---- */

static void *keep_calling(void *argument) {
  thread_part *self = argument;
  do self->status = disco_session_sync(self->session, DISCO_ALL_WORKERS, BOUND_MS);
  while (self->status == DISCO_OK);
  return NULL;
}

static void double_and_concurrent_shutdown(void **state) {
  (void)state;
  enum { ENDERS = 4, CALLERS = 2 };
  census before = census_begin();
  for (int i = 0; i < scaled(12, 4); i++) {
    disco_session *session = open_session(4, i % 2 == 1);
    pthread_t threads[ENDERS + CALLERS];
    thread_part parts[ENDERS + CALLERS];
    if (i % 3 != 0) expect_works(session);
    for (int k = 0; k < ENDERS + CALLERS; k++) {
      parts[k] = (thread_part){.session = session};
      assert_int_equal(pthread_create(&threads[k], NULL, k < CALLERS ? keep_calling : shut_down, &parts[k]), 0);
    }
    for (int k = 0; k < ENDERS + CALLERS; k++) assert_int_equal(pthread_join(threads[k], NULL), 0);
    for (int k = 0; k < ENDERS + CALLERS; k++) assert_int_equal(parts[k].status, k < CALLERS ? DISCO_CLOSED : DISCO_OK);
    OK(disco_session_shutdown(session));
    assert_int_equal(disco_session_sync(session, 0, 0), DISCO_CLOSED);
    disco_session_unref(session);
    census_end(&before);
  }
}

static void dropped_without_shutdown(void **state) {
  (void)state;
  census before = census_begin();
  for (int i = 0; i < 4; i++) {
    disco_session *session = open_session(4, i % 2 == 1);
    disco_dref *function = i < 2 ? find(session, "d.id") : NULL; /* holds it a little longer */
    if (i < 2) expect_works(session);
    disco_session_unref(session);
    disco_dref_unref(function);
    census_end(&before);
  }
}

/* The same while a worker dies. */
static void shutdown_while_a_worker_dies(void **state) {
  (void)state;
  census before = census_begin();
  for (int i = 0; i < scaled(20, 4); i++) {
    disco_session *session = open_session(3, i % 2 == 1);
    const pid_t pid = pid_of(session, 1);
    pthread_t thread;
    thread_part part = {.session = session};
    assert_int_equal(pthread_create(&thread, NULL, shut_down, &part), 0);
    if (i % 4 > 1) sleep_ms(1);
    (void)kill(pid, SIGKILL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(part.status, DISCO_OK);
    disco_session_unref(session);
    census_end(&before);
  }
}

static disco_session *to_end;
static _Atomic int ended_with = -1;
static int end_session(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  if (my_id() == 0) atomic_store(&ended_with, (int)disco_session_shutdown(to_end));
  return 0;
}

static void shutdown_from_worker_0(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    to_end = open_session(3, pipe == 1);
    atomic_store(&ended_with, -1);
    post(to_end, "d.end_session", NO_ARGS);
    disco_status status = DISCO_OK;
    for (int64_t end = now_ms() + BOUND_MS; status == DISCO_OK && now_ms() < end;)
      status = disco_session_sync(to_end, DISCO_ALL_WORKERS, BOUND_MS);
    assert_int_equal(status, DISCO_CLOSED);
    assert_int_equal(atomic_load(&ended_with), DISCO_OK);
    close_session(to_end);
    census_end(&before);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(killed),
      cmocka_unit_test(killed_while_a_forked_child_lives),
      cmocka_unit_test(leaves_main_without_shutdown),
      cmocka_unit_test(calls_quick_exit),
      cmocka_unit_test(exits_in_another_thread),
      cmocka_unit_test(control_c_reaches_the_controller_alone),
      cmocka_unit_test(the_thread_that_made_it_has_ended),
      cmocka_unit_test(a_forked_child_disturbs_nobody),
      cmocka_unit_test(forks_while_sessions_come_and_go),
      cmocka_unit_test(double_and_concurrent_shutdown),
      cmocka_unit_test(dropped_without_shutdown),
      cmocka_unit_test(shutdown_while_a_worker_dies),
      cmocka_unit_test(shutdown_from_worker_0),
  };
  register_function("d.end_session", end_session);
  return deaths_main(argc, argv, "deaths.controller", tests, sizeof(tests) / sizeof(tests[0]), roles);
}
