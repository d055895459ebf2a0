/* The tokens of texts, for the comparison with another tokeniser.
 *
 *     tokens MODEL [--special]
 *
 * Reads texts from standard input, each as its length in decimal, a colon, its bytes and a comma ("5:hello,"), and
 * prints a line of JSON for each: the list of its tokens, or {"error": "..."} when it cannot be encoded. --special:
 * special tokens that are written in a text are taken for such. What the tokens stand for must be the bytes of the text
 * again; else this ends with status 1. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/weights.h"
#include "tokenizer/tokenizer.h"

enum { MAX_TEXT = 1 << 30 };

static void print_string(const char *text) {
  (void)putchar('"');
  for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++)
    if (*at < 0x20 || *at == '"' || *at == '\\')
      (void)printf("\\u%04x", *at);
    else
      (void)putchar(*at);
  (void)putchar('"');
}

/* *ret_text is NULL at the end. False, with a sentence, when something else than a text comes. */
static bool read_text(char **ret_text, size_t *ret_bytes) {
  unsigned long bytes = 0;
  const int found = scanf("%10lu", &bytes);
  *ret_text = NULL;
  if (found == EOF) return true;
  if (found != 1 || getchar() != ':' || bytes > MAX_TEXT)
    return refuse(DISCO_VALUE, "a length and a colon are expected");
  char *text = malloc(bytes + 1);
  if (text == NULL) return refuse(DISCO_VALUE, "no memory for a text of %lu bytes", bytes);
  if (fread(text, 1, bytes, stdin) != bytes || getchar() != ',') {
    free(text);
    return refuse(DISCO_VALUE, "a text of %lu bytes and a comma are expected", bytes);
  }
  *ret_text = text;
  *ret_bytes = bytes;
  return true;
}

static bool check_back(const tokenizer *with, const tokens *list, const char *text, size_t bytes) {
  size_t at = 0, part;
  for (size_t i = 0; i < list->count; i++) {
    const char *of_token = tokenizer_bytes(with, list->ids[i], &part);
    if (of_token == NULL) return refuse(DISCO_VALUE, "there is no token %d", (int)list->ids[i]);
    if (part > bytes - at || memcmp(of_token, text + at, part) != 0)
      return refuse(DISCO_VALUE, "token %zu, %d, does not stand for the bytes at %zu", i, (int)list->ids[i], at);
    at += part;
  }
  return at == bytes || refuse(DISCO_VALUE, "the tokens stand for %zu bytes of %zu", at, bytes);
}

static bool print_tokens(const tokenizer *with, bool with_special, const char *text, size_t bytes) {
  tokens list = {0};
  const bool is_encoded = tokenizer_encode(with, text, bytes, with_special, &list);
  const bool good = !is_encoded || check_back(with, &list, text, bytes);
  if (is_encoded) {
    (void)putchar('[');
    for (size_t i = 0; i < list.count; i++) (void)printf("%s%d", i > 0 ? ", " : "", (int)list.ids[i]);
    (void)puts("]");
  } else {
    (void)fputs("{\"error\": ", stdout);
    print_string(disco_last_error_text());
    (void)puts("}");
  }
  tokens_free(&list);
  return good;
}

static bool run(const char *path, bool with_special) {
  disco_weights *model = NULL;
  if (disco_weights_open(path, &model) != DISCO_OK) return false;
  tokenizer *with = tokenizer_create(model);
  disco_weights_close(model);
  bool good = with != NULL;
  char *text = NULL;
  size_t bytes = 0;
  while (good && (good = read_text(&text, &bytes)) && text != NULL) {
    good = print_tokens(with, with_special, text, bytes);
    free(text);
  }
  tokenizer_destroy(with);
  return good;
}

int main(int argc, char **argv) {
  const bool with_special = argc == 3 && strcmp(argv[2], "--special") == 0;
  if (argc != 2 && !with_special) {
    (void)fprintf(stderr, "usage: tokens MODEL [--special] < TEXTS\n");
    return 2;
  }
  const bool good = run(argv[1], with_special);
  if (!good) (void)fprintf(stderr, "%s\n", disco_last_error_text());
  return good ? 0 : 1;
}
