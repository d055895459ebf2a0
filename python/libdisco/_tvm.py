"""Driving TVM's own client: `tvm.runtime.disco` on top of this library.

TVM's modules find their classes by type keys and their functions by the names runtime.disco.*, which the module
tvm.runtime.disco._ffi_api copies when it is imported. `take_over()` puts ours there in the state that `import tvm`
left:

- the full wheel: `tvm.runtime.disco` is None, since its classes came before the library that knows their keys;
- the runtime alone: the module is there, but its classes are bound to nothing, and it found no functions;
- with our types registered first: everything is there and has to look the functions up again.
"""

import ctypes
import importlib
import os
import pathlib
import sys
import types
from typing import Any, Dict, Optional

import tvm_ffi

from ._library import function

# A function that only we publish: where _ffi_api has it, it has ours.
_MARK = "libdisco_version"
_CLIENT = "tvm.runtime.disco"
_CLASSES = ("DRef", "Session", "ThreadedSession", "ProcessSession", "SocketSession")


def _tvm() -> Any:
    return sys.modules.get("tvm")


def _is_loaded(library: str) -> bool:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            return any(line.rstrip().endswith("/" + library) for line in maps)
    except OSError:
        return False


def _load_rest_of_runtime(tvm: Any) -> None:
    """TVM's library with a Disco of its own must not come after our names: its start would end the process."""
    name = "libtvm_runtime_extra.so"
    folder = pathlib.Path(tvm.__file__).parent
    for path in (folder / "lib" / name, folder / name):
        if path.exists() and not _is_loaded(name):
            ctypes.CDLL(str(path))


def _bind(tvm: Any) -> None:
    client = sys.modules.get(_CLIENT)
    session = sys.modules.get(_CLIENT + ".session")
    if client is None or session is None or getattr(tvm.runtime, "disco", None) is None:
        # What is left of an import that failed goes, but for process_pool, whose function would be registered twice.
        for name in (_CLIENT + "._ffi_api", _CLIENT + ".session", _CLIENT):
            sys.modules.pop(name, None)
        importlib.import_module(_CLIENT)
    else:
        for name in _CLASSES:
            cls = getattr(session, name)
            if not _is_bound(cls):
                tvm_ffi.register_object(f"runtime.disco.{name}")(cls)
    tvm_ffi.init_ffi_api("runtime.disco", _CLIENT + "._ffi_api")
    for found in vars(sys.modules[_CLIENT + "._ffi_api"]).values():
        if isinstance(found, tvm_ffi.Function):
            found.release_gil = True  # as in _library.function()


def _is_bound(cls: type) -> bool:
    return cls.__dict__.get("__tvm_ffi_type_info__") is not None


def _name_worker_program(client: types.ModuleType) -> None:
    """Where no entry point was called here, none will be in worker processes: they start from a module of ours."""
    init: Any = getattr(client, "ProcessSession").__init__
    own = "libdisco.tvm_worker"
    init.__defaults__ = tuple(own if value == "tvm.exec.disco_worker" else value for value in init.__defaults__)


def _accept_every_ccl(client: types.ModuleType) -> None:
    """TVM's method insists on two names; ours leaves it to the library, which says what there is."""
    session_class: Any = getattr(client, "Session")
    if getattr(session_class.init_ccl, "of_libdisco", False):
        return

    def init_ccl(self: Any, ccl: str, *device_ids: int) -> None:
        """Start the data plane `ccl` ("cpu" is libdisco's) on every worker, one device id for each."""
        getattr(sys.modules[_CLIENT + "._ffi_api"], "SessionInitCCL")(self, ccl, tvm_ffi.Shape(device_ids))
        self._clear_ipc_memory_pool()

    setattr(init_ccl, "of_libdisco", True)
    session_class.init_ccl = init_ccl


def take_over() -> None:
    """Make `tvm.runtime.disco` work, driven by this library. `import tvm` does it by itself where libdisco is installed
    (an entry point of the group tvm.backends); call it where that was switched off (DISCO_TVM=0,
    TVM_DEVICE_BACKEND_AUTOLOAD=0). Imports TVM if need be. Idempotent. Sessions made before stay TVM's own.

    Raises ImportError without TVM, RuntimeError when two copies of libdisco or TVM-FFI are in the process.
    """
    _take_over(importlib.import_module("tvm"), by_entry_point=False)


def _take_over(tvm: Any, by_entry_point: bool) -> None:
    if tvm_status()["driver"] != "libdisco":
        _load_rest_of_runtime(tvm)
        function("publish")()
        _bind(tvm)
    _accept_every_ccl(sys.modules[_CLIENT])
    if not by_entry_point:
        _name_worker_program(sys.modules[_CLIENT])


def entry_point() -> None:
    """Called at the end of `import tvm`."""
    if os.environ.get("DISCO_TVM", "1") != "0":
        _take_over(_tvm(), by_entry_point=True)


def tvm_status() -> Dict[str, Optional[str]]:
    """Who drives `tvm.runtime.disco` in this process.

    Gives `driver`: "libdisco", "tvm", or None when nobody does; `tvm`: the version of the TVM that is imported, or
    None; and `why`, a sentence.

    >>> import libdisco
    >>> libdisco.tvm_status()["driver"] is None  # until TVM is imported
    True
    """
    tvm = _tvm()
    status: Dict[str, Optional[str]] = {"driver": None, "tvm": None}
    if tvm is None:
        return {**status, "why": "TVM is not imported; `import tvm` ends with tvm.runtime.disco driven by libdisco"}
    status["tvm"] = str(getattr(tvm, "__version__", "unknown"))
    off = " (DISCO_TVM=0 keeps `import tvm` from it)" if os.environ.get("DISCO_TVM") == "0" else ""
    client = getattr(getattr(tvm, "runtime", None), "disco", None)
    api = sys.modules.get(_CLIENT + "._ffi_api")
    if client is None or api is None:
        return {**status, "why": "tvm.runtime.disco is None: TVM found no Disco; call libdisco.take_over()" + off}
    if hasattr(api, _MARK):
        return {**status, "driver": "libdisco", "why": "tvm.runtime.disco calls libdisco"}
    if hasattr(api, "SessionThreaded"):
        return {
            **status,
            "driver": "tvm",
            "why": "tvm.runtime.disco calls TVM's own runtime; call libdisco.take_over()" + off,
        }
    return {**status, "why": "tvm.runtime.disco has no functions; call libdisco.take_over()" + off}
