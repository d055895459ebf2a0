#include "wire/codec.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

unsigned dsc_values_look(const TVMFFIAny *values, int32_t count) {
  unsigned found = 0;
  for (int32_t i = 0; i < count; i++) {
    int32_t index = values[i].type_index;
    if (index == DSC_TYPE_DREF) continue; /* most of a long list */
    if (dsc_value_is_borrowed(&values[i])) found |= DSC_VALUES_BORROWED;
    if (index >= kTVMFFIStaticObjectBegin || index == kTVMFFIOpaquePtr) found |= DSC_VALUES_OBJECTS;
  }
  return found;
}

disco_status dsc_values_own(const TVMFFIAny *values, int32_t count, TVMFFIAny **ret_owned) {
  TVMFFIAny *owned = dsc_alloc((size_t)count * sizeof(*owned), "a copy of the arguments");
  if (owned == NULL) return DISCO_MEMORY;
  for (int32_t i = 0; i < count; i++) {
    char what[32];
    (void)snprintf(what, sizeof(what), "argument %d", i);
    disco_status status = dsc_value_own(&values[i], what, &owned[i]);
    if (status != DISCO_OK) {
      dsc_values_disown(owned, i);
      return status;
    }
  }
  *ret_owned = owned;
  return DISCO_OK;
}

void dsc_values_disown(TVMFFIAny *owned, int32_t count) {
  for (int32_t i = 0; owned != NULL && i < count; i++) dsc_value_drop(&owned[i]);
  free(owned);
}

static disco_status refuse_dref(const dsc_encoder *encoder, const dsc_dref *dref, const char *what, int32_t index) {
  char name[64];
  (void)snprintf(name, sizeof(name), index < 0 ? "%s" : "%s %d", what, index);
  if (dref->session != encoder->session)
    return dsc_fail(
        DISCO_VALUE,
        "%s is a DRef (register %lld) of another session: a register can only be used in the session that made it",
        name, (long long)dref->reg_id);
  return dsc_fail(DISCO_VALUE, "%s is a DRef whose register %lld was released", name, (long long)dref->reg_id);
}

disco_status dsc_check_dref(const dsc_encoder *encoder, const dsc_dref *dref, const char *what, int32_t index) {
  if (dref->session == encoder->session &&
      dsc_idpool_is_live(encoder->registers, (uint32_t)dref->reg_id, dref->generation))
    return DISCO_OK;
  return refuse_dref(encoder, dref, what, index);
}

/* Encode the DRefs from values[0] on, packed: budget 3 ns each. Returns how many, 0 when the first is refused. */
static int32_t encode_drefs(const dsc_encoder *encoder, const TVMFFIAny *values, int32_t count, dsc_dref_run *run) {
  uint32_t *ids = dsc_dref_run_ids(run);
  int32_t taken = 0;
  for (; taken < count && values[taken].type_index == DSC_TYPE_DREF; taken++) {
    const dsc_dref *dref = (const dsc_dref *)values[taken].v_obj;
    if (dref->session != encoder->session) break;
    uint32_t id = (uint32_t)dref->reg_id;
    if (!dsc_idpool_is_live(encoder->registers, id, dref->generation)) break;
    ids[taken] = id;
  }
  run->kind = DSC_SLOT_DREFS;
  run->count = (uint32_t)taken;
  return taken;
}

static disco_status check_string(const TVMFFIAny *value, int32_t index) {
  size_t size = ((const TVMFFIByteArray *)(value->v_obj + 1))->size;
  if (size <= DSC_STRING_MAX) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "argument %d is a string of %zu bytes; at most %zu can be sent", index, size,
                  DSC_STRING_MAX);
}

/* ---- For other processes ---- */

static uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

/* Does this slot hold something that another process needs in packed form? */
static bool needs_packing(const TVMFFIAny *value) { return dsc_is_object(value) && value->type_index != DSC_TYPE_DREF; }

