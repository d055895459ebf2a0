/* Replies: of workers that do not keep to the protocol, without descriptors to take them in, and those that nobody
 * fetches; and large arguments that wait for others. */
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "disco/channel.h"
#include "processes/support.h"
#include "wire/frame.h"
#include "wire/limits.h"

enum { FOR_EVER_MS = 1000 * 1000, SMALL_GRACE_MS = 300 };

/* ---- Workers that lie ---- */

typedef enum {
  HONEST,
  ERROR_WITH_TEXT,
  TWICE,
  FOR_ANOTHER,
  UNASKED,
  ANOTHER_NUMBER,
  OLD_NUMBER,
  NO_OUTCOME,
  LIES,
  SILENT
} lie;

/* A thread that is a worker, but for its replies. */
typedef struct {
  disco_channel channel;
  disco_channel *inner;
  lie lie;
  int32_t id, num_workers;
  dsc_reply_frame *again; /* UNASKED: its last reply, with another text */
  beside thread;
} liar;

static disco_status liar_recv(disco_channel *self, const void **ret_frame, size_t *ret_size) {
  disco_channel *inner = ((liar *)self)->inner;
  return inner->ops->recv(inner, ret_frame, ret_size);
}

static disco_status liar_reply(disco_channel *channel, const void *frame, size_t size) {
  liar *self = (liar *)channel;
  dsc_reply_frame *reply = malloc(size);
  if (reply == NULL) return DISCO_MEMORY;
  memcpy(reply, frame, size);
  disco_status status = DISCO_OK;
  if (self->again != NULL && reply->head.kind == DSC_FRAME_Done) {
    self->again->head.sequence = reply->head.sequence;
    status = self->inner->ops->reply(self->inner, self->again, (size_t)self->again->head.size);
  }
  if (self->lie == UNASKED && reply->head.kind == DSC_FRAME_Reply && self->again == NULL &&
      (self->again = malloc(size)) != NULL) {
    memcpy(self->again, frame, size);
    for (char *at = (char *)(self->again + 1), *end = (char *)self->again + size; at < end; at++)
      if (*at == 'x') *at = 'y';
  }
  if (reply->head.kind == DSC_FRAME_Reply) {
    if (self->lie == ERROR_WITH_TEXT) reply->outcome = DSC_REPLY_ERROR;
    if (self->lie == SILENT) {
      free(reply);
      return DISCO_OK;
    }
    if (self->lie == TWICE || self->lie == FOR_ANOTHER) status = self->inner->ops->reply(self->inner, reply, size);
    if (self->lie == ANOTHER_NUMBER) reply->head.sequence += 1000;
    if (self->lie == OLD_NUMBER) reply->head.sequence--;
    if (self->lie == NO_OUTCOME) reply->outcome = 77;
  }
  if (status == DISCO_OK) status = self->inner->ops->reply(self->inner, reply, size);
  free(reply);
  return status;
}

static void liar_interrupt(disco_channel *self) { ((liar *)self)->inner->ops->interrupt(((liar *)self)->inner); }
static void liar_destroy(disco_channel *self) { (void)self; }

static const disco_channel_ops liar_ops = {.struct_size = sizeof(disco_channel_ops),
                                           .recv = liar_recv,
                                           .reply = liar_reply,
                                           .interrupt = liar_interrupt,
                                           .destroy = liar_destroy};

static void be_liar(void *context) {
  liar *self = context;
  (void)!disco_worker_run_channel(self->id, self->num_workers, 1, &self->channel);
}

/* Returns the controller's end. */
static disco_channel *start_liar(liar *self, int32_t id, int32_t num_workers, lie what) {
  int commands[2], answers[2];
  disco_channel *end = NULL;
  assert_int_equal(pipe(commands), 0);
  assert_int_equal(pipe(answers), 0);
  *self = (liar){.channel = {&liar_ops}, .lie = what, .id = id, .num_workers = num_workers};
  OK(disco_pipe_channel_create(commands[0], answers[1], &self->inner));
  OK(disco_pipe_channel_create(answers[0], commands[1], &end));
  start_beside(&self->thread, be_liar, self);
  return end;
}

