/* Interned names: each text gets a number, 1, 2, 3, ..., for good. The caller locks. */
#ifndef DSC_BASE_NAMES_H
#define DSC_BASE_NAMES_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  char **texts;    /* texts[number - 1] */
  uint32_t *slots; /* hash table of numbers, 0 = empty; a power of two, at most half full */
  uint32_t count, capacity;
} dsc_names;

void dsc_names_fini(dsc_names *names);
/* The number of this text, 0 without memory: a name is never worth a failure. */
uint32_t dsc_names_intern(dsc_names *names, const char *text);
/* The text of a number, or NULL. */
const char *dsc_names_text(const dsc_names *names, uint32_t number);

#endif
