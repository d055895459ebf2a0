/* Starting the data plane, what is refused, and what workers and others may ask. */
#include <stdio.h>

#include "ccl/alias.h"
#include "ccl/support.h"

static const DLDataType f32 = {kDLFloat, 32, 1};

static disco_status wait_for(disco_session *session) {
  return disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
}

/* The status of init_ccl or, where that only posts, of the sync behind it. */
static disco_status init_and_wait(disco_session *session, int32_t num_ids) {
  const disco_status status = init_ccl(session, num_ids);
  return status == DISCO_OK ? wait_for(session) : status;
}

static void twice_is_refused(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  expect_status(DISCO_RUNTIME, init_ccl(session, 2));
  expect_says(ccl_name());
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_ok(disco_last_error(&error));
  assert_string_equal(error.kind, "RuntimeError");
  assert_string_equal(error.message, error.text); /* one sentence, and no advice to call again */
  check_works(session);
  check_works(session);
  end_session(session);
}

static void a_wrong_number_of_ids_is_refused(void **state) {
  (void)state;
  static const int32_t wrong[] = {0, 1, 4};
  disco_session *session = make_bare_session(3, 1);
  for (int i = 0; i < 3; i++) {
    expect_status(DISCO_VALUE, init_ccl(session, wrong[i]));
    expect_names(3);
    if (wrong[i] != 0) expect_names(wrong[i]);
    disco_error_info error = {.struct_size = sizeof(error)};
    expect_ok(disco_last_error(&error));
    assert_string_equal(error.kind, "ValueError");
    assert_string_equal(error.message, error.text);
  }
  expect_ok(init_and_wait(session, 3)); /* the right one still works */
  check_works(session);
  end_session(session);
}

static void ids_mean_nothing(void **state) {
  (void)state;
  const int64_t ids[] = {7, 7, 100};
  disco_session *session = make_bare_session(3, 1);
  expect_ok(disco_session_init_ccl(session, ccl_name(), ids, 3));
  sync_all(session);
  check_works(session);
  end_session(session);
}

/* Who waits long sleeps: a look after 1 ms, then after 2, 4, ... 256, whatever it waits for. */
static void long_waits_are_slept(void **state) {
  (void)state;
  enum { LONG_MS = 700, MOST_WAKES = 24 };
  const DLDataType type = {kDLFloat, 32, 1};
  disco_session *session = make_bare_session(2, 1);
  expect_ok(init_and_wait(session, 2));
  check_works(session);
  const int64_t before = statistic(session, SLEEPS, 1);
  POST_STEPS(session, type, {0, NAP, 0, LONG_MS, 0}, {0, SEND, 1, 8, 1}, {1, RECV, 0, 8, 1});
  sync_all(session);
  const int64_t sleeps = statistic(session, SLEEPS, 1) - before;
  assert_in_range(sleeps, 1, MOST_WAKES);
  end_session(session);
}

/* Programs that insist on another data plane's name get ours where that one is not there. */
static void another_name_may_stand_for_it(void **state) {
  (void)state;
  const int64_t ids[] = {0, 1};
  char alias[64], name[DSC_CCL_ALIAS_MAX];
  (void)snprintf(alias, sizeof(alias), "nccl=%s", ccl_name());
  setenv("DISCO_CCL_ALIAS", alias, 1);
  disco_session *session = make_bare_session(2, 1);
  dsc_ccl_name(NULL, name);
  assert_string_equal(name, "nccl"); /* what compiled_ccl() answers */
  unsetenv("DISCO_CCL_ALIAS");
  dsc_ccl_name(NULL, name);
  assert_string_equal(name, "cpu");
  expect_status(DISCO_VALUE, disco_session_init_ccl(session, "rccl", ids, 2));
  expect_ok(disco_session_init_ccl(session, "nccl", ids, 2));
  sync_all(session);
  check_works(session);
  end_session(session);
}

