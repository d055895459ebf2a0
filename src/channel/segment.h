/* The memory that a controller and its local workers share: one block without a name that holds offsets, never
 * pointers.
 *
 *   header | ring words | fault line | controller's doorbell | status line per worker | reply words per worker |
 * command ring | reply ring per worker | error slot per worker | the data plane's memory
 *
 * Each word has one writer, named beside it. */
#ifndef DSC_CHANNEL_SEGMENT_H
#define DSC_CHANNEL_SEGMENT_H

#include "base/atomics.h"
#include "base/status.h"
#include "channel/ring.h"
#include "os/memory.h"
#include "os/wait.h"

#define DSC_SEGMENT_MAGIC 0x6f63736964626c31u /* "1lbdisco" */
enum { DSC_SEGMENT_VERSION = 3, DSC_SEGMENT_NONCE = 16 };

/* Why a session's waits must end at once. */
enum {
  DSC_FAULT_NONE = 0,
  DSC_FAULT_DEATH = 1, /* a worker is lost: whoever waits for it, or in a collective with it, leaves */
  DSC_FAULT_GRACE = 2, /* shutdown gave up waiting: everybody leaves */
};

/* What a worker waits for, for the dump. */
enum { DSC_WAITS_NOT = 0, DSC_WAITS_COMMANDS = 1, DSC_WAITS_REPLY_ROOM = 2, DSC_WAITS_PEERS = 3 };

typedef struct {
  /* line 0: written by the worker for every command */
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t done; /* last finished command */
  _Atomic uint64_t position;                      /* the ring's */
  _Atomic int64_t since_ns; /* coarse clock, every few commands: the running one began then or later */
  _Atomic uint64_t skipped;
  _Atomic uint32_t function; /* interned name of the running function; 0: none runs */
  _Atomic uint32_t message;  /* the running command's message */
  /* line 1: written by the worker, rarely */
  _Alignas(
      DSC_CACHE_LINE) _Atomic uint64_t failed; /* the first failed command of its newest epoch with one; only grows */
  _Atomic uint64_t resumed;                    /* the last resume record it has passed */
  _Atomic uint64_t sleeps;
  _Atomic int64_t pid;
  _Atomic uint32_t waits; /* DSC_WAITS_* */
  _Atomic uint32_t ended; /* its loop is over */
  /* How far the running function said that it is: dsc_progress_store(). */
  _Atomic uint64_t progress_of; /* its command; 0: none ever said so, or the next one is about to */
  _Atomic uint64_t progress_done, progress_total;
  /* line 2: written by whoever waits for this worker */
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t
      awaited_done; /* the smallest number a sleeper waits for; UINT64_MAX: none */
  _Atomic uint64_t awaited_position;
  _Atomic uint32_t lost; /* the controller: it is confirmed dead; before the failure count */
  /* line 3: its place to sleep inside a collective */
  _Alignas(DSC_CACHE_LINE) dsc_doorbell rank_bell;
} dsc_status_line;

typedef struct {
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t position; /* the controller's, in the worker's reply ring */
  dsc_ring_shared ring;                               /* the worker's */
} dsc_reply_words;

/* A failure as its worker wrote it. `version` is odd while it writes; the words are read again when it changed. */
typedef struct {
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t version;
  _Atomic uint64_t words[];
} dsc_error_slot;

typedef struct {
  _Atomic uint64_t magic; /* 0: nobody may attach any more */
  uint32_t version;
  int32_t num_workers, num_groups;
  uint32_t error_slot_bytes;
  uint64_t bytes, ring_bytes, reply_ring_bytes;
  uint64_t plane_bytes; /* of the data plane: zeroed, its own layout */
  uint64_t status_offset, reply_words_offset, error_slots_offset, ring_offset, reply_rings_offset, plane_offset;
  /* for workers of other processes */
  uint64_t session; /* a random number, never 0 */
  uint8_t nonce[DSC_SEGMENT_NONCE];
  int64_t controller_pid;
  uint32_t spin_us;
  int32_t busy_threads;
  uint32_t collective_timeout_ms; /* 0: none */
  dsc_ring_shared ring;
  _Alignas(DSC_CACHE_LINE) dsc_doorbell commands; /* all readers of the ring sleep here */
  _Alignas(DSC_CACHE_LINE) dsc_doorbell controllers;
  _Alignas(DSC_CACHE_LINE) _Atomic uint64_t failures; /* how many failures were ever stored, by all workers */
  _Atomic uint32_t fault;                             /* DSC_FAULT_*: every wait ends */
  _Atomic uint32_t ranks_asleep; /* at their rank_bell, or about to; one that died there stays counted */
  _Atomic uint64_t unwanted;     /* nobody waits for replies to commands up to this one: written under the reply lock */
  _Atomic uint64_t armed; /* the done descriptor: whoever passes this command says so; UINT64_MAX: nobody asked */
} dsc_segment_header;

