#include "session/support.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* ---- Running ---- */

int mode_lists[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                      16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

int session_mode(void) {
  static const char *const names[] = {"thread", "pool", "foreign", "pipe", "channel"};
  const char *wanted = getenv("DISCO_TEST_SESSION");
  for (int i = 0; i < 5; i++)
    if (wanted == NULL || strcmp(wanted, names[i]) == 0) return 1 << i;
  (void)fprintf(stderr, "DISCO_TEST_SESSION=%s is none of thread, pool, foreign, pipe, channel\n", wanted);
  exit(2);
}

/* Every pool was told once, and every worker of it left by itself. Returns how much of that is not true. */
static int check_pools(void) {
  for (int seen = -1; seen < atomic_load(&foreign_pools.closed);) { /* as long as more of them are told */
    seen = atomic_load(&foreign_pools.closed);
    if (seen < atomic_load(&foreign_pools.made)) (void)await_count(&foreign_pools.closed, seen + 1);
  }
  const int pools = atomic_load(&foreign_pools.made), told = atomic_load(&foreign_pools.closed);
  const int lost = atomic_load(&foreign_pools.started) - atomic_load(&foreign_pools.gone),
            killed = atomic_load(&foreign_pools.killed);
  const int complaints = atomic_load(&foreign_pools.complaint);
  if (pools == told && lost == 0 && killed == 0 && complaints == 0) return 0;
  print_error(
      "%d foreign pools, of which %d were told of their end; %d workers were not waited for, %d had to be killed, "
      "%d left with a status\n",
      pools, told, lost, killed, complaints);
  return 1;
}

int run_suite(const char *name, const struct CMUnitTest *tests, size_t count, void (*register_more)(void)) {
  alarm(110);
  register_worker_functions();
  if (register_more != NULL) register_more();
  be_worker_if_asked();
  register_pools();
  struct CMUnitTest *chosen = calloc(count, sizeof(*chosen));
  size_t num_chosen = 0;
  if (chosen == NULL) return 1;
  for (size_t i = 0; i < count; i++) {
    const int *modes = tests[i].initial_state;
    if (modes == NULL || (*modes & session_mode()) != 0) chosen[num_chosen++] = tests[i];
  }
  int failed = _cmocka_run_group_tests(name, chosen, num_chosen, NULL, NULL);
  free(chosen);
  return failed + check_pools() + check_channel_workers();
}

void register_function(const char *name, TVMFFISafeCallType function) {
  if (disco_register_function(name, function, NULL, NULL, false) == DISCO_OK) return;
  (void)fprintf(stderr, "cannot register %s: %s\n", name, disco_last_error_text());
  exit(2);
}

/* ---- Sessions ---- */

disco_status start_session(const disco_session_options *options, disco_session **ret_session) {
  if (session_mode() == IN_THREAD) return disco_session_create_threaded(options, ret_session);
  /* What cannot be completed is refused anyway. */
  if (options == NULL || options->struct_size < offsetof(disco_session_options, ring_bytes))
    return disco_session_create_process(options, ret_session);
  const size_t given = options->struct_size, least = sizeof(*options), size = given < least ? least : given;
  disco_session_options *full = calloc(1, size);
  assert_non_null(full);
  memcpy(full, options, given);
  full->struct_size = size;
  if (full->num_workers > 16 && full->arena_bytes == 0) full->arena_bytes = 64 << 20; /* sanitizers have less room */
  if (session_mode() == IN_FOREIGN) {
    if (full->pool_creator == NULL) full->pool_creator = "test.create_pool";
    if (full->entrypoint == NULL) full->entrypoint = "session.worker";
  } else if (session_mode() != IN_CHANNEL) {
    if (full->program == NULL) full->program = "/proc/self/exe";
    if (session_mode() == IN_PIPE) full->transport = DISCO_TRANSPORT_PIPE;
  }
  disco_status status = session_mode() == IN_CHANNEL ? start_over_channels(full, ret_session)
                                                     : disco_session_create_process(full, ret_session);
  free(full);
  return status;
}

bool workers_share_memory(void) { return session_mode() == IN_THREAD; }
bool shares_memory(int32_t worker) { return worker == 0 || workers_share_memory(); }
int32_t sharing(int32_t workers) { return workers_share_memory() || workers < 1 ? workers : 1; }

disco_session *make_session_with(const disco_session_options *options) {
  disco_session *session = NULL;
  expect_ok(start_session(options, &session));
  assert_non_null(session);
  return session;
}

disco_session *make_session(int32_t workers, int32_t groups) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, groups);
  return make_session_with(&options);
}

