/* What any channel must do, whoever wrote it: the promises of disco/channel.h, for each subject. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "channel/frames.h"
#include "channel/subjects.h"
#include "disco/channel.h"

static const channel_subject *const subjects[] = {&channel_over_pipes, &channel_over_socket, &channel_of_queues};
enum { DOWN = 1, UP = 2 }; /* the two streams of frames */

static channel_pair connect(void **state) {
  const channel_subject *const *subject = *state;
  channel_pair pair = {NULL, NULL};
  (*subject)->connect(&pair);
  assert_non_null(pair.controller);
  assert_non_null(pair.worker);
  return pair;
}

static void destroy(disco_channel **channel) {
  if (*channel != NULL) (*channel)->ops->destroy(*channel);
  *channel = NULL;
}

static void disconnect(channel_pair *pair) {
  destroy(&pair->controller);
  destroy(&pair->worker);
}

/* The four slots by number. */
enum { SEND, RECV, REPLY, RECV_REPLY, SLOTS };

static disco_channel *end_of(const channel_pair *pair, int slot) {
  return slot == SEND || slot == RECV_REPLY ? pair->controller : pair->worker;
}

static disco_channel *far_end_of(const channel_pair *pair, int slot) {
  return slot == SEND || slot == RECV_REPLY ? pair->worker : pair->controller;
}

static bool is_sender(int slot) { return slot == SEND || slot == REPLY; }

static disco_status put(disco_channel *end, int slot, const void *frame, size_t size) {
  return slot == SEND ? end->ops->send(end, frame, size) : end->ops->reply(end, frame, size);
}

static disco_status take(disco_channel *end, int slot, const void **ret_frame, size_t *ret_size) {
  return slot == RECV ? end->ops->recv(end, ret_frame, ret_size) : end->ops->recv_reply(end, ret_frame, ret_size);
}

/* One call of a slot, with a small frame. */
static disco_status call(const channel_pair *pair, int slot) {
  uint8_t frame[64];
  const void *received;
  size_t size;
  frame_fill(frame, sizeof(frame), 9, 9);
  return is_sender(slot) ? put(end_of(pair, slot), slot, frame, sizeof(frame))
                         : take(end_of(pair, slot), slot, &received, &size);
}

/* ---- Frames arrive ---- */

/* What a thread of the traffic does and found. Assertions are for the main thread. */
typedef struct {
  disco_channel *end;
  uint64_t frames; /* that go down */
  bool storm;
  uint64_t bad, done; /* frames that were not as sent, frames that passed */
  disco_status status;
} traffic;

static uint64_t replies_to(uint64_t index) {
  uint64_t state = index;
  return next_random(&state) % 3;
}

static atomic_int signals;

static void count_signal(int number) {
  (void)number;
  atomic_fetch_add(&signals, 1);
}

/* A signal each millisecond for the calling thread. */
static bool storm_begin(const traffic *self, timer_t *timer) {
  if (!self->storm) return false;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
  event._sigev_un._tid = gettid();
  const struct itimerspec each = {{0, 1000000}, {0, 1000000}};
  return timer_create(CLOCK_MONOTONIC, &event, timer) == 0 && timer_settime(*timer, 0, &each, NULL) == 0;
}

static void *send_down(void *argument) {
  traffic *self = argument;
  uint8_t *frame = malloc(LARGEST_FRAME);
  timer_t timer;
  bool storm = storm_begin(self, &timer);
  for (uint64_t i = 0; i < self->frames && self->status == DISCO_OK; i++) {
    size_t size = frame_size(DOWN, i);
    frame_fill(frame, size, DOWN, i);
    self->status = self->end->ops->send(self->end, frame, size);
    memset(frame, 0xdb, size); /* ours again: what is on its way must not change */
    self->done++;
  }
  if (storm) timer_delete(timer);
  free(frame);
  return NULL;
}

