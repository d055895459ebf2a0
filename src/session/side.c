/* Large arguments: written once into memory of their own, before the lock is taken, and kept until every worker has
 * done the command that carries them. */
#include "worker/side.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "os/cgroup.h"
#include "os/pipe.h"
#include "session/engine.h"

struct dsc_side_file {
  struct dsc_side_file *next;
  uint64_t sequence;
  dsc_shared_memory memory; /* mapped until the record is written, which reads the packed values again */
};

static uint64_t done_by_all(const dsc_engine *engine) {
  uint64_t done = UINT64_MAX;
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    const dsc_status_line *line = dsc_segment_status(engine->segment.header, i);
    if (dsc_load_relaxed(&line->position) == UINT64_MAX) continue; /* lost: it reads nothing any more */
    uint64_t his = dsc_load_acquire(&line->done);                  /* acquire: status.done */
    if (his < done) done = his;
  }
  return done;
}

static void free_file(dsc_side_file *file) {
  dsc_shared_memory_destroy(&file->memory);
  free(file);
}

bool dsc_side_collect(dsc_engine *engine) {
  if (dsc_load_relaxed(&engine->num_side_files) == 0) return false;
  uint64_t done = done_by_all(engine);
  (void)dsc_lock_take(&engine->side_lock, NULL); /* held for a few closes */
  while (engine->side_files != NULL && engine->side_files->sequence <= done) {
    dsc_side_file *file = engine->side_files;
    engine->side_files = file->next;
    if (engine->side_files == NULL) engine->last_side_file = &engine->side_files;
    dsc_store_relaxed(&engine->num_side_files, dsc_load_relaxed(&engine->num_side_files) - 1);
    free_file(file);
  }
  bool left = engine->side_files != NULL;
  dsc_lock_give(&engine->side_lock);
  return left;
}

void dsc_side_drop_all(dsc_engine *engine) {
  (void)dsc_lock_take(&engine->side_lock, NULL);
  while (engine->side_files != NULL) {
    dsc_side_file *file = engine->side_files;
    engine->side_files = file->next;
    free_file(file);
  }
  engine->last_side_file = &engine->side_files;
  dsc_store_relaxed(&engine->num_side_files, 0);
  dsc_lock_give(&engine->side_lock);
}

/* Too many under way: wait for the oldest. */
static disco_status make_place(dsc_engine *engine, int64_t deadline_ns) {
  while (dsc_side_collect(engine) && dsc_load_relaxed(&engine->num_side_files) >= DSC_MAX_SIDE_FILES) {
    (void)dsc_lock_take(&engine->side_lock, NULL);
    uint64_t oldest = engine->side_files != NULL ? engine->side_files->sequence : 0;
    dsc_lock_give(&engine->side_lock);
    disco_status status = dsc_wait_done(engine, DISCO_ALL_WORKERS, oldest, deadline_ns,
                                        "waiting for workers to finish with large arguments");
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}

/* What packed values may take of a record: half the ring holds the largest one. */
static uint64_t room_for(const dsc_engine *engine, int32_t count) {
  const uint64_t slots_max = (uint64_t)UINT16_MAX * DSC_SLOT_BYTES;
  uint64_t others = sizeof(dsc_record) + dsc_encode_bound(count) + sizeof(dsc_side_ref) +
                    DSC_MAX_RELEASES * sizeof(uint32_t) + DSC_RING_LINE;
  uint64_t room = engine->ring.bytes / 2 - others;
  uint64_t left = slots_max - dsc_encode_bound(count) - sizeof(dsc_side_ref);
  return room < left ? room : left;
}

disco_status dsc_side_prepare(dsc_engine *engine, dsc_command *command, unsigned allowed, const char *what,
                              int64_t deadline_ns, dsc_travel *travel, dsc_side_ref *ret_ref,
                              dsc_side_file **ret_file) {
  *ret_file = NULL;
  disco_status status =
      dsc_travel_measure(command->values, command->count, allowed, room_for(engine, command->count), what, travel);
  if (status != DISCO_OK) return status;
  command->travel = travel;
  if (allowed == DSC_PACK_CONTAINERS) command->flags |= DSC_RECORD_CONTAINERS;
  if (dsc_travel_side_bytes(travel) == 0) return dsc_travel_pack(travel, command->values, command->count, NULL);
  status = make_place(engine, deadline_ns);
  if (status != DISCO_OK) return status;
  dsc_side_file *file = dsc_alloc(sizeof(*file), "a large argument");
  if (file == NULL) return DISCO_MEMORY;
  status = dsc_memory_check(dsc_travel_side_bytes(travel), "an argument");
  if (status == DISCO_OK)
    status = dsc_side_create(travel->in_side ? travel->payload : 0, travel->side.bytes, &file->memory, ret_ref);
  if (status != DISCO_OK) {
    free(file);
    return status;
  }
  status = dsc_travel_pack(travel, command->values, command->count, file->memory.base);
  dsc_add_relaxed(&engine->side_bytes, ret_ref->bytes);
  if (status != DISCO_OK) {
    free_file(file);
    return status;
  }
  command->side = ret_ref;
  *ret_file = file;
  return DISCO_OK;
}

void dsc_side_posted(dsc_engine *engine, dsc_side_file *file, uint64_t sequence) {
  if (file == NULL) return;
  if (sequence == 0) {
    free_file(file);
    return;
  }
  dsc_shared_memory_unmap(&file->memory);
  file->sequence = sequence;
  file->next = NULL;
  (void)dsc_lock_take(&engine->side_lock, NULL);
  /* Several threads may post: in order of their commands, or nearly; a file that waits for its elder loses nothing. */
  *engine->last_side_file = file;
  engine->last_side_file = &file->next;
  dsc_store_relaxed(&engine->num_side_files, dsc_load_relaxed(&engine->num_side_files) + 1);
  dsc_lock_give(&engine->side_lock);
}
