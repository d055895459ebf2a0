"""Compiled Relax programs over libdisco: relax_checks.py, and an example as its user starts it."""

import pathlib

import beside_tvm
import pytest

pytestmark = pytest.mark.skipif(not beside_tvm.PYTHON.exists(), reason="TVM is not installed: scripts/setup tvm")
CHECKS = pathlib.Path(__file__).with_name("relax_checks.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("relax")


@pytest.fixture(scope="module")
def outcomes(site, folder):
    return beside_tvm.outcomes_of(CHECKS, site, folder)


@pytest.mark.parametrize("name", beside_tvm.names_of(CHECKS))
def test_compiled(name, outcomes):
    assert outcomes[name] == "", outcomes[name]


def test_an_example_from_its_command_line(site, folder):
    example = beside_tvm.ROOT / "examples" / "relax_attention.py"
    code, out, err = beside_tvm.run(site, example, "--workers", 2, "--processes", "--build-dir", folder)
    assert (code, out[:21]) == (0, "ok: 2 worker processe"), f"exit code {code}\n{out}\n{err}"
