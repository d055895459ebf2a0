/* A session over a user's own transport: each worker is a thread of this program at the other end of a channel. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "channel/subjects.h"
#include "disco/disco.h"
#include "disco/worker.h"
#include "ffi/value.h"

enum { WORKERS = 3, BOUND_MS = 5000 };

static void check(disco_status status, const char *what, int line) {
  if (status == DISCO_OK) return;
  print_error("line %d: %s: %s\n", line, what, disco_last_error_text());
  fail();
}
#define OK(call) check((call), #call, __LINE__)

/* ---- Functions on workers ---- */

static int rank(void) {
  disco_worker_info me = {.struct_size = sizeof(me)};
  return disco_worker_get_info(&me) == DISCO_OK ? me.worker_id : -1;
}

static int echo(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 1) return disco_raise("TypeError", "test.echo takes one argument");
  *result = dsc_value_copy(&args[0]);
  return 0;
}

static int raise_on_2(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return rank() == 2 ? disco_raise("KeyError", "not on worker 2") : 0;
}

/* ---- Workers ---- */

typedef struct {
  int32_t id;
  disco_channel *end;
  pthread_t thread;
  disco_status result;
} worker_end;

static void *worker_main(void *argument) {
  worker_end *self = argument;
  self->result = disco_worker_run_channel(self->id, WORKERS, 1, self->end);
  return NULL;
}

typedef struct {
  disco_session *session;
  worker_end workers[WORKERS];
} fixture;

static void open_session(fixture *f, const channel_subject *subject) {
  disco_channel *ends[WORKERS - 1];
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(WORKERS, 1);
  options.arena_bytes = 64 << 20;
  options.channels = ends;
  for (int32_t i = 1; i < WORKERS; i++) {
    channel_pair pair;
    subject->connect(&pair);
    ends[i - 1] = pair.controller;
    f->workers[i] = (worker_end){.id = i, .end = pair.worker};
    assert_int_equal(pthread_create(&f->workers[i].thread, NULL, worker_main, &f->workers[i]), 0);
  }
  OK(disco_session_create_process(&options, &f->session));
}

static void join_workers(fixture *f, disco_status expected) {
  for (int32_t i = 1; i < WORKERS; i++) {
    assert_int_equal(pthread_join(f->workers[i].thread, NULL), 0);
    assert_int_equal(f->workers[i].result, expected);
    f->workers[i].end->ops->destroy(f->workers[i].end);
  }
}

static disco_dref *call(fixture *f, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *function = NULL, *result = NULL;
  OK(disco_session_get_global_func(f->session, name, &function));
  OK(disco_call(f->session, function, args, num_args, &result));
  disco_dref_unref(function);
  return result;
}

/* ---- Tests ---- */

static void expect_values(fixture *f) {
  char *long_text = malloc(300001);
  memset(long_text, 'x', 300000);
  long_text[300000] = 0;
  const char *const texts[] = {"", "short", "a text with a body", long_text};
  for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
    TVMFFIAny text = dsc_none(), back = dsc_none();
    assert_int_equal(dsc_value_from_string(texts[i], strlen(texts[i]), &text), DISCO_OK);
    disco_dref *result = call(f, "test.echo", &text, 1);
    for (int32_t w = 0; w < WORKERS; w++) {
      TVMFFIByteArray bytes;
      OK(disco_debug_get(result, w, BOUND_MS, &back));
      assert_true(dsc_value_string(&back, &bytes));
      assert_int_equal(bytes.size, strlen(texts[i]));
      assert_memory_equal(bytes.data, texts[i], bytes.size);
      dsc_value_drop(&back);
    }
    disco_dref_unref(result);
    dsc_value_drop(&text);
  }
  free(long_text);
}

/* 5 MiB there and back. */
static void expect_tensor(fixture *f) {
  const int64_t size = 5 << 20;
  TVMFFIObjectHandle tensor = NULL;
  OK(disco_tensor_create(1, &size, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor));
  uint8_t *data = ((DLTensor *)((TVMFFIObject *)tensor + 1))->data;
  for (int64_t i = 0; i < size; i++) data[i] = (uint8_t)(i * 31);
  TVMFFIAny value = dsc_object_value(tensor), back = dsc_none();
  disco_dref *result = call(f, "test.echo", &value, 1);
  OK(disco_debug_get(result, 2, BOUND_MS, &back));
  assert_int_equal(back.type_index, kTVMFFITensor);
  assert_ptr_not_equal(back.v_obj, tensor);
  assert_memory_equal(((DLTensor *)(back.v_obj + 1))->data, data, (size_t)size);
  dsc_value_drop(&back);
  const TVMFFIAny number = dsc_int(77);
  OK(disco_debug_set(result, 1, &number, BOUND_MS));
  OK(disco_debug_get(result, 1, BOUND_MS, &back));
  assert_int_equal(back.v_int64, 77);
  disco_dref_unref(result);
  dsc_object_unref(tensor);
}

