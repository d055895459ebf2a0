#include "ccl/pair.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/inject.h"
#include "ccl/address.h"
#include "ccl/deadlock.h"
#include "ccl/dtype.h"
#include "ccl/rank.h"
#include "os/copy.h"

bool dsc_pair_is_sent(const dsc_pair_lines *pair, uint64_t mark, uint64_t number) {
  const dsc_send_slot *slot = &pair->slot[(number - 1) % DSC_CCL_EAGER_SLOTS];
  /* A number of an older epoch is wiped before the slot's epoch changes: number, epoch, number. */
  return dsc_load_acquire(&slot->number) == number && /* acquire: slot.number */
         dsc_load_acquire(&slot->epoch) == mark &&    /* acquire: slot.epoch */
         dsc_load_acquire(&slot->number) == number;   /* acquire: slot.number */
}

/* One of the receiver's words, 0 unless it is of this epoch. */
static uint64_t receivers(const dsc_pair_lines *pair, uint64_t mark, const _Atomic uint64_t *word) {
  if (dsc_load_acquire(&pair->received_epoch) != mark) return 0; /* acquire: pair.received_epoch */
  uint64_t value = dsc_load_acquire(word);                       /* acquire: pair.received, pair.drained, ... */
  return dsc_load_acquire(&pair->received_epoch) == mark ? value : 0;
}

bool dsc_pair_is_received(const dsc_pair_lines *pair, uint64_t mark, uint64_t number) {
  return receivers(pair, mark, &pair->received) >= number;
}

/* ---- Waiting ---- */

typedef struct pair_wait pair_wait;
struct pair_wait {
  dsc_wait wait;
  dsc_guard guard;
  dsc_pairs *pairs;
  dsc_pair_lines *lines;
  bool (*holds)(const pair_wait *self);
  int32_t peer;
  uint64_t mark, value;
  uint64_t number; /* of the send */
  const dsc_print *print;
  bool has_moved;
  uint64_t failures_seen; /* all up to this count were looked at */
  int32_t culprit;        /* who failed first, -1: nobody */
  uint64_t awaited;       /* its command, after which the peer cannot help us any more; UINT64_MAX: nobody failed */
  dsc_deadlock_watch deadlock;
  bool is_counted;
};

static bool is_sent(const pair_wait *self) { return dsc_pair_is_sent(self->lines, self->mark, self->value); }
static bool is_received(const pair_wait *self) { return dsc_pair_is_received(self->lines, self->mark, self->value); }
static bool is_drained(const pair_wait *self) {
  return receivers(self->lines, self->mark, &self->lines->drained) >= self->value;
}
static bool is_filled(const pair_wait *self) {
  return dsc_load_acquire(&self->lines->filled) >= self->value; /* acquire: pair.filled */
}
static dsc_member_state peer_state(const pair_wait *self) {
  return self->pairs->host->look(self->pairs->host, self->peer);
}
static bool is_in_epoch(const pair_wait *self) { return peer_state(self).done >= *self->pairs->host->resumed; }
/* It reads our tensor no more, or has come to another epoch. */
static bool has_left(const pair_wait *self) {
  return is_received(self) ||
         dsc_load_acquire(&self->lines->received_epoch) != self->mark || /* acquire: received_epoch */
         peer_state(self).is_dead;
}

/* Its failure is there to be told, or will never be. */
static bool has_failed(const pair_wait *self) {
  dsc_member_state state = peer_state(self);
  return state.failed != 0 || state.is_dead || state.is_later;
}

static bool is_ready(dsc_wait *wait) {
  const pair_wait *self = (pair_wait *)wait;
  return self->holds(self);
}

static DSC_COLD disco_status released(const pair_wait *self, const char *why) {
  dsc_ccl_host *host = self->pairs->host;
  char what[160];
  dsc_print_text(self->print, -1, 0, what, sizeof(what));
  host->released_at = *host->sequence;
  return dsc_fail(DISCO_COLLECTIVE, "worker %d left the %s %s worker %d: %s%s", host->worker, what,
                  self->print->operation == DSC_OPERATION_SEND ? "to" : "from", self->peer, why,
                  self->has_moved ? "; the output is undefined" : "; no byte of a tensor has moved");
}

