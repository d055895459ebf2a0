#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include "worker/decoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "disco/worker.h"
#include "worker/ops.h"

struct decoder {
  model_part part;
  int32_t capacity, position;
  float *keys, *values; /* [layer][head] of this worker's key-value heads, then as ops.h has them */
  /* For DECODER_BATCH tokens. */
  float *stream, *normed, *sums; /* [token][width] */
  float *query, *key, *value;    /* [token][head][element] */
  float *mixed;                  /* [token][head][element]: what the heads attended to */
  float *gate, *up;              /* [token][column] */
  float *logits;                 /* [token][row] */
  float *turns;                  /* [token][element] */
  float *scores;                 /* [position] */
  activations *from_width, *from_heads, *from_hidden;
  decoder_observer observer;
  void *observer_context;
  float *seconds; /* of each collective since they were asked for */
  int64_t num_seconds, seconds_room;
};

/* ---- Making ---- */

static void *room(int64_t count, bool *is_there) {
  void *memory =
      aligned_alloc(MATRIX_ALIGNMENT, ((size_t)count * sizeof(float) / MATRIX_ALIGNMENT + 1) * MATRIX_ALIGNMENT);
  *is_there &= memory != NULL;
  return memory;
}

static bool make_rooms(decoder *self) {
  const model_part *part = &self->part;
  const dims *d = &part->dims;
  const int64_t batch = DECODER_BATCH, queries = (int64_t)part->heads * d->head_width;
  const int64_t keys = (int64_t)part->kv_heads * d->head_width;
  const int64_t cache = key_room(self->capacity, d->head_width) * part->kv_heads * d->layers;
  bool is_there = true;
  self->keys = room(cache, &is_there); /* pages come when they are written */
  self->values = room(cache, &is_there);
  self->stream = room(batch * d->width, &is_there);
  self->normed = room(batch * d->width, &is_there);
  self->sums = room(batch * d->width, &is_there);
  self->query = room(batch * queries, &is_there);
  self->mixed = room(batch * queries, &is_there);
  self->key = room(batch * keys, &is_there);
  self->value = room(batch * keys, &is_there);
  self->gate = room(batch * part->hidden, &is_there);
  self->up = room(batch * part->hidden, &is_there);
  self->logits = room(batch * part->rows, &is_there);
  self->turns = room(batch * d->head_width, &is_there);
  self->scores = room(key_room(self->capacity, 1), &is_there);
  self->from_width = activations_create(batch, d->width);
  self->from_heads = activations_create(batch, queries);
  self->from_hidden = activations_create(batch, part->hidden);
  return is_there && self->from_width != NULL && self->from_heads != NULL && self->from_hidden != NULL;
}

bool decoder_create(model_part *part, int32_t capacity, decoder **ret_decoder) {
  decoder *self = calloc(1, sizeof(*self));
  if (self == NULL) {
    part_free(part);
    return refuse(DISCO_MEMORY, "no memory for a decoder");
  }
  self->part = *part;
  self->capacity = capacity;
  part->layers = NULL; /* it is the decoder's now */
  part->memory = NULL;
  if (!make_rooms(self)) {
    decoder_destroy(self);
    return refuse(DISCO_MEMORY, "no memory for a context of %d tokens", capacity);
  }
  *ret_decoder = self;
  return true;
}

void decoder_destroy(decoder *self) {
  if (self == NULL) return;
  void *all[] = {self->keys,  self->values, self->stream, self->normed, self->sums,
                 self->query, self->key,    self->value,  self->mixed,  self->gate,
                 self->up,    self->logits, self->turns,  self->scores, self->seconds};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) free(all[i]);
  activations_destroy(self->from_width);
  activations_destroy(self->from_heads);
  activations_destroy(self->from_hidden);
  part_free(&self->part);
  free(self);
}

const model_part *decoder_part(const decoder *self) { return &self->part; }
int32_t decoder_capacity(const decoder *self) { return self->capacity; }
int32_t decoder_position(const decoder *self) { return self->position; }
void decoder_rewind(decoder *self, int32_t position) {
  if (position >= 0 && position < self->position) self->position = position;
}
void decoder_observe(decoder *self, decoder_observer observer, void *context) {
  self->observer = observer;
  self->observer_context = context;
}

/* ---- Collectives ---- */

