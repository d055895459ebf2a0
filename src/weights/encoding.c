/* The element types of each format. Names and sizes are the formats' own: safetensors' Dtype, ggml.h's enum ggml_type
 * with the sizes of ggml-common.h's blocks, TVM's dtype strings. */
#include <string.h>

#include "weights/decode.h"
#include "weights/model.h"

#define DTYPE(code, bits) \
  { kDL##code, bits, 1 }
#define LISTED \
  { kDLOpaqueHandle, 0, 1 }
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const dsc_encoding *find(const dsc_encoding *table, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(table[i].name, name) == 0) return &table[i];
  return NULL;
}

/* ---- safetensors ---- */

/* Types of less than a byte can be listed only: no dimension of theirs is made of bytes. */
static const dsc_encoding safetensors[] = {
    {"BOOL", DTYPE(Bool, 8), 1, 1, NULL},
    {"U8", DTYPE(UInt, 8), 1, 1, NULL},
    {"I8", DTYPE(Int, 8), 1, 1, NULL},
    {"U16", DTYPE(UInt, 16), 1, 2, NULL},
    {"I16", DTYPE(Int, 16), 1, 2, NULL},
    {"U32", DTYPE(UInt, 32), 1, 4, NULL},
    {"I32", DTYPE(Int, 32), 1, 4, NULL},
    {"U64", DTYPE(UInt, 64), 1, 8, NULL},
    {"I64", DTYPE(Int, 64), 1, 8, NULL},
    {"F16", DTYPE(Float, 16), 1, 2, NULL},
    {"BF16", DTYPE(Bfloat, 16), 1, 2, NULL},
    {"F32", DTYPE(Float, 32), 1, 4, NULL},
    {"F64", DTYPE(Float, 64), 1, 8, NULL},
    {"C64", DTYPE(Complex, 64), 1, 8, NULL},
    {"F8_E4M3", DTYPE(Float8_e4m3fn, 8), 1, 1, NULL},
    {"F8_E5M2", DTYPE(Float8_e5m2, 8), 1, 1, NULL},
    {"F8_E4M3FNUZ", DTYPE(Float8_e4m3fnuz, 8), 1, 1, NULL},
    {"F8_E5M2FNUZ", DTYPE(Float8_e5m2fnuz, 8), 1, 1, NULL},
    {"F8_E8M0", DTYPE(Float8_e8m0fnu, 8), 1, 1, NULL},
    {"F6_E2M3", LISTED, 4, 3, NULL},
    {"F6_E3M2", LISTED, 4, 3, NULL},
    {"F4", LISTED, 2, 1, NULL},
};

const dsc_encoding *dsc_safetensors_encoding(const char *name) { return find(safetensors, COUNT(safetensors), name); }

/* ---- GGUF ---- */

/* By number; gaps are types that ggml has removed. */
static const dsc_encoding gguf[] = {
    [0] = {"F32", DTYPE(Float, 32), 1, 4, NULL},
    [1] = {"F16", DTYPE(Float, 16), 1, 2, NULL},
    [2] = {"Q4_0", LISTED, 32, 18, NULL},
    [3] = {"Q4_1", DTYPE(Float, 32), 32, 20, dsc_decode_q4_1},
    [6] = {"Q5_0", LISTED, 32, 22, NULL},
    [7] = {"Q5_1", LISTED, 32, 24, NULL},
    [8] = {"Q8_0", DTYPE(Float, 32), 32, 34, dsc_decode_q8_0},
    [9] = {"Q8_1", LISTED, 32, 36, NULL},
    [10] = {"Q2_K", LISTED, 256, 84, NULL},
    [11] = {"Q3_K", LISTED, 256, 110, NULL},
    [12] = {"Q4_K", LISTED, 256, 144, NULL},
    [13] = {"Q5_K", LISTED, 256, 176, NULL},
    [14] = {"Q6_K", LISTED, 256, 210, NULL},
    [15] = {"Q8_K", LISTED, 256, 292, NULL},
    [16] = {"IQ2_XXS", LISTED, 256, 66, NULL},
    [17] = {"IQ2_XS", LISTED, 256, 74, NULL},
    [18] = {"IQ3_XXS", LISTED, 256, 98, NULL},
    [19] = {"IQ1_S", LISTED, 256, 50, NULL},
    [20] = {"IQ4_NL", LISTED, 32, 18, NULL},
    [21] = {"IQ3_S", LISTED, 256, 110, NULL},
    [22] = {"IQ2_S", LISTED, 256, 82, NULL},
    [23] = {"IQ4_XS", LISTED, 256, 136, NULL},
    [24] = {"I8", DTYPE(Int, 8), 1, 1, NULL},
    [25] = {"I16", DTYPE(Int, 16), 1, 2, NULL},
    [26] = {"I32", DTYPE(Int, 32), 1, 4, NULL},
    [27] = {"I64", DTYPE(Int, 64), 1, 8, NULL},
    [28] = {"F64", DTYPE(Float, 64), 1, 8, NULL},
    [29] = {"IQ1_M", LISTED, 256, 56, NULL},
    [30] = {"BF16", DTYPE(Bfloat, 16), 1, 2, NULL},
    [34] = {"TQ1_0", LISTED, 256, 54, NULL},
    [35] = {"TQ2_0", LISTED, 256, 66, NULL},
    [39] = {"MXFP4", LISTED, 32, 17, NULL},
    [40] = {"NVFP4", LISTED, 64, 36, NULL},
    [41] = {"Q1_0", LISTED, 128, 18, NULL},
};

