#include "ffi/tensor.h"

#include <stdlib.h>
#include <string.h>

#include "base/inject.h"
#include "base/memory.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/value.h"

DLTensor *dsc_tensor_of(const TVMFFIAny *value) {
  return value->type_index == kTVMFFITensor ? (DLTensor *)(value->v_obj + 1) : NULL;
}

static bool bytes_of(int32_t ndim, const int64_t *shape, DLDataType dtype, uint64_t *ret_bytes) {
  uint64_t bits = (uint64_t)dtype.bits * dtype.lanes;
  for (int32_t i = 0; i < ndim; i++)
    if (shape[i] == 0) bits = 0; /* before any product can overflow */
  for (int32_t i = 0; i < ndim; i++) {
    if (shape[i] < 0) return false;
    if (__builtin_mul_overflow(bits, (uint64_t)shape[i], &bits)) return false;
  }
  if (bits > (uint64_t)INT64_MAX - 7) return false;
  *ret_bytes = (bits + 7) / 8;
  return true;
}

bool dsc_tensor_bytes(const DLTensor *tensor, uint64_t *ret_bytes) {
  return bytes_of(tensor->ndim, tensor->shape, tensor->dtype, ret_bytes);
}

bool dsc_tensor_is_contiguous(const DLTensor *tensor) {
  if (tensor->strides == NULL) return true;
  for (int32_t i = 0; i < tensor->ndim; i++)
    if (tensor->shape[i] == 0) return true;
  int64_t expected = 1;
  for (int32_t i = tensor->ndim - 1; i >= 0; i--) {
    if (tensor->shape[i] != 1 && tensor->strides[i] != expected) return false;
    expected = (int64_t)((uint64_t)expected * (uint64_t)tensor->shape[i]); /* of a size that is refused elsewhere */
  }
  return true;
}

void dsc_tensor_describe(const DLTensor *tensor, dsc_text *text) {
  TVMFFIAny name = dsc_none();
  TVMFFIByteArray dtype = {"?", 1};
  if (TVMFFIDataTypeToString(&tensor->dtype, &name) == 0)
    (void)dsc_value_string(&name, &dtype);
  else
    dsc_error_drop_raised();
  dsc_text_add(text, "%.*s[", (int)dtype.size, dtype.data);
  dsc_value_drop(&name);
  for (int32_t i = 0; i < tensor->ndim; i++)
    dsc_text_add(text, "%s%lld", i == 0 ? "" : ", ", (long long)tensor->shape[i]);
  uint64_t bytes = 0;
  if (dsc_tensor_bytes(tensor, &bytes))
    dsc_text_add(text, "] (%llu bytes", (unsigned long long)bytes);
  else
    dsc_text_add(text, "] (size beyond 2^63 bits");
  if (!dsc_tensor_is_contiguous(tensor)) dsc_text_add(text, ", strided");
  if (tensor->device.device_type != kDLCPU)
    dsc_text_add(text, ", device type %d:%d", (int)tensor->device.device_type, tensor->device.device_id);
  dsc_text_add(text, ")");
}

/* One allocation holds the managed tensor, its shape and strides; the data stands apart for its alignment. */
typedef struct {
  DLManagedTensorVersioned managed;
  void (*release)(void *context, void *data);
  void *context;
  int64_t sizes[]; /* shape, then strides */
} owned_tensor;

static void delete_owned(DLManagedTensorVersioned *managed) {
  owned_tensor *tensor = (owned_tensor *)managed; /* its first member */
  tensor->release(tensor->context, managed->dl_tensor.data);
  free(tensor);
}

static disco_status check_new(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device,
                              uint64_t *ret_bytes) {
  if (ndim < 0 || (ndim > 0 && shape == NULL))
    return dsc_fail(DISCO_VALUE, "a tensor of %d dimensions needs a shape", ndim);
  if (dtype.bits == 0 || dtype.lanes == 0)
    return dsc_fail(DISCO_VALUE, "a dtype of %d bits and %d lanes is none", dtype.bits, dtype.lanes);
  for (int32_t i = 0; i < ndim; i++)
    if (shape[i] < 0)
      return dsc_fail(DISCO_VALUE, "dimension %d of the shape is negative: %lld", i, (long long)shape[i]);
  if (!bytes_of(ndim, shape, dtype, ret_bytes))
    return dsc_fail(DISCO_MEMORY, "a tensor of these sizes has more than 2^63 bits");
  if (device.device_type != kDLCPU)
    return dsc_fail(DISCO_VALUE, "tensors can be made on the CPU only, not on device type %d", (int)device.device_type);
  return DISCO_OK;
}

