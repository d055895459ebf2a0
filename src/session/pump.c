/* A worker that is not on the shared memory has two threads of ours that stand for it there. One reads the ring as that
 * worker's reader, applies skipping and sends; the other takes what comes back and writes the worker's status line and
 * replies. So nothing above knows the difference, and nothing blocks under the session's lock. */
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

#include "base/clock.h"
#include "base/inject.h"
#include "base/memory.h"
#include "ffi/error.h"
#include "os/pipe.h"
#include "os/thread.h"
#include "session/remote.h"
#include "worker/reply_port.h"
#include "worker/side.h"
#include "worker/skip.h"

enum { WINDOW = 1024 }; /* commands under way in the channel */

struct dsc_pump {
  dsc_remote *remote;
  dsc_engine *engine;
  dsc_segment_header *segment;
  dsc_status_line *line;
  disco_channel *channel;
  pthread_t sender, receiver;
  bool sender_runs, receiver_runs;
  _Atomic bool stop;
  /* the sender's */
  dsc_ring_reader ring;
  dsc_patience patience;
  dsc_skip skip;
  char *frame;
  size_t frame_bytes;
  _Atomic uint64_t sent; /* sequence of the last command sent */
  _Atomic uint32_t names[WINDOW], messages[WINDOW];
  /* the receiver's */
  dsc_reply_port replies;
  dsc_patience reply_patience;
  dsc_announcer announcer;
};

/* ---- Sending ---- */

typedef struct {
  dsc_wait wait;
  dsc_pump *pump;
} pump_wait;

typedef struct {
  dsc_guard guard;
  dsc_pump *pump;
} pump_guard;

static disco_status check_stop(dsc_guard *guard) {
  dsc_pump *pump = ((pump_guard *)guard)->pump;
  bool over = dsc_load_acquire(&pump->stop) || dsc_load_acquire(&pump->segment->fault) == DSC_FAULT_GRACE;
  return over ? DISCO_CLOSED : DISCO_OK;
}

/* There is something to send, and the window is open. */
static bool may_send(dsc_wait *wait) {
  dsc_pump *pump = ((pump_wait *)wait)->pump;
  return dsc_ring_has_news(&pump->ring) &&
         dsc_load_relaxed(&pump->sent) - dsc_load_acquire(&pump->line->done) < WINDOW; /* acquire: status.done */
}

static disco_status wait_for_commands(dsc_pump *pump) {
  pump_wait wait = {{.ready = may_send, .doorbell = &pump->segment->commands}, pump};
  pump_guard guard = {{.check = check_stop, .deadline_ns = DSC_NO_DEADLINE}, pump};
  return dsc_wait_until(&wait.wait, &pump->patience, &guard.guard);
}

/* As the worker would, if it saw the others' status lines. Returns the cause, 0: run it. */
static uint64_t skip_cause(dsc_pump *pump, const dsc_record *record) {
  if (record->message == DSC_MESSAGE_Resume) dsc_skip_resume(&pump->skip, record->sequence);
  uint64_t cause = dsc_skip_cause(&pump->skip, pump->segment, record->sequence);
  return dsc_message_skippable(record->message) ? cause : 0;
}

/* Addresses mean nothing there, and are nobody's business. */
static void hide_addresses(dsc_record *record) {
  dsc_slot_walk walk = dsc_slot_walk_of(record + 1, record->num_args);
  for (TVMFFIAny *slot; (slot = dsc_slot_next(&walk)) != NULL;)
    if (dsc_is_object(slot)) slot->v_obj = NULL;
}

static disco_status make_room(dsc_pump *pump, size_t bytes) {
  if (bytes <= pump->frame_bytes) return DISCO_OK;
  free(pump->frame);
  pump->frame_bytes = 0;
  pump->frame = dsc_alloc_aligned(DSC_CACHE_LINE, bytes, "a frame");
  if (pump->frame == NULL) return DISCO_MEMORY;
  pump->frame_bytes = bytes;
  return DISCO_OK;
}

/* Descriptors may be short for a moment: try for a second. */
static disco_status open_side(const dsc_record *record, dsc_side **ret_side) {
  enum { TRIES = 50 };
  const struct timespec pause = {0, 20 * 1000000};
  for (int i = 0;; i++) {
    disco_status status = dsc_side_open(dsc_record_side(record), ret_side);
    if (status == DISCO_OK || i == TRIES) return status;
    (void)nanosleep(&pause, NULL);
  }
}

