#include "weights/names.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/clock.h"
#include "base/memory.h"

/* ---- Finding ---- */

void dsc_name_index_fini(dsc_name_index *index) {
  free(index->slots);
  free(index->names);
  *index = (dsc_name_index){0};
}

static uint32_t hash_of(const dsc_name_index *index, const char *name) {
  return (uint32_t)XXH3_64bits_withSeed(name, strlen(name), index->seed);
}

int64_t dsc_name_index_find(const dsc_name_index *index, const char *name) {
  if (index->count == 0) return -1;
  const uint32_t hash = hash_of(index, name), mask = index->capacity - 1;
  for (uint32_t at = hash & mask; index->slots[at].number != 0; at = (at + 1) & mask)
    if (index->slots[at].hash == hash && strcmp(index->names[index->slots[at].number - 1], name) == 0)
      return index->slots[at].number - 1;
  return -1;
}

static void put(dsc_name_slot *slots, uint32_t capacity, dsc_name_slot slot) {
  uint32_t at = slot.hash & (capacity - 1);
  while (slots[at].number != 0) at = (at + 1) & (capacity - 1);
  slots[at] = slot;
}

static disco_status grow(dsc_name_index *index) {
  const uint32_t capacity = index->capacity > 0 ? 2 * index->capacity : 64;
  dsc_name_slot *slots = dsc_alloc(capacity * sizeof(*slots), "an index of names");
  const char **names = dsc_alloc(capacity / 2 * sizeof(*names), "an index of names");
  if (slots == NULL || names == NULL) {
    free(slots);
    free(names);
    return DISCO_MEMORY;
  }
  /* Addresses and the time: what the writer of a file does not know. */
  if (index->capacity == 0)
    index->seed = (uint64_t)(uintptr_t)slots * 0x9e3779b97f4a7c15u ^ (uint64_t)dsc_clock_now_ns();
  for (uint32_t i = 0; i < index->capacity; i++)
    if (index->slots[i].number != 0) put(slots, capacity, index->slots[i]);
  if (index->count > 0) memcpy(names, index->names, index->count * sizeof(*names));
  free(index->slots);
  free(index->names);
  index->slots = slots;
  index->names = names;
  index->capacity = capacity;
  return DISCO_OK;
}

disco_status dsc_name_index_add(dsc_name_index *index, const char *name) {
  if (index->count == index->capacity / 2) {
    if (index->capacity > UINT32_MAX / 4) return dsc_fail(DISCO_MEMORY, "an index of more than %u names", index->count);
    disco_status status = grow(index);
    if (status != DISCO_OK) return status;
  }
  index->names[index->count++] = name;
  put(index->slots, index->capacity, (dsc_name_slot){hash_of(index, name), index->count});
  return DISCO_OK;
}

/* ---- Printing ---- */

static bool is_control(const unsigned char *at) {
  return *at < 0x20 || *at == 0x7f || (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0);
}

const char *dsc_name_print(const char *name, char to[DSC_NAME_PRINT_BYTES]) {
  enum { TAIL = 5 }; /* dots, the closing quote and the NUL */
  size_t size = 0;
  const unsigned char *at = (const unsigned char *)name;
  to[size++] = '"';
  while (*at != '\0') {
    const bool is_escaped = is_control(at);
    size_t bytes = 1; /* of this character, so that it is not cut in two */
    while (!is_escaped && (at[bytes] & 0xc0) == 0x80 && bytes < 4) bytes++;
    if (size + (is_escaped ? 4 : bytes) > DSC_NAME_PRINT_BYTES - TAIL) {
      memcpy(to + size, "...", 3);
      size += 3;
      break;
    }
    if (is_escaped) {
      at += *at == 0xc2; /* the second byte of U+0080 to U+009F is the number */
      (void)snprintf(to + size, 5, "\\x%02x", *at);
      size += 4;
    } else {
      memcpy(to + size, at, bytes);
      size += bytes;
    }
    at += bytes;
  }
  to[size++] = '"';
  to[size] = '\0';
  return to;
}
