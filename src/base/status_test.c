/* The thread's error record: what a failure leaves, who owns it, and how much of it a caller sees. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"

static void every_code_has_its_kind(void **state) {
  (void)state;
  assert_string_equal(disco_status_kind(DISCO_OK), "");
  assert_string_equal(disco_status_kind(DISCO_TYPE), "TypeError");
  assert_string_equal(disco_status_kind(DISCO_VALUE), "ValueError");
  assert_string_equal(disco_status_kind(DISCO_MEMORY), "MemoryError");
  assert_string_equal(disco_status_kind(DISCO_RUNTIME), "RuntimeError");
  assert_string_equal(disco_status_kind(DISCO_RAISED), "RuntimeError");
  assert_string_equal(disco_status_kind(DISCO_LOST), "WorkerLostError");
  assert_string_equal(disco_status_kind(DISCO_COLLECTIVE), "CollectiveError");
  assert_string_equal(disco_status_kind(DISCO_TIMEOUT), "TimeoutError");
  assert_string_equal(disco_status_kind(DISCO_INTERRUPTED), "KeyboardInterrupt");
  assert_string_equal(disco_status_kind(DISCO_CLOSED), "SessionClosedError");
  assert_string_equal(disco_status_kind((disco_status)11), "");
  assert_string_equal(disco_status_kind((disco_status)-1), "");
}

/* Codes leave the library: their numbers are part of the ABI, without gaps. */
static void codes_count_from_zero(void **state) {
  (void)state;
  int next = 0;
#define CHECK(name, value, kind, meaning)   \
  assert_int_equal(DISCO_##name, next++);   \
  assert_true(strlen(kind) < DSC_KIND_MAX); \
  assert_true(strlen(meaning) > 0);
  DISCO_STATUS_LIST(CHECK)
#undef CHECK
  assert_int_equal(next, 11);
}

static void *fresh_thread(void *argument) {
  disco_error_info info = {.struct_size = sizeof(info)};
  *(bool *)argument =
      dsc_thread_error() == NULL && strcmp(disco_last_error_text(), "") == 0 && disco_last_error(&info) == DISCO_VALUE;
  (void)dsc_fail(DISCO_TYPE, "mine"); /* freed with the thread: the leak checker looks */
  return NULL;
}

static void threads_have_their_own_error(void **state) {
  (void)state;
  bool clean = false;
  pthread_t thread;
  assert_int_equal(dsc_fail(DISCO_VALUE, "%d is %s", 7, "odd"), DISCO_VALUE);
  assert_int_equal(pthread_create(&thread, NULL, fresh_thread, &clean), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_true(clean);
  assert_string_equal(disco_last_error_text(), "7 is odd");
}

static void a_failure_fills_the_record(void **state) {
  (void)state;
  assert_int_equal(dsc_fail(DISCO_MEMORY, "no memory for %zu bytes", (size_t)99), DISCO_MEMORY);
  disco_error_info info = {.struct_size = sizeof(info)};
  assert_int_equal(disco_last_error(&info), DISCO_OK);
  assert_int_equal(info.status, DISCO_MEMORY);
  assert_string_equal(info.kind, "MemoryError");
  assert_string_equal(info.message, "no memory for 99 bytes");
  assert_string_equal(info.text, info.message); /* no longer text than the message */
  assert_string_equal(info.backtrace, "");
  assert_string_equal(info.function, "");
  assert_string_equal(info.host, "");
  assert_int_equal(info.worker, -1);
  assert_int_equal(info.group, -1);
  assert_int_equal(info.signal_number, -1);
  assert_int_equal(info.exit_status, -1);
  assert_int_equal(info.pid, -1);
  assert_int_equal(info.sequence, 0);
}

static void a_message_may_quote_the_last_one(void **state) {
  (void)state;
  (void)dsc_fail(DISCO_VALUE, "first");
  (void)dsc_fail(DISCO_RUNTIME, "second after %s", disco_last_error_text());
  (void)dsc_fail(DISCO_TYPE, "third after %s", disco_last_error_text());
  assert_string_equal(disco_last_error_text(), "third after second after first");
}

static void a_smaller_struct_is_not_overrun(void **state) {
  (void)state;
  (void)dsc_fail(DISCO_VALUE, "sentence");
  disco_error_info info;
  for (size_t size = sizeof(size_t); size <= sizeof(info); size++) {
    memset(&info, 0x5a, sizeof(info));
    info.struct_size = size;
    assert_int_equal(disco_last_error(&info), DISCO_OK);
    assert_int_equal(info.struct_size, size);
    for (size_t i = size; i < sizeof(info); i++) assert_int_equal(((unsigned char *)&info)[i], 0x5a);
  }
  info.struct_size = 0;
  assert_int_equal(disco_last_error(&info), DISCO_VALUE);
  assert_int_equal(disco_last_error(NULL), DISCO_VALUE);
}

static dsc_error full_error(void) {
  dsc_error error;
  dsc_error_init(&error);
  error.status = DISCO_RAISED;
  error.worker = 3;
  error.group = 1;
  error.signal_number = 9;
  error.exit_status = 2;
  error.pid = 77;
  error.sequence = 1234567890123;
  strcpy(error.kind, "MyError");
  error.message = strdup("message");
  error.backtrace = strdup("backtrace");
  error.function = strdup("function");
  error.host = strdup("host");
  error.text = strdup("the whole text");
  return error;
}

static void all_fields_travel(void **state) {
  (void)state;
  dsc_error error = full_error(), copy;
  dsc_error_copy(&error, &copy);
  assert_ptr_not_equal(copy.message, error.message);
  assert_int_equal(dsc_fail_with(&error), DISCO_RAISED);
  assert_null(error.message); /* taken over */
  assert_int_equal(error.status, DISCO_OK);
  disco_error_info info = {.struct_size = sizeof(info)}, second = info;
  assert_int_equal(disco_last_error(&info), DISCO_OK);
  assert_int_equal(info.worker, 3);
  assert_int_equal(info.group, 1);
  assert_int_equal(info.signal_number, 9);
  assert_int_equal(info.exit_status, 2);
  assert_int_equal(info.pid, 77);
  assert_int_equal(info.sequence, 1234567890123);
  assert_string_equal(info.kind, "MyError");
  assert_string_equal(info.message, "message");
  assert_string_equal(info.backtrace, "backtrace");
  assert_string_equal(info.function, "function");
  assert_string_equal(info.host, "host");
  assert_string_equal(info.text, "the whole text");
  assert_string_equal(disco_last_error_text(), "the whole text");
  dsc_error_view(&copy, &second);
  assert_string_equal(second.backtrace, "backtrace");
  dsc_error_fini(&copy);
  dsc_error_fini(&copy); /* empty by now */
  dsc_error_fini(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_code_has_its_kind),
      cmocka_unit_test(codes_count_from_zero),
      cmocka_unit_test(threads_have_their_own_error),
      cmocka_unit_test(a_failure_fills_the_record),
      cmocka_unit_test(a_message_may_quote_the_last_one),
      cmocka_unit_test(a_smaller_struct_is_not_overrun),
      cmocka_unit_test(all_fields_travel),
  };
  return cmocka_run_group_tests_name("base.status", tests, NULL, NULL);
}
