"""``python -m libdisco --include-dir``: says where the parts of this installation are, one path a line."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys

from . import _paths


def _version() -> str:
    """The installed package's; a source checkout has none but the library's own."""
    try:
        return importlib.metadata.version("libdisco")
    except importlib.metadata.PackageNotFoundError:
        import ctypes

        function = ctypes.CDLL(_paths.library_path()).disco_version
        function.restype = ctypes.c_char_p
        return str(function().decode())


QUESTIONS = {
    "include_dir": (_paths.get_include, "what a compiler takes after -I"),
    "cmake_dir": (_paths.get_cmake_dir, "what CMake takes as -Ddisco_DIR="),
    "pkgconfig_dir": (_paths.get_pkgconfig_dir, "what PKG_CONFIG_PATH takes"),
    "lib_dir": (lambda: os.path.dirname(_paths.library_path()), "the folder of libdisco.so"),
    "version": (_version, "the version"),
}


def main(arguments: list[str] | None = None) -> int:
    """Answer each question asked, in the order of --help; 1 when a part is not there, 2 when nothing is asked."""
    parser = argparse.ArgumentParser(
        prog="python -m libdisco",
        description="Where the parts of libdisco are.",
        epilog="The program `disco` tells the rest: disco info, disco --help.",
    )
    for name, (_, text) in QUESTIONS.items():
        parser.add_argument("--" + name.replace("_", "-"), action="store_true", help=text)
    asked = parser.parse_args(arguments)
    names = [name for name in QUESTIONS if getattr(asked, name)]
    if not names:
        parser.print_usage(sys.stderr)
        return 2
    for name in names:
        try:
            print(QUESTIONS[name][0]())
        except OSError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
