#!python
"""The console command `disco`: becomes the program of that name inside the package.

A wheel installs this file twice: in the package, and beside Python's own programs as `disco`. It imports nothing of the
package, so that `disco` starts as fast as Python does, and still answers where the library cannot be loaded.
"""

from __future__ import annotations

import importlib.util
import os
import sys

# What the program says when it cannot be run at all; the shell's own number for it.
EXIT_NOT_FOUND = 127


def _folders(package: str) -> list[str]:
    """Where the package is, without importing it."""
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # half imported by somebody
        return []
    return list(spec.submodule_search_locations or []) if spec else []


def _program() -> str | None:
    for folder in _folders("libdisco"):
        # The last is that of a source checkout.
        for path in (os.path.join(folder, "bin", "disco"), os.path.join(folder, "..", "..", "build", "bin", "disco")):
            if os.access(path, os.X_OK):
                return os.path.realpath(path)
    return None


def _find_tvm_ffi(program: str) -> None:
    """The program looks for libtvm_ffi.so in the folder beside its package; help it where TVM-FFI is elsewhere."""
    beside = os.path.join(os.path.dirname(program), "..", "..", "tvm_ffi", "lib")
    if os.path.isdir(beside):
        return
    found = [os.path.join(folder, "lib") for folder in _folders("tvm_ffi")]
    known = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if path]
    if found:
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(known + found)


def main() -> int:
    """Does not come back unless the program cannot be run; its arguments are those of this process."""
    program = _program()
    if program is None:
        print(
            "disco: the package libdisco is not in this Python, or came without its program: pip install libdisco",
            file=sys.stderr,
        )
        return EXIT_NOT_FOUND
    _find_tvm_ffi(program)
    try:
        # argv[0] as it was called: messages and completion go by it.
        os.execv(program, [sys.argv[0], *sys.argv[1:]])
    except OSError as error:
        print(f"disco: cannot run {program}: {error}", file=sys.stderr)
    return EXIT_NOT_FOUND


if __name__ == "__main__":
    sys.exit(main())
