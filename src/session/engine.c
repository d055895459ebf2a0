/* The life of an engine: made, stopped once, freed with its last reference. */
#include "session/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "ffi/error.h"
#include "os/pipe.h"
#include "session/remote.h"

static _Atomic uint64_t abandoned_workers;

uint64_t dsc_engine_abandoned(void) { return dsc_load_relaxed(&abandoned_workers); }

static void engine_free(dsc_engine *engine) {
  if (engine == NULL) return;
  for (int i = 0; i < DSC_HISTORY; i++) dsc_error_fini(&engine->history[i]);
  dsc_error_fini(&engine->lost);
  dsc_side_drop_all(engine);
  if (engine->arena_range != NULL) { /* tensors of worker 0 may live on: the mapping goes with the last */
    dsc_arena_range_adopt(engine->arena_range, &engine->arena);
    dsc_arena_range_unref(engine->arena_range);
  }
  dsc_arena_destroy(&engine->arena);
  free(engine->remotes);
  dsc_segment_destroy(&engine->segment);
  dsc_idpool_fini(&engine->registers);
  dsc_names_fini(&engine->names);
  free(engine->collected);
  free(engine->replies);
  free(engine->threads);
  free(engine->watch);
  free(engine->stop_message);
  free(engine);
}

void dsc_engine_ref(dsc_engine *engine) { dsc_add_relaxed(&engine->refs, 1); }

void dsc_engine_unref(dsc_engine *engine) {
  if (dsc_add_acq_rel(&engine->refs, (uint32_t)-1) != 1) return; /* label engine.refs */
  dsc_reaper_forget(engine);
  dsc_drain_replies(engine); /* of an abandoned worker that came back */
  int fd = dsc_load_relaxed(&engine->done_fd);
  dsc_fd_close(&fd);
  engine_free(engine);
}

static disco_status build(dsc_engine *engine) {
  const dsc_settings *settings = &engine->settings;
  size_t workers = (size_t)settings->num_workers;
  engine->collected = dsc_alloc(workers * sizeof(*engine->collected), "a session");
  engine->replies = dsc_alloc(workers * sizeof(*engine->replies), "a session");
  engine->threads = dsc_alloc(workers * sizeof(*engine->threads), "a session");
  engine->watch = dsc_alloc(workers * sizeof(*engine->watch), "a session");
  if (engine->has_processes) {
    engine->remotes = dsc_alloc(workers * sizeof(dsc_remote *), "a session");
    if (engine->remotes == NULL) return DISCO_MEMORY;
  }
  if (engine->collected == NULL || engine->replies == NULL || engine->threads == NULL || engine->watch == NULL)
    return DISCO_MEMORY;
  disco_status status = dsc_idpool_init(&engine->registers);
  if (status != DISCO_OK) return status;
  dsc_segment_layout layout = {.num_workers = settings->num_workers,
                               .num_groups = settings->num_groups,
                               .ring_bytes = settings->ring_bytes,
                               .reply_ring_bytes = DSC_REPLY_RING_BYTES,
                               .error_slot_bytes = DSC_ERROR_SLOT_BYTES,
                               .spin_us = settings->spin_us,
                               .busy_threads = engine->busy_threads,
                               .plane_bytes = dsc_plane_bytes(settings->num_workers, settings->num_groups),
                               .collective_timeout_ms = settings->collective_timeout_ms};
  status = dsc_segment_create(&layout, &engine->segment);
  if (status != DISCO_OK) return status;
  dsc_shared_memory_hide_from_children(&engine->segment.memory);
  dsc_segment_header *header = engine->segment.header;
  dsc_ring_writer_init(&engine->ring, &header->ring, dsc_segment_at(header, header->ring_offset), header->ring_bytes,
                       &dsc_segment_status(header, 0)->position, sizeof(dsc_status_line), settings->num_workers);
  for (int32_t i = 0; i < settings->num_workers; i++)
    dsc_ring_reader_init(&engine->replies[i], &dsc_segment_reply_words(header, i)->ring,
                         dsc_segment_reply_ring(header, i), header->reply_ring_bytes);
  engine->encoder =
      (dsc_encoder){engine->session, &engine->registers, engine->has_processes ? 1 : (uint64_t)settings->num_workers};
  return DISCO_OK;
}

