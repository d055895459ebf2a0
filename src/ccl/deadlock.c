#include "ccl/deadlock.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "ccl/dtype.h"
#include "ccl/pair.h"
#include "ccl/reduce.h"

typedef struct {
  uint64_t version, sequence, counter;
  int32_t communicator, peer;
  dsc_print print;
} waiting;

void dsc_note_wait(dsc_rank_note *note, uint64_t sequence, int32_t communicator, int32_t peer, uint64_t counter,
                   const dsc_print *print) {
  dsc_store_release(&note->sequence, sequence);
  dsc_store_release(&note->communicator, communicator);
  dsc_store_release(&note->peer, peer);
  dsc_store_release(&note->counter, counter);
  dsc_store_release(&note->meta, (uint32_t)print->operation | print->kind << 8);
  dsc_store_release(&note->dtype, dsc_dtype_pack(print->dtype));
  dsc_store_release(&note->count, print->count);
  dsc_store_release(&note->version, dsc_load_relaxed(&note->version) + 1); /* release: note.version */
}

void dsc_note_end(dsc_rank_note *note) {
  dsc_store_release(&note->version, dsc_load_relaxed(&note->version) + 1); /* release: note.version */
}

/* False when it does not wait, or changes at this moment. */
static bool read_note(const dsc_rank_note *note, waiting *ret) {
  ret->version = dsc_load_acquire(&note->version); /* acquire: note.version */
  if (ret->version % 2 == 0) return false;
  ret->sequence = dsc_load_acquire(&note->sequence); /* acquire, all of them: the version is read last */
  ret->communicator = dsc_load_acquire(&note->communicator);
  ret->peer = dsc_load_acquire(&note->peer);
  ret->counter = dsc_load_acquire(&note->counter);
  uint32_t meta = dsc_load_acquire(&note->meta);
  ret->print.operation = (dsc_operation)(meta & 0xff);
  ret->print.kind = meta >> 8;
  ret->print.dtype = dsc_dtype_unpack(dsc_load_acquire(&note->dtype));
  ret->print.count = dsc_load_acquire(&note->count);
  return dsc_load_acquire(&note->version) == ret->version; /* acquire: note.version */
}

typedef struct {
  dsc_ccl_host *host;
  dsc_plane_layout layout;
  const dsc_rank_note *notes;
  uint64_t epoch_mark;
} scene;

static bool is_member(const scene *self, int32_t communicator, int32_t worker) {
  return communicator == 0 || worker / self->layout.group_size == communicator - 1;
}

/* Does `a`, which waits so, wait for `b`? */
static bool waits_for(const scene *self, int32_t a, const waiting *how, int32_t b) {
  /* Numbers of another epoch say nothing here: that worker is about to leave, or has heard more than we have. */
  if (how->sequence <= *self->host->resumed || self->host->look(self->host, a).is_later) return false;
  if (how->communicator < 0) {
    if (b != how->peer) return false;
    bool receives = how->print.operation == DSC_OPERATION_RECV;
    const dsc_pair_lines *pair = dsc_pair_at(self->host->memory, &self->layout, receives ? b : a, receives ? a : b);
    return receives ? !dsc_pair_is_sent(pair, self->epoch_mark, how->counter)
                    : !dsc_pair_is_received(pair, self->epoch_mark, how->counter);
  }
  if (!is_member(self, how->communicator, b) || (how->peer >= 0 && how->peer != b)) return false;
  dsc_comm comm;
  dsc_comm_init(&comm, self->host, &self->layout, how->communicator, NULL);
  comm.epoch_mark = self->epoch_mark;
  return !dsc_comm_is_entered(&comm, how->counter, b - comm.first);
}

static void add_to_text(const waiting *how, int32_t worker, int32_t next, int32_t size, dsc_text *text) {
  char what[160];
  dsc_print_text(&how->print, how->communicator, size, what, sizeof(what));
  dsc_text_add(text, "%sworker %d waits in the %s for worker %d", text->size == 0 ? "" : "; ", worker, what, next);
}

