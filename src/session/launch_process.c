/* Workers as processes: started by our own pool, by somebody else's, or already there behind a user's channels. Worker
 * 0 is a thread of ours. Nothing here waits for a worker: the ring buffers what is posted meanwhile. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "os/cgroup.h"
#include "os/library.h"
#include "os/pipe.h"
#include "session/remote.h"

dsc_hello dsc_hello_for(const dsc_engine *engine, int32_t worker) {
  const dsc_segment_header *header = engine->segment.header;
  bool offer = !engine->settings.pipe_only && engine->segment.memory.fd >= 0;
  dsc_hello hello = {.pid = engine->pid,
                     .segment_fd = offer ? engine->segment.memory.fd : -1,
                     .arena_fd = offer ? engine->arena.fd : -1,
                     .arena_range_bytes = engine->arena.range_bytes,
                     .num_workers = engine->settings.num_workers,
                     .num_groups = engine->settings.num_groups,
                     .spin_us = engine->settings.spin_us};
  dsc_frame_begin(&hello.head, DSC_FRAME_Hello, sizeof(hello), header->session, worker, 0);
  memcpy(hello.nonce, header->nonce, sizeof(hello.nonce));
  return hello;
}

static disco_status make_remote(dsc_engine *engine, int32_t worker, dsc_remote **ret_remote) {
  dsc_remote *remote = dsc_alloc(sizeof(*remote), "a worker process");
  if (remote == NULL) return DISCO_MEMORY;
  dsc_list_init(&remote->link);
  remote->engine = engine;
  remote->worker = worker;
  remote->pidfd = remote->read_fd = remote->write_fd = -1;
  remote->output[0].fd = remote->output[1].fd = -1;
  engine->remotes[worker] = remote;
  *ret_remote = remote;
  return DISCO_OK;
}

/* Both pipes are there: speak first, and have the answer looked for. */
static disco_status introduce(dsc_engine *engine, dsc_remote *remote) {
  dsc_hello hello = dsc_hello_for(engine, remote->worker);
  size_t moved = 0;
  disco_status status = dsc_fd_adopt(remote->read_fd, true);
  if (status == DISCO_OK) status = dsc_fd_adopt(remote->write_fd, true);
  if (status != DISCO_OK) return status;
  dsc_io io = dsc_fd_write(remote->write_fd, &hello, sizeof(hello), &moved); /* an empty pipe has room for it */
  if (io == DSC_IO_ERROR || (io == DSC_IO_MORE && moved < sizeof(hello)) || io == DSC_IO_AGAIN)
    return dsc_fail(DISCO_LOST, "the pipe to worker %d does not take the first frame", remote->worker);
  return dsc_monitor_add(remote); /* a peer that is gone already shows as the end of its pipe */
}

/* ---- Our own pool ---- */

typedef struct {
  const disco_session_options *options;
  char *program;
  const char **argv;
  int num_fixed; /* of argv: what all workers get */
  char numbers[6][16];
} own_pool;

enum { CHILD_READ = 3, CHILD_WRITE = 4, MAX_LIBRARIES = 256 };

static int count_words(const char *const *words) {
  int count = 0;
  while (words != NULL && words[count] != NULL) count++;
  return count;
}

static disco_status prepare_pool(const dsc_engine *engine, const disco_session_options *options, own_pool *ret_pool) {
  const int libraries = count_words(options->libraries), words = count_words(options->program_arguments);
  *ret_pool = (own_pool){.options = options};
  if (words > MAX_LIBRARIES)
    return dsc_fail(DISCO_VALUE, "option program_arguments lists %d words, at most %d", words, MAX_LIBRARIES);
  if (libraries > MAX_LIBRARIES)
    return dsc_fail(DISCO_VALUE, "option libraries lists %d libraries, at most %d", libraries, MAX_LIBRARIES);
  ret_pool->program = options->program != NULL ? strdup(options->program) : dsc_worker_program();
  ret_pool->argv = dsc_alloc((size_t)(2 * libraries + words + 10) * sizeof(char *), "a command line");
  if (ret_pool->program == NULL || ret_pool->argv == NULL) return DISCO_MEMORY;
  const char **argv = ret_pool->argv;
  int n = 0;
  argv[n++] = ret_pool->program;
  for (int i = 0; i < words; i++) argv[n++] = options->program_arguments[i];
  argv[n++] = "worker";
  (void)snprintf(ret_pool->numbers[1], 16, "%d", engine->settings.num_workers);
  (void)snprintf(ret_pool->numbers[2], 16, "%d", engine->settings.num_groups);
  (void)snprintf(ret_pool->numbers[3], 16, "%d", CHILD_READ);
  (void)snprintf(ret_pool->numbers[4], 16, "%d", CHILD_WRITE);
  for (int i = 0; i < 5; i++) argv[n++] = ret_pool->numbers[i];
  for (int i = 0; i < libraries; i++) {
    argv[n++] = "--load";
    argv[n++] = options->libraries[i];
  }
  ret_pool->num_fixed = n;
  return DISCO_OK;
}

