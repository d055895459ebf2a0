/* The bits of results: first that the suite's own arithmetic (expected.c) is what collectives.md promises, by values
 * worked out by hand; then that all ranks get these bits, whatever the values, sizes, backends and kernels.
 *
 * Every worker compares with the same naive tree, over the same streams, in all modes, and a long stream begins as a
 * short one: so equal bits across ranks, sizes, threads, processes, direct and staged follow. */
#include <float.h>
#include <math.h>

#include "ccl/support.h"

/* ---- The expectation itself ---- */

static uint64_t one(int type, int kind, int32_t n, const uint64_t *bits) {
  const void *inputs[8];
  uint64_t result = 0;
  for (int32_t r = 0; r < n; r++) inputs[r] = &bits[r];
  reduce_given(&result, reduced_types[type], kind, inputs, n, 1);
  return result;
}
#define ONE(type, kind, ...) \
  one(type, kind, (int32_t)(sizeof((const uint64_t[]){__VA_ARGS__}) / 8), (const uint64_t[]){__VA_ARGS__})

static void integers_wrap_and_their_mean_truncates(void **state) {
  (void)state;
  assert_int_equal(ONE(TYPE_I8, SUM, 127, 1), 0x80);
  assert_int_equal(ONE(TYPE_I8, PROD, 16, 16), 0);
  assert_int_equal(ONE(TYPE_U8, SUM, 255, 2), 1);
  assert_int_equal(ONE(TYPE_I8, AVG, 0xff, 0xfe), 0xff);    /* -3 / 2 = -1 */
  assert_int_equal(ONE(TYPE_I8, AVG, 127, 127), 0xff);      /* wraps to -2 first */
  assert_int_equal(ONE(TYPE_U8, AVG, 200, 100, 1), 45 / 3); /* 301 - 256 = 45 */
  assert_int_equal(ONE(TYPE_I16, MIN, 0x8000, 5), 0x8000);
  assert_int_equal(ONE(TYPE_U16, MIN, 0x8000, 5), 5);
  assert_int_equal(ONE(TYPE_I64, MAX, UINT64_MAX, 0), 0);
  assert_int_equal(ONE(TYPE_U64, MAX, UINT64_MAX, 0), UINT64_MAX);
  assert_true(ONE(TYPE_I64, SUM, INT64_MAX, 1) == (uint64_t)INT64_MIN);
}

static void zeros_and_nans(void **state) {
  (void)state;
  const uint64_t minus = 0x80000000, nan = 0x7fc00123, other = 0xffc00456, signalling = 0x7f800001,
                 infinite = 0x7f800000;
  for (int swap = 0; swap < 2; swap++) {
    const uint64_t a = swap ? minus : 0, b = swap ? 0 : minus;
    assert_int_equal(ONE(TYPE_F32, MIN, a, b), minus);
    assert_int_equal(ONE(TYPE_F32, MAX, a, b), 0);
    assert_int_equal(ONE(TYPE_F32, SUM, a, b), 0);
    assert_int_equal(ONE(TYPE_F16, MIN, a >> 16, b >> 16), 0x8000);
  }
  assert_int_equal(ONE(TYPE_F32, SUM, minus, minus), minus);
  for (int kind = 0; kind < NUM_KINDS; kind++) {
    assert_int_equal(ONE(TYPE_F32, kind, nan, infinite), nan);
    assert_int_equal(ONE(TYPE_F32, kind, 0, nan, 0), nan);
    assert_int_equal(ONE(TYPE_F32, kind, nan, other), nan); /* the one of the lower rank */
    assert_int_equal(ONE(TYPE_F32, kind, other, nan), other);
    assert_int_equal(ONE(TYPE_F32, kind, 0, signalling), 0x7fc00001);
    assert_int_equal(ONE(TYPE_BF16, kind, 0, 0x7f81), 0x7fc1);
    assert_int_equal(ONE(TYPE_F16, kind, 0x7c01, 0), 0x7e01);
  }
}

