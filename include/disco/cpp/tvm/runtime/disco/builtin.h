/* What a C++ function that runs on a worker may call, with the names of TVM's tvm/runtime/disco/builtin.h: libdisco's
 * collectives and the rest of its worker functions. Header only. Arguments, dtypes, sizes and errors are those of
 * disco/worker.h; on a thread that is no worker's each throws ValueError. Errors are tvm::ffi::Error.
 *
 * The include guard is TVM's, so that a translation unit never sees both. */
#ifndef TVM_RUNTIME_DISCO_BUILTIN_H_
#define TVM_RUNTIME_DISCO_BUILTIN_H_

#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/optional.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <string>

#include "session.h"

namespace tvm {
namespace runtime {
inline namespace libdisco {

enum class ReduceKind : int32_t {
  kSum = 0,
  kProd = 1,
  kMin = 2,
  kMax = 3,
  kAvg = 4,
};

/* "kSum", and so on. ValueError for a number that is no kind. */
inline std::string ReduceKind2String(ReduceKind kind) {
  static const char *const names[] = {"kSum", "kProd", "kMin", "kMax", "kAvg"};
  const auto number = static_cast<int32_t>(kind);
  if (number < 0 || number >= static_cast<int32_t>(sizeof(names) / sizeof(names[0])))
    TVM_FFI_THROW(ValueError) << "Unknown ReduceKind: " << number;
  return names[number];
}

/* A Relax executable as a VM of this worker's; another library as it is. */
inline ffi::Module LoadVMModule(std::string path, ffi::Optional<Device> device) {
  static const ffi::Function &load = disco::cpp::find("load_vm_module");
  return load(path, device).cast<ffi::Module>();
}

/* A tensor of this worker's, uninitialised; no device: the worker's own. */
inline Tensor DiscoEmptyTensor(ffi::Shape shape, DLDataType dtype, ffi::Optional<Device> device) {
  static const ffi::Function &empty = disco::cpp::find("empty");
  return empty(shape, dtype, device, false, false).cast<Tensor>();
}

inline void AllReduce(Tensor send, ReduceKind reduce_kind, bool in_group, Tensor recv) {
  static const ffi::Function &allreduce = disco::cpp::find("allreduce");
  allreduce(send, ffi::Shape({static_cast<int64_t>(reduce_kind)}), in_group, recv);
}

inline void AllGather(Tensor send, bool in_group, Tensor recv) {
  static const ffi::Function &allgather = disco::cpp::find("allgather");
  allgather(send, in_group, recv);
}

/* Of `send` only the root's counts; others may pass an undefined tensor. */
inline void BroadcastFromWorker0(Tensor send, bool in_group, Tensor recv) {
  static const ffi::Function &broadcast = disco::cpp::find("broadcast_from_worker0");
  broadcast(send, in_group, recv);
}

inline void ScatterFromWorker0(ffi::Optional<Tensor> send, bool in_group, Tensor recv) {
  static const ffi::Function &scatter = disco::cpp::find("scatter_from_worker0");
  scatter(send, in_group, recv);
}

inline void GatherToWorker0(Tensor send, bool in_group, ffi::Optional<Tensor> recv) {
  static const ffi::Function &gather = disco::cpp::find("gather_to_worker0");
  gather(send, in_group, recv);
}

inline void RecvFromWorker0(Tensor buffer) {
  static const ffi::Function &recv = disco::cpp::find("recv_from_worker0");
  recv(buffer);
}

inline void SendToNextGroup(Tensor buffer) {
  static const ffi::Function &send = disco::cpp::find("send_to_next_group");
  send(buffer);
}

inline void RecvFromPrevGroup(Tensor buffer) {
  static const ffi::Function &recv = disco::cpp::find("recv_from_prev_group");
  recv(buffer);
}

inline void SendToWorker(Tensor buffer, int receiver_id) {
  static const ffi::Function &send = disco::cpp::find("send_to_worker");
  send(buffer, receiver_id);
}

inline void RecvFromWorker(Tensor buffer, int sender_id) {
  static const ffi::Function &recv = disco::cpp::find("recv_from_worker");
  recv(buffer, sender_id);
}

/* The calling worker's number among all. */
inline int WorkerId() {
  static const ffi::Function &rank = disco::cpp::find("worker_rank");
  return static_cast<int>(rank().cast<int64_t>());
}

/* Wait until the data plane has done what this worker asked of it. */
inline void SyncWorker() {
  static const ffi::Function &sync = disco::cpp::find("sync_worker");
  sync();
}

} // namespace libdisco
} // namespace runtime
} // namespace tvm

#endif
