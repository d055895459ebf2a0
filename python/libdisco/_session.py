"""Sessions and DRefs: TVM's client in spelling, this library's functions underneath."""

import math
import os
import sys
from types import TracebackType
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Type, Union

import tvm_ffi

from ._errors import told
from ._library import function

_call = function("SessionCallPacked")
_get_function = function("SessionGetGlobalFunc")
_get = function("DRefGet")
_set = function("DRefSet")
_sync = function("SessionSync")
_open = function("SessionOpen")
_put = function("SessionPut")
_same = function("DRefSame")  # another handle of the same DRef; TypeError when it is none

_REDUCE_KINDS = {"sum": 0, "prod": 1, "min": 2, "max": 3, "avg": 4}
_ALL_WORKERS = -1

# What a worker process imports just now: there the part of a program that makes sessions must not run again.
importing_for: Optional[str] = None


def reduce_kind(op: str) -> int:
    """The number of a reduction, as the functions of the library take it."""
    if not isinstance(op, str) or op not in _REDUCE_KINDS:
        raise ValueError(f"allreduce: there is no operation {op!r}; there are: {', '.join(_REDUCE_KINDS)}")
    return _REDUCE_KINDS[op]


def _milliseconds(timeout: Optional[float]) -> int:
    if timeout is None or timeout == math.inf:
        return -1
    if not timeout >= 0:
        raise ValueError(f"a timeout is a number of seconds, at least 0, or None for no limit, not {timeout!r}")
    return min(round(timeout * 1000), 2**62)


def _worker_number(worker: Optional[int]) -> int:
    if worker is None:
        return _ALL_WORKERS
    if worker < 0:
        raise ValueError(f"there is no worker {worker}: they have the numbers from 0; None stands for all")
    return worker


def _tensor(array: Any) -> tvm_ffi.Tensor:
    """A tensor over the memory of `array`; over a copy, if that must not be written."""
    if isinstance(array, tvm_ffi.Tensor):
        return array
    flags = getattr(array, "flags", None)
    if flags is not None and not getattr(flags, "writeable", True):
        array = array.copy()
    if not hasattr(array, "__dlpack__"):
        raise TypeError(f"an array is needed, of NumPy, TVM-FFI or DLPack, not {type(array).__name__}")
    return tvm_ffi.from_dlpack(array)


def _dtype(dtype: Any) -> Any:
    """numpy.float32 and float are classes, which TVM-FFI takes for functions."""
    if isinstance(dtype, type):
        import numpy

        return numpy.dtype(dtype).name
    return dtype


def _writeable(tensor: tvm_ffi.Tensor) -> Any:
    """The tensor as an array that may be written: before NumPy 2.1 from_dlpack() gives none."""
    import numpy

    array = numpy.from_dlpack(tensor)
    if array.flags.writeable:
        return array

    class Memory:
        """Keeps the tensor for as long as there are arrays over it."""

        owner = tensor
        __array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}

    return numpy.asarray(Memory())


class DRef(tvm_ffi.Object):
    """A register of every worker at once: what a call returned there. When the last reference to it goes, the workers
    release theirs, in order with what was posted."""

    def debug_get_from_remote(self, worker_id: int) -> Any:
        """What `worker_id` holds: the very object of a thread worker, a copy of a process's. Waits until that worker
        has done everything posted before."""
        return self.get(worker_id)

    def debug_copy_from(self, worker_id: int, value: Any) -> None:
        """Set what `worker_id` holds. If that is a tensor and `value` one, too (or a NumPy array), of as many bytes,
        the data is copied into it; else the value takes its place. Waits."""
        self.set(value, worker_id)

    def get(self, worker: int = 0, timeout: Optional[float] = None) -> Any:
        """What `worker` holds. `timeout` in seconds; TimeoutError when it passes, and the worker goes on.

        >>> import libdisco
        >>> with libdisco.ThreadedSession(2) as session:
        ...     session.put("hello").get(1)
        'hello'
        """
        try:
            return _get(self, worker, _milliseconds(timeout))
        except Exception as error:
            raise told(error) from None

    def set(self, value: Any, worker: Optional[int] = None) -> None:
        """Set what `worker` holds, or all hold, as `debug_copy_from` does."""
        try:
            _set(self, _worker_number(worker), value)
        except Exception as error:
            raise told(error) from None

    def numpy(self, worker: int = 0) -> Any:
        """The tensor of `worker` as a NumPy array: of a thread worker without a copy, so that what the worker writes
        later is seen, and the other way.

        >>> import libdisco
        >>> with libdisco.ThreadedSession(1) as session:
        ...     zeros = session.empty((2, 2), "float32")
        ...     zeros.numpy()[:] = 0
        ...     zeros.numpy().sum().item()
        0.0
        """
        tensor = self.get(worker)
        if not isinstance(tensor, tvm_ffi.Tensor):
            raise TypeError(f"worker {worker} holds no tensor but {tensor!r}")
        return _writeable(tensor)

    def __repr__(self) -> str:
        return f"<libdisco.{type(self).__name__}>"


