#include "deaths/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "deaths/functions.h"
#include "ffi/object.h"

/* TSan: a forked child may start threads, and processes (there are many) need not wait a second at their end. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:atexit_sleep_ms=0"; }

/* ---- The program ---- */

void (*deaths_worker_hook)(int argc, char **argv);

static int be_worker(int argc, char **argv) {
  const struct rlimit none = {0, 0};
  int numbers[5];
  (void)setrlimit(RLIMIT_CORE, &none);
  if (deaths_worker_hook != NULL) deaths_worker_hook(argc, argv);
  if (argc < 7) return 2;
  for (int i = 0; i < 5; i++) numbers[i] = atoi(argv[2 + i]);
  disco_status status = disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
  if (status == DISCO_OK) return 0;
  (void)fprintf(stderr, "worker: %s\n", disco_last_error_text());
  return status == DISCO_LOST ? 9 : 2;
}

static int play(int argc, char **argv, const role *roles) {
  alarm(60);
  for (const role *at = roles; at != NULL && at->name != NULL; at++)
    if (strcmp(at->name, argv[2]) == 0) return at->run(argc - 3, argv + 3);
  (void)fprintf(stderr, "there is no role %s\n", argv[2]);
  return 2;
}

int deaths_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count,
                const role *roles) {
  register_functions();
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_worker(argc, argv);
  if (argc > 2 && strcmp(argv[1], "role") == 0) return play(argc, argv, roles);
  alarm(110);
  (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* orphans come here */
  cmocka_set_test_filter(getenv("DISCO_TEST_FILTER"));
  return _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}

int scaled(int n, int least) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int scale = text != NULL ? atoi(text) : 1;
  n /= scale > 0 ? scale : 1;
  return n < least ? least : n;
}

void sleep_ms(int ms) {
  struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
}

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool until(bool (*test)(void *context), void *context) {
  for (int64_t end = now_ms() + BOUND_MS; now_ms() < end; sleep_ms(1))
    if (test(context)) return true;
  return test(context);
}

/* ---- Sessions ---- */

static void discard(void *context, int32_t worker, int stream, const char *line, size_t size) {
  (void)context;
  (void)worker;
  (void)stream;
  (void)line;
  (void)size;
}

disco_session_options options_of(int32_t workers, bool pipe) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, 1);
  options.program = "/proc/self/exe";
  options.transport = pipe ? DISCO_TRANSPORT_PIPE : DISCO_TRANSPORT_AUTO;
  options.output = discard;
  options.arena_bytes = 64 << 20; /* sanitizers have less room */
  return options;
}

disco_session *open_with(const disco_session_options *options) {
  disco_session *session = NULL;
  OK(disco_session_create_process(options, &session));
  assert_non_null(session);
  return session;
}

disco_session *open_session(int32_t workers, bool pipe) {
  disco_session_options options = options_of(workers, pipe);
  return open_with(&options);
}

void close_session(disco_session *session) {
  OK(disco_session_shutdown(session));
  disco_session_unref(session);
}

/* ---- Short forms ---- */

void check_ok(disco_status status, const char *what, const char *file, int line) {
  if (status == DISCO_OK) return;
  print_error("%s -> %d: %s\n", what, (int)status, disco_last_error_text());
  _fail(file, line);
}

TVMFFIAny of_text(const char *text) {
  TVMFFIAny value = dsc_none();
  value.type_index = kTVMFFIRawStr;
  value.v_c_str = text;
  return value;
}

TVMFFIAny of_dref(disco_dref *dref) { return dsc_object_value(dref); }

disco_dref *find(disco_session *session, const char *name) {
  disco_dref *function = NULL;
  OK(disco_session_get_global_func(session, name, &function));
  return function;
}

void post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *function = find(session, name);
  OK(disco_call(session, function, args, num_args, NULL));
  disco_dref_unref(function);
}

disco_dref *call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *function = find(session, name), *result = NULL;
  OK(disco_call(session, function, args, num_args, &result));
  disco_dref_unref(function);
  return result;
}

