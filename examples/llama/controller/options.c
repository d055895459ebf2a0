#include "controller/options.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What there is ---- */

typedef enum {
  KIND_FLAG,    /* bool; alone, true */
  KIND_TEXT,    /* const char * */
  KIND_INTEGER, /* int64_t from `least` to `most` */
  KIND_REAL,    /* double from `least` to `most` */
  KIND_CHOICE,  /* bool: one of two words, the second one is true */
  KIND_HELP,
} option_kind;

typedef struct {
  const char *name, *value; /* value: as help calls it */
  option_kind kind;
  size_t field; /* of `options` */
  int64_t least, most;
  const char *words[2];
  const char *help; /* lines */
} option;

static const option all[] = {
    {"--model", "FILE", KIND_TEXT, offsetof(options, model),
     .help = "a Llama in GGUF with a byte-pair tokeniser; tensors as F32, F16, BF16, Q8_0 or Q4_1"},
    {"--prompt", "TEXT", KIND_TEXT, offsetof(options, prompt),
     .help = "what to continue; '-' reads it from standard input"},
    {"--chat", NULL, KIND_FLAG, offsetof(options, is_chat),
     .help = "the text is a question, put as the model's chat format (ChatML) has it; without --prompt\n"
             "questions are read from standard input, one a line"},
    {"--system", "TEXT", KIND_TEXT, offsetof(options, system),
     .help = "with --chat: the system message (default: none, also where the model's own format adds one)"},
    {"--tokens", "LIST", KIND_TEXT, offsetof(options, token_list),
     .help = "instead of --prompt: tokens by number, as 1,2,3"},
    {"--workers", "N", KIND_INTEGER, offsetof(options, workers), 1, 1024,
     .help = "as many workers (default 2); every one needs at least one key-value head"},
    {"--session", "KIND", KIND_CHOICE, offsetof(options, is_processes), .words = {"thread", "process"},
     .help = "thread: workers are threads; process (default): the first is a thread, the others are\n"
             "processes"},
    {"--precision", "HOW", KIND_CHOICE, offsetof(options, is_fast), .words = {"exact", "fast"},
     .help = "fast (default): weights stay quantised, activations have 8 bits; exact: all in float32"},
    {"--max-tokens", "N", KIND_INTEGER, offsetof(options, max_tokens), 0, INT32_MAX,
     .help = "stop after so many tokens (default 256)"},
    {"--context", "N", KIND_INTEGER, offsetof(options, context), 1, INT32_MAX,
     .help = "room for so many tokens, prompts and answers together: at most as many as the model was made for\n"
             "(default: those); a conversation takes the memory for all of them at once"},
    {"--temperature", "T", KIND_REAL, offsetof(options, temperature), 0, 100,
     .help = "0 (default): always the likeliest token; above: sample, the more evenly the higher"},
    {"--seed", "S", KIND_INTEGER, offsetof(options, seed), INT64_MIN, INT64_MAX,
     .help = "of the sampling (default 0); the same one gives the same text"},
    {"--stats", NULL, KIND_FLAG, offsetof(options, has_stats),
     .help = "at the end, a table of times on standard error"},
    {"--json", NULL, KIND_FLAG, offsetof(options, is_json),
     .help = "one JSON object instead of text: prompt_tokens, tokens, text, times"},
    {"--perplexity", "FILE", KIND_TEXT, offsetof(options, perplexity),
     .help = "no generation: how well the model foretells the text of FILE"},
    {"--trace", "FOLDER", KIND_TEXT, offsetof(options, trace),
     .help = "first write what the prompt does inside, for comparisons: tokens.npy, activations.npy\n"
             "[stage][token][element], logits.npy [token][word]"},
    {"--help", NULL, KIND_HELP, 0, .help = "this"},
};
enum { OPTIONS = sizeof(all) / sizeof(all[0]) };

/* ---- Help ---- */

static const char introduction[] =
    "Usage:\n"
    "  disco-llama --model FILE --prompt TEXT [option...]\n"
    "  disco-llama --model FILE --chat [option...]\n"
    "\n"
    "Generates text with a Llama from a GGUF file, tensor-parallel on N workers under one controller. Each worker "
    "reads\n"
    "its own heads, columns and words of the file, and nothing else; two allreduces a layer put their parts together.\n"
    "The controller sends tokens and gets tokens.\n"
    "\n"
    "Examples:\n"
    "  disco-llama --model smollm2.gguf --prompt 'Once upon a time' --workers 2\n"
    "  disco-llama --model smollm2.gguf --chat --prompt 'Why is the sky blue?' --stats\n"
    "  disco-llama --model smollm2.gguf --chat            a conversation: a line is a question, Ctrl-D ends it\n"
    "  disco-llama --model smollm2.gguf --perplexity FILE --precision exact\n"
    "\n"
    "Options:\n";
