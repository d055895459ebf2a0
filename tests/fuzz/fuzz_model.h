/* What the targets of weight files share: what must hold of every model that a reader gives, and a folder of files that
 * a stranger's JSON may name. */
#ifndef DSC_TESTS_FUZZ_MODEL_H
#define DSC_TESTS_FUZZ_MODEL_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "weights/model.h"
#include "weights/shard.h"

/* Every cut through the tensor that a plan can ask for lies within its bytes. */
static inline void fuzz_check_slices(const dsc_weight *weight) {
  const disco_weights_tensor *view = &weight->view;
  for (int32_t axis = -1; axis < view->ndim; axis++) {
    const int64_t dimension = axis >= 0 ? view->shape[axis] : 0;
    const int64_t granule = axis >= 0 ? dsc_slice_granule(weight, axis) : 1;
    const int64_t first = dimension / 2 / granule * granule;
    for (int decoded = 0; decoded < 2; decoded++) {
      disco_shard shard;
      dsc_slice slice;
      disco_status status = dsc_slice_of(weight, decoded != 0, axis, first, dimension - first, &shard, &slice);
      if (status != DISCO_OK) continue;
      FUZZ_CHECK(view->dtype.bits > 0);
      FUZZ_CHECK(slice.runs * slice.run_bytes == shard.file_bytes && shard.file_bytes <= view->bytes);
      if (slice.runs == 0) continue;
      FUZZ_CHECK(slice.offset + (slice.runs - 1) * slice.stride + slice.run_bytes <= view->bytes);
    }
  }
}

/* `size`: of all that was read, headers and files beside them. */
static inline void fuzz_check_model(const disco_weights *model, uint64_t size) {
  const char *key, *json;
  for (int64_t i = 0; dsc_model_metadata_at(model, i, &key, &json); i++) {
    FUZZ_CHECK(json[0] != '\0' && strlen(json) <= 8 * size);
    FUZZ_CHECK(dsc_model_metadata(model, key) == json); /* no name twice */
  }
  for (int64_t i = 0; i < dsc_model_count(model); i++) {
    const dsc_weight *weight = dsc_model_weight(model, i);
    const disco_weights_tensor *view = &weight->view;
    uint64_t file_bytes = 0, elements = 1;
    FUZZ_CHECK(view->name[0] != '\0' && strlen(view->name) <= DSC_WEIGHTS_MAX_NAME);
    FUZZ_CHECK(dsc_model_find(model, view->name) == i);
    FUZZ_CHECK(dsc_model_file(model, weight->file, &file_bytes) == view->file);
    FUZZ_CHECK(view->bytes <= file_bytes && view->offset <= file_bytes - view->bytes);
    FUZZ_CHECK(view->ndim >= 0 && view->ndim <= DISCO_WEIGHTS_MAX_NDIM && view->block_elements > 0);
    FUZZ_CHECK(view->encoding[0] != '\0' || view->dtype.bits == 0);
    for (int32_t d = 0; d < view->ndim; d++) {
      FUZZ_CHECK(view->shape[d] >= 0);
      elements *= (uint64_t)view->shape[d];
    }
    if (view->block_bytes > 0)
      FUZZ_CHECK(elements / (uint64_t)view->block_elements * (uint64_t)view->block_bytes == view->bytes);
    fuzz_check_slices(weight);
  }
}

/* A refusal is a sentence that names the file. */
static inline void fuzz_check_refusal(disco_status status, const char *path) {
  FUZZ_CHECK(status == DISCO_VALUE || status == DISCO_RUNTIME);
  FUZZ_CHECK(dsc_thread_error() != NULL && strstr(dsc_thread_error()->message, path) != NULL);
}

/* ---- Files beside ---- */

static char fuzz_folder[64];

static void fuzz_remove_folder(void) {
  static const char *const names[] = {"a", "b", "c", "m-00002-of-00002.gguf"};
  char path[128];
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    (void)snprintf(path, sizeof(path), "%s/%s", fuzz_folder, names[i]);
    (void)unlink(path);
  }
  (void)rmdir(fuzz_folder);
}

/* A new folder, which goes when the program ends. */
static inline void fuzz_make_folder(void) {
  (void)snprintf(fuzz_folder, sizeof(fuzz_folder), "/tmp/disco-fuzz-XXXXXX");
  FUZZ_CHECK(mkdtemp(fuzz_folder) != NULL);
  FUZZ_CHECK(atexit(fuzz_remove_folder) == 0);
}

static inline void fuzz_write_beside(const char *name, const void *bytes, size_t size) {
  char path[128];
  (void)snprintf(path, sizeof(path), "%s/%s", fuzz_folder, name);
  FILE *file = fopen(path, "wb");
  FUZZ_CHECK(file != NULL && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
}

#endif
