/* What every test of this suite shares: sessions with a data plane, the worker functions that try collectives, checks.
 *
 * The same programs run in several modes, which the environment chooses:
 *   DISCO_TEST_SESSION  thread (default) | process: worker 0 a thread, the others processes of this very program
 *   DISCO_TEST_CCL      cpu (default) | ref: the name that is given to disco_session_init_ccl()
 *   DISCO_TEST_MEMORY   ours (default): tensors of runtime.disco.empty | foreign: of malloc | mixed: odd workers' are
 *   DISCO_TEST_FILTER   a pattern of the tests to run
 * Checks may fail on the test's own thread only: worker functions raise. */
#ifndef CCL_SUPPORT_H
#define CCL_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ccl/expected.h"
#include "common/checks.h"
#include "disco/disco.h"
#include "disco/worker.h"
#include "ffi/value.h"

enum {
  BOUND_MS = 5000, /* until an error has to be told */
  WORK_MS = 30000, /* until a batch of good work has to be done */
};

/* ---- Running ---- */

/* The body of every main. */
int ccl_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count);
bool of_processes(void);
const char *ccl_name(void);
bool is_ref(void);

enum { MEMORY_OURS, MEMORY_FOREIGN, MEMORY_MIXED };
int memory_of_mode(void);

/* True for all cases, under sanitizers (DISCO_TEST_SCALE = n) for every n-th one, spread by a hash. */
bool chosen(uint64_t index);

/* ---- Sessions ---- */

/* Not yet with a data plane. */
disco_session *make_bare_session(int32_t workers, int32_t groups);
disco_session_options options_of(int32_t workers, int32_t groups);
disco_status start(const disco_session_options *options, disco_session **ret_session);
disco_session *make_session(int32_t workers, int32_t groups);
/* init_ccl with the device ids 0, 1, 2, ... */
disco_status init_ccl(disco_session *session, int32_t num_ids);
/* Shut down, which must succeed. */
void end_session(disco_session *session);
/* Whatever shutdown says: a worker was killed. */
void end_lost_session(disco_session *session);
void sync_all(disco_session *session);

/* ---- Checks ---- */

/* expect_ok, expect_status, expect_kind and expect_says: common/checks.h. This one: its message, which is one sentence,
 * contains the number as a word. */
void check_names(int64_t number, const char *file, int line);
#define expect_names(number) check_names((number), __FILE__, __LINE__)
bool says_number(const char *text, int64_t number);

/* ---- Values and calls ---- */

TVMFFIAny any_bool(bool value);
TVMFFIAny any_text(const char *text); /* borrowed */
TVMFFIAny any_dref(disco_dref *dref); /* borrowed */
TVMFFIAny any_dtype(DLDataType type);
TVMFFIAny make_shape(const int64_t *sizes, int32_t count); /* owned */
#define VALUES(...) \
  (const TVMFFIAny[]){__VA_ARGS__}, (int32_t)(sizeof((const TVMFFIAny[]){__VA_ARGS__}) / sizeof(TVMFFIAny))
#define NO_VALUES NULL, 0
/* Call a global function on all workers; post() drops the result. */
disco_dref *call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args);
void post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args);
disco_status try_post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args);
int64_t get_int(disco_dref *dref, int32_t worker);

/* ---- Collectives on workers (functions.c) ---- */

enum { ALLREDUCE, ALLGATHER, BROADCAST, SCATTER, GATHER, NUM_OPERATIONS };
extern const char *const operation_names[NUM_OPERATIONS];

/* What the worker `who` does instead of its part. */
enum {
  GOOD,    /* all take part, and compare what they got */
  NOTHING, /* all take part, nobody compares */
  /* From here on worker `who` alone does something else, and nobody compares. */
  SKIP,      /* calls no collective */
  RAISE,     /* raises RAISED_TEXT before */
  TWICE,     /* calls it twice */
  HANG,      /* never comes back: to be killed */
  COUNT,     /* one element more */
  DTYPE,     /* int32 */
  KIND,      /* the next one */
  OPERATION, /* the next one */
  GROUP,     /* in_group the other way */
  /* Wrong by itself: */
  RECV_SIZE,  /* recv has one element more than it should */
  SEND_SIZE,  /* send has one element more */
  RECV_DTYPE, /* recv is of another type of the same size */
  BAD_KIND,   /* 7 */
  STRIDED_SEND,
  STRIDED_RECV,
  GPU_SEND,
  GPU_RECV,
  OVERLAP, /* recv begins in the middle of send */
  NULL_SEND,
  NULL_RECV,
};
#define RAISED_TEXT "this one would rather not"
enum { EVERYBODY = -1, NOBODY = -2 }; /* who */

/* The arguments of test.collective, one integer each. */
typedef struct {
  int64_t operation, code, bits, lanes;
  int64_t kind;
  int64_t count; /* elements of one rank's part */
  int64_t in_group, in_place;
  int64_t offset; /* bytes by which the tensors are off a 64-byte line; a multiple of it with each worker */
  int64_t seed, flavour;
  int64_t memory;
  int64_t repeat;    /* that often, with seed, seed + 1, ... */
  int64_t alternate; /* ..., and in_group the other way every second time */
  int64_t who, how;
} job;
enum { JOB_FIELDS = sizeof(job) / sizeof(int64_t) };

/* Sensible for everything not named: world, out of place, aligned, once, memory of the mode. */
job job_of(int operation, DLDataType type, int64_t count);
void post_job(disco_session *session, const job *what);
/* Not posted when it tells an earlier error. */
disco_status try_job(disco_session *session, const job *what);
/* Post it, sync; a failure prints the case. */
void run_job(disco_session *session, const job *what);
/* One small good collective of each group and of all. */
void check_works(disco_session *session);
/* What a worker noticed about its tensors in bad jobs: that bytes moved which should not have. Fails the test. */
void check_complaints(disco_session *session);

/* ---- Point to point on workers ---- */

enum { SEND, RECV, RECV0, SEND_NEXT, RECV_PREV, NAP, RAISES };
/* The worker does `action` with `peer`, in the order of the steps. A message is the stream of its seed. */
typedef struct {
  int64_t worker, action, peer, count, seed;
} step;
void post_steps(disco_session *session, DLDataType type, const step *steps, size_t count);
/* Not posted when it tells an earlier error. */
disco_status try_steps(disco_session *session, DLDataType type, const step *steps, size_t count);
#define POST_STEPS(session, type, ...) \
  post_steps(session, type, (const step[]){__VA_ARGS__}, sizeof((const step[]){__VA_ARGS__}) / sizeof(step))

/* ---- Statistics: test.statistic(which) of each worker ---- */

enum { INLINED, STAGED, DIRECT, BYTES, SLEEPS };
int64_t statistic(disco_session *session, int which, int32_t worker);

void register_worker_functions(void);

#endif
