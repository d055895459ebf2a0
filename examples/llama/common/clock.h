/* Time that only goes forward. Include with _POSIX_C_SOURCE 200809L or more. */
#ifndef LLAMA_CLOCK_H
#define LLAMA_CLOCK_H

#include <time.h>

static inline double seconds_of(clockid_t clock) {
  struct timespec t;
  (void)clock_gettime(clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline double seconds_now(void) { return seconds_of(CLOCK_MONOTONIC); }

#endif
