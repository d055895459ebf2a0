#include "ffi/python.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "base/atomics.h"
#include "base/compiler.h"
#include "base/list.h"
#include "ffi/function.h"
#include "ffi/value.h"
#include "os/fork.h"
#include "os/thread.h"

/* Of Python's stable ABI. PyObject stays opaque. */
typedef struct {
  const char *name;
  void *(*function)(void *self, void *unused);
  int flags;
  const char *doc;
} method_def; /* PyMethodDef */

enum { METH_NOARGS = 4 };

static void *(*save_thread)(void);
static void (*restore_thread)(void *state);
static void *(*build_value)(const char *format, ...);

static bool find(const char *name, void *ret_function) {
  void *symbol = dlsym(RTLD_DEFAULT, name);
  memcpy(ret_function, &symbol, sizeof(symbol));
  return symbol != NULL;
}

bool dsc_python_is_there(void) {
  int (*is_initialized)(void) = NULL;
  return find("Py_IsInitialized", &is_initialized) && is_initialized() != 0;
}

/* ---- The end of the interpreter ----
 *
 * Two hooks in Python's atexit, which calls them with the GIL, the last registered first: one that stops the sessions,
 * and one, registered as early as we can, after which nothing of Python runs any more but other such hooks. */

static void (*exit_fn)(void);
enum { RUNS = 0, STOPS = 1, ENDS = 2 };
static _Atomic int phase;
static _Atomic bool somebody_left; /* a thread came back to the interpreter since the sessions were stopped */
static _Thread_local bool ends_it; /* this thread does */

static void interrupt_kept_threads(void);

static void *stop_hook(void *self, void *unused) {
  (void)self;
  (void)unused;
  ends_it = true;
  dsc_store_release(&phase, STOPS); /* release: python.phase */
  void *state = save_thread();
  exit_fn();
  restore_thread(state);
  interrupt_kept_threads();
  return build_value(""); /* None */
}

/* Who left our code before it was forbidden may still be waiting for the GIL, and must get it before it is too late. */
static void let_others_in(void) {
  enum { ROUNDS = 50 }; /* of a millisecond */
  for (int i = 0; i < ROUNDS; i++) {
    void *state = save_thread();
    dsc_thread_rest();
    restore_thread(state);
  }
}

static void *end_hook(void *self, void *unused) {
  (void)self;
  (void)unused;
  ends_it = true;
  dsc_store_release(&phase, ENDS); /* release: python.phase */
  if (atomic_load(&somebody_left)) let_others_in();
  return build_value("");
}

static method_def stop_method = {"libdisco_stop", stop_hook, METH_NOARGS, "Stops the sessions of libdisco."};
static method_def end_method = {"libdisco_end", end_hook, METH_NOARGS, "From here on no thread comes back."};

/* GIL held. atexit.register(method) */
static bool register_hook(method_def *method) {
  void *(*import)(const char *) = NULL, *(*call_method)(void *, const char *, const char *, ...) = NULL;
  void *(*make_function)(method_def *, void *, void *) = NULL;
  void (*decref)(void *) = NULL, (*clear)(void) = NULL;
  if (!find("PyImport_ImportModule", &import) || !find("PyObject_CallMethod", &call_method) ||
      !find("PyCFunction_NewEx", &make_function) || !find("Py_DecRef", &decref) || !find("PyErr_Clear", &clear))
    return false;
  void *module = import("atexit"), *function = make_function(method, NULL, NULL), *done = NULL;
  if (module != NULL && function != NULL) done = call_method(module, "register", "O", function);
  if (done == NULL) clear();
  decref(module); /* NULL allowed */
  decref(function);
  decref(done);
  return done != NULL;
}

/* GIL held, so one at a time. */
static bool prepare_end(void) {
  static bool prepared;
  if (!prepared)
    prepared = find("PyEval_SaveThread", &save_thread) && find("PyEval_RestoreThread", &restore_thread) &&
               find("Py_BuildValue", &build_value) && register_hook(&end_method);
  return prepared;
}

static void (*release_gil)(int);

/* False without Python; else the GIL is held, until release_gil(*ret_state). */
static bool take_gil(int *ret_state) {
  int (*ensure)(void) = NULL;
  if (!dsc_python_is_there() || !find("PyGILState_Ensure", &ensure) || !find("PyGILState_Release", &release_gil))
    return false;
  *ret_state = ensure();
  return true;
}

static void prepare_end_now(void) {
  int state;
  if (!take_gil(&state)) return;
  (void)prepare_end();
  release_gil(state);
}

