/* Which shared libraries are in the process. */
#ifndef DSC_OS_LIBRARY_H
#define DSC_OS_LIBRARY_H

#include <stddef.h>

/* How many loaded libraries have a file name that begins with `prefix`; the path of the first goes to `path` (may be
 * NULL). */
int dsc_library_count(const char *prefix, char *path, size_t path_size);

#endif
