#include "wire/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "base/memory.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/object.h"
#include "ffi/tensor.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed values are little-endian, as memory is");
_Static_assert(sizeof(dsc_packed) == 16 && sizeof(DLDataType) == 4 && sizeof(DLDevice) == 8, "the layout of values");

/* Bodies, after the head. Data is padded to 8 bytes with zeros; with DSC_PACKED_SIDE a side_data stands in its place.
 *   Str, Bytes   uint64 size, data (or side_data alone)
 *   Shape        uint64 count, int64 numbers
 *   Tensor       tensor_head, int64 shape, data, row-major
 *   Error        three uint64 sizes: kind, message, backtrace; then these, one behind the other
 *   Array, Map   uint64 count, packed values (of a map: key, value, key, ...) */
typedef struct {
  uint64_t offset, bytes;
} side_data;

typedef struct {
  DLDataType dtype;
  int32_t ndim;
} tensor_head;

static uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }
static uint64_t padded(uint64_t bytes) { return round_up(bytes, DSC_PACK_ALIGN); }

/* How a value that has a body travels; borrowed strings become owned ones. */
static int32_t body_type(const TVMFFIAny *value) {
  switch (value->type_index) {
  case kTVMFFIRawStr: return kTVMFFIStr;
  case kTVMFFIByteArrayPtr: return kTVMFFIBytes;
  default: return value->type_index;
  }
}

static bool goes_aside(const dsc_pack_side *side, uint64_t bytes) {
  return side != NULL && bytes > 0 && bytes >= side->threshold;
}

/* ---- TVM-FFI's containers ---- */

/* A registered function, found once: the registry has no lock that look-ups of every value could rely on. The handle is
 * kept, these functions live as long as libtvm_ffi. */
static disco_status find(_Atomic(TVMFFIObject *) *cache, const char *name, TVMFFIObject **ret_function) {
  TVMFFIObject *function = dsc_load_acquire(cache), *expected = NULL;
  if (function == NULL) {
    disco_status status = dsc_function_find(name, &function);
    if (status != DISCO_OK) return status;
    if (function == NULL) return dsc_fail(DISCO_RUNTIME, "libtvm_ffi lacks the function `%s`", name);
    /* label pack.found: whoever sees the handle sees the object */
    if (!dsc_cas(cache, &expected, function)) {
      dsc_object_unref(function);
      function = expected;
    }
  }
  *ret_function = function;
  return DISCO_OK;
}

static disco_status no_memory(const char *what) { return dsc_fail(DISCO_MEMORY, "no memory for %s", what); }

static disco_status call(TVMFFIObject *function, const TVMFFIAny *args, int32_t count, const char *what,
                         TVMFFIAny *ret_result) {
  *ret_result = dsc_none();
  if (DSC_ALLOCATION_FAILS()) return no_memory(what);
  if (TVMFFIFunctionCall(function, (TVMFFIAny *)(uintptr_t)args, count, ret_result) == 0) return DISCO_OK;
  return dsc_error_take_raised(DISCO_MEMORY);
}

/* Walks a map: begin, then next for each of `left` entries, then end. */
typedef struct {
  TVMFFIAny functor;
  int64_t left;
} map_walk;

static disco_status map_begin(const TVMFFIAny *map, map_walk *ret_walk) {
  static _Atomic(TVMFFIObject *) size_cache, walk_cache;
  TVMFFIObject *size_of = NULL, *walk_of = NULL;
  TVMFFIAny size = dsc_none();
  *ret_walk = (map_walk){dsc_none(), 0};
  disco_status status = find(&size_cache, "ffi.MapSize", &size_of);
  if (status == DISCO_OK) status = find(&walk_cache, "ffi.MapForwardIterFunctor", &walk_of);
  if (status == DISCO_OK) status = call(size_of, map, 1, "a map's size", &size);
  if (status == DISCO_OK) status = call(walk_of, map, 1, "a walk through a map", &ret_walk->functor);
  if (status == DISCO_OK) ret_walk->left = size.v_int64;
  return status;
}

