#include "controller/prompt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char message_begin[] = "<|im_start|>", message_end[] = "<|im_end|>";

static bool plain(const tokenizer *words, const char *text, tokens *to) {
  return tokenizer_encode(words, text, strlen(text), false, to);
}

static bool mark(const tokenizer *words, const char *text, tokens *to) {
  return tokens_append(to, tokenizer_special(words, text));
}

bool prompt_text(const tokenizer *words, const char *text, size_t bytes, tokens *to) {
  const int32_t begin = tokenizer_begin(words);
  return (begin < 0 || tokens_append(to, begin)) && tokenizer_encode(words, text, bytes, true, to);
}

bool prompt_check_chat(const disco_weights *model, const tokenizer *words) {
  const char *template = disco_weights_metadata(model, "tokenizer.chat_template");
  if (template == NULL)
    return refuse(DISCO_VALUE, "the model has no chat format (tokenizer.chat_template): use --prompt without --chat");
  if (strstr(template, message_begin) == NULL || strstr(template, message_end) == NULL ||
      tokenizer_special(words, message_begin) < 0 || tokenizer_special(words, message_end) < 0)
    return refuse(DISCO_VALUE,
                  "the chat format of the model (tokenizer.chat_template) is not ChatML, the one that this "
                  "program knows: use --prompt without --chat");
  return true;
}

/* What is typed stays text: marks in it do not end the message. */
static bool message(const tokenizer *words, const char *role, const char *text, tokens *to) {
  const size_t role_bytes = strlen(role), bytes = role_bytes + strlen(text) + 2;
  char *whole = malloc(bytes);
  if (whole == NULL) return refuse(DISCO_MEMORY, "no memory for a message of %zu bytes", bytes);
  memcpy(whole, role, role_bytes);
  whole[role_bytes] = '\n';
  memcpy(whole + role_bytes + 1, text, bytes - role_bytes - 1);
  const bool is_done = mark(words, message_begin, to) && plain(words, whole, to) && mark(words, message_end, to) &&
                       plain(words, "\n", to);
  free(whole);
  return is_done;
}

bool prompt_question(const tokenizer *words, bool is_first, const char *system, const char *question, tokens *to) {
  if (!is_first && !(mark(words, message_end, to) && plain(words, "\n", to))) return false;
  const int32_t begin = is_first ? tokenizer_begin(words) : -1;
  if (begin >= 0 && !tokens_append(to, begin)) return false;
  if (is_first && system != NULL && !message(words, "system", system, to)) return false;
  return message(words, "user", question, to) && mark(words, message_begin, to) && plain(words, "assistant\n", to);
}

bool prompt_numbers(const tokenizer *words, const char *list, tokens *to) {
  for (const char *at = list;; at++) {
    char *end = NULL;
    errno = 0;
    const long id = strtol(at, &end, 10);
    if (end == at || (*end != ',' && *end != 0) || errno != 0 || id < 0 || id >= tokenizer_size(words))
      return refuse(DISCO_VALUE, "--tokens: '%.40s' is no list of tokens from 0 to %d", at, tokenizer_size(words) - 1);
    if (!tokens_append(to, (int32_t)id)) return false;
    if (*end == 0) return true;
    at = end;
  }
}
