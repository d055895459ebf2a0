"""`import tvm` with libdisco installed: TVM's own client, unchanged, on top of it. Every state that TVM can be in, each
in a process of its own."""

import pytest
from beside_tvm import PYTHON

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="TVM is not installed: scripts/setup tvm")

# How a program comes to a tvm.runtime.disco, and the environment in which it does.
STATES = {
    "full wheel": ("import tvm", {}),
    "runtime only": ("import tvm", {"TVM_USE_RUNTIME_LIB": "1"}),
    "autoload off": ("import tvm, libdisco; libdisco.take_over()", {"TVM_DEVICE_BACKEND_AUTOLOAD": "0"}),
    "types first": ("import libdisco, tvm", {}),
    "preload": ("""
import ctypes, importlib.util, pathlib, tvm_ffi
folder = pathlib.Path(importlib.util.find_spec("tvm").origin).parent / "lib"
ctypes.CDLL(str(folder / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)
ctypes.CDLL(str(folder / "libtvm_runtime_extra.so"))
import libdisco
tvm_ffi.get_global_func("libdisco.publish")()
import tvm
""", {}),
}  # fmt: skip

# A thread session, a process session of TVM's pool and one of a pool that counts; then the end, with live sessions.
PROGRAM = """
import gc, os, signal, subprocess, sys, threading, time, numpy, tvm_ffi, libdisco
from tvm.runtime import disco as client
assert libdisco.tvm_status()["driver"] == "libdisco", libdisco.tvm_status()
assert client is tvm.runtime.disco and client.ThreadedSession.__module__ == "tvm.runtime.disco.session"

def use(session):
    assert session.num_workers == 2
    session.init_ccl("cpu", 0, 1)
    x = session.broadcast(numpy.arange(3, dtype="float32"))
    assert type(x) is client.DRef
    y = session.empty((3,), "float32")
    session.allreduce(x, y)
    assert y.debug_get_from_remote(1).numpy().tolist() == [0, 2, 4]
    host = tvm.runtime.empty((3,), "float32")
    session.copy_from_worker_0(host, y)
    session.sync_worker_0()
    assert host.numpy().tolist() == [0, 2, 4]

threads, processes = client.ThreadedSession(2), client.ProcessSession(2)
use(threads)
use(processes)
processes.shutdown()

ends = []
@tvm_ffi.register_global_func("test.create_pool")
def create(num_workers, num_groups, entrypoint):
    children = []
    def pool(worker):
        if worker == 0:
            ends.append([child.wait(20) for child in children])
            return None
        to_read, their_write = os.pipe()
        their_read, to_write = os.pipe()
        words = [str(n) for n in (worker, num_workers, num_groups, their_read, their_write)]
        children.append(subprocess.Popen([sys.executable, "-m", entrypoint, *words], pass_fds=(their_read, their_write)))
        os.close(their_read); os.close(their_write)
        return tvm_ffi.Shape((to_read, to_write))
    return pool
session = tvm_ffi.get_global_func("runtime.disco.SessionProcess")(2, 1, "test.create_pool", "libdisco.worker")
call = tvm_ffi.get_global_func("runtime.disco.SessionCallPacked")
call(session, 0, 0, tvm_ffi.get_global_func("runtime.disco.SessionGetGlobalFunc")(session, "runtime.disco.worker_rank"))
tvm_ffi.get_global_func("runtime.disco.SessionSyncWorker")(session, 1)
tvm_ffi.get_global_func("runtime.disco.SessionShutdown")(session)
assert ends == []
del session
gc.collect()
end = time.monotonic() + 20
while not ends and time.monotonic() < end: time.sleep(0.01)
time.sleep(0.05)
assert ends == [[0]], ends

@tvm_ffi.register_global_func("test.nap")
def nap(seconds): time.sleep(seconds)
live = [threads.get_global_func("test.nap")(0.001) for _ in range(30)]
another = client.ProcessSession(2)  # its worker may still be starting
print("end")
sys.exit(7)
"""


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_tvm(run_tvm, state):
    begin, environment = STATES[state]
    ended = run_tvm(begin + PROGRAM, **environment)
    assert (ended.returncode, ended.stdout) == (7, "end\n"), ended.stderr
    assert "Fatal" not in ended.stderr and "Warning" not in ended.stderr, ended.stderr


def test_switched_off(run_tvm):
    """TVM as it is, its Disco missing; then on by hand, with a session of TVM's own made before, which is refused."""
    ended = run_tvm(
        """
import importlib, sys, tvm, libdisco
print(tvm.runtime.disco, libdisco.tvm_status()["driver"])
sys.modules.pop("tvm.runtime.disco._ffi_api")
disco = importlib.import_module("tvm.runtime.disco")
print(libdisco.tvm_status()["driver"])
theirs = disco.ThreadedSession(2)
dref = theirs.get_global_func("runtime.disco.worker_rank")
libdisco.take_over()
libdisco.take_over()
print(libdisco.tvm_status()["driver"])
for refused in (lambda: theirs.num_workers, lambda: dref(), lambda: theirs.sync_worker_0()):
    try: refused()
    except TypeError as error: print("another library" in str(error))
ours = disco.ThreadedSession(2)
print(ours.num_workers)
for session, init in ((ours, "nope"),):
    try: session.init_ccl(init, 0, 1)
    except ValueError as error: print("nope" in str(error))
for name, arguments in (("SocketSession", (2, 1, 1, "localhost", 0)), ("RemoteSocketSession", ("localhost", 1, 1))):
    try: getattr(disco.session._ffi_api, name)(*arguments)
    except RuntimeError as error: print("no sessions over several hosts yet" in str(error))
import os
sys.stdout.flush()
os._exit(0)  # TVM's own session hangs an ordinary end
""",
        DISCO_TVM="0",
    )
    wanted = ["None None", "tvm", "libdisco", *["True"] * 3, "2", "True", "True", "True"]
    assert (ended.returncode, ended.stdout.split("\n")[:-1]) == (0, wanted), ended.stderr


def test_our_classes_beside_tvms(run_tvm):
    """Sessions of the package made before TVM came go on, and those made after it have our classes, too."""
    ended = run_tvm("""
import libdisco
before = libdisco.ThreadedSession(2)
kept = before.put(5)
import tvm
after = libdisco.ThreadedSession(2)
for session in (before, after):
    value = session.call("runtime.disco.world_size")
    assert type(value) is libdisco.DRef and value.get(1) == 2
assert kept.get(1) == 5
theirs = tvm.runtime.disco.ThreadedSession(2)
assert type(theirs.get_global_func("runtime.disco.worker_rank")()) is tvm.runtime.disco.DRef
print("end")
""")
    assert (ended.returncode, ended.stdout) == (0, "end\n"), ended.stderr


def test_the_alias_serves_programs_that_cannot_change(run_tvm):
    ended = run_tvm(
        """
import tvm
session = tvm.runtime.disco.ThreadedSession(2)
session.init_ccl("nccl", 0, 1)
print(session.get_global_func("runtime.disco.compiled_ccl")().debug_get_from_remote(1))
session.shutdown()
""",
        DISCO_CCL_ALIAS="nccl=cpu",
    )
    assert (ended.returncode, ended.stdout) == (0, "nccl\n"), ended.stderr
