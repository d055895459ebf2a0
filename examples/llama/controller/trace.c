#define _POSIX_C_SOURCE 200809L /* mkdir */
#include "controller/trace.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "disco/value.h"

/* The header of an array in C order; `type` as numpy spells it. */
static bool write_header(FILE *to, const char *type, const int64_t *shape, int32_t ndim) {
  enum { PREFIX = 10, ALIGNMENT = 64 };
  char header[256];
  int size = snprintf(header, sizeof(header), "{'descr': '%s', 'fortran_order': False, 'shape': (", type);
  for (int32_t i = 0; i < ndim; i++)
    size += snprintf(header + size, sizeof(header) - (size_t)size, "%lld,", (long long)shape[i]);
  size += snprintf(header + size, sizeof(header) - (size_t)size, "), }");
  while ((PREFIX + size + 1) % ALIGNMENT != 0) header[size++] = ' ';
  header[size++] = '\n';
  const unsigned char prefix[PREFIX] = {
      0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)size, (unsigned char)(size >> 8)};
  return fwrite(prefix, 1, PREFIX, to) == PREFIX && fwrite(header, 1, (size_t)size, to) == (size_t)size;
}

static FILE *create(const char *folder, const char *name, const char *type, const int64_t *shape, int32_t ndim) {
  char path[PATH_MAX];
  (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  if (file != NULL && write_header(file, type, shape, ndim)) return file;
  (void)refuse(DISCO_RUNTIME, "cannot write %s: %s", path, strerror(errno));
  if (file != NULL) (void)fclose(file);
  return NULL;
}

static bool finish(FILE *file, bool is_written, const char *name) {
  const bool is_closed = fclose(file) == 0;
  return (is_written && is_closed) || refuse(DISCO_RUNTIME, "cannot write %s: %s", name, strerror(errno));
}

static bool write_tokens(const tokens *prompt, const char *folder) {
  const int64_t count = (int64_t)prompt->count;
  FILE *file = create(folder, "tokens.npy", "<i4", &count, 1);
  return file != NULL &&
         finish(file, fwrite(prompt->ids, sizeof(*prompt->ids), prompt->count, file) == prompt->count, "tokens.npy");
}

static bool write_activations(const runner *on, const char *folder) {
  const DLTensor *stages = disco_value_tensor(&on->answers[0]);
  FILE *file = create(folder, "activations.npy", "<f4", stages->shape, 3);
  const size_t size = (size_t)(stages->shape[0] * stages->shape[1] * stages->shape[2]);
  return file != NULL && finish(file, fwrite(stages->data, sizeof(float), size, file) == size, "activations.npy");
}

/* Every worker has a run of each token's logits. */
static bool write_logits(const runner *on, const char *folder) {
  int64_t shape[2] = {disco_value_tensor(&on->answers[0])->shape[0], 0};
  for (int32_t i = 0; i < on->workers; i++) shape[1] += disco_value_tensor(&on->answers[i])->shape[1];
  FILE *file = create(folder, "logits.npy", "<f4", shape, 2);
  bool is_written = file != NULL;
  for (int64_t t = 0; is_written && t < shape[0]; t++)
    for (int32_t i = 0; i < on->workers; i++) {
      const DLTensor *run = disco_value_tensor(&on->answers[i]);
      const size_t size = (size_t)run->shape[1];
      is_written &= fwrite((const float *)run->data + t * run->shape[1], sizeof(float), size, file) == size;
    }
  return file != NULL && finish(file, is_written, "logits.npy");
}

bool trace_prepare(const char *folder) {
  return mkdir(folder, 0777) == 0 || errno == EEXIST ||
         refuse(DISCO_RUNTIME, "cannot make the folder %s: %s", folder, strerror(errno));
}

bool trace_write(runner *on, const tokens *prompt, const char *folder, bool *ret_has_output_failed) {
  const int64_t count = (int64_t)prompt->count;
  if (!runner_ask(on, RUN_STAGES, prompt->ids, count)) return false;
  bool is_written = write_tokens(prompt, folder) && write_activations(on, folder);
  runner_drop(on);
  *ret_has_output_failed = !is_written;
  if (!is_written || !runner_rewind(on, 0) || !runner_ask(on, RUN_LOGITS, prompt->ids, count)) return false;
  is_written = write_logits(on, folder);
  runner_drop(on);
  *ret_has_output_failed = !is_written;
  return is_written && runner_rewind(on, 0);
}
