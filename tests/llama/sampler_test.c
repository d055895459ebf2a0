/* One sample from logits that several workers have, whatever their number. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "worker/sampler.h"

enum { WORDS = 30 };

static void make_logits(float *logits, unsigned seed) {
  for (int i = 0; i < WORDS; i++) logits[i] = (float)((seed = seed * 1103515245u + 12345u) >> 16 & 0x3ff) / 128.0F;
}

/* With the words cut into runs, the last one longer. */
static candidate shared(const float *logits, int workers, double temperature, uint64_t seed, int64_t position) {
  candidate all[8];
  const int run = WORDS / workers;
  for (int w = 0; w < workers; w++) {
    const int first = w * run, count = w == workers - 1 ? WORDS - first : run;
    all[w] = sample(logits + first, count, first, temperature, seed, position);
  }
  return best_of(all, workers);
}

static void temperature_zero_takes_the_first_of_the_largest(void **state) {
  (void)state;
  const float logits[6] = {1, 5, -2, 5, 0, 4};
  assert_int_equal(sample(logits, 6, 100, 0, 1, 1).token, 101);
  const candidate equal[2] = {sample(logits, 2, 0, 0, 1, 1), sample(logits + 2, 4, 2, 0, 1, 1)};
  assert_int_equal(best_of(equal, 2).token, 1);
}

static void every_number_of_workers_draws_the_same(void **state) {
  (void)state;
  float logits[WORDS];
  for (unsigned i = 0; i < 500; i++) {
    make_logits(logits, i);
    const int64_t token = shared(logits, 1, 0.8, i / 7, i).token;
    for (int workers = 2; workers <= 7; workers++)
      assert_int_equal(shared(logits, workers, 0.8, i / 7, i).token, token);
  }
}

/* Chi-square of 20,000 draws against the softmax; the seeds are fixed. */
static void draws_follow_the_softmax(void **state) {
  (void)state;
  enum { DRAWS = 20000 };
  float logits[WORDS];
  int counts[WORDS] = {0}, cells = 0;
  double weights[WORDS], sum = 0, chi_square = 0;
  const double temperature = 1.3;
  make_logits(logits, 5);
  for (int i = 0; i < WORDS; i++) sum += weights[i] = exp((double)logits[i] / temperature);
  for (int64_t i = 0; i < DRAWS; i++) counts[shared(logits, 3, temperature, 42, i).token]++;
  for (int i = 0; i < WORDS; i++) {
    const double wanted = DRAWS * weights[i] / sum;
    if (wanted < 5) continue;
    cells++;
    chi_square += (counts[i] - wanted) * (counts[i] - wanted) / wanted;
  }
  assert_true(cells > 10);
  assert_true(chi_square < cells + 4 * sqrt(2.0 * cells)); /* 4 standard deviations */
}

static void positions_and_seeds_are_independent(void **state) {
  (void)state;
  const float logits[2] = {0, 0};
  int same_position = 0, same_seed = 0;
  for (uint64_t i = 0; i < 10000; i++) {
    same_position += sample(logits, 2, 0, 1, i, 3).token == sample(logits, 2, 0, 1, i + 1, 3).token;
    same_seed += sample(logits, 2, 0, 1, 3, (int64_t)i).token == sample(logits, 2, 0, 1, 3, (int64_t)i + 1).token;
  }
  assert_in_range(same_position, 4800, 5200);
  assert_in_range(same_seed, 4800, 5200);
}

static void log_probabilities_are_put_together(void **state) {
  (void)state;
  float logits[WORDS];
  double sum = 0;
  make_logits(logits, 9);
  logits[3] = 300; /* would overflow without care */
  for (int i = 0; i < WORDS; i++) sum += exp((double)logits[i] - 300);
  for (int64_t token = 0; token < WORDS; token++) {
    const share all[2] = {share_of(logits, 11, 0, token), share_of(logits + 11, WORDS - 11, 11, token)};
    assert_true(fabs(log_probability(all, 2) - ((double)logits[token] - 300 - log(sum))) < 1e-9);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(temperature_zero_takes_the_first_of_the_largest),
      cmocka_unit_test(every_number_of_workers_draws_the_same),
      cmocka_unit_test(draws_follow_the_softmax),
      cmocka_unit_test(positions_and_seeds_are_independent),
      cmocka_unit_test(log_probabilities_are_put_together),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