static DSC_COLD disco_status released_by(const pair_wait *self, int32_t worker, const dsc_member_state *state) {
  char why[DSC_CCL_CAUSE + 96];
  dsc_rank_why(self->pairs->host, worker, state, why, sizeof(why));
  return released(self, why);
}

/* The first failure of our epoch, of any worker; all of them are asked only when there is a new one. */
static void find_first_failure(pair_wait *self) {
  const dsc_ccl_host *host = self->pairs->host;
  uint64_t failures = dsc_load_acquire(host->failures), first = UINT64_MAX; /* acquire: segment.failures */
  if (failures == self->failures_seen) return;
  self->failures_seen = failures;
  for (int32_t i = 0; i < host->num_workers; i++) {
    dsc_member_state state = host->look(host, i);
    if (state.failed == 0 || state.failed >= first) continue;
    first = state.failed;
    self->culprit = i;
  }
  if (first == self->awaited) return;
  self->awaited = first; /* between arming and sleeping, too: what its done number would wake is armed first */
  host->await(host, self->peer, first);
  dsc_fence();
}

/* A failure anywhere makes everybody skip what comes after it: once the peer has done that command it will not send or
 * receive in this epoch. */
static disco_status look_at_failures(pair_wait *self) {
  const dsc_ccl_host *host = self->pairs->host;
  find_first_failure(self);
  if (self->culprit < 0) return DISCO_OK;
  if (self->awaited >= *host->sequence && peer_state(self).done < self->awaited) return DISCO_OK;
  if (self->holds(self)) return DISCO_OK;
  dsc_member_state state = host->look(host, self->culprit);
  return released_by(self, self->culprit, &state);
}

static disco_status check(dsc_guard *guard) {
  pair_wait *self = (pair_wait *)((char *)guard - offsetof(pair_wait, guard));
  const dsc_ccl_host *host = self->pairs->host;
  dsc_member_state state = peer_state(self);
  bool gone = state.is_dead || (self->holds != is_in_epoch && (state.is_later || state.failed != 0));
  if (gone && !self->holds(self)) return released_by(self, self->peer, &state);
  if (dsc_rank_is_over(host)) return released(self, "the session is ending");
  return look_at_failures(self);
}

static disco_status tick(dsc_guard *guard) {
  pair_wait *self = (pair_wait *)((char *)guard - offsetof(pair_wait, guard));
  guard->tick_ns = dsc_rank_next_tick(guard->tick_ns);
  if (self->holds == is_in_epoch) return DISCO_OK; /* whoever lives gets there */
  return dsc_deadlock_look(&self->deadlock, self->pairs->host, self->mark);
}

static void arm(dsc_wait *wait) {
  pair_wait *self = (pair_wait *)wait;
  const dsc_ccl_host *host = self->pairs->host;
  if (!self->is_counted) {
    self->is_counted = true;
    dsc_rank_sleeps(host);
    uint64_t number = self->holds == is_received ? self->value : self->number;
    if (self->holds != is_in_epoch)
      dsc_note_wait(self->pairs->note, *host->sequence, -1, self->peer, number, self->print);
  }
  if (self->holds == is_in_epoch)
    host->await(host, self->peer, *host->resumed);
  else if (self->awaited != UINT64_MAX)
    host->await(host, self->peer, self->awaited);
}

