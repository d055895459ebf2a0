"""libdisco and TVM's own runtime in one process, loaded in every order. Each order in a process of its own.

Needs TVM: .venv-tvm, which `scripts/setup tvm` makes, or the Python that $DISCO_TVM_PYTHON names.
"""

import os
import signal
import subprocess

import pytest
from beside_tvm import LIBRARY, PYTHON

BOUND_SECONDS = 100

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="TVM is not installed: scripts/setup tvm")

# base(), extra() and disco() load the three libraries. drive() uses a session through the registry, and tells whose it
# was: TVM's own runtime ends the process at a worker id that does not exist.
PREAMBLE = f"""
import ctypes, importlib.util, os, pathlib, tvm_ffi
tvm_libraries = pathlib.Path(importlib.util.find_spec("tvm").origin).parent / "lib"
def base(): ctypes.CDLL(str(tvm_libraries / "libtvm_runtime.so"), ctypes.RTLD_GLOBAL)
def extra(): ctypes.CDLL(str(tvm_libraries / "libtvm_runtime_extra.so"))
def disco(globals="1"):
    os.environ["DISCO_FFI_GLOBALS"] = globals
    return ctypes.CDLL({str(LIBRARY)!r})
def find(name): return tvm_ffi.get_global_func("runtime.disco." + name, allow_missing=True)
def drive():
    session = find("SessionThreaded")(4, 2)
    func = find("SessionGetGlobalFunc")(session, "runtime.disco.worker_rank")
    dref = find("SessionCallPacked")(session, 0, 0, func)
    assert [find("DRefDebugGetFromRemote")(dref, worker) for worker in range(4)] == [0, 1, 2, 3]
    try:
        find("SessionSyncWorker")(session, 9)
    except ValueError as error:
        assert "workers 0 to 3" in str(error)
    find("SessionShutdown")(session)
    print("driven")
"""


def run(program):
    """How it ended, and what it printed."""
    assert LIBRARY.exists(), f"build libdisco first: {LIBRARY} is missing"
    environment = {name: value for name, value in os.environ.items() if name != "DISCO_FFI_GLOBALS"}
    ended = subprocess.run(
        [str(PYTHON), "-c", PREAMBLE + program], env=environment, capture_output=True, text=True, timeout=BOUND_SECONDS
    )
    return ended.returncode, ended.stdout, ended.stderr


def works(program):
    code, out, err = run(program)
    assert (code, out) == (0, "driven\n"), f"exit code {code}\n{out}\n{err}"


def test_without_tvms_libraries():
    works("disco(); drive()")


def test_after_all_of_tvm():
    works("base(); extra(); disco(); drive()")


def test_after_import_tvm():
    works("import tvm; disco(); drive()")


def test_deferred_before_tvm():
    works("""
library = disco("0")
base(); extra()
assert library.disco_publish() == 0
drive()
""")


def test_with_the_base_runtime_alone_the_names_wait():
    works("""
base()
library = disco()
assert find("SessionThreaded") is None and find("worker_rank") is None
extra()
assert find("SessionThreaded") is not None  # TVM's own, until we are told
assert library.disco_publish() == 0
drive()
""")


def test_the_base_runtime_alone_is_enough():
    works("""
base()
library = disco()
assert library.disco_publish() == 0
drive()
""")


def test_publishing_again_changes_nothing():
    works("""
base(); extra()
library = disco()
before = find("SessionSyncWorker")
assert library.disco_publish() == 0 and library.disco_publish() == 0
assert find("SessionSyncWorker").same_as(before)
drive()
""")


def test_names_first_are_the_end_of_tvm():
    """The one order that TVM does not survive: it registers without override, in a static initialiser. What helps is
    DISCO_FFI_GLOBALS=0, above. If this ever passes, TVM has changed, and the rules of loading can be simpler."""
    code, _, err = run("disco(); base(); extra()")
    assert code == -signal.SIGABRT
    assert "runtime.disco." in err


def test_sessions_of_tvms_own_are_refused():
    """Made before libdisco was loaded: their objects carry the same type, but are not ours."""
    works("""
base(); extra()
theirs = find("SessionThreaded")(2, 1)
dref = find("SessionGetGlobalFunc")(theirs, "runtime.disco.worker_rank")
shutdown = find("SessionShutdown")
disco()
for refused in (lambda: find("SessionGetNumWorkers")(theirs), lambda: find("DRefDebugGetFromRemote")(dref, 0)):
    try:
        refused()
        print("taken")
    except TypeError as error:
        assert "another library" in str(error), error
shutdown(theirs)
drive()
""")


def test_tvms_python_classes_drive_us():
    """Types before `import tvm`, names after it: TVM's own client binds to ours, unchanged."""
    works("""
library = disco("0")
import numpy, tvm
from tvm.runtime import disco as client
assert library.disco_publish() == 0
tvm_ffi.init_ffi_api("runtime.disco", "tvm.runtime.disco._ffi_api")
session = client.ThreadedSession(num_workers=4, num_groups=2)
assert session.num_workers == 4
ranks = session.get_global_func("runtime.disco.worker_rank")()
assert [ranks.debug_get_from_remote(worker) for worker in range(4)] == [0, 1, 2, 3]
host = numpy.arange(6, dtype="float32").reshape(2, 3)
array = session.copy_to_worker_0(tvm.runtime.tensor(host))
back = tvm.runtime.empty((2, 3), "float32")
session.copy_from_worker_0(back, array)
session.sync_worker_0()
assert (back.numpy() == host).all()
everywhere = session.empty((2, 3), "float32")
everywhere.debug_copy_from(3, host)
assert (everywhere.debug_get_from_remote(3).numpy() == host).all()
try:
    session.get_global_func("no.such.function")
    session.sync_worker_0()
    print("not told")
except ValueError as error:
    assert "no.such.function" in str(error)
session.sync_worker_0()
session.shutdown()
drive()
""")


WORKER = f"""
import ctypes, os, sys, tvm_ffi
os.environ["DISCO_FFI_GLOBALS"] = "0"
library = ctypes.CDLL({str(LIBRARY)!r})
import tvm
assert library.disco_publish() == 0
tvm_ffi.get_global_func("runtime.disco.WorkerProcess")(*(int(text) for text in sys.argv[1:6]))
"""


def test_tvms_process_pool_and_client_drive_us(tmp_path):
    """TVM's ProcessSession with its own pool, unchanged; the entrypoint loads libdisco beside TVM."""
    (tmp_path / "disco_entrypoint.py").write_text(WORKER)
    works(f"""
library = disco("0")
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
import numpy, tvm
from tvm.runtime import disco as client
assert library.disco_publish() == 0
tvm_ffi.init_ffi_api("runtime.disco", "tvm.runtime.disco._ffi_api")
session = client.ProcessSession(num_workers=4, num_groups=2, entrypoint="disco_entrypoint")
ranks = session.get_global_func("runtime.disco.worker_rank")()
assert [ranks.debug_get_from_remote(worker) for worker in range(4)] == [0, 1, 2, 3]
host = numpy.arange(6, dtype="float32").reshape(2, 3)
everywhere = session.empty((2, 3), "float32")
everywhere.debug_copy_from(3, host)
assert (everywhere.debug_get_from_remote(3).numpy() == host).all()
session.sync_worker_0()
session.shutdown()
drive()
""")
