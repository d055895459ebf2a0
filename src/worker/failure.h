/* What a worker writes into its error slot when a command fails, and how the controller reads it. */
#ifndef DSC_WORKER_FAILURE_H
#define DSC_WORKER_FAILURE_H

#include "base/status.h"
#include "channel/segment.h"

/* The least room that dsc_failure_encode needs: a kind, and the mark of a message that was cut. */
enum { DSC_FAILURE_LEAST_BYTES = 256 };

/* Write this thread's libdisco error as the failure of command `sequence` into at most `room` bytes; texts that are
 * too long are cut with a mark. `name`: the function's interned name; `is_echo`: a collective was left because somebody
 * else failed. Returns how many bytes it took, a multiple of 8;
 * 0 when there is less room than DSC_FAILURE_LEAST_BYTES. Allocates nothing. */
size_t dsc_failure_encode(uint64_t sequence, uint32_t name, bool is_echo, void *bytes, size_t room);

/* Read such bytes; more may follow them. message, kind, backtrace, status, sequence and is_echo of *ret_error are
 * filled (owned by the caller); *ret_name as above. False when they are malformed: then *ret_error is an empty error,
 * *ret_name 0. */
bool dsc_failure_parse(const void *bytes, size_t size, dsc_error *ret_error, uint32_t *ret_name);

/* dsc_failure_encode into a worker's slot. */
void dsc_failure_store(dsc_error_slot *slot, size_t slot_bytes, uint64_t sequence, uint32_t name, bool is_echo);

/* dsc_failure_parse of a slot. False when the slot's writer died in the middle. An empty error of status DISCO_RAISED
 * when what it holds is malformed, or there is no memory. */
bool dsc_failure_load(const dsc_error_slot *slot, dsc_error *ret_error, uint32_t *ret_name);

#endif
