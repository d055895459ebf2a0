/* Shutdown while workers hang, print or never answer, and what is left of sessions and of workers that died. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/inject.h"
#include "processes/support.h"

enum { FOR_EVER_MS = 1000 * 1000, SMALL_GRACE_MS = 300 };

/* ---- Waiting while another thread shuts down ---- */

typedef struct {
  disco_session *session;
  disco_status status;
} waiter;

static void wait_for_ever(void *context) {
  waiter *self = context;
  self->status = disco_session_sync(self->session, DISCO_ALL_WORKERS, DISCO_FOREVER);
}

/* The worker never does what is waited for: its call must come back with the shutdown. */
static void shut_down_beside_a_wait(disco_session *session) {
  waiter self = {session, DISCO_OK};
  beside it;
  start_beside(&it, wait_for_ever, &self);
  sleep_ms(100); /* most likely it waits by now */
  (void)shut_down(session);
  join_bounded(&it, "sync beside shutdown");
  assert_int_equal(self.status, DISCO_CLOSED);
  disco_session_unref(session);
}

static void a_wait_for_a_stuck_worker_ends_with_shutdown(void **state) {
  (void)state;
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(3, pipe == 1);
    options.grace_ms = SMALL_GRACE_MS;
    disco_session *session = open_with(&options);
    await_all(session);
    post(session, "p.nap", ARGS(dsc_int(FOR_EVER_MS), dsc_int(1)));
    shut_down_beside_a_wait(session);
  }
}

static void a_wait_for_a_worker_that_never_answers_ends_with_shutdown(void **state) {
  (void)state;
  static const char *const environment[] = {"TEST_START=sleep", NULL};
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(2, pipe == 1);
    options.grace_ms = SMALL_GRACE_MS;
    options.environment = environment;
    disco_session *session = open_with(&options);
    post(session, "p.nop", NO_ARGS);
    shut_down_beside_a_wait(session);
  }
}

/* ---- A backlog of replies ---- */

/* On a pipe the thread that takes them in waits for room of theirs. */
static void shutdown_ends_behind_replies_that_nobody_fetches(void **state) {
  (void)state;
  for (int kills = 0; kills < 2; kills++) {
    disco_session_options options = options_of(2, true);
    options.grace_ms = SMALL_GRACE_MS;
    disco_session *session = open_with(&options);
    pid_t pid = pid_of(session, 1);
    disco_dref *text = call(session, "p.text", ARGS(dsc_int(900)));
    await_all(session);
    post(session, "p.nap", ARGS(dsc_int(200), dsc_int(1)));
    for (int i = 0; i < 80; i++) {
      TVMFFIAny value = dsc_none();
      assert_int_equal(disco_debug_get(text, 1, 0, &value), DISCO_TIMEOUT);
    }
    sleep_ms(400); /* the replies are there; nobody waits, so nobody takes them */
    if (kills == 1) assert_int_equal(kill(pid, SIGKILL), 0);
    if (kills == 1) sleep_ms(100);
    disco_status status = shut_down(session);
    if (kills == 0) assert_int_equal(status, DISCO_OK);
    disco_dref_unref(text);
    disco_session_unref(session);
  }
}

/* ---- What is left ---- */

/* The session object lives on, its memory's descriptors do not. */
static void no_descriptor_of_shared_memory_outlives_shutdown(void **state) {
  (void)state;
  const int before = count_descriptors("memfd:disco");
  for (int dies = 0; dies < 2; dies++)
    for (int pipe = 0; pipe < 2; pipe++) {
      disco_session *session = open_session(3, pipe == 1);
      TVMFFIAny large = text_of(1 << 20);
      pid_t pid = pid_of(session, 1);
      disco_dref *function = find(session, "p.nop"), *kept = NULL;
      OK(disco_call(session, function, &large, 1, &kept));
      await_all(session);
      assert_true(count_descriptors("memfd:disco") > before);
      /* Some large arguments are under way when it ends. */
      post(session, "p.nap", ARGS(dsc_int(100), dsc_int(1)));
      for (int i = 0; i < 5; i++) OK(disco_call(session, function, &large, 1, NULL));
      if (dies == 1) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        (void)await_lost(session, 1);
      }
      (void)shut_down(session);
      assert_int_equal(count_descriptors("memfd:disco"), before);
      dsc_value_drop(&large);
      disco_dref_unref(kept);
      disco_dref_unref(function);
      disco_session_unref(session);
    }
}

