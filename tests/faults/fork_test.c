/* What a process can do to a library that lives in it: fork, run out of descriptors and threads, bombard it with
 * signals. */
#include "faults/support.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/inject.h"
#include "ffi/value.h"
#include "session/engine.h"

typedef struct {
  pid_t pid;
  int status;
} child;

static bool has_ended(void *context) {
  child *c = context;
  return waitpid(c->pid, &c->status, WNOHANG) == c->pid;
}

static void expect_clean_end(pid_t pid) {
  child c = {.pid = pid};
  bool ended = faults_until(has_ended, &c);
  if (!ended) {
    kill(pid, SIGKILL);
    waitpid(pid, &c.status, 0);
  }
  assert_true(ended);
  if (c.status != 0) print_error("the child ended with status %#x\n", c.status);
  assert_int_equal(c.status, 0);
}

typedef struct {
  disco_session *session;
  disco_dref *id, *value, *dying[300];
} world;

static world the; /* static: the child still reaches what it may not free */

static void open_world(int32_t workers) {
  the.session = faults_open(workers);
  the.id = faults_function(the.session, "faults.id");
  the.value = faults_call(the.id, 0);
  TVMFFIAny object = faults_object();
  for (int i = 0; i < 300; i++) OK(disco_session_put(the.session, &object, &the.dying[i]));
  dsc_value_drop(&object);
  OK(faults_sync(the.session));
}

static void expect_works(void) {
  disco_dref *value = faults_call(the.id, 0);
  for (int32_t i = 0; i < disco_session_num_workers(the.session); i++) {
    assert_int_equal(faults_get(the.value, i), i);
    assert_int_equal(faults_get(value, i), i);
  }
  disco_dref_unref(value);
}

static void close_world(void) {
  disco_dref_unref(the.id);
  disco_dref_unref(the.value);
  faults_close(the.session);
  memset(&the, 0, sizeof(the));
}

/* ---- In the child: no assertions, an exit status ---- */

static int wrong(int line, disco_status status) {
  print_error("fork_test.c:%d: status %d: %s\n", line, (int)status, disco_last_error_text());
  return 1;
}

/* Refused with a sentence that says why. */
#define REFUSED(call)                                                                         \
  do {                                                                                        \
    disco_status refused_ = (call);                                                           \
    if (refused_ != DISCO_RUNTIME || strstr(disco_last_error_text(), "forked child") == NULL) \
      return wrong(__LINE__, refused_);                                                       \
  } while (0)

static int calls_are_refused(void) {
  disco_session *session = the.session;
  disco_dref *result = NULL;
  TVMFFIAny value = faults_int(1), values[8], packed[3] = {faults_int(3), faults_int(0), faults_dref(the.id)};
  const int64_t device = 0;
  REFUSED(disco_call(session, the.id, NULL, 0, &result));
  REFUSED(disco_call_packed(session, packed, 3, &result));
  REFUSED(disco_session_get_global_func(session, "faults.id", &result));
  REFUSED(disco_session_put(session, &value, &result));
  REFUSED(disco_session_dealloc_reg(session, disco_dref_reg_id(the.value)));
  REFUSED(disco_session_sync(session, DISCO_ALL_WORKERS, DISCO_FOREVER));
  REFUSED(disco_session_sync(session, 0, 0));
  REFUSED(disco_debug_get(the.value, 0, DISCO_FOREVER, values));
  REFUSED(disco_debug_get_all(the.value, DISCO_FOREVER, 8, values));
  REFUSED(disco_debug_set(the.value, 0, &value, DISCO_FOREVER));
  REFUSED(disco_session_debug_get(session, 1, 0, DISCO_FOREVER, values));
  REFUSED(disco_session_debug_set(session, 1, 0, &value, DISCO_FOREVER));
  REFUSED(disco_session_init_ccl(session, "faults", &device, 1));
  REFUSED(disco_session_shutdown(session));
  TVMFFIObjectHandle host = faults_tensor(8, 0);
  REFUSED(disco_copy_to_worker0(session, host, the.value));
  REFUSED(disco_copy_from_worker0(session, host, the.value));
  dsc_object_unref(host);
  if (result != NULL || disco_session_num_workers(session) != 2 || disco_session_num_groups(session) != 1)
    return wrong(__LINE__, DISCO_OK);
  return 0;
}

/* "every other call": those that only look, too. */
static int looks_are_refused(void) {
  bool done;
  char *text = NULL;
  disco_error_info info = {.struct_size = sizeof(info)};
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  REFUSED(disco_session_is_done(the.session, 0, 1, &done));
  REFUSED(disco_session_last_error(the.session, 0, &info));
  REFUSED(disco_session_get_stats(the.session, &stats));
  REFUSED(disco_session_dump(the.session, &text));
  return 0;
}

static int drop_in_child(void) {
  for (int i = 0; i < 300; i++) disco_dref_unref(the.dying[i]);
  disco_session_ref(the.session);
  disco_session_unref(the.session);
  return 0;
}

