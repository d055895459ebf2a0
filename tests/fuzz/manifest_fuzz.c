/* Bytes of a stranger as a manifest. What can be read can be written and read again. */
#include "fuzz.h"

#include <string.h>

#include "weights/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  disco_manifest *manifest = NULL, *again = NULL;
  char *json = malloc(size), *text = NULL, *second = NULL; /* not a byte more */
  uint64_t hash = 0;
  FUZZ_CHECK(json != NULL || size == 0);
  if (size > 0) memcpy(json, data, size);
  const disco_status status = dsc_manifest_parse("fuzz.json", json, size, &manifest);
  free(json);
  FUZZ_CHECK(status == DISCO_OK || status == DISCO_VALUE);
  FUZZ_CHECK((status == DISCO_OK) == (manifest != NULL));
  if (manifest == NULL) {
    fuzz_touch(disco_last_error_text(), strlen(disco_last_error_text()));
    return 0;
  }
  FUZZ_CHECK(dsc_manifest_find(manifest, "a", -1, &hash) == DISCO_VALUE);
  (void)dsc_manifest_find(manifest, "a", 0, &hash);
  FUZZ_CHECK(dsc_manifest_print(manifest, &text) == DISCO_OK);
  FUZZ_CHECK(dsc_manifest_parse("again.json", text, strlen(text), &again) == DISCO_OK);
  FUZZ_CHECK(dsc_manifest_print(again, &second) == DISCO_OK);
  FUZZ_CHECK(strcmp(text, second) == 0);
  free(text);
  free(second);
  dsc_manifest_destroy(manifest);
  dsc_manifest_destroy(again);
  return 0;
}
