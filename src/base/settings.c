#include "base/settings.h"

#include <stdlib.h>

static const dsc_setting_entry table[DSC_NUM_SETTINGS] = {
#define ROW(name, fallback, meaning) [DSC_SETTING_##name] = {"DISCO_" #name, fallback, meaning},
    DSC_SETTING_LIST(ROW)
#undef ROW
};

const dsc_setting_entry *dsc_setting_row(dsc_setting_id id) { return &table[id]; }

bool dsc_setting_is_given(dsc_setting_id id) {
  const char *value = secure_getenv(table[id].name);
  return value != NULL && value[0] != 0;
}

const char *dsc_setting(dsc_setting_id id) {
  const char *value = secure_getenv(table[id].name);
  return value != NULL && value[0] != 0 ? value : table[id].fallback;
}
