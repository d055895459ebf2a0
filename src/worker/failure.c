#include "worker/failure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/limits.h"

/* The texts stand behind it, one behind the other, then zeros to a multiple of 8. */
typedef struct {
  uint64_t sequence;
  uint32_t name, status;
  uint32_t kind_size, message_size, backtrace_size, is_echo;
} failure_head;

_Static_assert(sizeof(failure_head) == 32, "a failure's head is packed by its order");

enum { SLOT_ROOM = DSC_ERROR_SLOT_BYTES - DSC_CACHE_LINE }; /* the slot less its own line */

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

size_t dsc_failure_encode(uint64_t sequence, uint32_t name, bool is_echo, void *bytes, size_t room) {
  if (room < DSC_FAILURE_LEAST_BYTES) return 0;
  const dsc_error *error = dsc_thread_error();
  failure_head head = {.sequence = sequence, .name = name, .is_echo = is_echo};
  char *texts = (char *)bytes + sizeof(head);
  room = room / 8 * 8 - sizeof(head);
  head.status = error != NULL ? (uint32_t)error->status : (uint32_t)DISCO_RUNTIME;
  head.kind_size = put(texts, DSC_KIND_MAX, error != NULL ? error->kind : "RuntimeError");
  size_t used = head.kind_size;
  /* The message may take all but a quarter of what is left, which is kept for the innermost frames of the backtrace. */
  head.message_size = put(texts + used, (room - used) / 4 * 3, error != NULL ? error->message : "unknown failure");
  used += head.message_size;
  head.backtrace_size = put(texts + used, room - used, error != NULL ? error->backtrace : NULL);
  used += head.backtrace_size;
  for (; used % 8 != 0; used++) texts[used] = 0;
  memcpy(bytes, &head, sizeof(head));
  return sizeof(head) + used;
}

static bool is_failure_status(uint32_t status) {
  switch (status) {
#define STATUS(name, value, kind, meaning) \
  case value: return value != 0;
    DISCO_STATUS_LIST(STATUS)
#undef STATUS
  default: return false;
  }
}

/* Never reads past `size`, also in the eyes of a strict checker of strings. NULL without memory. */
static char *copy_text(const char *bytes, size_t size) {
  char *text = malloc(size + 1);
  if (text == NULL) return NULL;
  memcpy(text, bytes, size);
  text[size] = 0;
  return text;
}

bool dsc_failure_parse(const void *bytes, size_t size, dsc_error *ret_error, uint32_t *ret_name) {
  failure_head head;
  dsc_error_init(ret_error);
  *ret_name = 0;
  if (size < sizeof(head)) return false;
  memcpy(&head, bytes, sizeof(head));
  const char *kind = (const char *)bytes + sizeof(head);
  uint64_t texts = (uint64_t)head.kind_size + head.message_size + head.backtrace_size;
  if (head.kind_size >= DSC_KIND_MAX || texts > size - sizeof(head) || !is_failure_status(head.status)) return false;
  ret_error->status = (disco_status)head.status;
  ret_error->sequence = head.sequence;
  ret_error->is_echo = head.is_echo != 0;
  *ret_name = head.name;
  memcpy(ret_error->kind, kind, head.kind_size);
  ret_error->kind[head.kind_size] = 0;
  ret_error->message = copy_text(kind + head.kind_size, head.message_size);
  ret_error->backtrace = copy_text(kind + head.kind_size + head.message_size, head.backtrace_size);
  return true;
}

void dsc_failure_store(dsc_error_slot *slot, size_t slot_bytes, uint64_t sequence, uint32_t name, bool is_echo) {
  static const struct {
    failure_head head;
    char texts[24];
  } no_memory = {{.status = DISCO_MEMORY, .kind_size = 11, .message_size = 9}, "MemoryErrorno memory"};
  size_t room = slot_bytes - DSC_CACHE_LINE;
  if (room > SLOT_ROOM) room = SLOT_ROOM;
  char *bytes = malloc(room);
  if (bytes == NULL) {
    char spare[sizeof(no_memory)];
    failure_head head = no_memory.head;
    head.sequence = sequence;
    head.name = name;
    head.is_echo = is_echo;
    memcpy(spare, &no_memory, sizeof(spare));
    memcpy(spare, &head, sizeof(head));
    dsc_error_slot_write(slot, spare, sizeof(spare));
    return;
  }
  dsc_error_slot_write(slot, bytes, dsc_failure_encode(sequence, name, is_echo, bytes, room));
  free(bytes);
}

bool dsc_failure_load(const dsc_error_slot *slot, dsc_error *ret_error, uint32_t *ret_name) {
  char *bytes = malloc(SLOT_ROOM);
  dsc_error_init(ret_error);
  *ret_name = 0;
  ret_error->status = DISCO_RAISED;
  if (bytes == NULL) return true;
  bool whole = dsc_error_slot_read(slot, bytes, SLOT_ROOM);
  if (whole && !dsc_failure_parse(bytes, SLOT_ROOM, ret_error, ret_name)) ret_error->status = DISCO_RAISED;
  free(bytes);
  return whole;
}