void end_session(disco_session *session) {
  expect_ok(disco_session_shutdown(session));
  disco_session_unref(session);
  if (session_mode() == IN_CHANNEL) await_channel_workers(session);
}

/* ---- Values ---- */

TVMFFIAny any_bool(bool value) {
  TVMFFIAny any = dsc_int(value);
  any.type_index = kTVMFFIBool;
  return any;
}

TVMFFIAny any_float(double value) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIFloat;
  any.v_float64 = value;
  return any;
}

TVMFFIAny any_raw(const char *text) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIRawStr;
  any.v_c_str = text;
  return any;
}

TVMFFIAny any_bytes(TVMFFIByteArray *bytes) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIByteArrayPtr;
  any.v_ptr = bytes;
  return any;
}

TVMFFIAny any_pointer(const void *pointer) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIOpaquePtr;
  any.v_ptr = (void *)(uintptr_t)pointer;
  return any;
}

TVMFFIAny any_device(DLDeviceType type, int32_t id) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIDevice;
  any.v_device = (DLDevice){type, id};
  return any;
}

TVMFFIAny any_dtype(uint8_t code, uint8_t bits, uint16_t lanes) {
  TVMFFIAny any = dsc_none();
  any.type_index = kTVMFFIDataType;
  any.v_dtype = (DLDataType){code, bits, lanes};
  return any;
}

TVMFFIAny any_object(void *object) { return dsc_object_value(object); }
TVMFFIAny any_dref(disco_dref *dref) { return dsc_object_value(dref); }

TVMFFIAny make_text(const char *text) {
  TVMFFIByteArray bytes = {text, strlen(text)};
  TVMFFIAny any = dsc_none();
  assert_int_equal(TVMFFIStringFromByteArray(&bytes, &any), 0);
  return any;
}

TVMFFIAny make_bytes(const char *text) {
  TVMFFIByteArray bytes = {text, strlen(text)};
  TVMFFIAny any = dsc_none();
  assert_int_equal(TVMFFIBytesFromByteArray(&bytes, &any), 0);
  return any;
}

typedef struct {
  TVMFFIObject header;
  TVMFFIByteArray text;
  _Atomic int *freed;
} counted_text;

static void end_counted(void *object, int flags) {
  counted_text *self = object;
  _Atomic int *freed = self->freed;
  if (flags & kTVMFFIObjectDeleterFlagBitMaskWeak) free(self);
  if (flags & kTVMFFIObjectDeleterFlagBitMaskStrong) atomic_fetch_add(freed, 1);
}

TVMFFIAny make_counted(_Atomic int *freed) {
  counted_text *self = calloc(1, sizeof(*self));
  assert_non_null(self);
  self->header.combined_ref_count = 1 | (uint64_t)1 << 32;
  self->header.type_index = kTVMFFIStr;
  self->header.deleter = end_counted;
  self->text = (TVMFFIByteArray){COUNTED_TEXT, strlen(COUNTED_TEXT)};
  self->freed = freed;
  return any_object(self);
}

TVMFFIAny call_here(const char *name, const TVMFFIAny *args, int32_t num_args) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle function = NULL;
  TVMFFIAny result = dsc_none();
  assert_int_equal(TVMFFIFunctionGetGlobal(&key, &function), 0);
  assert_non_null(function);
  assert_int_equal(TVMFFIFunctionCall(function, (TVMFFIAny *)(uintptr_t)args, num_args, &result), 0);
  dsc_object_unref(function);
  return result;
}

TVMFFIAny element(const TVMFFIAny *array, int64_t index) {
  assert_true(index >= 0 && index < length(array));
  if (array->type_index == kTVMFFIShape) return dsc_int(((const TVMFFIShapeCell *)(array->v_obj + 1))->data[index]);
  return ((const TVMFFIAny *)((const TVMFFISeqCell *)(array->v_obj + 1))->data)[index];
}

int64_t length(const TVMFFIAny *array) {
  if (array->type_index == kTVMFFIShape) return (int64_t)((const TVMFFIShapeCell *)(array->v_obj + 1))->size;
  assert_int_equal(array->type_index, kTVMFFIArray);
  return ((const TVMFFISeqCell *)(array->v_obj + 1))->size;
}

bool is_text(const TVMFFIAny *value, const char *text) {
  TVMFFIByteArray have;
  return dsc_value_string(value, &have) && have.size == strlen(text) && memcmp(have.data, text, have.size) == 0;
}

