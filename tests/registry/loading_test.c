/* How libdisco.so behaves as it is loaded: what it registers, what DISCO_FFI_GLOBALS=0 holds back, and that a second
 * copy is an error and not a crash. Each case in a process of its own. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ffi.h"

enum { BOUND_SECONDS = 60, FINE = 7 };

/* Run fn in a child that loads nothing yet; it must end by exit(FINE), soon. What it checks it checks with die(). */
static void in_child(void (*fn)(void)) {
  fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    alarm(BOUND_SECONDS);
    fn();
    exit(FINE); /* with the exit hooks, and the leak checker if there is one */
  }
  int status = 0;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (WIFSIGNALED(status)) print_message("ended by signal %d\n", WTERMSIG(status));
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), FINE);
}

#define CHECK(condition) check(condition, #condition, __LINE__)
static void check(bool holds, const char *condition, int line) {
  if (holds) return;
  fprintf(stderr, "line %d: not so: %s (last error: %s: %s)\n", line, condition, failed_kind(), failed_message());
  _exit(1);
}

static void *load(const char *path, int flags) {
  void *library = dlopen(path, flags);
  if (library == NULL) fprintf(stderr, "%s\n", dlerror());
  CHECK(library != NULL);
  return library;
}

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  CHECK(found != NULL);
  return found;
}

/* libdisco's functions by dlsym. The status is an int. */
static int publish(void *library) {
  int (*fn)(void);
  *(void **)&fn = symbol(library, "disco_publish");
  return fn();
}

static const char *last_error(void *library) {
  const char *(*fn)(void);
  *(void **)&fn = symbol(library, "disco_last_error_text");
  return fn();
}

typedef struct { /* as in disco/disco.h */
  size_t struct_size;
  int32_t num_workers, num_groups;
  uint32_t ring_bytes, grace_ms, slow_warning_ms, spin_us;
} options;

static int create(void *library, void **ret_session) {
  int (*fn)(const options *, void **);
  options wish = {sizeof(wish), 2, 1, 0, 0, 0, 0};
  *(void **)&fn = symbol(library, "disco_session_create_threaded");
  return fn(&wish, ret_session);
}

/* A session through the registry works. */
static void drive(void) {
  TVMFFIAny session = CALL("runtime.disco.SessionThreaded", integer(2), integer(1));
  CHECK(failed_kind()[0] == 0);
  TVMFFIAny func = CALL("runtime.disco.SessionGetGlobalFunc", session, borrowed("runtime.disco.worker_rank"));
  CHECK(failed_kind()[0] == 0);
  TVMFFIAny dref = CALL("runtime.disco.SessionCallPacked", session, none(), none(), func);
  TVMFFIAny rank = CALL("runtime.disco.DRefDebugGetFromRemote", dref, integer(1));
  CHECK(rank.type_index == kTVMFFIInt && rank.v_int64 == 1);
  drop(&dref);
  drop(&func);
  (void)CALL("runtime.disco.SessionShutdown", session);
  CHECK(failed_kind()[0] == 0);
  drop(&session);
}

static bool type_known(void) {
  TVMFFIByteArray key = {"runtime.disco.Session", 21};
  int32_t index = -1;
  if (TVMFFITypeKeyToIndex(&key, &index) == 0) return true;
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  if (error != NULL) TVMFFIObjectDecRef(error);
  return false;
}

static void loading_registers(void) {
  CHECK(!registered("runtime.disco.SessionThreaded"));
  CHECK(!type_known());
  void *library = load(DISCO_LIBRARY_PATH, RTLD_NOW | RTLD_LOCAL);
  CHECK(registered("runtime.disco.SessionThreaded"));
  CHECK(type_known());
  CHECK(publish(library) == 0);                                       /* idempotent */
  CHECK(load(DISCO_LIBRARY_PATH, RTLD_NOW | RTLD_GLOBAL) == library); /* the same copy again */
  drive();
}

static void loading_registers_test(void **state) {
  (void)state;
  in_child(loading_registers);
}

