/* A failure in its slot: what goes in comes out, and what is too long is cut with a mark. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/limits.h"
#include "worker/failure.h"

static int make_slot(void **state) {
  *state = aligned_alloc(DSC_CACHE_LINE, DSC_ERROR_SLOT_BYTES + DSC_CACHE_LINE);
  if (*state == NULL) return 1;
  memset(*state, 0, DSC_ERROR_SLOT_BYTES);
  memset((char *)*state + DSC_ERROR_SLOT_BYTES, 0x5a, DSC_CACHE_LINE);
  return 0;
}

static int free_slot(void **state) {
  const char *end = (char *)*state + DSC_ERROR_SLOT_BYTES;
  int overrun = 0;
  for (int i = 0; i < DSC_CACHE_LINE; i++) overrun += end[i] != 0x5a;
  free(*state);
  return overrun;
}

/* Make this the thread's error, as a function that raised leaves it. */
static void fail_like(const char *kind, char *message, char *backtrace) {
  dsc_error error;
  dsc_error_init(&error);
  error.status = DISCO_RAISED;
  snprintf(error.kind, sizeof(error.kind), "%s", kind);
  error.message = message;
  error.backtrace = backtrace;
  (void)dsc_fail_with(&error);
}

static char *letters(size_t size, char first) {
  char *text = malloc(size + 1);
  assert_non_null(text);
  for (size_t i = 0; i < size; i++) text[i] = (char)(first + (char)(i % 26));
  text[size] = 0;
  return text;
}

static void all_parts_come_back(void **state) {
  dsc_error error;
  uint32_t name = 0;
  fail_like("MyError", strdup("the message"), strdup("  File \"a.py\", line 3, in f"));
  dsc_failure_store(*state, DSC_ERROR_SLOT_BYTES, 77, 5, false);
  (void)dsc_fail(DISCO_VALUE, "another error of this thread");
  assert_true(dsc_failure_load(*state, &error, &name));
  assert_int_equal(error.status, DISCO_RAISED);
  assert_int_equal(error.sequence, 77);
  assert_int_equal(name, 5);
  assert_string_equal(error.kind, "MyError");
  assert_string_equal(error.message, "the message");
  assert_string_equal(error.backtrace, "  File \"a.py\", line 3, in f");
  assert_int_equal(error.worker, -1); /* the reader knows whose slot it is */
  dsc_error_fini(&error);
}

static void the_newest_failure_counts(void **state) {
  dsc_error error;
  uint32_t name = 0;
  for (uint64_t i = 1; i <= 20; i++) {
    fail_like("ValueError", letters((size_t)(2000 - i * 90), 'a'), NULL);
    dsc_failure_store(*state, DSC_ERROR_SLOT_BYTES, i, (uint32_t)i, false);
    assert_true(dsc_failure_load(*state, &error, &name));
    assert_int_equal(error.sequence, i);
    assert_int_equal(name, i);
    assert_int_equal(strlen(error.message), 2000 - i * 90); /* nothing of a longer one before it */
    assert_string_equal(error.backtrace, "");
    dsc_error_fini(&error);
  }
}

