/* CPU tensors: what is refused, how they are described, and copies compared with the plainest possible one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/inject.h"
#include "ffi/tensor.h"
#include "ffi/value.h"

static const DLDevice CPU = {kDLCPU, 0};
static const DLDataType FLOAT32 = {kDLFloat, 32, 1}, UINT8 = {kDLUInt, 8, 1};

static void a_tensor_is_aligned_and_row_major(void **state) {
  (void)state;
  const int64_t shape[] = {3, 1, 5, 2};
  for (int32_t ndim = 0; ndim <= 4; ndim++) {
    TVMFFIObjectHandle object = NULL;
    assert_int_equal(dsc_tensor_create(ndim, shape, FLOAT32, CPU, &object), DISCO_OK);
    TVMFFIAny value = dsc_object_value(object);
    const DLTensor *tensor = dsc_tensor_of(&value);
    int64_t elements = 1;
    uint64_t bytes = 0;
    assert_non_null(tensor);
    assert_int_equal((uintptr_t)tensor->data % DSC_TENSOR_ALIGNMENT, 0);
    assert_int_equal(tensor->byte_offset, 0);
    assert_int_equal(tensor->ndim, ndim);
    for (int32_t i = ndim - 1; i >= 0; i--) {
      assert_int_equal(tensor->shape[i], shape[i]);
      assert_int_equal(tensor->strides[i], elements);
      elements *= shape[i];
    }
    assert_true(dsc_tensor_is_contiguous(tensor));
    assert_true(dsc_tensor_bytes(tensor, &bytes));
    assert_int_equal(bytes, elements * 4);
    memset(tensor->data, 0x5a, bytes); /* all of it is there */
    dsc_value_drop(&value);
  }
}

static void odd_sizes_are_rounded_up(void **state) {
  (void)state;
  const struct {
    DLDataType dtype;
    int64_t count;
    uint64_t bytes;
  } cases[] = {
      {{kDLInt, 4, 1}, 3, 2},      {{kDLInt, 1, 1}, 9, 2},  {{kDLFloat, 32, 4}, 2, 32},         {{kDLInt, 4, 1}, 0, 0},
      {{kDLBfloat, 16, 1}, 5, 10}, {{kDLUInt, 8, 1}, 0, 0}, {{kDLUInt, 255, 65535}, 1, 2088929}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    TVMFFIObjectHandle object = NULL;
    uint64_t bytes = 99;
    assert_int_equal(dsc_tensor_create(1, &cases[i].count, cases[i].dtype, CPU, &object), DISCO_OK);
    TVMFFIAny value = dsc_object_value(object);
    assert_true(dsc_tensor_bytes(dsc_tensor_of(&value), &bytes));
    assert_int_equal(bytes, cases[i].bytes);
    dsc_value_drop(&value);
  }
}

static void refuse(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device, disco_status status,
                   const char *sentence) {
  TVMFFIObjectHandle object = (TVMFFIObjectHandle)&object;
  assert_int_equal(dsc_tensor_create(ndim, shape, dtype, device, &object), status);
  assert_string_equal(disco_last_error_text(), sentence);
  assert_ptr_equal(object, &object);
}

