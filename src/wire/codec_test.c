/* Values to slots and back, every reader's references, and what is refused without a trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/codec.h"

enum { MANY = 300, READERS = 3 };

/* A session that is nothing but an address, a register pool, and DRefs on the stack. */
typedef struct {
  dsc_idpool pool;
  char session[8], other_session[8];
  dsc_encoder encoder;
  dsc_dref drefs[MANY];
} fixture;

static int set_up(void **state) {
  fixture *f = aligned_alloc(DSC_CACHE_LINE, (sizeof(*f) + DSC_CACHE_LINE - 1) / DSC_CACHE_LINE * DSC_CACHE_LINE);
  if (f == NULL) return 1;
  memset(f, 0, sizeof(*f));
  if (dsc_idpool_init(&f->pool) != DISCO_OK) return 1;
  f->encoder = (dsc_encoder){(disco_session *)f->session, &f->pool, READERS};
  for (int i = 0; i < MANY; i++) {
    dsc_dref *dref = &f->drefs[i];
    dref->header.type_index = DSC_TYPE_DREF;
    dref->header.combined_ref_count = 1;
    dref->session = (disco_session *)f->session;
    void *handle = NULL; /* the DRefs of this test live elsewhere */
    dref->reg_id = dsc_idpool_take(&f->pool, &dref->generation, &handle);
  }
  *state = f;
  return 0;
}

static int tear_down(void **state) {
  fixture *f = *state;
  dsc_idpool_fini(&f->pool);
  free(f);
  return 0;
}

static uint32_t strong_count(const TVMFFIAny *value) { return (uint32_t)value->v_obj->combined_ref_count; }

static TVMFFIAny string_object(const char *text) {
  TVMFFIAny value;
  assert_int_equal(dsc_value_from_string(text, strlen(text), &value), DISCO_OK);
  assert_int_equal(value.type_index, kTVMFFIStr); /* long enough to be an object */
  return value;
}

/* Slots back to values, by the documentation of the codec: a DRef becomes an int with its register. */
static int decode(const void *slots, int count, TVMFFIAny *values) {
  const char *at = slots;
  int slot_count = 0;
  for (int i = 0; i < count;) {
    TVMFFIAny slot;
    memcpy(&slot, at, sizeof(slot));
    size_t bytes = sizeof(slot);
    if (slot.type_index != DSC_SLOT_DREFS) {
      values[i++] = slot;
    } else {
      const uint32_t *ids = (const uint32_t *)(at + 8);
      for (uint32_t k = 0; k < slot.small_str_len; k++) values[i++] = dsc_int(ids[k]);
      bytes = dsc_dref_run_bytes(slot.small_str_len);
    }
    at += bytes;
    slot_count += (int)(bytes / DSC_SLOT_BYTES);
  }
  return slot_count;
}

static void runs_of_drefs_are_packed(void **state) {
  fixture *f = *state;
  static _Alignas(16) char slots[(MANY + 2) * DSC_SLOT_BYTES];
  static TVMFFIAny values[MANY + 2], back[MANY + 2];
  for (int run = 1; run <= MANY; run++) {
    for (int shape = 0; shape < 4; shape++) { /* with and without a value on each side */
      int count = 0;
      if (shape & 1) values[count++] = dsc_int(-7);
      for (int i = 0; i < run; i++) values[count++] = dsc_object_value(&f->drefs[(i * 7 + run) % MANY]);
      if (shape & 2) values[count++] = dsc_int(-8);
      size_t bytes = 0;
      uint8_t flags = 0;
      memset(slots, 0x5a, sizeof(slots));
      assert_int_equal(dsc_encode(&f->encoder, values, count, NULL, slots, &bytes, &flags), DISCO_OK);
      assert_true(bytes <= dsc_encode_bound(count));
      assert_int_equal(bytes, dsc_dref_run_bytes((uint32_t)run) + (size_t)(count - run) * DSC_SLOT_BYTES);
      assert_int_equal(dsc_dref_run_bytes((uint32_t)run), (8 + 4 * run + 15) / 16 * 16);
      assert_int_equal(slots[bytes], 0x5a); /* nothing behind what was announced */
      assert_int_equal(flags, 0);           /* DRefs are no objects to count */
      assert_int_equal(decode(slots, count, back), bytes / DSC_SLOT_BYTES);
      for (int i = 0, k = 0; i < count; i++) {
        if (values[i].type_index == DSC_TYPE_DREF)
          assert_int_equal(back[i].v_int64, f->drefs[(k++ * 7 + run) % MANY].reg_id);
        else
          assert_memory_equal(&back[i], &values[i], sizeof(back[i]));
      }
    }
  }
  for (int i = 0; i < MANY; i++) assert_int_equal(f->drefs[i].header.combined_ref_count, 1);
}

static uint32_t next_random(uint32_t *seed) { return *seed = *seed * 1664525u + 1013904223u; }

