/* Register ids: handed out under the session's lock, released from any thread without one.
 *
 * A released id goes on a list that is linked by id inside a table of chunks that never move: a push is one
 * compare-and-swap, a drain one exchange, no memory is allocated and no ABA can occur (nobody pops single ids). Each id
 * has a generation, odd while it is live: a DRef keeps the generation it was made with, so a register that was released
 * (or released and taken again) is told from the one the DRef means. */
#ifndef DSC_BASE_IDPOOL_H
#define DSC_BASE_IDPOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomics.h"
#include "base/status.h"

enum { DSC_IDPOOL_CHUNK = 1024, DSC_IDPOOL_CHUNKS = 16384, DSC_IDPOOL_MAX = DSC_IDPOOL_CHUNK * DSC_IDPOOL_CHUNKS };

typedef struct {
  _Atomic uint32_t next[DSC_IDPOOL_CHUNK];       /* the id after this one, on the released, drained or free list */
  _Atomic uint32_t generation[DSC_IDPOOL_CHUNK]; /* odd: live */
  uint32_t note[DSC_IDPOOL_CHUNK]; /* the owner's, under its lock (the session keeps the function's name here) */
} dsc_idpool_chunk;

typedef struct {
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t released; /* count << 32 | first id */
  _Alignas(DSC_CACHE_LINE) uint32_t drained; /* under the lock: taken off `released`, not yet told to the workers */
  uint32_t free;                             /* under the lock: may be handed out */
  uint32_t fresh;                            /* under the lock: never handed out yet, from here on */
  _Atomic uint32_t live;
  _Atomic(dsc_idpool_chunk *) *chunks;
} dsc_idpool;

disco_status dsc_idpool_init(dsc_idpool *pool);
void dsc_idpool_fini(dsc_idpool *pool);

/* Lock held. A live id >= 1 and its generation; 0 with DISCO_MEMORY or DISCO_VALUE (all in use). The note is 0. */
uint32_t dsc_idpool_take(dsc_idpool *pool, uint32_t *ret_generation);
/* Lock held. Undo the take of an id that nobody has seen. */
void dsc_idpool_untake(dsc_idpool *pool, uint32_t id);
/* Any thread, lock-free. False when (id, generation) is not live (any more); else *ret_waiting is how many ids now wait
 * for a record. */
bool dsc_idpool_release(dsc_idpool *pool, uint32_t id, uint32_t generation, uint32_t *ret_waiting);
/* Any thread. Ids on the released list that no record carries yet. A sequentially consistent load: part of the sleeper
 * handshake. */
static inline uint32_t dsc_idpool_waiting(dsc_idpool *pool) { return (uint32_t)(atomic_load(&pool->released) >> 32); }
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

/* Any thread. The live generation of an id given by number, or 0 when it is not live. */
uint32_t dsc_idpool_generation(const dsc_idpool *pool, int64_t id);

#endif
