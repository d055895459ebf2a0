/* The n-th allocation or system call fails, for every n: in the controller while a session is made, used and shut down,
 * and in a worker from its first line on. A clean error or success; what is not lost goes on; nothing is left. */
#include <signal.h>
#include <stdio.h>

#include "base/inject.h"
#include "deaths/support.h"
#include "ffi/object.h"

enum { WORKERS = 3, MOST = 600 };

/* ---- Workers: TEST_FAIL_AT=n is for worker 1 ---- */

static void fail_later(int argc, char **argv) {
  const char *at = getenv("TEST_FAIL_AT");
  if (at != NULL && argc > 2 && atoi(argv[2]) == 1) (void)dsc_inject_fail_allocation(atol(at));
}

/* () -> how many allocations this process has counted; none fails from here on. */
static int count_allocations(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(my_id() == 1 ? (int64_t)dsc_inject_fail_allocation(0) : 0);
  return 0;
}

/* ---- What is done ---- */

static TVMFFIObjectHandle tensor;
static char *text_of_200k;

/* Large and small arguments, replies of every way, containers. Stops at the first error. */
static disco_status use(disco_session *session) {
  const TVMFFIAny large = dsc_object_value(tensor), text = of_text(text_of_200k), one = dsc_int(1);
  TVMFFIAny value = dsc_none(), all[WORKERS];
  disco_dref *function = NULL, *sized = NULL, *big = NULL, *kept = NULL;
  disco_status status = disco_session_get_global_func(session, "d.size", &function);
  if (status == DISCO_OK) status = disco_call(session, function, &large, 1, &sized);
  if (status == DISCO_OK) status = disco_call(session, function, &text, 1, NULL);
  if (status == DISCO_OK) status = disco_debug_get_all(sized, BOUND_MS, WORKERS, all);
  disco_dref_unref(function);
  function = NULL;
  if (status == DISCO_OK) status = disco_session_get_global_func(session, "d.big", &function);
  if (status == DISCO_OK) status = disco_call(session, function, ARGS(dsc_int(100000)), &big);
  for (int i = 0; status == DISCO_OK && i < WORKERS; i++) {
    status = disco_debug_get(big, i, BOUND_MS, &value);
    if (status == DISCO_OK) dsc_value_drop(&value);
  }
  if (status == DISCO_OK) status = disco_session_put(session, &one, &kept);
  if (status == DISCO_OK) status = disco_debug_set(kept, DISCO_ALL_WORKERS, &large, BOUND_MS);
  if (status == DISCO_OK) status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
  disco_dref_unref(kept);
  disco_dref_unref(big);
  disco_dref_unref(sized);
  disco_dref_unref(function);
  return status;
}

static bool is_clean(disco_status status) {
  const disco_status clean[] = {DISCO_OK, DISCO_MEMORY, DISCO_RUNTIME, DISCO_RAISED, DISCO_LOST, DISCO_VALUE};
  for (size_t i = 0; i < sizeof(clean) / sizeof(clean[0]); i++)
    if (status == clean[i] && (status == DISCO_OK || strlen(disco_last_error_text()) > 10)) return true;
  print_error("status %d: %s\n", (int)status, disco_last_error_text());
  return false;
}

/* After a failure nothing fails any more: within two errors that are told late, everything works again. */
static void expect_recovers(disco_session *session, long n) {
  disco_status status = DISCO_OK;
  for (int i = 0; i < 4; i++) {
    status = use(session);
    if (status == DISCO_OK || status == DISCO_LOST) return;
  }
  print_error("n = %ld: %s\n", n, disco_last_error_text());
  fail();
}

static void end_in_peace(disco_session *session, const census *before, long n) {
  disco_status status = disco_session_shutdown(session);
  if (status != DISCO_OK) print_error("n = %ld: %s\n", n, disco_last_error_text());
  assert_int_equal(status, DISCO_OK);
  disco_session_unref(session);
  census_end(before);
}

/* ---- In the controller ---- */

static int step(long n) { return n < 40 ? scaled(1, 1) + (SANITIZED ? 4 : 0) : 1 + (SANITIZED ? 9 : 0); }

static void while_it_is_made(bool pipe) {
  census before = census_begin();
  long n = 1;
  int failures = 0;
  for (bool hit = true; hit && n < MOST; n += step(n)) {
    disco_session_options options = options_of(WORKERS, pipe);
    disco_session *session = NULL;
    (void)dsc_inject_fail_allocation(n);
    disco_status status = disco_session_create_process(&options, &session);
    /* What other threads still do for it belongs to it. */
    disco_status used = status == DISCO_OK ? disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS) : DISCO_OK;
    hit = dsc_inject_fail_allocation(0) >= n;
    if (status != DISCO_OK) {
      failures++;
      assert_true(hit);
      assert_true(is_clean(status));
      assert_null(session);
      census_end(&before);
      continue;
    }
    assert_true(is_clean(used));
    expect_recovers(session, n);
    end_in_peace(session, &before, n);
  }
  assert_true(n < MOST);
  assert_true(failures > (SANITIZED ? 3 : 20));
}

static void while_a_session_is_made(void **state) {
  (void)state;
  while_it_is_made(false);
}

static void while_a_session_on_pipes_is_made(void **state) {
  (void)state;
  while_it_is_made(true);
}

