#include "wire/frame.h"

#include <string.h>

#include "wire/limits.h"
#include "wire/pack.h"

_Static_assert(sizeof(dsc_hello) % 8 == 0 && sizeof(dsc_answer) % 8 == 0 && sizeof(dsc_command_frame) % 8 == 0 &&
                   sizeof(dsc_done_frame) % 8 == 0 && sizeof(dsc_reply_frame) % 8 == 0 &&
                   sizeof(dsc_progress_frame) % 8 == 0,
               "bodies are multiples of 8 bytes");

const char *dsc_frame_name(uint32_t kind) {
  switch (kind) {
#define NAME(name, number, direction, meaning) \
  case number: return #name;
    DSC_FRAME_LIST(NAME)
#undef NAME
  default: return NULL;
  }
}

void dsc_frame_begin(dsc_frame *frame, dsc_frame_kind kind, uint64_t size, uint64_t session, int32_t worker,
                     uint64_t sequence) {
  *frame = (dsc_frame){.size = size,
                       .magic = DSC_FRAME_MAGIC,
                       .version = DSC_FRAME_VERSION,
                       .kind = (uint16_t)kind,
                       .session = session,
                       .worker = (uint32_t)worker,
                       .sequence = sequence};
}

static disco_status check_kind(const dsc_frame *head, dsc_frame_kind kind, const char *from) {
  const char *got = dsc_frame_name(head->kind), *want = dsc_frame_name((uint32_t)kind);
  if (want == NULL) want = "?";
  if (head->kind == (uint32_t)kind) return DISCO_OK;
  if (got == NULL)
    return dsc_fail(DISCO_LOST, "%s sent a frame of kind %u, which is none; expected was %s", from, head->kind, want);
  return dsc_fail(DISCO_LOST, "%s sent a %s frame where %s was expected", from, got, want);
}

disco_status dsc_frame_check(const void *bytes, size_t size, dsc_frame_kind kind, size_t least, uint64_t session,
                             int32_t worker, const char *from) {
  dsc_frame head = {0};
  memcpy(&head, bytes, size < sizeof(head) ? size : sizeof(head));
  /* Magic and version first: a peer of another age may well send frames of other sizes. */
  if (size >= offsetof(dsc_frame, kind)) {
    if (head.magic != DSC_FRAME_MAGIC)
      return dsc_fail(DISCO_LOST,
                      "%s does not speak libdisco's protocol: its frame begins with 0x%08x instead of 0x%08x", from,
                      head.magic, DSC_FRAME_MAGIC);
    if (head.version != DSC_FRAME_VERSION)
      return dsc_fail(DISCO_LOST,
                      "%s speaks version %u of libdisco's protocol, and this side version %d: install the same release "
                      "of libdisco on both sides",
                      from, head.version, DSC_FRAME_VERSION);
  }
  if (size < sizeof(head))
    return dsc_fail(DISCO_LOST, "%s sent a frame of %zu bytes, which is too short for its head of %zu", from, size,
                    sizeof(head));
  if (head.size != size || size % 8 != 0)
    return dsc_fail(DISCO_LOST, "%s sent a frame of %zu bytes that says it has %llu (a multiple of 8)", from, size,
                    (unsigned long long)head.size);
  disco_status status = check_kind(&head, kind, from);
  if (status != DISCO_OK) return status;
  if (size < least)
    return dsc_fail(DISCO_LOST, "%s sent a %s frame of %zu bytes; it has %zu at least", from, dsc_frame_name(head.kind),
                    size, least);
  if (session != 0 && head.session != session)
    return dsc_fail(DISCO_LOST, "%s sent a %s frame of session 0x%016llx; this is session 0x%016llx", from,
                    dsc_frame_name(head.kind), (unsigned long long)head.session, (unsigned long long)session);
  if (head.worker != (uint32_t)worker)
    return dsc_fail(DISCO_LOST, "%s sent a %s frame of worker %u; expected was worker %d", from,
                    dsc_frame_name(head.kind), head.worker, worker);
  return DISCO_OK;
}

/* Does a frame of `size` bytes consist of `head` bytes and two parts? Without overflow. */
static bool adds_up(uint64_t size, uint64_t head, uint64_t one, uint64_t two) {
  return size >= head && one <= size - head && two == size - head - one;
}

disco_status dsc_frame_check_command(const dsc_command_frame *frame) {
  uint64_t record = frame->record_bytes, side = frame->side_bytes;
  if (!adds_up(frame->head.size, sizeof(*frame), record, side))
    return dsc_fail(DISCO_LOST,
                    "malformed Command frame: %llu bytes cannot hold a record of %llu and side data of %llu bytes",
                    (unsigned long long)frame->head.size, (unsigned long long)record, (unsigned long long)side);
  if (record < sizeof(dsc_record) || record % 8 != 0)
    return dsc_fail(DISCO_LOST, "malformed Command frame: a record of %llu bytes (%zu at least, a multiple of 8)",
                    (unsigned long long)record, sizeof(dsc_record));
  return DISCO_OK;
}

disco_status dsc_frame_check_done(const dsc_done_frame *frame) {
  uint64_t bytes = frame->failure_bytes;
  if (!adds_up(frame->head.size, sizeof(*frame), bytes, 0))
    return dsc_fail(DISCO_LOST, "malformed Done frame: %llu bytes cannot hold a failure of %llu",
                    (unsigned long long)frame->head.size, (unsigned long long)bytes);
  if (bytes > DSC_ERROR_SLOT_BYTES || bytes % 8 != 0)
    return dsc_fail(DISCO_LOST, "malformed Done frame: a failure of %llu bytes (%d at most, a multiple of 8)",
                    (unsigned long long)bytes, DSC_ERROR_SLOT_BYTES);
  return DISCO_OK;
}

disco_status dsc_frame_check_reply(const dsc_reply_frame *frame) {
  uint64_t bytes = frame->value_bytes;
  if (!adds_up(frame->head.size, sizeof(*frame), bytes, 0))
    return dsc_fail(DISCO_LOST, "malformed Reply frame: %llu bytes cannot hold a value of %llu",
                    (unsigned long long)frame->head.size, (unsigned long long)bytes);
  if (bytes < sizeof(dsc_packed) || bytes % 8 != 0)
    return dsc_fail(DISCO_LOST, "malformed Reply frame: a value of %llu bytes (%zu at least, a multiple of 8)",
                    (unsigned long long)bytes, sizeof(dsc_packed));
  if (frame->outcome > DSC_REPLY_POISONED)
    return dsc_fail(DISCO_LOST, "malformed Reply frame: outcome %u is none", frame->outcome);
  return DISCO_OK;
}
