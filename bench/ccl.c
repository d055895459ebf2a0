/* The benchmark of the collectives. Every worker runs short windows in turn, A B A B: a ping-pong, memcpys of the same
 * bytes, the other library's operation, ours; over the sizes, round after round, so that what the machine does
 * meanwhile meets all of them. Every byte of every result is checked.
 *
 * Compiled with ccl_mpi.c and started by an mpirun, the ranks are also the workers of one session (bench/ccl-peers);
 * with ccl_alone.c it is disco-bench-ccl, which starts its own workers and has no other library.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

#include "ccl_join.h"
#include "ccl_pattern.h"
#include "ccl_peer.h"
#include "ccl_report.h"
#include "ccl_worker.h"
#include "disco/disco.h"
#include "disco/worker.h"
#include "probe.h"

enum { EXIT_FINE = 0, EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_LIBRARY = 3, EXIT_HANG = 4 };
enum { MAX_SIZES = 64, MAX_CASES = 1024, MAX_ROUNDS = 10000, CALIBRATIONS = 3, MAX_ITERATIONS = 100000 };

static const char help[] =
    "usage: disco-bench-ccl [options]\n"
    "       mpirun -n P disco-bench-ccl-NAME --peer NAME [options]     (bench/ccl-peers builds and runs these)\n"
    "\n"
    "Measures the collectives between the workers of one host, beside memcpys of the same bytes and, under an mpirun,\n"
    "beside that MPI. 16-bit sums are measured beside our own sums of float32 of as many bytes.\n"
    "\n"
    "  --op OP,...          allreduce, broadcast, allgather, scatter, gather, sendrecv (default all)\n"
    "  --sizes N,...        bytes of one rank's part, with K and M (default 8 to 64M)\n"
    "  --dtype TYPE,...     f32, f16, bf16 (default f32); the 16-bit ones for allreduce only\n"
    "  --place in,out       in place, out of place: of allreduce and broadcast (default both)\n"
    "  --tensors KIND       private: on the heap (default); shared: of runtime.disco.empty\n"
    "  --ranks P            workers, 2 to 16 (default 2); mpirun says it otherwise\n"
    "  --threads            workers are threads (default: worker 0 is one, the others are processes)\n"
    "  --rounds R           rounds of each case (default 20)\n"
    "  --seconds S          start no round after so many seconds\n"
    "  --window MS          aim of a window (default 2); a window has at least one operation and one to warm up\n"
    "  --bind yes|no        each rank to a CPU of its own (default: yes where there are enough)\n"
    "  --data-plane NAME    for init_ccl (default cpu)\n"
    "  --peer NAME          how tables name the MPI that started this (default MPI)\n"
    "  --regimes NEAR,FAR   round trips of a flag up to which CPUs are near, from which they are far, ns (default "
    "200,350)\n"
    "  --json               one JSON object per round and case instead of tables\n"
    "  --timeout SECONDS    give up with exit code 4 when a round takes longer (default 60)\n"
    "\n"
    "Exit codes: 0 every result was right; 1 one was wrong; 2 usage; 3 something failed; 4 no progress.\n";

typedef struct {
  bool ops[CCL_NUM_OPS], dtypes[CCL_NUM_DTYPES], places[2];
  size_t sizes[MAX_SIZES];
  int num_sizes;
  bool shared_tensors, threads, json;
  int bind; /* -1: where there are enough CPUs */
  int ranks, rounds, timeout_s;
  double seconds, window_ms, near_ns, far_ns;
  const char *data_plane, *peer;
} options;

typedef struct {
  const options *opt;
  ccl_table *table;
  disco_session *session;
  disco_dref *round;
  ccl_setup setup;
  ccl_case cases[MAX_CASES];
  uint32_t iterations[MAX_CASES][CCL_NUM_WINDOWS];
  int num_cases;
  ccl_record *records;
  size_t num_records;
  uint64_t wrong;
} bench;

