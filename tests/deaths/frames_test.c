/* The pipe between controller and worker, with a peer at one end that speaks frames by hand: cut at every byte, and
 * malformed in every field. Whoever hears that says LOST, with what was wrong; nobody waits for the rest. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "deaths/support.h"
#include "disco/channel.h"
#include "ffi/object.h"
#include "wire/frame.h"
#include "wire/pack.h"

/* ---- Frames by hand ---- */

typedef union {
  dsc_frame head;
  dsc_hello hello;
  dsc_answer answer;
  dsc_done_frame done;
  dsc_progress_frame progress;
  struct {
    dsc_reply_frame frame;
    dsc_packed value;
  } reply;
  struct {
    dsc_command_frame frame;
    dsc_record record;
  } command;
  char bytes[8192];
} any_frame;

static bool read_all(int fd, void *to, size_t size) {
  for (size_t done = 0; done < size;) {
    struct pollfd look = {.fd = fd, .events = POLLIN};
    if (poll(&look, 1, BOUND_MS) == 0) return false;
    ssize_t got = read(fd, (char *)to + done, size - done);
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) return false;
    if (got > 0) done += (size_t)got;
  }
  return true;
}

static bool read_frame(int fd, any_frame *ret_frame) {
  if (!read_all(fd, ret_frame, 8)) return false;
  if (ret_frame->head.size < sizeof(dsc_frame) || ret_frame->head.size > sizeof(*ret_frame)) return false;
  return read_all(fd, ret_frame->bytes + 8, ret_frame->head.size - 8);
}

static bool write_all(int fd, const void *from, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t moved = write(fd, (const char *)from + done, size - done);
    if (moved < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (moved > 0) done += (size_t)moved;
  }
  return true;
}

/* ---- What goes wrong ---- */

enum { NOWHERE = 0 }; /* else: which frame kind */
enum { WHOLE = -1 };

/* One field of a frame gets another value. */
typedef struct {
  int kind;
  const char *says; /* the error does */
  size_t offset, bytes;
  uint64_t value;
} change;

typedef struct {
  int kind;             /* of the frame it happens to */
  int64_t cut;          /* bytes of it that are sent, then the end; WHOLE: no cut */
  bool half;            /* only the writing side ends */
  const change *change; /* NULL: none */
  bool goes_on;         /* and works on as if nothing had been */
} trouble;

#define NO_TROUBLE ((trouble){NOWHERE, WHOLE, false, NULL, false})

/* Send it, with its trouble. Returns false when this was the end. */
static bool send_frame(int fd, any_frame *frame, const trouble *what) {
  size_t size = frame->head.size;
  if (what->kind != frame->head.kind) return write_all(fd, frame, size);
  if (what->change != NULL) memcpy(frame->bytes + what->change->offset, &what->change->value, what->change->bytes);
  if (what->cut != WHOLE && (size_t)what->cut < size) size = (size_t)what->cut;
  return write_all(fd, frame, size) && what->goes_on;
}

/* ---- A worker that speaks by hand ---- */

typedef struct {
  int read_fd, write_fd;
  int32_t worker;
  trouble what;
  bool in_order; /* it came to the shutdown */
} fake_worker;

static bool answer_command(fake_worker *self, const any_frame *in) {
  any_frame out = {.head = {0}};
  const uint64_t sequence = in->head.sequence;
  const dsc_record *record = &in->command.record;
  bool me = record->target == DSC_TARGET_ALL || record->target == (uint32_t)self->worker;
  if (record->message == DSC_MESSAGE_DebugGetFromRemote && me) {
    out.progress.done = 3;
    out.progress.total = 4;
    dsc_frame_begin(&out.head, DSC_FRAME_Progress, sizeof(out.progress), in->head.session, self->worker, sequence);
    if (!send_frame(self->write_fd, &out, &self->what)) return false;
    memset(&out, 0, sizeof(out));
    out.reply.value = (dsc_packed){.type_index = kTVMFFIInt, .payload = 42};
    dsc_frame_begin(&out.head, DSC_FRAME_Reply, sizeof(out.reply), in->head.session, self->worker, sequence);
    out.reply.frame.outcome = DSC_REPLY_VALUE;
    out.reply.frame.value_bytes = sizeof(out.reply.value);
    if (!send_frame(self->write_fd, &out, &self->what)) return false;
    memset(&out, 0, sizeof(out));
  }
  dsc_frame_begin(&out.head, DSC_FRAME_Done, sizeof(out.done), in->head.session, self->worker, sequence);
  return send_frame(self->write_fd, &out, &self->what);
}

