/* Everything that a client can do which knows only the names of the registry: the contract, with its argument orders,
 * results and errors. */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ffi.h"

enum { WORKERS = 4, GROUPS = 2 };

/* ---- What runs on workers ---- */

static int echo(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = num_args > 0 ? again(args[0]) : none();
  return 0;
}

static int count_args(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  *result = integer(num_args);
  return 0;
}

/* raise_on(worker, kind, message): on that worker only; returns the others' rank. */
static int raise_on(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  TVMFFIByteArray name = {"runtime.disco.worker_rank", 25};
  TVMFFIObjectHandle rank = NULL;
  if (TVMFFIFunctionGetGlobal(&name, &rank) != 0 || rank == NULL) return raise_error("RuntimeError", "no worker_rank");
  int rc = TVMFFIFunctionCall(rank, NULL, 0, result);
  TVMFFIObjectDecRef(rank);
  if (rc != 0 || result->v_int64 != args[0].v_int64) return rc;
  *result = none();
  return raise_error(args[1].v_bytes, args[2].v_bytes);
}

/* ---- The session of these tests ---- */

static TVMFFIAny session, echo_func, rank_func;

static void assert_ok(void) {
  if (failed_kind()[0] != 0) print_message("%s: %s\n", failed_kind(), failed_message());
  assert_string_equal(failed_kind(), "");
}

static void assert_failed(TVMFFIAny result, const char *kind, const char *part) {
  assert_int_equal(result.type_index, kTVMFFINone);
  if (strstr(failed_message(), part) == NULL) print_message("%s: %s\n", failed_kind(), failed_message());
  assert_string_equal(failed_kind(), kind);
  assert_non_null(strstr(failed_message(), part));
}

static TVMFFIAny global_func(TVMFFIAny of, const char *name) {
  TVMFFIAny key = text(name), func = CALL("runtime.disco.SessionGetGlobalFunc", of, key);
  assert_ok();
  drop(&key);
  assert_int_equal(func.type_index, DREF);
  return func;
}

static int open_session(void **state) {
  (void)state;
  register_global("test.echo", echo);
  register_global("test.count_args", count_args);
  register_global("test.raise_on", raise_on);
  session = CALL("runtime.disco.SessionThreaded", integer(WORKERS), integer(GROUPS));
  assert_ok();
  echo_func = global_func(session, "test.echo");
  rank_func = global_func(session, "runtime.disco.worker_rank");
  return 0;
}

static int close_session(void **state) {
  (void)state;
  (void)CALL("runtime.disco.SessionShutdown", session);
  assert_ok();
  drop(&echo_func);
  drop(&rank_func);
  drop(&session);
  return 0;
}

static TVMFFIAny get(TVMFFIAny dref, int worker) {
  TVMFFIAny value = CALL("runtime.disco.DRefDebugGetFromRemote", dref, integer(worker));
  assert_ok();
  return value;
}

static void sync_worker(int worker) {
  (void)CALL("runtime.disco.SessionSyncWorker", session, integer(worker));
  assert_ok();
}

/* func(argument): a DRef */
static TVMFFIAny call_one(TVMFFIAny func, TVMFFIAny argument) {
  TVMFFIAny dref = CALL("runtime.disco.SessionCallPacked", session, integer(0), integer(0), func, argument);
  assert_ok();
  assert_int_equal(dref.type_index, DREF);
  return dref;
}

static bool same(TVMFFIAny a, TVMFFIAny b) { return memcmp(&a, &b, sizeof(a)) == 0; }

/* ---- Names ---- */

