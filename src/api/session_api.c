/* Bodies of include/disco/disco.h: check what a caller can get wrong, then call the session room. */
#include "api/session_api.h"
#include "ccl/alias.h"

#include <stdlib.h>
#include <string.h>

#include "api/startup.h"
#include "base/log.h"
#include "base/settings.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/value.h"
#include "session/remote.h"
#include "session/session.h"
#include "wire/limits.h"

_Static_assert((int)DISCO_TYPE_DREF == (int)DSC_TYPE_DREF, "one number, for users and for us");

#define TEXT_OF(x) TEXT_OF_(x)
#define TEXT_OF_(x) #x

const char *disco_version(void) {
  return TEXT_OF(DISCO_VERSION_MAJOR) "." TEXT_OF(DISCO_VERSION_MINOR) "." TEXT_OF(DISCO_VERSION_PATCH);
}

static disco_status missing(const char *function, const char *what) {
  return dsc_fail(DISCO_VALUE, "%s: %s is NULL", function, what);
}

/* The one macro that hides a return. */
#define REQUIRE(pointer) \
  if ((pointer) == NULL) return missing(__func__, #pointer)

disco_status disco_action_name(int64_t action, const char **ret_name) {
  REQUIRE(ret_name);
  switch (action) {
#define NAME_CASE(name, value) \
  case value: *ret_name = "k" #name; return DISCO_OK;
    DISCO_ACTION_LIST(NAME_CASE)
#undef NAME_CASE
  default: return dsc_fail(DISCO_VALUE, "Unknown DiscoAction: %lld", (long long)action);
  }
}

/* ---- Sessions ---- */

static disco_status check_range(const char *name, uint64_t value, uint64_t low, uint64_t high) {
  if (value >= low && value <= high) return DISCO_OK;
  return dsc_fail(DISCO_VALUE, "option %s is %llu; it must be between %llu and %llu", name, (unsigned long long)value,
                  (unsigned long long)low, (unsigned long long)high);
}

static disco_status check_counts(int64_t workers, int64_t groups) {
  if (workers < 1 || workers > DSC_MAX_WORKERS)
    return dsc_fail(DISCO_VALUE, "a session has 1 to %d workers, not %lld", DSC_MAX_WORKERS, (long long)workers);
  if (groups < 1 || workers % groups != 0)
    return dsc_fail(DISCO_VALUE, "the number of workers (%lld) must be divisible by the number of groups (%lld)",
                    (long long)workers, (long long)groups);
  return DISCO_OK;
}

/* *ret_options: what was given, whole, with the defaults. */
static disco_status read_options(const disco_session_options *given, disco_session_options *ret_options,
                                 dsc_settings *ret_settings) {
  disco_session_options options = {0};
  if (given->struct_size < offsetof(disco_session_options, ring_bytes))
    return dsc_fail(DISCO_VALUE, "options.struct_size is %zu: set it to sizeof(disco_session_options)",
                    given->struct_size);
  memcpy(&options, given, given->struct_size < sizeof(options) ? given->struct_size : sizeof(options));
#define DEFAULT_OF(name, field, value, unit) \
  if (options.field == 0) options.field = DSC_DEFAULT_##name;
  DSC_OPTION_LIST(DEFAULT_OF)
#undef DEFAULT_OF
  disco_status status = check_counts(options.num_workers, options.num_groups);
  if (status == DISCO_OK)
    status = check_range("ring_bytes", options.ring_bytes, DSC_MIN_RING_BYTES, DSC_MAX_RING_BYTES);
  if (status == DISCO_OK && (options.ring_bytes & (options.ring_bytes - 1)) != 0)
    status = dsc_fail(DISCO_VALUE, "option ring_bytes is %u; it must be a power of two", options.ring_bytes);
  if (status == DISCO_OK) status = check_range("grace_ms", options.grace_ms, 1, 3600 * 1000);
  if (status == DISCO_OK) status = check_range("spin_us", options.spin_us, 1, 1000 * 1000);
  if (status == DISCO_OK) status = check_range("stopped_ms", options.stopped_ms, 10, 3600 * 1000);
  if (status == DISCO_OK)
    status = check_range("transport", options.transport, DISCO_TRANSPORT_AUTO, DISCO_TRANSPORT_PIPE);
  if (status != DISCO_OK) return status;
  *ret_settings = (dsc_settings){.num_workers = options.num_workers,
                                 .num_groups = options.num_groups,
                                 .ring_bytes = options.ring_bytes,
                                 .grace_ms = options.grace_ms,
                                 .slow_warning_ms = options.slow_warning_ms,
                                 .spin_us = options.spin_us,
                                 .stopped_ms = options.stopped_ms,
                                 .pipe_only = options.transport == DISCO_TRANSPORT_PIPE,
                                 .arena_bytes = options.arena_bytes,
                                 .collective_timeout_ms = options.collective_timeout_ms};
  status = dsc_ccl_alias_read(options.ccl_alias, ret_settings->ccl_alias);
  *ret_options = options;
  return status;
}

disco_status dsc_create_threaded(const disco_session_options *options, const void *creation_site,
                                 disco_session **ret_session) {
  dsc_settings settings;
  disco_session_options whole;
  disco_status status = dsc_startup_status();
  if (status == DISCO_OK) status = read_options(options, &whole, &settings);
  return status == DISCO_OK ? dsc_session_create(&settings, NULL, creation_site, ret_session) : status;
}

static disco_status check_channels(const disco_session_options *options) {
  for (int32_t i = 1; options->channels != NULL && i < options->num_workers; i++) {
    const disco_channel *channel = options->channels[i - 1];
    if (channel == NULL || channel->ops == NULL || channel->ops->struct_size < sizeof(disco_channel_ops))
      return dsc_fail(DISCO_VALUE,
                      "options.channels[%d], for worker %d, is NULL or has no ops, or older ones than this libdisco's",
                      i - 1, i);
  }
  return DISCO_OK;
}

disco_status dsc_create_process(const disco_session_options *options, const void *creation_site,
                                disco_session **ret_session) {
  dsc_settings settings;
  disco_session_options whole = {0};
  disco_status status = dsc_startup_status();
  if (status == DISCO_OK && ret_session == NULL)
    status = dsc_fail(DISCO_VALUE, "disco_session_create_process: ret_session is NULL");
  if (status == DISCO_OK) status = read_options(options, &whole, &settings);
  if (status == DISCO_OK) status = check_channels(&whole);
  if (status != DISCO_OK) {
    memcpy(&whole, options, options->struct_size < sizeof(whole) ? options->struct_size : sizeof(whole));
    dsc_channels_destroy(&whole);
    return status;
  }
  return dsc_session_create(&settings, &whole, creation_site, ret_session);
}

disco_status disco_session_create_process(const disco_session_options *options, disco_session **ret_session) {
  REQUIRE(options);
  return dsc_create_process(options, __builtin_return_address(0), ret_session);
}

disco_status disco_session_create_threaded(const disco_session_options *options, disco_session **ret_session) {
  REQUIRE(options);
  REQUIRE(ret_session);
  return dsc_create_threaded(options, __builtin_return_address(0), ret_session);
}

void disco_session_ref(disco_session *session) { dsc_object_ref(session, 1); }

void disco_session_unref(disco_session *session) {
  if (session != NULL) dsc_object_unref(session);
}

disco_status disco_session_shutdown(disco_session *session) {
  REQUIRE(session);
  return dsc_session_shutdown(session);
}

int32_t disco_session_num_workers(const disco_session *session) { return session->engine->settings.num_workers; }
int32_t disco_session_num_groups(const disco_session *session) { return session->engine->settings.num_groups; }

/* ---- Registers and calls ---- */

void disco_dref_ref(disco_dref *dref) { dsc_object_ref(dref, 1); }

void disco_dref_unref(disco_dref *dref) {
  if (dref != NULL) dsc_object_unref(dref);
}

int64_t disco_dref_reg_id(const disco_dref *dref) { return dref->reg_id; }
disco_session *disco_dref_session(const disco_dref *dref) { return dref->session; }

disco_status disco_session_get_global_func(disco_session *session, const char *name, disco_dref **ret_func) {
  REQUIRE(session);
  REQUIRE(name);
  REQUIRE(ret_func);
  return dsc_session_get_global_func(session, name, ret_func);
}

disco_status disco_call(disco_session *session, disco_dref *func, const TVMFFIAny *args, int32_t num_args,
                        disco_dref **ret_result) {
  REQUIRE(session);
  REQUIRE(func);
  if (num_args > 0) REQUIRE(args);
  return dsc_session_call(session, func, args, num_args, ret_result);
}

disco_status disco_call_packed(disco_session *session, const TVMFFIAny *packed, int32_t num_packed,
                               disco_dref **ret_result) {
  REQUIRE(session);
  if (num_packed < 3 || packed == NULL)
    return dsc_fail(DISCO_TYPE, "a packed call is {3, 0, function, arguments...}: at least 3 values, not %d",
                    num_packed);
  if (packed[0].type_index != kTVMFFIInt || packed[0].v_int64 != DISCO_ACTION_CallPacked)
    return dsc_fail(DISCO_VALUE, "the first value of a packed call is the action, %d", DISCO_ACTION_CallPacked);
  if (packed[2].type_index != DSC_TYPE_DREF)
    return dsc_fail(
        DISCO_TYPE,
        "Cannot convert from type `%s` to `runtime.disco.DRef`: the third value of a packed call is the function",
        dsc_value_type_name(&packed[2]));
  return dsc_session_call(session, (dsc_dref *)packed[2].v_obj, packed + 3, num_packed - 3, ret_result);
}

disco_status disco_session_put(disco_session *session, const TVMFFIAny *value, disco_dref **ret_dref) {
  REQUIRE(session);
  REQUIRE(value);
  REQUIRE(ret_dref);
  return dsc_session_put(session, value, ret_dref);
}

disco_status disco_session_dealloc_reg(disco_session *session, int64_t reg_id) {
  REQUIRE(session);
  return dsc_session_dealloc(session, reg_id);
}

disco_status disco_copy_from_worker0(disco_session *session, TVMFFIObjectHandle host, disco_dref *src) {
  REQUIRE(session);
  REQUIRE(host);
  REQUIRE(src);
  return dsc_session_copy(session, DSC_MESSAGE_CopyFromWorker0, host, src);
}

disco_status disco_copy_to_worker0(disco_session *session, TVMFFIObjectHandle host, disco_dref *dst) {
  REQUIRE(session);
  REQUIRE(host);
  REQUIRE(dst);
  return dsc_session_copy(session, DSC_MESSAGE_CopyToWorker0, host, dst);
}

/* ---- Waiting ---- */

disco_status disco_session_sync(disco_session *session, int32_t worker, int64_t timeout_ms) {
  REQUIRE(session);
  return dsc_session_sync(session, worker, timeout_ms);
}

uint64_t disco_session_sequence(const disco_session *session) {
  return dsc_load_acquire(&session->engine->sequence); /* acquire: engine.sequence */
}

disco_status disco_session_done_fd(disco_session *session, int *ret_fd) {
  REQUIRE(session);
  REQUIRE(ret_fd);
  disco_status status = dsc_enter_fork(session->engine, "done_fd");
  return status == DISCO_OK ? dsc_done_open(session->engine, ret_fd) : status;
}

disco_status disco_session_arm_done(disco_session *session, uint64_t sequence) {
  REQUIRE(session);
  dsc_engine *engine = session->engine;
  int fd = -1;
  disco_status status = dsc_enter_fork(engine, "arm_done");
  uint64_t posted = dsc_load_acquire(&engine->sequence); /* acquire: engine.sequence */
  if (status == DISCO_OK && sequence > posted)
    status = dsc_fail(DISCO_VALUE, "arm_done: command %llu was not posted yet, the last is %llu",
                      (unsigned long long)sequence, (unsigned long long)posted);
  if (status == DISCO_OK) status = dsc_done_open(engine, &fd);
  if (status == DISCO_OK) dsc_done_arm(engine, sequence);
  return status;
}

disco_status disco_session_is_done(const disco_session *session, int32_t worker, uint64_t sequence, bool *ret_done) {
  REQUIRE(session);
  REQUIRE(ret_done);
  const dsc_engine *engine = session->engine;
  disco_status status = dsc_enter_fork(engine, "is_done");
  if (status == DISCO_OK) status = dsc_check_worker(engine, worker, true);
  if (status != DISCO_OK) return status;
  int32_t first = worker == DISCO_ALL_WORKERS ? 0 : worker,
          last = worker == DISCO_ALL_WORKERS ? engine->settings.num_workers - 1 : worker;
  bool done = true;
  for (int32_t i = first; i <= last; i++)
    done = done && dsc_load_acquire(&dsc_segment_status(engine->segment.header, i)->done) >=
                       sequence; /* acquire: status.done */
  *ret_done = done;
  return DISCO_OK;
}

disco_status disco_debug_get(disco_dref *dref, int32_t worker, int64_t timeout_ms, TVMFFIAny *ret_value) {
  REQUIRE(dref);
  REQUIRE(ret_value);
  disco_status status = dsc_check_worker(dref->session->engine, worker, false);
  return status == DISCO_OK ? dsc_session_get(dref->session, dref, 0, worker, timeout_ms, ret_value) : status;
}

disco_status disco_debug_get_all(disco_dref *dref, int64_t timeout_ms, int32_t num_values, TVMFFIAny *ret_values) {
  REQUIRE(dref);
  REQUIRE(ret_values);
  int32_t workers = dref->session->engine->settings.num_workers;
  if (num_values < workers)
    return dsc_fail(DISCO_VALUE, "%s: room for %d values, but the session has %d workers", __func__, num_values,
                    workers);
  return dsc_session_get(dref->session, dref, 0, DISCO_ALL_WORKERS, timeout_ms, ret_values);
}

disco_status disco_debug_set(disco_dref *dref, int32_t worker, const TVMFFIAny *value, int64_t timeout_ms) {
  REQUIRE(dref);
  REQUIRE(value);
  return dsc_session_set(dref->session, dref, 0, worker, value, timeout_ms);
}

disco_status disco_session_debug_get(disco_session *session, int64_t reg_id, int32_t worker, int64_t timeout_ms,
                                     TVMFFIAny *ret_value) {
  REQUIRE(session);
  REQUIRE(ret_value);
  disco_status status = dsc_check_worker(session->engine, worker, false);
  return status == DISCO_OK ? dsc_session_get(session, NULL, reg_id, worker, timeout_ms, ret_value) : status;
}

disco_status disco_session_debug_set(disco_session *session, int64_t reg_id, int32_t worker, const TVMFFIAny *value,
                                     int64_t timeout_ms) {
  REQUIRE(session);
  REQUIRE(value);
  return dsc_session_set(session, NULL, reg_id, worker, value, timeout_ms);
}

/* ---- Data plane ---- */

disco_status disco_session_init_ccl(disco_session *session, const char *name, const int64_t *device_ids,
                                    int32_t num_device_ids) {
  REQUIRE(session);
  REQUIRE(name);
  if (num_device_ids > 0) REQUIRE(device_ids);
  TVMFFIObject *make = NULL;
  disco_status status = dsc_function_find("ffi.Shape", &make);
  if (status != DISCO_OK) return status;
  if (num_device_ids < 0 || num_device_ids > DSC_MAX_WORKERS || make == NULL) {
    if (make != NULL) dsc_object_unref(make);
    return dsc_fail(DISCO_VALUE, "init_ccl: %d device ids; there are at most %d workers", num_device_ids,
                    DSC_MAX_WORKERS);
  }
  TVMFFIAny *ids = calloc((size_t)num_device_ids + 1, sizeof(*ids)), shape = dsc_none();
  if (ids == NULL) {
    dsc_object_unref(make);
    return dsc_fail(DISCO_MEMORY, "no memory for the device ids");
  }
  for (int32_t i = 0; i < num_device_ids; i++) ids[i] = dsc_int(device_ids[i]);
  if (TVMFFIFunctionCall(make, ids, num_device_ids, &shape) != 0) status = dsc_error_take_raised(DISCO_VALUE);
  if (status == DISCO_OK) status = dsc_session_init_ccl(session, name, &shape);
  dsc_value_drop(&shape);
  free(ids);
  dsc_object_unref(make);
  return status;
}

/* ---- Looking ---- */

disco_status disco_session_last_error(disco_session *session, int32_t index, disco_error_info *ret_error) {
  REQUIRE(session);
  REQUIRE(ret_error);
  dsc_engine *engine = session->engine;
  dsc_error copy;
  disco_status status = dsc_enter_fork(engine, "last_error");
  if (status != DISCO_OK) return status;
  (void)dsc_lock_take(&engine->lock, NULL); /* held for an issue at most */
  uint64_t kept = engine->history_count < DSC_HISTORY ? engine->history_count : DSC_HISTORY;
  bool there = index >= 0 && (uint64_t)index < kept;
  if (there) dsc_error_copy(&engine->history[(engine->history_count - 1 - (uint64_t)index) % DSC_HISTORY], &copy);
  dsc_leave(engine);
  if (!there) return dsc_fail(DISCO_VALUE, "there is no error %d: %llu are kept", index, (unsigned long long)kept);
  (void)dsc_fail_with(&copy); /* the thread keeps the strings */
  dsc_error_view(dsc_thread_error(), ret_error);
  return DISCO_OK;
}

disco_status disco_session_get_stats(disco_session *session, disco_session_stats *ret_stats) {
  REQUIRE(session);
  REQUIRE(ret_stats);
  if (ret_stats->struct_size == 0) return dsc_fail(DISCO_VALUE, "%s: set struct_size first", __func__);
  disco_status status = dsc_enter_fork(session->engine, "get_stats");
  return status == DISCO_OK ? dsc_engine_stats(session->engine, ret_stats) : status;
}

disco_status disco_session_get_progress(const disco_session *session, int32_t worker, disco_progress *ret_progress) {
  REQUIRE(session);
  REQUIRE(ret_progress);
  if (ret_progress->struct_size == 0) return dsc_fail(DISCO_VALUE, "%s: set struct_size first", __func__);
  disco_status status = dsc_enter_fork(session->engine, "get_progress");
  if (status == DISCO_OK) status = dsc_check_worker(session->engine, worker, false);
  if (status == DISCO_OK) dsc_engine_progress(session->engine, worker, ret_progress);
  return status;
}

disco_status disco_session_dump(disco_session *session, char **ret_text) {
  REQUIRE(session);
  REQUIRE(ret_text);
  disco_status status = dsc_enter_fork(session->engine, "dump");
  return status == DISCO_OK ? dsc_engine_dump(session->engine, ret_text) : status;
}

void disco_text_free(char *text) { free(text); }

void disco_set_log_callback(disco_log_fn fn, void *context, disco_log_level level) {
  dsc_log_set((dsc_log_fn)fn, context, (int)level);
}
