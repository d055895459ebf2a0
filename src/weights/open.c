/* What a source is, by its first bytes, and what a folder is, by what lies in it. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "os/file.h"
#include "weights/cursor.h"
#include "weights/gguf.h"
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

/* *model is to be destroyed also where it failed. */
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

disco_status dsc_model_read(const dsc_source *source, disco_weights **ret_model) {
  disco_weights *model = NULL;
  disco_status status = read_source(source, &model);
  if (status == DISCO_OK) status = dsc_model_seal(model, false);
  if (status == DISCO_OK) {
    *ret_model = model;
  } else {
    dsc_model_destroy(model);
  }
  return status;
}

static disco_status open_file(const char *path, disco_weights **ret_weights) {
  dsc_file_source source;
  disco_status status = dsc_file_source_open(path, &source);
  if (status != DISCO_OK) return status;
  status = dsc_model_read(&source.source, ret_weights);
  dsc_file_source_close(&source);
  return status;
}

/* ---- Folders ---- */

enum { MAX_LISTED = 12, MAX_CANDIDATE = 256 };

/* What may be meant, by format; of each the first of the best names so far, and how many are as good. */
typedef struct {
  char name[MAX_CANDIDATE];
  int rank, count;
} candidate;

typedef struct {
  candidate safetensors, gguf, cache;
  char listed[MAX_LISTED][MAX_CANDIDATE]; /* the first names, in order, that have to do with weights */
  int num_listed;                         /* also those that are not among the first */
} folder;

static void copy_name(char to[MAX_CANDIDATE], const char *name) { (void)snprintf(to, MAX_CANDIDATE, "%s", name); }

/* A better (lower) rank replaces what was found. */
static void offer(candidate *self, int rank, const char *name) {
  if (self->count > 0 && rank > self->rank) return;
  if (self->count == 0 || rank < self->rank) {
    self->count = 0;
    self->rank = rank;
  }
  if (self->count++ == 0 || strcmp(name, self->name) < 0) copy_name(self->name, name);
}

/* Of a model in several files the first stands for all. Where it is missing another one does, and says so. */
static void offer_gguf(candidate *self, const char *name) {
  int64_t number, count;
  size_t stem;
  const bool is_later = dsc_gguf_is_part_name(name, &number, &count, &stem) && number > 0;
  offer(self, is_later ? 1 : 0, name);
  if (self->rank == 1) self->count = 1;
}

static void list(folder *self, const char *name) {
  int at = self->num_listed < MAX_LISTED ? self->num_listed : MAX_LISTED;
  while (at > 0 && strcmp(name, self->listed[at - 1]) < 0) at--;
  self->num_listed++;
  if (at == MAX_LISTED) return;
  memmove(self->listed[at + 1], self->listed[at], (size_t)(MAX_LISTED - 1 - at) * MAX_CANDIDATE);
  copy_name(self->listed[at], name);
}

static bool visit(void *context, const char *name) {
  folder *self = context;
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
    offer_gguf(&self->gguf, name);
  } else {
    is_known = ends_with(name, ".json") || ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth");
  }
  if (is_known) list(self, name);
  return true;
}

/* The end of a sentence about a folder. */
static void tell_listed(const folder *self, dsc_text *text) {
  char print[DSC_NAME_PRINT_BYTES];
  for (int i = 0; i < self->num_listed && i < MAX_LISTED; i++)
    dsc_text_add(text, "%s%s", i > 0 ? ", " : "", dsc_name_print(self->listed[i], print));
  if (self->num_listed > MAX_LISTED) dsc_text_add(text, ", ... (%d in all)", self->num_listed);
  if (self->num_listed == 0) dsc_text_add(text, "nothing of the kind");
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
  dsc_text listed = DSC_TEXT_INIT;
  tell_listed(self, &listed);
  const char *has = listed.data != NULL ? listed.data : "some files";
  disco_status status =
      count == 0
          ? dsc_fail(DISCO_VALUE,
                     "the folder %s has no weights: tensor-cache.json, ndarray-cache.json, "
                     "model.safetensors.index.json, model.safetensors, or one *.safetensors or *.gguf; it has %s",
                     path, has)
          : dsc_fail(DISCO_VALUE, "the folder %s has more than one model: open one of its files by name; it has %s",
                     path, has);
  dsc_text_fini(&listed);
  return status;
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
  return status;
}

disco_status dsc_model_open(const char *path, disco_weights **ret_weights) {
  return dsc_path_is_folder(path) ? open_folder(path, ret_weights) : open_file(path, ret_weights);
}