def _dref(result: Any) -> DRef:
    """TVM's client, once it is imported, has its own class on the type of DRefs."""
    if type(result) is DRef:
        return result
    made = DRef.__new__(DRef)
    made.__move_handle_from__(result)
    return made


class DPackedFunc(DRef):
    """A function on every worker. Calling it posts a call, and gives the DRef of what it returns there."""

    __slots__ = ("session",)
    session: "Session"

    def __init__(self, dref: DRef, session: "Session") -> None:
        self.__move_handle_from__(_same(dref))
        self.session = session

    def __call__(self, *args: Any) -> DRef:
        try:
            return _dref(_call(self.session, 0, 0, self, *args))
        except Exception as error:
            raise told(error) from None


class DModule(DRef):
    """A module on every worker: `module["name"]` is its function, as a DPackedFunc."""

    __slots__ = ("session",)
    session: "Session"

    def __init__(self, dref: DRef, session: "Session") -> None:
        self.__move_handle_from__(_same(dref))
        self.session = session

    def __getitem__(self, name: str) -> DPackedFunc:
        return DPackedFunc(self.session.call("ffi.ModuleGetFunction", self, name, False), self.session)


class Session(tvm_ffi.Object):
    """What all sessions have. Any thread may use one. As a context manager it is synchronised and shut down at the end
    of the block: a worker's error that nobody was told comes out there at the latest.

    Errors of a worker's function come from the session's next call, once; the session goes on. WorkerLostError: a
    worker is gone, and the session only good for shutdown. SessionClosedError after that. KeyboardInterrupt ends any
    wait, and the session goes on."""

    # As many as TVM's class has: one that takes the type key over must have the same size. Sessions also come from C,
    # C++ and registers, past __init__(): what a session lacks is made when it is needed.
    __slots__ = ("_cache", "_unused")
    _cache: Dict[str, DRef]

    def _start(self, processes: bool, num_workers: int, num_groups: int, options: Dict[str, Any]) -> None:
        words: List[Any] = []
        for name, value in options.items():
            if value is not None:
                words += [name, list(value) if isinstance(value, (tuple, range)) else value]
        if importing_for is not None:
            raise RuntimeError(
                f"a session is made while a worker process imports {importing_for}: put what is the controller's under "
                'if __name__ == "__main__":'
            )
        try:
            self.__init_handle_by_constructor__(_open, processes, num_workers, num_groups, *words)
        except Exception as error:
            raise told(error) from None

    # ---- Calls ----

    @property
    def num_workers(self) -> int:
        """How many workers there are."""
        return int(function("SessionGetNumWorkers")(self))

    @property
    def num_groups(self) -> int:
        """How many groups they form."""
        return int(function("SessionGetNumGroups")(self))

    @property
    def state(self) -> str:
        """ "running", "lost" (a worker is gone) or "closed"."""
        return str(function("SessionState")(self))

    def get_global_func(self, name: str) -> DPackedFunc:
        """The global function `name` on every worker. ValueError, now or from a later call, where there is none."""
        try:
            return DPackedFunc(_get_function(self, name), self)
        except Exception as error:
            raise told(error) from None

    def _function(self, name: str) -> DRef:
        """The library's own are kept; others may be registered, or again, between two calls."""
        cache = self._functions()
        found = cache.get(name)
        if found is None:
            try:
                found = _get_function(self, name)
            except Exception as error:
                raise told(error) from None
            if name.startswith(("runtime.disco.", "libdisco.", "ffi.")):
                cache[name] = found
        return found

    def _functions(self) -> Dict[str, DRef]:
        if not hasattr(self, "_cache"):
            self._cache = {}
        return self._cache

    def call_packed(self, func: DRef, *args: Any) -> DRef:
        """Call `func` on every worker. Arguments: None, bool, int, float, str, bytes, dtypes, devices, shapes, tensors,
        NumPy arrays, and DRefs, each of which stands for what the worker holds; with thread workers any object."""
        try:
            return _dref(_call(self, 0, 0, func, *args))
        except Exception as error:
            raise told(error) from None

    def call(self, func: Union[str, DRef], *args: Any) -> DRef:
        """The same by name. For many calls look a function of your own up once, with `get_global_func`.

        >>> import libdisco
        >>> with libdisco.ThreadedSession(3) as session:
        ...     session.call("runtime.disco.world_size").get(2)
        3
        """
        return self.call_packed(self._function(func) if isinstance(func, str) else func, *args)

    def import_python_module(self, module_name: str) -> None:
        """Have every worker import a Python module, as `import module_name` does."""
        self.call("libdisco.import_python_module", module_name)

    def put(self, value: Any) -> DRef:
        """A DRef to `value` on every worker: thread workers share the object, processes get a copy each."""
        try:
            return _dref(_put(self, _tensor(value) if hasattr(value, "__dlpack__") else value))
        except Exception as error:
            raise told(error) from None

    # ---- Waiting and ending ----

    def sync(self, worker: Optional[int] = None, timeout: Optional[float] = None) -> None:
        """Wait until `worker`, or every worker, has done what was posted. `timeout` in seconds: TimeoutError when it
        passes, and what was posted goes on."""
        try:
            _sync(self, _worker_number(worker), _milliseconds(timeout))
        except Exception as error:
            raise told(error) from None

    def _sync_worker(self, worker_id: int) -> None:
        self.sync(worker_id)

    def _sync_all(self) -> None:
        self.sync()

    def sync_worker_0(self) -> None:
        """Wait until worker 0 has done what was posted: then `copy_from_worker_0` has written its array."""
        self.sync(0)

    def shutdown(self) -> None:
        """Stop the workers and wait for their end; what was posted runs first. Again: nothing happens."""
        self._functions().clear()
        try:
            function("SessionShutdown")(self)
        except Exception as error:
            raise told(error) from None

    def dump(self) -> str:
        """What every worker does now, a line each. Waits for nobody."""
        return str(function("SessionDump")(self))

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        try:
            if kind is not None and issubclass(kind, KeyboardInterrupt):
                function("SessionBeginShutdown")(self)  # whoever pressed Ctrl-C does not wait for what workers do
                return
            if kind is None and self.state == "running":
                self.sync()
        except KeyboardInterrupt:
            function("SessionBeginShutdown")(self)
            raise
        except Exception:
            self.shutdown()
            raise
        try:
            self.shutdown()
        except Exception:
            if kind is None:
                raise

    def __repr__(self) -> str:
        groups = f" in {self.num_groups} groups" if self.num_groups > 1 else ""
        workers = "1 worker" if self.num_workers == 1 else f"{self.num_workers} workers"
        return f"<libdisco.{type(self).__name__}: {workers}{groups}, {self.state}>"

    # ---- Tensors ----

    def empty(
        self,
        shape: Sequence[int],
        dtype: Any,
        device: Any = None,
        worker0_only: bool = False,
        in_group: bool = True,
    ) -> DRef:
        """An uninitialised tensor on every worker, on `device` or the worker's own. With `worker0_only` on the first
        worker of each group, or, with `in_group=False`, on worker 0 alone; None elsewhere."""
        return self.call(
            "runtime.disco.empty", tvm_ffi.Shape(tuple(shape)), _dtype(dtype), device, worker0_only, in_group
        )

    def copy_from_worker_0(self, host_array: Any, remote_array: DRef) -> None:
        """Copy worker 0's tensor into `host_array`, a tensor or NumPy array of as many bytes. Not waited for: it is
        there after `sync_worker_0()`; leave the array alone until then.

        >>> import libdisco, numpy
        >>> with libdisco.ThreadedSession(2) as session:
        ...     there = session.copy_to_worker_0(numpy.arange(4.0))
        ...     back = numpy.zeros(4)
        ...     session.copy_from_worker_0(back, there)
        ...     session.sync_worker_0()
        >>> back.tolist()
        [0.0, 1.0, 2.0, 3.0]
        """
        self._copy("SessionCopyFromWorker0", host_array, remote_array)

    def copy_to_worker_0(self, host_array: Any, remote_array: Optional[DRef] = None) -> DRef:
        """Copy `host_array`, a tensor or NumPy array, to worker 0: into `remote_array`, or a new tensor there. Not
        waited for: do not change the array before a sync."""
        tensor = _tensor(host_array)
        if remote_array is None:
            remote_array = self.empty(tuple(tensor.shape), tensor.dtype, worker0_only=True)
        self._copy("SessionCopyToWorker0", tensor, remote_array)
        return remote_array

    def _copy(self, name: str, host_array: Any, remote_array: DRef) -> None:
        try:
            function(name)(self, host_array, remote_array)
        except Exception as error:
            raise told(error) from None

    # ---- Modules ----

    def load_vm_module(self, path: Union[str, "os.PathLike[str]"], device: Any = None) -> DModule:
        """Load a library that TVM compiled: a Relax VM's module becomes a virtual machine of each worker; another one
        is returned as it is. Workers need TVM's runtime."""
        return DModule(self.call("runtime.disco.load_vm_module", os.fspath(path), device), self)

    def load_weights(self, path: Union[str, "os.PathLike[str]"], plan: str, manifest: Optional[str] = None) -> DRef:
        """Have every worker read its own part of a model's weights (safetensors, GGUF, tensor cache) by `plan`, JSON or
        the path of a file with it: `{"rules": [{"match": "*", "replicate": true}]}` gives everybody everything; see
        `disco shard --help`. Gives a map of names to tensors, of which `session.call("ffi.MapGetItem", map, name)` is
        one."""
        return self.call("libdisco.load_weights", os.fspath(path), plan, manifest)

    # ---- Collectives ----

    def init_ccl(self, ccl: str = "cpu", *device_ids: int) -> None:
        """Start the data plane `ccl` on every worker: "cpu" is the library's own. One device id for each worker; none
        given: 0, 1, 2, ..."""
        try:
            function("SessionInitCCL")(self, ccl, tvm_ffi.Shape(device_ids or tuple(range(self.num_workers))))
        except Exception as error:
            raise told(error) from None

    def broadcast(self, src: Any, dst: Optional[DRef] = None, in_group: bool = False) -> DRef:
        """`src`, a tensor or NumPy array of the controller, on every worker: in `dst`, or new ones. With `in_group`
        only worker 0's group gets it, since only worker 0 has it: TVM's client does so by default."""
        tensor = _tensor(src)
        if dst is None:
            dst = self.empty(tuple(tensor.shape), tensor.dtype)
        return self.broadcast_from_worker0(self.copy_to_worker_0(tensor), dst, in_group)

    def broadcast_from_worker0(self, src: DRef, dst: DRef, in_group: bool = True) -> DRef:
        """Worker 0's `src` into every worker's `dst`, which is returned; `in_group`: of each group's first worker."""
        self.call("runtime.disco.broadcast_from_worker0", src, in_group, dst)
        return dst

    def scatter(self, src: Any, dst: Optional[DRef] = None, in_group: bool = False) -> DRef:
        """Part i of `src` along its first dimension, which is the number of workers, on worker i. With `in_group` the
        number of workers of a group: only worker 0's group gets them."""
        tensor = _tensor(src)
        shape, parts = tuple(tensor.shape), self.num_workers // (self.num_groups if in_group else 1)
        if len(shape) == 0 or shape[0] != parts:
            raise ValueError(
                f"scatter: the first dimension of the array is the number of workers, {parts}; its shape is {shape}"
            )
        if dst is None:
            dst = self.empty(shape[1:], tensor.dtype)
        self.scatter_from_worker0(self.copy_to_worker_0(tensor), dst, in_group)
        return dst

    def scatter_from_worker0(self, from_array: DRef, to_array: DRef, in_group: bool = True) -> None:
        """Part i of worker 0's tensor into worker i's, in order of memory; `in_group`: within each group."""
        self.call("runtime.disco.scatter_from_worker0", from_array, in_group, to_array)

    def gather_to_worker0(self, from_array: DRef, to_array: DRef, in_group: bool = True) -> None:
        """Every worker's tensor into worker 0's, one after the other; `in_group`: within each group."""
        self.call("runtime.disco.gather_to_worker0", from_array, in_group, to_array)

    def allreduce(self, src: DRef, dst: DRef, op: str = "sum", in_group: bool = True) -> DRef:
        """The sum ("prod", "min", "max", "avg") of all `src`, elementwise, into every `dst`, which may be `src` and is
        returned.

        >>> import libdisco, numpy
        >>> with libdisco.ThreadedSession(2) as session:
        ...     session.init_ccl("cpu")
        ...     x = session.broadcast(numpy.arange(3, dtype="float32"))
        ...     session.allreduce(x, x).numpy().tolist()
        [0.0, 2.0, 4.0]
        """
        self.call("runtime.disco.allreduce", src, tvm_ffi.Shape((reduce_kind(op),)), in_group, dst)
        return dst

    def allgather(self, src: DRef, dst: DRef, in_group: bool = True) -> DRef:
        """All `src`, one after the other in order of workers, into every `dst`, which is returned."""
        self.call("runtime.disco.allgather", src, in_group, dst)
        return dst


