/* What only worker processes promise: who they are, what is copied and when, and that size does not matter. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/compiler.h"
#include "session/support.h"

enum { WORKERS = 3, MANY = 8 };

/* It shadows every byte that is read and has a thread of its own that wakes up: the kernel's counts are its own then.
 */
enum { THREAD_SANITIZER = DSC_TSAN };

/* ---- Worker functions ---- */

static int32_t my_id(void) {
  disco_worker_info info = {.struct_size = sizeof(info)};
  return disco_worker_get_info(&info) == DISCO_OK ? info.worker_id : -1;
}

/* () -> Shape (pid, parent's pid) */
static int who(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  TVMFFIAny numbers[] = {dsc_int(getpid()), dsc_int(getppid())};
  TVMFFIByteArray key = {"ffi.Shape", 9};
  TVMFFIObjectHandle make = NULL;
  if (TVMFFIFunctionGetGlobal(&key, &make) != 0) return -1;
  int rc = TVMFFIFunctionCall(make, numbers, 2, result);
  dsc_object_unref(make);
  return rc;
}

static size_t bytes_of(const DLTensor *tensor) {
  size_t bytes = (size_t)tensor->dtype.bits / 8;
  for (int32_t i = 0; i < tensor->ndim; i++) bytes *= (size_t)tensor->shape[i];
  return bytes;
}

/* (tensor, worker, byte): fills it there; None everywhere */
static int fill(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_none();
  if (num_args != 3 || args[0].type_index != kTVMFFITensor) return disco_raise("TypeError", "test.fill");
  const DLTensor *tensor = tensor_of(args[0].v_obj);
  if (my_id() == args[1].v_int64)
    memset((char *)tensor->data + tensor->byte_offset, (int)args[2].v_int64, bytes_of(tensor));
  return 0;
}

/* The same on both sides: changes with every byte and its place. */
static int64_t checksum(const void *data, size_t size) {
  uint64_t sum = 1469598103934665603u;
  for (size_t i = 0; i < size; i++) sum = (sum ^ ((const unsigned char *)data)[i]) * 1099511628211u;
  return (int64_t)(sum >> 1);
}

static int64_t checksum_of(const TVMFFIAny *value) {
  TVMFFIByteArray text;
  if (value->type_index == kTVMFFIInt) return value->v_int64;
  if (value->type_index == kTVMFFITensor) {
    const DLTensor *tensor = tensor_of(value->v_obj);
    return checksum((char *)tensor->data + tensor->byte_offset, bytes_of(tensor));
  }
  return dsc_value_string(value, &text) ? checksum(text.data, text.size) : -1;
}

static int64_t checksum_all(const TVMFFIAny *values, int32_t count) {
  uint64_t sum = 0;
  for (int32_t i = 0; i < count; i++) sum = sum * 31 + (uint64_t)checksum_of(&values[i]);
  return (int64_t)(sum >> 1);
}

/* (values...) -> their checksum: tensors, strings, bytes, ints */
static int check(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  *result = dsc_int(checksum_all(args, num_args));
  return 0;
}

static void fill_pattern(char *data, size_t size, int64_t seed) {
  for (size_t i = 0; i < size; i++) data[i] = (char)((uint64_t)seed * 7 + i * 13 + (i >> 8));
}

/* (size) -> Bytes of that size, a pattern of the worker's own */
static int make_pattern(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  if (num_args != 1) return disco_raise("TypeError", "test.pattern");
  size_t size = (size_t)args[0].v_int64;
  char *data = malloc(size + 1);
  if (data == NULL) return disco_raise("MemoryError", "test.pattern");
  fill_pattern(data, size, my_id());
  TVMFFIByteArray bytes = {data, size};
  int rc = TVMFFIBytesFromByteArray(&bytes, result);
  free(data);
  return rc;
}

/* The number behind `key` in a file of /proc; -1 without. */
static int64_t number_in(const char *path, const char *key) {
  char line[256];
  int64_t value = -1;
  FILE *file = fopen(path, "re");
  while (file != NULL && value < 0 && fgets(line, sizeof(line), file) != NULL)
    if (strncmp(line, key, strlen(key)) == 0) value = strtoll(line + strlen(key), NULL, 10);
  if (file != NULL) (void)fclose(file);
  return value;
}

