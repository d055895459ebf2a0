/* The benchmark of reading weights: P threads read the shards of a tensor from a file in the page cache. Beside each
 * window of reading stands one of as many concurrent memcpys of the same bytes from memory (of as many, where they are
 * decoded), into memory of the same kind: touched before, or fresh from the system. Medians over the rounds, and the
 * median of the ratios of neighbouring windows. What was read is compared with what was written.
 *
 *     disco-bench-weights [--mib N] [--readers P,...] [--rounds N] [--folder PATH] [--whole] [--only WORD]
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "disco/weights.h"

enum { EXIT_FINE = 0, EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_FAILED = 3 };
enum { MAX_READERS = 16, MAX_ROUNDS = 1000, ELEMENT = 2 /* bfloat16 */ };

static const char help[] =
    "usage: disco-bench-weights [options]\n"
    "\n"
    "  --mib N          size of the tensor (default 128)\n"
    "  --readers P,...  threads that read at the same time (default 1,2); the tensor is split among 2 at least\n"
    "  --rounds N       windows of each kind (default 9)\n"
    "  --folder PATH    where the file is written, and removed again (default /tmp)\n"
    "  --whole          memcpy copies as many bytes in one piece (default: the same runs, where nothing is decoded)\n"
    "  --only WORD      cases whose name has it\n"
    "\n"
    "Exit codes: 0 what was read was right; 1 it was wrong; 2 usage; 3 something failed.\n";

typedef struct {
  const char *name, *rule;
  size_t columns; /* of the tensor; along axis 1 they give the runs */
} one_case;

static const one_case cases[] = {
    {"axis 0", "\"axis\": 0", 4096},
    {"replicated", "\"replicate\": true", 4096},
    {"axis 1, 256 KiB rows", "\"axis\": 1", 131072},
    {"axis 1, 64 KiB rows", "\"axis\": 1", 32768},
    {"axis 1, 28 KiB rows", "\"axis\": 1", 14336},
    {"axis 1, 8 KiB rows", "\"axis\": 1", 4096},
    {"axis 1, 2 KiB rows", "\"axis\": 1", 1024},
    {"axis 0, decoded", "\"axis\": 0, \"decode\": true", 4096},
    {"axis 1, decoded, 28 KiB rows", "\"axis\": 1, \"decode\": true", 14336},
};

/* Memory that is written to. */
typedef enum { TOUCHED, FRESH, FRESH_HUGE, NUM_KINDS } memory_kind;
static const char *const kind_names[] = {"touched", "fresh", "fresh huge"};

typedef struct {
  size_t mib;
  int readers[MAX_READERS], num_readers, rounds;
  bool is_whole;
  const char *folder, *only;
} options;

typedef struct {
  pthread_t thread;
  int cpu;
  pthread_barrier_t *start;
  const disco_weights *weights;
  disco_shard shard;
  const char *source; /* what memcpy copies: runs, `stride` bytes apart */
  size_t run, stride;
  char *memory;
  bool copies; /* else it reads */
  disco_status status;
  char error[256];
  double began, ended;
} reader;

static double now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static _Noreturn void give_up(const char *what) {
  (void)fprintf(stderr, "%s: %s\n", what, disco_last_error_text());
  exit(EXIT_FAILED);
}

/* ---- Memory and the file ---- */

static char *map(size_t bytes, memory_kind kind) {
  const size_t huge = (size_t)2 << 20;
  /* On a border of huge pages, for all kinds. */
  char *memory = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) give_up("no memory");
  char *aligned = (char *)(((uintptr_t)memory + huge - 1) & ~(uintptr_t)(huge - 1));
  if (aligned > memory) (void)munmap(memory, (size_t)(aligned - memory));
  if (aligned < memory + huge) (void)munmap(aligned + bytes, (size_t)(memory + huge - aligned));
  (void)madvise(aligned, bytes, kind == FRESH ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
  if (kind == TOUCHED) memset(aligned, 1, bytes);
  return aligned;
}

/* A safetensors file with one tensor of those columns. */
static void write_file(const char *path, const char *data, size_t bytes, size_t columns) {
  char header[512];
  int size = snprintf(header + 8, sizeof(header) - 8,
                      "{\"w\":{\"dtype\":\"BF16\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]}}",
                      bytes / columns / ELEMENT, columns, bytes);
  while (size % 8 != 0) header[8 + size++] = ' ';
  const uint64_t length = (uint64_t)size;
  memcpy(header, &length, sizeof(length));
  FILE *file = fopen(path, "wb");
  if (file == NULL || fwrite(header, 1, 8 + (size_t)size, file) != 8 + (size_t)size ||
      fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
    perror(path);
    exit(EXIT_FAILED);
  }
}

/* ---- Windows ---- */

