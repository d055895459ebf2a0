/* Which shared libraries are in the process, where libdisco itself lies, and what lies beside it. Any thread. */
#ifndef DSC_OS_LIBRARY_H
#define DSC_OS_LIBRARY_H

#include <stddef.h>

/* How many loaded libraries have a file name that begins with `prefix`; the path of the first goes to `path` (may be
 * NULL). */
int dsc_library_count(const char *prefix, char *path, size_t path_size);

/* Absolute path, without symbolic links, of the file that holds this code: libdisco.so, or the program it is linked
 * into. "" when it cannot be told. A constant. The first call finds it out and is made at load, while a relative path
 * still means what it meant to the loader. */
const char *dsc_library_path(void);
/* The folder of that file, without a slash at the end, and below it `rest` ("/disco"): owned by the caller, free().
 * NULL: no memory, or unknown. */
char *dsc_library_beside(const char *rest);
/* Offer every file of a folder whose name begins and ends so to `visit`, in the order of the names (`name` has no
 * folder). No folder: nothing. */
void dsc_library_each_file(const char *folder, const char *prefix, const char *suffix,
                           void (*visit)(void *context, const char *name), void *context);

/* What worker processes run: the setting DISCO_WORKER, else the program ../bin/disco seen from the folder of libdisco,
 * else `disco` in it, else "disco", to be looked for on PATH. Owned by the caller, free(); NULL with DISCO_MEMORY. */
char *dsc_worker_program(void);

#endif