static void the_names_are_there(void **state) {
  (void)state;
  const char *const there[] = {"SessionThreaded",
                               "SessionProcess",
                               "WorkerProcess",
                               "SessionGetNumWorkers",
                               "SessionGetGlobalFunc",
                               "SessionCallPacked",
                               "SessionSyncWorker",
                               "SessionInitCCL",
                               "SessionCopyFromWorker0",
                               "SessionCopyToWorker0",
                               "SessionShutdown",
                               "DRefDebugCopyFrom",
                               "DRefDebugGetFromRemote",
                               "worker_id",
                               "worker_rank",
                               "world_size",
                               "device",
                               "empty",
                               "bind_worker_to_cpu_core",
                               "allreduce",
                               "allgather",
                               "broadcast_from_worker0",
                               "scatter_from_worker0",
                               "gather_to_worker0",
                               "recv_from_worker0",
                               "send_to_next_group",
                               "recv_from_prev_group",
                               "send_to_worker",
                               "recv_from_worker",
                               "compiled_ccl",
                               "cpu.allreduce",
                               "cpu.allgather",
                               "cpu.broadcast_from_worker0",
                               "cpu.scatter_from_worker0",
                               "cpu.gather_to_worker0",
                               "cpu.recv_from_worker0",
                               "cpu.send_to_next_group",
                               "cpu.recv_from_prev_group",
                               "cpu.send_to_worker",
                               "cpu.recv_from_worker",
                               "cpu.init_ccl",
                               "cpu.init_ccl_per_worker",
                               "cpu.sync_worker",
                               "ref.init_ccl",
                               "ShardLoader",
                               "ShardLoaderLoad",
                               "ShardLoaderLoadPresharded",
                               "ShardLoaderLoadAll",
                               "ShardLoaderLoadAllPresharded",
                               "ShardLoaderLoadParamOnWorker0",
                               "load_vm_module",
                               "SocketSession",
                               "RemoteSocketSession",
                               "socket_session_init_workers"};
  /* A name that is not real would be found by compiled code, and fail too late. */
  const char *const absent[] = {"create_process_pool", "cuda_ipc.alloc_storage", "nccl.init_ccl",
                                "create_socket_session_local_workers"};
  char name[128];
  for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++) {
    snprintf(name, sizeof(name), "runtime.disco.%s", there[i]);
    if (!registered(name)) print_message("missing: %s\n", name);
    assert_true(registered(name));
    snprintf(name, sizeof(name), "libdisco.%s", there[i]); /* and by our own name, whoever has taken the other */
    if (!registered(name)) print_message("missing: %s\n", name);
    assert_true(registered(name));
  }
  for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
    snprintf(name, sizeof(name), "runtime.disco.%s", absent[i]);
    if (registered(name)) print_message("present: %s\n", name);
    assert_false(registered(name));
  }
}

static void the_types_are_tvms(void **state) {
  (void)state;
  const struct {
    const char *key;
    int32_t depth;
  } types[] = {{"runtime.disco.DRef", 1},
               {"runtime.disco.Session", 1},
               {"runtime.disco.ThreadedSession", 2},
               {"runtime.disco.ProcessSession", 2},
               {"runtime.disco.SocketSession", 2}};
  int32_t parent = -1;
  for (size_t i = 0; i < 5; i++) {
    TVMFFIByteArray key = {types[i].key, strlen(types[i].key)};
    int32_t index = -1;
    assert_int_equal(TVMFFITypeKeyToIndex(&key, &index), 0);
    const TVMFFITypeInfo *info = TVMFFIGetTypeInfo(index);
    assert_int_equal(info->type_depth, types[i].depth);
    if (i == 0) assert_int_equal(index, DREF);
    if (i == 1) parent = index;
    if (i > 1) assert_int_equal(info->type_ancestors[1]->type_index, parent);
  }
  assert_string_equal(type_key(session), "runtime.disco.ThreadedSession");
}

/* ---- Sessions ---- */

static void sessions_count_their_workers(void **state) {
  (void)state;
  TVMFFIAny count = CALL("runtime.disco.SessionGetNumWorkers", session);
  assert_true(same(count, integer(WORKERS)));
  TVMFFIAny one = CALL("runtime.disco.SessionThreaded", boolean(true), boolean(true)); /* Int accepts Bool */
  assert_ok();
  count = CALL("runtime.disco.SessionGetNumWorkers", one);
  assert_true(same(count, integer(1)));
  drop(&one);
}

static void bad_sessions_are_refused(void **state) {
  (void)state;
#define THREADED "runtime.disco.SessionThreaded"
  assert_failed(CALL(THREADED, integer(5), integer(2)), "ValueError", "5");
  assert_non_null(strstr(failed_message(), "(2)"));
  assert_failed(CALL(THREADED, integer(0), integer(1)), "ValueError", "not 0");
  assert_failed(CALL(THREADED, integer(1025), integer(1)), "ValueError", "not 1025");
  assert_failed(CALL(THREADED, integer(4), integer(0)), "ValueError", "(0)");
  assert_failed(CALL(THREADED, integer(-1), integer(1)), "ValueError", "-1");
  assert_failed(CALL(THREADED, integer((int64_t)1 << 40), integer(1)), "ValueError", "1099511627776");
  assert_failed(CALL(THREADED, integer(1)), "TypeError",
                "Mismatched number of arguments when calling: `runtime.disco.SessionThreaded`. Expected 2 but got 1");
  assert_failed(CALL(THREADED, borrowed("4"), integer(1)), "TypeError", "Mismatched type on argument #0 when calling");
  assert_failed(CALL(THREADED, integer(4), none()), "TypeError", "Expected `int` but got `None`");
  assert_failed(CALL(THREADED, real(4), integer(1)), "TypeError",
                "Expected `int` but got `float`"); /* Int refuses Float */
}

static void a_session_must_be_one(void **state) {
  (void)state;
  TVMFFIAny words = text("a string that is an object");
  const char *const cannot = "to `runtime.disco.Session`";
  assert_failed(CALL("runtime.disco.SessionGetNumWorkers", none()), "TypeError", "Cannot convert from type `None`");
  assert_failed(CALL("runtime.disco.SessionGetNumWorkers", words), "TypeError", cannot);
  assert_failed(CALL("runtime.disco.SessionShutdown", echo_func), "TypeError", "runtime.disco.DRef");
  assert_failed(CALL("runtime.disco.SessionSyncWorker", integer(1), integer(0)), "TypeError", cannot);
  assert_failed(CALL("runtime.disco.SessionGetGlobalFunc", none(), words), "TypeError", cannot);
  assert_failed(CALL("runtime.disco.SessionInitCCL", none(), words, none()), "TypeError", cannot);
  drop(&words);
}

