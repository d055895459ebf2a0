#include "ccl/comm.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/inject.h"
#include "ccl/deadlock.h"
#include "ccl/dtype.h"
#include "ccl/rank.h"
#include "ccl/reduce.h"

/* ---- Words ---- */

void dsc_print_text(const dsc_print *print, int32_t communicator, int32_t size, char *text, size_t room) {
  static const char *const names[] = {
#define NAME(name, text) text,
      DSC_OPERATION_LIST(NAME)
#undef NAME
  };
  char dtype[32], among[48] = "", kind[16] = "";
  dsc_dtype_text(print->dtype, dtype, sizeof(dtype));
  if (print->operation == DSC_OPERATION_ALLREDUCE)
    (void)snprintf(kind, sizeof(kind), "(%s)",
                   print->kind < DSC_NUM_REDUCES ? dsc_reduce_kind_name((dsc_reduce_kind)print->kind) : "?");
  if (communicator == 0) (void)snprintf(among, sizeof(among), " among all %d workers", size);
  if (communicator > 0)
    (void)snprintf(among, sizeof(among), " among the %d workers of group %d", size, communicator - 1);
  (void)snprintf(text, room, "%s%s of %s[%" PRIu64 "]%s",
                 print->operation < sizeof(names) / sizeof(names[0]) ? names[print->operation] : "?", kind, dtype,
                 print->count, among);
}

static void own_text(const dsc_comm *comm, const dsc_print *print, char *text, size_t room) {
  dsc_print_text(print, comm->id, comm->size, text, room);
}

static void read_print(const dsc_print_line *line, dsc_print *ret_print) {
  uint32_t meta = dsc_load_relaxed(&line->meta);
  ret_print->dtype = dsc_dtype_unpack(dsc_load_relaxed(&line->dtype));
  ret_print->operation = (dsc_operation)(meta & 0xff);
  ret_print->kind = meta >> 8;
  ret_print->count = dsc_load_relaxed(&line->count);
}

/* ---- Keys: epoch 8 bits, counter 24, hash 32 ---- */

static uint32_t pack_meta(const dsc_print *print) { return (uint32_t)print->operation | print->kind << 8; }

static uint64_t make_key(const dsc_comm *comm, const dsc_print *print) {
  /* Three products side by side, then one more to spread them: each of the words changes all upper bits. */
  uint64_t what = (uint64_t)pack_meta(print) << 32 | dsc_dtype_pack(print->dtype);
  uint64_t hash = print->count * 0x9e3779b97f4a7c15u ^ what * 0xc2b2ae3d27d4eb4fu ^
                  (*comm->host->sequence ^ comm->tuning << 32) * 0x165667b19e3779f9u;
  hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u;
  return (comm->epoch_mark & 0xff) << 56 | ((comm->counter + 1) & 0xffffff) << 32 | (hash >> 32);
}

typedef enum { ABSENT, HERE, OTHER } presence;

/* Is `rank` in operation `counter`, which has this key for us? */
static inline presence presence_of(const dsc_comm *comm, uint64_t counter, uint64_t key, int32_t rank) {
  const dsc_entry_line *entry = dsc_comm_entry_at(comm, counter, rank);
  uint64_t seen = dsc_load_acquire(&entry->key); /* acquire: entry.key */
  if (DSC_LIKELY(seen == key && counter > 1)) return HERE;
  if (seen >> 32 != key >> 32) return ABSENT;
  if (counter > 1) return OTHER;
  /* The first two of an epoch may find a line that is a multiple of 256 epochs old. Its owner wipes it before it says
   * which epoch it has come to, so: key, epoch, key again. */
  const dsc_print_line *print = &comm->lines[rank].print[counter & 1];
  if (dsc_load_acquire(&print->epoch) != comm->epoch_mark) return ABSENT; /* acquire: print.epoch */
  if (dsc_load_acquire(&entry->key) != seen) return ABSENT;               /* acquire: entry.key */
  return seen == key ? HERE : OTHER;
}

bool dsc_comm_is_entered(const dsc_comm *comm, uint64_t counter, int32_t rank) {
  uint64_t seen = dsc_load_acquire(&dsc_comm_entry_at(comm, counter, rank)->key); /* acquire: entry.key */
  return seen >> 32 == ((comm->epoch_mark & 0xff) << 24 | ((counter + 1) & 0xffffff));
}