static int64_t sum_of_bytes(const DLTensor *tensor) {
  const unsigned char *data = (const unsigned char *)tensor->data + tensor->byte_offset;
  const size_t size = bytes_of(tensor);
  int64_t sum = 0;
  for (size_t i = 0; i < size; i++) sum += data[i];
  return sum;
}

/* (tensor, sum of its bytes) -> by how many KiB the private memory of this process grew since the last call of this
 * function: a copy made on the way here is seen, too. Reads every byte. */
static int growth(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  static _Atomic int64_t last = -1;
  (void)self;
  if (num_args != 2 || args[0].type_index != kTVMFFITensor) return disco_raise("TypeError", "test.growth");
  if (sum_of_bytes(tensor_of(args[0].v_obj)) != args[1].v_int64)
    return disco_raise("ValueError", "the bytes of the tensor are others");
  int64_t now = number_in("/proc/self/status", "RssAnon:");
  if (now < 0) return disco_raise("RuntimeError", "no RssAnon in /proc/self/status");
  *result = dsc_int(last < 0 ? 0 : now - last);
  last = now;
  return 0;
}

/* ---- Who they are ---- */

static void pids_differ(void **state) {
  (void)state;
  disco_session *session = make_session(4, 2);
  disco_dref *func = find(session, "test.who"), *result = call(session, func, NO_VALUES);
  int64_t pids[4];
  for (int32_t w = 0; w < 4; w++) {
    TVMFFIAny pair = get(result, w);
    pids[w] = element(&pair, 0).v_int64;
    assert_int_equal(element(&pair, 1).v_int64, w == 0 ? getppid() : getpid());
    for (int32_t k = 0; k < w; k++) assert_int_not_equal(pids[k], pids[w]);
    dsc_value_drop(&pair);
  }
  assert_int_equal(pids[0], getpid());
  disco_dref_unref(result);
  disco_dref_unref(func);
  end_session(session);
}

static void statistics_say_which_way_was_taken(void **state) {
  (void)state;
  disco_session *session = make_session(4, 1);
  disco_dref *one = put(session, dsc_int(1));
  sync_all(session);
  disco_session_stats stats = stats_of(session);
  for (int i = 0; i < WAIT_MS && stats.ring_workers + stats.pipe_workers < 3;
       i++) { /* answers are read beside the ring */
    sleep_ms(1);
    stats = stats_of(session);
  }
  const bool ring = session_mode() != IN_PIPE && session_mode() != IN_CHANNEL;
  assert_int_equal(stats.ring_workers, ring ? 3 : 0);
  assert_int_equal(stats.pipe_workers, ring ? 0 : 3);
  disco_dref_unref(one);
  end_session(session);
  session = make_session(1, 1); /* worker 0 is none of them */
  one = put(session, dsc_int(1));
  sync_all(session);
  disco_dref_unref(one);
  stats = stats_of(session);
  assert_int_equal(stats.ring_workers + stats.pipe_workers, 0);
  end_session(session);
}

/* ---- Starting ---- */

/* Everything can be posted before a worker has come as far as its first line. */
static void nobody_waits_for_slow_workers(void **state) {
  (void)state;
  gate late;
  char hold[64];
  gate_open(&late);
  (void)snprintf(hold, sizeof(hold), "%d:%d", (int)getpid(), late.go[0]);
  assert_int_equal(setenv("TEST_HOLD", hold, 1), 0);
  disco_session *session = make_session(WORKERS, 1);
  assert_int_equal(unsetenv("TEST_HOLD"), 0);
  disco_dref *weigh = find(session, "test.weigh"), *sum = call(session, weigh, VALUES(dsc_int(5)));
  for (int i = 0; i < 1000; i++) {
    disco_dref *next = call(session, weigh, VALUES(any_dref(sum)));
    disco_dref_unref(sum);
    sum = next;
  }
  assert_int_equal(get_int(sum, 0), 5); /* worker 0 works meanwhile */
  bool done = true;
  for (int32_t w = 1; w < WORKERS; w++) {
    expect_ok(disco_session_is_done(session, w, 1, &done));
    assert_false(done);
  }
  char *text = NULL;
  expect_ok(disco_session_dump(session, &text));
  assert_non_null(strstr(text, "worker 1"));
  disco_text_free(text);
  expect_refused(DISCO_TIMEOUT, "worker 1", disco_session_sync(session, 1, 20));
  gate_release(&late, WORKERS - 1);
  assert_int_equal(get_int(sum, 1), 5 + 1001);
  assert_int_equal(get_int(sum, 2), 5 + 2002);
  disco_dref_unref(sum);
  disco_dref_unref(weigh);
  end_session(session);
  gate_close(&late);
}

