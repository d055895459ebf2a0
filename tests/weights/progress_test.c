/* How far workers say that they are, and loading weights watched: threads, processes, the pipe alone, a user's
 * channels. Workers stop at every report until the test lets them go on, so nothing here depends on how fast anybody
 * is. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/clock.h"
#include "disco/channel.h"
#include "disco/weights.h"
#include "session/session.h"
#include "weights/sessions.h"
#include "weights/writer.h"
#include "wire/frame.h"

enum { PIPES = PROCESSES + 1, CHANNELS, KINDS, MOST = 4, UNHURRIED_MS = 150 };

static const char load_weights[] = "libdisco.load_weights";
static const char plan[] = "{\"rules\": [{\"match\": \"rows\", \"axis\": 0, \"uneven\": true}, "
                           "{\"match\": \"small\", \"replicate\": true}, {\"match\": \"*\", \"skip\": true}]}";
static char model[256];

/* ---- The gate, in memory that worker processes map, too ---- */

typedef struct {
  _Atomic int64_t at[MOST];      /* reports made; the last one waits until as many are allowed */
  _Atomic int64_t allowed[MOST]; /* INT64_MAX: the gate is open */
  _Atomic int64_t pid[MOST];
  _Atomic int64_t ended[MOST]; /* test.load: the status that its error stands for, + 1 */
  char said[MOST][256];        /* before that: what its error said */
} gate_words;

static gate_words *gate;

static void map_gate(const char *path) {
  const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(*gate)) != 0) abort();
  gate = mmap(NULL, sizeof(*gate), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (gate == MAP_FAILED) abort();
  close(fd);
}

/* Whoever is told to leave may go on. */
static void wait_at_gate(const char *point, void *context) {
  (void)context;
  if (strcmp(point, "worker.progress") != 0) return;
  const dsc_worker *worker = dsc_worker_current();
  const int32_t id = worker->setup.id;
  atomic_store(&gate->pid[id], (int64_t)getpid());
  const int64_t mine = atomic_fetch_add(&gate->at[id], 1) + 1;
  while (atomic_load(&gate->allowed[id]) < mine && dsc_load_acquire(&worker->segment->fault) == DSC_FAULT_NONE)
    sleep_ms(1);
}

static void close_gate(void) {
  for (int i = 0; i < MOST; i++) {
    atomic_store(&gate->allowed[i], 0);
    atomic_store(&gate->at[i], 0);
    atomic_store(&gate->ended[i], 0);
  }
}

static void open_gate(int32_t worker) { atomic_store(&gate->allowed[worker], INT64_MAX); }

static void open_gates(void) {
  for (int32_t i = 0; i < MOST; i++) open_gate(i);
}

/* Until it has made so many reports; the alarm bounds it. */
static void await_reports(int32_t worker, int64_t count) {
  while (atomic_load(&gate->at[worker]) < count) sleep_ms(1);
}

/* ---- Sessions ---- */

typedef struct {
  disco_channel channel; /* `inner`, and what goes through it is counted */
  disco_channel *inner;
  int32_t worker, workers;
  pthread_t thread;
} channel_worker;

static channel_worker channel_workers[MOST];
static int32_t num_channel_workers;
static _Atomic int progress_frames;

static disco_status counting_recv(disco_channel *self, const void **ret_frame, size_t *ret_size) {
  disco_channel *inner = ((channel_worker *)self)->inner;
  return inner->ops->recv(inner, ret_frame, ret_size);
}

static disco_status counting_reply(disco_channel *self, const void *frame, size_t size) {
  disco_channel *inner = ((channel_worker *)self)->inner;
  if (((const dsc_frame *)frame)->kind == DSC_FRAME_Progress) atomic_fetch_add(&progress_frames, 1);
  return inner->ops->reply(inner, frame, size);
}

static const disco_channel_ops counting_ops = {
    .struct_size = sizeof(disco_channel_ops), .recv = counting_recv, .reply = counting_reply};

static void *run_channel(void *argument) {
  channel_worker *self = argument;
  const disco_status status = disco_worker_run_channel(self->worker, self->workers, 1, &self->channel);
  (void)status; /* LOST where the test lets it be abandoned */
  self->inner->ops->destroy(self->inner);
  return NULL;
}

