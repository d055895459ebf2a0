/* The controller's functions runtime.disco.*: unpack, call the C API, pack. Names, argument orders and results are
 * those of TVM's client. */
#include "api/globals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/session_api.h"
#include "builtin/table.h"
#include "disco/disco.h"
#include "disco/worker.h"
#include "ffi/args.h"
#include "ffi/error.h"
#include "ffi/python.h"
#include "session/session.h"

/* ---- Functions ---- */

static disco_status session_threaded(const dsc_call *c) {
  int32_t workers = 0, groups = 0;
  disco_status status = dsc_call_int32(c, 0, INT32_MIN, INT32_MAX, &workers);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, INT32_MIN, INT32_MAX, &groups);
  if (status != DISCO_OK) return status;
  disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, groups);
  disco_session *session = NULL;
  status = dsc_create_threaded(&options, NULL, &session);
  if (status == DISCO_OK) *c->result = dsc_object_value(session);
  return status;
}

/* (workers, groups, the name of a pool's creator, its entrypoint) */
static disco_status session_process(const dsc_call *c) {
  int32_t workers = 0, groups = 0;
  char *creator = NULL, *entrypoint = NULL;
  disco_status status = dsc_call_int32(c, 0, INT32_MIN, INT32_MAX, &workers);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, INT32_MIN, INT32_MAX, &groups);
  if (status == DISCO_OK) status = dsc_call_string(c, 2, &creator);
  if (status == DISCO_OK) status = dsc_call_string(c, 3, &entrypoint);
  if (status == DISCO_OK) {
    disco_session_options options = DISCO_SESSION_OPTIONS_INIT(workers, groups);
    options.pool_creator = creator;
    options.entrypoint = entrypoint;
    disco_session *session = NULL;
    status = dsc_create_process(&options, NULL, &session);
    if (status == DISCO_OK) *c->result = dsc_object_value(session);
  }
  free(creator);
  free(entrypoint);
  return status;
}

/* (worker, workers, groups, read_fd, write_fd): the body of a worker process */
static disco_status worker_process(const dsc_call *c) {
  int32_t numbers[5] = {0};
  disco_status status = DISCO_OK;
  for (int32_t i = 0; status == DISCO_OK && i < 5; i++)
    status = dsc_call_int32(c, i, INT32_MIN, INT32_MAX, &numbers[i]);
  if (status != DISCO_OK) return status;
  return disco_worker_process(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]);
}

static disco_status session_get_num_workers(const dsc_call *c) {
  disco_session *session;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) *c->result = dsc_int(disco_session_num_workers(session));
  return status;
}

static disco_status session_get_global_func(const dsc_call *c) {
  disco_session *session;
  char *name = NULL;
  disco_dref *func = NULL;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_call_string(c, 1, &name);
  if (status == DISCO_OK) status = disco_session_get_global_func(session, name, &func);
  if (status == DISCO_OK) *c->result = dsc_object_value(func);
  free(name);
  return status;
}

/* (S, x, x, func, args...): slots 1 and 2 are placeholders. */
static disco_status session_call_packed(const dsc_call *c) {
  disco_session *session;
  dsc_dref *func = NULL;
  disco_dref *result = NULL;
  if (c->count < 4)
    return dsc_fail(DISCO_TYPE, "%s takes a session, two placeholders, a function and its arguments", c->name);
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_call_dref(c, 3, &func);
  if (status == DISCO_OK) status = dsc_session_call(session, func, c->args + 4, c->count - 4, &result);
  if (status == DISCO_OK) *c->result = dsc_object_value(result);
  return status;
}

static disco_status session_sync_worker(const dsc_call *c) {
  disco_session *session;
  int32_t worker = 0;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, 0, INT32_MAX, &worker);
  return status == DISCO_OK ? disco_session_sync(session, worker, DISCO_FOREVER) : status;
}