/* ---- The cause: the first rank that gives up in an epoch writes it for all ---- */

static void tell_cause(dsc_comm *comm, const char *text) {
  dsc_comm_head *head = comm->head;
  uint64_t claimed = dsc_load_relaxed(&head->cause_claimed);
  if (claimed >= comm->epoch_mark || !dsc_cas(&head->cause_claimed, &claimed, comm->epoch_mark)) return;
  char words[DSC_CCL_CAUSE] = "";
  (void)snprintf(words, sizeof(words), "%s", text);
  for (size_t i = 0; i < DSC_CCL_CAUSE / 8; i++) {
    uint64_t word;
    memcpy(&word, words + i * 8, 8);
    dsc_store_relaxed(&head->cause[i], word);
  }
  dsc_store_relaxed(&head->cause_worker, (uint32_t)comm->host->worker);
  dsc_store_release(&head->cause_told, comm->epoch_mark); /* release: head.cause_told */
}

/* It was claimed before the mark that brought us here, or is about to be there: a short while is enough. */
static bool read_cause(const dsc_comm *comm, char text[DSC_CCL_CAUSE]) {
  enum { LOOKS = 100000 };
  int looks = 0;
  while (dsc_load_acquire(&comm->head->cause_told) != comm->epoch_mark) { /* acquire: head.cause_told */
    if (++looks == LOOKS) return false;
    dsc_cpu_relax();
  }
  for (size_t i = 0; i < DSC_CCL_CAUSE / 8; i++) {
    uint64_t word = dsc_load_relaxed(&comm->head->cause[i]);
    memcpy(text + i * 8, &word, 8);
  }
  text[DSC_CCL_CAUSE - 1] = 0;
  return true;
}

/* ---- Errors ---- */

static const char *moved_text(const dsc_comm *comm) {
  return comm->has_moved ? "; the output is undefined" : "; no byte of a tensor has moved";
}

/* We leave because of somebody else: the error counts as the cause only when nothing else failed. */
static DSC_COLD disco_status released(dsc_comm *comm, const char *why) {
  char what[160];
  own_text(comm, &comm->print, what, sizeof(what));
  comm->host->released_at = *comm->host->sequence;
  return dsc_fail(DISCO_COLLECTIVE, "worker %d left the %s: %s%s", comm->host->worker, what, why, moved_text(comm));
}

static DSC_COLD disco_status released_by_mark(dsc_comm *comm, int32_t rank) {
  comm->culprit = rank;
  char cause[DSC_CCL_CAUSE], why[DSC_CCL_CAUSE + 64];
  if (read_cause(comm, cause))
    (void)snprintf(why, sizeof(why), "worker %d left first (%s)", comm->first + rank, cause);
  else
    (void)snprintf(why, sizeof(why), "worker %d left first", comm->first + rank);
  return released(comm, why);
}

static DSC_COLD disco_status released_by_failure(dsc_comm *comm, int32_t worker, const dsc_member_state *state) {
  char why[DSC_CCL_CAUSE + 96];
  dsc_rank_why(comm->host, worker, state, why, sizeof(why));
  return released(comm, why);
}

/* A member ended the command without coming: nobody failed, so this is a cause of its own. */
static DSC_COLD disco_status went_past(dsc_comm *comm, int32_t rank) {
  char what[160];
  own_text(comm, &comm->print, what, sizeof(what));
  return dsc_fail(DISCO_COLLECTIVE,
                  "worker %d waited in the %s, but worker %d has finished command %" PRIu64
                  " without coming to it: all members must call the same collectives in the same command%s",
                  comm->host->worker, what, comm->first + rank, *comm->host->sequence, moved_text(comm));
}

