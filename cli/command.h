/* The command `disco`: one table of subcommands (main.c), a file each. It sees libdisco's public pages only. */
#ifndef DISCO_CLI_COMMAND_H
#define DISCO_CLI_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

#include "disco/status.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct {
  const char *name;
  const char *summary; /* one line */
  /* argv[0] is the subcommand's name. Returns the exit status; what it prints to stdout is flushed by main(). */
  int (*run)(int argc, char **argv);
  /* The whole page of `disco help NAME`. Lines without indent that end in a colon are its headings. */
  const char *help;
} command;

extern const command worker_command, info_command, perf_command, help_command, version_command;
extern const command inspect_command, shard_command;

/* NULL-terminated. */
extern const command *const commands[];
/* NULL when there is none of that name. */
const command *find_command(const char *name);
/* `disco WHERE: what` and where to read more, on stderr; WHERE may be NULL. Returns EXIT_USAGE. */
int usage_error(const char *where, const char *format, ...) DISCO_PRINTF(2, 3);
/* The same for a subcommand that does not exist, with the nearest names. */
int unknown_command(const char *name);

/* ---- print.c ---- */

/* May text to this stream be bold? Only on a terminal that can, and not with NO_COLOR. */
bool can_be_bold(FILE *stream);
/* A heading: bold where that is possible. */
void print_heading(FILE *stream, const char *heading);
/* A page: its headings as above. */
void print_page(FILE *stream, const char *page);
/* A JSON string in quotes, from any bytes: what is no UTF-8 becomes U+FFFD. */
void print_json_string(FILE *stream, const char *text, size_t size);
/* Text that came from a file, on one line and harmless to a terminal: control characters, those that turn the direction
 * of text or cannot be seen, and bytes that are no UTF-8 appear as \xNN or \uNNNN. Returns its width in characters;
 * stream NULL: only that. */
int print_safe(FILE *stream, const char *text, size_t size);
/* `disco WHERE: ` and this thread's error, the same way, on stderr. Returns EXIT_FAILED. */
int report_failure(const char *where);
/* Write out what stdout holds. A reader that has left is no reason for a message; a full disk is. Returns the exit
 * status: `status`, or EXIT_FAILED. */
int finish_output(int status);

#endif
