/* The done descriptor: for event loops that cannot wait in a call. The armed number stays awaited on every
 * status line (worker/announce.h) until that worker passes it; the last one to pass it finds all the others done. */
#include "os/pipe.h"
#include "session/engine.h"

disco_status dsc_done_open(dsc_engine *engine, int *ret_fd) {
  int fd = dsc_load_acquire(&engine->done_fd), none = -1; /* acquire: engine.done_fd */
  if (fd < 0) {
    disco_status status = dsc_event_create(&fd);
    if (status != DISCO_OK) return status;
    if (!dsc_cas(&engine->done_fd, &none, fd)) { /* another thread was first */
      dsc_fd_close(&fd);
      fd = none;
    }
  }
  *ret_fd = fd;
  return DISCO_OK;
}

/* done_lock held: between the look and the event nobody arms anew. */
static void look(dsc_engine *engine, int fd) {
  const dsc_segment_header *header = engine->segment.header;
  uint64_t armed = atomic_load(&header->armed);
  bool ready = dsc_failure_is_new(engine) || dsc_load_acquire(&header->fault) != DSC_FAULT_NONE;
  bool done = armed != UINT64_MAX;
  for (int32_t i = 0; done && i < engine->settings.num_workers; i++)
    done = dsc_load_acquire(&dsc_segment_status(header, i)->done) >= armed; /* acquire: status.done */
  if (ready || done) dsc_event_set(fd);
}

void dsc_done_look(void *context) {
  dsc_engine *engine = context;
  int fd = dsc_load_acquire(&engine->done_fd); /* acquire: engine.done_fd */
  if (fd < 0) return;
  (void)dsc_lock_take(&engine->done_lock, NULL); /* held for a look at the status lines */
  look(engine, fd);
  dsc_lock_give(&engine->done_lock);
}

void dsc_done_arm(dsc_engine *engine, uint64_t sequence) {
  dsc_segment_header *header = engine->segment.header;
  int fd = dsc_load_acquire(&engine->done_fd); /* acquire: engine.done_fd */
  (void)dsc_lock_take(&engine->done_lock, NULL);
  dsc_event_clear(fd);
  atomic_store(&header->armed, sequence);
  for (int32_t i = 0; i < engine->settings.num_workers; i++)
    dsc_await(&dsc_segment_status(header, i)->awaited_done, sequence);
  dsc_fence(); /* armed, then look who is done: pairs with the worker's done, fence, look who waits */
  look(engine, fd);
  dsc_lock_give(&engine->done_lock);
}
