#include "api/call.h"

#include <string.h>

#include "ffi/args.h"

disco_status dsc_call_session(const dsc_call *c, int32_t index, disco_session **ret_session) {
  return dsc_object_as_session(&c->args[index], ret_session);
}

disco_status dsc_call_dref(const dsc_call *c, int32_t index, dsc_dref **ret_dref) {
  if (c->args[index].type_index != DSC_TYPE_DREF)
    return dsc_fail(DISCO_TYPE, "%s: Cannot convert from type `%s` to `runtime.disco.DRef` (argument #%d)", c->name,
                    dsc_value_type_name(&c->args[index]), index);
  *ret_dref = (dsc_dref *)c->args[index].v_obj;
  TVMFFIAny session = dsc_object_value((*ret_dref)->session);
  disco_session *ours;
  return dsc_object_as_session(&session, &ours);
}

disco_status dsc_call_int(const dsc_call *c, int32_t index, int64_t low, int64_t high, int64_t *ret_int) {
  int64_t number;
  if (!dsc_value_as_int(&c->args[index], &number)) return dsc_args_mismatch(c->name, index, "int", &c->args[index]);
  if (number < low || number > high)
    return dsc_fail(DISCO_VALUE, "%s: argument #%d is %lld; it must be between %lld and %lld", c->name, index,
                    (long long)number, (long long)low, (long long)high);
  *ret_int = number;
  return DISCO_OK;
}

disco_status dsc_call_int32(const dsc_call *c, int32_t index, int64_t low, int64_t high, int32_t *ret_int) {
  int64_t number = 0;
  disco_status status = dsc_call_int(c, index, low, high, &number);
  if (status == DISCO_OK) *ret_int = (int32_t)number;
  return status;
}

disco_status dsc_call_string(const dsc_call *c, int32_t index, char **ret_text) {
  TVMFFIByteArray text;
  if (!dsc_value_string(&c->args[index], &text)) return dsc_args_mismatch(c->name, index, "str", &c->args[index]);
  *ret_text = strndup(text.data, text.size);
  return *ret_text != NULL ? DISCO_OK : dsc_fail(DISCO_MEMORY, "no memory for a string of %zu bytes", text.size);
}
