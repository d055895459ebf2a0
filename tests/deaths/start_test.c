/* Workers that die before they work, and workers that die between two calls. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "deaths/support.h"

/* ---- What a worker's program does instead (TEST_START) ---- */

static const char *wanted(void) {
  const char *start = getenv("TEST_START");
  return start != NULL ? start : "";
}

/* As a library's that cannot go on. */
__attribute__((constructor)) static void leave_early(void) {
  if (strcmp(wanted(), "constructor") != 0) return;
  (void)fprintf(stderr, "ImportError: no module named numbers\n");
  _exit(4);
}

static void misbehave(int argc, char **argv) {
  const int write_fd = argc > 6 ? atoi(argv[6]) : -1, read_fd = argc > 6 ? atoi(argv[5]) : -1;
  char rubbish[1000];
  memset(rubbish, 'x', sizeof(rubbish));
  const char *start = wanted();
  if (strcmp(start, "rubbish") == 0) { /* and lives on */
    if (write(write_fd, rubbish, sizeof(rubbish)) < 0) _exit(1);
    for (;;) sleep_ms(1000);
  } else if (strcmp(start, "little") == 0) { /* less than an answer */
    if (write(write_fd, rubbish, 10) < 0) _exit(1);
    _exit(0);
  } else if (strcmp(start, "close") == 0) { /* says nothing any more */
    (void)close(write_fd);
    (void)close(read_fd);
    for (;;) sleep_ms(1000);
  } else if (strcmp(start, "exit") == 0) {
    exit(7);
  } else if (strcmp(start, "abort") == 0) {
    (void)signal(SIGABRT, SIG_DFL);
    (void)kill(getpid(), SIGABRT);
  } else if (strcmp(start, "sleep") == 0) {
    for (;;) sleep_ms(1000);
  }
}

static const char *const environments[][2] = {
    {"TEST_START=constructor", NULL}, {"TEST_START=rubbish", NULL}, {"TEST_START=little", NULL},
    {"TEST_START=close", NULL},       {"TEST_START=exit", NULL},    {"TEST_START=abort", NULL},
};
static const struct {
  int signal, status;
  const char *says, *words;
} ends[] = {{-1, 4, "status 4", "ImportError: no module named numbers"},
            {-1, -1, "does not speak libdisco's protocol", NULL},
            {-1, 0, "status 0", NULL},
            {-1, -1, "closed its pipe", NULL},
            {-1, 7, "status 7", NULL},
            {SIGABRT, -1, "SIGABRT", NULL}};

/* ---- Tests ---- */

static void before_the_handshake(void **state) {
  (void)state;
  census before = census_begin();
  for (int i = 0; i < 6; i++)
    for (int pipe = 0; pipe < 2; pipe++) {
      disco_session_options options = options_of(3, pipe == 1);
      options.environment = environments[i];
      disco_session *session = open_with(&options);
      disco_status status = DISCO_OK;
      for (int64_t end = now_ms() + BOUND_MS; status == DISCO_OK && now_ms() < end;)
        status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
      assert_int_equal(status, DISCO_LOST);
      disco_error_info error = last_error();
      assert_in_range(error.worker, 1, 2);
      assert_true(error.pid > 1);
      CONTAINS(error.message, ends[i].says);
      CONTAINS(error.text, "not started yet");
      if (ends[i].status >= 0) assert_int_equal(error.exit_status, ends[i].status);
      if (ends[i].signal >= 0) assert_int_equal(error.signal_number, ends[i].signal);
      if (ends[i].words != NULL) CONTAINS(error.text, ends[i].words);
      close_session(session);
      census_end(&before);
    }
}

/* The text names the process, too. */
static void the_text_names_the_process(void **state) {
  (void)state;
  disco_session_options options = options_of(2, false);
  char part[64];
  options.environment = environments[4];
  disco_session *session = open_with(&options);
  disco_error_info error = await_lost(session, 1);
  (void)snprintf(part, sizeof(part), "process %d", (int)error.pid);
  CONTAINS(error.text, part);
  close_session(session);
}