static void end_liar(liar *self) {
  join_bounded(&self->thread, "a worker of a channel");
  self->inner->ops->destroy(self->inner);
  free(self->again);
}

/* Worker 2 lies; what it says must not pass for what worker 1 says, which comes later or (FOR_ANOTHER) never. */
static void get_from_liars(lie what) {
  enum { WORKERS = 3, SIZE = 500 };
  liar workers[WORKERS - 1];
  disco_channel *channels[WORKERS - 1];
  for (int i = 0; i < WORKERS - 1; i++)
    channels[i] = start_liar(&workers[i], i + 1, WORKERS, i == 1 ? what : what == FOR_ANOTHER ? SILENT : HONEST);
  disco_session_options options = options_of(WORKERS, false);
  options.channels = channels;
  disco_session *session = open_with(&options);
  disco_dref *text = call(session, "p.text", ARGS(dsc_int(SIZE)));
  await_all(session);
  post(session, "p.nap", ARGS(dsc_int(50), dsc_int(1)));
  TVMFFIAny values[WORKERS] = {dsc_none(), dsc_none(), dsc_none()};
  disco_error_info error = {.struct_size = sizeof(error)};
  disco_status status = disco_debug_get_all(text, BOUND_MS, WORKERS, values);
  if (status == DISCO_OK) { /* one of two equal answers is as good as the other */
    assert_true(what == HONEST || what == TWICE || what == UNASKED);
    for (int i = 0; i < WORKERS; i++) {
      assert_true(is_text_of(&values[i], SIZE));
      dsc_value_drop(&values[i]);
    }
    post(session, "p.nap", ARGS(dsc_int(50), dsc_int(1)));
    OK(disco_debug_get(text, 1, BOUND_MS, &values[1]));
    assert_true(is_text_of(&values[1], SIZE));
    dsc_value_drop(&values[1]);
  } else if (what == ERROR_WITH_TEXT || what == FOR_ANOTHER) { /* there is no answer, and that is all to be said */
    assert_int_not_equal(status, DISCO_TIMEOUT);
    assert_true(disco_last_error_text()[0] != '\0');
  } else {
    assert_int_not_equal(what, HONEST);
    assert_int_equal(status, DISCO_LOST);
    assert_int_equal(disco_last_error(&error), DISCO_OK);
    assert_int_equal(error.worker, 2);
    CONTAINS(error.text, "worker 2");
  }
  disco_dref_unref(text);
  end_session(session);
  for (int i = 0; i < WORKERS - 1; i++) end_liar(&workers[i]);
}

static void replies_against_the_protocol_are_errors(void **state) {
  (void)state;
  for (lie what = HONEST; what < LIES; what++) get_from_liars(what);
}

/* ---- Replies that nobody fetches ---- */

enum { THREADS, RING, PIPE, KINDS };

static disco_session *open_kind(int kind, int32_t workers) {
  disco_session_options options = options_of(workers, kind == PIPE);
  disco_session *session = NULL;
  options.grace_ms = SMALL_GRACE_MS;
  if (kind != THREADS) return open_with(&options);
  OK(disco_session_create_threaded(&options, &session));
  return session;
}

