#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chaos/chaos.h"

/* ---- The end of a failed run ---- */

static uint64_t run_seed;
static const char *run_sessions = "all";
static int run_fault = FAULTS;
static _Atomic int64_t run_step;
static char step_text[256];

void chaos_step(int64_t step, const char *what) {
  atomic_store(&run_step, step);
  (void)snprintf(step_text, sizeof(step_text), "%s", what);
}

static void print_where(void) {
  unsigned long long seed = run_seed;
  long long step = atomic_load(&run_step);
  (void)fprintf(stderr, "  seed %llu, step %lld: %s\n  again: chaos --sessions %s --seed %llu --first %lld --kills 1",
                seed, step, step_text, run_sessions, seed, step);
  if (run_fault != FAULTS) (void)fprintf(stderr, " --fault %d", run_fault);
  (void)fputc('\n', stderr);
}

void chaos_fail(const char *format, ...) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the first one speaks, the others wait for the end */
  va_list list;
  pthread_mutex_lock(&lock);
  (void)fflush(stdout);
  (void)fputs("chaos: FAILED: ", stderr);
  va_start(list, format);
  (void)vfprintf(stderr, format, list);
  va_end(list);
  (void)fputc('\n', stderr);
  print_where();
  _exit(1);
}

/* ---- The bound on calls ---- */

enum { SLOTS = 16 };

typedef struct {
  _Atomic int64_t since_ns; /* 0: in no call */
  _Atomic(const char *) what;
  _Atomic(disco_session *) session;
  _Atomic bool taken;
} call_slot;

static call_slot slots[SLOTS];
static pthread_key_t slot_key;
static _Thread_local call_slot *own_slot;

static void give_slot(void *slot) { atomic_store(&((call_slot *)slot)->taken, false); }

static call_slot *take_slot(void) {
  for (int i = 0; i < SLOTS; i++)
    if (!atomic_exchange(&slots[i].taken, true)) return &slots[i];
  chaos_fail("more threads than the watchdog has slots");
}

void chaos_begin(const char *what, disco_session *session) {
  if (own_slot == NULL) {
    own_slot = take_slot();
    (void)pthread_setspecific(slot_key, own_slot);
  }
  atomic_store(&own_slot->what, what);
  atomic_store(&own_slot->session, session);
  atomic_store(&own_slot->since_ns, chaos_now_ns());
}

disco_status chaos_end(disco_status status) {
  atomic_store(&own_slot->since_ns, 0);
  return status;
}

static void report_hang(const call_slot *slot) {
  char *text = NULL;
  (void)fprintf(stderr, "chaos: FAILED: %s has not returned after %d ms\n", atomic_load(&slot->what), CHAOS_BOUND_MS);
  print_where();
  disco_session *session = atomic_load(&slot->session);
  if (session != NULL && disco_session_dump(session, &text) == DISCO_OK) (void)fputs(text, stderr);
  for (int i = 0; i < SLOTS; i++)
    if (atomic_load(&slots[i].since_ns) != 0)
      (void)fprintf(stderr, "  a thread is in %s\n", atomic_load(&slots[i].what));
  abort();
}

static void *watch(void *argument) {
  (void)argument;
  for (;;) {
    chaos_sleep_us(100000);
    for (int i = 0; i < SLOTS; i++) {
      int64_t since = atomic_load(&slots[i].since_ns);
      if (since != 0 && chaos_now_ns() - since > (int64_t)CHAOS_BOUND_MS * 1000000) report_hang(&slots[i]);
    }
  }
  return NULL;
}

void chaos_watch(uint64_t seed, const char *sessions, int fault) {
  run_fault = fault;
  pthread_t thread;
  run_seed = seed;
  run_sessions = sessions;
  (void)pthread_key_create(&slot_key, give_slot);
  if (pthread_create(&thread, NULL, watch, NULL) != 0) chaos_fail("no watchdog");
  pthread_detach(thread);
}

/* ---- The census ---- */

static int library_threads(void) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) chaos_fail("no /proc/self/task");
  for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
    char path[300], name[32] = "";
    if (entry->d_name[0] == '.') continue;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
    FILE *comm = fopen(path, "re");
    if (comm == NULL) continue; /* it ended meanwhile */
    count += fgets(name, sizeof(name), comm) != NULL && strncmp(name, "disco ", 6) == 0;
    fclose(comm);
  }
  closedir(tasks);
  return count;
}

static void count_descriptors(chaos_census *census, bool list) {
  DIR *entries = opendir("/proc/self/fd");
  if (entries == NULL) chaos_fail("no /proc/self/fd");
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
    char path[300], target[256] = "";
    if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(entries)) continue;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
    if (readlink(path, target, sizeof(target) - 1) < 0) continue;
    census->descriptors++;
    census->memfds += strncmp(target, "/memfd:", 7) == 0;
    if (list) (void)fprintf(stderr, "  descriptor %s: %s\n", entry->d_name, target);
  }
  closedir(entries);
}

static void count_maps(chaos_census *census, bool list) {
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "re");
  if (maps == NULL) chaos_fail("no /proc/self/maps");
  while (fgets(line, sizeof(line), maps) != NULL) {
    const char *name = strchr(line, '/');
    if (name == NULL)
      census->other_maps++;
    else if (strncmp(name, "/memfd:", 7) == 0)
      census->memfd_maps++;
    else
      census->file_maps++;
    if (list && name != NULL && strncmp(name, "/memfd:", 7) == 0) (void)fprintf(stderr, "  map %s", line);
  }
  fclose(maps);
}

/* No child may be left, not even a dead one. */
static bool has_children(void) {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

chaos_census chaos_count(void) {
  chaos_census census = {.children = has_children(), .threads = library_threads()};
  long total = 0, pages = 0;
  count_descriptors(&census, false);
  count_maps(&census, false);
  FILE *file = fopen("/proc/self/statm", "re");
  if (file == NULL || fscanf(file, "%ld %ld", &total, &pages) != 2) chaos_fail("no /proc/self/statm");
  fclose(file);
  census.resident_kib = pages * (sysconf(_SC_PAGESIZE) / 1024);
  return census;
}

/* malloc keeps arenas of two mappings each, glibc a few stacks; a sanitizer maps what it likes. */
static bool is_same(const chaos_census *a, const chaos_census *b) {
  const int slack = CHAOS_SANITIZED ? 4096 : 64;
  return a->children == b->children && a->threads == b->threads && a->descriptors == b->descriptors &&
         a->memfds == b->memfds && a->memfd_maps == b->memfd_maps &&
         (CHAOS_SANITIZED || a->file_maps == b->file_maps) && a->other_maps <= b->other_maps + slack;
}

void chaos_print_census(const char *title, const chaos_census *census) {
  printf("%-8s %8d %8d %12d %7d %10d %11d %11d %9ld\n", title, census->children, census->threads, census->descriptors,
         census->memfds, census->memfd_maps, census->file_maps, census->other_maps, census->resident_kib);
}

void chaos_expect_census(const chaos_census *before) {
  chaos_census now = chaos_count();
  int64_t end = chaos_now_ns() + (int64_t)CHAOS_BOUND_MS * 1000000;
  while (!is_same(&now, before) && chaos_now_ns() < end) {
    chaos_sleep_us(500);
    now = chaos_count();
  }
  if (is_same(&now, before)) return;
  chaos_census again = {0};
  count_descriptors(&again, true);
  count_maps(&again, true);
  chaos_print_census("before", before);
  chaos_print_census("after", &now);
  chaos_fail("something was left behind");
}
