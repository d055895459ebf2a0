#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chaos/chaos.h"
#include "ffi/value.h"
#include "session/remote.h"

const char *const chaos_transports[CHAOS_TRANSPORTS] = {"ring", "pipe", "foreign", "foreign+pipe"};
const char *const chaos_faults[FAULTS] = {"SIGKILL",
                                          "SIGSEGV",
                                          "SIGABRT",
                                          "ends itself",
                                          "SIGSTOP, SIGCONT",
                                          "SIGSTOP forever",
                                          "shutdown in the middle",
                                          "closes its pipe",
                                          "none"};

enum { HOLD_US = 10 * 1000000, GRACE_MS = 300, STOPPED_MS = 200 };

/* ---- Decisions ---- */

static chaos_random mix_seed(uint64_t seed) {
  chaos_random random = {seed};
  (void)chaos_next(&random);
  return random;
}

chaos_random chaos_random_of(uint64_t seed, int64_t step, int who) {
  chaos_random random = mix_seed(seed);
  random.state ^= (uint64_t)step * 0xD1342543DE82EF95u + (uint64_t)who * 0x2545F4914F6CDD1Du;
  (void)chaos_next(&random);
  return random;
}

uint64_t chaos_next(chaos_random *random) { /* splitmix64 */
  uint64_t z = random->state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

int64_t chaos_below(chaos_random *random, int64_t limit) {
  return limit > 0 ? (int64_t)(chaos_next(random) % (uint64_t)limit) : 0;
}

bool chaos_chance(chaos_random *random, int percent) { return chaos_below(random, 100) < percent; }

static int pick_fault(chaos_random *random) {
  static const struct {
    int fault, weight;
  } all[] = {{FAULT_SIGKILL, 24}, {FAULT_SIGSEGV, 10}, {FAULT_SIGABRT, 6},  {FAULT_INSIDE, 38},
             {FAULT_PAUSE, 7},    {FAULT_STOP, 2},     {FAULT_SHUTDOWN, 8}, {FAULT_CLOSE, 5}};
  int64_t at = chaos_below(random, 100);
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
    if (at < all[i].weight) return all[i].fault;
    at -= all[i].weight;
  }
  return FAULT_SIGKILL;
}

static int pick_transport(chaos_random *random, unsigned transports) {
  int transport = 0;
  do transport = (int)chaos_below(random, CHAOS_TRANSPORTS);
  while ((transports & 1u << transport) == 0);
  return transport;
}

/* Everything is drawn, whatever the fault: the next decision stays the same when one of these is given. */
static void decide(chaos_run *run, uint64_t seed, unsigned transports, int fault) {
  chaos_random random = chaos_random_of(seed, run->step, 0);
  run->transport = pick_transport(&random, transports);
  run->workers = 1 + (int32_t)chaos_below(&random, CHAOS_WORKERS);
  run->groups = run->workers % 2 == 0 && chaos_chance(&random, 50) ? 2 : 1;
  run->threads = chaos_chance(&random, 65) ? 1 : 2 + (int)chaos_below(&random, CHAOS_THREADS - 1);
  run->fault = pick_fault(&random);
  if (fault != FAULTS) run->fault = fault;
  if (run->workers == 1 && run->fault != FAULT_SHUTDOWN) run->workers = 2; /* else there is nobody to kill */
  /* Of this one the library knows only a pipe, and that a stopped process leaves open. */
  if (run->fault == FAULT_STOP && run->transport == CHAOS_FOREIGN_PIPE) run->fault = FAULT_PAUSE;
  run->target = run->workers > 1 ? 1 + (int32_t)chaos_below(&random, run->workers - 1) : 0;
  run->point = (int)chaos_below(&random, CHAOS_POINTS);
  bool on_pipe = run->transport == CHAOS_PIPE || run->transport == CHAOS_FOREIGN_PIPE;
  if (on_pipe && run->point == CHAOS_BEFORE_SLEEP) run->point = CHAOS_BEFORE_DONE; /* it sleeps in the kernel's read */
  run->way = (int)chaos_below(&random, CHAOS_WAYS);
  run->pass = (int)chaos_below(&random, 6);
  run->raises = chaos_chance(&random, 50);
  if (run->point == CHAOS_FAILED || run->point == CHAOS_MID_SLOT) run->raises = true, run->pass = 0;
  run->holds = chaos_chance(&random, 75);
  run->waits_for_sync = chaos_chance(&random, 60);
  /* As often in the first instants of the workers as later. */
  run->delay_us = chaos_below(&random, chaos_chance(&random, 30) ? 3000 : 12000) * (CHAOS_SANITIZED ? 8 : 1);
  run->pause_us = 1000 + chaos_below(&random, 40000);
  for (int i = 0; i < CHAOS_THREADS; i++) run->budget[i] = chaos_below(&random, 60);
  for (int i = 0; i <= CHAOS_THREADS; i++) {
    run->controllers[i].run = run;
    run->controllers[i].random = chaos_random_of(seed, run->step, 1 + i);
  }
}

