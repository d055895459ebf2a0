/* Names that a file gives to tensors, files and metadata: finding them, and printing them in sentences. An index does
 * not change while it is looked into: any thread, several at once. */
#ifndef DSC_WEIGHTS_NAMES_H
#define DSC_WEIGHTS_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  uint32_t hash, number; /* number + 1, 0: empty */
} dsc_name_slot;

/* A hash table whose hashes nobody can foresee, so that no file can be made to collide. Zeroed memory is an empty one.
 */
typedef struct {
  uint64_t seed;
  dsc_name_slot *slots; /* a power of two, at most half full */
  const char **names;   /* names[number] */
  uint32_t capacity, count;
} dsc_name_index;

void dsc_name_index_fini(dsc_name_index *index);
/* The number of the name, -1 when it is not there. */
int64_t dsc_name_index_find(const dsc_name_index *index, const char *name);
/* A name that is not there yet gets the next number: 0, 1, 2, ... The string must live as long as the index. DISCO_OK
 * or DISCO_MEMORY. */
disco_status dsc_name_index_add(dsc_name_index *index, const char *name);

enum { DSC_NAME_PRINT_BYTES = 224 };
/* The name in quotes as a sentence may have it: control characters as \xNN, cut when it is long. Returns `to`. */
const char *dsc_name_print(const char *name, char to[DSC_NAME_PRINT_BYTES]);

#endif