int64_t get_int(disco_dref *dref, int32_t worker) {
  TVMFFIAny value = dsc_none();
  OK(disco_debug_get(dref, worker, BOUND_MS, &value));
  assert_int_equal(value.type_index, kTVMFFIInt);
  return value.v_int64;
}

int64_t ask(disco_session *session, int32_t worker, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *result = call(session, name, args, num_args);
  int64_t number = get_int(result, worker);
  disco_dref_unref(result);
  return number;
}

pid_t pid_of(disco_session *session, int32_t worker) { return (pid_t)ask(session, worker, "d.pid", NO_ARGS); }

void expect_works(disco_session *session) {
  disco_dref *result = call(session, "d.id", NO_ARGS);
  for (int32_t i = 0; i < disco_session_num_workers(session); i++) assert_int_equal(get_int(result, i), i);
  disco_dref_unref(result);
  OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
}

disco_error_info last_error(void) {
  disco_error_info error = {.struct_size = sizeof(error)};
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  return error;
}

void contains(const char *text, const char *part, const char *file, int line) {
  if (strstr(text, part) != NULL) return;
  print_error("no `%s` in: %s\n", part, text);
  _fail(file, line);
}

disco_error_info expect_lost(disco_status status, int32_t worker) {
  if (status != DISCO_LOST) print_error("status %d, not LOST: %s\n", (int)status, disco_last_error_text());
  assert_int_equal(status, DISCO_LOST);
  disco_error_info error = last_error();
  if (error.worker != worker) print_error("%s\n", error.text);
  assert_int_equal(error.worker, worker);
  assert_string_equal(error.kind, "WorkerLostError");
  return error;
}

disco_error_info await_lost(disco_session *session, int32_t worker) {
  disco_status status = DISCO_OK;
  for (int64_t end = now_ms() + BOUND_MS; status == DISCO_OK && now_ms() < end; sleep_ms(1))
    status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
  return expect_lost(status, worker);
}

static void expect_again(disco_status status, const char *text, const char *what) {
  if (status != DISCO_LOST) print_error("%s -> %d: %s\n", what, (int)status, disco_last_error_text());
  assert_int_equal(status, DISCO_LOST);
  disco_error_info error = last_error();
  if (strncmp(error.message, text, strlen(text)) != 0) print_error("%s: %s\n", what, error.text);
  assert_string_equal(error.message, text);
}

static void expect_exempt(disco_session *session) {
  bool done = false;
  char *text = NULL;
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  disco_error_info error = {.struct_size = sizeof(error)};
  assert_true(disco_session_num_workers(session) > 1);
  assert_int_equal(disco_session_num_groups(session), 1);
  OK(disco_session_get_stats(session, &stats));
  OK(disco_session_dump(session, &text));
  CONTAINS(text, "lost");
  disco_text_free(text);
  OK(disco_session_is_done(session, 0, 1, &done));
  OK(disco_session_last_error(session, 0, &error));
  assert_int_equal(error.status, DISCO_LOST);
}

void expect_sticky(disco_session *session, disco_dref *dref) {
  TVMFFIAny value = dsc_none(), number = dsc_int(1), all[16];
  TVMFFIAny packed[] = {dsc_int(DISCO_ACTION_CallPacked), dsc_int(0), of_dref(dref)};
  disco_dref *result = NULL;
  TVMFFIObjectHandle tensor = NULL;
  const int64_t size = 16, id = disco_dref_reg_id(dref);
  char text[512];
  expect_lost(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), last_error().worker);
  (void)snprintf(text, sizeof(text), "%s", last_error().message);
  OK(disco_tensor_create(1, &size, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor));