/* The command as one frame: header, record, the bytes of its side file. */
static disco_status build_frame(dsc_pump *pump, const dsc_record *record, size_t *ret_size) {
  size_t used = sizeof(*record) + (size_t)record->num_slots * DSC_SLOT_BYTES + (size_t)record->num_releases * 4;
  size_t record_bytes = (used + 15) & ~(size_t)15, side_bytes = 0;
  dsc_side *side = NULL;
  disco_status status = DISCO_OK;
  uint64_t cause = skip_cause(pump, record);
  if ((record->flags & DSC_RECORD_SIDE) && cause == 0) {
    status = open_side(record, &side);
    if (status == DISCO_OK) side_bytes = side->bytes;
  }
  size_t size = sizeof(dsc_command_frame) + record_bytes + side_bytes;
  if (status == DISCO_OK) status = make_room(pump, size);
  if (status == DISCO_OK) {
    dsc_command_frame *frame = (dsc_command_frame *)pump->frame;
    dsc_record *copy = (dsc_record *)(frame + 1);
    dsc_frame_begin(&frame->head, DSC_FRAME_Command, size, pump->segment->session, pump->remote->worker,
                    record->sequence);
    frame->skip_cause = cause;
    frame->record_bytes = record_bytes;
    frame->side_bytes = side_bytes;
    memcpy(copy, record, used);
    memset((char *)copy + used, 0, record_bytes - used);
    hide_addresses(copy);
    if (side != NULL) memcpy((char *)copy + record_bytes, side->base, side_bytes);
    *ret_size = size;
  }
  dsc_side_unref(side);
  return status;
}

/* Step over the record, unless the monitor has taken this reader off the ring. */
static bool advance(dsc_pump *pump, const dsc_record *record) {
  uint64_t before = dsc_load_relaxed(&pump->line->position);
  if (before == UINT64_MAX) return false;
  pump->ring.position += record->frame;
  if (!dsc_cas(&pump->line->position, &before, pump->ring.position)) return false;
  dsc_fence(); /* room made, then look who waits for it */
  if (pump->ring.position >= dsc_load_relaxed(&pump->line->awaited_position)) {
    atomic_store(&pump->line->awaited_position, UINT64_MAX);
    dsc_doorbell_ring(&pump->segment->controllers);
  }
  return true;
}

/* In the status line: the worker runs `sequence` now. The sender says so when the command before it is done already,
 * the receiver when that becomes done later. Each stores its number, then looks at the other's, so that one of them at
 * least sees both; when both do they say the same. Nobody says it too late: the command leaves after the sender looked,
 * and the receiver is the one that hears of its end. */
static void say_running(dsc_pump *pump, uint64_t sequence) {
  dsc_store_relaxed(&pump->line->function, dsc_load_relaxed(&pump->names[sequence % WINDOW]));
  dsc_store_relaxed(&pump->line->message, dsc_load_relaxed(&pump->messages[sequence % WINDOW]));
  dsc_store_relaxed(&pump->line->since_ns, dsc_clock_coarse_ns());
}

static disco_status send_one(dsc_pump *pump, const dsc_record *record, bool *ret_last) {
  size_t size = 0;
  uint64_t sequence = record->sequence;
  disco_status status = build_frame(pump, record, &size);
  if (status != DISCO_OK) return status;
  dsc_store_relaxed(&pump->names[sequence % WINDOW], record->name);
  dsc_store_relaxed(&pump->messages[sequence % WINDOW], record->message);
  *ret_last = record->message == DSC_MESSAGE_ShutDown;
  dsc_store_release(&pump->sent, sequence);                /* before its answer can come */
  dsc_fence();                                             /* sent, then look what is done: pairs with take_done() */
  if (sequence == dsc_load_relaxed(&pump->line->done) + 1) /* it will run this next; else the receiver says so */
    say_running(pump, sequence);
  if (!advance(pump, record)) return DISCO_CLOSED;
  return pump->channel->ops->send(pump->channel, pump->frame, size);
}

static void *send_main(void *argument) {
  dsc_pump *pump = argument;
  disco_status status = DISCO_OK;
  bool last = false;
  if (pump->remote->read_fd < 0) { /* a user's channel: nobody has spoken yet */
    dsc_hello hello = dsc_hello_for(pump->engine, pump->remote->worker);
    status = pump->channel->ops->send(pump->channel, &hello, sizeof(hello));
  }
  while (status == DISCO_OK && !last) {
    status = wait_for_commands(pump);
    if (status != DISCO_OK) break;
    const dsc_record *record = dsc_ring_peek(&pump->ring);
    if (record != NULL) status = send_one(pump, record, &last);
  }
  if (status == DISCO_CLOSED) { /* the receiver hears of it, too, and may know more: where in a frame it ended */
    const struct timespec pause = {0, 10 * 1000000};
    for (int i = 0; i < 20 && !dsc_load_acquire(&pump->stop); i++) (void)nanosleep(&pause, NULL);
  }
  if (status != DISCO_OK && !dsc_load_acquire(&pump->stop))
    dsc_remote_channel_ended(pump->remote, status == DISCO_CLOSED ? NULL : disco_last_error_text());
  return NULL;
}