static void *receive_up(void *argument) {
  traffic *self = argument;
  timer_t timer;
  bool storm = storm_begin(self, &timer);
  uint64_t expected = 0;
  for (uint64_t i = 0; i < self->frames; i++) expected += replies_to(i);
  for (uint64_t i = 0; i < expected && self->status == DISCO_OK; i++) {
    const void *frame = NULL;
    size_t size = 0;
    self->status = self->end->ops->recv_reply(self->end, &frame, &size);
    if (self->status != DISCO_OK) break;
    if (size != frame_size(UP, i) || !frame_equals(frame, size, UP, i)) self->bad++;
    self->done++;
  }
  if (storm) timer_delete(timer);
  return NULL;
}

/* The worker's one thread: takes a frame, answers it with none, one or two. */
static void *serve(void *argument) {
  traffic *self = argument;
  uint8_t *answer = malloc(LARGEST_FRAME);
  timer_t timer;
  bool storm = storm_begin(self, &timer);
  uint64_t answers = 0;
  for (uint64_t i = 0; i < self->frames && self->status == DISCO_OK; i++) {
    const void *frame = NULL;
    size_t size = 0;
    self->status = self->end->ops->recv(self->end, &frame, &size);
    if (self->status != DISCO_OK) break;
    for (uint64_t k = replies_to(i); k > 0 && self->status == DISCO_OK; k--, answers++) {
      size_t answer_size = frame_size(UP, answers);
      frame_fill(answer, answer_size, UP, answers);
      self->status = self->end->ops->reply(self->end, answer, answer_size);
      memset(answer, 0xdb, answer_size);
    }
    /* only now: it had to stay as it was while answers went out and more came in */
    if (size != frame_size(DOWN, i) || !frame_equals(frame, size, DOWN, i)) self->bad++;
    self->done++;
  }
  if (storm) timer_delete(timer);
  free(answer);
  return NULL;
}

static void run_traffic(void **state, uint64_t frames, bool storm) {
  channel_pair pair = connect(state);
  void *(*const bodies[])(void *) = {send_down, receive_up, serve};
  traffic all[3];
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) {
    all[i] = (traffic){i == 2 ? pair.worker : pair.controller, frames, storm, 0, 0, DISCO_OK};
    assert_int_equal(pthread_create(&threads[i], NULL, bodies[i], &all[i]), 0);
  }
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  uint64_t expected = 0;
  for (uint64_t i = 0; i < frames; i++) expected += replies_to(i);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(all[i].status, DISCO_OK);
    assert_int_equal(all[i].bad, 0);
    assert_int_equal(all[i].done, i == 1 ? expected : frames);
  }
  disconnect(&pair);
}

static void frames_arrive_whole_and_in_order(void **state) { run_traffic(state, 40 + 1000 / test_scale(), false); }

static void signals_disturb_nothing(void **state) {
  struct sigaction action = {.sa_handler = count_signal}, before; /* no SA_RESTART: every sleep is cut short */
  sigaction(SIGUSR1, &action, &before);
  atomic_store(&signals, 0);
  run_traffic(state, 40 + 400 / test_scale(), true);
  sigaction(SIGUSR1, &before, NULL);
  assert_true(atomic_load(&signals) > 0);
}

/* One after the other on one thread: small frames fit into any channel without somebody who takes them. */
static void the_sender_keeps_its_buffer(void **state) {
  for (int slot = SEND; slot <= REPLY; slot += 2) {
    channel_pair pair = connect(state);
    disco_channel *from = end_of(&pair, slot), *to = far_end_of(&pair, slot);
    int taking = slot == SEND ? RECV : RECV_REPLY;
    uint8_t frame[100];
    for (uint64_t i = 0; i < 2; i++) {
      frame_fill(frame, sizeof(frame), DOWN, i);
      assert_int_equal(put(from, slot, frame, sizeof(frame)), DISCO_OK);
      memset(frame, 0, sizeof(frame));
    }
    const void *first = NULL, *second = NULL;
    size_t size = 0;
    assert_int_equal(take(to, taking, &first, &size), DISCO_OK);
    assert_int_equal(size, sizeof(frame));
    assert_true(frame_equals(first, size, DOWN, 0));
    frame_fill(frame, sizeof(frame), DOWN, 2);
    assert_int_equal(put(from, slot, frame, sizeof(frame)), DISCO_OK);
    assert_true(frame_equals(first, size, DOWN, 0)); /* until the next call of this slot */
    assert_int_equal(take(to, taking, &second, &size), DISCO_OK);
    assert_true(frame_equals(second, size, DOWN, 1));
    assert_int_equal(take(to, taking, &second, &size), DISCO_OK);
    assert_true(frame_equals(second, size, DOWN, 2));
    disconnect(&pair);
  }
}

