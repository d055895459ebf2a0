"""A worker process of a session: `python -m libdisco.worker ID WORKERS GROUPS READ_FD WRITE_FD [OPTION...]`.

Started by `libdisco.ProcessSession`, or by a pool of one's own. `main()` is what another entry point calls once it has
imported what its workers need.
"""

import argparse
import ctypes
import importlib
import os
import runpy
import select
import signal
import sys
import threading
from typing import List, Optional

from . import _session
from ._errors import FILE_RUN_NAME
from ._library import function

NUMBERS = ("ID", "WORKERS", "GROUPS", "READ_FD", "WRITE_FD")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m libdisco.worker",
        description="Be one worker process of a session. The controller starts it, with two open descriptors, and "
        "ends it.",
    )
    for name in NUMBERS:
        parser.add_argument(name, type=int)
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
    for at in range(len(words) - len(NUMBERS) - 1, -1, -1):
        if words[at] == "worker" and all(word.isdigit() for word in words[at + 1 : at + 1 + len(NUMBERS)]):
            return words[at + 1 :] + words[:at]
    return words


def _leave_with(controller: int, read_fd: int) -> None:
    """No worker outlives its controller, also while it imports; the library's own watcher is there after that."""
    poll = select.poll()
    poll.register(read_fd, 0)  # its end shows without being asked for
    while not _imported.is_set():
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(200)) or os.getppid() != controller:
            if not _imported.is_set():
                os._exit(1)


_imported = threading.Event()


def main(words: Optional[List[str]] = None) -> None:
    """Run the worker until its session ends. `words`: the command line, sys.argv by default."""
    arguments = _parser().parse_args(_split(sys.argv[1:] if words is None else words))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's, who may end the session
    threading.Thread(target=_leave_with, args=(os.getppid(), arguments.READ_FD), daemon=True).start()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    for path in arguments.load:
        ctypes.CDLL(path, ctypes.RTLD_GLOBAL)
    for name in arguments.imports:
        _session.importing_for = name
        if name.endswith(".py"):
            runpy.run_path(name, run_name=FILE_RUN_NAME)
        else:
            importlib.import_module(name)
    _imported.set()
    _session.importing_for = None
    function("WorkerProcess")(*(getattr(arguments, name) for name in NUMBERS))


if __name__ == "__main__":
    main()
