/* disco-llama: a language model on N workers, under one controller. --help tells how to use it. */
#define _XOPEN_SOURCE 700 /* realpath */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/layout.h"
#include "controller/generate.h"
#include "controller/lines.h"
#include "controller/prompt.h"
#include "controller/trace.h"

/* What one run of the program has open. */
typedef struct {
  options options;
  char model[PATH_MAX]; /* absolute: workers may have another working directory */
  dims dims;
  tokenizer *tokenizer;
  tokens prompt;
  runner runner;
  int64_t capacity;
  double start; /* seconds until all had loaded */
  bool has_bar;
  int32_t pending; /* in a conversation: a token that was shown and is not in the context; -1: none */
} program;

/* ---- Errors ---- */

static int failed(int code) {
  if (runner_is_interrupted()) return EXIT_INTERRUPTED; /* whoever pressed Ctrl-C knows */
  fprintf(stderr, "disco-llama: %s\n", disco_last_error_text());
  return code;
}

static void on_interrupt(int signal_number) {
  (void)signal_number;
  runner_interrupt();
}

static void catch_interrupts(void) {
  struct sigaction action = {.sa_handler = on_interrupt,
                             .sa_flags = (int)SA_RESETHAND}; /* a second one ends it at once */
  (void)sigemptyset(&action.sa_mask);
  (void)sigaction(SIGINT, &action, NULL);
  (void)sigaction(SIGTERM, &action, NULL);
}

/* ---- Before any worker starts: what is wrong with the model or the prompt is told without loading ---- */

static char *read_file(FILE *file, const char *path, size_t *ret_bytes) {
  enum { CHUNK = 1 << 16, MOST = 64 << 20 };
  char *content = NULL;
  size_t bytes = 0, room = 0;
  for (;;) {
    if (room - bytes < CHUNK) {
      char *more = realloc(content, room += CHUNK + room);
      if (more == NULL || bytes > MOST) {
        free(more != NULL ? more : content);
        (void)refuse(DISCO_VALUE, "a text of more than %zu bytes is too long", bytes);
        return NULL;
      }
      content = more;
    }
    const size_t got = fread(content + bytes, 1, CHUNK - 1, file);
    bytes += got;
    if (got == 0) break;
  }
  if (ferror(file)) {
    free(content);
    (void)refuse(DISCO_VALUE, "cannot read %s: %s", path, strerror(errno));
    return NULL;
  }
  content[bytes] = 0;
  *ret_bytes = bytes;
  return content;
}

static bool read_prompt(program *self) {
  const options *o = &self->options;
  const char *path = o->perplexity != NULL ? o->perplexity : o->prompt;
  if (o->token_list != NULL) return prompt_numbers(self->tokenizer, o->token_list, &self->prompt);
  if (path == NULL) return true; /* a conversation */
  const bool is_input = o->perplexity == NULL && strcmp(path, "-") == 0;
  char *content = NULL;
  size_t bytes = strlen(path);
  if (is_input || o->perplexity != NULL) {
    FILE *file = is_input ? stdin : fopen(path, "rb");
    if (file == NULL) return refuse(DISCO_VALUE, "cannot open %s", path);
    content = read_file(file, is_input ? "standard input" : path, &bytes);
    if (!is_input) (void)fclose(file);
    if (content == NULL) return false;
  }
  const char *prompt = content != NULL ? content : path;
  const bool is_done = o->is_chat ? prompt_question(self->tokenizer, true, o->system, prompt, &self->prompt)
                                  : prompt_text(self->tokenizer, prompt, bytes, &self->prompt);
  free(content);
  return is_done && (self->prompt.count > 0 || refuse(DISCO_VALUE, "the prompt is empty, or the text of --perplexity"));
}

