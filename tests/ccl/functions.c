/* The functions that workers run in this suite: collectives over tensors of all kinds of memory, each compared with
 * what every worker works out by itself. They keep nothing but a worker's complaints. */
#include <stdio.h>
#include <unistd.h>

#include "ccl/buffer.h"
#include "ccl/support.h"

const char *const operation_names[NUM_OPERATIONS] = {"allreduce", "allgather", "broadcast_from_worker0",
                                                     "scatter_from_worker0", "gather_to_worker0"};

/* What this worker saw in bad jobs: collectives that failed and moved bytes all the same. */
static _Thread_local char complaint[512];

typedef struct {
  job job;
  disco_worker_info info;
  DLDataType type;
  int32_t first, rank, size; /* of the communicator: worker id of rank 0, mine, how many */
  bool in_place;
  uint64_t send_count, recv_count; /* elements; 0 where that side is ignored */
  bool has_send, has_recv;
  buffer send, recv, other; /* other: what is handed over where it should be ignored */
  const DLTensor *send_tensor;
  DLTensor *recv_tensor;
} trial;

/* ---- Setting up ---- */

static int who_am_i(disco_worker_info *ret_info) {
  *ret_info = (disco_worker_info){.struct_size = sizeof(*ret_info)};
  if (disco_worker_get_info(ret_info) == DISCO_OK) return 0;
  return disco_raise("RuntimeError", "%s", disco_last_error_text());
}

static int raise_last(void) {
  disco_error_info error = {.struct_size = sizeof(error), .kind = "RuntimeError"};
  (void)disco_last_error(&error);
  return disco_raise(error.kind, "%s", disco_last_error_text());
}

static source source_of(const job *what) { return (source){(uint64_t)what->seed, (int32_t)what->flavour}; }

static bool is_ours(int64_t memory, int32_t worker) {
  return memory == MEMORY_OURS || (memory == MEMORY_MIXED && worker % 2 == 0);
}

static void find_place(trial *self) {
  const int32_t workers = self->info.num_workers, size = workers / self->info.num_groups;
  self->size = self->job.in_group ? size : workers;
  self->first = self->job.in_group ? self->info.group * size : 0;
  self->rank = self->info.worker_id - self->first;
}

static void count_sides(trial *self) {
  const bool is_root = self->rank == 0;
  const uint64_t part = (uint64_t)self->job.count, all = part * (uint64_t)self->size;
  self->has_send = self->has_recv = true;
  self->send_count = self->recv_count = part;
  switch (self->job.operation) {
  case ALLGATHER: self->recv_count = all; break;
  case BROADCAST: self->has_send = is_root; break;
  case SCATTER:
    self->has_send = is_root;
    self->send_count = all;
    break;
  case GATHER:
    self->has_recv = is_root;
    self->recv_count = all;
    break;
  default: break;
  }
}

/* One side lies in the other: at the rank's own part where that is larger. */
static int place_together(trial *self, bool ours, size_t offset, uint64_t look) {
  const size_t part = bytes_of(self->type, (uint64_t)self->job.count) * (size_t)self->rank;
  if (self->send_count > self->recv_count) {
    if (buffer_init(&self->send, ours, self->type, self->send_count, offset, look) != 0) return -1;
    buffer_view(&self->recv, &self->send, self->type, self->recv_count, part, look >> 1);
    return 0;
  }
  if (buffer_init(&self->recv, ours, self->type, self->recv_count, offset, look) != 0) return -1;
  const size_t first = self->recv_count > self->send_count ? part : 0;
  buffer_view(&self->send, &self->recv, self->type, self->send_count, first, look >> 1);
  return 0;
}

static int place(trial *self) {
  const bool ours = is_ours(self->job.memory, self->info.worker_id);
  const size_t offset = (size_t)self->job.offset * (1 + (size_t)self->info.worker_id % 3);
  const uint64_t noise = mix((uint64_t)self->job.seed, 77 + (uint64_t)self->info.worker_id);
  const uint64_t look = self->job.how == GOOD ? noise : 0;
  self->in_place = self->job.in_place && self->has_send && self->has_recv;
  if (self->in_place) return place_together(self, ours, offset, look);
  if (self->has_send && buffer_init(&self->send, ours, self->type, self->send_count, offset, look) != 0) return -1;
  if (self->has_recv && buffer_init(&self->recv, ours, self->type, self->recv_count, offset * 3, look >> 8) != 0)
    return -1;
  return 0;
}

