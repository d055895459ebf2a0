/* Values as bytes: what goes in comes out, what may not travel is refused with a sentence, and no bytes whatever make
 * the reader read beyond them, crash or leak (the sanitizer builds look). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/inject.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/object.h"
#include "ffi/tensor.h"
#include "wire/pack.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const DLDevice CPU = {kDLCPU, 0};
static const DLDataType UINT8 = {kDLUInt, 8, 1}, INT16 = {kDLInt, 16, 1}, FLOAT32 = {kDLFloat, 32, 1},
                        BFLOAT16 = {kDLBfloat, 16, 1}, INT4 = {kDLInt, 4, 1};

/* ---- Values ---- */

/* The result of a registered function, which takes over the arguments. */
static TVMFFIAny make(const char *function, int32_t count, TVMFFIAny *args) {
  TVMFFIObject *object = NULL;
  TVMFFIAny result = dsc_none();
  assert_int_equal(dsc_function_find(function, &object), DISCO_OK);
  assert_non_null(object);
  assert_int_equal(TVMFFIFunctionCall(object, args, count, &result), 0);
  dsc_object_unref(object);
  for (int32_t i = 0; i < count; i++) dsc_value_drop(&args[i]);
  return result;
}
#define MAKE(function, ...) make(function, (int32_t)COUNT(((TVMFFIAny[]){__VA_ARGS__})), (TVMFFIAny[]){__VA_ARGS__})

static TVMFFIAny text_of(size_t size) {
  char *text = calloc(1, size + 1);
  TVMFFIAny value;
  for (size_t i = 0; i < size; i++) text[i] = (char)(i % 7 == 3 ? 0 : 'a' + i % 26); /* zeros belong to it */
  assert_int_equal(dsc_value_from_string(text, size, &value), DISCO_OK);
  free(text);
  return value;
}

static TVMFFIAny bytes_of(size_t size) {
  char *memory = malloc(size + 1);
  TVMFFIByteArray bytes = {memory, size};
  TVMFFIAny value = dsc_none();
  for (size_t i = 0; i < size; i++) memory[i] = (char)(i * 37);
  assert_int_equal(TVMFFIBytesFromByteArray(&bytes, &value), 0);
  free(memory);
  return value;
}

static TVMFFIAny error_of(const char *kind, const char *message, const char *backtrace) {
  TVMFFIByteArray parts[] = {{kind, strlen(kind)}, {message, strlen(message)}, {backtrace, strlen(backtrace)}};
  TVMFFIObjectHandle error = NULL;
  assert_int_equal(TVMFFIErrorCreate(&parts[0], &parts[1], &parts[2], &error), 0);
  return dsc_object_value(error);
}

static TVMFFIAny tensor_of(DLDataType dtype, int32_t ndim, const int64_t *shape) {
  TVMFFIObjectHandle object = NULL;
  assert_int_equal(dsc_tensor_create(ndim, shape, dtype, CPU, &object), DISCO_OK);
  TVMFFIAny value = dsc_object_value(object);
  uint64_t bytes = 0;
  assert_true(dsc_tensor_bytes(dsc_tensor_of(&value), &bytes));
  for (uint64_t i = 0; i < bytes; i++) ((uint8_t *)dsc_tensor_of(&value)->data)[i] = (uint8_t)(i * 13 + 5);
  return value;
}

typedef struct {
  TVMFFIObject header;
  DLTensor tensor;
  int64_t sizes[128];
  int16_t data[64];
} strided;

static void delete_view(void *object, int flags) {
  if ((flags & kTVMFFIObjectDeleterFlagBitMaskWeak) != 0) dsc_object_free(object);
}

/* A tensor on 64 numbers of its own, strided and with an offset as wanted. */
static strided *make_view(DLDataType dtype, int32_t ndim, const int64_t *shape, const int64_t *strides,
                          uint64_t offset) {
  strided *v = dsc_object_create(sizeof(*v), kTVMFFITensor, delete_view);
  assert_non_null(v);
  for (int i = 0; i < 64; i++) v->data[i] = (int16_t)(100 + i);
  memcpy(v->sizes, shape, (size_t)ndim * sizeof(*shape));
  if (strides != NULL) memcpy(v->sizes + 64, strides, (size_t)ndim * sizeof(*strides));
  v->tensor = (DLTensor){v->data, CPU, ndim, dtype, v->sizes, strides != NULL ? v->sizes + 64 : NULL, offset};
  return v;
}

static TVMFFIAny dtype_value(DLDataType dtype) {
  TVMFFIAny value = dsc_none();
  value.type_index = kTVMFFIDataType;
  value.v_dtype = dtype;
  return value;
}

static TVMFFIAny float_value(double number) {
  TVMFFIAny value = dsc_none();
  value.type_index = kTVMFFIFloat;
  value.v_float64 = number;
  return value;
}

static TVMFFIAny bool_value(int64_t number) {
  TVMFFIAny value = dsc_int(number);
  value.type_index = kTVMFFIBool;
  return value;
}

static TVMFFIAny device_value(void) {
  TVMFFIAny value = dsc_none();
  value.type_index = kTVMFFIDevice;
  value.v_device = (DLDevice){kDLCUDA, 7};
  return value;
}

static TVMFFIAny nested(int depth) {
  TVMFFIAny value = dsc_int(depth);
  for (int i = 0; i < depth; i++)
    value = i % 2 == 0 ? MAKE("ffi.Array", value, dsc_int(i)) : MAKE("ffi.Map", text_of((size_t)i), value);
  return value;
}

static TVMFFIAny strided_value(void) {
  return dsc_object_value(make_view(INT16, 2, (const int64_t[]){3, 4}, (const int64_t[]){1, 3}, 4));
}

static TVMFFIAny offset_value(void) { return dsc_object_value(make_view(INT16, 1, (const int64_t[]){5}, NULL, 6)); }

