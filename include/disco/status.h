/* Status codes and the error record of libdisco.
 *
 * Every public function that can fail returns a disco_status: DISCO_OK (0) or a code that says which kind of error it
 * was. The sentence and its fields are kept per thread: disco_last_error() reads what the calling thread's last failed
 * call left. Nothing is printed.
 */
#ifndef DISCO_STATUS_H
#define DISCO_STATUS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DISCO_API __attribute__((visibility("default")))
#define DISCO_MUST_USE __attribute__((warn_unused_result))
#define DISCO_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define DISCO_API
#define DISCO_MUST_USE
#define DISCO_PRINTF(fmt, first)
#endif

/* name, value, kind as TVM-FFI and Python see it, meaning. The one list, from which the enum and the table of
 * kinds are made; docs/errors.md tells how to read an error. */
#define DISCO_STATUS_LIST(X)                                                                                      \
  X(OK, 0, "", "no error")                                                                                        \
  X(TYPE, 1, "TypeError", "wrong number or type of arguments, or an object that cannot travel")                   \
  X(VALUE, 2, "ValueError", "bad count, id, name, kind or limit; a DRef of another session; a released register") \
  X(MEMORY, 3, "MemoryError", "no memory")                                                                        \
  X(RUNTIME, 4, "RuntimeError", "the operating system refused, or the call is not allowed here")                  \
  X(RAISED, 5, "RuntimeError", "a worker's function raised: the kind, message and backtrace are its own")         \
  X(LOST, 6, "WorkerLostError", "a worker died, stopped, or broke the protocol")                                  \
  X(COLLECTIVE, 7, "CollectiveError", "a collective was mismatched or released")                                  \
  X(TIMEOUT, 8, "TimeoutError", "the deadline passed; what was posted goes on")                                   \
  X(INTERRUPTED, 9, "KeyboardInterrupt", "Ctrl-C, or another pending signal of the host language")                \
  X(CLOSED, 10, "SessionClosedError", "the session was shut down")

typedef enum {
#define DISCO_STATUS_ENUM(name, value, kind, meaning) DISCO_##name = value,
  DISCO_STATUS_LIST(DISCO_STATUS_ENUM)
#undef DISCO_STATUS_ENUM
} disco_status;

/* One error with its fields. All strings are NUL-terminated and never NULL ("" when there is nothing to say). Numbers
 * that do not apply are -1, sequence is 0. */
typedef struct {
  size_t struct_size; /* set by the caller to sizeof(disco_error_info): fields past it are left alone */
  disco_status status;
  int32_t worker;        /* the culprit's worker id */
  int32_t group;         /* its group */
  int32_t signal_number; /* the signal that ended it, for LOST */
  int32_t exit_status;   /* its exit status, for LOST */
  int64_t pid;           /* the process it ran in */
  uint64_t sequence;     /* the command that failed */
  const char *kind;      /* "ValueError": the class a Python user would catch */
  const char *message;   /* what was raised, one sentence */
  const char *backtrace; /* innermost call first, as TVM-FFI stores it */
  const char *function;  /* the function that raised */
  const char *host;      /* where */
  const char *text;      /* the whole error: cause, culprit, state, what to try; four lines when a worker raised it */
} disco_error_info;

/* The last error that a libdisco call reported to the calling thread. Returns DISCO_OK and fills *ret_error, or
 * DISCO_VALUE when this thread has none. The strings live until this thread's next libdisco call that fails or reads an
 * error. Any thread; never blocks. */
DISCO_API disco_status disco_last_error(disco_error_info *ret_error);

/* The full text of disco_last_error(), or "" when there is none: for printf. Same lifetime. */
DISCO_API const char *disco_last_error_text(void);

/* Leave a sentence for `status` as the calling thread's error and return it: for a channel of one's own
 * (disco/channel.h). The kind is the status's own. */
DISCO_API disco_status disco_fail(disco_status status, const char *format, ...) DISCO_PRINTF(2, 3);

/* "ValueError" for DISCO_VALUE, and so on; "" for DISCO_OK and for a number that is no status. A constant. */
DISCO_API const char *disco_status_kind(disco_status status);

#ifdef __cplusplus
}
#endif
#endif
