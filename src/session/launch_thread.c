/* Workers as threads of the controller's process. */
#include <stdio.h>

#include "base/log.h"
#include "ffi/python.h"
#include "os/cpu.h"
#include "os/thread.h"
#include "session/engine.h"

static void *thread_main(void *argument) {
  dsc_worker *worker = argument;
  dsc_status_line *line = worker->line;
  dsc_segment_header *segment = worker->segment;
  dsc_engine *engine = (dsc_engine *)worker->setup.owner;
  dsc_worker_thread *self = &engine->threads[worker->setup.id];
  if (worker->setup.id == 0 && engine->worker0_cpu >= 0 && dsc_cpu_bind(engine->worker0_cpu) != DISCO_OK)
    dsc_log(DSC_LOG_WARN, "worker 0 runs anywhere: %s", disco_last_error_text());
  dsc_worker_run(worker);
  dsc_worker_destroy(worker); /* its registers die on its own thread */
  dsc_python_drop_state();
  dsc_store_release(&line->ended, 1);       /* release: status.ended */
  dsc_doorbell_ring(&segment->controllers); /* before the join: the segment is still there */
  if (atomic_exchange(&self->fate, DSC_FATE_ENDED) == DSC_FATE_ABANDONED)
    dsc_engine_unref(engine); /* given up, and back */
  return NULL;
}

static int64_t look_after_releases(void *context) { return dsc_publish_before_sleep(context); }

disco_status dsc_launch_thread(dsc_engine *engine, int32_t worker) {
  dsc_worker_setup setup = {.id = worker,
                            .local_id = worker,
                            .num_workers = engine->settings.num_workers,
                            .num_groups = engine->settings.num_groups,
                            .segment = engine->segment.header,
                            .owner = engine,
                            .busy_threads = engine->busy_threads,
                            .spin_us = engine->settings.spin_us,
                            .notify = dsc_done_look,
                            .notify_context = engine,
                            .arena = worker == 0 ? engine->arena_range : NULL,
                            .one_address_space = !engine->has_processes,
                            .shared = engine->arena.base,
                            .shared_bytes = engine->arena.range_bytes * (uint64_t)engine->arena.ranges};
  if (worker == 0) {
    setup.idle = look_after_releases;
    setup.idle_context = engine;
    setup.asleep = &engine->worker0_asleep;
  }
  dsc_worker *self = NULL;
  char name[16];
  (void)snprintf(name, sizeof(name), "disco w%d", worker % 10000);
  disco_status status = dsc_worker_create(&setup, &self);
  if (status == DISCO_OK) status = dsc_thread_start(name, thread_main, self, &engine->threads[worker].thread);
  if (status != DISCO_OK) {
    dsc_worker_destroy(self);
    return status;
  }
  engine->threads[worker].started = true;
  return DISCO_OK;
}

disco_status dsc_launch_threads(dsc_engine *engine) {
  disco_status status = DISCO_OK;
  dsc_shared_memory_seclude(&engine->segment.memory); /* all workers share this mapping */
  for (int32_t i = 0; status == DISCO_OK && i < engine->settings.num_workers; i++)
    status = dsc_launch_thread(engine, i);
  return status;
}
