/* Bytes of a stranger as a shard plan, and what that gives to the workers of a small model: whole slices that make up
 * each tensor, or a complaint. */
#include "fuzz.h"

#include <string.h>

#include "weights/shard.h"

static void decode_nothing(const void *from, int64_t count, float *to) { (void)from, (void)count, (void)to; }

static const dsc_encoding encodings[] = {
    {"F32", {kDLFloat, 32, 1}, 1, 4, NULL},
    {"F16", {kDLFloat, 16, 1}, 1, 2, NULL},
    {"Q32", {kDLFloat, 32, 1}, 32, 18, decode_nothing},
    {"IQ9", {0, 0, 1}, 256, 98, NULL},
};
enum { TENSORS = 5, MAX_WORKERS = 5 };

static disco_weights *the_model(void) {
  static disco_weights *model;
  static const struct {
    const char *name;
    int encoding;
    int32_t ndim;
    int64_t shape[3];
    uint64_t bytes;
  } tensors[TENSORS] = {
      {"blk.0.attn_q.weight", 0, 2, {12, 60}, 2880},
      {"blk.0.ffn_down.weight", 2, 2, {6, 192}, 648},
      {"token_embd", 1, 3, {2, 5, 8}, 160},
      {"scale", 0, 0, {0}, 4},
      {"listed", 3, 1, {256}, 98},
  };
  int32_t file;
  if (model != NULL) return model;
  FUZZ_CHECK(dsc_model_create("fuzz", &model) == DISCO_OK);
  FUZZ_CHECK(dsc_model_add_file(model, "/model", 1 << 20, &file) == DISCO_OK);
  uint64_t offset = 0;
  for (int i = 0; i < TENSORS; i++) {
    const disco_weights_tensor view = {.name = tensors[i].name,
                                       .ndim = tensors[i].ndim,
                                       .shape = tensors[i].shape,
                                       .offset = offset,
                                       .bytes = tensors[i].bytes};
    FUZZ_CHECK(dsc_model_add_tensor(model, file, &encodings[tensors[i].encoding], &view) == DISCO_OK);
    offset += tensors[i].bytes;
  }
  FUZZ_CHECK(dsc_model_seal(model, false) == DISCO_OK);
  return model;
}

/* The shards of all workers follow each other and are the tensor. */
static bool deal(const disco_shard_plan *plan, int64_t tensor, int32_t num_workers) {
  const dsc_weight *weight = dsc_model_weight(the_model(), tensor);
  uint64_t file_bytes = 0;
  int64_t next = 0;
  disco_shard shard;
  for (int32_t worker = 0; worker < num_workers; worker++) {
    disco_status status = dsc_shard_of(the_model(), plan, tensor, num_workers, worker, &shard);
    FUZZ_CHECK(status == DISCO_OK || status == DISCO_VALUE);
    FUZZ_CHECK(worker == 0 || status == DISCO_OK); /* all or none */
    if (status != DISCO_OK) return false;
    FUZZ_CHECK(shard.tensor == tensor);
    if (shard.is_skipped) return true;
    if (shard.axis < 0) {
      FUZZ_CHECK(shard.file_bytes == weight->view.bytes);
      return true;
    }
    FUZZ_CHECK(shard.axis < weight->view.ndim && shard.first == next && shard.count >= 0);
    next += shard.count;
    file_bytes += shard.file_bytes;
  }
  FUZZ_CHECK(next == weight->view.shape[shard.axis] && file_bytes == weight->view.bytes);
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  disco_shard_plan *plan = NULL;
  char *json = malloc(size); /* not a byte more */
  FUZZ_CHECK(json != NULL || size == 0);
  if (size > 0) memcpy(json, data, size);
  const disco_status status = dsc_shard_plan_parse(json, size, &plan);
  free(json);
  FUZZ_CHECK(status == DISCO_OK || status == DISCO_VALUE);
  FUZZ_CHECK((status == DISCO_OK) == (plan != NULL));
  if (plan == NULL) {
    fuzz_touch(disco_last_error_text(), strlen(disco_last_error_text()));
    return 0;
  }
  for (int32_t num_workers = 1; num_workers <= MAX_WORKERS; num_workers++) {
    bool fits = true;
    for (int64_t tensor = 0; tensor < TENSORS; tensor++) fits = deal(plan, tensor, num_workers) && fits;
    FUZZ_CHECK((dsc_shard_check(the_model(), plan, num_workers) == DISCO_OK) == fits);
  }
  dsc_shard_plan_destroy(plan);
  return 0;
}