/* What is ignored may be nothing, some tensor, or the side that counts. */
static int hand_over(trial *self) {
  const uint64_t form = mix((uint64_t)self->job.seed, 78) % 3;
  if (buffer_init(&self->other, false, (DLDataType){kDLInt, 32, 1}, 7, 0, 0) != 0) return -1;
  DLTensor *ignored = form == 0 ? NULL : &self->other.tensor;
  if (form == 2) ignored = self->has_send ? &self->send.tensor : &self->recv.tensor;
  self->send_tensor = self->has_send ? &self->send.tensor : ignored;
  self->recv_tensor = self->has_recv ? &self->recv.tensor : ignored;
  return 0;
}

static int trial_init(trial *self) {
  const job *what = &self->job;
  self->type = (DLDataType){(uint8_t)what->code, (uint8_t)what->bits, (uint16_t)what->lanes};
  find_place(self);
  count_sides(self);
  if (place(self) != 0 || hand_over(self) != 0) return -1;
  if (self->has_send)
    fill(buffer_data(&self->send), self->type, source_of(what), self->info.worker_id, self->send_count);
  return 0;
}

static void trial_fini(trial *self) {
  buffer_fini(&self->send);
  buffer_fini(&self->recv);
  buffer_fini(&self->other);
}

static disco_status run(const trial *self) {
  const bool in_group = self->job.in_group != 0;
  switch (self->job.operation) {
  case ALLREDUCE:
    return disco_allreduce(self->send_tensor, (disco_reduce_kind)self->job.kind, in_group, self->recv_tensor);
  case ALLGATHER: return disco_allgather(self->send_tensor, in_group, self->recv_tensor);
  case BROADCAST: return disco_broadcast_from_worker0(self->send_tensor, in_group, self->recv_tensor);
  case SCATTER: return disco_scatter_from_worker0(self->send_tensor, in_group, self->recv_tensor);
  default: return disco_gather_to_worker0(self->send_tensor, in_group, self->recv_tensor);
  }
}

/* ---- Comparing ---- */

static void expected_of(const trial *self, unsigned char *to) {
  const job *what = &self->job;
  const source from = source_of(what);
  const uint64_t part = (uint64_t)what->count;
  const size_t bytes = bytes_of(self->type, part);
  switch (what->operation) {
  case ALLREDUCE: reduce(to, self->type, (int)what->kind, from, self->first, self->size, part); break;
  case BROADCAST: fill(to, self->type, from, self->first, part); break;
  case SCATTER: {
    unsigned char *all = malloc(bytes * (size_t)self->size + 1);
    if (all == NULL) return;
    fill(all, self->type, from, self->first, part * (uint64_t)self->size);
    memcpy(to, all + bytes * (size_t)self->rank, bytes);
    free(all);
    break;
  }
  default:
    for (int32_t r = 0; r < self->size; r++) fill(to + bytes * (size_t)r, self->type, from, self->first + r, part);
  }
}

static int differs(const trial *self, const char *what) {
  const job *it = &self->job;
  return disco_raise(
      "ValueError",
      "%s%s%s of %lld elements of (code %d, %d bits, %d lanes), %d ranks%s, %s, offset %lld, memory %lld, "
      "seed %lld, flavour %lld: rank %d: %s",
      operation_names[it->operation], it->operation == ALLREDUCE ? " " : "",
      it->operation == ALLREDUCE ? kind_names[it->kind] : "", (long long)it->count, self->type.code, self->type.bits,
      self->type.lanes, self->size, it->in_group ? " of a group" : "", self->in_place ? "in place" : "out of place",
      (long long)it->offset, (long long)it->memory, (long long)it->seed, (long long)it->flavour, self->rank, what);
}