static disco_status wait_for(pair_wait *self, bool (*holds)(const pair_wait *), uint64_t value) {
  const dsc_ccl_host *host = self->pairs->host;
  self->holds = holds;
  self->value = value;
  const uint64_t released_at = host->released_at;
  if (holds(self)) return DISCO_OK;
  self->failures_seen = self->awaited = UINT64_MAX; /* no count: look once */
  self->culprit = -1;
  self->is_counted = false;
  self->wait = (dsc_wait){.ready = is_ready, .arm = arm, .doorbell = host->bell(host, host->worker)};
  self->guard = (dsc_guard){.deadline_ns = DSC_NO_DEADLINE};
  if (holds == has_failed) {
    self->guard.deadline_ns = dsc_clock_deadline_ns(DSC_RANK_CULPRIT_MS);
  } else if (holds != has_left) {
    self->guard.check = check;
    self->guard.tick = tick;
    self->guard.tick_ns = DSC_RANK_FIRST_TICK_NS;
    if (host->timeout_ms >= 0) self->guard.deadline_ns = dsc_clock_deadline_ns(host->timeout_ms);
  }
  disco_status status = dsc_wait_until(&self->wait, self->pairs->patience, &self->guard);
  if (self->wait.sleeps > 0) dsc_bump(&self->pairs->note->sleeps, self->wait.sleeps);
  if (self->is_counted) {
    dsc_rank_woke(host);
    if (holds != is_in_epoch) dsc_note_end(self->pairs->note);
  }
  if (status == DISCO_OK) return DISCO_OK;
  if (holds(self)) { /* it came at the last moment: nothing was left after all */
    if (holds != has_left && holds != has_failed) self->pairs->host->released_at = released_at;
    return DISCO_OK;
  }
  if (status != DISCO_TIMEOUT || holds == has_failed) return status;
  char what[160];
  dsc_print_text(self->print, -1, 0, what, sizeof(what));
  return dsc_fail(DISCO_TIMEOUT, "worker %d waited %" PRId64 " ms for worker %d in the %s (collective_timeout)",
                  host->worker, host->timeout_ms, self->peer, what);
}

static void set(const pair_wait *self, _Atomic uint64_t *word, uint64_t value) {
  const dsc_ccl_host *host = self->pairs->host;
  dsc_store_release(word, value); /* release: slot.number, pair.filled, pair.drained, pair.received */
  dsc_fence();
  if (dsc_load_relaxed(host->sleepers) != 0) dsc_rank_ring(host, self->peer);
}

/* ---- Sending ---- */

static pair_wait begin(dsc_pairs *pairs, int32_t peer, const dsc_print *print, bool sends) {
  int32_t me = pairs->host->worker;
  return (pair_wait){.pairs = pairs,
                     .lines = dsc_pair_at(pairs->host->memory, pairs->layout, sends ? me : peer, sends ? peer : me),
                     .peer = peer,
                     .mark = *pairs->host->epoch + 1,
                     .print = print};
}

/* The first send of an epoch: the receiver must have left the last one, it may still be reading a slot. */
static disco_status begin_sending(pair_wait *self, dsc_pair_counts *counts) {
  if (DSC_LIKELY(counts->send_mark == self->mark)) return DISCO_OK;
  self->number = 1;
  disco_status status = wait_for(self, is_in_epoch, 0);
  if (status != DISCO_OK) return status;
  counts->send_mark = self->mark;
  counts->sent = counts->filled = 0;
  for (int i = 0; i < DSC_CCL_EAGER_SLOTS; i++) dsc_store_release(&self->lines->slot[i].number, 0);
  dsc_store_relaxed(&self->lines->filled, 0);
  dsc_store_relaxed(&self->lines->withdrawn, 0);
  return DISCO_OK;
}

static char *eager_buffer(const pair_wait *self, int32_t sender, int32_t receiver) {
  const dsc_plane_layout *layout = self->pairs->layout;
  uint64_t pair = (uint64_t)sender * (uint64_t)layout->num_workers + (uint64_t)receiver;
  uint64_t slot = (self->number - 1) % DSC_CCL_EAGER_SLOTS;
  return self->pairs->host->memory + layout->eager + (pair * DSC_CCL_EAGER_SLOTS + slot) * layout->eager_bytes;
}

