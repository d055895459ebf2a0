/* Creating sessions, for the two faces that do. */
#ifndef DSC_API_SESSION_API_H
#define DSC_API_SESSION_API_H

#include "disco/disco.h"

/* disco_session_create_threaded(), with who asked for it: an address in the caller, or NULL for the registry. */
disco_status dsc_create_threaded(const disco_session_options *options, const void *creation_site,
                                 disco_session **ret_session);

disco_status dsc_create_process(const disco_session_options *options, const void *creation_site,
                                disco_session **ret_session);

#endif
