/* What a worker writes into its error slot when a command fails, and how the controller reads it. */
#ifndef DSC_WORKER_FAILURE_H
#define DSC_WORKER_FAILURE_H

#include "base/status.h"
#include "channel/segment.h"

/* Write this thread's libdisco error as the failure of command `sequence`. `name`: the function's interned name. */
void dsc_failure_store(dsc_error_slot *slot, size_t slot_bytes, uint64_t sequence, uint32_t name);

/* Read it: message, kind, backtrace, status and sequence of *ret_error are filled (owned by the caller); *ret_name as
 * above. False when the slot's writer died in the middle. */
bool dsc_failure_load(const dsc_error_slot *slot, dsc_error *ret_error, uint32_t *ret_name);

#endif
