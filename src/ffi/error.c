#include "ffi/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/extra/c_env_api.h>

#include "ffi/value.h"

TVMFFIObject *dsc_error_raised(void) {
  TVMFFIObjectHandle error = NULL;
  TVMFFIErrorMoveFromRaised(&error);
  return error;
}

void dsc_error_drop_raised(void) {
  TVMFFIObject *error = dsc_error_raised();
  if (error != NULL) dsc_object_unref(error);
}

void dsc_error_parts_of(const TVMFFIObject *error, dsc_error_parts *ret_parts) {
  const TVMFFIErrorCell *cell = (const TVMFFIErrorCell *)(error + 1);
  *ret_parts = (dsc_error_parts){cell->kind, cell->message, cell->backtrace};
}

static char *copy_bytes(const TVMFFIByteArray *bytes) {
  return strndup(bytes->data != NULL ? bytes->data : "", bytes->size);
}

disco_status dsc_error_take_object(disco_status status, TVMFFIObject *object) {
  if (object == NULL) return dsc_fail(status, "a function failed without saying why");
  dsc_error_parts parts;
  dsc_error_parts_of(object, &parts);
  dsc_error error;
  dsc_error_init(&error);
  error.status = status;
  (void)snprintf(error.kind, sizeof(error.kind), "%.*s", (int)parts.kind.size, parts.kind.data);
  error.message = copy_bytes(&parts.message);
  error.backtrace = copy_bytes(&parts.backtrace);
  dsc_object_unref(object);
  return dsc_fail_with(&error);
}

disco_status dsc_error_take_raised(disco_status status) { return dsc_error_take_object(status, dsc_error_raised()); }

int dsc_error_raise(const char *kind, const char *message, size_t message_size, const char *backtrace) {
  TVMFFIByteArray kind_bytes = {kind, strlen(kind)}, message_bytes = {message, message_size};
  TVMFFIByteArray backtrace_bytes = {backtrace, strlen(backtrace)};
  TVMFFIObjectHandle error = NULL;
  if (TVMFFIErrorCreate(&kind_bytes, &message_bytes, &backtrace_bytes, &error) == 0) {
    TVMFFIErrorSetRaised(error); /* takes its own reference */
    dsc_object_unref(error);
  }
  return -1;
}

/* Kinds that Python has a class for, and so prints itself. */
static bool is_class_of_python(const char *kind) {
  static const char *const classes[] = {"RuntimeError", "ValueError", "TypeError",      "AttributeError",
                                        "KeyError",     "IndexError", "AssertionError", "MemoryError"};
  for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
    if (strcmp(kind, classes[i]) == 0) return true;
  return false;
}

/* A text begins "Kind: "; with a class that prints its name it would be there twice. */
static const char *without_kind(const char *text, const char *kind) {
  size_t size = strlen(kind);
  bool repeats = is_class_of_python(kind) && strncmp(text, kind, size) == 0 && strncmp(text + size, ": ", 2) == 0;
  return repeats ? text + size + 2 : text;
}

int dsc_error_raise_status(disco_status status) {
  const dsc_error *error = dsc_thread_error();
  /* The pending Python error is the message: only then may this kind be raised. */
  if (status == DISCO_INTERRUPTED) return dsc_error_raise("EnvErrorAlreadySet", "", 0, "");
  if (error == NULL || error->status != status)
    return dsc_error_raise(disco_status_kind(status), "no memory for the message", 25, "");
  const char *text = error->text != NULL ? error->text : error->message != NULL ? error->message : "";
  text = without_kind(text, error->kind);
  return dsc_error_raise(error->kind, text, strlen(text), error->backtrace != NULL ? error->backtrace : "");
}

int dsc_error_raisev(const char *kind, const char *format, va_list args) {
  char small[512], *large = NULL;
  const char *message = small;
  va_list again;
  va_copy(again, args);
  int size = vsnprintf(small, sizeof(small), format, args);
  if (size >= (int)sizeof(small)) {
    if (vasprintf(&large, format, again) >= 0)
      message = large;
    else
      size = (int)sizeof(small) - 1;
  }
  va_end(again);
  int rc = dsc_error_raise(kind, message, size > 0 ? (size_t)size : 0, "");
  free(large);
  return rc;
}

disco_status dsc_error_check_signals(void) {
  if (TVMFFIEnvCheckSignals() == 0) return DISCO_OK;
  return dsc_fail(DISCO_INTERRUPTED, "interrupted by a signal; what was posted goes on");
}