#define AGAIN(expression) expect_again((expression), text, #expression)
  for (int round = 0; round < 2; round++) {
    AGAIN(disco_session_sync(session, 0, BOUND_MS));
    AGAIN(disco_session_sync(session, 1, 0));
    AGAIN(disco_call(session, dref, NULL, 0, NULL));
    AGAIN(disco_call(session, dref, &number, 1, &result));
    AGAIN(disco_call_packed(session, packed, 3, &result));
    AGAIN(disco_session_get_global_func(session, "d.id", &result));
    AGAIN(disco_session_put(session, &number, &result));
    AGAIN(disco_session_dealloc_reg(session, id));
    AGAIN(disco_copy_from_worker0(session, tensor, dref));
    AGAIN(disco_copy_to_worker0(session, tensor, dref));
    AGAIN(disco_debug_get(dref, 0, BOUND_MS, &value));
    AGAIN(disco_debug_get(dref, 1, BOUND_MS, &value));
    AGAIN(disco_debug_get_all(dref, BOUND_MS, 16, all));
    AGAIN(disco_debug_set(dref, 0, &number, BOUND_MS));
    AGAIN(disco_debug_set(dref, DISCO_ALL_WORKERS, &number, BOUND_MS));
    AGAIN(disco_session_debug_get(session, id, 0, BOUND_MS, &value));
    AGAIN(disco_session_debug_set(session, id, 0, &number, BOUND_MS));
    expect_exempt(session);
  }
#undef AGAIN
  dsc_object_unref(tensor);
}

void await_news(disco_session *session) {
  int fd = -1;
  OK(disco_session_done_fd(session, &fd));
  OK(disco_session_arm_done(session, disco_session_sequence(session)));
  struct pollfd look = {.fd = fd, .events = POLLIN};
  assert_int_equal(poll(&look, 1, BOUND_MS), 1);
}

/* ---- What is left ---- */

static int count_threads(void) {
  DIR *tasks = opendir("/proc/self/task");
  int count = 0;
  for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
    char path[300], name[32] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
    FILE *comm = entry->d_name[0] != '.' ? fopen(path, "re") : NULL;
    if (comm == NULL) continue;
    bool ours = fgets(name, sizeof(name), comm) != NULL && strncmp(name, "disco ", 6) == 0;
    (void)fclose(comm);
    count += ours && strncmp(name, "disco monitor", 13) != 0 && strncmp(name, "disco reaper", 12) != 0;
  }
  closedir(tasks);
  return count;
}

static int count_entries(const char *folder) {
  DIR *entries = opendir(folder);
  int count = 0;
  while (readdir(entries) != NULL) count++;
  closedir(entries);
  return count;
}

static int count_memfds(void) {
  FILE *maps = fopen("/proc/self/maps", "re");
  char line[4096];
  int count = 0;
  while (fgets(line, sizeof(line), maps) != NULL) count += strstr(line, "/memfd:") != NULL;
  (void)fclose(maps);
  return count;
}

static census count_all(void) { return (census){count_threads(), count_entries("/proc/self/fd"), count_memfds()}; }

census census_begin(void) {
  disco_session *session = open_session(2, true);
  expect_works(session);
  close_session(session);
  for (int64_t end = now_ms() + 200; count_threads() > 0 && now_ms() < end;) sleep_ms(1);
  return count_all(); /* a test that failed may have left something */
}

