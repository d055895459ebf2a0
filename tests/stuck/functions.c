/* What workers run: one collective, or a chain of transfers, on tensors of their own, which are freed as soon as the
 * call returned; what came out is compared with what everybody can work out. */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/workers.h"
#include "ffi/value.h"
#include "stuck/pauses.h"

/* ---- Memory ---- */

typedef struct {
  memory kind;
  size_t size;
  void *block;
  TVMFFIObjectHandle owner;
  int64_t shape[1];
  DLTensor tensor;
} piece;

/* Arena memory of a call that failed: nobody may store there any more. Looked at in the next call. */
enum { GRAVES = 8, GRAVE_BYTE = 0xab };
typedef struct {
  int count;
  piece pieces[GRAVES];
} graveyard;
static pthread_key_t graves_key;

static void drop_graves(void *context) {
  graveyard *graves = context;
  for (int i = 0; i < graves->count; i++) dsc_object_unref(graves->pieces[i].owner);
  free(graves);
}

static graveyard *own_graves(void) {
  graveyard *graves = pthread_getspecific(graves_key);
  if (graves != NULL) return graves;
  graves = calloc(1, sizeof(*graves));
  if (graves != NULL && pthread_setspecific(graves_key, graves) == 0) return graves;
  free(graves);
  return NULL;
}

