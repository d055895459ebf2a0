/* libdisco: one controller drives N workers that all run the same commands.
 *
 * A session owns its workers. Each worker keeps values in numbered registers; a disco_dref names one register on every
 * worker at once. Calls are asynchronous: they return once they are posted, every worker runs its commands in the order
 * posted, and only the functions that take a timeout wait. Values are TVM-FFI values (TVMFFIAny): arguments are
 * borrowed for the length of the call, results are owned by the caller.
 *
 * Errors. Nothing that a worker's function does ends the process or the session. When one raises, the next call on the
 * session returns that error and is not posted; commands posted meanwhile are skipped, their result registers are
 * poisoned, and from the next call on the session works again. Each error is told once; disco_session_last_error()
 * keeps the last 16.
 *
 * Threads. Any thread may call any function of this page on any session, also several at once. A worker's own function
 * may not call its own session, but for dropping references, the functions marked [worker], and
 * disco_session_shutdown(), which then returns at once. A forked child may only drop its handles: every other call
 * there is DISCO_RUNTIME.
 */
#ifndef DISCO_DISCO_H
#define DISCO_DISCO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tvm/ffi/c_api.h>

#include "disco/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DISCO_VERSION_MAJOR 0
#define DISCO_VERSION_MINOR 1
#define DISCO_VERSION_PATCH 0

/* "0.1.0": the version of the library that was loaded. A constant. */
DISCO_API const char *disco_version(void);

/* Errors that every function of a session may return besides its own: DISCO_CLOSED after shutdown; DISCO_RUNTIME in a
 * forked child and, where [worker] does not stand, from a function of the session's own worker; DISCO_MEMORY;
 * DISCO_VALUE for a NULL that is not allowed; and, from functions that post or wait, the error of a failed worker
 * (DISCO_RAISED when its function raised, DISCO_VALUE or DISCO_TYPE when the command itself was wrong there), once. */

/* ---- Types ------------------------------------------------------------------------------------------------------------------------- */

/* Both are TVM-FFI objects: a pointer to one is its TVMFFIObjectHandle and may be put into a TVMFFIAny (v_obj) with the
 * object's own type index. Type keys: runtime.disco.Session (and ThreadedSession), runtime.disco.DRef (static index
 * DISCO_TYPE_DREF; int64 reg_id and the session pointer stand at offsets 24 and 32). Both are counted. */
typedef struct disco_session disco_session;
typedef struct disco_dref disco_dref;

enum { DISCO_TYPE_DREF = 114 };

/* A DRef as an argument of disco_call(), borrowed: workers get what its register holds there. */
static inline TVMFFIAny disco_dref_arg(disco_dref *dref) {
  TVMFFIAny value;
  value.type_index = DISCO_TYPE_DREF;
  value.zero_padding = 0;
  value.v_obj = (TVMFFIObject *)(void *)dref;
  return value;
}

/* The commands, with the numbers of TVM's DiscoAction. */
#define DISCO_ACTION_LIST(X) \
  X(ShutDown, 0)             \
  X(KillReg, 1)              \
  X(GetGlobalFunc, 2)        \
  X(CallPacked, 3)           \
  X(SyncWorker, 4)           \
  X(CopyFromWorker0, 5)      \
  X(CopyToWorker0, 6)        \
  X(DebugGetFromRemote, 7)   \
  X(DebugSetRegister, 8)

typedef enum {
#define DISCO_ACTION_ENUM(name, value) DISCO_ACTION_##name = value,
  DISCO_ACTION_LIST(DISCO_ACTION_ENUM)
#undef DISCO_ACTION_ENUM
} disco_action;

/* *ret_name = "kShutDown" for 0, and so on: a constant. DISCO_VALUE "Unknown DiscoAction: n" for other numbers. */
DISCO_API DISCO_MUST_USE disco_status disco_action_name(int64_t action, const char **ret_name);

