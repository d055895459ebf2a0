/* A pool as somebody writes it who knows the protocol and no more: pipes, fork, exec. And what this program does when a
 * pool starts it. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disco/channel.h"
#include "session/support.h"

foreign_counts foreign_pools;

/* ---- The pool ---- */

enum { MOST_WORKERS = 1024 };

typedef struct {
  int32_t num_workers, num_groups;
  char what[32]; /* the entrypoint: how a bad pool behaves */
  pid_t children[MOST_WORKERS];
  int peers[MOST_WORKERS][2]; /* of a silent pool: the ends that its workers would have */
  int32_t num_children, num_peers;
} pool;

/* Ours: close-on-exec, as Python's are, so that no other child holds them. */
static bool make_pipes(int to_worker[2], int from_worker[2]) {
  if (pipe2(to_worker, O_CLOEXEC) != 0) return false;
  if (pipe2(from_worker, O_CLOEXEC) == 0) return true;
  close(to_worker[0]);
  close(to_worker[1]);
  return false;
}

static int shape_of(const int64_t *numbers, int32_t count, TVMFFIAny *result) {
  TVMFFIAny values[4];
  TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle make = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0) return -1;
  for (int32_t i = 0; i < count; i++) values[i] = dsc_int(numbers[i]);
  int rc = TVMFFIFunctionCall(make, values, count, result);
  dsc_object_unref(make);
  return rc;
}

static pid_t start_child(const pool *self, int64_t worker, int read_fd, int write_fd) {
  char numbers[5][16], name[] = "/proc/self/exe", command[] = "worker";
  const int64_t values[5] = {worker, self->num_workers, self->num_groups, read_fd, write_fd};
  for (int i = 0; i < 5; i++) (void)snprintf(numbers[i], sizeof(numbers[i]), "%lld", (long long)values[i]);
  char *const argv[] = {name, command, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], NULL};
  extern char **environ;
  pid_t pid = fork();
  if (pid != 0) return pid;
  /* Nothing from here on takes a lock: other threads of the controller held any of them. */
  if (fcntl(read_fd, F_SETFD, 0) == 0 && fcntl(write_fd, F_SETFD, 0) == 0) (void)execve(name, argv, environ);
  _exit(127);
}

/* f(i): a worker and the controller's two ends */
static int start_worker(pool *self, int64_t worker, TVMFFIAny *result) {
  int to_worker[2], from_worker[2];
  if (worker >= self->num_workers || self->num_children >= MOST_WORKERS)
    return disco_raise("IndexError", "no worker %lld", (long long)worker);
  if (!make_pipes(to_worker, from_worker)) return disco_raise("OSError", "no pipe: errno %d", errno);
  pid_t pid = start_child(self, worker, to_worker[0], from_worker[1]);
  close(to_worker[0]);
  close(from_worker[1]);
  if (pid < 0) {
    close(to_worker[1]);
    close(from_worker[0]);
    return disco_raise("OSError", "no process: errno %d", errno);
  }
  self->children[self->num_children++] = pid;
  atomic_fetch_add(&foreign_pools.started, 1);
  return shape_of((const int64_t[]){from_worker[0], to_worker[1]}, 2, result);
}

static void wait_for_child(pid_t pid) {
  int status = 0;
  pid_t got = 0;
  for (int i = 0; i < WAIT_MS && got == 0; i++) {
    got = waitpid(pid, &status, WNOHANG);
    if (got == 0) sleep_ms(1);
  }
  if (got == 0) {
    atomic_fetch_add(&foreign_pools.killed, 1);
    (void)kill(pid, SIGKILL);
    got = waitpid(pid, &status, 0);
  } else if (got == pid && WIFEXITED(status) && (WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == LEFT_EARLY)) {
    atomic_fetch_add(&foreign_pools.early, 1); /* its session ended before it was there */
  } else if (got == pid && status != 0) {
    atomic_fetch_add(&foreign_pools.complaint, 1);
    (void)fprintf(stderr, "process %d of a foreign pool left with status 0x%x\n", (int)pid, (unsigned)status);
  }
  if (got == pid) atomic_fetch_add(&foreign_pools.gone, 1); /* else: somebody else took it, which is not theirs to do */
}