static void *run_reader(void *context) {
  reader *self = context;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)self->cpu, &set);
  (void)pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
  (void)pthread_barrier_wait(self->start);
  self->began = now();
  if (self->copies)
    for (size_t to = 0, from = 0; to < self->shard.bytes; to += self->run, from += self->stride)
      memcpy(self->memory + to, self->source + from, self->run);
  else
    self->status = disco_shard_read(self->weights, &self->shard, NULL, NULL, self->memory);
  self->ended = now();
  if (self->status != DISCO_OK) (void)snprintf(self->error, sizeof(self->error), "%s", disco_last_error_text());
  return NULL;
}

/* Seconds from the first beginning to the last end. */
static double window(reader *readers, int count, bool copies, memory_kind kind) {
  pthread_barrier_t start;
  (void)pthread_barrier_init(&start, NULL, (unsigned)count);
  for (int i = 0; i < count; i++) {
    reader *it = &readers[i];
    if (kind != TOUCHED) it->memory = map(it->shard.bytes, kind);
    it->copies = copies, it->start = &start, it->status = DISCO_OK;
    if (pthread_create(&it->thread, NULL, run_reader, it) != 0) give_up("no thread");
  }
  double began = 0, ended = 0;
  for (int i = 0; i < count; i++) {
    reader *it = &readers[i];
    (void)pthread_join(it->thread, NULL);
    if (it->status != DISCO_OK) {
      (void)fprintf(stderr, "reading failed: %s\n", it->error);
      exit(EXIT_FAILED);
    }
    if (i == 0 || it->began < began) began = it->began;
    if (i == 0 || it->ended > ended) ended = it->ended;
    if (kind != TOUCHED) (void)munmap(it->memory, it->shard.bytes);
  }
  (void)pthread_barrier_destroy(&start);
  return ended - began;
}

static int by_size(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, int count) {
  qsort(values, (size_t)count, sizeof(*values), by_size);
  return values[count / 2];
}

/* ---- Cases ---- */

/* The element that must be at (row, column) of a shard, from the tensor's bytes. */
static bool is_right(const reader *self, const uint16_t *data, size_t columns) {
  const size_t rows = (size_t)self->shard.shape[0], width = (size_t)self->shard.shape[1];
  const size_t first = (size_t)self->shard.first;
  for (size_t row = 0; row < rows; row++)
    for (size_t column = 0; column < width; column++) {
      const size_t at = self->shard.axis == 0   ? (first + row) * columns + column
                        : self->shard.axis == 1 ? row * columns + first + column
                                                : row * columns + column;
      const uint32_t wide = (uint32_t)data[at] << 16;
      const char *got = self->memory + (row * width + column) * (self->shard.is_decoded ? 4 : ELEMENT);
      if (self->shard.is_decoded ? memcmp(got, &wide, 4) != 0 : memcmp(got, &data[at], ELEMENT) != 0) return false;
    }
  return true;
}

static void measure(reader *readers, int count, memory_kind kind, const char *name, int rounds) {
  double copy[MAX_ROUNDS], read[MAX_ROUNDS], ratio[MAX_ROUNDS];
  uint64_t bytes = 0;
  for (int i = 0; i < count; i++) bytes += readers[i].shard.bytes;
  for (int round = 0; round < rounds; round++) {
    copy[round] = window(readers, count, true, kind);
    read[round] = window(readers, count, false, kind);
    ratio[round] = copy[round] / read[round];
  }
  const double gigabytes = (double)bytes * 1e-9;
  (void)printf("%-30s %7d  %-10s %9.2f %9.2f %7.2f\n", name, count, kind_names[kind], gigabytes / median(copy, rounds),
               gigabytes / median(read, rounds), median(ratio, rounds));
  (void)fflush(stdout);
}

/* The tensor in memory, of which memcpy takes the same runs; or memory of its own with as many bytes as are written. */
static void choose_source(reader *self, const char *data, size_t columns, bool is_whole) {
  const size_t bytes = (size_t)self->shard.bytes;
  if (self->shard.axis == 1 && !self->shard.is_decoded && !is_whole) {
    self->run = (size_t)self->shard.count * ELEMENT;
    self->stride = columns * ELEMENT;
    self->source = data + (size_t)self->shard.first * ELEMENT;
  } else {
    self->run = self->stride = bytes;
    self->source = map(bytes, TOUCHED);
  }
}