enum {
  DISCO_FOREVER = -1,     /* a timeout: no deadline. An error, a death or Ctrl-C still ends the wait */
  DISCO_ALL_WORKERS = -1, /* a worker id: every worker */
};

/* ---- Sessions ---------------------------------------------------------------------------------------------------------------------- */

enum {
  DISCO_TRANSPORT_AUTO = 0, /* shared memory where a worker can map it, else the pipe */
  DISCO_TRANSPORT_PIPE = 1, /* the pipe alone */
};

/* A line that a worker printed, as "[worker 3] text", without its newline; longer ones than 4096 bytes come in pieces.
 * `stream` is 1 or 2.
 * Called on a thread of the library, one call at a time in a process; must not call libdisco. */
typedef void (*disco_output_fn)(void *context, int32_t worker, int stream, const char *line, size_t size);

typedef struct {
  size_t struct_size;  /* sizeof(disco_session_options); fields past it take their defaults, so the struct can grow */
  int32_t num_workers; /* 1 to 1024, divisible by num_groups */
  int32_t num_groups;  /* at least 1 */
  uint32_t ring_bytes; /* the command ring: a power of two, 256 KiB to 1 GiB; 0 = 256 KiB */
  uint32_t grace_ms;   /* how long shutdown waits for a worker before it gives it up; 0 = 4000 */
  uint32_t slow_warning_ms; /* a waiting call warns (log callback) of a function that runs longer, and has said no
                               progress for so long; 0 = 5000 */
  uint32_t spin_us; /* upper bound of busy waiting before a thread sleeps; 0 = 50. Only while workers + controller fit
                       the CPUs */

  /* What follows is for sessions of worker processes. Everything is copied but the channels. */
  uint32_t stopped_ms;  /* a waiting call declares a worker lost that was stopped (SIGSTOP) so long; 0 = 10000 */
  uint32_t transport;   /* DISCO_TRANSPORT_* */
  uint64_t arena_bytes; /* address space for each worker's tensors, used as they grow; 0 = the machine's
                           memory, less with many workers */
  /* The program to start for each worker, as `PROGRAM [ARGUMENT...] worker ID WORKERS GROUPS READ_FD WRITE_FD
   * [OPTION...]`. NULL: the environment variable DISCO_WORKER, else `disco` in ../bin from libdisco.so, else beside it,
   * else on PATH. */
  const char *program;
  const char *const *environment; /* NAME=VALUE..., NULL: added to the controller's, or replacing what is there */
  const char *working_directory;  /* NULL: the controller's */
  const char *const *libraries; /* shared libraries, NULL: each worker loads them in order; their constructors register
                                   functions (also in this process, for worker 0) */
  const int32_t *cpus;          /* one CPU for each worker, -1: anywhere; NULL: nobody is bound */
  disco_output_fn output;       /* gets what workers print, line by line; NULL: stdout is the
                                     controller's, stderr is passed on to its own */
  void *output_context;
  /* A pool written by somebody else: the name of the global function that makes it, and what to hand to it. NULL: the
   * library's own. */
  const char *pool_creator;
  const char *entrypoint;
  /* The user's own transport: num_workers - 1 channels, for worker 1, 2, ...; the session takes them over, also when it
   * cannot be made. NULL: none. */
  struct disco_channel *const *channels;

  /* The data plane, in any session. */
  uint32_t collective_timeout_ms; /* a wait inside a collective ends with DISCO_TIMEOUT; 0: never */
  /* "nccl=cpu": init_ccl("nccl") starts cpu when no data plane nccl is registered. NULL: the environment variable
   * DISCO_CCL_ALIAS, else none. */
  const char *ccl_alias;

  /* Worker processes again: words between `program` and "worker", NULL: {"-m", "libdisco.worker", NULL} for a Python
   * program. NULL: none. */
  const char *const *program_arguments;
} disco_session_options;