static void map_end(map_walk *walk) { dsc_value_drop(&walk->functor); }

/* The next key and value, owned. */
static disco_status map_next(map_walk *walk, TVMFFIAny *ret_key, TVMFFIAny *ret_value) {
  enum { KEY, VALUE, ADVANCE };
  const TVMFFIAny key = dsc_int(KEY), value = dsc_int(VALUE), advance = dsc_int(ADVANCE);
  TVMFFIAny more;
  *ret_value = dsc_none();
  disco_status status = call(walk->functor.v_obj, &key, 1, "a map's key", ret_key);
  if (status == DISCO_OK) status = call(walk->functor.v_obj, &value, 1, "a map's value", ret_value);
  if (status == DISCO_OK && --walk->left > 0) status = call(walk->functor.v_obj, &advance, 1, "a map's next", &more);
  if (status == DISCO_OK) return DISCO_OK;
  dsc_value_drop(ret_key);
  dsc_value_drop(ret_value);
  return status;
}

/* ---- First pass ---- */

typedef struct {
  unsigned allowed;
  const char *what;
  dsc_pack_side *side;
  uint64_t bytes;
  int depth; /* of containers around */
} measuring;

static disco_status add(measuring *pass, uint64_t bytes) {
  if (bytes <= (uint64_t)INT64_MAX && pass->bytes <= (uint64_t)INT64_MAX - bytes) {
    pass->bytes += bytes;
    return DISCO_OK;
  }
  return dsc_fail(DISCO_VALUE, "%s has more than 2^63 bytes in all", pass->what);
}

static disco_status add_data(measuring *pass, uint64_t bytes, uint64_t head) {
  dsc_pack_side *side = pass->side;
  if (!goes_aside(side, bytes)) return add(pass, head + padded(bytes));
  uint64_t begin = round_up(side->bytes, DSC_PACK_SIDE_ALIGN), end;
  if (begin < side->bytes || __builtin_add_overflow(begin, padded(bytes), &end) || end > (uint64_t)INT64_MAX)
    return dsc_fail(DISCO_VALUE, "%s has more than 2^63 bytes in all", pass->what);
  side->bytes = end;
  return add(pass, head + sizeof(side_data));
}

static disco_status too_long(const measuring *pass, const char *form, size_t size) {
  return dsc_fail(DISCO_VALUE, "%s is %s of %zu bytes; at most %zu can be sent", pass->what, form, size,
                  DSC_STRING_MAX);
}

static disco_status measure_string(const TVMFFIAny *value, measuring *pass) {
  TVMFFIByteArray text = {0};
  (void)dsc_value_string(value, &text);
  if (text.size > DSC_STRING_MAX) return too_long(pass, "a string", text.size);
  return add_data(pass, text.size, goes_aside(pass->side, text.size) ? 0 : sizeof(uint64_t));
}

static disco_status measure_error(const TVMFFIAny *value, measuring *pass) {
  dsc_error_parts parts;
  dsc_error_parts_of(value->v_obj, &parts);
  const size_t sizes[] = {parts.kind.size, parts.message.size, parts.backtrace.size};
  size_t all = 0;
  for (int i = 0; i < 3; i++) {
    if (sizes[i] > DSC_STRING_MAX) return too_long(pass, "an error with a text", sizes[i]);
    all += sizes[i];
  }
  return add(pass, 3 * sizeof(uint64_t) + padded(all));
}

