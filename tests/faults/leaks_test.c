/* Nothing is left behind: sessions by the hundred thousand, registers by the million, and every allocation of every
 * call that fails once. */
#include "faults/support.h"

#include <stdio.h>
#include <unistd.h>

#include "base/inject.h"
#include "ffi/value.h"

/* ---- What a process holds ---- */

typedef struct {
  int threads, descriptors, mappings;
  long resident_kib;
} census;

static long resident_kib(void) {
  long pages = 0, total = 0;
  FILE *file = fopen("/proc/self/statm", "re");
  assert_non_null(file);
  assert_int_equal(fscanf(file, "%ld %ld", &total, &pages), 2);
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static census take_census(void) {
  return (census){faults_count_entries("/proc/self/task"), faults_count_entries("/proc/self/fd"),
                  faults_count_lines("/proc/self/maps"), resident_kib()};
}

/* Resident memory says nothing under a sanitizer, which keeps what was freed. */
static void expect_flat(const census *before, long slack_kib) {
  assert_true(faults_library_threads_gone());
  census after = take_census();
  if (after.threads != before->threads || after.descriptors != before->descriptors)
    print_error("threads %d -> %d, descriptors %d -> %d\n", before->threads, after.threads, before->descriptors,
                after.descriptors);
  assert_int_equal(after.threads, before->threads);
  assert_int_equal(after.descriptors, before->descriptors);
  if (DSC_ASAN || DSC_TSAN) return;
  const int slack_mappings =
      64; /* malloc keeps an arena of two mappings per thread that ever met another, glibc a few stacks */
  if (after.mappings > before->mappings + slack_mappings || after.resident_kib > before->resident_kib + slack_kib)
    print_error("mappings %d -> %d, resident %ld -> %ld KiB\n", before->mappings, after.mappings, before->resident_kib,
                after.resident_kib);
  assert_true(after.mappings <= before->mappings + slack_mappings);
  assert_true(after.resident_kib <= before->resident_kib + slack_kib);
}

/* ---- Sessions ---- */

static void one_session(bool shut_down) {
  disco_session *session = faults_open(2);
  disco_dref *id = faults_function(session, "faults.id"), *value = faults_call(id, 0);
  assert_int_equal(faults_get(value, 1), 1);
  disco_dref_unref(value);
  disco_dref_unref(id);
  if (shut_down) OK(disco_session_shutdown(session));
  disco_session_unref(session);
}

static bool few_threads(void *context) {
  (void)context;
  return faults_library_threads() <= 8;
}

/* Dropped sessions end in the background: no more of them at once than a few, so that memory does not depend on luck.
 */
static void many_sessions(int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    one_session(i % 2 == 0);
    if (i % 4 == 3) assert_true(faults_until(few_threads, NULL));
  }
}

static void test_sessions_leave_nothing(void **state) {
  (void)state;
  many_sessions(faults_scaled(2000));
  assert_true(faults_library_threads_gone());
  faults_sleep_ms(20); /* the reaper frees the last one */
  census before = take_census();
  many_sessions(faults_scaled(100000));
  assert_true(faults_library_threads_gone());
  faults_sleep_ms(20);
  expect_flat(&before, 4096);
}

/* ---- Registers ---- */

static void test_registers_are_reused(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *id = faults_function(session, "faults.id");
  OK(faults_sync(session));
  const uint64_t live = faults_stats(session).live_registers;
  census before = take_census();
  int64_t highest = 0;
  for (int64_t i = faults_scaled(1000000); i > 0; i--) {
    disco_dref *value = faults_call(id, 0);
    if (disco_dref_reg_id(value) > highest) highest = disco_dref_reg_id(value);
    disco_dref_unref(value);
  }
  OK(faults_sync(session));
  assert_int_equal(faults_stats(session).live_registers, live);
  assert_true(highest <= 4096); /* one lives at a time; a batch of releases may be on its way */
  census after = take_census();
  assert_int_equal(after.descriptors, before.descriptors);
  if (!DSC_ASAN && !DSC_TSAN) assert_true(after.resident_kib <= before.resident_kib + 2048);
  disco_dref_unref(id);
  faults_close(session);
}

