/* The segment's layout, and error slots that are read while they are written. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "channel/segment.h"

static int scale(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int value = text != NULL ? atoi(text) : 1;
  return value > 0 ? value : 1;
}

typedef struct {
  uint64_t begin, end;
} range;

static int by_begin(const void *a, const void *b) {
  const range *x = a, *y = b;
  return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static range range_of(const dsc_segment_header *header, const void *at, uint64_t bytes) {
  uint64_t begin = (uint64_t)((const char *)at - (const char *)header);
  return (range){begin, begin + bytes};
}

static void check_layout(const dsc_segment_layout *layout) {
  dsc_segment segment = {0};
  assert_int_equal(dsc_segment_create(layout, &segment), DISCO_OK);
  dsc_segment_header *header = segment.header;
  size_t workers = (size_t)layout->num_workers, count = 0;
  range *all = calloc(2 + 4 * workers, sizeof(*all));
  assert_non_null(all);
  all[count++] = (range){0, sizeof(*header)};
  all[count++] = (range){header->ring_offset, header->ring_offset + header->ring_bytes};
  for (int32_t i = 0; i < layout->num_workers; i++) {
    all[count++] = range_of(header, dsc_segment_status(header, i), sizeof(dsc_status_line));
    all[count++] = range_of(header, dsc_segment_reply_words(header, i), sizeof(dsc_reply_words));
    all[count++] = range_of(header, dsc_segment_error_slot(header, i), layout->error_slot_bytes);
    all[count++] = range_of(header, dsc_segment_reply_ring(header, i), layout->reply_ring_bytes);
    assert_int_equal(dsc_load_relaxed(&dsc_segment_status(header, i)->awaited_done), UINT64_MAX);
    assert_int_equal(dsc_load_relaxed(&dsc_segment_status(header, i)->awaited_position), UINT64_MAX);
    assert_int_equal(dsc_load_relaxed(&dsc_segment_status(header, i)->done), 0);
  }
  qsort(all, count, sizeof(*all), by_begin);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(all[i].begin % DSC_CACHE_LINE, 0);
    assert_true(all[i].end <= header->bytes);
    if (i > 0) assert_true(all[i - 1].end <= all[i].begin);
  }
  assert_true(header->bytes <= segment.memory.bytes);
  /* Workers of other processes map the ring's pages, and those alone, read-only. */
  assert_int_equal(header->ring_offset % 4096, 0);
  for (size_t i = 0; i < count; i++) {
    uint64_t first = header->ring_offset, last = first + (header->ring_bytes + 4095) / 4096 * 4096;
    if (all[i].begin != first) assert_true(all[i].end <= first || all[i].begin >= last);
  }
  assert_int_equal(header->magic, DSC_SEGMENT_MAGIC);
  assert_int_equal(header->version, DSC_SEGMENT_VERSION);
  assert_int_equal(header->num_workers, layout->num_workers);
  assert_int_equal(header->num_groups, layout->num_groups);
  assert_int_equal(header->ring_bytes, layout->ring_bytes);
  assert_int_equal(header->reply_ring_bytes, layout->reply_ring_bytes);
  assert_int_equal(header->error_slot_bytes, layout->error_slot_bytes);
  free(all);
  dsc_segment_destroy(&segment);
  assert_null(segment.header);
  dsc_segment_destroy(&segment);
}

static void parts_do_not_overlap(void **state) {
  (void)state;
  const int32_t workers[] = {1, 2, 3, 7, 64, 1024};
  for (size_t i = 0; i < sizeof(workers) / sizeof(workers[0]); i++) {
    check_layout(&(dsc_segment_layout){workers[i], 1, 256 << 10, 4096, 16 << 10, 0, 0, 0, 0});
    check_layout(&(dsc_segment_layout){workers[i], workers[i], 1024, 256, 512, 0, 0, 0, 0});
  }
}

