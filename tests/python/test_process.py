"""Worker processes through the registry alone, from a pool written in Python that knows only pipes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tvm_ffi

WORKERS = 4
BOUND_SECONDS = 10

# A worker as a user writes one: it registers functions, slowly loads what it needs, and runs the loop.
WORKER = """
import ctypes, os, sys, time, tvm_ffi
ctypes.CDLL(sys.argv[1])
time.sleep(float(os.environ.get("TEST_SLOW_SECONDS", "0")))
@tvm_ffi.register_global_func("test.pid")
def pid(): return os.getpid()
@tvm_ffi.register_global_func("test.raise_on")
def raise_on(worker):
    if tvm_ffi.get_global_func("runtime.disco.worker_rank")() == worker: raise KeyError("worker %d" % worker)
@tvm_ffi.register_global_func("test.sleep")
def sleep(seconds): time.sleep(seconds)
tvm_ffi.get_global_func("runtime.disco.WorkerProcess")(*(int(text) for text in sys.argv[2:7]))
"""


class Pool:
    """The contract's protocol: f(i) gives (read_fd, write_fd), f(0) ends it."""

    def __init__(self, library_path, num_workers, num_groups, environment=None):
        self.arguments = (library_path, num_workers, num_groups)
        self.environment = {**os.environ, **(environment or {})}
        self.workers, self.ends = {}, 0

    def __call__(self, worker):
        library, num_workers, num_groups = self.arguments
        if worker == 0:
            self.ends += 1
            for process in self.workers.values():
                process.wait(BOUND_SECONDS)
            return None
        to_read, their_write = os.pipe()
        their_read, to_write = os.pipe()
        self.workers[worker] = subprocess.Popen(
            [sys.executable, "-c", WORKER, library]
            + [str(number) for number in (worker, num_workers, num_groups, their_read, their_write)],
            pass_fds=(their_read, their_write),
            env=self.environment,
        )
        os.close(their_read)
        os.close(their_write)
        return tvm_ffi.Shape((to_read, to_write))


@pytest.fixture
def make_session(disco, library_path):
    """make_session(**environment of the workers) -> session, pool"""
    name = f"test.create_pool.{time.monotonic_ns()}"
    environment, pools, sessions = {}, [], []

    @tvm_ffi.register_global_func(name)
    def create(num_workers, num_groups, entrypoint):
        assert entrypoint == "some.entrypoint"
        pools.append(Pool(library_path, num_workers, num_groups, environment))
        return pools[-1]

    def make(workers=WORKERS, **variables):
        environment.update(variables)
        session = disco("SessionProcess", workers, 1, name, "some.entrypoint")
        sessions.append(session)
        return session, pools[-1]

    yield make
    while sessions:
        disco("SessionShutdown", sessions.pop())


def until(condition):
    end = time.monotonic() + BOUND_SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def call(disco, session, name, *args):
    return disco("SessionCallPacked", session, 0, 0, disco("SessionGetGlobalFunc", session, name), *args)


def get(disco, dref, worker):
    return disco("DRefDebugGetFromRemote", dref, worker)


@pytest.mark.parametrize("transport", ["auto", "pipe"])
def test_values_come_and_go(disco, make_session, transport):
    session, pool = make_session(DISCO_TRANSPORT=transport)
    ranks = call(disco, session, "runtime.disco.worker_rank")
    assert [get(disco, ranks, worker) for worker in range(WORKERS)] == list(range(WORKERS))
    for value in (None, True, -(2**63), 1.5, "", "ä" * 100_000, b"\0" * 70_000, tvm_ffi.Shape((1, 2, 3))):
        register = call(disco, session, "runtime.disco.worker_rank")
        disco("DRefDebugCopyFrom", register, 2, value)
        back = get(disco, register, 2)
        assert (back.numpy() == value.numpy()).all() if hasattr(value, "numpy") else back == value
    assert len(pool.workers) == WORKERS - 1


def test_python_functions_that_only_workers_have(disco, make_session):
    session, pool = make_session(workers=2)
    tvm_ffi.register_global_func("test.pid", os.getpid, override=True)
    pids = call(disco, session, "test.pid")
    assert get(disco, pids, 0) == os.getpid()
    assert get(disco, pids, 1) == pool.workers[1].pid