static TVMFFIAny mixed_value(void) {
  TVMFFIAny inner = MAKE("ffi.Array", text_of(0), tensor_of(FLOAT32, 2, (const int64_t[]){2, 3}), dsc_none());
  TVMFFIAny map = MAKE("ffi.Map", text_of(3), inner, text_of(30), bytes_of(21), dsc_int(5),
                       MAKE("ffi.Map", dsc_int(1), float_value(2.5)));
  return MAKE("ffi.Array", map, MAKE("ffi.Shape", dsc_int(4), dsc_int(5)), error_of("ValueError", "no", "File \"a\""),
              text_of(100), tensor_of(UINT8, 1, (const int64_t[]){200}), bool_value(1));
}

enum { NUM_SAMPLES = 38 };

/* Every type, at its borders. */
static TVMFFIAny sample(int which) {
  const int64_t none[] = {4, 0, 3}, some[] = {2, 3}, five[] = {5}, page[] = {4096};
  switch (which) {
  case 0: return dsc_none();
  case 1: return dsc_int(0);
  case 2: return dsc_int(INT64_MIN);
  case 3: return bool_value(0);
  case 4: return bool_value(1);
  case 5: return float_value(-0.0);
  case 6: return float_value(1e300);
  case 7: return dtype_value(BFLOAT16);
  case 8: return device_value();
  case 9: return text_of(0);
  case 10: return text_of(7);
  case 11: return text_of(8);
  case 12: return text_of(9);
  case 13: return text_of(16);
  case 14: return text_of(5000);
  case 15: return bytes_of(0);
  case 16: return bytes_of(7);
  case 17: return bytes_of(8);
  case 18: return bytes_of(4097);
  case 19: return make("ffi.Shape", 0, NULL);
  case 20: return MAKE("ffi.Shape", dsc_int(3), dsc_int(-1), dsc_int(0));
  case 21: return tensor_of(FLOAT32, 0, NULL);
  case 22: return tensor_of(FLOAT32, 3, none);
  case 23: return tensor_of(FLOAT32, 2, some);
  case 24: return tensor_of(BFLOAT16, 1, five);
  case 25: return tensor_of(INT4, 1, five);
  case 26: return tensor_of(FLOAT32, 1, page);
  case 27: return strided_value();
  case 28: return offset_value();
  case 29: return error_of("MyError", "the message", "  File \"a.py\", line 3, in f");
  case 30: return error_of("", "", "");
  case 31: return make("ffi.Array", 0, NULL);
  case 32: return make("ffi.Map", 0, NULL);
  case 33: return MAKE("ffi.Array", dsc_int(1), text_of(40), dsc_none());
  case 34: return MAKE("ffi.Map", text_of(2), dsc_int(1), text_of(20), text_of(21), dsc_int(7), dsc_none());
  case 35: return nested(DSC_PACK_MAX_NESTING);
  case 36: return mixed_value();
  default: return dsc_object_value(make_view(INT16, 2, (const int64_t[]){3, 2}, (const int64_t[]){0, -1}, 10));
  }
}

static unsigned sample_needs(const TVMFFIAny *value) {
  return value->type_index == kTVMFFIArray || value->type_index == kTVMFFIMap ? DSC_PACK_CONTAINERS : DSC_PACK_PLAIN;
}

/* ---- Are two values the same? ---- */

static void assert_same(const TVMFFIAny *a, const TVMFFIAny *b);

static void assert_same_bytes(TVMFFIByteArray a, TVMFFIByteArray b) {
  assert_int_equal(a.size, b.size);
  if (a.size > 0) assert_memory_equal(a.data, b.data, a.size);
}

static void assert_same_tensors(const DLTensor *a, const DLTensor *b) {
  uint64_t bytes = 0, other = 0;
  assert_int_equal(a->ndim, b->ndim);
  assert_memory_equal(&a->dtype, &b->dtype, sizeof(a->dtype));
  assert_int_equal(b->device.device_type, kDLCPU);
  for (int32_t i = 0; i < a->ndim; i++) assert_int_equal(a->shape[i], b->shape[i]);
  assert_true(dsc_tensor_is_contiguous(b));
  assert_int_equal((uintptr_t)b->data % DSC_TENSOR_ALIGNMENT, 0);
  assert_int_equal(b->byte_offset, 0);
  assert_true(dsc_tensor_bytes(a, &bytes));
  assert_true(dsc_tensor_bytes(b, &other));
  assert_int_equal(bytes, other);
  if (dsc_tensor_is_contiguous(a)) {
    if (bytes > 0) assert_memory_equal((const char *)a->data + a->byte_offset, b->data, bytes);
    return;
  }
  assert_int_equal(a->ndim, 2); /* of int16, element by element */
  for (int64_t i = 0; i < a->shape[0]; i++)
    for (int64_t k = 0; k < a->shape[1]; k++) {
      const int16_t *from = (const int16_t *)((const char *)a->data + a->byte_offset);
      assert_int_equal(from[i * a->strides[0] + k * a->strides[1]], ((const int16_t *)b->data)[i * a->shape[1] + k]);
    }
}

static void assert_same_maps(const TVMFFIAny *a, const TVMFFIAny *b) {
  TVMFFIAny walk = make("ffi.MapForwardIterFunctor", 1, (TVMFFIAny[]){dsc_value_copy(a)});
  TVMFFIAny size = make("ffi.MapSize", 1, (TVMFFIAny[]){dsc_value_copy(a)});
  TVMFFIAny other = make("ffi.MapSize", 1, (TVMFFIAny[]){dsc_value_copy(b)});
  assert_int_equal(size.v_int64, other.v_int64);
  for (int64_t i = 0; i < size.v_int64; i++) {
    TVMFFIAny key = dsc_none(), value = dsc_none(), more = dsc_none(), step[] = {dsc_int(0), dsc_int(1), dsc_int(2)};
    assert_int_equal(TVMFFIFunctionCall(walk.v_obj, &step[0], 1, &key), 0);
    assert_int_equal(TVMFFIFunctionCall(walk.v_obj, &step[1], 1, &value), 0);
    assert_int_equal(TVMFFIFunctionCall(walk.v_obj, &step[2], 1, &more), 0);
    TVMFFIAny found = make("ffi.MapGetItem", 2, (TVMFFIAny[]){dsc_value_copy(b), key});
    assert_same(&value, &found);
    dsc_value_drop(&value);
    dsc_value_drop(&found);
  }
  dsc_value_drop(&walk);
}

