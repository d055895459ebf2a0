/* Several threads on one session: each gets its own results, and registers neither leak nor mix. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "session/support.h"

/* cmocka's checks work on the test's own thread only: others write down the first thing that went wrong. */
static _Atomic int wrongs;
static char wrong[256];

static bool good(bool is_good, const char *what) {
  if (is_good) return true;
  if (atomic_fetch_add(&wrongs, 1) == 0)
    (void)snprintf(wrong, sizeof(wrong), "%s; last error: %s", what, disco_last_error_text());
  return false;
}

static void nothing_went_wrong(void) {
  if (atomic_load(&wrongs) != 0) print_error("on a thread: %s\n", wrong);
  assert_int_equal(atomic_load(&wrongs), 0);
}

enum { THREADS = 4, BOX = 64 };

/* A box of DRefs that one thread fills and another empties. */
typedef struct {
  _Atomic(disco_dref *) places[BOX];
  _Atomic bool done;
} box;

typedef struct {
  disco_session *session;
  disco_dref *weigh, *echo;
  int id, rounds;
  box *drops;
  _Atomic int *freed; /* of the objects they send */
} controller;

static void put_in_box(box *drops, disco_dref *dref) {
  for (int i = 0; i < BOX; i++) {
    disco_dref *empty = NULL;
    if (atomic_compare_exchange_strong(&drops->places[i], &empty, dref)) return;
  }
  disco_dref_unref(dref); /* full: drop it here */
}

/* Drops what the controllers leave, all the time. */
static void *drop_all(void *argument) {
  box *drops = argument;
  for (bool done = false; !done;) {
    done = atomic_load(&drops->done);
    for (int i = 0; i < BOX; i++) disco_dref_unref(atomic_exchange(&drops->places[i], NULL));
    if (!done) sleep_ms(1);
  }
  return NULL;
}

static bool control_once(controller *self, int round) {
  int64_t unique = (int64_t)self->id * 1000000 + round;
  disco_dref *value = NULL, *sum = NULL;
  TVMFFIAny number = dsc_int(unique), got = dsc_none(), all[4];
  bool ok = good(disco_session_put(self->session, &number, &value) == DISCO_OK, "put");
  if (!ok) return false;
  ok = good(disco_call(self->session, self->weigh, VALUES(any_dref(value), dsc_int(self->id)), &sum) == DISCO_OK,
            "call");
  int64_t expected = unique + 2 * self->id;
  int32_t worker = (round + self->id) % 3;
  if (ok && round % 4 == 0) {
    ok = good(disco_debug_get_all(sum, WAIT_MS, 4, all) == DISCO_OK, "debug_get_all");
    for (int32_t w = 0; ok && w < 3; w++) ok = good(all[w].v_int64 == expected + w, "another thread's results");
  } else if (ok) {
    ok = good(disco_debug_get(sum, worker, WAIT_MS, &got) == DISCO_OK, "debug_get");
    ok = ok && good(got.type_index == kTVMFFIInt && got.v_int64 == expected + worker, "another thread's result");
  }
  if (ok && round % 3 == 0) {
    TVMFFIAny own = dsc_int(unique + 1);
    ok = good(disco_debug_set(value, worker, &own, WAIT_MS) == DISCO_OK, "debug_set");
    ok = ok && good(disco_debug_get(value, worker, WAIT_MS, &got) == DISCO_OK && got.v_int64 == unique + 1, "set");
  }
  if (ok && round % 5 == 0) ok = good(disco_session_sync(self->session, worker, WAIT_MS) == DISCO_OK, "sync");
  if (round % 2 == 0) {
    put_in_box(self->drops, value);
    put_in_box(self->drops, sum);
  } else {
    disco_dref_unref(value);
    disco_dref_unref(sum);
  }
  return ok;
}

static void *control(void *argument) {
  controller *self = argument;
  for (int round = 0; round < self->rounds && control_once(self, round); round++) continue;
  return NULL;
}

