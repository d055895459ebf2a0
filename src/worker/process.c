#include "worker/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/settings.h"
#include "channel/pipe.h"
#include "os/arena.h"
#include "os/pipe.h"
#include "os/process.h"
#include "os/thread.h"

/* ---- The handshake ---- */

/* Wait for the controller's first word. */
static disco_status read_hello(disco_channel *channel, int32_t worker, int32_t workers, int32_t groups,
                               dsc_hello *ret_hello) {
  const void *frame = NULL;
  size_t size = 0;
  disco_status status = channel->ops->recv(channel, &frame, &size);
  if (status == DISCO_CLOSED)
    return dsc_fail(DISCO_LOST, "worker %d: the controller closed its end before it said a word", worker);
  if (status != DISCO_OK) return status;
  status = dsc_frame_check(frame, size, DSC_FRAME_Hello, sizeof(dsc_hello), 0, worker, "the controller");
  if (status != DISCO_OK) return status;
  memcpy(ret_hello, frame, sizeof(*ret_hello));
  if (ret_hello->head.session == 0) return dsc_fail(DISCO_LOST, "the controller names no session");
  if (ret_hello->num_workers != workers || ret_hello->num_groups != groups)
    return dsc_fail(DISCO_LOST, "worker %d was started for %d workers in %d groups, but its controller has %d in %d",
                    worker, workers, groups, ret_hello->num_workers, ret_hello->num_groups);
  return DISCO_OK;
}

static disco_status send_answer(disco_channel *channel, const dsc_hello *hello, uint32_t mode, const char *reason) {
  dsc_answer answer = {.pid = dsc_own_pid_in_proc(), .mode = mode}; /* as the controller sees it, if it shares /proc */
  dsc_frame_begin(&answer.head, DSC_FRAME_Answer, sizeof(answer), hello->head.session, (int32_t)hello->head.worker, 0);
  (void)snprintf(answer.reason, sizeof(answer.reason), "%s", reason);
  return channel->ops->reply(channel, &answer, sizeof(answer));
}

static disco_status check_numbers(int32_t worker, int32_t workers, int32_t groups) {
  if (workers < 1 || workers > DSC_MAX_WORKERS || worker < 1 || worker >= workers)
    return dsc_fail(DISCO_VALUE, "there is no worker process %d of %d: worker 0 is the controller's", worker, workers);
  if (groups < 1 || workers % groups != 0)
    return dsc_fail(DISCO_VALUE, "%d workers cannot be %d groups", workers, groups);
  return DISCO_OK;
}

/* ---- The watcher: nobody outlives the controller ---- */

typedef struct {
  int pipe_fd, pidfd;
  _Atomic bool finished; /* the worker ended in order: what the process does now is its own business */
} watcher;

static void *watch(void *argument) {
  watcher *self = argument;
  dsc_fd_wait_gone(self->pipe_fd, self->pidfd);
  if (!dsc_load_acquire(&self->finished)) dsc_process_exit_now(1); /* acquire: watcher.finished */
  return NULL;
}

/* ---- A worker on the shared memory ---- */

typedef struct {
  dsc_segment segment;
  dsc_arena arena;
  dsc_arena_range *range;
} shared;

static disco_status map_shared(const dsc_hello *hello, shared *ret) {
  int fd = -1;
  *ret = (shared){.arena = {.fd = -1}};
  if (strcmp(dsc_setting(DSC_SETTING_TRANSPORT), "pipe") == 0)
    return dsc_fail(DISCO_VALUE, "DISCO_TRANSPORT=pipe is set for this worker");
  if (hello->segment_fd < 0) return dsc_fail(DISCO_VALUE, "the controller offers the pipe alone");
  disco_status status = dsc_foreign_fd_open(hello->pid, hello->segment_fd, &fd);
  if (status != DISCO_OK) return status;
  status = dsc_segment_attach(fd, hello->nonce, &ret->segment);
  if (status != DISCO_OK) {
    dsc_fd_close(&fd);
    return status;
  }
  dsc_shared_memory_seclude(&ret->segment.memory);
  if (ret->segment.header->num_workers != hello->num_workers || ret->segment.header->num_groups != hello->num_groups)
    status = dsc_fail(DISCO_LOST, "the segment is not the one of the handshake");
  if (status == DISCO_OK && hello->arena_fd >= 0) {
    status = dsc_foreign_fd_open(hello->pid, hello->arena_fd, &fd);
    if (status == DISCO_OK) {
      status = dsc_arena_attach(fd, hello->arena_range_bytes, hello->num_workers, &ret->arena);
      if (status != DISCO_OK) dsc_fd_close(&fd);
    }
    if (status == DISCO_OK) status = dsc_arena_range_create(&ret->arena, (int32_t)hello->head.worker, &ret->range);
  }
  if (status != DISCO_OK) {
    dsc_arena_destroy(&ret->arena);
    dsc_segment_destroy(&ret->segment);
  }
  return status;
}

/* The controller's monitor reads it and looks whether all are done. */
static void say_armed_is_done(void *context) {
  size_t moved = 0;
  (void)dsc_fd_write(*(int *)context, "d", 1, &moved); /* a full pipe holds enough of them already */
}

