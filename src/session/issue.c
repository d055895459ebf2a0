/* Posting commands: one record in the ring for all local workers. Budget: 100 ns a call, no system call unless somebody
 * sleeps, nothing per worker. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/inject.h"
#include "session/engine.h"

disco_status dsc_enter_fork(const dsc_engine *engine, const char *what) {
  if (engine->fork_generation != dsc_fork_generation())
    return dsc_fail(
        DISCO_RUNTIME,
        "%s: this session belongs to process %lld, of which this one is a forked child: make a session of your own",
        what, (long long)engine->pid);
  return DISCO_OK;
}

disco_status dsc_enter(const dsc_engine *engine, const char *what) {
  disco_status status = dsc_enter_fork(engine, what);
  if (DSC_UNLIKELY(status != DISCO_OK)) return status;
  if (dsc_load_relaxed(&engine->state) != DSC_READY)
    return dsc_fail(DISCO_CLOSED, "%s: the session was shut down; make a new one", what);
  const dsc_worker *self = dsc_worker_current();
  if (self != NULL && self->setup.owner == engine)
    return dsc_fail(DISCO_RUNTIME,
                    "%s: worker %d may not call its own session, which would wait for itself: return a value instead",
                    what, self->setup.id);
  return DISCO_OK;
}

/* Post the record that was claimed: header, releases, commit. Lock held. */
static void finish_record(dsc_engine *engine, dsc_record *record, const dsc_command *command, uint32_t reg,
                          size_t slot_bytes, uint32_t max_releases) {
  uint64_t sequence = dsc_load_relaxed(&engine->sequence) + 1;
  record->message = command->message;
  record->flags = command->flags;
  if (dsc_load_relaxed(&engine->waited)) {
    record->flags |= DSC_RECORD_WAITED;
    dsc_store_relaxed(&engine->waited, false);
  }
  record->sequence = sequence;
  record->reg = reg;
  record->target = command->target;
  record->num_args = (uint16_t)command->count;
  record->num_slots = (uint16_t)(slot_bytes / DSC_SLOT_BYTES);
  record->name = command->name;
  uint32_t *releases = (uint32_t *)((char *)(record + 1) + slot_bytes);
  uint32_t count = max_releases > 0 ? dsc_idpool_drain(&engine->registers, releases, max_releases) : 0;
  record->num_releases = (uint16_t)count;
  dsc_store_release(&engine->sequence, sequence);
  uint64_t bytes =
      dsc_ring_commit(&engine->ring, record, sizeof(*record) + slot_bytes + (size_t)count * sizeof(uint32_t));
  dsc_bump(&engine->ring_bytes_posted, bytes);
  DSC_POINT("session.published");
}

/* How many released ids the next record may carry. */
static uint32_t releases_bound(dsc_engine *engine) {
  uint32_t waiting =
      dsc_idpool_has_drained(&engine->registers) ? DSC_MAX_RELEASES : dsc_idpool_waiting(&engine->registers);
  return waiting < DSC_MAX_RELEASES ? waiting : DSC_MAX_RELEASES;
}

static size_t record_bound(int32_t count, size_t packed, uint32_t releases) {
  size_t bytes = sizeof(dsc_record) + dsc_encode_bound(count) + packed + (size_t)releases * sizeof(uint32_t);
  return (bytes + DSC_RING_LINE - 1) & ~(size_t)(DSC_RING_LINE - 1);
}

/* A record with at most one value and `releases` ids. Lock held. False when the ring is full. */
static bool post_plain(dsc_engine *engine, uint8_t message, const TVMFFIAny *value, uint32_t releases) {
  dsc_record *record = dsc_ring_claim(&engine->ring, record_bound(value != NULL, 0, releases));
  if (record == NULL) return false;
  dsc_command command = {.message = message, .count = value != NULL};
  if (value != NULL) *(TVMFFIAny *)(record + 1) = *value;
  finish_record(engine, record, &command, 0, value != NULL ? DSC_SLOT_BYTES : 0, releases);
  return true;
}

void dsc_post_resume(dsc_engine *engine) {
  uint64_t epoch = dsc_load_relaxed(&engine->epoch) + 1;
  TVMFFIAny ordinal = dsc_int((int64_t)epoch);
  engine->resume_pending = !post_plain(engine, DSC_MESSAGE_Resume, &ordinal, 0);
  if (engine->resume_pending) return;
  dsc_store_relaxed(&engine->epoch, epoch);
  engine->resumed = dsc_load_relaxed(&engine->sequence);
}