static void bad_tensors_are_refused(void **state) {
  (void)state;
  const int64_t shape[] = {4, -2}, huge[] = {INT64_MAX, INT64_MAX}, large[] = {(int64_t)1 << 60};
  refuse(-1, shape, FLOAT32, CPU, DISCO_VALUE, "a tensor of -1 dimensions needs a shape");
  refuse(2, NULL, FLOAT32, CPU, DISCO_VALUE, "a tensor of 2 dimensions needs a shape");
  refuse(2, shape, FLOAT32, CPU, DISCO_VALUE, "dimension 1 of the shape is negative: -2");
  refuse(1, shape, (DLDataType){kDLInt, 0, 1}, CPU, DISCO_VALUE, "a dtype of 0 bits and 1 lanes is none");
  refuse(1, shape, (DLDataType){kDLInt, 8, 0}, CPU, DISCO_VALUE, "a dtype of 8 bits and 0 lanes is none");
  refuse(1, shape, FLOAT32, (DLDevice){kDLCUDA, 0}, DISCO_VALUE,
         "tensors can be made on the CPU only, not on device type 2");
  refuse(2, huge, UINT8, CPU, DISCO_MEMORY, "a tensor of these sizes has more than 2^63 bits");
  refuse(1, large, UINT8, CPU, DISCO_MEMORY, "a tensor of these sizes has more than 2^63 bits");
  dsc_inject_fail_allocation(1);
  TVMFFIObjectHandle object = NULL;
  assert_int_equal(dsc_tensor_create(1, shape, UINT8, CPU, &object), DISCO_MEMORY);
  dsc_inject_fail_allocation(0);
  assert_null(object);
}

typedef struct {
  void *data;
  int calls;
} released;

static void note_release(void *context, void *data) {
  ((released *)context)->data = data;
  ((released *)context)->calls++;
}

static void a_tensor_over_memory_gives_it_back_once(void **state) {
  (void)state;
  static _Alignas(DSC_TENSOR_ALIGNMENT) char memory[128] = "data"; /* ASan's stack does not keep that alignment */
  int64_t shape[] = {2, 3};
  released seen = {0};
  TVMFFIObjectHandle object = NULL;
  assert_int_equal(dsc_tensor_create_over(2, shape, FLOAT32, CPU, memory, note_release, &seen, &object), DISCO_OK);
  TVMFFIAny value = dsc_object_value(object), copy = dsc_value_copy(&value);
  shape[0] = 9; /* it has its own */
  assert_ptr_equal(dsc_tensor_of(&value)->data, memory);
  assert_int_equal(dsc_tensor_of(&value)->shape[0], 2);
  assert_int_equal(dsc_tensor_of(&value)->strides[0], 3);
  dsc_value_drop(&value);
  assert_int_equal(seen.calls, 0);
  dsc_value_drop(&copy);
  assert_int_equal(seen.calls, 1);
  assert_ptr_equal(seen.data, memory);
  assert_string_equal(memory, "data");
}

static void a_tensor_over_memory_can_be_refused(void **state) {
  (void)state;
  static _Alignas(DSC_TENSOR_ALIGNMENT) char memory[128];
  const int64_t one[] = {1}, none[] = {0}, negative[] = {-1};
  released seen = {0};
  TVMFFIObjectHandle object = NULL;
  assert_int_equal(dsc_tensor_create_over(1, one, UINT8, CPU, memory + 8, note_release, &seen, &object), DISCO_VALUE);
  assert_int_equal(dsc_tensor_create_over(1, one, UINT8, CPU, NULL, note_release, &seen, &object), DISCO_VALUE);
  assert_int_equal(dsc_tensor_create_over(1, negative, UINT8, CPU, memory, note_release, &seen, &object), DISCO_VALUE);
  assert_int_equal(dsc_tensor_create_over(1, one, (DLDataType){0}, CPU, memory, note_release, &seen, &object),
                   DISCO_VALUE);
#if defined(DISCO_INJECT) && DISCO_INJECT
  (void)dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_tensor_create_over(1, one, UINT8, CPU, memory, note_release, &seen, &object), DISCO_MEMORY);
  for (long n = 1; n <= 2; n++) { /* the data, then the tensor */
    (void)dsc_inject_fail_allocation(n);
    assert_int_equal(dsc_tensor_create(1, one, UINT8, CPU, &object), DISCO_MEMORY);
  }
  (void)dsc_inject_fail_allocation(0);
#endif
  assert_int_equal(seen.calls, 0); /* it is still the caller's */
  assert_null(object);
  assert_int_equal(dsc_tensor_create_over(1, none, UINT8, CPU, NULL, note_release, &seen, &object), DISCO_OK);
  dsc_object_unref(object);
  assert_int_equal(seen.calls, 1);
}

