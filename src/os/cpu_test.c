/* How many CPUs may be used, and binding to one. Each look needs a fresh process: the answer is read once. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "os/cpu.h"

/* fn's result (0 to 255) in a child that has asked nothing yet. */
static int in_child(int (*fn)(void)) {
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) _exit(fn());
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  return WEXITSTATUS(status);
}

static int first_allowed(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return -1;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET((size_t)cpu, &set)) return cpu;
  return -1;
}

static int bind_and_count(void) {
  if (dsc_cpu_bind(first_allowed()) != DISCO_OK) return 200;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) != 1) return 201;
  if (sched_getcpu() != first_allowed()) return 202;
  return dsc_cpu_allowed();
}

static void one_bound_cpu_counts_as_one(void **state) {
  (void)state;
  assert_int_equal(in_child(bind_and_count), 1);
}

static int count_twice(void) {
  int32_t first = dsc_cpu_allowed();
  (void)dsc_cpu_bind(first_allowed());
  return first == dsc_cpu_allowed() && first >= 1; /* read once per process */
}

static void the_count_is_stable(void **state) {
  (void)state;
  assert_int_equal(in_child(count_twice), 1);
}

static void at_most_the_affinity_mask(void **state) {
  (void)state;
  cpu_set_t set;
  CPU_ZERO(&set);
  assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
  assert_in_range(dsc_cpu_allowed(), 1, CPU_COUNT(&set));
}

static void a_bad_cpu_is_refused(void **state) {
  (void)state;
  cpu_set_t before, after;
  CPU_ZERO(&before);
  CPU_ZERO(&after);
  assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
  const int64_t bad[] = {-1, CPU_SETSIZE, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    assert_int_equal(dsc_cpu_bind(bad[i]), DISCO_VALUE);
    assert_non_null(strstr(disco_last_error_text(), "is not between 0 and"));
  }
  if (sysconf(_SC_NPROCESSORS_CONF) < CPU_SETSIZE) {
    assert_int_equal(dsc_cpu_bind(CPU_SETSIZE - 1), DISCO_VALUE);
    assert_non_null(strstr(disco_last_error_text(), "does not exist here or is not allowed"));
  }
  assert_int_equal(sched_getaffinity(0, sizeof(after), &after), 0);
  assert_true(CPU_EQUAL(&before, &after));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_bound_cpu_counts_as_one), /* first: forks must not find the answer cached */
      cmocka_unit_test(the_count_is_stable),
      cmocka_unit_test(at_most_the_affinity_mask),
      cmocka_unit_test(a_bad_cpu_is_refused),
  };
  return cmocka_run_group_tests_name("os.cpu", tests, NULL, NULL);
}
