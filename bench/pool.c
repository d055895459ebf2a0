#define _GNU_SOURCE
#include "pool.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "probe.h"
#include "workers.h"

extern char **environ;

enum { SHUTDOWN_MS = 5000 };

static struct {
  char *const *libraries;
  int num_libraries;
  int table_fd;
  int timeout_s;
} pool_options;

typedef struct {
  pid_t pid;
  int fds[2]; /* given to the session: {read, write} */
  ino_t inodes[2];
} pool_worker;

typedef struct {
  int num_workers;
  int num_groups;
  pool_worker *workers; /* by worker id; 0 is a thread of the session */
} pool;

static int raise_error(const char *what, int error) {
  char text[256];
  snprintf(text, sizeof text, "%s: %s", what, strerror(error));
  TVMFFIErrorSetRaisedFromCStr("RuntimeError", text);
  return -1;
}

static int spawn_worker(const char *spec, const int inherited[3], pid_t *ret_pid) {
  char *argv[3 + 2 * BENCH_MAX_LIBRARIES + 1] = {"disco-bench-control", "--process-worker", (char *)(uintptr_t)spec};
  int argc = 3;
  for (int i = 0; i < pool_options.num_libraries; i++) {
    argv[argc++] = "--library";
    argv[argc++] = pool_options.libraries[i];
  }
  argv[argc] = NULL;
  posix_spawn_file_actions_t actions;
  int rc = posix_spawn_file_actions_init(&actions);
  if (rc != 0) return rc;
  /* A descriptor duplicated onto itself loses close-on-exec in the child. */
  for (int i = 0; i < 3 && rc == 0; i++) rc = posix_spawn_file_actions_adddup2(&actions, inherited[i], inherited[i]);
  char program[4096]; /* by its name: under valgrind the link is right, but following it starts valgrind itself */
  ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
  if (size < 0) rc = errno;
  if (rc == 0) {
    program[size] = 0;
    rc = posix_spawn(ret_pid, program, &actions, NULL, argv, environ);
  }
  posix_spawn_file_actions_destroy(&actions);
  return rc;
}

static ino_t inode_of(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static int start_worker(pool *p, int id, int64_t ret_fds[2]) {
  int down[2], up[2];
  if (pipe2(down, O_CLOEXEC) != 0) return raise_error("pipe2", errno);
  if (pipe2(up, O_CLOEXEC) != 0) {
    int error = errno;
    close(down[0]), close(down[1]);
    return raise_error("pipe2", error);
  }
  char spec[128];
  int inherited[3] = {down[0], up[1], pool_options.table_fd};
  snprintf(spec, sizeof spec, "%d,%d,%d,%d,%d,%d,%d", id, p->num_workers, p->num_groups, down[0], up[1],
           pool_options.table_fd, pool_options.timeout_s);
  pool_worker *w = &p->workers[id];
  int rc = spawn_worker(spec, inherited, &w->pid);
  close(down[0]), close(up[1]);
  if (rc != 0) {
    w->pid = 0;
    close(down[1]), close(up[0]);
    return raise_error("posix_spawn", rc);
  }
  w->fds[0] = up[0], w->fds[1] = down[1];
  for (int i = 0; i < 2; i++) w->inodes[i] = inode_of(w->fds[i]), ret_fds[i] = w->fds[i];
  return 0;
}

static void reap(pool_worker *w) {
  if (w->pid <= 0) return;
  for (int ms = 0; waitpid(w->pid, NULL, WNOHANG) == 0; ms++) {
    if (ms == SHUTDOWN_MS) {
      fprintf(stderr, "worker process %d did not end: killed\n", (int)w->pid);
      kill(w->pid, SIGKILL);
    }
    bench_sleep_ms(1);
  }
  w->pid = 0;
  /* A library may have closed its ends or not; the inode tells, for a closed number may belong to another file by now.
   */
  for (int i = 0; i < 2; i++) {
    if (inode_of(w->fds[i]) == w->inodes[i]) close(w->fds[i]);
  }
}

static void pool_destroy(void *self) {
  pool *p = self;
  for (int i = 1; i < p->num_workers; i++) reap(&p->workers[i]);
  free(p->workers);
  free(p);
}

static int pool_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  pool *p = self;
  if (num_args != 1 || args[0].type_index != kTVMFFIInt) return raise_error("pool(worker)", EINVAL);
  int64_t id = args[0].v_int64;
  if (id == 0) {
    for (int i = 1; i < p->num_workers; i++) reap(&p->workers[i]);
    return 0;
  }
  if (id < 0 || id >= p->num_workers || p->workers[id].pid != 0) return raise_error("pool(worker)", EINVAL);
  int64_t fds[2];
  if (start_worker(p, (int)id, fds) != 0) return -1;
  TVMFFIObjectHandle make_shape;
  TVMFFIByteArray name = {"ffi.Shape", strlen("ffi.Shape")};
  if (TVMFFIFunctionGetGlobal(&name, &make_shape) != 0) return -1;
  if (!make_shape) return raise_error("ffi.Shape", ENOENT);
  TVMFFIAny ints[2] = {bench_int(fds[0]), bench_int(fds[1])};
  int rc = TVMFFIFunctionCall(make_shape, ints, 2, result);
  TVMFFIObjectDecRef(make_shape);
  return rc;
}