static int drop_and_look(void) {
  disco_error_info info = {.struct_size = sizeof(info)};
  char *text = NULL;
  (void)drop_in_child();
  /* Whatever they return: the parent must not feel it. */
  if (disco_session_last_error(the.session, 0, &info) == DISCO_OK) return 1; /* there was no error */
  if (disco_session_dump(the.session, &text) == DISCO_OK) disco_text_free(text);
  return 0;
}

static int drop_everything(void) {
  (void)drop_in_child();
  disco_dref_unref(the.id);
  disco_dref_unref(the.value);
  disco_session_unref(the.session);
  return 0;
}

static bool no_threads(void *context) {
  (void)context;
  return faults_library_threads() == 0;
}

/* Sessions of its own, several: each end goes through the child's own reaper. */
static int use_own_sessions(void) {
  for (int i = 0; i < 6; i++) {
    disco_session_options options = faults_options(2, 1);
    disco_session *session = NULL;
    disco_dref *id = NULL, *result = NULL;
    TVMFFIAny value;
    disco_status status = disco_session_create_threaded(&options, &session);
    if (status == DISCO_OK) status = disco_session_get_global_func(session, "faults.id", &id);
    if (status == DISCO_OK) status = disco_call(session, id, NULL, 0, &result);
    if (status == DISCO_OK) status = disco_debug_get(result, 1, FAULTS_BOUND_MS, &value);
    if (status != DISCO_OK || value.v_int64 != 1) return wrong(__LINE__, status);
    disco_dref_unref(result);
    disco_dref_unref(id);
    disco_session_unref(session);
    if (!faults_until(no_threads, NULL)) return wrong(__LINE__, DISCO_OK);
  }
  return 0;
}

/* A session that lives until the child's exit hook. */
static disco_session *until_exit;

static int leave_session_to_the_exit_hook(void) {
  disco_session_options options = faults_options(2, 1);
  disco_status status = disco_session_create_threaded(&options, &until_exit);
  return status == DISCO_OK ? 0 : wrong(__LINE__, status);
}

static void in_child(int (*what)(void)) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    alarm(20);
    exit(what());
  }
  expect_clean_end(pid);
}

/* ---- Fork ---- */

static void after_fork(int (*what)(void)) {
  open_world(2);
  in_child(what);
  assert_int_equal(faults_stats(the.session).live_registers, 302);
  expect_works();
  int64_t dead = faults_objects_dead();
  for (int i = 0; i < 300; i++) disco_dref_unref(the.dying[i]);
  for (int i = 0; i < FAULTS_BOUND_MS && faults_objects_dead() == dead; i++) faults_sleep_ms(1);
  assert_int_equal(faults_objects_dead(), dead + 1); /* once, and here */
  expect_works();
  close_world();
}

static void test_calls_in_a_child(void **state) {
  (void)state;
  after_fork(calls_are_refused);
}

static void test_looks_in_a_child(void **state) {
  (void)state;
  after_fork(looks_are_refused);
}

static void test_drops_in_a_child(void **state) {
  (void)state;
  after_fork(drop_in_child);
  after_fork(drop_everything);
}

static void test_drops_and_looks_in_a_child(void **state) {
  (void)state;
  after_fork(drop_and_look);
}

static void test_sessions_of_a_child(void **state) {
  (void)state;
  after_fork(use_own_sessions);
  after_fork(leave_session_to_the_exit_hook);
}

#if !DSC_ASAN && !DSC_TSAN /* whose own allocators do not survive such a fork */
static _Atomic bool stop_churning;

static bool few_threads(void *context) {
  (void)context;
  return faults_library_threads() <= 8;
}

static void churn(faults_thread *self) {
  disco_session_options options = faults_options(1, 1);
  while (!atomic_load(&stop_churning) && self->status == DISCO_OK) {
    disco_session *session = NULL;
    self->status = disco_session_create_threaded(&options, &session);
    if (self->status == DISCO_OK && ++self->number % 2 == 0) self->status = disco_session_shutdown(session);
    disco_session_unref(session);
    (void)faults_until(few_threads, NULL); /* the reaper ends one after the other */
  }
}

/* Fork while other threads are anywhere inside the library, which must not leave the child a lock that nobody opens. */
static void test_fork_at_any_moment(void **state) {
  (void)state;
  static faults_thread threads[2]; /* static: they go on when the test fails */
  atomic_store(&stop_churning, false);
  for (int i = 0; i < 2; i++) {
    threads[i] = (faults_thread){.run = churn};
    faults_start(&threads[i]);
  }
  for (int64_t i = faults_scaled(100); i > 0; i--) in_child(use_own_sessions);
  atomic_store(&stop_churning, true);
  for (int i = 0; i < 2; i++) {
    faults_join(&threads[i]);
    assert_int_equal(threads[i].status, DISCO_OK);
  }
  assert_true(faults_library_threads_gone());
}

#endif

/* ---- Limits ---- */

