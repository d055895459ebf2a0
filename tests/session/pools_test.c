/* Who starts the worker processes: what the library's own pool is told, what it makes of their output, and what it does
 * with pools that are not as they should be. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "session/support.h"

/* ---- Worker functions ---- */

static int return_text(const char *text, TVMFFIAny *result) {
  *result = dsc_none();
  if (text == NULL) return 0;
  TVMFFIByteArray bytes = {text, strlen(text)};
  return TVMFFIStringFromByteArray(&bytes, result);
}

/* (name) -> what the environment says, or None */
static int ask_environment(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray name;
  char text[64];
  if (num_args != 1 || !dsc_value_string(&args[0], &name)) return disco_raise("TypeError", "test.getenv");
  (void)snprintf(text, sizeof(text), "%.*s", (int)name.size, name.data);
  return return_text(getenv(text), result);
}

/* () -> the working directory */
static int where(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  char path[4096];
  return return_text(getcwd(path, sizeof(path)), result);
}

/* () -> the only CPU this thread may use, or -1 when there are several */
static int my_cpu(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  cpu_set_t set;
  CPU_ZERO(&set);
  *result = dsc_int(-1);
  if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) != 1) return 0;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &set)) *result = dsc_int(i);
  return 0;
}

/* (worker, 1 or 2, text): writes it there, as it is */
static int say(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray text;
  disco_worker_info info = {.struct_size = sizeof(info)};
  *result = dsc_none();
  if (num_args != 3 || !dsc_value_string(&args[2], &text)) return disco_raise("TypeError", "test.say");
  if (disco_worker_get_info(&info) != DISCO_OK || info.worker_id != args[0].v_int64) return 0;
  for (size_t written = 0; written < text.size;) {
    ssize_t more = write((int)args[1].v_int64, text.data + written, text.size - written);
    if (more <= 0) return disco_raise("OSError", "test.say: errno %d", errno);
    written += (size_t)more;
  }
  return 0;
}

/* ---- The library's own pool: what it is told ---- */

static void expect_text(disco_dref *dref, int32_t worker, const char *text) {
  TVMFFIAny value = get(dref, worker);
  if (text == NULL)
    assert_int_equal(value.type_index, kTVMFFINone);
  else
    assert_true(is_text(&value, text));
  dsc_value_drop(&value);
}

/* Until the session says that a worker is lost; returns what it says. */
static disco_status await_loss(disco_session *session) {
  disco_dref *ret = NULL;
  disco_status status = disco_session_put(session, &(TVMFFIAny){.type_index = kTVMFFIInt}, &ret);
  disco_dref_unref(ret);
  return status == DISCO_OK ? disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS) : status;
}

static void environment_is_added_and_replaced(void **state) {
  (void)state;
  const char *const environment[] = {"TEST_NEW=brand new", "TEST_OLD=replaced=with=more", "TEST_EMPTY=", NULL};
  assert_int_equal(setenv("TEST_OLD", "the controller's", 1), 0);
  assert_int_equal(setenv("TEST_KEPT", "kept", 1), 0);
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  options.environment = environment;
  disco_session *session = make_session_with(&options);
  disco_dref *ask = find(session, "test.getenv");
  const struct {
    const char *name, *here, *there;
  } cases[] = {{"TEST_NEW", NULL, "brand new"},
               {"TEST_OLD", "the controller's", "replaced=with=more"},
               {"TEST_KEPT", "kept", "kept"},
               {"TEST_EMPTY", NULL, ""},
               {"TEST_NEVER", NULL, NULL}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    disco_dref *result = call(session, ask, VALUES(any_raw(cases[i].name)));
    expect_text(result, 0, cases[i].here);
    expect_text(result, 1, cases[i].there);
    disco_dref_unref(result);
  }
  disco_dref_unref(ask);
  end_session(session);
  assert_int_equal(unsetenv("TEST_OLD"), 0);
  assert_int_equal(unsetenv("TEST_KEPT"), 0);
}

