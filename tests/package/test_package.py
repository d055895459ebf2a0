"""The package libdisco without TVM."""

import concurrent.futures
import doctest
import importlib
import os
import pkgutil
import signal
import subprocess
import sys
import time

import libdisco
import numpy
import pytest
import tvm_ffi

BOUND_SECONDS = 30


def both(test):
    """The test over threads and over processes."""
    return pytest.mark.parametrize("kind", [libdisco.ThreadedSession, libdisco.ProcessSession])(test)


@pytest.mark.parametrize("name", sorted(module.name for module in pkgutil.iter_modules(libdisco.__path__)))
def test_examples_in_docstrings(name):
    if name in ("__main__", "tvm_worker"):  # programs
        return
    result = doctest.testmod(importlib.import_module(f"libdisco.{name}"), raise_on_error=False)
    assert result.failed == 0


def test_the_package_has_examples():
    finder = doctest.DocTestFinder()
    examples = sum(
        len(test.examples)
        for name in ("_session", "_functions", "")
        for test in finder.find(importlib.import_module(f"libdisco.{name}".rstrip(".")))
    )
    assert examples > 15


# ---- Calls ----


@both
def test_calls_and_values(kind):
    with kind(3) as session:
        rank = session.get_global_func("runtime.disco.worker_rank")
        assert isinstance(rank, libdisco.DPackedFunc) and isinstance(rank(), libdisco.DRef)
        assert [rank().get(worker) for worker in range(3)] == [0, 1, 2]
        assert [rank().debug_get_from_remote(worker) for worker in range(3)] == [0, 1, 2]
        value = session.put("text")
        value.set("other", 1)
        assert [value.get(worker) for worker in range(3)] == ["text", "other", "text"]
        value.debug_copy_from(2, 5)
        value.set(None, 0)
        assert [value.get(worker) for worker in range(3)] == [None, "other", 5]


@both
def test_arrays(kind):
    data = numpy.arange(12, dtype="float32").reshape(3, 4)
    with kind(3) as session:
        session.init_ccl()
        there = session.copy_to_worker_0(data)
        back = numpy.zeros_like(data)
        session.copy_from_worker_0(back, there)
        session.sync_worker_0()
        assert (back == data).all()
        copy = session.broadcast(data)
        part = session.scatter(data)
        for worker in range(3):
            assert (copy.numpy(worker) == data).all()
            assert (part.numpy(worker) == data[worker]).all()
        out = session.empty((4,), "float32")
        assert session.allreduce(part, out, op="max") is out
        assert (out.numpy(2) == data.max(0)).all()
        every = session.empty((3, 4), "float32")
        session.allgather(part, every)
        assert (every.numpy(1) == data).all()
        gathered = session.empty((3, 4), "float32", worker0_only=True)
        session.gather_to_worker0(part, gathered)
        assert (gathered.numpy(0) == data).all()
        assert gathered.get(1) is None
        with pytest.raises(ValueError, match="no operation 'mean'.*sum, prod"):
            session.allreduce(part, out, op="mean")
        with pytest.raises(ValueError, match="number of workers, 3.*(2, 2)"):
            session.scatter(numpy.zeros((2, 2)))


def test_arrays_that_may_not_be_written_and_others():
    frozen = numpy.arange(4, dtype="int32")
    frozen.flags.writeable = False
    with libdisco.ThreadedSession(4, 2) as session:
        session.init_ccl()
        for array in (frozen, frozen.copy()[::-1], tvm_ffi.from_dlpack(frozen.copy())):
            wanted = numpy.from_dlpack(array).tolist() if isinstance(array, tvm_ffi.Tensor) else array.tolist()
            copy = session.broadcast(array)
            assert [copy.numpy(worker).tolist() for worker in range(4)] == [wanted] * 4  # in both groups
        assert [session.scatter(frozen).numpy(worker).tolist() for worker in range(4)] == [0, 1, 2, 3]
        assert session.put(frozen).numpy(3).tolist() == [0, 1, 2, 3]
        assert session.empty((2,), numpy.float64).numpy().dtype == numpy.float64
        for wrong in ([1, 2], None, 5, frozen.astype(">i4")):
            with pytest.raises((TypeError, BufferError)):
                session.broadcast(wrong)
        session.sync()  # nothing was posted for them
        with pytest.raises(TypeError, match="holds no tensor but 5"):
            session.put(5).numpy()