static disco_channel *start_channel_worker(int32_t worker, int32_t workers) {
  int to[2], from[2];
  disco_channel *mine = NULL;
  channel_worker *self = &channel_workers[num_channel_workers++];
  *self = (channel_worker){.channel = {&counting_ops}, .worker = worker, .workers = workers};
  assert_int_equal(pipe(to), 0);
  assert_int_equal(pipe(from), 0);
  expect_ok(disco_pipe_channel_create(from[0], to[1], &mine));
  expect_ok(disco_pipe_channel_create(to[0], from[1], &self->inner));
  assert_int_equal(pthread_create(&self->thread, NULL, run_channel, self), 0);
  return mine;
}

static disco_session *open_session(int kind, int32_t workers, uint32_t grace_ms) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, 1);
  disco_channel *channels[MOST] = {NULL};
  disco_session *session = NULL;
  close_gate();
  options.grace_ms = grace_ms;
  options.program = "/proc/self/exe";
  options.arena_bytes = 64 << 20;
  options.transport = kind == PIPES ? DISCO_TRANSPORT_PIPE : DISCO_TRANSPORT_AUTO;
  if (kind == CHANNELS) {
    for (int32_t i = 1; i < workers; i++) channels[i - 1] = start_channel_worker(i, workers);
    options.channels = channels;
  }
  expect_ok(kind == THREADS ? disco_session_create_threaded(&options, &session)
                            : disco_session_create_process(&options, &session));
  return session;
}

static void join_channel_workers(void) {
  while (num_channel_workers > 0) pthread_join(channel_workers[--num_channel_workers].thread, NULL);
}

static void close_session(disco_session *session) {
  open_gates();
  end_session(session);
  join_channel_workers();
}

/* Reports of workers behind a pipe are sent on when the one before is a tenth of a second old. */
static void be_unhurried(int kind) {
  if (kind == PIPES || kind == CHANNELS) sleep_ms(UNHURRIED_MS);
}

static disco_progress progress_of(disco_session *session, int32_t worker) {
  disco_progress progress = {.struct_size = sizeof(progress)};
  expect_ok(disco_session_get_progress(session, worker, &progress));
  assert_int_equal(progress.struct_size, sizeof(progress));
  return progress;
}

static void expect_dump(disco_session *session, const char *part) {
  char *text = NULL;
  expect_ok(disco_session_dump(session, &text));
  if (strstr(text, part) == NULL) {
    print_error("no `%s` in the dump:\n%s\n", part, text);
    fail();
  }
  disco_text_free(text);
}

/* Post a call; its result is dropped. Returns the command's number: what is released later may post one, too. */
static uint64_t post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *function = NULL, *result = NULL;
  expect_ok(disco_session_get_global_func(session, name, &function));
  expect_ok(disco_call(session, function, args, num_args, &result));
  const uint64_t command = disco_session_sequence(session);
  disco_dref_unref(function);
  disco_dref_unref(result);
  return command;
}

static uint64_t post_load(disco_session *session, const char *name) {
  return post(session, name, VALUES(any_text(model), any_text(plan)));
}

/* ---- What has to be read ---- */

static uint64_t bytes_of(int32_t workers, int32_t worker) {
  disco_weights *weights = NULL;
  disco_shard_plan *rules = NULL;
  uint64_t bytes = 0;
  expect_ok(disco_weights_open(model, &weights));
  expect_ok(disco_shard_plan_parse(plan, strlen(plan), &rules));
  for (int64_t i = 0; i < disco_weights_num_tensors(weights); i++) {
    disco_shard shard;
    expect_ok(disco_shard_of(weights, rules, i, workers, worker, &shard));
    bytes += shard.file_bytes;
  }
  disco_shard_plan_destroy(rules);
  disco_weights_close(weights);
  return bytes;
}

static uint64_t all_bytes(int32_t workers) {
  uint64_t bytes = 0;
  for (int32_t i = 0; i < workers; i++) bytes += bytes_of(workers, i);
  return bytes;
}

/* ---- Functions on workers ---- */

/* (path, plan): load_weights, and how that ended. */
static int load_and_note(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info me = {.struct_size = sizeof(me)};
  TVMFFIObjectHandle error = NULL;
  int64_t status = DISCO_OK;
  if (disco_worker_get_info(&me) != DISCO_OK) return disco_raise("RuntimeError", "no worker");
  if (call_global(load_weights, args, num_args, result) != 0) {
    char kind[64];
    TVMFFIErrorMoveFromRaised(&error);
    const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)((TVMFFIObject *)error + 1);
    (void)snprintf(kind, sizeof(kind), "%.*s", (int)cell->kind.size, cell->kind.data);
    status = dsc_status_of_kind(kind);
    (void)snprintf(gate->said[me.worker_id], sizeof(gate->said[0]), "%.*s", (int)cell->message.size,
                   cell->message.data);
    TVMFFIErrorSetRaised(error);
    dsc_object_unref(error);
  }
  atomic_store(&gate->ended[me.worker_id], status + 1);
  return status == DISCO_OK ? 0 : -1;
}