static DSC_COLD disco_status mismatched(dsc_comm *comm, uint64_t counter, const dsc_print *mine, int32_t rank) {
  char ours[160], theirs[160], where[64] = "";
  dsc_print other;
  const dsc_print_line *line = &comm->lines[rank].print[counter & 1];
  uint64_t sequence = dsc_load_relaxed(&line->sequence), own = *comm->host->sequence;
  read_print(line, &other);
  own_text(comm, mine, ours, sizeof(ours));
  own_text(comm, &other, theirs, sizeof(theirs));
  if (sequence != own && counter == comm->counter)
    (void)snprintf(where, sizeof(where), " in command %" PRIu64 " (here it is %" PRIu64 ")", sequence, own);
  return dsc_fail(DISCO_COLLECTIVE,
                  "mismatched collectives: worker %d called the %s, worker %d the %s%s: all members must call the same "
                  "function with the same sizes, dtypes and kind in the same command, with the same settings%s",
                  comm->host->worker, ours, comm->first + rank, theirs, where, moved_text(comm));
}

static DSC_COLD disco_status timed_out(dsc_comm *comm, int32_t rank) {
  char what[160];
  own_text(comm, &comm->print, what, sizeof(what));
  return dsc_fail(DISCO_TIMEOUT, "worker %d waited %" PRId64 " ms for worker %d in the %s (collective_timeout)%s",
                  comm->host->worker, comm->host->timeout_ms, comm->first + rank, what, moved_text(comm));
}

/* ---- Waiting ---- */

typedef enum { FOR_ENTRIES, FOR_FLAG, FOR_EPOCH, FOR_LEAVERS, FOR_CULPRIT } wait_kind;

typedef struct {
  dsc_wait wait;
  dsc_guard guard;
  dsc_comm *comm;
  wait_kind kind;
  int32_t first, next, end; /* the ranks that are waited for, and still are: a flag has one */
  uint64_t counter, key;
  const _Atomic uint64_t *flag;
  uint64_t value;
  uint64_t failures_seen;
  dsc_deadlock_watch deadlock;
  bool is_counted;
} comm_wait;

static dsc_member_state look(const dsc_comm *comm, int32_t rank) {
  return comm->host->look(comm->host, comm->first + rank);
}

/* It can touch nothing of ours any more, or never came. */
static bool has_left(const dsc_comm *comm, int32_t rank) {
  const dsc_rank_lines *lines = &comm->lines[rank];
  return presence_of(comm, comm->counter, comm->key, rank) != HERE ||
         dsc_load_acquire(&dsc_comm_finished(comm, rank)->value) > comm->counter || /* acquire: finished */
         dsc_load_acquire(&lines->abort_epoch) >= comm->epoch_mark ||               /* acquire: rank.abort_epoch */
         look(comm, rank).is_dead || look(comm, rank).done >= *comm->host->sequence;
}

/* Its failure is there to be told, or will never be. */
static bool has_failed(const dsc_comm *comm, int32_t rank) {
  dsc_member_state state = look(comm, rank);
  return state.failed != 0 || state.is_dead || state.is_later || state.done >= *comm->host->sequence;
}

static bool is_satisfied(comm_wait *self, int32_t rank) {
  dsc_comm *comm = self->comm;
  if (rank == comm->rank) return true;
  switch (self->kind) {
  case FOR_FLAG: return dsc_load_acquire(self->flag) >= self->value; /* acquire: whatever flag it is */
  case FOR_EPOCH: return look(comm, rank).done >= *comm->host->resumed;
  case FOR_LEAVERS: return has_left(comm, rank);
  case FOR_CULPRIT: return has_failed(comm, rank);
  default: break;
  }
  presence is = presence_of(comm, self->counter, self->key, rank);
  if (is == OTHER) comm->mismatched = rank;
  return is != ABSENT;
}

static bool is_ready(dsc_wait *wait) {
  comm_wait *self = (comm_wait *)wait;
  while (self->next < self->end && is_satisfied(self, self->next) && self->comm->mismatched < 0) self->next++;
  return self->next == self->end || self->comm->mismatched >= 0;
}

/* The marks of members that gave up at this operation or before. One of a later epoch counts too: its owner has left
 * this operation as well. One at a later operation does not count yet, and is not forgotten. */
