/* make-weights --format FORMAT [OPTION]... --tensor NAME:ENCODING:SHAPE ... OUT: random weights as a file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/writer.h"

enum { MAX_TENSORS = 100000 };

static const char usage[] =
    "Usage: make-weights --format gguf|safetensors|safetensors-index|tensor-cache [OPTION]...\n"
    "                    --tensor NAME:ENCODING:SHAPE ... OUT\n"
    "\n"
    "  --format FORMAT      OUT is a file for gguf and safetensors, else a folder\n"
    "  --tensor N:E:S       like blk.0.attn_q.weight:Q8_0:64x128, or a scalar: scale:F32:\n"
    "                       %d in the name and *COUNT behind the shape make COUNT of them: blk.%d.w:F32:4x4*12\n"
    "  --seed S             default 0\n"
    "  --metadata           with metadata of every type\n"
    "  --files N            of an index or a cache; default 2\n"
    "  --gguf-version N     2 or 3; default 3\n"
    "  --alignment N        of GGUF; default 32\n";

typedef struct {
  writer_model model;
  writer_tensor *tensors;
  int format; /* -1: not given yet */
  const char *out;
} arguments;

static int complain(const char *what, const char *text) {
  fprintf(stderr, "make-weights: %s: %s\n%s", what, text, usage);
  return 2;
}

static bool parse_number(const char **text, int64_t *ret) {
  char *end = NULL;
  errno = 0;
  const long long value = strtoll(*text, &end, 10);
  if (end == *text || errno != 0 || value < 0) return false;
  *text = end;
  *ret = value;
  return true;
}

static int parse_format(const char *text) {
  static const char *const names[] = {"gguf", "safetensors", "safetensors-index", "tensor-cache"};
  for (int i = 0; i < 4; i++)
    if (strcmp(names[i], text) == 0) return i;
  return -1;
}

/* "4x8" or "4x8*12". */
static bool parse_shape(const char *text, writer_tensor *tensor, int64_t *ret_count) {
  *ret_count = 1;
  while (*text != 0 && *text != '*') {
    if (tensor->ndim == WRITER_MAX_NDIM || !parse_number(&text, &tensor->shape[tensor->ndim])) return false;
    tensor->ndim++;
    if (*text == 'x') text++;
  }
  if (*text == '*') {
    text++;
    if (!parse_number(&text, ret_count)) return false;
  }
  return *text == 0;
}

/* The name with the number in the place of its %d. */
static char *name_of(const char *pattern, int64_t number) {
  char *name = calloc(1, strlen(pattern) + 24);
  const char *at = strstr(pattern, "%d");
  if (name == NULL) abort();
  if (at == NULL)
    strcpy(name, pattern);
  else
    sprintf(name, "%.*s%lld%s", (int)(at - pattern), pattern, (long long)number, at + 2);
  return name;
}

/* From the right: names may have colons. */
static bool parse_tensor(char *text, arguments *self) {
  writer_tensor tensor = {0};
  int64_t count = 0;
  char *shape = strrchr(text, ':');
  if (shape == NULL) return false;
  *shape++ = 0;
  char *encoding = strrchr(text, ':');
  if (encoding == NULL) return false;
  *encoding++ = 0;
  tensor.encoding = encoding;
  if (!parse_shape(shape, &tensor, &count) || count > MAX_TENSORS - self->model.num_tensors) return false;
  for (int64_t i = 0; i < count; i++) {
    tensor.name = name_of(text, i);
    self->tensors[self->model.num_tensors++] = tensor;
  }
  return true;
}

static bool take(const char *option, char *value, arguments *self) {
  int64_t number = 0;
  const char *digits = value;
  if (strcmp(option, "--tensor") == 0) return parse_tensor(value, self);
  if (strcmp(option, "--format") == 0) return (self->format = parse_format(value)) >= 0;
  if (!parse_number(&digits, &number) || *digits != 0) return false;
  if (strcmp(option, "--seed") == 0)
    self->model.seed = (uint64_t)number;
  else if (strcmp(option, "--files") == 0)
    self->model.num_files = (int32_t)number;
  else if (strcmp(option, "--gguf-version") == 0)
    self->model.gguf_version = (uint32_t)number;
  else if (strcmp(option, "--alignment") == 0)
    self->model.alignment = (uint32_t)number;
  else
    return false;
  return true;
}

static int parse(int argc, char **argv, arguments *self) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0) return complain("usage", "");
    if (strcmp(argv[i], "--metadata") == 0) {
      self->model.has_metadata = true;
    } else if (argv[i][0] != '-') {
      if (self->out != NULL) return complain("one OUT only", argv[i]);
      self->out = argv[i];
    } else {
      if (i + 1 == argc) return complain("needs a value", argv[i]);
      if (!take(argv[i], argv[i + 1], self)) return complain(argv[i], argv[i + 1]);
      i++;
    }
  }
  if (self->format < 0) return complain("missing", "--format");
  if (self->out == NULL) return complain("missing", "OUT");
  return 0;
}

int main(int argc, char **argv) {
  arguments self = {.format = -1, .tensors = calloc(MAX_TENSORS, sizeof(writer_tensor))};
  if (self.tensors == NULL) abort();
  int status = parse(argc, argv, &self);
  if (status == 0) {
    self.model.tensors = self.tensors;
    const char *wrong = writer_write(&self.model, (writer_format)self.format, self.out);
    if (wrong != NULL) {
      fprintf(stderr, "make-weights: %s\n", wrong);
      status = 1;
    }
  }
  for (int32_t i = 0; i < self.model.num_tensors; i++) free((char *)self.tensors[i].name);
  free(self.tensors);
  return status;
}