static void halves_are_rounded_once(void **state) {
  (void)state;
  assert_int_equal(ONE(TYPE_F16, SUM, 0x6800, 0x3c00), 0x6800); /* 2048 + 1: a tie, to even */
  assert_int_equal(ONE(TYPE_F16, SUM, 0x6800, 0x3c00, 0x3c00, 0x3c00),
                   0x6802);                                             /* 2051, not 2048: the ties go to 2052 */
  assert_int_equal(ONE(TYPE_F16, SUM, 0x7bff, 0x7bff, 0xfbff), 0x7bff); /* no infinity in between */
  assert_int_equal(ONE(TYPE_F16, SUM, 0x7bff, 0x7bff), 0x7c00);
  assert_int_equal(ONE(TYPE_F16, PROD, 0x0400, 0x3800), 0x0200); /* subnormals are kept */
  assert_int_equal(ONE(TYPE_F16, PROD, 0x0001, 0x3800), 0x0000); /* half of the smallest: a tie, to even */
  assert_int_equal(ONE(TYPE_F16, PROD, 0x0003, 0x3800), 0x0002); /* 1.5 of them */
  assert_int_equal(ONE(TYPE_BF16, SUM, 0x4380, 0x3f80), 0x4380); /* 256 + 1: a tie, to even */
  assert_int_equal(ONE(TYPE_BF16, SUM, 0x4380, 0x3f80, 0x3f80), 0x4381);
  for (uint64_t half = 0; half < 0x10000; half++) { /* widened and back: the same, but for the quiet bit */
    const bool is_nan = (half & 0x7fff) > 0x7c00, is_bnan = (half & 0x7fff) > 0x7f80;
    assert_int_equal(ONE(TYPE_F16, MIN, half, half), is_nan ? half | 0x200 : half);
    assert_int_equal(ONE(TYPE_BF16, MAX, half, half), is_bnan ? half | 0x40 : half);
  }
}

static uint64_t single(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

static void the_tree_splits_at_powers_of_two(void **state) {
  (void)state;
  const float big = 0x1p24F;
  /* ((1 + 1) + (big + 1)) + (1 + 1): left to right would lose what the pairs keep. */
  const float wanted = ((1.0F + 1.0F) + (big + 1.0F)) + (1.0F + 1.0F);
  assert_int_equal(ONE(TYPE_F32, SUM, single(1), single(1), single(big), single(1), single(1), single(1)),
                   single(wanted));
  /* (big + 1) + -big for three, not big + (1 - big). */
  assert_int_equal(ONE(TYPE_F32, SUM, single(big), single(1), single(-big)), single(0));
  assert_int_equal(ONE(TYPE_F32, SUM, single(big), single(-big), single(1)), single(1));
  /* ((a + b) + (c + d)) + e for five. */
  assert_int_equal(ONE(TYPE_F32, SUM, single(1), single(big), single(1), single(1), single(1)),
                   single(((1 + big) + 2) + 1));
  assert_int_equal(ONE(TYPE_F32, AVG, single(1), single(1), single(2)), single(4.0F / 3.0F));
}

/* Against long double: the error of a tree of depth log2 n. */
static void sums_are_within_the_trees_bound(void **state) {
  (void)state;
  for (int t = TYPE_F32; t <= TYPE_F64; t++)
    for (int32_t n = 2; n <= 16; n++)
      for (uint64_t i = 0; i < 300; i++) {
        uint64_t bits[16], result = 0;
        const void *inputs[16];
        long double sum = 0, size = 0;
        for (int32_t r = 0; r < n; r++) {
          fill(&bits[r], reduced_types[t], (source){i, PLAIN}, r, 1);
          inputs[r] = &bits[r];
          sum += (long double)to_double(reduced_types[t], load_bits(&bits[r], reduced_types[t], 0));
          size += fabsl((long double)to_double(reduced_types[t], load_bits(&bits[r], reduced_types[t], 0)));
        }
        if (!isfinite((double)size) || size > 1e30L) continue;
        reduce_given(&result, reduced_types[t], SUM, inputs, n, 1);
        const long double epsilon = t == TYPE_F32 ? (long double)FLT_EPSILON : (long double)DBL_EPSILON;
        const long double bound = ceill(log2l(n)) * epsilon / 2 * (1 + 16 * epsilon) * size;
        assert_true(fabsl((long double)to_double(reduced_types[t], result) - sum) <= bound);
      }
}

/* The same in every build, and for ever: FNV-1a of results. */
static void expectations_have_not_changed(void **state) {
  (void)state;
  static const uint64_t wanted[NUM_REDUCED_TYPES] = {
      0x1f5de148975cb1d2, 0x4aa3bfb0be7677e0, 0x6a3ac1dd88c5c1f7, 0x7e6cd73bd6324a39,
      0xe541f8018db8fafa, 0xccf37bef135b890c, 0x86c4e36401c82672, 0x035ae74315ef9402,
      0xc1239e729964fd65, 0x0dd0e227e4fb3b5e, 0x3bdb5825d3a2355a, 0x20f899ad18a7644e,
  };
  int failed = 0;
  for (int t = 0; t < NUM_REDUCED_TYPES; t++) {
    uint64_t hash = 0xcbf29ce484222325;
    for (int kind = 0; kind < NUM_KINDS; kind++)
      for (int32_t n = 1; n <= 9; n++) {
        unsigned char result[300 * 8];
        /* NaNs that are made (infinity - infinity) have the sign that the CPU gives them: no special values. */
        reduce(result, reduced_types[t], kind, (source){(uint64_t)n, TAME}, 1, n, 60);
        for (size_t i = 0; i < bytes_of(reduced_types[t], 60); i++) hash = (hash ^ result[i]) * 0x100000001b3;
      }
    if (hash != wanted[t]) print_error("type %d: 0x%016llx\n", t, (unsigned long long)hash);
    failed += hash != wanted[t];
  }
  assert_int_equal(failed, 0);
}

/* ---- Collectives ---- */

static int32_t ranks_of(void **state) { return *(const int *)*state; }

static void special_floats(void **state) {
  static const int types[] = {TYPE_F16, TYPE_BF16, TYPE_F32, TYPE_F64};
  static const int64_t lengths[] = {7, 500, 9000, 100000};
  const int32_t ranks = ranks_of(state);
  disco_session *session = make_session(ranks, 1);
  for (int t = 0; t < 4; t++)
    for (int kind = 0; kind < NUM_KINDS; kind++)
      for (int l = 0; l < (ranks > 4 ? 2 : 4); l++) {
        job it = job_of(ALLREDUCE, reduced_types[types[t]], scaled((int)lengths[l], 7));
        it.kind = kind;
        it.flavour = SPECIAL;
        it.in_place = (kind + l) & 1;
        it.offset = it.bits / 8 * (l & 1);
        it.seed = 1000 + l;
        post_job(session, &it);
      }
  sync_all(session);
  end_session(session);
}

/* One stream, cut off at every length: its elements keep their bits. */
static void a_prefix_has_the_bits_of_the_whole(void **state) {
  const int32_t ranks = ranks_of(state);
  static const int types[] = {TYPE_F32, TYPE_F16, TYPE_BF16, TYPE_F64};
  static const int64_t around[] = {1, 14, 15, 128, 2047, 4096, 4097, 8191, 8192, 16384, 16385, 40000, 131072, 200001};
  disco_session *session = make_session(ranks, 1);
  for (int t = 0; t < 4; t++)
    for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++)
      for (int in_place = 0; in_place < 2; in_place++) {
        job it = job_of(ALLREDUCE, reduced_types[types[t]], around[i]);
        if (around[i] > 1000 && !chosen((uint64_t)it.count + (uint64_t)t)) continue;
        if (ranks > 3 && around[i] > 20000) continue;
        it.in_place = in_place;
        it.seed = 5;
        post_job(session, &it);
      }
  sync_all(session);
  end_session(session);
}

