#include "ccl/support.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/workers.h"

/* ---- Running ---- */

/* TSan: processes (there are many) need not wait a second at their end. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0:atexit_sleep_ms=0"; }

static int choice(const char *variable, const char *const *names) {
  const char *wanted = getenv(variable);
  for (int i = 0; names[i] != NULL; i++)
    if (wanted == NULL || strcmp(wanted, names[i]) == 0) return i;
  (void)fprintf(stderr, "%s=%s is nothing that this suite knows\n", variable, wanted);
  exit(2);
}

bool of_processes(void) { return choice("DISCO_TEST_SESSION", (const char *const[]){"thread", "process", NULL}) == 1; }
bool is_ref(void) { return choice("DISCO_TEST_CCL", (const char *const[]){"cpu", "ref", NULL}) == 1; }
const char *ccl_name(void) { return is_ref() ? "ref" : "cpu"; }
int memory_of_mode(void) {
  return choice("DISCO_TEST_MEMORY", (const char *const[]){"ours", "foreign", "mixed", NULL});
}

int ccl_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count) {
  register_worker_functions();
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_worker(argc, argv);
  alarm(110);
  cmocka_set_test_filter(getenv("DISCO_TEST_FILTER"));
  return _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}

bool chosen(uint64_t index) { return mix(4711, index) % (uint64_t)test_scale() == 0; }

/* ---- Sessions ---- */

disco_session_options options_of(int32_t workers, int32_t groups) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, groups);
  options.program = "/proc/self/exe";
  options.arena_bytes = 64 << 20; /* sanitizers have less room */
  return options;
}

disco_status start(const disco_session_options *options, disco_session **ret_session) {
  return of_processes() ? disco_session_create_process(options, ret_session)
                        : disco_session_create_threaded(options, ret_session);
}

disco_session *make_bare_session(int32_t workers, int32_t groups) {
  disco_session_options options = options_of(workers, groups);
  disco_session *session = NULL;
  expect_ok(start(&options, &session));
  assert_non_null(session);
  return session;
}

disco_status init_ccl(disco_session *session, int32_t num_ids) {
  int64_t ids[64];
  assert_in_range(num_ids, 0, 64);
  for (int32_t i = 0; i < num_ids; i++) ids[i] = i;
  return disco_session_init_ccl(session, ccl_name(), ids, num_ids);
}

disco_session *make_session(int32_t workers, int32_t groups) {
  disco_session *session = make_bare_session(workers, groups);
  expect_ok(init_ccl(session, workers));
  expect_ok(disco_session_sync(session, DISCO_ALL_WORKERS, WORK_MS));
  return session;
}

void end_session(disco_session *session) {
  expect_ok(disco_session_shutdown(session));
  disco_session_unref(session);
}

void end_lost_session(disco_session *session) {
  (void)!disco_session_shutdown(session);
  disco_session_unref(session);
}

void sync_all(disco_session *session) { expect_ok(disco_session_sync(session, DISCO_ALL_WORKERS, WORK_MS)); }

/* ---- Checks ---- */

bool says_number(const char *text, int64_t number) {
  for (const char *at = text; *at != '\0';) {
    if (*at < '0' || *at > '9') {
      at++;
      continue;
    }
    char *end = NULL;
    if (strtoll(at, &end, 10) == number) return true;
    at = end;
  }
  return false;
}

void check_names(int64_t number, const char *file, int line) {
  disco_error_info error = {.struct_size = sizeof(error), .message = ""};
  (void)disco_last_error(&error);
  if (says_number(error.message, number)) return;
  print_error("the last error's sentence does not name %lld:\n  %s\n", (long long)number, error.message);
  _fail(file, line);
}

/* ---- Values and calls ---- */

TVMFFIAny any_bool(bool value) {
  TVMFFIAny any = dsc_int(value);
  any.type_index = kTVMFFIBool;
  return any;
}

TVMFFIAny any_text(const char *text) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIRawStr;
  any.v_c_str = text;
  return any;
}

TVMFFIAny any_dref(disco_dref *dref) { return dsc_object_value(dref); }

TVMFFIAny any_dtype(DLDataType type) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIDataType;
  any.v_dtype = type;
  return any;
}

