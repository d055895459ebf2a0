/* The tokeniser of the example: small vocabularies whose tokens are known, random ones against a plain search, and
 * metadata that do not fit. tokenizer_oracle_test.py compares it with another one on real text. */
#include "tokenizer/tokenizer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tokenizer/pretokenizer.h"

static int scaled(int count) {
  const char *scale = getenv("DISCO_TEST_SCALE");
  const int by = scale != NULL ? atoi(scale) : 1;
  return by > 1 && count > by ? count / by : count;
}

/* ---- GGUF files without tensors ---------------------------------------------------------------------------------- */

enum { GGUF_UINT32 = 4, GGUF_INT32 = 5, GGUF_FLOAT32 = 6, GGUF_BOOL = 7, GGUF_STRING = 8, GGUF_ARRAY = 9 };

typedef enum { ABSENT, TEXT, TEXTS, NUMBER, NUMBERS, FLAG, FLOAT } value_kind;

typedef struct {
  const char *key;
  value_kind kind;
  const char *text;
  const char *const *texts;
  const int32_t *numbers;
  size_t count;
  int32_t number;
} value;

static void write_bytes(FILE *to, const void *bytes, size_t count) {
  assert_int_equal(fwrite(bytes, 1, count, to), count);
}

static void write_u32(FILE *to, uint32_t number) { write_bytes(to, &number, sizeof(number)); }
static void write_u64(FILE *to, uint64_t number) { write_bytes(to, &number, sizeof(number)); }

static void write_text(FILE *to, const char *text) {
  write_u64(to, strlen(text));
  write_bytes(to, text, strlen(text));
}

static void write_value(FILE *to, const value *self) {
  static const uint32_t types[] = {[TEXT] = GGUF_STRING,   [TEXTS] = GGUF_ARRAY, [NUMBER] = GGUF_INT32,
                                   [NUMBERS] = GGUF_ARRAY, [FLAG] = GGUF_BOOL,   [FLOAT] = GGUF_FLOAT32};
  write_text(to, self->key);
  write_u32(to, types[self->kind]);
  if (self->kind == TEXTS || self->kind == NUMBERS) {
    write_u32(to, self->kind == TEXTS ? GGUF_STRING : GGUF_INT32);
    write_u64(to, self->count);
  }
  if (self->kind == TEXT) write_text(to, self->text);
  for (size_t i = 0; self->kind == TEXTS && i < self->count; i++) write_text(to, self->texts[i]);
  for (size_t i = 0; self->kind == NUMBERS && i < self->count; i++) write_u32(to, (uint32_t)self->numbers[i]);
  if (self->kind == NUMBER || self->kind == FLOAT) write_u32(to, (uint32_t)self->number);
  if (self->kind == FLAG) write_bytes(to, &(char){self->number != 0}, 1);
}

