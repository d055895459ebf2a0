/* Bytes of a stranger as a manifest. What can be read can be written and read again, and compared with memory. */
#include "fuzz_model.h"

#include "weights/manifest.h"

static char first_path[128], second_path[128];

/* One tensor "a" of a byte. */
static disco_weights *the_model(void) {
  static const dsc_encoding one_byte = {"U8", {kDLUInt, 8, 1}, 1, 1, NULL};
  static const disco_weights_tensor view = {.name = "a", .bytes = 1};
  static disco_weights *model;
  int32_t file;
  if (model != NULL) return model;
  FUZZ_CHECK(dsc_model_create("fuzz", &model) == DISCO_OK);
  FUZZ_CHECK(dsc_model_add_file(model, "/model", 1, &file) == DISCO_OK);
  FUZZ_CHECK(dsc_model_add_tensor(model, file, &one_byte, &view) == DISCO_OK);
  return model;
}

static size_t read_file(const char *path, char *to, size_t room) {
  FILE *file = fopen(path, "rb");
  FUZZ_CHECK(file != NULL);
  const size_t size = fread(to, 1, room, file);
  FUZZ_CHECK(fclose(file) == 0 && size < room);
  return size;
}

static void check_both_files(void) {
  static char first[1 << 20], second[1 << 20];
  const size_t size = read_file(first_path, first, sizeof(first));
  FUZZ_CHECK(read_file(second_path, second, sizeof(second)) == size);
  FUZZ_CHECK(memcmp(first, second, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (first_path[0] == '\0') {
    fuzz_make_folder();
    (void)snprintf(first_path, sizeof(first_path), "%s/a", fuzz_folder);
    (void)snprintf(second_path, sizeof(second_path), "%s/b", fuzz_folder);
  }
  disco_manifest *manifest = NULL, *again = NULL;
  char *json = malloc(size > 0 ? size : 1); /* not a byte more */
  dsc_source source;
  FUZZ_CHECK(json != NULL);
  if (size > 0) memcpy(json, data, size);
  dsc_source_of_memory("fuzz.json", json, size, &source);
  const disco_status status = dsc_manifest_read(&source, &manifest);
  free(json);
  FUZZ_CHECK((status == DISCO_OK) == (manifest != NULL));
  if (manifest == NULL) {
    FUZZ_CHECK(status == DISCO_VALUE);
    fuzz_check_refusal(status, source.path);
    return 0;
  }
  const disco_shard shard = {.axis = -1, .bytes = 1, .file_bytes = 1};
  for (int32_t worker = -1; worker < 2; worker++) {
    const disco_status checked = dsc_manifest_check(manifest, the_model(), &shard, 2, worker, "x");
    FUZZ_CHECK(checked == DISCO_VALUE || (checked == DISCO_OK && worker >= 0));
  }
  FUZZ_CHECK(dsc_manifest_write(manifest, first_path) == DISCO_OK);
  FUZZ_CHECK(dsc_manifest_open(first_path, &again) == DISCO_OK);
  FUZZ_CHECK(dsc_manifest_write(again, second_path) == DISCO_OK);
  check_both_files();
  dsc_manifest_destroy(manifest);
  dsc_manifest_destroy(again);
  return 0;
}
