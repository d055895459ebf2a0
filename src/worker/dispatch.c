/* A handler per message. Each runs on the worker's thread and returns DISCO_OK or a failure whose sentence is written.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "base/memory.h"
#include "base/text.h"
#include "disco/channel.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/python.h"
#include "ffi/tensor.h"
#include "wire/codec.h"
#include "wire/frame.h"
#include "worker/worker.h"

static DSC_COLD disco_status fail_poisoned(const char *what, int64_t index, uint32_t reg, const TVMFFIAny *poison) {
  char name[48];
  (void)snprintf(name, sizeof(name), index < 0 ? "%s" : "%s %lld", what, (long long)index);
  return dsc_fail(
      DISCO_VALUE,
      "%s (register %u) has no value: command %lld, which should have made it, failed or was skipped after a failure",
      name, reg, (long long)poison->v_int64);
}

/* The slots of a call become its arguments: DRefs are replaced by this worker's registers. Everything stays borrowed.
 */
static __attribute__((noinline)) disco_status load_args(dsc_worker *worker, const dsc_record *record) {
  uint32_t count = record->num_args;
  if (count > worker->args_size) {
    TVMFFIAny *args = realloc(worker->args, (size_t)count * 2 * sizeof(*args));
    if (args == NULL) return dsc_fail(DISCO_MEMORY, "no memory for %u arguments", count);
    worker->args = args;
    worker->args_size = count * 2;
  }
  const char *at = dsc_record_slots(record);
  const dsc_registers *registers = &worker->registers;
  for (uint32_t i = 0; i < count;) {
    const TVMFFIAny *slot = (const TVMFFIAny *)at;
    if (slot->type_index != DSC_SLOT_DREFS) {
      disco_status status = dsc_worker_arrive(worker, record, slot, &worker->args[i++]);
      if (status != DISCO_OK) return status;
      at += DSC_SLOT_BYTES;
      continue;
    }
    const dsc_dref_run *run = (const dsc_dref_run *)at;
    const uint32_t *ids = (const uint32_t *)(run + 1);
    for (uint32_t k = 0; k < run->count; k++, i++) {
      worker->args[i] = dsc_registers_get(registers, ids[k]);
      if (dsc_is_poison(&worker->args[i])) return fail_poisoned("argument", i, ids[k], &worker->args[i]);
    }
    at += dsc_dref_run_bytes(run->count);
  }
  return DISCO_OK;
}

/* A result may be a borrowed form if the function is careless: a register never holds one. */
static DSC_COLD disco_status own_result(TVMFFIAny *result) {
  TVMFFIAny owned;
  if (!dsc_value_is_borrowed(result)) return DISCO_OK;
  disco_status status = dsc_value_own(result, "the result", &owned);
  if (status == DISCO_OK) *result = owned;
  return status;
}

static DSC_COLD disco_status not_a_function(uint32_t reg, const TVMFFIAny *value) {
  if (dsc_is_poison(value)) return fail_poisoned("the function", -1, reg, value);
  return dsc_fail(DISCO_TYPE, "register %u does not hold a Function but `%s`", reg, dsc_value_type_name(value));
}

static DSC_COLD disco_status function_raised(void) { return dsc_error_take_raised(DISCO_RAISED); }

/* The hot one: everything rare stands apart. */
static inline disco_status run_CallPacked(dsc_worker *worker, const dsc_record *record) {
  TVMFFIAny function = dsc_registers_get(&worker->registers, record->target);
  if (DSC_UNLIKELY(function.type_index != kTVMFFIFunction)) return not_a_function(record->target, &function);
  if (record->num_args > 0) {
    disco_status status = load_args(worker, record);
    if (DSC_UNLIKELY(status != DISCO_OK)) return status;
  }
  TVMFFIAny result = dsc_none();
  TVMFFISafeCallType safe_call = dsc_function_cell(function.v_obj)->safe_call;
  if (DSC_UNLIKELY(safe_call(function.v_obj, worker->args, record->num_args, &result) != 0)) return function_raised();
  if (DSC_UNLIKELY((uint32_t)result.type_index > kTVMFFIDevice && result.type_index < kTVMFFIStaticObjectBegin)) {
    disco_status status = own_result(&result);
    if (status != DISCO_OK) return status;
  }
  if (record->reg != 0) return dsc_registers_set(&worker->registers, record->reg, result);
  dsc_value_drop(&result);
  return DISCO_OK;
}

/* One of Python's will be called more than once: this thread keeps what the calls need. */
static disco_status keep_function(dsc_worker *worker, const dsc_record *record, TVMFFIAny function) {
  if (dsc_python_is_callback(function.v_obj)) dsc_python_keep_state();
  return dsc_registers_set(&worker->registers, record->reg, function);
}

