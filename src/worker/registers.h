/* A worker's registers: a growing array of owned values, unset = None. One thread: the worker's.
 *
 * A poisoned register holds no value but the number of the command that should have made one and failed, or was skipped
 * after a failure. It is a type index of its own, so that an Error object a function returns stays a value. */
#ifndef DSC_WORKER_REGISTERS_H
#define DSC_WORKER_REGISTERS_H

#include "ffi/value.h"

enum { DSC_POISON = -3 };

typedef struct {
  TVMFFIAny *values;
  uint32_t size;
  uint64_t missing; /* a command whose register there was no memory for: what lies past the end is poisoned. 0: none */
} dsc_registers;

void dsc_registers_fini(dsc_registers *registers);
/* Make room for `reg`. DISCO_MEMORY. */
disco_status dsc_registers_grow(dsc_registers *registers, uint32_t reg);

static inline bool dsc_is_poison(const TVMFFIAny *value) { return value->type_index == DSC_POISON; }

static inline TVMFFIAny dsc_poison(uint64_t cause) {
  return (TVMFFIAny){.type_index = DSC_POISON, .zero_padding = 0, .v_int64 = (int64_t)cause};
}

/* Borrowed; None when never written. */
static inline TVMFFIAny dsc_registers_get(const dsc_registers *registers, uint32_t reg) {
  if (reg < registers->size) return registers->values[reg];
  return registers->missing == 0 ? dsc_none() : dsc_poison(registers->missing);
}

/* Takes over `value`; the old value is dropped after the new one is in place (its deleter may run user code). */
static inline disco_status dsc_registers_set(dsc_registers *registers, uint32_t reg, TVMFFIAny value) {
  if (reg >= registers->size) {
    disco_status status = dsc_registers_grow(registers, reg);
    if (status != DISCO_OK) {
      dsc_value_drop(&value);
      return status;
    }
  }
  TVMFFIAny old = registers->values[reg];
  registers->values[reg] = value;
  if (dsc_is_object(&old)) dsc_object_unref(old.v_obj);
  return DISCO_OK;
}

static inline void dsc_registers_clear(dsc_registers *registers, uint32_t reg) {
  if (reg < registers->size) (void)dsc_registers_set(registers, reg, dsc_none());
}

#endif
