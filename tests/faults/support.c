#include "faults/support.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/inject.h"
#include "faults/functions.h"
#include "ffi/object.h"
#include "ffi/tensor.h"
#include "ffi/value.h"
#include "worker/worker.h"

/* ---- The process ---- */

/* TSan: a forked child may start threads, and children (exit_test makes many) need not wait a second at their end. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:atexit_sleep_ms=50"; }

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void stop_at_point(const char *point, void *context);

void faults_begin(void) {
  alarm(100);
  cmocka_set_test_filter(getenv("DISCO_TEST_FILTER"));
  dsc_inject_set(stop_at_point, NULL);
  faults_register_functions();
}

int64_t faults_scaled(int64_t n) {
  const char *scale = getenv("DISCO_TEST_SCALE");
  int64_t by = scale != NULL ? atoll(scale) : 1;
  return by > 1 ? (n / by > 0 ? n / by : 1) : n;
}

void faults_sleep_ms(int ms) {
  struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
}

bool faults_until(bool (*test)(void *context), void *context) {
  int64_t end = now_ms() + FAULTS_BOUND_MS;
  for (int i = 0; now_ms() < end; i++) {
    if (test(context)) return true;
    if (i > 20) faults_sleep_ms(1);
  }
  return test(context);
}

int faults_each_library_thread(const char *file, void (*visit)(const char *path, const char *name)) {
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) return -1; /* no assertion: forked children come here, too */
  int count = 0;
  for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
    char path[300], name[32] = "";
    if (entry->d_name[0] == '.') continue;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
    FILE *comm = fopen(path, "re");
    if (comm == NULL) continue; /* it ended meanwhile */
    bool ours = fgets(name, sizeof(name), comm) != NULL && strncmp(name, "disco ", 6) == 0;
    fclose(comm);
    if (!ours) continue;
    name[strcspn(name, "\n")] = 0;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/%s", entry->d_name, file);
    if (visit != NULL) visit(path, name);
    count += visit != NULL || strcmp(name, "disco reaper") != 0;
  }
  closedir(tasks);
  return count;
}

int faults_library_threads(void) { return faults_each_library_thread("comm", NULL); }

static bool no_library_threads(void *context) {
  (void)context;
  return faults_library_threads() == 0;
}

bool faults_library_threads_gone(void) { return faults_until(no_library_threads, NULL); }

int faults_count_entries(const char *folder) {
  DIR *entries = opendir(folder);
  assert_non_null(entries);
  int count = 0;
  while (readdir(entries) != NULL) count++;
  closedir(entries);
  return count;
}

int faults_count_lines(const char *file) {
  FILE *lines = fopen(file, "re");
  assert_non_null(lines);
  int count = 0, c;
  while ((c = fgetc(lines)) != EOF) count += c == '\n';
  fclose(lines);
  return count;
}

/* ---- Sessions ---- */

disco_session_options faults_options(int32_t workers, int32_t groups) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, groups);
  return options;
}

disco_session *faults_open_with(const disco_session_options *options) {
  disco_session *session = NULL;
  OK(disco_session_create_threaded(options, &session));
  return session;
}

disco_session *faults_open(int32_t workers) {
  disco_session_options options = faults_options(workers, 1);
  return faults_open_with(&options);
}

void faults_close(disco_session *session) {
  OK(disco_session_shutdown(session));
  disco_session_unref(session);
}

/* ---- Short forms ---- */

void faults_check(disco_status status, const char *what, const char *file, int line) {
  if (status == DISCO_OK) return;
  print_error("%s -> %d: %s\n", what, (int)status, disco_last_error_text());
  _fail(file, line);
}

TVMFFIAny faults_int(int64_t number) { return dsc_int(number); }

TVMFFIAny faults_str(const char *text) {
  TVMFFIAny value = dsc_none();
  value.type_index = kTVMFFIRawStr;
  value.v_c_str = text;
  return value;
}

TVMFFIAny faults_dref(disco_dref *dref) { return dsc_object_value(dref); }

