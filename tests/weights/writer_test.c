/* The writer itself: its values are these and no others, whatever the format; what it cannot write it says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "weights/writer.h"

static uint64_t word(uint64_t seed, const char *name, int64_t i) {
  uint64_t value = 0;
  writer_block(seed, name, writer_find_encoding("U64"), i, &value);
  return value;
}

/* As written down in writer.h, computed by another program: files must not change from one version to the next. */
static void test_words(void **state) {
  (void)state;
  assert_int_equal(word(0, "", 0), UINT64_C(0x8932c885a3fe960e));
  assert_int_equal(word(7, "a", 0), UINT64_C(0x1570fa4fdf11472b));
  assert_int_equal(word(7, "a", 1), UINT64_C(0xf948dfd4f8bc75ee));
  assert_int_equal(word(8, "a", 1), UINT64_C(0xae2564dd71f5198e));
  assert_int_equal(word(7, "b", 1000000007), UINT64_C(0x779408a8ac468143));
}

static void test_plain_elements_are_parts_of_words(void **state) {
  (void)state;
  for (int64_t i = 0; i < 1000; i++) {
    const uint64_t expected = word(3, "x", i);
    uint16_t small = 0;
    uint8_t flag = 9;
    writer_block(3, "x", writer_find_encoding("I16"), i, &small);
    assert_int_equal(small, expected & 0xffff);
    writer_block(3, "x", writer_find_encoding("BOOL"), i, &flag);
    assert_int_equal(flag, expected & 1);
  }
}

static void test_a_fill_is_its_blocks(void **state) {
  static const char *const encodings[] = {"F32", "F8_E4M3", "I16", "BOOL", "Q8_0", "Q4_1", "Q6_K"};
  (void)state;
  for (size_t e = 0; e < sizeof(encodings) / sizeof(encodings[0]); e++) {
    const writer_encoding *encoding = writer_find_encoding(encodings[e]);
    unsigned char many[20 * WRITER_MAX_BLOCK_BYTES], one[WRITER_MAX_BLOCK_BYTES];
    writer_fill(writer_key(5, "y"), encoding, 100, 20, many);
    for (int64_t i = 0; i < 20; i++) {
      writer_block(5, "y", encoding, 100 + i, one);
      assert_memory_equal(many + i * encoding->block_bytes, one, (size_t)encoding->block_bytes);
    }
  }
}

/* Most are ordinary; each odd kind is there; none is NaN, and no scale is infinite. */
static void test_floats(void **state) {
  static const char *const encodings[] = {"F32", "F16", "BF16", "f32-to-bf16"};
  (void)state;
  for (size_t e = 0; e < sizeof(encodings) / sizeof(encodings[0]); e++) {
    const writer_encoding *encoding = writer_find_encoding(encodings[e]);
    int ordinary = 0, zeros = 0, infinities = 0, negative = 0;
    for (int64_t i = 0; i < 20000; i++) {
      const float value = writer_float(1, "z", encoding, i);
      assert_false(isnan(value));
      ordinary += fabsf(value) < 2 && fabsf(value) > 1.0f / 8192;
      zeros += value == 0;
      infinities += isinf(value) != 0;
      negative += signbit(value) != 0;
    }
    assert_true(ordinary > 19500 && ordinary < 19800);
    assert_true(zeros > 20 && infinities > 20);
    assert_true(negative > 9500 && negative < 10500);
  }
  for (int64_t i = 0; i < 20000; i++) {
    assert_true(isfinite(writer_float(1, "q", writer_find_encoding("Q8_0"), i)));
    assert_true(isfinite(writer_float(1, "q", writer_find_encoding("Q4_1"), i)));
  }
}

static const char *written(writer_format format, const char *encoding, int32_t ndim, int64_t a, int64_t b) {
  const writer_tensor tensor = {.name = "t", .encoding = encoding, .ndim = ndim, .shape = {a, b, 1, 1, 1}};
  const writer_model model = {.num_tensors = 1, .tensors = &tensor};
  return writer_write(&model, format, "/dev/null");
}

static void test_what_cannot_be_written(void **state) {
  (void)state;
  assert_null(written(WRITER_GGUF, "Q8_0", 2, 3, 64));
  assert_string_equal(written(WRITER_GGUF, "Q8_0", 2, 64, 3),
                      "tensor t: its last dimension is not a multiple of 32, as Q8_0 wants");
  assert_non_null(strstr(written(WRITER_GGUF, "Q8_0", 0, 0, 0), "not a multiple of 32"));
  assert_string_equal(written(WRITER_GGUF, "X7", 1, 1, 1), "tensor t: unknown encoding X7");
  assert_string_equal(written(WRITER_GGUF, "U8", 1, 1, 1), "tensor t: this format has no U8");
  assert_string_equal(written(WRITER_SAFETENSORS, "Q8_0", 1, 32, 1), "tensor t: this format has no Q8_0");
  assert_string_equal(written(WRITER_TENSOR_CACHE, "Q4_1", 1, 32, 1), "tensor t: this format has no Q4_1");
  assert_string_equal(written(WRITER_GGUF, "F32", 5, 1, 1), "tensor t: GGUF has at most 4 dimensions");
  assert_string_equal(written(WRITER_GGUF, "F32", 9, 1, 1), "tensor t: 9 dimensions");
  assert_string_equal(written(WRITER_GGUF, "F32", 2, -1, 1), "tensor t: its shape is no shape");
  assert_string_equal(written(WRITER_GGUF, "F32", 2, INT64_MAX, 3), "tensor t: its shape is no shape");
  assert_non_null(strstr(written(WRITER_TENSOR_CACHE, "F32", 1, 1, 1), "/dev/null"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_words),
      cmocka_unit_test(test_plain_elements_are_parts_of_words),
      cmocka_unit_test(test_a_fill_is_its_blocks),
      cmocka_unit_test(test_floats),
      cmocka_unit_test(test_what_cannot_be_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
