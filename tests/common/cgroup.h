/* A memory control group where none can be made: its files, in a folder that the library takes for the root. For what
 * runs in the test's own process. After cmocka.h. */
#ifndef DSC_TESTS_COMMON_CGROUP_H
#define DSC_TESTS_COMMON_CGROUP_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/cgroup.h"

typedef struct {
  char root[32];
} fake_cgroup;

static const char *const fake_cgroup_folders[] = {"/proc", "/proc/self", "/sys", "/sys/fs", "/sys/fs/cgroup"};
static const char *const fake_cgroup_files[] = {"/proc/self/cgroup", "/sys/fs/cgroup/memory.max",
                                                "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"};

/* From here on the group has this limit and uses so much, in bytes. */
static inline void fake_cgroup_begin(fake_cgroup *self, const char *max, const char *current) {
  const char *const texts[] = {"0::/\n", max, current, "inactive_file 0\nactive_file 0\n"};
  char path[96];
  (void)snprintf(self->root, sizeof(self->root), "/tmp/disco_cgroup_XXXXXX");
  assert_non_null(mkdtemp(self->root));
  for (int i = 0; i < 5; i++) {
    (void)snprintf(path, sizeof(path), "%s%s", self->root, fake_cgroup_folders[i]);
    assert_int_equal(mkdir(path, 0700), 0);
  }
  for (int i = 0; i < 4; i++) {
    (void)snprintf(path, sizeof(path), "%s%s", self->root, fake_cgroup_files[i]);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, texts[i], strlen(texts[i])), strlen(texts[i]));
    close(fd);
  }
  dsc_cgroup_root = self->root;
}

static inline void fake_cgroup_end(fake_cgroup *self) {
  char path[96];
  dsc_cgroup_root = "";
  for (int i = 3; i >= 0; i--) {
    (void)snprintf(path, sizeof(path), "%s%s", self->root, fake_cgroup_files[i]);
    assert_int_equal(unlink(path), 0);
  }
  for (int i = 4; i >= 0; i--) {
    (void)snprintf(path, sizeof(path), "%s%s", self->root, fake_cgroup_folders[i]);
    assert_int_equal(rmdir(path), 0);
  }
  assert_int_equal(rmdir(self->root), 0);
}

#endif