static disco_status measure_tensor(const TVMFFIAny *value, measuring *pass) {
  const DLTensor *tensor = dsc_tensor_of(value);
  uint64_t bytes = 0;
  if (tensor->device.device_type != kDLCPU && tensor->device.device_type != kDLCUDAHost)
    return dsc_fail(DISCO_VALUE,
                    "%s is a tensor on device type %d:%d; only tensors on the CPU can travel to another process: copy "
                    "it there first",
                    pass->what, (int)tensor->device.device_type, tensor->device.device_id);
  if (tensor->ndim < 0 || tensor->ndim > DSC_PACK_MAX_NDIM)
    return dsc_fail(DISCO_VALUE, "%s is a tensor of %d dimensions; at most %d can be sent", pass->what, tensor->ndim,
                    DSC_PACK_MAX_NDIM);
  if (tensor->dtype.bits == 0 || tensor->dtype.lanes == 0)
    return dsc_fail(DISCO_VALUE, "%s is a tensor of a dtype of %d bits and %d lanes, which is none", pass->what,
                    tensor->dtype.bits, tensor->dtype.lanes);
  if (!dsc_tensor_bytes(tensor, &bytes))
    return dsc_fail(DISCO_VALUE, "%s is a tensor of more than 2^63 bits", pass->what);
  if (bytes > 0 && tensor->data == NULL) return dsc_fail(DISCO_VALUE, "%s is a tensor without data", pass->what);
  if (!dsc_tensor_can_gather(tensor))
    return dsc_fail(DISCO_VALUE,
                    "%s is a strided tensor of more than 32 dimensions or of elements that are not whole bytes: make "
                    "it contiguous first",
                    pass->what);
  return add_data(pass, bytes, sizeof(tensor_head) + (uint64_t)tensor->ndim * sizeof(int64_t));
}

static disco_status measure_value(const TVMFFIAny *value, measuring *pass);

static disco_status measure_array(const TVMFFIAny *value, measuring *pass) {
  const TVMFFISeqCell *cell = (const TVMFFISeqCell *)(value->v_obj + 1);
  disco_status status = add(pass, sizeof(uint64_t));
  if (cell->size > INT32_MAX)
    return dsc_fail(DISCO_VALUE, "%s has an array of %lld elements; at most %d can be sent", pass->what,
                    (long long)cell->size, INT32_MAX);
  for (int64_t i = 0; status == DISCO_OK && i < cell->size; i++)
    status = measure_value((const TVMFFIAny *)cell->data + i, pass);
  return status;
}

static disco_status measure_map(const TVMFFIAny *value, measuring *pass) {
  map_walk walk;
  disco_status status = map_begin(value, &walk);
  if (status == DISCO_OK && walk.left > INT32_MAX / 2)
    status = dsc_fail(DISCO_VALUE, "%s has a map of %lld entries; at most %d can be sent", pass->what,
                      (long long)walk.left, INT32_MAX / 2);
  if (status == DISCO_OK) status = add(pass, sizeof(uint64_t));
  while (status == DISCO_OK && walk.left > 0) {
    TVMFFIAny key, item;
    status = map_next(&walk, &key, &item);
    if (status != DISCO_OK) break;
    status = measure_value(&key, pass);
    if (status == DISCO_OK) status = measure_value(&item, pass);
    dsc_value_drop(&key);
    dsc_value_drop(&item);
  }
  map_end(&walk);
  return status;
}

static disco_status measure_container(const TVMFFIAny *value, measuring *pass) {
  if ((pass->allowed & DSC_PACK_CONTAINERS) == 0)
    return dsc_fail(DISCO_TYPE,
                    "%s is a `%s`, which travels to another process only when a register is written or read for "
                    "debugging: pass its elements one by one, or use thread workers",
                    pass->what, dsc_value_type_name(value));
  if (pass->depth == DSC_PACK_MAX_NESTING)
    return dsc_fail(DISCO_VALUE, "%s has containers nested more than %d deep, which cannot travel to another process",
                    pass->what, DSC_PACK_MAX_NESTING);
  pass->depth++;
  disco_status status = value->type_index == kTVMFFIArray ? measure_array(value, pass) : measure_map(value, pass);
  pass->depth--;
  return status;
}

