/* What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput; a promise that does not hold ends
 * the program. */
#ifndef DSC_TESTS_FUZZ_H
#define DSC_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(promise)                                                                   \
  do {                                                                                        \
    if (!(promise)) {                                                                         \
      (void)fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #promise); \
      abort();                                                                                \
    }                                                                                         \
  } while (0)

/* Read every byte, so that the address sanitizer sees whether they are all there. */
static inline void fuzz_touch(const void *bytes, uint64_t size) {
  static volatile uint8_t sink;
  uint8_t all = 0;
  for (uint64_t i = 0; i < size; i++) all = (uint8_t)(all ^ ((const uint8_t *)bytes)[i]);
  sink = all;
  (void)sink;
}

#endif
