/* Writes the seeds of all targets: `fuzz_make_seeds tests/fuzz/corpus`. Run it after a format has changed; the files
 * are checked in. Files that a fuzzer found stay beside them. */
#include <string.h>

#include <sys/stat.h>

#include "channel/segment.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "fuzz.h"
#include "wire/codec.h"
#include "wire/frame.h"
#include "wire/limits.h"
#include "wire/pack.h"
#include "worker/failure.h"

static const char *root;

static void write_seed(const char *target, const char *name, const void *head, size_t head_size, const void *bytes,
                       size_t size) {
  char path[4096];
  (void)snprintf(path, sizeof(path), "%s/%s", root, target);
  (void)mkdir(path, 0777);
  (void)snprintf(path, sizeof(path), "%s/%s/%s", root, target, name);
  FILE *file = fopen(path, "wb");
  FUZZ_CHECK(file != NULL);
  FUZZ_CHECK(fwrite(head, 1, head_size, file) == head_size);
  FUZZ_CHECK(size == 0 || fwrite(bytes, 1, size, file) == size);
  FUZZ_CHECK(fclose(file) == 0);
}

/* ---- Frames ---- */

static void *frame_of(dsc_frame_kind kind, size_t size) {
  char *bytes = calloc(1, size);
  FUZZ_CHECK(bytes != NULL);
  dsc_frame_begin((dsc_frame *)bytes, kind, size, 0x1234567890abcdef, 3, 17);
  return bytes;
}

static void seed_frame(const char *name, void *frame) {
  write_seed("frame", name, frame, ((dsc_frame *)frame)->size, NULL, 0);
  free(frame);
}

static void seed_command(const char *name, uint64_t record, uint64_t side) {
  dsc_command_frame *frame = frame_of(DSC_FRAME_Command, sizeof(*frame) + record + side);
  frame->record_bytes = record;
  frame->side_bytes = side;
  seed_frame(name, frame);
}

static void seed_frames(void) {
  seed_command("command", sizeof(dsc_record), 0);
  seed_command("command_slots", sizeof(dsc_record) + 64, 0);
  seed_command("command_side", sizeof(dsc_record) + 48, 128);
  seed_command("command_short_record", 24, 0);
  for (uint64_t bytes = 0; bytes <= 64; bytes += 64) {
    dsc_done_frame *done = frame_of(DSC_FRAME_Done, sizeof(*done) + bytes);
    done->failure_bytes = bytes;
    done->failed = bytes > 0 ? 17 : 0;
    seed_frame(bytes > 0 ? "done_failed" : "done", done);
  }
  for (uint32_t outcome = 0; outcome <= DSC_REPLY_POISONED + 1; outcome++) {
    char name[32];
    dsc_reply_frame *reply = frame_of(DSC_FRAME_Reply, sizeof(*reply) + 16);
    reply->outcome = outcome;
    reply->value_bytes = 16;
    (void)snprintf(name, sizeof(name), "reply_%u", outcome);
    seed_frame(name, reply);
  }
  dsc_progress_frame *progress = frame_of(DSC_FRAME_Progress, sizeof(*progress));
  progress->done = 40;
  progress->total = 96;
  seed_frame("progress", progress);
  dsc_frame *other = frame_of(DSC_FRAME_Done, sizeof(dsc_done_frame));
  other->version = 1;
  seed_frame("other_version", other);
  seed_frame("bare_head", frame_of(DSC_FRAME_Command, sizeof(dsc_frame)));
}

/* ---- Packed values ---- */

static TVMFFIAny call(const char *name, TVMFFIAny *args, int32_t count) {
  TVMFFIObject *function = NULL;
  TVMFFIAny result = dsc_none();
  FUZZ_CHECK(dsc_function_find(name, &function) == DISCO_OK && function != NULL);
  FUZZ_CHECK(TVMFFIFunctionCall(function, args, count, &result) == 0);
  dsc_object_unref(function);
  for (int32_t i = 0; i < count; i++) dsc_value_drop(&args[i]);
  return result;
}