static void statuses_keep_their_kind(void **state) {
#define CHECK(name, value, kind_text, meaning)                    \
  if (DISCO_##name != DISCO_OK) {                                 \
    dsc_error error;                                              \
    uint32_t number = 0;                                          \
    (void)dsc_fail(DISCO_##name, "a sentence");                   \
    dsc_failure_store(*state, DSC_ERROR_SLOT_BYTES, 1, 0, false); \
    assert_true(dsc_failure_load(*state, &error, &number));       \
    assert_int_equal(error.status, DISCO_##name);                 \
    assert_string_equal(error.kind, kind_text);                   \
    dsc_error_fini(&error);                                       \
  }
  DISCO_STATUS_LIST(CHECK)
#undef CHECK
}

static void empty_parts_are_empty(void **state) {
  dsc_error error;
  uint32_t name = 0;
  fail_like("", strdup(""), NULL); /* an exception without a message */
  dsc_failure_store(*state, DSC_ERROR_SLOT_BYTES, 3, 0, false);
  assert_true(dsc_failure_load(*state, &error, &name));
  assert_string_equal(error.kind, "");
  assert_string_equal(error.message, "");
  assert_string_equal(error.backtrace, "");
  dsc_error_fini(&error);
}

static bool ends_with_mark(const char *text, size_t whole) {
  char mark[64];
  int size = snprintf(mark, sizeof(mark), "... [cut: %zu bytes in all]", whole);
  size_t length = strlen(text);
  return length >= (size_t)size && strcmp(text + length - (size_t)size, mark) == 0;
}

/* Every combination of short and long parts: short ones whole, long ones a true beginning and a mark. */
static void long_parts_are_cut_with_a_mark(void **state) {
  const size_t sizes[] = {0, 1, 100, 3000, 11000, 12150, 12200, 13000, 16000, 17000, 1000000};
  const size_t count = sizeof(sizes) / sizeof(sizes[0]);
  for (size_t m = 0; m < count; m++) {
    for (size_t b = 0; b < count; b++) {
      char *message = letters(sizes[m], 'a'), *backtrace = letters(sizes[b], 'A');
      dsc_error error;
      uint32_t name = 0;
      fail_like("SomeRatherLongKindOfError", strdup(message), strdup(backtrace));
      dsc_failure_store(*state, DSC_ERROR_SLOT_BYTES, 9, 1, false);
      assert_true(dsc_failure_load(*state, &error, &name));
      assert_int_equal(error.sequence, 9);
      assert_string_equal(error.kind, "SomeRatherLongKindOfError");
      size_t length = strlen(error.message);
      if (sizes[m] <= 12000) {
        assert_string_equal(error.message, message);
      } else if (length != sizes[m] || sizes[m] > 12300) {
        assert_true(ends_with_mark(error.message, sizes[m]));
        assert_true(length > 11900);
        assert_memory_equal(error.message, message, length - 48);
      }
      length = strlen(error.backtrace);
      if (sizes[b] <= 3900) { /* a quarter is kept for the innermost frames */
        assert_string_equal(error.backtrace, backtrace);
      } else if (length != sizes[b] || sizes[b] > DSC_ERROR_SLOT_BYTES) {
        assert_true(ends_with_mark(error.backtrace, sizes[b]));
        assert_true(length > 3900);
        assert_memory_equal(error.backtrace, backtrace, length - 48);
      }
      dsc_error_fini(&error);
      free(message);
      free(backtrace);
    }
  }
}

static void a_long_kind_is_cut(void **state) {
  dsc_error error;
  uint32_t name = 0;
  char kind[DSC_KIND_MAX];
  memset(kind, 'K', sizeof(kind));
  kind[DSC_KIND_MAX - 1] = 0; /* the longest that is kept */
  fail_like(kind, strdup("m"), NULL);
  dsc_failure_store(*state, DSC_ERROR_SLOT_BYTES, 1, 0, false);
  assert_true(dsc_failure_load(*state, &error, &name));
  assert_string_equal(error.kind, kind);
  assert_string_equal(error.message, "m");
  dsc_error_fini(&error);
}

/* The peer is not trusted: sizes that cannot be are no reason to read beyond the slot. */
static void nonsense_in_a_slot_is_harmless(void **state) {
  dsc_error error;
  uint32_t name = 99;
  for (int byte = 1; byte < 256; byte += 127) {
    char *slot = *state;
    memset(slot, byte, DSC_ERROR_SLOT_BYTES);
    ((dsc_error_slot *)*state)->version = 2;
    assert_true(dsc_failure_load(*state, &error, &name));
    assert_int_equal(error.status, DISCO_RAISED);
    assert_int_equal(name, 0);
    assert_null(error.message);
    dsc_error_fini(&error);
  }
}

/* The same bytes on a pipe: in memory of exactly their size, so that a step beyond it is seen. */
static void failures_are_bytes(void **state) {
  (void)state;
  const size_t rooms[] = {DSC_FAILURE_LEAST_BYTES, 257, 300, 1000, 4096, DSC_ERROR_SLOT_BYTES};
  for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
    char *bytes = malloc(rooms[i]);
    dsc_error error;
    uint32_t name = 0;
    fail_like("MyError", letters(500, 'a'), letters(300, 'A'));
    size_t size = dsc_failure_encode(78, 6, false, bytes, rooms[i]);
    assert_in_range(size, 32, rooms[i]);
    assert_int_equal(size % 8, 0);
    assert_true(dsc_failure_parse(bytes, size, &error, &name));
    assert_int_equal(error.sequence, 78);
    assert_int_equal(name, 6);
    assert_string_equal(error.kind, "MyError");
    if (rooms[i] > 900) assert_int_equal(strlen(error.message), 500);
    if (rooms[i] > 900) assert_int_equal(strlen(error.backtrace), 300);
    dsc_error_fini(&error);
    for (size_t cut = 0; cut < size; cut++) {
      char *part = malloc(cut);
      memcpy(part, bytes, cut);
      bool good = dsc_failure_parse(part, cut, &error, &name);
      if (good) assert_true(cut + 8 > size); /* only padding is missing */
      if (!good) assert_null(error.message);
      if (!good) assert_int_equal(name, 0);
      dsc_error_fini(&error);
      free(part);
    }
    free(bytes);
  }
  char small[DSC_FAILURE_LEAST_BYTES - 1];
  assert_int_equal(dsc_failure_encode(1, 1, false, small, sizeof(small)), 0);
}

static void malformed_failures_are_refused(void **state) {
  (void)state;
  const struct {
    int word; /* of the head's 32-bit words: 3 status, 4 kind, 5 message, 6 backtrace */
    uint32_t number;
  } cases[] = {{3, 0},  {3, 12},         {3, UINT32_MAX}, {4, DSC_KIND_MAX}, {4, UINT32_MAX},
               {5, 30}, {5, UINT32_MAX}, {6, 30},         {6, UINT32_MAX}};
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    uint32_t words[64];
    dsc_error error;
    uint32_t name = 99;
    fail_like("K", strdup("m"), strdup("b"));
    size_t size = dsc_failure_encode(1, 1, false, words, sizeof(words));
    assert_int_equal(size, 40);
    assert_true(dsc_failure_parse(words, size, &error, &name));
    dsc_error_fini(&error);
    words[cases[i].word] = cases[i].number;
    assert_false(dsc_failure_parse(words, size, &error, &name));
    assert_null(error.message);
    assert_int_equal(name, 0);
    dsc_error_fini(&error);
  }
}

int main(void) {
#define SLOT_TEST(name) cmocka_unit_test_setup_teardown(name, make_slot, free_slot)
  const struct CMUnitTest tests[] = {
      SLOT_TEST(all_parts_come_back),
      SLOT_TEST(the_newest_failure_counts),
      SLOT_TEST(statuses_keep_their_kind),
      SLOT_TEST(empty_parts_are_empty),
      SLOT_TEST(long_parts_are_cut_with_a_mark),
      SLOT_TEST(a_long_kind_is_cut),
      SLOT_TEST(nonsense_in_a_slot_is_harmless),
      cmocka_unit_test(failures_are_bytes),
      cmocka_unit_test(malformed_failures_are_refused),
  };
  return cmocka_run_group_tests_name("worker.failure", tests, NULL, NULL);
}
