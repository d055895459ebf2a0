/* A worker process dies inside a call: whoever waits is told who, how, in what and when; everybody else goes home. */
#include <signal.h>
#include <stdio.h>

#include "deaths/support.h"

static const int hows[] = {SIGKILL, SIGSEGV, SIGABRT, BY_EXIT + 3, BY_QUICK_EXIT};
enum { HOWS = sizeof(hows) / sizeof(hows[0]), DEAD = 1 };
enum { IN_SYNC, IN_GET, IN_FULL_RING, IDLE, WAITS };

static int lines_of(const char *text) {
  int lines = 1;
  for (; *text != 0; text++) lines += *text == '\n';
  return lines;
}

static void check_error(const disco_error_info *error, pid_t pid, uint64_t sequence, int how) {
  char part[64];
  assert_int_equal(error->pid, pid);
  assert_int_equal(error->group, 0);
  assert_string_equal(error->function, "d.die");
  assert_int_equal(error->sequence, sequence);
  assert_true(error->host[0] != 0);
  assert_int_equal(error->signal_number, how < BY_EXIT ? how : -1);
  assert_int_equal(error->exit_status, how < BY_EXIT ? -1 : how % 100);
  if (how < BY_EXIT)
    (void)snprintf(part, sizeof(part), "SIG%s", sigabbrev_np(how));
  else
    (void)snprintf(part, sizeof(part), "status %d", how % 100);
  CONTAINS(error->message, part);
  CONTAINS(error->message, "worker 1");
  /* Cause, culprit, state, what to try; then its last words. */
  const char *words = strstr(error->text, "\n  the last that it wrote to stderr:\n");
  assert_non_null(words);
  char *four = strndup(error->text, (size_t)(words - error->text));
  assert_int_equal(lines_of(four), 4);
  CONTAINS(four, part);
  CONTAINS(four, "`d.die`");
  (void)snprintf(part, sizeof(part), "command %llu", (unsigned long long)sequence);
  CONTAINS(four, part);
  (void)snprintf(part, sizeof(part), "process %d", (int)pid);
  CONTAINS(four, part);
  CONTAINS(four, "the others: worker 0");
  CONTAINS(four, "worker 2");
  CONTAINS(four, "try:");
  free(four);
  words = strchr(words + 1, '\n') + 1;
  CONTAINS(words, "line 299 of the last words");
  assert_null(strstr(words, "line 0 of the last words"));
  assert_true(strlen(words) <= 4096);
  assert_true(strlen(words) > 3000);
}

static disco_status wait_in(disco_session *session, disco_dref *result, disco_dref *count, int where) {
  TVMFFIAny value = dsc_none(), numbers[64];
  disco_status status = DISCO_OK;
  switch (where) {
  case IN_SYNC: return disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
  case IN_GET: return disco_debug_get(result, DEAD, BOUND_MS, &value);
  case IN_FULL_RING:
    for (int i = 0; i < 64; i++) numbers[i] = dsc_int(i);
    while (status == DISCO_OK) status = disco_call(session, count, numbers, 64, NULL); /* nobody comes to run it */
    return status;
  default: await_news(session); return disco_call(session, count, NULL, 0, NULL);
  }
}

static void die_once(int how, int where, bool pipe) {
  disco_session *session = open_session(3, pipe);
  const pid_t pid = pid_of(session, DEAD);
  disco_dref *function = find(session, "d.die"), *count = find(session, "d.count"), *result = NULL;
  OK(disco_call(session, function, ARGS(dsc_int(DEAD), dsc_int(30), dsc_int(how), dsc_int(0)), &result));
  const uint64_t sequence = disco_session_sequence(session);
  if (where == IDLE) /* so that the descriptor says nothing but the death */
    OK(disco_session_sync(session, 0, BOUND_MS));
  disco_error_info error = expect_lost(wait_in(session, result, count, where), DEAD);
  check_error(&error, pid, sequence, how);
  expect_sticky(session, function);
  disco_dref_unref(result);
  disco_dref_unref(count);
  disco_dref_unref(function);
  OK(disco_session_shutdown(session));
  close_session(session);
}

