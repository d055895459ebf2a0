/* Bodies of disco/weights.h. */
#include "disco/weights.h"

#include "weights/manifest.h"
#include "weights/model.h"
#include "weights/plan.h"
#include "weights/shard.h"

/* ---- Models ---- */

disco_status disco_weights_open(const char *path, disco_weights **ret_weights) {
  return dsc_model_open(path, ret_weights);
}

void disco_weights_close(disco_weights *weights) { dsc_model_destroy(weights); }

const char *disco_weights_format(const disco_weights *weights) { return dsc_model_format(weights); }

int64_t disco_weights_num_tensors(const disco_weights *weights) { return dsc_model_count(weights); }

const disco_weights_tensor *disco_weights_tensor_at(const disco_weights *weights, int64_t index) {
  const dsc_weight *weight = dsc_model_weight(weights, index);
  return weight != NULL ? &weight->view : NULL;
}

int64_t disco_weights_find(const disco_weights *weights, const char *name) { return dsc_model_find(weights, name); }

int64_t disco_weights_num_metadata(const disco_weights *weights) { return dsc_model_num_metadata(weights); }

bool disco_weights_metadata_at(const disco_weights *weights, int64_t index, const char **ret_key,
                               const char **ret_json) {
  return dsc_model_metadata_at(weights, index, ret_key, ret_json);
}

const char *disco_weights_metadata(const disco_weights *weights, const char *key) {
  return dsc_model_metadata(weights, key);
}

/* ---- Plans and shards ---- */

disco_status disco_shard_plan_parse(const char *json, size_t bytes, disco_shard_plan **ret_plan) {
  return dsc_shard_plan_parse(json, bytes, ret_plan);
}

disco_status disco_shard_plan_open(const char *path, disco_shard_plan **ret_plan) {
  return dsc_shard_plan_open(path, ret_plan);
}

void disco_shard_plan_destroy(disco_shard_plan *plan) { dsc_shard_plan_destroy(plan); }

disco_status disco_shard_of(const disco_weights *weights, const disco_shard_plan *plan, int64_t tensor,
                            int32_t num_workers, int32_t worker, disco_shard *ret_shard) {
  return dsc_shard_of(weights, plan, tensor, num_workers, worker, ret_shard);
}

disco_status disco_shard_check(const disco_weights *weights, const disco_shard_plan *plan, int32_t num_workers) {
  return dsc_shard_check(weights, plan, num_workers);
}

disco_status disco_shard_read(const disco_weights *weights, const disco_shard *shard, disco_weights_progress progress,
                              void *context, void *memory) {
  return dsc_shard_read(weights, shard, progress, context, memory);
}

/* ---- Manifests ---- */

uint64_t disco_weights_hash(const void *memory, size_t bytes) { return dsc_weights_hash(memory, bytes); }

disco_status disco_manifest_open(const char *path, disco_manifest **ret_manifest) {
  return dsc_manifest_open(path, ret_manifest);
}

disco_status disco_manifest_create(int32_t num_workers, disco_manifest **ret_manifest) {
  return dsc_manifest_create(num_workers, ret_manifest);
}

void disco_manifest_destroy(disco_manifest *manifest) { dsc_manifest_destroy(manifest); }

disco_status disco_manifest_put(disco_manifest *manifest, const disco_weights *weights, const disco_shard *shard,
                                int32_t worker, uint64_t hash) {
  return dsc_manifest_put(manifest, weights, shard, worker, hash);
}

disco_status disco_manifest_write(const disco_manifest *manifest, const char *path) {
  return dsc_manifest_write(manifest, path);
}

disco_status disco_manifest_check(const disco_manifest *manifest, const disco_weights *weights,
                                  const disco_shard *shard, int32_t num_workers, int32_t worker, const void *memory) {
  return dsc_manifest_check(manifest, weights, shard, num_workers, worker, memory);
}
