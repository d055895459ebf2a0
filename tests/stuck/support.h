/* The never-stuck suite: what its tests share. Sessions with a data plane, one worker function that runs a collective
 * of any kind and may misbehave, and a hook at the named points of the library (base/inject.h) that pauses, kills or
 * stops the worker that passes. Nothing is asserted about time but one bound: everybody comes back within BOUND_MS.
 *
 * Checks may fail on the test's own thread only: worker functions raise. */
#ifndef STUCK_SUPPORT_H
#define STUCK_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/types.h>

#include "common/checks.h"
#include "disco/disco.h"
#include "disco/worker.h"

enum { BOUND_MS = 5000, MAX_WORKERS = 8 };

/* ---- The ways that data takes ---- */

/* X(NAME, "text", "DISCO_CCL_TUNE", "data plane"). PUSH: out of place, past the caches into everybody's output. */
#define WAY_LIST(X)                                         \
  X(INLINE, "inline", "", "cpu")                            \
  X(ONESHOT, "one-shot", "", "cpu")                         \
  X(DIRECT, "direct", "staged_move=0", "cpu")               \
  X(PUSH, "pushed", "push_bytes=4096,staged_move=0", "cpu") \
  X(STAGED, "staged", "direct=0", "cpu")                    \
  X(REF, "ref", "", "ref")
typedef enum {
#define WAY_ENUM(name, text, tune, ccl) name,
  WAY_LIST(WAY_ENUM)
#undef WAY_ENUM
      WAYS
} way;
extern const char *const way_names[WAYS];
/* Between the tensors: where all can reach them. */
static inline bool is_direct(way which) { return which == DIRECT || which == PUSH; }

/* X(NAME, "text"). TRANSFER: a chain of sends and receives through all ranks. */
#define OPERATION_LIST(X)   \
  X(ALLREDUCE, "allreduce") \
  X(ALLGATHER, "allgather") \
  X(BROADCAST, "broadcast") \
  X(SCATTER, "scatter")     \
  X(GATHER, "gather")       \
  X(TRANSFER, "transfer")
typedef enum {
#define OPERATION_ENUM(name, text) name,
  OPERATION_LIST(OPERATION_ENUM)
#undef OPERATION_ENUM
      OPERATIONS
} operation;
extern const char *const operation_names[OPERATIONS];
/* Only an allreduce is pushed: any other operation goes the direct way then. */
static inline bool has_way(operation op, way which) { return which != PUSH || op == ALLREDUCE; }

/* ---- The named points ---- */

#define POINT_LIST(X)                   \
  X(BEGIN, "begin")                     \
  X(ENTERED, "entered")                 \
  X(MID_STORE, "mid_store")             \
  X(STORING, "storing")                 \
  X(BEFORE_FINISHED, "before_finished") \
  X(ABORTED, "aborted")                 \
  X(REDUCED, "reduced")                 \
  X(TAKEN, "taken")                     \
  X(SENDING, "sending")                 \
  X(RECEIVING, "receiving")             \
  X(READING, "reading")
typedef enum {
#define POINT_ENUM(name, text) AT_##name,
  POINT_LIST(POINT_ENUM)
#undef POINT_ENUM
      POINTS
} point;
extern const char *const point_names[POINTS];

/* ---- Tasks: the arguments of stuck.work, one integer each ---- */

/* What worker `who` does instead of its part. */
typedef enum { GOOD, RAISE, SKIP, SIZE, OTHER, GROUP, HOWS } how;
/* What worker `target` does when it passes the point for the pass-th time (from 0). */
typedef enum { NO_ACTION, PAUSE, KILL, STOP } action;
/* Where tensors lie: memory of malloc, pages that nobody may touch once they were freed, the session's arena. */
typedef enum { HEAP, PAGES, ARENA, MEMORIES } memory;
enum { NOBODY = -1 };

typedef struct {
  int64_t operation, count; /* elements of one rank's part */
  int64_t in_group, in_place;
  int64_t seed, memory;
  int64_t who, how;
  int64_t gated; /* `who` waits until the gate opens, before it does anything */
  int64_t target, point, pass, action;
  int64_t jitter; /* not 0: everybody dawdles at points now and then */
  int64_t times;
} task;
enum { TASK_FIELDS = sizeof(task) / sizeof(int64_t) };

