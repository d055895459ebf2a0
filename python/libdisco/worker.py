"""A worker process of a session: `python -m libdisco.worker ID WORKERS GROUPS READ_FD WRITE_FD [OPTION...]`.

Started by `libdisco.ProcessSession`, or by a pool of one's own. `main()` is what another entry point calls once it has
imported what its workers need.
"""

import argparse
import ctypes
import importlib
import runpy
import signal
import sys
from typing import List, Optional

FILE_RUN_NAME = "__libdisco_worker__"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m libdisco.worker",
        description="Be one worker process of a session. The controller starts it with two open descriptors, and ends it.",
    )
    parser.add_argument("numbers", nargs=5, type=int, metavar=("ID", "WORKERS", "GROUPS", "READ_FD", "WRITE_FD"))
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help=f"import this first, or run this file under the name {FILE_RUN_NAME}; may be given several times",
    )
    parser.add_argument("--load", action="append", default=[], metavar="LIBRARY", help="load a shared library first")
    parser.add_argument("--cpu", type=int, help="run on this CPU alone")
    return parser


def _split(words: List[str]) -> List[str]:
    """Options may stand before the word `worker`, which libdisco's own pool puts before the numbers."""
    if "worker" in words:
        at = words.index("worker")
        return words[at + 1 :] + words[:at]
    return words


def main(words: Optional[List[str]] = None) -> None:
    """Run the worker until its session ends. `words`: the command line, sys.argv by default."""
    arguments = _parser().parse_args(_split(sys.argv[1:] if words is None else words))
    if arguments.cpu is not None:
        import os

        os.sched_setaffinity(0, {arguments.cpu})
    for path in arguments.load:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    from ._library import function

    for name in arguments.imports:
        if name.endswith(".py"):
            runpy.run_path(name, run_name=FILE_RUN_NAME)
        else:
            importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's, who may end the session
    function("WorkerProcess")(*arguments.numbers)


if __name__ == "__main__":
    main()