/* (done, total): says so. */
static int say_progress(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)num_args;
  result->type_index = kTVMFFINone;
  const disco_status status = disco_worker_progress((uint64_t)args[0].v_int64, (uint64_t)args[1].v_int64);
  return status == DISCO_OK ? 0 : disco_raise(disco_status_kind(status), "%s", disco_last_error_text());
}

/* (times): says so many times how far it is. */
static int say_often(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)num_args;
  result->type_index = kTVMFFINone;
  for (int64_t i = 1; i <= args[0].v_int64; i++)
    if (disco_worker_progress((uint64_t)i, (uint64_t)args[0].v_int64) != DISCO_OK)
      return disco_raise("RuntimeError", "%s", disco_last_error_text());
  return 0;
}

/* (): waits until its gate is wide open, and says nothing but in the gate's own words. */
static int be_quiet(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args;
  const int32_t id = dsc_worker_current()->setup.id;
  result->type_index = kTVMFFINone;
  atomic_store(&gate->ended[id], 1);
  while (atomic_load(&gate->allowed[id]) != INT64_MAX) sleep_ms(1);
  return 0;
}

/* (): what a worker may ask of its own session, which is a static here: a status for each, as digits. */
static disco_session *own_session;
static int ask_own_session(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args;
  disco_progress progress = {.struct_size = sizeof(progress)};
  disco_dref *map = NULL;
  const int looked = (int)disco_session_get_progress(own_session, 0, &progress);
  const int loaded = (int)disco_session_load_weights(own_session, model, plan, NULL, NULL, NULL, DISCO_FOREVER, &map);
  *result = dsc_int(looked * 10 + loaded);
  return 0;
}

/* ---- Reports are seen ---- */

/* From report to report of worker 1, which the others do not disturb. */
static void it_grows(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    disco_session *session = open_session(kind, 2, 0);
    for (int32_t w = 0; w < 2; w++) assert_int_equal(progress_of(session, w).sequence, 0);
    open_gate(0);
    const uint64_t command = post_load(session, load_weights), total = bytes_of(2, 1);
    uint64_t seen = 0, steps = 0;
    await_reports(1, 1);
    while (progress_of(session, 1).sequence != command) sleep_ms(1); /* it may have to travel */
    assert_int_equal(progress_of(session, 1).done, 0);
    while (seen < total) {
      const disco_progress now = progress_of(session, 1);
      assert_int_equal(now.sequence, command);
      assert_int_equal(now.total, total);
      assert_in_range(now.done, seen, total);
      if (now.done > seen || steps == 0) { /* the next one, please */
        seen = now.done;
        if (++steps == 3) expect_dump(session, " of 13 MiB\n");
        be_unhurried(kind);
        atomic_fetch_add(&gate->allowed[1], 1);
      }
      sleep_ms(1);
    }
    assert_in_range(steps, 4, 100); /* 0, 4, 8, 12, 13 MiB */
    open_gates();
    sync_all(session);
    for (int32_t w = 0; w < 2; w++) {
      const disco_progress last = progress_of(session, w);
      assert_int_equal(last.sequence, command);
      assert_int_equal(last.done, bytes_of(2, w));
      assert_int_equal(last.total, last.done);
    }
    close_session(session);
  }
}

/* What was held back on its way comes before the command is done. */
static void the_last_word_is_there_when_it_is_done(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    disco_session *session = open_session(kind, 3, 0);
    open_gates();
    for (int i = 0; i < 5; i++) {
      const uint64_t command = post_load(session, load_weights);
      sync_all(session);
      for (int32_t w = 0; w < 3; w++) {
        const disco_progress last = progress_of(session, w);
        assert_int_equal(last.sequence, command);
        assert_int_equal(last.done, bytes_of(3, w));
        assert_int_equal(last.total, last.done);
      }
    }
    close_session(session);
  }
}

