/* What the C++ library of this suite gives to C: handles go in, handles come out. NULL, or -1, after an error. */
#ifndef CROSSING_H
#define CROSSING_H

#include <disco/disco.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A session that C++ made, and a DRef to a new register with `number` in the caller's session: both are the caller's
 * to unref. */
disco_session *crossing_make(int32_t workers);
disco_dref *crossing_number(disco_session *session, int64_t number);
/* The sum of an int register over all workers. */
int64_t crossing_sum(disco_dref *dref);
/* Takes over both references, uses the DRef from C++, and drops them. */
int64_t crossing_take(disco_session *session, disco_dref *dref);

#ifdef __cplusplus
}
#endif
#endif