/* ---- Options ---- */

/* Calls `set` for each word between commas. */
static int for_words(const char *text, int (*set)(options *opt, const char *word), options *opt) {
  char copy[1024], *state = NULL;
  if ((size_t)snprintf(copy, sizeof copy, "%s", text) >= sizeof copy) return -1;
  for (char *word = strtok_r(copy, ",", &state); word != NULL; word = strtok_r(NULL, ",", &state))
    if (set(opt, word) != 0) return -1;
  return 0;
}

static int set_op(options *opt, const char *word) {
  for (int i = 0; i < CCL_NUM_OPS; i++)
    if (strcmp(word, ccl_op_name((ccl_op)i)) == 0) return opt->ops[i] = true, 0;
  return -1;
}

static int set_dtype(options *opt, const char *word) {
  for (int i = 0; i < CCL_NUM_DTYPES; i++)
    if (strcmp(word, ccl_dtype_name((ccl_dtype)i)) == 0) return opt->dtypes[i] = true, 0;
  return -1;
}

static int set_place(options *opt, const char *word) {
  if (strcmp(word, "in") != 0 && strcmp(word, "out") != 0) return -1;
  return opt->places[strcmp(word, "in") == 0 ? 0 : 1] = true, 0;
}

static int set_size(options *opt, const char *word) {
  char *end = NULL;
  unsigned long long n = strtoull(word, &end, 10);
  if (*end == 'K') n <<= 10, end++;
  if (*end == 'M') n <<= 20, end++;
  if (*end != 0 || n < 4 || n % 4 != 0 || n > 1ull << 31 || opt->num_sizes == MAX_SIZES) return -1;
  opt->sizes[opt->num_sizes++] = (size_t)n;
  return 0;
}

enum { OPT_OP = 1, OPT_SIZES, OPT_DTYPE, OPT_PLACE, OPT_TENSORS, OPT_RANKS, OPT_THREADS, OPT_ROUNDS, OPT_SECONDS };
enum { OPT_WINDOW = 20, OPT_BIND, OPT_PLANE, OPT_PEER, OPT_JSON, OPT_TIMEOUT, OPT_REGIMES, OPT_HELP };

static const struct option long_options[] = {{"op", required_argument, NULL, OPT_OP},
                                             {"sizes", required_argument, NULL, OPT_SIZES},
                                             {"dtype", required_argument, NULL, OPT_DTYPE},
                                             {"place", required_argument, NULL, OPT_PLACE},
                                             {"tensors", required_argument, NULL, OPT_TENSORS},
                                             {"ranks", required_argument, NULL, OPT_RANKS},
                                             {"threads", no_argument, NULL, OPT_THREADS},
                                             {"rounds", required_argument, NULL, OPT_ROUNDS},
                                             {"seconds", required_argument, NULL, OPT_SECONDS},
                                             {"window", required_argument, NULL, OPT_WINDOW},
                                             {"bind", required_argument, NULL, OPT_BIND},
                                             {"data-plane", required_argument, NULL, OPT_PLANE},
                                             {"peer", required_argument, NULL, OPT_PEER},
                                             {"json", no_argument, NULL, OPT_JSON},
                                             {"timeout", required_argument, NULL, OPT_TIMEOUT},
                                             {"regimes", required_argument, NULL, OPT_REGIMES},
                                             {"help", no_argument, NULL, OPT_HELP},
                                             {NULL, 0, NULL, 0}};