static int compare(const trial *self, const unsigned char *got, const unsigned char *wanted, size_t bytes,
                   const char *side) {
  char text[160];
  size_t at = 0;
  if (memcmp(got, wanted, bytes) == 0) return 0;
  while (got[at] == wanted[at]) at++;
  if (!is_reduced(self->type)) {
    (void)snprintf(text, sizeof(text), "byte %zu of %s is %02x, not %02x", at, side, got[at], wanted[at]);
    return differs(self, text);
  }
  const uint64_t index = at / (self->type.bits / 8);
  (void)snprintf(text, sizeof(text), "element %llu of %s has bits %0*llx, not %0*llx", (unsigned long long)index, side,
                 self->type.bits / 4, (unsigned long long)load_bits(got, self->type, index), self->type.bits / 4,
                 (unsigned long long)load_bits(wanted, self->type, index));
  return differs(self, text);
}

static int check_guards(const trial *self) {
  const buffer *all[] = {&self->send, &self->recv, &self->other};
  const char *const names[] = {"send", "recv", "an ignored tensor"};
  for (int i = 0; i < 3; i++) {
    char where[96], text[160];
    /* A view's guards are its owner's. */
    if (all[i]->block == NULL || (!all[i]->is_heap && all[i]->owner == NULL)) continue;
    if (buffer_is_whole(all[i], where, sizeof(where))) continue;
    (void)snprintf(text, sizeof(text), "wrote outside of %s: %s", names[i], where);
    return differs(self, text);
  }
  return 0;
}

/* In place, send is what the result leaves of it: only its bytes outside of recv count. They are recv's neighbours in
 * a scatter, and come out of the root's own stream. */
static int check_send(const trial *self) {
  if (!self->has_send || (self->in_place && self->job.operation != SCATTER)) return 0;
  const size_t bytes = bytes_of(self->type, self->send_count);
  unsigned char *wanted = malloc(bytes + 1);
  if (wanted == NULL) return disco_raise("MemoryError", "%zu bytes", bytes);
  fill(wanted, self->type, source_of(&self->job), self->info.worker_id, self->send_count);
  const int rc = compare(self, buffer_data(&self->send), wanted, bytes, "send, which was changed:");
  free(wanted);
  return rc;
}

static int check_recv(const trial *self) {
  if (!self->has_recv) return 0;
  const size_t bytes = bytes_of(self->type, self->recv_count);
  unsigned char *wanted = malloc(bytes + 1);
  if (wanted == NULL) return disco_raise("MemoryError", "%zu bytes", bytes);
  expected_of(self, wanted);
  const int rc = compare(self, buffer_data(&self->recv), wanted, bytes, "recv");
  free(wanted);
  return rc;
}

static int run_good(const job *what, const disco_worker_info *info) {
  trial self = {.job = *what, .info = *info};
  int rc = trial_init(&self);
  if (rc == 0 && run(&self) != DISCO_OK) rc = raise_last();
  if (rc == 0 && what->how == GOOD) rc = check_recv(&self);
  if (rc == 0 && what->how == GOOD) rc = check_send(&self);
  if (rc == 0 && what->how == GOOD) rc = check_guards(&self);
  trial_fini(&self);
  return rc;
}

/* ---- Trouble ---- */

static void distort_job(job *what) {
  switch (what->how) {
  case COUNT: what->count++; break;
  case DTYPE: what->code = what->code == kDLInt ? kDLUInt : kDLInt; break;
  case KIND: what->kind = (what->kind + 1) % NUM_KINDS; break;
  case BAD_KIND: what->kind = 7; break;
  case OPERATION: what->operation = (what->operation + 1) % NUM_OPERATIONS; break;
  case GROUP: what->in_group = !what->in_group; break;
  default: break;
  }
}

static void stride(buffer *self, uint64_t count) {
  self->tensor.ndim = 1;
  self->shape[0] = (int64_t)count;
  self->strides[0] = 2;
  self->tensor.strides = self->strides;
}