/* The arguments were checked. */
static disco_status wrap(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device, void *data,
                         void (*release)(void *context, void *data), void *context, TVMFFIObjectHandle *ret_tensor) {
  owned_tensor *tensor = dsc_alloc(sizeof(*tensor) + 2 * (size_t)ndim * sizeof(int64_t), "a tensor");
  if (tensor == NULL) return DISCO_MEMORY;
  int64_t *strides = tensor->sizes + ndim, stride = 1;
  for (int32_t i = ndim - 1; i >= 0; i--) {
    tensor->sizes[i] = shape[i];
    strides[i] = stride;
    stride = (int64_t)((uint64_t)stride * (uint64_t)shape[i]); /* may wrap beside a dimension of 0 */
  }
  tensor->release = release;
  tensor->context = context;
  tensor->managed.version = (DLPackVersion){DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  tensor->managed.deleter = delete_owned;
  tensor->managed.dl_tensor = (DLTensor){data, device, ndim, dtype, tensor->sizes, strides, 0};
  TVMFFIObjectHandle object = NULL;
  if (TVMFFITensorFromDLPackVersioned(&tensor->managed, DSC_TENSOR_ALIGNMENT, 1, &object) != 0) {
    free(tensor);
    return dsc_error_take_raised(DISCO_RUNTIME);
  }
  *ret_tensor = object;
  return DISCO_OK;
}

disco_status dsc_tensor_create_over(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device, void *data,
                                    void (*release)(void *context, void *data), void *context,
                                    TVMFFIObjectHandle *ret_tensor) {
  uint64_t bytes = 0;
  disco_status status = check_new(ndim, shape, dtype, device, &bytes);
  if (status != DISCO_OK) return status;
  if ((uintptr_t)data % DSC_TENSOR_ALIGNMENT != 0 || (data == NULL && bytes > 0))
    return dsc_fail(DISCO_VALUE, "a tensor's memory must be aligned to %d bytes, but it is at %p", DSC_TENSOR_ALIGNMENT,
                    data);
  return wrap(ndim, shape, dtype, device, data, release, context, ret_tensor);
}

static void free_data(void *context, void *data) {
  (void)context;
  free(data);
}

disco_status dsc_tensor_create(int32_t ndim, const int64_t *shape, DLDataType dtype, DLDevice device,
                               TVMFFIObjectHandle *ret_tensor) {
  uint64_t bytes = 0;
  disco_status status = check_new(ndim, shape, dtype, device, &bytes);
  if (status != DISCO_OK) return status;
  uint64_t rounded = (bytes + DSC_TENSOR_ALIGNMENT - 1) / DSC_TENSOR_ALIGNMENT * DSC_TENSOR_ALIGNMENT;
  void *data = DSC_ALLOCATION_FAILS()
                   ? NULL
                   : aligned_alloc(DSC_TENSOR_ALIGNMENT, rounded == 0 ? DSC_TENSOR_ALIGNMENT : rounded);
  if (data == NULL) return dsc_fail(DISCO_MEMORY, "no memory for a tensor of %llu bytes", (unsigned long long)bytes);
  status = wrap(ndim, shape, dtype, device, data, free_data, NULL, ret_tensor);
  if (status != DISCO_OK) free(data);
  return status;
}

/* Walks the rows (innermost runs) of a tensor that may be strided, and hands out its bytes in row-major order, piece by
 * piece. */
typedef struct {
  const DLTensor *tensor;
  int64_t index[32];
  uint64_t item;   /* bytes of an element */
  uint64_t run;    /* contiguous bytes at each position of the outer dimensions */
  int32_t outer;   /* dimensions outside the run */
  uint64_t offset; /* within the run */
  char *base;
} walker;

static bool walker_init(walker *walk, const DLTensor *tensor) {
  uint64_t bytes = 0;
  *walk = (walker){.tensor = tensor, .base = (char *)tensor->data + tensor->byte_offset};
  if (dsc_tensor_is_contiguous(tensor)) {
    (void)dsc_tensor_bytes(tensor, &bytes);
    walk->run = bytes;
    return true;
  }
  if (tensor->ndim > 32 || tensor->dtype.bits * tensor->dtype.lanes % 8 != 0) return false;
  walk->item = (uint64_t)tensor->dtype.bits * tensor->dtype.lanes / 8;
  walk->run = walk->item;
  walk->outer = tensor->ndim;
  while (walk->outer > 0) { /* dimensions that follow each other without gaps belong to the run */
    int32_t inner = walk->outer - 1;
    if (tensor->shape[inner] != 1 && (uint64_t)tensor->strides[inner] * walk->item != walk->run) break;
    walk->run *= (uint64_t)tensor->shape[inner];
    walk->outer = inner;
  }
  return true;
}

static char *walker_here(const walker *walk) {
  int64_t elements = 0;
  for (int32_t i = 0; i < walk->outer; i++) elements += walk->index[i] * walk->tensor->strides[i];
  return walk->base + elements * (int64_t)walk->item + walk->offset;
}

static void walker_advance(walker *walk, uint64_t bytes) {
  walk->offset += bytes;
  if (walk->offset < walk->run) return;
  walk->offset = 0;
  for (int32_t i = walk->outer - 1; i >= 0; i--) {
    if (++walk->index[i] < walk->tensor->shape[i]) return;
    walk->index[i] = 0;
  }
}

bool dsc_tensor_can_gather(const DLTensor *tensor) {
  walker walk;
  return walker_init(&walk, tensor);
}

void dsc_tensor_gather(const DLTensor *tensor, void *to) {
  walker read;
  uint64_t left = 0;
  if (!dsc_tensor_bytes(tensor, &left) || !walker_init(&read, tensor)) return;
  for (char *at = to; left > 0;) {
    uint64_t piece = read.run < left ? read.run : left;
    memcpy(at, walker_here(&read), piece);
    walker_advance(&read, piece);
    at += piece;
    left -= piece;
  }
}

static bool on_cpu(const DLTensor *tensor) {
  return tensor->device.device_type == kDLCPU || tensor->device.device_type == kDLCUDAHost;
}

static disco_status copy_by_tvm(const TVMFFIAny *from, const TVMFFIAny *to) {
  TVMFFIObject *copy = NULL;
  disco_status status = dsc_function_find("runtime.TVMTensorCopyFromTo", &copy);
  if (status != DISCO_OK) return status;
  if (copy == NULL)
    return dsc_fail(DISCO_VALUE, "a copy between device types %d and %d needs TVM's runtime in the process",
                    (int)dsc_tensor_of(from)->device.device_type, (int)dsc_tensor_of(to)->device.device_type);
  TVMFFIAny args[2] = {*from, *to}, result = dsc_none();
  if (TVMFFIFunctionCall(copy, args, 2, &result) != 0) status = dsc_error_take_raised(DISCO_RAISED);
  dsc_value_drop(&result);
  dsc_object_unref(copy);
  return status;
}

disco_status dsc_tensor_copy(const TVMFFIAny *from, const char *from_name, const TVMFFIAny *to, const char *to_name) {
  const DLTensor *source = dsc_tensor_of(from), *target = dsc_tensor_of(to);
  if (source == NULL || target == NULL) {
    const TVMFFIAny *wrong = source == NULL ? from : to;
    return dsc_fail(DISCO_TYPE, "%s must be a Tensor, but it is `%s`", source == NULL ? from_name : to_name,
                    dsc_value_type_name(wrong));
  }
  uint64_t have = 0, room = 0;
  if (!dsc_tensor_bytes(source, &have) || !dsc_tensor_bytes(target, &room) || have != room) {
    dsc_text text = DSC_TEXT_INIT;
    dsc_text_add(&text, "byte sizes must match exactly: %s is ", from_name);
    dsc_tensor_describe(source, &text);
    dsc_text_add(&text, ", %s is ", to_name);
    dsc_tensor_describe(target, &text);
    disco_status status = dsc_fail(DISCO_VALUE, "%s", text.data != NULL ? text.data : "byte sizes must match exactly");
    dsc_text_fini(&text);
    return status;
  }
  if (have == 0) return DISCO_OK;
  if (!on_cpu(source) || !on_cpu(target)) return copy_by_tvm(from, to);
  walker read, write;
  if (!walker_init(&read, source) || !walker_init(&write, target))
    return dsc_fail(DISCO_VALUE,
                    "cannot copy a strided tensor of more than 32 dimensions or of elements that are not whole bytes");
  for (uint64_t left = have; left > 0;) {
    uint64_t piece = read.run - read.offset, space = write.run - write.offset;
    if (space < piece) piece = space;
    memmove(walker_here(&write), walker_here(&read), piece);
    walker_advance(&read, piece);
    walker_advance(&write, piece);
    left -= piece;
  }
  return DISCO_OK;
}
