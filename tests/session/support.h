/* What every test of this suite shares: how sessions are made, checks that say what went wrong, values, gates.
 *
 * The tests say what a session promises, whatever its workers are; DISCO_TEST_SESSION says what they are:
 *   thread   threads of the controller (the default)
 *   pool     processes of the library's own pool, on shared memory: this program is their program, too
 *   foreign  processes of a pool that knows only pipes (foreign.c)
 *   pipe     as pool, but nothing goes through shared memory
 *   channel  processes that the suite itself starts (channels.c): the session knows them by a user's channels alone
 * So all sessions come from make_session(), worker functions are registered by name before the tests begin, gates work
 * between processes, and a check that needs one address space asks shares_memory(). Worker 0 is always a thread of the
 * controller. A test that means nothing in some mode is not in its list (THREADS_ONLY and so on). Checks may fail on
 * the test's own thread only. */
#ifndef SESSION_SUPPORT_H
#define SESSION_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/checks.h"
#include "disco/disco.h"
#include "disco/worker.h"
#include "ffi/value.h"

enum { WAIT_MS = 5000 }; /* the longest any wait of a test may take */

/* ---- Running ---- */

/* A test that runs in some modes only: in place of cmocka_unit_test(). */
enum { IN_THREAD = 1, IN_POOL = 2, IN_FOREIGN = 4, IN_PIPE = 8, IN_CHANNEL = 16 };
extern int mode_lists[32]; /* mode_lists[i] == i: something to point to */
#define IN_MODES(test, modes) cmocka_unit_test_prestate(test, &mode_lists[(modes)])
#define THREADS_ONLY(test) IN_MODES(test, IN_THREAD)
#define PROCESSES_ONLY(test) IN_MODES(test, IN_POOL | IN_FOREIGN | IN_PIPE | IN_CHANNEL)
#define OWN_POOL_ONLY(test) IN_MODES(test, IN_POOL | IN_PIPE)
#define FOREIGN_ONLY(test) IN_MODES(test, IN_FOREIGN)
#define CHANNEL_ONLY(test) IN_MODES(test, IN_CHANNEL)

/* What this process tests: one of IN_*. */
int session_mode(void);

/* The body of every main(): registers the suite's worker functions and those of `register_more` (may be NULL), then
 * runs the tests of this mode against a clock. In a process that was started as `PROGRAM worker ...` it is that worker
 * instead. */
int run_suite(const char *name, const struct CMUnitTest *tests, size_t count, void (*register_more)(void));
#define RUN_SUITE(tests, register_more) \
  run_suite(__FILE__, (tests), sizeof(tests) / sizeof((tests)[0]), (register_more))

/* Register a worker function; fails the program when the name is taken. */
void register_function(const char *name, TVMFFISafeCallType function);

/* ---- Sessions ---- */

/* The only place of the suite that starts workers: the mode decides what they are, all else is as the options say. */
disco_status start_session(const disco_session_options *options, disco_session **ret_session);
disco_session *make_session(int32_t workers, int32_t groups);
disco_session *make_session_with(const disco_session_options *options);
/* Shut down (which must succeed) and drop the reference; over channels, wait for the workers, too. */
void end_session(disco_session *session);
/* Do the controller and all workers see the same objects and variables? Does this worker? How many of the first
 * `workers`? */
bool workers_share_memory(void);
bool shares_memory(int32_t worker);
int32_t sharing(int32_t workers);

/* ---- Checks ---- */

/* expect_ok, expect_status, expect_kind and expect_says: common/checks.h. This: status and text at once. */
#define expect_refused(status, part, call) (expect_status((status), (call)), expect_says(part))

/* ---- Values ---- */

TVMFFIAny any_bool(bool value);
TVMFFIAny any_float(double value);
TVMFFIAny any_raw(const char *text);         /* borrowed, type index 8 */
TVMFFIAny any_bytes(TVMFFIByteArray *bytes); /* borrowed, type index 9 */
TVMFFIAny any_pointer(const void *pointer);
TVMFFIAny any_device(DLDeviceType type, int32_t id);
TVMFFIAny any_dtype(uint8_t code, uint8_t bits, uint16_t lanes);
TVMFFIAny any_dref(disco_dref *dref);   /* borrowed */
TVMFFIAny any_object(void *object);     /* borrowed */
TVMFFIAny make_text(const char *text);  /* owned, 11 or 65 */
TVMFFIAny make_bytes(const char *text); /* owned, 12 or 66 */
/* A text object (owned, 65) that adds one to *freed when it dies. */
TVMFFIAny make_counted(_Atomic int *freed);
#define COUNTED_TEXT "a text that says when it dies"

