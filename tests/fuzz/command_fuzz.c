/* A stranger's commands to a worker that is fed by frames: each is refused, or runs; nothing else happens. The input is
 * cut into frames by a 16-bit size before each; their heads are put right, since frame_fuzz.c looks at those. */
#include "fuzz.h"

#include <string.h>

#include "disco/channel.h"
#include "wire/codec.h"
#include "worker/process.h"

enum { WORKER = 1, SESSION = 77 };

typedef struct {
  disco_channel channel;
  const uint8_t *data;
  size_t left;
  char *frame;
  uint64_t sent;
  int replies;
} script;

static disco_status next(disco_channel *channel, const void **ret_frame, size_t *ret_size) {
  script *self = (script *)channel;
  if (self->left < 2) return DISCO_CLOSED;
  size_t body = (size_t)self->data[0] | (size_t)self->data[1] << 8;
  self->data += 2;
  self->left -= 2;
  if (body > self->left) body = self->left;
  size_t size = sizeof(dsc_frame) + body;
  free(self->frame);
  self->frame = malloc(size);
  FUZZ_CHECK(self->frame != NULL);
  dsc_frame_begin((dsc_frame *)self->frame, DSC_FRAME_Command, size, SESSION, WORKER, ++self->sent);
  memcpy(self->frame + sizeof(dsc_frame), self->data, body);
  if (size >= sizeof(dsc_command_frame) + sizeof(dsc_record)) {
    dsc_record *record = (dsc_record *)(self->frame + sizeof(dsc_command_frame));
    record->reg &= 0xfff; /* sixteen million registers are allowed, and cost memory */
    record->sequence = self->sent;
  }
  self->data += body;
  self->left -= body;
  *ret_frame = self->frame;
  *ret_size = size;
  return DISCO_OK;
}

static disco_status take(disco_channel *channel, const void *frame, size_t size) {
  script *self = (script *)channel;
  const dsc_frame *head = frame;
  FUZZ_CHECK(size >= sizeof(*head) && head->size == size);
  if (head->kind == DSC_FRAME_Done)
    FUZZ_CHECK(dsc_frame_check_done(frame) == DISCO_OK);
  else
    FUZZ_CHECK(head->kind == DSC_FRAME_Reply && dsc_frame_check_reply(frame) == DISCO_OK);
  self->replies++;
  return DISCO_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const disco_channel_ops ops = {.struct_size = sizeof(ops), .recv = next, .reply = take};
  script self = {.channel = {&ops}, .data = data, .left = size};
  dsc_hello hello = {.segment_fd = -1, .arena_fd = -1, .num_workers = 2, .num_groups = 1, .spin_us = 1};
  dsc_frame_begin(&hello.head, DSC_FRAME_Hello, sizeof(hello), SESSION, WORKER, 0);
  disco_status status = dsc_worker_serve(&hello, &self.channel, "", NULL);
  FUZZ_CHECK(status == DISCO_OK || status == DISCO_LOST || status == DISCO_MEMORY);
  free(self.frame);
  return 0;
}
