/* Session and DRef as TVM-FFI objects, and the verbs. */
#include "session/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/memory.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/tensor.h"
#include "session/remote.h"

/* What lies on a call's way to dsc_issue(): with a third user the compiler no longer does it by itself. */
#define INLINE inline __attribute__((always_inline))

/* ---- Objects ---- */

static void delete_session(void *self, int flags) {
  disco_session *session = self;
  if (flags & kTVMFFIObjectDeleterFlagBitMaskStrong) {
    dsc_engine *engine = session->engine;
    session->engine = NULL;
    if (engine != NULL) dsc_reaper_submit(engine, true);
  }
  if (flags & kTVMFFIObjectDeleterFlagBitMaskWeak) dsc_object_free(self);
}

void dsc_session_install(void) { dsc_object_session_deleter = delete_session; }

disco_status dsc_session_create(const dsc_settings *settings, const disco_session_options *processes,
                                const void *creation_site, disco_session **ret_session) {
  int32_t type = processes != NULL ? dsc_type_process_session : dsc_type_threaded_session;
  disco_session *session = dsc_object_create(sizeof(*session), type, delete_session);
  if (session == NULL) {
    dsc_channels_destroy(processes);
    return DISCO_MEMORY;
  }
  disco_status status = dsc_engine_create(settings, processes, session, creation_site, &session->engine);
  if (status != DISCO_OK) {
    session->engine = NULL;
    dsc_object_unref(session);
    return status;
  }
  *ret_session = session;
  return DISCO_OK;
}

_Static_assert(DSC_OBJECT_PREFIX + sizeof(dsc_dref) <= DSC_IDPOOL_HANDLE_BYTES, "a DRef lives beside its register id");

/* Any thread, also in a garbage collector: lock-free, never waits. */
static void delete_dref(void *self, int flags) {
  enum { PUBLISH_AT = 256 };
  const dsc_dref *dref = self;
  /* While somebody holds a weak reference the memory, and with it the register, stays. */
  if (!(flags & kTVMFFIObjectDeleterFlagBitMaskWeak)) return;
  disco_session *session = dref->session;
  dsc_engine *engine = session->engine;
  uint32_t waiting = dsc_idpool_release(&engine->registers, (uint32_t)dref->reg_id, dref->generation);
  /* From here on the memory is the next DRef's. The push was a full fence: the flag is looked at after it. */
  if (waiting % PUBLISH_AT == 0 || atomic_load(&engine->worker0_asleep) != 0) dsc_publish_releases(engine);
  dsc_object_unref(session);
}

void dsc_dref_place(void *memory, disco_session *session, uint32_t reg, uint32_t generation) {
  dsc_dref *dref = dsc_object_init(memory, DSC_TYPE_DREF, delete_dref);
  dsc_object_ref(session, 1);
  dref->reg_id = reg;
  dref->session = session;
  dref->generation = generation;
}

/* Post a command whose result goes to a new register. */
static INLINE disco_status issue_with_result(disco_session *session, dsc_command *command, dsc_dref **ret_result) {
  command->wants_result = ret_result != NULL;
  command->session = session;
  disco_status status = dsc_issue(session->engine, command, DISCO_FOREVER);
  if (status == DISCO_OK && ret_result != NULL) *ret_result = command->result;
  return status;
}

/* ---- Checks ---- */

disco_status dsc_check_worker(const dsc_engine *engine, int64_t worker, bool all) {
  if (worker >= 0 && worker < engine->settings.num_workers) return DISCO_OK;
  if (all && worker == DISCO_ALL_WORKERS) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "there is no worker %lld: this session has workers 0 to %d", (long long)worker,
                  engine->settings.num_workers - 1);
}