bool chaos_is_fatal(const chaos_run *run) {
  return run->fault != FAULT_PAUSE && run->fault != FAULT_SHUTDOWN && run->fault != FAULT_NONE;
}

static bool is_outside(const chaos_run *run) { return run->fault <= FAULT_SIGABRT; }
static bool is_foreign(const chaos_run *run) { return run->transport >= CHAOS_FOREIGN; }

/* ---- The session ---- */

/* A worker's backtrace of the signal that we sent is no news; a sanitizer's report is. */
static void take_output(void *context, int32_t worker, int stream, const char *line, size_t size) {
  static const char *const reports[] = {"Sanitizer", "runtime error"};
  char text[4097];
  (void)context;
  (void)stream;
  memcpy(text, line, size);
  text[size] = 0;
  for (int i = 0; i < 2; i++)
    if (strstr(text, reports[i]) != NULL) chaos_fail("worker %d wrote: %s", worker, text);
}

disco_status chaos_open(const chaos_run *run, disco_session **ret_session) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(run->workers, run->groups);
  options.arena_bytes = (uint64_t)64 << 20;
  if (run->transport == CHAOS_PIPE || run->transport == CHAOS_FOREIGN_PIPE) options.transport = DISCO_TRANSPORT_PIPE;
  if (is_foreign(run))
    options.pool_creator = "chaos.create_pool";
  else
    options.program = "/proc/self/exe", options.output = take_output;
  if (run->fault == FAULT_SHUTDOWN) options.grace_ms = GRACE_MS;
  if (run->fault == FAULT_STOP) options.stopped_ms = STOPPED_MS;
  return BOUNDED(NULL, disco_session_create_process(&options, ret_session));
}

static pid_t pid_of(const chaos_run *run, int32_t worker) {
  if (worker == 0) return 0;
  return is_foreign(run) ? chaos_pool_pid(worker) : (pid_t)run->session->engine->remotes[worker]->pid;
}

/* ---- The injector: a thread of its own ---- */

/* True when the worker says that it does what it was told. */
static bool await_worker(void) {
  const int64_t end = chaos_now_ns() + (int64_t)(CHAOS_SANITIZED ? 1000 : 300) * 1000000;
  while (atomic_load(&chaos_shared->done_ns) == 0 && chaos_now_ns() < end) chaos_sleep_us(100);
  return atomic_load(&chaos_shared->done_ns) != 0;
}

/* SIGSEGV is what a running program does, and is only then deadly by itself (chaos_be_worker()). */
static void await_main(const chaos_run *run) {
  const int64_t end = chaos_now_ns() + (int64_t)CHAOS_BOUND_MS * 1000000 / 2;
  while (!atomic_load(&chaos_shared->ready[run->target]) && chaos_now_ns() < end) chaos_sleep_us(100);
}

/* One that is stopped before it has said which process it is looks like one that imports slowly: others' pools. */
static void await_answers(const chaos_run *run) {
  const int64_t end = chaos_now_ns() + (int64_t)CHAOS_BOUND_MS * 1000000 / 2;
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  do {
    if (disco_session_get_stats(run->session, &stats) != DISCO_OK) chaos_fail("no statistics");
    if ((int32_t)(stats.ring_workers + stats.pipe_workers) == run->workers - 1) return;
    chaos_sleep_us(200);
  } while (chaos_now_ns() < end);
  chaos_fail("the workers have not answered");
}

