/* The monitor: one thread per process that watches worker processes. It reads what they answer and print, notices when
 * one ends, and says so to everybody who waits. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "channel/pipe.h"
#include "os/cgroup.h"
#include "os/pipe.h"
#include "os/thread.h"
#include "session/remote.h"

enum { KIND_PROCESS = 0, KIND_PIPE = 1, KIND_STDOUT = 2, KIND_STDERR = 3, KINDS = 4 };
enum { LAST_WORDS_NS = 200 * 1000000 }; /* between the end of its pipe and the kill: it may just be ending */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards everything here, and the remotes' own fields */
static dsc_list watched = {&watched, &watched};
static const dsc_remote *forwarding; /* whose line the callback has at this moment */
static pthread_cond_t forwarded = PTHREAD_COND_INITIALIZER;
static uint64_t last_token;
static int poller = -1, wake = -1; /* wake: a deadline was set by another thread */
static bool running, hooked;
static uint32_t fork_generation;

static uint64_t token_of(const dsc_remote *remote, int kind) { return remote->token * KINDS + (uint64_t)kind; }

static dsc_remote *find(uint64_t token) {
  for (dsc_list *at = watched.next; at != &watched; at = at->next) {
    dsc_remote *remote = dsc_list_entry(at, dsc_remote, link);
    if (remote->token == token) return remote;
  }
  return NULL; /* an event that was fetched before it was removed */
}

/* ---- What workers print ---- */

static void keep_tail(dsc_remote *remote, const char *bytes, size_t size) {
  if (size > DSC_OUTPUT_TAIL) {
    bytes += size - DSC_OUTPUT_TAIL;
    size = DSC_OUTPUT_TAIL;
  }
  size_t keep = remote->tail_size + size > DSC_OUTPUT_TAIL ? DSC_OUTPUT_TAIL - size : remote->tail_size;
  memmove(remote->tail, remote->tail + remote->tail_size - keep, keep);
  memcpy(remote->tail + keep, bytes, size);
  remote->tail_size = keep + size;
}

/* One line, or a piece of a long one, ready to be printed. User code: without the lock, which others need to fork or to
 * make a session. The remote stays, see dsc_monitor_remove(). */
static void forward(const dsc_remote *remote, int stream, const char *line, size_t size) {
  char text[DSC_OUTPUT_LINE + 32];
  if (remote->output_fn == NULL || remote->leaving) return;
  size_t prefix = (size_t)snprintf(text, 32, "[worker %d] ", remote->worker);
  memcpy(text + prefix, line, size);
  forwarding = remote;
  pthread_mutex_unlock(&lock);
  remote->output_fn(remote->output_context, remote->worker, stream, text, prefix + size);
  pthread_mutex_lock(&lock);
  forwarding = NULL;
  pthread_cond_broadcast(&forwarded);
}

/* Hand out whole lines; a last one without a newline when it ended or is too long. */
static void forward_lines(dsc_remote *remote, int index, bool ended) {
  dsc_output *output = &remote->output[index];
  size_t from = 0;
  for (;;) {
    const char *newline = memchr(output->line + from, '\n', output->size - from);
    if (newline == NULL) break;
    size_t size = (size_t)(newline - output->line) - from;
    forward(remote, index + 1, output->line + from, size);
    from += size + 1;
  }
  if (output->size > from && (ended || (from == 0 && output->size == DSC_OUTPUT_LINE))) {
    forward(remote, index + 1, output->line + from, output->size - from);
    from = output->size;
  }
  memmove(output->line, output->line + from, output->size - from);
  output->size -= from;
}