TVMFFIObject *make_tensor(int32_t ndim, const int64_t *shape, float first) {
  TVMFFIObjectHandle tensor = NULL;
  int64_t count = 1;
  expect_ok(disco_tensor_create(ndim, shape, (DLDataType){kDLFloat, 32, 1}, (DLDevice){kDLCPU, 0}, &tensor));
  for (int32_t i = 0; i < ndim; i++) count *= shape[i];
  for (int64_t i = 0; i < count; i++) floats_of(tensor)[i] = first + (float)i;
  return tensor;
}

DLTensor *tensor_of(const void *object) { return (DLTensor *)((TVMFFIObject *)(uintptr_t)object + 1); }
float *floats_of(const void *object) {
  return (float *)((char *)tensor_of(object)->data + tensor_of(object)->byte_offset);
}

/* ---- Calls ---- */

disco_dref *find(disco_session *session, const char *name) {
  disco_dref *func = NULL;
  expect_ok(disco_session_get_global_func(session, name, &func));
  return func;
}

disco_dref *call(disco_session *session, disco_dref *func, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *result = NULL;
  expect_ok(disco_call(session, func, args, num_args, &result));
  assert_non_null(result);
  return result;
}

disco_dref *put(disco_session *session, TVMFFIAny value) {
  disco_dref *dref = NULL;
  expect_ok(disco_session_put(session, &value, &dref));
  return dref;
}

TVMFFIAny get(disco_dref *dref, int32_t worker) {
  TVMFFIAny value = dsc_none();
  expect_ok(disco_debug_get(dref, worker, WAIT_MS, &value));
  return value;
}

int64_t get_int(disco_dref *dref, int32_t worker) {
  TVMFFIAny value = get(dref, worker);
  assert_int_equal(value.type_index, kTVMFFIInt);
  return value.v_int64;
}

void sync_all(disco_session *session) { expect_ok(disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS)); }

disco_session_stats stats_of(disco_session *session) {
  disco_session_stats stats = {.struct_size = sizeof(stats)};
  expect_ok(disco_session_get_stats(session, &stats));
  return stats;
}

void await_live(disco_session *session, uint64_t wanted) {
  uint64_t live = stats_of(session).live_registers;
  for (int i = 0; i < WAIT_MS && live != wanted; i++) {
    sleep_ms(1);
    live = stats_of(session).live_registers;
  }
  assert_int_equal(live, wanted);
}

/* ---- Gates ---- */

void gate_open(gate *self) {
  self->func = NULL;
  assert_int_equal(pipe(self->arrived), 0);
  assert_int_equal(pipe(self->go), 0);
}

void gate_close(gate *self) {
  disco_dref_unref(self->func);
  for (int i = 0; i < 2; i++) {
    close(self->arrived[i]);
    close(self->go[i]);
  }
}

void gate_args(const gate *self, int32_t worker, TVMFFIAny ret_args[4]) {
  ret_args[0] = dsc_int(worker);
  ret_args[1] = dsc_int(getpid());
  ret_args[2] = dsc_int(self->arrived[1]);
  ret_args[3] = dsc_int(self->go[0]);
}

void gate_await(gate *self, int count) {
  for (int i = 0; i < count; i++) {
    struct pollfd look = {.fd = self->arrived[0], .events = POLLIN};
    char byte;
    assert_int_equal(poll(&look, 1, WAIT_MS), 1);
    assert_int_equal(read(self->arrived[0], &byte, 1), 1);
  }
}

_Atomic int gates_opened; /* the pipe orders both sides; this shows it to the thread sanitizer */

void gate_release(gate *self, int count) {
  atomic_fetch_add(&gates_opened, 1);
  for (int i = 0; i < count; i++) assert_int_equal(write(self->go[1], "x", 1), 1);
}

void gate_hold(gate *self, disco_session *session, int32_t worker) {
  TVMFFIAny args[4];
  assert_null(self->func);
  self->func = find(session, "test.gate");
  gate_args(self, worker, args);
  expect_ok(disco_call(session, self->func, args, 4, NULL));
  gate_await(self, worker == DISCO_ALL_WORKERS ? disco_session_num_workers(session) : 1);
  /* A worker behind a pipe stands there before its controller has read that it came so far. */
  const uint64_t before = disco_session_sequence(session) - 1;
  bool done = false;
  for (int i = 0; i < WAIT_MS && !done; i++) {
    expect_ok(disco_session_is_done(session, worker, before, &done));
    if (!done) sleep_ms(1);
  }
  assert_true(done);
}

int await_count(_Atomic int *counter, int wanted) {
  for (int waited = 0; atomic_load(counter) < wanted && waited < WAIT_MS; waited++) sleep_ms(1);
  return atomic_load(counter);
}
