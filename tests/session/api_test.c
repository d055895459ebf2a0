/* Making a session, its options, and looking at it: names, statistics, dump, log, errors kept. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "session/support.h"

/* ---- Making one ---- */

static void sessions_of_many_sizes(void **state) {
  (void)state;
  const int32_t sizes[][2] = {{1, 1}, {2, 1},  {2, 2},
                              {3, 3}, {8, 4},  {scaled(64, 8), 1},
                              {6, 2}, {12, 3}, {2 * scaled(512, 8), scaled(512, 8)}};
  const int32_t most = workers_share_memory() ? 1024 : 64; /* a process takes longer to start than a thread */
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    int32_t workers = sizes[i][0], groups = sizes[i][1];
    if (workers > most) workers = most, groups = most / 2;
    disco_session *session = make_session(workers, groups);
    assert_int_equal(disco_session_num_workers(session), workers);
    assert_int_equal(disco_session_num_groups(session), groups);
    disco_dref *weigh = find(session, "test.weigh"), *sum = call(session, weigh, VALUES(dsc_int(1000)));
    TVMFFIAny *values = calloc((size_t)workers, sizeof(*values));
    assert_non_null(values);
    expect_ok(disco_debug_get_all(sum, WAIT_MS, workers, values));
    for (int32_t w = 0; w < workers; w++) assert_int_equal(values[w].v_int64, 1000 + w);
    free(values);
    disco_dref_unref(sum);
    disco_dref_unref(weigh);
    end_session(session);
  }
}

static void impossible_counts(void **state) {
  (void)state;
  const struct {
    int32_t workers, groups;
    const char *says[2];
  } cases[] = {{0, 1, {"not 0", "1024"}}, {1025, 1, {"1025", "1024"}},
               {-1, 1, {"-1", "1024"}},   {4, 3, {"4", "3"}},
               {4, 0, {"4", "0"}},        {4, -2, {"4", "-2"}},
               {2, 4, {"2", "4"}},        {INT32_MIN, INT32_MIN, {"-2147483648", "1024"}}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(cases[i].workers, cases[i].groups);
    disco_session *session = NULL;
    expect_refused(DISCO_VALUE, cases[i].says[0], start_session(&options, &session));
    expect_says(cases[i].says[1]);
    assert_null(session);
  }
}

static void options_of_any_age(void **state) {
  (void)state;
  struct {
    disco_session_options known;
    char unknown[64];
  } longer = {DISCO_SESSION_OPTIONS_INIT(2, 1), {0}};
  memset(longer.unknown, 0xff, sizeof(longer.unknown));
  longer.known.struct_size = sizeof(longer);
  end_session(make_session_with(&longer.known));
  /* What stands behind a shorter struct is not read. */
  disco_session_options shorter = DISCO_SESSION_OPTIONS_INIT(2, 2);
  shorter.struct_size = offsetof(disco_session_options, ring_bytes);
  shorter.ring_bytes = 12345;
  shorter.grace_ms = UINT32_MAX;
  disco_session *session = make_session_with(&shorter);
  assert_int_equal(disco_session_num_groups(session), 2);
  end_session(session);
  session = NULL;
  shorter.struct_size = 0;
  expect_refused(DISCO_VALUE, "struct_size", start_session(&shorter, &session));
  shorter.struct_size = offsetof(disco_session_options, num_groups);
  expect_refused(DISCO_VALUE, "struct_size", start_session(&shorter, &session));
  expect_status(DISCO_VALUE, start_session(NULL, &session));
  expect_status(DISCO_VALUE, start_session(&longer.known, NULL));
  assert_null(session);
}

static void options_out_of_range(void **state) {
  (void)state;
  const struct {
    uint32_t ring_bytes, grace_ms, spin_us;
    const char *says;
  } bad[] = {{300000, 0, 0, "300000"},       {128 << 10, 0, 0, "131072"},         {1, 0, 0, "ring_bytes"},
             {1u << 31, 0, 0, "2147483648"}, {0, 3600 * 1000 + 1, 0, "grace_ms"}, {0, 0, 1000 * 1000 + 1, "spin_us"}};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
    disco_session *session = NULL;
    options.ring_bytes = bad[i].ring_bytes;
    options.grace_ms = bad[i].grace_ms;
    options.spin_us = bad[i].spin_us;
    expect_refused(DISCO_VALUE, bad[i].says, start_session(&options, &session));
    assert_null(session);
  }
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  options.ring_bytes = 1 << 20;
  options.grace_ms = 1000;
  options.slow_warning_ms = 1;
  options.spin_us = 1;
  end_session(make_session_with(&options));
}

