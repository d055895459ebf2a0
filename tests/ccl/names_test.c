/* The global functions: runtime.disco.<operation>, which dispatch to the worker's data plane, and the data plane's own
 * runtime.disco.<name>.<operation>, called by a controller over DRefs as Python and compiled programs do. */
#include <stdio.h>

#include "ccl/support.h"
#include "ffi/tensor.h"

static const DLDataType f32 = {kDLFloat, 32, 1};

/* runtime.disco.empty on every worker (worker0_only: in_group says what that means) */
static disco_dref *empty(disco_session *session, int64_t count, DLDataType type, bool worker0_only, bool in_group) {
  TVMFFIAny shape = make_shape(&count, 1);
  disco_dref *tensor = call(session, "runtime.disco.empty",
                            VALUES(shape, any_dtype(type), dsc_none(), any_bool(worker0_only), any_bool(in_group)));
  dsc_value_drop(&shape);
  return tensor;
}

static void with_tensor(disco_session *session, const char *name, const job *what, disco_dref *tensor) {
  int64_t fields[JOB_FIELDS];
  TVMFFIAny args[JOB_FIELDS + 1];
  memcpy(fields, what, sizeof(fields));
  for (int i = 0; i < JOB_FIELDS; i++) args[i] = dsc_int(fields[i]);
  args[JOB_FIELDS] = any_dref(tensor);
  post(session, name, args, JOB_FIELDS + 1);
}

/* "runtime.disco.allreduce" or "runtime.disco.cpu.allreduce" */
static const char *name_of(int operation, bool own, char room[96]) {
  (void)snprintf(room, 96, "runtime.disco.%s%s%s", own ? ccl_name() : "", own ? "." : "", operation_names[operation]);
  return room;
}

/* in_group as Python and as compiled code give it. */
static TVMFFIAny flag(const job *what, bool as_int) {
  return as_int ? dsc_int(what->in_group) : any_bool(what->in_group != 0);
}

static void call_operation(disco_session *session, const job *what, bool own, disco_dref *send, disco_dref *recv) {
  char name[96];
  const bool as_int = what->seed & 1;
  (void)name_of((int)what->operation, own, name);
  if (what->operation != ALLREDUCE) {
    post(session, name, VALUES(any_dref(send), flag(what, as_int), any_dref(recv)));
    return;
  }
  TVMFFIAny kind = own ? dsc_int(what->kind) : make_shape(&what->kind, 1);
  post(session, name, VALUES(any_dref(send), kind, flag(what, as_int), any_dref(recv)));
  dsc_value_drop(&kind);
}

static void one_call(disco_session *session, const job *what, bool own) {
  const int32_t workers = disco_session_num_workers(session), groups = disco_session_num_groups(session);
  const int64_t ranks = what->in_group ? workers / groups : workers;
  const int64_t send_count = what->operation == SCATTER ? what->count * ranks : what->count;
  const int64_t recv_count =
      what->operation == ALLGATHER || what->operation == GATHER ? what->count * ranks : what->count;
  /* Only the root has what only the root needs: the others' register is None. */
  const bool root_sends = what->operation == BROADCAST || what->operation == SCATTER;
  disco_dref *send = empty(session, send_count, f32, root_sends, what->in_group != 0);
  disco_dref *recv = what->in_place && send_count == recv_count && !root_sends
                         ? NULL
                         : empty(session, recv_count, f32, what->operation == GATHER, what->in_group != 0);
  with_tensor(session, "test.fill", what, send);
  call_operation(session, what, own, send, recv != NULL ? recv : send);
  with_tensor(session, "test.check", what, recv != NULL ? recv : send);
  disco_dref_unref(send);
  disco_dref_unref(recv);
}

static void every_operation_by_name(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  static const int64_t lengths[] = {3, 1000, 40000};
  for (int i = 0; i < 120; i++) {
    job it = job_of(i % NUM_OPERATIONS, f32, lengths[i % 3]);
    it.in_group = i >> 1 & 1;
    it.kind = i / NUM_OPERATIONS % NUM_KINDS;
    it.in_place = i >> 2 & 1;
    it.seed = i;
    if (chosen((uint64_t)i) || i < 20) one_call(session, &it, i >> 3 & 1);
  }
  sync_all(session);
  end_session(session);
}

