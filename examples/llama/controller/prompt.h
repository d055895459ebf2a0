/* What a user typed as the tokens that a model wants to see. */
#ifndef LLAMA_PROMPT_H
#define LLAMA_PROMPT_H

#include "disco/weights.h"
#include "tokenizer/tokenizer.h"

/* Plain text, behind the token that begins every text if the model has one. */
bool prompt_text(const tokenizer *words, const char *text, size_t bytes, tokens *to);

/* Does the model speak ChatML? It has to name its two marks in tokenizer.chat_template, and have tokens for them. */
bool prompt_check_chat(const disco_weights *model, const tokenizer *words);

/* A question in ChatML, up to where the answer begins: <|im_start|>user ... <|im_end|> <|im_start|>assistant. `system`
 * (may be NULL) comes before the first question; later ones are preceded by the end of the answer before. */
bool prompt_question(const tokenizer *words, bool is_first, const char *system, const char *question, tokens *to);

/* Tokens by number: "1,2,3". */
bool prompt_numbers(const tokenizer *words, const char *list, tokens *to);

#endif
