#include "builtin/collectives.h"

#include <stdio.h>
#include <string.h>

#include "ccl/alias.h"
#include "ffi/args.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "ffi/value.h"
#include "worker/worker.h"

/* What an operation takes, in order. A kind comes as a Shape of one number at the front, as an int at a backend. */
typedef enum { NOTHING, SEND, RECV, SEND_OR_NONE, RECV_OR_NONE, KIND, IN_GROUP, RECEIVER, SENDER } argument;

enum { MAX_ARGUMENTS = 4 };

static const struct {
  const char *name;
  argument takes[MAX_ARGUMENTS];
} operations[DSC_NUM_COLLECTIVES] = {
    [DSC_COLLECTIVE_ALLREDUCE] = {"allreduce", {SEND, KIND, IN_GROUP, RECV}},
    [DSC_COLLECTIVE_ALLGATHER] = {"allgather", {SEND, IN_GROUP, RECV}},
    [DSC_COLLECTIVE_BROADCAST] = {"broadcast_from_worker0", {SEND_OR_NONE, IN_GROUP, RECV}},
    [DSC_COLLECTIVE_SCATTER] = {"scatter_from_worker0", {SEND_OR_NONE, IN_GROUP, RECV}},
    [DSC_COLLECTIVE_GATHER] = {"gather_to_worker0", {SEND, IN_GROUP, RECV_OR_NONE}},
    [DSC_COLLECTIVE_RECV_WORKER0] = {"recv_from_worker0", {RECV}},
    [DSC_COLLECTIVE_SEND_NEXT] = {"send_to_next_group", {SEND}},
    [DSC_COLLECTIVE_RECV_PREV] = {"recv_from_prev_group", {RECV}},
    [DSC_COLLECTIVE_SEND] = {"send_to_worker", {SEND, RECEIVER}},
    [DSC_COLLECTIVE_RECV] = {"recv_from_worker", {RECV, SENDER}},
    [DSC_COLLECTIVE_SYNC] = {"sync_worker", {NOTHING}},
};

const char *dsc_collective_name(dsc_collective_id id) { return operations[id].name; }

static int32_t arguments_of(dsc_collective_id id) {
  int32_t count = 0;
  while (count < MAX_ARGUMENTS && operations[id].takes[count] != NOTHING) count++;
  return count;
}

/* ---- Where it goes ---- */

static disco_status run_own(dsc_worker *worker, dsc_collective_id id, const dsc_collective_args *args) {
  dsc_plane *plane = worker->plane;
  switch (id) {
  case DSC_COLLECTIVE_ALLREDUCE: return dsc_plane_allreduce(plane, args->send, args->kind, args->in_group, args->recv);
  case DSC_COLLECTIVE_ALLGATHER: return dsc_plane_allgather(plane, args->send, args->in_group, args->recv);
  case DSC_COLLECTIVE_BROADCAST: return dsc_plane_broadcast(plane, args->send, args->in_group, args->recv);
  case DSC_COLLECTIVE_SCATTER: return dsc_plane_scatter(plane, args->send, args->in_group, args->recv);
  case DSC_COLLECTIVE_GATHER: return dsc_plane_gather(plane, args->send, args->in_group, args->recv);
  case DSC_COLLECTIVE_RECV_WORKER0:
    if (worker->setup.id == 0) return dsc_fail(DISCO_VALUE, "recv_from_worker0: worker 0 cannot receive from itself");
    return dsc_plane_receive(plane, args->recv, 0);
  case DSC_COLLECTIVE_SEND_NEXT: return dsc_plane_send_next(plane, args->send);
  case DSC_COLLECTIVE_RECV_PREV: return dsc_plane_receive_previous(plane, args->recv);
  case DSC_COLLECTIVE_SEND: return dsc_plane_send(plane, args->send, args->peer);
  case DSC_COLLECTIVE_RECV: return dsc_plane_receive(plane, args->recv, args->peer);
  default: return DISCO_OK; /* a sync: what was called has been done */
  }
}