static void names_and_version(void **state) {
  (void)state;
  static const char *const names[] = {"kShutDown",        "kKillReg",         "kGetGlobalFunc", "kCallPacked",
                                      "kSyncWorker",      "kCopyFromWorker0", "kCopyToWorker0", "kDebugGetFromRemote",
                                      "kDebugSetRegister"};
  const char *name = NULL;
  for (int64_t i = 0; i < 9; i++) {
    expect_ok(disco_action_name(i, &name));
    assert_string_equal(name, names[i]);
  }
  name = "untouched";
  expect_refused(DISCO_VALUE, "Unknown DiscoAction: 9", disco_action_name(9, &name));
  expect_refused(DISCO_VALUE, "Unknown DiscoAction: -1", disco_action_name(-1, &name));
  expect_refused(DISCO_VALUE, "Unknown DiscoAction: 64", disco_action_name(64, &name)); /* an internal message */
  assert_string_equal(name, "untouched");
  char version[32];
  (void)snprintf(version, sizeof(version), "%d.%d.%d", DISCO_VERSION_MAJOR, DISCO_VERSION_MINOR, DISCO_VERSION_PATCH);
  assert_string_equal(disco_version(), version);
}

static void missing_pointers_are_named(void **state) {
  (void)state;
  disco_session *session = make_session(1, 1);
  disco_dref *echo = find(session, "test.echo"), *ret = NULL;
  TVMFFIAny value = dsc_int(1);
  expect_refused(DISCO_VALUE, "session", disco_session_get_global_func(NULL, "test.echo", &ret));
  expect_refused(DISCO_VALUE, "name", disco_session_get_global_func(session, NULL, &ret));
  expect_refused(DISCO_VALUE, "ret_func", disco_session_get_global_func(session, "test.echo", NULL));
  expect_refused(DISCO_VALUE, "func", disco_call(session, NULL, &value, 1, &ret));
  expect_refused(DISCO_VALUE, "args", disco_call(session, echo, NULL, 1, &ret));
  expect_refused(DISCO_VALUE, "value", disco_session_put(session, NULL, &ret));
  expect_refused(DISCO_VALUE, "ret_value", disco_debug_get(echo, 0, WAIT_MS, NULL));
  expect_refused(DISCO_VALUE, "host", disco_copy_from_worker0(session, NULL, echo));
  expect_refused(DISCO_VALUE, "ret_text", disco_session_dump(session, NULL));
  assert_null(ret);
  disco_session_unref(NULL);
  disco_dref_unref(NULL);
  disco_text_free(NULL);
  disco_dref_unref(echo);
  end_session(session);
}

/* ---- Statistics ---- */

static void statistics_move(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo"), *raise = find(session, "test.raise");
  disco_session_stats before = stats_of(session), after;
  assert_int_equal(before.commands, 2);
  assert_int_equal(before.live_registers, 2);
  disco_dref *kept = call(session, echo, VALUES(dsc_int(1)));
  expect_ok(disco_call(session, echo, VALUES(dsc_int(2)), NULL));
  sync_all(session);
  after = stats_of(session);
  assert_int_equal(after.commands, before.commands + 2);
  assert_true(after.ring_bytes >= before.ring_bytes + 2 * 48); /* two records: a header and a value each */
  assert_int_equal(after.live_registers, before.live_registers + 1);
  assert_int_equal(after.errors_told + after.resumes + after.commands_skipped + after.errors_late, 0);
  disco_dref_unref(kept);
  await_live(session, before.live_registers);

  /* One worker fails, the other runs on; both skip the two calls behind it (they wait at a gate for the failure). */
  gate stop;
  TVMFFIAny args[4];
  gate_open(&stop);
  gate_args(&stop, 1, args);
  disco_dref *hang = find(session, "test.gate");
  expect_ok(disco_call(session, hang, args, 4, NULL));
  expect_ok(disco_call(session, raise, VALUES(dsc_int(0), any_raw("ValueError"), any_raw("told")), NULL));
  uint64_t failing = disco_session_sequence(session);
  gate_await(&stop, 1);
  bool done = false;
  for (int i = 0; i < WAIT_MS && !done; i++) {
    expect_ok(disco_session_is_done(session, 0, failing, &done));
    if (!done) sleep_ms(1);
  }
  assert_true(done);
  expect_refused(DISCO_RAISED, "told", disco_call(session, echo, VALUES(dsc_int(3)), NULL));
  gate_release(&stop, 1);
  sync_all(session);
  after = stats_of(session);
  assert_int_equal(after.errors_told, 1);
  assert_int_equal(after.resumes, 1);
  assert_int_equal(after.commands_skipped, 0); /* the refused call was never posted */
  gate_close(&stop);
  disco_dref_unref(hang);
  disco_dref_unref(raise);
  disco_dref_unref(echo);
  end_session(session);
}