/* A list of values and its length: two arguments. */
#define VALUES(...) \
  (const TVMFFIAny[]){__VA_ARGS__}, (int32_t)(sizeof((const TVMFFIAny[]){__VA_ARGS__}) / sizeof(TVMFFIAny))
#define NO_VALUES NULL, 0

/* Call a global function here: ffi.Array, ffi.Shape, ... The result is owned. */
TVMFFIAny call_here(const char *name, const TVMFFIAny *args, int32_t num_args);
/* An element of an array or shape, borrowed. */
TVMFFIAny element(const TVMFFIAny *array, int64_t index);
int64_t length(const TVMFFIAny *array);
/* Is it this text, in any of the forms of a string? */
bool is_text(const TVMFFIAny *value, const char *text);
/* A float32 tensor on the CPU with the values first, first + 1, ...; and its data. */
TVMFFIObject *make_tensor(int32_t ndim, const int64_t *shape, float first);
DLTensor *tensor_of(const void *object);
float *floats_of(const void *object);

/* ---- Calls ---- */

disco_dref *find(disco_session *session, const char *name);
disco_dref *call(disco_session *session, disco_dref *func, const TVMFFIAny *args, int32_t num_args);
disco_dref *put(disco_session *session, TVMFFIAny value);
/* A copy of the register's value, owned. */
TVMFFIAny get(disco_dref *dref, int32_t worker);
int64_t get_int(disco_dref *dref, int32_t worker);
void sync_all(disco_session *session);
disco_session_stats stats_of(disco_session *session);
/* Until that many registers are live: worker 0 may be about to count those that were just dropped. */
void await_live(disco_session *session, uint64_t wanted);

/* ---- Gates: a function that a worker hangs in until the test says otherwise ---- */

typedef struct {
  int arrived[2], go[2]; /* pipes, which a worker of another process opens through /proc */
  disco_dref *func;      /* of gate_hold(), until gate_close(): its release would be one more command */
} gate;

extern _Atomic int gates_opened;
void gate_open(gate *self);
void gate_close(gate *self);
/* The four arguments of test.gate for `worker` (-1: every worker stops). */
void gate_args(const gate *self, int32_t worker, TVMFFIAny ret_args[4]);
/* Wait until `count` workers stand there. */
void gate_await(gate *self, int count);
void gate_release(gate *self, int count);
/* Post test.gate and wait until the worker (-1: all) is in it. Once per gate. */
void gate_hold(gate *self, disco_session *session, int32_t worker);

/* Wait until *counter is at least `wanted`; returns what it is. */
int await_count(_Atomic int *counter, int wanted);

/* ---- foreign.c: a pool that knows only pipes, and what this program does as a worker ---- */

/* What its pools did, since the program began. */
typedef struct {
  _Atomic int made;      /* pools */
  _Atomic int closed;    /* calls of f(0) */
  _Atomic int started;   /* children */
  _Atomic int gone;      /* of them, seen to end */
  _Atomic int killed;    /* of them, those that did not end by themselves within WAIT_MS after f(0) */
  _Atomic int early;     /* of them, those that found their controller gone (LEFT_EARLY, or the library's watcher) */
  _Atomic int complaint; /* of them, those that ended with any other status than 0, or by a signal */
} foreign_counts;
enum { LEFT_EARLY = 3 };
extern foreign_counts foreign_pools;

/* test.create_pool, and test.bad_pool whose entrypoint says what is wrong with it (see there). */
void register_pools(void);
/* In a process that was started as a worker: be one, then leave. In others: return. */
void be_worker_if_asked(void);

/* ---- channels.c: sessions over sockets, whose workers this program starts and waits for ---- */

/* Starts the workers, then the session; fills in options->channels. The session's status, or DISCO_RUNTIME. */
disco_status start_over_channels(disco_session_options *options, disco_session **ret_session);
/* Until the workers of this session (NULL: of all) have ended, WAIT_MS at most: then they are killed and complained of.
 * The pointer is compared only. */
void await_channel_workers(const disco_session *session);
/* SIGKILL for one; that status is no complaint then. Returns its pid; -1: it does not run. */
int64_t kill_channel_worker(const disco_session *session, int32_t worker);
/* At the end: waits for all; 1 when one was complained of. */
int check_channel_workers(void);

/* ---- functions.c ---- */
void register_worker_functions(void);
/* Body of test.gate: stand at the gate that args[0..3] describe, if this worker is meant. */
int stand_at_gate(const TVMFFIAny *args, int32_t num_args);

#endif
