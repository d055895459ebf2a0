/* How far the running function is: two words of the worker's status line, which anybody may read. Where that line is
 * not the controller's, a frame now and then. */
#include "base/clock.h"
#include "base/inject.h"
#include "disco/channel.h"
#include "wire/frame.h"
#include "worker/worker.h"

enum { SEND_NS = 100 * 1000000 };

static disco_status send_on(dsc_worker *worker) {
  const dsc_progress progress = dsc_progress_load(worker->line);
  dsc_progress_frame frame = {.done = progress.done, .total = progress.total};
  dsc_frame_begin(&frame.head, DSC_FRAME_Progress, sizeof(frame), worker->segment->session, worker->setup.id,
                  progress.sequence);
  worker->progress_held = false;
  worker->progress_sent_ns = dsc_clock_coarse_ns();
  return worker->setup.channel->ops->reply(worker->setup.channel, &frame, sizeof(frame));
}

static disco_status leave(const dsc_worker *worker, const char *why) {
  return dsc_fail(DISCO_CLOSED, "worker %d has nobody any more to work for: %s", worker->setup.id, why);
}

disco_status dsc_worker_progress(dsc_worker *worker, uint64_t done, uint64_t total) {
  const bool first = dsc_load_relaxed(&worker->line->progress_of) != worker->sequence;
  dsc_progress_store(worker->line, &(dsc_progress){worker->sequence, done, total});
  if (worker->setup.channel != NULL) {
    worker->progress_held = !first && dsc_clock_coarse_ns() - worker->progress_sent_ns < SEND_NS;
    if (!worker->progress_held && send_on(worker) != DISCO_OK) return leave(worker, "the controller is gone");
  }
  DSC_POINT("worker.progress");
  const uint32_t fault = dsc_load_relaxed(&worker->segment->fault);
  if (fault == DSC_FAULT_NONE) return DISCO_OK;
  return leave(worker, fault == DSC_FAULT_DEATH ? "another worker is lost, and the session with it"
                                                : "the session is shut down, and its grace time is over");
}

disco_status dsc_worker_progress_end(dsc_worker *worker) { return worker->progress_held ? send_on(worker) : DISCO_OK; }