/* Returns when its trouble came, or at the shutdown. */
static void work_by_hand(fake_worker *self) {
  any_frame in, out = {.head = {0}};
  if (!read_frame(self->read_fd, &in) || in.head.kind != DSC_FRAME_Hello) return;
  out.answer.pid = getpid();
  out.answer.mode = DSC_ANSWER_PIPE;
  dsc_frame_begin(&out.head, DSC_FRAME_Answer, sizeof(out.answer), in.head.session, self->worker, 0);
  if (!send_frame(self->write_fd, &out, &self->what)) return;
  while (read_frame(self->read_fd, &in)) {
    bool last = in.command.record.message == DSC_MESSAGE_ShutDown;
    if (!answer_command(self, &in)) return;
    if (!last) continue;
    self->in_order = true;
    return;
  }
}

/* What was cut ends; what was changed stays open until the controller has seen enough. */
static void *fake_main(void *argument) {
  fake_worker *self = argument;
  char rest[256];
  work_by_hand(self);
  if (self->what.cut != WHOLE || self->in_order) close(self->write_fd);
  if (self->what.cut == WHOLE || self->what.half)
    while (read_all(self->read_fd, rest, 1)) continue;
  if (self->what.cut == WHOLE && !self->in_order) close(self->write_fd);
  close(self->read_fd);
  return NULL;
}

enum { MOST = 4 };
static struct {
  trouble what[MOST];
  fake_worker workers[MOST];
  pthread_t threads[MOST];
  _Atomic int started;
} hand;

static int call_pool(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  *result = dsc_none();
  const int32_t worker = (int32_t)args[0].v_int64;
  if (worker == 0) {
    for (int i = 1; i <= atomic_load(&hand.started); i++) (void)pthread_join(hand.threads[i], NULL);
    atomic_store(&hand.started, 0);
    return 0;
  }
  int to[2], from[2];
  if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) return disco_raise("OSError", "no pipe");
  hand.workers[worker] = (fake_worker){to[0], from[1], worker, hand.what[worker], false};
  if (pthread_create(&hand.threads[worker], NULL, fake_main, &hand.workers[worker]) != 0)
    return disco_raise("OSError", "no thread");
  atomic_store(&hand.started, worker);
  TVMFFIAny fds[2] = {dsc_int(from[0]), dsc_int(to[1])};
  TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle make = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0) return -1;
  int rc = TVMFFIFunctionCall(make, fds, 2, result);
  dsc_object_unref(make);
  return rc;
}

static int create_pool(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionCreate(NULL, call_pool, NULL, &function) != 0) return -1;
  *result = dsc_object_value(function);
  return 0;
}

static disco_session *open_by_hand(int32_t workers, trouble what) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, 1);
  options.pool_creator = "d.create_pool";
  options.arena_bytes = 64 << 20;
  for (int i = 0; i < MOST; i++) hand.what[i] = NO_TROUBLE;
  hand.what[1] = what;
  return open_with(&options);
}

static bool is_hand_empty(void *context) {
  (void)context;
  return atomic_load(&hand.started) == 0;
}

/* The pool is told of its end after the session is gone, by another thread. */
static void close_by_hand(disco_session *session) {
  close_session(session);
  assert_true(until(is_hand_empty, NULL));
}

/* Put a value and read it from worker 1, and so meet any kind of frame. */
static disco_status put_and_get(disco_session *session, int64_t *ret_number) {
  const TVMFFIAny one = dsc_int(1);
  TVMFFIAny value = dsc_none();
  disco_dref *dref = NULL;
  disco_status status = disco_session_put(session, &one, &dref);
  if (status == DISCO_OK) status = disco_debug_get(dref, 1, BOUND_MS, &value);
  if (status == DISCO_OK) *ret_number = value.v_int64;
  if (status == DISCO_OK) status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
  /* Everything may have been done before the end of the pipe was seen. */
  for (int64_t end = now_ms() + BOUND_MS; status == DISCO_OK && *ret_number != 42 && now_ms() < end; sleep_ms(1))
    status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
  disco_dref_unref(dref);
  return status;
}