/* Read what is there; at most a few lines' worth at once, so that a worker that prints without end starves nobody. */
static void read_output(dsc_remote *remote, int index, int rounds) {
  dsc_output *output = &remote->output[index];
  dsc_io io = DSC_IO_MORE;
  while (output->fd >= 0 && io == DSC_IO_MORE && rounds-- > 0) {
    size_t moved = 0;
    io = dsc_fd_read(output->fd, output->line + output->size, DSC_OUTPUT_LINE - output->size, &moved);
    if (index == 1) keep_tail(remote, output->line + output->size, moved);
    output->size += moved;
    if (io == DSC_IO_END || io == DSC_IO_ERROR) {
      dsc_poller_remove(poller, output->fd);
      dsc_fd_close(&output->fd);
    }
    forward_lines(remote, index, output->fd < 0);
  }
}

/* ---- Ends ---- */

/* Nobody reads the commands for it any more: it must not hold the writer back, nor shutdown. */
static void leave_ring(const dsc_remote *remote) {
  dsc_status_line *line = dsc_segment_status(remote->engine->segment.header, remote->worker);
  atomic_store(&line->position, UINT64_MAX);
  dsc_store_release(&line->ended, 1); /* release: status.ended */
  dsc_fence();                        /* ended, then who sleeps in a collective with it */
  dsc_segment_ring_ranks(remote->engine->segment.header);
}

static void stop_watching(dsc_remote *remote) {
  if (remote->pidfd >= 0) dsc_poller_remove(poller, remote->pidfd);
  if (remote->read_fd >= 0 && remote->pump == NULL) dsc_poller_remove(poller, remote->read_fd);
  remote->kill_at_ns = 0;
}

static void describe_end(const dsc_remote *remote, const dsc_process_end *end, char *text, size_t size) {
  char name[32];
  if (remote->broken[0] != 0)
    (void)snprintf(text, size, "%s", remote->broken);
  else if (end == NULL || !end->known)
    (void)snprintf(text, size, "its %s ended, how is unknown", end == NULL ? "channel" : "process");
  else if (end->signal != 0)
    (void)snprintf(text, size, "killed by %s%s", dsc_signal_name(end->signal, name, sizeof(name)),
                   end->is_core ? " (core dumped)" : "");
  else
    (void)snprintf(text, size, "exited with status %d%s", end->status,
                   end->status == 0 ? " in the middle of the session" : "");
}

/* It is gone for good (end NULL: we never knew its process). A loss, unless the session is ending anyway. */
static void ended(dsc_remote *remote, const dsc_process_end *end) {
  enum { ALL = 64 };
  dsc_engine *engine = remote->engine;
  const dsc_status_line *line = dsc_segment_status(engine->segment.header, remote->worker);
  if (dsc_load_relaxed(&remote->state) == DSC_REMOTE_GONE) return;
  stop_watching(remote);
  read_output(remote, 0, ALL);
  read_output(remote, 1, ALL);
  bool lost = dsc_load_acquire(&line->ended) == 0 && dsc_load_acquire(&engine->state) == DSC_READY;
  if (lost) {
    char sentence[320], advice[128] = "", output[DSC_OUTPUT_TAIL + 1];
    describe_end(remote, end, sentence, sizeof(sentence));
    int64_t limit = 0;
    if (end != NULL && end->signal == 9 && remote->broken[0] == 0 && dsc_memory_oom_kills() > remote->oom_kills) {
      (void)dsc_memory_available(&limit);
      (void)snprintf(advice, sizeof(advice), "the kernel ran out of memory: the control group's limit is %lld bytes",
                     (long long)limit);
    }
    memcpy(output, remote->tail, remote->tail_size);
    output[remote->tail_size] = 0;
    dsc_loss loss = {.worker = remote->worker,
                     .signal_number = end != NULL && end->known && end->signal != 0 ? end->signal : -1,
                     .exit_status = end != NULL && end->known && end->signal == 0 ? end->status : -1,
                     .pid = remote->pid,
                     .sentence = sentence,
                     .advice = advice[0] != 0 ? advice : NULL,
                     .output = remote->tail_size > 0 ? output : NULL};
    dsc_lose_worker(engine, &loss);
  }
  leave_ring(remote);
  if (end != NULL && remote->is_child) dsc_process_reap(remote->pidfd);
  dsc_store_release(&remote->state, DSC_REMOTE_GONE); /* release: remote.gone */
  dsc_doorbell_ring(&engine->segment.header->controllers);
}