def test_handles_stay_good():
    """Nothing is moved out of a DRef that somebody has, and what is no DRef is refused."""
    with libdisco.ThreadedSession(2) as session:
        rank = session.get_global_func("runtime.disco.worker_rank")
        again = libdisco.DPackedFunc(rank, session)
        assert again().get(1) == rank().get(1) == 1
        for wrong in (5, None, session):
            with pytest.raises(TypeError, match="DRef"):
                libdisco.DPackedFunc(wrong, session)
        assert (
            session.put(session).get(0).call("runtime.disco.world_size").get(1) == 2
        )  # a session past its constructor
        assert repr(session.put(session).get(1)) == repr(session)


def test_a_name_that_comes_later_is_found():
    with libdisco.ThreadedSession(2) as session:
        session.call("testpy.later")
        with pytest.raises(ValueError, match="testpy.later"):
            session.sync()
        for number in (1, 2):
            libdisco.worker_function("testpy.later", override=True)(lambda number=number: number)
            assert session.call("testpy.later").get(1) == number


def test_thread_workers_share_the_array():
    with libdisco.ThreadedSession(1) as session:
        array = session.empty((4,), "int32")
        array.numpy()[:] = 7
        assert array.numpy().tolist() == [7] * 4  # another view of the same bytes
        own = numpy.arange(3)
        assert session.put(own).numpy().ctypes.data == own.ctypes.data


def test_what_the_repr_says():
    session = libdisco.ThreadedSession(4, 2)
    assert repr(session) == "<libdisco.ThreadedSession: 4 workers in 2 groups, running>"
    assert session.num_workers == 4 and session.num_groups == 2
    assert "worker 3" in session.dump()
    session.shutdown()
    session.shutdown()
    assert repr(session) == "<libdisco.ThreadedSession: 4 workers in 2 groups, closed>"
    with pytest.raises(libdisco.SessionClosedError):
        session.sync()


def test_options():
    with libdisco.ThreadedSession(2, grace_ms=100, ring_bytes=1 << 18, ccl_alias="nccl=cpu") as session:
        session.init_ccl("nccl", 0, 1)
    for options, kind, text in (
        ({"ring_bytes": 3}, ValueError, "ring_bytes is 3"),
        ({"ring_bytes": "3"}, TypeError, "ring_bytes: a number is needed, not `str`"),
        ({"ring_byte": 3}, ValueError, "no option ring_byte; there are: ring_bytes, "),
        ({"transport": "udp"}, ValueError, 'not "udp"'),
        ({"cpus": [0]}, ValueError, "1 CPUs for 2 workers"),
        ({"grace_ms": -1}, ValueError, "-1"),
    ):
        with pytest.raises(kind, match=text):
            libdisco.ThreadedSession(2, **options)
    with pytest.raises(ValueError, match="divisible"):
        libdisco.ThreadedSession(3, 2)
    with pytest.raises(TypeError):
        libdisco.ThreadedSession("3")


# ---- Errors ----


class OwnError(Exception):
    def __init__(self, text, number):  # not one argument, as TVM-FFI would give it
        super().__init__(text)
        self.number = number


@libdisco.worker_function("testpy.fail")
def fail(how):
    if how == "own":
        raise OwnError("of my own", 3)
    if how == "os":
        raise FileNotFoundError("no such file")
    if how == "key":
        raise KeyError("k")
    return how


@both
def test_an_error_keeps_its_class_and_traceback(kind):
    own = {"imports": [__file__]} if kind is libdisco.ProcessSession else {}
    with kind(2, **own) as session:
        for how, wanted, text in (
            ("own", OwnError, "of my own"),
            ("os", FileNotFoundError, "no such file"),
            ("key", KeyError, "k"),
        ):
            session.call("testpy.fail", how)
            with pytest.raises(wanted, match=text) as caught:
                session.sync()
            assert type(caught.value) is wanted
            assert how != "key" or caught.value.args == ("k",)
            whole = "\n".join([str(caught.value), *caught.value.__notes__])
            assert "raised by worker" in whole and "testpy.fail" in whole
            assert "test_package.py" in caught.value.__notes__[-1] and "in fail" in caught.value.__notes__[-1]
        assert session.call("testpy.fail", 1).get(1) == 1  # it goes on


