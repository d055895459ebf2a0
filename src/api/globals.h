/* The global functions runtime.disco.* of the controller, as TVM's client names them. */
#ifndef DSC_API_GLOBALS_H
#define DSC_API_GLOBALS_H

#include <stdbool.h>

#include "base/status.h"

/* Register all controller and worker functions; `override` replaces functions of the same name. Stops at the first that
 * is refused. */
disco_status dsc_globals_publish(bool override);

#endif