static void skipped_commands_are_counted(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *echo = find(session, "test.echo"), *fail = find(session, "test.gate_and_raise");
  gate stop;
  TVMFFIAny args[4];
  gate_open(&stop);
  gate_args(&stop, DISCO_ALL_WORKERS, args);
  expect_ok(disco_call(session, fail, args, 4, NULL)); /* everybody fails once the gate opens */
  gate_await(&stop, 3);
  for (int i = 0; i < 5; i++) expect_ok(disco_call(session, echo, VALUES(dsc_int(i)), NULL));
  gate_release(&stop, 3);
  expect_refused(DISCO_RAISED, "raised behind the gate", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  sync_all(session);
  assert_int_equal(stats_of(session).commands_skipped, 3 * 5);
  gate_close(&stop);
  disco_dref_unref(fail);
  disco_dref_unref(echo);
  end_session(session);
}

/* A worker that fails behind the one that was told: kept, counted, never told. */
static void a_late_failure_is_counted(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *fail = find(session, "test.gate_and_raise"), *raise = find(session, "test.raise");
  gate stop;
  TVMFFIAny args[4];
  gate_open(&stop);
  gate_args(&stop, 1, args);
  expect_ok(disco_call(session, fail, args, 4, NULL)); /* worker 1 will fail here, first in the order of commands */
  expect_ok(disco_call(session, raise, VALUES(dsc_int(0), any_raw("ValueError"), any_raw("the quick one")), NULL));
  gate_await(&stop, 1);
  expect_refused(DISCO_RAISED, "the quick one", disco_session_sync(session, 0, WAIT_MS));
  gate_release(&stop, 1);
  sync_all(session);
  disco_session_stats stats = stats_of(session);
  assert_int_equal(stats.errors_told, 1);
  assert_int_equal(stats.errors_late, 1);
  disco_error_info error = {.struct_size = sizeof(error)};
  expect_ok(disco_session_last_error(session, 0, &error));
  assert_string_equal(error.kind, "KeyError");
  assert_int_equal(error.worker, 1);
  expect_ok(disco_session_last_error(session, 1, &error));
  assert_string_equal(error.message, "the quick one");
  gate_close(&stop);
  disco_dref_unref(fail);
  disco_dref_unref(raise);
  end_session(session);
}

typedef struct {
  disco_session *session;
  gate *stop;
  bool seen;
} releaser;

/* Opens the gate when the other thread waits for room. */
static void *release_when_full(void *argument) {
  releaser *self = argument;
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  for (int i = 0; i < WAIT_MS && !self->seen; i++) {
    self->seen = disco_session_get_stats(self->session, &stats) == DISCO_OK && stats.ring_full > 0;
    if (!self->seen) sleep_ms(1);
  }
  (void)!write(self->stop->go[1], "x", 1);
  return NULL;
}

static void a_full_ring_is_waited_for(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *pack = find(session, "test.pack"), *last = NULL;
  TVMFFIAny args[256];
  gate stop;
  for (int i = 0; i < 256; i++) args[i] = dsc_int(i);
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  releaser other = {session, &stop, false};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, release_when_full, &other), 0);
  /* 256 values take more than 4 KiB: two hundred such calls do not fit the ring of 256 KiB and what a pipe buffers. */
  for (int i = 0; i < 200; i++) {
    disco_dref_unref(last);
    last = NULL;
    expect_ok(disco_call(session, pack, args, 256, &last));
  }
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_true(other.seen);
  TVMFFIAny value = get(last, 1);
  assert_int_equal(length(&value), 256);
  assert_int_equal(element(&value, 255).v_int64, 255);
  dsc_value_drop(&value);
  disco_dref_unref(last);
  disco_dref_unref(pack);
  gate_close(&stop);
  end_session(session);
}

