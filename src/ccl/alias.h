/* Another data plane's name for one of ours: "nccl=cpu", from an option or DISCO_CCL_ALIAS. It counts where no data
 * plane of that name is registered. */
#ifndef DSC_CCL_ALIAS_H
#define DSC_CCL_ALIAS_H

#include <stddef.h>

#include "base/status.h"

enum { DSC_CCL_ALIAS_MAX = 128 };

/* Check `given` (NULL: the environment's) and copy it; "" when there is none. DISCO_VALUE. Any thread. */
disco_status dsc_ccl_alias_read(const char *given, char ret_alias[DSC_CCL_ALIAS_MAX]);
/* Our data plane that `alias` gives that name, or NULL. */
const char *dsc_ccl_alias_target(const char *alias, const char *name);
/* The name that programs should ask for: that of `alias` (NULL: of this process's environment) while there is one, else
 * "cpu". */
void dsc_ccl_name(const char *alias, char ret_name[DSC_CCL_ALIAS_MAX]);

#endif