static disco_status measure_value(const TVMFFIAny *value, measuring *pass) {
  disco_status status = add(pass, sizeof(dsc_packed));
  if (status != DISCO_OK) return status;
  const int32_t type = body_type(value);
  if (dsc_packed_is_plain(type)) return DISCO_OK;
  switch (type) {
  case kTVMFFIStr:
  case kTVMFFIBytes: return measure_string(value, pass);
  case kTVMFFIShape:
    return add(pass, sizeof(uint64_t) + ((const TVMFFIShapeCell *)(value->v_obj + 1))->size * sizeof(int64_t));
  case kTVMFFITensor: return measure_tensor(value, pass);
  case kTVMFFIError: return measure_error(value, pass);
  case kTVMFFIArray:
  case kTVMFFIMap: return measure_container(value, pass);
  default:
    return dsc_fail(DISCO_TYPE, "%s is a `%s`, which cannot travel to another process: thread workers only", pass->what,
                    dsc_value_type_name(value));
  }
}

disco_status dsc_pack_measure(const TVMFFIAny *value, unsigned allowed, const char *what, dsc_pack_side *side,
                              uint64_t *ret_bytes) {
  measuring pass = {.allowed = allowed, .what = what, .side = side};
  uint64_t side_bytes = side != NULL ? side->bytes : 0;
  disco_status status = measure_value(value, &pass);
  if (status == DISCO_OK)
    *ret_bytes = pass.bytes;
  else if (side != NULL)
    side->bytes = side_bytes;
  return status;
}

/* ---- Second pass ---- */

static char *put(char *to, const void *from, size_t bytes) {
  if (bytes > 0) memcpy(to, from, bytes);
  return to + bytes;
}

static char *put_number(char *to, uint64_t number) { return put(to, &number, sizeof(number)); }

static char *pad(char *from, char *to) {
  memset(from, 0, (size_t)(to - from));
  return to;
}

/* Room for data: at *at, or aside, when a reference is left at *at. What pads it is zeroed. */
static char *place_data(dsc_pack_side *side, uint64_t bytes, char **at) {
  if (!goes_aside(side, bytes)) {
    char *here = *at;
    *at = pad(here + bytes, here + padded(bytes));
    return here;
  }
  uint64_t offset = round_up(side->used, DSC_PACK_SIDE_ALIGN);
  char *there = pad(side->base + side->used, side->base + offset);
  side->used = offset + padded(bytes);
  (void)pad(there + bytes, there + padded(bytes));
  *at = put(*at, &(side_data){offset, bytes}, sizeof(side_data));
  return there;
}

static char *write_string(const TVMFFIAny *value, dsc_pack_side *side, char *to) {
  TVMFFIByteArray text = {0};
  (void)dsc_value_string(value, &text);
  if (!goes_aside(side, text.size)) to = put_number(to, text.size);
  (void)put(place_data(side, text.size, &to), text.data, text.size);
  return to;
}

static char *write_shape(const TVMFFIAny *value, char *to) {
  const TVMFFIShapeCell *cell = (const TVMFFIShapeCell *)(value->v_obj + 1);
  return put(put_number(to, cell->size), cell->data, cell->size * sizeof(int64_t));
}

static char *write_error(const TVMFFIAny *value, char *to) {
  dsc_error_parts parts;
  dsc_error_parts_of(value->v_obj, &parts);
  to = put_number(put_number(put_number(to, parts.kind.size), parts.message.size), parts.backtrace.size);
  char *end = put(put(put(to, parts.kind.data, parts.kind.size), parts.message.data, parts.message.size),
                  parts.backtrace.data, parts.backtrace.size);
  return pad(end, to + padded((uint64_t)(end - to)));
}

static char *write_tensor(const TVMFFIAny *value, dsc_pack_side *side, char *to) {
  const DLTensor *tensor = dsc_tensor_of(value);
  uint64_t bytes = 0;
  (void)dsc_tensor_bytes(tensor, &bytes);
  to = put(to, &(tensor_head){tensor->dtype, tensor->ndim}, sizeof(tensor_head));
  to = put(to, tensor->shape, (size_t)tensor->ndim * sizeof(int64_t));
  char *data = place_data(side, bytes, &to);
  if (bytes > 0) dsc_tensor_gather(tensor, data);
  return to;
}

