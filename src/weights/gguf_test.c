/* GGUF: files of hand-made bytes, every rule of the format broken once, and every place to be cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "base/inject.h"
#include "weights/model.h"

/* ---- Putting a file together ---- */

enum { ROOM = 1 << 20, U8 = 0, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

typedef struct {
  size_t size;
  uint8_t *bytes;
} file;

static file made;

static int setup(void **state) {
  (void)state;
  made.size = 0;
  made.bytes = malloc(ROOM);
  return made.bytes == NULL;
}

static int teardown(void **state) {
  (void)state;
  free(made.bytes);
  return 0;
}

static void put(const void *bytes, size_t size) {
  assert_true(size <= ROOM - made.size);
  memcpy(made.bytes + made.size, bytes, size);
  made.size += size;
}

static void number(uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) {
    const uint8_t byte = (uint8_t)(value >> 8 * i);
    put(&byte, 1);
  }
}

static void string(const char *text) {
  number(strlen(text), 8);
  put(text, strlen(text));
}

static void head(uint32_t version, uint64_t tensors, uint64_t entries) {
  made.size = 0;
  put("GGUF", 4);
  number(version, 4);
  number(tensors, 8);
  number(entries, 8);
}

static void key(const char *name, uint32_t type) {
  string(name);
  number(type, 4);
}

static void array(uint32_t type, uint64_t count) {
  number(type, 4);
  number(count, 8);
}

static void entry(const char *name, uint32_t type, uint64_t value, int bytes) {
  key(name, type);
  number(value, bytes);
}

/* Dimensions as GGUF has them, the innermost first. */
static void tensor(const char *name, uint32_t ndim, const uint64_t *dims, uint32_t type, uint64_t offset) {
  string(name);
  number(ndim, 4);
  for (uint32_t i = 0; i < ndim; i++) number(dims[i], 8);
  number(type, 4);
  number(offset, 8);
}

static void pad(size_t alignment) {
  while (made.size % alignment != 0) number(0, 1);
}

static void data(size_t bytes) {
  for (size_t i = 0; i < bytes; i++) number(i * 7 + 1, 1);
}

/* ---- Reading it ---- */

/* A copy of exactly the file's size, so that the address sanitizer watches its end. */
static disco_status read_bytes(const uint8_t *bytes, size_t size, disco_weights **ret_model) {
  uint8_t *copy = malloc(size > 0 ? size : 1);
  disco_weights *model = NULL;
  dsc_source source;
  int32_t index = -1;
  assert_non_null(copy);
  if (size > 0) memcpy(copy, bytes, size);
  dsc_source_of_memory("a.gguf", copy, size, &source);
  disco_status status = dsc_model_create("gguf", &model);
  if (status == DISCO_OK) status = dsc_model_add_file(model, "a.gguf", size, &index);
  if (status == DISCO_OK) status = dsc_gguf_read(&source, index, model);
  if (status == DISCO_OK) status = dsc_model_seal(model, false);
  free(copy);
  if (status == DISCO_OK) {
    *ret_model = model;
    return status;
  }
  dsc_model_destroy(model);
  return status;
}

static disco_weights *read_made(void) {
  disco_weights *model = NULL;
  const disco_status status = read_bytes(made.bytes, made.size, &model);
  if (status != DISCO_OK) fail_msg("refused: %s", dsc_thread_error()->message);
  return model;
}

/* The sentence names the file, and has the words. */
static void refused(const char *words) {
  disco_weights *model = NULL;
  const disco_status status = read_bytes(made.bytes, made.size, &model);
  dsc_model_destroy(model);
  if (status != DISCO_VALUE) fail_msg("not refused; expected: %s", words);
  const char *message = dsc_thread_error()->message;
  if (strstr(message, "a.gguf") == NULL || strstr(message, words) == NULL)
    fail_msg("\"%s\" lacks \"%s\"", message, words);
}

static void has(const disco_weights *model, const char *name, const char *json) {
  const char *found = dsc_model_metadata(model, name);
  if (found == NULL) fail_msg("no metadata %s", name);
  assert_string_equal(found, json);
}

