"""runtime.disco.load_vm_module, through TVM's own client on threads and processes. Run by test_vm.py."""

import contextlib
import functools
import os
import signal
import subprocess
import threading
import time

import beside_tvm
import numpy as np
import relax_common
import tvm
import tvm_ffi
from relax_common import DTYPE, tensor
from tvm import relax

WORKERS = 2
TABLE = np.arange(8, dtype=DTYPE).reshape(2, 4) / 4
LIBRARY_NAME = "functions.so"  # test_vm.py loads it where there is no TVM


@functools.lru_cache(maxsize=None)
def session_of(processes):
    return relax_common.new_session(WORKERS, processes)


def all_done(session):
    """Waits, and raises what a worker raised."""
    for worker in range(WORKERS):
        session._sync_worker(worker)


@contextlib.contextmanager
def raises(kind, *words):
    try:
        yield
    except kind as error:
        for word in words:
            assert word in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")


def library_of(path, **functions):
    """Compile functions of one 2 x 4 tensor, given as what they do with its variable."""
    builder = relax.BlockBuilder()
    for name, output in functions.items():
        x = relax.Var("x", tensor(2, 4))
        with builder.function(name, [x]):
            with builder.dataflow():
                result = builder.emit_output(output(x))
            builder.emit_func_output(result)
    tvm.compile(builder.finalize(), target="llvm").export_library(str(path))
    return str(path)


@functools.lru_cache(maxsize=None)
def functions_library(folder):
    return library_of(
        folder / LIBRARY_NAME,
        double=lambda x: relax.op.add(x, x),
        add_table=lambda x: relax.op.add(x, relax.const(TABLE)),
        both=lambda x: relax.Tuple([relax.op.multiply(x, x), x]),
    )


@functools.lru_cache(maxsize=None)
def plain_library(folder):
    """A C library with a function by TVM-FFI's naming, nothing of TVM's."""
    source, library = folder / "plain.c", folder / "plain.so"
    source.write_text("""
#include <stdint.h>
typedef struct { int32_t type; uint32_t zero; int64_t number; } value;
int __tvm_ffi_add_one(void *self, const value *args, int32_t num_args, value *result) {
  *result = (value){1, 0, args[0].number + 1};
  return 0;
}
""")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def worker_inputs(session):
    """A tensor that differs on each worker, and what each has."""
    x = session.empty((2, 4), DTYPE)
    arrays = [np.full((2, 4), worker + 1, dtype=DTYPE) for worker in range(WORKERS)]
    for worker, array in enumerate(arrays):
        x.debug_copy_from(worker, array)
    return x, arrays


def equal(dref, arrays):
    for worker, array in enumerate(arrays):
        np.testing.assert_array_equal(dref.debug_get_from_remote(worker).numpy(), array, err_msg=f"worker {worker}")


# ---- What is loaded ----


def functions_constants_and_kinds(folder, processes):
    session = session_of(processes)
    x, arrays = worker_inputs(session)
    kind = session.get_global_func("ffi.ModuleGetKind")
    for device in (None, tvm.cpu(0), "cpu", "cpu:0"):  # the worker's own, a device, its text
        module = session.load_vm_module(functions_library(folder), device)
        equal(module["double"](x), [2 * array for array in arrays])
    equal(module["add_table"](x), [array + TABLE for array in arrays])
    equal(module["double"](module["add_table"](x)), [2 * (array + TABLE) for array in arrays])
    item = session.get_global_func("vm.builtin.tuple_getitem")
    equal(item(module["both"](x), 0), [array**2 for array in arrays])
    for worker in range(WORKERS):
        assert kind(module).debug_get_from_remote(worker) == "relax.VirtualMachine"
        assert module["no_such_function"].debug_get_from_remote(0) is None


def check_functions_and_constants_on_threads(folder):
    functions_constants_and_kinds(folder, processes=False)


def check_functions_and_constants_on_processes(folder):
    functions_constants_and_kinds(folder, processes=True)


def state_is_apart(folder, processes):
    """set_input() keeps a tensor in the virtual machine: one for each worker and each load."""
    session = session_of(processes)
    x, arrays = worker_inputs(session)
    modules = [session.load_vm_module(functions_library(folder)) for _ in range(2)]
    inputs = [x, modules[0]["add_table"](x)]
    for module, each in zip(modules, inputs):
        module["set_input"]("double", each)
    for module in modules:
        module["invoke_stateful"]("double")
    equal(modules[0]["get_output"]("double"), [2 * array for array in arrays])
    equal(modules[1]["get_output"]("double"), [2 * (array + TABLE) for array in arrays])


def check_state_is_apart_on_threads(folder):
    state_is_apart(folder, processes=False)


def check_state_is_apart_on_processes(folder):
    state_is_apart(folder, processes=True)


def a_plain_library_is_returned_as_it_is(folder, processes):
    session = session_of(processes)
    module = session.load_vm_module(plain_library(folder))
    kind = session.get_global_func("ffi.ModuleGetKind")(module)
    result = module["add_one"](41)
    for worker in range(WORKERS):
        assert kind.debug_get_from_remote(worker) == "library"
        assert result.debug_get_from_remote(worker) == 42


def check_a_plain_library_on_threads(folder):
    a_plain_library_is_returned_as_it_is(folder, processes=False)
    session = session_of(False)
    modules = [session.load_vm_module(plain_library(folder)) for _ in range(2)]
    first, *others = [each.debug_get_from_remote(worker) for each in modules for worker in range(WORKERS)]
    assert all(first.same_as(other) for other in others)