disco_status dsc_travel_measure(const TVMFFIAny *values, int32_t count, unsigned allowed, uint64_t room,
                                const char *what, dsc_travel *ret_travel) {
  *ret_travel = (dsc_travel){.side = {.threshold = DSC_SIDE_THRESHOLD}};
  for (int32_t i = 0; i < count; i++) {
    uint64_t bytes = 0;
    char name[48];
    if (!needs_packing(&values[i]) && values[i].type_index != kTVMFFIOpaquePtr) continue;
    (void)snprintf(name, sizeof(name), allowed == DSC_PACK_PLAIN ? "%s %d" : "%s", what, i);
    disco_status status = dsc_pack_measure(&values[i], allowed, name, &ret_travel->side, &bytes);
    if (status != DISCO_OK) return status;
    ret_travel->payload += round_up(bytes, DSC_SLOT_BYTES);
  }
  ret_travel->in_side = ret_travel->payload > room;
  if (ret_travel->in_side) ret_travel->side_offset = round_up(ret_travel->payload, DSC_PACK_SIDE_ALIGN);
  return DISCO_OK;
}

disco_status dsc_travel_pack(dsc_travel *travel, const TVMFFIAny *values, int32_t count, char *base) {
  if (base != NULL) travel->side.base = base + travel->side_offset;
  if (travel->payload == 0) return DISCO_OK;
  if (travel->in_side)
    travel->packed = base;
  else if (travel->payload <= sizeof(travel->small))
    travel->packed = travel->small;
  else if ((travel->packed = dsc_alloc(travel->payload, "packed arguments")) == NULL)
    return DISCO_MEMORY;
  char *at = travel->packed;
  for (int32_t i = 0; i < count; i++) {
    if (!needs_packing(&values[i])) continue;
    char *end = dsc_pack(&values[i], &travel->side, at);
    if (end == NULL) return DISCO_MEMORY;
    uint64_t bytes = (uint64_t)(end - at), padded = round_up(bytes, DSC_SLOT_BYTES);
    memset(end, 0, padded - bytes);
    at += padded;
  }
  return DISCO_OK;
}

void dsc_travel_fini(dsc_travel *travel) {
  if (!travel->in_side && travel->packed != travel->small) free(travel->packed);
  travel->packed = NULL;
}

/* The slots are written: put the packed values behind them, and tell each object's slot where its own is. */
static char *encode_packed(const dsc_travel *travel, void *slots, int32_t count, char *end) {
  const char *record = (const char *)slots - sizeof(dsc_record);
  /* From the record's start; in a side file from 16 bytes before it, so that 0 stays "nothing". */
  uint64_t first = travel->in_side ? DSC_SLOT_BYTES : (uint64_t)(end - record), offset = 0;
  dsc_slot_walk walk = dsc_slot_walk_of(slots, (uint32_t)count);
  for (TVMFFIAny *value; (value = dsc_slot_next(&walk)) != NULL;) {
    if (!dsc_is_object(value)) continue;
    if (offset >= travel->payload) break; /* GetGlobalFunc: the name travels, the function does not */
    const dsc_packed *packed = (const dsc_packed *)(travel->packed + offset);
    value->zero_padding = (uint32_t)((first + offset) / DSC_SLOT_BYTES);
    offset += round_up(sizeof(*packed) + packed->payload, DSC_SLOT_BYTES);
  }
  if (travel->in_side) return end;
  memcpy(end, travel->packed, travel->payload);
  return end + travel->payload;
}