/* Many at once, dropped out of order, taken again. */
static void test_many_live_registers(void **state) {
  (void)state;
  enum { MANY = 5000 };
  disco_session *session = faults_open(2);
  static disco_dref *drefs[MANY];
  int64_t dead = faults_objects_dead();
  for (int round = 0; round < 4; round++) {
    int64_t highest = 0;
    for (int i = 0; i < MANY; i++) {
      TVMFFIAny object = faults_object();
      OK(disco_session_put(session, &object, &drefs[i]));
      dsc_value_drop(&object);
      if (disco_dref_reg_id(drefs[i]) > highest) highest = disco_dref_reg_id(drefs[i]);
    }
    assert_int_equal(faults_stats(session).live_registers, MANY);
    assert_true(highest <= MANY + 1024 + 1);
    for (int i = 0; i < MANY; i++) disco_dref_unref(drefs[(i * 7 + round) % MANY]);
    assert_int_equal(faults_stats(session).live_registers, 0);
    for (int i = 0; i < FAULTS_BOUND_MS && faults_objects_dead() < dead + (round + 1) * MANY; i++) faults_sleep_ms(1);
    assert_int_equal(faults_objects_dead(), dead + (round + 1) * MANY); /* and no call had to come */
  }
  faults_close(session);
}

/* ---- Allocations that fail ---- */

typedef struct {
  disco_session *session;
  disco_dref *id, *add, *hold, *value;
  TVMFFIObjectHandle host;
} world;

static bool is_clean(disco_status status) {
  if (status == DISCO_OK) return true;
  if (status != DISCO_MEMORY && status != DISCO_RUNTIME) {
    print_error("status %d: %s\n", (int)status, disco_last_error_text());
    return false;
  }
  return disco_last_error_text()[0] != 0;
}

/* The calls under test; each drops what it made. Workers may fail to allocate, too: then the sync is told. */
static disco_status act(world *w, int which) {
  disco_dref *result = NULL;
  TVMFFIAny text = faults_str("a string that is too long to be kept inside a value"), values[3];
  disco_status status = DISCO_OK;
  switch (which) {
  case 0: status = disco_session_get_global_func(w->session, "faults.count", &result); break;
  case 1: status = faults_try(w->hold, &result, 3, faults_int(0), faults_int(0), text); break;
  case 2: status = disco_call(w->session, w->id, NULL, 0, &result); break;
  case 3:
    status = disco_debug_get_all(w->value, FAULTS_BOUND_MS, 3, values);
    for (int i = 0; status == DISCO_OK && i < 3; i++) assert_int_equal(values[i].v_int64, i);
    break;
  case 4: status = disco_session_put(w->session, &text, &result); break;
  case 5: status = disco_debug_set(w->value, 0, &text, FAULTS_BOUND_MS); break;
  case 6: status = disco_debug_get(w->value, 1, FAULTS_BOUND_MS, values); break;
  case 7: status = disco_copy_to_worker0(w->session, w->host, w->id); break;
  default: fail();
  }
  if (status != DISCO_OK) assert_null(result);
  disco_dref_unref(result);
  return status;
}

enum { ACTS = 7 };

static void open_world(world *w) {
  w->session = faults_open(3);
  w->id = faults_function(w->session, "faults.id");
  w->add = faults_function(w->session, "faults.add");
  w->hold = faults_function(w->session, "faults.hold");
  w->value = faults_call(w->id, 0);
  OK(faults_sync(w->session));
}

static void close_world(world *w) {
  disco_dref_unref(w->id);
  disco_dref_unref(w->add);
  disco_dref_unref(w->hold);
  disco_dref_unref(w->value);
  faults_close(w->session);
}

/* The session still works, on every worker. */
static void expect_usable(world *w) {
  TVMFFIAny two = faults_int(2);
  OK(disco_debug_set(w->value, DISCO_ALL_WORKERS, &two, FAULTS_BOUND_MS));
  disco_dref *sum = faults_call(w->add, 2, faults_dref(w->value), faults_int(40));
  faults_all_have(sum, 42);
  disco_dref_unref(sum);
  disco_dref *again = faults_call(w->id, 0);
  for (int32_t i = 0; i < 3; i++) assert_int_equal(faults_get(again, i), i);
  disco_dref_unref(w->value);
  w->value = again;
  OK(faults_sync(w->session));
  assert_int_equal(faults_stats(w->session).live_registers, 4);
}

static void test_calls_without_memory(void **state) {
  (void)state;
  world w;
  for (int which = 0; which < ACTS; which++) {
    bool failed = true;
    open_world(&w);
    for (long n = 1; failed; n++) {
      assert_true(n < 200);
      (void)dsc_inject_fail_allocation(n);
      disco_status status = act(&w, which);
      disco_status later = disco_session_sync(w.session, DISCO_ALL_WORKERS, FAULTS_BOUND_MS);
      failed = dsc_inject_fail_allocation(0) >= n;
      assert_true(is_clean(status) && is_clean(later));
      faults_settle(w.session);
      assert_true(is_clean(faults_sync(w.session)));
      expect_usable(&w);
    }
    close_world(&w);
  }
}

enum { MANY = 100 };

