#define _GNU_SOURCE
#include "ccl_worker.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "ccl_pattern.h"
#include "ccl_peer.h"
#include "disco/worker.h"
#include "probe.h"

/* One worker; several may be threads of this process. */
typedef struct {
  int rank, num_ranks, partner; /* partner: of send/recv; -1: none */
  uint8_t *in, *out;
  TVMFFIObjectHandle tensors[2]; /* that keep `in` and `out` alive, or NULL */
  bool own_memory;
  ccl_patterns *patterns;
  int patterns_of; /* the dtype they are for, -1: none yet */
  unsigned turn;
  uint64_t wrong;
  bool raised;
} state;

static ccl_table *table;
static _Thread_local state me;

/* ---- Shared memory ---- */

static ccl_table *map_table(int fd) {
  void *memory = mmap(NULL, sizeof(ccl_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

ccl_table *ccl_table_create(int *ret_fd) {
  int fd = memfd_create("bench-ccl", MFD_CLOEXEC);
  if (fd < 0) return NULL;
  ccl_table *created = ftruncate(fd, sizeof(ccl_table)) == 0 ? map_table(fd) : NULL;
  if (created == NULL) {
    close(fd);
    return NULL;
  }
  *ret_fd = fd;
  return created;
}

ccl_table *ccl_table_open(long pid, int fd) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%ld/fd/%d", pid, fd);
  int own = open(path, O_RDWR | O_CLOEXEC);
  if (own < 0) return NULL;
  ccl_table *opened = map_table(own);
  close(own);
  return opened;
}

/* ---- Meeting ---- */

enum { SPINS_BEFORE_YIELD = 2000, NAP_US = 50 };

/* 0, or -1 when somebody has failed. Who waits drowsily sleeps: others do something that needs the CPUs. */
static int meet(bool drowsy) {
  uint32_t before = atomic_load_explicit(&table->passed.value, memory_order_acquire);
  if (atomic_fetch_add(&table->arrived.value, 1) + 1 == (uint32_t)me.num_ranks) {
    atomic_store_explicit(&table->arrived.value, 0, memory_order_relaxed);
    atomic_store_explicit(&table->passed.value, before + 1, memory_order_release);
  }
  for (int spins = 0; atomic_load_explicit(&table->passed.value, memory_order_acquire) == before; spins++) {
    if (atomic_load_explicit(&table->failed.value, memory_order_relaxed) != 0) return -1;
    if (drowsy) {
      nanosleep(&(struct timespec){0, NAP_US * 1000L}, NULL);
    } else if (spins >= SPINS_BEFORE_YIELD) {
      sched_yield();
    }
  }
  return 0;
}

enum { PINGPONG_ROUNDS = 150 };

static int await_ball(uint32_t value) {
  for (int spins = 0; atomic_load_explicit(&table->ball.value, memory_order_acquire) != value; spins++) {
    if (spins < SPINS_BEFORE_YIELD) continue;
    if (atomic_load_explicit(&table->failed.value, memory_order_relaxed) != 0) return -1;
    sched_yield();
  }
  return 0;
}

static int bounce(uint32_t *ball) {
  for (int i = 0; i < PINGPONG_ROUNDS; i++, *ball += 2) {
    if (me.rank == 0) atomic_store_explicit(&table->ball.value, *ball + 1, memory_order_release);
    if (await_ball(*ball + (me.rank == 0 ? 2 : 1)) != 0) return -1;
    if (me.rank == 1) atomic_store_explicit(&table->ball.value, *ball + 2, memory_order_release);
  }
  return 0;
}

/* The r-th of the CPUs that are allowed. */
static cpu_set_t cpu_of_rank(const cpu_set_t *allowed) {
  cpu_set_t one;
  int seen = 0;
  CPU_ZERO(&one);
  for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
    if (CPU_ISSET(cpu, allowed) && seen++ == me.rank % CPU_COUNT(allowed)) CPU_SET(cpu, &one);
  return one;
}

/* A flag's way from rank 0 to rank 1 and back, the median of some bursts; each on a CPU of its own, and the others
 * sleep. */
static int measure_pingpong(double *ret_ns) {
  double ns[CCL_PINGPONG_BURSTS];
  uint32_t ball = 0;
  cpu_set_t before, one;
  if (me.rank == 0) atomic_store(&table->ball.value, 0);
  if (meet(false) != 0) return -1;
  if (me.rank < 2) {
    bool moved = !table->bind && sched_getaffinity(0, sizeof before, &before) == 0;
    if (moved) one = cpu_of_rank(&before), moved = sched_setaffinity(0, sizeof one, &one) == 0;
    for (int burst = -1; burst < CCL_PINGPONG_BURSTS; burst++) { /* -1 warms up */
      double start = bench_now();
      if (bounce(&ball) != 0) return -1;
      if (burst >= 0) ns[burst] = (bench_now() - start) * 1e9 / PINGPONG_ROUNDS;
    }
    if (moved) (void)sched_setaffinity(0, sizeof before, &before);
    if (me.rank == 0) *ret_ns = bench_spread_of(ns, CCL_PINGPONG_BURSTS).p50;
  }
  return meet(me.rank >= 2);
}

/* ---- What an operation means for this rank ---- */

typedef struct {
  uint8_t *write, *read;                   /* NULL: this rank has none */
  size_t write_bytes, read_bytes;          /* of a part */
  int write_first, write_parts;            /* part i of the input is rank (first + i)'s pattern */
  int read_first, read_parts, read_stride; /* part i of the output is pattern first + i * stride */
} plan;

static plan plan_operation(const ccl_job *job) {
  size_t n = job->bytes;
  bool root = me.rank == 0;
  plan p = {.write = me.in, .write_bytes = n, .write_first = me.rank, .write_parts = 1};
  p.read = job->in_place ? me.in : me.out, p.read_bytes = n, p.read_parts = 1, p.read_stride = 1;
  switch (job->op) {
  case CCL_ALLREDUCE: p.read_first = CCL_SUM; break;
  case CCL_BROADCAST:
    if (!root) p.write = NULL, p.read = me.out;
    break;
  case CCL_ALLGATHER: p.read_parts = me.num_ranks; break;
  case CCL_SCATTER:
    p.write_first = 0, p.write_parts = me.num_ranks, p.read_first = me.rank;
    if (!root) p.write = NULL;
    break;
  case CCL_GATHER:
    p.read_parts = me.num_ranks;
    if (!root) p.read = NULL;
    break;
  default:
    p.read_first = me.partner;
    if (me.partner < 0) p.write = p.read = NULL;
  }
  return p;
}

/* The copies that set the limit: what must be brought to this rank, from its own memory. Every rank's share of a gather
 * is one part, for all can write to the root's output at once. */
static plan plan_copy(const ccl_job *job) {
  plan p = {.write = me.in, .write_bytes = job->bytes, .write_first = me.rank, .write_parts = 1};
  p.read = me.out, p.read_bytes = job->bytes, p.read_first = me.rank, p.read_stride = 0;
  p.read_parts = job->op == CCL_ALLGATHER ? me.num_ranks : 1;
  return p;
}

static void write_input(const plan *p, unsigned turn) {
  if (p->write == NULL) return;
  for (int i = 0; i < p->write_parts; i++)
    ccl_fill(p->write + (size_t)i * p->write_bytes, p->write_bytes, &me.patterns->of[turn][p->write_first + i]);
}

static uint64_t read_output(const plan *p, unsigned turn) {
  uint64_t wrong = 0;
  if (p->read == NULL) return 0;
  for (int i = 0; i < p->read_parts; i++)
    wrong += ccl_check(p->read + (size_t)i * p->read_bytes, p->read_bytes,
                       &me.patterns->of[turn][p->read_first + i * p->read_stride]);
  return wrong;
}

/* ---- Ours ---- */

typedef struct {
  DLTensor tensor;
  int64_t shape[1];
} view;

static DLTensor *make_view(view *v, uint8_t *data, size_t bytes, ccl_dtype dtype) {
  static const DLDataType types[CCL_NUM_DTYPES] = {
      [CCL_F32] = {kDLFloat, 32, 1}, [CCL_F16] = {kDLFloat, 16, 1}, [CCL_BF16] = {kDLBfloat, 16, 1}};
  v->shape[0] = (int64_t)(bytes / ccl_dtype_bytes(dtype));
  v->tensor = (DLTensor){.data = data, .device = {kDLCPU, 0}, .ndim = 1, .dtype = types[dtype], .shape = v->shape};
  return &v->tensor;
}

static disco_status run_ours(ccl_op op, const DLTensor *send, DLTensor *recv) {
  switch (op) {
  case CCL_ALLREDUCE: return disco_allreduce(send, DISCO_SUM, false, recv);
  case CCL_BROADCAST: return disco_broadcast_from_worker0(send, false, recv);
  case CCL_ALLGATHER: return disco_allgather(send, false, recv);
  case CCL_SCATTER: return disco_scatter_from_worker0(send, false, recv);
  case CCL_GATHER: return disco_gather_to_worker0(send, false, recv);
  default: return send != NULL ? disco_send_to_worker(send, me.partner) : disco_recv_from_worker(recv, me.partner);
  }
}

/* ---- Windows ---- */

/* What is between writing and reading in a window; everything that can be prepared is. */
typedef struct {
  ccl_window window;
  bool ours; /* also the sums of float32 that stand in for a peer */
  ccl_op op;
  plan plan;
  size_t bytes;
  uint8_t *send, *recv; /* of the operation */
  view send_view, recv_view;
  DLTensor *send_tensor, *recv_tensor;
} work;

static void prepare(work *w, const ccl_job *job, ccl_window window, ccl_dtype dtype) {
  size_t p = (size_t)me.num_ranks, n = job->bytes;
  bool copies = window == CCL_COPY || window == CCL_COPY_IDLE;
  *w = (work){.window = window, .op = job->op, .bytes = n};
  w->ours = window == CCL_OURS || (window == CCL_PEER && job->dtype != CCL_F32);
  w->plan = copies ? plan_copy(job) : plan_operation(job);
  w->send = me.in;
  w->recv = me.out;
  if (job->in_place && (job->op == CCL_ALLREDUCE || me.rank == 0)) w->recv = me.in;
  w->send_tensor = make_view(&w->send_view, w->send, job->op == CCL_SCATTER ? n * p : n, dtype);
  w->recv_tensor =
      make_view(&w->recv_view, w->recv, job->op == CCL_ALLGATHER || job->op == CCL_GATHER ? n * p : n, dtype);
}

/* `sends`, of send/recv only: which half of it. */
static int act(work *w, bool sends) {
  bool pair = w->op == CCL_SENDRECV;
  switch (w->window) {
  case CCL_COPY:
    for (int i = 0; i < w->plan.read_parts; i++) memcpy(me.out + (size_t)i * w->bytes, me.in, w->bytes);
    return 0;
  case CCL_PEER:
  case CCL_OURS: break;
  default: return 0;
  }
  if (w->ours) {
    const DLTensor *send = pair && !sends ? NULL : w->send_tensor;
    if (run_ours(w->op, send, w->recv_tensor) == DISCO_OK) return 0;
    disco_error_info info = {.struct_size = sizeof(info)};
    (void)disco_last_error(&info);
    return me.raised = true, disco_raise(info.kind, "%s", info.message);
  }
  if (ccl_peer_run(w->op, pair && !sends ? NULL : w->send, w->recv, w->bytes, me.rank, me.partner) == 0) return 0;
  return me.raised = true, disco_raise("RuntimeError", "the peer's operation failed");
}

static int iterate_pair(work *w, unsigned turn, bool moves) {
  bool first = me.rank < me.partner;
  if (me.partner < 0) return 0;
  for (int half = 0; half < 2; half++) {
    bool sends = (half == 0) == first;
    if (sends) write_input(&w->plan, turn);
    if (moves && act(w, sends) != 0) return -1;
    if (!sends) me.wrong += read_output(&w->plan, turn);
  }
  return 0;
}

static int iterate(work *w) {
  unsigned turn = me.turn++ % CCL_TURNS;
  bool copies = w->window == CCL_COPY || w->window == CCL_COPY_IDLE;
  if (w->op == CCL_SENDRECV && !copies) return iterate_pair(w, turn, w->window != CCL_IDLE);
  write_input(&w->plan, turn);
  if (act(w, true) != 0) return -1;
  me.wrong += read_output(&w->plan, turn);
  return 0;
}

/* A few iterations first, for what the window before has left in the caches. */
static int run_window(const ccl_job *job, ccl_window window, ccl_answer *answer) {
  uint32_t count = job->iterations[window], warm_up = 1 + count / 16;
  ccl_dtype dtype = window == CCL_PEER ? CCL_F32 : job->dtype;
  work w;
  if (count == 0) return 0;
  if (me.patterns_of != (int)dtype) {
    ccl_patterns_make(me.patterns, dtype, me.num_ranks);
    me.patterns_of = (int)dtype;
  }
  prepare(&w, job, window, dtype);
  me.wrong = 0;
  if (meet(false) != 0) return -1;
  for (uint32_t i = 0; i < warm_up; i++)
    if (iterate(&w) != 0) return -1;
  if (meet(false) != 0) return -1;
  double start = bench_now();
  for (uint32_t i = 0; i < count; i++)
    if (iterate(&w) != 0) return -1;
  answer->seconds[window] = bench_now() - start;
  answer->wrong[window] = window == CCL_IDLE || window == CCL_COPY_IDLE ? 0 : me.wrong;
  return 0;
}

static int64_t preemptions(void) {
  struct rusage usage;
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nivcsw : 0;
}

static int run_round(const ccl_job *job, ccl_answer *answer) {
  ccl_window order[CCL_NUM_WINDOWS] = {CCL_IDLE, CCL_COPY_IDLE, CCL_COPY, CCL_PEER, CCL_OURS};
  if (job->ours_first) order[3] = CCL_OURS, order[4] = CCL_PEER;
  memset(answer, 0, sizeof(*answer));
  me.partner = (me.rank ^ 1) < me.num_ranks ? me.rank ^ 1 : -1;
  if (measure_pingpong(&table->pingpong_ns[0]) != 0) return -1;
  int64_t before = preemptions();
  for (int i = 0; i < CCL_NUM_WINDOWS; i++)
    if (run_window(job, order[i], answer) != 0) return -1;
  answer->preempted = preemptions() - before;
  return measure_pingpong(&table->pingpong_ns[1]);
}

/* ---- The functions ---- */

static int fail(const char *what) {
  if (atomic_exchange(&table->failed.value, 1) != 0 && !me.raised)
    return disco_raise("RuntimeError", "%s: another rank has failed", what);
  return me.raised ? -1 : disco_raise("RuntimeError", "%s", what);
}

static int round_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args, (void)result;
  if (me.patterns == NULL) return fail("bench.ccl.round before bench.ccl.join");
  alarm(table->timeout_s);
  me.raised = false;
  return run_round(&table->job, &table->answers[me.rank]) == 0 ? 0 : fail("bench.ccl.round");
}

static int bind_to_cpu(void) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  one = cpu_of_rank(&allowed);
  for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &one) || disco_bind_cpu((int64_t)cpu) == DISCO_OK) continue;
    return me.raised = true, disco_raise("RuntimeError", "%s", disco_last_error_text());
  }
  return 0;
}

