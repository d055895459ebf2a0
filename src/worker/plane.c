/* What this library's data plane asks of the worker that it runs in. */
#include <stdio.h>

#include "base/text.h"
#include "wire/limits.h"
#include "worker/failure.h"
#include "worker/worker.h"

static dsc_segment_header *segment_of(const dsc_ccl_host *host) { return (dsc_segment_header *)host->context; }

static dsc_doorbell *bell(const dsc_ccl_host *host, int32_t worker) {
  return &dsc_segment_status(segment_of(host), worker)->rank_bell;
}

static dsc_member_state look(const dsc_ccl_host *host, int32_t worker) {
  const dsc_status_line *line = dsc_segment_status(segment_of(host), worker);
  dsc_member_state state = {0};
  state.done = dsc_load_acquire(&line->done); /* acquire: status.done, so that its failure is seen, too */
  /* acquire: status.lost, status.ended; both are confirmed */
  state.is_dead = dsc_load_acquire(&line->lost) != 0 || dsc_load_acquire(&line->ended) != 0;
  uint64_t failed = dsc_load_acquire(&line->failed); /* acquire: status.failed */
  state.failed = failed > *host->resumed ? failed : 0;
  state.is_later = dsc_load_acquire(&line->resumed) > *host->resumed; /* acquire: status.resumed */
  return state;
}

static void await(const dsc_ccl_host *host, int32_t worker, uint64_t sequence) {
  dsc_await(&dsc_segment_status(segment_of(host), worker)->awaited_done, sequence);
}

static void waits(const dsc_ccl_host *host, bool yes) {
  dsc_store_relaxed(&dsc_segment_status(segment_of(host), host->worker)->waits, yes ? DSC_WAITS_PEERS : DSC_WAITS_NOT);
}

static bool why(const dsc_ccl_host *host, int32_t worker, char *text, size_t room) {
  dsc_error error;
  uint32_t name = 0;
  bool known = dsc_failure_load(dsc_segment_error_slot(segment_of(host), worker), &error, &name) && error.kind[0] != 0;
  if (known)
    (void)snprintf(text, room, "%s: %.*s", error.kind, (int)room - DSC_KIND_MAX,
                   error.message != NULL ? error.message : "");
  dsc_error_fini(&error);
  return known;
}

_Static_assert((int)DSC_MAX_WORKERS <= (int)DSC_REDUCE_MAX_INPUTS,
               "the data plane has room for every worker of a session");

disco_status dsc_worker_start_plane(dsc_worker *worker, const dsc_backend *backend) {
  const dsc_worker_setup *setup = &worker->setup;
  dsc_segment_header *segment = worker->segment;
  if (worker->ccl[0] != 0)
    return dsc_fail(DISCO_RUNTIME, "worker %d already uses the data plane `%s`: init_ccl once per session", setup->id,
                    worker->ccl);
  if (setup->unshared != NULL || segment->plane_bytes == 0)
    return dsc_fail(DISCO_RUNTIME, "worker %d cannot join the data plane `%s`: it shares no memory with the others: %s",
                    setup->id, backend->name, setup->unshared != NULL ? setup->unshared : "its session has none");
  dsc_ccl_host host = {.context = segment,
                       .worker = setup->id,
                       .num_workers = setup->num_workers,
                       .num_groups = setup->num_groups,
                       .memory = dsc_segment_at(segment, segment->plane_offset),
                       .arena = setup->shared,
                       .arena_bytes = setup->shared_bytes,
                       .one_address_space = setup->one_address_space,
                       .sequence = &worker->sequence,
                       .resumed = &worker->skip.resumed,
                       .epoch = &worker->skip.epoch,
                       .failures = &segment->failures,
                       .over = &segment->fault,
                       .over_value = DSC_FAULT_GRACE,
                       .sleepers = &segment->ranks_asleep,
                       .timeout_ms = segment->collective_timeout_ms != 0 ? (int64_t)segment->collective_timeout_ms : -1,
                       .spin_us = setup->spin_us,
                       .bell = bell,
                       .look = look,
                       .await = await,
                       .waits = waits,
                       .why = why};
  disco_status status = dsc_plane_create(backend, &host, &worker->plane);
  if (status != DISCO_OK) return status;
  (void)snprintf(worker->ccl, sizeof(worker->ccl), "%s", backend->name);
  worker->device = (DLDevice){kDLCPU, 0};
  return DISCO_OK;
}
