/* Files read by position: what can be opened, what cannot, and a file that is cut while it is open. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "os/file.h"

static char folder[64];

static const char *path_of(const char *name) {
  static char path[96];
  (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
  return path;
}

static const char *write_file(const char *name, const void *bytes, size_t size) {
  const char *path = path_of(name);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes, 1, size, file), size);
  assert_int_equal(fclose(file), 0);
  return path;
}

static void expect_says(const char *words) {
  if (strstr(disco_last_error_text(), words) == NULL) fail_msg("says: %s\nnot:  %s", disco_last_error_text(), words);
}

static void reads_what_is_there(void **state) {
  (void)state;
  char bytes[10000], read[sizeof(bytes)] = {0};
  for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (char)(i * 7 + i / 256);
  const char *path = write_file("some", bytes, sizeof(bytes));
  dsc_file file = {0};
  assert_int_equal(dsc_file_open(path, &file), DISCO_OK);
  assert_int_equal(file.bytes, sizeof(bytes));
  assert_int_not_equal(fcntl(file.fd, F_GETFD) & FD_CLOEXEC, 0);
  assert_int_equal(dsc_file_read(&file, path, 0, read, sizeof(read)), DISCO_OK);
  assert_memory_equal(read, bytes, sizeof(bytes));
  assert_int_equal(dsc_file_read(&file, path, 9000, read, 1000), DISCO_OK);
  assert_memory_equal(read, bytes + 9000, 1000);
  assert_memory_equal(read + 1000, bytes + 1000, 1000); /* not a byte more */
  assert_int_equal(dsc_file_read(&file, path, sizeof(bytes), read, 0), DISCO_OK);
  const int fd = file.fd;
  dsc_file_close(&file);
  assert_int_equal(fcntl(fd, F_GETFD), -1);
  dsc_file_close(&file);
  dsc_file none = {0};
  dsc_file_close(&none); /* closes nothing: 0 is the standard input */
  assert_int_not_equal(fcntl(0, F_GETFD), -1);
}

static void a_cut_file_is_an_error(void **state) {
  (void)state;
  char bytes[8192] = {1}, read[8192];
  const char *path = write_file("cut", bytes, sizeof(bytes));
  dsc_file file = {0};
  assert_int_equal(dsc_file_open(path, &file), DISCO_OK);
  assert_int_equal(truncate(path, 5000), 0);
  assert_int_equal(dsc_file_read(&file, path, 0, read, 5000), DISCO_OK);
  assert_int_equal(dsc_file_read(&file, path, 4096, read, 4096), DISCO_VALUE);
  expect_says(path);
  expect_says("[4096, 8192)");
  expect_says("has 5000 bytes now and had 8192");
  assert_int_equal(dsc_file_read(&file, path, UINT64_MAX - 5, read, 100), DISCO_VALUE);
  assert_int_equal(dsc_file_read(&file, path, INT64_MAX, read, 100), DISCO_VALUE);
  dsc_file_close(&file);
}

/* None of these may block, and the struct stays as it is. */
static void only_regular_files(void **state) {
  (void)state;
  dsc_file file = {.fd = -7};
  assert_int_equal(dsc_file_open(folder, &file), DISCO_VALUE);
  expect_says("is a folder");
  assert_int_equal(dsc_file_open("/dev/zero", &file), DISCO_VALUE);
  expect_says("a character device");
  const char *path = path_of("pipe");
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(dsc_file_open(path, &file), DISCO_VALUE);
  expect_says("is a pipe");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  assert_true(strlen(path_of("socket")) < sizeof(address.sun_path));
  memcpy(address.sun_path, path_of("socket"), strlen(path_of("socket")) + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
  assert_int_equal(dsc_file_open(address.sun_path, &file), DISCO_VALUE);
  close(fd);
  assert_int_equal(dsc_file_open(path_of("missing"), &file), DISCO_RUNTIME);
  expect_says("ENOENT");
  expect_says(path_of("missing"));
  assert_int_equal(file.fd, -7);
}

static int open_without_input(void) {
  dsc_file file = {0};
  close(0);
  if (dsc_file_open(path_of("some"), &file) != DISCO_OK) return 1;
  if (file.fd <= 0 || fcntl(0, F_GETFD) != -1) return 2;
  if ((fcntl(file.fd, F_GETFD) & FD_CLOEXEC) == 0) return 3;
  dsc_file_close(&file);
  return 0;
}

static void no_descriptor_is_zero(void **state) {
  (void)state;
  (void)write_file("some", "x", 1);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) _exit(open_without_input());
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static void injected_failures(void **state) {
  (void)state;
  char read[4];
  const char *path = write_file("some", "four", 4);
  dsc_file file = {0};
  (void)dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_file_open(path, &file), DISCO_RUNTIME);
  expect_says("EMFILE");
  (void)dsc_inject_fail_allocation(0);
  assert_int_equal(dsc_file_open(path, &file), DISCO_OK);
  (void)dsc_inject_fail_allocation(1);
  assert_int_equal(dsc_file_read(&file, path, 1, read, 3), DISCO_RUNTIME);
  expect_says("[1, 4)");
  expect_says("EIO");
  (void)dsc_inject_fail_allocation(0);
  assert_int_equal(dsc_file_read(&file, path, 0, read, 4), DISCO_OK);
  assert_memory_equal(read, "four", 4);
  dsc_file_close(&file);
}

static void kinds_of_paths(void **state) {
  (void)state;
  assert_true(dsc_path_is_folder(folder));
  const char *path = write_file("some", "x", 1);
  assert_false(dsc_path_is_folder(path));
  assert_false(dsc_path_is_folder("/dev/null"));
  assert_false(dsc_path_is_folder(path_of("missing")));
}

typedef struct {
  int count, stop_after;
  bool has_some, has_dots;
} visits;

static bool count_visits(void *context, const char *name) {
  visits *self = context;
  self->has_some |= strcmp(name, "inner") == 0;
  self->has_dots |= name[0] == '.' && (name[1] == '\0' || name[1] == '.');
  return ++self->count != self->stop_after;
}

static void names_in_a_folder(void **state) {
  (void)state;
  char inner[96];
  (void)snprintf(inner, sizeof(inner), "%s", path_of("names"));
  assert_int_equal(mkdir(inner, 0700), 0);
  (void)write_file("names/inner", "x", 1);
  (void)write_file("names/other", "x", 1);
  visits all = {0}, one = {.stop_after = 1};
  assert_int_equal(dsc_folder_visit(inner, count_visits, &all), DISCO_OK);
  assert_int_equal(all.count, 2);
  assert_true(all.has_some);
  assert_false(all.has_dots);
  assert_int_equal(dsc_folder_visit(inner, count_visits, &one), DISCO_OK);
  assert_int_equal(one.count, 1);
  assert_int_equal(dsc_folder_visit(path_of("missing"), count_visits, &all), DISCO_RUNTIME);
  expect_says("ENOENT");
}

static int make_folder(void **state) {
  (void)state;
  (void)snprintf(folder, sizeof(folder), "/tmp/disco-file-XXXXXX");
  return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
  (void)state;
  static const char *const names[] = {"some", "cut", "pipe", "socket", "names/inner", "names/other"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) (void)unlink(path_of(names[i]));
  (void)rmdir(path_of("names"));
  return rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reads_what_is_there), cmocka_unit_test(a_cut_file_is_an_error),
      cmocka_unit_test(only_regular_files),  cmocka_unit_test(no_descriptor_is_zero),
      cmocka_unit_test(injected_failures),   cmocka_unit_test(kinds_of_paths),
      cmocka_unit_test(names_in_a_folder),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
