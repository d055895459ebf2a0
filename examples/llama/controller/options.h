/* The command line of disco-llama. */
#ifndef LLAMA_OPTIONS_H
#define LLAMA_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum {
  EXIT_OK = 0,
  EXIT_OUTPUT = 1,       /* what was made could not be written */
  EXIT_INPUT = 2,        /* the command line, the model or the prompt */
  EXIT_SESSION = 3,      /* a worker died, raised, ... */
  EXIT_INTERRUPTED = 130 /* Ctrl-C */
};

typedef struct {
  const char *model;
  const char *prompt, *system, *token_list; /* NULL: not given */
  const char *perplexity, *trace;           /* a file, a folder */
  int64_t workers;
  int64_t max_tokens;
  int64_t context; /* 0: the model's */
  int64_t seed;
  double temperature;
  bool is_processes, is_fast, is_chat, has_stats, is_json;
} options;

/* -1 to go on, else the exit code: help was asked for, or something is wrong, which was told on stderr. */
int options_read(int argc, char **argv, options *ret_options);

#endif
