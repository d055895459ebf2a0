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
    dsc_describe_worker(engine, i, text);
    shown++;
  }
  if (others > SHOWN) dsc_text_add(text, "; and %d more", others - SHOWN);
}

/* The four lines: cause, culprit, state, what to try. */
static char *compose(const dsc_engine *engine, const dsc_error *error) {
  dsc_text text = DSC_TEXT_INIT;
  uint64_t last = dsc_load_relaxed(&engine->sequence), failed = error->sequence;
  dsc_text_add(&text, "%s: %s", error->kind, error->message != NULL ? error->message : "");
  dsc_text_add(
      &text, "\n  raised by worker %d of %d (group %d, thread of process %" PRId64 " on %s) in `%s`, command %" PRIu64,
      error->worker, engine->settings.num_workers, error->group, error->pid, error->host != NULL ? error->host : "?",
      error->function != NULL ? error->function : "?", failed);
  describe_others(engine, error->worker, &text);
  if (last > failed)
    dsc_text_add(&text,
                 "\n  try: call again, the session works on; commands %" PRIu64 " to %" PRIu64
                 " were skipped, or ran on some workers only: rebuild the values they were to make or change in place",
                 failed + 1, last);
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

/* Read every failure that is new; keep the lowest of the present epoch in *ret_lowest (status DISCO_OK when there is
 * none). */
static void collect(dsc_engine *engine, dsc_error *ret_lowest) {
  dsc_segment_header *header = engine->segment.header;
  dsc_error_init(ret_lowest);
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
    if (!late && (ret_lowest->status == DISCO_OK || failed < ret_lowest->sequence)) {
      dsc_error_fini(ret_lowest);
      *ret_lowest = error;
      continue;
    }
    dsc_error_fini(&error);
  }
}

disco_status dsc_tell_failure(dsc_engine *engine) {
  dsc_error lowest;
  collect(engine, &lowest);
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
