"""For Python functions that run on workers: who am I, and the collective that most of them need."""

from typing import Any, Optional

import tvm_ffi

from ._library import function
from ._session import reduce_kind


def worker_rank() -> int:
    """The number of the worker that runs the calling function, from 0. ValueError anywhere else."""
    return int(function("worker_rank")())


def world_size() -> int:
    """How many workers its session has. ValueError outside of a worker's function."""
    return int(function("world_size")())


def allreduce(src: Any, dst: Optional[Any] = None, op: str = "sum", in_group: bool = False) -> Any:
    """Reduce `src`, a tensor or NumPy array, over all workers (of the group), elementwise, into `dst`, or in place;
    gives the array with the result. All of them have to call it. Needs `Session.init_ccl`.

    >>> import libdisco, numpy
    >>> @libdisco.worker_function("doc.largest")
    ... def largest(x):
    ...     mine = numpy.from_dlpack(x) * libdisco.worker_rank()
    ...     return libdisco.allreduce(mine, op="max")
    >>> with libdisco.ThreadedSession(3) as session:
    ...     session.init_ccl()
    ...     session.call("doc.largest", session.broadcast(numpy.ones(2))).numpy().tolist()
    [2.0, 2.0]
    """
    dst = src if dst is None else dst
    function("allreduce")(src, tvm_ffi.Shape((reduce_kind(op),)), in_group, dst)
    return dst
