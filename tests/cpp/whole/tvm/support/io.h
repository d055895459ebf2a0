// Stands for a header that TVM's sources have and its wheel lacks, so that the wheel's tensor.h compiles: the case of a
// program built against a whole TVM.
#ifndef TVM_SUPPORT_IO_H_
#define TVM_SUPPORT_IO_H_

#include <tvm/ffi/endian.h>

#include <cstddef>

namespace tvm {
namespace support {

class Stream {
public:
  virtual ~Stream() = default;
  virtual size_t Read(void *bytes, size_t size) = 0;
  virtual size_t Write(const void *bytes, size_t size) = 0;
  template <typename T> bool Read(T *value) { return Read(static_cast<void *>(value), sizeof(T)) == sizeof(T); }
  template <typename T> void Write(const T &value) { Write(static_cast<const void *>(&value), sizeof(T)); }
  template <typename T> bool ReadArray(T *values, size_t count) {
    return Read(static_cast<void *>(values), count * sizeof(T)) == count * sizeof(T);
  }
  template <typename T> void WriteArray(const T *values, size_t count) {
    Write(static_cast<const void *>(values), count * sizeof(T));
  }
};

} // namespace support
} // namespace tvm

#endif