static TVMFFIAny text_of(const char *text) {
  TVMFFIAny value = dsc_none();
  FUZZ_CHECK(dsc_value_from_string(text, strlen(text), &value) == DISCO_OK);
  return value;
}

static TVMFFIAny tensor_of(DLDataType dtype, int32_t ndim, const int64_t *shape) {
  TVMFFIObjectHandle object = NULL;
  uint64_t bytes = 0;
  FUZZ_CHECK(dsc_tensor_create(ndim, shape, dtype, (DLDevice){kDLCPU, 0}, &object) == DISCO_OK);
  TVMFFIAny value = dsc_object_value(object);
  (void)dsc_tensor_bytes(dsc_tensor_of(&value), &bytes);
  memset(dsc_tensor_of(&value)->data, 0x5a, bytes);
  return value;
}

static void seed_value(const char *name, TVMFFIAny value, uint16_t threshold) {
  dsc_pack_side side = {.threshold = threshold > 0 ? threshold : UINT64_MAX};
  uint64_t size = 0;
  FUZZ_CHECK(dsc_pack_measure(&value, DSC_PACK_CONTAINERS, name, &side, &size) == DISCO_OK);
  char *bytes = malloc(size);
  if (side.bytes > 0) side.base = calloc(1, side.bytes);
  FUZZ_CHECK(bytes != NULL && (side.bytes == 0 || side.base != NULL));
  FUZZ_CHECK(dsc_pack(&value, &side, bytes) == bytes + size);
  const uint16_t head[4] = {7, (uint16_t)side.bytes, 32, 0}; /* see pack_fuzz.c */
  write_seed("pack", name, head, sizeof(head), bytes, size);
  dsc_value_drop(&value);
  free(side.base);
  free(bytes);
}

static void seed_values(void) {
  const DLDataType float32 = {kDLFloat, 32, 1}, bfloat16 = {kDLBfloat, 16, 1};
  const int64_t some[] = {2, 3}, none[] = {4, 0};
  TVMFFIByteArray parts[] = {{"ValueError", 10}, {"no", 2}, {"  File \"a.py\", line 3, in f", 27}};
  TVMFFIObjectHandle error = NULL;
  seed_value("none", dsc_none(), 0);
  seed_value("int", dsc_int(-5), 0);
  seed_value("small_string", text_of("seven77"), 0);
  seed_value("string", text_of("a string that is an object"), 0);
  seed_value("string_aside", text_of("a string that is in the side file"), 8);
  seed_value("shape", call("ffi.Shape", (TVMFFIAny[]){dsc_int(3), dsc_int(-1)}, 2), 0);
  seed_value("scalar", tensor_of(float32, 0, NULL), 0);
  seed_value("tensor", tensor_of(bfloat16, 2, some), 0);
  seed_value("tensor_aside", tensor_of(float32, 2, some), 8);
  seed_value("empty_tensor", tensor_of(float32, 2, none), 0);
  FUZZ_CHECK(TVMFFIErrorCreate(&parts[0], &parts[1], &parts[2], &error) == 0);
  seed_value("error", dsc_object_value(error), 0);
  seed_value("array", call("ffi.Array", (TVMFFIAny[]){dsc_int(1), text_of("longer than 7"), dsc_none()}, 3), 0);
  TVMFFIAny map =
      call("ffi.Map", (TVMFFIAny[]){text_of("a"), dsc_int(1), text_of("a longer key"), tensor_of(float32, 1, some)}, 4);
  seed_value("nested", call("ffi.Array", (TVMFFIAny[]){map, call("ffi.Array", NULL, 0)}, 2), 6);
}

/* ---- Failures ---- */

