/* The chaos program: sessions of worker processes do random work, one fault comes at a random moment or named point,
 * and everything that the library promises about it is checked. docs/reliability.md says how to run and repeat it.
 *
 *   chaos.c     arguments, the loop, the table
 *   scenario.c  one session and its fault
 *   work.c      what controller threads do meanwhile, and the model of what their registers hold
 *   worker.c    the worker's side, and a pool as others write it
 *   watch.c     the bound on every call, the census, the end of a failed run
 *   saturate.c  no false death while the CPUs are taken */
#ifndef CHAOS_CHAOS_H
#define CHAOS_CHAOS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "disco/disco.h"

enum { CHAOS_WORKERS = 6, CHAOS_THREADS = 3, CHAOS_BOUND_MS = 5000 };

/* The sanitizers keep memory, and start processes slowly. */
#define CHAOS_SANITIZED DSC_SANITIZED

/* ---- Decisions: each stream is fixed by the seed, the step and who decides ---- */

typedef struct {
  uint64_t state;
} chaos_random;

chaos_random chaos_random_of(uint64_t seed, int64_t step, int who);
uint64_t chaos_next(chaos_random *random);
int64_t chaos_below(chaos_random *random, int64_t limit); /* 0 .. limit - 1 */
bool chaos_chance(chaos_random *random, int percent);

int64_t chaos_now_ns(void);
void chaos_sleep_us(int64_t us);

/* ---- worker.c ---- */

/* What a worker tells the injector: a page that all share. */
typedef struct {
  _Atomic bool ready[CHAOS_WORKERS]; /* in its main() */
  _Atomic int64_t done_ns;           /* CLOCK_MONOTONIC: it dies now, or has closed its pipe; 0: not yet */
} chaos_board;

/* How a worker ends itself. */
enum { CHAOS_KILL = 0, CHAOS_EXIT = 1, CHAOS_EXIT_NOW = 2, CHAOS_WAYS = 3, CHAOS_EXIT_STATUS = 41 };
/* Where: the body of a function, or one of base/inject.h's points in the worker. */
enum { CHAOS_IN_CALL = 0, CHAOS_BEFORE_DONE, CHAOS_MID_SLOT, CHAOS_FAILED, CHAOS_BEFORE_SLEEP, CHAOS_POINTS };
extern const char *const chaos_points[CHAOS_POINTS];

/* Functions on workers:
 *   chaos.nothing()  chaos.echo(x) -> x  chaos.mix(values...) -> chaos_mix() of them
 *   chaos.fill(tensor, seed) -> the tensor, filled  chaos.raise(worker, number)  chaos.nap(worker, us)
 *   chaos.arm(worker, point, pass, way): end yourself when you come to that point for the pass-th time
 *   chaos.close(worker, both): replace the pipe to the controller (and that from it) by /dev/null */
void chaos_register(void);
/* Started as a worker? Then be one and do not return. */
void chaos_be_worker(int argc, char **argv);
/* The page of the controller; sets the environment for its workers. */
chaos_board *chaos_make_board(void);
/* The processes of the last pool of chaos.create_pool, by worker. */
pid_t chaos_pool_pid(int32_t worker);

/* A number that stands for a value; an int for itself. */
uint64_t chaos_digest(const TVMFFIAny *value);
/* What chaos.mix returns on a worker for values with these digests. */
int64_t chaos_mix(const uint64_t *digests, int32_t count, int32_t worker);
void chaos_fill(void *data, size_t size, uint64_t seed);

/* ---- watch.c ---- */

/* Every call of the library that may block goes through here: the watchdog ends the program when one takes longer than
 * CHAOS_BOUND_MS. */
void chaos_begin(const char *what, disco_session *session);
disco_status chaos_end(disco_status status);
#define BOUNDED(session, call) (chaos_begin(#call, (session)), chaos_end(call))

void chaos_watch(uint64_t seed, const char *sessions, int fault); /* starts the watchdog */
void chaos_step(int64_t step, const char *what);                  /* for messages */
_Noreturn void chaos_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

typedef struct {
  int children, threads, descriptors, memfds, file_maps, memfd_maps, other_maps;
  long resident_kib;
} chaos_census;

chaos_census chaos_count(void);
/* Until everything but the resident memory is as before; fails when that does not come. */
void chaos_expect_census(const chaos_census *before);
void chaos_print_census(const char *title, const chaos_census *census);

