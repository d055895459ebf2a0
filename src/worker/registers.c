#include "worker/registers.h"

#include <stdlib.h>

#include "base/inject.h"

void dsc_registers_fini(dsc_registers *registers) {
  for (uint32_t i = 0; i < registers->size; i++) dsc_registers_clear(registers, i);
  free(registers->values);
  *registers = (dsc_registers){0};
}

disco_status dsc_registers_grow(dsc_registers *registers, uint32_t reg) {
  uint32_t size = registers->size < 32 ? 64 : registers->size * 2;
  if (size <= reg) size = reg + 1;
  TVMFFIAny *values = DSC_ALLOCATION_FAILS() ? NULL : realloc(registers->values, (size_t)size * sizeof(*values));
  if (values == NULL) return dsc_fail(DISCO_MEMORY, "no memory for %u registers", size);
  const TVMFFIAny unset = registers->missing == 0 ? dsc_none() : dsc_poison(registers->missing);
  for (uint32_t i = registers->size; i < size; i++) values[i] = unset;
  registers->values = values;
  registers->size = size;
  return DISCO_OK;
}
