/* The controller's side of a Llama on workers: a session, the model loaded on it, and the functions of functions.h as
 * calls that wait. Used by one thread.
 *
 * Functions return false with the error in disco_last_error(); DISCO_INTERRUPTED after runner_interrupt(). */
#ifndef LLAMA_RUNNER_H
#define LLAMA_RUNNER_H

#include <stdint.h>

#include "disco/disco.h"
#include "worker/functions.h"
#include "worker/part.h"

enum runner_function {
  RUN_LOAD,
  RUN_PREFILL,
  RUN_DECODE,
  RUN_REWIND,
  RUN_SCORE,
  RUN_STAGES,
  RUN_LOGITS,
  RUN_FIGURES,
  RUN_COLLECTIVES,
  RUN_FUNCTIONS
};

typedef struct {
  int32_t workers;
  disco_session *session;
  disco_dref *functions[RUN_FUNCTIONS], *state;
  TVMFFIAny *answers; /* one of each worker */
} runner;

/* How loading goes: bytes that all workers have read, of so many; total 0: not known yet. */
typedef void (*runner_progress)(void *context, uint64_t done, uint64_t total);

/* Start workers and let them load `model` with room for `capacity` tokens. Also after a failure runner_close(). */
bool runner_open(runner *self, const char *model, int32_t workers, bool is_processes, precision how, int64_t capacity,
                 runner_progress progress, void *context);
/* Ends the session; waits for the workers. Its own failure is dropped: whoever lost a worker knows it already. */
void runner_close(runner *self);

/* Append tokens; the next one. */
bool runner_prefill(runner *self, const int32_t *tokens, int64_t count, double temperature, int64_t seed,
                    int32_t *ret_token);
bool runner_decode(runner *self, int32_t token, double temperature, int64_t seed, int32_t *ret_token);
bool runner_rewind(runner *self, int64_t position);
/* The sum of the tokens' log probabilities but for the first. */
bool runner_score(runner *self, const int32_t *tokens, int64_t count, double *ret_sum);

/* Call a function with the state, and tokens if there are any; the answers of all workers lie in self->answers until
 * runner_drop(). */
bool runner_ask(runner *self, enum runner_function function, const int32_t *tokens, int64_t count);
void runner_drop(runner *self);

/* From a signal handler: what waits now ends soon, and so does what waits later. */
void runner_interrupt(void);
bool runner_is_interrupted(void);

#endif
