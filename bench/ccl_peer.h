/* The library that ours is measured against, and how the ranks find each other: ccl_mpi.c is MPI (bench/ccl-peers
 * compiles it with each peer's mpi.h), ccl_alone.c is nobody.
 *
 * ccl_peer_run() is called by the worker's thread, one thread of a process at a time, everything else by the main
 * thread, while no worker runs.
 */
#ifndef BENCH_CCL_PEER_H
#define BENCH_CCL_PEER_H

#include <stdbool.h>
#include <stddef.h>

#include "ccl_table.h"

/* Are there ranks that somebody else has started? If so: which am I, of how many. 0, or -1 after saying why not. */
bool ccl_peer_present(void);
int ccl_peer_init(int *argc, char ***argv, int *ret_rank, int *ret_num_ranks);
int ccl_peer_fini(void);

/* End all ranks with this exit code; may return. */
void ccl_peer_abort(int code);

/* Rank 0's bytes for all ranks; wait for all ranks. 0, or -1. */
int ccl_peer_share(void *bytes, size_t num_bytes);
int ccl_peer_barrier(void);

/* One operation on float32: `bytes` of each rank's part. send == recv: in place, where the operation has that. Of a
 * send/recv pair: send != NULL sends to `partner`, else receives from it. 0, or -1. */
int ccl_peer_run(ccl_op op, const void *send, void *recv, size_t bytes, int rank, int partner);

#endif
