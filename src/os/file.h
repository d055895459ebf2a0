/* Files that are read by position: never mapped, so that one that is cut meanwhile is an error and not a signal. */
#ifndef DSC_OS_FILE_H
#define DSC_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  int fd;
  uint64_t bytes; /* when it was opened */
} dsc_file;

/* Open for reading, close-on-exec. Regular files only: DISCO_VALUE for a folder or a device, DISCO_RUNTIME with errno's
 * words otherwise; both name the path. */
disco_status dsc_file_open(const char *path, dsc_file *ret_file);
void dsc_file_close(dsc_file *file); /* also of a zeroed or closed one */
/* The whole range, or DISCO_VALUE (the file ended: path, range, size now) / DISCO_RUNTIME. Any thread, several at once.
 */
disco_status dsc_file_read(const dsc_file *file, const char *path, uint64_t offset, void *to, size_t bytes);

bool dsc_path_is_folder(const char *path);
/* Every name in a folder but "." and "..", in no order, until `visit` says false. DISCO_RUNTIME with errno's words. */
disco_status dsc_folder_visit(const char *path, bool (*visit)(void *context, const char *name), void *context);

#endif
