/* Whatever the members of a collective do wrong: an error within BOUND_MS that shows both sides, nobody is stuck, no
 * byte moved in silence, and the same session and data plane work on once the error was told. */
#include <stdio.h>

#include "ccl/support.h"

static const DLDataType f32 = {kDLFloat, 32, 1};
enum { SMALL = 8, LARGE = 300000 };

static disco_status wait_for(disco_session *session) {
  return disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
}

static job bad_job(int operation, int64_t count, int who, int how) {
  job it = job_of(operation, f32, count);
  it.kind = MAX;
  it.who = who;
  it.how = how;
  return it;
}

/* After a bad command: its error. A rank that waits for nobody may be through before the others disagree (the root of a
 * broadcast or scatter, a sender of a gather): then the next collective tells. */
static disco_status await_error(disco_session *session, const job *bad) {
  disco_status status = wait_for(session);
  if (status != DISCO_OK || bad->operation == ALLREDUCE || bad->operation == ALLGATHER) return status;
  job next = job_of(ALLREDUCE, f32, 1000);
  next.in_group = bad->in_group;
  next.how = NOTHING;
  post_job(session, &next);
  status = wait_for(session);
  if (status == DISCO_OK && bad->how == GROUP) {
    next.in_group = !next.in_group;
    post_job(session, &next);
    status = wait_for(session);
  }
  return status;
}

static void settle(disco_session *session) {
  check_works(session);
  check_complaints(session);
}

/* The sentence names the one that differs and some other. */
static void expect_two_workers(disco_session *session, int32_t who) {
  disco_error_info error = {.struct_size = sizeof(error), .message = ""};
  (void)disco_last_error(&error);
  expect_names(who);
  for (int32_t w = 0; w < disco_session_num_workers(session); w++)
    if (w != who && says_number(error.message, w)) return;
  print_error("the sentence names worker %d only: %s\n", who, error.message);
  fail();
}

static void say_case(const job *it) {
  print_message("           %s%s of %lld, worker %lld, trouble %lld\n", operation_names[it->operation],
                it->in_group ? " in group" : "", (long long)it->count, (long long)it->who, (long long)it->how);
}
static bool is_wordy(void) { return getenv("DISCO_TEST_VERBOSE") != NULL; }

/* Post the bad one, expect CollectiveError. */
static void expect_collective_error(disco_session *session, const job *it) {
  if (is_wordy()) say_case(it);
  post_job(session, it);
  const disco_status status = await_error(session, it);
  disco_error_info error = {.struct_size = sizeof(error), .kind = "none"};
  if (status != DISCO_OK) (void)disco_last_error(&error);
  if (strcmp(error.kind, "CollectiveError") != 0) say_case(it);
  expect_kind("CollectiveError", status);
  if (is_wordy()) print_message("%s\n", error.message);
}

/* ---- Members that disagree ---- */

static int32_t ranks_of(void **state) { return *(const int *)*state; }

static bool makes_a_difference(int operation, int how) { return how != KIND || operation == ALLREDUCE; }

static void mismatches_show_both_sides(void **state) {
  const int32_t ranks = ranks_of(state);
  disco_session *session = make_session(ranks, 1);
  for (int how = COUNT; how <= OPERATION; how++)
    for (int operation = 0; operation < NUM_OPERATIONS; operation++)
      for (int size = 0; size < 2; size++) {
        const int32_t who = (how + operation + size) % ranks;
        const job it = bad_job(operation, size ? LARGE : SMALL, who, how);
        if (!makes_a_difference(operation, how)) continue;
        expect_collective_error(session, &it);
        settle(session);
      }
  end_session(session);
}

/* All wait for all here: the very operation tells, with both descriptions. */
static void the_sentence_of_a_mismatch(void **state) {
  const int32_t ranks = ranks_of(state);
  disco_session *session = make_session(ranks, 1);
  for (int size = 0; size < 2; size++)
    for (int32_t who = 0; who < ranks; who++)
      for (int how = COUNT; how <= OPERATION; how++) {
        const job it = bad_job(ALLREDUCE, size ? LARGE : SMALL, who, how);
        expect_collective_error(session, &it);
        expect_two_workers(session, who);
        expect_says("allreduce");
        expect_says("float32");
        expect_names(it.count);
        if (how == COUNT) expect_names(it.count + 1);
        if (how == DTYPE) expect_says("int32");
        if (how == KIND) expect_says("max");
        if (how == KIND) expect_says("avg");
        if (how == OPERATION) expect_says("allgather");
        settle(session);
      }
  end_session(session);
}

static void world_against_group(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int in_group = 0; in_group < 2; in_group++)
      for (int32_t who = 0; who < 4; who += 3) {
        job it = bad_job(operation, in_group ? SMALL : LARGE, who, GROUP);
        it.in_group = in_group;
        expect_collective_error(session, &it);
        settle(session);
      }
  end_session(session);
}

static void one_that_calls_no_collective(void **state) {
  const int32_t ranks = ranks_of(state);
  disco_session *session = make_session(ranks, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int size = 0; size < 2; size++)
      for (int32_t who = 0; who < ranks; who++) {
        const job it = bad_job(operation, size ? LARGE : SMALL, who, SKIP);
        expect_collective_error(session, &it);
        if (operation == ALLREDUCE) expect_names(who);
        settle(session);
      }
  end_session(session);
}

