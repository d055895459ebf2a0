#include "ffi/object.h"

#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "ffi/value.h"

int32_t dsc_type_session = -1, dsc_type_threaded_session = -1, dsc_type_process_session = -1,
        dsc_type_shard_loader = -1, dsc_type_capsule = -1;
void (*dsc_object_session_deleter)(void *self, int flags);

_Static_assert(offsetof(dsc_dref, reg_id) == 24 && offsetof(dsc_dref, session) == 32,
               "TVM reads a DRef at these offsets");

static int32_t register_type(const char *key, int32_t static_index, int32_t depth, int32_t parent) {
  TVMFFIByteArray name = {key, strlen(key)};
  return TVMFFITypeGetOrAllocIndex(&name, static_index, depth, 0, 1, parent);
}

disco_status dsc_object_register_types(void) {
  /* Whoever comes first creates the entries, TVM's library finds the same ones later. No metadata: that would abort
   * TVM's own registration. */
  (void)register_type("runtime.disco.DRef", DSC_TYPE_DREF, 1, kTVMFFIObject);
  dsc_type_session = register_type("runtime.disco.Session", -1, 1, kTVMFFIObject);
  dsc_type_threaded_session = register_type("runtime.disco.ThreadedSession", -1, 2, dsc_type_session);
  dsc_type_process_session = register_type("runtime.disco.ProcessSession", -1, 2, dsc_type_session);
  (void)register_type("runtime.disco.SocketSession", -1, 2, dsc_type_session);
  dsc_type_shard_loader = register_type("runtime.disco.ShardLoader", -1, 1, kTVMFFIObject);
  dsc_type_capsule = register_type("libdisco.Capsule", -1, 1, kTVMFFIObject);
  return DISCO_OK;
}

typedef struct {
  uint64_t zero;
  void (*delete_space)(void *memory);
} prefix;

_Static_assert(sizeof(prefix) == DSC_OBJECT_PREFIX, "objects stay 16-byte aligned behind their prefix");

static void delete_space(void *object) { free((prefix *)object - 1); }
static void keep_space(void *object) { (void)object; }

static void *place(prefix *memory, void (*free_memory)(void *), int32_t type_index, void (*deleter)(void *, int)) {
  *memory = (prefix){0, free_memory};
  TVMFFIObject *object = (TVMFFIObject *)(memory + 1);
  object->combined_ref_count = 1 | (uint64_t)1 << 32;
  object->type_index = type_index;
  object->__padding = 0;
  object->deleter = deleter;
  return object;
}

void *dsc_object_create(size_t bytes, int32_t type_index, void (*deleter)(void *self, int flags)) {
  prefix *memory = DSC_ALLOCATION_FAILS() ? NULL : calloc(1, sizeof(prefix) + bytes);
  if (memory == NULL) {
    (void)dsc_fail(DISCO_MEMORY, "no memory for an object of %zu bytes", bytes);
    return NULL;
  }
  return place(memory, delete_space, type_index, deleter);
}

void *dsc_object_init(void *memory, int32_t type_index, void (*deleter)(void *self, int flags)) {
  return place(memory, keep_space, type_index, deleter);
}

void dsc_object_free(void *object) { delete_space(object); }

disco_status dsc_object_as_session(const TVMFFIAny *value, disco_session **ret_session) {
  if (dsc_is_object(value) && value->v_obj->deleter == dsc_object_session_deleter) {
    *ret_session = (disco_session *)value->v_obj;
    return DISCO_OK;
  }
  if (dsc_is_object(value) && value->type_index != DSC_TYPE_DREF &&
      strncmp(dsc_value_type_name(value), "runtime.disco.", 14) == 0)
    return dsc_fail(DISCO_TYPE, "this %s was made by another library than libdisco: make it after libdisco is loaded",
                    dsc_value_type_name(value));
  return dsc_fail(DISCO_TYPE, "Cannot convert from type `%s` to `runtime.disco.Session`", dsc_value_type_name(value));
}