static void the_working_directory_is_theirs_alone(void **state) {
  (void)state;
  char here[4096];
  assert_non_null(getcwd(here, sizeof(here)));
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(3, 1);
  options.working_directory = "/usr";
  disco_session *session = make_session_with(&options);
  disco_dref *func = find(session, "test.where"), *result = call(session, func, NO_VALUES);
  expect_text(result, 0, here);
  expect_text(result, 1, "/usr");
  expect_text(result, 2, "/usr");
  disco_dref_unref(result);
  disco_dref_unref(func);
  end_session(session);
  session = NULL;
  options.working_directory = "/no/such/folder";
  expect_refused(DISCO_VALUE, "/no/such/folder", start_session(&options, &session));
  assert_null(session);
}

static void workers_are_bound_to_cpus(void **state) {
  (void)state;
  cpu_set_t allowed;
  int32_t cpu = -1;
  CPU_ZERO(&allowed);
  assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  for (int i = CPU_SETSIZE - 1; i >= 0; i--)
    if (CPU_ISSET(i, &allowed)) cpu = i;
  const int32_t cpus[] = {-1, cpu, -1};
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(3, 1);
  options.cpus = cpus;
  disco_session *session = make_session_with(&options);
  disco_dref *func = find(session, "test.my_cpu"), *result = call(session, func, NO_VALUES);
  const int64_t anywhere = CPU_COUNT(&allowed) == 1 ? cpu : -1;
  assert_int_equal(get_int(result, 0), anywhere);
  assert_int_equal(get_int(result, 1), cpu);
  assert_int_equal(get_int(result, 2), anywhere);
  disco_dref_unref(result);
  disco_dref_unref(func);
  end_session(session);
}

static void libraries_are_loaded_everywhere(void **state) {
  (void)state;
  const char *const libraries[] = {SESSION_PLUGIN, NULL};
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(3, 1);
  options.libraries = libraries;
  disco_session *session = make_session_with(&options);
  disco_dref *func = find(session, "plugin.answer"), *result = call(session, func, NO_VALUES);
  for (int32_t w = 0; w < 3; w++) assert_int_equal(get_int(result, w), 42);
  disco_dref_unref(result);
  disco_dref_unref(func);
  end_session(session);
}

/* Found here, but not by the workers, who look elsewhere. */
static void a_library_that_workers_do_not_find(void **state) {
  (void)state;
  char folder[] = "/tmp/disco-session-XXXXXX", here[4096];
  const char *const libraries[] = {"./libsession_only_here.so", NULL};
  assert_non_null(getcwd(here, sizeof(here)));
  assert_non_null(mkdtemp(folder));
  assert_int_equal(chdir(folder), 0);
  assert_int_equal(symlink(SESSION_PLUGIN, "libsession_only_here.so"), 0);
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  options.libraries = libraries;
  options.working_directory = "/usr";
  disco_session *session = NULL;
  disco_status status = start_session(&options, &session);
  assert_int_equal(unlink("libsession_only_here.so"), 0);
  assert_int_equal(chdir(here), 0);
  assert_int_equal(rmdir(folder), 0);
  check_status(status, DISCO_OK, "a session whose workers lack a library", __FILE__, __LINE__);
  expect_refused(DISCO_LOST, "worker 1", await_loss(session));
  expect_says("libsession_only_here.so");
  disco_error_info error = {.struct_size = sizeof(error)};
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_int_equal(error.worker, 1);
  assert_int_equal(error.exit_status, 2);
  assert_int_equal(error.signal_number, -1);
  assert_true(error.pid > 1);
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
}

static void a_library_that_nobody_finds(void **state) {
  (void)state;
  const char *const libraries[] = {"/no/such/library.so", NULL};
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  options.libraries = libraries;
  disco_session *session = NULL;
  expect_refused(DISCO_VALUE, "/no/such/library.so", start_session(&options, &session));
  assert_null(session);
}

