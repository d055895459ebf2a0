#include "base/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/inject.h"

static uint64_t hash(const char *text) { /* FNV-1a */
  uint64_t value = 0xcbf29ce484222325u;
  for (; *text != 0; text++) value = (value ^ (unsigned char)*text) * 0x100000001b3u;
  return value;
}

void dsc_names_fini(dsc_names *names) {
  for (uint32_t i = 0; i < names->count; i++) free(names->texts[i]);
  free(names->texts);
  free(names->slots);
  *names = (dsc_names){0};
}

static uint32_t *slot_of(const dsc_names *names, const char *text) {
  uint64_t mask = (uint64_t)names->capacity * 2 - 1;
  for (uint64_t i = hash(text) & mask;; i = (i + 1) & mask) {
    uint32_t number = names->slots[i];
    if (number == 0 || strcmp(names->texts[number - 1], text) == 0) return &names->slots[i];
  }
}

static int grow(dsc_names *names) {
  uint32_t capacity = names->capacity == 0 ? 16 : names->capacity * 2;
  char **texts = DSC_ALLOCATION_FAILS() ? NULL : realloc(names->texts, capacity * sizeof(*texts));
  if (texts == NULL) return 0;
  names->texts = texts;
  uint32_t *slots = calloc((size_t)capacity * 2, sizeof(*slots));
  if (slots == NULL) return 0;
  free(names->slots);
  names->slots = slots;
  names->capacity = capacity;
  for (uint32_t i = 0; i < names->count; i++) *slot_of(names, names->texts[i]) = i + 1;
  return 1;
}

uint32_t dsc_names_intern(dsc_names *names, const char *text) {
  if (names->count == names->capacity && !grow(names)) return 0;
  uint32_t *slot = slot_of(names, text);
  if (*slot == 0) {
    char *copy = strdup(text);
    if (copy == NULL) return 0;
    names->texts[names->count++] = copy;
    *slot = names->count;
  }
  return *slot;
}

const char *dsc_names_text(const dsc_names *names, uint32_t number) {
  return number >= 1 && number <= names->count ? names->texts[number - 1] : NULL;
}