static void assert_same(const TVMFFIAny *a, const TVMFFIAny *b) {
  TVMFFIByteArray one, two;
  assert_int_equal(a->type_index, b->type_index);
  if (dsc_value_string(a, &one)) {
    assert_true(dsc_value_string(b, &two));
    assert_same_bytes(one, two);
  }
  if (!dsc_is_object(a)) {
    assert_memory_equal(a, b, sizeof(*a)); /* all bytes: TVM compares and hashes them raw */
    return;
  }
  assert_int_equal(b->v_obj->type_index, b->type_index);
  if (a->type_index == kTVMFFIShape) {
    const TVMFFIShapeCell *x = (const TVMFFIShapeCell *)(a->v_obj + 1), *y = (const TVMFFIShapeCell *)(b->v_obj + 1);
    assert_same_bytes((TVMFFIByteArray){(const char *)x->data, x->size * 8},
                      (TVMFFIByteArray){(const char *)y->data, y->size * 8});
  } else if (a->type_index == kTVMFFITensor) {
    assert_same_tensors(dsc_tensor_of(a), dsc_tensor_of(b));
  } else if (a->type_index == kTVMFFIError) {
    dsc_error_parts x, y;
    dsc_error_parts_of(a->v_obj, &x);
    dsc_error_parts_of(b->v_obj, &y);
    assert_same_bytes(x.kind, y.kind);
    assert_same_bytes(x.message, y.message);
    assert_same_bytes(x.backtrace, y.backtrace);
  } else if (a->type_index == kTVMFFIMap) {
    assert_same_maps(a, b);
  } else if (a->type_index == kTVMFFIArray) {
    const TVMFFISeqCell *x = (const TVMFFISeqCell *)(a->v_obj + 1), *y = (const TVMFFISeqCell *)(b->v_obj + 1);
    assert_int_equal(x->size, y->size);
    for (int64_t i = 0; i < x->size; i++) assert_same((const TVMFFIAny *)x->data + i, (const TVMFFIAny *)y->data + i);
  }
}

/* ---- Packing in a test ---- */

/* A packed value in memory of exactly its size, and its side file's. */
typedef struct {
  char *bytes, *side;
  uint64_t size, side_size;
} packed;

static void free_packed(packed *p) {
  free(p->bytes);
  free(p->side);
}

/* What memory holds before something is packed there. */
static int garbage = 0xa5;

static packed pack(const TVMFFIAny *value, uint64_t threshold) {
  dsc_pack_side side = {.threshold = threshold};
  packed p = {0};
  assert_int_equal(dsc_pack_measure(value, sample_needs(value), "it", &side, &p.size), DISCO_OK);
  assert_int_equal(p.size % 8, 0);
  assert_int_equal(side.bytes % 8, 0);
  p.bytes = malloc(p.size);
  memset(p.bytes, garbage, p.size);
  p.side_size = side.bytes;
  if (side.bytes > 0) {
    assert_int_equal(posix_memalign((void **)&p.side, DSC_PACK_SIDE_ALIGN, side.bytes), 0);
    memset(p.side, garbage, side.bytes);
  }
  side.base = p.side;
  assert_ptr_equal(dsc_pack(value, &side, p.bytes), p.bytes + p.size);
  assert_int_equal(side.used, side.bytes);
  return p;
}

typedef struct {
  dsc_side_view view;
  int held, ever;
} counted_view;

static void hold(dsc_side_view *side) {
  ((counted_view *)side)->held++;
  ((counted_view *)side)->ever++;
}
static void release(dsc_side_view *side) { ((counted_view *)side)->held--; }

static counted_view view_of(const packed *p, bool held) {
  return (counted_view){.view = {p->side, p->side_size, held ? hold : NULL, held ? release : NULL}};
}

static disco_status unpack(const packed *p, counted_view *side, TVMFFIAny *ret_value) {
  uint64_t used = 0;
  disco_status status = dsc_unpack(p->bytes, p->size, DSC_PACK_CONTAINERS, &side->view, ret_value, &used);
  if (status == DISCO_OK) assert_int_equal(used, p->size);
  return status;
}

static const uint64_t THRESHOLDS[] = {UINT64_MAX, 1, 0, 8, 4096};

static void every_value_comes_back(void **state) {
  (void)state;
  for (int i = 0; i < NUM_SAMPLES; i++) {
    for (size_t t = 0; t < 2 * COUNT(THRESHOLDS); t++) {
      TVMFFIAny value = sample(i), back;
      packed p = pack(&value, THRESHOLDS[t / 2]);
      counted_view side = view_of(&p, t % 2 != 0);
      assert_int_equal(unpack(&p, &side, &back), DISCO_OK);
      assert_same(&value, &back);
      dsc_value_drop(&back);
      assert_int_equal(side.held, 0); /* nobody has it any more */
      dsc_value_drop(&value);
      free_packed(&p);
    }
  }
}

/* All that is not a value's is zero: what two workers get does not depend on what was in memory before. */
static void the_bytes_are_the_same_each_time(void **state) {
  (void)state;
  for (int i = 0; i < NUM_SAMPLES; i++) {
    TVMFFIAny value = sample(i), back;
    packed p = pack(&value, 64), again;
    counted_view side = view_of(&p, false);
    assert_int_equal(unpack(&p, &side, &back), DISCO_OK);
    if (back.type_index != kTVMFFIMap) { /* whose order is TVM's affair */
      garbage = 0x3c;
      again = pack(&back, 64);
      garbage = 0xa5;
      assert_int_equal(again.size, p.size);
      assert_memory_equal(again.bytes, p.bytes, p.size);
      assert_int_equal(again.side_size, p.side_size);
      if (p.side_size > 0) assert_memory_equal(again.side, p.side, p.side_size);
      free_packed(&again);
    }
    dsc_value_drop(&back);
    dsc_value_drop(&value);
    free_packed(&p);
  }
}

