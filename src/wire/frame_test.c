/* Frames: what begins well is taken, everything else is refused with a sentence that says what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/frame.h"
#include "wire/limits.h"

enum { SESSION = 77, WORKER = 3 };

static const struct {
  dsc_frame_kind kind;
  size_t least;
  const char *name;
} KINDS[] = {{DSC_FRAME_Hello, sizeof(dsc_hello), "Hello"},
             {DSC_FRAME_Answer, sizeof(dsc_answer), "Answer"},
             {DSC_FRAME_Command, sizeof(dsc_command_frame), "Command"},
             {DSC_FRAME_Done, sizeof(dsc_done_frame), "Done"},
             {DSC_FRAME_Reply, sizeof(dsc_reply_frame), "Reply"},
             {DSC_FRAME_Progress, sizeof(dsc_progress_frame), "Progress"}};
enum { NUM_KINDS = 6 };

static disco_status check(const void *bytes, size_t size, dsc_frame_kind kind, size_t least) {
  return dsc_frame_check(bytes, size, kind, least, SESSION, WORKER, "worker 3");
}

static void frames_begin_with_their_head(void **state) {
  (void)state;
  for (int i = 0; i < NUM_KINDS; i++) {
    dsc_frame frame;
    memset(&frame, 0xff, sizeof(frame));
    dsc_frame_begin(&frame, KINDS[i].kind, 48, SESSION, WORKER, 9);
    const uint8_t first[] = {48, 0, 0, 0, 0, 0, 0, 0, 0x44, 0x73, 0x63, 0x46, 2, 0, (uint8_t)(i + 1), 0};
    assert_memory_equal(&frame, first, sizeof(first));
    assert_int_equal(frame.session, SESSION);
    assert_int_equal(frame.generation, 0);
    assert_int_equal(frame.worker, WORKER);
    assert_int_equal(frame.sequence, 9);
  }
}

static void kinds_have_names(void **state) {
  (void)state;
  for (int i = 0; i < NUM_KINDS; i++) assert_string_equal(dsc_frame_name((uint32_t)KINDS[i].kind), KINDS[i].name);
  assert_null(dsc_frame_name(0));
  assert_null(dsc_frame_name(NUM_KINDS + 1));
  assert_null(dsc_frame_name(UINT32_MAX));
}

static void whole_frames_are_taken(void **state) {
  (void)state;
  for (int i = 0; i < NUM_KINDS; i++) {
    for (size_t more = 0; more <= 64; more += 8) {
      size_t size = KINDS[i].least + more;
      char *bytes = calloc(1, size);
      dsc_frame_begin((dsc_frame *)bytes, KINDS[i].kind, size, SESSION, WORKER, 1);
      assert_int_equal(check(bytes, size, KINDS[i].kind, KINDS[i].least), DISCO_OK);
      assert_int_equal(dsc_frame_check(bytes, size, KINDS[i].kind, KINDS[i].least, 0, WORKER, "x"), DISCO_OK);
      free(bytes);
    }
  }
}

/* In memory of exactly that size, so that a read beyond the end is seen. */
static void cut_frames_are_refused(void **state) {
  (void)state;
  for (int i = 0; i < NUM_KINDS; i++) {
    dsc_frame whole;
    dsc_frame_begin(&whole, KINDS[i].kind, KINDS[i].least, SESSION, WORKER, 1);
    for (size_t size = 0; size < KINDS[i].least; size++) {
      char *bytes = calloc(1, size);
      assert_non_null(bytes);
      memcpy(bytes, &whole, size < sizeof(whole) ? size : sizeof(whole));
      assert_int_equal(check(bytes, size, KINDS[i].kind, KINDS[i].least), DISCO_LOST);
      if (size >= sizeof(whole)) { /* and one that is honest about it */
        ((dsc_frame *)bytes)->size = size;
        assert_int_equal(check(bytes, size, KINDS[i].kind, KINDS[i].least), DISCO_LOST);
      }
      free(bytes);
    }
  }
}