static char *write_array(const TVMFFIAny *value, dsc_pack_side *side, char *to) {
  const TVMFFISeqCell *cell = (const TVMFFISeqCell *)(value->v_obj + 1);
  to = put_number(to, (uint64_t)cell->size);
  for (int64_t i = 0; to != NULL && i < cell->size; i++) to = dsc_pack((const TVMFFIAny *)cell->data + i, side, to);
  return to;
}

static char *write_map(const TVMFFIAny *value, dsc_pack_side *side, char *to) {
  map_walk walk;
  disco_status status = map_begin(value, &walk);
  if (status == DISCO_OK) to = put_number(to, (uint64_t)walk.left);
  while (status == DISCO_OK && walk.left > 0) {
    TVMFFIAny key, item;
    status = map_next(&walk, &key, &item);
    if (status != DISCO_OK) break;
    to = dsc_pack(&key, side, to);
    if (to != NULL) to = dsc_pack(&item, side, to);
    dsc_value_drop(&key);
    dsc_value_drop(&item);
    if (to == NULL) break;
  }
  map_end(&walk);
  return status == DISCO_OK ? to : NULL;
}

static char *write_body(const TVMFFIAny *value, dsc_pack_side *side, char *to) {
  switch (body_type(value)) {
  case kTVMFFIStr:
  case kTVMFFIBytes: return write_string(value, side, to);
  case kTVMFFIShape: return write_shape(value, to);
  case kTVMFFITensor: return write_tensor(value, side, to);
  case kTVMFFIError: return write_error(value, to);
  case kTVMFFIArray: return write_array(value, side, to);
  default: return write_map(value, side, to); /* the first pass saw to it that there is no other */
  }
}

/* A value that is its own 8 bytes; what does not belong to it is zero, whatever was there. */
static dsc_packed plain(const TVMFFIAny *value) {
  dsc_packed head = {.type_index = value->type_index};
  switch (value->type_index) {
  case kTVMFFINone: break;
  case kTVMFFIBool: head.payload = value->v_int64 != 0; break;
  case kTVMFFIDataType: memcpy(&head.payload, &value->v_dtype, sizeof(value->v_dtype)); break;
  case kTVMFFISmallStr:
  case kTVMFFISmallBytes:
    head.extra = value->small_str_len <= 7 ? value->small_str_len : 7;
    memcpy(&head.payload, value->v_bytes, head.extra);
    break;
  default: memcpy(&head.payload, &value->v_int64, sizeof(head.payload)); break;
  }
  return head;
}

char *dsc_pack(const TVMFFIAny *value, dsc_pack_side *side, char *to) {
  dsc_packed head = {.type_index = body_type(value)};
  char *body = to + sizeof(head);
  if (head.type_index < kTVMFFIStaticObjectBegin) {
    head = plain(value);
    return put(to, &head, sizeof(head));
  }
  uint64_t used = side != NULL ? side->used : 0;
  char *end = write_body(value, side, body);
  if (end == NULL) return NULL;
  head.payload = (uint64_t)(end - body);
  bool leaf = head.type_index != kTVMFFIArray && head.type_index != kTVMFFIMap;
  if (leaf && side != NULL && side->used != used) head.extra = DSC_PACKED_SIDE;
  (void)put(to, &head, sizeof(head));
  return end;
}

/* ---- Reading ---- */

/* What is left of a value or of a body. Numbers are copied out before they are looked at: the bytes may be in memory
 * that a peer still writes. */
typedef struct {
  const char *at;
  uint64_t left;
  unsigned allowed;
  dsc_side_view *side;
  int depth;
} reader;

