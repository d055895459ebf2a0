/* Looking at a session while it runs, or while it hangs: nothing here waits for a worker. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "ccl/deadlock.h"
#include "session/remote.h"

static const char *function_name(const dsc_engine *engine, const dsc_status_line *line) {
  const char *name = dsc_names_text(&engine->names, dsc_load_relaxed(&line->function));
  if (name != NULL) return name;
  name = dsc_message_name(dsc_load_relaxed(&line->message));
  return name != NULL ? name : "?";
}

bool dsc_lock_briefly(dsc_engine *engine) {
  enum { LONGEST_MS = 20 };
  dsc_guard guard = {.deadline_ns = dsc_clock_deadline_ns(LONGEST_MS)};
  return dsc_lock_take(&engine->lock, &guard) == DISCO_OK;
}

/* How far the worker's command says that it is. Our own functions count bytes, others what they like. */
static void add_progress(const dsc_status_line *line, const char *name, uint64_t command, dsc_text *text) {
  static const char our_own[] = "libdisco.";
  const double mib = 1 << 20;
  const dsc_progress progress = dsc_progress_load(line);
  if (progress.sequence != command) return;
  dsc_text_add(text, ", ");
  if (strncmp(name, our_own, sizeof(our_own) - 1) != 0)
    dsc_text_add(text, progress.total != 0 ? "%" PRIu64 " of %" PRIu64 : "%" PRIu64 " done", progress.done,
                 progress.total);
  else
    dsc_text_add(text, progress.total != 0 ? "%.4g of %.4g MiB" : "%.4g MiB done", (double)progress.done / mib,
                 (double)progress.total / mib);
}

void dsc_describe_worker(const dsc_engine *engine, int32_t worker, dsc_text *text) {
  const dsc_status_line *line = dsc_segment_status(engine->segment.header, worker);
  dsc_describe_worker_behind(engine, worker, dsc_load_acquire(&line->done), text); /* acquire: status.done */
}

void dsc_describe_worker_behind(const dsc_engine *engine, int32_t worker, uint64_t done, dsc_text *text) {
  const dsc_status_line *line = dsc_segment_status(engine->segment.header, worker);
  const uint64_t posted = dsc_load_relaxed(&engine->sequence);
  if (engine->collected[worker] == UINT64_MAX) {
    dsc_text_add(text, "lost");
  } else if (dsc_load_relaxed(&line->ended) != 0) {
    dsc_text_add(text, "ended");
  } else if (dsc_load_relaxed(&line->waits) == DSC_WAITS_REPLY_ROOM) {
    dsc_text_add(text, "waiting for room in its reply ring, command %" PRIu64, done + 1);
  } else if (dsc_load_relaxed(&line->waits) == DSC_WAITS_COMMANDS || done >= posted) {
    dsc_text_add(text, "idle");
  } else if (dsc_load_relaxed(&line->waits) == DSC_WAITS_PEERS) {
    char what[256];
    const dsc_segment_header *header = engine->segment.header;
    dsc_note_text(dsc_segment_at(header, header->plane_offset), header->num_workers, header->num_groups, worker, what,
                  sizeof(what));
    dsc_text_add(text, "%s, command %" PRIu64, what[0] != 0 ? what : "in a collective", done + 1);
  } else if (dsc_load_relaxed(&line->pid) == 0 || dsc_load_relaxed(&line->since_ns) == 0) { /* no command has begun */
    dsc_text_add(text, "not started yet");
  } else {
    double seconds = (double)(dsc_clock_coarse_ns() - dsc_load_relaxed(&line->since_ns)) / 1e9;
    const char *name = function_name(engine, line);
    dsc_text_add(text, "in `%s`, command %" PRIu64 ", for %.3g s", name, done + 1, seconds < 0 ? 0 : seconds);
    add_progress(line, name, done + 1, text);
  }
}

disco_status dsc_engine_dump(dsc_engine *engine, char **ret_text) {
  static const char *const states[] = {"ready", "closing", "closed"};
  dsc_text text = DSC_TEXT_INIT;
  bool locked = dsc_lock_briefly(engine); /* without it numbers serve */
  dsc_text_add(&text, "session of %d workers in %d groups, %s, %" PRIu64 " commands posted, %" PRIu64 " errors told\n",
               engine->settings.num_workers, engine->settings.num_groups, states[dsc_load_relaxed(&engine->state)],
               dsc_load_relaxed(&engine->sequence), dsc_load_relaxed(&engine->errors_told));
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    const dsc_status_line *line = dsc_segment_status(engine->segment.header, i);
    const uint64_t done = dsc_load_acquire(&line->done); /* acquire: status.done */
    dsc_text_add(&text, "worker %d: done %" PRIu64 ", ", i, done);
    if (locked)
      dsc_describe_worker_behind(engine, i, done, &text);
    else
      dsc_text_add(&text, "name %u", dsc_load_relaxed(&line->function));
    uint64_t failed = dsc_load_acquire(&line->failed);
    if (failed > dsc_load_acquire(&line->resumed))
      dsc_text_add(&text, ", failed at command %" PRIu64 " and skips", failed);
    dsc_text_add(&text, "\n");
  }
  if (locked) dsc_leave(engine);
  *ret_text = dsc_text_take(&text);
  return *ret_text != NULL ? DISCO_OK : dsc_fail(DISCO_MEMORY, "no memory for the dump");
}

