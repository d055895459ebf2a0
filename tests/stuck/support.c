#include "stuck/support.h"

#include <errno.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/workers.h"

#include "ffi/value.h"

/* ---- Running ---- */

/* TSan: processes (there are many) need not wait a second at their end. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:atexit_sleep_ms=0"; }

int stuck_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count) {
  register_functions();
  reset_pauses();
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_worker(argc, argv);
  if (getenv("DISCO_STUCK_ROUNDS") == NULL) alarm(115);
  cmocka_set_test_filter(getenv("DISCO_TEST_FILTER"));
  return _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t word = (a + 0x9e3779b97f4a7c15u) ^ b * 0xbf58476d1ce4e5b9u;
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
  word = (word ^ word >> 27) * 0x94d049bb133111ebu;
  return word ^ word >> 31;
}

uint64_t number_of(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

bool chosen(uint64_t index, int share, int less) {
  return mix(17, index) % (uint64_t)(test_scale() == 1 ? share : share * less) == 0;
}

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Tasks ---- */

static const struct {
  const char *tune, *ccl;
} ways[WAYS] = {
#define WAY_ROW(name, text, tune, ccl) {tune, ccl},
    WAY_LIST(WAY_ROW)
#undef WAY_ROW
};

const char *const way_names[WAYS] = {
#define WAY_NAME(name, text, tune, ccl) text,
    WAY_LIST(WAY_NAME)
#undef WAY_NAME
};

const char *const operation_names[OPERATIONS] = {
#define OPERATION_NAME(name, text) text,
    OPERATION_LIST(OPERATION_NAME)
#undef OPERATION_NAME
};

static int64_t count_of(operation op, way which, int32_t ranks, int64_t seed) {
  switch (which) {
  case INLINE: return 2;
  case ONESHOT: return op == SCATTER ? 1024 / ranks : 1024;
  case REF: return seed % 3 == 0 ? 2 : seed % 3 == 1 ? 65536 : 1024;
  default: return 65536;
  }
}

task task_of(operation op, way which, int32_t ranks, int64_t seed) {
  return (task){.operation = op,
                .count = count_of(op, which, ranks, seed),
                .in_place = which != PUSH && (seed >> 1 & 1) != 0,
                .seed = seed,
                .memory = HEAP,
                .who = NOBODY,
                .target = NOBODY,
                .times = 1};
}

/* ---- Sessions ---- */

static void discard(void *context, int32_t worker, int stream, const char *line, size_t size) {
  (void)context, (void)worker, (void)stream, (void)line, (void)size;
}

disco_session *open_scene(const scene *what) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(what->workers, what->groups);
  disco_session *session = NULL;
  int64_t ids[MAX_WORKERS] = {0};
  options.program = "/proc/self/exe";
  options.output = discard;
  options.arena_bytes = 64 << 20; /* sanitizers have less room */
  options.stopped_ms = what->stopped_ms;
  options.collective_timeout_ms = what->timeout_ms;
  (void)setenv("DISCO_CCL_TUNE", ways[what->way].tune, 1);
  OK(NULL, what->processes ? disco_session_create_process(&options, &session)
                           : disco_session_create_threaded(&options, &session));
  OK(session, disco_session_init_ccl(session, ways[what->way].ccl, ids, what->workers));
  return session;
}

void close_scene(disco_session *session) {
  OK(session, disco_session_shutdown(session));
  disco_session_unref(session);
  if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD) {
    print_error("%s: a child is left\n", case_text());
    fail();
  }
}

static disco_status call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args,
                         disco_dref **ret_result) {
  disco_dref *function = NULL;
  disco_status status = disco_session_get_global_func(session, name, &function);
  if (status == DISCO_OK) status = disco_call(session, function, args, num_args, ret_result);
  disco_dref_unref(function);
  return status;
}

static void pack_task(const task *what, TVMFFIAny ret_args[TASK_FIELDS]) {
  int64_t fields[TASK_FIELDS];
  memcpy(fields, what, sizeof(fields));
  for (int i = 0; i < TASK_FIELDS; i++) ret_args[i] = dsc_int(fields[i]);
}

disco_status try_post(disco_session *session, const task *what) {
  TVMFFIAny args[TASK_FIELDS];
  pack_task(what, args);
  return call(session, "stuck.work", args, TASK_FIELDS, NULL);
}

void post(disco_session *session, const task *what) { OK(session, try_post(session, what)); }

void post_steps(disco_session *session, const step *steps, size_t count) {
  TVMFFIAny args[64];
  assert_true(count * 4 <= 64);
  for (size_t i = 0; i < count; i++) {
    args[i * 4] = dsc_int(steps[i].worker);
    args[i * 4 + 1] = dsc_int(steps[i].verb);
    args[i * 4 + 2] = dsc_int(steps[i].peer);
    args[i * 4 + 3] = dsc_int(steps[i].count);
  }
  OK(session, call(session, "stuck.steps", args, (int32_t)(count * 4), NULL));
}

