#include "ffi/args.h"

#include "ffi/value.h"

disco_status dsc_args_count(const char *function, int32_t given, int32_t wanted) {
  if (given == wanted) return DISCO_OK;
  return dsc_fail(DISCO_TYPE, "Mismatched number of arguments when calling: `%s`. Expected %d but got %d arguments",
                  function, wanted, given);
}

disco_status dsc_args_mismatch(const char *function, int32_t index, const char *expected, const TVMFFIAny *got) {
  return dsc_fail(DISCO_TYPE, "Mismatched type on argument #%d when calling: `%s`. Expected `%s` but got `%s`", index,
                  function, expected, dsc_value_type_name(got));
}

disco_status dsc_args_count_named(const char *function, int32_t given, int32_t wanted, const char *parameters) {
  if (given == wanted) return DISCO_OK;
  return dsc_fail(DISCO_TYPE,
                  "Mismatched number of arguments when calling: `%s`. Expected %d but got %d arguments; they are (%s)",
                  function, wanted, given, parameters);
}

disco_status dsc_args_mismatch_named(const char *function, int32_t index, const char *parameter, const char *expected,
                                     const TVMFFIAny *got) {
  return dsc_fail(DISCO_TYPE,
                  "Mismatched type on argument #%d when calling: `%s`. Expected `%s` but got `%s`; argument #%d is %s",
                  index, function, expected, dsc_value_type_name(got), index, parameter);
}