/* What was received may be sent on as it is. */
static void a_received_frame_can_be_the_answer(void **state) {
  channel_pair pair = connect(state);
  uint8_t frame[1000];
  const void *received = NULL;
  size_t size = 0;
  frame_fill(frame, sizeof(frame), UP, 5);
  assert_int_equal(pair.controller->ops->send(pair.controller, frame, sizeof(frame)), DISCO_OK);
  assert_int_equal(pair.worker->ops->recv(pair.worker, &received, &size), DISCO_OK);
  assert_int_equal(pair.worker->ops->reply(pair.worker, received, size), DISCO_OK);
  assert_true(frame_equals(received, size, UP, 5));
  assert_int_equal(pair.controller->ops->recv_reply(pair.controller, &received, &size), DISCO_OK);
  assert_int_equal(size, sizeof(frame));
  assert_true(frame_equals(received, size, UP, 5));
  disconnect(&pair);
}

/* ---- Interrupt ---- */

/* Calls its slot until that ends: a receiver waits for the first frame, a sender until the channel is full. */
typedef struct {
  disco_channel *end;
  int slot;
  _Atomic uint64_t calls; /* begun */
  disco_status status;
  size_t frame_size;
  char said[200];
} caller;

static void *call_until_the_end(void *argument) {
  caller *self = argument;
  uint8_t *frame = malloc(self->frame_size);
  frame_fill(frame, self->frame_size, 1, 1);
  do {
    const void *received;
    size_t size;
    atomic_fetch_add(&self->calls, 1);
    self->status = is_sender(self->slot) ? put(self->end, self->slot, frame, self->frame_size)
                                         : take(self->end, self->slot, &received, &size);
  } while (self->status == DISCO_OK);
  strncpy(self->said, disco_last_error_text(), sizeof(self->said) - 1);
  free(frame);
  return NULL;
}

/* Until it has begun and stands still: it blocks, or at least it will. */
static void wait_until_it_blocks(caller *who) {
  uint64_t before;
  do {
    before = atomic_load(&who->calls);
    nap_ms(10);
  } while (before == 0 || atomic_load(&who->calls) != before);
}

static void caller_start(caller *who, const channel_pair *pair, int slot, size_t size, pthread_t *thread) {
  *who = (caller){.end = end_of(pair, slot), .slot = slot, .frame_size = size};
  assert_int_equal(pthread_create(thread, NULL, call_until_the_end, who), 0);
}

static void interrupt_wakes_a_blocked_call(void **state) {
  const size_t sizes[] = {64, 70000, 3 << 20};
  for (int slot = 0; slot < SLOTS; slot++)
    for (int i = 0; i < (is_sender(slot) ? 3 : 1); i++) {
      channel_pair pair = connect(state);
      pthread_t thread;
      caller who;
      caller_start(&who, &pair, slot, sizes[i], &thread);
      wait_until_it_blocks(&who);
      who.end->ops->interrupt(who.end);
      pthread_join(thread, NULL);
      assert_int_equal(who.status, DISCO_CLOSED);
      assert_true(who.said[0] != '\0');
      for (int k = 0; k < 2; k++) { /* both slots of this end, and it stays so */
        assert_int_equal(call(&pair, slot), DISCO_CLOSED);
        assert_int_equal(call(&pair, SLOTS - 1 - slot), DISCO_CLOSED);
        who.end->ops->interrupt(who.end);
      }
      disconnect(&pair);
    }
}