/* How often threads of the library have slept. */
static long count_sleeps(void) {
  long sleeps = 0;
  DIR *folder = opendir("/proc/self/task");
  assert_non_null(folder);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char path[300], line[256];
    bool ours = false;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
      long number = 0;
      if (strncmp(line, "Name:\tdisco", 11) == 0) ours = true;
      if (ours && sscanf(line, "voluntary_ctxt_switches: %ld", &number) == 1) sleeps += number;
    }
    if (file != NULL) (void)fclose(file);
  }
  (void)closedir(folder);
  return sleeps;
}

static bool nobody_wakes(void *unused) {
  (void)unused;
  long before = count_sleeps();
  sleep_ms(300);
  return count_sleeps() == before;
}

typedef struct {
  int count;
} memfds;

static bool are_as_many(void *context) { return count_descriptors("memfd:disco") == ((memfds *)context)->count; }

/* A large argument that the dead worker will never have done must not be waited for by looking again and again. */
static void nobody_wakes_after_a_loss(void **state) {
  (void)state;
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(2, pipe == 1);
    TVMFFIAny large = text_of(200 * 1000);
    pid_t pid = pid_of(session, 1);
    memfds files = {count_descriptors("memfd:disco")};
    post(session, "p.nap", ARGS(dsc_int(FOR_EVER_MS), dsc_int(1)));
    post(session, "p.nop", &large, 1);
    assert_int_equal(count_descriptors("memfd:disco"), files.count + 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    (void)await_lost(session, 1);
    assert_true(until(are_as_many, &files));
    assert_true(until(nobody_wakes, NULL));
    dsc_value_drop(&large);
    end_session(session);
  }
}

/* ---- Deaths ---- */

static void a_worker_that_dies_before_its_answer_is_named(void **state) {
  (void)state;
  static const char *const environment[] = {"TEST_START=exit", NULL};
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session_options options = options_of(2, pipe == 1);
    char process[64];
    options.environment = environment;
    disco_session *session = open_with(&options);
    disco_error_info error = await_lost(session, 1);
    assert_true(error.pid > 1);
    assert_int_equal(error.exit_status, 7);
    (void)snprintf(process, sizeof(process), "process %lld", (long long)error.pid);
    CONTAINS(error.text, process);
    CONTAINS(error.text, "had not started yet");
    end_session(session);
  }
}

static void a_death_inside_a_function_names_it(void **state) {
  (void)state;
  for (int round = scaled(20, 3); round > 0; round--) {
    disco_session *session = open_session(2, true);
    disco_dref *nop = find(session, "p.nop"), *die = find(session, "p.die");
    await_all(session);
    for (int i = 0; i < 300; i++) OK(disco_call(session, nop, NULL, 0, NULL));
    OK(disco_call(session, die, ARGS(dsc_int(1)), NULL));
    disco_error_info error = await_lost(session, 1);
    assert_non_null(error.function);
    assert_string_equal(error.function, "p.die");
    CONTAINS(error.text, "p.die");
    disco_dref_unref(nop);
    disco_dref_unref(die);
    end_session(session);
  }
}

/* ---- A terminal that nobody reads ---- */

static bool is_full(void *unused) {
  (void)unused;
  struct pollfd terminal = {2, POLLOUT, 0};
  return poll(&terminal, 1, 0) == 0;
}

