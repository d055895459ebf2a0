/* libdisco's own object types: DRef and Session, as TVM-FFI objects. */
#ifndef DSC_FFI_OBJECT_H
#define DSC_FFI_OBJECT_H

#include <tvm/ffi/c_api.h>

#include "base/status.h"

enum { DSC_OBJECT_PREFIX = 16 };

typedef struct disco_session disco_session;

/* runtime.disco.DRef: the first 40 bytes are TVM's layout. */
typedef struct disco_dref {
  TVMFFIObject header;
  int64_t reg_id;         /* offset 24 */
  disco_session *session; /* offset 32, counted */
  uint32_t generation;    /* which use of the register number this is (base/idpool.h) */
} dsc_dref;

extern int32_t dsc_type_session, dsc_type_threaded_session, dsc_type_process_session, dsc_type_shard_loader,
    dsc_type_capsule; /* dynamic type indices of this process, set at load */

/* Register the type keys. Once, at load, before anything else. */
disco_status dsc_object_register_types(void);

/* An object of `bytes` (header included) with one reference. 16 bytes stand before it, as later TVM-FFI releases want
 * to read them: a zero word, and the function that frees the memory. NULL with DISCO_MEMORY. */
void *dsc_object_create(size_t bytes, int32_t type_index, void (*deleter)(void *self, int flags));
/* The same in memory of the caller's, which the deleter must not free: at least 16 bytes more than the object, 16-byte
 * aligned. */
void *dsc_object_init(void *memory, int32_t type_index, void (*deleter)(void *self, int flags));
/* The memory of one: for deleters, when the weak flag is set. */
void dsc_object_free(void *object);

/* Is it a session of ours? Sessions made by another library under the same type keys are not. */
disco_status dsc_object_as_session(const TVMFFIAny *value, disco_session **ret_session);
/* The deleter that our sessions carry: set by the session room, the mark by which they are known. */
extern void (*dsc_object_session_deleter)(void *self, int flags);

#endif