static void functions_count_in_units_of_their_own(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    disco_session *session = open_session(kind, 2, 0);
    open_gate(0);
    (void)post(session, "test.say_progress", VALUES(dsc_int(3), dsc_int(7)));
    await_reports(1, 1);
    while (progress_of(session, 1).sequence == 0) sleep_ms(1);
    expect_dump(session, ", 3 of 7\n");
    open_gates();
    sync_all(session);
    assert_int_equal(progress_of(session, 1).total, 7);
    close_gate();
    open_gate(0);
    const uint64_t command = post(session, "test.say_progress", VALUES(dsc_int(5), dsc_int(0)));
    while (progress_of(session, 1).sequence != command) sleep_ms(1);
    assert_int_equal(progress_of(session, 1).done, 5);
    assert_int_equal(progress_of(session, 1).total, 0);
    expect_dump(session, ", 5 done\n");
    /* A command that says nothing leaves what was said, with its number; the dump does not show it as its own. */
    close_gate();
    atomic_store(&gate->allowed[1], 1);
    const uint64_t quiet = post(session, "test.be_quiet", VALUES(dsc_int(0)));
    char *text = NULL, number[40];
    bool is_there = false;
    while (atomic_load(&gate->ended[1]) == 0 || !is_there) { /* the word that it is may be on its way */
      sleep_ms(1);
      expect_ok(disco_session_is_done(session, 1, quiet - 1, &is_there));
    }
    expect_ok(disco_session_dump(session, &text));
    const char *line = strstr(text, "worker 1: "); /* worker 0 may still be in the command before */
    (void)snprintf(number, sizeof(number), ", command %llu, for ", (unsigned long long)quiet);
    assert_non_null(line);
    assert_non_null(strstr(line, number));
    assert_null(strstr(line, "5 done"));
    disco_text_free(text);
    open_gates();
    sync_all(session);
    assert_int_equal(progress_of(session, 1).sequence, command);
    close_session(session);
  }
}

/* A channel is not flooded: a frame for a tenth of a second, the first, and the last one that was held back. */
static void frames_are_few(void **state) {
  (void)state;
  disco_session *session = open_session(CHANNELS, 2, 0);
  const int64_t times = 200000 / test_scale();
  open_gates();
  sync_all(session);
  atomic_store(&progress_frames, 0);
  const int64_t began = dsc_clock_now_ns();
  (void)post(session, "test.say_often", VALUES(dsc_int(times)));
  sync_all(session);
  const int64_t tenths = (dsc_clock_now_ns() - began) / 90000000; /* the clock that counts them is a coarse one */
  assert_int_equal(progress_of(session, 1).done, times);
  assert_in_range(atomic_load(&progress_frames), 2, tenths + 2);
  close_session(session);
}

/* A function that says something is slow when it has not said anything else for that long. */
static _Atomic int warnings;
static char warning[512];
static void on_log(void *context, disco_log_level level, const char *message) {
  (void)context, (void)level;
  (void)snprintf(warning, sizeof(warning), "%s", message);
  atomic_fetch_add(&warnings, 1);
}

static void warnings_of_slow_workers_know_it(void **state) {
  (void)state;
  disco_session *session = open_session(THREADS, 2, 0);
  dsc_engine *engine = session->engine;
  open_gate(0);
  (void)post_load(session, load_weights);
  await_reports(1, 1);
  while (progress_of(session, 0).sequence == 0 || progress_of(session, 0).done < bytes_of(2, 0)) sleep_ms(1);
  disco_set_log_callback(on_log, NULL, DISCO_LOG_WARN);
  const int64_t long_ago = dsc_clock_now_ns() - (int64_t)3600 * 1000000000;
  dsc_warn_slow(engine); /* has seen it */
  dsc_store_relaxed(&engine->watch[1].since_ns, long_ago);
  dsc_store_relaxed(&engine->watch[1].progress, 1); /* and something else: it moves */
  dsc_warn_slow(engine);
  assert_int_equal(atomic_load(&warnings), 0);
  dsc_store_relaxed(&engine->watch[1].since_ns, long_ago);
  dsc_warn_slow(engine);
  assert_int_equal(atomic_load(&warnings), 1);
  assert_non_null(strstr(warning, "worker 1 is slow: in `libdisco.load_weights`"));
  assert_non_null(strstr(warning, ", 0 of 13 MiB"));
  disco_set_log_callback(NULL, NULL, DISCO_LOG_WARN);
  open_gates();
  sync_all(session);
  close_session(session);
}

/* ---- Loading, watched ---- */