void dsc_python_at_exit(void (*fn)(void)) {
  static _Atomic bool installed;
  int state;
  if (dsc_load_relaxed(&installed) || !take_gil(&state)) return;
  if (!dsc_load_relaxed(&installed) && prepare_end()) {
    exit_fn = fn;
    dsc_store_relaxed(&installed, register_hook(&stop_method));
  }
  release_gil(state);
}

/* A thread that holds the GIL (TVM-FFI's constructors keep it) must not sleep. */
static DSC_COLD bool may_go_on(void) {
  void *(*this_state)(void) = NULL;
  int (*has_gil)(void) = NULL;
  if (ends_it || !find("PyGILState_GetThisThreadState", &this_state) || this_state() == NULL) return true;
  if (dsc_load_acquire(&phase) == STOPS) {
    atomic_store(&somebody_left, true);
    return true;
  }
  if (!find("PyGILState_Check", &has_gil) || has_gil() != 0) return false;
  dsc_thread_stay();
}

bool dsc_python_stay_out(void) {
  /* acquire: python.phase */
  return !DSC_UNLIKELY(dsc_load_acquire(&phase) != RUNS) || may_go_on();
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
  prepare_end_now();
}

bool dsc_python_is_callback(const TVMFFIObject *function) {
  const TVMFFIFunctionCell *cell = (const TVMFFIFunctionCell *)(function + 1);
  uintptr_t learned = dsc_load_acquire(&callback); /* acquire: python.callback */
  return learned != 0 && cell->safe_call == trampoline && word_at(function, word_offset) == learned;
}

/* A state made by Ensure lives until its last Release: one Release is left out. */
typedef struct {
  dsc_list link;
  void *thread_state;
  unsigned long thread; /* as Python names it */
  int ensured;
} kept_state;

static _Thread_local kept_state kept;
static dsc_list all_kept = {&all_kept, &all_kept}; /* guarded by the GIL */
static uint32_t kept_generation;                   /* whose threads they are: a forked child has none */

/* GIL held. */
static void forget_threads_of_parent(void) {
  if (kept_generation != dsc_fork_generation()) dsc_list_init(&all_kept);
  kept_generation = dsc_fork_generation();
}

void dsc_python_keep_state(void) {
  int (*ensure)(void) = NULL;
  void *(*save)(void) = NULL, *(*this_state)(void) = NULL;
  unsigned long (*this_thread)(void) = NULL;
  if (kept.thread_state != NULL || !dsc_python_is_there()) return;
  if (!find("PyGILState_Ensure", &ensure) || !find("PyEval_SaveThread", &save) ||
      !find("PyGILState_GetThisThreadState", &this_state) || !find("PyThread_get_thread_ident", &this_thread))
    return;
  if (this_state() != NULL) return; /* one of Python's own, as in a worker process: it has one */
  kept.ensured = ensure();
  kept.thread = this_thread();
  forget_threads_of_parent();
  dsc_list_append(&all_kept, &kept.link);
  kept.thread_state = save();
}

void dsc_python_drop_state(void) {
  void (*restore)(void *) = NULL, (*release)(int) = NULL;
  if (kept.thread_state == NULL || !dsc_python_is_there()) return;
  if (!find("PyEval_RestoreThread", &restore) || !find("PyGILState_Release", &release)) return;
  restore(kept.thread_state);
  dsc_list_remove(&kept.link);
  release(kept.ensured);
  kept.thread_state = NULL;
}

/* GIL held, sessions stopped. A worker that is still in a Python function was given up: it would end the process as it
 * comes back to an interpreter that has ended. A function that computes is made to raise SystemExit now; one that waits
 * in a system call will not come back in time, and does no harm. */
static void interrupt_kept_threads(void) {
  enum { LONGEST_MS = 1000 };
  int (*set_async)(unsigned long, void *) = NULL;
  void **exception = NULL;
  if (!find("PyThreadState_SetAsyncExc", &set_async) || !find("PyExc_SystemExit", &exception)) return;
  forget_threads_of_parent();
  for (dsc_list *at = all_kept.next; at != &all_kept; at = at->next)
    (void)set_async(dsc_list_entry(at, kept_state, link)->thread, *exception);
  for (int waited_ms = 0; !dsc_list_is_empty(&all_kept) && waited_ms < LONGEST_MS; waited_ms++) {
    void *state = save_thread();
    dsc_thread_rest();
    restore_thread(state);
  }
}