static void small_values_take_16_bytes(void **state) {
  (void)state;
  for (int i = 0; i <= 10; i++) {
    TVMFFIAny value = sample(i);
    packed p = pack(&value, 0);
    assert_int_equal(p.size, 16);
    assert_memory_equal(p.bytes, &value, 16); /* a packed small value is the value */
    dsc_value_drop(&value);
    free_packed(&p);
  }
  TVMFFIAny dirty = bool_value(5), back;
  dirty.zero_padding = 0xffff;
  packed p = pack(&dirty, 0);
  counted_view side = {0};
  assert_int_equal(unpack(&p, &side, &back), DISCO_OK);
  TVMFFIAny clean = bool_value(1);
  assert_memory_equal(&back, &clean, sizeof(back));
  free_packed(&p);
}

static void sizes_are_as_documented(void **state) {
  (void)state;
  const struct {
    int sample;
    uint64_t size;
  } cases[] = {{11, 16 + 8 + 8}, {12, 16 + 8 + 16}, {19, 16 + 8},           {20, 16 + 8 + 24},
               {21, 16 + 8 + 8}, {22, 16 + 8 + 24}, {23, 16 + 8 + 16 + 24}, {25, 16 + 8 + 8 + 8},
               {30, 16 + 24},    {31, 16 + 8},      {32, 16 + 8},           {33, 16 + 8 + 16 + (16 + 8 + 40) + 16}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    TVMFFIAny value = sample(cases[i].sample);
    packed p = pack(&value, UINT64_MAX);
    assert_int_equal(p.size, cases[i].size);
    assert_int_equal(p.side_size, 0);
    if (value.type_index >= kTVMFFIStaticObjectBegin) assert_int_equal(((dsc_packed *)p.bytes)->payload, p.size - 16);
    dsc_value_drop(&value);
    free_packed(&p);
  }
}

static void borrowed_strings_become_owned(void **state) {
  (void)state;
  const char *texts[] = {"", "seven77", "eight888", "a longer text than these"};
  for (size_t i = 0; i < COUNT(texts); i++) {
    TVMFFIByteArray bytes = {texts[i], strlen(texts[i])}, got;
    TVMFFIAny raw = dsc_none(), array = dsc_none(), back;
    counted_view side = {0};
    raw.type_index = kTVMFFIRawStr;
    raw.v_c_str = texts[i];
    array.type_index = kTVMFFIByteArrayPtr;
    array.v_ptr = &bytes;
    packed p = pack(&raw, UINT64_MAX), q = pack(&array, UINT64_MAX);
    assert_int_equal(unpack(&p, &side, &back), DISCO_OK);
    assert_int_equal(back.type_index, bytes.size <= 7 ? kTVMFFISmallStr : kTVMFFIStr);
    assert_true(dsc_value_string(&back, &got));
    assert_same_bytes(bytes, got);
    dsc_value_drop(&back);
    assert_int_equal(unpack(&q, &side, &back), DISCO_OK);
    assert_int_equal(back.type_index, bytes.size <= 7 ? kTVMFFISmallBytes : kTVMFFIBytes);
    dsc_value_drop(&back);
    free_packed(&p);
    free_packed(&q);
  }
}

/* ---- The side file ---- */

static void large_data_goes_aside_on_pages(void **state) {
  (void)state;
  const int64_t shape[] = {100};
  TVMFFIAny value = MAKE("ffi.Array", text_of(99), text_of(100), tensor_of(UINT8, 1, shape), bytes_of(5001),
                         tensor_of(UINT8, 1, shape));
  TVMFFIAny back;
  packed p = pack(&value, 100);
  assert_int_equal(p.side_size, 4 * 4096 + 104); /* four of them; the bytes take two pages */
  assert_int_equal(p.size, 16 + 8 + (24 + 104) + (16 + 16) + (16 + 16 + 16) + (16 + 16) + (16 + 16 + 16));
  counted_view side = view_of(&p, true);
  assert_int_equal(unpack(&p, &side, &back), DISCO_OK);
  assert_int_equal(side.held, 2); /* the tensors; strings are copies */
  const TVMFFIAny *items = ((const TVMFFISeqCell *)(back.v_obj + 1))->data;
  assert_ptr_equal(dsc_tensor_of(&items[2])->data, p.side + 4096);
  assert_ptr_equal(dsc_tensor_of(&items[4])->data, p.side + 4 * 4096);
  TVMFFIAny kept = dsc_value_copy(&items[4]);
  dsc_value_drop(&back);
  assert_int_equal(side.held, 1); /* as long as one of them lives */
  ((uint8_t *)dsc_tensor_of(&kept)->data)[99] = 1;
  dsc_value_drop(&kept);
  assert_int_equal(side.held, 0);
  assert_int_equal(side.ever, 2);
  dsc_value_drop(&value);
  free_packed(&p);
}

/* Several values share one side file: each continues where the last ended. */
static void values_follow_each_other_in_the_side_file(void **state) {
  (void)state;
  TVMFFIAny values[] = {bytes_of(10), bytes_of(20), bytes_of(5000), bytes_of(30)};
  dsc_pack_side side = {.threshold = 15};
  uint64_t sizes[4], used = 0, all = 0;
  for (int i = 0; i < 4; i++) {
    assert_int_equal(dsc_pack_measure(&values[i], 0, "it", &side, &sizes[i]), DISCO_OK);
    all += sizes[i];
  }
  assert_int_equal(side.bytes, 3 * 4096 + 32);
  char *bytes = malloc(all), *at = bytes;
  assert_int_equal(posix_memalign((void **)&side.base, 4096, side.bytes), 0);
  for (int i = 0; i < 4; i++) at = dsc_pack(&values[i], &side, at);
  assert_ptr_equal(at, bytes + all);
  dsc_side_view view = {.base = side.base, .bytes = side.bytes};
  at = bytes;
  for (int i = 0; i < 4; i++) {
    TVMFFIAny back;
    assert_int_equal(dsc_unpack(at, all - (uint64_t)(at - bytes), 0, &view, &back, &used), DISCO_OK);
    assert_int_equal(used, sizes[i]);
    assert_same(&values[i], &back);
    dsc_value_drop(&back);
    dsc_value_drop(&values[i]);
    at += used;
  }
  free(bytes);
  free(side.base);
}