static void the_done_descriptor_tells_behind_replies_that_nobody_fetches(void **state) {
  (void)state;
  for (int kind = THREADS; kind < KINDS; kind++) {
    disco_session *session = open_kind(kind, 2);
    disco_dref *text = call(session, "p.text", ARGS(dsc_int(900)));
    await_all(session);
    post(session, "p.nap", ARGS(dsc_int(200), dsc_int(1)));
    for (int i = 0; i < 2 * DSC_REPLY_RING_BYTES / 64; i++) { /* of a thread: an address each */
      TVMFFIAny value = dsc_none();
      assert_int_equal(disco_debug_get(text, 1, 0, &value), DISCO_TIMEOUT);
    }
    struct pollfd done = {-1, POLLIN, 0};
    OK(disco_session_done_fd(session, &done.fd));
    OK(disco_session_arm_done(session, disco_session_sequence(session)));
    assert_int_equal(poll(&done, 1, BOUND_MS), 1);
    disco_dref_unref(text);
    close_session(session);
  }
}

/* ---- No descriptors ---- */

typedef struct {
  disco_dref *dref;
  disco_status status;
  char text[1024];
} getting;

static void run_get(void *context) {
  getting *self = context;
  TVMFFIAny value = dsc_none();
  self->status = disco_debug_get(self->dref, 1, BOUND_MS / 2, &value);
  (void)snprintf(self->text, sizeof(self->text), "%s", self->status == DISCO_OK ? "" : disco_last_error_text());
  dsc_value_drop(&value);
}

static void a_large_reply_without_descriptors_fails_its_call_alone(void **state) {
  (void)state;
  enum { SIZE = 200 * 1000, LIMIT = 256 };
  for (int kind = RING; kind < KINDS; kind++) {
    disco_session *session = open_kind(kind, 2);
    disco_dref *text = call(session, "p.text", ARGS(dsc_int(SIZE)));
    getting it = {text, DISCO_OK, ""};
    int held[LIMIT], count = 0;
    await_all(session);
    struct rlimit before, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){LIMIT, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (count < LIMIT && (held[count] = dup(0)) >= 0) count++;
    run_bounded(run_get, &it, "a read without descriptors");
    while (count > 0) (void)close(held[--count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_not_equal(it.status, DISCO_OK);
    assert_int_not_equal(it.status, DISCO_LOST);
    CONTAINS(it.text, "EMFILE");
    /* That was all. */
    TVMFFIAny value = dsc_none();
    OK(disco_debug_get(text, 1, BOUND_MS, &value));
    assert_true(is_text_of(&value, SIZE));
    dsc_value_drop(&value);
    await_all(session);
    disco_dref_unref(text);
    close_session(session);
  }
}

/* ---- Large arguments that wait ---- */

typedef struct {
  disco_dref *dref;
  const TVMFFIAny *value;
  disco_status status;
} setting;

static void run_set(void *context) {
  setting *self = context;
  self->status = disco_debug_set(self->dref, 1, self->value, 100);
}

static void debug_set_keeps_its_deadline_behind_large_arguments(void **state) {
  (void)state;
  for (int kind = RING; kind < KINDS; kind++) {
    disco_session *session = open_kind(kind, 2);
    TVMFFIAny large = text_of(200 * 1000), one = dsc_int(1);
    disco_dref *dref = NULL, *nop = find(session, "p.nop");
    OK(disco_session_put(session, &one, &dref));
    post(session, "p.nap", ARGS(dsc_int(FOR_EVER_MS), dsc_int(1)));
    for (int i = 0; i < DSC_MAX_SIDE_FILES; i++) OK(disco_call(session, nop, &large, 1, NULL));
    setting it = {dref, &large, DISCO_OK};
    run_bounded(run_set, &it, "debug_set with a deadline");
    assert_int_equal(it.status, DISCO_TIMEOUT);
    dsc_value_drop(&large);
    disco_dref_unref(nop);
    disco_dref_unref(dref);
    end_session(session);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(replies_against_the_protocol_are_errors),
      cmocka_unit_test(the_done_descriptor_tells_behind_replies_that_nobody_fetches),
      cmocka_unit_test(a_large_reply_without_descriptors_fails_its_call_alone),
      cmocka_unit_test(debug_set_keeps_its_deadline_behind_large_arguments),
  };
  return processes_main(argc, argv, "processes.replies", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
