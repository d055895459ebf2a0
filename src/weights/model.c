#include "weights/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "os/file.h"
#include "weights/json_text.h"
#include "weights/names.h"

enum { FIRST_CHUNK = 4 << 10, LAST_CHUNK = 1 << 20, MAX_ENCODING = 64 /* bytes of a name that no table has */ };

/* Strings and shapes, as long as the model lives. */
typedef struct chunk chunk;
struct chunk {
  chunk *next;
  size_t used, size;
  _Alignas(8) char bytes[];
};

typedef struct {
  const char *path;
  uint64_t bytes;
} model_file;

typedef struct {
  const char *key, *json;
} model_metadata;

/* Its names are counted by its index. */
typedef struct {
  void *entries;
  uint32_t capacity;
  dsc_name_index names;
} model_list;

struct disco_weights {
  const char *format;
  chunk *chunks;
  model_list weights, metadata, files; /* dsc_weight, model_metadata, model_file */
};

/* ---- Memory ---- */

static void *take(disco_weights *model, size_t bytes, const char *what) {
  chunk *at = model->chunks;
  bytes = (bytes + 7) & ~(size_t)7;
  if (at == NULL || bytes > at->size - at->used) {
    size_t size = at == NULL ? FIRST_CHUNK : at->size < LAST_CHUNK ? 2 * at->size : LAST_CHUNK;
    if (size > LAST_CHUNK) size = LAST_CHUNK;
    if (size < bytes) size = bytes;
    chunk *more = dsc_alloc(sizeof(*more) + size, what);
    if (more == NULL) return NULL;
    more->size = size;
    more->next = at;
    model->chunks = at = more;
  }
  void *memory = at->bytes + at->used;
  at->used += bytes;
  return memory;
}

static const char *keep(disco_weights *model, const char *text, const char *what) {
  const size_t bytes = strlen(text) + 1;
  char *copy = take(model, bytes, what);
  return copy != NULL ? memcpy(copy, text, bytes) : NULL;
}

/* The entry behind the last one, of which there may be `limit`; NULL without memory. Its name makes it real. */
static void *next_entry(model_list *list, size_t entry_bytes, const char *what) {
  if (list->names.count == list->capacity) {
    const uint32_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
    void *entries = dsc_alloc(capacity * entry_bytes, what);
    if (entries == NULL) return NULL;
    if (list->capacity > 0) memcpy(entries, list->entries, list->capacity * entry_bytes);
    free(list->entries);
    list->entries = entries;
    list->capacity = capacity;
  }
  return (char *)list->entries + list->names.count * entry_bytes;
}

static void list_fini(model_list *list) {
  free(list->entries);
  dsc_name_index_fini(&list->names);
}

disco_status dsc_model_create(const char *format, disco_weights **ret_model) {
  disco_weights *model = dsc_alloc(sizeof(*model), "a model");
  if (model == NULL) return DISCO_MEMORY;
  if ((model->format = keep(model, format, "a model")) == NULL) {
    dsc_model_destroy(model);
    return DISCO_MEMORY;
  }
  *ret_model = model;
  return DISCO_OK;
}

void dsc_model_destroy(disco_weights *model) {
  if (model == NULL) return;
  list_fini(&model->weights);
  list_fini(&model->metadata);
  list_fini(&model->files);
  while (model->chunks != NULL) {
    chunk *next = model->chunks->next;
    free(model->chunks);
    model->chunks = next;
  }
  free(model);
}

/* ---- Files ---- */

static model_file *file_at(const disco_weights *model, int32_t file) {
  if (file < 0 || (uint32_t)file >= model->files.names.count) return NULL;
  return (model_file *)model->files.entries + file;
}

disco_status dsc_model_add_file(disco_weights *model, const char *path, uint64_t bytes, int32_t *ret_file) {
  const int64_t known = dsc_name_index_find(&model->files.names, path);
  if (known >= 0) {
    *ret_file = (int32_t)known;
    return DISCO_OK;
  }
  if (model->files.names.count >= DSC_WEIGHTS_MAX_FILES)
    return dsc_fail(DISCO_VALUE, "%s would be one more than the %d files that a model may have", path,
                    DSC_WEIGHTS_MAX_FILES);
  model_file *entry = next_entry(&model->files, sizeof(*entry), "the files of a model");
  if (entry == NULL) return DISCO_MEMORY;
  *entry = (model_file){keep(model, path, "the files of a model"), bytes};
  if (entry->path == NULL) return DISCO_MEMORY;
  disco_status status = dsc_name_index_add(&model->files.names, entry->path);
  if (status != DISCO_OK) return status;
  *ret_file = (int32_t)model->files.names.count - 1;
  return DISCO_OK;
}

