#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/inject.h"
#include "chaos/chaos.h"
#include "disco/worker.h"
#include "ffi/value.h"

/* A worker's death by a signal must be that, and one by exit() no occasion to look for leaks. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "handle_segv=0:handle_abort=0:handle_sigbus=0"; }
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
  /* report_signal_unsafe: libtvm_ffi's handler of SIGSEGV allocates. */
  return "report_signal_unsafe=0:die_after_fork=0:atexit_sleep_ms=20:handle_segv=0:handle_abort=0:handle_sigbus=0";
}
static bool exits_in_a_call;
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return exits_in_a_call; }

const char *const chaos_points[CHAOS_POINTS] = {"in a call", "worker.before_done", "worker.mid_slot", "worker.failed",
                                                "worker.before_sleep"};
chaos_board *chaos_shared;

int64_t chaos_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void chaos_sleep_us(int64_t us) {
  struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
}

/* ---- The page ---- */

static chaos_board *map_board(int fd) {
  void *page = mmap(NULL, sizeof(chaos_board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return page == MAP_FAILED ? NULL : page;
}

chaos_board *chaos_make_board(void) {
  char path[64];
  int fd = memfd_create("chaos", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, 4096) != 0) return NULL;
  (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), fd);
  if (setenv("CHAOS_BOARD", path, 1) != 0) return NULL;
  return map_board(fd);
}

/* ---- Values ---- */

static uint64_t stir(uint64_t sum, uint64_t word) {
  sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
  return sum ^ sum >> 29;
}

static uint64_t digest_bytes(const void *data, size_t size) {
  uint64_t sum = size, word = 0;
  const char *at = data;
  for (; size >= 8; size -= 8, at += 8) {
    memcpy(&word, at, 8);
    sum = stir(sum, word);
  }
  word = 0;
  if (size > 0) memcpy(&word, at, size);
  return stir(sum, word);
}

static size_t bytes_of(const DLTensor *tensor) {
  size_t bytes = (size_t)tensor->dtype.bits / 8;
  for (int32_t i = 0; i < tensor->ndim; i++) bytes *= (size_t)tensor->shape[i];
  return bytes;
}

uint64_t chaos_digest(const TVMFFIAny *value) {
  TVMFFIByteArray text;
  if (value->type_index == kTVMFFITensor) {
    const DLTensor *tensor = (const DLTensor *)(value->v_obj + 1);
    return digest_bytes((const char *)tensor->data + tensor->byte_offset, bytes_of(tensor));
  }
  if (value->type_index == kTVMFFIShape) {
    const TVMFFIShapeCell *shape = (const TVMFFIShapeCell *)(value->v_obj + 1);
    return digest_bytes(shape->data, shape->size * sizeof(int64_t));
  }
  if (dsc_value_string(value, &text)) return digest_bytes(text.data, text.size);
  return value->type_index == kTVMFFIInt ? (uint64_t)value->v_int64
                                         : stir((uint64_t)value->type_index, value->v_uint64);
}

int64_t chaos_mix(const uint64_t *digests, int32_t count, int32_t worker) {
  uint64_t sum = 17;
  for (int32_t i = 0; i < count; i++) sum = stir(sum, digests[i]);
  return (int64_t)(stir(sum, (uint64_t)worker) >> 1);
}

void chaos_fill(void *data, size_t size, uint64_t seed) {
  for (size_t i = 0; i + 8 <= size; i += 8) {
    uint64_t word = seed + i * 0x9E3779B97F4A7C15u;
    memcpy((char *)data + i, &word, 8);
  }
  if (size % 8 != 0) memset((char *)data + size / 8 * 8, (int)(seed & 255), size % 8);
}

/* ---- Ending oneself ---- */

static _Atomic int armed_point, armed_pass, armed_way; /* 0: no point */
static int own_read_fd = -1, own_write_fd = -1;

static void end_self(int way) {
  if (chaos_shared != NULL) atomic_store(&chaos_shared->done_ns, chaos_now_ns());
  switch (way) {
  case CHAOS_EXIT: exits_in_a_call = true; exit(CHAOS_EXIT_STATUS);
  case CHAOS_EXIT_NOW: _exit(0);
  default: (void)kill(getpid(), SIGKILL); pause();
  }
}

