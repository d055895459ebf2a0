/* Workers as threads of the controller's process. */
#include <stdio.h>

#include "os/thread.h"
#include "session/engine.h"

static void *thread_main(void *argument) {
  dsc_worker *worker = argument;
  dsc_status_line *line = worker->line;
  dsc_segment_header *segment = worker->segment;
  dsc_engine *engine = (dsc_engine *)worker->setup.owner;
  dsc_worker_thread *self = &engine->threads[worker->setup.id];
  dsc_worker_run(worker);
  dsc_worker_destroy(worker);               /* its registers die on its own thread */
  dsc_store_release(&line->ended, 1);       /* release: status.ended */
  dsc_doorbell_ring(&segment->controllers); /* before the join: the segment is still there */
  if (atomic_exchange(&self->fate, DSC_FATE_ENDED) == DSC_FATE_ABANDONED)
    dsc_engine_unref(engine); /* given up, and back */
  return NULL;
}

static int64_t look_after_releases(void *context) { return dsc_publish_before_sleep(context); }

disco_status dsc_launch_threads(dsc_engine *engine) {
  dsc_shared_memory_seclude(&engine->segment.memory); /* all workers share this mapping */
  for (int32_t i = 0; i < engine->settings.num_workers; i++) {
    dsc_worker_setup setup = {.id = i,
                              .local_id = i,
                              .num_workers = engine->settings.num_workers,
                              .num_groups = engine->settings.num_groups,
                              .segment = engine->segment.header,
                              .owner = engine,
                              .busy_threads = engine->busy_threads,
                              .spin_us = engine->settings.spin_us};
    if (i == 0) {
      setup.idle = look_after_releases;
      setup.idle_context = engine;
      setup.asleep = &engine->worker0_asleep;
    }
    dsc_worker *worker = NULL;
    char name[16];
    (void)snprintf(name, sizeof(name), "disco w%d", i % 10000);
    disco_status status = dsc_worker_create(&setup, &worker);
    if (status == DISCO_OK) status = dsc_thread_start(name, thread_main, worker, &engine->threads[i].thread);
    if (status != DISCO_OK) {
      dsc_worker_destroy(worker);
      return status;
    }
    engine->threads[i].started = true;
  }
  return DISCO_OK;
}
