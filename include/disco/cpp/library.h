/* How the C++ face reaches libdisco: through the global functions libdisco.* of TVM-FFI's registry, looked up at their
 * first use. A program that includes these headers need not link libdisco; it has to be in the process, because the
 * program links it, or was started with it in LD_PRELOAD, or Python imported it.
 *
 * Never the names runtime.disco.*: where TVM's runtime is loaded and libdisco is not they are TVM's, and a program that
 * was built to be driven by libdisco would run on the other without a word. */
#ifndef DISCO_CPP_LIBRARY_H
#define DISCO_CPP_LIBRARY_H

#include <tvm/ffi/error.h>
#include <tvm/ffi/function.h>

#include <optional>
#include <string>

#ifdef DISCO_CPP_LINK
extern "C" const char *disco_version(void);
#endif

namespace disco {
namespace cpp {

/* The global function libdisco.<name>: a reference that stays valid for ever, for a static of the caller's. Throws
 * RuntimeError when libdisco is not in the process, or too old for this header. Not destroyed at exit: the registry may
 * be gone by then. */
inline const tvm::ffi::Function &find(const char *name) {
#ifdef DISCO_CPP_LINK
  (void)disco_version(); /* a name that the linker has to look for, so that --as-needed keeps the library */
#endif
  std::optional<tvm::ffi::Function> found = tvm::ffi::Function::GetGlobal(std::string("libdisco.") + name);
  if (found.has_value()) return *new tvm::ffi::Function(*found);
  if (tvm::ffi::Function::GetGlobal("libdisco.version").has_value())
    TVM_FFI_THROW(RuntimeError) << "the libdisco of this process has no function libdisco." << name
                                << ": it is older than the headers of this program";
  TVM_FFI_THROW(RuntimeError) << "libdisco is not in this process: link the program with -ldisco (and compile with "
                                 "-DDISCO_CPP_LINK if the linker drops it), start it with LD_PRELOAD=libdisco.so, or "
                                 "load libdisco.so before the first session is made";
  TVM_FFI_UNREACHABLE();
}

} // namespace cpp
} // namespace disco

#endif