static void the_hand_can_work(void **state) {
  (void)state;
  census before = census_begin();
  disco_session *session = open_by_hand(3, NO_TROUBLE);
  int64_t number = 0;
  OK(put_and_get(session, &number));
  assert_int_equal(number, 42);
  for (int32_t worker = 0; worker < 3; worker++) {
    disco_progress progress = {.struct_size = sizeof(progress)};
    OK(disco_session_get_progress(session, worker, &progress));
    assert_int_equal(progress.sequence != 0, worker == 1); /* whom it asked */
    assert_int_equal(progress.done, worker == 1 ? 3 : 0);
    assert_int_equal(progress.total, worker == 1 ? 4 : 0);
  }
  close_by_hand(session);
  census_end(&before);
  assert_true(hand.workers[1].in_order && hand.workers[2].in_order);
}

/* ---- Ends ---- */

static size_t size_of_kind(int kind) {
  switch (kind) {
  case DSC_FRAME_Hello: return sizeof(dsc_hello);
  case DSC_FRAME_Answer: return sizeof(dsc_answer);
  case DSC_FRAME_Command: return sizeof(dsc_command_frame) + sizeof(dsc_record);
  case DSC_FRAME_Done: return sizeof(dsc_done_frame);
  case DSC_FRAME_Progress: return sizeof(dsc_progress_frame);
  default: return sizeof(dsc_reply_frame) + sizeof(dsc_packed);
  }
}

static void a_worker_ends_at_every_byte(void **state) {
  (void)state;
  census before = census_begin();
  const int kinds[] = {DSC_FRAME_Answer, DSC_FRAME_Done, DSC_FRAME_Reply, DSC_FRAME_Progress};
  int unnamed = 0;
  for (int k = 0; k < 4; k++)
    for (int64_t cut = 0; cut < (int64_t)size_of_kind(kinds[k]); cut += SANITIZED ? 7 : 1) {
      disco_session *session = open_by_hand(2, (trouble){kinds[k], cut, cut % 2 == 1, NULL, false});
      int64_t number = 0;
      disco_error_info error = expect_lost(put_and_get(session, &number), 1);
      assert_true(error.message[0] != 0);
      if (kinds[k] != DSC_FRAME_Answer && cut > 0) { /* which byte */
        char part[64];
        (void)snprintf(part, sizeof(part), "after %d of", (int)cut);
        if (strstr(error.message, part) == NULL && unnamed++ == 0)
          print_error("no `%s` in `%s`\n", part, error.message);
      }
      expect_lost(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), 1);
      close_by_hand(session);
    }
  census_end(&before);
  assert_int_equal(unnamed, 0);
}

/* ---- Malformed ---- */

#define HEAD(frame, text, field, number) \
  { (frame), (text), offsetof(dsc_frame, field), sizeof(((dsc_frame *)0)->field), (number) }
#define IN(frame, text, type, field, number) \
  { (frame), (text), offsetof(type, field), sizeof(((type *)0)->field), (number) }
#define HEADS(frame)                                                                                          \
  HEAD(frame, "does not speak libdisco's protocol", magic, 0x12345678), HEAD(frame, "version 1", version, 1), \
      HEAD(frame, "kind 77", kind, 77),                                                                       \
      HEAD(frame, " frame where ", kind, (frame) == DSC_FRAME_Hello ? DSC_FRAME_Answer : DSC_FRAME_Hello),    \
      HEAD(frame, "worker 7", worker, 7), HEAD(frame, " 8 ", size, 8)

