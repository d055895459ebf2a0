"""Python functions that workers run."""

import functools
import importlib
from typing import Any, Callable, TypeVar

import tvm_ffi

from ._errors import register_class

Function = TypeVar("Function", bound=Callable[..., Any])


def _keeping_class(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            register_class(type(error))
            raise

    return run


def _import_python_module(name: str) -> None:
    importlib.import_module(name)


# A worker runs it for Session.import_python_module().
tvm_ffi.register_global_func("libdisco.import_python_module", _keeping_class(_import_python_module), override=True)


def worker_function(name: str, *, override: bool = False) -> Callable[[Function], Function]:
    """Register the decorated function as the global function `name`, for `Session.get_global_func(name)`.

    Thread workers share this process, and with it the function. A worker process has to run the registration itself:
    name the module in `ProcessSession(..., imports=[...])`, or call `Session.import_python_module`. The function gets
    what its worker holds in place of each `DRef`; what it returns stays in a register of that worker. An exception
    comes back from the controller's next call with its own class, if the controller has that class, too: its text, and
    the worker's traceback in `__notes__`, but not its other attributes. Inside it, `worker_rank()`, `world_size()` and
    `allreduce()` of this package are those of the worker that runs it; other collectives are global functions
    libdisco.x (disco/worker.h has their arguments).

    Raises ValueError when the name is taken and `override` is not given.

    >>> import libdisco
    >>> @libdisco.worker_function("doc.scale")
    ... def scale(factor):
    ...     return 10 * factor
    >>> with libdisco.ThreadedSession(2) as session:
    ...     session.call("doc.scale", 4).get(1)
    40
    """

    if not isinstance(name, str):
        raise TypeError(f'worker_function takes the name to register, as in @worker_function("my.name"), not {name!r}')

    def register(decorated: Function) -> Function:
        if not callable(decorated):
            raise TypeError(f"worker_function({name!r}) decorates a function, not {decorated!r}")
        run = _keeping_class(decorated)
        if not override and tvm_ffi.get_global_func(name, allow_missing=True) is not None:
            raise ValueError(f"there is a global function {name!r} already: choose another name, or pass override=True")
        tvm_ffi.register_global_func(name, run, override=override)
        return decorated

    return register
