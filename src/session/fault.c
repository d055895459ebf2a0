/* Failures: collect what the workers stored, tell each epoch's first one once, resume. models/resume.pml is the proof.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/inject.h"
#include "base/text.h"
#include "session/engine.h"
#include "worker/failure.h"

static void add_history(dsc_engine *engine, const dsc_error *error) {
  dsc_error *slot = &engine->history[engine->history_count++ % DSC_HISTORY];
  dsc_error_fini(slot);
  dsc_error_copy(error, slot);
}

/* Line three: what the others did meanwhile; the first few of many. */
static void describe_others(const dsc_engine *engine, int32_t culprit, dsc_text *text) {
  enum { SHOWN = 8 };
  int32_t shown = 0, others = engine->settings.num_workers - 1;
  dsc_text_add(text, "\n  the others:");
  if (others == 0) dsc_text_add(text, " none");
  for (int32_t i = 0; i < engine->settings.num_workers && shown < SHOWN; i++) {
    if (i == culprit) continue;
    uint64_t done = dsc_load_acquire(&dsc_segment_status(engine->segment.header, i)->done);
    dsc_text_add(text, "%s worker %d had done %" PRIu64 " and was ", shown == 0 ? "" : ";", i, done);
    dsc_describe_worker_behind(engine, i, done, text);
    shown++;
  }
  if (others > SHOWN) dsc_text_add(text, "; and %d more", others - SHOWN);
}

static const char *place_of(const dsc_engine *engine, int32_t worker) {
  return engine->has_processes && worker > 0 ? "process" : "thread of process";
}

/* The four lines: cause, culprit, state, what to try. */
static char *compose(const dsc_engine *engine, const dsc_error *error) {
  dsc_text text = DSC_TEXT_INIT;
  uint64_t last = dsc_load_relaxed(&engine->sequence), failed = error->sequence;
  dsc_text_add(&text, "%s: %s", error->kind, error->message != NULL ? error->message : "");
  dsc_text_add(&text, "\n  raised by worker %d of %d (group %d, %s %" PRId64 " on %s) in `%s`, command %" PRIu64,
               error->worker, engine->settings.num_workers, error->group, place_of(engine, error->worker), error->pid,
               error->host != NULL ? error->host : "?", error->function != NULL ? error->function : "?", failed);
  describe_others(engine, error->worker, &text);
  char skipped[80];
  (void)snprintf(skipped, sizeof(skipped),
                 last > failed + 1 ? "commands %" PRIu64 " to %" PRIu64 " were" : "command %" PRIu64 " was", failed + 1,
                 last);
  if (last > failed)
    dsc_text_add(
        &text,
        "\n  try: call again, the session works on; %s skipped, or ran on some workers only: rebuild the values "
        "they were to make or change in place",
        skipped);
  else
    dsc_text_add(&text, "\n  try: mend the cause and call again, the session works on; nothing else was skipped");
  return dsc_text_take(&text);
}

static char *host_name(void) {
  char host[256] = "";
  (void)gethostname(host, sizeof(host) - 1);
  return strdup(host[0] != 0 ? host : "localhost");
}

/* The failure that worker i stored last, with all its fields. When the slot is about a later one already, its text is
 * gone: only a late failure can be overtaken like that, since its worker has passed the resume record. */