static disco_weights *open_with(const value *values, size_t count) {
  char path[] = "/tmp/llama_tokenizer_XXXXXX";
  const int file = mkstemp(path);
  assert_true(file >= 0);
  FILE *to = fdopen(file, "wb");
  assert_non_null(to);
  size_t present = 0;
  for (size_t i = 0; i < count; i++) present += values[i].kind != ABSENT;
  write_bytes(to, "GGUF", 4);
  write_u32(to, 3);
  write_u64(to, 0);
  write_u64(to, present);
  for (size_t i = 0; i < count; i++)
    if (values[i].kind != ABSENT) write_value(to, &values[i]);
  assert_int_equal(fclose(to), 0);
  disco_weights *model = NULL;
  if (disco_weights_open(path, &model) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  (void)unlink(path);
  return model;
}

/* NULL, with the reason, when that fails. */
static tokenizer *create(const value *values, size_t count) {
  disco_weights *model = open_with(values, count);
  tokenizer *self = tokenizer_create(model);
  disco_weights_close(model);
  return self;
}

/* ---- A small vocabulary ------------------------------------------------------------------------------------------ */

/* The 256 bytes come first, so that the id of a byte is the byte. */
enum {
  HE = 256,
  LL,
  HELL,
  HELLO,
  LO,
  _H,
  _HE,
  AA,
  AAAA,
  __,
  E_ACUTE,
  END,
  END_BEGUN,
  BEGUN,
  NEWLINES,
  ODD,
  NUM_TOKENS
};
enum { NUM_BYTES = 256, NUM_MERGES = 11 };

static char byte_texts[NUM_BYTES][3];
static const char *token_texts[NUM_TOKENS];
static int32_t token_types[NUM_TOKENS];
static const char *const merge_texts[NUM_MERGES] = {
    "h e", "l l", "he ll", "l o", "hell o", "\u0120 h", "\u0120 he", "a a", "aa aa", "\u0120 \u0120", "\u00c3 \u00a9"};

/* The table that GPT-2 came with, written down anew. */
static void make_vocabulary(void) {
  static const char *const more[] = {"he",       "ll", "hell", "hello",        "lo",           "\u0120h",
                                     "\u0120he", "aa", "aaaa", "\u0120\u0120", "\u00c3\u00a9", "<|end|>",
                                     "<|end",    "<|", "\n\n", "odd \u4e00"};
  unsigned next = 256;
  for (unsigned byte = 0; byte < NUM_BYTES; byte++) {
    const bool is_printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    const unsigned letter = is_printable ? byte : next++;
    if (letter < 128)
      (void)snprintf(byte_texts[byte], 3, "%c", (int)letter);
    else
      (void)snprintf(byte_texts[byte], 3, "%c%c", (int)(0xc0 | letter >> 6), (int)(0x80 | (letter & 63)));
    token_texts[byte] = byte_texts[byte];
  }
  for (size_t i = 0; i < NUM_TOKENS; i++) {
    if (i >= NUM_BYTES) token_texts[i] = more[i - NUM_BYTES];
    token_types[i] = i == END ? 3 : i > END && i <= NEWLINES ? 4 : 1;
  }
}

enum { MODEL, PRE, TOKENS, TYPES, MERGES, BOS, EOS, EOT, EOM, ADD_BOS, NUM_VALUES };

static void make_values(value to[NUM_VALUES]) {
  make_vocabulary();
  const value all[NUM_VALUES] = {
      [MODEL] = {"tokenizer.ggml.model", TEXT, .text = "gpt2"},
      [PRE] = {"tokenizer.ggml.pre", TEXT, .text = "smollm"},
      [TOKENS] = {"tokenizer.ggml.tokens", TEXTS, .texts = token_texts, .count = NUM_TOKENS},
      [TYPES] = {"tokenizer.ggml.token_type", NUMBERS, .numbers = token_types, .count = NUM_TOKENS},
      [MERGES] = {"tokenizer.ggml.merges", TEXTS, .texts = merge_texts, .count = NUM_MERGES},
      [BOS] = {"tokenizer.ggml.bos_token_id", NUMBER, .number = END_BEGUN},
      [EOS] = {"tokenizer.ggml.eos_token_id", NUMBER, .number = END},
      [EOT] = {"tokenizer.ggml.eot_token_id", ABSENT, .number = 0},
      [EOM] = {"tokenizer.ggml.eom_token_id", ABSENT, .number = 0},
      [ADD_BOS] = {"tokenizer.ggml.add_bos_token", ABSENT, .number = 0},
  };
  memcpy(to, all, sizeof(all));
}

static tokenizer *create_small(void) {
  value values[NUM_VALUES];
  make_values(values);
  tokenizer *self = create(values, NUM_VALUES);
  if (self == NULL) fail_msg("%s", disco_last_error_text());
  return self;
}

static void check_tokens(const tokenizer *self, const char *text, size_t bytes, bool with_special,
                         const int32_t *expected, size_t count) {
  tokens list = {0};
  if (!tokenizer_encode(self, text, bytes, with_special, &list)) fail_msg("%s", disco_last_error_text());
  if (list.count != count) fail_msg("\"%s\": %zu tokens, not %zu", text, list.count, count);
  for (size_t i = 0; i < count; i++)
    if (list.ids[i] != expected[i]) fail_msg("\"%s\": token %zu is %d, not %d", text, i, list.ids[i], expected[i]);
  tokens_free(&list);
}

/* Of a string literal, so that it may have a zero in it. */
#define CHECK(with_special, text, ...)                                                     \
  check_tokens(self, text, sizeof(text) - 1, with_special, (const int32_t[]){__VA_ARGS__}, \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void words_are_merged_in_order(void **state) {
  (void)state;
  tokenizer *self = create_small();
  check_tokens(self, "", 0, true, NULL, 0);
  CHECK(true, "hello", HELLO);
  CHECK(true, "helo", HE, LO);
  CHECK(true, "lllo", LL, LO);
  CHECK(true, " hello", ' ', HELLO);
  CHECK(true, " he h", _HE, _H);
  CHECK(true, "aaa", AA, 'a');
  CHECK(true, "aaaaa", AAAA, 'a');
  CHECK(true, "aaaaaaa", AAAA, AA, 'a');
  CHECK(true, "  x", ' ', ' ', 'x');
  CHECK(true, "    ", __, __);
  CHECK(true, "a1 23", 'a', '1', ' ', '2', '3');
  CHECK(true, "he\u00e9 ", HE, E_ACUTE, ' ');
  CHECK(true, "he\0he", HE, 0, HE);
  CHECK(true, "he'll he'lo", HE, '\'', LL, _HE, '\'', LO);
  tokenizer_destroy(self);
}

static void special_tokens_are_the_longest(void **state) {
  (void)state;
  tokenizer *self = create_small();
  CHECK(true, "<|end|>", END);
  CHECK(true, "<|end|", END_BEGUN, '|');
  CHECK(true, "<|en<|", BEGUN, 'e', 'n', BEGUN);
  CHECK(true, "<<|end|><|end|>>", '<', END, END, '>');
  CHECK(true, "he\n\n\nllo", HE, NEWLINES, '\n', LL, 'o');
  CHECK(true, "he<", HE, '<');
  CHECK(false, "<|end|>", '<', '|', 'e', 'n', 'd', '|', '>');
  CHECK(false, "he\n\n", HE, '\n', '\n');
  tokenizer_destroy(self);
}

static void bytes_that_are_no_text(void **state) {
  (void)state;
  tokenizer *self = create_small();
  CHECK(true, "he\xffllo", HE, 0xff, LL, 'o');
  CHECK(true, "\xc3", 0xc3);
  CHECK(true, "\xa9\xc3\xa9", 0xa9, E_ACUTE);
  CHECK(true, "\xc3\xc3\xa9", 0xc3, E_ACUTE);
  CHECK(true, "\xc0\x80", 0xc0, 0x80);                     /* overlong */
  CHECK(true, "\xe0\x83\xa9", 0xe0, 0x83, 0xa9);           /* overlong */
  CHECK(true, "\xed\xa0\x80", 0xed, 0xa0, 0x80);           /* a surrogate */
  CHECK(true, "\xf4\x90\x80\x80", 0xf4, 0x90, 0x80, 0x80); /* behind U+10FFFF */
  CHECK(true, "\xf8\x88\x80\x80", 0xf8, 0x88, 0x80, 0x80); /* five bytes once */
  CHECK(true, "\xe5\xad<|end|>", 0xe5, 0xad, END);         /* cut by a special token */
  CHECK(true, "\xf0\x9f\x91he", 0xf0, 0x9f, 0x91, HE);     /* cut by text */
  CHECK(true, "\xf0\x9f\x91\xa9\xf0", 0xf0, 0x9f, 0x91, 0xa9, 0xf0);
  tokenizer_destroy(self);
}

static void tokens_are_looked_up(void **state) {
  (void)state;
  tokenizer *self = create_small();
  size_t bytes = 0;
  assert_int_equal(tokenizer_size(self), NUM_TOKENS);
  for (int32_t byte = 0; byte < NUM_BYTES; byte++) {
    const unsigned char *of_byte = (const unsigned char *)tokenizer_bytes(self, byte, &bytes);
    assert_int_equal(bytes, 1);
    assert_int_equal(*of_byte, byte);
  }
  static const struct {
    int32_t id;
    const char *expected;
  } some[] = {{_HE, " he"}, {E_ACUTE, "\u00e9"}, {END, "<|end|>"}, {NEWLINES, "\n\n"}, {ODD, "odd \u4e00"}};
  for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++) {
    const char *text = tokenizer_bytes(self, some[i].id, &bytes);
    assert_int_equal(bytes, strlen(some[i].expected));
    assert_memory_equal(text, some[i].expected, bytes);
  }
  assert_null(tokenizer_bytes(self, -1, &bytes));
  assert_null(tokenizer_bytes(self, NUM_TOKENS, &bytes));
  for (int32_t id = -2; id < NUM_TOKENS + 2; id++) {
    assert_int_equal(tokenizer_is_special(self, id), id >= END && id <= NEWLINES);
    assert_int_equal(tokenizer_is_end(self, id), id == END);
  }
  assert_int_equal(tokenizer_special(self, "<|end"), END_BEGUN);
  assert_int_equal(tokenizer_special(self, "hello"), -1);
  assert_int_equal(tokenizer_special(self, "<|unknown|>"), -1);
  assert_int_equal(tokenizer_special(self, ""), -1);
  assert_int_equal(tokenizer_begin(self), -1);
  tokenizer_destroy(self);
  tokenizer_destroy(NULL);
}

static void begin_and_ends_are_as_the_metadata_say(void **state) {
  (void)state;
  value values[NUM_VALUES];
  make_values(values);
  values[ADD_BOS] = (value){"tokenizer.ggml.add_bos_token", FLAG, .number = 1};
  values[EOS].kind = ABSENT;
  values[EOT] = (value){"tokenizer.ggml.eot_token_id", NUMBER, .number = BEGUN};
  values[EOM] = (value){"tokenizer.ggml.eom_token_id", NUMBER, .number = END};
  tokenizer *self = create(values, NUM_VALUES);
  assert_non_null(self);
  assert_int_equal(tokenizer_begin(self), END_BEGUN);
  for (int32_t id = -2; id < NUM_TOKENS + 2; id++)
    assert_int_equal(tokenizer_is_end(self, id), id == BEGUN || id == END);
  tokenizer_destroy(self);
  values[ADD_BOS].number = 0;
  self = create(values, NUM_VALUES);
  assert_int_equal(tokenizer_begin(self), -1);
  tokenizer_destroy(self);
  /* Without a list of types nothing is special. */
  values[TYPES].kind = ABSENT;
  self = create(values, NUM_VALUES);
  assert_non_null(self);
  CHECK(true, "<|end", '<', '|', 'e', 'n', 'd');
  tokenizer_destroy(self);
}

/* A file with the one word that the merges would not make; its name says that whole words go first. */
static void whole_words_go_first(void **state) {
  (void)state;
  value values[NUM_VALUES];
  make_values(values);
  token_texts[ODD] = "\u0120hello";
  tokenizer *self = create(values, NUM_VALUES);
  CHECK(true, " hello", ' ', HELLO);
  tokenizer_destroy(self);
  values[PRE].text = "llama-bpe";
  self = create(values, NUM_VALUES);
  CHECK(true, " hello helo", ODD, _HE, LO);
  CHECK(true, "1234", '1', '2', '3', '4');
  tokenizer_destroy(self);
  token_types[ODD] = 3; /* but never a control token */
  self = create(values, NUM_VALUES);
  CHECK(true, " hello", ' ', HELLO);
  tokenizer_destroy(self);
}

/* A merge that is listed again counts where it is first. */
static void the_first_of_equal_merges_counts(void **state) {
  (void)state;
  value values[NUM_VALUES];
  make_values(values);
  values[MERGES].texts = (const char *const[]){"l l", "l o", "l l"};
  values[MERGES].count = 3;
  tokenizer *self = create(values, NUM_VALUES);
  CHECK(true, "llo", LL, 'o');
  tokenizer_destroy(self);
}

static void lists_grow_and_stay_as_they_were(void **state) {
  (void)state;
  value values[NUM_VALUES];
  tokens list = {0};
  make_values(values);
  token_texts['!'] = "no longer a byte";
  tokenizer *self = create(values, NUM_VALUES);
  for (int32_t id = 0; id < 1000; id++) assert_true(tokens_append(&list, id));
  assert_true(tokenizer_encode(self, "hello", 5, true, &list));
  assert_false(tokenizer_encode(self, "hello<|end|> he!", 16, true, &list));
  assert_string_equal(disco_last_error_text(),
                      "the vocabulary of the model has no token for the byte 0x21, which is at byte 15 of the text");
  assert_int_equal(list.count, 1001);
  for (int32_t id = 0; id < 1000; id++) assert_int_equal(list.ids[id], id);
  assert_int_equal(list.ids[1000], HELLO);
  tokens_free(&list);
  tokens_free(&list);
  tokenizer_destroy(self);
}

/* ---- Metadata that do not fit ------------------------------------------------------------------------------------ */

static void refuse_with(int which, value changed, const char *expected) {
  value values[NUM_VALUES];
  make_values(values);
  changed.key = values[which].key;
  values[which] = changed;
  tokenizer *self = create(values, NUM_VALUES);
  if (self != NULL) fail_msg("accepted, but expected: %s", expected);
  if (strstr(disco_last_error_text(), expected) == NULL)
    fail_msg("\"%s\", expected \"%s\"", disco_last_error_text(), expected);
}

#define REFUSE(which, expected, ...) refuse_with(which, (value){.kind = __VA_ARGS__}, expected)
#define LIST(...)                                     \
  TEXTS, .texts = (const char *const[]){__VA_ARGS__}, \
         .count = sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static void values_of_other_kinds_are_refused(void **state) {
  (void)state;
  REFUSE(MODEL, "the model has no tokenizer.ggml.model", ABSENT);
  REFUSE(MODEL, "tokenizer.ggml.model of the model is no string", NUMBER, .number = 1);
  REFUSE(MODEL, "tokenizer.ggml.model is \"llama\"", TEXT, .text = "llama");
  REFUSE(PRE, "the model has no tokenizer.ggml.pre", ABSENT);
  REFUSE(PRE, "tokenizer.ggml.pre of the model is no string", FLAG, .number = 1);
  REFUSE(PRE, "tokenizer.ggml.pre is \"unheard-of\", a pre-tokeniser that is not known; known are: gpt-2, ", TEXT,
         .text = "unheard-of");
  REFUSE(PRE, ", smollm, ", TEXT, .text = "");
  REFUSE(TOKENS, "the model has no tokenizer.ggml.tokens", ABSENT);
  REFUSE(TOKENS, "tokenizer.ggml.tokens of the model is no list", TEXT, .text = "a");
  REFUSE(TOKENS, "tokenizer.ggml.tokens[0] of the model is no string", NUMBERS, .numbers = token_types, .count = 9);
  REFUSE(TOKENS, "tokenizer.ggml.tokens of the model is empty", TEXTS, .count = 0);
  REFUSE(TYPES, "tokenizer.ggml.token_type of the model is no list", NUMBER, .number = 3);
  REFUSE(TYPES, "tokenizer.ggml.token_type[0] of the model is no integer", LIST("a"));
  REFUSE(TYPES, "tokenizer.ggml.token_type of the model has 271 elements, tokenizer.ggml.tokens has 272", NUMBERS,
         .numbers = token_types, .count = NUM_TOKENS - 1);
  REFUSE(MERGES, "the model has no tokenizer.ggml.merges", ABSENT);
  REFUSE(MERGES, "tokenizer.ggml.merges of the model is no list", FLAG, .number = 0);
  REFUSE(MERGES, "tokenizer.ggml.merges[0] of the model is no string", NUMBERS, .numbers = token_types, .count = 2);
  REFUSE(ADD_BOS, "tokenizer.ggml.add_bos_token of the model is no boolean", NUMBER, .number = 1);
  REFUSE(EOS, "tokenizer.ggml.eos_token_id of the model is no integer", FLOAT, .number = 0x3f800000);
  REFUSE(EOT, "tokenizer.ggml.eot_token_id of the model is no integer", TEXT, .text = "1");
}

static void ids_out_of_range_are_refused(void **state) {
  (void)state;
  REFUSE(EOS, "tokenizer.ggml.eos_token_id of the model is 272, but tokenizer.ggml.tokens has 272 tokens", NUMBER,
         .number = NUM_TOKENS);
  REFUSE(EOM, "tokenizer.ggml.eom_token_id of the model is -1", NUMBER, .number = -1);
  REFUSE(BOS, "tokenizer.ggml.bos_token_id of the model is 2147483647", NUMBER, .number = INT32_MAX);
  int32_t types[NUM_TOKENS];
  make_vocabulary();
  memcpy(types, token_types, sizeof(types));
  types[17] = 7;
  REFUSE(TYPES, "tokenizer.ggml.token_type[17] of the model is 7", NUMBERS, .numbers = types, .count = NUM_TOKENS);
  types[17] = -1;
  REFUSE(TYPES, "tokenizer.ggml.token_type[17] of the model is -1", NUMBERS, .numbers = types, .count = NUM_TOKENS);
}

static void refuse_token(int32_t id, const char *text, const char *expected) {
  const char *texts[NUM_TOKENS];
  make_vocabulary();
  memcpy(texts, token_texts, sizeof(texts));
  texts[id] = text;
  REFUSE(TOKENS, expected, TEXTS, .texts = texts, .count = NUM_TOKENS);
}

static void tokens_and_merges_must_fit(void **state) {
  (void)state;
  char longer[514];
  memset(longer, 'x', sizeof(longer));
  longer[513] = '\0';
  refuse_token(ODD, "hello", "tokenizer.ggml.tokens[271] of the model is the same as [259]: \"hello\"");
  refuse_token(END_BEGUN, "<|end|>", "tokenizer.ggml.tokens[268] of the model is the same as [267]");
  refuse_token(END, "", "tokenizer.ggml.tokens[267] of the model is special, but empty");
  refuse_token(END, longer, "tokenizer.ggml.tokens[267] of the model is special and has 513 bytes; 512 are allowed");
  refuse_token(HELL, "Hell", "tokenizer.ggml.merges[2] of the model is \"he ll\", but there is no token \"hell\"");
  REFUSE(MERGES, "tokenizer.ggml.merges[1] of the model is no pair: \"hello\"", LIST("h e", "hello"));
  REFUSE(MERGES, "tokenizer.ggml.merges[0] of the model is no pair: \"\"", LIST(""));
  REFUSE(MERGES, "tokenizer.ggml.merges[0] of the model is no pair: \" \"", LIST(" "));
  REFUSE(MERGES, "there is no token \"\" (control tokens do not count)", LIST("h "));
  REFUSE(MERGES, "there is no token \"hh\" (control tokens do not count)", LIST("hh e"));
  REFUSE(MERGES, "there is no token \"e l\" (control tokens do not count)", LIST("h e l"));
  int32_t types[NUM_TOKENS];
  make_vocabulary();
  memcpy(types, token_types, sizeof(types));
  types[HELLO] = 3;
  REFUSE(TYPES, "there is no token \"hello\" (control tokens do not count)", NUMBERS, .numbers = types,
         .count = NUM_TOKENS);
}

/* Every pair of bytes is a token, and made by a merge: each is found. */
static void every_pair_of_bytes(void **state) {
  (void)state;
  enum { PAIRS = NUM_BYTES * NUM_BYTES, TEXT_BYTES = 6 };
  char(*texts)[TEXT_BYTES] = calloc(PAIRS, sizeof(*texts)), (*merges_of)[TEXT_BYTES] = calloc(PAIRS, sizeof(*texts));
  const char **all_texts = calloc(NUM_BYTES + PAIRS, sizeof(*all_texts)),
             **all_merges = calloc(PAIRS, sizeof(*all_merges));
  assert_true(texts != NULL && merges_of != NULL && all_texts != NULL && all_merges != NULL);
  value values[NUM_VALUES];
  make_values(values);
  memcpy(all_texts, token_texts, NUM_BYTES * sizeof(*all_texts));
  for (int pair = 0; pair < PAIRS; pair++) {
    const char *left = byte_texts[pair / NUM_BYTES], *right = byte_texts[pair % NUM_BYTES];
    (void)snprintf(texts[pair], TEXT_BYTES, "%s%s", left, right);
    (void)snprintf(merges_of[pair], TEXT_BYTES, "%s %s", left, right);
    all_texts[NUM_BYTES + pair] = texts[pair];
    all_merges[PAIRS - 1 - pair] = merges_of[pair];
  }
  values[TOKENS] = (value){"tokenizer.ggml.tokens", TEXTS, .texts = all_texts, .count = NUM_BYTES + PAIRS};
  values[MERGES] = (value){"tokenizer.ggml.merges", TEXTS, .texts = all_merges, .count = PAIRS};
  values[TYPES].kind = ABSENT;
  tokenizer *self = create(values, NUM_VALUES);
  if (self == NULL) fail_msg("%s", disco_last_error_text());
  for (int32_t pair = 0; pair < PAIRS; pair++) {
    const unsigned char bytes[] = {(unsigned char)(pair / NUM_BYTES), (unsigned char)(pair % NUM_BYTES), 0};
    const bool are_letters = bytes[0] >= 'a' && bytes[0] <= 'z' && bytes[1] >= 'a' && bytes[1] <= 'z';
    const bool is_character = bytes[0] >= 0xc2 && bytes[0] < 0xe0 && bytes[1] >= 0x80 && bytes[1] < 0xc0;
    size_t count = 0;
    assert_memory_equal(tokenizer_bytes(self, NUM_BYTES + pair, &count), bytes, 2);
    assert_int_equal(count, 2);
    if (are_letters || is_character) check_tokens(self, (const char *)bytes, 2, true, &(int32_t){NUM_BYTES + pair}, 1);
  }
  /* What is no character is no word: nothing is merged. */
  CHECK(true, "\xe0\x83\xa9", 0xe0, 0x83, 0xa9);
  CHECK(true, "\xed\xa0\x80", 0xed, 0xa0, 0x80);
  CHECK(true, "\xf4\x90\x80\x80", 0xf4, 0x90, 0x80, 0x80);
  CHECK(true, "\xf0\x8f\xbf\xbf", 0xf0, 0x8f, 0xbf, 0xbf);
  tokenizer_destroy(self);
  free(texts);
  free(merges_of);
  free(all_texts);
  free(all_merges);
}

/* ---- Random merges, and a plain search ---------------------------------------------------------------------------- */

enum { MAX_RANDOM = 120, MAX_WORD = 90, TOKEN_BYTES = 2 * MAX_WORD };

typedef struct {
  size_t count;
  int32_t left[MAX_RANDOM], right[MAX_RANDOM], made[MAX_RANDOM];
} random_merges;

static uint32_t seed;

static uint32_t draw(uint32_t limit) {
  seed = seed * 1664525u + 1013904223u;
  return (seed >> 8) % limit;
}

/* Of "a", "b" and "c", tokens and merges as training makes them: mostly each token by one merge, here sometimes two. */
static tokenizer *create_random(random_merges *merges_of) {
  static char texts[MAX_RANDOM + NUM_BYTES][TOKEN_BYTES], pairs[MAX_RANDOM][TOKEN_BYTES + 1];
  static const char *all[MAX_RANDOM + NUM_BYTES], *pair_texts[MAX_RANDOM];
  int32_t count = NUM_BYTES;
  value values[NUM_VALUES];
  make_values(values);
  for (int i = 0; i < NUM_BYTES; i++) all[i] = token_texts[i];
  merges_of->count = 0;
  for (int attempt = 0; attempt < MAX_RANDOM; attempt++) {
    int32_t parts[2];
    for (int i = 0; i < 2; i++)
      parts[i] = count > NUM_BYTES && draw(3) > 0 ? NUM_BYTES + (int32_t)draw((uint32_t)count - NUM_BYTES)
                                                  : 'a' + (int32_t)draw(3);
    char whole[2 * TOKEN_BYTES];
    (void)snprintf(whole, sizeof(whole), "%s%s", all[parts[0]], all[parts[1]]);
    if (strlen(whole) > 12) continue;
    int32_t made = 0;
    while (made < count && strcmp(all[made], whole) != 0) made++;
    bool is_new = true;
    for (size_t i = 0; i < merges_of->count; i++)
      is_new = is_new && (merges_of->left[i] != parts[0] || merges_of->right[i] != parts[1]);
    if (!is_new) continue;
    if (made == count) {
      (void)snprintf(texts[count], TOKEN_BYTES, "%.12s", whole);
      all[count] = texts[count];
      count++;
    }
    const size_t at = merges_of->count++;
    merges_of->left[at] = parts[0];
    merges_of->right[at] = parts[1];
    merges_of->made[at] = made;
    (void)snprintf(pairs[at], sizeof(pairs[at]), "%.12s %.12s", all[parts[0]], all[parts[1]]);
    pair_texts[at] = pairs[at];
  }
  values[TOKENS] = (value){"tokenizer.ggml.tokens", TEXTS, .texts = all, .count = (size_t)count};
  values[MERGES] = (value){"tokenizer.ggml.merges", TEXTS, .texts = pair_texts, .count = merges_of->count};
  values[TYPES].kind = values[EOS].kind = values[BOS].kind = ABSENT;
  tokenizer *self = create(values, NUM_VALUES);
  if (self == NULL) fail_msg("%s", disco_last_error_text());
  return self;
}

/* The definition: of the first pair in the list that is there, the leftmost. */
static size_t merge_plainly(const random_merges *merges_of, int32_t *ids, size_t count) {
  for (size_t rank = 0; rank < merges_of->count;) {
    size_t at = 0;
    while (at + 1 < count && (ids[at] != merges_of->left[rank] || ids[at + 1] != merges_of->right[rank])) at++;
    if (at + 1 >= count) {
      rank++;
      continue;
    }
    ids[at] = merges_of->made[rank];
    memmove(&ids[at + 1], &ids[at + 2], (count - at - 2) * sizeof(*ids));
    count--;
    rank = 0;
  }
  return count;
}

static void as_a_plain_search_does(void **state) {
  (void)state;
  seed = 7;
  for (int round = 0; round < scaled(100); round++) {
    random_merges merges_of;
    tokenizer *self = create_random(&merges_of);
    for (size_t length = 1; length < MAX_WORD; length++) {
      char word[MAX_WORD];
      int32_t expected[MAX_WORD];
      for (size_t i = 0; i < length; i++) expected[i] = word[i] = (char)('a' + draw(1 + draw(3)));
      word[length] = '\0';
      const size_t count = merge_plainly(&merges_of, expected, length);
      check_tokens(self, word, length, false, expected, count);
    }
    tokenizer_destroy(self);
  }
}

/* Megabytes of one letter, of blanks, of what begins like a special token: what is quadratic would not end in time. */
static void long_texts(void **state) {
  (void)state;
  tokenizer *self = create_small();
  const size_t bytes = (size_t)scaled(4 << 20) / 8 * 8;
  char *text = malloc(bytes);
  assert_non_null(text);
  static const struct {
    const char *unit;
    size_t bytes, tokens; /* of a unit, in the long run */
  } units[] = {{"aaaa", 4, 1},     {"    ", 4, 2}, {"\n \n ", 4, 4}, {"<|en", 4, 3},
               {"\xff\xfe", 2, 2}, {"''''", 4, 4}, {"1234", 4, 4},   {"lolo", 4, 2}};
  for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
    for (size_t at = 0; at < bytes; at++) text[at] = units[i].unit[at % units[i].bytes];
    tokens list = {0};
    if (!tokenizer_encode(self, text, bytes, true, &list)) fail_msg("%s", disco_last_error_text());
    assert_in_range(list.count, bytes / units[i].bytes * units[i].tokens - 9,
                    bytes / units[i].bytes * units[i].tokens + 9);
    tokens_free(&list);
  }
  free(text);
  tokenizer_destroy(self);
}