static void tensors_are_taken_from_worker_0_and_back(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  const int64_t shape[] = {2, 3};
  TVMFFIObjectHandle host = NULL, back = NULL;
  expect_ok(disco_tensor_create(2, shape, f32, (DLDevice){kDLCPU, 0}, &host));
  expect_ok(disco_tensor_create(2, shape, f32, (DLDevice){kDLCPU, 0}, &back));
  DLTensor *from = (DLTensor *)((TVMFFIObject *)host + 1), *to = (DLTensor *)((TVMFFIObject *)back + 1);
  for (int i = 0; i < 6; i++) ((float *)from->data)[i] = 0.5F + (float)i;
  disco_dref *tensor = empty(session, 6, f32, false, false), *sum = empty(session, 6, f32, false, false);
  expect_ok(disco_copy_to_worker0(session, host, tensor));
  post(session, "runtime.disco.broadcast_from_worker0", VALUES(any_dref(tensor), any_bool(false), any_dref(tensor)));
  const int64_t kind = SUM;
  TVMFFIAny kinds = make_shape(&kind, 1);
  post(session, "runtime.disco.allreduce", VALUES(any_dref(tensor), kinds, any_bool(true), any_dref(sum)));
  dsc_value_drop(&kinds);
  expect_ok(disco_copy_from_worker0(session, back, sum));
  sync_all(session);
  for (int i = 0; i < 6; i++) assert_true(((float *)to->data)[i] == 3 * (0.5F + (float)i));
  disco_dref_unref(tensor);
  disco_dref_unref(sum);
  dsc_object_unref(host);
  dsc_object_unref(back);
  end_session(session);
}

static void expect_holds(disco_session *session, disco_dref *tensor, int32_t worker, int32_t whose) {
  post(session, "test.holds", VALUES(any_dref(tensor), dsc_int(worker), dsc_int(whose), dsc_int(1)));
}

static const char *own_name(const char *operation, char room[96]) {
  (void)snprintf(room, 96, "runtime.disco.%s.%s", ccl_name(), operation);
  return room;
}

static void the_self_checks_of_the_contract(void **state) {
  (void)state;
  char name[96];
  disco_session *session = make_session(4, 2);
  disco_dref *tensor = empty(session, 100, f32, false, false);
  const job it = job_of(ALLREDUCE, f32, 100); /* everybody fills its own */
  with_tensor(session, "test.fill", &it, tensor);
  post(session, own_name("test_send_to_next_group_recv_from_prev_group", name), VALUES(any_dref(tensor)));
  for (int32_t w = 0; w < 4; w++) expect_holds(session, tensor, w, w % 2);
  with_tensor(session, "test.fill", &it, tensor);
  post(session, own_name("test_worker2_sends_to_worker0", name), VALUES(any_dref(tensor)));
  for (int32_t w = 0; w < 4; w++) expect_holds(session, tensor, w, w == 0 ? 2 : w);
  sync_all(session);
  disco_dref_unref(tensor);
  end_session(session);
}

/* Arguments are the same on all workers, so it takes registers that differ: worker 1 - id. */
static void point_to_point_by_name(void **state) {
  (void)state;
  for (int own = 0; own < 2; own++) {
    char name[96];
    disco_session *session = make_session(2, 1);
    disco_dref *mine = empty(session, 100, f32, false, false), *theirs = empty(session, 100, f32, false, false);
    disco_dref *rank = call(session, "runtime.disco.worker_rank", NO_VALUES);
    TVMFFIAny other = dsc_int(1);
    expect_ok(disco_debug_set(rank, 0, &other, WORK_MS));
    other = dsc_int(0);
    expect_ok(disco_debug_set(rank, 1, &other, WORK_MS));
    const job it = job_of(ALLREDUCE, f32, 100);
    with_tensor(session, "test.fill", &it, mine);
    post(session, own ? own_name("send_to_worker", name) : "runtime.disco.send_to_worker",
         VALUES(any_dref(mine), any_dref(rank)));
    post(session, own ? own_name("recv_from_worker", name) : "runtime.disco.recv_from_worker",
         VALUES(any_dref(theirs), any_dref(rank)));
    for (int32_t w = 0; w < 2; w++) expect_holds(session, theirs, w, 1 - w);
    post(session, own_name("sync_worker", name), NO_VALUES);
    sync_all(session);
    disco_dref_unref(rank);
    disco_dref_unref(mine);
    disco_dref_unref(theirs);
    end_session(session);
  }
}