static void only_tensors_are_tensors(void **state) {
  (void)state;
  DLTensor borrowed = {0};
  TVMFFIAny value = dsc_int(1);
  assert_null(dsc_tensor_of(&value));
  value.type_index = kTVMFFIDLTensorPtr;
  value.v_ptr = &borrowed;
  assert_null(dsc_tensor_of(&value)); /* it would outlive its owner */
}

/* ---- Views on a test's own memory, as tensor objects without a library behind them ---- */

enum { MAX_DIMS = 4 };

typedef struct {
  TVMFFIObject header;
  DLTensor tensor;
  int64_t shape[MAX_DIMS], strides[MAX_DIMS];
} view;

static TVMFFIAny make_view(view *v, void *data, uint64_t byte_offset, DLDataType dtype, int32_t ndim,
                           const int64_t *shape, const int64_t *strides) {
  *v = (view){.header = {.combined_ref_count = 1, .type_index = kTVMFFITensor}};
  memcpy(v->shape, shape, (size_t)ndim * sizeof(*shape));
  if (strides != NULL) memcpy(v->strides, strides, (size_t)ndim * sizeof(*strides));
  v->tensor = (DLTensor){data, CPU, ndim, dtype, v->shape, strides != NULL ? v->strides : NULL, byte_offset};
  return dsc_object_value(v);
}

_Static_assert(offsetof(view, tensor) == sizeof(TVMFFIObject), "as TVM-FFI lays out a Tensor");

static void tensors_are_described(void **state) {
  (void)state;
  view v;
  const int64_t shape[] = {2, 3}, turned[] = {1, 2}, huge[] = {INT64_MAX, INT64_MAX};
  const struct {
    DLDataType dtype;
    int32_t ndim;
    const int64_t *shape, *strides;
    int device;
    const char *text;
  } cases[] = {
      {{kDLFloat, 32, 1}, 2, shape, NULL, kDLCPU, "float32[2, 3] (24 bytes)"},
      {{kDLInt, 8, 4}, 1, shape, NULL, kDLCPU, "int8x4[2] (8 bytes)"},
      {{kDLBfloat, 16, 1}, 0, shape, NULL, kDLCPU, "bfloat16[] (2 bytes)"},
      {{kDLUInt, 8, 1}, 2, shape, turned, kDLCPU, "uint8[2, 3] (6 bytes, strided)"},
      {{kDLUInt, 8, 1}, 1, shape, NULL, kDLCUDA, "uint8[2] (2 bytes, device type 2:0)"},
      {{kDLUInt, 8, 1},
       2,
       huge,
       NULL,
       kDLCPU,
       "uint8[9223372036854775807, 9223372036854775807] (size beyond 2^63 bits)"},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    dsc_text text = DSC_TEXT_INIT;
    (void)make_view(&v, NULL, 0, cases[i].dtype, cases[i].ndim, cases[i].shape, cases[i].strides);
    v.tensor.device.device_type = (DLDeviceType)cases[i].device;
    dsc_tensor_describe(&v.tensor, &text);
    assert_string_equal(text.data, cases[i].text);
    dsc_text_fini(&text);
  }
}

static void contiguity(void **state) {
  (void)state;
  view v;
  const struct {
    int32_t ndim;
    int64_t shape[3], strides[3];
    bool contiguous;
  } cases[] = {{2, {2, 3}, {3, 1}, true},      {2, {2, 3}, {1, 2}, false}, {2, {1, 3}, {99, 1}, true},
               {2, {2, 1}, {1, 99}, true},     {2, {2, 3}, {4, 1}, false}, {1, {5}, {-1}, false},
               {1, {1}, {-1}, true},           {2, {3, 0}, {7, 7}, true},  {1, {2}, {0}, false},
               {3, {2, 1, 3}, {3, 0, 1}, true}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    (void)make_view(&v, NULL, 0, UINT8, cases[i].ndim, cases[i].shape, cases[i].strides);
    assert_int_equal(dsc_tensor_is_contiguous(&v.tensor), cases[i].contiguous);
  }
}