static int piece_init(piece *self, int64_t kind, int64_t count) {
  *self = (piece){.kind = (memory)kind, .size = (size_t)count * sizeof(float), .shape = {count}};
  if (kind == ARENA) {
    if (take_bytes((int64_t)self->size, &self->owner, &self->block) != 0) return -1;
  } else if (kind == PAGES) {
    self->block = mmap(NULL, self->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (self->block == MAP_FAILED) self->block = NULL;
  } else {
    self->block = malloc(self->size);
  }
  if (self->block == NULL) return disco_raise("MemoryError", "%zu bytes for a tensor of a test", self->size);
  memset(self->block, 0x5c, self->size);
  self->tensor = (DLTensor){
      .data = self->block, .device = {kDLCPU, 0}, .ndim = 1, .dtype = {kDLFloat, 32, 1}, .shape = self->shape};
  return 0;
}

/* `failed`: whoever touches it after this moment has not understood that we left. */
static void piece_fini(piece *self, bool failed) {
  if (self->block == NULL) return;
  switch (self->kind) {
  case HEAP: free(self->block); break;
  case PAGES:
    if (failed) /* the addresses stay taken, the memory goes */
      (void)mmap(self->block, self->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    else
      (void)munmap(self->block, self->size);
    break;
  default: {
    graveyard *graves = failed ? own_graves() : NULL;
    if (graves == NULL || graves->count == GRAVES) {
      dsc_object_unref(self->owner);
      break;
    }
    memset(self->block, GRAVE_BYTE, self->size);
    graves->pieces[graves->count++] = *self;
  }
  }
  self->block = NULL;
}

/* Whether somebody stored into what we had left with. */
static bool empty_graves(void) {
  graveyard *graves = pthread_getspecific(graves_key);
  bool touched = false;
  if (graves == NULL) return false;
  for (int i = 0; i < graves->count; i++) {
    const unsigned char *bytes = graves->pieces[i].block;
    for (size_t at = 0; at < graves->pieces[i].size; at++) touched = touched || bytes[at] != GRAVE_BYTE;
    dsc_object_unref(graves->pieces[i].owner);
  }
  graves->count = 0;
  return touched;
}

/* ---- One trial ---- */

typedef struct {
  task task;
  disco_worker_info me;
  int32_t first, rank, size; /* of the communicator */
  piece send, recv;
} trial;

static float value_of(int64_t seed, int32_t worker, int64_t at) {
  return (float)(worker + 1) + (float)((at * 7 + seed) % 13) * 0.5f;
}

static int raise_last(void) {
  disco_error_info error = {.struct_size = sizeof(error), .kind = "RuntimeError", .message = "?"};
  (void)disco_last_error(&error);
  return disco_raise(error.kind, "%s", error.message);
}

static int64_t send_count(const trial *self) {
  const task *what = &self->task;
  if (what->operation == SCATTER) return self->rank == 0 ? what->count * self->size : 0;
  return what->operation == BROADCAST && self->rank != 0 ? 0 : what->count;
}

static int64_t recv_count(const trial *self) {
  const task *what = &self->task;
  if (what->operation == GATHER) return self->rank == 0 ? what->count * self->size : 0;
  return what->operation == ALLGATHER ? what->count * self->size : what->count;
}

static int trial_init(trial *self) {
  const int32_t group = self->me.num_workers / self->me.num_groups;
  self->size = self->task.in_group ? group : self->me.num_workers;
  self->first = self->task.in_group ? self->me.group * group : 0;
  self->rank = self->me.worker_id - self->first;
  if (send_count(self) > 0 && piece_init(&self->send, self->task.memory, send_count(self)) != 0) return -1;
  if (recv_count(self) > 0 && piece_init(&self->recv, self->task.memory, recv_count(self)) != 0) return -1;
  float *data = self->send.block;
  for (int64_t i = 0; i < send_count(self); i++) data[i] = value_of(self->task.seed, self->me.worker_id, i);
  if (self->task.in_place && self->task.operation == ALLREDUCE) memcpy(self->recv.block, data, self->send.size);
  return 0;
}

static void trial_fini(trial *self, bool failed) {
  piece_fini(&self->send, failed);
  piece_fini(&self->recv, failed);
}

/* Everybody hands what it has to the next one. */
static disco_status transfer(trial *self) {
  disco_status status = DISCO_OK;
  if (self->rank > 0) status = disco_recv_from_worker(&self->recv.tensor, self->me.worker_id - 1);
  if (status == DISCO_OK && self->rank + 1 < self->size)
    status = disco_send_to_worker(&self->send.tensor, self->me.worker_id + 1);
  return status;
}

static disco_status run(trial *self) {
  const bool group = self->task.in_group != 0;
  const DLTensor *send = self->send.block != NULL ? &self->send.tensor : NULL;
  DLTensor *recv = self->recv.block != NULL ? &self->recv.tensor : NULL;
  switch (self->task.operation) {
  case ALLREDUCE: return disco_allreduce(self->task.in_place ? recv : send, DISCO_SUM, group, recv);
  case ALLGATHER: return disco_allgather(send, group, recv);
  case BROADCAST: return disco_broadcast_from_worker0(send, group, recv);
  case SCATTER: return disco_scatter_from_worker0(send, group, recv);
  case GATHER: return disco_gather_to_worker0(send, group, recv);
  default: return transfer(self);
  }
}

static float wanted(const trial *self, int64_t at) {
  const task *what = &self->task;
  float sum = 0;
  switch (what->operation) {
  case ALLREDUCE:
    for (int32_t i = 0; i < self->size; i++) sum += value_of(what->seed, self->first + i, at);
    return sum;
  case ALLGATHER:
  case GATHER: return value_of(what->seed, self->first + (int32_t)(at / what->count), at % what->count);
  case BROADCAST: return value_of(what->seed, self->first, at);
  case SCATTER: return value_of(what->seed, self->first, self->rank * what->count + at);
  default: return value_of(what->seed, self->me.worker_id - 1, at);
  }
}

static int compare(const trial *self) {
  const float *got = self->recv.block;
  if (self->task.operation == TRANSFER && self->rank == 0) return 0;
  for (int64_t i = 0; i < recv_count(self); i++)
    if (got[i] != wanted(self, i))
      return disco_raise("AssertionError", "worker %d: element %lld is %g, not %g", self->me.worker_id, (long long)i,
                         (double)got[i], (double)wanted(self, i));
  return 0;
}

static int64_t clock_ns(clockid_t which) {
  struct timespec now;
  (void)clock_gettime(which, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Up to now, of the calling thread. */
static cost cost_now(void) {
  struct rusage usage;
  (void)getrusage(RUSAGE_THREAD, &usage);
  return (cost){clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_THREAD_CPUTIME_ID), usage.ru_nvcsw, usage.ru_nivcsw};
}

static void add_cost(cost *sum, const cost *from, const cost *to) {
  sum->wall_ns += to->wall_ns - from->wall_ns;
  sum->cpu_ns += to->cpu_ns - from->cpu_ns;
  sum->slept += to->slept - from->slept;
  sum->preempted += to->preempted - from->preempted;
}

/* `sum`: what the calls cost, or NULL. */
static int once(const task *what, const disco_worker_info *me, int64_t late_us, cost *sum) {
  trial self = {.task = *what, .me = *me};
  const bool compares = what->how == GOOD;
  if (trial_init(&self) != 0) {
    trial_fini(&self, false);
    return -1;
  }
  if (late_us > 0) sleep_us(late_us);
  const cost before = cost_now();
  const disco_status status = run(&self);
  const cost after = cost_now();
  if (sum != NULL) add_cost(sum, &before, &after);
  int rc = status == DISCO_OK ? 0 : raise_last();
  if (rc == 0 && compares) rc = compare(&self);
  trial_fini(&self, status != DISCO_OK);
  return rc;
}

static int misbehave(task *what) {
  if (what->gated) wait_for_gate();
  switch (what->how) {
  case RAISE: return disco_raise("ValueError", "worker %d " RAISED_TEXT, (int)what->who);
  case SIZE: what->count *= 2; break;
  case OTHER: what->operation = (what->operation + 1) % TRANSFER; break;
  case GROUP: what->in_group = !what->in_group; break;
  default: break;
  }
  return 0;
}

/* The first arguments; -1 with an error raised. */
static int read_task(const TVMFFIAny *args, int32_t num_args, task *ret_task, disco_worker_info *ret_me) {
  int64_t fields[TASK_FIELDS];
  *ret_me = (disco_worker_info){.struct_size = sizeof(*ret_me)};
  if (num_args < TASK_FIELDS || disco_worker_get_info(ret_me) != DISCO_OK)
    return disco_raise("RuntimeError", "no task");
  for (int i = 0; i < TASK_FIELDS; i++) fields[i] = args[i].v_int64;
  memcpy(ret_task, fields, sizeof(*ret_task));
  return 0;
}

static int work(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  task what;
  disco_worker_info me;
  *result = dsc_none();
  if (read_task(args, num_args, &what, &me) != 0) return -1;
  if (empty_graves())
    return disco_raise("AssertionError", "somebody stored into memory that worker %d had left with", me.worker_id);
  if (what.who == me.worker_id && what.how != GOOD) {
    if (misbehave(&what) != 0) return -1;
    if (what.how == SKIP) return 0;
  }
  arm(me.worker_id, &what);
  int rc = 0;
  for (int64_t i = 0; rc == 0 && i < what.times; i++, what.seed++) rc = once(&what, &me, 0, NULL);
  disarm();
  return rc;
}

static int cost_of_work(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  task what;
  disco_worker_info me;
  cost sum = {0};
  *result = dsc_none();
  if (num_args != TASK_FIELDS + 2) return disco_raise("RuntimeError", "who is late?");
  if (read_task(args, num_args, &what, &me) != 0) return -1;
  const int64_t late_us = args[TASK_FIELDS].v_int64 == me.worker_id ? args[TASK_FIELDS + 1].v_int64 : 0;
  int rc = 0;
  for (int64_t i = 0; rc == 0 && i < what.times; i++, what.seed++) rc = once(&what, &me, late_us, &sum);
  const TVMFFIAny numbers[] = {dsc_int(sum.wall_ns), dsc_int(sum.cpu_ns), dsc_int(sum.slept), dsc_int(sum.preempted)};
  return rc == 0 ? call_global("ffi.Shape", numbers, 4, result) : rc;
}

static int gate(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info me = {.struct_size = sizeof(me)};
  *result = dsc_none();
  if (num_args != 1 || disco_worker_get_info(&me) != DISCO_OK) return disco_raise("RuntimeError", "no gate");
  if (args[0].v_int64 != me.worker_id) return 0;
  wait_for_gate();
  return disco_raise("ValueError", "worker %d " RAISED_TEXT, me.worker_id);
}

static int own_pid(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args;
  *result = dsc_int((int64_t)getpid());
  return 0;
}

/* By hand, see struct step. */
static int steps(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info me = {.struct_size = sizeof(me)};
  *result = dsc_none();
  if (disco_worker_get_info(&me) != DISCO_OK) return disco_raise("RuntimeError", "no worker");
  int rc = 0;
  for (int32_t i = 0; rc == 0 && i + 3 < num_args; i += 4) {
    const int64_t verb = args[i + 1].v_int64, count = args[i + 3].v_int64;
    const int32_t peer = (int32_t)args[i + 2].v_int64;
    piece tensor;
    if (args[i].v_int64 != me.worker_id) continue;
    if (verb == SLEEP) {
      sleep_us(count);
      continue;
    }
    if (piece_init(&tensor, HEAP, count) != 0) return -1;
    float *data = tensor.block;
    for (int64_t k = 0; verb == SEND_TO && k < count; k++) data[k] = value_of(count, me.worker_id, k);
    disco_status status = verb == SEND_TO ? disco_send_to_worker(&tensor.tensor, peer)
                          : verb == RECV_FROM
                              ? disco_recv_from_worker(&tensor.tensor, peer)
                              : disco_allreduce(&tensor.tensor, DISCO_SUM, verb == REDUCE_GROUP, &tensor.tensor);
    if (status != DISCO_OK) rc = raise_last();
    for (int64_t k = 0; rc == 0 && verb == RECV_FROM && k < count; k++)
      if (data[k] != value_of(count, peer, k)) rc = disco_raise("AssertionError", "wrong from worker %d", peer);
    piece_fini(&tensor, status != DISCO_OK);
  }
  return rc;
}

void register_functions(void) {
  disco_status status = disco_register_function("stuck.work", work, NULL, NULL, false);
  if (status == DISCO_OK) status = disco_register_function("stuck.cost", cost_of_work, NULL, NULL, false);
  if (status == DISCO_OK) status = disco_register_function("stuck.gate", gate, NULL, NULL, false);
  if (status == DISCO_OK) status = disco_register_function("stuck.pid", own_pid, NULL, NULL, false);
  if (status == DISCO_OK) status = disco_register_function("stuck.steps", steps, NULL, NULL, false);
  if (status != DISCO_OK || pthread_key_create(&graves_key, drop_graves) != 0) {
    (void)fprintf(stderr, "%s\n", disco_last_error_text());
    exit(2);
  }
}
