#include "worker/sampler.h"

#include <math.h>
#include <stdbool.h>

/* SplitMix64 [Steele, Lea, Flood, 2014]: a number that looks random for each x. */
static uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/* -log(-log u) of a uniform u in (0, 1): between -3.7 and 36.1, because u has 52 bits. */
static double gumbel(uint64_t key, int64_t token) {
  const double u = ((double)(mixed(key ^ mixed((uint64_t)token)) >> 12) + 0.5) * 0x1p-52;
  return -log(-log(u));
}

static const double gumbel_spread = 41; /* no noise lifts a logit over one that is so much larger */

static float largest(const float *logits, int64_t count, int64_t *ret_index) {
  float most = -INFINITY;
  *ret_index = 0;
  for (int64_t i = 0; i < count; i++)
    if (logits[i] > most) {
      most = logits[i];
      *ret_index = i;
    }
  return most; /* -infinity: none is a number */
}

candidate sample(const float *logits, int64_t count, int64_t first_token, double temperature, uint64_t seed,
                 int64_t position) {
  int64_t index = 0;
  const float most = largest(logits, count, &index);
  candidate best = {(double)most, first_token + index};
  if (temperature <= 0) return best;
  const uint64_t key = mixed(seed ^ mixed((uint64_t)position));
  const double floor = (double)most - gumbel_spread * temperature;
  best.score = -INFINITY;
  for (int64_t i = 0; i < count; i++) {
    if (!((double)logits[i] >= floor)) continue;
    const double score = (double)logits[i] / temperature + gumbel(key, first_token + i);
    if (score > best.score) best = (candidate){score, first_token + i};
  }
  return best;
}

candidate best_of(const candidate *candidates, int32_t count) {
  candidate best = candidates[0];
  for (int32_t i = 1; i < count; i++)
    if (candidates[i].score > best.score) best = candidates[i];
  return best;
}

share share_of(const float *logits, int64_t count, int64_t first_token, int64_t token) {
  int64_t index = 0;
  const float most = largest(logits, count, &index);
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += exp((double)(logits[i] - most));
  const bool is_mine = token >= first_token && token < first_token + count;
  return (share){(double)most + log(sum), is_mine ? (double)logits[token - first_token] : -INFINITY};
}

double log_probability(const share *shares, int32_t count) {
  double most = -INFINITY, logit = -INFINITY, sum = 0;
  for (int32_t i = 0; i < count; i++) {
    most = fmax(most, shares[i].log_sum);
    logit = fmax(logit, shares[i].logit);
  }
  for (int32_t i = 0; i < count; i++) sum += exp(shares[i].log_sum - most);
  return logit - (most + log(sum));
}