/* Shutdown is idempotent; calls after it are an error of their own kind, and everything else may be dropped. */
static void a_session_ends_once(void **state) {
  (void)state;
  TVMFFIAny mine = CALL("runtime.disco.SessionThreaded", integer(2), integer(1));
  TVMFFIAny func = global_func(mine, "test.echo");
  for (int i = 0; i < 3; i++) {
    (void)CALL("runtime.disco.SessionShutdown", mine);
    assert_ok();
  }
  TVMFFIAny key = text("test.echo");
  assert_failed(CALL("runtime.disco.SessionSyncWorker", mine, integer(0)), "SessionClosedError", "shut down");
  assert_failed(CALL("runtime.disco.SessionGetGlobalFunc", mine, key), "SessionClosedError", "shut down");
  assert_failed(CALL("runtime.disco.SessionCallPacked", mine, none(), none(), func), "SessionClosedError", "shut down");
  assert_failed(CALL("runtime.disco.DRefDebugGetFromRemote", func, integer(0)), "SessionClosedError", "shut down");
  assert_true(same(CALL("runtime.disco.SessionGetNumWorkers", mine), integer(2)));
  drop(&key);
  drop(&mine);
  drop(&func);
}

/* A DRef keeps its session; dropping the last of both never blocks. */
static void a_dref_keeps_its_session(void **state) {
  (void)state;
  TVMFFIAny mine = CALL("runtime.disco.SessionThreaded", integer(2), integer(1));
  TVMFFIAny func = global_func(mine, "test.echo");
  drop(&mine);
  TVMFFIAny of = none();
  memcpy(&of.v_obj, (const char *)func.v_obj + 32, sizeof(of.v_obj)); /* the field `session`, where TVM reads it */
  of.type_index = of.v_obj->type_index;
  assert_string_equal(type_key(of), "runtime.disco.ThreadedSession");
  (void)CALL("runtime.disco.SessionSyncWorker", of, integer(1));
  assert_ok();
  int64_t reg_id = 0;
  memcpy(&reg_id, (const char *)func.v_obj + 24, sizeof(reg_id));
  assert_true(reg_id >= 1);
  drop(&func);
}

/* ---- Calls ---- */

static void the_placeholders_are_ignored(void **state) {
  (void)state;
  const TVMFFIAny fillers[] = {none(), integer(0), integer(-7), borrowed("x"), real(1.5), boolean(true)};
  for (size_t i = 0; i < sizeof(fillers) / sizeof(fillers[0]); i++) {
    TVMFFIAny dref = CALL("runtime.disco.SessionCallPacked", session, fillers[i], fillers[(i + 1) % 6], rank_func);
    assert_ok();
    for (int worker = 0; worker < WORKERS; worker++) assert_true(same(get(dref, worker), integer(worker)));
    drop(&dref);
  }
}

static void the_function_must_be_a_dref(void **state) {
  (void)state;
#define PACKED "runtime.disco.SessionCallPacked"
  TVMFFIAny words = text("a string that is an object");
  assert_failed(CALL(PACKED, session, integer(0), integer(0), none()), "TypeError",
                "Cannot convert from type `None` to `runtime.disco.DRef`");
  assert_failed(CALL(PACKED, session, integer(0), integer(0), words), "TypeError", "to `runtime.disco.DRef`");
  assert_failed(CALL(PACKED, session, integer(0), integer(0), session), "TypeError", "`runtime.disco.ThreadedSession`");
  assert_failed(CALL(PACKED, session, integer(0), integer(0)), "TypeError", "a function");
  assert_failed(CALL(PACKED, session), "TypeError", "a function");
  drop(&words);
  sync_worker(0); /* nothing was posted, nothing failed */
}

static void arguments_are_counted(void **state) {
  (void)state;
  enum { LIMIT = 4096 };
  static TVMFFIAny args[LIMIT + 5];
  TVMFFIAny func = global_func(session, "test.count_args");
  const int counts[] = {0, 1, 2, 3, 17, 180, 1000, LIMIT};
  args[0] = session;
  args[3] = func;
  for (int i = 4; i < LIMIT + 5; i++) args[i] = i % 3 == 0 ? integer(i) : echo_func;
  for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
    TVMFFIAny dref = call_array(PACKED, args, 4 + counts[i]);
    assert_ok();
    for (int worker = 0; worker < WORKERS; worker++) assert_true(same(get(dref, worker), integer(counts[i])));
    drop(&dref);
  }
  assert_failed(call_array(PACKED, args, 4 + LIMIT + 1), "ValueError", "4097");
  drop(&func);
}

