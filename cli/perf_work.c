/* The worker's side of disco perf: makes the tensors of one case, runs it, and tells how long it took. */
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "perf.h"

/* ---- Values and times ---- */

TVMFFIAny perf_int(int64_t number) {
  TVMFFIAny value;
  memset(&value, 0, sizeof(value));
  value.type_index = kTVMFFIInt;
  value.v_int64 = number;
  return value;
}

TVMFFIAny perf_bytes(TVMFFIByteArray *bytes) {
  TVMFFIAny value = perf_int(0);
  value.type_index = kTVMFFIByteArrayPtr;
  value.v_ptr = bytes;
  return value;
}

bool perf_read_bytes(const TVMFFIAny *value, void *ret_data, size_t size) {
  const TVMFFIByteArray *bytes = NULL;
  if (value->type_index == kTVMFFIByteArrayPtr) bytes = value->v_ptr;
  if (value->type_index == kTVMFFIBytes) bytes = (const TVMFFIByteArray *)(value->v_obj + 1);
  if (bytes == NULL || bytes->size != size) return false;
  memcpy(ret_data, bytes->data, size);
  return true;
}

void perf_drop(TVMFFIAny *value) {
  if (value->type_index >= kTVMFFIStaticObjectBegin && value->v_obj != NULL) (void)TVMFFIObjectDecRef(value->v_obj);
  *value = perf_int(0);
}

