/* What the tests of this suite share. Each test is the way to one bug that a review of the worker processes found; what
 * should happen is given BOUND_MS, nothing asserts a time.
 *
 * The program is also its own workers' (`PROGRAM worker ...`) and, as `PROGRAM role`, a process that a test watches. */
#ifndef PROCESSES_SUPPORT_H
#define PROCESSES_SUPPORT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <cmocka.h>

#include "disco/disco.h"
#include "disco/worker.h"
#include "ffi/value.h"

enum { BOUND_MS = 5000 };

/* ---- The program ---- */

/* The body of every main. role: NULL, or what `PROGRAM role` does; returns the exit status. Workers look at TEST_START:
 * "sleep" never answers, "exit" leaves with status 7. DISCO_TEST_FILTER=pattern picks tests. */
int processes_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count,
                   int (*role)(void));

int scaled(int n, int least); /* n / DISCO_TEST_SCALE, at least `least` */
void sleep_ms(int ms);
int64_t now_ms(void);
/* Until test(context) is true, at most BOUND_MS; returns what it was last. */
bool until(bool (*test)(void *context), void *context);

/* ---- Calls that once hung ---- */

/* A call on a thread of its own. If it does not come back in time there is no way to go on: the program ends. */
typedef struct {
  pthread_t thread;
  void (*run)(void *context);
  void *context;
} beside;
void start_beside(beside *self, void (*run)(void *context), void *context);
void join_bounded(beside *self, const char *what);
void run_bounded(void (*run)(void *context), void *context, const char *what);

/* ---- Sessions ---- */

/* Workers of this program; what they print goes nowhere. */
disco_session_options options_of(int32_t workers, bool pipe);
disco_session *open_with(const disco_session_options *options);
disco_session *open_session(int32_t workers, bool pipe);
/* In time; returns its status. Keeps the reference. */
disco_status shut_down(disco_session *session);
/* shut_down() must be DISCO_OK; drops the reference. */
void close_session(disco_session *session);
/* The same whatever shutdown says: a worker was killed. */
void end_session(disco_session *session);
void await_all(disco_session *session); /* sync */

void check_ok(disco_status status, const char *what, const char *file, int line);
#define OK(call) check_ok((call), #call, __FILE__, __LINE__)
void contains(const char *text, const char *part, const char *file, int line);
#define CONTAINS(text, part) contains((text), (part), __FILE__, __LINE__)

#define ARGS(...) \
  (const TVMFFIAny[]){__VA_ARGS__}, (int32_t)(sizeof((const TVMFFIAny[]){__VA_ARGS__}) / sizeof(TVMFFIAny))
#define NO_ARGS NULL, 0
disco_dref *find(disco_session *session, const char *name);
/* Post; the result is dropped. */
void post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args);
disco_dref *call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args);
/* An owned string of that many bytes. */
TVMFFIAny text_of(size_t size);
bool is_text_of(const TVMFFIAny *value, size_t size);
/* The process of a worker. */
pid_t pid_of(disco_session *session, int32_t worker);
/* sync until it is DISCO_LOST of this worker; returns the error. */
disco_error_info await_lost(disco_session *session, int32_t worker);
/* This process has no child (that nobody waited for). */
bool has_no_child(void *unused);
/* Descriptors of ours whose link has this part. */
int count_descriptors(const char *part);

/* ---- Functions on workers ----
 *
 *   p.pid()                          the worker's process
 *   p.nap(ms, worker)                sleeps there
 *   p.text(n)                        a string of n bytes
 *   p.nop(...), p.die(worker)        nothing; SIGKILL there
 *   p.print(worker)                  prints lines to stderr there, for ever
 */

#endif