typedef struct {
  int kind, calls;
  int between; /* calls at which some bytes were read, but not all */
  double fastest;
  disco_load_progress last;
  int32_t paused;  /* the worker whose gate is closed until it was seen to be the slowest */
  uint64_t others; /* bytes of all others together */
  bool was_named;
  int end_at; /* this call returns false; 0: none */
} watcher;

static bool note(watcher *self, const disco_load_progress *progress) {
  assert_int_equal(progress->struct_size, sizeof(*progress));
  assert_true(progress->bytes_done >= self->last.bytes_done);
  assert_true(progress->bytes_total == 0 || progress->bytes_done <= progress->bytes_total);
  assert_true(progress->slowest_done <= progress->slowest_total);
  assert_true(progress->bytes_per_second >= 0);
  if (progress->bytes_done > 0 && progress->bytes_done < progress->bytes_total) self->between++;
  if (progress->bytes_per_second > self->fastest) self->fastest = progress->bytes_per_second;
  self->last = *progress;
  return ++self->calls != self->end_at;
}

static bool note_only(void *context, const disco_load_progress *progress) { return note(context, progress); }

/* Each call lets every worker make one more report. */
static bool step(void *context, const disco_load_progress *progress) {
  for (int32_t i = 0; i < MOST; i++) atomic_fetch_add(&gate->allowed[i], 1);
  return note(context, progress);
}

static disco_status load(disco_session *session, disco_load_progress_fn progress, watcher *self, disco_dref **ret_map) {
  return disco_session_load_weights(session, model, plan, NULL, progress, self, WORK_MS, ret_map);
}

static void expect_map(disco_session *session, disco_dref *map) {
  disco_dref *size = call(session, "ffi.MapSize", VALUES(any_dref(map)));
  for (int32_t w = 0; w < disco_session_num_workers(session); w++) assert_int_equal(get(size, w).v_int64, 2);
  disco_dref_unref(size);
}

static void it_is_watched(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    watcher self = {.kind = kind};
    disco_session *session = open_session(kind, 2, 0);
    disco_dref *map = NULL;
    expect_ok(load(session, step, &self, &map));
    assert_true(self.between >= 1 && self.calls >= 4); /* each call lets one through, and the last is at the end */
    assert_true(self.fastest > 0);
    assert_int_equal(self.last.bytes_total, all_bytes(2));
    assert_int_equal(self.last.bytes_done, all_bytes(2));
    assert_int_equal(self.last.slowest_done, bytes_of(2, self.last.slowest_worker));
    expect_map(session, map);
    disco_dref_unref(map);
    /* once more, open: at least the call at the end */
    open_gates();
    self = (watcher){.kind = kind};
    expect_ok(load(session, note_only, &self, &map));
    assert_true(self.calls >= 1);
    assert_int_equal(self.last.bytes_done, all_bytes(2));
    assert_int_equal(self.last.bytes_total, all_bytes(2));
    disco_dref_unref(map);
    expect_ok(load(session, NULL, NULL, &map)); /* nobody looks */
    expect_map(session, map);
    disco_dref_unref(map);
    close_session(session);
  }
}

/* The others come to their ends while one does not: it is named, and so are its bytes. */
static bool look_for_the_slowest(void *context, const disco_load_progress *progress) {
  watcher *self = context;
  if (progress->slowest_worker == self->paused && progress->bytes_done - progress->slowest_done == self->others &&
      !self->was_named) {
    assert_int_equal(progress->bytes_total, self->others + progress->slowest_total);
    assert_true(progress->slowest_done < progress->slowest_total);
    self->was_named = true;
    open_gates();
  }
  return note(self, progress);
}

static void the_slowest_is_named(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    for (int32_t paused = 0; paused < 3; paused++) {
      disco_session *session = open_session(kind, 3, 0);
      const uint64_t bytes = bytes_of(3, paused);
      watcher self = {.kind = kind, .paused = paused, .others = all_bytes(3) - bytes};
      disco_dref *map = NULL;
      open_gates();
      atomic_store(&gate->allowed[paused], paused == 1 ? 2 : 0); /* worker 1 somewhere in the middle */
      expect_ok(load(session, look_for_the_slowest, &self, &map));
      assert_true(self.was_named);
      assert_int_equal(self.last.slowest_worker, paused); /* nobody came behind it later */
      assert_int_equal(self.last.slowest_total, bytes);
      assert_int_equal(self.last.bytes_done, all_bytes(3));
      disco_dref_unref(map);
      close_session(session);
    }
  }
}

