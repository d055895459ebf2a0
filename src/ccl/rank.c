#include "ccl/rank.h"

#include <inttypes.h>
#include <stdio.h>

void dsc_rank_why(const dsc_ccl_host *host, int32_t worker, const dsc_member_state *state, char *text, size_t room) {
  char cause[DSC_CCL_CAUSE];
  if (state->is_dead)
    (void)snprintf(text, room, "worker %d is lost", worker);
  else if (state->failed != 0 && host->why(host, worker, cause, sizeof(cause)))
    (void)snprintf(text, room, "worker %d failed in command %" PRIu64 " (%s)", worker, state->failed, cause);
  else if (state->failed != 0)
    (void)snprintf(text, room, "worker %d failed in command %" PRIu64, worker, state->failed);
  else
    (void)snprintf(text, room, "worker %d has gone on to command %" PRIu64, worker, state->done + 1);
}
