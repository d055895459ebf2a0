/* Child processes: what a child starts with, how its end is told, and what is left behind when starting fails. This
 * program is its own child: called with "report" it writes down what it finds in itself. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "base/status.h"
#include "os/process.h"

enum { REPORT_FD = 7, PATIENCE_MS = 30000 };

static const char *self_program = "/proc/self/exe";

/* ---- The child ---- */

static int report(void) {
  FILE *out = fdopen(REPORT_FD, "w");
  if (out == NULL) return 9;
  fprintf(out, "fds");
  for (int fd = 0; fd < 256; fd++)
    if (fcntl(fd, F_GETFD) >= 0) fprintf(out, " %d", fd);
  char path[512] = "";
  ssize_t size = readlink("/proc/self/fd/0", path, sizeof(path) - 1);
  path[size > 0 ? size : 0] = '\0';
  fprintf(out, "\nstdin %s\n", path);
  fprintf(out, "group %s\n", getpgrp() == getpid() ? "own" : "inherited");
  fprintf(out, "cwd %s\n", getcwd(path, sizeof(path)) != NULL ? path : "?");
  const char *names[] = {"DISCO_TEST_KEPT", "DISCO_TEST_REPLACED", "DISCO_TEST_ADDED", "DISCO_TEST_KEP"};
  for (int i = 0; i < 4; i++) fprintf(out, "%s=%s\n", names[i], getenv(names[i]) != NULL ? getenv(names[i]) : "(none)");
  sigset_t blocked;
  sigprocmask(SIG_SETMASK, NULL, &blocked);
  int num_blocked = 0;
  for (int i = 1; i < NSIG; i++) num_blocked += sigismember(&blocked, i) == 1;
  struct sigaction pipe_action, int_action;
  sigaction(SIGPIPE, NULL, &pipe_action);
  sigaction(SIGINT, NULL, &int_action);
  fprintf(out, "signals %d %s %s\n", num_blocked, pipe_action.sa_handler == SIG_DFL ? "default" : "not",
          int_action.sa_handler == SIG_DFL ? "default" : "not");
  fprintf(out, "end\n");
  return fclose(out) == 0 ? 0 : 9;
}

/* ---- Helpers ---- */

static const char *const *shell(const char *script) {
  static const char *argv[4] = {"sh", "-c", NULL, NULL};
  argv[2] = script;
  return argv;
}