/* No releases: the registers die with their workers, and the record needs one line only. */
bool dsc_post_shutdown(dsc_engine *engine) { return post_plain(engine, DSC_MESSAGE_ShutDown, NULL, 0); }

/* Lock held: post the released ids that no other record will carry. False when the ring is full. */
static bool post_releases(dsc_engine *engine) {
  while (dsc_idpool_waiting(&engine->registers) > 0 || dsc_idpool_has_drained(&engine->registers))
    if (dsc_load_relaxed(&engine->state) != DSC_READY ||
        !post_plain(engine, DSC_MESSAGE_KillReg, NULL, releases_bound(engine)))
      return false;
  return true;
}

void dsc_leave(dsc_engine *engine) {
  bool posted = !dsc_idpool_has_drained(&engine->registers) || post_releases(engine); /* more than one record's worth */
  for (;;) {
    dsc_lock_give(&engine->lock);
    dsc_fence(); /* tail and lock stored, then look who sleeps: pairs with the sleeper's flag, fence, look */
    DSC_POINT("session.unlocked");
    if (dsc_doorbell_must_ring(&engine->segment.header->commands)) {
      /* Before the ring: a worker 0 that said so before is woken by it, or does not fall asleep, and looks at the list
       * again. */
      dsc_store_relaxed(&engine->worker0_asleep, 0);
      dsc_doorbell_ring(&engine->segment.header->commands);
      dsc_add_relaxed(&engine->wakes, 1);
    }
    /* A deleter that found the lock held left its ids to us; worker 0 looks itself unless it sleeps. When the ring is
     * full the ids wait for the next record, or for worker 0, which then looks every 10 ms. */
    if (!posted || dsc_load_relaxed(&engine->worker0_asleep) == 0 || dsc_idpool_waiting(&engine->registers) == 0)
      return;
    if (dsc_load_relaxed(&engine->state) != DSC_READY || !dsc_lock_try(&engine->lock)) return;
    posted = post_releases(engine);
  }
}

void dsc_publish_releases(dsc_engine *engine) {
  if (engine->fork_generation != dsc_fork_generation()) return; /* the ring is still the parent's */
  if (dsc_load_relaxed(&engine->state) != DSC_READY || !dsc_lock_try(&engine->lock)) return;
  (void)post_releases(engine);
  dsc_leave(engine);
}

/* Some worker is not done with a large argument: look again soon, and less often while nothing moves. */
static int64_t side_nap(dsc_engine *engine) {
  const int64_t shortest = 10 * 1000000, longest = (int64_t)2000 * 1000000;
  uint32_t files = dsc_load_relaxed(&engine->num_side_files);
  bool moved = files != engine->side_seen;
  engine->side_seen = files;
  engine->side_nap_ns = moved || engine->side_nap_ns == 0 ? shortest : engine->side_nap_ns * 2;
  if (engine->side_nap_ns > longest) engine->side_nap_ns = longest;
  return engine->side_nap_ns;
}

int64_t dsc_publish_before_sleep(dsc_engine *engine) {
  enum { RETRY_NS = 10 * 1000000 };
  bool large = engine->has_processes && dsc_side_collect(engine); /* freed soon after the last worker is done with it */
  if (dsc_idpool_waiting(&engine->registers) == 0 || dsc_load_relaxed(&engine->state) != DSC_READY)
    return large ? side_nap(engine) : INT64_MAX;
  if (!dsc_lock_try(&engine->lock)) return RETRY_NS;
  uint64_t before = dsc_load_relaxed(&engine->sequence);
  (void)post_releases(engine);
  if (dsc_load_relaxed(&engine->sequence) != before) {
    dsc_leave(engine);
    return 0;
  }
  /* No room, and nobody may come when there is. No news either: leaving as others do would take back this very thread's
   * word that it sleeps. */
  dsc_lock_give(&engine->lock);
  dsc_fence();
  return dsc_idpool_waiting(&engine->registers) == 0 ? INT64_MAX : RETRY_NS;
}

static uint64_t readers_of(const dsc_engine *engine, const dsc_command *command) {
  if (command->readers == 0) return engine->encoder.readers;
  return command->readers < 0 ? 0 : (uint64_t)command->readers;
}

/* What the packed values take in the record. */
static size_t packed_bytes(const dsc_command *command) {
  size_t bytes = command->travel != NULL && !command->travel->in_side ? command->travel->payload : 0;
  return command->side != NULL ? bytes + sizeof(*command->side) : bytes;
}