disco_status dsc_engine_stats(dsc_engine *engine, disco_session_stats *ret_stats) {
  disco_session_stats stats = {.struct_size = ret_stats->struct_size,
                               .commands = dsc_load_relaxed(&engine->sequence),
                               .ring_bytes = dsc_load_relaxed(&engine->ring_bytes_posted),
                               .ring_full = dsc_load_relaxed(&engine->ring_full),
                               .wakes = dsc_load_relaxed(&engine->wakes),
                               .errors_told = dsc_load_relaxed(&engine->errors_told),
                               .resumes = dsc_load_relaxed(&engine->epoch),
                               .errors_late = dsc_load_relaxed(&engine->errors_late),
                               .live_registers = dsc_idpool_live(&engine->registers),
                               .abandoned_workers = dsc_engine_abandoned(),
                               .side_bytes = dsc_load_relaxed(&engine->side_bytes),
                               .ring_workers = dsc_load_relaxed(&engine->ring_workers),
                               .pipe_workers = dsc_load_relaxed(&engine->pipe_workers)};
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    const dsc_status_line *line = dsc_segment_status(engine->segment.header, i);
    stats.commands_skipped += dsc_load_relaxed(&line->skipped);
    stats.worker_sleeps += dsc_load_relaxed(&line->sleeps);
  }
  memcpy(ret_stats, &stats, stats.struct_size < sizeof(stats) ? stats.struct_size : sizeof(stats));
  return DISCO_OK;
}

void dsc_engine_progress(const dsc_engine *engine, int32_t worker, disco_progress *ret_progress) {
  const dsc_progress seen = dsc_progress_load(dsc_segment_status(engine->segment.header, worker));
  disco_progress progress = {ret_progress->struct_size, seen.sequence, seen.done, seen.total};
  memcpy(ret_progress, &progress, progress.struct_size < sizeof(progress) ? progress.struct_size : sizeof(progress));
}

enum { LOOKS = 10, WARN_AT = 5 };

/* One process. look_lock held. */
static void look_at(dsc_engine *engine, dsc_remote *remote) {
  dsc_watch *watch = &engine->watch[remote->worker];
  uint32_t state = dsc_load_acquire(&remote->state); /* acquire: remote.state, pid and pidfd are there */
  /* Only where the number means something here: a channel's worker may live on another host. */
  bool alive = state != DSC_REMOTE_GONE && (remote->is_child || (state == DSC_REMOTE_RING && remote->pidfd >= 0));
  if (!alive || dsc_process_state(remote->pid) != 'T') { /* t: a debugger has it */
    watch->stopped_looks = 0;
    return;
  }
  watch->stopped_looks++;
  if (watch->stopped_looks == WARN_AT)
    dsc_log(DSC_LOG_WARN,
            "worker %d (process %" PRId64 ") is stopped (SIGSTOP): it is lost unless it goes on (SIGCONT)",
            remote->worker, remote->pid);
  if (watch->stopped_looks < LOOKS) return;
  watch->stopped_looks = 0;
  char reason[96];
  (void)snprintf(reason, sizeof(reason), "it was stopped (SIGSTOP) for %u ms and then killed",
                 engine->settings.stopped_ms);
  dsc_remote_break(remote, reason);
}

void dsc_look_at_processes(dsc_engine *engine) {
  if (!dsc_lock_try(&engine->look_lock)) return; /* somebody looks already */
  int64_t now = dsc_clock_now_ns();
  int64_t interval = (int64_t)engine->settings.stopped_ms * 1000000 / LOOKS;
  if (now >= engine->next_look_ns) {
    bool afresh = now > engine->next_look_ns + 2 * interval; /* nobody has waited for a while */
    engine->next_look_ns = now + interval;
    for (int32_t i = 0; afresh && i < engine->settings.num_workers; i++) engine->watch[i].stopped_looks = 0;
    for (int32_t i = 0; i < engine->settings.num_workers; i++)
      if (engine->remotes[i] != NULL) look_at(engine, engine->remotes[i]);
  }
  dsc_lock_give(&engine->look_lock);
}

void dsc_warn_slow(dsc_engine *engine) {
  const int64_t limit_ns = (int64_t)engine->settings.slow_warning_ms * 1000000;
  int64_t now = dsc_clock_now_ns();
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    const dsc_status_line *line = dsc_segment_status(engine->segment.header, i);
    dsc_watch *watch = &engine->watch[i];
    uint64_t done = dsc_load_acquire(&line->done), progress = dsc_load_relaxed(&line->progress_done);
    if (dsc_load_relaxed(&watch->since_ns) == 0 || dsc_load_relaxed(&watch->done) != done ||
        dsc_load_relaxed(&watch->progress) != progress) {
      dsc_store_relaxed(&watch->done, done);
      dsc_store_relaxed(&watch->progress, progress);
      dsc_store_relaxed(&watch->since_ns, now);
      continue;
    }
    if (now - dsc_load_relaxed(&watch->since_ns) < limit_ns || dsc_load_relaxed(&watch->warned) == done + 1) continue;
    if (done >= dsc_load_relaxed(&engine->sequence) || dsc_load_relaxed(&line->waits) != DSC_WAITS_NOT) continue;
    if (dsc_load_relaxed(&line->ended) != 0 || !dsc_lock_try(&engine->lock)) continue; /* the next tick looks again */
    dsc_text text = DSC_TEXT_INIT;
    dsc_describe_worker(engine, i, &text);
    dsc_leave(engine);
    dsc_store_relaxed(&watch->warned, done + 1);
    dsc_log(DSC_LOG_WARN, "worker %d is slow: %s; disco_session_dump() shows all workers", i,
            text.data != NULL ? text.data : "");
    dsc_text_fini(&text);
  }
}
