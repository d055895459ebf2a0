#define _GNU_SOURCE /* dladdr */
#include "worker/functions.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "disco/value.h"
#include "disco/worker.h"
#include "worker/decoder.h"
#include "worker/sampler.h"

static const char state_name[] = "llama.state";

typedef struct {
  decoder *decoder;
  candidate *candidates; /* of all workers */
  share *shares;
  double figures[FIGURES];
} state;

static void destroy_state(void *pointer) {
  state *self = pointer;
  if (self == NULL) return;
  decoder_destroy(self->decoder);
  free(self->candidates);
  free(self->shares);
  free(self);
}

/* ---- Arguments ---- */

/* `types`, one letter for each argument: s text, i int, f float, t Tensor of int32, o anything. The first one is the
 * state if it is 'o'. */
static bool check(const char *name, const char *types, const TVMFFIAny *args, int32_t num_args, state **ret_state) {
  void *pointer = NULL;
  if (num_args != (int32_t)strlen(types))
    return refuse(DISCO_TYPE, "%s takes %zu arguments, not %d", name, strlen(types), num_args);
  for (int32_t i = 0; i < num_args; i++) {
    const DLTensor *tensor = types[i] == 't' ? disco_value_tensor(&args[i]) : NULL;
    const bool is_right = types[i] == 's'   ? disco_value_text(&args[i], NULL) != NULL
                          : types[i] == 'i' ? args[i].type_index == kTVMFFIInt
                          : types[i] == 'f' ? args[i].type_index == kTVMFFIFloat
                          : types[i] == 't' ? tensor != NULL && tensor->ndim == 1 && tensor->dtype.code == kDLInt &&
                                                  tensor->dtype.bits == 32 && tensor->device.device_type == kDLCPU &&
                                                  tensor->shape[0] > 0
                                            : true;
    if (!is_right) return refuse(DISCO_TYPE, "%s: argument %d has another type", name, i);
  }
  if (types[0] != 'o') return true;
  if (disco_capsule_get(&args[0], state_name, &pointer) != DISCO_OK) return false;
  *ret_state = pointer;
  return true;
}

static const int32_t *tokens_of(const TVMFFIAny *value, int64_t *ret_count) {
  const DLTensor *tensor = disco_value_tensor(value);
  *ret_count = tensor->shape[0];
  return (const int32_t *)(const void *)((const char *)tensor->data + tensor->byte_offset);
}

/* ---- Figures ---- */

/* A new tensor as the result. */
static void *result_tensor(int32_t ndim, const int64_t *shape, DLDataType dtype, TVMFFIAny *result) {
  TVMFFIObjectHandle tensor = NULL;
  if (disco_tensor_create(ndim, shape, dtype, (DLDevice){kDLCPU, 0}, &tensor) != DISCO_OK) return NULL;
  *result = disco_value_object(tensor);
  return disco_value_tensor(result)->data;
}

static int figures(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  const int64_t shape = FIGURES;
  state *s = NULL;
  (void)self;
  if (!check("llama.figures", "o", args, num_args, &s)) return disco_raise_last();
  double *to = result_tensor(1, &shape, (DLDataType){kDLFloat, 64, 1}, result);
  if (to == NULL) return disco_raise_last();
  memcpy(to, s->figures, sizeof(s->figures));
  s->figures[FIGURE_BUSY] = s->figures[FIGURE_CPU] = 0;
  return 0;
}

static int collectives(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  const float *seconds = NULL;
  state *s = NULL;
  (void)self;
  if (!check("llama.collectives", "o", args, num_args, &s)) return disco_raise_last();
  const int64_t count = decoder_collectives(s->decoder, &seconds);
  float *to = result_tensor(1, &count, (DLDataType){kDLFloat, 32, 1}, result);
  if (to == NULL) return disco_raise_last();
  if (count > 0) memcpy(to, seconds, (size_t)count * sizeof(*to));
  return 0;
}

/* ---- Loading ---- */

static bool tell(void *context, uint64_t bytes_read, uint64_t bytes) {
  (void)context;
  return disco_worker_progress(bytes_read, bytes) == DISCO_OK;
}

static bool load_state(const char *path, precision how, int64_t capacity, state *to) {
  disco_worker_info me = {.struct_size = sizeof(me)};
  model_part part;
  if (disco_worker_get_info(&me) != DISCO_OK) return false;
  if (capacity < 1 || capacity > INT32_MAX)
    return refuse(DISCO_VALUE, "a context of %lld tokens cannot be", (long long)capacity);
  if (how != PRECISION_EXACT && how != PRECISION_FAST)
    return refuse(DISCO_VALUE, "precision is 0 (exact) or 1 (fast), not %d", (int)how);
  const double start = seconds_now();
  if (!part_load(path, how, me.worker_id, me.num_workers, tell, NULL, &part)) return false;
  to->figures[FIGURE_WEIGHTS] = (double)part.bytes;
  to->figures[FIGURE_FILE_BYTES] = (double)part.file_bytes;
  to->figures[FIGURE_LOAD] = seconds_now() - start;
  if (!decoder_create(&part, (int32_t)capacity, &to->decoder)) return false;
  to->candidates = calloc((size_t)me.num_workers, sizeof(*to->candidates));
  to->shares = calloc((size_t)me.num_workers, sizeof(*to->shares));
  return (to->candidates != NULL && to->shares != NULL) ||
         refuse(DISCO_MEMORY, "no memory for %d workers", me.num_workers);
}

