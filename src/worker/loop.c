/* The worker's loop: read a record in place, run or skip it, say so. Budget: 15 ns per empty call besides the user's
 * function. */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/inject.h"
#include "base/memory.h"
#include "wire/codec.h"
#include "worker/failure.h"
#include "worker/worker.h"

extern _Thread_local dsc_worker *dsc_current_worker __attribute__((tls_model("initial-exec")));

disco_status dsc_worker_create(const dsc_worker_setup *setup, dsc_worker **ret_worker) {
  dsc_worker *worker = dsc_alloc(sizeof(*worker), "a worker");
  if (worker == NULL) return DISCO_MEMORY;
  dsc_segment_header *segment = dsc_segment_at(setup->segment, 0);
  worker->setup = *setup;
  worker->segment = segment;
  worker->line = dsc_segment_status(segment, setup->id);
  dsc_ring_reader_init(&worker->commands, &segment->ring, dsc_segment_at(segment, segment->ring_offset),
                       segment->ring_bytes);
  dsc_reply_port_init(&worker->replies, segment, setup->id, &worker->patience);
  worker->announcer = (dsc_announcer){segment, worker->line, setup->notify, setup->notify_context};
  worker->device = (DLDevice){kDLCPU, 0};
  worker->skip = (dsc_skip)DSC_SKIP_INIT;
  *ret_worker = worker;
  return DISCO_OK;
}

void dsc_worker_destroy(dsc_worker *worker) {
  if (worker == NULL) return;
  dsc_worker_arrive_end(worker);
  dsc_registers_fini(&worker->registers); /* a deleter may still ask whose thread this is */
  if (dsc_current_worker == worker) dsc_current_worker = NULL;
  dsc_plane_destroy(worker->plane);
  dsc_thread_error_take_back(&worker->error);
  dsc_reply_port_fini(&worker->replies);
  free(worker->arrived);
  free(worker->args);
  free(worker);
}

/* ---- Waiting ---- */

typedef struct {
  dsc_wait wait;
  dsc_worker *worker;
} worker_wait;

typedef struct {
  dsc_guard guard;
  dsc_worker *worker;
} worker_guard;

static disco_status check_fault(dsc_guard *guard) {
  /* Only the end of the session: when another worker is lost, the commands until shutdown are still read, and skipped.
   */
  return dsc_load_acquire(&((worker_guard *)guard)->worker->segment->fault) == DSC_FAULT_GRACE ? DISCO_CLOSED
                                                                                               : DISCO_OK;
}

static bool has_news(dsc_wait *wait) { return dsc_ring_has_news(&((worker_wait *)wait)->worker->commands); }

static void arm_asleep(dsc_wait *wait) {
  const dsc_worker_setup *setup = &((worker_wait *)wait)->worker->setup;
  if (setup->asleep != NULL) dsc_store_relaxed(setup->asleep, 1);
}

static int64_t look_after_releases(dsc_wait *wait) {
  const dsc_worker_setup *setup = &((worker_wait *)wait)->worker->setup;
  return setup->idle != NULL ? setup->idle(setup->idle_context) : INT64_MAX;
}

enum { STREAM_PAUSES = 8 };

/* Until a record is there; an error means the session is over. */
static __attribute__((noinline)) disco_status wait_for_commands(dsc_worker *worker) {
  worker_wait wait = {{.ready = has_news,
                       .arm = arm_asleep,
                       .before_sleep = look_after_releases,
                       .doorbell = &worker->segment->commands},
                      worker};
  worker_guard guard = {{.check = check_fault, .deadline_ns = DSC_NO_DEADLINE}, worker};
  dsc_store_relaxed(&worker->line->waits, DSC_WAITS_COMMANDS);
  /* In a stream of calls that nobody waits for, a look at the tail takes its line away from the writer, whose next
   * store then stalls for a transfer: look less often, and find several records at once. */
  worker->patience.pauses = worker->in_stream ? STREAM_PAUSES : 1;
  disco_status status = dsc_wait_until(&wait.wait, &worker->patience, &guard.guard);
  dsc_store_relaxed(&worker->line->waits, DSC_WAITS_NOT);
  if (worker->setup.asleep != NULL) dsc_store_relaxed(worker->setup.asleep, 0);
  if (wait.wait.sleeps > 0) dsc_bump(&worker->line->sleeps, wait.wait.sleeps);
  return status;
}

/* ---- Failures ---- */