static void programs_that_cannot_be_started(void **state) {
  (void)state;
  const char *const programs[] = {"/no/such/program", "/", "/etc/passwd", "no-such-program-on-path"};
  for (int i = 0; i < 4; i++) {
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(3, 1);
    disco_session *session = NULL;
    options.program = programs[i];
    expect_refused(DISCO_VALUE, programs[i], start_session(&options, &session));
    assert_null(session);
  }
}

/* It dies before its first command: the constructor has returned long ago, and the next call says what it said. */
static void the_last_words_are_told(void **state) {
  (void)state;
  const char *const environment[] = {"TEST_DIE=7", NULL};
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  options.environment = environment;
  disco_session *session = make_session_with(&options);
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_refused(DISCO_LOST, "worker 1", await_loss(session));
  expect_says("TEST_DIE wants it to die");
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_string_equal(error.kind, "WorkerLostError");
  assert_int_equal(error.worker, 1);
  assert_int_equal(error.exit_status, 7);
  assert_int_equal(error.signal_number, -1);
  TVMFFIAny one = dsc_int(1);
  disco_dref *ret = NULL;
  expect_status(DISCO_LOST, disco_session_put(session, &one, &ret)); /* and every later one */
  expect_status(DISCO_LOST, disco_session_sync(session, 0, WAIT_MS));
  assert_null(ret);
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
}

/* ---- Output ---- */

enum { MOST_LINES = 64 };

typedef struct {
  pthread_mutex_t lock;
  int count, bad_prefixes;
  struct {
    int32_t worker;
    int stream;
    size_t size;
    char text[64]; /* its beginning */
  } lines[MOST_LINES];
} output;

/* "[worker 3] text": the prefix is checked here, the text is kept. */
static void note_line(void *context, int32_t worker, int stream, const char *line, size_t size) {
  output *self = context;
  char prefix[32];
  size_t length = (size_t)snprintf(prefix, sizeof(prefix), "[worker %d] ", worker);
  (void)pthread_mutex_lock(&self->lock);
  if (size < length || memcmp(line, prefix, length) != 0) self->bad_prefixes++;
  line += length;
  size -= length;
  if (self->count < MOST_LINES) {
    self->lines[self->count].worker = worker;
    self->lines[self->count].stream = stream;
    self->lines[self->count].size = size;
    (void)snprintf(self->lines[self->count++].text, 64, "%.*s", (int)size, line);
  }
  (void)pthread_mutex_unlock(&self->lock);
}

static int count_lines(output *self) {
  (void)pthread_mutex_lock(&self->lock);
  int count = self->count;
  (void)pthread_mutex_unlock(&self->lock);
  return count;
}

static void await_lines(output *self, int wanted) {
  for (int i = 0; i < WAIT_MS && count_lines(self) < wanted; i++) sleep_ms(1);
  assert_int_equal(count_lines(self), wanted);
}

static void expect_line(const output *self, int index, int32_t worker, int stream, const char *text) {
  assert_int_equal(self->lines[index].worker, worker);
  assert_int_equal(self->lines[index].stream, stream);
  assert_string_equal(self->lines[index].text, text);
}

