/* What the suites that load weights on workers share: sessions of threads and of processes of this very program, calls,
 * tensors of workers as the controller sees them. After cmocka.h. */
#ifndef TESTS_WEIGHTS_SESSIONS_H
#define TESTS_WEIGHTS_SESSIONS_H

#include <unistd.h>

#include "base/inject.h"
#include "common/checks.h"
#include "common/workers.h"

enum { WORK_MS = 30000, THREADS = 0, PROCESSES = 1 };

/* Arguments of a call: VALUES(any_text("a"), dsc_int(1)). */
#define VALUES(...) \
  (const TVMFFIAny[]){__VA_ARGS__}, (int32_t)(sizeof((const TVMFFIAny[]){__VA_ARGS__}) / sizeof(TVMFFIAny))

static inline TVMFFIAny any_text(const char *text) { /* borrowed */
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIRawStr;
  any.v_c_str = text;
  return any;
}

static inline TVMFFIAny any_dref(disco_dref *dref) { return dsc_object_value(dref); } /* borrowed */

static inline disco_session *make_session(int kind, int32_t workers, bool with_ccl) {
  const int64_t ids[] = {0, 1, 2, 3};
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, 1);
  disco_session *session = NULL;
  options.program = "/proc/self/exe";
  options.arena_bytes = 64 << 20;
  expect_ok(kind == PROCESSES ? disco_session_create_process(&options, &session)
                              : disco_session_create_threaded(&options, &session));
  if (with_ccl) expect_ok(disco_session_init_ccl(session, "cpu", ids, workers));
  return session;
}

static inline void end_session(disco_session *session) {
  expect_ok(disco_session_shutdown(session));
  disco_session_unref(session);
}

/* Posted; what the workers say comes later. */
static inline disco_dref *call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *function = NULL, *result = NULL;
  expect_ok(disco_session_get_global_func(session, name, &function));
  expect_ok(disco_call(session, function, args, num_args, &result));
  disco_dref_unref(function);
  return result;
}

static inline void sync_all(disco_session *session) {
  expect_ok(disco_session_sync(session, DISCO_ALL_WORKERS, WORK_MS));
}

/* The call fails on workers with this kind of error, its sentence has `part`, and the session goes on. */
static inline void check_call_fails(disco_session *session, const char *kind, const char *part, const char *name,
                                    const TVMFFIAny *args, int32_t num_args, const char *file, int line) {
  disco_dref_unref(call(session, name, args, num_args));
  check_kind(disco_session_sync(session, DISCO_ALL_WORKERS, WORK_MS), kind, name, file, line);
  check_says(part, file, line);
  check_says("raised by worker ", file, line);
  sync_all(session);
}
#define expect_call_fails(session, kind, part, ...) \
  check_call_fails(session, kind, part, __VA_ARGS__, __FILE__, __LINE__)

static inline TVMFFIAny get(disco_dref *dref, int32_t worker) { /* owned */
  TVMFFIAny value = dsc_none();
  expect_ok(disco_debug_get(dref, worker, WORK_MS, &value));
  return value;
}

/* Worker function: (name, args...) -> how many times that global function failed for want of memory, each of its
 * allocations once, before it went well. */
static inline int without_memory(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  char name[64] = "";
  TVMFFIByteArray text = {"", 0};
  (void)self;
  (void)dsc_value_string(&args[0], &text);
  (void)snprintf(name, sizeof(name), "%.*s", (int)text.size, text.data);
  for (int n = 1; n < 10000; n++) {
    TVMFFIAny made = dsc_none();
    TVMFFIObjectHandle error = NULL;
    (void)dsc_inject_fail_allocation(n);
    const int rc = call_global(name, args + 1, num_args - 1, &made);
    (void)dsc_inject_fail_allocation(0);
    *result = dsc_int(n - 1);
    dsc_value_drop(&made);
    if (rc == 0) return 0;
    TVMFFIErrorMoveFromRaised(&error);
    const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)((TVMFFIObject *)error + 1);
    char said[512]; /* files fail there in ways of their own */
    (void)snprintf(said, sizeof(said), "%.*s: %.*s", (int)cell->kind.size, cell->kind.data, (int)cell->message.size,
                   cell->message.data);
    if (strncmp(said, "MemoryError", 11) != 0 && strstr(said, "(EMFILE)") == NULL && strstr(said, "(EIO)") == NULL) {
      TVMFFIErrorSetRaised(error);
      dsc_object_unref(error);
      return -1;
    }
    dsc_object_unref(error);
  }
  return disco_raise("RuntimeError", "it never goes well");
}

/* A call on a session of one worker thread, each of its allocations having failed once. */
static inline void fail_each_allocation(const char *name, const TVMFFIAny *args, int32_t num_args, int least,
                                        disco_session *session) {
  TVMFFIAny all[8] = {any_text(name)};
  for (int32_t i = 0; i < num_args; i++) all[i + 1] = args[i];
  disco_dref *failures = call(session, "test.without_memory", all, num_args + 1);
  sync_all(session);
  assert_in_range(get(failures, 0).v_int64, least, 10000);
  disco_dref_unref(failures);
}

static inline TVMFFIAny make_shape(const int64_t *sizes, int32_t count) { /* owned */
  TVMFFIAny numbers[8], shape = dsc_none();
  for (int32_t i = 0; i < count; i++) numbers[i] = dsc_int(sizes[i]);
  assert_int_equal(call_global("ffi.Shape", numbers, count, &shape), 0);
  return shape;
}

static inline const DLTensor *tensor_of(const TVMFFIAny *value) {
  assert_int_equal(value->type_index, kTVMFFITensor);
  return (const DLTensor *)(value->v_obj + 1);
}

/* A folder of this test's own, with its files under `name`. */
static inline const char *own_path(const char *name) {
  static _Thread_local char paths[4][256];
  static _Thread_local int next;
  static char folder[64];
  if (folder[0] == 0) {
    (void)snprintf(folder, sizeof(folder), "/tmp/disco-weights-XXXXXX");
    assert_non_null(mkdtemp(folder));
  }
  char *path = paths[next++ % 4];
  (void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
  return path;
}

static inline void remove_own_files(void) {
  char command[300];
  (void)snprintf(command, sizeof(command), "rm -rf '%s'", own_path(""));
  (void)!system(command);
}

static inline void write_text(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
}

#endif