/* Somebody else's data plane. */
static disco_status run_named(const dsc_worker *worker, dsc_collective_id id, const TVMFFIAny *args, int32_t num_args,
                              TVMFFIAny *result) {
  char name[DSC_CCL_NAME_MAX + 64];
  TVMFFIObject *function = NULL;
  if (worker->ccl[0] == 0 && id == DSC_COLLECTIVE_SYNC) return DISCO_OK; /* nothing to wait for */
  if (worker->ccl[0] == 0)
    return dsc_fail(DISCO_VALUE, "runtime.disco.%s: worker %d has no data plane; call init_ccl on the session first",
                    operations[id].name, worker->setup.id);
  (void)snprintf(name, sizeof(name), "runtime.disco.%s.%s", worker->ccl, operations[id].name);
  disco_status status = dsc_function_find(name, &function);
  if (status == DISCO_OK && function == NULL)
    return dsc_fail(DISCO_VALUE, "the data plane `%s` has no function %s", worker->ccl, name);
  if (status != DISCO_OK) return status;
  if (TVMFFIFunctionCall(function, (TVMFFIAny *)(uintptr_t)args, num_args, result) != 0)
    status = dsc_error_take_raised(DISCO_RAISED);
  dsc_object_unref(function);
  return status;
}

/* As a backend takes them. */
static void pack(dsc_collective_id id, const dsc_collective_args *args, TVMFFIAny packed[MAX_ARGUMENTS]) {
  for (int32_t i = 0; i < arguments_of(id); i++) {
    argument what = operations[id].takes[i];
    const void *tensor = what == SEND || what == SEND_OR_NONE ? (const void *)args->send : args->recv;
    packed[i] = dsc_none();
    if (what == KIND) {
      packed[i] = dsc_int(args->kind);
    } else if (what == RECEIVER || what == SENDER) {
      packed[i] = dsc_int(args->peer);
    } else if (what == IN_GROUP) {
      packed[i].type_index = kTVMFFIBool;
      packed[i].v_int64 = args->in_group;
    } else if (tensor != NULL) {
      packed[i].type_index = kTVMFFIDLTensorPtr;
      packed[i].v_ptr = (void *)(uintptr_t)tensor;
    }
  }
}

disco_status dsc_collective_run(dsc_collective_id id, const dsc_collective_args *args) {
  dsc_worker *worker = dsc_worker_current();
  if (worker != NULL && worker->plane != NULL) return run_own(worker, id, args);
  disco_status status = dsc_worker_require(operations[id].name, &worker);
  if (status != DISCO_OK) return status;
  TVMFFIAny packed[MAX_ARGUMENTS], result = dsc_none();
  pack(id, args, packed);
  status = run_named(worker, id, packed, arguments_of(id), &result);
  dsc_value_drop(&result);
  return status;
}

/* ---- As FFI functions ---- */

static DLTensor *tensor_of(const TVMFFIAny *value) {
  return value->type_index == kTVMFFIDLTensorPtr ? (DLTensor *)value->v_ptr : dsc_tensor_of(value);
}

/* As the page of disco/worker.h calls it. */
static const char *parameter_of(argument what) {
  switch (what) {
  case SEND:
  case SEND_OR_NONE: return "send";
  case RECV:
  case RECV_OR_NONE: return "recv";
  case KIND: return "kind";
  case RECEIVER: return "receiver";
  case SENDER: return "sender";
  default: return "in_group";
  }
}

static disco_status mismatch(const char *name, int32_t index, argument what, const char *expected,
                             const TVMFFIAny *got) {
  return dsc_args_mismatch_named(name, index, parameter_of(what), expected, got);
}

static disco_status read_kind(const char *name, int32_t index, const TVMFFIAny *value, int64_t *ret_kind) {
  int64_t room[4];
  const int64_t *sizes = NULL;
  size_t count = 0;
  if (dsc_value_as_int(value, ret_kind)) return DISCO_OK;
  if (!dsc_value_as_shape(value, room, 4, &sizes, &count) || count != 1)
    return mismatch(name, index, KIND, "ffi.Shape of one number", value);
  *ret_kind = sizes[0];
  return DISCO_OK;
}