static void output_comes_line_by_line(void **state) {
  (void)state;
  static output seen;
  (void)pthread_mutex_init(&seen.lock, NULL);
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(3, 1);
  options.output = note_line;
  options.output_context = &seen;
  disco_session *session = make_session_with(&options);
  disco_dref *func = find(session, "test.say");
  expect_ok(disco_call(session, func, VALUES(dsc_int(1), dsc_int(1), any_raw("one\n\nthree\nhalf a ")), NULL));
  await_lines(&seen, 3);
  expect_line(&seen, 0, 1, 1, "one");
  expect_line(&seen, 1, 1, 1, "");
  expect_line(&seen, 2, 1, 1, "three");
  expect_ok(disco_call(session, func, VALUES(dsc_int(2), dsc_int(2), any_raw("an error\n")), NULL));
  await_lines(&seen, 4);
  expect_line(&seen, 3, 2, 2, "an error");
  expect_ok(disco_call(session, func, VALUES(dsc_int(1), dsc_int(1), any_raw("line\nthe end")), NULL));
  await_lines(&seen, 5);
  expect_line(&seen, 4, 1, 1, "half a line");
  /* A line that is too long comes in pieces, nothing of it is lost. */
  char *text = calloc(1, 10002);
  memset(text, 'x', 10000);
  text[10000] = '\n';
  expect_ok(disco_call(session, func, VALUES(dsc_int(2), dsc_int(1), any_raw(text)), NULL));
  free(text);
  size_t total = 0;
  for (int i = 0; i < WAIT_MS && total < 10000; i++) {
    sleep_ms(1);
    total = 0;
    int count = count_lines(&seen);
    for (int k = 5; k < count; k++) {
      assert_true(seen.lines[k].size <= 4096);
      assert_int_equal(seen.lines[k].worker, 2);
      total += seen.lines[k].size;
    }
  }
  assert_int_equal(total, 10000);
  int before = count_lines(&seen);
  disco_dref_unref(func);
  end_session(session);
  await_lines(&seen, before + 1); /* what had no newline comes with the end */
  expect_line(&seen, before, 1, 1, "the end");
  assert_int_equal(seen.bad_prefixes, 0);
}

/* ---- Other pools ---- */

static int count_descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  assert_non_null(folder);
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

static bool has_children(void) {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

/* Nothing is left of sessions: no child, no descriptor more than before. */
static void expect_nothing_left(int descriptors) {
  for (int i = 0; i < WAIT_MS && (has_children() || count_descriptors() > descriptors); i++) sleep_ms(1);
  assert_false(has_children());
  assert_true(count_descriptors() <= descriptors);
}

/* What the first session of a process makes for all of them. */
static int warm_up(void) {
  end_session(make_session(2, 1));
  for (int i = 0; i < WAIT_MS && has_children(); i++) sleep_ms(1);
  assert_false(has_children());
  sleep_ms(20);
  return count_descriptors();
}

static disco_status start_with_pool(const char *creator, const char *entrypoint, int32_t workers,
                                    disco_session **ret_session) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, 1);
  options.pool_creator = creator;
  options.entrypoint = entrypoint;
  return disco_session_create_process(&options, ret_session);
}

static void the_pool_is_told_once(void **state) {
  (void)state;
  int before = atomic_load(&foreign_pools.closed), started = atomic_load(&foreign_pools.started);
  disco_session *session = NULL;
  expect_ok(start_with_pool("test.create_pool", "anything", 3, &session));
  assert_int_equal(atomic_load(&foreign_pools.started), started + 2);
  disco_dref *one = put(session, dsc_int(1));
  sync_all(session);
  disco_dref_unref(one);
  expect_ok(disco_session_shutdown(session));
  sleep_ms(20);
  assert_int_equal(atomic_load(&foreign_pools.closed), before); /* not at shutdown: at its death */
  disco_session_unref(session);
  assert_int_equal(await_count(&foreign_pools.closed, before + 1), before + 1);
  sleep_ms(20);
  assert_int_equal(atomic_load(&foreign_pools.closed), before + 1);
  /* Also without any shutdown. */
  expect_ok(start_with_pool("test.create_pool", NULL, 2, &session));
  disco_session_unref(session);
  assert_int_equal(await_count(&foreign_pools.closed, before + 2), before + 2);
  sleep_ms(20);
  assert_int_equal(atomic_load(&foreign_pools.closed), before + 2);
}

