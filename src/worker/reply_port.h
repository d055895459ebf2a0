/* Where a worker's replies leave: its reply ring. Written by the worker, or by the pump of a worker that is not on the
 * shared memory. One thread. */
#ifndef DSC_WORKER_REPLY_PORT_H
#define DSC_WORKER_REPLY_PORT_H

#include "channel/ring.h"
#include "channel/segment.h"
#include "os/wait.h"
#include "wire/codec.h"

enum { DSC_REPLY_FILES = 64 };

typedef struct {
  dsc_ring_writer ring;
  dsc_segment_header *segment;
  dsc_status_line *line;
  dsc_patience *patience;
  /* Side files of replies that may not have been read yet: kept until the reader has passed them. */
  struct {
    uint64_t position;
    int fd;
  } files[DSC_REPLY_FILES];
  uint32_t first_file, num_files;
} dsc_reply_port;

void dsc_reply_port_init(dsc_reply_port *port, dsc_segment_header *segment, int32_t worker, dsc_patience *patience);
void dsc_reply_port_fini(dsc_reply_port *port);

/* Each posts one reply and waits for room if it must; nothing is posted once shutdown gave up waiting. */

/* By reference, to a controller in the same process; takes over `value`. */
void dsc_reply_share(dsc_reply_port *port, uint64_t sequence, uint32_t outcome, TVMFFIAny value);
/* Packed, containers allowed. A failure (DISCO_TYPE: it cannot travel) leaves nothing posted. */
disco_status dsc_reply_send(dsc_reply_port *port, uint64_t sequence, uint32_t outcome, const TVMFFIAny *value);
/* Already packed. */
disco_status dsc_reply_send_packed(dsc_reply_port *port, uint64_t sequence, uint32_t outcome, const void *packed,
                                   uint64_t bytes);

#endif