static char *staging_buffer(const pair_wait *self, int32_t sender, uint64_t chunk) {
  const dsc_plane_layout *layout = self->pairs->layout;
  uint64_t buffer = (uint64_t)sender * DSC_CCL_BUFFERS + chunk % DSC_CCL_BUFFERS;
  return self->pairs->host->memory + layout->pair_staging + buffer * layout->chunk_bytes;
}

static void post(pair_wait *self, uint32_t how, uint64_t address) {
  dsc_send_slot *slot = &self->lines->slot[(self->number - 1) % DSC_CCL_EAGER_SLOTS];
  dsc_store_release(&slot->epoch, self->mark); /* release: slot.epoch */
  slot->count = self->print->count;
  slot->dtype = dsc_dtype_pack(self->print->dtype);
  slot->how = how;
  slot->address = address;
  set(self, &slot->number, self->number);
}

static DSC_COLD disco_status sides_differ(const pair_wait *self, uint64_t their_count, uint32_t their_dtype,
                                          const char *they) {
  char mine[160], theirs[160];
  dsc_print other = *self->print;
  other.operation = other.operation == DSC_OPERATION_SEND ? DSC_OPERATION_RECV : DSC_OPERATION_SEND;
  other.count = their_count;
  other.dtype = dsc_dtype_unpack(their_dtype);
  dsc_print_text(self->print, -1, 0, mine, sizeof(mine));
  dsc_print_text(&other, -1, 0, theirs, sizeof(theirs));
  return dsc_fail(DISCO_COLLECTIVE,
                  "mismatched transfer: worker %d called the %s, worker %d %s the %s: both sides must name the same "
                  "dtype and number of elements; no byte of a tensor has moved",
                  self->pairs->host->worker, mine, self->peer, they, theirs);
}

static disco_status was_taken(pair_wait *self) {
  disco_status status = wait_for(self, is_received, self->number);
  if (status != DISCO_OK) return status;
  if (receivers(self->lines, self->mark, &self->lines->refused) != self->number) return DISCO_OK;
  return sides_differ(self, dsc_load_relaxed(&self->lines->wanted_count), dsc_load_relaxed(&self->lines->wanted_dtype),
                      "met it with");
}

/* The receiver may be reading our tensor: leave only when it cannot any more. */
static disco_status withdraw(pair_wait *self, disco_status status) {
  dsc_store_release(&self->lines->withdrawn, self->number);
  dsc_fence(); /* withdrawn, then look whether it reads: pairs with the receiver's reading, fence, withdrawn */
  if (receivers(self->lines, self->mark, &self->lines->reading) == self->number)
    (void)wait_for(self, has_left, self->number);
  return status;
}

/* Staging memory is the sender's, whoever receives: a receiver of the last epoch may still be reading it. */
static disco_status begin_staging(const pair_wait *send) {
  dsc_pairs *pairs = send->pairs;
  if (pairs->staging_mark == send->mark) return DISCO_OK;
  for (int32_t i = 0; i < pairs->host->num_workers; i++) {
    pair_wait wait = *send;
    wait.peer = i;
    disco_status status = i == pairs->host->worker ? DISCO_OK : wait_for(&wait, is_in_epoch, 0);
    if (status != DISCO_OK) return status;
  }
  pairs->staging_mark = send->mark;
  return DISCO_OK;
}

static disco_status send_staged(pair_wait *self, dsc_pair_counts *counts, const char *data, uint64_t bytes) {
  uint64_t chunk = self->pairs->chunk_bytes, base = counts->filled;
  disco_status status = begin_staging(self);
  if (status != DISCO_OK) return status;
  post(self, DSC_SEND_STAGED, 0);
  for (uint64_t at = 0, step = base; at < bytes; at += chunk, step++) {
    /* A refusal shows as received. */
    if (step >= base + DSC_CCL_BUFFERS) {
      status = wait_for(self, is_drained, step - DSC_CCL_BUFFERS + 1);
      if (status != DISCO_OK) return status;
      if (dsc_pair_is_received(self->lines, self->mark, self->number)) break;
    }
    dsc_copy_to_peer(staging_buffer(self, self->pairs->host->worker, step), data + at, dsc_piece(bytes, at, chunk));
    DSC_POINT("collective.sending");
    set(self, &self->lines->filled, step + 1);
  }
  counts->filled = base + (bytes + chunk - 1) / chunk;
  return was_taken(self);
}

