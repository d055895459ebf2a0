/* disco-schema: prints docs/protocol.md from the one list of messages (schema.h), the codec and the limits. */
#include <stddef.h>
#include <stdio.h>

#include "wire/codec.h"
#include "wire/frame.h"
#include "wire/limits.h"
#include "wire/schema.h"

static const char *yes_or_no(bool value) { return value ? "yes" : "no"; }

static void print_messages(void) {
  printf("## Messages\n\n"
         "Numbers 0 to 8 are those of TVM's `DiscoAction`; libdisco's own begin at 64. *Skipped* messages are not run\n"
         "between a failure and its resume record. *reg* and *target* are header fields, *slots* the values.\n\n"
         "| number | message | skipped | reg | target | slots | what it does |\n"
         "|---:|---|---|---|---|---|---|\n");
#define PRINT(name, number, skippable, reg, target, slots, meaning) \
  printf("| %d | %s | %s | %s | %s | %s | %s |\n", number, #name, yes_or_no(skippable), reg, target, slots, meaning);
  DSC_MESSAGE_LIST(PRINT)
#undef PRINT
  printf("\nTarget %u means all workers.\n\n", DSC_TARGET_ALL);
}

static void print_fields_head(void) {
  printf("| offset | bytes | field | type | meaning |\n|---:|---:|---|---|---|\n");
}

static void print_record(void) {
  printf("## A command\n\n"
         "One frame of the channel: the header of %zu bytes, `num_slots` slots of %d bytes,\n"
         "`num_releases` register ids of 4 bytes. The released registers are cleared before the command runs, also "
         "when it\n"
         "is skipped.\n\n",
         sizeof(dsc_record), DSC_SLOT_BYTES);
  print_fields_head();
#define PRINT(type, field, meaning) \
  printf("| %zu | %zu | %s | %s | %s |\n", offsetof(dsc_record, field), sizeof(type), #field, #type, meaning);
  DSC_RECORD_FIELDS(PRINT)
#undef PRINT
  printf("\nThe first word of every frame is the channel's own: a channel does not read what follows it.\n\n");
}

static void print_slots(void) {
  printf(
      "## Slots\n\n"
      "A slot is a `TVMFFIAny` of %d bytes: a type index, a length, and 8 bytes of content. Three kinds:\n\n"
      "| type index | content |\n"
      "|---|---|\n"
      "| 0 to 63, without 7 to 10 | a plain value: itself |\n"
      "| 64 and more | a counted object: its address, for workers that are threads; one reference per reader, each "
      "drops its own. In a session of processes the slot's length field says where its packed form is: 16-byte units "
      "from the start of the record, or, counted from 1, of its side file; 0: it does not travel |\n"
      "| %d | a run of DRefs: `int32` %d, `uint32` count (at least 1), then as many `uint32` register ids, padded to a "
      "multiple of %d bytes; counts as that many values |\n\n"
      "Borrowed forms (7 to 10) never travel: strings and bytes are copied, moved references are read, a `DLTensor*`\n"
      "is refused. A DRef is replaced by the worker's own value of that register.\n\n",
      DSC_SLOT_BYTES, DSC_SLOT_DREFS, DSC_SLOT_DREFS, DSC_SLOT_BYTES);
}

static void print_packed(void) {
  printf(
      "## Packed values\n\n"
      "For readers in other processes: a head of %zu bytes (`int32` type index, `uint32` extra, `uint64` payload) "
      "and a body,\nboth multiples of %d bytes. Types below 64 have no body: the payload is the value. Of the others "
      "the payload is the\nsize of the body. Str and Bytes: `uint64` size, bytes. Shape: the numbers. Tensor: ndim, "
      "dtype, shape, data in row-major\norder. Error: kind, message, backtrace. Array and Map: their elements, in "
      "explicit debug reads and writes only, at most\n%d deep. Extra %d: the data is in the side file, and the body "
      "ends with its offset and size.\n\n"
      "A **side file** is a memfd beside a record or reply: written once, mapped copy-on-write by every reader, "
      "which opens it\nthrough `/proc/<pid>/fd`. Data of at least %d bytes goes there; so do the packed values "
      "themselves when they do not fit\nthe record. Its reference (%zu bytes: pid, descriptor, bytes of packed "
      "values, bytes in all) ends the slots.\n\n",
      sizeof(dsc_packed), DSC_PACK_ALIGN, DSC_PACK_MAX_NESTING, DSC_PACKED_SIDE, DSC_SIDE_THRESHOLD,
      sizeof(dsc_side_ref));
}

static void print_frames(void) {
  printf("## Frames\n\n"
         "On a pipe or channel everything travels in frames: this header, then what the kind has. The hello is always "
         "sent; a\nworker that can map the shared memory answers so and needs no other frame.\n\n");
  print_fields_head();
#define PRINT(type, field, meaning) \
  printf("| %zu | %zu | %s | %s | %s |\n", offsetof(dsc_frame, field), sizeof(type), #field, #type, meaning);
  DSC_FRAME_FIELDS(PRINT)
#undef PRINT
  printf("\n| kind | frame | direction | bytes | what it carries |\n|---:|---|---|---:|---|\n");
  const size_t sizes[] = {0,
                          sizeof(dsc_hello),
                          sizeof(dsc_answer),
                          sizeof(dsc_command_frame),
                          sizeof(dsc_done_frame),
                          sizeof(dsc_reply_frame),
                          sizeof(dsc_progress_frame)};
#define PRINT(name, number, direction, meaning) \
  printf("| %d | %s | %s | %zu | %s |\n", number, #name, direction, sizes[number], meaning);
  DSC_FRAME_LIST(PRINT)
#undef PRINT
  printf("\n");
}

static void print_replies(void) {
  printf("## A reply\n\n"
         "A frame of the worker's reply ring: the header of %zu bytes and one slot, owned by the reader; or a packed "
         "value; or\nthe reference of a side file.\n\n",
         sizeof(dsc_reply));
  print_fields_head();
#define PRINT(type, field, meaning) \
  printf("| %zu | %zu | %s | %s | %s |\n", offsetof(dsc_reply, field), sizeof(type), #field, #type, meaning);
  DSC_REPLY_FIELDS(PRINT)
#undef PRINT
  printf("\n");
}

static void print_limits(void) {
  const struct {
    size_t value;
    const char *meaning;
  } limits[] = {
      {DSC_MAX_WORKERS, "workers of a session"},
      {DSC_MAX_ARGUMENTS, "arguments of a call"},
      {DSC_MAX_NAME_BYTES, "bytes of a global function's name"},
      {DSC_STRING_MAX, "bytes of a string or bytes argument"},
      {DSC_MAX_RELEASES, "register ids released by one record; more wait for the next"},
      {DSC_IDPOOL_MAX - 1, "registers of a session"},
      {DSC_MIN_RING_BYTES, "smallest command ring, in bytes: twice the largest record"},
      {DSC_MAX_RING_BYTES, "largest command ring, in bytes"},
      {DSC_REPLY_RING_BYTES, "bytes of a worker's reply ring"},
      {DSC_REPLY_INLINE_BYTES, "bytes of a packed reply in that ring; larger ones go to a side file"},
      {DSC_SIDE_THRESHOLD, "bytes of a string or tensor from which on it goes to a side file"},
      {DSC_MAX_SIDE_FILES, "side files of arguments under way in a session; one more waits for the oldest"},
      {DSC_ERROR_SLOT_BYTES, "bytes of a worker's error slot; a longer message or backtrace is cut with a mark"},
  };
  printf("## Limits\n\n| limit | of what |\n|---:|---|\n");
  for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
    printf("| %zu | %s |\n", limits[i].value, limits[i].meaning);
}

int main(void) {
  printf(
      "# The protocol\n\n"
      "Printed by `build/bin/disco-schema` from `src/wire/schema.h`, `codec.h` and `limits.h`: change those, then\n"
      "`build/bin/disco-schema >docs/protocol.md`.\n\n"
      "The controller writes each command once into a ring that all local workers read in place; nothing is sent per\n"
      "worker. A command is a record: header, values, released registers. Commands are numbered from 1, every worker\n"
      "runs them in order and stores the number of the last one it has done. What goes back is a reply, in one ring "
      "per\n"
      "worker, with the number of the command that it answers. All numbers are in the byte order of the machine. The\n"
      "protocol is private: both ends are the same build of libdisco.\n\n");
  print_messages();
  print_record();
  print_slots();
  print_packed();
  print_replies();
  print_frames();
  print_limits();
  return fflush(stdout) == 0 ? 0 : 1;
}
