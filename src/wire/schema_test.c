/* The list of messages: numbers, names, which are skipped after a failure, and the headers' layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "disco/disco.h"
#include "wire/codec.h"
#include "wire/limits.h"
#include "wire/schema.h"

static void every_message_has_its_name(void **state) {
  (void)state;
#define CHECK(name, number, skippable, reg, target, slots, meaning) \
  assert_int_equal(DSC_MESSAGE_##name, number);                     \
  assert_string_equal(dsc_message_name(number), #name);             \
  assert_int_equal(dsc_message_skippable(number), skippable);       \
  assert_true(strlen(meaning) > 0);
  DSC_MESSAGE_LIST(CHECK)
#undef CHECK
}

static void other_numbers_are_no_message(void **state) {
  (void)state;
  int known = 0, listed = 0;
#define COUNT(...) listed++;
  DSC_MESSAGE_LIST(COUNT)
#undef COUNT
  for (int64_t i = -300; i < 600; i++) known += dsc_message_name(i) != NULL;
  assert_int_equal(known, listed); /* also: no number twice */
  assert_null(dsc_message_name(-1));
  assert_null(dsc_message_name(9));
  assert_null(dsc_message_name(256));
  assert_null(dsc_message_name(INT64_MAX));
  assert_false(dsc_message_skippable(9));
  assert_false(dsc_message_skippable(255));
}

/* After a failure: calls and both copies are skipped; looking up, healing, releasing, syncing and ending are not. */
static void what_is_skipped(void **state) {
  (void)state;
  for (int i = 0; i < 256; i++)
    assert_int_equal(dsc_message_skippable((uint8_t)i),
                     i == DSC_MESSAGE_CallPacked || i == DSC_MESSAGE_CopyFromWorker0 || i == DSC_MESSAGE_CopyToWorker0);
}

/* The messages are TVM's actions, with their numbers; ours begin at 64. */
static void messages_are_the_actions(void **state) {
  (void)state;
#define CHECK(name, value)                      \
  assert_int_equal(DSC_MESSAGE_##name, value);  \
  assert_int_equal(DISCO_ACTION_##name, value); \
  assert_string_equal(dsc_message_name(value), #name);
  DISCO_ACTION_LIST(CHECK)
#undef CHECK
  assert_int_equal(DSC_MESSAGE_Resume, 64);
}

static void fields_have_no_gaps(void **state) {
  (void)state;
  size_t at = 0;
#define CHECK(type, field, meaning)                  \
  assert_int_equal(offsetof(dsc_record, field), at); \
  at += sizeof(type);
  DSC_RECORD_FIELDS(CHECK)
#undef CHECK
  assert_int_equal(at, sizeof(dsc_record));
  at = 0;
#define CHECK(type, field, meaning)                 \
  assert_int_equal(offsetof(dsc_reply, field), at); \
  at += sizeof(type);
  DSC_REPLY_FIELDS(CHECK)
#undef CHECK
  assert_int_equal(at, sizeof(dsc_reply));
  assert_int_equal(offsetof(dsc_record, frame), 0); /* the ring's word */
  assert_int_equal(offsetof(dsc_reply, frame), 0);
}

/* The largest record that a caller can ask for fits half the smallest ring, so that a claim can always succeed. */
static void the_largest_record_fits(void **state) {
  (void)state;
  size_t largest =
      sizeof(dsc_record) + dsc_encode_bound(DSC_MAX_ARGUMENTS) + DSC_MAX_RELEASES * sizeof(uint32_t) + DSC_CACHE_LINE;
  assert_true(largest <= DSC_MIN_RING_BYTES / 2);
  dsc_record record = {0};
  record.num_args = (uint16_t)DSC_MAX_ARGUMENTS; /* counts fit their fields */
  record.num_releases = (uint16_t)DSC_MAX_RELEASES;
  record.num_slots = (uint16_t)(dsc_encode_bound(DSC_MAX_ARGUMENTS) / DSC_SLOT_BYTES);
  assert_int_equal(record.num_args, DSC_MAX_ARGUMENTS);
  assert_int_equal(record.num_releases, DSC_MAX_RELEASES);
  assert_int_equal(record.num_slots, DSC_MAX_ARGUMENTS);
  assert_true(sizeof(dsc_reply) + sizeof(TVMFFIAny) <= DSC_REPLY_RING_BYTES / 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_message_has_its_name),
      cmocka_unit_test(other_numbers_are_no_message),
      cmocka_unit_test(what_is_skipped),
      cmocka_unit_test(messages_are_the_actions),
      cmocka_unit_test(fields_have_no_gaps),
      cmocka_unit_test(the_largest_record_fits),
  };
  return cmocka_run_group_tests_name("wire.schema", tests, NULL, NULL);
}
