"""A Python client that knows the names of the registry only: sessions, Python functions on workers, errors, endings."""

import gc
import threading
import weakref

import pytest
import tvm_ffi

WORKERS = 4


@pytest.fixture
def session(disco):
    made = disco("SessionThreaded", WORKERS, 2)
    yield made
    disco("SessionShutdown", made)


@pytest.fixture
def call(disco, session):
    """call(func, *args): func is a DRef, or the name of a global function."""

    def run(func, *args):
        if isinstance(func, str):
            func = disco("SessionGetGlobalFunc", session, func)
        return disco("SessionCallPacked", session, 0, 0, func, *args)

    return run


@pytest.fixture
def values(disco):
    """The value of a DRef on every worker."""
    return lambda dref: [disco("DRefDebugGetFromRemote", dref, worker) for worker in range(WORKERS)]


def sync(disco, session):
    for worker in range(WORKERS):
        disco("SessionSyncWorker", session, worker)


@tvm_ffi.register_global_func("testpy.echo")
def _echo(*args):
    return args[0]


@tvm_ffi.register_global_func("testpy.join")
def _join(*args):
    rank = tvm_ffi.get_global_func("runtime.disco.worker_rank")()
    return f"{rank}:" + ",".join(str(each) for each in args)


class Strange(Exception):
    """A class that TVM-FFI does not know."""


RAISES = {
    "value": ValueError("a value of 3 is odd"),
    "type": TypeError("not that type"),
    "key": KeyError("missing"),
    "memory": MemoryError("too large"),
    "strange": Strange("only its text survives"),
    "empty": RuntimeError(""),
}


@tvm_ffi.register_global_func("testpy.raise")
def _raise(which, worker):
    if tvm_ffi.get_global_func("runtime.disco.worker_rank")() == worker:
        raise RAISES[which]
    return "fine"


def test_session_has_its_workers(disco, session, call, values):
    assert disco("SessionGetNumWorkers", session) == WORKERS
    assert values(call("runtime.disco.worker_rank")) == list(range(WORKERS))
    assert values(call("runtime.disco.world_size")) == [WORKERS] * WORKERS
    assert [list(shape) for shape in values(call("runtime.disco.worker_id"))] == [[w] for w in range(WORKERS)]
    assert [str(device) for device in values(call("runtime.disco.device"))] == ["cpu:0"] * WORKERS


def test_python_functions_run_on_workers(call, values):
    assert values(call("testpy.join", 1, "two", 3.5, None)) == [f"{w}:1,two,3.5,None" for w in range(WORKERS)]


def test_results_feed_later_calls(call, values):
    first = call("runtime.disco.worker_rank")
    assert values(call("testpy.join", first, first)) == [f"{w}:{w},{w}" for w in range(WORKERS)]


@pytest.mark.parametrize(
    "value",
    [None, True, -(2**63), 2.5, "", "short", "a string of more than seven bytes", b"by\0tes", [1, "a"], {"k": 1}],
    ids=str,
)
def test_values_come_back(call, values, value):
    def plain(back):
        if isinstance(value, list):
            return list(back)
        return dict(back.items()) if isinstance(value, dict) else back

    for back in values(call("testpy.echo", value)):
        assert plain(back) == value
        assert type(plain(back)) is type(value) or isinstance(plain(back), type(value))