/* 0, -1 when it is wrong, 1 when only help was wanted. */
static int take_option(options *opt, int option, const char *value) {
  switch (option) {
  case OPT_OP: return for_words(value, set_op, opt);
  case OPT_SIZES: return for_words(value, set_size, opt);
  case OPT_DTYPE: return for_words(value, set_dtype, opt);
  case OPT_PLACE: return for_words(value, set_place, opt);
  case OPT_TENSORS:
    opt->shared_tensors = strcmp(value, "shared") == 0;
    return opt->shared_tensors || strcmp(value, "private") == 0 ? 0 : -1;
  case OPT_RANKS: return opt->ranks = atoi(value), opt->ranks >= 2 && opt->ranks <= CCL_MAX_RANKS ? 0 : -1;
  case OPT_THREADS: return opt->threads = true, 0;
  case OPT_ROUNDS: return opt->rounds = atoi(value), opt->rounds >= 1 && opt->rounds <= MAX_ROUNDS ? 0 : -1;
  case OPT_SECONDS: return opt->seconds = atof(value), opt->seconds > 0 ? 0 : -1;
  case OPT_WINDOW: return opt->window_ms = atof(value), opt->window_ms > 0 && opt->window_ms <= 10000 ? 0 : -1;
  case OPT_BIND: opt->bind = strcmp(value, "yes") == 0; return opt->bind || strcmp(value, "no") == 0 ? 0 : -1;
  case OPT_PLANE: return opt->data_plane = value, 0;
  case OPT_PEER: return opt->peer = value, 0;
  case OPT_JSON: return opt->json = true, 0;
  case OPT_TIMEOUT: return opt->timeout_s = atoi(value), opt->timeout_s >= 1 ? 0 : -1;
  case OPT_REGIMES:
    return sscanf(value, "%lf,%lf", &opt->near_ns, &opt->far_ns) == 2 && opt->near_ns < opt->far_ns ? 0 : -1;
  case OPT_HELP: return fputs(help, stdout), 1;
  default: return -1;
  }
}

static int read_options(options *opt, int argc, char **argv) {
  *opt = (options){.bind = -1,
                   .ranks = 2,
                   .rounds = 20,
                   .timeout_s = 60,
                   .window_ms = 2,
                   .near_ns = 200,
                   .far_ns = 350,
                   .data_plane = "cpu"};
  opt->peer = ccl_peer_present() ? "MPI" : "";
  int option, rc = 0;
  while (rc == 0 && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
    rc = take_option(opt, option, optarg);
    if (rc == -1 && option != '?') fprintf(stderr, "bad value: %s\n", optarg);
  }
  if (rc == 0 && optind < argc) fprintf(stderr, "what is %s?\n", argv[optind]), rc = -1;
  bool any_op = false, any_dtype = false;
  for (int i = 0; i < CCL_NUM_OPS; i++) any_op |= opt->ops[i];
  for (int i = 0; i < CCL_NUM_OPS && !any_op; i++) opt->ops[i] = true;
  for (int i = 0; i < CCL_NUM_DTYPES; i++) any_dtype |= opt->dtypes[i];
  if (!any_dtype) opt->dtypes[CCL_F32] = true;
  if (!opt->places[0] && !opt->places[1]) opt->places[0] = opt->places[1] = true;
  if (rc == 0 && opt->num_sizes == 0) rc = for_words("8,56,1K,4K,16K,64K,256K,1M,4M,16M,64M", set_size, opt);
  if (rc == -1) fputs("disco-bench-ccl --help says what there is\n", stderr);
  return rc;
}

/* ---- The rounds ---- */

static int failed(const char *what) {
  fprintf(stderr, "%s: %s\n", what, disco_last_error_text());
  return EXIT_LIBRARY;
}

static const char *volatile phase = "start";

static void on_alarm(int signal_number) {
  (void)signal_number;
  static const char text[] = "no progress within the timeout, in: ";
  ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
  ignored = write(STDERR_FILENO, phase, strlen(phase));
  ignored = write(STDERR_FILENO, "\n", 1);
  (void)ignored;
  _exit(EXIT_HANG);
}

static void enter(const bench *b, const char *name) {
  phase = name;
  alarm((unsigned)b->opt->timeout_s);
}

