/* Where libdisco lies, what lies beside it, and which program worker processes run. The places are tried by copies of
 * this program in trees of their own: the library is linked into it, so its place is the program's. */
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/inject.h"
#include "base/status.h"
#include "os/library.h"

static char tree[PATH_MAX];

static const char *in_tree(const char *name) {
  static char path[PATH_MAX + 64];
  snprintf(path, sizeof(path), "%s/%s", tree, name);
  return path;
}

static int set_up(void **state) {
  (void)state;
  char made[] = "/tmp/disco-library-test.XXXXXX";
  unsetenv("DISCO_WORKER");
  return mkdtemp(made) != NULL && realpath(made, tree) != NULL ? 0
                                                               : -1; /* the folder for temporary files may be a link */
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw) {
  (void)status, (void)type, (void)ftw;
  return remove(path);
}

static int clean_up(void **state) {
  (void)state;
  unsetenv("DISCO_WORKER");
  return nftw(tree, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_folder(const char *name) { assert_int_equal(mkdir(in_tree(name), 0755), 0); }

static void make_file(const char *name, mode_t mode) {
  int fd = open(in_tree(name), O_CREAT | O_WRONLY | O_CLOEXEC, mode);
  assert_true(fd >= 0);
  close(fd);
}

/* This program once more, as `name` of the tree. */
static void copy_this_program(const char *name) {
  char block[65536];
  int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  int to = open(in_tree(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
  assert_true(from >= 0 && to >= 0);
  for (ssize_t size; (size = read(from, block, sizeof(block))) > 0;)
    assert_int_equal(write(to, block, (size_t)size), size);
  close(from);
  close(to);
}

/* What the copy `name`, started as `called` in the folder `folder`, prints. */
static void ask_copy(const char *name, const char *called, const char *folder, const char *question, char *text,
                     size_t size) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    alarm(30);
    if (dup2(ends[1], STDOUT_FILENO) >= 0 && chdir(folder) == 0) execl(name, called, "--ask", question, (char *)NULL);
    _exit(99);
  }
  close(ends[1]);
  size_t done = 0;
  for (ssize_t got; done < size - 1 && (got = read(ends[0], text + done, size - 1 - done)) > 0;) done += (size_t)got;
  text[done] = 0;
  close(ends[0]);
  int status = -1;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static int answer(const char *question) {
  if (strcmp(question, "path") == 0) {
    printf("%s", dsc_library_path());
    return 0;
  }
  char *program = dsc_worker_program();
  if (program == NULL) return 1;
  printf("%s", program);
  free(program);
  return 0;
}

/* The worker program of the library in tree/lib. */
static const char *program_of_tree(void) {
  static char text[PATH_MAX];
  char copy[PATH_MAX + 64];
  snprintf(copy, sizeof(copy), "%s/lib/libdisco", tree); /* not in_tree(): the caller's result waits there */
  ask_copy(copy, "some name", "/", "program", text, sizeof(text));
  return text;
}

static void the_setting_comes_first(void **state) {
  (void)state;
  setenv("DISCO_WORKER", "relative/worker of mine", 1);
  char *program = dsc_worker_program();
  assert_string_equal(program, "relative/worker of mine");
  free(program);
}

static void places_in_their_order(void **state) {
  (void)state;
  make_folder("lib");
  make_folder("bin");
  copy_this_program("lib/libdisco");
  assert_string_equal(program_of_tree(), "disco"); /* none: PATH */
  make_file("lib/disco", 0755);
  assert_string_equal(program_of_tree(), in_tree("lib/disco"));
  make_file("bin/disco", 0755);
  assert_string_equal(program_of_tree(), in_tree("lib/../bin/disco"));
  setenv("DISCO_WORKER", "mine", 1);
  assert_string_equal(program_of_tree(), "mine");
}

static void what_cannot_be_run_is_passed_over(void **state) {
  (void)state;
  make_folder("lib");
  make_folder("bin");
  copy_this_program("lib/libdisco");
  make_file("bin/disco", 0644); /* no right to run it */
  make_folder("lib/disco");     /* the folder of the plugins */
  assert_string_equal(program_of_tree(), "disco");
}

static void the_path_is_the_files_own(void **state) {
  (void)state;
  char text[PATH_MAX], copy[PATH_MAX + 64];
  make_folder("lib");
  make_folder("elsewhere");
  copy_this_program("lib/libdisco");
  snprintf(copy, sizeof(copy), "%s", in_tree("lib/libdisco"));
  ask_copy(copy, "elsewhere/made-up", tree, "path", text, sizeof(text)); /* argv[0] says nothing */
  assert_string_equal(text, copy);
  ask_copy("./libdisco", "libdisco", in_tree("lib"), "path", text, sizeof(text));
  assert_string_equal(text, copy);
  char link[PATH_MAX + 64];
  snprintf(link, sizeof(link), "%s", in_tree("elsewhere/libdisco"));
  assert_int_equal(symlink(copy, link), 0);
  ask_copy(link, link, "/", "path", text, sizeof(text));
  assert_string_equal(text, copy);
}

static void no_memory_is_an_error(void **state) {
  (void)state;
  dsc_inject_fail_allocation(1);
  assert_null(dsc_worker_program());
  dsc_inject_fail_allocation(0);
  assert_int_equal(dsc_thread_error()->status, DISCO_MEMORY);
}

static void beside_is_in_the_same_folder(void **state) {
  (void)state;
  char *place = dsc_library_beside("/disco");
  const char *path = dsc_library_path();
  assert_non_null(place);
  assert_int_equal(path[0], '/');
  size_t folder = (size_t)(strrchr(path, '/') - path);
  assert_int_equal(strncmp(place, path, folder), 0);
  assert_string_equal(place + folder, "/disco");
  free(place);
}

static void collect(void *context, const char *name) {
  strcat(context, name);
  strcat(context, " ");
}

static void files_by_both_ends_of_their_names(void **state) {
  (void)state;
  char names[256] = "";
  make_folder("plugins");
  make_file("plugins/libdisco_ccl_b.so", 0644);
  make_file("plugins/libdisco_ccl_a.so", 0644);
  make_file("plugins/libdisco_ccl_a.so.1", 0644);
  make_file("plugins/other.so", 0644);
  make_file("plugins/libdisco_ccl", 0644); /* shorter than both ends together */
  dsc_library_each_file(in_tree("plugins"), "libdisco_ccl_", ".so", collect, names);
  assert_string_equal(names, "libdisco_ccl_a.so libdisco_ccl_b.so ");
  names[0] = 0;
  dsc_library_each_file(in_tree("missing"), "", "", collect, names);
  assert_string_equal(names, "");
}

static void loaded_libraries_are_counted(void **state) {
  (void)state;
  char path[PATH_MAX] = "";
  assert_int_equal(dsc_library_count("libc.so", path, sizeof(path)), 1);
  assert_non_null(strstr(path, "/libc.so"));
  assert_int_equal(dsc_library_count("libsurely_not_here", path, sizeof(path)), 0);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--ask") == 0) return answer(argv[2]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(the_setting_comes_first, set_up, clean_up),
      cmocka_unit_test_setup_teardown(places_in_their_order, set_up, clean_up),
      cmocka_unit_test_setup_teardown(what_cannot_be_run_is_passed_over, set_up, clean_up),
      cmocka_unit_test_setup_teardown(the_path_is_the_files_own, set_up, clean_up),
      cmocka_unit_test_setup_teardown(no_memory_is_an_error, set_up, clean_up),
      cmocka_unit_test(beside_is_in_the_same_folder),
      cmocka_unit_test_setup_teardown(files_by_both_ends_of_their_names, set_up, clean_up),
      cmocka_unit_test(loaded_libraries_are_counted),
  };
  return cmocka_run_group_tests_name("os.library", tests, NULL, NULL);
}
