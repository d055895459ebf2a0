/* Loading weights on all workers, watched: disco_session_load_weights(). */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "disco/weights.h"
#include "ffi/value.h"
#include "session/session.h"

enum { LOOK_NS = 100 * 1000000, SECOND_NS = 1000000000, SAMPLES = 16 };

/* What one worker has said. */
typedef struct {
  bool has_said, is_done;
  uint64_t done, total;
} part;

typedef struct {
  int64_t at_ns;
  uint64_t bytes;
} sample;

typedef struct {
  dsc_onlooker base;
  const dsc_engine *engine;
  uint64_t sequence; /* of the load */
  disco_load_progress_fn progress;
  void *context;
  int64_t due_ns;
  int32_t slowest;
  uint64_t num_samples;
  sample samples[SAMPLES]; /* the last ones: number i is at i % SAMPLES */
  part *parts;             /* one per worker */
} watching;

/* ---- What the workers say ---- */

static void look_at(const watching *self, int32_t worker, part *it) {
  const dsc_status_line *line = dsc_segment_status(self->engine->segment.header, worker);
  it->is_done = dsc_load_acquire(&line->done) >= self->sequence; /* acquire: status.done, so its last words are there */
  const dsc_progress seen = dsc_progress_load(line);
  if (seen.sequence == self->sequence) {
    it->has_said = true;
    it->done = seen.done;
    it->total = seen.total;
  } else if (it->is_done) {
    it->done = it->total; /* it speaks of a later command already, which another thread has posted */
  }
}

static double share_of(const part *it) {
  if (it->total > 0) return (double)it->done / (double)it->total;
  return it->has_said || it->is_done ? 1 : 0; /* it has nothing to read; it has not said anything yet */
}

/* Since the newest sample that is a second old, or the oldest that there is. */
static double rate_of(const watching *self, int64_t now, uint64_t bytes) {
  const sample *since = NULL;
  for (uint64_t i = self->num_samples, kept = 0; i > 0 && kept < SAMPLES; i--, kept++) {
    since = &self->samples[(i - 1) % SAMPLES];
    if (now - since->at_ns >= SECOND_NS) break;
  }
  if (since == NULL || now <= since->at_ns || bytes <= since->bytes) return 0;
  return (double)(bytes - since->bytes) * SECOND_NS / (double)(now - since->at_ns);
}

static void add_sample(watching *self, int64_t now, uint64_t bytes) {
  self->samples[self->num_samples++ % SAMPLES] = (sample){now, bytes};
}

static disco_load_progress look_at_all(watching *self) {
  const int64_t now = dsc_clock_now_ns();
  const int32_t workers = self->engine->settings.num_workers;
  disco_load_progress progress = {.struct_size = sizeof(progress), .slowest_worker = self->slowest};
  bool have_all_said = true;
  for (int32_t i = 0; i < workers; i++) {
    part *it = &self->parts[i];
    look_at(self, i, it);
    have_all_said = have_all_said && (it->has_said || it->is_done);
    progress.bytes_done += it->done;
    progress.bytes_total += it->total;
  }
  if (!have_all_said) progress.bytes_total = 0;
  for (int32_t i = 0; i < workers; i++)
    if (share_of(&self->parts[i]) < share_of(&self->parts[progress.slowest_worker])) progress.slowest_worker = i;
  self->slowest = progress.slowest_worker;
  progress.slowest_done = self->parts[self->slowest].done;
  progress.slowest_total = self->parts[self->slowest].total;
  progress.bytes_per_second = rate_of(self, now, progress.bytes_done);
  add_sample(self, now, progress.bytes_done);
  return progress;
}

static bool tell(watching *self) {
  const disco_load_progress progress = look_at_all(self);
  const bool goes_on = self->progress(self->context, &progress);
  self->due_ns = dsc_clock_now_ns() + LOOK_NS;
  return goes_on;
}

static disco_status look(dsc_onlooker *onlooker) {
  watching *self = (watching *)onlooker;
  if (dsc_clock_now_ns() < self->due_ns || tell(self)) return DISCO_OK;
  return dsc_fail(DISCO_INTERRUPTED,
                  "load_weights: the progress callback ended the wait; the workers go on with command %llu, and drop "
                  "then what it has loaded",
                  (unsigned long long)self->sequence);
}

/* ---- The call ---- */

static disco_status post(disco_session *session, const char *path, const char *plan, const char *manifest,
                         disco_dref **ret_map, uint64_t *ret_sequence) {
  const char *const texts[] = {path, plan, manifest};
  TVMFFIAny args[] = {dsc_none(), dsc_none(), dsc_none()};
  for (int i = 0; i < 3; i++) {
    if (texts[i] == NULL) continue;
    args[i].type_index = kTVMFFIRawStr;
    args[i].v_c_str = texts[i];
  }
  disco_dref *function = NULL;
  disco_status status = dsc_session_get_global_func(session, "libdisco.load_weights", &function);
  if (status != DISCO_OK) return status;
  status = dsc_session_call_numbered(session, function, args, 3, ret_map, ret_sequence);
  disco_dref_unref(function);
  return status;
}

static disco_status wait_and_watch(dsc_engine *engine, uint64_t sequence, disco_load_progress_fn progress,
                                   void *context, int64_t deadline_ns) {
  static const char what[] = "load_weights";
  if (progress == NULL) return dsc_wait_done(engine, DISCO_ALL_WORKERS, sequence, deadline_ns, what);
  watching self = {.base = {look}, .engine = engine, .sequence = sequence, .progress = progress, .context = context};
  self.parts = dsc_alloc((size_t)engine->settings.num_workers * sizeof(part), "the progress of a load");
  if (self.parts == NULL) return DISCO_MEMORY;
  const int64_t now = dsc_clock_now_ns();
  self.due_ns = now + LOOK_NS;
  add_sample(&self, now, 0);
  disco_status status = dsc_wait_done_watched(engine, DISCO_ALL_WORKERS, sequence, deadline_ns, what, &self.base);
  if (status == DISCO_OK) (void)tell(&self);
  free(self.parts);
  return status;
}

disco_status disco_session_load_weights(disco_session *session, const char *path, const char *plan,
                                        const char *manifest, disco_load_progress_fn progress, void *context,
                                        int64_t timeout_ms, disco_dref **ret_map) {
  if (session == NULL || path == NULL || plan == NULL || ret_map == NULL)
    return dsc_fail(DISCO_VALUE, "disco_session_load_weights: session, path, plan or ret_map is NULL");
  disco_dref *map = NULL;
  uint64_t sequence = 0;
  disco_status status = dsc_enter(session->engine, "load_weights");
  if (status == DISCO_OK) status = post(session, path, plan, manifest, &map, &sequence);
  if (status == DISCO_OK)
    status = wait_and_watch(session->engine, sequence, progress, context, dsc_clock_deadline_ns(timeout_ms));
  if (status == DISCO_OK)
    *ret_map = map;
  else
    disco_dref_unref(map);
  return status;
}
