/* Limits of the control groups: /proc/self/cgroup says where we are, the files of each folder from there up to the root
 * say what is allowed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "os/cgroup.h"

enum { FILE_MAX = 8192 };

const char *dsc_cgroup_root = "";

/* Where a hierarchy is mounted, and the controller that names it in /proc/self/cgroup (NULL: version 2, the only one).
 */
typedef struct {
  const char *mount, *controller;
} hierarchy;

/* The names that the two versions of control groups use for one thing. */
typedef struct {
  hierarchy at;
  const char *limit, *usage, *inactive_file, *active_file, *events;
} names;
static const names version2 = {{"/sys/fs/cgroup", NULL}, "memory.max",  "memory.current",
                               "inactive_file",          "active_file", "memory.events"};
static const names version1 = {{"/sys/fs/cgroup/memory", "memory"},
                               "memory.limit_in_bytes",
                               "memory.usage_in_bytes",
                               "total_inactive_file",
                               "total_active_file",
                               "memory.oom_control"};

/* The whole file as a string; false when there is none. */
static bool read_file(const char *folder, const char *name, char text[FILE_MAX]) {
  char path[PATH_MAX];
  int length = snprintf(path, sizeof(path), "%s%s%s", dsc_cgroup_root, folder, name);
  if (length < 0 || length >= (int)sizeof(path)) return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  size_t size = 0;
  for (ssize_t got; size < FILE_MAX - 1; size += (size_t)got) {
    got = read(fd, text + size, FILE_MAX - 1 - size);
    if (got < 0 && errno == EINTR)
      got = 0;
    else if (got <= 0)
      break;
  }
  close(fd);
  text[size] = '\0';
  return true;
}

/* A whole number, or `otherwise` for "max", nothing, and numbers beyond int64_t. */
static int64_t number_of(const char *text, int64_t otherwise) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  return end == text || errno != 0 || value < 0 ? otherwise : value;
}

static int64_t read_number(const char *folder, const char *name, int64_t otherwise) {
  char text[FILE_MAX];
  return read_file(folder, name, text) ? number_of(text, otherwise) : otherwise;
}

/* The number of a line "key number". */
static int64_t number_in(const char *text, const char *key) {
  size_t length = strlen(key);
  for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, length) == 0 && line[length] == ' ') return number_of(line + length, 0);
  }
  return 0;
}

/* ---- The folders of our group and those above it ---- */

/* Our path in /proc/self/cgroup: the line "0::<path>" (v2), or "<n>:<names>:<path>" with the controller among the
 * names.
 */
static bool is_line_of(const char *line, const char *controller) {
  if (controller == NULL) return strncmp(line, "0::", 3) == 0;
  const char *list = strchr(line, ':');
  if (list == NULL) return false;
  for (const char *name = list + 1;; name++) {
    size_t length = strcspn(name, ",:\n");
    if (length == strlen(controller) && strncmp(name, controller, length) == 0) return true;
    name += length;
    if (*name != ',') return false;
  }
}

/* The folder of our own group, with a slash at its end; false when there is no such hierarchy. A path with ".." is
 * outside of what is mounted here: the root of the mount is then nearest. */
static bool own_folder(const hierarchy *at, char ret_folder[PATH_MAX]) {
  char text[FILE_MAX];
  if (!read_file("/proc/self/cgroup", "", text)) return false;
  for (char *line = text; line != NULL && *line != '\0';) {
    char *end = strchr(line, '\n');
    if (end != NULL) *end = '\0';
    if (is_line_of(line, at->controller)) {
      const char *path = strchr(strchr(line, ':') + 1, ':');
      path = path == NULL || strstr(path, "/..") != NULL || path[1] != '/' ? "" : path + 2;
      int length = snprintf(ret_folder, PATH_MAX, "%s/%s%s", at->mount, path, *path != '\0' ? "/" : "");
      return length > 0 && length < PATH_MAX;
    }
    line = end != NULL ? end + 1 : NULL;
  }
  return false;
}

/* One folder up, false above the mount. */
static bool go_up(const hierarchy *at, char *folder) {
  size_t length = strlen(folder), least = strlen(at->mount) + 1;
  if (length <= least) return false;
  length--; /* the slash at the end */
  while (folder[length - 1] != '/') length--;
  folder[length] = '\0';
  return true;
}