class ThreadedSession(Session):
    """Workers are threads of this process.

    Options: ring_bytes, grace_ms, slow_warning_ms, spin_us, collective_timeout_ms, ccl_alias, as in disco/disco.h.
    ValueError for counts or options that are out of range.

    >>> import libdisco
    >>> libdisco.ThreadedSession(4, 2)
    <libdisco.ThreadedSession: 4 workers in 2 groups, running>
    """

    def __init__(self, num_workers: int, num_groups: int = 1, **options: Any) -> None:
        self._start(False, num_workers, num_groups, options)


class ProcessSession(Session):
    """Worker 0 is a thread of this process, the others are processes: of this Python (`python -m libdisco.worker`).

    `imports` are Python modules that each worker imports first, by name, or files to run, by path (`__file__` gives
    workers the functions of a script, whose `if __name__ == "__main__":` part they skip). `entrypoint` is another
    module to run instead of libdisco.worker. `pool_creator` is the name of a global function that makes the processes,
    as TVM's "runtime.disco.create_process_pool" does. With `python=False` they are `disco worker`, without Python.

    More options: program, program_arguments, environment (a dict, or a list of "NAME=value"), working_directory,
    libraries, cpus, transport ("auto", "pipe"), stopped_ms, arena_bytes and those of ThreadedSession, as in
    disco/disco.h.

    A worker that dies makes the session's calls raise WorkerLostError, which names it.

    >>> import libdisco
    >>> with libdisco.ProcessSession(2) as session:
    ...     session.call("runtime.disco.worker_rank").get(1)
    1
    """

    def __init__(
        self,
        num_workers: int,
        num_groups: int = 1,
        entrypoint: str = "libdisco.worker",
        *,
        imports: Union[str, Sequence[Union[str, "os.PathLike[str]"]]] = (),
        pool_creator: Optional[str] = None,
        python: bool = True,
        **options: Any,
    ) -> None:
        environment = options.get("environment") or []
        if isinstance(environment, dict):
            environment = [f"{name}={value}" for name, value in environment.items()]
        if isinstance(environment, str):
            raise TypeError('environment is a list of "NAME=value", or a dict')
        starts_python = pool_creator is None and python and "program" not in options
        if imports and not starts_python:
            raise TypeError(
                "imports are for workers that are this Python: not with pool_creator, program or python=False"
            )
        if pool_creator is not None:
            options.update(pool_creator=pool_creator, entrypoint=entrypoint)
        elif starts_python:
            if "program_arguments" in options:
                raise TypeError("program_arguments are those of `program`, which is not given")
            options["program"] = sys.executable
            options["program_arguments"] = ["-m", entrypoint, *_import_words(imports)]
            environment = [_python_path(), *environment]
        if environment:
            options["environment"] = list(environment)
        self._start(True, num_workers, num_groups, options)