static void distort_tensors(trial *self) {
  buffer *send = &self->send, *recv = &self->recv;
  switch (self->job.how) {
  case RECV_SIZE: recv->shape[0]++; break;
  case SEND_SIZE: send->shape[0]++; break;
  case RECV_DTYPE: recv->tensor.dtype.code = kDLUInt; break;
  case STRIDED_SEND: stride(send, self->send_count); break;
  case STRIDED_RECV: stride(recv, self->recv_count); break;
  case GPU_SEND: send->tensor.device = (DLDevice){kDLCUDA, 1}; break;
  case GPU_RECV: recv->tensor.device = (DLDevice){kDLCUDA, 1}; break;
  case NULL_SEND: self->send_tensor = NULL; break;
  case NULL_RECV: self->recv_tensor = NULL; break;
  case OVERLAP: { /* one element behind where it would be allowed */
    const size_t shift = (size_t)self->type.bits / 8;
    recv->tensor.data = (char *)buffer_data(send) + shift;
    recv->tensor.byte_offset = 0;
    break;
  }
  default: break;
  }
}

/* A collective that failed has moved nothing, or said so. */
static void look_after_failure(const trial *self) {
  const bool says = strstr(disco_last_error_text(), "undefined") != NULL;
  char where[96];
  if (self->has_send && !says && complaint[0] == '\0') {
    const size_t bytes = bytes_of(self->type, self->send_count);
    unsigned char *wanted = malloc(bytes + 1);
    if (wanted == NULL) return;
    fill(wanted, self->type, source_of(&self->job), self->info.worker_id, self->send_count);
    if (memcmp(wanted, buffer_data(&self->send), bytes) != 0)
      (void)snprintf(complaint, sizeof(complaint), "%s failed and changed send (%s) without a word of it: %s",
                     operation_names[self->job.operation], self->in_place ? "in place" : "out of place",
                     disco_last_error_text());
    free(wanted);
  }
  if (complaint[0] == '\0' && self->has_send && !self->in_place && !buffer_is_whole(&self->send, where, sizeof(where)))
    (void)snprintf(complaint, sizeof(complaint), "a failed collective wrote %s of send", where);
  if (complaint[0] == '\0' && self->has_recv && !self->in_place && !buffer_is_whole(&self->recv, where, sizeof(where)))
    (void)snprintf(complaint, sizeof(complaint), "a failed collective wrote %s of recv", where);
}

static int run_bad(const job *what, const disco_worker_info *info) {
  const bool is_me = what->who == EVERYBODY || what->who == info->worker_id;
  trial self = {.job = *what, .info = *info};
  if (!is_me) self.job.how = NOTHING;
  if (is_me && what->how == SKIP) return 0;
  if (is_me && what->how == RAISE) return disco_raise("ValueError", RAISED_TEXT);
  while (is_me && what->how == HANG) (void)pause();
  distort_job(&self.job);
  int rc = trial_init(&self);
  if (rc == 0) distort_tensors(&self);
  for (int i = is_me && what->how == TWICE ? 2 : 1; rc == 0 && i > 0; i--)
    if (run(&self) != DISCO_OK) {
      if (what->how != TWICE) look_after_failure(&self);
      rc = raise_last();
    }
  trial_fini(&self);
  return rc;
}

static int read_job(const TVMFFIAny *args, int32_t num_args, job *ret_job) {
  int64_t fields[JOB_FIELDS];
  if (num_args < JOB_FIELDS) return disco_raise("TypeError", "%d fields of a job", num_args);
  for (int i = 0; i < JOB_FIELDS; i++) fields[i] = args[i].v_int64;
  memcpy(ret_job, fields, sizeof(fields));
  return 0;
}

/* (fields of a job) */
static int collective(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  job what;
  disco_worker_info info;
  *result = dsc_none();
  if (read_job(args, num_args, &what) != 0 || who_am_i(&info) != 0) return -1;
  if (what.how > NOTHING) return run_bad(&what, &info);
  for (int64_t i = 0; i < what.repeat; i++) {
    job one = what;
    one.seed += i;
    if (what.alternate && i % 2 != 0) one.in_group = !one.in_group;
    if (run_good(&one, &info) != 0) return -1;
  }
  return 0;
}

/* () -> None, or what this worker complains of; it forgets it */
static int take_complaint(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  if (complaint[0] == '\0') return 0;
  const disco_status status = dsc_value_from_string(complaint, strlen(complaint), result);
  complaint[0] = '\0';
  return status == DISCO_OK ? 0 : raise_last();
}

