"""Running bin/disco-llama of the build folder DISCO_BINARY_DIR (default: build), and watching its processes."""

import fcntl
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DISCO_BINARY_DIR", ROOT / "build")).resolve()
LLAMA = BUILD / "bin" / "disco-llama"
PASSAGE = pathlib.Path(__file__).parent / "passage.txt"
SCALE = int(os.environ.get("DISCO_TEST_SCALE", "1"))  # counts are divided by it: 20 under sanitizers
BOUND_SECONDS = 110  # nothing takes so long: what does hangs
GONE_SECONDS = 20  # for what must end soon


def environment(**more):
    """This process's, without what changes the output."""
    kept = {name: value for name, value in os.environ.items() if not re.match(r"DISCO_|LLAMA_|NO_COLOR$|TERM$", name)}
    return {**kept, **more}


def command(model, *arguments, **options):
    """command(model, "--json", max_tokens=3, tokens=[1, 2]): --json --max-tokens 3 --tokens 1,2"""
    named = []
    for name, value in options.items():
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        named += [f"--{name.replace('_', '-')}", text]
    assert LLAMA.exists(), f"build the examples first: {LLAMA} is missing"
    return [str(LLAMA), *([] if model is None else ["--model", str(model)]), *map(str, arguments), *named]


def run(model, *arguments, typed=b"", stdout=subprocess.PIPE, before=None, variables=None, **options):
    """It, ended by itself; its output as bytes. typed: what it reads; before: called in the new process; variables:
    of its environment."""
    return subprocess.run(
        command(model, *arguments, **options),
        env=environment(**(variables or {})),
        input=typed,
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=before,
        timeout=BOUND_SECONDS,
    )


def printed(model, *arguments, **options):
    """(stdout as bytes, stderr as text) of a run that must succeed."""
    ended = run(model, *arguments, **options)
    said = ended.stderr.decode()
    assert ended.returncode == 0, f"exit code {ended.returncode}: {said}"
    return ended.stdout, said


def answer(model, *arguments, **options):
    """The one object that --json prints."""
    out, said = printed(model, "--json", *arguments, **options)
    assert said == ""
    return json.loads(out)


def refused(model, *arguments, **options):
    """What it says about a call with exit code 2, for which nothing is printed."""
    ended = run(model, *arguments, **options)
    said = ended.stderr.decode()
    assert (ended.returncode, ended.stdout) == (2, b""), said
    assert said.startswith("disco-llama: ") and said.endswith("\n"), said
    return said


# ---- Processes ----


class Running:
    """A started one, in a session of its own. Its stdout is a pipe of one page: a generation that is longer than that
    cannot end before somebody reads on. Interrupts reach it, whatever this process ignores. typed: what it reads, and
    then waits for more of; None: nothing. variables: of its environment."""

    def __init__(self, model, *arguments, typed=None, variables=None, **options):
        reader, writer = os.pipe()
        self.stdout, self.stderr = os.fdopen(reader, "rb", buffering=0), tempfile.TemporaryFile()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        try:
            self.process = subprocess.Popen(
                command(model, *arguments, **options),
                env=environment(**(variables or {})),
                stdin=subprocess.DEVNULL if typed is None else subprocess.PIPE,
                stdout=writer,
                stderr=self.stderr,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        finally:
            os.close(writer)
        if typed is not None:
            os.write(self.process.stdin.fileno(), typed)
        self.pid = self.process.pid
        self.family = {}  # {pid: when it started} of all its descendants that were seen

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stdout.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        for pid in [self.pid, *self.family]:
            if is_alive(pid, self.family.get(pid)) and (pid != self.pid or self.process.poll() is None):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(BOUND_SECONDS)
        self.stderr.close()

    def read(self, count):
        """At least `count` bytes more of what it prints, or all until it ends."""
        text, deadline = b"", time.monotonic() + BOUND_SECONDS
        while len(text) < count:
            assert select.select([self.stdout], [], [], max(0, deadline - time.monotonic()))[0], f"silent after {text}"
            block = self.stdout.read(4096)
            if block == b"":
                break
            text += block
        return text

    def children(self):
        """Of the controller: its worker processes."""
        found = {pid: started for pid, parent, started in processes() if parent == self.pid}
        self.family.update(found)
        return sorted(found)

    def wait_for_children(self, count):
        deadline = time.monotonic() + BOUND_SECONDS
        while len(self.children()) < count:
            assert time.monotonic() < deadline and self.process.poll() is None, f"not {count} workers: {self.said()}"
        return self.children()

    def wait_for_loading(self, pid, path):
        """Until this worker process has the file open, as it has while it loads, or has loaded it."""
        deadline = time.monotonic() + BOUND_SECONDS
        while not has_open(pid, path) and not select.select([self.stdout], [], [], 0)[0]:
            assert time.monotonic() < deadline and self.process.poll() is None, f"no loading: {self.said()}"

    def end(self):
        """(exit code, what else it printed), once it has ended by itself"""
        rest = self.read(sys.maxsize)
        return self.process.wait(BOUND_SECONDS), rest

    def said(self):
        self.stderr.seek(0)
        return self.stderr.read().decode()

    def wait_until_no_orphans(self):
        """Of those that were seen none may live on for long."""
        deadline = time.monotonic() + GONE_SECONDS
        while alive := [pid for pid, started in self.family.items() if is_alive(pid, started)]:
            assert time.monotonic() < deadline, f"orphans: {alive}"
            time.sleep(0.01)


def processes():
    """(pid, parent, start time) of all on this machine."""
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(folder.name), int(fields[1]), fields[19]


def has_open(pid, path):
    """Has this process the file open?"""
    for link in pathlib.Path(f"/proc/{pid}/fd").glob("*"):
        try:
            if os.readlink(link) == str(path):
                return True
        except OSError:
            continue
    return False


def is_alive(pid, started):
    """Is this process, and not a later one of the same number, more than a zombie?"""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] not in "ZX" and started in (None, fields[19])
