/* What the tests of this suite share: sessions whose workers are processes of this very program, functions that end
 * them, and a census of what is left afterwards. Nothing here asserts a time: what should happen is given BOUND_MS.
 *
 * The program plays three parts. Started by a test run it is the tests; as `PROGRAM worker ...` it is a worker; as
 * `PROGRAM role NAME ...` it is a process that a test looks at from outside: a controller that is killed, say. */
#ifndef DEATHS_SUPPORT_H
#define DEATHS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "disco/disco.h"
#include "disco/worker.h"
#include "ffi/value.h"

enum { BOUND_MS = 5000 };

#define SANITIZED DSC_SANITIZED

/* ---- The program ---- */

/* `run` returns the exit status. */
typedef struct {
  const char *name;
  int (*run)(int argc, char **argv);
} role;

/* The body of every main. roles: ends with a NULL name; may be NULL. DISCO_TEST_FILTER=pattern picks tests. */
int deaths_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t count,
                const role *roles);
/* What else a worker process does before it is one (NULL: nothing). It gets the command line; TEST_START tells it what
 * the test wants. Set before deaths_main. */
extern void (*deaths_worker_hook)(int argc, char **argv);

/* n / DISCO_TEST_SCALE, at least `least`. */
int scaled(int n, int least);
void sleep_ms(int ms);
int64_t now_ms(void);
/* Until test(context) is true, at most BOUND_MS; returns what it was last. */
bool until(bool (*test)(void *context), void *context);

/* ---- Sessions ---- */

/* Workers of this program; pipe: not on the shared memory. What they print goes nowhere. */
disco_session_options options_of(int32_t workers, bool pipe);
disco_session *open_with(const disco_session_options *options);
disco_session *open_session(int32_t workers, bool pipe);
/* Shutdown must be DISCO_OK; drops the reference. */
void close_session(disco_session *session);

/* ---- Short forms ---- */

void check_ok(disco_status status, const char *what, const char *file, int line);
#define OK(call) check_ok((call), #call, __FILE__, __LINE__)

TVMFFIAny of_text(const char *text); /* borrowed */
TVMFFIAny of_dref(disco_dref *dref);
#define ARGS(...) \
  (const TVMFFIAny[]){__VA_ARGS__}, (int32_t)(sizeof((const TVMFFIAny[]){__VA_ARGS__}) / sizeof(TVMFFIAny))
#define NO_ARGS NULL, 0

disco_dref *find(disco_session *session, const char *name);
/* Post; the result is dropped. */
void post(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args);
disco_dref *call(disco_session *session, const char *name, const TVMFFIAny *args, int32_t num_args);
int64_t get_int(disco_dref *dref, int32_t worker);
/* Call it and read what this worker returned. */
int64_t ask(disco_session *session, int32_t worker, const char *name, const TVMFFIAny *args, int32_t num_args);
/* The process of a worker. */
pid_t pid_of(disco_session *session, int32_t worker);
/* All workers still do what they are told. */
void expect_works(disco_session *session);

disco_error_info last_error(void);
void contains(const char *text, const char *part, const char *file, int line);
#define CONTAINS(text, part) contains((text), (part), __FILE__, __LINE__)
/* The status is DISCO_LOST and names this worker; returns the error. */
disco_error_info expect_lost(disco_status status, int32_t worker);
/* Call until the session says so: DISCO_LOST of this worker. */
disco_error_info await_lost(disco_session *session, int32_t worker);
/* Every call but the exempt ones says again what `error` said; the exempt ones work. `dref` is one of the session's. */
void expect_sticky(disco_session *session, disco_dref *dref);
/* The done descriptor becomes readable within the bound. */
void await_news(disco_session *session);

/* ---- What is left ---- */

typedef struct {
  int threads;     /* of the library, but for its monitor and reaper */
  int descriptors; /* of this process */
  int memfds;      /* mapped */
} census;

/* Makes one session first, so that what stays for good is there. */
census census_begin(void);
/* Within the bound: as before, and no child. */
void census_end(const census *before);

/* Warnings of the library since log_begin(), as one text. */
void log_begin(void);
bool log_has(const char *part);
void log_end(void);

/* ---- Other processes ---- */

typedef struct {
  pid_t pid;
  int out; /* what it prints */
} other;

/* Start this program in a role. */
other start_role(const char *const *words);
/* One number that it prints on a line of its own, within the bound. */
int64_t read_number(other *self);
/* The exit status within the bound (128 + n: signal n). Closes. */
int end_role(other *self);
/* The same, and what it said if that is not 0. */
void expect_role_ok(other *self);
/* This process, to which orphans come, sees that one end, within the bound. Returns its wait status (0 when its own
 * parent took it), -1: it lives. */
int await_end(pid_t pid);
/* For roles: one line to the test. */
void say(const char *format, ...) DISCO_PRINTF(1, 2);
/* For roles: cmocka is not there. Prints and leaves when it does not hold. */
#define NEED(condition) need((condition), #condition, __LINE__)
void need(bool holds, const char *what, int line);

/* ---- Functions on workers ----
 *
 *   d.id(), d.pid()                       the worker's id, its process
 *   d.echo(x), d.size(x)                  x; the bytes of a string, bytes or tensor, plus its first and last one
 *   d.big(n)                              Bytes of that many
 *   d.count()                             counts its calls in this process
 *   d.raise(worker, kind, message)        raises there (-1: everywhere); the id elsewhere
 *   d.nap(worker, ms), d.hang(worker)     sleeps there, for ever
 *   d.die(worker, ms, how, others_ms)     sleeps, prints DEATHS_LINES lines to stderr, and ends there; sleeps elsewhere
 */
enum { DEATHS_LINES = 300 };
/* how */
enum { BY_EXIT = 100, BY_QUICK_EXIT = 200 }; /* + status; smaller ones are signals */
int64_t counted_here(void);
/* The worker of the calling thread, -1: none. */
int32_t my_id(void);
void register_function(const char *name, TVMFFISafeCallType function);

#endif