static disco_status copy_worker0(const dsc_call *c, uint8_t message) {
  disco_session *session;
  dsc_dref *dref = NULL;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK && c->args[1].type_index != kTVMFFITensor)
    status = dsc_args_mismatch(c->name, 1, "ffi.Tensor", &c->args[1]);
  if (status == DISCO_OK) status = dsc_call_dref(c, 2, &dref);
  return status == DISCO_OK ? dsc_session_copy(session, message, c->args[1].v_obj, dref) : status;
}

static disco_status session_copy_from_worker0(const dsc_call *c) {
  return copy_worker0(c, DSC_MESSAGE_CopyFromWorker0);
}
static disco_status session_copy_to_worker0(const dsc_call *c) { return copy_worker0(c, DSC_MESSAGE_CopyToWorker0); }

static disco_status session_init_ccl(const dsc_call *c) {
  disco_session *session;
  char *name = NULL;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK && c->args[2].type_index != kTVMFFIShape)
    status = dsc_args_mismatch(c->name, 2, "ffi.Shape", &c->args[2]);
  if (status == DISCO_OK) status = dsc_call_string(c, 1, &name);
  if (status == DISCO_OK) status = dsc_session_init_ccl(session, name, &c->args[2]);
  free(name);
  return status;
}

/* (S, device ids): of this library's own data planes */
static disco_status init_own_ccl(const dsc_call *c, const char *name) {
  disco_session *session;
  const int64_t *ids = NULL;
  size_t count = 0;
  disco_status status = dsc_call_session(c, 0, &session);
  if (status == DISCO_OK && c->args[1].type_index != kTVMFFIShape)
    status = dsc_args_mismatch(c->name, 1, "ffi.Shape", &c->args[1]);
  if (status == DISCO_OK && !dsc_value_as_shape(&c->args[1], NULL, 0, &ids, &count))
    status = dsc_args_mismatch(c->name, 1, "ffi.Shape", &c->args[1]);
  return status == DISCO_OK ? dsc_session_start_plane(session, name, &c->args[1], count) : status;
}

static disco_status init_cpu(const dsc_call *c) { return init_own_ccl(c, "cpu"); }
static disco_status init_ref(const dsc_call *c) { return init_own_ccl(c, "ref"); }

static disco_status session_shutdown(const dsc_call *c) {
  disco_session *session;
  disco_status status = dsc_call_session(c, 0, &session);
  return status == DISCO_OK ? disco_session_shutdown(session) : status;
}

static disco_status dref_debug_get(const dsc_call *c) {
  dsc_dref *dref = NULL;
  int32_t worker = 0;
  disco_status status = dsc_call_dref(c, 0, &dref);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, 0, INT32_MAX, &worker);
  return status == DISCO_OK ? disco_debug_get(dref, worker, DISCO_FOREVER, c->result) : status;
}

static disco_status dref_debug_copy_from(const dsc_call *c) {
  dsc_dref *dref = NULL;
  int32_t worker = 0;
  disco_status status = dsc_call_dref(c, 0, &dref);
  if (status == DISCO_OK) status = dsc_call_int32(c, 1, 0, INT32_MAX, &worker);
  return status == DISCO_OK ? disco_debug_set(dref, worker, &c->args[2], DISCO_FOREVER) : status;
}

static disco_status refuse_hosts(const dsc_call *c) {
  return dsc_fail(DISCO_RUNTIME,
                  "%s: this libdisco has no sessions over several hosts yet; use threads or processes of one host "
                  "(runtime.disco.SessionThreaded, SessionProcess)",
                  c->name);
}

static disco_status libdisco_version(const dsc_call *c) {
  return dsc_value_from_string(disco_version(), strlen(disco_version()), c->result);
}

/* ---- The tables ---- */

#define TVM_PREFIX "runtime.disco."
#define OWN_PREFIX "libdisco."