static void kill_target(chaos_run *run, int signal_number) {
  atomic_store(&run->kill_ns, chaos_now_ns());
  if (kill(run->pid, signal_number) != 0)
    chaos_fail("process %d of worker %d is not there", (int)run->pid, run->target);
}

/* Tell the worker to do it. What is told may be skipped behind somebody's raise, or the point never be reached: then it
 * is killed from outside. */
static void inject_inside(chaos_run *run, chaos_controller *self) {
  bool closes = run->fault == FAULT_CLOSE;
  TVMFFIAny args[4] = {dsc_int(run->target), dsc_int(closes ? run->way % 2 : run->point), dsc_int(run->pass),
                       dsc_int(run->way)};
  bool told = chaos_post(self, closes ? CHAOS_CLOSE : CHAOS_ARM, args, closes ? 2 : 4);
  args[1] = dsc_int(-1);
  if (told && !closes && (run->point == CHAOS_MID_SLOT || run->point == CHAOS_FAILED))
    (void)chaos_post(self, CHAOS_RAISE, args, 2);
  if (await_worker()) return;
  atomic_store(&run->fell_back, true);
  if (!self->over) kill_target(run, SIGKILL);
}

static void inject_shutdown(chaos_run *run) {
  disco_status status = BOUNDED(run->session, disco_session_shutdown(run->session));
  /* Whom the hold kept busy was killed; nobody else should have been, but a busy machine is no fault. */
  if (status == DISCO_OK) return;
  if (status != DISCO_LOST || strstr(disco_last_error_text(), "shutdown killed worker processes") == NULL)
    chaos_fail("shutdown in the middle: %s", disco_last_error_text());
  atomic_store(&run->fell_back, true);
}

static void *inject(void *argument) {
  chaos_run *run = argument;
  chaos_controller *self = &run->controllers[CHAOS_THREADS];
  if (run->waits_for_sync)
    for (int64_t end = chaos_now_ns() + (int64_t)4000000000; !atomic_load(&run->in_sync) && chaos_now_ns() < end;)
      chaos_sleep_us(50);
  chaos_sleep_us(run->delay_us);
  atomic_store(&run->injected, true);
  switch (run->fault) {
  case FAULT_SIGKILL: kill_target(run, SIGKILL); break;
  case FAULT_SIGSEGV:
    await_main(run);
    kill_target(run, SIGSEGV);
    break;
  case FAULT_SIGABRT: kill_target(run, SIGABRT); break;
  case FAULT_STOP:
    if (is_foreign(run)) await_answers(run);
    kill_target(run, SIGSTOP);
    break;
  case FAULT_PAUSE:
    kill_target(run, SIGSTOP);
    chaos_sleep_us(run->pause_us);
    kill_target(run, SIGCONT);
    atomic_store(&run->survived, true);
    break;
  case FAULT_SHUTDOWN: inject_shutdown(run); break;
  default: inject_inside(run, self); break;
  }
  return NULL;
}

/* ---- The controller's threads ---- */

static void *work(void *argument) {
  chaos_controller *self = argument;
  const chaos_run *run = self->run;
  chaos_work(self, run->budget[self - run->controllers]);
  return NULL;
}

/* The functions by name. Errors of raises are not there yet. */
static void find_functions(chaos_run *run) {
  chaos_controller *self = &run->controllers[0];
  for (int i = 0; i < CHAOS_FUNCTIONS && !self->over; i++) {
    disco_status status =
        BOUNDED(run->session, disco_session_get_global_func(run->session, chaos_functions[i], &run->functions[i]));
    (void)chaos_accept(self, status, chaos_functions[i], false);
  }
}

