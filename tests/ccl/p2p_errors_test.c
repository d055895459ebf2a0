/* Sends and receives that do not fit, partners that are not there or never come: errors in bounded time. */
#include <stdio.h>

#include "ccl/support.h"

static const DLDataType bytes = {kDLUInt, 8, 1};
enum { SMALL = 100, LARGE = 1000003 };

static disco_status wait_for(disco_session *session) {
  return disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
}

/* Collectives work, and messages both ways: nothing of what failed is still under way. */
static void settle(disco_session *session) {
  static int64_t seed = 500;
  check_works(session);
  for (int64_t size = SMALL; size <= LARGE; size += LARGE - SMALL) {
    seed += 2;
    POST_STEPS(session, bytes, {0, SEND, 1, size, seed}, {1, RECV, 0, size, seed}, {1, SEND, 0, size, seed + 1},
               {0, RECV, 1, size, seed + 1});
  }
  sync_all(session);
}

static void sizes_that_do_not_meet(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int64_t size = SMALL; size <= LARGE; size += LARGE - SMALL)
    for (int64_t by = -1; by <= 1; by += 2)
      for (int64_t from = 0; from < 2; from++) {
        POST_STEPS(session, bytes, {from, SEND, 1 - from, size, 1}, {1 - from, RECV, from, size + by, 1});
        expect_kind("CollectiveError", wait_for(session));
        expect_names(0);
        expect_names(1);
        expect_names(size);
        expect_names(size + by);
        settle(session);
      }
  end_session(session);
}

static void partners_that_do_not_exist(void **state) {
  (void)state;
  static const int64_t bad[] = {-1, 3, 1000000, INT32_MIN, 1 /* itself */};
  disco_session *session = make_session(3, 1);
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    for (int action = SEND; action <= RECV; action++) {
      POST_STEPS(session, bytes, {1, action, bad[i], SMALL, 1});
      expect_kind("ValueError", wait_for(session));
      expect_names(bad[i] < 0 ? -bad[i] : bad[i]);
      settle(session);
    }
  POST_STEPS(session, bytes, {0, RECV0, 0, SMALL, 1});
  expect_kind("ValueError", wait_for(session));
  settle(session);
  end_session(session);
}

static void groups_that_do_not_exist(void **state) {
  (void)state;
  for (int groups = 1; groups <= 2; groups++) {
    disco_session *session = make_session(4, groups);
    POST_STEPS(session, bytes, {3, SEND_NEXT, 0, SMALL, 1});
    expect_kind("ValueError", wait_for(session));
    settle(session);
    POST_STEPS(session, bytes, {1, RECV_PREV, 0, SMALL, 1});
    expect_kind("ValueError", wait_for(session));
    settle(session);
    end_session(session);
  }
}

/* Whoever waits for it is let go; what is told is why. */
static void a_partner_that_raises(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int64_t nap = 0; nap <= 5; nap += 5) {
    POST_STEPS(session, bytes, {0, SEND, 1, LARGE, 1}, {1, NAP, 0, nap, 0}, {1, RAISES, 0, 0, 0});
    expect_kind("ValueError", wait_for(session));
    expect_says(RAISED_TEXT);
    settle(session);
    POST_STEPS(session, bytes, {0, RECV, 1, SMALL, 1}, {2, RECV, 1, LARGE, 1}, {1, NAP, 0, nap, 0},
               {1, RAISES, 0, 0, 0});
    expect_kind("ValueError", wait_for(session));
    expect_says(RAISED_TEXT);
    settle(session);
  }
  end_session(session);
}

/* Its error was in an earlier command, or comes in a later one. */
static void a_partner_that_raised_elsewhere(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int before = 0; before < 2; before++)
    for (int64_t from = 0; from < 2; from++) {
      const step raise = {1 - from, RAISES, 0, 0, 0}, nap = {1 - from, NAP, 0, 10, 0},
                 wait = {from, from ? RECV : SEND, 1 - from, LARGE, 1};
      const step first[] = {nap, before ? raise : wait}, second[] = {before ? wait : raise};
      disco_status status = try_steps(session, bytes, first, 2);
      if (status == DISCO_OK) status = try_steps(session, bytes, second, 1);
      if (status == DISCO_OK) status = wait_for(session);
      expect_kind("ValueError", status);
      expect_says(RAISED_TEXT);
      settle(session);
    }
  end_session(session);
}

/* Small sends that nobody received went with the error: later ones do not meet them. */
static void sends_of_an_epoch_that_ended(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int64_t turn = 0; turn < 3; turn++) {
    POST_STEPS(session, bytes, {0, SEND, 1, SMALL, 1}, {1, SEND, 0, 50, 2}, {1, SEND, 0, 51, 3});
    sync_all(session);
    post(session, "test.raise", VALUES(dsc_int(turn & 1)));
    expect_kind("ValueError", wait_for(session));
    settle(session);
  }
  end_session(session);
}

/* Each waits for the other's receive. */
static void two_large_sends_to_each_other(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  POST_STEPS(session, bytes, {0, SEND, 1, LARGE, 1}, {1, SEND, 0, LARGE, 2}, {0, RECV, 1, LARGE, 2},
             {1, RECV, 0, LARGE, 1});
  expect_kind("CollectiveError", wait_for(session));
  settle(session);
  POST_STEPS(session, bytes, {0, RECV, 1, LARGE, 1}, {1, RECV, 0, LARGE, 2});
  expect_kind("CollectiveError", wait_for(session));
  settle(session);
  end_session(session);
}

/* One waits in a collective, the other for a message of it. */
static void a_receive_against_a_collective(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  job it = job_of(ALLREDUCE, reduced_types[TYPE_F32], SMALL);
  it.who = 1;
  it.how = SKIP;
  /* Worker 1 skips the collective: that is the error, whatever it waits for in the next command. */
  post_job(session, &it);
  disco_status status = try_steps(session, bytes, (const step[]){{1, RECV, 0, SMALL, 1}}, 1);
  if (status == DISCO_OK) status = wait_for(session);
  expect_kind("CollectiveError", status);
  settle(session);
  end_session(session);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sizes_that_do_not_meet),          cmocka_unit_test(partners_that_do_not_exist),
      cmocka_unit_test(groups_that_do_not_exist),        cmocka_unit_test(a_partner_that_raises),
      cmocka_unit_test(a_partner_that_raised_elsewhere), cmocka_unit_test(sends_of_an_epoch_that_ended),
      cmocka_unit_test(two_large_sends_to_each_other),   cmocka_unit_test(a_receive_against_a_collective),
  };
  return ccl_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]));
}