/* ---- What files may say ---- */

static void nothing(void **state) {
  (void)state;
  for (uint32_t version = 2; version <= 3; version++) {
    head(version, 0, 0);
    disco_weights *model = read_made();
    assert_int_equal(dsc_model_count(model), 0);
    assert_int_equal(dsc_model_num_metadata(model), 0);
    dsc_model_destroy(model);
  }
  assert_true(dsc_is_gguf("GGUF", 4));
  assert_false(dsc_is_gguf("GGUF", 3));
  assert_false(dsc_is_gguf("GGML", 4));
}

static uint64_t bits_of_f32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static uint64_t bits_of_f64(double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static void every_value(void **state) {
  (void)state;
  head(3, 0, 14);
  entry("u8", U8, 255, 1);
  entry("i8", I8, 0x80, 1);
  entry("u16", U16, 65535, 2);
  entry("i16", I16, 0x8000, 2);
  entry("u32", U32, UINT32_MAX, 4);
  entry("i32", I32, 1u << 31, 4);
  entry("f32", F32, bits_of_f32(0.1f), 4);
  entry("true", BOOL, 1, 1);
  entry("false", BOOL, 0, 1);
  entry("u64", U64, UINT64_MAX, 8);
  entry("i64", I64, 1ull << 63, 8);
  entry("f64", F64, bits_of_f64(1.0 / 3), 8);
  entry("nan", F32, bits_of_f32(NAN), 4);
  key("string", STRING);
  string("caf\xc3\xa9 \"\n\xff");
  disco_weights *model = read_made();
  has(model, "u8", "255");
  has(model, "i8", "-128");
  has(model, "u16", "65535");
  has(model, "i16", "-32768");
  has(model, "u32", "4294967295");
  has(model, "i32", "-2147483648");
  has(model, "f32", "0.1");
  has(model, "true", "true");
  has(model, "false", "false");
  has(model, "u64", "18446744073709551615");
  has(model, "i64", "-9223372036854775808");
  has(model, "f64", "0.3333333333333333");
  has(model, "nan", "\"NaN\"");
  has(model, "string", "\"caf\xc3\xa9 \\\"\\n\xef\xbf\xbd\"");
  assert_int_equal(dsc_model_num_metadata(model), 14);
  const char *first, *json;
  assert_true(dsc_model_metadata_at(model, 0, &first, &json)); /* in file order */
  assert_string_equal(first, "u8");
  dsc_model_destroy(model);
}

static void every_array(void **state) {
  (void)state;
  head(3, 0, 14);
  for (uint32_t type = U8; type <= I32; type++) {
    char name[] = "0";
    name[0] = (char)('0' + type);
    key(name, ARRAY);
    array(type, 3);
    static const int sizes[] = {1, 1, 2, 2, 4, 4};
    for (int i = 0; i < 3; i++) number(type % 2 == 1 ? UINT64_MAX - (uint64_t)i : (uint64_t)i, sizes[type]);
  }
  key("f32", ARRAY), array(F32, 2), number(bits_of_f32(-1.5f), 4), number(bits_of_f32(INFINITY), 4);
  key("bool", ARRAY), array(BOOL, 2), number(1, 1), number(0, 1);
  key("u64", ARRAY), array(U64, 1), number(UINT64_MAX, 8);
  key("i64", ARRAY), array(I64, 1), number(UINT64_MAX, 8);
  key("f64", ARRAY), array(F64, 1), number(bits_of_f64(-0.0), 8);
  key("strings", ARRAY), array(STRING, 3), string("a"), string(""), string("b\"");
  key("empty", ARRAY), array(STRING, 0);
  key("nested", ARRAY), array(ARRAY, 3);
  array(U8, 2), number(1, 1), number(2, 1);
  array(STRING, 1), string("x");
  array(ARRAY, 1), array(ARRAY, 1), array(U8, 0);
  disco_weights *model = read_made();
  has(model, "0", "[0, 1, 2]");
  has(model, "1", "[-1, -2, -3]");
  has(model, "2", "[0, 1, 2]");
  has(model, "3", "[-1, -2, -3]");
  has(model, "4", "[0, 1, 2]");
  has(model, "5", "[-1, -2, -3]");
  has(model, "f32", "[-1.5, \"Infinity\"]");
  has(model, "bool", "[true, false]");
  has(model, "u64", "[18446744073709551615]");
  has(model, "i64", "[-1]");
  has(model, "f64", "[-0.0]");
  has(model, "strings", "[\"a\", \"\", \"b\\\"\"]");
  has(model, "empty", "[]");
  has(model, "nested", "[[1, 2], [\"x\"], [[[]]]]");
  dsc_model_destroy(model);
}

/* Longer than the window by which files are read: a string, numbers, and strings, one length of which is short of the
 * window by a byte. */
static void larger_than_the_window(void **state) {
  (void)state;
  enum { LONG = 200000, MANY = 60000, STRINGS = 20000 };
  head(2, 0, 3);
  key("long", STRING);
  number(LONG, 8);
  for (int i = 0; i < LONG; i++) number((uint64_t)('a' + i % 26), 1);
  key("many", ARRAY), array(U32, MANY);
  for (uint32_t i = 0; i < MANY; i++) number(i, 4);
  key("strings", ARRAY), array(STRING, STRINGS);
  for (int i = 0; i < STRINGS; i++) string(i % 2 == 0 ? "e" : "o");
  disco_weights *model = read_made();
  const char *json = dsc_model_metadata(model, "long");
  assert_int_equal(strlen(json), LONG + 2);
  for (int i = 0; i < LONG; i++) assert_int_equal(json[i + 1], 'a' + i % 26);
  json = dsc_model_metadata(model, "many") + 1;
  for (uint32_t i = 0; i < MANY; i++) {
    char *end;
    assert_int_equal(strtoul(json, &end, 10), i);
    json = end + 2;
  }
  json = dsc_model_metadata(model, "strings") + 1;
  for (int i = 0; i < STRINGS; i++) {
    const char *expected = i % 2 == 0 ? "\"e\", " : "\"o\", ";
    assert_memory_equal(json, expected, strlen(expected) - (i == STRINGS - 1 ? 2 : 0));
    json += strlen(expected);
  }
  dsc_model_destroy(model);
}

static void check(const disco_weights *model, int64_t index, const char *name, const char *encoding, int ndim,
                  const int64_t *shape, uint64_t offset, uint64_t bytes) {
  const dsc_weight *weight = dsc_model_weight(model, index);
  assert_non_null(weight);
  assert_string_equal(weight->view.name, name);
  assert_string_equal(weight->view.encoding, encoding);
  assert_int_equal(weight->view.ndim, ndim);
  for (int i = 0; i < ndim; i++) assert_int_equal(weight->view.shape[i], shape[i]);
  assert_int_equal(weight->view.offset, offset);
  assert_int_equal(weight->view.bytes, bytes);
  assert_string_equal(weight->view.file, "a.gguf");
}

static void tensors(void **state) {
  (void)state;
  head(3, 6, 0);
  tensor("f32", 2, (const uint64_t[]){3, 2}, 0, 0);              /* 24 bytes */
  tensor("q8", 3, (const uint64_t[]){64, 2, 5}, 8, 32);          /* 20 blocks of 34 */
  tensor("scalar", 0, NULL, 27, 736);                            /* one int64 */
  tensor("q4", 4, (const uint64_t[]){32, 1, 1, 2}, 3, 768);      /* 2 blocks of 20 */
  tensor("empty", 2, (const uint64_t[]){0, 1ull << 40}, 30, 32); /* lies in another, and takes nothing of it */
  tensor("listed", 1, (const uint64_t[]){256}, 14, 832);         /* a block of 210 */
  pad(32);
  const size_t begin = made.size;
  data(832 + 210);
  disco_weights *model = read_made();
  assert_int_equal(dsc_model_count(model), 6);
  check(model, 0, "f32", "F32", 2, (const int64_t[]){2, 3}, begin, 24);
  check(model, 1, "q8", "Q8_0", 3, (const int64_t[]){5, 2, 64}, begin + 32, 680);
  check(model, 2, "scalar", "I64", 0, NULL, begin + 736, 8);
  check(model, 3, "q4", "Q4_1", 4, (const int64_t[]){2, 1, 1, 32}, begin + 768, 40);
  check(model, 4, "empty", "BF16", 2, (const int64_t[]){1ll << 40, 0}, begin + 32, 0);
  check(model, 5, "listed", "Q6_K", 1, (const int64_t[]){256}, begin + 832, 210);
  assert_int_equal(dsc_model_find(model, "q4"), 3);
  assert_true(dsc_model_weight(model, 1)->view.is_block_quantised);
  assert_false(dsc_model_weight(model, 2)->view.is_block_quantised);
  assert_int_equal(dsc_model_weight(model, 1)->view.dtype.bits, 32);
  assert_int_equal(dsc_model_weight(model, 5)->view.dtype.bits, 0);
  dsc_model_destroy(model);
  made.size--; /* the last byte of the last tensor */
  refused("tensor \"listed\"");
}

static void alignments(void **state) {
  (void)state;
  static const uint32_t good[] = {1, 8, 64, 4096}, bad[] = {0, 3, 48, 1u << 31, UINT32_MAX};
  for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
    head(3, 2, 1);
    entry("general.alignment", U32, good[i], 4);
    tensor("a", 1, (const uint64_t[]){1}, 24, 0);
    tensor("b", 1, (const uint64_t[]){1}, 24, good[i]);
    pad(good[i]);
    const size_t begin = made.size;
    data(good[i] + 1);
    disco_weights *model = read_made();
    check(model, 0, "a", "I8", 1, (const int64_t[]){1}, begin, 1);
    check(model, 1, "b", "I8", 1, (const int64_t[]){1}, begin + good[i], 1);
    dsc_model_destroy(model);
  }
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
    head(3, 0, 1);
    entry("general.alignment", U32, bad[i], 4);
    refused("is not a power of two up to 1073741824");
  }
  head(3, 0, 1);
  entry("general.alignment", U64, 32, 8);
  refused("metadata \"general.alignment\", bytes [24, 53) of the header: its value has type 10, not uint32 (4)");
  head(3, 0, 1);
  key("general.alignment", ARRAY), array(U32, 1), number(32, 4);
  refused("not uint32");
  head(3, 1, 0);
  tensor("a", 1, (const uint64_t[]){1}, 24, 31);
  pad(32);
  data(64);
  refused("its offset 31 is not a multiple of the alignment, 32");
}

