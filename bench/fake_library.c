/* A Disco library of one worker that runs every call at once in the controller, and can be told to be wrong: what the
 * benchmark's own tests measure, to see that it notices. BENCH_FAKE=skip | twice | arguments | raise | hang picks the
 * fault, at the 1000th call.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>
#include <unistd.h>

/* A session or a DRef; the value is the register's, or the function's. */
typedef struct {
  TVMFFIObject header;
  TVMFFIAny value;
} fake_object;

enum { FAKE_DREF_TYPE = 114 };

static const char *fault = "";
static long num_calls;

static void delete_object(void *self, int flags) {
  fake_object *object = self;
  if ((flags & kTVMFFIObjectDeleterFlagBitMaskStrong) && object->value.type_index >= kTVMFFIStaticObjectBegin) {
    TVMFFIObjectDecRef(object->value.v_obj);
  }
  if (flags & kTVMFFIObjectDeleterFlagBitMaskWeak) free(object);
}

static int give_object(TVMFFIAny *result, int32_t type_index, TVMFFIAny value) {
  fake_object *object = calloc(1, sizeof *object);
  if (!object) abort();
  object->header.combined_ref_count = 1 | (UINT64_C(1) << 32);
  object->header.type_index = type_index;
  object->header.deleter = delete_object;
  object->value = value;
  result->type_index = type_index;
  result->v_obj = &object->header;
  return 0;
}

static int raise_error(const char *message) {
  TVMFFIErrorSetRaisedFromCStr("ValueError", message);
  return -1;
}

static int session_threaded(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 2 || args[0].v_int64 != 1) return raise_error("the fake library has one worker");
  TVMFFIAny none;
  memset(&none, 0, sizeof none);
  return give_object(result, kTVMFFIDynObjectBegin, none);
}

static int get_global_func(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 2 || args[1].type_index != kTVMFFIRawStr) return raise_error("session, name");
  TVMFFIByteArray name = {args[1].v_c_str, strlen(args[1].v_c_str)};
  TVMFFIAny value;
  memset(&value, 0, sizeof value);
  value.type_index = kTVMFFIFunction;
  if (TVMFFIFunctionGetGlobal(&name, (TVMFFIObjectHandle *)&value.v_obj) != 0) return -1;
  return value.v_obj ? give_object(result, FAKE_DREF_TYPE, value) : raise_error("no such function");
}

static int call_packed(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  static TVMFFIAny values[1024];
  (void)self;
  if (num_args < 4 || num_args > 1024 || args[3].type_index != FAKE_DREF_TYPE)
    return raise_error("session, x, x, function");
  int repeat = 1;
  int32_t n = num_args - 4;
  for (int32_t i = 0; i < n; i++)
    values[i] = args[4 + i].type_index == FAKE_DREF_TYPE ? ((fake_object *)args[4 + i].v_obj)->value : args[4 + i];
  if (++num_calls == 1000) {
    if (strcmp(fault, "skip") == 0) repeat = 0;
    if (strcmp(fault, "twice") == 0) repeat = 2;
    if (strcmp(fault, "raise") == 0) return raise_error("told to");
    if (strcmp(fault, "hang") == 0) pause();
  }
  /* This one strikes at the first call with arguments of its own. */
  if (strcmp(fault, "arguments") == 0 && n > 1) values[n - 1].v_int64++, fault = "";
  TVMFFIAny value;
  memset(&value, 0, sizeof value);
  for (int i = 0; i < repeat; i++) {
    if (TVMFFIFunctionCall(((fake_object *)args[3].v_obj)->value.v_obj, values, n, &value) != 0) return -1;
  }
  return give_object(result, FAKE_DREF_TYPE, value);
}

static int nothing(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self, (void)args, (void)num_args, (void)result;
  return 0;
}

static void publish(const char *name, TVMFFISafeCallType function) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle handle = NULL;
  if (TVMFFIFunctionCreate(NULL, function, NULL, &handle) != 0 || TVMFFIFunctionSetGlobal(&key, handle, 1) != 0)
    abort();
  TVMFFIObjectDecRef(handle);
}

__attribute__((constructor)) static void load(void) {
  const char *wanted = getenv("BENCH_FAKE");
  if (wanted) fault = wanted;
  publish("runtime.disco.SessionThreaded", session_threaded);
  publish("runtime.disco.SessionGetGlobalFunc", get_global_func);
  publish("runtime.disco.SessionCallPacked", call_packed);
  publish("runtime.disco.SessionSyncWorker", nothing);
  publish("runtime.disco.SessionShutdown", nothing);
}
