#include "common/dims.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above any real model, low enough that no product of two overflows 64 bits. */
enum { MAX_LAYERS = 1024, MAX_SIZE = 1 << 24 };

/* ---- Metadata ---- */

/* A number of the metadata; false without `why` when the key is not there. */
static bool number(const disco_weights *model, const char *key, double *ret_number) {
  const char *json = disco_weights_metadata(model, key);
  char *end = NULL;
  if (json == NULL) return false;
  *ret_number = strtod(json, &end);
  return end != json && *end == 0 && isfinite(*ret_number);
}

static bool integer(const disco_weights *model, const char *key, int32_t least, int32_t most, int32_t *to) {
  double value = 0;
  const char *json = disco_weights_metadata(model, key);
  if (json == NULL) return refuse(DISCO_VALUE, "the metadata have no %s: this is no complete Llama", key);
  if (!number(model, key, &value) || value != floor(value) || value < least || value > most)
    return refuse(DISCO_VALUE, "%s is %.40s; it has to be an integer from %d to %d", key, json, least, most);
  *to = (int32_t)value;
  return true;
}

static bool real(const disco_weights *model, const char *key, double otherwise, float *to) {
  double value = otherwise;
  const char *json = disco_weights_metadata(model, key);
  if (json != NULL && !number(model, key, &value)) return refuse(DISCO_VALUE, "%s is %.40s and no number", key, json);
  *to = (float)value;
  return (*to > 0 && isfinite(*to)) || refuse(DISCO_VALUE, "%s is %g; it has to be a positive float", key, value);
}

static bool read_head_width(const disco_weights *model, dims *d) {
  static const char key[] = "llama.attention.key_length", rope[] = "llama.rope.dimension_count";
  int32_t rotated = 0;
  if (d->heads % d->kv_heads != 0)
    return refuse(DISCO_VALUE,
                  "llama.attention.head_count is %d, which llama.attention.head_count_kv, %d, does not divide",
                  d->heads, d->kv_heads);
  d->head_width = d->width / d->heads;
  if (disco_weights_metadata(model, key) != NULL) {
    if (!integer(model, key, 2, 1024, &d->head_width)) return false;
  } else if (d->width % d->heads != 0) {
    return refuse(DISCO_VALUE, "llama.embedding_length is %d, which llama.attention.head_count, %d, does not divide",
                  d->width, d->heads);
  }
  rotated = d->head_width;
  if (disco_weights_metadata(model, rope) != NULL && !integer(model, rope, 2, 1024, &rotated)) return false;
  if (rotated != d->head_width || d->head_width % 2 != 0)
    return refuse(DISCO_VALUE, "%s is %d and a head has %d elements: only heads that are rotated as a whole are known",
                  rope, rotated, d->head_width);
  return true;
}

static bool read_metadata(const disco_weights *model, dims *d) {
  const char *architecture = disco_weights_metadata(model, "general.architecture");
  const char *scaling = disco_weights_metadata(model, "llama.rope.scaling.type");
  if (strcmp(disco_weights_format(model), "gguf") != 0)
    return refuse(DISCO_VALUE, "this is a file of format %s; a GGUF file is wanted", disco_weights_format(model));
  if (architecture == NULL || strcmp(architecture, "\"llama\"") != 0)
    return refuse(DISCO_VALUE, "general.architecture is %.60s; this program knows \"llama\" only",
                  architecture == NULL ? "missing" : architecture);
  if (scaling != NULL && strcmp(scaling, "\"none\"") != 0)
    return refuse(DISCO_VALUE, "llama.rope.scaling.type is %.40s; only \"none\" is known", scaling);
  if (!integer(model, "llama.block_count", 1, MAX_LAYERS, &d->layers) ||
      !integer(model, "llama.embedding_length", 1, MAX_SIZE, &d->width) ||
      !integer(model, "llama.feed_forward_length", 1, MAX_SIZE, &d->hidden) ||
      !integer(model, "llama.attention.head_count", 1, 4096, &d->heads) ||
      !integer(model, "llama.context_length", 1, MAX_SIZE, &d->context) ||
      !real(model, "llama.attention.layer_norm_rms_epsilon", 0, &d->epsilon) ||
      !real(model, "llama.rope.freq_base", 10000, &d->rope_base))
    return false;
  d->kv_heads = d->heads;
  if (disco_weights_metadata(model, "llama.attention.head_count_kv") != NULL &&
      !integer(model, "llama.attention.head_count_kv", 1, 4096, &d->kv_heads))
    return false;
  return read_head_width(model, d);
}

/* ---- Tensors ---- */

/* Of floats: what else GGUF has (integers, doubles) is read as it is stored, and would be taken for float32. */
static bool is_known_encoding(const char *encoding) {
  static const char *const known[] = {"F32", "F16", "BF16", "Q8_0", "Q4_1"};
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
    if (strcmp(encoding, known[i]) == 0) return true;
  return false;
}

