#include "os/library.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/settings.h"

typedef struct {
  const char *prefix;
  int count;
  char *path;
  size_t path_size;
} search;

static int look(struct dl_phdr_info *info, size_t size, void *context) {
  (void)size;
  search *self = context;
  const char *slash = strrchr(info->dlpi_name, '/'), *name = slash != NULL ? slash + 1 : info->dlpi_name;
  if (strncmp(name, self->prefix, strlen(self->prefix)) != 0) return 0;
  if (self->count++ == 0 && self->path != NULL) (void)snprintf(self->path, self->path_size, "%s", info->dlpi_name);
  return 0;
}

int dsc_library_count(const char *prefix, char *path, size_t path_size) {
  search self = {prefix, 0, path, path_size};
  (void)dl_iterate_phdr(look, &self);
  return self.count;
}

static char own_path[PATH_MAX];

static void find_own_path(void) {
  Dl_info info;
  void *map = NULL;
  if (dladdr1(own_path, &info, &map, RTLD_DL_LINKMAP) == 0 || map == NULL) return;
  const char *name = ((struct link_map *)map)->l_name;
  /* The program itself has no name there, and what dladdr() calls it is argv[0], which may be anything. */
  if (realpath(name[0] != 0 ? name : "/proc/self/exe", own_path) == NULL) own_path[0] = 0;
}

const char *dsc_library_path(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  (void)pthread_once(&once, find_own_path);
  return own_path;
}

/* head_size bytes of head, then tail. */
static char *join(const char *head, size_t head_size, const char *tail) {
  size_t tail_size = strlen(tail);
  char *path = dsc_alloc(head_size + tail_size + 1, "a path");
  if (path == NULL) return NULL;
  memcpy(path, head, head_size);
  memcpy(path + head_size, tail, tail_size);
  return path;
}

char *dsc_library_beside(const char *rest) {
  const char *path = dsc_library_path(), *slash = strrchr(path, '/');
  return slash != NULL ? join(path, (size_t)(slash - path), rest) : NULL;
}

void dsc_library_each_file(const char *folder, const char *prefix, const char *suffix,
                           void (*visit)(void *context, const char *name), void *context) {
  struct dirent **entries = NULL;
  int count = scandir(folder, &entries, NULL, alphasort);
  size_t head = strlen(prefix), tail = strlen(suffix);
  for (int i = 0; i < count; i++) {
    const char *name = entries[i]->d_name;
    size_t size = strlen(name);
    if (size >= head + tail && memcmp(name, prefix, head) == 0 && memcmp(name + size - tail, suffix, tail) == 0)
      visit(context, name);
    free(entries[i]);
  }
  free(entries);
}

/* A folder passes access() too, and `disco` beside libdisco.so is the folder of its plugins. */
static bool is_program(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

char *dsc_worker_program(void) {
  const char *wish = dsc_setting(DSC_SETTING_WORKER);
  if (wish[0] != 0) return join(wish, strlen(wish), "");
  static const char *const places[] = {"/../bin/disco", "/disco"};
  for (size_t i = 0; dsc_library_path()[0] != 0 && i < sizeof(places) / sizeof(places[0]); i++) {
    char *path = dsc_library_beside(places[i]);
    if (path == NULL || is_program(path)) return path;
    free(path);
  }
  return join("disco", strlen("disco"), "");
}
