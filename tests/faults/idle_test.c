/* Who has nothing to do uses no CPU: workers between commands, a caller that waits for a busy worker. */
#include "faults/support.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct {
  int64_t switches, ticks; /* context switches, and CPU time in clock ticks */
} usage;

static void add_file(const char *path, usage *use) {
  char line[512];
  FILE *file = fopen(path, "re");
  assert_non_null(file);
  while (fgets(line, sizeof(line), file) != NULL) {
    long long number;
    if (sscanf(line, "voluntary_ctxt_switches: %lld", &number) == 1) use->switches += number;
    if (sscanf(line, "nonvoluntary_ctxt_switches: %lld", &number) == 1) use->switches += number;
    unsigned long long user, system;
    const char *behind_name = strrchr(line, ')');
    if (behind_name != NULL &&
        sscanf(behind_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2)
      use->ticks += (int64_t)(user + system);
  }
  fclose(file);
}

static usage total;

static void add_thread(const char *path, const char *name) {
  (void)name;
  add_file(path, &total);
}

/* Of all library threads together. */
static usage library_usage(int want_threads) {
  total = (usage){0, 0};
  assert_int_equal(faults_each_library_thread("status", add_thread), want_threads);
  assert_int_equal(faults_each_library_thread("stat", add_thread), want_threads);
  return total;
}

static void expect_idle(int threads) {
  usage before = library_usage(threads);
  faults_sleep_ms(2000);
  usage after = library_usage(threads);
  if (after.switches > before.switches + 2 || after.ticks > before.ticks)
    print_error("%lld switches, %lld ticks in 2 s\n", (long long)(after.switches - before.switches),
                (long long)(after.ticks - before.ticks));
  assert_true(after.switches <= before.switches + 2);
  assert_int_equal(after.ticks, before.ticks);
}

static void test_idle_workers(void **state) {
  (void)state;
  disco_session *few = faults_open(1), *many = faults_open(8); /* with room to spin, and without */
  disco_dref *ids[2] = {faults_function(few, "faults.id"), faults_function(many, "faults.id")};
  for (int i = 0; i < 1000; i++)
    for (int k = 0; k < 2; k++) faults_post(ids[k], 0);
  OK(faults_sync(few));
  OK(faults_sync(many));
  faults_sleep_ms(300);
  expect_idle(10);                                      /* 9 workers and the reaper */
  for (int k = 0; k < 2; k++) disco_dref_unref(ids[k]); /* released, and idle again */
  faults_sleep_ms(300);
  expect_idle(10);
  faults_close(few);
  faults_close(many);
}

/* After an error, too: nobody polls for the end of it. */
static void test_idle_with_an_untold_error(void **state) {
  (void)state;
  disco_session *session = faults_open(3);
  disco_dref *silent = faults_function(session, "faults.silent");
  faults_post(silent, 1, faults_int(1 << 1));
  faults_settle(session);
  faults_sleep_ms(300);
  expect_idle(4);
  assert_int_equal(faults_sync(session), DISCO_RAISED);
  disco_dref_unref(silent);
  faults_close(session);
}

static _Atomic int waiter_id;

static void sync_and_say_who(faults_thread *self) {
  atomic_store(&waiter_id, (int)syscall(SYS_gettid));
  faults_run_sync(self);
}

/* A caller that waits wakes for its ticks alone. */
static void test_a_waiting_caller(void **state) {
  (void)state;
  disco_session *session = faults_open(2);
  disco_dref *hold = faults_function(session, "faults.hold");
  faults_gate_close(0);
  faults_post(hold, 3, faults_int(0), faults_int(1 << 1), faults_int(0));
  faults_gate_wait_inside(0, 1);
  atomic_store(&waiter_id, 0);
  faults_thread waiter = {
      .run = sync_and_say_who, .session = session, .worker = DISCO_ALL_WORKERS, .timeout_ms = DISCO_FOREVER};
  faults_start(&waiter);
  faults_sleep_ms(300);
  assert_int_not_equal(atomic_load(&waiter_id), 0);
  char path[64];
  (void)snprintf(path, sizeof(path), "/proc/self/task/%d/status", atomic_load(&waiter_id));
  usage before = {0, 0}, after = {0, 0}, workers = library_usage(3);
  add_file(path, &before);
  faults_sleep_ms(1000);
  add_file(path, &after);
  assert_false(atomic_load(&waiter.ended));
  if (after.switches > before.switches + 30)
    print_error("%lld wakes in 1 s\n", (long long)(after.switches - before.switches));
  assert_true(after.switches <= before.switches + 30);
  assert_true(library_usage(3).switches <= workers.switches + 2); /* its ticks wake no worker */
  faults_gate_open(0);
  faults_join(&waiter);
  assert_int_equal(waiter.status, DISCO_OK);
  disco_dref_unref(hold);
  faults_close(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_idle_workers),
      cmocka_unit_test(test_idle_with_an_untold_error),
      cmocka_unit_test(test_a_waiting_caller),
  };
  faults_begin();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
