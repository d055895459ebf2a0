"""Programs in a Python that has TVM and an installed libdisco, with its entry point."""

import os
import re
import subprocess

import pytest
from beside_tvm import LIBRARY, PYTHON, ROOT

BOUND_SECONDS = 100


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder for PYTHONPATH in which this checkout's package is installed: what pip would write about its entry point
    stands beside it. (tests/wheel installs the real wheel.)"""
    folder = tmp_path_factory.mktemp("site")
    (folder / "libdisco").symlink_to(ROOT / "python" / "libdisco")
    about = folder / "libdisco-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: libdisco\nVersion: 0\n")
    text = (ROOT / "pyproject.toml").read_text()
    entry = re.search(r'\[project\.entry-points\."tvm\.backends"\]\n(.*\n)', text)
    assert entry, "pyproject.toml declares no entry point for TVM"
    (about / "entry_points.txt").write_text("[tvm.backends]\n" + entry.group(1).replace('"', ""))
    return folder


@pytest.fixture
def run_tvm(site):
    """Run a program; gives how it ended."""

    def run(program, *arguments, **environment):
        names = ("DISCO_FFI_GLOBALS", "DISCO_TVM", "TVM_USE_RUNTIME_LIB", "TVM_DEVICE_BACKEND_AUTOLOAD")
        inherited = {name: value for name, value in os.environ.items() if name not in names}
        return subprocess.run(
            [str(PYTHON), "-X", "faulthandler", "-c", program, *arguments],
            env={**inherited, "PYTHONPATH": str(site), "LIBDISCO_LIBRARY": str(LIBRARY), **environment},
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
        )

    return run
