/* Reading shards: against an oracle that reads whole tensors and cuts them with loops, and the bytes that the process
 * read against those of the shard; files that change, progress, and structs that lie. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "weights/decode.h"
#include "weights/shard.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t seed = 99;
static int64_t roll(int64_t below) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return (int64_t)((seed >> 33) % (uint64_t)below);
}

/* ---- Encodings of this test ---- */

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/* Four elements in three bytes: a scale, and two nibbles per byte. */
static float toy_value(const uint8_t *block, int64_t at) {
  return (float)block[0] * (float)((block[1 + at / 2] >> (at % 2 * 4)) & 15);
}

static void decode_toy(const void *from, int64_t count, float *to) {
  assert_int_equal(count % 4, 0); /* whole blocks only */
  for (int64_t i = 0; i < count; i++) to[i] = toy_value((const uint8_t *)from + i / 4 * 3, i % 4);
}

/* From the definition, one case after the other; NaNs become quiet. */
static float half_value(uint16_t half) {
  const uint32_t sign = (uint32_t)(half >> 15) << 31, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13 | (fraction != 0) << 22);
  if (exponent > 0) return float_of(sign | (exponent + 112) << 23 | fraction << 13);
  return float_of(sign | bits_of((float)fraction / 16777216.0f));
}

static float bfloat_value(uint16_t half) { return float_of((uint32_t)half << 16); }

static const dsc_encoding encodings[] = {
    {"U8", {kDLUInt, 8, 1}, 1, 1, NULL},           {"F32", {kDLFloat, 32, 1}, 1, 4, NULL},
    {"I64", {kDLInt, 64, 1}, 1, 8, NULL},          {"F16", {kDLFloat, 16, 1}, 1, 2, NULL},
    {"BF16", {kDLBfloat, 16, 1}, 1, 2, NULL},      {"f32-to-bf16", {kDLFloat, 32, 1}, 1, 2, dsc_decode_bf16},
    {"TOY4", {kDLFloat, 32, 1}, 4, 3, decode_toy},
};
enum { F32 = 1, F16 = 3, BF16 = 4, TRUNCATED = 5, TOY = 6 };

/* ---- One tensor in a file, between other bytes ---- */

typedef struct {
  char path[64];
  disco_weights *model;
  const dsc_encoding *encoding;
  int32_t ndim;
  int64_t shape[8];
  uint64_t offset, bytes, file_bytes;
  uint8_t *stored; /* the tensor's bytes */
} scene;

static void open_scene(scene *self, const dsc_encoding *encoding, int32_t ndim, const int64_t *shape) {
  uint64_t elements = 1;
  int32_t file;
  *self = (scene){.path = "/tmp/disco_shard_test.XXXXXX", .encoding = encoding, .ndim = ndim};
  memcpy(self->shape, shape, (size_t)ndim * sizeof(*shape));
  for (int32_t i = 0; i < ndim; i++) elements *= (uint64_t)shape[i];
  self->bytes = elements / (uint64_t)encoding->block_elements * (uint64_t)encoding->block_bytes;
  self->offset = (uint64_t)roll(100);
  self->file_bytes = self->offset + self->bytes + (uint64_t)roll(50);
  uint8_t *all = malloc(self->file_bytes + 1);
  assert_non_null(all);
  for (uint64_t i = 0; i < self->file_bytes; i++) all[i] = (uint8_t)roll(256);
  const int fd = mkstemp(self->path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, all, self->file_bytes), self->file_bytes);
  assert_int_equal(close(fd), 0);
  self->stored = malloc(self->bytes + 1);
  assert_non_null(self->stored);
  memcpy(self->stored, all + self->offset, self->bytes);
  free(all);
  const disco_weights_tensor view = {
      .name = "w", .ndim = ndim, .shape = shape, .offset = self->offset, .bytes = self->bytes};
  assert_int_equal(dsc_model_create("test", &self->model), DISCO_OK);
  assert_int_equal(dsc_model_add_file(self->model, self->path, self->file_bytes, &file), DISCO_OK);
  if (dsc_model_add_tensor(self->model, file, encoding, &view) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_int_equal(dsc_model_seal(self->model, false), DISCO_OK);
}

