/* TVM's tensor-cache.json (ndarray-cache.json before): {"metadata": any, "records": [file, ...]}, each file with the
 * tensors that lie in it. Files are refused whose size is another than they were written with. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "weights/json.h"
#include "weights/names.h"

typedef struct {
  const dsc_source *source;
  disco_weights *model;
  bool only_listed; /* the files are not looked at */
  int32_t file;
} reader;

/* "float32/zip": what we have no name for. */
static disco_status add_foreign(reader *self, const char *dtype, const char *format, const dsc_encoding **encoding) {
  dsc_text name = DSC_TEXT_INIT;
  dsc_text_add(&name, "%s/%s", dtype, format);
  disco_status status = name.data != NULL
                            ? dsc_model_foreign_encoding(self->model, self->source->path, name.data, encoding)
                            : dsc_fail(DISCO_MEMORY, "no memory for the name of an encoding");
  dsc_text_fini(&name);
  return status;
}

static disco_status add_tensor(reader *self, const char *what, const json_t *record) {
  const char *dtype = NULL, *format = NULL;
  int64_t shape[DISCO_WEIGHTS_MAX_NDIM];
  disco_weights_tensor view = {.shape = shape};
  disco_status status = dsc_json_string(what, record, "name", &view.name);
  if (status == DISCO_OK) status = dsc_json_string(what, record, "dtype", &dtype);
  if (status == DISCO_OK) status = dsc_json_string(what, record, "format", &format);
  if (status == DISCO_OK) status = dsc_json_count(what, record, "byteOffset", INT64_MAX, &view.offset);
  if (status == DISCO_OK) status = dsc_json_count(what, record, "nbytes", INT64_MAX, &view.bytes);
  if (status == DISCO_OK) status = dsc_json_counts(what, record, "shape", DISCO_WEIGHTS_MAX_NDIM, shape, &view.ndim);
  if (status != DISCO_OK) return status;
  const dsc_encoding *encoding = dsc_tensor_cache_encoding(dtype, format);
  if (encoding == NULL && (status = add_foreign(self, dtype, format, &encoding)) != DISCO_OK) return status;
  return dsc_model_add_tensor(self->model, self->file, encoding, &view);
}

/* ---- One file ---- */

static disco_status open_file(reader *self, const char *what, const json_t *record) {
  const char *called = NULL, *format = NULL;
  char print[DSC_NAME_PRINT_BYTES];
  uint64_t expected = 0, bytes = 0;
  disco_status status = dsc_json_string(what, record, "dataPath", &called);
  if (status == DISCO_OK) status = dsc_json_string(what, record, "format", &format);
  if (status == DISCO_OK) status = dsc_json_count(what, record, "nbytes", INT64_MAX, &expected);
  if (status != DISCO_OK) return status;
  if (strcmp(format, "raw-shard") != 0)
    return dsc_fail(DISCO_VALUE, "%s has format %s; only \"raw-shard\" is known", what, dsc_name_print(format, print));
  status = self->only_listed ? dsc_model_claim_sibling(self->model, self->source->path, called, expected, &self->file)
                             : dsc_model_add_sibling(self->model, self->source->path, called, &self->file);
  if (status != DISCO_OK) return status;
  const char *path = dsc_model_file(self->model, self->file, &bytes);
  if (bytes == expected) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "%s has %llu bytes; %s says %llu: was it cut, or replaced?", path,
                  (unsigned long long)bytes, self->source->path, (unsigned long long)expected);
}

/* "record 2 of file 0 of PATH", for sentences. */
static char *describe(const char *path, size_t file, int64_t record) {
  dsc_text text = DSC_TEXT_INIT;
  if (record >= 0) dsc_text_add(&text, "record %lld of ", (long long)record);
  dsc_text_add(&text, "file %zu of %s", file, path);
  char *what = dsc_text_take(&text);
  if (what == NULL) (void)dsc_fail(DISCO_MEMORY, "no memory for the name of a record");
  return what;
}

static disco_status add_file(reader *self, size_t number, const json_t *record) {
  char *what = describe(self->source->path, number, -1);
  if (what == NULL) return DISCO_MEMORY;
  disco_status status = open_file(self, what, record);
  const json_t *tensors = json_object_get(record, "records");
  if (status == DISCO_OK && !json_is_array(tensors))
    status = dsc_fail(DISCO_VALUE, "%s has no array \"records\" of its tensors", what);
  free(what);
  for (size_t i = 0; status == DISCO_OK && i < json_array_size(tensors); i++) {
    if ((what = describe(self->source->path, number, (int64_t)i)) == NULL) return DISCO_MEMORY;
    status = add_tensor(self, what, json_array_get(tensors, i));
    free(what);
  }
  return status;
}

/* ---- All ---- */

static disco_status add_metadata(const reader *self, const json_t *metadata) {
  const char *key, *path = self->source->path;
  json_t *value;
  if (metadata == NULL) return DISCO_OK;
  if (!json_is_object(metadata)) return dsc_json_metadata(self->model, path, "metadata", metadata);
  json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
    disco_status status = dsc_json_metadata(self->model, path, key, value);
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}

static disco_status fill(reader *self, const json_t *json) {
  const json_t *files = json_object_get(json, "records");
  if (!json_is_array(files)) return dsc_fail(DISCO_VALUE, "%s has no array \"records\" of files", self->source->path);
  disco_status status = add_metadata(self, json_object_get(json, "metadata"));
  for (size_t i = 0; status == DISCO_OK && i < json_array_size(files); i++)
    status = add_file(self, i, json_array_get(files, i));
  return status;
}

disco_status dsc_tensor_cache_fill(const dsc_source *source, const json_t *json, disco_weights *model) {
  reader self = {.source = source, .model = model};
  return fill(&self, json);
}

disco_status dsc_tensor_cache_list(const dsc_source *source, disco_weights *model) {
  reader self = {.source = source, .model = model, .only_listed = true};
  json_t *json = NULL;
  disco_status status = dsc_json_read(source, &json);
  if (status != DISCO_OK) return status;
  status = fill(&self, json);
  json_decref(json);
  return status;
}