static void refusals_say_what_is_wrong(void **state) {
  (void)state;
  dsc_done_frame good = {0};
  dsc_frame_begin(&good.head, DSC_FRAME_Done, sizeof(good), SESSION, WORKER, 1);
  const struct {
    size_t offset, width;
    uint64_t number;
    const char *sentence;
  } cases[] = {
      {offsetof(dsc_frame, size), 8, 79, "worker 3 sent a frame of 80 bytes that says it has 79 (a multiple of 8)"},
      {offsetof(dsc_frame, size), 8, UINT64_MAX, "says it has 18446744073709551615"},
      {offsetof(dsc_frame, magic), 4, 0x20544547,
       "worker 3 does not speak libdisco's protocol: its frame begins with 0x20544547 instead of 0x46637344"},
      {offsetof(dsc_frame, version), 2, 1,
       "worker 3 speaks version 1 of libdisco's protocol, and this side version 2: install the same release of "
       "libdisco on both sides"},
      {offsetof(dsc_frame, kind), 2, 9, "worker 3 sent a frame of kind 9, which is none; expected was Done"},
      {offsetof(dsc_frame, kind), 2, 5, "worker 3 sent a Reply frame where Done was expected"},
      {offsetof(dsc_frame, session), 8, 78,
       "worker 3 sent a Done frame of session 0x000000000000004e; this is session 0x000000000000004d"},
      {offsetof(dsc_frame, worker), 4, 4, "worker 3 sent a Done frame of worker 4; expected was worker 3"}};
  assert_int_equal(sizeof(good), 80);
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    dsc_done_frame bad = good;
    memcpy((char *)&bad + cases[i].offset, &cases[i].number, cases[i].width);
    assert_int_equal(check(&bad, sizeof(bad), DSC_FRAME_Done, sizeof(bad)), DISCO_LOST);
    assert_non_null(strstr(disco_last_error_text(), cases[i].sentence));
  }
  assert_int_equal(check(&good, sizeof(good), DSC_FRAME_Done, sizeof(good)), DISCO_OK);
  assert_int_equal(check(&good, sizeof(good), DSC_FRAME_Done, sizeof(good) + 8), DISCO_LOST);
  assert_non_null(strstr(disco_last_error_text(), "worker 3 sent a Done frame of 80 bytes; it has 88 at least"));
  assert_int_equal(check(&good, 15, DSC_FRAME_Done, sizeof(good)), DISCO_LOST);
  assert_non_null(strstr(disco_last_error_text(), "a frame of 15 bytes, which is too short for its head of 40"));
  good.head.size = 79; /* honest, but odd */
  assert_int_equal(check(&good, 79, DSC_FRAME_Done, 40), DISCO_LOST);
}

/* A frame of another version may be shorter than ours: the version is what the user must hear about. */
static void another_version_is_named_first(void **state) {
  (void)state;
  dsc_frame frame;
  dsc_frame_begin(&frame, DSC_FRAME_Hello, 16, SESSION, WORKER, 0);
  frame.version = 7;
  assert_int_equal(check(&frame, 16, DSC_FRAME_Hello, sizeof(dsc_hello)), DISCO_LOST);
  assert_non_null(strstr(disco_last_error_text(), "speaks version 7"));
}

static const uint64_t NUMBERS[] = {0,
                                   1,
                                   7,
                                   8,
                                   16,
                                   24,
                                   31,
                                   32,
                                   40,
                                   48,
                                   64,
                                   16384,
                                   16392,
                                   (uint64_t)1 << 32,
                                   (uint64_t)INT64_MAX,
                                   UINT64_MAX - 7,
                                   UINT64_MAX - 63,
                                   UINT64_MAX};
enum { NUM_NUMBERS = sizeof(NUMBERS) / sizeof(NUMBERS[0]) };