/* For other processes, too: packed before the record is claimed, large ones in memory of their own. */
static DSC_COLD disco_status issue_packed(disco_session *session, dsc_command *command, unsigned allowed,
                                          const char *what, dsc_pending *pending, int64_t timeout_ms,
                                          dsc_dref **ret_result) {
  dsc_engine *engine = session->engine;
  dsc_travel travel = {.packed = NULL};
  dsc_side_ref ref;
  dsc_side_file *file = NULL;
  disco_status status =
      dsc_side_prepare(engine, command, allowed, what, dsc_clock_deadline_ns(timeout_ms), &travel, &ref, &file);
  if (status == DISCO_OK) {
    command->pending = pending;
    command->wants_result = ret_result != NULL;
    command->session = session;
    status = dsc_issue(engine, command, timeout_ms);
  }
  if (status == DISCO_OK && ret_result != NULL) *ret_result = command->result;
  dsc_side_posted(engine, file, status == DISCO_OK ? command->sequence : 0);
  dsc_travel_fini(&travel);
  return status;
}

/* Values that are sent may not be borrowed forms: own them first, if there are any. */
static INLINE disco_status issue_values(disco_session *session, dsc_command *command, unsigned allowed,
                                        const char *what, dsc_dref **ret_result) {
  TVMFFIAny *owned = NULL;
  int32_t count = command->count;
  disco_status status = DISCO_OK;
  unsigned found = dsc_values_look(command->values, count);
  if (DSC_UNLIKELY((found & DSC_VALUES_BORROWED) != 0)) {
    status = dsc_values_own(command->values, count, &owned);
    if (status != DISCO_OK) return status;
    command->values = owned;
    found = dsc_values_look(owned, count);
  }
  if ((found & DSC_VALUES_OBJECTS) != 0 && session->engine->has_processes)
    status = issue_packed(session, command, allowed, what, NULL, DISCO_FOREVER, ret_result);
  else
    status = issue_with_result(session, command, ret_result);
  dsc_values_disown(owned, count);
  return status;
}

/* ---- Verbs ---- */

disco_status dsc_session_shutdown(disco_session *session) {
  dsc_engine *engine = session->engine;
  disco_status status = dsc_enter_fork(engine, "shutdown");
  if (status != DISCO_OK) return status;
  const dsc_worker *self = dsc_worker_current();
  if (self != NULL && self->setup.owner == engine) {
    dsc_reaper_submit(engine, false);
    return DISCO_OK;
  }
  return dsc_engine_stop(engine, true);
}

static inline disco_status call(disco_session *session, dsc_dref *func, const TVMFFIAny *args, int32_t num_args,
                                dsc_dref **ret_result, uint64_t *ret_sequence) {
  disco_status status = dsc_enter(session->engine, "call");
  if (status != DISCO_OK) return status;
  if (num_args < 0 || num_args > DSC_MAX_ARGUMENTS)
    return dsc_fail(DISCO_VALUE, "a call takes at most %d arguments, not %d: pass a container", DSC_MAX_ARGUMENTS,
                    num_args);
  dsc_command command = {.message = DSC_MESSAGE_CallPacked, .callee = func, .values = args, .count = num_args};
  status = issue_values(session, &command, DSC_PACK_PLAIN, "argument", ret_result);
  if (ret_sequence != NULL && status == DISCO_OK) *ret_sequence = command.sequence;
  return status;
}

disco_status dsc_session_call(disco_session *session, dsc_dref *func, const TVMFFIAny *args, int32_t num_args,
                              dsc_dref **ret_result) {
  return call(session, func, args, num_args, ret_result, NULL);
}

DSC_COLD disco_status dsc_session_call_numbered(disco_session *session, dsc_dref *func, const TVMFFIAny *args,
                                                int32_t num_args, dsc_dref **ret_result, uint64_t *ret_sequence) {
  return call(session, func, args, num_args, ret_result, ret_sequence);
}

