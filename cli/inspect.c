/* disco inspect: what is in a file of weights. */
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "weights.h"

/* How much of a value of metadata is shown in a line. */
enum { VALUE_WIDTH = 72 };

typedef struct {
  const char *path, *pattern;
  bool as_json, with_metadata;
  disco_weights *weights;
  int64_t num_tensors;
  bool *is_chosen; /* of each tensor: the pattern matches its name */
  int64_t num_chosen;
  /* of the whole model */
  uint64_t parameters, bytes;
  int64_t unusable;
  int32_t num_files;
  const char **files;
  int32_t *file_of; /* of each tensor, its index in `files` */
} inspection;

/* ---- Looking ---- */

static disco_status plan_of_argument(const char *pattern, disco_shard_plan **ret_plan) {
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  if (stream == NULL) return disco_fail(DISCO_MEMORY, "no memory for the pattern");
  print_json_string(stream, pattern, strlen(pattern));
  const bool is_written = fclose(stream) == 0;
  disco_status status =
      is_written ? plan_of_pattern(text, size, ret_plan) : disco_fail(DISCO_MEMORY, "no memory for the pattern");
  free(text);
  return status;
}

static int32_t file_index(inspection *self, const char *path) {
  for (int32_t i = self->num_files - 1; i >= 0; i--)
    if (self->files[i] == path || strcmp(self->files[i], path) == 0) return i;
  self->files[self->num_files] = path;
  return self->num_files++;
}

static disco_status look(inspection *self, const disco_shard_plan *plan) {
  const size_t room = (size_t)(self->num_tensors = disco_weights_num_tensors(self->weights)) + 1;
  self->is_chosen = calloc(room, sizeof(*self->is_chosen));
  self->files = calloc(room, sizeof(*self->files));
  self->file_of = calloc(room, sizeof(*self->file_of));
  if (self->is_chosen == NULL || self->files == NULL || self->file_of == NULL)
    return disco_fail(DISCO_MEMORY, "no memory for %lld tensors", (long long)self->num_tensors);
  for (int64_t i = 0; i < self->num_tensors; i++) {
    const disco_weights_tensor *tensor = disco_weights_tensor_at(self->weights, i);
    self->parameters = saturated_sum(self->parameters, num_elements(tensor));
    self->bytes = saturated_sum(self->bytes, tensor->bytes);
    self->unusable += tensor->dtype.bits == 0;
    self->file_of[i] = file_index(self, tensor->file);
    self->is_chosen[i] = plan == NULL || name_matches(self->weights, i, plan);
    self->num_chosen += self->is_chosen[i];
  }
  return DISCO_OK;
}

/* ---- As text ---- */

/* The encodings that cannot be read, each once: "Q4_K, Q6_K". */
static void print_unusable(const inspection *self) {
  enum { MOST = 8 };
  const char *seen[MOST];
  int count = 0;
  printf("unusable: %lld tensors, which can be listed but not read (", (long long)self->unusable);
  for (int64_t i = 0; i < self->num_tensors && count < MOST; i++) {
    const disco_weights_tensor *tensor = disco_weights_tensor_at(self->weights, i);
    int k = 0;
    if (tensor->dtype.bits != 0) continue;
    while (k < count && strcmp(seen[k], tensor->encoding) != 0) k++;
    if (k < count) continue;
    if (count > 0) fputs(", ", stdout);
    print_safe(stdout, tensor->encoding, strlen(tensor->encoding));
    seen[count++] = tensor->encoding;
  }
  fputs(count == MOST ? ", ...)\n" : ")\n", stdout);
}

static void print_summary(const inspection *self) {
  print_heading(stdout, "[model]");
  fputs("path: ", stdout);
  print_safe(stdout, self->path, strlen(self->path));
  printf("\nformat: %s\nfiles: %d\ntensors: %lld\nparameters: %llu\nbytes: ", disco_weights_format(self->weights),
         self->num_files, (long long)self->num_tensors, (unsigned long long)self->parameters);
  print_bytes(self->bytes);
  printf("\nmetadata: %lld\n", (long long)disco_weights_num_metadata(self->weights));
  if (self->unusable > 0) print_unusable(self);
}

