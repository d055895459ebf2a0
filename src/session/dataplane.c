/* Starting a data plane: its own init function, registered under its name, does the work. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "ccl/backend.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "session/session.h"

typedef struct {
  dsc_text known;
  int count;
} known_names;

/* runtime.disco.<name>.init_ccl, where <name> has no dot. */
static void offer_known(void *context, const char *function) {
  known_names *self = context;
  const char *name = function + strlen("runtime.disco."), *dot = strchr(name, '.');
  if (dot == NULL || strcmp(dot, ".init_ccl") != 0) return;
  dsc_text_add(&self->known, "%s`%.*s`", self->count++ == 0 ? "" : ", ", (int)(dot - name), name);
}

static disco_status unknown_ccl(const char *name, const char *function) {
  known_names names = {DSC_TEXT_INIT, 0};
  (void)dsc_function_each_name("runtime.disco.", offer_known, &names);
  disco_status status =
      dsc_fail(DISCO_VALUE, "Cannot initialize CCL `%s`, because cannot find function: %s; known are: %s", name,
               function, names.count > 0 && names.known.data != NULL ? names.known.data : "none");
  dsc_text_fini(&names.known);
  return status;
}

/* Our function on a worker says what is wrong with a status of ours, which its being raised has hidden. */
static disco_status restate(disco_status status, const char *function) {
  const dsc_error *told = dsc_thread_error();
  if (status != DISCO_RAISED || told == NULL || told->function == NULL || strcmp(told->function, function) != 0)
    return status;
  dsc_error mine;
  dsc_error_copy(told, &mine);
  mine.status = dsc_status_of_kind(told->kind);
  return dsc_fail_with(&mine);
}

disco_status dsc_session_start_plane(disco_session *session, const char *backend, const TVMFFIAny *device_ids,
                                     size_t num_device_ids) {
  char name[64];
  dsc_dref *function = NULL;
  int32_t workers = session->engine->settings.num_workers;
  if (num_device_ids != (size_t)workers)
    return dsc_fail(DISCO_VALUE,
                    "init_ccl(\"%s\"): %zu device ids for %d workers; give one for each (any number: this "
                    "data plane binds nothing to them)",
                    backend, num_device_ids, workers);
  if (dsc_load_relaxed(&session->engine->has_own_plane))
    return dsc_fail(DISCO_RUNTIME,
                    "init_ccl(\"%s\"): this session has its data plane already, one is all it can have; make another "
                    "session for another",
                    backend);
  char alias[DSC_CCL_ALIAS_MAX];
  dsc_ccl_name(session->engine->settings.ccl_alias, alias);
  TVMFFIAny args[2] = {*device_ids, dsc_none()};
  args[1].type_index = kTVMFFIRawStr;
  args[1].v_c_str = alias;
  (void)snprintf(name, sizeof(name), "runtime.disco.%s.init_ccl_per_worker", backend);
  disco_status status = dsc_session_get_global_func(session, name, &function);
  if (status == DISCO_OK) status = dsc_session_call(session, function, args, 2, NULL);
  if (function != NULL) disco_dref_unref(function);
  if (status == DISCO_OK) status = dsc_session_sync(session, DISCO_ALL_WORKERS, DISCO_FOREVER);
  if (status == DISCO_OK) dsc_store_relaxed(&session->engine->has_own_plane, true);
  return restate(status, name);
}

disco_status dsc_session_init_ccl(disco_session *session, const char *name, const TVMFFIAny *device_ids) {
  dsc_engine *engine = session->engine;
  disco_status status = dsc_enter(engine, "init_ccl");
  if (status != DISCO_OK) return status;
  char function_name[128];
  if (*name == 0 || strlen(name) >= DSC_CCL_NAME_MAX)
    return dsc_fail(DISCO_VALUE, "init_ccl: a data plane's name has 1 to %d bytes, not %zu", DSC_CCL_NAME_MAX - 1,
                    strlen(name));
  if (dsc_backend_find(name) != NULL) { /* without a detour over the registry, so that an error keeps its status */
    const int64_t *ids = NULL;
    size_t count = 0;
    (void)dsc_value_as_shape(device_ids, NULL, 0, &ids, &count);
    return dsc_session_start_plane(session, name, device_ids, count);
  }
  (void)snprintf(function_name, sizeof(function_name), "runtime.disco.%s.init_ccl", name);
  TVMFFIObject *function = NULL;
  status = dsc_function_find(function_name, &function);
  if (status != DISCO_OK) return status;
  if (function == NULL) {
    const char *own = dsc_ccl_alias_target(engine->settings.ccl_alias, name);
    return own != NULL ? dsc_session_init_ccl(session, own, device_ids) : unknown_ccl(name, function_name);
  }
  TVMFFIAny args[2] = {dsc_object_value(session), *device_ids}, result = dsc_none();
  if (TVMFFIFunctionCall(function, args, 2, &result) != 0) status = dsc_error_take_raised(DISCO_RAISED);
  dsc_value_drop(&result);
  dsc_object_unref(function);
  if (status == DISCO_OK) dsc_store_relaxed(&engine->has_data_plane, true);
  return status;
}
