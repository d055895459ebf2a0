/* One file of GGUF, version 2 and 3, little-endian. As ggml's docs/gguf.md has it:
 *
 *   "GGUF"  u32 version  u64 tensors  u64 metadata entries
 *   entries:  string name, u32 type, value          string: u64 bytes, then these
 *   tensors:  string name, u32 dimensions (4 at most), u64 of each (the last dimension first), u32 type, u64 offset
 *   bytes of tensors, at offsets from the first multiple of general.alignment (32) that follows
 *
 * The list of tensors is read twice: where it ends decides where the bytes begin. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "weights/cursor.h"
#include "weights/gguf.h"
#include "weights/json_text.h"
#include "weights/names.h"

enum {
  MAX_NDIM = 4,
  MAX_DEPTH = 4, /* of arrays in arrays */
  DEFAULT_ALIGNMENT = 32,
  MAX_ALIGNMENT = 1 << 30,
  READ_SIZE = 64 << 10,
  /* The least that an entry, a tensor, an array in an array, a string take: what counts are checked against. */
  LEAST_ENTRY = 8 + 1 + 4 + 1,
  LEAST_TENSOR = 8 + 1 + 4 + 4 + 8,
  LEAST_ARRAY = 4 + 8,
  LEAST_STRING = 8,
};

/* Types of metadata values, numbered by the format. */
typedef enum {
  VALUE_U8,
  VALUE_I8,
  VALUE_U16,
  VALUE_I16,
  VALUE_U32,
  VALUE_I32,
  VALUE_F32,
  VALUE_BOOL,
  VALUE_STRING,
  VALUE_ARRAY,
  VALUE_U64,
  VALUE_I64,
  VALUE_F64,
  NUM_VALUES,
} value_type;

/* Bytes of a value; of strings and arrays the least. */
static const uint8_t value_bytes[NUM_VALUES] = {1, 1, 2, 2, 4, 4, 4, 1, LEAST_STRING, LEAST_ARRAY, 8, 8, 8};

typedef struct {
  dsc_cursor cursor;
  disco_weights *model;
  int32_t file;
  const dsc_gguf_part *first; /* NULL: this is the first */
  dsc_gguf_part part;         /* what this one says */
  uint64_t data;              /* where the bytes of tensors begin */
  uint64_t begin;             /* of what is being read, for sentences */
  char name[DSC_WEIGHTS_MAX_NAME + 1];
  dsc_json_text text;
  char what[DSC_NAME_PRINT_BYTES + 64]; /* "metadata \"general.name\"" */
} gguf;

bool dsc_is_gguf(const void *first, size_t bytes) { return bytes >= 4 && memcmp(first, "GGUF", 4) == 0; }

/* ---- Bytes ---- */

static disco_status refuse(const gguf *self, const char *format, ...) DISCO_PRINTF(2, 3);

/* A rule is broken by what the header has between the begin of this part and the cursor. */
static disco_status refuse(const gguf *self, const char *format, ...) {
  char rule[512];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(rule, sizeof(rule), format, args);
  va_end(args);
  return dsc_fail(DISCO_VALUE, "%s: %s, bytes [%llu, %llu) of the header: %s", self->cursor.source->path, self->what,
                  (unsigned long long)self->begin, (unsigned long long)self->cursor.at, rule);
}

/* The end of a sentence about bytes that are not there. */
static const char *ask_whether_cut(const gguf *self) {
  return self->cursor.end == self->cursor.source->bytes ? ": was it cut?" : "";
}

static disco_status not_there(const gguf *self, uint64_t bytes) {
  if (self->cursor.end < self->cursor.source->bytes)
    return refuse(self, "metadata and the list of tensors take more than %d bytes, the limit", DSC_WEIGHTS_MAX_HEADER);
  return refuse(self, "%llu more bytes belong to it, but the file ends after %llu%s", (unsigned long long)bytes,
                (unsigned long long)dsc_cursor_left(&self->cursor), ask_whether_cut(self));
}

static disco_status take(gguf *self, uint64_t bytes, const uint8_t **ret_bytes) {
  if (bytes > dsc_cursor_left(&self->cursor)) return not_there(self, bytes);
  return dsc_cursor_take(&self->cursor, (size_t)bytes, ret_bytes);
}

static disco_status take_u32(gguf *self, uint32_t *ret_value) {
  const uint8_t *bytes;
  disco_status status = take(self, 4, &bytes);
  if (status == DISCO_OK) *ret_value = dsc_u32_at(bytes);
  return status;
}

