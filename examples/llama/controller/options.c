#include "controller/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
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
    "Options:\n"
    "  --model FILE         a Llama in GGUF with a byte-pair tokeniser; tensors as F32, F16, BF16, Q8_0 or Q4_1\n"
    "  --prompt TEXT        what to continue; '-' reads it from standard input\n"
    "  --chat               the text is a question, put as the model's chat format (ChatML) has it; without --prompt\n"
    "                       questions are read from standard input, one a line\n"
    "  --system TEXT        with --chat: the system message (default: none, also where the model's own format adds "
    "one)\n"
    "  --tokens LIST        instead of --prompt: tokens by number, as 1,2,3\n"
    "  --workers N          as many workers (default 2); every one needs at least one key-value head\n"
    "  --session KIND       thread: workers are threads; process (default): the first is a thread, the others are\n"
    "                       processes\n"
    "  --precision HOW      fast (default): weights stay quantised, activations have 8 bits; exact: all in float32\n"
    "  --max-tokens N       stop after so many tokens (default 256)\n"
    "  --temperature T      0 (default): always the likeliest token; above: sample, the more evenly the higher\n"
    "  --seed S             of the sampling (default 0); the same one gives the same text\n"
    "  --stats              at the end, a table of times on standard error\n"
    "  --json               one JSON object instead of text: prompt_tokens, tokens, text, times\n"
    "  --perplexity FILE    no generation: how well the model foretells the text of FILE\n"
    "  --trace FOLDER       first write what the prompt does inside, for comparisons: tokens.npy, activations.npy\n"
    "                       [stage][token][element], logits.npy [token][word]\n"
    "  --help               this\n"
    "\n"
    "Exit codes: 0 done; 1 output failed; 2 the options, the model or the prompt are wrong; 3 a worker failed or "
    "died;\n"
    "130 Ctrl-C, or SIGTERM.\n";

static int wrong(const char *format, const char *option, const char *value) {
  fprintf(stderr, "disco-llama: ");
  fprintf(stderr, format, option, value); /* NOLINT: formats are this file's */
  fprintf(stderr, "\nTry disco-llama --help.\n");
  return EXIT_INPUT;
}

static bool integer(const char *text, int64_t least, int64_t most, int64_t *to) {
  char *end = NULL;
  errno = 0;
  const long long value = strtoll(text, &end, 10);
  if (end == text || *end != 0 || errno != 0 || value < least || value > most) return false;
  *to = value;
  return true;
}

static bool real(const char *text, double least, double most, double *to) {
  char *end = NULL;
  const double value = strtod(text, &end);
  if (end == text || *end != 0 || !(value >= least && value <= most)) return false;
  *to = value;
  return true;
}

/* One of two words. */
static bool choice(const char *text, const char *off, const char *on, bool *to) {
  *to = strcmp(text, on) == 0;
  return *to || strcmp(text, off) == 0;
}

static bool is_known(const char *option) {
  static const char *const all[] = {"--model",      "--prompt",      "--tokens",     "--system",
                                    "--perplexity", "--trace",       "--workers",    "--session",
                                    "--seed",       "--temperature", "--max-tokens", "--precision"};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    if (strcmp(option, all[i]) == 0) return true;
  return false;
}

/* An option that takes a value: -1, or an exit code. */
static int read_value(options *o, const char *option, const char *value) {
  const struct {
    const char *name;
    const char **to;
  } texts[] = {{"--model", &o->model},   {"--prompt", &o->prompt},         {"--tokens", &o->token_list},
               {"--system", &o->system}, {"--perplexity", &o->perplexity}, {"--trace", &o->trace}};
  int64_t number = 0;
  bool is_on = false;
  if (!is_known(option)) return wrong("there is no option %s%s", option, "");
  if (value == NULL) return wrong("%s needs a value%s", option, "");
  for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
    if (strcmp(option, texts[i].name) == 0) {
      *texts[i].to = value;
      return -1;
    }
  if (strcmp(option, "--workers") == 0) {
    if (!integer(value, 1, 1024, &number)) return wrong("%s %s: 1 to 1024 workers", option, value);
    o->workers = (int32_t)number;
  } else if (strcmp(option, "--max-tokens") == 0) {
    if (!integer(value, 0, INT32_MAX, &o->max_tokens)) return wrong("%s %s: 0 to 2147483647 tokens", option, value);
  } else if (strcmp(option, "--seed") == 0) {
    if (!integer(value, INT64_MIN, INT64_MAX, &o->seed)) return wrong("%s %s: an integer of 64 bits", option, value);
  } else if (strcmp(option, "--temperature") == 0) {
    if (!real(value, 0, 100, &o->temperature)) return wrong("%s %s: a number from 0 to 100", option, value);
  } else if (strcmp(option, "--session") == 0) {
    if (!choice(value, "thread", "process", &o->is_processes)) return wrong("%s %s: thread or process", option, value);
  } else { /* --precision */
    if (!choice(value, "exact", "fast", &is_on)) return wrong("%s %s: exact or fast", option, value);
    o->precision = is_on ? PRECISION_FAST : PRECISION_EXACT;
  }
  return -1;
}

/* Options that exclude or need each other. */
static int check(const options *o) {
  const int texts = (o->prompt != NULL) + (o->token_list != NULL) + (o->perplexity != NULL);
  if (o->model == NULL) return wrong("no model: give a GGUF file with --model%s%s", "", "");
  if (texts > 1) return wrong("only one of --prompt, --tokens and --perplexity%s%s", "", "");
  if (o->perplexity != NULL && (o->is_chat || o->trace != NULL))
    return wrong("--perplexity takes the text as it is: no --chat, no --trace%s%s", "", "");
  if (o->token_list != NULL && o->is_chat) return wrong("--tokens are taken as they are: no --chat%s%s", "", "");
  if (texts == 0 && !o->is_chat) return wrong("no text: give --prompt, --tokens, --perplexity, or --chat%s%s", "", "");
  if (texts == 0 && (o->is_json || o->trace != NULL))
    return wrong("a conversation cannot be had with --json or --trace: give a --prompt%s%s", "", "");
  if (o->system != NULL && !o->is_chat) return wrong("--system is for --chat%s%s", "", "");
  return -1;
}

int options_read(int argc, char **argv, options *ret_options) {
  options *o = ret_options;
  *o = (options){.workers = 2, .is_processes = true, .max_tokens = 256, .precision = PRECISION_FAST};
  const struct {
    const char *name;
    bool *to;
  } flags[] = {{"--chat", &o->is_chat}, {"--stats", &o->has_stats}, {"--json", &o->is_json}};
  for (int i = 1; i < argc; i++) {
    bool is_flag = false;
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
      return fputs(help, stdout) < 0 || fflush(stdout) != 0 ? EXIT_OUTPUT : EXIT_OK;
    for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++)
      if (strcmp(argv[i], flags[k].name) == 0) is_flag = *flags[k].to = true;
    if (is_flag) continue;
    const int code = read_value(o, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
    if (code >= 0) return code;
    i++;
  }
  return check(o);
}