disco_status dsc_session_get_global_func(disco_session *session, const char *name, dsc_dref **ret_func) {
  disco_status status = dsc_enter(session->engine, "get_global_func");
  if (status != DISCO_OK) return status;
  size_t size = strlen(name);
  if (size == 0 || size > DSC_MAX_NAME_BYTES)
    return dsc_fail(DISCO_VALUE, "a function's name has 1 to %d bytes, not %zu", DSC_MAX_NAME_BYTES, size);
  /* Resolved here if it is there: the registry has no lock, and look-ups on this thread cannot meet the caller's
   * registrations. */
  TVMFFIObject *function = NULL;
  TVMFFIAny values[2] = {dsc_none(), dsc_none()};
  status = dsc_function_find(name, &function);
  if (status == DISCO_OK) status = dsc_value_from_string(name, size, &values[0]);
  if (status == DISCO_OK) {
    if (function != NULL) values[1] = dsc_object_value(function);
    dsc_command command = {.message = DSC_MESSAGE_GetGlobalFunc, .values = values, .count = 2, .intern = name};
    dsc_travel travel = {.packed = NULL};
    if (session->engine->has_processes && dsc_is_object(&values[0])) { /* the name travels, the function does not */
      status = dsc_travel_measure(values, 1, DSC_PACK_CONTAINERS, DSC_MAX_NAME_BYTES * 2, "the name", &travel);
      if (status == DISCO_OK) status = dsc_travel_pack(&travel, values, 1, NULL);
      command.travel = &travel;
    }
    if (status == DISCO_OK) status = issue_with_result(session, &command, ret_func);
    dsc_travel_fini(&travel);
  }
  dsc_value_drop(&values[0]);
  if (function != NULL) dsc_object_unref(function);
  return status;
}

disco_status dsc_session_put(disco_session *session, const TVMFFIAny *value, dsc_dref **ret_dref) {
  disco_status status = dsc_enter(session->engine, "put");
  if (status != DISCO_OK) return status;
  if (value->type_index == DSC_TYPE_DREF)
    return dsc_fail(DISCO_TYPE, "put: the value is a DRef, which names a value that the workers already have");
  dsc_command command = {.message = DSC_MESSAGE_DebugSetRegister,
                         .flags = DSC_RECORD_QUIET,
                         .target = DSC_TARGET_ALL,
                         .values = value,
                         .count = 1};
  return issue_values(session, &command, DSC_PACK_CONTAINERS, "the value", ret_dref);
}

static disco_status not_live(int64_t reg_id) {
  return dsc_fail(DISCO_VALUE, "register %lld is not live: it was never handed out, or it was released",
                  (long long)reg_id);
}

disco_status dsc_session_dealloc(disco_session *session, int64_t reg_id) {
  dsc_engine *engine = session->engine;
  disco_status status = dsc_enter(engine, "dealloc_reg");
  if (status != DISCO_OK) return status;
  if (dsc_idpool_generation(&engine->registers, reg_id) == 0) return not_live(reg_id);
  dsc_command command = {.message = DSC_MESSAGE_KillReg, .reg = (uint32_t)reg_id, .kills = true};
  return dsc_issue(engine, &command, DISCO_FOREVER);
}

disco_status dsc_session_copy(disco_session *session, uint8_t message, TVMFFIObject *host, dsc_dref *dref) {
  disco_status status =
      dsc_enter(session->engine, message == DSC_MESSAGE_CopyFromWorker0 ? "copy_from_worker0" : "copy_to_worker0");
  if (status != DISCO_OK) return status;
  TVMFFIAny value = dsc_object_value(host);
  const DLTensor *tensor = dsc_tensor_of(&value);
  if (tensor == NULL)
    return dsc_fail(DISCO_TYPE, "the host side of a copy must be a Tensor, but it is `%s`",
                    dsc_value_type_name(&value));
  if (tensor->device.device_type != kDLCPU && tensor->device.device_type != kDLCUDAHost)
    return dsc_fail(DISCO_VALUE, "the host side of a copy must be on the CPU, not on device type %d",
                    (int)tensor->device.device_type);
  dsc_command command = {.message = message, .subject = dref, .values = &value, .count = 1, .readers = 1};
  return dsc_issue(session->engine, &command, DISCO_FOREVER);
}

