/* Choosing the next token when every worker has a run of the logits.
 *
 * The softmax of logits / temperature is sampled by adding Gumbel noise to each and taking the largest [Gumbel, 1954;
 * "Gumbel-max trick"]: a worker looks at its own run only, and the largest of the workers' largest is the sample. The
 * noise depends on seed, position and token alone, so that any number of workers draws the same one. */
#ifndef LLAMA_SAMPLER_H
#define LLAMA_SAMPLER_H

#include <stdint.h>

typedef struct {
  double score; /* -infinity: no logit was a number */
  int64_t token;
} candidate;

/* The best of `count` logits of tokens first_token, ...: of equal ones the first. temperature 0: no noise. */
candidate sample(const float *logits, int64_t count, int64_t first_token, double temperature, uint64_t seed,
                 int64_t position);

/* The best of several workers' candidates, in order. */
candidate best_of(const candidate *candidates, int32_t count);

/* What one worker knows of the log probability of a token. */
typedef struct {
  double log_sum; /* log of the sum of e^logit over its run */
  double logit;   /* of the token; -infinity when it is another worker's */
} share;

share share_of(const float *logits, int64_t count, int64_t first_token, int64_t token);

/* The log probability, from what all workers know. */
double log_probability(const share *shares, int32_t count);

#endif
