/* The done descriptor: an event loop hears of commands that are done, and of failures. */
#include <poll.h>

#include "session/support.h"

static int descriptor_of(disco_session *session) {
  int fd = -1, again = -2;
  expect_ok(disco_session_done_fd(session, &fd));
  expect_ok(disco_session_done_fd(session, &again));
  assert_true(fd >= 0);
  assert_int_equal(fd, again);
  return fd;
}

static bool is_readable(int fd, int timeout_ms) {
  struct pollfd look = {.fd = fd, .events = POLLIN};
  int ready = poll(&look, 1, timeout_ms);
  assert_true(ready == 0 || (ready == 1 && look.revents == POLLIN));
  return ready == 1;
}

static void it_tells_when_everybody_is_done(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  int fd = descriptor_of(session);
  gate stop;
  for (int32_t held = 0; held < 3; held++) { /* whoever is last */
    gate_open(&stop);
    gate_hold(&stop, session, held);
    uint64_t sequence = disco_session_sequence(session);
    expect_ok(disco_session_arm_done(session, sequence));
    assert_false(is_readable(fd, 20));
    gate_release(&stop, 1);
    assert_true(is_readable(fd, WAIT_MS));
    bool done = false;
    expect_ok(disco_session_is_done(session, DISCO_ALL_WORKERS, sequence, &done));
    assert_true(done);
    assert_true(is_readable(fd, 0)); /* until it is armed again */
    gate_close(&stop);
    sync_all(session);
  }
  end_session(session);
}

static void what_is_done_already_is_told_at_once(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo");
  sync_all(session);
  int fd = descriptor_of(session);
  expect_ok(disco_session_arm_done(session, disco_session_sequence(session)));
  assert_true(is_readable(fd, WAIT_MS));
  expect_ok(disco_session_arm_done(session, 0));
  assert_true(is_readable(fd, WAIT_MS));
  expect_refused(DISCO_VALUE, "2", disco_session_arm_done(session, disco_session_sequence(session) + 1));
  expect_status(DISCO_VALUE, disco_session_done_fd(session, NULL));
  disco_dref_unref(echo);
  end_session(session);
}

/* Arming replaces: what was armed before no longer counts. */
static void arming_again_replaces(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *one = put(session, dsc_int(1));
  int fd = descriptor_of(session);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  expect_ok(disco_session_arm_done(session, 1));
  assert_true(is_readable(fd, WAIT_MS));
  expect_ok(disco_session_arm_done(session, disco_session_sequence(session)));
  assert_false(is_readable(fd, 20));
  expect_ok(disco_session_arm_done(session, 1));
  assert_true(is_readable(fd, WAIT_MS));
  gate_release(&stop, 1);
  gate_close(&stop);
  disco_dref_unref(one);
  end_session(session);
}

/* In every round the descriptor says so, however fast the workers are. */
static void no_round_is_missed(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo");
  int fd = descriptor_of(session);
  for (int i = 0; i < scaled(1000, 50); i++) {
    for (int k = 0; k <= i % 4; k++) expect_ok(disco_call(session, echo, VALUES(dsc_int(i)), NULL));
    uint64_t sequence = disco_session_sequence(session);
    expect_ok(disco_session_arm_done(session, sequence));
    bool done = false;
    for (int tries = 0; tries < WAIT_MS && !done; tries++) { /* a stale wake is allowed, a missing one is not */
      assert_true(is_readable(fd, WAIT_MS));
      expect_ok(disco_session_is_done(session, DISCO_ALL_WORKERS, sequence, &done));
      if (!done) expect_ok(disco_session_arm_done(session, sequence));
    }
    assert_true(done);
  }
  disco_dref_unref(echo);
  end_session(session);
}

static void a_failure_is_told_by_it(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *raise = find(session, "test.raise");
  int fd = descriptor_of(session);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 2); /* so that not everybody is done */
  expect_ok(disco_call(session, raise, VALUES(dsc_int(1), any_raw("ValueError"), any_raw("heard by poll")), NULL));
  expect_ok(disco_session_arm_done(session, disco_session_sequence(session)));
  assert_true(is_readable(fd, WAIT_MS));
  expect_refused(DISCO_RAISED, "heard by poll", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  expect_ok(disco_session_arm_done(session, disco_session_sequence(session)));
  assert_false(is_readable(fd, 20)); /* it was told, and worker 2 is still held */
  gate_release(&stop, 1);
  assert_true(is_readable(fd, WAIT_MS));
  sync_all(session);
  gate_close(&stop);
  disco_dref_unref(raise);
  end_session(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(it_tells_when_everybody_is_done),
                                     cmocka_unit_test(what_is_done_already_is_told_at_once),
                                     cmocka_unit_test(arming_again_replaces), cmocka_unit_test(no_round_is_missed),
                                     cmocka_unit_test(a_failure_is_told_by_it)};
  return RUN_SUITE(tests, NULL);
}