static disco_status send(dsc_pairs *pairs, int32_t peer, const dsc_print *print, const char *data, uint64_t bytes) {
  pair_wait self = begin(pairs, peer, print, true);
  dsc_pair_counts *counts = &pairs->counts[peer];
  disco_status status = begin_sending(&self, counts);
  if (status != DISCO_OK) return status;
  self.number = counts->sent + 1;
  if (self.number > DSC_CCL_EAGER_SLOTS) status = wait_for(&self, is_received, self.number - DSC_CCL_EAGER_SLOTS);
  if (status != DISCO_OK) return status;
  counts->sent++;
  DSC_POINT("collective.begin");
  if (bytes <= pairs->eager_bytes) {
    dsc_copy_to_peer(eager_buffer(&self, pairs->host->worker, peer), data, bytes);
    post(&self, DSC_SEND_EAGER, 0);
    dsc_bump(&pairs->note->staged, 1);
    return DISCO_OK;
  }
  uint64_t address = bytes <= pairs->staged_bytes ? 0 : dsc_ccl_publish(pairs->host, data, bytes);
  dsc_bump(address != 0 ? &pairs->note->direct : &pairs->note->staged, 1);
  if (address == 0) return send_staged(&self, counts, data, bytes);
  post(&self, DSC_SEND_DIRECT, address);
  DSC_POINT("collective.entered");
  status = was_taken(&self);
  return status == DISCO_OK ? status : withdraw(&self, status);
}

/* ---- Receiving ---- */

static void begin_receiving(const pair_wait *self, dsc_pair_counts *counts) {
  if (DSC_LIKELY(counts->receive_mark == self->mark)) return;
  counts->receive_mark = self->mark;
  counts->received = counts->drained = 0;
  dsc_pair_lines *lines = self->lines;
  dsc_store_release(&lines->received_epoch, 0);
  dsc_store_release(&lines->received, 0);
  dsc_store_release(&lines->reading, 0);
  dsc_store_release(&lines->refused, 0);
  dsc_store_release(&lines->drained, 0);
  dsc_store_release(&lines->received_epoch, self->mark); /* release: pair.received_epoch */
}

static disco_status refuse(pair_wait *self, const dsc_send_slot *slot) {
  uint64_t count = slot->count;
  uint32_t dtype = slot->dtype;
  dsc_store_relaxed(&self->lines->wanted_count, self->print->count);
  dsc_store_relaxed(&self->lines->wanted_dtype, dsc_dtype_pack(self->print->dtype));
  dsc_store_release(&self->lines->refused, self->number);
  dsc_store_release(&self->lines->drained, UINT64_MAX); /* nothing of it is waited for: the epoch ends here */
  set(self, &self->lines->received, self->number);
  return sides_differ(self, count, dtype, "sent it with");
}

static disco_status receive_staged(pair_wait *self, dsc_pair_counts *counts, char *data, uint64_t bytes) {
  uint64_t chunk = self->pairs->chunk_bytes, step = counts->drained;
  for (uint64_t at = 0; at < bytes; at += chunk, step++) {
    disco_status status = wait_for(self, is_filled, step + 1);
    if (status != DISCO_OK) return status;
    self->has_moved = true;
    dsc_copy_and_keep(data + at, staging_buffer(self, self->peer, step), dsc_piece(bytes, at, chunk));
    DSC_POINT("collective.receiving");
    set(self, &self->lines->drained, step + 1);
  }
  counts->drained = step;
  return DISCO_OK;
}