/* A worker that ran commands and was told to stop leaves by itself, from its own main(). */
static void workers_leave_in_order(void **state) {
  (void)state;
  int early = atomic_load(&foreign_pools.early), closed = atomic_load(&foreign_pools.closed);
  const int rounds = scaled(40, 10);
  for (int i = 0; i < rounds; i++) {
    disco_session *session = make_session(3, 1);
    disco_dref *one = put(session, dsc_int(i));
    sync_all(session);
    disco_dref_unref(one);
    if (i % 2 == 0) expect_ok(disco_session_shutdown(session));
    disco_session_unref(session);
    assert_int_equal(await_count(&foreign_pools.closed, closed + i + 1), closed + i + 1);
  }
  assert_int_equal(atomic_load(&foreign_pools.early), early);
}

static void creators_that_make_no_pool(void **state) {
  (void)state;
  int before = warm_up(), made = atomic_load(&foreign_pools.made);
  disco_session *session = NULL;
  expect_refused(DISCO_VALUE, "test.create_pol", start_with_pool("test.create_pol", "x", 3, &session));
  expect_says("test.create_pool"); /* the nearest name */
  expect_kind("KeyError", start_with_pool("test.bad_pool", "refuse", 3, &session));
  expect_says("no pools today");
  expect_refused(DISCO_TYPE, "test.bad_pool", start_with_pool("test.bad_pool", "no function", 3, &session));
  assert_null(session);
  assert_int_equal(atomic_load(&foreign_pools.made), made);
  expect_nothing_left(before);
}

/* f(2) raises or returns rubbish: no session, and f(1)'s worker is not left behind. */
static void pools_that_fail_in_the_middle(void **state) {
  (void)state;
  const struct {
    const char *what, *kind;
  } cases[] = {{"raise", "BufferError"}, {"none", "TypeError"},     {"number", "TypeError"}, {"one", "TypeError"},
               {"three", "TypeError"},   {"negative", "TypeError"}, {"closed", "ValueError"}};
  int before = warm_up();
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    for (int32_t workers = 2; workers <= 4; workers++) {
      int closed = atomic_load(&foreign_pools.closed);
      disco_session *session = NULL;
      expect_kind(cases[i].kind, start_with_pool("test.bad_pool", cases[i].what, workers, &session));
      if (i > 0 && i < 6) expect_says(workers == 2 ? "worker 1" : "worker 2");
      assert_null(session);
      assert_int_equal(await_count(&foreign_pools.closed, closed + 1), closed + 1);
      expect_nothing_left(before);
      assert_int_equal(atomic_load(&foreign_pools.closed), closed + 1);
    }
  }
}

/* Nobody answers: calls are posted, waits have deadlines, and the end does not wait. */
static void a_pool_whose_workers_are_silent(void **state) {
  (void)state;
  int before = warm_up(), closed = atomic_load(&foreign_pools.closed);
  disco_session *session = NULL;
  expect_ok(start_with_pool("test.bad_pool", "silent", 3, &session));
  disco_dref *one = put(session, dsc_int(1));
  assert_int_equal(get_int(one, 0), 1);
  expect_status(DISCO_TIMEOUT, disco_session_sync(session, DISCO_ALL_WORKERS, 20));
  disco_dref_unref(one);
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
  assert_int_equal(await_count(&foreign_pools.closed, closed + 1), closed + 1);
  expect_nothing_left(before);
}

static void a_pool_whose_workers_are_gone(void **state) {
  (void)state;
  int before = warm_up(), closed = atomic_load(&foreign_pools.closed);
  disco_session *session = NULL;
  expect_ok(start_with_pool("test.bad_pool", "end", 3, &session));
  disco_status status = await_loss(session);
  check_status(status, DISCO_LOST, "a sync with a worker that was never there", __FILE__, __LINE__);
  expect_says("worker 2");
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
  assert_int_equal(await_count(&foreign_pools.closed, closed + 1), closed + 1);
  expect_nothing_left(before);
}

/* Dozens of sessions leave nothing, whatever kind they are. */
static void sessions_leave_nothing(void **state) {
  (void)state;
  int before = warm_up();
  for (int i = 0; i < scaled(20, 5); i++) {
    disco_session *session = make_session(3, 1);
    disco_dref *one = put(session, dsc_int(i));
    if (i % 3 == 0) sync_all(session);
    disco_dref_unref(one);
    if (i % 2 == 0) expect_ok(disco_session_shutdown(session));
    disco_session_unref(session);
  }
  expect_nothing_left(before);
}