static const change changes_of_workers[] = {
    HEADS(DSC_FRAME_Answer),
    HEAD(DSC_FRAME_Answer, "session 0x", session, 77),
    IN(DSC_FRAME_Answer, "unknown mode", dsc_answer, mode, 9),
    HEADS(DSC_FRAME_Done),
    HEAD(DSC_FRAME_Done, "session 0x", session, 77),
    HEAD(DSC_FRAME_Done, "no frame", size, 0),
    HEAD(DSC_FRAME_Done, "no frame", size, 7),
    HEAD(DSC_FRAME_Done, "no frame", size, UINT64_MAX),
    HEAD(DSC_FRAME_Done, "no frame", size, (uint64_t)1 << 63),
    HEAD(DSC_FRAME_Done, "of 40 bytes", size, 40),
    HEAD(DSC_FRAME_Done, "76 bytes", size, 76),
    HEAD(DSC_FRAME_Done, "not the next", sequence, 0),
    HEAD(DSC_FRAME_Done, "not the next", sequence, 2),
    HEAD(DSC_FRAME_Done, "not the next", sequence, UINT64_MAX),
    IN(DSC_FRAME_Done, "not the next", dsc_done_frame, failed, 9),
    IN(DSC_FRAME_Done, "failure of", dsc_done_frame, failure_bytes, 8),
    IN(DSC_FRAME_Done, "failure of", dsc_done_frame, failure_bytes, UINT64_MAX),
    HEADS(DSC_FRAME_Progress),
    HEAD(DSC_FRAME_Progress, "session 0x", session, 77),
    HEAD(DSC_FRAME_Progress, "56 at least", size, 40),
    HEAD(DSC_FRAME_Progress, "which it does not run", sequence, 0),
    HEAD(DSC_FRAME_Progress, "which it does not run", sequence, 1),
    HEAD(DSC_FRAME_Progress, "which it does not run", sequence, UINT64_MAX),
    HEADS(DSC_FRAME_Reply),
    HEAD(DSC_FRAME_Reply, "session 0x", session, 77),
    IN(DSC_FRAME_Reply, "value of", dsc_reply_frame, value_bytes, 8),
    IN(DSC_FRAME_Reply, "value of", dsc_reply_frame, value_bytes, 0),
    IN(DSC_FRAME_Reply, "value of", dsc_reply_frame, value_bytes, UINT64_MAX - 7),
    IN(DSC_FRAME_Reply, "outcome", dsc_reply_frame, outcome, 99),
    IN(DSC_FRAME_Reply, "outcome", dsc_reply_frame, outcome, DSC_REPLY_SIDE),
};
enum { CHANGES_OF_WORKERS = sizeof(changes_of_workers) / sizeof(changes_of_workers[0]) };

/* The hand stays open, so that it is the content that is refused; the other worker comes to its end in order. */
static void a_worker_sends_nonsense(void **state) {
  (void)state;
  census before = census_begin();
  int wrong = 0;
  for (int i = 0; i < CHANGES_OF_WORKERS; i++) {
    const change *made = &changes_of_workers[i];
    disco_session *session = open_by_hand(3, (trouble){made->kind, WHOLE, false, made, false});
    int64_t number = 0;
    disco_error_info error = expect_lost(put_and_get(session, &number), 1);
    if (strstr(error.message, made->says) == NULL) {
      print_error("%d: no `%s` in `%s`\n", i, made->says, error.message);
      wrong++;
    }
    close_by_hand(session);
    /* Where nothing was posted yet, nobody waits for who has not answered. */
    assert_true(hand.workers[2].in_order || made->kind == DSC_FRAME_Answer);
  }
  census_end(&before);
  assert_int_equal(wrong, 0);
}

/* A reply that answers another command than the one that runs. */
static void a_reply_to_nothing(void **state) {
  (void)state;
  const change sequences[] = {HEAD(DSC_FRAME_Reply, "", sequence, 0), HEAD(DSC_FRAME_Reply, "", sequence, 900),
                              HEAD(DSC_FRAME_Reply, "", sequence, 1)};
  int wrong = 0;
  for (int i = 0; i < 3; i++) {
    disco_session *session = open_by_hand(3, (trouble){DSC_FRAME_Reply, WHOLE, false, &sequences[i], true});
    TVMFFIAny value = dsc_none();
    disco_dref *dref = NULL;
    const TVMFFIAny one = dsc_int(1);
    OK(disco_session_put(session, &one, &dref));
    disco_status status = disco_debug_get(dref, 1, BOUND_MS, &value);
    disco_dref_unref(dref);
    if (status != DISCO_LOST)
      print_error("%d: status %d, value of type %d, %lld: %s\n", i, (int)status, value.type_index,
                  (long long)value.v_int64, disco_last_error_text());
    wrong += status != DISCO_LOST;
    close_by_hand(session);
    assert_true(hand.workers[2].in_order);
  }
  assert_int_equal(wrong, 0);
}