static disco_status malformed(const char *why) { return dsc_fail(DISCO_LOST, "malformed packed value: %s", why); }

static bool take(reader *from, void *ret_bytes, size_t bytes) {
  if (from->left < bytes) return false;
  memcpy(ret_bytes, from->at, bytes);
  from->at += bytes;
  from->left -= bytes;
  return true;
}

/* Data of `bytes` bytes that must end the body, or be aside. Borrowed, checked. */
static disco_status take_data(reader *body, bool aside, uint64_t bytes, const char **ret_data) {
  if (!aside) {
    if (bytes > body->left || body->left - bytes >= DSC_PACK_ALIGN)
      return dsc_fail(DISCO_LOST, "malformed packed value: data of %llu bytes in %llu", (unsigned long long)bytes,
                      (unsigned long long)body->left);
    *ret_data = body->at;
    return DISCO_OK;
  }
  side_data data;
  const dsc_side_view *side = body->side;
  if (!take(body, &data, sizeof(data)) || body->left != 0 || data.bytes != bytes)
    return malformed("the reference to its data in the side file does not fit");
  if (side == NULL || side->base == NULL) return malformed("its data is in a side file, but there is none");
  if (data.offset % DSC_PACK_SIDE_ALIGN != 0 || data.offset > side->bytes || bytes > side->bytes - data.offset)
    return dsc_fail(DISCO_LOST, "malformed packed value: %llu bytes at offset %llu of a side file of %llu",
                    (unsigned long long)bytes, (unsigned long long)data.offset, (unsigned long long)side->bytes);
  *ret_data = side->base + data.offset;
  return DISCO_OK;
}

static disco_status read_string(reader *body, int32_t type, bool aside, TVMFFIAny *ret_value) {
  side_data where = {0};
  const char *data = NULL;
  reader look = *body; /* the size aside stands in the reference, which take_data reads whole */
  if (!take(aside ? &look : body, &where, aside ? sizeof(where) : sizeof(uint64_t)))
    return malformed("a string without a size");
  uint64_t size = aside ? where.bytes : where.offset; /* the first word, when it is not a reference */
  if (size > DSC_STRING_MAX)
    return dsc_fail(DISCO_LOST, "malformed packed value: a string of %llu bytes (%zu at most)",
                    (unsigned long long)size, DSC_STRING_MAX);
  disco_status status = take_data(body, aside, size, &data);
  if (status != DISCO_OK) return status;
  TVMFFIByteArray text = {data, size};
  TVMFFIAny value = dsc_none();
  if (DSC_ALLOCATION_FAILS()) return no_memory("a string");
  if ((type == kTVMFFIStr ? TVMFFIStringFromByteArray : TVMFFIBytesFromByteArray)(&text, &value) != 0)
    return dsc_error_take_raised(DISCO_MEMORY);
  *ret_value = value;
  return DISCO_OK;
}

static void delete_shape(void *shape, int flags) {
  if ((flags & kTVMFFIObjectDeleterFlagBitMaskWeak) != 0) dsc_object_free(shape);
}

typedef struct {
  TVMFFIObject header;
  TVMFFIShapeCell cell;
  int64_t numbers[];
} shape_object;

static disco_status read_shape(reader *body, TVMFFIAny *ret_value) {
  uint64_t count = 0;
  if (!take(body, &count, sizeof(count)) || body->left % sizeof(int64_t) != 0 || count != body->left / sizeof(int64_t))
    return malformed("a shape whose count does not fit its size");
  shape_object *shape = dsc_object_create(sizeof(*shape) + body->left, kTVMFFIShape, delete_shape);
  if (shape == NULL) return DISCO_MEMORY;
  memcpy(shape->numbers, body->at, body->left);
  shape->cell = (TVMFFIShapeCell){shape->numbers, count};
  *ret_value = dsc_object_value(shape);
  return DISCO_OK;
}

