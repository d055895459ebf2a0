/* The tables of encodings: names, sizes, which can be read, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weights/decode.h"
#include "weights/model.h"

static void check(const dsc_encoding *encoding, const char *name, int code, int bits, int elements, int bytes) {
  assert_non_null(encoding);
  assert_string_equal(encoding->name, name);
  assert_int_equal(encoding->dtype.bits, bits);
  assert_int_equal(encoding->dtype.lanes, 1);
  if (bits != 0) assert_int_equal(encoding->dtype.code, code);
  assert_int_equal(encoding->block_elements, elements);
  assert_int_equal(encoding->block_bytes, bytes);
  /* what is stored as it is has a whole number of bytes for each element */
  if (bits != 0 && encoding->decode == NULL) assert_int_equal(elements * bits, 8 * bytes);
}

static void safetensors(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int code, bits;
  } plain[] = {{"BOOL", kDLBool, 8},
               {"U8", kDLUInt, 8},
               {"I8", kDLInt, 8},
               {"U16", kDLUInt, 16},
               {"I16", kDLInt, 16},
               {"U32", kDLUInt, 32},
               {"I32", kDLInt, 32},
               {"U64", kDLUInt, 64},
               {"I64", kDLInt, 64},
               {"F16", kDLFloat, 16},
               {"BF16", kDLBfloat, 16},
               {"F32", kDLFloat, 32},
               {"F64", kDLFloat, 64},
               {"C64", kDLComplex, 64},
               {"F8_E4M3", kDLFloat8_e4m3fn, 8},
               {"F8_E5M2", kDLFloat8_e5m2, 8},
               {"F8_E4M3FNUZ", kDLFloat8_e4m3fnuz, 8},
               {"F8_E5M2FNUZ", kDLFloat8_e5m2fnuz, 8},
               {"F8_E8M0", kDLFloat8_e8m0fnu, 8}};
  for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
    const dsc_encoding *encoding = dsc_safetensors_encoding(plain[i].name);
    check(encoding, plain[i].name, plain[i].code, plain[i].bits, 1, plain[i].bits / 8);
    assert_null(encoding->decode);
  }
  check(dsc_safetensors_encoding("F4"), "F4", 0, 0, 2, 1);
  check(dsc_safetensors_encoding("F6_E2M3"), "F6_E2M3", 0, 0, 4, 3);
  check(dsc_safetensors_encoding("F6_E3M2"), "F6_E3M2", 0, 0, 4, 3);
  assert_null(dsc_safetensors_encoding("f32"));
  assert_null(dsc_safetensors_encoding("F"));
  assert_null(dsc_safetensors_encoding("F320"));
  assert_null(dsc_safetensors_encoding(""));
}

static void gguf(void **state) {
  (void)state;
  static const struct {
    uint32_t type;
    const char *name;
    int code, bits, elements, bytes;
    dsc_decode_fn decode;
  } known[] = {{0, "F32", kDLFloat, 32, 1, 4, NULL},
               {1, "F16", kDLFloat, 16, 1, 2, NULL},
               {2, "Q4_0", 0, 0, 32, 2 + 16, NULL},
               {3, "Q4_1", kDLFloat, 32, 32, 2 + 2 + 16, dsc_decode_q4_1},
               {6, "Q5_0", 0, 0, 32, 2 + 4 + 16, NULL},
               {7, "Q5_1", 0, 0, 32, 2 + 2 + 4 + 16, NULL},
               {8, "Q8_0", kDLFloat, 32, 32, 2 + 32, dsc_decode_q8_0},
               {9, "Q8_1", 0, 0, 32, 2 + 2 + 32, NULL},
               {10, "Q2_K", 0, 0, 256, 16 + 64 + 4, NULL},
               {11, "Q3_K", 0, 0, 256, 32 + 64 + 12 + 2, NULL},
               {12, "Q4_K", 0, 0, 256, 4 + 12 + 128, NULL},
               {13, "Q5_K", 0, 0, 256, 4 + 12 + 32 + 128, NULL},
               {14, "Q6_K", 0, 0, 256, 128 + 64 + 16 + 2, NULL},
               {15, "Q8_K", 0, 0, 256, 4 + 256 + 32, NULL},
               {24, "I8", kDLInt, 8, 1, 1, NULL},
               {25, "I16", kDLInt, 16, 1, 2, NULL},
               {26, "I32", kDLInt, 32, 1, 4, NULL},
               {27, "I64", kDLInt, 64, 1, 8, NULL},
               {28, "F64", kDLFloat, 64, 1, 8, NULL},
               {30, "BF16", kDLBfloat, 16, 1, 2, NULL},
               {39, "MXFP4", 0, 0, 32, 1 + 16, NULL}};
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
    const dsc_encoding *encoding = dsc_gguf_encoding(known[i].type);
    check(encoding, known[i].name, known[i].code, known[i].bits, known[i].elements, known[i].bytes);
    assert_true(encoding->decode == known[i].decode);
  }
  static const uint32_t others[] = {16, 17, 18, 19, 20, 21, 22, 23, 29, 34, 35, 40, 41};
  for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
    const dsc_encoding *encoding = dsc_gguf_encoding(others[i]);
    assert_non_null(encoding);
    assert_int_equal(encoding->dtype.bits, 0);
    assert_true(encoding->block_elements >= 32 && encoding->block_bytes >= 17);
  }
  static const uint32_t unknown[] = {4, 5, 31, 32, 33, 36, 37, 38, 42, 255, 1u << 31, UINT32_MAX};
  for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) assert_null(dsc_gguf_encoding(unknown[i]));
}

static void tensor_cache(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int code, bits;
  } plain[] = {{"bool", kDLBool, 8},
               {"int8", kDLInt, 8},
               {"int16", kDLInt, 16},
               {"int32", kDLInt, 32},
               {"int64", kDLInt, 64},
               {"uint8", kDLUInt, 8},
               {"uint16", kDLUInt, 16},
               {"uint32", kDLUInt, 32},
               {"uint64", kDLUInt, 64},
               {"float16", kDLFloat, 16},
               {"float64", kDLFloat, 64},
               {"bfloat16", kDLBfloat, 16},
               {"float8_e4m3fn", kDLFloat8_e4m3fn, 8},
               {"float8_e5m2", kDLFloat8_e5m2, 8},
               {"e4m3_float8", kDLFloat8_e4m3fn, 8}};
  for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
    const dsc_encoding *encoding = dsc_tensor_cache_encoding(plain[i].name, "raw");
    check(encoding, plain[i].name, plain[i].code, plain[i].bits, 1, plain[i].bits / 8);
    assert_null(encoding->decode);
    /* the one format of a file changes float32 alone */
    assert_ptr_equal(dsc_tensor_cache_encoding(plain[i].name, "f32-to-bf16"), encoding);
  }
  check(dsc_tensor_cache_encoding("float32", "raw"), "float32", kDLFloat, 32, 1, 4);
  const dsc_encoding *encoding = dsc_tensor_cache_encoding("float32", "f32-to-bf16");
  check(encoding, "f32-to-bf16", kDLFloat, 32, 1, 2);
  assert_true(encoding->decode == dsc_decode_bf16);
  assert_null(dsc_tensor_cache_encoding("float32", "zip"));
  assert_null(dsc_tensor_cache_encoding("float", "raw"));
  assert_null(dsc_tensor_cache_encoding("int4", "raw"));
  assert_null(dsc_tensor_cache_encoding("", ""));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(safetensors),
      cmocka_unit_test(gguf),
      cmocka_unit_test(tensor_cache),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
