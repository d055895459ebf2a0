/* What may end a wait before its condition holds. Every wait of the library has a condition and a guard; the guard is
 * asked in every phase (spin, yield, sleep), so that no wait can outlive a fault. */
#ifndef DSC_BASE_GUARD_H
#define DSC_BASE_GUARD_H

#include <stdint.h>

#include "base/status.h"

typedef struct dsc_guard dsc_guard;
struct dsc_guard {
  /* Cheap: a few loads. DISCO_OK to go on waiting, else the wait ends with this status (whose sentence is already
   * written). May be NULL. */
  disco_status (*check)(dsc_guard *guard);
  /* Dear: may take locks or poll signals; called while no lock is held, every tick_ns of waiting. May be NULL. */
  disco_status (*tick)(dsc_guard *guard);
  int64_t deadline_ns; /* on dsc_clock_now_ns()'s clock; DSC_NO_DEADLINE */
  int64_t tick_ns;     /* 0: never ticks, sleeps are unbounded until the doorbell rings */
};

#define DSC_NO_DEADLINE INT64_MAX

#endif
