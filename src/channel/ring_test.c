/* The ring: every frame size across every end, tiny rings under several readers, nothing lost, reordered or
 * overwritten. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "channel/ring.h"

static int scale(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int value = text != NULL ? atoi(text) : 1;
  return value > 0 ? value : 1;
}

enum { MAX_READERS = 4, GUARD = 64 };

/* A ring between two guard areas, with its readers. */
typedef struct {
  dsc_ring_shared shared;
  dsc_ring_writer writer;
  struct {
    _Alignas(DSC_CACHE_LINE) _Atomic uint64_t position;
    char other_words[40];
  } lines[MAX_READERS];
  dsc_ring_reader readers[MAX_READERS];
  uint64_t bytes;
  char *memory;
} ring;

static ring *make_ring(uint64_t bytes, int32_t readers) {
  ring *r = aligned_alloc(DSC_CACHE_LINE, (sizeof(*r) + DSC_CACHE_LINE - 1) / DSC_CACHE_LINE * DSC_CACHE_LINE);
  assert_non_null(r);
  memset(r, 0, sizeof(*r));
  r->bytes = bytes;
  r->memory = aligned_alloc(DSC_CACHE_LINE, bytes + 2 * GUARD);
  assert_non_null(r->memory);
  memset(r->memory, 0x5a, bytes + 2 * GUARD);
  char *data = r->memory + GUARD;
  dsc_ring_writer_init(&r->writer, &r->shared, data, bytes, &r->lines[0].position, sizeof(r->lines[0]), readers);
  for (int i = 0; i < readers; i++) dsc_ring_reader_init(&r->readers[i], &r->shared, data, bytes);
  return r;
}

static void free_ring(ring *r) {
  for (int i = 0; i < GUARD; i++) {
    assert_int_equal(r->memory[i], 0x5a);
    assert_int_equal(r->memory[(uint64_t)GUARD + r->bytes + (uint64_t)i], 0x5a);
  }
  free(r->memory);
  free(r);
}

/* A frame's content: number, size, and bytes that follow from both. */
typedef struct {
  uint32_t frame; /* the ring's */
  uint32_t size;
  uint64_t number;
} head;

static uint8_t content(uint64_t number, uint64_t at) { return (uint8_t)(number * 31 + at * 7 + 1); }

static void fill(void *frame, uint64_t number, uint64_t size) {
  head h = {0, (uint32_t)size, number};
  memcpy(frame, &h, sizeof(h));
  for (uint64_t i = sizeof(h); i < size; i++) ((uint8_t *)frame)[i] = content(number, i);
}

static bool is_frame(const void *frame, uint64_t number, uint64_t size) {
  head h;
  memcpy(&h, frame, sizeof(h));
  if (h.number != number || h.size != size || h.frame != (size + 63) / 64 * 64) return false;
  for (uint64_t i = sizeof(h); i < size; i++)
    if (((const uint8_t *)frame)[i] != content(number, i)) return false;
  return true;
}

static bool put(ring *r, uint64_t number, uint64_t claimed, uint64_t size) {
  void *frame = dsc_ring_claim(&r->writer, claimed);
  if (frame == NULL) return false;
  fill(frame, number, size);
  (void)dsc_ring_commit(&r->writer, frame, size);
  return true;
}

static bool get(ring *r, int reader, uint64_t number, uint64_t size) {
  const void *frame = dsc_ring_peek(&r->readers[reader]);
  if (frame == NULL || !is_frame(frame, number, size)) return false;
  dsc_ring_advance(&r->readers[reader], frame, &r->lines[reader].position);
  return true;
}

/* Every size from a line to half the ring, started at every line of the ring, so at every distance from its end. */
static void every_size_at_every_place(void **state) {
  (void)state;
  for (uint64_t bytes = 256; bytes <= 4096; bytes *= 4) {
    ring *r = make_ring(bytes, 1);
    uint64_t number = 0;
    for (uint64_t size = 64; size <= bytes / 2; size += 64) {
      for (uint64_t line = 0; line < bytes / 64; line++) {
        while ((r->writer.tail / 64) % (bytes / 64) != line) { /* frames of one line lead there */
          assert_true(put(r, ++number, 64, 64));
          assert_true(get(r, 0, number, 64));
        }
        assert_true(put(r, ++number, size, size));
        assert_int_equal(((uintptr_t)dsc_ring_peek(&r->readers[0]) - (uintptr_t)r->writer.data) % 64, 0);
        assert_true(get(r, 0, number, size));
        assert_null(dsc_ring_peek(&r->readers[0]));
        assert_false(dsc_ring_has_news(&r->readers[0]));
      }
    }
    free_ring(r);
  }
}