typedef struct {
  dsc_shared_memory memory;
  dsc_segment_header *header;
} dsc_segment;

typedef struct {
  int32_t num_workers, num_groups;
  uint64_t ring_bytes, reply_ring_bytes;
  uint32_t error_slot_bytes;
  uint32_t spin_us;
  int32_t busy_threads;
  uint64_t plane_bytes;
  uint32_t collective_timeout_ms;
} dsc_segment_layout;

disco_status dsc_segment_create(const dsc_segment_layout *layout, dsc_segment *ret_segment);
/* Map the segment of another process by a descriptor of it (taken over on success). Its header is checked: DISCO_LOST
 * says what does not fit. The ring's pages are mapped read-only. */
disco_status dsc_segment_attach(int fd, const uint8_t nonce[DSC_SEGMENT_NONCE], dsc_segment *ret_segment);
/* Could this header of a stranger, in a file of that size, be ours? DISCO_LOST with the reason. */
disco_status dsc_segment_check(const dsc_segment_header *header, uint64_t file_bytes);
void dsc_segment_destroy(dsc_segment *segment);

static inline void *dsc_segment_at(const dsc_segment_header *header, uint64_t offset) {
  return (char *)header + offset;
}
static inline dsc_status_line *dsc_segment_status(const dsc_segment_header *header, int32_t worker) {
  return (dsc_status_line *)dsc_segment_at(header, header->status_offset) + worker;
}
static inline dsc_reply_words *dsc_segment_reply_words(const dsc_segment_header *header, int32_t worker) {
  return (dsc_reply_words *)dsc_segment_at(header, header->reply_words_offset) + worker;
}
static inline dsc_error_slot *dsc_segment_error_slot(const dsc_segment_header *header, int32_t worker) {
  return dsc_segment_at(header, header->error_slots_offset + (uint64_t)worker * header->error_slot_bytes);
}
static inline void *dsc_segment_reply_ring(const dsc_segment_header *header, int32_t worker) {
  return dsc_segment_at(header, header->reply_rings_offset + (uint64_t)worker * header->reply_ring_bytes);
}

/* Lower an awaited word to `target` if it is higher: any number of waiting threads. */
static inline void dsc_await(_Atomic uint64_t *awaited, uint64_t target) {
  uint64_t seen = dsc_load_relaxed(awaited);
  while (target < seen && !dsc_cas(awaited, &seen, target)) continue;
}

/* How far a function is, in units of its own. */
typedef struct {
  uint64_t sequence;    /* its command; 0: nothing is known */
  uint64_t done, total; /* total 0: the function does not know */
} dsc_progress;

/* The writer of the worker's status line: the function of command `sequence` is so far. A few plain stores. */
static inline void dsc_progress_store(dsc_status_line *line, const dsc_progress *progress) {
  const bool first = dsc_load_relaxed(&line->progress_of) != progress->sequence;
  if (first) dsc_store_relaxed(&line->progress_of, 0); /* before its numbers are replaced, which are release stores */
  dsc_store_release(&line->progress_total, progress->total);            /* release: status.progress */
  dsc_store_release(&line->progress_done, progress->done);              /* release: status.progress */
  if (first) dsc_store_release(&line->progress_of, progress->sequence); /* release: status.progress */
}

/* Anybody: what was said last. The numbers are those of one command, and where its total does not shrink `done` is not
 * past it. */
dsc_progress dsc_progress_load(const dsc_status_line *line);

/* Something happened that a rank asleep in a collective must look at: a failure, a death, a done number it waits for.
 */
void dsc_segment_ring_ranks(dsc_segment_header *header);

/* End every wait of the session, for good. Any thread. */
void dsc_segment_raise_fault(dsc_segment_header *header, uint32_t fault);

/* ---- Error slots: bytes in, bytes out ---- */

/* Worker: replace the slot's content. `size` <= error_slot_bytes - one line. */
void dsc_error_slot_write(dsc_error_slot *slot, const void *bytes, size_t size);
/* Anybody: copy `size` bytes out, whole (again when the writer was in the middle). False when the writer stays in the
 * middle: it died there. */
bool dsc_error_slot_read(const dsc_error_slot *slot, void *ret_bytes, size_t size);

#endif
