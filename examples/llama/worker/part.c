#define _DEFAULT_SOURCE /* madvise */
#include "worker/part.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/layout.h"

enum { HUGE_PAGE = 2 << 20 };

/* One loading. Sizes are found and checked in a first pass; the second one reads. */
typedef struct {
  model_part *part;
  precision precision;
  disco_weights *model;
  disco_shard_plan *stored, *decoded;
  unsigned char *memory;
  size_t used; /* bytes of `memory` given out; in the first pass there is none */
  void *scratch;
  size_t scratch_bytes;
  part_progress progress;
  void *context;
  uint64_t read, tensor_read, total; /* bytes of the file: until now, of the tensor at work, of all tensors */
} loading;

static bool tell(void *context, uint64_t bytes_read) {
  loading *self = context;
  self->tensor_read = bytes_read;
  return self->progress == NULL || self->progress(self->context, self->read + bytes_read, self->total);
}

/* Room in the part's memory. */
static void *place(loading *self, size_t bytes) {
  void *at = self->memory == NULL ? NULL : self->memory + self->used;
  self->used += (bytes + MATRIX_ALIGNMENT - 1) / MATRIX_ALIGNMENT * MATRIX_ALIGNMENT;
  return at;
}

static bool shard_named(loading *self, const char *name, bool is_decoded, disco_shard *ret_shard) {
  const int64_t index = disco_weights_find(self->model, name);
  const model_part *part = self->part;
  return disco_shard_of(self->model, is_decoded ? self->decoded : self->stored, index, part->workers, part->worker,
                        ret_shard) == DISCO_OK;
}

static bool read_shard(loading *self, const disco_shard *shard, void *to) {
  if (disco_shard_read(self->model, shard, tell, self, to) != DISCO_OK) return false;
  self->read += shard->file_bytes;
  return true;
}

static matrix_kind kind_of(const loading *self, const char *name) {
  const disco_weights_tensor *tensor = disco_weights_tensor_at(self->model, disco_weights_find(self->model, name));
  if (self->precision == PRECISION_FAST && strcmp(tensor->encoding, "Q4_1") == 0) return MATRIX_Q4_1;
  if (self->precision == PRECISION_FAST && strcmp(tensor->encoding, "Q8_0") == 0) return MATRIX_Q8_0;
  return MATRIX_F32;
}

static bool is_float32(const char *name, const disco_shard *shard) {
  const DLDataType type = shard->dtype;
  return (type.code == kDLFloat && type.bits == 32 && type.lanes == 1) ||
         refuse(DISCO_VALUE, "tensor %s cannot be read as float32", name);
}

/* This worker's slice of a matrix. */
static bool load_matrix(loading *self, const char *name, matrix *ret_matrix, int32_t *ret_first) {
  const matrix_kind kind = kind_of(self, name);
  disco_shard shard;
  if (!shard_named(self, name, kind == MATRIX_F32, &shard)) return false;
  const int64_t rows = shard.shape[0];
  const int64_t columns = shard.axis == 1 ? shard.count : disco_weights_tensor_at(self->model, shard.tensor)->shape[1];
  void *at = place(self, matrix_bytes(kind, rows, columns));
  if (kind == MATRIX_F32 && !is_float32(name, &shard)) return false;
  if (ret_first != NULL) *ret_first = (int32_t)shard.first;
  if (self->memory == NULL) { /* the first pass */
    if (shard.bytes > self->scratch_bytes) self->scratch_bytes = shard.bytes;
    self->total += shard.file_bytes;
    *ret_matrix = (matrix){kind, rows, columns, NULL};
    return true;
  }
  if (!read_shard(self, &shard, self->scratch)) return false;
  *ret_matrix = matrix_pack(kind, rows, columns, self->scratch, at);
  return true;
}

static bool load_vector(loading *self, const char *name, const float **ret_vector) {
  disco_shard shard;
  if (!shard_named(self, name, true, &shard)) return false;
  void *at = place(self, shard.bytes);
  if (!is_float32(name, &shard)) return false;
  *ret_vector = at;
  if (self->memory != NULL) return read_shard(self, &shard, at);
  self->total += shard.file_bytes;
  return true;
}

