"""What the Python tests share: the library, and processes of their own for what may end one."""

import ctypes
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOUND_SECONDS = 60


@pytest.fixture(scope="session")
def library_path():
    path = pathlib.Path(os.environ.get("DISCO_LIBRARY", ROOT / "build" / "lib" / "libdisco.so"))
    assert path.exists(), f"build libdisco first: {path} is missing"
    return str(path)


@pytest.fixture(scope="session")
def disco(library_path):
    """Call disco("SessionThreaded", 2, 1) for the global function runtime.disco.SessionThreaded."""
    import tvm_ffi

    ctypes.CDLL(library_path)
    return lambda name, *args: tvm_ffi.get_global_func(f"runtime.disco.{name}")(*args)


@pytest.fixture
def run_python(library_path):
    """Run a program that ends by itself, in time and with exit code 0; gives what it printed.

    PREAMBLE stands before it: tvm_ffi, the library, and `disco` as above.
    """
    preamble = f"""
import ctypes, gc, sys, threading, time, tvm_ffi
def disco(name, *args): return tvm_ffi.get_global_func("runtime.disco." + name)(*args)
library = ctypes.CDLL({library_path!r})
"""

    def run(program, **environment):
        ended = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", preamble + program],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
        )
        assert ended.returncode == 0, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    return run
