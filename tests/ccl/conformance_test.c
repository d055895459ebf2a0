/* Every collective with every type, kind, number of ranks, length, alignment and placement: each worker compares each
 * byte with what it worked out by itself. */
#include "ccl/support.h"

enum { BATCH = 64 };

/* Posts good jobs, and waits for them now and then, so that a failure is told near its cause. */
typedef struct {
  disco_session *session;
  int64_t posted;
  uint64_t cases; /* of which scale() leaves some out */
} poster;

static void give(poster *self, job what) {
  if (!chosen(self->cases++)) return;
  what.seed = (int64_t)(mix(99, self->cases) >> 40);
  post_job(self->session, &what);
  if (++self->posted % BATCH == 0) sync_all(self->session);
}

static int32_t ranks_of(void **state) { return *(const int *)*state; }

/* Which lengths for how many ranks: the work of a case grows with the square of their number. */
static size_t lengths_of(int32_t ranks, const int64_t **ret_lengths) {
  static const int64_t all[] = {0, 1, 4, 63, 64, 65, 1000, 10007}, some[] = {0, 1, 65, 1000}, few[] = {4, 65};
  *ret_lengths = ranks <= 3 ? all : ranks <= 6 ? some : few;
  return ranks <= 3 ? 8 : ranks <= 6 ? 4 : 2;
}

static void allreduce_of_every_kind_and_type(void **state) {
  static const int64_t offsets[] = {0, 1, 3, 5};
  const int32_t ranks = ranks_of(state);
  const int64_t *lengths = NULL;
  const size_t num_lengths = lengths_of(ranks, &lengths);
  poster to = {.session = make_session(ranks, 1)};
  for (size_t l = 0; l < num_lengths; l++)
    for (int t = 0; t < NUM_REDUCED_TYPES; t++)
      for (int kind = 0; kind < NUM_KINDS; kind++)
        for (int in_place = 0; in_place < 2; in_place++) {
          job it = job_of(ALLREDUCE, reduced_types[t], lengths[l]);
          if (ranks > 6 && (kind + t + in_place) % 2 != 0) continue;
          it.kind = kind;
          it.in_place = in_place;
          it.offset = offsets[mix(to.cases, 3) % 4] * it.bits / 8;
          give(&to, it);
        }
  sync_all(to.session);
  end_session(to.session);
}

static void moves_of_every_type(void **state) {
  static const int64_t offsets[] = {0, 1, 3, 32, 7};
  const int32_t ranks = ranks_of(state);
  const int64_t *lengths = NULL;
  const size_t num_lengths = lengths_of(ranks, &lengths);
  poster to = {.session = make_session(ranks, 1)};
  for (size_t l = 0; l < num_lengths; l++)
    for (int operation = ALLGATHER; operation <= GATHER; operation++)
      for (int t = 0; t < NUM_REDUCED_TYPES + NUM_MOVED_TYPES; t++)
        for (int in_place = 0; in_place < 2; in_place++) {
          const bool is_reduced_one = t < NUM_REDUCED_TYPES;
          job it =
              job_of(operation, is_reduced_one ? reduced_types[t] : moved_types[t - NUM_REDUCED_TYPES], lengths[l]);
          if (ranks > 6 && (operation + t + in_place) % 2 != 0) continue;
          if (it.bits == 4 && operation != BROADCAST) it.count *= 2; /* whole bytes for each rank */
          it.in_place = in_place;
          it.offset = offsets[mix(to.cases, 4) % 5];
          give(&to, it);
        }
  sync_all(to.session);
  end_session(to.session);
}

static void a_vector_of_floats_is_reduced_lane_by_lane(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++) {
    job it = job_of(operation, (DLDataType){kDLFloat, 32, 4}, 101);
    run_job(session, &it);
  }
  end_session(session);
}

/* ---- Long ones ---- */

enum { LONG = (1 << 20) + 3 };