static void free_pool(own_pool *pool) {
  free(pool->argv);
  free(pool->program);
}

/* Pipes of a worker, both sides: [0] reads. */
typedef struct {
  int commands[2], answers[2], out[2], err[2];
} pipes;

static void close_pipes(pipes *all) {
  for (int i = 0; i < 2; i++) {
    dsc_fd_close(&all->commands[i]);
    dsc_fd_close(&all->answers[i]);
    dsc_fd_close(&all->out[i]);
    dsc_fd_close(&all->err[i]);
  }
}

/* Without a callback what a worker writes to stderr is passed on to ours: it is read anyway, for the error of a death.
 */
static void pass_on(void *context, int32_t worker, int stream, const char *line, size_t size) {
  (void)context;
  (void)worker;
  (void)stream;
  char bytes[DSC_OUTPUT_LINE + 33];
  memcpy(bytes, line, size);
  bytes[size] = '\n';
  dsc_fd_write_if_ready(2, bytes, size + 1);
}

static int take(int *fd) {
  int taken = *fd;
  *fd = -1;
  return taken;
}

static disco_status spawn_one(dsc_engine *engine, own_pool *pool, dsc_remote *remote) {
  const disco_session_options *options = pool->options;
  pipes all = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
  disco_status status = dsc_pipe_create(all.commands);
  if (status == DISCO_OK) status = dsc_pipe_create(all.answers);
  if (status == DISCO_OK) status = dsc_pipe_create(all.err);
  if (status == DISCO_OK && options->output != NULL) status = dsc_pipe_create(all.out);
  if (status == DISCO_OK) {
    char cpu[16];
    int n = pool->num_fixed;
    (void)snprintf(pool->numbers[0], 16, "%d", remote->worker);
    if (options->cpus != NULL && options->cpus[remote->worker] >= 0) {
      (void)snprintf(cpu, sizeof(cpu), "%d", options->cpus[remote->worker]);
      pool->argv[n++] = "--cpu";
      pool->argv[n++] = cpu;
    }
    pool->argv[n] = NULL;
    dsc_spawn how = {.program = pool->program,
                     .argv = pool->argv,
                     .environment = options->environment,
                     .working_directory = options->working_directory,
                     .num_fds = options->output != NULL ? 4 : 3,
                     .child_fd = {CHILD_READ, CHILD_WRITE, 2, 1},
                     .own_fd = {all.commands[0], all.answers[1], all.err[1], all.out[1]}};
    remote->oom_kills = dsc_memory_oom_kills();
    status = dsc_process_spawn(&how, &remote->pid, &remote->pidfd);
  }
  if (status == DISCO_OK) {
    remote->is_child = true;
    remote->read_fd = take(&all.answers[0]);
    remote->write_fd = take(&all.commands[1]);
    remote->output[0].fd = take(&all.out[0]);
    remote->output[1].fd = take(&all.err[0]);
    remote->output_fn = options->output != NULL ? options->output : pass_on;
    remote->output_context = options->output_context;
    for (int i = 0; status == DISCO_OK && i < 2; i++)
      if (remote->output[i].fd >= 0) status = dsc_fd_adopt(remote->output[i].fd, true);
  }
  close_pipes(&all);
  return status == DISCO_OK ? introduce(engine, remote) : status;
}

static disco_status launch_own(dsc_engine *engine, const disco_session_options *options) {
  own_pool pool;
  disco_status status = prepare_pool(engine, options, &pool);
  for (int32_t i = 1; status == DISCO_OK && i < engine->settings.num_workers; i++) {
    dsc_remote *remote = NULL;
    status = make_remote(engine, i, &remote);
    if (status == DISCO_OK) status = spawn_one(engine, &pool, remote);
  }
  free_pool(&pool);
  return status;
}