static void note_seconds(decoder *self, double seconds) {
  if (self->num_seconds == self->seconds_room) {
    const int64_t wanted = self->seconds_room == 0 ? 4096 : 2 * self->seconds_room;
    float *more = realloc(self->seconds, (size_t)wanted * sizeof(*more));
    if (more == NULL) return; /* a figure less */
    self->seconds = more;
    self->seconds_room = wanted;
  }
  self->seconds[self->num_seconds++] = (float)seconds;
}

int64_t decoder_collectives(decoder *self, const float **ret_seconds) {
  const int64_t count = self->num_seconds;
  *ret_seconds = self->seconds;
  self->num_seconds = 0;
  return count;
}

static DLTensor tensor_of(const void *data, int64_t *size, DLDataType dtype) {
  return (DLTensor){.data = (void *)(uintptr_t)data, .device = {kDLCPU, 0}, .ndim = 1, .dtype = dtype, .shape = size};
}

/* x = the sum of all workers' x. */
static bool sum_over_workers(decoder *self, float *x, int64_t size) {
  if (self->part.workers == 1) return true;
  DLTensor tensor = tensor_of(x, &size, (DLDataType){kDLFloat, 32, 1});
  const double start = seconds_now();
  if (disco_allreduce(&tensor, DISCO_SUM, false, &tensor) != DISCO_OK) return false;
  note_seconds(self, seconds_now() - start);
  return true;
}

bool decoder_gather(decoder *self, const void *mine, int64_t bytes, void *all) {
  int64_t all_bytes = bytes * self->part.workers;
  if (self->part.workers == 1) {
    memcpy(all, mine, (size_t)bytes);
    return true;
  }
  DLTensor from = tensor_of(mine, &bytes, (DLDataType){kDLUInt, 8, 1});
  DLTensor to = tensor_of(all, &all_bytes, (DLDataType){kDLUInt, 8, 1});
  const double start = seconds_now();
  if (disco_allgather(&from, false, &to) != DISCO_OK) return false;
  note_seconds(self, seconds_now() - start);
  return true;
}

/* ---- The forward pass ---- */

static void observe(const decoder *self, int32_t stage, int32_t count, const float *stream) {
  if (self->observer != NULL) self->observer(self->observer_context, stage, self->position, count, stream);
}

/* The owner of a token's row puts it in, everybody else zeros: the sum is exact. */
static bool embed(decoder *self, const int32_t *tokens, int32_t count) {
  const model_part *part = &self->part;
  const int64_t width = part->dims.width;
  memset(self->stream, 0, (size_t)(count * width) * sizeof(float));
  for (int32_t t = 0; t < count; t++) {
    const int32_t row = tokens[t] - part->first_row;
    if (tokens[t] < 0 || tokens[t] >= part->dims.vocabulary)
      return refuse(DISCO_VALUE, "there is no token %d: the vocabulary has %d", tokens[t], part->dims.vocabulary);
    if (row >= 0 && row < part->rows) matrix_row(&part->embedding, row, self->stream + t * width);
  }
  return sum_over_workers(self, self->stream, count * width);
}

/* Where the keys or values of one head of a layer begin. */
static int64_t cached(const decoder *self, int32_t index, int32_t head) {
  return ((int64_t)index * self->part.kv_heads + head) * key_room(self->capacity, self->part.dims.head_width);
}

/* Put the batch's keys and values, [token][head][element], into the context. */
static void remember(decoder *self, int32_t index, int32_t count) {
  const int64_t width = self->part.dims.head_width;
  for (int32_t h = 0; h < self->part.kv_heads; h++)
    for (int32_t t = 0; t < count; t++) {
      const int64_t from = ((int64_t)t * self->part.kv_heads + h) * width;
      const int64_t cache = cached(self, index, h), position = self->position + t;
      put_key(self->keys + cache, position, width, self->key + from);
      memcpy(self->values + cache + position * width, self->value + from, (size_t)width * sizeof(float));
    }
}

static void mix(decoder *self, int32_t index, int32_t count) {
  const model_part *part = &self->part;
  const int64_t width = part->dims.head_width, group = part->heads / part->kv_heads;
  for (int32_t t = 0; t < count; t++)
    for (int32_t h = 0; h < part->heads; h++) {
      const int64_t at = ((int64_t)t * part->heads + h) * width, cache = cached(self, index, (int32_t)(h / group));
      attend(self->query + at, self->keys + cache, self->values + cache, self->position + t + 1, width, self->scores,
             self->mixed + at);
    }
}

