#include "base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/inject.h"

static _Thread_local dsc_error *thread_error; /* created at the thread's first failure, freed with the thread */
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;

const char *disco_status_kind(disco_status status) {
  switch (status) {
#define KIND_CASE(name, value, kind, meaning) \
  case DISCO_##name: return kind;
    DISCO_STATUS_LIST(KIND_CASE)
#undef KIND_CASE
  }
  return "";
}

disco_status dsc_status_of_kind(const char *name) {
#define KIND_TEST(status, value, kind, meaning) \
  if (value != DISCO_OK && strcmp(name, kind) == 0) return DISCO_##status;
  DISCO_STATUS_LIST(KIND_TEST)
#undef KIND_TEST
  return DISCO_RAISED;
}

void dsc_error_init(dsc_error *error) {
  memset(error, 0, sizeof(*error));
  error->worker = error->group = error->signal_number = error->exit_status = -1;
  error->pid = -1;
}

void dsc_error_fini(dsc_error *error) {
  if (error == NULL) return;
  free(error->message);
  free(error->backtrace);
  free(error->function);
  free(error->host);
  free(error->text);
  dsc_error_init(error);
}

static char *copy_text(const char *text) { return text != NULL ? strdup(text) : NULL; }

void dsc_error_copy(const dsc_error *error, dsc_error *ret_copy) {
  *ret_copy = *error;
  ret_copy->message = copy_text(error->message);
  ret_copy->backtrace = copy_text(error->backtrace);
  ret_copy->function = copy_text(error->function);
  ret_copy->host = copy_text(error->host);
  ret_copy->text = copy_text(error->text);
}

static const char *or_empty(const char *text) { return text != NULL ? text : ""; }

void dsc_error_view(const dsc_error *error, disco_error_info *ret_info) {
  disco_error_info full = {
      .struct_size = ret_info->struct_size,
      .status = error->status,
      .worker = error->worker,
      .group = error->group,
      .signal_number = error->signal_number,
      .exit_status = error->exit_status,
      .pid = error->pid,
      .sequence = error->sequence,
      .kind = error->kind,
      .message = or_empty(error->message),
      .backtrace = or_empty(error->backtrace),
      .function = or_empty(error->function),
      .host = or_empty(error->host),
      .text = error->text != NULL ? error->text : or_empty(error->message),
  };
  size_t size = ret_info->struct_size;
  memcpy(ret_info, &full, size < sizeof(full) ? size : sizeof(full));
}

/* What a thread says that failed and had no memory for its record. */
static const dsc_error no_memory = {.status = DISCO_MEMORY,
                                    .worker = -1,
                                    .group = -1,
                                    .signal_number = -1,
                                    .exit_status = -1,
                                    .pid = -1,
                                    .kind = "MemoryError",
                                    .message = (char *)(uintptr_t) "no memory for the message"};
static _Thread_local bool failed_without_memory;

static void free_thread_error(void *memory) {
  dsc_error_fini(memory);
  free(memory);
  thread_error = NULL;
}

static void make_key(void) { (void)pthread_key_create(&key, free_thread_error); }

/* This thread's record, made when missing; NULL only without memory. */
static dsc_error *obtain(void) {
  if (thread_error == NULL) {
    pthread_once(&key_once, make_key);
    thread_error = DSC_ALLOCATION_FAILS() ? NULL : calloc(1, sizeof(*thread_error));
    failed_without_memory = thread_error == NULL;
    if (thread_error == NULL) return NULL;
    dsc_error_init(thread_error);
    (void)pthread_setspecific(key, thread_error);
  }
  return thread_error;
}

void dsc_thread_error_lend(dsc_error *record) {
  if (thread_error != NULL) return;
  dsc_error_init(record);
  thread_error = record;
}

void dsc_thread_error_take_back(dsc_error *record) {
  if (thread_error != record) return;
  dsc_error_fini(record);
  thread_error = NULL;
}

disco_status dsc_failv(disco_status status, const char *kind, const char *format, va_list args) {
  dsc_error *error = obtain();
  if (error == NULL) return status;
  char *message = NULL;
  if (vasprintf(&message, format, args) < 0)
    message = NULL; /* formatted first: the arguments may point into the old record */
  dsc_error_fini(error);
  error->status = status;
  error->message = message;
  (void)snprintf(error->kind, sizeof(error->kind), "%s", kind);
  return status;
}

disco_status dsc_fail(disco_status status, const char *format, ...) {
  va_list args;
  va_start(args, format);
  (void)dsc_failv(status, disco_status_kind(status), format, args);
  va_end(args);
  return status;
}

disco_status dsc_fail_with(dsc_error *error) {
  disco_status status = error->status;
  dsc_error *mine = obtain();
  if (mine == NULL) {
    dsc_error_fini(error);
    return status;
  }
  dsc_error_fini(mine);
  *mine = *error;
  dsc_error_init(error);
  return status;
}

const dsc_error *dsc_thread_error(void) {
  if (thread_error == NULL && failed_without_memory) return &no_memory;
  return thread_error != NULL && thread_error->status != DISCO_OK ? thread_error : NULL;
}

disco_status disco_last_error(disco_error_info *ret_error) {
  const dsc_error *error = dsc_thread_error();
  if (error == NULL || ret_error == NULL || ret_error->struct_size == 0) return DISCO_VALUE;
  dsc_error_view(error, ret_error);
  return DISCO_OK;
}

const char *disco_last_error_text(void) {
  const dsc_error *error = dsc_thread_error();
  if (error == NULL) return "";
  return error->text != NULL ? error->text : or_empty(error->message);
}