/* ---- What they may not ---- */

static void heads(void **state) {
  (void)state;
  made.size = 0;
  refused("4 more bytes belong to it, but the file ends after 0: was it cut?");
  head(3, 0, 0);
  made.bytes[3] = 'L';
  refused("they are not \"GGUF\"");
  head(1, 0, 0);
  refused("version 1 of GGUF; 2 and 3 can be read");
  head(4, 0, 0);
  refused("version 4");
  head(0, 0, 0);
  refused("version 0");
  head(0x03000000, 0, 0);
  refused("big-endian");
  head(0x02000000, 0, 0);
  refused("big-endian");
}

static void counts(void **state) {
  (void)state;
  static const uint64_t absurd[] = {1ull << 63, UINT64_MAX, (1 << 20) + 1};
  for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
    head(3, absurd[i], 0);
    refused("tensors; the limit is 1048576");
    head(3, 0, absurd[i]);
    refused("metadata entries; the limit is 65536");
    head(3, 0, 1);
    key("a", ARRAY), array(U8, absurd[i] | 1ull << 40);
    refused("elements of an array; the limit is 16777216");
    head(3, 0, 1);
    key("a", STRING), number(absurd[i] | 1ull << 40, 8);
    refused("the limit is 16777216");
    head(3, 0, 1);
    number(absurd[i], 8), data(32);
    refused("the limit is 4096");
  }
  /* within the limits, but more than there is */
  head(3, 1 << 20, 0);
  refused("1048576 tensors take at least 26214400 bytes, but there are 0 more: was it cut?");
  head(3, 0, 3);
  data(41);
  refused("3 metadata entries take at least 42 bytes, but there are 41 more: was it cut?");
  static const struct {
    uint32_t type;
    int bytes;
  } least[] = {{U8, 1}, {I16, 2}, {F32, 4}, {F64, 8}, {STRING, 8}, {ARRAY, 12}};
  for (size_t i = 0; i < sizeof(least) / sizeof(least[0]); i++) {
    head(3, 0, 1);
    key("a", ARRAY), array(least[i].type, 10);
    for (int byte = 0; byte < 10 * least[i].bytes - 1; byte++) number(0, 1);
    refused("10 elements of an array take at least");
  }
  head(3, 0, 1);
  key("a", STRING), number(10, 8), data(9);
  refused("metadata \"a\", bytes [24, 45) of the header: 10 more bytes belong to it, but the file ends after 9: was it "
          "cut?");
}