/* ---- Copies and the very objects ---- */

static void worker_0_shares_and_others_get_copies(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *echo = find(session, "test.echo");
  const int64_t shape[] = {5};
  TVMFFIAny values[] = {any_object(make_tensor(1, shape, 1)), make_text("a text beyond seven bytes"),
                        call_here("ffi.Shape", VALUES(dsc_int(1), dsc_int(2)))};
  for (int i = 0; i < 3; i++) {
    disco_dref *result = call(session, echo, &values[i], 1);
    TVMFFIAny here = get(result, 0), there = get(result, 1), again = get(result, 1);
    assert_ptr_equal(here.v_obj, values[i].v_obj);
    assert_ptr_not_equal(there.v_obj, values[i].v_obj);
    assert_ptr_not_equal(again.v_obj, there.v_obj);
    assert_int_equal(there.type_index, values[i].type_index);
    dsc_value_drop(&here);
    dsc_value_drop(&there);
    dsc_value_drop(&again);
    dsc_value_drop(&values[i]);
    disco_dref_unref(result);
  }
  disco_dref_unref(echo);
  end_session(session);
}

static TVMFFIAny make_byte_tensor(int64_t size, int byte) {
  TVMFFIObjectHandle tensor = NULL;
  expect_ok(disco_tensor_create(1, &size, (DLDataType){kDLUInt, 8, 1}, (DLDevice){kDLCPU, 0}, &tensor));
  memset(tensor_of(tensor)->data, byte, (size_t)size);
  return any_object(tensor);
}

/* The checksum of `size` bytes of this value. */
static int64_t filled_with(int byte, int64_t size) {
  TVMFFIAny tensor = make_byte_tensor(size, byte);
  int64_t sum = checksum_all(&tensor, 1);
  dsc_value_drop(&tensor);
  return sum;
}

static void tensor_arguments_are_copied_on_write(void **state) {
  (void)state;
  const int64_t sizes[] = {1 << 10, 64 << 10, 1 << 20};
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *write = find(session, "test.fill"), *sum = find(session, "test.check"),
             *echo = find(session, "test.echo");
  for (int i = 0; i < 3; i++) {
    TVMFFIAny tensor = make_byte_tensor(sizes[i], 7);
    disco_dref *kept = call(session, echo, &tensor, 1);
    expect_ok(disco_call(session, write, VALUES(any_dref(kept), dsc_int(1), dsc_int(99)), NULL));
    expect_ok(disco_call(session, write, VALUES(tensor, dsc_int(2), dsc_int(55)), NULL)); /* a view of this call only */
    disco_dref *sums = call(session, sum, VALUES(any_dref(kept)));
    assert_int_equal(get_int(sums, 0), filled_with(7, sizes[i]));
    assert_int_equal(get_int(sums, 1), filled_with(99, sizes[i]));
    assert_int_equal(get_int(sums, 2), filled_with(7, sizes[i]));
    assert_int_equal(checksum_all(&tensor, 1), filled_with(7, sizes[i]));
    disco_dref_unref(sums);
    /* Worker 0 has the very object. */
    expect_ok(disco_call(session, write, VALUES(any_dref(kept), dsc_int(0), dsc_int(33)), NULL));
    sums = call(session, sum, VALUES(any_dref(kept)));
    assert_int_equal(get_int(sums, 0), filled_with(33, sizes[i]));
    assert_int_equal(get_int(sums, 1), filled_with(99, sizes[i]));
    assert_int_equal(get_int(sums, 2), filled_with(7, sizes[i]));
    assert_int_equal(checksum_all(&tensor, 1), filled_with(33, sizes[i]));
    dsc_value_drop(&tensor);
    disco_dref_unref(sums);
    disco_dref_unref(kept);
  }
  disco_dref_unref(write);
  disco_dref_unref(sum);
  disco_dref_unref(echo);
  end_session(session);
}

