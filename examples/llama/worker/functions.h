/* The functions of libdisco_llama.so on workers, by name. Loading the library registers them.
 *
 *   llama.load(path: str, precision: int, capacity: int) -> state
 *     this worker's part of the model, and an empty context for `capacity` tokens; precision: enum precision.
 *     disco_worker_progress() says how far it is, in bytes of the file; SessionClosedError when nobody waits any more
 *   llama.prefill(state, tokens: Tensor of int32, temperature: float, seed: int) -> int
 *     append the tokens to the context; the one that comes next, the same on every worker
 *   llama.decode(state, token: int, temperature: float, seed: int) -> int
 *     the same for one token
 *   llama.rewind(state, position: int)
 *     forget the tokens from `position` on
 *   llama.score(state, tokens: Tensor of int32) -> float
 *     append them; the sum of the log probabilities of all but the first
 *   llama.stages(state, tokens: Tensor of int32) -> Tensor of float32 [2 * layers + 2][tokens][width]
 *     append them; the residual stream at each stage (decoder.h), on worker 0; others return None: it is the same
 *   llama.logits(state, tokens: Tensor of int32) -> Tensor of float32 [tokens][rows]
 *     append them; this worker's run of their logits
 *   llama.figures(state) -> Tensor of float64 [FIGURES]
 *     enum figure, since the last llama.figures
 *   llama.collectives(state) -> Tensor of float32 [collectives]
 *     seconds in each, in order, since the last llama.collectives
 *
 * ValueError: the model, a token that there is not, no more room; errors of collectives keep their kind. They need a
 * data plane unless there is one worker. */
#ifndef LLAMA_FUNCTIONS_H
#define LLAMA_FUNCTIONS_H

#include "disco/status.h"

enum figure {
  FIGURE_BUSY,       /* seconds in prefill and decode */
  FIGURE_CPU,        /* of them on a CPU */
  FIGURE_WEIGHTS,    /* bytes of weights in memory; not reset */
  FIGURE_FILE_BYTES, /* read from the file; not reset */
  FIGURE_LOAD,       /* seconds of loading; not reset */
  FIGURES
};

/* The path of the library that these functions are in, for disco_session_options.libraries; NULL: unknown. */
DISCO_API const char *llama_library(void);

#endif