/* Every register holds its value, or says that it has none: never a wrong one, and not nothing. */
static void expect_values_or_poison(disco_dref *const *drefs) {
  for (int i = 0; i < MANY; i++) {
    for (int32_t worker = 0; drefs[i] != NULL && worker < 2; worker++) {
      TVMFFIAny value = dsc_none();
      disco_status status = disco_debug_get(drefs[i], worker, FAULTS_BOUND_MS, &value);
      if (status != DISCO_OK) {
        faults_refused(status, DISCO_VALUE, "ValueError", "has no value: command ");
        continue;
      }
      if (value.type_index != kTVMFFIInt) print_error("register %d is of type %d\n", i, value.type_index);
      assert_int_equal(value.type_index, kTVMFFIInt);
      assert_int_equal(value.v_int64, 2 * i);
    }
  }
}

/* A fresh session, so that tables grow: names, registers, chunks of ids. */
static void grow_without_memory(bool put) {
  bool failed = true;
  for (long n = 1; failed; n++) {
    disco_dref *drefs[MANY] = {NULL};
    int refused = 0;
    disco_session *session = faults_open(2);
    disco_dref *add = faults_function(session, "faults.add");
    OK(faults_sync(session));
    assert_true(n < 2000);
    (void)dsc_inject_fail_allocation(n);
    for (int i = 0; i < MANY; i++) {
      TVMFFIAny args[2] = {faults_int(i), faults_int(i)}, twice = faults_int(2 * i);
      disco_status status =
          put ? disco_session_put(session, &twice, &drefs[i]) : disco_call(session, add, args, 2, &drefs[i]);
      assert_true(is_clean(status));
      refused += status != DISCO_OK;
    }
    assert_true(is_clean(faults_sync(session)));
    failed = dsc_inject_fail_allocation(0) >= n;
    faults_settle(session);
    assert_true(is_clean(faults_sync(session)));
    assert_true(refused <= 1);
    expect_values_or_poison(drefs);
    for (int i = 0; i < MANY; i++) disco_dref_unref(drefs[i]);
    disco_dref_unref(add);
    faults_close(session);
  }
}

static void test_calls_grow_without_memory(void **state) {
  (void)state;
  grow_without_memory(false);
}

static void test_puts_grow_without_memory(void **state) {
  (void)state;
  grow_without_memory(true);
}

/* Poison needs room, too. */
static void test_skipping_without_memory(void **state) {
  (void)state;
  bool failed = true;
  for (long n = 1; failed; n++) {
    disco_dref *drefs[MANY] = {NULL};
    disco_session *session = faults_open(2);
    disco_dref *add = faults_function(session, "faults.add"), *raise = faults_function(session, "faults.hold_raise");
    faults_gate_close(0);
    faults_post(raise, 3, faults_int(0), faults_int(FAULTS_ALL), faults_str("then skip"));
    faults_gate_wait_inside(0, 2);
    for (int i = 0; i < MANY; i++) drefs[i] = faults_call(add, 2, faults_int(i), faults_int(i));
    (void)dsc_inject_fail_allocation(n); /* from here on only the workers allocate */
    faults_gate_open(0);
    faults_settle(session);
    failed = dsc_inject_fail_allocation(0) >= n;
    assert_int_equal(faults_sync(session), DISCO_RAISED);
    expect_values_or_poison(drefs);
    for (int i = 0; i < MANY; i++) disco_dref_unref(drefs[i]);
    disco_dref_unref(add);
    disco_dref_unref(raise);
    faults_close(session);
  }
}

static void test_opening_and_closing_without_memory(void **state) {
  (void)state;
  one_session(true);
  faults_sleep_ms(20);
  census before = take_census();
  bool failed = true;
  int failures = 0;
  for (long n = 1; failed; n++) {
    assert_true(n < 500);
    disco_session_options options = faults_options(4, 1);
    disco_session *session = NULL;
    (void)dsc_inject_fail_allocation(n);
    disco_status status = disco_session_create_threaded(&options, &session);
    if (status == DISCO_OK) status = disco_session_shutdown(session);
    failed = dsc_inject_fail_allocation(0) >= n;
    assert_true(is_clean(status));
    failures += status != DISCO_OK;
    disco_session_unref(session);
  }
  assert_true(failures > 10); /* every one of them was refused, whole */
  expect_flat(&before, 1024);
  one_session(true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sessions_leave_nothing),    cmocka_unit_test(test_registers_are_reused),
      cmocka_unit_test(test_many_live_registers),       cmocka_unit_test(test_calls_without_memory),
      cmocka_unit_test(test_calls_grow_without_memory), cmocka_unit_test(test_puts_grow_without_memory),
      cmocka_unit_test(test_skipping_without_memory),   cmocka_unit_test(test_opening_and_closing_without_memory),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
