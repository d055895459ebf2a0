/* Text that grows, and the nearest of several names. No locks; one thread at a time per object. */
#ifndef DSC_BASE_TEXT_H
#define DSC_BASE_TEXT_H

#include <stddef.h>

#include "disco/status.h"

typedef struct {
  char *data; /* NUL-terminated once anything was added; NULL before, and for good when memory ran out */
  size_t size, capacity;
} dsc_text;

#define DSC_TEXT_INIT \
  { NULL, 0, 0 }

void dsc_text_add(dsc_text *text, const char *format, ...) DISCO_PRINTF(2, 3);
/* Hand the string over (owned by the caller, free()); the text is empty afterwards. NULL when nothing was added or
 * memory ran out. */
char *dsc_text_take(dsc_text *text);
void dsc_text_fini(dsc_text *text);

/* Collects the few candidates that are most like a word: offer them all, then print. */
enum { DSC_NEAREST_MAX = 3 };
typedef struct {
  const char *word;
  size_t distance[DSC_NEAREST_MAX];
  char name[DSC_NEAREST_MAX][128];
  int count;
} dsc_nearest;

void dsc_nearest_init(dsc_nearest *nearest, const char *word);
void dsc_nearest_offer(dsc_nearest *nearest, const char *candidate);
/* Adds "; did you mean `a`, `b`?" or nothing. */
void dsc_nearest_print(const dsc_nearest *nearest, dsc_text *text);

#endif
