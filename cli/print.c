/* Headings, pages, JSON, and the end of the output. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

bool can_be_bold(FILE *stream) {
  const char *no_color = getenv("NO_COLOR"), *terminal = getenv("TERM");
  if (no_color != NULL && no_color[0] != 0) return false;
  if (terminal == NULL || strcmp(terminal, "dumb") == 0) return false;
  return isatty(fileno(stream)) == 1;
}

static void print_line(FILE *stream, const char *line, int size, bool bold) {
  fprintf(stream, bold ? "\033[1m%.*s\033[0m\n" : "%.*s\n", size, line);
}

void print_heading(FILE *stream, const char *heading) {
  print_line(stream, heading, (int)strlen(heading), can_be_bold(stream));
}

void print_page(FILE *stream, const char *page) {
  bool bold = can_be_bold(stream);
  while (*page != 0) {
    int size = (int)strcspn(page, "\n");
    print_line(stream, page, size, bold && size > 1 && page[0] != ' ' && page[size - 1] == ':');
    page += size + (page[size] == '\n');
  }
}

/* The length of the UTF-8 character at the start of `text`, 0 when that is none (also for the overlong, surrogates, and
 * what lies beyond U+10FFFF). */
static size_t character_size(const unsigned char *text, size_t size) {
  if (text[0] < 0x80) return 1;
  size_t need = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
  if (text[0] < 0xc2 || text[0] > 0xf4 || need > size) return 0;
  for (size_t i = 1; i < need; i++)
    if ((text[i] & 0xc0) != 0x80) return 0;
  if (text[0] == 0xe0 && text[1] < 0xa0) return 0;
  if (text[0] == 0xed && text[1] > 0x9f) return 0;
  if (text[0] == 0xf0 && text[1] < 0x90) return 0;
  if (text[0] == 0xf4 && text[1] > 0x8f) return 0;
  return need;
}

void print_json_string(FILE *stream, const char *text, size_t size) {
  const unsigned char *at = (const unsigned char *)text;
  putc('"', stream);
  while (size > 0) {
    size_t step = character_size(at, size);
    if (step == 0)
      fputs("\\ufffd", stream);
    else if (at[0] == '"' || at[0] == '\\')
      fprintf(stream, "\\%c", at[0]);
    else if (at[0] < 0x20 || at[0] == 0x7f)
      fprintf(stream, "\\u%04x", at[0]);
    else
      fwrite(at, 1, step, stream);
    at += step == 0 ? 1 : step;
    size -= step == 0 ? 1 : step;
  }
  putc('"', stream);
}

int finish_output(int status) {
  errno = 0;
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  if (errno == EPIPE) return EXIT_FAILED;
  fprintf(stderr, "disco: cannot write the output: %s\n", errno != 0 ? strerror(errno) : "an earlier write failed");
  return EXIT_FAILED;
}