static void a_bad_alias_is_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"nccl", "=cpu", "nccl=", "nccl=gpu"};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(1, 1);
    disco_session *session = NULL;
    options.ccl_alias = bad[i];
    expect_status(DISCO_VALUE, disco_session_create_threaded(&options, &session));
    expect_says(bad[i]);
  }
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(1, 1);
  disco_session *session = NULL;
  const int64_t id = 0;
  options.ccl_alias = "nccl=cpu";
  expect_ok(disco_session_create_threaded(&options, &session));
  expect_ok(disco_session_init_ccl(session, "nccl", &id, 1));
  expect_ok(disco_session_shutdown(session));
  disco_session_unref(session);
}

static void an_unknown_data_plane_is_refused(void **state) {
  (void)state;
  const int64_t ids[] = {0, 1};
  disco_session *session = make_bare_session(2, 1);
  expect_status(DISCO_VALUE, disco_session_init_ccl(session, "gpu", ids, 2));
  expect_says("gpu");
  expect_ok(init_and_wait(session, 2));
  check_works(session);
  end_session(session);
}

static void without_one_collectives_say_so(void **state) {
  (void)state;
  disco_session *session = make_bare_session(2, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++) {
    const job it = job_of(operation, f32, 8);
    post_job(session, &it);
    expect_kind("ValueError", wait_for(session));
    expect_says("init_ccl");
  }
  POST_STEPS(session, f32, {0, SEND, 1, 1, 1}, {1, RECV, 0, 1, 1});
  expect_kind("ValueError", wait_for(session));
  expect_ok(init_and_wait(session, 2));
  check_works(session);
  end_session(session);
}

/* After an error that nobody was told yet, and while commands are under way. */
static void it_starts_behind_an_error(void **state) {
  (void)state;
  disco_session *session = make_bare_session(2, 1);
  post(session, "test.raise", VALUES(dsc_int(1)));
  expect_kind("ValueError", wait_for(session));
  expect_ok(init_and_wait(session, 2));
  check_works(session);
  end_session(session);
}

static void a_session_over_pipes_has_none(void **state) {
  (void)state;
  disco_session_options options = options_of(2, 1);
  options.transport = DISCO_TRANSPORT_PIPE;
  disco_session *session = NULL;
  expect_ok(start(&options, &session));
  expect_status(DISCO_RUNTIME, init_ccl(session, 2)); /* a worker says so, and it has the status that it says it with */
  expect_says("pipe");                                /* why */
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_ok(disco_last_error(&error));
  assert_int_equal(error.status, DISCO_RUNTIME);
  assert_int_equal(error.worker, 1);
  post(session, "test.pid", NO_VALUES); /* all else works */
  sync_all(session);
  end_session(session);
}

static void workers_know_its_name(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *names = call(session, "test.ccl", NO_VALUES);
  for (int32_t w = 0; w < 2; w++) {
    TVMFFIAny value = dsc_none();
    TVMFFIByteArray text;
    expect_ok(disco_debug_get(names, w, WORK_MS, &value));
    assert_true(dsc_value_string(&value, &text));
    assert_int_equal(text.size, strlen(ccl_name()));
    assert_memory_equal(text.data, ccl_name(), text.size);
    dsc_value_drop(&value);
  }
  disco_dref_unref(names);
  end_session(session);
}

static void nobody_else_may_call(void **state) {
  (void)state;
  float number = 1;
  int64_t shape = 1;
  DLTensor tensor = {.data = &number, .ndim = 1, .dtype = f32, .shape = &shape, .device = {kDLCPU, 0}};
  disco_collective_stats stats = {.struct_size = sizeof(stats)};
  expect_status(DISCO_VALUE, disco_allreduce(&tensor, DISCO_SUM, false, &tensor));
  expect_says("not a DiscoWorker thread");
  expect_status(DISCO_VALUE, disco_allgather(&tensor, false, &tensor));
  expect_status(DISCO_VALUE, disco_broadcast_from_worker0(&tensor, false, &tensor));
  expect_status(DISCO_VALUE, disco_scatter_from_worker0(&tensor, false, &tensor));
  expect_status(DISCO_VALUE, disco_gather_to_worker0(&tensor, false, &tensor));
  expect_status(DISCO_VALUE, disco_send_to_worker(&tensor, 0));
  expect_status(DISCO_VALUE, disco_recv_from_worker(&tensor, 0));
  expect_status(DISCO_VALUE, disco_recv_from_worker0(&tensor));
  expect_status(DISCO_VALUE, disco_send_to_next_group(&tensor));
  expect_status(DISCO_VALUE, disco_recv_from_prev_group(&tensor));
  expect_status(DISCO_VALUE, disco_worker_collective_stats(&stats));
  expect_says("not a DiscoWorker thread");
}

