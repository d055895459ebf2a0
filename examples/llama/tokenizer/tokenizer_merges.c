#include "tokenizer/tokenizer_merges.h"

#include <stdlib.h>
#include <string.h>

#include "tokenizer/tokenizer_metadata.h"

/* MAX_PROBES: no pair is further from where its hash points to; a list made so that all collide is refused.
 * SHORT_WORD: up to here a search for the first pair is quicker than a heap. */
enum { MAX_PROBES = 256, SHORT_WORD = 32 };

static const uint32_t no_rank = UINT32_MAX, nowhere = UINT32_MAX;
static const uint64_t no_pair = UINT64_MAX;
static const char merges_key[] = "tokenizer.ggml.merges";

/* ---- The table of pairs ---- */

static uint64_t pair_of(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

static size_t hash_of(uint64_t pair) {
  pair *= 0x9e3779b97f4a7c15;
  pair = (pair ^ pair >> 32) * 0xbf58476d1ce4e5b9;
  return (size_t)(pair ^ pair >> 29);
}

/* The slot of a pair, or the free one where it belongs; NULL when there is none near enough. */
static merge *slot_of(const merges *self, uint64_t pair) {
  const size_t hash = hash_of(pair);
  for (size_t probe = 0; probe < MAX_PROBES; probe++) {
    merge *slot = &self->slots[(hash + probe) & (self->num_slots - 1)];
    if (slot->pair == pair || slot->pair == no_pair) return slot;
  }
  return NULL;
}

/* NULL when they are not joined. */
static const merge *find(const merges *self, int32_t left, int32_t right) {
  const merge *slot = slot_of(self, pair_of(left, right));
  return slot != NULL && slot->pair != no_pair ? slot : NULL;
}

/* ---- From the metadata ---- */

static bool unknown(size_t rank, span text, span part) {
  return refuse(DISCO_VALUE,
                "%s[%zu] of the model is \"%.*s\", but there is no token \"%.*s\" (control tokens do not count)",
                merges_key, rank, (int)(text.bytes < 100 ? text.bytes : 100), text.text,
                (int)(part.bytes < 100 ? part.bytes : 100), part.text);
}

/* "left right"; `whole` has room for both. */
static bool insert(merges *self, const vocabulary *tokens, size_t rank, span text, char *whole) {
  const char *blank = text.bytes > 1 ? memchr(text.text + 1, ' ', text.bytes - 1) : NULL;
  if (blank == NULL)
    return refuse(DISCO_VALUE, "%s[%zu] of the model is no pair: \"%.*s\"", merges_key, rank,
                  (int)(text.bytes < 100 ? text.bytes : 100), text.text);
  const span left = {text.text, (size_t)(blank - text.text)}, right = {blank + 1, text.bytes - left.bytes - 1};
  memcpy(whole, left.text, left.bytes);
  memcpy(whole + left.bytes, right.text, right.bytes);
  const span both = {whole, left.bytes + right.bytes};
  const int32_t left_id = vocabulary_find_plain(tokens, left), right_id = vocabulary_find_plain(tokens, right);
  const int32_t id = vocabulary_find_plain(tokens, both);
  if (left_id < 0) return unknown(rank, text, left);
  if (right_id < 0) return unknown(rank, text, right);
  if (id < 0) return unknown(rank, text, both);
  merge *slot = slot_of(self, pair_of(left_id, right_id));
  if (slot == NULL)
    return refuse(DISCO_VALUE, "%s[%zu] of the model: its hash is that of too many others", merges_key, rank);
  if (slot->pair == no_pair) *slot = (merge){pair_of(left_id, right_id), (uint32_t)rank, id};
  return true;
}

static bool make_room(merges *self, size_t count) {
  if (count >= UINT32_MAX / 4)
    return refuse(DISCO_VALUE, "%s of the model has %zu elements, too many", merges_key, count);
  for (self->num_slots = 2; self->num_slots < 2 * count;) self->num_slots *= 2;
  self->slots = malloc(self->num_slots * sizeof(*self->slots));
  if (self->slots == NULL) return refuse(DISCO_MEMORY, "no memory for the %zu merges of the model", count);
  for (size_t i = 0; i < self->num_slots; i++) self->slots[i] = (merge){no_pair, no_rank, -1};
  return true;
}

static bool read_merges(merges *self, const vocabulary *tokens, const json_t *list) {
  size_t longest = 0, i;
  const json_t *text;
  json_array_foreach(list, i, text) if (json_string_length(text) > longest) longest = json_string_length(text);
  char *whole = malloc(longest + 1);
  if (whole == NULL) return refuse(DISCO_MEMORY, "no memory for the merges of the model");
  bool good = true;
  for (i = 0; good && i < json_array_size(list); i++) {
    text = json_array_get(list, i);
    good = insert(self, tokens, i, (span){json_string_value(text), json_string_length(text)}, whole);
  }
  free(whole);
  return good;
}

bool merges_init(merges *self, const vocabulary *tokens, const disco_weights *model) {
  *self = (merges){0};
  json_t *list;
  if (!metadata_list(model, merges_key, JSON_STRING, &list)) return false;
  const bool good = make_room(self, json_array_size(list)) && read_merges(self, tokens, list);
  json_decref(list);
  if (!good) merges_fini(self);
  return good;
}

void merges_fini(merges *self) {
  free(self->slots);
  *self = (merges){0};
}

/* ---- Short words: the first pair is searched anew each time ---- */

typedef struct {
  uint32_t rank;
  int32_t id;
} candidate;

static candidate candidate_of(const merges *self, const int32_t *ids) {
  const merge *found = find(self, ids[0], ids[1]);
  return found != NULL ? (candidate){found->rank, found->id} : (candidate){no_rank, -1};
}

static size_t join_short(const merges *self, int32_t *ids, size_t count) {
  candidate pairs[SHORT_WORD]; /* that begin at i */
  for (size_t i = 0; i + 1 < count; i++) pairs[i] = candidate_of(self, ids + i);
  while (count > 1) {
    size_t first = 0;
    for (size_t i = 1; i + 1 < count; i++)
      if (pairs[i].rank < pairs[first].rank) first = i;
    if (pairs[first].rank == no_rank) break;
    ids[first] = pairs[first].id;
    count--;
    for (size_t i = first + 1; i < count; i++) ids[i] = ids[i + 1];
    for (size_t i = first + 1; i + 1 < count; i++) pairs[i] = pairs[i + 1];
    if (first > 0) pairs[first - 1] = candidate_of(self, ids + first - 1);
    if (first + 1 < count) pairs[first] = candidate_of(self, ids + first);
  }
  return count;
}

/* ---- Long words: a heap of pairs ---- */

/* One joining: tokens are a list, linked by position; `behind` is nowhere for the last, `before` for the first. The
 * heap has rank and position of its left token for each pair that there is, and for some that there are no longer. */
typedef struct {
  const merges *merges;
  int32_t *ids;
  uint32_t *before, *behind;
  uint64_t *heap;
  size_t heap_count;
} joining;

static void sift_down(uint64_t *heap, size_t count, size_t at) {
  const uint64_t moved = heap[at];
  for (size_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && heap[child + 1] < heap[child]) child++;
    if (moved <= heap[child]) break;
    heap[at] = heap[child];
  }
  heap[at] = moved;
}