static void at_point(const char *point, void *context) {
  (void)context;
  int wanted = atomic_load(&armed_point);
  if (wanted == 0 || strcmp(point, chaos_points[wanted]) != 0) return;
  if (atomic_fetch_sub(&armed_pass, 1) != 0) return;
  atomic_store(&armed_point, 0);
  end_self(atomic_load(&armed_way));
}

/* ---- Functions ---- */

static int32_t my_id(void) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  return disco_worker_get_info(&info) == DISCO_OK ? info.worker_id : -1;
}

static bool is_me(const TVMFFIAny *args, int32_t num_args) { return num_args > 0 && args[0].v_int64 == my_id(); }

static int nothing(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return 0;
}

static int echo(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 1) return disco_raise("TypeError", "chaos.echo takes 1 argument");
  *result = dsc_value_copy(&args[0]);
  return 0;
}

static int mix(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  uint64_t digests[512];
  if (num_args > 512) return disco_raise("TypeError", "chaos.mix takes 512 arguments at most");
  for (int32_t i = 0; i < num_args; i++) digests[i] = chaos_digest(&args[i]);
  *result = dsc_int(chaos_mix(digests, num_args, my_id()));
  return 0;
}

static int fill(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 2 || args[0].type_index != kTVMFFITensor) return disco_raise("TypeError", "chaos.fill(tensor, seed)");
  DLTensor *tensor = (DLTensor *)(args[0].v_obj + 1);
  chaos_fill((char *)tensor->data + tensor->byte_offset, bytes_of(tensor), args[1].v_uint64);
  *result = dsc_value_copy(&args[0]);
  return 0;
}

static int raise_there(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args < 2 || !is_me(args, num_args)) return 0;
  return disco_raise("ValueError", "chaos raises number %lld on worker %d", (long long)args[1].v_int64, my_id());
}

static int nap(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (is_me(args, num_args)) chaos_sleep_us(args[1].v_int64);
  return 0;
}

static int arm(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args < 4 || !is_me(args, num_args)) return 0;
  if (args[1].v_int64 == CHAOS_IN_CALL) end_self((int)args[3].v_int64);
  atomic_store(&armed_pass, (int)args[2].v_int64);
  atomic_store(&armed_way, (int)args[3].v_int64);
  atomic_store(&armed_point, (int)args[1].v_int64);
  return 0;
}

/* Replaced, not closed: the next descriptor that somebody opens must not get the number. */
static int close_pipe(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args < 2 || !is_me(args, num_args)) return 0;
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return disco_raise("OSError", "no /dev/null");
  if (args[1].v_int64 != 0) (void)dup3(null, own_read_fd, O_CLOEXEC);
  (void)dup3(null, own_write_fd, O_CLOEXEC);
  close(null);
  if (chaos_shared != NULL) atomic_store(&chaos_shared->done_ns, chaos_now_ns());
  return 0;
}

/* ---- The worker's program ---- */

void chaos_be_worker(int argc, char **argv) {
  if (argc < 7 || strcmp(argv[1], "worker") != 0) return;
  int numbers[5];
  for (int i = 0; i < 5; i++) numbers[i] = atoi(argv[2 + i]);
  own_read_fd = numbers[3];
  own_write_fd = numbers[4];
  const char *path = getenv("CHAOS_BOARD");
  int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd >= 0) {
    chaos_shared = map_board(fd);
    close(fd);
  }
  /* Not libtvm_ffi's handler: it allocates, so a signal that comes inside malloc would leave the worker locked up. */
  (void)signal(SIGSEGV, SIG_DFL);
  if (chaos_shared != NULL && numbers[0] >= 0 && numbers[0] < CHAOS_WORKERS)
    atomic_store(&chaos_shared->ready[numbers[0]], true);
  dsc_inject_set(at_point, NULL);
  disco_status status = disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
  exit(status == DISCO_OK ? 0 : status == DISCO_LOST ? 3 : 2);
}

/* ---- A pool that knows only pipes ---- */

typedef struct {
  int32_t num_workers, num_groups;
  pid_t children[CHAOS_WORKERS];
} pool;

static _Atomic pid_t pool_pids[CHAOS_WORKERS];
pid_t chaos_pool_pid(int32_t worker) { return atomic_load(&pool_pids[worker]); }