static void four_controllers_on_one_session(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *weigh = find(session, "test.weigh"), *echo = find(session, "test.echo");
  box *drops = calloc(1, sizeof(*drops));
  controller controllers[THREADS];
  pthread_t threads[THREADS], dropper;
  atomic_store(&wrongs, 0);
  assert_int_equal(pthread_create(&dropper, NULL, drop_all, drops), 0);
  for (int i = 0; i < THREADS; i++) {
    controllers[i] = (controller){session, weigh, echo, i + 1, scaled(4000, 100), drops, NULL};
    assert_int_equal(pthread_create(&threads[i], NULL, control, &controllers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
  atomic_store(&drops->done, true);
  assert_int_equal(pthread_join(dropper, NULL), 0);
  nothing_went_wrong();
  await_live(session, 2); /* flat: the two functions */
  assert_int_equal(stats_of(session).errors_told, 0);
  /* Numbers were used again and again: the highest is far below the number of registers made. */
  disco_dref *one = put(session, dsc_int(1));
  assert_true(disco_dref_reg_id(one) < 4096);
  disco_dref_unref(one);
  free(drops);
  disco_dref_unref(weigh);
  disco_dref_unref(echo);
  end_session(session);
}

/* ---- Two waits at once ---- */

typedef struct {
  disco_session *session;
  int32_t worker;
  _Atomic bool begun, returned;
  disco_status status;
} waiter;

static void *wait_for_it(void *argument) {
  waiter *self = argument;
  atomic_store(&self->begun, true);
  self->status = disco_session_sync(self->session, self->worker, WAIT_MS);
  atomic_store(&self->returned, true);
  return NULL;
}

static void start_waiter(waiter *self, pthread_t *thread) {
  assert_int_equal(pthread_create(thread, NULL, wait_for_it, self), 0);
  for (int i = 0; i < WAIT_MS && !atomic_load(&self->begun); i++) sleep_ms(1);
  sleep_ms(20); /* into its wait */
}

static void two_threads_wait_for_different_commands(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  gate first, second;
  TVMFFIAny args[4];
  pthread_t threads[2];
  disco_dref *func = find(session, "test.gate");
  waiter early = {.session = session, .worker = 0}, late = {.session = session, .worker = 0};
  gate_open(&first);
  gate_open(&second);
  gate_hold(&first, session, 0);
  start_waiter(&early, &threads[0]); /* waits for the first gate's command */
  gate_args(&second, 0, args);
  expect_ok(disco_call(session, func, args, 4, NULL));
  start_waiter(&late, &threads[1]); /* waits for the second one's, too */
  assert_false(atomic_load(&early.returned));
  gate_release(&first, 1);
  gate_await(&second, 1);
  assert_int_equal(pthread_join(threads[0], NULL), 0); /* the first is served, though more was posted meanwhile */
  assert_int_equal(early.status, DISCO_OK);
  assert_false(atomic_load(&late.returned));
  gate_release(&second, 1);
  assert_int_equal(pthread_join(threads[1], NULL), 0);
  assert_int_equal(late.status, DISCO_OK);
  gate_close(&first);
  gate_close(&second);
  disco_dref_unref(func);
  end_session(session);
}

/* One thread waits for a held worker, the others go on calling and reading. */
static void a_waiting_thread_blocks_nobody(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *weigh = find(session, "test.weigh");
  gate stop;
  pthread_t thread;
  waiter other = {.session = session, .worker = 1};
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  start_waiter(&other, &thread);
  for (int i = 0; i < scaled(500, 50); i++) {
    disco_dref *result = call(session, weigh, VALUES(dsc_int(i)));
    assert_int_equal(get_int(result, 0), i);
    disco_dref_unref(result);
  }
  assert_false(atomic_load(&other.returned));
  gate_release(&stop, 1);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_int_equal(other.status, DISCO_OK);
  gate_close(&stop);
  disco_dref_unref(weigh);
  end_session(session);
}

/* ---- Releases ---- */

static disco_dref *put_counted(disco_session *session, _Atomic int *freed) {
  TVMFFIAny text = make_counted(freed);
  disco_dref *dref = put(session, text);
  dsc_value_drop(&text);
  return dref;
}

static void *drop_many(void *argument) {
  disco_dref **drefs = argument;
  for (; *drefs != NULL; drefs++) disco_dref_unref(*drefs);
  return NULL;
}

/* Dropped on other threads while the controller idles: the workers let go by themselves. */
static void an_idle_controller_holds_nothing(void **state) {
  (void)state;
  enum { MANY = 1500 }; /* more than one record carries */
  disco_session *session = make_session(3, 1);
  uint64_t live = stats_of(session).live_registers;
  for (int round = 0; round < scaled(40, 4); round++) {
    const int count = round % 4 == 0 ? 1 : round % 4 == 1 ? 3 : round % 4 == 2 ? 300 : MANY;
    _Atomic int freed = 0;
    disco_dref **drefs = calloc((size_t)MANY + 2, sizeof(disco_dref *)); /* two lists, each ends with NULL */
    pthread_t thread;
    for (int i = 0; i < count; i++) drefs[i < count / 2 ? i : i + 1] = put_counted(session, &freed);
    if (round % 2 == 0) sync_all(session); /* dropped while the workers sleep, or while they still work */
    assert_int_equal(pthread_create(&thread, NULL, drop_many, drefs), 0);
    (void)drop_many(drefs + count / 2 + 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    await_live(session, live);
    assert_int_equal(await_count(&freed, count), count);
    free(drefs);
  }
  end_session(session);
}

static disco_dref *_Atomic to_drop;

/* (worker): drops the DRef that the test left there */
static int drop_there(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  disco_worker_info info = {.struct_size = sizeof(info)};
  *result = dsc_none();
  if (disco_worker_get_info(&info) == DISCO_OK && info.worker_id == args[0].v_int64)
    disco_dref_unref(atomic_exchange(&to_drop, NULL));
  return 0;
}

static void drefs_may_die_on_workers(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  disco_dref *func = find(session, "test.drop_there");
  for (int i = 0; i < scaled(400, 40); i++) {
    _Atomic int freed = 0;
    atomic_store(&to_drop, put_counted(session, &freed));
    expect_ok(disco_call(session, func, VALUES(dsc_int(shares_memory(1) ? 1 : 0)), NULL));
    assert_int_equal(await_count(&freed, 1), 1); /* nobody calls meanwhile */
    await_live(session, 1);
  }
  disco_dref_unref(func);
  end_session(session);
}

/* A DRef inside an object that only workers hold: its deleter runs on whichever of them is last. */
static void drefs_may_die_in_registers(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int i = 0; i < scaled(400, 40); i++) {
    _Atomic int freed = 0;
    disco_dref *inner = put_counted(session, &freed);
    TVMFFIAny array = call_here("ffi.Array", VALUES(any_dref(inner)));
    disco_dref *outer = put(session, array);
    dsc_value_drop(&array);
    disco_dref_unref(inner);
    disco_dref_unref(outer);
    assert_int_equal(await_count(&freed, 1), 1);
  }
  await_live(session, 0);
  end_session(session);
}

static void register_more(void) { register_function("test.drop_there", drop_there); }

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(four_controllers_on_one_session), cmocka_unit_test(two_threads_wait_for_different_commands),
      cmocka_unit_test(a_waiting_thread_blocks_nobody),  cmocka_unit_test(an_idle_controller_holds_nothing),
      cmocka_unit_test(drefs_may_die_on_workers),        THREADS_ONLY(drefs_may_die_in_registers)};
  return RUN_SUITE(tests, register_more);
}
