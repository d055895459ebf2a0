#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chaos/chaos.h"

enum { SESSIONS = 2, MOST_HOGS = 256 };

/* One that does nothing but compute, on each CPU; ends with this program. */
static int start_hogs(pid_t hogs[MOST_HOGS]) {
  long cpus = sysconf(_SC_NPROCESSORS_ONLN);
  int count = cpus < MOST_HOGS ? (int)cpus : MOST_HOGS;
  for (int i = 0; i < count; i++) {
    hogs[i] = fork();
    if (hogs[i] < 0) chaos_fail("no process");
    if (hogs[i] > 0) continue;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (volatile uint64_t turns = 0;;) turns = turns + 1;
  }
  return count;
}

static void stop_hogs(const pid_t *hogs, int count) {
  for (int i = 0; i < count; i++) {
    int status;
    (void)kill(hogs[i], SIGKILL);
    (void)waitpid(hogs[i], &status, 0);
  }
}

typedef struct {
  chaos_run run;
  int64_t end_ns;
  int64_t longest_ns, calls, checked;
  pthread_t thread;
} lane;

/* Work in one session; any error fails the program (chaos_accept: nobody raises, nobody is killed). */
static void *drive(void *argument) {
  lane *self = argument;
  chaos_controller *controller = &self->run.controllers[0];
  while (chaos_now_ns() < self->end_ns) {
    chaos_work(controller, 50);
    int64_t began = chaos_now_ns();
    (void)chaos_accept(
        controller, BOUNDED(self->run.session, disco_session_sync(self->run.session, DISCO_ALL_WORKERS, DISCO_FOREVER)),
        "sync", false);
    if (chaos_now_ns() - began > self->longest_ns) self->longest_ns = chaos_now_ns() - began;
  }
  chaos_check_registers(controller);
  self->calls = controller->calls;
  self->checked = controller->checked;
  return NULL;
}

static void open_lane(lane *self, uint64_t seed, int index, int seconds) {
  chaos_run *run = &self->run;
  run->workers = 4;
  run->groups = 1;
  run->transport = index == 0 ? CHAOS_RING : CHAOS_PIPE;
  run->fault = FAULT_NONE;
  run->controllers[0].run = run;
  run->controllers[0].random = chaos_random_of(seed, index, 1);
  if (chaos_open(run, &run->session) != DISCO_OK) chaos_fail("no session: %s", disco_last_error_text());
  for (int i = 0; i < CHAOS_FUNCTIONS; i++)
    if (disco_session_get_global_func(run->session, chaos_functions[i], &run->functions[i]) != DISCO_OK)
      chaos_fail("no function: %s", disco_last_error_text());
  self->end_ns = chaos_now_ns() + (int64_t)seconds * 1000000000;
}

static void close_lane(lane *self) {
  chaos_run *run = &self->run;
  chaos_drop_registers(&run->controllers[0]);
  for (int i = 0; i < CHAOS_FUNCTIONS; i++) disco_dref_unref(run->functions[i]);
  if (BOUNDED(run->session, disco_session_shutdown(run->session)) != DISCO_OK)
    chaos_fail("shutdown: %s", disco_last_error_text());
  disco_session_unref(run->session);
}

void chaos_saturate(uint64_t seed, int seconds) {
  static lane lanes[SESSIONS];
  pid_t hogs[MOST_HOGS];
  chaos_step(0, "saturation");
  int count = start_hogs(hogs);
  for (int i = 0; i < SESSIONS; i++) {
    open_lane(&lanes[i], seed, i, seconds);
    if (pthread_create(&lanes[i].thread, NULL, drive, &lanes[i]) != 0) chaos_fail("no thread");
  }
  for (int i = 0; i < SESSIONS; i++) pthread_join(lanes[i].thread, NULL);
  for (int i = 0; i < SESSIONS; i++) close_lane(&lanes[i]);
  stop_hogs(hogs, count);
  chaos_census end = {.children = 0};
  end = chaos_count();
  if (end.children != 0) chaos_fail("a child is left");
  for (int i = 0; i < SESSIONS; i++)
    printf(
        "saturated for %d s by %d processes, session over %s: %lld calls, %lld values checked, longest sync %.1f ms, "
        "no false death (seed %llu)\n",
        seconds, count, chaos_transports[lanes[i].run.transport], (long long)lanes[i].calls,
        (long long)lanes[i].checked, (double)lanes[i].longest_ns / 1e6, (unsigned long long)seed);
}