static void values(void **state) {
  (void)state;
  head(3, 0, 1);
  entry("a", 13, 0, 8);
  refused("its value has type 13; the types of GGUF are 0 to 12");
  head(3, 0, 1);
  entry("a", UINT32_MAX, 0, 8);
  refused("type 4294967295");
  head(3, 0, 1);
  key("a", ARRAY), array(13, 0);
  refused("type 13");
  head(3, 0, 1);
  entry("a", BOOL, 2, 1);
  refused("metadata \"a\", bytes [24, 38) of the header: a bool is 2, neither 0 nor 1");
  head(3, 0, 1);
  key("a", ARRAY), array(BOOL, 2), number(0, 1), number(255, 1);
  refused("a bool is 255");
  head(3, 0, 1);
  key("a", ARRAY);
  for (int i = 0; i < 4; i++) array(ARRAY, 1);
  array(U8, 0);
  refused("more than 4 deep");
  head(3, 0, 1);
  key("a", ARRAY);
  for (int i = 0; i < 10000; i++) array(ARRAY, 1);
  refused("more than 4 deep");
}

static void names(void **state) {
  (void)state;
  static char long_name[4098];
  memset(long_name, 'n', 4097);
  head(3, 0, 1);
  entry("", U8, 0, 8);
  refused("metadata entry 0, bytes [24, 32) of the header: its name is empty");
  head(3, 0, 1);
  entry("\xc3(", U8, 0, 1);
  refused("metadata entry 0, bytes [24, 34) of the header: its name is not UTF-8");
  head(3, 0, 1);
  number(3, 8), put("a\0b", 3), number(U8, 4), number(0, 1);
  refused("there is a NUL in its name");
  head(3, 0, 1);
  entry(long_name, U8, 0, 1);
  refused("a string of 4097 bytes; the limit is 4096");
  head(3, 0, 1);
  entry(long_name + 1, U8, 0, 1);
  dsc_model_destroy(read_made());
  head(3, 0, 2);
  entry("twice", U8, 0, 1);
  entry("twice", U8, 0, 1);
  refused("\"twice\"");
  head(3, 1, 0);
  tensor("", 1, (const uint64_t[]){0}, 0, 0);
  data(32);
  refused("its name is empty");
  head(3, 1, 0);
  number(3, 8), put("a\0b", 3), number(0, 4), number(0, 4), number(0, 8), data(64);
  refused("there is a NUL in its name");
  head(3, 1, 0);
  tensor("\xff", 0, NULL, 0, 0);
  data(64);
  refused("tensor 0, bytes [24, 33) of the header: its name is not UTF-8");
  head(3, 2, 0);
  tensor("twice", 0, NULL, 24, 0);
  tensor("twice", 0, NULL, 24, 32);
  data(128);
  refused("\"twice\"");
}

