#include "base/idpool.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static uint64_t pack(uint64_t count, uint32_t id) { return count << 32 | id; }

disco_status dsc_idpool_init(dsc_idpool *pool) {
  memset(pool, 0, sizeof(*pool));
  pool->chunks = dsc_alloc(DSC_IDPOOL_CHUNKS * sizeof(*pool->chunks), "the register table");
  pool->fresh = 1; /* 0 means "do not store" */
  return pool->chunks != NULL ? DISCO_OK : DISCO_MEMORY;
}

void dsc_idpool_fini(dsc_idpool *pool) {
  for (uint32_t i = 0; pool->chunks != NULL && i < DSC_IDPOOL_CHUNKS; i++) {
    dsc_idpool_chunk *chunk = dsc_load_relaxed(&pool->chunks[i]);
    if (chunk == NULL) break; /* chunks are made in order */
    free(chunk);
  }
  free(pool->chunks);
  pool->chunks = NULL;
}

uint32_t dsc_idpool_take(dsc_idpool *pool, uint32_t *ret_generation, void **ret_handle) {
  uint32_t id = pool->free;
  dsc_idpool_chunk *chunk;
  if (id != 0) {
    chunk = dsc_idpool_chunk_of(pool, id);
    pool->free = dsc_load_relaxed(&chunk->next[id % DSC_IDPOOL_CHUNK]);
  } else {
    id = pool->fresh;
    if (id >= DSC_IDPOOL_MAX) {
      (void)dsc_fail(DISCO_VALUE, "all %d registers are in use: drop references that are no longer needed",
                     DSC_IDPOOL_MAX - 1);
      return 0;
    }
    if (dsc_load_relaxed(&pool->chunks[id / DSC_IDPOOL_CHUNK]) == NULL) {
      chunk = dsc_alloc_aligned(DSC_CACHE_LINE, sizeof(*chunk), "a chunk of the register table");
      if (chunk == NULL) return 0;
      dsc_store_release(&pool->chunks[id / DSC_IDPOOL_CHUNK], chunk); /* release: idpool.chunk */
    }
    chunk = dsc_idpool_chunk_of(pool, id);
    pool->fresh = id + 1;
  }
  uint32_t generation = dsc_load_relaxed(&chunk->generation[id % DSC_IDPOOL_CHUNK]) + 1;
  dsc_store_relaxed(&chunk->generation[id % DSC_IDPOOL_CHUNK], generation);
  chunk->note[id % DSC_IDPOOL_CHUNK] = 0;
  *ret_generation = generation;
  *ret_handle = chunk->handle[id % DSC_IDPOOL_CHUNK];
  dsc_store_relaxed(&pool->taken, dsc_load_relaxed(&pool->taken) + 1);
  return id;
}

static void make_free(dsc_idpool *pool, dsc_idpool_chunk *chunk, uint32_t id) {
  dsc_store_relaxed(&chunk->next[id % DSC_IDPOOL_CHUNK], pool->free);
  pool->free = id;
}

bool dsc_idpool_kill(dsc_idpool *pool, int64_t id) {
  uint32_t generation = dsc_idpool_generation(pool, id);
  if (generation == 0) return false;
  /* The handle may die right now: both store the same number. */
  dsc_store_relaxed(&dsc_idpool_chunk_of(pool, (uint32_t)id)->generation[id % DSC_IDPOOL_CHUNK], generation + 1);
  return true;
}

uint32_t dsc_idpool_release(dsc_idpool *pool, uint32_t id, uint32_t generation) {
  dsc_idpool_chunk *chunk = dsc_idpool_chunk_of(pool, id);
  dsc_store_relaxed(&chunk->generation[id % DSC_IDPOOL_CHUNK], generation + 1);
  uint64_t head = dsc_load_relaxed(&pool->released), next;
  do {
    dsc_store_relaxed(&chunk->next[id % DSC_IDPOOL_CHUNK], (uint32_t)head);
    next = pack((head >> 32) + 1, id);
  } while (!dsc_cas(&pool->released, &head, next)); /* release: idpool.released, link and handle are the next taker's */
  return (uint32_t)(next >> 32) - dsc_load_relaxed(&pool->told);
}

/* Lock held: take the whole released list over. */
static void take_released(dsc_idpool *pool) {
  uint64_t head = dsc_load_relaxed(&pool->released);
  if ((uint32_t)head == 0) return;
  while (!dsc_cas(&pool->released, &head, head & ~(uint64_t)UINT32_MAX)) continue; /* acquire: idpool.released */
  pool->drained = (uint32_t)head;
  dsc_store_relaxed(&pool->told, (uint32_t)(head >> 32));
}

uint32_t dsc_idpool_drain(dsc_idpool *pool, uint32_t *ids, uint32_t max) {
  if (pool->drained == 0) take_released(pool);
  uint32_t count = 0;
  while (pool->drained != 0 && count < max) {
    uint32_t id = pool->drained;
    dsc_idpool_chunk *chunk = dsc_idpool_chunk_of(pool, id);
    pool->drained = dsc_load_relaxed(&chunk->next[id % DSC_IDPOOL_CHUNK]);
    ids[count++] = id;
    make_free(pool, chunk, id);
  }
  return count;
}

uint32_t dsc_idpool_generation(const dsc_idpool *pool, int64_t id) {
  if (id < 1 || id >= DSC_IDPOOL_MAX) return 0;
  dsc_idpool_chunk *chunk = dsc_idpool_chunk_of(pool, (uint32_t)id);
  uint32_t generation = chunk == NULL ? 0 : dsc_load_relaxed(&chunk->generation[id % DSC_IDPOOL_CHUNK]);
  return generation % 2 == 1 ? generation : 0;
}

uint64_t dsc_idpool_live(dsc_idpool *pool) {
  uint32_t released = (uint32_t)(atomic_load(&pool->released) >> 32);
  return (uint32_t)(dsc_load_relaxed(&pool->taken) - released); /* modulo 2^32: there are fewer ids than that */
}