static bool load_layer(loading *self, int32_t index, model_layer *to) {
  const struct {
    const char *name;
    matrix *matrix;
  } all[] = {{"attn_q", &to->query},  {"attn_k", &to->key}, {"attn_v", &to->value}, {"attn_output", &to->output},
             {"ffn_gate", &to->gate}, {"ffn_up", &to->up},  {"ffn_down", &to->down}};
  char name[64];
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
    (void)snprintf(name, sizeof(name), "blk.%d.%s.weight", index, all[i].name);
    if (!load_matrix(self, name, all[i].matrix, NULL)) return false;
  }
  (void)snprintf(name, sizeof(name), "blk.%d.attn_norm.weight", index);
  if (!load_vector(self, name, &to->attention_norm)) return false;
  (void)snprintf(name, sizeof(name), "blk.%d.ffn_norm.weight", index);
  return load_vector(self, name, &to->feed_forward_norm);
}

static bool load_all(loading *self) {
  model_part *part = self->part;
  self->used = 0;
  for (int32_t i = 0; i < part->dims.layers; i++)
    if (!load_layer(self, i, &part->layers[i])) return false;
  if (!load_matrix(self, "token_embd.weight", &part->embedding, &part->first_row)) return false;
  part->head = part->embedding;
  if (!part->dims.is_tied && !load_matrix(self, "output.weight", &part->head, NULL)) return false;
  if (part->dims.has_rope_factors && !load_vector(self, "rope_freqs.weight", &part->rope_factors)) return false;
  part->rows = (int32_t)part->head.rows;
  part->heads = (int32_t)(part->layers[0].query.rows / part->dims.head_width);
  part->kv_heads = (int32_t)(part->layers[0].key.rows / part->dims.head_width);
  part->hidden = (int32_t)part->layers[0].gate.rows;
  return load_vector(self, "output_norm.weight", &part->norm);
}

/* Weights are streamed for every token: on large pages fewer translations are missed. */
static void *huge_memory(size_t bytes) {
  void *memory = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
  if (memory != NULL) (void)madvise(memory, bytes, MADV_HUGEPAGE);
  return memory;
}

static bool open_plan(loading *self, bool is_decoded, disco_shard_plan **ret_plan) {
  char *json = layout_plan(&self->part->dims, is_decoded);
  if (json == NULL) return refuse(DISCO_MEMORY, "no memory for the shard plan");
  disco_status status = disco_shard_plan_parse(json, strlen(json), ret_plan);
  free(json);
  return status == DISCO_OK;
}

static bool load(loading *self, const char *path) {
  model_part *part = self->part;
  if (disco_weights_open(path, &self->model) != DISCO_OK) return false;
  if (!dims_read(self->model, &part->dims) || !layout_check(&part->dims, part->workers) ||
      !open_plan(self, false, &self->stored) || !open_plan(self, true, &self->decoded))
    return false;
  part->layers = calloc((size_t)part->dims.layers, sizeof(*part->layers));
  if (part->layers == NULL) return refuse(DISCO_MEMORY, "no memory for %d layers", part->dims.layers);
  if (!load_all(self)) return false;
  part->bytes = self->used;
  part->file_bytes = self->total;
  self->memory = part->memory = huge_memory(self->used);
  self->scratch =
      aligned_alloc(MATRIX_ALIGNMENT, (self->scratch_bytes + MATRIX_ALIGNMENT) / MATRIX_ALIGNMENT * MATRIX_ALIGNMENT);
  if (self->memory == NULL || self->scratch == NULL)
    return refuse(DISCO_MEMORY, "no memory for %zu bytes of weights", self->used + self->scratch_bytes);
  return load_all(self);
}

bool part_load(const char *path, precision how, int32_t worker, int32_t workers, part_progress progress, void *context,
               model_part *ret_part) {
  *ret_part = (model_part){.worker = worker, .workers = workers};
  loading self = {.part = ret_part, .precision = how, .progress = progress, .context = context};
  const bool is_loaded = load(&self, path);
  free(self.scratch);
  disco_shard_plan_destroy(self.stored);
  disco_shard_plan_destroy(self.decoded);
  disco_weights_close(self.model);
  if (!is_loaded) part_free(ret_part);
  return is_loaded;
}

void part_free(model_part *self) {
  free(self->layers);
  free(self->memory);
  *self = (model_part){0};
}