static void add_cases_of(bench *b, ccl_op op, ccl_dtype dtype, bool in_place) {
  for (int i = 0; i < b->opt->num_sizes && b->num_cases < MAX_CASES; i++)
    b->cases[b->num_cases++] = (ccl_case){op, dtype, in_place, b->opt->sizes[i]};
}

static void make_cases(bench *b) {
  for (int op = 0; op < CCL_NUM_OPS; op++) {
    if (!b->opt->ops[op]) continue;
    bool placed = op == CCL_ALLREDUCE || op == CCL_BROADCAST;
    for (int dtype = 0; dtype < CCL_NUM_DTYPES; dtype++) {
      if (!b->opt->dtypes[dtype] || (dtype != CCL_F32 && op != CCL_ALLREDUCE)) continue;
      if (placed && b->opt->places[0]) add_cases_of(b, (ccl_op)op, (ccl_dtype)dtype, true);
      if (!placed || b->opt->places[1]) add_cases_of(b, (ccl_op)op, (ccl_dtype)dtype, false);
    }
  }
}

static int run_round(bench *b, int case_id, bool ours_first) {
  const ccl_case *c = &b->cases[case_id];
  ccl_job *job = &b->table->job;
  *job =
      (ccl_job){.op = c->op, .dtype = c->dtype, .in_place = c->in_place, .ours_first = ours_first, .bytes = c->bytes};
  memcpy(job->iterations, b->iterations[case_id], sizeof(job->iterations));
  enter(b, ccl_op_name(c->op));
  if (disco_call(b->session, b->round, NULL, 0, NULL) != DISCO_OK) return failed("bench.ccl.round");
  if (disco_session_sync(b->session, DISCO_ALL_WORKERS, DISCO_FOREVER) != DISCO_OK) return failed("bench.ccl.round");
  return EXIT_FINE;
}

static void report_wrong(const bench *b, const ccl_case *c, uint64_t wrong) {
  static const char *const windows[CCL_NUM_WINDOWS] = {"", "", "memcpy", "the other's result", "our result"};
  fprintf(stderr, "WRONG: %s %s, %s place, %zu bytes: up to %llu bytes\n", ccl_op_name(c->op), ccl_dtype_name(c->dtype),
          c->in_place ? "in" : "out of", c->bytes, (unsigned long long)wrong);
  for (int r = 0; r < b->table->num_ranks; r++)
    for (int w = 0; w < CCL_NUM_WINDOWS; w++)
      if (b->table->answers[r].wrong[w] > 0) fprintf(stderr, "  rank %d, %s\n", r, windows[w]);
}

/* As many iterations as take about a window, of what the slowest rank needed now. */
static void calibrate(bench *b, int case_id) {
  for (int w = 0; w < CCL_NUM_WINDOWS; w++) {
    uint32_t *count = &b->iterations[case_id][w];
    double slowest = 1e-9;
    if (*count == 0) continue;
    for (int r = 0; r < b->table->num_ranks; r++)
      if (b->table->answers[r].seconds[w] > slowest) slowest = b->table->answers[r].seconds[w];
    double wanted = *count * b->opt->window_ms / 1e3 / slowest;
    *count = wanted < 1 ? 1 : wanted > MAX_ITERATIONS ? MAX_ITERATIONS : (uint32_t)wanted;
  }
}

#define LONG_ROUND_S 0.5 /* once is enough to know that one iteration fills a window */

/* The first rounds of a case only find out how many iterations fit. */
static int calibrate_all(bench *b) {
  for (int i = 0; i < b->num_cases; i++) {
    bool rival = b->setup.peer[0] != 0 || b->cases[i].dtype != CCL_F32;
    for (int w = 0; w < CCL_NUM_WINDOWS; w++) b->iterations[i][w] = w != CCL_PEER || rival ? 1 : 0;
    double seconds = 0;
    for (int turn = 0; turn < CALIBRATIONS && seconds < LONG_ROUND_S; turn++) {
      double start = bench_now();
      int rc = run_round(b, i, false);
      if (rc != EXIT_FINE) return rc;
      calibrate(b, i);
      seconds = bench_now() - start;
    }
  }
  return EXIT_FINE;
}