/* f(0): the end. The controller has closed its ends by now, so that every worker leaves. */
static void stop_pool(pool *self) {
  for (int32_t i = 0; i < self->num_children; i++) wait_for_child(self->children[i]);
  self->num_children = 0;
  for (int32_t i = 0; i < self->num_peers; i++) {
    close(self->peers[i][0]);
    close(self->peers[i][1]);
  }
  self->num_peers = 0;
  atomic_fetch_add(&foreign_pools.closed, 1);
}

static int call_pool(void *context, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  pool *self = context;
  *result = dsc_none();
  if (num_args != 1 || args[0].type_index != kTVMFFIInt) return disco_raise("TypeError", "a pool takes one number");
  if (args[0].v_int64 != 0) return start_worker(self, args[0].v_int64, result);
  stop_pool(self);
  return 0;
}

/* A pool that does `what` from worker 2 on, if it has one: "raise", "none", "number", "one", "three", "negative",
 * "closed", "twice"; "silent": nobody stands at the other ends; "end": the other ends are closed. */
static int call_bad_pool(void *context, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  pool *self = context;
  const char *what = self->what;
  *result = dsc_none();
  int64_t worker = num_args == 1 ? args[0].v_int64 : -1;
  if (worker == 0 || (worker == 1 && self->num_workers > 2)) return call_pool(context, args, num_args, result);
  if (strcmp(what, "raise") == 0) return disco_raise("BufferError", "no more workers today");
  if (strcmp(what, "none") == 0) return 0;
  if (strcmp(what, "number") == 0) return *result = dsc_int(7), 0;
  if (strcmp(what, "one") == 0) return shape_of((const int64_t[]){0}, 1, result);
  if (strcmp(what, "three") == 0) return shape_of((const int64_t[]){0, 1, 2}, 3, result);
  if (strcmp(what, "negative") == 0) return shape_of((const int64_t[]){-1, -1}, 2, result);
  int to_worker[2], from_worker[2];
  if (!make_pipes(to_worker, from_worker)) return disco_raise("OSError", "no pipe");
  const int64_t own[] = {from_worker[0], to_worker[1]};
  if (strcmp(what, "silent") == 0) {
    self->peers[self->num_peers][0] = to_worker[0];
    self->peers[self->num_peers++][1] = from_worker[1];
    return shape_of(own, 2, result);
  }
  close(to_worker[0]);
  close(from_worker[1]);
  if (strcmp(what, "end") == 0) return shape_of(own, 2, result);
  close(from_worker[0]);
  close(to_worker[1]);
  if (strcmp(what, "closed") == 0) return shape_of(own, 2, result);
  return disco_raise("ValueError", "what is `%s`?", what);
}

static void free_pool(void *self) { free(self); }

static int create(const TVMFFIAny *args, int32_t num_args, TVMFFISafeCallType call_it, TVMFFIAny *result) {
  TVMFFIByteArray entrypoint;
  TVMFFIObjectHandle function = NULL;
  if (num_args != 3 || args[0].type_index != kTVMFFIInt || args[1].type_index != kTVMFFIInt ||
      !dsc_value_string(&args[2], &entrypoint))
    return disco_raise("TypeError", "a pool creator takes (workers, groups, entrypoint)");
  pool *self = calloc(1, sizeof(*self));
  if (self == NULL) return disco_raise("MemoryError", "no pool");
  self->num_workers = (int32_t)args[0].v_int64;
  self->num_groups = (int32_t)args[1].v_int64;
  (void)snprintf(self->what, sizeof(self->what), "%.*s", (int)entrypoint.size, entrypoint.data);
  if (TVMFFIFunctionCreate(self, call_it, free_pool, &function) != 0) {
    free(self);
    return -1;
  }
  atomic_fetch_add(&foreign_pools.made, 1);
  *result = dsc_object_value(function);
  return 0;
}

static int create_pool(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  return create(args, num_args, call_pool, result);
}

