/* What the tests of this suite share: one way to make a session, functions to run on workers, gates that hold a worker
 * inside a function, pauses at the library's named points, and bounded waiting. Nothing here asserts a time: whatever
 * should happen is given FAULTS_BOUND_MS. */
#ifndef FAULTS_SUPPORT_H
#define FAULTS_SUPPORT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "disco/disco.h"
#include "disco/worker.h"

enum { FAULTS_BOUND_MS = 5000, FAULTS_ALL = -1 /* a mask of workers: every one */ };

/* ---- The process ---- */

/* First thing in main: the alarm, and the functions that the tests call. DISCO_TEST_FILTER=pattern picks tests. */
void faults_begin(void);
/* n / DISCO_TEST_SCALE, at least 1. */
int64_t faults_scaled(int64_t n);

/* Until test(context) is true, at most FAULTS_BOUND_MS; returns what it was last. */
bool faults_until(bool (*test)(void *context), void *context);
void faults_sleep_ms(int ms);

/* Threads of the library in this process (their names begin with "disco"), but for the reaper, which stays. */
int faults_library_threads(void);
bool faults_library_threads_gone(void);
/* Visit a file under /proc of each of them, here with the reaper; returns how many. */
int faults_each_library_thread(const char *file, void (*visit)(const char *path, const char *name));
/* Entries of a folder under /proc/self, lines of a file there. */
int faults_count_entries(const char *folder);
int faults_count_lines(const char *file);

/* ---- Sessions: the only place that makes them ---- */

disco_session *faults_open(int32_t workers);
disco_session *faults_open_with(const disco_session_options *options);
/* Options that faults_open() uses, for a test to change. */
disco_session_options faults_options(int32_t workers, int32_t groups);
/* Shutdown must be DISCO_OK; drops the reference. */
void faults_close(disco_session *session);

/* ---- Short forms of what every test does. They fail the test when the library fails. ---- */

void faults_check(disco_status status, const char *what, const char *file, int line);
#define OK(call) faults_check((call), #call, __FILE__, __LINE__)

TVMFFIAny faults_int(int64_t number);
TVMFFIAny faults_str(const char *text);
TVMFFIAny faults_dref(disco_dref *dref);

disco_dref *faults_function(disco_session *session, const char *name);
/* Call the function with num_args values of TVMFFIAny. */
disco_dref *faults_call(disco_dref *function, int num_args, ...);
/* The same, result dropped. */
void faults_post(disco_dref *function, int num_args, ...);
disco_status faults_try(disco_dref *function, disco_dref **ret_result, int num_args, ...);
int64_t faults_get(disco_dref *dref, int32_t worker);
/* All workers have this int in the register. */
void faults_all_have(disco_dref *dref, int64_t number);
disco_status faults_sync(disco_session *session);
disco_session_stats faults_stats(disco_session *session);
/* Have all workers finished what was posted? Polls, so that no error is told. */
void faults_settle(disco_session *session);
/* The calling thread's last error. */
disco_error_info faults_error(void);
/* status is `expected`, and the thread's error is of that kind and says `part`. */
void faults_refused(disco_status status, disco_status expected, const char *kind, const char *part);
void faults_contains(const char *text, const char *part);

/* ---- Functions on workers (registered by faults_begin) ----
 *
 * Masks are bits of worker ids; FAULTS_ALL is every worker.
 *   faults.add(a, b)                          a + b
 *   faults.id()                               the worker's id
 *   faults.count()                            counts the call; returns this worker's count
 *   faults.raise(mask, kind, message, trace)  raises there; returns the worker's id elsewhere
 *   faults.silent(mask)                       fails there and says nothing
 *   faults.hold(gate, mask, value)            waits there until the gate opens; returns value
 *   faults.hold_raise(gate, mask, message)    waits there until the gate opens, then raises a ValueError
 *   faults.nap(ms)                            sleeps
 *   faults.object()                           an object whose end faults_objects_dead() counts
 *   faults.error_value()                      returns an Error object, without raising it
 *   faults.raise_at_end()                     an object whose deleter raises an error
 *   faults.fill(tensor, byte)                 writes the bytes of a tensor */
int64_t faults_counted(int32_t worker);
void faults_count_reset(void);
int64_t faults_objects_made(void);
int64_t faults_objects_dead(void);
/* A new object like faults.object() makes (owned). */
TVMFFIAny faults_object(void);

/* A host tensor of bytes, all of them `byte` (owned); its first byte; its reference count. */
TVMFFIObjectHandle faults_tensor(int64_t bytes, int byte);
int faults_first_byte(TVMFFIObjectHandle tensor);
uint32_t faults_references(TVMFFIObjectHandle object);

/* ---- Gates ---- */

enum { FAULTS_GATES = 8 };
void faults_gate_close(int gate);
void faults_gate_open(int gate);
/* Until n calls are inside. */
void faults_gate_wait_inside(int gate, int n);

/* ---- Pauses at named points (base/inject.h) ---- */

enum { FAULTS_CALLER = -1 };
/* The next time that worker `who` (or, for FAULTS_CALLER, a thread that called faults_mark_caller) comes to `point` it
 * stops there. `pass`: let so many pass first. One pause at a time. */
void faults_pause_at(const char *point, int32_t who, int pass);
void faults_pause_wait_reached(void);
bool faults_pause_is_reached(void);
void faults_pause_release(void);
void faults_mark_caller(void);

/* ---- Threads that make one call each ---- */

typedef struct faults_thread faults_thread;
struct faults_thread {
  void (*run)(faults_thread *self); /* asserts nothing: it runs beside the test */
  disco_session *session;
  disco_dref *dref;
  int32_t worker;
  int64_t timeout_ms;
  bool caller; /* pauses for FAULTS_CALLER stop it */
  disco_status status;
  char kind[64], text[1024];
  int64_t number;
  void *context;
  _Atomic bool started, ended;
  pthread_t thread;
};

void faults_start(faults_thread *thread);
/* Within the bound, or the test fails. */
void faults_join(faults_thread *thread);
/* Bodies: sync(worker), debug_get(dref, worker) into number, call of dref without arguments, shutdown. They leave the
 * error's kind and text in the thread. */
void faults_run_sync(faults_thread *self);
void faults_run_get(faults_thread *self);
void faults_run_call(faults_thread *self);
void faults_run_shutdown(faults_thread *self);
void faults_keep_error(faults_thread *self, disco_status status);

#endif
