#include "ccl/backend.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/settings.h"
#include "ccl/small.h"

const dsc_backend *dsc_backend_find(const char *name) {
  static const dsc_backend *const all[] = {&dsc_backend_cpu, &dsc_backend_ref};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    if (strcmp(all[i]->name, name) == 0) return all[i];
  return NULL;
}

uint64_t dsc_plane_bytes(int32_t num_workers, int32_t num_groups) {
  dsc_plane_layout layout;
  dsc_plane_plan(num_workers, num_groups, &layout);
  return layout.bytes;
}

/* ---- Tuning ---- */

static const struct {
  const char *name;
  size_t offset;
} tunables[] = {
#define TUNABLE(name, value, meaning) {#name, offsetof(dsc_tuning, name)},
    DSC_TUNING_LIST(TUNABLE)
#undef TUNABLE
};

static disco_status tune(dsc_tuning *tuning, const char *item, size_t size) {
  for (size_t i = 0; i < sizeof(tunables) / sizeof(tunables[0]); i++) {
    size_t name = strlen(tunables[i].name);
    if (size <= name + 1 || strncmp(item, tunables[i].name, name) != 0 || item[name] != '=') continue;
    char *end = NULL;
    uint64_t value = strtoull(item + name + 1, &end, 10);
    if (end != item + size || item[name + 1] < '0' || item[name + 1] > '9') break;
    memcpy((char *)tuning + tunables[i].offset, &value, sizeof(value));
    return DISCO_OK;
  }
  return dsc_fail(DISCO_VALUE, "DISCO_CCL_TUNE: `%.*s` is no name=number of a threshold; `disco info` lists them",
                  (int)size, item);
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most) {
  return value < least ? least : value > most ? most : value;
}

static disco_status read_tuning(dsc_tuning *tuning) {
  const char *at = dsc_setting(DSC_SETTING_CCL_TUNE);
  disco_status status = DISCO_OK;
  *tuning = (dsc_tuning){
#define TUNABLE(name, value, meaning) .name = (value),
      DSC_TUNING_LIST(TUNABLE)
#undef TUNABLE
  };
  while (status == DISCO_OK && *at != 0) {
    size_t size = strcspn(at, ",");
    if (size > 0) status = tune(tuning, at, size);
    at += size + (at[size] == ',');
  }
  if (tuning->push_bytes == 0) tuning->push_bytes = dsc_last_level_cache(); /* before the digest: each reads its own */
  tuning->inlined = clamp(tuning->inlined, 0, DSC_CCL_INLINE);
  tuning->oneshot_two = clamp(tuning->oneshot_two, 0, DSC_CCL_ONESHOT);
  tuning->oneshot_many = clamp(tuning->oneshot_many, 0, DSC_CCL_ONESHOT);
  tuning->oneshot_move = clamp(tuning->oneshot_move, 0, DSC_CCL_ONESHOT);
  uint64_t *chunks[] = {&tuning->chunk_64k, &tuning->chunk_256k, &tuning->chunk_512k, &tuning->chunk_large,
                        &tuning->chunk_move};
  for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) *chunks[i] = clamp(*chunks[i], 4096, DSC_CCL_CHUNK);
  return status;
}

/* What ranks must agree on beside the arguments. */
static uint64_t digest_of(const dsc_tuning *tuning, const char *name) {
  uint64_t digest = 0;
  uint64_t words[sizeof(*tuning) / sizeof(uint64_t)];
  memcpy(words, tuning, sizeof(words));
  for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) digest = (digest ^ words[i]) * 0x9e3779b97f4a7c15u;
  for (; *name != 0; name++) digest = (digest ^ (unsigned char)*name) * 0x9e3779b97f4a7c15u;
  return digest >> 32;
}

/* ---- Create ---- */

disco_status dsc_plane_create(const dsc_backend *backend, const dsc_ccl_host *host, dsc_plane **ret_plane) {
  dsc_plane *plane = dsc_alloc(sizeof(*plane), "the data plane of a worker");
  if (plane == NULL) return DISCO_MEMORY;
  plane->backend = backend;
  plane->host = *host;
  dsc_plane_plan(host->num_workers, host->num_groups, &plane->layout);
  disco_status status = read_tuning(&plane->tuning);
  if (status == DISCO_OK) {
    plane->pairs.counts =
        dsc_alloc((size_t)host->num_workers * sizeof(dsc_pair_counts), "a worker's counts of sends and receives");
    if (plane->pairs.counts == NULL) status = DISCO_MEMORY;
  }
  if (status != DISCO_OK) {
    free(plane);
    return status;
  }
  if (backend->never_direct) plane->tuning.direct = 0;
  /* The controller waits meanwhile: the ranks have the CPUs. */
  dsc_patience_init(&plane->patience, host->num_workers, host->spin_us);
  dsc_comm_init(&plane->world, &plane->host, &plane->layout, 0, &plane->patience);
  plane->has_groups = host->num_groups > 1;
  if (plane->has_groups)
    dsc_comm_init(&plane->group, &plane->host, &plane->layout, 1 + host->worker / plane->layout.group_size,
                  &plane->patience);
  plane->world.tuning = plane->group.tuning = digest_of(&plane->tuning, backend->name);
  plane->note = plane->world.note;
  plane->pairs.host = &plane->host;
  plane->pairs.layout = &plane->layout;
  plane->pairs.patience = &plane->patience;
  plane->pairs.note = plane->note;
  plane->pairs.eager_bytes = plane->layout.eager_bytes;
  plane->pairs.chunk_bytes = dsc_plane_move_chunk(plane);
  plane->pairs.staged_bytes = plane->tuning.direct == 0 ? UINT64_MAX : plane->tuning.staged_move;
  if (backend->start != NULL) status = backend->start(plane);
  if (status == DISCO_OK)
    *ret_plane = plane;
  else
    dsc_plane_destroy(plane);
  return status;
}

disco_status dsc_plane_bootstrap(dsc_plane *plane, bool in_group, const void *blob, size_t bytes, void *ret_all) {
  dsc_comm *comm = in_group && plane->has_groups ? &plane->group : &plane->world;
  if (bytes > DSC_CCL_ONESHOT)
    return dsc_fail(DISCO_VALUE, "a blob of %zu bytes cannot be gathered; at most %d", bytes, DSC_CCL_ONESHOT);
  if (comm->size == 1) {
    memcpy(ret_all, blob, bytes);
    return DISCO_OK;
  }
  dsc_request request = {.comm = comm,
                         .print = {DSC_OPERATION_ALLGATHER, 0, {kDLUInt, 8, 1}, bytes},
                         .in = blob,
                         .out = ret_all,
                         .bytes = bytes};
  return dsc_small_move(plane, &request);
}

void dsc_plane_destroy(dsc_plane *plane) {
  if (plane == NULL) return;
  free(plane->pairs.counts);
  free(plane);
}