static void a_refused_value_leaves_the_side_as_it_was(void **state) {
  (void)state;
  TVMFFIAny pointer = dsc_none();
  pointer.type_index = kTVMFFIOpaquePtr;
  TVMFFIAny value = MAKE("ffi.Array", bytes_of(5000), pointer);
  dsc_pack_side side = {.threshold = 1, .bytes = 88};
  uint64_t size = 7;
  assert_int_equal(dsc_pack_measure(&value, DSC_PACK_CONTAINERS, "it", &side, &size), DISCO_TYPE);
  assert_int_equal(side.bytes, 88);
  assert_int_equal(size, 7);
  dsc_value_drop(&value);
}

/* ---- What may not travel ---- */

static void refuse(TVMFFIAny value, unsigned allowed, disco_status status, const char *sentence) {
  dsc_pack_side side = {.threshold = 1 << 16};
  uint64_t bytes = 0;
  assert_int_equal(dsc_pack_measure(&value, allowed, "argument 3", &side, &bytes), status);
  assert_string_equal(dsc_thread_error()->message, sentence);
  dsc_value_drop(&value);
}

static void types_that_cannot_travel_are_named(void **state) {
  (void)state;
#define NOT(type) "argument 3 is a `" type "`, which cannot travel to another process: thread workers only"
  TVMFFIAny value = dsc_none();
  TVMFFIObject *object = NULL;
  assert_int_equal(dsc_function_find("ffi.Array", &object), DISCO_OK);
  refuse(dsc_object_value(object), 0, DISCO_TYPE, NOT("ffi.Function"));
  value.type_index = kTVMFFIOpaquePtr;
  refuse(value, 0, DISCO_TYPE, NOT("void*"));
  value.type_index = kTVMFFIDLTensorPtr;
  refuse(value, 0, DISCO_TYPE, NOT("DLTensor*"));
  value.type_index = kTVMFFIObjectRValueRef;
  refuse(value, 0, DISCO_TYPE, NOT("ObjectRValueRef"));
  value.type_index = kTVMFFIUnchanged;
  refuse(value, 0, DISCO_TYPE, NOT("unknown"));
  value.type_index = -1;
  refuse(value, 0, DISCO_TYPE, NOT("unknown"));
  refuse(MAKE("ffi.List", dsc_int(1)), DSC_PACK_CONTAINERS, DISCO_TYPE, NOT("ffi.List"));
  dsc_dref *dref = dsc_object_create(sizeof(*dref), DSC_TYPE_DREF, delete_view);
  refuse(dsc_object_value(dref), DSC_PACK_CONTAINERS, DISCO_TYPE, NOT("runtime.disco.DRef"));
  value.type_index = kTVMFFIOpaquePtr; /* inside containers, too */
  refuse(MAKE("ffi.Array", MAKE("ffi.Map", dsc_int(1), value)), DSC_PACK_CONTAINERS, DISCO_TYPE, NOT("void*"));
#undef NOT
  refuse(make("ffi.Array", 0, NULL), DSC_PACK_PLAIN, DISCO_TYPE,
         "argument 3 is a `ffi.Array`, which travels to another process only when a register is written or read for "
         "debugging: pass its elements one by one, or use thread workers");
  refuse(make("ffi.Map", 0, NULL), DSC_PACK_PLAIN, DISCO_TYPE,
         "argument 3 is a `ffi.Map`, which travels to another process only when a register is written or read for "
         "debugging: pass its elements one by one, or use thread workers");
}

static void values_beyond_the_limits_are_refused(void **state) {
  (void)state;
  char one = 0;
  TVMFFIByteArray long_text = {&one, DSC_STRING_MAX + 1};
  TVMFFIAny value = dsc_none();
  value.type_index = kTVMFFIByteArrayPtr;
  value.v_ptr = &long_text;
  refuse(value, 0, DISCO_VALUE, "argument 3 is a string of 268435457 bytes; at most 268435456 can be sent");
  refuse(nested(DSC_PACK_MAX_NESTING + 1), DSC_PACK_CONTAINERS, DISCO_VALUE,
         "argument 3 has containers nested more than 16 deep, which cannot travel to another process");

  int64_t shape[65];
  for (int i = 0; i < 65; i++) shape[i] = 1;
  strided *v = make_view(UINT8, 64, shape, NULL, 0);
  v->tensor.ndim = 65;
  refuse(dsc_object_value(v), 0, DISCO_VALUE, "argument 3 is a tensor of 65 dimensions; at most 64 can be sent");
  v = make_view(UINT8, 1, shape, NULL, 0);
  v->tensor.device = (DLDevice){kDLCUDA, 1};
  refuse(dsc_object_value(v), 0, DISCO_VALUE,
         "argument 3 is a tensor on device type 2:1; only tensors on the CPU can travel to another process: copy it "
         "there first");
  shape[0] = shape[1] = INT64_MAX;
  refuse(dsc_object_value(make_view(UINT8, 2, shape, NULL, 0)), 0, DISCO_VALUE,
         "argument 3 is a tensor of more than 2^63 bits");
  v = make_view((DLDataType){kDLUInt, 0, 1}, 1, shape, NULL, 0);
  refuse(dsc_object_value(v), 0, DISCO_VALUE, "argument 3 is a tensor of a dtype of 0 bits and 1 lanes, which is none");
  shape[0] = 3;
  v = make_view(UINT8, 1, shape, NULL, 0);
  v->tensor.data = NULL;
  refuse(dsc_object_value(v), 0, DISCO_VALUE, "argument 3 is a tensor without data");
  refuse(dsc_object_value(make_view(INT4, 1, shape, (const int64_t[]){2}, 0)), 0, DISCO_VALUE,
         "argument 3 is a strided tensor of more than 32 dimensions or of elements that are not whole bytes: make it "
         "contiguous first");
}

/* Tensors that only claim to be large: their sizes must not wrap when they are added up. */
static void sums_do_not_overflow(void **state) {
  (void)state;
  const int64_t shape[] = {(int64_t)1 << 59}, strides[] = {0};
  TVMFFIAny args[17];
  for (int i = 0; i < 17; i++) args[i] = dsc_object_value(make_view(UINT8, 1, shape, strides, 0));
  TVMFFIAny value = make("ffi.Array", 17, args);
  for (int aside = 0; aside < 2; aside++) {
    dsc_pack_side side = {.threshold = aside ? 1 : UINT64_MAX};
    uint64_t bytes = 0;
    assert_int_equal(dsc_pack_measure(&value, DSC_PACK_CONTAINERS, "it", &side, &bytes), DISCO_VALUE);
    assert_string_equal(dsc_thread_error()->message, "it has more than 2^63 bytes in all");
  }
  dsc_value_drop(&value);
}

