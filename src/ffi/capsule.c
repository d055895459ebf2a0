#include "ffi/capsule.h"

#include <stdio.h>
#include <string.h>

#include "ffi/object.h"
#include "ffi/value.h"

enum { MAX_NAME = 63 };

typedef struct {
  TVMFFIObject header;
  void *pointer;
  void (*destructor)(void *pointer);
  char name[MAX_NAME + 1];
} capsule;

static void delete_capsule(void *object, int flags) {
  capsule *self = object;
  if ((flags & kTVMFFIObjectDeleterFlagBitMaskStrong) && self->destructor != NULL) self->destructor(self->pointer);
  if (flags & kTVMFFIObjectDeleterFlagBitMaskWeak) dsc_object_free(self);
}

disco_status dsc_capsule_create(const char *name, void *pointer, void (*destructor)(void *pointer),
                                TVMFFIObjectHandle *ret_capsule) {
  if (name == NULL || *name == 0 || strlen(name) > MAX_NAME)
    return dsc_fail(DISCO_VALUE, "a capsule's name has 1 to %d bytes", MAX_NAME);
  capsule *self = dsc_object_create(sizeof(*self), dsc_type_capsule, delete_capsule);
  if (self == NULL) return DISCO_MEMORY;
  self->pointer = pointer;
  self->destructor = destructor;
  (void)snprintf(self->name, sizeof(self->name), "%s", name);
  *ret_capsule = self;
  return DISCO_OK;
}

disco_status dsc_capsule_get(const TVMFFIAny *value, const char *name, void **ret_pointer) {
  /* Known by its deleter: the type key could be anybody's. */
  if (!dsc_is_object(value) || value->v_obj->deleter != delete_capsule)
    return dsc_fail(DISCO_TYPE, "a capsule `%s` is wanted, but this is `%s`", name, dsc_value_type_name(value));
  const capsule *self = (const capsule *)value->v_obj;
  if (strcmp(self->name, name) != 0)
    return dsc_fail(DISCO_TYPE, "a capsule `%s` is wanted, but this one is `%s`", name, self->name);
  *ret_pointer = self->pointer;
  return DISCO_OK;
}