/* The same data in our tensors, foreign ones, and some of each: direct, staged, mixed. */
static void memory_makes_no_difference(void **state) {
  const int32_t ranks = ranks_of(state);
  static const int64_t lengths[] = {5, 3000, 70001};
  disco_session *session = make_session(ranks, 1);
  for (int l = 0; l < 3; l++)
    for (int operation = 0; operation < NUM_OPERATIONS; operation++)
      for (int memory = MEMORY_OURS; memory <= MEMORY_MIXED; memory++)
        for (int in_place = 0; in_place < 2; in_place++) {
          job it = job_of(operation, reduced_types[TYPE_BF16], lengths[l]);
          it.memory = memory;
          it.in_place = in_place;
          it.seed = 8;
          post_job(session, &it);
        }
  sync_all(session);
  end_session(session);
}

static int p2 = 2, p3 = 3, p4 = 4, p6 = 6, p8 = 8;

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define FOR_RANKS(test, n) {#test ", " #n " ranks", test, NULL, NULL, &p##n}
      cmocka_unit_test(integers_wrap_and_their_mean_truncates),
      cmocka_unit_test(zeros_and_nans),
      cmocka_unit_test(halves_are_rounded_once),
      cmocka_unit_test(the_tree_splits_at_powers_of_two),
      cmocka_unit_test(sums_are_within_the_trees_bound),
      cmocka_unit_test(expectations_have_not_changed),
      FOR_RANKS(special_floats, 2),
      FOR_RANKS(special_floats, 3),
      FOR_RANKS(special_floats, 4),
      FOR_RANKS(special_floats, 8),
      FOR_RANKS(a_prefix_has_the_bits_of_the_whole, 2),
      FOR_RANKS(a_prefix_has_the_bits_of_the_whole, 3),
      FOR_RANKS(a_prefix_has_the_bits_of_the_whole, 6),
      FOR_RANKS(memory_makes_no_difference, 2),
      FOR_RANKS(memory_makes_no_difference, 3),
      FOR_RANKS(memory_makes_no_difference, 4),
  };
  return ccl_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]));
}