static bool has_shape(const disco_weights *model, const char *name, int64_t rows, int64_t columns) {
  const int64_t index = disco_weights_find(model, name);
  if (index < 0) return refuse(DISCO_VALUE, "there is no tensor %s: this is no complete Llama", name);
  const disco_weights_tensor *tensor = disco_weights_tensor_at(model, index);
  const int32_t ndim = rows == 0 ? 1 : 2;
  if (tensor->ndim != ndim || tensor->shape[ndim - 1] != columns || (ndim == 2 && tensor->shape[0] != rows)) {
    char wanted[64];
    if (ndim == 1)
      (void)snprintf(wanted, sizeof(wanted), "[%lld]", (long long)columns);
    else
      (void)snprintf(wanted, sizeof(wanted), "[%lld, %lld]", (long long)rows, (long long)columns);
    return refuse(DISCO_VALUE, "tensor %s has another shape than %s, which the metadata ask for", name, wanted);
  }
  if (!is_known_encoding(tensor->encoding))
    return refuse(DISCO_VALUE, "tensor %s is encoded as %s, which cannot be read: F32, F16, BF16, Q8_0 and Q4_1 can",
                  name, tensor->encoding);
  return true;
}

static bool layer_has_tensors(const disco_weights *model, const dims *d, int32_t layer) {
  const int64_t queries = (int64_t)d->heads * d->head_width, keys = (int64_t)d->kv_heads * d->head_width;
  const struct {
    const char *name;
    int64_t rows, columns;
  } all[] = {
      {"attn_norm", 0, d->width},        {"ffn_norm", 0, d->width},       {"attn_q", queries, d->width},
      {"attn_k", keys, d->width},        {"attn_v", keys, d->width},      {"attn_output", d->width, queries},
      {"ffn_gate", d->hidden, d->width}, {"ffn_up", d->hidden, d->width}, {"ffn_down", d->width, d->hidden},
  };
  char name[64];
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
    (void)snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, all[i].name);
    if (!has_shape(model, name, all[i].rows, all[i].columns)) return false;
  }
  return true;
}

/* What is there beside the tensors that were asked for changes what the model computes: a bias, an adapter. */
static bool has_no_others(const disco_weights *model, const dims *d) {
  const int64_t wanted = 9 * (int64_t)d->layers + 2 + !d->is_tied + d->has_rope_factors;
  if (disco_weights_num_tensors(model) == wanted) return true;
  for (int64_t i = 0; i < disco_weights_num_tensors(model); i++) {
    const char *name = disco_weights_tensor_at(model, i)->name;
    static const char *const parts[] = {"attn_norm",   "ffn_norm", "attn_q", "attn_k",  "attn_v",
                                        "attn_output", "ffn_gate", "ffn_up", "ffn_down"};
    static const char *const others[] = {"token_embd.weight", "output_norm.weight", "output.weight",
                                         "rope_freqs.weight"};
    bool is_known = false;
    char part[16];
    int layer = -1, end = 0;
    for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++) is_known |= strcmp(name, others[k]) == 0;
    if (sscanf(name, "blk.%d.%15[a-z_].weight%n", &layer, part, &end) == 2 && end > 0 && name[end] == 0 && layer >= 0 &&
        layer < d->layers)
      for (size_t k = 0; k < sizeof(parts) / sizeof(parts[0]); k++) is_known |= strcmp(part, parts[k]) == 0;
    if (!is_known)
      return refuse(DISCO_VALUE, "tensor %.120s is none of a Llama's: the model computes something else", name);
  }
  return true;
}

/* The columns of attn_output are those of the heads, and encoded in blocks that cannot be cut. */
static int32_t head_unit_of(const disco_weights *model, const dims *d) {
  const int32_t columns = d->heads / d->kv_heads * d->head_width; /* of one key-value head */
  int32_t unit = 1;
  for (int32_t i = 0; i < d->layers; i++) {
    char name[64];
    (void)snprintf(name, sizeof(name), "blk.%d.attn_output.weight", i);
    const int32_t block = disco_weights_tensor_at(model, disco_weights_find(model, name))->block_elements;
    while ((int64_t)unit * columns % block != 0) unit++; /* all blocks are of one size, or of one element */
  }
  return unit;
}

bool dims_read(const disco_weights *model, dims *ret_dims) {
  dims d = {0};
  const int64_t embeddings = disco_weights_find(model, "token_embd.weight");
  if (!read_metadata(model, &d)) return false;
  if (embeddings < 0) return refuse(DISCO_VALUE, "there is no tensor token_embd.weight: this is no complete Llama");
  const disco_weights_tensor *tensor = disco_weights_tensor_at(model, embeddings);
  if (tensor->ndim != 2 || tensor->shape[0] < 1 || tensor->shape[0] > MAX_SIZE)
    return refuse(DISCO_VALUE, "tensor token_embd.weight has to have 1 to %d rows", MAX_SIZE);
  d.vocabulary = (int32_t)tensor->shape[0];
  d.is_tied = disco_weights_find(model, "output.weight") < 0;
  d.has_rope_factors = disco_weights_find(model, "rope_freqs.weight") >= 0;
  if (!has_shape(model, "token_embd.weight", d.vocabulary, d.width) ||
      !has_shape(model, "output_norm.weight", 0, d.width) ||
      (!d.is_tied && !has_shape(model, "output.weight", d.vocabulary, d.width)) ||
      (d.has_rope_factors && !has_shape(model, "rope_freqs.weight", 0, d.head_width / 2)))
    return false;
  for (int32_t i = 0; i < d.layers; i++)
    if (!layer_has_tensors(model, &d, i)) return false;
  if (!has_no_others(model, &d)) return false;
  d.head_unit = head_unit_of(model, &d);
  *ret_dims = d;
  return true;
}