static disco_status look_at_marks(dsc_comm *comm) {
  uint64_t aborts = dsc_load_acquire(&comm->head->aborts); /* acquire: head.aborts */
  bool is_ahead = false;
  if (aborts == comm->aborts_seen) return DISCO_OK;
  for (int32_t i = 0; i < comm->size; i++) {
    const dsc_rank_lines *lines = &comm->lines[i];
    uint64_t epoch = dsc_load_acquire(&lines->abort_epoch); /* acquire: rank.abort_epoch */
    if (i == comm->rank || epoch < comm->epoch_mark) continue;
    if (epoch > comm->epoch_mark || dsc_load_relaxed(&lines->abort_counter) <= comm->counter)
      return released_by_mark(comm, i);
    is_ahead = true;
  }
  if (!is_ahead) comm->aborts_seen = aborts;
  return DISCO_OK;
}

/* Somebody failed or died since we looked last. Who failed at an earlier command makes members skip this one. */
static disco_status look_at_failures(comm_wait *self) {
  const dsc_ccl_host *host = self->comm->host;
  uint64_t failures = dsc_load_acquire(host->failures); /* acquire: segment.failures */
  if (failures == self->failures_seen) return DISCO_OK;
  bool any = false;
  for (int32_t i = 0; i < host->num_workers; i++) {
    dsc_member_state state = host->look(host, i);
    if (state.failed != 0 && state.failed < *host->sequence) return released_by_failure(self->comm, i, &state);
    any = any || state.failed != 0;
  }
  self->failures_seen = failures;
  if (!any) self->comm->failures_seen = failures;
  return DISCO_OK;
}

/* A rank that we wait for will not come. */
static disco_status look_at_awaited(comm_wait *self) {
  dsc_comm *comm = self->comm;
  if (self->kind == FOR_EPOCH) { /* whoever lives gets there */
    for (int32_t i = self->next; i < self->end; i++) {
      dsc_member_state state = look(comm, i);
      if (i != comm->rank && state.is_dead) return released_by_failure(comm, comm->first + i, &state);
    }
    return DISCO_OK;
  }
  for (int32_t i = self->next; i < self->end; i++) {
    if (i == comm->rank) continue;
    dsc_member_state state = look(comm, i);
    bool gone = state.is_dead || state.is_later || state.failed != 0 || state.done >= *comm->host->sequence;
    if (!gone || is_satisfied(self, i)) continue;
    return state.is_dead || state.is_later || state.failed != 0 ? released_by_failure(comm, comm->first + i, &state)
                                                                : went_past(comm, i);
  }
  return DISCO_OK;
}

static disco_status check(dsc_guard *guard) {
  comm_wait *self = (comm_wait *)((char *)guard - offsetof(comm_wait, guard));
  dsc_comm *comm = self->comm;
  disco_status status = look_at_marks(comm);
  if (status == DISCO_OK) status = look_at_failures(self);
  if (status == DISCO_OK) status = look_at_awaited(self);
  if (status == DISCO_OK && dsc_rank_is_over(comm->host)) status = released(comm, "the session is ending");
  return status;
}

static disco_status tick(dsc_guard *guard) {
  comm_wait *self = (comm_wait *)((char *)guard - offsetof(comm_wait, guard));
  guard->tick_ns = dsc_rank_next_tick(guard->tick_ns);
  if (self->kind == FOR_EPOCH) return DISCO_OK;
  return dsc_deadlock_look(&self->deadlock, self->comm->host, self->comm->epoch_mark);
}

static void arm(dsc_wait *wait) {
  comm_wait *self = (comm_wait *)wait;
  dsc_comm *comm = self->comm;
  dsc_ccl_host *host = comm->host;
  if (!self->is_counted) {
    self->is_counted = true;
    dsc_rank_sleeps(host);
    int32_t only = self->kind == FOR_ENTRIES && self->end - self->first == 1 ? comm->first + self->first : -1;
    if (self->kind != FOR_EPOCH) /* its entries are of no epoch yet; whoever lives gets there */
      dsc_note_wait(comm->note, *host->sequence, comm->id, only, self->counter, &comm->print);
  }
  uint64_t until = self->kind == FOR_EPOCH ? *host->resumed : *host->sequence;
  for (int32_t i = self->next; i < self->end; i++)
    if (i != comm->rank) host->await(host, comm->first + i, until);
}