static int take_memory(const TVMFFIAny *args, int32_t num_args) {
  uint8_t **ends[2] = {&me.in, &me.out};
  const size_t bytes[2] = {table->in_bytes, table->out_bytes};
  me.own_memory = num_args == 0;
  for (int i = 0; i < 2; i++) {
    if (me.own_memory) {
      *ends[i] = aligned_alloc(64, (bytes[i] + 63) / 64 * 64);
    } else if (num_args == 2 && args[i].type_index == kTVMFFITensor) {
      const DLTensor *tensor = (const DLTensor *)((const char *)args[i].v_obj + sizeof(TVMFFIObject));
      TVMFFIObjectIncRef(args[i].v_obj);
      me.tensors[i] = args[i].v_obj;
      *ends[i] = (uint8_t *)tensor->data + tensor->byte_offset;
    }
    if (*ends[i] == NULL) return -1;
    memset(*ends[i], 0, bytes[i]);
  }
  return 0;
}

static void leave(void) {
  if (me.own_memory) free(me.in), free(me.out);
  for (int i = 0; i < 2; i++)
    if (me.tensors[i] != NULL) TVMFFIObjectDecRef(me.tensors[i]);
  free(me.patterns);
  memset(&me, 0, sizeof(me));
}

static int join_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)result;
  disco_worker_info info = {.struct_size = sizeof(info)};
  if (disco_worker_get_info(&info) != DISCO_OK || info.num_workers != table->num_ranks)
    return fail("bench.ccl.join: not a worker of this benchmark");
  memset(&me, 0, sizeof(me));
  me.rank = info.worker_id;
  me.num_ranks = info.num_workers;
  me.patterns_of = -1;
  me.patterns = aligned_alloc(64, sizeof(*me.patterns));
  if (me.patterns == NULL || take_memory(args, num_args) != 0) {
    leave();
    return fail("bench.ccl.join: no memory, or no tensors");
  }
  return table->bind && bind_to_cpu() != 0 ? fail("bench.ccl.join: binding to a CPU") : 0;
}

static int leave_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args, (void)result;
  alarm(0);
  leave();
  return 0;
}

int ccl_worker_register(ccl_table *shared) {
  table = shared;
  const struct {
    const char *name;
    TVMFFISafeCallType function;
  } functions[] = {
      {"bench.ccl.join", join_function}, {"bench.ccl.round", round_function}, {"bench.ccl.leave", leave_function}};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    if (disco_register_function(functions[i].name, functions[i].function, NULL, NULL, true) == DISCO_OK) continue;
    fprintf(stderr, "%s: %s\n", functions[i].name, disco_last_error_text());
    return -1;
  }
  return 0;
}