/* Why a file may not be named so, or NULL. */
static const char *sibling_fault(const char *name) {
  if (name[0] == '\0') return "an empty name";
  if (name[0] == '/') return "an absolute path; only files beside it or below are read";
  if (strlen(name) > DSC_WEIGHTS_MAX_NAME) return "longer than a file's name can be";
  for (const char *part = name; part != NULL; part = strchr(part, '/')) {
    part += *part == '/';
    if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
      return "a path that leaves the folder; only files beside it or below are read";
  }
  const char *last = strrchr(name, '/');
  return last != NULL && last[1] == '\0' ? "a folder" : NULL;
}

static disco_status sibling_path(const char *path, const char *name, dsc_text *ret_sibling) {
  char print[DSC_NAME_PRINT_BYTES];
  const char *fault = sibling_fault(name);
  if (fault != NULL)
    return dsc_fail(DISCO_VALUE, "%s names a file %s, which is %s", path, dsc_name_print(name, print), fault);
  const char *slash = strrchr(path, '/');
  dsc_text_add(ret_sibling, "%.*s%s", slash != NULL ? (int)(slash + 1 - path) : 0, path, name);
  return ret_sibling->data != NULL ? DISCO_OK
                                   : dsc_fail(DISCO_MEMORY, "no memory for the path of a file beside %s", path);
}

/* Who needs the file, in front of why it cannot be opened. */
static disco_status about_sibling(const char *path, const char *name, disco_status status) {
  char print[DSC_NAME_PRINT_BYTES];
  const dsc_error *error = dsc_thread_error();
  if (error == NULL || error->message == NULL) return status;
  return dsc_fail(status, "%s needs the file %s: %s", path, dsc_name_print(name, print), error->message);
}

disco_status dsc_model_add_sibling(disco_weights *model, const char *path, const char *name, int32_t *ret_file) {
  dsc_text sibling = DSC_TEXT_INIT;
  disco_status status = sibling_path(path, name, &sibling);
  if (status != DISCO_OK) return status;
  const int64_t known = dsc_name_index_find(&model->files.names, sibling.data);
  if (known >= 0) {
    *ret_file = (int32_t)known;
  } else {
    dsc_file file;
    if ((status = dsc_file_open(sibling.data, &file)) == DISCO_OK) {
      status = dsc_model_add_file(model, sibling.data, file.bytes, ret_file);
      dsc_file_close(&file);
    } else {
      status = about_sibling(path, name, status);
    }
  }
  dsc_text_fini(&sibling);
  return status;
}

disco_status dsc_model_claim_sibling(disco_weights *model, const char *path, const char *name, uint64_t bytes,
                                     int32_t *ret_file) {
  dsc_text sibling = DSC_TEXT_INIT;
  disco_status status = sibling_path(path, name, &sibling);
  if (status == DISCO_OK) status = dsc_model_add_file(model, sibling.data, bytes, ret_file);
  dsc_text_fini(&sibling);
  return status;
}

const char *dsc_model_file(const disco_weights *model, int32_t file, uint64_t *ret_bytes) {
  const model_file *entry = file_at(model, file);
  if (entry == NULL) return NULL;
  if (ret_bytes != NULL) *ret_bytes = entry->bytes;
  return entry->path;
}

/* ---- Tensors ---- */

/* A tensor that is being checked. */
typedef struct {
  const model_file *file;
  const dsc_encoding *encoding;
  const disco_weights_tensor *view;
  char name[DSC_NAME_PRINT_BYTES];
} candidate;

