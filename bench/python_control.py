#!/usr/bin/env python3
"""Calls from TVM's Python client: over libdisco, over the wheel's own runtime, and over bare pipes.

Run it with a Python that has apache-tvm, NumPy and libdisco (pip install), on a quiet machine:

    .venv-tvm/bin/python bench/python_control.py --floor build/lib/libdisco-bench-python.so

Every runtime lives in a process of its own and measures a window when its turn comes; windows of one round stand beside
each other, and what is printed is the median over the rounds of the ratios within a round. Times are of this machine
today; the ratios are the result. Exit code 0; 1 with --check when a target is missed.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

BATCH = 200  # calls between two syncs
MANY = 180  # DRef arguments


# ---- In a process of its own: one runtime, windows on demand ----


def repair_tvm():
    """Plain `import tvm` leaves tvm.runtime.disco None: its classes came before their library. Again, it works."""
    import importlib

    import tvm

    sys.modules.pop("tvm.runtime.disco._ffi_api", None)
    return importlib.import_module("tvm.runtime.disco")


class Calls:
    """Calls of an empty C function on every worker, by TVM's client."""

    def __init__(self, own, workers, processes):
        if own:
            import libdisco
            from tvm.runtime import disco as client

            assert libdisco.tvm_status()["driver"] == "libdisco"
        else:
            client = repair_tvm()
        self.client = client
        make = client.ProcessSession if processes else client.ThreadedSession
        self.session = make(num_workers=workers)
        self.api = sys.modules["tvm.runtime.disco._ffi_api"]
        self.workers, self.processes = workers, processes

    def all_done(self):
        for worker in range(self.workers):
            self.session._sync_worker(worker)

    def prepare(self, arguments):
        # Worker processes have only what TVM registers: there, of that what takes any arguments.
        few = "runtime.disco.worker_rank" if arguments == 0 else "ffi.Array"
        self.function = self.session.get_global_func(few if self.processes else "bench.nothing")
        rank = self.session.get_global_func("runtime.disco.worker_rank")
        self.arguments = [rank() for _ in range(arguments)]
        self.all_done()

    def calls(self, seconds):
        """Seconds per call, the workers' part included."""
        function, arguments, count = self.function, self.arguments, 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            for _ in range(BATCH):
                function(*arguments)
            self.all_done()
            count += BATCH
        return (time.perf_counter() - begin) / count

    def issue(self, seconds):
        """Seconds per call, of the controller's thread alone: the workers' part is not waited for."""
        function, arguments, count, spent = self.function, self.arguments, 0, 0.0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begin = time.perf_counter()
            for _ in range(BATCH):
                function(*arguments)
            spent += time.perf_counter() - begin
            self.all_done()
            count += BATCH
        return spent / count

    def floor(self, seconds):
        """The same loop with an empty function in the place of the library."""
        import tvm_ffi

        before = self.api.SessionCallPacked
        self.api.SessionCallPacked = tvm_ffi.get_global_func("bench.new_dref")
        try:
            return self.issue(seconds)
        finally:
            self.api.SessionCallPacked = before

    def python_function(self, seconds):
        """Seconds per call of a Python function of one line on one worker thread, beside a C function in its place and
        the body alone: posted behind a gate, so that the controller's own work is over when they run."""
        import threading

        import tvm_ffi

        gate = threading.Event()
        body = [0]

        def work():
            body[0] += 1

        tvm_ffi.register_global_func("bench.gate", gate.wait, override=True)
        tvm_ffi.register_global_func("bench.work", work, override=True)
        wait = self.session.get_global_func("bench.gate")
        many = 1000

        def drain(function):
            gate.clear()
            wait()
            for _ in range(many):
                function()
            begin = time.perf_counter()
            gate.set()
            self.all_done()
            return (time.perf_counter() - begin) / many

        def alone():
            begin = time.perf_counter()
            for _ in range(many):
                work()
            return (time.perf_counter() - begin) / many

        python = self.session.get_global_func("bench.work")
        empty = self.session.get_global_func("bench.nothing")
        rows, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end or not rows:
            rows.append((drain(python), drain(empty), alone()))
        return [statistics.median(column) for column in zip(*rows)]


class Pipes:
    """What a runtime of pipes costs at least: a message into a pipe per worker, and one back when all is done."""

    def __init__(self, workers):
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.ends = []
        self.processes = []
        for _ in range(workers):
            here, there = context.Pipe()
            process = context.Process(target=pipe_worker, args=(there,), daemon=True)
            process.start()
            there.close()
            self.ends.append(here)
            self.processes.append(process)

    def calls(self, seconds):
        message, count = bytes(64), 0
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            for _ in range(BATCH):
                for end in self.ends:
                    end.send_bytes(message)
            for end in self.ends:
                end.send_bytes(b"sync")
            for end in self.ends:
                end.recv_bytes()
            count += BATCH
        return (time.perf_counter() - begin) / count