static bool is_same(void *context) {
  const census *before = context;
  census now = count_all();
  return memcmp(before, &now, sizeof(now)) == 0 && waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

void census_end(const census *before) {
  census copy = *before;
  if (until(is_same, &copy)) return;
  census now = count_all();
  print_error("threads %d -> %d, descriptors %d -> %d, memfds %d -> %d, a child: %d\n", before->threads, now.threads,
              before->descriptors, now.descriptors, before->memfds, now.memfds, (int)waitpid(-1, NULL, WNOHANG));
  fail();
}

/* ---- Warnings ---- */

static struct {
  pthread_mutex_t lock;
  char text[8192];
  size_t size;
} warnings = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep_warning(void *context, disco_log_level level, const char *message) {
  (void)context;
  (void)level;
  pthread_mutex_lock(&warnings.lock);
  int size = snprintf(warnings.text + warnings.size, sizeof(warnings.text) - warnings.size, "%s\n", message);
  if (size > 0 && warnings.size + (size_t)size < sizeof(warnings.text)) warnings.size += (size_t)size;
  pthread_mutex_unlock(&warnings.lock);
}

void log_begin(void) {
  pthread_mutex_lock(&warnings.lock);
  warnings.size = 0;
  warnings.text[0] = 0;
  pthread_mutex_unlock(&warnings.lock);
  disco_set_log_callback(keep_warning, NULL, DISCO_LOG_WARN);
}

bool log_has(const char *part) {
  pthread_mutex_lock(&warnings.lock);
  bool has = strstr(warnings.text, part) != NULL;
  pthread_mutex_unlock(&warnings.lock);
  return has;
}

void log_end(void) { disco_set_log_callback(NULL, NULL, DISCO_LOG_WARN); }

/* ---- Other processes ---- */

other start_role(const char *const *words) {
  char name[] = "/proc/self/exe", part[] = "role", *argv[16] = {name, part};
  int out[2], n = 2;
  for (; words[n - 2] != NULL && n < 15; n++) argv[n] = (char *)(uintptr_t)words[n - 2];
  assert_int_equal(pipe2(out, O_CLOEXEC), 0);
  (void)fflush(NULL);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    (void)dup2(out[1], 1);
    (void)execv(name, argv);
    _exit(127);
  }
  close(out[1]);
  return (other){pid, out[0]};
}

/* A line, without its newline; false at the end or past the bound. */
static bool read_line(other *self, char *line, size_t size) {
  size_t used = 0;
  for (int64_t end = now_ms() + BOUND_MS; now_ms() < end && used + 1 < size;) {
    struct pollfd look = {.fd = self->out, .events = POLLIN};
    if (poll(&look, 1, 100) != 1) continue;
    if (read(self->out, line + used, 1) != 1) break;
    if (line[used] == '\n') {
      line[used] = 0;
      return true;
    }
    used++;
  }
  line[used] = 0;
  return false;
}

int64_t read_number(other *self) {
  char line[1024];
  if (!read_line(self, line, sizeof(line))) {
    print_error("the other process said no number: %s\n", line);
    fail();
  }
  char *end;
  int64_t number = strtoll(line, &end, 10);
  if (end == line) print_error("the other process said: %s\n", line);
  assert_true(end != line);
  return number;
}

int await_end(pid_t pid) {
  int status = 0;
  for (int64_t end = now_ms() + BOUND_MS; now_ms() < end; sleep_ms(1)) {
    pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == pid) return status;
    if (got < 0 && kill(pid, 0) != 0) return 0; /* its own parent took it */
  }
  return -1;
}

int end_role(other *self) {
  int status = await_end(self->pid);
  if (status == -1) {
    print_error("the other process does not end\n");
    (void)kill(self->pid, SIGKILL);
    (void)waitpid(self->pid, &status, 0);
  }
  close(self->out);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void expect_role_ok(other *self) {
  char line[2048];
  while (read_line(self, line, sizeof(line))) print_message("%s\n", line);
  assert_int_equal(end_role(self), 0);
}

void say(const char *format, ...) {
  char line[2048];
  va_list args;
  va_start(args, format);
  int size = vsnprintf(line, sizeof(line) - 1, format, args);
  va_end(args);
  if (size < 0) return;
  if (size > (int)sizeof(line) - 2) size = (int)sizeof(line) - 2;
  line[size++] = '\n';
  for (int done = 0; done < size;) {
    ssize_t moved = write(1, line + done, (size_t)(size - done));
    if (moved < 0 && errno != EINTR) return;
    if (moved > 0) done += (int)moved;
  }
}

void need(bool holds, const char *what, int line) {
  if (holds) return;
  say("line %d: %s does not hold; last error: %s", line, what, disco_last_error_text());
  _exit(1);
}