static void expect_error(fixture *f) {
  disco_error_info error = {.struct_size = sizeof(error)};
  disco_dref_unref(call(f, "test.raise_on_2", NULL, 0));
  assert_int_equal(disco_session_sync(f->session, DISCO_ALL_WORKERS, BOUND_MS), DISCO_RAISED);
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_string_equal(error.kind, "KeyError");
  assert_string_equal(error.function, "test.raise_on_2");
  assert_int_equal(error.worker, 2);
  OK(disco_session_sync(f->session, DISCO_ALL_WORKERS, BOUND_MS)); /* told once */
}

static void drive(const channel_subject *subject) {
  fixture f;
  open_session(&f, subject);
  for (int round = 0; round < 3; round++) {
    expect_values(&f);
    expect_error(&f);
  }
  expect_tensor(&f);
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  OK(disco_session_get_stats(f.session, &stats));
  assert_int_equal(stats.pipe_workers, WORKERS - 1);
  OK(disco_session_shutdown(f.session));
  disco_session_unref(f.session);
  join_workers(&f, DISCO_OK);
}

static void queues_drive_a_session(void **state) {
  (void)state;
  drive(&channel_of_queues);
}

static void sockets_drive_a_session(void **state) {
  (void)state;
  drive(&channel_over_socket);
}

static void a_channel_that_closes_is_a_loss(void **state) {
  (void)state;
  fixture f;
  open_session(&f, &channel_of_queues);
  expect_values(&f);
  f.workers[2].end->ops->interrupt(f.workers[2].end); /* its worker leaves */
  assert_int_equal(pthread_join(f.workers[2].thread, NULL), 0);
  assert_int_equal(f.workers[2].result, DISCO_LOST);
  f.workers[2].end->ops->destroy(f.workers[2].end);
  disco_status status = DISCO_OK;
  for (int i = 0; i < BOUND_MS && status == DISCO_OK; i++) {
    status = disco_session_sync(f.session, DISCO_ALL_WORKERS, BOUND_MS);
    (void)usleep(1000);
  }
  disco_error_info error = {.struct_size = sizeof(error)};
  assert_int_equal(status, DISCO_LOST);
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_int_equal(error.worker, 2);
  OK(disco_session_shutdown(f.session));
  disco_session_unref(f.session);
  assert_int_equal(pthread_join(f.workers[1].thread, NULL), 0);
  assert_int_equal(f.workers[1].result, DISCO_OK);
  f.workers[1].end->ops->destroy(f.workers[1].end);
}

typedef struct {
  disco_channel channel;
  int destroyed;
} counted_channel;

static void count_destroy(disco_channel *self) { ((counted_channel *)self)->destroyed++; }

static void a_session_that_is_refused_takes_the_channels(void **state) {
  (void)state;
  static const disco_channel_ops ops = {.struct_size = sizeof(ops), .destroy = count_destroy};
  for (int bad = 0; bad < 3; bad++) {
    counted_channel ends[WORKERS - 1] = {{{&ops}, 0}, {{&ops}, 0}};
    disco_channel *channels[WORKERS - 1] = {&ends[0].channel, &ends[1].channel};
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(WORKERS, bad == 0 ? 2 : 1);
    disco_session *session = NULL;
    if (bad == 1) options.ring_bytes = 12345;
    if (bad == 2) options.transport = 99;
    options.channels = channels;
    assert_int_equal(disco_session_create_process(&options, &session), DISCO_VALUE);
    assert_null(session);
    assert_int_equal(ends[0].destroyed, 1);
    assert_int_equal(ends[1].destroyed, 1);
  }
}

/* ---- A channel around another one, which counts what is done to it ---- */

typedef struct {
  disco_channel channel;
  disco_channel *inner;
  _Atomic int interrupted, destroyed;
} watched_channel;

static disco_status watched_send(disco_channel *self, const void *frame, size_t size) {
  disco_channel *inner = ((watched_channel *)self)->inner;
  return inner->ops->send(inner, frame, size);
}