/* The workers' libraries register functions for worker 0, too. */
static disco_status load_libraries(const disco_session_options *options) {
  for (int i = 0; options->libraries != NULL && options->libraries[i] != NULL; i++)
    if (dlopen(options->libraries[i], RTLD_NOW | RTLD_GLOBAL) == NULL) {
      const char *why = dlerror();
      return dsc_fail(DISCO_VALUE, "cannot load the library %s: %s", options->libraries[i], why != NULL ? why : "?");
    }
  return DISCO_OK;
}

/* ---- Somebody else's pool ---- */

static disco_status find_creator(const char *name, TVMFFIObject **ret_function) {
  disco_status status = dsc_function_find(name, ret_function);
  if (status != DISCO_OK || *ret_function != NULL) return status;
  dsc_text text = DSC_TEXT_INIT;
  dsc_function_unknown(name, &text);
  status = dsc_fail(DISCO_VALUE, "the process pool's creator: %s", text.data != NULL ? text.data : name);
  dsc_text_fini(&text);
  return status;
}

static disco_status create_pool(dsc_engine *engine, const disco_session_options *options) {
  TVMFFIObject *creator = NULL;
  const char *entrypoint = options->entrypoint != NULL ? options->entrypoint : "tvm.exec.disco_worker";
  TVMFFIAny args[3] = {dsc_int(engine->settings.num_workers), dsc_int(engine->settings.num_groups), dsc_none()};
  TVMFFIAny result = dsc_none();
  disco_status status = find_creator(options->pool_creator, &creator);
  if (status != DISCO_OK) return status;
  status = dsc_value_from_string(entrypoint, strlen(entrypoint), &args[2]);
  if (status == DISCO_OK && TVMFFIFunctionCall(creator, args, 3, &result) != 0)
    status = dsc_error_take_raised(DISCO_RAISED);
  dsc_value_drop(&args[2]);
  dsc_object_unref(creator);
  if (status != DISCO_OK) return status;
  if (result.type_index != kTVMFFIFunction) {
    status = dsc_fail(DISCO_TYPE, "the process pool's creator `%s` must return a function, but it returned `%s`",
                      options->pool_creator, dsc_value_type_name(&result));
    dsc_value_drop(&result);
    return status;
  }
  dsc_store_release(&engine->pool, result.v_obj);
  return DISCO_OK;
}

static disco_status ask_pool(dsc_engine *engine, dsc_remote *remote) {
  TVMFFIAny id = dsc_int(remote->worker), result = dsc_none();
  int64_t room[4];
  const int64_t *fds = NULL;
  size_t count = 0;
  if (TVMFFIFunctionCall(dsc_load_relaxed(&engine->pool), &id, 1, &result) != 0)
    return dsc_error_take_raised(DISCO_RAISED);
  disco_status status = DISCO_OK;
  if (!dsc_value_as_shape(&result, room, 4, &fds, &count) || count != 2 || fds[0] < 0 || fds[0] > INT32_MAX ||
      fds[1] < 0 || fds[1] > INT32_MAX)
    status = dsc_fail(DISCO_TYPE,
                      "the process pool must answer worker %d with Shape(read_fd, write_fd), two descriptors, but it "
                      "answered with `%s` of %zu numbers",
                      remote->worker, dsc_value_type_name(&result), count);
  if (status == DISCO_OK) {
    remote->read_fd = (int)fds[0];
    remote->write_fd = (int)fds[1];
  }
  dsc_value_drop(&result);
  return status;
}

static disco_status launch_foreign(dsc_engine *engine, const disco_session_options *options) {
  disco_status status = create_pool(engine, options);
  for (int32_t i = 1; status == DISCO_OK && i < engine->settings.num_workers; i++) {
    dsc_remote *remote = NULL;
    status = make_remote(engine, i, &remote);
    if (status == DISCO_OK) status = ask_pool(engine, remote);
    if (status != DISCO_OK) break;
    status = introduce(engine, remote);
    if (status == DISCO_VALUE) {
      char why[256];
      (void)snprintf(why, sizeof(why), "%s", disco_last_error_text());
      status = dsc_fail(DISCO_VALUE, "what the process pool answered for worker %d: %s", i, why);
    }
  }
  return status;
}

void dsc_pool_finish(dsc_engine *engine) {
  TVMFFIObject *pool = atomic_exchange(&engine->pool, NULL);
  if (pool == NULL) return;
  TVMFFIAny zero = dsc_int(0), result = dsc_none();
  if (TVMFFIFunctionCall(pool, &zero, 1, &result) != 0) {
    (void)dsc_error_take_raised(DISCO_RAISED);
    dsc_log(DSC_LOG_WARN, "the process pool raised when it was told to end: %s", disco_last_error_text());
  }
  dsc_value_drop(&result);
  dsc_object_unref(pool);
}