/* Cases take turns. */
static int run_rounds(bench *b) {
  int rc = calibrate_all(b);
  double start = bench_now();
  for (int round = 0; round < b->opt->rounds && rc == EXIT_FINE; round++) {
    for (int i = 0; i < b->num_cases && rc == EXIT_FINE; i++) {
      if (b->opt->seconds > 0 && bench_now() - start > b->opt->seconds) return EXIT_FINE;
      rc = run_round(b, i, round % 2 == 1);
      if (rc != EXIT_FINE) break;
      ccl_record *record = &b->records[b->num_records++];
      *record = (ccl_record){.case_id = i, .round = round};
      ccl_record_make(&b->setup, b->table, record);
      if (record->wrong > 0) report_wrong(b, &b->cases[i], record->wrong);
      b->wrong += record->wrong;
      if (b->opt->json) ccl_print_json(&b->setup, &b->cases[i], record);
    }
  }
  return rc;
}

/* ---- The session ---- */

static TVMFFIAny number(int64_t value) {
  TVMFFIAny any;
  memset(&any, 0, sizeof(any));
  any.type_index = kTVMFFIInt;
  any.v_int64 = value;
  return any;
}

/* runtime.disco.empty(Shape(bytes), uint8, None, false, false) on every worker */
static disco_status make_shared(disco_session *session, disco_dref *empty, size_t bytes, disco_dref **ret_tensor) {
  TVMFFIByteArray name = {"ffi.Shape", strlen("ffi.Shape")};
  TVMFFIObjectHandle make_shape = NULL;
  TVMFFIAny args[5], size = number((int64_t)bytes);
  memset(args, 0, sizeof(args));
  if (TVMFFIFunctionGetGlobal(&name, &make_shape) != 0 || make_shape == NULL) return DISCO_RUNTIME;
  int rc = TVMFFIFunctionCall(make_shape, &size, 1, &args[0]);
  TVMFFIObjectDecRef(make_shape);
  if (rc != 0) return DISCO_MEMORY;
  args[1].type_index = kTVMFFIDataType;
  args[1].v_dtype = (DLDataType){kDLUInt, 8, 1};
  args[3].type_index = args[4].type_index = kTVMFFIBool;
  disco_status status = disco_call(session, empty, args, 5, ret_tensor);
  TVMFFIObjectDecRef(args[0].v_obj);
  return status;
}

static TVMFFIAny dref_value(disco_dref *dref) {
  TVMFFIAny any;
  memset(&any, 0, sizeof(any));
  any.type_index = ((const TVMFFIObject *)(const void *)dref)->type_index;
  any.v_obj = (TVMFFIObject *)(void *)dref;
  return any;
}

static int call_by_name(bench *b, const char *name, const TVMFFIAny *args, int32_t num_args) {
  disco_dref *function = NULL;
  disco_status status = disco_session_get_global_func(b->session, name, &function);
  if (status == DISCO_OK) status = disco_call(b->session, function, args, num_args, NULL);
  disco_dref_unref(function);
  if (status == DISCO_OK) status = disco_session_sync(b->session, DISCO_ALL_WORKERS, DISCO_FOREVER);
  return status == DISCO_OK ? EXIT_FINE : failed(name);
}

