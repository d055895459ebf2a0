/* tvm::runtime::Tensor: TVM's own where its headers are whole, else one on tvm-ffi's alone, with the part of TVM's
 * interface that host memory needs. Both are the same object, an ffi.Tensor, so tensors pass freely between them. */
#ifndef DISCO_CPP_TENSOR_H
#define DISCO_CPP_TENSOR_H

#if __has_include(<tvm/support/io.h>)
#pragma GCC system_header /* include_next is an extension; the compilers that have __has_include have it, too */
#include_next <tvm/runtime/tensor.h>
#elif !defined(TVM_RUNTIME_TENSOR_H_)
#define TVM_RUNTIME_TENSOR_H_

#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/optional.h>
#include <tvm/ffi/string.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

/* For functions whose C++ names TVM's libraries export too: each module uses its own copy, so that neither takes the
 * other's calls, whatever was loaded first. The class itself keeps its name: it lies as TVM's does, and functions of
 * TVM's take it. */
#define DISCO_CPP_LOCAL __attribute__((visibility("hidden")))

namespace disco {
namespace cpp {

constexpr size_t kTensorAlignment = 64;

struct HostMemory {
  void AllocData(DLTensor *tensor) {
    size_t bytes = tvm::ffi::GetDataSize(*tensor);
    size_t whole = (bytes + kTensorAlignment) / kTensorAlignment * kTensorAlignment; /* at least one byte */
    tensor->data = std::aligned_alloc(kTensorAlignment, whole);
    if (tensor->data == nullptr) TVM_FFI_THROW(MemoryError) << "no memory for a tensor of " << bytes << " bytes";
  }
  void FreeData(DLTensor *tensor) { std::free(tensor->data); }
};

/* Part of another tensor's memory, which it keeps alive. */
struct ViewMemory {
  tvm::ffi::Tensor whole;
  void AllocData(DLTensor *tensor, uint64_t byte_offset) {
    tensor->data = whole.data_ptr();
    tensor->byte_offset = byte_offset;
  }
  void FreeData(DLTensor *) {}
};

/* The first byte of a tensor whose bytes may be copied as they lie. */
inline char *host_bytes(const DLTensor *tensor) {
  if (tensor->device.device_type != kDLCPU)
    TVM_FFI_THROW(RuntimeError) << "a tensor on device type " << static_cast<int>(tensor->device.device_type)
                                << ": without TVM's headers only tensors on the CPU are copied";
  if (!tvm::ffi::IsContiguous(*tensor)) TVM_FFI_THROW(ValueError) << "a tensor with gaps cannot be copied as bytes";
  return static_cast<char *>(tensor->data) + tensor->byte_offset;
}

inline void check_size(size_t given, size_t needed) {
  if (given != needed)
    TVM_FFI_THROW(ValueError) << "a copy of " << given << " bytes from or to a tensor of " << needed
                              << ": sizes must match exactly";
}

} // namespace cpp
} // namespace disco

namespace tvm {

using Device = DLDevice;

namespace runtime {

class Tensor : public tvm::ffi::Tensor {
public:
  Tensor() = default;
  explicit Tensor(ffi::ObjectPtr<ffi::TensorObj> data) : tvm::ffi::Tensor(std::move(data)) {}
  explicit Tensor(ffi::UnsafeInit tag) : tvm::ffi::Tensor(tag) {}
  Tensor(ffi::Tensor &&other) : tvm::ffi::Tensor(std::move(other)) {}
  Tensor(const ffi::Tensor &other) : tvm::ffi::Tensor(other) {}

  ffi::ShapeView Shape() const { return shape(); }
  DLDataType DataType() const { return dtype(); }
  const DLTensor *operator->() const { return get(); }

  static Tensor FromDLPack(DLManagedTensor *tensor) {
    return tvm::ffi::Tensor::FromDLPack(tensor, disco::cpp::kTensorAlignment, true);
  }
  static Tensor FromDLPackVersioned(DLManagedTensorVersioned *tensor) {
    return tvm::ffi::Tensor::FromDLPackVersioned(tensor, disco::cpp::kTensorAlignment, true);
  }

  /* Uninitialised host memory, 64-byte aligned. */
  DISCO_CPP_LOCAL static Tensor Empty(ffi::Shape shape, DLDataType dtype, Device dev,
                                      ffi::Optional<ffi::String> mem_scope = std::nullopt) {
    if (dev.device_type != kDLCPU || mem_scope.has_value())
      TVM_FFI_THROW(RuntimeError) << "Tensor::Empty: without TVM's headers there is only plain memory of the CPU";
    return ffi::Tensor::FromNDAlloc(disco::cpp::HostMemory(), shape, dtype, dev);
  }

  /* Another shape and dtype for this tensor's memory, from an offset on. */
  DISCO_CPP_LOCAL Tensor CreateView(ffi::Shape shape, DLDataType dtype, uint64_t relative_byte_offset = 0) const {
    size_t mine = ffi::GetDataSize(*this), wanted = ffi::GetDataSize(static_cast<size_t>(shape.Product()), dtype);
    if (!IsContiguous() || relative_byte_offset > mine || wanted > mine - relative_byte_offset)
      TVM_FFI_THROW(ValueError) << "a view of " << wanted << " bytes from byte " << relative_byte_offset
                                << " does not fit a tensor of " << mine << " bytes without gaps";
    return ffi::Tensor::FromNDAlloc(disco::cpp::ViewMemory{*this}, shape, dtype, device(),
                                    byte_offset() + relative_byte_offset);
  }

  /* Byte sizes must match exactly; shapes and dtypes need not. */
  DISCO_CPP_LOCAL static void CopyFromTo(const DLTensor *from, DLTensor *to) {
    disco::cpp::check_size(ffi::GetDataSize(*from), ffi::GetDataSize(*to));
    std::memmove(disco::cpp::host_bytes(to), disco::cpp::host_bytes(from), ffi::GetDataSize(*to));
  }
  DISCO_CPP_LOCAL void CopyFrom(const DLTensor *other) { CopyFromTo(other, get_mutable()); }
  DISCO_CPP_LOCAL void CopyFrom(const Tensor &other) { CopyFromTo(other.get(), get_mutable()); }
  DISCO_CPP_LOCAL void CopyTo(DLTensor *other) const { CopyFromTo(get(), other); }
  DISCO_CPP_LOCAL void CopyTo(const Tensor &other) const { CopyFromTo(get(), other.get_mutable()); }
  DISCO_CPP_LOCAL void CopyFromBytes(const void *data, size_t nbytes) {
    disco::cpp::check_size(nbytes, ffi::GetDataSize(*get()));
    std::memcpy(disco::cpp::host_bytes(get()), data, nbytes);
  }
  DISCO_CPP_LOCAL void CopyToBytes(void *data, size_t nbytes) const {
    disco::cpp::check_size(nbytes, ffi::GetDataSize(*get()));
    std::memcpy(data, disco::cpp::host_bytes(get()), nbytes);
  }
};

} // namespace runtime
} // namespace tvm

#endif
#endif