/* What a pump has not read yet may tell what its worker did last: wait for the end of the channel, but not for long. */
static void process_event(dsc_remote *remote) {
  dsc_poller_remove(poller, remote->pidfd); /* else the event repeats until it was reaped */
  if (!dsc_process_has_ended(remote->pidfd, &remote->end)) {
    remote->look_again_at_ns = dsc_clock_now_ns() + LAST_WORDS_NS; /* a debugger holds it in its last moment */
  } else if (remote->pump != NULL && !remote->pipe_ended) {
    remote->process_ended = true;
    remote->kill_at_ns = dsc_clock_now_ns() + LAST_WORDS_NS;
  } else {
    ended(remote, &remote->end);
  }
}

/* Nothing more will come from it. If it is ending, its process says so in a moment; else it broke the protocol. */
static void pipe_ended(dsc_remote *remote) {
  if (remote->pipe_ended) return;
  remote->pipe_ended = true;
  if (remote->pump == NULL && remote->read_fd >= 0) dsc_poller_remove(poller, remote->read_fd);
  if (remote->process_ended)
    ended(remote, &remote->end);
  else if (remote->pidfd < 0)
    ended(remote, NULL);
  else
    remote->kill_at_ns = dsc_clock_now_ns() + LAST_WORDS_NS;
}

/* lock held */
static void break_locked(dsc_remote *remote, const char *reason) {
  if (dsc_load_relaxed(&remote->state) == DSC_REMOTE_GONE) return;
  if (remote->broken[0] == 0) (void)snprintf(remote->broken, sizeof(remote->broken), "%s", reason);
  if (remote->pidfd >= 0)
    (void)dsc_process_signal(remote->pidfd, 9); /* its end is an event of its own */
  else
    ended(remote, NULL);
}

/* ---- Answers ---- */

/* It cannot map the segment: from here on two threads of ours stand for it on the ring. */
static void start_pump(dsc_remote *remote) {
  dsc_poller_remove(poller, remote->read_fd);
  disco_status status = dsc_pipe_channel_create(remote->read_fd, remote->write_fd, &remote->channel);
  if (status == DISCO_OK) status = dsc_pump_start(remote);
  if (status != DISCO_OK) break_locked(remote, disco_last_error_text());
}

static void take_answer(dsc_remote *remote) {
  dsc_engine *engine = remote->engine;
  const dsc_answer *answer = &remote->answer;
  disco_status status = dsc_frame_check(answer, remote->answer_size, DSC_FRAME_Answer, sizeof(*answer),
                                        engine->segment.header->session, remote->worker, "the worker");
  if (status == DISCO_OK && answer->mode != DSC_ANSWER_RING && answer->mode != DSC_ANSWER_PIPE)
    status = dsc_fail(DISCO_LOST, "answered with the unknown mode %u", answer->mode);
  if (status != DISCO_OK) {
    break_locked(remote, disco_last_error_text());
    return;
  }
  if (remote->pid == 0) remote->pid = answer->pid;
  dsc_store_relaxed(&dsc_segment_status(engine->segment.header, remote->worker)->pid, remote->pid);
  if (remote->pidfd < 0 &&
      answer->mode == DSC_ANSWER_RING) { /* else it may live where its number means nothing to us */
    remote->pidfd = dsc_process_open(remote->pid);
    if (remote->pidfd >= 0 && dsc_poller_add(poller, remote->pidfd, token_of(remote, KIND_PROCESS)) != DISCO_OK)
      dsc_fd_close(&remote->pidfd); /* then the end of its pipe is its end */
  }
  bool ring = answer->mode == DSC_ANSWER_RING;
  dsc_store_release(&remote->state, ring ? DSC_REMOTE_RING : DSC_REMOTE_PIPE);
  dsc_add_relaxed(ring ? &engine->ring_workers : &engine->pipe_workers, 1);
  if (!ring) start_pump(remote);
  dsc_doorbell_ring(&engine->segment.header->controllers);
}