static int run_case(const one_case *it, const disco_weights *weights, const char *data, int count,
                    const options *chosen) {
  reader readers[MAX_READERS];
  char json[256];
  disco_shard_plan *plan = NULL;
  const int workers = count < 2 ? 2 : count;
  const int size = snprintf(json, sizeof(json), "{\"rules\": [{\"match\": \"*\", %s}]}", it->rule);
  memset(readers, 0, sizeof(readers));
  if (disco_shard_plan_parse(json, (size_t)size, &plan) != DISCO_OK) give_up("the plan");
  int wrong = 0;
  for (int i = 0; i < count; i++) {
    readers[i].cpu = i;
    readers[i].weights = weights;
    if (disco_shard_of(weights, plan, 0, workers, i, &readers[i].shard) != DISCO_OK) give_up(it->name);
    readers[i].memory = map(readers[i].shard.bytes, TOUCHED);
    choose_source(&readers[i], data, it->columns, chosen->is_whole);
  }
  (void)window(readers, count, false, TOUCHED);
  for (int i = 0; i < count; i++) wrong += !is_right(&readers[i], (const uint16_t *)(const void *)data, it->columns);
  if (wrong > 0) (void)printf("%-30s %7d  WRONG\n", it->name, count);
  measure(readers, count, TOUCHED, it->name, chosen->rounds);
  for (int i = 0; i < count; i++) (void)munmap(readers[i].memory, readers[i].shard.bytes);
  for (memory_kind kind = FRESH; kind < NUM_KINDS; kind++) measure(readers, count, kind, it->name, chosen->rounds);
  for (int i = 0; i < count; i++)
    if (readers[i].run == readers[i].shard.bytes) (void)munmap((char *)(uintptr_t)readers[i].source, readers[i].run);
  disco_shard_plan_destroy(plan);
  return wrong;
}

static int parse_list(char *text, int *ret_values) {
  int count = 0;
  for (char *word = strtok(text, ","); word != NULL; word = strtok(NULL, ",")) {
    const int value = atoi(word);
    if (value < 1 || value > MAX_READERS || count == MAX_READERS) return 0;
    ret_values[count++] = value;
  }
  return count;
}

static bool parse_options(int argc, char **argv, options *chosen) {
  static const struct option known[] = {{"mib", required_argument, NULL, 'm'},
                                        {"readers", required_argument, NULL, 'p'},
                                        {"rounds", required_argument, NULL, 'r'},
                                        {"folder", required_argument, NULL, 'f'},
                                        {"whole", no_argument, NULL, 'w'},
                                        {"only", required_argument, NULL, 'o'},
                                        {NULL, 0, NULL, 0}};
  *chosen = (options){.mib = 128, .readers = {1, 2}, .num_readers = 2, .rounds = 9, .folder = "/tmp", .only = ""};
  for (int letter; (letter = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (letter) {
    case 'm': chosen->mib = (size_t)strtoul(optarg, NULL, 10); break;
    case 'p': chosen->num_readers = parse_list(optarg, chosen->readers); break;
    case 'r': chosen->rounds = atoi(optarg); break;
    case 'f': chosen->folder = optarg; break;
    case 'w': chosen->is_whole = true; break;
    case 'o': chosen->only = optarg; break;
    default: return false;
    }
  return optind == argc && chosen->mib > 0 && chosen->mib <= 65536 && chosen->num_readers > 0 && chosen->rounds > 0 &&
         chosen->rounds <= MAX_ROUNDS;
}

int main(int argc, char **argv) {
  options chosen;
  char path[4096];
  int wrong = 0;
  if (!parse_options(argc, argv, &chosen) || snprintf(path, sizeof(path), "%s/disco-bench-weights.%ld.safetensors",
                                                      chosen.folder, (long)getpid()) >= (int)sizeof(path)) {
    (void)fputs(help, stderr);
    return EXIT_USAGE;
  }
  const size_t whole = chosen.mib << 20;
  char *data = map(whole, TOUCHED);
  uint64_t seed = 1;
  for (size_t i = 0; i < whole / 8; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    memcpy(data + 8 * i, &seed, 8);
  }
  (void)printf("%-30s %7s  %-10s %9s %9s %7s\n", "case", "readers", "memory", "memcpy", "read", "ratio");
  (void)printf("%-30s %7s  %-10s %9s %9s\n", "", "", "", "GB/s", "GB/s");
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    disco_weights *weights = NULL;
    const size_t rows = whole / cases[i].columns / ELEMENT / 48 * 48; /* divides by most numbers of readers */
    if (strstr(cases[i].name, chosen.only) == NULL) continue;
    write_file(path, data, rows * cases[i].columns * ELEMENT, cases[i].columns);
    if (disco_weights_open(path, &weights) != DISCO_OK) give_up(path);
    for (int k = 0; k < chosen.num_readers; k++)
      wrong += run_case(&cases[i], weights, data, chosen.readers[k], &chosen);
    disco_weights_close(weights);
    (void)unlink(path);
  }
  return wrong == 0 ? EXIT_FINE : EXIT_WRONG;
}