/* At any moment, not only when it blocks. */
static void interrupt_ends_a_busy_call(void **state) {
  uint64_t random = 4711;
  for (int round = 0; round < 4 + 100 / test_scale(); round++) {
    channel_pair pair = connect(state);
    pthread_t threads[2];
    caller all[2];
    bool down = round % 2 == 0;
    caller_start(&all[0], &pair, down ? SEND : REPLY, 8 + next_random(&random) % 100000, &threads[0]);
    caller_start(&all[1], &pair, down ? RECV : RECV_REPLY, 8, &threads[1]);
    struct timespec time = {0, (long)(next_random(&random) % 2000000)};
    nanosleep(&time, NULL);
    int first = (int)(next_random(&random) % 2);
    all[first].end->ops->interrupt(all[first].end);
    pthread_join(threads[first], NULL);
    assert_int_equal(all[first].status, DISCO_CLOSED);
    all[!first].end->ops->interrupt(all[!first].end);
    pthread_join(threads[!first], NULL);
    assert_int_equal(all[!first].status, DISCO_CLOSED);
    disconnect(&pair);
  }
}

static void interrupt_before_a_call_counts(void **state) {
  for (int slot = 0; slot < SLOTS; slot++) {
    channel_pair pair = connect(state);
    int opposite = slot ^ 1;                                                 /* SEND and RECV, REPLY and RECV_REPLY */
    if (!is_sender(slot)) assert_int_equal(call(&pair, opposite), DISCO_OK); /* something is there; even so */
    end_of(&pair, slot)->ops->interrupt(end_of(&pair, slot));
    assert_int_equal(call(&pair, slot), DISCO_CLOSED);
    disconnect(&pair);
  }
}

/* The controller's two threads, both blocked. */
static void one_interrupt_wakes_both_threads(void **state) {
  channel_pair pair = connect(state);
  pthread_t threads[2];
  caller all[2];
  caller_start(&all[0], &pair, SEND, 5000, &threads[0]);
  caller_start(&all[1], &pair, RECV_REPLY, 8, &threads[1]);
  for (int i = 0; i < 2; i++) wait_until_it_blocks(&all[i]);
  pair.controller->ops->interrupt(pair.controller);
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(all[i].status, DISCO_CLOSED);
  }
  disconnect(&pair);
}

/* An interrupt is this end's own affair: the other one sees it only when this end is destroyed. */
static void the_other_end_is_not_interrupted(void **state) {
  for (int slot = SEND; slot <= REPLY; slot += 2) {
    channel_pair pair = connect(state);
    assert_int_equal(call(&pair, slot), DISCO_OK);
    disco_channel *near = end_of(&pair, slot);
    near->ops->interrupt(near);
    assert_int_equal(call(&pair, slot ^ 1), DISCO_OK); /* what was sent before arrives */
    if (near == pair.controller) {
      destroy(&pair.controller);
    } else {
      destroy(&pair.worker);
    }
    assert_int_equal(call(&pair, slot ^ 1), DISCO_CLOSED);
    disconnect(&pair);
  }
}

/* ---- The other end goes ---- */

static void a_closed_peer_is_closed_and_stays_so(void **state) {
  for (int side = 0; side < 2; side++) {
    channel_pair pair = connect(state);
    const int sends = side == 0 ? SEND : REPLY, takes = side == 0 ? RECV_REPLY : RECV;
    disco_channel **gone = side == 0 ? &pair.worker : &pair.controller;
    assert_int_equal(call(&pair, side == 0 ? REPLY : SEND), DISCO_OK); /* its last words ... */
    assert_int_equal(call(&pair, sends), DISCO_OK);                    /* ... and one that it never took */
    destroy(gone);
    assert_int_equal(call(&pair, takes), DISCO_OK); /* ... still arrive */
    for (int i = 0; i < 3; i++) {
      assert_int_equal(call(&pair, takes), DISCO_CLOSED);
      assert_true(disco_last_error_text()[0] != '\0');
      assert_int_equal(call(&pair, sends), DISCO_CLOSED);
      assert_true(disco_last_error_text()[0] != '\0');
    }
    disconnect(&pair);
  }
}