static void wait_over(comm_wait *self) {
  dsc_ccl_host *host = self->comm->host;
  dsc_rank_note *note = self->comm->note;
  if (self->wait.sleeps > 0) dsc_bump(&note->sleeps, self->wait.sleeps);
  if (!self->is_counted) return;
  dsc_rank_woke(host);
  if (self->kind != FOR_EPOCH) dsc_note_end(note);
}

static disco_status run_wait(comm_wait *self) {
  dsc_comm *comm = self->comm;
  const dsc_ccl_host *host = comm->host;
  const uint64_t released_at = comm->host->released_at;
  if (is_ready(&self->wait)) return DISCO_OK;
  self->first = self->next;
  self->wait.ready = is_ready;
  self->wait.arm = arm;
  self->wait.doorbell = host->bell(host, host->worker);
  self->guard.deadline_ns = DSC_NO_DEADLINE;
  self->failures_seen = comm->failures_seen;
  if (self->kind == FOR_CULPRIT) {
    self->guard.deadline_ns = dsc_clock_deadline_ns(DSC_RANK_CULPRIT_MS);
  } else if (self->kind != FOR_LEAVERS) {
    self->guard.check = check;
    self->guard.tick = tick;
    self->guard.tick_ns = DSC_RANK_FIRST_TICK_NS;
    if (host->timeout_ms >= 0) self->guard.deadline_ns = dsc_clock_deadline_ns(host->timeout_ms);
  }
  disco_status status = dsc_wait_until(&self->wait, comm->patience, &self->guard);
  wait_over(self);
  if (status != DISCO_OK && is_ready(&self->wait)) { /* it came at the last moment: nothing was left after all */
    if (self->kind != FOR_LEAVERS && self->kind != FOR_CULPRIT) {
      comm->host->released_at = released_at;
      comm->culprit = -1;
    }
    return DISCO_OK;
  }
  if (status == DISCO_OK) return DISCO_OK;
  return status == DISCO_TIMEOUT && self->kind != FOR_CULPRIT ? timed_out(comm, self->next) : status;
}

static disco_status wait_for(dsc_comm *comm, wait_kind kind, int32_t first, int32_t end) {
  comm_wait wait = {.comm = comm, .kind = kind, .next = first, .end = end, .counter = comm->counter, .key = comm->key};
  return run_wait(&wait);
}

/* Looks before a wait is set up at all, about a microsecond: most flags are there by then. Only while all ranks have a
 * CPU of their own. */
static inline int first_looks(const dsc_comm *comm) { return comm->patience->max_spin_ns > 0 ? 48 : 1; }

disco_status dsc_comm_wait(dsc_comm *comm, int32_t rank, const _Atomic uint64_t *flag, uint64_t value) {
  for (int looks = first_looks(comm); looks > 0; looks--) {
    if (dsc_load_acquire(flag) >= value) return DISCO_OK; /* acquire: whatever flag it is */
    dsc_cpu_relax();
  }
  comm_wait wait = {.comm = comm,
                    .kind = FOR_FLAG,
                    .next = rank,
                    .end = rank + 1,
                    .counter = comm->counter,
                    .key = comm->key,
                    .flag = flag,
                    .value = value};
  return run_wait(&wait);
}

/* ---- Waking ---- */

/* After the news: whoever sleeps for it counted itself before it looked. */
static void wake(dsc_comm *comm, int32_t rank) {
  const dsc_ccl_host *host = comm->host;
  dsc_fence();
  if (DSC_LIKELY(dsc_load_relaxed(host->sleepers) == 0)) return;
  int32_t first = rank == DSC_COMM_ALL ? 0 : rank, end = rank == DSC_COMM_ALL ? comm->size : rank + 1;
  for (int32_t i = first; i < end; i++)
    if (i != comm->rank) dsc_rank_ring(host, comm->first + i);
}

void dsc_comm_set(dsc_comm *comm, int32_t rank, _Atomic uint64_t *flag, uint64_t value) {
  dsc_store_release(flag, value); /* release: whatever flag it is */
  wake(comm, rank);
}

/* ---- An operation ---- */