static void a_claim_is_an_upper_bound(void **state) {
  (void)state;
  ring *r = make_ring(1024, 1);
  uint64_t number = 0;
  for (uint64_t size = sizeof(head); size <= 512; size++) {
    assert_true(put(r, ++number, 512, size)); /* committed: what it really took, in whole lines */
    assert_int_equal(dsc_load_relaxed(&r->shared.tail) % 64, 0);
    assert_true(get(r, 0, number, size));
  }
  /* A claim that is not committed is forgotten. */
  uint64_t tail = r->writer.tail;
  assert_non_null(dsc_ring_claim(&r->writer, 512));
  assert_non_null(dsc_ring_claim(&r->writer, 64));
  assert_int_equal(r->writer.tail, tail);
  assert_false(dsc_ring_has_news(&r->readers[0]));
  assert_true(put(r, ++number, 64, 64));
  assert_true(get(r, 0, number, 64));
  free_ring(r);
}

/* Full is NULL; what is there stays as it was, and the position to wait for is the right one. */
static void full_is_null_and_overwrites_nothing(void **state) {
  (void)state;
  for (uint64_t size = 64; size <= 128; size += 64) {
    ring *r = make_ring(256, 2);
    uint64_t first = 1, last = 0;
    for (int round = 0; round < 50; round++) {
      while (put(r, last + 1, size, size)) assert_true(++last < first + 256 / size);
      for (int i = 0; i < 5; i++) assert_null(dsc_ring_claim(&r->writer, size));
      uint64_t needed = dsc_ring_needed(&r->writer, size);
      assert_true(get(r, 0, first, size)); /* one reader is not enough */
      assert_null(dsc_ring_claim(&r->writer, size));
      assert_true(get(r, 1, first, size));
      first++;
      assert_int_equal(dsc_load_relaxed(&r->lines[1].position) >= needed, dsc_ring_claim(&r->writer, size) != NULL);
      for (uint64_t n = first; n <= last; n++) {
        assert_true(get(r, 0, n, size));
        assert_true(get(r, 1, n, size));
      }
      first = last + 1;
      assert_int_equal(dsc_ring_needed(&r->writer, size) <= dsc_load_relaxed(&r->lines[0].position), true);
    }
    free_ring(r);
  }
}

static void an_empty_ring_of_no_readers_is_never_full(void **state) {
  (void)state;
  ring *r = make_ring(256, 0);
  for (uint64_t number = 1; number < 100; number++) assert_true(put(r, number, 128, 128));
  free_ring(r);
}

static uint32_t next_random(uint32_t *seed) { return *seed = *seed * 1664525u + 1013904223u; }

/* ---- One writer, several readers, all on their own threads ---- */

typedef struct {
  ring *ring;
  int reader;
  uint64_t count, wrong;
} reading;

static uint64_t size_of(uint32_t *seed, uint64_t bytes) {
  return sizeof(head) + next_random(seed) / 65536 % (bytes / 2 - sizeof(head) + 1);
}

static void *read_all(void *argument) {
  reading *self = argument;
  dsc_ring_reader *reader = &self->ring->readers[self->reader];
  uint32_t seed = 3;
  for (uint64_t number = 1; number <= self->count; number++) {
    const void *frame;
    while ((frame = dsc_ring_peek(reader)) == NULL) sched_yield();
    if (!is_frame(frame, number, size_of(&seed, self->ring->bytes))) self->wrong++;
    dsc_ring_advance(reader, frame, &self->ring->lines[self->reader].position);
    if (self->wrong > 0) break;
  }
  return NULL;
}

static void run_readers(uint64_t bytes, int readers, uint64_t count) {
  ring *r = make_ring(bytes, readers);
  reading all[MAX_READERS];
  pthread_t threads[MAX_READERS];
  uint32_t seed = 3;
  uint64_t stuck = 0;
  for (int i = 0; i < readers; i++) {
    all[i] = (reading){r, i, count, 0};
    assert_int_equal(pthread_create(&threads[i], NULL, read_all, &all[i]), 0);
  }
  for (uint64_t number = 1; number <= count && stuck < 10000000; number++) {
    uint64_t size = size_of(&seed, bytes);
    for (stuck = 0; !put(r, number, size, size) && stuck < 10000000; stuck++) sched_yield();
  }
  for (int i = 0; i < readers; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(all[i].wrong, 0);
    assert_int_equal(r->readers[i].position, r->writer.tail);
    assert_int_equal(dsc_load_relaxed(&r->lines[i].position), r->writer.tail);
  }
  free_ring(r);
}

static void tiny_rings_with_reader_threads(void **state) {
  (void)state;
  for (int readers = 1; readers <= MAX_READERS; readers++) {
    run_readers(256, readers, (uint64_t)(20000 / scale()));
    run_readers(1024, readers, (uint64_t)(20000 / scale()));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_size_at_every_place),
      cmocka_unit_test(a_claim_is_an_upper_bound),
      cmocka_unit_test(full_is_null_and_overwrites_nothing),
      cmocka_unit_test(an_empty_ring_of_no_readers_is_never_full),
      cmocka_unit_test(tiny_rings_with_reader_threads),
  };
  return cmocka_run_group_tests_name("channel.ring", tests, NULL, NULL);
}