/* The plainest copy: the bytes of all elements in row-major order. */
static uint64_t read_plainly(const DLTensor *tensor, uint8_t *out) {
  uint64_t item = (uint64_t)tensor->dtype.bits * tensor->dtype.lanes / 8, count = 1;
  for (int32_t i = 0; i < tensor->ndim; i++) count *= (uint64_t)tensor->shape[i];
  for (uint64_t n = 0; n < count; n++) {
    int64_t offset = 0;
    uint64_t rest = n;
    for (int32_t i = tensor->ndim - 1; i >= 0; i--) {
      int64_t stride = 1;
      for (int32_t k = i + 1; k < tensor->ndim; k++) stride *= tensor->shape[k];
      if (tensor->strides != NULL) stride = tensor->strides[i];
      offset += (int64_t)(rest % (uint64_t)tensor->shape[i]) * stride;
      rest /= (uint64_t)tensor->shape[i];
    }
    memcpy(out + n * item, (char *)tensor->data + tensor->byte_offset + offset * (int64_t)item, item);
  }
  return count * item;
}

static uint32_t next_random(uint32_t *seed) {
  *seed = *seed * 1664525u + 1013904223u;
  return *seed >> 16;
}

enum { ARENA = 16384 };

/* A view of `elements` elements of `item` bytes, cut into random dimensions with random strides that do not overlap,
 * some negative, anywhere in the arena, at any alignment. */
static TVMFFIAny random_view(view *v, uint8_t *arena, uint32_t item, int64_t elements, uint32_t *seed) {
  int64_t shape[MAX_DIMS], strides[MAX_DIMS], left = elements, span = 1;
  int32_t ndim = 1 + (int32_t)(next_random(seed) % MAX_DIMS), order[MAX_DIMS];
  for (int32_t i = 0; i < ndim; i++) {
    int64_t size = i == ndim - 1 ? left : 1 + next_random(seed) % 4;
    while (left % size != 0) size--;
    shape[i] = size;
    left /= size;
    order[i] = i;
  }
  bool plain = next_random(seed) % 3 == 0;
  for (int32_t i = ndim - 1; i > 0 && !plain; i--) { /* which dimension is innermost in memory: any */
    int32_t k = (int32_t)(next_random(seed) % (uint32_t)(i + 1)), keep = order[i];
    order[i] = order[k];
    order[k] = keep;
  }
  int64_t start = 0;
  for (int32_t i = ndim - 1; i >= 0; i--) {
    int32_t d = order[i];
    bool negative = !plain && next_random(seed) % 4 == 0;
    strides[d] = negative ? -span : span;
    if (negative) start += (shape[d] - 1) * span;
    span = span * shape[d] + (plain ? 0 : next_random(seed) % 2);
  }
  uint64_t byte_offset = next_random(seed) % 64; /* badly aligned, partly through byte_offset */
  uint8_t *data = arena + next_random(seed) % 16 + (uint64_t)start * item;
  DLDataType dtype = {kDLUInt, 8, (uint16_t)item};
  bool no_strides = plain && next_random(seed) % 2 == 0;
  return make_view(v, data, byte_offset, dtype, ndim, shape, no_strides ? NULL : strides);
}