static void seed_failure(const char *name, disco_status status, const char *kind, size_t message, size_t backtrace) {
  static _Alignas(8) char bytes[4096];
  dsc_error error;
  dsc_error_init(&error);
  error.status = status;
  (void)snprintf(error.kind, sizeof(error.kind), "%s", kind);
  error.message = calloc(1, message + 1);
  error.backtrace = calloc(1, backtrace + 1);
  FUZZ_CHECK(error.message != NULL && error.backtrace != NULL);
  memset(error.message, 'm', message);
  memset(error.backtrace, 'b', backtrace);
  (void)dsc_fail_with(&error);
  write_seed("failure", name, bytes, dsc_failure_encode(9, 4, false, bytes, sizeof(bytes)), NULL, 0);
}

static void seed_failures(void) {
  seed_failure("empty", DISCO_RAISED, "", 0, 0);
  seed_failure("kind", DISCO_VALUE, "ValueError", 0, 0);
  seed_failure("message", DISCO_TYPE, "TypeError", 30, 0);
  seed_failure("backtrace", DISCO_RAISED, "MyError", 20, 100);
  seed_failure("only_backtrace", DISCO_MEMORY, "", 0, 9);
  seed_failure("long_kind", DISCO_LOST, "AKindOfErrorWhoseNameIsAsLongAsAnyKindOfErrorMayEverBeeeeeeeeee", 5, 5);
  seed_failure("cut", DISCO_RAISED, "RuntimeError", 5000, 5000);
  seed_failure("odd", DISCO_CLOSED, "K", 1, 1);
}

/* ---- The hand-over ---- */

static void seed_segment(const char *name, int32_t workers, int32_t groups, uint64_t ring, uint64_t reply_ring) {
  const dsc_segment_layout layout = {.num_workers = workers,
                                     .num_groups = groups,
                                     .ring_bytes = ring,
                                     .reply_ring_bytes = reply_ring,
                                     .error_slot_bytes = DSC_ERROR_SLOT_BYTES};
  dsc_segment segment;
  uint8_t head[9] = {2};
  FUZZ_CHECK(dsc_segment_create(&layout, &segment) == DISCO_OK);
  memcpy(head + 1, &segment.header->bytes, 8);
  segment.header->session = 1; /* the same each time */
  segment.header->controller_pid = 1;
  memset(segment.header->nonce, 0, sizeof(segment.header->nonce));
  write_seed("hello", name, head, sizeof(head), segment.header, sizeof(*segment.header));
  dsc_segment_destroy(&segment);
}

static void seed_hellos(void) {
  dsc_hello *hello = frame_of(DSC_FRAME_Hello, sizeof(*hello));
  const uint8_t kinds[] = {0, 1};
  hello->pid = 4711;
  hello->segment_fd = 5;
  hello->arena_fd = -1;
  hello->num_workers = 8;
  hello->num_groups = 2;
  write_seed("hello", "hello", &kinds[0], 1, hello, sizeof(*hello));
  hello->head.version = 9;
  write_seed("hello", "hello_other_version", &kinds[0], 1, hello, sizeof(*hello));
  free(hello);
  dsc_answer *answer = frame_of(DSC_FRAME_Answer, sizeof(*answer));
  answer->mode = DSC_ANSWER_PIPE;
  memset(answer->reason, 'r', sizeof(answer->reason)); /* not even a NUL */
  write_seed("hello", "answer_pipe", &kinds[1], 1, answer, sizeof(*answer));
  answer->mode = DSC_ANSWER_RING;
  memset(answer->reason, 0, sizeof(answer->reason));
  write_seed("hello", "answer_ring", &kinds[1], 1, answer, sizeof(*answer));
  free(answer);
  seed_segment("segment_1", 1, 1, 1 << 18, 4096);
  seed_segment("segment_8", 8, 2, 1 << 20, 4096);
  seed_segment("segment_1024", 1024, 4, 1 << 18, 8192);
}

/* ---- Commands to a worker ---- */

/* A growing list of frames' bodies, each behind its 16-bit size. */
typedef struct {
  size_t size;
  _Alignas(16) uint8_t bytes[4096];
} command_list;

