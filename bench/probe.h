/* Clock, percentiles and the ping-pong probe: what every window of a benchmark needs to be judged by.
 *
 * The CPUs of a shared host may be near each other or far apart, and that changes from moment to moment. The ping-pong
 * is the time of a flag's round trip between two threads at this moment; a time is only worth something beside it.
 */
#ifndef BENCH_PROBE_H
#define BENCH_PROBE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

typedef struct {
  double p10;
  double p50;
  double p90;
} bench_spread;

static inline double bench_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Sorts the values. All zero when there are none. */
bench_spread bench_spread_of(double *values, size_t num_values);

enum { BENCH_PINGPONG_BURSTS = 15 };

/* Nanoseconds per round trip in each of BENCH_PINGPONG_BURSTS short bursts (about 0.1 ms each). 0, or -1 when no thread
 * could be started. */
int bench_pingpong(double ret_ns[BENCH_PINGPONG_BURSTS]);

/* Microseconds from a futex wake until the thread it wakes, asleep for sleep_ms before, has run: one value per sample.
 */
int bench_futex_wake(int num_samples, int sleep_ms, double *ret_us);

/* CPU seconds that others have used on the CPUs this process may use: other programs, and the host below a virtual
 * machine. Counts from an arbitrary point, in steps of 10 ms: take differences. Children of this process count as
 * others until they were waited for. */
double bench_foreign_cpu_s(void);

void bench_sleep_ms(int milliseconds);

#endif
