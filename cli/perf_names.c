/* Operations, types and reductions of disco perf, with nccl-tests' notion of sizes and bandwidths. */
#include "perf.h"

const char *const perf_op_names[PERF_NUM_OPS] = {"allreduce", "allgather", "broadcast",
                                                 "scatter",   "gather",    "sendrecv"};

const char *const perf_redop_names[PERF_NUM_REDOPS] = {"sum", "prod", "min", "max", "avg"};

const perf_type perf_types[PERF_NUM_TYPES] = {
    {"i8", {kDLInt, 8, 1}, 1},       {"u8", {kDLUInt, 8, 1}, 1},    {"i16", {kDLInt, 16, 1}, 2},
    {"u16", {kDLUInt, 16, 1}, 2},    {"i32", {kDLInt, 32, 1}, 4},   {"u32", {kDLUInt, 32, 1}, 4},
    {"i64", {kDLInt, 64, 1}, 8},     {"u64", {kDLUInt, 64, 1}, 8},  {"f16", {kDLFloat, 16, 1}, 2},
    {"bf16", {kDLBfloat, 16, 1}, 2}, {"f32", {kDLFloat, 32, 1}, 4}, {"f64", {kDLFloat, 64, 1}, 8},
};

int64_t perf_parts(perf_op op, int32_t ranks) {
  return op == PERF_ALLGATHER || op == PERF_SCATTER || op == PERF_GATHER ? ranks : 1;
}

int64_t perf_sent(perf_op op, int32_t rank, int32_t ranks, int64_t count) {
  switch (op) {
  case PERF_BROADCAST: return rank == 0 ? count : 0;
  case PERF_SCATTER: return rank == 0 ? ranks * count : 0;
  default: return count;
  }
}

int64_t perf_received(perf_op op, int32_t rank, int32_t ranks, int64_t count) {
  switch (op) {
  case PERF_ALLGATHER: return ranks * count;
  case PERF_GATHER: return rank == 0 ? ranks * count : 0;
  default: return count;
  }
}

double perf_bus_factor(perf_op op, int32_t ranks) {
  double n = ranks;
  switch (op) {
  case PERF_ALLREDUCE: return 2 * (n - 1) / n;
  case PERF_ALLGATHER:
  case PERF_SCATTER:
  case PERF_GATHER: return (n - 1) / n;
  default: return 1;
  }
}