static void close_scene(scene *self) {
  disco_weights_close(self->model);
  (void)unlink(self->path);
  free(self->stored);
}

static disco_shard shard_by(const scene *self, const char *rule, int32_t num_workers, int32_t worker) {
  char json[256];
  disco_shard_plan *plan = NULL;
  disco_shard shard;
  const int size = snprintf(json, sizeof(json), "{\"rules\": [{\"match\": \"*\", %s}]}", rule);
  if (dsc_shard_plan_parse(json, (size_t)size, &plan) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  if (dsc_shard_of(self->model, plan, 0, num_workers, worker, &shard) != DISCO_OK)
    fail_msg("%s", disco_last_error_text());
  dsc_shard_plan_destroy(plan);
  return shard;
}

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

/* ---- The oracle ---- */

/* The whole tensor as a flat array of elements of `ret_size` bytes, in `shape`: decoded, or blocks as bytes. */
static uint8_t *whole(const scene *self, bool decoded, int64_t *shape, size_t *ret_size) {
  const int64_t which = self->encoding - encodings;
  uint64_t elements = self->bytes / (uint64_t)self->encoding->block_bytes * (uint64_t)self->encoding->block_elements;
  memcpy(shape, self->shape, sizeof(self->shape));
  if (which == TRUNCATED || (decoded && which >= F16)) {
    uint8_t *all = malloc(elements * sizeof(float) + 1);
    assert_non_null(all);
    for (uint64_t i = 0; i < elements; i++) {
      uint16_t half = 0;
      if (which != TOY) memcpy(&half, self->stored + 2 * i, sizeof(half));
      const float value = which == TOY   ? toy_value(self->stored + i / 4 * 3, (int64_t)(i % 4))
                          : which == F16 ? half_value(half)
                                         : bfloat_value(half);
      memcpy(all + i * sizeof(value), &value, sizeof(value));
    }
    *ret_size = sizeof(float);
    return all;
  }
  uint8_t *all = malloc(self->bytes + 1);
  assert_non_null(all);
  memcpy(all, self->stored, self->bytes);
  *ret_size = which == TOY ? 1 : (size_t)self->encoding->block_bytes;
  if (which == TOY) shape[self->ndim - 1] = shape[self->ndim - 1] / 4 * 3;
  return all;
}

/* Element by element: the index of each of the result, and where that is in the whole. */
static uint8_t *cut_out(const uint8_t *all, size_t size, int32_t ndim, const int64_t *shape, int32_t axis,
                        int64_t first, int64_t count, uint64_t *ret_bytes) {
  int64_t result[8], index[8] = {0};
  uint64_t elements = 1;
  memcpy(result, shape, (size_t)ndim * sizeof(*shape));
  if (axis >= 0) result[axis] = count;
  for (int32_t i = 0; i < ndim; i++) elements *= (uint64_t)result[i];
  uint8_t *out = malloc(elements * size + 1);
  assert_non_null(out);
  for (uint64_t e = 0; e < elements; e++) {
    uint64_t from = 0;
    for (int32_t i = 0; i < ndim; i++)
      from = from * (uint64_t)shape[i] + (uint64_t)(index[i] + (i == axis ? first : 0));
    memcpy(out + e * size, all + from * size, size);
    for (int32_t i = ndim - 1; i >= 0 && ++index[i] == result[i]; i--) index[i] = 0;
  }
  *ret_bytes = elements * size;
  return out;
}

/* ---- Bytes that this thread has read, from the kernel ---- */

static bool bytes_read(uint64_t *ret_bytes, uint64_t *ret_own) {
  char text[512];
  FILE *file = fopen("/proc/thread-self/io", "r");
  if (file == NULL) return false;
  const size_t size = fread(text, 1, sizeof(text) - 1, file);
  (void)fclose(file);
  text[size] = 0;
  const char *at = strstr(text, "rchar: ");
  if (at == NULL) return false;
  *ret_bytes = strtoull(at + 7, NULL, 10);
  *ret_own = size; /* what this reading adds to the next */
  return true;
}

/* Read the shard: its bytes, not one behind them, and nothing else of the file. */
static uint8_t *read_counted(const scene *self, const disco_shard *shard) {
  uint64_t before = 0, after = 0, own = 0, ignored;
  uint8_t *memory = malloc(shard->bytes + 16);
  assert_non_null(memory);
  memset(memory, 0xa5, shard->bytes + 16);
  const bool is_counted = bytes_read(&before, &own);
  if (dsc_shard_read(self->model, shard, NULL, NULL, memory) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  if (is_counted && bytes_read(&after, &ignored)) assert_int_equal(after - before - own, shard->file_bytes);
  for (int i = 0; i < 16; i++) assert_int_equal(memory[shard->bytes + (uint64_t)i], 0xa5);
  return memory;
}

static void compare(const scene *self, bool decoded, const disco_shard *shard) {
  int64_t shape[8];
  size_t size;
  uint64_t bytes;
  uint8_t *all = whole(self, decoded, shape, &size);
  int64_t first = shard->first, count = shard->count;
  if (self->encoding == &encodings[TOY] && !decoded && shard->axis == self->ndim - 1)
    first = first / 4 * 3, count = count / 4 * 3;
  uint8_t *expected = cut_out(all, size, self->ndim, shape, shard->axis, first, count, &bytes);
  assert_int_equal(shard->bytes, bytes);
  uint8_t *memory = read_counted(self, shard);
  if (bytes > 0) assert_memory_equal(memory, expected, bytes);
  free(memory);
  free(expected);
  free(all);
}

/* ---- All kinds of splits ---- */

/* A rule along `axis` of `dimension` elements that suits `workers`; granule: blocks. */
static void make_rule(char *rule, size_t room, int32_t axis, int64_t dimension, int64_t granule, int32_t workers,
                      bool decoded) {
  const char *decode = decoded ? ", \"decode\": true" : "";
  if (roll(6) == 0) {
    (void)snprintf(rule, room, "\"replicate\": true%s", decode);
  } else if (roll(2) == 0) { /* parts */
    char parts[128] = "";
    int64_t left = dimension / granule;
    for (int32_t w = 0; w < workers; w++) {
      const int64_t part = w == workers - 1 ? left : roll(left + 1);
      left -= part;
      (void)snprintf(parts + strlen(parts), sizeof(parts) - strlen(parts), w == 0 ? "%d" : ", %d",
                     (int)(part * granule));
    }
    (void)snprintf(rule, room, "\"axis\": %d, \"parts\": [%s]%s", axis, parts, decode);
  } else {
    (void)snprintf(rule, room, "\"axis\": %d, \"uneven\": true%s", axis, decode);
  }
}

static void shards_are_what_the_oracle_cuts(void **state) {
  (void)state;
  const char *scale = getenv("DISCO_TEST_SCALE");
  const int rounds = 1500 / (scale != NULL && atoi(scale) > 0 ? atoi(scale) : 1) + 100;
  for (int i = 0; i < rounds; i++) {
    const dsc_encoding *encoding = &encodings[roll(COUNT(encodings))];
    const bool decoded = roll(2) == 0;
    const int32_t ndim = (int32_t)roll(5) + 1, axis = (int32_t)roll(ndim), workers = (int32_t)roll(4) + 1;
    int64_t shape[8];
    for (int32_t k = 0; k < ndim; k++) shape[k] = roll(30) == 0 ? 0 : roll(9) + 1;
    shape[ndim - 1] *= encoding->block_elements;
    scene self;
    char rule[256];
    open_scene(&self, encoding, ndim, shape);
    make_rule(rule, sizeof(rule), axis, shape[axis], axis == ndim - 1 ? encoding->block_elements : 1, workers, decoded);
    for (int32_t w = 0; w < workers; w++) {
      const disco_shard shard = shard_by(&self, rule, workers, w);
      compare(&self, decoded, &shard);
    }
    close_scene(&self);
  }
}

/* Larger than pieces and chunks, whose borders then lie within runs. */
static void large_shards(void **state) {
  (void)state;
  static const struct {
    int encoding;
    int64_t shape[3];
    const char *rule;
  } cases[] = {
      {F32, {3, 700001, 1}, "\"axis\": 1, \"parts\": [500000, 200001]"},
      {F32, {1, 2500000, 1}, "\"axis\": 1, \"uneven\": true"},
      {F16, {2, 1001, 1234}, "\"axis\": 1, \"uneven\": true, \"decode\": true"},
      {TOY, {5, 31, 40004}, "\"axis\": 2, \"uneven\": true, \"decode\": true"},
      {TOY, {5, 31, 40004}, "\"axis\": 2, \"uneven\": true"},
      {TOY, {1000, 7, 44}, "\"axis\": 1, \"uneven\": true, \"decode\": true"},
      {BF16, {1, 900000, 1}, "\"replicate\": true, \"decode\": true"},
  };
  for (size_t i = 0; i < COUNT(cases); i++) {
    scene self;
    open_scene(&self, &encodings[cases[i].encoding], 3, cases[i].shape);
    for (int32_t w = 0; w < 2; w++) {
      const disco_shard shard = shard_by(&self, cases[i].rule, 2, w);
      compare(&self, strstr(cases[i].rule, "decode") != NULL, &shard);
    }
    close_scene(&self);
  }
}

static void a_scalar(void **state) {
  (void)state;
  scene self;
  open_scene(&self, &encodings[BF16], 0, (const int64_t[]){0});
  disco_shard shard = shard_by(&self, "\"replicate\": true, \"decode\": true", 3, 1);
  compare(&self, true, &shard);
  shard = shard_by(&self, "\"skip\": true", 3, 1);
  assert_int_equal(dsc_shard_read(self.model, &shard, NULL, NULL, NULL), DISCO_OK);
  close_scene(&self);
}

/* ---- Progress ---- */

typedef struct {
  int calls, stop_at;
  uint64_t last, least_step;
  const char *cut_path; /* cut that file at the first call */
} watcher;

static bool watch(void *context, uint64_t bytes) {
  watcher *self = context;
  const uint64_t step = bytes - self->last;
  assert_true(bytes >= self->last);
  if (self->calls == 0 || step < self->least_step) self->least_step = step;
  self->last = bytes;
  if (self->calls == 0 && self->cut_path != NULL) assert_int_equal(truncate(self->cut_path, 1000), 0);
  return ++self->calls != self->stop_at;
}

enum { MIB = 1 << 20 };

static void progress_is_told(void **state) {
  (void)state;
  static const char *const rules[] = {"\"replicate\": true", "\"axis\": 1", "\"axis\": 1, \"decode\": true",
                                      "\"replicate\": true, \"decode\": true"};
  scene self;
  open_scene(&self, &encodings[F16], 2, (const int64_t[]){4096, 5 * 512}); /* 20 MiB */
  char *memory = malloc(40 * MIB);
  for (size_t i = 0; i < COUNT(rules); i++) {
    watcher seen = {0};
    const disco_shard shard = shard_by(&self, rules[i], 2, 1);
    assert_int_equal(dsc_shard_read(self.model, &shard, watch, &seen, memory), DISCO_OK);
    assert_int_equal(seen.last, shard.file_bytes);
    assert_in_range(seen.calls, 2, (shard.file_bytes + 4 * MIB - 1) / (4 * MIB)); /* at most every 4 MiB */
    seen = (watcher){.stop_at = 2};
    assert_int_equal(dsc_shard_read(self.model, &shard, watch, &seen, memory), DISCO_INTERRUPTED);
    assert_int_equal(seen.calls, 2);
    expect_says("reading tensor \"w\" of /tmp/disco_shard_test.");
    expect_says("was ended after ");
  }
  free(memory);
  close_scene(&self);
}

static void small_and_empty_shards_tell_their_end(void **state) {
  (void)state;
  scene self;
  char memory[64];
  open_scene(&self, &encodings[F32], 1, (const int64_t[]){3});
  for (int32_t w = 0; w < 4; w++) {
    watcher seen = {.last = 0};
    const disco_shard shard = shard_by(&self, "\"axis\": 0, \"uneven\": true", 4, w);
    assert_int_equal(dsc_shard_read(self.model, &shard, watch, &seen, memory), DISCO_OK);
    assert_int_equal(seen.calls, 1);
    assert_int_equal(seen.last, w < 3 ? 4 : 0);
    seen = (watcher){.stop_at = 1};
    assert_int_equal(dsc_shard_read(self.model, &shard, watch, &seen, memory), DISCO_INTERRUPTED);
  }
  close_scene(&self);
}

/* ---- Files that change ---- */

static void a_file_that_changed_is_refused(void **state) {
  (void)state;
  scene self;
  char memory[4096], words[128];
  open_scene(&self, &encodings[F32], 1, (const int64_t[]){1000});
  const disco_shard shard = shard_by(&self, "\"axis\": 0", 2, 1);
  (void)snprintf(words, sizeof(words), "has 100 bytes, but the model was opened with %d: was it cut, or replaced?",
                 (int)self.file_bytes);
  assert_int_equal(truncate(self.path, 100), 0);
  assert_int_equal(dsc_shard_read(self.model, &shard, NULL, NULL, memory), DISCO_VALUE);
  expect_says("tensor \"w\": /tmp/disco_shard_test.");
  expect_says(words);
  assert_int_equal(truncate(self.path, (off_t)self.file_bytes + 1), 0);
  assert_int_equal(dsc_shard_read(self.model, &shard, NULL, NULL, memory), DISCO_VALUE);
  assert_int_equal(truncate(self.path, (off_t)self.file_bytes), 0);
  assert_int_equal(dsc_shard_read(self.model, &shard, NULL, NULL, memory), DISCO_OK);
  assert_int_equal(unlink(self.path), 0);
  assert_int_equal(dsc_shard_read(self.model, &shard, NULL, NULL, memory), DISCO_RUNTIME);
  expect_says("tensor \"w\": ");
  expect_says(self.path);
  close_scene(&self);
}

static void a_file_that_is_cut_while_it_is_read(void **state) {
  (void)state;
  static const char *const rules[] = {"\"replicate\": true", "\"axis\": 1", "\"axis\": 1, \"decode\": true"};
  char *memory = malloc(40 * MIB);
  for (size_t i = 0; i < COUNT(rules); i++) {
    scene self;
    open_scene(&self, &encodings[F16], 2, (const int64_t[]){4096, 5 * 512});
    const disco_shard shard = shard_by(&self, rules[i], 2, 0);
    watcher cutter = {.cut_path = self.path};
    assert_int_equal(dsc_shard_read(self.model, &shard, watch, &cutter, memory), DISCO_VALUE);
    assert_int_equal(cutter.calls, 1);
    expect_says("tensor \"w\": ");
    expect_says(self.path);
    close_scene(&self);
  }
  free(memory);
}

/* ---- Structs that lie ---- */

static void shards_are_not_trusted(void **state) {
  (void)state;
  scene self;
  char memory[4096];
  open_scene(&self, &encodings[TOY], 2, (const int64_t[]){6, 16});
  const disco_shard good = shard_by(&self, "\"axis\": 1", 2, 1);
  disco_shard bad[14];
  for (size_t i = 0; i < COUNT(bad); i++) bad[i] = good;
  bad[0].tensor = 1;
  bad[1].tensor = -1;
  bad[2].axis = 2;
  bad[3].axis = -2;
  bad[4].first = -4;
  bad[5].first = 12; /* ends behind the dimension */
  bad[6].first = 6;  /* within a block */
  bad[7].count = 6;
  bad[8].count = INT64_MAX - 3;
  bad[9].count = -4;
  bad[10].bytes++;
  bad[11].file_bytes--;
  bad[12].is_decoded = true; /* then it has more bytes */
  bad[13].axis = -1;
  assert_int_equal(dsc_shard_read(self.model, &good, NULL, NULL, memory), DISCO_OK);
  for (size_t i = 0; i < COUNT(bad); i++) {
    if (dsc_shard_read(self.model, &bad[i], NULL, NULL, memory) != DISCO_VALUE) fail_msg("accepted: %zu", i);
    expect_says("a shard of tensor ");
  }
  close_scene(&self);
}

static void what_can_be_listed_only_is_refused(void **state) {
  (void)state;
  disco_weights *model = NULL;
  const dsc_encoding *encoding = NULL; /* its blocks have no bytes: nothing may be divided by them */
  int32_t file;
  assert_int_equal(dsc_model_create("test", &model), DISCO_OK);
  assert_int_equal(dsc_model_add_file(model, "/models/a.bin", 100, &file), DISCO_OK);
  assert_int_equal(dsc_model_foreign_encoding(model, "/models/a.bin", "TQ7", &encoding), DISCO_OK);
  const int64_t elements = 10;
  const disco_weights_tensor view = {.name = "w", .ndim = 1, .shape = &elements, .bytes = 100};
  assert_int_equal(dsc_model_add_tensor(model, file, encoding, &view), DISCO_OK);
  for (int32_t axis = -1; axis <= 0; axis++) {
    const disco_shard shard = {.axis = axis, .count = 10, .bytes = 100, .file_bytes = 100};
    char memory[100];
    assert_int_equal(dsc_shard_read(model, &shard, NULL, NULL, memory), DISCO_VALUE);
    expect_says("a shard of tensor \"w\": encoding TQ7 can be listed, not read");
  }
  disco_weights_close(model);
}

/* Opening, the chunk, and each read: everything that can fail does, and the call after it works. */
static void every_step_may_fail(void **state) {
  (void)state;
  scene self;
  char memory[4096];
  open_scene(&self, &encodings[TOY], 2, (const int64_t[]){6, 16});
  const disco_shard shard = shard_by(&self, "\"axis\": 1, \"decode\": true", 2, 1);
  disco_status status = DISCO_VALUE;
  int without_memory = 0, unreadable = 0;
  for (long n = 1; status != DISCO_OK && n < 100; n++) {
    (void)dsc_inject_fail_allocation(n);
    status = dsc_shard_read(self.model, &shard, NULL, NULL, memory);
    (void)dsc_inject_fail_allocation(0);
    without_memory += status == DISCO_MEMORY;
    unreadable += status == DISCO_RUNTIME;
    if (status == DISCO_RUNTIME) expect_says("tensor \"w\": ");
  }
  assert_int_equal(status, DISCO_OK);
  assert_int_equal(without_memory, 1);
  assert_int_equal(unreadable, 1 + 6); /* opening, and a read for each run */
  close_scene(&self);
}

/* The most memory that this process had since it was last asked, in KiB; 0 where the kernel does not tell. */
static long peak_kib(bool start_anew) {
  long peak = 0;
  char line[256];
  FILE *file = start_anew ? fopen("/proc/self/clear_refs", "w") : NULL;
  if (file != NULL) {
    (void)fputs("5", file);
    (void)fclose(file);
  }
  file = fopen("/proc/self/status", "r");
  while (file != NULL && fgets(line, sizeof(line), file) != NULL)
    if (sscanf(line, "VmHWM: %ld", &peak) == 1) break;
  if (file != NULL) (void)fclose(file);
  return peak;
}

static void memory_is_the_shard_and_a_chunk(void **state) {
  (void)state;
  static const char *const rules[] = {"\"replicate\": true", "\"axis\": 1", "\"axis\": 1, \"decode\": true",
                                      "\"replicate\": true, \"decode\": true"};
  scene self;
  /* Otherwise the heap keeps what earlier tests gave back, and a chunk costs nothing. */
  (void)mallopt(M_MMAP_THRESHOLD, 128 << 10);
  (void)malloc_trim(0);
  open_scene(&self, &encodings[F16], 2, (const int64_t[]){4096, 5 * 512}); /* 20 MiB */
  char *memory = malloc(40 * MIB);
  assert_non_null(memory);
  memset(memory, 1, 40 * MIB);
  for (size_t i = 0; i < COUNT(rules); i++) {
    const disco_shard shard = shard_by(&self, rules[i], 2, 1);
    const long before = peak_kib(true);
    assert_int_equal(dsc_shard_read(self.model, &shard, NULL, NULL, memory), DISCO_OK);
    assert_in_range(peak_kib(false) - before, 0, 1024 + 256); /* some pages of code come along */
  }
  free(memory);
  close_scene(&self);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shards_are_what_the_oracle_cuts),
      cmocka_unit_test(large_shards),
      cmocka_unit_test(a_scalar),
      cmocka_unit_test(progress_is_told),
      cmocka_unit_test(small_and_empty_shards_tell_their_end),
      cmocka_unit_test(a_file_that_changed_is_refused),
      cmocka_unit_test(a_file_that_is_cut_while_it_is_read),
      cmocka_unit_test(shards_are_not_trusted),
      cmocka_unit_test(what_can_be_listed_only_is_refused),
      cmocka_unit_test(every_step_may_fail),
      cmocka_unit_test(memory_is_the_shard_and_a_chunk),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
