/* From the handles of disco/disco.h to the C++ classes and back: what C made C++ drives, and the other way round. */
#ifndef DISCO_CPP_HANDLE_H
#define DISCO_CPP_HANDLE_H

#include "disco/disco.h"
#include "disco/value.h"
#include "tvm/runtime/disco/session.h"

namespace disco {

/* The object behind a handle, with a reference of its own: the handle stays the caller's. */
inline tvm::runtime::Session share(disco_session *handle) {
  return tvm::ffi::AnyView::CopyFromTVMFFIAny(disco_value_object(handle)).cast<tvm::runtime::Session>();
}
inline tvm::runtime::DRef share(disco_dref *handle) {
  return tvm::ffi::AnyView::CopyFromTVMFFIAny(disco_value_object(handle)).cast<tvm::runtime::DRef>();
}

/* The same for a handle whose reference the caller gives away: what disco_session_create_threaded() or disco_call()
 * returned. */
template <typename Handle> auto adopt(Handle *handle) {
  auto object = share(handle);
  (void)TVMFFIObjectDecRef(handle);
  return object;
}

/* The handle of an object, borrowed: it lives as long as the object. */
inline disco_session *handle(const tvm::runtime::Session &session) {
  return reinterpret_cast<disco_session *>(session.get());
}
inline disco_dref *handle(const tvm::runtime::DRef &dref) { return reinterpret_cast<disco_dref *>(dref.get()); }

/* The handle of an object with a reference of its own, for C to unref. */
template <typename Reference> auto give(const Reference &object) {
  auto *handle_ = handle(object);
  (void)TVMFFIObjectIncRef(handle_);
  return handle_;
}

} // namespace disco

#endif
