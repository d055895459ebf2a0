/* What the processes of the collectives' benchmark share: the job of the next round, the ranks' answers, and the words
 * over which they meet. One block of shared memory, zero at first.
 *
 * The controller writes `job` before it posts the round and reads the answers after a sync; each rank writes its own
 * answer. The words of the meeting are anybody's.
 */
#ifndef BENCH_CCL_TABLE_H
#define BENCH_CCL_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CCL_MAX_RANKS = 16, CCL_PINGPONG_BURSTS = 7 };

typedef enum {
  CCL_ALLREDUCE,
  CCL_BROADCAST,
  CCL_ALLGATHER,
  CCL_SCATTER,
  CCL_GATHER,
  CCL_SENDRECV, /* rank 2k to 2k + 1 and back; half of the time counts */
  CCL_NUM_OPS
} ccl_op;

typedef enum { CCL_F32, CCL_F16, CCL_BF16, CCL_NUM_DTYPES } ccl_dtype;

/* The windows of one round. A window is some iterations of: the owner writes the input, the thing runs, the owner reads
 * and checks the output. */
typedef enum {
  CCL_IDLE,      /* writing and reading as the operation wants it, and nothing between: what is subtracted */
  CCL_COPY_IDLE, /* the same for the copies */
  CCL_COPY,      /* each rank copies the bytes that the operation must bring to it, with memcpy */
  CCL_PEER,      /* the other library; of a 16-bit sum: our own sum of float32, of as many bytes */
  CCL_OURS,
  CCL_NUM_WINDOWS
} ccl_window;

typedef struct {
  ccl_op op;
  ccl_dtype dtype;
  bool in_place;
  bool ours_first;                      /* else the peer's window comes before ours */
  size_t bytes;                         /* of one rank's part: what it gives, or gets */
  uint32_t iterations[CCL_NUM_WINDOWS]; /* 0: leave this window out */
} ccl_job;

typedef struct {
  _Alignas(128) double seconds[CCL_NUM_WINDOWS]; /* all iterations together */
  uint64_t wrong[CCL_NUM_WINDOWS];               /* bytes that were not what they should be, or an upper bound */
  int64_t preempted;                             /* times that this rank's thread was sent off its CPU meanwhile */
} ccl_answer;

typedef struct {
  _Alignas(128) _Atomic uint32_t value;
} ccl_word;

typedef struct {
  ccl_job job;
  int32_t num_ranks;
  bool shared_tensors;               /* the tensors are those of runtime.disco.empty, else on the heap */
  bool bind;                         /* rank r to the r-th CPU that is allowed */
  size_t in_bytes, out_bytes;        /* of the tensors */
  unsigned timeout_s;                /* of a round */
  double pingpong_ns[2];             /* by rank 0: before and after the windows */
  ccl_word arrived, passed, ball;    /* of barriers and the ping-pong */
  ccl_word failed;                   /* a rank is on its way out with an error: nobody should wait for it */
  ccl_answer answers[CCL_MAX_RANKS]; /* by rank */
} ccl_table;

#endif