/* What different threads write stands on different lines. */
static void writers_have_their_own_lines(void **state) {
  (void)state;
#define LINE(type, field) (offsetof(type, field) / DSC_CACHE_LINE)
  assert_int_equal(sizeof(dsc_status_line), 4 * DSC_CACHE_LINE);
  assert_int_equal(LINE(dsc_status_line, done), 0); /* all that a command writes */
  assert_int_equal(LINE(dsc_status_line, position), 0);
  assert_int_equal(LINE(dsc_status_line, since_ns), 0);
  assert_int_equal(LINE(dsc_status_line, skipped), 0);
  assert_int_equal(LINE(dsc_status_line, function), 0);
  assert_int_equal(LINE(dsc_status_line, message), 0);
  assert_int_equal(LINE(dsc_status_line, failed), 1);
  assert_int_equal(LINE(dsc_status_line, ended), 1);
  assert_int_equal(LINE(dsc_status_line, progress_of), 1);
  assert_int_equal(LINE(dsc_status_line, progress_done), 1);
  assert_int_equal(LINE(dsc_status_line, progress_total), 1);
  assert_int_equal(LINE(dsc_status_line, awaited_done), 2);
  assert_int_equal(LINE(dsc_status_line, awaited_position), 2);
  assert_int_equal(LINE(dsc_status_line, lost), 2);
  assert_int_equal(LINE(dsc_status_line, rank_bell), 3);
  assert_int_not_equal(LINE(dsc_reply_words, position), LINE(dsc_reply_words, ring));
  const size_t lines[] = {LINE(dsc_segment_header, ring), LINE(dsc_segment_header, commands),
                          LINE(dsc_segment_header, controllers), LINE(dsc_segment_header, failures)};
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < i; k++) assert_int_not_equal(lines[i], lines[k]);
#undef LINE
}

static void awaited_words_only_fall(void **state) {
  (void)state;
  _Atomic uint64_t word = UINT64_MAX;
  dsc_await(&word, 10);
  assert_int_equal(word, 10);
  dsc_await(&word, 12);
  assert_int_equal(word, 10);
  dsc_await(&word, 3);
  assert_int_equal(word, 3);
}

static void a_fault_rings_every_bell(void **state) {
  (void)state;
  dsc_segment segment = {0};
  dsc_segment_layout layout = {2, 1, 1024, 256, 512, 0, 0, 0, 0};
  assert_int_equal(dsc_segment_create(&layout, &segment), DISCO_OK);
  dsc_segment_raise_fault(segment.header, DSC_FAULT_GRACE);
  assert_int_equal(segment.header->fault, DSC_FAULT_GRACE);
  assert_int_equal(segment.header->commands.bell, 1);
  assert_int_equal(segment.header->controllers.bell, 1);
  dsc_segment_destroy(&segment);
}

/* ---- Progress ---- */

static void progress_is_of_the_last_command_that_said_any(void **state) {
  (void)state;
  static dsc_status_line line;
  dsc_progress seen = dsc_progress_load(&line);
  assert_int_equal(seen.sequence, 0);
  const dsc_progress said[] = {{7, 0, 96}, {7, 40, 96}, {7, 41, 100}, {7, 100, 100}, {9, 3, 0}, {10, 0, 0}, {11, 9, 5}};
  for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++) {
    dsc_progress_store(&line, &said[i]);
    seen = dsc_progress_load(&line);
    assert_memory_equal(&seen, &said[i], sizeof(seen));
  }
  dsc_store_relaxed(&line.progress_of, 0); /* its writer is between two commands, or died there */
  seen = dsc_progress_load(&line);
  assert_int_equal(seen.sequence, 0);
  assert_int_equal(seen.done, 0);
  assert_int_equal(seen.total, 0);
}

typedef struct {
  dsc_status_line *line;
  _Atomic bool stop;
} saying;

enum { PARTS = 3 };

/* Command c counts from c to c + PARTS, of what it knows of so far. */
static void *say_often(void *argument) {
  saying *self = argument;
  for (uint64_t c = 1; !atomic_load(&self->stop); c++)
    for (uint64_t i = 0; i <= PARTS; i++) dsc_progress_store(self->line, &(dsc_progress){c, c + i, c + i});
  return NULL;
}

/* A reader never sees the numbers of one command with another's. */
static void progress_is_not_mixed(void **state) {
  (void)state;
  static dsc_status_line line;
  static saying writer = {.line = &line};
  const uint64_t enough = 300000 / (uint64_t)scale();
  const int64_t end = dsc_clock_now_ns() + (int64_t)5 * 1000000000; /* they may have to share one CPU */
  uint64_t changes = 0, mixed = 0, backwards = 0;
  dsc_progress last = {0};
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, say_often, &writer), 0);
  while (changes < enough && (changes % 1000 != 0 || dsc_clock_now_ns() < end)) {
    const dsc_progress seen = dsc_progress_load(&line);
    if (seen.sequence == 0) continue;
    mixed += seen.done < seen.sequence || seen.done > seen.total || seen.total > seen.sequence + PARTS;
    backwards += seen.sequence < last.sequence || (seen.sequence == last.sequence && seen.done < last.done);
    changes += seen.sequence != last.sequence;
    last = seen;
  }
  atomic_store(&writer.stop, true);
  pthread_join(thread, NULL);
  assert_int_equal(mixed, 0);
  assert_int_equal(backwards, 0);
}

