/* Who is tested: every channel names itself here and inherits every test of conformance_test.c. */
#ifndef TESTS_CHANNEL_SUBJECTS_H
#define TESTS_CHANNEL_SUBJECTS_H

#include "disco/channel.h"

typedef struct {
  disco_channel *controller, *worker; /* the two ends; destroying one closes it */
} channel_pair;

typedef struct {
  void (*connect)(channel_pair *ret_pair);
} channel_subject;

extern const channel_subject channel_over_pipes, channel_over_socket; /* the library's pipe channel */
extern const channel_subject channel_of_queues;                       /* one written by a user */

#endif
