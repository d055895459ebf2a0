/* One worker: its identity, its registers, and the loop that runs commands. Used from the worker's own thread only, but
 * for create and destroy. */
#ifndef DSC_WORKER_WORKER_H
#define DSC_WORKER_WORKER_H

#include <tvm/ffi/c_api.h>

#include "ccl/alias.h"
#include "ccl/backend.h"
#include "channel/ring.h"
#include "channel/segment.h"
#include "os/wait.h"
#include "wire/schema.h"
#include "worker/announce.h"
#include "worker/registers.h"
#include "worker/reply_port.h"
#include "worker/side.h"
#include "worker/skip.h"

enum { DSC_CCL_NAME_MAX = 64 };

typedef struct {
  int32_t id, local_id, num_workers, num_groups;
  const dsc_segment_header *segment; /* its shared parts are written through the pointers below */
  const void
      *owner; /* the engine this worker belongs to, for thread workers; identity compares it, the launcher reads it */
  int32_t busy_threads; /* workers + controller, for the waiting policy */
  uint32_t spin_us;
  /* Worker 0 of the controller's process looks after released registers before it sleeps (NULL for others). Returns how
   * long it may sleep then: see dsc_wait.before_sleep. */
  int64_t (*idle)(void *context);
  void *idle_context;
  _Atomic uint32_t *asleep; /* 1 while it sleeps or is about to; NULL for others */
  /* The address space is not the controller's: objects come and go packed. */
  bool remote;
  /* Told when this worker passes the armed command, or fails while one is armed. Any of NULL. */
  void (*notify)(void *context);
  void *notify_context;
  /* Memory for the tensors of `empty`: NULL, or the worker's range of the arena. */
  struct dsc_arena_range *arena;
  struct disco_channel *channel; /* NULL, or where replies go instead of the reply ring */
  /* The data plane. */
  bool one_address_space; /* all workers are threads of this process */
  const char *shared;     /* NULL, or memory that all workers map: tensors there need no staging */
  uint64_t shared_bytes;
  const char *unshared; /* NULL, or why this worker shares no memory with the others */
} dsc_worker_setup;

typedef struct {
  dsc_worker_setup setup;
  dsc_segment_header *segment;
  dsc_status_line *line;
  dsc_ring_reader commands;
  dsc_announcer announcer;
  dsc_reply_port replies;
  dsc_registers registers;
  TVMFFIAny *args; /* of the running call; grows */
  uint32_t args_size;
  TVMFFIAny *arrived; /* unpacked values of the running command, owned; grows */
  uint32_t num_arrived, arrived_size;
  dsc_side *side;         /* of the running command, once it was needed */
  const char *frame_side; /* its bytes, when they came along with the command in a frame */
  uint64_t frame_side_bytes;
  DLDevice device;
  char ccl[DSC_CCL_NAME_MAX];
  char ccl_name[DSC_CCL_ALIAS_MAX]; /* what the session's programs should ask for: "cpu", or its alias */
  dsc_plane *plane;                 /* NULL until one of our own data planes was started */
  uint64_t sequence;                /* the running command */
  dsc_skip skip;
  bool in_stream;       /* the last record came without the controller having waited before it */
  bool clock_due;       /* read the clock at the next command */
  bool failed_in_epoch; /* its error slot is taken until the next resume record */
  bool progress_held;   /* behind a channel: the last progress was not sent on, the one before was too young */
  int64_t progress_sent_ns;
  dsc_patience patience;
  dsc_error error; /* the thread's record */
} dsc_worker;

disco_status dsc_worker_create(const dsc_worker_setup *setup, dsc_worker **ret_worker);
/* NULL allowed. Drops the registers: on the worker's own thread, since deleters may run user code. */
void dsc_worker_destroy(dsc_worker *worker);

/* Run commands until shutdown or a fault. The calling thread becomes the worker. */
void dsc_worker_run(dsc_worker *worker);

/* The calling thread's worker, or NULL. */
dsc_worker *dsc_worker_current(void);
/* The same, or DISCO_VALUE "... is not a worker thread" with `who` needed it. */
disco_status dsc_worker_require(const char *who, dsc_worker **ret_worker);

/* plane.c: start this library's data plane `backend` on the worker and set its ccl. DISCO_RUNTIME: it has one, or
 * shares no memory with the others (and why). */
disco_status dsc_worker_start_plane(dsc_worker *worker, const dsc_backend *backend);

/* progress.c: the running function says how far it is (disco_worker_progress()). DISCO_CLOSED: nobody will see what
 * it makes, it should end. */
disco_status dsc_worker_progress(dsc_worker *worker, uint64_t done, uint64_t total);
/* The command ended: send on what was held back. */
disco_status dsc_worker_progress_end(dsc_worker *worker);

/* ---- Between loop and dispatch ---- */

/* Run one record. DISCO_OK, or a failure whose sentence is in the thread's error. *ret_stop is set by shutdown. */
disco_status dsc_worker_dispatch(dsc_worker *worker, const dsc_record *record, bool *ret_stop);
/* The register that this record was to fill has no value: command `cause` failed. */
void dsc_worker_poison(dsc_worker *worker, const dsc_record *record, uint64_t cause);
/* Post a reply; takes over `value`. One that cannot travel is answered with an error. */
void dsc_worker_reply(dsc_worker *worker, uint64_t sequence, uint32_t outcome, TVMFFIAny value);

/* arrive.c: the value in a slot that may hold an object, borrowed until the command ends. Unpacks it in another
 * process; what did not travel is None there. */
disco_status dsc_worker_arrive(dsc_worker *worker, const dsc_record *record, const TVMFFIAny *slot,
                               TVMFFIAny *ret_value);
/* The command ended: drop what arrived with it. */
void dsc_worker_arrive_end(dsc_worker *worker);

/* loop.c, for commands that come in frames: run or skip (when `skip_cause` is not 0) one record. Sets *ret_stop at
 * shutdown; returns whether a failure was recorded. */
bool dsc_worker_run_record(dsc_worker *worker, const dsc_record *record, uint64_t skip_cause, bool *ret_stop);
/* The calling thread becomes the worker. */
void dsc_worker_enter(dsc_worker *worker);

#endif