/* Any mixture comes back as it was, with one reference per reader and object. */
static void mixed_values_come_back(void **state) {
  fixture *f = *state;
  enum { ROUNDS = 300, COUNT = 64 };
  TVMFFIAny objects[4], values[COUNT], back[COUNT];
  _Alignas(16) char slots[COUNT * DSC_SLOT_BYTES];
  uint32_t seed = 7;
  objects[0] = string_object("a string that is an object");
  objects[1] = string_object("another string that is an object");
  assert_int_equal(dsc_value_from_string("small", 5, &objects[2]), DISCO_OK);
  objects[3] = (TVMFFIAny){.type_index = kTVMFFIFloat, .v_float64 = 2.5};
  for (int round = 0; round < ROUNDS; round++) {
    int count = (int)(next_random(&seed) >> 16) % (COUNT + 1);
    uint32_t held[2] = {0, 0};
    for (int i = 0; i < count; i++) {
      uint32_t pick = next_random(&seed) >> 20;
      if (pick % 3 == 0) {
        values[i] = dsc_object_value(&f->drefs[pick % MANY]);
      } else if (pick % 3 == 1) {
        values[i] = dsc_int((int64_t)pick - 2048);
      } else {
        values[i] = objects[pick % 4];
        if (pick % 4 < 2) held[pick % 4]++;
      }
    }
    size_t bytes = 0;
    uint8_t flags = 0;
    assert_int_equal(dsc_encode(&f->encoder, values, count, NULL, slots, &bytes, &flags), DISCO_OK);
    assert_int_equal(decode(slots, count, back), bytes / DSC_SLOT_BYTES);
    for (int i = 0; i < count; i++) {
      if (values[i].type_index == DSC_TYPE_DREF)
        assert_int_equal(back[i].v_int64, ((dsc_dref *)values[i].v_obj)->reg_id);
      else
        assert_memory_equal(&back[i], &values[i], sizeof(back[i]));
    }
    assert_int_equal(flags, held[0] + held[1] > 0 ? DSC_RECORD_OBJECTS : 0);
    for (int i = 0; i < 2; i++) assert_int_equal(strong_count(&objects[i]), 1 + READERS * held[i]);
    for (int reader = 0; reader < READERS; reader++) {
      dsc_encoded_drop(slots, (uint32_t)count, 1); /* each reader its own */
      for (int i = 0; i < 2; i++)
        assert_int_equal(strong_count(&objects[i]), 1 + (uint32_t)(READERS - 1 - reader) * held[i]);
    }
  }
  for (int i = 0; i < 2; i++) dsc_value_drop(&objects[i]);
}

static void dropping_for_all_readers_at_once(void **state) {
  fixture *f = *state;
  _Alignas(16) char slots[4 * DSC_SLOT_BYTES];
  TVMFFIAny text = string_object("a string that is an object");
  TVMFFIAny values[3] = {text, dsc_object_value(&f->drefs[0]), text};
  size_t bytes = 0;
  uint8_t flags = 0;
  assert_int_equal(dsc_encode(&f->encoder, values, 3, NULL, slots, &bytes, &flags), DISCO_OK);
  assert_int_equal(strong_count(&text), 1 + 2 * READERS);
  dsc_encoded_drop(slots, 3, READERS);
  assert_int_equal(strong_count(&text), 1);
  dsc_value_drop(&text);
}

/* {text, dref..., bad} at every position: an error that names the argument, and no count stays. */
static void a_refusal_leaves_no_counts(void **state) {
  fixture *f = *state;
  enum { COUNT = 12 };
  _Alignas(16) char slots[COUNT * DSC_SLOT_BYTES];
  TVMFFIAny text = string_object("a string that is an object"), values[COUNT];
  dsc_dref foreign = f->drefs[1], released = f->drefs[2];
  foreign.session = (disco_session *)f->other_session;
  assert_int_equal(dsc_idpool_release(&f->pool, (uint32_t)released.reg_id, released.generation), 1);
  for (int at = 0; at < COUNT; at++) {
    for (int which = 0; which < 2; which++) {
      for (int i = 0; i < COUNT; i++) values[i] = i % 3 == 0 ? text : dsc_object_value(&f->drefs[5 + i]);
      values[at] = dsc_object_value(which == 0 ? &foreign : &released);
      size_t bytes = 99;
      uint8_t flags = 0;
      char expected[64];
      assert_int_equal(dsc_encode(&f->encoder, values, COUNT, NULL, slots, &bytes, &flags), DISCO_VALUE);
      snprintf(expected, sizeof(expected), "argument %d is a DRef", at);
      assert_non_null(strstr(disco_last_error_text(), expected));
      assert_non_null(strstr(disco_last_error_text(), which == 0 ? "of another session" : "was released"));
      assert_int_equal(strong_count(&text), 1);
      assert_int_equal(bytes, 99);
    }
  }
  dsc_value_drop(&text);
}

