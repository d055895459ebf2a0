/* Values in a record: 16-byte slots.
 *
 * A plain value is its own TVMFFIAny. A counted object is its TVMFFIAny too (thread workers share the address space);
 * the encoder adds one reference per reader in one atomic add and each reader drops its own. A run of DRefs is packed:
 * a slot of kind DSC_SLOT_DREFS with a count, then 32-bit register ids, padded to 16 bytes.
 *
 * In a session of processes only worker 0 shares the address space. An object's slot then tells the others where its
 * packed form is (wire/pack.h): zero_padding counts 16 bytes from the record's start, or from the side file's when the
 * values are there (DSC_RECORD_SIDE with payload_bytes); 0: it does not travel. */
#ifndef DSC_WIRE_CODEC_H
#define DSC_WIRE_CODEC_H

#include <stddef.h>

#include "base/idpool.h"
#include "ffi/object.h"
#include "ffi/value.h"
#include "wire/limits.h"
#include "wire/pack.h"
#include "wire/schema.h"

enum { DSC_SLOT_BYTES = 16, DSC_SLOT_DREFS = -2 };

typedef struct {
  int32_t kind;   /* DSC_SLOT_DREFS */
  uint32_t count; /* at least 1; as many 32-bit register ids follow */
} dsc_dref_run;

static inline uint32_t *dsc_dref_run_ids(dsc_dref_run *run) { return (uint32_t *)(run + 1); }
/* Of the whole run: header, ids, padding. */
static inline size_t dsc_dref_run_bytes(uint32_t count) {
  return (sizeof(dsc_dref_run) + (size_t)count * 4 + 15) & ~(size_t)15;
}

/* The slots of a record that are values of their own, in order: runs of DRefs are stepped over. */
typedef struct {
  char *at;
  uint32_t left; /* values, those of runs counted each */
} dsc_slot_walk;

static inline dsc_slot_walk dsc_slot_walk_of(const void *slots, uint32_t num_args) {
  return (dsc_slot_walk){(char *)(uintptr_t)slots, num_args};
}

/* The next one, NULL at the end. */
static inline TVMFFIAny *dsc_slot_next(dsc_slot_walk *walk) {
  while (walk->left > 0) {
    TVMFFIAny *slot = (TVMFFIAny *)walk->at;
    if (slot->type_index != DSC_SLOT_DREFS) {
      walk->at += DSC_SLOT_BYTES;
      walk->left--;
      return slot;
    }
    uint32_t count = ((const dsc_dref_run *)slot)->count;
    walk->at += dsc_dref_run_bytes(count);
    walk->left -= count;
  }
  return NULL;
}

/* What the encoder needs to know of its session. */
typedef struct {
  const disco_session *session; /* DRefs must be its own */
  const dsc_idpool *registers;  /* and live */
  uint64_t readers;             /* references added per object */
} dsc_encoder;

/* How the objects among the values travel to other processes. Measured and packed before the record is claimed. */
typedef struct {
  bool in_side;         /* the packed values are in the side file, too: together they are too large for a record */
  uint64_t payload;     /* bytes of packed values, each rounded up to 16 */
  uint64_t side_offset; /* where large data begins in the side file: behind the packed values */
  dsc_pack_side side;   /* large data; side.bytes of it */
  char *packed;         /* the packed values: `small`, heap memory, or in the side file */
  _Alignas(16) char small[256];
} dsc_travel;

/* May these values travel, and how? `allowed`: DSC_PACK_*. `room`: bytes that packed values may take in the record.
 * `what` names them in errors, with the index in a list of arguments. DISCO_TYPE, DISCO_VALUE, DISCO_MEMORY. End with
 * dsc_travel_fini, also after an error. */
disco_status dsc_travel_measure(const TVMFFIAny *values, int32_t count, unsigned allowed, uint64_t room,
                                const char *what, dsc_travel *ret_travel);
/* How large the side file must be; 0: none is needed. */
static inline uint64_t dsc_travel_side_bytes(const dsc_travel *travel) {
  return travel->side.bytes > 0 || travel->in_side ? travel->side_offset + travel->side.bytes : 0;
}
/* Pack the values, straight after measuring. `base`: the side file's mapping, NULL when none is needed. */
disco_status dsc_travel_pack(dsc_travel *travel, const TVMFFIAny *values, int32_t count, char *base);
void dsc_travel_fini(dsc_travel *travel);

/* Bytes that `count` values can need at most. */
static inline size_t dsc_encode_bound(int32_t count) { return (size_t)count * DSC_SLOT_BYTES; }

/* What must be done before these values can be sent, in one look per value: budget 1 ns each. */
enum {
  DSC_VALUES_BORROWED = 1, /* there are borrowed forms (type indices 7 to 10), which must be owned first */
  DSC_VALUES_OBJECTS = 2,  /* there are objects, but for DRefs, or pointers: packed for other processes, or refused */
};
unsigned dsc_values_look(const TVMFFIAny *values, int32_t count);
/* Owned copies of all values (free with dsc_values_disown). */
disco_status dsc_values_own(const TVMFFIAny *values, int32_t count, TVMFFIAny **ret_owned);
void dsc_values_disown(TVMFFIAny *owned, int32_t count);

/* Encode into `slots` (room for dsc_encode_bound and travel->payload). *ret_flags gets DSC_RECORD_OBJECTS when it
 * applies. `travel`: NULL when nothing has to. On failure nothing stays counted, and the sentence names the argument.
 */
disco_status dsc_encode(const dsc_encoder *encoder, const TVMFFIAny *values, int32_t count, const dsc_travel *travel,
                        void *slots, size_t *ret_bytes, uint8_t *ret_flags);
/* Give back the references that an encoded run of slots holds for `readers` readers (1: a reader drops its own). */
void dsc_encoded_drop(const void *slots, uint32_t num_args, uint64_t readers);

/* Is this DRef this session's, and its register live? On failure the sentence names `what`. */
disco_status dsc_check_dref(const dsc_encoder *encoder, const dsc_dref *dref, const char *what, int32_t index);

/* ---- Layout of a record ---- */

static inline const void *dsc_record_slots(const dsc_record *record) { return record + 1; }
static inline const uint32_t *dsc_record_releases(const dsc_record *record) {
  return (const uint32_t *)((const char *)(record + 1) + (size_t)record->num_slots * DSC_SLOT_BYTES);
}

/* The side file of a record with DSC_RECORD_SIDE: it ends the slots. */
static inline dsc_side_ref *dsc_record_side(const dsc_record *record) {
  return (dsc_side_ref *)((char *)(uintptr_t)(record + 1) + (size_t)record->num_slots * DSC_SLOT_BYTES) - 1;
}

/* A record that came in a frame: do its slots and releases lie within `bytes`, and hold nothing that means an address?
 * DISCO_LOST. */
disco_status dsc_record_check(const dsc_record *record, uint64_t bytes);

#endif
