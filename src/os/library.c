#include "os/library.h"

#include <link.h>
#include <stdio.h>
#include <string.h>

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