static int load(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  TVMFFIObjectHandle capsule = NULL;
  (void)self;
  if (!check("llama.load", "sii", args, num_args, NULL)) return disco_raise_last();
  state *s = calloc(1, sizeof(*s));
  if (s == NULL) return disco_raise("MemoryError", "no memory for the state of a worker");
  if (!load_state(disco_value_text(&args[0], NULL), (precision)args[1].v_int64, args[2].v_int64, s) ||
      disco_capsule_create(state_name, s, destroy_state, &capsule) != DISCO_OK) {
    disco_error_info error = {.struct_size = sizeof(error)};
    const bool is_ended = disco_last_error(&error) == DISCO_OK && error.status == DISCO_INTERRUPTED;
    destroy_state(s);
    return is_ended ? disco_raise("SessionClosedError", "llama.load: nobody waits for it any more")
                    : disco_raise_last();
  }
  *result = disco_value_object(capsule);
  return 0;
}

/* ---- Tokens ---- */

/* Run tokens through the decoder in batches; the context is as before when one fails. `each` (may be NULL) looks at the
 * logits of all tokens of a batch; without it *ret_logits are those of the last token. */
typedef bool (*batch_reader)(void *context, int32_t count, const float *logits);

static bool run(state *s, const int32_t *tokens, int64_t count, batch_reader each, void *context,
                const float **ret_logits) {
  const int32_t before = decoder_position(s->decoder);
  const int64_t room = decoder_capacity(s->decoder) - before;
  if (count > room)
    return refuse(DISCO_VALUE, "%lld tokens are too many: there is room for %lld more in the context", (long long)count,
                  (long long)room);
  for (int64_t done = 0; done < count; done += DECODER_BATCH) {
    const int32_t batch = count - done < DECODER_BATCH ? (int32_t)(count - done) : DECODER_BATCH;
    if (disco_worker_progress((uint64_t)done, (uint64_t)count) != DISCO_OK || /* nobody waits any more */
        !decoder_forward(s->decoder, tokens + done, batch, each != NULL, ret_logits) ||
        (each != NULL && !each(context, batch, *ret_logits))) {
      decoder_rewind(s->decoder, before);
      return false;
    }
  }
  return true;
}

/* Append tokens; the next one. */
static bool next_token(state *s, const int32_t *tokens, int64_t count, double temperature, int64_t seed,
                       int64_t *ret_token) {
  const model_part *part = decoder_part(s->decoder);
  const double start = seconds_now(), cpu_start = seconds_of(CLOCK_THREAD_CPUTIME_ID);
  const float *logits = NULL;
  if (!run(s, tokens, count, NULL, NULL, &logits)) return false;
  const candidate mine =
      sample(logits, part->rows, part->first_row, temperature, (uint64_t)seed, decoder_position(s->decoder));
  if (!decoder_gather(s->decoder, &mine, sizeof(mine), s->candidates)) return false;
  const candidate best = best_of(s->candidates, part->workers);
  if (!(best.score > -INFINITY)) return refuse(DISCO_VALUE, "no logit is a number: are the weights?");
  *ret_token = best.token;
  s->figures[FIGURE_BUSY] += seconds_now() - start;
  s->figures[FIGURE_CPU] += seconds_of(CLOCK_THREAD_CPUTIME_ID) - cpu_start;
  return true;
}

static int prefill(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  state *s = NULL;
  int64_t count = 0, token = 0;
  (void)self;
  if (!check("llama.prefill", "otfi", args, num_args, &s)) return disco_raise_last();
  const int32_t *tokens = tokens_of(&args[1], &count);
  if (!next_token(s, tokens, count, args[2].v_float64, args[3].v_int64, &token)) return disco_raise_last();
  *result = disco_value_int(token);
  return 0;
}

static int decode(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  state *s = NULL;
  int64_t next = 0;
  (void)self;
  if (!check("llama.decode", "oifi", args, num_args, &s)) return disco_raise_last();
  const int32_t token = args[1].v_int64 < 0 || args[1].v_int64 > INT32_MAX ? -1 : (int32_t)args[1].v_int64;
  if (!next_token(s, &token, 1, args[2].v_float64, args[3].v_int64, &next)) return disco_raise_last();
  *result = disco_value_int(next);
  return 0;
}