/* ---- Error slots ---- */

enum { SLOT = 16 << 10, BYTES = SLOT - DSC_CACHE_LINE };

static void slots_hold_any_size(void **state) {
  (void)state;
  dsc_error_slot *slot = aligned_alloc(DSC_CACHE_LINE, SLOT + DSC_CACHE_LINE);
  char *in = malloc(BYTES), *out = malloc(BYTES);
  for (size_t size = 0; size <= BYTES; size += size < 70 ? 1 : 997) {
    memset(slot, 0x5a, SLOT + DSC_CACHE_LINE);
    slot->version = 2;
    for (size_t i = 0; i < size; i++) in[i] = (char)(size + i * 3);
    dsc_error_slot_write(slot, in, size);
    assert_int_equal(slot->version, 4);
    for (int i = 0; i < DSC_CACHE_LINE; i++) assert_int_equal(((char *)slot)[SLOT + i], 0x5a);
    memset(out, 1, BYTES);
    assert_true(dsc_error_slot_read(slot, out, size));
    if (size > 0) assert_memory_equal(in, out, size);
    assert_int_equal(out[size < BYTES ? size : 0], size < BYTES ? 1 : in[0]); /* nothing behind what was asked for */
  }
  free(slot);
  free(in);
  free(out);
}

typedef struct {
  dsc_error_slot *slot;
  uint64_t rounds;
} writing;

enum { WORDS = 200 };

static void *write_often(void *argument) {
  writing *self = argument;
  uint64_t words[WORDS];
  for (uint64_t round = 1; round <= self->rounds; round++) {
    for (int i = 0; i < WORDS; i++) words[i] = round;
    dsc_error_slot_write(self->slot, words, sizeof(words));
  }
  return NULL;
}

/* A reader sees one writing or another, never a mixture. */
static void a_read_is_whole(void **state) {
  (void)state;
  dsc_error_slot *slot = aligned_alloc(DSC_CACHE_LINE, SLOT);
  memset(slot, 0, SLOT);
  writing writer = {slot, 20000 / (uint64_t)scale()};
  uint64_t words[WORDS], last = 0, mixed = 0, backwards = 0, reads = 0;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, write_often, &writer), 0);
  while (last < writer.rounds) {
    if (!dsc_error_slot_read(slot, words, sizeof(words))) continue;
    for (int i = 1; i < WORDS; i++) mixed += words[i] != words[0];
    backwards += words[0] < last;
    last = words[0];
    reads++;
  }
  pthread_join(thread, NULL);
  assert_int_equal(mixed, 0);
  assert_int_equal(backwards, 0);
  assert_true(reads > 0);
  free(slot);
}

/* The writer died in the middle: the reader gives up in bounded time. */
static void a_dead_writer_is_noticed(void **state) {
  (void)state;
  dsc_error_slot *slot = aligned_alloc(DSC_CACHE_LINE, SLOT);
  memset(slot, 0, SLOT);
  slot->version = 7;
  char bytes[64];
  int64_t start = dsc_clock_now_ns();
  assert_false(dsc_error_slot_read(slot, bytes, sizeof(bytes)));
  assert_true(dsc_clock_now_ns() - start < (int64_t)20 * 1000000000);
  free(slot);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parts_do_not_overlap),
      cmocka_unit_test(writers_have_their_own_lines),
      cmocka_unit_test(awaited_words_only_fall),
      cmocka_unit_test(a_fault_rings_every_bell),
      cmocka_unit_test(progress_is_of_the_last_command_that_said_any),
      cmocka_unit_test(progress_is_not_mixed),
      cmocka_unit_test(slots_hold_any_size),
      cmocka_unit_test(a_read_is_whole),
      cmocka_unit_test(a_dead_writer_is_noticed),
  };
  return cmocka_run_group_tests_name("channel.segment", tests, NULL, NULL);
}
