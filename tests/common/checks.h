/* What suites have in common whatever they test: counts that the environment divides, statuses and errors that must be
 * so. Checks may fail on the test's own thread only. After cmocka.h. */
#ifndef DSC_TESTS_COMMON_CHECKS_H
#define DSC_TESTS_COMMON_CHECKS_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "disco/disco.h"

/* DISCO_TEST_SCALE: by how much counts are divided; at least 1. */
static inline int test_scale(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  const int n = text != NULL ? atoi(text) : 1;
  return n > 0 ? n : 1;
}

static inline int scaled(int n, int least) { return n / test_scale() < least ? least : n / test_scale(); }

static inline void sleep_us(int64_t us) {
  struct timespec time = {us / 1000000, (long)(us % 1000000) * 1000};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) continue;
}

static inline void sleep_ms(int ms) { sleep_us((int64_t)ms * 1000); }

static inline void check_status(disco_status got, disco_status wanted, const char *expression, const char *file,
                                int line) {
  if (got == wanted) return;
  print_error("%s\n  gave status %d (%s), not %d (%s)\n  last error: %s\n", expression, got, disco_status_kind(got),
              wanted, disco_status_kind(wanted), disco_last_error_text());
  _fail(file, line);
}
#define expect_ok(call) check_status((call), DISCO_OK, #call, __FILE__, __LINE__)
#define expect_status(status, call) check_status((call), (status), #call, __FILE__, __LINE__)

/* It fails with an error of this kind, as a Python user would see it. */
static inline void check_kind(disco_status got, const char *kind, const char *expression, const char *file, int line) {
  disco_error_info error = {.struct_size = sizeof(error), .kind = "none"};
  if (got != DISCO_OK && disco_last_error(&error) == DISCO_OK && strcmp(error.kind, kind) == 0) return;
  print_error("%s\n  gave status %d and a %s, not a %s\n  last error: %s\n", expression, got, error.kind, kind,
              got == DISCO_OK ? "" : disco_last_error_text());
  _fail(file, line);
}
#define expect_kind(kind, call) check_kind((call), (kind), #call, __FILE__, __LINE__)

/* This thread's last error contains the text. */
static inline void check_says(const char *part, const char *file, int line) {
  if (strstr(disco_last_error_text(), part) != NULL) return;
  print_error("the last error does not say \"%s\":\n  %s\n", part, disco_last_error_text());
  _fail(file, line);
}
#define expect_says(part) check_says((part), __FILE__, __LINE__)

#endif