@libdisco.worker_function("testpy.fail_on_1")
def fail_on_1(how):
    if libdisco.worker_rank() == 1:
        if how == "unprintable":
            raise subprocess.CalledProcessError(3, "ls")  # prints attributes that only its constructor sets
        fail(how)


def test_an_error_of_a_process_keeps_its_class():
    """Raised by the other process alone, in a function that it has from a file."""
    with libdisco.ProcessSession(2, imports=[__file__]) as session:
        for how, wanted, text in (
            ("own", OwnError, "of my own"),
            ("os", FileNotFoundError, "no such file"),
            ("unprintable", subprocess.CalledProcessError, "returned non-zero exit status 3"),
        ):
            session.call("testpy.fail_on_1", how)
            with pytest.raises(wanted, match=text):
                session.sync()
        session.import_python_module("no_such_module")
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            session.sync()


def test_an_error_of_the_caller_keeps_its_class_after_a_workers():
    class Odd:
        __dlpack__ = property(lambda self: (_ for _ in ()).throw(RuntimeError("mine")))

    with libdisco.ThreadedSession(2) as session:
        session.call("testpy.fail", "os")
        with pytest.raises(FileNotFoundError):
            session.sync()
        with pytest.raises(RuntimeError, match="mine") as caught:
            session.put(Odd())
        assert type(caught.value) is RuntimeError


def test_the_end_of_a_with_block_tells_what_nobody_was_told():
    with pytest.raises(KeyError):
        with libdisco.ThreadedSession(2) as session:
            session.call("testpy.fail", "key")
    assert session.state == "closed"
    with pytest.raises(ZeroDivisionError):  # the block's own error is not covered
        with libdisco.ThreadedSession(2) as session:
            session.call("testpy.fail", "key")
            1 / 0
    assert session.state == "closed"


def test_a_taken_name_is_refused():
    with pytest.raises(ValueError, match="testpy.fail.*override=True"):
        libdisco.worker_function("testpy.fail")(fail)
    assert libdisco.worker_function("testpy.fail", override=True)(fail) is fail


def test_errors_of_the_caller():
    with libdisco.ThreadedSession(2) as session, libdisco.ThreadedSession(2) as other:
        with pytest.raises(ValueError, match="another session"):
            session.call("runtime.disco.worker_rank", other.put(1))
        session.call("testpy.no_such_function")
        with pytest.raises(ValueError, match="testpy.no_such_function"):
            session.sync()
        with pytest.raises(TypeError):
            session.call(1)
        with pytest.raises(ValueError, match="workers 0 to 1"):
            session.sync(2)


@libdisco.worker_function("testpy.sleep")
def sleep(seconds):
    time.sleep(seconds)


def test_timeouts():
    session = libdisco.ThreadedSession(2, grace_ms=100)
    register = session.call("testpy.sleep", 0.5)
    with pytest.raises(TimeoutError):
        session.sync(timeout=0.01)
    with pytest.raises(TimeoutError):
        register.get(0, timeout=0.01)
    session.sync(timeout=BOUND_SECONDS)
    session.shutdown()


# ---- Processes ----


def test_a_worker_that_dies_is_named():
    session = libdisco.ProcessSession(3, imports=[__file__])
    session.import_python_module("json")
    pid = session.call("testpy.pid").get(2)
    assert pid != os.getpid()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(libdisco.WorkerLostError, match=f"worker 2 is lost: killed by SIGKILL(.|\n)*{pid}"):
        while True:
            session.sync()
    assert repr(session) == "<libdisco.ProcessSession: 3 workers, lost>"
    session.shutdown()


@libdisco.worker_function("testpy.pid")
def pid():
    return os.getpid()


def test_an_import_that_fails_is_told():
    session = libdisco.ProcessSession(2, imports=["no_such_module"])
    with pytest.raises(libdisco.WorkerLostError, match="No module named 'no_such_module'"):
        while True:
            session.sync()
    session.shutdown()


def test_a_script_without_a_main_guard_is_told(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text("import libdisco\nwith libdisco.ProcessSession(2, imports=[__file__]) as s: s.sync()\n")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=BOUND_SECONDS)
    assert ended.returncode == 0 or "__main__" in ended.stderr  # a session without a command may end first
    script.write_text(script.read_text().replace("s.sync()", "s.call('runtime.disco.worker_rank').get(1)"))
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=BOUND_SECONDS)
    assert ended.returncode == 1
    assert "WorkerLostError" in ended.stderr and f"imports {script}" in ended.stderr
    assert 'if __name__ == "__main__":' in ended.stderr