static void pipe_event(dsc_remote *remote) {
  while (dsc_load_relaxed(&remote->state) == DSC_REMOTE_STARTING) {
    size_t moved = 0;
    dsc_io io = dsc_fd_read(remote->read_fd, (char *)&remote->answer + remote->answer_size,
                            sizeof(remote->answer) - remote->answer_size, &moved);
    if (io == DSC_IO_AGAIN) return;
    if (io != DSC_IO_MORE) {
      pipe_ended(remote);
      return;
    }
    remote->answer_size += moved;
    if (remote->answer_size < sizeof(remote->answer)) continue;
    take_answer(remote);
    return;
  }
  if (remote->pump != NULL || dsc_load_relaxed(&remote->state) != DSC_REMOTE_RING) return;
  char bytes[64]; /* "the armed command is done" */
  size_t moved = 0;
  dsc_io io = dsc_fd_read(remote->read_fd, bytes, sizeof(bytes), &moved);
  if (moved > 0) dsc_done_look(remote->engine);
  if (io == DSC_IO_END || io == DSC_IO_ERROR) pipe_ended(remote);
}

/* ---- The thread ---- */

static void handle(const dsc_poll_event *event) {
  dsc_remote *remote = find(event->token / KINDS);
  if (remote == NULL) return;
  switch (event->token % KINDS) {
  case KIND_PROCESS: process_event(remote); return;
  case KIND_PIPE: pipe_event(remote); return;
  default: read_output(remote, event->token % KINDS == KIND_STDOUT ? 0 : 1, 4); return;
  }
}

/* Kill whose time has come; returns ms until the next, -1 for none. */
static int64_t look_at_deadlines(void) {
  int64_t now = dsc_clock_now_ns(), next = INT64_MAX;
  for (dsc_list *at = watched.next; at != &watched; at = at->next) {
    dsc_remote *remote = dsc_list_entry(at, dsc_remote, link);
    if (remote->look_again_at_ns != 0 && remote->look_again_at_ns <= now) {
      remote->look_again_at_ns = 0;
      (void)dsc_poller_add(poller, remote->pidfd, token_of(remote, KIND_PROCESS));
    }
    if (remote->kill_at_ns != 0 && remote->kill_at_ns <= now) {
      remote->kill_at_ns = 0;
      if (remote->process_ended)
        ended(remote, &remote->end);
      else
        break_locked(remote, "closed its pipe and lived on");
    }
    if (remote->kill_at_ns != 0 && remote->kill_at_ns < next) next = remote->kill_at_ns;
    if (remote->look_again_at_ns != 0 && remote->look_again_at_ns < next) next = remote->look_again_at_ns;
  }
  return next == INT64_MAX ? -1 : (next - now) / 1000000 + 1;
}

