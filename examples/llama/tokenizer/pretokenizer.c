#include "tokenizer/pretokenizer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MAX_PATTERNS = 2 };

/* White space as Unicode has it. PCRE2's own \s counts U+180E, which stopped being white space with Unicode 6.3. */
#define SPACES "\\t-\\r\\x{85}\\p{Z}"
#define SPACE "[" SPACES "]"
#define NOT_SPACE "[^" SPACES "]"
#define OTHER "[^" SPACES "\\p{L}\\p{N}]"

/* White space before a word leaves it its last character, which most often is the blank that belongs to the word. */
#define GAPS SPACE "+(?!" NOT_SPACE ")|" SPACE "+"

#define DIGIT "\\p{N}"
#define GPT2 "'(?:[stmd]|re|ve|ll)| ?\\p{L}+| ?\\p{N}+| ?" OTHER "+|" GAPS
#define LLAMA3(digits) \
  "(?i:'(?:[stmd]|re|ve|ll))|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?" OTHER "+[\\r\\n]*|" SPACE "*[\\r\\n]+|" GAPS

typedef struct {
  const char *names[8];
  const char *patterns[MAX_PATTERNS];
  bool prefers_whole_words;
} recipe;

static const recipe recipes[] = {
    {{"gpt-2", "phi-2", "mpt", "olmo"}, {GPT2}, false},
    {{"smollm", "starcoder", "refact", "command-r", "codeshell"}, {DIGIT, GPT2}, false},
    {{"llama-bpe", "llama3", "llama-v3"}, {LLAMA3("\\p{N}{1,3}")}, true},
    {{"dbrx", "smaug-bpe"}, {LLAMA3("\\p{N}{1,3}")}, false},
    {{"qwen2", "stablelm2", "deepseek-r1-qwen"}, {LLAMA3("\\p{N}")}, false},
};
enum { NUM_RECIPES = sizeof(recipes) / sizeof(*recipes), NUM_NAMES = sizeof(recipes->names) / sizeof(*recipes->names) };

struct pretokenizer {
  bool prefers_whole_words;
  size_t num_patterns;
  pcre2_code *patterns[MAX_PATTERNS];
  bool is_jit[MAX_PATTERNS];
};

/* One splitting. */
typedef struct {
  const pretokenizer *pretokenizer;
  pcre2_match_data *match;
  pcre2_match_context *limits;
  pretokenizer_sink sink;
  void *context;
} splitting;

static const recipe *find_recipe(const char *name) {
  for (size_t i = 0; i < NUM_RECIPES; i++)
    for (size_t n = 0; n < NUM_NAMES && recipes[i].names[n] != NULL; n++)
      if (strcmp(recipes[i].names[n], name) == 0) return &recipes[i];
  return NULL;
}

static void unknown(const char *name) {
  char known[512] = "";
  size_t at = 0;
  for (size_t i = 0; i < NUM_RECIPES; i++)
    for (size_t n = 0; n < NUM_NAMES && recipes[i].names[n] != NULL && at < sizeof(known); n++)
      at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", at > 0 ? ", " : "", recipes[i].names[n]);
  (void)refuse(DISCO_VALUE, "tokenizer.ggml.pre is \"%.100s\", a pre-tokeniser that is not known; known are: %s", name,
               known);
}

static bool pattern_error(int code, const char *what) {
  char text[256] = "";
  (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
  return refuse(DISCO_VALUE, "the pre-tokeniser cannot %s: %s (PCRE2 error %d)", what, text, code);
}

static bool compile(pretokenizer *self, const char *pattern) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code *compiled =
      pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
  if (compiled == NULL) return pattern_error(code, "compile its pattern");
  /* Where machine code may not be made (PCRE2 without it, memory that may not become executable), it is interpreted. */
  self->is_jit[self->num_patterns] = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
  self->patterns[self->num_patterns++] = compiled;
  return true;
}

pretokenizer *pretokenizer_create(const char *name) {
  const recipe *from = find_recipe(name);
  if (from == NULL) {
    unknown(name);
    return NULL;
  }
  pretokenizer *self = calloc(1, sizeof(*self));
  if (self == NULL) {
    (void)refuse(DISCO_MEMORY, "no memory for the pre-tokeniser");
    return NULL;
  }
  self->prefers_whole_words = from->prefers_whole_words;
  for (size_t i = 0; i < MAX_PATTERNS && from->patterns[i] != NULL; i++)
    if (!compile(self, from->patterns[i])) {
      pretokenizer_destroy(self);
      return NULL;
    }
  return self;
}

void pretokenizer_destroy(pretokenizer *self) {
  if (self == NULL) return;
  for (size_t i = 0; i < self->num_patterns; i++) pcre2_code_free(self->patterns[i]);
  free(self);
}

bool pretokenizer_prefers_whole_words(const pretokenizer *self) { return self->prefers_whole_words; }

/* The next match at or behind `from`, or the end of the text twice. */
static bool find(splitting *self, size_t level, const char *text, size_t bytes, size_t from, size_t ret_span[2]) {
  const pcre2_code *pattern = self->pretokenizer->patterns[level];
  PCRE2_SPTR subject = (PCRE2_SPTR)text;
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (self->pretokenizer->is_jit[level])
    found = pcre2_jit_match(pattern, subject, bytes, from, PCRE2_NOTEMPTY, self->match, self->limits);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT)
    found = pcre2_match(pattern, subject, bytes, from, PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, self->match,
                        self->limits);
  if (found == PCRE2_ERROR_NOMATCH) {
    ret_span[0] = ret_span[1] = bytes;
    return true;
  }
  if (found < 0) return pattern_error(found, "cut the text into words");
  const PCRE2_SIZE *span = pcre2_get_ovector_pointer(self->match);
  ret_span[0] = span[0];
  ret_span[1] = span[1];
  return true;
}

static bool split(splitting *self, size_t level, const char *text, size_t bytes) {
  if (bytes == 0) return true;
  if (level == self->pretokenizer->num_patterns) return self->sink(self->context, text, bytes);
  size_t span[2] = {0, 0};
  for (size_t from = 0; from < bytes; from = span[1]) {
    if (!find(self, level, text, bytes, from, span)) return false;
    if (!split(self, level + 1, text + from, span[0] - from)) return false;
    if (!split(self, level + 1, text + span[0], span[1] - span[0])) return false;
  }
  return true;
}

/* Each pattern looks at a character a few times at most, so a match that takes longer is one that would never end. */
static uint32_t match_limit(size_t bytes) {
  const size_t limit = 16 * bytes + 10000;
  return bytes < UINT32_MAX / 32 ? (uint32_t)limit : UINT32_MAX;
}

bool pretokenizer_split(const pretokenizer *self, const char *text, size_t bytes, pretokenizer_sink sink,
                        void *context) {
  splitting run = {self, pcre2_match_data_create(1, NULL), pcre2_match_context_create(NULL), sink, context};
  bool good = false;
  if (run.match == NULL || run.limits == NULL) {
    (void)refuse(DISCO_MEMORY, "no memory to cut a text into words");
  } else {
    (void)pcre2_set_match_limit(run.limits, match_limit(bytes));
    good = split(&run, 0, text, bytes);
  }
  pcre2_match_data_free(run.match);
  pcre2_match_context_free(run.limits);
  return good;
}
