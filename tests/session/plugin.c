/* A shared library that workers load: its constructor registers plugin.answer(), which returns 42. */
#include <string.h>
#include <tvm/ffi/c_api.h>

static int answer(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  memset(result, 0, sizeof(*result));
  result->type_index = kTVMFFIInt;
  result->v_int64 = 42;
  return 0;
}

__attribute__((constructor)) static void register_answer(void) {
  const TVMFFIByteArray name = {"plugin.answer", 13};
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionCreate(NULL, answer, NULL, &function) != 0) return;
  (void)TVMFFIFunctionSetGlobal(&name, function, 1);
  (void)TVMFFIObjectDecRef(function);
}
