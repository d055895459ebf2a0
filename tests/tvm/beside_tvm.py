"""Checks that need TVM in their process, where pytest is not: a file of functions check_*(), all run by one process of
.venv-tvm, because `import tvm` takes a second and more; pytest shows each as a test of its own."""

import ast
import json
import os
import pathlib
import subprocess
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = pathlib.Path(os.environ.get("DISCO_TVM_PYTHON", ROOT / ".venv-tvm" / "bin" / "python"))
LIBRARY = pathlib.Path(os.environ.get("DISCO_LIBRARY", ROOT / "build" / "lib" / "libdisco.so"))
BOUND_SECONDS = 200  # on a machine that has a lot to do; 10 to 15 on a quiet one
PREFIX = "check_"


def environment(site):
    """That of a process in which libdisco is installed as conftest.py's `site` has it: `import tvm` finds its entry
    point, here and in worker processes."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DISCO_", "TVM_"))}
    paths = [str(site), str(ROOT / "examples"), str(pathlib.Path(__file__).parent)]
    return {
        **ours,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LIBDISCO_LIBRARY": str(LIBRARY),
    }


def run(site, *command, python=PYTHON):
    """How a program ended, what it printed."""
    assert LIBRARY.exists(), f"build libdisco first: {LIBRARY} is missing"
    try:
        ended = subprocess.run(
            [str(python), *map(str, command)],
            env=environment(site),
            capture_output=True,
            timeout=BOUND_SECONDS,
        )
        return ended.returncode, ended.stdout.decode(), ended.stderr.decode()
    except subprocess.TimeoutExpired as late:
        return f"none: killed after {BOUND_SECONDS} s", (late.stdout or b"").decode(), (late.stderr or b"").decode()


def names_of(file):
    """The checks of a file, which is not imported."""
    tree = ast.parse(pathlib.Path(file).read_text())
    return [f.name for f in tree.body if isinstance(f, ast.FunctionDef) and f.name.startswith(PREFIX)]


def outcomes_of(file, site, folder):
    """Run all checks of a file: name -> "" or what went wrong."""
    code, out, err = run(site, file, folder)
    told = [json.loads(line[len(PREFIX) :]) for line in out.splitlines() if line.startswith(PREFIX)]
    outcomes = {name: text for name, text in told}
    for name in names_of(file):
        outcomes.setdefault(name, f"did not end; the process did, with exit code {code}\n{out}\n{err}")
    if code != 0:
        outcomes[names_of(file)[-1]] += f"exit code {code}\n{err}"
    return outcomes


def main(namespace):
    """The body of a file of checks: each gets the folder for what it makes."""
    for name, check in list(namespace.items()):
        if not name.startswith(PREFIX):
            continue
        text = ""
        try:
            check(pathlib.Path(sys.argv[1]))
        except BaseException:
            text = traceback.format_exc()
        print(PREFIX + json.dumps([name, text]), flush=True)
