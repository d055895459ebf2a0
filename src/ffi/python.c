#include "ffi/python.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "base/atomics.h"
#include "base/compiler.h"
#include "ffi/function.h"
#include "ffi/value.h"
#include "os/thread.h"

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

static _Atomic bool ending;
static _Thread_local bool ends_it; /* this thread does */

/* Python calls it from its atexit module, with the GIL. */
static void *at_exit(void *self, void *unused) {
  (void)self;
  (void)unused;
  ends_it = true;
  dsc_store_release(&ending, true); /* release: python.ending */
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

static DSC_COLD void stay_out_for_ever(void) {
  void *(*this_state)(void) = NULL;
  if (!find("PyGILState_GetThisThreadState", &this_state) || this_state() == NULL) return;
  dsc_thread_stay();
}

void dsc_python_stay_out(void) {
  /* acquire: python.ending */
  if (DSC_UNLIKELY(dsc_load_acquire(&ending)) && !ends_it) stay_out_for_ever();
}

/* ---- Thread states ---- */

/* What TVMFFIFunctionCreate() makes holds, behind the public cell, the function that it was given: at an offset that a
 * function of our own shows. Python gives the same one for all its callables. */
static TVMFFISafeCallType trampoline;
static size_t word_offset;
static _Atomic uintptr_t callback; /* 0: nothing was learned */

enum { WORDS = 3 }; /* its self, function and deleter, in any order */

static uintptr_t word_at(const TVMFFIObject *function, size_t offset) {
  uintptr_t word;
  memcpy(&word, (const char *)function + offset, sizeof(word));
  return word;
}

static int show(void *self, const TVMFFIAny *args, int32_t num_args, TVMFFIAny *result) {
  (void)self;
  (void)args;
  (void)num_args;
  *result = dsc_none();
  return 0;
}

void dsc_python_learn(const TVMFFIObject *function) {
  static char self;
  TVMFFIObjectHandle own = NULL;
  const TVMFFISafeCallType wanted = show;
  uintptr_t shown;
  memcpy(&shown, &wanted, sizeof(shown));
  if (dsc_load_acquire(&callback) != 0 || TVMFFIFunctionCreate(&self, show, NULL, &own) != 0) return;
  const size_t first = sizeof(TVMFFIObject) + sizeof(TVMFFIFunctionCell);
  trampoline = dsc_function_cell(own)->safe_call;
  for (size_t i = 0; i < WORDS; i++)
    if (word_at(own, first + i * sizeof(uintptr_t)) == shown) word_offset = first + i * sizeof(uintptr_t);
  dsc_object_unref(own);
  const TVMFFIFunctionCell *cell = (const TVMFFIFunctionCell *)(function + 1);
  if (word_offset != 0 && cell->safe_call == trampoline)
    dsc_store_release(&callback, word_at(function, word_offset)); /* release: python.callback */
}

bool dsc_python_is_callback(const TVMFFIObject *function) {
  const TVMFFIFunctionCell *cell = (const TVMFFIFunctionCell *)(function + 1);
  uintptr_t learned = dsc_load_acquire(&callback); /* acquire: python.callback */
  return learned != 0 && cell->safe_call == trampoline && word_at(function, word_offset) == learned;
}

/* A state made by Ensure lives until its last Release: one Release is left out. */
typedef struct {
  void *thread_state;
  int ensured;
} kept_state;
static _Thread_local kept_state kept;

void dsc_python_keep_state(void) {
  int (*is_initialized)(void) = NULL, (*ensure)(void) = NULL;
  void *(*save)(void) = NULL;
  if (kept.thread_state != NULL || !find("Py_IsInitialized", &is_initialized) || is_initialized() == 0) return;
  if (!find("PyGILState_Ensure", &ensure) || !find("PyEval_SaveThread", &save)) return;
  int ensured = ensure();
  kept = (kept_state){save(), ensured};
}

void dsc_python_drop_state(void) {
  int (*is_initialized)(void) = NULL;
  void (*restore)(void *) = NULL, (*release)(int) = NULL;
  if (kept.thread_state == NULL || !find("Py_IsInitialized", &is_initialized) || is_initialized() == 0) return;
  if (!find("PyEval_RestoreThread", &restore) || !find("PyGILState_Release", &release)) return;
  restore(kept.thread_state);
  release(kept.ensured);
  kept.thread_state = NULL;
}
