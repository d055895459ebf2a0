/* Bytes of a stranger as tensor-cache.json. Beside it lie "a" of 16 bytes, "b" of 8 and "c" of none. */
#include "fuzz_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static char path[128];
  if (path[0] == '\0') {
    fuzz_make_folder();
    fuzz_write_beside("a", "0123456789abcdef", 16);
    fuzz_write_beside("b", "01234567", 8);
    fuzz_write_beside("c", "", 0);
    (void)snprintf(path, sizeof(path), "%s/tensor-cache.json", fuzz_folder);
  }
  uint8_t *bytes = malloc(size > 0 ? size : 1); /* and not a byte more */
  disco_weights *model = NULL;
  dsc_source source;
  FUZZ_CHECK(bytes != NULL);
  if (size > 0) memcpy(bytes, data, size);
  dsc_source_of_memory(path, bytes, size, &source);
  disco_status status = dsc_model_read(&source, &model);
  if (status == DISCO_OK) {
    fuzz_check_model(model, size + 64);
  } else {
    fuzz_check_refusal(status, fuzz_folder);
  }
  dsc_model_destroy(model);
  free(bytes);
  return 0;
}