static disco_status take_u64(gguf *self, uint64_t *ret_value) {
  const uint8_t *bytes;
  disco_status status = take(self, 8, &bytes);
  if (status == DISCO_OK) *ret_value = dsc_u64_at(bytes);
  return status;
}

/* So many things of at least `least` bytes each must fit what is left, before anybody believes the number. */
static disco_status check_count(const gguf *self, uint64_t count, uint64_t limit, uint64_t least, const char *of) {
  const uint64_t left = dsc_cursor_left(&self->cursor);
  if (count > limit)
    return refuse(self, "%llu %s; the limit is %llu", (unsigned long long)count, of, (unsigned long long)limit);
  if (count * least > left) /* both are small now */
    return refuse(self, "%llu %s take at least %llu bytes, but there are %llu more%s", (unsigned long long)count, of,
                  (unsigned long long)(count * least), (unsigned long long)left, ask_whether_cut(self));
  return DISCO_OK;
}

static disco_status take_string(gguf *self, uint64_t limit, const uint8_t **ret_bytes, size_t *ret_count) {
  uint64_t count;
  disco_status status = take_u64(self, &count);
  if (status == DISCO_OK && count > limit)
    return refuse(self, "a string of %llu bytes; the limit is %llu", (unsigned long long)count,
                  (unsigned long long)limit);
  if (status == DISCO_OK) status = take(self, count, ret_bytes);
  if (status == DISCO_OK) *ret_count = (size_t)count;
  return status;
}

/* Into self->name, and into sentences as `kind`. */
static disco_status take_name(gguf *self, const char *kind) {
  const uint8_t *bytes = NULL;
  size_t count = 0;
  disco_status status = take_string(self, DSC_WEIGHTS_MAX_NAME, &bytes, &count);
  if (status != DISCO_OK) return status;
  if (count == 0) return refuse(self, "its name is empty");
  if (memchr(bytes, '\0', count) != NULL) return refuse(self, "there is a NUL in its name");
  if (!dsc_utf8_is_valid(bytes, count)) return refuse(self, "its name is not UTF-8");
  memcpy(self->name, bytes, count);
  self->name[count] = '\0';
  char print[DSC_NAME_PRINT_BYTES];
  (void)snprintf(self->what, sizeof(self->what), "%s %s", kind, dsc_name_print(self->name, print));
  return DISCO_OK;
}

/* ---- Metadata ---- */

static float f32_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