static void add_command(command_list *list, uint8_t message, uint8_t flags, uint32_t reg, uint32_t target,
                        const void *slots, size_t slot_bytes, uint16_t num_args, const void *side, size_t side_bytes) {
  const uint64_t head[3] = {0, sizeof(dsc_record) + slot_bytes, side_bytes};
  dsc_record record = {.message = message,
                       .flags = flags,
                       .sequence = 1,
                       .reg = reg,
                       .target = target,
                       .num_args = num_args,
                       .num_slots = (uint16_t)(slot_bytes / DSC_SLOT_BYTES)};
  size_t body = sizeof(head) + sizeof(record) + slot_bytes + side_bytes;
  uint8_t *at = list->bytes + list->size;
  *at++ = (uint8_t)body;
  *at++ = (uint8_t)(body >> 8);
  memcpy(at, head, sizeof(head));
  memcpy(at + sizeof(head), &record, sizeof(record));
  if (slot_bytes > 0) memcpy(at + sizeof(head) + sizeof(record), slots, slot_bytes);
  if (side_bytes > 0) memcpy(at + sizeof(head) + sizeof(record) + slot_bytes, side, side_bytes);
  list->size += 2 + body;
}

static void seed_commands(void) {
  command_list list = {0};
  TVMFFIAny name[2] = {{.type_index = kTVMFFISmallStr, .zero_padding = 4, .v_bytes = "echo"}, dsc_none()};
  const TVMFFIAny numbers[2] = {dsc_int(-1), dsc_int(7)};
  struct {
    dsc_dref_run run;
    uint32_t ids[2];
  } drefs = {{DSC_SLOT_DREFS, 2}, {1, 5}};
  /* A string of 8 bytes: its slot, then its packed form. */
  struct {
    TVMFFIAny slot;
    dsc_packed packed;
    uint64_t size;
    char text[8];
  } text = {{.type_index = kTVMFFIStr, .zero_padding = 3}, {kTVMFFIStr, 0, 16}, 8, "abcdefgh"};
  add_command(&list, DSC_MESSAGE_GetGlobalFunc, 0, 1, 0, name, sizeof(name), 2, NULL, 0);
  add_command(&list, DSC_MESSAGE_CallPacked, 0, 2, 1, numbers, sizeof(numbers), 2, NULL, 0);
  add_command(&list, DSC_MESSAGE_CallPacked, 0, 3, 1, &drefs, sizeof(drefs), 2, NULL, 0);
  add_command(&list, DSC_MESSAGE_DebugSetRegister, DSC_RECORD_OBJECTS, 4, 1, &text, sizeof(text), 1, NULL, 0);
  add_command(&list, DSC_MESSAGE_DebugGetFromRemote, 0, 4, 1, NULL, 0, 0, NULL, 0);
  write_seed("command", "calls", NULL, 0, list.bytes, list.size);
  list.size = 0;
  add_command(&list, DSC_MESSAGE_Resume, 0, 0, 0, numbers, 16, 1, NULL, 0);
  add_command(&list, DSC_MESSAGE_KillReg, 0, 1, 0, NULL, 0, 0, NULL, 0);
  add_command(&list, DSC_MESSAGE_ShutDown, 0, 0, 0, NULL, 0, 0, NULL, 0);
  write_seed("command", "endings", NULL, 0, list.bytes, list.size);
  list.size = 0;
  struct {
    TVMFFIAny slot;
    dsc_side_ref ref;
  } in_side = {{.type_index = kTVMFFIStr, .zero_padding = 1}, {1, 3, 0, 0, 32}};
  add_command(&list, DSC_MESSAGE_DebugSetRegister, DSC_RECORD_OBJECTS | DSC_RECORD_SIDE | DSC_RECORD_CONTAINERS, 4, 1,
              &in_side, sizeof(in_side), 1, &text.packed, 32);
  write_seed("command", "side", NULL, 0, list.bytes, list.size);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    (void)fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  root = argv[1];
  (void)mkdir(root, 0777);
  seed_frames();
  seed_values();
  seed_failures();
  seed_hellos();
  seed_commands();
  return 0;
}