static void add_latency(const chaos_run *run, chaos_totals *totals, int64_t ns) {
  enum { MOST = 1 << 20 };
  /* A process that is no child of the library is known by the end of its pipe, if it is not on the ring. */
  int how = run->transport == CHAOS_FOREIGN_PIPE ? CHAOS_BY_PIPE : CHAOS_BY_PROCESS;
  if (run->fault == FAULT_SIGABRT) return; /* libtvm_ffi's or a sanitizer's handler may run first */
  if (totals->latencies[how] < MOST) totals->latency_ns[how][totals->latencies[how]++] = ns;
}

/* Wait in sync until the fault has come. */
static void wait_for_end(chaos_run *run, chaos_totals *totals) {
  chaos_controller *self = &run->controllers[0];
  TVMFFIAny args[2] = {dsc_int(run->target), dsc_int(HOLD_US)};
  bool can_hold = is_outside(run) || run->fault == FAULT_STOP || run->fault == FAULT_SHUTDOWN;
  if (run->holds && can_hold && run->target > 0) (void)chaos_post(self, CHAOS_NAP, args, 2);
  while (!self->over) {
    bool last = atomic_load(&run->survived);
    int64_t began = chaos_now_ns();
    atomic_store(&run->in_sync, true);
    (void)chaos_accept(self, BOUNDED(run->session, disco_session_sync(run->session, DISCO_ALL_WORKERS, DISCO_FOREVER)),
                       "sync", false);
    int64_t ended = chaos_now_ns(), killed = atomic_load(&run->kill_ns);
    if (self->over && is_outside(run) && killed > began) add_latency(run, totals, ended - killed);
    if (self->over || last) break;
    (void)chaos_post(self, CHAOS_NOTHING, NULL, 0); /* a worker passes its points */
    if (run->fault != FAULT_INSIDE) chaos_sleep_us(100);
  }
  atomic_store(&run->in_sync, true);
}

/* ---- Afterwards ---- */

/* How it ended is in the error, wherever the controller can know it. */
static void expect_cause(const chaos_run *run, const disco_error_info *error) {
  int signal_number = -1, exit_status = -1;
  if (run->fault == FAULT_CLOSE && !atomic_load(&run->fell_back)) return;
  switch (run->fault) {
  case FAULT_SIGSEGV: signal_number = SIGSEGV; break;
  case FAULT_SIGABRT: signal_number = SIGABRT; break;
  case FAULT_INSIDE:
    if (run->way == CHAOS_KILL || atomic_load(&run->fell_back))
      signal_number = SIGKILL;
    else
      exit_status = run->way == CHAOS_EXIT ? CHAOS_EXIT_STATUS : 0;
    break;
  default: signal_number = SIGKILL; break;
  }
  if (error->signal_number == signal_number && error->exit_status == exit_status) return;
  if (is_foreign(run) && error->signal_number == -1 && error->exit_status == -1) return; /* only its pipe is known */
  chaos_fail("it ended by signal %d, status %d, but the error says signal %d, status %d: %s", signal_number,
             exit_status, error->signal_number, error->exit_status, error->text);
}

static void check_lost(chaos_run *run) {
  chaos_controller *self = &run->controllers[0];
  disco_error_info error = {.struct_size = sizeof(error)};
  TVMFFIAny one = dsc_int(1);
  disco_dref *dref = NULL;
  disco_status status = BOUNDED(run->session, disco_session_sync(run->session, DISCO_ALL_WORKERS, DISCO_FOREVER));
  if (chaos_accept(self, status, "the sync after the death", false) || status != DISCO_LOST)
    chaos_fail("worker %d is dead, but sync gave status %d", run->target, (int)status);
  if (disco_last_error(&error) == DISCO_OK) expect_cause(run, &error);
  status = BOUNDED(run->session, disco_session_put(run->session, &one, &dref));
  if (chaos_accept(self, status, "the put after the death", false) || status != DISCO_LOST)
    chaos_fail("worker %d is dead, but put gave status %d", run->target, (int)status);
  char *text = NULL;
  status = BOUNDED(run->session, disco_session_dump(run->session, &text));
  if (status != DISCO_OK || strstr(text, "lost") == NULL) chaos_fail("the dump does not know of the loss: %s", text);
  disco_text_free(text);
}

