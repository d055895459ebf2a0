/* What shards must hash to. The contracts are those of disco/weights.h; the functions of the same names there forward
 * to these. */
#ifndef DSC_WEIGHTS_MANIFEST_H
#define DSC_WEIGHTS_MANIFEST_H

#include "weights/model.h"

enum { DSC_MANIFEST_MAX_WORKERS = 1 << 16 };

uint64_t dsc_weights_hash(const void *memory, size_t bytes);

/* From JSON in memory, which `what` names in sentences. */
disco_status dsc_manifest_parse(const char *what, const char *json, size_t bytes, disco_manifest **ret_manifest);
disco_status dsc_manifest_open(const char *path, disco_manifest **ret_manifest);
disco_status dsc_manifest_create(int32_t num_workers, disco_manifest **ret_manifest);
void dsc_manifest_destroy(disco_manifest *manifest);
disco_status dsc_manifest_put(disco_manifest *manifest, const disco_weights *weights, const disco_shard *shard,
                              int32_t worker, uint64_t hash);
disco_status dsc_manifest_write(const disco_manifest *manifest, const char *path);
disco_status dsc_manifest_check(const disco_manifest *manifest, const disco_weights *weights, const disco_shard *shard,
                                int32_t num_workers, int32_t worker, const void *memory);

/* The hash of a tensor for a worker. DISCO_VALUE when the manifest has none. */
disco_status dsc_manifest_find(const disco_manifest *manifest, const char *tensor, int32_t worker, uint64_t *ret_hash);
/* What it is, as JSON text that the caller frees; for dsc_manifest_parse() again. Errors of dsc_manifest_write(). */
disco_status dsc_manifest_print(const disco_manifest *manifest, char **ret_json);

#endif
