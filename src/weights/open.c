/* What a path is: a file by its first bytes, a folder by what lies in it. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "os/file.h"
#include "weights/cursor.h"
#include "weights/json.h"
#include "weights/names.h"
#include "weights/source.h"

enum {
  FIRST_BYTES = 64, /* enough to tell formats apart */
};

/* ---- Files ---- */

typedef struct {
  uint8_t bytes[FIRST_BYTES];
  size_t count;
} beginning;

static bool begins_with(const beginning *first, const char *magic, size_t bytes) {
  return first->count >= bytes && memcmp(first->bytes, magic, bytes) == 0;
}

static bool ends_with(const char *text, const char *end) {
  const size_t length = strlen(text), bytes = strlen(end);
  return length >= bytes && strcmp(text + length - bytes, end) == 0;
}

/* The length of a header, then '{'. Text never looks like that: as a number its first 8 bytes are far too large. */
static bool is_safetensors(const beginning *first) {
  return first->count > 8 && first->bytes[8] == '{' && dsc_u64_at(first->bytes) <= DSC_SAFETENSORS_MAX_HEADER;
}

static bool is_json(const beginning *first) {
  size_t at = 0;
  while (at < first->count && strchr(" \t\r\n", first->bytes[at]) != NULL && first->bytes[at] != '\0') at++;
  return at < first->count && first->bytes[at] == '{';
}

/* What else people have, and what to do with it. */
static disco_status refuse_file(const char *path, const beginning *first) {
  static const struct {
    const char *magic;
    size_t bytes;
    const char *words;
  } others[] = {
      {"version https://git-lfs", 23, ": it is a pointer of Git LFS; fetch the file itself with `git lfs pull`"},
      {"PK\3\4", 4, ": it is a ZIP archive, as PyTorch writes them; convert it to safetensors"},
      {"\x80\2", 2, ": it is a Python pickle, which could run code; convert it to safetensors"},
      {"\x89HDF\r\n", 6, ": it is HDF5; convert it to safetensors"},
      {"\x93NUMPY", 6, ": it is an array of NumPy; convert it to safetensors"},
  };
  const char *words = "";
  for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
    if (begins_with(first, others[i].magic, others[i].bytes)) words = others[i].words;
  if (first->count == 0) words = ": it is empty";
  return dsc_fail(DISCO_VALUE,
                  "%s is no file of weights that is known (safetensors or its index, GGUF, tensor-cache.json)%s", path,
                  words);
}

typedef disco_status (*fill_json)(const dsc_source *source, const json_t *json, disco_weights *model);

static disco_status read_json(const dsc_source *source, disco_weights **model) {
  json_t *json = NULL;
  disco_status status = dsc_json_read(source, &json);
  if (status != DISCO_OK) return status;
  const bool is_index = json_object_get(json, "weight_map") != NULL;
  const bool is_cache = json_object_get(json, "records") != NULL;
  if (is_index == is_cache) {
    status = dsc_fail(DISCO_VALUE,
                      "%s is JSON with %s: the index of safetensors files has \"weight_map\", a tensor cache has "
                      "\"records\"",
                      source->path, is_index ? "both \"weight_map\" and \"records\"" : "no weights");
  } else {
    const fill_json fill = is_index ? dsc_safetensors_index_fill : dsc_tensor_cache_fill;
    status = dsc_model_create(is_index ? "safetensors" : "tensor-cache", model);
    if (status == DISCO_OK) status = fill(source, json, *model);
  }
  json_decref(json);
  return status;
}

static disco_status read_binary(const dsc_source *source, bool is_gguf, disco_weights **model) {
  int32_t file;
  disco_status status = dsc_model_create(is_gguf ? "gguf" : "safetensors", model);
  if (status == DISCO_OK) status = dsc_model_add_file(*model, source->path, source->bytes, &file);
  if (status != DISCO_OK) return status;
  return is_gguf ? dsc_gguf_read(source, file, *model) : dsc_safetensors_read(source, file, *model);
}

static disco_status read_source(const dsc_source *source, disco_weights **model) {
  beginning first = {.count = source->bytes < FIRST_BYTES ? source->bytes : FIRST_BYTES};
  disco_status status = source->read(source->context, 0, first.bytes, first.count);
  if (status != DISCO_OK) return status;
  if (dsc_is_gguf(first.bytes, first.count)) return read_binary(source, true, model);
  if (is_safetensors(&first)) return read_binary(source, false, model);
  if (is_json(&first)) return read_json(source, model);
  /* Broken, and the reader says how. */
  if (ends_with(source->path, ".safetensors") && !begins_with(&first, "version https://git-lfs", 23))
    return read_binary(source, false, model);
  return refuse_file(source->path, &first);
}

