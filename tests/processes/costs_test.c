/* What worker processes must not cost: memory per worker for an argument that all get, and anything while idle. The
 * kernel's own counts are read. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processes/support.h"

enum { WORKERS = 8 };

/* ---- Worker functions ---- */

static long status_of(const char *path, const char *key) {
  char line[256];
  long value = -1;
  FILE *file = fopen(path, "re");
  while (file != NULL && fgets(line, sizeof(line), file) != NULL)
    if (strncmp(line, key, strlen(key)) == 0) value = atol(line + strlen(key));
  if (file != NULL) fclose(file);
  return value;
}

/* c.sum(tensor of bytes, expected sum): growth of private memory in kB while every byte was read; -1: the sum is wrong
 */
static int sum(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 2 || args[0].type_index != kTVMFFITensor) return disco_raise("TypeError", "c.sum wants a tensor");
  const DLTensor *tensor = (const DLTensor *)(args[0].v_obj + 1);
  const uint64_t *words = tensor->data;
  long before = status_of("/proc/self/status", "RssAnon:");
  uint64_t total = 0;
  for (int64_t i = 0; i < tensor->shape[0] / 8; i++) total += words[i];
  long grown = status_of("/proc/self/status", "RssAnon:") - before;
  *result = dsc_int(total == (uint64_t)args[1].v_int64 ? grown : -1);
  return 0;
}

static void register_functions(void) __attribute__((constructor));
static void register_functions(void) {
  if (disco_register_function("c.sum", sum, NULL, NULL, true) != DISCO_OK) abort();
}

/* ---- A large argument ---- */

/* Memory of our descriptors that are memfds of arguments, in bytes: the kernel's count of their pages. */
static int64_t memfd_bytes(void) {
  int64_t total = 0;
  DIR *folder = opendir("/proc/self/fd");
  assert_non_null(folder);
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    char path[300], link[64] = "";
    struct stat info;
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
    if (readlink(path, link, sizeof(link) - 1) <= 0 || strncmp(link, "/memfd:disco ", 13) != 0) continue;
    if (stat(path, &info) == 0) total += (int64_t)info.st_blocks * 512;
  }
  closedir(folder);
  return total;
}

static bool is_given_back(void *context) { return memfd_bytes() <= *(int64_t *)context; }

static void a_tensor_is_written_once_for_all(void **state) {
  (void)state;
  const int64_t bytes = scaled(64, 8) * (int64_t)(1 << 20), slack = 1 << 20;
  disco_session *session = open_session(WORKERS, false);
  TVMFFIObjectHandle tensor = NULL;
  OK(disco_tensor_create(1, &bytes, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor));
  uint64_t *words = ((DLTensor *)((TVMFFIObject *)tensor + 1))->data, total = 0;
  for (int64_t i = 0; i < bytes / 8; i++) total += words[i] = (uint64_t)i * 7;
  disco_dref *warm = call(session, "p.pid", NO_ARGS);
  await_all(session);
  disco_session_stats before = {.struct_size = sizeof(before)}, after = before;
  OK(disco_session_get_stats(session, &before));
  int64_t held_before = memfd_bytes();
  post(session, "p.nap", ARGS(dsc_int(300), dsc_int(1))); /* worker 1 comes to it late: the memory is still held */
  disco_dref *grown = call(session, "c.sum", ARGS(dsc_object_value(tensor), dsc_int((int64_t)total)));
  int64_t held = memfd_bytes() - held_before;
  OK(disco_session_get_stats(session, &after));
  assert_in_range(after.side_bytes - before.side_bytes, bytes, bytes + slack);
  assert_in_range(held, bytes, bytes + slack);
  for (int32_t i = 1; i < WORKERS; i++) {
    TVMFFIAny value = dsc_none();
    OK(disco_debug_get(grown, i, BOUND_MS, &value));
    assert_in_range(value.v_int64, 0, 4096); /* kB; a copy of its own would be 8 MiB at least */
  }
  held_before += slack;
  assert_true(until(is_given_back, &held_before)); /* by itself: nothing more is called */
  disco_dref_unref(grown);
  disco_dref_unref(warm);
  dsc_object_unref(tensor);
  close_session(session);
}

/* ---- Idle ---- */

typedef struct {
  long switches, ticks;
  int threads;
} activity;

/* Of all threads of a process whose names begin so. */
static void add_activity(pid_t pid, const char *name, activity *ret) {
  char folder_path[64];
  (void)snprintf(folder_path, sizeof(folder_path), "/proc/%d/task", (int)pid);
  DIR *folder = opendir(folder_path);
  assert_non_null(folder);
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    char path[400], comm[64] = "", text[1024] = "";
    unsigned long user = 0, system = 0;
    if (entry->d_name[0] == '.') continue;
    (void)snprintf(path, sizeof(path), "%s/%s/stat", folder_path, entry->d_name);
    FILE *file = fopen(path, "re");
    if (file == NULL) continue;
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    char *open = memchr(text, '(', size), *close = strrchr(text, ')');
    if (open == NULL || close == NULL) continue;
    (void)snprintf(comm, sizeof(comm), "%.*s", (int)(close - open - 1), open + 1);
    if (strncmp(comm, name, strlen(name)) != 0) continue;
    if (sscanf(close + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
      ret->ticks += (long)(user + system);
    (void)snprintf(path, sizeof(path), "%s/%s/status", folder_path, entry->d_name);
    ret->switches += status_of(path, "voluntary_ctxt_switches:");
    ret->threads++;
  }
  closedir(folder);
}

static activity activity_of(const pid_t *workers) {
  activity all = {0};
  add_activity(getpid(), "disco ", &all); /* worker 0, monitor, reaper, pumps */
  for (int32_t i = 1; i < WORKERS; i++) add_activity(workers[i], "", &all);
  return all;
}

static void idle_sessions_do_nothing(bool pipe) {
  pid_t workers[WORKERS];
  disco_session *session = open_session(WORKERS, pipe);
  for (int32_t i = 1; i < WORKERS; i++) workers[i] = pid_of(session, i);
  bool quiet = false;
  for (int tries = 0; tries < 10 && !quiet; tries++) {
    sleep_ms(100);
    activity before = activity_of(workers);
    assert_true(before.threads > WORKERS);
    sleep_ms(300);
    activity after = activity_of(workers);
    quiet = memcmp(&before, &after, sizeof(before)) == 0;
  }
  assert_true(quiet);
  close_session(session);
}

static void idle_sessions_on_the_ring_do_nothing(void **state) {
  (void)state;
  idle_sessions_do_nothing(false);
}

static void idle_sessions_on_pipes_do_nothing(void **state) {
  (void)state;
  idle_sessions_do_nothing(true);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_tensor_is_written_once_for_all),
                                     cmocka_unit_test(idle_sessions_on_the_ring_do_nothing),
                                     cmocka_unit_test(idle_sessions_on_pipes_do_nothing)};
  return processes_main(argc, argv, __FILE__, tests, sizeof(tests) / sizeof(tests[0]), NULL);
}
