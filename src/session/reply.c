/* Replies: one ring per worker. Whoever waits drains them all and parks what belongs to others in the pending list. */
#include "session/engine.h"

static dsc_pending *find_pending(dsc_engine *engine, uint64_t sequence) {
  for (dsc_list *at = engine->pending.next; at != &engine->pending; at = at->next) {
    dsc_pending *pending = dsc_list_entry(at, dsc_pending, link);
    if (pending->sequence == sequence) return pending;
  }
  return NULL;
}

enum { UNWANTED_AT_ONCE = 16 };

/* reply_lock held. Take in one worker's replies until `unwanted` is full; returns how many were taken. Values that
 * nobody waits for are collected: dropping one may run user code, which must not happen under the lock. */
static int take_from(dsc_engine *engine, int32_t worker, TVMFFIAny *unwanted, int *num_unwanted) {
  dsc_ring_reader *ring = &engine->replies[worker];
  const dsc_reply *reply;
  int taken = 0;
  for (; *num_unwanted < UNWANTED_AT_ONCE && (reply = dsc_ring_peek(ring)) != NULL; taken++) {
    TVMFFIAny value = *(const TVMFFIAny *)(reply + 1);
    dsc_pending *pending = find_pending(engine, reply->sequence);
    if (pending != NULL) {
      int32_t at = pending->worker == DISCO_ALL_WORKERS ? worker : 0;
      pending->values[at] = value;
      pending->outcomes[at] = reply->outcome;
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
    for (int i = 0; i < num_unwanted; i++) dsc_value_drop(&unwanted[i]);
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

void dsc_pending_remove(dsc_engine *engine, dsc_pending *pending, bool keep) {
  (void)dsc_lock_take(&engine->reply_lock, NULL);
  dsc_list_remove(&pending->link);
  dsc_lock_give(&engine->reply_lock);
  int32_t count = pending->worker == DISCO_ALL_WORKERS ? engine->settings.num_workers : 1;
  for (int32_t i = 0; !keep && i < count; i++) dsc_value_drop(&pending->values[i]);
}
