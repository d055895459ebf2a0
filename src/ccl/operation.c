/* The operations as users call them: check the tensors, find the communicator, hand memory to the backend. What is
 * refused here was refused before anybody heard of it; the others leave because this worker failed. */
#include <inttypes.h>
#include <stdio.h>

#include "ccl/backend.h"
#include "ccl/dtype.h"
#include "os/copy.h"

/* A tensor as memory. */
typedef struct {
  char *data;
  uint64_t elements, bytes;
  DLDataType dtype;
} block;

static bool is_contiguous(const DLTensor *tensor) {
  if (tensor->strides == NULL) return true;
  int64_t expected = 1;
  for (int32_t i = tensor->ndim - 1; i >= 0; i--) {
    if (tensor->shape[i] != 1 && tensor->strides[i] != expected) return false;
    expected *= tensor->shape[i];
  }
  return true;
}

static disco_status measure(const DLTensor *tensor, const char *name, const char *role, block *ret) {
  if (tensor == NULL) return dsc_fail(DISCO_VALUE, "%s: this worker must give a tensor to %s", name, role);
  uint64_t elements = 1;
  for (int32_t i = 0; i < tensor->ndim; i++)
    if (tensor->shape[i] == 0) elements = 0; /* however large the others are */
  for (int32_t i = 0; i < tensor->ndim; i++) {
    if (tensor->shape[i] < 0)
      return dsc_fail(DISCO_VALUE, "%s: the tensor to %s has a size of %" PRId64, name, role, tensor->shape[i]);
    if (__builtin_mul_overflow(elements, (uint64_t)tensor->shape[i], &elements))
      return dsc_fail(DISCO_VALUE, "%s: the tensor to %s has more than 2^64 elements", name, role);
  }
  uint64_t bits = (uint64_t)tensor->dtype.bits * tensor->dtype.lanes, all;
  if (__builtin_mul_overflow(elements, bits, &all))
    return dsc_fail(DISCO_VALUE, "%s: the tensor to %s has more than 2^64 bits", name, role);
  if (elements > 0 && tensor->device.device_type != kDLCPU)
    return dsc_fail(DISCO_VALUE, "%s: the tensor to %s is on device %d:%d; this data plane moves CPU tensors", name,
                    role, (int)tensor->device.device_type, tensor->device.device_id);
  if (elements > 0 && !is_contiguous(tensor))
    return dsc_fail(DISCO_VALUE,
                    "%s: the tensor to %s is strided; make it contiguous first (a copy), or give a tensor of its own",
                    name, role);
  if (elements > 0 && tensor->data == NULL)
    return dsc_fail(DISCO_VALUE, "%s: the tensor to %s has no memory", name, role);
  *ret = (block){(char *)tensor->data + tensor->byte_offset, elements, (all + 7) / 8, tensor->dtype};
  return DISCO_OK;
}

static bool same_dtype(DLDataType one, DLDataType other) {
  return one.code == other.code && one.bits == other.bits && one.lanes == other.lanes;
}

typedef struct {
  const char *name, *part_role, *whole_role;
  uint64_t ranks;
} sizes_rule;

static DSC_COLD disco_status sizes_differ(const sizes_rule *rule, const block *part, const block *whole) {
  char one[32], other[32];
  dsc_dtype_text(part->dtype, one, sizeof(one));
  dsc_dtype_text(whole->dtype, other, sizeof(other));
  if (!same_dtype(part->dtype, whole->dtype))
    return dsc_fail(DISCO_VALUE, "%s: the tensor to %s is %s, the one to %s %s: both must be the same", rule->name,
                    rule->part_role, one, rule->whole_role, other);
  if (rule->ranks > 1 && part->elements == whole->elements / rule->ranks && whole->elements % rule->ranks == 0)
    return dsc_fail(DISCO_VALUE, "%s: %" PRIu64 " elements of %s are no whole bytes: they cannot be put side by side",
                    rule->name, part->elements, one);
  return dsc_fail(DISCO_VALUE,
                  "%s: the tensor to %s is %s[%" PRIu64 "], the one to %s %s[%" PRIu64 "]; it must have %" PRIu64
                  " times as many elements",
                  rule->name, rule->part_role, one, part->elements, rule->whole_role, other, whole->elements,
                  rule->ranks);
}

/* The whole has a part for each rank. */
static disco_status check_sizes(const sizes_rule *rule, const block *part, const block *whole) {
  uint64_t expected, bits = (uint64_t)part->dtype.bits * part->dtype.lanes;
  bool fits = same_dtype(part->dtype, whole->dtype) &&
              !__builtin_mul_overflow(part->elements, rule->ranks, &expected) && expected == whole->elements &&
              (rule->ranks == 1 || part->elements * bits % 8 == 0);
  return DSC_LIKELY(fits) ? DISCO_OK : sizes_differ(rule, part, whole);
}

