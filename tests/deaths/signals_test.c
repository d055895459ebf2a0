/* What the host program does around a session: takes children away, is interrupted a thousand times a second, or has no
 * time at all. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "deaths/support.h"

/* ---- Children are taken by the host program ---- */

static void take_all(int number) {
  (void)number;
  int saved = errno;
  while (waitpid(-1, NULL, WNOHANG) > 0) continue;
  errno = saved;
}

static void set_handler(int number, void (*handler)(int), int flags) {
  struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
  assert_int_equal(sigaction(number, &action, NULL), 0);
}

static void lose_one(bool pipe, int how) {
  disco_session *session = open_session(3, pipe);
  const pid_t pid = pid_of(session, 1);
  disco_dref *function = find(session, "d.id");
  post(session, "d.die", ARGS(dsc_int(1), dsc_int(10), dsc_int(how), dsc_int(0)));
  disco_error_info error = expect_lost(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), 1);
  assert_int_equal(error.pid, pid);
  assert_string_equal(error.function, "d.die");
  /* How may be known or not; what is said must be true. */
  assert_true(error.signal_number == -1 || (how < BY_EXIT && error.signal_number == how));
  assert_true(error.exit_status == -1 || (how >= BY_EXIT && error.exit_status == how % 100));
  expect_sticky(session, function);
  disco_dref_unref(function);
  close_session(session);
}

static void deaths_with_children_reaped_by_others(void (*handler)(int)) {
  census before = census_begin();
  set_handler(SIGCHLD, handler, 0);
  for (int i = 0; i < scaled(12, 4); i++) {
    lose_one(i % 2 == 1, i % 4 < 2 ? SIGKILL : BY_EXIT + 3);
    disco_session *session = open_session(3, i % 2 == 1); /* and one that ends in peace */
    expect_works(session);
    close_session(session);
  }
  set_handler(SIGCHLD, SIG_DFL, 0);
  census_end(&before);
}

static void sigchld_is_ignored(void **state) {
  (void)state;
  deaths_with_children_reaped_by_others(SIG_IGN);
}

static void a_handler_reaps_every_child(void **state) {
  (void)state;
  deaths_with_children_reaped_by_others(take_all);
}

/* ---- A storm of signals ---- */

static _Atomic long storms;
static void count_storm(int number) {
  (void)number;
  atomic_fetch_add(&storms, 1);
}

static timer_t start_storm(void) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  struct itimerspec every = {{0, 1000000}, {0, 1000000}};
  timer_t timer;
  set_handler(SIGUSR1, count_storm, 0); /* no SA_RESTART */
  assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
  assert_int_equal(timer_settime(timer, 0, &every, NULL), 0);
  return timer;
}

static void use_everything(bool pipe) {
  const int64_t size = 200000;
  TVMFFIObjectHandle tensor = NULL;
  disco_session *session = open_session(3, pipe);
  OK(disco_tensor_create(1, &size, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor));
  TVMFFIAny value = dsc_none(), large = dsc_object_value(tensor);
  expect_works(session);
  disco_dref *sized = call(session, "d.size", &large, 1);
  assert_true(get_int(sized, 2) >= size);
  disco_dref_unref(sized);
  disco_dref *big = call(session, "d.big", ARGS(dsc_int(300000)));
  for (int32_t i = 0; i < 3; i++) {
    OK(disco_debug_get(big, i, BOUND_MS, &value));
    dsc_value_drop(&value);
  }
  disco_dref_unref(big);
  disco_dref *nap = find(session, "d.nap"), *count = find(session, "d.count");
  OK(disco_call(session, nap, ARGS(dsc_int(-1), dsc_int(30)), NULL));
  TVMFFIAny numbers[64];
  for (int i = 0; i < 64; i++) numbers[i] = dsc_int(i);
  for (int i = 0; i < 600; i++) OK(disco_call(session, count, numbers, 64, NULL)); /* waits for room */
  assert_int_equal(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), DISCO_OK);
  disco_dref_unref(nap);
  disco_dref_unref(count);
  dsc_object_unref(tensor);
  expect_works(session);
  close_session(session);
}