static double f64_of(uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/* Of a type of fixed size. */
static disco_status add_number(gguf *self, value_type type, const uint8_t *from) {
  dsc_json_text *text = &self->text;
  switch (type) {
  case VALUE_U8: return dsc_json_text_unsigned(text, from[0]);
  case VALUE_I8: return dsc_json_text_signed(text, (int8_t)from[0]);
  case VALUE_U16: return dsc_json_text_unsigned(text, (uint16_t)(from[0] | from[1] << 8));
  case VALUE_I16: return dsc_json_text_signed(text, (int16_t)(from[0] | from[1] << 8));
  case VALUE_U32: return dsc_json_text_unsigned(text, dsc_u32_at(from));
  case VALUE_I32: return dsc_json_text_signed(text, (int32_t)dsc_u32_at(from));
  case VALUE_U64: return dsc_json_text_unsigned(text, dsc_u64_at(from));
  case VALUE_I64: return dsc_json_text_signed(text, (int64_t)dsc_u64_at(from));
  case VALUE_F32: return dsc_json_text_float32(text, f32_of(dsc_u32_at(from)));
  case VALUE_F64: return dsc_json_text_float64(text, f64_of(dsc_u64_at(from)));
  default: break;
  }
  if (from[0] > 1) return refuse(self, "a bool is %u, neither 0 nor 1", from[0]);
  return from[0] != 0 ? dsc_json_text_add(text, "true", 4) : dsc_json_text_add(text, "false", 5);
}

static disco_status add_string(gguf *self) {
  const uint8_t *bytes = NULL;
  size_t count = 0;
  disco_status status = take_string(self, DSC_WEIGHTS_MAX_STRING, &bytes, &count);
  return status == DISCO_OK ? dsc_json_text_string(&self->text, bytes, count) : status;
}

static disco_status add_numbers(gguf *self, value_type type, uint64_t count) {
  disco_status status = DISCO_OK;
  const uint64_t size = value_bytes[type], at_once = 4096 / size;
  for (uint64_t done = 0; status == DISCO_OK && done < count;) {
    const uint64_t part = count - done < at_once ? count - done : at_once;
    const uint8_t *bytes;
    if ((status = take(self, part * size, &bytes)) != DISCO_OK) break;
    for (uint64_t i = 0; status == DISCO_OK && i < part; i++) {
      if (done + i > 0) status = dsc_json_text_add(&self->text, ", ", 2);
      if (status == DISCO_OK) status = add_number(self, type, bytes + i * size);
    }
    done += part;
  }
  return status;
}

static disco_status take_type(gguf *self, value_type *ret_type) {
  uint32_t type;
  disco_status status = take_u32(self, &type);
  if (status != DISCO_OK) return status;
  if (type >= NUM_VALUES)
    return refuse(self, "its value has type %u; the types of GGUF are 0 to %d", type, NUM_VALUES - 1);
  *ret_type = (value_type)type;
  return DISCO_OK;
}

static disco_status add_array(gguf *self, int depth) {
  value_type type = VALUE_U8;
  uint64_t count = 0;
  if (depth > MAX_DEPTH) return refuse(self, "arrays lie in arrays more than %d deep, the limit", MAX_DEPTH);
  disco_status status = take_type(self, &type);
  if (status == DISCO_OK) status = take_u64(self, &count);
  if (status == DISCO_OK)
    status = check_count(self, count, DSC_WEIGHTS_MAX_ARRAY, value_bytes[type], "elements of an array");
  if (status == DISCO_OK) status = dsc_json_text_add(&self->text, "[", 1);
  if (status == DISCO_OK && type != VALUE_STRING && type != VALUE_ARRAY) {
    status = add_numbers(self, type, count);
    count = 0;
  }
  for (uint64_t i = 0; status == DISCO_OK && i < count; i++) {
    if (i > 0) status = dsc_json_text_add(&self->text, ", ", 2);
    if (status == DISCO_OK) status = type == VALUE_STRING ? add_string(self) : add_array(self, depth + 1);
  }
  return status == DISCO_OK ? dsc_json_text_add(&self->text, "]", 1) : status;
}

static disco_status set_alignment(gguf *self, value_type type, const uint8_t *value) {
  if (type != VALUE_U32) return refuse(self, "its value has type %d, not uint32 (%d)", type, VALUE_U32);
  const uint64_t alignment = self->part.alignment = dsc_u32_at(value);
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > MAX_ALIGNMENT)
    return refuse(self, "%llu is not a power of two up to %d", (unsigned long long)alignment, MAX_ALIGNMENT);
  return DISCO_OK;
}

static disco_status add_value(gguf *self, value_type type) {
  const bool is_alignment = strcmp(self->name, "general.alignment") == 0;
  if (is_alignment && type != VALUE_U32) return set_alignment(self, type, NULL);
  if (type == VALUE_STRING) return add_string(self);
  if (type == VALUE_ARRAY) return add_array(self, 1);
  const uint8_t *bytes;
  disco_status status = take(self, value_bytes[type], &bytes);
  if (status == DISCO_OK && is_alignment) status = set_alignment(self, type, bytes);
  return status == DISCO_OK ? add_number(self, type, bytes) : status;
}

static void begin(gguf *self, const char *kind, uint64_t index) {
  self->begin = self->cursor.at;
  (void)snprintf(self->what, sizeof(self->what), "%s %llu", kind, (unsigned long long)index);
}

/* What a model of several files says of them; its value is in self->text. */
static disco_status note_part(gguf *self, value_type type) {
  static const bool is_integer[NUM_VALUES] = {
      [VALUE_U8] = true,  [VALUE_I8] = true,  [VALUE_U16] = true, [VALUE_I16] = true,
      [VALUE_U32] = true, [VALUE_I32] = true, [VALUE_U64] = true, [VALUE_I64] = true,
  };
  int64_t *number = strcmp(self->name, "split.no") == 0              ? &self->part.number
                    : strcmp(self->name, "split.count") == 0         ? &self->part.count
                    : strcmp(self->name, "split.tensors.count") == 0 ? &self->part.tensors
                                                                     : NULL;
  if (number == NULL) return DISCO_OK;
  if (!is_integer[type]) return refuse(self, "its value has type %d, which is no integer", type);
  *number = strtoll(self->text.data, NULL, 10);
  return *number >= 0 ? DISCO_OK : refuse(self, "%lld is less than 0", (long long)*number);
}

/* What the first of several files says counts for all. */
static disco_status keep_entry(gguf *self) {
  if (self->first != NULL && dsc_model_metadata(self->model, self->name) != NULL) return DISCO_OK;
  return dsc_model_add_metadata(self->model, self->cursor.source->path, self->name, self->text.data);
}

