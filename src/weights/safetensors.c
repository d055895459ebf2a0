/* safetensors: 8 bytes of header length (little-endian), that many bytes of JSON, then the data. What is refused is
 * what the format's own reader refuses, and what its description forbids (a header that does not begin with '{', a name
 * twice). The index of a model in several files: {"metadata": {...}, "weight_map": {tensor: file, ...}}. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "weights/cursor.h"
#include "weights/json.h"
#include "weights/json_text.h"
#include "weights/names.h"
#include "weights/source.h"

enum {
  LENGTH_BYTES = 8,
};

_Static_assert((int)DSC_SAFETENSORS_MAX_HEADER <= (int)DSC_WEIGHTS_MAX_HEADER, "JSON of that size is parsed");

/* A tensor as the header has it; the range counts from the end of the header. */
typedef struct {
  const char *name;
  const json_t *json;
  uint64_t begin, end;
  size_t order; /* in the header */
} entry;

typedef struct {
  const dsc_source *source;
  int32_t file;
  disco_weights *model;
  uint64_t data; /* where the data begins */
  /* Of a file that an index names: which file it says that a tensor is in, and how it calls this one. */
  const json_t *weight_map;
  const char *index_path, *called;
} reader;

/* ---- One tensor ---- */

/* `rule` is the end of a sentence. */
static disco_status refuse(const reader *self, const entry *tensor, const char *rule) {
  char name[DSC_NAME_PRINT_BYTES];
  return dsc_fail(DISCO_VALUE, "tensor %s of %s, bytes [%llu, %llu) of its data: %s",
                  dsc_name_print(tensor->name, name), self->source->path, (unsigned long long)tensor->begin,
                  (unsigned long long)tensor->end, rule);
}

/* "tensor "a.weight" of /models/a.safetensors", for the functions of json.h. NULL without memory; free(). */
static char *describe(const reader *self, const char *tensor) {
  char name[DSC_NAME_PRINT_BYTES];
  const size_t room = sizeof(name) + strlen(self->source->path) + 16;
  char *what = dsc_alloc(room, "the name of a tensor");
  if (what != NULL) (void)snprintf(what, room, "tensor %s of %s", dsc_name_print(tensor, name), self->source->path);
  return what;
}

static disco_status read_range(const reader *self, const char *what, entry *tensor) {
  int64_t range[2];
  int32_t count = 0;
  disco_status status = dsc_json_counts(what, tensor->json, "data_offsets", 2, range, &count);
  if (status != DISCO_OK) return status;
  if (count != 2) return dsc_fail(DISCO_VALUE, "\"data_offsets\" of %s has %d values; it must have 2", what, count);
  tensor->begin = (uint64_t)range[0];
  tensor->end = (uint64_t)range[1];
  return tensor->begin <= tensor->end ? DISCO_OK : refuse(self, tensor, "it ends before it begins");
}

/* Elements of less than a byte need not fill whole bytes in each row, only in all. */
static disco_status pack_rows(reader *self, const entry *tensor, const disco_weights_tensor *view,
                              const dsc_encoding **encoding) {
  const uint64_t bits = (uint64_t)((*encoding)->block_bytes * 8 / (*encoding)->block_elements);
  uint64_t total = bits;
  for (int32_t i = 0; i < view->ndim; i++)
    if (__builtin_mul_overflow(total, (uint64_t)view->shape[i], &total))
      return refuse(self, tensor, "too many elements");
  if (total % 8 != 0) return refuse(self, tensor, "its elements do not fill whole bytes");
  if (total / 8 != view->bytes) return refuse(self, tensor, "its shape takes another number of bytes");
  return dsc_model_foreign_encoding(self->model, self->source->path, (*encoding)->name, encoding);
}

static disco_status add_tensor(reader *self, const char *what, const entry *tensor) {
  const char *dtype = NULL;
  int64_t shape[DISCO_WEIGHTS_MAX_NDIM];
  disco_weights_tensor view = {.name = tensor->name, .shape = shape};
  view.offset = self->data + tensor->begin;
  view.bytes = tensor->end - tensor->begin;
  disco_status status = dsc_json_counts(what, tensor->json, "shape", DISCO_WEIGHTS_MAX_NDIM, shape, &view.ndim);
  if (status == DISCO_OK) status = dsc_json_string(what, tensor->json, "dtype", &dtype);
  if (status != DISCO_OK) return status;
  const dsc_encoding *encoding = dsc_safetensors_encoding(dtype);
  if (encoding == NULL) {
    status = dsc_model_foreign_encoding(self->model, self->source->path, dtype, &encoding);
  } else if (encoding->block_elements > 1) {
    status = pack_rows(self, tensor, &view, &encoding);
  }
  if (status != DISCO_OK) return status;
  return dsc_model_add_tensor(self->model, self->file, encoding, &view);
}