static int32_t count_of(const dsc_engine *engine, const dsc_pending *pending) {
  return pending->worker == DISCO_ALL_WORKERS ? engine->settings.num_workers : 1;
}

/* Whose reply is the i-th? */
static int32_t worker_at(const dsc_pending *pending, int32_t i) {
  return pending->worker == DISCO_ALL_WORKERS ? i : pending->worker;
}

static void drop_replies(const dsc_engine *engine, dsc_pending *pending) {
  for (int32_t i = 0; i < count_of(engine, pending); i++) dsc_reply_drop(&pending->values[i]);
}

/* What is no value breaks the protocol: its worker is ended for it. */
static disco_status open_reply(dsc_engine *engine, int32_t worker, TVMFFIAny *value) {
  bool malformed = false;
  disco_status status = dsc_reply_open(value, &malformed);
  if (malformed) {
    char reason[200];
    (void)snprintf(reason, sizeof(reason), "replied with no value: %s", disco_last_error_text());
    dsc_remote_break_worker(engine, worker, reason);
  }
  return status;
}

/* A worker answered, and its answer went with it before it could be fetched, or was none: the monitor is about to say
 * so. */
static disco_status explain_lost_reply(dsc_engine *engine) {
  enum { TRIES = 50 };
  const struct timespec pause = {0, 10 * 1000000};
  for (int i = 0; i < TRIES; i++) {
    if (dsc_load_acquire(&engine->segment.header->fault) == DSC_FAULT_DEATH) {
      (void)dsc_lock_take(&engine->lock, NULL);
      disco_status status = dsc_tell_failure(engine);
      dsc_leave(engine);
      if (status != DISCO_OK) return status;
    }
    if (dsc_load_relaxed(&engine->state) != DSC_READY)
      return dsc_fail(DISCO_CLOSED, "the session was shut down before the reply was fetched");
    (void)nanosleep(&pause, NULL);
  }
  dsc_error why; /* it lives on: then it is no loss */
  dsc_error_copy(dsc_thread_error(), &why);
  why.status = DISCO_RUNTIME;
  (void)snprintf(why.kind, sizeof(why.kind), "%s", disco_status_kind(DISCO_RUNTIME));
  return dsc_fail_with(&why);
}

/* Replies first or done first: a reply is written before its command is done. Registers the pending reply, posts,
 * waits, takes it in. */
static disco_status ask(disco_session *session, dsc_command *command, dsc_pending *pending, int64_t timeout_ms,
                        const char *what) {
  dsc_engine *engine = session->engine;
  int64_t deadline = dsc_clock_deadline_ns(timeout_ms);
  disco_status status;
  /* A value for worker 0 alone is shared, and may be anything. */
  if (engine->has_processes && command->target != 0 &&
      (dsc_values_look(command->values, command->count) & DSC_VALUES_OBJECTS) != 0) {
    status = issue_packed(session, command, DSC_PACK_CONTAINERS, "the value", pending, timeout_ms, NULL);
  } else {
    command->pending = pending;
    status = dsc_issue(engine, command, timeout_ms);
  }
  if (status != DISCO_OK) return status;
  status = dsc_wait_done(engine, pending->worker, command->sequence, deadline, what);
  if (status == DISCO_OK) dsc_drain_replies(engine); /* else this thread's error stays what it is */
  dsc_pending_remove(engine, pending, status == DISCO_OK);
  if (status == DISCO_OK && pending->remaining > 0) {
    status = dsc_load_relaxed(&engine->state) != DSC_READY
                 ? dsc_fail(DISCO_CLOSED, "%s: the session was shut down before the reply came", what)
                 : dsc_fail(DISCO_MEMORY, "%s: a worker had no memory for its reply", what);
    drop_replies(engine, pending);
    return status;
  }
  int32_t count = count_of(engine, pending);
  for (int32_t i = 0; status == DISCO_OK && i < count; i++)
    status = open_reply(engine, worker_at(pending, i), &pending->values[i]);
  if (status == DISCO_LOST) status = explain_lost_reply(engine);
  if (status != DISCO_OK) drop_replies(engine, pending);
  return status;
}