/* `rule` names what is broken, as the end of a sentence. */
static disco_status refuse(const candidate *self, const char *rule, ...) DISCO_PRINTF(2, 3);
static disco_status refuse(const candidate *self, const char *rule, ...) {
  char words[512];
  va_list args;
  va_start(args, rule);
  (void)vsnprintf(words, sizeof(words), rule, args);
  va_end(args);
  const disco_weights_tensor *view = self->view;
  if (view->bytes > UINT64_MAX - view->offset)
    return dsc_fail(DISCO_VALUE, "tensor %s of %s, %llu bytes from %llu on: %s", self->name, self->file->path,
                    (unsigned long long)view->bytes, (unsigned long long)view->offset, words);
  return dsc_fail(DISCO_VALUE, "tensor %s of %s, bytes [%llu, %llu): %s", self->name, self->file->path,
                  (unsigned long long)view->offset, (unsigned long long)(view->offset + view->bytes), words);
}

/* "[2, 3]" */
static const char *print_shape(const disco_weights_tensor *view, char *to, size_t room) {
  size_t size = (size_t)snprintf(to, room, "[");
  for (int32_t i = 0; i < view->ndim && size < room; i++)
    size += (size_t)snprintf(to + size, room - size, "%s%lld", i > 0 ? ", " : "", (long long)view->shape[i]);
  if (size < room) (void)snprintf(to + size, room - size, "]");
  return to;
}

static disco_status check_name(const candidate *self, const disco_weights *model) {
  const size_t length = strlen(self->view->name);
  if (length == 0) return refuse(self, "a tensor must have a name");
  if (length > DSC_WEIGHTS_MAX_NAME)
    return refuse(self, "its name has %zu bytes, the limit is %d", length, DSC_WEIGHTS_MAX_NAME);
  if (!dsc_utf8_is_valid((const uint8_t *)self->view->name, length)) return refuse(self, "its name is not UTF-8");
  const int64_t other = dsc_name_index_find(&model->weights.names, self->view->name);
  if (other < 0) return DISCO_OK;
  const disco_weights_tensor *first = &dsc_model_weight(model, other)->view;
  return refuse(self, "there is one of that name already, bytes [%llu, %llu) of %s", (unsigned long long)first->offset,
                (unsigned long long)(first->offset + first->bytes), first->file);
}

/* Everything that is computed from a shape later on fits 63 bits: also of tensors that one dimension makes empty. */
static disco_status check_shape(const candidate *self) {
  const disco_weights_tensor *view = self->view;
  const dsc_encoding *encoding = self->encoding;
  char shape[DISCO_WEIGHTS_MAX_NDIM * 24];
  if (view->ndim < 0 || view->ndim > DISCO_WEIGHTS_MAX_NDIM)
    return refuse(self, "it has %d dimensions, the limit is %d", view->ndim, DISCO_WEIGHTS_MAX_NDIM);
  (void)print_shape(view, shape, sizeof(shape));
  int64_t product = 1;
  bool is_empty = false;
  for (int32_t i = 0; i < view->ndim; i++) {
    if (view->shape[i] < 0) return refuse(self, "shape %s has a negative dimension", shape);
    is_empty |= view->shape[i] == 0;
    if (view->shape[i] > 0 && __builtin_mul_overflow(product, view->shape[i], &product))
      return refuse(self, "shape %s has more than 2^63 elements", shape);
  }
  const int64_t last = view->ndim > 0 ? view->shape[view->ndim - 1] : 1;
  if (last % encoding->block_elements != 0)
    return refuse(self, "the last dimension of shape %s is no multiple of %d, the block of %s", shape,
                  encoding->block_elements, encoding->name);
  if (encoding->block_bytes == 0) return DISCO_OK;
  /* Rounded up: an empty last dimension leaves a product that is no multiple of the block. */
  const int64_t blocks = product / encoding->block_elements + (product % encoding->block_elements != 0);
  int64_t bytes;
  if (__builtin_mul_overflow(blocks, (int64_t)encoding->block_bytes, &bytes))
    return refuse(self, "shape %s of %s has more than 2^63 bytes", shape, encoding->name);
  if (is_empty) bytes = 0;
  if ((uint64_t)bytes != view->bytes)
    return refuse(self, "shape %s of %s takes %lld bytes, not %llu", shape, encoding->name, (long long)bytes,
                  (unsigned long long)view->bytes);
  return DISCO_OK;
}