/* ---- What they say ---- */

typedef struct {
  int64_t available, limit;
} room;

static void look_in(const names *version, const char *folder, room *least) {
  int64_t limit = read_number(folder, version->limit, INT64_MAX);
  if (limit >= INT64_MAX / 2) return; /* v1 says "none" with a number near 2^63 */
  char text[FILE_MAX];
  int64_t usage = read_number(folder, version->usage, 0), cache = 0;
  if (read_file(folder, "memory.stat", text))
    cache = number_in(text, version->inactive_file) + number_in(text, version->active_file);
  int64_t needed = usage > cache ? usage - cache : 0;
  int64_t available = limit > needed ? limit - needed : 0;
  if (available < least->available) *least = (room){available, limit};
}

int64_t dsc_memory_available(int64_t *ret_limit) {
  room least = {INT64_MAX, INT64_MAX};
  const names *const versions[] = {&version2, &version1};
  char folder[PATH_MAX];
  for (int i = 0; i < 2; i++) {
    if (!own_folder(&versions[i]->at, folder)) continue;
    do look_in(versions[i], folder, &least);
    while (go_up(&versions[i]->at, folder));
  }
  if (ret_limit != NULL) *ret_limit = least.limit;
  return least.available;
}

int64_t dsc_memory_oom_kills(void) {
  const names *const versions[] = {&version2, &version1};
  char folder[PATH_MAX], text[FILE_MAX];
  for (int i = 0; i < 2; i++) {
    if (!own_folder(&versions[i]->at, folder)) continue;
    do {
      if (read_file(folder, versions[i]->events, text)) return number_in(text, "oom_kill");
    } while (go_up(&versions[i]->at, folder));
  }
  return 0;
}

/* A smaller quota of this folder than *least (0: none yet): version 2 has "<quota|max> <period>" in one file. */
static void look_at_quota(const hierarchy *at, const char *folder, double *least) {
  char text[FILE_MAX], *period_at = NULL;
  long long quota = -1, period = 0;
  if (at->controller == NULL && read_file(folder, "cpu.max", text)) {
    quota = strtoll(text, &period_at, 10); /* 0 for "max" */
    period = period_at != text ? strtoll(period_at, NULL, 10) : 0;
  } else if (at->controller != NULL) {
    quota = read_number(folder, "cpu.cfs_quota_us", -1);
    period = read_number(folder, "cpu.cfs_period_us", 0);
  }
  if (quota <= 0 || period <= 0) return;
  double cpus = (double)quota / (double)period;
  if (*least == 0 || cpus < *least) *least = cpus;
}

double dsc_cgroup_cpu_quota(void) {
  static const hierarchy hierarchies[] = {{"/sys/fs/cgroup", NULL}, {"/sys/fs/cgroup/cpu", "cpu"}};
  double least = 0;
  char folder[PATH_MAX];
  for (int i = 0; i < 2; i++) {
    if (!own_folder(&hierarchies[i], folder)) continue;
    do look_at_quota(&hierarchies[i], folder, &least);
    while (go_up(&hierarchies[i], folder));
  }
  return least;
}

static uint64_t total_of(bool with_swap) {
  struct sysinfo info;
  if (sysinfo(&info) != 0) return INT64_MAX;
  return ((uint64_t)info.totalram + (with_swap ? (uint64_t)info.totalswap : 0)) * info.mem_unit;
}

uint64_t dsc_memory_physical(void) { return total_of(false); }

disco_status dsc_memory_check(uint64_t bytes, const char *what) {
  int64_t limit, available = dsc_memory_available(&limit);
  if (bytes > (uint64_t)available) {
    return dsc_fail(DISCO_MEMORY,
                    "%s needs %llu bytes: the control group's memory limit is %lld bytes, and %lld of them are left "
                    "(past it the kernel kills); free something, use fewer workers, or raise the limit",
                    what, (unsigned long long)bytes, (long long)limit, (long long)available);
  }
  uint64_t total = total_of(true);
  if (bytes <= total) return DISCO_OK;
  return dsc_fail(DISCO_MEMORY, "%s needs %llu bytes: this machine has %llu bytes of memory and swap", what,
                  (unsigned long long)bytes, (unsigned long long)total);
}