/* A peer that goes while a call blocks. Receivers wait between two frames; a sender may be in the middle of one. */
static void a_closing_peer_wakes_a_blocked_call(void **state) {
  for (int slot = 0; slot < SLOTS; slot++) {
    channel_pair pair = connect(state);
    pthread_t thread;
    caller who;
    caller_start(&who, &pair, slot, 70000, &thread);
    wait_until_it_blocks(&who);
    destroy(far_end_of(&pair, slot) == pair.worker ? &pair.worker : &pair.controller);
    pthread_join(thread, NULL);
    if (who.status != DISCO_LOST || !is_sender(slot)) assert_int_equal(who.status, DISCO_CLOSED);
    assert_int_equal(call(&pair, slot), who.status);
    disconnect(&pair);
  }
}

static void an_ops_table_is_whole(void **state) {
  channel_pair pair = connect(state);
  const disco_channel *ends[] = {pair.controller, pair.worker};
  for (int i = 0; i < 2; i++) {
    const disco_channel_ops *ops = ends[i]->ops;
    assert_true(ops->struct_size >= sizeof(disco_channel_ops));
    assert_true(ops->send != NULL && ops->recv != NULL && ops->reply != NULL && ops->recv_reply != NULL);
    assert_true(ops->interrupt != NULL && ops->destroy != NULL);
  }
  disconnect(&pair); /* without ever having been used */
}

/* What a channel of one's own says reaches its caller. */
static void disco_fail_leaves_the_sentence(void **state) {
  (void)state;
  assert_int_equal(disco_fail(DISCO_LOST, "frame %d of %s", 7, "mine"), DISCO_LOST);
  disco_error_info info = {.struct_size = sizeof(info)};
  assert_int_equal(disco_last_error(&info), DISCO_OK);
  assert_int_equal(info.status, DISCO_LOST);
  assert_string_equal(info.kind, "WorkerLostError");
  assert_string_equal(info.message, "frame 7 of mine");
  assert_string_equal(disco_last_error_text(), "frame 7 of mine");
  assert_int_equal(disco_fail(DISCO_OK, "nothing"), DISCO_OK);
  assert_string_equal(disco_last_error_text(), "frame 7 of mine");
  assert_int_equal(disco_fail(DISCO_VALUE, "again: %s", disco_last_error_text()), DISCO_VALUE);
  assert_string_equal(disco_last_error_text(), "again: frame 7 of mine");
}

#define FOR_SUBJECT(test, i, name) \
  { #test ", over " name, test, NULL, NULL, (void *)&subjects[i] }
#define FOR_EACH_SUBJECT(test) \
  FOR_SUBJECT(test, 0, "pipes"), FOR_SUBJECT(test, 1, "a socket"), FOR_SUBJECT(test, 2, "queues in memory")

int main(void) {
  const struct CMUnitTest tests[] = {
      FOR_EACH_SUBJECT(an_ops_table_is_whole),
      FOR_EACH_SUBJECT(frames_arrive_whole_and_in_order),
      FOR_EACH_SUBJECT(signals_disturb_nothing),
      FOR_EACH_SUBJECT(the_sender_keeps_its_buffer),
      FOR_EACH_SUBJECT(a_received_frame_can_be_the_answer),
      FOR_EACH_SUBJECT(interrupt_wakes_a_blocked_call),
      FOR_EACH_SUBJECT(interrupt_ends_a_busy_call),
      FOR_EACH_SUBJECT(interrupt_before_a_call_counts),
      FOR_EACH_SUBJECT(one_interrupt_wakes_both_threads),
      FOR_EACH_SUBJECT(the_other_end_is_not_interrupted),
      FOR_EACH_SUBJECT(a_closed_peer_is_closed_and_stays_so),
      FOR_EACH_SUBJECT(a_closing_peer_wakes_a_blocked_call),
      cmocka_unit_test(disco_fail_leaves_the_sentence),
  };
  alarm(110);
  return cmocka_run_group_tests_name("channel.conformance", tests, NULL, NULL);
}