/* The self-checks want 4 workers in 2 groups. */
static void the_self_checks_refuse_other_sessions(void **state) {
  (void)state;
  char name[96];
  disco_session *session = make_session(2, 1);
  disco_dref *tensor = empty(session, 4, f32, false, false);
  (void)snprintf(name, sizeof(name), "runtime.disco.%s.test_worker2_sends_to_worker0", ccl_name());
  post(session, name, VALUES(any_dref(tensor)));
  assert_int_not_equal(disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS), DISCO_OK);
  check_works(session);
  disco_dref_unref(tensor);
  end_session(session);
}

static void an_unknown_kind_is_named(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *tensor = empty(session, 4, f32, false, false);
  char name[96];
  const int64_t kind = 7;
  TVMFFIAny kinds = make_shape(&kind, 1);
  post(session, "runtime.disco.allreduce", VALUES(any_dref(tensor), kinds, any_bool(false), any_dref(tensor)));
  dsc_value_drop(&kinds);
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("Unknown ReduceKind: 7");
  check_works(session);
  post(session, name_of(ALLREDUCE, true, name), VALUES(any_dref(tensor), dsc_int(7), dsc_int(0), any_dref(tensor)));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("Unknown ReduceKind: 7");
  check_works(session);
  disco_dref_unref(tensor);
  end_session(session);
}

static void wrong_arguments_are_type_errors(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *tensor = empty(session, 4, f32, false, false);
  post(session, "runtime.disco.allgather", VALUES(any_dref(tensor), any_bool(false)));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("Expected 3 but got 2 arguments; they are (send, in_group, recv)");
  post(session, "runtime.disco.allgather", VALUES(dsc_int(1), any_bool(false), any_dref(tensor)));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("argument #0 is send");
  post(session, "runtime.disco.allgather", VALUES(any_dref(tensor), dsc_none(), any_dref(tensor)));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("argument #1 is in_group");
  post(session, "runtime.disco.recv_from_worker", VALUES(any_dref(tensor), dsc_none()));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("argument #1 is sender");
  post(session, "runtime.disco.allreduce",
       VALUES(any_dref(tensor), any_text("sum"), any_bool(false), any_dref(tensor)));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("argument #1 is kind");
  check_works(session);
  disco_dref_unref(tensor);
  end_session(session);
}