#define DISCO_SESSION_OPTIONS_INIT(workers, groups) \
  { sizeof(disco_session_options), (workers), (groups), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* A session whose workers are threads of this process. Does not wait for the workers to start. The caller owns
 * *ret_session (one reference). DISCO_VALUE: counts, with both numbers; options out of range. DISCO_MEMORY,
 * DISCO_RUNTIME: no memory, no threads. */
DISCO_API DISCO_MUST_USE disco_status disco_session_create_threaded(const disco_session_options *options,
                                                                    disco_session **ret_session);

/* A session whose worker 0 is a thread of this process and whose other workers are processes: of the library's own pool
 * (options->program), of another one (options->pool_creator), or behind channels. Does not wait for them to start:
 * commands are buffered meanwhile. Arguments travel by value: None, numbers, strings, bytes, dtypes, devices, shapes,
 * errors and tensors (each worker gets a copy-on-write view); anything else is DISCO_TYPE, thread workers only. Debug
 * reads and writes, and disco_session_put(), carry arrays and maps of these, too. Shutdown waits at most a second for
 * workers that have not started yet; what was posted for them is lost then. A worker that dies, or is killed after it
 * was stopped for stopped_ms, makes every later call DISCO_LOST, which names it, but for looking and shutdown. At
 * shutdown processes that do not end within grace_ms are killed. DISCO_VALUE: counts, options, an unknown pool creator;
 * DISCO_MEMORY, DISCO_RUNTIME: the system refused; the pool creator's own error. */
DISCO_API DISCO_MUST_USE disco_status disco_session_create_process(const disco_session_options *options,
                                                                   disco_session **ret_session);

/* One more reference (not NULL); one less. The last one shuts the session down in the background and never blocks. NULL
 * is allowed in unref. A DRef holds a reference to its session. [worker] */
DISCO_API void disco_session_ref(disco_session *session);
DISCO_API void disco_session_unref(disco_session *session);

/* Stop the workers and wait until they have ended (grace_ms, then a worker that still runs is abandoned: DISCO_LOST
 * names it, and if it comes back it skips what else was posted). Ctrl-C on a Python main thread cuts the grace short:
 * DISCO_INTERRUPTED, and the session is shut down all the same. Commands posted before run first. Idempotent, may be
 * called by several threads at once and with calls in flight; from a worker of the session it only asks for the
 * shutdown and returns at once. An error nobody was told stays in disco_session_last_error(). */
DISCO_API DISCO_MUST_USE disco_status disco_session_shutdown(disco_session *session);

/* Constants of the session: also after shutdown, also in a forked child. [worker] */
DISCO_API int32_t disco_session_num_workers(const disco_session *session);
DISCO_API int32_t disco_session_num_groups(const disco_session *session);

/* ---- Registers and calls ----------------------------------------------------------------------------------------------------------- */

/* One more reference; not NULL. [worker] */
DISCO_API void disco_dref_ref(disco_dref *dref);
/* The last reference releases the register on every worker, in order with the other commands. Never blocks. NULL
 * allowed. [worker] */
DISCO_API void disco_dref_unref(disco_dref *dref);
/* The register id, 1 or more. [worker] */
DISCO_API int64_t disco_dref_reg_id(const disco_dref *dref);
/* The session (borrowed). [worker] */
DISCO_API disco_session *disco_dref_session(const disco_dref *dref);

/* A DRef to the global function `name` on every worker. Looked up now if it is registered, else by each worker when it
 * comes to this command (an earlier one may register it); if it is missing there too, that worker fails with
 * DISCO_VALUE and the nearest names.
 * While a name is looked up on workers no thread should register functions: TVM-FFI's registry has no lock. */
DISCO_API DISCO_MUST_USE disco_status disco_session_get_global_func(disco_session *session, const char *name,
                                                                    disco_dref **ret_func);

/* Call func(args...) on every worker. Where an argument is a DRef (type index 114) each worker passes its own value of
 * that register (not inside containers; a register never written gives None). The function's result goes to a new
 * register; ret_result may be NULL to drop it. At most 4,096 arguments. Borrowed strings (type indices 8 and 9) are
 * copied; DLTensor pointers (7) are refused (DISCO_TYPE): they would outlive their owner. Objects pass to thread
 * workers by reference.
 * *ret_result is owned by the caller. DISCO_VALUE: too many arguments, a string over 256 MiB, a DRef of another session
 * or one that was released. */
DISCO_API DISCO_MUST_USE disco_status disco_call(disco_session *session, disco_dref *func, const TVMFFIAny *args,
                                                 int32_t num_args, disco_dref **ret_result);

/* The same in TVM's packed form: {3 (CallPacked), anything, func DRef, args...}. DISCO_TYPE, DISCO_VALUE when it is not
 * that. */
DISCO_API DISCO_MUST_USE disco_status disco_call_packed(disco_session *session, const TVMFFIAny *packed,
                                                        int32_t num_packed, disco_dref **ret_result);

/* A DRef (owned by the caller) to a new register that holds `value` on every worker. Objects by reference: worker
 * threads all have the one object, as they have of one that is passed as an argument (all may send a tensor in a
 * collective, but not receive into it: disco/worker.h), worker processes a copy each. Posted, not waited for.
 * DISCO_TYPE for a DRef or a DLTensor pointer. */
DISCO_API DISCO_MUST_USE disco_status disco_session_put(disco_session *session, const TVMFFIAny *value,
                                                        disco_dref **ret_dref);

/* Release a register by its number now; its DRef is dead from here on (using it is DISCO_VALUE). DISCO_VALUE for a
 * number that is not live. */
DISCO_API DISCO_MUST_USE disco_status disco_session_dealloc_reg(disco_session *session, int64_t reg_id);

/* ---- Copies between the controller and worker 0 ------------------------------------------------------------------------------------ */

/* Copy worker 0's tensor in `src` into the host tensor, or the host tensor into worker 0's tensor in `dst`. `host` is a
 * TVM-FFI Tensor on the CPU; it travels by reference and is read or written when worker 0 comes to the command: leave
 * it alone until a sync. Byte sizes must match exactly, shapes and dtypes may differ; the host side may be strided and
 * badly aligned. The command holds a reference to it until worker 0 is done with it. DISCO_TYPE when `host` is no
 * Tensor, DISCO_VALUE when it is not on the CPU. A mismatch fails on worker 0 with both shapes, dtypes and sizes before
 * a byte moves. */
DISCO_API DISCO_MUST_USE disco_status disco_copy_from_worker0(disco_session *session, TVMFFIObjectHandle host,
                                                              disco_dref *src);
DISCO_API DISCO_MUST_USE disco_status disco_copy_to_worker0(disco_session *session, TVMFFIObjectHandle host,
                                                            disco_dref *dst);

/* ---- Waiting ----------------------------------------------------------------------------------------------------------------------- */

/* All waits take a timeout in milliseconds (DISCO_FOREVER for none): DISCO_TIMEOUT when it passes, and what was posted
 * goes on. A failure on any worker ends every wait with that error; Ctrl-C ends it with DISCO_INTERRUPTED on a Python
 * main thread. */

/* Wait until `worker` (or DISCO_ALL_WORKERS) has finished everything posted before this call, its data plane included.
 * DISCO_VALUE for a bad worker id. */
DISCO_API DISCO_MUST_USE disco_status disco_session_sync(disco_session *session, int32_t worker, int64_t timeout_ms);

/* The number of the last command posted: 1, 2, 3, ...; 0 before the first. [worker] */
DISCO_API uint64_t disco_session_sequence(const disco_session *session);

/* Has `worker` (or have all) finished command `sequence`? Never blocks, tells no error. DISCO_VALUE for a bad worker
 * id. [worker] */
DISCO_API DISCO_MUST_USE disco_status disco_session_is_done(const disco_session *session, int32_t worker,
                                                            uint64_t sequence, bool *ret_done);

/* A descriptor for event loops: readable once the armed command is done on every worker, or when a failure waits to be
 * told, or a worker is lost. Poll it, never read or close it: it belongs to the session and lives as long. Made by the
 * first call. DISCO_RUNTIME: no descriptor. [worker] */
DISCO_API DISCO_MUST_USE disco_status disco_session_done_fd(disco_session *session, int *ret_fd);
/* Arm it for command `sequence` (disco_session_sequence() for everything posted so far); replaces what was armed.
 * Never blocks. DISCO_VALUE: a sequence that was not posted yet. */
DISCO_API DISCO_MUST_USE disco_status disco_session_arm_done(disco_session *session, uint64_t sequence);

/* Read the register of `worker` into *ret_value (owned by the caller): the very object, for thread workers. A poisoned
 * register is the error that poisoned it. Everything posted before has run by then. */
DISCO_API DISCO_MUST_USE disco_status disco_debug_get(disco_dref *dref, int32_t worker, int64_t timeout_ms,
                                                      TVMFFIAny *ret_value);

/* The same from all workers with one command; ret_values has room for num_values >= the number of workers. All or none
 * are written. */
DISCO_API DISCO_MUST_USE disco_status disco_debug_get_all(disco_dref *dref, int64_t timeout_ms, int32_t num_values,
                                                          TVMFFIAny *ret_values);

/* Set the register on one worker (or DISCO_ALL_WORKERS) and wait. If register and value are both tensors the value is
 * copied into the tensor that is there (equal byte sizes, else DISCO_VALUE), else the register is replaced. Heals a
 * poisoned register. DISCO_TYPE for a DRef or a DLTensor pointer. */
DISCO_API DISCO_MUST_USE disco_status disco_debug_set(disco_dref *dref, int32_t worker, const TVMFFIAny *value,
                                                      int64_t timeout_ms);

/* The same two by register number: DISCO_VALUE for a number that is not live. */
DISCO_API DISCO_MUST_USE disco_status disco_session_debug_get(disco_session *session, int64_t reg_id, int32_t worker,
                                                              int64_t timeout_ms, TVMFFIAny *ret_value);
DISCO_API DISCO_MUST_USE disco_status disco_session_debug_set(disco_session *session, int64_t reg_id, int32_t worker,
                                                              const TVMFFIAny *value, int64_t timeout_ms);

/* ---- Data plane -------------------------------------------------------------------------------------------------------------------- */

/* Start the collectives `name` on every worker: calls the global function runtime.disco.<name>.init_ccl(session,
 * Shape(device_ids)) on this thread. DISCO_VALUE when there is none, with the names that exist. "cpu" is the library's
 * own (disco/worker.h, Collectives), "ref" its slow reference: both take one device id for each worker (DISCO_VALUE
 * with both numbers) and use only their number, and wait until every worker has it; DISCO_RUNTIME names a worker that
 * shares no memory with the others, and why, or the data plane that was started before: one in a session, once. An
 * error of another data plane's init function is DISCO_RAISED. */
DISCO_API DISCO_MUST_USE disco_status disco_session_init_ccl(disco_session *session, const char *name,
                                                             const int64_t *device_ids, int32_t num_device_ids);

/* ---- Looking at a session ---------------------------------------------------------------------------------------------------------- */

/* The index-th last error of this session that is known (0 = the newest, at most 15), told or not. DISCO_VALUE when
 * there are fewer. The strings live as disco_last_error()'s do, whose place this error
 * takes on the calling thread. [worker] */
DISCO_API DISCO_MUST_USE disco_status disco_session_last_error(disco_session *session, int32_t index,
                                                               disco_error_info *ret_error);

typedef struct {
  size_t struct_size;         /* set by the caller */
  uint64_t commands;          /* commands posted */
  uint64_t ring_bytes;        /* bytes of records posted */
  uint64_t ring_full;         /* times a call had to wait for room */
  uint64_t wakes;             /* wake calls to sleeping workers */
  uint64_t errors_told;       /* errors returned to a caller */
  uint64_t errors_late;       /* failures of an epoch whose error had been told before they were known */
  uint64_t commands_skipped;  /* summed over workers */
  uint64_t worker_sleeps;     /* times a worker went to sleep, summed */
  uint64_t live_registers;    /* registers with a live DRef */
  uint64_t resumes;           /* errors recovered from */
  uint64_t abandoned_workers; /* thread workers that would not end, in this process */
  uint64_t side_bytes;        /* bytes of large arguments written into memory of their own, once for all workers */
  uint32_t ring_workers;      /* worker processes that read the shared ring, once their answer was read */
  uint32_t pipe_workers;      /* worker processes that are fed through a pipe or channel */
} disco_session_stats;

/* Never blocks for long, tells no error. [worker] */
DISCO_API DISCO_MUST_USE disco_status disco_session_get_stats(disco_session *session, disco_session_stats *ret_stats);

/* How far the function that a worker runs, or ran, said that it is: disco_worker_progress(). */
typedef struct {
  size_t struct_size; /* set by the caller */
  uint64_t sequence;  /* its command, as disco_session_sequence() counts them; 0: no function has said anything yet */
  uint64_t done;      /* in units of the function's own; libdisco.load_weights counts bytes of the files */
  uint64_t total;     /* the same; 0: the function does not know */
} disco_progress;

/* What `worker` said last. Of a worker behind a pipe or channel: as of a tenth of a second ago; once it has done the
 * command the last word is there. Never blocks, tells no error. DISCO_VALUE for a bad worker id. [worker] */
DISCO_API DISCO_MUST_USE disco_status disco_session_get_progress(const disco_session *session, int32_t worker,
                                                                 disco_progress *ret_progress);

/* What every worker does now, one line each, as text: readable while workers hang. Free it with disco_text_free().
 * Waits at most 20 ms. [worker] */
DISCO_API DISCO_MUST_USE disco_status disco_session_dump(disco_session *session, char **ret_text);
DISCO_API void disco_text_free(char *text);

/* ---- The library ------------------------------------------------------------------------------------------------------------------- */

typedef enum { DISCO_LOG_ERROR = 0, DISCO_LOG_WARN = 1, DISCO_LOG_INFO = 2 } disco_log_level;
typedef void (*disco_log_fn)(void *context, disco_log_level level, const char *message);

/* Send the library's warnings (slow worker, leaked session, ...) to fn; NULL discards them, which is the default. The
 * callback may come from any thread, must not call libdisco, and gets one line without a newline; the old one may still
 * be running when this returns. The environment variable DISCO_LOG=error|warn|info sends them to stderr instead of
 * discarding. */
DISCO_API void disco_set_log_callback(disco_log_fn fn, void *context, disco_log_level level);

/* Register the global functions runtime.disco.* now, overriding those of TVM's own runtime. Loading libdisco.so does it
 * by itself unless TVM's base runtime is loaded without its extra library, or DISCO_FFI_GLOBALS=0 is set: see
 * docs/architecture.md, Loading. Idempotent. DISCO_RUNTIME when another copy of libdisco or libtvm_ffi is in the
 * process. Any thread, but not while another one registers or looks up functions: TVM-FFI's registry has no lock. */
DISCO_API DISCO_MUST_USE disco_status disco_publish(void);

/* What this library is and would do here, as lines `name: value` under headings: versions, CPUs and memory allowed,
 * limits, every setting with its value and origin, the data planes found. Free it with disco_text_free(). */
DISCO_API DISCO_MUST_USE disco_status disco_describe(char **ret_text);

#ifdef __cplusplus
}
#endif
#endif
