/* Loading: types at once; the functions runtime.disco.* at once, unless TVM's runtime is only half there
 * (docs/architecture.md, Loading). */
#include "api/startup.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "api/globals.h"
#include "base/atomics.h"
#include "base/log.h"
#include "base/settings.h"
#include "disco/disco.h"
#include "disco/worker.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/object.h"
#include "ffi/value.h"
#include "os/fork.h"
#include "os/library.h"
#include "session/session.h"

static char unusable[512]; /* why */
static _Atomic bool is_unusable;
static _Atomic bool published;
static pthread_mutex_t publish_lock = PTHREAD_MUTEX_INITIALIZER;

/* A private global function is the mark that a copy of libdisco is here: its result is that copy's address. */
static int answer_instance(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  result->type_index = kTVMFFIOpaquePtr;
  result->v_ptr = unusable;
  return 0;
}

/* Their registries are apart: what one of them registers the other does not know. */
static bool has_two_ffi_copies(void) {
  char path[256] = "";
  if (dsc_library_count("libtvm_ffi.so", path, sizeof(path)) < 2) return false;
  (void)snprintf(unusable, sizeof(unusable),
                 "two copies of libtvm_ffi.so are in this process (one is %s): their registries are apart; load only "
                 "one, the one that Python uses",
                 path);
  return true;
}

static void look_for_other_copies(void) {
  TVMFFIObject *other = NULL;
  if (has_two_ffi_copies()) return;
  if (dsc_function_find("libdisco._instance", &other) == DISCO_OK && other != NULL) {
    (void)snprintf(unusable, sizeof(unusable), "another copy of libdisco is already in this process: load only one");
    dsc_object_unref(other);
  } else if (disco_register_function("libdisco._instance", answer_instance, NULL, NULL, false) != DISCO_OK) {
    (void)snprintf(unusable, sizeof(unusable), "TVM-FFI refused to register a function: %s", disco_last_error_text());
  }
}

/* Looked at once more with the first session, since a second libtvm_ffi may come after us. Not with every one: the
 * loader's lock that this takes may be held by another thread when the process forks. */
disco_status dsc_startup_status(void) {
  static _Atomic bool looked_again;
  if (!dsc_load_acquire(&is_unusable) && !atomic_exchange(&looked_again, true) && has_two_ffi_copies())
    dsc_store_release(&is_unusable, true); /* release: startup.unusable, the sentence is there */
  return dsc_load_acquire(&is_unusable) ? dsc_fail(DISCO_RUNTIME, "%s", unusable) : DISCO_OK;
}

/* lock held */
static disco_status publish(bool override) {
  if (dsc_load_relaxed(&published)) return DISCO_OK;
  disco_status status = dsc_globals_publish(override);
  if (status == DISCO_OK) dsc_store_relaxed(&published, true);
  return status;
}

disco_status disco_publish(void) {
  disco_status status = dsc_startup_status();
  if (status != DISCO_OK) return status;
  pthread_mutex_lock(&publish_lock);
  status = publish(true);
  pthread_mutex_unlock(&publish_lock);
  return status;
}

const char *dsc_startup_names(void) {
  TVMFFIObject *front = NULL, *own = NULL;
  if (dsc_load_relaxed(&published)) return "libdisco";
  (void)dsc_function_find("runtime.disco.SessionThreaded",
                          &front); /* ours by our own name, where nobody has this one */
  (void)dsc_function_find("libdisco.SessionThreaded", &own);
  const char *who = front == NULL || front == own ? "nobody" : "another library";
  if (front != NULL) dsc_object_unref(front);
  if (own != NULL) dsc_object_unref(own);
  return who;
}

__attribute__((constructor)) static void load(void) {
  dsc_log_install();
  dsc_fork_install();
  (void)dsc_library_path(); /* while a relative one still holds */
  look_for_other_copies();
  if (unusable[0] != 0) {
    dsc_store_release(&is_unusable, true);
    dsc_log(DSC_LOG_ERROR, "%s", unusable);
    return;
  }
  (void)dsc_object_register_types();
  dsc_session_install();
  if (dsc_globals_register_own() != DISCO_OK)
    dsc_log(DSC_LOG_WARN, "libdisco.* was not registered: %s", disco_last_error_text());
  if (strcmp(dsc_setting(DSC_SETTING_FFI_GLOBALS), "0") == 0) return;
  bool extra = dsc_library_count("libtvm_runtime_extra", NULL, 0) > 0;
  bool base = dsc_library_count("libtvm_runtime.so", NULL, 0) > 0 || dsc_library_count("libtvm.so", NULL, 0) > 0;
  /* With the base runtime alone, its extra library may still come, and would abort on taken names: disco_publish() is
   * called when it is safe. */
  if (base && !extra) return;
  pthread_mutex_lock(&publish_lock);
  if (publish(extra) != DISCO_OK)
    dsc_log(DSC_LOG_WARN, "runtime.disco.* was not registered: %s", disco_last_error_text());
  pthread_mutex_unlock(&publish_lock);
}