/* The library knows no process here: the end of the channel is all it hears. */
static void a_dead_worker_closes_its_channel(void **state) {
  (void)state;
  int before = warm_up();
  for (int moment = 0; moment < 3; moment++) { /* perhaps before its first word, after it, within a function */
    disco_session *session = make_session(3, 1);
    gate stop;
    gate_open(&stop);
    if (moment == 1) sync_all(session);
    if (moment == 2) gate_hold(&stop, session, 2);
    int64_t pid = kill_channel_worker(session, 2);
    assert_true(pid > 1);
    disco_status status = await_loss(session);
    check_status(status, DISCO_LOST, "a sync with a worker that was killed", __FILE__, __LINE__);
    disco_error_info error = {.struct_size = sizeof(error)};
    assert_int_equal(disco_last_error(&error), DISCO_OK);
    assert_string_equal(error.kind, "WorkerLostError");
    assert_int_equal(error.worker, 2);
    assert_int_equal(error.signal_number, -1); /* nobody told it how */
    assert_int_equal(error.exit_status, -1);
    expect_says("channel");
    TVMFFIAny one = dsc_int(1);
    disco_dref *ret = NULL;
    expect_status(DISCO_LOST, disco_session_put(session, &one, &ret)); /* and every later call */
    assert_null(ret);
    gate_close(&stop);
    end_session(session); /* worker 1 leaves in order */
  }
  expect_nothing_left(before);
}

/* Pool creators are found by name at the call: what is wrong about counts is told before any is asked. */
static void counts_are_checked_first(void **state) {
  (void)state;
  int made = atomic_load(&foreign_pools.made);
  disco_session *session = NULL;
  expect_refused(DISCO_VALUE, "1025", start_with_pool("test.create_pool", "x", 1025, &session));
  expect_refused(DISCO_VALUE, "0", start_with_pool("test.create_pool", "x", 0, &session));
  assert_null(session);
  assert_int_equal(atomic_load(&foreign_pools.made), made);
}

static void register_more(void) {
  register_function("test.getenv", ask_environment);
  register_function("test.where", where);
  register_function("test.my_cpu", my_cpu);
  register_function("test.say", say);
}

int main(void) {
  (void)setenv("DISCO_TEST_SESSION", "pool", 0);
  const struct CMUnitTest tests[] = {OWN_POOL_ONLY(environment_is_added_and_replaced),
                                     OWN_POOL_ONLY(the_working_directory_is_theirs_alone),
                                     OWN_POOL_ONLY(workers_are_bound_to_cpus),
                                     OWN_POOL_ONLY(libraries_are_loaded_everywhere),
                                     OWN_POOL_ONLY(a_library_that_workers_do_not_find),
                                     OWN_POOL_ONLY(a_library_that_nobody_finds),
                                     OWN_POOL_ONLY(programs_that_cannot_be_started),
                                     OWN_POOL_ONLY(the_last_words_are_told),
                                     OWN_POOL_ONLY(output_comes_line_by_line),
                                     FOREIGN_ONLY(the_pool_is_told_once),
                                     FOREIGN_ONLY(workers_leave_in_order),
                                     FOREIGN_ONLY(creators_that_make_no_pool),
                                     FOREIGN_ONLY(pools_that_fail_in_the_middle),
                                     FOREIGN_ONLY(a_pool_whose_workers_are_silent),
                                     FOREIGN_ONLY(a_pool_whose_workers_are_gone),
                                     FOREIGN_ONLY(counts_are_checked_first),
                                     CHANNEL_ONLY(a_dead_worker_closes_its_channel),
                                     cmocka_unit_test(sessions_leave_nothing)};
  return RUN_SUITE(tests, register_more);
}
