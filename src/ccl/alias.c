#include "ccl/alias.h"

#include <stdio.h>
#include <string.h>

#include "base/settings.h"
#include "ccl/backend.h"

disco_status dsc_ccl_alias_read(const char *given, char ret_alias[DSC_CCL_ALIAS_MAX]) {
  const char *origin = given != NULL ? "option ccl_alias" : "DISCO_CCL_ALIAS";
  if (given == NULL) given = dsc_setting(DSC_SETTING_CCL_ALIAS);
  ret_alias[0] = 0;
  if (given[0] == 0) return DISCO_OK;
  const char *equals = strchr(given, '=');
  if (equals == NULL || equals == given || strlen(given) >= DSC_CCL_ALIAS_MAX)
    return dsc_fail(DISCO_VALUE, "%s is `%.60s`; it must be other=cpu, in less than %d bytes", origin, given,
                    DSC_CCL_ALIAS_MAX);
  if (dsc_backend_find(equals + 1) == NULL)
    return dsc_fail(DISCO_VALUE, "%s is `%.60s`; `%.40s` is no data plane of this library: cpu and ref are", origin,
                    given, equals + 1);
  (void)snprintf(ret_alias, DSC_CCL_ALIAS_MAX, "%s", given);
  return DISCO_OK;
}

const char *dsc_ccl_alias_target(const char *alias, const char *name) {
  size_t size = strlen(name);
  return strncmp(alias, name, size) == 0 && alias[size] == '=' ? alias + size + 1 : NULL;
}

void dsc_ccl_name(const char *alias, char ret_name[DSC_CCL_ALIAS_MAX]) {
  if (dsc_ccl_alias_read(alias, ret_name) == DISCO_OK && ret_name[0] != 0)
    *strchr(ret_name, '=') = 0;
  else
    (void)snprintf(ret_name, DSC_CCL_ALIAS_MAX, "cpu");
}
