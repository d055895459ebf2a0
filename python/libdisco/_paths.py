"""Where the parts of this installation are: the library, the headers, the CMake package.

A wheel has all of them inside the package. A source checkout with ``python/`` on ``sys.path`` has the headers in
``include/`` and, once built, the library in ``build/lib/``; there is no CMake package before ``make install``.
"""

from __future__ import annotations

import os
import pathlib
import sys

LIBRARY_NAME = "libdisco.so.0"


def _roots() -> list[pathlib.Path]:
    """Folders that hold lib/ and include/ of a wheel; more than one when the package is installed in editable mode."""
    package = sys.modules.get(__package__ or "")
    folders = list(getattr(package, "__path__", [])) or [os.path.dirname(os.path.abspath(__file__))]
    return [pathlib.Path(folder).resolve() for folder in folders]


def _checkout() -> pathlib.Path:
    """The source tree, if this file lies in one."""
    return pathlib.Path(__file__).resolve().parents[2]


def _first(what: str, candidates: list[pathlib.Path], hint: str) -> str:
    for path in candidates:
        if path.exists():
            return str(path)
    places = ", ".join(str(path) for path in candidates)
    raise FileNotFoundError(f"libdisco: {what} is not in {places}: {hint}")


def library_path() -> str:
    """The shared library that this package loads.

    The environment variable ``LIBDISCO_LIBRARY`` names another one; else it is the wheel's own or, in a source
    checkout, that of ``build/lib``.

    >>> import libdisco, os
    >>> os.path.basename(libdisco.library_path()).startswith("libdisco.so")
    True
    """
    named = os.environ.get("LIBDISCO_LIBRARY")
    if named:
        return _first(
            "the library that LIBDISCO_LIBRARY names", [pathlib.Path(named).absolute()], "correct or unset the variable"
        )
    candidates = [root / "lib" / LIBRARY_NAME for root in _roots()]
    candidates.append(_checkout() / "build" / "lib" / LIBRARY_NAME)
    return _first(
        "the library",
        candidates,
        "pip install libdisco, run `make` in a source checkout, or name one with LIBDISCO_LIBRARY",
    )


def get_include() -> str:
    """The folder to compile with: ``cc -I$(python -m libdisco --include-dir)``. The headers are ``disco/*.h`` in it.

    >>> import libdisco, os
    >>> os.path.exists(os.path.join(libdisco.get_include(), "disco", "disco.h"))
    True
    """
    roots = [*_roots(), _checkout()]
    header = _first(
        "disco/disco.h", [root / "include" / "disco" / "disco.h" for root in roots], "reinstall the package"
    )
    return str(pathlib.Path(header).parents[1])


def get_cmake_dir() -> str:
    """The folder of the CMake package: ``cmake -Ddisco_DIR=$(python -m libdisco --cmake-dir)``.

    ``find_package(disco)`` then gives ``disco::disco``, ``disco::cpp`` and ``disco::command``.
    """
    return _first(
        "the CMake package",
        [root / "lib" / "cmake" / "disco" for root in _roots()],
        "a source checkout has none; pip install it, or `make install` and use that tree",
    )


def get_pkgconfig_dir() -> str:
    """The folder for ``PKG_CONFIG_PATH``; ``pkg-config --cflags --libs disco`` then has what a C program needs."""
    return _first(
        "the pkg-config files",
        [root / "lib" / "pkgconfig" for root in _roots()],
        "a source checkout has none; pip install it, or use PKG_CONFIG_PATH=build",
    )