/* One good operation, tensors on the heap. */
task task_of(operation op, way how, int32_t workers, int64_t seed);
/* "raised on purpose": the text of RAISE, with the worker's number. */
#define RAISED_TEXT "raised on purpose"

/* ---- Sessions ---- */

typedef struct {
  bool processes;
  int32_t workers, groups;
  way way;
  uint32_t stopped_ms, timeout_ms;
} scene;

/* With a data plane. */
disco_session *open_scene(const scene *what);
/* Shutdown must succeed and leave no child. */
void close_scene(disco_session *session);
disco_status try_post(disco_session *session, const task *what);
void post(disco_session *session, const task *what);
/* "stuck.steps": four integers for each step: worker, verb, peer, count. Each worker does its own, in order, with
 * float32 tensors of `count` elements (a sleep: microseconds). */
enum { SEND_TO, RECV_FROM, SLEEP, REDUCE_ALL, REDUCE_GROUP };
typedef struct {
  int64_t worker, verb, peer, count;
} step;
void post_steps(disco_session *session, const step *steps, size_t count);
#define STEPS(session, ...) \
  post_steps((session), (const step[]){__VA_ARGS__}, sizeof((const step[]){__VA_ARGS__}) / sizeof(step))
/* "stuck.cost": the operation so many times, each time with new tensors; worker `late`, if any, sleeps before each.
 * What each worker spent inside the calls. */
typedef struct {
  int64_t wall_ns, cpu_ns, slept, preempted; /* switches to sleep; all others, also those of yields */
} cost;
void measure_cost(disco_session *session, const task *what, int64_t late, int64_t late_us, cost *ret_costs);
/* "stuck.gate": worker `who` waits for the gate, then raises. */
void post_gate(disco_session *session, int32_t who);
disco_status sync_for(disco_session *session, int64_t ms);
pid_t pid_of(disco_session *session, int32_t worker);

/* ---- Pauses ---- */

/* All closed, nothing reached, nothing counted. */
void reset_pauses(void);
bool wait_reached(int64_t ms);
bool is_reached(void);
void release_paused(void);
void open_gate(void);
int aborts_counted(void);
bool wait_aborts(int least, int64_t ms);
bool wait_abort_of(int32_t worker, int64_t ms);
/* Has it passed there since the last reset_pauses()? */
bool has_passed(int32_t worker, point at);

/* Which points each worker passes in this operation of this way. Sets seen[worker][point]. In a thread session that it
 * opens. */
void discover(const scene *what, operation op, bool seen[MAX_WORKERS][POINTS]);

/* The index-th of a draw of cases for many workers, where all of them would take minutes: each operation in turn, the
 * way, the point and the worker process that passes it from DISCO_STUCK_SEED. ABORTED is never drawn. */
typedef struct {
  way way;
  operation operation;
  int32_t victim;
  int at;
} spot;
spot draw_spot(const scene *where, uint64_t index);

/* ---- Checks ---- */

/* The case that a failure names. */
void say_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *case_text(void);
void check_ok(disco_session *session, disco_status status, const char *what, const char *file, int line);
#define OK(session, call) check_ok((session), (call), #call, __FILE__, __LINE__)
/* Sync within the bound. */
#define SYNC_OK(session) OK((session), sync_for((session), BOUND_MS))
/* The last error is of this kind, and its message contains the text. */
void check_error(const char *kind, const char *part, const char *file, int line);
#define ERROR_IS(kind, part) check_error((kind), (part), __FILE__, __LINE__)
/* Its message names this worker and at least one other. */
void check_both(int32_t worker, const char *file, int line);
#define NAMES_BOTH(worker) check_both((worker), __FILE__, __LINE__)
bool last_is(const char *kind);
disco_error_info last_error(void);

/* After trouble was told (`told`) or went unnoticed: the same operation works. What went unnoticed may show once. */
void check_recovers(disco_session *session, const task *like, bool told);

/* ---- Running ---- */

int stuck_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count);
/* True for one in `share` cases, spread by a hash; when tests are scaled down for one in `share` times `less`. */
bool chosen(uint64_t index, int share, int less);
uint64_t mix(uint64_t a, uint64_t b);
/* A number of the environment. */
uint64_t number_of(const char *variable, uint64_t otherwise);
int64_t now_ms(void);

void register_functions(void);

#endif