static int pool_creator(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 3 || args[0].type_index != kTVMFFIInt || args[1].type_index != kTVMFFIInt)
    return raise_error("pool creator", EINVAL);
  pool *p = calloc(1, sizeof *p);
  if (!p) return raise_error("pool creator", ENOMEM);
  p->num_workers = (int)args[0].v_int64;
  p->num_groups = (int)args[1].v_int64;
  p->workers = calloc((size_t)p->num_workers, sizeof *p->workers);
  TVMFFIObjectHandle function;
  if (!p->workers || TVMFFIFunctionCreate(p, pool_function, pool_destroy, &function) != 0) {
    free(p->workers);
    free(p);
    return raise_error("pool creator", ENOMEM);
  }
  result->type_index = kTVMFFIFunction;
  result->v_obj = function;
  return 0;
}

int bench_pool_register(char *const *libraries, int num_libraries, int table_fd, int timeout_s) {
  pool_options.libraries = libraries;
  pool_options.num_libraries = num_libraries;
  pool_options.table_fd = table_fd;
  pool_options.timeout_s = timeout_s;
  TVMFFIByteArray name = {BENCH_POOL_NAME, strlen(BENCH_POOL_NAME)};
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionCreate(NULL, pool_creator, NULL, &function) != 0) return bench_fail(BENCH_POOL_NAME);
  int rc = TVMFFIFunctionSetGlobal(&name, function, 1);
  TVMFFIObjectDecRef(function);
  return rc == 0 ? 0 : bench_fail(BENCH_POOL_NAME);
}

int bench_pool_worker(const char *spec, char *const *libraries, int num_libraries) {
  int v[7];
  if (sscanf(spec, "%d,%d,%d,%d,%d,%d,%d", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]) != 7) return 2;
  alarm((unsigned)v[6]);
  bench_table *table = bench_table_map(v[5]);
  if (!table || bench_load(libraries, num_libraries) != 0) return 3;
  if (bench_workers_register(table) != 0) return bench_fail("register worker functions"), 3;
  TVMFFIObjectHandle worker_process = NULL;
  if (bench_lookup("runtime.disco.WorkerProcess", false, &worker_process) != 0) return 3;
  TVMFFIAny args[5], result;
  for (int i = 0; i < 5; i++) args[i] = bench_int(v[i]);
  memset(&result, 0, sizeof result);
  if (TVMFFIFunctionCall(worker_process, args, 5, &result) != 0) return bench_fail("runtime.disco.WorkerProcess"), 3;
  return 0;
}