/* Every kind of value comes back from every worker as it was sent; objects are the very objects. */
static void values_travel(void **state) {
  (void)state;
  static uint8_t memory[64];
  const int64_t sizes[] = {4, 2}, turned[] = {1, 4};
  TVMFFIAny pieces[2] = {integer(3), borrowed("key")};
  TVMFFIAny values[] = {none(),
                        integer(INT64_MIN),
                        boolean(true),
                        real(-0.5),
                        dtype(kDLBfloat, 16),
                        device(kDLCUDA, 3),
                        text("small"),
                        text("a string that is an object"),
                        shape(2, sizes),
                        shape(0, NULL),
                        tensor(memory, 3, 8, 2, sizes, turned),
                        function(echo, NULL, NULL),
                        call_array("ffi.Array", pieces, 2),
                        CALL("ffi.Map", pieces[1], pieces[0]),
                        {.type_index = kTVMFFIOpaquePtr, .v_ptr = memory},
                        {.type_index = kTVMFFISmallBytes, .small_str_len = 2, .v_bytes = "a"}};
  const size_t count = sizeof(values) / sizeof(values[0]);
  for (size_t i = 0; i < count; i++) {
    TVMFFIAny dref = call_one(echo_func, values[i]);
    for (int worker = 0; worker < WORKERS; worker++) {
      TVMFFIAny back = get(dref, worker);
      assert_true(same(back, values[i]));
      drop(&back);
    }
    drop(&dref);
  }
  TVMFFIAny last = call_one(echo_func, none()); /* carries the releases */
  for (int worker = 0; worker < WORKERS; worker++) sync_worker(worker);
  for (size_t i = 0; i < count; i++) {
    if (values[i].type_index >= kTVMFFIStaticObjectBegin) assert_int_equal(references(values[i]), 1);
    drop(&values[i]);
  }
  drop(&last);
}

static void borrowed_forms_are_copied(void **state) {
  (void)state;
  char words[] = "a string that will change";
  TVMFFIByteArray bytes = {words, strlen(words)};
  TVMFFIAny raw = borrowed(words), array = {.type_index = kTVMFFIByteArrayPtr, .v_ptr = &bytes};
  TVMFFIAny first = call_one(echo_func, raw), second = call_one(echo_func, array);
  memset(words, 'x', sizeof(words) - 1);
  TVMFFIAny back = get(first, WORKERS - 1);
  assert_true(is_text(back, "a string that will change"));
  drop(&back);
  back = get(second, 0);
  assert_int_equal(back.type_index, kTVMFFIBytes);
  assert_memory_equal(((const TVMFFIByteArray *)(back.v_obj + 1))->data, "a string", 8);
  drop(&back);
  TVMFFIAny object = text("a string that is an object"), moved = {.type_index = kTVMFFIObjectRValueRef};
  TVMFFIObject *slot = object.v_obj;
  moved.v_ptr = &slot;
  TVMFFIAny third = call_one(echo_func, moved);
  for (int worker = 0; worker < WORKERS; worker++) {
    back = get(third, worker);
    assert_true(is_text(back, "a string that is an object"));
    drop(&back);
  }
  if (slot != NULL) drop(&object); /* whoever took it would have cleared the slot */
  DLTensor borrowed_tensor = {0};
  TVMFFIAny pointer = {.type_index = kTVMFFIDLTensorPtr, .v_ptr = &borrowed_tensor};
  assert_failed(CALL(PACKED, session, none(), none(), echo_func, pointer), "TypeError", "DLTensor*");
  drop(&first);
  drop(&second);
  drop(&third);
}

static void drefs_become_each_workers_value(void **state) {
  (void)state;
  TVMFFIAny ranks = CALL(PACKED, session, none(), none(), rank_func);
  TVMFFIAny echoed = call_one(echo_func, ranks);
  for (int worker = 0; worker < WORKERS; worker++) assert_true(same(get(echoed, worker), integer(worker)));
  TVMFFIAny list = CALL("ffi.Array", ranks), inside = call_one(echo_func, list), back = get(inside, 1);
  assert_true(same(back, list)); /* not inside containers */
  drop(&back);
  drop(&inside);
  drop(&list);
  drop(&echoed);
  drop(&ranks);
}

static void a_strange_dref_is_refused(void **state) {
  (void)state;
  TVMFFIAny other = CALL("runtime.disco.SessionThreaded", integer(1), integer(1));
  TVMFFIAny theirs = global_func(other, "test.echo");
  static uint8_t memory[4];
  TVMFFIAny host = tensor(memory, 0, 8, 1, (int64_t[]){4}, NULL);
  assert_failed(CALL(PACKED, session, none(), none(), theirs), "ValueError", "another session");
  assert_failed(CALL(PACKED, session, none(), none(), echo_func, integer(1), theirs), "ValueError", "another session");
  assert_failed(CALL("runtime.disco.SessionCopyToWorker0", session, host, theirs), "ValueError", "another session");
  drop(&host);
  drop(&theirs);
  drop(&other);
  sync_worker(0);
}