static void one_tensor(uint32_t ndim, const uint64_t *dims, uint32_t type, uint64_t offset, const char *words) {
  head(3, 1, 0);
  tensor("w", ndim, dims, type, offset);
  pad(32);
  data(1024);
  refused("tensor \"w\"");
  refused(words);
}

static void shapes(void **state) {
  (void)state;
  const uint64_t big = 1ull << 32, half = 1ull << 62, top = 1ull << 63;
  one_tensor(5, (const uint64_t[]){1, 1, 1, 1, 1}, 0, 0, "it has 5 dimensions; GGUF has at most 4");
  one_tensor(1, (const uint64_t[]){top}, 24, 0, "dimension 0 has 9223372036854775808 elements");
  one_tensor(2, (const uint64_t[]){1, UINT64_MAX}, 24, 0, "dimension 0 has 18446744073709551615 elements");
  one_tensor(2, (const uint64_t[]){big, big}, 24, 0, "63 bits");
  one_tensor(2, (const uint64_t[]){big, big}, 0, 0, "63 bits");
  one_tensor(4, (const uint64_t[]){1 << 16, 1 << 16, 1 << 16, 1 << 16}, 24, 0, "63 bits");
  one_tensor(1, (const uint64_t[]){half}, 0, 0, "63 bits");
  one_tensor(3, (const uint64_t[]){half, 4, 0}, 24, 0, "");
  one_tensor(3, (const uint64_t[]){0, half, 4}, 24, 0, "");
  one_tensor(2, (const uint64_t[]){half, 2}, 41, 0, ""); /* fewer bytes than elements */
  one_tensor(2, (const uint64_t[]){33, 1}, 8, 0, "has 33 elements, not a multiple of the 32 of a block of Q8_0");
  one_tensor(2, (const uint64_t[]){16, 2}, 3, 0, "not a multiple of the 32");
  one_tensor(2, (const uint64_t[]){32, 256}, 14, 0, "not a multiple of the 256");
  one_tensor(0, NULL, 8, 0, "not a multiple of the 32");
  one_tensor(1, (const uint64_t[]){1}, 4, 0, "its type is 4, which is none that ggml has");
  one_tensor(1, (const uint64_t[]){1}, 31, 0, "its type is 31");
  one_tensor(1, (const uint64_t[]){1}, 12345, 0, "its type is 12345");
  one_tensor(1, (const uint64_t[]){1}, UINT32_MAX, 0, "its type is 4294967295");
}

