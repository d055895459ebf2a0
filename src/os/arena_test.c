/* The arena: its mapping, the allocator of a range against a model, memory given back, and the control group's limit
 * read from a folder of made-up files. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/atomics.h"
#include "base/inject.h"
#include "os/arena.h"
#include "os/cgroup.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* ---- Helpers ---- */

static uint64_t page_size(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

static uint64_t resident_bytes(const dsc_arena *arena) {
  struct stat status;
  assert_int_equal(fstat(arena->fd, &status), 0);
  return (uint64_t)status.st_blocks * 512;
}

static void assert_error_says(const char *part) {
  if (strstr(disco_last_error_text(), part) == NULL) fail_msg("no \"%s\" in: %s", part, disco_last_error_text());
}

static void create(uint64_t range_bytes, int32_t ranges, dsc_arena *ret_arena, dsc_arena_range **ret_range) {
  assert_int_equal(dsc_arena_create(range_bytes, ranges, ret_arena), DISCO_OK);
  assert_int_equal(dsc_arena_range_create(ret_arena, 0, ret_range), DISCO_OK);
}

static void destroy(dsc_arena *arena, dsc_arena_range *range) {
  assert_int_equal(dsc_arena_range_used(range), 0);
  dsc_arena_range_unref(range);
  dsc_arena_destroy(arena);
}

static char *alloc(dsc_arena_range *range, uint64_t bytes) {
  void *memory = NULL;
  if (dsc_arena_alloc(range, bytes, &memory) != DISCO_OK) fail_msg("%s", disco_last_error_text());
  assert_int_equal((uintptr_t)memory % 64, 0);
  return memory;
}

static void assert_refused(dsc_arena_range *range, uint64_t bytes) {
  void *memory = &memory;
  assert_int_equal(dsc_arena_alloc(range, bytes, &memory), DISCO_MEMORY);
  assert_ptr_equal(memory, &memory);
}

static uint64_t next_random(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static int scale(void) {
  const char *text = getenv("DISCO_TEST_SCALE");
  int value = text != NULL ? atoi(text) : 1;
  return value > 0 ? value : 1;
}

static int open_descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* ---- The mapping ---- */

static void it_is_sparse_and_sealed(void **state) {
  (void)state;
  dsc_arena arena = {0};
  assert_int_equal(dsc_arena_create(4 * GIB + 1, 3, &arena), DISCO_OK);
  assert_int_equal(arena.range_bytes, 4 * GIB + page_size()); /* whole pages */
  assert_int_equal(arena.ranges, 3);
  assert_int_equal(resident_bytes(&arena), 0);
  assert_int_equal(fcntl(arena.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  assert_int_equal(ftruncate(arena.fd, 0), -1);
  assert_int_equal(errno, EPERM);
  arena.base[3 * arena.range_bytes - 1] = 1;
  assert_int_equal(resident_bytes(&arena), page_size());
  dsc_arena_destroy(&arena);
  assert_null(arena.base);
  dsc_arena_destroy(&arena);
  dsc_arena zeroed = {0};
  dsc_arena_destroy(&zeroed);
  assert_true(fcntl(0, F_GETFD) >= 0); /* the zero in it is no descriptor */
}

static void another_mapping_sees_the_bytes(void **state) {
  (void)state;
  dsc_arena arena, other;
  dsc_arena_range *range;
  create(MIB, 2, &arena, &range);
  char *memory = alloc(range, 100);
  strcpy(memory, "here");
  int fd = dup(arena.fd);
  assert_int_equal(dsc_arena_attach(fd, MIB, 2, &other), DISCO_OK);
  assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  assert_ptr_not_equal(other.base, arena.base);
  assert_string_equal(other.base + (memory - arena.base), "here");
  /* The second range is somebody else's: its allocations begin where ours end. */
  dsc_arena_range *second;
  assert_int_equal(dsc_arena_range_create(&other, 1, &second), DISCO_OK);
  char *theirs = alloc(second, MIB);
  assert_int_equal(theirs - other.base, MIB);
  theirs[MIB - 1] = 77;
  assert_int_equal(arena.base[2 * MIB - 1], 77);
  dsc_arena_free(second, theirs);
  dsc_arena_range_unref(second);
  dsc_arena_destroy(&other);
  assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken over */
  dsc_arena_free(range, memory);
  destroy(&arena, range);
}

static void a_wrong_arena_is_not_attached(void **state) {
  (void)state;
  dsc_arena arena, other = {.ranges = 55};
  assert_int_equal(dsc_arena_create(MIB, 2, &arena), DISCO_OK);
  assert_int_equal(dsc_arena_attach(arena.fd, MIB, 3, &other), DISCO_LOST);
  assert_error_says("2097152");
  assert_int_equal(dsc_arena_attach(-1, MIB, 2, &other), DISCO_LOST);
  int unsealed = memfd_create("test", MFD_CLOEXEC);
  assert_int_equal(ftruncate(unsealed, 2 * MIB), 0);
  assert_int_equal(dsc_arena_attach(unsealed, MIB, 2, &other), DISCO_LOST);
  assert_error_says("sealed");
  assert_int_equal(close(unsealed), 0); /* still the caller's */
  assert_int_equal(other.ranges, 55);
  assert_int_equal(dsc_arena_create(0, 1, &other), DISCO_VALUE);
  assert_int_equal(dsc_arena_create(MIB, 0, &other), DISCO_VALUE);
  assert_int_equal(dsc_arena_create(INT64_MAX, 1, &other), DISCO_VALUE);
  assert_int_equal(dsc_arena_create(GIB, INT32_MAX, &other), DISCO_MEMORY); /* no such address space */
  assert_error_says("arena_bytes");
  dsc_arena_range *range = NULL;
  assert_int_equal(dsc_arena_range_create(&arena, 2, &range), DISCO_VALUE);
  assert_int_equal(dsc_arena_range_create(&arena, -1, &range), DISCO_VALUE);
  assert_null(range);
  dsc_arena_destroy(&arena);
}

/* The kernel would send a signal that ends the process. */
static void a_file_size_limit_is_an_error(void **state) {
  (void)state;
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    struct rlimit limit = {MIB, MIB};
    dsc_arena arena;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(1);
    if (dsc_arena_create(MIB, 2, &arena) != DISCO_RUNTIME) _exit(2);
    if (strstr(disco_last_error_text(), "ulimit") == NULL) _exit(3);
    _exit(dsc_arena_create(MIB, 1, &arena) == DISCO_OK ? 0 : 4);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

static void a_forked_child_does_not_get_it(void **state) {
  (void)state;
  dsc_arena arena;
  assert_int_equal(dsc_arena_create(MIB, 1, &arena), DISCO_OK);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    unsigned char here;
    _exit(mincore(arena.base, 1, &here) == -1 && errno == ENOMEM ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
  dsc_arena_destroy(&arena);
}

/* ---- The allocator ---- */

static void sizes_are_rounded_and_zero_has_a_place(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(64 * 1024, 1, &arena, &range);
  char *none = alloc(range, 0), *other = alloc(range, 0), *one = alloc(range, 1), *more = alloc(range, 65);
  assert_true(none != other && other != one);
  assert_int_equal(dsc_arena_range_used(range), 64 + 64 + 64 + 128);
  dsc_arena_free(range, NULL);
  dsc_arena_free(range, one);
  dsc_arena_free(range, none);
  dsc_arena_free(range, other);
  dsc_arena_free(range, more);
  assert_int_equal(dsc_arena_range_used(range), 0);
  destroy(&arena, range);
}

static void a_full_range_says_what_is_free(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(MIB, 1, &arena, &range);
  assert_refused(range, MIB + 1);
  assert_refused(range, UINT64_MAX);
  assert_refused(range, UINT64_MAX - 63);
  char *all = alloc(range, MIB);
  assert_refused(range, 0);
  assert_error_says("no room for 0 bytes");
  dsc_arena_free(range, all);
  char *first = alloc(range, 256 * 1024), *second = alloc(range, 512 * 1024);
  dsc_arena_free(range, first);
  assert_refused(range, 300 * 1024); /* two pieces of 256 KiB, one on either side */
  assert_error_says("no room for 307200 bytes");
  assert_error_says("524288 of this worker's 1048576 bytes are free, 262144 of them in one piece");
  assert_error_says("arena_bytes");
  first = alloc(range, 256 * 1024);
  dsc_arena_free(range, second);
  dsc_arena_free(range, first);
  destroy(&arena, range);
}

static void pieces_join_again(void **state) {
  (void)state;
  enum { COUNT = 1024 };
  dsc_arena arena;
  dsc_arena_range *range;
  create(MIB, 1, &arena, &range);
  uint64_t random = 88172645463325252u;
  for (int round = 0; round < 8; round++) {
    char *memory[COUNT];
    for (int i = 0; i < COUNT; i++) memory[i] = alloc(range, MIB / COUNT);
    assert_refused(range, 1);
    for (int i = COUNT - 1; i > 0; i--) {
      int j = (int)(next_random(&random) % (uint64_t)(i + 1));
      char *swap = memory[i];
      memory[i] = memory[j];
      memory[j] = swap;
    }
    for (int i = 0; i < COUNT; i++) dsc_arena_free(range, memory[i]);
    char *whole = alloc(range, MIB);
    dsc_arena_free(range, whole);
  }
  destroy(&arena, range);
}

/* Freeing twice, or what was never allocated, hurts nobody. */
static void a_wrong_free_is_ignored(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(MIB, 1, &arena, &range);
  char *one = alloc(range, 1000), *other = alloc(range, 1000);
  dsc_arena_free(range, one + 64);
  dsc_arena_free(range, arena.base + MIB / 2);
  assert_int_equal(dsc_arena_range_used(range), 2048);
  dsc_arena_free(range, one);
  dsc_arena_free(range, one);
  assert_int_equal(dsc_arena_range_used(range), 1024);
  dsc_arena_free(range, other);
  char *whole = alloc(range, MIB);
  dsc_arena_free(range, whole);
  destroy(&arena, range);
}

/* The model: a byte for each grain says whether it is taken. Each allocation is filled with its own number, which must
 * still be there when it is freed. */
enum { MODEL_BYTES = 8 << 20, MODEL_SLOTS = 600 };

typedef struct {
  char *memory;
  uint64_t bytes;
  unsigned char fill;
} slot;

static void model_take(unsigned char *model, const char *base, const slot *taken, unsigned char was) {
  uint64_t first = (uint64_t)(taken->memory - base) / 64, grains = taken->bytes == 0 ? 1 : (taken->bytes + 63) / 64;
  assert_true((first + grains) * 64 <= MODEL_BYTES);
  for (uint64_t i = first; i < first + grains; i++) {
    assert_int_equal(model[i], was);
    model[i] = !was;
  }
}

static void assert_filled(const slot *taken) {
  for (uint64_t i = 0; i < taken->bytes; i++)
    if ((unsigned char)taken->memory[i] != taken->fill) fail_msg("byte %llu was overwritten", (unsigned long long)i);
}

static uint64_t largest_hole(const unsigned char *model) {
  uint64_t largest = 0, run = 0;
  for (uint64_t i = 0; i < MODEL_BYTES / 64; i++) {
    run = model[i] ? 0 : run + 1;
    if (run > largest) largest = run;
  }
  return largest * 64;
}

static uint64_t random_size(uint64_t *random) {
  uint64_t kind = next_random(random) % 100, size = next_random(random);
  return kind < 50 ? size % 300 : kind < 80 ? size % 8192 : kind < 98 ? size % 100000 : size % 2000000;
}

static void it_behaves_as_its_model(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(MODEL_BYTES, 1, &arena, &range);
  unsigned char *model = calloc(1, MODEL_BYTES / 64);
  slot *slots = calloc(MODEL_SLOTS, sizeof(*slots));
  assert_true(model != NULL && slots != NULL);
  uint64_t random = 0x2545f4914f6cdd1du, used = 0;
  int refused = 0, steps = 40000 / scale();
  for (int step = 0; step < steps; step++) {
    slot *one = &slots[next_random(&random) % MODEL_SLOTS];
    if (one->memory != NULL) {
      assert_filled(one);
      model_take(model, arena.base, one, 1);
      used -= one->bytes == 0 ? 64 : (one->bytes + 63) / 64 * 64;
      dsc_arena_free(range, one->memory);
      one->memory = NULL;
    } else {
      void *memory;
      one->bytes = random_size(&random);
      if (dsc_arena_alloc(range, one->bytes, &memory) != DISCO_OK) {
        refused++;
        assert_true(largest_hole(model) < one->bytes); /* it was really full */
        continue;
      }
      one->memory = memory;
      one->fill = (unsigned char)step;
      model_take(model, arena.base, one, 0);
      used += one->bytes == 0 ? 64 : (one->bytes + 63) / 64 * 64;
      memset(one->memory, one->fill, one->bytes);
    }
    assert_int_equal(dsc_arena_range_used(range), used);
  }
  if (steps >= 40000) assert_true(refused > 0); /* the walls were met */
  for (int i = 0; i < MODEL_SLOTS; i++) dsc_arena_free(range, slots[i].memory);
  char *whole = alloc(range, MODEL_BYTES);
  dsc_arena_free(range, whole);
  free(slots);
  free(model);
  destroy(&arena, range);
}

/* ---- Giving memory back ---- */

static void freed_memory_is_punched_out(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(GIB, 1, &arena, &range);
  char *small = alloc(range, 16 * MIB), *large = alloc(range, 64 * MIB), *after = alloc(range, 5);
  memset(small, 1, 16 * MIB);
  memset(large, 2, 64 * MIB);
  memset(after, 3, 5);
  assert_int_equal(resident_bytes(&arena), 80 * MIB + page_size());
  dsc_arena_free(range, small);
  assert_int_equal(resident_bytes(&arena), 80 * MIB + page_size()); /* 16 MiB may stay */
  char *again = alloc(range, 16 * MIB);
  assert_ptr_equal(again, small); /* warm pages first */
  dsc_arena_free(range, again);
  dsc_arena_free(range, large);
  assert_true(resident_bytes(&arena) <= 32 * MIB + page_size());
  assert_true(resident_bytes(&arena) >= 16 * MIB);
  assert_int_equal(after[4], 3);
  char *fresh = alloc(range, 100 * MIB); /* past what is left: more than one word of the page map */
  memset(fresh, 4, 100 * MIB);
  assert_int_equal(after[0], 3);
  dsc_arena_free(range, fresh);
  assert_true(resident_bytes(&arena) <= 32 * MIB + page_size());
  dsc_arena_free(range, after);
  destroy(&arena, range);
}

/* Many small ones, freed in an order that never frees a large run at once; one in a hundred stays. */
static void small_pieces_are_punched_when_they_add_up(void **state) {
  (void)state;
  enum { COUNT = 60000, BYTES = 2048 }; /* 117 MiB */
  dsc_arena arena;
  dsc_arena_range *range;
  create(GIB, 1, &arena, &range);
  char **memory = calloc(COUNT, sizeof(*memory));
  assert_non_null(memory);
  for (int i = 0; i < COUNT; i++) {
    memory[i] = alloc(range, BYTES);
    memset(memory[i], i % 100, BYTES);
  }
  for (int start = 1; start < 100; start++) {
    int stride = start * 37 % 100; /* each remainder once, but for 0 */
    for (int i = stride; i < COUNT; i += 100) dsc_arena_free(range, memory[i]);
  }
  /* Each survivor keeps its page; the rims of the holes count with them. */
  assert_true(resident_bytes(&arena) <= 32 * MIB + COUNT / 100 * 2 * page_size());
  for (int i = 0; i < COUNT; i += 100) {
    for (int byte = 0; byte < BYTES; byte++) assert_int_equal(memory[i][byte], 0);
    memory[i][0] = 5;
    dsc_arena_free(range, memory[i]);
  }
  assert_true(resident_bytes(&arena) <= 32 * MIB);
  char *whole = alloc(range, GIB);
  dsc_arena_free(range, whole);
  assert_int_equal(dsc_arena_range_used(range), 0);
  assert_true(resident_bytes(&arena) <= 32 * MIB);
  free(memory);
  destroy(&arena, range);
}

/* ---- What is not allocated may not be touched ---- */

#if DSC_ASAN
#include <sanitizer/asan_interface.h>

static void only_what_is_allocated_may_be_touched(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(MIB, 2, &arena, &range);
  char *one = alloc(range, 1001), *other = alloc(range, 4096);
  assert_null(__asan_region_is_poisoned(one, 1001));
  assert_ptr_equal(__asan_region_is_poisoned(one, 1024), one + 1001);
  assert_null(__asan_region_is_poisoned(other, 4096));
  dsc_arena_free(range, one);
  for (int i = 0; i < 1024; i++) assert_true(__asan_address_is_poisoned(one + i));
  assert_null(__asan_region_is_poisoned(other, 4096));
  assert_null(__asan_region_is_poisoned(arena.base + MIB, MIB)); /* another's range is none of ours */
  dsc_arena_free(range, other);
  assert_ptr_equal(__asan_region_is_poisoned(other, 4096), other);
  char *both = alloc(range, 5000); /* over the place of both, and beyond */
  assert_ptr_equal(both, one);
  assert_null(__asan_region_is_poisoned(both, 5000));
  dsc_arena_free(range, both);
  char *base = arena.base;
  destroy(&arena, range);
  assert_null(__asan_region_is_poisoned(base, MIB));
}

/* In a child: reads (or writes) freed memory; its report comes through the pipe. */
static void touch_freed(bool writes, int report_fd) {
  dsc_arena arena;
  dsc_arena_range *range;
  (void)dup2(report_fd, STDERR_FILENO);
  if (dsc_arena_create(MIB, 1, &arena) != DISCO_OK || dsc_arena_range_create(&arena, 0, &range) != DISCO_OK) _exit(3);
  volatile char *memory = alloc(range, 1000);
  memory[999] = 1;
  dsc_arena_free(range, (void *)(uintptr_t)memory);
  if (writes) memory[999] = 2;
  _exit(memory[999] == 1 ? 4 : 5);
}

static void touching_freed_memory_is_caught(void **state) {
  (void)state;
  for (int writes = 0; writes < 2; writes++) {
    char report[4096] = "";
    size_t size = 0;
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) touch_freed(writes == 1, ends[1]);
    close(ends[1]);
    for (ssize_t got = 1; got > 0 && size<sizeof(report) - 1; size += got> 0 ? (size_t)got : 0)
      got = read(ends[0], report + size, sizeof(report) - 1 - size);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (strstr(report, "use-after-poison") == NULL || strstr(report, writes ? "WRITE of" : "READ of") == NULL)
      fail_msg("status %x: %s", (unsigned)status, report);
  }
}
#endif

/* ---- Who holds it ---- */

static void the_owner_may_let_go_first(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(MIB, 1, &arena, &range);
  int before = open_descriptors();
  dsc_arena_range_adopt(range, &arena);
  assert_null(arena.base);
  dsc_arena_destroy(&arena); /* nothing of ours any more */
  char *one = alloc(range, 1000), *other = alloc(range, 1000);
  dsc_arena_range_unref(range);
  memset(one, 1, 1000);
  dsc_arena_free(range, one);
  memset(other, 2, 1000);
  assert_int_equal(open_descriptors(), before);
  dsc_arena_free(range, other);
  assert_int_equal(open_descriptors(), before - 1); /* the mapping went with the last one */
  unsigned char here;
  assert_int_equal(mincore((void *)((uintptr_t)other / page_size() * page_size()), 1, &here), -1);
  dsc_arena_range_unref(NULL);
}

typedef struct {
  dsc_arena_range *range;
  int number, steps;
} thread_task;

static _Atomic(char *) handed_over[64];

/* Allocates, fills, and leaves it to whichever thread comes by to check and free. */
static void *alloc_and_free(void *argument) {
  thread_task *task = argument;
  uint64_t random = 0x9e3779b97f4a7c15u * (uint64_t)(task->number + 1);
  for (int i = 0; i < task->steps; i++) {
    uint64_t bytes = 64 + next_random(&random) % 20000;
    void *memory;
    if (dsc_arena_alloc(task->range, bytes, &memory) != DISCO_OK) return "refused";
    memset(memory, task->number, 64);
    char *old = atomic_exchange(&handed_over[next_random(&random) % 64], memory);
    if (old == NULL) continue;
    for (int byte = 1; byte < 64; byte++)
      if (old[byte] != old[0]) return "overwritten";
    dsc_arena_free(task->range, old);
  }
  return NULL;
}

static void any_thread_may_free(void **state) {
  (void)state;
  enum { THREADS = 4 };
  dsc_arena arena;
  dsc_arena_range *range;
  create(64 * MIB, 1, &arena, &range);
  pthread_t threads[THREADS];
  thread_task tasks[THREADS];
  for (int i = 0; i < THREADS; i++) {
    tasks[i] = (thread_task){range, i, 20000 / scale()};
    assert_int_equal(pthread_create(&threads[i], NULL, alloc_and_free, &tasks[i]), 0);
  }
  void *result;
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], &result);
    assert_null(result);
  }
  for (int i = 0; i < 64; i++) dsc_arena_free(range, atomic_exchange(&handed_over[i], NULL));
  char *whole = alloc(range, 64 * MIB);
  dsc_arena_free(range, whole);
  destroy(&arena, range);
}

/* ---- Control groups ---- */

static char root[] = "/tmp/disco_arena_XXXXXX";

static void put_file(const char *name, const char *text) {
  char path[512];
  int length = snprintf(path, sizeof(path), "%s%s", root, name);
  assert_true(length > 0 && length < (int)sizeof(path));
  for (char *slash = path + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
    *slash = '\0';
    (void)mkdir(path, 0700);
    *slash = '/';
  }
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  fclose(file);
}

static int make_root(void **state) {
  (void)state;
  memcpy(root + sizeof(root) - 7, "XXXXXX", 6);
  dsc_cgroup_root = mkdtemp(root);
  return dsc_cgroup_root != NULL ? 0 : -1;
}

static int remove_root(void **state) {
  (void)state;
  dsc_cgroup_root = "";
  char command[128];
  (void)snprintf(command, sizeof(command), "rm -rf %s", root);
  return system(command);
}

#define V2 "/sys/fs/cgroup"
#define V1 "/sys/fs/cgroup/memory"

static void assert_available(int64_t expected, int64_t expected_limit) {
  int64_t limit = -1;
  assert_int_equal(dsc_memory_available(&limit), expected);
  assert_int_equal(limit, expected_limit);
  assert_int_equal(dsc_memory_available(NULL), expected);
}

static void without_a_limit_there_is_room(void **state) {
  (void)state;
  assert_available(INT64_MAX, INT64_MAX); /* no files at all */
  assert_int_equal(dsc_memory_oom_kills(), 0);
  put_file("/proc/self/cgroup", "0::/a/b\n");
  put_file(V2 "/a/b/memory.max", "max\n");
  put_file(V2 "/a/b/memory.current", "1000\n");
  assert_available(INT64_MAX, INT64_MAX);
  put_file("/proc/self/cgroup", "4:memory:/x\n0::/\n");
  put_file(V1 "/x/memory.limit_in_bytes", "9223372036854771712\n");
  put_file(V1 "/x/memory.usage_in_bytes", "1000\n");
  assert_available(INT64_MAX, INT64_MAX);
  put_file("/proc/self/cgroup", "rubbish\n:\n0:\n0::\n::::\nmemory\n1:memory\n4:memoryless,name=memory:/x");
  put_file(V1 "/memory.limit_in_bytes", "rubbish\n");
  assert_available(INT64_MAX, INT64_MAX);
  assert_int_equal(dsc_memory_check(1 << 20, "this"), DISCO_OK);
}

static void version_2_is_read(void **state) {
  (void)state;
  put_file("/proc/self/cgroup", "0::/box/inner\n");
  put_file(V2 "/box/inner/memory.max", "1000000\n");
  put_file(V2 "/box/inner/memory.current", "700000\n");
  assert_available(300000, 1000000);
  put_file(V2 "/box/inner/memory.stat", "anon 5\nfile 9\ninactive_anon 77\ninactive_file 100000\nactive_file 20000\n"
                                        "workingset_inactive_file 5\n");
  assert_available(420000, 1000000); /* cache is room */
  put_file(V2 "/box/inner/memory.stat", "inactive_file 900000\n");
  assert_available(1000000, 1000000); /* never more than the limit */
  put_file(V2 "/box/memory.max", "5000000\n");
  put_file(V2 "/box/memory.current", "4900000\n");
  assert_available(100000, 5000000); /* the group above is fuller */
  put_file(V2 "/box/memory.current", "5900000\n");
  assert_available(0, 5000000);
  put_file(V2 "/box/inner/memory.events", "low 0\nhigh 0\nmax 31\noom 3\noom_kill 2\noom_group_kill 0\n");
  assert_int_equal(dsc_memory_oom_kills(), 2);
}

static void version_1_is_read(void **state) {
  (void)state;
  put_file("/proc/self/cgroup", "12:pids:/p\n7:hugetlb,memory:/box\n1:name=systemd:/\n0::/other\n");
  put_file(V1 "/box/memory.limit_in_bytes", "2000000\n");
  put_file(V1 "/box/memory.usage_in_bytes", "1500000\n");
  put_file(V1 "/box/memory.stat", "inactive_file 1\nactive_file 1\ntotal_inactive_file 200000\ntotal_active_file 5\n");
  put_file(V1 "/box/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 9\n");
  assert_available(700005, 2000000);
  assert_int_equal(dsc_memory_oom_kills(), 9);
}

/* The CPUs of the nearest quota; "max" and -1 are none. */
static void the_cpu_quota_is_the_smallest_on_the_way_up(void **state) {
  (void)state;
  assert_true(dsc_cgroup_cpu_quota() == 0); /* no files at all */
  put_file("/proc/self/cgroup", "0::/box/inner\n");
  put_file(V2 "/box/inner/cpu.max", "max 100000\n");
  assert_true(dsc_cgroup_cpu_quota() == 0);
  put_file(V2 "/box/cpu.max", "250000 100000\n");
  assert_true(dsc_cgroup_cpu_quota() == 2.5);
  put_file(V2 "/cpu.max", "400000 100000\n");
  assert_true(dsc_cgroup_cpu_quota() == 2.5);
  put_file(V2 "/box/inner/cpu.max", "50000 100000\n");
  assert_true(dsc_cgroup_cpu_quota() == 0.5);
  put_file(V2 "/box/inner/cpu.max", "rubbish\n");
  assert_true(dsc_cgroup_cpu_quota() == 2.5);
  put_file("/proc/self/cgroup", "3:cpuset:/y\n2:cpu,cpuacct:/x\n");
  put_file("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
  put_file("/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  assert_true(dsc_cgroup_cpu_quota() == 0);
  put_file("/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "150000\n");
  assert_true(dsc_cgroup_cpu_quota() == 1.5);
}

/* In a container the path may be the host's, which is not mounted here: the root of the mount is then ours. */
static void a_path_of_the_host_leads_to_the_root(void **state) {
  (void)state;
  put_file("/proc/self/cgroup", "4:memory:/docker/0123\n");
  put_file(V1 "/memory.limit_in_bytes", "2000000\n");
  put_file(V1 "/memory.usage_in_bytes", "500000\n");
  assert_available(1500000, 2000000);
  put_file("/proc/self/cgroup", "4:memory:/../../elsewhere\n");
  put_file("/sys/fs/memory.limit_in_bytes", "1\n");
  assert_available(1500000, 2000000);
}

static void a_check_names_the_limit(void **state) {
  (void)state;
  put_file("/proc/self/cgroup", "0::/\n");
  put_file(V2 "/memory.max", "1000000\n");
  put_file(V2 "/memory.current", "700000\n");
  assert_int_equal(dsc_memory_check(300000, "a tensor"), DISCO_OK);
  assert_int_equal(dsc_memory_check(300001, "a tensor"), DISCO_MEMORY);
  assert_error_says(
      "a tensor needs 300001 bytes: the control group's memory limit is 1000000 bytes, and 300000 of them");
  put_file(V2 "/memory.max", "max\n");
  assert_true(dsc_memory_physical() > 16 * MIB);
  assert_int_equal(dsc_memory_check((uint64_t)1 << 60, "a tensor"), DISCO_MEMORY);
  assert_error_says("this machine has");
}

static void put_room(uint64_t bytes) {
  char text[64];
  (void)snprintf(text, sizeof(text), "%llu\n", (unsigned long long)bytes);
  put_file("/proc/self/cgroup", "0::/\n");
  put_file(V2 "/memory.max", text);
  put_file(V2 "/memory.current", "0\n");
}

static void growing_stops_at_the_limit(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(GIB, 1, &arena, &range);
  put_room(10 * MIB);
  assert_refused(range, 10 * MIB + 1);
  assert_error_says("control group's memory limit is 10485760 bytes");
  assert_int_equal(dsc_arena_range_used(range), 0);
  char *one = alloc(range, 6 * MIB);
  assert_refused(range, 5 * MIB); /* the first is not written yet, and will be */
  memset(one, 1, 6 * MIB);        /* the made-up group does not notice that it was */
  char *other = alloc(range, 5 * MIB);
  dsc_arena_free(range, one);
  put_room(0);
  one = alloc(range, 6 * MIB); /* the pages are there: no growth */
  assert_refused(range, 2 * MIB);
  dsc_arena_free(range, one);
  dsc_arena_free(range, other);
  destroy(&arena, range);
}

/* Small steps add up; what waits to be used again is given back before anything is refused. */
static void small_steps_are_looked_at_too(void **state) {
  (void)state;
  dsc_arena arena;
  dsc_arena_range *range;
  create(GIB, 1, &arena, &range);
  put_room(10 * MIB);
  char *memory[1024];
  int count = 0;
  void *next;
  while (count < 1024 && dsc_arena_alloc(range, 64 * 1024, &next) == DISCO_OK) memory[count++] = next;
  assert_in_range(count, 9 * 16, 11 * 16);
  assert_error_says("control group");
  for (int i = 0; i < count; i++) memset(memory[i], 1, 64 * 1024);
  uint64_t before = resident_bytes(&arena);
  for (int i = 0; i < count; i++) dsc_arena_free(range, memory[i]);
  assert_int_equal(resident_bytes(&arena), before); /* below 32 MiB it stays */
  assert_refused(range, 30 * MIB);
  assert_int_equal(resident_bytes(&arena), 0);
  char *all = alloc(range, 10 * MIB);
  dsc_arena_free(range, all);
  destroy(&arena, range);
}

/* ---- Refusals ---- */

static void a_descriptor_limit_is_explained(void **state) {
  (void)state;
  struct rlimit before;
  dsc_arena arena = {.ranges = 9};
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  disco_status status = dsc_arena_create(MIB, 1, &arena);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  assert_int_equal(status, DISCO_RUNTIME);
  assert_error_says("EMFILE");
  assert_int_equal(arena.ranges, 9);
}

#if defined(DISCO_INJECT) && DISCO_INJECT
static disco_status build_and_use(int *ret_refused_at) {
  dsc_arena arena = {0}, other = {0};
  dsc_arena_range *range = NULL;
  void *memory = NULL;
  *ret_refused_at = 0;
  disco_status status = dsc_arena_create(MIB, 1, &arena);
  if (status == DISCO_OK && ++*ret_refused_at) {
    int fd = dup(arena.fd);
    status = dsc_arena_attach(fd, MIB, 1, &other);
    if (status != DISCO_OK) close(fd);
  }
  if (status == DISCO_OK && ++*ret_refused_at) status = dsc_arena_range_create(&arena, 0, &range);
  if (status == DISCO_OK && ++*ret_refused_at) status = dsc_arena_alloc(range, 100, &memory);
  if (range != NULL && status != DISCO_OK) assert_int_equal(dsc_arena_range_used(range), 0);
  if (memory != NULL) dsc_arena_free(range, memory);
  dsc_arena_range_unref(range);
  dsc_arena_destroy(&other);
  dsc_arena_destroy(&arena);
  return status;
}

static void every_refusal_leaves_nothing(void **state) {
  (void)state;
  (void)dsc_fail(DISCO_VALUE, "this thread has its record");
  int before = open_descriptors(), refused[4] = {0};
  for (int n = 1;; n++) {
    int at;
    (void)dsc_inject_fail_allocation(n);
    disco_status status = build_and_use(&at);
    (void)dsc_inject_fail_allocation(0);
    assert_int_equal(open_descriptors(), before);
    if (status == DISCO_OK) break;
    assert_true(status == DISCO_MEMORY || status == DISCO_RUNTIME);
    refused[at]++;
  }
  assert_int_equal(refused[0], 2); /* memfd, mmap */
  assert_int_equal(refused[1], 1); /* mmap */
  assert_int_equal(refused[2], 4); /* range, extent, table, page map */
  assert_int_equal(refused[3], 1); /* extent */
}
#endif

#define WITH_ROOT(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

int main(void) {
  alarm(120);
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(it_is_sparse_and_sealed),
    cmocka_unit_test(another_mapping_sees_the_bytes),
    cmocka_unit_test(a_wrong_arena_is_not_attached),
    cmocka_unit_test(a_file_size_limit_is_an_error),
    cmocka_unit_test(a_forked_child_does_not_get_it),
    cmocka_unit_test(sizes_are_rounded_and_zero_has_a_place),
    cmocka_unit_test(a_full_range_says_what_is_free),
    cmocka_unit_test(pieces_join_again),
    cmocka_unit_test(a_wrong_free_is_ignored),
    cmocka_unit_test(it_behaves_as_its_model),
    cmocka_unit_test(freed_memory_is_punched_out),
    cmocka_unit_test(small_pieces_are_punched_when_they_add_up),
#if DSC_ASAN
    cmocka_unit_test(only_what_is_allocated_may_be_touched),
    cmocka_unit_test(touching_freed_memory_is_caught),
#endif
    cmocka_unit_test(the_owner_may_let_go_first),
    cmocka_unit_test(any_thread_may_free),
    WITH_ROOT(without_a_limit_there_is_room),
    WITH_ROOT(version_2_is_read),
    WITH_ROOT(version_1_is_read),
    WITH_ROOT(the_cpu_quota_is_the_smallest_on_the_way_up),
    WITH_ROOT(a_path_of_the_host_leads_to_the_root),
    WITH_ROOT(a_check_names_the_limit),
    WITH_ROOT(growing_stops_at_the_limit),
    WITH_ROOT(small_steps_are_looked_at_too),
    cmocka_unit_test(a_descriptor_limit_is_explained),
#if defined(DISCO_INJECT) && DISCO_INJECT
    cmocka_unit_test(every_refusal_leaves_nothing),
#endif
  };
  return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
