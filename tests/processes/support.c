#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "processes/support.h"

/* ---- Worker functions ---- */

static bool is_me(const TVMFFIAny *worker) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  return disco_worker_get_info(&info) == DISCO_OK && info.worker_id == worker->v_int64;
}

static int my_pid(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(getpid());
  return 0;
}

static int nap(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args == 2 && is_me(&args[1])) sleep_ms((int)args[0].v_int64);
  return 0;
}

static int make_text(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = text_of(num_args == 1 ? (size_t)args[0].v_int64 : 0);
  return 0;
}

static int nop(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return 0;
}

static int die(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args == 1 && is_me(&args[0])) (void)kill(getpid(), SIGKILL);
  return 0;
}

static int print_on(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  char line[1001];
  *result = dsc_none();
  if (num_args != 1 || !is_me(&args[0])) return 0;
  memset(line, '.', sizeof(line));
  line[sizeof(line) - 1] = '\n';
  while (write(2, line, sizeof(line)) > 0) continue;
  return 0;
}

static void register_functions(void) {
  static const struct {
    const char *name;
    TVMFFISafeCallType function;
  } all[] = {{"p.pid", my_pid}, {"p.nap", nap}, {"p.text", make_text},
             {"p.nop", nop},    {"p.die", die}, {"p.print", print_on}};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    if (disco_register_function(all[i].name, all[i].function, NULL, NULL, false) != DISCO_OK) {
      (void)fprintf(stderr, "%s\n", disco_last_error_text());
      exit(2);
    }
}

/* ---- The program ---- */

/* TSan: processes (there are many) need not wait a second at their end. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:atexit_sleep_ms=0"; }

static int be_worker(int argc, char **argv) {
  const struct rlimit none = {0, 0};
  const char *start = getenv("TEST_START");
  int numbers[5];
  (void)setrlimit(RLIMIT_CORE, &none);
  if (start != NULL && strcmp(start, "sleep") == 0) sleep_ms(1000 * 1000);
  if (start != NULL && strcmp(start, "exit") == 0) return 7;
  if (argc < 7) return 2;
  for (int i = 0; i < 5; i++) numbers[i] = atoi(argv[2 + i]);
  return disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]) == DISCO_OK ? 0 : 9;
}

int processes_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count,
                   int (*role)(void)) {
  register_functions();
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_worker(argc, argv);
  if (argc > 1 && strcmp(argv[1], "role") == 0 && role != NULL) return role();
  alarm(110);
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

/* ---- Calls that once hung ---- */

static void *run_beside(void *argument) {
  beside *self = argument;
  self->run(self->context);
  return NULL;
}

void start_beside(beside *self, void (*run)(void *context), void *context) {
  self->run = run;
  self->context = context;
  assert_int_equal(pthread_create(&self->thread, NULL, run_beside, self), 0);
}

void join_bounded(beside *self, const char *what) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += BOUND_MS / 1000;
  if (pthread_timedjoin_np(self->thread, NULL, &end) == 0) return;
  (void)fprintf(stderr, "[  FAILED  ] %s does not come back\n", what);
  _exit(3); /* it still uses what the test would give back */
}

void run_bounded(void (*run)(void *context), void *context, const char *what) {
  beside it;
  start_beside(&it, run, context);
  join_bounded(&it, what);
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

typedef struct {
  disco_session *session;
  disco_status status;
  char text[1024];
} shutting;

static void run_shutdown(void *context) {
  shutting *self = context;
  self->status = disco_session_shutdown(self->session);
  (void)snprintf(self->text, sizeof(self->text), "%s", self->status == DISCO_OK ? "" : disco_last_error_text());
}

disco_status shut_down(disco_session *session) {
  shutting it = {.session = session};
  run_bounded(run_shutdown, &it, "shutdown");
  return it.status;
}

void close_session(disco_session *session) {
  shutting it = {.session = session};
  run_bounded(run_shutdown, &it, "shutdown");
  if (it.status != DISCO_OK) print_error("shutdown -> %d: %s\n", (int)it.status, it.text);
  assert_int_equal(it.status, DISCO_OK);
  disco_session_unref(session);
}

void end_session(disco_session *session) {
  (void)shut_down(session);
  disco_session_unref(session);
}

void await_all(disco_session *session) { OK(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS)); }

void check_ok(disco_status status, const char *what, const char *file, int line) {
  if (status == DISCO_OK) return;
  print_error("%s -> %d: %s\n", what, (int)status, disco_last_error_text());
  _fail(file, line);
}

void contains(const char *text, const char *part, const char *file, int line) {
  if (strstr(text, part) != NULL) return;
  print_error("no `%s` in: %s\n", part, text);
  _fail(file, line);
}

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

TVMFFIAny text_of(size_t size) {
  TVMFFIAny value = dsc_none();
  char *text = malloc(size + 1);
  if (text == NULL) abort();
  memset(text, 'x', size + 1);
  if (dsc_value_from_string(text, size, &value) != DISCO_OK) abort();
  free(text);
  return value;
}

bool is_text_of(const TVMFFIAny *value, size_t size) {
  TVMFFIByteArray text;
  if (!dsc_value_string(value, &text) || text.size != size) return false;
  for (size_t i = 0; i < size; i++)
    if (text.data[i] != 'x') return false;
  return true;
}

pid_t pid_of(disco_session *session, int32_t worker) {
  disco_dref *pids = call(session, "p.pid", NO_ARGS);
  TVMFFIAny value = dsc_none();
  OK(disco_debug_get(pids, worker, BOUND_MS, &value));
  disco_dref_unref(pids);
  return (pid_t)value.v_int64;
}

disco_error_info await_lost(disco_session *session, int32_t worker) {
  disco_status status = DISCO_OK;
  disco_error_info error = {.struct_size = sizeof(error)};
  for (int64_t end = now_ms() + BOUND_MS; status == DISCO_OK && now_ms() < end; sleep_ms(1))
    status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
  if (status != DISCO_LOST) print_error("status %d: %s\n", (int)status, disco_last_error_text());
  assert_int_equal(status, DISCO_LOST);
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_int_equal(error.worker, worker);
  return error;
}

bool has_no_child(void *unused) {
  (void)unused;
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD;
}

int count_descriptors(const char *part) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  assert_non_null(folder);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char path[300], target[256];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
    ssize_t size = readlink(path, target, sizeof(target) - 1);
    if (size < 0) continue;
    target[size] = '\0';
    count += strstr(target, part) != NULL;
  }
  (void)closedir(folder);
  return count;
}