static void load_failure(dsc_engine *engine, int32_t worker, uint64_t failed, dsc_error *ret_error) {
  uint32_t name = 0;
  const dsc_error_slot *slot = dsc_segment_error_slot(engine->segment.header, worker);
  if (!dsc_failure_load(slot, ret_error, &name)) {
    ret_error->message = strdup("(the worker ended while it wrote the message)");
  } else if (ret_error->sequence != 0 && ret_error->sequence != failed) {
    dsc_error_fini(ret_error);
    ret_error->status = DISCO_RAISED;
    ret_error->message = strdup("(the message was replaced by that of a later failure)");
    name = 0;
  }
  if (ret_error->kind[0] == 0) (void)snprintf(ret_error->kind, sizeof(ret_error->kind), "RuntimeError");
  const char *function = dsc_names_text(&engine->names, name);
  ret_error->sequence = failed;
  ret_error->worker = worker;
  ret_error->group = worker / (engine->settings.num_workers / engine->settings.num_groups);
  ret_error->pid = dsc_load_relaxed(&dsc_segment_status(engine->segment.header, worker)->pid);
  ret_error->host = host_name();
  ret_error->function = strdup(function != NULL ? function : "a function without a global name");
  ret_error->text = compose(engine, ret_error);
}

/* The first cause is the lowest command's; who left a collective for another's sake comes after all that failed by
 * themselves. */
static bool precedes(const dsc_error *error, const dsc_error *lowest) {
  if (lowest->status == DISCO_OK) return true;
  if (error->is_echo != lowest->is_echo) return lowest->is_echo;
  return error->sequence < lowest->sequence;
}

/* Read every failure that is new; keep the first cause of the present epoch in *ret_lowest, which may hold one already.
 */
static void collect_once(dsc_engine *engine, dsc_error *ret_lowest) {
  dsc_segment_header *header = engine->segment.header;
  dsc_store_relaxed(&engine->failures_seen, dsc_load_acquire(&header->failures)); /* acquire: segment.failures */
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    uint64_t failed = dsc_load_acquire(&dsc_segment_status(header, i)->failed); /* acquire: status.failed */
    if (failed <= engine->collected[i]) continue;
    dsc_error error;
    load_failure(engine, i, failed, &error);
    engine->collected[i] = failed;
    add_history(engine, &error);
    /* A failure before the last resume record belongs to an epoch whose error was told. So does one that comes up while
     * its record waits. */
    bool late = failed < engine->resumed || engine->resume_pending;
    if (late) dsc_add_relaxed(&engine->errors_late, 1);
    if (!late && precedes(&error, ret_lowest)) {
      dsc_error_fini(ret_lowest);
      *ret_lowest = error;
      continue;
    }
    dsc_error_fini(&error);
  }
}

/* *ret_lowest: the first cause, status DISCO_OK when there is none. An echo waits until its cause is written (10 ms at
 * most, when its culprit goes on instead), which may be of a worker that was looked at before: look again, then it is
 * there. */
static void collect(dsc_engine *engine, dsc_error *ret_lowest) {
  dsc_error_init(ret_lowest);
  collect_once(engine, ret_lowest);
  if (ret_lowest->status != DISCO_OK && ret_lowest->is_echo) collect_once(engine, ret_lowest);
}

/* ---- Losses ---- */

/* The four lines of a loss, and behind them what the worker printed last. */
static char *compose_loss(const dsc_engine *engine, const dsc_error *error, const dsc_loss *loss) {
  const dsc_status_line *line = dsc_segment_status(engine->segment.header, loss->worker);
  dsc_text text = DSC_TEXT_INIT;
  dsc_text_add(&text, "%s: %s", error->kind, error->message != NULL ? error->message : "");
  dsc_text_add(&text, "\n  it was worker %d of %d (group %d, process %" PRId64 " on %s), ", error->worker,
               engine->settings.num_workers, error->group, error->pid, error->host != NULL ? error->host : "?");
  if (dsc_load_relaxed(&line->pid) == 0)
    dsc_text_add(&text, "and had not started yet");
  else if (error->function != NULL)
    dsc_text_add(&text, "in `%s`, command %" PRIu64, error->function, error->sequence);
  else
    dsc_text_add(&text, "idle after command %" PRIu64, error->sequence - 1);
  describe_others(engine, error->worker, &text);
  dsc_text_add(&text, "\n  try: %s%sshut this session down and make a new one; its registers are lost",
               loss->advice != NULL ? loss->advice : "", loss->advice != NULL ? "; " : "");
  if (loss->output != NULL) {
    size_t size = strlen(loss->output);
    while (size > 0 && loss->output[size - 1] == '\n') size--;
    dsc_text_add(&text, "\n  the last that it wrote to stderr:\n%.*s", (int)size, loss->output);
  }
  return dsc_text_take(&text);
}

