/* The engine of a session: everything behind the session object. The object (which user code counts) only points here,
 * so that its death never has to wait: the engine is handed to the reaper.
 *
 * Locks, in the order in which they may be taken: `lock` (issuing; never held while waiting, polling signals or running
 * user code), then `reply_lock` (draining replies). Fields under `lock` say so. */
#ifndef DSC_SESSION_ENGINE_H
#define DSC_SESSION_ENGINE_H

#include <pthread.h>

#include "base/idpool.h"
#include "base/list.h"
#include "base/names.h"
#include "base/text.h"
#include "ccl/alias.h"
#include "channel/ring.h"
#include "channel/segment.h"
#include "disco/disco.h"
#include "ffi/object.h"
#include "os/arena.h"
#include "os/fork.h"
#include "os/wait.h"
#include "wire/codec.h"
#include "wire/schema.h"
#include "worker/worker.h"

enum { DSC_READY = 0, DSC_CLOSING = 1, DSC_CLOSED = 2 };
enum { DSC_HISTORY = 16 };

typedef struct {
  int32_t num_workers, num_groups;
  uint32_t ring_bytes, grace_ms, slow_warning_ms, spin_us;
  /* sessions of worker processes */
  uint32_t stopped_ms;
  bool pipe_only;
  uint64_t arena_bytes;
  uint32_t collective_timeout_ms;
  char ccl_alias[DSC_CCL_ALIAS_MAX]; /* "nccl=cpu", or empty */
} dsc_settings;

/* A reply that somebody waits for. On the waiting thread's stack, linked into the engine under reply_lock. */
typedef struct {
  dsc_list link;
  uint64_t sequence;
  int32_t worker;     /* one worker, or DISCO_ALL_WORKERS */
  int32_t remaining;  /* replies still to come */
  TVMFFIAny *values;  /* one, or one per worker */
  uint32_t *outcomes; /* DSC_REPLY_* for each */
} dsc_pending;

/* What waiting calls have seen of a worker: since when its done number stands still, and its progress with it. Any
 * thread that waits updates it. */
typedef struct {
  _Atomic uint64_t done, progress;
  _Atomic int64_t since_ns; /* 0: not looked at yet */
  _Atomic uint64_t warned;  /* the done number behind which it was last warned of */
  uint32_t stopped_looks;   /* how often in a row its process was found stopped; under look_lock */
} dsc_watch;

/* A worker that is no thread of ours: remote.h. */
typedef struct dsc_remote dsc_remote;

/* Large arguments of commands that some worker has not done yet: side.c. */
typedef struct dsc_side_file dsc_side_file;

typedef struct {
  pthread_t thread;
  bool started, joined;
  _Atomic uint32_t fate; /* DSC_FATE_*: who comes second, the thread's end or the one that gives it up, cleans up */
} dsc_worker_thread;

enum { DSC_FATE_RUNS = 0, DSC_FATE_ENDED = 1, DSC_FATE_ABANDONED = 2 };