static void the_parts_of_a_command_add_up(void **state) {
  (void)state;
  dsc_command_frame frame = {0};
  for (int s = 0; s < NUM_NUMBERS; s++) {
    for (int r = 0; r < NUM_NUMBERS; r++) {
      for (int d = 0; d < NUM_NUMBERS; d++) {
        __extension__ unsigned __int128 sum = (unsigned __int128)sizeof(frame) + NUMBERS[r] + NUMBERS[d];
        frame.head.size = NUMBERS[s];
        frame.record_bytes = NUMBERS[r];
        frame.side_bytes = NUMBERS[d];
        if (sum != NUMBERS[s]) assert_int_equal(dsc_frame_check_command(&frame), DISCO_LOST);
        frame.head.size = sizeof(frame) + NUMBERS[r] + NUMBERS[d]; /* may wrap */
        bool good = sum <= UINT64_MAX && NUMBERS[r] >= sizeof(dsc_record) && NUMBERS[r] % 8 == 0;
        assert_int_equal(dsc_frame_check_command(&frame), good ? DISCO_OK : DISCO_LOST);
      }
    }
  }
  frame = (dsc_command_frame){.head.size = sizeof(frame) + 24, .record_bytes = 24};
  assert_int_equal(dsc_frame_check_command(&frame), DISCO_LOST);
  assert_non_null(
      strstr(disco_last_error_text(), "malformed Command frame: a record of 24 bytes (32 at least, a multiple of 8)"));
  frame = (dsc_command_frame){.head.size = 104, .record_bytes = 32, .side_bytes = 64};
  assert_int_equal(dsc_frame_check_command(&frame), DISCO_LOST);
  assert_non_null(strstr(disco_last_error_text(), "104 bytes cannot hold a record of 32 and side data of 64 bytes"));
}

static void the_parts_of_a_done_frame_add_up(void **state) {
  (void)state;
  dsc_done_frame frame = {0};
  for (int i = 0; i < NUM_NUMBERS; i++) {
    uint64_t bytes = NUMBERS[i];
    bool good = bytes <= DSC_ERROR_SLOT_BYTES && bytes % 8 == 0;
    frame.failure_bytes = bytes;
    frame.head.size = sizeof(frame) + bytes;
    assert_int_equal(dsc_frame_check_done(&frame), good ? DISCO_OK : DISCO_LOST);
    frame.head.size += 8;
    assert_int_equal(dsc_frame_check_done(&frame), DISCO_LOST);
  }
  frame.head.size = sizeof(frame) - 8; /* shorter than itself */
  frame.failure_bytes = UINT64_MAX - 7;
  assert_int_equal(dsc_frame_check_done(&frame), DISCO_LOST);
  assert_non_null(strstr(disco_last_error_text(), "malformed Done frame: 72 bytes cannot hold a failure of"));
}

static void the_parts_of_a_reply_add_up(void **state) {
  (void)state;
  dsc_reply_frame frame = {0};
  for (int i = 0; i < NUM_NUMBERS; i++) {
    uint64_t bytes = NUMBERS[i];
    bool good = bytes >= 16 && bytes % 8 == 0 && bytes <= UINT64_MAX - sizeof(frame);
    frame.value_bytes = bytes;
    frame.head.size = sizeof(frame) + bytes;
    assert_int_equal(dsc_frame_check_reply(&frame), good ? DISCO_OK : DISCO_LOST);
    frame.head.size += 8;
    assert_int_equal(dsc_frame_check_reply(&frame), DISCO_LOST);
  }
  frame = (dsc_reply_frame){.head.size = sizeof(frame) + 16, .value_bytes = 16};
  for (uint32_t outcome = 0; outcome < 2048; outcome++) {
    bool good = outcome <= DSC_REPLY_POISONED;
    frame.outcome = outcome;
    assert_int_equal(dsc_frame_check_reply(&frame), good ? DISCO_OK : DISCO_LOST);
  }
  assert_non_null(strstr(disco_last_error_text(), "malformed Reply frame: outcome 2047 is none"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(frames_begin_with_their_head),  cmocka_unit_test(kinds_have_names),
      cmocka_unit_test(whole_frames_are_taken),        cmocka_unit_test(cut_frames_are_refused),
      cmocka_unit_test(refusals_say_what_is_wrong),    cmocka_unit_test(another_version_is_named_first),
      cmocka_unit_test(the_parts_of_a_command_add_up), cmocka_unit_test(the_parts_of_a_done_frame_add_up),
      cmocka_unit_test(the_parts_of_a_reply_add_up),
  };
  return cmocka_run_group_tests_name("wire.frame", tests, NULL, NULL);
}
