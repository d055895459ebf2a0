/* Why something did not work, as a sentence for the user. */
#ifndef LLAMA_FAILURE_H
#define LLAMA_FAILURE_H

#include <stdbool.h>

#include "disco/status.h"

/* Leave the sentence as the calling thread's error, as functions of libdisco leave theirs (disco_last_error_text()).
 * Always false: `return refuse(DISCO_VALUE, "size %d is odd", n);`. Functions that return false have done so. A longer
 * sentence than 1,023 bytes is cut. */
bool refuse(disco_status status, const char *format, ...) DISCO_PRINTF(2, 3);

#endif
