#include "weights/manifest.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/inject.h"
#include "base/memory.h"
#include "base/text.h"
#include "weights/json.h"
#include "weights/names.h"
#include "weights/source.h"

static const char algorithm[] = "xxh3-64";
enum { HASH_DIGITS = 16 };

struct disco_manifest {
  char *what; /* "manifest /models/tp2.json", for sentences */
  int32_t num_workers;
  json_t *tensors; /* name -> array of num_workers strings of 16 digits; null where a hash is still missing */
};

uint64_t dsc_weights_hash(const void *memory, size_t bytes) { return XXH3_64bits(memory, bytes); }

/* ---- Objects ---- */

static disco_status manifest_of(const char *what, int32_t num_workers, json_t *tensors, disco_manifest **ret_manifest) {
  disco_manifest *self = dsc_alloc(sizeof(*self), "a manifest");
  if (self == NULL) return DISCO_MEMORY;
  if ((self->what = dsc_alloc(strlen(what) + 1, "the name of a manifest")) == NULL) {
    free(self);
    return DISCO_MEMORY;
  }
  memcpy(self->what, what, strlen(what) + 1);
  self->num_workers = num_workers;
  self->tensors = json_incref(tensors);
  *ret_manifest = self;
  return DISCO_OK;
}

disco_status dsc_manifest_create(int32_t num_workers, disco_manifest **ret_manifest) {
  if (num_workers < 1 || num_workers > DSC_MANIFEST_MAX_WORKERS)
    return dsc_fail(DISCO_VALUE, "a manifest is for 1 to %d workers, not %d", DSC_MANIFEST_MAX_WORKERS, num_workers);
  json_t *tensors = json_object();
  if (tensors == NULL) return dsc_fail(DISCO_MEMORY, "no memory for a manifest");
  disco_status status = manifest_of("the manifest", num_workers, tensors, ret_manifest);
  json_decref(tensors);
  return status;
}

void dsc_manifest_destroy(disco_manifest *manifest) {
  if (manifest == NULL) return;
  json_decref(manifest->tensors);
  free(manifest->what);
  free(manifest);
}

/* ---- Reading ---- */

