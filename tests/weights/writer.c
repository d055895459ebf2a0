/* Headers and files of random weights. Metadata, where the model has it:
 *
 *   GGUF           general.architecture, and test.TYPE of every type: u8, i8, ..., bool, string, and arrays of numbers,
 *                  of strings, of arrays, of nothing, and one of 1000 numbers
 *   safetensors    format, and strings with quotes and letters beyond ASCII
 *   tensor-cache   ParamSize and ParamBytes as TVM writes them, and a list */
#include "weights/writer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char odd_text[] = "a \"quoted\" \\ line\n\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";

static _Thread_local char complaint[512];

static const char *complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *complain(const char *format, ...) {
  va_list args;
  va_start(args, format);
  (void)vsnprintf(complaint, sizeof(complaint), format, args);
  va_end(args);
  return complaint;
}

/* ---- Growing text and bytes ---- */

typedef struct {
  char *data;
  size_t size, room;
} buffer;

static void add_bytes(buffer *self, const void *from, size_t size) {
  if (self->size + size > self->room) {
    self->room = 2 * (self->size + size) + 256;
    self->data = realloc(self->data, self->room);
    if (self->data == NULL) abort(); /* a test: nothing better to do */
  }
  if (size > 0) memcpy(self->data + self->size, from, size);
  self->size += size;
}

static void add_zeros(buffer *self, size_t size) {
  for (; size > 0; size--) add_bytes(self, "", 1);
}