static void one_that_calls_it_twice(void **state) {
  const int32_t ranks = ranks_of(state);
  disco_session *session = make_session(ranks, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int size = 0; size < 2; size++)
      for (int32_t who = 0; who < ranks; who++) {
        const job it = bad_job(operation, size ? LARGE : SMALL, who, TWICE);
        expect_collective_error(session, &it);
        settle(session);
      }
  end_session(session);
}

/* The members are let go, but what is told is why. */
static void one_that_raises_before(void **state) {
  const int32_t ranks = ranks_of(state);
  disco_session *session = make_session(ranks, 1);
  for (int turn = 0; turn < scaled(4, 1); turn++)
    for (int operation = 0; operation < NUM_OPERATIONS; operation++)
      for (int size = 0; size < 2; size++)
        for (int32_t who = 0; who < ranks; who++) {
          const job it = bad_job(operation, size ? LARGE : SMALL, who, RAISE);
          post_job(session, &it);
          expect_kind("ValueError", wait_for(session));
          expect_says(RAISED_TEXT);
          settle(session);
        }
  end_session(session);
}

/* It raised in an earlier command, while others were already in a later one's collective. */
static void one_that_raised_commands_ago(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int32_t who = 0; who < 3; who++) {
    POST_STEPS(session, f32, {who, NAP, 0, 10, 0});
    post(session, "test.raise", VALUES(dsc_int(who)));
    job it = job_of(ALLREDUCE, f32, who == 1 ? SMALL : LARGE);
    it.how = NOTHING;
    disco_status status = try_job(session, &it); /* tells already, where it comes late */
    if (status == DISCO_OK) status = wait_for(session);
    expect_kind("ValueError", status);
    expect_says(RAISED_TEXT);
    settle(session);
  }
  end_session(session);
}

/* Two epochs of errors one behind the other, with half-done collectives of all communicators. */
static void error_after_error(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  for (int turn = 0; turn < scaled(60, 8); turn++) {
    const uint64_t h = mix(8, (uint64_t)turn);
    static const int troubles[] = {SKIP, RAISE, COUNT, DTYPE, OPERATION, TWICE};
    job it = bad_job((int)(h % 2), h & 16 ? SMALL : LARGE, (int)(h >> 8 & 3), troubles[(h >> 16) % 6]);
    it.in_group = h >> 24 & 1;
    it.in_place = h >> 25 & 1;
    post_job(session, &it);
    const disco_status status = wait_for(session);
    if (status == DISCO_OK) say_case(&it);
    expect_kind(it.how == RAISE ? "ValueError" : "CollectiveError", status);
    if (turn % 3 == 0) settle(session);
  }
  settle(session);
  end_session(session);
}

/* ---- What is wrong by itself ---- */

/* Worker `who` alone has it wrong, or everybody. */
static void expect_value_error(disco_session *session, const job *it) {
  if (is_wordy()) say_case(it);
  post_job(session, it);
  const disco_status status = wait_for(session);
  disco_error_info error = {.struct_size = sizeof(error), .kind = "none"};
  if (status != DISCO_OK) (void)disco_last_error(&error);
  if (strcmp(error.kind, "ValueError") != 0) say_case(it);
  expect_kind("ValueError", status);
  if (is_wordy()) print_message("%s\n", error.message);
}

static const char *const short_names[NUM_OPERATIONS] = {"allreduce", "allgather", "broadcast", "scatter", "gather"};

/* What the side that was made too large has. */
static int64_t wrong_size(const job *it, int32_t ranks) {
  const bool whole =
      it->how == RECV_SIZE ? it->operation == ALLGATHER || it->operation == GATHER : it->operation == SCATTER;
  return it->count * (whole ? ranks : 1) + 1;
}

static void sizes_that_do_not_fit(void **state) {
  (void)state;
  static const struct {
    int operation, how, who; /* whose sizes count */
  } cases[] = {
      {ALLREDUCE, RECV_SIZE, 1}, {ALLREDUCE, SEND_SIZE, 0}, {ALLGATHER, RECV_SIZE, 1},
      {ALLGATHER, SEND_SIZE, 0}, {BROADCAST, RECV_SIZE, 0}, {SCATTER, SEND_SIZE, 0},
      {SCATTER, RECV_SIZE, 0},   {GATHER, RECV_SIZE, 0},    {GATHER, SEND_SIZE, 0},
  };
  disco_session *session = make_session(2, 1);
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
    for (int size = 0; size < 2; size++)
      for (int everybody = 0; everybody < 2; everybody++) {
        const bool of_root = cases[i].operation >= BROADCAST;
        const int64_t count = size ? LARGE : SMALL;
        const job it =
            bad_job(cases[i].operation, count, everybody && !of_root ? EVERYBODY : cases[i].who, cases[i].how);
        expect_value_error(session, &it);
        expect_says(short_names[cases[i].operation]);
        expect_names(wrong_size(&it, 2));
        settle(session);
      }
  end_session(session);
}