static disco_status read_error(reader *body, TVMFFIAny *ret_value) {
  uint64_t sizes[3];
  TVMFFIByteArray parts[3];
  if (!take(body, sizes, sizeof(sizes))) return malformed("an error without sizes");
  for (int i = 0; i < 3; i++) {
    if (sizes[i] > body->left) return malformed("an error's text does not fit its size");
    parts[i] = (TVMFFIByteArray){body->at, sizes[i]};
    body->at += sizes[i];
    body->left -= sizes[i];
  }
  if (body->left >= DSC_PACK_ALIGN) return malformed("an error is larger than its texts");
  TVMFFIObjectHandle error = NULL;
  if (DSC_ALLOCATION_FAILS()) return no_memory("an error");
  if (TVMFFIErrorCreate(&parts[0], &parts[1], &parts[2], &error) != 0) return dsc_error_take_raised(DISCO_MEMORY);
  *ret_value = dsc_object_value(error);
  return DISCO_OK;
}

static void release_side(void *context, void *data) {
  dsc_side_view *side = context;
  (void)data;
  side->release(side);
}

static disco_status read_tensor(reader *body, bool aside, TVMFFIAny *ret_value) {
  const DLDevice cpu = {kDLCPU, 0};
  tensor_head head;
  int64_t shape[DSC_PACK_MAX_NDIM];
  uint64_t bytes = 0;
  const char *data = NULL;
  if (!take(body, &head, sizeof(head)) || head.ndim < 0 || head.ndim > DSC_PACK_MAX_NDIM ||
      !take(body, shape, (size_t)head.ndim * sizeof(int64_t)))
    return malformed("a tensor whose shape does not fit its size");
  const DLTensor tensor = {.device = cpu, .ndim = head.ndim, .dtype = head.dtype, .shape = shape};
  if (head.dtype.bits == 0 || head.dtype.lanes == 0 || !dsc_tensor_bytes(&tensor, &bytes))
    return malformed("a tensor of an impossible shape or dtype");
  disco_status status = take_data(body, aside, bytes, &data);
  if (status != DISCO_OK) return status;
  TVMFFIObjectHandle object = NULL;
  if (aside && bytes > 0 && body->side->hold != NULL) {
    body->side->hold(body->side);
    status = dsc_tensor_create_over(head.ndim, shape, head.dtype, cpu, (void *)(uintptr_t)data, release_side,
                                    body->side, &object);
    if (status != DISCO_OK) body->side->release(body->side);
  } else {
    status = dsc_tensor_create(head.ndim, shape, head.dtype, cpu, &object);
    if (status == DISCO_OK && bytes > 0) memcpy(((DLTensor *)((TVMFFIObject *)object + 1))->data, data, bytes);
  }
  if (status == DISCO_OK) *ret_value = dsc_object_value(object);
  return status;
}

static disco_status read_value(reader *from, TVMFFIAny *ret_value);

/* A container is made by calling the function of TVM-FFI's that takes its elements. */
static disco_status read_container(reader *body, int32_t type, TVMFFIAny *ret_value) {
  static _Atomic(TVMFFIObject *) array_cache, map_cache;
  const uint64_t each = type == kTVMFFIMap ? 2 : 1;
  uint64_t count = 0;
  TVMFFIObject *make = NULL;
  if ((body->allowed & DSC_PACK_CONTAINERS) == 0) return malformed("a container where none may be");
  if (body->depth >= DSC_PACK_MAX_NESTING) return malformed("containers nested too deep");
  if (!take(body, &count, sizeof(count)) || count > body->left / sizeof(dsc_packed) / each || count > INT32_MAX / each)
    return malformed("a container whose count does not fit its size");
  count *= each;
  disco_status status =
      type == kTVMFFIMap ? find(&map_cache, "ffi.Map", &make) : find(&array_cache, "ffi.Array", &make);
  if (status != DISCO_OK) return status;
  TVMFFIAny *items = dsc_alloc((count + 1) * sizeof(*items), "a container"); /* none of 0 bytes */
  if (items == NULL) return DISCO_MEMORY;
  body->depth++;
  uint64_t have = 0;
  while (have < count && (status = read_value(body, &items[have])) == DISCO_OK) have++;
  if (status == DISCO_OK && body->left != 0) status = malformed("a container is larger than its elements");
  if (status == DISCO_OK) status = call(make, items, (int32_t)count, "a container", ret_value);
  for (uint64_t i = 0; i < have; i++) dsc_value_drop(&items[i]);
  free(items);
  return status;
}

