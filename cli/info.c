/* disco info: disco_describe(), as text or as JSON. */
#include <string.h>

#include "command.h"
#include "disco/disco.h"

/* Calls fn for each line of `text`, without its newline. */
static void each_line(const char *text, void (*fn)(const char *line, size_t size, int *depth), int *depth) {
  while (*text != 0) {
    size_t size = strcspn(text, "\n");
    fn(text, size, depth);
    text += size + (text[size] == '\n');
  }
}

static void print_text_line(const char *line, size_t size, int *depth) {
  (void)depth;
  if (size > 0 && line[0] == '[' && can_be_bold(stdout))
    printf("\033[1m%.*s\033[0m\n", (int)size, line);
  else
    printf("%.*s\n", (int)size, line);
}

/* *depth: 0 before the first section, 1 before a section's first member, 2 after one. */
static void print_json_line(const char *line, size_t size, int *depth) {
  if (size == 0) return;
  if (line[0] == '[' && line[size - 1] == ']') {
    fputs(*depth == 0 ? "\n  " : "\n  },\n  ", stdout);
    print_json_string(stdout, line + 1, size - 2);
    fputs(": {", stdout);
    *depth = 1;
    return;
  }
  const char *colon = memchr(line, ':', size - 1);
  while (colon != NULL && colon[1] != ' ') colon = memchr(colon + 1, ':', size - 1 - (size_t)(colon + 1 - line));
  if (colon == NULL || *depth == 0) return;
  fputs(*depth == 1 ? "\n    " : ",\n    ", stdout);
  print_json_string(stdout, line, (size_t)(colon - line));
  fputs(": ", stdout);
  print_json_string(stdout, colon + 2, size - (size_t)(colon + 2 - line));
  *depth = 2;
}

static void print_json(const char *text) {
  int depth = 0;
  fputs("{", stdout);
  each_line(text, print_json_line, &depth);
  fputs(depth == 0 ? "}\n" : "\n  }\n}\n", stdout);
}

static int run(int argc, char **argv) {
  bool as_json = false;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--json") != 0) return usage_error("info", "unexpected argument `%.200s`", argv[i]);
    as_json = true;
  }
  char *text = NULL;
  if (disco_describe(&text) != DISCO_OK) {
    fprintf(stderr, "disco info: %s\n", disco_last_error_text());
    return EXIT_FAILED;
  }
  int depth = 0;
  if (as_json)
    print_json(text);
  else
    each_line(text, print_text_line, &depth);
  disco_text_free(text);
  return EXIT_OK;
}

const command info_command = {
    "info", "versions, CPUs and memory allowed, limits, settings, data planes", run,
    "Usage:\n"
    "  disco info [--json]\n"
    "\n"
    "Prints what libdisco is and would do here: its version and TVM-FFI's, the CPUs and the memory that this\n"
    "process may use, the limits, every setting with its value and where that comes from, the data planes found,\n"
    "and the program that worker processes would run. Put it into a bug report.\n"
    "\n"
    "Options:\n"
    "  --json   one object of objects, all values strings\n"};
