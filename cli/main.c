/* disco SUBCOMMAND ...: the table of subcommands, and what is said when there is none. */
#define _POSIX_C_SOURCE 200809L

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command.h"

const command *const commands[] = {&info_command, &inspect_command, &shard_command,  &perf_command,
                                   &help_command, &version_command, &worker_command, NULL};

const command *find_command(const char *name) {
  for (int i = 0; commands[i] != NULL; i++)
    if (strcmp(commands[i]->name, name) == 0) return commands[i];
  return NULL;
}

int usage_error(const char *where, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fprintf(stderr, "disco%s%s: ", where != NULL ? " " : "", where != NULL ? where : "");
  vfprintf(stderr, format, args);
  va_end(args);
  fprintf(stderr, "\nTry `disco help%s%s`.\n", where != NULL ? " " : "", where != NULL ? where : "");
  return EXIT_USAGE;
}

static int min_of(int a, int b) { return a < b ? a : b; }

/* Levenshtein's distance of the first 31 characters. */
static int distance(const char *a, const char *b) {
  int row[32], n = (int)strnlen(a, 31), m = (int)strnlen(b, 31);
  for (int j = 0; j <= m; j++) row[j] = j;
  for (int i = 1; i <= n; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= m; j++) {
      int changed = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = min_of(changed, min_of(row[j], row[j - 1]) + 1);
    }
  }
  return row[m];
}

/* Half of a name may be wrong, but not all of it; the start of one is near however short it is. */
static bool is_near(const char *typed, const char *name) {
  size_t size = strlen(typed);
  if (size > 0 && strncmp(typed, name, size) == 0) return true;
  return distance(typed, name) <= (int)(strlen(name) + 1) / 2;
}

int unknown_command(const char *name) {
  fprintf(stderr, "disco: there is no subcommand `%.200s`", name);
  int near = 0;
  for (int i = 0; commands[i] != NULL; i++)
    if (is_near(name, commands[i]->name))
      fprintf(stderr, near++ == 0 ? "; did you mean `%s`" : " or `%s`", commands[i]->name);
  fprintf(stderr, "%s\nTry `disco help`.\n", near > 0 ? "?" : "");
  return EXIT_USAGE;
}

static int short_help(void) {
  fputs("Usage: disco SUBCOMMAND [ARGUMENT]...\n", stderr);
  for (int i = 0; commands[i] != NULL; i++) fprintf(stderr, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
  fputs("Try `disco help`.\n", stderr);
  return EXIT_USAGE;
}

/* `disco --help` is `disco help`, and so on. */
static const char *name_of(const char *argument) {
  if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) return "help";
  return strcmp(argument, "--version") == 0 ? "version" : argument;
}

static bool asks_for_help(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
  return false;
}

int main(int argc, char **argv) {
  if (argc < 2) return short_help();
  const char *name = name_of(argv[1]);
  const command *found = find_command(name);
  if (found == NULL && name[0] == '-') return usage_error(NULL, "unknown option `%.200s`", name);
  if (found == NULL) return unknown_command(name);
  if (asks_for_help(argc - 1, argv + 1)) {
    print_page(stdout, found->help);
    return finish_output(EXIT_OK);
  }
  argv[1] = (char *)found->name;
  return finish_output(found->run(argc - 1, argv + 1));
}