static void copies_equal_the_plain_one(void **state) {
  (void)state;
  enum { ROUNDS = 4000 };
  uint8_t *from_arena = malloc(ARENA), *to_arena = malloc(ARENA), *before = malloc(ARENA);
  uint8_t wanted[2048], got[2048];
  uint32_t seed = 11;
  for (int round = 0; round < ROUNDS; round++) {
    static const uint32_t items[] = {1, 2, 3, 4, 8, 16};
    static const int64_t counts[] = {1, 2, 6, 12, 24, 36, 48, 60};
    uint32_t from_item = items[next_random(&seed) % 6], to_item = items[next_random(&seed) % 6];
    uint64_t bytes = (uint64_t)counts[next_random(&seed) % 8] * from_item;
    if (bytes % to_item != 0) to_item = from_item; /* dtypes may differ, byte sizes may not */
    view from, to;
    for (int i = 0; i < ARENA; i++) from_arena[i] = (uint8_t)next_random(&seed);
    memset(to_arena, 0x5a, ARENA);
    TVMFFIAny source = random_view(&from, from_arena, from_item, (int64_t)(bytes / from_item), &seed);
    TVMFFIAny target = random_view(&to, to_arena, to_item, (int64_t)(bytes / to_item), &seed);
    memcpy(before, from_arena, ARENA);
    assert_int_equal(dsc_tensor_copy(&source, "a", &target, "b"), DISCO_OK);
    assert_int_equal(read_plainly(&from.tensor, wanted), bytes);
    assert_true(dsc_tensor_can_gather(&from.tensor));
    got[bytes] = 0x77;
    dsc_tensor_gather(&from.tensor, got);
    assert_memory_equal(wanted, got, bytes);
    assert_int_equal(got[bytes], 0x77);
    assert_int_equal(read_plainly(&to.tensor, got), bytes);
    assert_memory_equal(wanted, got, bytes);
    assert_memory_equal(before, from_arena, ARENA);
    uint64_t touched = 0; /* nothing but the target's elements was written */
    for (int i = 0; i < ARENA; i++) touched += to_arena[i] != 0x5a;
    assert_true(touched <= bytes);
  }
  free(from_arena);
  free(to_arena);
  free(before);
}

static void overlapping_runs_move(void **state) {
  (void)state;
  const int64_t shape[] = {1000};
  for (int64_t shift = -70; shift <= 70; shift++) {
    uint8_t memory[1200], wanted[1000];
    view from, to;
    for (int i = 0; i < 1200; i++) memory[i] = (uint8_t)(i * 7 + i / 256);
    memcpy(wanted, memory + 100, 1000);
    TVMFFIAny source = make_view(&from, memory, 100, UINT8, 1, shape, NULL);
    TVMFFIAny target = make_view(&to, memory, (uint64_t)(100 + shift), UINT8, 1, shape, NULL);
    assert_int_equal(dsc_tensor_copy(&source, "a", &target, "b"), DISCO_OK);
    assert_memory_equal(memory + 100 + shift, wanted, 1000);
  }
}

static void a_strided_tensor_onto_itself(void **state) {
  (void)state;
  uint8_t memory[24], wanted[24];
  const int64_t shape[] = {3, 4}, strides[] = {1, 3};
  view v;
  for (int i = 0; i < 24; i++) wanted[i] = memory[i] = (uint8_t)(i + 1);
  TVMFFIAny value = make_view(&v, memory, 2, UINT8, 2, shape, strides);
  assert_int_equal(dsc_tensor_copy(&value, "a", &value, "b"), DISCO_OK);
  assert_memory_equal(memory, wanted, 24);
}

static void nothing_to_copy_is_fine(void **state) {
  (void)state;
  const int64_t from_shape[] = {0, 3}, to_shape[] = {5, 0, 2}, odd[] = {7, 7, 7};
  view from, to;
  TVMFFIAny source = make_view(&from, NULL, 0, FLOAT32, 2, from_shape, odd);
  TVMFFIAny target = make_view(&to, NULL, 0, UINT8, 3, to_shape, NULL);
  assert_int_equal(dsc_tensor_copy(&source, "a", &target, "b"), DISCO_OK);
}