void measure_cost(disco_session *session, const task *what, int64_t late, int64_t late_us, cost *ret_costs) {
  TVMFFIAny args[TASK_FIELDS + 2];
  disco_dref *result = NULL;
  pack_task(what, args);
  args[TASK_FIELDS] = dsc_int(late);
  args[TASK_FIELDS + 1] = dsc_int(late_us);
  OK(session, call(session, "stuck.cost", args, TASK_FIELDS + 2, &result));
  SYNC_OK(session);
  for (int32_t i = 0; i < disco_session_num_workers(session); i++) {
    TVMFFIAny value = dsc_none();
    OK(session, disco_debug_get(result, i, BOUND_MS, &value));
    assert_int_equal(value.type_index, kTVMFFIShape);
    const int64_t *numbers = ((const TVMFFIShapeCell *)(value.v_obj + 1))->data;
    ret_costs[i] = (cost){numbers[0], numbers[1], numbers[2], numbers[3]};
    dsc_value_drop(&value);
  }
  disco_dref_unref(result);
}

void post_gate(disco_session *session, int32_t who) {
  TVMFFIAny arg = dsc_int(who);
  OK(session, call(session, "stuck.gate", &arg, 1, NULL));
}

disco_status sync_for(disco_session *session, int64_t ms) { return disco_session_sync(session, DISCO_ALL_WORKERS, ms); }

pid_t pid_of(disco_session *session, int32_t worker) {
  disco_dref *result = NULL;
  TVMFFIAny value = dsc_none();
  OK(session, call(session, "stuck.pid", NULL, 0, &result));
  OK(session, disco_debug_get(result, worker, BOUND_MS, &value));
  disco_dref_unref(result);
  return (pid_t)value.v_int64;
}

/* ---- Checks ---- */

static char the_case[256];

void say_case(const char *format, ...) {
  va_list args;
  va_start(args, format);
  (void)vsnprintf(the_case, sizeof(the_case), format, args);
  va_end(args);
}

const char *case_text(void) { return the_case; }

void check_ok(disco_session *session, disco_status status, const char *what, const char *file, int line) {
  if (status == DISCO_OK) return;
  char *text = NULL;
  print_error("%s\n%s -> %d: %s\n", the_case, what, (int)status, disco_last_error_text());
  if (session != NULL && disco_session_dump(session, &text) == DISCO_OK) print_error("%s\n", text);
  disco_text_free(text);
  release_paused(); /* so that the session can end */
  open_gate();
  _fail(file, line);
}

disco_error_info last_error(void) {
  disco_error_info error = {.struct_size = sizeof(error), .kind = "none", .message = "", .text = ""};
  (void)disco_last_error(&error);
  return error;
}

bool last_is(const char *kind) { return strcmp(last_error().kind, kind) == 0; }

void check_error(const char *kind, const char *part, const char *file, int line) {
  const disco_error_info error = last_error();
  if (strcmp(error.kind, kind) == 0 && strstr(error.message, part) != NULL) return;
  print_error("%s\nnot a %s that says \"%s\": %s\n", the_case, kind, part, error.text);
  release_paused();
  open_gate();
  _fail(file, line);
}

void check_both(int32_t worker, const char *file, int line) {
  const disco_error_info error = last_error();
  bool named = false, other = false;
  for (const char *at = error.message; (at = strstr(at, "worker ")) != NULL; at++) {
    char *end = NULL;
    const long number = strtol(at + 7, &end, 10);
    if (end == at + 7) continue;
    if (number == worker)
      named = true;
    else
      other = true;
  }
  if (named && other) return;
  print_error("%s\nthe error does not name worker %d and another: %s\n", the_case, worker, error.text);
  release_paused();
  open_gate();
  _fail(file, line);
}

void check_recovers(disco_session *session, const task *like, bool told) {
  task good = *like;
  good.who = good.target = NOBODY;
  good.how = GOOD;
  good.action = NO_ACTION;
  good.gated = 0;
  good.seed += 100;
  disco_status status = try_post(session, &good);
  if (status == DISCO_OK) status = sync_for(session, BOUND_MS);
  if (status != DISCO_OK && !told && last_is("CollectiveError")) {
    post(session, &good);
    status = sync_for(session, BOUND_MS);
  }
  OK(session, status);
  good.seed++;
  good.in_place = !good.in_place;
  post(session, &good);
  if (good.count > 2) { /* another size on the way */
    good.count = 2;
    post(session, &good);
  }
  SYNC_OK(session);
}
