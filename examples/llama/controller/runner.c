#include "controller/runner.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "disco/value.h"
#include "disco/worker.h"

/* How long a wait may not notice Ctrl-C, and what a worker has to end in: less than a second together. */
enum { SLICE_MS = 100, GRACE_MS = 600 };

/* A worker with fewer heads waits in every layer for one with more, the longer the fuller the context is. Were it to
 * fall asleep, the other would pay for the wake in each of these allreduces, and it would come late itself. */
enum { SPIN_US = 1000 };

static volatile sig_atomic_t is_interrupted;

void runner_interrupt(void) { is_interrupted = 1; }
bool runner_is_interrupted(void) { return is_interrupted != 0; }

static bool interrupted(void) { return refuse(DISCO_INTERRUPTED, "interrupted"); }

/* ---- Calls ---- */

/* Wait for what was posted; `progress` (may be NULL) is called once in a while. */
static bool wait_for_all(runner *self, void (*progress)(void *context), void *context) {
  for (;;) {
    if (is_interrupted) return interrupted();
    const disco_status status = disco_session_sync(self->session, DISCO_ALL_WORKERS, SLICE_MS);
    if (progress != NULL) progress(context);
    if (status != DISCO_TIMEOUT) return status == DISCO_OK;
  }
}

/* Call a function and get worker 0's answer: one command and one reply when all goes well. */
static bool call(runner *self, enum runner_function function, TVMFFIAny *args, int32_t num_args,
                 TVMFFIAny *ret_answer) {
  disco_dref *answer = NULL;
  if (is_interrupted) return interrupted();
  args[0] = disco_dref_arg(self->state);
  if (disco_call(self->session, self->functions[function], args, num_args, &answer) != DISCO_OK) return false;
  disco_status status = disco_debug_get(answer, 0, SLICE_MS, ret_answer);
  if (status == DISCO_TIMEOUT)
    status = wait_for_all(self, NULL, NULL) ? disco_debug_get(answer, 0, DISCO_FOREVER, ret_answer) : DISCO_RUNTIME;
  disco_dref_unref(answer);
  return status == DISCO_OK;
}

static bool tensor_of(const int32_t *tokens, int64_t count, TVMFFIAny *ret_value) {
  TVMFFIObjectHandle tensor = NULL;
  if (disco_tensor_create(1, &count, (DLDataType){kDLInt, 32, 1}, (DLDevice){kDLCPU, 0}, &tensor) != DISCO_OK)
    return false;
  *ret_value = disco_value_object(tensor);
  memcpy(disco_value_tensor(ret_value)->data, tokens, (size_t)count * sizeof(*tokens));
  return true;
}

bool runner_prefill(runner *self, const int32_t *tokens, int64_t count, double temperature, int64_t seed,
                    int32_t *ret_token) {
  TVMFFIAny answer,
      args[4] = {disco_value_none(), disco_value_none(), disco_value_float(temperature), disco_value_int(seed)};
  if (!tensor_of(tokens, count, &args[1])) return false;
  const bool is_done = call(self, RUN_PREFILL, args, 4, &answer);
  disco_value_unref(&args[1]);
  if (is_done) *ret_token = (int32_t)answer.v_int64;
  return is_done;
}

bool runner_decode(runner *self, int32_t token, double temperature, int64_t seed, int32_t *ret_token) {
  TVMFFIAny answer,
      args[4] = {disco_value_none(), disco_value_int(token), disco_value_float(temperature), disco_value_int(seed)};
  if (!call(self, RUN_DECODE, args, 4, &answer)) return false;
  *ret_token = (int32_t)answer.v_int64;
  return true;
}

bool runner_rewind(runner *self, int64_t position) {
  TVMFFIAny answer, args[2] = {disco_value_none(), disco_value_int(position)};
  return call(self, RUN_REWIND, args, 2, &answer);
}

bool runner_score(runner *self, const int32_t *tokens, int64_t count, double *ret_sum) {
  TVMFFIAny answer, args[2];
  if (!tensor_of(tokens, count, &args[1])) return false;
  const bool is_done = call(self, RUN_SCORE, args, 2, &answer);
  disco_value_unref(&args[1]);
  if (is_done) *ret_sum = answer.v_float64;
  return is_done;
}

