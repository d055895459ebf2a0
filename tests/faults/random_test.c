/* Failures and recoveries at random places, with a seed (DISCO_TEST_SEED): no value is ever wrong, nothing is told
 * twice. */
#include "faults/support.h"

#include <stdio.h>

#include "ffi/value.h"

static uint64_t random_state;

static uint32_t below(uint32_t n) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return (uint32_t)((z ^ z >> 31) >> 32) % n;
}

typedef struct {
  disco_session *session;
  disco_dref *add, *raise;
  int32_t workers;
  uint64_t failed;
} chaos;

static void expect_this_cycle(const chaos *c, disco_status status) {
  assert_int_equal(status, DISCO_RAISED);
  assert_int_equal(faults_error().sequence, c->failed); /* never one of an earlier cycle */
  assert_string_equal(faults_error().message, "at random");
}

/* n more links: register = register + 1. Returns whether a call was told the error. */
static bool extend(const chaos *c, disco_dref **chain, uint32_t n, int64_t *number) {
  for (uint32_t i = 0; i < n; i++) {
    disco_dref *next = NULL;
    disco_status status = faults_try(c->add, &next, 2, faults_dref(*chain), faults_int(1));
    if (status != DISCO_OK) {
      expect_this_cycle(c, status);
      return true;
    }
    disco_dref_unref(*chain);
    *chain = next;
    ++*number;
  }
  return false;
}

static void be_told(const chaos *c, disco_dref *before, int64_t number) {
  TVMFFIAny value = dsc_none();
  disco_status status = DISCO_OK;
  int32_t worker = (int32_t)below((uint32_t)c->workers);
  if (below(3) == 0) status = disco_session_sync(c->session, worker, FAULTS_BOUND_MS);
  if (status == DISCO_OK && below(3) == 0) {
    status = disco_debug_get(before, worker, FAULTS_BOUND_MS, &value);
    if (status == DISCO_OK) assert_int_equal(value.v_int64, number);
  }
  if (status == DISCO_OK) status = faults_sync(c->session);
  expect_this_cycle(c, status);
}

static void one_cycle(chaos *c) {
  int64_t number = below(1000000);
  TVMFFIAny value = faults_int(number);
  disco_dref *before = NULL;
  OK(disco_session_put(c->session, &value, &before));
  assert_false(extend(c, &before, below(8), &number));
  int32_t culprit = (int32_t)below((uint32_t)c->workers);
  int64_t mask = below(4) == 0 ? FAULTS_ALL : (int64_t)1 << culprit, after_number = number;
  disco_dref *failing = faults_call(c->raise, 4, faults_int(mask), faults_str("ValueError"), faults_str("at random"),
                                    faults_str("")),
             *after = before;
  c->failed = disco_session_sequence(c->session);
  disco_dref_ref(after);
  if (!extend(c, &after, below(8), &after_number)) be_told(c, before, number);
  int32_t worker = (int32_t)below((uint32_t)c->workers);
  assert_int_equal(faults_get(before, worker), number);
  disco_status status = disco_debug_get(after, worker, FAULTS_BOUND_MS, &value);
  char want[64];
  (void)snprintf(want, sizeof(want), "command %llu,", (unsigned long long)c->failed);
  if (status == DISCO_OK)
    assert_int_equal(value.v_int64, after_number);
  else
    faults_refused(status, DISCO_VALUE, "ValueError", want);
  faults_refused(disco_debug_get(failing, culprit, FAULTS_BOUND_MS, &value), DISCO_VALUE, "ValueError", want);
  assert_false(extend(c, &before, below(4), &number));
  faults_all_have(before, number);
  disco_dref_unref(failing);
  disco_dref_unref(after);
  disco_dref_unref(before);
}

static void test_ten_thousand_recoveries(void **state) {
  (void)state;
  const char *seed = getenv("DISCO_TEST_SEED");
  random_state = seed != NULL ? strtoull(seed, NULL, 10) : 20240607;
  for (int32_t workers = 1; workers <= 8; workers++) {
    chaos c = {.session = faults_open(workers), .workers = workers};
    c.add = faults_function(c.session, "faults.add");
    c.raise = faults_function(c.session, "faults.raise");
    int64_t cycles = faults_scaled(10000) / 8 + 1;
    for (int64_t i = 0; i < cycles; i++) one_cycle(&c);
    faults_settle(c.session);
    OK(faults_sync(c.session));
    assert_int_equal(faults_stats(c.session).errors_told, cycles);
    assert_int_equal(faults_stats(c.session).live_registers, 2);
    disco_dref_unref(c.add);
    disco_dref_unref(c.raise);
    faults_close(c.session);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_ten_thousand_recoveries)};
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
