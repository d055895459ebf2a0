"""runtime.disco.load_vm_module: vm_checks.py beside TVM, and what it says where TVM is not."""

import pathlib
import sys

import beside_tvm
import pytest

pytestmark = pytest.mark.skipif(not beside_tvm.PYTHON.exists(), reason="TVM is not installed: scripts/setup tvm")
CHECKS = pathlib.Path(__file__).with_name("vm_checks.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vm")


@pytest.fixture(scope="module")
def outcomes(site, folder):
    return beside_tvm.outcomes_of(CHECKS, site, folder)


@pytest.mark.parametrize("name", beside_tvm.names_of(CHECKS))
def test_vm(name, outcomes):
    assert outcomes[name] == "", outcomes[name]


WITHOUT_TVM = """
import ctypes, os, sys, tvm_ffi
library = ctypes.CDLL(os.environ["LIBDISCO_LIBRARY"])
load = tvm_ffi.get_global_func("runtime.disco.load_vm_module")
try:
    load(sys.argv[1], "cpu")
except RuntimeError as error:
    print(error)
print(load(sys.argv[2], "cpu")["add_one"](1))
"""


def test_without_tvm_a_compiled_model_says_what_is_missing(site, folder, outcomes):
    """The libraries are those that vm_checks.py made; one that is no model works without TVM."""
    code, out, err = beside_tvm.run(
        site, "-c", WITHOUT_TVM, folder / "functions.so", folder / "plain.so", python=sys.executable
    )
    assert code == 0, err
    message, number = out.splitlines()
    assert "import tvm" in message and "functions.so" in message and "relax.VMExecutable" in message
    assert number == "2"