def pipe_worker(end):
    try:
        while True:
            if end.recv_bytes() == b"sync":
                end.send_bytes(b"done")
    except EOFError:
        pass


def serve(kind, workers, floor):
    if kind == "pipes":
        what = Pipes(workers)
    else:
        own, processes = kind.split("-")[0] == "libdisco", kind.endswith("processes")
        what = Calls(own, workers, processes)
        if floor:
            import ctypes

            ctypes.CDLL(floor)
    print("ready", flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(what, name)(*arguments)), flush=True)
    if hasattr(what, "session"):
        what.session.shutdown()


# ---- The process that gives the turns ----


class Runtime:
    def __init__(self, kind, workers, floor=""):
        environment = {**os.environ, "DISCO_TVM": "1" if kind.startswith("libdisco") else "0"}
        self.kind = kind
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", kind, "--workers", str(workers), "--floor", floor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout.readline() == "ready\n", f"{kind} did not start"

    def ask(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"python_control: {self.kind} ended in {words}, exit code {self.process.wait()}")
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Report:
    def __init__(self):
        self.missed = []

    def line(self, what, value, unit, target, met):
        print(f"  {what:62} {value:8.2f} {unit:3} target {target:10} {'met' if met else 'NOT MET'}", flush=True)
        if not met:
            self.missed.append(what)


def compare_clients(arguments, report, processes):
    transport = "processes" if processes else "threads"
    ours = Runtime(f"libdisco-{transport}", 2, arguments.floor)
    theirs = Runtime(f"tvm-{transport}", 2, arguments.floor)
    for count, allowed in ((0, 0.25), (MANY, 0.6)):
        ours.ask("prepare", count)
        theirs.ask("prepare", count)
        rows = [
            (
                ours.ask("calls", arguments.window),
                theirs.ask("calls", arguments.window),
                ours.ask("issue", arguments.window),
                ours.ask("floor", arguments.window),
            )
            for _ in range(arguments.rounds)
        ]
        gain = statistics.median(b / a for a, b, _, _ in rows)
        over = statistics.median(c - d for _, _, c, d in rows) * 1e6
        own, other, issue, floor = (statistics.median(column) * 1e6 for column in zip(*rows))
        print(
            f"2 {transport}, {count} DRef arguments: libdisco {own:.2f} us a call, the wheel's own {other:.2f} us; "
            f"issue {issue:.2f} us, floor {floor:.2f} us"
        )
        report.line(
            f"{transport}, {count} DRefs: calls per second, times the wheel's own", gain, "x", ">= 3", gain >= 3
        )
        report.line(f"{transport}, {count} DRefs: issue, over the floor", over, "us", f"<= {allowed}", over <= allowed)
    if not processes:
        one = Runtime("libdisco-threads", 1, arguments.floor)
        rows = [one.ask("python_function", arguments.window) for _ in range(arguments.rounds)]
        cost = statistics.median(python - body for python, _, body in rows) * 1e6
        python, empty, body = (statistics.median(column) * 1e6 for column in zip(*rows))
        print(f"a Python worker function: {python:.2f} us, a C function {empty:.2f} us, its body alone {body:.2f} us")
        report.line("a Python worker function, over its own body", cost, "us", "<= 0.5", cost <= 0.5)
        one.end()
    ours.end()
    theirs.end()


def compare_pipes(arguments, report):
    for workers in (4, 8):
        ours, pipes = Runtime("libdisco-processes", workers), Runtime("pipes", workers)
        ours.ask("prepare", 0)
        rows = [
            (ours.ask("calls", arguments.window), pipes.ask("calls", arguments.window)) for _ in range(arguments.rounds)
        ]
        gain = statistics.median(b / a for a, b in rows)
        own, other = (statistics.median(column) * 1e6 for column in zip(*rows))
        print(f"{workers} processes: libdisco {own:.2f} us a call, a pipe per worker {other:.2f} us")
        report.line(f"{workers} processes: calls per second, times a pipe per worker", gain, "x", ">= 5", gain >= 5)
        ours.end()
        pipes.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    place = pathlib.Path(__file__).resolve().parents[1] / "build" / "lib" / "libdisco-bench-python.so"
    parser.add_argument("--floor", default=str(place), help="the library with the empty function (build/lib has it)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--window", type=float, default=0.3, help="seconds that a runtime measures at a time")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a target is missed")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.workers, arguments.floor)
        return 0
    if not os.path.exists(arguments.floor):
        sys.exit(f"python_control: {arguments.floor} is missing: build first (make), or name it with --floor")
    report = Report()
    compare_clients(arguments, report, processes=False)
    compare_clients(arguments, report, processes=True)
    compare_pipes(arguments, report)
    return 1 if arguments.check and report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
