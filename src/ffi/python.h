/* The Python interpreter that may share the process, reached by dlsym: libdisco links no Python. Any thread. */
#ifndef DSC_FFI_PYTHON_H
#define DSC_FFI_PYTHON_H

/* Have `fn` called when the interpreter begins to end, without its lock (the GIL): whatever may still run or free
 * Python objects on our threads must stop there, since a thread that asks for the GIL later ends the process. The first
 * call that finds an interpreter counts; without one nothing happens. Takes the GIL: call it without locks. */
void dsc_python_at_exit(void (*fn)(void));

#endif
