#include "os/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomics.h"
#include "base/compiler.h"
#include "base/inject.h"
#include "base/list.h"
#include "base/memory.h"
#include "os/cgroup.h"

/* Under the address sanitizer what is not allocated may not be touched, by this process: each has shadow memory of its
 * own, so a peer that stores into freed memory is not seen. */
#if DSC_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(memory, bytes) ((void)(memory), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) ((void)(memory), (void)(bytes))
#endif

static uint64_t page_size(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

/* ---- The mapping ---- */

static disco_status refuse(const char *call, uint64_t bytes, int error) {
  const char *hint = "";
  if (error == ENOMEM || error == EFBIG)
    hint = ": no address space or file size for it; set a smaller arena_bytes, or raise the limit (ulimit -v, -f)";
  if (error == EMFILE || error == ENFILE)
    hint = ": too many open descriptors, raise the limit (ulimit -n) or close sessions";
  return dsc_fail(error == ENOMEM ? DISCO_MEMORY : DISCO_RUNTIME, "%s of an arena of %llu bytes failed: %s (%s)%s",
                  call, (unsigned long long)bytes, strerror(error), strerrorname_np(error), hint);
}

/* range_bytes is rounded up to pages. */
static disco_status measure(uint64_t range_bytes, int32_t ranges, dsc_arena *ret_arena) {
  uint64_t page = page_size(), most = (uint64_t)INT64_MAX - page;
  if (ranges < 1 || range_bytes < 1 || range_bytes > most / (uint64_t)ranges - page)
    return dsc_fail(DISCO_VALUE,
                    "an arena of %d ranges of %llu bytes: both must be at least 1, and their product below "
                    "2^63; set another arena_bytes",
                    (int)ranges, (unsigned long long)range_bytes);
  *ret_arena = (dsc_arena){.range_bytes = (range_bytes + page - 1) / page * page, .ranges = ranges, .fd = -1};
  return DISCO_OK;
}

static uint64_t bytes_of(const dsc_arena *arena) { return arena->range_bytes * (uint64_t)arena->ranges; }

static disco_status map(int fd, dsc_arena *arena) {
  uint64_t bytes = bytes_of(arena);
  void *base = DSC_ALLOCATION_FAILS() ? (errno = ENOMEM, MAP_FAILED)
                                      : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (base == MAP_FAILED) return refuse("mmap", bytes, errno);
  (void)madvise(base, bytes, MADV_DONTFORK); /* what still runs of ours in a forked child cannot write here */
  arena->base = base;
  arena->fd = fd;
  return DISCO_OK;
}

/* Growing a file past this limit is not an error but a signal that ends the process. */
static bool is_past_file_limit(uint64_t bytes) {
  struct rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && bytes > limit.rlim_cur;
}

disco_status dsc_arena_create(uint64_t range_bytes, int32_t ranges, dsc_arena *ret_arena) {
  dsc_arena arena;
  disco_status status = measure(range_bytes, ranges, &arena);
  if (status != DISCO_OK) return status;
  uint64_t bytes = bytes_of(&arena);
  if (is_past_file_limit(bytes)) return refuse("ftruncate", bytes, EFBIG);
  int fd = DSC_ALLOCATION_FAILS() ? (errno = EMFILE, -1) : memfd_create("disco-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return refuse("memfd_create", bytes, errno);
  if (ftruncate(fd, (off_t)bytes) != 0) {
    status = refuse("ftruncate", bytes, errno);
  } else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    status = refuse("sealing", bytes, errno);
  } else {
    status = map(fd, &arena);
  }
  if (status != DISCO_OK) {
    close(fd);
    return status;
  }
  *ret_arena = arena;
  return DISCO_OK;
}

disco_status dsc_arena_attach(int fd, uint64_t range_bytes, int32_t ranges, dsc_arena *ret_arena) {
  dsc_arena arena;
  disco_status status = measure(range_bytes, ranges, &arena);
  if (status != DISCO_OK) return status;
  struct stat info;
  if (fstat(fd, &info) != 0)
    return dsc_fail(DISCO_LOST, "the arena cannot be looked at: %s (%s)", strerror(errno), strerrorname_np(errno));
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
    return dsc_fail(DISCO_LOST, "an arena whose size is not sealed is not believed");
  if ((uint64_t)info.st_size != bytes_of(&arena))
    return dsc_fail(DISCO_LOST, "an arena of %lld bytes, it should have %d ranges of %llu", (long long)info.st_size,
                    (int)ranges, (unsigned long long)arena.range_bytes);
  status = map(fd, &arena);
  if (status != DISCO_OK) return status;
  (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
  *ret_arena = arena;
  return DISCO_OK;
}

void dsc_arena_destroy(dsc_arena *arena) {
  if (arena->base == NULL) return;
  munmap(arena->base, bytes_of(arena));
  if (arena->fd >= 0) close(arena->fd);
  *arena = (dsc_arena){.fd = -1};
}

/* ---- One range ----
 *
 * Extents, free and used ones in turn, cover the range in the order of addresses; two free ones are never neighbours.
 * They live on the heap, so that nobody who writes past a tensor breaks the allocator. Free extents also hang in a bin
 * of their size class, used ones in a hash table. A page is dirty from when it is given out until it is punched: such
 * pages may take memory, all others take none. */

enum {
  GRAIN = 64,
  BINS = 64 * 8,
  WORD_BITS = 64,
  FIRST_BUCKETS = 64,
  CHECK_BYTES = 1 << 20, /* growth that is worth a look at the control group */
};
static const uint64_t keep_free_bytes = (uint64_t)32 << 20; /* more free dirty memory is punched ... */
static const uint64_t punched_down_to = (uint64_t)24 << 20; /* ... down to this, so that not every free punches */

typedef struct extent extent;
struct extent {
  dsc_list address; /* its neighbours */
  dsc_list bin;     /* free: others of its size class */
  extent *next;     /* used: others of its bucket */
  uint64_t offset, bytes;
  bool is_used;
};

struct dsc_arena_range {
  pthread_mutex_t lock;
  char *base;
  uint64_t bytes, page;
  dsc_arena arena; /* adopted, or zeroed */
  _Atomic int64_t references;
  _Atomic uint64_t used; /* bytes */
  dsc_list extents;      /* by address */
  dsc_list bins[BINS];
  uint64_t nonempty[BINS / WORD_BITS]; /* a bit for each bin */
  extent **buckets;                    /* a power of two of them */
  uint64_t num_buckets, num_used;
  uint64_t *dirty;      /* a bit for each page */
  uint64_t dirty_end;   /* pages from here on are clean */
  uint64_t dirty_pages; /* all */
  uint64_t idle_pages;  /* dirty ones that lie wholly in a free extent */
  uint64_t unchecked;   /* bytes of growth since the control group was last looked at */
  uint64_t reached;     /* bytes: nothing from here on was ever given out, or poisoned */
  bool cannot_punch;    /* the kernel refused: locked memory */
};

static extent *extent_at(dsc_list *member) { return dsc_list_entry(member, extent, address); }

/* The extent behind or in front of it if that is free. */
static extent *free_neighbour(dsc_arena_range *range, dsc_list *member) {
  return member == &range->extents || extent_at(member)->is_used ? NULL : extent_at(member);
}

/* ---- Dirty pages ---- */

typedef struct {
  uint64_t first, end;
} pages;

static pages pages_touched(const dsc_arena_range *range, uint64_t offset, uint64_t bytes) {
  return (pages){offset / range->page, (offset + bytes + range->page - 1) / range->page};
}

static pages pages_inside(const dsc_arena_range *range, uint64_t offset, uint64_t bytes) {
  pages inside = {(offset + range->page - 1) / range->page, (offset + bytes) / range->page};
  if (inside.end < inside.first) inside.end = inside.first;
  return inside;
}

static pages both(pages one, pages other) {
  pages common = {one.first > other.first ? one.first : other.first, one.end < other.end ? one.end : other.end};
  if (common.end < common.first) common.end = common.first;
  return common;
}

/* The bits of word `index` that stand for pages of `span`. */
static uint64_t mask_of(pages span, uint64_t index) {
  uint64_t low = index * WORD_BITS, mask = ~(uint64_t)0;
  if (span.first > low) mask &= ~(uint64_t)0 << (span.first - low);
  if (span.end < low + WORD_BITS) mask &= ~(~(uint64_t)0 << (span.end - low));
  return mask;
}

static uint64_t count_dirty(const dsc_arena_range *range, pages span) {
  uint64_t count = 0;
  if (span.end > range->dirty_end) span.end = range->dirty_end;
  for (uint64_t i = span.first / WORD_BITS; i * WORD_BITS < span.end; i++)
    count += (uint64_t)__builtin_popcountll(range->dirty[i] & mask_of(span, i));
  return count;
}

static void set_dirty(dsc_arena_range *range, pages span) {
  range->dirty_pages += span.end - span.first - count_dirty(range, span);
  for (uint64_t i = span.first / WORD_BITS; i * WORD_BITS < span.end; i++) range->dirty[i] |= mask_of(span, i);
  if (span.end > range->dirty_end) range->dirty_end = span.end;
}

static void set_clean(dsc_arena_range *range, pages span) {
  range->dirty_pages -= count_dirty(range, span);
  for (uint64_t i = span.first / WORD_BITS; i * WORD_BITS < span.end; i++) range->dirty[i] &= ~mask_of(span, i);
  if (span.first < range->dirty_end && span.end >= range->dirty_end) range->dirty_end = span.first;
}

static bool is_dirty(const dsc_arena_range *range, uint64_t page) {
  return (range->dirty[page / WORD_BITS] >> (page % WORD_BITS) & 1) != 0;
}

/* The last run of dirty pages in the span; an empty one when there is none. */
static pages last_dirty_run(const dsc_arena_range *range, pages span) {
  uint64_t end = span.end;
  while (end > span.first && !is_dirty(range, end - 1)) {
    bool is_whole_word = end % WORD_BITS == 0 && end - span.first >= WORD_BITS;
    end -= is_whole_word && range->dirty[end / WORD_BITS - 1] == 0 ? WORD_BITS : 1;
  }
  uint64_t first = end;
  while (first > span.first && is_dirty(range, first - 1)) first--;
  return (pages){first, end};
}

/* Give back memory of free extents, from the range's end on, until so many idle pages are left. */
static void punch(dsc_arena_range *range, uint64_t idle_pages) {
  for (dsc_list *at = range->extents.previous; at != &range->extents; at = at->previous) {
    extent *piece = extent_at(at);
    if (piece->is_used) continue;
    pages span = pages_inside(range, piece->offset, piece->bytes);
    if (span.end > range->dirty_end) span.end = range->dirty_end;
    while (range->idle_pages > idle_pages && span.first < span.end) {
      pages run = last_dirty_run(range, span);
      if (run.end - run.first > range->idle_pages - idle_pages) run.first = run.end - (range->idle_pages - idle_pages);
      if (run.first == run.end) break;
      uint64_t bytes = (run.end - run.first) * range->page;
      if (madvise(range->base + run.first * range->page, bytes, MADV_REMOVE) != 0) {
        range->cannot_punch = true;
        return;
      }
      set_clean(range, run);
      range->idle_pages -= run.end - run.first;
      span.end = run.first;
    }
    if (range->idle_pages <= idle_pages) return;
  }
}

/* ---- Bins of free extents ---- */

/* Eight classes for each power of two: a piece of a higher class is always large enough. */
static unsigned bin_of(uint64_t bytes) {
  uint64_t grains = bytes / GRAIN;
  if (grains < 8) return (unsigned)grains;
  unsigned top = 63 - (unsigned)__builtin_clzll(grains);
  return (top - 2) * 8 + (unsigned)(grains >> (top - 3) & 7);
}

static void bin_add(dsc_arena_range *range, extent *piece) {
  unsigned bin = bin_of(piece->bytes);
  piece->is_used = false;
  dsc_list_append(range->bins[bin].next, &piece->bin); /* in front: warm pages are used again first */
  range->nonempty[bin / WORD_BITS] |= (uint64_t)1 << (bin % WORD_BITS);
}

static void bin_remove(dsc_arena_range *range, extent *piece) {
  unsigned bin = bin_of(piece->bytes);
  dsc_list_remove(&piece->bin);
  if (dsc_list_is_empty(&range->bins[bin])) range->nonempty[bin / WORD_BITS] &= ~((uint64_t)1 << (bin % WORD_BITS));
}

static extent *find_free(dsc_arena_range *range, uint64_t bytes) {
  unsigned bin = bin_of(bytes);
  dsc_list *head = &range->bins[bin];
  for (dsc_list *at = head->next; at != head; at = at->next) {
    extent *piece = dsc_list_entry(at, extent, bin);
    if (piece->bytes >= bytes) return piece;
  }
  for (unsigned word = ++bin / WORD_BITS; word < BINS / WORD_BITS; word++) {
    uint64_t bits = range->nonempty[word];
    if (word == bin / WORD_BITS) bits &= ~(uint64_t)0 << (bin % WORD_BITS);
    if (bits == 0) continue;
    unsigned found = word * WORD_BITS + (unsigned)__builtin_ctzll(bits);
    return dsc_list_entry(range->bins[found].next, extent, bin);
  }
  return NULL;
}

/* ---- The table of used extents ---- */

static uint64_t bucket_of(const dsc_arena_range *range, uint64_t offset) {
  return (offset / GRAIN * 0x9e3779b97f4a7c15u) >> 32 & (range->num_buckets - 1);
}

/* Without memory for a larger table the old one goes on, slower. */
static void grow_table(dsc_arena_range *range) {
  uint64_t old_count = range->num_buckets;
  extent **old = range->buckets, **grown = calloc(old_count * 2, sizeof(extent *));
  if (grown == NULL) return;
  range->buckets = grown;
  range->num_buckets = old_count * 2;
  for (uint64_t i = 0; i < old_count; i++) {
    for (extent *piece = old[i], *next; piece != NULL; piece = next) {
      next = piece->next;
      extent **head = &grown[bucket_of(range, piece->offset)];
      piece->next = *head;
      *head = piece;
    }
  }
  free(old);
}

static void table_add(dsc_arena_range *range, extent *piece) {
  if (range->num_used >= range->num_buckets) grow_table(range);
  extent **head = &range->buckets[bucket_of(range, piece->offset)];
  piece->is_used = true;
  piece->next = *head;
  *head = piece;
  range->num_used++;
  dsc_add_relaxed(&range->used, piece->bytes);
}

/* NULL when nothing was allocated there. */
static extent *table_take(dsc_arena_range *range, uint64_t offset) {
  extent **link = &range->buckets[bucket_of(range, offset)];
  while (*link != NULL && (*link)->offset != offset) link = &(*link)->next;
  extent *piece = *link;
  if (piece == NULL) return NULL;
  *link = piece->next;
  range->num_used--;
  dsc_add_relaxed(&range->used, (uint64_t)0 - piece->bytes);
  return piece;
}

/* ---- Create, let go ---- */

static void range_destroy(dsc_arena_range *range) {
  while (!dsc_list_is_empty(&range->extents)) {
    dsc_list *first = range->extents.next;
    dsc_list_remove(first);
    free(extent_at(first));
  }
  ASAN_UNPOISON_MEMORY_REGION(range->base, range->reached); /* the addresses may soon be another mapping's */
  dsc_arena_destroy(&range->arena);
  pthread_mutex_destroy(&range->lock);
  free(range->buckets);
  free(range->dirty);
  free(range);
}

disco_status dsc_arena_range_create(const dsc_arena *arena, int32_t index, dsc_arena_range **ret_range) {
  if (arena->base == NULL || index < 0 || index >= arena->ranges)
    return dsc_fail(DISCO_VALUE, "the arena has %d ranges, there is no range %d", (int)arena->ranges, (int)index);
  dsc_arena_range *range = dsc_alloc(sizeof(*range), "an arena's range");
  if (range == NULL) return DISCO_MEMORY;
  pthread_mutex_init(&range->lock, NULL);
  dsc_list_init(&range->extents);
  for (int i = 0; i < BINS; i++) dsc_list_init(&range->bins[i]);
  range->bytes = arena->range_bytes;
  range->base = arena->base + (uint64_t)index * range->bytes;
  range->page = page_size();
  range->num_buckets = FIRST_BUCKETS;
  dsc_store_relaxed(&range->references, 1);
  uint64_t words = range->bytes / range->page / WORD_BITS + 1;
  extent *all = dsc_alloc(sizeof(*all), "an arena's extent");
  if (all != NULL) range->buckets = dsc_alloc(FIRST_BUCKETS * sizeof(extent *), "an arena's table");
  if (range->buckets != NULL) range->dirty = dsc_alloc(words * sizeof(uint64_t), "an arena's page map");
  if (range->dirty == NULL) {
    free(all);
    range_destroy(range);
    return DISCO_MEMORY;
  }
  all->bytes = range->bytes;
  dsc_list_append(&range->extents, &all->address);
  bin_add(range, all);
  *ret_range = range;
  return DISCO_OK;
}

void dsc_arena_range_adopt(dsc_arena_range *range, dsc_arena *arena) {
  range->arena = *arena;
  *arena = (dsc_arena){.fd = -1};
}

void dsc_arena_range_unref(dsc_arena_range *range) {
  if (range != NULL && dsc_add_acq_rel(&range->references, -1) == 1) range_destroy(range);
}

uint64_t dsc_arena_range_used(const dsc_arena_range *range) { return dsc_load_relaxed(&range->used); }

/* ---- Growing within the control group's limit ---- */

/* Dirty bytes that take no memory yet: given out and never written, or swapped out. */
static uint64_t unwritten_bytes(const dsc_arena_range *range) {
  unsigned char here[4096];
  uint64_t count = 0;
  for (uint64_t first = 0; first < range->dirty_end; first += sizeof(here)) {
    uint64_t end = first + sizeof(here) < range->dirty_end ? first + sizeof(here) : range->dirty_end;
    if (count_dirty(range, (pages){first, end}) == 0) continue;
    if (mincore(range->base + first * range->page, (end - first) * range->page, here) != 0) continue;
    for (uint64_t page = first; page < end; page++) count += is_dirty(range, page) && (here[page - first] & 1) == 0;
  }
  return count * range->page;
}

static uint64_t growth_of(const dsc_arena_range *range, const extent *piece, uint64_t bytes) {
  pages span = pages_touched(range, piece->offset, bytes);
  return (span.end - span.first - count_dirty(range, span)) * range->page;
}

static bool fits_easily(uint64_t bytes) {
  return bytes <= (uint64_t)dsc_memory_available(NULL) && bytes <= dsc_memory_physical();
}

/* The bitmap has the last word only when the limit is near: counting pages that are there takes its time. */
static disco_status check_growth(dsc_arena_range *range, const extent *piece, uint64_t bytes) {
  uint64_t growth = growth_of(range, piece, bytes);
  if (range->unchecked + growth < CHECK_BYTES) {
    range->unchecked += growth;
    return DISCO_OK;
  }
  if (!fits_easily(growth + range->dirty_pages * range->page)) {
    if (!range->cannot_punch) punch(range, 0);
    growth = growth_of(range, piece, bytes); /* more than before if the piece itself was punched */
    disco_status status =
        dsc_memory_check(growth + unwritten_bytes(range), "the arena, with what is allocated and not yet written,");
    if (status != DISCO_OK) return status;
  }
  range->unchecked = 0;
  return DISCO_OK;
}

/* ---- Allocate and free ---- */

static disco_status full(dsc_arena_range *range, uint64_t bytes) {
  uint64_t largest = 0;
  for (dsc_list *at = range->extents.next; at != &range->extents; at = at->next)
    if (!extent_at(at)->is_used && extent_at(at)->bytes > largest) largest = extent_at(at)->bytes;
  uint64_t used = dsc_load_relaxed(&range->used);
  return dsc_fail(DISCO_MEMORY,
                  "no room for %llu bytes in the arena: %llu of this worker's %llu bytes are free, %llu of them in one "
                  "piece; drop tensors, or raise the option arena_bytes",
                  (unsigned long long)bytes, (unsigned long long)(range->bytes - used),
                  (unsigned long long)range->bytes, (unsigned long long)largest);
}

/* Dirty pages of [offset, offset + bytes) and at its rims that lie wholly inside the free piece around it. */
static uint64_t count_idle(const dsc_arena_range *range, const extent *piece, uint64_t offset, uint64_t bytes) {
  return count_dirty(range,
                     both(pages_touched(range, offset, bytes), pages_inside(range, piece->offset, piece->bytes)));
}

/* Cut the first `bytes` off a free piece and mark them used; `rest` becomes what is left of it. */
static void take(dsc_arena_range *range, extent *piece, uint64_t bytes, extent *rest) {
  bin_remove(range, piece);
  range->idle_pages -= count_idle(range, piece, piece->offset, bytes);
  if (rest != NULL) {
    rest->offset = piece->offset + bytes;
    rest->bytes = piece->bytes - bytes;
    piece->bytes = bytes;
    dsc_list_append(piece->address.next, &rest->address);
    bin_add(range, rest);
  }
  set_dirty(range, pages_touched(range, piece->offset, bytes));
  table_add(range, piece);
}

/* Under the address sanitizer: these bytes of a piece may be touched, its rounded end may not. */
static void permit(dsc_arena_range *range, const extent *piece, uint64_t bytes) {
  char *memory = range->base + piece->offset;
  uint64_t end = piece->offset + piece->bytes, old_end = end < range->reached ? end : range->reached;
  if (piece->offset < old_end) ASAN_UNPOISON_MEMORY_REGION(memory, old_end - piece->offset);
  ASAN_POISON_MEMORY_REGION(memory + bytes, piece->bytes - bytes);
  if (end > range->reached) range->reached = end;
}

/* Not all of a huge piece: its shadow takes memory even where the piece takes none. */
static void forbid(void *memory, uint64_t bytes) {
  const uint64_t most = (uint64_t)64 << 20;
  ASAN_POISON_MEMORY_REGION(memory, bytes < most ? bytes : most);
}

static disco_status alloc_locked(dsc_arena_range *range, uint64_t bytes, void **ret_memory) {
  if (bytes > range->bytes) return full(range, bytes);
  uint64_t rounded = bytes == 0 ? GRAIN : (bytes + GRAIN - 1) / GRAIN * GRAIN;
  extent *piece = find_free(range, rounded), *rest = NULL;
  if (piece == NULL) return full(range, bytes);
  disco_status status = check_growth(range, piece, rounded);
  if (status != DISCO_OK) return status;
  if (piece->bytes > rounded) {
    rest = dsc_alloc(sizeof(*rest), "an arena's extent");
    if (rest == NULL) return DISCO_MEMORY;
  }
  take(range, piece, rounded, rest);
  permit(range, piece, bytes);
  *ret_memory = range->base + piece->offset;
  return DISCO_OK;
}

disco_status dsc_arena_alloc(dsc_arena_range *range, uint64_t bytes, void **ret_memory) {
  pthread_mutex_lock(&range->lock);
  disco_status status = alloc_locked(range, bytes, ret_memory);
  pthread_mutex_unlock(&range->lock);
  if (status == DISCO_OK) dsc_add_relaxed(&range->references, 1);
  return status;
}

/* Free it and join it with free neighbours. */
static void give_back(dsc_arena_range *range, extent *piece) {
  uint64_t offset = piece->offset, bytes = piece->bytes;
  extent *before = free_neighbour(range, piece->address.previous), *after = free_neighbour(range, piece->address.next);
  if (before != NULL) {
    bin_remove(range, before);
    before->bytes += piece->bytes;
    dsc_list_remove(&piece->address);
    free(piece);
    piece = before;
  }
  if (after != NULL) {
    bin_remove(range, after);
    piece->bytes += after->bytes;
    dsc_list_remove(&after->address);
    free(after);
  }
  bin_add(range, piece);
  range->idle_pages += count_idle(range, piece, offset, bytes);
}

void dsc_arena_free(dsc_arena_range *range, void *memory) {
  if (memory == NULL) return;
  pthread_mutex_lock(&range->lock);
  extent *piece = table_take(range, (uint64_t)((char *)memory - range->base));
  if (piece != NULL) {
    forbid(memory, piece->bytes);
    give_back(range, piece);
    if (range->idle_pages * range->page > keep_free_bytes && !range->cannot_punch)
      punch(range, punched_down_to / range->page);
  }
  pthread_mutex_unlock(&range->lock);
  if (piece != NULL) dsc_arena_range_unref(range);
}
