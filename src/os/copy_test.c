/* Copies: all bytes, at every alignment and around every threshold, and none beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "os/copy.h"

enum { GUARD = 64, GUARD_BYTE = 0x5a };

static void (*const copies[])(void *to, const void *from, size_t bytes) = {dsc_copy_to_peer, dsc_copy_from_peer,
                                                                           dsc_copy_past_caches};
enum { COPIES = sizeof(copies) / sizeof(copies[0]) };

static void fill(uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(i * 7 + i / 251 + 1);
}

static void check(int copy, size_t size, size_t to_offset, size_t from_offset) {
  uint8_t *from = malloc(size + from_offset), *to = malloc(GUARD + to_offset + size + GUARD);
  uint8_t *expected = malloc(GUARD + to_offset + size + GUARD);
  assert_true(from != NULL && to != NULL && expected != NULL);
  fill(from, size + from_offset);
  memset(to, GUARD_BYTE, GUARD + to_offset + size + GUARD);
  memset(expected, GUARD_BYTE, GUARD + to_offset + size + GUARD);
  memcpy(expected + GUARD + to_offset, from + from_offset, size);
  copies[copy](to + GUARD + to_offset, from + from_offset, size);
  assert_memory_equal(to, expected, GUARD + to_offset + size + GUARD);
  fill(expected, size < 64 ? size : 64);
  assert_memory_equal(from, expected, size < 64 ? size : 64); /* the source stays */
  free(from);
  free(to);
  free(expected);
}

static void small_sizes(void **state) {
  (void)state;
  for (int copy = 0; copy < COPIES; copy++) copies[copy](NULL, NULL, 0);
  for (int copy = 0; copy < COPIES; copy++)
    for (size_t size = 0; size <= 300; size++)
      for (size_t offset = 0; offset < 4; offset++) check(copy, size, offset * 5, (3 - offset) * 9);
}

static void around_the_thresholds(void **state) {
  (void)state;
  for (int copy = 0; copy < COPIES; copy++) {
    for (size_t size = 4095; size <= 4200; size++) check(copy, size, size % 64, size % 17);
    for (size_t size = 1500; size <= 1600; size++) check(copy, size, size % 5, 0); /* 24 lines */
  }
}

static void every_alignment(void **state) {
  (void)state;
  for (int copy = 0; copy < COPIES; copy++)
    for (size_t to = 0; to < 64; to++)
      for (size_t from = 0; from < 64; from += 7) check(copy, 5000, to, from);
}

static void a_large_odd_size(void **state) {
  (void)state;
  for (int copy = 0; copy < COPIES; copy++)
    for (size_t offset = 0; offset < 3; offset++) check(copy, (1 << 20) + 3, offset, 2 * offset);
}

static void the_cache_has_a_size(void **state) {
  (void)state;
  size_t size = dsc_last_level_cache();
  assert_in_range(size, 64 << 10, (size_t)4 << 30);
  assert_int_equal(dsc_last_level_cache(), size);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_sizes),      cmocka_unit_test(around_the_thresholds), cmocka_unit_test(every_alignment),
      cmocka_unit_test(a_large_odd_size), cmocka_unit_test(the_cache_has_a_size),
  };
  return cmocka_run_group_tests_name("os.copy", tests, NULL, NULL);
}
