/* Generating, token by token, with what it said and how long it took. */
#ifndef LLAMA_GENERATE_H
#define LLAMA_GENERATE_H

#include "controller/options.h"
#include "controller/report.h"
#include "controller/runner.h"
#include "controller/text.h"
#include "tokenizer/tokenizer.h"

typedef enum {
  FINISH_END,     /* the model ended its text */
  FINISH_LENGTH,  /* --max-tokens */
  FINISH_CONTEXT, /* no more room */
} finish;

typedef struct {
  tokens made;
  text text;
  finish finish;
  bool has_output_failed; /* what is false was that `to` cannot be written */
  report report;
} generation;

/* Append `prompt` to the context, which has `position` tokens of `capacity`, and generate. `to`: where text goes as it
 * is made, NULL for nowhere. False: the error is in disco_last_error(), and what was made until then in *ret. A prompt
 * that has no room is DISCO_VALUE. */
bool generate(runner *on, const tokenizer *words, const options *o, const tokens *prompt, int64_t position,
              int64_t capacity, FILE *to, generation *ret);
void generation_free(generation *self);

/* "end", "length", "context": a constant. */
const char *finish_name(finish how);

#endif