/* A value that is none: refused where it is read. */
static void a_reply_of_no_type(void **state) {
  (void)state;
  change type = {DSC_FRAME_Reply, "", sizeof(dsc_reply_frame) + offsetof(dsc_packed, type_index), 4, 1234};
  const int32_t types[] = {1234, -1, kTVMFFIObject, kTVMFFIFunction, kTVMFFIStr, kTVMFFITensor, 71, 72};
  for (int i = 0; i < 8; i++) {
    type.value = (uint64_t)(uint32_t)types[i];
    disco_session *session = open_by_hand(3, (trouble){DSC_FRAME_Reply, WHOLE, false, &type, true});
    TVMFFIAny value = dsc_none();
    disco_dref *dref = NULL;
    const TVMFFIAny one = dsc_int(1);
    OK(disco_session_put(session, &one, &dref));
    disco_status status = disco_debug_get(dref, 1, BOUND_MS, &value);
    if (status != DISCO_LOST && status != DISCO_RUNTIME)
      print_error("type %d: status %d, value of type %d, %lld: %s\n", types[i], (int)status, value.type_index,
                  (long long)value.v_int64, disco_last_error_text());
    assert_true(status == DISCO_LOST || status == DISCO_RUNTIME);
    disco_dref_unref(dref);
    close_by_hand(session);
    assert_true(hand.workers[2].in_order);
  }
}

/* ---- The same by a process of our own pool ---- */

/* TEST_HAND=kind:cut:change: be a worker that speaks by hand. */
static void be_hand(int argc, char **argv) {
  const char *words = getenv("TEST_HAND");
  int kind, cut, number;
  if (words == NULL || argc < 7 || sscanf(words, "%d:%d:%d", &kind, &cut, &number) != 3) return;
  fake_worker self = {atoi(argv[5]),
                      atoi(argv[6]),
                      atoi(argv[2]),
                      {kind, cut, false, number >= 0 ? &changes_of_workers[number] : NULL, false},
                      false};
  (void)signal(SIGPIPE, SIG_IGN);
  work_by_hand(&self);
  if (cut != WHOLE) _exit(0);
  for (;;) sleep_ms(1000);
}

static disco_error_info lose_hand(disco_session **ret_session, int kind, int64_t cut, int number) {
  char words[64];
  const char *const environment[] = {words, NULL};
  (void)snprintf(words, sizeof(words), "TEST_HAND=%d:%d:%d", kind, (int)cut, number);
  disco_session_options options = options_of(2, true);
  options.environment = environment;
  options.grace_ms = 1000;
  *ret_session = open_with(&options);
  int64_t got = 0;
  return expect_lost(put_and_get(*ret_session, &got), 1);
}

static void a_worker_process_ends_in_a_frame(void **state) {
  (void)state;
  census before = census_begin();
  const int kinds[] = {DSC_FRAME_Answer, DSC_FRAME_Done, DSC_FRAME_Reply, DSC_FRAME_Progress};
  for (int k = 0; k < 4; k++)
    for (int64_t cut = 0; cut < (int64_t)size_of_kind(kinds[k]); cut += SANITIZED ? 60 : 13) {
      disco_session *session = NULL;
      disco_error_info error = lose_hand(&session, kinds[k], cut, -1);
      assert_int_equal(error.exit_status, 0);
      close_session(session);
      census_end(&before);
    }
}

static void a_worker_process_sends_nonsense(void **state) {
  (void)state;
  census before = census_begin();
  int wrong = 0;
  for (int i = 0; i < CHANGES_OF_WORKERS; i += SANITIZED ? 7 : 3) {
    disco_session *session = NULL;
    disco_error_info error = lose_hand(&session, changes_of_workers[i].kind, WHOLE, i);
    if (strstr(error.message, changes_of_workers[i].says) == NULL) {
      print_error("%d: no `%s` in `%s`\n", i, changes_of_workers[i].says, error.message);
      wrong++;
    }
    close_session(session);
    census_end(&before);
  }
  assert_int_equal(wrong, 0);
}

/* ---- A controller that speaks by hand, to a worker of ours ---- */

typedef struct {
  int read_fd, write_fd; /* the worker's */
  disco_status status;
  char text[512];
} real_worker;

static void *serve(void *argument) {
  real_worker *self = argument;
  disco_channel *channel = NULL;
  self->status = disco_pipe_channel_create(self->read_fd, self->write_fd, &channel);
  if (self->status != DISCO_OK) return NULL;
  self->status = disco_worker_run_channel(1, 2, 1, channel);
  (void)snprintf(self->text, sizeof(self->text), "%s", self->status != DISCO_OK ? disco_last_error_text() : "");
  channel->ops->destroy(channel);
  return NULL;
}

