/* Heap memory of the library, so that tests can make the n-th allocation fail. The error sentence is written here. Any
 * thread. */
#ifndef DSC_BASE_MEMORY_H
#define DSC_BASE_MEMORY_H

#include <stddef.h>

/* Zeroed, `what` names it in the error. NULL with DISCO_MEMORY in the thread's error. Free with free(). */
void *dsc_alloc(size_t bytes, const char *what);
void *dsc_alloc_aligned(size_t alignment, size_t bytes, const char *what);

#endif