/* Others than the root pass whatever they like where the root passes a tensor. */
static disco_status read_one(const char *name, int32_t index, argument what, const TVMFFIAny *value,
                             dsc_collective_args *ret) {
  DLTensor *tensor = tensor_of(value);
  bool fits = true;
  switch (what) {
  case SEND:
  case RECV:
    if (tensor == NULL) return mismatch(name, index, what, "ffi.Tensor", value);
    if (what == SEND)
      ret->send = tensor;
    else
      ret->recv = tensor;
    return DISCO_OK;
  case SEND_OR_NONE: ret->send = tensor; return DISCO_OK;
  case RECV_OR_NONE: ret->recv = tensor; return DISCO_OK;
  case KIND: return read_kind(name, index, value, &ret->kind);
  case RECEIVER:
  case SENDER: fits = dsc_value_as_int(value, &ret->peer); break;
  default: fits = dsc_value_as_bool(value, &ret->in_group); break;
  }
  return fits ? DISCO_OK : mismatch(name, index, what, what == IN_GROUP ? "bool" : "int", value);
}

/* "send, kind, in_group, recv" */
static disco_status check_count(const char *name, dsc_collective_id id, int32_t given) {
  char list[64] = "";
  size_t used = 0;
  for (int32_t i = 0; i < arguments_of(id); i++)
    used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "",
                             parameter_of(operations[id].takes[i]));
  return dsc_args_count_named(name, given, arguments_of(id), list);
}

static disco_status read_all(const char *name, dsc_collective_id id, const TVMFFIAny *args, int32_t num_args,
                             dsc_collective_args *ret) {
  disco_status status = num_args == arguments_of(id) ? DISCO_OK : check_count(name, id, num_args);
  for (int32_t i = 0; status == DISCO_OK && i < num_args; i++)
    status = read_one(name, i, operations[id].takes[i], &args[i], ret);
  return status;
}

static disco_status run_front(dsc_collective_id id, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  char name[64];
  dsc_worker *worker = NULL;
  dsc_collective_args read = {0};
  (void)snprintf(name, sizeof(name), "runtime.disco.%s", operations[id].name);
  disco_status status = dsc_worker_require(name, &worker);
  if (status == DISCO_OK && worker->plane != NULL) {
    status = read_all(name, id, args, num_args, &read);
    return status == DISCO_OK ? run_own(worker, id, &read) : status;
  }
  if (status == DISCO_OK) status = check_count(name, id, num_args);
  if (status != DISCO_OK) return status;
  TVMFFIAny packed[MAX_ARGUMENTS];
  memcpy(packed, args, (size_t)num_args * sizeof(*args));
  for (int32_t i = 0; i < num_args; i++) { /* unchanged, but a kind is an int there */
    if (operations[id].takes[i] != KIND) continue;
    status = read_kind(name, i, &args[i], &read.kind);
    if (status == DISCO_OK && (read.kind < 0 || read.kind >= DSC_NUM_REDUCES))
      status = dsc_fail(DISCO_VALUE, "Unknown ReduceKind: %lld", (long long)read.kind);
    packed[i] = dsc_int(read.kind);
  }
  return status == DISCO_OK ? run_named(worker, id, packed, num_args, result) : status;
}

/* TVM-FFI calls a function without a self with the function itself. */
static dsc_collective_id id_of(const void *self) { return (dsc_collective_id)((intptr_t)self - 1); }

int dsc_builtin_collective(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  *result = dsc_none();
  disco_status status = run_front(id_of(self), args, num_args, result);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}

static int run_backend(const dsc_backend *backend, dsc_collective_id id, const TVMFFIAny *args, int32_t num_args,
                       TVMFFIAny *result) {
  char name[80];
  dsc_worker *worker = NULL;
  dsc_collective_args read = {0};
  *result = dsc_none();
  (void)snprintf(name, sizeof(name), "runtime.disco.%s.%s", backend->name, operations[id].name);
  disco_status status = dsc_worker_require(name, &worker);
  if (status == DISCO_OK && (worker->plane == NULL || worker->plane->backend != backend))
    status =
        dsc_fail(DISCO_VALUE, "%s: the data plane of worker %d is `%s`; call init_ccl(\"%s\") on the session first",
                 name, worker->setup.id, worker->ccl[0] != 0 ? worker->ccl : "none", backend->name);
  if (status == DISCO_OK) status = read_all(name, id, args, num_args, &read);
  if (status == DISCO_OK) status = run_own(worker, id, &read);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}