/* Where the index says that it is. */
static disco_status check_place(const reader *self, const entry *tensor) {
  char name[DSC_NAME_PRINT_BYTES], file[DSC_NAME_PRINT_BYTES];
  if (self->weight_map == NULL) return DISCO_OK;
  const char *place = json_string_value(json_object_get(self->weight_map, tensor->name));
  if (place != NULL && strcmp(place, self->called) == 0) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "tensor %s is in %s; %s says that it is in %s", dsc_name_print(tensor->name, name),
                  self->source->path, self->index_path, place != NULL ? dsc_name_print(place, file) : "no file");
}

/* ---- The header ---- */

static int compare_ranges(const void *left, const void *right) {
  const entry *a = left, *b = right;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  if (a->end != b->end) return a->end < b->end ? -1 : 1;
  return (a->order > b->order) - (a->order < b->order);
}

/* One behind the other, from the first byte of the data to the last of the file. */
static disco_status check_cover(const reader *self, const entry *tensors, size_t count) {
  const uint64_t data_bytes = self->source->bytes - self->data;
  uint64_t at = 0;
  for (size_t i = 0; i < count; i++) {
    if (tensors[i].begin > at) return refuse(self, &tensors[i], "bytes in front of it belong to no tensor");
    if (tensors[i].begin < at) return refuse(self, &tensors[i], "it overlaps the one before it");
    at = tensors[i].end;
    if (at > data_bytes) return refuse(self, &tensors[i], "the file ends before it does: was it cut?");
  }
  if (at == data_bytes) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "%s: the last tensor ends after %llu of %llu bytes of data; the rest belongs to none",
                  self->source->path, (unsigned long long)at, (unsigned long long)data_bytes);
}

static disco_status add_metadata(const reader *self, const json_t *metadata) {
  const char *key;
  json_t *value;
  dsc_json_text text = {0};
  disco_status status = DISCO_OK;
  if (!json_is_object(metadata))
    return dsc_fail(DISCO_VALUE, "%s: \"__metadata__\" must be an object of strings", self->source->path);
  json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
    char name[DSC_NAME_PRINT_BYTES];
    if (!json_is_string(value)) {
      status = dsc_fail(DISCO_VALUE, "%s: %s of \"__metadata__\" must be a string", self->source->path,
                        dsc_name_print(key, name));
      break;
    }
    /* Each file of a model says {"format": "pt"}. */
    if (self->weight_map != NULL && dsc_model_metadata(self->model, key) != NULL) continue;
    dsc_json_text_clear(&text);
    status = dsc_json_text_string(&text, (const uint8_t *)json_string_value(value), json_string_length(value));
    if (status == DISCO_OK) status = dsc_json_text_end(&text);
    if (status == DISCO_OK) status = dsc_model_add_metadata(self->model, self->source->path, key, text.data);
    if (status != DISCO_OK) break;
  }
  dsc_json_text_fini(&text);
  return status;
}

/* Every member but the metadata. */
static disco_status list_tensors(const reader *self, const json_t *header, entry *tensors, size_t *ret_count) {
  const char *name;
  json_t *value;
  size_t count = 0;
  json_object_foreach((json_t *)(uintptr_t)header, name, value) {
    if (strcmp(name, "__metadata__") == 0) continue;
    tensors[count] = (entry){.name = name, .json = value, .order = count};
    char *what = describe(self, name);
    if (what == NULL) return DISCO_MEMORY;
    disco_status status = read_range(self, what, &tensors[count]);
    free(what);
    if (status != DISCO_OK) return status;
    count++;
  }
  *ret_count = count;
  return DISCO_OK;
}

static disco_status add_tensors(reader *self, const json_t *header) {
  size_t count = json_object_size(header);
  if (count > DSC_WEIGHTS_MAX_TENSORS + 1)
    return dsc_fail(DISCO_VALUE, "%s has %zu tensors, the limit is %d", self->source->path, count,
                    DSC_WEIGHTS_MAX_TENSORS);
  entry *tensors = dsc_alloc((count + 1) * sizeof(*tensors), "the tensors of a header");
  if (tensors == NULL) return DISCO_MEMORY;
  disco_status status = list_tensors(self, header, tensors, &count);
  if (status == DISCO_OK) {
    if (count > 1) qsort(tensors, count, sizeof(*tensors), compare_ranges);
    status = check_cover(self, tensors, count);
  }
  for (size_t i = 0; i < count && status == DISCO_OK; i++) {
    if ((status = check_place(self, &tensors[i])) != DISCO_OK) break;
    char *what = describe(self, tensors[i].name);
    status = what != NULL ? add_tensor(self, what, &tensors[i]) : DISCO_MEMORY;
    free(what);
  }
  free(tensors);
  return status;
}

