#include "ccl/dtype.h"

#include <stdio.h>

static const char *name_of(uint8_t code) {
  switch (code) {
  case kDLInt: return "int";
  case kDLUInt: return "uint";
  case kDLFloat: return "float";
  case kDLOpaqueHandle: return "handle";
  case kDLBfloat: return "bfloat";
  case kDLComplex: return "complex";
  case kDLBool: return "bool";
  case kDLFloat8_e3m4: return "float8_e3m4:";
  case kDLFloat8_e4m3: return "float8_e4m3:";
  case kDLFloat8_e4m3b11fnuz: return "float8_e4m3b11fnuz:";
  case kDLFloat8_e4m3fn: return "float8_e4m3fn:";
  case kDLFloat8_e4m3fnuz: return "float8_e4m3fnuz:";
  case kDLFloat8_e5m2: return "float8_e5m2:";
  case kDLFloat8_e5m2fnuz: return "float8_e5m2fnuz:";
  case kDLFloat8_e8m0fnu: return "float8_e8m0fnu:";
  case kDLFloat6_e2m3fn: return "float6_e2m3fn:";
  case kDLFloat6_e3m2fn: return "float6_e3m2fn:";
  case kDLFloat4_e2m1fn: return "float4_e2m1fn:";
  default: return NULL;
  }
}

void dsc_dtype_text(DLDataType dtype, char *text, size_t room) {
  const char *name = name_of(dtype.code);
  char lanes[16] = "";
  if (dtype.lanes != 1) (void)snprintf(lanes, sizeof(lanes), "x%u", dtype.lanes);
  size_t size = 0;
  if (name == NULL) {
    (void)snprintf(text, room, "type %u of %u bits%s", dtype.code, dtype.bits, lanes);
    return;
  }
  while (name[size] != 0 && name[size] != ':') size++;
  if (name[size] == ':' || dtype.code == kDLBool) /* the name says the bits */
    (void)snprintf(text, room, "%.*s%s", (int)size, name, lanes);
  else
    (void)snprintf(text, room, "%s%u%s", name, dtype.bits, lanes);
}
