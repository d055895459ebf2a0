/* What happens when the library is loaded. */
#ifndef DSC_API_STARTUP_H
#define DSC_API_STARTUP_H

#include "base/status.h"

/* DISCO_OK, or why this copy of the library cannot be used: asked before a session is made. */
disco_status dsc_startup_status(void);

/* Who answers to the names runtime.disco.* in this process: "libdisco", "another library" (TVM's own runtime),
 * "nobody". A constant. */
const char *dsc_startup_names(void);

#endif