/* Nothing is known of a worker that has not come to it yet, but that it is behind all others. */
static bool look_before_it_begins(void *context, const disco_load_progress *progress) {
  watcher *self = context;
  if (progress->bytes_done == self->others) {
    assert_int_equal(progress->bytes_total, 0);
    assert_int_equal(progress->slowest_worker, 1);
    assert_int_equal(progress->slowest_total, 0);
    open_gates();
  }
  return note(self, progress);
}

static void a_worker_that_has_not_begun(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    watcher self = {.kind = kind, .others = bytes_of(2, 0)};
    disco_session *session = open_session(kind, 2, 0);
    disco_dref *map = NULL;
    open_gate(0);
    (void)post(session, "test.say_progress", VALUES(dsc_int(1), dsc_int(2))); /* worker 1 waits in this */
    expect_ok(load(session, look_before_it_begins, &self, &map));
    assert_int_equal(self.last.bytes_done, all_bytes(2));
    disco_dref_unref(map);
    close_session(session);
  }
}

/* ---- Ends ---- */

static uint64_t live_registers(disco_session *session) {
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  expect_ok(disco_session_get_stats(session, &stats));
  return stats.live_registers;
}

static void the_callback_ends_the_wait(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    watcher self = {.kind = kind, .end_at = 2};
    disco_session *session = open_session(kind, 2, 0);
    disco_dref *const untouched = (disco_dref *)&self, *map = untouched;
    const uint64_t live = live_registers(session);
    expect_status(DISCO_INTERRUPTED, load(session, note_only, &self, &map));
    expect_says("progress callback");
    assert_ptr_equal(map, untouched);
    assert_int_equal(self.calls, 2);
    assert_int_equal(live_registers(session), live); /* nobody has a handle of what comes */
    open_gates();
    sync_all(session);
    assert_int_equal(progress_of(session, 1).done, bytes_of(2, 1)); /* it went on */
    expect_ok(load(session, NULL, NULL, &map));
    expect_map(session, map);
    disco_dref_unref(map);
    close_session(session);
  }
}

static void the_time_is_over(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    disco_session *session = open_session(kind, 2, 0);
    disco_dref *map = NULL;
    expect_status(DISCO_TIMEOUT,
                  disco_session_load_weights(session, model, plan, NULL, NULL, NULL, UNHURRIED_MS, &map));
    expect_says("load_weights: the deadline passed");
    assert_null(map);
    open_gates();
    sync_all(session);
    expect_ok(load(session, NULL, NULL, &map));
    disco_dref_unref(map);
    close_session(session);
  }
}

/* A load that fails on a worker is an error like any other's. */
static void a_worker_raises(void **state) {
  (void)state;
  for (int kind = 0; kind < KINDS; kind++) {
    watcher self = {.kind = kind};
    disco_session *session = open_session(kind, 2, 0);
    disco_dref *map = NULL;
    open_gates();
    expect_kind("RuntimeError", disco_session_load_weights(session, "/nowhere/model.gguf", plan, NULL, note_only, &self,
                                                           WORK_MS, &map));
    expect_says("/nowhere/model.gguf");
    expect_kind("ValueError", disco_session_load_weights(session, model, "{}", NULL, note_only, &self, WORK_MS, &map));
    expect_kind("RuntimeError",
                disco_session_load_weights(session, model, plan, "/nowhere/manifest", note_only, &self, WORK_MS, &map));
    assert_null(map);
    sync_all(session);
    expect_ok(load(session, note_only, &self, &map));
    disco_dref_unref(map);
    close_session(session);
  }
}

/* Shutdown waits for its grace time; then who says how far it is hears that it is over. */
static void shutdown_ends_it(void **state) {
  (void)state;
  const int kinds[] = {THREADS, CHANNELS};
  for (int k = 0; k < 2; k++) {
    disco_session *session = open_session(kinds[k], 2, 50);
    atomic_store(&gate->allowed[1], 1);
    (void)post_load(session, "test.load");
    for (int32_t w = 0; w < 2; w++) await_reports(w, 1 + w);
    const disco_status status = disco_session_shutdown(session); /* LOST when that took them too long */
    assert_true(status == DISCO_OK || status == DISCO_LOST);
    if (kinds[k] == CHANNELS) { /* its next report finds nobody */
      be_unhurried(CHANNELS);
      open_gate(1);
    }
    for (int32_t w = 0; w < 2; w++) {
      while (atomic_load(&gate->ended[w]) == 0) sleep_ms(1);
      assert_int_equal(atomic_load(&gate->ended[w]), DISCO_CLOSED + 1);
      assert_int_equal(atomic_load(&gate->at[w]), 1 + w);
      assert_non_null(strstr(gate->said[w], w == 0 ? "grace time is over" : "reading tensor \"rows\""));
    }
    disco_session_unref(session);
    join_channel_workers();
  }
}

