/* The verbs of a session, over its engine. They are the bodies of include/disco/disco.h, which documents them; here the
 * arguments are already of the right type. */
#ifndef DSC_SESSION_SESSION_H
#define DSC_SESSION_SESSION_H

#include "session/engine.h"

/* Once, at load: how the ffi room knows our sessions. */
void dsc_session_install(void);
/* `processes`: NULL for worker threads, else the options of worker processes. */
disco_status dsc_session_create(const dsc_settings *settings, const disco_session_options *processes,
                                const void *creation_site, disco_session **ret_session);
disco_status dsc_session_shutdown(disco_session *session);
disco_status dsc_session_call(disco_session *session, dsc_dref *func, const TVMFFIAny *args, int32_t num_args,
                              dsc_dref **ret_result);
/* The same, and the number of the command that was posted. */
disco_status dsc_session_call_numbered(disco_session *session, dsc_dref *func, const TVMFFIAny *args, int32_t num_args,
                                       dsc_dref **ret_result, uint64_t *ret_sequence);
disco_status dsc_session_get_global_func(disco_session *session, const char *name, dsc_dref **ret_func);
disco_status dsc_session_put(disco_session *session, const TVMFFIAny *value, dsc_dref **ret_dref);
disco_status dsc_session_dealloc(disco_session *session, int64_t reg_id);
disco_status dsc_session_copy(disco_session *session, uint8_t message, TVMFFIObject *host, dsc_dref *dref);
disco_status dsc_session_sync(disco_session *session, int32_t worker, int64_t timeout_ms);
/* reg_id or dref: the one that is given (dref not NULL) wins. values and count: one, or one per worker for
 * DISCO_ALL_WORKERS. */
disco_status dsc_session_get(disco_session *session, const dsc_dref *dref, int64_t reg_id, int32_t worker,
                             int64_t timeout_ms, TVMFFIAny *ret_values);
disco_status dsc_session_set(disco_session *session, const dsc_dref *dref, int64_t reg_id, int32_t worker,
                             const TVMFFIAny *value, int64_t timeout_ms);

/* ---- dataplane.c ---- */
disco_status dsc_session_init_ccl(disco_session *session, const char *name, const TVMFFIAny *device_ids /* a Shape */);
/* Start one of this library's own data planes on every worker, and wait until all have it. */
disco_status dsc_session_start_plane(disco_session *session, const char *backend, const TVMFFIAny *device_ids,
                                     size_t num_device_ids);

/* A worker id of this session? `all` allows DISCO_ALL_WORKERS. */
disco_status dsc_check_worker(const dsc_engine *engine, int64_t worker, bool all);

#endif