/* The first reply that is no value becomes the error. */
static disco_status judge(const dsc_pending *pending, int32_t count, uint32_t reg) {
  for (int32_t i = 0; i < count; i++) {
    int32_t worker = worker_at(pending, i);
    const TVMFFIAny *value = &pending->values[i];
    if (pending->outcomes[i] == DSC_REPLY_VALUE) continue;
    if (pending->outcomes[i] == DSC_REPLY_POISONED)
      return dsc_fail(DISCO_VALUE,
                      "register %u of worker %d has no value: command %lld, which should have made it, failed or was "
                      "skipped after a failure",
                      reg, worker, (long long)value->v_int64);
    if (value->type_index != kTVMFFIError)
      return dsc_fail(DISCO_RUNTIME, "worker %d could not say why it failed", worker);
    dsc_object_ref(value->v_obj, 1);
    dsc_error_parts parts;
    char kind[DSC_KIND_MAX];
    dsc_error_parts_of(value->v_obj, &parts);
    (void)snprintf(kind, sizeof(kind), "%.*s", (int)parts.kind.size, parts.kind.data);
    return dsc_error_take_object(dsc_status_of_kind(kind), value->v_obj);
  }
  return DISCO_OK;
}

/* Room for the replies: the common case of one worker needs no memory. */
static disco_status make_pending(const dsc_engine *engine, int32_t worker, dsc_pending *ret_pending,
                                 TVMFFIAny *one_value, uint32_t *one_outcome) {
  int32_t count = worker == DISCO_ALL_WORKERS ? engine->settings.num_workers : 1;
  *ret_pending = (dsc_pending){.worker = worker, .remaining = count, .values = one_value, .outcomes = one_outcome};
  dsc_list_init(&ret_pending->link);
  *one_value = dsc_none();
  *one_outcome = DSC_REPLY_AWAITED;
  if (count == 1) return DISCO_OK;
  char *memory = dsc_alloc((size_t)count * (sizeof(TVMFFIAny) + sizeof(uint32_t)), "the replies");
  if (memory == NULL) return DISCO_MEMORY;
  ret_pending->values = (TVMFFIAny *)memory;
  ret_pending->outcomes = (uint32_t *)(memory + (size_t)count * sizeof(TVMFFIAny));
  for (int32_t i = 0; i < count; i++) ret_pending->outcomes[i] = DSC_REPLY_AWAITED;
  return DISCO_OK;
}

disco_status dsc_session_get(disco_session *session, const dsc_dref *dref, int64_t reg_id, int32_t worker,
                             int64_t timeout_ms, TVMFFIAny *ret_values) {
  dsc_engine *engine = session->engine;
  disco_status status = dsc_enter(engine, "debug_get");
  if (status == DISCO_OK) status = dsc_check_worker(engine, worker, true);
  if (status == DISCO_OK && dref == NULL && dsc_idpool_generation(&engine->registers, reg_id) == 0)
    status = not_live(reg_id);
  if (status != DISCO_OK) return status;
  TVMFFIAny one_value;
  uint32_t one_outcome;
  dsc_pending pending;
  status = make_pending(engine, worker, &pending, &one_value, &one_outcome);
  if (status != DISCO_OK) return status;
  dsc_command command = {.message = DSC_MESSAGE_DebugGetFromRemote,
                         .subject = dref,
                         .reg = (uint32_t)reg_id,
                         .target = worker == DISCO_ALL_WORKERS ? DSC_TARGET_ALL : (uint32_t)worker};
  int32_t count = worker == DISCO_ALL_WORKERS ? engine->settings.num_workers : 1;
  status = ask(session, &command, &pending, timeout_ms, "debug_get");
  if (status == DISCO_OK) {
    status = judge(&pending, count, dref != NULL ? (uint32_t)dref->reg_id : (uint32_t)reg_id);
    for (int32_t i = 0; i < count; i++) {
      if (status == DISCO_OK)
        ret_values[i] = pending.values[i];
      else
        dsc_value_drop(&pending.values[i]);
    }
  }
  if (pending.values != &one_value) free(pending.values);
  return status;
}

