/* Register ids, each with 64 bytes of memory for the handle that names it: handed out under the session's lock, given
 * back from any thread without one.
 *
 * An id that is given back goes on a list that is linked by id inside a table of chunks that never move: a push is one
 * compare-and-swap, a drain one exchange, no memory is allocated and no ABA can occur (nobody pops single ids). Each
 * use of an id has a generation, odd while the register is live: a handle keeps the generation it was made with, so a
 * register that was released early is told from the one the handle means. The memory belongs to the handle until it
 * gives the id back, which is the last thing it does with it. */
#ifndef DSC_BASE_IDPOOL_H
#define DSC_BASE_IDPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/status.h"

enum {
  DSC_IDPOOL_CHUNK = 512,
  DSC_IDPOOL_CHUNKS = 32768,
  DSC_IDPOOL_MAX = DSC_IDPOOL_CHUNK * DSC_IDPOOL_CHUNKS,
  DSC_IDPOOL_HANDLE_BYTES = 64,
};

typedef struct {
  _Alignas(DSC_CACHE_LINE) char handle[DSC_IDPOOL_CHUNK][DSC_IDPOOL_HANDLE_BYTES];
  _Atomic uint32_t next[DSC_IDPOOL_CHUNK];       /* the id after this one, on the released, drained or free list */
  _Atomic uint32_t generation[DSC_IDPOOL_CHUNK]; /* odd: live */
  uint32_t note[DSC_IDPOOL_CHUNK]; /* the owner's, under its lock (the session keeps the function's name here) */
} dsc_idpool_chunk;

typedef struct {
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t released; /* how many were ever, modulo 2^32, << 32 | first id waiting */
  _Alignas(DSC_CACHE_LINE) uint32_t drained; /* under the lock: taken off `released`, not yet told to the workers */
  uint32_t free;                             /* under the lock: may be handed out */
  uint32_t fresh;                            /* under the lock: never handed out yet, from here on */
  _Atomic uint32_t taken;                    /* under the lock: how many were ever, modulo 2^32 */
  _Atomic uint32_t told;                     /* under the lock: how many left the released list */
  _Atomic(dsc_idpool_chunk *) *chunks;
} dsc_idpool;

disco_status dsc_idpool_init(dsc_idpool *pool);
void dsc_idpool_fini(dsc_idpool *pool);

/* Lock held. A live id >= 1, its generation and its handle's memory (as its last user left it); 0 with DISCO_MEMORY or
 * DISCO_VALUE (all in use). The note is 0. */
uint32_t dsc_idpool_take(dsc_idpool *pool, uint32_t *ret_generation, void **ret_handle);
/* Lock held. The register is dead from here on, its id stays with the handle. False when it was not live. */
bool dsc_idpool_kill(dsc_idpool *pool, int64_t id);
/* Any thread, lock-free, once per take: kills the register if it is live and gives the id and the handle's memory back.
 * Returns how many ids now wait for a record. */
uint32_t dsc_idpool_release(dsc_idpool *pool, uint32_t id, uint32_t generation);
/* Any thread. Ids on the released list that no record carries yet. A sequentially consistent load: part of the sleeper
 * handshake. */
static inline uint32_t dsc_idpool_waiting(dsc_idpool *pool) {
  uint64_t head = atomic_load(&pool->released);
  return (uint32_t)head == 0 ? 0 : (uint32_t)(head >> 32) - dsc_load_relaxed(&pool->told);
}
/* Lock held. Move up to max waiting ids into `ids` and make them free; returns how many. */
uint32_t dsc_idpool_drain(dsc_idpool *pool, uint32_t *ids, uint32_t max);
/* Lock held. True while drained ids wait for a record besides the released ones. */
static inline bool dsc_idpool_has_drained(const dsc_idpool *pool) { return pool->drained != 0; }

static inline dsc_idpool_chunk *dsc_idpool_chunk_of(const dsc_idpool *pool, uint32_t id) {
  /* acquire: pairs with the release in take (label idpool.chunk): a chunk is seen zeroed */
  return dsc_load_acquire(&pool->chunks[id / DSC_IDPOOL_CHUNK]);
}

/* Any thread. Is this the register that a DRef with this generation means? */
static inline bool dsc_idpool_is_live(const dsc_idpool *pool, uint32_t id, uint32_t generation) {
  dsc_idpool_chunk *chunk = dsc_idpool_chunk_of(pool, id);
  return dsc_load_relaxed(&chunk->generation[id % DSC_IDPOOL_CHUNK]) == generation;
}

/* Any thread. Ids whose handle lives. */
uint64_t dsc_idpool_live(dsc_idpool *pool);
/* Any thread. The live generation of an id given by number, or 0 when it is not live. */
uint32_t dsc_idpool_generation(const dsc_idpool *pool, int64_t id);

#endif