def test_many_calls_of_many_threads(disco, session, call, values):
    func = disco("SessionGetGlobalFunc", session, "testpy.echo")
    wrong = []

    def issue(start):
        drefs = [(number, call(func, number)) for number in range(start, start + 100)]
        for number, dref in drefs:
            if disco("DRefDebugGetFromRemote", dref, number % WORKERS) != number:
                wrong.append(number)

    threads = [threading.Thread(target=issue, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "which, kind, message",
    [
        ("value", ValueError, "a value of 3 is odd"),
        ("type", TypeError, "not that type"),
        ("key", KeyError, "missing"),
        ("memory", MemoryError, "too large"),
        ("strange", RuntimeError, "only its text survives"),  # TVM-FFI knows eight kinds
        ("empty", RuntimeError, "testpy.raise"),
    ],
)
@pytest.mark.parametrize("worker", [0, WORKERS - 1])
def test_an_exception_arrives_with_kind_and_message(disco, session, call, values, which, kind, message, worker):
    dref = call("testpy.raise", which, worker)
    with pytest.raises(kind) as told:
        sync(disco, session)
    assert type(told.value) is kind
    assert message in str(told.value)
    assert f"worker {worker} of {WORKERS}" in str(told.value)
    assert "testpy.raise" in str(told.value)
    sync(disco, session)  # told once
    with pytest.raises(ValueError, match="has no value"):
        disco("DRefDebugGetFromRemote", dref, worker)
    assert values(call("testpy.echo", "on we go")) == ["on we go"] * WORKERS


def test_wrong_uses_are_type_errors(disco, session):
    func = disco("SessionGetGlobalFunc", session, "testpy.echo")
    with pytest.raises(TypeError, match="Cannot convert from type `None` to `runtime.disco.DRef`"):
        disco("SessionCallPacked", session, 0, 0, None)
    for other in (func, None, "a session"):
        with pytest.raises(TypeError, match="runtime.disco.DRef|to `runtime.disco.Session`"):
            disco("SessionGetNumWorkers", other)
    with pytest.raises(TypeError, match="Expected `int`"):
        disco("SessionThreaded", "4", 1)
    with pytest.raises(ValueError, match="divisible"):
        disco("SessionThreaded", 4, 3)
    with pytest.raises(ValueError, match="runtime.disco.nothing.init_ccl"):
        disco("SessionInitCCL", session, "nothing", tvm_ffi.Shape([0, 1, 2, 3]))
    disco("SessionCallPacked", session, 0, 0, func, 1)


def test_a_closed_session_says_so(disco):
    session = disco("SessionThreaded", 2, 1)
    disco("SessionShutdown", session)
    disco("SessionShutdown", session)
    with pytest.raises(RuntimeError, match="shut down"):
        disco("SessionSyncWorker", session, 0)


def test_a_python_object_is_shared_and_released(disco, session, call, values):
    class Thing:
        pass

    thing = Thing()
    alive = weakref.ref(thing)
    dref = call("testpy.echo", thing)
    assert all(back is thing for back in values(dref))
    del thing, dref
    call("testpy.echo", 0)  # carries the release
    sync(disco, session)
    for _ in range(100):
        gc.collect()
        if alive() is None:
            break
        sync(disco, session)
    assert alive() is None


@pytest.mark.parametrize("layout", ["plain", "transposed", "sliced", "odd address"])
def test_numpy_arrays_are_copied_both_ways(disco, session, call, layout):
    import numpy

    host = numpy.arange(24, dtype="float32").reshape(4, 6)
    back = numpy.zeros((4, 6), dtype="float32")
    if layout == "transposed":
        host, back = host.T, back.T
    elif layout == "sliced":
        host, back = host[:, 1:5:2], back[::-1, 1:5:2]
    elif layout == "odd address":
        raw = numpy.zeros(24 * 4 + 4, dtype="uint8")
        raw[4:].view("float32")[:] = host.ravel()
        host = raw[4:].view("float32").reshape(4, 6)
    size = tvm_ffi.Shape([host.size])
    dref = call("runtime.disco.empty", size, "float32", None, False, False)
    disco("SessionCopyToWorker0", session, host, dref)
    disco("SessionCopyFromWorker0", session, back, dref)
    disco("SessionSyncWorker", session, 0)
    assert (back == host).all()
    small = numpy.zeros(3, dtype="float32")
    disco("SessionCopyFromWorker0", session, small, dref)
    with pytest.raises(ValueError, match="12 bytes"):
        disco("SessionSyncWorker", session, 0)


# ---- Endings, each in a process of its own ----


def test_the_interpreter_may_end_with_a_live_session(run_python):
    out = run_python("""
session = disco("SessionThreaded", 4, 1)
func = disco("SessionGetGlobalFunc", session, "runtime.disco.worker_rank")
drefs = [disco("SessionCallPacked", session, 0, 0, func) for _ in range(100)]
print("end")
""")
    assert out == "end\n"


def test_the_interpreter_may_end_with_python_functions_on_workers(run_python):
    """Python values in registers and Python calls under way: their workers end before the interpreter does."""
    out = run_python("""
@tvm_ffi.register_global_func("testpy.slow")
def slow(thing):
    time.sleep(0.02)
    return thing
session = disco("SessionThreaded", 4, 1)
func = disco("SessionGetGlobalFunc", session, "testpy.slow")
drefs = [disco("SessionCallPacked", session, 0, 0, func, object()) for _ in range(20)]
print("end")
""")
    assert out == "end\n"


def test_a_dropped_session_does_not_hang(run_python):
    """The last reference goes, under the GIL, while workers still have Python functions to run."""
    out = run_python("""
ran = []
@tvm_ffi.register_global_func("testpy.slow")
def slow(thing):
    time.sleep(0.01)
    ran.append(thing)
for how in ("del", "cycle"):
    session = disco("SessionThreaded", 4, 1)
    func = disco("SessionGetGlobalFunc", session, "testpy.slow")
    drefs = [disco("SessionCallPacked", session, 0, 0, func, number) for number in range(10)]
    began = time.monotonic()
    if how == "cycle":
        cycle = [session, func, drefs]
        cycle.append(cycle)
        del session, func, drefs, cycle
        gc.collect()
    else:
        del session, func, drefs
    assert time.monotonic() - began < 5
deadline = time.monotonic() + 30
while len(ran) < 80 and time.monotonic() < deadline:
    time.sleep(0.01)
print(len(ran))
""")
    assert out == "80\n"  # what was posted ran


def test_objects_die_in_any_thread(run_python):
    out = run_python("""
session = disco("SessionThreaded", 2, 1)
func = disco("SessionGetGlobalFunc", session, "runtime.disco.worker_rank")
def work():
    for _ in range(200):
        held = [disco("SessionCallPacked", session, 0, 0, func) for _ in range(10)]
        held.append(held)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(50): gc.collect()
for thread in threads: thread.join()
gc.collect()
disco("SessionSyncWorker", session, 1)
disco("SessionShutdown", session)
print("end")
""")
    assert out == "end\n"


def test_a_constructor_holds_the_interpreter_lock(run_python):
    """TVM's client makes sessions by a constructor, which keeps the GIL: a worker's Python function still runs."""
    out = run_python("""
@tvm_ffi.register_object("runtime.disco.ThreadedSession")
class ThreadedSession(tvm_ffi.Object):
    def __init__(self, *args):
        self.__init_handle_by_constructor__(tvm_ffi.get_global_func("runtime.disco.SessionThreaded"), *args)
@tvm_ffi.register_global_func("testpy.name")
def name(): return threading.current_thread().name
session = ThreadedSession(3, 1)
try:
    ThreadedSession(3, 2)
except ValueError as error:
    print("divisible" in str(error))
func = disco("SessionGetGlobalFunc", session, "testpy.name")
dref = disco("SessionCallPacked", session, 0, 0, func)
print(disco("DRefDebugGetFromRemote", dref, 2) != "MainThread")
""")
    assert out == "True\nTrue\n"


def test_ctrl_c_ends_a_wait(run_python):
    out = run_python("""
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
@tvm_ffi.register_global_func("testpy.sleep")
def sleep(seconds): time.sleep(seconds)
session = disco("SessionThreaded", 2, 1)
func = disco("SessionGetGlobalFunc", session, "testpy.sleep")
dref = disco("SessionCallPacked", session, 0, 0, func, 3.0)
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    disco("SessionSyncWorker", session, 0)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 2)
disco("SessionSyncWorker", session, 0)
print("end")
""")
    assert out == "interrupted True\nend\n"


def test_deferred_names(run_python):
    out = run_python(
        """
print(tvm_ffi.get_global_func("runtime.disco.SessionThreaded", allow_missing=True))
print(library.disco_publish())
print(disco("SessionGetNumWorkers", disco("SessionThreaded", 3, 1)))
""",
        DISCO_FFI_GLOBALS="0",
    )
    assert out == "None\n0\n3\n"