typedef struct dsc_engine {
  dsc_list link; /* in the process's list of live engines (reaper.c) */
  _Atomic uint32_t refs;
  struct dsc_engine *next_job; /* reaper.c, under its lock */
  bool queued;                 /* the same */
  dsc_settings settings;
  const disco_session *session; /* never read through: DRefs and the codec compare it */
  const void *creation_site;    /* an address in the function that made it; NULL: the registry's */
  uint32_t fork_generation;
  int64_t pid;
  _Atomic uint32_t state; /* DSC_READY, ... */
  dsc_segment segment;
  int32_t busy_threads;
  dsc_patience patience; /* of the controller's threads */

  /* issuing */
  _Alignas(DSC_CACHE_LINE) dsc_lock lock;
  _Atomic uint64_t sequence;      /* written under lock */
  _Atomic uint64_t failures_seen; /* written under lock: of segment->failures */
  dsc_ring_writer ring;           /* under lock */
  dsc_encoder encoder;
  dsc_names names;                /* under lock */
  uint64_t resumed;               /* under lock: sequence of the last resume record */
  _Atomic uint64_t epoch;         /* written under lock: its ordinal */
  _Atomic bool waited;            /* a thread has waited since the last record */
  bool resume_pending;            /* under lock: an error was told, its resume record waits for room */
  _Atomic bool has_data_plane;    /* init_ccl succeeded, so a sync asks the workers */
  _Atomic bool has_own_plane;     /* it was one of this library's, which have nothing to ask for */
  uint64_t *collected;            /* under lock: per worker, the last failure that is in the history */
  dsc_error history[DSC_HISTORY]; /* under lock: a ring, history_count % DSC_HISTORY is the next */
  uint64_t history_count;         /* under lock */
  dsc_idpool registers;
  _Atomic uint32_t worker0_asleep;

  /* counters */
  _Atomic uint64_t ring_bytes_posted, ring_full, wakes, errors_told, errors_late;

  /* replies */
  dsc_lock reply_lock;
  dsc_ring_reader *replies; /* under reply_lock */
  dsc_list pending;         /* under reply_lock */

  dsc_watch *watch; /* one per worker */

  /* ending */
  dsc_worker_thread *threads;
  disco_status stop_status;
  char *stop_message;
  bool stop_by_call, stop_interrupted; /* the thread that stops it: it may be interrupted; it was */

  /* sessions of worker processes */
  bool has_processes;   /* constant: objects travel packed, but to worker 0 */
  dsc_remote **remotes; /* one per worker, NULL for threads */
  dsc_arena arena;
  struct dsc_arena_range *arena_range; /* of worker 0 */
  _Atomic(TVMFFIObject *) pool;        /* the function of somebody else's pool, whose call with 0 is still due; NULL */
  dsc_error lost;                      /* under lock: the first worker that was lost; status DISCO_OK: none */
  dsc_lock side_lock;
  dsc_side_file *side_files, **last_side_file; /* under side_lock: oldest first */
  _Atomic uint32_t num_side_files;             /* written under side_lock */
  int64_t side_nap_ns;                         /* worker 0's: how long until it looks again */
  uint32_t side_seen;                          /* worker 0's: how many there were when it looked last */
  _Atomic uint64_t side_bytes;                 /* ever written */
  dsc_lock look_lock;
  int32_t worker0_cpu;      /* constant: where worker 0 is bound, -1: nowhere */
  _Atomic bool object_dead; /* the session object died: the pool's f(0) is due */
  int64_t next_look_ns;     /* under look_lock: when processes are looked at again */
  dsc_lock done_lock;
  _Atomic int done_fd; /* -1: nobody asked for it */
  _Atomic uint32_t ring_workers, pipe_workers;
} dsc_engine;

/* ---- engine.c ---- */
/* `processes`: NULL for a session of threads, else the options of one of processes. */
disco_status dsc_engine_create(const dsc_settings *settings, const disco_session_options *processes,
                               const disco_session *session, const void *creation_site, dsc_engine **ret_engine);
void dsc_engine_ref(dsc_engine *engine);
/* The last reference frees it: it must have stopped. */
void dsc_engine_unref(dsc_engine *engine);
/* Post shutdown, wait for the workers (grace), give up on those that do not end. Any thread but a worker's; several may
 * call it. */
/* by_call: a user's thread does, which Ctrl-C interrupts (DISCO_INTERRUPTED; the grace was cut short, it is stopped).
 */
disco_status dsc_engine_stop(dsc_engine *engine, bool by_call);
/* Thread workers that were abandoned in this process. */
uint64_t dsc_engine_abandoned(void);

/* ---- launch_thread.c ---- */
disco_status dsc_launch_threads(dsc_engine *engine);
/* Worker `worker` as a thread. */
disco_status dsc_launch_thread(dsc_engine *engine, int32_t worker);

/* ---- launch_process.c ---- */
/* Worker 0 as a thread, the others as processes: by our own pool, somebody else's, or behind channels. What was started
 * is stopped by dsc_engine_stop(), also after a failure. */
disco_status dsc_launch_processes(dsc_engine *engine, const disco_session_options *options);
/* Call f(0) of somebody else's pool, once: when the session object dies. May run user code. */
void dsc_pool_finish(dsc_engine *engine);

/* ---- done.c ---- */
disco_status dsc_done_open(dsc_engine *engine, int *ret_fd);
void dsc_done_arm(dsc_engine *engine, uint64_t sequence);
/* Make the descriptor readable if what was armed is done or a failure waits. Any thread; a dsc_worker_setup.notify. */
void dsc_done_look(void *engine);

/* ---- issue.c ---- */

enum { DSC_NO_READERS = -1 };

