#define _GNU_SOURCE
#include "ccl_join.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "ccl_peer.h"
#include "ccl_worker.h"
#include "disco/worker.h"

/* What rank 0 tells everybody: descriptors of its own process. */
typedef struct {
  long pid;
  int table_fd;
  int ends[CCL_MAX_RANKS][2]; /* of worker i: {read, write} */
} invitation;

static int kept[CCL_MAX_RANKS][2]; /* the controller's ends: {read, write} */
static int num_workers;

/* f(i) is worker i's pair, f(0) the end. */
static int pool_function(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 1 || args[0].type_index != kTVMFFIInt || args[0].v_int64 < 0 || args[0].v_int64 >= num_workers)
    return disco_raise("ValueError", "the pool of bench/ccl has %d workers", num_workers);
  if (args[0].v_int64 == 0) return 0;
  TVMFFIByteArray name = {"ffi.Shape", strlen("ffi.Shape")};
  TVMFFIObjectHandle make_shape = NULL;
  if (TVMFFIFunctionGetGlobal(&name, &make_shape) != 0) return -1;
  if (make_shape == NULL) return disco_raise("RuntimeError", "there is no ffi.Shape");
  TVMFFIAny ends[2];
  memset(ends, 0, sizeof(ends));
  for (int i = 0; i < 2; i++) {
    ends[i].type_index = kTVMFFIInt;
    ends[i].v_int64 = kept[args[0].v_int64][i];
  }
  int rc = TVMFFIFunctionCall(make_shape, ends, 2, result);
  TVMFFIObjectDecRef(make_shape);
  return rc;
}

static int pool_creator(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 3 || args[0].type_index != kTVMFFIInt || args[0].v_int64 != num_workers)
    return disco_raise("ValueError", "the pool of bench/ccl is for %d workers", num_workers);
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionCreate(NULL, pool_function, NULL, &function) != 0) return -1;
  result->type_index = kTVMFFIFunction;
  result->v_obj = function;
  return 0;
}

static int invite(invitation *sent, int num_ranks, int table_fd) {
  num_workers = num_ranks;
  sent->pid = (long)getpid();
  sent->table_fd = table_fd;
  for (int i = 1; i < num_ranks; i++) {
    int down[2], up[2];
    if (pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0) return perror("pipe"), -1;
    sent->ends[i][0] = down[0], sent->ends[i][1] = up[1];
    kept[i][0] = up[0], kept[i][1] = down[1];
  }
  if (disco_register_function(CCL_POOL_NAME, pool_creator, NULL, NULL, true) == DISCO_OK) return 0;
  fprintf(stderr, "%s: %s\n", CCL_POOL_NAME, disco_last_error_text());
  return -1;
}

static int accept_invitation(const invitation *got, int rank, ccl_table **ret_table, int ret_fds[2]) {
  for (int i = 0; i < 2; i++) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/fd/%d", got->pid, got->ends[rank][i]);
    ret_fds[i] = open(path, (i == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
    if (ret_fds[i] < 0) return perror(path), -1;
  }
  *ret_table = ccl_table_open(got->pid, got->table_fd);
  return *ret_table != NULL ? 0 : (perror("the table"), -1);
}

int ccl_join(int rank, int num_ranks, int table_fd, ccl_table **table, int ret_fds[2]) {
  invitation sent;
  memset(&sent, 0, sizeof(sent));
  if (rank == 0 && invite(&sent, num_ranks, table_fd) != 0) return -1;
  if (ccl_peer_share(&sent, sizeof(sent)) != 0) return -1;
  if (rank != 0 && accept_invitation(&sent, rank, table, ret_fds) != 0) return -1;
  if (ccl_peer_barrier() != 0) return -1;
  if (rank == 0) /* from here on a worker that is gone is seen at its pipes */
    for (int i = 1; i < num_ranks; i++) close(sent.ends[i][0]), close(sent.ends[i][1]);
  return 0;
}