static void sleepers_are_woken_and_counted(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo");
  disco_session_stats stats = {0};
  /* Both, with a call each time: the first wake may be a pump's, and a worker counts a sleep when it is over. */
  for (int i = 0; i < WAIT_MS && (stats.wakes == 0 || stats.worker_sleeps == 0); i++) {
    sleep_ms(1); /* let them fall asleep */
    expect_ok(disco_call(session, echo, VALUES(dsc_int(i)), NULL));
    sync_all(session);
    stats = stats_of(session);
  }
  assert_true(stats.wakes > 0);
  assert_true(stats.worker_sleeps > 0);
  disco_dref_unref(echo);
  end_session(session);
}

static void statistics_of_any_age(void **state) {
  (void)state;
  disco_session *session = make_session(1, 1);
  disco_session_stats stats;
  memset(&stats, 0x55, sizeof(stats));
  stats.struct_size = offsetof(disco_session_stats, wakes);
  expect_ok(disco_session_get_stats(session, &stats));
  assert_int_equal(stats.commands, 0);
  assert_int_equal(stats.ring_full, 0);
  assert_int_equal(stats.wakes, 0x5555555555555555);
  assert_int_equal(stats.abandoned_workers, 0x5555555555555555);
  stats.struct_size = 0;
  expect_status(DISCO_VALUE, disco_session_get_stats(session, &stats));
  end_session(session);
}

/* ---- Dump and log ---- */

static void the_dump_shows_who_hangs(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  gate stop;
  char *text = NULL, *line;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  uint64_t sequence = disco_session_sequence(session);
  bool done = false;
  for (int i = 0; i < WAIT_MS && !done; i++) { /* the others are through */
    bool first = false, last = false;
    expect_ok(disco_session_is_done(session, 0, sequence, &first));
    expect_ok(disco_session_is_done(session, 2, sequence, &last));
    done = first && last;
    if (!done) sleep_ms(1);
  }
  expect_ok(disco_session_dump(session, &text));
  assert_non_null(strstr(text, "3 workers"));
  line = strstr(text, "worker 1:");
  assert_non_null(line);
  char *end = strchr(line, '\n');
  assert_non_null(end);
  *end = 0;
  assert_non_null(strstr(line, "test.gate"));
  assert_non_null(strstr(line, "command 2"));
  *end = '\n';
  line = strstr(text, "worker 0:");
  assert_non_null(line);
  *strchr(line, '\n') = 0;
  assert_null(strstr(line, "test.gate"));
  disco_text_free(text);
  gate_release(&stop, 1);
  sync_all(session);
  expect_ok(disco_session_dump(session, &text));
  assert_null(strstr(text, "test.gate"));
  disco_text_free(text);
  gate_close(&stop);
  expect_ok(disco_session_shutdown(session));
  expect_ok(disco_session_dump(session, &text)); /* readable to the end */
  assert_non_null(strstr(text, "closed"));
  disco_text_free(text);
  disco_session_unref(session);
}

static _Atomic int warnings;
static char warning[1024]; /* of the first; read after `warnings` was seen */

static void note_warning(void *context, disco_log_level level, const char *message) {
  if (context != &warnings || level != DISCO_LOG_WARN || strstr(message, "slow") == NULL) return;
  if (atomic_load(&warnings) == 0) (void)snprintf(warning, sizeof(warning), "%s", message);
  atomic_fetch_add(&warnings, 1);
}

static void a_slow_worker_is_warned_of(void **state) {
  (void)state;
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
  options.slow_warning_ms = 10;
  disco_session *session = make_session_with(&options);
  gate stop;
  disco_set_log_callback(note_warning, &warnings, DISCO_LOG_WARN);
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  for (int i = 0; i < 5 && atomic_load(&warnings) == 0; i++)
    expect_status(DISCO_TIMEOUT, disco_session_sync(session, 1, 1000));
  disco_set_log_callback(NULL, NULL, DISCO_LOG_WARN);
  assert_true(atomic_load(&warnings) > 0);
  assert_non_null(strstr(warning, "worker 1"));
  assert_non_null(strstr(warning, "test.gate"));
  assert_null(strchr(warning, '\n'));
  gate_release(&stop, 1);
  gate_close(&stop);
  end_session(session);
}

/* ---- Errors kept ---- */