/* ---- Words -------------------------------------------------------------------------------------------------------- */

typedef struct {
  char text[512];
  size_t bytes, words;
} joined;

static bool join(void *context, const char *word, size_t bytes) {
  joined *self = context;
  if (self->words == 20) return refuse(DISCO_VALUE, "enough");
  if (self->words++ > 0) self->text[self->bytes++] = '|';
  memcpy(self->text + self->bytes, word, bytes);
  self->bytes += bytes;
  self->text[self->bytes] = '\0';
  return true;
}

static void words_of_each_kind(void **state) {
  (void)state;
  static const struct {
    const char *name, *text, *words;
  } some[] = {
      {"gpt-2", "I'll say 1234 times: don't!?", "I|'ll| say| 1234| times|:| don|'t|!?"},
      {"gpt-2", "a  b\n\n c\t\t", "a| | b|\n\n| c|\t\t"},
      {"gpt-2", "I'LL x1y2", "I|'|LL| x|1|y|2"},
      {"smollm", "I'll say 1234 times", "I|'ll| say| |1|2|3|4| times"},
      {"smollm", "x  12  y", "x|  |1|2| | y"},
      {"smollm", "\u00bd\u0663a", "\u00bd|\u0663|a"},
      {"llama-bpe", "I'LL say 12345 times.\n\nnext", "I|'LL| say| |123|45| times|.\n\n|next"},
      {"llama-bpe", "a  \n  b\t\tc (d)!", "a|  \n| | b|\t|\tc| (|d|)!"},
      {"llama-bpe", "'\u017fx", "'\u017f|x"},
      {"qwen2", "I'll say 12345", "I|'ll| say| |1|2|3|4|5"},
      {"smollm", "!\u180e! b\xc2\x85 c", "!\u180e!| b|\xc2\x85| c"}, /* the first is no white space, the second is */
      {"smollm", "e\u0301 \u4f60\u597d\uff0c", "e|\u0301| \u4f60\u597d|\uff0c"},
      {"smollm", "", ""},
  };
  for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++) {
    joined to = {{0}, 0, 0};
    pretokenizer *self = pretokenizer_create(some[i].name);
    assert_non_null(self);
    assert_true(pretokenizer_split(self, some[i].text, strlen(some[i].text), join, &to));
    assert_string_equal(to.text, some[i].words);
    pretokenizer_destroy(self);
  }
}