/* ---- Which way data went ---- */

/* What one job adds to the counters of worker 1. */
typedef struct {
  int64_t inlined, staged, direct, bytes;
} gains;

static gains counters(disco_session *session) {
  return (gains){statistic(session, INLINED, 1), statistic(session, STAGED, 1), statistic(session, DIRECT, 1),
                 statistic(session, BYTES, 1)};
}

static gains gain(disco_session *session, const job *it) {
  const gains before = counters(session);
  run_job(session, it);
  const gains after = counters(session);
  return (gains){after.inlined - before.inlined, after.staged - before.staged, after.direct - before.direct,
                 after.bytes - before.bytes};
}

static void expect_gain(disco_session *session, const job *it, gains wanted) {
  const gains got = gain(session, it);
  if (got.inlined == wanted.inlined && got.staged == wanted.staged && got.direct == wanted.direct &&
      got.bytes >= wanted.bytes)
    return;
  print_error(
      "%s of %lld floats, in place %lld: %lld inlined, %lld staged, %lld direct, %lld bytes, not %lld, %lld, %lld, "
      "%lld or more\n",
      operation_names[it->operation], (long long)it->count, (long long)it->in_place, (long long)got.inlined,
      (long long)got.staged, (long long)got.direct, (long long)got.bytes, (long long)wanted.inlined,
      (long long)wanted.staged, (long long)wanted.direct, (long long)wanted.bytes);
  fail();
}

static void statistics_show_the_way(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  /* Thread workers and our own tensors have addresses that all can use; other tensors of processes do not. */
  const bool direct = (!of_processes() || memory_of_mode() == MEMORY_OURS) && !is_ref();
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int in_place = 0; in_place < 2; in_place++) {
      job small = job_of(operation, f32, 4), large = job_of(operation, f32, 1500000);
      small.in_place = large.in_place = in_place;
      if (!is_ref()) expect_gain(session, &small, (gains){1, 0, 0, 16});
      expect_gain(session, &large, (gains){0, !direct, direct, 2000000});
    }
  end_session(session);
}

static void an_error_leaves_them_sensible(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  job it = job_of(ALLREDUCE, f32, 100);
  it.who = 0;
  it.how = RAISE;
  post_job(session, &it);
  expect_kind("ValueError", wait_for(session));
  it.how = GOOD;
  const gains got = gain(session, &it);
  assert_int_equal(got.inlined + got.staged + got.direct, 1);
  end_session(session);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(twice_is_refused),
      cmocka_unit_test(a_wrong_number_of_ids_is_refused),
      cmocka_unit_test(ids_mean_nothing),
      cmocka_unit_test(long_waits_are_slept),
      cmocka_unit_test(another_name_may_stand_for_it),
      cmocka_unit_test(a_bad_alias_is_refused),
      cmocka_unit_test(an_unknown_data_plane_is_refused),
      cmocka_unit_test(without_one_collectives_say_so),
      cmocka_unit_test(it_starts_behind_an_error),
      cmocka_unit_test(workers_know_its_name),
      cmocka_unit_test(nobody_else_may_call),
      cmocka_unit_test(statistics_show_the_way),
      cmocka_unit_test(an_error_leaves_them_sensible),
      cmocka_unit_test(a_session_over_pipes_has_none), /* the last one: of processes only */
  };
  const size_t count = sizeof(tests) / sizeof(tests[0]);
  return ccl_main(argc, argv, __FILE__, tests, of_processes() ? count : count - 1);
}