TVMFFIAny make_shape(const int64_t *sizes, int32_t count) {
  const TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle function = NULL;
  TVMFFIAny numbers[8], shape = dsc_none();
  assert_in_range(count, 0, 8);
  for (int32_t i = 0; i < count; i++) numbers[i] = dsc_int(sizes[i]);
  assert_int_equal(TVMFFIFunctionGetGlobal(&key, &function), 0);
  assert_int_equal(TVMFFIFunctionCall(function, numbers, count, &shape), 0);
  dsc_object_unref(function);
  return shape;
}

static disco_status try_call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args,
                             disco_dref **ret_result) {
  disco_dref *function = NULL;
  disco_status status = disco_session_get_global_func(session, name, &function);
  if (status == DISCO_OK) status = disco_call(session, function, args, num_args, ret_result);
  disco_dref_unref(function);
  return status;
}

disco_dref *call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *result = NULL;
  expect_ok(try_call(session, name, args, num_args, &result));
  return result;
}

disco_status try_post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args) {
  return try_call(session, name, args, num_args, NULL);
}

void post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args) {
  expect_ok(try_post(session, name, args, num_args));
}

int64_t get_int(disco_dref *dref, int32_t worker) {
  TVMFFIAny value = dsc_none();
  expect_ok(disco_debug_get(dref, worker, WORK_MS, &value));
  assert_int_equal(value.type_index, kTVMFFIInt);
  return value.v_int64;
}

/* ---- Collectives ---- */

job job_of(int operation, DLDataType type, int64_t count) {
  return (job){.operation = operation,
               .code = type.code,
               .bits = type.bits,
               .lanes = type.lanes,
               .kind = SUM,
               .count = count,
               .seed = 1,
               .memory = memory_of_mode(),
               .repeat = 1,
               .who = NOBODY,
               .how = GOOD};
}

disco_status try_job(disco_session *session, const job *what) {
  int64_t fields[JOB_FIELDS];
  TVMFFIAny args[JOB_FIELDS];
  memcpy(fields, what, sizeof(fields));
  for (int i = 0; i < JOB_FIELDS; i++) args[i] = dsc_int(fields[i]);
  return try_post(session, "test.collective", args, JOB_FIELDS);
}

void post_job(disco_session *session, const job *what) { expect_ok(try_job(session, what)); }

void run_job(disco_session *session, const job *what) {
  post_job(session, what);
  sync_all(session);
}

void check_works(disco_session *session) {
  static int64_t seed = 1000;
  const int64_t counts[] = {3, 1000, scaled(40000, 6000)};
  for (int i = 0; i < 6; i++) {
    job it = job_of(i < 3 ? ALLREDUCE : ALLGATHER, reduced_types[TYPE_F32], counts[i % 3]);
    it.in_group = i & 1;
    it.seed = seed++;
    post_job(session, &it);
  }
  sync_all(session);
}

void check_complaints(disco_session *session) {
  disco_dref *all = call(session, "test.complaint", NO_VALUES);
  for (int32_t w = 0; w < disco_session_num_workers(session); w++) {
    TVMFFIAny value = dsc_none();
    TVMFFIByteArray text;
    expect_ok(disco_debug_get(all, w, WORK_MS, &value));
    if (dsc_value_string(&value, &text)) {
      print_error("worker %d: %.*s\n", w, (int)text.size, text.data);
      fail();
    }
    dsc_value_drop(&value);
  }
  disco_dref_unref(all);
}

disco_status try_steps(disco_session *session, DLDataType type, const step *steps, size_t count) {
  enum { HEAD = 3, FIELDS = sizeof(step) / sizeof(int64_t) };
  TVMFFIAny *args = calloc(HEAD + count * FIELDS, sizeof(*args));
  assert_non_null(args);
  args[0] = dsc_int(memory_of_mode());
  args[1] = dsc_int(type.code);
  args[2] = dsc_int(type.bits);
  for (size_t i = 0; i < count; i++) {
    int64_t fields[FIELDS];
    memcpy(fields, &steps[i], sizeof(fields));
    for (size_t f = 0; f < FIELDS; f++) args[HEAD + i * FIELDS + f] = dsc_int(fields[f]);
  }
  const disco_status status = try_post(session, "test.steps", args, (int32_t)(HEAD + count * FIELDS));
  free(args);
  return status;
}

void post_steps(disco_session *session, DLDataType type, const step *steps, size_t count) {
  expect_ok(try_steps(session, type, steps, count));
}

int64_t statistic(disco_session *session, int which, int32_t worker) {
  disco_dref *all = call(session, "test.statistic", VALUES(dsc_int(which)));
  const int64_t value = get_int(all, worker);
  disco_dref_unref(all);
  return value;
}