static int forget(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  state *s = NULL;
  (void)self;
  (void)result;
  if (!check("llama.rewind", "oi", args, num_args, &s)) return disco_raise_last();
  if (args[1].v_int64 < 0 || args[1].v_int64 > decoder_position(s->decoder))
    return disco_raise("ValueError", "llama.rewind: position %lld is not in the context of %d tokens",
                       (long long)args[1].v_int64, decoder_position(s->decoder));
  decoder_rewind(s->decoder, (int32_t)args[1].v_int64);
  return 0;
}

/* ---- Looking inside ---- */

typedef struct {
  state *state;
  const int32_t *next; /* the successor of the batch's first token */
  int64_t left;        /* tokens that have one */
  double sum;
} scoring;

static bool score_batch(void *context, int32_t count, const float *logits) {
  scoring *self = context;
  const model_part *part = decoder_part(self->state->decoder);
  for (int32_t t = 0; t < count && self->left > 0; t++, self->left--, logits += part->rows) {
    const share mine = share_of(logits, part->rows, part->first_row, *self->next++);
    if (!decoder_gather(self->state->decoder, &mine, sizeof(mine), self->state->shares)) return false;
    self->sum += log_probability(self->state->shares, part->workers);
  }
  return true;
}

static int score(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  scoring work = {0};
  const float *logits = NULL;
  int64_t count = 0;
  (void)self;
  if (!check("llama.score", "ot", args, num_args, &work.state)) return disco_raise_last();
  const int32_t *tokens = tokens_of(&args[1], &count);
  work.left = count - 1;
  work.next = tokens + 1;
  if (!run(work.state, tokens, count, score_batch, &work, &logits)) return disco_raise_last();
  *result = disco_value_float(work.sum);
  return 0;
}

/* Where the stages of a run go. */
typedef struct {
  float *to;
  int32_t first; /* position of the first token */
  int64_t count, width;
} staging;

static void keep_stage(void *context, int32_t stage, int32_t position, int32_t count, const float *stream) {
  const staging *self = context;
  memcpy(self->to + (stage * self->count + position - self->first) * self->width, stream,
         (size_t)(count * self->width) * sizeof(*stream));
}

static int stages(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  state *s = NULL;
  const float *logits = NULL;
  int64_t count = 0;
  (void)self;
  if (!check("llama.stages", "ot", args, num_args, &s)) return disco_raise_last();
  const int32_t *tokens = tokens_of(&args[1], &count);
  const dims *d = &decoder_part(s->decoder)->dims;
  const int64_t shape[] = {2 * (int64_t)d->layers + 2, count, d->width};
  staging work = {NULL, decoder_position(s->decoder), count, d->width};
  if (decoder_part(s->decoder)->worker == 0) {
    work.to = result_tensor(3, shape, (DLDataType){kDLFloat, 32, 1}, result);
    if (work.to == NULL) return disco_raise_last();
    decoder_observe(s->decoder, keep_stage, &work);
  }
  const bool is_done = run(s, tokens, count, NULL, NULL, &logits);
  decoder_observe(s->decoder, NULL, NULL);
  if (is_done) return 0;
  disco_value_unref(result);
  return disco_raise_last();
}

typedef struct {
  float *to;
  int64_t rows;
} logits_room;

static bool keep_logits(void *context, int32_t count, const float *logits) {
  logits_room *self = context;
  memcpy(self->to, logits, (size_t)(count * self->rows) * sizeof(*logits));
  self->to += count * self->rows;
  return true;
}

static int logits(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  state *s = NULL;
  const float *last = NULL;
  int64_t count = 0;
  (void)self;
  if (!check("llama.logits", "ot", args, num_args, &s)) return disco_raise_last();
  const int32_t *tokens = tokens_of(&args[1], &count);
  const int64_t shape[] = {count, decoder_part(s->decoder)->rows};
  logits_room work = {result_tensor(2, shape, (DLDataType){kDLFloat, 32, 1}, result), shape[1]};
  if (work.to == NULL) return disco_raise_last();
  if (run(s, tokens, count, keep_logits, &work, &last)) return 0;
  disco_value_unref(result);
  return disco_raise_last();
}

/* ---- The library ---- */

/* A name that is taken stays as it is: what llama.load is then says the rest. */
__attribute__((constructor)) static void register_functions(void) {
  static const struct {
    const char *name;
    TVMFFISafeCallType function;
  } all[] = {{"llama.load", load},     {"llama.prefill", prefill}, {"llama.decode", decode},
             {"llama.rewind", forget}, {"llama.score", score},     {"llama.stages", stages},
             {"llama.logits", logits}, {"llama.figures", figures}, {"llama.collectives", collectives}};
  for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
    (void)!disco_register_function(all[i].name, all[i].function, NULL, NULL, false);
}

const char *llama_library(void) {
  Dl_info info;
  return dladdr((void *)(uintptr_t)&llama_library, &info) != 0 ? info.dli_fname : NULL;
}
