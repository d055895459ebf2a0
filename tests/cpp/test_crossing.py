"""Sessions and DRefs between Python and a C++ library in one process: whoever made them, either drives them."""

import ctypes
import gc
import os
import pathlib
import subprocess
import sys

import pytest
import tvm_ffi

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DISCO_BINARY_DIR", ROOT / "build"))
LIBRARIES = [BUILD / "lib" / "libdisco.so", BUILD / "cpp-test" / "libcrossing.so"]
WORKERS = 3


@pytest.fixture(scope="module", autouse=True)
def libraries():
    """libdisco, and the C++ library that was built with its headers but without a link against it."""
    return [ctypes.CDLL(str(library)) for library in LIBRARIES]


def disco(name, *args):
    """Call the global function libdisco.<name>, as C++ does."""
    return tvm_ffi.get_global_func(f"libdisco.{name}")(*args)


def crossing(name, *args):
    """Call a function of the C++ library."""
    return tvm_ffi.get_global_func(f"crossing.{name}")(*args)


@pytest.fixture
def session():
    made = disco("SessionThreaded", WORKERS, 1)
    yield made
    disco("SessionShutdown", made)


def call(session, name, *args):
    """A global function on all workers, from Python."""
    return disco("SessionCallPacked", session, 0, 0, disco("SessionGetGlobalFunc", session, name), *args)


def test_cpp_drives_a_session_of_pythons(session):
    number = crossing("number", session, 14)
    assert [disco("DRefDebugGetFromRemote", number, worker) for worker in range(WORKERS)] == [14] * WORKERS
    assert crossing("sum", call(session, "runtime.disco.worker_rank")) == 0 + 1 + 2
    assert crossing("session_of", number).same_as(session)


def test_python_drives_a_session_of_cpps():
    session = crossing("make", 2)
    assert disco("SessionGetNumWorkers", session) == 2
    assert crossing("sum", call(session, "crossing.echo", 21)) == 42
    disco("SessionShutdown", session)


def test_a_cpp_object_keeps_and_calls_the_session(session):
    @tvm_ffi.register_global_func("crossing.add_one", override=True)
    def add_one(number):
        return number + 1

    engine = crossing("Engine", session, "crossing.add_one")
    result = crossing("number", session, 40)
    for _ in range(2):
        result = crossing("EngineCall", engine, result)  # C++ calls, Python's function runs on the workers
    assert crossing("sum", result) == 42 * WORKERS


def test_the_session_lives_as_long_as_the_cpp_object():
    engine = crossing("Engine", crossing("make", 2), "crossing.echo")
    gc.collect()
    crossing("EngineSync", engine)


def test_errors_cross(session):
    @tvm_ffi.register_global_func("crossing.raise_error", override=True)
    def raise_error(_):
        raise KeyError("what Python minded")

    engine = crossing("Engine", session, "crossing.raise_error")
    crossing("EngineCall", engine, crossing("number", session, 1))
    with pytest.raises(KeyError, match="what Python minded"):
        crossing("EngineSync", engine)
    crossing("EngineSync", engine)  # told once


def test_what_is_no_session_is_refused(session):
    with pytest.raises(TypeError, match="Session"):
        crossing("number", crossing("number", session, 1), 1)
    with pytest.raises(TypeError, match="DRef"):
        crossing("sum", session)


def test_beside_tvms_libraries():
    """TVM's classes of the same names are in the process, visible to all, and neither side takes the other's."""
    folder = next(ROOT.glob(".venv-tvm/lib/python3*/site-packages/tvm/lib"))
    program = f"""
import ctypes, tvm_ffi
for name in ("libtvm_runtime.so", "libtvm_runtime_extra.so"):
    ctypes.CDLL("{folder}/" + name, ctypes.RTLD_GLOBAL)
for name in {[str(library) for library in LIBRARIES]}:
    ctypes.CDLL(name)
find = tvm_ffi.get_global_func
session = find("libdisco.SessionThreaded")({WORKERS}, 1)
print(find("crossing.sum")(find("crossing.number")(session, 14)))
print(find("libdisco.SessionGetNumWorkers")(find("crossing.make")(2)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [str(14 * WORKERS), "2"]