/* The entrypoint "refuse" raises, "no function" returns None, others make a pool that is bad later. */
static int create_bad_pool(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray what;
  *result = dsc_none();
  if (num_args == 3 && dsc_value_string(&args[2], &what)) {
    if (what.size == 6 && memcmp(what.data, "refuse", 6) == 0) return disco_raise("KeyError", "no pools today");
    if (what.size == 11 && memcmp(what.data, "no function", 11) == 0) return 0;
  }
  return create(args, num_args, call_bad_pool, result);
}

void register_pools(void) {
  register_function("test.create_pool", create_pool);
  register_function("test.bad_pool", create_bad_pool);
}

/* ---- The worker ---- */

enum { MOST_WORDS = 64 };

/* This program's command line; run_suite() is not given it. */
static int read_words(char *memory, size_t size, char *words[MOST_WORDS]) {
  int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC), count = 0;
  ssize_t used = fd < 0 ? -1 : read(fd, memory, size - 1);
  if (fd >= 0) close(fd);
  if (used <= 0) return 0;
  memory[used] = 0;
  for (char *at = memory; at < memory + used && count < MOST_WORDS; at += strlen(at) + 1) words[count++] = at;
  return count;
}

/* Status 1 is the library's, when the controller is gone: others get 2. */
static int fail_worker(const char *what, const char *why) {
  (void)fprintf(stderr, "%s: %s\n", what, why);
  return 2;
}

/* TEST_HOLD=PID:FD: come no further before a byte can be read from that pipe. TEST_DIE=n: die with this status. */
static void obey_environment(void) {
  const char *hold = getenv("TEST_HOLD"), *die = getenv("TEST_DIE");
  if (die != NULL) {
    (void)fprintf(stderr, "the first line of its last words\nTEST_DIE wants it to die\n");
    _exit(atoi(die));
  }
  long pid, fd;
  char path[64], byte;
  if (hold == NULL || sscanf(hold, "%ld:%ld", &pid, &fd) != 2) return;
  (void)snprintf(path, sizeof(path), "/proc/%ld/fd/%ld", pid, fd);
  int stop = open(path, O_RDONLY | O_CLOEXEC);
  if (stop < 0 || read(stop, &byte, 1) != 1) _exit(fail_worker("TEST_HOLD", "the gate is broken"));
  close(stop);
}

/* What the library's own pool adds to the command line: --load LIBRARY, --cpu NUMBER. */
static int obey_options(char *const words[], int count) {
  for (int i = 7; i + 1 < count; i += 2) {
    if (strcmp(words[i], "--load") == 0) {
      if (dlopen(words[i + 1], RTLD_NOW | RTLD_GLOBAL) == NULL) return fail_worker("library", dlerror());
    } else if (strcmp(words[i], "--cpu") == 0) {
      if (disco_bind_cpu(atoll(words[i + 1])) != DISCO_OK) return fail_worker("cpu", disco_last_error_text());
    } else {
      return fail_worker("unknown option", words[i]);
    }
  }
  return 0;
}

/* Twice the same descriptor: a socket, the worker's end of a user's channel (channels.c). */
static disco_status be_worker(const int numbers[5]) {
  if (numbers[3] != numbers[4]) return disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
  disco_channel *channel = NULL;
  disco_status status = disco_pipe_channel_create(numbers[3], numbers[4], &channel);
  if (status != DISCO_OK) return status;
  status = disco_worker_run_channel(numbers[0], numbers[1], numbers[2], channel);
  channel->ops->destroy(channel);
  return status;
}

void be_worker_if_asked(void) {
  static char memory[8192], *words[MOST_WORDS];
  int count = read_words(memory, sizeof(memory), words);
  if (count < 7 || strcmp(words[1], "worker") != 0) return;
  int numbers[5];
  for (int i = 0; i < 5; i++) numbers[i] = atoi(words[2 + i]);
  obey_environment();
  if (obey_options(words, count) != 0) exit(2);
  disco_status status = be_worker(numbers);
  if (status == DISCO_OK) exit(0);
  if (status == DISCO_LOST) exit(LEFT_EARLY);
  exit(fail_worker("worker", disco_last_error_text()));
}
