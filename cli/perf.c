/* disco perf: how fast the collectives, or the control plane, of a session are here. */
#include "perf.h"

#include "command.h"

static int run(int argc, char **argv) {
  perf_options options;
  int status = perf_parse(argc, argv, &options);
  if (status != EXIT_OK) return status;
  return options.control ? perf_run_control(&options) : perf_run_collectives(&options);
}

const command perf_command = {
    "perf", "how fast the collectives, or calls, of a session are", run,
    "Usage:\n"
    "  disco perf [OPTION]...\n"
    "  disco perf --control [--workers N] [--session KIND] [--iters N] [--warmup N] [--json]\n"
    "\n"
    "Runs collectives over a range of sizes and prints the table of nccl-tests: time, algorithm bandwidth and bus\n"
    "bandwidth, out of place and in place, and how many elements of the results were wrong.\n"
    "\n"
    "Examples:\n"
    "  disco perf --workers 4 --session process --max 64M     allreduce of 8 B to 64 MiB among 4 processes\n"
    "  disco perf --op all --type bf16 --min 1K --max 1M --check\n"
    "                                                         every operation, each result verified\n"
    "\n"
    "What to run:\n"
    "  --op NAME        allreduce (default), allgather, broadcast, scatter, gather, sendrecv (each worker to the\n"
    "                   next), or all\n"
    "  --type NAME      i8, u8, i16, u16, i32, u32, i64, u64, f16, bf16, f32 (default), f64, or all\n"
    "  --redop NAME     of allreduce: sum (default), prod, min, max, avg\n"
    "  --min SIZE       first size of the message in bytes, like 8 (default), 4K or 1M\n"
    "  --max SIZE       last size (default 4M)\n"
    "  --factor N       from one size to the next (default 2)\n"
    "  --iters N        timed iterations of each case (default 100; calls with --control, default 2000)\n"
    "  --warmup N       iterations before them (default 10)\n"
    "  --check          verify every result on every worker, element by element\n"
    "\n"
    "Where to run it:\n"
    "  --workers N      workers of the session (default 2)\n"
    "  --groups N       groups that they form (default 1)\n"
    "  --in-group       collectives among the workers of each group, all groups at once, instead of among all\n"
    "  --session KIND   workers are threads (thread, the default) or processes (process)\n"
    "  --private        tensors on the heap, which other processes cannot reach, instead of runtime.disco.empty's\n"
    "  --ccl NAME       data plane: cpu (default), ref, or that of a plugin\n"
    "\n"
    "What to print:\n"
    "  --json           one JSON object\n"
    "  --control        rates of the control plane instead, with 1, 2, 4, ... workers: calls per second, the\n"
    "                   controller's time for each, and from one call until all workers have done it\n"
    "\n"
    "Columns:\n"
    "  size     bytes of the message: with allgather, scatter and gather all parts together\n"
    "  count    elements of one part\n"
    "  root     rank that the message goes from or to; -1: there is none\n"
    "  time     mean of the iterations on the slowest worker, in microseconds\n"
    "  algbw    size / time, in 10^9 bytes per second\n"
    "  busbw    algbw times what a link must carry of it: allreduce 2(n-1)/n; allgather, scatter, gather (n-1)/n\n"
    "  #wrong   elements that are not what they must be, on all workers; N/A without --check\n"
    "  p50 p99  half of the iterations, and 99 of 100, took no longer on any worker\n"
    "\n"
    "Exit status: 0; 1 when something failed or an element was wrong; 2 for wrong arguments.\n"};