int dsc_builtin_collective_cpu(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  return run_backend(&dsc_backend_cpu, id_of(self), args, num_args, result);
}

int dsc_builtin_collective_ref(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  return run_backend(&dsc_backend_ref, id_of(self), args, num_args, result);
}

/* ---- Self-checks ---- */

/* Both are for 4 workers in 2 groups, as in TVM. */
static int self_check(const char *name, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result,
                      disco_status (*run)(dsc_worker *worker, DLTensor *tensor)) {
  dsc_worker *worker = NULL;
  *result = dsc_none();
  disco_status status = dsc_args_count(name, num_args, 1);
  if (status == DISCO_OK) status = dsc_worker_require(name, &worker);
  if (status == DISCO_OK && worker->plane == NULL)
    status = dsc_fail(DISCO_VALUE, "%s: call init_ccl on the session first", name);
  if (status == DISCO_OK && (worker->setup.num_workers != 4 || worker->setup.num_groups != 2))
    status = dsc_fail(DISCO_VALUE, "%s needs 4 workers in 2 groups, here are %d in %d", name, worker->setup.num_workers,
                      worker->setup.num_groups);
  if (status == DISCO_OK && tensor_of(&args[0]) == NULL) status = dsc_args_mismatch(name, 0, "ffi.Tensor", &args[0]);
  if (status == DISCO_OK) status = run(worker, tensor_of(&args[0]));
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}

static disco_status group_to_group(dsc_worker *worker, DLTensor *tensor) {
  return worker->setup.id < 2 ? dsc_plane_send_next(worker->plane, tensor)
                              : dsc_plane_receive_previous(worker->plane, tensor);
}

static disco_status two_to_zero(dsc_worker *worker, DLTensor *tensor) {
  if (worker->setup.id == 2) return dsc_plane_send(worker->plane, tensor, 0);
  return worker->setup.id == 0 ? dsc_plane_receive(worker->plane, tensor, 2) : DISCO_OK;
}

int dsc_builtin_check_groups(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  return self_check("test_send_to_next_group_recv_from_prev_group", args, num_args, result, group_to_group);
}

int dsc_builtin_check_workers(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  return self_check("test_worker2_sends_to_worker0", args, num_args, result, two_to_zero);
}

int dsc_builtin_init_ccl_per_worker(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  static const char name[] = "runtime.disco.*.init_ccl_per_worker";
  const dsc_backend *backend = dsc_backend_find(self);
  dsc_worker *worker = NULL;
  TVMFFIByteArray known_as = {NULL, 0};
  *result = dsc_none();
  disco_status status = dsc_args_count(name, num_args, 2);
  if (status == DISCO_OK && !dsc_value_string(&args[1], &known_as))
    status = dsc_args_mismatch(name, 1, "str", &args[1]);
  if (status == DISCO_OK) status = dsc_worker_require(name, &worker);
  if (status == DISCO_OK) status = dsc_worker_start_plane(worker, backend);
  if (status == DISCO_OK)
    (void)snprintf(worker->ccl_name, sizeof(worker->ccl_name), "%.*s", (int)known_as.size, known_as.data);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}

int dsc_builtin_compiled_ccl(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  char name[DSC_CCL_ALIAS_MAX];
  *result = dsc_none();
  disco_status status = dsc_args_count("runtime.disco.compiled_ccl", num_args, 0);
  const dsc_worker *worker = dsc_worker_current();
  if (worker != NULL && worker->ccl_name[0] != 0)
    (void)snprintf(name, sizeof(name), "%s", worker->ccl_name); /* of its session */
  else
    dsc_ccl_name(NULL, name);
  if (status == DISCO_OK) status = dsc_value_from_string(name, strlen(name), result);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}