static int start_shell(const char *script, int64_t *ret_pid) {
  dsc_spawn how = {.program = "sh", .argv = shell(script)};
  int64_t pid = -1;
  int pidfd = -1;
  assert_int_equal(dsc_process_spawn(&how, &pid, &pidfd), DISCO_OK);
  assert_true(pid > 0);
  assert_true(pidfd >= 0);
  assert_int_equal(fcntl(pidfd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  if (ret_pid != NULL) *ret_pid = pid;
  return pidfd;
}

static dsc_process_end end_of(int pidfd) {
  dsc_process_end end;
  memset(&end, 0x5a, sizeof(end));
  assert_true(dsc_process_wait(pidfd, PATIENCE_MS));
  assert_true(dsc_process_has_ended(pidfd, &end));
  return end;
}

static void let_go(int pidfd) {
  dsc_process_reap(pidfd);
  close(pidfd);
}

static bool have_children(void) {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static int open_descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 512; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* A pipe with high numbers, so that a closed stdout stays closed. */
static void open_pipe(int ends[2]) {
  int low[2];
  assert_int_equal(pipe2(low, O_CLOEXEC), 0);
  for (int i = 0; i < 2; i++) {
    ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, 20);
    assert_true(ends[i] >= 20);
  }
  close(low[0]);
  close(low[1]);
}

/* Spawns this program's "report" with *how's other settings and returns what it wrote. */
static char *get_report(dsc_spawn how) {
  static char text[4096];
  int ends[2];
  open_pipe(ends);
  how.program = self_program;
  how.argv = (const char *const[]){"process_test", "report", NULL};
  how.child_fd[how.num_fds] = REPORT_FD;
  how.own_fd[how.num_fds++] = ends[1];
  int64_t pid;
  int pidfd;
  assert_int_equal(dsc_process_spawn(&how, &pid, &pidfd), DISCO_OK);
  close(ends[1]);
  size_t size = 0;
  for (ssize_t got; (got = read(ends[0], text + size, sizeof(text) - 1 - size)) > 0;) size += (size_t)got;
  text[size] = '\0';
  close(ends[0]);
  dsc_process_end end = end_of(pidfd);
  assert_true(end.known);
  assert_int_equal(end.signal, 0);
  assert_int_equal(end.status, 0);
  let_go(pidfd);
  assert_non_null(strstr(text, "\nend\n"));
  return text;
}

static void assert_says(const char *text, const char *line) {
  if (strstr(text, line) == NULL) fail_msg("no \"%s\" in:\n%s", line, text);
}

static void assert_error_says(const char *part) { assert_says(disco_last_error_text(), part); }

/* ---- What the child starts with ---- */

static void a_child_has_only_what_it_was_given(void **state) {
  (void)state;
  int leak = open("/dev/null", O_RDONLY); /* no close-on-exec: a careless host program */
  assert_true(leak > 2);
  assert_true(dup2(leak, 5) == 5);
  assert_true(dup2(leak, 100) == 100);
  char *text = get_report((dsc_spawn){.num_fds = 0});
  assert_says(text, "fds 0 1 2 7\n");
  assert_says(text, "stdin /dev/null\n");
  assert_says(text, "group own\n");
  close(leak);
  close(5);
  close(100);
}

/* The pipes' numbers in the child are each other's numbers here: neither may overwrite the other. */
static void descriptors_may_swap_their_numbers(void **state) {
  (void)state;
  int one[2], two[2];
  assert_int_equal(pipe2(one, O_CLOEXEC), 0);
  assert_int_equal(pipe2(two, O_CLOEXEC), 0);
  dsc_spawn how = {.program = "/bin/sh", .num_fds = 3};
  char script[128];
  assert_true(one[1] < 10 && two[1] < 10); /* sh knows one digit only */
  (void)snprintf(script, sizeof(script), "echo to-%d >&%d; echo to-%d >&%d; echo to-stdout", one[1], one[1], two[1],
                 two[1]);
  how.argv = shell(script);
  how.child_fd[0] = two[1], how.own_fd[0] = one[1];
  how.child_fd[1] = one[1], how.own_fd[1] = two[1];
  how.child_fd[2] = 1, how.own_fd[2] = one[1];
  int64_t pid;
  int pidfd;
  assert_int_equal(dsc_process_spawn(&how, &pid, &pidfd), DISCO_OK);
  assert_int_equal(end_of(pidfd).status, 0);
  let_go(pidfd);
  char text[64] = "", expected[64];
  assert_true(read(one[0], text, sizeof(text) - 1) > 0);
  (void)snprintf(expected, sizeof(expected), "to-%d\nto-stdout\n", two[1]);
  assert_string_equal(text, expected);
  memset(text, 0, sizeof(text));
  assert_true(read(two[0], text, sizeof(text) - 1) > 0);
  (void)snprintf(expected, sizeof(expected), "to-%d\n", one[1]);
  assert_string_equal(text, expected);
  for (int i = 0; i < 2; i++) close(one[i]), close(two[i]);
}

/* The numbers asked for are those that a copy of a descriptor would get next. */
static void a_number_may_be_that_of_a_copy(void **state) {
  (void)state;
  int one[2], two[2], first_free = dup(2);
  close(first_free);
  assert_int_equal(pipe2(one, O_CLOEXEC), 0);
  assert_int_equal(pipe2(two, O_CLOEXEC), 0);
  first_free += 4;
  assert_true(first_free + 1 < 10);
  char script[64], text[64] = "";
  (void)snprintf(script, sizeof(script), "echo one >&%d; echo two >&%d", first_free + 1, first_free);
  dsc_spawn how = {.program = "sh", .argv = shell(script), .num_fds = 2};
  how.child_fd[0] = first_free + 1, how.own_fd[0] = one[1];
  how.child_fd[1] = first_free, how.own_fd[1] = two[1];
  int64_t pid;
  int pidfd;
  assert_int_equal(dsc_process_spawn(&how, &pid, &pidfd), DISCO_OK);
  assert_int_equal(end_of(pidfd).status, 0);
  let_go(pidfd);
  close(one[1]);
  close(two[1]);
  assert_int_equal(read(one[0], text, sizeof(text)), 4);
  assert_memory_equal(text, "one\n", 4);
  assert_int_equal(read(two[0], text, sizeof(text)), 4);
  assert_memory_equal(text, "two\n", 4);
  close(one[0]);
  close(two[0]);
}

static void a_descriptor_keeps_its_number_and_stdin_may_be_given(void **state) {
  (void)state;
  int ends[2];
  assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
  assert_int_equal(write(ends[1], "x\n", 2), 2);
  dsc_spawn how = {.program = "sh", .num_fds = 2};
  char script[128];
  (void)snprintf(script, sizeof(script), "read a; read b <&%d; test \"$a$b\" = xy", ends[0]);
  how.argv = shell(script);
  how.child_fd[0] = ends[0], how.own_fd[0] = ends[0]; /* close-on-exec here, and kept there */
  how.child_fd[1] = 0, how.own_fd[1] = ends[0];
  int64_t pid;
  int pidfd;
  assert_int_equal(dsc_process_spawn(&how, &pid, &pidfd), DISCO_OK);
  assert_int_equal(write(ends[1], "y\n", 2), 2);
  assert_int_equal(end_of(pidfd).status, 0);
  let_go(pidfd);
  assert_int_equal(fcntl(ends[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  close(ends[0]);
  close(ends[1]);
}

/* Otherwise the first file the child opens would become its stdout. */
static void a_closed_stdout_is_nowhere(void **state) {
  (void)state;
  fflush(stdout);
  int copy = fcntl(1, F_DUPFD_CLOEXEC, 20);
  assert_true(copy >= 20);
  close(1);
  char *text = get_report((dsc_spawn){.num_fds = 0});
  bool is_closed = fcntl(1, F_GETFD) < 0 || dup2(copy, 1) == 1;
  (void)dup2(copy, 1);
  close(copy);
  assert_true(is_closed);
  assert_says(text, "fds 0 1 2 7\n");
}

static void environment_is_added_and_replaced(void **state) {
  (void)state;
  setenv("DISCO_TEST_KEPT", "kept", 1);
  setenv("DISCO_TEST_REPLACED", "old", 1);
  unsetenv("DISCO_TEST_KEP");
  const char *const added[] = {"DISCO_TEST_REPLACED=newer", "DISCO_TEST_ADDED=first", "DISCO_TEST_ADDED=a=b",
                               "DISCO_TEST_KEP=a name that others begin with", NULL};
  char *text = get_report((dsc_spawn){.environment = added});
  assert_says(text, "DISCO_TEST_KEPT=kept\n");
  assert_says(text, "DISCO_TEST_REPLACED=newer\n");
  assert_says(text, "DISCO_TEST_ADDED=a=b\n");
  assert_says(text, "DISCO_TEST_KEP=a name that others begin with\n");
  assert_string_equal(getenv("DISCO_TEST_REPLACED"), "old");
  assert_null(getenv("DISCO_TEST_ADDED"));
}

static void the_working_directory_is_set(void **state) {
  (void)state;
  char folder[] = "/tmp/disco_process_XXXXXX", expected[64];
  assert_non_null(mkdtemp(folder));
  char *text = get_report((dsc_spawn){.working_directory = folder});
  (void)snprintf(expected, sizeof(expected), "cwd %s\n", folder);
  assert_says(text, expected);
  rmdir(folder);
}

static void signals_are_as_in_a_fresh_process(void **state) {
  (void)state;
  sigset_t some, before;
  sigemptyset(&some);
  sigaddset(&some, SIGTERM);
  sigaddset(&some, SIGUSR1);
  sigprocmask(SIG_BLOCK, &some, &before);
  void (*old_pipe)(int) = signal(SIGPIPE, SIG_IGN);
  void (*old_int)(int) = signal(SIGINT, SIG_IGN);
  char *text = get_report((dsc_spawn){.num_fds = 0});
  assert_says(text, "signals 0 default default\n");
  assert_true(signal(SIGPIPE, old_pipe) == SIG_IGN);
  signal(SIGINT, old_int);
  sigprocmask(SIG_SETMASK, &before, NULL);
}

/* ---- What cannot be started ---- */

static void assert_cannot_start(dsc_spawn how, disco_status expected) {
  int before = open_descriptors();
  int64_t pid = -77;
  int pidfd = -77;
  assert_int_equal(dsc_process_spawn(&how, &pid, &pidfd), expected);
  assert_int_equal(pid, -77);
  assert_int_equal(pidfd, -77);
  assert_int_equal(open_descriptors(), before);
  assert_false(have_children());
}

static void what_does_not_exist_is_named(void **state) {
  (void)state;
  const char *const argv[] = {"x", NULL};
  assert_cannot_start((dsc_spawn){.program = "/no/such/program", .argv = argv}, DISCO_VALUE);
  assert_error_says("'/no/such/program'");
  assert_error_says("ENOENT");
  assert_cannot_start((dsc_spawn){.program = "no-such-program-anywhere", .argv = argv}, DISCO_VALUE);
  assert_error_says("'no-such-program-anywhere'");
  assert_error_says("PATH");
  assert_cannot_start((dsc_spawn){.program = "/etc/passwd", .argv = argv}, DISCO_VALUE); /* not executable */
  assert_error_says("EACCES");
  assert_cannot_start((dsc_spawn){.program = "/bin/sh", .argv = argv, .working_directory = "/no/such/folder"},
                      DISCO_VALUE);
  assert_error_says("working directory '/no/such/folder'");
  assert_cannot_start((dsc_spawn){.program = "/bin/sh", .argv = argv, .working_directory = "/etc/passwd"}, DISCO_VALUE);
  assert_error_says("ENOTDIR");
  /* The folder is there: the program is to blame. */
  assert_cannot_start((dsc_spawn){.program = "/no/such/program", .argv = argv, .working_directory = "/tmp"},
                      DISCO_VALUE);
  assert_error_says("'/no/such/program'");
  assert_cannot_start((dsc_spawn){.program = "sh", .argv = argv, .num_fds = DSC_SPAWN_MAX_FDS + 1}, DISCO_VALUE);
  assert_cannot_start((dsc_spawn){.program = "sh", .argv = argv, .num_fds = 1, .child_fd = {3}, .own_fd = {400}},
                      DISCO_RUNTIME);
  assert_error_says("EBADF");
}

/* Every number of free descriptors, down to none: it works or says why, and nothing is left. */
static void a_descriptor_limit_is_explained(void **state) {
  (void)state;
  struct rlimit before;
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  int own[2], worked = 0, refused = 0;
  assert_int_equal(pipe2(own, O_CLOEXEC), 0);
  int open_before = open_descriptors();
  for (int room = 0; room < 8; room++) {
    struct rlimit tight = {.rlim_cur = (rlim_t)(own[1] + 1 + room), .rlim_max = before.rlim_max};
    dsc_spawn how = {
        .program = "/bin/true", .argv = (const char *const[]){"true", NULL}, .num_fds = 2, .child_fd = {3, 4}};
    how.own_fd[0] = own[0], how.own_fd[1] = own[1];
    int64_t pid;
    int pidfd;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    disco_status status = dsc_process_spawn(&how, &pid, &pidfd);
    bool is_child_left = status != DISCO_OK && have_children();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_false(is_child_left);
    if (status == DISCO_OK) {
      worked++;
      (void)end_of(pidfd);
      let_go(pidfd);
    } else {
      refused++;
      assert_int_equal(status, DISCO_RUNTIME);
      assert_error_says("EMFILE");
      assert_error_says("ulimit -n");
    }
    assert_int_equal(open_descriptors(), open_before);
  }
  assert_true(worked > 0 && refused >= 2);
  close(own[0]);
  close(own[1]);
}

/* Root's processes are not counted, so a child becomes nobody first. */
static int start_as_nobody_without_room(void) {
  struct rlimit none = {0, 0};
  if (getuid() == 0 && setresuid(65534, 65534, 65534) != 0) return 77;
  if (setrlimit(RLIMIT_NPROC, &none) != 0) return 77;
  dsc_spawn how = {.program = "/bin/true", .argv = (const char *const[]){"true", NULL}};
  int64_t pid;
  int pidfd;
  if (dsc_process_spawn(&how, &pid, &pidfd) != DISCO_RUNTIME) return 1;
  if (strstr(disco_last_error_text(), "EAGAIN") == NULL) return 2;
  return strstr(disco_last_error_text(), "ulimit -u") != NULL ? 0 : 3;
}

static void a_process_limit_is_explained(void **state) {
  (void)state;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) _exit(start_as_nobody_without_room());
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) skip(); /* cannot become anybody else here */
  assert_int_equal(WEXITSTATUS(status), 0);
}

#if defined(DISCO_INJECT) && DISCO_INJECT
static void every_refusal_leaves_nothing(void **state) {
  (void)state;
  (void)dsc_fail(DISCO_VALUE, "this thread has its record"); /* so that only spawn's own points are counted */
  int before = open_descriptors(), refused = 0;
  for (int n = 1;; n++) {
    dsc_spawn how = {.program = "sh", .argv = shell("exec sleep 100"), .num_fds = 1, .child_fd = {3}, .own_fd = {2}};
    int64_t pid = -77;
    int pidfd = -77;
    (void)dsc_inject_fail_allocation(n);
    disco_status status = dsc_process_spawn(&how, &pid, &pidfd);
    (void)dsc_inject_fail_allocation(0);
    if (status == DISCO_OK) {
      assert_true(dsc_process_signal(pidfd, SIGKILL));
      assert_int_equal(end_of(pidfd).signal, SIGKILL);
      let_go(pidfd);
      break;
    }
    refused++;
    assert_true(status == DISCO_MEMORY || status == DISCO_RUNTIME);
    assert_true(strlen(disco_last_error_text()) > 10);
    assert_int_equal(pid, -77);
    assert_false(have_children());
    assert_int_equal(open_descriptors(), before);
  }
  assert_int_equal(refused, 4); /* environment, copied descriptor, spawn, pidfd */
  assert_int_equal(open_descriptors(), before);
}
#endif

/* ---- How it ended ---- */

static void exit_status_and_signals_are_told(void **state) {
  (void)state;
  int pidfd = start_shell("exit 3", NULL);
  dsc_process_end end = end_of(pidfd);
  assert_true(end.known);
  assert_int_equal(end.status, 3);
  assert_int_equal(end.signal, 0);
  assert_false(end.is_core);
  assert_int_equal(end_of(pidfd).status, 3); /* looked at, not reaped */
  assert_true(dsc_process_has_ended(pidfd, NULL));
  let_go(pidfd);

  const int signals[] = {SIGKILL, SIGTERM, SIGSEGV, SIGABRT};
  for (int i = 0; i < 4; i++) {
    char script[64];
    (void)snprintf(script, sizeof(script), "ulimit -c 0; kill -%d $$; sleep 100", signals[i]);
    pidfd = start_shell(script, NULL);
    end = end_of(pidfd);
    assert_true(end.known);
    assert_int_equal(end.signal, signals[i]);
    assert_int_equal(end.status, 0);
    assert_false(end.is_core); /* ulimit */
    let_go(pidfd);
  }
  assert_false(have_children());
}

static void a_running_child_has_not_ended(void **state) {
  (void)state;
  int64_t pid;
  int pidfd = start_shell("exec sleep 100", &pid);
  dsc_process_end end = {.known = true, .status = 55};
  assert_false(dsc_process_has_ended(pidfd, &end));
  assert_int_equal(end.status, 55); /* written on an end only */
  assert_false(dsc_process_wait(pidfd, 0));
  assert_false(dsc_process_wait(pidfd, -1));
  struct timespec before, after;
  clock_gettime(CLOCK_MONOTONIC, &before);
  assert_false(dsc_process_wait(pidfd, 30));
  clock_gettime(CLOCK_MONOTONIC, &after);
  assert_true((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 29);
  dsc_process_reap(pidfd); /* no zombie: nothing happens, nothing blocks */
  assert_true(dsc_process_signal(pidfd, 0));
  assert_true(dsc_process_signal(pidfd, SIGTERM));
  assert_int_equal(end_of(pidfd).signal, SIGTERM);
  assert_int_equal(dsc_process_state(pid), 'Z');
  assert_false(dsc_process_signal(pidfd, SIGKILL)); /* a zombie has ended */
  dsc_process_reap(pidfd);
  dsc_process_reap(pidfd);
  assert_int_equal(dsc_process_state(pid), 0);
  assert_false(dsc_process_signal(pidfd, SIGKILL));
  close(pidfd);
}

static void a_child_that_the_host_reaped_is_dead_of_unknown_cause(void **state) {
  (void)state;
  int64_t pid;
  int pidfd = start_shell("exit 3", &pid);
  int status;
  assert_int_equal(waitpid((pid_t)pid, &status, 0), pid); /* the host program's handler */
  dsc_process_end end = end_of(pidfd);
  assert_false(end.known);
  assert_int_equal(end.signal, 0);
  assert_int_equal(end.status, 0);
  dsc_process_reap(pidfd);
  assert_false(dsc_process_signal(pidfd, SIGKILL));
  close(pidfd);
}

/* SIG_IGN for SIGCHLD: the kernel reaps at once. Starting works or says so. */
static void a_host_that_ignores_its_children_is_told_or_served(void **state) {
  (void)state;
  void (*old)(int) = signal(SIGCHLD, SIG_IGN);
  int before = open_descriptors();
  for (int i = 0; i < 20; i++) {
    dsc_spawn how = {.program = "/bin/true", .argv = (const char *const[]){"true", NULL}};
    int64_t pid;
    int pidfd;
    disco_status status = dsc_process_spawn(&how, &pid, &pidfd);
    if (status == DISCO_OK) {
      assert_false(end_of(pidfd).known);
      close(pidfd);
    } else {
      assert_int_equal(status, DISCO_RUNTIME);
      assert_error_says("ESRCH");
    }
  }
  assert_int_equal(open_descriptors(), before);
  signal(SIGCHLD, old);
}

/* A grandchild: alive and dead are seen through its pidfd alone. */
static void a_process_that_is_not_ours_is_watched(void **state) {
  (void)state;
  int ends[2];
  assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
  dsc_spawn how = {.program = "sh", .argv = shell("sleep 100 & echo $!; wait"), .num_fds = 1, .child_fd = {1}};
  how.own_fd[0] = ends[1];
  int64_t pid;
  int pidfd;
  assert_int_equal(dsc_process_spawn(&how, &pid, &pidfd), DISCO_OK);
  char text[32] = "";
  assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
  int other = dsc_process_open(strtol(text, NULL, 10));
  assert_true(other >= 0);
  assert_int_equal(fcntl(other, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  assert_false(dsc_process_has_ended(other, NULL));
  assert_true(dsc_process_signal(other, SIGKILL));
  assert_false(end_of(other).known);
  assert_int_equal(end_of(pidfd).status, 0);
  close(other);
  let_go(pidfd);
  close(ends[0]);
  close(ends[1]);
}

static void numbers_that_are_no_process_are_refused(void **state) {
  (void)state;
  const int64_t bad[] = {0, -1, INT64_MAX, ((int64_t)1 << 32) + 1, 4194304};
  for (int i = 0; i < 5; i++) {
    assert_int_equal(dsc_process_open(bad[i]), -1);
    assert_error_says("ESRCH");
    assert_int_equal(dsc_process_state(bad[i]), 0);
  }
  dsc_process_end end;
  assert_false(dsc_process_has_ended(-1, &end));
  assert_false(dsc_process_has_ended(250, &end)); /* not open */
  assert_false(dsc_process_wait(-1, 1));
  assert_false(dsc_process_wait(250, 5));
  assert_false(dsc_process_signal(-1, SIGKILL));
  dsc_process_reap(-1);
}

/* ---- States and names ---- */

static void a_stopped_process_is_seen(void **state) {
  (void)state;
  int64_t pid;
  int pidfd = start_shell("exec sleep 100", &pid);
  assert_true(dsc_process_signal(pidfd, SIGSTOP));
  for (int i = 0; dsc_process_state(pid) != 'T' && i < PATIENCE_MS; i++) usleep(1000);
  assert_int_equal(dsc_process_state(pid), 'T');
  assert_false(dsc_process_has_ended(pidfd, NULL));
  assert_false(dsc_process_wait(pidfd, 5)); /* a stop is not an end */
  assert_true(dsc_process_signal(pidfd, SIGKILL));
  assert_int_equal(end_of(pidfd).signal, SIGKILL);
  let_go(pidfd);
  assert_int_equal(dsc_process_state(getpid()), 'R');
}

static void a_bracket_in_the_name_does_not_confuse(void **state) {
  (void)state;
  char name[16] = "";
  assert_int_equal(prctl(PR_GET_NAME, name), 0);
  assert_int_equal(prctl(PR_SET_NAME, "a) Z (b"), 0);
  char letter = dsc_process_state(getpid());
  assert_int_equal(prctl(PR_SET_NAME, name), 0);
  assert_int_equal(letter, 'R');
}

static void signals_have_names(void **state) {
  (void)state;
  char memory[16];
  assert_string_equal(dsc_signal_name(SIGKILL, memory, sizeof(memory)), "SIGKILL");
  assert_string_equal(dsc_signal_name(SIGSEGV, memory, sizeof(memory)), "SIGSEGV");
  assert_string_equal(dsc_signal_name(77, memory, sizeof(memory)), "signal 77");
  assert_string_equal(dsc_signal_name(0, memory, sizeof(memory)), "signal 0");
  assert_string_equal(dsc_signal_name(-5, memory, sizeof(memory)), "signal -5");
  assert_ptr_equal(dsc_signal_name(SIGKILL, memory, 4), memory);
  assert_string_equal(memory, "SIG");
}

static void a_process_leaves_its_group_and_ends_at_once(void **state) {
  (void)state;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    dsc_process_own_group();
    dsc_process_exit_now(getpgrp() == getpid() ? 42 : 43);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 42);
}

static int nothing_is_left(void **state) {
  (void)state;
  return have_children() ? -1 : 0;
}

#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "report") == 0) return report();
  alarm(120);
  const struct CMUnitTest tests[] = {
    TEST(a_child_has_only_what_it_was_given),
    TEST(descriptors_may_swap_their_numbers),
    TEST(a_number_may_be_that_of_a_copy),
    TEST(a_descriptor_keeps_its_number_and_stdin_may_be_given),
    TEST(a_closed_stdout_is_nowhere),
    TEST(environment_is_added_and_replaced),
    TEST(the_working_directory_is_set),
    TEST(signals_are_as_in_a_fresh_process),
    TEST(what_does_not_exist_is_named),
    TEST(a_descriptor_limit_is_explained),
    TEST(a_process_limit_is_explained),
#if defined(DISCO_INJECT) && DISCO_INJECT
    TEST(every_refusal_leaves_nothing),
#endif
    TEST(exit_status_and_signals_are_told),
    TEST(a_running_child_has_not_ended),
    TEST(a_child_that_the_host_reaped_is_dead_of_unknown_cause),
    TEST(a_host_that_ignores_its_children_is_told_or_served),
    TEST(a_process_that_is_not_ours_is_watched),
    TEST(numbers_that_are_no_process_are_refused),
    TEST(a_stopped_process_is_seen),
    TEST(a_bracket_in_the_name_does_not_confuse),
    TEST(signals_have_names),
    TEST(a_process_leaves_its_group_and_ends_at_once),
  };
  return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