static void expect_empty_fails(disco_session *session, TVMFFIAny dtype, TVMFFIAny device, const char *kind) {
  const int64_t count = 4;
  TVMFFIAny shape = make_shape(&count, 1);
  post(session, "runtime.disco.empty", VALUES(shape, dtype, device, any_bool(false), any_bool(false)));
  dsc_value_drop(&shape);
  expect_kind(kind, disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
}

static void empty_says_what_is_wrong(void **state) {
  (void)state;
  disco_session *session = make_bare_session(2, 1);
  expect_empty_fails(session, any_text("flaot32"), dsc_none(), "TypeError");
  expect_says("argument #1 (dtype)");
  expect_says("`flaot32` is unknown");
  expect_says("float8_e4m3fn"); /* what is accepted */
  expect_empty_fails(session, dsc_int(32), dsc_none(), "TypeError");
  expect_says("argument #1 is dtype");
  expect_empty_fails(session, any_text("float32"), any_text("cqu:0"), "TypeError");
  expect_says("argument #2 (device)");
  expect_says("`cqu:0` is unknown");
  post(session, "runtime.disco.empty", VALUES(dsc_int(1)));
  expect_kind("TypeError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("they are (shape, dtype, device, worker0_only, in_group)");
  end_session(session);
}

static void an_argument_is_made_of_a_dref(void **state) {
  (void)state;
  disco_session *session = make_bare_session(1, 1);
  disco_dref *dref = empty(session, 4, f32, false, false);
  const TVMFFIAny made = disco_dref_arg(dref), wanted = any_dref(dref);
  assert_memory_equal(&made, &wanted, sizeof(made));
  disco_dref_unref(dref);
  end_session(session);
}

static void without_a_data_plane_the_names_say_so(void **state) {
  (void)state;
  disco_session *session = make_bare_session(2, 1);
  disco_dref *tensor = empty(session, 4, f32, false, false);
  post(session, "runtime.disco.allgather", VALUES(any_dref(tensor), any_bool(false), any_dref(tensor)));
  expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
  expect_says("init_ccl");
  disco_dref_unref(tensor);
  end_session(session);
}

static void expect_compiled_ccl(disco_session *session, const char *name) {
  disco_dref *answer = call(session, "runtime.disco.compiled_ccl", NO_VALUES);
  TVMFFIAny value = dsc_none();
  TVMFFIByteArray text;
  expect_ok(disco_debug_get(answer, 1, WORK_MS, &value));
  assert_true(dsc_value_string(&value, &text));
  assert_int_equal(text.size, strlen(name));
  assert_memory_equal(text.data, name, text.size);
  dsc_value_drop(&value);
  disco_dref_unref(answer);
}

static void compiled_ccl_is_cpu(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  expect_compiled_ccl(session, "cpu");
  end_session(session);
}

/* The session's own alias counts, not that of the environment. */
static void compiled_ccl_is_the_sessions_alias(void **state) {
  (void)state;
  static const char *const asked[] = {"nccl", "cpu"};
  for (int i = 0; i < 2; i++) {
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(2, 1);
    disco_session *session = NULL;
    const int64_t ids[] = {0, 1};
    options.ccl_alias = "nccl=cpu";
    expect_ok(disco_session_create_threaded(&options, &session));
    expect_compiled_ccl(session, "cpu"); /* not started: what the environment says */
    expect_ok(disco_session_init_ccl(session, asked[i], ids, 2));
    expect_compiled_ccl(session, "nccl");
    end_session(session);
  }
}

/* Thread workers hold one and the same tensor: in place each would add to what another has made already. */
static void a_tensor_that_all_share_is_refused(void **state) {
  (void)state;
  if (of_processes() || is_ref()) return; /* each process has its own; the reference does not look */
  static const int64_t counts[] = {15, 1000, 50000, 3000000};
  disco_session *session = make_session(3, 1);
  const int64_t kind = SUM;
  TVMFFIAny kinds = make_shape(&kind, 1);
  for (int i = 0; i < 4; i++) {
    TVMFFIObjectHandle host = NULL;
    expect_ok(disco_tensor_create(1, &counts[i], f32, (DLDevice){kDLCPU, 0}, &host));
    TVMFFIAny value = dsc_object_value(host);
    DLTensor *tensor = dsc_tensor_of(&value);
    for (int64_t at = 0; at < counts[i]; at++) ((float *)tensor->data)[at] = (float)at;
    disco_dref *shared = NULL, *out = empty(session, counts[i], f32, false, false);
    expect_ok(disco_session_put(session, &value, &shared));
    post(session, "runtime.disco.allreduce", VALUES(any_dref(shared), kinds, any_bool(false), any_dref(shared)));
    expect_kind("ValueError", disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS));
    expect_says("of its own");
    for (int64_t at = 0; at < counts[i]; at++) assert_true(((float *)tensor->data)[at] == (float)at);
    /* Out of place it is fine. */
    post(session, "runtime.disco.allreduce", VALUES(any_dref(shared), kinds, any_bool(false), any_dref(out)));
    sync_all(session); /* the others may still read what worker 0 is about to write over */
    expect_ok(disco_copy_from_worker0(session, host, out));
    sync_all(session);
    for (int64_t at = 0; at < counts[i]; at++) assert_true(((float *)tensor->data)[at] == 3 * (float)at);
    disco_dref_unref(shared);
    disco_dref_unref(out);
    dsc_object_unref(host);
  }
  dsc_value_drop(&kinds);
  end_session(session);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_operation_by_name),
      cmocka_unit_test(tensors_are_taken_from_worker_0_and_back),
      cmocka_unit_test(the_self_checks_of_the_contract),
      cmocka_unit_test(point_to_point_by_name),
      cmocka_unit_test(the_self_checks_refuse_other_sessions),
      cmocka_unit_test(an_unknown_kind_is_named),
      cmocka_unit_test(wrong_arguments_are_type_errors),
      cmocka_unit_test(without_a_data_plane_the_names_say_so),
      cmocka_unit_test(compiled_ccl_is_cpu),
      cmocka_unit_test(empty_says_what_is_wrong),
      cmocka_unit_test(an_argument_is_made_of_a_dref),
      cmocka_unit_test(compiled_ccl_is_the_sessions_alias),
      cmocka_unit_test(a_tensor_that_all_share_is_refused),
  };
  return ccl_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]));
}