static void print_files(const inspection *self) {
  putchar('\n');
  print_heading(stdout, "[files]");
  for (int32_t i = 0; i < self->num_files; i++) {
    printf("%d: ", i);
    print_safe(stdout, self->files[i], strlen(self->files[i]));
    putchar('\n');
  }
}

/* The members of a JSON array or object in its text, and the end of the last that ends within `limit` bytes. */
static int64_t count_members(const char *json, size_t limit, size_t *ret_end) {
  int64_t count = 0;
  int depth = 0;
  bool in_string = false, any = false;
  *ret_end = 0;
  for (size_t i = 0; json[i] != 0; i++) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\' && json[i + 1] != 0) i++;
      if (c == '"') in_string = false;
      continue;
    }
    any = any || (depth > 0 && c != ' ' && c != ']' && c != '}');
    if (c == '"') in_string = true;
    if (c == '[' || c == '{') depth++;
    if (c == ']' || c == '}') depth--;
    if (depth == 1 && c == ',') {
      count++;
      if (i <= limit) *ret_end = i;
    }
  }
  return count + any;
}

/* Not within a character. */
static size_t cut_before(const char *text, size_t limit) {
  while (limit > 0 && ((unsigned char)text[limit] & 0xc0) == 0x80) limit--;
  return limit;
}

static void print_cut(const char *json) {
  const size_t size = strlen(json);
  size_t end = 0;
  if (size <= VALUE_WIDTH) {
    print_safe(stdout, json, size);
    return;
  }
  if (json[0] != '[' && json[0] != '{') {
    print_safe(stdout, json, cut_before(json, VALUE_WIDTH));
    printf("... (%zu bytes)", size - 2);
    return;
  }
  const int64_t count = count_members(json, VALUE_WIDTH, &end);
  if (end == 0) end = cut_before(json, VALUE_WIDTH);
  print_safe(stdout, json, end);
  printf(", ...%c (%lld %s)", json[0] == '[' ? ']' : '}', (long long)count, json[0] == '[' ? "elements" : "members");
}

static void print_metadata(const inspection *self) {
  const char *key = NULL, *json = NULL;
  putchar('\n');
  print_heading(stdout, "[metadata]");
  for (int64_t i = 0; disco_weights_metadata_at(self->weights, i, &key, &json); i++) {
    print_safe(stdout, key, strlen(key));
    fputs(": ", stdout);
    print_cut(json);
    putchar('\n');
  }
}

typedef struct {
  int name, shape, encoding, dtype, bytes, offset;
} widths;

static void tensor_words(const disco_weights_tensor *tensor, char shape[SHAPE_ROOM], char dtype[DTYPE_ROOM]) {
  shape_text(tensor->ndim, tensor->shape, shape);
  dtype_text(tensor->dtype, dtype);
  if (dtype[0] == 0) (void)snprintf(dtype, DTYPE_ROOM, "unusable");
}

static widths measure(const inspection *self) {
  widths wide = {.name = 4, .shape = 5, .encoding = 8, .dtype = 5, .bytes = 5, .offset = 6};
  char shape[SHAPE_ROOM], dtype[DTYPE_ROOM];
  for (int64_t i = 0; i < self->num_tensors; i++) {
    const disco_weights_tensor *tensor = disco_weights_tensor_at(self->weights, i);
    if (!self->is_chosen[i]) continue;
    tensor_words(tensor, shape, dtype);
    widen_to_name(tensor->name, &wide.name);
    widen_to_text(shape, &wide.shape);
    widen_to_name(tensor->encoding, &wide.encoding);
    widen_to_text(dtype, &wide.dtype);
    widen_to_number(tensor->bytes, &wide.bytes);
    widen_to_number(tensor->offset, &wide.offset);
  }
  return wide;
}

