/* Where the system says no: descriptors, processes, shared memory, memory. Each in a process of its own, whose limits
 * are its own. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deaths/support.h"
#include "ffi/object.h"

#include "common/cgroup.h" /* after cmocka.h */

enum { SKIPPED = 77 };

/* ---- Trying until it works ---- */

static int count_descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 512; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static void need_ids(disco_session *session) {
  disco_dref *id = NULL, *ids = NULL;
  TVMFFIAny value = dsc_none();
  NEED(disco_session_get_global_func(session, "d.id", &id) == DISCO_OK);
  NEED(disco_call(session, id, NULL, 0, &ids) == DISCO_OK);
  for (int i = 0; i < disco_session_num_workers(session); i++) {
    NEED(disco_debug_get(ids, i, BOUND_MS, &value) == DISCO_OK);
    NEED(value.v_int64 == i);
  }
  disco_dref_unref(ids);
  disco_dref_unref(id);
}

static bool has_no_child(void *context) {
  (void)context;
  return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

/* One limit after the other until a session of 4 works. What fails must fail whole, say the limit, and leave nothing.
 * `resource` is lowered to what is used now plus n. */
static int climb(int resource, rlim_t used, const char *names, bool pipe) {
  struct rlimit limit;
  NEED(getrlimit(resource, &limit) == 0);
  int failures = 0, good = 0;
  for (rlim_t n = 0; n < 100 && good < 3; n++) {
    struct rlimit low = {used + n, limit.rlim_max};
    disco_session_options options = options_of(4, pipe);
    disco_session *session = NULL;
    const int before = count_descriptors();
    NEED(setrlimit(resource, &low) == 0);
    disco_status status = disco_session_create_process(&options, &session);
    if (status != DISCO_OK) {
      failures++;
      NEED(good == 0);
      NEED(session == NULL);
      NEED(status == DISCO_RUNTIME || status == DISCO_MEMORY);
      if (strstr(disco_last_error_text(), names) == NULL) say("%s", disco_last_error_text());
      NEED(strstr(disco_last_error_text(), names) != NULL);
      NEED(until(has_no_child, NULL));
    } else {
      /* A worker, or what stands for it here, may still have found no room; then it is lost, and nothing else. */
      disco_dref *id = NULL;
      status = disco_session_get_global_func(session, "d.id", &id);
      if (status == DISCO_OK) status = disco_call(session, id, NULL, 0, NULL);
      if (status == DISCO_OK) status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
      if (status != DISCO_OK && status != DISCO_LOST) say("n %d: %s", (int)n, disco_last_error_text());
      NEED(status == DISCO_OK || status == DISCO_LOST);
      good = status == DISCO_OK ? good + 1 : 0;
      disco_dref_unref(id);
      NEED(disco_session_shutdown(session) == DISCO_OK);
      disco_session_unref(session);
      NEED(until(has_no_child, NULL));
    }
    NEED(setrlimit(resource, &limit) == 0);
    const int after = count_descriptors();
    /* The monitor's three come with the first session that gets so far. */
    if (after > before + 3) say("n %d: descriptors %d -> %d", (int)n, before, after);
    NEED(after <= before + 3);
  }
  NEED(good == 3);
  NEED(failures > 0);
  return 0;
}

static int run_out_of_descriptors(int argc, char **argv) {
  NEED(argc == 1);
  return climb(RLIMIT_NOFILE, (rlim_t)count_descriptors(), "ulimit -n", strcmp(argv[0], "pipe") == 0);
}

/* Root is not bound by it: be somebody else, in a process that was started as him. */
static int become_nobody(int argc, char **argv) {
  const uid_t nobody = 60000 + (uid_t)getpid() % 5000;
  char *const words[] = {"/proc/self/exe", "role", "processes", argv[0], NULL};
  NEED(argc == 1);
  if (geteuid() != 0) return SKIPPED;
  NEED(setresgid(nobody, nobody, nobody) == 0);
  NEED(setresuid(nobody, nobody, nobody) == 0);
  (void)prctl(PR_SET_DUMPABLE, 1);
  (void)execv(words[0], words);
  return errno == EACCES ? SKIPPED : 1; /* nobody may not read this program */
}

static int run_out_of_processes(int argc, char **argv) {
  NEED(argc == 1);
  return climb(RLIMIT_NPROC, 1, "ulimit -u", strcmp(argv[0], "pipe") == 0);
}

/* ---- A small /dev/shm ---- */

static int live_with_little_shm(int argc, char **argv) {
  NEED(argc == 1);
  if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
      mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m") != 0)
    return SKIPPED;
  disco_session_options options = options_of(4, strcmp(argv[0], "pipe") == 0);
  disco_session *session = NULL;
  NEED(disco_session_create_process(&options, &session) == DISCO_OK);
  need_ids(session);
  const int64_t size = 8 << 20;
  TVMFFIObjectHandle tensor = NULL;
  NEED(disco_tensor_create(1, &size, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor) == DISCO_OK);
  TVMFFIAny large = dsc_object_value(tensor), value = dsc_none();
  disco_dref *function = NULL, *sized = NULL, *big = NULL;
  NEED(disco_session_get_global_func(session, "d.size", &function) == DISCO_OK);
  NEED(disco_call(session, function, &large, 1, &sized) == DISCO_OK);
  for (int i = 0; i < 4; i++) NEED(disco_debug_get(sized, i, BOUND_MS, &value) == DISCO_OK && value.v_int64 >= size);
  disco_dref_unref(function);
  NEED(disco_session_get_global_func(session, "d.big", &function) == DISCO_OK);
  NEED(disco_call(session, function, ARGS(dsc_int(size)), &big) == DISCO_OK);
  NEED(disco_debug_get(big, 3, BOUND_MS, &value) == DISCO_OK);
  dsc_value_drop(&value);
  disco_dref_unref(function);
  disco_dref_unref(sized);
  disco_dref_unref(big);
  dsc_object_unref(tensor);
  NEED(disco_session_shutdown(session) == DISCO_OK);
  disco_session_unref(session);
  return 0;
}

/* ---- A small control group ---- */

static bool write_file(const char *folder, const char *name, const char *text) {
  char path[512];
  (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  bool written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  close(fd);
  return written;
}

enum { GROUP_BYTES = 128 << 20 };

/* Make it and go into it. */
static bool enter_group(const char *folder, bool is_version2) {
  char bytes[32], pid[32];
  (void)snprintf(bytes, sizeof(bytes), "%d", GROUP_BYTES);
  (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
  if (mkdir(folder, 0700) != 0) return false;
  bool made = write_file(folder, is_version2 ? "memory.max" : "memory.limit_in_bytes", bytes);
  if (made && is_version2) (void)write_file(folder, "memory.swap.max", "0");
  if (made && !is_version2) (void)write_file(folder, "memory.swappiness", "0");
  if (made && write_file(folder, "cgroup.procs", pid)) return true;
  (void)rmdir(folder);
  return false;
}

static int grow(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)num_args;
  *result = dsc_none();
  for (int i = 0; my_id() == (int32_t)args[0].v_int64 && i < 2000; i++) {
    char *memory = malloc(1 << 20);
    if (memory != NULL) memset(memory, i + 1, 1 << 20);
  }
  return 0;
}

/* runtime.disco.empty of so many bytes on every worker, and what comes of it. */
static disco_status make_empty(disco_session *session, int64_t bytes) {
  TVMFFIAny shape = dsc_none(), size = dsc_int(bytes), args[5];
  TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle make = NULL;
  disco_dref *function = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0 || TVMFFIFunctionCall(make, &size, 1, &shape) != 0) return DISCO_TYPE;
  dsc_object_unref(make);
  for (int i = 0; i < 5; i++) args[i] = dsc_int(0);
  args[0] = shape;
  args[1].type_index = kTVMFFIDataType;
  args[1].v_dtype = (DLDataType){kDLUInt, 8, 1};
  args[2].type_index = kTVMFFIDevice;
  args[2].v_device = (DLDevice){kDLCPU, 0};
  args[3].type_index = args[4].type_index = kTVMFFIBool;
  disco_status status = disco_session_get_global_func(session, "runtime.disco.empty", &function);
  if (status == DISCO_OK) status = disco_call(session, function, args, 5, NULL);
  if (status == DISCO_OK) status = disco_session_sync(session, DISCO_ALL_WORKERS, BOUND_MS);
  disco_dref_unref(function);
  dsc_value_drop(&shape);
  return status;
}

/* Word: the folder of the group. In a group of its own; the test removes it. */
static int run_out_of_memory(int argc, char **argv) {
  NEED(argc == 2);
  if (!enter_group(argv[0], strcmp(argv[1], "2") == 0)) return SKIPPED;
  disco_session_options options = options_of(3, false);
  disco_session *session = NULL;
  NEED(disco_session_create_process(&options, &session) == DISCO_OK);
  need_ids(session);
  /* What asks first is refused. */
  disco_dref *function = NULL, *grown = NULL;
  disco_error_info error = {.struct_size = sizeof(error)};
  disco_status status = make_empty(session, GROUP_BYTES - (1 << 20));
  NEED(status == DISCO_MEMORY || status == DISCO_RAISED);
  NEED(disco_last_error(&error) == DISCO_OK);
  NEED(strcmp(error.kind, "MemoryError") == 0);
  need_ids(session);
  /* What does not ask is killed. */
  NEED(disco_session_get_global_func(session, "d.grow", &function) == DISCO_OK);
  NEED(disco_call(session, function, ARGS(dsc_int(1)), &grown) == DISCO_OK);
  status = disco_session_sync(session, DISCO_ALL_WORKERS, 4 * BOUND_MS);
  NEED(status == DISCO_LOST);
  NEED(disco_last_error(&error) == DISCO_OK);
  NEED(error.worker == 1 && error.signal_number == SIGKILL);
  char part[64];
  (void)snprintf(part, sizeof(part), "limit is %d bytes", GROUP_BYTES);
  if (strstr(error.text, part) == NULL) say("%s", error.text);
  NEED(strstr(error.text, "out of memory") != NULL);
  NEED(strstr(error.text, part) != NULL);
  disco_dref_unref(function);
  disco_dref_unref(grown);
  NEED(disco_session_shutdown(session) == DISCO_OK);
  disco_session_unref(session);
  return 0;
}

/* ---- Tests ---- */

static const role roles[] = {
    {"descriptors", run_out_of_descriptors}, {"nobody", become_nobody},     {"processes", run_out_of_processes},
    {"shm", live_with_little_shm},           {"memory", run_out_of_memory}, {NULL, NULL},
};

static int play(const char *const *words) {
  other process = start_role(words);
  int status = -1;
  char text[4096];
  size_t used = 0;
  ssize_t got;
  while (used < sizeof(text) - 1 && (got = read(process.out, text + used, sizeof(text) - 1 - used)) > 0)
    used += (size_t)got;
  text[used] = 0;
  status = end_role(&process);
  if (status != 0 && status != SKIPPED) print_error("%s: %s", words[0], text);
  return status;
}

static void check_in_both(const char *name) {
  for (int pipe = 0; pipe < 2; pipe++) {
    int status = play((const char *const[]){name, pipe ? "pipe" : "ring", NULL});
    if (status == SKIPPED) skip(); /* the machine does not allow the limit that it needs */
    assert_int_equal(status, 0);
  }
}

static void no_descriptors(void **state) {
  (void)state;
  check_in_both("descriptors");
}

static void no_processes(void **state) {
  (void)state;
  if (SANITIZED) skip(); /* their own threads and files count, too */
  check_in_both(geteuid() == 0 ? "nobody" : "processes");
}

static void a_shm_of_one_mebibyte(void **state) {
  (void)state;
  check_in_both("shm");
}

static void killed_for_memory(void **state) {
  (void)state;
  if (SANITIZED) skip(); /* they take more than the group has */
  const char *const parents[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
  char folder[128];
  for (int i = 0; i < 2; i++) {
    struct stat there;
    char file[160];
    (void)snprintf(file, sizeof(file), "%s/%s", parents[i], i == 0 ? "memory.usage_in_bytes" : "cgroup.controllers");
    if (stat(file, &there) != 0) continue;
    (void)snprintf(folder, sizeof(folder), "%s/disco_deaths_%d", parents[i], (int)getpid());
    int status = play((const char *const[]){"memory", folder, i == 0 ? "1" : "2", NULL});
    for (int k = 0; k < 100 && rmdir(folder) != 0 && errno == EBUSY; k++) sleep_ms(10);
    if (status == SKIPPED) continue;
    assert_int_equal(status, 0);
    return;
  }
  skip(); /* no memory control group may be made here */
}

/* Where no group can be made: the files of one, for worker 0, which lives here. */
static void refused_before_the_kill(void **state) {
  (void)state;
  fake_cgroup group;
  disco_session *session = open_session(2, false);
  expect_works(session);
  fake_cgroup_begin(&group, "100000000\n", "60000000\n");
  disco_status status = make_empty(session, 50 << 20);
  fake_cgroup_end(&group);
  assert_true(status == DISCO_MEMORY || status == DISCO_RAISED);
  disco_error_info error = last_error();
  assert_string_equal(error.kind, "MemoryError");
  assert_int_equal(error.worker, 0);
  CONTAINS(error.message, "memory limit is 100000000 bytes");
  expect_works(session);
  close_session(session);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_descriptors),          cmocka_unit_test(no_processes),
      cmocka_unit_test(a_shm_of_one_mebibyte),   cmocka_unit_test(killed_for_memory),
      cmocka_unit_test(refused_before_the_kill),
  };
  register_function("d.grow", grow);
  return deaths_main(argc, argv, "deaths.limits", tests, sizeof(tests) / sizeof(tests[0]), roles);
}