static void close_session(chaos_run *run, chaos_totals *totals) {
  disco_status status = BOUNDED(run->session, disco_session_shutdown(run->session));
  if (status != DISCO_OK && run->fault != FAULT_SHUTDOWN) chaos_fail("shutdown: %s", disco_last_error_text());
  for (int i = 0; i <= CHAOS_THREADS; i++) {
    chaos_drop_registers(&run->controllers[i]);
    totals->calls += run->controllers[i].calls;
    totals->checked += run->controllers[i].checked;
  }
  for (int i = 0; i < CHAOS_FUNCTIONS; i++) disco_dref_unref(run->functions[i]);
  disco_session_unref(run->session);
}

static void describe(const chaos_run *run, char *text, size_t size) {
  bool inside = run->fault == FAULT_INSIDE;
  static const char *const ways[] = {"SIGKILL", "exit(41)", "_exit(0)"};
  (void)snprintf(text, size, "%s, %d workers in %d groups, %d threads%s%s, worker %d: %s%s%s%s%s after %lld us%s",
                 chaos_transports[run->transport], run->workers, run->groups, run->threads,
                 run->raises ? ", raises" : "", run->holds ? ", holds" : "", run->target, chaos_faults[run->fault],
                 inside ? " at " : "", inside ? chaos_points[run->point] : "", inside ? " by " : "",
                 inside ? ways[run->way] : "", (long long)run->delay_us, run->waits_for_sync ? " in sync" : "");
}

static void add_totals(const chaos_run *run, chaos_totals *totals) {
  bool fell_back = atomic_load(&run->fell_back);
  totals->sessions[run->transport]++;
  totals->workers += run->workers;
  totals->raised_sessions += run->raises;
  totals->killed_by_shutdown += fell_back && run->fault == FAULT_SHUTDOWN;
  if (fell_back && run->fault != FAULT_SHUTDOWN) {
    totals->fell_back++;
    return;
  }
  totals->faults[run->fault]++;
  if (run->fault == FAULT_INSIDE) totals->inside[run->point][run->way]++;
}

void chaos_scenario(uint64_t seed, int64_t step, unsigned transports, int fault, bool verbose, chaos_totals *totals) {
  static chaos_run run;
  char text[256];
  pthread_t injector;
  memset(&run, 0, sizeof(run));
  run.step = step;
  decide(&run, seed, transports, fault);
  describe(&run, text, sizeof(text));
  chaos_step(step, text);
  if (verbose) printf("step %lld: %s\n", (long long)step, text);
  atomic_store(&chaos_shared->done_ns, 0);
  for (int i = 0; i < CHAOS_WORKERS; i++) atomic_store(&chaos_shared->ready[i], false);
  if (chaos_open(&run, &run.session) != DISCO_OK) chaos_fail("no session: %s", disco_last_error_text());
  run.pid = pid_of(&run, run.target);
  if (!run.waits_for_sync && (is_outside(&run) || run.fault == FAULT_SHUTDOWN)) {
    if (pthread_create(&injector, NULL, inject, &run) != 0) chaos_fail("no thread");
    find_functions(&run);
  } else { /* it needs the functions */
    find_functions(&run);
    if (pthread_create(&injector, NULL, inject, &run) != 0) chaos_fail("no thread");
  }
  for (int i = 1; i < run.threads; i++) {
    run.controllers[i].over = run.controllers[0].over;
    if (pthread_create(&run.controllers[i].thread, NULL, work, &run.controllers[i]) != 0) chaos_fail("no thread");
  }
  (void)work(&run.controllers[0]);
  wait_for_end(&run, totals);
  for (int i = 1; i < run.threads; i++) pthread_join(run.controllers[i].thread, NULL);
  pthread_join(injector, NULL);
  if (chaos_is_fatal(&run)) check_lost(&run);
  if (run.fault == FAULT_PAUSE)
    for (int i = 0; i < run.threads; i++) chaos_check_registers(&run.controllers[i]);
  close_session(&run, totals);
  add_totals(&run, totals);
}