static int join_workers(bench *b) {
  disco_dref *empty = NULL, *tensors[2] = {NULL, NULL};
  TVMFFIAny args[2];
  if (!b->table->shared_tensors) return call_by_name(b, "bench.ccl.join", NULL, 0);
  int rc = EXIT_FINE;
  if (disco_session_get_global_func(b->session, "runtime.disco.empty", &empty) != DISCO_OK ||
      make_shared(b->session, empty, b->table->in_bytes, &tensors[0]) != DISCO_OK ||
      make_shared(b->session, empty, b->table->out_bytes, &tensors[1]) != DISCO_OK)
    rc = failed("runtime.disco.empty");
  if (rc == EXIT_FINE) {
    for (int i = 0; i < 2; i++) args[i] = dref_value(tensors[i]);
    rc = call_by_name(b, "bench.ccl.join", args, 2);
  }
  disco_dref_unref(empty);
  for (int i = 0; i < 2; i++) disco_dref_unref(tensors[i]);
  return rc;
}

static int measure(bench *b) {
  int64_t ids[CCL_MAX_RANKS];
  for (int i = 0; i < b->setup.num_ranks; i++) ids[i] = i;
  enter(b, "init_ccl");
  if (disco_session_init_ccl(b->session, b->opt->data_plane, ids, b->setup.num_ranks) != DISCO_OK)
    return failed("init_ccl");
  enter(b, "bench.ccl.join");
  int rc = join_workers(b);
  if (rc != EXIT_FINE) return rc;
  if (disco_session_get_global_func(b->session, "bench.ccl.round", &b->round) != DISCO_OK)
    return failed("bench.ccl.round");
  rc = run_rounds(b);
  disco_dref_unref(b->round);
  if (rc != EXIT_FINE) return rc;
  enter(b, "bench.ccl.leave");
  return call_by_name(b, "bench.ccl.leave", NULL, 0);
}

/* Where the workers come from. */
static disco_status open_session(bench *b, int table_fd) {
  disco_session_options how = DISCO_SESSION_OPTIONS_INIT(b->setup.num_ranks, 1);
  char program[4096], place[64];
  const char *environment[] = {place, NULL};
  if (ccl_peer_present()) {
    how.pool_creator = CCL_POOL_NAME;
    how.entrypoint = "bench";
    return disco_session_create_process(&how, &b->session);
  }
  if (b->opt->threads) return disco_session_create_threaded(&how, &b->session);
  ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
  if (size < 0) return disco_fail(DISCO_RUNTIME, "where is this program?");
  program[size] = 0;
  (void)snprintf(place, sizeof place, "DISCO_BENCH_CCL=%ld:%d", (long)getpid(), table_fd);
  how.program = program;
  how.environment = environment;
  return disco_session_create_process(&how, &b->session);
}

static void fill_table(bench *b) {
  const options *opt = b->opt;
  size_t largest = 0, p = (size_t)b->setup.num_ranks;
  for (int i = 0; i < opt->num_sizes; i++)
    if (opt->sizes[i] > largest) largest = opt->sizes[i];
  b->table->num_ranks = b->setup.num_ranks;
  b->table->shared_tensors = opt->shared_tensors;
  b->table->bind = opt->bind >= 0 ? opt->bind == 1 : sysconf(_SC_NPROCESSORS_ONLN) >= b->setup.num_ranks;
  b->table->in_bytes = opt->ops[CCL_SCATTER] ? largest * p : largest;
  b->table->out_bytes = opt->ops[CCL_ALLGATHER] || opt->ops[CCL_GATHER] ? largest * p : largest;
  b->table->timeout_s = (unsigned)opt->timeout_s;
}