static disco_status watched_recv_reply(disco_channel *self, const void **ret_frame, size_t *ret_size) {
  disco_channel *inner = ((watched_channel *)self)->inner;
  return inner->ops->recv_reply(inner, ret_frame, ret_size);
}

static void watched_interrupt(disco_channel *self) {
  watched_channel *watched = (watched_channel *)self;
  atomic_fetch_add(&watched->interrupted, 1);
  watched->inner->ops->interrupt(watched->inner);
}

/* Its own memory is the test's: it may still be looked at. */
static void watched_destroy(disco_channel *self) {
  watched_channel *watched = (watched_channel *)self;
  if (atomic_fetch_add(&watched->destroyed, 1) == 0) watched->inner->ops->destroy(watched->inner);
}

static const disco_channel_ops watched_ops = {.struct_size = sizeof(disco_channel_ops),
                                              .send = watched_send,
                                              .recv_reply = watched_recv_reply,
                                              .interrupt = watched_interrupt,
                                              .destroy = watched_destroy};

typedef struct {
  watched_channel ends[WORKERS - 1];
  disco_channel *far[WORKERS - 1]; /* where nobody is */
  disco_channel *given[WORKERS - 1];
} watched_channels;

static void watch_channels(watched_channels *self) {
  for (int i = 0; i < WORKERS - 1; i++) {
    channel_pair pair;
    channel_of_queues.connect(&pair);
    self->ends[i] = (watched_channel){.channel = {&watched_ops}, .inner = pair.controller};
    self->far[i] = pair.worker;
    self->given[i] = &self->ends[i].channel;
  }
}

/* Each was destroyed, and once: its far end hears of it after what was sent, and frees the queues. */
static void expect_destroyed(watched_channels *self) {
  for (int i = 0; i < WORKERS - 1; i++) {
    const void *frame;
    size_t size;
    for (int k = 0; k < BOUND_MS && atomic_load(&self->ends[i].destroyed) == 0; k++)
      (void)usleep(1000); /* the reaper */
    assert_int_equal(atomic_load(&self->ends[i].destroyed), 1);
    disco_status status = DISCO_OK;
    while (status == DISCO_OK) status = self->far[i]->ops->recv(self->far[i], &frame, &size);
    assert_int_equal(status, DISCO_CLOSED);
    self->far[i]->ops->destroy(self->far[i]);
  }
}

/* Nobody ever answers, and both threads of each channel block: shutdown interrupts them. */
static void shutdown_interrupts_silent_channels(void **state) {
  (void)state;
  static watched_channels channels;
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(WORKERS, 1);
  disco_session *session = NULL;
  disco_dref *dref = NULL;
  const TVMFFIAny number = dsc_int(5);
  watch_channels(&channels);
  options.arena_bytes = 64 << 20;
  options.grace_ms = 200;
  options.channels = channels.given;
  OK(disco_session_create_process(&options, &session));
  for (int i = 0; i < 10; i++) { /* more than a queue holds */
    OK(disco_session_put(session, &number, &dref));
    disco_dref_unref(dref);
  }
  assert_int_equal(disco_session_sync(session, DISCO_ALL_WORKERS, 20), DISCO_TIMEOUT);
  for (int i = 0; i < WORKERS - 1; i++) assert_int_equal(atomic_load(&channels.ends[i].interrupted), 0);
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
  expect_destroyed(&channels);
  for (int i = 0; i < WORKERS - 1; i++) assert_true(atomic_load(&channels.ends[i].interrupted) > 0);
}

/* Whichever allocation is missing: no session, and every channel is destroyed once. */
static void a_session_without_memory_takes_the_channels(void **state) {
  (void)state;
  static watched_channels channels;
  disco_status status = DISCO_MEMORY;
  long n = 0;
  while (status != DISCO_OK && n < 1000) {
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(WORKERS, 1);
    disco_session *session = NULL;
    watch_channels(&channels);
    options.arena_bytes = 64 << 20;
    options.grace_ms = 100;
    options.channels = channels.given;
    (void)dsc_inject_fail_allocation(++n);
    status = disco_session_create_process(&options, &session);
    (void)dsc_inject_fail_allocation(0);
    if (status != DISCO_OK) {
      assert_null(session);
    } else {
      (void)!disco_session_shutdown(session);
      disco_session_unref(session);
    }
    expect_destroyed(&channels);
  }
  assert_int_equal(status, DISCO_OK);
  assert_true(n > 5);
}

/* ---- What is wrong with a list of channels, and a controller that leaves ---- */