/* The same memory is fine, and so is the own part of an array of parts; a partial overlap is not. */
static disco_status check_overlap(const char *name, const block *one, const block *other, const char *own_place) {
  bool apart = one->data + one->bytes <= other->data || other->data + other->bytes <= one->data;
  if (apart || one->bytes == 0 || other->bytes == 0 || own_place == NULL || one->data == own_place) return DISCO_OK;
  return dsc_fail(
      DISCO_VALUE,
      "%s: the tensors to send and to receive overlap by a part: give the same memory, this rank's own part "
      "of it, or memory apart",
      name);
}

static dsc_comm *communicator(dsc_plane *plane, bool in_group) {
  return in_group && plane->has_groups ? &plane->group : &plane->world;
}

static void copy_alone(char *to, const char *from, uint64_t bytes) {
  if (to != from && bytes > 0) memcpy(to, from, bytes);
}

disco_status dsc_plane_allreduce(dsc_plane *plane, const DLTensor *send, int64_t kind, bool in_group, DLTensor *recv) {
  static const char name[] = "allreduce";
  block in, out;
  dsc_dtype dtype;
  if (DSC_UNLIKELY(kind < 0 || kind >= DSC_NUM_REDUCES))
    return dsc_fail(DISCO_VALUE, "Unknown ReduceKind: %" PRId64 "; sum is 0, prod 1, min 2, max 3, avg 4", kind);
  disco_status status = measure(send, name, "send", &in);
  if (status == DISCO_OK) status = measure(recv, name, "receive into", &out);
  if (status == DISCO_OK) status = check_sizes(&(sizes_rule){name, "send", "receive into", 1}, &in, &out);
  if (status == DISCO_OK) status = check_overlap(name, &in, &out, out.data);
  if (DSC_UNLIKELY(status != DISCO_OK)) return status;
  if (DSC_UNLIKELY(!dsc_dtype_of(in.dtype, &dtype))) {
    char text[32];
    dsc_dtype_text(in.dtype, text, sizeof(text));
    return dsc_fail(DISCO_TYPE,
                    "allreduce: %s cannot be reduced; int8 to uint64, float16, bfloat16, float32 and float64 can",
                    text);
  }
  uint64_t misplaced = ((uint64_t)(uintptr_t)in.data | (uint64_t)(uintptr_t)out.data) % dsc_dtype_bytes(dtype);
  if (DSC_UNLIKELY(misplaced != 0 && in.elements > 0))
    return dsc_fail(DISCO_VALUE,
                    "allreduce: a tensor begins %" PRIu64 " bytes past a whole element: give it a byte_offset "
                    "that is a multiple of %zu",
                    misplaced, dsc_dtype_bytes(dtype));
  dsc_comm *comm = communicator(plane, in_group);
  dsc_bump(&plane->note->bytes, in.bytes);
  if (comm->size == 1) {
    copy_alone(out.data, in.data, in.bytes);
    return DISCO_OK;
  }
  dsc_request request = {.comm = comm,
                         .print = {DSC_OPERATION_ALLREDUCE, (uint32_t)kind, in.dtype, in.elements},
                         .kind = (dsc_reduce_kind)kind,
                         .dtype = dtype,
                         .in = in.data,
                         .out = out.data,
                         .bytes = in.bytes};
  return plane->backend->allreduce(plane, &request);
}

/* `part`: of this rank. */
static disco_status move(dsc_plane *plane, dsc_comm *comm, dsc_operation operation, const block *part, const char *in,
                         char *out) {
  dsc_bump(&plane->note->bytes, part->bytes);
  if (comm->size == 1) {
    copy_alone(out, in, part->bytes);
    return DISCO_OK;
  }
  dsc_request request = {
      .comm = comm, .print = {operation, 0, part->dtype, part->elements}, .in = in, .out = out, .bytes = part->bytes};
  return plane->backend->move(plane, &request);
}

disco_status dsc_plane_allgather(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv) {
  static const char name[] = "allgather";
  dsc_comm *comm = communicator(plane, in_group);
  block in, out;
  disco_status status = measure(send, name, "send", &in);
  if (status == DISCO_OK) status = measure(recv, name, "receive into", &out);
  if (status == DISCO_OK)
    status = check_sizes(&(sizes_rule){name, "send", "receive into", (uint64_t)comm->size}, &in, &out);
  if (status == DISCO_OK) status = check_overlap(name, &in, &out, out.data + (uint64_t)comm->rank * in.bytes);
  return status == DISCO_OK ? move(plane, comm, DSC_OPERATION_ALLGATHER, &in, in.data, out.data) : status;
}