disco_status dsc_encode(const dsc_encoder *encoder, const TVMFFIAny *values, int32_t count, const dsc_travel *travel,
                        void *slots, size_t *ret_bytes, uint8_t *ret_flags) {
  char *at = slots;
  for (int32_t i = 0; i < count;) {
    const TVMFFIAny *value = &values[i];
    disco_status status = DISCO_OK;
    if (value->type_index == DSC_TYPE_DREF) {
      dsc_dref_run *run = (dsc_dref_run *)at;
      int32_t taken = encode_drefs(encoder, value, count - i, run);
      if (taken > 0) {
        i += taken;
        at += dsc_dref_run_bytes((uint32_t)taken);
        continue;
      }
      status = refuse_dref(encoder, (const dsc_dref *)value->v_obj, "argument", i);
    } else if (dsc_is_object(value)) {
      if (value->type_index == kTVMFFIStr || value->type_index == kTVMFFIBytes) status = check_string(value, i);
      if (status == DISCO_OK) {
        dsc_object_ref(value->v_obj, encoder->readers);
        *ret_flags |= DSC_RECORD_OBJECTS;
      }
    }
    if (status != DISCO_OK) {
      dsc_encoded_drop(slots, (uint32_t)i, encoder->readers);
      return status;
    }
    memcpy(at, value, DSC_SLOT_BYTES);
    at += DSC_SLOT_BYTES;
    i++;
  }
  if (travel != NULL && travel->payload > 0) at = encode_packed(travel, slots, count, at);
  *ret_bytes = (size_t)(at - (char *)slots);
  return DISCO_OK;
}

void dsc_encoded_drop(const void *slots, uint32_t num_args, uint64_t readers) {
  dsc_slot_walk walk = dsc_slot_walk_of(slots, num_args);
  for (const TVMFFIAny *value; (value = dsc_slot_next(&walk)) != NULL;)
    for (uint64_t r = 0; dsc_is_object(value) && r < readers; r++) dsc_object_unref(value->v_obj);
}

/* Plain values that mean the same everywhere; objects are looked at in their packed form only. */
static bool slot_may_come(const TVMFFIAny *slot) {
  bool small = slot->type_index == kTVMFFISmallStr || slot->type_index == kTVMFFISmallBytes;
  if (small && slot->zero_padding > 7) return false;
  return dsc_packed_is_plain(slot->type_index) || dsc_is_object(slot);
}

/* What a handler reads without counting: each a slot of its own. */
static uint32_t values_needed(uint8_t message) {
  switch (message) {
  case DSC_MESSAGE_GetGlobalFunc: return 2;
  case DSC_MESSAGE_DebugSetRegister:
  case DSC_MESSAGE_CopyFromWorker0:
  case DSC_MESSAGE_CopyToWorker0: return 1;
  default: return 0;
  }
}

disco_status dsc_record_check(const dsc_record *record, uint64_t bytes) {
  uint64_t slots = bytes >= sizeof(*record) ? (uint64_t)record->num_slots * DSC_SLOT_BYTES : 0;
  uint64_t side = bytes >= sizeof(*record) && (record->flags & DSC_RECORD_SIDE) ? sizeof(dsc_side_ref) : 0;
  if (bytes < sizeof(*record) || sizeof(*record) + slots + (uint64_t)record->num_releases * 4 > bytes || side > slots)
    return dsc_fail(DISCO_LOST, "a command of %llu bytes is shorter than its parts", (unsigned long long)bytes);
  if (dsc_message_name(record->message) == NULL)
    return dsc_fail(DISCO_LOST, "a command has the unknown number %u", record->message);
  if (record->num_args < values_needed(record->message))
    return dsc_fail(DISCO_LOST, "a %s has %u values only", dsc_message_name(record->message), record->num_args);
  if (record->reg >= DSC_IDPOOL_MAX) return dsc_fail(DISCO_LOST, "a command names register %u", record->reg);
  const char *at = dsc_record_slots(record), *end = at + slots - side;
  for (uint32_t i = 0; i < record->num_args;) {
    const TVMFFIAny *slot = (const TVMFFIAny *)at;
    size_t room = (size_t)(end - at), size = DSC_SLOT_BYTES;
    uint32_t taken = 1;
    bool good = room >= size;
    if (good && slot->type_index == DSC_SLOT_DREFS) {
      taken = ((const dsc_dref_run *)at)->count;
      good = taken >= 1 && taken <= record->num_args - i && (size = dsc_dref_run_bytes(taken)) <= room &&
             i >= values_needed(record->message);
    } else if (good) {
      good = slot_may_come(slot);
    }
    if (!good) return dsc_fail(DISCO_LOST, "value %u of a command is malformed", i);
    i += taken;
    at += size;
  }
  return DISCO_OK;
}