static void print_tensors(const inspection *self) {
  const widths wide = measure(self);
  char shape[SHAPE_ROOM], dtype[DTYPE_ROOM];
  putchar('\n');
  print_heading(stdout, "[tensors]");
  printf("%-*s  %-*s  %-*s  %-*s  %*s  %*s%s\n", wide.name, "name", wide.shape, "shape", wide.encoding, "encoding",
         wide.dtype, "dtype", wide.bytes, "bytes", wide.offset, "offset", self->num_files > 1 ? "  file" : "");
  for (int64_t i = 0; i < self->num_tensors; i++) {
    const disco_weights_tensor *tensor = disco_weights_tensor_at(self->weights, i);
    if (!self->is_chosen[i]) continue;
    tensor_words(tensor, shape, dtype);
    print_name(tensor->name, wide.name);
    printf("  %-*s  ", wide.shape, shape);
    print_name(tensor->encoding, wide.encoding);
    printf("  %-*s  %*llu  %*llu", wide.dtype, dtype, wide.bytes, (unsigned long long)tensor->bytes, wide.offset,
           (unsigned long long)tensor->offset);
    if (self->num_files > 1) printf("  %4d", self->file_of[i]);
    putchar('\n');
  }
}

static void print_text(const inspection *self) {
  print_summary(self);
  if (self->num_files > 1) print_files(self);
  if (self->with_metadata) print_metadata(self);
  if (self->pattern == NULL || self->num_chosen > 0) print_tensors(self);
}

/* ---- As JSON ---- */

static void json_tensor(const inspection *self, int64_t i) {
  const disco_weights_tensor *tensor = disco_weights_tensor_at(self->weights, i);
  char shape[SHAPE_ROOM], dtype[DTYPE_ROOM];
  shape_text(tensor->ndim, tensor->shape, shape);
  dtype_text(tensor->dtype, dtype);
  fputs("\n    {", stdout);
  json_text("name", tensor->name);
  printf(", \"shape\": %s, ", shape);
  json_text("encoding", tensor->encoding);
  fputs(", \"dtype\": ", stdout);
  printf(dtype[0] != 0 ? "\"%s\"" : "null", dtype);
  printf(", \"usable\": %s, \"bytes\": %llu, \"file\": %d, \"offset\": %llu, \"block_elements\": %d, "
         "\"block_bytes\": %d}",
         dtype[0] != 0 ? "true" : "false", (unsigned long long)tensor->bytes, self->file_of[i],
         (unsigned long long)tensor->offset, tensor->block_elements, tensor->block_bytes);
}

static void print_json(const inspection *self) {
  const char *key = NULL, *json = NULL, *comma = "";
  fputs("{\n  ", stdout);
  json_text("path", self->path);
  printf(",\n  \"format\": \"%s\",\n  \"files\": [", disco_weights_format(self->weights));
  for (int32_t i = 0; i < self->num_files; i++) {
    if (i > 0) fputs(", ", stdout);
    print_json_string(stdout, self->files[i], strlen(self->files[i]));
  }
  printf("],\n  \"num_tensors\": %lld,\n  \"parameters\": %llu,\n  \"bytes\": %llu,\n  \"unusable\": %lld,\n"
         "  \"metadata\": {",
         (long long)self->num_tensors, (unsigned long long)self->parameters, (unsigned long long)self->bytes,
         (long long)self->unusable);
  for (int64_t i = 0; disco_weights_metadata_at(self->weights, i, &key, &json); i++) {
    fputs(i > 0 ? ",\n    " : "\n    ", stdout);
    print_json_string(stdout, key, strlen(key));
    printf(": %s", json);
  }
  fputs("},\n  \"tensors\": [", stdout);
  for (int64_t i = 0; i < self->num_tensors; i++) {
    if (!self->is_chosen[i]) continue;
    fputs(comma, stdout);
    json_tensor(self, i);
    comma = ",";
  }
  fputs("]\n}\n", stdout);
}

/* ---- The command ---- */

