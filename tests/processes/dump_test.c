/* What the dump says of a worker behind a pipe, whose status line two threads of the controller write. */
#include <signal.h>
#include <stdatomic.h>

#include "base/inject.h"
#include "processes/support.h"
#include "session/engine.h"

static _Atomic bool armed, reached, released;

static bool is_set(void *flag) { return atomic_load((_Atomic bool *)flag); }

/* The thread that takes the worker's answers stops before it writes down that a command is done. */
static void stop_before_done(const char *point, void *context) {
  (void)context;
  if (strcmp(point, "pump.before_done") != 0 || !atomic_exchange(&armed, false)) return;
  atomic_store(&reached, true);
  (void)until(is_set, &released);
}

/* A command is sent while that thread stands there: the dump names its function, not what was done before it. */
static void a_command_sent_as_another_is_done_keeps_its_name(void **state) {
  (void)state;
  disco_session *session = open_session(2, true);
  disco_dref *nop = find(session, "p.nop"), *nap = find(session, "p.nap");
  char *text = NULL;
  await_all(session);
  dsc_inject_set(stop_before_done, NULL);
  atomic_store(&armed, true);
  OK(disco_call(session, nop, NO_ARGS, NULL));
  assert_true(until(is_set, &reached));
  pid_t worker = (pid_t)dsc_segment_status(session->engine->segment.header, 1)->pid;
  assert_int_equal(kill(worker, SIGSTOP), 0);
  OK(disco_call(session, nap, ARGS(dsc_int(0), dsc_int(1)), NULL));
  sleep_ms(100); /* for the other thread to send it */
  atomic_store(&released, true);
  sleep_ms(100); /* for this one to go on */
  OK(disco_session_dump(session, &text));
  CONTAINS(text, "p.nap");
  disco_text_free(text);
  assert_int_equal(kill(worker, SIGCONT), 0);
  await_all(session);
  dsc_inject_set(NULL, NULL);
  disco_dref_unref(nop);
  disco_dref_unref(nap);
  close_session(session);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_command_sent_as_another_is_done_keeps_its_name)};
  return processes_main(argc, argv, "processes.dump", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