static void a_thousand_signals_a_second(void **state) {
  (void)state;
  census before = census_begin();
  timer_t timer = start_storm();
  for (int i = 0; i < scaled(12, 4); i++) use_everything(i % 2 == 1);
  for (int i = 0; i < 4; i++) lose_one(i % 2 == 1, SIGKILL);
  assert_int_equal(timer_delete(timer), 0);
  assert_true(atomic_load(&storms) > 20);
  set_handler(SIGUSR1, SIG_IGN, 0);
  census_end(&before);
  set_handler(SIGUSR1, SIG_DFL, 0);
}

/* A host that blocks every signal, and one that closed its standard descriptors' readers: no SIGPIPE. */
static void signals_blocked_and_a_broken_pipe(void **state) {
  (void)state;
  census before = census_begin();
  sigset_t all, old;
  (void)sigfillset(&all);
  assert_int_equal(sigprocmask(SIG_BLOCK, &all, &old), 0);
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(3, pipe == 1);
    const pid_t pid = pid_of(session, 1);
    expect_works(session);
    assert_int_equal(kill(pid, SIGTERM), 0); /* the child's mask is its own */
    disco_error_info error = await_lost(session, 1);
    assert_int_equal(error.signal_number, SIGTERM);
    close_session(session);
  }
  sigset_t pending;
  (void)sigpending(&pending);
  assert_false(sigismember(&pending, SIGPIPE));
  assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
  census_end(&before);
}

/* ---- No time ---- */

static pid_t start_hog(void) {
  pid_t hog = fork();
  if (hog != 0) return hog;
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(60);
  for (volatile uint64_t i = 0;; i++) continue;
}

static void no_false_death_on_a_loaded_machine(void **state) {
  (void)state;
  enum { MOST = 64 };
  pid_t hogs[MOST];
  const char *is_long = getenv("DISCO_TEST_LONG");
  const int64_t length_ms = is_long != NULL && atoi(is_long) == 1 ? 20000 : 3000;
  int num_hogs = 2 * (int)sysconf(_SC_NPROCESSORS_ONLN);
  if (num_hogs > MOST) num_hogs = MOST;
  census before = census_begin();
  disco_session *sessions[2] = {open_session(4, false), open_session(4, true)};
  for (int i = 0; i < num_hogs; i++) hogs[i] = start_hog();
  int rounds = 0;
  for (int64_t end = now_ms() + length_ms; now_ms() < end; rounds++) {
    disco_session *session = sessions[rounds % 2];
    disco_dref *function = find(session, "d.count"), *last = NULL;
    for (int i = 0; i < 20; i++) {
      disco_dref_unref(last);
      OK(disco_call(session, function, NULL, 0, &last));
    }
    OK(disco_session_sync(session, DISCO_ALL_WORKERS, 30000));
    TVMFFIAny value = dsc_none();
    OK(disco_debug_get(last, 1 + rounds % 3, 30000, &value));
    disco_dref_unref(last);
    disco_dref_unref(function);
  }
  for (int i = 0; i < num_hogs; i++) (void)kill(hogs[i], SIGKILL);
  for (int i = 0; i < num_hogs; i++) assert_int_equal(waitpid(hogs[i], NULL, 0), hogs[i]);
  assert_true(rounds > 0);
  for (int i = 0; i < 2; i++) {
    expect_works(sessions[i]);
    close_session(sessions[i]);
  }
  census_end(&before);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sigchld_is_ignored),
      cmocka_unit_test(a_handler_reaps_every_child),
      cmocka_unit_test(a_thousand_signals_a_second),
      cmocka_unit_test(signals_blocked_and_a_broken_pipe),
      cmocka_unit_test(no_false_death_on_a_loaded_machine),
  };
  return deaths_main(argc, argv, "deaths.signals", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