static const char exit_codes[] = "\n"
                                 "Exit codes: 0 done; 1 output failed; 2 the options, the model or the prompt are "
                                 "wrong; 3 a worker failed or died;\n"
                                 "130 Ctrl-C, or SIGTERM.\n";

static void print_option(const option *o) {
  enum { HELP_COLUMN = 23 };
  const char *at = o->help, *end = strchr(at, '\n');
  int width = printf("  %s%s%s", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
  for (; end != NULL; at = end + 1, end = strchr(at, '\n'), width = 0)
    (void)printf("%*s%.*s\n", HELP_COLUMN - width, "", (int)(end - at), at);
  (void)printf("%*s%s\n", HELP_COLUMN - width, "", at);
}

static int print_help(void) {
  (void)fputs(introduction, stdout);
  for (int i = 0; i < OPTIONS; i++) print_option(&all[i]);
  (void)fputs(exit_codes, stdout);
  return fflush(stdout) != 0 || ferror(stdout) ? EXIT_OUTPUT : EXIT_OK;
}

/* ---- Reading ---- */

static int wrong(const char *what) {
  fprintf(stderr, "disco-llama: %s\nTry disco-llama --help.\n", what);
  return EXIT_INPUT;
}

static bool integer(const option *how, const char *text, int64_t *to) {
  char *end = NULL;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (end == text || *end != 0 || errno != 0 || value < how->least || value > how->most) return false;
  *to = value;
  return true;
}

static bool real(const option *how, const char *text, double *to) {
  char *end = NULL;
  const double value = strtod(text, &end);
  if (end == text || *end != 0 || !(value >= (double)how->least && value <= (double)how->most)) return false;
  *to = value;
  return true;
}

static bool choice(const option *how, const char *text, bool *to) {
  *to = strcmp(text, how->words[1]) == 0;
  return *to || strcmp(text, how->words[0]) == 0;
}

static int refuse_value(const option *how, const char *value) {
  char may_be[96], text[256];
  if (how->kind == KIND_CHOICE)
    (void)snprintf(may_be, sizeof(may_be), "%s or %s", how->words[0], how->words[1]);
  else
    (void)snprintf(may_be, sizeof(may_be), "%s from %lld to %lld", how->kind == KIND_REAL ? "a number" : "an integer",
                   (long long)how->least, (long long)how->most);
  (void)snprintf(text, sizeof(text), "%s %.100s: it takes %s", how->name, value, may_be);
  return wrong(text);
}

/* -1, or an exit code. */
static int take(const option *how, const char *value, options *to) {
  void *field = (char *)to + how->field;
  bool is_right = true;
  switch (how->kind) {
  case KIND_HELP: return print_help();
  case KIND_FLAG: *(bool *)field = true; break;
  case KIND_TEXT: *(const char **)field = value; break;
  case KIND_INTEGER: is_right = integer(how, value, field); break;
  case KIND_REAL: is_right = real(how, value, field); break;
  case KIND_CHOICE: is_right = choice(how, value, field); break;
  }
  return is_right ? -1 : refuse_value(how, value);
}

static const option *find(const char *name) {
  if (strcmp(name, "-h") == 0) name = "--help";
  for (int i = 0; i < OPTIONS; i++)
    if (strcmp(name, all[i].name) == 0) return &all[i];
  return NULL;
}

/* Options that exclude or need each other. */
static int check(const options *o) {
  const int texts = (o->prompt != NULL) + (o->token_list != NULL) + (o->perplexity != NULL);
  if (o->model == NULL) return wrong("no model: give a GGUF file with --model");
  if (texts > 1) return wrong("only one of --prompt, --tokens and --perplexity");
  if (o->perplexity != NULL && (o->is_chat || o->trace != NULL))
    return wrong("--perplexity takes the text as it is: no --chat, no --trace");
  if (o->token_list != NULL && o->is_chat) return wrong("--tokens are taken as they are: no --chat");
  if (texts == 0 && !o->is_chat) return wrong("no text: give --prompt, --tokens, --perplexity, or --chat");
  if (texts == 0 && (o->is_json || o->trace != NULL))
    return wrong("a conversation cannot be had with --json or --trace: give a --prompt");
  if (o->system != NULL && !o->is_chat) return wrong("--system is for --chat");
  return -1;
}

int options_read(int argc, char **argv, options *ret_options) {
  *ret_options = (options){.workers = 2, .is_processes = true, .is_fast = true, .max_tokens = 256};
  for (int i = 1; i < argc; i++) {
    const option *how = find(argv[i]);
    const bool has_value = how != NULL && how->kind != KIND_FLAG && how->kind != KIND_HELP;
    char text[256];
    if (how == NULL || (has_value && i + 1 == argc)) {
      (void)snprintf(text, sizeof(text), how == NULL ? "there is no option %.200s" : "%.200s needs a value", argv[i]);
      return wrong(text);
    }
    const int code = take(how, has_value ? argv[++i] : NULL, ret_options);
    if (code >= 0) return code;
  }
  return check(ret_options);
}