/* Says that it reads, then looks whether it still may. */
static disco_status receive_direct(pair_wait *self, const dsc_send_slot *slot, char *data, uint64_t bytes) {
  const char *from = dsc_ccl_resolve(self->pairs->host, slot->address, bytes);
  DSC_POINT("collective.storing");
  atomic_store(&self->lines->reading, self->number);
  dsc_fence();
  bool withdrawn = dsc_load_acquire(&self->lines->withdrawn) == self->number; /* acquire: pair.withdrawn */
  if (withdrawn || from == NULL) return released(self, "the sender gave up");
  self->has_moved = true;
  for (uint64_t at = 0; at < bytes; at += DSC_CCL_LOOK_BYTES) {
    DSC_POINT("collective.reading");
    dsc_copy_from_peer(data + at, from + at, dsc_piece(bytes, at, DSC_CCL_LOOK_BYTES));
    /* acquire: pair.withdrawn */
    if (dsc_load_acquire(&self->lines->withdrawn) == self->number) return released(self, "the sender gave up");
  }
  return DISCO_OK;
}

static disco_status receive(dsc_pairs *pairs, int32_t peer, const dsc_print *print, char *data, uint64_t bytes) {
  pair_wait self = begin(pairs, peer, print, false);
  dsc_pair_counts *counts = &pairs->counts[peer];
  begin_receiving(&self, counts);
  self.number = ++counts->received;
  DSC_POINT("collective.begin");
  disco_status status = wait_for(&self, is_sent, self.number);
  if (status != DISCO_OK) return status;
  const dsc_send_slot *slot = &self.lines->slot[(self.number - 1) % DSC_CCL_EAGER_SLOTS];
  if (slot->count != print->count || slot->dtype != dsc_dtype_pack(print->dtype)) return refuse(&self, slot);
  dsc_bump(slot->how == DSC_SEND_DIRECT ? &pairs->note->direct : &pairs->note->staged, 1);
  if (slot->how == DSC_SEND_EAGER) {
    dsc_copy_and_keep(data, eager_buffer(&self, peer, pairs->host->worker), bytes);
  } else if (slot->how == DSC_SEND_STAGED) {
    status = receive_staged(&self, counts, data, bytes);
  } else {
    status = receive_direct(&self, slot, data, bytes);
  }
  set(&self, &self.lines->received, self.number);
  /* The sender gave up, and has waited for this word: ours is the echo. */
  if (status != DISCO_OK && slot->how == DSC_SEND_DIRECT) (void)wait_for(&self, has_failed, 0);
  return status;
}

/* ---- Both ---- */

static disco_status guarded(dsc_pairs *pairs,
                            disco_status (*run)(dsc_pairs *, int32_t, const dsc_print *, char *, uint64_t),
                            int32_t peer, const dsc_print *print, char *data, uint64_t bytes) {
  uint64_t mark = *pairs->host->epoch + 1;
  if (pairs->broken_mark == mark) {
    const pair_wait self = {.pairs = pairs, .peer = peer, .print = print};
    return released(&self, "an earlier transfer of this worker failed");
  }
  disco_status status = run(pairs, peer, print, data, bytes);
  if (status != DISCO_OK) pairs->broken_mark = mark;
  return status;
}

static disco_status send_any(dsc_pairs *pairs, int32_t peer, const dsc_print *print, char *data, uint64_t bytes) {
  return send(pairs, peer, print, data, bytes);
}

disco_status dsc_pair_send(dsc_pairs *pairs, int32_t peer, const dsc_print *print, const char *data, uint64_t bytes) {
  return guarded(pairs, send_any, peer, print, (char *)(uintptr_t)data, bytes);
}

disco_status dsc_pair_receive(dsc_pairs *pairs, int32_t peer, const dsc_print *print, char *data, uint64_t bytes) {
  return guarded(pairs, receive, peer, print, data, bytes);
}
