/* Disco's sessions in C++, with the names and the spelling of TVM's tvm/runtime/disco/session.h, driven by libdisco.
 * Header only. Put the folder include/disco/cpp before TVM's own headers; without TVM, tvm-ffi's headers do.
 *
 *   using namespace tvm::runtime;
 *   Session session = Session::ThreadedSession(4, 1);
 *   DRef rank = session->CallPacked(session->GetGlobalFunc("runtime.disco.worker_rank"));
 *   int64_t two = rank->DebugGetFromRemote(2).cast<int64_t>();
 *
 * Errors arrive as tvm::ffi::Error with the kind they had where they were raised. What each function does, when it
 * waits and when a worker's error is told stands in disco/disco.h; what differs from TVM's header in docs/cpp.md.
 *
 * The include guard is TVM's, so that a translation unit never sees both. */
#ifndef TVM_RUNTIME_DISCO_SESSION_H_
#define TVM_RUNTIME_DISCO_SESSION_H_

#include <tvm/ffi/any.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/object.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <mutex>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "../../../library.h"

/* TVM's own Tensor where its headers are whole; its wheel ships tensor.h without the two headers that one needs. */
#if __has_include(<tvm/support/io.h>) && __has_include(<tvm/runtime/tensor.h>)
#include <tvm/runtime/tensor.h>
#else
#include "../tensor.h"
#endif

