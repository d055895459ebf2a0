#define _GNU_SOURCE
#include "probe.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PINGPONG_ROUNDS = 500, SPINS_BEFORE_YIELD = 20000 };

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double q) {
  double at = q * (double)(n - 1);
  size_t low = (size_t)at;
  size_t high = low + 1 < n ? low + 1 : low;
  return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

bench_spread bench_spread_of(double *values, size_t num_values) {
  bench_spread spread = {0, 0, 0};
  if (num_values == 0) return spread;
  qsort(values, num_values, sizeof *values, compare_doubles);
  spread.p10 = quantile(values, num_values, 0.1);
  spread.p50 = quantile(values, num_values, 0.5);
  spread.p90 = quantile(values, num_values, 0.9);
  return spread;
}

void bench_sleep_ms(int milliseconds) {
  struct timespec t = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000L};
  while (nanosleep(&t, &t) != 0) continue;
}

static double seconds(struct timeval t) { return (double)t.tv_sec + 1e-6 * (double)t.tv_usec; }

double bench_foreign_cpu_s(void) {
  cpu_set_t allowed;
  double ticks = 0;
  char line[512];
  FILE *file = fopen("/proc/stat", "re");
  if (!file) return 0;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_ZERO(&allowed);
  while (fgets(line, sizeof line, file)) {
    unsigned cpu;
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    if (sscanf(line, "cpu%u %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &user, &nice, &system, &idle, &iowait, &irq,
               &softirq, &steal) == 9 &&
        cpu < CPU_SETSIZE && CPU_ISSET((size_t)cpu, &allowed)) {
      ticks += (double)(user + nice + system + irq + softirq + steal);
    }
  }
  fclose(file);
  double used = ticks / (double)sysconf(_SC_CLK_TCK);
  for (int i = 0; i < 2; i++) {
    struct rusage usage;
    if (getrusage(i == 0 ? RUSAGE_SELF : RUSAGE_CHILDREN, &usage) == 0) {
      used -= seconds(usage.ru_utime) + seconds(usage.ru_stime);
    }
  }
  return used;
}

/* One flag on its own pair of lines (CPUs fetch lines in pairs). */
typedef struct {
  _Alignas(128) _Atomic uint32_t flag;
  _Alignas(128) _Atomic uint32_t answer;
} bounce;

/* The yield matters only when both threads stand on one CPU, or another program takes one: a burst would take a time
 * slice per round. */
static void await(_Atomic uint32_t *word, uint32_t value) {
  int spins = 0;
  while (atomic_load_explicit(word, memory_order_acquire) != value) {
    if (++spins % SPINS_BEFORE_YIELD == 0) sched_yield();
  }
}

static void *echo_thread(void *arg) {
  bounce *b = arg;
  for (uint32_t i = 0; i < (BENCH_PINGPONG_BURSTS + 1) * PINGPONG_ROUNDS; i++) {
    await(&b->flag, 2 * i + 1);
    atomic_store_explicit(&b->flag, 2 * i + 2, memory_order_release);
  }
  return NULL;
}

/* Keep the calling thread where it is and give the other one the next CPU that is allowed: left alone, both may share
 * one for long. No harm where that is refused or there is only one. *ret_before = the calling thread's mask, to be set
 * again. */
static void spread_out(cpu_set_t *ret_before, pthread_attr_t *other) {
  int cpu = sched_getcpu();
  size_t here = (size_t)cpu;
  if (sched_getaffinity(0, sizeof *ret_before, ret_before) != 0) {
    CPU_ZERO(ret_before);
    return;
  }
  for (size_t step = 1; cpu >= 0 && step < CPU_SETSIZE; step++) {
    size_t there = (here + step) % CPU_SETSIZE;
    if (!CPU_ISSET(there, ret_before)) continue;
    cpu_set_t mine, theirs;
    CPU_ZERO(&mine);
    CPU_ZERO(&theirs);
    CPU_SET(here, &mine);
    CPU_SET(there, &theirs);
    if (pthread_attr_setaffinity_np(other, sizeof theirs, &theirs) == 0) sched_setaffinity(0, sizeof mine, &mine);
    return;
  }
}

static void bounce_bursts(bounce *b, double *ret_ns) {
  uint32_t i = 0;
  /* Burst -1 is the warm-up: the thread starts. */
  for (int burst = -1; burst < BENCH_PINGPONG_BURSTS; burst++) {
    double start = bench_now();
    for (int round = 0; round < PINGPONG_ROUNDS; round++, i++) {
      atomic_store_explicit(&b->flag, 2 * i + 1, memory_order_release);
      await(&b->flag, 2 * i + 2);
    }
    if (burst >= 0) ret_ns[burst] = (bench_now() - start) * 1e9 / PINGPONG_ROUNDS;
  }
}

int bench_pingpong(double ret_ns[BENCH_PINGPONG_BURSTS]) {
  static bounce b;
  cpu_set_t before;
  pthread_attr_t attr;
  pthread_t thread;
  if (pthread_attr_init(&attr) != 0) return -1;
  spread_out(&before, &attr);
  atomic_store(&b.flag, 0);
  int rc = pthread_create(&thread, &attr, echo_thread, &b);
  if (rc == 0) {
    bounce_bursts(&b, ret_ns);
    pthread_join(thread, NULL);
  }
  if (CPU_COUNT(&before) > 0) sched_setaffinity(0, sizeof before, &before);
  pthread_attr_destroy(&attr);
  return rc == 0 ? 0 : -1;
}

typedef struct {
  bounce *b;
  uint32_t rounds;
} sleeper;

static void *sleeper_thread(void *arg) {
  sleeper *s = arg;
  for (uint32_t i = 1; i <= s->rounds; i++) {
    while (atomic_load_explicit(&s->b->flag, memory_order_acquire) < i) {
      syscall(SYS_futex, &s->b->flag, FUTEX_WAIT_PRIVATE, i - 1, NULL, NULL, 0);
    }
    atomic_store_explicit(&s->b->answer, i, memory_order_release);
  }
  return NULL;
}

int bench_futex_wake(int num_samples, int sleep_ms, double *ret_us) {
  static bounce b;
  sleeper s = {&b, (uint32_t)num_samples};
  pthread_t thread;
  atomic_store(&b.flag, 0);
  atomic_store(&b.answer, 0);
  if (pthread_create(&thread, NULL, sleeper_thread, &s) != 0) return -1;
  for (uint32_t i = 1; i <= s.rounds; i++) {
    bench_sleep_ms(sleep_ms);
    double start = bench_now();
    atomic_store_explicit(&b.flag, i, memory_order_release);
    syscall(SYS_futex, &b.flag, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    await(&b.answer, i);
    ret_us[i - 1] = (bench_now() - start) * 1e6;
  }
  pthread_join(thread, NULL);
  return 0;
}
