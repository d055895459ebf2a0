/* The functions that workers run in this suite. They keep nothing in variables, so that they do the same in a worker of
 * another process. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "session/support.h"

static int32_t my_id(void) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  return disco_worker_get_info(&info) == DISCO_OK ? info.worker_id : -1;
}

/* (x) -> x */
static int echo(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 1) return disco_raise("TypeError", "test.echo takes 1 argument, not %d", num_args);
  *result = dsc_value_copy(&args[0]);
  return 0;
}

/* () -> None */
static int nothing(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return 0;
}

/* (x) -> its type index, as the function sees it */
static int type_index(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_int(num_args == 1 ? args[0].type_index : -1);
  return 0;
}

/* (args...) -> Array of the arguments */
static int pack(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray key = {"ffi.Array", 9};
  TVMFFIObjectHandle make = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0) return -1;
  int rc = TVMFFIFunctionCall(make, (TVMFFIAny *)(uintptr_t)args, num_args, result);
  dsc_object_unref(make);
  return rc;
}

/* (ints...) -> sum of (i + 1) * args[i] + rank: depends on every argument and its place */
static int weigh(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  int64_t sum = my_id();
  for (int32_t i = 0; i < num_args; i++) {
    if (args[i].type_index != kTVMFFIInt)
      return disco_raise("TypeError", "argument %d has type index %d", i, args[i].type_index);
    sum += (i + 1) * args[i].v_int64;
  }
  *result = dsc_int(sum);
  return 0;
}

/* (string or bytes) -> its size, without touching its bytes */
static int size_of(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray text;
  if (num_args != 1 || !dsc_value_string(&args[0], &text)) return disco_raise("TypeError", "test.size wants a string");
  *result = dsc_int((int64_t)text.size);
  return 0;
}

/* (worker or -1, kind, message): raises there, None elsewhere */
static int raise_on(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray kind, message;
  if (num_args != 3 || !dsc_value_string(&args[1], &kind) || !dsc_value_string(&args[2], &message))
    return disco_raise("TypeError", "test.raise wants (worker, kind, message)");
  *result = dsc_none();
  if (args[0].v_int64 != -1 && args[0].v_int64 != my_id()) return 0;
  char name[64];
  (void)snprintf(name, sizeof(name), "%.*s", (int)kind.size, kind.data);
  return disco_raise(name, "%.*s", (int)message.size, message.data);
}

/* (n): the n-th form of result that a careless function might return */
static int careless(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  static _Thread_local char text[32];
  static _Thread_local TVMFFIByteArray bytes;
  static _Thread_local DLTensor tensor;
  static _Thread_local TVMFFIObject *moved;
  (void)self;
  int64_t form = num_args >= 1 ? args[0].v_int64 : -1;
  (void)snprintf(text, sizeof(text), "borrowed text of call %d", (int)form);
  bytes = (TVMFFIByteArray){text, strlen(text)};
  *result = dsc_none();
  switch (form) {
  case kTVMFFIRawStr: *result = any_raw(text); return 0;
  case kTVMFFIByteArrayPtr: *result = any_bytes(&bytes); return 0;
  case kTVMFFIDLTensorPtr: result->v_ptr = &tensor; break;
  case kTVMFFIObjectRValueRef:
    moved = num_args > 1 ? args[1].v_obj : NULL;
    result->v_ptr = &moved;
    break;
  default: break;
  }
  result->type_index = (int32_t)form;
  return 0;
}

/* (name): registers test.echo under another name. Only where no other worker may look up functions meanwhile. */
static int register_later(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  TVMFFIByteArray name;
  char text[64];
  *result = dsc_none();
  if (num_args != 1 || !dsc_value_string(&args[0], &name)) return disco_raise("TypeError", "test.register_later(name)");
  (void)snprintf(text, sizeof(text), "%.*s", (int)name.size, name.data);
  if (disco_register_function(text, echo, NULL, NULL, false) == DISCO_OK) return 0;
  return disco_raise("RuntimeError", "%s", disco_last_error_text());
}

/* ---- Gates ---- */

static int open_of(int64_t pid, int64_t fd, int flags) {
  char path[64];
  (void)snprintf(path, sizeof(path), "/proc/%lld/fd/%lld", (long long)pid, (long long)fd);
  return open(path, flags | O_CLOEXEC);
}

int stand_at_gate(const TVMFFIAny *args, int32_t num_args) {
  if (num_args < 4) return disco_raise("TypeError", "a gate has 4 arguments, not %d", num_args);
  if (args[0].v_int64 != -1 && args[0].v_int64 != my_id()) return 0;
  int arrived = open_of(args[1].v_int64, args[2].v_int64, O_WRONLY);
  int go = open_of(args[1].v_int64, args[3].v_int64, O_RDONLY);
  char byte;
  int rc = arrived < 0 || go < 0 || write(arrived, "x", 1) != 1 || read(go, &byte, 1) != 1
               ? disco_raise("RuntimeError", "the gate is broken")
               : 0;
  (void)atomic_load(&gates_opened);
  if (arrived >= 0) close(arrived);
  if (go >= 0) close(go);
  return rc;
}

/* (worker or -1, pid, fd, fd) -> None, after the gate opened */
static int stand(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  return stand_at_gate(args, num_args);
}

/* (worker, pid, fd, fd): stands there, then raises; None elsewhere */
static int stand_and_raise(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (stand_at_gate(args, num_args) != 0) return -1;
  if (args[0].v_int64 != -1 && args[0].v_int64 != my_id()) return 0;
  return disco_raise("KeyError", "raised behind the gate");
}

void register_worker_functions(void) {
  register_function("test.echo", echo);
  register_function("test.nothing", nothing);
  register_function("test.type_index", type_index);
  register_function("test.pack", pack);
  register_function("test.weigh", weigh);
  register_function("test.size", size_of);
  register_function("test.raise", raise_on);
  register_function("test.careless", careless);
  register_function("test.register_later", register_later);
  register_function("test.gate", stand);
  register_function("test.gate_and_raise", stand_and_raise);
}
