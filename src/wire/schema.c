#include "wire/schema.h"

#include <stddef.h>

const char *dsc_message_name(int64_t message) {
  switch (message) {
#define NAME_CASE(name, number, skippable, reg, target, slots, meaning) \
  case number: return #name;
    DSC_MESSAGE_LIST(NAME_CASE)
#undef NAME_CASE
  default: return NULL;
  }
}

bool dsc_message_skippable(uint8_t message) {
  switch (message) {
#define SKIP_CASE(name, number, skippable, reg, target, slots, meaning) \
  case number: return skippable;
    DSC_MESSAGE_LIST(SKIP_CASE)
#undef SKIP_CASE
  default: return false;
  }
}