static void long_messages(void **state) {
  const int32_t ranks = ranks_of(state);
  static const struct {
    int operation, type, kind, in_place;
    int64_t offset;
  } cases[] = {
      {ALLREDUCE, TYPE_F32, SUM, 0, 0}, {ALLREDUCE, TYPE_F32, SUM, 1, 4},  {ALLREDUCE, TYPE_BF16, AVG, 0, 2},
      {ALLREDUCE, TYPE_I8, MAX, 1, 1},  {ALLREDUCE, TYPE_F64, PROD, 1, 0}, {ALLGATHER, TYPE_F32, 0, 0, 0},
      {ALLGATHER, TYPE_U8, 0, 1, 1},    {BROADCAST, TYPE_F32, 0, 0, 4},    {BROADCAST, TYPE_F64, 0, 1, 0},
      {SCATTER, TYPE_F32, 0, 0, 0},     {SCATTER, TYPE_U16, 0, 1, 2},      {GATHER, TYPE_F32, 0, 0, 0},
      {GATHER, TYPE_I32, 0, 1, 4},
  };
  disco_session *session = make_session(ranks, 1);
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    job it = job_of(cases[i].operation, reduced_types[cases[i].type], LONG);
    it.kind = cases[i].kind;
    it.in_place = cases[i].in_place;
    it.offset = cases[i].offset;
    it.seed = (int64_t)i;
    run_job(session, &it);
  }
  end_session(session);
}

/* Around the sizes at which a backend may change its way: what is staged in lines, chunks, slices of unequal size. */
static void lengths_around_every_power(void **state) {
  const int32_t ranks = ranks_of(state);
  poster to = {.session = make_session(ranks, 1)};
  for (int power = 1; power <= (ranks > 3 ? 17 : 19); power++)
    for (int64_t by = -1; by <= 1; by++)
      for (int operation = 0; operation < NUM_OPERATIONS; operation++) {
        const int type = operation == ALLREDUCE ? TYPE_U16 : TYPE_U8;
        job it = job_of(operation, reduced_types[type], ((int64_t)1 << power) + by);
        if (operation != ALLREDUCE && power > 17) continue;
        it.in_place = (power + operation) & 1;
        give(&to, it);
      }
  sync_all(to.session);
  end_session(to.session);
}

/* ---- Groups, and many in flight ---- */

typedef struct {
  int32_t workers, groups;
} pattern;

static void groups_and_world_take_turns(void **state) {
  const pattern *it = *state;
  static const int64_t lengths[] = {1, 14, 65, 3000, 50001};
  disco_session *session = make_session(it->workers, it->groups);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++)
    for (int i = 0; i < 5; i++) {
      /* In one command, world first or the group first; */
      job what = job_of(operation, reduced_types[TYPE_F32], lengths[i] / (it->workers > 4 ? 4 : 1) + 1);
      what.alternate = 1;
      what.in_group = i & 1;
      what.repeat = i < 3 ? scaled(12, 2) : 2;
      what.seed = 100 * i + operation;
      post_job(session, &what);
      /* and in commands of their own. */
      for (int turn = 0; turn < scaled(6, 2); turn++) {
        job one = job_of((operation + turn) % NUM_OPERATIONS, reduced_types[TYPE_F16], lengths[(i + turn) % 4]);
        one.in_group = !(turn & 1);
        one.in_place = turn >> 1 & 1;
        one.seed = turn;
        post_job(session, &one);
      }
    }
  sync_all(session);
  end_session(session);
}

static job any_job(uint64_t h, int64_t longest) {
  const int operation = (int)(h % NUM_OPERATIONS);
  job it = job_of(operation, reduced_types[h >> 8 & 7], (int64_t)(mix(h, 1) % (uint64_t)longest));
  if ((h >> 12 & 1) != 0) it.count %= 16; /* small ones as well */
  it.kind = (int64_t)(h >> 16) % NUM_KINDS;
  it.in_place = h >> 24 & 1;
  it.in_group = h >> 25 & 1;
  it.offset = (int64_t)(h >> 26 & 3) * it.bits / 8;
  it.seed = (int64_t)(h >> 40);
  it.memory = (int64_t)(h >> 28) % 3; /* whatever the mode: also a mixture */
  return it;
}

static void anything_in_any_order(void **state) {
  const pattern *it = *state;
  const int64_t longest = it->workers <= 2 ? 30000 : it->workers <= 4 ? 12000 : 2500;
  disco_session *session = make_session(it->workers, it->groups);
  const int count = scaled(it->workers <= 4 ? 400 : 200, 30);
  for (int i = 0; i < count; i++) {
    const job what = any_job(mix((uint64_t)it->workers, (uint64_t)i), longest);
    post_job(session, &what);
  }
  sync_all(session);
  end_session(session);
}

