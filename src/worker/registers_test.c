/* A worker's registers: they grow, own what they hold, and tell poison from every value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/inject.h"
#include "worker/registers.h"

typedef struct {
  TVMFFIObject header;
  int deleted;
  dsc_registers *registers; /* looked at by the deleter */
  int32_t seen;             /* the type index that register 5 held then */
} watched;

static void watch(void *self, int flags) {
  (void)flags;
  watched *object = self;
  object->deleted++;
  if (object->registers != NULL) {
    TVMFFIAny value = dsc_registers_get(object->registers, 5);
    object->seen = value.type_index;
  }
}

static watched make_watched(void) {
  return (watched){
      .header = {.combined_ref_count = 1 | (uint64_t)1 << 32, .type_index = kTVMFFIObject, .deleter = watch}};
}

static void unset_is_none(void **state) {
  (void)state;
  dsc_registers registers = {0};
  assert_int_equal(dsc_registers_get(&registers, 0).type_index, kTVMFFINone);
  assert_int_equal(dsc_registers_get(&registers, UINT32_MAX).type_index, kTVMFFINone);
  dsc_registers_clear(&registers, 1000000); /* never written: nothing to do, nothing grows */
  assert_int_equal(registers.size, 0);
  assert_int_equal(dsc_registers_set(&registers, 5, dsc_int(7)), DISCO_OK);
  assert_int_equal(dsc_registers_get(&registers, 4).type_index, kTVMFFINone);
  assert_int_equal(dsc_registers_get(&registers, 5).v_int64, 7);
  assert_int_equal(dsc_registers_get(&registers, registers.size).type_index, kTVMFFINone);
  dsc_registers_fini(&registers);
  dsc_registers_fini(&registers);
}

static void they_grow_and_keep_their_values(void **state) {
  (void)state;
  dsc_registers registers = {0};
  enum { COUNT = 10000 };
  for (uint32_t i = 0; i < COUNT; i++) assert_int_equal(dsc_registers_set(&registers, i * 3, dsc_int(i)), DISCO_OK);
  for (uint32_t i = 0; i < COUNT; i++) {
    assert_int_equal(dsc_registers_get(&registers, i * 3).v_int64, i);
    assert_int_equal(dsc_registers_get(&registers, i * 3 + 1).type_index, kTVMFFINone);
  }
  assert_int_equal(dsc_registers_set(&registers, 1 << 20, dsc_int(1)), DISCO_OK); /* a jump */
  assert_int_equal(dsc_registers_get(&registers, 1 << 20).v_int64, 1);
  assert_int_equal(dsc_registers_get(&registers, (1 << 20) - 1).type_index, kTVMFFINone);
  dsc_registers_fini(&registers);
}

static void they_own_their_values(void **state) {
  (void)state;
  dsc_registers registers = {0};
  watched one = make_watched(), two = make_watched(), three = make_watched();
  assert_int_equal(dsc_registers_set(&registers, 1, dsc_object_value(&one)), DISCO_OK);
  assert_int_equal(one.deleted, 0);
  assert_int_equal(dsc_registers_set(&registers, 1, dsc_object_value(&two)), DISCO_OK);
  assert_int_equal(one.deleted, 1);
  dsc_registers_clear(&registers, 1);
  assert_int_equal(two.deleted, 1);
  dsc_registers_clear(&registers, 1);
  assert_int_equal(two.deleted, 1);
  assert_int_equal(dsc_registers_set(&registers, 900, dsc_object_value(&three)), DISCO_OK);
  dsc_registers_fini(&registers);
  assert_int_equal(three.deleted, 1);
}

/* The old value's deleter may run user code, which must find the new value. */
static void the_old_value_goes_last(void **state) {
  (void)state;
  dsc_registers registers = {0};
  watched old = make_watched();
  old.registers = &registers;
  assert_int_equal(dsc_registers_set(&registers, 5, dsc_object_value(&old)), DISCO_OK);
  assert_int_equal(dsc_registers_set(&registers, 5, dsc_int(3)), DISCO_OK);
  assert_int_equal(old.deleted, 1);
  assert_int_equal(old.seen, kTVMFFIInt);
  dsc_registers_fini(&registers);
}

static void without_memory_the_value_is_dropped(void **state) {
  (void)state;
  dsc_registers registers = {0};
  watched object = make_watched();
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_registers_set(&registers, 5, dsc_object_value(&object)), DISCO_MEMORY);
  dsc_inject_fail_allocation(0);
  assert_int_equal(object.deleted, 1);
  assert_int_equal(dsc_registers_get(&registers, 5).type_index, kTVMFFINone);
  assert_int_equal(dsc_registers_set(&registers, 5, dsc_int(3)), DISCO_OK);
  dsc_registers_fini(&registers);
}

static void poison_is_no_value(void **state) {
  (void)state;
  dsc_registers registers = {0};
  TVMFFIAny poison = {.type_index = DSC_POISON, .v_int64 = 42};
  assert_int_equal(dsc_registers_set(&registers, 2, poison), DISCO_OK);
  TVMFFIAny back = dsc_registers_get(&registers, 2);
  assert_true(dsc_is_poison(&back));
  assert_false(dsc_is_object(&back));
  assert_int_equal(back.v_int64, 42);
  for (int32_t index = 0; index < 130; index++) { /* an Error object that a function returned stays a value */
    TVMFFIAny value = {.type_index = index};
    assert_false(dsc_is_poison(&value));
  }
  assert_int_equal(dsc_registers_set(&registers, 2, dsc_int(1)), DISCO_OK); /* healed */
  dsc_registers_fini(&registers);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(unset_is_none),
      cmocka_unit_test(they_grow_and_keep_their_values),
      cmocka_unit_test(they_own_their_values),
      cmocka_unit_test(the_old_value_goes_last),
      cmocka_unit_test(without_memory_the_value_is_dropped),
      cmocka_unit_test(poison_is_no_value),
  };
  return cmocka_run_group_tests_name("worker.registers", tests, NULL, NULL);
}