/* Hello, answer, one command, its done frame, the shutdown. False when the trouble came. */
static bool control_by_hand(int read_fd, int write_fd, const trouble *what) {
  any_frame out = {.head = {0}}, in;
  const uint64_t session = 0x1234567;
  out.hello = (dsc_hello){.pid = getpid(), .segment_fd = -1, .arena_fd = -1, .num_workers = 2, .num_groups = 1};
  dsc_frame_begin(&out.head, DSC_FRAME_Hello, sizeof(out.hello), session, 1, 0);
  if (!send_frame(write_fd, &out, what)) return false;
  if (!read_frame(read_fd, &in) || in.head.kind != DSC_FRAME_Answer) return false;
  for (uint64_t sequence = 1; sequence <= 2; sequence++) {
    memset(&out, 0, sizeof(out));
    dsc_frame_begin(&out.head, DSC_FRAME_Command, sizeof(out.command), session, 1, sequence);
    out.command.frame.record_bytes = sizeof(out.command.record);
    out.command.record.frame = sizeof(out.command.record);
    out.command.record.message = sequence == 1 ? DSC_MESSAGE_KillReg : DSC_MESSAGE_ShutDown;
    out.command.record.sequence = sequence;
    if (!send_frame(write_fd, &out, what)) return false;
    if (!read_frame(read_fd, &in) || in.head.kind != DSC_FRAME_Done || in.head.sequence != sequence) return false;
  }
  return true;
}

/* Returns how the worker ended; its text in *ret_text. */
static disco_status run_hand(const trouble *what, char ret_text[512]) {
  int to[2], from[2];
  assert_int_equal(pipe2(to, O_CLOEXEC), 0);
  assert_int_equal(pipe2(from, O_CLOEXEC), 0);
  real_worker worker = {.read_fd = to[0], .write_fd = from[1]};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, serve, &worker), 0);
  (void)control_by_hand(from[0], to[1], what);
  struct timespec end;
  (void)clock_gettime(CLOCK_REALTIME, &end);
  if (what->cut != WHOLE) close(to[1]);
  end.tv_sec += what->cut == WHOLE && what->change != NULL ? 1 : BOUND_MS / 1000;
  int late = pthread_timedjoin_np(thread, NULL, &end);
  if (what->cut == WHOLE) close(to[1]);
  close(from[0]);
  if (late != 0) assert_int_equal(pthread_join(thread, NULL), 0);
  if (late != 0) {
    (void)snprintf(ret_text, 512, "it went on, until the pipe ended");
    return DISCO_TIMEOUT;
  }
  memcpy(ret_text, worker.text, sizeof(worker.text));
  return worker.status;
}

static void a_controller_ends_at_every_byte(void **state) {
  (void)state;
  census before = census_begin();
  char text[512];
  assert_int_equal(run_hand(&NO_TROUBLE, text), DISCO_OK);
  const int kinds[] = {DSC_FRAME_Hello, DSC_FRAME_Command};
  for (int k = 0; k < 2; k++)
    for (int64_t cut = 0; cut < (int64_t)size_of_kind(kinds[k]); cut += SANITIZED ? 5 : 1) {
      disco_status status = run_hand(&(trouble){kinds[k], cut, false, NULL, false}, text);
      if (status != DISCO_LOST) print_error("cut %d: %s\n", (int)cut, text);
      assert_int_equal(status, DISCO_LOST);
    }
  census_end(&before);
}

#define RECORD(text, field, number)                                                     \
  {                                                                                     \
    DSC_FRAME_Command, (text), sizeof(dsc_command_frame) + offsetof(dsc_record, field), \
        sizeof(((dsc_record *)0)->field), (number)                                      \
  }
static const change changes_of_controllers[] = {
    HEADS(DSC_FRAME_Hello),
    IN(DSC_FRAME_Hello, "3", dsc_hello, num_workers, 3),
    IN(DSC_FRAME_Hello, "2", dsc_hello, num_groups, 2),
    HEADS(DSC_FRAME_Command),
    HEAD(DSC_FRAME_Command, "session 0x", session, 77),
    HEAD(DSC_FRAME_Command, "no frame", size, UINT64_MAX),
    HEAD(DSC_FRAME_Command, "no frame", size, 3),
    IN(DSC_FRAME_Command, "record of", dsc_command_frame, record_bytes, 0),
    IN(DSC_FRAME_Command, "record of", dsc_command_frame, record_bytes, UINT64_MAX - 7),
    IN(DSC_FRAME_Command, "side data", dsc_command_frame, side_bytes, (uint64_t)1 << 62),
    RECORD("", num_slots, UINT16_MAX),
    RECORD("", num_args, UINT16_MAX),
    RECORD("", num_releases, UINT16_MAX),
    RECORD("", message, 99),
    RECORD("", flags, DSC_RECORD_SIDE),
};

