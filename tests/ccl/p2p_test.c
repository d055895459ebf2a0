/* Point to point: whoever sends meets who receives, in whatever commands; small sends wait for nobody; order is kept.
 */
#include "ccl/support.h"

static const DLDataType bytes = {kDLUInt, 8, 1};
static const int64_t lengths[] = {0, 1, 56, 57, 1000, 4096, 8192, 8193, 16385, 65537, 600000, 2500001};
enum { NUM_LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static void one_message_of_every_size(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int i = 0; i < NUM_LENGTHS; i++)
    for (int64_t from = 0; from < 2; from++)
      POST_STEPS(session, bytes, {from, SEND, 1 - from, lengths[i], i}, {1 - from, RECV, from, lengths[i], i});
  sync_all(session);
  end_session(session);
}

static void every_type(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int t = 0; t < NUM_REDUCED_TYPES; t++)
    POST_STEPS(session, reduced_types[t], {1, SEND, 0, 100 + t, t}, {0, RECV, 1, 100 + t, t});
  for (int t = 0; t < NUM_MOVED_TYPES; t++) /* with one lane */
    POST_STEPS(session, moved_types[t], {0, SEND, 1, 6001, t}, {1, RECV0, 0, 6001, t});
  sync_all(session);
  end_session(session);
}

static void ping_pong(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  for (int size = 0; size < NUM_LENGTHS - 2; size++) {
    enum { ROUNDS = 20 };
    step all[4 * ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
      const int64_t n = lengths[size], seed = 2 * i;
      memcpy(&all[4 * i],
             ((step[]){
                 {0, SEND, 1, n, seed}, {1, RECV, 0, n, seed}, {1, SEND, 0, n, seed + 1}, {0, RECV, 1, n, seed + 1}}),
             4 * sizeof(step));
    }
    post_steps(session, bytes, all, 4 * ROUNDS);
  }
  sync_all(session);
  end_session(session);
}

/* Everybody sends to the right, then receives from the left: small ones do not wait. */
static void a_ring_of_small_messages(void **state) {
  const int32_t ranks = *(const int *)*state;
  disco_session *session = make_session(ranks, 1);
  for (int turn = 0; turn < scaled(40, 4); turn++) {
    step all[2 * 16];
    for (int32_t w = 0; w < ranks; w++) {
      const int32_t left = (w + ranks - 1) % ranks;
      all[w] = (step){w, SEND, (w + 1) % ranks, 56 + turn, 100 * turn + w};
      all[ranks + w] = (step){w, RECV, left, 56 + turn, 100 * turn + left};
    }
    post_steps(session, bytes, all, 2 * (size_t)ranks);
  }
  sync_all(session);
  end_session(session);
}

/* Large ones wait for the receiver: every second rank receives first. */
static void a_ring_of_large_messages(void **state) {
  const int32_t ranks = *(const int *)*state; /* an even number */
  disco_session *session = make_session(ranks, 1);
  for (int turn = 0; turn < 3; turn++) {
    step all[2 * 16];
    for (int32_t w = 0; w < ranks; w++) {
      const int32_t left = (w + ranks - 1) % ranks;
      all[w + (w % 2) * ranks] = (step){w, SEND, (w + 1) % ranks, 700001, 10 * turn + w};
      all[w + (1 - w % 2) * ranks] = (step){w, RECV, left, 700001, 10 * turn + left};
    }
    post_steps(session, bytes, all, 2 * (size_t)ranks);
  }
  sync_all(session);
  end_session(session);
}

/* Two small sends stand before any receive, both ways; the commands that receive come later, in the same order. */
static void sent_in_one_command_and_received_in_a_later_one(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  for (int64_t turn = 0; turn < scaled(50, 5); turn++) {
    const int64_t n = 1 + turn % 57, seed = 10 * turn;
    POST_STEPS(session, bytes, {0, SEND, 2, n, seed}, {2, SEND, 0, 4096, seed + 1});
    POST_STEPS(session, bytes, {0, SEND, 2, 2000, seed + 2}, {2, SEND, 0, n, seed + 3});
    sync_all(session); /* nobody waits for a receiver */
    const job between = job_of(ALLREDUCE, reduced_types[TYPE_F32], 20);
    post_job(session, &between);
    POST_STEPS(session, bytes, {2, RECV0, 0, n, seed}, {0, RECV, 2, 4096, seed + 1});
    POST_STEPS(session, bytes, {0, RECV, 2, n, seed + 3}, {2, RECV, 0, 2000, seed + 2});
  }
  sync_all(session);
  end_session(session);
}

/* A large send waits over the receiver's earlier commands, and those of others go on. */
static void a_large_send_waits_for_a_late_receiver(void **state) {
  (void)state;
  disco_session *session = make_session(3, 1);
  POST_STEPS(session, bytes, {0, SEND, 1, 1000003, 1}, {1, NAP, 0, 20, 0}, {2, NAP, 0, 1, 0});
  POST_STEPS(session, bytes, {2, SEND, 1, 100, 3});
  POST_STEPS(session, bytes, {1, RECV, 2, 100, 3}, {1, RECV, 0, 1000003, 1});
  sync_all(session);
  end_session(session);
}

