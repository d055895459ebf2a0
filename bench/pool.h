/* A pool of worker processes for runtime.disco.SessionProcess: each is this program again, started as `control
 * --process-worker ...`.
 *
 * The pool creator is a global function, as the contract wants it: creator(num_workers, num_groups, entrypoint) gives
 * f; f(i) starts worker i and gives Shape(read_fd, write_fd); f(0) waits for all of them.
 */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#define BENCH_POOL_NAME "bench.disco.create_process_pool"

/* Register the creator. Its workers load the same libraries and count in the table behind table_fd; they end after
 * timeout_s in any case. */
int bench_pool_register(char *const *libraries, int num_libraries, int table_fd, int timeout_s);

/* The whole life of a worker process. `spec` is what the pool passed:
 * "worker,workers,groups,read_fd,write_fd,table_fd,timeout". Returns the exit status. */
int bench_pool_worker(const char *spec, char *const *libraries, int num_libraries);

#endif