static void an_unknown_function_is_told_with_its_neighbours(void **state) {
  (void)state;
  TVMFFIAny key = text("test.ecko"), func = CALL("runtime.disco.SessionGetGlobalFunc", session, key);
  assert_ok(); /* an earlier command might still have registered it */
  assert_failed(CALL("runtime.disco.SessionSyncWorker", session, integer(0)), "ValueError", "test.ecko");
  assert_non_null(strstr(failed_message(), "test.echo"));
  assert_non_null(strstr(failed_message(), "worker"));
  sync_worker(0);
  drop(&key);
  drop(&func);
  assert_failed(CALL("runtime.disco.SessionGetGlobalFunc", session, integer(3)), "TypeError", "Expected `str`");
}

static void a_raised_error_is_told_once(void **state) {
  (void)state;
  TVMFFIAny func = global_func(session, "test.raise_on");
  for (int worker = 0; worker < WORKERS; worker++) {
    TVMFFIAny dref = CALL(PACKED, session, none(), none(), func, integer(worker), text("MyKind"), text("my text"));
    assert_ok();
    TVMFFIAny told = none();
    for (int i = 0; i < WORKERS && failed_kind()[0] == 0; i++) /* it may be told before the culprit's turn */
      told = CALL("runtime.disco.SessionSyncWorker", session, integer((worker + i) % WORKERS));
    assert_failed(told, "MyKind", "my text");
    assert_non_null(strstr(failed_message(), "test.raise_on"));
    char who[32];
    snprintf(who, sizeof(who), "worker %d of 4", worker);
    assert_non_null(strstr(failed_message(), who));
    for (int i = 0; i < WORKERS; i++) sync_worker(i); /* told once */
    assert_failed(CALL("runtime.disco.DRefDebugGetFromRemote", dref, integer(worker)), "ValueError", "has no value");
    TVMFFIAny fine = CALL(PACKED, session, none(), none(), rank_func);
    for (int i = 0; i < WORKERS; i++) assert_true(same(get(fine, i), integer(i)));
    drop(&fine);
    drop(&dref);
  }
  drop(&func);
}

static void worker_ids_are_checked(void **state) {
  (void)state;
  const int64_t bad[] = {-1, WORKERS, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < 4; i++) {
    assert_failed(CALL("runtime.disco.SessionSyncWorker", session, integer(bad[i])), "ValueError", "");
    assert_failed(CALL("runtime.disco.DRefDebugGetFromRemote", echo_func, integer(bad[i])), "ValueError", "");
    assert_failed(CALL("runtime.disco.DRefDebugCopyFrom", echo_func, integer(bad[i]), none()), "ValueError", "");
  }
  assert_failed(CALL("runtime.disco.SessionSyncWorker", session, real(0)), "TypeError", "float");
  (void)CALL("runtime.disco.SessionSyncWorker", session, boolean(true)); /* Int accepts Bool */
  assert_ok();
}

/* ---- Debug values ---- */

static void setting_changes_one_worker(void **state) {
  (void)state;
  TVMFFIAny dref = CALL(PACKED, session, none(), none(), rank_func), words = text("a string that is an object");
  TVMFFIAny result = CALL("runtime.disco.DRefDebugCopyFrom", dref, integer(2), words);
  assert_ok();
  assert_int_equal(result.type_index, kTVMFFINone);
  for (int worker = 0; worker < WORKERS; worker++) {
    TVMFFIAny back = get(dref, worker);
    assert_true(same(back, worker == 2 ? words : integer(worker)));
    drop(&back);
  }
  (void)CALL("runtime.disco.DRefDebugCopyFrom", dref, integer(2), none());
  assert_ok();
  assert_true(same(get(dref, 2), none()));
  assert_failed(CALL("runtime.disco.DRefDebugCopyFrom", none(), integer(0), none()), "TypeError",
                "Cannot convert from type `None` to `runtime.disco.DRef`");
  assert_failed(CALL("runtime.disco.DRefDebugGetFromRemote", integer(1), integer(0)), "TypeError",
                "Cannot convert from type `int` to `runtime.disco.DRef`");
  drop(&dref);
  drop(&words);
}