static void sift_up(uint64_t *heap, size_t at) {
  const uint64_t moved = heap[at];
  for (; at > 0 && moved < heap[(at - 1) / 2]; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = moved;
}

static uint64_t pop(joining *self) {
  const uint64_t first = self->heap[0];
  self->heap[0] = self->heap[--self->heap_count];
  if (self->heap_count > 0) sift_down(self->heap, self->heap_count, 0);
  return first;
}

/* Add the pair that begins at `left`, if it is one to be joined; not yet in its place. */
static bool add(joining *self, uint32_t left) {
  const uint32_t right = self->behind[left];
  const merge *found = right != nowhere ? find(self->merges, self->ids[left], self->ids[right]) : NULL;
  if (found == NULL) return false;
  self->heap[self->heap_count++] = (uint64_t)found->rank << 32 | left;
  return true;
}

static void push(joining *self, uint32_t left) {
  if (add(self, left)) sift_up(self->heap, self->heap_count - 1);
}

/* Join what is at `left` with what is behind it, if that is still a pair of that rank. */
static void join(joining *self, uint32_t rank, uint32_t left) {
  const uint32_t right = self->behind[left];
  if (self->ids[left] < 0 || right == nowhere) return;
  const merge *found = find(self->merges, self->ids[left], self->ids[right]);
  if (found == NULL || found->rank != rank) return;
  self->ids[left] = found->id;
  self->ids[right] = -1;
  self->behind[left] = self->behind[right];
  if (self->behind[left] != nowhere) self->before[self->behind[left]] = left;
  if (self->before[left] != nowhere) push(self, self->before[left]);
  push(self, left);
}

/* A joining takes an entry from the heap and adds two, so with the first ones there are never more than 2 * count. */
static bool reserve(merge_scratch *self, size_t count) {
  if (count <= self->room) return true;
  if (count > INT32_MAX) return refuse(DISCO_VALUE, "a word of %zu bytes is too long", count);
  merge_scratch_free(self);
  self->heap = malloc(2 * count * sizeof(*self->heap));
  self->before = malloc(count * sizeof(*self->before));
  self->behind = malloc(count * sizeof(*self->behind));
  if (self->heap == NULL || self->before == NULL || self->behind == NULL)
    return refuse(DISCO_MEMORY, "no memory for a word of %zu bytes", count);
  self->room = count;
  return true;
}

static size_t join_long(const merges *self, merge_scratch *scratch, int32_t *ids, size_t count) {
  joining run = {self, ids, scratch->before, scratch->behind, scratch->heap, 0};
  for (uint32_t i = 0; i < count; i++) {
    run.before[i] = i > 0 ? i - 1 : nowhere;
    run.behind[i] = i + 1 < count ? i + 1 : nowhere;
  }
  for (uint32_t i = 0; i < count; i++) (void)add(&run, i);
  for (size_t i = run.heap_count / 2; i-- > 0;) sift_down(run.heap, run.heap_count, i);
  while (run.heap_count > 0) {
    const uint64_t first = pop(&run);
    join(&run, (uint32_t)(first >> 32), (uint32_t)first);
  }
  size_t left = 0;
  for (uint32_t i = 0; i != nowhere; i = run.behind[i]) ids[left++] = ids[i];
  return left;
}

bool merges_apply(const merges *self, merge_scratch *scratch, int32_t *ids, size_t count, size_t *ret_count) {
  if (count <= SHORT_WORD) {
    *ret_count = join_short(self, ids, count);
    return true;
  }
  if (!reserve(scratch, count)) return false;
  *ret_count = join_long(self, scratch, ids, count);
  return true;
}

void merge_scratch_free(merge_scratch *self) {
  free(self->heap);
  free(self->before);
  free(self->behind);
  *self = (merge_scratch){0};
}