static int parse(int argc, char **argv, inspection *self) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--json") == 0) {
      self->as_json = true;
    } else if (strcmp(argv[i], "--metadata") == 0) {
      self->with_metadata = true;
    } else if (strcmp(argv[i], "--tensors") == 0) {
      if (++i == argc) return usage_error("inspect", "--tensors needs a value");
      self->pattern = argv[i];
    } else if (argv[i][0] == '-' && argv[i][1] != 0) {
      return usage_error("inspect", "unknown option `%.200s`", argv[i]);
    } else if (self->path != NULL) {
      return usage_error("inspect", "one file or folder at a time: unexpected argument `%.200s`", argv[i]);
    } else {
      self->path = argv[i];
    }
  }
  return self->path != NULL ? EXIT_OK : usage_error("inspect", "FILE is missing");
}

static int inspect(inspection *self, const disco_shard_plan *plan) {
  if (disco_weights_open(self->path, &self->weights) != DISCO_OK || look(self, plan) != DISCO_OK)
    return report_failure("inspect");
  if (self->as_json)
    print_json(self);
  else
    print_text(self);
  if (self->pattern == NULL || self->num_chosen > 0) return EXIT_OK;
  (void)fflush(stdout);
  fprintf(stderr, "disco inspect: none of the %lld tensors has a name that `%.200s` matches\n",
          (long long)self->num_tensors, self->pattern);
  return EXIT_FAILED;
}

static int run(int argc, char **argv) {
  inspection self = {0};
  disco_shard_plan *plan = NULL;
  int status = parse(argc, argv, &self);
  if (status != EXIT_OK) return status;
  if (self.pattern != NULL) {
    const disco_status parsed = plan_of_argument(self.pattern, &plan);
    if (parsed == DISCO_VALUE)
      return usage_error("inspect", "--tensors takes a pattern of names, like `*.weight`, not `%.200s`", self.pattern);
    if (parsed != DISCO_OK) return report_failure("inspect");
  }
  status = inspect(&self, plan);
  disco_shard_plan_destroy(plan);
  disco_weights_close(self.weights);
  free(self.is_chosen);
  free(self.files);
  free(self.file_of);
  return status;
}

const command inspect_command = {
    "inspect", "what is in a file of weights: tensors, metadata, sizes", run,
    "Usage:\n"
    "  disco inspect FILE|FOLDER [--metadata] [--tensors PATTERN] [--json]\n"
    "\n"
    "Lists what is in a model: its format, how many tensors, parameters and bytes, and of each tensor the name, "
    "shape,\n"
    "encoding, type, and where its bytes lie. Only headers are read, so it takes no time with large files either.\n"
    "Formats, told by content: safetensors and its index, GGUF 2 and 3 (of a model in several files the first,\n"
    "NAME-00001-of-00003.gguf), TVM's tensor-cache.json. Of a folder, what lies in it is opened. A file that breaks\n"
    "its format is refused, and told where.\n"
    "\n"
    "Examples:\n"
    "  disco inspect model.gguf\n"
    "  disco inspect model.gguf --metadata --tensors 'blk.0.*'\n"
    "                                     metadata, and the tensors of the first block\n"
    "  disco inspect models/llama         a folder with safetensors, or with a tensor-cache.json\n"
    "  disco inspect model.gguf --json | python3 -c \"import json, sys; print(json.load(sys.stdin)['metadata'])\"\n"
    "\n"
    "Options:\n"
    "  --metadata         the metadata, too; what is long is cut\n"
    "  --tensors PATTERN  only tensors whose names match: * stands for any characters, ? for one, [...] for one of\n"
    "                     some, as in shard plans (sums are always those of the whole model)\n"
    "  --json             one JSON object, with all metadata in full\n"
    "\n"
    "Columns:\n"
    "  shape     row-major: the last dimension is the one whose elements lie side by side (GGUF files say it the "
    "other\n"
    "            way round)\n"
    "  encoding  as the format spells it: F32, BF16, Q8_0, f32-to-bf16, ...\n"
    "  dtype     of an element that is read, decoded; unusable: it can be listed, but not read\n"
    "  bytes     in the file\n"
    "  offset    of its first byte in the file\n"
    "  file      number of the file in the list above, where there are several\n"
    "\n"
    "Exit status: 0; 1 when the model cannot be opened or no tensor matches; 2 for wrong arguments.\n"};