disco_dref *faults_function(disco_session *session, const char *name) {
  disco_dref *function = NULL;
  OK(disco_session_get_global_func(session, name, &function));
  return function;
}

static disco_status call_with(disco_dref *function, disco_dref **ret_result, int num_args, va_list list) {
  TVMFFIAny args[16];
  assert_in_range(num_args, 0, 16);
  for (int i = 0; i < num_args; i++) args[i] = va_arg(list, TVMFFIAny);
  return disco_call(disco_dref_session(function), function, args, num_args, ret_result);
}

disco_status faults_try(disco_dref *function, disco_dref **ret_result, int num_args, ...) {
  va_list list;
  va_start(list, num_args);
  disco_status status = call_with(function, ret_result, num_args, list);
  va_end(list);
  return status;
}

disco_dref *faults_call(disco_dref *function, int num_args, ...) {
  disco_dref *result = NULL;
  va_list list;
  va_start(list, num_args);
  OK(call_with(function, &result, num_args, list));
  va_end(list);
  return result;
}

void faults_post(disco_dref *function, int num_args, ...) {
  va_list list;
  va_start(list, num_args);
  OK(call_with(function, NULL, num_args, list));
  va_end(list);
}

int64_t faults_get(disco_dref *dref, int32_t worker) {
  TVMFFIAny value = dsc_none();
  OK(disco_debug_get(dref, worker, FAULTS_BOUND_MS, &value));
  assert_int_equal(value.type_index, kTVMFFIInt);
  return value.v_int64;
}

void faults_all_have(disco_dref *dref, int64_t number) {
  int32_t workers = disco_session_num_workers(disco_dref_session(dref));
  TVMFFIAny values[64];
  OK(disco_debug_get_all(dref, FAULTS_BOUND_MS, 64, values));
  for (int32_t i = 0; i < workers; i++) {
    assert_int_equal(values[i].type_index, kTVMFFIInt);
    assert_int_equal(values[i].v_int64, number);
  }
}

disco_status faults_sync(disco_session *session) {
  return disco_session_sync(session, DISCO_ALL_WORKERS, FAULTS_BOUND_MS);
}

disco_session_stats faults_stats(disco_session *session) {
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  OK(disco_session_get_stats(session, &stats));
  return stats;
}

static bool all_done(void *context) {
  bool done = false;
  OK(disco_session_is_done(context, DISCO_ALL_WORKERS, disco_session_sequence(context), &done));
  return done;
}

void faults_settle(disco_session *session) { assert_true(faults_until(all_done, session)); }

disco_error_info faults_error(void) {
  disco_error_info info = {.struct_size = sizeof(info)};
  assert_int_equal(disco_last_error(&info), DISCO_OK);
  return info;
}

void faults_contains(const char *text, const char *part) {
  if (strstr(text, part) != NULL) return;
  print_error("no `%s` in: %s\n", part, text);
  fail();
}

void faults_refused(disco_status status, disco_status expected, const char *kind, const char *part) {
  if (status != expected) print_error("status %d, not %d: %s\n", (int)status, (int)expected, disco_last_error_text());
  assert_int_equal(status, expected);
  disco_error_info info = faults_error();
  assert_int_equal(info.status, expected);
  assert_string_equal(info.kind, kind);
  faults_contains(info.text, part);
}

/* ---- Tensors ---- */

TVMFFIObjectHandle faults_tensor(int64_t bytes, int byte) {
  TVMFFIObjectHandle tensor = NULL;
  OK(disco_tensor_create(1, &bytes, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor));
  TVMFFIAny value = dsc_object_value(tensor);
  memset(dsc_tensor_of(&value)->data, byte, (size_t)bytes);
  return tensor;
}

int faults_first_byte(TVMFFIObjectHandle tensor) {
  TVMFFIAny value = dsc_object_value(tensor);
  return *(unsigned char *)dsc_tensor_of(&value)->data;
}

uint32_t faults_references(TVMFFIObjectHandle object) {
  return (uint32_t)atomic_load((_Atomic uint64_t *)&((TVMFFIObject *)object)->combined_ref_count);
}

