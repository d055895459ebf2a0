/* Between the worker function, the hook at the points and the test's thread. */
#ifndef STUCK_PAUSES_H
#define STUCK_PAUSES_H

#include "stuck/support.h"

/* The calling worker: what it does at which point. */
void arm(int32_t worker, const task *what);
void disarm(void);
void wait_for_gate(void);

#endif
