/* The controller's functions as global functions: how one reads its arguments, and the table that they stand in. */
#ifndef DSC_API_CALL_H
#define DSC_API_CALL_H

#include "disco/disco.h"
#include "ffi/object.h"
#include "ffi/value.h"

typedef struct {
  const char *name; /* whole, for messages */
  const TVMFFIAny *args;
  int32_t count;
  TVMFFIAny *result; /* None */
} dsc_call;

/* A row of a table of global functions. */
typedef struct {
  const char *name;
  int32_t arguments; /* -1: any number */
  disco_status (*function)(const dsc_call *c);
} dsc_call_entry;

/* Of libdisco's own (own_globals.c), beside those of TVM's client (globals.c). */
extern const dsc_call_entry dsc_own_entries[];
extern const int dsc_own_entry_count;

/* Argument `index`, borrowed unless said otherwise; DISCO_TYPE, DISCO_VALUE name it. */
disco_status dsc_call_session(const dsc_call *c, int32_t index, disco_session **ret_session);
/* A DRef, of any session: whoever uses it compares. */
disco_status dsc_call_dref(const dsc_call *c, int32_t index, dsc_dref **ret_dref);
disco_status dsc_call_int(const dsc_call *c, int32_t index, int64_t low, int64_t high, int64_t *ret_int);
disco_status dsc_call_int32(const dsc_call *c, int32_t index, int64_t low, int64_t high, int32_t *ret_int);
/* A copy of a string argument (free()). */
disco_status dsc_call_string(const dsc_call *c, int32_t index, char **ret_text);

#endif