static disco_status run_GetGlobalFunc(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  const TVMFFIAny *slots = dsc_record_slots(record);
  TVMFFIAny given, resolved;
  disco_status status = dsc_worker_arrive(worker, record, &slots[1], &resolved);
  if (status == DISCO_OK && resolved.type_index == kTVMFFIFunction)
    return keep_function(worker, record, dsc_value_copy(&resolved));
  if (status == DISCO_OK) status = dsc_worker_arrive(worker, record, &slots[0], &given);
  if (status != DISCO_OK) return status;
  TVMFFIByteArray text = {"", 0};
  (void)dsc_value_string(&given, &text);
  char name[DSC_MAX_NAME_BYTES + 1];
  (void)snprintf(name, sizeof(name), "%.*s", (int)text.size, text.data);
  TVMFFIObject *function = NULL;
  status = dsc_function_find(name, &function);
  if (status != DISCO_OK) return status;
  if (function != NULL) return keep_function(worker, record, dsc_object_value(function));
  dsc_text message = DSC_TEXT_INIT;
  dsc_function_unknown(name, &message);
  status = dsc_fail(DISCO_VALUE, "%s", message.data != NULL ? message.data : name);
  dsc_text_fini(&message);
  return status;
}

static disco_status run_KillReg(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  dsc_registers_clear(&worker->registers, record->reg); /* 0 is never written */
  return DISCO_OK;
}

static disco_status run_ShutDown(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)worker;
  (void)record;
  *ret_stop = true;
  return DISCO_OK;
}

static disco_status run_Resume(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  dsc_skip_resume(&worker->skip, record->sequence);
  worker->failed_in_epoch = false;
  dsc_store_release(&worker->line->resumed, record->sequence);
  return DISCO_OK;
}

/* The data plane may still have device work: its own function waits for it. */
static disco_status sync_data_plane(dsc_worker *worker) {
  if (worker->ccl[0] == 0) return DISCO_OK;
  char name[DSC_CCL_NAME_MAX + 32];
  (void)snprintf(name, sizeof(name), "runtime.disco.%s.sync_worker", worker->ccl);
  TVMFFIObject *function = NULL;
  disco_status status = dsc_function_find(name, &function);
  if (status != DISCO_OK || function == NULL) return status; /* nothing to wait for */
  TVMFFIAny result = dsc_none();
  if (TVMFFIFunctionCall(function, NULL, 0, &result) != 0) status = dsc_error_take_raised(DISCO_RAISED);
  dsc_value_drop(&result);
  dsc_object_unref(function);
  return status;
}

static bool is_target(const dsc_worker *worker, const dsc_record *record) {
  return record->target == DSC_TARGET_ALL || record->target == (uint32_t)worker->setup.id;
}

static disco_status run_SyncWorker(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  return is_target(worker, record) ? sync_data_plane(worker) : DISCO_OK;
}

/* Both copies: on worker 0 alone. */
static disco_status copy(dsc_worker *worker, const dsc_record *record, bool to_worker) {
  if (worker->setup.id != 0) return DISCO_OK;
  const TVMFFIAny *host = dsc_record_slots(record);
  TVMFFIAny mine = dsc_registers_get(&worker->registers, record->reg);
  if (dsc_is_poison(&mine)) return fail_poisoned("worker 0's tensor", -1, record->reg, &mine);
  return to_worker ? dsc_tensor_copy(host, "the host tensor", &mine, "worker 0's tensor")
                   : dsc_tensor_copy(&mine, "worker 0's tensor", host, "the host tensor");
}

static disco_status run_CopyFromWorker0(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  return copy(worker, record, false);
}

static disco_status run_CopyToWorker0(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  return copy(worker, record, true);
}

/* A reply as a frame of its own. */
static disco_status reply_by_channel(dsc_worker *worker, uint64_t sequence, uint32_t outcome, const TVMFFIAny *value) {
  uint64_t bytes = 0;
  dsc_pack_side side = {.threshold = UINT64_MAX};
  disco_status status = dsc_pack_measure(value, DSC_PACK_CONTAINERS, "the value", &side, &bytes);
  if (status != DISCO_OK) return status;
  uint64_t size = sizeof(dsc_reply_frame) + bytes;
  dsc_reply_frame *frame = dsc_alloc(size, "a reply");
  if (frame == NULL) return DISCO_MEMORY;
  dsc_frame_begin(&frame->head, DSC_FRAME_Reply, size, worker->segment->session, worker->setup.id, sequence);
  frame->outcome = outcome;
  frame->value_bytes = bytes;
  if (dsc_pack(value, &side, (char *)(frame + 1)) == NULL) {
    free(frame);
    return DISCO_MEMORY;
  }
  (void)worker->setup.channel->ops->reply(worker->setup.channel, frame,
                                          size); /* a lost channel shows at the next recv */
  free(frame);
  return DISCO_OK;
}

