#include "ccl/plane.h"

static uint64_t lay(uint64_t *at, uint64_t bytes) {
  const uint64_t page = 4096;
  uint64_t offset = *at;
  *at = (offset + bytes + page - 1) / page * page;
  return offset;
}

static uint64_t communicator_bytes(const dsc_plane_layout *layout, int32_t ranks) {
  uint64_t at = 0;
  (void)lay(&at, sizeof(dsc_comm_head) + (uint64_t)ranks * sizeof(dsc_rank_lines));
  (void)lay(&at, (uint64_t)ranks * layout->staging_bytes);
  return at;
}

/* Address space is cheap, pages that are touched are not: with many ranks each gets less. */
static uint64_t at_most(uint64_t wanted, uint64_t all, uint64_t ranks, uint64_t least) {
  uint64_t share = all / ranks / 4096 * 4096;
  if (share > wanted) share = wanted;
  return share < least ? least : share;
}

void dsc_plane_plan(int32_t num_workers, int32_t num_groups, dsc_plane_layout *ret_layout) {
  dsc_plane_layout plan = {
      .num_workers = num_workers, .num_groups = num_groups, .group_size = num_workers / num_groups};
  uint64_t workers = (uint64_t)num_workers, pairs = workers * workers, at = 0;
  plan.chunk_bytes = at_most(DSC_CCL_CHUNK, (uint64_t)8 << 20, workers, 16 << 10);
  plan.eager_bytes = at_most(DSC_CCL_EAGER, (uint64_t)8 << 20, pairs, 64);
  plan.staging_bytes = 2 * DSC_CCL_ONESHOT + DSC_CCL_BUFFERS * plan.chunk_bytes;
  (void)lay(&at, 1); /* the first page stays free: no offset is 0 */
  plan.notes = lay(&at, workers * sizeof(dsc_rank_note));
  plan.world = lay(&at, communicator_bytes(&plan, num_workers));
  plan.group_stride = communicator_bytes(&plan, plan.group_size);
  plan.groups = lay(&at, num_groups > 1 ? plan.group_stride * (uint64_t)num_groups : 0);
  plan.pairs = lay(&at, pairs * sizeof(dsc_pair_lines));
  plan.eager = lay(&at, pairs * DSC_CCL_EAGER_SLOTS * plan.eager_bytes);
  plan.pair_staging = lay(&at, workers * DSC_CCL_BUFFERS * plan.chunk_bytes);
  plan.bytes = at;
  *ret_layout = plan;
}