/* ---- A user's channels ---- */

void dsc_channels_destroy(const disco_session_options *options) {
  for (int32_t i = 1; options != NULL && options->channels != NULL && i < options->num_workers; i++)
    if (options->channels[i - 1] != NULL && options->channels[i - 1]->ops != NULL)
      options->channels[i - 1]->ops->destroy(options->channels[i - 1]);
}

static disco_status launch_channels(dsc_engine *engine, const disco_session_options *options) {
  disco_status status = DISCO_OK;
  for (int32_t i = 1; i < engine->settings.num_workers; i++) {
    dsc_remote *remote = NULL;
    disco_channel *channel = options->channels[i - 1];
    if (status == DISCO_OK) status = make_remote(engine, i, &remote);
    if (status != DISCO_OK) { /* taken over all the same */
      channel->ops->destroy(channel);
      continue;
    }
    remote->channel = channel;
    status = dsc_pump_start(remote);
    if (status == DISCO_OK) status = dsc_monitor_add(remote);
  }
  return status;
}

/* ---- All ---- */

/* Unless it is set: as much address space for each as the machine has memory, but together no more than twice that, or
 * 512 GiB. */
static uint64_t default_arena_bytes(int32_t workers) {
  const uint64_t always = (uint64_t)512 << 30;
  uint64_t memory = dsc_memory_physical(), all = memory > always / 2 ? memory * 2 : always;
  uint64_t each = all / (uint64_t)workers;
  return each < memory ? each : memory;
}

static disco_status make_arena(dsc_engine *engine) {
  const uint64_t least = (uint64_t)64 << 20;
  uint64_t wanted = engine->settings.arena_bytes;
  uint64_t bytes = wanted != 0 ? wanted : default_arena_bytes(engine->settings.num_workers);
  disco_status status = dsc_arena_create(bytes, engine->settings.num_workers, &engine->arena);
  /* Nobody asked for that much: with little address space (ulimit -v, valgrind) take what there is. */
  while (status != DISCO_OK && wanted == 0 && bytes / 2 >= least) {
    bytes /= 2;
    status = dsc_arena_create(bytes, engine->settings.num_workers, &engine->arena);
  }
  if (status == DISCO_OK) status = dsc_arena_range_create(&engine->arena, 0, &engine->arena_range);
  return status;
}

disco_status dsc_launch_processes(dsc_engine *engine, const disco_session_options *options) {
  disco_status status = make_arena(engine);
  if (status == DISCO_OK) status = load_libraries(options);
  if (options->channels != NULL) {
    disco_status launched = launch_channels(engine, options);
    if (status == DISCO_OK) status = launched;
  } else if (status == DISCO_OK) {
    status = options->pool_creator != NULL ? launch_foreign(engine, options) : launch_own(engine, options);
  }
  engine->worker0_cpu = options->cpus != NULL ? options->cpus[0] : -1;
  return status == DISCO_OK ? dsc_launch_thread(engine, 0) : status;
}

/* ---- The end ---- */

typedef struct {
  dsc_engine_wait base;
  dsc_remote *remote;
  const dsc_status_line *line;
} remote_wait;

static bool is_gone(dsc_wait *wait) {
  const remote_wait *self = (remote_wait *)wait;
  if (dsc_load_acquire(&self->remote->state) == DSC_REMOTE_GONE) return true; /* acquire: remote.gone */
  /* The process of somebody else's pool is that pool's to wait for. */
  return !self->remote->is_child && dsc_load_acquire(&self->line->ended) != 0; /* acquire: status.ended */
}

static bool has_answered(dsc_wait *wait) {
  return dsc_load_acquire(&((remote_wait *)wait)->remote->state) != DSC_REMOTE_STARTING;
}