static const dsc_call_entry entries[] = {
    {"runtime.disco.SessionThreaded", 2, session_threaded},
    {"runtime.disco.SessionProcess", 4, session_process},
    {"runtime.disco.WorkerProcess", 5, worker_process},
    {"runtime.disco.SessionGetNumWorkers", 1, session_get_num_workers},
    {"runtime.disco.SessionGetGlobalFunc", 2, session_get_global_func},
    {"runtime.disco.SessionCallPacked", -1, session_call_packed},
    {"runtime.disco.SessionSyncWorker", 2, session_sync_worker},
    {"runtime.disco.SessionCopyFromWorker0", 3, session_copy_from_worker0},
    {"runtime.disco.SessionCopyToWorker0", 3, session_copy_to_worker0},
    {"runtime.disco.SessionInitCCL", 3, session_init_ccl},
    {"runtime.disco.cpu.init_ccl", 2, init_cpu},
    {"runtime.disco.ref.init_ccl", 2, init_ref},
    {"runtime.disco.SessionShutdown", 1, session_shutdown},
    {"runtime.disco.DRefDebugGetFromRemote", 2, dref_debug_get},
    {"runtime.disco.DRefDebugCopyFrom", 3, dref_debug_copy_from},
    /* All of them, so that none of TVM's own meets our objects. */
    {"runtime.disco.SocketSession", -1, refuse_hosts},
    {"runtime.disco.RemoteSocketSession", -1, refuse_hosts},
    {"runtime.disco.socket_session_init_workers", -1, refuse_hosts},
    {"runtime.disco.libdisco_version", 0, libdisco_version}, /* by it a client sees whose functions it has */
};

static int run_entry(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  const dsc_call_entry *which = self;
  dsc_call c = {which->name, args, num_args, result};
  *result = dsc_none();
  disco_status status = which->arguments >= 0 ? dsc_args_count(which->name, num_args, which->arguments) : DISCO_OK;
  if (!dsc_python_stay_out()) status = dsc_fail(DISCO_CLOSED, "%s: the interpreter is ending", which->name);
  if (status == DISCO_OK) status = which->function(&c);
  (void)dsc_python_stay_out();
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}

static bool is_tvms(const char *name) { return strncmp(name, TVM_PREFIX, strlen(TVM_PREFIX)) == 0; }

/* Under its own name, or that of TVM's client with our prefix. */
static disco_status register_own(const char *name, TVMFFISafeCallType function, void *self) {
  char own[128];
  (void)snprintf(own, sizeof(own), OWN_PREFIX "%s", name + strlen(is_tvms(name) ? TVM_PREFIX : OWN_PREFIX));
  return disco_register_function(own, function, self, NULL, false);
}

static disco_status register_tvms(const char *name, TVMFFISafeCallType function, void *self, bool override) {
  return is_tvms(name) ? disco_register_function(name, function, self, NULL, override) : DISCO_OK;
}

#define SELF(entry) (void *)(uintptr_t)(entry)

disco_status dsc_globals_publish(bool override) {
  disco_status status = DISCO_OK;
  for (size_t i = 0; status == DISCO_OK && i < sizeof(entries) / sizeof(entries[0]); i++)
    status = register_tvms(entries[i].name, run_entry, SELF(&entries[i]), override);
  for (int i = 0; status == DISCO_OK && i < dsc_builtin_count; i++)
    status = register_tvms(dsc_builtins[i].name, dsc_builtins[i].function, dsc_builtins[i].self, override);
  return status;
}

disco_status dsc_globals_register_own(void) {
  disco_status status = DISCO_OK;
  for (size_t i = 0; status == DISCO_OK && i < sizeof(entries) / sizeof(entries[0]); i++)
    status = register_own(entries[i].name, run_entry, SELF(&entries[i]));
  for (int i = 0; status == DISCO_OK && i < dsc_own_entry_count; i++)
    status = register_own(dsc_own_entries[i].name, run_entry, SELF(&dsc_own_entries[i]));
  for (int i = 0; status == DISCO_OK && i < dsc_builtin_count; i++)
    status = register_own(dsc_builtins[i].name, dsc_builtins[i].function, dsc_builtins[i].self);
  return status;
}
