/* Replies: one ring per worker. Whoever waits drains them all and parks what belongs to others in the pending list. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "session/engine.h"
#include "worker/side.h"

static dsc_pending *find_pending(dsc_engine *engine, uint64_t sequence) {
  for (dsc_list *at = engine->pending.next; at != &engine->pending; at = at->next) {
    dsc_pending *pending = dsc_list_entry(at, dsc_pending, link);
    if (pending->sequence == sequence) return pending;
  }
  return NULL;
}

/* A reply from another process waits packed: unpacking it may run user code, which must not happen under the lock. */
enum { BLOB = -4 };

typedef struct {
  dsc_side *side;      /* the packed value is there; NULL: in `packed` */
  disco_status failed; /* why it could not be fetched */
  char *why;
  uint64_t bytes;
  _Alignas(DSC_SLOT_BYTES) char packed[];
} blob;

/* The value of a reply as it may be kept under the lock; what cannot be fetched is None with the outcome of an error.
 */
static TVMFFIAny keep(const dsc_reply *reply, uint32_t *ret_outcome) {
  TVMFFIAny value = dsc_none();
  *ret_outcome = reply->outcome & DSC_REPLY_OUTCOME;
  if ((reply->outcome & (DSC_REPLY_PACKED | DSC_REPLY_SIDE)) == 0) return *(const TVMFFIAny *)(reply + 1);
  bool in_side = (reply->outcome & DSC_REPLY_SIDE) != 0;
  uint64_t bytes = in_side ? 0 : reply->frame - sizeof(*reply);
  blob *kept = dsc_alloc_aligned(DSC_CACHE_LINE, sizeof(*kept) + bytes, "a reply");
  if (kept == NULL) {
    *ret_outcome = DSC_REPLY_ERROR;
    return value;
  }
  if (in_side) {
    kept->failed = dsc_side_open((const dsc_side_ref *)(reply + 1), &kept->side);
    if (kept->failed != DISCO_OK) kept->why = strdup(dsc_thread_error()->message);
  }
  kept->bytes = kept->side != NULL ? kept->side->payload_bytes : bytes;
  memcpy(kept->packed, reply + 1, bytes);
  value.type_index = BLOB;
  value.v_ptr = kept;
  return value;
}

static void free_blob(blob *kept) {
  dsc_side_unref(kept->side);
  free(kept->why);
  free(kept);
}

void dsc_reply_drop(TVMFFIAny *value) {
  if (value->type_index == BLOB)
    free_blob(value->v_ptr);
  else
    dsc_value_drop(value);
  *value = dsc_none();
}

disco_status dsc_reply_open(TVMFFIAny *value, bool *ret_malformed) {
  *ret_malformed = false;
  if (value->type_index != BLOB) return DISCO_OK;
  blob *kept = value->v_ptr;
  uint64_t used = 0;
  *value = dsc_none();
  if (kept->failed != DISCO_OK) {
    disco_status failed =
        dsc_fail(kept->failed, "the reply is there but cannot be fetched: %s", kept->why != NULL ? kept->why : "?");
    free_blob(kept);
    return failed;
  }
  disco_status status = dsc_unpack(kept->side != NULL ? kept->side->base : kept->packed, kept->bytes,
                                   DSC_PACK_CONTAINERS, kept->side != NULL ? &kept->side->view : NULL, value, &used);
  *ret_malformed = status == DISCO_LOST;
  free_blob(kept);
  return status;
}

enum { UNWANTED_AT_ONCE = 16 };

/* reply_lock held. Take in one worker's replies until `unwanted` is full; returns how many were taken. Values that
 * nobody waits for are collected: dropping one may run user code, which must not happen under the lock. */
static int take_from(dsc_engine *engine, int32_t worker, TVMFFIAny *unwanted, int *num_unwanted) {
  dsc_ring_reader *ring = &engine->replies[worker];
  const dsc_reply *reply;
  int taken = 0;
  for (; *num_unwanted < UNWANTED_AT_ONCE && (reply = dsc_ring_peek(ring)) != NULL; taken++) {
    uint32_t outcome = DSC_REPLY_VALUE;
    TVMFFIAny value = keep(reply, &outcome);
    dsc_pending *pending = find_pending(engine, reply->sequence);
    int32_t at = pending != NULL && pending->worker == DISCO_ALL_WORKERS ? worker : 0;
    bool asked = pending != NULL && (pending->worker == DISCO_ALL_WORKERS || pending->worker == worker) &&
                 pending->outcomes[at] == DSC_REPLY_AWAITED; /* else it answers for another, or twice */
    if (asked) {
      pending->values[at] = value;
      pending->outcomes[at] = outcome;
      pending->remaining--;
    } else {
      unwanted[(*num_unwanted)++] = value;
    }
    dsc_ring_advance(ring, reply, &dsc_segment_reply_words(engine->segment.header, worker)->position);
  }
  return taken;
}

void dsc_drain_replies(dsc_engine *engine) {
  int taken = 0, num_unwanted;
  do {
    TVMFFIAny unwanted[UNWANTED_AT_ONCE];
    num_unwanted = 0;
    (void)dsc_lock_take(&engine->reply_lock, NULL); /* held for a few loads per worker */
    for (int32_t i = 0; i < engine->settings.num_workers; i++) taken += take_from(engine, i, unwanted, &num_unwanted);
    dsc_lock_give(&engine->reply_lock);
    for (int i = 0; i < num_unwanted; i++) dsc_reply_drop(&unwanted[i]);
  } while (num_unwanted == UNWANTED_AT_ONCE);
  if (taken == 0) return;
  dsc_fence(); /* room made, then look who sleeps for it */
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    if (dsc_load_relaxed(&dsc_segment_status(engine->segment.header, i)->waits) != DSC_WAITS_REPLY_ROOM) continue;
    dsc_doorbell_ring(&engine->segment.header->commands);
    return;
  }
}

void dsc_pending_add(dsc_engine *engine, dsc_pending *pending) {
  (void)dsc_lock_take(&engine->reply_lock, NULL);
  dsc_list_append(&engine->pending, &pending->link);
  dsc_lock_give(&engine->reply_lock);
}

/* reply_lock held. A caller left: replies to what is older than every waiting call are wanted by nobody, so a worker
 * that has no room for one drops it. Else it would wait for a reader that may never come. */
static void give_up_replies(dsc_engine *engine) {
  uint64_t unwanted = dsc_load_acquire(&engine->sequence); /* acquire: engine.sequence */
  for (dsc_list *at = engine->pending.next; at != &engine->pending; at = at->next) {
    uint64_t sequence = dsc_list_entry(at, dsc_pending, link)->sequence;
    if (sequence <= unwanted) unwanted = sequence - 1;
  }
  dsc_segment_header *header = engine->segment.header;
  if (unwanted <= dsc_load_relaxed(&header->unwanted)) return;
  atomic_store(&header->unwanted, unwanted);
  dsc_doorbell_ring(&header->commands);
}

void dsc_pending_remove(dsc_engine *engine, dsc_pending *pending, bool keep) {
  (void)dsc_lock_take(&engine->reply_lock, NULL);
  dsc_list_remove(&pending->link);
  if (!keep) give_up_replies(engine);
  dsc_lock_give(&engine->reply_lock);
  int32_t count = pending->worker == DISCO_ALL_WORKERS ? engine->settings.num_workers : 1;
  for (int32_t i = 0; !keep && i < count; i++) dsc_reply_drop(&pending->values[i]);
}