/* The chain from us to `last`, which waits for us. Its digest, and its sentence when `text` is not NULL. */
static uint64_t tell(const scene *self, const int16_t *parent, int32_t last, dsc_text *text) {
  uint64_t digest = 1;
  int32_t next = self->host->worker;
  for (int32_t at = last;; at = parent[at]) {
    waiting how;
    if (!read_note(&self->notes[at], &how)) return 0;
    digest = (digest ^ how.version ^ (uint64_t)at << 48) * 0x9e3779b97f4a7c15u;
    int32_t size = how.communicator > 0 ? self->layout.group_size : self->layout.num_workers;
    if (text != NULL) add_to_text(&how, at, next, size, text);
    next = at;
    if (at == self->host->worker) return digest | 1;
  }
}

/* The rank that closes the ring, by breadth first; -1: there is none. */
static int32_t find_ring(const scene *self, int16_t *parent) {
  int16_t queue[DSC_REDUCE_MAX_INPUTS];
  int32_t head = 0, tail = 0, me = self->host->worker, workers = self->layout.num_workers;
  for (int32_t i = 0; i < workers; i++) parent[i] = -1;
  queue[tail++] = (int16_t)me;
  while (head < tail) {
    int32_t at = queue[head++];
    waiting how;
    if (!read_note(&self->notes[at], &how)) continue;
    if (at != me && waits_for(self, at, &how, me)) return at;
    for (int32_t i = 0; i < workers; i++) {
      if (i == at || i == me || parent[i] >= 0 || !waits_for(self, at, &how, i)) continue;
      parent[i] = (int16_t)at;
      queue[tail++] = (int16_t)i;
    }
  }
  return -1;
}

disco_status dsc_deadlock_look(dsc_deadlock_watch *watch, dsc_ccl_host *host, uint64_t epoch_mark) {
  int16_t parent[DSC_REDUCE_MAX_INPUTS];
  scene self = {.host = host, .epoch_mark = epoch_mark};
  dsc_plane_plan(host->num_workers, host->num_groups, &self.layout);
  self.notes = (const dsc_rank_note *)(host->memory + self.layout.notes);
  uint64_t before = watch->seen;
  watch->seen = 0;
  if (host->num_workers > DSC_REDUCE_MAX_INPUTS) return DISCO_OK;
  int32_t last = find_ring(&self, parent);
  if (last < 0) return DISCO_OK;
  watch->seen = tell(&self, parent, last, NULL);
  if (watch->seen == 0 || watch->seen != before) return DISCO_OK;
  dsc_text text = DSC_TEXT_INIT;
  if (tell(&self, parent, last, &text) != watch->seen) { /* somebody moved after all */
    dsc_text_fini(&text);
    watch->seen = 0;
    return DISCO_OK;
  }
  disco_status status = dsc_fail(DISCO_COLLECTIVE,
                                 "the workers wait for each other in different operations: %s: all members must call "
                                 "the same collectives in the same order",
                                 text.data != NULL ? text.data : "(no memory for the list)");
  dsc_text_fini(&text);
  return status;
}

void dsc_note_text(const char *memory, int32_t num_workers, int32_t num_groups, int32_t worker, char *text,
                   size_t room) {
  dsc_plane_layout layout;
  waiting how;
  char what[160];
  dsc_plane_plan(num_workers, num_groups, &layout);
  text[0] = 0;
  if (!read_note((const dsc_rank_note *)(memory + layout.notes) + worker, &how)) return;
  dsc_print_text(&how.print, how.communicator, how.communicator > 0 ? layout.group_size : num_workers, what,
                 sizeof(what));
  if (how.communicator < 0)
    (void)snprintf(text, room, "waiting for worker %d in the %s", how.peer, what);
  else
    (void)snprintf(text, room, "waiting for the others in the %s", what);
}
