/* A worker that is not a thread of its controller: the handshake, and where its commands come from. */
#ifndef DSC_WORKER_PROCESS_H
#define DSC_WORKER_PROCESS_H

#include "disco/channel.h"
#include "wire/frame.h"
#include "worker/worker.h"

/* The bodies of disco_worker_process() and disco_worker_run_channel() (disco/worker.h). */
disco_status dsc_worker_process(int32_t worker_id, int32_t num_workers, int32_t num_groups, int read_fd, int write_fd);
disco_status dsc_worker_run_channel(int32_t worker_id, int32_t num_workers, int32_t num_groups, disco_channel *channel);

/* frames.c: be the worker that `hello` speaks to, over frames alone, until shutdown (DISCO_OK) or the end of the
 * channel (DISCO_LOST). The answer was sent. `unshared`: why it shares no memory with the other workers. *finished (may
 * be NULL) is set before the controller hears of the end: from then on it may close its side. */
disco_status dsc_worker_serve(const dsc_hello *hello, disco_channel *channel, const char *unshared,
                              _Atomic bool *finished);

#endif
