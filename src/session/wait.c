/* What a controller thread waits for: a worker's done number, room in the ring, the lock. */
#include <stdio.h>

#include "base/clock.h"
#include "base/text.h"
#include "ffi/error.h"
#include "session/engine.h"

enum { TICK_NS = 50 * 1000000, WARN_AFTER_NS = 500 * 1000000 };

/* Every phase of every wait: two loads. */
static disco_status check(dsc_guard *guard) {
  const dsc_session_guard *self = (dsc_session_guard *)guard;
  if (self->look_at_failures && dsc_failure_is_new(self->engine)) return DISCO_RAISED;
  /* A lost worker ends the waits of calls, not those of shutdown. */
  uint32_t fault = dsc_load_acquire(&self->engine->segment.header->fault);
  return fault > (self->look_at_failures ? DSC_FAULT_NONE : DSC_FAULT_DEATH) ? DISCO_CLOSED : DISCO_OK;
}

static disco_status look_on(const dsc_session_guard *guard) {
  return guard->onlooker != NULL ? guard->onlooker->look(guard->onlooker) : DISCO_OK;
}

static disco_status tick(dsc_guard *guard) {
  dsc_session_guard *self = (dsc_session_guard *)guard;
  dsc_drain_replies(self->engine);
  if (self->warn && dsc_clock_now_ns() - self->started_ns > WARN_AFTER_NS) {
    dsc_warn_slow(self->engine);
    if (self->engine->has_processes) dsc_look_at_processes(self->engine);
  }
  disco_status status = dsc_error_check_signals();
  return status == DISCO_OK ? look_on(self) : status;
}

void dsc_session_guard_init(dsc_session_guard *guard, dsc_engine *engine, int64_t deadline_ns) {
  *guard = (dsc_session_guard){.guard = {.check = check, .tick = tick, .deadline_ns = deadline_ns, .tick_ns = TICK_NS},
                               .engine = engine,
                               .look_at_failures = true,
                               .warn = true,
                               .started_ns = dsc_clock_now_ns()};
}

static disco_status closed(void) { return dsc_fail(DISCO_CLOSED, "the session was shut down while this call waited"); }

disco_status dsc_engine_lock(dsc_engine *engine, dsc_session_guard *guard) {
  disco_status status = dsc_lock_take(&engine->lock, &guard->guard);
  if (status == DISCO_TIMEOUT)
    return dsc_fail(DISCO_TIMEOUT, "the deadline passed while other threads were issuing commands");
  return status;
}

disco_status dsc_explain(dsc_engine *engine, dsc_session_guard *guard, disco_status status) {
  if (status == DISCO_CLOSED) {
    if (dsc_load_acquire(&engine->segment.header->fault) != DSC_FAULT_DEATH) return closed();
    status = DISCO_RAISED; /* the loss is told like a failure */
  }
  if (status != DISCO_RAISED) return status;
  dsc_session_guard plain = *guard;
  plain.onlooker = NULL; /* the error is on its way */
  status = dsc_engine_lock(engine, &plain);
  if (status != DISCO_OK) return status;
  status = dsc_tell_failure(engine);
  dsc_leave(engine);
  return status;
}

int64_t dsc_drain_before_sleep(dsc_wait *wait) {
  dsc_drain_replies(((dsc_engine_wait *)wait)->engine);
  return INT64_MAX;
}

typedef struct {
  dsc_engine_wait base;
  dsc_status_line *line;
  uint64_t target;
} line_wait;

static bool is_done(dsc_wait *wait) {
  const line_wait *self = (line_wait *)wait;
  return dsc_load_acquire(&self->line->done) >= self->target; /* acquire: status.done */
}

static void arm_done(dsc_wait *wait) {
  dsc_await(&((line_wait *)wait)->line->awaited_done, ((line_wait *)wait)->target);
}

