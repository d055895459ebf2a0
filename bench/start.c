/* How long do worker processes take to start?
 *
 *   disco-bench-start [--workers N] [--rounds R]
 *
 * Alternately: N - 1 empty programs that link the same libraries, started and waited for; and a session of N workers
 * (one thread, N - 1 processes of `disco worker`), until every worker has run a command. Prints both medians and the
 * ratio of the pairs. Exit codes: 0 measured, 1 something failed, 2 usage. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "disco/disco.h"

enum { MAX_ROUNDS = 1000, MAX_WORKERS = 64 };

extern char **environ;

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double quantile(double *values, int count, double q) {
  qsort(values, (size_t)count, sizeof(*values), compare);
  return values[(int)(q * (count - 1))];
}

static double start_programs(const char *program, int count) {
  pid_t pids[MAX_WORKERS];
  char *argv[] = {(char *)(uintptr_t)program, NULL};
  double begin = now_ms();
  for (int i = 0; i < count; i++)
    if (posix_spawn(&pids[i], program, NULL, NULL, argv, environ) != 0) return -1;
  for (int i = 0; i < count; i++) {
    int status = 0;
    if (waitpid(pids[i], &status, 0) != pids[i] || status != 0) return -1;
  }
  return now_ms() - begin;
}

static double start_session(int workers, double *ret_shutdown) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, 1);
  disco_session *session = NULL;
  disco_dref *dref = NULL;
  TVMFFIAny one;
  memset(&one, 0, sizeof(one));
  one.type_index = kTVMFFIInt;
  double begin = now_ms();
  if (disco_session_create_process(&options, &session) != DISCO_OK) return -1;
  if (disco_session_put(session, &one, &dref) != DISCO_OK) return -1;
  if (disco_session_sync(session, DISCO_ALL_WORKERS, 10000) != DISCO_OK) return -1;
  double ready = now_ms();
  disco_dref_unref(dref);
  if (disco_session_shutdown(session) != DISCO_OK) return -1;
  *ret_shutdown = now_ms() - ready;
  disco_session_unref(session);
  return ready - begin;
}

static int usage(void) {
  fprintf(stderr, "usage: disco-bench-start [--workers 2..64] [--rounds 1..1000]\n");
  return 2;
}

int main(int argc, char **argv) {
  static double programs[MAX_ROUNDS], sessions[MAX_ROUNDS], ratios[MAX_ROUNDS], shutdowns[MAX_ROUNDS];
  int workers = 8, rounds = 30;
  for (int i = 1; i < argc; i += 2) {
    int *target = strcmp(argv[i], "--workers") == 0 ? &workers : strcmp(argv[i], "--rounds") == 0 ? &rounds : NULL;
    if (target == NULL || i + 1 == argc || (*target = atoi(argv[i + 1])) < 1) return usage();
  }
  if (workers < 2 || workers > MAX_WORKERS || rounds > MAX_ROUNDS) return usage();
  char program[4096];
  ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 32);
  if (size < 0) return 1;
  program[size] = 0;
  char *slash = strrchr(program, '/');
  (void)snprintf(slash + 1, 32, "disco-bench-empty");
  for (int i = -2; i < rounds; i++) { /* two to warm up */
    double shutdown = 0, p = start_programs(program, workers - 1), s = start_session(workers, &shutdown);
    if (p < 0 || s < 0) {
      fprintf(stderr, "failed: %s\n", p < 0 ? program : disco_last_error_text());
      return 1;
    }
    if (i < 0) continue;
    programs[i] = p;
    sessions[i] = s;
    ratios[i] = s / p;
    shutdowns[i] = shutdown;
  }
  printf("%d rounds: %d empty programs %.1f ms, a session of %d workers ready in %.1f ms (medians)\n", rounds,
         workers - 1, quantile(programs, rounds, 0.5), workers, quantile(sessions, rounds, 0.5));
  printf("ratio of the pairs: %.2f (p10 %.2f, p90 %.2f), target <= 2; shutdown %.1f ms\n",
         quantile(ratios, rounds, 0.5), quantile(ratios, rounds, 0.1), quantile(ratios, rounds, 0.9),
         quantile(shutdowns, rounds, 0.5));
  return 0;
}