/* A process gets the tensor as it was at the call, however late it comes to it. */
static void tensors_are_taken_at_the_call(void **state) {
  (void)state;
  const int64_t sizes[] = {16, 1 << 10, 64 << 10, 1 << 20};
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *sum = find(session, "test.check"), *sums[4];
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, DISCO_ALL_WORKERS);
  for (int i = 0; i < 4; i++) {
    TVMFFIAny tensor = make_byte_tensor(sizes[i], 7);
    sums[i] = call(session, sum, &tensor, 1);
    memset(tensor_of(tensor.v_obj)->data, 8, (size_t)sizes[i]);
    dsc_value_drop(&tensor);
  }
  gate_release(&stop, WORKERS);
  for (int i = 0; i < 4; i++) {
    assert_int_equal(get_int(sums[i], 0), filled_with(8, sizes[i]));
    assert_int_equal(get_int(sums[i], 1), filled_with(7, sizes[i]));
    assert_int_equal(get_int(sums[i], 2), filled_with(7, sizes[i]));
    disco_dref_unref(sums[i]);
  }
  gate_close(&stop);
  disco_dref_unref(sum);
  end_session(session);
}

/* ---- Large arguments ---- */

static TVMFFIAny make_large(size_t size, int64_t seed, bool as_bytes) {
  char *data = malloc(size + 1);
  TVMFFIAny value = dsc_none();
  assert_non_null(data);
  fill_pattern(data, size, seed);
  TVMFFIByteArray bytes = {data, size};
  assert_int_equal(as_bytes ? TVMFFIBytesFromByteArray(&bytes, &value) : TVMFFIStringFromByteArray(&bytes, &value), 0);
  free(data);
  return value;
}

static void expect_checksum(disco_session *session, disco_dref *sum, const TVMFFIAny *args, int32_t count,
                            int64_t expected) {
  disco_dref *sums = call(session, sum, args, count);
  for (int32_t w = 0; w < disco_session_num_workers(session); w++) assert_int_equal(get_int(sums, w), expected);
  disco_dref_unref(sums);
}

/* Around every size at which the way changes, and beyond the ring. */
static void strings_of_every_size(void **state) {
  (void)state;
  const size_t sizes[] = {
      0, 1, 7, 8, 9, 1000, 65535, 64 << 10, 65537, 1 << 17, 1 << 18, (1 << 18) + 1, (size_t)1 << 20, (size_t)5 << 20};
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *sum = find(session, "test.check");
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
    for (int form = 0; form < 2; form++) {
      TVMFFIAny value = make_large(sizes[i], (int64_t)i, form == 1);
      expect_checksum(session, sum, &value, 1, checksum_all(&value, 1));
      const TVMFFIAny args[] = {dsc_int(1), value, dsc_int(2), value};
      expect_checksum(session, sum, args, 4, checksum_all(args, 4));
      dsc_value_drop(&value);
    }
  disco_dref_unref(sum);
  end_session(session);
}

static void many_large_arguments(void **state) {
  (void)state;
  enum { COUNT = 256 };
  const size_t sizes[] = {300, 3000, 33000, 70000};
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *sum = find(session, "test.check"), *one = put(session, dsc_int(1));
  for (int s = 0; s < 4; s++) {
    TVMFFIAny args[COUNT], as_seen[COUNT];
    for (int i = 0; i < COUNT; i++) {
      args[i] = i % 16 == 3 ? any_dref(one) : make_large(sizes[s] + (size_t)i, i, i % 2 == 1);
      as_seen[i] = i % 16 == 3 ? dsc_int(1) : args[i];
    }
    uint64_t before = stats_of(session).side_bytes;
    expect_checksum(session, sum, args, COUNT, checksum_all(as_seen, COUNT));
    if (s == 3) { /* each has memory of its own; written once, not once for each worker */
      uint64_t total = COUNT * (uint64_t)sizes[s], written = stats_of(session).side_bytes - before;
      assert_true(written >= total - total / 8);
      assert_true(written < 2 * total);
    }
    for (int i = 0; i < COUNT; i++)
      if (i % 16 != 3) dsc_value_drop(&args[i]);
  }
  disco_dref_unref(one);
  disco_dref_unref(sum);
  end_session(session);
}

