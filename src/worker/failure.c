#include "worker/failure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/limits.h"

typedef struct {
  uint64_t sequence;
  uint32_t name, status;
  uint32_t kind_size, message_size, backtrace_size;
  char bytes[DSC_ERROR_SLOT_BYTES - 128]; /* the slot less its own line and this struct's head */
} blob;

_Static_assert(sizeof(blob) + DSC_CACHE_LINE <= DSC_ERROR_SLOT_BYTES, "a failure fits its slot");

/* Append at most `room` bytes of text; a longer one is cut with a mark. Returns how many. */
static uint32_t put(char *to, size_t room, const char *text) {
  size_t size = text != NULL ? strlen(text) : 0;
  if (size <= room) {
    if (size > 0) memcpy(to, text, size);
    return (uint32_t)size;
  }
  char mark[48];
  int mark_size = snprintf(mark, sizeof(mark), "... [cut: %zu bytes in all]", size);
  if (mark_size < 0 || (size_t)mark_size > room) return 0;
  memcpy(to, text, room - (size_t)mark_size);
  memcpy(to + room - (size_t)mark_size, mark, (size_t)mark_size);
  return (uint32_t)room;
}

void dsc_failure_store(dsc_error_slot *slot, size_t slot_bytes, uint64_t sequence, uint32_t name) {
  blob *failure = calloc(1, sizeof(*failure));
  static const blob no_memory = {
      .status = DISCO_MEMORY, .kind_size = 11, .message_size = 9, .bytes = "MemoryErrorno memory"};
  if (failure == NULL) {
    blob head = no_memory;
    head.sequence = sequence;
    head.name = name;
    dsc_error_slot_write(slot, &head, offsetof(blob, bytes) + 20);
    return;
  }
  const dsc_error *error = dsc_thread_error();
  size_t room = slot_bytes - DSC_CACHE_LINE - offsetof(blob, bytes), used = 0;
  if (room > sizeof(failure->bytes)) room = sizeof(failure->bytes);
  failure->sequence = sequence;
  failure->name = name;
  failure->status = error != NULL ? (uint32_t)error->status : (uint32_t)DISCO_RUNTIME;
  failure->kind_size = put(failure->bytes, DSC_KIND_MAX, error != NULL ? error->kind : "RuntimeError");
  used = failure->kind_size;
  /* The message may take all but a quarter of what is left, which is kept for the innermost frames of the backtrace. */
  failure->message_size =
      put(failure->bytes + used, (room - used) / 4 * 3, error != NULL ? error->message : "unknown failure");
  used += failure->message_size;
  failure->backtrace_size = put(failure->bytes + used, room - used, error != NULL ? error->backtrace : NULL);
  used += failure->backtrace_size;
  dsc_error_slot_write(slot, failure, offsetof(blob, bytes) + used);
  free(failure);
}

bool dsc_failure_load(const dsc_error_slot *slot, dsc_error *ret_error, uint32_t *ret_name) {
  blob *failure = calloc(1, sizeof(*failure));
  dsc_error_init(ret_error);
  *ret_name = 0;
  ret_error->status = DISCO_RAISED;
  if (failure == NULL) return true;
  bool whole = dsc_error_slot_read(slot, failure, sizeof(*failure));
  const char *at = failure->bytes;
  const size_t limit = sizeof(failure->bytes);
  if (whole && failure->kind_size < DSC_KIND_MAX && failure->message_size <= limit &&
      failure->backtrace_size <= limit &&
      (size_t)failure->kind_size + failure->message_size + failure->backtrace_size <= limit) {
    ret_error->status = (disco_status)failure->status;
    ret_error->sequence = failure->sequence;
    *ret_name = failure->name;
    memcpy(ret_error->kind, at, failure->kind_size);
    ret_error->message = strndup(at + failure->kind_size, failure->message_size);
    ret_error->backtrace = strndup(at + failure->kind_size + failure->message_size, failure->backtrace_size);
  }
  free(failure);
  return whole;
}