int64_t perf_now_ns(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

void perf_sort(int64_t *times, size_t count) { qsort(times, count, sizeof(*times), compare); }

int64_t perf_percentile(const int64_t *sorted, size_t count, int percent) {
  size_t index = count * (size_t)percent / 100;
  return sorted[index < count ? index : count - 1];
}

/* ---- One case ---- */

typedef struct {
  const perf_case *want;
  perf_values values;
  TVMFFIObjectHandle tensors[2]; /* owned */
  int64_t num_sent, num_received;
  DLTensor send, recv; /* views of them */
  int64_t *times;      /* one more than there are iterations */
} bench;

static int raise_last(void) {
  disco_error_info error = {.struct_size = sizeof(error)};
  if (disco_last_error(&error) != DISCO_OK)
    return disco_raise("RuntimeError", PERF_FUNCTION " failed without a reason");
  return disco_raise(error.kind, "%s", error.message);
}

/* A tensor of `count` elements by the global function that users call, so in the memory that the workers share. */
static int create_shared(int64_t count, DLDataType dtype, TVMFFIObjectHandle *ret_tensor) {
  static const TVMFFIByteArray names[] = {{"ffi.Shape", 9}, {"runtime.disco.empty", 19}};
  TVMFFIObjectHandle functions[2] = {NULL, NULL};
  TVMFFIAny size = perf_int(count), args[5], result = perf_int(0);
  for (int i = 0; i < 5; i++) args[i] = perf_int(0);
  args[1].type_index = kTVMFFIDataType;
  args[1].v_dtype = dtype;
  args[2].type_index = kTVMFFINone;
  args[3].type_index = args[4].type_index = kTVMFFIBool;
  int rc = 0;
  for (int i = 0; i < 2 && rc == 0; i++) {
    rc = TVMFFIFunctionGetGlobal(&names[i], &functions[i]);
    if (rc == 0 && functions[i] == NULL) rc = disco_raise("RuntimeError", "there is no function %s", names[i].data);
  }
  if (rc == 0) rc = TVMFFIFunctionCall(functions[0], &size, 1, &args[0]);
  if (rc == 0) rc = TVMFFIFunctionCall(functions[1], args, 5, &result);
  if (rc == 0) *ret_tensor = result.v_obj; /* without worker0_only it is a tensor everywhere */
  perf_drop(&args[0]);
  for (int i = 0; i < 2; i++)
    if (functions[i] != NULL) (void)TVMFFIObjectDecRef(functions[i]);
  return rc;
}

static int create(const perf_case *want, int64_t count, TVMFFIObjectHandle *ret_tensor) {
  DLDataType dtype = perf_types[want->type].dtype;
  if (!want->is_private) return create_shared(count, dtype, ret_tensor);
  DLDevice cpu = {kDLCPU, 0};
  return disco_tensor_create(1, &count, dtype, cpu, ret_tensor) == DISCO_OK ? 0 : raise_last();
}

/* `count` elements of a tensor, from element `from` on. `shape` stays where it is. */
static DLTensor view(TVMFFIObjectHandle tensor, int64_t from, int64_t *shape, int32_t element_bytes) {
  DLTensor part = *(const DLTensor *)((const char *)tensor + sizeof(TVMFFIObject));
  part.data = (char *)part.data + part.byte_offset + from * element_bytes;
  part.byte_offset = 0;
  part.ndim = 1;
  part.shape = shape;
  part.strides = NULL;
  return part;
}

/* Out of place: a tensor for each side. In place: one, as large as the larger side, and the smaller side is this
 * rank's part of it. A side that does not exist has an empty tensor. */
static int prepare(bench *self) {
  const perf_case *want = self->want;
  const perf_values *v = &self->values;
  int32_t bytes = perf_types[want->type].bytes;
  self->num_sent = perf_sent((perf_op)v->op, v->rank, v->ranks, v->count);
  self->num_received = perf_received((perf_op)v->op, v->rank, v->ranks, v->count);
  int64_t larger = self->num_sent > self->num_received ? self->num_sent : self->num_received;
  int rc = create(want, want->in_place ? larger : self->num_sent, &self->tensors[0]);
  if (rc == 0 && !want->in_place) rc = create(want, self->num_received, &self->tensors[1]);
  if (rc != 0) return rc;
  int64_t part = want->in_place ? v->rank * v->count : 0;
  self->send = view(self->tensors[0], self->num_sent < self->num_received && self->num_sent > 0 ? part : 0,
                    &self->num_sent, bytes);
  self->recv =
      view(self->tensors[want->in_place ? 0 : 1],
           self->num_received < self->num_sent && self->num_received > 0 ? part : 0, &self->num_received, bytes);
  self->times = malloc(((size_t)want->iterations + 1) * sizeof(*self->times));
  return self->times != NULL ? 0 : disco_raise("MemoryError", "no memory for %d times", want->iterations);
}

static void release(bench *self) {
  for (int i = 0; i < 2; i++)
    if (self->tensors[i] != NULL) (void)TVMFFIObjectDecRef(self->tensors[i]);
  free(self->times);
}

/* Large sends wait for their receiver: of a ring in which all send first nobody would receive. */
static disco_status shift(bench *self) {
  const perf_values *v = &self->values;
  int32_t next = v->first + (v->rank + 1) % v->ranks, last = v->first + (v->rank + v->ranks - 1) % v->ranks;
  bool sends_first = v->rank % 2 == 0;
  disco_status status =
      sends_first ? disco_send_to_worker(&self->send, next) : disco_recv_from_worker(&self->recv, last);
  if (status != DISCO_OK) return status;
  return sends_first ? disco_recv_from_worker(&self->recv, last) : disco_send_to_worker(&self->send, next);
}

static disco_status run_once(bench *self) {
  bool in_group = self->want->in_group != 0, is_root = self->values.rank == 0;
  const DLTensor *root_send = is_root ? &self->send : NULL;
  switch ((perf_op)self->want->op) {
  case PERF_ALLREDUCE: return disco_allreduce(&self->send, (disco_reduce_kind)self->want->redop, in_group, &self->recv);
  case PERF_ALLGATHER: return disco_allgather(&self->send, in_group, &self->recv);
  case PERF_BROADCAST: return disco_broadcast_from_worker0(root_send, in_group, &self->recv);
  case PERF_SCATTER: return disco_scatter_from_worker0(root_send, in_group, &self->recv);
  case PERF_GATHER: return disco_gather_to_worker0(&self->send, in_group, is_root ? &self->recv : NULL);
  default: return shift(self);
  }
}

/* All members come to the next line together, as far as that goes. */
static disco_status barrier(const bench *self) {
  int32_t one = 1;
  int64_t shape = 1;
  DLTensor word = {.data = &one, .device = {kDLCPU, 0}, .ndim = 1, .dtype = {kDLInt, 32, 1}, .shape = &shape};
  return disco_allreduce(&word, DISCO_SUM, self->want->in_group != 0, &word);
}

static disco_status time_it(bench *self, perf_result *ret) {
  int32_t n = self->want->iterations;
  disco_status status = DISCO_OK;
  for (int32_t i = 0; i < self->want->warmup && status == DISCO_OK; i++) status = run_once(self);
  if (status == DISCO_OK) status = barrier(self);
  self->times[0] = perf_now_ns();
  for (int32_t i = 0; i < n && status == DISCO_OK; i++) {
    status = run_once(self);
    self->times[i + 1] = perf_now_ns();
  }
  if (status != DISCO_OK) return status;
  ret->total_ns = self->times[n] - self->times[0];
  for (int32_t i = 0; i < n; i++) self->times[i] = self->times[i + 1] - self->times[i];
  perf_sort(self->times, (size_t)n);
  ret->p50_ns = perf_percentile(self->times, (size_t)n, 50);
  ret->p99_ns = perf_percentile(self->times, (size_t)n, 99);
  return DISCO_OK;
}

/* Before the clock starts every page is there, and the numbers are such that no CPU is slower with them: no subnormal
 * ones. The result first: in place the input is a part of it. */
static void fill(bench *self, bool to_check) {
  size_t bytes = (size_t)(self->num_received * perf_types[self->want->type].bytes);
  if (to_check)
    perf_fill_wrong(&self->values, self->recv.data);
  else if (bytes > 0)
    memset(self->recv.data, 0, bytes);
  perf_fill_send(&self->values, self->send.data);
}

static int run_case(bench *self, perf_result *ret) {
  if (prepare(self) != 0) return -1;
  fill(self, false);
  disco_status status = time_it(self, ret);
  ret->wrong = -1;
  if (self->want->check && status == DISCO_OK) {
    fill(self, true);
    status = run_once(self);
    if (status == DISCO_OK) ret->wrong = perf_count_wrong(&self->values, self->recv.data);
  }
  return status == DISCO_OK ? 0 : raise_last();
}

static bool is_known(const perf_case *want) {
  return want->op >= 0 && want->op < PERF_NUM_OPS && want->type >= 0 && want->type < PERF_NUM_TYPES &&
         want->redop >= 0 && want->redop < PERF_NUM_REDOPS && want->count >= 0 && want->iterations >= 1 &&
         want->iterations <= PERF_MAX_ITERATIONS && want->warmup >= 0;
}

/* disco.perf(case: Bytes) -> result: Bytes */
static int perf(void *unused, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)unused;
  perf_case want;
  perf_result numbers = {0};
  disco_worker_info me = {.struct_size = sizeof(me)};
  if (num_args != 1 || !perf_read_bytes(&args[0], &want, sizeof(want)) || !is_known(&want))
    return disco_raise("ValueError", PERF_FUNCTION " is the command disco perf's own: it takes one of its cases");
  if (disco_worker_get_info(&me) != DISCO_OK) return raise_last();
  bench self = {.want = &want, .values = {.op = want.op, .type = want.type, .redop = want.redop, .count = want.count}};
  self.values.ranks = want.in_group ? me.num_workers / me.num_groups : me.num_workers;
  self.values.rank = want.in_group ? me.rank_in_group : me.worker_id;
  self.values.first = me.worker_id - self.values.rank;
  int rc = run_case(&self, &numbers);
  release(&self);
  TVMFFIByteArray bytes = {(const char *)&numbers, sizeof(numbers)};
  return rc == 0 ? TVMFFIBytesFromByteArray(&bytes, result) : rc;
}

static int nothing(void *unused, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)unused, (void)args, (void)num_args;
  result->type_index = kTVMFFINone;
  return 0;
}

disco_status perf_register(void) {
  disco_status status = disco_register_function(PERF_FUNCTION, perf, NULL, NULL, false);
  return status == DISCO_OK ? disco_register_function(PERF_NOTHING, nothing, NULL, NULL, false) : status;
}