static void a_sink_ends_the_splitting(void **state) {
  (void)state;
  joined to = {{0}, 0, 0};
  pretokenizer *self = pretokenizer_create("smollm");
  assert_non_null(self);
  assert_false(pretokenizer_split(self, "1234567890123456789012345", 25, join, &to));
  assert_string_equal(disco_last_error_text(), "enough");
  assert_int_equal(to.bytes, 39);
  pretokenizer_destroy(self);
  pretokenizer_destroy(NULL);
}

/* ---- Threads ------------------------------------------------------------------------------------------------------ */

enum { NUM_THREADS = 4, ROUNDS = 200 };

static void *encode_again(void *context) {
  const tokenizer *self = context;
  const char text[] =
      "hello he 123 \xff<|end|> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
  size_t count = 0;
  for (int round = 0; round < scaled(ROUNDS); round++) {
    tokens list = {0};
    const bool good = tokenizer_encode(self, text, sizeof(text) - 1, true, &list);
    if (!good || (round > 0 && list.count != count)) return NULL;
    count = list.count;
    tokens_free(&list);
  }
  return context;
}

static void several_threads_at_once(void **state) {
  (void)state;
  tokenizer *self = create_small();
  pthread_t threads[NUM_THREADS];
  for (int i = 0; i < NUM_THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, encode_again, self), 0);
  for (int i = 0; i < NUM_THREADS; i++) {
    void *good = NULL;
    assert_int_equal(pthread_join(threads[i], &good), 0);
    assert_ptr_equal(good, self);
  }
  tokenizer_destroy(self);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(words_are_merged_in_order),
      cmocka_unit_test(special_tokens_are_the_longest),
      cmocka_unit_test(bytes_that_are_no_text),
      cmocka_unit_test(tokens_are_looked_up),
      cmocka_unit_test(begin_and_ends_are_as_the_metadata_say),
      cmocka_unit_test(whole_words_go_first),
      cmocka_unit_test(the_first_of_equal_merges_counts),
      cmocka_unit_test(lists_grow_and_stay_as_they_were),
      cmocka_unit_test(values_of_other_kinds_are_refused),
      cmocka_unit_test(ids_out_of_range_are_refused),
      cmocka_unit_test(tokens_and_merges_must_fit),
      cmocka_unit_test(every_pair_of_bytes),
      cmocka_unit_test(as_a_plain_search_does),
      cmocka_unit_test(long_texts),
      cmocka_unit_test(words_of_each_kind),
      cmocka_unit_test(a_sink_ends_the_splitting),
      cmocka_unit_test(several_threads_at_once),
  };
  return cmocka_run_group_tests_name("llama.tokenizer", tests, NULL, NULL);
}