static disco_status read_header(const dsc_source *source, uint64_t *ret_data, json_t **ret_header) {
  uint8_t head[LENGTH_BYTES];
  if (source->bytes < sizeof(head))
    return dsc_fail(DISCO_VALUE, "%s has %llu bytes: too short for a safetensors file", source->path,
                    (unsigned long long)source->bytes);
  disco_status status = source->read(source->context, 0, head, sizeof(head));
  if (status != DISCO_OK) return status;
  const uint64_t bytes = dsc_u64_at(head);
  if (bytes > DSC_SAFETENSORS_MAX_HEADER)
    return dsc_fail(DISCO_VALUE, "%s: a safetensors header of %llu bytes; the format's limit is %d", source->path,
                    (unsigned long long)bytes, DSC_SAFETENSORS_MAX_HEADER);
  if (bytes > source->bytes - sizeof(head))
    return dsc_fail(DISCO_VALUE, "%s: a safetensors header, bytes [8, %llu), in a file of %llu bytes", source->path,
                    (unsigned long long)(bytes + sizeof(head)), (unsigned long long)source->bytes);
  char *text = dsc_alloc(bytes + 1, "a safetensors header");
  if (text == NULL) return DISCO_MEMORY;
  status = source->read(source->context, sizeof(head), text, bytes);
  if (status == DISCO_OK && text[0] != '{')
    status = dsc_fail(DISCO_VALUE, "%s: a safetensors header begins with '{', byte 8 of this file is 0x%02x",
                      source->path, (unsigned)(uint8_t)text[0]);
  if (status == DISCO_OK) status = dsc_json_parse(source->path, text, bytes, ret_header);
  free(text);
  *ret_data = sizeof(head) + bytes;
  return status;
}

static disco_status read_file(reader *self) {
  json_t *header = NULL;
  disco_status status = read_header(self->source, &self->data, &header);
  if (status != DISCO_OK) return status;
  const json_t *metadata = json_object_get(header, "__metadata__");
  if (metadata != NULL) status = add_metadata(self, metadata);
  if (status == DISCO_OK) status = add_tensors(self, header);
  json_decref(header);
  return status;
}

disco_status dsc_safetensors_read(const dsc_source *source, int32_t file, disco_weights *model) {
  reader self = {.source = source, .file = file, .model = model};
  return read_file(&self);
}

/* ---- The index ---- */

static disco_status read_sibling(const dsc_source *index, const json_t *weight_map, const char *called, int32_t file,
                                 disco_weights *model) {
  dsc_file_source source;
  disco_status status = dsc_file_source_open(dsc_model_file(model, file, NULL), &source);
  if (status != DISCO_OK) return status;
  reader self = {.source = &source.source,
                 .file = file,
                 .model = model,
                 .weight_map = weight_map,
                 .index_path = index->path,
                 .called = called};
  status = read_file(&self);
  dsc_file_source_close(&source);
  return status;
}

static disco_status check_all_there(const dsc_source *index, const json_t *weight_map, const disco_weights *model) {
  const char *name;
  json_t *file;
  json_object_foreach((json_t *)(uintptr_t)weight_map, name, file) {
    char tensor[DSC_NAME_PRINT_BYTES], place[DSC_NAME_PRINT_BYTES];
    if (dsc_model_find(model, name) < 0)
      return dsc_fail(DISCO_VALUE, "%s says that tensor %s is in %s, which has none of that name", index->path,
                      dsc_name_print(name, tensor), dsc_name_print(json_string_value(file), place));
  }
  return DISCO_OK;
}

static disco_status add_index_metadata(const char *path, const json_t *json, disco_weights *model) {
  const char *key;
  json_t *value;
  json_object_foreach(json_object_get(json, "metadata"), key, value) {
    disco_status status = dsc_json_metadata(model, path, key, value);
    if (status != DISCO_OK) return status;
  }
  return DISCO_OK;
}

disco_status dsc_safetensors_index_fill(const dsc_source *source, const json_t *json, disco_weights *model) {
  json_t *weight_map = json_object_get(json, "weight_map");
  if (!json_is_object(weight_map))
    return dsc_fail(DISCO_VALUE, "%s has no object \"weight_map\" from tensors to files", source->path);
  const char *name, *called;
  json_t *value;
  int32_t num_files = 0;
  disco_status status = add_index_metadata(source->path, json, model);
  if (status != DISCO_OK) return status;
  json_object_foreach(weight_map, name, value) {
    char tensor[DSC_NAME_PRINT_BYTES];
    int32_t file;
    if ((called = json_string_value(value)) == NULL)
      return dsc_fail(DISCO_VALUE, "%s: the file of tensor %s must be a string", source->path,
                      dsc_name_print(name, tensor));
    if ((status = dsc_model_add_sibling(model, source->path, called, &file)) != DISCO_OK) return status;
    if (file < num_files) continue; /* it was read already */
    num_files = file + 1;
    if ((status = read_sibling(source, weight_map, called, file, model)) != DISCO_OK) return status;
  }
  return check_all_there(source, weight_map, model);
}