const dsc_encoding *dsc_gguf_encoding(uint32_t type) {
  return type < COUNT(gguf) && gguf[type].name != NULL ? &gguf[type] : NULL;
}

/* ---- TVM's tensor cache ---- */

static const dsc_encoding tensor_cache[] = {
    {"bool", DTYPE(Bool, 8), 1, 1, NULL},
    {"int8", DTYPE(Int, 8), 1, 1, NULL},
    {"int16", DTYPE(Int, 16), 1, 2, NULL},
    {"int32", DTYPE(Int, 32), 1, 4, NULL},
    {"int64", DTYPE(Int, 64), 1, 8, NULL},
    {"uint8", DTYPE(UInt, 8), 1, 1, NULL},
    {"uint16", DTYPE(UInt, 16), 1, 2, NULL},
    {"uint32", DTYPE(UInt, 32), 1, 4, NULL},
    {"uint64", DTYPE(UInt, 64), 1, 8, NULL},
    {"float16", DTYPE(Float, 16), 1, 2, NULL},
    {"float32", DTYPE(Float, 32), 1, 4, NULL},
    {"float64", DTYPE(Float, 64), 1, 8, NULL},
    {"bfloat16", DTYPE(Bfloat, 16), 1, 2, NULL},
    {"float8_e3m4", DTYPE(Float8_e3m4, 8), 1, 1, NULL},
    {"float8_e4m3", DTYPE(Float8_e4m3, 8), 1, 1, NULL},
    {"float8_e4m3b11fnuz", DTYPE(Float8_e4m3b11fnuz, 8), 1, 1, NULL},
    {"float8_e4m3fn", DTYPE(Float8_e4m3fn, 8), 1, 1, NULL},
    {"float8_e4m3fnuz", DTYPE(Float8_e4m3fnuz, 8), 1, 1, NULL},
    {"float8_e5m2", DTYPE(Float8_e5m2, 8), 1, 1, NULL},
    {"float8_e5m2fnuz", DTYPE(Float8_e5m2fnuz, 8), 1, 1, NULL},
    {"float8_e8m0fnu", DTYPE(Float8_e8m0fnu, 8), 1, 1, NULL},
    /* older spellings */
    {"e4m3_float8", DTYPE(Float8_e4m3fn, 8), 1, 1, NULL},
    {"e5m2_float8", DTYPE(Float8_e5m2, 8), 1, 1, NULL},
};

static const dsc_encoding f32_to_bf16 = {"f32-to-bf16", DTYPE(Float, 32), 1, 2, dsc_decode_bf16};

/* The writer names one format for the whole file, and "f32-to-bf16" changes float32 alone. */
const dsc_encoding *dsc_tensor_cache_encoding(const char *dtype, const char *format) {
  const bool is_bf16 = strcmp(format, "f32-to-bf16") == 0;
  if (!is_bf16 && strcmp(format, "raw") != 0) return NULL;
  if (is_bf16 && strcmp(dtype, "float32") == 0) return &f32_to_bf16;
  return find(tensor_cache, COUNT(tensor_cache), dtype);
}