/* Lock held, record claimed. Everything that can still be refused happens before the header is written. */
static disco_status fill_record(dsc_engine *engine, dsc_command *command, dsc_record *record, uint32_t releases) {
  disco_status status;
  uint32_t reg = command->reg, generation = 0;
  size_t slot_bytes = 0;
  if (command->subject != NULL) {
    status = dsc_check_dref(&engine->encoder, command->subject, "the register", -1);
    if (status != DISCO_OK) return status;
    reg = (uint32_t)command->subject->reg_id;
  }
  if (DSC_UNLIKELY(command->kills) && !dsc_idpool_kill(&engine->registers, reg))
    return dsc_fail(DISCO_VALUE, "register %u was released meanwhile", reg);
  if (command->callee != NULL) {
    status = dsc_check_dref(&engine->encoder, command->callee, "the function", -1);
    if (status != DISCO_OK) return status;
    command->target = (uint32_t)command->callee->reg_id;
    command->name = dsc_idpool_chunk_of(&engine->registers, command->target)->note[command->target % DSC_IDPOOL_CHUNK];
  }
  if (command->count > 0) {
    dsc_encoder encoder = engine->encoder;
    encoder.readers = readers_of(engine, command);
    status = dsc_encode(&encoder, command->values, command->count, command->travel, record + 1, &slot_bytes,
                        &command->flags);
    if (status != DISCO_OK) return status;
  }
  if (command->side != NULL) {
    slot_bytes += sizeof(*command->side);
    command->flags |= DSC_RECORD_SIDE;
    memcpy((char *)(record + 1) + slot_bytes - sizeof(*command->side), command->side, sizeof(*command->side));
  }
  if (command->wants_result) {
    void *handle = NULL;
    reg = dsc_idpool_take(&engine->registers, &generation, &handle);
    if (DSC_UNLIKELY(reg == 0)) {
      dsc_encoded_drop(record + 1, (uint32_t)command->count, readers_of(engine, command));
      return dsc_thread_error()->status;
    }
    dsc_dref_place(handle, command->session, reg, generation);
    command->result = (dsc_dref *)((char *)handle + DSC_OBJECT_PREFIX);
    if (command->intern != NULL) {
      command->name = dsc_names_intern(&engine->names, command->intern);
      dsc_idpool_chunk_of(&engine->registers, reg)->note[reg % DSC_IDPOOL_CHUNK] = command->name;
    }
  }
  command->sequence = dsc_load_relaxed(&engine->sequence) + 1;
  if (command->pending != NULL) {
    command->pending->sequence = command->sequence;
    dsc_pending_add(engine, command->pending);
  }
  finish_record(engine, record, command, reg, slot_bytes, releases);
  return DISCO_OK;
}

disco_status dsc_issue(dsc_engine *engine, dsc_command *command, int64_t timeout_ms) {
  dsc_session_guard guard;
  bool guarded = false;
  for (;;) {
    if (!dsc_lock_try(&engine->lock)) {
      if (!guarded) dsc_session_guard_init(&guard, engine, dsc_clock_deadline_ns(timeout_ms));
      guarded = true;
      disco_status status = dsc_engine_lock(engine, &guard);
      if (status != DISCO_OK) return status;
    }
    disco_status status = DISCO_OK;
    dsc_record *record = NULL;
    uint32_t releases = 0;
    size_t bound = 0;
    if (dsc_load_relaxed(&engine->state) != DSC_READY) {
      status = dsc_fail(DISCO_CLOSED, "the session was shut down; make a new one");
    } else if (dsc_failure_is_new(engine)) {
      status = dsc_tell_failure(engine);
    }
    if (status == DISCO_OK && engine->resume_pending) dsc_post_resume(engine);
    if (status == DISCO_OK) {
      releases = releases_bound(engine);
      bound = record_bound(command->count, packed_bytes(command), releases);
      if (!engine->resume_pending) record = dsc_ring_claim(&engine->ring, bound);
      if (record != NULL) status = fill_record(engine, command, record, releases);
    }
    if (status != DISCO_OK || record != NULL) {
      dsc_leave(engine);
      return status;
    }
    /* Full: wait, without the lock, until a quarter of the ring is free again. */
    uint64_t position = dsc_ring_needed(&engine->ring, bound + DSC_RING_LINE), keep = engine->ring.bytes / 4 * 3;
    uint64_t hysteresis = engine->ring.tail > keep ? engine->ring.tail - keep : 0;
    dsc_leave(engine);
    dsc_add_relaxed(&engine->ring_full, 1);
    if (!guarded) dsc_session_guard_init(&guard, engine, dsc_clock_deadline_ns(timeout_ms));
    guarded = true;
    status = dsc_wait_room(engine, position > hysteresis ? position : hysteresis, &guard);
    if (status != DISCO_OK) return status;
  }
}
