/* One worker stands at a named point on its way into an operation while another one raises, returns without calling,
 * or calls something else. Everybody comes back, the first cause is told, and the same operation works next. */
#include <stdio.h>

#include "stuck/support.h"

static const char *const how_names[] = {"good", "raise", "skip", "size", "other", "group"};

typedef struct {
  scene scene;
  disco_session *session;
  operation operation;
  how how;
  int32_t who, target;
  point point;
  int turn;     /* counts cases: the ways of holding and of gating follow from it */
  bool reaches; /* `target` is known to come to the point while `who` does what it does */
} trouble;

static bool gives(operation op, bool root) {
  switch (op) {
  case BROADCAST:
  case SCATTER: return root;
  case GATHER: return !root;
  default: return true;
  }
}

/* Must the target pass there, whatever `who` does at whatever time? */
static bool surely_reaches(const trouble *self, int32_t first) {
  const bool root = self->target == first;
  const way which = self->scene.way;
  if (self->operation == TRANSFER) return self->point == AT_BEGIN;
  switch (self->point) {
  case AT_BEGIN:
  case AT_ENTERED: return true;
  case AT_MID_STORE: return which == ONESHOT && gives(self->operation, root);
  default: return false;
  }
}

/* Does the target give up in the end? Not where it waits for nobody. */
static bool surely_aborts(const trouble *self, int32_t first) {
  const bool root = self->target == first, small = self->scene.way == INLINE || self->scene.way == ONESHOT;
  if (self->operation == TRANSFER || self->how == OTHER || self->how == GROUP) return false;
  if (self->operation == BROADCAST || self->operation == SCATTER) return !small || (!root && self->who == first);
  return self->operation != GATHER || !small || root;
}

static void check_told(const trouble *self) {
  char text[64];
  (void)snprintf(text, sizeof(text), "worker %d " RAISED_TEXT, self->who);
  if (self->how == RAISE) {
    ERROR_IS("ValueError", text);
    return;
  }
  ERROR_IS("CollectiveError", "");
  NAMES_BOTH(self->who);
}

static void make_trouble(const trouble *self) {
  const int32_t ranks = self->scene.workers / self->scene.groups;
  task bad = task_of(self->operation, self->scene.way, ranks, self->turn);
  bad.in_group = self->scene.groups > 1;
  bad.memory = self->turn % MEMORIES;
  bad.who = self->who;
  bad.how = self->how;
  bad.target = self->target;
  bad.point = self->point;
  bad.action = PAUSE;
  bad.gated = self->point != AT_ABORTED && (self->turn & 1) != 0;
  say_case("%s, %s, p = %d in %d groups, worker %d at %s, worker %d: %s, turn %d", operation_names[self->operation],
           way_names[self->scene.way], self->scene.workers, self->scene.groups, self->target, point_names[self->point],
           self->who, how_names[self->how], self->turn);
  reset_pauses();
  post(self->session, &bad);
  if (!wait_reached(BOUND_MS)) {
    print_error("%s: the point was not reached\n", case_text());
    release_paused();
    open_gate();
    fail();
  }
  open_gate();
  const int hold = self->turn % 3;
  disco_status status = DISCO_TIMEOUT;
  if (hold > 0) status = sync_for(self->session, 2); /* a raise is told while the other one stands */
  const bool told_early = status != DISCO_TIMEOUT;
  if (self->how == RAISE && hold == 2 && !told_early) status = sync_for(self->session, BOUND_MS);
  if (self->how == RAISE && hold == 2) check_told(self);
  if (hold == 2 && status != DISCO_TIMEOUT) { /* the next operation is posted meanwhile */
    if (status != DISCO_OK) check_told(self);
    task next = task_of(self->operation, self->scene.way, ranks, self->turn + 1);
    next.in_group = bad.in_group;
    disco_status posted = try_post(self->session, &next);
    release_paused();
    if (posted == DISCO_OK) posted = sync_for(self->session, BOUND_MS);
    if (status != DISCO_OK || (posted != DISCO_OK && !last_is("CollectiveError"))) OK(self->session, posted);
    check_recovers(self->session, &bad, status != DISCO_OK || posted != DISCO_OK);
    return;
  }
  release_paused();
  if (status == DISCO_TIMEOUT) status = sync_for(self->session, BOUND_MS);
  if (status != DISCO_OK) check_told(self);
  if (status == DISCO_OK && self->how == RAISE) {
    print_error("%s: nothing was told\n", case_text());
    fail();
  }
  check_recovers(self->session, &bad, status != DISCO_OK);
}

/* The places of the two: neighbours and root and last, changing with the cases. */
static void choose_places(trouble *self, int32_t ranks, int32_t first) {
  const int32_t who = self->turn % ranks, apart = 1 + self->turn / ranks % (ranks - 1);
  self->who = first + who;
  self->target = first + (who + apart) % ranks;
}

static void run_scene(const scene *where, int share) {
  static const point points[] = {AT_BEGIN, AT_MID_STORE, AT_ENTERED, AT_ABORTED};
  const int32_t ranks = where->workers / where->groups;
  const int places = ranks * (ranks - 1) < 6 ? ranks * (ranks - 1) : 6;
  trouble self = {.scene = *where, .session = open_scene(where)};
  uint64_t index = (uint64_t)where->workers * 1000000 + where->way * 100000;
  for (int op = 0; op < OPERATIONS; op++)
    for (int h = RAISE; h < HOWS; h++)
      for (size_t p = 0; p < sizeof(points) / sizeof(points[0]); p++)
        for (int place = 0; place < places; place++) {
          const int32_t first = where->groups > 1 && place % 2 ? ranks : 0;
          self.operation = (operation)op;
          self.how = (how)h;
          self.point = points[p];
          self.turn++;
          choose_places(&self, ranks, first);
          if (!has_way((operation)op, where->way)) continue;
          if (h == GROUP && (where->groups == 1 || op == TRANSFER)) continue;
          if (op == TRANSFER && (h == SKIP || h == OTHER)) continue; /* may be sent later: tangles_test.c */
          if (op == TRANSFER && self.target > first + 1 && self.who < self.target && self.who != self.target) continue;
          if (self.point == AT_ABORTED ? !surely_aborts(&self, first) : !surely_reaches(&self, first)) continue;
          if (!chosen(index++, share, 4)) continue;
          make_trouble(&self);
        }
  close_scene(self.session);
}

/* All cases of the small sessions, some of the large ones. */
static void troubles(void **state) {
  const scene *at = *state;
  const int shares[MAX_WORKERS + 1] = {[2] = 1, [3] = 1, [4] = 3, [6] = 4, [8] = 8};
  for (int i = 0; i < WAYS; i++) {
    scene where = *at;
    where.way = (way)i;
    run_scene(&where, shares[where.workers]);
  }
}

static scene two = {.workers = 2, .groups = 1}, three = {.workers = 3, .groups = 1}, four = {.workers = 4, .groups = 1},
             eight = {.workers = 8, .groups = 1}, groups = {.workers = 4, .groups = 2},
             triples = {.workers = 6, .groups = 2};

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
#define AT(where) {"troubles, " #where, troubles, NULL, NULL, &(where)}
      AT(two), AT(three), AT(four), AT(eight), AT(groups), AT(triples),
  };
  return stuck_main(argc, argv, "stuck.points", tests, sizeof(tests) / sizeof(tests[0]));
}