static disco_status check_range(const candidate *self) {
  const disco_weights_tensor *view = self->view;
  uint64_t end;
  if (__builtin_add_overflow(view->offset, view->bytes, &end) || end > self->file->bytes)
    return refuse(self, "the file ends after %llu bytes", (unsigned long long)self->file->bytes);
  return DISCO_OK;
}

disco_status dsc_model_add_tensor(disco_weights *model, int32_t file, const dsc_encoding *encoding,
                                  const disco_weights_tensor *view) {
  candidate self = {.file = file_at(model, file), .encoding = encoding, .view = view};
  if (self.file == NULL) return dsc_fail(DISCO_VALUE, "a tensor of file %d, which the model does not have", file);
  (void)dsc_name_print(view->name, self.name);
  if (model->weights.names.count >= DSC_WEIGHTS_MAX_TENSORS)
    return refuse(&self, "one more than the %d tensors that a model may have", DSC_WEIGHTS_MAX_TENSORS);
  disco_status status = check_name(&self, model);
  if (status == DISCO_OK) status = check_shape(&self);
  if (status == DISCO_OK) status = check_range(&self);
  if (status != DISCO_OK) return status;
  dsc_weight *weight = next_entry(&model->weights, sizeof(*weight), "the tensors of a model");
  if (weight == NULL) return DISCO_MEMORY;
  const size_t shape_bytes = (size_t)view->ndim * sizeof(view->shape[0]);
  const char *name = keep(model, view->name, "the tensors of a model");
  int64_t *shape = take(model, shape_bytes, "the tensors of a model");
  if (name == NULL || shape == NULL) return DISCO_MEMORY;
  if (shape_bytes > 0) memcpy(shape, view->shape, shape_bytes);
  *weight = (dsc_weight){.view = {.name = name,
                                  .encoding = encoding->name,
                                  .dtype = encoding->dtype,
                                  .ndim = view->ndim,
                                  .shape = shape,
                                  .file = self.file->path,
                                  .offset = view->offset,
                                  .bytes = view->bytes,
                                  .block_elements = encoding->block_elements,
                                  .block_bytes = encoding->block_bytes,
                                  .is_block_quantised = encoding->block_elements > 1},
                         .encoding = encoding,
                         .file = file};
  return dsc_name_index_add(&model->weights.names, name);
}

/* Such names come from files and stand in sentences as they are. */
static bool is_printable(const char *name) {
  for (; *name != 0; name++)
    if (*name <= ' ' || *name > '~') return false;
  return true;
}

disco_status dsc_model_foreign_encoding(disco_weights *model, const char *path, const char *name,
                                        const dsc_encoding **ret_encoding) {
  char print[DSC_NAME_PRINT_BYTES];
  if (*name == 0 || strlen(name) > MAX_ENCODING || !is_printable(name))
    return dsc_fail(DISCO_VALUE,
                    "%s: %s is no name of an encoding: it has %zu bytes; 1 to %d of printable ASCII are taken", path,
                    dsc_name_print(name, print), strlen(name), MAX_ENCODING);
  dsc_encoding *encoding = take(model, sizeof(*encoding), "an encoding");
  const char *copy = keep(model, name, "an encoding");
  if (encoding == NULL || copy == NULL) return DISCO_MEMORY;
  *encoding = (dsc_encoding){.name = copy, .dtype = {kDLOpaqueHandle, 0, 1}, .block_elements = 1};
  *ret_encoding = encoding;
  return DISCO_OK;
}

const dsc_weight *dsc_model_weight(const disco_weights *model, int64_t index) {
  if (index < 0 || index >= (int64_t)model->weights.names.count) return NULL;
  return (const dsc_weight *)model->weights.entries + index;
}

int64_t dsc_model_count(const disco_weights *model) { return model->weights.names.count; }

int64_t dsc_model_find(const disco_weights *model, const char *name) {
  return dsc_name_index_find(&model->weights.names, name);
}

const char *dsc_model_format(const disco_weights *model) { return model->format; }

/* ---- Metadata ---- */

