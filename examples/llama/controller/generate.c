#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "controller/generate.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"

const char *finish_name(finish how) { return how == FINISH_END ? "end" : how == FINISH_LENGTH ? "length" : "context"; }

static bool print(generation *self, FILE *to) {
  if (to == NULL || text_print(&self->text, to)) return true;
  self->has_output_failed = true;
  return refuse(DISCO_RUNTIME, "the text cannot be written: %s", strerror(errno));
}

static bool take(generation *self, const tokenizer *words, int32_t token, FILE *to) {
  size_t size = 0;
  const char *bytes = tokenizer_bytes(words, token, &size);
  if (bytes == NULL)
    return refuse(DISCO_RUNTIME, "the workers made token %d, which the tokeniser does not have", token);
  if (!tokens_append(&self->made, token)) return false;
  if (!text_append(&self->text, bytes, size)) return refuse(DISCO_MEMORY, "no memory for the text");
  return print(self, to);
}

static bool decode(generation *self, runner *on, const tokenizer *words, const options *o, int32_t token, int64_t room,
                   FILE *to) {
  for (;;) {
    self->finish = FINISH_END;
    if (tokenizer_is_end(words, token)) return true;
    if (!take(self, words, token, to)) return false;
    self->finish = FINISH_LENGTH;
    if ((int64_t)self->made.count >= o->max_tokens) return true;
    self->finish = FINISH_CONTEXT;
    if (room-- == 0) return true;
    if (!runner_decode(on, token, o->temperature, o->seed, &token)) return false;
    self->report.decoded_tokens++;
  }
}

bool generate(runner *on, const tokenizer *words, const options *o, const tokens *prompt, int64_t position,
              int64_t capacity, FILE *to, generation *ret) {
  const int64_t count = (int64_t)prompt->count, room = capacity - position - count;
  int32_t token = 0;
  if (room < 0)
    return refuse(DISCO_VALUE, "the prompt has %lld tokens, but the context of %lld has room for %lld more",
                  (long long)count, (long long)capacity, (long long)(capacity - position));
  ret->report.prompt_tokens = count;
  ret->finish = FINISH_LENGTH;
  if (o->max_tokens == 0) return report_gather(&ret->report, on, 0);
  const double start = seconds_now();
  if (!runner_prefill(on, prompt->ids, count, o->temperature, o->seed, &token)) return false;
  ret->report.prefill = seconds_now() - start;
  if (!report_reset(on)) return false;
  const double decode_start = seconds_now();
  bool is_done = decode(ret, on, words, o, token, room, to);
  const double seconds = seconds_now() - decode_start;
  is_done = is_done && report_gather(&ret->report, on, seconds);
  if (!text_end(&ret->text)) return refuse(DISCO_MEMORY, "no memory for the text");
  return is_done && print(ret, to);
}

void generation_free(generation *self) {
  tokens_free(&self->made);
  text_free(&self->text);
}
