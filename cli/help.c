/* disco help [SUBCOMMAND] */
#include "command.h"

static void print_overview(void) {
  print_heading(stdout, "Usage:");
  fputs("  disco SUBCOMMAND [ARGUMENT]...\n"
        "  disco --help | --version\n\n",
        stdout);
  print_heading(stdout, "Subcommands:");
  for (int i = 0; commands[i] != NULL; i++) fprintf(stdout, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
  fputs("\n`disco help SUBCOMMAND` tells more about one. `man disco` has the environment variables.\n", stdout);
}

static int run(int argc, char **argv) {
  if (argc > 2) return usage_error("help", "one subcommand at a time: unexpected argument `%.200s`", argv[2]);
  if (argc < 2) {
    print_overview();
    return EXIT_OK;
  }
  const command *found = find_command(argv[1]);
  if (found == NULL) return unknown_command(argv[1]);
  print_page(stdout, found->help);
  return EXIT_OK;
}

const command help_command = {"help", "all subcommands, or one of them in full", run,
                              "Usage:\n"
                              "  disco help [SUBCOMMAND]\n"
                              "  disco --help | -h\n"
                              "  disco SUBCOMMAND --help\n"
                              "\n"
                              "Lists the subcommands, or tells all about one.\n"};