disco_status dsc_engine_create(const dsc_settings *settings, const disco_session_options *processes,
                               const disco_session *session, const void *creation_site, dsc_engine **ret_engine) {
  dsc_engine *engine = dsc_alloc_aligned(DSC_CACHE_LINE, sizeof(*engine), "a session");
  if (engine == NULL) {
    dsc_channels_destroy(processes);
    return DISCO_MEMORY;
  }
  engine->has_processes = processes != NULL;
  engine->worker0_cpu = -1;
  dsc_store_relaxed(&engine->done_fd, -1);
  engine->arena.fd = -1; /* 0 is the host's stdin */
  engine->last_side_file = &engine->side_files;
  dsc_error_init(&engine->lost);
  engine->settings = *settings;
  engine->session = session;
  engine->creation_site = creation_site;
  engine->fork_generation = dsc_fork_generation();
  engine->pid = (int64_t)getpid();
  engine->busy_threads = settings->num_workers + 1;
  dsc_patience_init(&engine->patience, engine->busy_threads, settings->spin_us);
  dsc_list_init(&engine->link);
  dsc_list_init(&engine->pending);
  for (int i = 0; i < DSC_HISTORY; i++) dsc_error_init(&engine->history[i]);
  dsc_store_relaxed(&engine->refs, 1);
  disco_status status = build(engine);
  if (status == DISCO_OK) status = dsc_reaper_register(engine);
  if (status != DISCO_OK) {
    engine_free(engine);
    dsc_channels_destroy(processes);
    return status;
  }
  status = processes != NULL ? dsc_launch_processes(engine, processes) : dsc_launch_threads(engine);
  if (status != DISCO_OK) {
    dsc_error why;
    dsc_error_copy(dsc_thread_error(), &why);
    (void)dsc_engine_stop(engine, false); /* those that did start */
    dsc_pool_finish(engine);
    (void)dsc_fail_with(&why);
    dsc_engine_unref(engine);
    return status;
  }
  *ret_engine = engine;
  return DISCO_OK;
}

/* ---- Stopping ---- */

/* Post the shutdown record; false when the ring stayed full until the deadline. */
static bool post_until(dsc_engine *engine, int64_t deadline_ns) {
  for (;;) {
    (void)dsc_lock_take(&engine->lock, NULL); /* held for an issue only */
    bool posted = dsc_post_shutdown(engine);
    uint64_t position = dsc_ring_needed(&engine->ring, 2 * DSC_RING_LINE);
    dsc_leave(engine);
    if (posted) return true;
    if (dsc_clock_now_ns() >= deadline_ns) return false;
    dsc_session_guard guard;
    dsc_session_guard_init(&guard, engine, deadline_ns);
    guard.guard.tick = NULL;
    guard.look_at_failures = false;
    if (dsc_wait_room(engine, position, &guard) != DISCO_OK) return false;
  }
}

typedef struct {
  dsc_engine_wait base;
  dsc_status_line *line;
} ended_wait;

static bool has_ended(dsc_wait *wait) {
  return dsc_load_acquire(&((ended_wait *)wait)->line->ended) != 0; /* acquire: status.ended */
}

enum { TICK_NS = 50 * 1000000, LAST_LOOK_MS = 100 };

/* Ctrl-C cuts a shutdown's grace short; the error is pending in the interpreter, and asked for once. */
static disco_status look_for_ctrl_c(dsc_guard *guard) {
  (void)guard;
  return dsc_error_check_signals();
}

static void allow_ctrl_c(const dsc_engine *engine, dsc_guard *guard) {
  if (!engine->stop_by_call || engine->stop_interrupted) return;
  guard->tick = look_for_ctrl_c;
  guard->tick_ns = TICK_NS;
}

/* Join what ends before the deadline; returns how many threads did not. */
static int32_t join_until(dsc_engine *engine, int64_t deadline_ns) {
  int32_t left = 0;
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    dsc_worker_thread *worker = &engine->threads[i];
    if (!worker->started || worker->joined) continue;
    ended_wait wait = {
        {{.ready = has_ended, .before_sleep = dsc_drain_before_sleep, .doorbell = &engine->segment.header->controllers},
         engine},
        dsc_segment_status(engine->segment.header, i)};
    dsc_guard guard = {.deadline_ns = engine->stop_interrupted ? dsc_clock_deadline_ns(LAST_LOOK_MS) : deadline_ns};
    allow_ctrl_c(engine, &guard);
    disco_status status = dsc_wait_until(&wait.base.wait, &engine->patience, &guard);
    if (status == DISCO_INTERRUPTED) engine->stop_interrupted = true;
    if (status == DISCO_OK) {
      pthread_join(worker->thread, NULL); /* it has nothing left to do but to end */
      worker->joined = true;
    } else {
      left++;
    }
  }
  return left;
}

/* Threads cannot be killed: name those that would not end, leave them with the engine they use, and count them. */
static void abandon(dsc_engine *engine, int32_t left) {
  dsc_text text = DSC_TEXT_INIT;
  dsc_text_add(&text, "shutdown gave up after %u ms on %d of %d thread workers, which cannot be killed:",
               engine->settings.grace_ms, left, engine->settings.num_workers);
  (void)dsc_lock_take(&engine->lock, NULL);
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    dsc_worker_thread *worker = &engine->threads[i];
    if (!worker->started || worker->joined) continue;
    dsc_text_add(&text, " worker %d is ", i);
    dsc_describe_worker(engine, i, &text);
    dsc_text_add(&text, ";");
    dsc_engine_ref(engine); /* the thread's: it lets go when it comes back */
    if (atomic_exchange(&worker->fate, DSC_FATE_ABANDONED) == DSC_FATE_ENDED) dsc_engine_unref(engine);
    pthread_detach(worker->thread);
  }
  dsc_leave(engine);
  dsc_text_add(&text, " they are left behind with their memory; worker processes can be killed");
  dsc_add_relaxed(&abandoned_workers, (uint64_t)left);
  if (engine->stop_message != NULL) dsc_text_add(&text, "; %s", engine->stop_message); /* of processes */
  free(engine->stop_message);
  engine->stop_message = dsc_text_take(&text);
  engine->stop_status = DISCO_LOST;
  dsc_log(DSC_LOG_WARN, "%s",
          engine->stop_message != NULL ? engine->stop_message : "shutdown gave up on a thread worker");
}