/* More of them than there are files for at once. */
static void a_stream_of_large_arguments(void **state) {
  (void)state;
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *sum = find(session, "test.check"), *sums[200];
  int64_t expected[200];
  const int rounds = scaled(200, 80);
  for (int i = 0; i < rounds; i++) {
    TVMFFIAny value = make_large((size_t)65536 + (size_t)i * 500, i, true);
    expected[i] = checksum_all(&value, 1);
    sums[i] = call(session, sum, &value, 1);
    dsc_value_drop(&value);
  }
  for (int i = 0; i < rounds; i++) {
    assert_int_equal(get_int(sums[i], i % WORKERS), expected[i]);
    disco_dref_unref(sums[i]);
  }
  disco_dref_unref(sum);
  end_session(session);
}

/* The kernel's count of memory behind our descriptors of large arguments, in bytes. */
static int64_t argument_memory(void) {
  int64_t total = 0;
  DIR *folder = opendir("/proc/self/fd");
  assert_non_null(folder);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    char link[64] = "";
    struct stat info;
    if (readlinkat(dirfd(folder), entry->d_name, link, sizeof(link) - 1) <= 0) continue;
    if (strncmp(link, "/memfd:disco ", 13) != 0) continue; /* the space: not the arena */
    if (fstatat(dirfd(folder), entry->d_name, &info, 0) == 0) total += (int64_t)info.st_blocks * 512;
  }
  (void)closedir(folder);
  return total;
}

static void one_copy_of_a_large_tensor_serves_all(void **state) {
  (void)state;
  if (THREAD_SANITIZER) skip(); /* its own pages and background thread are counted, too */
  const int64_t size = (int64_t)scaled(64, 8) << 20, page = sysconf(_SC_PAGESIZE);
  const int64_t ring = 64 * page; /* the commands' own, when its descriptor is one of ours */
  disco_session *session = make_session(MANY, 1);
  disco_dref *func = find(session, "test.growth");
  TVMFFIAny small = make_byte_tensor(1, 3), large = make_byte_tensor(size, 3);
  disco_dref *warm = call(session, func, VALUES(small, dsc_int(3)));
  sync_all(session);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, DISCO_ALL_WORKERS);
  const int64_t held = argument_memory();
  const uint64_t written = stats_of(session).side_bytes;
  disco_dref *grown = call(session, func, VALUES(large, dsc_int(3 * size)));
  assert_in_range(stats_of(session).side_bytes - written, size, size + 4 * page);
  assert_in_range(argument_memory() - held, size, size + ring);
  gate_release(&stop, MANY);
  int64_t left = size;
  for (int i = 0; i < WAIT_MS && left > ring; i++) { /* nobody calls, and yet it goes */
    sleep_ms(1);
    left = argument_memory() - held;
  }
  assert_true(left <= ring);
  for (int32_t w = 1; w < MANY; w++) assert_true(get_int(grown, w) < 2048); /* worker 0 is our own process */
  assert_in_range(stats_of(session).side_bytes - written, size, size + 4 * page);
  dsc_value_drop(&small);
  dsc_value_drop(&large);
  disco_dref_unref(grown);
  disco_dref_unref(warm);
  disco_dref_unref(func);
  end_session(session);
  gate_close(&stop);
}

/* ---- Idle ---- */

typedef struct {
  int64_t threads, switches, ticks;
} activity;

