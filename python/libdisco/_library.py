"""The C library: loaded once, spoken to through the registry of TVM-FFI by its own names, libdisco.*.

Those names are there whatever else is loaded. The names runtime.disco.* are left alone (DISCO_FFI_GLOBALS=0): TVM's
library, should it come later, would end the process if they were taken. `take_over()` publishes them when it is safe.
"""

import ctypes
import functools
import os
from typing import Any, Callable

import tvm_ffi

from ._paths import library_path


def _load() -> None:
    setting = "DISCO_FFI_GLOBALS"
    before = os.environ.get(setting)
    os.environ[setting] = "0"
    try:
        ctypes.CDLL(str(library_path()))
    finally:
        if before is None:
            del os.environ[setting]
        else:
            os.environ[setting] = before


@functools.lru_cache(maxsize=None)
def function(name: str) -> Callable[..., Any]:
    """The global function libdisco.<name>. It may wait for Python functions on workers: it runs without the GIL,
    whatever TVM_FFI_RELEASE_GIL_BY_DEFAULT says."""
    found: Any = tvm_ffi.get_global_func(f"libdisco.{name}")
    found.release_gil = True
    return found  # type: ignore[no-any-return]


def _check() -> None:
    """What the library registers when it is loaded is missing: it is an older one, or its registry is not Python's."""
    if tvm_ffi.get_global_func("libdisco.keep_python_state", allow_missing=True) is None:
        raise ImportError(
            f"{library_path()} is no libdisco for this package, or it uses another copy of libtvm_ffi than Python "
            "does: install one libdisco and one apache-tvm-ffi"
        )


def _nothing() -> None:
    """Shows the library how a Python function looks from C."""


_load()
_check()
function("keep_python_state")(tvm_ffi.convert(_nothing))


def version() -> str:
    """The version of the library that was loaded.

    >>> import libdisco
    >>> libdisco.version() == libdisco.__version__
    True
    """
    return str(function("version")())


def describe() -> str:
    """What the library is and would do here: versions, CPUs and memory, limits, settings, data planes; what the command
    `disco info` prints.

    >>> import libdisco
    >>> "libdisco" in libdisco.describe()
    True
    """
    return str(function("describe")())
