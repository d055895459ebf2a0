#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "ccl_peer.h"

bool ccl_peer_present(void) { return true; }

/* Serialised is enough, and costs no lock: the main thread stays out while rank 0's worker thread is in. */
int ccl_peer_init(int *argc, char ***argv, int *ret_rank, int *ret_num_ranks) {
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) return -1;
  if (provided < MPI_THREAD_SERIALIZED) {
    fprintf(stderr, "this MPI allows one thread only (level %d)\n", provided);
    return -1;
  }
  if (MPI_Comm_rank(MPI_COMM_WORLD, ret_rank) != MPI_SUCCESS) return -1;
  return MPI_Comm_size(MPI_COMM_WORLD, ret_num_ranks) == MPI_SUCCESS ? 0 : -1;
}

int ccl_peer_fini(void) { return MPI_Finalize() == MPI_SUCCESS ? 0 : -1; }

void ccl_peer_abort(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

int ccl_peer_share(void *bytes, size_t num_bytes) {
  return MPI_Bcast(bytes, (int)num_bytes, MPI_BYTE, 0, MPI_COMM_WORLD) == MPI_SUCCESS ? 0 : -1;
}

int ccl_peer_barrier(void) { return MPI_Barrier(MPI_COMM_WORLD) == MPI_SUCCESS ? 0 : -1; }

/* MPI's broadcast is in place. Out of place the root copies, while the others are being served. */
static int broadcast(const void *send, void *recv, size_t bytes, int rank) {
  int count = (int)(bytes / sizeof(float));
  if (rank != 0) return MPI_Bcast(recv, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
  int rc = MPI_Bcast((void *)(uintptr_t)send, count, MPI_FLOAT, 0, MPI_COMM_WORLD);
  if (send != recv) memcpy(recv, send, bytes);
  return rc;
}

int ccl_peer_run(ccl_op op, const void *send, void *recv, size_t bytes, int rank, int partner) {
  int count = (int)(bytes / sizeof(float)), rc = -1;
  switch (op) {
  case CCL_ALLREDUCE:
    rc = MPI_Allreduce(send == recv ? MPI_IN_PLACE : send, recv, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    break;
  case CCL_BROADCAST: rc = broadcast(send, recv, bytes, rank); break;
  case CCL_ALLGATHER: rc = MPI_Allgather(send, count, MPI_FLOAT, recv, count, MPI_FLOAT, MPI_COMM_WORLD); break;
  case CCL_SCATTER: rc = MPI_Scatter(send, count, MPI_FLOAT, recv, count, MPI_FLOAT, 0, MPI_COMM_WORLD); break;
  case CCL_GATHER: rc = MPI_Gather(send, count, MPI_FLOAT, recv, count, MPI_FLOAT, 0, MPI_COMM_WORLD); break;
  default:
    rc = send != NULL ? MPI_Send(send, count, MPI_FLOAT, partner, 0, MPI_COMM_WORLD)
                      : MPI_Recv(recv, count, MPI_FLOAT, partner, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  return rc == MPI_SUCCESS ? 0 : -1;
}
