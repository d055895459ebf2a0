#include "common/failure.h"

#include <stdarg.h>
#include <stdio.h>

bool refuse(disco_status status, const char *format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  (void)vsnprintf(text, sizeof(text), format, args);
  va_end(args);
  (void)disco_fail(status, "%s", text);
  return false;
}