/* ---- Pauses ---- */

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  const char *point;
  int32_t who;
  int pass;
  bool reached, released;
  _Atomic bool armed; /* read without the lock, so that points cost little when none is wanted */
} pause_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
static _Thread_local bool is_caller;

void faults_mark_caller(void) { is_caller = true; }

static bool is_wanted(const char *point) {
  if (strcmp(point, pause_state.point) != 0) return false;
  const dsc_worker *worker = dsc_worker_current();
  bool me = pause_state.who == FAULTS_CALLER ? is_caller : worker != NULL && worker->setup.id == pause_state.who;
  return me && pause_state.pass-- == 0;
}

static void stop_at_point(const char *point, void *context) {
  (void)context;
  if (!atomic_load(&pause_state.armed)) return;
  pthread_mutex_lock(&pause_state.lock);
  if (atomic_load(&pause_state.armed) && is_wanted(point)) {
    atomic_store(&pause_state.armed, false);
    pause_state.reached = true;
    while (!pause_state.released) pthread_cond_wait(&pause_state.changed, &pause_state.lock);
  }
  pthread_mutex_unlock(&pause_state.lock);
}

void faults_pause_at(const char *point, int32_t who, int pass) {
  pthread_mutex_lock(&pause_state.lock);
  pause_state.point = point;
  pause_state.who = who;
  pause_state.pass = pass;
  pause_state.reached = pause_state.released = false;
  atomic_store(&pause_state.armed, true);
  pthread_mutex_unlock(&pause_state.lock);
}

bool faults_pause_is_reached(void) {
  pthread_mutex_lock(&pause_state.lock);
  bool reached = pause_state.reached;
  pthread_mutex_unlock(&pause_state.lock);
  return reached;
}

static bool is_reached(void *context) {
  (void)context;
  return faults_pause_is_reached();
}

void faults_pause_wait_reached(void) { assert_true(faults_until(is_reached, NULL)); }

void faults_pause_release(void) {
  pthread_mutex_lock(&pause_state.lock);
  atomic_store(&pause_state.armed, false);
  pause_state.released = true;
  pthread_cond_broadcast(&pause_state.changed);
  pthread_mutex_unlock(&pause_state.lock);
}

/* ---- Threads ---- */

static void *thread_main(void *argument) {
  faults_thread *self = argument;
  if (self->caller) faults_mark_caller();
  atomic_store(&self->started, true);
  self->run(self);
  atomic_store(&self->ended, true);
  return NULL;
}

void faults_start(faults_thread *thread) {
  atomic_store(&thread->started, false);
  atomic_store(&thread->ended, false);
  assert_int_equal(pthread_create(&thread->thread, NULL, thread_main, thread), 0);
}

void faults_join(faults_thread *thread) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += FAULTS_BOUND_MS / 1000;
  assert_int_equal(pthread_timedjoin_np(thread->thread, NULL, &end), 0);
}

void faults_keep_error(faults_thread *self, disco_status status) {
  disco_error_info info = {.struct_size = sizeof(info)};
  self->status = status;
  if (status == DISCO_OK || disco_last_error(&info) != DISCO_OK) return;
  (void)snprintf(self->kind, sizeof(self->kind), "%s", info.kind);
  (void)snprintf(self->text, sizeof(self->text), "%s", info.text);
}

void faults_run_sync(faults_thread *self) {
  faults_keep_error(self, disco_session_sync(self->session, self->worker, self->timeout_ms));
}

void faults_run_get(faults_thread *self) {
  TVMFFIAny value = dsc_none();
  faults_keep_error(self, disco_debug_get(self->dref, self->worker, self->timeout_ms, &value));
  self->number = value.v_int64;
  if (dsc_is_object(&value)) dsc_value_drop(&value);
}

void faults_run_call(faults_thread *self) {
  faults_keep_error(self, disco_call(disco_dref_session(self->dref), self->dref, NULL, 0, NULL));
}

void faults_run_shutdown(faults_thread *self) { faults_keep_error(self, disco_session_shutdown(self->session)); }