static void thousands_of_small_ones_in_one_command(void **state) {
  const int32_t ranks = ranks_of(state);
  disco_session *session = make_session(ranks, 1);
  for (int operation = 0; operation < NUM_OPERATIONS; operation++) {
    job it = job_of(operation, reduced_types[TYPE_F32], 2);
    it.repeat = scaled(ranks <= 2 ? 3000 : 400, 50);
    post_job(session, &it);
  }
  sync_all(session);
  end_session(session);
}

static void a_rank_that_comes_late(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int late = 0; late < 3; late++)
    for (int operation = 0; operation < NUM_OPERATIONS; operation++) {
      job it = job_of(operation, reduced_types[TYPE_F32], operation & 1 ? 5 : 70000);
      it.seed = 10 * late + operation;
      POST_STEPS(session, reduced_types[TYPE_U8], {late, NAP, 0, 15, 0});
      post_job(session, &it);
    }
  sync_all(session);
  end_session(session);
}

/* Several sessions have data planes of their own. */
static void two_sessions_at_once(void **state) {
  (void)state;
  disco_session *sessions[2] = {make_session(2, 1), make_session(3, 1)};
  for (int i = 0; i < scaled(200, 20); i++) {
    const job what = any_job(mix(31, (uint64_t)i), 3000);
    post_job(sessions[i & 1], &what);
  }
  sync_all(sessions[1]);
  sync_all(sessions[0]);
  end_session(sessions[0]);
  const job last = job_of(ALLREDUCE, reduced_types[TYPE_F32], 100);
  run_job(sessions[1], &last);
  end_session(sessions[1]);
}

static int p1 = 1, p2 = 2, p3 = 3, p4 = 4, p5 = 5, p6 = 6, p7 = 7, p8 = 8, p9 = 9, p13 = 13, p16 = 16;
static pattern g2x1 = {2, 1}, g3x1 = {3, 1}, g4x2 = {4, 2}, g6x2 = {6, 2}, g6x3 = {6, 3}, g8x4 = {8, 4}, g8x1 = {8, 1},
               g4x4 = {4, 4}, g9x3 = {9, 3};

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define FOR_RANKS(test, n) {#test ", " #n " ranks", test, NULL, NULL, &p##n}
#define FOR_ALL(test)                                                                                      \
  FOR_RANKS(test, 1), FOR_RANKS(test, 2), FOR_RANKS(test, 3), FOR_RANKS(test, 4), FOR_RANKS(test, 5),      \
      FOR_RANKS(test, 6), FOR_RANKS(test, 7), FOR_RANKS(test, 8), FOR_RANKS(test, 9), FOR_RANKS(test, 13), \
      FOR_RANKS(test, 16)
#define FOR_GROUPS(test, of) \
  { #test ", " #of, test, NULL, NULL, &(of) }
      FOR_ALL(allreduce_of_every_kind_and_type),
      FOR_ALL(moves_of_every_type),
      cmocka_unit_test(a_vector_of_floats_is_reduced_lane_by_lane),
      FOR_RANKS(long_messages, 2),
      FOR_RANKS(long_messages, 3),
      FOR_RANKS(lengths_around_every_power, 2),
      FOR_RANKS(lengths_around_every_power, 3),
      FOR_RANKS(lengths_around_every_power, 4),
      FOR_GROUPS(groups_and_world_take_turns, g4x2),
      FOR_GROUPS(groups_and_world_take_turns, g4x4),
      FOR_GROUPS(groups_and_world_take_turns, g6x2),
      FOR_GROUPS(groups_and_world_take_turns, g6x3),
      FOR_GROUPS(groups_and_world_take_turns, g8x4),
      FOR_GROUPS(groups_and_world_take_turns, g9x3),
      FOR_GROUPS(anything_in_any_order, g2x1),
      FOR_GROUPS(anything_in_any_order, g3x1),
      FOR_GROUPS(anything_in_any_order, g4x2),
      FOR_GROUPS(anything_in_any_order, g6x3),
      FOR_GROUPS(anything_in_any_order, g8x1),
      FOR_RANKS(thousands_of_small_ones_in_one_command, 1),
      FOR_RANKS(thousands_of_small_ones_in_one_command, 2),
      FOR_RANKS(thousands_of_small_ones_in_one_command, 4),
      cmocka_unit_test(a_rank_that_comes_late),
      cmocka_unit_test(two_sessions_at_once),
  };
  return ccl_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]));
}
