#include "ffi/python.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "base/atomics.h"

/* Of Python's stable ABI. PyObject stays opaque. */
typedef struct {
  const char *name;
  void *(*function)(void *self, void *unused);
  int flags;
  const char *doc;
} method_def; /* PyMethodDef */

enum { METH_NOARGS = 4 };

static void (*exit_fn)(void);
static void *(*save_thread)(void);
static void (*restore_thread)(void *state);
static void *(*build_value)(const char *format, ...);

/* Python calls it from its atexit module, with the GIL. */
static void *at_exit(void *self, void *unused) {
  (void)self;
  (void)unused;
  void *state = save_thread();
  exit_fn();
  restore_thread(state);
  return build_value(""); /* None */
}

static method_def exit_method = {"libdisco_exit", at_exit, METH_NOARGS, "Stops the sessions of libdisco."};

static bool find(const char *name, void *ret_function) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  memcpy(ret_function, &symbol, sizeof(symbol));
  return symbol != NULL;
}

/* GIL held. atexit.register(exit_method) */
static bool register_hook(void) {
  void *(*import)(const char *) = NULL, *(*call_method)(void *, const char *, const char *, ...) = NULL;
  void *(*make_function)(method_def *, void *, void *) = NULL;
  void (*decref)(void *) = NULL, (*clear)(void) = NULL;
  if (!find("PyImport_ImportModule", &import) || !find("PyObject_CallMethod", &call_method) ||
      !find("PyCFunction_NewEx", &make_function) || !find("Py_DecRef", &decref) || !find("PyErr_Clear", &clear))
    return false;
  void *module = import("atexit"), *function = make_function(&exit_method, NULL, NULL), *done = NULL;
  if (module != NULL && function != NULL) done = call_method(module, "register", "O", function);
  if (done == NULL) clear();
  decref(module); /* NULL allowed */
  decref(function);
  decref(done);
  return done != NULL;
}

void dsc_python_at_exit(void (*fn)(void)) {
  static _Atomic bool installed;
  int (*is_initialized)(void) = NULL, (*ensure)(void) = NULL;
  void (*release)(int) = NULL;
  if (dsc_load_relaxed(&installed) || !find("Py_IsInitialized", &is_initialized) || is_initialized() == 0) return;
  if (!find("PyGILState_Ensure", &ensure) || !find("PyGILState_Release", &release)) return;
  int state = ensure();
  if (!dsc_load_relaxed(&installed) && find("PyEval_SaveThread", &save_thread) &&
      find("PyEval_RestoreThread", &restore_thread) && find("Py_BuildValue", &build_value)) {
    exit_fn = fn;
    dsc_store_relaxed(&installed, register_hook());
  }
  release(state);
}