/* The first operation after a resume record: counters and lines start anew. */
static DSC_COLD disco_status begin_epoch(dsc_comm *comm) {
  dsc_rank_lines *mine = &comm->lines[comm->rank];
  comm->epoch_mark = *comm->host->epoch + 1;
  comm->counter = comm->met = comm->filled = 0;
  comm->key = comm->last_key = 0;
  comm->aborted = false;
  comm->aborts_seen = UINT64_MAX; /* look at the marks once */
  comm->failures_seen = UINT64_MAX;
  disco_status status = wait_for(comm, FOR_EPOCH, 0, comm->size);
  if (status != DISCO_OK) return status;
  for (int32_t i = 0; i < 2; i++) {
    dsc_store_relaxed(&mine->entry[i].key, 0);
    dsc_store_relaxed(&mine->finished[i].value, 0);
  }
  for (int32_t i = 0; i < DSC_CCL_BUFFERS; i++) dsc_store_relaxed(&mine->full[i].value, 0);
  dsc_store_relaxed(&mine->reduced.value, 0);
  dsc_store_relaxed(&mine->taken.value, 0);
  return DISCO_OK;
}

static DSC_COLD disco_status still_aborted(dsc_comm *comm) {
  char cause[DSC_CCL_CAUSE];
  return released(comm, read_cause(comm, cause) ? cause : "an earlier operation of this epoch failed");
}

/* The last operation did not wait for all members' entries: they must be there before their lines are written again. */
static disco_status catch_up(dsc_comm *comm) {
  comm_wait wait = {
      .comm = comm, .kind = FOR_ENTRIES, .end = comm->size, .counter = comm->counter - 1, .key = comm->last_key};
  disco_status status = run_wait(&wait);
  if (status != DISCO_OK) return status;
  if (comm->mismatched >= 0) return mismatched(comm, comm->counter - 1, &comm->last_print, comm->mismatched);
  comm->met = comm->counter;
  return DISCO_OK;
}

disco_status dsc_comm_begin(dsc_comm *comm, const dsc_print *print) {
  disco_status status = DISCO_OK;
  comm->print = *print;
  comm->mismatched = comm->culprit = -1;
  comm->is_exposed = comm->has_posted = comm->has_moved = false;
  DSC_POINT("collective.begin");
  if (DSC_UNLIKELY(*comm->host->epoch + 1 != comm->epoch_mark)) status = begin_epoch(comm);
  if (DSC_UNLIKELY(status == DISCO_OK && comm->aborted)) status = still_aborted(comm);
  if (DSC_UNLIKELY(status == DISCO_OK && comm->met < comm->counter)) status = catch_up(comm);
  return status;
}

disco_status dsc_comm_post(dsc_comm *comm, const void *payload, size_t bytes, bool exposed) {
  const dsc_print *print = &comm->print;
  dsc_print_line *line = &comm->lines[comm->rank].print[comm->counter & 1];
  dsc_entry_line *entry = dsc_comm_entry(comm, comm->rank);
  comm->key = make_key(comm, print);
  dsc_store_relaxed(&line->sequence, *comm->host->sequence);
  dsc_store_relaxed(&line->count, print->count);
  dsc_store_relaxed(&line->dtype, dsc_dtype_pack(print->dtype));
  dsc_store_relaxed(&line->meta, pack_meta(print));
  dsc_store_release(&line->epoch, comm->epoch_mark); /* release: print.epoch */
  dsc_copy_few(entry->payload, payload, bytes);
  dsc_copy_few(comm->posted, payload, bytes);
  comm->has_posted = true;
  comm->is_exposed = exposed;
  dsc_store_release(&entry->key, comm->key); /* release: entry.key */
  wake(comm, DSC_COMM_ALL);                  /* with the fence between our entry and the marks of others */
  DSC_POINT("collective.entered");
  return DSC_UNLIKELY(dsc_load_relaxed(&comm->head->aborts) != comm->aborts_seen) ? look_at_marks(comm) : DISCO_OK;
}

