"""Exceptions: those of the library, and the way of a worker's own exception to the controller.

TVM-FFI carries an exception as a kind (a text), a message and a backtrace. The classes that it knows come back as
themselves. A class that it does not know would come back as a RuntimeError: so worker functions name their class by its
module, and the controller looks that module up, if it has it.
"""

import ast
import builtins
import os
import sys
from typing import Any, Dict, List, Optional, Type

import tvm_ffi


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

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def register_class(cls: Type[BaseException]) -> None:
    """Let exceptions of this class keep its name on their way through C: called where one leaves a worker function.

    One way only (not tvm_ffi.register_error): on the way back TVM-FFI would make one with a message alone, and not
    every class can be made so.
    """
    names: Dict[type, str] = tvm_ffi.core.ERROR_TYPE_TO_NAME
    if cls not in names:
        names[cls] = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


FILE_RUN_NAME = "__libdisco_worker__"  # of a file that ProcessSession(imports=[...]) names


def _class_of(kind: str) -> Optional[Type[BaseException]]:
    """The class that a worker named; only from modules that this process has: nothing is imported at its word."""
    parts = kind.split(".")
    found: Any = None
    if len(parts) == 1:
        found = getattr(builtins, kind, None)
    elif parts[0] == FILE_RUN_NAME:  # which file that was is not told: the program's own first
        modules: List[Any] = [sys.modules["__main__"], *sys.modules.values()]
        for module in modules:
            found = vars(module).get(parts[1])
            if isinstance(found, type) and issubclass(found, BaseException) and found.__module__ == module.__name__:
                break
        for name in parts[2:]:
            found = getattr(found, name, None)
    else:
        for cut in range(len(parts) - 1, 0, -1):
            place = sys.modules.get(".".join(parts[:cut]))
            if place is not None:
                found = place
                for name in parts[cut:]:
                    found = getattr(found, name, None)
                break
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _note_of(backtrace: str) -> str:
    lines = [line for line in backtrace.splitlines() if line.strip()]
    # A Python function's backtrace goes on into the C code that called it, which tells its author nothing.
    lines = [line for line in lines if '.py"' in line and _PACKAGE not in line] or lines
    return "On the worker (most recent call last):\n" + "\n".join(reversed(lines)) if lines else ""


def _ffi_error(error: BaseException) -> Any:
    """The TVM-FFI error that Python's exception was made from, or None."""
    return getattr(error, "__tvm_ffi_error__", None)


def _rebuild(cls: Type[Exception], text: str) -> Optional[Exception]:
    """An exception of this class that says `text`. It was never initialised: that might take arguments that nobody has.
    Some classes print attributes that are missing then: those get a subclass that prints the text."""
    try:
        made = cls.__new__(cls)
        made.args = (text,)
        if text in str(made):
            return made
    except Exception:
        pass
    try:
        names = {"__str__": lambda self: self.args[0], "__module__": cls.__module__, "__qualname__": cls.__qualname__}
        speaking: Type[Exception] = type(cls.__name__, (cls,), names)
        made = speaking.__new__(speaking)
        made.args = (text,)
        return made
    except Exception:  # a class that forbids it
        return None


def told(error: Exception) -> Exception:
    """The same error as its reader should get it: of its own class, with the worker's traceback as a note."""
    ffi_error = _ffi_error(error)
    if ffi_error is None:  # of this side: a wrong argument
        return error
    kind, text = str(ffi_error.kind), str(ffi_error.message)
    prefix = kind + ": "
    text = text[len(prefix) :] if text.startswith(prefix) else text  # Python prints the class itself
    result: Exception = error
    notes = [_note_of(str(ffi_error.backtrace))]
    if type(error) is RuntimeError and kind != "RuntimeError":
        cls = _class_of(kind)
        rebuilt = _rebuild(cls, text) if cls is not None and issubclass(cls, Exception) else None
        if rebuilt is None:
            return error
        result = rebuilt
    elif isinstance(error, KeyError) and sys.version_info >= (3, 11):  # prints its argument quoted, in one line
        first, _, rest = text.partition("\n")
        try:
            result.args = (ast.literal_eval(first),)  # Python's own: the text is the key as it is written
        except (ValueError, SyntaxError):
            result.args = (first,)
        notes.insert(0, rest)
    elif error.args:
        result.args = (text,)
    result.__dict__.setdefault("__notes__", []).extend(note for note in notes if note)
    return result.with_traceback(None)  # what stands there is the worker's, down to its C code: the note has it shorter