static bool wait_for(dsc_remote *remote, bool (*ready)(dsc_wait *), int64_t deadline_ns) {
  dsc_engine *engine = remote->engine;
  if (remote->is_child && remote->token == 0) { /* started, but the monitor refused it: nobody would tell us */
    enum { KILLED_MS = 1000 };
    (void)dsc_process_signal(remote->pidfd, 9);
    (void)dsc_process_wait(remote->pidfd, KILLED_MS);
    dsc_store_release(&remote->state, DSC_REMOTE_GONE);
    return true;
  }
  remote_wait wait = {
      {{.ready = ready, .before_sleep = dsc_drain_before_sleep, .doorbell = &engine->segment.header->controllers},
       engine},
      remote,
      dsc_segment_status(engine->segment.header, remote->worker)};
  dsc_guard guard = {.deadline_ns = deadline_ns};
  return dsc_wait_until(&wait.base.wait, &engine->patience, &guard) == DISCO_OK;
}

void dsc_remotes_give_up_starting(dsc_engine *engine) {
  enum { LONGEST_MS = 1000 };
  if (engine->remotes == NULL) return;
  dsc_segment_header *header = engine->segment.header;
  /* What was posted should run: give those that are about to answer a moment. */
  int64_t patience_ms = engine->settings.grace_ms / 4 < LONGEST_MS ? engine->settings.grace_ms / 4 : LONGEST_MS;
  int64_t deadline = dsc_clock_deadline_ns(dsc_load_relaxed(&engine->sequence) > 0 ? patience_ms : 0);
  for (int32_t i = 1; i < engine->settings.num_workers; i++)
    if (engine->remotes[i] != NULL) (void)wait_for(engine->remotes[i], has_answered, deadline);
  for (int32_t i = 1; i < engine->settings.num_workers; i++) {
    dsc_remote *remote = engine->remotes[i];
    dsc_status_line *line = dsc_segment_status(header, i);
    if (remote == NULL || dsc_load_acquire(&remote->state) != DSC_REMOTE_STARTING) continue;
    header->magic = 0; /* nobody attaches any more */
    dsc_fence();
    if (dsc_load_relaxed(&line->pid) != 0) continue; /* it is there, its answer is under way */
    atomic_store(&line->position, UINT64_MAX);
    dsc_store_release(&line->ended, 1);
    if (remote->is_child) (void)dsc_process_signal(remote->pidfd, 9);
  }
}

int32_t dsc_remotes_stop(dsc_engine *engine, int64_t deadline_ns, dsc_text *text) {
  enum { KILLED_MS = 1000 };
  int32_t killed = 0;
  for (int32_t i = 1; engine->remotes != NULL && i < engine->settings.num_workers; i++) {
    dsc_remote *remote = engine->remotes[i];
    if (remote == NULL || wait_for(remote, is_gone, deadline_ns)) continue;
    killed++;
    dsc_text_add(text, " worker %d (process %lld) was ", i, (long long)remote->pid);
    if (dsc_lock_briefly(engine)) {
      dsc_describe_worker(engine, i, text);
      dsc_leave(engine);
    }
    dsc_text_add(text, ";");
    dsc_remote_break(remote, "killed by shutdown");
  }
  int64_t last = dsc_clock_deadline_ns(KILLED_MS);
  for (int32_t i = 1; engine->remotes != NULL && i < engine->settings.num_workers; i++)
    if (engine->remotes[i] != NULL && killed > 0) (void)wait_for(engine->remotes[i], is_gone, last);
  return killed;
}

void dsc_remote_break_worker(dsc_engine *engine, int32_t worker, const char *reason) {
  (void)dsc_lock_take(&engine->look_lock, NULL); /* shutdown takes them away under it */
  if (engine->remotes != NULL && engine->remotes[worker] != NULL) dsc_remote_break(engine->remotes[worker], reason);
  dsc_lock_give(&engine->look_lock);
}

void dsc_remotes_free(dsc_engine *engine) {
  for (int32_t i = 1; engine->remotes != NULL && i < engine->settings.num_workers; i++) {
    dsc_remote *remote = engine->remotes[i];
    if (remote == NULL) continue;
    dsc_monitor_remove(remote);
    (void)dsc_lock_take(&engine->look_lock, NULL); /* a waiting call may be looking at it */
    engine->remotes[i] = NULL;
    dsc_lock_give(&engine->look_lock);
    dsc_pump_stop(remote->pump);
    if (remote->read_fd == remote->write_fd) remote->write_fd = -1; /* one socket, given twice */
    dsc_fd_close(&remote->read_fd);
    dsc_fd_close(&remote->write_fd);
    dsc_fd_close(&remote->output[0].fd);
    dsc_fd_close(&remote->output[1].fd);
    if (remote->is_child && remote->pidfd >= 0) dsc_process_reap(remote->pidfd);
    dsc_fd_close(&remote->pidfd);
    free(remote);
  }
}