namespace tvm {
namespace runtime {
/* Of the library's own, seen as tvm::runtime: where TVM's libraries are loaded too, their compiled classes of the same
 * names lie differently, and neither side may take the other's functions. */
inline namespace libdisco {

constexpr int32_t kRuntimeDiscoDRef = TVMFFITypeIndex::kTVMFFIDynObjectBegin - 14;
static_assert(kRuntimeDiscoDRef == 114, "the number that libdisco gives its DRefs (DISCO_TYPE_DREF)");

enum class DiscoAction : int32_t {
  kShutDown = 0,
  kKillReg = 1,
  kGetGlobalFunc = 2,
  kCallPacked = 3,
  kSyncWorker = 4,
  kCopyFromWorker0 = 5,
  kCopyToWorker0 = 6,
  kDebugGetFromRemote = 7,
  kDebugSetRegister = 8,
};

/* "kShutDown", and so on. ValueError for a number that is no action. */
inline std::string DiscoAction2String(DiscoAction action) {
  static const char *const names[] = {"kShutDown",        "kKillReg",         "kGetGlobalFunc", "kCallPacked",
                                      "kSyncWorker",      "kCopyFromWorker0", "kCopyToWorker0", "kDebugGetFromRemote",
                                      "kDebugSetRegister"};
  const auto number = static_cast<int32_t>(action);
  if (number < 0 || number >= static_cast<int32_t>(sizeof(names) / sizeof(names[0])))
    TVM_FFI_THROW(ValueError) << "Unknown DiscoAction: " << number;
  return names[number];
}

class SessionObj;

/* A register on every worker. Made by libdisco alone: its death is the library's, and releases the register. */
class DRefObj : public ffi::Object {
public:
  DRefObj() = delete;

  /* The register's value on one worker; of a thread worker the very object. Waits for what was posted before. */
  inline ffi::Any DebugGetFromRemote(int worker_id);
  /* Set the register on one worker, and wait: copied into a tensor that is there, else replaced. */
  inline void DebugCopyFrom(int worker_id, ffi::AnyView source);

  static constexpr const uint32_t _type_index = kRuntimeDiscoDRef;
  static const constexpr bool _type_final = true;
  static constexpr const bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_STATIC("runtime.disco.DRef", DRefObj, ffi::Object);

  int64_t reg_id;
  ffi::ObjectRef session{nullptr};
};

static_assert(sizeof(DRefObj) == 40, "libdisco and TVM agree on the layout of a DRef");

class DRef : public ffi::ObjectRef {
public:
  explicit DRef(ffi::ObjectPtr<DRefObj> data) : ffi::ObjectRef(std::move(data)) {
    TVM_FFI_ICHECK(defined()) << "a DRef is never null";
  }
  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NOTNULLABLE(DRef, ffi::ObjectRef, DRefObj);
};

/* A session of libdisco's. Its methods have the names of TVM's virtual functions, but are calls into the library: it
 * cannot be derived from to make a session of one's own. */
class SessionObj : public ffi::Object {
public:
  SessionObj() = delete;

  /* Call func(args...) on every worker: numbers, text, bytes, None, DataType, Device, Shape, DRefs (each worker passes
   * what its register holds); tensors, functions and other objects too, where workers are threads or the object can
   * travel (disco_session_create_process()). Posted, not waited for. */
  template <typename... Args> DRef CallPacked(const DRef &func, Args &&...args);
  /* The same from {kCallPacked, 0, func, args...}. */
  inline DRef CallWithPacked(const ffi::PackedArgs &args);

  inline int64_t GetNumWorkers();
  inline DRef GetGlobalFunc(const std::string &name);
  /* The host tensor is used when worker 0 comes to the command: sync with worker 0 before touching it again. */
  inline void CopyFromWorker0(const Tensor &host_array, const DRef &remote_array);
  inline void CopyToWorker0(const Tensor &host_array, const DRef &remote_array);
  /* Wait until the worker has done everything posted before; any worker, not only the first. */
  inline void SyncWorker(int worker_id);
  /* Stop the workers and wait until they have ended. Idempotent. */
  inline void Shutdown();
  /* Start the collectives `ccl`; "cpu" is libdisco's own, with one id for each worker. */
  inline void InitCCL(ffi::String ccl, ffi::Shape device_ids);
  inline ffi::Any DebugGetFromRemote(int64_t reg_id, int worker_id);
  inline void DebugSetRegister(int64_t reg_id, ffi::AnyView value, int worker_id);

  static constexpr const bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO("runtime.disco.Session", SessionObj, ffi::Object);

protected:
  /* Release a register now, before its DRef dies; using that DRef is an error from here on. */
  inline void DeallocReg(int reg_id);

private:
  friend class DRefObj;
};

class Session : public ffi::ObjectRef {
public:
  /* Workers are threads of this process. */
  static Session ThreadedSession(int num_workers, int num_groups);
  /* Worker 0 is a thread, the others are processes of a pool: the global function `process_pool_creator` is called with
   * (num_workers, num_groups, entrypoint) and returns a function f; f(i) starts worker i and returns Shape(read_fd,
   * write_fd), f(0) is called once, at the session's end. For libdisco's own pool, which needs none of it, see
   * disco_session_create_process() and disco/cpp/handle.h. */
  static Session ProcessSession(int num_workers, int num_groups, ffi::String process_pool_creator,
                                ffi::String entrypoint);

  TVM_FFI_DEFINE_OBJECT_REF_METHODS_NULLABLE(Session, ffi::ObjectRef, SessionObj);
};

/* Workers on several hosts. libdisco has none yet: an error that says so. */
inline Session SocketSession(int num_nodes, int num_workers_per_node, int num_groups, const ffi::String &host,
                             int port);

/* Declared for programs that name it. libdisco moves bytes, not packed sequences, and takes transports as disco_channel
 * (disco/channel.h). */
class DiscoChannel {
public:
  virtual ~DiscoChannel() = default;
  virtual void Send(const ffi::PackedArgs &args) = 0;
  virtual ffi::PackedArgs Recv() = 0;
  virtual void Reply(const ffi::PackedArgs &args) = 0;
  virtual ffi::PackedArgs RecvReply() = 0;
};

/* Declared for programs that name it. In libdisco a host tensor travels with its command; nothing reads this queue. */
class WorkerZeroData {
public:
  std::queue<Tensor> host_arrays;
  std::mutex queue_mutex_;
};

/* ---- Bodies ---------------------------------------------------------------------------------------------------------------------- */

inline ffi::Any DRefObj::DebugGetFromRemote(int worker_id) {
  static const ffi::Function &get = disco::cpp::find("DRefDebugGetFromRemote");
  return get(this, worker_id);
}

inline void DRefObj::DebugCopyFrom(int worker_id, ffi::AnyView source) {
  static const ffi::Function &set = disco::cpp::find("DRefDebugCopyFrom");
  set(this, worker_id, source);
}

template <typename... Args> DRef SessionObj::CallPacked(const DRef &func, Args &&...args) {
  static const ffi::Function &call = disco::cpp::find("SessionCallPacked");
  return call(this, static_cast<int32_t>(DiscoAction::kCallPacked), 0, func, std::forward<Args>(args)...)
      .template cast<DRef>();
}

inline DRef SessionObj::CallWithPacked(const ffi::PackedArgs &args) {
  static const ffi::Function &call = disco::cpp::find("SessionCallPacked");
  if (args.size() < 3 || args[0].try_cast<int64_t>() != static_cast<int64_t>(DiscoAction::kCallPacked))
    TVM_FFI_THROW(ValueError) << "CallWithPacked takes {kCallPacked, 0, the function's DRef, arguments...}";
  std::vector<ffi::AnyView> packed;
  packed.reserve(static_cast<size_t>(args.size()) + 1);
  packed.emplace_back(this);
  packed.insert(packed.end(), args.data(), args.data() + args.size());
  ffi::Any result;
  call.CallPacked(packed.data(), static_cast<int32_t>(packed.size()), &result);
  return std::move(result).cast<DRef>();
}

inline int64_t SessionObj::GetNumWorkers() {
  static const ffi::Function &get = disco::cpp::find("SessionGetNumWorkers");
  return get(this).cast<int64_t>();
}

inline DRef SessionObj::GetGlobalFunc(const std::string &name) {
  static const ffi::Function &get = disco::cpp::find("SessionGetGlobalFunc");
  return get(this, name).cast<DRef>();
}

inline void SessionObj::CopyFromWorker0(const Tensor &host_array, const DRef &remote_array) {
  static const ffi::Function &copy = disco::cpp::find("SessionCopyFromWorker0");
  copy(this, host_array, remote_array);
}

inline void SessionObj::CopyToWorker0(const Tensor &host_array, const DRef &remote_array) {
  static const ffi::Function &copy = disco::cpp::find("SessionCopyToWorker0");
  copy(this, host_array, remote_array);
}

inline void SessionObj::SyncWorker(int worker_id) {
  static const ffi::Function &sync = disco::cpp::find("SessionSyncWorker");
  sync(this, worker_id);
}

inline void SessionObj::Shutdown() {
  static const ffi::Function &shutdown = disco::cpp::find("SessionShutdown");
  shutdown(this);
}

inline void SessionObj::InitCCL(ffi::String ccl, ffi::Shape device_ids) {
  static const ffi::Function &init = disco::cpp::find("SessionInitCCL");
  init(this, ccl, device_ids);
}

inline ffi::Any SessionObj::DebugGetFromRemote(int64_t reg_id, int worker_id) {
  static const ffi::Function &get = disco::cpp::find("SessionDebugGetFromRemote");
  return get(this, reg_id, worker_id);
}

inline void SessionObj::DebugSetRegister(int64_t reg_id, ffi::AnyView value, int worker_id) {
  static const ffi::Function &set = disco::cpp::find("SessionDebugSetRegister");
  set(this, reg_id, value, worker_id);
}

inline void SessionObj::DeallocReg(int reg_id) {
  static const ffi::Function &release = disco::cpp::find("SessionDeallocReg");
  release(this, reg_id);
}

inline Session Session::ThreadedSession(int num_workers, int num_groups) {
  static const ffi::Function &make = disco::cpp::find("SessionThreaded");
  return make(num_workers, num_groups).cast<Session>();
}

inline Session Session::ProcessSession(int num_workers, int num_groups, ffi::String process_pool_creator,
                                       ffi::String entrypoint) {
  static const ffi::Function &make = disco::cpp::find("SessionProcess");
  return make(num_workers, num_groups, process_pool_creator, entrypoint).cast<Session>();
}

inline Session SocketSession(int num_nodes, int num_workers_per_node, int num_groups, const ffi::String &host,
                             int port) {
  static const ffi::Function &make = disco::cpp::find("SocketSession");
  return make(num_nodes, num_workers_per_node, num_groups, host, port).cast<Session>();
}

} // namespace libdisco
} // namespace runtime
} // namespace tvm

#endif