/* ---- work.c ---- */

struct chaos_run;

enum { CHAOS_REGISTERS = 16 };

typedef struct {
  disco_dref *dref; /* NULL: free */
  bool known;       /* else only its error may be read */
  bool tensor;
  uint64_t digest[CHAOS_WORKERS];
} chaos_register_model;

/* A controller's thread. */
typedef struct {
  struct chaos_run *run;
  chaos_random random;
  pthread_t thread;
  chaos_register_model registers[CHAOS_REGISTERS];
  bool over; /* lost or closed: nothing more to do here */
  int64_t calls, checked;
  char text[20001];
} chaos_controller;

void chaos_work(chaos_controller *self, int64_t count);
/* Read every register back. */
void chaos_check_registers(chaos_controller *self);
void chaos_drop_registers(chaos_controller *self);
/* Call a function by its place in the run's list; the result is dropped. */
enum { CHAOS_NOTHING, CHAOS_ECHO, CHAOS_MIX, CHAOS_FILL, CHAOS_RAISE, CHAOS_NAP, CHAOS_ARM, CHAOS_CLOSE, CHAOS_EMPTY };
enum { CHAOS_FUNCTIONS = 9 };
extern const char *const chaos_functions[CHAOS_FUNCTIONS];
/* True when it was posted. An error of a raise is taken, and the call made again. */
bool chaos_post(chaos_controller *self, int function, const TVMFFIAny *args, int32_t count);
/* Was it DISCO_OK? Fails for anything that may not be here and now. */
bool chaos_accept(chaos_controller *self, disco_status status, const char *what, bool may_time_out);

/* ---- scenario.c ---- */

enum { CHAOS_RING, CHAOS_PIPE, CHAOS_FOREIGN, CHAOS_FOREIGN_PIPE, CHAOS_TRANSPORTS };
extern const char *const chaos_transports[CHAOS_TRANSPORTS];

enum {
  FAULT_SIGKILL,
  FAULT_SIGSEGV,
  FAULT_SIGABRT,
  FAULT_INSIDE, /* of its own doing, at a point */
  FAULT_PAUSE,  /* SIGSTOP, then SIGCONT */
  FAULT_STOP,   /* SIGSTOP for good */
  FAULT_SHUTDOWN,
  FAULT_CLOSE, /* a pipe closed */
  FAULT_NONE,
  FAULTS
};
extern const char *const chaos_faults[FAULTS];

typedef struct chaos_run {
  int64_t step;
  int transport;
  int32_t workers, groups, target;
  int threads, fault, point, way, pass;
  bool raises, holds, waits_for_sync; /* holds: the target sits in a function when the last sync begins */
  int64_t delay_us, pause_us, budget[CHAOS_THREADS];
  disco_session *session;
  disco_dref *functions[CHAOS_FUNCTIONS];
  pid_t pid;                                       /* the target's */
  chaos_controller controllers[CHAOS_THREADS + 1]; /* the last is the injector's */
  _Atomic bool injected, survived, in_sync, fell_back;
  _Atomic int64_t kill_ns; /* when it was killed from outside; 0: not yet */
} chaos_run;

/* How a death is seen: by its process, or by the end of its pipe alone. Signals that a worker handles (libtvm_ffi
 * writes a backtrace) take effect later. */
enum { CHAOS_BY_PROCESS, CHAOS_BY_PIPE, CHAOS_LATENCIES, CHAOS_QUARTERS = 4 };

typedef struct {
  int64_t faults[FAULTS], inside[CHAOS_POINTS][CHAOS_WAYS], sessions[CHAOS_TRANSPORTS], workers, calls, checked;
  int64_t fell_back, killed_by_shutdown, raised_sessions;
  int64_t *latency_ns[CHAOS_LATENCIES], latencies[CHAOS_LATENCIES];
  long resident_kib[CHAOS_QUARTERS]; /* at the end of each quarter of the run */
} chaos_totals;

/* `transports`: a set of bits. `fault`: FAULTS for any. */
void chaos_scenario(uint64_t seed, int64_t step, unsigned transports, int fault, bool verbose, chaos_totals *totals);
disco_status chaos_open(const chaos_run *run, disco_session **ret_session);
bool chaos_is_fatal(const chaos_run *run);

/* ---- saturate.c ---- */
void chaos_saturate(uint64_t seed, int seconds);

extern chaos_board *chaos_shared;

#endif