/* ---- Receiving ---- */

static disco_status take_done(dsc_pump *pump, const dsc_done_frame *frame) {
  dsc_status_line *line = pump->line;
  uint64_t sequence = frame->head.sequence;
  disco_status status = dsc_frame_check_done(frame);
  if (status != DISCO_OK) return status;
  if (sequence != dsc_load_relaxed(&line->done) + 1 || sequence > dsc_load_acquire(&pump->sent) ||
      frame->failed > sequence)
    return dsc_fail(DISCO_LOST, "says that command %llu is done, which is not the next one",
                    (unsigned long long)sequence);
  bool failed = frame->failed > dsc_load_relaxed(&line->failed);
  if (failed) {
    size_t room = pump->segment->error_slot_bytes - DSC_CACHE_LINE;
    dsc_error_slot_write(dsc_segment_error_slot(pump->segment, pump->remote->worker), frame + 1,
                         frame->failure_bytes < room ? frame->failure_bytes : room);
    dsc_store_release(&line->failed, frame->failed); /* release: status.failed */
    atomic_fetch_add(&pump->segment->failures, 1);   /* release: segment.failures */
  }
  dsc_store_release(&line->resumed, frame->resumed);
  dsc_store_relaxed(&line->skipped, frame->skipped);
  dsc_store_relaxed(&line->sleeps, frame->sleeps);
  /* It runs the next one now, if that was sent. */
  bool more = sequence < dsc_load_acquire(&pump->sent);
  if (more)
    say_running(pump, sequence + 1);
  else
    dsc_store_relaxed(&line->function, 0);
  bool last = dsc_load_relaxed(&pump->messages[sequence % WINDOW]) == DSC_MESSAGE_ShutDown;
  DSC_POINT("pump.before_done");
  dsc_announce(&pump->announcer, sequence, dsc_load_relaxed(&line->position), failed);
  dsc_fence(); /* done, then look once more what was sent: pairs with send_one() */
  if (!more && sequence < dsc_load_acquire(&pump->sent)) say_running(pump, sequence + 1);
  if (last) {
    dsc_store_release(&line->ended, 1); /* release: status.ended */
    dsc_doorbell_ring(&pump->segment->controllers);
  } else if (dsc_load_relaxed(&pump->sent) - sequence >= WINDOW - 1) {
    dsc_doorbell_ring(&pump->segment->commands); /* the sender may wait for the window */
  }
  return DISCO_OK;
}

static disco_status take_reply(dsc_pump *pump, const dsc_reply_frame *frame) {
  disco_status status = dsc_frame_check_reply(frame);
  if (status == DISCO_OK && (frame->head.sequence != dsc_load_relaxed(&pump->line->done) + 1 ||
                             frame->head.sequence > dsc_load_acquire(&pump->sent)))
    status = dsc_fail(DISCO_LOST, "replies to command %llu, which it does not run",
                      (unsigned long long)frame->head.sequence);
  if (status != DISCO_OK) return status;
  status = dsc_reply_send_packed(&pump->replies, frame->head.sequence, frame->outcome, frame + 1, frame->value_bytes);
  if (status == DISCO_OK) return DISCO_OK;
  /* No descriptor or memory for it here: that is the asking call's trouble, not the worker's. */
  (void)dsc_error_raise_status(status);
  TVMFFIObject *why = dsc_error_raised();
  TVMFFIAny value = why != NULL ? dsc_object_value(why) : dsc_none();
  status = dsc_reply_send(&pump->replies, frame->head.sequence, DSC_REPLY_ERROR, &value);
  dsc_value_drop(&value);
  return status;
}

static disco_status take_progress(dsc_pump *pump, const dsc_progress_frame *frame) {
  const dsc_progress progress = {frame->head.sequence, frame->done, frame->total};
  if (progress.sequence != dsc_load_relaxed(&pump->line->done) + 1 || progress.sequence > dsc_load_acquire(&pump->sent))
    return dsc_fail(DISCO_LOST, "says how far command %llu is, which it does not run",
                    (unsigned long long)progress.sequence);
  dsc_progress_store(pump->line, &progress);
  return DISCO_OK;
}

