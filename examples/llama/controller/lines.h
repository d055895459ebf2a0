/* Lines of standard input, for a reader that must not miss a Ctrl-C. */
#ifndef LLAMA_LINES_H
#define LLAMA_LINES_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
  char *bytes; /* what was read: the line of the last call, and what follows it */
  size_t size, room;
  size_t next; /* where the next line begins */
  bool is_ended;
} lines;

typedef bool (*lines_stop)(void);

/* The next line, without its newline and with a zero byte behind it; it lives until the next call. NULL at the end of
 * the input, which may be one that cannot be read any more, and once `stop` says so: it is asked again and again while
 * nothing comes. Also NULL, with the error in disco_last_error() and *ret_has_failed true: no memory for the line. */
char *lines_next(lines *self, lines_stop stop, bool *ret_has_failed);
void lines_free(lines *self);

#endif