static int shape_of(int64_t first, int64_t second, TVMFFIAny *result) {
  TVMFFIAny values[2] = {dsc_int(first), dsc_int(second)};
  TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle make = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0) return -1;
  int rc = TVMFFIFunctionCall(make, values, 2, result);
  dsc_object_unref(make);
  return rc;
}

static int spawn(const pool *self, int64_t worker, int read_fd, int write_fd, pid_t *ret_pid) {
  extern char **environ;
  char numbers[5][16], name[] = "/proc/self/exe", command[] = "worker";
  const int64_t values[5] = {worker, self->num_workers, self->num_groups, read_fd, write_fd};
  for (int i = 0; i < 5; i++) (void)snprintf(numbers[i], sizeof(numbers[i]), "%d", (int)values[i]);
  char *const argv[] = {name, command, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, read_fd, read_fd); /* takes close-on-exec away */
  posix_spawn_file_actions_adddup2(&actions, write_fd, write_fd);
  if (!CHAOS_SANITIZED) /* libtvm_ffi writes a backtrace when it is killed by SIGSEGV */
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  int error = posix_spawn(ret_pid, name, &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

static int start_worker(pool *self, int64_t worker, TVMFFIAny *result) {
  int to_worker[2], from_worker[2];
  if (worker < 1 || worker >= self->num_workers) return disco_raise("ValueError", "no such worker");
  if (pipe2(to_worker, O_CLOEXEC) != 0 || pipe2(from_worker, O_CLOEXEC) != 0) return disco_raise("OSError", "no pipe");
  int error = spawn(self, worker, to_worker[0], from_worker[1], &self->children[worker]);
  close(to_worker[0]);
  close(from_worker[1]);
  if (error != 0) return disco_raise("OSError", "no process: errno %d", error);
  atomic_store(&pool_pids[worker], self->children[worker]);
  return shape_of(from_worker[0], to_worker[1], result);
}

/* f(0): all of them leave by themselves, or were killed. */
static void stop_pool(pool *self) {
  for (int32_t i = 1; i < self->num_workers; i++) {
    int status = 0;
    pid_t got = 0;
    if (self->children[i] == 0) continue;
    for (int64_t end = chaos_now_ns() + (int64_t)CHAOS_BOUND_MS * 1000000; got == 0 && chaos_now_ns() < end;) {
      got = waitpid(self->children[i], &status, WNOHANG);
      if (got == 0) chaos_sleep_us(200);
    }
    if (got == 0) chaos_fail("process %d of the foreign pool outlived its session", (int)self->children[i]);
    self->children[i] = 0;
  }
}

static int call_pool(void *context, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  pool *self = context;
  *result = dsc_none();
  if (num_args != 1 || args[0].type_index != kTVMFFIInt) return disco_raise("TypeError", "a pool takes one number");
  if (args[0].v_int64 != 0) return start_worker(self, args[0].v_int64, result);
  stop_pool(self);
  return 0;
}

static void free_pool(void *self) { free(self); }

static int create_pool(void *context, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)context;
  TVMFFIObjectHandle function = NULL;
  if (num_args != 3 || args[0].type_index != kTVMFFIInt || args[1].type_index != kTVMFFIInt)
    return disco_raise("TypeError", "a pool creator takes (workers, groups, entrypoint)");
  pool *self = calloc(1, sizeof(*self));
  if (self == NULL) return disco_raise("MemoryError", "no pool");
  self->num_workers = (int32_t)args[0].v_int64;
  self->num_groups = (int32_t)args[1].v_int64;
  if (TVMFFIFunctionCreate(self, call_pool, free_pool, &function) != 0) {
    free(self);
    return -1;
  }
  *result = dsc_object_value(function);
  return 0;
}

void chaos_register(void) {
  static const struct {
    const char *name;
    TVMFFISafeCallType function;
  } all[] = {{"chaos.nothing", nothing}, {"chaos.echo", echo},        {"chaos.mix", mix},
             {"chaos.fill", fill},       {"chaos.nap", nap},          {"chaos.raise", raise_there},
             {"chaos.arm", arm},         {"chaos.close", close_pipe}, {"chaos.create_pool", create_pool}};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    if (disco_register_function(all[i].name, all[i].function, NULL, NULL, false) != DISCO_OK) {
      (void)fprintf(stderr, "cannot register %s: %s\n", all[i].name, disco_last_error_text());
      exit(2);
    }
}