static disco_status take_answer(dsc_pump *pump, const dsc_answer *answer) {
  pump->remote->pid = answer->pid;
  dsc_store_relaxed(&pump->line->pid, answer->pid);
  dsc_store_release(&pump->remote->state, DSC_REMOTE_PIPE);
  dsc_add_relaxed(&pump->engine->pipe_workers, 1);
  dsc_doorbell_ring(&pump->segment->controllers);
  return DISCO_OK;
}

static disco_status receive_one(dsc_pump *pump) {
  const void *bytes = NULL;
  size_t size = 0;
  const uint64_t session = pump->segment->session;
  const int32_t worker = pump->remote->worker;
  disco_status status = pump->channel->ops->recv_reply(pump->channel, &bytes, &size);
  if (status != DISCO_OK) return status;
  const dsc_frame *head = bytes;
  if (size >= sizeof(*head) && dsc_load_relaxed(&pump->remote->state) == DSC_REMOTE_STARTING) {
    status = dsc_frame_check(bytes, size, DSC_FRAME_Answer, sizeof(dsc_answer), session, worker, "the worker");
    return status == DISCO_OK ? take_answer(pump, bytes) : status;
  }
  if (size >= sizeof(*head) && head->kind == DSC_FRAME_Reply) {
    status = dsc_frame_check(bytes, size, DSC_FRAME_Reply, sizeof(dsc_reply_frame), session, worker, "the worker");
    return status == DISCO_OK ? take_reply(pump, bytes) : status;
  }
  if (size >= sizeof(*head) && head->kind == DSC_FRAME_Progress) {
    status =
        dsc_frame_check(bytes, size, DSC_FRAME_Progress, sizeof(dsc_progress_frame), session, worker, "the worker");
    return status == DISCO_OK ? take_progress(pump, bytes) : status;
  }
  status = dsc_frame_check(bytes, size, DSC_FRAME_Done, sizeof(dsc_done_frame), session, worker, "the worker");
  return status == DISCO_OK ? take_done(pump, bytes) : status;
}

static void *receive_main(void *argument) {
  dsc_pump *pump = argument;
  disco_status status = DISCO_OK;
  while (status == DISCO_OK) status = receive_one(pump);
  if (!dsc_load_acquire(&pump->stop))
    dsc_remote_channel_ended(pump->remote, status == DISCO_CLOSED ? NULL : disco_last_error_text());
  return NULL;
}

/* ---- Life ---- */

disco_status dsc_pump_start(dsc_remote *remote) {
  dsc_pump *pump = dsc_alloc(sizeof(*pump), "a pump");
  if (pump == NULL) {
    remote->channel->ops->destroy(remote->channel);
    remote->channel = NULL;
    remote->read_fd = remote->write_fd = -1;
    return DISCO_MEMORY;
  }
  dsc_engine *engine = remote->engine;
  dsc_segment_header *segment = engine->segment.header;
  pump->remote = remote;
  pump->engine = engine;
  pump->segment = segment;
  pump->line = dsc_segment_status(segment, remote->worker);
  pump->channel = remote->channel;
  pump->skip = (dsc_skip)DSC_SKIP_INIT;
  dsc_ring_reader_init(&pump->ring, &segment->ring, dsc_segment_at(segment, segment->ring_offset), segment->ring_bytes);
  dsc_patience_init(&pump->patience, INT32_MAX, 0); /* never spins: a system call follows anyway */
  dsc_patience_init(&pump->reply_patience, INT32_MAX, 0);
  dsc_reply_port_init(&pump->replies, segment, remote->worker, &pump->reply_patience);
  pump->announcer = (dsc_announcer){segment, pump->line, dsc_done_look, engine};
  remote->pump = pump;
  disco_status status = dsc_thread_start("disco sender", send_main, pump, &pump->sender);
  pump->sender_runs = status == DISCO_OK;
  if (status == DISCO_OK) status = dsc_thread_start("disco receiver", receive_main, pump, &pump->receiver);
  pump->receiver_runs = status == DISCO_OK;
  return status; /* what did start is stopped with the pump */
}

void dsc_pump_stop(dsc_pump *pump) {
  if (pump == NULL) return;
  dsc_store_release(&pump->stop, true);
  pump->channel->ops->interrupt(pump->channel);
  dsc_doorbell_ring(&pump->segment->commands);
  if (pump->sender_runs) pthread_join(pump->sender, NULL);
  if (pump->receiver_runs) pthread_join(pump->receiver, NULL);
  dsc_reply_port_fini(&pump->replies);
  pump->channel->ops->destroy(pump->channel); /* its descriptors, too */
  pump->remote->channel = NULL;
  pump->remote->read_fd = pump->remote->write_fd = -1;
  free(pump->frame);
  free(pump);
}