/* Adds those threads of the process whose names begin so. */
static void add_activity(int64_t pid, const char *name, activity *total) {
  char path[400], text[1024];
  (void)snprintf(path, sizeof(path), "/proc/%lld/task", (long long)pid);
  DIR *folder = opendir(path);
  assert_non_null(folder);
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    unsigned long long user = 0, kernel = 0;
    if (entry->d_name[0] == '.') continue;
    (void)snprintf(path, sizeof(path), "/proc/%lld/task/%s/stat", (long long)pid, entry->d_name);
    FILE *file = fopen(path, "re");
    if (file == NULL) continue; /* it ended */
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    (void)fclose(file);
    char *begin = strchr(text, '('), *end = strrchr(text, ')'); /* the name is between them, whatever it is */
    if (begin == NULL || end == NULL || strncmp(begin + 1, name, strlen(name)) != 0) continue;
    assert_int_equal(sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &kernel), 2);
    (void)snprintf(path, sizeof(path), "/proc/%lld/task/%s/status", (long long)pid, entry->d_name);
    int64_t switches = number_in(path, "voluntary_ctxt_switches:");
    assert_true(switches >= 0);
    total->threads++;
    total->switches += switches;
    total->ticks += (int64_t)(user + kernel);
  }
  (void)closedir(folder);
}

static activity activity_of(const int64_t *pids) {
  activity total = {0};
  add_activity(getpid(), "disco ", &total);
  assert_true(total.threads > 0);
  for (int32_t w = 1; w < MANY; w++) add_activity(pids[w], "", &total);
  return total;
}

static void idle_sessions_sleep(void **state) {
  (void)state;
  if (THREAD_SANITIZER) skip(); /* its own pages and background thread are counted, too */
  int64_t pids[MANY];
  disco_session *session = make_session(MANY, 1);
  disco_dref *func = find(session, "test.who"), *result = call(session, func, NO_VALUES);
  for (int32_t w = 0; w < MANY; w++) {
    TVMFFIAny pair = get(result, w);
    pids[w] = element(&pair, 0).v_int64;
    dsc_value_drop(&pair);
  }
  activity before = activity_of(pids), after = before;
  assert_true(before.threads >= 2 * (MANY - 1) + 1); /* the function and the watcher of each, and worker 0 */
  bool quiet = false;
  for (int i = 0; i < 10 && !quiet; i++) { /* it takes a while to settle */
    before = activity_of(pids);
    sleep_ms(300);
    after = activity_of(pids);
    quiet = before.threads == after.threads && before.switches == after.switches && before.ticks == after.ticks;
  }
  if (!quiet)
    print_error("in 300 ms %lld threads slept %lld times and used %lld ticks\n", (long long)after.threads,
                (long long)(after.switches - before.switches), (long long)(after.ticks - before.ticks));
  assert_true(quiet);
  disco_dref_unref(result);
  disco_dref_unref(func);
  end_session(session);
}

/* ---- Replies ---- */

static bool is_pattern(const TVMFFIAny *value, size_t size, int64_t seed) {
  TVMFFIByteArray have;
  char *wanted = malloc(size + 1);
  fill_pattern(wanted, size, seed);
  bool same = dsc_value_string(value, &have) && have.size == size && memcmp(have.data, wanted, size) == 0;
  free(wanted);
  return same;
}

static void replies_of_every_size(void **state) {
  (void)state;
  const size_t sizes[] = {0,    1,        7,     8,        1000,  1008,    1024,           1025,
                          4096, 16 << 10, 65535, 64 << 10, 65537, 1 << 20, (size_t)8 << 20};
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *pattern = find(session, "test.pattern");
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    disco_dref *made = call(session, pattern, VALUES(dsc_int((int64_t)sizes[i])));
    TVMFFIAny all[WORKERS], one = get(made, 1);
    assert_true(is_pattern(&one, sizes[i], 1));
    dsc_value_drop(&one);
    expect_ok(disco_debug_get_all(made, WAIT_MS, WORKERS, all));
    for (int w = 0; w < WORKERS; w++) {
      assert_true(is_pattern(&all[w], sizes[i], w));
      dsc_value_drop(&all[w]);
    }
    disco_dref_unref(made);
  }
  disco_dref_unref(pattern);
  end_session(session);
}