static int control(const options *opt, int num_ranks, ccl_table *table, int table_fd) {
  static bench b;
  b.opt = opt;
  b.table = table;
  b.setup = (ccl_setup){opt->peer,
                        opt->shared_tensors ? "shared" : "private",
                        opt->threads ? "threads" : "processes",
                        num_ranks,
                        opt->near_ns,
                        opt->far_ns};
  make_cases(&b);
  fill_table(&b);
  b.records = calloc((size_t)b.num_cases * (size_t)opt->rounds + 1, sizeof(*b.records));
  if (b.records == NULL) return fputs("no memory\n", stderr), EXIT_LIBRARY;
  if (ccl_worker_register(table) != 0) return EXIT_LIBRARY;
  if (open_session(&b, table_fd) != DISCO_OK) return failed("session");
  int rc = measure(&b);
  if (rc != EXIT_FINE && ccl_peer_present()) return rc; /* a rank may be stuck in the peer: all will be aborted */
  enter(&b, "shutdown");
  if (disco_session_shutdown(b.session) != DISCO_OK && rc == EXIT_FINE) rc = failed("shutdown");
  disco_session_unref(b.session);
  alarm(0);
  if (rc == EXIT_FINE && !opt->json) ccl_print_tables(&b.setup, b.cases, b.num_cases, b.records, b.num_records);
  free(b.records);
  return rc == EXIT_FINE && b.wrong > 0 ? EXIT_WRONG : rc;
}

/* ---- The programs ---- */

/* `PROGRAM worker ID WORKERS GROUPS READ_FD WRITE_FD`, as the library's own pool starts it. */
static int be_started_worker(int argc, char **argv) {
  const char *place = getenv("DISCO_BENCH_CCL");
  long pid;
  int fd, numbers[5];
  if (argc < 7 || place == NULL || sscanf(place, "%ld:%d", &pid, &fd) != 2) return EXIT_USAGE;
  for (int i = 0; i < 5; i++) numbers[i] = atoi(argv[2 + i]);
  ccl_table *table = ccl_table_open(pid, fd);
  if (table == NULL || ccl_worker_register(table) != 0) return EXIT_LIBRARY;
  disco_status status = disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
  return status == DISCO_OK ? EXIT_FINE : failed("worker");
}

static int be_rank(int rank, int num_ranks, ccl_table *table, const int fds[2]) {
  if (ccl_worker_register(table) != 0) return EXIT_LIBRARY;
  disco_status status = disco_worker_process(rank, num_ranks, 1, fds[0], fds[1]);
  alarm(0);
  return status == DISCO_OK ? EXIT_FINE : failed("worker");
}

static int run_ranks(options *opt, int argc, char **argv) {
  int rank = 0, num_ranks = 1, table_fd = -1, fds[2] = {-1, -1};
  ccl_table *table = NULL;
  if (ccl_peer_init(&argc, &argv, &rank, &num_ranks) != 0) return EXIT_LIBRARY;
  int rc = EXIT_LIBRARY;
  if (num_ranks < 2 || num_ranks > CCL_MAX_RANKS || opt->threads) {
    if (rank == 0) fprintf(stderr, "2 to %d ranks, and no --threads, please\n", CCL_MAX_RANKS);
  } else {
    if (rank == 0) table = ccl_table_create(&table_fd);
    if (rank != 0 || table != NULL)
      rc = ccl_join(rank, num_ranks, table_fd, &table, fds) == 0 ? EXIT_FINE : EXIT_LIBRARY;
  }
  if (rc == EXIT_FINE) rc = rank == 0 ? control(opt, num_ranks, table, table_fd) : be_rank(rank, num_ranks, table, fds);
  if (rc != EXIT_FINE && rc != EXIT_WRONG) ccl_peer_abort(rc);
  return ccl_peer_fini() != 0 && rc == EXIT_FINE ? EXIT_LIBRARY : rc;
}

int main(int argc, char **argv) {
  options opt;
  if (argc > 1 && strcmp(argv[1], "worker") == 0) return be_started_worker(argc, argv);
  int rc = read_options(&opt, argc, argv);
  if (rc != 0) return rc == 1 ? EXIT_FINE : EXIT_USAGE;
  signal(SIGALRM, on_alarm);
  if (ccl_peer_present()) return run_ranks(&opt, argc, argv);
  int table_fd = -1;
  ccl_table *table = ccl_table_create(&table_fd);
  if (table == NULL) return perror("shared memory"), EXIT_LIBRARY;
  return control(&opt, opt.ranks, table, table_fd);
}