static void deferred(void) {
  setenv("DISCO_FFI_GLOBALS", "0", 1);
  void *library = load(DISCO_LIBRARY_PATH, RTLD_NOW | RTLD_LOCAL), *session = NULL;
  CHECK(!registered("runtime.disco.SessionThreaded"));
  CHECK(!registered("runtime.disco.worker_rank"));
  CHECK(type_known());                                      /* types never wait */
  CHECK(create(library, &session) == 0 && session != NULL); /* nor does the C API */
  TVMFFIObjectDecRef(session);
  CHECK(publish(library) == 0);
  CHECK(registered("runtime.disco.SessionThreaded"));
  CHECK(registered("runtime.disco.worker_rank"));
  CHECK(publish(library) == 0);
  drive();
}

static void deferred_test(void **state) {
  (void)state;
  in_child(deferred);
}

static int stranger(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = integer(42);
  return 0;
}

/* Names that somebody else registered first, without any library of TVM: left alone until disco_publish() overrides. */
static void taken_names(void) {
  register_global("runtime.disco.SessionSyncWorker", stranger);
  void *library = load(DISCO_LIBRARY_PATH, RTLD_NOW | RTLD_LOCAL); /* no abort */
  CHECK(publish(library) == 0);
  drive();
}

static void taken_names_test(void **state) {
  (void)state;
  in_child(taken_names);
}

static char copy_path[4096];

static bool copy_library(void) {
  snprintf(copy_path, sizeof(copy_path), "%s/libdisco-second-copy-%d.so",
           getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp", (int)getpid());
  FILE *from = fopen(DISCO_LIBRARY_PATH, "rb"), *to = fopen(copy_path, "wb");
  static char buffer[1 << 16];
  size_t size;
  bool good = from != NULL && to != NULL;
  while (good && (size = fread(buffer, 1, sizeof(buffer), from)) > 0) good = fwrite(buffer, 1, size, to) == size;
  if (from != NULL) fclose(from);
  if (to != NULL) good = fclose(to) == 0 && good;
  return good;
}

static void second_copy(int flags) {
  void *first = load(DISCO_LIBRARY_PATH, flags), *second = load(copy_path, flags), *session = NULL;
  CHECK(first != second);
  if ((flags & RTLD_GLOBAL) == 0) {
    CHECK(create(second, &session) != 0);
    CHECK(session == NULL);
    CHECK(strstr(last_error(second), "another copy of libdisco is already in this process") != NULL);
    CHECK(publish(second) != 0);
    CHECK(strstr(last_error(second), "another copy of libdisco") != NULL);
  } else {
    CHECK(create(second, &session) != 0 && session == NULL);
  }
  drive(); /* the first one is as good as before */
  CHECK(create(first, &session) == 0 && session != NULL);
  TVMFFIObjectDecRef(session);
}

static void second_copy_local(void) { second_copy(RTLD_NOW | RTLD_LOCAL); }
static void second_copy_global(void) { second_copy(RTLD_NOW | RTLD_GLOBAL); }

static void second_copy_test(void **state) {
  (void)state;
  assert_true(copy_library());
  in_child(second_copy_local);
  in_child(second_copy_global);
  unlink(copy_path);
}

/* The process ends with a session that nobody shut down: in time, and with its own exit code. */
static void exit_with_a_live_session(void) {
  void *library = load(DISCO_LIBRARY_PATH, RTLD_NOW | RTLD_LOCAL), *session = NULL;
  CHECK(create(library, &session) == 0);
  TVMFFIAny another = CALL("runtime.disco.SessionThreaded", integer(3), integer(1));
  CHECK(failed_kind()[0] == 0 && another.type_index > 0);
  static void *volatile keep[2]; /* reachable to the end */
  keep[0] = session;
  keep[1] = another.v_obj;
  CHECK(keep[0] != keep[1]);
}

static void exit_test(void **state) {
  (void)state;
  in_child(exit_with_a_live_session);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(loading_registers_test), cmocka_unit_test(deferred_test), cmocka_unit_test(taken_names_test),
      cmocka_unit_test(second_copy_test),       cmocka_unit_test(exit_test),
  };
  return cmocka_run_group_tests_name("registry.loading", tests, NULL, NULL);
}