/* The model's context, or less when --context says so. */
static bool check_length(program *self) {
  const options *o = &self->options;
  const int64_t count = (int64_t)self->prompt.count, most = self->dims.context;
  const int64_t context = o->context > 0 ? o->context : most;
  if (context > most)
    return refuse(DISCO_VALUE, "--context %lld: this model was made for at most %lld tokens", (long long)context,
                  (long long)most);
  if (count > context)
    return refuse(DISCO_VALUE, "the prompt has %lld tokens; %s %lld", (long long)count,
                  context < most ? "--context is" : "the context of this model has", (long long)context);
  if (o->perplexity != NULL && count < 2)
    return refuse(DISCO_VALUE, "perplexity needs a text of two tokens or more, not %lld", (long long)count);
  /* Conversations go on until the context is full. */
  self->capacity = count == 0 || count + o->max_tokens > context ? context : count + o->max_tokens;
  return true;
}

static bool prepare(program *self) {
  disco_weights *model = NULL;
  if (realpath(self->options.model, self->model) == NULL)
    return refuse(DISCO_VALUE, "there is no file %s", self->options.model);
  if (disco_weights_open(self->model, &model) != DISCO_OK) return false;
  bool is_done = dims_read(model, &self->dims) && layout_check(&self->dims, (int32_t)self->options.workers);
  self->tokenizer = is_done ? tokenizer_create(model) : NULL;
  is_done = self->tokenizer != NULL && (!self->options.is_chat || prompt_check_chat(model, self->tokenizer));
  disco_weights_close(model);
  if (is_done && tokenizer_size(self->tokenizer) != self->dims.vocabulary)
    return refuse(DISCO_VALUE, "%s has %d tokens, but embeddings for %d", self->model, tokenizer_size(self->tokenizer),
                  self->dims.vocabulary);
  return is_done && read_prompt(self) && check_length(self);
}

/* ---- Loading ---- */

static void show_loading(void *context, uint64_t done, uint64_t total) {
  enum { WIDTH = 40 };
  program *self = context;
  const int full = total == 0 ? 0 : (int)(done * WIDTH / total);
  static const char bar[WIDTH + 1] = "########################################";
  if (!isatty(STDERR_FILENO)) return;
  self->has_bar = true;
  fprintf(stderr, "\rloading [%-*.*s] %5.1f of %.1f MB ", WIDTH, full, bar, (double)done * 1e-6, (double)total * 1e-6);
}

static bool start(program *self) {
  const options *o = &self->options;
  const double begin = seconds_now();
  const bool is_done = runner_open(&self->runner, self->model, (int32_t)o->workers, o->is_processes,
                                   o->is_fast ? PRECISION_FAST : PRECISION_EXACT, self->capacity, show_loading, self);
  if (self->has_bar) fprintf(stderr, "\r\033[K");
  self->start = seconds_now() - begin;
  return is_done;
}

/* ---- What it is for ---- */

static int output_failed(void) {
  (void)refuse(DISCO_RUNTIME, "the output cannot be written: %s", strerror(errno));
  return failed(EXIT_OUTPUT);
}

static int print_json(const program *self, generation *made) {
  json_t *prompt = json_array(), *ids = json_array();
  for (size_t i = 0; i < self->prompt.count; i++) json_array_append_new(prompt, json_integer(self->prompt.ids[i]));
  for (size_t i = 0; i < made->made.count; i++) json_array_append_new(ids, json_integer(made->made.ids[i]));
  json_t *json = json_pack("{s:o, s:o, s:s%, s:s, s:o}", "prompt_tokens", prompt, "tokens", ids, "text",
                           made->text.bytes == NULL ? "" : made->text.bytes, made->text.size, "finish",
                           finish_name(made->finish), "times", report_json(&made->report));
  const bool is_done = json != NULL && json_dumpf(json, stdout, JSON_COMPACT) == 0 && putchar('\n') == '\n';
  json_decref(json);
  return is_done && fflush(stdout) == 0 ? EXIT_OK : output_failed();
}