/* A command to be posted. */
typedef struct {
  uint8_t message, flags;
  uint32_t reg; /* ignored when a register is wanted */
  uint32_t target;
  uint32_t name; /* interned */
  const TVMFFIAny *values;
  int32_t count;
  int32_t readers;          /* references added per object among the values; 0: one per worker that shares our memory;
                               DSC_NO_READERS */
  dsc_travel *travel;       /* NULL, or how the values travel to other processes */
  const dsc_side_ref *side; /* NULL, or the side file that goes with it */
  const dsc_dref *subject;  /* NULL, or a DRef that must be live: its register becomes `reg` */
  const dsc_dref *callee;   /* NULL, or the function's DRef: its register becomes `target`, its name `name` */
  const char *intern;       /* NULL, or a text whose number becomes `name` and the new register's note */
  bool wants_result;        /* take a new register, and place its DRef */
  bool kills;               /* `reg` is given by number, must be live, and is dead from here on */
  disco_session *session;   /* of the DRef */
  dsc_pending *pending;     /* NULL, or who waits for the replies */
  uint64_t sequence;        /* out */
  dsc_dref *result;         /* out: owned by the caller */
} dsc_command;

/* ---- side.c ---- */
/* Make and fill the side file for these values, if they need one. Waits when too many are under way. */
disco_status dsc_side_prepare(dsc_engine *engine, dsc_command *command, unsigned allowed, const char *what,
                              int64_t deadline_ns, dsc_travel *travel, dsc_side_ref *ret_ref, dsc_side_file **ret_file);
/* The command was posted (sequence) or not (0): keep the file until all have done it, or let it go. */
void dsc_side_posted(dsc_engine *engine, dsc_side_file *file, uint64_t sequence);
/* Let go what every worker has done. Never waits. True while some are left. */
bool dsc_side_collect(dsc_engine *engine);
void dsc_side_drop_all(dsc_engine *engine);

/* session.c: make the DRef of a register in the memory that came with its id. */
void dsc_dref_place(void *memory, disco_session *session, uint32_t reg, uint32_t generation);

/* Is this still the process that made the session? DISCO_RUNTIME in a forked child: for calls that look only. */
disco_status dsc_enter_fork(const dsc_engine *engine, const char *what);
/* May this thread use the session now? DISCO_CLOSED, DISCO_RUNTIME (forked child; the session's own worker). */
disco_status dsc_enter(const dsc_engine *engine, const char *what);
/* Post a command; waits only for room in the ring. An untold failure is returned instead, and nothing is posted. */
disco_status dsc_issue(dsc_engine *engine, dsc_command *command, int64_t timeout_ms);
/* Post what waits on the release list if the lock is free and there is room; never waits. Any thread. */
void dsc_publish_releases(dsc_engine *engine);
/* Worker 0, about to sleep: the same; returns how long it may sleep, see dsc_wait.before_sleep. */
int64_t dsc_publish_before_sleep(dsc_engine *engine);
/* Lock held: append the resume record, or leave it pending. */
void dsc_post_resume(dsc_engine *engine);
/* Leave the lock: wake whoever sleeps, look after releases. */
void dsc_leave(dsc_engine *engine);
/* The stop record: posted in any state, false when the ring is full. */
bool dsc_post_shutdown(dsc_engine *engine);

/* ---- wait.c ---- */
/* Looks on while a call waits: on the waiting thread, no lock held, at every tick (50 ms) at least. Any status but
 * DISCO_OK ends the wait with it, its sentence written. May run user code. */
typedef struct dsc_onlooker dsc_onlooker;
struct dsc_onlooker {
  disco_status (*look)(dsc_onlooker *onlooker);
};

typedef struct {
  dsc_guard guard;
  dsc_engine *engine;
  bool look_at_failures;  /* end the wait when a failure was counted that is not yet told */
  bool warn;              /* look for slow workers */
  dsc_onlooker *onlooker; /* NULL: nobody */
  int64_t started_ns;
} dsc_session_guard;

void dsc_session_guard_init(dsc_session_guard *guard, dsc_engine *engine, int64_t deadline_ns);
/* Take the issue lock; Ctrl-C, a fault and the deadline end the wait for it. */
disco_status dsc_engine_lock(dsc_engine *engine, dsc_session_guard *guard);
/* Wait until `worker` (or all) has done `sequence`. Tells an error that comes up. `what` for the timeout's sentence. */
disco_status dsc_wait_done(dsc_engine *engine, int32_t worker, uint64_t sequence, int64_t deadline_ns,
                           const char *what);
/* The same while somebody looks on (NULL: nobody). */
disco_status dsc_wait_done_watched(dsc_engine *engine, int32_t worker, uint64_t sequence, int64_t deadline_ns,
                                   const char *what, dsc_onlooker *onlooker);
