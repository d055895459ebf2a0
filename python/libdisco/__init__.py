"""libdisco: one controller drives N workers that all run the same commands.

>>> import libdisco
>>> with libdisco.ThreadedSession(4) as session:
...     rank = session.get_global_func("runtime.disco.worker_rank")
...     [rank().get(worker) for worker in range(4)]
[0, 1, 2, 3]

A session owns its workers: threads (`ThreadedSession`) or processes (`ProcessSession`). Calls are posted and return at
once; what a worker's function returns stays on that worker, and the caller gets a `DRef` to it. Only methods that read
or synchronise wait. An error on any worker comes back, once, from the session's next call.

The names and spellings are those of TVM's `tvm.runtime.disco`; TVM need not be installed. Where it is, `import tvm`
ends with `tvm.runtime.disco` working and driven by this library: see `tvm_status()` and `take_over()`.
"""

from ._errors import CollectiveError, SessionClosedError, WorkerLostError
from ._functions import worker_function
from ._library import describe, version
from ._paths import get_cmake_dir, get_include, get_pkgconfig_dir, library_path
from ._session import DModule, DPackedFunc, DRef, ProcessSession, Session, ThreadedSession
from ._tvm import take_over, tvm_status
from ._worker import allreduce, worker_rank, world_size

__version__ = version()

__all__ = [
    "CollectiveError",
    "DModule",
    "DPackedFunc",
    "DRef",
    "ProcessSession",
    "Session",
    "SessionClosedError",
    "ThreadedSession",
    "WorkerLostError",
    "allreduce",
    "describe",
    "get_cmake_dir",
    "get_include",
    "get_pkgconfig_dir",
    "library_path",
    "take_over",
    "tvm_status",
    "version",
    "worker_function",
    "worker_rank",
    "world_size",
]