static disco_status open_file(const char *path, disco_weights **ret_weights) {
  dsc_file_source source;
  disco_weights *model = NULL;
  disco_status status = dsc_file_source_open(path, &source);
  if (status != DISCO_OK) return status;
  status = read_source(&source.source, &model);
  if (status == DISCO_OK) status = dsc_model_seal(model, false);
  dsc_file_source_close(&source);
  if (status == DISCO_OK) {
    *ret_weights = model;
  } else {
    dsc_model_destroy(model);
  }
  return status;
}

/* ---- Folders ---- */

enum { MAX_LISTED = 12, MAX_CANDIDATE = 256 };

/* What may be meant, by format; of each the best name so far, and how many are as good. */
typedef struct {
  char name[MAX_CANDIDATE];
  int rank, count;
} candidate;

typedef struct {
  candidate safetensors, gguf, cache;
  dsc_text listed; /* every name that has to do with weights, some of them */
  int num_listed;
} folder;

/* A better (lower) rank replaces what was found. */
static void offer(candidate *self, int rank, const char *name) {
  if (self->count > 0 && rank > self->rank) return;
  if (self->count == 0 || rank < self->rank) {
    self->count = 0;
    self->rank = rank;
  }
  if (self->count++ == 0) (void)snprintf(self->name, sizeof(self->name), "%s", name);
}

static bool visit(void *context, const char *name) {
  folder *self = context;
  char print[DSC_NAME_PRINT_BYTES];
  bool is_known = true;
  if (strlen(name) >= MAX_CANDIDATE) return true;
  if (strcmp(name, "tensor-cache.json") == 0) {
    offer(&self->cache, 0, name);
  } else if (strcmp(name, "ndarray-cache.json") == 0) {
    offer(&self->cache, 1, name);
  } else if (strcmp(name, "model.safetensors.index.json") == 0) {
    offer(&self->safetensors, 0, name);
  } else if (strcmp(name, "model.safetensors") == 0) {
    offer(&self->safetensors, 1, name);
  } else if (ends_with(name, ".safetensors.index.json")) {
    offer(&self->safetensors, 2, name);
  } else if (ends_with(name, ".safetensors")) {
    offer(&self->safetensors, 3, name);
  } else if (ends_with(name, ".gguf")) {
    offer(&self->gguf, 0, name);
  } else {
    is_known = ends_with(name, ".json") || ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth");
  }
  if (is_known && self->num_listed++ < MAX_LISTED)
    dsc_text_add(&self->listed, "%s%s", self->listed.size > 0 ? ", " : "", dsc_name_print(name, print));
  return true;
}

static disco_status choose(const char *path, const folder *self, const char **ret_name) {
  const candidate *const all[] = {&self->safetensors, &self->gguf, &self->cache};
  const candidate *chosen = NULL;
  int count = 0;
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
    count += all[i]->count;
    if (all[i]->count > 0) chosen = all[i];
  }
  if (count == 1) {
    *ret_name = chosen->name;
    return DISCO_OK;
  }
  const char *more = self->num_listed > MAX_LISTED ? ", ..." : "";
  const char *listed = self->listed.data != NULL ? self->listed.data : "nothing of the kind";
  if (count == 0)
    return dsc_fail(DISCO_VALUE,
                    "the folder %s has no weights: tensor-cache.json, ndarray-cache.json, "
                    "model.safetensors.index.json, model.safetensors, or one *.safetensors or *.gguf; it has %s%s",
                    path, listed, more);
  return dsc_fail(DISCO_VALUE, "the folder %s has more than one model: open one of its files by name; it has %s%s",
                  path, listed, more);
}

static disco_status open_folder(const char *path, disco_weights **ret_weights) {
  folder self = {.num_listed = 0};
  const char *name = NULL;
  disco_status status = dsc_folder_visit(path, visit, &self);
  if (status == DISCO_OK) status = choose(path, &self, &name);
  if (status == DISCO_OK) {
    dsc_text file = DSC_TEXT_INIT;
    dsc_text_add(&file, "%s%s%s", path, ends_with(path, "/") ? "" : "/", name);
    status = file.data != NULL ? open_file(file.data, ret_weights)
                               : dsc_fail(DISCO_MEMORY, "no memory for the path of a file in %s", path);
    dsc_text_fini(&file);
  }
  dsc_text_fini(&self.listed);
  return status;
}

disco_status dsc_model_open(const char *path, disco_weights **ret_weights) {
  return dsc_path_is_folder(path) ? open_folder(path, ret_weights) : open_file(path, ret_weights);
}