/* Processes are killed, and what they were doing is said. */
static void shutdown_ends_processes(void **state) {
  (void)state;
  for (int kind = PROCESSES; kind <= PIPES; kind++) {
    disco_session *session = open_session(kind, 2, 200);
    (void)post_load(session, load_weights);
    await_reports(1, 1);
    while (progress_of(session, 1).sequence == 0) sleep_ms(1);
    open_gate(0);
    expect_status(DISCO_LOST, disco_session_shutdown(session));
    expect_says("in `libdisco.load_weights`");
    expect_says(", 0 of 13 MiB");
    assert_int_not_equal(kill((pid_t)atomic_load(&gate->pid[1]), 0), 0);
    disco_session_unref(session);
  }
}

/* The last worker's process is killed as soon as it waits at its gate. */
static bool kill_the_last(void *context, const disco_load_progress *progress) {
  watcher *self = context;
  const int32_t last = self->paused;
  if (atomic_load(&gate->at[last]) > 0 && !self->was_named) {
    self->was_named = true;
    assert_int_equal(kill((pid_t)atomic_load(&gate->pid[last]), SIGKILL), 0);
  }
  return note(self, progress);
}

static void a_worker_is_killed(void **state) {
  (void)state;
  for (int kind = PROCESSES; kind <= PIPES; kind++) {
    const int32_t workers = kind == PROCESSES ? 3 : 2; /* one behind a pipe does not hear of another's death */
    watcher self = {.kind = kind, .paused = workers - 1};
    disco_session *session = open_session(kind, workers, 0);
    disco_dref *map = NULL;
    disco_error_info error = {.struct_size = sizeof(error)};
    expect_status(DISCO_LOST, load(session, kill_the_last, &self, &map)); /* all gates are closed */
    expect_ok(disco_last_error(&error));
    assert_int_equal(error.worker, workers - 1);
    assert_int_equal(error.signal_number, SIGKILL);
    assert_null(map);
    expect_status(DISCO_LOST, load(session, NULL, NULL, &map));
    /* The others were told: each made the report at which it waited, and no other. */
    expect_ok(disco_session_shutdown(session));
    for (int32_t w = 0; w < workers; w++) assert_int_equal(atomic_load(&gate->at[w]), 1);
    disco_session_unref(session);
  }
}

/* ---- What is refused ---- */

static void wrong_arguments(void **state) {
  (void)state;
  disco_session *session = open_session(THREADS, 2, 0);
  disco_progress progress = {.struct_size = 0};
  disco_dref *map = NULL;
  open_gates();
  expect_status(DISCO_VALUE, disco_session_get_progress(session, 0, &progress));
  expect_says("struct_size");
  progress.struct_size = sizeof(progress);
  for (int32_t w = -1; w <= 2; w += 3) {
    expect_status(DISCO_VALUE, disco_session_get_progress(session, w, &progress));
    expect_says("there is no worker");
  }
  expect_status(DISCO_VALUE, disco_session_get_progress(NULL, 0, &progress));
  expect_status(DISCO_VALUE, disco_session_get_progress(session, 0, NULL));
  (void)post(session, "test.say_progress", VALUES(dsc_int(8), dsc_int(9)));
  sync_all(session);
  progress = (disco_progress){offsetof(disco_progress, total), 0, 0, 77}; /* an older caller's */
  expect_ok(disco_session_get_progress(session, 1, &progress));
  assert_int_equal(progress.done, 8);
  assert_int_equal(progress.total, 77);
  expect_status(DISCO_VALUE, disco_worker_progress(1, 2));
  expect_says("not a DiscoWorker thread");
  expect_status(DISCO_VALUE, disco_session_load_weights(NULL, model, plan, NULL, NULL, NULL, 1, &map));
  expect_status(DISCO_VALUE, disco_session_load_weights(session, NULL, plan, NULL, NULL, NULL, 1, &map));
  expect_status(DISCO_VALUE, disco_session_load_weights(session, model, NULL, NULL, NULL, NULL, 1, &map));
  expect_status(DISCO_VALUE, disco_session_load_weights(session, model, plan, NULL, NULL, NULL, 1, NULL));
  own_session = session;
  disco_dref *asked = call(session, "test.ask_own_session", VALUES(dsc_int(0)));
  assert_int_equal(get(asked, 1).v_int64, DISCO_OK * 10 + DISCO_RUNTIME);
  disco_dref_unref(asked);
  expect_ok(disco_session_shutdown(session));
  progress.struct_size = sizeof(progress);
  expect_ok(disco_session_get_progress(session, 1, &progress)); /* also when it is over */
  expect_status(DISCO_CLOSED, load(session, NULL, NULL, &map));
  expect_says("load_weights: the session was shut down");
  assert_null(map);
  disco_session_unref(session);
}