disco_status dsc_plane_broadcast(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv) {
  static const char name[] = "broadcast_from_worker0";
  dsc_comm *comm = communicator(plane, in_group);
  block in = {0}, out;
  disco_status status = measure(recv, name, "receive into", &out);
  if (status == DISCO_OK && comm->rank == 0) {
    status = measure(send, name, "send", &in);
    if (status == DISCO_OK) status = check_sizes(&(sizes_rule){name, "send", "receive into", 1}, &in, &out);
    if (status == DISCO_OK) status = check_overlap(name, &in, &out, out.data);
  }
  return status == DISCO_OK ? move(plane, comm, DSC_OPERATION_BROADCAST, &out, in.data, out.data) : status;
}

disco_status dsc_plane_scatter(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv) {
  static const char name[] = "scatter_from_worker0";
  dsc_comm *comm = communicator(plane, in_group);
  block in = {0}, out;
  disco_status status = measure(recv, name, "receive into", &out);
  if (status == DISCO_OK && comm->rank == 0) {
    status = measure(send, name, "send", &in);
    if (status == DISCO_OK)
      status = check_sizes(&(sizes_rule){name, "receive into", "send", (uint64_t)comm->size}, &out, &in);
    if (status == DISCO_OK) status = check_overlap(name, &out, &in, in.data);
  }
  return status == DISCO_OK ? move(plane, comm, DSC_OPERATION_SCATTER, &out, in.data, out.data) : status;
}

disco_status dsc_plane_gather(dsc_plane *plane, const DLTensor *send, bool in_group, DLTensor *recv) {
  static const char name[] = "gather_to_worker0";
  dsc_comm *comm = communicator(plane, in_group);
  block in, out = {0};
  disco_status status = measure(send, name, "send", &in);
  if (status == DISCO_OK && comm->rank == 0) {
    status = measure(recv, name, "receive into", &out);
    if (status == DISCO_OK)
      status = check_sizes(&(sizes_rule){name, "send", "receive into", (uint64_t)comm->size}, &in, &out);
    if (status == DISCO_OK) status = check_overlap(name, &in, &out, out.data);
  }
  return status == DISCO_OK ? move(plane, comm, DSC_OPERATION_GATHER, &in, in.data, out.data) : status;
}

/* ---- Between two ---- */

static disco_status check_peer(const dsc_plane *plane, const char *name, int64_t peer) {
  if (peer < 0 || peer >= plane->host.num_workers)
    return dsc_fail(DISCO_VALUE, "%s: there is no worker %" PRId64 "; there are %d", name, peer,
                    plane->host.num_workers);
  if (peer == plane->host.worker)
    return dsc_fail(DISCO_VALUE, "%s: worker %" PRId64 " cannot be its own partner", name, peer);
  return DISCO_OK;
}

static disco_status send_to(dsc_plane *plane, const char *name, const DLTensor *send, int64_t receiver) {
  block in;
  disco_status status = measure(send, name, "send", &in);
  if (status == DISCO_OK) status = check_peer(plane, name, receiver);
  if (status != DISCO_OK) return status;
  dsc_bump(&plane->note->bytes, in.bytes);
  dsc_print print = {DSC_OPERATION_SEND, 0, in.dtype, in.elements};
  return dsc_pair_send(&plane->pairs, (int32_t)receiver, &print, in.data, in.bytes);
}

static disco_status receive_from(dsc_plane *plane, const char *name, const DLTensor *recv, int64_t sender) {
  block out;
  disco_status status = measure(recv, name, "receive into", &out);
  if (status == DISCO_OK) status = check_peer(plane, name, sender);
  if (status != DISCO_OK) return status;
  dsc_bump(&plane->note->bytes, out.bytes);
  dsc_print print = {DSC_OPERATION_RECV, 0, out.dtype, out.elements};
  return dsc_pair_receive(&plane->pairs, (int32_t)sender, &print, out.data, out.bytes);
}

disco_status dsc_plane_send(dsc_plane *plane, const DLTensor *send, int64_t receiver) {
  return send_to(plane, "send_to_worker", send, receiver);
}

disco_status dsc_plane_receive(dsc_plane *plane, DLTensor *recv, int64_t sender) {
  return receive_from(plane, "recv_from_worker", recv, sender);
}

disco_status dsc_plane_send_next(dsc_plane *plane, const DLTensor *send) {
  int32_t peer = plane->host.worker + plane->layout.group_size;
  if (peer >= plane->host.num_workers)
    return dsc_fail(DISCO_VALUE, "send_to_next_group: worker %d is in the last of %d groups", plane->host.worker,
                    plane->host.num_groups);
  return send_to(plane, "send_to_next_group", send, peer);
}

disco_status dsc_plane_receive_previous(dsc_plane *plane, DLTensor *recv) {
  int32_t peer = plane->host.worker - plane->layout.group_size;
  if (peer < 0)
    return dsc_fail(DISCO_VALUE, "recv_from_prev_group: worker %d is in the first of %d groups", plane->host.worker,
                    plane->host.num_groups);
  return receive_from(plane, "recv_from_prev_group", recv, peer);
}