/* ---- Tensors that the controller knows as DRefs ---- */

static int read_trial(const TVMFFIAny *args, int32_t num_args, trial *self) {
  *self = (trial){0};
  if (num_args != JOB_FIELDS + 1) return disco_raise("TypeError", "a job and a tensor, not %d arguments", num_args);
  if (read_job(args, num_args, &self->job) != 0 || who_am_i(&self->info) != 0) return -1;
  self->type = (DLDataType){(uint8_t)self->job.code, (uint8_t)self->job.bits, (uint16_t)self->job.lanes};
  find_place(self);
  count_sides(self);
  return 0;
}

static unsigned char *data_of(const TVMFFIAny *tensor) {
  const DLTensor *it = (const DLTensor *)(tensor->v_obj + 1);
  return (unsigned char *)it->data + it->byte_offset;
}

/* (fields of a job, tensor or None): what this worker sends */
static int fill_tensor(void *unused, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)unused;
  trial self;
  *result = dsc_none();
  if (read_trial(args, num_args, &self) != 0) return -1;
  if (args[JOB_FIELDS].type_index == kTVMFFINone || !self.has_send) return 0;
  fill(data_of(&args[JOB_FIELDS]), self.type, source_of(&self.job), self.info.worker_id, self.send_count);
  return 0;
}

/* (fields of a job, tensor or None): is it what this worker should have received? */
static int check_tensor(void *unused, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)unused;
  trial self;
  *result = dsc_none();
  if (read_trial(args, num_args, &self) != 0) return -1;
  if (!self.has_recv) return 0;
  if (args[JOB_FIELDS].type_index == kTVMFFINone) return disco_raise("TypeError", "no tensor to look at");
  self.recv.block = data_of(&args[JOB_FIELDS]);
  return check_recv(&self);
}

/* (float32 tensor, worker, whose stream it should hold there, seed) */
static int check_holds(void *unused, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)unused;
  disco_worker_info info;
  *result = dsc_none();
  if (num_args != 4 || who_am_i(&info) != 0) return disco_raise("TypeError", "test.holds");
  if (args[1].v_int64 != info.worker_id) return 0;
  const DLTensor *tensor = (const DLTensor *)(args[0].v_obj + 1);
  for (uint64_t i = 0, n = (uint64_t)tensor->shape[0]; i < n; i++) {
    const uint64_t got = load_bits(data_of(&args[0]), tensor->dtype, i);
    uint64_t wanted[256] = {0};
    if (n * 4 > sizeof(wanted)) return disco_raise("ValueError", "test.holds is for small tensors");
    fill(wanted, tensor->dtype, (source){(uint64_t)args[3].v_int64, PLAIN}, (int32_t)args[2].v_int64, n);
    if (got == load_bits(wanted, tensor->dtype, i)) continue;
    return disco_raise("ValueError", "worker %d does not hold what worker %d had: element %d", info.worker_id,
                       (int)args[2].v_int64, (int)i);
  }
  return 0;
}

/* ---- Point to point ---- */

static disco_status do_step(const step *what, DLTensor *tensor) {
  switch (what->action) {
  case SEND: return disco_send_to_worker(tensor, (int32_t)what->peer);
  case RECV: return disco_recv_from_worker(tensor, (int32_t)what->peer);
  case RECV0: return disco_recv_from_worker0(tensor);
  case SEND_NEXT: return disco_send_to_next_group(tensor);
  default: return disco_recv_from_prev_group(tensor);
  }
}

static int compare_message(const step *what, const buffer *it, const unsigned char *wanted, int32_t worker) {
  const unsigned char *got = buffer_data(it);
  char where[96];
  for (size_t i = 0; i < it->bytes; i++)
    if (got[i] != wanted[i])
      return disco_raise("ValueError",
                         "worker %d, action %lld with %lld, %lld elements, message %lld: byte %zu is %02x, "
                         "not %02x",
                         worker, (long long)what->action, (long long)what->peer, (long long)what->count,
                         (long long)what->seed, i, got[i], wanted[i]);
  if (buffer_is_whole(it, where, sizeof(where))) return 0;
  return disco_raise("ValueError", "worker %d, action %lld with %lld, %lld elements: wrote %s", worker,
                     (long long)what->action, (long long)what->peer, (long long)what->count, where);
}