static void *monitor_main(void *argument) {
  enum { EVENTS = 64 };
  (void)argument;
  for (;;) {
    dsc_poll_event events[EVENTS];
    pthread_mutex_lock(&lock);
    int64_t timeout_ms = look_at_deadlines();
    pthread_mutex_unlock(&lock);
    int count = dsc_poller_wait(poller, events, EVENTS, timeout_ms);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) {
      if (events[i].token == 0)
        dsc_event_clear(wake);
      else
        handle(&events[i]);
    }
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

/* The child has no monitor, and its parent's workers must notice when the parent is gone. */
static void in_child(void) {
  for (dsc_list *at = watched.next; at != &watched; at = at->next) {
    dsc_remote *remote = dsc_list_entry(at, dsc_remote, link);
    if (remote->read_fd == remote->write_fd) remote->write_fd = -1;
    dsc_fd_close(&remote->read_fd);
    dsc_fd_close(&remote->write_fd);
    dsc_fd_close(&remote->pidfd);
    dsc_fd_close(&remote->output[0].fd);
    dsc_fd_close(&remote->output[1].fd);
  }
  dsc_list_init(&watched);
  dsc_fd_close(&poller);
  dsc_fd_close(&wake);
  running = false;
  forwarding = NULL;
  forwarded = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
  pthread_mutex_unlock(&lock);
}

/* lock held */
static disco_status start(void) {
  pthread_t thread;
  if (running && fork_generation == dsc_fork_generation()) return DISCO_OK;
  fork_generation = dsc_fork_generation();
  disco_status status = poller >= 0 ? DISCO_OK : dsc_poller_create(&poller);
  if (status == DISCO_OK && wake < 0) {
    status = dsc_event_create(&wake);
    if (status == DISCO_OK) status = dsc_poller_add(poller, wake, 0);
    if (status != DISCO_OK) dsc_fd_close(&wake);
  }
  if (status == DISCO_OK) status = dsc_thread_start("disco monitor", monitor_main, NULL, &thread);
  if (status != DISCO_OK) return status;
  pthread_detach(thread);
  running = true;
  if (!hooked) (void)pthread_atfork(before_fork, after_fork, in_child);
  hooked = true;
  return DISCO_OK;
}

/* ---- For other threads ---- */

/* lock held */
static void unwatch(dsc_remote *remote) {
  dsc_list_remove(&remote->link);
  if (poller < 0) return; /* a forked child */
  stop_watching(remote);
  for (int i = 0; i < 2; i++)
    if (remote->output[i].fd >= 0) dsc_poller_remove(poller, remote->output[i].fd);
}

disco_status dsc_monitor_add(dsc_remote *remote) {
  pthread_mutex_lock(&lock);
  disco_status status = start();
  if (status == DISCO_OK) {
    remote->token = ++last_token;
    dsc_list_append(&watched, &remote->link);
    if (remote->pidfd >= 0) status = dsc_poller_add(poller, remote->pidfd, token_of(remote, KIND_PROCESS));
    if (status == DISCO_OK && remote->read_fd >= 0 && remote->pump == NULL)
      status = dsc_poller_add(poller, remote->read_fd, token_of(remote, KIND_PIPE));
    for (int i = 0; status == DISCO_OK && i < 2; i++)
      if (remote->output[i].fd >= 0)
        status = dsc_poller_add(poller, remote->output[i].fd, token_of(remote, KIND_STDOUT + i));
    if (status != DISCO_OK) { /* nobody watches it: its owner goes by the token */
      unwatch(remote);
      remote->token = 0;
    }
  }
  pthread_mutex_unlock(&lock);
  return status;
}

void dsc_monitor_remove(dsc_remote *remote) {
  pthread_mutex_lock(&lock);
  remote->leaving = true;
  while (forwarding == remote) pthread_cond_wait(&forwarded, &lock);
  unwatch(remote);
  pthread_mutex_unlock(&lock);
}

void dsc_remote_break(dsc_remote *remote, const char *reason) {
  pthread_mutex_lock(&lock);
  break_locked(remote, reason);
  pthread_mutex_unlock(&lock);
}

void dsc_remote_channel_ended(dsc_remote *remote, const char *reason) {
  pthread_mutex_lock(&lock);
  const dsc_status_line *line = dsc_segment_status(remote->engine->segment.header, remote->worker);
  if (reason != NULL && !remote->process_ended && dsc_load_acquire(&line->ended) == 0) {
    break_locked(remote, reason); /* it broke the protocol, or we cannot serve it */
  } else {
    pipe_ended(remote);
    dsc_event_set(wake); /* a deadline may be new */
  }
  pthread_mutex_unlock(&lock);
}