def test_an_error_keeps_its_class(disco, make_session):
    session, _ = make_session(workers=3)
    tvm_ffi.register_global_func("test.raise_on", lambda worker: None, override=True)
    call(disco, session, "test.raise_on", 2)
    with pytest.raises(KeyError, match="worker 2"):
        disco("SessionSyncWorker", session, 2)
    disco("SessionSyncWorker", session, 2)


def test_a_function_cannot_travel(disco, make_session):
    session, _ = make_session(workers=2)
    with pytest.raises(TypeError, match="argument 0.*thread workers only"):
        call(disco, session, "runtime.disco.worker_rank", tvm_ffi.convert(lambda: 1))


def test_nobody_waits_for_slow_imports(disco, make_session):
    session, pool = make_session(workers=2, TEST_SLOW_SECONDS="0.5")
    ranks = call(disco, session, "runtime.disco.worker_rank")  # posted while the worker still loads
    assert get(disco, ranks, 0) == 0
    assert get(disco, ranks, 1) == 1


def test_a_killed_worker_is_named(disco, make_session):
    session, pool = make_session(workers=3)
    tvm_ffi.register_global_func("test.sleep", lambda seconds: None, override=True)
    ranks = call(disco, session, "runtime.disco.worker_rank")
    assert get(disco, ranks, 2) == 2  # it is there: before that its pid is not known
    call(disco, session, "test.sleep", 100)
    os.kill(pool.workers[2].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=f"worker 2 is lost: killed by SIGKILL(.|\n)*{pool.workers[2].pid}"):
        disco("SessionSyncWorker", session, 2)
    with pytest.raises(RuntimeError, match="worker 2"):
        call(disco, session, "runtime.disco.worker_rank")
    pool.workers[1].kill()  # it sleeps: do not wait for it


def test_the_pool_is_told_once_and_only_when_the_session_dies(run_python, library_path):
    out = run_python(f"""
import os, subprocess
WORKER = {WORKER!r}
workers, told = [], []
@tvm_ffi.register_global_func("test.create")
def create(num_workers, num_groups, entrypoint):
    def pool(worker):
        if worker == 0:
            for process in workers: process.wait(10)
            told.append(len(workers))
            return None
        to_read, their_write = os.pipe()
        their_read, to_write = os.pipe()
        workers.append(subprocess.Popen([sys.executable, "-c", WORKER, {library_path!r}] + [str(n) for n in (worker, num_workers, num_groups, their_read, their_write)], pass_fds=(their_read, their_write)))
        os.close(their_read); os.close(their_write)
        return tvm_ffi.Shape((to_read, to_write))
    return pool
session = disco("SessionProcess", 3, 1, "test.create", "x")
dref = disco("SessionCallPacked", session, 0, 0, disco("SessionGetGlobalFunc", session, "runtime.disco.worker_rank"))
assert disco("DRefDebugGetFromRemote", dref, 2) == 2
disco("SessionShutdown", session)
assert told == []
del dref, session
gc.collect()
end = time.monotonic() + 10
while not told and time.monotonic() < end: time.sleep(0.01)
assert told == [2]
print([process.poll() for process in workers])
""")
    assert out == "[0, 0]\n"


def test_an_interpreter_that_ends_with_a_session(run_python, library_path):
    """No shutdown: the exit hook stops the workers and tells the pool."""
    run_python(f"""
import os, subprocess
WORKER = {WORKER!r}
workers = []
@tvm_ffi.register_global_func("test.create")
def create(num_workers, num_groups, entrypoint):
    def pool(worker):
        if worker == 0:
            for process in workers: process.wait(10)
            print("told", flush=True)
            return None
        to_read, their_write = os.pipe()
        their_read, to_write = os.pipe()
        workers.append(subprocess.Popen([sys.executable, "-c", WORKER, {library_path!r}] + [str(n) for n in (worker, num_workers, num_groups, their_read, their_write)], pass_fds=(their_read, their_write)))
        os.close(their_read); os.close(their_write)
        return tvm_ffi.Shape((to_read, to_write))
    return pool
session = disco("SessionProcess", 3, 1, "test.create", "x")
disco("SessionSyncWorker", session, 2)
""")