bool runner_ask(runner *self, enum runner_function function, const int32_t *tokens, int64_t count) {
  TVMFFIAny args[2] = {disco_dref_arg(self->state), disco_value_none()};
  disco_dref *answer = NULL;
  if (count > 0 && !tensor_of(tokens, count, &args[1])) return false;
  bool is_done = disco_call(self->session, self->functions[function], args, count > 0 ? 2 : 1, &answer) == DISCO_OK &&
                 wait_for_all(self, NULL, NULL) &&
                 disco_debug_get_all(answer, DISCO_FOREVER, self->workers, self->answers) == DISCO_OK;
  disco_value_unref(&args[1]);
  disco_dref_unref(answer);
  return is_done;
}

void runner_drop(runner *self) {
  for (int32_t i = 0; i < self->workers; i++) disco_value_unref(&self->answers[i]);
}

/* ---- Start and end ---- */

static bool create(runner *self, bool is_processes) {
  const char *const libraries[] = {llama_library(), NULL};
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(self->workers, 1);
  options.libraries = libraries;
  options.grace_ms = GRACE_MS;
  options.spin_us = SPIN_US;
  self->answers = calloc((size_t)self->workers, sizeof(*self->answers));
  if (self->answers == NULL) return refuse(DISCO_MEMORY, "no memory for %d workers", self->workers);
  return (is_processes ? disco_session_create_process(&options, &self->session)
                       : disco_session_create_threaded(&options, &self->session)) == DISCO_OK;
}

/* Every worker has found every function by the end of it, so all of them run. */
static bool find_functions(runner *self) {
  static const char *const names[RUN_FUNCTIONS] = {
      [RUN_LOAD] = "llama.load",     [RUN_PREFILL] = "llama.prefill", [RUN_DECODE] = "llama.decode",
      [RUN_REWIND] = "llama.rewind", [RUN_SCORE] = "llama.score",     [RUN_STAGES] = "llama.stages",
      [RUN_LOGITS] = "llama.logits", [RUN_FIGURES] = "llama.figures", [RUN_COLLECTIVES] = "llama.collectives"};
  for (int i = 0; i < RUN_FUNCTIONS; i++)
    if (disco_session_get_global_func(self->session, names[i], &self->functions[i]) != DISCO_OK) return false;
  return wait_for_all(self, NULL, NULL);
}

/* disco_session_init_ccl() waits for the workers and knows nothing of Ctrl-C: it is short once all of them run. */
static bool start_collectives(runner *self) {
  if (self->workers == 1) return true;
  int64_t *devices = calloc((size_t)self->workers, sizeof(*devices));
  if (devices == NULL) return refuse(DISCO_MEMORY, "no memory for %d workers", self->workers);
  const disco_status status = disco_session_init_ccl(self->session, "cpu", devices, self->workers);
  free(devices);
  return status == DISCO_OK;
}

typedef struct {
  runner *runner;
  runner_progress progress;
  void *context;
} watching;

static void tell(void *context) {
  const watching *self = context;
  uint64_t done = 0, total = 0;
  for (int32_t i = 0; i < self->runner->workers; i++) {
    disco_progress progress = {.struct_size = sizeof(progress)};
    if (disco_session_get_progress(self->runner->session, i, &progress) != DISCO_OK || progress.total == 0) return;
    done += progress.done;
    total += progress.total;
  }
  self->progress(self->context, done, total);
}

static bool load(runner *self, const char *model, precision how, int64_t capacity, runner_progress progress,
                 void *context) {
  const TVMFFIAny args[] = {disco_value_str(model), disco_value_int(how), disco_value_int(capacity)};
  watching watch = {self, progress, context};
  return disco_call(self->session, self->functions[RUN_LOAD], args, 3, &self->state) == DISCO_OK &&
         wait_for_all(self, progress == NULL ? NULL : tell, &watch);
}

bool runner_open(runner *self, const char *model, int32_t workers, bool is_processes, precision how, int64_t capacity,
                 runner_progress progress, void *context) {
  *self = (runner){.workers = workers};
  return create(self, is_processes) && find_functions(self) && start_collectives(self) &&
         load(self, model, how, capacity, progress, context);
}

void runner_close(runner *self) {
  for (int i = 0; i < RUN_FUNCTIONS; i++) disco_dref_unref(self->functions[i]);
  disco_dref_unref(self->state);
  if (self->session != NULL) (void)!disco_session_shutdown(self->session);
  disco_session_unref(self->session);
  free(self->answers);
  *self = (runner){0};
}