disco_status dsc_model_add_metadata(disco_weights *model, const char *path, const char *key, const char *json) {
  char print[DSC_NAME_PRINT_BYTES];
  const size_t length = strlen(key);
  (void)dsc_name_print(key, print);
  if (length > DSC_WEIGHTS_MAX_NAME)
    return dsc_fail(DISCO_VALUE, "metadata %s of %s: its name has %zu bytes, the limit is %d", print, path, length,
                    DSC_WEIGHTS_MAX_NAME);
  if (!dsc_utf8_is_valid((const uint8_t *)key, length))
    return dsc_fail(DISCO_VALUE, "metadata %s of %s: its name is not UTF-8", print, path);
  if (dsc_name_index_find(&model->metadata.names, key) >= 0)
    return dsc_fail(DISCO_VALUE, "metadata %s of %s is there twice", print, path);
  if (model->metadata.names.count >= DSC_WEIGHTS_MAX_METADATA)
    return dsc_fail(DISCO_VALUE, "metadata %s of %s would be one more than the %d entries that a model may have", print,
                    path, DSC_WEIGHTS_MAX_METADATA);
  model_metadata *entry = next_entry(&model->metadata, sizeof(*entry), "the metadata of a model");
  if (entry == NULL) return DISCO_MEMORY;
  *entry = (model_metadata){keep(model, key, "the metadata of a model"), keep(model, json, "the metadata of a model")};
  if (entry->key == NULL || entry->json == NULL) return DISCO_MEMORY;
  return dsc_name_index_add(&model->metadata.names, entry->key);
}

int64_t dsc_model_num_metadata(const disco_weights *model) { return model->metadata.names.count; }

bool dsc_model_metadata_at(const disco_weights *model, int64_t index, const char **ret_key, const char **ret_json) {
  if (index < 0 || index >= (int64_t)model->metadata.names.count) return false;
  const model_metadata *entry = (const model_metadata *)model->metadata.entries + index;
  *ret_key = entry->key;
  *ret_json = entry->json;
  return true;
}

const char *dsc_model_metadata(const disco_weights *model, const char *key) {
  const char *found, *json;
  const int64_t index = dsc_name_index_find(&model->metadata.names, key);
  return dsc_model_metadata_at(model, index, &found, &json) ? json : NULL;
}

/* ---- Sealing ---- */

static int compare_places(const void *left, const void *right) {
  const dsc_weight *a = *(const dsc_weight *const *)left, *b = *(const dsc_weight *const *)right;
  if (a->file != b->file) return a->file < b->file ? -1 : 1;
  if (a->view.offset != b->view.offset) return a->view.offset < b->view.offset ? -1 : 1;
  return (a->view.bytes > b->view.bytes) - (a->view.bytes < b->view.bytes);
}

static disco_status refuse_overlap(const disco_weights_tensor *a, const disco_weights_tensor *b) {
  char first[DSC_NAME_PRINT_BYTES], second[DSC_NAME_PRINT_BYTES];
  return dsc_fail(DISCO_VALUE,
                  "tensors %s, bytes [%llu, %llu), and %s, bytes [%llu, %llu), of %s overlap: each byte may belong to "
                  "one tensor only",
                  dsc_name_print(a->name, first), (unsigned long long)a->offset,
                  (unsigned long long)(a->offset + a->bytes), dsc_name_print(b->name, second),
                  (unsigned long long)b->offset, (unsigned long long)(b->offset + b->bytes), a->file);
}

disco_status dsc_model_seal(disco_weights *model, bool may_overlap) {
  const uint32_t count = model->weights.names.count;
  if (may_overlap || count < 2) return DISCO_OK;
  const dsc_weight **sorted = dsc_alloc(count * sizeof(const dsc_weight *), "the tensors of a model in file order");
  if (sorted == NULL) return DISCO_MEMORY;
  uint32_t filled = 0;
  for (uint32_t i = 0; i < count; i++) { /* an empty tensor overlaps none */
    const dsc_weight *weight = dsc_model_weight(model, i);
    if (weight->view.bytes > 0) sorted[filled++] = weight;
  }
  if (filled > 1) qsort(sorted, filled, sizeof(const dsc_weight *), compare_places);
  disco_status status = DISCO_OK;
  for (uint32_t i = 1; i < filled && status == DISCO_OK; i++) {
    const disco_weights_tensor *a = &sorted[i - 1]->view, *b = &sorted[i]->view;
    if (sorted[i - 1]->file == sorted[i]->file && b->offset < a->offset + a->bytes) status = refuse_overlap(a, b);
  }
  free(sorted);
  return status;
}