/* From the first command on, in one session as long as it lives: also what the monitor and the pumps do. */
static void while_it_is_used(bool pipe) {
  census before = census_begin();
  disco_session *session = NULL;
  long n = 1;
  int failures = 0;
  for (bool hit = true; hit && n < MOST; n += step(n)) {
    if (session == NULL) session = open_session(WORKERS, pipe);
    if (n % 2 == 0) OK(use(session)); /* some meet it while they start, others later */
    (void)dsc_inject_fail_allocation(n);
    disco_status status = use(session);
    hit = dsc_inject_fail_allocation(0) >= n;
    assert_true(is_clean(status));
    failures += status != DISCO_OK;
    expect_recovers(session, n);
    if (disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS) != DISCO_LOST && n % 8 != 0) continue;
    end_in_peace(session, &before, n);
    session = NULL;
  }
  if (session != NULL) end_in_peace(session, &before, n);
  assert_true(n < MOST);
  assert_true(failures > (SANITIZED ? 1 : 4));
}

static void while_a_session_is_used(void **state) {
  (void)state;
  while_it_is_used(false);
}

static void while_a_session_on_pipes_is_used(void **state) {
  (void)state;
  while_it_is_used(true);
}

static void while_a_session_ends(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    long n = 1;
    for (bool hit = true; hit && n < MOST; n += step(n)) {
      disco_session *session = open_session(WORKERS, pipe == 1);
      OK(use(session));
      (void)dsc_inject_fail_allocation(n);
      disco_status status = disco_session_shutdown(session);
      hit = dsc_inject_fail_allocation(0) >= n;
      assert_int_equal(status, DISCO_OK);
      disco_session_unref(session);
      census_end(&before);
    }
    assert_true(n < MOST);
  }
}

/* A worker dies and there is no memory to say so. */
static void while_a_worker_dies(void **state) {
  (void)state;
  census before = census_begin();
  for (int pipe = 0; pipe < 2; pipe++) {
    long n = 1;
    for (bool hit = true; hit && n < MOST; n += step(n)) {
      disco_session *session = open_session(WORKERS, pipe == 1);
      const pid_t pid = pid_of(session, 1);
      expect_works(session); /* everybody has come */
      (void)dsc_inject_fail_allocation(n);
      assert_int_equal(kill(pid, SIGKILL), 0);
      disco_status status = DISCO_OK; /* whose sentence there may be no memory for */
      for (int64_t end = now_ms() + BOUND_MS; status == DISCO_OK && now_ms() < end; sleep_ms(1))
        status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
      hit = dsc_inject_fail_allocation(0) >= n;
      assert_true(status == DISCO_LOST || status == DISCO_MEMORY);
      disco_error_info error = await_lost(session, 1);
      assert_int_equal(error.pid, pid);
      end_in_peace(session, &before, n);
    }
  }
}

/* ---- In a worker ---- */

static void in_a_worker(bool pipe) {
  census before = census_begin();
  long n = 1;
  int failures = 0;
  for (bool hit = true; hit && n < MOST; n += step(n)) {
    char at[64];
    const char *const environment[] = {at, NULL};
    (void)snprintf(at, sizeof(at), "TEST_FAIL_AT=%ld", n);
    disco_session_options options = options_of(WORKERS, pipe);
    options.environment = environment;
    disco_session *session = open_with(&options);
    disco_status status = use(session);
    assert_true(is_clean(status));
    failures += status != DISCO_OK;
    if (status != DISCO_OK) expect_recovers(session, n);
    if (status == DISCO_OK) {
      disco_dref *function = NULL, *counted = NULL; /* the n-th may be one of these */
      TVMFFIAny value = dsc_none();
      disco_status read = disco_session_get_global_func(session, "d.allocations", &function);
      if (read == DISCO_OK) read = disco_call(session, function, NO_ARGS, &counted);
      if (read == DISCO_OK) read = disco_debug_get(counted, 1, BOUND_MS, &value);
      assert_true(is_clean(read));
      hit = read != DISCO_OK || value.v_int64 >= n;
      disco_dref_unref(counted);
      disco_dref_unref(function);
    }
    end_in_peace(session, &before, n);
  }
  assert_true(n < MOST);
  assert_true(failures > 1);
}

static void in_a_worker_on_the_ring(void **state) {
  (void)state;
  in_a_worker(false);
}

static void in_a_worker_on_the_pipe(void **state) {
  (void)state;
  in_a_worker(true);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(while_a_session_is_made), cmocka_unit_test(while_a_session_on_pipes_is_made),
      cmocka_unit_test(while_a_session_is_used), cmocka_unit_test(while_a_session_on_pipes_is_used),
      cmocka_unit_test(while_a_session_ends),    cmocka_unit_test(while_a_worker_dies),
      cmocka_unit_test(in_a_worker_on_the_ring), cmocka_unit_test(in_a_worker_on_the_pipe),
  };
  const int64_t size = 300000;
  register_function("d.allocations", count_allocations);
  deaths_worker_hook = fail_later;
  text_of_200k = malloc(200001);
  if (text_of_200k == NULL ||
      disco_tensor_create(1, &size, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor) != DISCO_OK)
    return 2;
  memset(text_of_200k, 'x', 200000);
  text_of_200k[200000] = 0;
  int failed = deaths_main(argc, argv, "deaths.inject", tests, sizeof(tests) / sizeof(tests[0]), NULL);
  free(text_of_200k);
  dsc_object_unref(tensor);
  return failed;
}