/* Tensor upon tensor copies into the one that is there; else the register is replaced. */
static void setting_a_tensor_copies_into_it(void **state) {
  (void)state;
  static uint8_t mine[8], theirs[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  TVMFFIAny kept = tensor(mine, 0, 8, 1, (int64_t[]){8}, NULL), dref = call_one(echo_func, kept);
  TVMFFIAny other = tensor(theirs, 0, 16, 1, (int64_t[]){4}, NULL),
            large = tensor(theirs, 0, 8, 1, (int64_t[]){7}, NULL);
  (void)CALL("runtime.disco.DRefDebugCopyFrom", dref, integer(1), other); /* dtypes may differ, bytes may not */
  assert_ok();
  assert_memory_equal(mine, theirs, 8);
  TVMFFIAny back = get(dref, 1);
  assert_true(same(back, kept));
  drop(&back);
  assert_failed(CALL("runtime.disco.DRefDebugCopyFrom", dref, integer(1), large), "ValueError",
                "byte sizes must match");
  sync_worker(1); /* that error was its caller's alone */
  (void)CALL("runtime.disco.DRefDebugCopyFrom", dref, integer(1), integer(5));
  assert_true(same(get(dref, 1), integer(5)));
  drop(&dref);
  drop(&kept);
  drop(&other);
  drop(&large);
}

/* ---- Copies ---- */

static void copies_go_both_ways(void **state) {
  (void)state;
  static uint8_t there[64], out[64], back[64];
  const int64_t sizes[] = {3, 4}, strides[] = {1, 3}, flat[] = {12}, words[] = {6};
  for (int i = 0; i < 64; i++) out[i] = (uint8_t)(i + 1);
  TVMFFIAny kept = tensor(there, 5, 8, 1, flat, NULL), dref = call_one(echo_func, kept);
  TVMFFIAny host = tensor(out, 1, 8, 2, sizes, strides); /* a transposed array: strided, badly aligned */
  assert_true(same(CALL("runtime.disco.SessionCopyToWorker0", session, host, dref), none()));
  assert_ok();
  TVMFFIAny target = tensor(back, 7, 16, 1, words, NULL); /* another dtype and shape, as many bytes */
  assert_true(same(CALL("runtime.disco.SessionCopyFromWorker0", session, target, dref), none()));
  assert_ok();
  sync_worker(0);
  for (int row = 0; row < 3; row++)
    for (int column = 0; column < 4; column++) {
      assert_int_equal(there[5 + row * 4 + column], out[1 + row + column * 3]);
      assert_int_equal(back[7 + row * 4 + column], out[1 + row + column * 3]);
    }
  assert_int_equal(there[4] + there[17] + back[6] + back[19], 0);
  drop(&host);
  drop(&target);
  drop(&dref);
  drop(&kept);
}

static void a_bad_copy_says_both_sides(void **state) {
  (void)state;
  static uint8_t there[16], host_memory[16] = {9, 9};
  TVMFFIAny kept = tensor(there, 0, 8, 1, (int64_t[]){8}, NULL), dref = call_one(echo_func, kept);
  TVMFFIAny host = tensor(host_memory, 0, 16, 2, (int64_t[]){2, 3}, NULL);
  (void)CALL("runtime.disco.SessionCopyToWorker0", session, host, dref);
  assert_ok(); /* noticed where the tensor is: on worker 0 */
  assert_failed(CALL("runtime.disco.SessionSyncWorker", session, integer(0)), "ValueError", "uint16[2, 3] (12 bytes)");
  assert_non_null(strstr(failed_message(), "uint8[8] (8 bytes)"));
  assert_int_equal(there[0], 0); /* before a byte moved */
  TVMFFIAny ranks = CALL(PACKED, session, none(), none(), rank_func);
  (void)CALL("runtime.disco.SessionCopyFromWorker0", session, host, ranks); /* no tensor in that register */
  assert_failed(CALL("runtime.disco.SessionSyncWorker", session, integer(0)), "TypeError", "must be a Tensor");
  assert_failed(CALL("runtime.disco.SessionCopyToWorker0", session, none(), dref), "TypeError", "argument #1");
  assert_failed(CALL("runtime.disco.SessionCopyToWorker0", session, dref, host), "TypeError", "argument #1");
  assert_failed(CALL("runtime.disco.SessionCopyFromWorker0", session, host, none()), "TypeError",
                "Cannot convert from type `None` to `runtime.disco.DRef`");
  sync_worker(0);
  assert_int_equal(references(host), 1); /* consumed on every path */
  drop(&ranks);
  drop(&host);
  drop(&dref);
  drop(&kept);
}

/* ---- Worker functions ---- */

static void workers_know_who_they_are(void **state) {
  (void)state;
  const char *const names[] = {"worker_id", "worker_rank", "world_size", "device"};
  char name[64];
  for (int i = 0; i < 4; i++) {
    snprintf(name, sizeof(name), "runtime.disco.%s", names[i]);
    TVMFFIAny func = global_func(session, name), dref = CALL(PACKED, session, none(), none(), func);
    for (int worker = 0; worker < WORKERS; worker++) {
      TVMFFIAny back = get(dref, worker);
      if (i == 0) {
        assert_int_equal(back.type_index, kTVMFFIShape);
        const TVMFFIShapeCell *cell = (const TVMFFIShapeCell *)(back.v_obj + 1);
        assert_int_equal(cell->size, 1);
        assert_int_equal(cell->data[0], worker);
        drop(&back);
      } else {
        assert_true(same(back, i == 1 ? integer(worker) : i == 2 ? integer(WORKERS) : device(kDLCPU, 0)));
      }
    }
    drop(&dref);
    drop(&func);
    assert_failed(call_array(name, NULL, 0), "ValueError", "the current thread is not a DiscoWorker thread");
    assert_failed(CALL(name, integer(1)), "TypeError", "Mismatched number of arguments when calling");
  }
}

static void check_empty(TVMFFIAny sizes, TVMFFIAny type, TVMFFIAny where, TVMFFIAny worker0_only, TVMFFIAny in_group) {
  TVMFFIAny func = global_func(session, "runtime.disco.empty");
  TVMFFIAny dref = CALL(PACKED, session, none(), none(), func, sizes, type, where, worker0_only, in_group);
  for (int worker = 0; worker < WORKERS; worker++) {
    TVMFFIAny back = get(dref, worker);
    bool root = in_group.v_int64 != 0 ? worker % (WORKERS / GROUPS) == 0 : worker == 0;
    if (worker0_only.v_int64 != 0 && !root) {
      assert_int_equal(back.type_index, kTVMFFINone);
      continue;
    }
    assert_int_equal(back.type_index, kTVMFFITensor);
    const DLTensor *made = (const DLTensor *)(back.v_obj + 1);
    assert_int_equal(made->ndim, 2);
    assert_int_equal(made->shape[0], 3);
    assert_int_equal(made->shape[1], 5);
    assert_int_equal(made->dtype.code, kDLFloat);
    assert_int_equal(made->dtype.bits, 16);
    assert_int_equal(made->device.device_type, kDLCPU);
    assert_int_equal((uintptr_t)made->data % 64, 0);
    drop(&back);
  }
  drop(&dref);
  drop(&func);
}

static void empty_makes_tensors_where_asked(void **state) {
  (void)state;
  const int64_t sizes[] = {3, 5};
  TVMFFIAny pieces[2] = {integer(3), integer(5)};
  TVMFFIAny shaped = shape(2, sizes), list = call_array("ffi.Array", pieces, 2), name = text("float16");
  for (int which = 0; which < 4; which++) {
    TVMFFIAny only = boolean(which & 1), in_group = boolean(which & 2);
    check_empty(shaped, name, none(), only, in_group);
    check_empty(list, dtype(kDLFloat, 16), device(kDLCPU, 0), integer(which & 1),
                integer(which / 2)); /* as compiled code */
    check_empty(shaped, borrowed("float16"), borrowed("cpu:0"), only, in_group);
  }
  TVMFFIAny func = global_func(session, "runtime.disco.empty");
  const struct {
    TVMFFIAny sizes, dtype, device;
    const char *kind, *part;
  } bad[] = {{integer(3), name, none(), "TypeError", "argument #0"},
             {shaped, integer(1), none(), "TypeError", "argument #1"},
             {shaped, borrowed("no type"), none(), "TypeError", "argument #1"},
             {shaped, name, integer(1), "TypeError", "argument #2"},
             {shaped, name, device(kDLCUDA, 0), "ValueError", "CPU only"},
             {shaped, name, none(), "TypeError", "argument #3"}};
  for (int i = 0; i < 6; i++) {
    TVMFFIAny dref = CALL(PACKED, session, none(), none(), func, bad[i].sizes, bad[i].dtype, bad[i].device,
                          i == 5 ? none() : boolean(false), boolean(true));
    assert_ok();
    assert_failed(CALL("runtime.disco.SessionSyncWorker", session, integer(0)), bad[i].kind, bad[i].part);
    drop(&dref);
  }
  drop(&func);
  drop(&shaped);
  drop(&list);
  drop(&name);
}

static int read_affinity(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  cpu_set_t set;
  CPU_ZERO(&set);
  int cpu = sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) == 1 ? 0 : -1;
  while (cpu >= 0 && !CPU_ISSET((size_t)cpu, &set)) cpu++;
  *result = integer(cpu);
  return 0;
}

