/* Bytes of a stranger as a worker's failure. What can be read can be written and read again. */
#include "fuzz.h"

#include <string.h>

#include "worker/failure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *bytes = malloc(size); /* aligned, and not a byte more */
  dsc_error error, again, raised;
  uint32_t name = 99, second_name = 99;
  FUZZ_CHECK(bytes != NULL || size == 0);
  if (size > 0) memcpy(bytes, data, size);
  bool good = dsc_failure_parse(bytes, size, &error, &name);
  free(bytes);
  if (!good) {
    FUZZ_CHECK(name == 0 && error.message == NULL && error.kind[0] == 0);
    dsc_error_fini(&error);
    return 0;
  }
  FUZZ_CHECK(error.message != NULL && error.backtrace != NULL && error.status != DISCO_OK);
  FUZZ_CHECK(strlen(error.kind) < DSC_KIND_MAX && strlen(error.message) + strlen(error.backtrace) <= size);
  dsc_error_copy(&error, &raised);
  FUZZ_CHECK(dsc_fail_with(&raised) == error.status);
  size_t room = 4 * size + 1024; /* nothing has to be cut */
  char *encoded = malloc(room);
  FUZZ_CHECK(encoded != NULL);
  size_t used = dsc_failure_encode(error.sequence, name, false, encoded, room);
  FUZZ_CHECK(used > 0 && used % 8 == 0 && used <= room);
  FUZZ_CHECK(dsc_failure_parse(encoded, used, &again, &second_name));
  FUZZ_CHECK(again.status == error.status && again.sequence == error.sequence && second_name == name);
  FUZZ_CHECK(strcmp(again.kind, error.kind) == 0 && strcmp(again.message, error.message) == 0 &&
             strcmp(again.backtrace, error.backtrace) == 0);
  dsc_error_fini(&again);
  if (size >= DSC_FAILURE_LEAST_BYTES) { /* and where much has to be cut */
    used = dsc_failure_encode(error.sequence, name, false, encoded, DSC_FAILURE_LEAST_BYTES);
    FUZZ_CHECK(used > 0 && used <= DSC_FAILURE_LEAST_BYTES);
    FUZZ_CHECK(dsc_failure_parse(encoded, used, &again, &second_name));
    dsc_error_fini(&again);
  }
  free(encoded);
  dsc_error_fini(&error);
  return 0;
}