static bool plain_is_sound(const dsc_packed *head) {
  if (head->type_index == kTVMFFISmallStr || head->type_index == kTVMFFISmallBytes)
    return head->extra <= 7 && head->payload >> (8 * head->extra) == 0;
  if (head->extra != 0) return false;
  switch (head->type_index) {
  case kTVMFFINone: return head->payload == 0;
  case kTVMFFIBool: return head->payload <= 1;
  case kTVMFFIDataType: return head->payload >> 32 == 0;
  default: return true;
  }
}

static disco_status read_plain(const dsc_packed *head, TVMFFIAny *ret_value) {
  if (!plain_is_sound(head))
    return dsc_fail(DISCO_LOST, "malformed packed value: type %d with %u and 0x%llx", head->type_index, head->extra,
                    (unsigned long long)head->payload);
  TVMFFIAny value = dsc_none();
  value.type_index = head->type_index;
  value.zero_padding = head->extra; /* the length of a small string */
  memcpy(&value.v_int64, &head->payload, sizeof(head->payload));
  *ret_value = value;
  return DISCO_OK;
}

static disco_status read_body(reader *body, const dsc_packed *head, TVMFFIAny *ret_value) {
  const bool aside = head->extra == DSC_PACKED_SIDE;
  switch (head->type_index) {
  case kTVMFFIStr:
  case kTVMFFIBytes: return read_string(body, head->type_index, aside, ret_value);
  case kTVMFFITensor: return read_tensor(body, aside, ret_value);
  default: break;
  }
  if (aside) return malformed("a type that is never in a side file");
  switch (head->type_index) {
  case kTVMFFIShape: return read_shape(body, ret_value);
  case kTVMFFIError: return read_error(body, ret_value);
  case kTVMFFIArray:
  case kTVMFFIMap: return read_container(body, head->type_index, ret_value);
  default: return dsc_fail(DISCO_LOST, "malformed packed value: type index %d cannot travel", head->type_index);
  }
}

static disco_status read_value(reader *from, TVMFFIAny *ret_value) {
  dsc_packed head;
  if (!take(from, &head, sizeof(head)))
    return dsc_fail(DISCO_LOST, "malformed packed value: %llu bytes where a head of %zu is needed",
                    (unsigned long long)from->left, sizeof(head));
  if (dsc_packed_is_plain(head.type_index)) return read_plain(&head, ret_value);
  if (head.extra > DSC_PACKED_SIDE || head.payload % DSC_PACK_ALIGN != 0 || head.payload > from->left)
    return dsc_fail(DISCO_LOST,
                    "malformed packed value: type index %d has a body of %llu bytes with flags %u in the %llu that are "
                    "left",
                    head.type_index, (unsigned long long)head.payload, head.extra, (unsigned long long)from->left);
  reader body = *from;
  body.left = head.payload;
  from->at += head.payload;
  from->left -= head.payload;
  return read_body(&body, &head, ret_value);
}

disco_status dsc_unpack(const void *bytes, uint64_t size, unsigned allowed, dsc_side_view *side, TVMFFIAny *ret_value,
                        uint64_t *ret_used) {
  reader from = {.at = bytes, .left = size, .allowed = allowed, .side = side};
  TVMFFIAny value = dsc_none();
  disco_status status = read_value(&from, &value);
  if (status != DISCO_OK) return status;
  *ret_value = value;
  *ret_used = size - from.left;
  return DISCO_OK;
}
