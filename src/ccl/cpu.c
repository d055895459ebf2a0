/* The fast backend: which way an operation of a size goes. Thresholds are data (DSC_TUNING_LIST) and never change a bit
 * of a result. */
#include "ccl/backend.h"
#include "ccl/large.h"
#include "ccl/small.h"

static disco_status allreduce(dsc_plane *plane, const dsc_request *request) {
  uint64_t largest = request->comm->size == 2 ? plane->tuning.oneshot_two : plane->tuning.oneshot_many;
  return request->bytes <= largest ? dsc_small_allreduce(plane, request) : dsc_large_allreduce(plane, request);
}

static disco_status move(dsc_plane *plane, const dsc_request *request) {
  uint64_t parts = request->print.operation == DSC_OPERATION_SCATTER ? (uint64_t)request->comm->size : 1;
  bool small = request->bytes * parts <= plane->tuning.oneshot_move;
  return small ? dsc_small_move(plane, request) : dsc_large_move(plane, request);
}

const dsc_backend dsc_backend_cpu = {
    .version = DSC_BACKEND_VERSION, .name = "cpu", .allreduce = allreduce, .move = move};