static void mismatches_say_both_sides(void **state) {
  (void)state;
  uint8_t memory[64] = {0}, before[64] = {0};
  const int64_t two[] = {2, 3}, five[] = {5};
  view from, to;
  TVMFFIAny source = make_view(&from, memory, 0, FLOAT32, 2, two, NULL), number = dsc_int(1);
  TVMFFIAny target = make_view(&to, memory + 32, 0, UINT8, 1, five, NULL);
  memset(memory, 1, 32);
  memcpy(before, memory, 64);
  assert_int_equal(dsc_tensor_copy(&source, "the host tensor", &target, "worker 0's tensor"), DISCO_VALUE);
  assert_string_equal(disco_last_error_text(),
                      "byte sizes must match exactly: the host tensor is float32[2, 3] (24 bytes), "
                      "worker 0's tensor is uint8[5] (5 bytes)");
  assert_memory_equal(memory, before, 64);
  assert_int_equal(dsc_tensor_copy(&source, "a", &number, "b"), DISCO_TYPE);
  assert_string_equal(disco_last_error_text(), "b must be a Tensor, but it is `int`");
  assert_int_equal(dsc_tensor_copy(&number, "a", &target, "b"), DISCO_TYPE);
  assert_string_equal(disco_last_error_text(), "a must be a Tensor, but it is `int`");
}

/* Packed 4-bit elements have no address of their own: strided ones cannot be walked, contiguous ones are bytes. */
static void small_elements(void **state) {
  (void)state;
  uint8_t from_memory[8] = {1, 2, 3, 4, 5, 6, 7, 8}, to_memory[8] = {0};
  const DLDataType INT4 = {kDLInt, 4, 1};
  const int64_t shape[] = {4, 2}, strides[] = {1, 4}, flat[] = {4};
  view from, to;
  TVMFFIAny source = make_view(&from, from_memory, 1, INT4, 2, shape, NULL);
  TVMFFIAny target = make_view(&to, to_memory, 0, UINT8, 1, flat, NULL);
  assert_int_equal(dsc_tensor_copy(&source, "a", &target, "b"), DISCO_OK);
  assert_memory_equal(to_memory, from_memory + 1, 4);
  assert_int_equal(to_memory[4], 0);
  source = make_view(&from, from_memory, 0, INT4, 2, shape, strides);
  assert_int_equal(dsc_tensor_copy(&source, "a", &target, "b"), DISCO_VALUE);
}

static void other_devices_need_tvm(void **state) {
  (void)state;
  const int64_t shape[] = {4};
  uint8_t memory[4] = {0};
  view from, to;
  TVMFFIAny source = make_view(&from, memory, 0, UINT8, 1, shape, NULL);
  TVMFFIAny target = make_view(&to, memory, 0, UINT8, 1, shape, NULL);
  to.tensor.device.device_type = kDLCUDA;
  assert_int_equal(dsc_tensor_copy(&source, "a", &target, "b"), DISCO_VALUE);
  assert_non_null(strstr(disco_last_error_text(), "needs TVM's runtime"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_tensor_is_aligned_and_row_major),
      cmocka_unit_test(odd_sizes_are_rounded_up),
      cmocka_unit_test(bad_tensors_are_refused),
      cmocka_unit_test(a_tensor_over_memory_gives_it_back_once),
      cmocka_unit_test(a_tensor_over_memory_can_be_refused),
      cmocka_unit_test(only_tensors_are_tensors),
      cmocka_unit_test(tensors_are_described),
      cmocka_unit_test(contiguity),
      cmocka_unit_test(copies_equal_the_plain_one),
      cmocka_unit_test(overlapping_runs_move),
      cmocka_unit_test(a_strided_tensor_onto_itself),
      cmocka_unit_test(nothing_to_copy_is_fine),
      cmocka_unit_test(mismatches_say_both_sides),
      cmocka_unit_test(small_elements),
      cmocka_unit_test(other_devices_need_tvm),
  };
  return cmocka_run_group_tests_name("ffi.tensor", tests, NULL, NULL);
}