/* One answer. *position: tokens in the context. */
static int answer(program *self, int64_t *position) {
  generation made = {.report = {.start = self->start}};
  FILE *to = self->options.is_json ? NULL : stdout;
  const bool is_done =
      generate(&self->runner, self->tokenizer, &self->options, &self->prompt, *position, self->capacity, to, &made);
  int code = EXIT_OK;
  self->pending = is_done && made.finish != FINISH_END && made.made.count > 0 ? made.made.ids[made.made.count - 1] : -1;
  if (self->options.max_tokens > 0) *position += (int64_t)self->prompt.count + made.report.decoded_tokens;
  const bool is_ended = to == NULL || (made.text.size == 0 && !is_done) || (putchar('\n') != EOF && fflush(to) == 0);
  if (!is_done)
    code = failed(made.has_output_failed ? EXIT_OUTPUT : EXIT_SESSION);
  else if (!is_ended)
    code = output_failed();
  if (is_done && self->options.is_json) code = print_json(self, &made);
  if (is_done && self->options.has_stats) report_print(&made.report, stderr);
  generation_free(&made);
  return code;
}

static int answer_question(program *self, const char *question, int64_t *position) {
  self->prompt.count = 0;
  if ((self->pending >= 0 && !tokens_append(&self->prompt, self->pending)) ||
      !prompt_question(self->tokenizer, *position == 0, self->options.system, question, &self->prompt))
    return failed(EXIT_INPUT);
  if (*position + (int64_t)self->prompt.count <= self->capacity) return answer(self, position);
  (void)refuse(DISCO_VALUE, "the context of %lld tokens is full", (long long)self->capacity);
  return failed(EXIT_INPUT);
}

/* A question a line, until the end of the input or of the context. */
static int converse(program *self) {
  lines input = {0};
  int64_t position = 0;
  int code = EXIT_OK;
  bool has_failed = false;
  const bool is_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  while (code == EXIT_OK) {
    if (is_terminal) (void)(printf("> ") < 0 || fflush(stdout));
    const char *line = lines_next(&input, runner_is_interrupted, &has_failed);
    if (line == NULL) break;
    if (line[0] != 0) code = answer_question(self, line, &position);
  }
  lines_free(&input);
  if (has_failed) code = failed(EXIT_INPUT);
  return runner_is_interrupted() ? EXIT_INTERRUPTED : code;
}

static int measure_perplexity(program *self) {
  double sum = 0;
  const int64_t count = (int64_t)self->prompt.count;
  if (!runner_score(&self->runner, self->prompt.ids, count, &sum)) return failed(EXIT_SESSION);
  const double perplexity = exp(-sum / (double)(count - 1));
  if (!isfinite(perplexity)) {
    (void)refuse(DISCO_VALUE, "the perplexity is no number: the model gives a token of the text no chance at all");
    return failed(EXIT_SESSION);
  }
  const int printed = self->options.is_json
                          ? printf("{\"perplexity\": %.9g, \"tokens\": %lld}\n", perplexity, (long long)count)
                          : printf("perplexity %.4f over %lld tokens\n", perplexity, (long long)count);
  return printed > 0 && fflush(stdout) == 0 ? EXIT_OK : output_failed();
}

static int work(program *self) {
  int64_t position = 0;
  bool has_output_failed = false;
  if (self->options.perplexity != NULL) return measure_perplexity(self);
  if (self->options.trace != NULL &&
      !trace_write(&self->runner, &self->prompt, self->options.trace, &has_output_failed))
    return failed(has_output_failed ? EXIT_OUTPUT : EXIT_SESSION);
  return self->prompt.count == 0 ? converse(self) : answer(self, &position);
}

int main(int argc, char **argv) {
  static program self = {.pending = -1};
  int code = options_read(argc, argv, &self.options);
  if (code >= 0) return code;
  (void)signal(SIGPIPE, SIG_IGN); /* writing fails instead */
  catch_interrupts();
  if (!prepare(&self))
    code = failed(EXIT_INPUT);
  else if (self.options.trace != NULL && !trace_prepare(self.options.trace))
    code = failed(EXIT_OUTPUT);
  else if (!start(&self))
    code = failed(EXIT_SESSION);
  else
    code = work(&self);
  runner_close(&self.runner);
  tokens_free(&self.prompt);
  tokenizer_destroy(self.tokenizer);
  return code;
}
