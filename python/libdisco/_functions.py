"""Python functions that workers run."""

import functools
import importlib
from typing import Any, Callable, TypeVar

import tvm_ffi

from ._errors import register_class

Function = TypeVar("Function", bound=Callable[..., Any])


def _import_python_module(name: str) -> None:
    importlib.import_module(name)


# A worker runs it for Session.import_python_module().
tvm_ffi.register_global_func("libdisco.import_python_module", _import_python_module, override=True)


def worker_function(name: str, *, override: bool = False) -> Callable[[Function], Function]:
    """Register the decorated function as the global function `name`, for `Session.get_global_func(name)`.

    Thread workers share this process, and with it the function. A worker process has to run the registration itself:
    name the module in `ProcessSession(..., imports=[...])`, or call `Session.import_python_module`. The function gets
    what its worker holds in place of each `DRef`; what it returns stays in a register of that worker. An exception comes
    back from the controller's next call with its own class, if the controller has that class, too.

    Raises ValueError when the name is taken and `override` is not given.

    >>> import libdisco
    >>> @libdisco.worker_function("doc.scale")
    ... def scale(factor):
    ...     return 10 * factor
    >>> with libdisco.ThreadedSession(2) as session:
    ...     session.call("doc.scale", 4).get(1)
    40
    """

    def register(decorated: Function) -> Function:
        @functools.wraps(decorated)
        def run(*args: Any) -> Any:
            try:
                return decorated(*args)
            except Exception as error:
                register_class(type(error))
                raise

        if not override and tvm_ffi.get_global_func(name, allow_missing=True) is not None:
            raise ValueError(f"there is a global function {name!r} already: choose another name, or pass override=True")
        tvm_ffi.register_global_func(name, run, override=override)
        return decorated

    return register
