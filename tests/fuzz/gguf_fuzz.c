/* Bytes of a stranger as a GGUF file: refused with a sentence, or a model whose every number holds. Beside it lies the
 * second of two files, in case that it is the first. */
#include "fuzz_model.h"

#include <stdbool.h>

static char first_path[128];
static const char second_name[] = "m-00002-of-00002.gguf";

/* ---- The second file: one tensor, "second", of 4 bytes ---- */

typedef struct {
  uint8_t bytes[512];
  size_t size;
} small_file;

static void number(small_file *self, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) self->bytes[self->size++] = (uint8_t)(value >> 8 * i);
}

static void string(small_file *self, const char *text) {
  const size_t length = strlen(text);
  number(self, length, 8);
  memcpy(self->bytes + self->size, text, length);
  self->size += length;
}

static void entry(small_file *self, const char *name, uint32_t type, uint64_t value, int bytes) {
  string(self, name);
  number(self, type, 4);
  number(self, value, bytes);
}

static void write_second(void) {
  enum { U16 = 2, I32 = 5, I8_TENSOR = 24 };
  small_file file = {.bytes = "GGUF", .size = 4};
  number(&file, 3, 4);
  number(&file, 1, 8);
  number(&file, 4, 8);
  entry(&file, "split.no", U16, 1, 2);
  entry(&file, "split.count", U16, 2, 2);
  entry(&file, "split.tensors.count", I32, 2, 4);
  entry(&file, "x", I32, 7, 4);
  string(&file, "second");
  number(&file, 1, 4);
  number(&file, 4, 8);
  number(&file, I8_TENSOR, 4);
  number(&file, 0, 8);
  while (file.size % 32 != 0) number(&file, 0, 1);
  number(&file, 0x04030201, 4);
  fuzz_write_beside(second_name, file.bytes, file.size);
}

/* ---- Promises ---- */

static void look_at_tensor(const dsc_weight *weight, const uint8_t *bytes, size_t size) {
  const disco_weights_tensor *view = &weight->view;
  uint64_t stored = 0;
  FUZZ_CHECK(view->name[0] != '\0' && strlen(view->name) <= DSC_WEIGHTS_MAX_NAME);
  FUZZ_CHECK(view->ndim >= 0 && view->ndim <= 4);
  FUZZ_CHECK(view->bytes <= size && view->offset <= size - view->bytes);
  FUZZ_CHECK(view->block_elements > 0 && view->block_bytes > 0);
  int64_t elements = 1;
  for (int32_t i = 0; i < view->ndim; i++) {
    FUZZ_CHECK(view->shape[i] >= 0);
    if (view->shape[i] == 0) elements = 0;
  }
  for (int32_t i = 0; i < view->ndim; i++) FUZZ_CHECK(!__builtin_mul_overflow(elements, view->shape[i], &elements));
  FUZZ_CHECK(elements % view->block_elements == 0);
  stored = (uint64_t)(elements / view->block_elements) * (uint64_t)view->block_bytes;
  FUZZ_CHECK(stored == view->bytes);
  fuzz_touch(bytes + view->offset, view->bytes);
  if (weight->encoding->decode == NULL || elements == 0) return;
  float *decoded = malloc((size_t)elements * sizeof(*decoded));
  FUZZ_CHECK(decoded != NULL);
  weight->encoding->decode(bytes + view->offset, elements, decoded);
  fuzz_touch(decoded, (uint64_t)elements * sizeof(*decoded));
  free(decoded);
}

static void look_at_model(const disco_weights *model, const uint8_t *bytes, size_t size) {
  const char *key, *json;
  for (int64_t i = 0; dsc_model_metadata_at(model, i, &key, &json); i++) {
    const size_t length = strlen(json);
    FUZZ_CHECK(length > 0 && length <= 8 * size + 16);
    FUZZ_CHECK((json[0] == '[') == (json[length - 1] == ']') && (json[0] == '"') == (json[length - 1] == '"'));
    FUZZ_CHECK(dsc_model_metadata(model, key) == json); /* no name twice */
  }
  uint64_t all = 0;
  for (int64_t i = 0; i < dsc_model_count(model); i++) {
    const dsc_weight *weight = dsc_model_weight(model, i);
    FUZZ_CHECK(dsc_model_find(model, weight->view.name) == i);
    if (weight->file > 0) { /* of the second */
      FUZZ_CHECK(weight->view.bytes == 4 && strcmp(weight->view.name, "second") == 0);
      continue;
    }
    look_at_tensor(weight, bytes, size);
    all += weight->view.bytes;
  }
  FUZZ_CHECK(all <= size); /* none overlap */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (first_path[0] == '\0') {
    fuzz_make_folder();
    write_second();
    (void)snprintf(first_path, sizeof(first_path), "%s/m-00001-of-00002.gguf", fuzz_folder);
  }
  uint8_t *bytes = malloc(size > 0 ? size : 1); /* and not a byte more */
  disco_weights *model = NULL;
  dsc_source source;
  int32_t file = -1;
  FUZZ_CHECK(bytes != NULL);
  if (size > 0) memcpy(bytes, data, size);
  dsc_source_of_memory(first_path, bytes, size, &source);
  FUZZ_CHECK(dsc_model_create("gguf", &model) == DISCO_OK);
  FUZZ_CHECK(dsc_model_add_file(model, source.path, size, &file) == DISCO_OK);
  disco_status status = dsc_gguf_read(&source, file, model);
  if (status == DISCO_OK) status = dsc_model_seal(model, false);
  if (status == DISCO_OK) {
    look_at_model(model, bytes, size);
  } else {
    FUZZ_CHECK(status == DISCO_VALUE);
    fuzz_check_refusal(status, fuzz_folder);
  }
  dsc_model_destroy(model);
  free(bytes);
  return 0;
}