/* ---- Bytes of a stranger ---- */

static void every_cut_value_is_lost(void **state) {
  (void)state;
  for (int i = 0; i < NUM_SAMPLES; i++) {
    for (size_t t = 0; t < 2; t++) {
      TVMFFIAny value = sample(i), back = dsc_int(4711);
      packed p = pack(&value, t == 0 ? UINT64_MAX : 1);
      counted_view side = view_of(&p, true);
      uint64_t step = p.size > 1000 ? 61 : 1, used = 99;
      for (uint64_t size = 0; size < p.size; size += step) {
        char *cut = malloc(size); /* no byte more: a read beyond the end is seen */
        memcpy(cut, p.bytes, size);
        assert_int_equal(dsc_unpack(cut, size, DSC_PACK_CONTAINERS, &side.view, &back, &used), DISCO_LOST);
        free(cut);
      }
      for (uint64_t size = 0; size<p.side_size; size += p.side_size> 999 ? 997 : 1) {
        side.view.bytes = size;
        disco_status status = unpack(&p, &side, &back);
        if (size + 8 <= p.side_size) assert_int_equal(status, DISCO_LOST); /* the last 7 may be padding */
        if (status == DISCO_OK) dsc_value_drop(&back);
        back = dsc_int(4711);
      }
      assert_int_equal(side.held, 0);
      assert_int_equal(back.v_int64, 4711); /* outputs only on success */
      assert_int_equal(used, 99);
      dsc_value_drop(&value);
      free_packed(&p);
    }
  }
}

static void malform(const uint64_t *words, size_t count, unsigned allowed, const char *sentence) {
  char *bytes = malloc(count * 8), page[64] = {0};
  dsc_side_view side = {.base = page, .bytes = sizeof(page)};
  TVMFFIAny value;
  uint64_t used = 0;
  memcpy(bytes, words, count * 8);
  assert_int_equal(dsc_unpack(bytes, count * 8, allowed, &side, &value, &used), DISCO_LOST);
  const char *message = dsc_thread_error()->message;
  assert_memory_equal(message, "malformed packed value: ", 24);
  assert_string_equal(message + 24, sentence);
  free(bytes);
}