static void workers_are_bound_to_their_cpus(void **state) {
  (void)state;
  cpu_set_t set;
  int64_t cpus[WORKERS], count = 0;
  CPU_ZERO(&set);
  assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
  for (int cpu = 0; count < WORKERS; cpu = (cpu + 1) % CPU_SETSIZE)
    if (CPU_ISSET((size_t)cpu, &set)) cpus[count++] = cpu;
  TVMFFIAny mine = CALL("runtime.disco.SessionThreaded", integer(WORKERS), integer(1)), keep = session;
  TVMFFIAny bind = global_func(mine, "runtime.disco.bind_worker_to_cpu_core"), list = shape(WORKERS, cpus);
  register_global("test.read_affinity", read_affinity);
  TVMFFIAny read = global_func(mine, "test.read_affinity");
  session = mine; /* for call_one and get */
  TVMFFIAny done = call_one(bind, list), seen = CALL(PACKED, mine, none(), none(), read);
  for (int worker = 0; worker < WORKERS; worker++) {
    assert_true(same(get(done, worker), none()));
    assert_true(same(get(seen, worker), integer(cpus[worker])));
  }
  TVMFFIAny few = shape(1, cpus), failed = call_one(bind, few);
  assert_failed(CALL("runtime.disco.SessionSyncWorker", mine, integer(3)), "ValueError", "1 CPUs are listed");
  session = keep;
  drop(&few);
  drop(&failed);
  drop(&done);
  drop(&seen);
  drop(&list);
  drop(&read);
  drop(&bind);
  drop(&mine);
}