/* Wait until every reader has passed `position`. */
disco_status dsc_wait_room(dsc_engine *engine, uint64_t position, dsc_session_guard *guard);
/* The base of the waits of controller threads: what they wait for is said at the controllers' bell. */
typedef struct {
  dsc_wait wait;
  dsc_engine *engine;
} dsc_engine_wait;
/* Its before_sleep: a worker may be stuck behind replies that nobody fetched. */
int64_t dsc_drain_before_sleep(dsc_wait *wait);
/* After a wait was ended by DISCO_RAISED or DISCO_CLOSED: the error to return, or DISCO_OK to wait on. */
disco_status dsc_explain(dsc_engine *engine, dsc_session_guard *guard, disco_status status);

/* ---- reply.c ---- */
/* Take in what the workers replied; drops replies that nobody waits for. Never blocks for long. */
void dsc_drain_replies(dsc_engine *engine);
/* A value as it waits in a dsc_pending may still be packed: drop it so, or open it, which may run user code.
 * DISCO_LOST: it went with its worker, or (*ret_malformed) the worker sent no value; DISCO_MEMORY; DISCO_RUNTIME: no
 * descriptor. */
void dsc_reply_drop(TVMFFIAny *value);
disco_status dsc_reply_open(TVMFFIAny *value, bool *ret_malformed);
/* reply_lock is taken inside. */
void dsc_pending_add(dsc_engine *engine, dsc_pending *pending);
/* Unlink; drops the values that have come when `keep` is false. */
void dsc_pending_remove(dsc_engine *engine, dsc_pending *pending, bool keep);

/* ---- fault.c ---- */
/* Lock held. Collect new failures; if one is not told yet: tell it (the thread's error is it), append the resume
 * record, return its status. */
disco_status dsc_tell_failure(dsc_engine *engine);
/* A worker is lost: the sentence, how it ended (-1: unknown) and what it printed last. Every later call returns it.
 * Takes the lock. */
typedef struct {
  int32_t worker, signal_number, exit_status;
  int64_t pid;
  const char *sentence; /* "killed by SIGKILL" */
  const char *advice;   /* NULL, or one more sentence for the last line */
  const char *output;   /* NULL, or the end of its stderr */
} dsc_loss;
void dsc_lose_worker(dsc_engine *engine, const dsc_loss *loss);
/* Lock held. Collect into the history without telling: at shutdown. */
void dsc_collect_failures(dsc_engine *engine);
static inline bool dsc_failure_is_new(const dsc_engine *engine) {
  /* acquire: segment.failures */
  return dsc_load_acquire(&engine->segment.header->failures) != dsc_load_relaxed(&engine->failures_seen);
}

/* ---- look.c ---- */
disco_status dsc_engine_dump(dsc_engine *engine, char **ret_text);
disco_status dsc_engine_stats(dsc_engine *engine, disco_session_stats *ret_stats);
/* How far the worker's function said that it is; struct_size is set. */
void dsc_engine_progress(const dsc_engine *engine, int32_t worker, disco_progress *ret_progress);
/* Take the lock to look at names: it is held for an issue only, so 20 ms are plenty. False when even that passed. */
bool dsc_lock_briefly(dsc_engine *engine);
/* "idle", "running `f` (command 7) for 3 s", ... lock held. */
void dsc_describe_worker(const dsc_engine *engine, int32_t worker, dsc_text *text);
/* The same of a worker whose done number was read, so that a sentence with both does not contradict itself. */
void dsc_describe_worker_behind(const dsc_engine *engine, int32_t worker, uint64_t done, dsc_text *text);
/* Log a warning for every worker whose command has been seen running for longer than the setting, and its progress
 * standing still, once per command. */
void dsc_warn_slow(dsc_engine *engine);
/* Look whether worker processes are stopped; at most once per interval, whoever comes. Warns, and at the limit kills.
 */
void dsc_look_at_processes(dsc_engine *engine);

/* ---- reaper.c ---- */
/* Count a new engine among the live ones; installs the exit hook. */
disco_status dsc_reaper_register(dsc_engine *engine);
void dsc_reaper_forget(dsc_engine *engine);
/* Stop this engine in the background. If `drop`, the caller's reference goes with it. Never blocks. Any thread. */
void dsc_reaper_submit(dsc_engine *engine, bool drop);

/* ---- session.c: the objects ---- */
struct disco_session {
  TVMFFIObject header;
  dsc_engine *engine;
};

#endif