#define NEED(condition)                                     \
  do {                                                      \
    if (!(condition)) {                                     \
      (void)printf("%d: %s\n", __LINE__, #condition);       \
      (void)printf("error: %s\n", disco_last_error_text()); \
      return 1;                                             \
    }                                                       \
  } while (0)

/* A controller whose stderr is that terminal. */
static int print_to_nobody(void) {
  alarm(2 * BOUND_MS / 1000);
  int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  NEED(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  int side = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  NEED(side >= 0 && dup2(side, 2) == 2);
  disco_session_options options = options_of(3, false);
  disco_session *session = NULL;
  disco_dref *function = NULL;
  const TVMFFIAny one = dsc_int(1);
  bool done = false;
  options.output = NULL;
  options.grace_ms = SMALL_GRACE_MS;
  NEED(disco_session_create_process(&options, &session) == DISCO_OK);
  NEED(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS) == DISCO_OK);
  NEED(disco_session_get_global_func(session, "p.print", &function) == DISCO_OK);
  NEED(disco_call(session, function, &one, 1, NULL) == DISCO_OK);
  disco_dref_unref(function);
  for (int i = 0; i < 100 && !done; i++, sleep_ms(5)) done = is_full(NULL); /* or nearly: then it drops what is left */
  sleep_ms(100);
  disco_dref *pids = NULL;
  TVMFFIAny pid = dsc_none();
  /* Worker 2 dies, worker 1 prints on. */
  NEED(disco_session_get_global_func(session, "p.pid", &function) == DISCO_OK);
  NEED(disco_call(session, function, NULL, 0, &pids) == DISCO_OK);
  NEED(disco_debug_get(pids, 2, BOUND_MS, &pid) == DISCO_OK);
  NEED(kill((pid_t)pid.v_int64, SIGKILL) == 0);
  NEED(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS) == DISCO_LOST);
  disco_dref_unref(pids);
  disco_dref_unref(function);
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
  return 0;
}

typedef struct {
  pid_t pid;
  int status;
} watched;

static bool has_ended(void *context) {
  watched *self = context;
  return waitpid(self->pid, &self->status, WNOHANG) == self->pid;
}

extern char **environ;

static void a_terminal_that_nobody_reads_holds_nothing_up(void **state) {
  (void)state;
  char program[] = "/proc/self/exe", role[] = "role";
  char *argv[] = {program, role, NULL};
  watched child = {0, -1};
  assert_int_equal(posix_spawn(&child.pid, program, NULL, NULL, argv, environ), 0);
  bool ended = until(has_ended, &child);
  if (!ended) ended = until(has_ended, &child);
  if (!ended) {
    (void)kill(child.pid, SIGKILL);
    (void)waitpid(child.pid, &child.status, 0);
  }
  assert_true(ended);
  assert_int_equal(child.status, 0);
}

/* ---- Sessions that cannot be made ---- */

typedef struct {
  long n;
  disco_status status;
} creating;

/* Taking the whole grace would be ten minutes. */
static void create_and_end(void *context) {
  creating *self = context;
  disco_session_options options = options_of(3, false);
  disco_session *session = NULL;
  options.grace_ms = 600 * 1000;
  (void)dsc_inject_fail_allocation(self->n);
  self->status = disco_session_create_process(&options, &session);
  (void)dsc_inject_fail_allocation(0);
  if (self->status != DISCO_OK) return;
  self->status = disco_session_shutdown(session);
  disco_session_unref(session);
}

static void a_session_that_cannot_be_made_leaves_no_child_and_takes_no_grace(void **state) {
  (void)state;
  enum { MOST = 200 };
  creating it = {1, DISCO_MEMORY};
  int refused = 0;
  for (; it.n < MOST; it.n++) {
    run_bounded(create_and_end, &it, "making a session");
    assert_true(until(has_no_child, NULL));
    if (it.status == DISCO_OK) break;
    refused++;
  }
  assert_in_range(refused, 10, MOST - 2);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_wait_for_a_stuck_worker_ends_with_shutdown),
      cmocka_unit_test(a_wait_for_a_worker_that_never_answers_ends_with_shutdown),
      cmocka_unit_test(shutdown_ends_behind_replies_that_nobody_fetches),
      cmocka_unit_test(no_descriptor_of_shared_memory_outlives_shutdown),
      cmocka_unit_test(nobody_wakes_after_a_loss),
      cmocka_unit_test(a_worker_that_dies_before_its_answer_is_named),
      cmocka_unit_test(a_death_inside_a_function_names_it),
      cmocka_unit_test(a_terminal_that_nobody_reads_holds_nothing_up),
      cmocka_unit_test(a_session_that_cannot_be_made_leaves_no_child_and_takes_no_grace),
  };
  return processes_main(argc, argv, "processes.endings", tests, sizeof(tests) / sizeof(tests[0]), print_to_nobody);
}
