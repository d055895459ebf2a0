/* Named points where a test may pause a thread or make it fail. Compiled in only with DISCO_INJECT (debug, sanitizer
 * and test builds): in the released library a point is nothing at all.
 *
 * Points: session.published (a record is visible, the doorbell not yet rung), worker.failed (failed is stored, the
 * failure count not yet), session.telling (a failure is collected, the resume record not yet posted),
 * worker.before_done (a command has run, its done number is not yet stored), worker.mid_slot (an error slot is half
 * written), worker.before_sleep, worker.progress (a function said how far it is, and looks whether anybody waits for
 * it), session.unlocked, pump.before_done (a worker behind a channel is done, which its status line does not say yet).
 *
 * In collectives: collective.begin (nothing posted yet), .entered (our entry is there), .storing (about to touch
 * another's tensor), .mid_store (part of the data is written), .reduced, .taken (a chunk was reduced, read, nobody
 * knows yet), .before_finished, .aborted (the mark is set, we still wait for others), .sending, .receiving, .reading
 * (transfers between two). */
#ifndef DSC_BASE_INJECT_H
#define DSC_BASE_INJECT_H

#if defined(DISCO_INJECT) && DISCO_INJECT
typedef void (*dsc_inject_fn)(const char *point, void *context);
/* Test side: call fn at every point, or never (NULL). Not while threads of the library run. */
void dsc_inject_set(dsc_inject_fn fn, void *context);
void dsc_inject_point(const char *point);
/* Test side: make the n-th allocation from now fail (1 = the next), 0 to stop. Returns how many were counted since the
 * last call. */
long dsc_inject_fail_allocation(long n);
int dsc_inject_allocation_fails(void);
#define DSC_POINT(name) dsc_inject_point(name)
#define DSC_ALLOCATION_FAILS() dsc_inject_allocation_fails()
#else
#define DSC_POINT(name) ((void)0)
#define DSC_ALLOCATION_FAILS() 0
#endif

#endif