/* The order matters: slot, failed, count, and later done. Whoever sees done sees the failure. */
static DSC_COLD void record_failure(dsc_worker *worker, const dsc_record *record) {
  if (!worker->failed_in_epoch) {
    worker->failed_in_epoch = true;
    dsc_failure_store(dsc_segment_error_slot(worker->segment, worker->setup.id), worker->segment->error_slot_bytes,
                      record->sequence, record->name,
                      worker->plane != NULL && worker->plane->host.released_at == record->sequence);
    dsc_store_release(&worker->line->failed, record->sequence); /* release: status.failed */
    DSC_POINT("worker.failed");
    atomic_fetch_add(&worker->segment->failures, 1); /* release: segment.failures */
  }
  dsc_worker_poison(worker, record, record->sequence); /* last: without memory it writes a sentence of its own */
}

/* ---- The loop ---- */

/* Copies carry one reference, for worker 0; a debug write one per target; everything else one per worker that shares
 * the controller's address space. */
static bool owns_reference(const dsc_worker *worker, const dsc_record *record) {
  if (worker->setup.remote) return false;
  switch (record->message) {
  case DSC_MESSAGE_CopyFromWorker0:
  case DSC_MESSAGE_CopyToWorker0: return worker->setup.id == 0;
  case DSC_MESSAGE_DebugSetRegister:
    return record->target == DSC_TARGET_ALL || record->target == (uint32_t)worker->setup.id;
  default: return true;
  }
}

static void apply_releases(dsc_worker *worker, const dsc_record *record) {
  const uint32_t *ids = dsc_record_releases(record);
  for (uint32_t i = 0; i < record->num_releases; i++) dsc_registers_clear(&worker->registers, ids[i]);
}

/* Returns whether a failure was recorded: then every sleeper must hear of it. */
static inline bool run_record(dsc_worker *worker, const dsc_record *record, uint64_t skip_cause, bool *ret_stop) {
  dsc_status_line *line = worker->line;
  bool failed = false;
  worker->sequence = record->sequence;
  /* Reading even the coarse clock costs a third of an empty call: once after a wait, then every 8 commands. */
  if (worker->clock_due || (record->sequence & 7) == 0) dsc_store_relaxed(&line->since_ns, dsc_clock_coarse_ns());
  worker->clock_due = false;
  worker->in_stream = (record->flags & DSC_RECORD_WAITED) == 0;
  dsc_store_relaxed(&line->function, record->name);
  dsc_store_relaxed(&line->message, record->message);
  if (record->num_releases > 0) apply_releases(worker, record); /* before the call, skipped or not */
  if (skip_cause == 0) skip_cause = dsc_skip_cause(&worker->skip, worker->segment, record->sequence);
  if (DSC_UNLIKELY(skip_cause != 0) && dsc_message_skippable(record->message)) {
    dsc_worker_poison(worker, record, skip_cause);
    dsc_bump(&line->skipped, 1);
  } else if (dsc_worker_dispatch(worker, record, ret_stop) != DISCO_OK) {
    record_failure(worker, record);
    failed = true;
  }
  if (record->flags & DSC_RECORD_OBJECTS) {
    if (owns_reference(worker, record)) dsc_encoded_drop(dsc_record_slots(record), record->num_args, 1);
    dsc_worker_arrive_end(worker);
  }
  dsc_store_relaxed(&line->function, 0);
  return failed;
}

bool dsc_worker_run_record(dsc_worker *worker, const dsc_record *record, uint64_t skip_cause, bool *ret_stop) {
  return run_record(worker, record, skip_cause, ret_stop);
}

void dsc_worker_enter(dsc_worker *worker) {
  dsc_current_worker = worker;
  dsc_thread_error_lend(&worker->error);
  dsc_patience_init(&worker->patience, worker->setup.busy_threads, worker->setup.spin_us);
  worker->clock_due = true;
  dsc_store_relaxed(&worker->line->pid, (int64_t)getpid());
}

DSC_HOT void dsc_worker_run(dsc_worker *worker) {
  bool stop = false;
  dsc_worker_enter(worker);
  while (!stop) {
    const dsc_record *record = dsc_ring_peek(&worker->commands);
    if (record == NULL) {
      if (wait_for_commands(worker) != DISCO_OK) break;
      worker->clock_due = true;
      continue;
    }
    uint64_t sequence = record->sequence;
    bool failed = run_record(worker, record, 0, &stop);
    DSC_POINT("worker.before_done");
    dsc_ring_advance(&worker->commands, record, &worker->line->position);
    dsc_announce(&worker->announcer, sequence, worker->commands.position, failed);
  }
}
