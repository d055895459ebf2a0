/* Operations whose data goes along with the entry: in the entry line itself, or in a one-shot buffer that is filled
 * before it. One wait, or none for who only gives. */
#ifndef DSC_CCL_SMALL_H
#define DSC_CCL_SMALL_H

#include "ccl/backend.h"

disco_status dsc_small_allreduce(dsc_plane *plane, const dsc_request *request);
/* What the giver puts into the buffer must fit DSC_CCL_ONESHOT: for a scatter that is all parts. */
disco_status dsc_small_move(dsc_plane *plane, const dsc_request *request);

#endif
