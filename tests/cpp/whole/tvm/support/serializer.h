// The other header that the wheel lacks; nothing of it is needed.
#ifndef TVM_SUPPORT_SERIALIZER_H_
#define TVM_SUPPORT_SERIALIZER_H_
#include <tvm/support/io.h>
#endif