static void die_everywhere(bool pipe) {
  census before = census_begin();
  const int rounds = scaled(HOWS * WAITS, WAITS);
  for (int i = 0; i < rounds; i++) {
    die_once(hows[i % HOWS], i % WAITS, pipe); /* 5 and 4 have no common factor: 20 rounds are all */
    census_end(&before);
  }
}

static void every_death_in_every_wait(void **state) {
  (void)state;
  die_everywhere(false);
}

static void every_death_in_every_wait_on_the_pipe(void **state) {
  (void)state;
  die_everywhere(true);
}

typedef struct {
  disco_session *session;
  uint64_t wanted;
} skipping;

static bool have_skipped(void *context) {
  const skipping *self = context;
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  OK(disco_session_get_stats(self->session, &stats));
  return stats.commands_skipped >= self->wanted;
}

/* What was posted behind the death runs nowhere, also not in the controller's own worker. But for what was under way in
 * a pipe: its window of 1024 commands. */
static void peers_skip_and_end(void **state) {
  (void)state;
  enum { WINDOW = 1024, POSTED = 1500 };
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(3, pipe == 1);
    expect_works(session);
    const int64_t before = counted_here();
    disco_dref *count = find(session, "d.count");
    post(session, "d.die", ARGS(dsc_int(DEAD), dsc_int(20), dsc_int(SIGKILL), dsc_int(300)));
    for (int i = 0; i < POSTED; i++) OK(disco_call(session, count, NULL, 0, NULL));
    expect_lost(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), DEAD);
    skipping wait = {session, pipe ? 2 * POSTED - WINDOW : 2 * POSTED};
    assert_true(until(have_skipped, &wait));
    assert_int_equal(counted_here(), before);
    disco_dref_unref(count);
    close_session(session);
  }
}

static bool is_gone(void *pid) { return kill((pid_t)(intptr_t)pid, 0) != 0; }

/* The first one is the cause; the second one is kept behind it. */
static void two_deaths(void **state) {
  (void)state;
  disco_session *session = open_session(4, false);
  const pid_t first = pid_of(session, 3), second = pid_of(session, 1);
  disco_dref *function = find(session, "d.id");
  assert_int_equal(kill(first, SIGKILL), 0);
  disco_error_info error = await_lost(session, 3);
  assert_int_equal(error.pid, first);
  assert_int_equal(kill(second, SIGTERM), 0);
  assert_true(until(is_gone, (void *)(intptr_t)second));
  expect_lost(disco_session_sync(session, 0, BOUND_MS), 3);
  expect_sticky(session, function);
  OK(disco_session_last_error(session, 1, &error));
  assert_int_equal(error.worker, 3);
  OK(disco_session_last_error(session, 0, &error));
  assert_int_equal(error.worker, 1);
  assert_int_equal(error.signal_number, SIGTERM);
  disco_dref_unref(function);
  close_session(session);
}

/* All of them at once, with work under way. */
static void everybody_dies(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    disco_session *session = open_session(5, pipe == 1);
    pid_t pids[5];
    for (int i = 1; i < 5; i++) pids[i] = pid_of(session, i);
    post(session, "d.nap", ARGS(dsc_int(-1), dsc_int(50)));
    for (int i = 1; i < 5; i++) assert_int_equal(kill(pids[i], SIGKILL), 0);
    disco_status status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
    assert_int_equal(status, DISCO_LOST);
    assert_int_equal(last_error().signal_number, SIGKILL);
    close_session(session);
    census_end(&before);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_death_in_every_wait),
      cmocka_unit_test(every_death_in_every_wait_on_the_pipe),
      cmocka_unit_test(peers_skip_and_end),
      cmocka_unit_test(two_deaths),
      cmocka_unit_test(everybody_dies),
  };
  return deaths_main(argc, argv, "deaths.inside", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
