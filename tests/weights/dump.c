/* What the library reads of a file of weights, for the comparison with other readers: one line of JSON for each
 * metadata value and each tensor.
 *
 *     dump FILE [--decode] [--bytes TO]
 *
 *     {"metadata": "general.name", "value": "SmolLM2"}
 *     {"tensor": "a", "encoding": "Q8_0", "shape": [2, 32], "offset": 128, "stored": 68, "dtype": [1, 8],
 *      "result": [2, 34], "bytes": 68, "hash": "9f0c5d0d6a2f3b41"}
 *
 * Everybody's copy is read, as it is stored or as float32 what can be decoded. `dtype` is DLPack's code and bits,
 * `result` the shape of what was read, `hash` its XXH3; null for tensors that can only be listed. TO gets what was
 * read, one tensor behind the other. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "disco/weights.h"

static void print_string(const char *text) {
  (void)putchar('"');
  for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++)
    if (*at < 0x20 || *at == '"' || *at == '\\')
      (void)printf("\\u%04x", *at);
    else
      (void)putchar(*at);
  (void)putchar('"');
}

static void print_shape(const char *name, int32_t ndim, const int64_t *shape) {
  (void)printf(", \"%s\": [", name);
  for (int32_t i = 0; i < ndim; i++) (void)printf("%s%lld", i > 0 ? ", " : "", (long long)shape[i]);
  (void)putchar(']');
}

static bool print_result(const disco_weights *weights, const disco_shard_plan *plan, int64_t index, FILE *to) {
  disco_shard shard;
  if (disco_shard_of(weights, plan, index, 1, 0, &shard) != DISCO_OK) return false;
  void *memory = malloc(shard.bytes > 0 ? shard.bytes : 1);
  bool good = memory != NULL && disco_shard_read(weights, &shard, NULL, NULL, memory) == DISCO_OK;
  if (good) {
    (void)printf(", \"dtype\": [%d, %d]", shard.dtype.code, shard.dtype.bits);
    print_shape("result", shard.ndim, shard.shape);
    (void)printf(", \"bytes\": %llu, \"hash\": \"%016llx\"", (unsigned long long)shard.bytes,
                 (unsigned long long)disco_weights_hash(memory, shard.bytes));
    if (to != NULL) good = fwrite(memory, 1, shard.bytes, to) == shard.bytes;
  }
  free(memory);
  return good;
}

static bool print_tensor(const disco_weights *weights, const disco_shard_plan *plan, int64_t index, FILE *to) {
  const disco_weights_tensor *tensor = disco_weights_tensor_at(weights, index);
  bool good = true;
  (void)printf("{\"tensor\": ");
  print_string(tensor->name);
  (void)printf(", \"encoding\": ");
  print_string(tensor->encoding);
  print_shape("shape", tensor->ndim, tensor->shape);
  (void)printf(", \"offset\": %llu, \"stored\": %llu", (unsigned long long)tensor->offset,
               (unsigned long long)tensor->bytes);
  if (tensor->dtype.bits == 0)
    (void)printf(", \"hash\": null");
  else
    good = print_result(weights, plan, index, to);
  (void)printf("}\n");
  return good;
}

static bool dump(const disco_weights *weights, bool decode, FILE *to) {
  static const char *const plans[] = {"{\"rules\": [{\"match\": \"*\", \"replicate\": true}]}",
                                      "{\"rules\": [{\"match\": \"*\", \"replicate\": true, \"decode\": true}]}"};
  disco_shard_plan *plan = NULL;
  const char *key, *json;
  if (disco_shard_plan_parse(plans[decode], strlen(plans[decode]), &plan) != DISCO_OK) return false;
  for (int64_t i = 0; disco_weights_metadata_at(weights, i, &key, &json); i++) {
    (void)printf("{\"metadata\": ");
    print_string(key);
    (void)printf(", \"value\": %s}\n", json);
  }
  bool good = true;
  for (int64_t i = 0; good && i < disco_weights_num_tensors(weights); i++) good = print_tensor(weights, plan, i, to);
  disco_shard_plan_destroy(plan);
  return good;
}

int main(int argc, char **argv) {
  const char *path = NULL, *bytes = NULL;
  bool decode = false, usage = false;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--decode") == 0)
      decode = true;
    else if (strcmp(argv[i], "--bytes") == 0 && i + 1 < argc)
      bytes = argv[++i];
    else if (path == NULL && argv[i][0] != '-')
      path = argv[i];
    else
      usage = true;
  }
  if (usage || path == NULL) {
    (void)fprintf(stderr, "usage: dump FILE [--decode] [--bytes TO]\n");
    return 2;
  }
  FILE *to = bytes != NULL ? fopen(bytes, "wb") : NULL;
  if (bytes != NULL && to == NULL) {
    perror(bytes);
    return 2;
  }
  disco_weights *weights = NULL;
  bool good = disco_weights_open(path, &weights) == DISCO_OK && dump(weights, decode, to);
  disco_weights_close(weights);
  if (!good) (void)fprintf(stderr, "%s\n", disco_last_error_text());
  if (to != NULL && fclose(to) != 0) good = false;
  return good ? 0 : 1;
}
