/* Global functions: of the controller and of workers, under TVM's names and under our own. */
#ifndef DSC_API_GLOBALS_H
#define DSC_API_GLOBALS_H

#include <stdbool.h>

#include "base/status.h"

/* Register runtime.disco.*, as TVM's client names them; `override` replaces functions of the same name. Stops at the
 * first that is refused. */
disco_status dsc_globals_publish(bool override);
/* The same functions, and those that only we have, as libdisco.*: names that TVM never takes, so that they are there
 * whatever is loaded when. Once, at load. */
disco_status dsc_globals_register_own(void);

#endif