/* Processes can be killed: say which were. */
static void stop_processes(dsc_engine *engine, int64_t deadline) {
  dsc_text text = DSC_TEXT_INIT;
  dsc_text_add(&text, "shutdown killed worker processes that had not ended after %u ms:", engine->settings.grace_ms);
  if (dsc_remotes_stop(engine, deadline, &text) > 0) {
    engine->stop_message = dsc_text_take(&text);
    engine->stop_status = DISCO_LOST;
    dsc_log(DSC_LOG_WARN, "%s", engine->stop_message != NULL ? engine->stop_message : "shutdown killed workers");
  }
  dsc_text_fini(&text);
}

static int32_t threads_of(const dsc_engine *engine) {
  int32_t count = 0;
  for (int32_t i = 0; i < engine->settings.num_workers; i++)
    count += engine->threads[i].started && !engine->threads[i].joined;
  return count;
}

static void stop_now(dsc_engine *engine) {
  int64_t deadline = dsc_clock_deadline_ns((int64_t)engine->settings.grace_ms);
  if (engine->has_processes) dsc_remotes_give_up_starting(engine);
  bool posted = post_until(engine, deadline); /* a ring that stays full empties within the grace, or never */
  int32_t left = posted ? join_until(engine, deadline) : threads_of(engine);
  if (engine->has_processes) {
    stop_processes(engine, posted && !engine->stop_interrupted ? deadline : 0);
    dsc_segment_raise_fault(engine->segment.header, DSC_FAULT_GRACE); /* nobody will do what is still waited for */
  }
  if (left > 0) {
    /* Idle workers and blocked callers leave now; busy ones, once they come back, skip what else was posted. */
    dsc_segment_raise_fault(engine->segment.header, DSC_FAULT_GRACE);
    atomic_fetch_add(&engine->segment.header->failures, 1); /* release: segment.failures */
    left = join_until(engine, dsc_clock_deadline_ns(LAST_LOOK_MS));
    if (left > 0) abandon(engine, left);
  }
  if (engine->has_processes) {
    dsc_remotes_free(engine);
    dsc_side_drop_all(engine);
    dsc_shared_memory_seclude(&engine->segment.memory);
    dsc_fd_close(&engine->arena.fd);
  }
  (void)dsc_lock_take(&engine->lock, NULL);
  dsc_collect_failures(engine);
  dsc_lock_give(&engine->lock);
  dsc_drain_replies(engine);
  /* The rings are read to their ends: give their pages back while the object lives on. */
  if (left == 0) dsc_shared_memory_discard(&engine->segment.memory, engine->segment.header->ring_offset);
}

/* Somebody else stops it: wait for that, bounded by its own bounds. */
static bool is_closed(dsc_wait *wait) {
  return dsc_load_acquire(&((dsc_engine_wait *)wait)->engine->state) == DSC_CLOSED; /* acquire: engine.closed */
}

disco_status dsc_engine_stop(dsc_engine *engine, bool by_call) {
  uint32_t ready = DSC_READY;
  if (dsc_cas(&engine->state, &ready, DSC_CLOSING)) {
    engine->stop_by_call = by_call;
    stop_now(engine);
    dsc_store_release(&engine->state, DSC_CLOSED); /* release: engine.closed */
    dsc_doorbell_ring(&engine->segment.header->controllers);
  } else {
    dsc_engine_wait wait = {{.ready = is_closed, .doorbell = &engine->segment.header->controllers}, engine};
    dsc_guard guard = {.deadline_ns = DSC_NO_DEADLINE};
    dsc_patience patience;
    dsc_patience_init(&patience, INT32_MAX, 0);
    if (by_call) guard = (dsc_guard){.deadline_ns = DSC_NO_DEADLINE, .tick = look_for_ctrl_c, .tick_ns = TICK_NS};
    disco_status status = dsc_wait_until(&wait.wait, &patience, &guard);
    if (status != DISCO_OK) return status;
    by_call = false; /* whoever stopped it was told of an interrupt */
  }
  if (by_call && engine->stop_interrupted) return dsc_fail(DISCO_INTERRUPTED, "interrupted in shutdown");
  if (engine->stop_status == DISCO_OK) return DISCO_OK;
  return dsc_fail(engine->stop_status, "%s",
                  engine->stop_message != NULL ? engine->stop_message : "shutdown gave up on a worker");
}