static int take_step(const step *what, DLDataType type, bool ours, int32_t worker) {
  buffer it;
  if (what->action == NAP) return sleep_ms((int)what->count), 0;
  if (what->action == RAISES) return disco_raise("ValueError", RAISED_TEXT);
  const size_t offset = (size_t)(what->seed % 3) * (type.bits / 8);
  if (buffer_init(&it, ours, type, (uint64_t)what->count, offset, mix((uint64_t)what->seed, 5)) != 0) return -1;
  unsigned char *message = malloc(it.bytes + 1);
  int rc = message != NULL ? 0 : disco_raise("MemoryError", "%zu bytes", it.bytes);
  if (rc == 0) {
    fill(message, type, (source){(uint64_t)what->seed, PLAIN}, 0, (uint64_t)what->count);
    if (what->action == SEND || what->action == SEND_NEXT) memcpy(buffer_data(&it), message, it.bytes);
    rc = do_step(what, &it.tensor) == DISCO_OK ? compare_message(what, &it, message, worker) : raise_last();
  }
  free(message);
  buffer_fini(&it);
  return rc;
}

/* (memory, type code, bits, fields of steps...) */
static int steps(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  enum { HEAD = 3, FIELDS = sizeof(step) / sizeof(int64_t) };
  (void)self;
  disco_worker_info info;
  *result = dsc_none();
  if (num_args < HEAD || who_am_i(&info) != 0) return disco_raise("TypeError", "test.steps");
  const DLDataType type = {(uint8_t)args[1].v_int64, (uint8_t)args[2].v_int64, 1};
  const bool ours = is_ours(args[0].v_int64, info.worker_id);
  for (int32_t i = HEAD; i + FIELDS <= num_args; i += FIELDS) {
    int64_t fields[FIELDS];
    step what;
    for (int f = 0; f < FIELDS; f++) fields[f] = args[i + f].v_int64;
    memcpy(&what, fields, sizeof(what));
    if (what.worker == info.worker_id && take_step(&what, type, ours, info.worker_id) != 0) return -1;
  }
  return 0;
}

/* ---- Looking ---- */

static int statistic_of(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_collective_stats stats = {.struct_size = sizeof(stats)};
  if (num_args != 1 || disco_worker_collective_stats(&stats) != DISCO_OK) return raise_last();
  const uint64_t all[] = {stats.inlined, stats.staged, stats.direct, stats.bytes, stats.sleeps};
  *result = dsc_int((int64_t)all[args[0].v_int64]);
  return 0;
}

static int my_pid(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_int(getpid());
  return 0;
}

/* () -> the name of this worker's data plane */
static int my_ccl(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  disco_worker_info info;
  if (who_am_i(&info) != 0) return -1;
  return dsc_value_from_string(info.ccl, strlen(info.ccl), result) == DISCO_OK ? 0 : raise_last();
}

/* (worker): it raises, others do nothing */
static int raise_there(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  disco_worker_info info;
  *result = dsc_none();
  if (num_args != 1 || who_am_i(&info) != 0) return disco_raise("TypeError", "test.raise");
  return args[0].v_int64 == info.worker_id ? disco_raise("ValueError", RAISED_TEXT) : 0;
}

void register_worker_functions(void) {
  static const struct {
    const char *name;
    TVMFFISafeCallType function;
  } all[] = {
      {"test.collective", collective},  {"test.complaint", take_complaint},
      {"test.fill", fill_tensor},       {"test.check", check_tensor},
      {"test.holds", check_holds},      {"test.steps", steps},
      {"test.statistic", statistic_of}, {"test.pid", my_pid},
      {"test.raise", raise_there},      {"test.ccl", my_ccl},
  };
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
    if (disco_register_function(all[i].name, all[i].function, NULL, NULL, false) == DISCO_OK) continue;
    (void)fprintf(stderr, "cannot register %s: %s\n", all[i].name, disco_last_error_text());
    exit(2);
  }
}