/* One for each target that shares our memory. */
static int32_t references_for(const dsc_engine *engine, int32_t worker, int32_t count) {
  if (!engine->has_processes) return count;
  return worker <= 0 ? 1 : DSC_NO_READERS; /* all, or worker 0 */
}

disco_status dsc_session_set(disco_session *session, const dsc_dref *dref, int64_t reg_id, int32_t worker,
                             const TVMFFIAny *value, int64_t timeout_ms) {
  dsc_engine *engine = session->engine;
  disco_status status = dsc_enter(engine, "debug_set");
  if (status == DISCO_OK) status = dsc_check_worker(engine, worker, true);
  if (status == DISCO_OK && dref == NULL && dsc_idpool_generation(&engine->registers, reg_id) == 0)
    status = not_live(reg_id);
  if (status == DISCO_OK && value->type_index == DSC_TYPE_DREF)
    status = dsc_fail(DISCO_TYPE, "debug_set: the value is a DRef, which names a value that the workers already have");
  if (status != DISCO_OK) return status;
  TVMFFIAny owned, one_value;
  uint32_t one_outcome;
  dsc_pending pending;
  status = dsc_value_own(value, "the value", &owned);
  if (status != DISCO_OK) return status;
  status = make_pending(engine, worker, &pending, &one_value, &one_outcome);
  if (status == DISCO_OK) {
    int32_t count = worker == DISCO_ALL_WORKERS ? engine->settings.num_workers : 1;
    dsc_command command = {.message = DSC_MESSAGE_DebugSetRegister,
                           .subject = dref,
                           .reg = (uint32_t)reg_id,
                           .target = worker == DISCO_ALL_WORKERS ? DSC_TARGET_ALL : (uint32_t)worker,
                           .values = &owned,
                           .count = 1,
                           .readers = references_for(engine, worker, count)};
    status = ask(session, &command, &pending, timeout_ms, "debug_set");
    if (status == DISCO_OK) {
      status = judge(&pending, count, 0);
      for (int32_t i = 0; i < count; i++) dsc_value_drop(&pending.values[i]);
    }
    if (pending.values != &one_value) free(pending.values);
  }
  dsc_value_drop(&owned);
  return status;
}

disco_status dsc_session_sync(disco_session *session, int32_t worker, int64_t timeout_ms) {
  dsc_engine *engine = session->engine;
  disco_status status = dsc_enter(engine, "sync");
  if (status == DISCO_OK) status = dsc_check_worker(engine, worker, true);
  if (status != DISCO_OK) return status;
  int64_t deadline = dsc_clock_deadline_ns(timeout_ms);
  uint64_t sequence = dsc_load_acquire(&engine->sequence); /* acquire: engine.sequence */
  if (dsc_load_relaxed(&engine->has_data_plane)) {
    dsc_command command = {.message = DSC_MESSAGE_SyncWorker,
                           .target = worker == DISCO_ALL_WORKERS ? DSC_TARGET_ALL : (uint32_t)worker};
    status = dsc_issue(engine, &command, timeout_ms);
    if (status != DISCO_OK) return status;
    sequence = command.sequence;
  }
  return dsc_wait_done(engine, worker, sequence, deadline, "sync");
}
