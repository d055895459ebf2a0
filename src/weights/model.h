/* An open model: files, tensors, metadata. A reader fills it through the functions below, which check what all formats
 * have in common; afterwards it does not change. docs/architecture.md, Weights.
 *
 *   source   bytes to parse: a file, or memory (tests and fuzzers)
 *   model    what was found
 *   readers  safetensors.c, gguf.c and gguf_split.c, tensor_cache.c: source -> model
 *   plan, shard_read   who gets what, and reading it */
#ifndef DSC_WEIGHTS_MODEL_H
#define DSC_WEIGHTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "disco/weights.h"

/* Limits, before anything is allocated. Each is told with its number by the error that it causes. */
enum {
  DSC_WEIGHTS_MAX_FILES = 4096,
  DSC_WEIGHTS_MAX_TENSORS = 1 << 20,
  DSC_WEIGHTS_MAX_NAME = 4096,            /* bytes of a tensor's or a metadata name */
  DSC_WEIGHTS_MAX_HEADER = 100 << 20,     /* of JSON, of GGUF's metadata and list of tensors */
  DSC_SAFETENSORS_MAX_HEADER = 100000000, /* the format's own limit */
  DSC_WEIGHTS_MAX_METADATA = 1 << 16,     /* entries */
  DSC_WEIGHTS_MAX_STRING = 16 << 20,      /* one GGUF string */
  DSC_WEIGHTS_MAX_ARRAY = 16 << 20,       /* elements of a GGUF array */
  DSC_WEIGHTS_MAX_JSON_DEPTH = 64,
};

/* Where bytes come from while headers are parsed. `read` fills the range whole or fails with a sentence; ranges were
 * checked against `bytes`. */
typedef struct {
  const char *path; /* for sentences, and to find sibling files */
  uint64_t bytes;
  disco_status (*read)(void *context, uint64_t offset, void *to, size_t bytes);
  void *context;
} dsc_source;

/* Memory as a source; both outlive it. */
void dsc_source_of_memory(const char *path, const void *memory, size_t bytes, dsc_source *ret_source);

/* Element types and block encodings by the name that a format gives them. */
typedef struct {
  const char *name;
  DLDataType dtype;       /* decoded; bits 0: can be listed only */
  int32_t block_elements; /* 1 for plain types */
  int32_t block_bytes;
  /* NULL when what is stored is the dtype itself; else `count` elements (whole blocks) of it at `from`, unaligned,
   * become float32 at `to`. */
  void (*decode)(const void *from, int64_t count, float *to);
} dsc_encoding;

typedef struct {
  disco_weights_tensor view;
  const dsc_encoding *encoding;
  int32_t file;
} dsc_weight;

/* Shape, name, file and range must be set in `tensor`->view (strings and shape are copied; `view.file` is ignored, the
 * file is given by its index). Checks: name not empty, not too long and not there already, UTF-8 without NUL; at most
 * DISCO_WEIGHTS_MAX_NDIM dimensions, none negative; elements and bytes do not overflow 63 bits; the last dimension is a
 * multiple of the block; bytes are what shape and encoding say; the range lies within the file. DISCO_VALUE that names
 * file, tensor, byte range and rule. */
disco_status dsc_model_add_tensor(disco_weights *model, int32_t file, const dsc_encoding *encoding,
                                  const disco_weights_tensor *view);
/* `json`: the value as JSON text; `path`: of the file that has it, for sentences. DISCO_VALUE for a name that is there
 * already or too many. Copies key and value. */
disco_status dsc_model_add_metadata(disco_weights *model, const char *path, const char *key, const char *json);
/* A file with tensors. `bytes`: its size as found when it was opened. Returns its index; the same path twice gives the
 * same. DISCO_VALUE past the limit. */
disco_status dsc_model_add_file(disco_weights *model, const char *path, uint64_t bytes, int32_t *ret_file);
/* A file beside `path` by a name that the file at `path` gave: opened to learn its size, added. DISCO_VALUE for a name
 * that is empty, absolute, or has a part ".." (a hostile index must not name other files), DISCO_RUNTIME when it cannot
 * be opened; both name `path`. */
disco_status dsc_model_add_sibling(disco_weights *model, const char *path, const char *name, int32_t *ret_file);
/* The same without opening it: it is believed to have so many bytes. */
disco_status dsc_model_claim_sibling(disco_weights *model, const char *path, const char *name, uint64_t bytes,
                                     int32_t *ret_file);

/* An encoding that no table has, of a tensor that can be listed only; `path`: of the file that names it. Its blocks
 * have 0 bytes: the size of such a tensor is not compared with its shape. Lives as long as the model. */
disco_status dsc_model_foreign_encoding(disco_weights *model, const char *path, const char *name,
                                        const dsc_encoding **ret_encoding);

/* After the last tensor: checks that no two tensors of a file overlap, unless `may_overlap`. */
disco_status dsc_model_seal(disco_weights *model, bool may_overlap);

disco_status dsc_model_create(const char *format, disco_weights **ret_model);
void dsc_model_destroy(disco_weights *model); /* NULL allowed */

/* What disco/weights.h says of the functions of these names. */
disco_status dsc_model_open(const char *path, disco_weights **ret_model);
/* The same of what a source has instead of a file. The files that it names lie beside source->path. */
disco_status dsc_model_read(const dsc_source *source, disco_weights **ret_model);
const char *dsc_model_format(const disco_weights *model);
int64_t dsc_model_count(const disco_weights *model);
int64_t dsc_model_find(const disco_weights *model, const char *name);
int64_t dsc_model_num_metadata(const disco_weights *model);
bool dsc_model_metadata_at(const disco_weights *model, int64_t index, const char **ret_key, const char **ret_json);
const char *dsc_model_metadata(const disco_weights *model, const char *key);

/* NULL for an index that there is not. */
const dsc_weight *dsc_model_weight(const disco_weights *model, int64_t index);
const char *dsc_model_file(const disco_weights *model, int32_t file, uint64_t *ret_bytes);

/* ---- Readers: fill a model that was created with their format's name ---- */

/* What a file looks like, by its first bytes and its path. */
bool dsc_is_gguf(const void *first, size_t bytes);
/* The source is the file with index `file` of the model. */
disco_status dsc_safetensors_read(const dsc_source *source, int32_t file, disco_weights *model);
/* Where it is the first of several, with the others, which lie beside source->path. */
disco_status dsc_gguf_read(const dsc_source *source, int32_t file, disco_weights *model);
/* A tensor cache, without a look at the files that it names, which need not be there: their sizes are believed, and are
 * to be compared before a tensor is read. */
disco_status dsc_tensor_cache_list(const dsc_source *source, disco_weights *model);

/* The encodings of each format; NULL for a name or number that it does not have. A GGUF type that we know the size of
 * but cannot decode is there with dtype.bits 0. */
const dsc_encoding *dsc_safetensors_encoding(const char *name);
const dsc_encoding *dsc_gguf_encoding(uint32_t type);
const dsc_encoding *dsc_tensor_cache_encoding(const char *dtype, const char *format);

#endif
