/* Bytes of a stranger as a frame of each kind: what passes the checks can be read whole, part by part. */
#include "fuzz.h"

#include <string.h>

#include "wire/frame.h"
#include "wire/limits.h"
#include "wire/pack.h"

static void look_at_body(const char *bytes, size_t size, dsc_frame_kind kind) {
  if (kind == DSC_FRAME_Command) {
    const dsc_command_frame *frame = (const dsc_command_frame *)bytes;
    if (dsc_frame_check_command(frame) != DISCO_OK) return;
    FUZZ_CHECK(frame->record_bytes >= sizeof(dsc_record));
    fuzz_touch(frame + 1, frame->record_bytes);
    fuzz_touch((const char *)(frame + 1) + frame->record_bytes, frame->side_bytes);
    FUZZ_CHECK(sizeof(*frame) + frame->record_bytes + frame->side_bytes == size);
  } else if (kind == DSC_FRAME_Done) {
    const dsc_done_frame *frame = (const dsc_done_frame *)bytes;
    if (dsc_frame_check_done(frame) != DISCO_OK) return;
    FUZZ_CHECK(frame->failure_bytes <= DSC_ERROR_SLOT_BYTES);
    fuzz_touch(frame + 1, frame->failure_bytes);
    FUZZ_CHECK(sizeof(*frame) + frame->failure_bytes == size);
  } else if (kind == DSC_FRAME_Reply) {
    const dsc_reply_frame *frame = (const dsc_reply_frame *)bytes;
    if (dsc_frame_check_reply(frame) != DISCO_OK) return;
    FUZZ_CHECK(frame->value_bytes >= sizeof(dsc_packed));
    fuzz_touch(frame + 1, frame->value_bytes);
    FUZZ_CHECK(sizeof(*frame) + frame->value_bytes == size);
  } else if (kind == DSC_FRAME_Progress) {
    fuzz_touch(bytes, sizeof(dsc_progress_frame));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const struct {
    dsc_frame_kind kind;
    size_t least;
  } kinds[] = {{DSC_FRAME_Hello, sizeof(dsc_hello)},           {DSC_FRAME_Answer, sizeof(dsc_answer)},
               {DSC_FRAME_Command, sizeof(dsc_command_frame)}, {DSC_FRAME_Done, sizeof(dsc_done_frame)},
               {DSC_FRAME_Reply, sizeof(dsc_reply_frame)},     {DSC_FRAME_Progress, sizeof(dsc_progress_frame)}};
  char *bytes = malloc(size); /* aligned, and not a byte more */
  FUZZ_CHECK(bytes != NULL || size == 0);
  if (size > 0) memcpy(bytes, data, size);
  dsc_frame head = {0};
  if (size >= sizeof(head)) memcpy(&head, bytes, sizeof(head));
  for (size_t i = 0; size > 0 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
    /* as the session and worker that it says it is of; and as others, which must be noticed */
    bool good = dsc_frame_check(bytes, size, kinds[i].kind, kinds[i].least, head.session, (int32_t)head.worker,
                                "a stranger") == DISCO_OK;
    if (good) {
      FUZZ_CHECK(size >= kinds[i].least && head.size == size && head.kind == (uint32_t)kinds[i].kind);
      FUZZ_CHECK(dsc_frame_check(bytes, size, kinds[i].kind, kinds[i].least, head.session, (int32_t)(head.worker ^ 1),
                                 "a stranger") == DISCO_LOST);
      if (head.session != 0 && head.session != 1)
        FUZZ_CHECK(dsc_frame_check(bytes, size, kinds[i].kind, kinds[i].least, 1, (int32_t)head.worker, "a stranger") ==
                   DISCO_LOST);
      look_at_body(bytes, size, kinds[i].kind);
    }
  }
  free(bytes);
  return 0;
}
