/* The side of the workers: the global functions bench.ccl.join, bench.ccl.round and bench.ccl.leave.
 *
 * join(in, out): bind the worker to its CPU, take the two tensors, or tensors of its own from the heap when both are
 * None. round(): one round of table->job. leave(): the tensors go.
 */
#ifndef BENCH_CCL_WORKER_H
#define BENCH_CCL_WORKER_H

#include "ccl_table.h"

/* A new table, in memory that other processes reach as /proc/PID/fd/FD; the table of another process. NULL with errno.
 */
ccl_table *ccl_table_create(int *ret_fd);
ccl_table *ccl_table_open(long pid, int fd);

/* Register the functions in this process. 0, or -1 after saying why not. */
int ccl_worker_register(ccl_table *table);

#endif
