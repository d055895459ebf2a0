/* Processes that end without shutting their sessions down: each test runs this program again with a role, and looks at
 * the exit status, which must come within the bound. */
#include "faults/support.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ffi/value.h"

enum { CODE = 42 };

static disco_session *session; /* still reachable at the end, as in a program that forgot it */
static disco_dref *dref;

/* ---- Roles of the child ---- */

static int quit(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  *result = dsc_none();
  disco_worker_info me = {.struct_size = sizeof(me)};
  if (disco_worker_get_info(&me) == DISCO_OK && me.worker_id == args[0].v_int64) exit(CODE);
  return 0;
}

static void open_for_child(uint32_t grace_ms) {
  disco_session_options options = faults_options(3, 1);
  options.grace_ms = grace_ms;
  session = faults_open_with(&options);
  dref = faults_function(session, "faults.id");
}

static void use_in_child(void) {
  disco_dref *value = faults_call(dref, 0);
  if (faults_get(value, 2) != 2) _exit(1);
  disco_dref_unref(value);
}

static void post_in_child(const char *name, int num_args, TVMFFIAny first, TVMFFIAny second, TVMFFIAny third) {
  disco_dref *function = faults_function(session, name);
  faults_post(function, num_args, first, second, third);
  disco_dref_unref(function);
}

static void *sync_for_ever(void *argument) {
  (void)argument;
  if (disco_session_sync(session, DISCO_ALL_WORKERS, DISCO_FOREVER) == DISCO_OK) return NULL;
  return NULL;
}

static void *exit_from_thread(void *argument) {
  (void)argument;
  faults_sleep_ms(20);
  exit(CODE);
}

static void log_to_stdout(void *context, disco_log_level level, const char *message) {
  (void)context;
  (void)level;
  char line[512];
  int size = snprintf(line, sizeof(line), "log: %s\n", message);
  if (size > 0 && write(STDOUT_FILENO, line, (size_t)size) < 0) _exit(1);
}

/* Returns for roles that end by returning from main. */
static int play(const char *role) {
  const TVMFFIAny none = dsc_none();
  open_for_child(300);
  if (strcmp(role, "never used") == 0) exit(CODE);
  use_in_child();
  if (strcmp(role, "exit") == 0) exit(CODE);
  if (strcmp(role, "return") == 0) return CODE;
  if (strcmp(role, "logged") == 0) {
    disco_set_log_callback(log_to_stdout, NULL, DISCO_LOG_WARN);
    exit(CODE);
  }
  if (strcmp(role, "napping") == 0 || strcmp(role, "napping, return") == 0) {
    post_in_child("faults.nap", 1, faults_int(50), none, none);
    if (strcmp(role, "napping") == 0) exit(CODE);
    return CODE;
  }
  if (strcmp(role, "queued") == 0) {
    post_in_child("faults.nap", 1, faults_int(20), none, none);
    for (int i = 0; i < 1000; i++) post_in_child("faults.count", 0, none, none, none);
    exit(CODE);
  }
  if (strcmp(role, "failed") == 0) {
    post_in_child("faults.silent", 1, faults_int(FAULTS_ALL), none, none);
    exit(CODE);
  }
  if (strcmp(role, "wedged") == 0) {
    faults_gate_close(0);
    post_in_child("faults.hold", 3, faults_int(0), faults_int(1 << 1), faults_int(0));
    exit(CODE);
  }
  if (strcmp(role, "dropped") == 0) { /* the reaper is still at work when the process ends */
    post_in_child("faults.nap", 1, faults_int(50), none, none);
    disco_session_unref(session);
    disco_dref_unref(dref);
    exit(CODE);
  }
  if (strcmp(role, "from a worker") == 0) {
    OK(disco_register_function("faults.quit", quit, NULL, NULL, false));
    post_in_child("faults.quit", 1, faults_int(1), none, none);
    (void)sync_for_ever(NULL);
    for (;;) pause();
  }
  if (strcmp(role, "from a thread") == 0) {
    pthread_t thread;
    faults_gate_close(0);
    post_in_child("faults.hold", 3, faults_int(0), faults_int(1 << 1), faults_int(0));
    if (pthread_create(&thread, NULL, exit_from_thread, NULL) != 0) _exit(1);
    (void)sync_for_ever(NULL);
    for (;;) pause();
  }
  _exit(3);
}

/* ---- The tests ---- */

typedef struct {
  pid_t pid;
  int status;
} child;

static bool has_ended(void *context) {
  child *c = context;
  return waitpid(c->pid, &c->status, WNOHANG) == c->pid;
}

/* Runs this program as `role`; its output (cut) goes to ret_output. */
static void expect_end(const char *role, char *ret_output, size_t size) {
  int pipes[2];
  assert_int_equal(pipe(pipes), 0);
  child c = {.pid = fork()};
  assert_true(c.pid >= 0);
  if (c.pid == 0) {
    (void)dup2(pipes[1], STDOUT_FILENO);
    (void)dup2(pipes[1], STDERR_FILENO);
    close(pipes[0]);
    close(pipes[1]);
    execl("/proc/self/exe", "exit_test", role, (char *)NULL);
    _exit(127);
  }
  close(pipes[1]);
  bool ended = faults_until(has_ended, &c);
  if (!ended) {
    kill(c.pid, SIGKILL);
    waitpid(c.pid, &c.status, 0);
    print_error("%s: no end\n", role);
  }
  ssize_t got = read(pipes[0], ret_output, size - 1);
  ret_output[got > 0 ? got : 0] = 0;
  close(pipes[0]);
  assert_true(ended);
  if (!WIFEXITED(c.status) || WEXITSTATUS(c.status) != CODE) print_error("%s: status %#x\n", role, c.status);
  assert_true(WIFEXITED(c.status));
  assert_int_equal(WEXITSTATUS(c.status), CODE);
}

static void test_every_way_out(void **state) {
  (void)state;
  static const char *const roles[] = {"never used", "exit",   "return",  "napping",       "napping, return", "queued",
                                      "failed",     "wedged", "dropped", "from a worker", "from a thread"};
  for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
    char output[256];
    expect_end(roles[i], output, sizeof(output));
    assert_string_equal(output, ""); /* the library prints nothing */
  }
}

static void test_a_forgotten_session_is_logged(void **state) {
  (void)state;
  char output[512];
  expect_end("logged", output, sizeof(output));
  faults_contains(output, "log: a session of 3 workers made in ");
  faults_contains(output, "was not shut down before the process ended");
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_way_out),
      cmocka_unit_test(test_a_forgotten_session_is_logged),
  };
  faults_begin();
  return argc > 1 ? play(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