/* What is set for a quantised kind serves float32, too. */
static matrix_kind rounded_for(matrix_kind one, matrix_kind other) { return one > other ? one : other; }

static bool attention(decoder *self, int32_t index, int32_t count) {
  const model_part *part = &self->part;
  const model_layer *l = &part->layers[index];
  const int64_t width = part->dims.width, head_width = part->dims.head_width;
  rms_norm(self->stream, l->attention_norm, part->dims.epsilon, count, width, self->normed);
  activations_set(self->from_width, rounded_for(l->query.kind, rounded_for(l->key.kind, l->value.kind)), count, width,
                  self->normed);
  matrix_multiply(&l->query, self->from_width, self->query, l->query.rows);
  matrix_multiply(&l->key, self->from_width, self->key, l->key.rows);
  matrix_multiply(&l->value, self->from_width, self->value, l->value.rows);
  for (int32_t t = 0; t < count; t++) {
    rotate(self->query + t * l->query.rows, self->turns + t * head_width, part->heads, head_width);
    rotate(self->key + t * l->key.rows, self->turns + t * head_width, part->kv_heads, head_width);
  }
  remember(self, index, count);
  mix(self, index, count);
  activations_set(self->from_heads, l->output.kind, count, l->output.columns, self->mixed);
  matrix_multiply(&l->output, self->from_heads, self->sums, width);
  if (!sum_over_workers(self, self->sums, count * width)) return false;
  add(self->stream, self->sums, count * width);
  return true;
}

static bool feed_forward(decoder *self, int32_t index, int32_t count) {
  const model_part *part = &self->part;
  const model_layer *l = &part->layers[index];
  const int64_t width = part->dims.width, hidden = part->hidden;
  rms_norm(self->stream, l->feed_forward_norm, part->dims.epsilon, count, width, self->normed);
  activations_set(self->from_width, rounded_for(l->gate.kind, l->up.kind), count, width, self->normed);
  matrix_multiply(&l->gate, self->from_width, self->gate, hidden);
  matrix_multiply(&l->up, self->from_width, self->up, hidden);
  swiglu(self->gate, self->up, count * hidden);
  activations_set(self->from_hidden, l->down.kind, count, hidden, self->gate);
  matrix_multiply(&l->down, self->from_hidden, self->sums, width);
  if (!sum_over_workers(self, self->sums, count * width)) return false;
  add(self->stream, self->sums, count * width);
  return true;
}

static void make_logits(decoder *self, int32_t count, bool is_scored) {
  const model_part *part = &self->part;
  const int64_t width = part->dims.width, first = is_scored ? 0 : count - 1;
  rms_norm(self->stream, part->norm, part->dims.epsilon, count, width, self->normed);
  observe(self, 2 * part->dims.layers + 1, count, self->normed);
  activations_set(self->from_width, part->head.kind, count - first, width, self->normed + first * width);
  matrix_multiply(&part->head, self->from_width, self->logits, part->rows);
}

bool decoder_forward(decoder *self, const int32_t *tokens, int32_t count, bool is_scored, const float **ret_logits) {
  const dims *d = &self->part.dims;
  if (count < 1 || count > DECODER_BATCH || count > self->capacity - self->position)
    return refuse(DISCO_VALUE, "%d tokens after %d are too many: the context has room for %d", count, self->position,
                  self->capacity);
  for (int32_t t = 0; t < count; t++)
    make_turns(self->position + t, d->rope_base, self->part.rope_factors, d->head_width,
               self->turns + (int64_t)t * d->head_width);
  if (!embed(self, tokens, count)) return false;
  observe(self, 0, count, self->stream);
  for (int32_t i = 0; i < d->layers; i++) {
    if (!attention(self, i, count)) return false;
    observe(self, 2 * i + 1, count, self->stream);
    if (!feed_forward(self, i, count)) return false;
    observe(self, 2 * i + 2, count, self->stream);
  }
  make_logits(self, count, is_scored);
  self->position += count;
  *ret_logits = self->logits;
  return true;
}
