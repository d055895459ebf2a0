"""Exceptions: those of the library, and the way of a worker's own exception to the controller.

TVM-FFI carries an exception as a kind (a text), a message and a backtrace. The classes that it knows come back as
themselves. A class that it does not know would come back as a RuntimeError: so worker functions name their class by its
module, and the controller looks that module up, if it has it.
"""

import builtins
import os
import sys
from typing import Dict, Optional, Type, TypeVar

import tvm_ffi

from ._library import function


class WorkerLostError(RuntimeError):
    """A worker died, stopped, or broke the protocol. The session can only be looked at and shut down."""


class CollectiveError(RuntimeError):
    """A collective was mismatched, or its peers left."""


class SessionClosedError(RuntimeError):
    """The session was shut down."""


for _class in (WorkerLostError, CollectiveError, SessionClosedError):
    _class.__module__ = "libdisco"
    tvm_ffi.register_error(_class.__name__, _class)
tvm_ffi.register_error("TimeoutError", TimeoutError)

_last_error_kind = function("last_error_kind")
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

Class = TypeVar("Class", bound=BaseException)


def register_class(cls: Type[BaseException]) -> None:
    """Let exceptions of this class keep its name on their way through C: called where one leaves a worker function.

    One way only (not tvm_ffi.register_error): on the way back TVM-FFI would make one with a message alone, and not every
    class can be made so.
    """
    names: Dict[type, str] = tvm_ffi.core.ERROR_TYPE_TO_NAME
    if cls not in names:
        names[cls] = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _class_of(kind: str) -> Optional[Type[BaseException]]:
    """The class that a worker named; only from modules that this process has: nothing is imported at its word."""
    parts = kind.split(".")
    if len(parts) == 1:
        found = getattr(builtins, kind, None)
    else:
        found = None
        for cut in range(len(parts) - 1, 0, -1):
            module = sys.modules.get(".".join(parts[:cut]))
            if module is not None:
                found = module
                for name in parts[cut:]:
                    found = getattr(found, name, None)
                break
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _note_of(error: BaseException) -> Optional[str]:
    backtrace = getattr(getattr(error, "__tvm_ffi_error__", None), "backtrace", "")
    lines = [line for line in str(backtrace).splitlines() if line.strip()]
    # A Python function's backtrace goes on into the C code that called it, which tells its author nothing.
    lines = [line for line in lines if '.py"' in line and _PACKAGE not in line] or lines
    if not lines:
        return None
    return "On the worker (most recent call last):\n" + "\n".join(reversed(lines))


def told(error: Class) -> BaseException:
    """The same error as its reader should get it: of its own class, with the worker's traceback as a note."""
    result: BaseException = error
    kind = _last_error_kind()
    text = str(error.args[0]) if error.args else ""
    if type(error) is RuntimeError:
        cls = _class_of(kind)
        if cls is not None and cls is not RuntimeError and issubclass(cls, Exception):
            try:
                result = cls.__new__(cls)
            except Exception:  # a class that cannot be made without its own arguments
                result = error
            else:
                result.__traceback__ = error.__traceback__
    if result is not error or kind == type(error).__name__:
        text = text[len(kind) + 2 :] if text.startswith(kind + ": ") else text  # Python prints the class itself
        result.args = (text,)
    notes = [_note_of(error)]
    if isinstance(result, KeyError):  # prints its argument quoted, in one line
        first, _, rest = text.partition("\n")
        result.args = (first,)
        notes.insert(0, rest)
    for note in notes:
        if note:
            result.__dict__.setdefault("__notes__", []).append(note)
    return result