static void malformed_values_are_named(void **state) {
  (void)state;
#define MALFORM(allowed, sentence, ...) \
  malform((const uint64_t[]){__VA_ARGS__}, COUNT(((const uint64_t[]){__VA_ARGS__})), allowed, sentence)
#define HEAD(type, extra) ((uint64_t)(extra) << 32 | (uint32_t)(type))
#define DTYPE(code, bits, lanes, ndim) ((uint64_t)(uint32_t)(ndim) << 32 | (lanes) << 16 | (bits) << 8 | (code))
#define SUNK(type) "type index " type " has a body of "
  MALFORM(0, "8 bytes where a head of 16 is needed", HEAD(kTVMFFIInt, 0));
  MALFORM(0, "type 1 with 1 and 0x5", HEAD(kTVMFFIInt, 1), 5);
  MALFORM(0, "type 0 with 0 and 0x1", HEAD(kTVMFFINone, 0), 1);
  MALFORM(0, "type 2 with 0 and 0x2", HEAD(kTVMFFIBool, 0), 2);
  MALFORM(0, "type 5 with 0 and 0x100000000", HEAD(kTVMFFIDataType, 0), (uint64_t)1 << 32);
  MALFORM(0, "type 11 with 8 and 0x0", HEAD(kTVMFFISmallStr, 8), 0);
  MALFORM(0, "type 11 with 2 and 0x616161", HEAD(kTVMFFISmallStr, 2), 0x616161);
  MALFORM(0, "type 12 with 0 and 0x61", HEAD(kTVMFFISmallBytes, 0), 0x61);
  /* no type that may travel */
  MALFORM(0, "type index 4 cannot travel", HEAD(kTVMFFIOpaquePtr, 0), 0);
  MALFORM(0, "type index 7 cannot travel", HEAD(kTVMFFIDLTensorPtr, 0), 0);
  MALFORM(0, "type index 8 cannot travel", HEAD(kTVMFFIRawStr, 0), 0);
  MALFORM(0, "type index 68 cannot travel", HEAD(kTVMFFIFunction, 0), 0);
  MALFORM(0, "type index 75 cannot travel", HEAD(75, 0), 0);
  MALFORM(0, "type index 114 cannot travel", HEAD(DSC_TYPE_DREF, 0), 0);
  MALFORM(0, "type index -2 cannot travel", HEAD(-2, 0), 0);
  MALFORM(0, "type index 13 cannot travel", HEAD(kTVMFFIUnchanged, 0), 0);
  /* bodies */
  MALFORM(0, SUNK("65") "16 bytes with flags 0 in the 8 that are left", HEAD(kTVMFFIStr, 0), 16, 8);
  MALFORM(0, SUNK("65") "9 bytes with flags 0 in the 16 that are left", HEAD(kTVMFFIStr, 0), 9, 1, 1);
  MALFORM(0, SUNK("65") "8 bytes with flags 2 in the 8 that are left", HEAD(kTVMFFIStr, 2), 8, 0);
  MALFORM(0, SUNK("70") "18446744073709551608 bytes with flags 0 in the 8 that are left", HEAD(kTVMFFITensor, 0),
          UINT64_MAX - 7, 0);
  MALFORM(0, "a string without a size", HEAD(kTVMFFIStr, 0), 0);
  MALFORM(0, "a string without a size", HEAD(kTVMFFIBytes, 1), 8, 0);
  MALFORM(0, "a string of 268435457 bytes (268435456 at most)", HEAD(kTVMFFIStr, 0), 8, DSC_STRING_MAX + 1);
  MALFORM(0, "data of 9 bytes in 8", HEAD(kTVMFFIStr, 0), 16, 9, 0);
  MALFORM(0, "data of 8 bytes in 16", HEAD(kTVMFFIStr, 0), 24, 8, 0, 0);
  MALFORM(0, "data of 0 bytes in 8", HEAD(kTVMFFIStr, 0), 16, 0, 0);
  MALFORM(0, "a shape whose count does not fit its size", HEAD(kTVMFFIShape, 0), 0);
  MALFORM(0, "a shape whose count does not fit its size", HEAD(kTVMFFIShape, 0), 16, 2, 5);
  MALFORM(0, "a shape whose count does not fit its size", HEAD(kTVMFFIShape, 0), 16, UINT64_MAX / 8 + 2, 5);
  MALFORM(0, "a type that is never in a side file", HEAD(kTVMFFIShape, 1), 16, 0, 8);
  MALFORM(0, "a type that is never in a side file", HEAD(kTVMFFIError, 1), 16, 0, 8);
  MALFORM(1, "a type that is never in a side file", HEAD(kTVMFFIArray, 1), 16, 0, 8);
  MALFORM(0, "an error without sizes", HEAD(kTVMFFIError, 0), 16, 0, 0);
  MALFORM(0, "an error's text does not fit its size", HEAD(kTVMFFIError, 0), 32, 1, UINT64_MAX, 0, 0);
  MALFORM(0, "an error's text does not fit its size", HEAD(kTVMFFIError, 0), 32, 4, 4, 1, 0);
  MALFORM(0, "an error is larger than its texts", HEAD(kTVMFFIError, 0), 32, 0, 0, 0, 0);
  /* tensors */
  MALFORM(0, "a tensor whose shape does not fit its size", HEAD(kTVMFFITensor, 0), 0);
  MALFORM(0, "a tensor whose shape does not fit its size", HEAD(kTVMFFITensor, 0), 8, DTYPE(1, 8, 1, -1));
  MALFORM(0, "a tensor whose shape does not fit its size", HEAD(kTVMFFITensor, 0), 8, DTYPE(1, 8, 1, 1));
  MALFORM(0, "a tensor whose shape does not fit its size", HEAD(kTVMFFITensor, 0), 8, DTYPE(1, 8, 1, INT32_MAX));
  MALFORM(0, "a tensor of an impossible shape or dtype", HEAD(kTVMFFITensor, 0), 16, DTYPE(1, 0, 1, 1), 1);
  MALFORM(0, "a tensor of an impossible shape or dtype", HEAD(kTVMFFITensor, 0), 16, DTYPE(1, 8, 0, 1), 1);
  MALFORM(0, "a tensor of an impossible shape or dtype", HEAD(kTVMFFITensor, 0), 16, DTYPE(1, 8, 1, 1), UINT64_MAX);
  MALFORM(0, "a tensor of an impossible shape or dtype", HEAD(kTVMFFITensor, 0), 24, DTYPE(1, 8, 1, 2), 0, UINT64_MAX);
  MALFORM(0, "a tensor of an impossible shape or dtype", HEAD(kTVMFFITensor, 0), 24, DTYPE(1, 8, 1, 2), INT64_MAX, 2);
  MALFORM(0, "data of 1099511627776 bytes in 8", HEAD(kTVMFFITensor, 0), 24, DTYPE(1, 8, 1, 1), (uint64_t)1 << 40, 0);
  MALFORM(0, "data of 1 bytes in 16", HEAD(kTVMFFITensor, 0), 32, DTYPE(1, 8, 1, 1), 1, 0, 0);
  /* the side file: 64 bytes */
#define FAR "the reference to its data in the side file does not fit"
  MALFORM(0, FAR, HEAD(kTVMFFIStr, 1), 24, 0, 8, 0);
  MALFORM(0, FAR, HEAD(kTVMFFITensor, 1), 24, DTYPE(1, 8, 1, 1), 8, 0);
  MALFORM(0, FAR, HEAD(kTVMFFITensor, 1), 32, DTYPE(1, 8, 1, 1), 8, 0, 7);
  MALFORM(0, "65 bytes at offset 0 of a side file of 64", HEAD(kTVMFFIStr, 1), 16, 0, 65);
  MALFORM(0, "8 bytes at offset 8 of a side file of 64", HEAD(kTVMFFIStr, 1), 16, 8, 8);
  MALFORM(0, "8 bytes at offset 4096 of a side file of 64", HEAD(kTVMFFIStr, 1), 16, 4096, 8);
  MALFORM(0, "4096 bytes at offset 18446744073709547520 of a side file of 64", HEAD(kTVMFFITensor, 1), 32,
          DTYPE(1, 8, 1, 1), 4096, UINT64_MAX - 4095, 4096);
#undef FAR
  /* containers */
#define COUNTS "a container whose count does not fit its size"
  MALFORM(0, "a container where none may be", HEAD(kTVMFFIArray, 0), 8, 0);
  MALFORM(0, "a container where none may be", HEAD(kTVMFFIMap, 0), 8, 0);
  MALFORM(1, COUNTS, HEAD(kTVMFFIArray, 0), 0);
  MALFORM(1, COUNTS, HEAD(kTVMFFIArray, 0), 16, 1, 0);
  MALFORM(1, COUNTS, HEAD(kTVMFFIArray, 0), 24, 2, 0, 0);
  MALFORM(1, COUNTS, HEAD(kTVMFFIArray, 0), 24, UINT64_MAX, 0, 0);
  MALFORM(1, COUNTS, HEAD(kTVMFFIMap, 0), 24, 1, 0, 0);
  MALFORM(1, COUNTS, HEAD(kTVMFFIMap, 0), 24, (uint64_t)1 << 63, 0, 0);
  MALFORM(1, "a container is larger than its elements", HEAD(kTVMFFIArray, 0), 16, 0, 0);
  MALFORM(1, "type index 4 cannot travel", HEAD(kTVMFFIArray, 0), 24, 1, HEAD(kTVMFFIOpaquePtr, 0), 0);
  /* the second element takes what the container has not */
  MALFORM(1, SUNK("65") "16 bytes with flags 0 in the 0 that are left", HEAD(kTVMFFIArray, 0), 40, 2, 0, 0,
          HEAD(kTVMFFIStr, 0), 16, 8, 0);
#undef COUNTS
}