static void types_that_do_not_fit(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++) {
    const job it = bad_job(operation, SMALL, 0, RECV_DTYPE);
    expect_value_error(session, &it);
    expect_says("float32");
    expect_says("uint32");
    settle(session);
  }
  end_session(session);
}

static void kinds_that_do_not_exist(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int who = EVERYBODY; who < 2; who++) {
    const job it = bad_job(ALLREDUCE, SMALL, who, BAD_KIND);
    expect_value_error(session, &it);
    expect_says("7");
    settle(session);
  }
  end_session(session);
}

/* The contract wants InternalError for fp8 from the built-in names; either way the type is named. */
static void types_that_cannot_be_reduced(void **state) {
  (void)state;
  static const char *const names[NUM_MOVED_TYPES] = {"float8_e4m3fn", "float8_e5m2", "int4",
                                                     "bool",          "complex128",  NULL};
  disco_session *session = make_session(2, 1);
  for (int t = 0; t < NUM_MOVED_TYPES; t++) {
    if (names[t] == NULL) continue;
    job it = job_of(ALLREDUCE, moved_types[t], SMALL);
    it.how = NOTHING;
    post_job(session, &it);
    assert_int_not_equal(wait_for(session), DISCO_OK);
    expect_says(names[t]);
    settle(session);
  }
  end_session(session);
}

static void tensors_that_cannot_be_used(void **state) {
  (void)state;
  static const int troubles[] = {STRIDED_SEND, STRIDED_RECV, GPU_SEND, GPU_RECV};
  disco_session *session = make_session(2, 1);
  for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++)
    for (int operation = 0; operation < NUM_OPERATIONS; operation++)
      for (int who = EVERYBODY; who < 1; who++) { /* the root, or all */
        const job it = bad_job(operation, SMALL, who, troubles[i]);
        expect_value_error(session, &it);
        expect_says(short_names[operation]);
        settle(session);
      }
  end_session(session);
}

static void partial_overlaps(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int size = 0; size < 2; size++) {
      const job it = bad_job(operation, size ? LARGE : SMALL, 0, OVERLAP);
      expect_value_error(session, &it);
      expect_says("overlap");
      settle(session);
    }
  end_session(session);
}

static void tensors_that_are_missing(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int how = NULL_SEND; how <= NULL_RECV; how++) {
      const job it = bad_job(operation, SMALL, 0, how); /* the root needs both */
      expect_value_error(session, &it);
      settle(session);
    }
  end_session(session);
}

/* Slices that end in the middle of a byte: packed right, or refused. */
static void half_bytes(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  job it = job_of(ALLGATHER, moved_types[MOVED_INT4], 3);
  it.how = NOTHING;
  post_job(session, &it);
  if (wait_for(session) != DISCO_OK) expect_says("int4");
  settle(session);
  end_session(session);
}

/* Several at once, each wrong in its own way: one error, and on. */
static void everybody_wrong_in_flight(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int turn = 0; turn < scaled(20, 3); turn++) {
    int failed = 0;
    for (int i = 0; i < 10; i++) { /* those that are posted behind the failure are skipped, or tell it */
      const int how = i == 4 ? RAISE : i == 7 ? COUNT : GOOD;
      const job it = bad_job(i % NUM_OPERATIONS, i & 1 ? SMALL : LARGE, i % 3, how);
      failed += try_job(session, &it) != DISCO_OK;
    }
    while (wait_for(session) != DISCO_OK) assert_true(++failed < 10);
    assert_true(failed >= 1);
    settle(session);
  }
  end_session(session);
}

static int p2 = 2, p4 = 4, p3 = 3;

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define FOR_RANKS(test, n) {#test ", " #n " ranks", test, NULL, NULL, &p##n}
      FOR_RANKS(mismatches_show_both_sides, 2),
      FOR_RANKS(mismatches_show_both_sides, 4),
      FOR_RANKS(the_sentence_of_a_mismatch, 2),
      FOR_RANKS(the_sentence_of_a_mismatch, 3),
      cmocka_unit_test(world_against_group),
      FOR_RANKS(one_that_calls_no_collective, 2),
      FOR_RANKS(one_that_calls_no_collective, 4),
      FOR_RANKS(one_that_calls_it_twice, 2),
      FOR_RANKS(one_that_calls_it_twice, 3),
      FOR_RANKS(one_that_raises_before, 2),
      FOR_RANKS(one_that_raises_before, 4),
      cmocka_unit_test(one_that_raised_commands_ago),
      cmocka_unit_test(error_after_error),
      cmocka_unit_test(sizes_that_do_not_fit),
      cmocka_unit_test(types_that_do_not_fit),
      cmocka_unit_test(kinds_that_do_not_exist),
      cmocka_unit_test(types_that_cannot_be_reduced),
      cmocka_unit_test(tensors_that_cannot_be_used),
      cmocka_unit_test(partial_overlaps),
      cmocka_unit_test(tensors_that_are_missing),
      cmocka_unit_test(half_bytes),
      cmocka_unit_test(everybody_wrong_in_flight),
  };
  return ccl_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]));
}