disco_status dsc_comm_meet(dsc_comm *comm, int32_t rank) {
  bool all = rank == DSC_COMM_ALL;
  int32_t next = all ? 0 : rank, end = all ? comm->size : rank + 1;
  for (int looks = first_looks(comm); looks > 0; looks--) {
    while (next < end && (next == comm->rank || presence_of(comm, comm->counter, comm->key, next) == HERE)) next++;
    if (next == end) break;
    dsc_cpu_relax();
  }
  disco_status status = next == end ? DISCO_OK : wait_for(comm, FOR_ENTRIES, next, end);
  if (DSC_UNLIKELY(status != DISCO_OK)) return status;
  if (DSC_UNLIKELY(comm->mismatched >= 0)) return mismatched(comm, comm->counter, &comm->print, comm->mismatched);
  if (all) comm->met = comm->counter + 1;
  return DISCO_OK;
}

disco_status dsc_comm_check(dsc_comm *comm) {
  disco_status status = look_at_marks(comm);
  if (status == DISCO_OK && dsc_rank_is_over(comm->host)) status = released(comm, "the session is ending");
  return status;
}

void dsc_comm_finish(dsc_comm *comm) {
  DSC_POINT("collective.before_finished");
  dsc_comm_set(comm, DSC_COMM_ALL, &dsc_comm_finished(comm, comm->rank)->value, comm->counter + 1);
}

disco_status dsc_comm_settle(dsc_comm *comm) {
  for (int32_t i = 0; i < comm->size; i++) {
    if (i == comm->rank) continue;
    disco_status status = dsc_comm_wait(comm, i, &dsc_comm_finished(comm, i)->value, comm->counter + 1);
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}

/* Tell the others, then stay until nobody can touch our tensors. The thread's error stays what it is. */
static DSC_COLD void give_up(dsc_comm *comm) {
  dsc_rank_lines *mine = &comm->lines[comm->rank];
  const dsc_error *error = dsc_thread_error();
  tell_cause(comm, error != NULL && error->message != NULL ? error->message : "no memory");
  dsc_store_relaxed(&mine->abort_counter, comm->counter);
  dsc_store_release(&mine->abort_epoch, comm->epoch_mark); /* release: rank.abort_epoch */
  atomic_fetch_add(&comm->head->aborts, 1); /* release: head.aborts; and a fence before we look at entries */
  wake(comm, DSC_COMM_ALL);
  DSC_POINT("collective.aborted");
  if (comm->is_exposed && comm->has_posted) {
    comm->mismatched = -1;
    (void)wait_for(comm, FOR_LEAVERS, 0, comm->size);
  }
  /* Ours is only the echo: let the cause be written first. It takes the culprit microseconds, unless it goes on. */
  if (comm->culprit >= 0) (void)wait_for(comm, FOR_CULPRIT, comm->culprit, comm->culprit + 1);
  comm->aborted = true;
}

disco_status dsc_comm_end(dsc_comm *comm, disco_status status) {
  if (DSC_UNLIKELY(status != DISCO_OK)) {
    give_up(comm);
    return status;
  }
  comm->last_key = comm->key;
  comm->last_print = comm->print;
  comm->counter++;
  return DISCO_OK;
}

void dsc_comm_init(dsc_comm *comm, dsc_ccl_host *host, const dsc_plane_layout *layout, int32_t id,
                   dsc_patience *patience) {
  char *base = host->memory + (id == 0 ? layout->world : layout->groups + (uint64_t)(id - 1) * layout->group_stride);
  int32_t size = id == 0 ? layout->num_workers : layout->group_size;
  uint64_t lines_bytes = sizeof(dsc_comm_head) + (uint64_t)size * sizeof(dsc_rank_lines);
  *comm = (dsc_comm){.host = host,
                     .id = id,
                     .first = id == 0 ? 0 : (id - 1) * layout->group_size,
                     .size = size,
                     .head = (dsc_comm_head *)base,
                     .lines = (dsc_rank_lines *)(base + sizeof(dsc_comm_head)),
                     .staging = base + (lines_bytes + 4095) / 4096 * 4096,
                     .staging_bytes = layout->staging_bytes,
                     .chunk_bytes = layout->chunk_bytes,
                     .note = (dsc_rank_note *)(host->memory + layout->notes) + host->worker,
                     .patience = patience,
                     .mismatched = -1,
                     .culprit = -1};
  comm->rank = host->worker - comm->first;
}