static void without_any_allocation(void **state) {
  (void)state;
  disco_session *session = open_session(THREADS, 1, 0);
  disco_status status = DISCO_OK;
  long n = 0, made = 0;
  open_gates();
  while (made >= n) {
    watcher self = {.kind = THREADS};
    disco_dref *map = NULL;
    (void)dsc_inject_fail_allocation(++n);
    status = load(session, note_only, &self, &map);
    made = dsc_inject_fail_allocation(0);
    disco_error_info error = {.struct_size = sizeof(error)};
    if (status != DISCO_OK) {
      expect_ok(disco_last_error(&error));
      if (strcmp(error.kind, "MemoryError") != 0 && strstr(error.message, "(EMFILE)") == NULL &&
          strstr(error.message, "(EIO)") == NULL)
        fail_msg("allocation %ld: %s", n, error.text);
      status = disco_session_sync(session, DISCO_ALL_WORKERS, WORK_MS); /* whatever was not told yet */
    }
    disco_dref_unref(map);
  }
  assert_in_range(n, 10, 9999);
  expect_ok(status);
  close_session(session);
}

static int make_model(void **state) {
  (void)state;
  static const writer_tensor tensors[] = {
      {"rows", "F32", 2, {6, 1 << 20}}, {"small", "I8", 1, {1 << 20}}, {"skipped", "F32", 1, {100}}};
  const writer_model wanted = {.seed = 4, .num_tensors = 3, .tensors = tensors};
  (void)snprintf(model, sizeof(model), "%s", own_path("model.safetensors"));
  (void)setenv("TEST_GATE", own_path("gate"), 1);
  map_gate(getenv("TEST_GATE"));
  return writer_write(&wanted, WRITER_SAFETENSORS, model) == NULL ? 0 : -1;
}

static void register_functions(void) {
  static const struct {
    const char *name;
    TVMFFISafeCallType function;
  } all[] = {{"test.load", load_and_note},
             {"test.say_progress", say_progress},
             {"test.ask_own_session", ask_own_session},
             {"test.say_often", say_often},
             {"test.be_quiet", be_quiet}};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    if (disco_register_function(all[i].name, all[i].function, NULL, NULL, false) != DISCO_OK) exit(3);
}

int main(int argc, char **argv) {
  register_functions();
  dsc_inject_set(wait_at_gate, NULL);
  if (argc > 1 && strcmp(argv[1], "worker") == 0) {
    map_gate(getenv("TEST_GATE"));
    return be_worker(argc, argv);
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_grows),
      cmocka_unit_test(the_last_word_is_there_when_it_is_done),
      cmocka_unit_test(functions_count_in_units_of_their_own),
      cmocka_unit_test(frames_are_few),
      cmocka_unit_test(warnings_of_slow_workers_know_it),
      cmocka_unit_test(it_is_watched),
      cmocka_unit_test(the_slowest_is_named),
      cmocka_unit_test(a_worker_that_has_not_begun),
      cmocka_unit_test(the_callback_ends_the_wait),
      cmocka_unit_test(the_time_is_over),
      cmocka_unit_test(a_worker_raises),
      cmocka_unit_test(shutdown_ends_it),
      cmocka_unit_test(shutdown_ends_processes),
      cmocka_unit_test(a_worker_is_killed),
      cmocka_unit_test(wrong_arguments),
      cmocka_unit_test(without_any_allocation),
  };
  alarm(110);
  const int failed = cmocka_run_group_tests_name("weights.progress", tests, make_model, NULL);
  remove_own_files();
  return failed;
}