/* A worker never waits for a reader that left, however much it has to say. */
static void large_late_replies_block_nobody(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *pattern = find(session, "test.pattern"), *made = call(session, pattern, VALUES(dsc_int(100000)));
  TVMFFIAny value = dsc_int(1);
  sync_all(session);
  gate stop;
  gate_open(&stop);
  gate_hold(&stop, session, 1);
  for (int i = 0; i < 100; i++) expect_status(DISCO_TIMEOUT, disco_debug_get(made, 1, 0, &value));
  gate_release(&stop, 1);
  value = get(made, 1);
  assert_true(is_pattern(&value, 100000, 1));
  dsc_value_drop(&value);
  /* And at the end. */
  disco_dref_unref(stop.func);
  stop.func = NULL;
  gate_hold(&stop, session, 1);
  for (int i = 0; i < 100; i++) expect_status(DISCO_TIMEOUT, disco_debug_get(made, 1, 0, &value));
  gate_release(&stop, 1);
  disco_dref_unref(made);
  disco_dref_unref(pattern);
  end_session(session);
  gate_close(&stop);
}

/* ---- Debug values ---- */

/* Array [1, text, tensor of 1 MiB, None, Map {"key": Array [2.5, Shape]}] */
static TVMFFIAny make_container(void) {
  const int64_t shape[] = {1 << 18};
  TVMFFIAny text = make_text("text in a container"), key = make_text("key"),
            tensor = any_object(make_tensor(1, shape, 0));
  TVMFFIAny sizes = call_here("ffi.Shape", VALUES(dsc_int(8), dsc_int(9)));
  TVMFFIAny inner = call_here("ffi.Array", VALUES(any_float(2.5), sizes));
  TVMFFIAny map = call_here("ffi.Map", VALUES(key, inner));
  TVMFFIAny array = call_here("ffi.Array", VALUES(dsc_int(1), text, tensor, dsc_none(), map));
  TVMFFIAny parts[] = {text, key, tensor, sizes, inner, map};
  for (int i = 0; i < 6; i++) dsc_value_drop(&parts[i]);
  return array;
}

static void check_container(const TVMFFIAny *array) {
  assert_int_equal(length(array), 5);
  assert_int_equal(element(array, 0).v_int64, 1);
  TVMFFIAny text = element(array, 1), tensor = element(array, 2), map = element(array, 4);
  assert_true(is_text(&text, "text in a container"));
  assert_int_equal(tensor.type_index, kTVMFFITensor);
  assert_int_equal(tensor_of(tensor.v_obj)->shape[0], 1 << 18);
  for (int i = 0; i < 1 << 18; i += 999) assert_true(floats_of(tensor.v_obj)[i] == (float)i);
  assert_int_equal(element(array, 3).type_index, kTVMFFINone);
  assert_int_equal(map.type_index, kTVMFFIMap);
  TVMFFIAny inner = call_here("ffi.MapGetItem", VALUES(map, any_raw("key")));
  assert_int_equal(length(&inner), 2);
  assert_true(element(&inner, 0).v_float64 == 2.5);
  TVMFFIAny sizes = element(&inner, 1);
  assert_int_equal(element(&sizes, 1).v_int64, 9);
  dsc_value_drop(&inner);
}

static void containers_travel_in_debug_reads_and_writes(void **state) {
  (void)state;
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *dref = put(session, dsc_int(5)), *refused = NULL, *echo = find(session, "test.echo");
  TVMFFIAny array = make_container(), all[WORKERS];
  expect_ok(disco_debug_set(dref, 1, &array, WAIT_MS));
  assert_int_equal(get_int(dref, 2), 5);
  all[0] = get(dref, 1);
  check_container(&all[0]);
  dsc_value_drop(&all[0]);
  expect_ok(disco_debug_set(dref, DISCO_ALL_WORKERS, &array, WAIT_MS));
  disco_dref *again = call(session, echo, VALUES(any_dref(dref))); /* a register's own value goes anywhere there */
  expect_ok(disco_debug_get_all(again, WAIT_MS, WORKERS, all));
  assert_ptr_equal(all[0].v_obj, array.v_obj);
  for (int w = 0; w < WORKERS; w++) {
    check_container(&all[w]);
    dsc_value_drop(&all[w]);
  }
  disco_dref *written = put(session, array); /* a write to all */
  all[2] = get(written, 2);
  check_container(&all[2]);
  dsc_value_drop(&all[2]);
  disco_dref_unref(written);
  /* As arguments they are refused. */
  expect_refused(DISCO_TYPE, "thread workers", disco_call(session, echo, &array, 1, &refused));
  assert_null(refused);
  dsc_value_drop(&array);
  disco_dref_unref(again);
  disco_dref_unref(dref);
  disco_dref_unref(echo);
  end_session(session);
}

