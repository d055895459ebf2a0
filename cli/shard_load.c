/* Reading the shards of all workers, and how far that is. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "shard.h"
#include "weights.h"

static double now(void) {
  struct timespec time;
  (void)clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- The bar ---- */

enum { BAR_WIDTH = 24 };

typedef struct {
  const shard_job *job;
  bool is_shown;
  int32_t worker;
  uint64_t done; /* bytes of this worker's tensors that were read whole */
  double began, drawn;
  int width; /* of what stands on the line */
} progress;

/* A line that is written over needs a terminal that can; it has no colours, so NO_COLOR says nothing to it. */
static bool can_show(void) {
  const char *terminal = getenv("TERM");
  return terminal != NULL && strcmp(terminal, "dumb") != 0 && isatty(STDERR_FILENO) == 1;
}

static void draw(progress *self, uint64_t bytes) {
  const uint64_t total = self->job->workers[self->worker].reads;
  const double part = total > 0 ? (double)bytes / (double)total : 1, seconds = now() - self->began;
  char bar[BAR_WIDTH + 1] = {0}, done[SIZE_ROOM], all[SIZE_ROOM];
  for (int i = 0; i < BAR_WIDTH; i++) bar[i] = i < (int)(part * BAR_WIDTH) ? '#' : '-';
  size_text(bytes, done);
  size_text(total, all);
  const int width = fprintf(stderr, "\rworker %d of %d [%s] %3d%%  %s of %s", self->worker, self->job->options.workers,
                            bar, (int)(part * 100), done, all);
  const int rate = seconds > 0 ? fprintf(stderr, "  %.2f GB/s", (double)bytes / seconds / 1e9) : 0;
  fprintf(stderr, "%*s", self->width > width + rate ? self->width - width - rate : 0, "");
  (void)fflush(stderr);
  self->width = width + rate;
}

static void clear(progress *self) {
  if (self->is_shown) fprintf(stderr, "\r%*s\r", self->width, "");
  self->width = 0;
}

static bool on_progress(void *context, uint64_t bytes_read) {
  progress *self = context;
  const double time = now();
  if (!self->is_shown || time - self->drawn < 0.1) return true;
  self->drawn = time;
  draw(self, self->done + bytes_read);
  return true;
}

/* ---- Reading ---- */

/* One shard; the time that reading it took is added to the worker's. */
static disco_status load_shard(progress *bar, int64_t tensor, void *memory, disco_manifest *manifest) {
  const shard_job *job = bar->job;
  shard_worker *worker = &job->workers[bar->worker];
  disco_shard shard;
  disco_status status = shard_get(job, tensor, bar->worker, &shard);
  if (status != DISCO_OK || shard.is_skipped) return status;
  const double began = now();
  status = disco_shard_read(job->weights, &shard, on_progress, bar, memory);
  worker->seconds += now() - began;
  bar->done += shard.file_bytes;
  if (status != DISCO_OK || manifest == NULL) return status;
  return disco_manifest_put(manifest, job->weights, &shard, bar->worker, disco_weights_hash(memory, shard.bytes));
}

static disco_status load_worker(shard_job *job, int32_t worker, void *memory, disco_manifest *manifest) {
  progress bar = {.job = job, .is_shown = can_show(), .worker = worker, .began = now()};
  disco_status status = DISCO_OK;
  job->workers[worker].seconds = 0;
  if (bar.is_shown) draw(&bar, 0);
  for (int64_t i = 0; status == DISCO_OK && i < job->num_tensors; i++) status = load_shard(&bar, i, memory, manifest);
  clear(&bar);
  if (status == DISCO_OK && !job->options.as_json) shard_print_worker(job, worker);
  return status;
}

/* Said before minutes of reading, not after; nothing is made yet, since reading may fail. */
static disco_status check_writable(const char *path) {
  char *folder = strdup(path);
  if (folder == NULL) return disco_fail(DISCO_MEMORY, "no memory for the folder of %s", path);
  const char *where = access(path, F_OK) == 0 ? path : dirname(folder);
  const bool is_writable = access(where, W_OK) == 0;
  const int error = errno;
  free(folder);
  return is_writable ? DISCO_OK : disco_fail(DISCO_RUNTIME, "manifest %s cannot be written: %s", path, strerror(error));
}

disco_status shard_load(shard_job *job) {
  disco_manifest *manifest = NULL;
  disco_status status = job->options.manifest != NULL ? check_writable(job->options.manifest) : DISCO_OK;
  if (status == DISCO_OK && job->options.manifest != NULL)
    status = disco_manifest_create(job->options.workers, &manifest);
  if (status != DISCO_OK) return status;
  void *memory = malloc(job->largest > 0 ? (size_t)job->largest : 1);
  if (memory == NULL)
    status = disco_fail(DISCO_MEMORY, "no memory for the largest shard, %llu bytes", (unsigned long long)job->largest);
  for (int32_t worker = 0; status == DISCO_OK && worker < job->options.workers; worker++)
    status = load_worker(job, worker, memory, manifest);
  free(memory);
  if (status == DISCO_OK && !job->options.as_json) shard_print_total(job);
  if (status == DISCO_OK && manifest != NULL) status = disco_manifest_write(manifest, job->options.manifest);
  disco_manifest_destroy(manifest);
  return status;
}