static void a_controller_sends_nonsense(void **state) {
  (void)state;
  census before = census_begin();
  char text[512];
  int wrong = 0;
  for (size_t i = 0; i < sizeof(changes_of_controllers) / sizeof(changes_of_controllers[0]); i++) {
    const change *made = &changes_of_controllers[i];
    disco_status status = run_hand(&(trouble){made->kind, WHOLE, false, made, false}, text);
    if (status == DISCO_LOST && strstr(text, made->says) != NULL) continue;
    print_error("%d, field at %d: status %d, no `%s` in `%s`\n", (int)i, (int)made->offset, (int)status, made->says,
                text);
    wrong++;
  }
  census_end(&before);
  assert_int_equal(wrong, 0);
}

/* The sequence of head and record is one. */
static void a_controller_loses_count(void **state) {
  (void)state;
  char text[512];
  const change changes[] = {HEAD(DSC_FRAME_Command, "", sequence, 900), RECORD("", sequence, 900),
                            RECORD("", sequence, 0)};
  int wrong = 0;
  for (int i = 0; i < 3; i++) {
    disco_status status = run_hand(&(trouble){DSC_FRAME_Command, WHOLE, false, &changes[i], false}, text);
    if (status != DISCO_LOST) print_error("%d: status %d, %s\n", i, (int)status, text);
    wrong += status != DISCO_LOST;
  }
  assert_int_equal(wrong, 0);
}

/* The same by a whole process: it ends, and says why. */
static void a_worker_process_hears_its_controller_end(void **state) {
  (void)state;
  census before = census_begin();
  const int kinds[] = {DSC_FRAME_Hello, DSC_FRAME_Command};
  for (int k = 0; k < 2; k++)
    for (int64_t cut = 0; cut < (int64_t)size_of_kind(kinds[k]); cut += SANITIZED ? 50 : 11) {
      int to[2], from[2];
      char numbers[2][16];
      assert_int_equal(pipe2(to, O_CLOEXEC), 0);
      assert_int_equal(pipe2(from, O_CLOEXEC), 0);
      (void)snprintf(numbers[0], 16, "%d", to[0]);
      (void)snprintf(numbers[1], 16, "%d", from[1]);
      char *const argv[] = {"/proc/self/exe", "worker", "1", "2", "1", numbers[0], numbers[1], NULL};
      pid_t pid = fork();
      if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);
        (void)dup2(null, 2);
        (void)fcntl(to[0], F_SETFD, 0);
        (void)fcntl(from[1], F_SETFD, 0);
        (void)execv(argv[0], argv);
        _exit(127);
      }
      close(to[0]);
      close(from[1]);
      trouble what = {kinds[k], cut, false, NULL, false};
      (void)control_by_hand(from[0], to[1], &what);
      close(to[1]);
      int status = await_end(pid);
      close(from[0]);
      assert_int_not_equal(status, -1);
      assert_true(WIFEXITED(status));
      assert_true(WEXITSTATUS(status) == 9 || WEXITSTATUS(status) == 1); /* LOST, or the watcher */
    }
  census_end(&before);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_hand_can_work),
      cmocka_unit_test(a_worker_ends_at_every_byte),
      cmocka_unit_test(a_worker_sends_nonsense),
      cmocka_unit_test(a_reply_to_nothing),
      cmocka_unit_test(a_reply_of_no_type),
      cmocka_unit_test(a_worker_process_ends_in_a_frame),
      cmocka_unit_test(a_worker_process_sends_nonsense),
      cmocka_unit_test(a_controller_ends_at_every_byte),
      cmocka_unit_test(a_controller_sends_nonsense),
      cmocka_unit_test(a_controller_loses_count),
      cmocka_unit_test(a_worker_process_hears_its_controller_end),
  };
  (void)signal(SIGPIPE, SIG_IGN); /* the hand writes where nobody reads */
  register_function("d.create_pool", create_pool);
  deaths_worker_hook = be_hand;
  return deaths_main(argc, argv, "deaths.frames", tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