/* ---- The data plane ---- */

static TVMFFIAny init_session, init_ids;

static int init_ccl(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = none();
  if (num_args != 2) return raise_error("TypeError", "init_ccl takes a session and device ids");
  init_session = args[0];
  init_ids = again(args[1]);
  return 0;
}

static void init_ccl_calls_its_plane(void **state) {
  (void)state;
  const int64_t ids[] = {0, 1, 2, 3};
  TVMFFIAny list = shape(4, ids), unknown = text("x"), known = text("testplane");
  assert_failed(CALL("runtime.disco.SessionInitCCL", session, unknown, list), "ValueError",
                "Cannot initialize CCL `x`, because cannot find function: runtime.disco.x.init_ccl");
  register_global("runtime.disco.testplane.init_ccl", init_ccl);
  assert_failed(CALL("runtime.disco.SessionInitCCL", session, unknown, list), "ValueError", "testplane");
  assert_true(same(CALL("runtime.disco.SessionInitCCL", session, known, list), none()));
  assert_ok();
  assert_ptr_equal(init_session.v_obj, session.v_obj);
  assert_true(same(init_ids, list));
  for (int worker = 0; worker < WORKERS; worker++) sync_worker(worker); /* no sync_worker of its own: fine */
  assert_failed(CALL("runtime.disco.SessionInitCCL", session, known, integer(1)), "TypeError", "Expected `ffi.Shape`");
  drop(&init_ids);
  drop(&list);
  drop(&known);
  drop(&unknown);
}

/* ---- Releases ---- */

static void count_end(void *self) { __atomic_fetch_add((int *)self, 1, __ATOMIC_SEQ_CST); }

/* The death of a DRef frees its value on every worker, also when nobody calls afterwards. */
static void a_dropped_dref_frees_its_value(void **state) {
  (void)state;
  int ended = 0;
  TVMFFIAny watched = function(echo, &ended, count_end), dref = call_one(echo_func, watched);
  for (int worker = 0; worker < WORKERS; worker++) sync_worker(worker);
  drop(&watched);
  assert_int_equal(__atomic_load_n(&ended, __ATOMIC_SEQ_CST), 0);
  drop(&dref);
  for (int i = 0; i < 2000 && __atomic_load_n(&ended, __ATOMIC_SEQ_CST) == 0; i++)
    nanosleep(&(struct timespec){0, 5000000}, NULL);
  assert_int_equal(__atomic_load_n(&ended, __ATOMIC_SEQ_CST), 1);
}

int main(void) {
  if (dlopen(DISCO_LIBRARY_PATH, RTLD_NOW | RTLD_LOCAL) == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_names_are_there),
      cmocka_unit_test(the_types_are_tvms),
      cmocka_unit_test(sessions_count_their_workers),
      cmocka_unit_test(bad_sessions_are_refused),
      cmocka_unit_test(a_session_must_be_one),
      cmocka_unit_test(a_session_ends_once),
      cmocka_unit_test(a_dref_keeps_its_session),
      cmocka_unit_test(the_placeholders_are_ignored),
      cmocka_unit_test(the_function_must_be_a_dref),
      cmocka_unit_test(arguments_are_counted),
      cmocka_unit_test(values_travel),
      cmocka_unit_test(borrowed_forms_are_copied),
      cmocka_unit_test(drefs_become_each_workers_value),
      cmocka_unit_test(a_strange_dref_is_refused),
      cmocka_unit_test(an_unknown_function_is_told_with_its_neighbours),
      cmocka_unit_test(a_raised_error_is_told_once),
      cmocka_unit_test(worker_ids_are_checked),
      cmocka_unit_test(setting_changes_one_worker),
      cmocka_unit_test(setting_a_tensor_copies_into_it),
      cmocka_unit_test(copies_go_both_ways),
      cmocka_unit_test(a_bad_copy_says_both_sides),
      cmocka_unit_test(workers_know_who_they_are),
      cmocka_unit_test(empty_makes_tensors_where_asked),
      cmocka_unit_test(workers_are_bound_to_their_cpus),
      cmocka_unit_test(init_ccl_calls_its_plane),
      cmocka_unit_test(a_dropped_dref_frees_its_value),
  };
  return cmocka_run_group_tests_name("registry.client", tests, open_session, close_session);
}