static disco_status read_entry(gguf *self, uint64_t index) {
  value_type type = VALUE_U8;
  begin(self, "metadata entry", index);
  dsc_json_text_clear(&self->text);
  disco_status status = take_name(self, "metadata");
  if (status == DISCO_OK) status = take_type(self, &type);
  if (status == DISCO_OK) status = add_value(self, type);
  if (status == DISCO_OK) status = dsc_json_text_end(&self->text);
  if (status == DISCO_OK) status = note_part(self, type);
  return status == DISCO_OK ? keep_entry(self) : status;
}

/* ---- Tensors ---- */

/* Name, and what follows the number of dimensions: 8 bytes of each, 4 of the type, 8 of the offset. */
static disco_status take_tensor(gguf *self, uint64_t index, uint32_t *ret_ndim, const uint8_t **ret_rest) {
  begin(self, "tensor", index);
  disco_status status = take_name(self, "tensor");
  if (status == DISCO_OK) status = take_u32(self, ret_ndim);
  if (status == DISCO_OK && *ret_ndim > MAX_NDIM)
    return refuse(self, "it has %u dimensions; GGUF has at most %d", *ret_ndim, MAX_NDIM);
  return status == DISCO_OK ? take(self, 8 * (uint64_t)*ret_ndim + 4 + 8, ret_rest) : status;
}

static disco_status shape_of(const gguf *self, const uint8_t *stored, uint32_t ndim, int64_t *ret_shape) {
  for (uint32_t i = 0; i < ndim; i++) {
    const uint64_t dimension = dsc_u64_at(stored + 8 * (uint64_t)i);
    if (dimension > INT64_MAX)
      return refuse(self, "dimension %u has %llu elements, more than 63 bits can count", ndim - 1 - i,
                    (unsigned long long)dimension);
    ret_shape[ndim - 1 - i] = (int64_t)dimension;
  }
  return DISCO_OK;
}

static disco_status bytes_of(const gguf *self, const dsc_encoding *encoding, uint32_t ndim, const int64_t *shape,
                             uint64_t *ret_bytes) {
  const int64_t last = ndim > 0 ? shape[ndim - 1] : 1;
  if (last % encoding->block_elements != 0)
    return refuse(self, "its last dimension has %lld elements, not a multiple of the %d of a block of %s",
                  (long long)last, encoding->block_elements, encoding->name);
  uint64_t bytes = (uint64_t)(last / encoding->block_elements);
  bool is_too_much = __builtin_mul_overflow(bytes, (uint64_t)encoding->block_bytes, &bytes);
  for (uint32_t i = 0; i + 1 < ndim; i++)
    is_too_much = __builtin_mul_overflow(bytes, (uint64_t)shape[i], &bytes) || is_too_much;
  if (is_too_much || bytes > INT64_MAX) return refuse(self, "its bytes are more than 63 bits can count");
  *ret_bytes = bytes;
  return DISCO_OK;
}

static disco_status place(const gguf *self, uint64_t offset, disco_weights_tensor *view) {
  const uint64_t file_bytes = self->cursor.source->bytes;
  uint64_t end;
  if (offset % self->part.alignment != 0)
    return refuse(self, "its offset %llu is not a multiple of the alignment, %llu", (unsigned long long)offset,
                  (unsigned long long)self->part.alignment);
  if (__builtin_add_overflow(self->data, offset, &view->offset) ||
      __builtin_add_overflow(view->offset, view->bytes, &end) || end > file_bytes)
    return refuse(self,
                  "it has %llu bytes at offset %llu behind byte %llu of the file, which has only %llu: was it cut?",
                  (unsigned long long)view->bytes, (unsigned long long)offset, (unsigned long long)self->data,
                  (unsigned long long)file_bytes);
  return DISCO_OK;
}

static disco_status read_tensor(gguf *self, uint64_t index) {
  int64_t shape[MAX_NDIM] = {0};
  disco_weights_tensor view = {.name = self->name, .shape = shape};
  const uint8_t *rest;
  uint32_t ndim = 0;
  disco_status status = take_tensor(self, index, &ndim, &rest);
  if (status != DISCO_OK) return status;
  const uint8_t *type = rest + 8 * (uint64_t)ndim;
  const dsc_encoding *encoding = dsc_gguf_encoding(dsc_u32_at(type));
  if (encoding == NULL) return refuse(self, "its type is %u, which is none that ggml has", dsc_u32_at(type));
  view.ndim = (int32_t)ndim;
  status = shape_of(self, rest, ndim, shape);
  if (status == DISCO_OK) status = bytes_of(self, encoding, ndim, shape, &view.bytes);
  if (status == DISCO_OK) status = place(self, dsc_u64_at(type + 4), &view);
  return status == DISCO_OK ? dsc_model_add_tensor(self->model, self->file, encoding, &view) : status;
}

