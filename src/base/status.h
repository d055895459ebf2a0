/* Errors inside the library: a status code travels up the stack, the sentence and its fields wait in the thread's error
 * record.
 *
 * Whoever notices a fault first writes the sentence with dsc_fail(); callers pass the code on. Nothing here allocates
 * on success. Any thread. */
#ifndef DSC_BASE_STATUS_H
#define DSC_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>

#include "disco/status.h"

#define DSC_KIND_MAX 64 /* longest error kind that is kept */

/* An error with all its fields, owned strings (NULL for none). Zeroed memory with dsc_error_init() is a valid empty
 * one. */
typedef struct {
  disco_status status;
  int32_t worker, group, signal_number, exit_status;
  int64_t pid;
  uint64_t sequence;
  bool is_echo; /* left a collective because somebody else failed: the cause only when nothing else did */
  char kind[DSC_KIND_MAX];
  char *message, *backtrace, *function, *host, *text;
} dsc_error;

void dsc_error_init(dsc_error *error);
void dsc_error_fini(dsc_error *error);
/* Deep copy; strings that cannot be allocated are left out. ret_copy is initialised by the call. */
void dsc_error_copy(const dsc_error *error, dsc_error *ret_copy);
/* Fill what the caller's struct_size has room for; the strings stay the error's. */
void dsc_error_view(const dsc_error *error, disco_error_info *ret_info);

/* The first status of this kind (DISCO_VALUE for "ValueError"), DISCO_RAISED for kinds that are not in the list. */
disco_status dsc_status_of_kind(const char *kind);

/* Replace this thread's error by `status` with the sentence, and return `status`: `return dsc_fail(DISCO_VALUE,
 * "...")`. */
disco_status dsc_fail(disco_status status, const char *format, ...) DISCO_PRINTF(2, 3);
disco_status dsc_failv(disco_status status, const char *kind, const char *format, va_list args) DISCO_PRINTF(3, 0);
/* The same with all fields: the thread takes over *error (which is empty afterwards). Returns its status. */
disco_status dsc_fail_with(dsc_error *error);
/* Lend this thread a record, so that an error is not lost for want of memory; take it back before its memory goes. A
 * thread that has one keeps it. */
void dsc_thread_error_lend(dsc_error *record);
void dsc_thread_error_take_back(dsc_error *record);
/* This thread's error, or NULL when nothing failed on it. Lives until the thread's next failure. */
const dsc_error *dsc_thread_error(void);

#endif