def test_a_worker_that_imports_does_not_outlive_its_controller(tmp_path):
    slow, pid = tmp_path / "slow.py", tmp_path / "pid"
    slow.write_text(f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    program = f"import libdisco, time\ns = libdisco.ProcessSession(2, imports=[{str(slow)!r}])\ntime.sleep(600)"
    controller = subprocess.Popen([sys.executable, "-c", program])
    end = time.monotonic() + BOUND_SECONDS
    while not (pid.exists() and pid.read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    controller.kill()
    controller.wait()
    worker = f"/proc/{pid.read_text()}/stat"

    def lives():
        try:
            return open(worker).read().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    while lives() and time.monotonic() < end:
        time.sleep(0.01)
    assert not lives()


def test_the_program_of_workers_explains_itself():
    program = [sys.executable, "-m", "libdisco.worker"]
    ended = subprocess.run([*program, "--help"], capture_output=True, text=True, timeout=BOUND_SECONDS)
    assert ended.returncode == 0 and "READ_FD" in ended.stdout and "--import" in ended.stdout
    ended = subprocess.run(program, capture_output=True, text=True, timeout=BOUND_SECONDS)
    assert ended.returncode == 2 and "usage:" in ended.stderr and "WORKERS" in ended.stderr


def test_a_module_called_worker(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text("import libdisco\nlibdisco.worker_function('testpy.there')(lambda: 7)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with libdisco.ProcessSession(2, imports=["worker"]) as session:
        libdisco.worker_function("testpy.there")(lambda: 6)
        register = session.call("testpy.there")
        assert [register.get(0), register.get(1)] == [6, 7]


def test_workers_without_python():
    with libdisco.ProcessSession(2, python=False) as session:
        assert session.call("runtime.disco.world_size").get(1) == 2


# ---- The interpreter ----


def run(program, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
    )


PREAMBLE = """
import gc, os, signal, sys, threading, time, libdisco
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
slept = []
@libdisco.worker_function("t.nap")
def nap(seconds): time.sleep(seconds); slept.append(seconds)
"""


def test_import_does_nothing_but_load():
    ended = subprocess.run(
        [sys.executable, "-c", """
import os, signal, sys, tvm_ffi
def look(): return (len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), dict(os.environ),
    [signal.getsignal(n) for n in range(1, 32)], tvm_ffi.get_global_func("runtime.disco.empty", allow_missing=True),
    {name for name in sys.modules if name.split(".")[0] in ("tvm", "torch", "multiprocessing")})
before = look()
import libdisco
print(look() == before)
"""],
        capture_output=True, text=True, timeout=BOUND_SECONDS,
    )  # fmt: skip
    assert (ended.stdout, ended.stderr) == ("True\n", "")


def test_ctrl_c_ends_every_wait_and_the_session_survives():
    ended = run("""
session = libdisco.ThreadedSession(2)
register = session.put(1)
def fill():
    while True: session.call("runtime.disco.worker_rank")
def leave():
    with libdisco.ThreadedSession(2) as other: other.call("t.nap", 1.0)
def end():
    other = libdisco.ThreadedSession(2)
    other.call("t.nap", 1.0)
    other.shutdown()
waits = [session.sync, session.sync_worker_0, register.get, lambda: register.set(2), fill, session.init_ccl, leave, end]
for wait in waits:
    del slept[:]
    if wait not in (leave, end): session.call("t.nap", 1.0)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        wait()
        print("not interrupted")
    except KeyboardInterrupt:
        if slept: print("only when it was over")
    session.sync()
print(session.call("runtime.disco.world_size").get(1))
session.shutdown()
""")
    assert (ended.returncode, ended.stdout) == (0, "2\n"), ended.stderr


# How a program ends, and the exit code that it owes. work() posts one more call.
ENDS = {
    "end": ("pass", 0),
    "exit": ("sys.exit(7)", 7),
    "raise": ("raise LookupError('on purpose')", 1),
    "interrupt": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT),
    "quick": ("os._exit(9)", 9),
    "thread": ("threading.Thread(target=lambda: (time.sleep(0.02), work())).start()", 0),
    "daemon": ("threading.Thread(target=keep_working, daemon=True).start(); time.sleep(0.02)", 0),
    "cycle": ("cycle = [session]; cycle.append(cycle); del session, cycle", 0),
    "atexit": ("import atexit; atexit.register(work)", 0),
    "closed": ("session.shutdown()", 0),
    "busy": ("libdisco.worker_function('t.spin')(spin); session.call('t.spin'); sys.exit(7)", 7),
    "constructs": ("threading.Thread(target=keep_making, daemon=True).start(); time.sleep(0.02)", 0),
    "late": ("import atexit; atexit.register(late)", 0),
    "joins": ("thread.start()", 0),
}
# A handler that was registered before the library's own, and so runs after it.
JOINED_AT_EXIT = """
import atexit
stop = threading.Event()
def until_told():
    while not stop.is_set():
        try: work()
        except RuntimeError: time.sleep(0.001)
thread = threading.Thread(target=until_told, daemon=True)
def join():
    stop.set()
    if thread.is_alive(): thread.join()
atexit.register(join)
"""
WITH_SESSION = {
    "threads": JOINED_AT_EXIT + "session, words = libdisco.ThreadedSession(3, grace_ms=300), ('t.nap', 0.001)",
    "processes": JOINED_AT_EXIT
    + "session, words = libdisco.ProcessSession(3, python=False), ('runtime.disco.worker_rank',)",
}
BUSY = """
def work(): return session.call(*words)
def keep_working():
    while True: work()
def keep_making():
    while True: libdisco.ThreadedSession(2, grace_ms=300)
def late():
    try: libdisco.ThreadedSession(2).call(*words)
    except RuntimeError: pass
def spin():
    while True: pass
registers = [work() for _ in range(30)]
"""
REPEATS = {"threads": 13, "processes": 2}  # of every way: more than 200 programs


def end_once(how, kind):
    code, wanted = ENDS[how]
    ended = run(WITH_SESSION[kind] + BUSY + code)
    if ended.returncode == wanted and "Fatal" not in ended.stderr and "core dumped" not in ended.stderr:
        return None
    return f"{kind}, {how}: exit code {ended.returncode}, not {wanted}\n{ended.stderr}"


@pytest.mark.parametrize("kind", WITH_SESSION)
def test_every_end_of_a_program_has_its_exit_code(kind):
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        failures = [
            text for text in pool.map(end_once, list(ENDS) * REPEATS[kind], [kind] * len(ENDS) * REPEATS[kind]) if text
        ]
    assert failures == []


def test_a_fork_disturbs_nobody():
    ended = run("""
session = libdisco.ThreadedSession(2)
register = session.put(3)
child = os.fork()
if child == 0:
    try:
        session.sync()
    except RuntimeError as error:
        with libdisco.ThreadedSession(2) as own:  # a session of its own works
            assert own.put(4).get(1) == 4
        sys.exit(5 if "fork" in str(error) else 6)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
assert register.get(1) == 3
session.shutdown()
print("end")
""")
    assert (ended.returncode, ended.stdout) == (0, "end\n"), ended.stderr


def test_the_garbage_collector_may_drop_a_session_on_any_thread():
    ended = run("""
def make():
    session = libdisco.ThreadedSession(2)
    held = [session, [session.call("t.nap", 0.002) for _ in range(10)]]
    held.append(held)
def workers():
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    return sum(name.startswith("disco w") for name in names)
gc.disable()
makers = [threading.Thread(target=lambda: [make() for _ in range(5)]) for _ in range(3)]
for thread in makers: thread.start()
for thread in makers: thread.join()
before = workers()
collector = threading.Thread(target=gc.collect)
collector.start()
collector.join()
end = time.monotonic() + 20
while workers() > 0 and time.monotonic() < end: time.sleep(0.01)
print(before, workers())
""")
    assert (ended.returncode, ended.stdout) == (0, "30 0\n"), ended.stderr


def test_a_session_dropped_while_python_functions_wait_to_run():
    ended = run("""
ran = []
@libdisco.worker_function("t.note")
def note(number): time.sleep(0.002); ran.append(number)
session = libdisco.ThreadedSession(3)
for number in range(20): session.call("t.note", number)
del session
end = time.monotonic() + 20
while len(ran) < 60 and time.monotonic() < end: time.sleep(0.01)
print(len(ran))
""")
    assert (ended.returncode, ended.stdout) == (0, "60\n"), ended.stderr