/* Lock held. */
static void note_loss(dsc_engine *engine, const dsc_loss *loss) {
  const dsc_status_line *line = dsc_segment_status(engine->segment.header, loss->worker);
  uint64_t done = dsc_load_acquire(&line->done); /* acquire: status.done */
  bool busy = dsc_load_relaxed(&line->waits) != DSC_WAITS_COMMANDS && done < dsc_load_relaxed(&engine->sequence);
  dsc_text message = DSC_TEXT_INIT;
  dsc_error error;
  dsc_error_init(&error);
  dsc_text_add(&message, "worker %d is lost: %s", loss->worker, loss->sentence);
  error.status = DISCO_LOST;
  (void)snprintf(error.kind, sizeof(error.kind), "%s", disco_status_kind(DISCO_LOST));
  error.message = dsc_text_take(&message);
  error.worker = loss->worker;
  error.group = loss->worker / (engine->settings.num_workers / engine->settings.num_groups);
  error.pid = dsc_load_relaxed(&line->pid) != 0 ? dsc_load_relaxed(&line->pid) : loss->pid;
  error.signal_number = loss->signal_number;
  error.exit_status = loss->exit_status;
  error.sequence = done + 1;
  error.host = host_name();
  const char *name = dsc_names_text(&engine->names, dsc_load_relaxed(&line->function));
  if (name == NULL && busy) name = dsc_message_name(dsc_load_relaxed(&line->message));
  if (name != NULL && busy) error.function = strdup(name);
  error.text = compose_loss(engine, &error, loss);
  add_history(engine, &error);
  if (engine->lost.status == DISCO_OK)
    engine->lost = error;
  else
    dsc_error_fini(&error);
}

void dsc_lose_worker(dsc_engine *engine, const dsc_loss *loss) {
  dsc_segment_header *header = engine->segment.header;
  dsc_status_line *line = dsc_segment_status(header, loss->worker);
  (void)dsc_lock_take(&engine->lock, NULL); /* held for an issue only */
  note_loss(engine, loss);
  /* For the survivors it is a failure at the command that it did not finish. */
  uint64_t next = dsc_load_acquire(&line->done) + 1;
  engine->collected[loss->worker] = UINT64_MAX;                                       /* told as a loss */
  dsc_store_release(&line->lost, 1);                                                  /* release: status.lost */
  if (dsc_load_relaxed(&line->failed) < next) dsc_store_release(&line->failed, next); /* release: status.failed */
  atomic_fetch_add(&header->failures, 1);                                             /* release: segment.failures */
  dsc_segment_raise_fault(header, DSC_FAULT_DEATH);
  dsc_leave(engine);
  dsc_done_look(engine);
}

disco_status dsc_tell_failure(dsc_engine *engine) {
  dsc_error lowest;
  collect(engine, &lowest);
  if (engine->lost.status != DISCO_OK) { /* sticky: it stays news for every call */
    dsc_error_fini(&lowest);
    dsc_error_copy(&engine->lost, &lowest);
    dsc_store_relaxed(&engine->failures_seen, UINT64_MAX);
    return dsc_fail_with(&lowest);
  }
  if (lowest.status == DISCO_OK) return DISCO_OK;
  DSC_POINT("session.telling");
  dsc_add_relaxed(&engine->errors_told, 1);
  dsc_post_resume(engine);
  return dsc_fail_with(&lowest);
}

void dsc_collect_failures(dsc_engine *engine) {
  dsc_error lowest;
  collect(engine, &lowest);
  dsc_error_fini(&lowest);
}