static bool has_passed(dsc_wait *wait) {
  const line_wait *self = (line_wait *)wait;
  return dsc_load_acquire(&self->line->position) >= self->target; /* acquire: ring.position */
}

static void arm_position(dsc_wait *wait) {
  dsc_await(&((line_wait *)wait)->line->awaited_position, ((line_wait *)wait)->target);
}

static disco_status wait_line(dsc_engine *engine, int32_t worker, bool for_done, uint64_t target,
                              dsc_session_guard *guard) {
  line_wait wait = {{{.ready = for_done ? is_done : has_passed,
                      .arm = for_done ? arm_done : arm_position,
                      .before_sleep = dsc_drain_before_sleep,
                      .doorbell = &engine->segment.header->controllers},
                     engine},
                    dsc_segment_status(engine->segment.header, worker),
                    target};
  return dsc_wait_until(&wait.base.wait, &engine->patience, &guard->guard);
}

static disco_status timed_out(dsc_engine *engine, int32_t worker, uint64_t sequence, const char *what) {
  dsc_text text = DSC_TEXT_INIT;
  uint64_t done = dsc_load_acquire(&dsc_segment_status(engine->segment.header, worker)->done);
  dsc_text_add(&text, "%s: the deadline passed; worker %d has done %llu of %llu commands", what, worker,
               (unsigned long long)done, (unsigned long long)sequence);
  if (dsc_lock_briefly(engine)) {
    dsc_text_add(&text, " and is ");
    dsc_describe_worker(engine, worker, &text);
    dsc_leave(engine);
  }
  dsc_text_add(&text, "; what was posted goes on");
  disco_status status = dsc_fail(DISCO_TIMEOUT, "%s", text.data != NULL ? text.data : what);
  dsc_text_fini(&text);
  return status;
}

disco_status dsc_wait_done_watched(dsc_engine *engine, int32_t worker, uint64_t sequence, int64_t deadline_ns,
                                   const char *what, dsc_onlooker *onlooker) {
  dsc_session_guard guard;
  dsc_session_guard_init(&guard, engine, deadline_ns);
  guard.onlooker = onlooker;
  dsc_store_relaxed(&engine->waited, true);
  /* The last worker first: they were woken in order, so the others have mostly finished by then and need no sleep of
   * their own. */
  int32_t first = worker == DISCO_ALL_WORKERS ? 0 : worker;
  int32_t last = worker == DISCO_ALL_WORKERS ? engine->settings.num_workers - 1 : worker;
  for (int32_t i = last; i >= first;) {
    disco_status status = wait_line(engine, i, true, sequence, &guard);
    if (status == DISCO_OK && i == first && dsc_failure_is_new(engine)) status = DISCO_RAISED;
    if (status == DISCO_OK) {
      i--;
      if (i >= first) status = look_on(&guard); /* short waits have no ticks */
      if (status != DISCO_OK) return status;
      continue;
    }
    if (status == DISCO_TIMEOUT) return timed_out(engine, i, sequence, what);
    status = dsc_explain(engine, &guard, status);
    if (status != DISCO_OK) return status; /* else a failure that was told before: wait on */
  }
  return DISCO_OK;
}

disco_status dsc_wait_done(dsc_engine *engine, int32_t worker, uint64_t sequence, int64_t deadline_ns,
                           const char *what) {
  return dsc_wait_done_watched(engine, worker, sequence, deadline_ns, what, NULL);
}

disco_status dsc_wait_room(dsc_engine *engine, uint64_t position, dsc_session_guard *guard) {
  for (int32_t i = engine->settings.num_workers - 1; i >= 0;) {
    disco_status status = wait_line(engine, i, false, position, guard);
    if (status == DISCO_OK) {
      i--;
      continue;
    }
    if (status == DISCO_TIMEOUT)
      return timed_out(engine, i, dsc_load_relaxed(&engine->sequence), "waiting for room in the command ring");
    status = dsc_explain(engine, guard, status);
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}
