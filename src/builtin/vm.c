#include "builtin/vm.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "builtin/basic.h"
#include "ffi/args.h"
#include "ffi/error.h"
#include "ffi/function.h"
#include "ffi/value.h"
#include "os/file.h"
#include "worker/worker.h"

static const char function_name[] = "runtime.disco.load_vm_module";

/* ---- Libraries, each opened once per process ---- */

/* A path, and the module behind it as long as this process lives: it is never closed, because its code may be on any
 * thread's stack, nor freed at exit, because what a loader of the user's gave may need an interpreter that has ended by
 * then. A file that is replaced later is not seen under the same path: the system's loader, too, knows what is open by
 * its name and would hand out the old code again, under the new file's constants. New code needs a new name. */
typedef struct library library;
struct library {
  library *next;
  TVMFFIObject *module; /* NULL as long as `opener` is at it */
  pthread_t opener;
  char path[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows; never held while a library is opened */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static library *libraries;

/* Whoever was opening something is not in the child, which opens anew what it needs. */
static void in_forked_child(void) {
  lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
  changed = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
  libraries = NULL;
}

static void install_fork_handler(void) { (void)pthread_atfork(NULL, NULL, in_forked_child); }

/* lock held */
static library *find(const char *path) {
  library *at = libraries;
  while (at != NULL && strcmp(at->path, path) != 0) at = at->next;
  return at;
}

/* lock held; NULL with DISCO_MEMORY */
static library *add(const char *path) {
  library *self = dsc_alloc(sizeof(*self) + strlen(path) + 1, "the entry of a library");
  if (self == NULL) return NULL;
  memcpy(self->path, path, strlen(path) + 1);
  self->opener = pthread_self();
  self->next = libraries;
  libraries = self;
  return self;
}

static void settle(library *self, TVMFFIObject *module) {
  pthread_mutex_lock(&lock);
  self->module = module;
  if (module == NULL) {
    library **link = &libraries;
    while (*link != self) link = &(*link)->next;
    *link = self->next;
    free(self); /* those who waited for it try themselves, and get errors of their own */
  }
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

/* The library if it is open, or NULL in *ret_module and *ret_to_open for the caller to open and settle. */
static disco_status look_up(const char *path, TVMFFIObject **ret_module, library **ret_to_open) {
  disco_status status = DISCO_OK;
  pthread_mutex_lock(&lock);
  library *it = find(path);
  while (it != NULL && it->module == NULL && !pthread_equal(it->opener, pthread_self())) {
    pthread_cond_wait(&changed, &lock);
    it = find(path);
  }
  if (it == NULL) {
    *ret_to_open = add(path);
    if (*ret_to_open == NULL) status = DISCO_MEMORY;
  } else if (it->module == NULL) {
    status = dsc_fail(DISCO_RUNTIME, "%s: %s asks for itself while it is being opened", function_name, path);
  } else {
    *ret_module = it->module;
  }
  pthread_mutex_unlock(&lock);
  return status;
}

/* ---- Calling what TVM-FFI and TVM's runtime registered ---- */

static TVMFFIAny c_string(const char *text) {
  TVMFFIAny value = dsc_none();
  value.type_index = kTVMFFIRawStr;
  value.v_c_str = text;
  return value;
}

/* Keeps what the thread's error has (kind, backtrace), and says before its message what was done with which file;
 * `hint` may be "". */
static disco_status add_context(disco_status status, const char *what, const char *path, const char *hint) {
  dsc_error error;
  dsc_text text = DSC_TEXT_INIT;
  if (dsc_thread_error() == NULL || dsc_thread_error()->status != status) return status;
  dsc_error_copy(dsc_thread_error(), &error);
  dsc_text_add(&text, "%s could not %s %s: %s%s", function_name, what, path, error.message != NULL ? error.message : "",
               hint);
  char *message = dsc_text_take(&text);
  if (message == NULL) {
    dsc_error_fini(&error);
    return status;
  }
  free(error.message);
  error.message = message;
  return dsc_fail_with(&error);
}

static disco_status call_global(const char *name, TVMFFIAny *args, int32_t num_args, TVMFFIAny *ret_value) {
  TVMFFIObject *function = NULL;
  disco_status status = dsc_function_find(name, &function);
  if (status == DISCO_OK && function == NULL)
    return dsc_fail(DISCO_RUNTIME, "TVM-FFI has no function %s: it is older than what libdisco needs", name);
  if (status != DISCO_OK) return status;
  if (TVMFFIFunctionCall(function, args, num_args, ret_value) != 0) status = dsc_error_take_raised(DISCO_RAISED);
  dsc_object_unref(function);
  return status;
}

/* The module's own function (its imports are not asked), owned, or NULL when it has none of that name. */
static disco_status method_of(TVMFFIObject *module, const char *name, TVMFFIObject **ret_function) {
  TVMFFIAny args[3] = {dsc_object_value(module), c_string(name), dsc_none()}, found = dsc_none();
  args[2].type_index = kTVMFFIBool;
  disco_status status = call_global("ffi.ModuleGetFunction", args, 3, &found);
  if (found.type_index == kTVMFFIFunction)
    *ret_function = found.v_obj;
  else
    dsc_value_drop(&found);
  return status;
}

/* What embedded executables need to be understood. */
static bool has_tvm_runtime(void) {
  TVMFFIObject *loader = NULL;
  if (dsc_function_find("ffi.Module.load_from_bytes.relax.VMExecutable", &loader) != DISCO_OK || loader == NULL)
    return false;
  dsc_object_unref(loader);
  return true;
}

/* ---- Opening ---- */

/* TVM-FFI could not use the file: is there one? A name without a slash is looked for on the system's paths, not here.
 */
static disco_status look_at_file(const char *path) {
  dsc_file file = {.fd = -1};
  disco_status status = strchr(path, '/') != NULL ? dsc_file_open(path, &file) : DISCO_OK;
  dsc_file_close(&file);
  if (status == DISCO_OK || dsc_thread_error() == NULL) return status;
  return dsc_fail(status, "%s: %s", function_name, dsc_thread_error()->message);
}

static disco_status explain(disco_status status, const char *path) {
  dsc_error why;
  if (dsc_thread_error() == NULL) return status;
  dsc_error_copy(dsc_thread_error(), &why);
  disco_status file_status = look_at_file(path);
  if (file_status != DISCO_OK) {
    dsc_error_fini(&why);
    return file_status;
  }
  return add_context(dsc_fail_with(&why), "open", path,
                     has_tvm_runtime() ? ""
                                       : " (no TVM runtime is in this process: for a compiled model, every worker "
                                         "process has to `import tvm` or load libtvm_runtime.so)");
}

static disco_status open_library(const char *path, TVMFFIObject **ret_module) {
  TVMFFIAny name = c_string(path);
  TVMFFIAny module = dsc_none();
  disco_status status = call_global("ffi.ModuleLoadFromFile", &name, 1, &module);
  if (status != DISCO_OK) return explain(status, path);
  if (module.type_index != kTVMFFIModule) {
    status = dsc_fail(DISCO_TYPE, "%s: the loader of %s gave a `%s` instead of a Module", function_name, path,
                      dsc_value_type_name(&module));
    dsc_value_drop(&module);
    return status;
  }
  *ret_module = module.v_obj;
  return DISCO_OK;
}

/* Borrowed: the entry keeps it. */
static disco_status library_of(const char *path, TVMFFIObject **ret_module) {
  static pthread_once_t fork_handler = PTHREAD_ONCE_INIT;
  library *to_open = NULL;
  (void)pthread_once(&fork_handler, install_fork_handler);
  disco_status status = look_up(path, ret_module, &to_open);
  if (status != DISCO_OK || to_open == NULL) return status;
  TVMFFIObject *module = NULL;
  status = open_library(path, &module);
  settle(to_open, module);
  if (status == DISCO_OK) *ret_module = module;
  return status;
}

/* ---- A virtual machine ---- */

/* vm_initialization(device, allocator, ..., for the host, allocator): all external functions are looked up in here. */
static disco_status initialise(TVMFFIObject *machine, const char *path, DLDevice device) {
  enum { POOLED = 2 };
  TVMFFIAny args[] = {dsc_int(device.device_type),
                      dsc_int(device.device_id),
                      dsc_int(POOLED),
                      dsc_int(kDLCPU),
                      dsc_int(0),
                      dsc_int(POOLED)};
  TVMFFIObject *function = NULL;
  TVMFFIAny nothing = dsc_none();
  disco_status status = method_of(machine, "vm_initialization", &function);
  if (status == DISCO_OK && function == NULL)
    status = dsc_fail(DISCO_TYPE, "its vm_load_executable() gave a module without vm_initialization()");
  if (status == DISCO_OK && TVMFFIFunctionCall(function, args, 6, &nothing) != 0)
    status = dsc_error_take_raised(DISCO_RAISED);
  dsc_value_drop(&nothing);
  if (function != NULL) dsc_object_unref(function);
  return status == DISCO_OK ? status : add_context(status, "start the virtual machine of", path, "");
}

/* `load` is vm_load_executable(). Owned. */
static disco_status start_machine(TVMFFIObject *load, const char *path, DLDevice device, TVMFFIAny *ret_machine) {
  TVMFFIAny machine = dsc_none();
  if (TVMFFIFunctionCall(load, NULL, 0, &machine) != 0)
    return add_context(dsc_error_take_raised(DISCO_RAISED), "make a virtual machine of", path, "");
  disco_status status = DISCO_OK;
  if (machine.type_index != kTVMFFIModule)
    status = dsc_fail(DISCO_TYPE, "%s: vm_load_executable() of %s gave a `%s` instead of a Module", function_name, path,
                      dsc_value_type_name(&machine));
  if (status == DISCO_OK) status = initialise(machine.v_obj, path, device);
  if (status == DISCO_OK)
    *ret_machine = machine;
  else
    dsc_value_drop(&machine);
  return status;
}

static disco_status load(const char *path, DLDevice device, TVMFFIAny *ret_module) {
  TVMFFIObject *library_module = NULL, *executable = NULL;
  disco_status status = library_of(path, &library_module);
  if (status == DISCO_OK) status = method_of(library_module, "vm_load_executable", &executable);
  if (status != DISCO_OK) return status;
  if (executable == NULL) {
    dsc_object_ref(library_module, 1);
    *ret_module = dsc_object_value(library_module);
    return DISCO_OK;
  }
  status = start_machine(executable, path, device, ret_module);
  dsc_object_unref(executable);
  return status;
}

static disco_status read_device(const TVMFFIAny *value, DLDevice *ret_device) {
  dsc_worker *worker = NULL;
  TVMFFIByteArray text;
  if (value->type_index != kTVMFFINone) {
    if (dsc_value_as_device(value, ret_device)) return DISCO_OK;
    if (!dsc_value_string(value, &text))
      return dsc_args_mismatch_named(function_name, 1, "device", "Optional<Device>", value);
    return dsc_fail(DISCO_TYPE,
                    "Mismatched type on argument #1 (device) when calling: `%s`. `%.*s` is unknown; a device is a name "
                    "with or without a number (cpu, cuda:1), None is the worker's own",
                    function_name, text.size < 64 ? (int)text.size : 64, text.data);
  }
  disco_status status = dsc_worker_require(function_name, &worker);
  if (status == DISCO_OK) *ret_device = worker->device;
  return status;
}

int dsc_builtin_load_vm_module(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  DLDevice device = {kDLCPU, 0};
  char *path = NULL;
  *result = dsc_none();
  disco_status status = dsc_args_count_named(function_name, num_args, 2, "path, device");
  if (status == DISCO_OK) status = read_device(&args[1], &device);
  if (status == DISCO_OK) status = dsc_builtin_text(function_name, 0, &args[0], &path);
  if (status == DISCO_OK) status = load(path, device, result);
  free(path);
  return status == DISCO_OK ? 0 : dsc_error_raise_status(status);
}
