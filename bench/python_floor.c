/* The floor below a call of TVM's client: a function that does nothing but return a new object of the type of DRefs,
 * and a worker function without a body. A library without libdisco, loaded beside it by bench/python_control.py. */
#include <stdlib.h>
#include <string.h>
#include <tvm/ffi/c_api.h>

typedef struct {
  TVMFFIObject header;
  int64_t reg_id;
  void *session;
} dref;

enum { TYPE_DREF = 114, PREFIX = 16 };

static void delete_dref(void *self, int flags) {
  if (flags & kTVMFFIObjectDeleterFlagBitMaskWeak) free((char *)self - PREFIX);
}

static int new_dref(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  char *memory = calloc(1, PREFIX + sizeof(dref));
  if (memory == NULL) return -1;
  dref *made = (dref *)(memory + PREFIX);
  made->header.combined_ref_count = 1 | (uint64_t)1 << 32;
  made->header.type_index = TYPE_DREF;
  made->header.deleter = delete_dref;
  memset(result, 0, sizeof(*result));
  result->type_index = TYPE_DREF;
  result->v_obj = &made->header;
  return 0;
}

static int do_nothing(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  memset(result, 0, sizeof(*result));
  return 0;
}

static void offer(const char *name, TVMFFISafeCallType function) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle object = NULL;
  if (TVMFFIFunctionCreate(NULL, function, NULL, &object) != 0) return;
  (void)TVMFFIFunctionSetGlobal(&key, object, 1);
  (void)TVMFFIObjectDecRef(object);
}

__attribute__((constructor)) static void load(void) {
  offer("bench.new_dref", new_dref);
  offer("bench.nothing", do_nothing);
}
