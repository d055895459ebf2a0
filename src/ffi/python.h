/* The Python interpreter that may share the process, reached by dlsym: libdisco links no Python. Any thread. */
#ifndef DSC_FFI_PYTHON_H
#define DSC_FFI_PYTHON_H

#include <stdbool.h>
#include <tvm/ffi/c_api.h>

/* Have `fn` called when the interpreter begins to end, without its lock (the GIL): whatever may still run or free
 * Python objects on our threads must stop there, since a thread that asks for the GIL later ends the process. The first
 * call that finds an interpreter counts; without one nothing happens. Takes the GIL: call it without locks. */
void dsc_python_at_exit(void (*fn)(void));
/* Is an interpreter running? */
bool dsc_python_is_there(void);

/* Once the interpreter has begun to end, a Python thread that comes back from a call must not ask for the lock: Python
 * 3.13 and older end it by unwinding its stack, which no C++ frame on the way survives. So it is kept here, asleep, as
 * later interpreters do themselves. Only daemon threads are still there by then. True on the thread that ends the
 * interpreter, on threads that Python does not know, and as long as nothing ends; false where the caller holds the lock
 * and must leave with an error. Before and after what a Python thread may call. */
bool dsc_python_stay_out(void);

/* A native thread that calls into Python makes and destroys a thread state each time (9 us); one that keeps a state
 * pays a tenth of a microsecond. `function` is any function object that Python gave: it shows how such ones look.
 * Called once by the Python package; before that nothing is kept. */
void dsc_python_learn(const TVMFFIObject *function);
bool dsc_python_is_callback(const TVMFFIObject *function);
/* Give the calling thread a state that it keeps, and take it away before the thread ends; each does nothing the second
 * time, or without Python. Takes the GIL: call it without locks. */
void dsc_python_keep_state(void);
void dsc_python_drop_state(void);

#endif