static uint64_t align(uint64_t offset, uint64_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

/* Behind the list of tensors. A file aligns its bytes as it says itself, and some writers as the first of its model
 * says, without saying so again. */
static disco_status find_data(gguf *self) {
  self->data = align(self->cursor.at, self->part.alignment);
  if (self->first == NULL || self->data == align(self->cursor.at, self->first->alignment)) return DISCO_OK;
  (void)snprintf(self->what, sizeof(self->what), "all of it");
  self->begin = 0;
  return refuse(self,
                "general.alignment is %llu in this file and %llu in the first of the model, so it is not clear where "
                "its data begin; join the files (llama-gguf-split --merge)",
                (unsigned long long)self->part.alignment, (unsigned long long)self->first->alignment);
}

/* Once to see where the list ends, which says where bytes begin; and once more. */
static disco_status read_tensors(gguf *self, uint64_t count) {
  const uint64_t first = self->cursor.at;
  disco_status status = DISCO_OK;
  for (uint64_t i = 0; status == DISCO_OK && i < count; i++) {
    const uint8_t *rest;
    uint32_t ndim;
    status = take_tensor(self, i, &ndim, &rest);
  }
  if (status == DISCO_OK && count > 0) status = find_data(self);
  if (status != DISCO_OK) return status;
  dsc_cursor_seek(&self->cursor, first);
  for (uint64_t i = 0; status == DISCO_OK && i < count; i++) status = read_tensor(self, i);
  return status;
}

/* ---- The file ---- */

static disco_status check_version(const gguf *self, uint32_t version) {
  if (version == 2 || version == 3) return DISCO_OK;
  if ((version & 0xffff) == 0 && version != 0)
    return refuse(self,
                  "numbers are big-endian (version %#010x); convert it to little-endian, as ggml's "
                  "gguf_convert_endian.py does",
                  version);
  return refuse(self, "version %u of GGUF; 2 and 3 can be read%s", version,
                version == 1 ? ", older files can be converted by llama.cpp" : "");
}

static disco_status read_all(gguf *self) {
  const uint8_t *bytes;
  uint64_t num_tensors = 0, num_entries = 0;
  uint32_t version = 0;
  (void)snprintf(self->what, sizeof(self->what), "its beginning");
  disco_status status = take(self, 4, &bytes);
  if (status == DISCO_OK && !dsc_is_gguf(bytes, 4)) return refuse(self, "they are not \"GGUF\"");
  if (status == DISCO_OK) status = take_u32(self, &version);
  if (status == DISCO_OK) status = check_version(self, version);
  if (status == DISCO_OK) status = take_u64(self, &num_tensors);
  if (status == DISCO_OK) status = take_u64(self, &num_entries);
  if (status == DISCO_OK) status = check_count(self, num_tensors, DSC_WEIGHTS_MAX_TENSORS, LEAST_TENSOR, "tensors");
  if (status == DISCO_OK)
    status = check_count(self, num_entries, DSC_WEIGHTS_MAX_METADATA, LEAST_ENTRY, "metadata entries");
  for (uint64_t i = 0; status == DISCO_OK && i < num_entries; i++) status = read_entry(self, i);
  return status == DISCO_OK ? read_tensors(self, num_tensors) : status;
}

disco_status dsc_gguf_read_part(const dsc_source *source, int32_t file, const dsc_gguf_part *first,
                                disco_weights *model, dsc_gguf_part *ret_part) {
  gguf *self = dsc_alloc(sizeof(*self), "reading a GGUF file");
  if (self == NULL) return DISCO_MEMORY;
  self->model = model;
  self->file = file;
  self->first = first;
  self->part = (dsc_gguf_part){.number = -1, .tensors = -1, .alignment = DEFAULT_ALIGNMENT};
  dsc_cursor_init(&self->cursor, source, DSC_WEIGHTS_MAX_HEADER, READ_SIZE);
  disco_status status = read_all(self);
  if (status == DISCO_OK) *ret_part = self->part;
  dsc_cursor_fini(&self->cursor);
  dsc_json_text_fini(&self->text);
  free(self);
  return status;
}