static void deep_containers_are_lost(void **state) {
  (void)state;
  for (int depth = 1; depth <= 200; depth++) {
    uint64_t *words = calloc((size_t)depth * 3 + 2, 8), used = 0;
    TVMFFIAny value;
    for (int i = 0; i < depth; i++) {
      words[i * 3] = kTVMFFIArray;
      words[i * 3 + 1] = ((uint64_t)(depth - i) * 3 - 2 + 2) * 8;
      words[i * 3 + 2] = 1;
    }
    disco_status status = dsc_unpack(words, ((uint64_t)depth * 3 + 2) * 8, DSC_PACK_CONTAINERS, NULL, &value, &used);
    assert_int_equal(status, depth <= DSC_PACK_MAX_NESTING ? DISCO_OK : DISCO_LOST);
    if (status == DISCO_OK)
      dsc_value_drop(&value);
    else
      assert_string_equal(dsc_thread_error()->message, "malformed packed value: containers nested too deep");
    free(words);
  }
}

static void a_side_file_that_is_missing_is_named(void **state) {
  (void)state;
  TVMFFIAny value = text_of(100), back;
  packed p = pack(&value, 1);
  dsc_side_view none = {0};
  uint64_t used = 0;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(dsc_unpack(p.bytes, p.size, 0, i == 0 ? NULL : &none, &back, &used), DISCO_LOST);
    assert_string_equal(dsc_thread_error()->message,
                        "malformed packed value: its data is in a side file, but there is none");
  }
  dsc_value_drop(&value);
  free_packed(&p);
}

static void flipped_bytes_are_harmless(void **state) {
  (void)state;
  const char *scale = getenv("DISCO_TEST_SCALE");
  int rounds = 20000 / (scale != NULL && atoi(scale) > 0 ? atoi(scale) : 1);
  uint32_t seed = 5;
  for (int i = 0; i < NUM_SAMPLES; i++) {
    TVMFFIAny value = sample(i);
    packed p = pack(&value, i % 2 == 0 ? 16 : UINT64_MAX);
    char *keep = malloc(p.size);
    memcpy(keep, p.bytes, p.size);
    counted_view side = view_of(&p, i % 3 == 0);
    for (int round = 0; round < rounds / NUM_SAMPLES; round++) {
      TVMFFIAny back;
      uint64_t used = 0, reach = p.size < 256 ? p.size : 256;
      for (int flips = 1 + round % 3; flips > 0; flips--) {
        seed = seed * 1664525u + 1013904223u;
        p.bytes[(seed >> 16) % reach] ^= (char)(1 << (seed >> 8) % 8);
      }
      disco_status status = dsc_unpack(p.bytes, p.size, DSC_PACK_CONTAINERS, &side.view, &back, &used);
      assert_true(status == DISCO_OK || status == DISCO_LOST);
      if (status == DISCO_OK) {
        assert_in_range(used, 16, p.size);
        dsc_value_drop(&back);
      }
      memcpy(p.bytes, keep, p.size);
    }
    assert_int_equal(side.held, 0);
    free(keep);
    dsc_value_drop(&value);
    free_packed(&p);
  }
}

/* ---- No memory ---- */

static disco_status pack_and_unpack(const TVMFFIAny *value, bool held, counted_view *view, packed *p) {
  dsc_pack_side side = {.threshold = 64};
  TVMFFIAny back;
  disco_status status = dsc_pack_measure(value, DSC_PACK_CONTAINERS, "it", &side, &p->size);
  if (status != DISCO_OK) return status;
  p->bytes = malloc(p->size);
  p->side_size = side.bytes;
  if (side.bytes > 0) assert_int_equal(posix_memalign((void **)&p->side, 4096, side.bytes), 0);
  side.base = p->side;
  if (dsc_pack(value, &side, p->bytes) == NULL) return dsc_thread_error()->status;
  *view = view_of(p, held);
  status = unpack(p, view, &back);
  if (status == DISCO_OK) dsc_value_drop(&back);
  return status;
}

static void no_memory_at_any_point(void **state) {
  (void)state;
  for (int i = 0; i < 2 * NUM_SAMPLES; i++) {
    TVMFFIAny value = sample(i / 2);
    long points = 0;
    for (long n = 1;; n++) {
      packed p = {0};
      counted_view view = {0};
      (void)dsc_inject_fail_allocation(n);
      disco_status status = pack_and_unpack(&value, i % 2 == 0, &view, &p);
      points = dsc_inject_fail_allocation(0);
      assert_int_equal(view.held, 0);
      free_packed(&p);
      if (points < n) {
        assert_int_equal(status, DISCO_OK);
        break;
      }
      assert_int_equal(status, DISCO_MEMORY);
    }
    if (dsc_is_object(&value)) assert_true(points > 0);
    dsc_value_drop(&value);
  }
}

static int register_types(void **state) {
  (void)state;
  return dsc_object_register_types() == DISCO_OK ? 0 : 1; /* again, when the library did it while it was loaded */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_value_comes_back),
      cmocka_unit_test(the_bytes_are_the_same_each_time),
      cmocka_unit_test(small_values_take_16_bytes),
      cmocka_unit_test(sizes_are_as_documented),
      cmocka_unit_test(borrowed_strings_become_owned),
      cmocka_unit_test(large_data_goes_aside_on_pages),
      cmocka_unit_test(values_follow_each_other_in_the_side_file),
      cmocka_unit_test(a_refused_value_leaves_the_side_as_it_was),
      cmocka_unit_test(types_that_cannot_travel_are_named),
      cmocka_unit_test(values_beyond_the_limits_are_refused),
      cmocka_unit_test(sums_do_not_overflow),
      cmocka_unit_test(every_cut_value_is_lost),
      cmocka_unit_test(malformed_values_are_named),
      cmocka_unit_test(deep_containers_are_lost),
      cmocka_unit_test(a_side_file_that_is_missing_is_named),
      cmocka_unit_test(flipped_bytes_are_harmless),
      cmocka_unit_test(no_memory_at_any_point),
  };
  return cmocka_run_group_tests_name("wire.pack", tests, register_types, NULL);
}
