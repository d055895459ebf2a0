#include "wire/codec.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

bool dsc_values_borrowed(const TVMFFIAny *values, int32_t count) {
  for (int32_t i = 0; i < count; i++)
    if (dsc_value_is_borrowed(&values[i])) return true;
  return false;
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

disco_status dsc_encode(const dsc_encoder *encoder, const TVMFFIAny *values, int32_t count, void *slots,
                        size_t *ret_bytes, uint8_t *ret_flags) {
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
  *ret_bytes = (size_t)(at - (char *)slots);
  return DISCO_OK;
}

void dsc_encoded_drop(const void *slots, uint32_t num_args, uint64_t readers) {
  const char *at = slots;
  for (uint32_t i = 0; i < num_args;) {
    const TVMFFIAny *value = (const TVMFFIAny *)at;
    if (value->type_index == DSC_SLOT_DREFS) {
      uint32_t count = ((const dsc_dref_run *)at)->count;
      i += count;
      at += dsc_dref_run_bytes(count);
      continue;
    }
    if (dsc_is_object(value))
      for (uint64_t r = 0; r < readers; r++) dsc_object_unref(value->v_obj);
    i++;
    at += DSC_SLOT_BYTES;
  }
}
