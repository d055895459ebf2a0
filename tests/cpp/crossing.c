/* A C program and a C++ library share sessions and DRefs: whoever made them, either drives them. */
#include "crossing.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <disco/value.h>

#define CHECK(condition)                                                                                   \
  do {                                                                                                     \
    if (!(condition)) {                                                                                    \
      fprintf(stderr, "%s:%d: not so: %s\n%s\n", __FILE__, __LINE__, #condition, disco_last_error_text()); \
      exit(1);                                                                                             \
    }                                                                                                      \
  } while (0)

static uint32_t references(const void *object) {
  return (uint32_t)((const TVMFFIObject *)object)->combined_ref_count; /* the low half counts the strong ones */
}

/* C's session and DRefs in C++. */
static void c_to_cpp(bool processes) {
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(3, 1);
  disco_session *session = NULL;
  disco_dref *ranks = NULL, *function = NULL;
  CHECK((processes ? disco_session_create_process : disco_session_create_threaded)(&options, &session) == DISCO_OK);
  CHECK(disco_session_get_global_func(session, "runtime.disco.worker_rank", &function) == DISCO_OK);
  CHECK(disco_call(session, function, NULL, 0, &ranks) == DISCO_OK);
  CHECK(crossing_sum(ranks) == 0 + 1 + 2 && references(ranks) == 1);
  if (!processes) { /* worker processes do not have the C++ library's functions */
    TVMFFIAny value = disco_value_none();
    disco_dref *number = crossing_number(session, 14);
    CHECK(number != NULL && disco_dref_session(number) == session && references(number) == 1);
    CHECK(disco_debug_get(number, 2, DISCO_FOREVER, &value) == DISCO_OK && value.v_int64 == 14);
    disco_dref_unref(number);
  }
  disco_dref_unref(function);
  disco_session_ref(session);
  CHECK(crossing_take(session, ranks) == 3);
  CHECK(references(session) == 1); /* C++ dropped what it was given, the DRef's too */
  disco_session_unref(session);
}

/* C++'s session in C. */
static void cpp_to_c(void) {
  TVMFFIAny three = disco_value_int(3);
  disco_session *session = crossing_make(2);
  disco_dref *echo = NULL, *number = NULL;
  CHECK(session != NULL && disco_session_num_workers(session) == 2);
  CHECK(disco_session_get_global_func(session, "crossing.echo", &echo) == DISCO_OK);
  CHECK(disco_call(session, echo, &three, 1, &number) == DISCO_OK);
  CHECK(crossing_sum(number) == 6);
  CHECK(disco_session_shutdown(session) == DISCO_OK);
  CHECK(crossing_number(session, 1) == NULL); /* closed: the error stays on the C++ side */
  disco_dref_unref(number);
  disco_dref_unref(echo);
  CHECK(references(session) == 1);
  disco_session_unref(session);
}

int main(void) {
  alarm(60);
  c_to_cpp(false);
  c_to_cpp(true);
  cpp_to_c();
  return 0;
}
