/* A worker process is killed while the others wait for it in each operation: the session is lost, told in bounded time
 * with that worker's number, and shutdown works. For sessions of
 * processes only. */
#include <signal.h>
#include <stdio.h>
#include <sys/types.h>

#include "ccl/support.h"

static const DLDataType f32 = {kDLFloat, 32, 1};
enum { SMALL = 8, LARGE = 400000 };

static void expect_lost(disco_session *session, int32_t worker) {
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_status(DISCO_LOST, disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_int_equal(error.worker, worker);
  assert_int_equal(error.signal_number, SIGKILL);
}

typedef struct {
  int32_t workers, groups, victim;
  int in_group;
} place;

/* The victim hangs before the operation; the others are in it by the time it dies, or on their way. */
static void killed_before_it_enters(void **state) {
  const place *at = *state;
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int size = 0; size < 2; size++) {
      disco_session *session = make_session(at->workers, at->groups);
      disco_dref *pids = call(session, "test.pid", NO_VALUES);
      const pid_t pid = (pid_t)get_int(pids, at->victim);
      job it = job_of(operation, f32, size ? LARGE : SMALL);
      it.in_group = at->in_group;
      it.in_place = size;
      it.who = at->victim;
      it.how = HANG;
      post_job(session, &it);
      if ((operation + size) % 3 != 0) sleep_ms(5 * (operation + size));
      assert_int_equal(kill(pid, SIGKILL), 0);
      expect_lost(session, at->victim);
      disco_dref_unref(pids);
      end_lost_session(session);
    }
}

/* In the thick of it: any moment of hundreds of operations. */
static void killed_anywhere(void **state) {
  const place *at = *state;
  for (int turn = 0; turn < scaled(12, 3); turn++) {
    disco_session *session = make_session(at->workers, at->groups);
    disco_dref *pids = call(session, "test.pid", NO_VALUES);
    const pid_t pid = (pid_t)get_int(pids, at->victim);
    disco_status status = DISCO_OK;
    for (int operation = 0; operation < NUM_OPERATIONS && status == DISCO_OK; operation++) {
      job it = job_of((operation + turn) % NUM_OPERATIONS, f32, turn & 1 ? 50000 : 12);
      it.how = NOTHING;
      it.repeat = 1000000;
      it.alternate = 1;
      it.in_place = turn >> 1 & 1;
      status = try_job(session, &it);
    }
    expect_ok(status);
    sleep_ms(3 * turn);
    assert_int_equal(kill(pid, SIGKILL), 0);
    expect_lost(session, at->victim);
    disco_dref_unref(pids);
    end_lost_session(session);
  }
}

static void killed_while_others_send_or_receive(void **state) {
  (void)state;
  static const step waits[] = {
      {0, SEND, 2, LARGE, 1}, {0, RECV, 2, SMALL, 1}, {1, RECV, 2, LARGE, 1}, {1, SEND, 2, LARGE, 1}};
  for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
    disco_session *session = make_session(3, 1);
    disco_dref *pids = call(session, "test.pid", NO_VALUES);
    const pid_t pid = (pid_t)get_int(pids, 2);
    post_steps(session, f32, (const step[]){waits[i], {2, NAP, 0, 1000000, 0}}, 2);
    sleep_ms((int)i * 5);
    assert_int_equal(kill(pid, SIGKILL), 0);
    expect_lost(session, 2);
    disco_dref_unref(pids);
    end_lost_session(session);
  }
}

static place root_of_group = {4, 2, 2, 1}, last_of_group = {4, 2, 3, 1}, one_of_two = {2, 1, 1, 0},
             one_of_four = {4, 1, 2, 0}, one_of_eight = {8, 2, 5, 0};

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define AT(test, where) {#test ", " #where, test, NULL, NULL, &(where)}
      AT(killed_before_it_enters, one_of_two),    AT(killed_before_it_enters, one_of_four),
      AT(killed_before_it_enters, root_of_group), AT(killed_before_it_enters, last_of_group),
      AT(killed_before_it_enters, one_of_eight),  AT(killed_anywhere, one_of_two),
      AT(killed_anywhere, root_of_group),         cmocka_unit_test(killed_while_others_send_or_receive),
  };
  return ccl_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]));
}