def _import_words(imports: Union[str, Sequence[Union[str, "os.PathLike[str]"]]]) -> List[str]:
    words: List[str] = []
    for given in [imports] if isinstance(imports, str) else imports:
        name = os.fspath(given)
        is_file = name.endswith(".py") or os.sep in name
        words += ["--import", os.path.abspath(name) if is_file else name]
    return words


def _python_path() -> str:
    """What can be imported here can be imported there."""
    places: List[str] = []
    for place in sys.path:
        whole = os.path.abspath(place)
        if whole not in places:
            places.append(whole)
    return "PYTHONPATH=" + os.pathsep.join(places)


_TYPE_KEYS: Tuple[Tuple[str, Type[tvm_ffi.Object]], ...] = (
    ("runtime.disco.DRef", DRef),
    ("runtime.disco.Session", Session),
    ("runtime.disco.ThreadedSession", ThreadedSession),
    ("runtime.disco.ProcessSession", ProcessSession),
)


def _register_classes() -> None:
    """Ours, unless TVM's client was here first; when it comes later it takes the keys over, see _dref()."""
    if "tvm.runtime.disco.session" in sys.modules:
        return
    register: Callable[..., Any] = tvm_ffi.register_object
    for key, cls in _TYPE_KEYS:
        register(key)(cls)


_register_classes()
