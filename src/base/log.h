/* Warnings go to one callback, discarded by default: the library prints nothing. Any thread. */
#ifndef DSC_BASE_LOG_H
#define DSC_BASE_LOG_H

#include "disco/status.h"

enum { DSC_LOG_ERROR = 0, DSC_LOG_WARN = 1, DSC_LOG_INFO = 2 };
typedef void (*dsc_log_fn)(void *context, int level, const char *message);

void dsc_log_set(dsc_log_fn fn, void *context, int level);
void dsc_log(int level, const char *format, ...) DISCO_PRINTF(2, 3);
/* Once, at load: install a callback that writes lines to stderr when DISCO_LOG asks for it. */
void dsc_log_install(void);

#endif