static disco_status run_on_ring(const dsc_hello *hello, shared *memory, int *write_fd, _Atomic bool *finished) {
  dsc_segment_header *header = memory->segment.header;
  int32_t id = (int32_t)hello->head.worker;
  dsc_worker_setup setup = {.id = id,
                            .local_id = id,
                            .num_workers = header->num_workers,
                            .num_groups = header->num_groups,
                            .segment = header,
                            .owner = header,
                            .busy_threads = header->busy_threads,
                            .spin_us = header->spin_us,
                            .remote = true,
                            .notify = say_armed_is_done,
                            .notify_context = write_fd,
                            .arena = memory->range,
                            .shared = memory->arena.base,
                            .shared_bytes = memory->arena.range_bytes * (uint64_t)memory->arena.ranges};
  dsc_worker *worker = NULL;
  disco_status status = dsc_worker_create(&setup, &worker);
  if (status != DISCO_OK) return status;
  dsc_status_line *line = worker->line;
  dsc_store_relaxed(&line->pid, dsc_own_pid());
  dsc_fence(); /* here I am, then look whether I came too late: pairs with the controller's magic = 0, fence, look */
  if (dsc_load_acquire(&header->magic) == DSC_SEGMENT_MAGIC) dsc_worker_run(worker);
  dsc_worker_destroy(worker);
  dsc_store_release(finished, true);  /* release: watcher.finished */
  dsc_store_release(&line->ended, 1); /* release: status.ended */
  dsc_doorbell_ring(&header->controllers);
  return DISCO_OK;
}

/* ---- Both ---- */

/* Start the watcher; it lives as long as the process. */
static disco_status start_watcher(const dsc_hello *hello, int read_fd, watcher **ret_watcher) {
  static watcher self; /* one worker per process */
  pthread_t thread;
  self.pipe_fd = read_fd;
  /* Its number means something here when it offers its memory, or is our parent. */
  bool is_here = hello->segment_fd >= 0 || hello->pid == dsc_parent_pid();
  self.pidfd = is_here ? dsc_process_open(hello->pid) : -1;
  disco_status status = dsc_thread_start("disco watcher", watch, &self, &thread);
  if (status != DISCO_OK) return status;
  pthread_detach(thread);
  *ret_watcher = &self;
  return DISCO_OK;
}

disco_status dsc_worker_process(int32_t worker_id, int32_t num_workers, int32_t num_groups, int read_fd, int write_fd) {
  static _Atomic bool used;
  static disco_channel *channel; /* open until the process ends: its end of file says so */
  static int notify_fd;
  disco_status status = check_numbers(worker_id, num_workers, num_groups);
  if (status != DISCO_OK) return status;
  if (atomic_exchange(&used, true))
    return dsc_fail(DISCO_RUNTIME, "this process is, or was, a worker already: one per process");
  dsc_process_own_group();
  status = dsc_pipe_channel_create(read_fd, write_fd, &channel);
  if (status != DISCO_OK) {
    dsc_store_relaxed(&used, false);
    return status;
  }
  dsc_hello hello;
  watcher *guard = NULL;
  shared memory;
  status = read_hello(channel, worker_id, num_workers, num_groups, &hello);
  if (status == DISCO_OK) status = start_watcher(&hello, read_fd, &guard);
  if (status != DISCO_OK) {
    channel->ops->destroy(channel); /* the controller sees it at once, also when this process lives on */
    channel = NULL;
    return status;
  }
  char why[sizeof(((dsc_answer *)0)->reason)] = "";
  bool ring = map_shared(&hello, &memory) == DISCO_OK;
  if (!ring) (void)snprintf(why, sizeof(why), "%s", disco_last_error_text());
  status = send_answer(channel, &hello, ring ? DSC_ANSWER_RING : DSC_ANSWER_PIPE, why);
  if (status == DISCO_CLOSED) return DISCO_OK; /* the session was shut down before it had any use for this worker */
  if (status != DISCO_OK) return status;
  notify_fd = write_fd;
  status = ring ? run_on_ring(&hello, &memory, &notify_fd, &guard->finished)
                : dsc_worker_serve(&hello, channel, why, &guard->finished);
  if (ring) {
    dsc_segment_destroy(&memory.segment);
    if (memory.range != NULL) dsc_arena_range_unref(memory.range); /* tensors may live on: the arena stays mapped */
  }
  return status;
}

disco_status dsc_worker_run_channel(int32_t worker_id, int32_t num_workers, int32_t num_groups,
                                    disco_channel *channel) {
  dsc_hello hello;
  disco_status status = check_numbers(worker_id, num_workers, num_groups);
  if (status == DISCO_OK) status = read_hello(channel, worker_id, num_workers, num_groups, &hello);
  static const char why[] = "a channel of the user's own";
  if (status == DISCO_OK) status = send_answer(channel, &hello, DSC_ANSWER_PIPE, why);
  if (status == DISCO_CLOSED)
    return dsc_fail(DISCO_LOST, "worker %d: the controller is gone, it did not wait for an answer", worker_id);
  return status == DISCO_OK ? dsc_worker_serve(&hello, channel, why, NULL) : status;
}