static void places(void **state) {
  (void)state;
  one_tensor(
      1, (const uint64_t[]){1}, 24, 1024,
      "tensor \"w\", bytes [24, 57) of the header: it has 1 bytes at offset 1024 behind byte 64 of the file, which has "
      "only 1088: was it cut?");
  one_tensor(1, (const uint64_t[]){33}, 24, 992, "which has only 1088");
  one_tensor(1, (const uint64_t[]){1}, 24, 1ull << 63, "at offset 9223372036854775808");
  one_tensor(1, (const uint64_t[]){1}, 24, UINT64_MAX - 31, "at offset 18446744073709551584");
  one_tensor(1, (const uint64_t[]){INT64_MAX}, 24, UINT64_MAX - 31, "at offset");
  one_tensor(1, (const uint64_t[]){0}, 24, 1056, "at offset 1056"); /* even without bytes */
  head(3, 1, 0);
  tensor("w", 1, (const uint64_t[]){1}, 24, 0); /* the file ends before the data begins */
  refused("it has 1 bytes at offset 0");
  /* overlaps: side by side is fine */
  head(3, 2, 0);
  tensor("first", 1, (const uint64_t[]){33}, 24, 32);
  tensor("second", 1, (const uint64_t[]){32}, 24, 0);
  pad(32);
  data(128);
  dsc_model_destroy(read_made());
  head(3, 2, 0);
  tensor("first", 1, (const uint64_t[]){33}, 24, 0);
  tensor("second", 1, (const uint64_t[]){32}, 24, 32);
  pad(32);
  data(128);
  refused("overlap");
  head(3, 2, 0);
  tensor("first", 1, (const uint64_t[]){1}, 24, 0);
  tensor("second", 1, (const uint64_t[]){1}, 24, 0);
  pad(32);
  data(128);
  refused("overlap");
}

