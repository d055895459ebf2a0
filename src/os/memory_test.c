/* Shared memory: zeroed, sealed, given back, refused with a reason. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "os/memory.h"

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static int all_zero(const char *bytes, size_t size) {
  for (size_t i = 0; i < size; i++)
    if (bytes[i] != 0) return 0;
  return 1;
}

static void it_is_zeroed_and_whole_pages(void **state) {
  (void)state;
  const size_t sizes[] = {1, page_size() - 1, page_size(), page_size() + 1, (size_t)1 << 20};
  for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
    dsc_shared_memory memory = {0};
    assert_int_equal(dsc_shared_memory_create(sizes[i], &memory), DISCO_OK);
    assert_true(memory.bytes >= sizes[i]);
    assert_true(memory.bytes < sizes[i] + page_size());
    assert_int_equal(memory.bytes % page_size(), 0);
    assert_int_equal((uintptr_t)memory.base % page_size(), 0);
    assert_true(all_zero(memory.base, memory.bytes));
    memset(memory.base, 0x5a, memory.bytes); /* all of it is there */
    dsc_shared_memory_destroy(&memory);
    assert_null(memory.base);
    dsc_shared_memory_destroy(&memory); /* once more is allowed */
  }
  dsc_shared_memory zeroed = {0};
  dsc_shared_memory_destroy(&zeroed);
}

/* Whoever gets the descriptor cannot make a mapped page vanish under the others. */
static void its_size_is_sealed(void **state) {
  (void)state;
  dsc_shared_memory memory = {0};
  assert_int_equal(dsc_shared_memory_create(2 * page_size(), &memory), DISCO_OK);
  struct stat status;
  assert_int_equal(fstat(memory.fd, &status), 0);
  assert_int_equal(status.st_size, memory.bytes);
  assert_int_equal(status.st_nlink, 0); /* no name anywhere */
  assert_int_equal(ftruncate(memory.fd, 0), -1);
  assert_int_equal(errno, EPERM);
  assert_int_equal(ftruncate(memory.fd, (off_t)memory.bytes * 2), -1);
  assert_int_equal(errno, EPERM);
  int seals = fcntl(memory.fd, F_GET_SEALS);
  assert_int_equal(seals & (F_SEAL_SHRINK | F_SEAL_GROW), F_SEAL_SHRINK | F_SEAL_GROW);
  assert_int_equal(fcntl(memory.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  dsc_shared_memory_destroy(&memory);
}

static void two_mappings_see_one_memory(void **state) {
  (void)state;
  dsc_shared_memory memory = {0};
  assert_int_equal(dsc_shared_memory_create(page_size(), &memory), DISCO_OK);
  const char *other = mmap(NULL, memory.bytes, PROT_READ, MAP_SHARED, memory.fd, 0);
  assert_ptr_not_equal(other, MAP_FAILED);
  strcpy(memory.base, "here");
  assert_string_equal(other, "here");
  munmap((void *)(uintptr_t)other, memory.bytes);
  dsc_shared_memory_destroy(&memory);
}

static size_t resident_bytes(int fd) {
  struct stat status;
  assert_int_equal(fstat(fd, &status), 0);
  return (size_t)status.st_blocks * 512;
}

static void pages_are_given_back(void **state) {
  (void)state;
  const size_t pages = 16;
  dsc_shared_memory memory = {0};
  assert_int_equal(dsc_shared_memory_create(pages * page_size(), &memory), DISCO_OK);
  char *base = memory.base;
  memset(base, 0x5a, memory.bytes);
  assert_int_equal(resident_bytes(memory.fd), memory.bytes);
  dsc_shared_memory_discard(&memory, page_size() + 1);          /* rounded up: the second page stays whole */
  assert_int_equal(resident_bytes(memory.fd), 2 * page_size()); /* asked first: reading makes pages again */
  assert_int_equal(base[2 * page_size() - 1], 0x5a);
  assert_true(all_zero(base + 2 * page_size(), memory.bytes - 2 * page_size()));
  dsc_shared_memory_discard(&memory, memory.bytes); /* nothing left there: no harm */
  dsc_shared_memory_discard(&memory, memory.bytes * 2);
  assert_int_equal(base[0], 0x5a);
  dsc_shared_memory_destroy(&memory);
}

static int open_descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 256; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static void a_descriptor_limit_is_explained(void **state) {
  (void)state;
  struct rlimit limit, none;
  dsc_shared_memory memory = {.base = &limit, .fd = 77};
  int before = open_descriptors();
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
  none = limit;
  none.rlim_cur = 0;
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  disco_status status = dsc_shared_memory_create(page_size(), &memory);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
  assert_int_equal(status, DISCO_RUNTIME);
  assert_non_null(strstr(disco_last_error_text(), "EMFILE"));
  assert_non_null(strstr(disco_last_error_text(), "ulimit -n"));
  assert_ptr_equal(memory.base, &limit); /* outputs are written on success only */
  assert_int_equal(memory.fd, 77);
  assert_int_equal(open_descriptors(), before);
}

static void a_failed_step_leaves_nothing_open(void **state) {
  (void)state;
  dsc_shared_memory memory = {0};
  int before = open_descriptors();
  dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_shared_memory_create(page_size(), &memory), DISCO_RUNTIME);
  assert_non_null(strstr(disco_last_error_text(), "memfd_create"));
  dsc_inject_fail_allocation(2);
  assert_int_equal(dsc_shared_memory_create(page_size(), &memory), DISCO_MEMORY);
  assert_non_null(strstr(disco_last_error_text(), "mmap"));
  assert_non_null(strstr(disco_last_error_text(), "ENOMEM"));
  dsc_inject_fail_allocation(0);
  assert_int_equal(open_descriptors(), before);
  assert_int_equal(dsc_shared_memory_create(page_size(), &memory), DISCO_OK);
  dsc_shared_memory_destroy(&memory);
  assert_int_equal(open_descriptors(), before);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_zeroed_and_whole_pages),    cmocka_unit_test(its_size_is_sealed),
      cmocka_unit_test(two_mappings_see_one_memory),     cmocka_unit_test(pages_are_given_back),
      cmocka_unit_test(a_descriptor_limit_is_explained), cmocka_unit_test(a_failed_step_leaves_nothing_open),
  };
  return cmocka_run_group_tests_name("os.memory", tests, NULL, NULL);
}