/* The others are taken over all the same. */
static void channels_that_are_none_are_refused(void **state) {
  (void)state;
  static const disco_channel_ops ops = {.struct_size = sizeof(ops), .destroy = count_destroy};
  for (int bad = 0; bad < 3; bad++) {
    counted_channel ends[WORKERS - 1] = {{{&ops}, 0}, {{bad == 1 ? NULL : &ops}, 0}};
    disco_channel *channels[WORKERS - 1] = {&ends[0].channel, bad == 0 ? NULL : &ends[1].channel};
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(WORKERS, 1);
    disco_session *session = NULL;
    options.arena_bytes = 64 << 20;
    options.channels = channels;
    assert_int_equal(disco_session_create_process(&options, bad == 2 ? NULL : &session), DISCO_VALUE);
    assert_non_null(strstr(disco_last_error_text(), bad == 2 ? "ret_session" : "worker 2"));
    assert_null(session);
    assert_int_equal(ends[0].destroyed, 1);
    assert_int_equal(ends[1].destroyed, bad == 2);
  }
}

/* A worker's end that plays frames, and closes with the answer before which nothing is left of `replies`. */
typedef struct {
  disco_channel channel;
  void *frames[2];
  size_t sizes[2];
  int next, replies;
} played_channel;

static disco_status play_recv(disco_channel *self, const void **ret_frame, size_t *ret_size) {
  played_channel *played = (played_channel *)self;
  if (played->next == 2) return disco_fail(DISCO_CLOSED, "the play is over");
  *ret_frame = played->frames[played->next];
  *ret_size = played->sizes[played->next++];
  return DISCO_OK;
}

static disco_status play_reply(disco_channel *self, const void *frame, size_t size) {
  (void)frame;
  (void)size;
  return ((played_channel *)self)->replies-- > 0 ? DISCO_OK : disco_fail(DISCO_CLOSED, "nobody listens");
}

/* Whenever it leaves - before the answer to its first word, before a command is done, between two -, it is a loss. */
static void a_controller_that_leaves_is_a_loss(void **state) {
  (void)state;
  static const disco_channel_ops ops = {.struct_size = sizeof(ops), .recv = play_recv, .reply = play_reply};
  static watched_channels channels;
  played_channel played = {.channel = {&ops}};
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(WORKERS, 1);
  disco_session *session = NULL;
  disco_dref *dref = NULL;
  const TVMFFIAny number = dsc_int(5);
  watch_channels(&channels);
  options.arena_bytes = 64 << 20;
  options.grace_ms = 100;
  options.channels = channels.given;
  OK(disco_session_create_process(&options, &session));
  OK(disco_session_put(session, &number, &dref));
  for (int i = 0; i < 2; i++) { /* what a controller says: a word of greeting, a command */
    const void *frame = NULL;
    OK(channels.far[0]->ops->recv(channels.far[0], &frame, &played.sizes[i]));
    played.frames[i] = malloc(played.sizes[i]);
    assert_non_null(played.frames[i]);
    memcpy(played.frames[i], frame, played.sizes[i]);
  }
  disco_dref_unref(dref);
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
  expect_destroyed(&channels);
  for (int replies = 0; replies < 3; replies++) {
    played.next = 0;
    played.replies = replies;
    assert_int_equal(disco_worker_run_channel(1, WORKERS, 1, &played.channel), DISCO_LOST);
    assert_non_null(strstr(disco_last_error_text(), "worker 1"));
    assert_int_equal(played.replies, replies == 2 ? 0 : -1);
  }
  for (int i = 0; i < 2; i++) free(played.frames[i]);
}

int main(void) {
  alarm(60);
  if (disco_register_function("test.echo", echo, NULL, NULL, false) != DISCO_OK ||
      disco_register_function("test.raise_on_2", raise_on_2, NULL, NULL, false) != DISCO_OK)
    return 2;
  const struct CMUnitTest tests[] = {cmocka_unit_test(queues_drive_a_session),
                                     cmocka_unit_test(sockets_drive_a_session),
                                     cmocka_unit_test(a_channel_that_closes_is_a_loss),
                                     cmocka_unit_test(a_session_that_is_refused_takes_the_channels),
                                     cmocka_unit_test(shutdown_interrupts_silent_channels),
                                     cmocka_unit_test(a_session_without_memory_takes_the_channels),
                                     cmocka_unit_test(channels_that_are_none_are_refused),
                                     cmocka_unit_test(a_controller_that_leaves_is_a_loss)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