static void functions_stay_in_their_process(void **state) {
  (void)state;
  disco_session *session = make_session(2, 1);
  disco_dref *dref = put(session, dsc_int(5));
  TVMFFIByteArray key = {"test.echo", 9};
  TVMFFIObjectHandle handle = NULL;
  assert_int_equal(TVMFFIFunctionGetGlobal(&key, &handle), 0);
  TVMFFIAny function = any_object(handle), inside = call_here("ffi.Array", VALUES(function)), value;
  const TVMFFIAny bad[] = {function, inside, any_pointer(&key)};
  for (int i = 0; i < 3; i++) {
    expect_refused(DISCO_TYPE, "thread workers", disco_debug_set(dref, 1, &bad[i], WAIT_MS));
    expect_refused(DISCO_TYPE, "thread workers", disco_debug_set(dref, DISCO_ALL_WORKERS, &bad[i], WAIT_MS));
  }
  assert_int_equal(get_int(dref, 0), 5);
  assert_int_equal(get_int(dref, 1), 5);
  expect_ok(disco_debug_set(dref, 0, &function, WAIT_MS)); /* worker 0 takes anything */
  value = get(dref, 0);
  assert_ptr_equal(value.v_obj, handle);
  dsc_value_drop(&value);
  assert_int_equal(stats_of(session).errors_told, 0);
  dsc_value_drop(&inside);
  dsc_object_unref(handle);
  disco_dref_unref(dref);
  end_session(session);
}

/* What a worker raises comes with everything that it had. */
static void errors_keep_their_fields(void **state) {
  (void)state;
  disco_session *session = make_session(WORKERS, 1);
  disco_dref *raise = find(session, "test.raise");
  char *message = calloc(1, 3001);
  memset(message, 'm', 3000);
  expect_ok(disco_call(session, raise, VALUES(dsc_int(2), any_raw("LookupError"), any_raw(message)), NULL));
  uint64_t sequence = disco_session_sequence(session);
  expect_kind("LookupError", disco_session_sync(session, DISCO_ALL_WORKERS, WAIT_MS));
  disco_error_info error = {.struct_size = sizeof(error)};
  assert_int_equal(disco_last_error(&error), DISCO_OK);
  assert_string_equal(error.message, message);
  assert_string_equal(error.function, "test.raise");
  assert_int_equal(error.worker, 2);
  assert_int_equal(error.sequence, sequence);
  assert_true(error.pid > 1 && error.pid != getpid());
  free(message);
  disco_dref_unref(raise);
  end_session(session);
}

static void register_more(void) {
  register_function("test.who", who);
  register_function("test.fill", fill);
  register_function("test.check", check);
  register_function("test.pattern", make_pattern);
  register_function("test.growth", growth);
}

int main(void) {
  (void)setenv("DISCO_TEST_SESSION", "pool", 0);
  const struct CMUnitTest tests[] = {cmocka_unit_test(pids_differ),
                                     cmocka_unit_test(statistics_say_which_way_was_taken),
                                     cmocka_unit_test(nobody_waits_for_slow_workers),
                                     cmocka_unit_test(worker_0_shares_and_others_get_copies),
                                     cmocka_unit_test(tensor_arguments_are_copied_on_write),
                                     cmocka_unit_test(tensors_are_taken_at_the_call),
                                     cmocka_unit_test(strings_of_every_size),
                                     cmocka_unit_test(many_large_arguments),
                                     cmocka_unit_test(a_stream_of_large_arguments),
                                     IN_MODES(one_copy_of_a_large_tensor_serves_all, IN_POOL | IN_FOREIGN),
                                     cmocka_unit_test(idle_sessions_sleep),
                                     cmocka_unit_test(replies_of_every_size),
                                     cmocka_unit_test(large_late_replies_block_nobody),
                                     cmocka_unit_test(containers_travel_in_debug_reads_and_writes),
                                     cmocka_unit_test(functions_stay_in_their_process),
                                     cmocka_unit_test(errors_keep_their_fields)};
  return RUN_SUITE(tests, register_more);
}
