/* Commands that come in frames, over a pipe or a user's channel: the worker keeps a segment of its own, so that the
 * rest of the room does not know the difference, and tells the controller after every command what changed in it. */
#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "base/memory.h"
#include "worker/process.h"

enum { FAILURE_BYTES = DSC_ERROR_SLOT_BYTES - DSC_CACHE_LINE };

typedef struct {
  disco_channel *channel;
  _Atomic bool *finished;
  dsc_worker *worker;
  char *aligned; /* a frame that came badly aligned */
  uint64_t done_sequence;
  uint64_t told; /* the failure that was sent last */
  struct {
    dsc_done_frame frame;
    char failure[FAILURE_BYTES];
  } done;
} server;

static disco_status tell_done(server *self, uint64_t sequence) {
  disco_status status = dsc_worker_progress_end(self->worker);
  if (status != DISCO_OK) return status;
  dsc_status_line *line = self->worker->line;
  dsc_done_frame *frame = &self->done.frame;
  uint64_t failed = dsc_load_relaxed(&line->failed);
  bool news = failed != self->told;
  uint64_t size = sizeof(*frame) + (news ? FAILURE_BYTES : 0);
  dsc_frame_begin(&frame->head, DSC_FRAME_Done, size, self->worker->segment->session, self->worker->setup.id, sequence);
  frame->failed = failed;
  frame->resumed = dsc_load_relaxed(&line->resumed);
  frame->skipped = dsc_load_relaxed(&line->skipped);
  frame->sleeps = dsc_load_relaxed(&line->sleeps);
  frame->failure_bytes = size - sizeof(*frame);
  if (news)
    (void)dsc_error_slot_read(dsc_segment_error_slot(self->worker->segment, self->worker->setup.id), self->done.failure,
                              FAILURE_BYTES);
  self->told = failed;
  return self->channel->ops->reply(self->channel, frame, size);
}

static disco_status controller_is_gone(const dsc_worker *worker) {
  return dsc_fail(DISCO_LOST, "the controller of worker %d is gone: its channel closed without a shutdown",
                  worker->setup.id);
}

/* The next command, whole and checked; it lives until the next call. */
static disco_status next_command(server *self, const dsc_command_frame **ret_command) {
  const void *frame = NULL;
  size_t size = 0;
  const dsc_worker *worker = self->worker;
  disco_status status = self->channel->ops->recv(self->channel, &frame, &size);
  if (status == DISCO_CLOSED) return controller_is_gone(worker);
  if (status != DISCO_OK) return status;
  status = dsc_frame_check(frame, size, DSC_FRAME_Command, sizeof(dsc_command_frame), worker->segment->session,
                           worker->setup.id, "the controller");
  if (status != DISCO_OK) return status;
  free(self->aligned);
  self->aligned = NULL;
  if ((uintptr_t)frame % DSC_SLOT_BYTES != 0) { /* of a user's channel */
    self->aligned = dsc_alloc_aligned(DSC_CACHE_LINE, size, "a command");
    if (self->aligned == NULL) return DISCO_MEMORY;
    memcpy(self->aligned, frame, size);
    frame = self->aligned;
  }
  const dsc_command_frame *command = frame;
  status = dsc_frame_check_command(command);
  if (status == DISCO_OK) status = dsc_record_check((const dsc_record *)(command + 1), command->record_bytes);
  *ret_command = command;
  if (status != DISCO_OK) return status;
  uint64_t sequence = ((const dsc_record *)(command + 1))->sequence;
  if (sequence != self->done_sequence + 1 || sequence != command->head.sequence)
    return dsc_fail(DISCO_LOST, "the controller sent command %llu after %llu", (unsigned long long)sequence,
                    (unsigned long long)self->done_sequence);
  return DISCO_OK;
}

static disco_status serve(server *self) {
  dsc_worker *worker = self->worker;
  bool stop = false;
  dsc_worker_enter(worker);
  while (!stop) {
    const dsc_command_frame *command = NULL;
    disco_status status = next_command(self, &command);
    if (status != DISCO_OK) return status;
    const dsc_record *record = (const dsc_record *)(command + 1);
    worker->frame_side = (const char *)record + command->record_bytes;
    worker->frame_side_bytes = command->side_bytes;
    worker->clock_due = true;
    (void)dsc_worker_run_record(worker, record, command->skip_cause, &stop);
    DSC_POINT("worker.before_done");
    if (stop && self->finished != NULL) dsc_store_release(self->finished, true); /* release: watcher.finished */
    self->done_sequence = record->sequence;
    status = tell_done(self, record->sequence);
    if (status != DISCO_OK && !stop) return status == DISCO_CLOSED ? controller_is_gone(worker) : status;
  }
  return DISCO_OK;
}

disco_status dsc_worker_serve(const dsc_hello *hello, disco_channel *channel, const char *unshared,
                              _Atomic bool *finished) {
  /* Rings that nobody uses: the smallest. */
  dsc_segment_layout layout = {.num_workers = hello->num_workers,
                               .num_groups = hello->num_groups,
                               .ring_bytes = 4096,
                               .reply_ring_bytes = 4096,
                               .error_slot_bytes = DSC_ERROR_SLOT_BYTES};
  dsc_segment segment;
  server *self = dsc_alloc(sizeof(*self), "a worker");
  if (self == NULL) return DISCO_MEMORY;
  disco_status status = dsc_segment_create(&layout, &segment);
  if (status != DISCO_OK) {
    free(self);
    return status;
  }
  dsc_shared_memory_seclude(&segment.memory);
  segment.header->session = hello->head.session;
  int32_t id = (int32_t)hello->head.worker;
  dsc_worker_setup setup = {.id = id,
                            .local_id = id,
                            .num_workers = hello->num_workers,
                            .num_groups = hello->num_groups,
                            .segment = segment.header,
                            .owner = segment.header,
                            .busy_threads = hello->num_workers + 1,
                            .spin_us = hello->spin_us,
                            .remote = true,
                            .channel = channel,
                            .unshared = unshared};
  self->channel = channel;
  self->finished = finished;
  status = dsc_worker_create(&setup, &self->worker);
  if (status == DISCO_OK) status = serve(self);
  dsc_error why;
  dsc_error_init(&why);
  if (status != DISCO_OK) dsc_error_copy(dsc_thread_error(), &why); /* the worker's own record goes with it */
  dsc_worker_destroy(self->worker);
  dsc_segment_destroy(&segment);
  free(self->aligned);
  free(self);
  return status == DISCO_OK ? DISCO_OK : dsc_fail_with(&why);
}