static void test_no_descriptors(void **state) {
  (void)state;
  struct rlimit before, tight;
  disco_session_options options = faults_options(2, 1);
  disco_session *session = NULL;
  faults_close(faults_open(2)); /* the reaper is there */
  int threads = faults_count_entries("/proc/self/task"), descriptors = faults_count_entries("/proc/self/fd");
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  tight = before;
  tight.rlim_cur = 3;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
  disco_status status = disco_session_create_threaded(&options, &session);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  faults_refused(status, DISCO_RUNTIME, "RuntimeError", "EMFILE");
  faults_contains(disco_last_error_text(), "ulimit -n");
  assert_null(session);
  assert_int_equal(faults_count_entries("/proc/self/task"), threads);
  assert_int_equal(faults_count_entries("/proc/self/fd"), descriptors);
  faults_close(faults_open(2));
}

/* Each thread in turn cannot be started. */
static void test_no_threads(void **state) {
  (void)state;
  enum { WORKERS = 6 };
  disco_session_options options = faults_options(WORKERS, 1);
  int refused = 0, descriptors = faults_count_entries("/proc/self/fd");
  bool failed = true;
  for (long n = 1; failed; n++) {
    disco_session *session = NULL;
    (void)dsc_inject_fail_allocation(n);
    disco_status status = disco_session_create_threaded(&options, &session);
    failed = dsc_inject_fail_allocation(0) >= n && status != DISCO_OK;
    if (status == DISCO_OK) faults_close(session);
    if (status != DISCO_OK) assert_null(session);
    refused += status == DISCO_RUNTIME && strstr(disco_last_error_text(), "EAGAIN") != NULL;
    assert_true(faults_library_threads_gone());
    assert_int_equal(faults_count_entries("/proc/self/fd"), descriptors);
  }
  assert_true(refused >= WORKERS);
}

/* ---- Signals ---- */

static _Atomic int64_t alarms;

static void count_alarm(int number) {
  (void)number;
  atomic_fetch_add(&alarms, 1);
}

static void set_storm(long us) {
  struct itimerval timer = {{0, us}, {0, us}};
  assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void test_signals_have_no_effect(void **state) {
  (void)state;
  struct sigaction action = {.sa_handler = count_alarm}, before; /* no SA_RESTART */
  sigemptyset(&action.sa_mask);
  assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
  open_world(3);
  disco_dref *raise = faults_function(the.session, "faults.silent"), *nap = faults_function(the.session, "faults.nap");
  for (int i = 0; i < 300; i++) disco_dref_unref(the.dying[i]);
  set_storm(1000);
  for (int64_t i = faults_scaled(400); i > 0; i--) {
    expect_works();
    faults_post(nap, 1, faults_int(1));
    OK(faults_sync(the.session));
    faults_post(raise, 1, faults_int(1 << (i % 3)));
    faults_refused(faults_sync(the.session), DISCO_RAISED, "RuntimeError", "without saying why");
    if (i % 20 != 0) continue;
    faults_close(faults_open(2));
    faults_post(nap, 1, faults_int(30)); /* a long wait, cut into pieces */
    OK(faults_sync(the.session));
  }
  set_storm(0);
  assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
  alarm(100); /* the storm was this process's only alarm clock */
  assert_true(atomic_load(&alarms) > 10);
  assert_int_equal(faults_stats(the.session).errors_told, faults_scaled(400));
  disco_dref_unref(raise);
  disco_dref_unref(nap);
  close_world();
}

/* Signals are for the host program's threads. */
static void check_mask(const char *path, const char *name) {
  char line[256];
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  bool seen = false;
  while (fgets(line, sizeof(line), file) != NULL) {
    unsigned long long blocked;
    if (sscanf(line, "SigBlk: %llx", &blocked) != 1) continue;
    seen = true;
    /* All but SIGKILL and SIGSTOP, which nobody can block, and glibc's own 32 and 33. */
    const unsigned long long cannot = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | 3ull << 31;
    if ((blocked | cannot) != ~0ull) print_error("%s blocks %#llx\n", name, blocked);
    assert_true((blocked | cannot) == ~0ull);
  }
  fclose(file);
  assert_true(seen);
}

static void test_library_threads_block_signals(void **state) {
  (void)state;
  disco_session *session = faults_open(3);
  disco_dref *id = faults_function(session, "faults.id");
  OK(faults_sync(session));
  assert_int_equal(faults_each_library_thread("status", check_mask), 4); /* and the reaper */
  disco_dref_unref(id);
  faults_close(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_calls_in_a_child),
    cmocka_unit_test(test_looks_in_a_child),
    cmocka_unit_test(test_drops_in_a_child),
    cmocka_unit_test(test_drops_and_looks_in_a_child),
    cmocka_unit_test(test_sessions_of_a_child),
#if !DSC_ASAN && !DSC_TSAN
    cmocka_unit_test(test_fork_at_any_moment),
#endif
    cmocka_unit_test(test_no_descriptors),
    cmocka_unit_test(test_no_threads),
    cmocka_unit_test(test_signals_have_no_effect),
    cmocka_unit_test(test_library_threads_block_signals),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
