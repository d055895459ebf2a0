// A C++ library that gets sessions and DRefs from others, by TVM-FFI functions in the registry (Python) and by handles
// (C), and gives them its own.
#include "crossing.h"

#include <cstdio>
#include <utility>

#include <disco/cpp/handle.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/runtime/tensor.h> // before session.h, as programs have it
// Keeps the order.
#include <tvm/runtime/disco/session.h>

namespace {

using namespace tvm::runtime;
namespace ffi = tvm::ffi;

static_assert(kTVMTensorMagic != 0, "this is built with TVM's own Tensor, not the one that stands in for it");

DRef put_number(const Session &session, int64_t number) {
  return session->CallPacked(session->GetGlobalFunc("crossing.echo"), number);
}

int64_t sum_of(const DRef &dref) {
  const auto *session = dref->session.as<SessionObj>();
  int64_t sum = 0;
  for (int worker = 0; worker < const_cast<SessionObj *>(session)->GetNumWorkers(); worker++)
    sum += dref->DebugGetFromRemote(worker).cast<int64_t>();
  return sum;
}

// An object of C++'s that Python makes and holds: it keeps a session and what it needs of it.
class EngineObj : public ffi::Object {
public:
  EngineObj(Session session, DRef function) : session(std::move(session)), function(std::move(function)) {}
  Session session;
  DRef function;

  static constexpr const bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("crossing.Engine", EngineObj, ffi::Object);
};

class Engine : public ffi::ObjectRef {
public:
  Engine(Session session, const ffi::String &name)
      : ffi::ObjectRef(ffi::make_object<EngineObj>(session, session->GetGlobalFunc(name))) {}
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NULLABLE(Engine, ffi::ObjectRef, EngineObj);
};

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("crossing.echo", [](ffi::Any value) { return value; })
      .def("crossing.make", [](int workers) { return Session::ThreadedSession(workers, 1); })
      .def("crossing.number", put_number)
      .def("crossing.sum", sum_of)
      .def("crossing.session_of", [](const DRef &dref) { return dref->session; })
      .def("crossing.Engine", [](const Session &session, const ffi::String &name) { return Engine(session, name); })
      .def("crossing.EngineCall",
           [](const Engine &engine, const DRef &argument) {
             return engine->session->CallPacked(engine->function, argument);
           })
      .def("crossing.EngineSync", [](const Engine &engine) { engine->session->SyncWorker(0); });
}

template <typename Result, typename Body> Result guarded(Result failed, const Body &body) {
  try {
    return body();
  } catch (const std::exception &error) {
    fprintf(stderr, "%s\n", error.what());
    return failed;
  }
}

} // namespace

disco_session *crossing_make(int32_t workers) {
  return guarded<disco_session *>(nullptr, [&] { return disco::give(Session::ThreadedSession(workers, 1)); });
}

disco_dref *crossing_number(disco_session *session, int64_t number) {
  return guarded<disco_dref *>(nullptr, [&] { return disco::give(put_number(disco::share(session), number)); });
}

int64_t crossing_sum(disco_dref *dref) {
  return guarded<int64_t>(-1, [&] { return sum_of(disco::share(dref)); });
}

int64_t crossing_take(disco_session *session, disco_dref *dref) {
  return guarded<int64_t>(-1, [&] {
    Session mine = disco::adopt(session);
    DRef value = disco::adopt(dref);
    if (disco::handle(mine) != session || disco::handle(value) != dref || !value->session.same_as(mine)) return -2L;
    int64_t sum = sum_of(value);
    mine->Shutdown();
    return sum;
  });
}
