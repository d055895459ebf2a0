/* Ranks that somebody else has started become workers of one process session: rank 0 is the controller, and worker 0 a
 * thread of it; every other rank's main thread is the worker of its number.
 *
 * Rank 0 makes two pipes for each, and the others open their ends through /proc: nothing has a name that would have to
 * be removed.
 */
#ifndef BENCH_CCL_JOIN_H
#define BENCH_CCL_JOIN_H

#include "ccl_table.h"

#define CCL_POOL_NAME "bench.ccl.pool"

/* All ranks call it. Rank 0 gives the table's descriptor, and the pool CCL_POOL_NAME exists afterwards. Others get the
 * table and their two ends. 0, or -1 after saying what failed. */
int ccl_join(int rank, int num_ranks, int table_fd, ccl_table **table, int ret_fds[2]);

#endif