static void raise_one(disco_session *session, disco_dref *raise, int32_t worker, int number) {
  char message[32];
  (void)snprintf(message, sizeof(message), "error number %d", number);
  expect_ok(disco_call(session, raise, VALUES(dsc_int(worker), any_raw("IndexError"), any_raw(message)), NULL));
  expect_refused(DISCO_RAISED, message, disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
}

static void the_last_sixteen_errors_are_kept(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  disco_dref *raise = find(session, "test.raise");
  disco_error_info error = {.struct_size = sizeof(error)};
  char message[32];
  expect_refused(DISCO_VALUE, "no error 0", disco_session_last_error(session, 0, &error));
  uint64_t sequences[20];
  for (int i = 0; i < 20; i++) {
    raise_one(session, raise, i % 4, i);
    expect_ok(disco_session_last_error(session, 0, &error));
    sequences[i] = error.sequence;
    assert_true(i == 0 || sequences[i] > sequences[i - 1]);
  }
  for (int i = 0; i < 16; i++) { /* newest first */
    expect_ok(disco_session_last_error(session, i, &error));
    (void)snprintf(message, sizeof(message), "error number %d", 19 - i);
    assert_string_equal(error.message, message);
    assert_int_equal(error.worker, (19 - i) % 4);
    assert_int_equal(error.group, (19 - i) % 4 / 2);
    assert_int_equal(error.sequence, sequences[19 - i]);
  }
  expect_status(DISCO_VALUE, disco_session_last_error(session, 16, &error));
  expect_status(DISCO_VALUE, disco_session_last_error(session, -1, &error));
  disco_dref_unref(raise);
  expect_ok(disco_session_shutdown(session));
  expect_ok(disco_session_last_error(session, 15, &error)); /* also after shutdown */
  assert_string_equal(error.message, "error number 4");
  disco_session_unref(session);
}

static void an_error_has_all_its_fields(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  disco_dref *raise = find(session, "test.raise");
  expect_ok(disco_call(session, raise, VALUES(dsc_int(3), any_raw("AttributeError"), any_raw("the cause")), NULL));
  uint64_t sequence = disco_session_sequence(session);
  expect_status(DISCO_RAISED, disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  disco_error_info error = {.struct_size = sizeof(error)};
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_int_equal(error.status, DISCO_RAISED);
  assert_int_equal(error.worker, 3);
  assert_int_equal(error.group, 1);
  assert_int_equal(error.sequence, sequence);
  assert_int_equal(error.signal_number, -1);
  assert_int_equal(error.exit_status, -1);
  assert_string_equal(error.kind, "AttributeError");
  assert_string_equal(error.message, "the cause");
  assert_string_equal(error.function, "test.raise");
  assert_true(error.host[0] != 0);
  if (shares_memory(3)) {
    assert_int_equal(error.pid, getpid());
  } else {
    assert_true(error.pid > 1);
    assert_int_not_equal(error.pid, getpid());
  }
  /* Four lines: cause, culprit, the others, what to try. */
  const char *at = error.text;
  const char *const lines[] = {"AttributeError: the cause", "worker 3 of 4", "worker 0", "try:"};
  for (int i = 0; i < 4; i++) {
    const char *end = strchr(at, '\n');
    const char *found = strstr(at, lines[i]);
    assert_non_null(found);
    assert_true(end == NULL ? i == 3 : found < end);
    at = end != NULL ? end + 1 : at;
  }
  disco_error_info part;
  memset(&part, 0x55, sizeof(part));
  part.struct_size = offsetof(disco_error_info, kind);
  assert_int_equal(disco_last_error(&part), DISCO_OK);
  assert_int_equal(part.worker, 3);
  assert_int_equal((uintptr_t)part.kind, (uintptr_t)0x5555555555555555);
  disco_dref_unref(raise);
  end_session(session);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(sessions_of_many_sizes),
                                     cmocka_unit_test(impossible_counts),
                                     cmocka_unit_test(options_of_any_age),
                                     cmocka_unit_test(options_out_of_range),
                                     cmocka_unit_test(names_and_version),
                                     cmocka_unit_test(missing_pointers_are_named),
                                     cmocka_unit_test(statistics_move),
                                     cmocka_unit_test(skipped_commands_are_counted),
                                     cmocka_unit_test(a_late_failure_is_counted),
                                     cmocka_unit_test(a_full_ring_is_waited_for),
                                     cmocka_unit_test(sleepers_are_woken_and_counted),
                                     cmocka_unit_test(statistics_of_any_age),
                                     cmocka_unit_test(the_dump_shows_who_hangs),
                                     cmocka_unit_test(a_slow_worker_is_warned_of),
                                     cmocka_unit_test(the_last_sixteen_errors_are_kept),
                                     cmocka_unit_test(an_error_has_all_its_fields)};
  return RUN_SUITE(tests, NULL);
}