void dsc_worker_reply(dsc_worker *worker, uint64_t sequence, uint32_t outcome, TVMFFIAny value) {
  if (!worker->setup.remote) {
    dsc_reply_share(&worker->replies, sequence, outcome, value);
    return;
  }
  disco_status status = DISCO_OK;
  for (int attempt = 0; attempt < 2; attempt++) {
    status = worker->setup.channel != NULL ? reply_by_channel(worker, sequence, outcome, &value)
                                           : dsc_reply_send(&worker->replies, sequence, outcome, &value);
    dsc_value_drop(&value);
    if (status == DISCO_OK) return;
    (void)dsc_error_raise_status(status); /* it cannot travel: say so instead */
    TVMFFIObject *error = dsc_error_raised();
    if (error != NULL) value = dsc_object_value(error);
    outcome = DSC_REPLY_ERROR;
  }
  dsc_value_drop(&value);
}

/* Answer with this thread's libdisco error. */
static void reply_error(dsc_worker *worker, uint64_t sequence, disco_status failed) {
  (void)dsc_error_raise_status(failed);
  TVMFFIObject *error = dsc_error_raised();
  dsc_worker_reply(worker, sequence, DSC_REPLY_ERROR, error != NULL ? dsc_object_value(error) : dsc_none());
}

static disco_status run_DebugGetFromRemote(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  if (!is_target(worker, record)) return DISCO_OK;
  disco_status status = sync_data_plane(worker);
  TVMFFIAny value = dsc_registers_get(&worker->registers, record->reg);
  if (status != DISCO_OK)
    reply_error(worker, record->sequence, status);
  else if (dsc_is_poison(&value))
    dsc_worker_reply(worker, record->sequence, DSC_REPLY_POISONED, dsc_int(value.v_int64));
  else
    dsc_worker_reply(worker, record->sequence, DSC_REPLY_VALUE, dsc_value_copy(&value));
  return DISCO_OK; /* a failed read is its caller's alone */
}

static disco_status run_DebugSetRegister(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  (void)ret_stop;
  if (!is_target(worker, record)) return DISCO_OK;
  TVMFFIAny value = dsc_none();
  disco_status status = sync_data_plane(worker);
  if (status == DISCO_OK) status = dsc_worker_arrive(worker, record, dsc_record_slots(record), &value);
  TVMFFIAny mine = dsc_registers_get(&worker->registers, record->reg);
  if (status == DISCO_OK && dsc_tensor_of(&value) != NULL && dsc_tensor_of(&mine) != NULL)
    status = dsc_tensor_copy(&value, "the value", &mine, "the tensor in the register");
  else if (status == DISCO_OK)
    status = dsc_registers_set(&worker->registers, record->reg, dsc_value_copy(&value));
  if (record->flags & DSC_RECORD_QUIET) return status;
  if (status != DISCO_OK)
    reply_error(worker, record->sequence, status);
  else
    dsc_worker_reply(worker, record->sequence, DSC_REPLY_VALUE, dsc_none());
  return DISCO_OK;
}

static DSC_COLD disco_status dispatch_rare(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  switch (record->message) {
#define run_CallPacked(worker, record, ret_stop) run_CallPacked(worker, record)
#define DISPATCH_CASE(name, number, skippable, reg, target, slots, meaning) \
  case number: return run_##name(worker, record, ret_stop);
    DSC_MESSAGE_LIST(DISPATCH_CASE)
#undef DISPATCH_CASE
#undef run_CallPacked
  default: return dsc_fail(DISCO_LOST, "worker %d does not know message %u", worker->setup.id, record->message);
  }
}

disco_status dsc_worker_dispatch(dsc_worker *worker, const dsc_record *record, bool *ret_stop) {
  if (DSC_LIKELY(record->message == DSC_MESSAGE_CallPacked)) return run_CallPacked(worker, record);
  return dispatch_rare(worker, record, ret_stop);
}

void dsc_worker_poison(dsc_worker *worker, const dsc_record *record, uint64_t cause) {
  bool makes_a_value = record->message == DSC_MESSAGE_CallPacked || record->message == DSC_MESSAGE_GetGlobalFunc ||
                       (record->message == DSC_MESSAGE_DebugSetRegister && (record->flags & DSC_RECORD_QUIET));
  if (!makes_a_value || record->reg == 0) return;
  if (dsc_registers_set(&worker->registers, record->reg, dsc_poison(cause)) != DISCO_OK)
    worker->registers.missing = cause;
}
