/* What shards must hash to. The contracts are those of disco/weights.h; the functions of the same names there forward
 * to these. */
#ifndef DSC_WEIGHTS_MANIFEST_H
#define DSC_WEIGHTS_MANIFEST_H

#include "weights/model.h"

enum { DSC_MANIFEST_MAX_WORKERS = 1 << 16 };

uint64_t dsc_weights_hash(const void *memory, size_t bytes);

disco_status dsc_manifest_open(const char *path, disco_manifest **ret_manifest);
/* The same of what a source has instead of a file. */
disco_status dsc_manifest_read(const dsc_source *source, disco_manifest **ret_manifest);
disco_status dsc_manifest_create(int32_t num_workers, disco_manifest **ret_manifest);
void dsc_manifest_destroy(disco_manifest *manifest);
disco_status dsc_manifest_put(disco_manifest *manifest, const disco_weights *weights, const disco_shard *shard,
                              int32_t worker, uint64_t hash);
disco_status dsc_manifest_write(const disco_manifest *manifest, const char *path);
disco_status dsc_manifest_check(const disco_manifest *manifest, const disco_weights *weights, const disco_shard *shard,
                                int32_t num_workers, int32_t worker, const void *memory);

#endif