/* What was posted before anybody knew. */
static void calls_wait_for_a_worker_that_never_comes(void **state) {
  (void)state;
  census before = census_begin();
  for (int i = 0; i < 2; i++) {
    disco_session_options options = options_of(3, false);
    options.program = i == 0 ? "/bin/false" : "/bin/true";
    disco_session *session = open_with(&options);
    disco_status status = DISCO_OK;
    TVMFFIAny numbers[64];
    for (int k = 0; k < 64; k++) numbers[k] = dsc_int(k);
    disco_dref *count = NULL;
    status = disco_session_get_global_func(session, "d.count", &count);
    while (status == DISCO_OK) status = disco_call(session, count, numbers, 64, NULL);
    assert_int_equal(status, DISCO_LOST);
    disco_error_info error = last_error();
    assert_int_equal(error.exit_status, i == 0 ? 1 : 0);
    if (count != NULL) expect_sticky(session, count);
    disco_dref_unref(count);
    close_session(session);
    census_end(&before);
  }
}

static void a_program_that_is_none(void **state) {
  (void)state;
  census before = census_begin();
  const char *const programs[] = {"/no/such/program", "/etc/passwd", "/", "no-such-program-on-the-path"};
  for (int i = 0; i < 4; i++) {
    disco_session_options options = options_of(3, false);
    disco_session *session = NULL;
    options.program = programs[i];
    disco_status status = disco_session_create_process(&options, &session);
    assert_int_equal(status, DISCO_VALUE);
    CONTAINS(disco_last_error_text(), programs[i]);
    assert_null(session);
    census_end(&before);
  }
}

static void a_library_that_is_none(void **state) {
  (void)state;
  census before = census_begin();
  const char *const libraries[] = {"/no/such/library.so", NULL};
  disco_session_options options = options_of(3, false);
  disco_session *session = NULL;
  options.libraries = libraries;
  assert_int_equal(disco_session_create_process(&options, &session), DISCO_VALUE);
  CONTAINS(disco_last_error_text(), "/no/such/library.so");
  census_end(&before);
}

/* Shutdown does not wait for those who will never answer, and shutdown at once works, too. */
static void shutdown_without_a_handshake(void **state) {
  (void)state;
  census before = census_begin();
  static const char *const sleeper[] = {"TEST_START=sleep", NULL};
  for (int i = 0; i < 4; i++) {
    disco_session_options options = options_of(3, i % 2 == 1);
    if (i < 2) options.environment = sleeper;
    options.grace_ms = i < 2 ? 400 : 0;
    disco_session *session = open_with(&options);
    const int64_t begin = now_ms();
    close_session(session);
    assert_true(now_ms() - begin < BOUND_MS);
    census_end(&before);
  }
}

static void between_two_calls(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++)
    for (int signal_number = 0; signal_number < 2; signal_number++) {
      disco_session *session = open_session(3, pipe == 1);
      const pid_t pid = pid_of(session, 2);
      OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
      disco_dref *function = find(session, "d.id");
      OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
      int fd = -1;
      OK(disco_session_done_fd(session, &fd));
      assert_int_equal(kill(pid, signal_number == 0 ? SIGKILL : SIGTERM), 0);
      await_news(session);
      disco_error_info error = await_lost(session, 2);
      assert_int_equal(error.pid, pid);
      assert_int_equal(error.signal_number, signal_number == 0 ? SIGKILL : SIGTERM);
      assert_string_equal(error.function, "");
      CONTAINS(error.text, "idle after command");
      expect_sticky(session, function);
      disco_dref_unref(function);
      close_session(session);
      census_end(&before);
    }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(before_the_handshake),         cmocka_unit_test(calls_wait_for_a_worker_that_never_comes),
      cmocka_unit_test(a_program_that_is_none),       cmocka_unit_test(a_library_that_is_none),
      cmocka_unit_test(shutdown_without_a_handshake), cmocka_unit_test(between_two_calls),
      cmocka_unit_test(the_text_names_the_process),
  };
  deaths_worker_hook = misbehave;
  return deaths_main(argc, argv, "deaths.start", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
