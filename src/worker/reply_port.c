#include "worker/reply_port.h"

#include <string.h>

#include "os/pipe.h"
#include "worker/side.h"

void dsc_reply_port_init(dsc_reply_port *port, dsc_segment_header *segment, int32_t worker, dsc_patience *patience) {
  dsc_reply_words *words = dsc_segment_reply_words(segment, worker);
  *port = (dsc_reply_port){.segment = segment, .line = dsc_segment_status(segment, worker), .patience = patience};
  dsc_ring_writer_init(&port->ring, &words->ring, dsc_segment_reply_ring(segment, worker), segment->reply_ring_bytes,
                       &words->position, 0, 1);
}

/* Close the files of replies that were read; all of them at the end. */
static void close_files(dsc_reply_port *port, bool all) {
  uint64_t position = dsc_load_acquire(dsc_ring_position_of(&port->ring, 0)); /* acquire: ring.position */
  while (port->num_files > 0) {
    uint32_t first = port->first_file;
    if (!all && port->files[first].position > position) return;
    dsc_fd_close(&port->files[first].fd);
    port->first_file = (first + 1) % DSC_REPLY_FILES;
    port->num_files--;
  }
}

void dsc_reply_port_fini(dsc_reply_port *port) { close_files(port, true); }

/* ---- Room ---- */

typedef struct {
  dsc_wait wait;
  dsc_reply_port *port;
  uint64_t needed, sequence;
} room_wait;

typedef struct {
  dsc_guard guard;
  dsc_reply_port *port;
} port_guard;

static bool is_unwanted(const dsc_reply_port *port, uint64_t sequence) {
  return dsc_load_acquire(&port->segment->unwanted) >= sequence; /* acquire: segment.unwanted */
}

static bool has_room(dsc_wait *wait) {
  const room_wait *self = (room_wait *)wait;
  if (is_unwanted(self->port, self->sequence)) return true;
  return dsc_load_acquire(dsc_ring_position_of(&self->port->ring, 0)) >= self->needed; /* acquire: ring.position */
}

static disco_status check_fault(dsc_guard *guard) {
  return dsc_load_acquire(&((port_guard *)guard)->port->segment->fault) == DSC_FAULT_GRACE ? DISCO_CLOSED : DISCO_OK;
}

/* Room for the reply to `sequence`; NULL when there is none and nobody waits for it, or shutdown gave up waiting. */
static dsc_reply *claim(dsc_reply_port *port, uint64_t sequence, uint64_t bytes) {
  dsc_reply *reply;
  bytes = (bytes + DSC_RING_LINE - 1) & ~(uint64_t)(DSC_RING_LINE - 1);
  while ((reply = dsc_ring_claim(&port->ring, bytes)) == NULL) {
    if (is_unwanted(port, sequence)) return NULL;
    room_wait wait = {
        {.ready = has_room, .doorbell = &port->segment->commands}, port, dsc_ring_needed(&port->ring, bytes), sequence};
    port_guard guard = {{.check = check_fault, .deadline_ns = DSC_NO_DEADLINE}, port};
    dsc_store_relaxed(&port->line->waits, DSC_WAITS_REPLY_ROOM);
    dsc_doorbell_ring(&port->segment->controllers); /* whoever waits there drains the replies */
    disco_status status = dsc_wait_until(&wait.wait, port->patience, &guard.guard);
    dsc_store_relaxed(&port->line->waits, DSC_WAITS_NOT);
    if (status != DISCO_OK) return NULL;
  }
  return reply;
}

/* ---- Posting ---- */

void dsc_reply_share(dsc_reply_port *port, uint64_t sequence, uint32_t outcome, TVMFFIAny value) {
  dsc_reply *reply = claim(port, sequence, sizeof(*reply) + sizeof(value));
  if (reply == NULL) {
    dsc_value_drop(&value);
    return;
  }
  reply->outcome = outcome;
  reply->sequence = sequence;
  *(TVMFFIAny *)(reply + 1) = value;
  (void)dsc_ring_commit(&port->ring, reply, sizeof(*reply) + sizeof(value));
}

static disco_status post_side(dsc_reply_port *port, uint64_t sequence, uint32_t outcome, dsc_shared_memory *memory,
                              const dsc_side_ref *ref) {
  int fd = dsc_shared_memory_release(memory);
  close_files(port, false);
  dsc_reply *reply = claim(port, sequence, sizeof(*reply) + sizeof(*ref));
  if (reply == NULL) {
    dsc_fd_close(&fd);
    return DISCO_OK;
  }
  close_files(port, false); /* there are as many places as replies fit the ring */
  reply->outcome = outcome | DSC_REPLY_SIDE;
  reply->sequence = sequence;
  memcpy(reply + 1, ref, sizeof(*ref));
  (void)dsc_ring_commit(&port->ring, reply, sizeof(*reply) + sizeof(*ref));
  uint32_t place = (port->first_file + port->num_files++) % DSC_REPLY_FILES;
  port->files[place].position = port->ring.tail;
  port->files[place].fd = fd;
  return DISCO_OK;
}

disco_status dsc_reply_send(dsc_reply_port *port, uint64_t sequence, uint32_t outcome, const TVMFFIAny *value) {
  uint64_t bytes = 0;
  dsc_pack_side side = {.threshold = DSC_SIDE_THRESHOLD};
  disco_status status = dsc_pack_measure(value, DSC_PACK_CONTAINERS, "the value", &side, &bytes);
  if (status != DISCO_OK) return status;
  if (side.bytes == 0 && bytes <= DSC_REPLY_INLINE_BYTES) {
    dsc_reply *reply = claim(port, sequence, sizeof(*reply) + bytes);
    if (reply == NULL) return DISCO_OK;
    reply->outcome = outcome | DSC_REPLY_PACKED;
    reply->sequence = sequence;
    if (dsc_pack(value, &side, (char *)(reply + 1)) == NULL) return DISCO_MEMORY; /* the claim is forgotten */
    (void)dsc_ring_commit(&port->ring, reply, sizeof(*reply) + bytes);
    return DISCO_OK;
  }
  dsc_shared_memory memory;
  dsc_side_ref ref;
  status = dsc_side_create(bytes, side.bytes, &memory, &ref);
  if (status != DISCO_OK) return status;
  side.base = (char *)memory.base + ref.payload_bytes;
  if (dsc_pack(value, &side, memory.base) == NULL) {
    dsc_shared_memory_destroy(&memory);
    return DISCO_MEMORY;
  }
  return post_side(port, sequence, outcome, &memory, &ref);
}

disco_status dsc_reply_send_packed(dsc_reply_port *port, uint64_t sequence, uint32_t outcome, const void *packed,
                                   uint64_t bytes) {
  if (bytes <= DSC_REPLY_INLINE_BYTES) {
    dsc_reply *reply = claim(port, sequence, sizeof(*reply) + bytes);
    if (reply == NULL) return DISCO_OK;
    reply->outcome = outcome | DSC_REPLY_PACKED;
    reply->sequence = sequence;
    memcpy(reply + 1, packed, bytes);
    (void)dsc_ring_commit(&port->ring, reply, sizeof(*reply) + bytes);
    return DISCO_OK;
  }
  dsc_shared_memory memory;
  dsc_side_ref ref;
  disco_status status = dsc_side_create(bytes, 0, &memory, &ref);
  if (status != DISCO_OK) return status;
  memcpy(memory.base, packed, bytes);
  return post_side(port, sequence, outcome, &memory, &ref);
}