static void add_text(buffer *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_text(buffer *self, const char *format, ...) {
  char text[8192];
  va_list args;
  va_start(args, format);
  const int size = vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  add_bytes(self, text, size < (int)sizeof(text) ? (size_t)size : sizeof(text) - 1);
}

/* In quotes. */
static void add_json_string(buffer *self, const char *text) {
  add_bytes(self, "\"", 1);
  for (const char *at = text; *at != 0; at++) {
    if (*at == '"' || *at == '\\')
      add_text(self, "\\%c", *at);
    else if ((unsigned char)*at < 0x20)
      add_text(self, "\\u%04x", (unsigned)*at);
    else
      add_bytes(self, at, 1);
  }
  add_bytes(self, "\"", 1);
}

static void add_u32(buffer *self, uint32_t value) { add_bytes(self, &value, sizeof(value)); }
static void add_u64(buffer *self, uint64_t value) { add_bytes(self, &value, sizeof(value)); }

/* ---- Tensors ---- */

typedef struct {
  const writer_tensor *tensor;
  const writer_encoding *encoding;
  int64_t blocks;
  uint64_t bytes;
  int32_t file;
  uint64_t offset; /* in its file's data */
} item;

static const char *make_item(const writer_tensor *tensor, item *ret) {
  const writer_encoding *encoding = writer_find_encoding(tensor->encoding);
  int64_t elements = 1;
  if (encoding == NULL) return complain("tensor %s: unknown encoding %s", tensor->name, tensor->encoding);
  if (tensor->ndim < 0 || tensor->ndim > WRITER_MAX_NDIM)
    return complain("tensor %s: %d dimensions", tensor->name, tensor->ndim);
  for (int32_t i = 0; i < tensor->ndim; i++)
    if (tensor->shape[i] < 0 || __builtin_mul_overflow(elements, tensor->shape[i], &elements))
      return complain("tensor %s: its shape is no shape", tensor->name);
  if ((tensor->ndim > 0 ? tensor->shape[tensor->ndim - 1] : 1) % encoding->block_elements != 0)
    return complain("tensor %s: its last dimension is not a multiple of %d, as %s wants", tensor->name,
                    encoding->block_elements, encoding->name);
  *ret = (item){.tensor = tensor, .encoding = encoding, .blocks = elements / encoding->block_elements};
  if (__builtin_mul_overflow((uint64_t)ret->blocks, (uint64_t)encoding->block_bytes, &ret->bytes))
    return complain("tensor %s: too large", tensor->name);
  return NULL;
}

static uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

/* Tensors to files in turn; in each one after the other, from multiples of `alignment`. */
static void lay_out(item *items, int32_t count, int32_t num_files, uint64_t alignment) {
  for (int32_t file = 0; file < num_files; file++) {
    uint64_t end = 0;
    for (int32_t i = file; i < count; i += num_files) {
      items[i].file = file;
      items[i].offset = round_up(end, alignment);
      end = items[i].offset + items[i].bytes;
    }
  }
}

/* ---- Files ---- */

typedef struct {
  const writer_model *model;
  item *items;
  int32_t num_files;
} job;

static bool put_data(FILE *out, uint64_t seed, const item *it) {
  static _Thread_local unsigned char chunk[256 * WRITER_MAX_BLOCK_BYTES];
  const uint64_t key = writer_key(seed, it->tensor->name);
  const int64_t room = (int64_t)sizeof(chunk) / it->encoding->block_bytes;
  for (int64_t done = 0; done < it->blocks;) {
    const int64_t count = it->blocks - done < room ? it->blocks - done : room;
    writer_fill(key, it->encoding, done, count, chunk);
    if (fwrite(chunk, (size_t)it->encoding->block_bytes, (size_t)count, out) != (size_t)count) return false;
    done += count;
  }
  return true;
}

/* The header and the tensors of a file. */
static const char *write_file(const char *path, const buffer *header, const job *self, int32_t file) {
  static const char zeros[4096];
  FILE *out = fopen(path, "we");
  if (out == NULL) return complain("%s: %s", path, strerror(errno));
  bool is_good = header->size == 0 || fwrite(header->data, 1, header->size, out) == header->size;
  uint64_t at = 0;
  for (int32_t i = 0; is_good && i < self->model->num_tensors; i++) {
    const item *it = &self->items[i];
    if (it->file != file) continue;
    for (; is_good && at < it->offset; at++) is_good = fwrite(zeros, 1, 1, out) == 1;
    is_good = is_good && put_data(out, self->model->seed, it);
    at += it->bytes;
  }
  if (fclose(out) != 0 || !is_good) return complain("%s: %s", path, strerror(errno));
  return NULL;
}

static const char *write_text(const char *folder, const char *name, const buffer *text) {
  char path[4096];
  (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
  FILE *out = fopen(path, "we");
  if (out == NULL) return complain("%s: %s", path, strerror(errno));
  const bool is_written = fwrite(text->data, 1, text->size, out) == text->size;
  return fclose(out) == 0 && is_written ? NULL : complain("%s: %s", path, strerror(errno));
}

static const char *make_folder(const char *path) {
  return mkdir(path, 0777) == 0 || errno == EEXIST ? NULL : complain("%s: %s", path, strerror(errno));
}

/* ---- GGUF ---- */

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static void add_gguf_string(buffer *self, const char *text) {
  add_u64(self, strlen(text));
  add_bytes(self, text, strlen(text));
}

static void add_key(buffer *self, const char *key, uint32_t type, uint64_t *count) {
  add_gguf_string(self, key);
  add_u32(self, type);
  *count += 1;
}

/* What stands in front of the elements of an array. */
static void add_array(buffer *self, uint32_t type, uint64_t length) {
  add_u32(self, type);
  add_u64(self, length);
}

static void add_numbers(buffer *self, uint64_t *count) {
  static const struct {
    const char *key;
    uint32_t type, bytes;
    int64_t value;
  } integers[] = {
      {"test.u8", U8, 1, 200},      {"test.i8", I8, 1, -100},         {"test.u16", U16, 2, 60000},
      {"test.i16", I16, 2, -30000}, {"test.u32", U32, 4, 4000000000}, {"test.i32", I32, 4, -2000000000},
      {"test.u64", U64, 8, -1},     {"test.i64", I64, 8, INT64_MIN},  {"test.bool", BOOL, 1, 1},
  };
  const float single = 0.1f;
  const double pair = -1e-300;
  for (size_t i = 0; i < sizeof(integers) / sizeof(integers[0]); i++) {
    add_key(self, integers[i].key, integers[i].type, count);
    add_bytes(self, &integers[i].value, integers[i].bytes); /* little-endian */
  }
  add_key(self, "test.f32", F32, count);
  add_bytes(self, &single, sizeof(single));
  add_key(self, "test.f64", F64, count);
  add_bytes(self, &pair, sizeof(pair));
}

static void add_arrays(buffer *self, uint64_t *count) {
  add_key(self, "test.array", ARRAY, count);
  add_array(self, I32, 3);
  for (int i = 0; i < 3; i++) add_u32(self, (uint32_t)(1 - i));
  add_key(self, "test.strings", ARRAY, count);
  add_array(self, STRING, 3);
  add_gguf_string(self, "one");
  add_gguf_string(self, "");
  add_gguf_string(self, odd_text);
  add_key(self, "test.nested", ARRAY, count);
  add_array(self, ARRAY, 2);
  for (uint64_t i = 1; i <= 2; i++) {
    add_array(self, U64, i);
    for (uint64_t k = 0; k < i; k++) add_u64(self, k);
  }
  add_key(self, "test.empty", ARRAY, count);
  add_array(self, F64, 0);
  add_key(self, "test.long", ARRAY, count);
  add_array(self, U32, 1000);
  for (uint32_t i = 0; i < 1000; i++) add_u32(self, i);
}

static uint64_t add_gguf_metadata(buffer *self, const writer_model *model) {
  uint64_t count = 0;
  if (model->alignment != 0) {
    add_key(self, "general.alignment", U32, &count);
    add_u32(self, model->alignment);
  }
  if (!model->has_metadata) return count;
  add_key(self, "general.architecture", STRING, &count);
  add_gguf_string(self, "random");
  add_key(self, "test.string", STRING, &count);
  add_gguf_string(self, odd_text);
  add_numbers(self, &count);
  add_arrays(self, &count);
  return count;
}

static const char *write_gguf(const job *self, const char *path) {
  const writer_model *model = self->model;
  buffer metadata = {0}, header = {0};
  const uint64_t num_metadata = add_gguf_metadata(&metadata, model);
  add_bytes(&header, "GGUF", 4);
  add_u32(&header, model->gguf_version != 0 ? model->gguf_version : 3);
  add_u64(&header, (uint64_t)model->num_tensors);
  add_u64(&header, num_metadata);
  add_bytes(&header, metadata.data, metadata.size);
  free(metadata.data);
  for (int32_t i = 0; i < model->num_tensors; i++) {
    const item *it = &self->items[i];
    add_gguf_string(&header, it->tensor->name);
    add_u32(&header, (uint32_t)it->tensor->ndim);
    for (int32_t d = it->tensor->ndim - 1; d >= 0; d--) add_u64(&header, (uint64_t)it->tensor->shape[d]);
    add_u32(&header, (uint32_t)it->encoding->gguf);
    add_u64(&header, it->offset);
  }
  const uint64_t alignment = model->alignment != 0 ? model->alignment : 32;
  add_zeros(&header, round_up(header.size, alignment) - header.size);
  const char *wrong = write_file(path, &header, self, 0);
  free(header.data);
  return wrong;
}

/* ---- safetensors ---- */

static void add_shape(buffer *self, const writer_tensor *tensor) {
  add_text(self, "\"shape\": [");
  for (int32_t d = 0; d < tensor->ndim; d++) add_text(self, d > 0 ? ", %lld" : "%lld", (long long)tensor->shape[d]);
  add_text(self, "]");
}

static const char *write_safetensors(const job *self, const char *path, int32_t file) {
  buffer json = {0}, header = {0};
  const char *comma = "";
  add_text(&json, "{");
  if (self->model->has_metadata) {
    add_text(&json, "\"__metadata__\": {\"format\": \"pt\", \"test.string\": ");
    add_json_string(&json, odd_text);
    add_text(&json, ", \"test.empty\": \"\"}");
    comma = ", ";
  }
  for (int32_t i = 0; i < self->model->num_tensors; i++) {
    const item *it = &self->items[i];
    if (it->file != file) continue;
    add_text(&json, "%s", comma);
    add_json_string(&json, it->tensor->name);
    add_text(&json, ": {\"dtype\": \"%s\", ", it->encoding->safetensors);
    add_shape(&json, it->tensor);
    add_text(&json, ", \"data_offsets\": [%llu, %llu]}", (unsigned long long)it->offset,
             (unsigned long long)(it->offset + it->bytes));
    comma = ", ";
  }
  add_text(&json, "}");
  while (json.size % 8 != 0) add_text(&json, " ");
  add_u64(&header, json.size);
  add_bytes(&header, json.data, json.size);
  const char *wrong = write_file(path, &header, self, file);
  free(json.data);
  free(header.data);
  return wrong;
}

static void part_name(const job *self, int32_t file, char *name, size_t room) {
  (void)snprintf(name, room, "model-%05d-of-%05d.safetensors", file + 1, self->num_files);
}

static const char *write_index(const job *self, const char *folder) {
  char name[64], path[4096];
  buffer json = {0};
  uint64_t total = 0;
  const char *wrong = make_folder(folder);
  for (int32_t i = 0; i < self->model->num_tensors; i++) total += self->items[i].bytes;
  add_text(&json, "{\"metadata\": {\"total_size\": %llu}, \"weight_map\": {", (unsigned long long)total);
  for (int32_t i = 0; i < self->model->num_tensors; i++) {
    part_name(self, self->items[i].file, name, sizeof(name));
    add_text(&json, i > 0 ? ",\n" : "\n");
    add_json_string(&json, self->items[i].tensor->name);
    add_text(&json, ": \"%s\"", name);
  }
  add_text(&json, "\n}}\n");
  for (int32_t file = 0; wrong == NULL && file < self->num_files; file++) {
    part_name(self, file, name, sizeof(name));
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    wrong = write_safetensors(self, path, file);
  }
  if (wrong == NULL) wrong = write_text(folder, "model.safetensors.index.json", &json);
  free(json.data);
  return wrong;
}

/* ---- tensor-cache ---- */

static bool is_cut(const item *it) { return strcmp(it->encoding->name, "f32-to-bf16") == 0; }

/* TVM's writer stamps the format of a cache on every parameter, integers too; float32 that was not cut is our addition.
 */
static const char *format_of(const job *self, const item *it) {
  bool any = false;
  for (int32_t i = 0; i < self->model->num_tensors; i++) any = any || is_cut(&self->items[i]);
  return any && (is_cut(it) || strcmp(it->encoding->cache_dtype, "float32") != 0) ? "f32-to-bf16" : "raw";
}

/* Its records; returns the bytes of the file. */
static uint64_t add_records(buffer *json, const job *self, int32_t file) {
  uint64_t bytes = 0;
  const char *comma = "";
  for (int32_t i = 0; i < self->model->num_tensors; i++) {
    const item *it = &self->items[i];
    if (it->file != file) continue;
    add_text(json, "%s{\"name\": ", comma);
    add_json_string(json, it->tensor->name);
    add_text(json, ", ");
    add_shape(json, it->tensor);
    add_text(json, ", \"dtype\": \"%s\", \"format\": \"%s\", \"nbytes\": %llu, \"byteOffset\": %llu}",
             it->encoding->cache_dtype, format_of(self, it), (unsigned long long)it->bytes,
             (unsigned long long)it->offset);
    bytes = it->offset + it->bytes;
    comma = ",\n    ";
  }
  return bytes;
}

static const char *write_cache(const job *self, const char *folder) {
  char path[4096];
  buffer json = {0};
  const char *wrong = make_folder(folder);
  uint64_t total = 0;
  for (int32_t i = 0; i < self->model->num_tensors; i++) total += self->items[i].bytes;
  add_text(&json, "{\"metadata\": {");
  if (self->model->has_metadata)
    add_text(&json, "\"ParamSize\": %d, \"ParamBytes\": %llu.0, \"test.list\": [1, [2.5, null], \"three\", true]",
             self->model->num_tensors, (unsigned long long)total);
  add_text(&json, "}, \"records\": [");
  for (int32_t file = 0; wrong == NULL && file < self->num_files; file++) {
    const buffer nothing = {0};
    add_text(&json, "%s\n  {\"dataPath\": \"params_shard_%d.bin\", \"format\": \"raw-shard\", \"records\": [",
             file > 0 ? "," : "", file);
    const uint64_t bytes = add_records(&json, self, file);
    add_text(&json, "],\n   \"nbytes\": %llu}", (unsigned long long)bytes);
    (void)snprintf(path, sizeof(path), "%s/params_shard_%d.bin", folder, file);
    wrong = write_file(path, &nothing, self, file);
  }
  add_text(&json, "\n]}\n");
  if (wrong == NULL) wrong = write_text(folder, "tensor-cache.json", &json);
  free(json.data);
  return wrong;
}

/* ---- All ---- */

static const char *check_format(const item *it, writer_format format) {
  const bool knows = format == WRITER_GGUF           ? it->encoding->gguf >= 0
                     : format == WRITER_TENSOR_CACHE ? it->encoding->cache_dtype != NULL
                                                     : it->encoding->safetensors != NULL;
  if (!knows) return complain("tensor %s: this format has no %s", it->tensor->name, it->encoding->name);
  if (format == WRITER_GGUF && it->tensor->ndim > 4)
    return complain("tensor %s: GGUF has at most 4 dimensions", it->tensor->name);
  return NULL;
}

const char *writer_write(const writer_model *model, writer_format format, const char *path) {
  const bool has_one_file = format == WRITER_GGUF || format == WRITER_SAFETENSORS;
  const uint64_t alignment = format != WRITER_GGUF ? 1 : model->alignment != 0 ? model->alignment : 32;
  job self = {.model = model, .num_files = has_one_file ? 1 : model->num_files > 0 ? model->num_files : 2};
  const char *wrong = NULL;
  if (self.num_files > model->num_tensors) self.num_files = model->num_tensors > 0 ? model->num_tensors : 1;
  self.items = calloc((size_t)model->num_tensors + 1, sizeof(item));
  if (self.items == NULL) return complain("no memory");
  for (int32_t i = 0; wrong == NULL && i < model->num_tensors; i++) {
    wrong = make_item(&model->tensors[i], &self.items[i]);
    if (wrong == NULL) wrong = check_format(&self.items[i], format);
  }
  if (wrong == NULL) {
    lay_out(self.items, model->num_tensors, self.num_files, alignment);
    switch (format) {
    case WRITER_GGUF: wrong = write_gguf(&self, path); break;
    case WRITER_SAFETENSORS: wrong = write_safetensors(&self, path, 0); break;
    case WRITER_SAFETENSORS_INDEX: wrong = write_index(&self, path); break;
    case WRITER_TENSOR_CACHE: wrong = write_cache(&self, path); break;
    }
  }
  free(self.items);
  return wrong;
}