static void small_file(void) {
  head(3, 2, 4);
  entry("general.alignment", U32, 8, 4);
  key("name", STRING), string("caf\xc3\xa9");
  key("list", ARRAY), array(STRING, 2), string("a"), string("bc");
  key("scores", ARRAY), array(F32, 3), number(bits_of_f32(0.5f), 4), number(bits_of_f32(-1e-20f), 4), number(0, 4);
  tensor("a", 2, (const uint64_t[]){32, 2}, 8, 0);
  tensor("b", 1, (const uint64_t[]){3}, 1, 72);
  pad(8);
  data(78);
}

/* Every beginning of a file is refused, and every byte may be anything. */
static void cut_and_changed(void **state) {
  (void)state;
  small_file();
  dsc_model_destroy(read_made());
  const size_t whole = made.size;
  for (size_t size = 0; size < whole; size++) {
    disco_weights *model = NULL;
    assert_int_equal(read_bytes(made.bytes, size, &model), DISCO_VALUE);
    assert_non_null(strstr(dsc_thread_error()->message, "a.gguf"));
  }
  for (size_t i = 0; i < whole; i++)
    for (int bit = 0; bit < 9; bit++) {
      disco_weights *model = NULL;
      small_file();
      made.bytes[i] = (uint8_t)(bit < 8 ? made.bytes[i] ^ 1 << bit : 0xff);
      const disco_status status = read_bytes(made.bytes, whole, &model);
      assert_true(status == DISCO_OK || status == DISCO_VALUE);
      dsc_model_destroy(model);
    }
}

/* ---- Sources that fail, memory that runs out ---- */

typedef struct {
  uint64_t allowed, asked; /* reads until one fails */
  size_t largest;
} failing;

static disco_status read_failing(void *context, uint64_t offset, void *to, size_t bytes) {
  failing *self = context;
  assert_true(offset <= made.size && bytes <= made.size - offset);
  if (self->asked++ >= self->allowed) return dsc_fail(DISCO_RUNTIME, "the disk is gone");
  if (bytes > self->largest) self->largest = bytes;
  memcpy(to, made.bytes + offset, bytes);
  return DISCO_OK;
}

static disco_status read_with(failing *self) {
  const dsc_source source = {"a.gguf", made.size, read_failing, self};
  disco_weights *model = NULL;
  int32_t index = -1;
  assert_int_equal(dsc_model_create("gguf", &model), DISCO_OK);
  assert_int_equal(dsc_model_add_file(model, "a.gguf", made.size, &index), DISCO_OK);
  const disco_status status = dsc_gguf_read(&source, index, model);
  dsc_model_destroy(model);
  return status;
}

/* Bytes of tensors are not read; what is, in pieces of 64 KiB. */
static void reads(void **state) {
  (void)state;
  head(3, 1, 1);
  key("many", ARRAY), array(U8, 200000);
  for (int i = 0; i < 200000; i++) number(7, 1);
  tensor("w", 1, (const uint64_t[]){500000}, 24, 0);
  pad(32);
  data(500000);
  failing all = {.allowed = UINT64_MAX};
  assert_int_equal(read_with(&all), DISCO_OK);
  assert_true(all.asked <= 8 && all.largest <= 64 << 10);
  for (uint64_t i = 0; i < all.asked; i++) {
    failing some = {.allowed = i};
    assert_int_equal(read_with(&some), DISCO_RUNTIME);
    assert_string_equal(dsc_thread_error()->message, "the disk is gone");
  }
}

static void without_memory(void **state) {
  (void)state;
  small_file();
  bool failed = true;
  long steps = 0;
  for (; failed; steps++) {
    disco_weights *model = NULL;
    (void)dsc_inject_fail_allocation(steps + 1);
    const disco_status status = read_bytes(made.bytes, made.size, &model);
    (void)dsc_inject_fail_allocation(0);
    failed = status != DISCO_OK;
    if (failed) assert_int_equal(status, DISCO_MEMORY);
    dsc_model_destroy(model);
  }
  assert_true(steps > 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(nothing),         TEST(every_value), TEST(every_array),    TEST(larger_than_the_window),
      TEST(tensors),         TEST(alignments),  TEST(heads),          TEST(counts),
      TEST(values),          TEST(names),       TEST(shapes),         TEST(places),
      TEST(cut_and_changed), TEST(reads),       TEST(without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
