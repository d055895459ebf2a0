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

static uint32_t character_at(const unsigned char *at, size_t size) {
  uint32_t value = size == 1 ? at[0] : size == 2 ? at[0] & 31u : size == 3 ? at[0] & 15u : at[0] & 7u;
  for (size_t i = 1; i < size; i++) value = value << 6 | (at[i] & 63u);
  return value;
}

static bool is_harmless(uint32_t character) {
  static const uint32_t bad[][2] = {{0, 0x1f},        {0x7f, 0x9f},      {0xad, 0xad},     {0x61c, 0x61c},
                                    {0x200b, 0x200f}, {0x2028, 0x202e},  {0x2060, 0x206f}, {0xfeff, 0xfeff},
                                    {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
    if (character >= bad[i][0] && character <= bad[i][1]) return false;
  return true;
}

int print_safe(FILE *stream, const char *text, size_t size) {
  const unsigned char *at = (const unsigned char *)text;
  int width = 0;
  while (size > 0) {
    const size_t step = character_size(at, size);
    const uint32_t character = step > 0 ? character_at(at, step) : at[0];
    if (step > 0 && is_harmless(character)) {
      if (stream != NULL) fwrite(at, 1, step, stream);
      width++;
    } else {
      char escape[16];
      width += snprintf(escape, sizeof(escape), step < 2 ? "\\x%02x" : "\\u%04x", character);
      if (stream != NULL) fputs(escape, stream);
    }
    at += step == 0 ? 1 : step;
    size -= step == 0 ? 1 : step;
  }
  return width;
}

int report_failure(const char *where) {
  const char *text = disco_last_error_text();
  fprintf(stderr, "disco %s: ", where);
  print_safe(stderr, text, strlen(text));
  putc('\n', stderr);
  return EXIT_FAILED;
}

int finish_output(int status) {
  errno = 0;
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  /* A write failed before, and took its reason with it: another one meets it again. */
  if (errno == 0 && putc('\n', stdout) != EOF) (void)fflush(stdout);
  if (errno == EPIPE) return EXIT_FAILED;
  fprintf(stderr, "disco: cannot write the output: %s\n", errno != 0 ? strerror(errno) : "an earlier write failed");
  return EXIT_FAILED;
}