/* Many small ones to a receiver that is late: they come in order, whether the sender had to wait or not. */
static void a_burst_of_small_messages(void **state) {
  (void)state;
  enum { BURST = 300 };
  disco_session *session = make_session(2, 1);
  step all[2 * BURST + 1];
  all[0] = (step){1, NAP, 0, 10, 0};
  for (int i = 0; i < BURST; i++) {
    all[1 + i] = (step){0, SEND, 1, (int64_t)(mix(5, (uint64_t)i) % 3000), i};
    all[1 + BURST + i] = (step){1, RECV, 0, all[1 + i].count, i};
  }
  post_steps(session, bytes, all, 2 * BURST + 1);
  sync_all(session);
  end_session(session);
}

static void all_to_all(void **state) {
  const int32_t ranks = *(const int *)*state;
  disco_session *session = make_session(ranks, 1);
  step all[2 * 8 * 8];
  size_t count = 0;
  for (int32_t from = 0; from < ranks; from++)
    for (int32_t to = 0; to < ranks; to++)
      if (from != to) all[count++] = (step){from, SEND, to, 40 + from, 8 * from + to};
  for (int32_t to = 0; to < ranks; to++)
    for (int32_t by = 1; by < ranks; by++) { /* each in an order of its own */
      const int32_t from = (to + by) % ranks;
      all[count++] = (step){to, RECV, from, 40 + from, 8 * from + to};
    }
  for (int turn = 0; turn < 5; turn++) post_steps(session, bytes, all, count);
  sync_all(session);
  end_session(session);
}

static void groups_hand_on_to_the_next(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  for (int i = 0; i < NUM_LENGTHS; i++)
    POST_STEPS(session, bytes, {0, SEND_NEXT, 0, lengths[i], i}, {1, SEND_NEXT, 0, lengths[i], i + 50},
               {2, RECV_PREV, 0, lengths[i], i}, {3, RECV_PREV, 0, lengths[i], i + 50});
  sync_all(session);
  end_session(session);
  session = make_session(6, 3); /* a pipeline: the middle group hands on what it got */
  POST_STEPS(session, bytes, {0, SEND_NEXT, 0, 5000, 7}, {1, SEND_NEXT, 0, 300000, 8}, {2, RECV_PREV, 0, 5000, 7},
             {2, SEND_NEXT, 0, 5000, 7}, {3, RECV_PREV, 0, 300000, 8}, {3, SEND_NEXT, 0, 300000, 8},
             {4, RECV_PREV, 0, 5000, 7}, {5, RECV_PREV, 0, 300000, 8});
  sync_all(session);
  end_session(session);
}

/* The names are different ways to say the same: one pair of ids has one order. */
static void the_names_share_one_queue(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  POST_STEPS(session, bytes, {0, SEND_NEXT, 0, 30, 1}, {0, SEND, 2, 31, 2}, {2, RECV0, 0, 30, 1},
             {2, RECV_PREV, 0, 31, 2});
  sync_all(session);
  end_session(session);
}

static void messages_among_collectives(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  for (int64_t turn = 0; turn < scaled(60, 6); turn++) {
    job it = job_of((int)turn % NUM_OPERATIONS, reduced_types[TYPE_F32], turn % 3 == 0 ? 20000 : 9);
    it.in_group = turn & 1;
    it.seed = turn;
    POST_STEPS(session, bytes, {1, SEND, 3, 20 * turn, turn}, {3, SEND, 1, 20 * turn, turn + 1});
    post_job(session, &it);
    POST_STEPS(session, bytes, {3, RECV, 1, 20 * turn, turn}, {1, RECV, 3, 20 * turn, turn + 1});
  }
  sync_all(session);
  end_session(session);
}

static int p2 = 2, p3 = 3, p4 = 4, p6 = 6, p8 = 8;

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define FOR_RANKS(test, n) {#test ", " #n " ranks", test, NULL, NULL, &p##n}
      cmocka_unit_test(one_message_of_every_size),
      cmocka_unit_test(every_type),
      cmocka_unit_test(ping_pong),
      FOR_RANKS(a_ring_of_small_messages, 2),
      FOR_RANKS(a_ring_of_small_messages, 3),
      FOR_RANKS(a_ring_of_small_messages, 8),
      FOR_RANKS(a_ring_of_large_messages, 2),
      FOR_RANKS(a_ring_of_large_messages, 4),
      FOR_RANKS(a_ring_of_large_messages, 6),
      cmocka_unit_test(sent_in_one_command_and_received_in_a_later_one),
      cmocka_unit_test(a_large_send_waits_for_a_late_receiver),
      cmocka_unit_test(a_burst_of_small_messages),
      FOR_RANKS(all_to_all, 3),
      FOR_RANKS(all_to_all, 8),
      cmocka_unit_test(groups_hand_on_to_the_next),
      cmocka_unit_test(the_names_share_one_queue),
      cmocka_unit_test(messages_among_collectives),
  };
  return ccl_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]));
}