/* 16 lower-case digits, nothing else. */
static bool parse_hash(const char *text, size_t length, uint64_t *ret_hash) {
  uint64_t hash = 0;
  if (length != HASH_DIGITS) return false;
  for (int i = 0; i < HASH_DIGITS; i++) {
    const char c = text[i];
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
    hash = hash << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  *ret_hash = hash;
  return true;
}

static disco_status check_hashes(const char *what, const char *tensor, const json_t *hashes, int32_t num_workers) {
  uint64_t hash;
  char print[DSC_NAME_PRINT_BYTES];
  (void)dsc_name_print(tensor, print);
  if (!json_is_array(hashes))
    return dsc_fail(DISCO_VALUE, "%s: %s has no array with a hash for each worker", what, print);
  if (json_array_size(hashes) != (size_t)num_workers)
    return dsc_fail(DISCO_VALUE, "%s: %s has %zu hashes; there are %d workers", what, print, json_array_size(hashes),
                    num_workers);
  for (int32_t i = 0; i < num_workers; i++) {
    const json_t *text = json_array_get(hashes, (size_t)i);
    if (json_is_string(text) && parse_hash(json_string_value(text), json_string_length(text), &hash)) continue;
    return dsc_fail(DISCO_VALUE, "%s: %s has a hash for worker %d that is not a string of %d digits 0-9a-f", what,
                    print, i, HASH_DIGITS);
  }
  return DISCO_OK;
}

static disco_status parse(const char *what, json_t *json, disco_manifest **ret_manifest) {
  static const char *const words[] = {"algorithm", "workers", "tensors", NULL};
  const char *name;
  char print[DSC_NAME_PRINT_BYTES];
  uint64_t num_workers = 0;
  if (!json_is_object(json)) return dsc_fail(DISCO_VALUE, "%s is not an object {\"algorithm\": ...}", what);
  disco_status status = dsc_json_words(what, json, words);
  if (status == DISCO_OK) status = dsc_json_string(what, json, "algorithm", &name);
  if (status != DISCO_OK) return status;
  if (strcmp(name, algorithm) != 0)
    return dsc_fail(DISCO_VALUE, "%s is of algorithm %s; known is \"%s\"", what, dsc_name_print(name, print),
                    algorithm);
  status = dsc_json_count(what, json, "workers", DSC_MANIFEST_MAX_WORKERS, &num_workers);
  if (status != DISCO_OK) return status;
  if (num_workers == 0) return dsc_fail(DISCO_VALUE, "%s is for 0 workers", what);
  json_t *tensors = json_object_get(json, "tensors"), *hashes;
  if (!json_is_object(tensors)) return dsc_fail(DISCO_VALUE, "%s has no object \"tensors\"", what);
  json_object_foreach(tensors, name, hashes) if ((status = check_hashes(what, name, hashes, (int32_t)num_workers)) !=
                                                 DISCO_OK) return status;
  return manifest_of(what, (int32_t)num_workers, tensors, ret_manifest);
}

disco_status dsc_manifest_read(const dsc_source *source, disco_manifest **ret_manifest) {
  json_t *json = NULL;
  dsc_text what = DSC_TEXT_INIT;
  disco_status status = dsc_json_read(source, &json);
  if (status != DISCO_OK) return status;
  dsc_text_add(&what, "manifest %s", source->path);
  status = parse(what.data != NULL ? what.data : "the manifest", json, ret_manifest);
  json_decref(json);
  dsc_text_fini(&what);
  return status;
}

disco_status dsc_manifest_open(const char *path, disco_manifest **ret_manifest) {
  dsc_file_source file;
  disco_status status = dsc_file_source_open(path, &file);
  if (status != DISCO_OK) return status;
  status = dsc_manifest_read(&file.source, ret_manifest);
  dsc_file_source_close(&file);
  return status;
}

/* ---- Checking ---- */

static disco_status find(const disco_manifest *manifest, const char *tensor, int32_t worker, uint64_t *ret_hash) {
  char print[DSC_NAME_PRINT_BYTES];
  if (worker < 0 || worker >= manifest->num_workers)
    return dsc_fail(DISCO_VALUE, "%s is for %d workers; there is no worker %d", manifest->what, manifest->num_workers,
                    worker);
  const json_t *hashes = json_object_get(manifest->tensors, tensor);
  if (hashes == NULL)
    return dsc_fail(DISCO_VALUE, "%s does not have tensor %s", manifest->what, dsc_name_print(tensor, print));
  const json_t *text = json_array_get(hashes, (size_t)worker);
  if (!json_is_string(text) || !parse_hash(json_string_value(text), json_string_length(text), ret_hash))
    return dsc_fail(DISCO_VALUE, "%s has no hash of tensor %s for worker %d", manifest->what,
                    dsc_name_print(tensor, print), worker);
  return DISCO_OK;
}

disco_status dsc_manifest_check(const disco_manifest *manifest, const disco_weights *weights, const disco_shard *shard,
                                int32_t num_workers, int32_t worker, const void *memory) {
  uint64_t expected = 0, bytes;
  char print[DSC_NAME_PRINT_BYTES];
  if (num_workers != manifest->num_workers)
    return dsc_fail(DISCO_VALUE, "%s was made for %d workers, and there are %d: make one for these", manifest->what,
                    manifest->num_workers, num_workers);
  if (shard->is_skipped) return DISCO_OK;
  const dsc_weight *weight = dsc_model_weight(weights, shard->tensor);
  if (weight == NULL) return dsc_fail(DISCO_VALUE, "there is no tensor %lld in the model", (long long)shard->tensor);
  disco_status status = find(manifest, weight->view.name, worker, &expected);
  if (status != DISCO_OK) return status;
  const uint64_t found = dsc_weights_hash(memory, shard->bytes);
  if (found == expected) return DISCO_OK;
  return dsc_fail(DISCO_VALUE,
                  "tensor %s of %s: what worker %d of %d got hashes to %016" PRIx64 ", but %s says %016" PRIx64
                  ": the file or the plan is not the one that it was made for",
                  dsc_name_print(weight->view.name, print), dsc_model_file(weights, weight->file, &bytes), worker,
                  num_workers, found, manifest->what, expected);
}

/* ---- Writing ---- */

static disco_status no_memory(const disco_manifest *manifest) {
  return dsc_fail(DISCO_MEMORY, "no memory for the hashes of %s", manifest->what);
}

/* The array of a tensor, made with a null for each worker when it is new. Borrowed; NULL without memory. */
static json_t *hashes_of(disco_manifest *manifest, const char *tensor) {
  json_t *hashes = json_object_get(manifest->tensors, tensor);
  if (hashes != NULL || (hashes = json_array()) == NULL) return hashes;
  for (int32_t i = 0; i < manifest->num_workers; i++)
    if (json_array_append_new(hashes, json_null()) != 0) {
      json_decref(hashes);
      return NULL;
    }
  return json_object_set_new(manifest->tensors, tensor, hashes) == 0 ? hashes : NULL;
}

disco_status dsc_manifest_put(disco_manifest *manifest, const disco_weights *weights, const disco_shard *shard,
                              int32_t worker, uint64_t hash) {
  char digits[HASH_DIGITS + 1];
  if (shard->is_skipped) return DISCO_OK;
  const dsc_weight *weight = dsc_model_weight(weights, shard->tensor);
  if (weight == NULL) return dsc_fail(DISCO_VALUE, "there is no tensor %lld in the model", (long long)shard->tensor);
  if (worker < 0 || worker >= manifest->num_workers)
    return dsc_fail(DISCO_VALUE, "%s is for %d workers; there is no worker %d", manifest->what, manifest->num_workers,
                    worker);
  json_t *hashes = DSC_ALLOCATION_FAILS() ? NULL : hashes_of(manifest, weight->view.name);
  (void)snprintf(digits, sizeof(digits), "%016" PRIx64, hash);
  if (hashes == NULL || json_array_set_new(hashes, (size_t)worker, json_string(digits)) != 0)
    return no_memory(manifest);
  return DISCO_OK;
}

static disco_status check_complete(const disco_manifest *manifest) {
  const char *tensor;
  char print[DSC_NAME_PRINT_BYTES];
  json_t *hashes;
  json_object_foreach(manifest->tensors, tensor, hashes) {
    for (int32_t i = 0; i < manifest->num_workers; i++)
      if (!json_is_string(json_array_get(hashes, (size_t)i)))
        return dsc_fail(DISCO_VALUE, "%s has no hash of tensor %s for worker %d", manifest->what,
                        dsc_name_print(tensor, print), i);
  }
  return DISCO_OK;
}

/* As JSON text, which the caller frees. */
static disco_status text_of(const disco_manifest *manifest, char **ret_json) {
  disco_status status = check_complete(manifest);
  if (status != DISCO_OK) return status;
  json_t *json = json_pack("{s:s, s:i, s:O}", "algorithm", algorithm, "workers", manifest->num_workers, "tensors",
                           manifest->tensors);
  char *text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
  json_decref(json);
  if (text == NULL) return no_memory(manifest);
  if (strlen(text) >= DSC_WEIGHTS_MAX_HEADER) {
    disco_status refused = dsc_fail(DISCO_VALUE, "%s has %zu bytes; one of more than %d could not be opened",
                                    manifest->what, strlen(text), DSC_WEIGHTS_MAX_HEADER - 1);
    free(text);
    return refused;
  }
  *ret_json = text;
  return DISCO_OK;
}

disco_status dsc_manifest_write(const disco_manifest *manifest, const char *path) {
  char *text = NULL;
  disco_status status = text_of(manifest, &text);
  if (status != DISCO_OK) return status;
  /* Not beside it and renamed: the path may be a device, /dev/stdout. Half a manifest is refused when it is opened. */
  FILE *file = fopen(path, "we");
  if (file == NULL)
    status = dsc_fail(DISCO_RUNTIME, "manifest %s cannot be written: %s", path, strerror(errno));
  else {
    const bool is_written = fputs(text, file) >= 0 && fputc('\n', file) != EOF;
    const int error = errno;
    if (fclose(file) != 0)
      status = dsc_fail(DISCO_RUNTIME, "manifest %s could not be written whole: %s", path, strerror(errno));
    else if (!is_written)
      status = dsc_fail(DISCO_RUNTIME, "manifest %s could not be written whole: %s", path, strerror(error));
  }
  free(text);
  return status;
}
