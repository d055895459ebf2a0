/* Our allreduce, made wrong: what the benchmark must notice. BENCH_FAKE=none, skip (it does nothing), byte (one bit of
 * the result's last byte is wrong), raise (rank 1 fails), hang (rank 1 never returns); from the 40th call on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disco/worker.h"

typedef disco_status (*allreduce)(const DLTensor *, disco_reduce_kind, bool, DLTensor *);

enum { CALLS_BEFORE = 40 };

static bool is_rank_1(void) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  return disco_worker_get_info(&info) == DISCO_OK && info.worker_id == 1;
}

DISCO_API disco_status disco_allreduce(const DLTensor *send, disco_reduce_kind kind, bool in_group, DLTensor *recv) {
  static _Thread_local int calls;
  static _Thread_local allreduce real;
  const char *fault = getenv("BENCH_FAKE");
  if (real == NULL) {
    void *symbol = dlsym(RTLD_NEXT, "disco_allreduce");
    memcpy(&real, &symbol, sizeof real);
    if (real == NULL) return disco_fail(DISCO_RUNTIME, "no disco_allreduce to make wrong");
  }
  if (fault == NULL || ++calls < CALLS_BEFORE) fault = "none";
  if (strcmp(fault, "skip") == 0) return DISCO_OK;
  if (strcmp(fault, "raise") == 0 && is_rank_1()) return disco_fail(DISCO_VALUE, "made to fail");
  while (strcmp(fault, "hang") == 0 && is_rank_1()) sleep(1);
  disco_status status = real(send, kind, in_group, recv);
  uint8_t *last = (uint8_t *)recv->data + recv->shape[0] * recv->dtype.bits / 8 - 1;
  if (strcmp(fault, "byte") == 0) *last ^= 1;
  return status;
}