def check_a_plain_library_on_processes(folder):
    a_plain_library_is_returned_as_it_is(folder, processes=True)


# ---- Errors ----


def failures(folder, processes):
    session = session_of(processes)
    (folder / "text.so").write_text("no library\n")
    needy = folder / "needy.so"
    if not needy.exists():
        output = relax.TensorType((2, 4), DTYPE)
        library_of(needy, needs=lambda x: relax.op.call_pure_packed("no.such.function", x, ty_args=output))
    for path, kind, *words in (
        (folder / "missing.so", RuntimeError, "missing.so", "ENOENT"),
        (folder, ValueError, "is a folder"),
        (folder / "text.so", RuntimeError, "text.so", "could not open"),
        (needy, RuntimeError, "no.such.function", "virtual machine of", "needy.so"),
        ("a\0b", ValueError, "NUL"),
    ):
        for _ in range(2):  # a failure is not remembered as a library
            with raises(kind, "runtime.disco.load_vm_module", *words):
                session.load_vm_module(str(path))
                all_done(session)
            drain(session)
    for device, word in (("abacus", "abacus"), (3, "device")):
        with raises(TypeError, "argument #1", word):
            session.load_vm_module(functions_library(folder), device)
            all_done(session)
        drain(session)
    x, arrays = worker_inputs(session)
    equal(session.load_vm_module(functions_library(folder))["double"](x), [2 * array for array in arrays])


def drain(session):
    """All workers fail, and each may be told of."""
    for _ in range(WORKERS):
        with contextlib.suppress(Exception):
            all_done(session)


def check_failures_on_threads(folder):
    failures(folder, processes=False)


def check_failures_on_processes(folder):
    failures(folder, processes=True)


def check_off_a_worker_it_needs_a_device(folder):
    load = tvm_ffi.get_global_func("runtime.disco.load_vm_module")
    with raises(ValueError, "not a DiscoWorker thread"):
        load(functions_library(folder), None)
    x = tvm.runtime.tensor(TABLE)
    np.testing.assert_array_equal(load(functions_library(folder), "cpu")["double"](x).numpy(), 2 * TABLE)
    with raises(TypeError, "Expected 2 but got 1"):
        load(functions_library(folder))


# ---- Once per process: a loader in Python for files that end in .counted and name a library ----

opened = []
hook = None


@tvm_ffi.register_global_func("ffi.Module.load_from_file.counted")
def _load_counted(path, _format):
    opened.append(path)
    if hook is not None:
        hook(path)
    with open(path, encoding="utf-8") as file:
        return tvm_ffi.load_module(file.read())


def counted(folder, name):
    path = folder / f"{name}.counted"
    path.write_text(plain_library(folder))
    opened.clear()
    return str(path)


@contextlib.contextmanager
def hooked(function):
    global hook
    hook = function
    try:
        yield
    finally:
        hook = None


def check_workers_open_a_path_once(folder):
    path = counted(folder, "slow")
    session = session_of(False)
    with hooked(lambda _: time.sleep(0.05)):  # the other worker comes while it is being opened
        modules = [session.load_vm_module(path) for _ in range(3)]
        all_done(session)
    assert opened == [path]
    assert modules[2]["add_one"](1).debug_get_from_remote(1) == 2


def check_a_path_that_failed_is_opened_anew(folder):
    path = counted(folder, "later")
    load = tvm_ffi.get_global_func("runtime.disco.load_vm_module")

    def refuse(_):
        raise ValueError("not yet")

    with hooked(refuse), raises(ValueError, "not yet", "later.counted"):
        load(path, "cpu")
    load(path, "cpu")
    load(path, "cpu")
    assert opened == [path, path]


def check_paths_do_not_wait_for_each_other(folder):
    path, other = counted(folder, "long"), counted(folder, "short")
    load = tvm_ffi.get_global_func("runtime.disco.load_vm_module")
    inside, may_end = threading.Event(), threading.Event()

    def wait(which):
        if which == path:
            inside.set()
            assert may_end.wait(beside_tvm.BOUND_SECONDS)

    with hooked(wait):
        thread = threading.Thread(target=load, args=(path, "cpu"), daemon=True)
        thread.start()
        assert inside.wait(beside_tvm.BOUND_SECONDS)
        load(other, "cpu")  # would hang
        may_end.set()
        thread.join()
    assert opened == [path, other]


def check_a_library_that_loads_itself_is_told(folder):
    path = counted(folder, "itself")
    load = tvm_ffi.get_global_func("runtime.disco.load_vm_module")
    with hooked(lambda which: load(which, "cpu")), raises(RuntimeError, "asks for itself"):
        load(path, "cpu")


def check_a_child_forked_while_a_library_is_opened_opens_its_own(folder):
    path = counted(folder, "forked")
    load = tvm_ffi.get_global_func("runtime.disco.load_vm_module")
    inside, may_end = threading.Event(), threading.Event()
    parent = os.getpid()

    def wait(_):
        if os.getpid() == parent:
            inside.set()
            assert may_end.wait(beside_tvm.BOUND_SECONDS)

    with hooked(wait):
        thread = threading.Thread(target=load, args=(path, "cpu"), daemon=True)
        thread.start()
        assert inside.wait(beside_tvm.BOUND_SECONDS)
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # if it hangs
            os._exit(load(path, "cpu")["add_one"](6))
        _, status = os.waitpid(child, 0)
        may_end.set()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 7


def check_sessions_end(folder):
    for processes in (False, True):
        session_of(processes).shutdown()


if __name__ == "__main__":
    beside_tvm.main(globals())
