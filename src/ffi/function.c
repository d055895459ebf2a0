#include "ffi/function.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ffi/error.h"
#include "ffi/value.h"

static disco_status find(const char *name, TVMFFIObject **ret_function) {
  TVMFFIByteArray key = {name, strlen(name)};
  TVMFFIObjectHandle function = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &function) != 0) return dsc_error_take_raised(DISCO_RUNTIME);
  *ret_function = function;
  return DISCO_OK;
}

disco_status dsc_function_find(const char *name, TVMFFIObject **ret_function) {
  static const char tvms[] = "runtime.disco.";
  char own[256];
  disco_status status = find(name, ret_function);
  if (status != DISCO_OK || *ret_function != NULL || strncmp(name, tvms, strlen(tvms)) != 0) return status;
  int size = snprintf(own, sizeof(own), "libdisco.%s", name + strlen(tvms));
  return size < (int)sizeof(own) ? find(own, ret_function) : DISCO_OK;
}

disco_status dsc_function_each_name(const char *prefix, void (*visit)(void *context, const char *name), void *context) {
  TVMFFIObject *make = NULL;
  disco_status status = dsc_function_find("ffi.FunctionListGlobalNamesFunctor", &make);
  if (status != DISCO_OK || make == NULL) return status;
  TVMFFIAny list = dsc_none(), count = dsc_none(), index = dsc_int(-1);
  if (TVMFFIFunctionCall(make, NULL, 0, &list) != 0) status = dsc_error_take_raised(DISCO_RUNTIME);
  dsc_object_unref(make);
  if (status != DISCO_OK) return status;
  if (TVMFFIFunctionCall(list.v_obj, &index, 1, &count) != 0) status = dsc_error_take_raised(DISCO_RUNTIME);
  for (int64_t i = 0; status == DISCO_OK && i < count.v_int64; i++) {
    TVMFFIAny name = dsc_none();
    TVMFFIByteArray text;
    index = dsc_int(i);
    if (TVMFFIFunctionCall(list.v_obj, &index, 1, &name) != 0) {
      status = dsc_error_take_raised(DISCO_RUNTIME);
      break;
    }
    if (dsc_value_string(&name, &text)) {
      char *copy = strndup(text.data, text.size);
      if (copy != NULL && strncmp(copy, prefix, strlen(prefix)) == 0) visit(context, copy);
      free(copy);
    }
    dsc_value_drop(&name);
  }
  dsc_value_drop(&list);
  return status;
}

static void offer(void *context, const char *name) { dsc_nearest_offer(context, name); }

void dsc_function_unknown(const char *name, dsc_text *text) {
  dsc_nearest nearest;
  dsc_nearest_init(&nearest, name);
  (void)dsc_function_each_name("", offer, &nearest);
  dsc_text_add(text, "Unknown function `%s`", name);
  dsc_nearest_print(&nearest, text);
}

disco_status dsc_function_register(const char *name, TVMFFISafeCallType function, void *self,
                                   void (*self_deleter)(void *), bool override) {
  TVMFFIObjectHandle object = NULL;
  if (TVMFFIFunctionCreate(self, function, self_deleter, &object) != 0) return dsc_error_take_raised(DISCO_MEMORY);
  TVMFFIByteArray key = {name, strlen(name)};
  int rc = TVMFFIFunctionSetGlobal(&key, object, override);
  dsc_object_unref(object);
  return rc == 0 ? DISCO_OK : dsc_error_take_raised(DISCO_VALUE);
}