/* The number lives again with another meaning: the old DRef does not name it. */
static void a_reused_register_is_not_the_old_one(void **state) {
  fixture *f = *state;
  dsc_dref *dref = &f->drefs[0];
  uint32_t generation, ids[4];
  void *handle = NULL;
  assert_int_equal(dsc_check_dref(&f->encoder, dref, "the register", -1), DISCO_OK);
  assert_int_equal(dsc_idpool_release(&f->pool, (uint32_t)dref->reg_id, dref->generation), 1);
  assert_int_equal(dsc_check_dref(&f->encoder, dref, "the register", -1), DISCO_VALUE);
  assert_string_equal(disco_last_error_text(), "the register is a DRef whose register 1 was released");
  assert_int_equal(dsc_idpool_drain(&f->pool, ids, 4), 1);
  assert_int_equal(dsc_idpool_take(&f->pool, &generation, &handle), dref->reg_id);
  assert_int_equal(dsc_check_dref(&f->encoder, dref, "argument", 2), DISCO_VALUE);
  assert_string_equal(disco_last_error_text(), "argument 2 is a DRef whose register 1 was released");
  dref->generation = generation;
  assert_int_equal(dsc_check_dref(&f->encoder, dref, "the register", -1), DISCO_OK);
}

static void long_strings_are_refused(void **state) {
  fixture *f = *state;
  struct {
    TVMFFIObject header;
    TVMFFIByteArray bytes;
  } fake = {.header = {.combined_ref_count = 1, .type_index = kTVMFFIStr}, .bytes = {"", DSC_STRING_MAX + 1}};
  TVMFFIAny text = string_object("a string that is an object"), values[2] = {text, dsc_object_value(&fake)};
  _Alignas(16) char slots[2 * DSC_SLOT_BYTES];
  size_t bytes = 0;
  uint8_t flags = 0;
  assert_int_equal(dsc_encode(&f->encoder, values, 2, NULL, slots, &bytes, &flags), DISCO_VALUE);
  assert_string_equal(disco_last_error_text(),
                      "argument 1 is a string of 268435457 bytes; at most 268435456 can be sent");
  assert_int_equal(strong_count(&text), 1);
  fake.bytes.size = DSC_STRING_MAX; /* the limit itself passes; the codec never reads the bytes */
  assert_int_equal(dsc_encode(&f->encoder, values, 2, NULL, slots, &bytes, &flags), DISCO_OK);
  assert_int_equal(fake.header.combined_ref_count, 1 + READERS);
  dsc_encoded_drop(slots, 1, READERS);
  dsc_value_drop(&text);
}

static void borrowed_forms_are_owned_first(void **state) {
  (void)state;
  TVMFFIAny text = string_object("a string that is an object"), *owned = NULL;
  TVMFFIByteArray array = {"bytes", 5};
  TVMFFIAny values[4] = {dsc_int(1), text, dsc_none(), dsc_none()};
  assert_int_equal(dsc_values_look(values, 4) & DSC_VALUES_BORROWED, 0);
  values[2] = (TVMFFIAny){.type_index = kTVMFFIRawStr, .v_c_str = "raw"};
  values[3] = (TVMFFIAny){.type_index = kTVMFFIByteArrayPtr, .v_ptr = &array};
  assert_int_equal(dsc_values_look(values, 2) & DSC_VALUES_BORROWED, 0);
  assert_int_not_equal(dsc_values_look(values, 3) & DSC_VALUES_BORROWED, 0);
  assert_int_not_equal(dsc_values_look(values + 3, 1) & DSC_VALUES_BORROWED, 0);
  assert_int_equal(dsc_values_own(values, 4, &owned), DISCO_OK);
  assert_int_equal(strong_count(&text), 2);
  assert_int_equal(owned[2].type_index, kTVMFFISmallStr);
  assert_int_equal(owned[3].type_index, kTVMFFISmallBytes);
  assert_int_equal(dsc_values_look(owned, 4) & DSC_VALUES_BORROWED, 0);
  dsc_values_disown(owned, 4);
  assert_int_equal(strong_count(&text), 1);
  /* One that cannot be owned: the others are given back. */
  values[3] = (TVMFFIAny){.type_index = kTVMFFIDLTensorPtr};
  assert_int_equal(dsc_values_own(values, 4, &owned), DISCO_TYPE);
  assert_non_null(strstr(disco_last_error_text(), "argument 3"));
  assert_int_equal(strong_count(&text), 1);
  dsc_value_drop(&text);
}

int main(void) {
#define CODEC_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      CODEC_TEST(runs_of_drefs_are_packed),
      CODEC_TEST(mixed_values_come_back),
      CODEC_TEST(dropping_for_all_readers_at_once),
      CODEC_TEST(a_refusal_leaves_no_counts),
      CODEC_TEST(a_reused_register_is_not_the_old_one),
      CODEC_TEST(long_strings_are_refused),
      CODEC_TEST(borrowed_forms_are_owned_first),
  };
  return cmocka_run_group_tests_name("wire.codec", tests, NULL, NULL);
}
